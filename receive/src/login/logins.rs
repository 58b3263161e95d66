//! Checking passwords, with a memory for those that were right.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::{sync::Semaphore, task, time::Instant};

use super::{
    LoginLimiter,
    password::{matches, normal},
};
use postrider_store::{Store, StoreError, Time};

/// How long a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// Accounts that are remembered at most; with more, all are checked anew.
const REMEMBERED_MAX: usize = 10_000;
/// Matches no password that anyone has. For an account without a credential it is checked against this one, so that
/// the time taken does not tell.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// From where a password comes.
#[derive(Clone, Debug)]
pub struct Source {
    /// Counts wrong ones.
    pub limiter: Arc<LoginLimiter>,
    /// The client.
    pub ip: IpAddr,
    /// When it came.
    pub now: Time,
}

/// What a password is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// The account's.
    Right,
    /// Not the account's; it was counted.
    Wrong,
    /// Unknown: there were too many wrong ones from that network while it waited.
    TooMany,
}

/// Checks passwords of accounts against the store. Clones share what is remembered.
#[derive(Clone)]
pub struct Logins {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    /// Of this process only, so that what is remembered is of no use elsewhere.
    key: [u8; 64],
    remembered: Mutex<HashMap<String, Remembered>>,
    /// Hashing takes a core and 19 MiB each time.
    hashing: Arc<Semaphore>,
}

struct Remembered {
    mac: [u8; 32],
    /// The hash that it was checked against: with another credential it counts no more.
    hash: String,
    until: Instant,
}

impl Logins {
    /// Checks against the credentials in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            shared: Arc::new(Shared {
                store,
                key: rand::random(),
                remembered: Mutex::default(),
                hashing: Arc::new(Semaphore::new(cores)),
            }),
        }
    }

    /// Whether this is the account's password. An account without one has no right password. A wrong one is counted for the
    /// network that it came from before the next is looked at, so that those that come at the same moment are not all tried.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn verify(
        &self,
        account: &str,
        password: &str,
        source: &Source,
    ) -> Result<PasswordCheck, StoreError> {
        let password = normal(password);
        let hash = self
            .shared
            .store
            .credential(account)?
            .map(|credential| credential.argon2);
        let mac = self.shared.mac(account, &password);
        if self.shared.knows(account, &mac, hash.as_deref()) {
            return Ok(PasswordCheck::Right);
        }
        // Those who wait here find it remembered when another had the same password checked.
        let Ok(permit) = Arc::clone(&self.shared.hashing).acquire_owned().await else {
            return Err(StoreError::Closed);
        };
        if self.shared.knows(account, &mac, hash.as_deref()) {
            return Ok(PasswordCheck::Right);
        }
        if !source.limiter.allowed(source.ip, source.now) {
            return Ok(PasswordCheck::TooMany);
        }
        let (shared, account) = (Arc::clone(&self.shared), account.to_owned());
        let (password, source) = (password.into_owned(), source.clone());
        // Whatever becomes of who asks: it takes its place to its end, and counts.
        let checked = task::spawn_blocking(move || {
            let _permit = permit;
            let right = matches(&password, hash.as_deref().unwrap_or(NOBODY));
            match hash.filter(|_| right) {
                Some(hash) => {
                    shared.remember(&account, mac, hash);
                    PasswordCheck::Right
                }
                None => {
                    source.limiter.failed(source.ip, source.now);
                    PasswordCheck::Wrong
                }
            }
        });
        // It is cancelled only when the runtime ends.
        checked.await.map_err(|_| StoreError::Closed)
    }

    /// Has the account's password checked anew at its next login.
    pub fn forget(&self, account: &str) {
        self.shared.remembered().remove(account);
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins")
            .field("remembered", &self.shared.remembered().len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn remembered(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn mac(&self, account: &str, password: &str) -> Hmac<Sha256> {
        let key: &[u8; 64] = &self.key;
        let mut mac = Hmac::<Sha256>::new(key.into());
        // The length keeps `a` with `bc` apart from `ab` with `c`.
        mac.update(&(account.len() as u64).to_be_bytes());
        mac.update(account.as_bytes());
        mac.update(password.as_bytes());
        mac
    }

    fn knows(&self, account: &str, mac: &Hmac<Sha256>, hash: Option<&str>) -> bool {
        self.remembered().get(account).is_some_and(|known| {
            known.until > Instant::now()
                && Some(known.hash.as_str()) == hash
                && mac.clone().verify_slice(&known.mac).is_ok()
        })
    }

    fn remember(&self, account: &str, mac: Hmac<Sha256>, hash: String) {
        let now = Instant::now();
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, known| known.until > now);
        }
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        let known = Remembered {
            mac: mac.finalize().into_bytes().into(),
            hash,
            until: now + REMEMBERED,
        };
        remembered.insert(account.to_owned(), known);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use postrider_store::Credential;

    use crate::login::{LoginLimits, hash_password};

    /// Looks at a password from a network with no other.
    async fn verify(logins: &Logins, account: &str, password: &str) -> bool {
        let source = source(&Arc::new(LoginLimiter::new(LoginLimits::default())));
        logins.verify(account, password, &source).await.unwrap() == PasswordCheck::Right
    }

    fn source(limiter: &Arc<LoginLimiter>) -> Source {
        Source {
            limiter: Arc::clone(limiter),
            ip: [192, 0, 2, 1].into(),
            now: Time(0),
        }
    }

    async fn store(password: &str) -> Store {
        let store = Store::memory();
        set(&store, password).await;
        store
    }

    async fn set(store: &Store, password: &str) {
        let credential = Credential {
            argon2: hash_password(password).unwrap(),
            set: Time(0),
        };
        store.set_credential("ann", Some(credential)).await.unwrap();
    }

    #[tokio::test]
    async fn only_the_right_password_of_that_account_passes() {
        let logins = Logins::new(store("secret").await);
        assert!(verify(&logins, "ann", "secret").await);
        assert!(verify(&logins, "ann", "secret").await);
        assert!(!verify(&logins, "ann", "Secret").await);
        assert!(!verify(&logins, "bob", "secret").await);
        assert!(!verify(&logins, "ann", "").await);
    }

    #[tokio::test]
    async fn of_wrong_ones_that_come_together_no_more_are_tried_than_one_after_another() {
        let logins = Logins::new(store("secret").await);
        let limiter = Arc::new(LoginLimiter::new(LoginLimits::default()));
        let mut guesses = JoinSet::new();
        for n in 0..50 {
            let (logins, limiter) = (logins.clone(), Arc::clone(&limiter));
            guesses.spawn(async move {
                let password = format!("guess {n}");
                logins
                    .verify("ann", &password, &source(&limiter))
                    .await
                    .unwrap()
            });
        }
        let verdicts = guesses.join_all().await;
        let wrong = verdicts.iter().filter(|it| **it == PasswordCheck::Wrong);
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        assert!((10..10 + cores).contains(&wrong.count()), "{verdicts:?}");
        let verdict = logins.verify("ann", "secret", &source(&limiter)).await;
        assert_eq!(verdict.unwrap(), PasswordCheck::TooMany);
    }

    #[tokio::test]
    async fn a_wrong_one_counts_when_nobody_waits_for_the_answer() {
        let logins = Logins::new(store("secret").await);
        let limiter = Arc::new(LoginLimiter::new(LoginLimits::default()));
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        for n in 0..10 {
            drop(logins.shared.hashing.acquire().await.unwrap());
            let (password, source) = (format!("guess {n}"), source(&limiter));
            let mut verify = Box::pin(logins.verify("ann", &password, &source));
            // It is left as soon as it has begun.
            tokio::select! {
                biased;
                _ = &mut verify => {}
                () = task::yield_now() => {}
            }
        }
        let all = u32::try_from(cores).unwrap();
        let _ended = logins.shared.hashing.acquire_many(all).await.unwrap();
        assert!(!limiter.allowed([192, 0, 2, 1].into(), Time(0)));
    }

    #[tokio::test]
    async fn a_new_password_ends_the_old_one_at_once() {
        let store = store("old").await;
        let logins = Logins::new(store.clone());
        assert!(verify(&logins, "ann", "old").await);
        set(&store, "new").await;
        assert!(!verify(&logins, "ann", "old").await);
        assert!(verify(&logins, "ann", "new").await);
        store.set_credential("ann", None).await.unwrap();
        assert!(!verify(&logins, "ann", "new").await);
    }

    #[tokio::test]
    async fn it_is_remembered_for_a_while_and_forgotten_on_request() {
        let logins = Logins::new(store("secret").await);
        let known = || {
            logins.shared.knows(
                "ann",
                &logins.shared.mac("ann", "secret"),
                hash(&logins).as_deref(),
            )
        };
        assert!(!known());
        verify(&logins, "ann", "wrong").await;
        assert!(!known());
        verify(&logins, "ann", "secret").await;
        assert!(known());
        logins.forget("ann");
        assert!(!known());
        verify(&logins, "ann", "secret").await;
        tokio::time::pause();
        tokio::time::advance(REMEMBERED).await;
        assert!(!known());
    }

    fn hash(logins: &Logins) -> Option<String> {
        logins
            .shared
            .store
            .credential("ann")
            .unwrap()
            .map(|credential| credential.argon2)
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let logins = Logins::new(Store::memory());
        for n in 0..=REMEMBERED_MAX {
            let account = n.to_string();
            logins
                .shared
                .remember(&account, logins.shared.mac(&account, "x"), String::new());
        }
        assert!(logins.shared.remembered().len() <= REMEMBERED_MAX);
    }
}
