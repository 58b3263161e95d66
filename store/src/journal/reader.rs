//! Reading bodies where they were written, while the writer goes on.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ReadError, segment_name};
use crate::disk::DiskFile;

/// Where a body lies in the journal, and how to know that it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BodyPlace {
    /// Its segment.
    pub generation: u64,
    /// Its first byte in the segment's file.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
    /// The CRC-32C of its bytes.
    pub crc: u32,
}

/// An open segment file. Readers that hold it can read on when it has been released: it is recycled only when none does.
pub(super) struct SegmentFile {
    pub(super) generation: u64,
    pub(super) size: u64,
    pub(super) file: Box<dyn DiskFile>,
}

pub(super) type SegmentMap = BTreeMap<u64, Arc<SegmentFile>>;

/// Reads bodies out of a journal, from any thread. Clones are cheap.
#[derive(Clone)]
pub struct JournalReader {
    pub(super) segments: Arc<RwLock<SegmentMap>>,
}

impl fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalReader").finish_non_exhaustive()
    }
}

impl JournalReader {
    /// Opens a body for reading. While the value lives its bytes stay, also when the segment is released meanwhile.
    ///
    /// # Errors
    /// [`ReadError::Released`] if the segment is no more.
    pub fn body(&self, place: BodyPlace) -> Result<JournalBody, ReadError> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let segment = segments.get(&place.generation).ok_or(ReadError::Released {
            generation: place.generation,
        })?;
        Ok(JournalBody {
            place,
            segment: Arc::clone(segment),
        })
    }

    /// Reads a part of a body; see [`JournalBody::read`].
    ///
    /// # Errors
    /// As `body` and `read`.
    pub fn read(&self, place: BodyPlace, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.body(place)?.read(range)
    }
}

/// A body in the journal, open for reading.
#[derive(Clone)]
pub struct JournalBody {
    place: BodyPlace,
    segment: Arc<SegmentFile>,
}

impl fmt::Debug for JournalBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JournalBody").field(&self.place).finish()
    }
}

impl JournalBody {
    /// Where it lies.
    #[must_use]
    pub const fn place(&self) -> BodyPlace {
        self.place
    }

    /// Reads a part, cut at the body's end. One blocking read, usually out of the page cache. A read of the whole also
    /// checks that it is what was written.
    ///
    /// # Errors
    /// [`ReadError::Io`], and [`ReadError::Corrupt`] if the bytes changed since they were written.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        let end = range.end.min(u64::from(self.place.len));
        let start = range.start.min(end);
        let corrupt = || ReadError::Corrupt {
            file: segment_name(self.place.generation),
            offset: u64::from(self.place.offset),
        };
        // The difference of two u32.
        let mut bytes = vec![0; usize::try_from(end - start).map_err(|_| corrupt())?];
        self.segment
            .file
            .read_at(&mut bytes, u64::from(self.place.offset) + start)
            .map_err(|error| ReadError::Io {
                file: segment_name(self.place.generation),
                error,
            })?;
        let whole = start == 0 && end == u64::from(self.place.len);
        if whole && crc32c::crc32c(&bytes) != self.place.crc {
            return Err(corrupt());
        }
        Ok(bytes.into())
    }
}
