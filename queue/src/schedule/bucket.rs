//! Rates: how many messages or connections a site may have in a second, a minute, an hour, a day.
//!
//! Each rate has a bucket of tokens, which is the generic cell rate algorithm (GCRA): it remembers
//! one moment. A tenth of the messages or half of the connections may come at once, and the rest is
//! spread. So in no period, begin where it may, there are more than the rate says.

use std::time::Duration;

use postrider_config::Rate;
use postrider_store::Moment;

/// The part of a rate of messages that may come at once: one in so many.
const BURST_PART: u32 = 10;
/// The same for a rate of connections, which begin together when a site has much mail.
const CONNECT_BURST_PART: u32 = 2;
/// The shortest period that a restart must not begin anew.
const LONG: Duration = Duration::from_secs(60 * 60);
/// How many buckets are remembered whose rate does not hold now.
const ASIDE_MAX: usize = 8;

/// The tokens of one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    rate: Rate,
    /// The part of the rate that may come at once: one in so many.
    part: u32,
    /// The theoretical arrival time: when the bucket is full again.
    full_at: Moment,
}

impl Bucket {
    /// A bucket that will be full at a moment. One of the past is a full bucket.
    pub(crate) const fn new(rate: Rate, full_at: Moment) -> Self {
        Self {
            rate,
            part: BURST_PART,
            full_at,
        }
    }

    /// How many may come at once.
    fn burst(&self) -> u32 {
        (self.rate.count.get() / self.part).max(1)
    }

    /// The time between two tokens. In nanoseconds, rounded up, so that rounding never allows more.
    fn interval(&self) -> u64 {
        let period = self.rate.per.as_nanos();
        let period = u64::try_from(period).unwrap_or(u64::MAX);
        period.div_ceil(u64::from(self.rate.count.get() - self.burst() + 1))
    }

    pub(crate) const fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether what was used up counts for so long that a restart must not forget it.
    pub(crate) fn is_long(&self) -> bool {
        self.rate.per >= LONG
    }

    pub(crate) const fn full_at(&self) -> Moment {
        self.full_at
    }

    /// How many tokens there are.
    fn tokens(&self, now: Moment) -> usize {
        let missing = self.full_at.since(now).as_nanos();
        let interval = u128::from(self.interval());
        let used = missing.div_ceil(interval);
        let left = u128::from(self.burst()).saturating_sub(used);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// When there is a token.
    fn next(&self) -> Moment {
        let others = u64::from(self.burst() - 1);
        let tolerance = Duration::from_nanos(self.interval().saturating_mul(others));
        Moment(self.full_at.0.saturating_sub(tolerance))
    }

    fn take(&mut self, count: usize, now: Moment) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let time = Duration::from_nanos(self.interval().saturating_mul(count));
        self.full_at = self.full_at.max(now).after(time);
    }

    /// Puts back tokens that were taken at this moment. As long as they were away, the bucket was
    /// filled up in their place. If that time came back too, more than the burst could come at
    /// once.
    fn put_back(&mut self, count: usize, taken: Moment, now: Moment) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let time = Duration::from_nanos(self.interval().saturating_mul(count));
        let time = time.saturating_sub(now.since(taken));
        self.full_at = Moment(self.full_at.0.saturating_sub(time));
    }
}

/// Tokens for messages or connections, until it is known whether they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) count: usize,
    /// When they were taken.
    pub(crate) taken: Moment,
}

/// The buckets of several rates that all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Buckets {
    part: u32,
    all: Vec<Bucket>,
    /// The buckets of long periods whose rates do not hold now. A rate may come back: an order for
    /// a domain is in force when the first messages of the domain come.
    aside: Vec<Bucket>,
}

impl Buckets {
    /// Buckets of messages, without a rate.
    pub(crate) const fn of_messages() -> Self {
        Self {
            part: BURST_PART,
            all: Vec::new(),
            aside: Vec::new(),
        }
    }

    /// Buckets of connections, without a rate.
    pub(crate) const fn of_connections() -> Self {
        Self {
            part: CONNECT_BURST_PART,
            all: Vec::new(),
            aside: Vec::new(),
        }
    }

    /// Sets the rates. A rate that stays keeps its tokens, and so does one of a long period that
    /// comes back.
    pub(crate) fn set(&mut self, rates: impl Iterator<Item = Rate>) {
        let mut before = std::mem::take(&mut self.all);
        before.append(&mut self.aside);
        for rate in rates {
            if self.all.iter().any(|bucket| bucket.rate == rate) {
                continue;
            }
            let known = before.iter().find(|bucket| bucket.rate == rate);
            let new = Bucket {
                part: self.part,
                ..Bucket::new(rate, Moment::default())
            };
            self.all.push(known.copied().unwrap_or(new));
        }
        let all = &self.all;
        let is_aside =
            |old: &Bucket| old.is_long() && all.iter().all(|bucket| bucket.rate != old.rate);
        before.retain(is_aside);
        before.sort_by_key(|bucket| std::cmp::Reverse(bucket.full_at));
        before.truncate(ASIDE_MAX);
        self.aside = before;
    }

    /// Sets a bucket to what it was before a restart. It counts when its rate holds.
    pub(crate) fn restore(&mut self, bucket: Bucket) {
        match self.all.iter_mut().find(|known| known.rate == bucket.rate) {
            Some(known) => known.full_at = known.full_at.max(bucket.full_at),
            None if self.aside.len() < ASIDE_MAX => self.aside.push(Bucket {
                part: self.part,
                ..bucket
            }),
            None => {}
        }
    }

    /// The buckets, with those whose rates do not hold now.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = &Bucket> {
        self.all.iter().chain(&self.aside)
    }

    /// The buckets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bucket> {
        self.all.iter()
    }

    /// How many tokens there are in all buckets. Without a rate there is no end of them.
    pub(crate) fn tokens(&self, now: Moment) -> usize {
        let all = self.all.iter().map(|bucket| bucket.tokens(now));
        all.min().unwrap_or(usize::MAX)
    }

    /// When there is a token in all buckets.
    pub(crate) fn next(&self) -> Moment {
        let all = self.all.iter().map(Bucket::next);
        all.max().unwrap_or_default()
    }

    /// Takes as many tokens as there are, and `count` at most.
    pub(crate) fn take(&mut self, count: usize, now: Moment) -> Tokens {
        let count = self.tokens(now).min(count);
        for bucket in &mut self.all {
            bucket.take(count, now);
        }
        Tokens { count, taken: now }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// There is none before this moment.
    pub(crate) fn take_one(&mut self, now: Moment) -> Result<Tokens, Moment> {
        match self.take(1, now) {
            Tokens { count: 0, .. } => Err(self.next()),
            tokens => Ok(tokens),
        }
    }

    /// Puts back tokens that were not used.
    pub(crate) fn put_back(&mut self, unused: Tokens, now: Moment) {
        for bucket in &mut self.all {
            bucket.put_back(unused.count, unused.taken, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        Rate::parse(text).unwrap()
    }

    fn buckets(rates: &[&str]) -> Buckets {
        let mut buckets = Buckets::of_messages();
        buckets.set(rates.iter().map(|text| rate(text)));
        buckets
    }

    fn at(millis: u64) -> Moment {
        // No process begins with the moment 0.
        Moment(Duration::from_millis(1_000_000 + millis))
    }

    #[test]
    fn a_tenth_comes_at_once_and_the_rest_is_spread() {
        let mut buckets = buckets(&["100/minute"]);
        let taken = buckets.take(100, at(0));
        assert_eq!((taken.count, buckets.tokens(at(0))), (10, 0));
        let interval = Duration::from_secs(60) / 91;
        let next = buckets.next();
        assert!(next.since(at(0)) >= interval && next.since(at(0)) < interval * 2);
        assert_eq!(buckets.tokens(next), 1);
        assert_eq!(buckets.tokens(at(60_000)), 10);
        buckets.put_back(Tokens { count: 4, ..taken }, at(0));
        assert_eq!(buckets.tokens(at(0)), 4);
    }

    #[test]
    fn tokens_that_come_back_late_are_there_already() {
        let mut buckets = buckets(&["100/minute"]);
        let first = buckets.take(10, at(0));
        // The bucket is full again, and is used up at once.
        assert_eq!(buckets.take(10, at(7000)).count, 10);
        buckets.put_back(first, at(7000));
        assert_eq!(buckets.tokens(at(7000)), 0);
        // Tokens that were away for a little while come back in part.
        let short = buckets.take(10, at(20_000));
        buckets.put_back(short, at(21_000));
        assert_eq!(buckets.tokens(at(21_000)), 10);
        let short = buckets.take(10, at(21_000));
        assert_eq!(buckets.take(10, at(22_400)).count, 2);
        buckets.put_back(short, at(22_400));
        assert_eq!(buckets.tokens(at(22_400)), 8);
    }

    #[test]
    fn all_rates_hold_and_one_that_stays_keeps_its_tokens() {
        let mut buckets = buckets(&["30/minute", "20/day"]);
        assert_eq!(buckets.take(9, at(0)).count, 2);
        buckets.set([rate("20/day"), rate("20/day")].into_iter());
        assert_eq!(buckets.iter().count(), 1);
        assert_eq!(buckets.tokens(at(0)), 0);
        buckets.set(std::iter::empty());
        assert_eq!(buckets.tokens(at(0)), usize::MAX);
        assert_eq!(buckets.next(), Moment::default());
    }

    #[test]
    fn a_long_rate_that_comes_back_keeps_its_tokens() {
        let mut buckets = buckets(&["30/minute", "20/day"]);
        assert_eq!(buckets.take(9, at(0)).count, 2);
        buckets.set(std::iter::empty());
        let remembered: Vec<Rate> = buckets.remembered().map(Bucket::rate).collect();
        assert_eq!(remembered, [rate("20/day")]);
        assert_eq!(buckets.tokens(at(0)), usize::MAX, "it does not hold");
        buckets.set(std::iter::once(rate("20/day")));
        assert_eq!(buckets.tokens(at(0)), 0);
        assert_eq!(buckets.remembered().count(), 1);
        // So it is after a restart.
        let mut restored = Buckets::of_messages();
        restored.restore(Bucket::new(rate("1/day"), at(5000)));
        restored.set(std::iter::once(rate("3/day")));
        assert_eq!(restored.tokens(at(0)), 1);
        restored.set([rate("3/day"), rate("1/day")].into_iter());
        let tokens = |millis| restored.tokens(at(millis));
        assert_eq!((tokens(4999), tokens(5000)), (0, 1));
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let mut buckets = Buckets::of_messages();
        for number in 1..50 {
            buckets.set(std::iter::once(rate(&format!("{number}/day"))));
            buckets.take(1, at(number));
            buckets.restore(Bucket::new(rate(&format!("{number}/hour")), at(number)));
        }
        assert_eq!(buckets.remembered().count(), 1 + ASIDE_MAX);
    }

    proptest! {
        /// Whatever is asked for and put back at once or later, no period has more than the rate,
        /// and a token comes.
        #[test]
        fn no_period_has_more_than_its_rate(
            count in 1_u32..300,
            period in prop::sample::select(vec!["second", "minute", "hour", "day"]),
            connections in any::<bool>(),
            steps in prop::collection::vec((0_u64..2000, 0_usize..40, 0_usize..40, 0_usize..5), 1..200),
        ) {
            let rate = rate(&format!("{count}/{period}"));
            let mut buckets = match connections {
                true => Buckets::of_connections(),
                false => Buckets::of_messages(),
            };
            buckets.set(std::iter::once(rate));
            let period = rate.per;
            let (mut used, mut unused): (Vec<Moment>, Vec<(usize, Tokens)>) = Default::default();
            let mut now = at(0);
            for (step, (wait, wanted, back, later)) in steps.into_iter().enumerate() {
                // From nothing to a tenth of the period, or to twice the period.
                let part = if wait % 3 == 0 { wait * 20 } else { wait };
                now = now.after(period.mul_f64(part as f64 / 20_000.0));
                let taken = buckets.take(wanted, now);
                prop_assert!(taken.count <= wanted);
                let back = back.min(taken.count);
                unused.push((step + later, Tokens { count: back, ..taken }));
                for (_, unused) in unused.extract_if(.., |(when, _)| *when <= step) {
                    buckets.put_back(unused, now);
                }
                used.extend(std::iter::repeat_n(now, taken.count - back));
                let within = used.iter().filter(|at| now.since(**at) < period);
                prop_assert!(within.count() <= count as usize);
                let next = buckets.next();
                prop_assert!(buckets.tokens(next.max(now)) > 0, "a token comes");
                prop_assert_eq!(buckets.tokens(now) > 0, next <= now);
            }
        }
    }
}
