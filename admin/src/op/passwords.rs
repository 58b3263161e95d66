//! The passwords of accounts and of the administrator.
//!
//! The server keeps only an Argon2id hash: for an account in the store, for the administrator in a
//! file of its own.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use postrider_config::{Dynamic, replace_private};
use postrider_receive::login::{
    self, Logins, hash_password, hash_password_beside, random_groups, scram_keys, scram_salts,
};
use postrider_store::{CredentialChange, Store, StoreError, Time, WebSessionOwner};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Listed as _, Single};
use crate::{AdminError, Context};

/// The fewest characters of a password.
pub const MIN_LENGTH: usize = 8;

/// Sets the password of an account.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The account.
    pub account: String,
    /// The new password.
    pub password: String,
}

/// Hides the password.
impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Set");
        out.field("account", &self.account).finish_non_exhaustive()
    }
}

impl Single for Set {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let Self { account, password } = self;
        let config = context.config.load_full();
        let context = &context.carrying("password.set", &account, &());
        let (store, now) = (&context.store, context.clock.now());
        let logins = Some(&*context.logins);
        let set = set_account_password(store, logins, &config, &account, &password, now).await;
        let set = set.map_err(AdminError::from);
        context.record("password.set", &account, &(), set).await
    }
}

/// Gives an account a password that the server makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// The account.
    pub account: String,
}

/// A new password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// The password. The server keeps only a hash, so nobody can see it again.
    pub password: String,
}

/// Hides the password.
impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generated").finish_non_exhaustive()
    }
}

impl Single for Generate {
    type Output = Generated;

    async fn answer(self, context: &Context) -> Result<Generated, AdminError> {
        let password = generated(&mut rand::rng());
        let set = Set {
            account: self.account,
            password: password.clone(),
        };
        set.answer(context).await?;
        Ok(Generated { password })
    }
}

/// A password of 100 random bits.
fn generated(rng: &mut impl Rng) -> String {
    random_groups::<5>(4, rng)
}

/// Notes that a command wrote a new password of the administrator, and ends the sessions with the
/// old one. The command writes the file itself, since it may have rights that the server does not
/// have.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSet {}

impl Single for AdminSet {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let context = &context.carrying(Self::NAME, "admin", &());
        let owner = WebSessionOwner::Admin;
        let ended = context.store.end_web_sessions(owner, None).await;
        let ended = ended.map(drop).map_err(AdminError::from);
        context.record(Self::NAME, "admin", &(), ended).await
    }
}

/// Why a password was not set.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It has fewer than [`MIN_LENGTH`] characters.
    #[error("the password has {0} characters; it needs at least {MIN_LENGTH}")]
    TooShort(usize),
    /// It has a control character, for example a pasted line end.
    #[error("the password has a control character; choose one without")]
    ControlCharacter,
    /// It has a character that programs leave out or change.
    #[error("{0}; choose one without")]
    Character(login::PasswordError),
    /// The account is not in `domains.conf`.
    #[error("there is no account {account:?} in domains.conf; there are: {known}")]
    NoAccount {
        /// The name that was given.
        account: String,
        /// The accounts that exist.
        known: String,
    },
    /// The hash could not be made.
    #[error("failed to hash the password: {0}")]
    Hash(String),
    /// The store did not take the hash.
    #[error("failed to store the password: {0}")]
    Store(#[from] StoreError),
    /// The file of the administrator's password could not be written.
    #[error("failed to write {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl From<PasswordError> for AdminError {
    fn from(error: PasswordError) -> Self {
        let text = error.to_string();
        match error {
            PasswordError::TooShort(_)
            | PasswordError::ControlCharacter
            | PasswordError::Character(_) => Self::invalid(text).at("password"),
            PasswordError::NoAccount { .. } => Self::not_found(text).at("account"),
            PasswordError::Hash(_) | PasswordError::File { .. } => Self::internal(text),
            PasswordError::Store(error) => Self {
                text,
                ..error.into()
            },
        }
    }
}

/// Checks that a password is long enough, and that programs leave its characters as they are.
pub(super) fn check(password: &str) -> Result<(), PasswordError> {
    let length = password.chars().count();
    if length < MIN_LENGTH {
        return Err(PasswordError::TooShort(length));
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordError::ControlCharacter);
    }
    login::check_password(password).map_err(PasswordError::Character)
}

/// Sets the password of an account. App passwords and one-time codes stay. Remembered logins with
/// the old password and sessions of web pages end at once.
///
/// # Errors
/// If the password is too weak, the account is unknown, or the store fails. Then nothing changes.
pub async fn set_account_password(
    store: &Store,
    logins: Option<&Logins>,
    config: &Dynamic,
    account: &str,
    password: &str,
    now: Time,
) -> Result<(), PasswordError> {
    check(password)?;
    if !config.accounts.contains_key(account) {
        let known: Vec<&str> = config.accounts.keys().map(String::as_str).collect();
        return Err(PasswordError::NoAccount {
            account: account.to_owned(),
            known: known.join(", "),
        });
    }
    let password = password.to_owned();
    let before = store.credential(account).await?.unwrap_or_default();
    let salts = scram_salts(store, account, &before).await?;
    let hashed = move || {
        let others: Vec<&str> = before.argon2_hashes().collect();
        let hash = hash_password_beside(&password, &others)?;
        Ok::<_, login::PasswordError>((hash, scram_keys(&password, &salts)))
    };
    let (argon2, keys) = tokio::task::spawn_blocking(hashed)
        .await
        .map_err(|error| PasswordError::Hash(error.to_string()))?
        .map_err(|error| PasswordError::Hash(error.to_string()))?;
    let change = CredentialChange {
        argon2: Some(argon2),
        scram: Some(salts),
        main_keys: Some(keys),
        ..CredentialChange::default()
    };
    store.change_credential(account, change, now).await?;
    if let Some(logins) = logins {
        logins.forget(account);
    }
    Ok(())
}

/// Writes the hash of the administrator's password to `path`. The file is replaced as a whole, and
/// only its owner may read it.
///
/// # Errors
/// If the password is too weak or the file cannot be written.
pub fn set_admin_password(path: &Path, password: &str) -> Result<(), PasswordError> {
    check(password)?;
    let hash = hash_password(password).map_err(|error| PasswordError::Hash(error.to_string()))?;
    let written = replace_private(path, format!("{hash}\n").as_bytes());
    written.map_err(|source| PasswordError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn weak_passwords_are_refused() {
        assert!(matches!(check("short"), Err(PasswordError::TooShort(5))));
        assert!(matches!(
            check("with a\nline end"),
            Err(PasswordError::ControlCharacter)
        ));
        let hidden = check("correct\u{ad}horse").unwrap_err();
        assert_eq!(
            hidden.to_string(),
            "the password has the character U+00AD, which programs leave out or change; choose one \
             without"
        );
        assert!(check("p\u{e4}ssw\u{f6}rd").is_ok());
    }

    #[test]
    fn generated_passwords_are_long_and_plain() {
        let (one, other) = (generated(&mut rand::rng()), generated(&mut rand::rng()));
        assert_ne!(one, other);
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [5; 4]);
        assert!(check(&one).is_ok(), "{one}");
    }

    #[test]
    fn only_the_owner_may_read_the_administrators_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adminpasswd");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        set_admin_password(&path, "correct horse").unwrap();
        let hash = fs::read_to_string(&path).unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(
            set_admin_password(&dir.path().join("no/such/folder"), "correct horse"),
            Err(PasswordError::File { .. })
        ));
    }
}
