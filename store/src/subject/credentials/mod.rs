//! Credentials: how accounts prove who they are.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
mod older;
mod scram;

use serde::{Deserialize, Serialize};

use self::older::{CredentialV1, CredentialV2, OpV1, OpV2};
pub use self::scram::{PasswordOf, ScramPair, ScramPairs, ScramSalt, ScramSalts};
use super::State;
use crate::{
    Store, StoreError, Time, WebSessionOwner,
    error::Fault,
    table::{
        Table,
        key::Name,
        tables,
        value::{Unreadable, exactly, records},
    },
};

/// The most app passwords of an account.
pub const APP_PASSWORDS_MAX: usize = 50;

/// How an account proves who it is. The store never has a password itself.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// An Argon2id hash of the main password in PHC string form (RFC 9106). Empty: the account has
    /// no main password.
    pub argon2: String,
    /// When it was set.
    pub set: Time,
    /// The app passwords, at most [`APP_PASSWORDS_MAX`]. Each has a name of its own.
    pub app_passwords: Vec<AppPassword>,
    /// Makes the codes that are needed beside the main password; None: it is enough.
    pub otp: Option<Otp>,
    /// The salts of the keys for SCRAM; None: no password has keys yet.
    pub scram: Option<ScramSalts>,
    /// The keys of the main password for SCRAM; None: they are made at its next use.
    pub main_keys: Option<ScramPairs>,
}

impl Credential {
    /// The Argon2id hashes of the main password and of the app passwords that somebody chose, in
    /// this order. The first is empty if there is no main password.
    pub fn argon2_hashes(&self) -> impl Iterator<Item = &str> {
        let chosen = self.app_passwords.iter();
        let chosen = chosen.filter_map(|it| it.hash.chosen());
        std::iter::once(self.argon2.as_str()).chain(chosen)
    }
}

/// Hides the hashes, so that no log line has them.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("set", &self.set)
            .field("app_passwords", &self.app_passwords)
            .field("otp", &self.otp)
            .finish_non_exhaustive()
    }
}

/// A password of an account for one program.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPassword {
    /// The name, for people.
    pub name: String,
    /// A hash of the password.
    pub hash: AppHash,
    /// When it was added.
    pub created: Time,
    /// When it was last used, within some minutes; None: never.
    pub last_used: Option<Time>,
    /// The keys for SCRAM; None: they are made at its next use.
    pub keys: Option<ScramPairs>,
}

/// Hides the hash.
impl std::fmt::Debug for AppPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppPassword")
            .field("name", &self.name)
            .field("created", &self.created)
            .field("last_used", &self.last_used)
            .finish_non_exhaustive()
    }
}

/// The hash of an app password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppHash {
    /// SHA-256 of a password that the server made. It is random enough to need no more.
    Random([u8; 32]),
    /// An Argon2id hash in PHC string form of a password that somebody chose.
    Chosen(String),
}

impl AppHash {
    /// The Argon2id hash of a password that somebody chose.
    #[must_use]
    pub fn chosen(&self) -> Option<&str> {
        match self {
            Self::Random(_) => None,
            Self::Chosen(hash) => Some(hash),
        }
    }
}

/// A generator of one-time codes (TOTP, RFC 6238).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Otp {
    /// The shared secret.
    pub secret: Vec<u8>,
    /// The hash function.
    pub algorithm: OtpAlgorithm,
    /// How many digits a code has: 6 to 8.
    pub digits: u8,
    /// For how many seconds a code is shown.
    pub period: u32,
    /// The time step of the last code that was taken, counted in periods since 1970. No code of
    /// this step or an earlier one is taken.
    pub last_step: u64,
}

/// Hides the secret.
impl std::fmt::Debug for Otp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otp")
            .field("algorithm", &self.algorithm)
            .field("digits", &self.digits)
            .field("period", &self.period)
            .field("last_step", &self.last_step)
            .finish_non_exhaustive()
    }
}

/// The hash function of a generator of codes.
///
/// The journal and the index have the place in this list, so a new one goes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtpAlgorithm {
    /// SHA-1, which nearly all programs use.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A change of the credential of an account. It is made as a whole, or not at all.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialChange {
    /// The Argon2id hash of a new main password; None: the password stays.
    pub argon2: Option<String>,
    /// The new generator of codes, or none from now on; None: as before.
    pub otp: Option<Option<Otp>>,
    /// The names of app passwords that go. Those that do not exist are gone already.
    pub remove: Vec<String>,
    /// New app passwords.
    pub add: Vec<AppPassword>,
    /// The salts of the keys for SCRAM in this change. Keys with other salts than the account has
    /// by then are left out, and are made at the next use of their password.
    pub scram: Option<ScramSalts>,
    /// The keys of the new main password.
    pub main_keys: Option<ScramPairs>,
}

impl CredentialChange {
    /// Nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes a credential. False: a name would be there twice, or there would be too many app
    /// passwords. Then the credential is half changed.
    fn apply_to(self, credential: &mut Credential, now: Time) -> bool {
        let fits = credential.take_salts(self.scram);
        if let Some(argon2) = self.argon2 {
            (credential.argon2, credential.set) = (argon2, now);
            credential.main_keys = self.main_keys.filter(|_| fits);
        }
        if let Some(otp) = self.otp {
            credential.otp = otp;
        }
        let present = &mut credential.app_passwords;
        present.retain(|it| !self.remove.contains(&it.name));
        for mut new in self.add {
            new.keys = new.keys.filter(|_| fits);
            if present.iter().any(|it| it.name == new.name) {
                return false;
            }
            present.push(new);
        }
        present.len() <= APP_PASSWORDS_MAX
    }
}

/// Hides the hashes.
impl std::fmt::Debug for CredentialChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialChange")
            .field("argon2", &self.argon2.is_some())
            .field("otp", &self.otp)
            .field("remove", &self.remove)
            .field("add", &self.add)
            .finish()
    }
}

/// A random key of the server, that only this store knows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret([u8; 32]);

/// Hides the key.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// The name of the key that makes salts. At first these were those of unknown users only.
const SALTS: &str = "unknown users";

records! {
    Credential: version 3 [1 => CredentialV1, 2 => CredentialV2],
    Secret: version 1,
}

tables! {
    /// The credentials.
    counters: (),
    credentials: Table<Name, Credential> = Table::new("credentials"),
    /// Keys of the server, by their use.
    secrets: Table<Name, Secret> = Table::new("secrets"),
}

subject!(counters (), keys 1);

operations! {
    Credentials, version 3 older older:
    Set -> (), Ordinary;
    Amend -> bool, Ordinary;
    TakeStep -> bool, Reserve;
    Use -> (), Reserve;
    Derive -> bool, Reserve;
    Keep -> (), Reserve;
}

/// Reads an operation of version 1, in which a credential was the hash of a password, or of version
/// 2, which had no keys for SCRAM.
fn older(version: u8, bytes: &[u8]) -> Result<Op, Unreadable> {
    match version {
        1 => exactly(bytes).map(|old: OpV1| old.into()),
        2 => exactly(bytes).map(|old: OpV2| old.into()),
        _ => Err(Unreadable::Older(version)),
    }
}

/// Sets the credential of an account, or removes it. The sessions and the tokens of the account
/// end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Set {
    account: String,
    credential: Option<Credential>,
}

impl Set {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let account: Name = self.account.as_str().into();
        match self.credential {
            Some(credential) => state.credentials.credentials.put(account, credential),
            None => state.credentials.credentials.remove(&account),
        }
        state.second_factors.forget_account(&self.account);
        state.mail_tokens.end_of(&self.account)?;
        let owner = WebSessionOwner::Account(self.account);
        state.web_sessions.end_of(&owner, None)?;
        Ok(())
    }
}

/// Changes the credential of an account. A new password ends the sessions and the tokens of the
/// account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Amend {
    account: String,
    change: CredentialChange,
    now: Time,
}

impl Amend {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let account: Name = self.account.as_str().into();
        let table = &mut state.credentials.credentials;
        let mut credential = table.get(&account)?.unwrap_or_default();
        let sets_password = self.change.argon2.is_some();
        let sets_otp = self.change.otp.is_some();
        let is_made = self.change.apply_to(&mut credential, self.now);
        if is_made {
            table.put(account, credential);
        }
        if is_made && sets_otp {
            state.second_factors.forget_account(&self.account);
        }
        if is_made && sets_password {
            state.mail_tokens.end_of(&self.account)?;
            let owner = WebSessionOwner::Account(self.account);
            state.web_sessions.end_of(&owner, None)?;
        }
        Ok(is_made)
    }
}

/// Takes the code of a time step, unless a code of this step or a later one was taken.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TakeStep {
    account: String,
    step: u64,
}

impl TakeStep {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let account: Name = self.account.into();
        let table = &mut state.credentials.credentials;
        let Some(mut credential) = table.get(&account)? else {
            return Ok(false);
        };
        let is_taken = take(&mut credential, self.step);
        if is_taken {
            table.put(account, credential);
        }
        Ok(is_taken)
    }
}

fn take(credential: &mut Credential, step: u64) -> bool {
    match &mut credential.otp {
        Some(otp) if step > otp.last_step => {
            otp.last_step = step;
            true
        }
        _ => false,
    }
}

/// Notes the use of an app password.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Use {
    account: String,
    name: String,
    now: Time,
}

impl Use {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let account: Name = self.account.into();
        let table = &mut state.credentials.credentials;
        if let Some(mut credential) = table.get(&account)? {
            note_use(&mut credential, &self.name, self.now);
            table.put(account, credential);
        }
        Ok(())
    }
}

fn note_use(credential: &mut Credential, name: &str, now: Time) {
    let mut passwords = credential.app_passwords.iter_mut();
    if let Some(used) = passwords.find(|it| it.name == name) {
        used.last_used = used.last_used.max(Some(now));
    }
}

/// Adds the keys of a password for SCRAM.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Derive {
    account: String,
    password: PasswordOf,
    salts: ScramSalts,
    keys: ScramPairs,
}

impl Derive {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let account: Name = self.account.into();
        let table = &mut state.credentials.credentials;
        let Some(mut credential) = table.get(&account)? else {
            return Ok(false);
        };
        let is_taken = credential.take_keys(&self.password, self.salts, self.keys);
        if is_taken {
            table.put(account, credential);
        }
        Ok(is_taken)
    }
}

/// Keeps a key of the server, unless there is one for this use.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Keep {
    used_for: String,
    secret: Secret,
}

impl Keep {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let used_for: Name = self.used_for.into();
        let secrets = &mut state.credentials.secrets;
        if !secrets.contains(&used_for)? {
            secrets.put_new(used_for, self.secret);
        }
        Ok(())
    }
}

questions! {
    ask SecretFor<'a> { used_for: &'a str } -> Option<Secret>,
    |this, state| state.credentials.secrets.get(&this.used_for.into()),
    |this, model| model.credentials.secrets.get(this.used_for).cloned();

    ask Of<'a> { account: &'a str } -> Option<Credential>,
    |this, state| state.credentials.credentials.get(&this.account.into()),
    |this, model| model.credentials.credentials.get(this.account).cloned();
}

impl Store {
    /// The credential of an account. None if nothing was set.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn credential(&self, account: &str) -> Result<Option<Credential>, StoreError> {
        self.ask(Of { account }).await
    }

    /// Sets or removes the credential of an account. The sessions of the account end.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn set_credential(
        &self,
        account: &str,
        credential: Option<Credential>,
    ) -> Result<(), StoreError> {
        let account = account.to_owned();
        self.change_by(Set {
            account,
            credential,
        })
        .await
    }

    /// Changes the credential of an account, as a whole. A new password ends the sessions of the
    /// account, and its recovery codes go with its one-time codes. False: nothing was changed,
    /// because an app password of a given name exists, or there would be more than
    /// [`APP_PASSWORDS_MAX`].
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn change_credential(
        &self,
        account: &str,
        change: CredentialChange,
        now: Time,
    ) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(Amend {
            account,
            change,
            now,
        })
        .await
    }

    /// Takes the one-time code of a time step. False: a code of this step or a later one was taken
    /// before, or the account has no codes.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn take_otp_step(&self, account: &str, step: u64) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(TakeStep { account, step }).await
    }

    /// Adds the keys of a password for SCRAM. False: the account has no such password any more, or
    /// got other salts meanwhile.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn add_scram_keys(
        &self,
        account: &str,
        password: PasswordOf,
        salts: ScramSalts,
        keys: ScramPairs,
    ) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(Derive {
            account,
            password,
            salts,
            keys,
        })
        .await
    }

    /// The random key from which salts for SCRAM are made. It stays the same, so that the salts of
    /// unknown users do. Without one, `new` becomes it.
    ///
    /// # Errors
    /// If it can't be read or made durable.
    pub async fn salts_key(&self, new: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let used_for = SALTS;
        if let Some(Secret(key)) = self.ask(SecretFor { used_for }).await? {
            return Ok(key);
        }
        self.change_by(Keep {
            used_for: used_for.to_owned(),
            secret: Secret(new),
        })
        .await?;
        let kept = self.ask(SecretFor { used_for }).await?;
        Ok(kept.map_or(new, |Secret(key)| key))
    }

    /// Notes that an app password was used.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn use_app_password(
        &self,
        account: &str,
        name: &str,
        now: Time,
    ) -> Result<(), StoreError> {
        let (account, name) = (account.to_owned(), name.to_owned());
        self.change_by(Use { account, name, now }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let account = || "ann".to_owned();
    let app_password = AppPassword {
        name: "phone".into(),
        hash: AppHash::Random([7; 32]),
        created: Time(1),
        last_used: None,
        keys: Some(keys()),
    };
    let otp = Otp {
        secret: vec![1; 20],
        algorithm: OtpAlgorithm::Sha1,
        digits: 6,
        period: 30,
        last_step: 0,
    };
    vec![
        Op::Set(Set {
            account: account(),
            credential: Some(Credential {
                argon2: "$argon2id$".into(),
                set: Time(1),
                ..Credential::default()
            }),
        }),
        Op::Amend(Amend {
            account: account(),
            change: CredentialChange {
                argon2: Some("$argon2id$".into()),
                otp: Some(Some(otp)),
                remove: vec!["laptop".into()],
                add: vec![app_password],
                scram: Some(salts()),
                main_keys: Some(keys()),
            },
            now: Time(2),
        }),
        Op::TakeStep(TakeStep {
            account: account(),
            step: 7,
        }),
        Op::Use(Use {
            account: account(),
            name: "phone".into(),
            now: Time(3),
        }),
        Op::Derive(Derive {
            account: account(),
            password: PasswordOf::Main("$argon2id$".into()),
            salts: salts(),
            keys: keys(),
        }),
        Op::Keep(Keep {
            used_for: SALTS.into(),
            secret: Secret([7; 32]),
        }),
    ]
}

#[cfg(test)]
pub(crate) fn salts() -> ScramSalts {
    let salt = |byte| ScramSalt {
        salt: [byte; 16],
        rounds: 16_384,
    };
    ScramSalts {
        sha256: salt(1),
        sha1: salt(2),
    }
}

#[cfg(test)]
pub(crate) fn keys() -> ScramPairs {
    let pair = |length| ScramPair {
        stored_key: vec![1; length],
        server_key: vec![2; length],
    };
    ScramPairs {
        sha256: pair(32),
        sha1: pair(20),
    }
}
