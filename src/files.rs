//! Private files and folders: only their owner may use them.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use anyhow::Context;
use postrider_config::replace_private;

/// Makes a folder that only its owner may enter, and the missing folders above it.
///
/// # Errors
/// If the folder cannot be made. The error names it.
pub fn private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| {
            format!(
                "failed to make the folder {}; check that its parent exists and is writable",
                path.display()
            )
        })
}

/// Writes a file that only its owner may read. After a crash the file is there as a whole, or not
/// at all.
///
/// # Errors
/// If the file cannot be written. The error names it.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    replace_private(path, content).with_context(|| format!("failed to write {}", path.display()))
}
