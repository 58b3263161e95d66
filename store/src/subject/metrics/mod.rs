//! Points of metrics: how much was counted in five minutes, and in an hour.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::{Listing, PORTION, Reader, State, tag};
use crate::{
    Order, Page, Store, StoreError, Time,
    error::Fault,
    filter::page,
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
    /// An hour. It ends with an hour of UTC.
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
/// How many numbers an hour has.
const HOUR_IDS: u64 = 2 * 60;

impl MetricsPointId {
    fn at(time: Time, span: PointSpan) -> Self {
        let minute = time.0.div_euclid(MINUTE).max(0).cast_unsigned();
        Self(2 * minute + u64::from(span == PointSpan::Hour))
    }

    /// The next number behind this one that is that of a point of an hour.
    const fn next_hour(self) -> Self {
        let hour = self.0.saturating_add(HOUR_IDS - 1) / HOUR_IDS;
        Self(hour.saturating_mul(HOUR_IDS).saturating_add(1))
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
    |this, reader| match this.span {
        PointSpan::Short => this.list(reader),
        PointSpan::Hour => this.list_hours(reader),
    },
    |this, model| model.metrics.list(this);
}

impl ListPoints {
    fn list(&self, reader: &Reader<'_>) -> Result<Page<MetricsPoint, MetricsPointId>, StoreError> {
        let listing = Listing {
            group: None,
            after: self.before_first(),
            order: Order::Ascending,
            limit: self.limit,
        };
        let matches = |point: &MetricsPoint| self.matches(point);
        reader.page(listing, |state| &state.metrics.points, matches)
    }

    /// Goes from hour to hour, and does not read the points between.
    fn list_hours(
        &self,
        reader: &Reader<'_>,
    ) -> Result<Page<MetricsPoint, MetricsPointId>, StoreError> {
        let mut items = Vec::new();
        let mut from = self.before_first().unwrap_or_default().next_hour();
        loop {
            let state = reader.state()?;
            for _ in 0..PORTION {
                let mut points = state
                    .metrics
                    .points
                    .range(Bound::Included(&from), Bound::Unbounded)?;
                let found = points.next().transpose()?;
                let found = found.filter(|(_, point)| point.time < self.before);
                let Some((id, point)) = found.filter(|_| items.len() <= self.limit) else {
                    return Ok(page(items.into_iter(), self.limit, MetricsPoint::id));
                };
                // None of that hour, if this is a later one.
                items.extend(Some(point).filter(|point| self.matches(point)));
                from = id.next_hour();
            }
        }
    }

    /// The number before the first one of the minute in which the list begins.
    fn before_first(&self) -> Option<MetricsPointId> {
        let first = MetricsPointId::at(self.since, PointSpan::Short);
        first.0.checked_sub(1).map(MetricsPointId)
    }

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
