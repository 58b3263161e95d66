//! Message texts: writing one while it arrives, and reading a stored one.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::{NewBody, StoreError};

/// Collects a text as it arrives. Dropped before [`finish`](Self::finish), nothing of it stays.
#[derive(Debug)]
pub struct BodyWriter {
    buffer: BytesMut,
}

impl BodyWriter {
    pub(crate) fn in_memory() -> Self {
        Self {
            buffer: BytesMut::new(),
        }
    }

    /// Adds the next piece.
    ///
    /// # Errors
    /// If the disk does not take it.
    #[expect(clippy::unused_async, reason = "a large text goes to a file")]
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.buffer.len() as u64
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
    #[expect(clippy::unused_async, reason = "a large text is synced")]
    pub async fn finish(self) -> Result<NewBody, StoreError> {
        Ok(NewBody::Inline(self.buffer.freeze()))
    }
}

/// A stored text. It can be read while the value lives, also when the last record that refers to it goes meanwhile.
#[derive(Clone, Debug)]
pub struct Body {
    text: Bytes,
}

impl Body {
    pub(crate) fn in_memory(text: Bytes) -> Self {
        Self { text }
    }

    /// Bytes of the text.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.text.len() as u64
    }

    /// Whether the text has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of the text. Blocks for a read of the disk, which usually finds it in the page cache.
    ///
    /// # Errors
    /// If the range does not lie in the text, the disk does not give it, or it is damaged.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let outside = StoreError::Invalid("a range outside of the text");
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
        else {
            return Err(outside);
        };
        if start > end || end > self.text.len() {
            return Err(outside);
        }
        Ok(self.text.slice(start..end))
    }
}
