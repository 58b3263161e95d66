//! What people see of messages: their lines of the log, their counts, and the events of their
//! traces.
//!
//! Each line about the end of a message is written here and nowhere else, so its fields are always
//! the same. Values are in fields, never in the text. [`told`](crate::told) says when.

use std::time::Duration;

use postrider_observe::{
    metrics::{
        AttemptOutcome as OutcomeLabel, By, Class as ClassLabel, DsnAction, End,
        Event as EventLabel, Label, SuppressedBy,
    },
    millis,
};
use postrider_smtp::{
    Address, DeliveryStatus,
    bounce::{Class, Said, classify},
    dsn::Action,
};
use postrider_store::{Common, Event, NewSuppression, QueueId, Queued, Time};
use tracing::info;

use crate::{
    Queue,
    traces::{self, AttemptTrace},
};

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    /// The next hop took the message.
    Delivered,
    /// It failed, and the next attempt is at this time.
    Deferred(Time),
    /// It failed for good.
    Failed,
}

impl AttemptOutcome {
    const fn label(self) -> OutcomeLabel {
        match self {
            Self::Delivered => OutcomeLabel::Delivered,
            Self::Deferred(_) => OutcomeLabel::Deferred,
            Self::Failed => OutcomeLabel::Failed,
        }
    }
}

/// The class of a failure. `known` is the class that a rule of the provider gives. None: no
/// failure.
pub(crate) fn class_of(status: &DeliveryStatus, known: Option<Class>) -> Option<Class> {
    let class = || known.unwrap_or_else(|| classify(&Said::from(status)));
    (!status.is_success()).then(class)
}

fn class_label(class: Option<Class>) -> ClassLabel {
    // The label has a value more, in front.
    let place = class.map_or(0, |class| class as usize + 1);
    let label = ClassLabel::ALL.get(place).copied();
    label.unwrap_or(ClassLabel::Unknown)
}

const fn event_label(event: Event) -> EventLabel {
    match event {
        Event::Delivered => EventLabel::Delivered,
        Event::Suppressed => EventLabel::Suppressed,
        Event::Delayed => EventLabel::Delayed,
        Event::Failed => EventLabel::Failed,
        Event::Relayed => EventLabel::Relayed,
        Event::Expanded => EventLabel::Expanded,
        Event::Canceled => EventLabel::Canceled,
        Event::Unrecognized => EventLabel::Unrecognized,
        Event::Unsubscribed => EventLabel::Unsubscribed,
        Event::Complained => EventLabel::Complained,
        Event::Opened => EventLabel::Opened,
        Event::Clicked => EventLabel::Clicked,
    }
}

const fn action_label(action: Action) -> DsnAction {
    match action {
        Action::Failed => DsnAction::Failed,
        Action::Delayed => DsnAction::Delayed,
        Action::Delivered => DsnAction::Delivered,
        Action::Relayed => DsnAction::Relayed,
        Action::Expanded => DsnAction::Expanded,
    }
}

/// The result of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) message: &'a Queued,
    pub(crate) outcome: AttemptOutcome,
    pub(crate) status: &'a DeliveryStatus,
    /// None: no failure, or somebody wanted the message to end so.
    pub(crate) class: Option<Class>,
    /// How long the attempt took. None: there was no attempt.
    pub(crate) took: Option<Duration>,
}

impl Queue {
    /// Tells of the result of a message.
    pub(crate) fn see_result(&self, seen: &Seen<'_>, at: Time, trace: &mut AttemptTrace) {
        let Seen {
            message,
            outcome,
            status,
            class,
            took,
        } = *seen;
        log_result(seen);
        let metrics = &self.metrics;
        if let Some(took) = took {
            let labels = (outcome.label(), class_label(class));
            metrics.attempts_total.with(labels).inc();
            let durations = &metrics.attempt_duration_seconds;
            durations.with(outcome.label()).observe(took);
        }
        let ended = match outcome {
            AttemptOutcome::Delivered => Some(End::Delivered),
            AttemptOutcome::Failed => Some(End::Failed),
            AttemptOutcome::Deferred(_) => None,
        };
        if let Some(end) = ended {
            metrics.messages_ended_total.with(end).inc();
        }
        if outcome == AttemptOutcome::Delivered {
            let age = at.since(message.common.queued);
            metrics.delivery_age_seconds.observe(age);
        }
        if trace.is_on() {
            let expires = self.expires(message);
            trace.result(at, message, outcome, (status, class), expires);
        }
    }

    /// Tells that a message ended without an attempt, since its recipient is on a suppression list.
    /// `reason` is that of the entry.
    pub(crate) fn see_suppressed(
        &self,
        message: &Queued,
        reason: &str,
        at: Time,
        trace: &mut AttemptTrace,
    ) {
        info!(
            queue = message.id.0,
            account = message.common.account,
            to = %message.recipient,
            reason,
            action = "ended",
            "suppressed"
        );
        let ended = &self.metrics.messages_ended_total;
        ended.with(End::Suppressed).inc();
        trace.suppressed(at, message, reason);
    }

    /// Tells that the recipient of a message comes on a suppression list.
    pub(crate) fn see_listed(
        &self,
        message: &Queued,
        (entry, by): (&NewSuppression, SuppressedBy),
        at: Time,
        trace: &mut AttemptTrace,
    ) {
        self.see_entry(entry, &message.recipient, by, (Some(message.id), None));
        trace.suppressed(at, message, &entry.reason);
    }

    /// Tells that somebody put an address on a suppression list.
    pub fn see_suppression(
        &self,
        entry: &NewSuppression,
        to: &Address,
        (by, who): (SuppressedBy, &str),
    ) {
        self.see_entry(entry, to, by, (None, Some(who)));
    }

    fn see_entry(
        &self,
        entry: &NewSuppression,
        to: &Address,
        by: SuppressedBy,
        (queue, who): (Option<QueueId>, Option<&str>),
    ) {
        info!(
            queue = queue.map(|id| id.0),
            account = entry.account,
            to = %to,
            who,
            reason = entry.reason,
            action = "listed",
            list = Some(&*entry.list).filter(|list| !list.is_empty()),
            "suppressed"
        );
        self.metrics.suppressed_total.with(by).inc();
    }

    /// Tells that somebody ended a message.
    pub(crate) fn see_canceled(&self, message: &Queued, (who, reason): (&str, &str)) {
        info!(
            queue = message.id.0,
            account = message.common.account,
            to = %message.recipient,
            who,
            reason,
            "canceled"
        );
        let ended = &self.metrics.messages_ended_total;
        ended.with(End::Canceled).inc();
    }

    /// Tells of a DSN about a message, to its sender.
    pub(crate) fn see_dsn(
        &self,
        message: &Queued,
        to: &Address,
        (action, status): (Action, &DeliveryStatus),
        at: Time,
        trace: &mut AttemptTrace,
    ) {
        info!(
            queue = message.id.0,
            account = message.common.account,
            to = %to,
            who = %message.recipient,
            reason = %status,
            action = action.name(),
            "dsn sent"
        );
        self.metrics.dsns_total.with(action_label(action)).inc();
        trace.dsn(at, message, to, action);
    }

    /// Tells of a report of ours to another domain that is queued.
    pub(crate) fn see_own(&self, id: QueueId, common: &Common, to: &Address) {
        info!(
            by = "local",
            account = common.account,
            from = common.from.as_ref().map(display),
            to = %to,
            queue = id.0,
            message_id = common.message_id,
            size = common.size,
            "accepted"
        );
        self.count_own(common.size);
        traces::report_queued(&self.tracer, self.clock.now(), (id, common), to);
    }

    /// Counts a message that the server itself adds, with its size in bytes.
    pub(crate) fn count_own(&self, size: u64) {
        self.metrics.count_accepted(By::Local, (1, 1), size, None);
    }

    /// Counts an event of a message.
    pub(crate) fn see_event(&self, event: Event) {
        self.metrics.events_total.with(event_label(event)).inc();
    }
}

/// One line for each result.
fn log_result(seen: &Seen<'_>) {
    let (message, status) = (seen.message, seen.status);
    macro_rules! line {
        ($name:literal, $next:expr) => {{
            let (host, ip) = status.host();
            info!(
                queue = message.id.0,
                account = message.common.account,
                from = %message.reverse_path,
                to = %message.recipient,
                message_id = message.common.message_id,
                attempt = message.attempts,
                outcome = $name,
                class = seen.class.map(Class::name),
                code = status.code,
                enhanced = status.enhanced.map(display),
                text = status.text,
                host,
                ip = ip.map(display),
                next = $next.map(display),
                elapsed_ms = seen.took.map(millis),
                $name
            )
        }};
    }
    match seen.outcome {
        AttemptOutcome::Delivered => line!("delivered", None::<Time>),
        AttemptOutcome::Deferred(next) => line!("deferred", Some(next)),
        AttemptOutcome::Failed => line!("failed", None::<Time>),
    }
}

/// Tells the log that a message is held: by somebody, or by a hold rule.
pub(crate) fn held(message: &Queued, (who, reason): (&str, Option<&str>)) {
    info!(
        queue = message.id.0,
        account = message.common.account,
        to = %message.recipient,
        who,
        reason,
        "held"
    );
}

/// Tells the log that a message is held no more.
pub(crate) fn released(message: &Queued, who: &str) {
    info!(
        queue = message.id.0,
        account = message.common.account,
        to = %message.recipient,
        who,
        "released"
    );
}

/// Tells the log of a complaint of a recipient. `proven`: the report has a name that only a
/// receiver of the message can know.
pub(crate) fn complaint(message: &Queued, kind: &str, proven: bool) {
    info!(
        queue = message.id.0,
        account = message.common.account,
        to = %message.recipient,
        reason = kind,
        action = if proven { "listed" } else { "noted" },
        "complaint"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_the_names_of_what_they_stand_for() {
        assert_eq!(class_label(None).text(), "none");
        for class in Class::ALL {
            assert_eq!(class_label(Some(*class)).text(), class.name());
        }
        assert_eq!(ClassLabel::ALL.len(), Class::ALL.len() + 1);
        for event in Event::ALL {
            assert_eq!(event_label(event).text(), event.name());
        }
    }
}
