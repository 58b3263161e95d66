//! How the metrics grew: a point for each five minutes, and one for each hour.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use postrider_observe::metrics::PointValue;
use postrider_store::{MetricsPoint, PointAmount, PointSpan, StoreError, Time};
use tokio::sync::watch;
use tracing::warn;

use super::Values;
use crate::Context;

/// Between two points.
const SHORT: i64 = 5 * 60 * 1_000_000;
/// Between two points that are kept for long.
const HOUR: i64 = 12 * SHORT;
/// How long points are kept: five minutes, and an hour.
const KEPT: (Duration, Duration) = (
    Duration::from_secs(90 * 24 * 60 * 60),
    Duration::from_secs(400 * 24 * 60 * 60),
);
/// The most points that are read at once: a day, and one.
const POINTS: usize = 289;
/// The most values of an answer.
const VALUES_MAX: usize = 100_000;

impl Context {
    /// The points of metrics from `since` to before `before`, oldest first. Those of hours stand
    /// for the time of which no others are kept. An answer has at most [`VALUES_MAX`] values, and
    /// whole points; `since` behind the last one leads on.
    pub(crate) async fn metrics_points(
        &self,
        since: Time,
        before: Time,
    ) -> Result<Vec<MetricsPoint>, StoreError> {
        let short = Time(self.clock.now().0 - micros(KEPT.0));
        let mut points = Vec::new();
        for (span, since, before) in [
            (PointSpan::Hour, since, before.min(short)),
            (PointSpan::Short, since.max(short), before),
        ] {
            let mut since = since;
            while since < before {
                let page = self.store.list_metrics(span, since, before, POINTS).await?;
                let is_last = page.len() < POINTS;
                points.extend(page);
                let values: usize = points
                    .iter()
                    .map(|point: &MetricsPoint| point.values.len())
                    .sum();
                if values > VALUES_MAX {
                    return Ok(points);
                }
                match points.last().filter(|_| !is_last) {
                    Some(last) => since = Time(last.time.0 + 1),
                    None => break,
                }
            }
        }
        Ok(points)
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
        let values = grown.filter(|(_, value)| *value != none(*value)).collect();
        let short = point(PointSpan::Short, KEPT.0, values);
        self.store.keep_metrics(short).await?;
        if time.0 % HOUR == 0 {
            let since = Time(time.0 - HOUR + 1);
            let all = self
                .store
                .list_metrics(PointSpan::Short, since, Time(time.0 + 1), POINTS);
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
        let now = context.metrics_values().await;
        if let Err(error) = context.keep_point(next, &before, &now).await {
            warn!(%error, "failed to keep a point of the metrics");
        }
        before = now;
    }
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
    // A gauge that is not in the last point is 0.
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
