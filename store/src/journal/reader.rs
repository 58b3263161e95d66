//! Reading texts where they were written, while the writer goes on.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ReadError, handles::Handles, segment_name};
use crate::disk::DiskFile;

/// Where a text lies in the journal, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TextPlace {
    /// The generation of its segment.
    pub generation: u64,
    /// The offset of its first byte in the segment's file.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
    /// The CRC-32C of its bytes.
    pub crc: u32,
}

/// A segment. Readers that hold it can read on after its release. The file is recycled only when no
/// reader holds it.
pub(super) struct SegmentFile {
    pub(super) generation: u64,
    pub(super) size: u64,
}

pub(super) type SegmentMap = BTreeMap<u64, Arc<SegmentFile>>;

/// Reads texts from a journal, in any thread. Clones are cheap.
#[derive(Clone)]
pub struct JournalReader {
    pub(super) segments: Arc<RwLock<SegmentMap>>,
    pub(super) handles: Arc<Handles>,
}

impl fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalReader").finish_non_exhaustive()
    }
}

impl JournalReader {
    /// Opens a text for reading. Its bytes stay while the value lives, even if the segment is
    /// released.
    ///
    /// # Errors
    /// [`ReadError::Released`] if the segment was released before. [`ReadError::Io`] if its file
    /// can't be opened.
    pub fn text(&self, place: TextPlace) -> Result<JournalText, ReadError> {
        self.open(self.hold(place)?)
    }

    /// Holds the segment of a text, so that its file is not recycled. This takes no call of the
    /// system.
    ///
    /// # Errors
    /// [`ReadError::Released`] if the segment was released before.
    pub fn hold(&self, place: TextPlace) -> Result<HeldText, ReadError> {
        let generation = place.generation;
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let segment = segments.get(&generation).map(Arc::clone);
        let segment = segment.ok_or(ReadError::Released { generation })?;
        Ok(HeldText { place, segment })
    }

    /// Opens a text that is held.
    ///
    /// # Errors
    /// [`ReadError::Released`] if the segment was released meanwhile. [`ReadError::Io`] if its file
    /// can't be opened.
    pub fn open(&self, HeldText { place, segment }: HeldText) -> Result<JournalText, ReadError> {
        let generation = place.generation;
        let released = || ReadError::Released { generation };
        // While this reader holds the segment, its file may lose its name, but is not recycled.
        let file = match self.handles.open(generation, || self.has(generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(released()),
            opened => opened.map_err(|error| ReadError::Io {
                file: segment_name(generation),
                error,
            })?,
        };
        Ok(JournalText {
            place,
            file,
            _segment: segment,
        })
    }

    fn has(&self, generation: u64) -> bool {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.contains_key(&generation)
    }

    /// Reads a part of a text. See [`JournalText::read`].
    ///
    /// # Errors
    /// The errors of [`text`](Self::text) and of [`JournalText::read`].
    pub fn read(&self, place: TextPlace, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.text(place)?.read(range)
    }
}

/// A text in the journal whose segment is not recycled while the value lives.
pub struct HeldText {
    place: TextPlace,
    segment: Arc<SegmentFile>,
}

impl fmt::Debug for HeldText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeldText").field(&self.place).finish()
    }
}

/// A text in the journal, open for reading.
#[derive(Clone)]
pub struct JournalText {
    place: TextPlace,
    file: Arc<dyn DiskFile>,
    _segment: Arc<SegmentFile>,
}

impl fmt::Debug for JournalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JournalText").field(&self.place).finish()
    }
}

impl JournalText {
    /// Where the text lies.
    #[must_use]
    pub const fn place(&self) -> TextPlace {
        self.place
    }

    /// Compares the checksum of what was read with that of the text.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if they differ.
    pub fn check(&self, crc: u32) -> Result<(), ReadError> {
        match crc == self.place.crc {
            true => Ok(()),
            false => Err(self.corrupt()),
        }
    }

    fn corrupt(&self) -> ReadError {
        ReadError::Corrupt {
            file: segment_name(self.place.generation),
            offset: u64::from(self.place.offset),
        }
    }

    /// Reads a part. A range beyond the end of the text is cut. This is one blocking read, usually
    /// from the page cache. A read of the whole text also checks its checksum.
    ///
    /// # Errors
    /// [`ReadError::Io`] if the system fails. [`ReadError::Corrupt`] if the bytes have changed
    /// since they were written.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        let end = range.end.min(u64::from(self.place.len));
        let start = range.start.min(end);
        // The difference of two u32 fits.
        let mut bytes = vec![0; usize::try_from(end - start).map_err(|_| self.corrupt())?];
        self.file
            .read_at(&mut bytes, u64::from(self.place.offset) + start)
            .map_err(|error| ReadError::Io {
                file: segment_name(self.place.generation),
                error,
            })?;
        if start == 0 && end == u64::from(self.place.len) {
            self.check(crc32c::crc32c(&bytes))?;
        }
        Ok(bytes.into())
    }
}
