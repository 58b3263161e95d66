//! The name of what a line of the log tells of, as a type of events of traces.

use std::borrow::Cow;

use super::line::{Line, Value, part};
use crate::trace::EventType;

/// The longest name of a line without an event, in bytes.
const NAME_MAX: usize = 80;

/// The lines that are about an event of traces: they say so themselves, or by their fixed words.
fn event(line: &Line) -> Option<EventType> {
    if line.event.is_some() {
        return line.event;
    }
    let is = |field: &str, values: &[&str]| match line.field(field) {
        Some(Value::Text(text)) => values.contains(&&**text),
        _ => false,
    };
    Some(match line.message.as_str() {
        "accepted" if is("by", &["submission", "webapi"]) => {
            EventType::QueueQueueMessageAuthenticated
        }
        "accepted" if line.field("queue").is_some() => EventType::QueueQueueMessage,
        "accepted" if is("verdict", &["junk"]) => EventType::MessageIngestSpam,
        "accepted" => EventType::MessageIngestHam,
        "delivered" => EventType::DeliveryDelivered,
        "deferred" => EventType::QueueRescheduled,
        "failed" => EventType::DeliveryFailed,
        "suppressed" => EventType::PostriderSuppressed,
        "canceled" | "held" | "released" | "changed" | "messages changed" | "messages ended" => {
            EventType::PostriderChanged
        }
        "dsn sent" if is("action", &["failed"]) => EventType::DeliveryDsnPermFail,
        "dsn sent" if is("action", &["delayed"]) => EventType::DeliveryDsnTempFail,
        "dsn sent" => EventType::DeliveryDsnSuccess,
        "complaint" => EventType::IncomingReportAbuseReport,
        "report received" if is("kind", &["dmarc"]) => EventType::IncomingReportDmarcReport,
        "report received" if is("kind", &["tls"]) => EventType::IncomingReportTlsReport,
        "report received" => EventType::IncomingReportAbuseReport,
        "login" => EventType::AuthSuccess,
        "login refused" => EventType::AuthFailed,
        "logins limited" => EventType::AuthTooManyAttempts,
        "webhook called" | "webhook failed" | "webhook given up" => EventType::PostriderWebhookEnd,
        _ => return None,
    })
}

/// The name of what a line tells of, such as `delivery.delivered`. A line of ours that is about no
/// event is named by its words: `postrider.site-state`. One of a library is named by the part of
/// the library, since values may be in its words.
#[must_use]
pub(super) fn name(line: &Line) -> Cow<'static, str> {
    let is_ours = line.target == "postrider"
        || line.target.starts_with("postrider_")
        || line.target.starts_with("postrider::");
    if !is_ours {
        return part(&line.target).into();
    }
    if let Some(event) = event(line) {
        return event.name().into();
    }
    let mut name = "postrider".to_owned();
    let words = line.message.split(|c: char| !c.is_ascii_alphanumeric());
    for (at, word) in words.filter(|word| !word.is_empty()).enumerate() {
        if name.len() + 1 + word.len() > NAME_MAX {
            break;
        }
        name.push(if at == 0 { '.' } else { '-' });
        name.push_str(&word.to_ascii_lowercase());
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::{super::line::Level, *};

    #[test]
    fn lines_are_named_as_events_or_by_their_words() {
        for (target, message, fields, expected) in [
            (
                "postrider_receive::observer::taken",
                "accepted",
                &[("by", "smtp"), ("queue", "7"), ("mail", "8")][..],
                "queue.queue-message",
            ),
            (
                "postrider_receive::observer::taken",
                "accepted",
                &[("by", "smtp"), ("mail", "8"), ("verdict", "inbox")],
                "message-ingest.ham",
            ),
            (
                "postrider_receive::observer::taken",
                "accepted",
                &[("by", "smtp"), ("mail", "8"), ("verdict", "junk")],
                "message-ingest.spam",
            ),
            ("postrider::listener", "refused", &[], "postrider.refused"),
            (
                "postrider_webapi::send::taken",
                "accepted",
                &[("by", "webapi")],
                "queue.queue-message-authenticated",
            ),
            (
                "postrider_queue::observed",
                "delivered",
                &[],
                "delivery.delivered",
            ),
            (
                "postrider_queue::observed",
                "deferred",
                &[],
                "queue.rescheduled",
            ),
            (
                "postrider_queue::observed",
                "dsn sent",
                &[("action", "delayed")],
                "delivery.dsn-temp-fail",
            ),
            (
                "postrider_receive::reports::worker",
                "report received",
                &[("kind", "tls")],
                "incoming-report.tls-report",
            ),
            (
                "postrider_receive::login",
                "login refused",
                &[],
                "auth.failed",
            ),
            ("postrider::server", "started", &[], "postrider.started"),
            (
                "postrider_store::table",
                "record set aside: it cannot be read",
                &[],
                "postrider.record-set-aside-it-cannot-be-read",
            ),
            ("postrider_store", "", &[], "postrider"),
            ("rustls::client", "delivered 5 bytes", &[], "rustls.client"),
            ("postriders", "accepted", &[], "postriders"),
        ] {
            let line = Line {
                micros: 0,
                level: Level::Info,
                target: target.into(),
                message: message.to_owned(),
                event: None,
                fields: fields
                    .iter()
                    .map(|(name, value)| (*name, Value::Text((*value).into())))
                    .collect(),
            };
            assert_eq!(name(&line), expected, "{target} {message}");
            assert!(line.has(expected), "it is found by its name: {expected}");
        }
        let long = Line {
            micros: 0,
            level: Level::Warn,
            target: "postrider".into(),
            message: "word ".repeat(100),
            event: None,
            fields: Vec::new(),
        };
        assert!(name(&long).len() <= NAME_MAX);
    }
}
