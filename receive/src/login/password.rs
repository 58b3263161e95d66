//! The hash and the comparison of passwords.

use std::borrow::Cow;

use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{SaltString, rand_core::OsRng},
};
use unicode_normalization::UnicodeNormalization;

/// The reasons to refuse a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It has no characters.
    #[error("the password is empty")]
    Empty,
    /// It has a control character. No login can carry one.
    #[error("the password has a control character")]
    Control,
    /// The hash function failed.
    #[error("failed to hash the password: {0}")]
    Hash(String),
}

/// The Argon2id hash of a password with a new salt, as a PHC string (RFC 9106): 19 MiB, two passes,
/// one lane. It takes tens of milliseconds of one core.
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

/// A normal password matches a hash. The hash names its parameters. An unreadable hash matches no
/// password.
pub(super) fn matches(normal: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .and_then(|hash| Argon2::default().verify_password(normal.as_bytes(), &hash))
        .is_ok()
}

/// The normal form of a password: other spaces become U+0020, then NFC (RFC 8265 §4.2.2,
/// OpaqueString).
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

/// A space separator of Unicode (general category Zs) outside of ASCII.
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
    fn different_spellings_of_a_password_are_equal() {
        assert_eq!(normal("u\u{308}\u{a0}x"), "\u{fc} x");
        assert_eq!(normal("plain  text"), "plain  text");
    }

    #[test]
    fn unusable_passwords_are_refused() {
        assert_eq!(hash_password(""), Err(PasswordError::Empty));
        assert_eq!(hash_password("a\nb"), Err(PasswordError::Control));
    }
}
