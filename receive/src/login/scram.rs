//! SCRAM (RFC 5802, RFC 7677): the keys of an account's passwords, and the verdict on a proof.

use std::num::NonZeroU32;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use postrider_smtp::sasl::{ScramHash, ScramKeys, ScramOffer};
use postrider_store::{
    Credential, PasswordOf, ScramPair, ScramPairs, ScramSalt, ScramSalts, Store, StoreError,
};

use super::{
    limiter::Source,
    logins::{Claim, Logins, PasswordCheck},
    password::prepared,
};

/// The rounds of new keys. RFC 7677 §4 asks for 4096 at least.
const ROUNDS: NonZeroU32 = NonZeroU32::new(16_384).unwrap();

/// The salts of an account's passwords: those that it has, or else those that its first keys get.
/// They come from a key of this store, so clients see no change when the first keys are made.
///
/// # Errors
/// If the key can't be read or made.
pub async fn scram_salts(
    store: &Store,
    account: &str,
    credential: &Credential,
) -> Result<ScramSalts, StoreError> {
    match credential.scram {
        Some(salts) => Ok(salts),
        None => {
            let key = store.salts_key(rand::random()).await?;
            Ok(derive_salts(key, Owner::Account(account)))
        }
    }
}

/// Whose salts they are.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Account(&'a str),
    /// A login that nobody has.
    Nobody(&'a str),
}

/// The same key and the same owner give the same salts.
fn derive_salts(key: [u8; 32], owner: Owner<'_>) -> ScramSalts {
    let (kind, name) = match owner {
        Owner::Account(name) => (b"account:".as_slice(), name),
        Owner::Nobody(name) => (b"nobody:".as_slice(), name),
    };
    // A key of HMAC is a block, and zeros follow a shorter one.
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = from);
    let derive = |hash: &[u8]| {
        let mut mac = Hmac::<Sha256>::new((&block).into());
        mac.update(hash);
        mac.update(kind);
        mac.update(name.as_bytes());
        let mut salt = [0; 16];
        let mac = mac.finalize().into_bytes();
        salt.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        ScramSalt {
            salt,
            rounds: ROUNDS.get(),
        }
    };
    ScramSalts {
        sha256: derive(b"sha256:"),
        sha1: derive(b"sha1:"),
    }
}

/// The keys of a password in the form that SCRAM's clients prepare (SASLprep). It takes some
/// milliseconds of one core.
#[must_use]
pub fn scram_keys(password: &str, salts: &ScramSalts) -> ScramPairs {
    let password = prepared(password);
    let pair = |hash, salt: &ScramSalt| {
        let rounds = NonZeroU32::new(salt.rounds).unwrap_or(ROUNDS);
        let keys = ScramKeys::derive(hash, password.as_bytes(), &salt.salt, rounds);
        ScramPair {
            stored_key: keys.stored_key,
            server_key: keys.server_key,
        }
    };
    ScramPairs {
        sha256: pair(ScramHash::Sha256, &salts.sha256),
        sha1: pair(ScramHash::Sha1, &salts.sha1),
    }
}

/// What a client was offered. The verdict on its proof needs it.
#[derive(Clone, Debug)]
pub struct ScramOffered {
    /// The answer for the session.
    pub offer: ScramOffer,
    /// The password that each of the keys belongs to.
    passwords: Vec<PasswordOf>,
}

impl Logins {
    /// The keys for an exchange of SCRAM. `account` is None if nobody has the login `user`, which
    /// is in its [plain form](super::plain_login). Such a user gets a salt of its own all the same,
    /// so that nobody learns who exists.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn scram_offer(
        &self,
        user: &str,
        account: Option<&str>,
        hash: ScramHash,
    ) -> Result<ScramOffered, StoreError> {
        let credential = match account {
            Some(account) => self.credential(account).await?,
            None => Credential::default(),
        };
        let key = self.salts_key().await?;
        let owner = account.map_or(Owner::Nobody(user), Owner::Account);
        let salts = credential.scram;
        let salts = salts.unwrap_or_else(|| derive_salts(key, owner));
        let ScramSalt { salt, rounds } = match hash {
            ScramHash::Sha256 => salts.sha256,
            ScramHash::Sha1 => salts.sha1,
        };
        let (mut keys, mut passwords) = (Vec::new(), Vec::new());
        for (password, pairs) in pairs_of(credential) {
            let pair = match hash {
                ScramHash::Sha256 => pairs.sha256,
                ScramHash::Sha1 => pairs.sha1,
            };
            keys.push(ScramKeys {
                stored_key: pair.stored_key,
                server_key: pair.server_key,
            });
            passwords.push(password);
        }
        Ok(ScramOffered {
            offer: ScramOffer {
                salt: salt.to_vec(),
                rounds,
                keys,
                nonce: make_nonce(),
            },
            passwords,
        })
    }

    /// The verdict on a proof: the place of the keys that it is for, if there are any. The failure
    /// is counted as that of a wrong password.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn prove(
        &self,
        user: &str,
        account: Option<&str>,
        offered: &ScramOffered,
        proven: Option<usize>,
        source: &Source,
    ) -> Result<PasswordCheck, StoreError> {
        let claim = Claim::of(user, account);
        if let Err(wait) = source.begin(claim.identity) {
            return Ok(PasswordCheck::TooMany(wait));
        }
        let proven = proven.and_then(|place| offered.passwords.get(place));
        let Some(password) = proven else {
            return Ok(PasswordCheck::Wrong);
        };
        // The password may have changed since the offer.
        let credential = self.credential(claim.name).await?;
        let app_password = match password {
            PasswordOf::Main(hash) if *hash == credential.argon2 => None,
            PasswordOf::Main(_) => return Ok(PasswordCheck::Wrong),
            PasswordOf::App(name, hash) => {
                let mut passwords = credential.app_passwords.iter();
                match passwords.find(|it| it.name == *name && it.hash == *hash) {
                    Some(found) => Some(found),
                    None => return Ok(PasswordCheck::Wrong),
                }
            }
        };
        source.right(claim.identity, true);
        if app_password.is_none() && credential.otp.is_some() {
            return Ok(PasswordCheck::TooWeak);
        }
        self.note_use(claim.name, app_password, source).await;
        Ok(PasswordCheck::Right)
    }
}

/// The keys of an account's passwords that have some.
fn pairs_of(credential: Credential) -> impl Iterator<Item = (PasswordOf, ScramPairs)> {
    let main = credential
        .main_keys
        .filter(|_| !credential.argon2.is_empty());
    let main = main.map(|keys| (PasswordOf::Main(credential.argon2), keys));
    let others = credential.app_passwords.into_iter();
    let others = others.filter_map(|it| Some((PasswordOf::App(it.name, it.hash), it.keys?)));
    main.into_iter().chain(others)
}

/// A random text for one exchange: 144 bits.
fn make_nonce() -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    let random: [u8; 18] = rand::random();
    BASE64_STANDARD.encode(random)
}

#[cfg(test)]
mod tests;
