//! Copies of a store, and a look at a store that nobody uses.
//!
//! The store does not copy itself: a program copies the files of a [`Snapshot`]. All files of a
//! snapshot stand for one position of the journal. While the snapshot lives, the store neither
//! recycles nor removes them.
//!
//! [`Snapshot::of_folder`] does the same for a folder that no process uses. [`inspect`] reads all
//! of such a folder and changes nothing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Counts, OpenError, Store, StoreError,
    engine::{Engines, journal},
    journal::{Position, SegmentInfo, segment_name},
    textfile,
};

/// The format of the data folder that this program writes.
pub const STORE_FORMAT: u32 = journal::FORMAT;
/// The name of the index in a copy.
const INDEX: &str = journal::INDEX_FILE;

/// A file of a store, and the part of it that belongs to a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFile {
    /// The path below the data folder.
    pub source: String,
    /// The path below the data folder of the copy.
    pub name: String,
    /// The part that is copied. None: the whole file.
    pub part: Option<Part>,
    /// Nobody ever writes to the file again, so a hard link is as good as a copy.
    pub is_final: bool,
}

/// The beginning of a file. The rest of the copy is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The bytes that are copied.
    pub bytes: u64,
    /// The bytes of the copy.
    pub len: u64,
}

/// The place of a file that a lease keeps.
pub(crate) enum Keeps {
    /// The running store. It is told when the snapshot ends.
    Lease { _lease: journal::Lease },
    /// The lock of the folder.
    Lock {
        _lock: Box<dyn crate::disk::DiskLock>,
    },
}

/// The files of a store at one position of its journal. They stay as they are while the value
/// lives.
pub struct Snapshot {
    pub(crate) position: Position,
    /// The journal goes on behind the position, and the copy does not.
    pub(crate) is_cut: bool,
    /// The note that a sync of the index failed, if there is one.
    pub(crate) doubt: Option<String>,
    /// The path of the index below the data folder.
    pub(crate) index: String,
    /// The index is a copy that nobody writes to.
    pub(crate) is_index_final: bool,
    /// The segments of the journal that are needed, oldest first.
    pub(crate) segments: Vec<SegmentInfo>,
    /// The numbers of the files of large texts.
    pub(crate) texts: Vec<u64>,
    pub(crate) _keeps: Keeps,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The files of a data folder that no process uses. The folder is locked while the snapshot
    /// lives. Nothing in it is changed.
    ///
    /// # Errors
    /// If another process uses the folder, or the store in it can't be opened.
    pub fn of_folder(dir: &Path) -> Result<Self, OpenError> {
        journal::snapshot_of_folder(dir)
    }

    /// The position of the journal that the copy has everything before.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The files: the large texts first, then the journal and the index.
    pub fn files(&self) -> impl Iterator<Item = StoreFile> + '_ {
        let texts = self
            .texts
            .iter()
            .map(|file| whole(textfile::name(*file), true));
        let segments = self.segments.iter().map(|segment| {
            let is_last = segment.generation == self.position.generation;
            let end = match self.is_cut && is_last {
                true => u64::from(self.position.offset),
                false => segment.size,
            };
            let name = segment_name(segment.generation);
            StoreFile {
                source: name.clone(),
                name,
                part: Some(Part {
                    bytes: end.min(segment.size),
                    len: segment.size,
                }),
                is_final: false,
            }
        });
        let index = StoreFile {
            source: self.index.clone(),
            name: INDEX.to_owned(),
            part: None,
            is_final: self.is_index_final,
        };
        let doubt = self.doubt.iter().map(|name| whole(name.clone(), false));
        texts
            .chain(segments)
            .chain(doubt)
            .chain(std::iter::once(index))
    }
}

fn whole(name: String, is_final: bool) -> StoreFile {
    StoreFile {
        source: name.clone(),
        name,
        part: None,
        is_final,
    }
}

/// The content of a data folder, and the faults in it.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// How much there is of everything.
    pub counts: Counts,
    /// The faults, each as a sentence without a full stop.
    pub faults: Vec<String>,
    /// Paths of files below the data folder that nothing refers to. The next start removes them.
    pub orphans: Vec<PathBuf>,
}

/// Reads all of a data folder that no process uses: the frames of the journal, the index, all
/// records and the keys that follow from them, all texts with their checksums, reference counts and
/// counters. Nothing in the folder is changed.
///
/// # Errors
/// If another process uses the folder, or it can't be opened as a store. The error is then the only
/// fault that can be told.
pub fn inspect(dir: &Path) -> Result<Inspection, OpenError> {
    journal::inspect_folder(dir)
}

impl Store {
    /// Makes a snapshot of the store. The store goes on meanwhile. It makes a copy of its index in
    /// its folder, which takes as much room as the rows of the index, and removes the copy when the
    /// snapshot ends.
    ///
    /// # Errors
    /// If there is a snapshot already, the disk has no room for the copy of the index, or the store
    /// is closed.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        match self.engine() {
            Engines::Journal(journal) => journal.snapshot().await,
            #[cfg(any(test, feature = "memory"))]
            Engines::Model(_) => Err(StoreError::Invalid("a store in memory has no files")),
        }
    }
}
