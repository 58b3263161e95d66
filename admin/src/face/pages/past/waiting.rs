//! The messages of a holder's account that wait, by list and one by one.

use std::sync::Arc;

use askama::Template;
use postrider_store::{
    Change, HookFilter, NextAttempt, Order, QueueFilter, QueueId, RetiredHookFilter,
};

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        confirm::Confirm,
        form::Faults,
        frame::Frame,
        list::{Found, Listing},
        shown::{Bytes, When},
    },
    filter::{self, Filter, Input},
};
use crate::{
    AdminError,
    op::{
        browse::Browse,
        events::{EventItem, Search, Wanted},
        messages::{ChangeSelected, EndSelected, Get, MessageItem, Portion, Selection, Stage},
        queue::{AttemptItem, Ending},
        webhook::{self, FindPast, HookItem},
    },
};

/// The most events and calls of a message that are shown.
const SHOWN: usize = 50;

/// The state of a message in words, and its class.
const fn state(stage: Stage) -> (&'static str, &'static str) {
    match stage {
        Stage::Scheduled => ("Waits", ""),
        Stage::Deferred => ("Delayed", "warn"),
        Stage::Delivering => ("Being delivered", ""),
        Stage::Held => ("Held", "warn"),
        Stage::Failed => ("Failed", "bad"),
        Stage::Delivered => ("Delivered", "good"),
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
        let (state, class) = state(item.stage);
        let last = item.results.last();
        Self {
            created: When::new(&item.message.created, now),
            next: When::maybe(item.next_retry.as_ref(), now),
            size: Bytes(item.message.size),
            state,
            class,
            text: last.map(|last| last.text.clone()).unwrap_or_default(),
            item,
        }
    }
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
    Answer::page(&Page {
        frame: asked.frame("Messages"),
        filter: Filter::new(main, Vec::new(), asked.url("messages")),
        found: Found {
            rows: items.map(|item| Row::new(item, &asked)).collect(),
            links,
            reach,
        },
        is_filtered: !listing.filters().is_empty(),
    })
}

#[derive(Template)]
#[template(path = "past/message.html")]
struct MessagePage {
    frame: Frame,
    faults: Faults,
    when: String,
    row: Row,
    expires: When,
    is_ended: bool,
    attempts: Vec<(When, AttemptItem)>,
    events: Vec<(When, EventItem)>,
    calls: Vec<Call>,
    extra: String,
}

struct Call {
    item: HookItem,
    at: When,
    /// Whether the receiver took it; None: it is to be made.
    success: Option<bool>,
    status: String,
}

impl Call {
    fn new(item: HookItem, end: Option<(bool, String)>, asked: &Asked) -> Self {
        let at = end.as_ref().map_or(&item.next_attempt, |(_, at)| at);
        let last = item.results.last();
        Self {
            at: When::new(at, asked.now()),
            success: end.as_ref().map(|(success, _)| *success),
            status: last.map(|last| last.code.to_string()).unwrap_or_default(),
            item,
        }
    }
}

/// A message of the visitor's account.
async fn message(asked: &Asked) -> Result<MessageItem, Trouble> {
    let id = QueueId(asked.number(0)?);
    let item = asked.run(Get { id }).await?;
    match item.message.account == asked.account() {
        true => Ok(item),
        false => Err(Trouble::NoPage),
    }
}

async fn page(asked: &Asked, item: MessageItem, faults: Faults) -> Result<MessagePage, Trouble> {
    let (id, now) = (QueueId(item.message.id), asked.now());
    let mut which = Wanted {
        message: Some(id),
        ..Wanted::default()
    };
    which.filter.account = Some(item.message.account.clone());
    which.filter.recipient = Some(item.message.to.clone());
    let events = Search {
        which,
        order: Order::Descending,
        after: None,
        limit: SHOWN,
    };
    let events = asked.run(events).await?.items;
    let account = Some(item.message.account.clone());
    let waiting = webhook::Find {
        filter: HookFilter {
            account: account.clone(),
            message: Some(id),
            ..HookFilter::default()
        },
        failed: false,
        order: Order::Descending,
        after: None,
        limit: SHOWN,
    };
    let past = FindPast {
        filter: RetiredHookFilter {
            account,
            message: Some(id),
            ..RetiredHookFilter::default()
        },
        order: Order::Descending,
        after: None,
        limit: SHOWN,
    };
    let waiting = asked.run(waiting).await?.items.into_iter();
    let mut calls: Vec<Call> = waiting.map(|call| Call::new(call, None, asked)).collect();
    for ended in asked.run(past).await?.items {
        let end = (ended.success, ended.last_activity);
        calls.push(Call::new(ended.call, Some(end), asked));
    }
    let extra = item.message.extra.iter();
    let extra: Vec<String> = extra
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let attempts = item.results.iter().rev();
    let attempts = attempts.map(|attempt| (When::new(&attempt.start, now), attempt.clone()));
    Ok(MessagePage {
        frame: asked.frame(&format!("Message {id}")),
        faults,
        when: asked.form.shown("when").to_owned(),
        expires: When::maybe(item.expires.as_ref(), now),
        is_ended: item.stage.is_end(),
        attempts: attempts.collect(),
        events: events
            .into_iter()
            .map(|event| (When::new(&event.time, now), event))
            .collect(),
        calls,
        extra: extra.join(", "),
        row: Row::new(item, asked),
    })
}

/// A message.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let item = message(&asked).await?;
    Answer::page(&page(&asked, item, Faults::default()).await?)
}

/// A message of the visitor's account that is still queued.
async fn queued(asked: &Asked) -> Result<MessageItem, Trouble> {
    let item = message(asked).await?;
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
        Err(error) => Answer::again(&page(&asked, item, Faults::of(&error)).await?),
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
        .back(asked.url(&format!("messages/{id}")));
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
