//! Traces, for `/v1/traces`. The story of a message is one trace of OpenTelemetry.
//!
//! The session or the call that queued a message is the root of its story: a SERVER span. Attempts
//! and webhook calls are CLIENT spans below it. A trace about none is a story of its own. All ids
//! come from the names of the server, the message and the trace, so the parts of a story find each
//! other after a restart too.
//!
//! A trace that is about several messages is a story of its own too, with all its events. The story
//! of each message has a span with the events of that message only, and links lead from one to the
//! other: with all events in each, a call for 200 messages would send them 200 times.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    sync::Arc,
    vec,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    trace::v1::{ResourceSpans, ScopeSpans, Span, span},
};
use prost::Message;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::{Frames, attribute, nanos, number};
use crate::trace::{Event, EventType, Key, Kind, Record, Value};

/// A frame gets no more spans when it has so many bytes. Collectors take 4 MiB and more.
const FRAME_MAX: usize = 1 << 20;

/// The frames of some traces, one after the other.
#[derive(Debug)]
pub struct TraceFrames {
    frames: Frames,
    records: vec::IntoIter<Arc<Record>>,
    /// The spans of the trace that has begun.
    spans: vec::IntoIter<Span>,
    kind: Kind,
}

/// A frame with traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceFrame {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many traces end in it. A large one may begin in frames before.
    pub traces: u64,
}

impl Frames {
    /// The frames with these traces. To make one takes a while, so it is not for an async task.
    #[must_use]
    pub fn traces(&self, records: Vec<Arc<Record>>) -> TraceFrames {
        TraceFrames {
            frames: self.clone(),
            records: records.into_iter(),
            spans: Vec::new().into_iter(),
            kind: Kind::Session,
        }
    }

    /// The frame with these spans.
    fn frame(&self, scopes: BTreeMap<Kind, Vec<Span>>) -> Vec<u8> {
        let scopes = scopes.into_iter().map(|(kind, spans)| ScopeSpans {
            scope: Some(InstrumentationScope {
                name: format!("postrider.{}", kind.name()),
                ..InstrumentationScope::default()
            }),
            spans,
            ..ScopeSpans::default()
        });
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: scopes.collect(),
                ..ResourceSpans::default()
            }],
        };
        request.encode_to_vec()
    }

    /// The spans of a trace: that with all events, and if it is about several messages, one for
    /// each of them.
    fn spans(&self, record: &Record) -> Vec<Span> {
        let events: Vec<Event> = record.events().collect();
        let queued = |event: &Event| {
            matches!(
                event.event,
                EventType::QueueQueueMessage
                    | EventType::QueueQueueMessageAuthenticated
                    | EventType::QueueQueueDsn
            )
        };
        let roots: BTreeSet<u64> = { events.iter().filter(|event| queued(event)) }
            .filter_map(|event| event.number(Key::QueueId))
            .collect();
        let bare = Span {
            name: record.kind.name().to_owned(),
            kind: match record.kind {
                Kind::Session | Kind::Api => span::SpanKind::Server.into(),
                Kind::Attempt | Kind::Webhook => span::SpanKind::Client.into(),
            },
            start_time_unix_nano: nanos(record.started),
            end_time_unix_nano: nanos(record.ended),
            attributes: attributes(record),
            ..Span::default()
        };
        let in_story = |queue: u64| {
            let root = short(self.id(("root", queue)));
            let (span_id, parent_span_id) = match roots.contains(&queue) {
                true => (root, Vec::new()),
                false => (short(self.id(("span", record.span, queue))), root),
            };
            Span {
                trace_id: self.id(("message", queue)).into(),
                span_id,
                parent_span_id,
                ..bare.clone()
            }
        };
        if let [queue] = record.queues.as_slice() {
            return vec![Span {
                events: events.iter().map(shown).collect(),
                ..in_story(*queue)
            }];
        }
        let mut of_messages: BTreeMap<u64, Vec<span::Event>> = BTreeMap::new();
        if !record.queues.is_empty() {
            for event in &events {
                if let Some(queue) = event.number(Key::QueueId) {
                    of_messages.entry(queue).or_default().push(shown(event));
                }
            }
        }
        let mut whole = Span {
            trace_id: self.id(("trace", record.span)).into(),
            span_id: short(self.id(("span", record.span, 0))),
            events: events.iter().map(shown).collect(),
            ..bare.clone()
        };
        let mut spans = Vec::with_capacity(1 + record.queues.len());
        for queue in &record.queues {
            let span = Span {
                events: of_messages.remove(queue).unwrap_or_default(),
                links: vec![link_to(&whole)],
                ..in_story(*queue)
            };
            whole.links.push(link_to(&span));
            spans.push(span);
        }
        spans.insert(0, whole);
        spans
    }

    /// An id of 16 bytes.
    fn id(&self, of: impl Hash) -> [u8; 16] {
        let mut hasher = SipHasher13::new();
        (&self.host, of).hash(&mut hasher);
        hasher.finish128().as_u128().to_be_bytes()
    }
}

impl TraceFrames {
    /// How many traces no frame has had yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        let begun = usize::from(self.spans.len() > 0);
        (self.records.len() + begun) as u64
    }
}

impl Iterator for TraceFrames {
    type Item = TraceFrame;

    fn next(&mut self) -> Option<TraceFrame> {
        let mut scopes: BTreeMap<Kind, Vec<Span>> = BTreeMap::new();
        let (mut size, mut traces) = (0, 0);
        while size < FRAME_MAX {
            let Some(span) = self.spans.next() else {
                let Some(record) = self.records.next() else {
                    break;
                };
                self.kind = record.kind;
                self.spans = self.frames.spans(&record).into_iter();
                continue;
            };
            size += span.encoded_len();
            scopes.entry(self.kind).or_default().push(span);
            traces += u64::from(self.spans.len() == 0);
        }
        (!scopes.is_empty()).then(|| TraceFrame {
            bytes: self.frames.frame(scopes),
            traces,
        })
    }
}

fn link_to(span: &Span) -> span::Link {
    span::Link {
        trace_id: span.trace_id.clone(),
        span_id: span.span_id.clone(),
        ..span::Link::default()
    }
}

/// How many spans of a frame the collector did not take, by its answer. An answer that can't be
/// read says nothing of that.
#[must_use]
pub fn rejected_spans(answer: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let rejected = answer.partial_success.map(|part| part.rejected_spans);
    rejected
        .and_then(|count| u64::try_from(count).ok())
        .unwrap_or(0)
}

/// The id of a span has 8 bytes.
fn short(id: [u8; 16]) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h, ..] = id;
    vec![a, b, c, d, e, f, g, h]
}

fn attributes(record: &Record) -> Vec<KeyValue> {
    let mut attributes = vec![attribute("postrider.span", number(record.span))];
    if !record.session.is_empty() {
        let session = Any::StringValue(record.session.clone());
        attributes.push(attribute("postrider.session", session));
    }
    attributes
}

fn shown(event: &Event) -> span::Event {
    let values = event.values.iter();
    span::Event {
        time_unix_nano: nanos(event.micros),
        name: event.event.name().to_owned(),
        attributes: values
            .map(|(key, value)| attribute(key.name(), any(value)))
            .collect(),
        ..span::Event::default()
    }
}

fn any(value: &Value) -> Any {
    match value {
        Value::Text(text) => Any::StringValue(text.clone()),
        Value::Number(value) => number(*value),
        Value::Bool(flag) => Any::BoolValue(*flag),
        Value::Time(micros) => {
            let time = jiff::Timestamp::from_microsecond(*micros).unwrap_or_default();
            Any::StringValue(time.to_string())
        }
        Value::List(values) => Any::ArrayValue(ArrayValue {
            values: values
                .iter()
                .map(|value| AnyValue {
                    value: Some(any(value)),
                })
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;
    use crate::trace::{Keep, Term, Trace, Tracer, TracerSettings};

    /// Fills in a trace.
    type Fill<'a> = &'a dyn Fn(&mut Trace);

    /// Traces that these functions fill in, as the tracer hands them over.
    fn records(fill: &[(Kind, Fill<'_>)]) -> Vec<Arc<Record>> {
        let (tracer, handed_over) = Tracer::new(TracerSettings::default());
        for (number, (kind, fill)) in (0..).zip(fill) {
            let mut trace = tracer.start(*kind, 1_000_000 * number);
            fill(&mut trace);
            tracer.finish(trace, Keep::Always);
        }
        handed_over.take().into_iter().map(Arc::new).collect()
    }

    fn decoded(frame: &[u8]) -> Vec<Span> {
        let request = ExportTraceServiceRequest::decode(frame).unwrap();
        let spans = request.resource_spans.into_iter();
        let spans = spans.flat_map(|it| it.scope_spans).flat_map(|it| it.spans);
        spans.collect()
    }

    /// The spans of all frames.
    fn spans_of(records: Vec<Arc<Record>>) -> Vec<Span> {
        let made = frames().traces(records);
        made.flat_map(|frame| decoded(&frame.bytes)).collect()
    }

    fn frames() -> Frames {
        Frames::new("mail.example.org", "1.2.3")
    }

    #[test]
    fn a_story_is_one_trace() {
        let queue = |trace: &mut Trace, queue: u64| {
            trace.index(Term::Queue(queue));
            trace.event(5, EventType::QueueQueueMessageAuthenticated, |data| {
                data.number(Key::QueueId, queue);
            });
        };
        let records = records(&[
            (Kind::Session, &|trace| {
                trace.index(Term::Session("7h3kq0v9x2mc.1"));
                trace.event(1, EventType::SmtpEhlo, |_| {});
                queue(trace, 7301);
                queue(trace, 7302);
            }),
            (Kind::Attempt, &|trace| trace.index(Term::Queue(7302))),
            (Kind::Webhook, &|trace| trace.index(Term::Queue(7302))),
            (Kind::Session, &|_| {}),
        ]);
        let spans = spans_of(records);
        let root = |queue: u64| short(frames().id(("root", queue)));
        let story = |queue: u64| -> Vec<&Span> {
            let id = frames().id(("message", queue));
            spans.iter().filter(|span| span.trace_id == id).collect()
        };
        let [session] = story(7301)[..] else {
            panic!("{spans:?}");
        };
        assert_eq!(
            (&session.span_id, session.parent_span_id.len()),
            (&root(7301), 0)
        );
        let of_7302 = story(7302);
        let parts: Vec<_> = { of_7302.iter() }
            .map(|span| (&*span.name, span.kind, span.parent_span_id.clone()))
            .collect();
        let (server, client): (i32, i32) =
            (span::SpanKind::Server.into(), span::SpanKind::Client.into());
        let expected = [
            ("session", server, Vec::new()),
            ("attempt", client, root(7302)),
            ("webhook", client, root(7302)),
        ];
        assert_eq!(parts, expected);
        // The session with two messages stands alone too, with what is about neither of them.
        let whole = spans.iter().find(|span| span.links.len() == 2).unwrap();
        assert_eq!((whole.events.len(), session.events.len()), (3, 1));
        assert_eq!(whole.links[0], link_to(session));
        assert_eq!(session.links, [link_to(whole)]);
        assert_eq!(spans.len(), 6, "the session without a message stands alone");
        let mut ids: Vec<_> = spans.iter().map(|span| span.span_id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 6);
        assert!(ids.iter().all(|id| id.len() == 8));
    }

    /// Calls for 200 messages each, as one call for 12,800 messages makes them. Each message keeps
    /// the span that its attempts name, and no event is sent for messages that it is not about.
    #[test]
    fn a_call_for_many_messages_sends_each_event_twice_at_most() {
        let next = std::cell::Cell::new(0);
        let fill = |trace: &mut Trace| {
            let first = next.get();
            next.set(first + 200);
            for queue in first..first + 200 {
                trace.index(Term::Queue(queue));
                trace.event(5, EventType::QueueQueueMessage, |data| {
                    data.number(Key::QueueId, queue);
                    data.display(Key::To, format_args!("recipient-{queue}@remote.test"));
                });
            }
        };
        let fill: Fill<'_> = &fill;
        let records = records(&[(Kind::Api, fill); 64]);
        let size: usize = records.iter().map(|it| it.memory()).sum();
        let mut left = frames().traces(records);
        assert_eq!(left.left(), 64);
        let (mut sent, mut traces, mut roots) = (0, 0, BTreeSet::new());
        while let Some(frame) = left.next() {
            assert!(
                frame.bytes.len() < FRAME_MAX + (256 << 10),
                "{}",
                frame.bytes.len()
            );
            sent += frame.bytes.len();
            traces += frame.traces;
            assert_eq!(left.left() + traces, 64);
            roots.extend(decoded(&frame.bytes).into_iter().map(|span| span.span_id));
        }
        assert_eq!(traces, 64);
        assert!(sent < 12 * size, "{sent} bytes for {size}");
        for queue in 0..12_800_u64 {
            let root = short(frames().id(("root", queue)));
            assert!(roots.contains(&root), "{queue}");
        }
    }

    #[test]
    fn a_trace_has_its_events_and_values() {
        let records = records(&[(Kind::Attempt, &|trace| {
            trace.event(1_500_000, EventType::SmtpMailFrom, |data| {
                data.text(Key::From, "a@b.test");
                data.number(Key::Size, 12);
                data.flag(Key::Tls, true);
                data.time(Key::NextRetry, 1_772_355_600_000_000);
                data.texts(Key::To, ["x@y.test", "z@y.test"]);
            });
        })]);
        let spans = spans_of(records);
        let [span] = spans.as_slice() else {
            panic!("{spans:?}");
        };
        assert_eq!(
            (span.start_time_unix_nano, span.end_time_unix_nano),
            (0, 1_500_000_000)
        );
        let [event] = span.events.as_slice() else {
            panic!("{span:?}");
        };
        assert_eq!(
            (&*event.name, event.time_unix_nano),
            ("smtp.mail-from", 1_500_000_000)
        );
        let text = |text: &str| Any::StringValue(text.to_owned());
        let to = ["x@y.test", "z@y.test"].map(|it| AnyValue {
            value: Some(text(it)),
        });
        let expected = [
            attribute("from", text("a@b.test")),
            attribute("size", Any::IntValue(12)),
            attribute("tls", Any::BoolValue(true)),
            attribute("nextRetry", text("2026-03-01T09:00:00Z")),
            attribute("to", Any::ArrayValue(ArrayValue { values: to.into() })),
        ];
        assert_eq!(event.attributes, expected);
    }

    #[test]
    fn the_collector_says_what_it_did_not_take() {
        let answer = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 2,
                error_message: String::new(),
            }),
        };
        assert_eq!(rejected_spans(&answer.encode_to_vec()), 2);
        assert_eq!(rejected_spans(b"<html>"), 0);
    }
}
