//! How the server did: plots of the metrics that people ask for first.

use std::{sync::Arc, time::Duration};

use askama::Template;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::{self, AsCommand},
        frame::Frame,
        shown::span,
    },
    plot::{Join, Plot, Series, Unit},
};
use crate::op::metrics::{Points, PointsItem};

/// What can be chosen: its name, its words, and its hours.
const RANGES: [(&str, &str, u64); 4] = [
    ("1h", "1 hour", 1),
    ("24h", "24 hours", 24),
    ("30d", "30 days", 30 * 24),
    ("400d", "400 days", 400 * 24),
];

/// The lines of the plots: label, id, how values are joined, and what they are multiplied by.
type Lines = &'static [(&'static str, &'static str, Join, f64)];

const PLOTS: &[(&str, Unit, Lines)] = &[
    (
        "Messages",
        Unit::Count,
        &[
            ("accepted", "postrider.accepted_messages", Join::Sum, 1.0),
            ("delivered", "delivery.delivered", Join::Sum, 1.0),
            ("attempts delayed", "delivery.deferred", Join::Sum, 1.0),
            ("failed", "delivery.failed", Join::Sum, 1.0),
        ],
    ),
    (
        "Queue",
        Unit::Count,
        &[("messages in the queue", "queue.count", Join::Largest, 1.0)],
    ),
    (
        "Calls of webhooks",
        Unit::Count,
        &[
            ("made", "postrider.webhook_calls", Join::Sum, 1.0),
            ("waiting", "postrider.webhooks_waiting", Join::Largest, 1.0),
        ],
    ),
    (
        "Connections",
        Unit::Count,
        &[
            ("new", "smtp.connection-start", Join::Sum, 1.0),
            ("open", "smtp.active-connections", Join::Largest, 1.0),
        ],
    ),
    (
        "Sync of the disk",
        Unit::Milliseconds,
        &[
            (
                "p50",
                "postrider.store_sync_duration_seconds.p50",
                Join::Largest,
                1000.0,
            ),
            (
                "p99",
                "postrider.store_sync_duration_seconds.p99",
                Join::Largest,
                1000.0,
            ),
        ],
    ),
    (
        "Memory",
        Unit::Bytes,
        &[("of the process", "server.memory", Join::Largest, 1.0)],
    ),
];

#[derive(Template)]
#[template(path = "admin/watch/metrics.html")]
struct Page {
    frame: Frame,
    range: &'static str,
    ranges: [(&'static str, &'static str, u64); 4],
    /// The time between two points, in words.
    every: String,
    plots: Vec<Plot>,
}

/// Shows the plots of a range.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let wanted = asked.query.text("range").unwrap_or("24h");
    let known = RANGES.into_iter().find(|(name, ..)| *name == wanted);
    let (range, _, hours) = known.unwrap_or(("24h", "24 hours", 24));
    let since = asked.now().before(Duration::from_secs(hours * 3600));
    let lines = PLOTS.iter().flat_map(|(_, _, lines)| lines.iter());
    let ids = lines.map(|(_, id, ..)| (*id).to_owned()).collect();
    let before = None;
    let found = asked.run(Points { since, before, ids }).await?;
    let after = since.to_string();
    let path = command::path("/api/telemetry/metrics", &[("after", Some(&after))]);
    let command = AsCommand::none().get(&path);
    let times: Vec<String> = found.points.iter().map(|point| time(&point.time)).collect();
    let plot = |(title, unit, lines): &(&'static str, Unit, Lines)| {
        let series: Vec<Series> = lines.iter().map(|line| series(&found, *line)).collect();
        Plot::new(title, *unit, &times, &series)
    };
    Answer::page(&Page {
        frame: asked.frame("Metrics").with(command),
        range,
        ranges: RANGES,
        every: span(found.every),
        plots: PLOTS.iter().map(plot).collect(),
    })
}

fn series(
    found: &PointsItem,
    (label, id, join, factor): (&'static str, &'static str, Join, f64),
) -> Series {
    let values = found.points.iter().map(|point| {
        let figure = point.figures.get(id).map(|figure| figure.value * factor);
        // What did not grow is left out of a point.
        figure.or((join == Join::Sum).then_some(0.0))
    });
    Series {
        label,
        join,
        values: values.collect(),
    }
}

/// A time to the minute.
fn time(text: &str) -> String {
    let time = text.parse::<jiff::Timestamp>();
    let time = time.map(|time| time.strftime("%Y-%m-%d %H:%M").to_string());
    time.unwrap_or_default()
}
