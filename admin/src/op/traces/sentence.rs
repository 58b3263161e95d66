//! An event in words, for people.

use std::fmt::Write as _;

use postrider_observe::trace::{Event, EventType, Key, Value};
use postrider_store::Time;

/// What the start of a trace does not say again: the title of a story, the place of its name, and
/// the values of the event have it.
const OF_START: &[Key] = &[
    Key::AccountName,
    Key::Attempt,
    Key::From,
    Key::Id,
    Key::ListenerId,
    Key::LocalIp,
    Key::LocalPort,
    Key::MessageId,
    Key::QueueId,
    Key::QueueName,
    Key::RemoteIp,
    Key::RemotePort,
    Key::Session,
    Key::Size,
    Key::SpanId,
    Key::To,
    Key::Type,
    Key::Url,
];

/// An event in words, on one line.
pub(super) fn sentence(event: &Event) -> String {
    let mut out = String::new();
    let families = [begin, of_delivery, of_end];
    let mut families = families.iter();
    let used = families.find_map(|family| family(event, &mut out));
    let used = used.unwrap_or_else(|| {
        out.push_str(event.event.text());
        &[Key::SpanId]
    });
    let rest = event.values.iter().filter(|(key, _)| !used.contains(key));
    for (at, (key, value)) in rest.enumerate() {
        // The first value behind a bare name of what happened stands behind a colon.
        let mark = if at == 0 && is_plain(used) { ":" } else { "," };
        let _ = write!(out, "{mark} ");
        add(&mut out, *key, value);
    }
    out
}

fn text(event: &Event, key: Key) -> &str {
    event.text(key).unwrap_or_default()
}

/// The first event of a trace. Gives the keys whose values need no further words. None: it is
/// another event. So do the other families.
fn begin(event: &Event, out: &mut String) -> Option<&'static [Key]> {
    match event.event {
        EventType::SmtpConnectionStart => {
            let _ = write!(out, "session from {}", text(event, Key::RemoteIp));
            add_texts(out, event, &[("", Key::ListenerId)]);
        }
        EventType::DeliveryAttemptStart => {
            out.push_str("attempt");
            if let Some(number) = event.number(Key::Attempt) {
                let _ = write!(out, " {number}");
            }
            let queue = text(event, Key::QueueName);
            let queue = if queue.is_empty() { "direct" } else { queue };
            let _ = write!(out, ", {queue}");
            if let Some(Value::List(list)) = event.value(Key::To)
                && list.len() > 1
            {
                let _ = write!(out, ", to {} recipients", list.len());
            }
        }
        EventType::PostriderApiStart => {
            out.push_str(text(event, Key::Type));
            let values = [("account ", Key::AccountName), ("from ", Key::RemoteIp)];
            add_texts(out, event, &values);
        }
        EventType::PostriderWebhookStart => {
            out.push_str("webhook");
            if let Some(id) = event.number(Key::Id) {
                let _ = write!(out, " {id}");
            }
            add_texts(out, event, &[("", Key::Type), ("", Key::Url)]);
        }
        _ => return None,
    }
    Some(OF_START)
}

/// Adds the texts that the event has, each behind a comma and a word.
fn add_texts(out: &mut String, event: &Event, values: &[(&str, Key)]) {
    for (word, key) in values {
        let text = text(event, *key);
        if !text.is_empty() {
            let _ = write!(out, ", {word}{text}");
        }
    }
}

/// What happens at a host.
fn of_delivery(event: &Event, out: &mut String) -> Option<&'static [Key]> {
    match event.event {
        EventType::DeliveryRawOutput => {
            let _ = write!(out, "C: {}", text(event, Key::Contents));
            Some(&[Key::Contents])
        }
        EventType::DeliveryRawInput => {
            let _ = write!(out, "S: {}", text(event, Key::Contents));
            Some(&[Key::Contents])
        }
        EventType::DeliveryConnect => {
            out.push_str(&host(event));
            Some(&[Key::Hostname, Key::RemoteIp, Key::RemotePort])
        }
        _ => None,
    }
}

/// What became of a message or a call, and of the trace itself.
fn of_end(event: &Event, out: &mut String) -> Option<&'static [Key]> {
    match event.event {
        EventType::QueueQueueMessage | EventType::QueueQueueMessageAuthenticated => {
            out.push_str("queued");
            if let Some(id) = event.number(Key::QueueId) {
                let _ = write!(out, " as {id}");
            }
            if let Some(size) = event.number(Key::Size) {
                let _ = write!(out, ", {size} bytes");
            }
            Some(&[Key::QueueId, Key::Size])
        }
        EventType::DeliveryFailed => {
            let class = event.text(Key::Class)?;
            let _ = write!(out, "failed: {class}");
            Some(&[Key::Class])
        }
        EventType::PostriderWebhookEnd => {
            let code = event.number(Key::Code).filter(|code| *code > 0);
            let _ = match code {
                Some(code) => write!(out, "{code}"),
                None => write!(out, "no answer"),
            };
            Some(&[Key::Id, Key::Code])
        }
        EventType::PostriderLeftOut => {
            let total = event.number(Key::Total).unwrap_or_default();
            let _ = write!(out, "{total} events were left out");
            Some(&[Key::Total])
        }
        _ => None,
    }
}

/// Whether the sentence has no values yet.
const fn is_plain(used: &[Key]) -> bool {
    matches!(used, [Key::SpanId])
}

/// A host with its address and port.
fn host(event: &Event) -> String {
    let (name, address) = (event.text(Key::Hostname), event.text(Key::RemoteIp));
    let mut out = match (name, address) {
        (Some(name), Some(address)) => format!("{name} [{address}]"),
        (Some(it), None) | (None, Some(it)) => it.to_owned(),
        (None, None) => "connected".to_owned(),
    };
    if let Some(port) = event.number(Key::RemotePort) {
        let _ = write!(out, ":{port}");
    }
    out
}

fn add(out: &mut String, key: Key, value: &Value) {
    let name = match key {
        Key::AccountName => "account ",
        Key::Elapsed => {
            if let Value::Number(elapsed) = value {
                let _ = write!(out, "after {elapsed} ms");
                return;
            }
            "elapsed "
        }
        Key::From => "from ",
        Key::To => "to ",
        Key::Size => {
            if let Value::Number(size) = value {
                let _ = write!(out, "{size} bytes");
                return;
            }
            "size "
        }
        Key::QueueId => "message ",
        Key::RemoteIp => "address ",
        Key::NextRetry => "next attempt ",
        Key::MessageId => "Message-ID ",
        Key::Tls => match value {
            Value::Bool(true) => return out.push_str("with TLS"),
            Value::Bool(false) => return out.push_str("without TLS"),
            _ => "TLS ",
        },
        Key::Code
        | Key::Details
        | Key::Reason
        | Key::Contents
        | Key::Domain
        | Key::Hostname
        | Key::Url
        | Key::Version
        | Key::Class
        | Key::Type => "",
        key => {
            let _ = write!(out, "{} ", key.name());
            ""
        }
    };
    out.push_str(name);
    add_value(out, key, value);
}

fn add_value(out: &mut String, key: Key, value: &Value) {
    match value {
        Value::Text(text) if matches!(key, Key::From | Key::To) => {
            let _ = write!(out, "<{text}>");
        }
        Value::Text(text) => out.push_str(text),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Bool(flag) => out.push_str(if *flag { "yes" } else { "no" }),
        Value::Time(micros) => {
            let _ = write!(out, "{}", Time(*micros));
        }
        Value::List(list) => {
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                add_value(out, key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_in_words() {
        let text = |text: &str| Value::Text(text.to_owned());
        let number = Value::Number;
        for (event, values, expected) in [
            (
                EventType::SmtpConnectionStart,
                vec![
                    (Key::RemoteIp, text("192.0.2.10")),
                    (Key::RemotePort, number(4711)),
                    (Key::ListenerId, text("smtp")),
                ],
                "session from 192.0.2.10, smtp",
            ),
            (
                EventType::QueueQueueMessage,
                vec![(Key::QueueId, number(7301)), (Key::Size, number(1451))],
                "queued as 7301, 1451 bytes",
            ),
            (
                EventType::DeliveryAttemptStart,
                vec![(Key::Attempt, number(1)), (Key::QueueId, number(7301))],
                "attempt 1, direct",
            ),
            (
                EventType::DeliveryAttemptStart,
                vec![
                    (
                        Key::To,
                        Value::List(vec![text("a@b.test"), text("c@b.test")]),
                    ),
                    (Key::QueueName, text("hub")),
                    (Key::Attempt, number(2)),
                ],
                "attempt 2, hub, to 2 recipients",
            ),
            (
                EventType::PostriderApiStart,
                vec![
                    (Key::Session, text("7h3kq0v9x2mc")),
                    (Key::Type, text("Send")),
                    (Key::RemoteIp, text("192.0.2.10")),
                    (Key::AccountName, text("app")),
                ],
                "Send, account app, from 192.0.2.10",
            ),
            (
                EventType::PostriderWebhookEnd,
                vec![
                    (Key::Id, number(912)),
                    (Key::Code, number(200)),
                    (Key::Elapsed, number(25)),
                ],
                "200, after 25 ms",
            ),
            (
                EventType::DeliveryConnect,
                vec![
                    (Key::Hostname, text("mx.remote.test")),
                    (Key::RemoteIp, text("198.51.100.7")),
                    (Key::RemotePort, number(25)),
                    (Key::Elapsed, number(3)),
                ],
                "mx.remote.test [198.51.100.7]:25, after 3 ms",
            ),
            (
                EventType::DeliveryRawInput,
                vec![(Key::Contents, text("550 5.1.1 gone"))],
                "S: 550 5.1.1 gone",
            ),
            (
                EventType::SmtpRcptTo,
                vec![(Key::To, text("a@b.test")), (Key::Code, number(250))],
                "RCPT TO: to <a@b.test>, 250",
            ),
            (
                EventType::DeliveryFailed,
                vec![
                    (Key::Class, text("unknown_mailbox")),
                    (Key::Details, text("gone")),
                ],
                "failed: unknown_mailbox, gone",
            ),
            (
                EventType::PostriderLeftOut,
                vec![(Key::Total, number(3))],
                "3 events were left out",
            ),
            (EventType::SmtpQuit, vec![], "QUIT"),
            (
                EventType::PostriderWebhookStart,
                vec![
                    (Key::Id, number(912)),
                    (Key::Type, text("failed")),
                    (Key::Url, text("https://app.sender.test/hook")),
                ],
                "webhook 912, failed, https://app.sender.test/hook",
            ),
            (
                EventType::SmtpEhlo,
                vec![
                    (Key::Tls, Value::Bool(true)),
                    (Key::NextRetry, Value::Time(0)),
                ],
                "EHLO or HELO: with TLS, next attempt 1970-01-01T00:00:00Z",
            ),
        ] {
            let event = Event {
                micros: 0,
                event,
                values,
            };
            assert_eq!(sentence(&event), expected);
        }
    }
}
