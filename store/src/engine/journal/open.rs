//! Opening a data folder: the lock, the index, the journal from where the index ends.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicU64},
    thread,
    time::Duration,
};

use postrider_observe::{metrics::PanicIn, panics};
use tokio::sync::Semaphore;

use super::{
    Changes, JournalEngine, Shared, WAITING_KIB,
    ahead::LargeTables,
    checkpoint::{Checkpointer, Helper},
    inbox::Inbox,
    index::{self, Index, IndexError, IndexRoom, Meta},
    snapshot::remove_copy,
    writer::{RIDE, WRITER, Writer},
};
use crate::{
    OpenError, Options,
    disk::{Disk, DiskLock, FsDisk, counted::CountedDisk},
    error::Fault,
    journal::{Entry, Journal, JournalError, JournalOptions, Position},
    subject::{ENVELOPE, Effects, Op, State},
    table::{Versions, value::Unreadable},
    textfile::TextFiles,
};

/// The lock that keeps a second process out.
pub(super) const LOCK: &str = "lock";

/// Whether the engine has threads beside the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Threads,
    /// Everything happens in the writer, so that a test runs alike each time.
    #[cfg(test)]
    Inline(u64),
    /// The same, but checkpoints are made in a thread. A test can hold them back.
    #[cfg(test)]
    Held(u64),
    /// The same, but nothing happens by itself. Each step of a test waits until all threads rest,
    /// so that a test runs alike each time.
    #[cfg(test)]
    Stepped(u64),
}

impl Mode {
    /// How long the writer's riders wait.
    fn ride(self) -> Duration {
        match self {
            Self::Threads => RIDE,
            #[cfg(test)]
            Self::Inline(_) | Self::Held(_) | Self::Stepped(_) => Duration::MAX,
        }
    }

    fn journal_options(self) -> JournalOptions {
        match self {
            Self::Threads => JournalOptions::default(),
            #[cfg(test)]
            Self::Inline(seed) | Self::Held(seed) | Self::Stepped(seed) => JournalOptions {
                background: false,
                seed: Some(seed),
                reserve_size: 64 << 10,
                ..JournalOptions::default()
            },
        }
    }

    /// The number of the first file of a text. It is one that was never used.
    fn first_file(self) -> u64 {
        match self {
            Self::Threads => rand::random(),
            #[cfg(test)]
            Self::Inline(seed) | Self::Held(seed) | Self::Stepped(seed) => {
                use rand::{RngExt as _, SeedableRng as _};
                rand::rngs::StdRng::seed_from_u64(seed).random()
            }
        }
    }
}

impl JournalEngine {
    pub(crate) fn open(options: &Options) -> Result<Self, OpenError> {
        let disk = FsDisk::open(&options.dir).map_err(|error| OpenError::Io {
            path: options.dir.clone(),
            error,
        })?;
        Self::open_on(Arc::new(disk), options, Mode::Threads)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        options: &Options,
        mode: Mode,
    ) -> Result<Self, OpenError> {
        let metrics = Arc::clone(&options.metrics);
        let disk: Arc<dyn Disk> = Arc::new(CountedDisk::new(disk, metrics));
        let folder = Folder(&options.dir);
        let lock = disk.lock(LOCK).map_err(|error| folder.io(LOCK, error))?;
        let lock = lock.ok_or_else(|| OpenError::Locked {
            path: options.dir.clone(),
        })?;
        #[cfg(test)]
        let gate = Arc::new(super::gate::Gate::default());
        let room = Arc::new(IndexRoom::default());
        #[cfg(test)]
        if let Mode::Stepped(_) = mode {
            room.set_gate(Arc::clone(&gate));
        }
        let (index, meta) = open_index(&disk, options, &room)?;
        let mut state = State::new();
        folder.check_versions(&meta.versions, &state.versions())?;
        for (name, bytes) in &meta.counters {
            let set = state.set_counters(name, bytes);
            set.map_err(|unreadable| folder.counters(name, unreadable))?;
        }
        let read = index
            .read()
            .and_then(|transaction| state.rebase(&transaction))
            .and_then(|()| state.renew_keys());
        read.map_err(|fault| folder.fault(&fault))?;
        let journal = replay(&disk, options, mode, &meta, &mut state)?;
        state.end_process().map_err(|fault| folder.fault(&fault))?;
        // The effects took place when the operations were first carried out, or the sweep behind
        // the start finds the files.
        state.effects = Effects::default();
        state.queue.due.take_changed();
        let files = TextFiles::open(Arc::clone(&disk), mode.first_file(), options.min_free)
            .map_err(|error| folder.io("texts", error))?;
        room.be_patient();
        let large = LargeTables::default();
        large.update(&state);
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            inbox: Inbox::default(),
            waiting: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            reader: journal.reader(),
            files,
            disk,
            min_free: options.min_free,
            room,
            changes: Changes::default(),
            large,
            #[cfg(test)]
            inline: mode != Mode::Threads,
            #[cfg(test)]
            stepped: matches!(mode, Mode::Stepped(_)),
            #[cfg(test)]
            gate,
            journal_bytes: AtomicU64::new(0),
            failed: OnceLock::new(),
        });
        #[cfg(test)]
        if mode != Mode::Threads {
            super::sweep::sweep(&shared);
        }
        let position = meta.position.unwrap_or(Position::START);
        let writer = start(&shared, options, mode, index, journal, position, lock);
        let writer = writer.map_err(|error| folder.io("", error))?;
        Ok(Self {
            shared,
            writer: Mutex::new(Some(writer)),
        })
    }
}

fn start(
    shared: &Arc<Shared>,
    options: &Options,
    mode: Mode,
    index: Index,
    journal: Journal,
    position: Position,
    lock: Box<dyn DiskLock>,
) -> io::Result<thread::JoinHandle<()>> {
    let checkpointer = Checkpointer::new(index, Arc::clone(shared));
    let helper = match mode {
        Mode::Threads => Helper::threads(checkpointer)?,
        #[cfg(test)]
        Mode::Inline(_) => Helper::Inline(checkpointer),
        #[cfg(test)]
        Mode::Held(_) | Mode::Stepped(_) => Helper::gated(checkpointer)?,
    };
    let writer = Writer::new(
        Arc::clone(shared),
        options.clone(),
        mode.ride(),
        journal,
        helper,
        position,
    );
    let shared = Arc::clone(shared);
    thread::Builder::new().name(WRITER.into()).spawn(move || {
        panics::within_thread(PanicIn::Store, || writer.run(lock));
        drop(shared);
    })
}

fn open_index(
    disk: &Arc<dyn Disk>,
    options: &Options,
    room: &Arc<IndexRoom>,
) -> Result<(Index, Meta), OpenError> {
    let folder = Folder(&options.dir);
    let refuse = |error| folder.index(error);
    // A snapshot may have been under way when the process before ended.
    remove_copy(&**disk);
    if let Some(found) = Index::open(disk, options.cache_size, Arc::clone(room)).map_err(refuse)? {
        return Ok(found);
    }
    // The index is made before the first segment.
    if disk
        .list("journal")
        .is_ok_and(|names| names.iter().any(|name| name.ends_with(".seg")))
    {
        return Err(refuse(IndexError::Damaged("it is missing".into())));
    }
    Index::create(disk, options.cache_size, room).map_err(refuse)
}

/// An entry can't be applied.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Fault(#[from] Fault),
}

fn replay(
    disk: &Arc<dyn Disk>,
    options: &Options,
    mode: Mode,
    meta: &Meta,
    state: &mut State,
) -> Result<Journal, OpenError> {
    let usual = mode.journal_options();
    let journal_options = JournalOptions {
        segment_size: options.segment_size,
        min_free: options.min_free,
        // A store with small segments is small as a whole.
        reserve_size: usual.reserve_size.min(options.segment_size / 4),
        ..usual
    };
    let mut apply = |entry: Entry<'_>| apply_entry(state, &entry);
    let folder = Folder(&options.dir);
    Journal::open(Arc::clone(disk), journal_options, meta.position, &mut apply)
        .map_err(|error| folder.journal(error))
}

/// Applies an entry of the journal to the state.
pub(super) fn apply_entry(
    state: &mut State,
    entry: &Entry<'_>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let op = match entry.version {
        ENVELOPE => Op::decode(entry.op),
        found if found > ENVELOPE => Err(Unreadable::Newer {
            found,
            known: ENVELOPE,
        }),
        _ => Err(Unreadable::Senseless),
    };
    let op = op.map_err(ReplayError::from)?;
    // An operation that was refused is refused again.
    op.apply(state, entry.text).map_err(ReplayError::from)?;
    Ok(())
}

/// Gives errors the paths of the data folder.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Folder<'_> {
    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.0.to_owned()
        } else {
            self.0.join(name)
        }
    }

    pub(super) fn io(&self, name: &str, error: io::Error) -> OpenError {
        OpenError::Io {
            path: self.path(name),
            error,
        }
    }

    pub(super) fn index(&self, error: IndexError) -> OpenError {
        let path = self.path(index::FILE);
        match error {
            IndexError::Io(error) => self.io(index::FILE, error),
            IndexError::Newer(found) => OpenError::Newer {
                path,
                found,
                known: index::FORMAT,
            },
            IndexError::Older(found) => OpenError::Older { path, found },
            IndexError::Damaged(what) => OpenError::Index { path, what },
        }
    }

    pub(super) fn fault(&self, fault: &Fault) -> OpenError {
        let (path, what) = (self.path(index::FILE), fault.to_string());
        match fault {
            Fault::Version { version, .. } if version.is_newer() => {
                OpenError::NewerData { path, what }
            }
            _ => OpenError::Index { path, what },
        }
    }

    /// The counters of a subject can't be used.
    pub(super) fn counters(&self, name: &str, unreadable: Unreadable) -> OpenError {
        let path = self.path(index::FILE);
        let what = format!("the counters of {name}: {unreadable}");
        match unreadable.is_newer() {
            true => OpenError::NewerData { path, what },
            false => OpenError::Index { path, what },
        }
    }

    /// Refuses an index with a table or operations that this program does not know, or not in their
    /// version.
    pub(super) fn check_versions(
        &self,
        found: &Versions,
        known: &Versions,
    ) -> Result<(), OpenError> {
        for (name, found) in found {
            let unreadable = match known.get(name) {
                Some(known) if found <= known => continue,
                Some(known) => Unreadable::Newer {
                    found: *found,
                    known: *known,
                },
                None => Unreadable::NewerName,
            };
            return Err(OpenError::NewerData {
                path: self.path(index::FILE),
                what: format!("{name}: {unreadable}"),
            });
        }
        Ok(())
    }

    pub(super) fn journal(&self, error: JournalError) -> OpenError {
        match error {
            JournalError::InUse => OpenError::Locked {
                path: self.0.to_owned(),
            },
            JournalError::Io { file, error } => self.io(&file, error),
            JournalError::Newer { file, version } => OpenError::Newer {
                path: self.path(&file),
                found: version,
                known: crate::journal::FORMAT,
            },
            // Its checksum is right.
            JournalError::UnknownEntry { file, offset } => OpenError::NewerData {
                path: self.path(&file),
                what: format!(
                    "the entry at byte {offset} is of a kind that this program does not know"
                ),
            },
            JournalError::Corrupt { file, offset } => OpenError::Corrupt {
                path: self.path(&file),
                offset,
                what: "what was safely written there has changed".into(),
            },
            JournalError::Missing { generation } => OpenError::Index {
                path: self.path(index::FILE),
                what: format!(
                    "the journal's segment {generation:016x}, which it builds on, is missing"
                ),
            },
            JournalError::Apply {
                file,
                offset,
                error,
            } => self.entry(&file, offset, &*error),
        }
    }

    fn entry(
        &self,
        file: &str,
        offset: u64,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> OpenError {
        match error.downcast_ref() {
            Some(ReplayError::Unreadable(newer)) if newer.is_newer() => OpenError::NewerData {
                path: self.path(file),
                what: format!("the entry at byte {offset} was {newer}"),
            },
            Some(ReplayError::Fault(fault)) => self.fault(fault),
            _ => OpenError::Corrupt {
                path: self.path(file),
                offset,
                what: error.to_string(),
            },
        }
    }
}
