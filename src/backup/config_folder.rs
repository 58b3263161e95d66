//! The files of the configuration in a backup: the whole folder of `postrider.conf`, and the files
//! elsewhere that the configuration names.
//!
//! The server and editors replace files as a whole, so each file is copied whole. A file that
//! changes meanwhile could leave the copy with files of different times. So the folder is looked at
//! before and after, and copied again if something changed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::copy::{Copier, Way};

/// How often the folder is copied again because something in it changed.
const TRIES: usize = 10;
/// The folder of a backup for files from elsewhere.
pub const OUTSIDE: &str = "outside";

/// A file as it was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// The path below the folder.
    name: PathBuf,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// Copies the folder of the configuration to the folder `config` of a backup, without the folders
/// in `except`.
///
/// # Errors
/// If the folder keeps changing, or the system fails.
pub fn take(copier: &mut Copier, folder: &Path, except: &[PathBuf]) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        let before = list(folder, except)?;
        match take_once(copier, folder, &before) {
            Ok(()) if list(folder, except)? == before => return Ok(()),
            Ok(()) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
        copier.undo(Path::new("config"))?;
    }
    bail!(
        "the files in {} change all the time; try again",
        folder.display()
    )
}

fn take_once(copier: &mut Copier, folder: &Path, files: &[Found]) -> anyhow::Result<()> {
    copier.make_folder(Path::new("config"))?;
    for file in files {
        let name = Path::new("config").join(&file.name);
        let name = name.to_str().with_context(|| {
            let name = file.name.display();
            format!("the name of the file {name} is not in UTF-8; rename it")
        })?;
        copier.take(&folder.join(&file.name), name, None, Way::Copy)?;
    }
    Ok(())
}

/// Copies files that lie elsewhere to the folder `outside` of a backup. Gives their paths.
///
/// # Errors
/// If the system fails.
pub fn take_outside(
    copier: &mut Copier,
    config: &Path,
    files: impl IntoIterator<Item = PathBuf>,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut taken: Vec<PathBuf> = Vec::new();
    for file in files {
        let file = std::path::absolute(&file).unwrap_or(file);
        if file.starts_with(config) || taken.contains(&file) || !file.is_file() {
            continue;
        }
        let below = file.strip_prefix("/").unwrap_or(&file);
        let name = Path::new(OUTSIDE).join(below);
        let Some(name) = name.to_str().filter(|name| super::is_below(name)) else {
            continue;
        };
        copier.take(&file, name, None, Way::Copy)?;
        taken.push(file);
    }
    Ok(taken)
}

fn is_missing(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes
        .into_iter()
        .any(|cause: &io::Error| cause.kind() == io::ErrorKind::NotFound)
}

/// The files below a folder, by path. A link stands for the file that it names. Links to folders
/// are left out, so that no circle has an end.
fn list(folder: &Path, except: &[PathBuf]) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let path = folder.join(&below);
        let entries = fs::read_dir(&path);
        let entries = entries.with_context(|| format!("failed to list {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("failed to list {}", path.display()))?;
            let name = below.join(entry.file_name());
            let path = folder.join(&name);
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                if !except.contains(&path) {
                    folders.push(name);
                }
                continue;
            }
            // A file that vanished, a socket, or a link to a folder or to nothing.
            let Some(metadata) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else {
                continue;
            };
            if is_temporary(&name) {
                continue;
            }
            found.push(Found {
                name,
                inode: metadata.ino(),
                bytes: metadata.len(),
                changed: (metadata.mtime(), metadata.mtime_nsec()),
            });
        }
    }
    found.sort();
    Ok(found)
}

/// A file that somebody is going to rename.
fn is_temporary(name: &Path) -> bool {
    let name = name.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_copied_without_data_and_temporary_files() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("etc");
        fs::create_dir_all(config.join("dkim/old")).unwrap();
        fs::create_dir_all(config.join("data/journal")).unwrap();
        for name in [
            "postrider.conf",
            "dkim/key.pem",
            "dkim/old/key.pem",
            ".x.1.new",
            "data/x",
        ] {
            fs::write(config.join(name), name).unwrap();
        }
        let elsewhere = folder.path().join("cert.pem");
        fs::write(&elsewhere, "cert").unwrap();
        std::os::unix::fs::symlink(&elsewhere, config.join("linked.pem")).unwrap();
        std::os::unix::fs::symlink(&config, config.join("circle")).unwrap();
        std::os::unix::fs::symlink("none", config.join("dangling")).unwrap();
        let to = folder.path().join("to");
        fs::create_dir(&to).unwrap();
        let mut copier = Copier::new(&to, None);
        take(&mut copier, &config, &[config.join("data")]).unwrap();
        let files = [
            elsewhere.clone(),
            elsewhere.clone(),
            config.join("dkim/key.pem"),
        ];
        let outside = take_outside(&mut copier, &config, files).unwrap();
        assert_eq!(outside, std::slice::from_ref(&elsewhere));
        let mut names: Vec<_> = copier.finish().unwrap();
        names.sort_by(|one, other| one.name.cmp(&other.name));
        let names: Vec<_> = names.iter().map(|file| file.name.as_str()).collect();
        let copied = format!("outside{}", elsewhere.display());
        assert_eq!(
            names,
            [
                "config/dkim/key.pem",
                "config/dkim/old/key.pem",
                "config/linked.pem",
                "config/postrider.conf",
                &copied
            ]
        );
        assert_eq!(fs::read(to.join("config/linked.pem")).unwrap(), b"cert");
    }
}
