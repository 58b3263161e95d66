//! The server gives up root after it has bound its sockets.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::unistd::{Gid, User, geteuid, getgrouplist, initgroups, setgid, setuid};
use tracing::debug;

use crate::files::DATA_MARK;

/// The files that the server could not read after [`drop_to`], each with a sentence. Empty if the
/// process would keep its user: then each file was tried by reading it.
///
/// # Errors
/// If the user or its groups can't be looked up.
pub fn unreadable(user: &str, files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let Some(found) = find(user)? else {
        return Ok(Vec::new());
    };
    let name = CString::new(user).context("the user's name has a NUL")?;
    let groups = getgrouplist(&name, found.gid).context("failed to look up the user's groups")?;
    let reader = Reader {
        uid: found.uid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    };
    let barred = files
        .iter()
        .filter_map(|file| Some((file, reader.barrier(file)?)));
    let sentence = |(file, barrier): (&PathBuf, PathBuf)| {
        let place = match barrier == *file {
            true => String::new(),
            false => format!(", because of the folder {}", barrier.display()),
        };
        format!(
            "{}: the user {user} can't read it{place}; the server reads it again when it changes (chown, chmod)",
            file.display()
        )
    };
    Ok(barred.map(sentence).collect())
}

/// A user whose rights are judged by the modes of files. Access control lists are not looked at.
struct Reader {
    uid: u32,
    groups: Vec<u32>,
}

impl Reader {
    /// The file itself or the folder above it that keeps the user from reading the file. None if
    /// nothing does, or if the file does not exist.
    fn barrier(&self, file: &Path) -> Option<PathBuf> {
        let file_path = fs::canonicalize(file).ok()?;
        let barred = file_path
            .ancestors()
            .skip(1)
            .find(|folder| !self.may(folder, 0o1));
        match barred {
            Some(folder) => Some(folder.to_owned()),
            None => (!self.may(&file_path, 0o4)).then(|| file.to_owned()),
        }
    }

    /// Whether the mode of a file allows the user this: 4 to read it, 1 to pass through it.
    fn may(&self, path: &Path, wanted: u32) -> bool {
        let Ok(metadata) = fs::metadata(path) else {
            return false;
        };
        let shift = if metadata.uid() == self.uid {
            6
        } else if self.groups.contains(&metadata.gid()) {
            3
        } else {
            0
        };
        (metadata.mode() >> shift) & wanted != 0
    }
}

/// The user to become. None: the process keeps its user.
fn find(user: &str) -> anyhow::Result<Option<User>> {
    if user.is_empty() || !geteuid().is_root() {
        return Ok(None);
    }
    let found =
        User::from_name(user).with_context(|| format!("failed to look up the user {user:?}"))?;
    let found = found.with_context(|| {
        format!(
            "there is no user {user:?} to run as; make it (useradd --system {user}), or set user = \"\" in \
             postrider.conf to stay root"
        )
    })?;
    if found.uid.is_root() {
        bail!(
            "the user {user:?} is root; name another user in postrider.conf (user), or set user = \"\" to stay \
             root"
        );
    }
    Ok(Some(found))
}

/// Becomes `user`, if this process is root and `user` is not empty. Returns true if the user
/// changed. A missing data folder is created for that user first, because the rights to do so are
/// gone afterwards.
///
/// # Errors
/// If there is no such user, or the system refuses the change. Then the process must end: it must
/// not go on as root.
pub fn drop_to(user: &str, data_dir: &Path) -> anyhow::Result<bool> {
    let Some(found) = find(user)? else {
        return Ok(false);
    };
    // The user must be able to enter the new folders above it too.
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = data_dir.ancestors().take_while(missing).collect();
    if !missing.is_empty() {
        crate::files::private_dir(data_dir, DATA_MARK)?;
        let (uid, gid) = (found.uid.as_raw(), found.gid.as_raw());
        for folder in missing {
            // The open folder, since the path may lead elsewhere by now.
            crate::files::open_folder(folder, false)
                .and_then(|open| fchown(&open, Some(uid), Some(gid)))
                .with_context(|| format!("failed to give {} to {user}", folder.display()))?;
        }
    }
    let name = CString::new(user).context("the user's name has a NUL")?;
    initgroups(&name, found.gid).context("failed to take on the user's groups")?;
    setgid(found.gid).context("failed to take on the user's group")?;
    setuid(found.uid).context("failed to take on the user")?;
    if setuid(0.into()).is_ok() {
        bail!("still able to become root after changing to {user:?}");
    }
    debug!(user, "root given up");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn root_is_no_user_to_become() {
        let found = find("root").map(|found| found.is_some());
        match geteuid().is_root() {
            true => assert!(
                found
                    .unwrap_err()
                    .to_string()
                    .contains("is root; name another")
            ),
            false => assert!(!found.unwrap()),
        }
        assert!(find("").unwrap().is_none());
    }

    #[test]
    fn the_file_or_folder_that_bars_a_reader_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap().join("config");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("key.pem");
        fs::write(&file, "key").unwrap();
        let owner = fs::metadata(&file).unwrap();
        let reader = |uid: u32, gid: u32| Reader {
            uid,
            groups: vec![gid],
        };
        let stranger = reader(owner.uid() + 1, owner.gid() + 1);
        let group = reader(owner.uid() + 1, owner.gid());
        let own = reader(owner.uid(), owner.gid() + 1);
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(dir.path(), 0o755);
        for (folder_mode, file_mode, who, barrier) in [
            (0o755, 0o644, &stranger, None),
            (0o755, 0o640, &stranger, Some(&file)),
            (0o755, 0o640, &group, None),
            (0o755, 0o604, &group, Some(&file)),
            (0o700, 0o644, &stranger, Some(&folder)),
            (0o700, 0o600, &own, None),
        ] {
            set(&folder, folder_mode);
            set(&file, file_mode);
            let found = who.barrier(&file);
            assert_eq!(found.as_ref(), barrier, "{folder_mode:o} {file_mode:o}");
        }
        set(&folder, 0o755);
        assert_eq!(own.barrier(&folder.join("none")), None);
    }
}
