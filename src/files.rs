//! Private files and folders: only their owner may use them.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File, Metadata, OpenOptions},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::{fcntl::OFlag, unistd::geteuid};
use postrider_config::replace_private;

/// The mode of a folder that only its owner may enter.
const PRIVATE: u32 = 0o700;
/// Only the owner of a file may remove it from the folder. So many share such a folder.
const STICKY: u32 = 0o1000;
/// Every user may make files in the folder.
const ALL_WRITE: u32 = 0o002;

/// A folder that the store makes in its data folder.
pub const DATA_MARK: &str = "journal";
/// The file in the data folder that the process that has the store keeps locked.
pub const DATA_LOCK: &str = "lock";

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

/// A folder that only its owner may enter.
#[derive(Debug)]
pub struct PrivateDir {
    /// The open folder. Its path may lead elsewhere by now.
    pub folder: File,
    /// Set if the folder got another mode.
    pub mended: Option<Mended>,
}

/// Makes a folder that only its owner may enter, and the missing folders above it.
///
/// A folder that exists and that others may enter gets the right mode, if it is empty or has an
/// entry with the name `ours`, such as [`DATA_MARK`], which shows that postrider uses the folder.
/// The mode of another folder never changes: a wrong path in the configuration must not lock others
/// out of a folder of the system.
///
/// # Errors
/// If the folder can't be made, belongs to another user, or is open to others and may not be
/// changed. The error names it.
pub fn private_dir(path: &Path, ours: &str) -> anyhow::Result<PrivateDir> {
    let shown = path.display();
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(path);
    made.with_context(|| {
        format!("failed to make the folder {shown}; check that its parent exists and is writable")
    })?;
    let found = fs::symlink_metadata(path);
    let is_link = found.is_ok_and(|found| found.is_symlink());
    let folder = match open_folder(path, is_link) {
        Ok(folder) => folder,
        Err(error) => {
            let found = fs::metadata(path);
            found.map_or(Ok(()), |found| check_owner(path, &found))?;
            return Err(error).with_context(|| format!("failed to open the folder {shown}"));
        }
    };
    let found = folder.metadata();
    let found = found.with_context(|| format!("failed to look at {shown}"))?;
    check_owner(path, &found)?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(PrivateDir {
            folder,
            mended: None,
        });
    }
    let others = found.uid() != geteuid().as_raw();
    let why = if is_link {
        Some("its path is a link")
    } else if mode & STICKY != 0 || others && mode & ALL_WRITE != 0 {
        Some("other users share it")
    } else if !is_ours(path, ours)? {
        Some("it has files of others")
    } else {
        None
    };
    if let Some(why) = why {
        bail!(
            "others may enter the folder {shown} (mode {mode:o}), and {why}, so the mode stays; choose another \
             folder, or chmod 700 this one"
        );
    }
    let changed = folder.set_permissions(fs::Permissions::from_mode(PRIVATE));
    changed.with_context(|| {
        format!("others may enter the folder {shown}, and its mode can't be changed; chmod 700 it")
    })?;
    let path = path.to_owned();
    Ok(PrivateDir {
        folder,
        mended: Some(Mended { path, mode }),
    })
}

/// Opens a folder. `follow`: the last part of the path may be a link.
pub(crate) fn open_folder(path: &Path, follow: bool) -> std::io::Result<File> {
    let flags = match follow {
        true => OFlag::O_DIRECTORY,
        false => OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW,
    };
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

/// Refuses a folder of another user. Root may use all folders.
fn check_owner(path: &Path, found: &Metadata) -> anyhow::Result<()> {
    let user = geteuid();
    if !user.is_root() && found.uid() != user.as_raw() {
        let (shown, owner) = (path.display(), found.uid());
        bail!(
            "the folder {shown} belongs to user {owner}, and this process runs as user {user}; give \
             it the folder with chown, or choose another one"
        );
    }
    Ok(())
}

/// Whether a folder is empty or has an entry with this name.
fn is_ours(folder: &Path, name: &str) -> anyhow::Result<bool> {
    let entries = fs::read_dir(folder);
    let mut entries = entries.with_context(|| format!("failed to read {}", folder.display()))?;
    Ok(entries.next().is_none() || fs::symlink_metadata(folder.join(name)).is_ok())
}

/// Looks at the folders of files that decide what the server does: configuration, keys, passwords.
/// Gives a warning for each folder that all users share, such as /tmp.
///
/// # Errors
/// If every user may replace a file in one of the folders. The error names it.
pub fn check_folders<'a>(files: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<Vec<String>> {
    let folders: BTreeSet<&Path> = files.into_iter().filter_map(Path::parent).collect();
    let mut warnings = Vec::new();
    for folder in folders {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        // Whoever reads the files tells of a folder that is missing.
        let Ok(found) = fs::metadata(folder) else {
            continue;
        };
        let (mode, shown) = (found.mode() & 0o7777, folder.display());
        if mode & ALL_WRITE == 0 {
            continue;
        }
        if mode & STICKY == 0 {
            bail!(
                "every user may replace the files in the folder {shown} (mode {mode:o}), which has configuration \
                 or keys; chmod o-w it"
            );
        }
        warnings.push(format!(
            "every user may add files to the folder {shown} (mode {mode:o}), which has configuration or keys; \
             move them to another folder"
        ));
    }
    Ok(warnings)
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

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mended(path: &Path) -> Option<Mended> {
        private_dir(path, "ours").unwrap().mended
    }

    fn refused(path: &Path) -> String {
        format!("{:#}", private_dir(path, "ours").unwrap_err())
    }

    #[test]
    fn folders_are_private_or_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(mended(&path), None);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&dir.path().join("a")), 0o700);
        for name in ["ours", "other"] {
            for open in [0o755, 0o770, 0o701, 0o777] {
                set(&path, open);
                let mended_folder = mended(&path).unwrap();
                let expected = format!("(mode {open:o}); now it has mode 700");
                assert!(
                    mended_folder.to_string().ends_with(&expected),
                    "{mended_folder}"
                );
                assert_eq!(mode(&path), 0o700);
                assert_eq!(mended(&path), None);
            }
            fs::write(path.join(name), "").unwrap();
        }
    }

    #[test]
    fn the_mode_of_a_folder_that_others_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, used) = (dir.path().join("shared"), dir.path().join("used"));
        let link = dir.path().join("link");
        fs::create_dir(&shared).unwrap();
        fs::create_dir(&used).unwrap();
        fs::write(used.join("file"), "").unwrap();
        std::os::unix::fs::symlink("used", &link).unwrap();
        set(&shared, 0o1777);
        set(&used, 0o755);
        for (path, why, open) in [
            (&shared, "other users share it", 0o1777),
            (&used, "it has files of others", 0o755),
            (&link, "its path is a link", 0o755),
        ] {
            let error = refused(path);
            assert!(error.contains(why), "{error}");
            assert_eq!(mode(path), open);
        }
        // A link to a private folder is fine.
        set(&used, 0o700);
        assert_eq!(mended(&link), None);
        if geteuid().is_root() {
            fs::remove_file(used.join("file")).unwrap();
            set(&used, 0o777);
            std::os::unix::fs::chown(&used, Some(1), None).unwrap();
            assert!(refused(&used).contains("other users share it"));
        }
    }

    #[test]
    fn folders_in_which_all_may_write_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, key) = (dir.path().join("a.conf"), dir.path().join("dkim/a.pem"));
        let missing = dir.path().join("none/a.pem");
        fs::create_dir(dir.path().join("dkim")).unwrap();
        let check = || check_folders([&*conf, &*key, &*missing]);
        set(dir.path(), 0o755);
        assert!(check().unwrap().is_empty());
        set(dir.path(), 0o1777);
        let warnings = check().unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("mode 1777"));
        set(&dir.path().join("dkim"), 0o757);
        let error = check().unwrap_err().to_string();
        assert!(error.contains("dkim (mode 757)"), "{error}");
    }

    #[test]
    fn what_can_not_be_a_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        for path in [path.join("x"), path] {
            let error = refused(&path);
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        // A folder of another user is refused, unless we are root.
        if !geteuid().is_root() {
            let error = refused(Path::new("/"));
            assert!(error.contains("belongs to user 0"), "{error}");
        }
    }
}
