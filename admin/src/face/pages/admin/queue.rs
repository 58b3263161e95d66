//! What waits: queued messages, and what is done to them.
//!
//! - `filter`: which messages. `deed`: what is done. `act`: the forms for that.

mod act;
mod deed;
mod filter;

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::http::StatusCode;
use postrider_store::{Order, QueueId};

pub(in super::super) use self::act::{act, to_list};
pub(in super::super) use self::deed::DELAYS;
use self::filter::{CHIPS, FIELDS, Filter};
use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    form::{Faults, Fields},
    frame::Frame,
    list::{Links, Listing, Reach},
    live::{self, Live, Part, Shown},
    past::message::class,
    shown::{Bytes, Count, Told, When, counted},
};
use crate::op::{
    browse::{Browse, Browsed},
    messages::MessageItem,
    overview::GetFigures,
    queue::AttemptItem,
};

/// How often a page shows what changed.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Template)]
#[template(path = "admin/queue.html")]
struct Page {
    frame: Frame,
    live: Option<Live>,
    /// What was typed into the search box.
    search: String,
    /// Names, labels, hints and values of the other filters.
    fields: Vec<(&'static str, &'static str, &'static str, String)>,
    hold: String,
    chips: Vec<Chip>,
    is_filtered: bool,
    /// The fields that the form of actions repeats: those of the filter.
    repeated: Vec<(String, String)>,
    transports: Vec<String>,
    delays: [(&'static str, &'static str); 6],
    newest: bool,
    faults: Faults,
}

struct Chip {
    label: &'static str,
    url: String,
    is_current: bool,
}

/// The part that changes: the messages.
#[derive(Template)]
#[template(path = "admin/queue_part.html")]
struct Messages {
    frame: Frame,
    /// How many messages there are.
    queued: String,
    held: Count,
    in_flight: Count,
    is_stopped: bool,
    rows: Vec<Row>,
    links: Links,
    is_filtered: bool,
    searched: Option<Reach>,
    /// The number of a message that is not queued any more.
    past: Option<u64>,
    /// The query that looks for senders in place of recipients.
    senders: Option<String>,
    /// The query that looks for a Message-ID in place of recipients.
    by_message_id: Option<String>,
    /// The query that looks for the same in the history.
    history: Option<String>,
}

/// A message as a row.
pub(super) struct Row {
    pub(super) item: MessageItem,
    pub(super) age: When,
    pub(super) next: When,
    pub(super) size: Bytes,
    /// Why it waits.
    pub(super) state: Told,
    /// How its state looks.
    pub(super) class: &'static str,
    /// The last result.
    pub(super) result: String,
}

impl Row {
    pub(super) fn new(item: MessageItem, asked: &Asked) -> Self {
        let (message, now) = (&item.message, asked.now());
        let last = message.last_result.as_ref();
        let result = last.filter(|last| !last.success).map(AttemptItem::reply);
        let state = message.state.split("; last answer").next();
        Self {
            age: When::new(&message.created, now),
            next: When::maybe(item.next_retry.as_ref(), now),
            size: Bytes(message.size),
            state: Told::new(state.unwrap_or_default(), now),
            class: class(item.stage),
            result: result.unwrap_or_default(),
            item,
        }
    }
}

async fn part(asked: Arc<Asked>) -> Result<Part, Trouble> {
    let filter = Filter::new(&asked.query, asked.now())?;
    let listing = Listing::new(&asked.query);
    let shown = match asked.query.text("order") {
        Some("newest") => Order::Descending,
        _ => Order::Ascending,
    };
    let browse = Browse {
        which: filter.which.clone(),
        order: listing.order(shown),
        after: listing.after::<u64>().map(QueueId),
        limit: listing.limit(),
        count: false,
    };
    let Browsed {
        messages, reached, ..
    } = asked.run(browse).await?;
    let now = asked.now();
    let searched = reached.map(|it| listing.reach(&it.queued, &it.id, now));
    let past = match filter.which.filter.ids.as_slice() {
        [only] if messages.is_empty() => Some(only.0),
        _ => None,
    };
    let senders = filter.by_sender(&asked.query);
    let senders = senders.filter(|_| messages.is_empty());
    let by_message_id = filter.by_message_id(&asked.query);
    let by_message_id = by_message_id.filter(|_| messages.is_empty());
    let history = filter.in_history().filter(|_| messages.is_empty());
    let (messages, links) = listing.arrange(messages, |item| item.message.id.to_string());
    let figures = asked.run(GetFigures {}).await?;
    let rows = messages.into_iter().map(|item| Row::new(item, &asked));
    Part::new(&Messages {
        rows: rows.collect(),
        frame: asked.frame("Queue"),
        queued: counted(figures.queued, "message", "messages"),
        held: Count(figures.held),
        in_flight: Count(figures.in_flight),
        is_stopped: figures.deliveries_stopped.is_some(),
        links,
        is_filtered: filter.is_filtered(),
        searched,
        past,
        senders,
        by_message_id,
        history,
    })
}

fn page(asked: &Asked, filter: Option<&Filter>, live: Option<Live>, faults: Faults) -> Page {
    let query = &asked.query;
    let chips = CHIPS.iter().map(|(name, label)| {
        let is_current = query.text("chip").unwrap_or_default() == *name;
        let without = ["chip", "cursor", "told"];
        let query = match *name {
            "" => query.query(&without, &[]),
            name => query.query(&without, &[("chip", name)]),
        };
        Chip {
            label,
            url: format!("{}?{query}", asked.url("queue")),
            is_current,
        }
    });
    let is_newest = query.text("order") == Some("newest");
    let mut frame = asked.frame("Queue");
    if let Some(filter) = filter {
        frame = frame.with(filter.listing(is_newest));
    }
    let own = ["cursor", "rows", "told", "order"];
    let repeated = query.iter().filter(|(name, _)| !own.contains(name));
    let repeated = repeated.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Page {
        frame,
        live,
        search: query.shown("q").to_owned(),
        fields: FIELDS
            .map(|(name, label, hint)| (name, label, hint, query.shown(name).to_owned()))
            .into(),
        hold: query.shown("hold").to_owned(),
        chips: chips.collect(),
        is_filtered: filter.is_none_or(Filter::is_filtered),
        repeated: repeated.collect(),
        transports: asked.context.statics.transports.keys().cloned().collect(),
        delays: DELAYS,
        newest: is_newest,
        faults,
    }
}

/// The messages that wait.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let filter = match Filter::new(&asked.query, asked.now()) {
        Ok(filter) => filter,
        Err(error) => {
            let page = page(&asked, None, None, Faults::of(&error));
            return Answer::with(StatusCode::UNPROCESSABLE_ENTITY, &page);
        }
    };
    match live::shown(&asked, EVERY, part).await? {
        Shown::Part(answer) => Ok(answer),
        Shown::Page(live) => {
            let page = page(&asked, Some(&filter), Some(live), Faults::default());
            Answer::page(&page)
        }
    }
}

/// The list once more, since a form was wrong.
async fn again(asked: &Asked, faults: Faults) -> Result<Answer, Trouble> {
    let mut asked = asked.clone();
    asked.query = Fields::parse(asked.form.query(&act::OWN, &[]).as_bytes());
    let filter = Filter::new(&asked.query, asked.now())?;
    let part = part(Arc::new(asked.for_all())).await?;
    let live = live::still(&asked, part);
    Answer::again(&page(&asked, Some(&filter), Some(live), faults))
}
