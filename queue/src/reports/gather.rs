//! Counts for reports, in memory until they are noted in the store: in one operation for each kind,
//! once in [`EVERY`] at most, and once more at the end.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_store::{
    DmarcCount, DmarcNote, DmarcPublished, DmarcRow, ReportKind, TlsCounts, TlsNote, TlsResults,
};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tracing::warn;

use super::schedule;
use crate::Queue;

/// Counts are noted once in this time, at most.
const EVERY: Duration = Duration::from_secs(10);
/// How many rows wait to be noted, of each kind. While there are more, further ones are not
/// counted.
const WAITING_MAX: usize = 10_000;

/// What was counted since it was last noted.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// By day and domain.
    tls: Mutex<HashMap<(u32, String), TlsResults>>,
    /// By day, domain and name of the row.
    dmarc: Mutex<HashMap<(u32, String, String), DmarcNote>>,
    /// Something was counted.
    counted: Notify,
    /// Counts were noted, so a report may have become due.
    pub(super) noted: Notify,
}

/// What DMARC said of a message that came in, for a report to the domain with the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmarcSeen {
    /// The domain with the policy, in ASCII.
    pub domain: String,
    /// Its policy.
    pub published: DmarcPublished,
    /// The results.
    pub row: DmarcRow,
}

impl Gathered {
    /// The lock is held for a moment, never over a wait.
    fn tls(&self) -> MutexGuard<'_, HashMap<(u32, String), TlsResults>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock is held for a moment, never over a wait.
    fn dmarc(&self) -> MutexGuard<'_, HashMap<(u32, String, String), DmarcNote>> {
        self.dmarc.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection for a domain.
    pub(crate) fn add_tls(&self, day: u32, domain: &str, counts: Vec<TlsCounts>) {
        let mut waiting = self.tls();
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(&(day, domain.to_owned())) {
            return;
        }
        let results = waiting
            .entry((day, domain.to_owned()))
            .or_insert_with(|| TlsResults {
                day,
                domain: domain.to_owned(),
                counts: Vec::new(),
            });
        results.add(counts, u64::MAX);
        drop(waiting);
        self.counted.notify_one();
    }

    /// Counts a message.
    fn add_dmarc(&self, day: u32, seen: DmarcSeen) {
        let name = row_name(&seen.row);
        let mut waiting = self.dmarc();
        let is_full = waiting.len() >= WAITING_MAX;
        match waiting.entry((day, seen.domain.clone(), name.clone())) {
            Entry::Occupied(mut entry) => {
                let note = entry.get_mut();
                note.count.count += 1;
                note.published = seen.published;
            }
            Entry::Vacant(_) if is_full => return,
            Entry::Vacant(entry) => {
                entry.insert(DmarcNote {
                    day,
                    due: schedule::due(ReportKind::Dmarc, day, &seen.domain),
                    domain: seen.domain,
                    published: seen.published,
                    name,
                    count: DmarcCount {
                        row: seen.row,
                        count: 1,
                    },
                });
            }
        }
        drop(waiting);
        self.counted.notify_one();
    }

    /// Puts counts back that could not be noted.
    fn put_back_tls(&self, notes: Vec<TlsNote>) {
        for note in notes {
            let TlsResults {
                day,
                domain,
                counts,
            } = note.results;
            self.add_tls(day, &domain, counts);
        }
    }

    fn put_back_dmarc(&self, notes: Vec<DmarcNote>) {
        let mut waiting = self.dmarc();
        for note in notes {
            let key = (note.day, note.domain.clone(), note.name.clone());
            match waiting.entry(key) {
                Entry::Occupied(mut entry) => entry.get_mut().count.count += note.count.count,
                Entry::Vacant(entry) => {
                    entry.insert(note);
                }
            }
        }
        drop(waiting);
        self.counted.notify_one();
    }
}

/// The name of a row: a hash of all that its messages have in common.
fn row_name(row: &DmarcRow) -> String {
    let hash = Sha256::digest(format!("{row:?}"));
    let hash = hash.iter().take(16);
    hash.map(|byte| format!("{byte:02x}")).collect()
}

impl Queue {
    /// Counts a message that came in, for a report about DMARC. Nothing happens if such reports are
    /// not sent.
    pub fn count_dmarc(&self, seen: DmarcSeen) {
        if self.sends_reports(ReportKind::Dmarc) && !self.is_local() {
            self.gathered.add_dmarc(self.clock.now().day(), seen);
        }
    }

    /// Notes what is counted, until the queue ends.
    pub(crate) async fn keep_counts(&self) {
        loop {
            let ended = tokio::select! {
                () = self.gathered.counted.notified() => false,
                () = self.faults.ended() => true,
            };
            self.note_counts().await;
            if ended {
                return;
            }
            let next = self.clock.moment().after(EVERY);
            tokio::select! {
                () = self.clock.sleep_until_moment(next) => {}
                () = self.faults.ended() => {}
            }
        }
    }

    async fn note_counts(&self) {
        let tls = std::mem::take(&mut *self.gathered.tls());
        let tls = tls.into_values().map(|results| TlsNote {
            due: schedule::due(ReportKind::Tls, results.day, &results.domain),
            results,
        });
        let tls: Vec<TlsNote> = tls.collect();
        if !tls.is_empty() {
            let noted = self.store.note_tls_results(tls.clone()).await;
            if let Err(error) = noted {
                warn!(%error, "counts for reports about TLS are not stored yet");
                self.gathered.put_back_tls(tls);
            }
        }
        let dmarc = std::mem::take(&mut *self.gathered.dmarc());
        let dmarc: Vec<DmarcNote> = dmarc.into_values().collect();
        if !dmarc.is_empty() {
            let noted = self.store.note_dmarc_results(dmarc.clone()).await;
            if let Err(error) = noted {
                warn!(%error, "counts for reports about DMARC are not stored yet");
                self.gathered.put_back_dmarc(dmarc);
            }
        }
        self.gathered.noted.notify_one();
    }
}
