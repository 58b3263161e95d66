//! Reading a segment forwards in large pieces.

use std::io;

use super::frame::{ALIGN, ENTRY_HEADER, EntryHeader, Seed};
use crate::disk::DiskFile;

/// The bytes that are read at a time.
const READ_AHEAD: usize = 1024 * 1024;

/// An entry with its op and its text, in a [`Window`].
pub(super) type WholeEntry<'a> = (EntryHeader, &'a [u8], &'a [u8]);

/// A part of a file in memory. It moves forwards as the file is read.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, size: u64) -> Self {
        Self {
            file,
            size,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// Some bytes of the file. None if the file ends before.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        let Some(rest) = self
            .size
            .checked_sub(offset)
            .filter(|rest| *rest >= len as u64)
        else {
            return Ok(None);
        };
        let inside = |start: u64, have: usize| {
            let at = usize::try_from(offset.checked_sub(start)?).ok()?;
            (at.checked_add(len)? <= have).then_some(at)
        };
        let at = if let Some(at) = inside(self.start, self.bytes.len()) {
            at
        } else {
            let len = usize::try_from(rest)
                .unwrap_or(usize::MAX)
                .min(len.max(READ_AHEAD));
            self.bytes.resize(len, 0);
            self.file.read_at(&mut self.bytes, offset)?;
            self.start = offset;
            0
        };
        Ok(self.bytes.get(at..at + len))
    }

    /// The entry at `offset`: its header, op and text. None if no entry validates there.
    pub(super) fn entry(&mut self, seed: Seed, offset: u64) -> io::Result<Option<WholeEntry<'_>>> {
        let Ok(place) = u32::try_from(offset) else {
            return Ok(None);
        };
        let Some(bytes) = self.get(offset, ENTRY_HEADER)? else {
            return Ok(None);
        };
        let Some(header) = EntryHeader::decode(bytes, seed, place) else {
            return Ok(None);
        };
        let Ok(len) = usize::try_from(header.entry_len()) else {
            return Ok(None);
        };
        let Some(bytes) = self.get(offset, len)? else {
            return Ok(None);
        };
        let (_, payload) = bytes.split_at(ENTRY_HEADER);
        if !header.fits(payload) {
            return Ok(None);
        }
        let (op, text) = payload.split_at(header.op_len as usize);
        Ok(Some((header, op, text)))
    }

    /// Searches the file from `from` on for entries that validate, at any place. Calls `found` with
    /// the batch of each. Ends with true as soon as `found` gives true.
    pub(super) fn search(
        &mut self,
        seed: Seed,
        from: u64,
        mut found: impl FnMut(u64) -> bool,
    ) -> io::Result<bool> {
        /// No journal has written so many batches. A larger number is part of a text.
        const AHEAD: u64 = 1 << 48;
        let mut offset = from.next_multiple_of(ALIGN as u64);
        let mut candidates = Vec::new();
        while offset < self.size {
            let len = usize::try_from(self.size - offset)
                .unwrap_or(usize::MAX)
                .min(READ_AHEAD);
            // Most of the bytes are not headers. So check the cheapest field first: the number of
            // the batch.
            candidates.clear();
            let words = self
                .get(offset, len)?
                .unwrap_or_default()
                .chunks_exact(ALIGN);
            candidates.extend(words.zip(0_u64..).filter_map(|(word, number)| {
                let batch = u64::from_le_bytes(*word.first_chunk()?);
                let at = (offset + number * ALIGN as u64).checked_sub(EntryHeader::BATCH)?;
                (batch != 0 && batch < AHEAD && at >= from).then_some((at, batch))
            }));
            for (at, batch) in candidates.drain(..) {
                if self.entry(seed, at)?.is_some() && found(batch) {
                    return Ok(true);
                }
            }
            offset += len as u64;
        }
        Ok(false)
    }
}
