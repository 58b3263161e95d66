//! What people see of a call: its line of the log, its counts, and its trace.
//!
//! A URL is shown without user, password, query and fragment: applications put secrets there.

use std::{fmt, sync::Arc};

use postrider_observe::{
    Metrics, Tracer,
    metrics::{WebhookDirection, WebhookResult},
    trace::{EventType, Keep, Key, Kind, Term, Trace},
};
use postrider_store::{Hook, HookAttempt, HookKind, Outcome, Time};
use tracing::{debug, info, warn};

/// A URL as it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShownUrl<'a>(pub(crate) &'a str);

impl fmt::Display for ShownUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.0.split(['?', '#']).next().unwrap_or_default();
        // Whatever else is in front of the host may be secret, in any notation.
        let Some((scheme, rest)) = url.split_once("://") else {
            return f.write_str("...");
        };
        let end = rest.find(['/', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let host = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
        write!(f, "{scheme}://{host}{path}")
    }
}

/// The message that a call tells of. None: the call is about none that is or was queued.
fn queue_id(hook: &Hook) -> Option<u64> {
    let told = hook.kind.outgoing()?;
    (told.queue_id.0 != 0).then_some(told.queue_id.0)
}

/// The name of what a call tells of.
fn event_name(hook: &Hook) -> &'static str {
    match hook.kind.outgoing() {
        Some(told) => told.event.name(),
        None => "incoming",
    }
}

/// Tells those who listen to traces that a call begins. Its trace goes on from there.
pub(crate) fn begins(hook: &Hook, now: Time, tracer: &Tracer) -> Option<Trace> {
    let mut preview = tracer.preview(Kind::Webhook, now.0)?;
    start(&mut preview, hook, now);
    Some(preview)
}

/// A call that was made, to be told of when the store has its result.
pub(crate) struct Called {
    pub(crate) hook: Arc<Hook>,
    pub(crate) result: WebhookResult,
    /// What was told of its begin.
    pub(crate) preview: Option<Trace>,
}

/// Tells of a call that was made, and is recorded with this attempt and this outcome.
pub(crate) fn called(
    called: Called,
    (attempt, outcome): (&HookAttempt, Outcome),
    (metrics, tracer): (&Metrics, &Tracer),
) {
    let Called {
        hook,
        result,
        preview,
    } = called;
    let hook = &*hook;
    let next = match outcome {
        Outcome::Retry(next) => Some(next),
        _ => None,
    };
    log(hook, attempt, next);
    let direction = match &hook.kind {
        HookKind::Outgoing(_) | HookKind::OutgoingV1(_) => WebhookDirection::Outgoing,
        HookKind::Incoming(_) => WebhookDirection::Incoming,
    };
    metrics.webhook_calls_total.with((direction, result)).inc();
    let durations = &metrics.webhook_duration_seconds;
    durations.with(direction).observe(attempt.duration);
    if !attempt.success && next.is_none() {
        metrics.webhooks_given_up_total.inc();
    }
    trace(hook, attempt, next, (tracer, preview));
}

fn log(hook: &Hook, attempt: &HookAttempt, next: Option<Time>) {
    macro_rules! line {
        ($level:ident, $name:literal) => {
            $level!(
                hook = hook.id.0,
                queue = queue_id(hook),
                account = hook.account,
                url = %ShownUrl(&hook.url),
                attempt = hook.attempts,
                code = attempt.code,
                error = attempt.error,
                next = next.map(display),
                $name
            )
        };
    }
    match (attempt.success, next) {
        (true, _) => line!(debug, "webhook called"),
        (false, Some(_)) => line!(info, "webhook failed"),
        (false, None) => line!(warn, "webhook given up"),
    }
}

fn trace(
    hook: &Hook,
    attempt: &HookAttempt,
    next: Option<Time>,
    (tracer, preview): (&Tracer, Option<Trace>),
) {
    let is_told = preview.is_some();
    let mut trace = tracer.start_after(Kind::Webhook, attempt.start.0, preview);
    if !trace.is_on() {
        return;
    }
    match is_told {
        true => trace.quietly(|trace| start(trace, hook, attempt.start)),
        false => start(&mut trace, hook, attempt.start),
    }
    let end = attempt.start.after(attempt.duration).0;
    trace.event(end, EventType::PostriderWebhookEnd, |data| {
        data.number(Key::Id, hook.id.0);
        data.number(Key::Code, u64::from(attempt.code));
        data.text_if_any(Key::Reason, &attempt.error);
        data.elapsed(attempt.duration);
        if let Some(next) = next {
            data.time(Key::NextRetry, next.0);
        }
    });
    let keep = match attempt.success {
        true => Keep::Sampled,
        false => Keep::Always,
    };
    tracer.finish(trace, keep);
}

/// The start of a call, and what its trace is found by.
fn start(trace: &mut Trace, hook: &Hook, at: Time) {
    let queue = queue_id(hook);
    trace.belongs_to(&hook.account);
    trace.index(Term::Hook(hook.id.0));
    if let Some(queue) = queue {
        trace.index(Term::Queue(queue));
    }
    match &hook.kind {
        HookKind::Outgoing(told) => trace.index(Term::MessageId(&told.message_id)),
        HookKind::OutgoingV1(of) => {
            trace.index(Term::MessageId(&of.told.message_id));
            trace.index(Term::Recipient(&of.recipient));
        }
        HookKind::Incoming(_) => {}
    }
    trace.event(at.0, EventType::PostriderWebhookStart, |data| {
        data.display(Key::Url, ShownUrl(&hook.url));
        data.number(Key::Id, hook.id.0);
        if let Some(queue) = queue {
            data.number(Key::QueueId, queue);
        }
        data.text(Key::AccountName, &hook.account);
        data.text(Key::Type, event_name(hook));
        data.number(Key::Attempt, u64::from(hook.attempts));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("https://app.test/hook", "https://app.test/hook"),
            ("https://app.test:8443", "https://app.test:8443"),
            (
                "https://app.test/hook?token=secret",
                "https://app.test/hook",
            ),
            ("https://app.test/hook#secret", "https://app.test/hook"),
            ("https://app.test?secret", "https://app.test"),
            ("https://user:secret@app.test/a@b", "https://app.test/a@b"),
            ("https://user:se@cret@app.test/", "https://app.test/"),
            ("https:user:secret@app.test/", "..."),
            ("secret", "..."),
            ("", "..."),
        ] {
            assert_eq!(ShownUrl(url).to_string(), shown, "{url}");
        }
    }
}
