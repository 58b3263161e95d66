//! The server gives up root after it has bound its sockets.

use std::path::Path;

use anyhow::{Context, bail};
use nix::unistd::{User, chown, geteuid, initgroups, setgid, setuid};
use tracing::info;

/// Checks that [`drop_to`] would find the user.
///
/// # Errors
/// If there is no such user.
pub fn check(user: &str) -> anyhow::Result<()> {
    find(user).map(drop)
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
    if !data_dir.exists() {
        crate::files::private_dir(data_dir)?;
        chown(data_dir, Some(found.uid), Some(found.gid))
            .with_context(|| format!("failed to give {} to {user}", data_dir.display()))?;
    }
    let name = std::ffi::CString::new(user).context("the user's name has a NUL")?;
    initgroups(&name, found.gid).context("failed to take on the user's groups")?;
    setgid(found.gid).context("failed to take on the user's group")?;
    setuid(found.uid).context("failed to take on the user")?;
    if setuid(0.into()).is_ok() {
        bail!("still able to become root after changing to {user:?}");
    }
    info!(user, "gave up root");
    Ok(true)
}
