//! How many connections a site takes: a window that grows with success and shrinks with trouble.
//!
//! | what happens | the window `w` |
//! |---|---|
//! | at the start | [`START`] |
//! | a success, and all connections but one are at work | + 1/w, unless the site slows down |
//! | the site says "too many connections" | one less than are open; that is learnt for an hour, then one more each 10 minutes |
//! | the site is busy | half, once in 30 seconds, and no growth for a minute; at 1 the site rests |
//! | connect, greeting, TLS or a connection fails | - 1, and 1/w is added to the failures |
//! | the failures are 1 or more, and three in number | the site is dead |
//!
//! A site slows down when the mean of its last 16 transactions is over two seconds and twice the
//! lowest such mean of the hour. There is no I/O here, and the time is an argument.

use std::time::Duration;

use postrider_store::Moment;

/// The connections of a site of which nothing is known.
const START: f64 = 4.0;
/// How long a learnt limit holds.
const LEARNT_FOR: Duration = Duration::from_secs(60 * 60);
/// After that the limit grows by one in this time.
const LEARNT_STEP: Duration = Duration::from_secs(10 * 60);
/// The window is halved no more often than this.
const HALVED_ONCE_IN: Duration = Duration::from_secs(30);
/// How long there is no growth after trouble.
const NO_GROWTH: Duration = Duration::from_secs(60);
/// How long a busy site rests that has one connection, in minutes.
const RESTS: [u64; 6] = [1, 2, 4, 8, 16, 30];
/// A site with so many failures since the last success may be dead.
const DEAD_MIN: u32 = 3;
/// The transactions of a mean.
const TRANSACTIONS: usize = 16;
/// A mean below this is never slow.
const SLOW_MIN: Duration = Duration::from_secs(2);
/// How long the lowest mean counts, at least.
const LOWEST_FOR: Duration = Duration::from_secs(60 * 60);

/// A limit that the site told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Learnt {
    /// So many connections.
    pub(crate) connections: usize,
    /// From then on it grows.
    pub(crate) until: Moment,
}

impl Learnt {
    fn now(self, now: Moment) -> usize {
        let steps = now.since(self.until).as_secs() / LEARNT_STEP.as_secs();
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        self.connections.saturating_add(steps)
    }
}

/// The window of a site.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    w: f64,
    learnt: Option<Learnt>,
    halved: Option<Moment>,
    no_growth_until: Moment,
    /// How often the site rested since it took a message while the window may grow. A window at its
    /// cap does not grow, and the site is busy no more.
    rests: usize,
    /// The weight of the failures since the last success.
    failed: f64,
    failures: u32,
    times: Times,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            w: START,
            learnt: None,
            halved: None,
            no_growth_until: Moment::default(),
            rests: 0,
            failed: 0.0,
            failures: 0,
            times: Times::default(),
        }
    }
}

impl Window {
    /// The most connections, if the site's limits say `max`. At least 1.
    pub(crate) fn cap(&self, max: usize, now: Moment) -> usize {
        let learnt = self.learnt.map_or(usize::MAX, |learnt| learnt.now(now));
        max.min(learnt).max(1)
    }

    /// How many connections there may be now.
    pub(crate) fn connections(&self, max: usize, now: Moment) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 1 and the number of connections"
        )]
        let whole = self.w as usize;
        whole.clamp(1, self.cap(max, now))
    }

    /// The window itself.
    pub(crate) const fn size(&self) -> f64 {
        self.w
    }

    /// What the site told of its limit, while that matters.
    pub(crate) const fn learnt(&self) -> Option<Learnt> {
        self.learnt
    }

    /// Sets what was learnt before a restart.
    pub(crate) fn restore(&mut self, learnt: Option<Learnt>) {
        self.learnt = learnt;
        if let Some(learnt) = learnt {
            self.shrink_to(learnt.connections);
        }
    }

    /// So many messages were taken, while `working` connections were at work.
    pub(crate) fn succeeded(&mut self, messages: usize, working: usize, max: usize, now: Moment) {
        self.answered();
        if now < self.no_growth_until || self.times.slow_down() {
            return;
        }
        let cap = self.cap(max, now);
        if self.learnt.is_some_and(|learnt| learnt.now(now) >= max) {
            self.learnt = None;
        }
        self.rests = 0;
        for _ in 0..messages {
            if working + 1 < self.connections(max, now) || self.w >= whole(cap) {
                break;
            }
            self.w = (self.w + 1.0 / self.w).min(whole(cap));
        }
    }

    /// The site answered in order.
    pub(crate) const fn answered(&mut self) {
        self.failed = 0.0;
        self.failures = 0;
    }

    /// A batch of transactions took this time.
    pub(crate) fn took(&mut self, transactions: usize, time: Duration, now: Moment) {
        self.times.add(transactions, time, now);
    }

    /// The site says that it has too many connections of ours: so many are open, with the one that
    /// it said so on.
    pub(crate) fn too_many(&mut self, open: usize, now: Moment) {
        let connections = open.saturating_sub(1).max(1);
        self.shrink_to(connections);
        self.learnt = Some(Learnt {
            connections,
            until: now.after(LEARNT_FOR),
        });
    }

    /// The site is busy. Gives how long it is to rest, if it has one connection.
    pub(crate) fn busy(&mut self, max: usize, now: Moment) -> Option<Duration> {
        if self.halved.is_some_and(|at| now.since(at) < HALVED_ONCE_IN) {
            return None;
        }
        self.halved = Some(now);
        self.no_growth_until = now.after(NO_GROWTH);
        let before = self.connections(max, now);
        self.shrink_to(before);
        self.w = (self.w / 2.0).max(1.0);
        if before > 1 {
            return None;
        }
        let rest = rest_for(self.rests);
        self.rests += 1;
        Some(rest)
    }

    /// A connection failed. Gives whether the site is dead.
    pub(crate) fn failed(&mut self, max: usize, now: Moment) -> bool {
        let before = self.connections(max, now);
        self.failed += 1.0 / whole(before);
        self.failures = self.failures.saturating_add(1);
        self.shrink_to(before.saturating_sub(1));
        self.no_growth_until = self.no_growth_until.max(now.after(NO_GROWTH));
        // Three times a third is a little less than one.
        self.failed > 0.999 && self.failures >= DEAD_MIN
    }

    fn shrink_to(&mut self, connections: usize) {
        self.w = self.w.min(whole(connections)).max(1.0);
    }
}

/// How long a site rests that rested so often before.
pub(super) fn rest_for(rests: usize) -> Duration {
    let minutes = RESTS.get(rests).or(RESTS.last()).copied();
    Duration::from_secs(60 * minutes.unwrap_or(1))
}

/// A number of connections.
#[expect(
    clippy::cast_precision_loss,
    reason = "a number of connections is small"
)]
const fn whole(connections: usize) -> f64 {
    connections as f64
}

/// The times of the last transactions.
#[derive(Clone, Debug, Default)]
struct Times {
    /// In milliseconds.
    last: [u32; TRANSACTIONS],
    /// How many were noted, ever.
    count: usize,
    /// The lowest mean of this hour, and of the hour before.
    lowest: Option<Duration>,
    lowest_before: Option<Duration>,
    hour: Moment,
}

impl Times {
    fn add(&mut self, transactions: usize, time: Duration, now: Moment) {
        let number = u32::try_from(transactions).unwrap_or(u32::MAX).max(1);
        let each = u32::try_from((time / number).as_millis()).unwrap_or(u32::MAX);
        for _ in 0..transactions.min(TRANSACTIONS) {
            if let Some(place) = self.last.get_mut(self.count % TRANSACTIONS) {
                *place = each;
            }
            self.count += 1;
        }
        if now.since(self.hour) >= LOWEST_FOR {
            self.lowest_before = self.lowest.take();
            self.hour = now;
        }
        if let Some(mean) = self.mean() {
            self.lowest = Some(self.lowest.map_or(mean, |lowest| lowest.min(mean)));
        }
    }

    /// None: there were too few.
    fn mean(&self) -> Option<Duration> {
        let sum: u64 = self.last.iter().map(|millis| u64::from(*millis)).sum();
        let mean = Duration::from_millis(sum / TRANSACTIONS as u64);
        (self.count >= TRANSACTIONS).then_some(mean)
    }

    fn slow_down(&self) -> bool {
        let lowest = self.lowest.into_iter().chain(self.lowest_before).min();
        match (self.mean(), lowest) {
            (Some(mean), Some(lowest)) => mean > SLOW_MIN && mean >= lowest * 2,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 10;
    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(10_000 + seconds))
    }

    fn window(w: f64) -> Window {
        Window {
            w,
            ..Window::default()
        }
    }

    #[test]
    fn success_opens_the_window_while_the_connections_are_at_work() {
        let mut window = window(1.0);
        let mut successes = 0;
        while window.connections(MAX, at(0)) < MAX {
            let working = window.connections(MAX, at(0));
            window.succeeded(1, working, MAX, at(0));
            successes += 1;
        }
        assert!((45..=50).contains(&successes), "{successes}");
        window.succeeded(100, MAX, MAX, at(0));
        assert_eq!(window.connections(MAX, at(0)), MAX);
        assert_eq!(window.connections(3, at(0)), 3, "the limits changed");
        let mut idle = Window::default();
        idle.succeeded(100, 2, MAX, at(0));
        assert_eq!(
            idle.connections(MAX, at(0)),
            4,
            "two connections were not at work"
        );
        idle.succeeded(4, 3, MAX, at(0));
        assert_eq!(
            idle.connections(MAX, at(0)),
            4,
            "a quarter each is a little less than one"
        );
        idle.succeeded(1, 3, MAX, at(0));
        assert_eq!(idle.connections(MAX, at(0)), 5);
    }

    #[test]
    fn a_site_that_slows_down_gets_no_more_connections() {
        let mut window = Window::default();
        let second = Duration::from_secs(1);
        window.took(16, 16 * second, at(0));
        window.took(16, 16 * 3 * second, at(1));
        window.succeeded(100, 4, MAX, at(1));
        assert_eq!(window.connections(MAX, at(1)), 4);
        // One that was always slow is not slower than it was. The hours pass.
        for hour in 1..4 {
            window.took(16, 16 * 3 * second, at(hour * 3600));
        }
        window.succeeded(1000, 10, MAX, at(4 * 3600));
        assert_eq!(window.connections(MAX, at(4 * 3600)), MAX);
    }

    #[test]
    fn too_many_connections_are_learnt_for_an_hour() {
        let mut window = window(8.0);
        window.too_many(6, at(0));
        assert_eq!(window.connections(MAX, at(0)), 5);
        window.succeeded(1000, 5, MAX, at(3600));
        for (minutes, connections) in [(0, 5), (60, 5), (69, 5), (70, 6), (89, 7), (110, 10)] {
            assert_eq!(window.cap(MAX, at(60 * minutes)), connections, "{minutes}");
        }
        window.succeeded(1000, 10, MAX, at(110 * 60));
        assert_eq!(window.learnt(), None);
        window.too_many(1, at(0));
        assert_eq!(window.connections(MAX, at(0)), 1, "one is always allowed");
        let mut again = Window::default();
        again.restore(window.learnt());
        assert_eq!(again.connections(MAX, at(0)), 1);
    }

    #[test]
    fn a_busy_site_gets_half_and_rests_at_one() {
        let mut window = window(9.0);
        assert_eq!(window.busy(MAX, at(0)), None);
        assert_eq!(window.connections(MAX, at(0)), 4);
        assert_eq!(window.busy(MAX, at(29)), None);
        assert_eq!(window.connections(MAX, at(29)), 4, "once in 30 seconds");
        window.succeeded(100, 4, MAX, at(59));
        assert_eq!(window.connections(MAX, at(59)), 4, "no growth for a minute");
        assert_eq!(window.busy(MAX, at(60)), None);
        assert_eq!(window.busy(MAX, at(90)), None);
        assert_eq!(window.connections(MAX, at(90)), 1);
        let mut now = 120;
        for minutes in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(window.busy(MAX, at(now)), Some(MINUTE * minutes));
            now += 30;
        }
        window.succeeded(1, 1, MAX, at(now + 60));
        assert_eq!(
            window.busy(1, at(now + 120)),
            Some(MINUTE),
            "it grew meanwhile"
        );
        let mut capped = Window::default();
        for (second, minutes) in [(0, None), (30, Some(1)), (100, Some(2))] {
            let rest = capped.busy(2 - usize::from(second > 0), at(second));
            assert_eq!(rest, minutes.map(|minutes| MINUTE * minutes));
        }
        capped.succeeded(1, 1, 1, at(159));
        assert_eq!(capped.busy(1, at(160)), Some(MINUTE * 4), "it was too soon");
        capped.succeeded(1, 1, 1, at(220));
        assert_eq!(capped.busy(1, at(250)), Some(MINUTE), "one is the cap");
    }

    #[test]
    fn failures_close_the_window_until_the_site_is_dead() {
        for (w, failures) in [(1.0, 3), (2.0, 3), (4.0, 3), (10.0, 7)] {
            let mut window = window(w);
            let dead = (1..20).find(|_| window.failed(MAX, at(0)));
            assert_eq!(dead, Some(failures), "{w}");
        }
        let mut window = window(4.0);
        window.failed(MAX, at(0));
        assert_eq!(window.connections(MAX, at(0)), 3);
        window.failed(MAX, at(0));
        window.answered();
        let dead = (1..20).find(|_| window.failed(MAX, at(0)));
        assert_eq!(dead, Some(3), "a success makes it forget");
    }

    /// What a site of the test says to a connection above its limit.
    #[derive(Clone, Copy, Debug)]
    enum Refusal {
        TooMany,
        Busy,
        Hangs,
    }

    /// Deliveries to a site that takes `limit` connections, in steps of `step`. Gives how many
    /// messages were delivered and how many were deferred.
    fn deliver(
        window: &mut Window,
        limit: usize,
        refusal: Refusal,
        step: Duration,
        (start, steps): (Moment, u32),
    ) -> (usize, usize) {
        let (mut delivered, mut deferred) = (0, 0);
        let (mut now, mut open) = (start, 0);
        let (mut rests_until, mut marked_until) = (start, start);
        for _ in 0..steps {
            now = now.after(step);
            open = open.min(window.connections(MAX, now)).min(limit);
            if now < rests_until {
                continue;
            }
            while open < window.connections(MAX, now) && now >= marked_until {
                if open < limit {
                    open += 1;
                    continue;
                }
                // A failed connection counts for one message, and marks its address.
                deferred += 1;
                marked_until = now.after(MINUTE);
                match refusal {
                    Refusal::TooMany => window.too_many(open + 1, now),
                    Refusal::Busy => {
                        if let Some(rest) = window.busy(MAX, now) {
                            rests_until = now.after(rest);
                        }
                    }
                    Refusal::Hangs => {
                        window.failed(MAX, now);
                    }
                }
            }
            delivered += open;
            window.succeeded(open, open, MAX, now);
        }
        (delivered, deferred)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Fewer than 5 % are deferred at a remote with a limit, and the pace recovers when the
        /// limit is gone.
        #[test]
        fn the_window_finds_the_limit_of_a_site(
            limit in 1_usize..12,
            refusal in prop_oneof![
                Just(Refusal::TooMany), Just(Refusal::Busy), Just(Refusal::Hangs)
            ],
            millis in 50_u64..2000,
        ) {
            let mut window = Window::default();
            let step = Duration::from_millis(millis);
            let hours = |hours: u64| {
                u32::try_from(hours * 3_600_000 / millis).unwrap_or(u32::MAX)
            };
            let (delivered, deferred) =
                deliver(&mut window, limit, refusal, step, (at(0), hours(4)));
            prop_assert!(
                deferred * 20 < delivered + deferred,
                "{} of {} were deferred", deferred, delivered
            );
            let start = at(4 * 3600 + 60);
            deliver(&mut window, MAX, refusal, step, (start, hours(3)));
            prop_assert_eq!(window.connections(MAX, at(7 * 3600 + 60)), MAX);
        }

        /// Whatever happens, there is at least one connection and never more than the limits say.
        #[test]
        fn the_window_keeps_within_its_limits(
            events in prop::collection::vec((0_u8..5, 1_usize..20, 0_u64..4000), 0..200),
            max in 1_usize..20,
        ) {
            let mut window = Window::default();
            let mut now = at(0);
            for (event, count, wait) in events {
                now = now.after(Duration::from_secs(wait));
                match event {
                    0 => window.succeeded(count, count, max, now),
                    1 => window.too_many(count, now),
                    2 => {
                        let rest = window.busy(max, now);
                        prop_assert!(rest.is_none_or(|rest| rest <= 30 * MINUTE));
                    }
                    3 => {
                        window.failed(max, now);
                    }
                    _ => window.took(count, Duration::from_secs(wait), now),
                }
                let connections = window.connections(max, now);
                prop_assert!((1..=max).contains(&connections));
                prop_assert!(window.size() >= 1.0);
            }
        }
    }
}
