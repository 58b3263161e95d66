//! Those who follow the traces that end.
//!
//! Each of them has a queue of its own, so that a slow one loses traces, and nobody else waits. A
//! queue has room for two times what may wait for the hand-over: traces come in portions of that
//! size.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::Notify;

use super::{
    Record,
    tracer::{WAITING_BYTES_MAX, WAITING_MAX},
};
use crate::metrics::{Metrics, TraceReader};

/// The most traces, and bytes of them, that a reader may be behind.
pub(super) const BEHIND_MAX: usize = 2 * WAITING_MAX;
const BEHIND_BYTES_MAX: usize = 2 * WAITING_BYTES_MAX;

/// All who follow. When it is dropped, they get what waits, and then the end.
#[derive(Debug)]
pub(super) struct Followers {
    metrics: Arc<Metrics>,
    queues: Mutex<Vec<Weak<Queue>>>,
}

#[derive(Debug)]
struct Queue {
    reader: TraceReader,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// How many were lost since the reader was told.
    lost: u64,
    /// No more come.
    is_over: bool,
}

impl Followers {
    pub(super) const fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            queues: Mutex::new(Vec::new()),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self, reader: TraceReader) -> Subscription {
        let queue = Arc::new(Queue {
            reader,
            state: Mutex::default(),
            changed: Notify::new(),
        });
        self.queues().push(Arc::downgrade(&queue));
        Subscription {
            queue,
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Gives traces to all who follow.
    pub(super) fn publish(&self, records: Vec<Record>) {
        let mut queues = self.queues();
        queues.retain(|queue| queue.strong_count() > 0);
        if queues.is_empty() || records.is_empty() {
            return;
        }
        let records: Vec<_> = records.into_iter().map(Arc::new).collect();
        for queue in queues.iter().filter_map(Weak::upgrade) {
            let lost = queue.state().add(&records);
            let counter = self.metrics.traces_lost_total.with(queue.reader);
            counter.add(lost);
            queue.changed.notify_one();
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        for queue in self.queues().iter().filter_map(Weak::upgrade) {
            queue.state().is_over = true;
            queue.changed.notify_one();
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds traces. Gives how many are lost for them, the oldest ones.
    fn add(&mut self, records: &[Arc<Record>]) -> u64 {
        let before = self.lost;
        for record in records {
            self.bytes += record.memory();
            self.records.push_back(Arc::clone(record));
            while self.records.len() > BEHIND_MAX || self.bytes > BEHIND_BYTES_MAX {
                self.take();
                self.lost += 1;
            }
        }
        self.lost - before
    }

    fn take(&mut self) -> Option<Arc<Record>> {
        let record = self.records.pop_front();
        let bytes = record.as_ref().map_or(self.bytes, |it| it.memory());
        self.bytes = self.bytes.saturating_sub(bytes);
        record
    }
}

/// The traces that end, for one who follows them.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

/// What a subscriber gets.
#[derive(Clone, Debug)]
pub enum Followed {
    /// A trace that ended.
    Trace(Arc<Record>),
    /// So many traces were lost, since the subscriber was too slow.
    Lost(u64),
}

impl Subscription {
    /// The next trace. None: the server stops, no more come. What it waits for is not lost if the
    /// future is dropped.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            // A reader of many traces lets others run now and then.
            tokio::task::coop::consume_budget().await;
            {
                let mut state = self.queue.state();
                if let Some(followed) = state.next() {
                    return Some(followed);
                }
                if state.is_over {
                    return None;
                }
            }
            self.queue.changed.notified().await;
        }
    }

    /// The next trace, if there is one now.
    pub fn try_next(&mut self) -> Option<Followed> {
        self.queue.state().next()
    }

    /// Counts traces that the reader got, and could not use.
    pub fn count_lost(&self, count: u64) {
        let counter = self.metrics.traces_lost_total.with(self.queue.reader);
        counter.add(count);
    }
}

impl State {
    fn next(&mut self) -> Option<Followed> {
        match mem::take(&mut self.lost) {
            0 => self.take().map(Followed::Trace),
            lost => Some(Followed::Lost(lost)),
        }
    }
}
