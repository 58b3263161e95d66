//! What calls may use at the same time, all together, and those of one account.

use postrider_store::{Memory, Room, Share};

use crate::{
    auth::User,
    error::{ApiError, Code},
};

/// Bytes for requests and messages that are read as a whole.
const MEMORY: u64 = 256 << 20;
/// Requests whose bodies lie in files.
const FILES: u32 = 128;
/// Questions that are looked up.
const QUESTIONS: u32 = 16;

/// What there is for calls. Clones share it, as the listeners of a server do.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub(crate) memory: Memory,
    files: Room,
    pub(crate) questions: Room,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            memory: Memory::new(MEMORY),
            files: Room::new(FILES, FILES / 4),
            questions: Room::new(QUESTIONS, QUESTIONS / 4),
        }
    }
}

impl Bounds {
    /// A place for a request whose body goes to a file. Nobody waits for one: a client may take long to send its body.
    ///
    /// # Errors
    /// If there are too many at the time.
    pub(crate) fn file(&self, user: &User) -> Result<Share, ApiError> {
        let place = self.files.try_take(&user.account, 1);
        place.ok_or_else(|| {
            let text = "too many large requests at the same time; try again later";
            ApiError::new(Code::Busy, text)
        })
    }
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
        assert!(bounds.file(&ann).is_ok());
    }
}
