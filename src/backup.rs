//! Backups: a folder with a copy of the configuration and of the data folder, and the list of its
//! files.
//!
//! - [`Manifest`]: `backup.json`, the list. It is written last, so a backup without it is not
//!   complete.
//! - [`copy`]: copies files and computes their checksums.
//! - [`config_folder`]: the files of the configuration.

pub mod config_folder;
pub mod copy;

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use aws_lc_rs::digest::{self, Context as Hasher, SHA256};
use postrider_store::journal::Position;
use serde::{Deserialize, Serialize};

/// The name of the list of files in the folder of a backup.
pub const MANIFEST: &str = "backup.json";
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// The list of the files of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the program that made the backup.
    pub version: String,
    /// The format of the store.
    pub format: u32,
    /// The time when the backup was made, in RFC 3339.
    pub made: String,
    /// The position of the journal that the backup has everything before.
    pub position: Position,
    /// The path of `postrider.conf` in the backup.
    pub config: String,
    /// The path of the data folder in the backup.
    pub data: String,
    /// The files, by path.
    pub files: Vec<ManifestFile>,
    /// The SHA-256 of the list with an empty seal, in hexadecimal digits.
    pub seal: String,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// The path in the backup.
    pub name: String,
    /// The length.
    pub bytes: u64,
    /// The SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// A digest in hexadecimal digits.
fn hex(digest: impl AsRef<[u8]>) -> String {
    use std::fmt::Write as _;
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl Manifest {
    /// The bytes of the file, with the right seal.
    ///
    /// # Errors
    /// If the list can't be written as JSON.
    pub fn sealed(mut self) -> anyhow::Result<Vec<u8>> {
        self.files.sort_by(|one, other| one.name.cmp(&other.name));
        self.seal = self.right_seal()?;
        self.bytes()
    }

    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).context("failed to write the list")?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn right_seal(&self) -> anyhow::Result<String> {
        let unsealed = Self {
            seal: String::new(),
            ..self.clone()
        };
        Ok(hex(digest::digest(&SHA256, &unsealed.bytes()?)))
    }

    /// Reads the list of the backup in a folder.
    ///
    /// # Errors
    /// If there is none, or one of its bytes was changed.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(MANIFEST);
        let shown = path.display();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("{shown} is missing: this is no backup, or an incomplete one")
            }
            bytes => bytes.with_context(|| format!("failed to read {shown}"))?,
        };
        let changed = || format!("{shown} is not as it was written");
        let list: Self = serde_json::from_slice(&bytes).with_context(changed)?;
        if list.bytes()? != bytes || list.seal != list.right_seal()? {
            bail!(changed());
        }
        let all = list.files.iter().map(|file| file.name.as_str());
        let all = all.chain([list.config.as_str(), list.data.as_str()]);
        for name in all {
            if !is_below(name) {
                bail!("{shown} names {name:?}, which is not in the backup");
            }
        }
        Ok(list)
    }

    /// The bytes of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Compares the files of a folder with the list. Gives the faults, each as a sentence.
    #[must_use]
    pub fn compare(&self, folder: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        for file in &self.files {
            let (name, found) = (&file.name, digest_of(&folder.join(&file.name)));
            match found {
                Err(error) => faults.push(format!("{name}: {error}")),
                Ok((bytes, _)) if bytes != file.bytes => {
                    let wanted = file.bytes;
                    faults.push(format!("{name} has {bytes} bytes instead of {wanted}"));
                }
                Ok((_, sha256)) if sha256 != file.sha256 => {
                    faults.push(format!("{name} has changed: its SHA-256 is another one"));
                }
                Ok(_) => {}
            }
        }
        let listed: BTreeSet<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        match all_files(folder) {
            Err(error) => faults.push(format!("the folder can't be listed: {error}")),
            Ok(found) => faults.extend(
                found
                    .iter()
                    .filter(|name| *name != MANIFEST && !listed.contains(name.as_str()))
                    .map(|name| format!("{name} is not in {MANIFEST}")),
            ),
        }
        faults
    }
}

/// Whether a path stays below a folder.
fn is_below(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.is_empty() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// The length and the SHA-256 of a file.
fn digest_of(path: &Path) -> std::io::Result<(u64, String)> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut file = fs::File::open(path)?;
    let (mut hasher, mut bytes) = (Hasher::new(&SHA256), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((bytes, hex(hasher.finish())));
        }
        hasher.update(piece.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
}

/// The paths of all files below a folder, without the path of the folder.
fn all_files(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            match entry.file_type()?.is_dir() {
                true => folders.push(path),
                false => found.push(path.to_string_lossy().into_owned()),
            }
        }
    }
    Ok(found)
}

/// Makes sure that a folder is empty or absent, and makes it. Only its owner may enter it.
///
/// # Errors
/// If the folder has entries, or can't be made.
pub fn empty_folder(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!("{shown} is not empty; name a folder that is empty or does not exist");
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("failed to look at {shown}")),
    }
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, mode))
        .with_context(|| format!("failed to make the folder {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(folder: &Path) -> Manifest {
        let files = ["data/one", "two"].map(|name| {
            let (bytes, sha256) = digest_of(&folder.join(name)).unwrap();
            ManifestFile {
                name: name.to_owned(),
                bytes,
                sha256,
            }
        });
        Manifest {
            version: "0.1.0".into(),
            format: 5,
            made: "2026-11-29T00:00:00Z".into(),
            position: Position::START,
            config: "config/postrider.conf".into(),
            data: "data".into(),
            files: files.to_vec(),
            seal: String::new(),
        }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/one"), "one").unwrap();
        fs::write(folder.path().join("two"), "").unwrap();
        folder
    }

    #[test]
    fn each_changed_byte_of_the_list_is_found() {
        let folder = folder();
        let bytes = list(folder.path()).sealed().unwrap();
        let path = folder.path().join(MANIFEST);
        fs::write(&path, &bytes).unwrap();
        let read = Manifest::read(folder.path()).unwrap();
        assert_eq!(read.compare(folder.path()), [""; 0]);
        assert_eq!(read.size(), 3);
        for at in 0..bytes.len() {
            for bit in [1, 0x20] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                fs::write(&path, &changed).unwrap();
                Manifest::read(folder.path()).unwrap_err();
            }
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        Manifest::read(folder.path()).unwrap_err();
    }

    #[test]
    fn a_list_names_no_files_elsewhere() {
        let folder = folder();
        for name in ["../two", "/etc/passwd", "", "data/../../two", "."] {
            let mut list = list(folder.path());
            list.files[0].name = name.into();
            fs::write(folder.path().join(MANIFEST), list.sealed().unwrap()).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err();
            assert!(error.to_string().contains("not in the backup"), "{error}");
        }
    }

    #[test]
    fn changed_missing_and_further_files_are_found() {
        let folder = folder();
        let list = list(folder.path());
        fs::write(folder.path().join("data/one"), "onE").unwrap();
        fs::remove_file(folder.path().join("two")).unwrap();
        fs::write(folder.path().join("three"), "").unwrap();
        let faults = list.compare(folder.path());
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("data/one has changed"), "{faults:?}");
        assert!(faults[1].starts_with("two: "), "{faults:?}");
        assert_eq!(faults[2], "three is not in backup.json");
        fs::write(folder.path().join("data/one"), "one!").unwrap();
        let faults = list.compare(folder.path());
        assert_eq!(faults[0], "data/one has 4 bytes instead of 3");
    }

    #[test]
    fn a_folder_with_entries_is_refused() {
        let folder = folder();
        let error = empty_folder(folder.path()).unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
        empty_folder(&folder.path().join("new/below")).unwrap();
    }
}
