//! What SCRAM needs of a password (RFC 5802): salts, and keys that can't log in by themselves.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Credential;

/// The salt and the rounds of one hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramSalt {
    /// The salt.
    pub salt: [u8; 16],
    /// The rounds.
    pub rounds: u32,
}

/// The salts of an account. All its passwords have the same: the salt goes out before the server
/// knows which of them the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramSalts {
    /// For SCRAM-SHA-256.
    pub sha256: ScramSalt,
    /// For SCRAM-SHA-1.
    pub sha1: ScramSalt,
}

/// The keys of one password for one hash function.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramPair {
    /// StoredKey.
    pub stored_key: Vec<u8>,
    /// ServerKey.
    pub server_key: Vec<u8>,
}

/// The keys of one password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramPairs {
    /// For SCRAM-SHA-256.
    pub sha256: ScramPair,
    /// For SCRAM-SHA-1.
    pub sha1: ScramPair,
}

/// Hides the keys.
impl fmt::Debug for ScramPairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramPairs").finish_non_exhaustive()
    }
}

/// The password of an account that keys belong to. It is named by its hash, so that the keys of a
/// password that was changed meanwhile are not taken.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PasswordOf {
    /// The main password with this Argon2id hash.
    Main(String),
    /// The app password with this name and this hash.
    App(String, super::AppHash),
}

/// Hides the hashes.
impl fmt::Debug for PasswordOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main(_) => f.write_str("Main"),
            Self::App(name, _) => write!(f, "App({name:?})"),
        }
    }
}

impl Credential {
    /// Takes salts, unless the account has some. True: keys with these salts belong to it.
    pub(super) fn take_salts(&mut self, salts: Option<ScramSalts>) -> bool {
        match (self.scram, salts) {
            (None, Some(_)) => {
                self.scram = salts;
                true
            }
            (Some(present), Some(given)) => present == given,
            (_, None) => false,
        }
    }

    /// Takes the keys of a password. False: the account has no such password, or other salts.
    pub(super) fn take_keys(
        &mut self,
        password: &PasswordOf,
        salts: ScramSalts,
        keys: ScramPairs,
    ) -> bool {
        let slot = match password {
            PasswordOf::Main(hash) if *hash == self.argon2 => &mut self.main_keys,
            PasswordOf::Main(_) => return false,
            PasswordOf::App(name, hash) => {
                let mut passwords = self.app_passwords.iter_mut();
                match passwords.find(|it| it.name == *name && it.hash == *hash) {
                    Some(found) => &mut found.keys,
                    None => return false,
                }
            }
        };
        if self.scram.is_some_and(|present| present != salts) {
            return false;
        }
        *slot = Some(keys);
        self.scram = Some(salts);
        true
    }
}
