//! Large texts. Each has a file of its own, beside the journal.
//!
//! A text above [`crate::INLINE_TEXT_MAX`] is written to its file while it arrives, so that it
//! never delays a batch of small texts. The file is `texts/NN/ID`: `ID` in 16 hexadecimal digits,
//! `NN` its last two. All folders are made when the store is opened. A file that no
//! record refers to stays when the process dies before the message is accepted, or before a removal
//! is done. The next process finds it among its [old files](TextFiles::each_old).

use std::{
    collections::BTreeSet,
    fmt, io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskFile, Open};

const DIR: &str = "texts";
/// The bytes that are collected before a write.
const BUFFER: usize = 64 * 1024;
/// The bytes of a text that are read at once to check it.
const PIECE: usize = 1 << 20;

fn folder(id: u64) -> String {
    format!("{DIR}/{:02x}", id & 0xff)
}

/// The path of a file below the data folder.
pub(crate) fn name(id: u64) -> String {
    format!("{DIR}/{:02x}/{id:016x}", id & 0xff)
}

/// The file of a text, as a record keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TextFilePlace {
    /// The number in its name.
    pub file: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The CRC-32C of its bytes.
    pub crc: u32,
}

/// The folder of text files. Clones are the same folder.
#[derive(Clone, Debug)]
pub struct TextFiles {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    /// The number of the first new file.
    first: u64,
    next: AtomicU64,
    /// Bytes of the disk that the files leave free.
    min_free: u64,
}

impl Inner {
    /// Fails if so many more bytes would take the space that stays free.
    fn check_room(&self, bytes: usize) -> io::Result<()> {
        let wanted = self.min_free.saturating_add(bytes as u64);
        match self.disk.free()? < wanted {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    /// Whether the file was made since the folder was opened. The numbers may begin again at zero.
    fn is_new(&self, file: u64) -> bool {
        let count = self.next.load(Ordering::Relaxed).wrapping_sub(self.first);
        file.wrapping_sub(self.first) < count
    }
}

impl TextFiles {
    /// Opens the folder, or makes it, with all its subfolders. New files get numbers from `first`
    /// on. A number must not be used twice, not even after a restart, because the journal may refer
    /// to a file that was removed. So give a random number. New files leave `min_free` bytes of the
    /// disk free.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn open(disk: Arc<dyn Disk>, first: u64, min_free: u64) -> io::Result<Self> {
        disk.create_dir(DIR)?;
        disk.sync_dir("")?;
        let there: BTreeSet<String> = disk.list(DIR)?.into_iter().collect();
        for number in 0..=u64::from(u8::MAX) {
            if !there.contains(&format!("{number:02x}")) {
                disk.create_dir(&folder(number))?;
            }
        }
        // Also for folders that a process made and did not sync before it was killed.
        disk.sync_dir(DIR)?;
        Ok(Self {
            inner: Arc::new(Inner {
                disk,
                first,
                next: AtomicU64::new(first),
                min_free,
            }),
        })
    }

    /// Begins a file.
    ///
    /// # Errors
    /// `StorageFull` if the disk has only the bytes that stay free. All other errors of the system.
    pub fn create(&self) -> io::Result<TextFileWriter> {
        self.inner.check_room(0)?;
        loop {
            let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
            match self.inner.disk.open(&name(id), Open::New) {
                Ok(file) => {
                    let guard = TextFile {
                        place: TextFilePlace {
                            file: id,
                            len: 0,
                            crc: 0,
                        },
                        owner: Some(Arc::clone(&self.inner)),
                    };
                    return Ok(TextFileWriter {
                        file,
                        buffer: Vec::new(),
                        guard,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens a text for reading. A removal does not disturb the reader.
    ///
    /// # Errors
    /// `NotFound` if there is no such file. All other errors of the system.
    pub fn read(&self, place: TextFilePlace) -> io::Result<TextFileReader> {
        let file = self.inner.disk.open(&name(place.file), Open::Existing)?;
        Ok(TextFileReader { place, file })
    }

    /// Removes a text that no record refers to. It is not an error if the file does not exist.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn remove(&self, file: u64) -> io::Result<()> {
        match self.inner.disk.remove(&name(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Calls `each` with the number of each file that was there when the folder was opened, until
    /// it gives an error. Files that were made since then are left out.
    ///
    /// # Errors
    /// That of `each`. [`io::Error`]s when it lists the folders.
    pub fn each_old<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        list(&*self.inner.disk, |id, _| match self.inner.is_new(id) {
            true => Ok(()),
            false => each(id),
        })
    }
}

/// Calls `each` with the number and the path of every file of a text, until it gives an error. A
/// folder without texts has none.
pub(crate) fn list<E: From<io::Error>>(
    disk: &dyn Disk,
    mut each: impl FnMut(u64, &str) -> Result<(), E>,
) -> Result<(), E> {
    let folders = match disk.list(DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        folders => folders?,
    };
    for folder in folders.iter().filter(|folder| folder.len() == 2) {
        for file in disk.list(&format!("{DIR}/{folder}"))? {
            let path = format!("{DIR}/{folder}/{file}");
            // Other files are not ours.
            match u64::from_str_radix(&file, 16) {
                Ok(id) if name(id) == path => each(id, &path)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Reads a text to its end, in pieces, and compares length and checksum.
pub(crate) fn check(disk: &dyn Disk, place: TextFilePlace) -> io::Result<()> {
    let file = disk.open(&name(place.file), Open::Existing)?;
    let size = file.size()?;
    if size != place.len {
        let what = format!(
            "{} has {size} bytes instead of {}",
            name(place.file),
            place.len
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let (mut at, mut crc) = (0, 0);
    let mut piece = vec![0; PIECE];
    while at < size {
        let len = usize::try_from(size - at).map_or(PIECE, |left| left.min(PIECE));
        let piece = piece.get_mut(..len).unwrap_or_default();
        file.read_at(piece, at)?;
        crc = crc32c::crc32c_append(crc, piece);
        at += len as u64;
    }
    TextFileReader { place, file }.check(crc)
}

/// A text while it arrives. If the value is dropped before [`finish`](Self::finish), the file is
/// removed.
pub struct TextFileWriter {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    guard: TextFile,
}

impl fmt::Debug for TextFileWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextFileWriter")
            .field("place", &self.guard.place)
            .finish_non_exhaustive()
    }
}

impl TextFileWriter {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// `StorageFull` if the bytes would take the space that stays free. All other errors of the
    /// system. After an error the writer can only be dropped.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let place = &mut self.guard.place;
        place.crc = crc32c::crc32c_append(place.crc, bytes);
        place.len += bytes.len() as u64;
        if self.buffer.len() + bytes.len() < BUFFER {
            self.buffer.extend(bytes);
            return Ok(());
        }
        let more = self.buffer.len() + bytes.len();
        let at = place.len - more as u64;
        if let Some(owner) = &self.guard.owner {
            owner.check_room(more)?;
        }
        self.file.write_at(&self.buffer, at)?;
        self.file.write_at(bytes, at + self.buffer.len() as u64)?;
        self.buffer.clear();
        Ok(())
    }

    /// The bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.guard.place.len
    }

    /// Whether there are no bytes so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the file and its name durable.
    ///
    /// # Errors
    /// The errors of the system. After an error the file is removed.
    pub fn finish(mut self) -> io::Result<TextFile> {
        self.flush()?;
        self.file.sync_all()?;
        if let Some(owner) = &self.guard.owner {
            owner.disk.sync_dir(&folder(self.guard.place.file))?;
        }
        Ok(self.guard)
    }

    /// Ends the text without making it durable, for a reader that needs it for a while only.
    ///
    /// # Errors
    /// The errors of the system. After an error the file is removed.
    pub fn finish_for_now(mut self) -> io::Result<(TextFile, TextFileReader)> {
        self.flush()?;
        let reader = TextFileReader {
            place: self.guard.place,
            file: self.file,
        };
        Ok((self.guard, reader))
    }

    /// Writes what is in memory, and frees the memory.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        self.flush()?;
        self.buffer = Vec::new();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let at = self.guard.place.len - self.buffer.len() as u64;
            self.file.write_at(&self.buffer, at)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// A text in a file that no record refers to yet. If the value is dropped, the file is removed,
/// unless it was [kept](Self::keep).
pub struct TextFile {
    place: TextFilePlace,
    owner: Option<Arc<Inner>>,
}

impl fmt::Debug for TextFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TextFile").field(&self.place).finish()
    }
}

impl TextFile {
    /// The place that a record keeps.
    #[must_use]
    pub const fn place(&self) -> TextFilePlace {
        self.place
    }

    /// Keeps the file, because a record refers to it now.
    pub fn keep(mut self) -> TextFilePlace {
        self.owner = None;
        self.place
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take()
            && let Err(error) = owner.disk.remove(&name(self.place.file))
        {
            // The next process finds it.
            tracing::warn!(text = self.place.file, %error, "text not removed");
        }
    }
}

/// The file of a text, open for reading.
#[derive(Debug)]
pub struct TextFileReader {
    place: TextFilePlace,
    file: Box<dyn DiskFile>,
}

impl TextFileReader {
    /// The place of the text.
    #[must_use]
    pub const fn place(&self) -> TextFilePlace {
        self.place
    }

    /// Compares the checksum of what was read with that of the text.
    ///
    /// # Errors
    /// `InvalidData` if they differ.
    pub fn check(&self, crc: u32) -> io::Result<()> {
        if crc == self.place.crc {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged", name(self.place.file)),
        ))
    }

    /// Reads a part. A range beyond the end of the text is cut. A read of the whole text also
    /// checks its checksum.
    ///
    /// # Errors
    /// `InvalidData` if the checksum is wrong. All other errors of the system.
    pub fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let end = range.end.min(self.place.len);
        let start = range.start.min(end);
        let len = usize::try_from(end - start).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; len];
        self.file.read_at(&mut bytes, start)?;
        if start == 0 && end == self.place.len {
            self.check(crc32c::crc32c(&bytes))?;
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FsDisk, sim::SimDisk};

    fn write(files: &TextFiles, text: &[u8], piece: usize) -> TextFile {
        let mut writer = files.create().unwrap();
        for piece in text.chunks(piece) {
            writer.write(piece).unwrap();
        }
        assert_eq!(writer.len(), text.len() as u64);
        writer.finish().unwrap()
    }

    #[test]
    fn a_text_is_read_back_for_any_size_of_pieces() {
        let folder = tempfile::tempdir().unwrap();
        for disk in [
            SimDisk::new(1).disk(),
            Arc::new(FsDisk::open(folder.path()).unwrap()),
        ] {
            let files = TextFiles::open(disk, 0xfffe, 0).unwrap();
            let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
            for piece in [1000, 4096, BUFFER, 1_000_000, text.len()] {
                let place = write(&files, &text, piece).keep();
                assert_eq!(
                    (place.len, place.crc),
                    (text.len() as u64, crc32c::crc32c(&text))
                );
                let reader = files.read(place).unwrap();
                assert_eq!(reader.read(0..u64::MAX).unwrap(), text);
                assert_eq!(reader.read(70_000..70_010).unwrap(), text[70_000..70_010]);
                assert_eq!(reader.read(place.len..place.len + 5).unwrap(), "");
                files.remove(place.file).unwrap();
                files.remove(place.file).unwrap();
                assert_eq!(
                    reader.read(5..9).unwrap(),
                    text[5..9],
                    "a reader goes on after the removal"
                );
                assert_eq!(
                    files.read(place).unwrap_err().kind(),
                    io::ErrorKind::NotFound
                );
            }
        }
    }

    #[test]
    fn a_finished_text_survives_a_power_cut() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let files = TextFiles::open(disk.disk(), seed, 0).unwrap();
            let place = write(&files, &[9; 100_000], 5000).keep();
            disk.crash();
            let files = TextFiles::open(disk.disk(), 1000, 0).unwrap();
            assert_eq!(
                files.read(place).unwrap().read(0..100_000).unwrap(),
                [9; 100_000].as_slice()
            );
        }
    }

    #[test]
    fn the_files_leave_some_space_free() {
        let disk = SimDisk::new(1);
        let files = TextFiles::open(disk.disk(), 1, 100_000).unwrap();
        let mut writer = files.create().unwrap();
        disk.set_space(Some(250_000));
        writer.write(&[1; 100_000]).unwrap();
        let full = writer.write(&[1; 100_000]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.disk().free().unwrap(), 150_000);
        drop(writer);
        disk.set_space(Some(99_999));
        let full = files.create().unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn each_folder_survives_a_power_cut_after_the_process_that_made_it() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            // The first process is killed while it makes the folders.
            disk.fail_power_after(seed * 5);
            TextFiles::open(disk.disk(), 1, 0).unwrap_err();
            disk.kill();
            let files = TextFiles::open(disk.disk(), 1, 0).unwrap();
            let place = write(&files, b"text", 10).keep();
            disk.crash();
            let files = TextFiles::open(disk.disk(), 1000, 0).unwrap();
            assert_eq!(files.read(place).unwrap().read(0..4).unwrap(), "text");
            assert_eq!(disk.list(DIR).unwrap().len(), 256);
        }
    }

    #[test]
    fn a_text_without_a_record_is_removed() {
        let disk = SimDisk::new(1);
        let files = TextFiles::open(disk.disk(), 0x1_2345, 0).unwrap();
        let mut writer = files.create().unwrap();
        writer.write(b"begun").unwrap();
        assert!(disk.content("texts/45/0000000000012345").is_some());
        drop(writer);
        drop(write(&files, b"finished", 100));
        assert_eq!(disk.list("texts/45").unwrap(), [""; 0]);
        assert_eq!(disk.list("texts/46").unwrap(), [""; 0]);
        // A number with a file is skipped.
        disk.set_content("texts/47/0000000000012347", b"other");
        assert_eq!(write(&files, b"new", 100).keep().file, 0x1_2348);
    }

    #[test]
    fn old_files_are_those_of_earlier_processes() {
        let disk = SimDisk::new(1);
        let files = TextFiles::open(disk.disk(), 1, 0).unwrap();
        let old = [(); 3].map(|()| write(&files, b"text", 10).keep().file);
        disk.set_content("texts/01/notes", b"mine");
        let found = |files: &TextFiles| {
            let mut found = BTreeSet::new();
            let each = |file| {
                found.insert(file);
                io::Result::Ok(())
            };
            files.each_old(each).unwrap();
            found
        };
        assert!(found(&files).is_empty());
        // The numbers begin again at zero.
        let files = TextFiles::open(disk.disk(), u64::MAX, 0).unwrap();
        let new = [(); 2].map(|()| write(&files, b"new", 10).keep().file);
        assert_eq!(new, [u64::MAX, 0]);
        assert_eq!(found(&files), BTreeSet::from(old));
        let ends = |_| Err(io::ErrorKind::Interrupted.into());
        assert!(files.each_old::<io::Error>(ends).is_err());
    }

    #[test]
    fn a_changed_text_is_an_error() {
        let disk = SimDisk::new(1);
        let files = TextFiles::open(disk.disk(), 1, 0).unwrap();
        let place = write(&files, b"text", 10).keep();
        disk.set_content(&name(place.file), b"texT");
        let reader = files.read(place).unwrap();
        assert_eq!(
            reader.read(0..4).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(reader.read(0..3).unwrap(), "tex");
    }
}
