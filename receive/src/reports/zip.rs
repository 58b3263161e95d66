//! A reader of ZIP archives of strangers (APPNOTE 6.3.3): a few entries, stored or deflated.
//!
//! The list at the end of an archive says what is in it. An archive may have millions of entries,
//! or claim so, and entries of any size. So the entries are counted, and neither their number nor a
//! size is believed.
//!
//! Absent on purpose: encryption, archives in several files, ZIP64, other methods. No report needs
//! them.

use flate2::{Crc, read::DeflateDecoder};

use super::{
    fault::{ENTRIES_MAX, Limit, Patience, ReportFault},
    packed::read_within,
};

const END: [u8; 4] = *b"PK\x05\x06";
const LISTED: [u8; 4] = *b"PK\x01\x02";
/// The beginning of an entry, and so of an archive.
pub(super) const ENTRY: [u8; 4] = *b"PK\x03\x04";
/// The record at the end without its comment.
const END_SIZE: usize = 22;
const COMMENT_MAX: usize = 65_535;
const LISTED_SIZE: usize = 46;
const ENTRY_SIZE: usize = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ENCRYPTED: u16 = 1;

const DAMAGED: ReportFault = ReportFault::Packed("the archive is damaged");

/// The contents of the entries that are files, in their order: at most `room` bytes together.
pub(super) fn unpack(
    archive: &[u8],
    room: usize,
    patience: Patience<'_>,
) -> Result<Vec<Vec<u8>>, ReportFault> {
    let mut listed = listed(archive)?;
    let (mut files, mut entries) = (Vec::new(), 0);
    let mut left = room;
    while !listed.is_empty() {
        entries += 1;
        if entries > ENTRIES_MAX {
            return Err(Limit::Entries.into());
        }
        let (entry, rest) = Listed::read(listed).ok_or(DAMAGED)?;
        listed = rest;
        if entry.is_folder {
            continue;
        }
        let file = entry.content(archive, left, patience)?;
        left = left.saturating_sub(file.len());
        files.push(file);
    }
    Ok(files)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    u32_at(bytes, at).and_then(|size| usize::try_from(size).ok())
}

/// The list of the entries.
fn listed(archive: &[u8]) -> Result<&[u8], ReportFault> {
    let tail = archive.len().saturating_sub(END_SIZE + COMMENT_MAX);
    let end = memchr::memmem::rfind(archive.get(tail..).unwrap_or_default(), &END);
    let end = end.and_then(|at| archive.get(tail + at..)).ok_or(DAMAGED)?;
    let count = u16_at(end, 10).ok_or(DAMAGED)?;
    if usize::from(count) > ENTRIES_MAX {
        return Err(Limit::Entries.into());
    }
    let (size, at) = (size_at(end, 12), size_at(end, 16));
    let (size, at) = (size.ok_or(DAMAGED)?, at.ok_or(DAMAGED)?);
    let list = at.checked_add(size).and_then(|end| archive.get(at..end));
    list.ok_or(DAMAGED)
}

/// What the list says of an entry.
struct Listed {
    method: u16,
    flags: u16,
    crc: u32,
    packed: usize,
    at: usize,
    is_folder: bool,
}

impl Listed {
    /// Reads an entry of the list. Gives also what comes behind it.
    fn read(list: &[u8]) -> Option<(Self, &[u8])> {
        if !list.starts_with(&LISTED) {
            return None;
        }
        let length = |at| u16_at(list, at).map(usize::from);
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        let name_end = LISTED_SIZE + name;
        let name = list.get(LISTED_SIZE..name_end)?;
        let entry = Self {
            flags: u16_at(list, 8)?,
            method: u16_at(list, 10)?,
            crc: u32_at(list, 16)?,
            packed: size_at(list, 20)?,
            at: size_at(list, 42)?,
            is_folder: name.ends_with(b"/") || name.ends_with(b"\\"),
        };
        Some((entry, list.get(name_end + extra + comment..)?))
    }

    /// The content: at most `room` bytes.
    fn content(
        &self,
        archive: &[u8],
        room: usize,
        patience: Patience<'_>,
    ) -> Result<Vec<u8>, ReportFault> {
        if self.flags & ENCRYPTED != 0 {
            return Err(ReportFault::Packed("the archive is encrypted"));
        }
        let packed = self.packed(archive).ok_or(DAMAGED)?;
        let content = match self.method {
            STORED => read_within(|| packed, room, patience)?,
            DEFLATED => read_within(|| DeflateDecoder::new(packed), room, patience)?,
            _ => {
                let why = "the archive is packed by another method than deflate";
                return Err(ReportFault::Packed(why));
            }
        };
        let mut crc = Crc::new();
        crc.update(&content);
        match crc.sum() == self.crc {
            true => Ok(content),
            false => Err(DAMAGED),
        }
    }

    /// The packed bytes. The entry has a name and extra fields of its own before them.
    fn packed<'a>(&self, archive: &'a [u8]) -> Option<&'a [u8]> {
        let entry = archive.get(self.at..)?;
        if !entry.starts_with(&ENTRY) {
            return None;
        }
        let length = |at| u16_at(entry, at).map(usize::from);
        let begin = ENTRY_SIZE + length(26)? + length(28)?;
        entry.get(begin..begin.checked_add(self.packed)?)
    }
}
