//! Reading the segments when a journal is opened.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    Apply, DIR, Entry, JournalError, JournalOptions, Position,
    frame::{
        ALIGN, BLOCK, BadHeader, ENTRY_HEADER, EntryHeader, Kind, Link, START_ENTRY, Seed,
        SegmentHeader, align, align_block,
    },
    reader::{BodyPlace, SegmentFile, SegmentMap},
    segment_name,
    spare::{Found, Spare},
};
use crate::disk::{Disk, DiskFile, Open, is_full};

/// Bytes read at a time.
const READ_AHEAD: usize = 1024 * 1024;
/// Where the entries of a segment begin.
pub(super) const FIRST: u64 = BLOCK;

/// An entry with its op and its body, out of a [`Window`].
type WholeEntry<'a> = (EntryHeader, &'a [u8], &'a [u8]);

/// What a journal begins with.
pub(super) struct Recovered {
    /// All segments that were ever written to.
    pub(super) segments: SegmentMap,
    pub(super) found: Found,
    /// Where the journal ends.
    pub(super) tail: Link,
}

/// A segment that was begun.
struct Started {
    file: Arc<SegmentFile>,
    seed: Seed,
    /// Its first batch.
    batch: u64,
    /// What was before it.
    link: Link,
}

/// Reads a file forwards.
struct Window<'a> {
    file: &'a dyn DiskFile,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn DiskFile, size: u64) -> Self {
        Self {
            file,
            size,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// Some bytes; None if the file ends before.
    fn get(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
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

    /// The entry at `offset`: its header, op and body. None if none validates there.
    fn entry(&mut self, seed: Seed, offset: u64) -> io::Result<Option<WholeEntry<'_>>> {
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
        let (op, body) = payload.split_at(header.op_len as usize);
        Ok(Some((header, op, body)))
    }

    /// Calls `found` with the batch of every entry that validates from `offset` on, wherever it lies, until that says
    /// true.
    fn search(
        &mut self,
        seed: Seed,
        from: u64,
        mut found: impl FnMut(u64) -> bool,
    ) -> io::Result<bool> {
        /// No journal has written so many batches: what seems to be so far ahead is text.
        const AHEAD: u64 = 1 << 48;
        let mut offset = from.next_multiple_of(ALIGN as u64);
        let mut candidates = Vec::new();
        while offset < self.size {
            let len = usize::try_from(self.size - offset)
                .unwrap_or(usize::MAX)
                .min(READ_AHEAD);
            // Most of what is looked at is no header, so look first at what costs nothing: where the batch would be.
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

fn io_error(file: &str) -> impl Fn(io::Error) -> JournalError + use<> {
    let file = file.to_owned();
    move |error| JournalError::Io {
        file: file.clone(),
        error,
    }
}

fn corrupt(generation: u64, offset: u64) -> JournalError {
    JournalError::Corrupt {
        file: segment_name(generation),
        offset,
    }
}

/// Reads the folder, gives `apply` every entry from `from` on, and tells where the journal ends.
pub(super) fn recover(
    disk: &dyn Disk,
    from: Position,
    apply: &mut Apply<'_>,
) -> Result<Recovered, JournalError> {
    let mut started = BTreeMap::new();
    let mut found = Found {
        spares: Vec::new(),
        unused: Vec::new(),
        next_generation: from.generation.saturating_add(1),
        next_name: 0,
    };
    for name in disk.list(DIR).map_err(io_error(DIR))? {
        let Some((number, suffix)) = name.split_once('.') else {
            continue;
        };
        let Some(number) = (number.len() == 16)
            .then(|| u64::from_str_radix(number, 16).ok())
            .flatten()
        else {
            continue;
        };
        let path = format!("{DIR}/{name}");
        let failed = io_error(&path);
        match suffix {
            "seg" => {
                found.next_generation = found.next_generation.max(number.saturating_add(1));
                let segment = open_segment(disk, number)?;
                if let Some(segment) = segment.1 {
                    started.insert(number, segment);
                } else {
                    found.unused.push(Spare {
                        name: path,
                        size: segment.0,
                    });
                }
            }
            "spare" => {
                found.next_name = found.next_name.max(number);
                let size = disk
                    .open(&path, Open::Existing)
                    .and_then(|file| file.size())
                    .map_err(failed)?;
                found.spares.push(Spare { name: path, size });
            }
            // Cut off while it was filled with zeros.
            "new" => disk.remove(&path).map_err(failed)?,
            _ => {}
        }
    }
    // A file gets a new header only when its name is safe. That of a spare may be a process's last act.
    disk.sync_dir(DIR).map_err(io_error(DIR))?;
    let tail = replay(&started, from, apply)?;
    let segments = started
        .into_iter()
        .map(|(generation, segment)| (generation, segment.file))
        .collect();
    Ok(Recovered {
        segments,
        found,
        tail,
    })
}

/// Opens a segment: its size, and how it begins if it was ever begun.
fn open_segment(disk: &dyn Disk, generation: u64) -> Result<(u64, Option<Started>), JournalError> {
    let name = segment_name(generation);
    let file = disk.open(&name, Open::Existing).map_err(io_error(&name))?;
    let size = file.size().map_err(io_error(&name))?;
    let mut window = Window::new(&*file, size.min(FIRST + START_ENTRY as u64));
    let head = window
        .get(0, super::frame::SEGMENT_HEADER)
        .map_err(io_error(&name))?
        .unwrap_or_default();
    let header = match SegmentHeader::decode(head) {
        Ok(header)
            if header.generation == generation
                && header.size == size
                && size <= JournalOptions::MAX_SIZE =>
        {
            header
        }
        Err(BadHeader::Newer(version)) => {
            return Err(JournalError::Newer {
                file: name,
                version,
            });
        }
        Ok(_) | Err(BadHeader::Invalid) => return Err(corrupt(generation, 0)),
    };
    let seed = header.seed();
    let start = match window.entry(seed, FIRST).map_err(io_error(&name))? {
        Some((entry, op, _)) if entry.kind == Kind::Start => {
            Link::decode(op).map(|link| (entry.batch, link))
        }
        _ => None,
    };
    if let Some((batch, link)) = start {
        let file = Arc::new(SegmentFile {
            generation,
            size,
            file,
        });
        return Ok((
            size,
            Some(Started {
                file,
                seed,
                batch,
                link,
            }),
        ));
    }
    // Its first batch was torn, or it was never written to. Two batches cannot be: the second was begun only when the
    // first was safe.
    let mut seen = None;
    let two = Window::new(&*file, size)
        .search(seed, FIRST, |batch| *seen.get_or_insert(batch) != batch)
        .map_err(io_error(&name))?;
    if two {
        Err(corrupt(generation, FIRST))
    } else {
        Ok((size, None))
    }
}

fn replay(
    started: &BTreeMap<u64, Started>,
    from: Position,
    apply: &mut Apply<'_>,
) -> Result<Link, JournalError> {
    let Some((_, newest)) = started.last_key_value() else {
        // The newest segment is never released, so something must be there when there ever was anything.
        return if from.generation == 0 {
            Ok(Link::NONE)
        } else {
            Err(JournalError::Missing {
                generation: from.generation,
            })
        };
    };
    // From the newest back along the links: a segment that none leads to was given up before anything in it was
    // acknowledged.
    let mut chain: Vec<(&Started, Option<Link>)> = vec![(newest, None)];
    let mut first = newest;
    while first.file.generation > from.generation {
        let link = first.link;
        if (link.generation, u64::from(link.end)) <= (from.generation, u64::from(from.offset)) {
            break;
        }
        let before = started
            .get(&link.generation)
            .filter(|before| before.file.generation < first.file.generation)
            .ok_or(JournalError::Missing {
                generation: link.generation,
            })?;
        chain.push((before, Some(link)));
        first = before;
    }
    if first.file.generation < from.generation {
        return Err(JournalError::Missing {
            generation: from.generation,
        });
    }
    let mut tail = Link::NONE;
    for (segment, end) in chain.into_iter().rev() {
        let start = if segment.file.generation == from.generation {
            Some(from)
        } else {
            None
        };
        tail = replay_segment(segment, start, end, apply)?;
    }
    Ok(tail)
}

/// Gives `apply` the entries of one segment, from `from` on or all, up to the end that its successor states. Of the newest,
/// which has no successor, up to where it was torn; what is left of its last batch is made durable.
fn replay_segment(
    segment: &Started,
    from: Option<Position>,
    limit: Option<Link>,
    apply: &mut Apply<'_>,
) -> Result<Link, JournalError> {
    let generation = segment.file.generation;
    let name = segment_name(generation);
    let failed = io_error(&name);
    let mut window = Window::new(&*segment.file.file, segment.file.size);
    let limit = limit.map(|link| u64::from(link.end));
    let (mut at, mut batch) = from.map_or((FIRST, segment.batch), |from| {
        (u64::from(from.offset).max(FIRST), from.batch)
    });
    if at > segment.file.size {
        return Err(corrupt(generation, at));
    }
    // The first byte behind the last entry, the last batch that counts, and where that begins.
    let mut end = at;
    let mut counted = batch.saturating_sub(1);
    let mut batch_start = at;
    let mut in_batch = false;
    while limit.is_none_or(|limit| at < limit) {
        let entry = window.entry(segment.seed, at).map_err(&failed)?;
        let Some((header, op, body)) = entry.filter(|(header, ..)| header.batch == batch) else {
            let is_later = |other| other > batch;
            if limit.is_some() || window.search(segment.seed, at, is_later).map_err(&failed)? {
                return Err(corrupt(generation, at));
            }
            break;
        };
        let begin = u32::try_from(at).map_err(|_| corrupt(generation, at))?;
        let body_at = begin + ENTRY_HEADER as u32 + header.op_len;
        match header.kind {
            Kind::Start if at == FIRST => {}
            Kind::Op => {
                let body = (!body.is_empty()).then_some(BodyPlace {
                    generation,
                    offset: body_at,
                    len: header.body_len,
                    crc: header.body_crc,
                });
                apply(Entry {
                    position: Position {
                        generation,
                        offset: begin,
                        batch,
                    },
                    version: header.version,
                    op,
                    body,
                })
                .map_err(|error| JournalError::Apply {
                    file: name.clone(),
                    offset: at,
                    error,
                })?;
            }
            Kind::Start | Kind::Unknown(_) => {
                return Err(JournalError::UnknownEntry {
                    file: name,
                    offset: at,
                });
            }
        }
        if !in_batch {
            batch_start = at;
        }
        counted = batch;
        let len = align(ENTRY_HEADER + header.op_len as usize + header.body_len as usize) as u64;
        end = at + len;
        if header.last {
            at = align_block(end);
            batch = batch.saturating_add(1);
            in_batch = false;
        } else {
            at = end;
            in_batch = true;
        }
    }
    if end > batch_start && limit.is_some_and(|limit| end > limit) {
        return Err(corrupt(generation, end));
    }
    if limit.is_none() && end > batch_start {
        // The last batch may be visible only because the kernel still has it in memory, perhaps after a failed sync. What
        // comes next relies on it, so it is written once more.
        let len =
            usize::try_from(end - batch_start).map_err(|_| corrupt(generation, batch_start))?;
        let mut bytes = vec![0; len];
        let file = &segment.file.file;
        file.read_at(&mut bytes, batch_start).map_err(&failed)?;
        match file.write_at(&bytes, batch_start) {
            // Where writing over a file takes room (copy-on-write), a full disk must not keep us from starting.
            Err(error) if is_full(&error) => {}
            result => result.map_err(&failed)?,
        }
        file.sync_data().map_err(&failed)?;
    }
    let end = u32::try_from(end).map_err(|_| corrupt(generation, end))?;
    Ok(Link {
        generation,
        end,
        batch: counted,
    })
}
