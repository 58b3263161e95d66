//! By what the traces of a segment are found.
//!
//! An index has a number for each trace of its segment, in the order in which they ended. Its file:
//! magic text (8 bytes), version (u32), number of traces (u32), number of entries (u32), length of
//! the segment (u64), earliest start, latest start and latest end (i64), largest span (u64), and
//! the CRC-32C of all that (u32). Then the place of each trace in the segment (u64), and the
//! entries, sorted: hash of the term (u64), number of the trace (u32). At the end is the CRC-32C of
//! the places and the entries (u32), which version 1 did not have.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::{
    Record,
    reading::Reader,
    segment::{FileError, HEADER, check_header, header},
};

const MAGIC: &[u8; 8] = b"PRTRINDX";
/// The bytes before the places.
const HEAD: usize = HEADER + 4 + 4 + 8 + 3 * 8 + 8 + 4;
const PLACE: u64 = 8;
const ENTRY: u64 = 12;
const CHECKSUM: u64 = 4;
/// The lists of entries in memory: one for each first byte of a hash.
const LISTS: usize = 256;
/// The entries for which a list has room at first.
const LIST_FIRST: usize = 16;
/// How many places are written at once.
const PLACES_AT_ONCE: usize = 4096;
/// How many entries or places are read at once, if they are needed one after the other.
const BLOCK: u32 = 64;

/// The span of time of some traces, and the largest of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// When the earliest of them started.
    pub(super) earliest: i64,
    /// When the latest of them started.
    pub(super) latest: i64,
    /// When the last of them ended.
    pub(super) ended: i64,
    pub(super) largest_span: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            earliest: i64::MAX,
            latest: i64::MIN,
            ended: i64::MIN,
            largest_span: 0,
        }
    }
}

impl Bounds {
    /// Whether there are no traces.
    pub(super) const fn is_empty(&self) -> bool {
        self.earliest > self.latest
    }

    fn add(&mut self, record: &Record) {
        self.earliest = self.earliest.min(record.started);
        self.latest = self.latest.max(record.started);
        self.ended = self.ended.max(record.ended);
        self.largest_span = self.largest_span.max(record.span);
    }
}

/// The index of a segment, in memory.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: Vec<u64>,
    /// The entries, by the first byte of the hash. One list of all would be moved when it grows,
    /// and copied to be sorted: that takes many times the memory.
    entries: Vec<Vec<Entry>>,
    /// How many entries there are.
    count: usize,
    pub(super) bounds: Bounds,
}

/// A term, and a trace that has it. The hash of the term is in two halves, since memory is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    high: u32,
    low: u32,
    number: u32,
}

impl Entry {
    const fn new(hash: u64, number: u32) -> Self {
        Self {
            high: (hash >> 32) as u32,
            low: hash as u32,
            number,
        }
    }

    const fn hash(self) -> u64 {
        (self.high as u64) << 32 | self.low as u64
    }
}

/// The list that has the entries of a term.
const fn list_of(hash: u64) -> usize {
    (hash >> 56) as usize
}

impl Index {
    /// Adds the trace at a place.
    pub(super) fn add(&mut self, place: u64, record: &Record) {
        let number = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(place);
        self.entries.resize_with(LISTS, Vec::new);
        for term in &record.terms {
            if let Some(list) = self.entries.get_mut(list_of(*term)) {
                if list.len() == list.capacity() {
                    list.reserve_exact((list.len() / 4).max(LIST_FIRST));
                }
                list.push(Entry::new(*term, number));
                self.count += 1;
            }
        }
        self.bounds.add(record);
    }

    /// The bytes that its file has.
    pub(super) const fn size(&self) -> u64 {
        let entries = self.count as u64 * ENTRY;
        HEAD as u64 + self.places.len() as u64 * PLACE + entries + CHECKSUM
    }

    /// Writes its file.
    ///
    /// # Errors
    /// Those of `to`.
    pub(super) fn write(&self, length: u64, to: &mut impl io::Write) -> io::Result<()> {
        let mut out = Vec::with_capacity(HEAD);
        out.extend_from_slice(&header(MAGIC));
        let counts = [self.places.len(), self.count];
        for count in counts {
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        out.extend_from_slice(&length.to_le_bytes());
        let bounds = self.bounds;
        for time in [bounds.earliest, bounds.latest, bounds.ended] {
            out.extend_from_slice(&time.to_le_bytes());
        }
        out.extend_from_slice(&bounds.largest_span.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        to.write_all(&out)?;
        let mut checksum = 0;
        for places in self.places.chunks(PLACES_AT_ONCE) {
            out.clear();
            out.extend(places.iter().flat_map(|place| place.to_le_bytes()));
            checksum = crc32c::crc32c_append(checksum, &out);
            to.write_all(&out)?;
        }
        let mut sorted = Vec::new();
        for list in &self.entries {
            sorted.clone_from(list);
            sorted.sort_unstable();
            out.clear();
            for entry in &sorted {
                out.extend_from_slice(&entry.hash().to_le_bytes());
                out.extend_from_slice(&entry.number.to_le_bytes());
            }
            checksum = crc32c::crc32c_append(checksum, &out);
            to.write_all(&out)?;
        }
        to.write_all(&checksum.to_le_bytes())
    }
}

/// What both kinds of indexes tell.
pub(super) trait Lookup {
    /// How many traces there are.
    fn count(&self) -> u32;
    /// Where traces are in the segment. Their numbers rise. Those that are not there are left out.
    fn places(&self, numbers: Vec<u32>) -> io::Result<Vec<(u32, u64)>>;
    /// Adds the numbers of the traces with one of these terms, which are in order.
    fn find(&self, hashes: &[u64], found: &mut Vec<u32>) -> io::Result<()>;
}

impl Lookup for Index {
    fn count(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    fn places(&self, numbers: Vec<u32>) -> io::Result<Vec<(u32, u64)>> {
        let places = numbers.into_iter().filter_map(|number| {
            let place = self.places.get(number as usize)?;
            Some((number, *place))
        });
        Ok(places.collect())
    }

    /// The lists are not sorted: they are small, and get entries all the time.
    fn find(&self, hashes: &[u64], found: &mut Vec<u32>) -> io::Result<()> {
        for hash in hashes {
            let list = self.entries.get(list_of(*hash));
            let entries = list.into_iter().flatten();
            let entries = entries.filter(|entry| entry.hash() == *hash);
            found.extend(entries.map(|entry| entry.number));
        }
        Ok(())
    }
}

/// The start of the file of an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    version: u32,
    places: u32,
    entries: u32,
    /// The length of the segment.
    pub(super) length: u64,
    pub(super) bounds: Bounds,
}

impl Head {
    /// Opens the file of an index, and reads its start. None: it is not there, is not whole, or the
    /// disk does not give it. An index can always be made anew.
    pub(super) fn open(path: &Path) -> Result<Option<(Self, File)>, FileError> {
        let Ok((bytes, size, file)) = Self::read(path) else {
            return Ok(None);
        };
        let Some(version) = check_header(path, MAGIC, &bytes)? else {
            return Ok(None);
        };
        let head = Self::parse(version, &bytes).filter(|head| head.size() == size);
        Ok(head.map(|head| (head, file)))
    }

    /// The first bytes of a file, and its size.
    fn read(path: &Path) -> io::Result<(Vec<u8>, u64, File)> {
        let file = File::open(path)?;
        let mut bytes = Vec::with_capacity(HEAD);
        (&file).take(HEAD as u64).read_to_end(&mut bytes)?;
        let size = file.metadata()?.len();
        Ok((bytes, size, file))
    }

    /// Whether the rest of the file is as it was written, and can be read.
    pub(super) fn has_whole_body(&self, file: &File) -> bool {
        self.version < 2 || self.check_body(file).unwrap_or(false)
    }

    fn check_body(&self, file: &File) -> io::Result<bool> {
        let end = self.size() - CHECKSUM;
        let (mut at, mut checksum) = (HEAD as u64, 0);
        let mut piece = vec![0; 1 << 18];
        while at < end {
            let length =
                usize::try_from(end - at).map_or(piece.len(), |left| left.min(piece.len()));
            let (piece, _) = piece.split_at_mut(length);
            file.read_exact_at(piece, at)?;
            checksum = crc32c::crc32c_append(checksum, piece);
            at += length as u64;
        }
        let mut written = [0; CHECKSUM as usize];
        file.read_exact_at(&mut written, end)?;
        Ok(checksum == u32::from_le_bytes(written))
    }

    fn parse(version: u32, bytes: &[u8]) -> Option<Self> {
        let (head, checksum) = bytes.split_last_chunk::<4>()?;
        let mut from = Reader(head);
        from.take(HEADER)?;
        let head_read = Self {
            version,
            places: from.u32()?,
            entries: from.u32()?,
            length: from.u64()?,
            bounds: Bounds {
                earliest: from.i64()?,
                latest: from.i64()?,
                ended: from.i64()?,
                largest_span: from.u64()?,
            },
        };
        let is_whole = from.0.is_empty() && crc32c::crc32c(head) == u32::from_le_bytes(*checksum);
        is_whole.then_some(head_read)
    }

    /// The bytes of the file.
    pub(super) const fn size(&self) -> u64 {
        let checksum = if self.version < 2 { 0 } else { CHECKSUM };
        HEAD as u64 + self.places as u64 * PLACE + self.entries as u64 * ENTRY + checksum
    }
}

/// An index in its file.
#[derive(Debug)]
pub(super) struct InFile {
    pub(super) head: Head,
    pub(super) file: File,
}

impl InFile {
    /// Reads the bytes of the entries from this one on.
    fn read_entries(&self, at: u32, bytes: &mut [u8]) -> io::Result<()> {
        let places = HEAD as u64 + u64::from(self.head.places) * PLACE;
        let offset = places + u64::from(at) * ENTRY;
        self.file.read_exact_at(bytes, offset)
    }

    /// Adds the numbers of the traces with a term.
    fn find_one(&self, hash: u64, found: &mut Vec<u32>) -> io::Result<()> {
        let (mut low, mut high) = (0, self.head.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)?.0 < hash {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let mut block = [0; BLOCK as usize * ENTRY as usize];
        while low < self.head.entries {
            let count = BLOCK.min(self.head.entries - low);
            let (bytes, _) = block.split_at_mut(count as usize * ENTRY as usize);
            self.read_entries(low, bytes)?;
            let entries = bytes.chunks_exact(ENTRY as usize).map(entry_of);
            let before = found.len();
            let same = entries.take_while(|(it, _)| *it == hash);
            found.extend(same.map(|(_, number)| number));
            if found.len() - before < count as usize {
                break;
            }
            low += count;
        }
        Ok(())
    }

    fn entry(&self, at: u32) -> io::Result<(u64, u32)> {
        let mut bytes = [0; ENTRY as usize];
        self.read_entries(at, &mut bytes)?;
        Ok(entry_of(&bytes))
    }
}

fn entry_of(bytes: &[u8]) -> (u64, u32) {
    let mut from = Reader(bytes);
    let hash = from.u64().unwrap_or_default();
    (hash, from.u32().unwrap_or_default())
}

impl Lookup for InFile {
    fn count(&self) -> u32 {
        self.head.places
    }

    fn places(&self, mut numbers: Vec<u32>) -> io::Result<Vec<(u32, u64)>> {
        numbers.retain(|number| *number < self.head.places);
        let mut places = Vec::with_capacity(numbers.len());
        let mut bytes = Vec::new();
        // One read for all that are close together.
        for close in numbers.chunk_by(|one, next| next - one < BLOCK) {
            let (Some(first), Some(last)) = (close.first(), close.last()) else {
                continue;
            };
            bytes.resize((last - first + 1) as usize * PLACE as usize, 0);
            let offset = HEAD as u64 + u64::from(*first) * PLACE;
            self.file.read_exact_at(&mut bytes, offset)?;
            places.extend(close.iter().filter_map(|number| {
                let at = (number - first) as usize * PLACE as usize;
                let place = bytes.get(at..)?.first_chunk()?;
                Some((*number, u64::from_le_bytes(*place)))
            }));
        }
        Ok(places)
    }

    fn find(&self, hashes: &[u64], found: &mut Vec<u32>) -> io::Result<()> {
        hashes
            .iter()
            .try_for_each(|hash| self.find_one(*hash, found))
    }
}
