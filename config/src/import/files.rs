//! Reading the files of another server.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::failure;
use crate::error::Errors;

/// The largest file that is read. Tables with a million lines are smaller.
const LARGEST: u64 = 64 << 20;

/// Access to the files of another server. Tests give files of their own.
pub trait Files {
    /// The content of a file.
    ///
    /// # Errors
    /// If it cannot be read, is no ordinary file, or is too large.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let metadata = fs::metadata(path)?;
        // A pipe or a device may never end.
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::Error::other("it is no ordinary file"));
        }
        if metadata.len() > LARGEST {
            return Err(io::Error::other("it is larger than 64 MiB"));
        }
        fs::read(path)
    }
}

/// The text of a file that must be there, in UTF-8.
pub(super) fn text(files: &dyn Files, path: &Path) -> Result<String, Errors> {
    let bytes = files.read(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; name the folder that has it",
            io::ErrorKind::PermissionDenied => "; run the import as a user who may read it",
            _ => "",
        };
        failure(path, 0, format!("cannot be read: {error}{hint}"))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        failure(path, line, "is not UTF-8; save the file as UTF-8")
    })
}

/// A path of the other server, absolute if `folder` is.
pub(super) fn below(folder: &Path, path: &str) -> PathBuf {
    folder.join(path)
}
