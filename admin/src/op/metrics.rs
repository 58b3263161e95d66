//! The metrics: as they are now, and how they grew.
//!
//! Most metrics count where something happens. What the store and the queue know of themselves is
//! read when somebody asks. Here too are the ids by which clients of Stalwart know some of them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use postrider_observe::{
    Metrics,
    metrics::{
        Accepted, AttemptOutcome, By, Label, Listener, PointValue, Process, QueueState, StorePart,
    },
};
use postrider_queue::SiteState;
use postrider_store::{
    HookFilter, MetricsPoint, Order, PointAmount, PointSpan, QueueFilter, StoreError, Time,
};
use tokio::sync::{Mutex, watch};
use tracing::warn;

use crate::Context;

/// How many messages are read at once.
const PAGE: usize = 500;
/// The messages of the queue are looked at in at most one part in so many of the time.
const LOOK_SHARE: u32 = 50;
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

/// The values of all metrics, by their ids.
pub type Values = BTreeMap<String, PointValue>;

/// What was found when the messages of the queue were last looked at.
#[derive(Debug, Default)]
pub struct Figures(Mutex<Option<Looked>>);

#[derive(Clone, Copy, Debug)]
struct Looked {
    until: Instant,
    took: Duration,
    found: Waiting,
}

/// The messages that wait.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    deferred: u64,
    bytes: u64,
}

impl Figures {
    /// Looks at all messages, unless that was done a moment ago. One caller looks, and the others
    /// wait.
    async fn waiting(&self, context: &Context) -> Result<Waiting, StoreError> {
        let mut last = self.0.lock().await;
        let begun = Instant::now();
        if let Some(last) = *last
            && begun.duration_since(last.until) < last.took * LOOK_SHARE
        {
            return Ok(last.found);
        }
        let (mut found, mut after) = (Waiting::default(), None);
        loop {
            let all = QueueFilter::default();
            let page = context.store.list(&all, after, Order::Ascending, PAGE);
            let page = page.await?;
            for message in &page.items {
                found.deferred += u64::from(!message.hold && !message.results.is_empty());
                found.bytes += message.common.size;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let took = begun.elapsed();
        *last = Some(Looked {
            until: begun + took,
            took,
            found,
        });
        Ok(found)
    }
}

impl Context {
    /// The page of /metrics.
    pub async fn metrics_page(&self) -> String {
        self.set_gauges().await;
        self.metrics.text(&Process::read())
    }

    /// The values of all metrics since the start, by their ids.
    pub async fn metrics_values(&self) -> Values {
        self.set_gauges().await;
        let process = Process::read();
        let point = self.metrics.point(&process).into_iter();
        let named = point.map(|(name, value)| {
            let name = name.strip_prefix("postrider_").unwrap_or(name);
            (format!("postrider.{name}"), value)
        });
        let mut values: Values = named.collect();
        let (accounts, domains) = {
            let config = self.config.load();
            (config.accounts.len(), config.domains.len())
        };
        values.extend(known_elsewhere(&self.metrics));
        let gauges = [
            ("user.count", Some(accounts as f64)),
            ("domain.count", Some(domains as f64)),
            ("server.memory", process.memory()),
        ];
        for (id, value) in gauges {
            let value = value.map(|value| (id.to_owned(), PointValue::Gauge(value)));
            values.extend(value);
        }
        values
    }

    /// Reads what the store and the queue know. What can't be read stays as it was.
    async fn set_gauges(&self) {
        let results = [
            self.set_store_gauges().await,
            self.set_queue_gauges().await,
            self.set_webhook_gauges().await,
        ];
        for error in results.into_iter().filter_map(Result::err) {
            warn!(%error, "failed to read some of the metrics");
        }
    }

    async fn set_store_gauges(&self) -> Result<(), StoreError> {
        let metrics = &self.metrics;
        let counts = self.store.counts().await;
        let disk = self.store.disk_use().await;
        let disk = disk.map_err(|error| StoreError::Read(error.into()))?;
        let traces = self.traces.clone();
        let traces = tokio::task::spawn_blocking(move || traces.bytes()).await;
        metrics.suppressions.set(counts.suppressions);
        metrics.hold_rules.set(counts.hold_rules);
        metrics.store_records_set_aside.set(counts.set_aside);
        for (part, bytes) in [
            (StorePart::Journal, counts.journal_bytes),
            (StorePart::Bodies, counts.text_bytes),
            (StorePart::Index, disk.index),
            (StorePart::Traces, traces.unwrap_or_default()),
        ] {
            metrics.store_bytes.with(part).set(bytes);
        }
        metrics.set_certificates(&self.certificates.ends());
        metrics.store_free_bytes.set(disk.free);
        metrics.store_reserve_bytes.set(disk.reserve);
        Ok(())
    }

    async fn set_queue_gauges(&self) -> Result<(), StoreError> {
        let (store, metrics) = (&self.store, &self.metrics);
        let waiting = self.figures.waiting(self).await?;
        let counts = store.counts().await;
        let rest = counts.queued.saturating_sub(counts.held + counts.claimed);
        let deferred = waiting.deferred.min(rest);
        for (state, messages) in [
            (QueueState::Scheduled, rest - deferred),
            (QueueState::Deferred, deferred),
            (QueueState::Delivering, counts.claimed),
            (QueueState::Held, counts.held),
        ] {
            metrics.queue_messages.with(state).set(messages);
        }
        metrics.queue_bytes.set(waiting.bytes);
        let all = QueueFilter::default();
        let oldest = store.list(&all, None, Order::Ascending, 1).await?;
        let oldest = oldest.items.first().map(|message| message.common.queued);
        metrics.queue_oldest_seconds.set(self.age(oldest));
        let overdue = self.queue.overdue().await?;
        metrics.queue_overdue_seconds.set(overdue.as_secs());
        let stopped = store.stops().await?.deliveries.is_some();
        metrics.queue_paused.set(i64::from(stopped));
        let mut states = self.queue.site_states();
        for (label, state) in SITE_STATES {
            let sites = states.remove(&state).unwrap_or_default();
            metrics.sites.with(label).set(sites);
        }
        Ok(())
    }

    async fn set_webhook_gauges(&self) -> Result<(), StoreError> {
        let (store, metrics) = (&self.store, &self.metrics);
        metrics.webhooks_waiting.set(store.counts().await.hooks);
        let all = HookFilter::default();
        let oldest = store.list_hooks(&all, None, Order::Ascending, 1).await?;
        let oldest = oldest.items.first().map(|hook| hook.submitted);
        metrics.webhook_oldest_seconds.set(self.age(oldest));
        Ok(())
    }

    /// Seconds since then; 0 for nothing.
    fn age(&self, since: Option<Time>) -> i64 {
        let now = self.clock.now().0;
        since.map_or(0, |since| (now - since.0).max(0) / 1_000_000)
    }

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

const SITE_STATES: [(postrider_observe::metrics::SiteState, SiteState); 6] = {
    use postrider_observe::metrics::SiteState as Label;
    [
        (Label::Active, SiteState::Active),
        (Label::Limited, SiteState::Limited),
        (Label::Resting, SiteState::Resting),
        (Label::Down, SiteState::Down),
        (Label::Blocked, SiteState::Blocked),
        (Label::Paused, SiteState::Paused),
    ]
};

/// The metrics that clients of Stalwart know, as sums of ours. Its histograms are in milliseconds.
fn known_elsewhere(metrics: &Metrics) -> Vec<(String, PointValue)> {
    const SMTP: [Listener; 3] = [Listener::Smtp, Listener::Submission, Listener::Submissions];
    let connections = SMTP.map(|service| {
        let accepted = metrics.connections_total.with((service, Accepted::Ok));
        accepted.get() as f64
    });
    let open = SMTP.map(|service| metrics.connections.with(service).get() as f64);
    let accepted = |by: By| metrics.accepted_messages_total.with(by).get() as f64;
    let states = QueueState::ALL.iter();
    let queued = states.map(|state| metrics.queue_messages.with(*state).get() as f64);
    let age = &metrics.delivery_age_seconds;
    let mut attempts = (0, 0.0);
    for outcome in AttemptOutcome::ALL {
        let duration = metrics.attempt_duration_seconds.with(*outcome);
        attempts.0 += duration.count();
        attempts.1 += duration.sum();
    }
    let millis = |count, sum: f64| PointValue::Histogram {
        count,
        sum: (sum * 1000.0).round(),
    };
    let ours = accepted(By::Submission) + accepted(By::Webapi) + accepted(By::Local);
    let all = [
        (
            "smtp.connection-start",
            PointValue::Counter(connections.iter().sum()),
        ),
        (
            "queue.queue-message",
            PointValue::Counter(accepted(By::Smtp)),
        ),
        (
            "queue.queue-message-authenticated",
            PointValue::Counter(ours),
        ),
        (
            "delivery.attempt-start",
            PointValue::Counter(attempts.0 as f64),
        ),
        ("queue.count", PointValue::Gauge(queued.sum())),
        (
            "smtp.active-connections",
            PointValue::Gauge(open.iter().sum()),
        ),
        ("delivery.total-time", millis(age.count(), age.sum())),
        ("delivery.attempt-time", millis(attempts.0, attempts.1)),
    ];
    all.into_iter()
        .map(|(id, value)| (id.to_owned(), value))
        .collect()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
