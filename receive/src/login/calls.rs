//! Limits on the calls of the mailbox API: how many a caller makes in a minute, and how many at
//! once. All listeners and both parts of the API count together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::token::TOKENS_AN_HOUR;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// The most callers that are remembered. Those without a call now go first.
const CALLERS_MAX: usize = 100_000;
/// How long a caller waits who has too many calls at once.
const BUSY: Duration = Duration::from_secs(1);

/// Who makes calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallsOf {
    /// A management key or a tenant, by the name of its caller.
    Manager(String),
    /// The holder of an account, or a key or a token of the account.
    User(String),
}

impl CallsOf {
    /// The most calls in a minute, and at once.
    const fn most(&self) -> (u32, u32) {
        match self {
            Self::Manager(_) => (1200, 128),
            Self::User(_) => (120, 16),
        }
    }
}

/// The calls of each caller.
#[derive(Debug, Default)]
pub struct ApiCalls {
    callers: Arc<Mutex<HashMap<CallsOf, Calls>>>,
    /// The tokens that accounts got.
    tokens: Mutex<HashMap<String, Window>>,
}

/// The calls of a caller.
#[derive(Debug)]
struct Calls {
    now: u32,
    window: Window,
}

/// How much came since a time.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    count: u32,
}

impl Window {
    fn fresh(now: Instant) -> Self {
        Self {
            since: now,
            count: 0,
        }
    }

    /// Counts one more. Some: there were too many since, and another one may come after this time.
    fn add(&mut self, most: u32, length: Duration, now: Instant) -> Option<Duration> {
        let age = now.saturating_duration_since(self.since);
        if age >= length {
            *self = Self::fresh(now);
        }
        if self.count >= most {
            return Some(length.saturating_sub(age));
        }
        self.count += 1;
        None
    }

    fn is_over(&self, length: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= length
    }
}

/// A call that goes on, until this is dropped.
#[derive(Debug)]
pub struct InCall {
    callers: Arc<Mutex<HashMap<CallsOf, Calls>>>,
    caller: CallsOf,
}

impl Drop for InCall {
    fn drop(&mut self) {
        let mut callers = locked(&self.callers);
        if let Some(calls) = callers.get_mut(&self.caller) {
            calls.now = calls.now.saturating_sub(1);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiCalls {
    /// Counts a call, and gives its place.
    ///
    /// # Errors
    /// If the caller makes too many: the time after which another one may come.
    pub fn begin(&self, caller: CallsOf) -> Result<InCall, Duration> {
        let now = Instant::now();
        let (a_minute, at_once) = caller.most();
        let mut callers = locked(&self.callers);
        if callers.len() >= CALLERS_MAX {
            callers.retain(|_, calls| calls.now > 0 || !calls.window.is_over(MINUTE, now));
        }
        let calls = callers.entry(caller.clone()).or_insert_with(|| Calls {
            now: 0,
            window: Window::fresh(now),
        });
        if calls.now >= at_once {
            return Err(BUSY);
        }
        if let Some(wait) = calls.window.add(a_minute, MINUTE, now) {
            return Err(wait);
        }
        calls.now += 1;
        Ok(InCall {
            callers: Arc::clone(&self.callers),
            caller,
        })
    }

    /// Counts a token for an account. Some: it got too many, and gets another one after this time.
    pub(super) fn token_wait(&self, account: &str) -> Option<Duration> {
        let now = Instant::now();
        let mut tokens = locked(&self.tokens);
        if tokens.len() >= CALLERS_MAX {
            tokens.retain(|_, window| !window.is_over(HOUR, now));
        }
        let window = tokens.entry(account.to_owned());
        let window = window.or_insert_with(|| Window::fresh(now));
        window.add(TOKENS_AN_HOUR, HOUR, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_a_limit_a_minute_and_at_once() {
        let calls = ApiCalls::default();
        for (caller, a_minute, at_once) in [
            (CallsOf::Manager("key 1".into()), 1200, 128),
            (CallsOf::User("ann".into()), 120, 16),
        ] {
            let begin = || calls.begin(caller.clone());
            let mut going: Vec<InCall> = (0..at_once).map(|_| begin().unwrap()).collect();
            assert_eq!(begin().unwrap_err(), BUSY);
            going.pop();
            going.push(begin().unwrap());
            drop(going);
            for _ in 0..a_minute - at_once - 1 {
                begin().unwrap();
            }
            tokio::time::advance(MINUTE / 3).await;
            assert_eq!(begin().unwrap_err(), MINUTE * 2 / 3);
            // Others are not held up.
            let other = CallsOf::User(format!("{caller:?}"));
            calls.begin(other).unwrap();
            tokio::time::advance(MINUTE * 2 / 3).await;
            begin().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_gets_a_number_of_tokens_an_hour() {
        let calls = ApiCalls::default();
        for _ in 0..TOKENS_AN_HOUR {
            assert_eq!(calls.token_wait("ann"), None);
        }
        assert_eq!(calls.token_wait("ann"), Some(HOUR));
        assert_eq!(calls.token_wait("bob"), None);
        tokio::time::advance(HOUR).await;
        assert_eq!(calls.token_wait("ann"), None);
    }
}
