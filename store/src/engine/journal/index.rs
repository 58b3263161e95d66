//! The index: a redb database with the tables as of the last checkpoint, and where in the journal
//! that was.

use std::{
    borrow::Cow,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    StoreError,
    disk::{Disk, DiskFile, Open, is_full, redb_backend::RedbFile},
    error::Fault,
    journal::Position,
    table::{
        Frozen, Versions,
        value::{append, exactly},
    },
};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    TableDefinition,
};

/// The format of the index as a whole. Keys and values have versions of their own.
pub(crate) const FORMAT: u32 = 5;
/// The oldest format that is read. Its tables and records are those of [`FORMAT`], but it does not
/// name their versions.
pub(crate) const OLDEST: u32 = 4;
pub(crate) const FILE: &str = "index.redb";
/// An index that is being made.
const NEW_FILE: &str = "index.new";
/// Says that a sync of the index failed, so that nobody knows which of its bytes are on the disk.
pub(super) const DOUBT: &str = "index.doubt";
/// Bytes that are written at once when the index is written anew.
const PIECE: usize = 1 << 20;
pub(super) const META_NAME: &str = "meta";
const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new(META_NAME);
const META_KEY: &str = "checkpoint";
/// Before the name of a subject: its counters.
const COUNTERS: &str = "subject/";
/// Before the name of a table or of operations: their version.
const VERSION: &str = "version/";
/// A smaller index is left as it is.
const SHRINK_MIN: u64 = if cfg!(test) { 4 << 20 } else { 64 << 20 };
/// The bytes that a row takes, about.
const ROW: u64 = 512;
/// An index is shrunk when less than one part in so many of it is in use.
const SHRINK_SHARE: u64 = 8;
/// How long to wait before looking again whether the disk has room.
const FULL_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 250 });

/// The part of the journal that a checkpoint covers.
#[derive(Clone, Debug, Default)]
pub(super) struct Meta {
    /// The counters of each subject, by its name.
    pub(super) counters: Vec<(Cow<'static, str>, Vec<u8>)>,
    /// The entries of the journal from here on are not in the index. None: the index is empty.
    pub(super) position: Option<Position>,
    /// The versions of the tables and of the operations. Those of format 4 have no names.
    pub(super) versions: Versions,
}

/// Why an index can't be opened.
pub(super) enum IndexError {
    Io(io::Error),
    Newer(u32),
    Older(u32),
    Damaged(String),
}

impl From<redb::Error> for IndexError {
    fn from(error: redb::Error) -> Self {
        match error {
            // redb says so of a file that is not its own.
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Self::Io(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) struct Index {
    database: Database,
    /// The versions that the index names.
    versions: Mutex<Versions>,
}

impl Index {
    /// Opens the index. None if there is none. A large index that is nearly empty is shrunk first.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        cache: usize,
        room: Arc<IndexRoom>,
    ) -> Result<Option<(Self, Meta)>, IndexError> {
        let Some((index, size)) = Self::open_file(disk, cache, Arc::clone(&room))? else {
            return Ok(None);
        };
        if size < SHRINK_MIN || index.rows()?.saturating_mul(ROW) >= size / SHRINK_SHARE {
            let meta = index.meta()?;
            return Ok(Some((index, meta)));
        }
        drop(index);
        shrink(disk, cache)?;
        match Self::open_file(disk, cache, room)? {
            None => Ok(None),
            Some((index, _)) => {
                let meta = index.meta()?;
                Ok(Some((index, meta)))
            }
        }
    }

    /// Opens the index as it is. None if there is none.
    pub(super) fn look(
        disk: &Arc<dyn Disk>,
        cache: usize,
        room: Arc<IndexRoom>,
    ) -> Result<Option<(Self, Meta)>, IndexError> {
        let Some((index, _)) = Self::open_file(disk, cache, room)? else {
            return Ok(None);
        };
        let meta = index.meta()?;
        Ok(Some((index, meta)))
    }

    /// Looks at all checksums. False: one was wrong, and the commit before was whole.
    pub(super) fn check(&mut self) -> Result<bool, redb::Error> {
        Ok(self.database.check_integrity()?)
    }

    /// Opens the index as it is. Gives the bytes of its file too.
    fn open_file(
        disk: &Arc<dyn Disk>,
        cache: usize,
        room: Arc<IndexRoom>,
    ) -> Result<Option<(Self, u64)>, IndexError> {
        let file = match disk.open(FILE, Open::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let file = match disk.open(DOUBT, Open::Existing) {
            Ok(_) => write_anew(disk, cache, file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => file,
            Err(error) => return Err(error.into()),
        };
        let size = file.size()?;
        let index = Self::on(Patient::new(disk, file, room), cache)?;
        Ok(Some((index, size)))
    }

    /// How many rows all tables have. This costs the same for any number of rows.
    fn rows(&self) -> Result<u64, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut rows = 0;
        for table in transaction.list_tables()? {
            rows += transaction.open_untyped_table(table)?.len()?;
        }
        Ok(rows)
    }

    /// Makes an empty index. A crash in between leaves none.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        cache: usize,
        room: &Arc<IndexRoom>,
    ) -> Result<(Self, Meta), IndexError> {
        let file = disk.open(NEW_FILE, Open::Either)?;
        file.set_size(0)?;
        let index = Self::on(Patient::new(disk, file, Arc::clone(room)), cache)?;
        index.commit(&[], &Meta::default())?;
        drop(index);
        disk.rename(NEW_FILE, FILE)?;
        disk.sync_dir("")?;
        let missing = || IndexError::Damaged("it vanished".into());
        Self::open(disk, cache, Arc::clone(room))?.ok_or_else(missing)
    }

    fn on(backend: Patient, cache: usize) -> Result<Self, IndexError> {
        let database = Database::builder()
            .set_cache_size(cache)
            .create_with_backend(backend)
            .map_err(redb::Error::from)?;
        Ok(Self {
            database,
            versions: Mutex::default(),
        })
    }

    /// The part of the journal that the last checkpoint covers.
    fn meta(&self) -> Result<Meta, IndexError> {
        let (mut position, mut counters) = (None, Vec::new());
        let mut versions = Versions::new();
        let mut read = || -> Result<(), redb::Error> {
            let table = self.database.begin_read()?.open_table(META)?;
            for row in table.iter()? {
                let (key, value) = row?;
                if let Some(name) = key.value().strip_prefix(COUNTERS) {
                    counters.push((name.to_owned().into(), value.value().to_vec()));
                } else if let Some(name) = key.value().strip_prefix(VERSION) {
                    let version = value.value().first().copied();
                    versions.insert(name.to_owned().into(), version.unwrap_or_default());
                } else if key.value() == META_KEY {
                    position = Some(value.value().to_vec());
                }
            }
            Ok(())
        };
        match read() {
            Err(redb::Error::TableDoesNotExist(_)) => {}
            result => result?,
        }
        let damaged =
            || IndexError::Damaged("it does not say which part of the journal it covers".into());
        let bytes = position.ok_or_else(damaged)?;
        let (format, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        match u32::from_le_bytes(*format) {
            OLDEST..=FORMAT => {
                self.named().clone_from(&versions);
                Ok(Meta {
                    counters,
                    position: exactly(rest).map_err(|_| damaged())?,
                    versions,
                })
            }
            older if older < OLDEST => Err(IndexError::Older(older)),
            newer => Err(IndexError::Newer(newer)),
        }
    }

    fn named(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes durable, together with what they cover. The first change by this program also
    /// names the versions in which it writes.
    pub(super) fn commit(
        &self,
        tables: &[Box<dyn Frozen>],
        meta: &Meta,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        // So a start after a crash need not walk through the whole index.
        transaction.set_quick_repair(true);
        for table in tables {
            table.write(&transaction)?;
        }
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        append(&meta.position, &mut bytes);
        let renamed = *self.named() != meta.versions;
        {
            let mut table = transaction.open_table(META)?;
            table.insert(META_KEY, bytes.as_slice())?;
            for (name, bytes) in &meta.counters {
                table.insert(format!("{COUNTERS}{name}").as_str(), bytes.as_slice())?;
            }
            for (name, version) in meta.versions.iter().filter(|_| renamed) {
                table.insert(format!("{VERSION}{name}").as_str(), [*version].as_slice())?;
            }
        }
        transaction.commit()?;
        if renamed {
            self.named().clone_from(&meta.versions);
        }
        Ok(())
    }

    /// The index as it is now.
    pub(super) fn read(&self) -> Result<redb::ReadTransaction, Fault> {
        self.database
            .begin_read()
            .map_err(|error| Fault::from(redb::Error::from(error)))
    }
}

/// Gives the room back that an index does not need any more. It once had many more rows. The cost
/// is in proportion to the rows that are left. If it fails, the index has the same rows as before,
/// and is opened as after any failure.
fn shrink(disk: &Arc<dyn Disk>, cache: usize) -> Result<(), IndexError> {
    let file = disk.open(FILE, Open::Existing)?;
    let before = file.size()?;
    // Its failures are no reason to stop, so the room is another.
    let mut index = Index::on(Patient::new(disk, file, Arc::default()), cache)?;
    let shrunk = index.database.compact();
    drop(index);
    let after = disk.open(FILE, Open::Existing)?.size()?;
    match shrunk {
        Ok(_) => tracing::info!(before, after, "index shrunk"),
        Err(error) => {
            tracing::warn!(%error, "index not shrunk");
        }
    }
    Ok(())
}

/// Makes the index safe after a sync of it failed.
///
/// The kernel may have dropped bytes of the failed sync, and may show others that are not on the
/// disk. So all checksums of the index are looked at. If the last commit is not whole, redb goes
/// back to the commit before. The journal still has everything since that commit, for a segment is
/// given back only after a commit without an error. Then all bytes are written once more and
/// synced.
fn write_anew(
    disk: &Arc<dyn Disk>,
    cache: usize,
    file: Box<dyn DiskFile>,
) -> Result<Box<dyn DiskFile>, IndexError> {
    tracing::warn!("index written anew: a sync of it failed before");
    let mut database = Database::builder()
        .set_cache_size(cache)
        .create_with_backend(RedbFile::new(file))
        .map_err(redb::Error::from)?;
    let sound = database.check_integrity().map_err(redb::Error::from)?;
    drop(database);
    if !sound {
        tracing::warn!("last commit of the index lost; the journal has what was in it");
    }
    let file = disk.open(FILE, Open::Existing)?;
    let size = file.size()?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).map_or(PIECE, |left| left.min(PIECE));
        let piece = piece.get_mut(..len).unwrap_or_default();
        file.read_at(piece, at)?;
        file.write_at(piece, at)?;
        at += len as u64;
    }
    file.sync_all()?;
    disk.remove(DOUBT)?;
    disk.sync_dir("")?;
    Ok(file)
}

/// Whether the index has room to grow, and whether its file failed.
#[derive(Debug, Default)]
pub(super) struct IndexRoom {
    /// The first failed call of its file. redb does nothing more after that, not even reads.
    broken: OnceLock<StoreError>,
    /// Before that, an error is given back.
    patient: AtomicBool,
    full: AtomicBool,
    stop: Mutex<bool>,
    stopped: Condvar,
    /// A test says when to look again.
    #[cfg(test)]
    gate: OnceLock<Arc<super::gate::Gate>>,
}

impl IndexRoom {
    /// A test says when to look again.
    #[cfg(test)]
    pub(super) fn set_gate(&self, gate: Arc<super::gate::Gate>) {
        let _ = self.gate.set(gate);
    }

    /// From now on, writes wait for room.
    pub(super) fn be_patient(&self) {
        self.patient.store(true, Ordering::Relaxed);
    }

    /// Why the index can't be used any more, if a call of its file failed.
    pub(super) fn broken(&self) -> Option<&StoreError> {
        self.broken.get()
    }

    /// Remembers the first failed call.
    fn watch<T>(
        &self,
        result: io::Result<T>,
        kind: fn(Arc<io::Error>) -> StoreError,
    ) -> io::Result<T> {
        if let Err(error) = &result {
            let copy = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            // Only the first error is the reason.
            let _ = self.broken.set(kind(copy.into()));
        }
        result
    }

    /// A checkpoint waits for room.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Ends all waiting.
    pub(super) fn stop(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
        #[cfg(test)]
        if let Some(gate) = self.gate.get() {
            gate.stop();
        }
    }

    /// True: try again. False: give up.
    fn wait(&self, error: &io::Error) -> bool {
        if !is_full(error) || !self.patient.load(Ordering::Relaxed) {
            return false;
        }
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "index has no room");
        }
        #[cfg(test)]
        if let Some(gate) = self.gate.get() {
            return gate.wait_for_room();
        }
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let (stop, _) = self
            .stopped
            .wait_timeout_while(stop, FULL_PAUSE, |stop| !*stop)
            .unwrap_or_else(PoisonError::into_inner);
        !*stop
    }

    fn went_well(&self) {
        if self.full.load(Ordering::Relaxed) {
            self.full.store(false, Ordering::Relaxed);
            tracing::info!("index has room again");
        }
    }
}

/// A file that waits for room. redb takes every failed write for the end of the database, but a
/// full disk is not the end. Readers do not wait: a committed page is never being written.
#[derive(Debug)]
struct Patient {
    file: RedbFile,
    room: Arc<IndexRoom>,
    disk: Arc<dyn Disk>,
}

impl Patient {
    fn new(disk: &Arc<dyn Disk>, file: Box<dyn DiskFile>, room: Arc<IndexRoom>) -> Self {
        Self {
            file: RedbFile::new(file),
            room,
            disk: Arc::clone(disk),
        }
    }

    /// Leaves a note for the next start.
    fn note_doubt(&self) -> io::Result<()> {
        self.disk.open(DOUBT, Open::Either)?.sync_all()?;
        self.disk.sync_dir("")
    }

    fn retry(&self, mut action: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        loop {
            match action() {
                Ok(()) => {
                    self.room.went_well();
                    return Ok(());
                }
                Err(error) if self.room.wait(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl StorageBackend for Patient {
    fn len(&self) -> io::Result<u64> {
        self.room.watch(self.file.len(), StoreError::Read)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let result = self.file.read(offset, out);
        self.room.watch(result, StoreError::Read)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let result = self.retry(|| self.file.set_len(len));
        self.room.watch(result, StoreError::Write)
    }

    /// After a failed sync nobody knows what is on the disk, so waiting does not help.
    fn sync_data(&self) -> io::Result<()> {
        let result = self.room.watch(self.file.sync_data(), StoreError::Write);
        if result.is_err()
            && let Err(error) = self.note_doubt()
        {
            tracing::error!(%error, "failed sync of the index not noted for the next start");
        }
        result
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let result = self.retry(|| self.file.write(offset, data));
        self.room.watch(result, StoreError::Write)
    }
}
