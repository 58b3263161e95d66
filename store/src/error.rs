//! The errors of the store.

use std::{io, path::PathBuf, sync::Arc};

use crate::{TextId, table::value::Unreadable};

/// Why the store did not do what it was asked. Nothing was changed then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room for new mail (SMTP 452 4.3.1). Queued mail goes on.
    #[error("the disk is full")]
    Full,
    /// The store was closed, or stopped by an earlier failure of the disk.
    #[error("the store is closed")]
    Closed,
    /// The change could not be made durable.
    #[error("the disk does not take it: {0}")]
    Write(Arc<io::Error>),
    /// The data could not be read.
    #[error("the disk does not give it: {0}")]
    Read(Arc<io::Error>),
    /// The data is not as it was written.
    #[error("damaged data: {0}")]
    Corrupt(String),
    /// A newer postrider wrote the data.
    #[error("{0}")]
    Newer(String),
    /// A fault of the program itself stopped the store.
    #[error("{0}")]
    Bug(String),
    /// The text is not stored (any more).
    #[error("there is no stored text {0}")]
    NoText(TextId),
    /// A message with this fromid is queued or in the history already.
    #[error("the fromid {0:?} is in use")]
    FromIdInUse(String),
    /// A unit that is done once was done before: see [`Once`](crate::Once).
    #[error("this was done before")]
    DoneBefore,
    /// The account has no such mailbox.
    #[error("there is no such mailbox")]
    NoFolder,
    /// The account has a mailbox of this name.
    #[error("there is a mailbox of this name")]
    FolderExists,
    /// The mailbox has mail in it.
    #[error("the mailbox is not empty")]
    FolderNotEmpty,
    /// The mailbox has too much mail to change all of it in one step.
    #[error("the mailbox has too many messages")]
    FolderTooLarge,
    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder can't be made, or a file in it can't be read or written.
    #[error(
        "cannot use the data folder {}: {error}; the user that runs postrider must own it and be able to write there",
        path.display()
    )]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// Another process has it.
    #[error("the data folder {} is in use by another postrider; stop that one first", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "the data folder {} is of format {found}, this program knows formats up to {known}; use the newer program that \
         wrote it",
        path.display()
    )]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest that this program reads.
        known: u32,
    },
    /// A newer program wrote a record or an operation.
    #[error("{}: {what}; use the newer program that wrote it", path.display())]
    NewerData {
        /// The file that has it.
        path: PathBuf,
        /// The kind of the data.
        what: String,
    },
    /// A program from before the first release wrote it.
    #[error(
        "{} is of format {found}, of a version before the first release, which is not read any more; move the data folder \
         away to begin with an empty one",
        path.display()
    )]
    Older {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A file is damaged, in a way that an interrupted write does not explain.
    #[error(
        "{} is damaged at byte {offset}: {what}; nothing was changed. Have the disk checked, and restore a backup \
         (\"postrider restore\")",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The place in it.
        offset: u64,
        /// The fault there.
        what: String,
    },
    /// The index is gone or does not go with the journal.
    #[error(
        "the index {} cannot be used: {what}. It cannot be made anew from the journal, whose older parts were reused; \
         restore a backup (\"postrider restore\")",
        path.display()
    )]
    Index {
        /// The index.
        path: PathBuf,
        /// The fault.
        what: String,
    },
}

/// The faults that stop an engine: its own data can't be read, or the index can't be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Index(#[from] redb::Error),
    #[error("the index can't be written: {0}")]
    Commit(redb::Error),
    #[error("the index has a {what} in its table {table} that makes no sense")]
    Record {
        table: &'static str,
        what: &'static str,
    },
    #[error("the index has a record in its table {table} {version}")]
    Version {
        table: &'static str,
        version: Unreadable,
    },
    #[error("a fault of the program: the thread {0} ended by a panic")]
    Panicked(&'static str),
}

impl From<redb::StorageError> for Fault {
    fn from(error: redb::StorageError) -> Self {
        Self::Index(error.into())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Index(redb::Error::Io(error)) => Self::Read(error.into()),
            Fault::Commit(redb::Error::Io(error)) => Self::Write(error.into()),
            // After a failed call redb does nothing more. The failed call has the reason.
            Fault::Index(redb::Error::PreviousIo) | Fault::Commit(redb::Error::PreviousIo) => {
                Self::Closed
            }
            Fault::Version { version, .. } if version.is_newer() => Self::Newer(fault.to_string()),
            Fault::Panicked(_) => Self::Bug(fault.to_string()),
            fault => Self::Corrupt(fault.to_string()),
        }
    }
}
