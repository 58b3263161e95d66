//! Copies files into a folder, and remembers their lengths and checksums.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use aws_lc_rs::digest::{Context as Hasher, SHA256};
use nix::unistd::geteuid;
use postrider_store::Part;

use super::{ManifestFile, PIECE, digest_of, hex};

/// The user and the group of new files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The owner of a file or folder, if this process may give files to others.
    ///
    /// # Errors
    /// If the file can't be looked at.
    pub fn of(path: &Path) -> anyhow::Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let found = fs::metadata(path);
        let found = found.with_context(|| format!("failed to look at {}", path.display()))?;
        Ok(Some(Self {
            uid: found.uid(),
            gid: found.gid(),
        }))
    }

    /// A user of the system, if this process may give files to others and the user exists.
    #[must_use]
    pub fn named(user: &str) -> Option<Self> {
        if user.is_empty() || !geteuid().is_root() {
            return None;
        }
        let found = nix::unistd::User::from_name(user).ok().flatten()?;
        Some(Self {
            uid: found.uid.as_raw(),
            gid: found.gid.as_raw(),
        })
    }

    /// Gives a file or folder to the owner.
    ///
    /// # Errors
    /// If the system fails.
    pub fn give(self, path: &Path) -> anyhow::Result<()> {
        let given = chown(path, Some(self.uid), Some(self.gid));
        given.with_context(|| format!("failed to give {} away", path.display()))
    }

    /// Gives everything below a folder to the owner, and the folder too.
    ///
    /// # Errors
    /// If the system fails.
    pub fn give_all(self, folder: &Path) -> anyhow::Result<()> {
        self.give(folder)?;
        let listed = || format!("failed to list {}", folder.display());
        for entry in fs::read_dir(folder).with_context(listed)? {
            let entry = entry.with_context(listed)?;
            match entry.file_type().with_context(listed)?.is_dir() {
                true => self.give_all(&entry.path())?,
                false => self.give(&entry.path())?,
            }
        }
        Ok(())
    }
}

/// How a file gets into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As a file of its own.
    Copy,
    /// As another name of the same file, where the file system allows it.
    Link,
}

/// Fills a folder.
#[derive(Debug)]
pub struct Copier {
    folder: PathBuf,
    owner: Option<Owner>,
    folders: BTreeSet<PathBuf>,
    files: Vec<ManifestFile>,
}

impl Copier {
    /// Fills this folder, which exists.
    #[must_use]
    pub fn new(folder: &Path, owner: Option<Owner>) -> Self {
        Self {
            folder: folder.to_owned(),
            owner,
            folders: BTreeSet::from([PathBuf::new()]),
            files: Vec::new(),
        }
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// If the system fails.
    pub fn make_folder(&mut self, name: &Path) -> anyhow::Result<()> {
        let parents: Vec<&Path> = name.ancestors().collect();
        for folder in parents.into_iter().rev() {
            if !self.folders.insert(folder.to_owned()) {
                continue;
            }
            let path = self.folder.join(folder);
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.with_context(|| format!("failed to make the folder {}", path.display()))?;
        }
        Ok(())
    }

    /// Takes a file: all of it, or its beginning with zeros behind.
    ///
    /// # Errors
    /// `NotFound` of the system if there is no such file, as the root cause. All other errors of
    /// the system.
    pub fn take(
        &mut self,
        source: &Path,
        name: &str,
        part: Option<Part>,
        way: Way,
    ) -> anyhow::Result<()> {
        if let Some(parent) = Path::new(name).parent() {
            self.make_folder(parent)?;
        }
        let target = self.folder.join(name);
        let linked = way == Way::Link && part.is_none() && fs::hard_link(source, &target).is_ok();
        let result = match linked {
            true => digest_of(&target),
            false => copy(source, &target, part),
        };
        let (bytes, sha256) = result.with_context(|| {
            let (source, target) = (source.display(), target.display());
            format!("failed to copy {source} to {target}")
        })?;
        self.files.push(ManifestFile {
            name: name.to_owned(),
            bytes,
            sha256,
        });
        Ok(())
    }

    /// The files so far.
    #[must_use]
    pub fn files(&self) -> &[ManifestFile] {
        &self.files
    }

    /// Forgets the files below a folder, and removes them.
    ///
    /// # Errors
    /// If the system fails.
    pub fn undo(&mut self, below: &Path) -> anyhow::Result<()> {
        self.files
            .retain(|file| !Path::new(&file.name).starts_with(below));
        self.folders.retain(|folder| !folder.starts_with(below));
        let path = self.folder.join(below);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Gives all files to their owner, and makes all names durable.
    ///
    /// # Errors
    /// If the system fails.
    pub fn finish(self) -> anyhow::Result<Vec<ManifestFile>> {
        let folders = self.folders.iter().map(|name| self.folder.join(name));
        let files = self.files.iter().map(|file| self.folder.join(&file.name));
        if let Some(owner) = self.owner {
            for path in files.chain(folders.clone()) {
                owner.give(&path)?;
            }
        }
        for path in folders {
            let synced = File::open(&path).and_then(|folder| folder.sync_all());
            synced.with_context(|| format!("failed to sync {}", path.display()))?;
        }
        Ok(self.files)
    }
}

/// Checks that the disk of a folder has room.
///
/// # Errors
/// If it has not.
pub fn check_room(folder: &Path, bytes: u64) -> anyhow::Result<()> {
    let stat = nix::sys::statvfs::statvfs(folder);
    let stat = stat.with_context(|| format!("failed to look at {}", folder.display()))?;
    let free = u128::from(stat.blocks_available()) * u128::from(stat.fragment_size());
    if free < u128::from(bytes) {
        bail!(
            "{} needs {bytes} bytes, and its disk has {free}",
            folder.display()
        );
    }
    Ok(())
}

/// Copies a file and syncs it. Gives the length and the SHA-256 of the copy.
fn copy(source: &Path, target: &Path, part: Option<Part>) -> io::Result<(u64, String)> {
    let from = File::open(source)?;
    let mode = from.metadata()?.mode() & 0o777;
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)?;
    let (mut hasher, mut bytes) = (Hasher::new(&SHA256), 0);
    let mut from = from.take(part.map_or(u64::MAX, |part| part.bytes));
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            break;
        }
        let read = piece.get(..count).unwrap_or_default();
        hasher.update(read);
        to.write_all(read)?;
        bytes += count as u64;
    }
    if let Some(part) = part {
        if bytes != part.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.set_len(part.len)?;
        piece.fill(0);
        while bytes < part.len {
            let count = usize::try_from(part.len - bytes).map_or(PIECE, |left| left.min(PIECE));
            hasher.update(piece.get(..count).unwrap_or_default());
            bytes += count as u64;
        }
    }
    to.set_permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode))?;
    to.sync_all()?;
    Ok((bytes, hex(hasher.finish())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_copied_cut_and_linked_with_their_sums() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&to).unwrap();
        let content: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8).collect();
        fs::write(&from, &content).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o640)).unwrap();
        let mut copier = Copier::new(&to, None);
        copier.take(&from, "a/b/whole", None, Way::Copy).unwrap();
        copier.take(&from, "a/linked", None, Way::Link).unwrap();
        let part = Some(Part {
            bytes: 5000,
            len: 2_500_000,
        });
        copier.take(&from, "cut", part, Way::Link).unwrap();
        let short = Some(Part {
            bytes: 3_000_001,
            len: 4_000_000,
        });
        copier.take(&from, "short", short, Way::Copy).unwrap_err();
        let missing = folder.path().join("none");
        copier.take(&missing, "none", None, Way::Link).unwrap_err();
        let files = copier.finish().unwrap();
        assert_eq!(files.len(), 3);
        for file in &files {
            let found = digest_of(&to.join(&file.name)).unwrap();
            assert_eq!(found, (file.bytes, file.sha256.clone()), "{}", file.name);
        }
        assert_eq!(files[0].sha256, files[1].sha256);
        let cut = fs::read(to.join("cut")).unwrap();
        assert_eq!(cut.len(), 2_500_000);
        assert_eq!(cut[..5000], content[..5000]);
        assert!(cut[5000..].iter().all(|byte| *byte == 0));
        let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("a/linked"), fs::metadata(&from).unwrap().ino());
        assert_ne!(inode("a/b/whole"), inode("a/linked"));
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("a/b/whole"), mode("a/b")), (0o640, 0o700));
    }

    #[test]
    fn a_folder_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::write(&from, "x").unwrap();
        let to = folder.path().join("to");
        fs::create_dir(&to).unwrap();
        let mut copier = Copier::new(&to, None);
        for round in 0..2 {
            copier.take(&from, "config/one", None, Way::Copy).unwrap();
            copier
                .take(&from, &format!("other{round}"), None, Way::Copy)
                .unwrap();
            if round == 0 {
                copier.undo(Path::new("config")).unwrap();
                copier.undo(Path::new("config")).unwrap();
                assert!(!to.join("config").exists());
            }
        }
        assert_eq!(copier.finish().unwrap().len(), 3);
        check_room(&to, 1).unwrap();
        check_room(&to, u64::MAX).unwrap_err();
    }
}
