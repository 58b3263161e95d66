//! The start of traces, and their hand-over at the end.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use super::{Kind, Record, building::Trace};

/// The most traces, and bytes of them, that wait for the hand-over.
const WAITING_MAX: usize = 8192;
const WAITING_BYTES_MAX: usize = 16 << 20;
/// A trace that took longer than this, in microseconds, is kept like one of a failure.
const SLOW: i64 = 10_000_000;
/// The memory of all traces that go on. Beyond it, long ones keep less of their end.
const GOING_ON_MAX: usize = 64 << 20;
/// What each trace may have beyond that limit.
const SMALL: usize = 8192;

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

/// How many traces ended how, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kept.
    pub kept: u64,
    /// Left out, as an ordinary one.
    pub sampled: u64,
    /// Left out, since there was no room.
    pub dropped: u64,
}

/// Starts traces and takes them at their end. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    /// None: there are no traces.
    shared: Option<Arc<Shared>>,
}

impl Tracer {
    /// Traces, and the place where those that ended are handed over.
    #[must_use]
    pub fn new(settings: TracerSettings) -> (Self, HandedOver) {
        let shared = Arc::new(Shared {
            next_span: AtomicU64::new(settings.first_span),
            sample: settings.sample,
            going_on: AtomicUsize::new(0),
            counts: Default::default(),
            waiting: Mutex::default(),
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

    /// Starts a trace at `micros`, in microseconds since 1970.
    #[must_use]
    pub fn start(&self, kind: Kind, micros: i64) -> Trace {
        let Some(shared) = &self.shared else {
            return Trace::off();
        };
        let span = shared.next_span.fetch_add(1, Relaxed);
        Trace::new(shared, kind, span, micros)
    }

    /// Ends a trace. It never waits for room: without room the trace is dropped, and counted.
    pub fn finish(&self, trace: Trace, keep: Keep) {
        if let Some((shared, record)) = trace.end() {
            shared.hand_over(record, keep);
        }
    }

    /// How many traces of a kind ended how.
    #[must_use]
    pub fn counts(&self, kind: Kind) -> Counts {
        let counts = self.shared.as_ref();
        let counts = counts.and_then(|shared| shared.counts.get(kind as usize));
        counts.map_or_else(Counts::default, |counts| Counts {
            kept: counts.kept.load(Relaxed),
            sampled: counts.sampled.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
        })
    }
}

#[derive(Debug, Default)]
struct AtomicCounts {
    kept: AtomicU64,
    sampled: AtomicU64,
    dropped: AtomicU64,
}

/// What the tracer, the traces that go on and the recorder share.
#[derive(Debug)]
pub(super) struct Shared {
    next_span: AtomicU64,
    sample: f64,
    /// The bytes of the buffers of the traces that go on.
    going_on: AtomicUsize,
    counts: [AtomicCounts; Kind::ALL.len()],
    waiting: Mutex<Waiting>,
}

/// The traces that ended and were not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    bytes: usize,
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
        let Some(counts) = self.counts.get(record.kind as usize) else {
            return;
        };
        let is_slow = record.ended.saturating_sub(record.started) > SLOW;
        let is_ordinary = keep == Keep::Sampled && !is_slow;
        if is_ordinary && !is_in_share(record.span, self.sample) {
            counts.sampled.fetch_add(1, Relaxed);
            return;
        }
        let mut waiting = self.waiting();
        let counter = if waiting.is_closed || waiting.fills(1) {
            &counts.dropped
        } else if is_ordinary && waiting.fills(2) {
            &counts.sampled
        } else {
            waiting.bytes += record.memory();
            waiting.records.push(record);
            &counts.kept
        };
        drop(waiting);
        counter.fetch_add(1, Relaxed);
    }

    /// Whether a trace that has so many bytes may have more.
    pub(super) fn has_memory(&self, bytes: usize) -> bool {
        bytes < SMALL || self.going_on.load(Relaxed) < GOING_ON_MAX
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
    /// Takes those that wait.
    #[must_use]
    pub fn take(&self) -> Vec<Record> {
        let mut waiting = self.0.waiting();
        waiting.bytes = 0;
        mem::take(&mut waiting.records)
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        self.0.waiting().is_closed = true;
    }
}

#[cfg(test)]
mod tests;
