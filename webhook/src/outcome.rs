//! What the store records of a call: another attempt, an end, or nothing at all.

use std::time::Duration;

use postrider_config::Dynamic;
use postrider_store::{Hook, HookAttempt, Outcome, SettleHook, Time};
use rand::RngExt;

/// The part of an interval by which a retry may be early or late.
const SPREAD: f64 = 0.01;
/// How long the history of a removed account is kept.
const KEEP_WITHOUT_ACCOUNT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An attempt without an answer.
pub(crate) const fn no_attempt(start: Time) -> HookAttempt {
    HookAttempt {
        start,
        duration: Duration::ZERO,
        success: false,
        code: 0,
        error: String::new(),
        response: String::new(),
    }
}

/// Gives a call back that was not made, or not to its end. The attempt does not count.
pub(crate) fn release(hook: &Hook) -> SettleHook {
    SettleHook {
        id: hook.id,
        fence: hook.fence,
        attempt: no_attempt(hook.next_attempt),
        outcome: Outcome::Release,
    }
}

/// Puts off a call that could not be made for want of our own means. The attempt does not count.
pub(crate) fn postpone(hook: &Hook, until: Time) -> SettleHook {
    SettleHook {
        outcome: Outcome::Postpone(until),
        ..release(hook)
    }
}

/// The result of a call that was made: a retry if it failed and attempts are left, else its end.
pub(crate) fn settle(
    hook: &Hook,
    attempt: HookAttempt,
    config: &Dynamic,
    intervals: &[Duration],
    now: Time,
) -> SettleHook {
    let made = usize::try_from(hook.attempts).unwrap_or(usize::MAX);
    let wait = intervals.get(made.saturating_sub(1));
    let outcome = match wait {
        Some(wait) if !attempt.success => {
            let factor = 1.0 + SPREAD * rand::rng().random_range(-1.0..=1.0);
            Outcome::Retry(now.after(wait.mul_f64(factor)))
        }
        _ => Outcome::Retire {
            success: attempt.success,
            now,
            keep_until: keep_until(hook, config, now),
        },
    };
    SettleHook {
        id: hook.id,
        fence: hook.fence,
        attempt,
        outcome,
    }
}

/// The time until which the history keeps a call that ends now. None if the history does not keep
/// it.
pub(crate) fn keep_until(hook: &Hook, config: &Dynamic, now: Time) -> Option<Time> {
    let account = config.accounts.get(&hook.account);
    let keep = account.map_or(KEEP_WITHOUT_ACCOUNT, |account| {
        account.keep_retired_webhook_period
    });
    (!keep.is_zero()).then(|| now.after(keep))
}
