//! Points of metrics: how much was counted in five minutes, and in an hour.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{Listing, State, tag};
use crate::{
    Order, Page, Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{Table, tables, value::records},
};

ids! {
    /// A point of metrics. It follows from the minute and the kind of the point, so the numbers
    /// rise with the time.
    MetricsPointId,
}

/// The time that a point is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PointSpan {
    /// Five minutes.
    Short,
    /// An hour.
    Hour,
}

/// The value of a metric at a point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum PointAmount {
    /// How much a counter grew.
    Counter(f64),
    /// What a gauge was.
    Gauge(f64),
    /// How many observations a histogram got.
    Histogram {
        /// Their number.
        count: u64,
        /// Their sum.
        sum: f64,
    },
}

/// The values of the metrics at the end of a time. What did not grow is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsPoint {
    /// The end of the time.
    pub time: Time,
    /// How long the time is.
    pub span: PointSpan,
    /// The value of each metric, by its id in the API.
    pub values: Vec<(String, PointAmount)>,
    /// When the store removes the point.
    pub keep_until: Time,
}

impl MetricsPoint {
    fn id(&self) -> MetricsPointId {
        MetricsPointId::at(self.time, self.span)
    }
}

/// Microseconds of a minute.
const MINUTE: i64 = 60_000_000;

impl MetricsPointId {
    fn at(time: Time, span: PointSpan) -> Self {
        let minute = time.0.div_euclid(MINUTE).max(0).cast_unsigned();
        Self(2 * minute + u64::from(span == PointSpan::Hour))
    }
}

records! {
    MetricsPoint: version 1,
}

tables! {
    counters: (),
    points: Table<MetricsPointId, MetricsPoint> = Table::new("metrics_points"),
}

subject!(
    counters (), keys 1,
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.metrics.points.remove(&MetricsPointId(number));
        Ok(())
    }
);

operations! {
    Metrics, version 1:
    KeepMetrics -> (), Ordinary;
}

/// Keeps a point. One of the same minute and kind that is there stays.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeepMetrics {
    point: MetricsPoint,
}

impl KeepMetrics {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let id = self.point.id();
        if !state.metrics.points.contains(&id)? {
            let keep_until = self.point.keep_until;
            state.history.add(keep_until, tag::metrics, id.0);
            state.metrics.points.put_new(id, self.point);
        }
        Ok(())
    }
}

questions! {
    scan ListPoints { span: PointSpan, since: Time, before: Time, limit: usize }
        -> Page<MetricsPoint, MetricsPointId>,
    |this, reader| {
        // The number before the first one of that minute.
        let first = MetricsPointId::at(this.since, PointSpan::Short).0.checked_sub(1);
        let listing = Listing {
            group: None,
            after: first.map(MetricsPointId),
            order: Order::Ascending,
            limit: this.limit,
        };
        reader.page(listing, |state| &state.metrics.points, |point| this.matches(point))
    },
    |this, model| model.metrics.list(this);
}

impl ListPoints {
    fn matches(&self, point: &MetricsPoint) -> bool {
        point.span == self.span && point.time >= self.since && point.time < self.before
    }
}

impl Store {
    /// Keeps a point of metrics. One of the same minute and kind that is there stays.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn keep_metrics(&self, point: MetricsPoint) -> Result<(), StoreError> {
        self.change_by(KeepMetrics { point }).await
    }

    /// The points of metrics of a kind from `since` to before `before`, oldest first. `limit` at
    /// most; the time of the last one leads on.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_metrics(
        &self,
        span: PointSpan,
        since: Time,
        before: Time,
        limit: usize,
    ) -> Result<Vec<MetricsPoint>, StoreError> {
        let points = ListPoints {
            span,
            since,
            before,
            limit,
        };
        Ok(self.scan(points).await?.items)
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![Op::KeepMetrics(KeepMetrics {
        point: tests::point(1, PointSpan::Hour),
    })]
}
