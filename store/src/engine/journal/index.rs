//! The index: a redb database with the tables as of the last checkpoint, and where in the journal
//! that was.

use std::{
    borrow::Cow,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    disk::{Disk, Open, is_full, redb_backend::RedbFile},
    error::Fault,
    journal::Position,
    table::{
        Frozen, Versions,
        value::{append, exactly},
    },
};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

/// The format of the index as a whole. Keys and values have versions of their own.
pub(super) const FORMAT: u32 = 5;
/// The oldest format that is read. Its tables and records are those of [`FORMAT`], but it does not
/// name their versions.
const OLDEST: u32 = 4;
pub(super) const FILE: &str = "index.redb";
/// An index that is being made.
const NEW_FILE: &str = "index.new";
const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
const META_KEY: &str = "checkpoint";
/// Before the name of a subject: its counters.
const COUNTERS: &str = "subject/";
/// Before the name of a table or of operations: their version.
const VERSION: &str = "version/";
/// How long to wait before looking again whether the disk has room.
const FULL_PAUSE: Duration = Duration::from_millis(250);

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
    /// Opens the index. None if there is none.
    pub(super) fn open(
        disk: &dyn Disk,
        cache: usize,
        room: Arc<IndexRoom>,
    ) -> Result<Option<(Self, Meta)>, IndexError> {
        let file = match disk.open(FILE, Open::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let index = Self::on(
            Patient {
                file: RedbFile::new(file),
                room,
            },
            cache,
        )?;
        let meta = index.meta()?;
        Ok(Some((index, meta)))
    }

    /// Makes an empty index. A crash in between leaves none.
    pub(super) fn create(
        disk: &dyn Disk,
        cache: usize,
        room: &Arc<IndexRoom>,
    ) -> Result<(Self, Meta), IndexError> {
        let file = disk.open(NEW_FILE, Open::Either)?;
        file.set_size(0)?;
        let index = Self::on(
            Patient {
                file: RedbFile::new(file),
                room: Arc::clone(room),
            },
            cache,
        )?;
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

/// Whether the index has room to grow.
#[derive(Debug, Default)]
pub(super) struct IndexRoom {
    /// Before that, an error is given back.
    patient: AtomicBool,
    full: AtomicBool,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl IndexRoom {
    /// From now on, writes wait for room.
    pub(super) fn be_patient(&self) {
        self.patient.store(true, Ordering::Relaxed);
    }

    /// A checkpoint waits for room.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Ends all waiting.
    pub(super) fn stop(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
    }

    /// True: try again. False: give up.
    fn wait(&self, error: &io::Error) -> bool {
        if !is_full(error) || !self.patient.load(Ordering::Relaxed) {
            return false;
        }
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "there is no room for the index; new mail is refused when memory is used up");
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
            tracing::info!("the index has room again");
        }
    }
}

/// A file that waits for room. redb takes every failed write for the end of the database, but a
/// full disk is not the end. Readers do not wait: a committed page is never being written.
#[derive(Debug)]
struct Patient {
    file: RedbFile,
    room: Arc<IndexRoom>,
}

impl Patient {
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
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.retry(|| self.file.set_len(len))
    }

    /// After a failed sync nobody knows what is on the disk, so waiting does not help.
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.retry(|| self.file.write(offset, data))
    }
}
