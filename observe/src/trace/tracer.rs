//! The start of traces, and their hand-over at the end.

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    Kind, Record,
    building::Trace,
    listening::{Listeners, Listening},
};
use crate::metrics::{Metrics, TraceKind, TraceResult};

/// The most traces, and bytes of them, that wait for the hand-over.
pub(super) const WAITING_MAX: usize = 8192;
pub(super) const WAITING_BYTES_MAX: usize = 16 << 20;
/// A trace that took longer than this, in microseconds, is kept like one of a failure.
const SLOW: i64 = 10_000_000;
/// The memory of all traces that go on. Beyond it, none of them grows that is larger than `SMALL`.
const GOING_ON_MAX: usize = 64 << 20;
/// What each trace may have beyond that limit: enough for a beginning.
pub(super) const SMALL: usize = 4096;
/// How long the traces of a moment are collected before they are written.
const COLLECT: Duration = Duration::from_millis(200);
/// The longest that a search waits for traces that are being written.
const SETTLE: Duration = Duration::from_secs(5);

/// What of the traces is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TracerSettings {
    /// The share of ordinary traces that are kept, from 0 to 1.
    pub sample: f64,
    /// The number of the first trace: larger than that of any trace before.
    pub first_span: u64,
}

impl Default for TracerSettings {
    fn default() -> Self {
        Self {
            sample: 1.0,
            first_span: 1,
        }
    }
}

/// Whether a trace that ended is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In any case, if there is room: something was refused, deferred or failed, is junk, or was
    /// changed.
    Always,
    /// With the share of ordinary ones. Those that took over 10 seconds are kept always.
    Sampled,
}

/// Starts traces and takes them at their end. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    /// None: there are no traces.
    shared: Option<Arc<Shared>>,
}

impl Tracer {
    /// Traces, and the place where those that ended are handed over. Nobody sees what they count.
    #[must_use]
    pub fn new(settings: TracerSettings) -> (Self, HandedOver) {
        Self::counting(settings, Arc::default())
    }

    /// The same, which count what becomes of traces.
    #[must_use]
    pub fn counting(settings: TracerSettings, metrics: Arc<Metrics>) -> (Self, HandedOver) {
        let shared = Arc::new(Shared {
            next_span: AtomicU64::new(settings.first_span),
            sample: settings.sample,
            going_on: AtomicUsize::new(0),
            live: Listeners::default(),
            metrics,
            waiting: Mutex::default(),
            changed: Condvar::new(),
            written: Condvar::new(),
        });
        let tracer = Self {
            shared: Some(Arc::clone(&shared)),
        };
        (tracer, HandedOver(shared))
    }

    /// No traces. For tests, and where they are turned off.
    #[must_use]
    pub const fn off() -> Self {
        Self { shared: None }
    }

    /// Whether traces are kept. A caller may leave out work for them otherwise.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Starts a trace at `micros`, in microseconds since 1970.
    #[must_use]
    pub fn start(&self, kind: Kind, micros: i64) -> Trace {
        let Some(shared) = &self.shared else {
            return Trace::off();
        };
        let span = shared.next_span.fetch_add(1, Relaxed);
        Trace::new(shared, kind, span, micros)
    }

    /// Whether somebody listens to the traces that go on.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        let shared = self.shared.as_ref();
        shared.is_some_and(|shared| shared.live.is_heard())
    }

    /// Listens to the traces that go on. None: there are no traces.
    #[must_use]
    pub fn listen(&self) -> Option<Listening> {
        self.shared.as_ref().map(Listening::new)
    }

    /// A trace that is told to those who listen, and is not kept: for what is traced at its end
    /// only. None: nobody listens.
    #[must_use]
    pub fn preview(&self, kind: Kind, micros: i64) -> Option<Trace> {
        let shared = self.shared.as_ref();
        let shared = shared.filter(|shared| shared.live.is_heard())?;
        let span = shared.next_span.fetch_add(1, Relaxed);
        Some(Trace::new(shared, kind, span, micros).not_kept())
    }

    /// Starts the trace of what was told by a preview. It has its number, and
    /// [`quietly`](Trace::quietly) adds the events that were told.
    #[must_use]
    pub fn start_after(&self, kind: Kind, micros: i64, preview: Option<Trace>) -> Trace {
        match (&self.shared, preview) {
            (Some(shared), Some(preview)) => {
                Trace::new(shared, kind, preview.span(), micros).in_place_of(preview)
            }
            _ => self.start(kind, micros),
        }
    }

    /// Ends a trace. It never waits for room: without room the trace is dropped, and counted.
    pub fn finish(&self, trace: Trace, keep: Keep) {
        if let Some((shared, record)) = trace.end() {
            shared.hand_over(record, keep);
        }
    }

    /// Has what waits written now.
    pub(super) fn hurry(&self) {
        if let Some(shared) = &self.shared {
            shared.waiting().hurry = true;
            shared.changed.notify_one();
        }
    }

    /// Waits until what was handed over before is written, for some seconds at most.
    pub(super) fn settle(&self) {
        let Some(shared) = &self.shared else { return };
        let mut waiting = shared.waiting();
        let all = waiting.handed_over;
        waiting.hurry |= waiting.done < all;
        shared.changed.notify_one();
        let is_missing = |waiting: &mut Waiting| waiting.done < all && !waiting.is_closed;
        let settled = shared
            .written
            .wait_timeout_while(waiting, SETTLE, is_missing);
        drop(settled);
    }
}

/// What the tracer, the traces that go on and the recorder share.
#[derive(Debug)]
pub(super) struct Shared {
    next_span: AtomicU64,
    sample: f64,
    /// The bytes of the traces that go on.
    going_on: AtomicUsize,
    /// Who listens to them.
    pub(super) live: Listeners,
    pub(super) metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
    /// There is something for the recorder to do.
    changed: Condvar,
    /// Traces were written.
    written: Condvar,
}

/// The traces that ended and were not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    bytes: usize,
    /// How many were handed over so far, and how many of them are written or dropped.
    handed_over: u64,
    done: u64,
    /// Somebody waits, so they are written at once.
    hurry: bool,
    /// Nobody takes them any more.
    is_closed: bool,
}

impl Waiting {
    const fn fills(&self, part: usize) -> bool {
        self.records.len() >= WAITING_MAX / part || self.bytes >= WAITING_BYTES_MAX / part
    }
}

impl Shared {
    /// The lock is held for a moment: to add a record, or to take all.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hand_over(&self, record: Record, keep: Keep) {
        let is_slow = record.ended.saturating_sub(record.started) > SLOW;
        let is_ordinary = keep == Keep::Sampled && !is_slow;
        if is_ordinary && !is_in_share(record.span, self.sample) {
            self.count(record.kind, TraceResult::Sampled);
            return;
        }
        let kind = record.kind;
        let mut waiting = self.waiting();
        let result = if waiting.is_closed || waiting.fills(1) {
            TraceResult::Dropped
        } else if is_ordinary && waiting.fills(2) {
            TraceResult::Sampled
        } else {
            let was_empty = waiting.records.is_empty();
            waiting.bytes += record.memory();
            waiting.records.push(record);
            waiting.handed_over += 1;
            let is_much = waiting.fills(4);
            drop(waiting);
            if was_empty || is_much {
                self.changed.notify_one();
            }
            return;
        };
        drop(waiting);
        self.count(kind, result);
    }

    fn count(&self, kind: Kind, result: TraceResult) {
        let kind = match kind {
            Kind::Session => TraceKind::Session,
            Kind::Attempt => TraceKind::Attempt,
            Kind::Webhook => TraceKind::Webhook,
            Kind::Api => TraceKind::Api,
        };
        self.metrics.traces_total.with((kind, result)).inc();
    }

    /// Whether there is memory for the traces that go on.
    pub(super) fn has_memory(&self) -> bool {
        self.going_on.load(Relaxed) < GOING_ON_MAX
    }

    pub(super) fn count_memory(&self, before: usize, now: usize) {
        if now > before {
            self.going_on.fetch_add(now - before, Relaxed);
        } else {
            self.going_on.fetch_sub(before - now, Relaxed);
        }
    }
}

/// Whether the trace with this number is in the share. Numbers are spread evenly: the multiplier is
/// the odd number next to 2^64 divided by the golden ratio.
fn is_in_share(span: u64, share: f64) -> bool {
    let spread = span.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    (spread as f64) < share * (1_u64 << 53) as f64
}

/// Where traces that ended are taken. When it is dropped, they are dropped too, and counted.
#[derive(Debug)]
pub struct HandedOver(Arc<Shared>);

impl HandedOver {
    /// Listens to the traces that go on.
    #[must_use]
    pub fn listen(&self) -> Listening {
        Listening::new(&self.0)
    }

    /// Takes those that wait.
    #[must_use]
    pub fn take(&self) -> Vec<Record> {
        let mut waiting = self.0.waiting();
        waiting.bytes = 0;
        mem::take(&mut waiting.records)
    }

    /// Waits until there are traces, and then a moment for more of them, unless there are many or
    /// somebody waits for them. Without traces it ends after `longest`.
    pub(super) fn wait(&self, longest: Duration) {
        let changed = &self.0.changed;
        let is_idle = |waiting: &mut Waiting| waiting.records.is_empty() && !waiting.hurry;
        let waited = changed.wait_timeout_while(self.0.waiting(), longest, is_idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !waiting.records.is_empty() {
            let is_calm = |waiting: &mut Waiting| !waiting.hurry && !waiting.fills(4);
            let waited = changed.wait_timeout_while(waiting, COLLECT, is_calm);
            (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        waiting.hurry = false;
    }

    /// Counts traces that were taken.
    pub(super) fn count(&self, records: &[Record], are_kept: bool) {
        let result = match are_kept {
            true => TraceResult::Kept,
            false => TraceResult::Dropped,
        };
        records.iter().for_each(|it| self.0.count(it.kind, result));
    }

    /// Says that all that were taken are written or dropped.
    pub(super) fn done(&self) {
        let mut waiting = self.0.waiting();
        waiting.done = waiting.handed_over - waiting.records.len() as u64;
        drop(waiting);
        self.0.written.notify_all();
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        let left = {
            let mut waiting = self.0.waiting();
            waiting.is_closed = true;
            mem::take(&mut waiting.records)
        };
        self.count(&left, false);
        self.0.written.notify_all();
    }
}

#[cfg(test)]
mod tests;
