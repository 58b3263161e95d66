//! The bytes of a message that is sent, read piece by piece.

use std::{fmt, io};

use bytes::Bytes;

use super::Envelope;

/// The bytes of a message: its header section and its body, as one run.
///
/// The connection reads a message in pieces of at most 64 KiB, while the server takes them. It
/// awaits each read, so a source may read from a disk. A source in memory answers at once.
pub trait MessageSource: Send + Sync {
    /// The size of the message in bytes.
    fn size(&self) -> u64;

    /// Reads at most `max` bytes from `offset` on. The piece is only empty at the end of the
    /// message.
    ///
    /// # Errors
    /// The message cannot be read. It then counts as not sent.
    fn read(&self, offset: u64, max: usize) -> impl Future<Output = io::Result<Bytes>> + Send;
}

impl MessageSource for Bytes {
    fn size(&self) -> u64 {
        // No address space has more than 64 bits.
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    async fn read(&self, offset: u64, max: usize) -> io::Result<Self> {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        Ok(self.slice(start..start.saturating_add(max).min(self.len())))
    }
}

/// A message with bytes in front of it, for example a DKIM-Signature field.
#[derive(Clone, Debug)]
pub struct Prefixed<S> {
    /// The bytes in front. They may be empty.
    pub prefix: Bytes,
    /// The message.
    pub message: S,
}

impl<S: MessageSource> MessageSource for Prefixed<S> {
    fn size(&self) -> u64 {
        self.prefix.size().saturating_add(self.message.size())
    }

    async fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        match offset.checked_sub(self.prefix.size()) {
            Some(offset) => self.message.read(offset, max).await,
            None => self.prefix.read(offset, max).await,
        }
    }
}

/// A message to send.
pub struct OutgoingMessage<S> {
    /// The envelope: sender, recipients and parameters.
    pub envelope: Envelope,
    /// The bytes of the message.
    pub source: S,
}

impl<S: MessageSource> fmt::Debug for OutgoingMessage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingMessage")
            .field("envelope", &self.envelope)
            .field("size", &self.source.size())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_prefix_is_read_first() {
        let source = Prefixed {
            prefix: Bytes::from_static(b"abc"),
            message: Bytes::from_static(b"defgh"),
        };
        assert_eq!(source.size(), 8);
        for max in 1..10 {
            let mut all = Vec::new();
            while (all.len() as u64) < source.size() {
                let piece = source.read(all.len() as u64, max).await.unwrap();
                assert!(!piece.is_empty() && piece.len() <= max);
                all.extend_from_slice(&piece);
            }
            assert_eq!(all, b"abcdefgh");
        }
        for end in [8, 99] {
            assert!(source.read(end, 10).await.unwrap().is_empty());
        }
    }
}
