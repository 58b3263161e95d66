//! Message texts: writing one while it arrives, and reading a stored one.

use std::{fmt, io, mem, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::task;

use crate::{
    INLINE_BODY_MAX, NewBody, StoreError,
    bodyfile::{BodyFileReader, BodyFileWriter, BodyFiles},
    disk::is_full,
    journal::{JournalBody, ReadError},
};

/// Collects a text as it arrives. Dropped before [`finish`](Self::finish), nothing of it stays.
pub struct BodyWriter {
    /// What is not in the file yet.
    buffer: BytesMut,
    /// Bytes that are.
    written: u64,
    target: Target,
}

enum Target {
    /// All stays in memory.
    Memory,
    /// It goes to a file when it becomes too large.
    Files(BodyFiles),
    File(Box<BodyFileWriter>),
    /// A write failed, or was given up in the middle.
    Broken,
}

impl BodyWriter {
    pub(crate) fn in_memory() -> Self {
        Self::new(Target::Memory)
    }

    pub(crate) fn on_disk(files: BodyFiles) -> Self {
        Self::new(Target::Files(files))
    }

    fn new(target: Target) -> Self {
        Self {
            buffer: BytesMut::new(),
            written: 0,
            target,
        }
    }

    /// Adds the next piece.
    ///
    /// # Errors
    /// If the disk does not take it. Then the text can only be dropped.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > INLINE_BODY_MAX && !matches!(self.target, Target::Memory) {
            self.spill().await?;
        }
        Ok(())
    }

    /// Brings the buffer to the file, in a thread that may block.
    async fn spill(&mut self) -> Result<(), StoreError> {
        let bytes = self.buffer.split().freeze();
        self.written += bytes.len() as u64;
        let target = mem::replace(&mut self.target, Target::Broken);
        self.target = blocking(move || {
            let mut file = match target {
                Target::Files(files) => Box::new(files.create()?),
                Target::File(file) => file,
                Target::Memory | Target::Broken => {
                    return Err(io::Error::other("an earlier write failed"));
                }
            };
            file.write(&bytes)?;
            Ok(Target::File(file))
        })
        .await?;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the text. What went to a file is synced then.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub async fn finish(mut self) -> Result<NewBody, StoreError> {
        if matches!(self.target, Target::Memory | Target::Files(_)) {
            return Ok(NewBody::Inline(self.buffer.freeze()));
        }
        self.spill().await?;
        match self.target {
            Target::File(file) => Ok(NewBody::File(blocking(move || file.finish()).await?)),
            _ => Err(StoreError::Closed),
        }
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(
    action: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    match task::spawn_blocking(action).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if is_full(&error) => Err(StoreError::Full),
        Ok(Err(error)) => Err(StoreError::Write(error.into())),
        // The runtime ends.
        Err(_) => Err(StoreError::Closed),
    }
}

/// A stored text. It can be read while the value lives, also when the last record that refers to it goes meanwhile.
#[derive(Clone, Debug)]
pub struct Body {
    text: Text,
}

#[derive(Clone, Debug)]
enum Text {
    Memory(Bytes),
    Journal(JournalBody),
    File(Arc<BodyFileReader>),
}

impl Body {
    pub(crate) const fn empty() -> Self {
        Self::in_memory(Bytes::new())
    }

    pub(crate) const fn in_memory(text: Bytes) -> Self {
        Self {
            text: Text::Memory(text),
        }
    }

    pub(crate) const fn in_journal(text: JournalBody) -> Self {
        Self {
            text: Text::Journal(text),
        }
    }

    pub(crate) fn in_file(text: BodyFileReader) -> Self {
        Self {
            text: Text::File(Arc::new(text)),
        }
    }

    /// Bytes of the text.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.text {
            Text::Memory(text) => text.len() as u64,
            Text::Journal(text) => u64::from(text.place().len),
            Text::File(text) => text.place().len,
        }
    }

    /// Whether the text has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of the text, cut at its end. Blocks for a read of the disk, which usually finds it in the page cache. A read
    /// of the whole also checks that it is what was written.
    ///
    /// # Errors
    /// If the disk does not give it, or it is damaged.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        match &self.text {
            Text::Memory(text) => {
                let at = |at: u64| usize::try_from(at).map_or(text.len(), |at| at.min(text.len()));
                let (start, end) = (at(range.start), at(range.end));
                Ok(text.slice(start.min(end)..end))
            }
            Text::Journal(text) => Ok(text.read(range)?),
            Text::File(text) => text.read(range).map_err(|error| {
                if error.kind() == io::ErrorKind::InvalidData {
                    StoreError::Corrupt(error.to_string())
                } else {
                    StoreError::Read(error.into())
                }
            }),
        }
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { error, .. } => Self::Read(error.into()),
            error => Self::Corrupt(error.to_string()),
        }
    }
}
