//! Writing an import to a folder: as a whole or not at all, and never over a file that is there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
};

use toml_edit::{DocumentMut, Item};

use super::{Fragment, Import, PrivateFile};
use crate::{dynamics::folder_of, error::Errors, file::replace_if, statics::Static};

/// The mode of the two files. The server's group may read them.
const CONFIGURATION: u32 = 0o640;
/// The mode of keys and other secrets.
const PRIVATE: u32 = 0o600;
/// The mode of folders.
const FOLDER: u32 = 0o700;

/// Why an import was not written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// These files are there already.
    #[error("{} there already; nothing was written, so move the old files away first", list(.0))]
    Exists(Vec<PathBuf>),
    /// These tables are in `postrider.conf` already.
    #[error("{} in {} already; nothing was written, so rename or remove the old tables first", join(names), file.display())]
    Defined {
        /// The names of the tables, such as `hooks.scan`.
        names: Vec<String>,
        /// The file.
        file: PathBuf,
    },
    /// The new file would have errors.
    #[error("{0}")]
    Invalid(Errors),
    /// Somebody saved the file meanwhile.
    #[error("{} was saved by somebody else meanwhile; nothing was written, so try again", .0.display())]
    Changed(PathBuf),
    /// A step failed.
    #[error("failed to write {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// `a is`, or `a, b are`.
fn join(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    join(&names)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError::Io { path, source }
}

impl Import {
    /// Writes `postrider.conf`, `domains.conf` and the private files to a folder. The folder is
    /// made if it is missing. `owner` is the user and the group that the files are given to.
    ///
    /// The files are written and synced in a folder of their own, and then moved to their places.
    /// `postrider.conf` comes last.
    ///
    /// # Errors
    /// If one of the files is there already, or a step fails. Then no file was added.
    pub fn write(&self, folder: &Path, owner: Option<(u32, u32)>) -> Result<(), WriteError> {
        write_all(folder, &self.outputs(), owner).map(drop)
    }

    /// All files in the order in which they are put in their places.
    fn outputs(&self) -> Vec<Output<'_>> {
        let private = self.files.iter().map(Output::private);
        let configuration = [
            ("domains.conf", &self.dynamic),
            ("postrider.conf", &self.statics),
        ];
        let configuration = configuration.into_iter().map(|(path, text)| Output {
            path: Path::new(path),
            content: text.as_bytes(),
            mode: CONFIGURATION,
        });
        private.chain(configuration).collect()
    }
}

impl Fragment {
    /// Adds the tables to the end of `postrider.conf`, and writes the private files beside it.
    /// The caller keeps other programs from doing the same.
    ///
    /// # Errors
    /// If one of the files is there already, the new `postrider.conf` would have errors (such as
    /// two hooks of the same name), somebody saves it meanwhile, or a step fails. Then nothing was
    /// added.
    pub fn write(&self, conf: &Path) -> Result<(), WriteError> {
        // Follow a link, so that the link stays and the file behind it changes.
        let target = fs::canonicalize(conf).map_err(failed(conf))?;
        let old = fs::read_to_string(&target).map_err(failed(conf))?;
        // Without this check, the errors would seem to be those of the import.
        Static::parse(&old, conf).map_err(WriteError::Invalid)?;
        let names = self.names_in(&old);
        if !names.is_empty() {
            let file = conf.to_owned();
            return Err(WriteError::Defined { names, file });
        }
        let end = if old.is_empty() || old.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let new = format!("{old}{end}\n{}", self.text);
        Static::parse(&new, conf).map_err(WriteError::Invalid)?;
        let files: Vec<Output<'_>> = self.files.iter().map(Output::private).collect();
        let folder = folder_of(&target);
        let placed = write_all(folder, &files, None)?;
        let replaced = match replace_if(&target, old.as_bytes(), new.as_bytes()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(WriteError::Changed(conf.to_owned())),
            Err(source) => Err(failed(conf)(source)),
        };
        if replaced.is_err() {
            take_back(&placed);
        }
        replaced
    }

    /// The names of the tables, such as `hooks.scan`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        tables(&self.text)
    }

    /// The tables of the fragment that a file has too.
    fn names_in(&self, old: &str) -> Vec<String> {
        let there = tables(old);
        let mut names = self.names();
        names.retain(|name| there.contains(name));
        names
    }
}

/// The names of the hooks and milters in a text.
fn tables(text: &str) -> Vec<String> {
    let document: DocumentMut = text.parse().unwrap_or_default();
    let mut names = Vec::new();
    for kind in ["hooks", "milters"] {
        let table = document.get(kind).and_then(Item::as_table_like);
        let tables = table.into_iter().flat_map(toml_edit::TableLike::iter);
        names.extend(tables.map(|(name, _)| format!("{kind}.{name}")));
    }
    names
}

/// A file to write.
struct Output<'a> {
    /// Relative to the folder of the configuration.
    path: &'a Path,
    content: &'a [u8],
    mode: u32,
}

impl<'a> Output<'a> {
    fn private(file: &'a PrivateFile) -> Self {
        Self {
            path: &file.path,
            content: &file.content,
            mode: PRIVATE,
        }
    }

    /// The name in the stage, where all files are in one folder.
    fn staged(index: usize) -> String {
        format!("{index}")
    }
}

/// Writes all files to a folder, or none. Gives their paths.
fn write_all(
    folder: &Path,
    files: &[Output<'_>],
    owner: Option<(u32, u32)>,
) -> Result<Vec<PathBuf>, WriteError> {
    let there: Vec<PathBuf> = files
        .iter()
        .map(|file| folder.join(file.path))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    if !there.is_empty() {
        return Err(WriteError::Exists(there));
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    make_folder(folder, owner)?;
    let stage = folder.join(format!(".import-{:016x}", rand::random::<u64>()));
    let staged = stage_files(&stage, files, owner);
    let result = staged.and_then(|()| place(&stage, folder, files, owner));
    let _ = fs::remove_dir_all(&stage);
    result
}

/// Removes files that were written a moment ago.
fn take_back(placed: &[PathBuf]) {
    for path in placed {
        let _ = fs::remove_file(path);
    }
}

/// Makes a folder that only its owner may enter, and the missing folders above it, which the owner
/// must enter too. A folder that is there stays as it is.
fn make_folder(folder: &Path, owner: Option<(u32, u32)>) -> Result<(), WriteError> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = folder.ancestors().take_while(missing).collect();
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(FOLDER).create(folder);
    made.and_then(|()| missing.into_iter().try_for_each(|path| give(path, owner)))
        .map_err(failed(folder))
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some((user, group)) => chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// Writes and syncs all files in the stage.
fn stage_files(
    stage: &Path,
    files: &[Output<'_>],
    owner: Option<(u32, u32)>,
) -> Result<(), WriteError> {
    let mut builder = DirBuilder::new();
    builder.mode(FOLDER).create(stage).map_err(failed(stage))?;
    for (index, file) in files.iter().enumerate() {
        let path = stage.join(Output::staged(index));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(&path)
            .and_then(|mut open| {
                open.write_all(file.content)?;
                give(&path, owner)?;
                open.sync_all()
            });
        written.map_err(failed(&path))?;
    }
    Ok(())
}

/// Moves all files from the stage to their places. After a failure it takes back those that were
/// moved.
fn place(
    stage: &Path,
    folder: &Path,
    files: &[Output<'_>],
    owner: Option<(u32, u32)>,
) -> Result<Vec<PathBuf>, WriteError> {
    let mut placed: Vec<PathBuf> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut all = || {
        for (index, file) in files.iter().enumerate() {
            let target = folder.join(file.path);
            let parent = folder_of(&target);
            make_folder(parent, owner)?;
            if !folders.iter().any(|known| known == parent) {
                folders.push(parent.to_owned());
            }
            // A link, unlike a renaming, never replaces a file.
            let link = fs::hard_link(stage.join(Output::staged(index)), &target);
            match link {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(WriteError::Exists(vec![target]));
                }
                link => link.map_err(failed(&target))?,
            }
            placed.push(target);
        }
        // The folder itself may be new in the folder above it.
        folders.push(folder_of(folder).to_owned());
        for folder in &folders {
            let path: &Path = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            let synced = File::open(path).and_then(|open| open.sync_all());
            synced.map_err(failed(path))?;
        }
        Ok(())
    };
    match all() {
        Ok(()) => Ok(placed),
        Err(error) => {
            take_back(&placed);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::import::PrivateFile;

    fn import() -> Import {
        Import {
            statics: "static".to_owned(),
            dynamic: "dynamic".to_owned(),
            files: vec![PrivateFile {
                path: "dkim/key.pem".into(),
                content: b"key".to_vec(),
            }],
            notes: Vec::new(),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_are_written_with_their_modes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/config");
        import().write(&folder, None).unwrap();
        assert_eq!(names(&folder), ["dkim", "domains.conf", "postrider.conf"]);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("dkim")), 0o700);
        assert_eq!(mode(&folder.join("dkim/key.pem")), 0o600);
        // The mask of the process may take more away.
        assert_eq!(mode(&folder.join("postrider.conf")) & !CONFIGURATION, 0);
        assert_eq!(fs::read(folder.join("dkim/key.pem")).unwrap(), b"key");
        assert_eq!(fs::read(folder.join("domains.conf")).unwrap(), b"dynamic");
    }

    /// The server must be able to enter each folder above its files.
    #[test]
    fn the_owner_gets_all_new_folders_and_no_other() {
        use std::os::unix::fs::MetadataExt as _;

        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        import()
            .write(&dir.path().join("a/b/config"), Some((4321, 4322)))
            .unwrap();
        let owner = |name: &str| fs::metadata(dir.path().join(name)).unwrap().uid();
        for name in ["a", "a/b", "a/b/config", "a/b/config/dkim"] {
            assert_eq!(owner(name), 4321, "{name}");
        }
        assert_eq!((owner("."), owner("a/b/config/dkim/key.pem")), (0, 4321));
    }

    #[test]
    fn no_file_is_overwritten_and_none_is_added_beside_one() {
        for there in ["postrider.conf", "domains.conf", "dkim/key.pem"] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("dkim")).unwrap();
            fs::write(dir.path().join(there), "old").unwrap();
            let before = names(dir.path());
            let error = import().write(dir.path(), None).unwrap_err().to_string();
            assert!(
                error.contains(there) && error.contains("is there already"),
                "{error}"
            );
            assert_eq!(names(dir.path()), before);
            assert_eq!(fs::read(dir.path().join(there)).unwrap(), b"old");
        }
    }

    #[test]
    fn a_failure_takes_back_what_was_placed() {
        let dir = tempfile::tempdir().unwrap();
        let mut import = import();
        // The second of the private files can't have its folder, because a file is there.
        fs::write(dir.path().join("hooks"), "").unwrap();
        import.files.push(PrivateFile {
            path: "hooks/a.secret".into(),
            content: Vec::new(),
        });
        let error = import.write(dir.path(), None).unwrap_err().to_string();
        assert!(error.starts_with("failed to write "), "{error}");
        assert_eq!(names(dir.path()), ["dkim", "hooks"]);
        assert_eq!(names(&dir.path().join("dkim")), Vec::<String>::new());
    }

    #[test]
    fn a_fragment_is_added_at_the_end_and_only_if_all_is_right() {
        let old = "hostname = \"h.example\" # kept\npostmaster.account = \"a\"\n[listeners.l]\nips = [\"127.0.0.1\"]";
        let fragment = Fragment {
            text: "[hooks.a]\nurl = \"http://127.0.0.1/\"\n".to_owned(),
            files: vec![PrivateFile {
                path: "hooks/a.secret".into(),
                content: b"secret".to_vec(),
            }],
            notes: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("postrider.conf");
        fs::write(&conf, old).unwrap();
        fragment.write(&conf).unwrap();
        let new = fs::read_to_string(&conf).unwrap();
        assert_eq!(new, format!("{old}\n\n{}", fragment.text));
        assert_eq!(mode(&dir.path().join("hooks/a.secret")), 0o600);
        // A second time, the hook is there.
        let error = fragment.write(&conf).unwrap_err().to_string();
        assert!(error.starts_with("hooks.a is in "), "{error}");
        assert_eq!(fs::read_to_string(&conf).unwrap(), new);
        // The secret alone is there.
        fs::write(&conf, old).unwrap();
        let error = fragment.write(&conf).unwrap_err().to_string();
        assert!(error.contains("a.secret is there already"), "{error}");
        assert_eq!(fs::read_to_string(&conf).unwrap(), old);
        assert_eq!(names(dir.path()), ["hooks", "postrider.conf"]);
        // There is no file to add to.
        fs::remove_file(&conf).unwrap();
        let error = fragment.write(&conf).unwrap_err().to_string();
        assert!(error.starts_with("failed to write "), "{error}");
    }
}
