//! Changes of webhook calls: make them now or at a time, cancel them, make past ones again.

use std::sync::Arc;

use axum::http::Method;
use postrider_store::{HookFilter, HookId, NextAttempt, Order, RetiredHookFilter};

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        confirm::{Confirm, check_typed},
        form::{Faults, Fields},
        shown::{Count, counted},
    },
    call,
    calls::{all_past, all_waiting, past, past_command, waiting, waiting_command, waiting_path},
    filter::{self, is_holder},
};
use crate::{
    AdminError,
    op::webhook::{Cancel, Find, FindPast, HookItem, Replay, Schedule},
};

/// The most calls that are counted.
const COUNTED: usize = 1000;
/// How many calls are shown.
const SHOWN: usize = 5;
/// What has to be typed to cancel calls without a filter.
const EVERYTHING: &str = "everything";

fn example(item: &HookItem) -> String {
    format!(
        "{}: {} of {} to {}",
        item.id, item.event, item.account, item.url
    )
}

/// How many calls match, and the first of them.
struct Matching {
    /// As text: "3 calls".
    count: String,
    is_none: bool,
    examples: Vec<String>,
}

impl Matching {
    /// `is_more`: there may be more than these.
    fn new<'a>(items: impl ExactSizeIterator<Item = &'a HookItem>, is_more: bool) -> Self {
        let found = items.len();
        Self {
            count: match is_more {
                true => format!("More than {} calls", Count(found as u64)),
                false => counted(found as u64, "call", "calls"),
            },
            is_none: found == 0 && !is_more,
            examples: items.take(SHOWN).map(example).collect(),
        }
    }

    /// The same, if there are any. `missing` says that there are none.
    fn needed(self, missing: &str) -> Result<Self, AdminError> {
        match self.is_none {
            true => Err(AdminError::conflict(missing)),
            false => Ok(self),
        }
    }
}

/// The waiting calls that the fields select.
async fn selected(asked: &Asked, fields: &Fields) -> Result<(HookFilter, Matching), Trouble> {
    let filter = waiting(asked, fields)?;
    let find = Find {
        filter: filter.clone(),
        order: Order::Ascending,
        after: None,
        limit: COUNTED + 1,
    };
    let found = asked.run(find).await?;
    let is_more = found.reached.is_some() || found.items.len() > COUNTED;
    let items = found.items.get(..COUNTED).unwrap_or(&found.items);
    let matching = Matching::new(items.iter(), is_more);
    if matching.is_none && fields.text("id").is_some() {
        return Err(Trouble::NoPage);
    }
    Ok((filter, matching))
}

/// The only call that a filter can have.
fn only(filter: &HookFilter) -> Option<HookId> {
    let [id] = filter.ids.as_slice() else {
        return None;
    };
    let one = HookFilter {
        ids: vec![*id],
        ..HookFilter::default()
    };
    (*filter == one).then_some(*id)
}

/// The command and the call that do the same.
fn command(asked: &Asked, word: &str, method: &Method, filter: &HookFilter) -> AsCommand {
    if is_holder(asked) {
        return AsCommand::none();
    }
    let command = waiting_command(&["queue", "webhook", word], filter);
    let command = match *filter == HookFilter::default() {
        true => command.word("--all"),
        false => command,
    };
    let path = match only(filter) {
        Some(id) => Some(format!("/api/queue/webhooks/{id}")),
        None => waiting_path(filter, &[]),
    };
    match path {
        Some(path) => command.call(method, &path, None),
        None => command,
    }
}

/// Asks before several calls are made now.
pub(in super::super) async fn ask_now(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (filter, matching) = selected(&asked, &asked.query).await?;
    let matching = matching.needed("no call that waits matches")?;
    let action = asked.url("webhooks/now");
    let confirm = Confirm::new(&asked, "Make these calls now?", "Make them now", &action)
        .effect(format!(
            "{} will be made as soon as there is room.",
            matching.count
        ))
        .effect("Calls for one message to one URL are made one after the other, as always.")
        .examples(matching.examples)
        .repeating(&asked.query)
        .back(asked.url("webhooks"))
        .command(command(&asked, "kick", &Method::PATCH, &filter));
    Answer::page(&confirm)
}

/// Makes calls now.
pub(in super::super) async fn now(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let next = NextAttempt::At(asked.now());
    move_to(&asked, next, "made as soon as there is room").await
}

/// Makes a call at a time.
pub(in super::super) async fn schedule(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let at = asked.form.needed("when");
    let at = at.and_then(|_| filter::to_come(&asked.form, "when", asked.now()));
    match at {
        Ok(at) => {
            let at = at.unwrap_or_else(|| asked.now());
            move_to(&asked, NextAttempt::At(at), &format!("made at {at}")).await
        }
        Err(error) => {
            let id = asked.form.parsed("id", "a number")?.unwrap_or_default();
            call::again(&asked, HookId(id), Faults::of(&error)).await
        }
    }
}

async fn move_to(asked: &Asked, next: NextAttempt, how: &str) -> Result<Answer, Trouble> {
    let (filter, _) = selected(asked, &asked.form).await?;
    let back = back(&filter.ids);
    let done = asked.run(Schedule { filter, next }).await?;
    let scheduled = counted(done.scheduled, "call is", "calls are");
    Ok(asked.done(format!("{scheduled} to be {how}."), &back))
}

/// The page of the only call, or the list.
fn back(ids: &[HookId]) -> String {
    match ids {
        [id] => format!("webhooks/{id}"),
        _ => "webhooks".to_owned(),
    }
}

async fn cancel_question(asked: &Asked, fields: &Fields) -> Result<Confirm, Trouble> {
    let (filter, matching) = selected(asked, fields).await?;
    let matching = matching.needed("no call that waits matches")?;
    let action = asked.url("webhooks/cancel");
    let mut confirm = Confirm::new(asked, "Cancel these calls?", "Cancel them", &action)
        .effect(format!(
            "{} will end as failed, without being made.",
            matching.count
        ))
        .effect("The receiver does not hear of the events. Calls that are being made go on.")
        .examples(matching.examples)
        .repeating(fields)
        .back(asked.url(&back(&filter.ids)))
        .command(command(asked, "cancel", &Method::DELETE, &filter));
    if filter == all_waiting(asked) {
        confirm = confirm.typing(EVERYTHING);
    }
    Ok(confirm)
}

/// Asks before calls are canceled.
pub(in super::super) async fn ask_cancel(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&cancel_question(&asked, &asked.query).await?)
}

/// Cancels calls.
pub(in super::super) async fn cancel(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (filter, _) = selected(&asked, &asked.form).await?;
    if filter == all_waiting(&asked)
        && let Err(error) = check_typed(&asked.form, EVERYTHING)
    {
        let mut confirm = cancel_question(&asked, &asked.form).await?;
        confirm.faults = Faults::of(&error);
        return Answer::again(&confirm);
    }
    let done = asked.run(Cancel { filter }).await?;
    let mut told = format!(
        "{} canceled.",
        counted(done.canceled, "call is", "calls are")
    );
    if done.being_made > 0 {
        let left = counted(done.being_made, "call is", "calls are");
        told.push_str(&format!(" {left} being made, and left alone."));
    }
    Ok(asked.done(told, "webhooks"))
}

/// The past calls that the fields select.
async fn selected_past(
    asked: &Asked,
    fields: &Fields,
) -> Result<(RetiredHookFilter, Matching), Trouble> {
    let filter = past(asked, fields)?;
    if is_unnarrowed(asked, &filter) {
        let text = "tick the calls to be made again, or say since when";
        return Err(AdminError::invalid(text).into());
    }
    let find = FindPast {
        filter: filter.clone(),
        order: Order::Descending,
        after: None,
        limit: COUNTED + 1,
    };
    let found = asked.run(find).await?;
    let is_more = found.reached.is_some() || found.items.len() > COUNTED;
    let items = found.items.get(..COUNTED).unwrap_or(&found.items);
    let calls: Vec<&HookItem> = items.iter().map(|item| &item.call).collect();
    let matching = Matching::new(calls.into_iter(), is_more);
    if matching.is_none && fields.text("id").is_some() {
        return Err(Trouble::NoPage);
    }
    Ok((filter, matching))
}

/// Asks before past calls are made again.
pub(in super::super) async fn ask_replay(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (filter, matching) = selected_past(&asked, &asked.query).await?;
    let matching = matching.needed("no past call matches; tick the calls to be made again")?;
    let action = asked.url("webhooks/replay");
    let mut confirm = Confirm::new(
        &asked,
        "Make these calls again?",
        "Make them again",
        &action,
    )
    .effect(format!(
        "{} will be made again, as new calls to the present webhook.",
        matching.count
    ))
    .effect("Calls that are themselves repeats are left out, unless they are ticked.")
    .examples(matching.examples)
    .repeating(&pinned(&asked, &asked.query)?)
    .back(asked.url("webhooks/history"));
    if !is_holder(&asked) {
        let words = ["queue", "webhook", "replay"];
        let command = past_command(&words, &filter);
        let command = match filter.ids.as_slice() {
            [id] => {
                let path = format!("/api/queue/webhooks/retired/{id}/replay");
                command.call(&Method::POST, &path, None)
            }
            _ => command,
        };
        confirm = confirm.command(command);
    }
    Answer::page(&confirm)
}

/// The fields with exact times: a time such as `1h` means the same when the form comes.
fn pinned(asked: &Asked, fields: &Fields) -> Result<Fields, AdminError> {
    let mut query = fields.query(&["after", "before"], &[]);
    for name in ["after", "before"] {
        if let Some(time) = filter::past(fields, name, asked.now())? {
            let mut more = form_urlencoded::Serializer::new(query);
            query = more.append_pair(name, &time.to_string()).finish();
        }
    }
    Ok(Fields::parse(query.as_bytes()))
}

/// Nothing says which of the past calls are meant. All that succeeded, or all that failed, are too
/// many.
fn is_unnarrowed(asked: &Asked, filter: &RetiredHookFilter) -> bool {
    let all = RetiredHookFilter {
        success: filter.success,
        ..all_past(asked)
    };
    *filter == all
}

/// Makes past calls again.
pub(in super::super) async fn replay(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (filter, _) = selected_past(&asked, &asked.form).await?;
    let done = asked.run(Replay { filter }).await?;
    let mut told = format!(
        "{} to be made again.",
        counted(done.replayed, "call is", "calls are")
    );
    if done.impossible > 0 {
        let left = counted(done.impossible, "call", "calls");
        told.push_str(&format!(
            " {left} can't be: the account has no such webhook now, or the message is gone."
        ));
    }
    Ok(asked.done(told, "webhooks"))
}
