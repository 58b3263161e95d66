//! The passwords of accounts and of the administrator.
//!
//! Only an Argon2id hash is kept: for an account in the store, for the administrator in a file of its own.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use postrider_config::Dynamic;
use postrider_receive::login::{Logins, hash_password};
use postrider_store::{Credential, Store, StoreError, Time};

/// The fewest characters of a password.
pub const MIN_LENGTH: usize = 8;

/// Why a password was not set.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Shorter than [`MIN_LENGTH`] characters.
    #[error("the password has {0} characters; it needs at least {MIN_LENGTH}")]
    TooShort(usize),
    /// A control character, for example a pasted line end.
    #[error("the password has a control character; choose one without")]
    ControlCharacter,
    /// No such account in domains.conf.
    #[error("there is no account {account:?} in domains.conf; there are: {known}")]
    NoAccount {
        /// The name asked for.
        account: String,
        /// Those that exist.
        known: String,
    },
    /// The hash could not be made.
    #[error("failed to hash the password: {0}")]
    Hash(String),
    /// The store did not take it.
    #[error("failed to store the password: {0}")]
    Store(#[from] StoreError),
    /// The file of the administrator's password.
    #[error("failed to write {path:?}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

fn check(password: &str) -> Result<(), PasswordError> {
    let length = password.chars().count();
    if length < MIN_LENGTH {
        return Err(PasswordError::TooShort(length));
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordError::ControlCharacter);
    }
    Ok(())
}

/// Sets the password of an account; earlier remembered logins with the old one end at once.
///
/// # Errors
/// If the password is too weak, the account unknown, or the store can't take it. Nothing is changed then.
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
    let argon2 = tokio::task::spawn_blocking(move || hash_password(&password))
        .await
        .map_err(|error| PasswordError::Hash(error.to_string()))?
        .map_err(|error| PasswordError::Hash(error.to_string()))?;
    store
        .set_credential(account, Some(Credential { argon2, set: now }))
        .await?;
    if let Some(logins) = logins {
        logins.forget(account);
    }
    Ok(())
}

/// Writes the hash of the administrator's password to `path`, atomically, readable by the owner only.
///
/// # Errors
/// If the password is too weak or the file can't be written.
pub fn set_admin_password(path: &Path, password: &str) -> Result<(), PasswordError> {
    check(password)?;
    let hash = hash_password(password).map_err(|error| PasswordError::Hash(error.to_string()))?;
    write_atomically(path, format!("{hash}\n").as_bytes()).map_err(|source| PasswordError::File {
        path: path.to_owned(),
        source,
    })
}

fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn weak_passwords_are_refused() {
        assert!(matches!(check("short"), Err(PasswordError::TooShort(5))));
        assert!(matches!(
            check("with a\nline end"),
            Err(PasswordError::ControlCharacter)
        ));
        assert!(check("p\u{e4}ssw\u{f6}rd").is_ok());
    }

    #[test]
    fn the_administrators_hash_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adminpasswd");
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
