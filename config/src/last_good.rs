//! The last `domains.conf` without errors, kept in the data folder.
//!
//! A server that restarts while somebody edits the file must not stay down. It starts with this
//! copy, says so, and takes the file as soon as it has no errors.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{dynamics::Dynamic, file::replace_private, statics::Static};

/// The name of the copy in the data folder.
const NAME: &str = "domains.conf.last-good";

/// A configuration from the copy.
#[derive(Debug)]
pub struct LastGood {
    /// The configuration, as if it had been read from `domains.conf`.
    pub config: Dynamic,
    /// The time when the copy was made. None if the file system does not tell.
    pub saved: Option<SystemTime>,
}

/// The path of the copy.
pub(crate) fn path(statics: &Static) -> PathBuf {
    statics.data_dir.join(NAME)
}

/// Keeps a configuration for the next start. A copy that is the same stays as it is.
///
/// # Errors
/// If the copy can't be written.
pub fn keep_good(statics: &Static, config: &Dynamic) -> io::Result<()> {
    let path = path(statics);
    match fs::read(&path) {
        Ok(kept) if kept == config.text().as_bytes() => Ok(()),
        _ => replace_private(&path, config.text().as_bytes()),
    }
}

/// The configuration of the copy. `file` is the path of `domains.conf`: names of other files are
/// relative to it. None: there is no copy, or it has errors too.
#[must_use]
pub fn last_good(statics: &Static, file: &Path) -> Option<LastGood> {
    let path = path(statics);
    let text = fs::read_to_string(&path).ok()?;
    let config = Dynamic::parse(&text, file, statics).ok()?;
    let metadata = fs::metadata(&path).ok();
    let saved = metadata.and_then(|metadata| metadata.modified().ok());
    Some(LastGood { config, saved })
}
