//! Tests of the journal, most of them on a simulated disk.

mod append;
mod failure;
mod format;
mod many;
mod model;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::disk::{Disk, sim::SimDisk};

const SEGMENT: u64 = 32 * 1024;

fn options() -> JournalOptions {
    // Each journal gets a new seed, so that salts never repeat.
    static SEED: AtomicU64 = AtomicU64::new(0);
    JournalOptions {
        segment_size: SEGMENT,
        reserve_size: 16 * 1024,
        keep: 2,
        min_free: 0,
        open_files: 2,
        background: false,
        seed: Some(SEED.fetch_add(1, Ordering::Relaxed)),
    }
}

/// The ops that were read, with the places of their texts.
type Read = Vec<(String, Option<TextPlace>)>;

fn open_with(
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    from: Option<Position>,
) -> Result<(Journal, Read), JournalError> {
    let mut read = Vec::new();
    let journal = Journal::open(disk, options, from, &mut |entry| {
        read.push((String::from_utf8(entry.op.to_vec())?, entry.text));
        Ok(())
    })?;
    Ok((journal, read))
}

fn open(disk: &SimDisk, from: Option<Position>) -> Result<(Journal, Read), JournalError> {
    open_with(disk.disk(), options(), from)
}

fn batch(entries: &[(&str, &[u8])]) -> Batch {
    let mut batch = Batch::new();
    for (op, text) in entries {
        batch.push(1, op.as_bytes(), text);
    }
    batch
}

fn put(journal: &mut Journal, op: &str, text: &[u8]) -> Result<Appended, AppendError> {
    journal.append(&mut batch(&[(op, text)]), Space::Ordinary)
}

fn ops(read: &Read) -> Vec<&str> {
    read.iter().map(|(op, _)| op.as_str()).collect()
}

fn active(journal: &Journal) -> String {
    segment_name(journal.segments().last().unwrap().generation)
}

/// Opens the journal again and expects these ops.
fn expect(disk: &SimDisk, from: Option<Position>, expected: &[&str]) -> Journal {
    let (journal, read) = open(disk, from).unwrap();
    assert_eq!(ops(&read), expected);
    journal
}
