//! Logins: password hashes, fast checks of passwords, and limits on guesses.
//!
//! Argon2id hashes each password. It is slow on purpose, and would limit an API to tens of requests
//! per second. So [`Logins`] remembers a right password for some minutes. [`LoginLimiter`] counts
//! wrong ones, per network and account.
//!
//! SCRAM proves that a client knows a password that neither side sends. The keys for that are made
//! when a password is set, or at its next use. A client may also log in with a certificate, or with
//! a token of an OAuth authorization server.
//!
//! What becomes of each login is noted in the store, some seconds later ([`Logins::note`]).
//!
//! An account may have app passwords beside its main password, and one-time codes as a second
//! factor. With codes, the main password is enough nowhere, and app passwords are enough. The
//! administrator may have codes too. A recovery code stands in for a one-time code once.

mod apikey;
mod apppassword;
mod attempts;
mod caller;
mod calls;
mod certificate;
mod limiter;
mod logins;
pub(crate) mod oauth;
mod otp;
mod password;
mod reach;
mod scram;
mod second;
mod token;

pub use apikey::KeyText;
pub use apppassword::{APP_PASSWORD_MIN_LENGTH, make_app_password, matches_hash};
pub use attempts::Attempt;
pub use caller::{ApiCaller, ApiClient, ApiCredentials, ApiRefusal, ApiUser, Manager};
pub use calls::{ApiCalls, CallsOf, InCall};
pub use limiter::{Identity, LoginLimiter, LoginLimits, Rate, Source, wait_in_words};
pub use logins::{CodeCheck, Logins, PasswordCheck};
pub use oauth::{Holder, Meaning, NoAnswer, Oauth, OauthError};
pub use otp::{OtpError, make_otp, otp_code, otp_step, parse_otp};
pub use password::{
    HashError, PasswordError, check_hash, check_password, hash_password, hash_password_beside,
    slow_hash,
};
pub use reach::Reach;
pub use scram::{ScramOffered, scram_keys, scram_salts};
pub use second::{SecondCheck, make_recovery_codes};
pub use token::{GivenToken, TokenError, address_owner, is_own_secret};

use postrider_config::Dynamic;
use postrider_smtp::Address;
use rand::Rng;

/// Lower-case letters and digits that nobody takes for another one.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// The most characters of a text from outside.
const TEXT_MAX: usize = 120;

/// Random letters for somebody to type: `groups` groups of `N`, with a `-` between them. Each
/// letter has five random bits.
#[must_use]
pub fn random_groups<const N: usize>(groups: usize, rng: &mut impl Rng) -> String {
    let group = |_| {
        let mut random = [0; N];
        rng.fill_bytes(&mut random);
        let letters = random.map(|byte| LETTERS.get(usize::from(byte % 32)).copied());
        letters
            .into_iter()
            .flatten()
            .map(char::from)
            .collect::<String>()
    };
    let groups: Vec<String> = (0..groups).map(group).collect();
    groups.join("-")
}

/// A text from outside as people get to see it, such as what a browser calls itself: without
/// control characters, and not too long.
#[must_use]
pub fn shown(text: &str) -> String {
    let shown = text.chars().filter(|it| !it.is_control());
    shown.take(TEXT_MAX).collect()
}

/// The form of a login that all its spellings have in common. Failures count for it, and salts
/// belong to it: a login that nobody has must look like one that has an account, whose spellings
/// lead to one.
#[must_use]
pub fn plain_login(config: &Dynamic, user: &str) -> String {
    let Ok(address) = Address::parse(user) else {
        return user.to_lowercase();
    };
    let canonical = config.canonical(&address);
    canonical.unwrap_or_else(|| config.plain(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_outside_are_shortened() {
        assert_eq!(shown("a\u{7}b\n"), "ab");
        assert_eq!(shown(&"\u{e4}".repeat(500)).chars().count(), TEXT_MAX);
    }
}
