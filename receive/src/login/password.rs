//! Passwords as they are hashed and compared.

use std::borrow::Cow;

use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{SaltString, rand_core::OsRng},
};
use unicode_normalization::UnicodeNormalization;

/// Why a password can't be hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It has no characters.
    #[error("the password is empty")]
    Empty,
    /// It has a control character, which no login can carry.
    #[error("the password has a control character")]
    Control,
    /// The hash function failed.
    #[error("failed to hash the password: {0}")]
    Hash(String),
}

/// The Argon2id hash of a password with a new salt, in PHC string form (RFC 9106), with 19 MiB, two passes, one lane.
/// Takes tens of milliseconds of one core.
///
/// # Errors
/// If it is empty or has a control character (RFC 8265 §4.2).
pub fn hash_password(password: &str) -> Result<String, PasswordError> {
    let password = normal(password);
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordError::Control);
    }
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(hash.to_string())
}

/// Whether a password is the one that was hashed, by the parameters in the hash. A hash that can't be read matches none.
pub(super) fn matches(normal: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .and_then(|hash| Argon2::default().verify_password(normal.as_bytes(), &hash))
        .is_ok()
}

/// A password in the form that is hashed: other spaces become U+0020, then NFC (RFC 8265 §4.2.2, OpaqueString).
pub(super) fn normal(password: &str) -> Cow<'_, str> {
    if password.is_ascii() {
        return Cow::Borrowed(password);
    }
    Cow::Owned(
        password
            .chars()
            .map(|c| if is_space(c) { ' ' } else { c })
            .nfc()
            .collect(),
    )
}

/// Unicode's space separators (general category Zs) outside of ASCII.
const fn is_space(c: char) -> bool {
    matches!(
        c,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_matches_its_password_only() {
        let hash = hash_password("correct horse").unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(matches("correct horse", &hash));
        assert!(!matches("correct horsf", &hash));
        assert!(!matches("correct horse", "not a hash"));
        assert_ne!(hash, hash_password("correct horse").unwrap());
    }

    #[test]
    fn the_ways_to_type_it_are_one() {
        assert_eq!(normal("u\u{308}\u{a0}x"), "\u{fc} x");
        assert_eq!(normal("plain  text"), "plain  text");
    }

    #[test]
    fn unusable_ones_are_refused() {
        assert_eq!(hash_password(""), Err(PasswordError::Empty));
        assert_eq!(hash_password("a\nb"), Err(PasswordError::Control));
    }
}
