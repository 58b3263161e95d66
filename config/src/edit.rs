//! Rewriting `domains.conf`: comments and order stay, and the file is whole at every moment.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use toml_edit::DocumentMut;

use crate::{dynamics::Dynamic, dynamics::folder_of, error::Errors, statics::Static};

/// Why a file was not changed. It is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError<E> {
    /// What was to be done is not possible.
    #[error("{0}")]
    Change(E),
    /// The file is wrong already, or would be.
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

/// Changes `domains.conf` by a function, checks the whole of the result, and puts it in the place of the old file, which
/// is at no time incomplete. Gives what the function gave, and the new configuration.
///
/// One writer at a time: a second one, also of another process, waits for the first. It blocks; an async caller uses `spawn_blocking`.
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
    // Through a link to the file itself, so that the link stays and the file changes.
    let target = fs::canonicalize(path).map_err(failed)?;
    let _lock = lock(&target).map_err(failed)?;
    let old = fs::read_to_string(&target).map_err(failed)?;
    let mut document: DocumentMut = match old.parse() {
        Ok(document) => document,
        // The checker says it in our words, with file and line.
        Err(error) => {
            return Err(match Dynamic::parse(&old, path, statics) {
                Err(errors) => EditError::Invalid(errors),
                Ok(_) => failed(io::Error::other(error)),
            });
        }
    };
    let given = change(&mut document).map_err(EditError::Change)?;
    let new = document.to_string();
    let config = Dynamic::parse(&new, path, statics).map_err(EditError::Invalid)?;
    if new != old {
        replace(&target, new.as_bytes()).map_err(failed)?;
    }
    Ok((given, config))
}

/// Waits until no other writer is at work. The file for it stays, since taking it away would let two in.
fn lock(target: &Path) -> io::Result<File> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(beside(target, ".lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// A hidden name in the folder of a file.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(suffix);
    folder_of(target).join(name)
}

/// Puts a file in the place of another, or where none was: written and synced beside it, renamed, and the folder synced. A file that was
/// there keeps its mode and, where we may, its owner; a new one gets 0600.
///
/// # Errors
/// If any of this fails; then what was there is still there.
pub fn replace(target: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = beside(target, ".new");
    let result =
        write_synced(&temporary, target, contents).and_then(|()| fs::rename(&temporary, target));
    if let Err(error) = result {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    let folder = match folder_of(target) {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    File::open(folder)?.sync_all()
}

fn write_synced(temporary: &Path, target: &Path, contents: &[u8]) -> io::Result<()> {
    // What a crash left there may have any mode, and may even be a link.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    if let Ok(metadata) = fs::metadata(target) {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
            // Only root may give files away; the server's user keeps what it may.
            let _ = chown(temporary, Some(metadata.uid()), Some(metadata.gid()));
        }
        file.set_permissions(Permissions::from_mode(metadata.mode() & 0o777))?;
    }
    file.write_all(contents)?;
    file.sync_all()
}
