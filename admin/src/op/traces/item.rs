//! Traces and events as the faces show them.

use std::net::IpAddr;

use postrider_observe::trace::{Event, EventType, Key, Kind, Record, Value};
use postrider_store::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::sentence::sentence;

/// A trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceItem {
    /// Its number.
    pub id: u64,
    /// `session`, `attempt`, `webhook` or `api`.
    pub kind: String,
    /// When it started, in RFC 3339.
    pub start: String,
    /// When its last event was, in RFC 3339.
    pub end: String,
    /// The name of the session or the call; empty: it has none.
    pub session: String,
    /// The accounts that it belongs to.
    pub accounts: Vec<String>,
    /// The ids of the queued messages that it is about.
    pub queue_ids: Vec<u64>,
    /// What happened, oldest first.
    pub events: Vec<TraceEvent>,
}

/// An event of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// What its type means.
    pub text: String,
    /// The event in words.
    pub details: String,
    /// When it happened, in RFC 3339.
    #[serde(rename = "createdAt")]
    pub created_at: String,
    /// Its type, such as `smtp.rcpt-to`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its values, with names that Stalwart has too.
    pub data: Map<String, serde_json::Value>,
    /// Its values with names of ours.
    #[serde(flatten)]
    pub ours: Map<String, serde_json::Value>,
}

impl TraceItem {
    /// A trace with all its events.
    pub(super) fn whole(record: &Record) -> Self {
        let mut events: Vec<_> = record.events().map(|event| shown_event(&event)).collect();
        if let Some(first) = events.first_mut() {
            first.number(record.span);
        }
        Self::with(record, events)
    }

    /// A trace with the event that says most: one of the wanted types, else how a message was
    /// queued, or the start of an attempt, else the first. It has sender, recipient and size, if
    /// any event has them.
    pub(super) fn brief(record: &Record, types: &[String]) -> Self {
        let mut events = record.events();
        let mut best: Option<(u8, Event)> = None;
        let mut known: Vec<(Key, Value)> = Vec::new();
        for event in &mut events {
            for (key, value) in &event.values {
                let is_wanted = matches!(key, Key::From | Key::To | Key::Size);
                if is_wanted && !known.iter().any(|(it, _)| it == key) {
                    known.push((*key, value.clone()));
                }
            }
            let rank = if types.iter().any(|name| name == event.event.name()) {
                3
            } else if is_main(event.event) {
                2
            } else {
                1
            };
            if best.as_ref().is_none_or(|(best, _)| *best < rank) {
                best = Some((rank, event));
            }
        }
        let event = best.map(|(_, mut event)| {
            known.retain(|(key, _)| event.value(*key).is_none());
            let mut shown = shown_event(&event);
            event.values = known;
            shown.data.extend(data(&event.values, false));
            shown.number(record.span);
            shown
        });
        Self::with(record, event.into_iter().collect())
    }

    fn with(record: &Record, events: Vec<TraceEvent>) -> Self {
        Self {
            id: record.span,
            kind: record.kind.name().to_owned(),
            start: Time(record.started).to_string(),
            end: Time(record.ended).to_string(),
            session: record.session.clone(),
            accounts: record.owners.clone(),
            queue_ids: record.queues.clone(),
            events,
        }
    }
}

impl TraceEvent {
    /// Adds the number of the trace.
    fn number(&mut self, span: u64) {
        self.data.insert(Key::SpanId.name().to_owned(), json!(span));
    }
}

/// Whether events of this type say what a trace is about.
const fn is_main(event: EventType) -> bool {
    matches!(
        event,
        EventType::QueueQueueMessage
            | EventType::QueueQueueMessageAuthenticated
            | EventType::QueueQueueDsn
            | EventType::DeliveryAttemptStart
    )
}

/// An event as the faces show it.
#[must_use]
pub fn shown_event(event: &Event) -> TraceEvent {
    TraceEvent {
        text: event.event.text().to_owned(),
        details: sentence(event),
        created_at: Time(event.micros).to_string(),
        kind: event.event.name().to_owned(),
        data: data(&event.values, false),
        ours: data(&event.values, true),
    }
}

/// What a value of an event has to be, so that the event is about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This IP address.
    Ip(IpAddr),
    /// This mail address, in lower case.
    Address(String),
    /// A text with this part, in lower case.
    Part(String),
}

impl Wanted {
    /// What somebody typed. A whole address means itself, and no longer one that has it as a part.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if let Ok(ip) = text.trim().parse::<IpAddr>() {
            return Self::Ip(ip.to_canonical());
        }
        let text = text.to_lowercase();
        match is_address(&text) {
            true => Self::Address(text),
            false => Self::Part(text),
        }
    }

    /// Whether one of the values of an event with this key is wanted.
    #[must_use]
    pub fn is_in(&self, event: &Event, key: Key) -> bool {
        let mut values = event.values.iter().filter(|(it, _)| *it == key);
        values.any(|(_, value)| match value {
            Value::List(list) => list.iter().any(|value| self.is(value)),
            value => self.is(value),
        })
    }

    fn is(&self, value: &Value) -> bool {
        match value {
            Value::Text(text) => self.is_text(text),
            Value::Number(number) => self.is_word(&number.to_string()),
            Value::Bool(flag) => self.is_word(if *flag { "true" } else { "false" }),
            Value::Time(micros) => self.is_text(&Time(*micros).to_string()),
            Value::List(_) => false,
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Part(part) if part == word)
    }

    /// Longer texts may have addresses somewhere.
    fn is_text(&self, text: &str) -> bool {
        match self {
            Self::Ip(wanted) => match text.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical() == *wanted,
                Err(_) => has_word(text, &wanted.to_string()),
            },
            Self::Address(wanted) => {
                let text = text.to_lowercase();
                match is_address(&text) {
                    true => text == *wanted,
                    false => has_word(&text, wanted),
                }
            }
            Self::Part(part) => text.to_lowercase().contains(part),
        }
    }
}

/// Whether a text is a mail address and nothing else, by its looks.
fn is_address(text: &str) -> bool {
    let sides = text.rsplit_once('@');
    sides.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.contains(|c: char| c.is_whitespace() || "<>,;".contains(c))
}

/// Whether a text has a word, between characters that can't be in it.
fn has_word(text: &str, word: &str) -> bool {
    let mut words = text.split(|c: char| c.is_whitespace() || "<>()[],;".contains(c));
    words.any(|it| it.trim_end_matches('.') == word)
}

/// The values with names of ours, or with those that Stalwart has.
fn data(values: &[(Key, Value)], ours: bool) -> Map<String, serde_json::Value> {
    let wanted = values.iter().filter(|(key, _)| key.is_ours() == ours);
    let shown = wanted.map(|(key, value)| (key.name().to_owned(), shown(value)));
    shown.collect()
}

fn shown(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
        Value::Bool(flag) => json!(flag),
        Value::Time(micros) => json!(Time(*micros).to_string()),
        Value::List(list) => list.iter().map(shown).collect(),
    }
}

/// The word for a kind, for people.
pub(super) const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Session => "session",
        Kind::Attempt => "attempt",
        Kind::Webhook => "webhook",
        Kind::Api => "call",
    }
}

#[cfg(test)]
mod tests {
    use postrider_observe::{
        Keep, Trace, Tracer,
        trace::{Term, TracerSettings},
    };

    use super::*;

    fn record(fill: impl FnOnce(&mut Trace)) -> Record {
        let (tracer, handed_over) = Tracer::new(TracerSettings {
            first_span: 7,
            ..TracerSettings::default()
        });
        let mut trace = tracer.start(Kind::Session, 0);
        fill(&mut trace);
        tracer.finish(trace, Keep::Always);
        handed_over.take().remove(0)
    }

    #[test]
    fn values_have_the_types_of_the_contract() {
        let record = record(|trace| {
            trace.index(Term::Session("abc.1"));
            trace.event(1_000_000, EventType::SmtpRcptTo, |data| {
                data.texts(Key::To, ["a@b.test"]);
                data.flag(Key::Tls, false);
                data.time(Key::NextRetry, 2_000_000);
                data.text(Key::Session, "abc.1");
                data.number(Key::Code, 3);
                data.text(Key::Class, "x");
            });
        });
        let item = TraceItem::whole(&record);
        let event = serde_json::to_value(&item.events[0]).unwrap();
        assert_eq!(
            event,
            json!({
                "text": "RCPT TO",
                "details": event["details"],
                "createdAt": "1970-01-01T00:00:01Z",
                "type": "smtp.rcpt-to",
                "data": {
                    "to": ["a@b.test"],
                    "tls": false,
                    "nextRetry": "1970-01-01T00:00:02Z",
                    "code": 3,
                    "spanId": 7,
                },
                "session": "abc.1",
                "class": "x",
            })
        );
        let back: TraceEvent = serde_json::from_value(event).unwrap();
        assert_eq!(back, item.events[0]);
        assert_eq!((item.id, item.kind.as_str()), (7, "session"));
    }

    #[test]
    fn one_event_of_each_has_sender_recipient_and_size() {
        let record = record(|trace| {
            trace.event(1, EventType::SmtpConnectionStart, |_| {});
            trace.event(2, EventType::SmtpMailFrom, |data| {
                data.text(Key::From, "a@b.test");
                data.number(Key::Size, 9);
            });
            trace.event(3, EventType::SmtpRcptTo, |data| {
                data.text(Key::To, "c@d.test")
            });
            trace.event(4, EventType::QueueQueueMessage, |data| {
                data.number(Key::QueueId, 5);
                data.number(Key::Size, 10);
            });
        });
        let brief = |types: &[&str]| {
            let types: Vec<String> = types.iter().map(|name| (*name).to_owned()).collect();
            let item = TraceItem::brief(&record, &types);
            assert_eq!(item.events.len(), 1);
            item.events[0].clone()
        };
        let event = brief(&[]);
        assert_eq!(event.kind, "queue.queue-message");
        let data =
            json!({"queueId": 5, "size": 10, "from": "a@b.test", "to": "c@d.test", "spanId": 7});
        assert_eq!(serde_json::Value::Object(event.data), data);
        let event = brief(&["smtp.connection-start"]);
        assert_eq!(event.kind, "smtp.connection-start");
        assert_eq!(event.data["size"], 9);
    }

    #[test]
    fn an_event_is_about_what_its_values_have() {
        let record = record(|trace| {
            trace.event(1, EventType::SmtpRcptTo, |data| {
                data.texts(Key::To, ["Ann@b.test", "x@y.test"]);
                data.number(Key::QueueId, 12);
                data.text(Key::RemoteIp, "192.0.2.10");
                data.text(Key::Reason, "<ann@b.test> from [192.0.2.10] waits");
                data.flag(Key::Tls, true);
                data.time(Key::NextRetry, 0);
            });
        });
        let event = record.events().next().unwrap();
        for (key, text, is) in [
            (Key::To, "ann@b", false),
            (Key::To, "nn@b.test", false),
            (Key::To, "ANN@b.test", true),
            (Key::To, "ann@", true),
            (Key::To, "@b.test", true),
            (Key::To, "y.test", true),
            (Key::From, "ann@b.test", false),
            (Key::QueueId, "12", true),
            (Key::QueueId, "1", false),
            (Key::RemoteIp, "192.0.2.1", false),
            (Key::RemoteIp, "192.0.2.10", true),
            (Key::RemoteIp, "::ffff:192.0.2.10", true),
            (Key::RemoteIp, "192.0.2.", true),
            (Key::Reason, "ann@b.test", true),
            (Key::Reason, "n@b.test", false),
            (Key::Reason, "192.0.2.10", true),
            (Key::Reason, "192.0.2.1", false),
            (Key::Reason, "waits", true),
            (Key::Tls, "true", true),
            (Key::Tls, "false", false),
            (Key::NextRetry, "1970-01-01", true),
        ] {
            assert_eq!(Wanted::new(text).is_in(&event, key), is, "{key:?} {text}");
        }
    }
}
