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
use tokio::{
    sync::{OnceCell, Semaphore},
    task,
    time::Instant,
};
use tracing::warn;

use super::{
    apppassword::find_random,
    attempts::Attempts,
    calls::ApiCalls,
    limiter::{Identity, Source},
    oauth::Oauth,
    otp::{otp_step, split_code},
    password::{Comparison, normal},
    scram::{scram_keys, scram_salts},
};
use postrider_store::{AppPassword, Credential, PasswordOf, Store, StoreError, Time};

/// The time for which a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// The largest number of remembered accounts. With more, all are checked anew.
const REMEMBERED_MAX: usize = 10_000;
/// The largest number of remembered passwords of an account.
const REMEMBERED_OF_ACCOUNT: usize = 64;
/// A password or key is noted as used at most once in this time.
pub(super) const USE_NOTED: Duration = Duration::from_secs(5 * 60);
/// A hash that matches no password. An account without a main password is checked against it, so
/// the time of the check does not tell whether the account exists.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The number of lines in which checks wait for each other. Checks of one account from one address
/// are always in the same line.
const LINES: usize = 256;

/// The name of the administrator in the memory of right passwords. No account has it.
pub(super) const ADMIN: &str = "\0admin";

/// The claim that a password proves.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) identity: Identity<'a>,
    /// The name in the memory of right passwords.
    pub(super) name: &'a str,
}

/// The result of a password check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// It is the password of the account, or one of its app passwords.
    Right,
    /// It is the main password of an account that has one-time codes. That is not enough here: an
    /// app password or a key is needed.
    TooWeak,
    /// It is not a password of the account. The failure was counted.
    Wrong,
    /// Not checked: there were too many wrong passwords. The next one is checked after this time.
    TooMany(Duration),
}

/// The result of the check of a password that may have a one-time code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeCheck {
    /// It is the main password, with a right code if the account has codes.
    Password,
    /// It is an app password. No code is needed.
    AppPassword,
    /// It is the main password, and the code is missing.
    CodeMissing,
    /// The password or the code is wrong. The failure was counted.
    Wrong,
    /// Not checked: there were too many failures. The next login is checked after this time.
    TooMany(Duration),
}

/// The secret that a password matches.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Matched {
    /// The main password.
    Main,
    /// The app password of this name.
    App(String),
}

/// The result of a check against all passwords of an account.
enum Checked {
    Right(Matched),
    Wrong,
    TooMany(Duration),
}

/// A right password is right for all who need no codes.
impl From<Checked> for PasswordCheck {
    fn from(checked: Checked) -> Self {
        match checked {
            Checked::Right(_) => Self::Right,
            Checked::Wrong => Self::Wrong,
            Checked::TooMany(wait) => Self::TooMany(wait),
        }
    }
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
    remembered: Mutex<HashMap<String, Vec<Remembered>>>,
    /// A place for each hash in progress: two for each core. A hash takes a core and 19 MiB, and
    /// one that somebody else made up to 64 MiB.
    hashing: Arc<Semaphore>,
    /// One place for each of [`LINES`].
    lines: Vec<Arc<Semaphore>>,
    hasher: RandomState,
    /// The key from which salts are made.
    salts: OnceCell<[u8; 32]>,
    /// Checks OAuth tokens. None: tokens are not taken.
    oauth: Option<Oauth>,
    /// What became of logins, before it is in the store.
    attempts: Attempts,
    /// The calls of the mailbox API.
    calls: ApiCalls,
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
        Self::with_oauth(store, None)
    }

    /// The same, with the check of OAuth tokens.
    #[must_use]
    pub fn with_oauth(store: Store, oauth: Option<Oauth>) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            shared: Arc::new(Shared {
                store,
                key: rand::random(),
                remembered: Mutex::default(),
                hashing: Arc::new(Semaphore::new(2 * cores)),
                lines: (0..LINES).map(|_| Arc::new(Semaphore::new(1))).collect(),
                hasher: RandomState::new(),
                salts: OnceCell::new(),
                oauth,
                attempts: Attempts::default(),
                calls: ApiCalls::default(),
            }),
        }
    }

    /// Checks a password of an account. `user` is the login in its
    /// [plain form](super::plain_login). None for `account`: no account has this login, so no
    /// password is right. The check then takes as long as for a wrong password.
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
        let claim = Claim::of(user, account);
        if let Some(wait) = source.wait(claim.identity) {
            return Ok(PasswordCheck::TooMany(wait));
        }
        let credential = self.credential(claim.name).await?;
        let has_codes = credential.otp.is_some();
        let checked = self.check(claim, credential, password, source).await?;
        Ok(match checked {
            Checked::Right(Matched::Main) if has_codes => PasswordCheck::TooWeak,
            checked => checked.into(),
        })
    }

    /// The same, for a caller who manages the account. If the account has one-time codes, the main
    /// password needs one: behind the password and a `$`. Wrong codes have a count of their own,
    /// which no right password takes back. A right code is taken once.
    ///
    /// # Errors
    /// If the store can't be read, or can't note that the code was taken.
    pub async fn verify_with_code(
        &self,
        user: &str,
        account: Option<&str>,
        password: &str,
        source: &Source,
    ) -> Result<CodeCheck, StoreError> {
        let claim = Claim::of(user, account);
        if let Some(wait) = source.wait(claim.identity) {
            return Ok(CodeCheck::TooMany(wait));
        }
        let credential = self.credential(claim.name).await?;
        let otp = credential.otp.clone();
        let split = otp.as_ref().and_then(|otp| split_code(otp, password));
        let (password, code) = split.map_or((password, None), |(it, code)| (it, Some(code)));
        let codes = Identity::Code(claim.name);
        if code.is_some()
            && let Some(wait) = source.wait(codes)
        {
            return Ok(CodeCheck::TooMany(wait));
        }
        match self.check(claim, credential, password, source).await? {
            Checked::Right(Matched::Main) => {}
            Checked::Right(Matched::App(_)) => return Ok(CodeCheck::AppPassword),
            Checked::Wrong => return Ok(CodeCheck::Wrong),
            Checked::TooMany(wait) => return Ok(CodeCheck::TooMany(wait)),
        }
        let Some(otp) = otp else {
            return Ok(CodeCheck::Password);
        };
        let Some(code) = code else {
            return Ok(CodeCheck::CodeMissing);
        };
        if let Err(wait) = source.begin(codes) {
            return Ok(CodeCheck::TooMany(wait));
        }
        let Some(step) = otp_step(&otp, code, source.now) else {
            return Ok(CodeCheck::Wrong);
        };
        // Of two logins with one code, the store lets one pass.
        if !self.shared.store.take_otp_step(claim.name, step).await? {
            return Ok(CodeCheck::Wrong);
        }
        source.right(codes, true);
        Ok(CodeCheck::Password)
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
        let credential = Credential {
            argon2: hash.unwrap_or_default(),
            ..Credential::default()
        };
        let checked = self.check(claim, credential, password, source).await?;
        Ok(checked.into())
    }

    pub(super) fn attempts(&self) -> &Attempts {
        &self.shared.attempts
    }

    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The calls of the mailbox API, counted by caller.
    #[must_use]
    pub fn calls(&self) -> &ApiCalls {
        &self.shared.calls
    }

    /// The check of OAuth tokens. None: tokens are not taken.
    #[must_use]
    pub fn oauth(&self) -> Option<&Oauth> {
        self.shared.oauth.as_ref()
    }

    /// The key from which salts are made.
    pub(super) async fn salts_key(&self) -> Result<[u8; 32], StoreError> {
        let shared = &self.shared;
        let key = || shared.store.salts_key(rand::random());
        shared.salts.get_or_try_init(key).await.copied()
    }

    /// The credential of an account; an empty one if it has none.
    pub(super) async fn credential(&self, account: &str) -> Result<Credential, StoreError> {
        let found = self.shared.store.credential(account).await?;
        Ok(found.unwrap_or_default())
    }

    async fn check(
        &self,
        claim: Claim<'_>,
        credential: Credential,
        password: &str,
        source: &Source,
    ) -> Result<Checked, StoreError> {
        let credential = Arc::new(credential);
        let app_passwords = &credential.app_passwords;
        let checked = match find_random(app_passwords, password) {
            Some(found) => {
                source.right(claim.identity, false);
                Checked::Right(Matched::App(found.name.clone()))
            }
            None => self.compare(claim, &credential, password, source).await?,
        };
        if let Checked::Right(matched) = &checked {
            let used = match matched {
                Matched::Main => None,
                Matched::App(name) => app_passwords.iter().find(|it| it.name == *name),
            };
            self.note_use(claim.name, used, source).await;
            if claim.identity != Identity::Admin {
                self.add_keys(claim.name, &credential, used, password).await;
            }
        }
        Ok(checked)
    }

    /// Makes the keys of a right password for SCRAM, if it has none yet. The password is an app
    /// password, or else the main one. A failure does not refuse the login.
    async fn add_keys(
        &self,
        account: &str,
        credential: &Credential,
        app_password: Option<&AppPassword>,
        password: &str,
    ) {
        let (has_keys, of) = match app_password {
            Some(it) => {
                let of = PasswordOf::App(it.name.clone(), it.hash.clone());
                (it.keys.is_some(), of)
            }
            None => {
                let of = PasswordOf::Main(credential.argon2.clone());
                (credential.main_keys.is_some(), of)
            }
        };
        if has_keys {
            return;
        }
        let store = &self.shared.store;
        let salts = match scram_salts(store, account, credential).await {
            Ok(salts) => salts,
            Err(error) => {
                warn!(%error, account, "failed to make the salts of an account");
                return;
            }
        };
        let Ok(place) = Arc::clone(&self.shared.hashing).acquire_owned().await else {
            return;
        };
        let password = password.to_owned();
        let work = move || {
            let _place = place;
            scram_keys(&password, &salts)
        };
        let Ok(keys) = task::spawn_blocking(work).await else {
            return;
        };
        if let Err(error) = store.add_scram_keys(account, of, salts, keys).await {
            warn!(%error, account, "failed to keep the SCRAM keys of a password");
        }
    }

    /// Notes the use of an app password now and then. A store that fails does not refuse the login.
    pub(super) async fn note_use(
        &self,
        account: &str,
        used: Option<&AppPassword>,
        source: &Source,
    ) {
        let is_noted = |at: Time| source.now < at.after(USE_NOTED);
        let Some(used) = used.filter(|it| !it.last_used.is_some_and(is_noted)) else {
            return;
        };
        let store = &self.shared.store;
        if let Err(error) = store
            .use_app_password(account, &used.name, source.now)
            .await
        {
            warn!(%error, account, "failed to note the use of an app password");
        }
    }

    /// Compares a password with the slow hashes of an account.
    async fn compare(
        &self,
        claim: Claim<'_>,
        credential: &Arc<Credential>,
        password: &str,
        source: &Source,
    ) -> Result<Checked, StoreError> {
        let Claim { identity, name } = claim;
        let password = normal(password);
        let mac = self.shared.mac(name, &password);
        let known = || self.shared.known(name, &mac, credential);
        if let Some(matched) = known() {
            source.right(identity, false);
            return Ok(Checked::Right(matched));
        }
        let line = Arc::clone(self.shared.line(identity, source));
        let closed = |_| StoreError::Closed;
        let turn = line.acquire_owned().await.map_err(closed)?;
        // Another login may have checked the same password meanwhile.
        if let Some(matched) = known() {
            source.right(identity, false);
            return Ok(Checked::Right(matched));
        }
        if let Some(wait) = source.wait(identity) {
            return Ok(Checked::TooMany(wait));
        }
        let hashing = Arc::clone(&self.shared.hashing);
        let place = hashing.acquire_owned().await.map_err(closed)?;
        if let Err(wait) = source.begin(identity) {
            return Ok(Checked::TooMany(wait));
        }
        let (shared, source) = (Arc::clone(&self.shared), source.clone());
        let credential = Arc::clone(credential);
        let is_admin = identity == Identity::Admin;
        let (name, password) = (name.to_owned(), password.into_owned());
        // The check goes on to its end even if the client leaves.
        let checked = task::spawn_blocking(move || {
            let _places = (turn, place);
            let Some((matched, hash)) = matching(&credential, &password) else {
                return Checked::Wrong;
            };
            let identity = match is_admin {
                true => Identity::Admin,
                false => Identity::Account(&name),
            };
            source.right(identity, true);
            shared.remember(&name, mac, hash);
            Checked::Right(matched)
        });
        // It is cancelled only when the runtime ends.
        checked.await.map_err(|_| StoreError::Closed)
    }

    /// Has the account's passwords checked anew at its next login.
    pub fn forget(&self, account: &str) {
        self.shared.remembered().remove(account);
    }
}

impl<'a> Claim<'a> {
    /// The claim of a login. An account without a name has no credential.
    pub(super) fn of(user: &'a str, account: Option<&'a str>) -> Self {
        Self {
            identity: account.map_or(Identity::Unknown(user), Identity::Account),
            name: account.unwrap_or_default(),
        }
    }
}

/// The secret of an account that has this slow hash.
fn owner(credential: &Credential, hash: &str) -> Option<Matched> {
    if credential.argon2 == hash {
        return Some(Matched::Main);
    }
    let mut app_passwords = credential.app_passwords.iter();
    let found = app_passwords.find(|it| it.hash.chosen() == Some(hash));
    found.map(|it| Matched::App(it.name.clone()))
}

/// The slow hash that a normal password matches. All hashes are compared, so the time does not tell
/// which one it is.
fn matching(credential: &Credential, password: &str) -> Option<(Matched, String)> {
    let mut comparison = Comparison::of(password);
    let main = match credential.argon2.as_str() {
        "" => NOBODY,
        hash => hash,
    };
    let is_main = comparison.matches(main) && main != NOBODY;
    let mut found = is_main.then(|| (Matched::Main, main.to_owned()));
    for app_password in &credential.app_passwords {
        if let Some(hash) = app_password.hash.chosen()
            && comparison.matches(hash)
            && found.is_none()
        {
            found = Some((Matched::App(app_password.name.clone()), hash.to_owned()));
        }
    }
    found
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins")
            .field("remembered", &self.shared.remembered().len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn remembered(&self) -> MutexGuard<'_, HashMap<String, Vec<Remembered>>> {
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

    /// The secret that a remembered password matches, if the account still has it.
    fn known(&self, account: &str, mac: &Hmac<Sha256>, credential: &Credential) -> Option<Matched> {
        let remembered = self.remembered();
        let mut known = remembered.get(account)?.iter().filter(|known| {
            known.until > Instant::now() && mac.clone().verify_slice(&known.mac).is_ok()
        });
        known.find_map(|known| owner(credential, &known.hash))
    }

    fn remember(&self, account: &str, mac: Hmac<Sha256>, hash: String) {
        let now = Instant::now();
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, known| known.iter().any(|it| it.until > now));
        }
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        let of_account = remembered.entry(account.to_owned()).or_default();
        of_account.retain(|it| it.until > now && it.hash != hash);
        if of_account.len() >= REMEMBERED_OF_ACCOUNT {
            of_account.clear();
        }
        of_account.push(Remembered {
            mac: mac.finalize().into_bytes().into(),
            hash,
            until: now + REMEMBERED,
        });
    }
}

#[cfg(test)]
mod tests;
