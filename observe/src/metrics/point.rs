//! Values as JSON has them: one for each metric, with all its series summed.

use std::collections::BTreeMap;

use super::{Metrics, Value, family::Series, process::Process};

/// The value of a metric at a time, or how it grew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PointValue {
    /// Of a counter: since the start, or since the point before.
    Counter(f64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram: the number of observations and their sum, as those of a counter.
    Histogram {
        /// How many there were.
        count: u64,
        /// Their sum.
        sum: f64,
    },
}

/// The values of all metrics at a time, by the name without `_total`.
pub type Point = BTreeMap<&'static str, PointValue>;

impl PointValue {
    /// What came since an earlier value. A gauge stays what it is.
    #[must_use]
    pub fn since(self, before: Option<Self>) -> Self {
        match (self, before) {
            (Self::Counter(now), Some(Self::Counter(before))) => Self::Counter(now - before),
            (Self::Histogram { count, sum }, Some(Self::Histogram { count: c, sum: s })) => {
                Self::Histogram {
                    count: count.saturating_sub(c),
                    sum: sum - s,
                }
            }
            (now, _) => now,
        }
    }
}

impl From<Value> for PointValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Counter(value) => Self::Counter(value),
            Value::Gauge(value) => Self::Gauge(value),
            Value::Histogram(buckets, sum) => Self::Histogram {
                count: buckets.iter().map(|(_, within)| within).sum(),
                sum,
            },
        }
    }
}

/// The sum of all series for which `counts` is true.
pub(super) fn sum(series: &dyn Series, counts: impl Fn(&[&str]) -> bool) -> Option<PointValue> {
    let mut all: Option<PointValue> = None;
    series.each(&mut |labels, value| {
        if counts(labels) {
            let value = PointValue::from(value);
            all = Some(all.map_or(value, |all| all.plus(value)));
        }
    });
    all
}

impl PointValue {
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Counter(one), Self::Counter(other)) => Self::Counter(one + other),
            (Self::Gauge(one), Self::Gauge(other)) => Self::Gauge(one + other),
            (Self::Histogram { count, sum }, Self::Histogram { count: c, sum: s }) => {
                Self::Histogram {
                    count: count + c,
                    sum: sum + s,
                }
            }
            (one, _) => one,
        }
    }
}

impl Metrics {
    /// The values of all metrics now. A metric without series has none.
    #[must_use]
    pub fn point(&self, process: &Process) -> Point {
        let mut point = Point::new();
        self.each(process, &mut |definition, series| {
            let name = definition.name;
            let name = name.strip_suffix("_total").unwrap_or(name);
            if let Some(value) = sum(series, |_| true) {
                point.insert(name, value);
            }
        });
        point
    }
}
