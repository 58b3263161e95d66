//! Private files and folders: only their owner may use them.

use std::{
    fmt, fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::unistd::geteuid;
use postrider_config::replace_private;

/// The mode of a folder that only its owner may enter.
const PRIVATE: u32 = 0o700;

/// A folder that others could enter. Its mode was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    path: PathBuf,
    mode: u32,
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, mode) = (self.path.display(), self.mode);
        write!(
            f,
            "others could enter the folder {path} (mode {mode:o}); now it has mode {PRIVATE:o}"
        )
    }
}

/// Makes a folder that only its owner may enter, and the missing folders above it. A folder that
/// exists and that others may enter gets the right mode.
///
/// # Errors
/// If the folder cannot be made, belongs to another user, or keeps its wrong mode. The error names
/// it.
pub fn private_dir(path: &Path) -> anyhow::Result<Option<Mended>> {
    let shown = path.display();
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(path);
    made.with_context(|| {
        format!("failed to make the folder {shown}; check that its parent exists and is writable")
    })?;
    let found = fs::metadata(path).with_context(|| format!("failed to look at {shown}"))?;
    let user = geteuid();
    if !user.is_root() && found.uid() != user.as_raw() {
        let owner = found.uid();
        bail!(
            "the folder {shown} belongs to user {owner}, and this process runs as user {user}; give \
             it the folder with chown, or choose another one"
        );
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE)).with_context(|| {
        format!("others may enter the folder {shown}, and its mode can't be changed; chmod 700 it")
    })?;
    let path = path.to_owned();
    Ok(Some(Mended { path, mode }))
}

/// Writes a file that only its owner may read. After a crash the file is there as a whole, or not
/// at all.
///
/// # Errors
/// If the file cannot be written. The error names it.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    replace_private(path, content).with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn folders_are_private_or_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(private_dir(&path).unwrap(), None);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&dir.path().join("a")), 0o700);
        for open in [0o755, 0o770, 0o701, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let mended = private_dir(&path).unwrap().unwrap();
            let expected = format!("(mode {open:o}); now it has mode 700");
            assert!(mended.to_string().ends_with(&expected), "{mended}");
            assert_eq!(mode(&path), 0o700);
            assert_eq!(private_dir(&path).unwrap(), None);
        }
    }

    #[test]
    fn what_can_not_be_a_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        for path in [path.join("x"), path] {
            let error = format!("{:#}", private_dir(&path).unwrap_err());
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        // A folder of another user is refused, unless we are root.
        if !geteuid().is_root() {
            let error = private_dir(Path::new("/")).unwrap_err().to_string();
            assert!(error.contains("belongs to user 0"), "{error}");
        }
    }
}
