//! SCRAM (RFC 5802, RFC 7677): the keys of an account's passwords, and the verdict on a proof.

use std::num::NonZeroU32;

use hmac::{Hmac, Mac};
use rand::Rng;
use sha2::Sha256;

use postrider_smtp::sasl::{ScramHash, ScramKeys, ScramOffer, ScramRequest};
use postrider_store::{
    Credential, PasswordOf, ScramPair, ScramPairs, ScramSalt, ScramSalts, StoreError,
};

use super::{
    limiter::Source,
    logins::{Claim, Logins, PasswordCheck},
    password::normal,
};

/// The rounds of new keys. RFC 7677 §4 asks for 4096 at least.
const ROUNDS: NonZeroU32 = NonZeroU32::new(16_384).unwrap();

/// New salts for the passwords of an account.
pub fn make_scram_salts(rng: &mut impl Rng) -> ScramSalts {
    let mut salt = || {
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        ScramSalt {
            salt,
            rounds: ROUNDS.get(),
        }
    };
    ScramSalts {
        sha256: salt(),
        sha1: salt(),
    }
}

/// The keys of a password. It takes some milliseconds of one core.
#[must_use]
pub fn scram_keys(password: &str, salts: &ScramSalts) -> ScramPairs {
    let password = normal(password);
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
    /// The keys for an exchange of SCRAM. `account` is None if nobody has this login. Such a user
    /// gets a salt of its own all the same, so that nobody learns who exists.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn scram_offer(
        &self,
        account: Option<&str>,
        request: &ScramRequest,
    ) -> Result<ScramOffered, StoreError> {
        let credential = match account {
            Some(account) => self.credential(account).await?,
            None => Credential::default(),
        };
        let (salt, rounds) = match credential.scram {
            Some(salts) => {
                let salt = match request.hash {
                    ScramHash::Sha256 => salts.sha256,
                    ScramHash::Sha1 => salts.sha1,
                };
                (salt.salt.to_vec(), salt.rounds)
            }
            None => (self.salt_of_unknown(request).await?, ROUNDS.get()),
        };
        let (mut keys, mut passwords) = (Vec::new(), Vec::new());
        for (password, pairs) in pairs_of(credential) {
            let pair = match request.hash {
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
                salt,
                rounds,
                keys,
                nonce: make_nonce(),
            },
            passwords,
        })
    }

    /// The salt of a user that nobody has: always the same for the same name.
    async fn salt_of_unknown(&self, request: &ScramRequest) -> Result<Vec<u8>, StoreError> {
        let key = self.unknown_users_key().await?;
        let hash: &[u8] = match request.hash {
            ScramHash::Sha256 => b"sha256:",
            ScramHash::Sha1 => b"sha1:",
        };
        // A key of HMAC is a block, and zeros follow a shorter one.
        let mut block = [0; 64];
        block.iter_mut().zip(key).for_each(|(to, from)| *to = from);
        let mut mac = Hmac::<Sha256>::new((&block).into());
        mac.update(hash);
        // The case of a login does not count.
        mac.update(request.user.to_lowercase().as_bytes());
        let mac = mac.finalize().into_bytes();
        Ok(mac.into_iter().take(16).collect())
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
