//! The forms that do something to messages: at once, or after a question.

use std::sync::Arc;

use postrider_store::Order;

use super::{
    super::super::{
        answer::{Answer, Trouble},
        asked::Asked,
        confirm::{Confirm, check_typed},
        form::Faults,
        job::{self, Words},
        past::message,
        shown::counted,
    },
    deed::{Deed, Doing},
    filter::Filter,
};
use crate::{
    AdminError, Code,
    op::{
        browse::{Browse, Browsed},
        messages::{ChangeSelected, EndSelected, MessageItem},
        stops::GetStatus,
    },
};

/// What has to be typed before something is done to the whole queue.
const EVERYTHING: &str = "everything";
/// The most messages that one form names.
const IDS_MAX: usize = 1000;
/// How many examples a question has.
const EXAMPLES: usize = 5;
/// The fields that are no filter.
pub(super) const OWN: [&str; 13] = [
    "token",
    "form",
    "typed",
    "which",
    "ids",
    "do",
    "at",
    "by",
    "via",
    "policy",
    "sure",
    "told",
    FROM_MESSAGE,
];
/// The form is on the page of this message.
const FROM_MESSAGE: &str = "from_message";
/// The answer to the question.
const SURE: (&str, &str) = ("sure", "1");

/// Does something to the ticked messages, or to all that match.
pub(in super::super::super) async fn act(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    match done(&asked).await {
        Err(Trouble::Failed(error)) if error.code == Code::Invalid => {
            let faults = Faults::of(&error);
            match from_message(&asked) {
                Some(id) => message::again(&asked, id, faults).await,
                None => super::again(&asked, faults).await,
            }
        }
        done => done,
    }
}

/// Leads to the list: a browser was sent here by something else than a form.
pub(in super::super::super) async fn to_list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Ok(Answer::SeeOther(
        match asked.query.query(&OWN, &[]).as_str() {
            "" => asked.url("queue"),
            query => format!("{}?{query}", asked.url("queue")),
        },
    ))
}

async fn done(asked: &Arc<Asked>) -> Result<Answer, Trouble> {
    let form = &asked.form;
    let doing = Doing::new(form, asked.now())?;
    let is_all = form.text("which") == Some("all");
    let filter = match is_all {
        true => Filter::new(form, asked.now())?,
        false => Filter::ids(&ids(asked)?),
    };
    let back = back(asked);
    let is_sure = form.text(SURE.0) == Some(SURE.1);
    // All that match now, and not what comes while the work goes on.
    let several = is_all || filter.which.filter.ids.len() > 1;
    let everything = is_all && !filter.is_filtered();
    if everything
        && is_sure
        && let Err(error) = check_typed(form, EVERYTHING)
    {
        return ask(asked, &doing, &filter, everything, &back)
            .await?
            .again(&error);
    }
    if !is_sure && (several || doing.is_final) {
        return Answer::page(&ask(asked, &doing, &filter, everything, &back).await?);
    }
    let which = filter.which;
    let mut words = Words::of_messages(format!("{} messages", doing.verb), doing.past);
    if doing.is_about_attempts() && !asked.run(GetStatus {}).await?.deliveries {
        words = words.and("All deliveries are stopped, so nothing happens until they go on.");
    }
    match doing.deed {
        Deed::Change(change) => {
            let operation = ChangeSelected { which, change };
            job::begin(asked, words, &back, operation).await
        }
        Deed::End(ending) => {
            let operation = EndSelected { which, ending };
            // The page of a message that ended may be gone.
            let back = match form.text(FROM_MESSAGE) {
                Some(_) => asked.url("queue"),
                None => back,
            };
            job::begin(asked, words, &back, operation).await
        }
    }
}

/// The message whose page has the form.
fn from_message(asked: &Asked) -> Option<u64> {
    asked.form.text(FROM_MESSAGE)?.parse().ok()
}

/// The ticked messages.
fn ids(asked: &Asked) -> Result<Vec<u64>, AdminError> {
    let ids: Result<Vec<u64>, _> = asked.form.all("ids").map(str::parse).collect();
    let ids = ids.map_err(|_| AdminError::invalid("a message has a number").at("ids"))?;
    if ids.is_empty() {
        return Err(AdminError::invalid("tick the messages first").at("ids"));
    }
    if ids.len() > IDS_MAX {
        let text = format!("at most {IDS_MAX} messages can be ticked");
        return Err(AdminError::invalid(text).at("ids"));
    }
    Ok(ids)
}

/// Where the form came from: the page of a message, or the list with its filter.
fn back(asked: &Asked) -> String {
    if let Some(id) = from_message(asked) {
        return asked.url(&format!("messages/{id}"));
    }
    match asked.form.query(&OWN, &[]).as_str() {
        "" => asked.url("queue"),
        query => format!("{}?{query}", asked.url("queue")),
    }
}

/// The question before something is done.
async fn ask(
    asked: &Asked,
    doing: &Doing,
    filter: &Filter,
    everything: bool,
    back: &str,
) -> Result<Confirm, Trouble> {
    let browse = Browse {
        which: filter.which.clone(),
        order: Order::Ascending,
        after: None,
        limit: EXAMPLES,
        count: true,
    };
    let Browsed {
        messages,
        counted: count,
        reached,
    } = match everything {
        // The number of all is known without a look at them.
        true => {
            let all = Browse {
                limit: 0,
                ..browse.clone()
            };
            let few = Browse {
                count: false,
                ..browse
            };
            Browsed {
                counted: asked.run(all).await?.counted,
                ..asked.run(few).await?
            }
        }
        false => asked.run(browse).await?,
    };
    if count == 0 && reached.is_none() {
        return Err(AdminError::conflict("no queued message matches any more").into());
    }
    let number = counted(count, "message", "messages");
    let number = match reached.is_some() && !everything {
        true => format!("{number} or more"),
        false => number,
    };
    let question = format!("{} {number}?", doing.verb);
    let button = format!("{} {number}", doing.verb);
    let mut ask = Confirm::new(asked, &question, &button, &asked.url("queue/act"))
        .examples(messages.iter().map(example).collect())
        .back(back.to_owned())
        .command(doing.as_command(filter));
    for effect in &doing.effects {
        ask = ask.effect(effect.clone());
    }
    ask = ask.effect("Messages that are being delivered at that moment are left alone.");
    ask = ask.repeating(&asked.form);
    ask.fields.retain(|(name, _)| name != SURE.0);
    ask.fields.push((SURE.0.to_owned(), SURE.1.to_owned()));
    Ok(match everything {
        true => ask.typing(EVERYTHING),
        false => ask,
    })
}

fn example(item: &MessageItem) -> String {
    let message = &item.message;
    let from = if message.from.is_empty() {
        "<>"
    } else {
        &message.from
    };
    format!("{} from {from} to {}", message.id, message.to)
}
