//! Snapshots of a running store: one position of the journal, and a lease on the files that stand
//! for it.
//!
//! A checkpoint fixes the position: the index has everything before it, so the copy needs no entry
//! behind it. From the freeze of that checkpoint on, the writer gives back no segment and removes
//! no file of the snapshot. The rows of the index are copied to another file from a read
//! transaction of that checkpoint, while later checkpoints go on.

use std::{collections::HashSet, sync::Arc};

use redb::{
    Database, ReadTransaction, ReadableTable, TableDefinition, TableHandle, WriteTransaction,
};
use tokio::{sync::oneshot, task};

use super::{JournalEngine, Shared, inbox::Request, index};
use crate::{
    StoreError,
    backup::{Keeps, Snapshot},
    disk::{Disk, Open, redb_backend::RedbFile},
    error::Fault,
    journal::{Position, SegmentInfo},
    table::key,
};

/// The copy of the index, below the data folder.
pub(super) const COPY: &str = "index.backup";
/// Memory for the pages of the copy.
const CACHE: usize = 16 << 20;

/// A snapshot while it is being made.
pub(super) struct Held {
    pub(super) position: Position,
    pub(super) segments: Vec<SegmentInfo>,
    pub(super) lease: Lease,
}

/// The answer to the caller of a snapshot.
pub(super) type Reply = oneshot::Sender<Result<(Held, ReadTransaction), StoreError>>;

/// Keeps the files of a snapshot. The writer is told of its end.
pub(crate) struct Lease {
    shared: Arc<Shared>,
}

impl Lease {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // If the writer has ended, the next start finds what it left.
        let _ = self.shared.inbox.push(Request::EndSnapshot);
    }
}

/// The files that the writer keeps for a snapshot.
pub(super) struct Hold {
    /// Segments up to this generation are not given back.
    generation: u64,
    /// The files of texts that the snapshot has. None: nobody knows yet.
    needed: Option<HashSet<u64>>,
    /// Files of texts that would be removed by now.
    deferred: Vec<u64>,
}

impl Hold {
    pub(super) const fn new(generation: u64) -> Self {
        Self {
            generation,
            needed: None,
            deferred: Vec::new(),
        }
    }

    pub(super) const fn keeps_segment(&self, generation: u64) -> bool {
        generation <= self.generation
    }

    /// Whether the removal of a file has to wait.
    pub(super) fn defer(&mut self, file: u64) -> bool {
        let needed = self.needed.as_ref();
        let waits = needed.is_none_or(|needed| needed.contains(&file));
        if waits {
            self.deferred.push(file);
        }
        waits
    }

    /// Takes the files that the snapshot has. Gives those that need not wait any longer.
    pub(super) fn set_needed(&mut self, needed: HashSet<u64>) -> Vec<u64> {
        let deferred = std::mem::take(&mut self.deferred);
        let (deferred, free) = deferred.into_iter().partition(|file| needed.contains(file));
        self.deferred = deferred;
        self.needed = Some(needed);
        free
    }

    /// The files whose removal waited.
    pub(super) fn end(self) -> Vec<u64> {
        self.deferred
    }
}

impl JournalEngine {
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let (held, transaction) = self.request(Request::Snapshot).await?;
        let shared = Arc::clone(&self.shared);
        let made = task::spawn_blocking(move || make(&shared, held, &transaction)).await;
        made.unwrap_or(Err(StoreError::Closed))
    }
}

/// Copies the index, and lists the files.
fn make(
    shared: &Shared,
    held: Held,
    transaction: &ReadTransaction,
) -> Result<Snapshot, StoreError> {
    let read = |fault: redb::Error| StoreError::from(Fault::Index(fault));
    let texts: Vec<u64> = numbers(transaction, "files").map_err(read)?;
    let alive: HashSet<u64> = numbers(transaction, "segments").map_err(read)?;
    let needed = Request::NeededFiles(texts.iter().copied().collect());
    shared.inbox.push(needed)?;
    let Held {
        position,
        mut segments,
        lease,
    } = held;
    segments.retain(|segment| {
        let generation = segment.generation;
        generation == position.generation || alive.contains(&generation)
    });
    copy_index(shared, transaction)?;
    Ok(Snapshot {
        position,
        is_cut: true,
        doubt: None,
        index: COPY.to_owned(),
        is_index_final: true,
        segments,
        texts,
        _keeps: Keeps::Lease { _lease: lease },
    })
}

/// The numbers that are the keys of a table.
fn numbers<C: FromIterator<u64>>(
    transaction: &ReadTransaction,
    name: &str,
) -> Result<C, redb::Error> {
    let table = match transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(name)) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(C::from_iter([])),
        table => table?,
    };
    let numbers = table.iter()?.map(|row| {
        let (key, _) = row?;
        Ok(key::decode(key.value()).unwrap_or_default())
    });
    numbers.collect()
}

fn copy_index(shared: &Shared, transaction: &ReadTransaction) -> Result<(), StoreError> {
    let write = |error: std::io::Error| match crate::disk::is_full(&error) {
        true => StoreError::Full,
        false => StoreError::Write(error.into()),
    };
    let disk = &*shared.disk;
    let size = disk.open(index::FILE, Open::Existing);
    let size = size.and_then(|file| file.size()).map_err(write)?;
    // The store needs the room that stays free for its own index.
    if disk.free().map_err(write)? < size.saturating_add(shared.min_free) {
        return Err(StoreError::Full);
    }
    let copied = copy_rows(transaction, disk).map_err(Fault::Commit);
    if copied.is_err() {
        remove_copy(disk);
    }
    Ok(copied?)
}

/// Copies all rows to a new database.
fn copy_rows(from: &ReadTransaction, disk: &dyn Disk) -> Result<(), redb::Error> {
    let file = disk.open(COPY, Open::Either).map_err(redb::Error::Io)?;
    file.set_size(0).map_err(redb::Error::Io)?;
    let database = Database::builder()
        .set_cache_size(CACHE)
        .create_with_backend(RedbFile::new(file))?;
    let mut to = database.begin_write()?;
    to.set_quick_repair(true);
    for table in from.list_tables()? {
        match table.name() {
            index::META_NAME => copy_table::<&str>(from, &to, index::META_NAME)?,
            name => copy_table::<&[u8]>(from, &to, name)?,
        }
    }
    to.commit()?;
    Ok(())
}

fn copy_table<K: redb::Key + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    name: &str,
) -> Result<(), redb::Error> {
    let definition = TableDefinition::<K, &[u8]>::new(name);
    let mut target = to.open_table(definition)?;
    for row in from.open_table(definition)?.iter()? {
        let (key, value) = row?;
        target.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Removes the copy of the index. If that fails, the next start does it.
pub(super) fn remove_copy(disk: &dyn Disk) {
    match disk.remove(COPY) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(file = COPY, %error, "copy of the index not removed");
        }
        _ => {}
    }
}
