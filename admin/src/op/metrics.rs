//! The metrics: as they are now, and how they grew.
//!
//! Most metrics count where something happens. What the store and the queue know of themselves is
//! read when somebody asks. Here too are the ids by which clients of Stalwart know some of them.

mod points;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use postrider_observe::{
    Metrics,
    metrics::{
        Accepted, AttemptOutcome, By, End, Label, Listener, PointValue, Process, QueueState,
        StorePart,
    },
};
use postrider_queue::SiteState;
use postrider_store::{HookFilter, Order, QueueFilter, Store, StoreError, Time};
use tracing::warn;

pub use self::points::{Figure, Points, PointsItem, Timed, keep_points};
use super::overview::Day;
use crate::Context;

/// How many messages are read at once.
const PAGE: usize = 500;
/// The messages of the queue are looked at in at most one part in so many of the time.
const LOOK_SHARE: u32 = 50;
/// How long who asks waits for a look at the messages. Prometheus waits ten seconds for all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a page waits for it.
const SHORT_PATIENCE: Duration = Duration::from_millis(5);
/// How long what came of messages in the last day is good enough.
const DAY_KEPT: Duration = Duration::from_secs(60);
/// How many gauges have no metric of ours, and are only here.
const COUNTED_HERE: usize = 3;

/// The values of all metrics, by their ids.
pub type Values = BTreeMap<String, PointValue>;

/// What was found when the messages of the queue were last looked at.
#[derive(Debug, Default)]
pub struct Figures {
    last: Mutex<Option<Looked>>,
    /// The one that looks holds it.
    looking: Arc<tokio::sync::Mutex<()>>,
    /// What came of messages in the last day, and when that was read.
    day: Mutex<Option<(Time, Day)>>,
    /// How much waits for each site.
    pub(super) board: Arc<super::board::Kept>,
}

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
    due: u64,
}

impl Figures {
    /// What the last look found. Whoever asks waits a while for a new look if that is due, and gets
    /// what the last one found if the new one takes longer. None: the first look is not done yet.
    /// A look goes on when the asker has left.
    async fn waiting(
        self: &Arc<Self>,
        store: &Store,
        now: Time,
        patience: Duration,
    ) -> Result<Option<Waiting>, StoreError> {
        if !self.is_fresh() {
            let look = async {
                match Arc::clone(&self.looking).try_lock_owned() {
                    Ok(held) => {
                        let (figures, store) = (Arc::clone(self), store.clone());
                        let look = tokio::spawn(async move {
                            let result = figures.look(&store, now).await;
                            drop(held);
                            result
                        });
                        look.await.unwrap_or(Ok(()))
                    }
                    Err(_) => {
                        drop(self.looking.lock().await);
                        Ok(())
                    }
                }
            };
            tokio::time::timeout(patience, look)
                .await
                .unwrap_or(Ok(()))?;
        }
        Ok(self.last().map(|last| last.found))
    }

    /// How many messages are due, as the last look found.
    pub(super) async fn due(
        self: &Arc<Self>,
        store: &Store,
        now: Time,
    ) -> Result<Option<u64>, StoreError> {
        let took = self.last().map(|last| last.took);
        // A long look is not over soon, so nobody waits for the next one.
        let patience = match took.is_some_and(|took| took > SHORT_PATIENCE) {
            true => Duration::ZERO,
            false => SHORT_PATIENCE,
        };
        let waiting = self.waiting(store, now, patience).await?;
        Ok(waiting.map(|waiting| waiting.due))
    }

    /// What came of messages in the last day, if that was read lately.
    pub(super) fn known_day(&self, now: Time) -> Option<Day> {
        let day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        let known = day.as_ref().filter(|(read, _)| now.since(*read) < DAY_KEPT);
        known.map(|(_, day)| day.clone())
    }

    pub(super) fn keep_day(&self, now: Time, day: &Day) {
        let mut known = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((now, day.clone()));
    }

    fn last(&self) -> Option<Looked> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self) -> bool {
        let last = self.last();
        last.is_some_and(|last| last.until.elapsed() < last.took * LOOK_SHARE)
    }

    /// Looks at all messages.
    async fn look(&self, store: &Store, now: Time) -> Result<(), StoreError> {
        let begun = Instant::now();
        let (mut found, mut after) = (Waiting::default(), None);
        loop {
            let all = QueueFilter::default();
            let page = store.list(&all, after, Order::Ascending, PAGE);
            let page = page.await?;
            for message in &page.items {
                found.deferred += u64::from(!message.hold && !message.results.is_empty());
                found.bytes += message.common.size;
                found.due += u64::from(!message.hold && message.next_attempt <= now);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let took = begun.elapsed();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Looked {
            until: begun + took,
            took,
            found,
        });
        Ok(())
    }
}

/// What the system says of the process. With many sockets that takes the kernel a while.
async fn process() -> Process {
    let read = tokio::task::spawn_blocking(Process::read).await;
    read.unwrap_or_default()
}

impl Context {
    /// The page of /metrics.
    pub async fn metrics_page(&self) -> String {
        self.set_gauges().await;
        self.metrics.text(&process().await)
    }

    /// The values of all metrics since the start, by their ids.
    pub async fn metrics_values(&self) -> Values {
        self.set_gauges().await;
        let process = process().await;
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
        let gauges: [_; COUNTED_HERE] = [
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
        let unread = |error: io::Error| StoreError::Read(error.into());
        let disk = self.store.disk_use().await.map_err(unread)?;
        let journal = self.store.journal_size().await.map_err(unread)?;
        let traces = self.traces.clone();
        let traces = tokio::task::spawn_blocking(move || traces.bytes()).await;
        metrics.suppressions.set(counts.suppressions);
        metrics.hold_rules.set(counts.hold_rules);
        let set_aside = self.store.set_aside().await;
        metrics.store_records_set_aside.set(set_aside);
        for (part, bytes) in [
            (StorePart::Journal, journal),
            (StorePart::Bodies, counts.text_bytes),
            (StorePart::Index, disk.index),
            (StorePart::Traces, traces.unwrap_or_default()),
            (StorePart::Reports, counts.report_bytes),
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
        let waiting = self
            .figures
            .waiting(store, self.clock.now(), PATIENCE)
            .await?;
        let counts = store.counts().await;
        let messages = &metrics.queue_messages;
        if let Some(waiting) = waiting {
            let rest = counts.queued.saturating_sub(counts.held + counts.claimed);
            let deferred = waiting.deferred.min(rest);
            messages.with(QueueState::Scheduled).set(rest - deferred);
            messages.with(QueueState::Deferred).set(deferred);
            metrics.queue_bytes.set(waiting.bytes);
        }
        messages.with(QueueState::Delivering).set(counts.claimed);
        messages.with(QueueState::Held).set(counts.held);
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
    let ended = |end: End| {
        let ended = metrics.messages_ended_total.with(end).get();
        PointValue::Counter(ended as f64)
    };
    let deferred = &metrics.attempt_duration_seconds;
    let deferred = deferred.with(AttemptOutcome::Deferred).count();
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
        ("delivery.delivered", ended(End::Delivered)),
        ("delivery.failed", ended(End::Failed)),
        ("delivery.deferred", PointValue::Counter(deferred as f64)),
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

#[cfg(test)]
mod tests {
    use postrider_store::{Options, Store};

    use super::*;

    /// A scrape has an answer also while the messages of a large queue are looked at.
    #[tokio::test]
    async fn a_long_look_holds_up_nobody() {
        let figures = Arc::new(Figures::default());
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path())).unwrap();
        let bytes = async || {
            let waiting = figures.waiting(&store, Time(0), PATIENCE).await;
            waiting.unwrap().map(|it| it.bytes)
        };
        // Somebody looks for the first time.
        let held = Arc::clone(&figures.looking).lock_owned().await;
        tokio::time::pause();
        assert_eq!(bytes().await, None);
        tokio::time::resume();
        drop(held);
        assert_eq!(bytes().await, Some(0));
        // Somebody looks, and the last look was long ago.
        let held = Arc::clone(&figures.looking).lock_owned().await;
        let found = Waiting {
            deferred: 3,
            bytes: 7000,
            due: 0,
        };
        *figures.last.lock().unwrap() = Some(Looked {
            until: Instant::now(),
            took: Duration::ZERO,
            found,
        });
        tokio::time::pause();
        assert_eq!(bytes().await, Some(7000));
        // The look is done.
        tokio::time::resume();
        drop(held);
        assert_eq!(bytes().await, Some(0));
    }

    /// Pages wait for a look that takes a moment, and not for a long one.
    #[tokio::test]
    async fn pages_do_not_wait_for_a_long_look() {
        let figures = Arc::new(Figures::default());
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path())).unwrap();
        let _held = Arc::clone(&figures.looking).lock_owned().await;
        tokio::time::pause();
        let long = Duration::from_secs(1);
        for (took, due, waited) in [
            (None, None, SHORT_PATIENCE),
            (Some(Duration::ZERO), Some(7), SHORT_PATIENCE),
            (Some(long), Some(7), Duration::ZERO),
        ] {
            *figures.last.lock().unwrap() = took.map(|took| Looked {
                until: Instant::now() - took * LOOK_SHARE,
                took,
                found: Waiting {
                    due: 7,
                    ..Waiting::default()
                },
            });
            let begun = tokio::time::Instant::now();
            assert_eq!(figures.due(&store, Time(0)).await.unwrap(), due);
            // The timer of tokio counts whole milliseconds.
            let more = begun.elapsed().saturating_sub(waited);
            assert!(begun.elapsed() >= waited && more <= Duration::from_millis(1));
        }
    }
}
