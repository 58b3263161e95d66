//! Whether a program answers. A program that fails again and again is left out for a while, so that
//! mail does not wait for it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_config::HookBreaker;
use postrider_store::{Moment, Time};

use super::answer::Failure;

/// So many slow answers in a row make a program slow.
const SLOW_ANSWERS: u32 = 5;
/// An answer is slow after this time, or after half of the time limit if that is shorter.
const SLOW_AFTER: Duration = Duration::from_secs(5);

/// How a program is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It answers.
    #[default]
    Up,
    /// It answers late.
    Slow,
    /// It does not answer, and is left out.
    Down,
}

impl Condition {
    /// The word for logs and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Slow => "slow",
            Self::Down => "down",
        }
    }
}

/// A program went from one condition to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionChange {
    /// The condition before.
    pub from: Condition,
    /// The condition now.
    pub to: Condition,
    /// Why, in words. Empty for a program that is up.
    pub reason: String,
}

/// How a program is, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The condition.
    pub condition: Condition,
    /// When the condition began. None: it never changed.
    pub since: Option<Time>,
    /// Why, in words. Empty for a program that is up.
    pub reason: String,
}

/// Watches the answers of one program.
#[derive(Debug)]
pub(super) struct Watch {
    breaker: HookBreaker,
    slow_after: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    health: Health,
    /// The calls in a row without an answer.
    failed: u32,
    /// The slow answers in a row.
    slow: u32,
    /// A program that is down is tried again then.
    next_try: Option<Moment>,
}

impl Watch {
    /// Watches a program with this time limit.
    pub(super) fn new(breaker: HookBreaker, timeout: Duration) -> Self {
        Self {
            breaker,
            slow_after: SLOW_AFTER.min(timeout / 2),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the program is.
    pub(super) fn health(&self) -> Health {
        self.state().health.clone()
    }

    /// Whether the program is asked now. One that is down gets one call for each pause.
    pub(super) fn may_ask(&self, now: Moment) -> bool {
        let mut state = self.state();
        match state.next_try {
            Some(next) if now < next => false,
            // The others wait for the answer of this call. It may end without one, so a later call
            // may try too.
            Some(_) => {
                state.next_try = Some(now.after(self.breaker.pause));
                true
            }
            None => true,
        }
    }

    /// The program answered, rightly or not.
    pub(super) fn answered(&self, took: Duration, now: Time) -> Option<ConditionChange> {
        let mut state = self.state();
        state.failed = 0;
        state.next_try = None;
        state.slow = match took > self.slow_after {
            true => state.slow.saturating_add(1),
            false => 0,
        };
        if state.slow < SLOW_ANSWERS {
            return state.change(Condition::Up, String::new(), now);
        }
        let reason = format!(
            "its last {SLOW_ANSWERS} answers took over {:?}",
            self.slow_after
        );
        state.change(Condition::Slow, reason, now)
    }

    /// The program gave no answer.
    pub(super) fn failed(
        &self,
        failure: &Failure,
        (moment, now): (Moment, Time),
    ) -> Option<ConditionChange> {
        let mut state = self.state();
        state.failed = state.failed.saturating_add(1);
        if self.breaker.failures == 0 || state.failed < self.breaker.failures {
            return None;
        }
        state.next_try = Some(moment.after(self.breaker.pause));
        let reason = format!("{} calls in a row failed: {failure}", state.failed);
        state.change(Condition::Down, reason, now)
    }
}

impl State {
    fn change(&mut self, to: Condition, reason: String, now: Time) -> Option<ConditionChange> {
        let from = self.health.condition;
        if from == to {
            return None;
        }
        self.health = Health {
            condition: to,
            since: Some(now),
            reason: reason.clone(),
        };
        Some(ConditionChange { from, to, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch() -> Watch {
        let breaker = HookBreaker {
            failures: 2,
            pause: 30 * SECOND,
        };
        Watch::new(breaker, 4 * SECOND)
    }

    fn at(seconds: u32) -> (Moment, Time) {
        let now = Time(i64::from(seconds) * 1_000_000);
        (Moment(seconds * SECOND), now)
    }

    #[test]
    fn a_program_that_fails_is_left_out_and_tried_once_in_a_while() {
        let watch = watch();
        let failure = Failure::Unavailable("refused".into());
        assert!(watch.may_ask(at(0).0));
        assert_eq!(watch.failed(&failure, at(0)), None);
        assert!(watch.may_ask(at(1).0));
        let change = watch.failed(&failure, at(1)).unwrap();
        assert_eq!((change.from, change.to), (Condition::Up, Condition::Down));
        assert_eq!(change.reason, "2 calls in a row failed: refused");
        assert_eq!(watch.health().since, Some(at(1).1));
        assert!(!watch.may_ask(at(30).0));
        // One call tries it. The others go on without it.
        assert!(watch.may_ask(at(31).0));
        assert!(!watch.may_ask(at(32).0));
        assert_eq!(watch.failed(&failure, at(33)), None, "it is told once");
        assert!(!watch.may_ask(at(62).0));
        assert!(watch.may_ask(at(63).0));
        // That call ended without an answer, as when its session ends.
        assert!(watch.may_ask(at(93).0));
        let change = watch.answered(SECOND, at(94).1).unwrap();
        assert_eq!((change.from, change.to), (Condition::Down, Condition::Up));
        assert!(watch.may_ask(at(94).0) && watch.may_ask(at(94).0));
        assert_eq!(watch.failed(&failure, at(95)), None, "the count began anew");
    }

    #[test]
    fn a_program_whose_answers_are_late_is_slow() {
        let watch = watch();
        let now = at(0).1;
        for _ in 0..4 {
            assert_eq!(watch.answered(3 * SECOND, now), None);
        }
        assert_eq!(watch.answered(SECOND, now), None);
        for _ in 0..4 {
            assert_eq!(watch.answered(3 * SECOND, now), None);
        }
        let change = watch.answered(3 * SECOND, now).unwrap();
        assert_eq!(change.to, Condition::Slow);
        assert_eq!(change.reason, "its last 5 answers took over 2s");
        assert!(watch.may_ask(at(0).0));
        assert_eq!(watch.answered(SECOND, now).unwrap().to, Condition::Up);
        assert_eq!(watch.health().reason, "");
    }

    #[test]
    fn a_breaker_may_be_off() {
        let breaker = HookBreaker {
            failures: 0,
            pause: SECOND,
        };
        let watch = Watch::new(breaker, SECOND);
        for second in 0..100 {
            assert_eq!(watch.failed(&Failure::Timeout, at(second)), None);
            assert!(watch.may_ask(at(second).0));
        }
    }
}
