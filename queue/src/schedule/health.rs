//! What is known of a site: whether it answers, and whether it rests after failures.
//!
//! The loop and the workers of the site share it. A site is *good* after a success in the last ten
//! minutes, if its attempts took less than five seconds a message. It is *down* for a while after a
//! connection failed while it had no other. Then the next connection is a probe.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_smtp::DeliveryStatus;
use postrider_store::Moment;

use super::down_for;

/// How long a success counts.
const GOOD_FOR: Duration = Duration::from_secs(10 * 60);
/// The mean time of a message from which on a site is not good.
const SLOW: Duration = Duration::from_secs(5);
/// How long it counts that a site was slow. Until then it is tried again, also if there are many.
const SLOW_FOR: Duration = Duration::from_secs(6 * 60 * 60);
/// The connections of a site that did not answer lately.
const UNKNOWN_MAX: usize = 2;
/// How long a site has no more connections than it had when one failed.
const CAPPED_FOR: Duration = Duration::from_secs(60);

/// What is known of a site.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    success: Option<Moment>,
    /// The mean time of a message.
    mean: Duration,
    /// When the site last took long.
    slow: Option<Moment>,
    /// The open connections.
    connected: usize,
    /// The failures since the last success.
    failures: u32,
    /// The most connections, and until when.
    cap: Option<(usize, Moment)>,
    down: Option<Down>,
}

/// A site that is down.
#[derive(Clone, Debug)]
pub(crate) struct Down {
    /// Until when.
    pub(crate) until: Moment,
    /// A connection failed since the last success.
    pub(crate) failing: bool,
    /// The last error.
    pub(crate) status: DeliveryStatus,
}

/// An open connection to a site. It ends with the value.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Health>);

impl Drop for Connected {
    fn drop(&mut self) {
        let mut known = self.0.known();
        known.connected = known.connected.saturating_sub(1);
    }
}

impl Health {
    /// The lock is held for a moment, never over a wait.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is open.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        let mut known = self.known();
        known.connected += 1;
        known.failures = 0;
        known.down = None;
        Connected(Arc::clone(self))
    }

    /// The site answered for so many messages, in this time. Returns true if it did not answer
    /// lately, or is good from now on.
    pub(crate) fn answered(&self, messages: usize, took: Duration, now: Moment) -> bool {
        let mut known = self.known();
        let (answered, was_good) = (known.answered(now), known.is_good(now));
        let messages = u32::try_from(messages).unwrap_or(u32::MAX).max(1);
        let took = took / messages;
        known.mean = match known.success {
            Some(_) => (known.mean * 3 + took) / 4,
            None => took,
        };
        known.success = Some(now);
        known.slow = (known.mean >= SLOW).then_some(now);
        !answered || (!was_good && known.is_good(now))
    }

    /// There was a connection for this time, and no answer for any message.
    pub(crate) fn unanswered(&self, took: Duration, now: Moment) {
        if took >= SLOW {
            self.known().slow = Some(now);
        }
    }

    /// A connection failed. While the site has others, it gets no more than those for a while.
    /// Otherwise it is down, for `max` at most.
    pub(crate) fn failed(&self, status: &DeliveryStatus, max: Duration, now: Moment) {
        let mut known = self.known();
        if known.connected > 0 {
            known.cap = Some((known.connected, now.after(CAPPED_FOR)));
            return;
        }
        let down = down_for(usize::try_from(known.failures).unwrap_or(usize::MAX));
        known.failures = known.failures.saturating_add(1);
        let rests = known.down.as_ref().map_or(now, |down| down.until);
        known.down = Some(Down {
            until: now.after(down.min(max)).max(rests),
            failing: true,
            status: status.clone(),
        });
    }

    /// Nothing is to be tried at the site until then, and that is no failure.
    pub(crate) fn rest(&self, status: &DeliveryStatus, until: Moment) {
        let mut known = self.known();
        if known.connected == 0 {
            known.down = Some(Down {
                until,
                failing: known.failures > 0,
                status: status.clone(),
            });
        }
    }

    /// A host said that nothing is to come until then. Connections that are open change nothing.
    pub(crate) fn rest_as_told(&self, status: &DeliveryStatus, until: Moment) {
        let mut known = self.known();
        known.down = Some(Down {
            until,
            failing: known.failures > 0,
            status: status.clone(),
        });
    }

    /// The site is no more down. If it failed, the next connection is a probe.
    pub(crate) fn forgive(&self) {
        self.known().down = None;
    }

    /// The site, if it is down now.
    pub(crate) fn down(&self, now: Moment) -> Option<Down> {
        let known = self.known();
        known.down.clone().filter(|down| now < down.until)
    }

    /// The next connection is to find out whether the site is still down.
    pub(crate) fn is_probed(&self) -> bool {
        self.known().failures > 0
    }

    /// The site answered lately, and fast.
    pub(crate) fn is_good(&self, now: Moment) -> bool {
        self.known().is_good(now)
    }

    /// The site is known to fail, or to be slow. No such thing is known of a site that was never
    /// tried.
    pub(crate) fn is_poor(&self, now: Moment) -> bool {
        let known = self.known();
        known.failures > 0 || known.is_slow(now)
    }

    /// How many connections the site may have now, if `max` is the limit.
    pub(crate) fn connections(&self, max: usize, now: Moment) -> usize {
        let known = self.known();
        match known.cap {
            _ if known.failures > 0 => 1,
            Some((cap, until)) if now < until => cap.clamp(1, max.max(1)),
            _ if !known.answered(now) => max.min(UNKNOWN_MAX),
            _ => max,
        }
    }

    /// Something is known that is still of use.
    pub(crate) fn is_of_use(&self, now: Moment) -> bool {
        let known = self.known();
        let down = known.down.as_ref();
        known.connected > 0
            || known.answered(now)
            || known.is_slow(now)
            || down.is_some_and(|down| now < down.until.after(Duration::from_secs(3600)))
    }
}

impl Known {
    fn is_good(&self, now: Moment) -> bool {
        self.answered(now) && self.mean < SLOW
    }

    fn is_slow(&self, now: Moment) -> bool {
        self.slow.is_some_and(|at| now.since(at) < SLOW_FOR)
    }

    fn answered(&self, now: Moment) -> bool {
        self.success.is_some_and(|at| now.since(at) < GOOD_FOR)
    }
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{Cause, EnhancedCode};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const MAX: Duration = Duration::from_secs(24 * 3600);

    fn at(minutes: u32) -> Moment {
        Moment(MINUTE * minutes)
    }

    fn status() -> DeliveryStatus {
        DeliveryStatus::transient(Cause::Connect, EnhancedCode::NO_ANSWER, "silent")
    }

    #[test]
    fn a_site_that_fails_is_probed_at_longer_and_longer_intervals() {
        let health = Arc::new(Health::default());
        let mut now = 0;
        for minutes in [1, 2, 4, 8, 15, 30, 30] {
            health.failed(&status(), MAX, at(now));
            let down = health.down(at(now)).unwrap();
            assert_eq!(down.until, at(now + minutes));
            assert!(down.failing);
            assert_eq!(health.connections(10, at(now)), 1);
            now += minutes;
            assert!(health.down(at(now)).is_none() && health.is_probed());
        }
        let connected = health.connected();
        assert!(!health.is_probed());
        assert_eq!(health.connections(10, at(now)), UNKNOWN_MAX);
        drop(connected);
        health.failed(&status(), MINUTE / 2, at(now));
        let down = health.down(at(now)).unwrap();
        assert_eq!(down.until, at(now).after(MINUTE / 2));
        assert!(down.failing);
    }

    #[test]
    fn a_site_rests_as_it_says_for_longer_than_a_failure_takes() {
        let health = Arc::new(Health::default());
        let open = health.connected();
        health.rest_as_told(&status(), at(120));
        let down = health.down(at(119)).unwrap();
        assert!(!down.failing && health.down(at(120)).is_none());
        drop(open);
        health.failed(&status(), MAX, at(1));
        assert_eq!(health.down(at(1)).unwrap().until, at(120));
    }

    #[test]
    fn a_site_with_open_connections_is_not_down() {
        let health = Arc::new(Health::default());
        let _open = [health.connected(), health.connected(), health.connected()];
        assert!(health.answered(1, MINUTE, at(0)));
        health.failed(&status(), MAX, at(0));
        assert!(health.down(at(0)).is_none());
        assert_eq!(health.connections(10, at(0)), 3);
        assert_eq!(health.connections(10, at(1)), 10);
    }

    #[test]
    fn a_site_is_good_while_it_answers_fast() {
        let health = Health::default();
        assert!(!health.is_good(at(0)));
        assert!(health.answered(1, 6 * SLOW, at(0)), "it answers");
        assert!(!health.is_good(at(0)));
        let mut good = false;
        for _ in 0..20 {
            good = good || health.answered(10, SLOW, at(0));
        }
        assert!(good && health.is_good(at(9)) && !health.is_good(at(10)));
        assert!(!health.is_poor(at(0)));
        assert!(health.is_of_use(at(9)) && !health.is_of_use(at(10)));
    }

    #[test]
    fn a_site_that_fails_or_takes_long_is_poor_and_an_unknown_one_is_not() {
        let health = Arc::new(Health::default());
        assert!(!health.is_poor(at(0)));
        health.answered(1, SLOW, at(0));
        assert!(health.is_poor(at(359)) && health.is_of_use(at(359)));
        assert!(!health.is_poor(at(360)) && !health.is_of_use(at(360)));
        health.unanswered(SLOW / 2, at(360));
        assert!(
            !health.is_poor(at(360)),
            "the server only closed a connection"
        );
        health.unanswered(MINUTE, at(360));
        assert!(health.is_poor(at(360)));
        for _ in 0..20 {
            health.answered(10, SLOW, at(361));
        }
        assert!(!health.is_poor(at(361)));
        health.failed(&status(), MAX, at(362));
        assert!(health.is_poor(at(362)));
        drop(health.connected());
        assert!(!health.is_poor(at(362)));
    }
}
