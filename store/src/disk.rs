//! The file system operations that the store uses, as a trait. A test can use a disk that loses
//! power.
//!
//! A [`Disk`] is one folder and its subfolders. Names are relative to it, with `/` between the
//! parts. [`FsDisk`] is a real folder. [`sim::SimDisk`] is in memory, remembers which bytes were
//! synced, and can crash. It is a test tool. It is public because the tests and fuzz targets of
//! several crates use it.
//!
//! The contract is the weakest form of POSIX. Written bytes are durable when a sync of the file has
//! returned without an error. A created, renamed or removed name is durable when [`Disk::sync_dir`]
//! of its folder has. After a *failed* sync nothing is known about the unsynced bytes. Another sync
//! proves nothing: the kernel may have dropped them.

pub(crate) mod counted;
pub(crate) mod overlay;
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

/// How [`Disk::open`] treats files that exist and files that do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// The file must exist.
    Existing,
    /// The file must not exist. It is made, empty.
    New,
    /// The file is made, empty, if it does not exist.
    Either,
}

/// A folder of files. All calls block.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` and `AlreadyExists`, according to `open`. All other errors of the system.
    fn open(&self, name: &str, open: Open) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a subfolder that only its owner can read. An existing subfolder is not changed.
    ///
    /// # Errors
    /// The errors of the system.
    fn create_dir(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name in the same folder. Replaces a file that has this name.
    ///
    /// # Errors
    /// The errors of the system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Readers that have it open can go on.
    ///
    /// # Errors
    /// The errors of the system, `NotFound` among them.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of the files and folders in a folder, sorted, without the name of the folder. An
    /// empty `dir` is the topmost folder.
    ///
    /// # Errors
    /// The errors of the system.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// The errors of the system.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// The bytes by which this user's files can still grow.
    ///
    /// # Errors
    /// The errors of the system.
    fn free(&self) -> io::Result<u64>;

    /// Takes a lock. In all processes together at most one holder has it. It ends when the value is
    /// dropped or the process ends. None if another holder has the lock.
    ///
    /// # Errors
    /// The errors of the system.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>>;
}

/// An open file. Reads and writes name their offset, so that threads can share it.
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before. All other errors of the system.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, in one system call where the system allows it.
    ///
    /// # Errors
    /// The errors of the system. A part may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// The length of the file in bytes.
    ///
    /// # Errors
    /// The errors of the system.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// The errors of the system.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes content and length durable (`fdatasync`).
    ///
    /// # Errors
    /// The errors of the system. The module describes the state after an error.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content and metadata durable (`fsync`).
    ///
    /// # Errors
    /// The errors of [`sync_data`](Self::sync_data).
    fn sync_all(&self) -> io::Result<()>;
}

/// Holds a lock until it is dropped.
pub trait DiskLock: Send + Sync + fmt::Debug + 'static {}

/// Whether an error means that the disk is full or a quota is used up.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Whether there is no folder yet. The empty path is the working folder.
fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && !path.is_dir()
}

/// All names are our own files. A link in their place leads to the file of somebody else.
const NO_LINKS: i32 = nix::fcntl::OFlag::O_NOFOLLOW.bits();

/// A folder of the file system.
#[derive(Clone, Debug)]
pub struct FsDisk {
    root: PathBuf,
}

impl FsDisk {
    /// Opens a folder. Makes it and its parents if they do not exist. Only the owner can read the
    /// new folders.
    ///
    /// # Errors
    /// The errors of the system.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let made: Vec<&Path> = root
            .ancestors()
            .take_while(|path| is_missing(path))
            .collect();
        if !made.is_empty() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&root)?;
        }
        // The name of each new folder must be durable too, also when a process made the folder and
        // was killed. A parent that we may not open is not synced.
        let made = if made.is_empty() {
            vec![root.as_path()]
        } else {
            made
        };
        for parent in made.into_iter().filter_map(Path::parent) {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            if let Ok(parent) = File::open(parent) {
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
            .custom_flags(NO_LINKS)
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
            // Our own names are ASCII. A name that is not UTF-8 belongs to somebody else.
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
            .custom_flags(NO_LINKS)
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

/// The kernel frees the lock when the file is closed, even if the process is killed.
#[derive(Debug)]
struct FsLock {
    _file: File,
}

impl DiskLock for FsLock {}
