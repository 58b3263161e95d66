//! Replacing files as a whole. All programs of the workspace replace files through this module.
//!
//! The new content goes to a temporary file in the same folder. The file is synced, renamed over
//! the old one, and the folder is synced. So a reader sees the old content or the new content, and
//! a crash leaves one of the two. A crash may also leave the temporary file, whose hidden name ends
//! in `.new`.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use crate::dynamics::folder_of;

/// Mode of a file that only its owner may use.
const PRIVATE: u32 = 0o600;

/// The mode of the new file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The mode of the old file. 0600 if there was none.
    Keep,
    /// 0600.
    Private,
}

/// Replaces a file, or makes it. The new file has the mode of the old one, and its owner where we
/// may set it. A file that did not exist gets mode 0600.
///
/// # Errors
/// If a step fails. Then the old file is still there, except if only the sync of the folder failed.
pub fn replace(target: &Path, contents: &[u8]) -> io::Result<()> {
    replace_with(target, contents, Mode::Keep)
}

/// Replaces a file with a secret, or makes it. The new file has mode 0600, whatever the mode of the
/// old file was.
///
/// # Errors
/// See [`replace`].
pub fn replace_private(target: &Path, contents: &[u8]) -> io::Result<()> {
    replace_with(target, contents, Mode::Private)
}

fn replace_with(target: &Path, contents: &[u8], mode: Mode) -> io::Result<()> {
    let (temporary, file) = create_temporary(target)?;
    let written = write_synced(file, &temporary, target, contents, mode)
        .and_then(|()| fs::rename(&temporary, target));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(target)
}

/// Replaces a file if it still has the content `old`. False: somebody changed it meanwhile, and it
/// stays as it is. The new file has the mode and the owner of the old one.
///
/// Both files change places in one step. So a change that somebody makes at the last moment is
/// seen, and the files change places again.
///
/// # Errors
/// See [`replace`].
pub(crate) fn replace_if(target: &Path, old: &[u8], contents: &[u8]) -> io::Result<bool> {
    let (temporary, file) = create_temporary(target)?;
    let replaced = write_synced(file, &temporary, target, contents, Mode::Keep)
        .and_then(|()| exchange_if(&temporary, target, old));
    // What stands under this name now is the old content, or ours that is not used.
    let _ = fs::remove_file(&temporary);
    let replaced = replaced?;
    sync_folder(target)?;
    Ok(replaced)
}

fn exchange_if(temporary: &Path, target: &Path, old: &[u8]) -> io::Result<bool> {
    match exchange(temporary, target) {
        Ok(()) => {}
        // The file system has no exchange, or the target is gone.
        Err(_) if fs::read(target)? != old => return Ok(false),
        Err(_) => return fs::rename(temporary, target).map(|()| true),
    }
    if fs::read(temporary)? == old {
        return Ok(true);
    }
    exchange(temporary, target)?;
    Ok(false)
}

/// Lets two files change places in one step.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)?;
    Ok(())
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn sync_folder(target: &Path) -> io::Result<()> {
    let folder = match folder_of(target) {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    File::open(folder)?.sync_all()
}

/// Makes a file with a random name beside the target. Nobody can have made a file or a link of this
/// name before.
fn create_temporary(target: &Path) -> io::Result<(PathBuf, File)> {
    if target.file_name().is_none() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let name = beside(target, &format!(".{:016x}.new", rand::random::<u64>()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(&name)?;
    Ok((name, file))
}

/// A hidden name in the folder of a file.
pub(crate) fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(suffix);
    folder_of(target).join(name)
}

fn write_synced(
    mut file: File,
    temporary: &Path,
    target: &Path,
    contents: &[u8],
    mode: Mode,
) -> io::Result<()> {
    if let Ok(old) = fs::metadata(target) {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            // Only root may change the owner. For other users the file stays their own.
            let _ = chown(temporary, Some(old.uid()), Some(old.gid()));
        }
        if mode == Mode::Keep {
            file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
        }
    }
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        replace: fn(&Path, &[u8]) -> io::Result<()>,
        old_mode: Option<u32>,
        expected_mode: u32,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        if let Some(mode) = old_mode {
            fs::write(&path, "a longer old content").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, expected_mode, "{old_mode:?}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_new_file_is_private() {
        check(replace, Some(0o644), 0o644);
        check(replace, Some(0o400), 0o400);
        check(replace, None, 0o600);
    }

    #[test]
    fn a_file_with_a_secret_is_private() {
        check(replace_private, Some(0o644), 0o600);
        check(replace_private, None, 0o600);
    }

    #[test]
    fn a_file_that_somebody_changed_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(!replace_if(&path, b"other", b"new").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert!(replace_if(&path, b"old", b"new").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        // A folder cannot be replaced by a file.
        let path = dir.path().join("folder");
        fs::create_dir(&path).unwrap();
        replace(&path, b"new").unwrap_err();
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        replace(&dir.path().join("none/file"), b"new").unwrap_err();
        replace(Path::new("/"), b"new").unwrap_err();
    }
}
