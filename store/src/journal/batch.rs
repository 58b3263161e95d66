//! Entries that are appended together.

use super::frame::{ENTRY_HEADER, EntryHeader, Kind, Link, START_ENTRY, Seed, align, align_block};
use super::reader::TextPlace;

/// Entries that are appended together, in the form in which they are written. A batch that is used
/// again keeps its memory.
#[derive(Debug)]
pub struct Batch {
    /// Space for a start entry, then the entries, with space for their headers.
    bytes: Vec<u8>,
    entries: Vec<Pending>,
}

/// An entry without a place in a segment.
#[derive(Debug)]
struct Pending {
    /// The first byte of the entry in `bytes`.
    at: usize,
    version: u8,
    op_len: u32,
    text_len: u32,
    op_crc: u32,
    text_crc: u32,
}

/// The place that a batch gets in a segment.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) generation: u64,
    pub(super) seed: Seed,
    /// The first byte of the batch in the file.
    pub(super) offset: u64,
    /// The number of the batch.
    pub(super) batch: u64,
    /// The content of the start entry, if the batch is the first of its segment.
    pub(super) start: Option<Link>,
}

impl Slot {
    /// The bytes of [`Batch::bytes`] that are not written: the space for a start entry that is not
    /// needed.
    const fn skip(&self) -> usize {
        if self.start.is_some() { 0 } else { START_ENTRY }
    }

    /// The offset in the file of a byte of [`Batch::bytes`].
    fn place(&self, at: usize) -> Option<u32> {
        u32::try_from(self.offset + (at - self.skip()) as u64).ok()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![0; START_ENTRY],
            entries: Vec::new(),
        }
    }

    /// Adds an entry: an op, the caller's version of its encoding, and a text. An empty text means
    /// none.
    ///
    /// # Panics
    /// If the op or the text has 4 GiB or more. No batch can hold that.
    #[expect(
        clippy::expect_used,
        reason = "such a length is the caller's bug, and far above the limit of a batch"
    )]
    pub fn push(&mut self, version: u8, op: &[u8], text: &[u8]) {
        let len =
            |bytes: &[u8]| u32::try_from(bytes.len()).expect("an op or a text is below 4 GiB");
        self.entries.push(Pending {
            at: self.bytes.len(),
            version,
            op_len: len(op),
            text_len: len(text),
            op_crc: crc32c::crc32c(op),
            text_crc: crc32c::crc32c(text),
        });
        let size = ENTRY_HEADER + op.len() + text.len();
        self.bytes.reserve(align(size));
        self.bytes.extend([0; ENTRY_HEADER]);
        self.bytes.extend(op);
        self.bytes.extend(text);
        self.bytes
            .extend(std::iter::repeat_n(0, align(size) - size));
    }

    /// The bytes that an entry takes.
    #[must_use]
    pub const fn entry_size(op: usize, text: usize) -> usize {
        align(ENTRY_HEADER + op + text)
    }

    /// The bytes of all entries.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() - START_ENTRY
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the batch has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.bytes.truncate(START_ENTRY);
        self.entries.clear();
    }

    /// Completes the headers for a place in a segment and gives the bytes to write there: whole
    /// blocks. Call [`unseal`](Self::unseal) after the write. None if the batch reaches beyond the
    /// offsets that a segment can have.
    pub(super) fn seal(&mut self, slot: Slot) -> Option<&[u8]> {
        if let Some(link) = slot.start {
            let payload = link.encode();
            let header = EntryHeader {
                kind: Kind::Start,
                version: 1,
                last: self.entries.is_empty(),
                batch: slot.batch,
                op_len: u32::try_from(payload.len()).ok()?,
                text_len: 0,
                op_crc: crc32c::crc32c(&payload),
                text_crc: 0,
            };
            put(&mut self.bytes, slot, 0, header)?;
            self.bytes
                .get_mut(ENTRY_HEADER..START_ENTRY)?
                .copy_from_slice(&payload);
        }
        let last = self.entries.len().wrapping_sub(1);
        for (number, entry) in self.entries.iter().enumerate() {
            let header = EntryHeader {
                kind: Kind::Op,
                version: entry.version,
                last: number == last,
                batch: slot.batch,
                op_len: entry.op_len,
                text_len: entry.text_len,
                op_crc: entry.op_crc,
                text_crc: entry.text_crc,
            };
            put(&mut self.bytes, slot, entry.at, header)?;
        }
        // Whole blocks: the kernel never has to read a block from the disk to change a part of it.
        let skip = slot.skip();
        let len = self.bytes.len() - skip;
        let padded = usize::try_from(align_block(len as u64)).ok()?;
        self.bytes.resize(skip + padded, 0);
        self.bytes.get(skip..)
    }

    /// Removes the padding that [`seal`](Self::seal) added to a batch of `size` bytes.
    pub(super) fn unseal(&mut self, size: usize) {
        self.bytes.truncate(START_ENTRY + size);
    }

    /// The end of the entries in the file.
    pub(super) fn end(&self, slot: Slot) -> u32 {
        slot.place(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// The place of the text of each entry, in the order of the entries. None for an empty text.
    pub(super) fn places(&self, slot: Slot) -> Vec<Option<TextPlace>> {
        let place = |entry: &Pending| {
            let at = entry.at + ENTRY_HEADER + entry.op_len as usize;
            (entry.text_len > 0).then(|| TextPlace {
                generation: slot.generation,
                offset: slot.place(at).unwrap_or(u32::MAX),
                len: entry.text_len,
                crc: entry.text_crc,
            })
        };
        self.entries.iter().map(place).collect()
    }
}

/// Writes the header of the entry at `at`.
fn put(bytes: &mut [u8], slot: Slot, at: usize, header: EntryHeader) -> Option<()> {
    let header = header.encode(slot.seed, slot.place(at)?);
    bytes
        .get_mut(at..at + ENTRY_HEADER)?
        .copy_from_slice(&header);
    Some(())
}
