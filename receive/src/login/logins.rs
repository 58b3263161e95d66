//! The check of passwords, with a memory of right ones.

use std::{
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::{sync::Semaphore, task, time::Instant};

use super::{
    limiter::{Identity, Source},
    password::{matches, normal},
};
use postrider_store::{Store, StoreError};

/// The time for which a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// The largest number of remembered accounts. With more, all are checked anew.
const REMEMBERED_MAX: usize = 10_000;
/// A hash that matches no password. An account without a credential is checked against it, so the
/// time of the check does not tell whether the account exists.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The number of lines in which checks wait for each other. Checks of one account from one address
/// are always in the same line.
const LINES: usize = 256;

/// The name of the administrator in the memory of right passwords. No account has it.
const ADMIN: &str = "\0admin";

/// The claim that a password proves.
#[derive(Clone, Copy)]
struct Claim<'a> {
    identity: Identity<'a>,
    /// The name in the memory of right passwords.
    name: &'a str,
}

/// The result of a password check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// It is the password of the account.
    Right,
    /// It is not the password of the account. The failure was counted.
    Wrong,
    /// Not checked: there were too many wrong passwords. The next one is checked after this time.
    TooMany(Duration),
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
    /// One place for each of [`LINES`].
    lines: Vec<Arc<Semaphore>>,
    hasher: RandomState,
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
                lines: (0..LINES).map(|_| Arc::new(Semaphore::new(1))).collect(),
                hasher: RandomState::new(),
            }),
        }
    }

    /// Checks the password of an account. `user` is the login as typed. None for `account`: no
    /// account has this login, so no password is right. The check then takes as long as for a wrong
    /// password.
    ///
    /// A password is counted as wrong before it is checked, and only one password of an account is
    /// checked at a time for each address. So guesses that arrive together are not all tried. A
    /// right password takes the count back.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn verify(
        &self,
        user: &str,
        account: Option<&str>,
        password: &str,
        source: &Source,
    ) -> Result<PasswordCheck, StoreError> {
        let identity = account.map_or(Identity::Unknown(user), Identity::Account);
        let name = account.unwrap_or_default();
        if let Some(wait) = source.wait(identity) {
            return Ok(PasswordCheck::TooMany(wait));
        }
        let credential = self.shared.store.credential(name).await?;
        let hash = credential.map(|credential| credential.argon2);
        let claim = Claim { identity, name };
        self.check(claim, hash, password, source).await
    }

    /// Checks the password of the administrator against its hash. None: the administrator has no
    /// password, so none is right. Failures count as in [`verify`](Self::verify).
    ///
    /// # Errors
    /// If the process ends meanwhile.
    pub async fn verify_admin(
        &self,
        hash: Option<String>,
        password: &str,
        source: &Source,
    ) -> Result<PasswordCheck, StoreError> {
        let claim = Claim {
            identity: Identity::Admin,
            name: ADMIN,
        };
        if let Some(wait) = source.wait(claim.identity) {
            return Ok(PasswordCheck::TooMany(wait));
        }
        self.check(claim, hash, password, source).await
    }

    async fn check(
        &self,
        claim: Claim<'_>,
        hash: Option<String>,
        password: &str,
        source: &Source,
    ) -> Result<PasswordCheck, StoreError> {
        let Claim { identity, name } = claim;
        let password = normal(password);
        let mac = self.shared.mac(name, &password);
        let known = || self.shared.knows(name, &mac, hash.as_deref());
        if known() {
            source.right(identity, false);
            return Ok(PasswordCheck::Right);
        }
        let line = Arc::clone(self.shared.line(identity, source));
        let closed = |_| StoreError::Closed;
        let turn = line.acquire_owned().await.map_err(closed)?;
        // Another login may have checked the same password meanwhile.
        if known() {
            source.right(identity, false);
            return Ok(PasswordCheck::Right);
        }
        if let Some(wait) = source.wait(identity) {
            return Ok(PasswordCheck::TooMany(wait));
        }
        let hashing = Arc::clone(&self.shared.hashing);
        let place = hashing.acquire_owned().await.map_err(closed)?;
        if let Err(wait) = source.begin(identity) {
            return Ok(PasswordCheck::TooMany(wait));
        }
        let (shared, source) = (Arc::clone(&self.shared), source.clone());
        let is_admin = identity == Identity::Admin;
        let (name, password) = (name.to_owned(), password.into_owned());
        // The check goes on to its end even if the client leaves.
        let checked = task::spawn_blocking(move || {
            let _places = (turn, place);
            let right = matches(&password, hash.as_deref().unwrap_or(NOBODY));
            let Some(hash) = hash.filter(|_| right) else {
                return PasswordCheck::Wrong;
            };
            let identity = match is_admin {
                true => Identity::Admin,
                false => Identity::Account(&name),
            };
            source.right(identity, true);
            shared.remember(&name, mac, hash);
            PasswordCheck::Right
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

    /// The line for checks of this identity from this address.
    fn line(&self, identity: Identity<'_>, source: &Source) -> &Arc<Semaphore> {
        let hash = self.hasher.hash_one((identity, source.ip));
        let index = usize::try_from(hash % LINES as u64).unwrap_or_default();
        self.lines.get(index).unwrap_or(&self.hashing)
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
    use postrider_store::{Credential, Time};

    use crate::login::{LoginLimiter, hash_password};

    /// Checks a password that comes from a network without other logins.
    async fn verify(logins: &Logins, account: &str, password: &str) -> bool {
        let source = source(&Arc::default());
        let check = logins.verify(account, Some(account), password, &source);
        check.await.unwrap() == PasswordCheck::Right
    }

    fn source(limiter: &Arc<LoginLimiter>) -> Source {
        Source {
            limiter: Arc::clone(limiter),
            ip: [192, 0, 2, 1].into(),
            behind_proxy: false,
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

    /// The results of these passwords, which arrive together.
    async fn together(
        logins: &Logins,
        limiter: &Arc<LoginLimiter>,
        passwords: impl Iterator<Item = String>,
    ) -> Vec<PasswordCheck> {
        let mut guesses = JoinSet::new();
        for password in passwords {
            let (logins, source) = (logins.clone(), source(limiter));
            guesses.spawn(async move {
                let check = logins.verify("ann@x.test", Some("ann"), &password, &source);
                check.await.unwrap()
            });
        }
        guesses.join_all().await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_wrong_passwords_that_arrive_together_ten_are_tried() {
        let logins = Logins::new(store("secret").await);
        let limiter = Arc::default();
        let guesses = (0..50).map(|n| format!("guess {n}"));
        let verdicts = together(&logins, &limiter, guesses).await;
        let wrong = verdicts.iter().filter(|it| **it == PasswordCheck::Wrong);
        assert_eq!(wrong.count(), 10, "{verdicts:?}");
        let too_many = PasswordCheck::TooMany(Duration::from_secs(60));
        let source = source(&limiter);
        let verdict = logins.verify("ann", Some("ann"), "secret", &source);
        assert_eq!(verdict.await.unwrap(), too_many);
        assert!(
            verdicts
                .iter()
                .all(|it| [PasswordCheck::Wrong, too_many].contains(it))
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn right_passwords_that_arrive_together_all_pass() {
        let logins = Logins::new(store("secret").await);
        let rights = std::iter::repeat_n("secret".to_owned(), 100);
        let verdicts = together(&logins, &Arc::default(), rights).await;
        assert!(verdicts.iter().all(|it| *it == PasswordCheck::Right));
    }

    #[tokio::test]
    async fn a_right_password_clears_the_count_and_is_refused_after_too_many() {
        let logins = Logins::new(store("secret").await);
        let limiter = Arc::default();
        let check = async |password: &str| {
            let source = source(&limiter);
            let check = logins.verify("ann", Some("ann"), password, &source);
            check.await.unwrap()
        };
        for _ in 0..2 {
            // The second time, the right password is remembered.
            for _ in 0..9 {
                assert_eq!(check("wrong").await, PasswordCheck::Wrong);
            }
            assert_eq!(check("secret").await, PasswordCheck::Right);
        }
        for _ in 0..10 {
            assert_eq!(check("wrong").await, PasswordCheck::Wrong);
        }
        assert!(matches!(check("secret").await, PasswordCheck::TooMany(_)));
    }

    #[tokio::test]
    async fn a_wrong_password_counts_when_nobody_waits() {
        let logins = Logins::new(store("secret").await);
        let limiter = Arc::default();
        let source = source(&limiter);
        let ann = Identity::Account("ann");
        for n in 0..10 {
            let line = logins.shared.line(ann, &source);
            drop(line.acquire().await.unwrap());
            let password = format!("guess {n}");
            let mut verify = Box::pin(logins.verify("ann", Some("ann"), &password, &source));
            // The caller leaves as soon as the check has begun.
            tokio::select! {
                biased;
                _ = &mut verify => {}
                () = task::yield_now() => {}
            }
        }
        assert!(source.wait(ann).is_some());
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
