//! The ways in which a journal fails.

use std::io;

use super::{frame, segment_name};

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has the journal open.
    #[error("open the journal: the data folder is in use by another process")]
    InUse,
    /// The system reported an error.
    #[error("read {file}: {error}")]
    Io {
        /// The file, relative to the data folder.
        file: String,
        /// The system's error.
        error: io::Error,
    },
    /// A later version of this program wrote the file.
    #[error(
        "read {file}: made by a newer postrider (journal format {version}, this one knows up to {})",
        frame::FORMAT
    )]
    Newer {
        /// The file, relative to the data folder.
        file: String,
        /// The version of its format.
        version: u32,
    },
    /// This program does not know the kind of an entry.
    #[error(
        "read {file}: entry at byte {offset} is of an unknown kind, perhaps made by a newer postrider"
    )]
    UnknownEntry {
        /// The file, relative to the data folder.
        file: String,
        /// The first byte of the entry.
        offset: u64,
    },
    /// The file no longer has the bytes that were safely written.
    #[error("read {file}: damaged at byte {offset}")]
    Corrupt {
        /// The file, relative to the data folder.
        file: String,
        /// The first byte that does not validate.
        offset: u64,
    },
    /// A segment that the replay needs does not exist.
    #[error("read the journal: {} is missing", segment_name(*generation))]
    Missing {
        /// The generation of the segment.
        generation: u64,
    },
    /// The caller refused an entry.
    #[error("replay {file}: entry at byte {offset}: {error}")]
    Apply {
        /// The file, relative to the data folder.
        file: String,
        /// The first byte of the entry.
        offset: u64,
        /// The caller's error.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a batch was not appended.
///
/// The journal goes on, except after `Closed`. No entry of the batch is ever read back, with one
/// exception: if the process dies before a later append succeeds, the next start may find some
/// entries, as after a crash in the middle of an append. After `Failed` that can happen only if
/// there was no other segment to write to.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full. The next append may work.
    #[error("append to the journal: {0}")]
    Full(io::Error),
    /// A write or a sync failed, or no segment could be made. The next append goes to another
    /// segment.
    #[error("append to the journal: {0}")]
    Failed(io::Error),
    /// A write or a sync failed for the second time. The journal writes nothing any more. The next
    /// start may find the batch of this error or not.
    #[error("append to the journal: closed after repeated failures, the last being: {0}")]
    Closed(io::Error),
    /// The batch has more bytes than [`Journal::max_batch`](super::Journal::max_batch). Split it.
    #[error("append to the journal: batch of {bytes} bytes is above {max}")]
    TooLarge {
        /// The size of the batch.
        bytes: usize,
        /// The largest size.
        max: usize,
    },
}

/// Why a text could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment of the text was released.
    #[error("read a text: {} was released", segment_name(*generation))]
    Released {
        /// The generation of the segment.
        generation: u64,
    },
    /// The system reported an error.
    #[error("read {file}: {error}")]
    Io {
        /// The file, relative to the data folder.
        file: String,
        /// The system's error.
        error: io::Error,
    },
    /// The bytes are not the bytes that were written.
    #[error("read {file}: text at byte {offset} is damaged")]
    Corrupt {
        /// The file, relative to the data folder.
        file: String,
        /// The first byte of the text.
        offset: u64,
    },
}
