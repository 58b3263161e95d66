//! How the metrics grew: a point for each five minutes, and one for each hour.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use postrider_observe::metrics::{Fast, Histogram, PointValue};
use postrider_store::{MetricsPoint, PointAmount, PointSpan, StoreError, Time};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use super::Values;
use crate::{AdminError, Context, op::Single};

/// Between two points.
const SHORT: i64 = 5 * 60 * 1_000_000;
/// Between two points that are kept for long.
const HOUR: i64 = 12 * SHORT;
/// How long points are kept: five minutes, and an hour.
const KEPT: (Duration, Duration) = (
    Duration::from_secs(90 * 24 * 60 * 60),
    Duration::from_secs(400 * 24 * 60 * 60),
);
/// Between two points of an answer about a long time.
const LONG: [i64; 3] = [HOUR, 6 * HOUR, 24 * HOUR];
/// The most points that are read at once: a day, and one.
const PAGE: usize = 289;
/// About how many points an answer has at most. A point has some 100 values.
const POINTS_MAX: i64 = 990;

/// The shares of the syncs of the disk whose times a point has, and their ids.
const SYNCS: [(f64, &str); 2] = [
    (0.5, "postrider.store_sync_duration_seconds.p50"),
    (0.99, "postrider.store_sync_duration_seconds.p99"),
];

/// Lists how some metrics grew in a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Points {
    /// From this time on.
    pub since: Time,
    /// Up to this time; None: up to now.
    #[serde(default)]
    pub before: Option<Time>,
    /// The ids of the metrics, such as `queue.count`.
    pub ids: Vec<String>,
}

/// How some metrics grew in a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointsItem {
    /// The seconds between two points.
    pub every: u64,
    /// The points, oldest first.
    pub points: Vec<Timed>,
}

/// A point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Its end, as RFC 3339.
    pub time: String,
    /// The figures by their ids. What did not grow is left out.
    pub figures: BTreeMap<String, Figure>,
}

/// The figure of a metric in a point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// How much a counter or the sum of a histogram grew, or the value of a gauge.
    pub value: f64,
    /// How many observations a histogram got; 0 for others.
    pub count: u64,
}

impl From<PointAmount> for Figure {
    fn from(amount: PointAmount) -> Self {
        let (value, count) = match amount {
            PointAmount::Counter(value) | PointAmount::Gauge(value) => (value, 0),
            PointAmount::Histogram { count, sum } => (sum, count),
        };
        Self { value, count }
    }
}

impl Single for Points {
    type Output = PointsItem;

    async fn answer(self, context: &Context) -> Result<PointsItem, AdminError> {
        let before = self.before.unwrap_or(Time(i64::MAX));
        let growth = context.metrics_growth(self.since, before).await?;
        let timed = |point: MetricsPoint| {
            let figures = point.values.into_iter();
            let figures = figures.filter(|(id, _)| self.ids.contains(id));
            Timed {
                time: point.time.to_string(),
                figures: figures.map(|(id, amount)| (id, amount.into())).collect(),
            }
        };
        Ok(PointsItem {
            every: growth.every.as_secs(),
            points: growth.points.into_iter().map(timed).collect(),
        })
    }
}

/// How the metrics grew in some time.
pub(crate) struct Growth {
    /// The time between two points.
    pub(crate) every: Duration,
    /// The points, oldest first. Each has what came since the one before.
    pub(crate) points: Vec<MetricsPoint>,
}

/// Joins points, oldest first.
struct Parts {
    /// The time that becomes one point.
    every: i64,
    points: Vec<MetricsPoint>,
    /// The points of the last such time.
    part: Vec<MetricsPoint>,
}

impl Parts {
    fn add(&mut self, point: MetricsPoint) {
        let part_of = |point: &MetricsPoint| (point.time.0 - 1).div_euclid(self.every);
        let last = self.part.last();
        if last.is_some_and(|last| part_of(last) != part_of(&point)) {
            self.points.extend(one_of(std::mem::take(&mut self.part)));
        }
        self.part.push(point);
    }
}

impl Context {
    /// How the metrics grew from `since` to before `before`. It joins points where there would be
    /// more than [`POINTS_MAX`]. Where the points of the answer are hours or more, and where no
    /// others are kept, it reads points of hours. Points of five minutes are read for the rest: the
    /// hours at both ends that are not whole, and those at whose end the server did not run.
    pub(crate) async fn metrics_growth(
        &self,
        since: Time,
        before: Time,
    ) -> Result<Growth, StoreError> {
        let now = self.clock.now().0;
        let since = Time(since.0.max(now - micros(KEPT.1)));
        let before = Time(before.0.min(now + 1));
        // Up to here a point of an hour stands for its whole hour, and no other one is needed.
        let hours = Time((now - micros(KEPT.0)).div_euclid(HOUR) * HOUR + HOUR);
        let every = interval(before.0.saturating_sub(since.0), since > hours);
        let mut parts = Parts {
            every,
            points: Vec::new(),
            part: Vec::new(),
        };
        let behind = Time(hours.0 + 1);
        // What was read ends before this time.
        let mut read = since.max(behind);
        if every >= HOUR {
            let mut since = since;
            loop {
                let span = PointSpan::Hour;
                let page = self.store.list_metrics(span, since, before, PAGE).await?;
                let is_last = page.len() < PAGE;
                for point in page {
                    since = Time(point.time.0 + 1);
                    let begin = Time(point.time.0 - HOUR + 1);
                    if point.time < behind {
                        parts.add(point);
                    } else if begin.0 + SHORT > read.0 {
                        self.read_short(read, begin, &mut parts).await?;
                        read = since;
                        parts.add(point);
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        self.read_short(read, before, &mut parts).await?;
        let Parts {
            mut points, part, ..
        } = parts;
        points.extend(one_of(part));
        Ok(Growth {
            every: Duration::from_micros(every.cast_unsigned()),
            points,
        })
    }

    /// Adds the points of five minutes from `since` to before `before`.
    async fn read_short(
        &self,
        mut since: Time,
        before: Time,
        parts: &mut Parts,
    ) -> Result<(), StoreError> {
        while since < before {
            let span = PointSpan::Short;
            let page = self.store.list_metrics(span, since, before, PAGE).await?;
            let is_last = page.len() < PAGE;
            for point in page {
                since = Time(point.time.0 + 1);
                parts.add(point);
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// Keeps a point for what came since `before`, and one for the hour if an hour ends at `time`.
    async fn keep_point(
        &self,
        time: Time,
        before: &Values,
        now: &Values,
    ) -> Result<(), StoreError> {
        let grown = now.iter().map(|(id, value)| {
            let value = value.since(before.get(id).copied());
            (id.clone(), amount(value))
        });
        let point = |span, kept, values: Vec<(String, PointAmount)>| MetricsPoint {
            time,
            span,
            values,
            keep_until: time.after(kept),
        };
        let values = grown.filter(|(_, value)| tells(*value)).collect();
        let short = point(PointSpan::Short, KEPT.0, values);
        self.store.keep_metrics(short).await?;
        if time.0 % HOUR == 0 {
            let since = Time(time.0 - HOUR + 1);
            let all = self
                .store
                .list_metrics(PointSpan::Short, since, Time(time.0 + 1), PAGE);
            let values = joined(&all.await?);
            let hour = point(PointSpan::Hour, KEPT.1, values);
            self.store.keep_metrics(hour).await?;
        }
        Ok(())
    }
}

/// Keeps a point of metrics each five minutes, until the server stops. The first one has what came
/// since the start.
pub async fn keep_points(context: Context, mut stop: watch::Receiver<bool>) {
    let clock = Arc::clone(&context.clock);
    let mut before = Values::new();
    let mut syncs = Vec::new();
    let boundary = || clock.now().0.div_euclid(SHORT) * SHORT;
    let mut next = Time(boundary());
    loop {
        // Who is late makes up for one point, and not for more: a clock may be set.
        next = Time((next.0 + SHORT).max(boundary()));
        if next.0 > boundary() + SHORT {
            next = Time(boundary() + SHORT);
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = clock.sleep_until(next) => {}
        }
        let mut now = context.metrics_values().await;
        let counts = context.metrics.store_sync_duration_seconds.counts();
        now.extend(times_of_syncs(&syncs, &counts));
        syncs = counts;
        if let Err(error) = context.keep_point(next, &before, &now).await {
            warn!(%error, "failed to keep a point of the metrics");
        }
        before = now;
    }
}

/// How long syncs of the disk took since an earlier count of them.
fn times_of_syncs(before: &[u64], now: &[u64]) -> Vec<(String, PointValue)> {
    let earlier = before.iter().copied().chain(std::iter::repeat(0));
    let grown = now.iter().zip(earlier);
    let grown: Vec<u64> = grown
        .map(|(now, before)| now.saturating_sub(before))
        .collect();
    let time = |(share, id): (f64, &str)| {
        let time = Histogram::<Fast>::quantile(&grown, share)?;
        Some((id.to_owned(), PointValue::Gauge(time)))
    };
    SYNCS.into_iter().filter_map(time).collect()
}

/// The time between two points of an answer about this much time: the shortest that does not give
/// too many of them. `has_short`: there are points of five minutes for all of it.
fn interval(range: i64, has_short: bool) -> i64 {
    let all = has_short.then_some(SHORT).into_iter().chain(LONG);
    let mut fitting = all.filter(|every| range / every < POINTS_MAX);
    fitting.next().unwrap_or(24 * HOUR)
}

/// The points of a part of the time, as one.
fn one_of(mut points: Vec<MetricsPoint>) -> Option<MetricsPoint> {
    let values = (points.len() > 1).then(|| joined(&points));
    let mut last = points.pop()?;
    if let Some(values) = values {
        last.values = values;
    }
    Some(last)
}

/// The sum of points: what counters and histograms grew, and the last value of gauges.
fn joined(points: &[MetricsPoint]) -> Vec<(String, PointAmount)> {
    let mut all: BTreeMap<&str, PointAmount> = BTreeMap::new();
    for (id, value) in points.iter().flat_map(|point| &point.values) {
        let sum = all.entry(id).or_insert_with(|| none(*value));
        *sum = match (*sum, *value) {
            (PointAmount::Counter(sum), PointAmount::Counter(more)) => {
                PointAmount::Counter(sum + more)
            }
            (
                PointAmount::Histogram { count, sum },
                PointAmount::Histogram {
                    count: more,
                    sum: also,
                },
            ) => PointAmount::Histogram {
                count: count + more,
                sum: sum + also,
            },
            (_, last) => last,
        };
    }
    let last = points.last().into_iter().flat_map(|point| &point.values);
    let last: BTreeMap<&str, PointAmount> = last.map(|(id, value)| (&**id, *value)).collect();
    // A gauge that is not in the last point is no more.
    let is_there = |(id, value): &(&str, PointAmount)| {
        !matches!(value, PointAmount::Gauge(_)) || last.contains_key(id)
    };
    let all = all.into_iter().filter(is_there);
    all.map(|(id, value)| (id.to_owned(), value)).collect()
}

/// The same kind of value, and nothing of it.
const fn none(value: PointAmount) -> PointAmount {
    match value {
        PointAmount::Counter(_) => PointAmount::Counter(0.0),
        PointAmount::Gauge(_) => PointAmount::Gauge(0.0),
        PointAmount::Histogram { .. } => PointAmount::Histogram { count: 0, sum: 0.0 },
    }
}

/// Whether a point has this value. What did not grow is left out. A gauge of 0 is not: an empty
/// queue is another thing than one of which nothing is known.
fn tells(value: PointAmount) -> bool {
    matches!(value, PointAmount::Gauge(_)) || value != none(value)
}

fn amount(value: PointValue) -> PointAmount {
    match value {
        PointValue::Counter(value) => PointAmount::Counter(value),
        PointValue::Gauge(value) => PointAmount::Gauge(value),
        PointValue::Histogram { count, sum } => PointAmount::Histogram { count, sum },
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use postrider_observe::Metrics;

    use super::*;
    use crate::op::metrics::{COUNTED_HERE, known_elsewhere};

    #[test]
    fn a_longer_time_has_points_of_longer_times() {
        let day = 24 * HOUR;
        for (range, has_short, every) in [
            (-1, true, SHORT),
            (day, true, SHORT),
            (3 * day, true, SHORT),
            (4 * day, true, HOUR),
            (day, false, HOUR),
            (41 * day, true, HOUR),
            (42 * day, true, 6 * HOUR),
            (247 * day, false, 6 * HOUR),
            (248 * day, false, day),
            (400 * day, false, day),
            (i64::MAX, false, day),
        ] {
            assert_eq!(interval(range, has_short), every, "{range} {has_short}");
        }
    }

    #[test]
    fn a_point_has_the_times_of_its_own_syncs() {
        let (before, now) = ([7, 0, 0], [7, 4, 0]);
        let times = times_of_syncs(&before, &now);
        let ids: Vec<&str> = times.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, SYNCS.map(|(_, id)| id));
        for (_, time) in times {
            let PointValue::Gauge(time) = time else {
                panic!("{time:?}")
            };
            assert!((0.0005..=0.001).contains(&time), "{time}");
        }
        assert!(times_of_syncs(&now, &now).is_empty());
        assert_eq!(times_of_syncs(&[], &now).len(), 2);
    }

    /// The contract bounds an answer at 100,000 ids.
    #[test]
    fn an_answer_is_bounded() {
        let known = known_elsewhere(&Metrics::default()).len() + COUNTED_HERE + SYNCS.len();
        let values = Metrics::definitions().len() + known;
        let points = usize::try_from(POINTS_MAX).unwrap();
        assert!(values * points <= 100_000, "{values}");
    }
}
