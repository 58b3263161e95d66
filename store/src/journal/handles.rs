//! The open files of segments. There are as many segments as the texts that live need, but a
//! process may open only so many files. So a segment is opened when it is read, and stays open
//! while it is among the latest.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use super::segment_name;
use crate::disk::{Disk, DiskFile, Open};

/// The open files of segments, by generation. At most a fixed number is kept. A file that somebody
/// still uses stays open beyond that.
pub(super) struct Handles {
    disk: Arc<dyn Disk>,
    most: usize,
    open: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Each file with the number of its last use.
    files: HashMap<u64, (Arc<dyn DiskFile>, u64)>,
    uses: u64,
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}

impl Kept {
    fn find(&mut self, generation: u64) -> Option<Arc<dyn DiskFile>> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(&generation)?;
        *used = self.uses;
        Some(Arc::clone(file))
    }

    fn keep(&mut self, generation: u64, file: Arc<dyn DiskFile>, most: usize) {
        self.uses += 1;
        self.files.insert(generation, (file, self.uses));
        while self.files.len() > most {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(generation, _)| *generation) else {
                return;
            };
            self.files.remove(&oldest);
        }
    }
}

impl Handles {
    pub(super) fn new(disk: Arc<dyn Disk>, most: usize) -> Arc<Self> {
        let open = Mutex::default();
        Arc::new(Self { disk, most, open })
    }

    fn kept<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The file of a segment. It stays open only if the segment is not released: `lives` tells so.
    ///
    /// # Errors
    /// `NotFound` if the segment was released. All other errors of the system.
    pub(super) fn open(
        &self,
        generation: u64,
        lives: impl FnOnce() -> bool,
    ) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.kept(|kept| kept.find(generation)) {
            return Ok(file);
        }
        // Without the lock, because a cold open may wait for the disk. Two readers may open the
        // same file. Then the later one is kept.
        let file = self.disk.open(&segment_name(generation), Open::Existing)?;
        let file: Arc<dyn DiskFile> = Arc::from(file);
        self.keep(generation, Arc::clone(&file));
        // The segment may have been released and forgotten just before its file was kept.
        if !lives() {
            self.forget(generation);
        }
        Ok(file)
    }

    /// Keeps the file of a segment that somebody has opened.
    pub(super) fn keep(&self, generation: u64, file: Arc<dyn DiskFile>) {
        self.kept(|kept| kept.keep(generation, file, self.most));
    }

    /// Forgets the file of a segment that was released.
    pub(super) fn forget(&self, generation: u64) {
        self.kept(|kept| kept.files.remove(&generation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    #[test]
    fn the_latest_files_stay_open() {
        let disk: Arc<dyn Disk> = SimDisk::new(1).disk();
        disk.create_dir("journal").unwrap();
        for generation in 1..=3 {
            disk.open(&segment_name(generation), Open::New).unwrap();
        }
        let handles = Handles::new(Arc::clone(&disk), 2);
        let first = handles.open(1, || true).unwrap();
        handles.open(2, || true).unwrap();
        assert!(Arc::ptr_eq(&first, &handles.open(1, || true).unwrap()));
        // The third file takes the place of the second, which was not used for the longest time.
        handles.open(3, || true).unwrap();
        let kept = |generation| handles.kept(|kept| kept.files.contains_key(&generation));
        assert_eq!([1, 2, 3].map(kept), [true, false, true]);
        handles.forget(1);
        assert!(!Arc::ptr_eq(&first, &handles.open(1, || true).unwrap()));
        assert_eq!(
            handles.open(9, || true).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn the_file_of_a_segment_that_was_released_meanwhile_is_not_kept() {
        let disk: Arc<dyn Disk> = SimDisk::new(1).disk();
        disk.create_dir("journal").unwrap();
        disk.open(&segment_name(1), Open::New).unwrap();
        let handles = Handles::new(disk, 2);
        handles.open(1, || false).unwrap();
        assert!(handles.kept(|kept| kept.files.is_empty()));
    }
}
