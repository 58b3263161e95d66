//! `backup`, `verify` and `restore`.

use std::path::PathBuf;

use clap::Args;

/// The arguments of `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// The folder for the backup. It must be empty or absent.
    pub dir: PathBuf,
    /// Take the traces of sessions too.
    #[arg(long)]
    pub traces: bool,
}

/// The arguments of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The folder of a backup, or of a server that does not run.
    pub dir: PathBuf,
}

/// The arguments of `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The folder of the backup.
    pub backup: PathBuf,
    /// The new folder. It must be empty or absent.
    pub dir: PathBuf,
}
