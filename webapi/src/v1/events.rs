//! What became of the account's messages: its log of events, as pages, as a stream, and as numbers.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    response::{
        IntoResponse, Response,
        sse::{Event as Sent, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt, stream};
use jiff::civil::Date;
use postrider_smtp::Domain;
use postrider_store::{Event, EventFilter, EventId, LoggedEvent, Order, Scope, StoreError, Time};
use postrider_webhook::codes;

use super::{
    caller, limit, long, rows,
    shape::{
        self, Count, EventItem, EventsRequest, EventsResponse, Problem, StatsRequest, StatsResponse,
    },
};
use crate::{auth::User, context::Context, error::ApiError, request};

/// How long a stream lasts: a client comes again and goes on from where it was.
const STREAM_MAX: Duration = Duration::from_secs(15 * 60);
/// Events that a stream reads ahead.
const AHEAD: usize = 10;
/// The most days that are counted at once.
const DAYS_MAX: u64 = 400;

/// List the account's events. They are kept as long as the history of its messages (keep_retired_message_period).
#[utoipa::path(
    post, path = "/Events", operation_id = "Events",
    request_body = EventsRequest,
    responses((status = 200, body = EventsResponse), (status = 400, body = Problem, description = "Something is wrong with the request"))
)]
pub(super) async fn list(
    context: &Context,
    user: &User,
    wanted: &EventsRequest,
) -> Result<EventsResponse, ApiError> {
    let event = |name: &String| {
        let known = Event::ALL.into_iter().find(|event| event.name() == name);
        known.ok_or_else(|| ApiError::user(format!("there is no event {name:?}")))
    };
    let events: Result<_, _> = wanted.events.iter().map(event).collect();
    let recipient = match wanted.recipient.as_str() {
        "" => None,
        address => Some(request::address(address)?.unicode()),
    };
    let time = |name, text: &Option<String>| {
        let time = shape::time(name, text.as_deref())?;
        Ok::<_, ApiError>(time.map(|time| Time::from(time.timestamp())))
    };
    let filter = EventFilter {
        account: user.account.clone(),
        events: events?,
        recipient,
        message_id: Some(wanted.message_id.clone()).filter(|id| !id.is_empty()),
        since: time("Since", &wanted.since)?,
        before: time("Before", &wanted.before)?,
    };
    let limit = limit(wanted.limit);
    let order = match wanted.descending {
        true => Order::Descending,
        false => Order::Ascending,
    };
    let after = (wanted.after > 0).then_some(EventId(wanted.after));
    let list = |after, limit| context.store.list_events(&filter, after, order, limit);
    let size = |event: &LoggedEvent| long(&event.told.subject, &event.told.extra);
    let (events, next) = rows(limit, after, list, size).await?;
    Ok(EventsResponse {
        events: events.into_iter().map(EventItem::from).collect(),
        next: next.map(|id| id.0),
    })
}

impl From<LoggedEvent> for EventItem {
    fn from(logged: LoggedEvent) -> Self {
        let told = logged.told;
        let (smtp_code, smtp_enhanced_code) = codes(&told);
        Self {
            id: logged.id.0,
            time: told.queued.to_string(),
            event: told.event.name().to_owned(),
            dsn: told.dsn,
            suppressing: told.suppressing,
            recipient: logged.recipient,
            queue_msg_id: told.queue_id.0,
            from_id: told.from_id,
            message_id: told.message_id,
            subject: told.subject,
            smtp_code,
            smtp_enhanced_code,
            error: told.error,
            extra: told.extra,
        }
    }
}

/// Tell the account's events as they happen, as server-sent events whose data is as in Events. A client that comes back with Last-Event-ID
/// gets what happened meanwhile; others get what happens from now on, and first the ID from which that is. It ends after 15 minutes, so that logins are looked at again.
#[utoipa::path(
    get, path = "/EventStream", operation_id = "EventStream",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The ID of the last event that was seen; 0: all that are kept")),
    responses((status = 200, description = "A stream", content_type = "text/event-stream", body = EventItem))
)]
pub(super) async fn stream(context: Arc<Context>, request: Request) -> Response {
    let (headers, extensions) = (request.headers(), request.extensions());
    let user = match caller(&context, headers, extensions, Scope::Events, "EventStream").await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let mut stopping = context.stopping.clone();
    let last = request.headers().get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()).map(str::trim);
    let changed = context.store.events_changed();
    let begin = match last.map(str::parse) {
        Some(Ok(id)) => Some(EventId(id)),
        Some(Err(_)) => {
            let text = "Last-Event-ID is no number";
            return super::problem(axum::http::StatusCode::BAD_REQUEST, "protocol", text);
        }
        None => None,
    };
    let filter = EventFilter {
        account: user.account,
        ..EventFilter::default()
    };
    let after = match begin {
        Some(id) => Ok(id),
        None => newest(&context, &filter).await.map_err(ApiError::from),
    };
    let after = match after {
        Ok(id) => id,
        Err(error) => return super::failed(&error),
    };
    // So that who is cut off before the first event knows where to go on.
    let start = Sent::default().id(after.0.to_string());
    let start = begin.is_none().then_some(Ok(start));
    let reader = Reader {
        context,
        filter,
        after,
        changed,
        waiting: VecDeque::new(),
    };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    // Who may not see events any more, as a key that was removed, may not for long.
    let stop = async move {
        let _ = tokio::time::timeout(STREAM_MAX, stopping.wait_for(|stop| *stop)).await;
    };
    let events = stream::iter(start).chain(events.take_until(Box::pin(stop)));
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// The last event; 0 if there is none.
async fn newest(context: &Context, filter: &EventFilter) -> Result<EventId, StoreError> {
    let order = Order::Descending;
    let page = context.store.list_events(filter, None, order, 1).await?;
    Ok(page.items.first().map_or(EventId(0), |event| event.id))
}

/// Reads a log as it grows.
struct Reader {
    context: Arc<Context>,
    filter: EventFilter,
    after: EventId,
    changed: tokio::sync::watch::Receiver<u64>,
    waiting: VecDeque<LoggedEvent>,
}

impl Reader {
    /// The next event; None when there will be no more.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.id;
                let (id, name) = (event.id, event.told.event.name());
                let sent = Sent::default().id(id.to_string()).event(name);
                return sent.json_data(EventItem::from(event)).ok();
            }
            self.changed.mark_unchanged();
            let after = Some(self.after);
            let page = self
                .context
                .store
                .list_events(&self.filter, after, Order::Ascending, AHEAD)
                .await;
            self.waiting.extend(page.ok()?.items);
            if self.waiting.is_empty() {
                self.changed.changed().await.ok()?;
            }
        }
    }
}

/// Count the account's events by day, kind and recipient domain. Numbers are kept for 400 days, for accounts that keep history.
#[utoipa::path(
    post, path = "/Stats", operation_id = "Stats",
    request_body = StatsRequest,
    responses((status = 200, body = StatsResponse), (status = 400, body = Problem, description = "Something is wrong with the request"))
)]
pub(super) async fn stats(
    context: &Context,
    user: &User,
    wanted: &StatsRequest,
) -> Result<StatsResponse, ApiError> {
    let today = number(Date::from(
        context
            .clock
            .now()
            .timestamp()
            .to_zoned(jiff::tz::TimeZone::UTC),
    ));
    let to = day("To", &wanted.to)?.unwrap_or(today);
    let from = day("From", &wanted.from)?.unwrap_or_else(|| to.saturating_sub(30));
    if from > to || to - from >= DAYS_MAX {
        return Err(ApiError::user(format!(
            "From must not be behind To, and at most {DAYS_MAX} days before it"
        )));
    }
    let domain = match wanted.domain.as_str() {
        "" => None,
        text => Some(
            Domain::parse(text)
                .map_err(|error| ApiError::user(format!("Domain {text:?}: {error}")))?
                .unicode(),
        ),
    };
    let counted = context
        .store
        .counted_events(&user.account, from..=to)
        .await?;
    let wanted = counted
        .into_iter()
        .filter(|(row, _)| domain.as_ref().is_none_or(|domain| *domain == row.domain));
    let counts = wanted.map(|(row, count)| Count {
        day: date(row.day).to_string(),
        event: row.event.name().to_owned(),
        domain: row.domain,
        count,
    });
    Ok(StatsResponse {
        counts: counts.collect(),
    })
}

fn day(name: &str, text: &str) -> Result<Option<u64>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let date: Date = text.parse().map_err(|error| {
        ApiError::protocol(format!(
            "{name}: {text:?} is no date as 2026-12-31: {error}"
        ))
    })?;
    Ok(Some(number(date)))
}

/// Days since 1970.
fn number(date: Date) -> u64 {
    let days = date.since(jiff::civil::date(1970, 1, 1));
    days.map_or(0, |days| days.get_days().max(0).unsigned_abs().into())
}

fn date(number: u64) -> Date {
    let days = i64::try_from(number).unwrap_or_default();
    let days = jiff::Span::new().try_days(days);
    let date = days.and_then(|days| jiff::civil::date(1970, 1, 1).checked_add(days));
    date.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_numbers() {
        assert_eq!(day("To", "2026-11-21").unwrap(), Some(20_778));
        assert_eq!(date(20_778).to_string(), "2026-11-21");
        assert_eq!((day("To", "").unwrap(), number(date(0))), (None, 0));
        assert!(day("To", "yesterday").is_err());
    }
}
