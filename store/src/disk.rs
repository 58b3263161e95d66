//! The few things that the store asks of a file system, so that a test can put one under it that loses power.
//!
//! A [`Disk`] is one folder and its subfolders; names are relative to it, with `/` between the parts. [`FsDisk`] is a
//! real folder. [`sim::SimDisk`] lives in memory, remembers what was synced, and can crash: it is a test tool, public
//! because the tests and fuzz targets of several crates stand on it.
//!
//! The contract is that of POSIX at its weakest. Written bytes are durable when a sync of the file returned without an
//! error, a created, renamed or removed name when [`Disk::sync_dir`] of its folder did. After a *failed* sync nothing is
//! known about the bytes that were to be written, and repeating the sync proves nothing: the kernel may have dropped
//! them.

pub mod redb_backend;
pub mod sim;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What [`Disk::open`] does about a file that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must be there.
    Existing,
    /// It must not be there, and is made, empty.
    New,
    /// It is made, empty, if it is not there.
    Either,
}

/// A folder of files. All calls block.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` and `AlreadyExists` as `open` says, and whatever the system reports.
    fn open(&self, name: &str, open: Open) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a subfolder, readable by its owner alone. One that is there already is left as it is.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn create_dir(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name in the same folder, replacing a file that has it.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Those who have it open can go on reading it.
    ///
    /// # Errors
    /// Whatever the system reports, `NotFound` among it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of the files and folders in a folder (the empty string for the topmost), without its own name, sorted.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes the names in a folder durable as they are.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Bytes by which files can still grow, for this user.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn free(&self) -> io::Result<u64>;

    /// Takes a lock that at most one holder has in all processes, until the value is dropped or the process ends. None
    /// if another has it.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>>;
}

/// An open file. Reads and writes at given places, so that it can be shared.
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, and whatever the system reports.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, in one system call where the system allows it.
    ///
    /// # Errors
    /// Whatever the system reports; a part may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn size(&self) -> io::Result<u64>;

    /// Cuts it, or lengthens it by zeros.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes its content and length durable (`fdatasync`).
    ///
    /// # Errors
    /// Whatever the system reports; see the module about what holds then.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content and metadata durable (`fsync`).
    ///
    /// # Errors
    /// As for `sync_data`.
    fn sync_all(&self) -> io::Result<()>;
}

/// Holds a lock until it is dropped.
pub trait DiskLock: Send + Sync + fmt::Debug + 'static {}

/// Whether an error says that there is no room left: a full disk, or a quota that is used up.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// A folder of the file system.
#[derive(Clone, Debug)]
pub struct FsDisk {
    root: PathBuf,
}

impl FsDisk {
    /// Opens a folder, making it (and those above it) if it is not there. What is made is readable by its owner alone.
    ///
    /// # Errors
    /// Whatever the system reports.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        if !root.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&root)?;
            // The folder's own name must survive too. A parent that we may not open is not ours to sync.
            if let Some(parent) = root
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                && let Ok(parent) = File::open(parent)
            {
                parent.sync_all()?;
            }
        }
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.root.clone()
        } else {
            self.root.join(name)
        }
    }
}

impl Disk for FsDisk {
    fn open(&self, name: &str, open: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(open == Open::Either)
            .create_new(open == Open::New)
            .truncate(false)
            .mode(0o600)
            .open(self.path(name))?;
        Ok(Box::new(FsFile(file)))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(dir))? {
            // Our own names are ASCII; another one is not ours, and is left alone.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn free(&self) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.root)?;
        let bytes = u128::from(stat.blocks_available()) * u128::from(stat.fragment_size());
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(FsLock { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct FsFile(File);

impl DiskFile for FsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// The kernel lets go of the lock when the file is closed, also when the process is killed.
#[derive(Debug)]
struct FsLock {
    _file: File,
}

impl DiskLock for FsLock {}
