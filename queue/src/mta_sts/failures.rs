//! The domains whose policies could not be fetched lately, and that have no older one.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use postrider_store::Moment;

use super::FetchFault;

/// The pause after the first failure.
const PAUSE_MIN: Duration = Duration::from_secs(5 * 60);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a failure is remembered after its pause.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// How many domains are remembered.
const DOMAINS_MAX: usize = 10_000;

/// The pause before the next try, after so many failures in a row before this one.
pub(super) fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.checked_pow(failures).unwrap_or(u32::MAX);
    PAUSE_MIN.saturating_mul(doubled).min(PAUSE_MAX)
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    count: u32,
    again: Moment,
    /// What is wrong with the policy, if one is announced.
    fault: Option<FetchFault>,
}

/// Failures by domain.
#[derive(Debug, Default)]
pub(super) struct Failures {
    domains: HashMap<String, Failure>,
    /// The domains by the moment of the next try.
    order: BTreeSet<(Moment, String)>,
}

impl Failures {
    /// Whether the domain waits for its next try.
    pub(super) fn rests(&self, domain: &str, now: Moment) -> bool {
        let failure = self.domains.get(domain);
        failure.is_some_and(|failure| now < failure.again)
    }

    /// What is wrong with the policy of a domain. None if nothing is known to be.
    pub(super) fn fault(&self, domain: &str) -> Option<FetchFault> {
        self.domains.get(domain)?.fault
    }

    pub(super) fn failed(&mut self, domain: &str, fault: Option<FetchFault>, now: Moment) {
        let before = self.forget(domain).map_or(0, |failure| failure.count);
        while let Some((_, first)) = self
            .order
            .first()
            .filter(|(again, _)| {
                self.domains.len() >= DOMAINS_MAX || again.after(REMEMBERED) <= now
            })
            .cloned()
        {
            self.forget(&first);
        }
        let failure = Failure {
            count: before.saturating_add(1),
            again: now.after(pause(before)),
            fault,
        };
        self.order.insert((failure.again, domain.to_owned()));
        self.domains.insert(domain.to_owned(), failure);
    }

    pub(super) fn succeeded(&mut self, domain: &str) {
        self.forget(domain);
    }

    fn forget(&mut self, domain: &str) -> Option<Failure> {
        let (name, failure) = self.domains.remove_entry(domain)?;
        self.order.remove(&(failure.again, name));
        Some(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Moment {
        Moment(Duration::from_secs(60 * minutes))
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        let pauses = [0, 1, 2, 3, 4, 40].map(|failures| pause(failures).as_secs() / 60);
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        let mut failures = Failures::default();
        assert!(!failures.rests("a.test", at(0)));
        failures.failed("a.test", None, at(0));
        assert!(failures.rests("a.test", at(4)) && !failures.rests("a.test", at(5)));
        failures.failed("a.test", None, at(5));
        assert!(failures.rests("a.test", at(14)) && !failures.rests("a.test", at(15)));
        assert!(!failures.rests("b.test", at(5)));
        assert_eq!(failures.fault("a.test"), None);
        failures.failed("b.test", Some(FetchFault::Syntax), at(5));
        assert_eq!(failures.fault("b.test"), Some(FetchFault::Syntax));
        failures.succeeded("b.test");
        assert_eq!(failures.fault("b.test"), None);
        failures.succeeded("a.test");
        failures.failed("a.test", None, at(15));
        assert!(failures.rests("a.test", at(19)) && !failures.rests("a.test", at(20)));
    }

    #[test]
    fn the_number_of_domains_is_bounded() {
        let mut failures = Failures::default();
        for number in 0..=DOMAINS_MAX as u64 {
            failures.failed(&format!("{number}.test"), None, at(number));
        }
        let count = |failures: &Failures| (failures.domains.len(), failures.order.len());
        // Those that failed more than an hour before are forgotten.
        assert!(count(&failures).0 < 70, "{:?}", count(&failures));
        for number in 0..=DOMAINS_MAX {
            failures.failed(&format!("{number}.test"), None, at(0));
        }
        assert_eq!(count(&failures), (DOMAINS_MAX, DOMAINS_MAX));
    }
}
