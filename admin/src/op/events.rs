//! Events: what webhooks tell of sent messages.

use std::collections::BTreeMap;

use postrider_store::{EventFilter, EventId, LoggedEvent, Order, QueueId};
use postrider_webhook::codes;
use serde::{Deserialize, Serialize};

use super::{
    Operation, Single, Sink,
    pages::{Part, Searched, search},
};
use crate::{AdminError, Context};

/// How many events are read at once by those who follow them.
const PAGE: usize = 100;

/// An event of a sent message. The time is RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct EventItem {
    /// Later events have higher numbers.
    pub id: u64,
    pub account: String,
    pub time: String,
    /// The kind, for example `delivered`.
    pub event: String,
    /// It comes from an incoming DSN.
    pub dsn: bool,
    /// It put the address on the suppression list.
    pub suppressing: bool,
    pub recipient: String,
    /// The message; 0: it is not known.
    pub queue_msg_id: u64,
    pub from_id: String,
    pub message_id: String,
    pub subject: String,
    /// The code of an error; 0 without one.
    pub smtp_code: u16,
    /// Empty without one.
    pub smtp_enhanced_code: String,
    pub error: String,
    pub extra: BTreeMap<String, String>,
}

impl From<&LoggedEvent> for EventItem {
    fn from(event: &LoggedEvent) -> Self {
        let told = &event.told;
        let (smtp_code, smtp_enhanced_code) = codes(told);
        Self {
            id: event.id.0,
            account: event.account.clone(),
            time: told.queued.to_string(),
            event: told.event.name().to_owned(),
            dsn: told.dsn,
            suppressing: told.suppressing,
            recipient: event.recipient.clone(),
            queue_msg_id: told.queue_id.0,
            from_id: told.from_id.clone(),
            message_id: told.message_id.clone(),
            subject: told.subject.clone(),
            smtp_code,
            smtp_enhanced_code,
            error: told.error.clone(),
            extra: told.extra.clone(),
        }
    }
}

/// Which events. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// What the store filters by.
    pub filter: EventFilter,
    /// Events of this message.
    pub message: Option<QueueId>,
    /// The code of the error.
    pub code: Option<u16>,
    /// The enhanced code of the error, for example `5.1.1`.
    pub enhanced_code: Option<String>,
    /// An entry of the application's own data: its name, and its value. An empty value stands for
    /// any.
    pub extra: Option<(String, String)>,
}

impl Wanted {
    fn matches(&self, event: &LoggedEvent) -> bool {
        let told = &event.told;
        let (code, enhanced) = codes(told);
        self.filter.matches(event)
            && self.message.is_none_or(|message| told.queue_id == message)
            && self.code.is_none_or(|wanted| code == wanted)
            && self
                .enhanced_code
                .as_ref()
                .is_none_or(|wanted| enhanced == *wanted)
            && self.extra.as_ref().is_none_or(|(name, value)| {
                let found = told.extra.get(name);
                found.is_some_and(|it| value.is_empty() || it == value)
            })
    }

    /// The part that the store has an index for.
    fn indexed(&self) -> EventFilter {
        EventFilter {
            account: self.filter.account.clone(),
            recipient: self.filter.recipient.clone(),
            message_id: self.filter.message_id.clone(),
            ..EventFilter::default()
        }
    }
}

/// Searches the logs of events. It ends after 40 ms or 20,000 events, and tells how far it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The events.
    pub which: Wanted,
    /// By number, ascending or descending.
    pub order: Order,
    /// The search begins behind this event; None: at the beginning.
    pub after: Option<EventId>,
    /// The most events.
    pub limit: usize,
}

impl Single for Search {
    type Output = Searched<EventItem>;

    async fn answer(self, context: &Context) -> Result<Searched<EventItem>, AdminError> {
        let indexed = match self.which.filter.account {
            Some(_) => self.which.indexed(),
            // Without an account there is no index.
            None => EventFilter::default(),
        };
        let (store, order) = (&context.store, self.order);
        let part = Part {
            after: self.after,
            limit: self.limit,
        };
        search(
            part,
            |after, count| store.list_events(&indexed, after, order, count),
            |event: &LoggedEvent| (event.id.0, event.told.queued),
            |event| self.which.matches(event),
        )
        .await
    }
}

/// Gives the events behind one, and then each event as it happens, oldest first. It does not end by
/// itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Follow {
    /// The events.
    pub which: Wanted,
    /// It begins behind this event. None: with the next event.
    pub after: Option<EventId>,
}

impl Operation for Follow {
    type Item = EventItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<EventItem>,
    ) -> Result<(), AdminError> {
        let store = &context.store;
        let mut changed = store.events_changed();
        let listed = EventFilter {
            account: self.which.filter.account.clone(),
            ..EventFilter::default()
        };
        let mut after = match self.after {
            Some(after) => after,
            None => {
                let newest = store.list_events(&listed, None, Order::Descending, 1);
                let newest = newest.await?.items.pop();
                newest.map_or(EventId(0), |event| event.id)
            }
        };
        loop {
            changed.mark_unchanged();
            let page = store.list_events(&listed, Some(after), Order::Ascending, PAGE);
            let page = page.await?;
            if let Some(last) = page.items.last() {
                after = last.id;
            }
            let wanted = page.items.iter().filter(|event| self.which.matches(event));
            let wanted: Vec<EventItem> = wanted.map(EventItem::from).collect();
            if !wanted.is_empty() {
                items.send(wanted).await?;
            }
            if page.next.is_none() && changed.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}
