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
    /// queued, or the start of an attempt, else what came into a mailbox, else the first. It has
    /// the sender, the recipients and the size of its message, as far as any event has them.
    pub(super) fn brief(record: &Record, types: &[String]) -> Self {
        let mut best: Option<(u8, Event, usize)> = None;
        let mut messages = vec![Message::default()];
        for event in record.events() {
            if Message::begins_another(&messages, &event) {
                messages.push(Message::default());
            }
            if let Some(message) = messages.last_mut() {
                message.add(&event);
            }
            let rank = match types.iter().any(|name| name == event.event.name()) {
                true => 4,
                false => weight(event.event),
            };
            if best.as_ref().is_none_or(|(best, ..)| *best < rank) {
                best = Some((rank, event, messages.len() - 1));
            }
        }
        let event = best.map(|(_, event, at)| {
            // What was before the first message is shown with that one.
            let mut following = messages.iter().skip(at);
            let message = following.find(|message| message.is_known());
            let mut shown = shown_event(&event);
            if let Some(message) = message {
                message.complete(&mut shown.data);
            }
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

/// How much events of this type say of what a trace is about.
const fn weight(event: EventType) -> u8 {
    match event {
        EventType::QueueQueueMessage
        | EventType::QueueQueueMessageAuthenticated
        | EventType::QueueQueueDsn
        | EventType::DeliveryAttemptStart => 3,
        EventType::MessageIngestHam | EventType::MessageIngestSpam => 2,
        _ => 1,
    }
}

/// What the events of a trace say of one of its messages.
#[derive(Debug, Default)]
struct Message {
    /// The name of its transaction.
    session: Option<String>,
    from: Option<String>,
    /// The recipients that were taken.
    to: Vec<String>,
    /// Those of other events, as of refusals.
    asked_for: Vec<String>,
    size: Option<u64>,
    /// What MAIL said of the size.
    claimed: Option<u64>,
}

impl Message {
    /// Whether an event is about another message than the last one.
    fn begins_another(messages: &[Self], event: &Event) -> bool {
        let last = messages.last();
        let session = last.and_then(|last| last.session.as_deref());
        let is_other = |name| session.is_some_and(|last| last != name);
        match event.event {
            EventType::SmtpMailFrom => last.is_some_and(Self::is_known),
            EventType::QueueQueueMessageAuthenticated => {
                event.text(Key::Session).is_some_and(is_other)
            }
            _ => false,
        }
    }

    fn add(&mut self, event: &Event) {
        let own = |text: &str| Some(text.to_owned());
        if self.from.is_none() {
            self.from = event.text(Key::From).and_then(own);
        }
        let is_claim = event.event == EventType::SmtpMailFrom;
        if is_claim || weight(event.event) > 1 {
            self.session = event
                .text(Key::Session)
                .and_then(own)
                .or(self.session.take());
            let size = match is_claim {
                true => &mut self.claimed,
                false => &mut self.size,
            };
            *size = event.number(Key::Size).or(*size);
        }
        let to = match event.event {
            EventType::SmtpRcptTo => &mut self.to,
            kind if weight(kind) > 1 => &mut self.to,
            _ => &mut self.asked_for,
        };
        let values = event.values.iter().filter(|(key, _)| *key == Key::To);
        for (_, value) in values {
            let values = match value {
                Value::List(list) => list.as_slice(),
                value => std::slice::from_ref(value),
            };
            for value in values {
                if let Value::Text(text) = value
                    && !to.iter().any(|known| known.eq_ignore_ascii_case(text))
                {
                    to.push(text.clone());
                }
            }
        }
    }

    const fn is_known(&self) -> bool {
        self.from.is_some() || !self.to.is_empty() || !self.asked_for.is_empty()
    }

    /// Adds what is known to the values of an event. One recipient is a text, more are an array.
    fn complete(&self, data: &mut Map<String, serde_json::Value>) {
        let to = match self.to.is_empty() {
            true => &self.asked_for,
            false => &self.to,
        };
        // The event itself may be about another one, such as one that was refused.
        let is_other = match data.get(Key::To.name()) {
            Some(serde_json::Value::String(own)) => {
                !to.iter().any(|known| known.eq_ignore_ascii_case(own))
            }
            _ => false,
        };
        let mut add = |key: Key, value: serde_json::Value, replaces: bool| {
            if replaces || !data.contains_key(key.name()) {
                data.insert(key.name().to_owned(), value);
            }
        };
        if let Some(from) = &self.from {
            add(Key::From, json!(from), false);
        }
        match to.as_slice() {
            [] => {}
            [only] => add(Key::To, json!(only), !is_other),
            several => add(Key::To, json!(several), !is_other),
        }
        if let Some(size) = self.size {
            add(Key::Size, json!(size), true);
        } else if let Some(claimed) = self.claimed {
            add(Key::Size, json!(claimed), false);
        }
    }
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
        assert_eq!(event.data["size"], 10, "what MAIL said is no size");
        let event = brief(&["smtp.mail-from"]);
        assert_eq!(event.data["size"], 10);
    }

    #[test]
    fn one_event_has_all_recipients_of_its_message_and_no_others() {
        let session = record(|trace| {
            trace.event(1, EventType::SmtpConnectionStart, |_| {});
            for (name, from, to) in [
                (
                    "abc.1",
                    "a@b.test",
                    &["c@d.test", "e@d.test", "C@d.test"][..],
                ),
                ("abc.2", "b@b.test", &["f@d.test"]),
            ] {
                trace.event(2, EventType::SmtpMailFrom, |data| {
                    data.text(Key::From, from);
                    data.number(Key::Size, 1);
                    data.text(Key::Session, name);
                });
                trace.event(3, EventType::SmtpMailboxDoesNotExist, |data| {
                    data.text(Key::To, "nobody@d.test");
                });
                for to in to {
                    trace.event(4, EventType::SmtpRcptTo, |data| data.text(Key::To, to));
                }
                trace.event(5, EventType::MessageIngestHam, |data| {
                    data.text(Key::To, to[0]);
                    data.number(Key::Size, 77);
                });
            }
            trace.event(6, EventType::SmtpMailFrom, |data| {
                data.text(Key::From, "c@b.test")
            });
            trace.event(7, EventType::SmtpMailboxDoesNotExist, |data| {
                data.text(Key::To, "nobody@d.test");
            });
        });
        let two = json!(["c@d.test", "e@d.test"]);
        for (wanted, from, to, size) in [
            ("", "a@b.test", two.clone(), Some(77)),
            ("smtp.connection-start", "a@b.test", two, Some(77)),
            (
                "smtp.mailbox-does-not-exist",
                "a@b.test",
                json!("nobody@d.test"),
                Some(77),
            ),
        ] {
            let event = TraceItem::brief(&session, &[wanted.to_owned()])
                .events
                .remove(0);
            assert_eq!(
                (&event.data["from"], &event.data["to"]),
                (&json!(from), &to),
                "{wanted}"
            );
            assert_eq!(event.data["size"].as_u64(), size, "{wanted}");
        }
        // The messages of a call are told apart by their names.
        let message = record(|trace| {
            for (name, to) in [
                ("abc.1", "x@y.test"),
                ("abc.1", "z@y.test"),
                ("abc.2", "w@y.test"),
            ] {
                trace.event(1, EventType::QueueQueueMessageAuthenticated, |data| {
                    data.text(Key::From, "a@b.test");
                    data.text(Key::To, to);
                    data.text(Key::Session, name);
                });
            }
        });
        let event = TraceItem::brief(&message, &[]).events.remove(0);
        assert_eq!(event.data["to"], json!(["x@y.test", "z@y.test"]));
        // Of a refused message, only what was asked for is known.
        let message = record(|trace| {
            trace.event(1, EventType::SmtpMailFrom, |data| {
                data.text(Key::From, "a@b.test");
                data.number(Key::Size, 5);
            });
            trace.event(2, EventType::SmtpMailboxDoesNotExist, |data| {
                data.text(Key::To, "nobody@d.test");
            });
        });
        let event = TraceItem::brief(&message, &[]).events.remove(0);
        let data = serde_json::Value::Object(event.data);
        assert_eq!(
            data,
            json!({"from": "a@b.test", "to": "nobody@d.test", "size": 5, "spanId": 7})
        );
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
