//! One transaction of a trace: what happened in it, behind the first steps of its session.

use super::{
    EventType, Key, Record,
    reading::{Event, Reader},
};

impl Record {
    /// The part of the trace that is about the transaction with this name, such as
    /// `7h3kq0v9x2mc.2`: the steps of the session before its first transaction, and its own. The
    /// trace as it is, if no event has the name.
    #[must_use]
    pub fn transaction(self, name: &str) -> Self {
        let mut part = Part::of(name);
        let mut rest = Reader(&self.events);
        let mut events = Vec::new();
        while let Some(bytes) = rest.counted() {
            let is_kept = Reader(bytes.0).event().is_some_and(|it| part.takes(&it));
            if is_kept && let Ok(length) = u16::try_from(bytes.0.len()) {
                events.extend_from_slice(&length.to_le_bytes());
                events.extend_from_slice(bytes.0);
            }
        }
        let Part {
            found,
            mut queues,
            is_cut,
            ..
        } = part;
        let Some(found) = found else {
            return self;
        };
        // Which messages the missing events were about is not known.
        if is_cut {
            queues.clone_from(&self.queues);
        }
        queues.sort_unstable();
        queues.dedup();
        Self {
            session: found,
            queues,
            events,
            ..self
        }
    }
}

/// Where the events of a trace are, seen from one transaction.
struct Part<'a> {
    name: &'a str,
    /// The name as the trace has it, once it came.
    found: Option<String>,
    place: Place,
    /// The queued messages of the transaction.
    queues: Vec<u64>,
    /// Some of its events were left out.
    is_cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first transaction, or between two.
    Outside,
    Inside,
    /// In another transaction.
    Elsewhere,
}

impl<'a> Part<'a> {
    const fn of(name: &'a str) -> Self {
        Self {
            name,
            found: None,
            place: Place::Outside,
            queues: Vec::new(),
            is_cut: false,
        }
    }

    /// Whether an event belongs to the part. The events come in their order.
    fn takes(&mut self, event: &Event) -> bool {
        if let Some(name) = event.text(Key::Session) {
            self.place = match name {
                name if name.eq_ignore_ascii_case(self.name) => Place::Inside,
                name if name.contains('.') => Place::Elsewhere,
                _ => Place::Outside,
            };
            if self.place == Place::Inside && self.found.is_none() {
                self.found = Some(name.to_owned());
            }
        }
        if self.place != Place::Inside {
            let is_before = self.found.is_none();
            let belongs_to_all = event.event == EventType::PostriderApiEnd;
            let is_outside = self.place == Place::Outside || opens(event.event);
            return belongs_to_all || is_before && is_outside;
        }
        self.queues.extend(event.number(Key::QueueId));
        self.is_cut |= event.event == EventType::PostriderLeftOut;
        true
    }
}

/// Whether an event tells of the connection or of its user. Each transaction that follows depends
/// on it.
const fn opens(event: EventType) -> bool {
    matches!(
        event,
        EventType::SmtpConnectionStart
            | EventType::SmtpStartTls
            | EventType::TlsHandshake
            | EventType::SmtpEhlo
            | EventType::AuthSuccess
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Keep, Kind, Term, Trace, Tracer, TracerSettings};

    fn record(fill: impl FnOnce(&mut Trace)) -> Record {
        let (tracer, handed_over) = Tracer::new(TracerSettings::default());
        let mut trace = tracer.start(Kind::Session, 0);
        fill(&mut trace);
        tracer.finish(trace, Keep::Always);
        handed_over.take().remove(0)
    }

    #[test]
    fn a_transaction_has_its_own_steps_and_those_of_its_session() {
        use EventType as Type;
        let session = record(|trace| {
            for (event, name, id) in [
                (Type::SmtpConnectionStart, Some("abc"), None),
                (Type::SmtpEhlo, None, None),
                (Type::AuthFailed, None, None),
                (Type::SmtpMailFrom, Some("abc.1"), None),
                (Type::SmtpRcptTo, None, None),
                (Type::QueueQueueMessage, None, Some(8)),
                (Type::QueueQueueMessage, None, Some(7)),
                (Type::SmtpInvalidCommand, Some("abc"), None),
                (Type::SmtpMailFromNotAllowed, Some("abc.2"), None),
                (Type::TlsHandshake, None, None),
                (Type::SmtpMailFrom, Some("abc.10"), None),
                (Type::MessageIngestHam, None, None),
                (Type::SmtpConnectionEnd, None, None),
            ] {
                if let Some(name) = name {
                    trace.index(Term::Session(name));
                }
                id.into_iter().for_each(|id| trace.index(Term::Queue(id)));
                trace.event(1, event, |data| {
                    if let Some(name) = name {
                        data.text(Key::Session, name);
                    }
                    if let Some(id) = id {
                        data.number(Key::QueueId, id);
                    }
                });
            }
        });
        let begin = "smtp.connection-start smtp.ehlo auth.failed";
        let message = "smtp.mail-from smtp.rcpt-to queue.queue-message queue.queue-message";
        for (name, expected, queues) in [
            ("abc.1", format!("{begin} {message}"), vec![7, 8]),
            (
                "ABC.2",
                format!("{begin} smtp.invalid-command smtp.mail-from-not-allowed tls.handshake"),
                vec![],
            ),
            (
                "abc.10",
                format!(
                    "{begin} smtp.invalid-command tls.handshake smtp.mail-from \
                     message-ingest.ham smtp.connection-end"
                ),
                vec![],
            ),
        ] {
            let part = session.clone().transaction(name);
            let types: Vec<_> = part.events().map(|event| event.event.name()).collect();
            assert_eq!(types.join(" "), expected, "{name}");
            assert_eq!((part.queues, part.span), (queues, session.span), "{name}");
            assert_eq!(part.session, name.to_lowercase());
        }
        assert_eq!(session.clone().transaction("abc.3"), session);
    }

    #[test]
    fn the_messages_of_missing_steps_may_be_any() {
        let session = record(|trace| {
            trace.index(Term::Session("abc.1"));
            trace.index(Term::Queue(7));
            trace.event(1, EventType::SmtpMailFrom, |data| {
                data.text(Key::Session, "abc.1");
            });
            trace.event(1, EventType::PostriderLeftOut, |_| {});
        });
        assert_eq!(session.transaction("abc.1").queues, [7]);
    }
}
