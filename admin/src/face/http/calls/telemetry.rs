//! The metrics: how they grew, and as they are, again and again.

use std::{collections::BTreeSet, time::Duration};

use futures_util::stream;
use postrider_observe::metrics::{PointValue, StreamKind};
use postrider_store::{PointAmount, Time};
use serde_json::{Map, Value, json};

use super::super::{
    Answer, Asked,
    live::{Frame, Live},
    problem::Problem,
};
use crate::op::metrics::Values;

/// How far back the answer goes that asks for no time.
const BACK: Duration = Duration::from_secs(24 * 60 * 60);
/// The path of the call that a token opens.
const OPENED: &str = "telemetry/metrics/live";
/// Seconds between two frames: without a parameter, and the most.
const INTERVAL: (u64, u64) = (30, 3600);

/// The points of a time, the oldest first, and how far they are apart.
pub(in super::super) async fn metrics(asked: Asked) -> Result<Answer, Problem> {
    let context = &asked.context;
    let day = i64::try_from(BACK.as_micros()).unwrap_or(i64::MAX);
    let after = asked.query.time("after")?;
    let after = after.unwrap_or(Time(context.clock.now().0 - day));
    let before = asked.query.time("before")?.unwrap_or(Time(i64::MAX));
    let since = Time(after.0.saturating_add(1));
    let growth = context.metrics_growth(since, before).await?;
    let items = growth.points.iter().flat_map(|point| {
        let values = point.values.iter();
        values.map(|(id, value)| item(id, of_store(*value), Some(point.time)))
    });
    let mut beside = Map::new();
    beside.insert("interval".to_owned(), growth.every.as_secs().into());
    Ok(Answer::Beside(items.collect(), beside))
}

/// A token for the stream.
pub(in super::super) async fn metrics_token(asked: Asked) -> Result<Answer, Problem> {
    asked.token(OPENED)
}

/// The stream of all metrics, or of those with the wanted ids.
pub(in super::super) async fn live(asked: Asked) -> Result<Answer, Problem> {
    let interval = asked.query.parsed("interval")?.unwrap_or(INTERVAL.0);
    let interval = Duration::from_secs(interval.clamp(1, INTERVAL.1));
    let wanted = asked.query.list("metrics").into_iter().map(str::to_owned);
    let wanted: BTreeSet<String> = wanted.collect();
    let context = asked.context.clone();
    let frames = stream::unfold(Duration::ZERO, move |pause| {
        let (context, wanted) = (context.clone(), wanted.clone());
        async move {
            let next = context.clock.moment().after(pause);
            context.clock.sleep_until_moment(next).await;
            let values = context.metrics_values().await;
            let frame = Frame::News {
                name: "metrics",
                data: items(&values, &wanted),
            };
            Some((frame, interval))
        }
    });
    let kind = Some(StreamKind::Metrics);
    Ok(Answer::Live(Live::without_pings(&asked, kind, frames)?))
}

/// The values of these ids; of all if none is wanted.
fn items(values: &Values, wanted: &BTreeSet<String>) -> Value {
    let values = values.iter();
    let wanted = values.filter(|(id, _)| wanted.is_empty() || wanted.contains(*id));
    wanted.map(|(id, value)| item(id, *value, None)).collect()
}

const fn of_store(value: PointAmount) -> PointValue {
    match value {
        PointAmount::Counter(value) => PointValue::Counter(value),
        PointAmount::Gauge(value) => PointValue::Gauge(value),
        PointAmount::Histogram { count, sum } => PointValue::Histogram { count, sum },
    }
}

fn item(id: &str, value: PointValue, time: Option<Time>) -> Value {
    let mut item = Map::new();
    let mut add = |name: &str, value: Value| item.insert(name.to_owned(), value);
    let (kind, name, value, count) = match value {
        PointValue::Counter(value) => ("counter", "value", value, None),
        PointValue::Gauge(value) => ("gauge", "value", value, None),
        PointValue::Histogram { count, sum } => ("histogram", "sum", sum, Some(count)),
    };
    add("type", kind.into());
    add("id", id.into());
    if let Some(time) = time {
        add("timestamp", time.to_string().into());
    }
    if let Some(count) = count {
        add("count", count.into());
    }
    let whole = whole(value);
    add(name, whole.into());
    if whole as f64 != value {
        add("exact", json!(value));
    }
    Value::Object(item)
}

/// The number that clients of Stalwart can read. They hold all values as whole numbers from 0, and
/// fail at an array with another one.
fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use utoipa::ToSchema;

    /// The value of a metric.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(in super::super::super) struct MetricItem {
        /// `counter`, `gauge` or `histogram`.
        r#type: String,
        /// The id, for example `queue.count` or `postrider.refusals`.
        id: String,
        /// The end of the time that it is about, as RFC 3339. A stream has none.
        timestamp: Option<String>,
        /// Of a counter: how much it grew. Of a gauge: what it was.
        value: Option<u64>,
        /// Of a histogram: how many observations there were.
        count: Option<u64>,
        /// Of a histogram: the sum of the observations.
        sum: Option<u64>,
        /// `value` or `sum` before it was rounded, if it was.
        exact: Option<f64>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_has_the_members_of_its_kind() {
        let time = Some(Time(0));
        for (value, time, expected) in [
            (
                PointValue::Counter(2.0),
                time,
                r#"{"type":"counter","id":"x","timestamp":"1970-01-01T00:00:00Z","value":2}"#,
            ),
            (
                PointValue::Gauge(0.5),
                None,
                r#"{"type":"gauge","id":"x","value":1,"exact":0.5}"#,
            ),
            (
                PointValue::Gauge(-2.0),
                None,
                r#"{"type":"gauge","id":"x","value":0,"exact":-2.0}"#,
            ),
            (
                PointValue::Counter(0.25),
                None,
                r#"{"type":"counter","id":"x","value":0,"exact":0.25}"#,
            ),
            (
                PointValue::Histogram { count: 2, sum: 3.0 },
                None,
                r#"{"type":"histogram","id":"x","count":2,"sum":3}"#,
            ),
            (
                PointValue::Histogram { count: 2, sum: 1.5 },
                None,
                r#"{"type":"histogram","id":"x","count":2,"sum":2,"exact":1.5}"#,
            ),
        ] {
            assert_eq!(item("x", value, time).to_string(), expected);
        }
    }
}
