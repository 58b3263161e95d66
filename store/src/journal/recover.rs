//! Reading the segments when a journal is opened.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    Apply, DIR, Entry, JournalError, JournalOptions, Position,
    frame::{
        BadHeader, ENTRY_HEADER, EntryHeader, FIRST, Kind, Link, SEGMENT_HEADER, START_ENTRY, Seed,
        SegmentHeader, align, align_block,
    },
    reader::{SegmentFile, SegmentMap, TextPlace},
    segment_name,
    spare::{Found, Spare},
    window::Window,
};
use crate::disk::{Disk, DiskFile, Open, is_full};

/// The state in which a journal begins.
pub(super) struct Recovered {
    /// All segments that were ever written to.
    pub(super) segments: SegmentMap,
    pub(super) found: Found,
    pub(super) tail: Tail,
}

/// The end of the journal.
pub(super) struct Tail {
    pub(super) link: Link,
    /// The last batch, if it could not be made durable.
    pub(super) unsettled: Option<Unsettled>,
}

impl Tail {
    /// The end of a journal without entries.
    const NONE: Self = Self {
        link: Link::NONE,
        unsettled: None,
    };
}

/// A batch that was read and may not be durable. Its bytes stay in memory: after a failed sync, the
/// kernel may forget them and read other ones.
pub(super) struct Unsettled {
    file: Box<dyn DiskFile>,
    at: u64,
    bytes: Vec<u8>,
}

impl Unsettled {
    /// Writes the batch again, and syncs.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.file.write_at(&self.bytes, self.at)?;
        self.file.sync_data()
    }
}

/// A segment that was begun.
struct Started {
    file: Arc<SegmentFile>,
    seed: Seed,
    /// Its first batch.
    batch: u64,
    /// The end of the segment before.
    link: Link,
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

/// Reads the folder, gives `apply` every entry from `from` on, and finds the end of the journal.
pub(super) fn recover(
    disk: &dyn Disk,
    from: Position,
    apply: &mut Apply<'_>,
) -> Result<Recovered, JournalError> {
    let (started, found) = scan(disk, from)?;
    // A file gets a new header only when its name is safe. The name of a spare may be the last act
    // of a process.
    disk.sync_dir(DIR).map_err(io_error(DIR))?;
    let tail = replay(disk, &started, from, apply)?;
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

/// Finds the segments that were begun, and the files for later use. Removes incomplete files.
fn scan(disk: &dyn Disk, from: Position) -> Result<(BTreeMap<u64, Started>, Found), JournalError> {
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
                match open_segment(disk, number)? {
                    (_, Some(segment)) => {
                        started.insert(number, segment);
                    }
                    (size, None) => found.unused.push(Spare { name: path, size }),
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
            // The process ended while it filled the file with zeros.
            "new" => disk.remove(&path).map_err(failed)?,
            _ => {}
        }
    }
    Ok((started, found))
}

/// Opens a segment. Gives its size, and its beginning if it was ever begun.
fn open_segment(disk: &dyn Disk, generation: u64) -> Result<(u64, Option<Started>), JournalError> {
    let name = segment_name(generation);
    let failed = io_error(&name);
    let file = disk.open(&name, Open::Existing).map_err(&failed)?;
    let size = file.size().map_err(&failed)?;
    let mut window = Window::new(&*file, size.min(FIRST + START_ENTRY as u64));
    let head = window
        .get(0, SEGMENT_HEADER)
        .map_err(&failed)?
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
    let start = match window.entry(seed, FIRST).map_err(&failed)? {
        Some((entry, op, _)) if entry.kind == Kind::Start => {
            Link::decode(op).map(|link| (entry.batch, link))
        }
        _ => None,
    };
    if let Some((batch, link)) = start {
        let file = Arc::new(SegmentFile { generation, size });
        let started = Started {
            file,
            seed,
            batch,
            link,
        };
        return Ok((size, Some(started)));
    }
    // The segment was never written to, or its first batch was torn. Two batches cannot be torn:
    // the second is begun only when the first is safe.
    let mut seen = None;
    let two = Window::new(&*file, size)
        .search(seed, FIRST, |batch| *seen.get_or_insert(batch) != batch)
        .map_err(&failed)?;
    if two {
        Err(corrupt(generation, FIRST))
    } else {
        Ok((size, None))
    }
}

/// Gives `apply` every entry from `from` on. Gives the end of the journal.
fn replay(
    disk: &dyn Disk,
    started: &BTreeMap<u64, Started>,
    from: Position,
    apply: &mut Apply<'_>,
) -> Result<Tail, JournalError> {
    let Some((_, newest)) = started.last_key_value() else {
        // The newest segment is never released. So a journal that ever had an entry has a segment.
        return if from.generation == 0 {
            Ok(Tail::NONE)
        } else {
            Err(JournalError::Missing {
                generation: from.generation,
            })
        };
    };
    // Follow the links back from the newest segment. A segment that no link leads to was given up
    // before any of its entries was acknowledged.
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
    let mut tail = Tail::NONE;
    for (segment, end) in chain.into_iter().rev() {
        let from = (segment.file.generation == from.generation).then_some(from);
        tail = replay_segment(disk, segment, from, end, apply)?;
    }
    Ok(tail)
}

/// Reads every entry of all segments that were begun, each up to the end that the next segment
/// states. The end of a segment is unknown if its successor was released.
pub(super) fn check_all(disk: &dyn Disk) -> Result<Vec<JournalError>, JournalError> {
    let (started, _) = scan(disk, Position::START)?;
    let ends: BTreeMap<u64, Link> = started
        .values()
        .map(|segment| (segment.link.generation, segment.link))
        .collect();
    let mut faults = Vec::new();
    for (generation, segment) in &started {
        let end = ends.get(generation).copied();
        match replay_segment(disk, segment, None, end, &mut |_| Ok(())) {
            Ok(_) => {}
            Err(error @ (JournalError::Io { .. } | JournalError::Corrupt { .. })) => {
                faults.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(faults)
}

/// The progress of the replay in one segment.
struct Cursor {
    /// The position of the next entry.
    at: u64,
    /// The batch of the next entry.
    batch: u64,
    /// The first byte behind the last entry.
    end: u64,
    /// The last batch that counts.
    counted: u64,
    /// The beginning of that batch.
    batch_start: u64,
    /// Whether the next entry belongs to that batch.
    in_batch: bool,
}

impl Cursor {
    fn new(at: u64, batch: u64) -> Self {
        Self {
            at,
            batch,
            end: at,
            counted: batch.saturating_sub(1),
            batch_start: at,
            in_batch: false,
        }
    }

    /// Goes on behind an entry.
    fn pass(&mut self, header: &EntryHeader) {
        if !self.in_batch {
            self.batch_start = self.at;
        }
        self.counted = self.batch;
        let len = ENTRY_HEADER + header.op_len as usize + header.text_len as usize;
        self.end = self.at + align(len) as u64;
        self.in_batch = !header.last;
        if header.last {
            self.at = align_block(self.end);
            self.batch = self.batch.saturating_add(1);
        } else {
            self.at = self.end;
        }
    }
}

/// Gives `apply` the entries of one segment, from `from` on, or all.
///
/// The replay ends at `limit`, the end that the next segment states. The newest segment has no
/// limit. Its replay ends where it was torn, and its last batch is made durable.
fn replay_segment(
    disk: &dyn Disk,
    segment: &Started,
    from: Option<Position>,
    limit: Option<Link>,
    apply: &mut Apply<'_>,
) -> Result<Tail, JournalError> {
    let generation = segment.file.generation;
    let failed = io_error(&segment_name(generation));
    let file = open_started(disk, generation)?;
    let mut window = Window::new(&*file, segment.file.size);
    let limit = limit.map(|link| u64::from(link.end));
    let (at, batch) = from.map_or((FIRST, segment.batch), |from| {
        (u64::from(from.offset).max(FIRST), from.batch)
    });
    if at > segment.file.size {
        return Err(corrupt(generation, at));
    }
    let mut cursor = Cursor::new(at, batch);
    while limit.is_none_or(|limit| cursor.at < limit) {
        let (at, batch) = (cursor.at, cursor.batch);
        let entry = window.entry(segment.seed, at).map_err(&failed)?;
        let Some((header, op, _)) = entry.filter(|(header, ..)| header.batch == batch) else {
            let is_later = |other| other > batch;
            if limit.is_some() || window.search(segment.seed, at, is_later).map_err(&failed)? {
                return Err(corrupt(generation, at));
            }
            break;
        };
        apply_entry(generation, at, &header, op, apply)?;
        cursor.pass(&header);
    }
    let link = Link {
        generation,
        end: u32::try_from(cursor.end).map_err(|_| corrupt(generation, cursor.end))?,
        batch: cursor.counted,
    };
    let unsettled = match limit {
        Some(limit) if cursor.end > limit && cursor.end > cursor.batch_start => {
            return Err(corrupt(generation, cursor.end));
        }
        None if cursor.end > cursor.batch_start => {
            write_again(file, generation, cursor.batch_start, cursor.end)?
        }
        _ => None,
    };
    Ok(Tail { link, unsettled })
}

/// Gives `apply` an entry, unless it is the start entry of the segment.
fn apply_entry(
    generation: u64,
    at: u64,
    header: &EntryHeader,
    op: &[u8],
    apply: &mut Apply<'_>,
) -> Result<(), JournalError> {
    match header.kind {
        Kind::Start if at == FIRST => return Ok(()),
        Kind::Op => {}
        Kind::Start | Kind::Unknown(_) => {
            return Err(JournalError::UnknownEntry {
                file: segment_name(generation),
                offset: at,
            });
        }
    }
    let offset = u32::try_from(at).map_err(|_| corrupt(generation, at))?;
    let text = (header.text_len > 0).then_some(TextPlace {
        generation,
        offset: offset + ENTRY_HEADER as u32 + header.op_len,
        len: header.text_len,
        crc: header.text_crc,
    });
    let position = Position {
        generation,
        offset,
        batch: header.batch,
    };
    let entry = Entry {
        position,
        version: header.version,
        op,
        text,
    };
    apply(entry).map_err(|error| JournalError::Apply {
        file: segment_name(generation),
        offset: at,
        error,
    })
}

/// Opens the file of a segment that was begun.
fn open_started(disk: &dyn Disk, generation: u64) -> Result<Box<dyn DiskFile>, JournalError> {
    let name = segment_name(generation);
    let opened = disk.open(&name, Open::Existing);
    opened.map_err(io_error(&name))
}

/// Writes the last batch of the newest segment once more, and syncs. It may be visible only because
/// the kernel has it in memory, perhaps after a failed sync. The next batch relies on it.
///
/// If a write over a file takes space (copy-on-write), the disk may be too full for that. This must
/// not prevent the start. So the batch is given back, for another try before the next append.
fn write_again(
    file: Box<dyn DiskFile>,
    generation: u64,
    at: u64,
    end: u64,
) -> Result<Option<Unsettled>, JournalError> {
    let failed = io_error(&segment_name(generation));
    let len = usize::try_from(end - at).map_err(|_| corrupt(generation, at))?;
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, at).map_err(&failed)?;
    let last = Unsettled { file, at, bytes };
    match last.settle() {
        Ok(()) => Ok(None),
        Err(error) if is_full(&error) => Ok(Some(last)),
        Err(error) => Err(failed(error)),
    }
}
