//! The folder of a new server: written as a whole in a folder of its own, then moved to its place.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::unistd::{User, chown, geteuid};
use postrider_admin::op::passwords;
use postrider_config::{Dynamic, Static};
use postrider_store::{Clock as _, Store, SystemClock};

use crate::services::store_options;

/// The files and folders of a server, as quickstart makes them.
pub(super) const WANTED: [&str; 4] = ["config", "data", "postrider.service", "quickstart.txt"];

/// A file to write.
pub(super) struct File {
    /// The path below the folder of the server.
    path: PathBuf,
    mode: u32,
    content: String,
}

impl File {
    /// A file that only the server reads.
    pub(super) fn secret(path: impl Into<PathBuf>, content: impl Into<String>) -> Self {
        Self::new(path, 0o600, content)
    }

    /// A file that the group may read.
    pub(super) fn public(path: impl Into<PathBuf>, content: impl Into<String>) -> Self {
        Self::new(path, 0o640, content)
    }

    /// A file that all may read.
    pub(super) fn open(path: impl Into<PathBuf>, content: impl Into<String>) -> Self {
        Self::new(path, 0o644, content)
    }

    fn new(path: impl Into<PathBuf>, mode: u32, content: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            mode,
            content: content.into(),
        }
    }
}

/// The folder of a server.
pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    /// A folder that exists, or that will be made.
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        let shown = dir.display();
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir);
        made.with_context(|| format!("failed to make the folder {shown}"))?;
        let dir = dir.canonicalize();
        let dir = dir.with_context(|| format!("failed to find the folder {shown}"))?;
        if dir
            .to_str()
            .is_none_or(|dir| dir.contains(char::is_whitespace))
        {
            bail!(
                "the unit for systemd can't name {shown}, since it has a blank; choose another folder with --dir"
            );
        }
        Ok(Self { dir })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Those of the wanted files that exist.
    pub(super) fn existing(&self) -> Vec<&'static str> {
        let exists = |name: &&str| fs::symlink_metadata(self.dir.join(name)).is_ok();
        WANTED.into_iter().filter(exists).collect()
    }

    /// Writes all files to a folder of their own. It goes when the value is dropped.
    pub(super) fn draft(&self, files: &[File]) -> anyhow::Result<Draft<'_>> {
        let path = self
            .dir
            .join(format!(".quickstart-{:016x}", rand::random::<u64>()));
        private_dir(&path)?;
        let draft = Draft { place: self, path };
        for folder in ["config", "config/dkim", "config/hostkeys", "data"] {
            private_dir(&draft.path.join(folder))?;
        }
        for file in files {
            draft.add(file)?;
        }
        Ok(draft)
    }
}

fn private_dir(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.with_context(|| format!("failed to make the folder {}", path.display()))
}

/// The files of a new server, not yet in their place.
pub(super) struct Draft<'a> {
    place: &'a Place,
    path: PathBuf,
}

impl Draft<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a file.
    pub(super) fn add(&self, file: &File) -> anyhow::Result<()> {
        let path = self.path.join(&file.path);
        let write = || {
            let mut out = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(file.mode)
                .open(&path)?;
            out.write_all(file.content.as_bytes())?;
            out.set_permissions(fs::Permissions::from_mode(file.mode))?;
            out.sync_all()
        };
        write().with_context(|| format!("failed to write {}", path.display()))
    }

    /// Sets the password of the account in the store, and that of the administrator.
    pub(super) async fn set_passwords(
        &self,
        statics: &Static,
        dynamic: &Dynamic,
        account: &str,
        own: &str,
        admin: &str,
    ) -> anyhow::Result<()> {
        passwords::set_admin_password(&self.path.join("config/adminpasswd"), admin)?;
        let store = Store::open(store_options(statics))?;
        let now = SystemClock.now();
        let set = passwords::set_account_password(&store, None, dynamic, account, own, now).await;
        store.close().await;
        Ok(set?)
    }

    /// Gives the files to the user of the server, if root runs this and the user exists, and moves
    /// them to their place. What was moved goes back if a move fails.
    pub(super) fn move_to_place(self) -> anyhow::Result<()> {
        if geteuid().is_root()
            && let Ok(Some(user)) = User::from_name("postrider")
        {
            for path in all_below(&self.path)? {
                chown(&path, Some(user.uid), Some(user.gid)).with_context(|| {
                    format!("failed to give {} to {}", path.display(), user.name)
                })?;
            }
        }
        for folder in all_below(&self.path)?.iter().filter(|path| path.is_dir()) {
            sync(folder)?;
        }
        let mut moved = Vec::new();
        for name in WANTED {
            let (from, to) = (self.path.join(name), self.place.dir.join(name));
            let free = fs::symlink_metadata(&to).is_err();
            let result = match free {
                true => fs::rename(&from, &to),
                false => Err(std::io::ErrorKind::AlreadyExists.into()),
            };
            if let Err(error) = result {
                for (from, to) in moved {
                    let _ = fs::rename(to, from);
                }
                let to = to.display();
                return Err(error)
                    .with_context(|| format!("failed to make {to}; nothing was written"));
            }
            moved.push((from, to));
        }
        sync(&self.place.dir)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("failed to sync {}", folder.display()))
}

/// A folder with all that is below it.
fn all_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        if path.is_dir() {
            let entries = fs::read_dir(&path).and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.path()))
                    .collect::<Result<Vec<_>, _>>()
            });
            all.extend(entries.with_context(|| format!("failed to list {}", path.display()))?);
        }
    }
    Ok(all)
}
