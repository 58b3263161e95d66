//! Traces: lists, single ones, and the stream of those that end.

use std::time::Duration;

use futures_util::stream;
use postrider_observe::{
    metrics::{StreamKind, TraceReader},
    trace::{Event, Followed, Key, Record, Subscription, Words},
};
use postrider_store::Time;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::{
    Answer, Asked,
    live::{Frame, Live},
    member,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, list_value},
    parameters::Query,
    problem::Problem,
    value,
};
use crate::{
    AdminError,
    op::{
        Single,
        traces::{Find, Found, Show, Sight, TraceItem, is_about, key_of_parameter, shown_event},
    },
};

/// How far back a list goes that has no other condition than a type.
const RECENT: Duration = Duration::from_secs(24 * 60 * 60);
/// The most traces that one call gets whole.
const IDS_MAX: usize = 100;
/// The path of the call that a token opens.
const OPENED: &str = "telemetry/traces/live";
/// A client gets at most one frame in this time.
const PACE: Duration = Duration::from_secs(1);
/// The most events of a frame. A frame ends with a whole trace.
const FRAME_EVENTS_MAX: usize = 1000;

impl Asked {
    /// What the caller may see of the traces. None: everything.
    fn sight(&self) -> Option<Sight> {
        let accounts = self.access.accounts(&self.context.config.load())?;
        let domains = self.access.domains.iter();
        Some(Sight {
            accounts,
            domains: domains
                .map(|domain| domain.ascii().to_lowercase())
                .collect(),
        })
    }
}

/// What a list asks for. None: a parameter can't be read, and so names nothing that is there.
fn find(query: &Query, now: Time) -> Result<Option<Find>, Problem> {
    let text = |name: &str| query.text(name).map(str::to_owned);
    let number = |name: &str| query.text(name).map(str::parse::<u64>).transpose();
    let address = query.text("remote_ip").map(str::parse).transpose();
    let (Ok(queue), Ok(hook), Ok(remote_ip)) = (number("queue_id"), number("hook"), address) else {
        return Ok(None);
    };
    let mut find = Find {
        types: query.list("type").into_iter().map(str::to_owned).collect(),
        kind: text("kind"),
        session: text("session"),
        queue,
        message_id: text("message_id"),
        sender: text("sender"),
        recipient: text("recipient"),
        remote_ip,
        account: text("account"),
        hook,
        words: text("filter").unwrap_or_default(),
        after: query.time("after")?,
        before: query.time("before")?,
        cursor: text("cursor"),
        ..Find::default()
    };
    // With nothing but types, a list would go through all that is kept.
    let by_type = Find {
        types: find.types.clone(),
        cursor: find.cursor.clone(),
        ..Find::default()
    };
    if find == by_type {
        find.after = Some(now.before(RECENT));
    }
    Ok(Some(find))
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let Some(mut find) = find(&asked.query, asked.context.clock.now())? else {
        return Ok(Answer::Data(json!({"items": [], "total": 0})));
    };
    find.sight = asked.sight();
    let (show, max) = match asked.query.flag("values") {
        true => (Show::Brief, OBJECTS_MAX),
        false => (Show::Number, NAMES_MAX),
    };
    let paging = Paging::new(&asked.query, max)?;
    (find.show, find.limit, find.skip) = (show, paging.limit, paging.skip);
    find.count = paging.count_max;
    let found = find.answer(&asked.context).await?;
    let items: Vec<Value> = match show {
        Show::Number => found.numbers.into_iter().map(Value::from).collect(),
        Show::Whole | Show::Brief => {
            let events = found.traces.iter().filter_map(|item| item.events.first());
            events.map(value).collect::<Result<_, _>>()?
        }
    };
    let total = found.total.min(paging.count_max);
    let more = !found.is_total || found.total > total;
    Ok(Answer::Data(list_value(items, total, more, found.next)))
}

/// The events of a trace, or of several. An unknown one has none.
pub(in super::super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let text = asked.element(0).to_owned();
    let ids = text.split(',').filter(|id| !id.is_empty());
    let ids: Vec<Option<u64>> = ids.map(|id| id.trim().parse().ok()).collect();
    if ids.len() > IDS_MAX {
        let text = format!("these are more than {IDS_MAX} traces");
        return Err(Problem::unreadable(text));
    }
    let find = Find {
        spans: ids.iter().copied().flatten().collect(),
        sight: asked.sight(),
        ..Find::default()
    };
    let found = match find.spans.is_empty() {
        true => Found::default(),
        false => find.answer(&asked.context).await?,
    };
    let (found, is_cut) = (found.traces, found.next.is_some());
    if is_cut && found.len() < ids.len() {
        let text = "these traces are too much for one answer; ask for fewer of them";
        return Err(Problem::unreadable(text));
    }
    let events = |id: &Option<u64>| -> Result<Value, Problem> {
        let item: Option<&TraceItem> = found.iter().find(|item| Some(item.id) == *id);
        item.map_or(Ok(json!([])), |item| value(&item.events))
    };
    match ids.as_slice() {
        [id] if !text.contains(',') => Ok(Answer::Data(events(id)?)),
        ids => {
            let all = ids.iter().map(events);
            Ok(Answer::Data(all.collect::<Result<Value, _>>()?))
        }
    }
}

/// A token that opens a stream of traces within a minute.
pub(in super::super) async fn token(asked: Asked) -> Result<Answer, Problem> {
    asked.token(OPENED)
}

/// The stream of the traces that end. Once an event of a trace matches, all its events are sent.
pub(in super::super) async fn live(asked: Asked) -> Result<Answer, Problem> {
    let filter = LiveFilter::new(&asked.query);
    let Some(subscription) = asked.context.traces.subscribe(TraceReader::Live) else {
        let text = "there are no traces that end: they are turned off, or the server stops";
        return Err(AdminError::unavailable(text).into());
    };
    let reader = Reader {
        subscription,
        filter,
        sight: asked.sight(),
        last: None,
        lost: 0,
    };
    let frames = stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Some((frame, reader))
    });
    Ok(Answer::Live(Live::new(&asked, StreamKind::Traces, frames)?))
}

/// Which traces a stream has.
struct LiveFilter {
    words: Words,
    /// Values that one event has to have, in lower case.
    values: Vec<(Key, String)>,
}

impl LiveFilter {
    fn new(query: &Query) -> Self {
        let values = query.names().filter_map(|name| {
            let text = query.text(name)?.to_lowercase();
            Some((key_of_parameter(name)?, text))
        });
        Self {
            words: Words::parse(query.text("filter").unwrap_or_default()),
            values: values.collect(),
        }
    }

    fn matches(&self, record: &Record) -> bool {
        let has_all = |event: &Event| {
            let mut values = self.values.iter();
            values.all(|(key, text)| is_about(event, *key, text))
        };
        let mut events = record.events();
        (self.values.is_empty() || events.any(|event| has_all(&event))) && self.words.are_in(record)
    }
}

/// Collects traces into frames, at the pace of a stream.
struct Reader {
    subscription: Subscription,
    filter: LiveFilter,
    sight: Option<Sight>,
    /// When the last frame was sent.
    last: Option<Instant>,
    /// How many traces were lost, which the client does not know yet.
    lost: u64,
}

impl Reader {
    /// Waits for the next frame. None when no more will come.
    async fn next(&mut self) -> Option<Frame> {
        let mut events: Vec<Value> = Vec::new();
        match std::mem::take(&mut self.lost) {
            0 => {}
            lost => return Some(Frame::Lost(lost)),
        }
        // The first trace is waited for, and then, until the next frame may go, for more.
        loop {
            let followed = match (events.is_empty(), self.last) {
                (true, _) => self.subscription.next().await?,
                (false, None) => break,
                (false, Some(last)) => {
                    let more = self.subscription.next();
                    match tokio::time::timeout_at(last + PACE, more).await {
                        Ok(Some(followed)) => followed,
                        Ok(None) | Err(_) => break,
                    }
                }
            };
            match followed {
                Followed::Lost(count) if events.is_empty() => return Some(Frame::Lost(count)),
                Followed::Lost(count) => {
                    self.lost = count;
                    break;
                }
                Followed::Trace(record) => {
                    let is_seen = self.sight.as_ref().is_none_or(|sight| sight.has(&record));
                    if is_seen && self.filter.matches(&record) {
                        events.extend(shown(&record));
                    }
                }
            }
            if events.len() >= FRAME_EVENTS_MAX {
                if let Some(last) = self.last {
                    tokio::time::sleep_until(last + PACE).await;
                }
                break;
            }
        }
        self.last = Some(Instant::now());
        Some(Frame::News {
            name: "trace",
            data: Value::Array(events),
        })
    }
}

/// All events of a trace, each with its number.
fn shown(record: &Record) -> impl Iterator<Item = Value> {
    let events = record.events().filter_map(|event| {
        let mut event = shown_event(&event);
        let span = member(Key::SpanId.name(), json!(record.span));
        event.data.extend(span);
        value(&event).ok()
    });
    events.collect::<Vec<_>>().into_iter()
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use utoipa::ToSchema;

    /// An event of a trace. Values with names of ours stand beside `data`.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(in super::super::super) struct TraceEvent {
        /// What the type means.
        text: String,
        /// The event in words.
        details: String,
        /// RFC 3339.
        #[serde(rename = "createdAt")]
        created_at: String,
        /// For example `smtp.rcpt-to`.
        #[serde(rename = "type")]
        kind: String,
        data: serde_json::Value,
    }
}
