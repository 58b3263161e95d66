//! The count of what came: totals, and a bit for each number of the load driver.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::Notify;

/// Numbers from here on get no bit. So a stray number does not use up the memory.
const NUMBER_MAX: u64 = 1 << 30;

/// The counts so far, and the waiting for more.
#[derive(Default)]
pub(crate) struct Counter {
    counts: Mutex<Counts>,
    /// `changed` wakes its waiters at this many messages.
    awaited: AtomicU64,
    changed: Notify,
}

#[derive(Default)]
struct Counts {
    connections: u64,
    messages: u64,
    recipients: u64,
    bytes: u64,
    /// How many messages had a number that came before.
    repeated: u64,
    /// A bit for each number that came.
    seen: Vec<u64>,
    distinct: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection.
    pub(crate) fn connected(&self) {
        self.lock().connections += 1;
    }

    /// Counts a message, with its number if it has one.
    pub(crate) fn add(&self, number: Option<u64>, recipients: u64, bytes: u64) {
        let now = Instant::now();
        let mut counts = self.lock();
        counts.messages += 1;
        counts.recipients += recipients;
        counts.bytes += bytes;
        counts.first.get_or_insert(now);
        counts.last = Some(now);
        if let Some(number) = number.filter(|number| *number < NUMBER_MAX) {
            let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
            if word >= counts.seen.len() {
                counts.seen.resize(word + 1, 0);
            }
            if let Some(word) = counts.seen.get_mut(word) {
                let new = *word & bit == 0;
                *word |= bit;
                counts.distinct += u64::from(new);
                counts.repeated += u64::from(!new);
            }
        }
        let messages = counts.messages;
        drop(counts);
        if messages >= self.awaited.load(Ordering::Relaxed) {
            self.changed.notify_waiters();
        }
    }

    /// How many messages have come.
    pub(crate) fn messages(&self) -> u64 {
        self.lock().messages
    }

    /// Waits until this many messages have come. Only one caller may wait at a time.
    pub(crate) async fn wait_for(&self, messages: u64) {
        loop {
            let changed = self.changed.notified();
            self.awaited.store(messages, Ordering::Relaxed);
            if self.lock().messages >= messages {
                return;
            }
            changed.await;
        }
    }

    /// Sets all counts to zero.
    pub(crate) fn reset(&self) {
        *self.lock() = Counts::default();
    }

    /// The numbers that came, in order.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let counts = self.lock();
        let words = (0u64..).zip(&counts.seen);
        words
            .flat_map(|(index, word)| {
                (0..64)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| index * 64 + bit)
            })
            .collect()
    }

    /// The counts as a JSON object.
    pub(crate) fn json(&self) -> Value {
        let counts = self.lock();
        let seconds = counts.seconds();
        json!({
            "messages": counts.messages,
            "distinct": counts.distinct,
            "repeated": counts.repeated,
            "recipients": counts.recipients,
            "bytes": counts.bytes,
            "connections": counts.connections,
            "seconds": seconds,
            "rate": counts.messages as f64 / seconds.max(1e-9),
        })
    }

    /// The counts for a person, in two lines.
    pub(super) fn lines(&self) -> String {
        let counts = self.lock();
        let seconds = counts.seconds();
        format!(
            "{} messages ({} different numbers, {} repeated), {} recipients, {} connections\n\
             from first to last {seconds:.3} s: {:.0} a second\n",
            counts.messages,
            counts.distinct,
            counts.repeated,
            counts.recipients,
            counts.connections,
            counts.messages as f64 / seconds.max(1e-9)
        )
    }
}

impl Counts {
    fn seconds(&self) -> f64 {
        match (self.first, self.last) {
            (Some(first), Some(last)) => (last - first).as_secs_f64(),
            _ => 0.0,
        }
    }
}
