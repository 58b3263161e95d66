//! Traces: lists, single ones, and the stream of their events.

mod following;

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use futures_util::stream;
use postrider_observe::{
    metrics::StreamKind,
    trace::{Event, Going, Heard, Key, Listening},
};
use postrider_store::Time;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use self::following::{Filter, Following};

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
        traces::{Find, Found, Show, Sight, TraceItem, shown_event},
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
/// For so long events are collected before they go together.
const GATHER: Duration = Duration::from_millis(200);
/// The most events of a frame.
const FRAME_EVENTS_MAX: usize = 1000;
/// The most events that wait for frames. What comes then is lost.
const PENDING_MAX: usize = 3 * FRAME_EVENTS_MAX;

impl Asked {
    /// What the caller may see of the traces. None: everything.
    fn sight(&self) -> Option<Sight> {
        let accounts = self.access.accounts(&self.context.config.load())?;
        let domains = self.access.reach.domains.iter();
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

/// The stream of the events of traces, as they happen. Once a trace matches, all its events are
/// sent.
pub(in super::super) async fn live(asked: Asked) -> Result<Answer, Problem> {
    let Some(listening) = asked.context.traces.listen() else {
        let text = "there are no traces: they are turned off, or the server stops";
        return Err(AdminError::unavailable(text).into());
    };
    let following = Following::new(Filter::new(&asked.query), asked.sight());
    let reader = Reader::new(listening, following);
    let frames = stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Some((frame, reader))
    });
    Ok(Answer::Live(Live::new(&asked, StreamKind::Traces, frames)?))
}

/// Collects events into frames, at the pace of a stream.
struct Reader {
    listening: Listening,
    following: Following,
    /// When the last frame was sent.
    last: Option<Instant>,
    /// The events that were not sent yet.
    pending: VecDeque<Value>,
    /// How many news were lost, which the client does not know yet.
    lost: u64,
}

impl Reader {
    const fn new(listening: Listening, following: Following) -> Self {
        Self {
            listening,
            following,
            last: None,
            pending: VecDeque::new(),
            lost: 0,
        }
    }

    /// Waits for the next frame. None when no more will come.
    async fn next(&mut self) -> Option<Frame> {
        // The first event is waited for, and then, until the frame goes, for more.
        let mut goes: Option<Instant> = None;
        loop {
            let has_news = !self.pending.is_empty() || self.lost > 0;
            if goes.is_none() && has_news {
                let gathered = Instant::now() + GATHER;
                goes = Some(self.last.map_or(gathered, |last| gathered.max(last + PACE)));
            }
            let heard = match goes {
                None => self.listening.next().await?,
                Some(goes) if goes <= Instant::now() => break,
                Some(goes) => match timeout_at(goes, self.listening.next()).await {
                    Ok(Some(heard)) => heard,
                    Ok(None) | Err(_) => break,
                },
            };
            match heard {
                Heard::Lost(count) => {
                    self.following.miss();
                    self.lost += count;
                }
                Heard::Going(going) => self.hear(&going),
            }
        }
        self.last = Some(Instant::now());
        Some(match mem::take(&mut self.lost) {
            0 => {
                let count = self.pending.len().min(FRAME_EVENTS_MAX);
                Frame::News {
                    name: "trace",
                    data: self.pending.drain(..count).collect(),
                }
            }
            lost => Frame::Lost(lost),
        })
    }

    fn hear(&mut self, going: &Arc<Going>) {
        for event in self.following.hear(going) {
            if self.pending.len() < PENDING_MAX {
                self.pending.extend(shown(&event, going.record.span));
            } else {
                self.lost += 1;
            }
        }
    }
}

/// An event of the trace with this number.
fn shown(event: &Event, span: u64) -> Option<Value> {
    let mut event = shown_event(event);
    event.data.extend(member(Key::SpanId.name(), json!(span)));
    value(&event).ok()
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

#[cfg(test)]
mod tests {
    use postrider_observe::{EventType, Kind, Tracer};

    use super::*;

    fn count(frame: Option<Frame>) -> usize {
        match frame {
            Some(Frame::News { data, .. }) => data.as_array().map_or(0, Vec::len),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_read_while_its_next_frame_waits() {
        let (tracer, _handed_over) = Tracer::new(Default::default());
        let following = Following::new(Filter::new(&Query::new("")), None);
        let mut reader = Reader::new(tracer.listen().unwrap(), following);
        let mut trace = tracer.start(Kind::Session, 0);
        let mut add = |count| {
            for _ in 0..count {
                trace.event(1, EventType::SmtpQuit, |_| {});
            }
        };
        add(1000);
        assert_eq!(count(reader.next().await), 1000);
        add(1000);
        let (frame, ()) = tokio::join!(reader.next(), async {
            for _ in 0..2 {
                tokio::time::sleep(GATHER).await;
                add(800);
            }
        });
        assert_eq!(count(frame), 1000);
        assert_eq!(count(reader.next().await), 1000);
        assert_eq!(count(reader.next().await), 600, "nothing was lost");
        // More than may wait is lost, and told.
        add(1000);
        let (frame, ()) = tokio::join!(reader.next(), async {
            for _ in 0..3 {
                tokio::time::sleep(GATHER).await;
                add(900);
            }
        });
        assert_eq!(frame, Some(Frame::Lost(700)));
        for _ in 0..3 {
            assert_eq!(count(reader.next().await), 1000);
        }
    }
}
