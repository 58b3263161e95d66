//! Rewriting `domains.conf`. Comments and order stay. The file is complete at every moment.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use toml_edit::DocumentMut;

use crate::{
    dynamics::Dynamic,
    error::Errors,
    file::{beside, replace},
    statics::Static,
};

/// Why a file was not changed. The file is as before.
#[derive(Debug, thiserror::Error)]
pub enum EditError<E> {
    /// The change is not possible.
    #[error("{0}")]
    Change(E),
    /// The old file has errors, or the new one would have.
    #[error("{0}")]
    Invalid(Errors),
    /// The file could not be written.
    #[error("failed to write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Changes `domains.conf` with a function, checks the whole result, and replaces the file with it.
/// Gives the function's result and the new configuration.
///
/// There is one writer at a time. A second writer, also in another process, waits for the first.
/// This function blocks. An async caller uses `spawn_blocking`.
///
/// # Errors
/// If the function refuses, the result is not valid, or the disk fails.
pub fn edit<T, E>(
    path: &Path,
    statics: &Static,
    change: impl FnOnce(&mut DocumentMut) -> Result<T, E>,
) -> Result<(T, Dynamic), EditError<E>> {
    let failed = |source| EditError::Io {
        path: path.to_owned(),
        source,
    };
    // Follow links, so that the link stays and the file behind it changes.
    let target = fs::canonicalize(path).map_err(failed)?;
    let _lock = lock(&target).map_err(failed)?;
    let old = fs::read_to_string(&target).map_err(failed)?;
    let mut document: DocumentMut = match old.parse() {
        Ok(document) => document,
        // Our parser reports the error with file and line.
        Err(error) => {
            return Err(match Dynamic::parse(&old, path, statics) {
                Err(errors) => EditError::Invalid(errors),
                Ok(_) => failed(io::Error::other(error)),
            });
        }
    };
    let result = change(&mut document).map_err(EditError::Change)?;
    let new = document.to_string();
    let config = Dynamic::parse(&new, path, statics).map_err(EditError::Invalid)?;
    if new != old {
        replace(&target, new.as_bytes()).map_err(failed)?;
    }
    Ok((result, config))
}

/// Waits until no other writer has the lock. The lock file stays: if it were removed, two writers
/// could have a lock at once.
fn lock(target: &Path) -> io::Result<File> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(beside(target, ".lock"))?;
    lock.lock()?;
    Ok(lock)
}
