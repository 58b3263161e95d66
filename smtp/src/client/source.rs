//! Where the text of a message comes from while it is sent.

use std::io;

use bytes::Bytes;

/// The text of a message.
///
/// It is read piece by piece as the peer takes it, on the task that sends. A read may take as long as a read of a file that the
/// system most likely has in memory, not longer.
pub trait BodySource: Send + Sync {
    /// Its bytes.
    fn len(&self) -> u64;

    /// It has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most `max` bytes from `offset` on; at least one, unless `offset` is the end.
    ///
    /// # Errors
    /// The text can't be read. The message then counts as not sent.
    fn read(&self, offset: u64, max: usize) -> io::Result<Bytes>;
}

impl BodySource for Bytes {
    fn len(&self) -> u64 {
        // No address space has more than 64 bits.
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        Ok(self.slice(start..start.saturating_add(max).min(self.len())))
    }
}

impl BodySource for Box<dyn BodySource> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        (**self).read(offset, max)
    }
}

/// A text with something in front, like a DKIM-Signature field.
#[derive(Clone, Debug)]
pub struct Prefixed<B> {
    /// What comes first.
    pub prefix: Bytes,
    /// What follows.
    pub body: B,
}

impl<B: BodySource> BodySource for Prefixed<B> {
    fn len(&self) -> u64 {
        BodySource::len(&self.prefix).saturating_add(self.body.len())
    }

    fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        match offset.checked_sub(BodySource::len(&self.prefix)) {
            Some(offset) => self.body.read(offset, max),
            None => self.prefix.read(offset, max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_read_first() {
        let source = Prefixed {
            prefix: Bytes::from_static(b"abc"),
            body: Bytes::from_static(b"defgh"),
        };
        assert_eq!(source.len(), 8);
        for max in 1..10 {
            let mut all = Vec::new();
            while (all.len() as u64) < source.len() {
                let piece = source.read(all.len() as u64, max).unwrap();
                assert!(!piece.is_empty() && piece.len() <= max);
                all.extend_from_slice(&piece);
            }
            assert_eq!(all, b"abcdefgh");
        }
        assert!(source.read(8, 10).unwrap().is_empty() && source.read(99, 10).unwrap().is_empty());
    }
}
