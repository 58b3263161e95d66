//! The journal: the truth about everything that the store holds.
//!
//! The journal is a sequence of *entries*. An entry is an op (bytes that only the caller
//! understands) and perhaps a text, the stored bytes of a message. The text stays where it was
//! written and is read from there. Entries are appended in *batches*: one write and one sync for
//! all callers that wait. A batch that was appended without an error survives a power cut.
//!
//! # Files
//! All integers are little-endian. The journal is the folder `journal/`. Its files are *segments*
//! of a fixed length. They are zeroed before use and recycled, so that a sync need not write file
//! metadata. The names tell the state of a file:
//!
//! | name | state |
//! |---|---|
//! | `GENERATION.seg` (16 hexadecimal digits) | a segment that has its generation |
//! | `N.spare` | a segment without a generation |
//! | `N.new` | a file that is still being zeroed |
//!
//! A generation is used once. Segments are used in the order of their generations.
//!
//! ## Segment
//! Block 0 (4096 bytes) holds the header. It is written and synced before the file gets its `.seg`
//! name:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | `postrJNL` |
//! | 8 | 4 | format version: 1. All versions have it at this place |
//! | 12 | 4 | CRC-32C of bytes 0 to 11 and 16 to 63 |
//! | 16 | 8 | generation, as in the name |
//! | 24 | 8 | salt: random, new for each generation |
//! | 32 | 8 | length of the file |
//! | 40 | 24 | zero |
//!
//! Batches follow. Each begins at a multiple of 4096, so that no block with acknowledged bytes is
//! ever written again. The bytes between a batch and the next block are zero or have no meaning.
//!
//! ## Entry
//! An entry begins at a multiple of 8:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | the CRC-32C described below |
//! | 4 | 1 | kind: 1 start, 2 op; 0 never |
//! | 5 | 1 | the caller's version of the op |
//! | 6 | 1 | 1 if the entry is the last of its batch, else 0 |
//! | 7 | 1 | zero |
//! | 8 | 8 | number of the batch, from 1 |
//! | 16 | 4 | length of the op |
//! | 20 | 4 | length of the text |
//! | 24 | 4 | CRC-32C of the op |
//! | 28 | 4 | CRC-32C of the text |
//! | 32 | | op, text, then zeros up to a multiple of 8 |
//!
//! The checksum at 0 covers the salt and the generation of the segment (8 bytes each), the entry's
//! offset in the file (4 bytes), and bytes 4 to 31. The number of the batch goes up by one within a
//! segment, and by one or more to the next segment.
//!
//! Because of the salt, two kinds of bytes never validate as entries: bytes left over from a
//! segment's earlier life, and bytes that the author of a message chose.
//!
//! ## Start
//! The first entry of a segment is part of its first batch. It says where the journal ended when
//! the segment was begun: the generation of the segment before (8 bytes; 0 if there was none), the
//! first byte behind the last entry that counts (8), and that entry's batch (8). So it also cancels
//! the bytes behind that end: a torn batch, or a batch whose sync failed and whose callers got an
//! error.
//!
//! # Reading it back
//! [`Journal::open`] follows these links from the newest segment back to the position that the
//! caller's checkpoint covers. Then it reads forwards. In all segments but the newest, every entry
//! up to the stated end must validate. In the newest, an entry that does not validate is a *torn
//! tail* and is cut. It is *damage*, an error that names file and offset, if an entry of a later
//! batch validates behind it: a batch is written only when the batch before is safe. The last batch
//! may be visible only in the kernel's memory, so it is written and synced again. Writing goes on
//! in a new segment, never behind a torn tail.
//!
//! # Failure
//! When a write or a sync fails, the segment is sealed. It is read but never written again: the
//! kernel may have dropped the bytes, and a second sync would not tell. The next segment is begun
//! at once, to cancel the batch, before the error is returned. A second failure closes the journal.
//!
//! When the disk has no space for another segment, the append fails with [`AppendError::Full`]. The
//! next append may work. A small segment is kept in reserve for the operations that must go on then
//! (see [`Space`]).

mod batch;
mod check;
mod error;
mod frame;
mod handles;
mod options;
mod reader;
mod recover;
mod spare;
#[cfg(test)]
mod tests;
mod window;

use std::{
    fmt, io,
    ops::RangeBounds,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskFile, DiskLock, is_full};
pub use batch::Batch;
use batch::Slot;
pub use check::{Checked, check};
pub(crate) use check::{ReadBack, check_frames, read_back};
pub use error::{AppendError, JournalError, ReadError};
pub(crate) use frame::FORMAT;
use frame::{FIRST, Link, START_ENTRY, Seed, align_block};
use handles::Handles;
pub use options::JournalOptions;
use reader::SegmentFile;
pub use reader::{HeldText, JournalReader, JournalText, TextPlace};
use recover::Unsettled;
use spare::Spares;

/// The journal's folder.
pub(crate) const DIR: &str = "journal";
/// The lock that keeps a second process out.
const LOCK: &str = "journal/lock";

/// The path of a segment below the data folder.
pub(crate) fn segment_name(generation: u64) -> String {
    format!("{DIR}/{generation:016x}.seg")
}

/// A position between entries. A checkpoint keeps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The generation of the segment.
    pub generation: u64,
    /// The byte in the segment's file.
    pub offset: u32,
    /// The number of the next batch, or of the batch that goes on here.
    pub batch: u64,
}

impl Position {
    /// The position before the first entry of a journal.
    pub const START: Self = Self {
        generation: 0,
        offset: 0,
        batch: 1,
    };
}

/// An entry as it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The position of the entry.
    pub position: Position,
    /// The version that [`Batch::push`] got.
    pub version: u8,
    /// The op that [`Batch::push`] got.
    pub op: &'a [u8],
    /// The place of the text. None if the entry has no text, or an empty one.
    pub text: Option<TextPlace>,
}

/// Takes the entries that are read when a journal is opened. An error ends the reading and comes
/// back in [`JournalError::Apply`].
pub type Apply<'a> =
    dyn FnMut(Entry<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a;

/// The disk space that an append may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The ordinary segments. On a full disk the append fails, so new mail is refused.
    Ordinary,
    /// The reserve too. This is for operations that must go on for messages that are in the queue
    /// already.
    Reserve,
}

/// The result of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The number of the batch.
    pub batch: u64,
    /// The place of the text of each entry, in the order of the entries. None for an empty text.
    pub texts: Vec<Option<TextPlace>>,
    /// The position of the next batch.
    pub end: Position,
}

/// A segment of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The generation of the segment.
    pub generation: u64,
    /// The length of its file in bytes.
    pub size: u64,
}

/// The segment that is written to.
struct Active {
    segment: Arc<SegmentFile>,
    file: Arc<dyn DiskFile>,
    seed: Seed,
    /// The position of the next batch.
    next: u64,
    /// Whether the segment has a start entry that is safe.
    started: bool,
    /// Whether the segment is the reserve. Appends with [`Space::Ordinary`] do not write to it.
    reserve: bool,
}

/// A journal, open for appending. One thread has it. Other threads read texts through
/// [`JournalReader`].
pub struct Journal {
    options: JournalOptions,
    reader: JournalReader,
    spares: Spares,
    active: Option<Active>,
    /// The end of the entries that count.
    tail: Link,
    /// The number of the next batch.
    next_batch: u64,
    /// The segments in which a write or a sync failed. They are not used again.
    unsound: Vec<u64>,
    failures: u32,
    /// The last batch that was read at the start, as long as a power cut may take it away.
    unsettled: Option<Unsettled>,
    /// The next start may find entries of a batch that failed.
    uncertain: bool,
    _lock: Box<dyn DiskLock>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal of a folder, or makes one if there is none. It gives `apply` every entry
    /// from `from` on, in order. `from` is a position that [`end`](Self::end) gave earlier, or None
    /// for all entries. Then the journal is ready for appending.
    ///
    /// On a full disk, the last entries may be [unsettled](Self::is_unsettled).
    ///
    /// A crash may undo a release. So the caller releases again the [`segments`](Self::segments)
    /// that it does not need.
    ///
    /// # Errors
    /// See [`JournalError`]. Then no entry that could count was changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        from: Option<Position>,
        apply: &mut Apply<'_>,
    ) -> Result<Self, JournalError> {
        let io = |error| JournalError::Io {
            file: DIR.into(),
            error,
        };
        let options = options.normal();
        disk.create_dir(DIR)
            .and_then(|()| disk.sync_dir(""))
            .map_err(io)?;
        let lock = disk.lock(LOCK).map_err(io)?.ok_or(JournalError::InUse)?;
        let from = from.unwrap_or(Position::START);
        let recovered = recover::recover(&*disk, from, apply)?;
        let handles = Handles::new(Arc::clone(&disk), options.open_files);
        let spares = Spares::start(disk, options.clone(), recovered.found).map_err(io)?;
        Ok(Self {
            options,
            reader: JournalReader {
                segments: Arc::new(RwLock::new(recovered.segments)),
                handles,
            },
            spares,
            active: None,
            tail: recovered.tail.link,
            next_batch: from.batch.max(recovered.tail.link.batch.saturating_add(1)),
            unsound: Vec::new(),
            failures: 0,
            unsettled: recovered.tail.unsettled,
            uncertain: false,
            _lock: lock,
        })
    }

    /// The position of the next entry, as far as the journal knows. A checkpoint of everything so
    /// far keeps this position.
    #[must_use]
    pub fn end(&self) -> Position {
        let offset = u32::try_from(align_block(u64::from(self.tail.end))).unwrap_or(self.tail.end);
        Position {
            generation: self.tail.generation,
            offset,
            batch: self.next_batch,
        }
    }

    /// The reader of texts.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        self.reader.clone()
    }

    /// The most bytes that a batch may have ([`Batch::size`]).
    #[must_use]
    pub fn max_batch(&self) -> usize {
        usize::try_from(self.options.segment_size - FIRST).unwrap_or(usize::MAX) - START_ENTRY
    }

    /// The segments that were begun and not released, oldest first. The last one is the segment
    /// that the journal writes to or wrote to last.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.map()
            .values()
            .map(|segment| SegmentInfo {
                generation: segment.generation,
                size: segment.size,
            })
            .collect()
    }

    fn map(&self) -> std::sync::RwLockReadGuard<'_, reader::SegmentMap> {
        let segments = self.reader.segments.read();
        segments.unwrap_or_else(PoisonError::into_inner)
    }

    /// The generations of the [`segments`](Self::segments) in this range, oldest first.
    pub fn generations(&self, range: impl RangeBounds<u64>) -> impl Iterator<Item = u64> {
        let generations: Vec<u64> = self.map().range(range).map(|(key, _)| *key).collect();
        generations.into_iter()
    }

    /// The number of [`segments`](Self::segments).
    #[must_use]
    pub fn count(&self) -> usize {
        self.map().len()
    }

    /// The bytes of all [`segments`](Self::segments).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.map().values().map(|segment| segment.size).sum()
    }

    /// The bytes of one segment. None if it was never begun, or was released.
    #[must_use]
    pub fn size_of(&self, generation: u64) -> Option<u64> {
        self.map().get(&generation).map(|segment| segment.size)
    }

    /// The bytes that appends with [`Space::Reserve`] can still take, while no further segment can
    /// be made. None: there is room.
    #[must_use]
    pub fn room_left(&self) -> Option<u64> {
        let reserve = self.spares.reserve_left()?;
        let active = self.active.as_ref();
        let active = active.map_or(0, |active| active.segment.size.saturating_sub(active.next));
        Some(active + reserve)
    }

    /// Whether a power cut may take away the last batch that [`open`](Self::open) read. Then the
    /// process died while it appended the batch, and the disk is too full to write it again. The
    /// batch is durable when the next append succeeds. No checkpoint may cover it before.
    #[must_use]
    pub const fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Whether the next start may find entries of a batch whose append failed. The next append
    /// without an error cancels that batch.
    #[must_use]
    pub const fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// Gives back a segment that nobody needs: no text in it is alive, and a replay from the
    /// checkpoint begins in a later segment. Readers that have it open can go on. False if the
    /// segment is unknown or the newest. The newest is never released.
    pub fn release(&mut self, generation: u64) -> bool {
        if generation >= self.tail.generation {
            return false;
        }
        let segment = {
            let mut segments = self
                .reader
                .segments
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            segments.remove(&generation)
        };
        let Some(segment) = segment else { return false };
        self.reader.handles.forget(generation);
        let unsound = self.unsound.iter().position(|other| *other == generation);
        if let Some(place) = unsound {
            self.unsound.swap_remove(place);
        }
        self.spares.give_back(segment, unsound.is_none());
        true
    }

    /// Appends a batch: one write, one sync. When this returns without an error, the entries are
    /// durable. The batch keeps its entries. An empty batch does nothing.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append(&mut self, batch: &mut Batch, space: Space) -> Result<Appended, AppendError> {
        if self.failures > 1 {
            return Err(AppendError::Closed(io::Error::other("an earlier write")));
        }
        if batch.is_empty() {
            return Ok(Appended {
                batch: self.tail.batch,
                texts: Vec::new(),
                end: self.end(),
            });
        }
        let bytes = batch.size();
        if bytes > self.max_batch() {
            return Err(AppendError::TooLarge {
                bytes,
                max: self.max_batch(),
            });
        }
        self.settle()?;
        let fits = |active: &Active| {
            active.next + bytes as u64 <= active.segment.size
                && (space == Space::Reserve || !active.reserve)
        };
        if !self.active.as_ref().is_some_and(fits) {
            self.roll(space, (START_ENTRY + bytes) as u64)?;
        }
        match self.write(batch) {
            Ok(appended) => Ok(appended),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Makes the last batch of the start durable, which the next batch relies on.
    fn settle(&mut self) -> Result<(), AppendError> {
        let Some(unsettled) = &self.unsettled else {
            return Ok(());
        };
        match unsettled.settle() {
            Ok(()) => self.unsettled = None,
            Err(error) if is_full(&error) => return Err(AppendError::Full(error)),
            Err(error) => {
                // No other segment can help: the batch counts, and its segment is unsound.
                self.failures = 2;
                tracing::error!(%error, "last batch of the journal not made durable");
                return Err(AppendError::Closed(error));
            }
        }
        Ok(())
    }

    /// Takes another segment. The journal keeps the active one if there is no other.
    fn roll(&mut self, space: Space, bytes: u64) -> Result<(), AppendError> {
        let classify = |error| {
            if self.spares.is_dead() {
                AppendError::Closed(error)
            } else if is_full(&error) {
                AppendError::Full(error)
            } else {
                AppendError::Failed(error)
            }
        };
        let prepared = self
            .spares
            .take(space == Space::Reserve, bytes)
            .map_err(classify)?;
        self.active = Some(Active {
            seed: prepared.header.seed(),
            next: FIRST,
            started: false,
            reserve: prepared.segment.size == self.options.reserve_size,
            segment: prepared.segment,
            file: prepared.file,
        });
        Ok(())
    }

    /// Writes a batch at the end of the active segment and syncs.
    fn write(&mut self, batch: &mut Batch) -> io::Result<Appended> {
        let Some(active) = &mut self.active else {
            return Err(io::Error::other("no segment"));
        };
        let generation = active.segment.generation;
        let slot = Slot {
            generation,
            seed: active.seed,
            offset: active.next,
            batch: self.next_batch,
            start: (!active.started).then_some(self.tail),
        };
        let size = batch.size();
        let result = match batch.seal(slot) {
            Some(bytes) => active
                .file
                .write_at(bytes, active.next)
                .and_then(|()| active.file.sync_data()),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        batch.unseal(size);
        // A batch that failed uses up its number too.
        self.next_batch += 1;
        result?;
        self.uncertain = false;
        self.tail = Link {
            generation,
            end: batch.end(slot),
            batch: slot.batch,
        };
        active.next = align_block(u64::from(self.tail.end));
        if !active.started {
            active.started = true;
            let file = Arc::clone(&active.file);
            self.reader.handles.keep(generation, file);
            let mut segments = self
                .reader
                .segments
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            segments.insert(generation, Arc::clone(&active.segment));
        }
        Ok(Appended {
            batch: slot.batch,
            texts: batch.places(slot),
            end: self.end(),
        })
    }

    /// Seals the active segment after a failure. Begins the next one to cancel the bytes that may
    /// have been written.
    fn failed(&mut self, error: io::Error) -> AppendError {
        self.uncertain = true;
        if let Some(active) = self.active.take() {
            if active.started {
                self.unsound.push(active.segment.generation);
            } else {
                self.spares.give_back(active.segment, false);
            }
        }
        if is_full(&error) {
            // Writing over a file can fail for lack of space only where each write takes new space
            // (copy-on-write). The next segment would fail now too. It cancels this batch when it
            // can be begun.
            return AppendError::Full(error);
        }
        self.failures += 1;
        tracing::error!(%error, failures = self.failures, "journal not written");
        if self.failures > 1 {
            return AppendError::Closed(error);
        }
        match self.roll(Space::Reserve, START_ENTRY as u64) {
            Ok(()) => {}
            Err(_) => return AppendError::Failed(error),
        }
        match self.write(&mut Batch::new()) {
            Ok(_) => AppendError::Failed(error),
            Err(error) => {
                self.failures += 1;
                tracing::error!(%error, "journal not written, nor another segment");
                AppendError::Closed(error)
            }
        }
    }
}
