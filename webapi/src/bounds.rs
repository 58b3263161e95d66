//! What calls may use at the same time, all together, and those of one account.

use postrider_webhook::{MemoryBudget, Places, Share};

use crate::{
    auth::User,
    error::{ApiError, Code},
};

/// Bytes for requests and messages that are read as a whole.
const MEMORY: u64 = 256 << 20;
/// Calls that are carried out, or whose bodies come.
const CALLS: u32 = 8192;
/// Requests whose bodies lie in files.
const FILES: u32 = 128;
/// What these have on the disk, in MiB. What is made of them may have twice as much besides.
const DISK: u32 = 4096;
/// How much of it a request takes at once, in MiB.
const DISK_STEP: u32 = 16;
/// Questions that are looked up.
const QUESTIONS: u32 = 16;

/// The limits on calls. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) memory: MemoryBudget,
    calls: Places,
    files: Places,
    disk: Places,
    pub(crate) questions: Places,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            memory: MemoryBudget::new(MEMORY),
            calls: Places::new(CALLS, CALLS / 8),
            files: Places::new(FILES, FILES / 4),
            disk: Places::new(DISK, DISK / 4),
            questions: Places::new(QUESTIONS, QUESTIONS / 4),
        }
    }
}

impl Bounds {
    /// A place for a call. It may outlive who called.
    ///
    /// # Errors
    /// If there are too many at the time.
    pub(crate) fn call(&self, user: &User) -> Result<Share, ApiError> {
        let place = self.calls.try_take(&user.account, 1);
        place.ok_or_else(|| busy("calls"))
    }

    /// A place for a request whose body goes to a file. Nobody waits for one: a client may take long to send its body.
    ///
    /// # Errors
    /// If there are too many at the time.
    pub(crate) fn file(&self, user: &User) -> Result<FileShare, ApiError> {
        let place = self.files.try_take(&user.account, 1);
        Ok(FileShare {
            _place: place.ok_or_else(|| busy("large requests"))?,
            disk: Vec::new(),
        })
    }
}

/// A place for a file, and what it may have on the disk. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct FileShare {
    _place: Share,
    /// Of [`DISK_STEP`] MiB each.
    disk: Vec<Share>,
}

impl FileShare {
    /// Has it grow to so many bytes.
    ///
    /// # Errors
    /// If there is too much on the disk at the time.
    pub(crate) fn grow(
        &mut self,
        bounds: &Bounds,
        user: &User,
        bytes: u64,
    ) -> Result<(), ApiError> {
        while (self.disk.len() as u64) * u64::from(DISK_STEP << 20) < bytes {
            let more = bounds.disk.try_take(&user.account, DISK_STEP);
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
    fn there_is_an_end_of_large_requests() {
        let bounds = Bounds::default();
        let user = |account: &str| User::of(account, "a@example.org".parse().unwrap());
        let (ann, bob) = (user("ann"), user("bob"));
        let of_ann: Vec<_> = std::iter::from_fn(|| bounds.file(&ann).ok()).collect();
        assert_eq!(of_ann.len(), 32);
        assert_eq!(bounds.file(&ann).unwrap_err().code, Code::Busy);
        assert!(bounds.file(&bob).is_ok());
        drop(of_ann);
        let (mut large, mut other) = (bounds.file(&ann).unwrap(), bounds.file(&ann).unwrap());
        large.grow(&bounds, &ann, 1000 << 20).unwrap();
        large.grow(&bounds, &ann, 1 << 20).unwrap();
        other.grow(&bounds, &ann, 16 << 20).unwrap();
        let error = other.grow(&bounds, &ann, 17 << 20).unwrap_err();
        assert_eq!(error.code, Code::Busy);
        drop(large);
        other.grow(&bounds, &ann, 100 << 20).unwrap();
    }
}
