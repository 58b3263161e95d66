//! The journal: the truth about everything the store holds.
//!
//! It is a sequence of *entries*, each an op (bytes that only the caller understands) and perhaps a body (a message
//! text, which stays where it was written and is read back from there). Entries are appended in *batches*: one write and
//! one sync for all who wait. A batch that was appended without an error survives a power cut.
//!
//! # Files
//! All integers are little-endian. The journal is the folder `journal/`; its files are *segments* of a fixed length, zeroed
//! before use and recycled, so that a sync need not write file metadata. `GENERATION.seg` (16 hexadecimal digits) is a
//! segment that has been given its number; `N.spare` one that has none yet, `N.new` one still being zeroed. A
//! generation is used once, and segments are used in the order of their generations.
//!
//! ## Segment
//! Block 0 (4096 bytes) holds the header, written and synced before the file gets its `.seg` name:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | `postrJNL` |
//! | 8 | 4 | format version: 1. At this place in all versions |
//! | 12 | 4 | CRC-32C of bytes 0 to 11 and 16 to 63 |
//! | 16 | 8 | generation, as in the name |
//! | 24 | 8 | salt: random, new for each generation |
//! | 32 | 8 | length of the file |
//! | 40 | 24 | zero |
//!
//! Batches follow, each beginning at a multiple of 4096, so that no block with something acknowledged in it is ever written
//! again. The bytes between a batch and the next block are zero or of no meaning.
//!
//! ## Entry
//! At a multiple of 8:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of: salt and generation of the segment (8 bytes each), the entry's offset in the file (4 bytes), bytes 4 to 31 |
//! | 4 | 1 | kind: 1 start, 2 op; 0 never |
//! | 5 | 1 | the caller's version of the op |
//! | 6 | 1 | 1 if it is the last of its batch, else 0 |
//! | 7 | 1 | zero |
//! | 8 | 8 | number of the batch: from 1, one more for each batch of a segment, more than that at most when a segment begins |
//! | 16 | 4 | length of the op |
//! | 20 | 4 | length of the body |
//! | 24 | 4 | CRC-32C of the op |
//! | 28 | 4 | CRC-32C of the body |
//! | 32 | | op, body, then zeros up to a multiple of 8 |
//!
//! The salt makes that nothing left over from a segment's earlier life validates, nor anything that a message's author
//! could write into a message.
//!
//! ## Start
//! The first entry of a segment, part of its first batch, says where the journal ended when the segment was begun: the
//! generation of the segment before (8 bytes; 0 if there was none), the first byte behind its last entry that counts (8),
//! and that entry's batch (8). So it also cancels what lies behind that end: a torn batch, or one whose sync failed and
//! which was answered with an error.
//!
//! # Reading it back
//! [`Journal::open`] follows these links back from the newest segment that was begun to the position that the caller has
//! already (its checkpoint), then reads forwards. In all segments but the newest every entry up to the stated end must
//! validate. In the newest, an entry that does not validate is a *torn tail*, and cut, unless an entry of a later batch
//! validates behind it: since a batch is written only when the one before is safe, that is *damage*, and an error that
//! names file and offset. What is read of the last batch is written and synced again, as it may have been visible
//! only in the kernel's memory. Writing goes on in a new segment, never behind a torn tail.
//!
//! # Failure
//! When a write or a sync fails, the segment is sealed: it is read, never written to again (the kernel may have dropped what
//! it could not write, and a second sync would not tell). The next segment is begun at once, to cancel the batch, before
//! the error is given back. A second failure closes the journal.
//!
//! When there is no room for another segment the append fails with [`AppendError::Full`] and the next may work. A small
//! segment is kept in reserve for what must go on then (see [`Room`]).

mod frame;
mod reader;
mod recover;
mod spare;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskLock, is_full};
pub(crate) use frame::FORMAT;
use frame::{BLOCK, ENTRY_HEADER, EntryHeader, Kind, Link, START_ENTRY, Seed, align, align_block};
use reader::SegmentFile;
pub use reader::{BodyPlace, JournalBody, JournalReader};
use recover::FIRST;
use spare::Spares;

/// The journal's folder.
const DIR: &str = "journal";
/// The lock that keeps a second process out.
const LOCK: &str = "journal/lock";

fn segment_name(generation: u64) -> String {
    format!("{DIR}/{generation:016x}.seg")
}

/// How a journal keeps its files.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Length of a segment in bytes; rounded to blocks, and clamped to 16 KiB .. 4 GiB.
    pub segment_size: u64,
    /// Length of the segment that is kept for a full disk, in bytes; likewise. 0: none.
    pub reserve_size: u64,
    /// Released segments kept for recycling; more are deleted.
    pub keep: usize,
    /// No segment is made unless this many bytes of the disk stay free besides, so that the rest of the store, which must
    /// write too for what is in the queue already, finds room.
    pub min_free: u64,
    /// Prepare segments in a thread. Without it (for tests that must run alike each time) appends do it when needed.
    pub background: bool,
    /// Where the segments' salts come from; None: the system's randomness. A test may give a number, a new one each time.
    pub seed: Option<u64>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_size: 64 * 1024 * 1024,
            reserve_size: 8 * 1024 * 1024,
            keep: 4,
            min_free: 64 * 1024 * 1024,
            background: true,
            seed: None,
        }
    }
}

impl JournalOptions {
    const MIN_SIZE: u64 = 4 * BLOCK;
    /// Offsets are 32-bit, and the end of the file is one.
    const MAX_SIZE: u64 = u32::MAX as u64 / BLOCK * BLOCK;

    fn normal(mut self) -> Self {
        let size = |size: u64| size.clamp(Self::MIN_SIZE, Self::MAX_SIZE) / BLOCK * BLOCK;
        self.segment_size = size(self.segment_size);
        if self.reserve_size > 0 {
            self.reserve_size = size(self.reserve_size);
            if self.reserve_size == self.segment_size {
                // Files are told apart by their size.
                self.reserve_size += BLOCK;
            }
        }
        self
    }

    fn salt(&self, generation: u64) -> u64 {
        self.seed.map_or_else(rand::random, |seed| {
            StdRng::seed_from_u64(seed ^ generation.rotate_left(32)).random()
        })
    }
}

/// A place between entries: what a checkpoint keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The segment.
    pub generation: u64,
    /// The byte in the segment's file.
    pub offset: u32,
    /// The number of the next batch, or of the batch that goes on here.
    pub batch: u64,
}

impl Position {
    /// Before the first entry of a journal.
    pub const START: Self = Self {
        generation: 0,
        offset: 0,
        batch: 1,
    };
}

/// An entry as it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it is.
    pub position: Position,
    /// As given to [`Batch::push`].
    pub version: u8,
    /// As given to [`Batch::push`].
    pub op: &'a [u8],
    /// Where its body is; None if it has none, or an empty one.
    pub body: Option<BodyPlace>,
}

/// Takes the entries that are read when a journal is opened. An error ends the reading, and is given back in
/// [`JournalError::Apply`].
pub type Apply<'a> =
    dyn FnMut(Entry<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a;

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("open the journal: the data folder is in use by another process")]
    InUse,
    /// The system failed.
    #[error("read {file}: {error}")]
    Io {
        /// Relative to the data folder.
        file: String,
        /// What it said.
        error: io::Error,
    },
    /// It was written by a later version of this program.
    #[error(
        "read {file}: made by a newer postrider (journal format {version}, this one knows up to {})",
        frame::FORMAT
    )]
    Newer {
        /// Relative to the data folder.
        file: String,
        /// The format's version.
        version: u32,
    },
    /// An entry of a kind that this program does not know.
    #[error(
        "read {file}: entry at byte {offset} is of an unknown kind, perhaps made by a newer postrider"
    )]
    UnknownEntry {
        /// Relative to the data folder.
        file: String,
        /// Its first byte.
        offset: u64,
    },
    /// Something that was safely written is no longer there as it was written.
    #[error("read {file}: damaged at byte {offset}")]
    Corrupt {
        /// Relative to the data folder.
        file: String,
        /// Where it begins not to validate.
        offset: u64,
    },
    /// A segment that is needed is not there.
    #[error("read the journal: {} is missing", segment_name(*generation))]
    Missing {
        /// The segment.
        generation: u64,
    },
    /// The caller refused an entry.
    #[error("replay {file}: entry at byte {offset}: {error}")]
    Apply {
        /// Relative to the data folder.
        file: String,
        /// Its first byte.
        offset: u64,
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a batch was not appended. The journal goes on, except when closed, and no entry of the batch is ever read back. If the
/// process dies before a later append succeeds (of `Failed`: only if there was no other segment to be had either), some
/// may be, as after a crash in the middle of an append.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room. The next append may work.
    #[error("append to the journal: {0}")]
    Full(io::Error),
    /// A write or a sync failed, or no segment could be made. The next append goes to another segment.
    #[error("append to the journal: {0}")]
    Failed(io::Error),
    /// It failed for the second time: nothing is written any more, and whether the batch of this error is found at the next
    /// start is not known.
    #[error("append to the journal: closed after repeated failures, the last being: {0}")]
    Closed(io::Error),
    /// The batch has more bytes than [`Journal::max_batch`]. Split it.
    #[error("append to the journal: batch of {bytes} bytes is above {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that there may be.
        max: usize,
    },
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its segment was released.
    #[error("read a body: {} was released", segment_name(*generation))]
    Released {
        /// The segment.
        generation: u64,
    },
    /// The system failed.
    #[error("read {file}: {error}")]
    Io {
        /// Relative to the data folder.
        file: String,
        /// What it said.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("read {file}: body at byte {offset} is damaged")]
    Corrupt {
        /// Relative to the data folder.
        file: String,
        /// Its first byte.
        offset: u64,
    },
}

/// Whether an append may use the reserve when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may not: new mail is refused then.
    Ordinary,
    /// It may: what must go on for what is in the queue already.
    Reserve,
}

/// Entries that are appended together, in the form in which they are written. Made once and used again, it keeps its
/// memory.
#[derive(Debug)]
pub struct Batch {
    /// Room for a start entry, then the entries, with room for their headers.
    bytes: Vec<u8>,
    entries: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    /// In `bytes`.
    at: usize,
    version: u8,
    op_len: u32,
    body_len: u32,
    op_crc: u32,
    body_crc: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![0; START_ENTRY],
            entries: Vec::new(),
        }
    }

    /// Adds an entry: an op, the caller's version of its encoding, and a body, empty for none.
    ///
    /// # Panics
    /// If either has 4 GiB or more, which no batch can hold.
    #[expect(
        clippy::expect_used,
        reason = "such a length is the caller's bug, and far beyond what a batch may have"
    )]
    pub fn push(&mut self, version: u8, op: &[u8], body: &[u8]) {
        let len =
            |bytes: &[u8]| u32::try_from(bytes.len()).expect("an op or a body is below 4 GiB");
        self.entries.push(Pending {
            at: self.bytes.len(),
            version,
            op_len: len(op),
            body_len: len(body),
            op_crc: crc32c::crc32c(op),
            body_crc: crc32c::crc32c(body),
        });
        let size = ENTRY_HEADER + op.len() + body.len();
        self.bytes.reserve(align(size));
        self.bytes.extend([0; ENTRY_HEADER]);
        self.bytes.extend(op);
        self.bytes.extend(body);
        self.bytes
            .extend(std::iter::repeat_n(0, align(size) - size));
    }

    /// Bytes that an entry takes.
    #[must_use]
    pub const fn entry_size(op: usize, body: usize) -> usize {
        align(ENTRY_HEADER + op + body)
    }

    /// Bytes of all its entries.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() - START_ENTRY
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes all entries out.
    pub fn clear(&mut self) {
        self.bytes.truncate(START_ENTRY);
        self.entries.clear();
    }

    /// Completes the headers for a place in a segment, and gives what is to be written there: whole blocks.
    fn seal(&mut self, seed: Seed, offset: u64, batch: u64, start: Option<Link>) -> Option<&[u8]> {
        let skip = if start.is_some() { 0 } else { START_ENTRY };
        let place = |at: usize| u32::try_from(offset + (at - skip) as u64).ok();
        let mut put = |at: usize, header: EntryHeader| {
            let header = header.encode(seed, place(at)?);
            self.bytes
                .get_mut(at..at + ENTRY_HEADER)?
                .copy_from_slice(&header);
            Some(())
        };
        if let Some(link) = start {
            let payload = link.encode();
            put(
                0,
                EntryHeader {
                    kind: Kind::Start,
                    version: 1,
                    last: self.entries.is_empty(),
                    batch,
                    op_len: u32::try_from(payload.len()).ok()?,
                    body_len: 0,
                    op_crc: crc32c::crc32c(&payload),
                    body_crc: 0,
                },
            )?;
        }
        let last = self.entries.len().wrapping_sub(1);
        for (number, entry) in self.entries.iter().enumerate() {
            put(
                entry.at,
                EntryHeader {
                    kind: Kind::Op,
                    version: entry.version,
                    last: number == last,
                    batch,
                    op_len: entry.op_len,
                    body_len: entry.body_len,
                    op_crc: entry.op_crc,
                    body_crc: entry.body_crc,
                },
            )?;
        }
        if let Some(link) = start {
            self.bytes
                .get_mut(ENTRY_HEADER..START_ENTRY)?
                .copy_from_slice(&link.encode());
        }
        // Whole blocks: then the kernel never has to read one from the disk to change a part of it.
        let len = self.bytes.len() - skip;
        let padded = usize::try_from(align_block(len as u64)).ok()?;
        self.bytes.resize(skip + padded, 0);
        self.bytes.get(skip..)
    }
}

/// What an append gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The batch's number.
    pub batch: u64,
    /// Where each entry's body is, in the order of the entries; None for an empty one.
    pub bodies: Vec<Option<BodyPlace>>,
    /// Where the next batch goes.
    pub end: Position,
}

/// A segment of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its generation.
    pub generation: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// The segment that is written to.
struct Active {
    segment: Arc<SegmentFile>,
    seed: Seed,
    /// Where the next batch goes.
    next: u64,
    /// It has a start entry that is safe.
    started: bool,
    /// It is the one kept for a full disk: only for [`Room::Reserve`], unless there is no other to be had.
    reserve: bool,
}

/// A journal, open for appending. One thread has it; others read bodies through [`JournalReader`].
pub struct Journal {
    options: JournalOptions,
    reader: JournalReader,
    spares: Spares,
    active: Option<Active>,
    /// The end of what counts.
    tail: Link,
    /// The number of the next batch.
    next_batch: u64,
    /// Segments in which a write or a sync failed, so that they are not used again.
    unsound: Vec<u64>,
    failures: u32,
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
    /// Opens the journal of a folder, making it if there is none. Gives `apply` every entry from `from` on, in order; `from`
    /// is a position that [`end`](Self::end) gave earlier, or None for all there ever was. Then it is ready for appending.
    ///
    /// The caller releases what of [`segments`](Self::segments) it has no use for: a release before a crash may have come to
    /// nothing.
    ///
    /// # Errors
    /// See [`JournalError`]. Nothing was changed then but what could not have counted.
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
        let spares = Spares::start(disk, options.clone(), recovered.found).map_err(io)?;
        Ok(Self {
            options,
            reader: JournalReader {
                segments: Arc::new(RwLock::new(recovered.segments)),
            },
            spares,
            active: None,
            tail: recovered.tail,
            next_batch: from.batch.max(recovered.tail.batch.saturating_add(1)),
            unsound: Vec::new(),
            failures: 0,
            _lock: lock,
        })
    }

    /// Where the next entry goes, as far as it is known: what a checkpoint of everything so far keeps.
    #[must_use]
    pub fn end(&self) -> Position {
        let offset = u32::try_from(align_block(u64::from(self.tail.end))).unwrap_or(self.tail.end);
        Position {
            generation: self.tail.generation,
            offset,
            batch: self.next_batch,
        }
    }

    /// For reading bodies.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        self.reader.clone()
    }

    /// The most bytes that a batch may have ([`Batch::size`]).
    #[must_use]
    pub fn max_batch(&self) -> usize {
        usize::try_from(self.options.segment_size - FIRST).unwrap_or(usize::MAX) - START_ENTRY
    }

    /// The segments that have been begun and not released, oldest first. The last is the one that is or was written to.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self
            .reader
            .segments
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        segments
            .values()
            .map(|segment| SegmentInfo {
                generation: segment.generation,
                size: segment.size,
            })
            .collect()
    }

    /// Gives back a segment of which nothing is needed any more: no body in it is alive, and the checkpoint that a replay
    /// would begin at is in a later one. Those who are reading from it can go on. The newest segment is never released;
    /// false if that, or an unknown one, was asked for.
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
        let unsound = self.unsound.iter().position(|other| *other == generation);
        if let Some(place) = unsound {
            self.unsound.swap_remove(place);
        }
        self.spares.give_back(segment, unsound.is_none());
        true
    }

    /// Appends a batch: one write, one sync. When this returns without an error its entries are durable. The batch is left
    /// as it is. An empty one does nothing.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append(&mut self, batch: &mut Batch, room: Room) -> Result<Appended, AppendError> {
        if self.failures > 1 {
            return Err(AppendError::Closed(io::Error::other("an earlier write")));
        }
        if batch.is_empty() {
            return Ok(Appended {
                batch: self.tail.batch,
                bodies: Vec::new(),
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
        let fits = |active: &Active| {
            active.next + bytes as u64 <= active.segment.size
                && (room == Room::Reserve || !active.reserve)
        };
        if !self.active.as_ref().is_some_and(fits) {
            self.roll(room, (START_ENTRY + bytes) as u64)?;
        }
        match self.write(batch) {
            Ok(appended) => Ok(appended),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Takes another segment. The active one is kept if there is none.
    fn roll(&mut self, room: Room, bytes: u64) -> Result<(), AppendError> {
        let classify = |error| {
            if is_full(&error) {
                AppendError::Full(error)
            } else {
                AppendError::Failed(error)
            }
        };
        let prepared = self
            .spares
            .take(room == Room::Reserve, bytes)
            .map_err(classify)?;
        self.active = Some(Active {
            seed: prepared.header.seed(),
            next: FIRST,
            started: false,
            reserve: prepared.segment.size == self.options.reserve_size,
            segment: prepared.segment,
        });
        Ok(())
    }

    /// Writes a batch at the end of the active segment and syncs.
    fn write(&mut self, batch: &mut Batch) -> io::Result<Appended> {
        let Some(active) = &mut self.active else {
            return Err(io::Error::other("no segment"));
        };
        let number = self.next_batch;
        let start = (!active.started).then_some(self.tail);
        let skip = if start.is_some() { 0 } else { START_ENTRY };
        let len = batch.bytes.len();
        let result = match batch.seal(active.seed, active.next, number, start) {
            Some(bytes) => active
                .segment
                .file
                .write_at(bytes, active.next)
                .and_then(|()| active.segment.file.sync_data()),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        // Without the padding again.
        batch.bytes.truncate(len);
        // The number is used up, also by a batch that failed.
        self.next_batch += 1;
        result?;
        let generation = active.segment.generation;
        let at = |at: usize| u32::try_from(active.next + (at - skip) as u64).unwrap_or(u32::MAX);
        let bodies = batch
            .entries
            .iter()
            .map(|entry| {
                (entry.body_len > 0).then(|| BodyPlace {
                    generation,
                    offset: at(entry.at + ENTRY_HEADER + entry.op_len as usize),
                    len: entry.body_len,
                    crc: entry.body_crc,
                })
            })
            .collect();
        self.tail = Link {
            generation,
            end: at(len),
            batch: number,
        };
        active.next = align_block(u64::from(self.tail.end));
        if !active.started {
            active.started = true;
            let mut segments = self
                .reader
                .segments
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            segments.insert(generation, Arc::clone(&active.segment));
        }
        Ok(Appended {
            batch: number,
            bodies,
            end: self.end(),
        })
    }

    /// Seals the active segment after a failure, and begins the next one to cancel what may have been written.
    fn failed(&mut self, error: io::Error) -> AppendError {
        if let Some(active) = self.active.take() {
            if active.started {
                self.unsound.push(active.segment.generation);
            } else {
                self.spares.give_back(active.segment, false);
            }
        }
        if is_full(&error) {
            // Files that are written over can run out of room only where each write takes room anew (copy-on-write). The
            // next segment would fare no better now; it cancels this batch when it can be begun.
            return AppendError::Full(error);
        }
        self.failures += 1;
        tracing::error!(%error, failures = self.failures, "the journal could not be written to");
        if self.failures > 1 {
            return AppendError::Closed(error);
        }
        match self.roll(Room::Reserve, START_ENTRY as u64) {
            Ok(()) => {}
            Err(_) => return AppendError::Failed(error),
        }
        match self.write(&mut Batch::new()) {
            Ok(_) => AppendError::Failed(error),
            Err(error) => {
                self.failures += 1;
                tracing::error!(%error, "another segment of the journal could not be written to either");
                AppendError::Closed(error)
            }
        }
    }
}

/// What [`check`] found in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries that validate.
    pub entries: u64,
    /// Bytes of their ops and bodies.
    pub bytes: u64,
}

/// Reads the image of one segment file as if a journal had nothing else, for tools and fuzzing.
///
/// # Errors
/// As [`Journal::open`].
pub fn check(image: &[u8]) -> Result<Checked, JournalError> {
    let generation = image
        .get(16..)
        .and_then(|rest| rest.first_chunk())
        .map_or(1, |bytes| u64::from_le_bytes(*bytes));
    let disk = crate::disk::sim::SimDisk::new(0);
    disk.set_content(&segment_name(generation), image);
    let mut checked = Checked::default();
    recover::recover(&disk, Position::START, &mut |entry| {
        checked.entries += 1;
        checked.bytes += entry.op.len() as u64 + entry.body.map_or(0, |body| u64::from(body.len));
        Ok(())
    })?;
    Ok(checked)
}
