//! The addresses of hosts, over all sites: how many connections each has, and which failed lately.
//!
//! | rule | figure |
//! |---|---|
//! | connections of an address | `delivery.connections_per_address` |
//! | of them not open yet | [`OPENING_MAX`]; [`OPENING_GOOD_MAX`] after a success in [`GOOD_FOR`] |
//! | mark after a failed connection | [`MARK`], doubled each time up to [`MARK_MAX`] |
//! | mark after a 421 greeting | [`SHORT_MARK`] |
//!
//! Other addresses go before a marked one. Who finds no place waits a moment for one, and then
//! comes later, so that silent addresses hold few deliveries.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_store::{Clock, Moment};
use tokio::{sync::Notify, time::Instant};

/// The connections of an address that are not open yet.
const OPENING_MAX: usize = 2;
/// The same after a success.
const OPENING_GOOD_MAX: usize = 4;
/// How long a success counts.
const GOOD_FOR: Duration = Duration::from_secs(10 * 60);
/// How long an address is marked after its first failed connection.
const MARK: Duration = Duration::from_secs(5 * 60);
/// The longest mark.
const MARK_MAX: Duration = Duration::from_secs(60 * 60);
/// How long an address is marked that says 421.
const SHORT_MARK: Duration = Duration::from_secs(60);
/// Longer marks last over a restart.
const MARK_KEPT: Duration = Duration::from_secs(10 * 60);
/// How long to wait for a place.
const WAIT: Duration = Duration::from_secs(5);
/// From so many addresses on, those of which nothing is known any more are forgotten.
const SWEEP_MIN: usize = 1024;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// At an address.
    Ip(SocketAddr),
    /// At a Unix socket of this machine.
    Socket(Arc<Path>),
}

impl Peer {
    /// The IP address. None for a Unix socket.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Socket(_) => None,
        }
    }

    /// What is sent there does not leave this machine.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Socket(_) => true,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// The mark of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its end.
    pub(crate) until: Moment,
    /// How often connections failed since the last success.
    pub(crate) failures: u32,
}

/// The addresses with connections, and those that are marked.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// The most connections of an address.
    max: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    by_address: HashMap<Peer, Entry>,
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Entry {
    open: usize,
    /// Those of the open ones that do not take mail yet.
    opening: usize,
    success: Option<Moment>,
    /// How often connections failed since the last success.
    failures: u32,
    /// The end of the mark.
    until: Moment,
    /// How long the last mark was.
    mark: Duration,
    /// How many wait for a place.
    waiting: usize,
    /// Rings when a place is free.
    free: Arc<Notify>,
    /// Rings when an idle connection is to make room.
    wanted: Arc<Notify>,
}

impl Entry {
    fn is_marked(&self, now: Moment) -> bool {
        now < self.until
    }

    /// Whether there is a place, beside those for so many others.
    fn has_room(&self, max: usize, others: usize, now: Moment) -> bool {
        let good = self.success.is_some_and(|at| now.since(at) < GOOD_FOR);
        let opening = if good { OPENING_GOOD_MAX } else { OPENING_MAX };
        self.open + others < max && self.opening + others < opening
    }

    fn is_of_use(&self, now: Moment) -> bool {
        self.open > 0
            || self.waiting > 0
            || now < self.until.after(MARK_MAX)
            || self.success.is_some_and(|at| now.since(at) < GOOD_FOR)
    }
}

/// The place of one connection at an address. It ends with the value.
#[derive(Debug)]
pub(crate) struct Place {
    addresses: Arc<Addresses>,
    address: Peer,
    opening: bool,
}

/// The answer to a wish for a place.
enum Wish {
    Place(Place),
    /// The address failed lately, or too many wait for it.
    No,
    /// None is free. The bell rings when one may be.
    Wait(Arc<Notify>),
}

impl Addresses {
    /// `max`: the most connections of an address.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            entries: Mutex::new(Entries {
                by_address: HashMap::new(),
                sweep_at: SWEEP_MIN,
            }),
        }
    }

    /// The lock is held for a moment, never over a wait.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections to this address failed lately.
    pub(crate) fn is_marked(&self, address: &Peer, now: Moment) -> bool {
        let entries = self.entries();
        let entry = entries.by_address.get(address);
        entry.is_some_and(|entry| entry.is_marked(now))
    }

    /// Whether an address takes no further connection now: it has as many as it may have, or
    /// connections to it failed lately.
    pub(crate) fn is_closed(&self, address: &Peer, now: Moment) -> bool {
        let entries = self.entries();
        let entry = entries.by_address.get(address);
        entry.is_some_and(|entry| entry.is_marked(now) || !entry.has_room(self.max, 0, now))
    }

    /// Until when an address is marked. None: it is not.
    pub(crate) fn marked_until(&self, address: &Peer, now: Moment) -> Option<Moment> {
        let entries = self.entries();
        let entry = entries.by_address.get(address)?;
        entry.is_marked(now).then_some(entry.until)
    }

    /// The marks that last for more than [`MARK_KEPT`], or did when they were made. Sockets of this
    /// machine have none.
    pub(crate) fn marks(&self, now: Moment) -> HashMap<SocketAddr, Mark> {
        let entries = self.entries();
        let marks = entries.by_address.iter().filter_map(|(peer, entry)| {
            let Peer::Ip(address) = peer else {
                return None;
            };
            let (until, failures) = (entry.until, entry.failures);
            let kept = entry.is_marked(now) && entry.mark > MARK_KEPT;
            kept.then_some((*address, Mark { until, failures }))
        });
        marks.collect()
    }

    /// Sets a mark from before a restart.
    pub(crate) fn restore(&self, address: SocketAddr, mark: Mark) {
        let mut entries = self.entries();
        let entry = entries.by_address.entry(address.into()).or_default();
        entry.until = entry.until.max(mark.until);
        entry.failures = entry.failures.max(mark.failures);
        entry.mark = MARK_MAX;
    }

    /// A place for a connection. Waits a moment for one. None: there is none, or the address is
    /// marked and `even_marked` is false.
    pub(crate) async fn place(
        self: &Arc<Self>,
        address: &Peer,
        clock: &dyn Clock,
        even_marked: bool,
    ) -> Option<Place> {
        let free = match self.wish(address, clock.moment(), even_marked, true) {
            Wish::Place(place) => return Some(place),
            Wish::No => return None,
            Wish::Wait(free) => free,
        };
        let _waiting = Waiting {
            addresses: self,
            address,
        };
        let end = Instant::now() + WAIT;
        loop {
            let in_time = tokio::time::timeout_at(end, free.notified()).await.is_ok();
            match self.wish(address, clock.moment(), even_marked, false) {
                Wish::Place(place) => return Some(place),
                Wish::Wait(_) if in_time => {}
                Wish::Wait(_) | Wish::No => return None,
            }
        }
    }

    /// `first`: the caller did not ask before. If it has to wait, it counts from now on.
    fn wish(self: &Arc<Self>, address: &Peer, now: Moment, even_marked: bool, first: bool) -> Wish {
        let mut entries = self.entries();
        entries.sweep(now);
        let entry = entries.by_address.entry(address.clone()).or_default();
        if entry.is_marked(now) && !even_marked {
            return Wish::No;
        }
        // Who asks for the first time comes after those who wait.
        let others = if first { entry.waiting } else { 0 };
        if entry.has_room(self.max, others, now) {
            entry.open += 1;
            entry.opening += 1;
            return Wish::Place(Place {
                addresses: Arc::clone(self),
                address: address.clone(),
                opening: true,
            });
        }
        if first {
            if entry.waiting >= self.max {
                return Wish::No;
            }
            entry.waiting += 1;
        }
        entry.wanted.notify_one();
        Wish::Wait(Arc::clone(&entry.free))
    }

    fn change(&self, address: &Peer, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries().by_address.get_mut(address) {
            change(entry);
        }
    }
}

impl Entries {
    /// Forgets addresses of which nothing is known any more, when there are many.
    fn sweep(&mut self, now: Moment) {
        if self.by_address.len() >= self.sweep_at {
            self.by_address.retain(|_, entry| entry.is_of_use(now));
            self.sweep_at = self.by_address.len().saturating_mul(2).max(SWEEP_MIN);
        }
    }
}

/// Counts as waiting until it ends.
struct Waiting<'a> {
    addresses: &'a Addresses,
    address: &'a Peer,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.addresses.change(self.address, |entry| {
            entry.waiting = entry.waiting.saturating_sub(1);
        });
    }
}

impl Place {
    /// The address of the connection.
    pub(super) const fn address(&self) -> &Peer {
        &self.address
    }

    /// The connection takes mail. True: that ends a mark that is kept over a restart.
    pub(super) fn opened(&mut self, now: Moment) -> bool {
        let opening = std::mem::replace(&mut self.opening, false);
        let mut was_kept = false;
        self.addresses.change(&self.address, |entry| {
            was_kept = entry.is_marked(now) && entry.mark > MARK_KEPT;
            entry.opening -= usize::from(opening);
            entry.success = Some(now);
            entry.failures = 0;
            entry.until = Moment::default();
            entry.free.notify_one();
        });
        was_kept
    }

    /// The connection can't be made, or its greeting did not come. `busy`: the host said 421.
    pub(super) fn failed(self, now: Moment, busy: bool) {
        self.addresses.change(&self.address, |entry| {
            let doubled = MARK.saturating_mul(1 << entry.failures.min(8));
            entry.failures = entry.failures.saturating_add(1);
            entry.success = None;
            let mark = if busy {
                SHORT_MARK
            } else {
                doubled.min(MARK_MAX)
            };
            entry.until = entry.until.max(now.after(mark));
            entry.mark = mark;
            // Those who wait find the mark.
            entry.free.notify_waiters();
        });
    }

    /// Ends when others wait for a place at this address.
    pub(super) async fn wanted(&self) {
        loop {
            let mut wanted = None;
            self.addresses.change(&self.address, |entry| {
                wanted = (entry.waiting == 0).then(|| Arc::clone(&entry.wanted));
            });
            match wanted {
                Some(bell) => bell.notified().await,
                None => return,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.addresses.change(&self.address, |entry| {
            entry.open -= 1;
            entry.opening -= usize::from(self.opening);
            entry.free.notify_one();
        });
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::{ManualClock, Time};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn peer() -> Peer {
        Peer::Ip("192.0.2.1:25".parse().unwrap())
    }

    struct Table {
        addresses: Arc<Addresses>,
        clock: ManualClock,
    }

    impl Table {
        fn new(max: usize) -> Self {
            Self {
                addresses: Arc::new(Addresses::new(max)),
                clock: ManualClock::new(Time(0)),
            }
        }

        async fn place(&self, even_marked: bool) -> Option<Place> {
            self.addresses
                .place(&peer(), &self.clock, even_marked)
                .await
        }

        fn now(&self) -> Moment {
            self.clock.moment()
        }

        fn is_marked(&self) -> bool {
            self.addresses.is_marked(&peer(), self.now())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_connections_open_at_once_and_more_after_a_success() {
        let table = Table::new(5);
        let mut first = table.place(false).await.unwrap();
        let second = table.place(false).await.unwrap();
        assert!(table.place(false).await.is_none());
        first.opened(table.now());
        let more = [
            table.place(false).await.unwrap(),
            table.place(false).await.unwrap(),
            table.place(false).await.unwrap(),
        ];
        assert!(table.place(false).await.is_none(), "there are five");
        drop(more);
        drop(second);
        table.clock.advance(11 * MINUTE);
        let _third = table.place(false).await.unwrap();
        let _fourth = table.place(false).await.unwrap();
        assert!(table.place(false).await.is_none(), "the success is old");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_free_goes_to_a_waiter_and_idle_connections_make_room() {
        let table = Table::new(1);
        let mut first = table.place(false).await.unwrap();
        first.opened(table.now());
        let (second, ()) = tokio::join!(table.place(false), async {
            // An idle connection ends when it is wanted.
            first.wanted().await;
            drop(first);
        });
        assert!(second.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_comes_after_those_who_wait() {
        let table = Table::new(2);
        let first = table.place(false).await.unwrap();
        let _second = table.place(false).await.unwrap();
        let order = std::cell::RefCell::new(Vec::new());
        let take = async |name: &'static str| {
            let place = table.place(false).await;
            order.borrow_mut().push(name);
            drop(place);
        };
        tokio::join!(take("waits"), async {
            drop(first);
            take("new").await;
        });
        assert_eq!(*order.borrow(), ["waits", "new"]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_mark_an_address_for_longer_each_time() {
        let table = Table::new(5);
        for minutes in [5, 10, 20, 40, 60, 60] {
            table.place(true).await.unwrap().failed(table.now(), false);
            table
                .clock
                .advance(minutes * MINUTE - Duration::from_secs(1));
            assert!(table.is_marked() && table.place(false).await.is_none());
            table.clock.advance(Duration::from_secs(1));
            assert!(!table.is_marked(), "{minutes}");
        }
        table.place(false).await.unwrap().opened(table.now());
        table.place(true).await.unwrap().failed(table.now(), true);
        table.clock.advance(MINUTE);
        assert!(!table.is_marked());
        let tries = [table.place(false).await, table.place(false).await];
        for place in tries.into_iter().flatten() {
            place.failed(table.now(), false);
        }
        table.place(true).await.unwrap().opened(table.now());
        assert!(!table.is_marked(), "a success ends the mark");
    }

    /// The third failure in a row makes a mark of 20 minutes.
    #[tokio::test(start_paused = true)]
    async fn long_marks_last_over_a_restart_until_a_success() {
        let table = Table::new(5);
        for kept in [0, 0, 1] {
            assert!(table.addresses.marks(table.now()).is_empty());
            table.place(true).await.unwrap().failed(table.now(), false);
            assert_eq!(table.addresses.marks(table.now()).len(), kept);
        }
        table.clock.advance(15 * MINUTE);
        let marks = table.addresses.marks(table.now());
        assert_eq!(marks.len(), 1, "less than that is left of it");
        let again = Table::new(5);
        again.clock.advance(15 * MINUTE);
        for (address, mark) in &marks {
            again.addresses.restore(*address, *mark);
        }
        assert_eq!(again.addresses.marks(again.now()), marks);
        assert!(again.place(false).await.is_none());
        again.clock.advance(5 * MINUTE);
        assert!(again.addresses.marks(again.now()).is_empty(), "it is over");
        again.place(true).await.unwrap().failed(again.now(), false);
        assert!(again.place(true).await.unwrap().opened(again.now()));
        assert!(again.addresses.marks(again.now()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_learns_of_a_failure() {
        let table = Table::new(5);
        let first = table.place(false).await.unwrap();
        let _second = table.place(false).await.unwrap();
        let start = Instant::now();
        let (third, ()) = tokio::join!(table.place(false), async {
            tokio::task::yield_now().await;
            first.failed(table.now(), false);
        });
        assert!(third.is_none());
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_which_nothing_is_known_are_forgotten() {
        let table = Table::new(5);
        for number in 0..3 * SWEEP_MIN {
            let address = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 25));
            let place = table
                .addresses
                .place(&address.into(), &table.clock, false)
                .await;
            drop(place.unwrap());
            table.clock.advance(3 * MARK_MAX);
        }
        assert!(table.addresses.entries().by_address.len() <= SWEEP_MIN);
    }
}
