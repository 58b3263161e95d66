//! Large bodies: a file each, beside the journal.
//!
//! A body above [`crate::journal`]'s inline limit is written to its file while it arrives, so that it never delays a batch
//! of small ones. Files are `bodies/NN/ID`: `ID` in 16 hexadecimal digits, `NN` its last two. A file that nothing refers to
//! (the process died before the message was accepted, or before a removal was done) is found by [`TextFiles::sweep`].

use std::{
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

const DIR: &str = "bodies";
/// Bytes gathered before they are written.
const BUFFER: usize = 64 * 1024;

fn folder(id: u64) -> String {
    format!("{DIR}/{:02x}", id & 0xff)
}

fn name(id: u64) -> String {
    format!("{DIR}/{:02x}/{id:016x}", id & 0xff)
}

/// A body's file, as a record keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TextFilePlace {
    /// Its name.
    pub file: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The CRC-32C of its bytes.
    pub crc: u32,
}

/// The folder of body files. Clones are the same.
#[derive(Clone, Debug)]
pub struct TextFiles {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    next: AtomicU64,
}

impl TextFiles {
    /// Opens the folder, making it if it is not there. New files get numbers from `first` on. A number must not be used
    /// twice, also not after a restart, since the journal may still speak of a file that is no more: so give a random one.
    ///
    /// # Errors
    /// Whatever the system reports.
    pub fn open(disk: Arc<dyn Disk>, first: u64) -> io::Result<Self> {
        disk.create_dir(DIR)?;
        disk.sync_dir("")?;
        Ok(Self {
            inner: Arc::new(Inner {
                disk,
                next: AtomicU64::new(first),
            }),
        })
    }

    /// Begins a file.
    ///
    /// # Errors
    /// Whatever the system reports.
    pub fn create(&self) -> io::Result<TextFileWriter> {
        let disk = &self.inner.disk;
        loop {
            let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
            let file = match disk.open(&name(id), Open::New) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    disk.create_dir(&folder(id))?;
                    disk.sync_dir(DIR)?;
                    disk.open(&name(id), Open::New)
                }
                result => result,
            };
            match file {
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

    /// Opens a body for reading. It can be read also when it is removed meanwhile.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, and whatever the system reports.
    pub fn read(&self, place: TextFilePlace) -> io::Result<TextFileReader> {
        let file = self.inner.disk.open(&name(place.file), Open::Existing)?;
        Ok(TextFileReader { place, file })
    }

    /// Removes a body that nothing refers to any more. It is no error if it is gone already.
    ///
    /// # Errors
    /// Whatever the system reports.
    pub fn remove(&self, file: u64) -> io::Result<()> {
        match self.inner.disk.remove(&name(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Removes all files for which `keep` says false, and tells how many. For the start, before new ones are made.
    ///
    /// # Errors
    /// Whatever the system reports.
    pub fn sweep(&self, mut keep: impl FnMut(u64) -> bool) -> io::Result<u64> {
        let disk = &self.inner.disk;
        let mut removed = 0;
        for dir in disk.list(DIR)? {
            if dir.len() != 2 {
                continue;
            }
            for file in disk.list(&format!("{DIR}/{dir}"))? {
                let Ok(id) = u64::from_str_radix(&file, 16) else {
                    continue;
                };
                // Anything else is not ours.
                if name(id) == format!("{DIR}/{dir}/{file}") && !keep(id) {
                    self.remove(id)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

/// A body while it arrives. Dropped before [`finish`](Self::finish), the file is removed.
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
    /// Adds to the end.
    ///
    /// # Errors
    /// Whatever the system reports. The file can only be dropped then.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let place = &mut self.guard.place;
        place.crc = crc32c::crc32c_append(place.crc, bytes);
        place.len += bytes.len() as u64;
        if self.buffer.len() + bytes.len() < BUFFER {
            self.buffer.extend(bytes);
            return Ok(());
        }
        let at = place.len - (self.buffer.len() + bytes.len()) as u64;
        self.file.write_at(&self.buffer, at)?;
        self.file.write_at(bytes, at + self.buffer.len() as u64)?;
        self.buffer.clear();
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.guard.place.len
    }

    /// Whether there are none so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the file durable, its name too.
    ///
    /// # Errors
    /// Whatever the system reports. The file is removed then.
    pub fn finish(mut self) -> io::Result<TextFile> {
        self.flush()?;
        self.file.sync_all()?;
        if let Some(owner) = &self.guard.owner {
            owner.disk.sync_dir(&folder(self.guard.place.file))?;
        }
        Ok(self.guard)
    }

    /// Ends the text for one who only wants to read it for a while. It is not durable.
    ///
    /// # Errors
    /// Whatever the system reports. The file is removed then.
    pub fn finish_for_now(mut self) -> io::Result<(TextFile, TextFileReader)> {
        self.flush()?;
        let reader = TextFileReader {
            place: self.guard.place,
            file: self.file,
        };
        Ok((self.guard, reader))
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

/// A body in a file of its own that no record refers to yet. Dropped, the file is removed, unless it was
/// [kept](Self::keep).
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
    /// What a record keeps.
    #[must_use]
    pub const fn place(&self) -> TextFilePlace {
        self.place
    }

    /// Leaves the file where it is: a record refers to it now.
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
            // It is swept at the next start.
            tracing::warn!(file = name(self.place.file), %error, "a body that was not accepted could not be removed");
        }
    }
}

/// A body's file, open for reading.
#[derive(Debug)]
pub struct TextFileReader {
    place: TextFilePlace,
    file: Box<dyn DiskFile>,
}

impl TextFileReader {
    /// What it is.
    #[must_use]
    pub const fn place(&self) -> TextFilePlace {
        self.place
    }

    /// Reads a part, cut at the body's end. A read of the whole also checks that it is what was written.
    ///
    /// # Errors
    /// `InvalidData` if it is not, and whatever the system reports.
    pub fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let end = range.end.min(self.place.len);
        let start = range.start.min(end);
        let len = usize::try_from(end - start).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; len];
        self.file.read_at(&mut bytes, start)?;
        if start == 0 && end == self.place.len && crc32c::crc32c(&bytes) != self.place.crc {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is damaged", name(self.place.file)),
            ));
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FsDisk, sim::SimDisk};

    fn write(bodies: &TextFiles, body: &[u8], piece: usize) -> TextFile {
        let mut writer = bodies.create().unwrap();
        for piece in body.chunks(piece) {
            writer.write(piece).unwrap();
        }
        assert_eq!(writer.len(), body.len() as u64);
        writer.finish().unwrap()
    }

    #[test]
    fn a_body_is_read_back_however_it_came() {
        let folder = tempfile::tempdir().unwrap();
        for disk in [
            SimDisk::new(1).disk(),
            Arc::new(FsDisk::open(folder.path()).unwrap()),
        ] {
            let bodies = TextFiles::open(disk, 0xfffe).unwrap();
            let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
            for piece in [1000, 4096, BUFFER, 1_000_000, body.len()] {
                let place = write(&bodies, &body, piece).keep();
                assert_eq!(
                    (place.len, place.crc),
                    (body.len() as u64, crc32c::crc32c(&body))
                );
                let reader = bodies.read(place).unwrap();
                assert_eq!(reader.read(0..u64::MAX).unwrap(), body);
                assert_eq!(reader.read(70_000..70_010).unwrap(), body[70_000..70_010]);
                assert_eq!(reader.read(place.len..place.len + 5).unwrap(), "");
                bodies.remove(place.file).unwrap();
                bodies.remove(place.file).unwrap();
                assert_eq!(
                    reader.read(5..9).unwrap(),
                    body[5..9],
                    "who reads it goes on"
                );
                assert_eq!(
                    bodies.read(place).unwrap_err().kind(),
                    io::ErrorKind::NotFound
                );
            }
        }
    }

    #[test]
    fn a_finished_body_survives_a_power_cut() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let bodies = TextFiles::open(disk.disk(), seed).unwrap();
            let place = write(&bodies, &[9; 100_000], 5000).keep();
            disk.crash();
            let bodies = TextFiles::open(disk.disk(), 1000).unwrap();
            assert_eq!(
                bodies.read(place).unwrap().read(0..100_000).unwrap(),
                [9; 100_000].as_slice()
            );
        }
    }

    #[test]
    fn a_body_that_nobody_took_goes() {
        let disk = SimDisk::new(1);
        let bodies = TextFiles::open(disk.disk(), 0x1_2345).unwrap();
        let mut writer = bodies.create().unwrap();
        writer.write(b"begun").unwrap();
        assert!(disk.content("bodies/45/0000000000012345").is_some());
        drop(writer);
        drop(write(&bodies, b"finished", 100));
        assert_eq!(disk.list("bodies/45").unwrap(), [""; 0]);
        assert_eq!(disk.list("bodies/46").unwrap(), [""; 0]);
        // A number that is taken is passed over.
        disk.set_content("bodies/47/0000000000012347", b"other");
        assert_eq!(write(&bodies, b"new", 100).keep().file, 0x1_2348);
    }

    #[test]
    fn a_sweep_removes_what_nothing_refers_to() {
        let disk = SimDisk::new(1);
        let bodies = TextFiles::open(disk.disk(), 1).unwrap();
        let places: Vec<_> = (0..5).map(|_| write(&bodies, b"body", 10).keep()).collect();
        disk.set_content("bodies/01/notes", b"mine");
        let kept = places[2];
        assert_eq!(bodies.sweep(|file| file == kept.file).unwrap(), 4);
        assert_eq!(bodies.sweep(|file| file == kept.file).unwrap(), 0);
        assert_eq!(bodies.read(kept).unwrap().read(0..4).unwrap(), "body");
        assert!(disk.content("bodies/01/notes").is_some());
    }

    #[test]
    fn a_changed_body_is_not_given_out() {
        let disk = SimDisk::new(1);
        let bodies = TextFiles::open(disk.disk(), 1).unwrap();
        let place = write(&bodies, b"body", 10).keep();
        disk.set_content(&name(place.file), b"bodY");
        let reader = bodies.read(place).unwrap();
        assert_eq!(
            reader.read(0..4).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(reader.read(0..3).unwrap(), "bod");
    }
}
