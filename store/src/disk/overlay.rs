//! A folder that is read and never changed.
//!
//! Bytes that are written stay in memory, so a database that mends itself when it is opened can be
//! looked at. Names do not change: a rename or a removal does nothing.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile, DiskLock, FsDisk, FsLock, NO_LINKS, Open};

/// The bytes that are kept together.
const PAGE: usize = 4096;

/// A folder of the file system that stays as it is.
#[derive(Debug)]
pub(crate) struct Overlay {
    disk: FsDisk,
}

impl Overlay {
    /// The folder with this path, which must exist.
    pub(crate) fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        std::fs::read_dir(&root)?;
        let disk = FsDisk { root };
        Ok(Self { disk })
    }

    fn read(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(NO_LINKS)
            .open(self.disk.path(name))
    }
}

impl Disk for Overlay {
    fn open(&self, name: &str, open: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = match self.read(name) {
            _ if open == Open::New => None,
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && open == Open::Either => None,
            Err(error) => return Err(error),
        };
        let size = match &file {
            Some(file) => file.metadata()?.len(),
            None => 0,
        };
        let written = Mutex::new(Written {
            size,
            below: size,
            pages: BTreeMap::new(),
        });
        Ok(Box::new(OverlayFile { file, written }))
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// A folder that no process ever opened has no file to lock.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>> {
        let file = match self.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Box::new(NoLock)));
            }
            file => file?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(FsLock { _file: file }))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct NoLock;

impl DiskLock for NoLock {}

/// A file with what was written to it.
#[derive(Debug)]
struct OverlayFile {
    /// None: there is no such file on the disk.
    file: Option<File>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    size: u64,
    /// The bytes from the beginning that still are those of the file.
    below: u64,
    /// The pages that were written to, by number.
    pages: BTreeMap<u64, Vec<u8>>,
}

impl OverlayFile {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `buf` with bytes of the file on the disk, and with zeros behind its end.
    fn read_below(&self, below: u64, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let there = usize::try_from(below.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (there, zeros) = buf.split_at_mut(there.min(buf.len()));
        if let Some(file) = self.file.as_ref().filter(|_| !there.is_empty()) {
            file.read_exact_at(there, offset)?;
        }
        zeros.fill(0);
        Ok(())
    }
}

/// The pages that `len` bytes from `offset` on touch: the number of each, the first byte in it, and
/// the bytes of the run that lie in it.
fn pages(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = usize::try_from(at % PAGE as u64).unwrap_or(0);
        let end = len.min(done + PAGE - start);
        (done < len).then(|| {
            let part = done..end;
            done = end;
            (at / PAGE as u64, start, part)
        })
    })
}

impl DiskFile for OverlayFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let written = self.written();
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > written.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_below(written.below, buf, offset)?;
        if written.pages.is_empty() {
            return Ok(());
        }
        for (number, start, part) in pages(offset, buf.len()) {
            let len = part.len();
            let page = written.pages.get(&number);
            let bytes = page.and_then(|page| page.get(start..start + len));
            if let (Some(bytes), Some(part)) = (bytes, buf.get_mut(part)) {
                part.copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let mut written = self.written();
        for (number, start, part) in pages(offset, buf.len()) {
            if !written.pages.contains_key(&number) {
                let mut page = vec![0; PAGE];
                self.read_below(written.below, &mut page, number * PAGE as u64)?;
                written.pages.insert(number, page);
            }
            let len = part.len();
            let page = written.pages.get_mut(&number);
            let place = page.and_then(|page| page.get_mut(start..start + len));
            if let (Some(place), Some(bytes)) = (place, buf.get(part)) {
                place.copy_from_slice(bytes);
            }
        }
        written.size = written.size.max(offset + buf.len() as u64);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.written().size)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut written = self.written();
        written.size = size;
        written.below = written.below.min(size);
        let last = size / PAGE as u64;
        written.pages.retain(|number, _| *number <= last);
        let start = usize::try_from(size % PAGE as u64).unwrap_or(0);
        if let Some(page) = written.pages.get_mut(&last) {
            page.iter_mut().skip(start).for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_back_and_the_folder_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
        std::fs::write(folder.path().join("file"), &content).unwrap();
        let disk = Overlay::open(folder.path()).unwrap();
        let file = disk.open("file", Open::Existing).unwrap();
        let mut model = content.clone();
        let mut seed = 7_usize;
        for round in 0..300_usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (at, len) = ((seed >> 20) % 15_000, (seed >> 40) % 9_000);
            if round % 40 == 39 {
                file.set_size(at as u64).unwrap();
                model.resize(at, 0);
            } else {
                let bytes = vec![round as u8; len];
                file.write_at(&bytes, at as u64).unwrap();
                if len > 0 {
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].copy_from_slice(&bytes);
                }
            }
            assert_eq!(file.size().unwrap(), model.len() as u64);
            let mut read = vec![1; model.len()];
            file.read_at(&mut read, 0).unwrap();
            assert!(read == model, "round {round}");
            let mut beyond = [0; 2];
            let end = model.len() as u64 - 1;
            assert!(file.read_at(&mut beyond, end).is_err());
        }
        disk.open("new", Open::New)
            .unwrap()
            .write_at(b"x", 0)
            .unwrap();
        disk.remove("file").unwrap();
        disk.rename("file", "other").unwrap();
        disk.create_dir("folder").unwrap();
        assert_eq!(disk.list("").unwrap(), ["file"]);
        assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), content);
        let missing = disk.open("none", Open::Existing).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_folder_that_is_in_use_gives_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Overlay::open(folder.path()).unwrap();
        assert!(disk.lock("lock").unwrap().is_some(), "nothing to lock");
        let used = FsDisk::open(folder.path()).unwrap();
        let held = used.lock("lock").unwrap();
        assert!(disk.lock("lock").unwrap().is_none());
        drop(held);
        let held = disk.lock("lock").unwrap();
        assert!(used.lock("lock").unwrap().is_none());
        drop(held);
    }
}
