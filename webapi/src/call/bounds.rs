//! Limits on calls, in all and per account.

use postrider_webhook::{MemoryBudget, Places, Share};

use super::stream_token::StreamTokens;
use crate::error::{ApiError, Code};

/// Bytes of memory for requests and messages that are read as a whole.
const MEMORY: u64 = 256 << 20;
/// Calls that are carried out, or whose bodies arrive.
const CALLS: u32 = 8192;
/// Requests with their bodies in files.
const FILES: u32 = 128;
/// The size of these files on the disk, in MiB. Messages that are made of them may take twice as
/// much besides.
const DISK: u32 = 4096;
/// The part of it that a request takes at once, in MiB.
const DISK_STEP: u32 = 16;
/// Questions that the store looks up.
const QUESTIONS: u32 = 16;

/// Streams of the mailbox API.
const STREAMS: u32 = 10_000;
/// Those of one account.
const STREAMS_OF_ONE: u32 = 20;

/// Recipients of batches for whom texts are filled in. Each takes a processor.
const FILLINGS: u32 = 4;

/// The limits on calls. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) memory: MemoryBudget,
    calls: Places,
    files: Places,
    disk: Places,
    pub(crate) questions: Places,
    pub(crate) filling: Places,
    streams: Places,
    pub(crate) stream_tokens: StreamTokens,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            memory: MemoryBudget::new(MEMORY),
            calls: Places::new(CALLS, CALLS / 8),
            files: Places::new(FILES, FILES / 4),
            disk: Places::new(DISK, DISK / 4),
            questions: Places::new(QUESTIONS, QUESTIONS / 4),
            filling: Places::new(FILLINGS, 1),
            streams: Places::new(STREAMS, STREAMS_OF_ONE),
            stream_tokens: StreamTokens::default(),
        }
    }
}

impl Bounds {
    /// A place for a call. The call may go on after the caller is gone.
    ///
    /// # Errors
    /// If there are too many at the same time.
    pub(crate) fn call(&self, account: &str) -> Result<Share, ApiError> {
        let place = self.calls.try_take(account, 1);
        place.ok_or_else(|| busy("calls"))
    }

    /// A place for a stream of the mailbox API. None: there are too many.
    pub(crate) fn stream(&self, account: &str) -> Option<Share> {
        self.streams.try_take(account, 1)
    }

    /// How many streams of the mailbox API are open.
    pub(crate) fn open_streams(&self) -> u32 {
        STREAMS.saturating_sub(self.streams.free())
    }

    /// A place for a request with its body in a file. Nobody waits for such a place, since a client
    /// may take long to send its body.
    ///
    /// # Errors
    /// If there are too many at the same time.
    pub(crate) fn file(&self, account: &str) -> Result<FileShare, ApiError> {
        let place = self.files.try_take(account, 1);
        Ok(FileShare {
            _place: place.ok_or_else(|| busy("large requests"))?,
            disk: Vec::new(),
        })
    }
}

/// A place for a file, and for its bytes on the disk. Free again when it is dropped.
#[derive(Debug)]
pub(crate) struct FileShare {
    _place: Share,
    /// Shares of [`DISK_STEP`] MiB each.
    disk: Vec<Share>,
}

impl FileShare {
    /// Lets the file grow to `bytes` bytes.
    ///
    /// # Errors
    /// If all files together are too large.
    pub(crate) fn grow(
        &mut self,
        bounds: &Bounds,
        account: &str,
        bytes: u64,
    ) -> Result<(), ApiError> {
        while (self.disk.len() as u64) * u64::from(DISK_STEP << 20) < bytes {
            let more = bounds.disk.try_take(account, DISK_STEP);
            self.disk.push(more.ok_or_else(|| busy("large requests"))?);
        }
        Ok(())
    }
}

fn busy(what: &str) -> ApiError {
    let text = format!("too many {what} at the same time; try again later");
    ApiError::new(Code::Busy, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_are_limited() {
        let bounds = Bounds::default();
        let of_ann: Vec<_> = std::iter::from_fn(|| bounds.file("ann").ok()).collect();
        assert_eq!(of_ann.len(), 32);
        assert_eq!(bounds.file("ann").unwrap_err().code, Code::Busy);
        assert!(bounds.file("bob").is_ok());
        drop(of_ann);
        let (mut large, mut other) = (bounds.file("ann").unwrap(), bounds.file("ann").unwrap());
        large.grow(&bounds, "ann", 1000 << 20).unwrap();
        large.grow(&bounds, "ann", 1 << 20).unwrap();
        other.grow(&bounds, "ann", 16 << 20).unwrap();
        let error = other.grow(&bounds, "ann", 17 << 20).unwrap_err();
        assert_eq!(error.code, Code::Busy);
        drop(large);
        other.grow(&bounds, "ann", 100 << 20).unwrap();
    }
}
