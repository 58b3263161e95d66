//! Events: what webhooks tell, as a list and as a stream.

use futures_util::{StreamExt, stream};
use postrider_observe::metrics::StreamKind;
use postrider_smtp::Address;
use postrider_store::{Event, EventFilter, EventId, LoggedEvent, Order};
use postrider_webhook::codes;
use serde_json::{Value, json};

use super::super::{
    Answer, Asked,
    live::{Frame, Live},
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, list_value},
    problem::Problem,
};

mod reader;

use self::reader::Reader;

impl Asked {
    /// The account that a query names. To a tenant, an account of others is absent.
    fn named_account(&self) -> Result<Option<&str>, Problem> {
        let account = self.query.text("account");
        account.map_or(Ok(()), |account| self.check_account(account))?;
        Ok(account)
    }

    /// The filter of a query, for all accounts. None: an event is unknown, so nothing matches.
    fn event_filter(&self) -> Result<Option<EventFilter>, Problem> {
        let query = &self.query;
        let events = query.list("event").into_iter().map(Event::from_name);
        let Some(events) = events.collect() else {
            return Ok(None);
        };
        // Events have recipients in Unicode form.
        let recipient = query.text("recipient").map(|text| {
            let address = Address::parse(text);
            address.map_or_else(|_| text.to_owned(), |address| address.unicode())
        });
        Ok(Some(EventFilter {
            account: None,
            events,
            recipient,
            message_id: query.text("message_id").map(str::to_owned),
            since: query.time("after")?,
            before: query.time("before")?,
        }))
    }
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let config = asked.context.config.load_full();
    let accounts: Vec<String> = match asked.named_account()? {
        Some(account) => vec![account.to_owned()],
        None => {
            let accounts = config.accounts.iter();
            let seen = accounts.filter(|(_, account)| asked.access.sees(account));
            seen.map(|(name, _)| name.clone()).collect()
        }
    };
    let Some(wanted) = asked.event_filter()? else {
        return Ok(Answer::Data(list_value(Vec::new(), 0, false, None::<u64>)));
    };
    let mut found: Vec<LoggedEvent> = Vec::new();
    let limit = OBJECTS_MAX.max(usize::try_from(paging.skip).unwrap_or(NAMES_MAX)) + paging.limit;
    let mut more = false;
    for account in accounts {
        let filter = EventFilter {
            account: Some(account),
            ..wanted.clone()
        };
        let cursor = paging.after.map(EventId);
        let limit = limit.min(NAMES_MAX) + 1;
        let page = asked
            .context
            .store
            .list_events(&filter, cursor, paging.order, limit);
        let page = page.await?;
        more |= page.next.is_some();
        found.extend(page.items);
    }
    found.sort_by_key(|event| event.id);
    if paging.order == Order::Descending {
        found.reverse();
    }
    let total = found.len() as u64;
    let skip = usize::try_from(paging.skip).unwrap_or(usize::MAX);
    let mut rest = found.iter().skip(skip);
    let page: Vec<&LoggedEvent> = rest.by_ref().take(paging.limit).collect();
    let last = page.last().map(|event| event.id.0);
    let next = rest.next().and(last);
    let items = page.into_iter().map(shown).collect();
    Ok(Answer::Data(list_value(items, total, more, next)))
}

/// The stream of events. It begins behind the event with the number in Last-Event-ID, or with the
/// events since `after`, or now.
pub(in super::super) async fn live(asked: Asked) -> Result<Answer, Problem> {
    let account = asked.named_account()?.map(str::to_owned);
    let filter = asked.event_filter()?;
    let store = &asked.context.store;
    let changed = store.events_changed();
    let since = filter.as_ref().and_then(|filter| filter.since);
    let last = match &asked.last_event_id {
        Some(text) => Some(text.trim().parse().map_err(|_| {
            Problem::unreadable(format!("Last-Event-ID {text:?} is no number of an event"))
        })?),
        None => None,
    };
    let (begin, after) = match (last, since) {
        (Some(last), _) => (None, EventId(last)),
        // An event's number is not below its time.
        (None, Some(since)) => (None, EventId(since.0.max(1).cast_unsigned() - 1)),
        (None, None) => {
            let all = EventFilter::default();
            let newest = store.list_events(&all, None, Order::Descending, 1).await?;
            let newest = newest.items.first().map_or(EventId(0), |event| event.id);
            // A client that loses the stream before the first event goes on behind this one.
            (Some(Frame::Begin(newest.0)), newest)
        }
    };
    let listed = EventFilter {
        account,
        ..EventFilter::default()
    };
    let (config, access) = (asked.context.config.clone(), asked.access.clone());
    let is_wanted = move |event: &LoggedEvent| {
        let seen = || access.sees_account(&config.load(), &event.account);
        filter.as_ref().is_some_and(|it| it.matches(event)) && seen()
    };
    let reader = Reader::new(store.clone(), changed, listed, after, is_wanted);
    let events = stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Some((frame, reader))
    });
    let frames = stream::iter(begin).chain(events);
    Ok(Answer::Live(Live::new(&asked, StreamKind::Events, frames)?))
}

/// An event as a webhook tells it.
fn shown(event: &LoggedEvent) -> Value {
    let told = &event.told;
    let (smtp_code, smtp_enhanced_code) = codes(told);
    json!({
        "id": event.id.0.to_string(),
        "account": event.account,
        "time": told.queued.to_string(),
        "event": told.event.name(),
        "dsn": told.dsn,
        "suppressing": told.suppressing,
        "recipient": event.recipient,
        "queue_msg_id": told.queue_id.0,
        "from_id": told.from_id,
        "message_id": told.message_id,
        "subject": told.subject,
        "smtp_code": smtp_code,
        "smtp_enhanced_code": smtp_enhanced_code,
        "error": told.error,
        "extra": told.extra,
    })
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use std::collections::BTreeMap;

    use utoipa::ToSchema;

    /// What a webhook tells.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(in super::super::super) struct ToldEvent {
        /// The number of the event, for Last-Event-ID.
        id: String,
        account: String,
        /// RFC 3339.
        time: String,
        /// The kind, for example `delivered`.
        event: String,
        dsn: bool,
        suppressing: bool,
        recipient: String,
        queue_msg_id: u64,
        from_id: String,
        message_id: String,
        subject: String,
        /// The code of an error; 0: there is none.
        smtp_code: u16,
        /// For example `5.1.1`; empty: there is none.
        smtp_enhanced_code: String,
        error: String,
        extra: BTreeMap<String, String>,
    }
}
