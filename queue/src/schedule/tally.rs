//! How many messages a site took, deferred and refused in the last hour.

use std::time::Duration;

use postrider_store::{Moment, Outcome};

/// The parts of the hour.
const PARTS: u64 = 6;
/// The length of a part.
const PART: Duration = Duration::from_secs(60 * 60 / PARTS);

/// Results of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The site took the message.
    pub delivered: u64,
    /// The message is tried again.
    pub deferred: u64,
    /// The message failed.
    pub failed: u64,
}

impl Counts {
    /// Adds the result of an attempt.
    pub(crate) const fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Retire { success: true, .. } => self.delivered += 1,
            Outcome::Retire { .. } => self.failed += 1,
            Outcome::Release | Outcome::Retry(_) | Outcome::Postpone(_) => self.deferred += 1,
        }
    }

    fn add(&mut self, more: Self) {
        self.delivered += more.delivered;
        self.deferred += more.deferred;
        self.failed += more.failed;
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The counts of the last hour, in parts of ten minutes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    parts: [Counts; 6],
    /// The number of the current part, since the process began.
    current: u64,
}

impl Tally {
    fn part(now: Moment) -> u64 {
        now.0.as_secs() / PART.as_secs()
    }

    /// Adds results.
    pub(crate) fn add(&mut self, counts: Counts, now: Moment) {
        let now = Self::part(now).max(self.current);
        let passed = usize::try_from(now - self.current).unwrap_or(usize::MAX);
        // The first part is the current one.
        let length = self.parts.len();
        let passed = passed.min(length);
        self.parts.rotate_right(passed % length);
        self.parts
            .iter_mut()
            .take(passed)
            .for_each(|part| *part = Counts::default());
        self.current = now;
        if let Some(first) = self.parts.first_mut() {
            first.add(counts);
        }
    }

    /// The results of the last hour, and at most ten minutes less.
    pub(crate) fn hour(&self, now: Moment) -> Counts {
        let passed = Self::part(now).saturating_sub(self.current);
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        let mut sum = Counts::default();
        let kept = self.parts.len().saturating_sub(passed);
        self.parts.iter().take(kept).for_each(|part| sum.add(*part));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Moment {
        Moment(Duration::from_secs(60 * minutes))
    }

    fn counts(delivered: u64, deferred: u64, failed: u64) -> Counts {
        Counts {
            delivered,
            deferred,
            failed,
        }
    }

    #[test]
    fn results_count_for_an_hour() {
        let mut tally = Tally::default();
        tally.add(counts(1, 2, 3), at(100));
        assert_eq!(tally.hour(at(100)), counts(1, 2, 3));
        tally.add(counts(10, 0, 0), at(129));
        assert_eq!(tally.hour(at(129)), counts(11, 2, 3));
        assert_eq!(tally.hour(at(159)), counts(11, 2, 3));
        assert_eq!(tally.hour(at(160)), counts(10, 0, 0));
        assert_eq!(tally.hour(at(180)), Counts::default());
        tally.add(counts(0, 0, 1), at(1000));
        assert_eq!(tally.hour(at(1000)), counts(0, 0, 1));
        for minute in 1000..1060 {
            tally.add(counts(1, 0, 0), at(minute));
        }
        assert_eq!(tally.hour(at(1059)), counts(60, 0, 1));
        assert!(tally.hour(at(2000)).is_empty());
    }
}
