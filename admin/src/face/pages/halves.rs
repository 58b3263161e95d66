//! Logins that wait for a code: the password was right, and the code is asked for on a page of its
//! own. A login that waits opens nothing but that page. A restart of the server forgets it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use postrider_store::{Time, WebSessionOwner};
use sha2::{Digest as _, Sha256};

use crate::face::http::PasswordMark;

/// How long a code is waited for.
pub(super) const LASTS: Duration = Duration::from_secs(10 * 60);
/// The most logins that wait. When one more comes, the oldest one goes.
const KEPT: usize = 1000;

/// A login that waits for a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Half {
    /// Whose password was given.
    pub(super) owner: WebSessionOwner,
    /// The login: an address, or `admin`.
    pub(super) login: String,
    /// The password was this one. When there is another one, the login waits no longer.
    pub(super) password: PasswordMark,
}

/// The logins that wait for codes.
#[derive(Default)]
pub(super) struct Halves {
    /// The oldest first: the digest of the secret in the cookie, when its time is over, and the
    /// login.
    waiting: Mutex<VecDeque<([u8; 32], Time, Half)>>,
}

impl Halves {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<([u8; 32], Time, Half)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a login wait. Gives the value of the cookie.
    pub(super) fn begin(&self, half: Half, now: Time) -> String {
        let cookie = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut waiting = self.waiting();
        waiting.retain(|(_, until, _)| *until > now);
        while waiting.len() >= KEPT {
            waiting.pop_front();
        }
        waiting.push_back((digest(&cookie), now.after(LASTS), half));
        cookie
    }

    /// The login that waits for a code, by its cookie.
    pub(super) fn find(&self, cookie: &str, now: Time) -> Option<Half> {
        let digest = digest(cookie);
        let waiting = self.waiting();
        let found = waiting
            .iter()
            .find(|(known, until, _)| *known == digest && *until > now);
        found.map(|(_, _, half)| half.clone())
    }

    /// The login waits no longer.
    pub(super) fn end(&self, cookie: &str) {
        let digest = digest(cookie);
        self.waiting().retain(|(known, ..)| *known != digest);
    }
}

/// Secrets are found by their digests, so that no comparison tells how much of a guess was right.
fn digest(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(login: &str) -> Half {
        Half {
            owner: WebSessionOwner::Account(login.to_owned()),
            login: login.to_owned(),
            password: [7; 32],
        }
    }

    #[test]
    fn a_login_waits_for_its_time() {
        let (halves, now) = (Halves::default(), Time(0));
        let cookie = halves.begin(half("ann"), now);
        let other = halves.begin(half("bob"), now);
        assert_ne!(cookie, other);
        assert_eq!(halves.find(&cookie, now), Some(half("ann")));
        assert_eq!(halves.find("", now), None);
        assert_eq!(halves.find(&cookie, now.after(LASTS)), None);
        halves.end(&cookie);
        assert_eq!(halves.find(&cookie, now), None);
        assert_eq!(halves.find(&other, now), Some(half("bob")));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let (halves, now) = (Halves::default(), Time(0));
        let first = halves.begin(half("ann"), now);
        for _ in 1..KEPT {
            halves.begin(half("bob"), now);
        }
        assert!(halves.find(&first, now).is_some());
        halves.begin(half("bob"), now);
        assert!(halves.find(&first, now).is_none());
    }
}
