//! The messages of a holder's account that wait, and what the holder does to one.

use std::sync::Arc;

use askama::Template;
use postrider_store::{Change, NextAttempt, Order, QueueFilter, QueueId};
use serde_json::{Value, json};

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        confirm::Confirm,
        form::Faults,
        frame::Frame,
        list::{Found, Listing},
        shown::{Bytes, When},
        webapi,
    },
    filter::{self, Filter, Input},
    message::{self, class},
};
use crate::{
    AdminError,
    op::{
        browse::Browse,
        messages::{ChangeSelected, EndSelected, MessageItem, Portion, Selection, Stage},
        queue::Ending,
    },
};

/// The state of a message in words.
const fn state(stage: Stage) -> &'static str {
    match stage {
        Stage::Scheduled => "Waits",
        Stage::Deferred => "Delayed",
        Stage::Delivering => "Being delivered",
        Stage::Held => "Held",
        Stage::Failed => "Failed",
        Stage::Delivered => "Delivered",
    }
}

#[derive(Template)]
#[template(path = "past/waiting.html")]
struct Page {
    frame: Frame,
    filter: Filter,
    found: Found<Row>,
    is_filtered: bool,
}

struct Row {
    item: MessageItem,
    created: When,
    next: When,
    size: Bytes,
    state: &'static str,
    class: &'static str,
    /// The last error; empty without one.
    text: String,
}

impl Row {
    fn new(item: MessageItem, asked: &Asked) -> Self {
        let now = asked.now();
        let last = item.results.last();
        Self {
            created: When::new(&item.message.created, now),
            next: When::maybe(item.next_retry.as_ref(), now),
            size: Bytes(item.message.size),
            state: state(item.stage),
            class: class(item.stage),
            text: last.map(|last| last.text.clone()).unwrap_or_default(),
            item,
        }
    }
}

/// The command that lists the same. It does not know all filters.
fn command(asked: &Asked, filter: &QueueFilter, rows: usize) -> AsCommand {
    if filter.subject.is_some() || filter.message_id.is_some() {
        return AsCommand::none();
    }
    let request = webapi::request([
        ("From", filter.from.clone().map(Value::from)),
        ("To", filter.to.clone().map(Value::from)),
        ("Limit", Some(rows.into())),
    ]);
    webapi::v1(asked, "QueueList", &request)
}

/// The messages that wait, oldest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let text = |name, label, hint| Input::text(&asked.query, name, label, hint);
    let main = vec![
        text("to", "To", "an address, a part of one, or @domain"),
        text("from", "From", ""),
        text("subject", "Subject has", ""),
        text("message_id", "Message-ID", ""),
    ];
    let field = |name| asked.query.text(name).map(str::to_owned);
    let filter = QueueFilter {
        account: Some(asked.account().to_owned()),
        to: field("to"),
        from: field("from"),
        subject: field("subject"),
        message_id: filter::message_id(&asked.query),
        ..QueueFilter::default()
    };
    let listing = Listing::new(&asked.query);
    let frame = asked.frame("Messages");
    let frame = frame.with(command(&asked, &filter, listing.rows));
    let browse = Browse {
        which: Selection {
            filter,
            ..Selection::default()
        },
        order: listing.order(Order::Ascending),
        after: listing.after().map(QueueId),
        limit: listing.limit(),
        count: false,
    };
    let found = asked.run(browse).await?;
    let reached = found.reached;
    let reach = reached.map(|it| listing.reach(&it.queued, &it.id, asked.now()));
    let (items, links) = listing.arrange(found.messages, |item| item.message.id.to_string());
    let items = items.into_iter();
    let filter = Filter::new(main, Vec::new(), asked.url("messages"));
    Answer::page(&Page {
        frame,
        is_filtered: filter.is_used(),
        filter,
        found: Found {
            rows: items.map(|item| Row::new(item, &asked)).collect(),
            links,
            reach,
        },
    })
}

/// A message of the visitor's account that is still queued.
async fn queued(asked: &Asked) -> Result<MessageItem, Trouble> {
    let item = message::seen(asked, QueueId(asked.number(0)?)).await?;
    match item.stage.is_end() {
        false => Ok(item),
        true => {
            let text = format!("message {} left the queue meanwhile", item.message.id);
            Err(AdminError::conflict(text).into())
        }
    }
}

fn selection(item: &MessageItem) -> Selection {
    Selection::one(QueueId(item.message.id))
}

fn sum(portions: &[Portion]) -> Portion {
    Portion {
        done: portions.iter().map(|portion| portion.done).sum(),
        in_delivery: portions.iter().map(|portion| portion.in_delivery).sum(),
    }
}

/// Tells what was done to a message, or that it was left alone.
fn told(asked: &Asked, item: &MessageItem, portions: &[Portion], how: &str) -> Answer {
    let id = item.message.id;
    let told = match sum(portions).done {
        0 => format!("Message {id} is being delivered, and was left alone."),
        _ => format!("Message {id} {how}."),
    };
    asked.done(told, &format!("messages/{id}"))
}

async fn move_to(
    asked: &Asked,
    item: &MessageItem,
    next: NextAttempt,
    how: &str,
) -> Result<Answer, Trouble> {
    let change = ChangeSelected {
        which: selection(item),
        change: Change {
            next_attempt: Some(next),
            ..Change::default()
        },
    };
    let portions = asked.list(change).await?;
    Ok(told(asked, item, &portions, how))
}

/// Tries to deliver a message now.
pub(in super::super) async fn try_now(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let item = queued(&asked).await?;
    let next = NextAttempt::At(asked.now());
    move_to(&asked, &item, next, "is tried as soon as there is room").await
}

/// Moves the next attempt of a message.
pub(in super::super) async fn schedule(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let item = queued(&asked).await?;
    let at = asked.form.needed("when");
    let at = at.and_then(|_| filter::to_come(&asked.form, "when", asked.now()));
    match at {
        Ok(at) => {
            let at = at.unwrap_or_else(|| asked.now());
            let how = format!("is tried next at {at}");
            move_to(&asked, &item, NextAttempt::At(at), &how).await
        }
        Err(error) => message::again(&asked, item.message.id, Faults::of(&error)).await,
    }
}

/// Asks before a message is canceled.
pub(in super::super) async fn ask_cancel(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let item = queued(&asked).await?;
    let id = item.message.id;
    let action = asked.url(&format!("messages/{id}/cancel"));
    let confirm = Confirm::new(&asked, "Cancel this message?", "Cancel it", &action)
        .effect("It leaves the queue without being delivered.")
        .effect("The webhook hears of it by the event \"canceled\". Nobody gets a DSN.")
        .examples(vec![format!(
            "To {}: {}",
            item.message.to, item.message.subject
        )])
        .back(asked.url(&format!("messages/{id}")))
        .command(webapi::v1(
            &asked,
            "QueueCancel",
            &json!({"QueueMsgID": id}),
        ));
    Answer::page(&confirm)
}

/// Cancels a message.
pub(in super::super) async fn cancel(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let item = queued(&asked).await?;
    let end = EndSelected {
        which: selection(&item),
        ending: Ending::Canceled,
    };
    let portions = asked.list(end).await?;
    let id = item.message.id;
    let told = match sum(&portions).done {
        0 => format!("Message {id} is being delivered, and was left alone."),
        _ => format!("Message {id} is canceled."),
    };
    Ok(asked.done(told, "messages"))
}
