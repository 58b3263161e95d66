//! The check of passwords, with a memory of right ones.

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

/// The time for which a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// The largest number of remembered accounts. With more, all are checked anew.
const REMEMBERED_MAX: usize = 10_000;
/// A hash that matches no password. An account without a credential is checked against it, so the
/// time of the check does not tell whether the account exists.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The origin of a password.
#[derive(Clone, Debug)]
pub struct Source {
    /// The count of wrong passwords.
    pub limiter: Arc<LoginLimiter>,
    /// The client.
    pub ip: IpAddr,
    /// The time of the login.
    pub now: Time,
}

/// The result of a password check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// It is the password of the account.
    Right,
    /// It is not the password of the account. The failure was counted.
    Wrong,
    /// Not checked: the network of the client had too many wrong passwords.
    TooMany,
}

/// Checks passwords of accounts against the store. Clones share the memory of right ones.
#[derive(Clone)]
pub struct Logins {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    /// A key of this process, so that the memory is useless elsewhere.
    key: [u8; 64],
    remembered: Mutex<HashMap<String, Remembered>>,
    /// A place for each hash in progress. A hash takes a core and 19 MiB.
    hashing: Arc<Semaphore>,
}

struct Remembered {
    mac: [u8; 32],
    /// The hash that the password matched. Another credential ends the memory.
    hash: String,
    until: Instant,
}

impl Logins {
    /// Checks passwords against the credentials in `store`.
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

    /// Checks the password of an account. An account without a credential has no right password. A
    /// wrong password is counted for its network before the next one is checked, so guesses that
    /// arrive together are not all tried.
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
            .credential(account)
            .await?
            .map(|credential| credential.argon2);
        let mac = self.shared.mac(account, &password);
        if self.shared.knows(account, &mac, hash.as_deref()) {
            return Ok(PasswordCheck::Right);
        }
        // Another login may have checked the same password meanwhile.
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
        // The check ends and counts even if the client leaves.
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
        // The length tells `a` with `bc` from `ab` with `c`.
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

    /// Checks a password that comes from a network without other logins.
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
    async fn wrong_passwords_that_arrive_together_are_not_all_tried() {
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
    async fn a_wrong_password_counts_when_nobody_waits() {
        let logins = Logins::new(store("secret").await);
        let limiter = Arc::new(LoginLimiter::new(LoginLimits::default()));
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        for n in 0..10 {
            drop(logins.shared.hashing.acquire().await.unwrap());
            let (password, source) = (format!("guess {n}"), source(&limiter));
            let mut verify = Box::pin(logins.verify("ann", &password, &source));
            // The caller leaves as soon as the check has begun.
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
    async fn a_right_password_is_remembered_for_a_while() {
        let logins = Logins::new(store("secret").await);
        let known = async || {
            logins.shared.knows(
                "ann",
                &logins.shared.mac("ann", "secret"),
                hash(&logins).await.as_deref(),
            )
        };
        assert!(!known().await);
        verify(&logins, "ann", "wrong").await;
        assert!(!known().await);
        verify(&logins, "ann", "secret").await;
        assert!(known().await);
        logins.forget("ann");
        assert!(!known().await);
        verify(&logins, "ann", "secret").await;
        tokio::time::pause();
        tokio::time::advance(REMEMBERED).await;
        assert!(!known().await);
    }

    async fn hash(logins: &Logins) -> Option<String> {
        logins
            .shared
            .store
            .credential("ann")
            .await
            .unwrap()
            .map(|credential| credential.argon2)
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
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
