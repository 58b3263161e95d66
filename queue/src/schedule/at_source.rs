//! One source of ours at one site: its rates, its warm-up, and whether the site blocks it.
//!
//! A *bar* is why no message goes from the source now. There is no I/O here, and the time is an
//! argument.

use std::{fmt, time::Duration};

use postrider_config::{Day, Rate};
use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode};
use postrider_store::Moment;

use super::{
    LimitedBy, Of,
    bucket::{Bucket, Buckets, Tokens},
    state::{Halt, Halts, SiteState},
    warm_up::WarmUp,
};
use crate::{sites::Now, source::Terms};

/// How long one message finds out whether a block is over, before another one tries.
const PROBE: Duration = Duration::from_secs(60);

/// Why no message goes from a source to a site now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bar {
    /// The site blocks the source.
    Blocked,
    /// The source has sent what its warm-up allows for the day.
    WarmUp,
    /// A rate of messages is used up.
    Rate,
    /// A rate of connections is used up.
    ConnectRate,
}

impl Bar {
    pub(crate) const fn limit(self) -> LimitedBy {
        match self {
            Self::Blocked => LimitedBy::Blocked,
            Self::WarmUp => LimitedBy::WarmUp,
            Self::Rate => LimitedBy::Rate,
            Self::ConnectRate => LimitedBy::ConnectRate,
        }
    }
}

/// A bar with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Barred {
    pub(crate) bar: Bar,
    pub(crate) until: Moment,
    /// The reason. It delays messages, and never ends one.
    pub(crate) status: DeliveryStatus,
}

impl Barred {
    /// Whether a message whose time is over fails meanwhile.
    pub(crate) fn failing(&self) -> bool {
        self.bar == Bar::Blocked
    }

    /// The bar that ends first.
    pub(crate) fn sooner(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.until <= self.until => other,
            _ => self,
        }
    }
}

/// The rates of the provider's entry, for each source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProviderRates {
    pub(crate) messages: Option<Rate>,
    pub(crate) connects: Option<Rate>,
}

/// A source of ours at a site.
#[derive(Clone, Debug)]
pub(crate) struct AtSource {
    terms: Terms,
    provider: ProviderRates,
    messages: Buckets,
    connects: Buckets,
    warm_up: WarmUp,
    halts: Halts,
    /// Another message finds out whether a block is over, until then.
    probed_until: Moment,
}

/// What was learnt of a source at a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LearntOfSource {
    pub(crate) halt: Option<Halt>,
    pub(crate) blocks: u32,
    /// The buckets of an hour and a day that are not full.
    pub(crate) buckets: Vec<(Of, Bucket)>,
    pub(crate) warm_up: WarmUp,
}

impl Default for AtSource {
    fn default() -> Self {
        Self {
            terms: Terms::default(),
            provider: ProviderRates::default(),
            messages: Buckets::of_messages(),
            connects: Buckets::of_connections(),
            warm_up: WarmUp::default(),
            halts: Halts::default(),
            probed_until: Moment::default(),
        }
    }
}

impl AtSource {
    /// Sets what holds for the source there.
    pub(crate) fn set(&mut self, terms: Terms, provider: ProviderRates) {
        if (self.terms, self.provider) == (terms, provider) {
            return;
        }
        (self.terms, self.provider) = (terms, provider);
        let rates = terms.rate.into_iter().chain(provider.messages);
        self.messages.set(rates);
        self.connects.set(provider.connects.into_iter());
    }

    /// The rates of messages that hold.
    pub(crate) fn rates(&self) -> impl Iterator<Item = Rate> {
        self.messages.iter().map(Bucket::rate)
    }

    /// The messages of the day so far, and the most there may be. None: there is no warm-up.
    pub(crate) fn day(&self, now: Now) -> Option<(u32, u32)> {
        let today = Day(now.time.day());
        let max = self.warm_up.max(self.terms.warm_up?, today)?;
        Some((self.warm_up.sent(today), max))
    }

    /// The block that lasts.
    pub(crate) fn block(&self, now: Moment) -> Option<&Halt> {
        self.halts.now(now)
    }

    /// Why no message goes from the source now. `connecting`: it would need a new connection.
    pub(crate) fn bar(&self, connecting: bool, now: Now) -> Option<Barred> {
        let moment = now.moment;
        if let Some(halt) = self.halts.now(moment) {
            return Some(Barred {
                bar: Bar::Blocked,
                until: halt.until,
                status: DeliveryStatus {
                    permanent: false,
                    ..halt.status.clone()
                },
            });
        }
        let barred = |bar, until, text| Barred {
            bar,
            until,
            status: waits(text),
        };
        if self.halts.is_probed() && moment < self.probed_until {
            let text = "another message finds out whether our address is still blocked";
            return Some(barred(Bar::Blocked, self.probed_until, text));
        }
        if self.day(now).is_some_and(|(sent, max)| sent >= max) {
            let text = "our address has sent what its warm-up allows for the day";
            return Some(barred(Bar::WarmUp, next_day(now), text));
        }
        let next = self.messages.next();
        if moment < next {
            let text = "the rate of messages from our address is used up";
            return Some(barred(Bar::Rate, next, text));
        }
        let next = self.connects.next();
        if connecting && moment < next {
            let text = "the rate of connections from our address is used up";
            return Some(barred(Bar::ConnectRate, next, text));
        }
        None
    }

    /// How many messages the rates allow now.
    pub(crate) fn tokens(&self, now: Moment) -> usize {
        self.messages.tokens(now)
    }

    /// Takes tokens for messages: as many as there are, and `count` at most.
    pub(crate) fn take(&mut self, count: usize, now: Now) -> Tokens {
        let mut count = count;
        if self.halts.is_probed() {
            // A connection may be open that was made before the block.
            let free = self.block(now.moment).is_none() && self.probed_until <= now.moment;
            count = count.min(usize::from(free));
        }
        if let Some((sent, max)) = self.day(now) {
            let left = usize::try_from(max.saturating_sub(sent)).unwrap_or(usize::MAX);
            count = count.min(left);
        }
        let tokens = self.messages.take(count, now.moment);
        if self.terms.warm_up.is_some() {
            self.warm_up.add(tokens.count, Day(now.time.day()));
        }
        if self.halts.is_probed() && tokens.count > 0 {
            self.probed_until = now.moment.after(PROBE);
        }
        tokens
    }

    /// Puts back tokens of messages that were not attempted.
    pub(crate) fn put_back(&mut self, unused: Tokens, now: Now) {
        if unused.count == 0 {
            return;
        }
        self.messages.put_back(unused, now.moment);
        let taken = Day(now.time_of(unused.taken).day());
        self.warm_up.put_back(unused.count, taken);
        self.probed_until = Moment::default();
    }

    /// Takes the token for a connection.
    ///
    /// # Errors
    /// There is none before this moment.
    pub(crate) fn take_connect(&mut self, now: Moment) -> Result<Tokens, Moment> {
        self.connects.take_one(now)
    }

    /// Puts back the token of a connection that was not begun.
    pub(crate) fn put_back_connect(&mut self, unused: Tokens, now: Moment) {
        self.connects.put_back(unused, now);
    }

    /// The site said that it blocks the source. `by_rule`: a rule of the provider says so, and once
    /// is enough.
    pub(crate) fn told_blocked(
        &mut self,
        name: &dyn fmt::Display,
        told: (bool, bool),
        status: &DeliveryStatus,
        now: Moment,
    ) {
        self.warm_up.blocked();
        self.halts.told_blocked(name, told, status, now);
    }

    /// A rule of the provider says for how long the source is blocked.
    pub(crate) fn block_as_told(
        &mut self,
        name: &dyn fmt::Display,
        time: Duration,
        status: &DeliveryStatus,
        now: Moment,
    ) {
        let state = SiteState::Blocked;
        self.halts.rest_as_told(name, state, time, status, now);
    }

    /// The site answered in order about messages from the source, of a batch that began at `began`.
    /// `taken`: it took some. True: that tells something that is to be kept.
    pub(crate) fn answered(
        &mut self,
        name: &dyn fmt::Display,
        taken: bool,
        (began, now): (Moment, Moment),
    ) -> bool {
        let learnt = self.halts.answered(name, taken, began, now);
        if !self.halts.is_probed() {
            self.probed_until = Moment::default();
        }
        learnt
    }

    /// Whether a restart must not forget what was used up.
    pub(crate) fn is_kept(&self) -> bool {
        let mut buckets = self.messages.iter().chain(self.connects.iter());
        self.terms.warm_up.is_some() || buckets.any(Bucket::is_long)
    }

    /// What a restart must not forget. None: nothing.
    pub(crate) fn learnt(&self, now: Moment) -> Option<LearntOfSource> {
        let halt = self.halts.last();
        let halt = halt.filter(|halt| now < halt.until || self.halts.is_probed());
        let (_, blocks) = self.halts.counts();
        let learnt = LearntOfSource {
            halt: halt.cloned(),
            blocks,
            buckets: long_buckets(&self.messages, &self.connects, now).collect(),
            warm_up: self.warm_up,
        };
        (learnt != LearntOfSource::default()).then_some(learnt)
    }

    /// What was learnt before a restart.
    pub(crate) fn restored(learnt: LearntOfSource) -> Self {
        let mut source = Self::default();
        source.halts.restore(learnt.halt, 0, learnt.blocks);
        source.warm_up = learnt.warm_up;
        for (of, bucket) in learnt.buckets {
            match of {
                Of::Messages => source.messages.restore(bucket),
                Of::Connects => source.connects.restore(bucket),
            }
        }
        source
    }
}

/// The buckets of an hour and a day that are not full.
pub(super) fn long_buckets(
    messages: &Buckets,
    connects: &Buckets,
    now: Moment,
) -> impl Iterator<Item = (Of, Bucket)> {
    let all = messages.remembered().map(|bucket| (Of::Messages, *bucket));
    let all = all.chain(connects.remembered().map(|it| (Of::Connects, *it)));
    all.filter(move |(_, bucket)| bucket.is_long() && now < bucket.full_at())
}

fn waits(text: &str) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Local, EnhancedCode::SYSTEM_TRANSIENT, text)
}

/// The beginning of the next day in UTC.
fn next_day(now: Now) -> Moment {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let next = postrider_store::Time(0).after(DAY * now.time.day().saturating_add(1));
    now.moment_of(next)
}

#[cfg(test)]
mod tests {
    use postrider_store::Time;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// So many hours after 2026-12-01, 00:00 UTC.
    fn at(hours: u32) -> Now {
        let begin = Time(0).after(24 * HOUR * 20_788);
        Now {
            time: begin.after(HOUR * hours),
            moment: Moment(HOUR * (1000 + hours)),
        }
    }

    fn source(rate: Option<&str>, warm_up: Option<u32>) -> AtSource {
        let mut source = AtSource::default();
        let terms = Terms {
            rate: rate.map(|rate| Rate::parse(rate).unwrap()),
            warm_up: warm_up.map(Day),
        };
        source.set(terms, ProviderRates::default());
        source
    }

    fn blocked() -> DeliveryStatus {
        DeliveryStatus {
            code: 550,
            permanent: true,
            ..DeliveryStatus::transient(Cause::Reply, EnhancedCode::SYSTEM, "listed")
        }
    }

    fn bar(source: &AtSource, now: Now) -> Option<(Bar, Moment)> {
        source.bar(false, now).map(|it| (it.bar, it.until))
    }

    #[test]
    fn its_own_rate_and_that_of_the_provider_both_hold() {
        let mut source = source(Some("40/hour"), None);
        assert_eq!(source.take(9, at(0)).count, 4);
        let rates = ProviderRates {
            messages: Rate::parse("20/hour").ok(),
            connects: Rate::parse("2/hour").ok(),
        };
        source.set(source.terms, rates);
        let shown: Vec<String> = source.rates().map(|rate| rate.to_string()).collect();
        assert_eq!(shown, ["40/hour", "20/hour"]);
        assert_eq!(bar(&source, at(0)).unwrap().0, Bar::Rate);
        let taken = source.take(9, at(1));
        assert_eq!(taken.count, 2);
        source.put_back(taken, at(1));
        assert_eq!(source.tokens(at(1).moment), 2);
        // A connection that is open needs no token.
        assert!(source.take_connect(at(1).moment).is_ok());
        let until = source.take_connect(at(1).moment).unwrap_err();
        let barred = source.bar(true, at(1)).unwrap();
        assert_eq!((barred.bar, barred.until), (Bar::ConnectRate, until));
        assert_eq!(bar(&source, at(1)), None);
    }

    #[test]
    fn the_day_of_a_warm_up_has_an_end() {
        let mut source = source(None, Some(20_788));
        assert_eq!(source.day(at(5)), Some((0, 100)));
        let taken = source.take(70, at(5));
        assert_eq!((taken.count, source.take(70, at(6)).count), (70, 30));
        assert_eq!(bar(&source, at(7)), Some((Bar::WarmUp, at(24).moment)));
        source.put_back(Tokens { count: 10, ..taken }, at(8));
        assert_eq!(source.day(at(8)), Some((90, 100)));
        assert_eq!(source.day(at(24)), Some((0, 150)));
        // What comes back the next day was of the day before.
        source.take(1, at(24));
        source.put_back(Tokens { count: 10, ..taken }, at(24));
        assert_eq!(source.day(at(24)), Some((1, 150)));
        assert_eq!(source.day(at(30 * 24)), None);
        assert_eq!(bar(&source, at(30 * 24)), None);
    }

    #[test]
    fn nothing_is_sent_before_the_day_on_which_a_warm_up_begins() {
        let source = source(None, Some(20_790));
        assert_eq!(bar(&source, at(0)), Some((Bar::WarmUp, at(24).moment)));
        assert_eq!(bar(&source, at(48)), None);
    }

    #[test]
    fn after_a_block_one_message_at_a_time_finds_out_whether_it_is_over() {
        let mut source = source(None, Some(20_780));
        let name = "x.test from one";
        source.take(3, at(0));
        for _ in 0..3 {
            source.told_blocked(&name, (true, false), &blocked(), at(0).moment);
        }
        let barred = source.bar(false, at(0)).unwrap();
        assert_eq!((barred.bar, barred.until), (Bar::Blocked, at(4).moment));
        assert!(barred.failing() && !barred.status.permanent);
        assert_eq!(source.take(9, at(1)).count, 0);
        assert_eq!(bar(&source, at(4)), None);
        assert_eq!(source.take(9, at(4)).count, 1);
        let probed = at(4).moment.after(PROBE);
        assert_eq!(bar(&source, at(4)), Some((Bar::Blocked, probed)));
        assert_eq!(source.take(9, at(4)).count, 0);
        // The next block lasts longer, also after a restart.
        source.told_blocked(&name, (true, false), &blocked(), at(4).moment);
        let learnt = source.learnt(at(4).moment).unwrap();
        let mut source = AtSource::restored(learnt.clone());
        assert_eq!(source.learnt(at(4).moment), Some(learnt));
        assert_eq!(bar(&source, at(4)), Some((Bar::Blocked, at(12).moment)));
        assert_eq!(source.take(9, at(12)).count, 1);
        source.answered(&name, true, (at(12).moment, at(12).moment));
        assert_eq!(source.take(9, at(12)).count, 9);
    }
}
