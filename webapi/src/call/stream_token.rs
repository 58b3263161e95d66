//! Tokens that open one stream each. Web pages can't set header fields when they open a stream, so
//! they get such a token by a call before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postrider_store::Moment;
use rand::Rng;

use super::auth::User;

/// How long a token is good.
pub(crate) const VALID: Duration = Duration::from_secs(60);
/// The most tokens that wait. When one more is given, those whose time is over go first.
const TOKENS_MAX: usize = 10_000;

/// The tokens that wait to be used. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamTokens {
    waiting: Arc<Mutex<HashMap<String, (User, Moment)>>>,
}

impl StreamTokens {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, (User, Moment)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token for a user. None: too many wait.
    pub(crate) fn give(&self, user: &User, now: Moment) -> Option<String> {
        let mut waiting = self.waiting();
        if waiting.len() >= TOKENS_MAX {
            waiting.retain(|_, (_, until)| *until > now);
        }
        if waiting.len() >= TOKENS_MAX {
            return None;
        }
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let token = URL_SAFE_NO_PAD.encode(bytes);
        waiting.insert(token.clone(), (user.clone(), now.after(VALID)));
        Some(token)
    }

    /// The user of a token, which is of no use from now on. None: there is none, or its time is
    /// over.
    pub(crate) fn take(&self, token: &str, now: Moment) -> Option<User> {
        let (user, until) = self.waiting().remove(token)?;
        (until > now).then_some(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let user = User::of_api(
            "ann",
            "ann@x.example".parse().unwrap(),
            [127, 0, 0, 1].into(),
        );
        let tokens = StreamTokens::default();
        let now = Moment::default();
        let (first, second) = (tokens.give(&user, now), tokens.give(&user, now));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_ne!(first, second);
        assert_eq!(tokens.take("x", now), None);
        assert_eq!(tokens.take(&first, now), Some(user));
        assert_eq!(tokens.take(&first, now), None);
        assert_eq!(tokens.take(&second, now.after(VALID)), None);
    }
}
