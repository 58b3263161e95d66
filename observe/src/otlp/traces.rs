//! Traces, for `/v1/traces`. The story of a message is one trace of OpenTelemetry.
//!
//! The session or the call that queued a message is the root of its story: a SERVER span. Attempts
//! and webhook calls are CLIENT spans below it. A trace that is about several messages has a span
//! in the story of each. A trace about none is a story of its own. All ids come from the names of
//! the server, the message and the trace, so the parts of a story find each other after a restart
//! too.

use std::{collections::BTreeMap, hash::Hash, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    trace::v1::{ResourceSpans, ScopeSpans, Span, span},
};
use prost::Message;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::{Frames, attribute, nanos, number};
use crate::trace::{Event, EventType, Key, Kind, Record, Value};

/// The most stories that a trace is a part of.
const STORIES_MAX: usize = 64;

impl Frames {
    /// The frame with these traces.
    #[must_use]
    pub fn traces(&self, records: &[Arc<Record>]) -> Vec<u8> {
        let mut scopes: BTreeMap<Kind, Vec<Span>> = BTreeMap::new();
        for record in records {
            let spans = scopes.entry(record.kind).or_default();
            spans.extend(self.spans(record));
        }
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

    /// The spans of a trace: one for each story.
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
        let roots: Vec<u64> = { events.iter().filter(|event| queued(event)) }
            .filter_map(|event| event.number(Key::QueueId))
            .collect();
        let span = Span {
            name: record.kind.name().to_owned(),
            kind: match record.kind {
                Kind::Session | Kind::Api => span::SpanKind::Server.into(),
                Kind::Attempt | Kind::Webhook => span::SpanKind::Client.into(),
            },
            start_time_unix_nano: nanos(record.started),
            end_time_unix_nano: nanos(record.ended),
            attributes: attributes(record),
            events: events.iter().map(shown).collect(),
            ..Span::default()
        };
        if record.queues.is_empty() {
            return vec![Span {
                trace_id: self.id(("trace", record.span)).into(),
                span_id: short(self.id(("span", record.span, 0))),
                ..span
            }];
        }
        let stories = record.queues.iter().take(STORIES_MAX);
        let stories = stories.map(|queue| {
            let root = short(self.id(("root", *queue)));
            let (span_id, parent_span_id) = match roots.contains(queue) {
                true => (root, Vec::new()),
                false => (short(self.id(("span", record.span, *queue))), root),
            };
            Span {
                trace_id: self.id(("message", *queue)).into(),
                span_id,
                parent_span_id,
                ..span.clone()
            }
        });
        stories.collect()
    }

    /// An id of 16 bytes.
    fn id(&self, of: impl Hash) -> [u8; 16] {
        let mut hasher = SipHasher13::new();
        (&self.host, of).hash(&mut hasher);
        hasher.finish128().as_u128().to_be_bytes()
    }
}

/// How many traces of a frame the collector did not take, by its answer. An answer that can't be
/// read says nothing of that.
#[must_use]
pub fn rejected_traces(answer: &[u8]) -> u64 {
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
                queue(trace, 7301);
                queue(trace, 7302);
            }),
            (Kind::Attempt, &|trace| trace.index(Term::Queue(7302))),
            (Kind::Webhook, &|trace| trace.index(Term::Queue(7302))),
            (Kind::Session, &|_| {}),
        ]);
        let spans = decoded(&frames().traces(&records));
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
        assert_eq!(spans.len(), 5, "the session without a message stands alone");
        let mut ids: Vec<_> = spans.iter().map(|span| span.span_id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
        assert!(ids.iter().all(|id| id.len() == 8));
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
        let spans = decoded(&frames().traces(&records));
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
        assert_eq!(rejected_traces(&answer.encode_to_vec()), 2);
        assert_eq!(rejected_traces(b"<html>"), 0);
    }
}
