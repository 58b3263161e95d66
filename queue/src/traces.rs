//! The traces of messages: of attempts, of their ends without an attempt, and of changes that
//! somebody made. `deliver/happenings` has the steps of an attempt.
//!
//! An attempt is one transaction with a host. Its messages share a text, so they are of one
//! account. A message without a transaction has a trace of its own.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use postrider_observe::{
    Tracer,
    trace::{Data, EventType, Keep, Key, Kind, Term, Trace},
};
use postrider_smtp::{Address, Cause, DeliveryStatus, bounce::Class, dsn::Action};
use postrider_store::{Common, Event, QueueId, Queued, Time};

use crate::{
    deliver::{said, tell_said},
    observed::AttemptOutcome,
};

/// How many messages the trace of a change has. More messages have more traces.
const PER_TRACE: usize = 200;

/// The trace of an attempt.
#[derive(Debug)]
pub(crate) struct AttemptTrace {
    trace: Trace,
    start: i64,
    /// The time of the last event. The events are in order, whatever the clock does.
    last: i64,
    keep: Keep,
    /// It is the trace of an attempt.
    attempted: bool,
    /// It has an event.
    told: bool,
    /// Those who listen know the steps so far.
    is_previewed: bool,
}

impl AttemptTrace {
    /// A trace that keeps nothing.
    pub(crate) const fn off() -> Self {
        Self {
            trace: Trace::off(),
            start: 0,
            last: 0,
            keep: Keep::Sampled,
            attempted: false,
            told: false,
            is_previewed: false,
        }
    }

    /// The trace of an attempt that began at `start`, for the messages of one transaction. At least
    /// one.
    pub(crate) fn start(tracer: &Tracer, start: Time, messages: &[&Queued]) -> Self {
        Self::start_after(tracer, start, messages, None)
    }

    /// The same, of which those who listen know the steps so far by a [`preview`]. One that belongs
    /// to other accounts too ends: who may see this trace may not see that one.
    pub(crate) fn start_after(
        tracer: &Tracer,
        start: Time,
        messages: &[&Queued],
        preview: Option<Trace>,
    ) -> Self {
        let accounts = || messages.iter().map(|message| account(message)).collect();
        let preview = preview.filter(|preview| preview.is_of(&accounts()));
        let is_previewed = preview.is_some();
        let mut trace = tracer.start_after(Kind::Attempt, start.0, preview);
        if messages.is_empty() || !trace.is_on() {
            return Self::off();
        }
        match is_previewed {
            true => trace.quietly(|trace| begin(trace, start, messages)),
            false => begin(&mut trace, start, messages),
        }
        Self {
            trace,
            start: start.0,
            last: start.0,
            keep: Keep::Sampled,
            attempted: true,
            told: true,
            is_previewed,
        }
    }

    /// Whether something is kept.
    pub(crate) const fn is_on(&self) -> bool {
        self.trace.is_on()
    }

    /// Makes the trace known under an address of the other side.
    pub(crate) fn with_remote(&mut self, ip: std::net::IpAddr) {
        self.trace.index(Term::RemoteIp(ip));
    }

    /// Adds an event, at `at` or right behind the last one.
    pub(crate) fn event(&mut self, at: i64, event: EventType, fill: impl FnOnce(&mut Data<'_>)) {
        self.last = self.last.max(at);
        self.told = true;
        self.trace.event(self.last, event, fill);
    }

    /// The same for a step, which those who listen know if there was a preview.
    pub(crate) fn step(&mut self, at: i64, event: EventType, fill: impl FnOnce(&mut Data<'_>)) {
        if !self.is_previewed {
            return self.event(at, event, fill);
        }
        self.last = self.last.max(at);
        self.told = true;
        let at = self.last;
        self.trace.quietly(|trace| trace.event(at, event, fill));
    }

    /// Adds what a host said of a message.
    pub(crate) fn said(&mut self, at: i64, message: &Queued, status: &DeliveryStatus) {
        if self.is_on() {
            tell_said(message.id, status, &mut |event, fill| {
                self.event(at, event, fill);
            });
        }
    }

    /// Adds that a look-up failed, so that there was no host to try.
    pub(crate) fn unplanned(&mut self, at: Time, message: &Queued, status: &DeliveryStatus) {
        if status.cause != Cause::Dns {
            return;
        }
        // RFC 7505: the domain says that it takes no mail.
        let is_null = status
            .enhanced
            .is_some_and(|code| (code.subject, code.detail) == (1, 10));
        let event = match is_null {
            true => EventType::DeliveryNullMx,
            false => EventType::DeliveryMxLookupFailed,
        };
        self.event(at.0, event, |data| {
            data.text(Key::Domain, &message.destination());
            said(data, status);
        });
    }

    /// Adds the result for a message, and when it expires.
    pub(crate) fn result(
        &mut self,
        at: Time,
        message: &Queued,
        outcome: AttemptOutcome,
        (status, class): (&DeliveryStatus, Option<Class>),
        expires: Time,
    ) {
        let event = match outcome {
            AttemptOutcome::Delivered => EventType::DeliveryDelivered,
            AttemptOutcome::Deferred(_) => EventType::QueueRescheduled,
            AttemptOutcome::Failed => EventType::DeliveryFailed,
        };
        self.event(at.0, event, |data| {
            data.number(Key::QueueId, message.id.0);
            data.display(Key::To, &message.recipient);
            if status.code != 0 {
                data.number(Key::Code, u64::from(status.code));
            }
            data.display(Key::Details, status);
            if let Some(class) = class {
                data.text(Key::Class, class.name());
            }
            if let AttemptOutcome::Deferred(next) = outcome {
                data.time(Key::NextRetry, next.0);
                data.time(Key::Expires, expires.0);
            }
        });
        if outcome != AttemptOutcome::Delivered {
            self.keep = Keep::Always;
        }
    }

    /// Adds that the recipient of a message is on a suppression list from now on, or was so before,
    /// for this reason.
    pub(crate) fn suppressed(&mut self, at: Time, message: &Queued, reason: &str) {
        self.keep = Keep::Always;
        self.event(at.0, EventType::PostriderSuppressed, |data| {
            data.number(Key::QueueId, message.id.0);
            data.display(Key::To, &message.recipient);
            data.text(Key::AccountName, &message.common.account);
            data.text(Key::Reason, reason);
        });
    }

    /// Adds what a mail that came back tells of a message: a report of another server, or a
    /// complaint.
    pub(crate) fn heard(
        &mut self,
        at: Time,
        message: &Queued,
        told: Event,
        (code, text): (u16, &str),
    ) {
        self.event(at.0, EventType::PostriderChanged, |data| {
            data.number(Key::QueueId, message.id.0);
            data.display(Key::To, &message.recipient);
            data.text(Key::Type, told.name());
            data.text(Key::Source, "a mail that came back");
            if code != 0 {
                data.number(Key::Code, u64::from(code));
            }
            data.text_if_any(Key::Details, text);
        });
    }

    /// Adds that the sender of a message gets a DSN.
    pub(crate) fn dsn(
        &mut self,
        at: Time,
        message: &Queued,
        to: &impl fmt::Display,
        action: Action,
    ) {
        let event = match action {
            Action::Failed => EventType::DeliveryDsnPermFail,
            Action::Delayed => EventType::DeliveryDsnTempFail,
            Action::Delivered | Action::Relayed | Action::Expanded => EventType::DeliveryDsnSuccess,
        };
        self.event(at.0, event, |data| {
            data.number(Key::QueueId, message.id.0);
            data.display(Key::To, to);
            data.text(Key::Type, action.name());
        });
    }

    /// Adds that a message waits on until a time, without an attempt.
    pub(crate) fn postponed(&mut self, at: Time, message: &Queued, reason: &str, until: Time) {
        self.event(at.0, EventType::PostriderPostponed, |data| {
            data.number(Key::QueueId, message.id.0);
            data.display(Key::To, &message.recipient);
            data.text(Key::Reason, reason);
            data.time(Key::NextRetry, until.0);
        });
    }

    /// Adds that a DSN about a message goes to its sender by the queue. It has its number when the
    /// result is stored; until then it is known by its Message-ID.
    pub(crate) fn dsn_queued(&mut self, at: Time, to: &Address, dsn: &Common) {
        if self.is_on() {
            self.trace.index(Term::MessageId(&dsn.message_id));
        }
        self.event(at.0, EventType::QueueQueueDsn, |data| {
            data.text(Key::From, "");
            data.display(Key::To, to);
            data.number(Key::Size, dsn.size);
            data.text(Key::MessageId, &dsn.message_id);
            data.text(Key::AccountName, &dsn.account);
        });
    }

    /// Ends the trace, and the attempt with it. Without an event there is nothing to keep.
    pub(crate) fn finish(mut self, tracer: &Tracer) {
        if !self.is_on() || !self.told {
            return;
        }
        if self.attempted {
            let (start, end) = (Time(self.start), Time(self.last));
            self.event(end.0, EventType::DeliveryAttemptEnd, |data| {
                data.elapsed(end.since(start));
            });
        }
        tracer.finish(self.trace, self.keep);
    }

    /// The trace of the end of a message without an attempt.
    pub(crate) fn unattempted(tracer: &Tracer, now: Time, message: &Queued) -> Self {
        let mut trace = tracer.start(Kind::Attempt, now.0);
        index(&mut trace, message);
        Self {
            trace,
            start: now.0,
            last: now.0,
            keep: Keep::Always,
            attempted: false,
            told: false,
            is_previewed: false,
        }
    }
}

/// Whether a message that is put off has a trace of that: at first, and then when it has waited a
/// quarter longer than at the trace before. So a site that is paused for long costs few traces.
/// `since`: when the last attempt was, or when the message was due first.
pub(crate) fn is_worth_telling(since: Time, now: Time, until: Time) -> bool {
    // The third root of two is about a quarter more than one.
    let steps = |at: Time| {
        let minutes = u128::from(at.since(since).as_secs() / 60) + 1;
        minutes.saturating_pow(3).ilog2()
    };
    now <= since || steps(now) < steps(until)
}

/// The most accounts of an attempt that is told while it goes on.
const ACCOUNTS_MAX: usize = 32;

/// What those who listen to traces hear of an attempt while it goes on: its start, and then its
/// steps. None: nobody listens, or there are no messages, as in a check of a destination.
pub(crate) fn preview(tracer: &Tracer, start: Time, messages: &[Queued]) -> Option<Trace> {
    if messages.is_empty() || !tracer.is_heard() {
        return None;
    }
    // A tenant hears of it if all accounts are the tenant's. A trace has not many of them.
    let accounts: BTreeSet<&str> = messages.iter().map(account).collect();
    if accounts.len() > ACCOUNTS_MAX {
        return None;
    }
    let mut trace = tracer.preview(Kind::Attempt, start.0)?;
    let messages: Vec<&Queued> = messages.iter().collect();
    begin(&mut trace, start, &messages);
    Some(trace)
}

/// The start of an attempt with these messages.
fn begin(trace: &mut Trace, start: Time, messages: &[&Queued]) {
    let Some(first) = messages.first() else {
        return;
    };
    for message in messages {
        index(trace, message);
    }
    trace.event(start.0, EventType::DeliveryAttemptStart, |data| {
        about(data, first);
        match messages {
            [only] => data.display(Key::To, &only.recipient),
            several => {
                let to = several.iter().map(|message| &message.recipient);
                data.texts(Key::To, to);
            }
        }
        data.number(Key::Size, first.common.size);
        data.text(Key::MessageId, &first.common.message_id);
        let transport = match first.transport.as_str() {
            "" => first.route.as_str(),
            forced => forced,
        };
        data.text_if_any(Key::QueueName, transport);
        data.number(Key::Attempt, u64::from(first.attempts));
    });
}

/// Makes a trace known under what it is searched by.
fn index(trace: &mut Trace, message: &Queued) {
    if !trace.is_on() {
        return;
    }
    trace.belongs_to(&message.common.account);
    trace.index(Term::Queue(message.id.0));
    trace.index(Term::MessageId(&message.common.message_id));
    as_text(&message.reverse_path, |sender| {
        trace.index(Term::Sender(sender))
    });
    as_text(&message.recipient, |recipient| {
        trace.index(Term::Recipient(recipient))
    });
}

/// Gives a value as a text, without memory of its own for a usual one.
fn as_text(value: impl fmt::Display, take: impl FnOnce(&str)) {
    let mut short = Short {
        bytes: [0; SHORT],
        length: 0,
    };
    match write!(short, "{value}") {
        Ok(()) => take(short.text()),
        Err(_) => take(&value.to_string()),
    }
}

/// The longest text that needs no memory of its own: most addresses are far shorter.
const SHORT: usize = 256;

/// A text of limited length.
struct Short {
    bytes: [u8; SHORT],
    length: usize,
}

impl Short {
    fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

fn about(data: &mut Data<'_>, message: &Queued) {
    data.number(Key::QueueId, message.id.0);
    data.display(Key::From, &message.reverse_path);
    data.text(Key::AccountName, &message.common.account);
}

/// What somebody did with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Held,
    Released,
    /// Another time, transport or TLS.
    Changed,
    /// Ended, with this event.
    Ended(Event),
}

impl ChangeKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Released => "released",
            Self::Changed => "changed",
            Self::Ended(event) => event.name(),
        }
    }
}

fn account(message: &Queued) -> &str {
    &message.common.account
}

/// Traces what somebody did with messages: who, and why or how.
pub(crate) fn changed(
    tracer: &Tracer,
    now: Time,
    (who, details): (&str, &str),
    messages: &[(&Queued, ChangeKind)],
) {
    if !tracer.is_on() {
        return;
    }
    // Messages of different accounts are in different traces: a tenant sees those of its accounts.
    let mut sorted: Vec<(&Queued, ChangeKind)> = messages.to_vec();
    sorted.sort_by(|one, other| account(one.0).cmp(account(other.0)));
    for of_account in sorted.chunk_by(|one, other| account(one.0) == account(other.0)) {
        for part in of_account.chunks(PER_TRACE) {
            let mut trace = tracer.start(Kind::Api, now.0);
            for (message, kind) in part {
                index(&mut trace, message);
                trace.event(now.0, EventType::PostriderChanged, |data| {
                    data.number(Key::QueueId, message.id.0);
                    data.display(Key::To, &message.recipient);
                    data.text(Key::Type, kind.name());
                    data.text(Key::Source, who);
                    data.text_if_any(Key::Details, details);
                });
            }
            tracer.finish(trace, Keep::Always);
        }
    }
}

/// Traces that a report of ours to another domain is queued.
pub(crate) fn report_queued(
    tracer: &Tracer,
    now: Time,
    (id, common): (QueueId, &Common),
    to: &Address,
) {
    let mut trace = tracer.start(Kind::Api, now.0);
    if !trace.is_on() {
        return;
    }
    trace.belongs_to(&common.account);
    trace.index(Term::Queue(id.0));
    trace.index(Term::MessageId(&common.message_id));
    as_text(to, |to| trace.index(Term::Recipient(to)));
    trace.event(now.0, EventType::QueueQueueReport, |data| {
        data.number(Key::QueueId, id.0);
        if let Some(from) = &common.from {
            data.display(Key::From, from);
        }
        data.display(Key::To, to);
        data.number(Key::Size, common.size);
        data.text(Key::MessageId, &common.message_id);
        data.text(Key::AccountName, &common.account);
    });
    tracer.finish(trace, Keep::Sampled);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_messages_is_not_told() {
        let (tracer, _handed_over) = Tracer::new(Default::default());
        let _listening = tracer.listen().unwrap();
        assert!(preview(&tracer, Time(1), &[]).is_none());
    }

    #[test]
    fn what_waits_long_is_told_seldom() {
        let minute = |minutes: i64| Time(minutes * 60_000_000);
        let told: Vec<i64> = (0..10_000)
            .filter(|at| is_worth_telling(minute(0), minute(*at), minute(at + 1)))
            .collect();
        assert_eq!(told[..5], [0, 1, 2, 4, 5]);
        assert!(told.len() < 45, "{told:?}");
        let is_soon = |of: &[i64]| of[1] <= of[0] + of[0] / 3 + 2;
        assert!(told.windows(2).all(is_soon), "{told:?}");
        // One wait may be long.
        assert!(is_worth_telling(minute(0), minute(40), minute(100)));
        assert!(!is_worth_telling(minute(0), minute(40), minute(41)));
    }
}
