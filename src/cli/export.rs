//! `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The forms of `export`.
#[derive(Debug, Subcommand)]
pub enum Export {
    /// Write a Maildir: a folder for each mailbox, a file for each mail.
    Maildir(ExportTarget),
    /// Write mbox files: one for each mailbox.
    Mbox(ExportTarget),
}

/// Where the mail goes, and whose it is.
#[derive(Debug, Args)]
pub struct ExportTarget {
    /// The new folder. It must not exist.
    pub dir: PathBuf,
    /// The account.
    pub account: String,
}
