//! The configuration of other mail servers, read and written as ours.
//!
//! [`mox()`], [`postfix()`] and [`stalwart()`] are functions from files to an [`Import`]. They
//! read through a [`Files`], and write nothing. [`Import::write`] writes the result to a folder
//! that does not have such files yet.
//!
//! Each setting of the other server gets a [`Note`]: it was taken, it was changed, or it has no
//! counterpart. No setting is dropped in silence, except those that have the value that the other
//! server would use anyway. Passwords are not taken.
//!
//! | modules | content |
//! |---|---|
//! | `files`, `lines` | reading files, and the lines of files with continuations |
//! | `document` | writing TOML |
//! | `notes` | the fate of each setting |
//! | `output` | writing the result |
//! | `mox`, `postfix`, `stalwart` | the servers |

mod document;
mod files;
mod lines;
mod mox;
mod notes;
mod output;
mod postfix;
mod stalwart;

use std::path::{Path, PathBuf};

pub use files::{Disk, Files};
pub use mox::mox;
pub use notes::{Fate, Note};
pub use output::WriteError;
pub use postfix::postfix;
pub use stalwart::{Fragment, stalwart};

use crate::error::{ConfigError, Errors};

/// The configuration of another mail server in our form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The text of `postrider.conf`.
    pub statics: String,
    /// The text of `domains.conf`.
    pub dynamic: String,
    /// Further files that the two name.
    pub files: Vec<PrivateFile>,
    /// The fate of each setting, in the order of the files.
    pub notes: Vec<Note>,
}

/// A file that only its owner may read.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateFile {
    /// The path, relative to the folder of the configuration.
    pub path: PathBuf,
    /// The content.
    pub content: Vec<u8>,
}

/// Hides the content, which is a secret.
impl std::fmt::Debug for PrivateFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.content.len())
    }
}

/// The problem of a line.
fn problem(file: &Path, line: usize, message: impl Into<String>) -> ConfigError {
    ConfigError {
        file: file.to_owned(),
        line,
        column: usize::from(line > 0),
        key: String::new(),
        message: message.into(),
    }
}

/// The error of a file that cannot be used.
fn failure(file: &Path, line: usize, message: impl Into<String>) -> Errors {
    Errors::one(problem(file, line, message))
}
