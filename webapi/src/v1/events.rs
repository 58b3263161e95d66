//! The log of the account's events: as pages, and as numbers.

use jiff::civil::Date;
use postrider_smtp::Domain;
use postrider_store::{Event, EventFilter, EventId, LoggedEvent, Order, Time};
use postrider_webhook::codes;

use super::{
    paging::{limit, long, rows},
    shape::{self, Count, EventItem, EventsRequest, EventsResponse, StatsRequest, StatsResponse},
};
use crate::{
    call::{auth::User, context::CallContext, value::address},
    error::ApiError,
};

/// The most days of a count.
const DAYS_MAX: u64 = 400;

/// List the account's events. The log keeps them as long as the history keeps messages
/// (keep_retired_message_period).
#[cfg_attr(test, utoipa::path(
    post, path = "/Events", operation_id = "Events",
    request_body = EventsRequest,
    responses((status = 200, body = EventsResponse), (status = 400, body = shape::Problem, description = "The request is wrong"))
))]
pub(super) async fn list(
    context: &CallContext,
    user: &User,
    wanted: EventsRequest,
) -> Result<EventsResponse, ApiError> {
    let event = |name: &String| {
        let known = Event::ALL.into_iter().find(|event| event.name() == name);
        known.ok_or_else(|| ApiError::user(format!("there is no event {name:?}")))
    };
    let events: Result<_, _> = wanted.events.iter().map(event).collect();
    let recipient = match wanted.recipient.as_str() {
        "" => None,
        given => Some(address(given)?.unicode()),
    };
    let time = |name, text: &Option<String>| {
        let time = shape::time(name, text.as_deref())?;
        Ok::<_, ApiError>(time.map(|time| Time::from(time.timestamp())))
    };
    let filter = EventFilter {
        account: Some(user.account.clone()),
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

/// Count the account's events by day, event and recipient domain. The counts of accounts with
/// history are kept for 400 days.
#[cfg_attr(test, utoipa::path(
    post, path = "/Stats", operation_id = "Stats",
    request_body = StatsRequest,
    responses((status = 200, body = StatsResponse), (status = 400, body = shape::Problem, description = "The request is wrong"))
))]
pub(super) async fn stats(
    context: &CallContext,
    user: &User,
    wanted: StatsRequest,
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
            "From must not be later than To, and at most {DAYS_MAX} days before it"
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
