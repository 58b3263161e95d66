//! Tokens in the place of a login, for clients that can't send headers, such as EventSource in a
//! browser. A token opens one kind of stream, as its caller may, for a minute.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postrider_store::Moment;
use rand::Rng;
use sha2::{Digest, Sha256};

use super::access::Access;
use crate::Caller;

/// How long a token opens streams. The streams go on.
const LASTS: Duration = Duration::from_secs(60);
/// The most tokens at a time, of all callers and of one.
const TOKENS: (usize, usize) = (4096, 64);

/// The tokens that open streams now. They are known by their hashes.
#[derive(Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<[u8; 32], Token>>,
}

struct Token {
    /// The path of the call that it opens.
    opens: &'static str,
    caller: Caller,
    access: Access,
    until: Moment,
}

impl Tokens {
    /// The lock is held for a moment, never over a wait.
    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], Token>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of a new token that opens the call with this path, as this caller. None: there are
    /// too many tokens.
    pub(super) fn give(
        &self,
        opens: &'static str,
        (caller, access): (Caller, Access),
        now: Moment,
    ) -> Option<String> {
        let mut known = self.known();
        known.retain(|_, token| now < token.until);
        let own = known.values().filter(|it| it.access.name == access.name);
        if known.len() >= TOKENS.0 || own.count() >= TOKENS.1 {
            return None;
        }
        let mut secret = [0; 32];
        rand::rng().fill_bytes(&mut secret);
        let text = URL_SAFE_NO_PAD.encode(secret);
        let token = Token {
            opens,
            caller,
            access,
            until: now.after(LASTS),
        };
        known.insert(hash(&text), token);
        Some(text)
    }

    /// The caller that a token stands for, if it opens the call with this path.
    pub(super) fn find(&self, text: &str, opens: &str, now: Moment) -> Option<(Caller, Access)> {
        let known = self.known();
        let token = known.get(&hash(text))?;
        let is_right = token.opens == opens && now < token.until;
        is_right.then(|| (token.caller.clone(), token.access.clone()))
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> (Caller, Access) {
        let access = Access {
            name: name.to_owned(),
            ..Access::default()
        };
        (Caller::default(), access)
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_opens_one_call_for_a_minute() {
        let tokens = Tokens::default();
        let token = tokens.give("one", named("key 1"), at(0)).unwrap();
        let other = tokens.give("one", named("key 2"), at(0)).unwrap();
        assert_ne!(token, other);
        let find = |text: &str, opens, seconds| {
            let found = tokens.find(text, opens, at(seconds));
            found.map(|(_, access)| access.name)
        };
        for (text, opens, seconds, name) in [
            (token.as_str(), "one", 0, Some("key 1")),
            (&token, "one", 59, Some("key 1")),
            (&other, "one", 1, Some("key 2")),
            (&token, "two", 1, None),
            (&token, "one", 60, None),
            ("", "one", 1, None),
        ] {
            let found = find(text, opens, seconds);
            assert_eq!(found.as_deref(), name, "{text} {opens} {seconds}");
        }
    }

    #[test]
    fn a_caller_has_few_tokens_at_a_time() {
        let tokens = Tokens::default();
        let give = |name: &str, seconds| tokens.give("one", named(name), at(seconds)).is_some();
        for _ in 0..TOKENS.1 {
            assert!(give("key 1", 0));
        }
        assert!(!give("key 1", 59));
        assert!(give("key 2", 59));
        assert!(give("key 1", 60));
        assert_eq!(tokens.known().len(), 2, "old ones are forgotten");
    }
}
