//! Faults of our own: they count for no message, and are told once.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::errno::Errno;
use postrider_dns::organisation;
use postrider_store::Moment;
use tokio::sync::watch;
use tracing::{error, info};

/// The first pause when no connection can be made. It doubles while that goes on.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a fault is told that concerns single destinations or keys.
const TELL_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Why we can't make a connection, whatever the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnFault {
    /// File descriptors, memory or buffers are used up. No other address helps.
    UsedUp,
    /// This machine has no way to the address, or not from the address that it should use.
    NoWay,
    /// Something that the configuration names can't be used, such as a file.
    Settings,
    /// The store does not tell what is needed.
    Store,
}

impl OwnFault {
    /// None: the fault is not ours. The error of a connection has lost its number if it came from
    /// outside (`dial`).
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        Self::of_errno(error.raw_os_error()?)
    }

    /// The same for the number of an error of the system.
    pub(crate) fn of_errno(errno: i32) -> Option<Self> {
        match Errno::from_raw(errno) {
            Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM => Some(Self::UsedUp),
            Errno::ENETUNREACH
            | Errno::ENETDOWN
            | Errno::EADDRNOTAVAIL
            | Errno::EADDRINUSE
            | Errno::EAFNOSUPPORT
            | Errno::EACCES
            | Errno::EPERM => Some(Self::NoWay),
            _ => None,
        }
    }
}

/// How many look-ups tell whether our resolver works, each of names of another registrable domain.
const LOOK_UPS: usize = 50;
/// If so many of them have no answer, our resolver is out of order.
const UNANSWERED: usize = 40;
/// How long a look-up counts.
const LOOK_UP_COUNTS: Duration = Duration::from_secs(10 * 60);
/// How many names without an answer are remembered, and for how long.
const FAILED_MAX: usize = 10_000;
const FAILED_COUNTS: Duration = Duration::from_secs(60 * 60);
/// How long all deliveries wait for our resolver.
const RESOLVER_PAUSE: Duration = Duration::from_secs(30);

/// Our own faults now.
#[derive(Debug)]
pub(crate) struct Faults {
    state: Mutex<State>,
    /// How many results could not be stored so far. While there are any, nothing is claimed.
    unsettled: watch::Sender<usize>,
    /// The queue ends: results that can't be stored are given up.
    ending: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// No connection is to be made before. None: connections can be made.
    until: Option<Moment>,
    pause: Duration,
    /// When a fault of single destinations or keys was told.
    told: Option<Moment>,
    /// The last look-ups, the last one at the end.
    look_ups: VecDeque<LookUp>,
    /// The names that had no answer, and when they had none.
    failed: HashMap<String, Moment>,
    /// The resolver is out of order. Nothing is to be looked up before.
    resolver: Option<Moment>,
}

impl State {
    /// Notes whether a name has an answer. True: it had none before.
    fn failed_before(&mut self, name: &str, answered: bool, now: Moment) -> bool {
        let counts = |at: &Moment| now.since(*at) < FAILED_COUNTS;
        let before = self.failed.get(name).is_some_and(counts);
        if answered {
            self.failed.remove(name);
            return before;
        }
        if self.failed.len() >= FAILED_MAX {
            self.failed.retain(|_, at| counts(at));
        }
        if self.failed.len() < FAILED_MAX || before {
            self.failed.insert(name.to_owned(), now);
        }
        before
    }
}

/// The last look-up of a name of a registrable domain.
#[derive(Debug)]
struct LookUp {
    domain: String,
    answered: bool,
    at: Moment,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            unsettled: watch::Sender::new(0),
            ending: watch::Sender::new(false),
        }
    }
}

impl Faults {
    /// The lock is held for a moment, never over a wait.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No connection can be made. Gives the moment of the next try. The log is told when this
    /// begins.
    pub(crate) fn used_up(&self, error: &dyn fmt::Display, now: Moment) -> Moment {
        let mut state = self.state();
        if let Some(until) = state.until
            && now < until
        {
            return until;
        }
        if state.until.is_none() {
            error!(%error, "no connection can be made; nothing is delivered until that is over, and no attempt counts");
        }
        state.pause = (state.pause * 2).clamp(PAUSE, PAUSE_MAX);
        let until = now.after(state.pause);
        state.until = Some(until);
        until
    }

    /// A connection was made.
    pub(crate) fn connected(&self) {
        let mut state = self.state();
        if state.until.take().is_some() {
            state.pause = Duration::ZERO;
            info!("connections can be made again");
        }
    }

    /// A name was looked up. If most look-ups have no answer, it is our resolver that is out of
    /// order. Then this gives the moment until which all wait. The log is told when this begins and
    /// ends.
    ///
    /// The names of a registrable domain count as one: whoever has a domain can make as many names
    /// as he likes, all without an answer.
    pub(crate) fn looked_up(&self, name: &str, answered: bool, now: Moment) -> Option<Moment> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let domain = organisation(&name);
        let mut state = self.state();
        let failed_before = state.failed_before(&name, answered, now);
        if answered && failed_before && state.resolver.take().is_some() {
            // No cache has this answer. What failed until now says nothing any more.
            state.look_ups.clear();
            info!("the resolver answers again");
        }
        if !answered && failed_before && state.resolver.is_none() {
            // It failed while the resolver worked.
            return None;
        }
        state
            .look_ups
            .retain(|it| it.domain != domain && now.since(it.at) < LOOK_UP_COUNTS);
        if state.look_ups.len() >= LOOK_UPS {
            state.look_ups.pop_front();
        }
        state.look_ups.push_back(LookUp {
            domain: domain.to_owned(),
            answered,
            at: now,
        });
        let unanswered = state.look_ups.iter().filter(|it| !it.answered).count();
        if unanswered < UNANSWERED || (state.resolver.is_none() && state.look_ups.len() < LOOK_UPS)
        {
            if state.resolver.take().is_some() {
                info!("the resolver answers again");
            }
            return None;
        }
        if answered {
            return state.resolver;
        }
        if state.resolver.is_none() {
            error!(
                unanswered,
                of = LOOK_UPS,
                "most look-ups have no answer, so the resolver seems to be out of order; all deliveries wait, and no attempt counts"
            );
        }
        let until = match state.resolver.filter(|until| now < *until) {
            Some(until) => until,
            // A name that fails once more says nothing new of the resolver. It waits alone.
            None if failed_before => return Some(now.after(RESOLVER_PAUSE)),
            None => now.after(RESOLVER_PAUSE),
        };
        state.resolver = Some(until);
        Some(until)
    }

    /// Whether our resolver seems to be out of order. All may go on meanwhile, to see whether it
    /// still is.
    pub(crate) fn is_resolver_out(&self) -> bool {
        self.state().resolver.is_some()
    }

    /// Until when all wait for our resolver, which is out of order. None: it is not.
    pub(crate) fn resolver_rests(&self, now: Moment) -> Option<Moment> {
        self.state().resolver.filter(|until| now < *until)
    }

    /// Whether to tell of a fault that many messages share.
    pub(crate) fn tell(&self, now: Moment) -> bool {
        let mut state = self.state();
        let tell = state.told.is_none_or(|at| now.since(at) >= TELL_AGAIN);
        if tell {
            state.told = Some(now);
        }
        tell
    }

    /// The moment before which nothing is to be claimed.
    pub(crate) fn until(&self, now: Moment) -> Option<Moment> {
        let state = self.state();
        state.until.max(state.resolver).filter(|until| now < *until)
    }

    /// Some results could not be stored so far.
    pub(crate) fn is_unsettled(&self) -> bool {
        *self.unsettled.borrow() > 0
    }

    /// Tells when that changes.
    pub(crate) fn unsettled(&self) -> watch::Receiver<usize> {
        self.unsettled.subscribe()
    }

    /// Results could not be stored. They count until the value ends.
    pub(crate) fn unsettle(&self) -> Unsettled<'_> {
        self.unsettled.send_modify(|count| *count += 1);
        Unsettled(self)
    }

    /// The queue ends.
    pub(crate) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Waits until the queue ends.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as this.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }
}

/// Results that could not be stored so far.
pub(crate) struct Unsettled<'a>(&'a Faults);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.unsettled.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faults_of_others_are_not_ours() {
        let of = |errno: Errno| OwnFault::of(&io::Error::from_raw_os_error(errno as i32));
        assert_eq!(of(Errno::EMFILE), Some(OwnFault::UsedUp));
        assert_eq!(of(Errno::ENFILE), Some(OwnFault::UsedUp));
        assert_eq!(of(Errno::ENETUNREACH), Some(OwnFault::NoWay));
        assert_eq!(of(Errno::EADDRNOTAVAIL), Some(OwnFault::NoWay));
        for errno in [Errno::ECONNREFUSED, Errno::ETIMEDOUT, Errno::EHOSTUNREACH] {
            assert_eq!(of(errno), None);
        }
        assert_eq!(OwnFault::of(&io::ErrorKind::ConnectionRefused.into()), None);
    }

    #[test]
    fn the_pause_grows_while_nothing_can_be_made() {
        let faults = Faults::default();
        let error = io::Error::from_raw_os_error(Errno::EMFILE as i32);
        let mut now = Moment::default();
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let until = faults.used_up(&error, now);
            assert_eq!(until.since(now).as_secs(), seconds);
            assert_eq!(faults.used_up(&error, now), until, "it is known already");
            assert_eq!(faults.until(now), Some(until));
            now = until;
            assert_eq!(faults.until(now), None);
        }
        faults.connected();
        assert_eq!(faults.used_up(&error, now).since(now).as_secs(), 1);
    }

    #[test]
    fn most_names_without_an_answer_are_a_fault_of_our_resolver() {
        let faults = Faults::default();
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let look_up = |number: usize, answered, now| {
            faults.looked_up(&format!("{number}.test"), answered, at(now))
        };
        for number in 0..LOOK_UPS - UNANSWERED {
            assert_eq!(look_up(900 + number, true, 0), None);
        }
        for number in 1..UNANSWERED {
            assert_eq!(look_up(number, false, 0), None);
        }
        assert_eq!(faults.until(at(0)), None);
        assert_eq!(look_up(100, false, 0), Some(at(30)));
        assert_eq!(look_up(101, false, 5), Some(at(30)));
        assert_eq!(
            (faults.until(at(29)), faults.until(at(30))),
            (Some(at(30)), None)
        );
        assert_eq!(faults.resolver_rests(at(29)), Some(at(30)));
        assert_eq!(faults.resolver_rests(at(30)), None);
        assert_eq!(look_up(102, false, 40), Some(at(70)), "it goes on");
        for number in 0..LOOK_UPS - UNANSWERED {
            look_up(200 + number, true, 70);
        }
        assert_eq!(look_up(300, false, 70), Some(at(100)));
        for number in 0..3 {
            look_up(400 + number, true, 70);
        }
        assert_eq!((look_up(500, true, 70), faults.until(at(70))), (None, None));
        // What is long ago says nothing.
        for number in 0..UNANSWERED - 1 {
            look_up(600 + number, false, 2000);
        }
        assert_eq!(look_up(700, false, 2600), None);
        assert!(faults.state().look_ups.len() <= LOOK_UPS);
    }

    /// Also if these names are nearly all that is looked up.
    #[test]
    fn a_few_domains_can_not_show_our_resolver_out_of_order() {
        let faults = Faults::default();
        let now = Moment(Duration::from_secs(1));
        for name in 0..100 {
            for shape in [
                "Mx{}.a.example",
                "mx{}.x.b.co.uk.",
                "_25._tcp.mx{}.c.test",
                "{}.d.test",
            ] {
                let name = shape.replace("{}", &name.to_string());
                assert_eq!(faults.looked_up(&name, false, now), None, "{name}");
            }
        }
        assert_eq!(faults.state().look_ups.len(), 4);
        // With fewer than all look-ups nothing is known.
        for domain in 4..LOOK_UPS - 1 {
            let name = format!("{domain}.test");
            assert_eq!(faults.looked_up(&name, false, now), None, "{name}");
        }
        assert!(faults.looked_up("last.test", false, now).is_some());
    }

    #[test]
    fn a_name_that_fails_once_more_halts_nothing_and_its_answer_lets_all_go_on() {
        let faults = Faults::default();
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let look_up = |number: usize, answered, now| {
            faults.looked_up(&format!("{number}.test"), answered, at(now))
        };
        let names = 2 * LOOK_UPS;
        for number in 0..names {
            look_up(number, false, 0);
        }
        assert_eq!(faults.until(at(0)), Some(at(30)));
        // All of them are asked again, in vain. Each waits alone, and no attempt counts.
        for number in 0..names {
            assert_eq!(look_up(number, false, 31), Some(at(61)));
        }
        assert_eq!(faults.until(at(31)), None);
        assert!(faults.is_resolver_out());
        // Another name may be in a cache. A new failure halts all.
        look_up(1000, true, 31);
        assert!(faults.is_resolver_out());
        assert_eq!(look_up(1001, false, 31), Some(at(61)));
        assert_eq!(faults.until(at(31)), Some(at(61)));
        assert_eq!(look_up(0, true, 32), None);
        assert!(!faults.is_resolver_out() && faults.until(at(32)).is_none());
        // What failed so far shows no fault of the resolver, however often it is asked.
        for number in 1..names {
            assert_eq!(look_up(number, false, 32), None);
        }
        assert!(faults.state().look_ups.len() < LOOK_UPS);
    }

    #[test]
    fn results_count_as_unsettled_until_they_are_stored() {
        let faults = Faults::default();
        let first = faults.unsettle();
        let second = faults.unsettle();
        drop(first);
        assert!(faults.is_unsettled());
        drop(second);
        assert!(!faults.is_unsettled());
    }
}
