//! What one series counts in.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number since the start.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets the number. One that is too large for a gauge becomes the largest.
    pub fn set(&self, number: impl TryInto<i64>) {
        let number = number.try_into().unwrap_or(i64::MAX);
        self.0.store(number, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bounds of the buckets of a histogram, and what it observes.
pub trait Buckets: 'static {
    /// What is observed.
    type Observed;
    /// The upper bounds, in rising order, in parts of the unit.
    const BOUNDS: &'static [u64];
    /// How many parts the unit of the metric has.
    const PARTS: u64;

    /// The parts of what was observed.
    fn parts(observed: Self::Observed) -> u64;
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

macro_rules! durations {
    ($($(#[$doc:meta])* $name:ident [$($bound:expr),*];)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}

            impl Buckets for $name {
                type Observed = Duration;
                const BOUNDS: &'static [u64] = &[$($bound),*];
                const PARTS: u64 = 1_000_000;

                fn parts(observed: Duration) -> u64 {
                    micros(observed)
                }
            }
        )*
    };
}

const MS: u64 = 1_000;
const S: u64 = 1_000 * MS;
const MIN: u64 = 60 * S;
const H: u64 = 60 * MIN;
const D: u64 = 24 * H;

durations! {
    /// Work of the server itself and its disk: from half a millisecond to 10 s.
    Fast [
        500, MS, 2_500, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS,
        S, 2_500 * MS, 10 * S
    ];
    /// Answers of others over the network: from 5 ms to 5 min.
    Slow [
        5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS,
        S, 2_500 * MS, 5 * S, 10 * S, 30 * S, MIN, 5 * MIN
    ];
    /// The age of a message: from a second to five days.
    Age [S, 5 * S, 30 * S, MIN, 5 * MIN, 15 * MIN, H, 4 * H, 12 * H, D, 2 * D, 5 * D];
}

/// Numbers of things: powers of two up to 1024.
#[derive(Debug)]
pub enum Powers {}

impl Buckets for Powers {
    type Observed = usize;
    const BOUNDS: &'static [u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
    const PARTS: u64 = 1;

    fn parts(observed: usize) -> u64 {
        u64::try_from(observed).unwrap_or(u64::MAX)
    }
}

/// How often something was how large.
#[derive(Debug)]
pub struct Histogram<B> {
    /// One for each bucket, then one for what is above all bounds, then the sum of all parts.
    cells: Box<[AtomicU64]>,
    buckets: PhantomData<B>,
}

impl<B: Buckets> Default for Histogram<B> {
    fn default() -> Self {
        Self {
            cells: (0..B::BOUNDS.len() + 2)
                .map(|_| AtomicU64::new(0))
                .collect(),
            buckets: PhantomData,
        }
    }
}

impl<B: Buckets> Histogram<B> {
    /// Counts an observation.
    pub fn observe(&self, observed: B::Observed) {
        let parts = B::parts(observed);
        let bounds = B::BOUNDS.iter();
        let bucket = bounds.take_while(|bound| **bound < parts).count();
        if let Some(count) = self.cells.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(sum) = self.cells.last() {
            sum.fetch_add(parts, Ordering::Relaxed);
        }
    }

    /// For each bucket its upper bound and how many observations are in it, not those of smaller
    /// buckets. The last one has no bound.
    pub(super) fn buckets(&self) -> Vec<(Option<f64>, u64)> {
        let bounds = B::BOUNDS.iter().map(|bound| Some(in_unit::<B>(*bound)));
        let counts = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed));
        bounds.chain([None]).zip(counts).collect()
    }

    /// How many observations each bucket has, the smallest first.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.buckets().into_iter().map(|(_, count)| count).collect()
    }

    /// The value that this share of the observations does not exceed, if the buckets have so many
    /// and the observations lie evenly in each. What is above all bounds counts as the last bound.
    /// None: there are no observations.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
    pub fn quantile(counts: &[u64], share: f64) -> Option<f64> {
        let all: u64 = counts.iter().sum();
        let wanted = share * all as f64;
        let (mut below, mut from) = (0.0, 0.0);
        for (count, bound) in counts.iter().zip(B::BOUNDS) {
            let (count, to) = (*count as f64, in_unit::<B>(*bound));
            if count > 0.0 && below + count >= wanted {
                return Some(from + (to - from) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            (below, from) = (below + count, to);
        }
        (all > 0).then_some(from)
    }

    /// The sum of all observations.
    #[must_use]
    pub fn sum(&self) -> f64 {
        let sum = self.cells.last();
        in_unit::<B>(sum.map_or(0, |sum| sum.load(Ordering::Relaxed)))
    }

    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets().iter().map(|(_, count)| count).sum()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum above 2^53 microseconds, 285 years, may be rounded"
)]
fn in_unit<B: Buckets>(parts: u64) -> f64 {
    parts as f64 / B::PARTS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_in_the_first_bucket_that_reaches_it() {
        for (millis, bound) in [
            (0, Some(0.005)),
            (5, Some(0.005)),
            (6, Some(0.01)),
            (60_000, Some(60.0)),
            (300_000, Some(300.0)),
            (300_001, None),
        ] {
            let histogram = Histogram::<Slow>::default();
            histogram.observe(Duration::from_millis(millis));
            let buckets = histogram.buckets();
            let found = buckets.iter().find(|(_, count)| *count > 0);
            assert_eq!(found, Some(&(bound, 1)), "{millis}");
        }
    }

    #[test]
    fn a_histogram_has_the_sum_and_the_number() {
        let histogram = Histogram::<Powers>::default();
        for number in [1, 3, 2000] {
            histogram.observe(number);
        }
        assert_eq!((histogram.count(), histogram.sum()), (3, 2004.0));
        let histogram = Histogram::<Fast>::default();
        histogram.observe(Duration::from_millis(1500));
        histogram.observe(Duration::from_secs(20));
        assert_eq!((histogram.count(), histogram.sum()), (2, 21.5));
    }

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let histogram = Histogram::<Fast>::default();
        assert_eq!(Histogram::<Fast>::quantile(&histogram.counts(), 0.5), None);
        for millis in [1, 2, 2, 2, 20_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let counts = histogram.counts();
        let at = |share| Histogram::<Fast>::quantile(&counts, share).unwrap();
        assert!((at(0.2) - 0.001).abs() < 1e-9, "{}", at(0.2));
        assert!((at(0.5) - 0.001_75).abs() < 1e-9, "{}", at(0.5));
        assert!((at(0.99) - 10.0).abs() < 1e-9, "{}", at(0.99));
    }

    #[test]
    fn bounds_rise() {
        let all = [Fast::BOUNDS, Slow::BOUNDS, Age::BOUNDS, Powers::BOUNDS];
        for bounds in all {
            assert!(bounds.is_sorted_by(|one, other| one < other), "{bounds:?}");
        }
    }

    #[test]
    fn a_gauge_takes_what_fits() {
        let gauge = Gauge::default();
        gauge.inc();
        gauge.inc();
        gauge.dec();
        assert_eq!(gauge.get(), 1);
        gauge.set(7_usize);
        assert_eq!(gauge.get(), 7);
        gauge.set(u64::MAX);
        assert_eq!(gauge.get(), i64::MAX);
    }
}
