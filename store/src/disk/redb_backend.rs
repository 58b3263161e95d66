//! A redb database in a [`DiskFile`]. When a simulated disk crashes, the database loses its
//! unsynced writes too.

use std::io;

use redb::StorageBackend;

use super::DiskFile;

/// A file as the storage of redb. It takes no lock, because the program that opens the folder holds
/// one ([`Disk::lock`](super::Disk::lock)).
#[derive(Debug)]
pub struct RedbFile(Box<dyn DiskFile>);

impl RedbFile {
    /// The database in `file`. The file may be empty.
    #[must_use]
    pub fn new(file: Box<dyn DiskFile>) -> Self {
        Self(file)
    }
}

impl StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_size(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
