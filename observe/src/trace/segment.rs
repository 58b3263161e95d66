//! One file of traces.
//!
//! A segment begins with a magic text (8 bytes) and the version of the format (u32). Chunks follow,
//! one for each trace: length (u32), CRC-32C (u32), [record](super::record). They are only added at
//! the end. A crash may leave a torn chunk at the end, which the next start cuts. What is damaged
//! in the middle is left out: behind it the next chunk is looked for.
//!
//! A segment that gets no more traces is sealed: it is synced, and has an index in a file of its
//! own.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{Kind, Record, index::Index, reading::Reader};

/// The version of the format of segments and of their indexes.
pub(super) const VERSION: u32 = 2;
/// The magic text and the version.
pub(super) const HEADER: usize = 12;
/// The length and the checksum before a record.
const CHUNK_HEAD: usize = 8;
/// No record is smaller, or larger.
const RECORD_MIN: usize = 2 + 3 * 8 + 1 + 4 * 2;
const RECORD_MAX: usize = 1 << 20;
const MAGIC: &[u8; 8] = b"PRTRACES";
/// The endings of the names of both files.
pub(super) const SEGMENT: &str = "traces";
pub(super) const INDEX: &str = "index";
/// The ending of the name of an index that is being written.
pub(super) const UNFINISHED: &str = "new";
/// How much of a segment is looked through at a time for a chunk.
const LOOK: usize = 256 << 10;

/// The file of a segment.
pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08x}.{SEGMENT}"))
}

/// The file of the index of a segment.
pub(super) fn index_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08x}.{INDEX}"))
}

/// The number in the name of a segment.
pub(super) fn number_of(path: &Path) -> Option<u32> {
    let is_segment = path.extension().is_some_and(|it| it == SEGMENT);
    let stem = path.file_stem()?.to_str()?;
    let is_number = is_segment && stem.len() == 8;
    u32::from_str_radix(stem, 16).ok().filter(|_| is_number)
}

/// Why a file of traces can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A newer program wrote it.
    #[error(
        "{} has format {found} of traces, and this version of postrider reads up to {VERSION}; \
         move the folder away, or use the newer version",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

impl FileError {
    /// An error of the disk, with the file.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Io { path, error }
    }
}

/// The header of a file with this magic text.
pub(super) fn header(magic: &[u8; 8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (name, version) = header.split_at_mut(8);
    name.copy_from_slice(magic);
    version.copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// The version in the header that bytes begin with. None: it is not the header of such a file.
pub(super) fn check_header(
    path: &Path,
    magic: &[u8; 8],
    bytes: &[u8],
) -> Result<Option<u32>, FileError> {
    let mut from = Reader(bytes);
    if from.take(8) != Some(magic) {
        return Ok(None);
    }
    match from.u32() {
        Some(found) if found > VERSION => Err(FileError::Newer {
            path: path.to_owned(),
            found,
        }),
        found => Ok(found.filter(|found| *found > 0)),
    }
}

/// A segment that gets traces.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u32,
    path: PathBuf,
    file: File,
    /// What of it is whole, in bytes.
    pub(super) length: u64,
    pub(super) index: Index,
    buffer: Vec<u8>,
}

impl Open {
    /// A new segment.
    pub(super) fn create(dir: &Path, number: u32) -> Result<Self, FileError> {
        let path = segment_path(dir, number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let mut file = file.map_err(FileError::io(&path))?;
        if let Err(error) = file.write_all(&header(MAGIC)) {
            // Each try would leave a file. If that fails too, the next start removes it.
            let _ = std::fs::remove_file(&path);
            return Err(FileError::io(&path)(error));
        }
        Ok(Self {
            number,
            path,
            file,
            length: HEADER as u64,
            index: Index::default(),
            buffer: Vec::new(),
        })
    }

    /// Reads a segment without an index. What is damaged is left out.
    pub(super) fn read(dir: &Path, number: u32) -> Result<Self, FileError> {
        let path = segment_path(dir, number);
        let file = OpenOptions::new().read(true).open(&path);
        let file = file.map_err(FileError::io(&path))?;
        let (index, length) = read_all(&path, &file)?;
        Ok(Self {
            number,
            path,
            file,
            length,
            index,
            buffer: Vec::new(),
        })
    }

    /// How much room it takes, with its index.
    pub(super) fn size(&self) -> u64 {
        self.length + self.index.size()
    }

    /// Adds traces with one write. If it fails, none of them is there.
    pub(super) fn add<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Record> + Clone,
    ) -> io::Result<()> {
        self.buffer.clear();
        for record in records.clone() {
            let start = self.buffer.len();
            self.buffer.extend_from_slice(&[0; CHUNK_HEAD]);
            record.write(&mut self.buffer);
            let (_, chunk) = self.buffer.split_at_mut(start);
            if let Some((head, bytes)) = chunk.split_first_chunk_mut::<CHUNK_HEAD>() {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let (first, second) = head.split_at_mut(4);
                first.copy_from_slice(&length.to_le_bytes());
                second.copy_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
            }
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&self.buffer)?;
        let mut rest = Reader(&self.buffer);
        for record in records {
            let length = rest.u32().unwrap_or_default() as usize;
            self.index.add(self.length, record);
            self.length += (CHUNK_HEAD + length) as u64;
            rest.take(CHUNK_HEAD - 4 + length);
        }
        // A burst does not keep its memory.
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Cuts what is torn, syncs the segment, and writes its index.
    pub(super) fn seal(&self, dir: &Path) -> Result<(), FileError> {
        let file = OpenOptions::new().write(true).open(&self.path);
        let file = file.map_err(FileError::io(&self.path))?;
        let cut = file.set_len(self.length).and_then(|()| file.sync_all());
        cut.map_err(FileError::io(&self.path))?;
        let path = index_path(dir, self.number);
        let new = path.with_extension(UNFINISHED);
        let written = self
            .write_index(&new)
            .and_then(|()| std::fs::rename(&new, &path));
        if let Err(error) = written {
            // Without an index, the next start finds the segment and makes one.
            let _ = std::fs::remove_file(&new);
            return Err(FileError::io(&new)(error));
        }
        // The names are durable when the folder is.
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(FileError::io(dir))
    }

    fn write_index(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        self.index.write(self.length, &mut file)?;
        file.sync_all()
    }
}

/// The index of a segment, and where the last chunk that is whole ends.
fn read_all(path: &Path, file: &File) -> Result<(Index, u64), FileError> {
    let mut index = Index::default();
    let mut head = [0; HEADER];
    let has_head = match file.read_exact_at(&mut head, 0) {
        Ok(()) => check_header(path, MAGIC, &head)?.is_some(),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(FileError::io(path)(error)),
    };
    if !has_head {
        return Ok((index, 0));
    }
    let (mut length, mut next) = (HEADER as u64, HEADER as u64);
    let mut bytes = Vec::new();
    loop {
        let mut from = file;
        from.seek(SeekFrom::Start(next))
            .map_err(FileError::io(path))?;
        let mut reader = io::BufReader::with_capacity(1 << 18, from);
        while let Some(record) =
            next_record(&mut reader, &mut bytes).map_err(FileError::io(path))?
        {
            index.add(next, &record);
            next += (CHUNK_HEAD + bytes.len()) as u64;
            length = next;
        }
        let found = find_chunk(file, next + 1);
        match found.map_err(FileError::io(path))? {
            Some(place) => next = place,
            None => return Ok((index, length)),
        }
    }
}

/// The first place from this one on where a whole chunk begins.
fn find_chunk(file: &File, from: u64) -> io::Result<Option<u64>> {
    const HEAD: usize = CHUNK_HEAD + RECORD_MIN;
    let mut bytes = Vec::with_capacity(LOOK);
    let mut start = from;
    loop {
        bytes.clear();
        let mut file = file;
        file.seek(SeekFrom::Start(start))?;
        file.take(LOOK as u64).read_to_end(&mut bytes)?;
        if bytes.len() < HEAD {
            return Ok(None);
        }
        for (at, head) in bytes.windows(HEAD).enumerate() {
            let place = start + at as u64;
            if may_begin(head) && read_whole(file, place)?.is_some() {
                return Ok(Some(place));
            }
        }
        start += (bytes.len() - HEAD + 1) as u64;
    }
}

/// Whether bytes look like the beginning of a chunk. Nearly all others do not.
fn may_begin(head: &[u8]) -> bool {
    let mut from = Reader(head);
    let length = from.u32().unwrap_or_default() as usize;
    from.take(4);
    let (kind, flags) = (from.u8(), from.u8());
    let small = |number: Option<u64>| number.is_some_and(|number| number < 1 << 56);
    (RECORD_MIN..=RECORD_MAX).contains(&length)
        && kind.is_some_and(|kind| usize::from(kind) < Kind::ALL.len())
        && flags.is_some_and(|flags| flags < 16)
        && (0..3).all(|_| small(from.u64()))
}

/// The record at an offset. None: there is none, or it is damaged or torn.
fn read_whole(file: &File, offset: u64) -> io::Result<Option<Record>> {
    match read_at(file, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read,
    }
}

/// The next record, with its bytes in `bytes`. None: the end, or what follows is torn.
fn next_record(from: &mut impl io::Read, bytes: &mut Vec<u8>) -> io::Result<Option<Record>> {
    let mut head = Vec::with_capacity(CHUNK_HEAD);
    from.take(CHUNK_HEAD as u64).read_to_end(&mut head)?;
    let mut head = Reader(&head);
    let (Some(length), Some(checksum)) = (head.u32(), head.u32()) else {
        return Ok(None);
    };
    bytes.clear();
    if length as usize > RECORD_MAX {
        return Ok(None);
    }
    from.take(u64::from(length)).read_to_end(bytes)?;
    Ok(whole(bytes, length, checksum))
}

/// The record with these bytes, if they are whole.
fn whole(bytes: &[u8], length: u32, checksum: u32) -> Option<Record> {
    let is_whole = bytes.len() == length as usize && crc32c::crc32c(bytes) == checksum;
    Record::read(bytes).filter(|_| is_whole)
}

/// The kind and the number of the record at an offset of a segment, without a look at the rest.
/// None: it is damaged.
pub(super) fn read_number_at(file: &File, offset: u64) -> io::Result<Option<Record>> {
    let mut bytes = [0; 2 + size_of::<u64>()];
    file.read_exact_at(&mut bytes, offset + CHUNK_HEAD as u64)?;
    Ok(Record::read_number(&bytes))
}

/// The record at an offset of a segment. None: it is damaged.
pub(super) fn read_at(file: &File, offset: u64) -> io::Result<Option<Record>> {
    let mut head = [0; CHUNK_HEAD];
    file.read_exact_at(&mut head, offset)?;
    let mut from = Reader(&head);
    let (Some(length), Some(checksum)) = (from.u32(), from.u32()) else {
        return Ok(None);
    };
    if length as usize > RECORD_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset + CHUNK_HEAD as u64)?;
    Ok(whole(&bytes, length, checksum))
}
