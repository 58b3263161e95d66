//! The hash and the comparison of passwords.

use std::borrow::Cow;

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, Version,
    password_hash::{Output, SaltString, rand_core::OsRng},
};
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, NoncharacterCodePoint},
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
    /// It has a character that clients change, or that nobody can see. The number is that of the
    /// character.
    #[error("the password has the character U+{0:04X}, which programs leave out or change")]
    Disallowed(u32),
    /// The hash function failed.
    #[error("failed to hash the password: {0}")]
    Hash(String),
}

/// The reasons to refuse a hash that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It is a hash of another kind.
    #[error("only hashes that begin with $argon2id$ are supported")]
    Kind,
    /// It is not in the form of a PHC string, or parts are missing.
    #[error("the hash is not complete: it needs $argon2id$v=19$m=...,t=...,p=...$SALT$HASH")]
    Form,
    /// A check would be too easy for a guesser, or take too much of this server.
    #[error(
        "the hash has parameters that are not allowed: m must be {} to {} KiB, t 1 to {PASSES_MAX}, \
         m times t at most {WORK_MAX}, p 1 to {LANES_MAX}, the salt 8 bytes or more, and the hash \
         16 to 64 bytes",
        MEMORY.0,
        MEMORY.1
    )]
    Parameters,
}

/// The least and the most memory of a hash that somebody else made, in KiB.
const MEMORY: (u32, u32) = (7168, 65_536);
/// The most passes over the memory.
const PASSES_MAX: u32 = 16;
/// The most memory in KiB times passes: four passes over the most memory.
const WORK_MAX: u32 = 262_144;
/// The most lanes.
const LANES_MAX: u32 = 8;

/// Checks an Argon2id hash that somebody else made, as a PHC string.
///
/// # Errors
/// If it is of another kind, not complete, or has parameters that are out of bounds.
pub fn check_hash(text: &str) -> Result<(), HashError> {
    if !text.starts_with("$argon2id$") {
        return Err(HashError::Kind);
    }
    let hash = PasswordHash::new(text).map_err(|_| HashError::Form)?;
    let (Some(salt), Some(output)) = (hash.salt, hash.hash) else {
        return Err(HashError::Form);
    };
    if hash.version != Some(Version::V0x13.into()) {
        return Err(HashError::Form);
    }
    let params = Params::try_from(&hash).map_err(|_| HashError::Parameters)?;
    let mut buffer = [0; 64];
    let salt = salt.decode_b64(&mut buffer).map_err(|_| HashError::Form)?;
    let is_within = (MEMORY.0..=MEMORY.1).contains(&params.m_cost())
        && (1..=PASSES_MAX).contains(&params.t_cost())
        && params.m_cost().saturating_mul(params.t_cost()) <= WORK_MAX
        && (1..=LANES_MAX).contains(&params.p_cost())
        && salt.len() >= 8
        && (16..=64).contains(&output.len());
    match is_within {
        true => Ok(()),
        false => Err(HashError::Parameters),
    }
}

/// The Argon2id hash of a password with a new salt, as a PHC string (RFC 9106): 19 MiB, two passes,
/// one lane. It takes tens of milliseconds of one core.
///
/// # Errors
/// If it is empty or has a character that new passwords may not have (RFC 8265 §4.2).
pub fn hash_password(password: &str) -> Result<String, PasswordError> {
    hash_password_beside(password, &[])
}

/// The same, with the salt of the first of these hashes that was made here. All passwords of an
/// account have one salt, so that a login costs one computation and not one for each.
///
/// # Errors
/// As [`hash_password`].
pub fn hash_password_beside(password: &str, others: &[&str]) -> Result<String, PasswordError> {
    check_password(password)?;
    let password = normal(password);
    let salt = others.iter().find_map(|other| own_salt(other));
    let salt = salt.unwrap_or_else(|| SaltString::generate(&mut OsRng));
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(hash.to_string())
}

/// Checks the characters of a new password (RFC 8265 §4.2).
///
/// # Errors
/// If it is empty or has a character that new passwords may not have.
pub fn check_password(password: &str) -> Result<(), PasswordError> {
    let password = normal(password);
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordError::Control);
    }
    match password.chars().find(|it| is_disallowed(*it)) {
        Some(found) => Err(PasswordError::Disallowed(found.into())),
        None => Ok(()),
    }
}

/// A hash that takes as long as that of a password, so that nobody can guess from the hash what was
/// hashed. The same text and salt give the same hash.
///
/// # Errors
/// If the hash function fails.
pub fn slow_hash(text: &[u8], salt: [u8; 16]) -> Result<[u8; 32], PasswordError> {
    let mut hash = [0; 32];
    Argon2::default()
        .hash_password_into(text, &salt, &mut hash)
        .map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(hash)
}

/// The salt of a hash with the parameters that hashes get here.
fn own_salt(hash: &str) -> Option<SaltString> {
    let hash = PasswordHash::new(hash).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let own = Params::default();
    let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
    let is_own = hash.algorithm == Algorithm::Argon2id.ident() && costs(&params) == costs(&own);
    SaltString::from_b64(hash.salt.filter(|_| is_own)?.as_str()).ok()
}

/// Compares one password with several hashes. Hashes with the same salt and the same parameters
/// cost one computation.
pub(super) struct Comparison<'a> {
    normal: &'a str,
    /// The part of a hash before its output, with the output of the password.
    computed: Vec<(String, Output)>,
}

impl<'a> Comparison<'a> {
    /// For a password in its normal form.
    pub(super) const fn of(normal: &'a str) -> Self {
        Self {
            normal,
            computed: Vec::new(),
        }
    }

    /// The password matches a hash. The hash names its parameters. An unreadable hash matches no
    /// password.
    pub(super) fn matches(&mut self, hash: &str) -> bool {
        let Some((beginning, _)) = hash.rsplit_once('$') else {
            return false;
        };
        let Ok(hash) = PasswordHash::new(hash) else {
            return false;
        };
        let same = |(known, output): &&(String, Output)| {
            known == beginning && hash.hash.is_some_and(|it| it.len() == output.len())
        };
        // `Output` compares in constant time.
        if let Some((_, output)) = self.computed.iter().find(same) {
            return hash.hash == Some(*output);
        }
        let Some(output) = self.output(&hash) else {
            return false;
        };
        self.computed.push((beginning.to_owned(), output));
        hash.hash == Some(output)
    }

    /// The output for the password, with the salt and the parameters of a hash.
    fn output(&self, hash: &PasswordHash<'_>) -> Option<Output> {
        let params = Params::try_from(hash).ok()?;
        let computed = Argon2::default().hash_password_customized(
            self.normal.as_bytes(),
            Some(hash.algorithm),
            hash.version,
            params,
            hash.salt?,
        );
        computed.ok()?.hash
    }
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

/// A new password may not have this character (RFC 8264 §4.3): it is ignored, or means nothing
/// yet. The comparison takes all, since older passwords may have some.
fn is_disallowed(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c)
        || CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::Unassigned
}

/// A password in the form in which clients of SCRAM prepare it: SASLprep (RFC 4013). It is the
/// normal form if SASLprep refuses the password.
pub(super) fn prepared(password: &str) -> Cow<'_, str> {
    stringprep::saslprep(password).unwrap_or_else(|_| normal(password))
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
        let matches = |password: &str, hash: &str| Comparison::of(password).matches(hash);
        assert!(matches("correct horse", &hash));
        assert!(!matches("correct horsf", &hash));
        assert!(!matches("correct horse", "not a hash"));
        assert!(!matches(
            "correct horse",
            "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAA"
        ));
        assert_ne!(hash, hash_password("correct horse").unwrap());
    }

    /// `argon2-cffi` of Python made the hash in the middle, of "correct horse battery staple".
    #[test]
    fn hashes_with_one_salt_cost_one_computation() {
        let main = hash_password("correct horse").unwrap();
        let other = "$argon2id$v=19$m=65536,t=3,p=4$MIIRqgvgQbgj220jfp0MPA$\
                     YfwJSVjtjSU0zzV/P3S9nnQ/USre2wvJMjfCIjrTQbg";
        let app = hash_password_beside("battery staple", &[other, &main]).unwrap();
        assert_eq!(
            main.rsplit_once('$').unwrap().0,
            app.rsplit_once('$').unwrap().0
        );
        let mut comparison = Comparison::of("battery staple");
        assert!(!comparison.matches(&main));
        assert!(comparison.matches(&app));
        assert_eq!(comparison.computed.len(), 1);
        assert!(!comparison.matches(other));
        assert_eq!(comparison.computed.len(), 2);
        assert!(Comparison::of("correct horse battery staple").matches(other));
    }

    #[test]
    fn hashes_of_others_are_bounded() {
        let hash = |parameters: &str, salt: &str, output: &str| {
            check_hash(&format!("$argon2id$v=19${parameters}${salt}${output}"))
        };
        let (salt, output) = (
            "MIIRqgvgQbgj220jfp0MPA",
            "YfwJSVjtjSU0zzV/P3S9nnQ/USre2wvJMjfCIjrTQbg",
        );
        for good in [
            "m=65536,t=3,p=4",
            "m=65536,t=4,p=1",
            "m=19456,t=2,p=1",
            "m=7168,t=5,p=1",
        ] {
            assert_eq!(hash(good, salt, output), Ok(()), "{good}");
        }
        for bad in [
            "m=65537,t=1,p=1",
            "m=4294967295,t=1,p=1",
            "m=1024,t=1,p=1",
            "m=65536,t=5,p=1",
            "m=7168,t=17,p=1",
            "m=65536,t=1,p=9",
            "m=65536,t=0,p=1",
        ] {
            assert_eq!(hash(bad, salt, output), Err(HashError::Parameters), "{bad}");
        }
        assert_eq!(
            hash("m=65536,t=3,p=4", "MIIRqgvg", output),
            Err(HashError::Parameters)
        );
        assert_eq!(
            hash("m=65536,t=3,p=4", salt, "YfwJSVjtjSU0zzVA"),
            Err(HashError::Parameters)
        );
        for (text, error) in [
            (
                "$argon2i$v=19$m=65536,t=3,p=4$MIIRqgvgQbgj220jfp0MPA$YfwJSVjt",
                HashError::Kind,
            ),
            ("$6$salt$hash", HashError::Kind),
            ("{SSHA}x", HashError::Kind),
            ("$argon2id$", HashError::Form),
            (
                "$argon2id$v=19$m=65536,t=3,p=4$MIIRqgvgQbgj220jfp0MPA",
                HashError::Form,
            ),
            (
                "$argon2id$v=16$m=65536,t=3,p=4$MIIRqgvgQbgj220jfp0MPA$YfwJSVjtjSU0zzV/P3S9nnQ/USre2wvJMjfCIjrTQbg",
                HashError::Form,
            ),
        ] {
            assert_eq!(check_hash(text), Err(error), "{text}");
        }
    }

    #[test]
    fn different_spellings_of_a_password_are_equal() {
        assert_eq!(normal("u\u{308}\u{a0}x"), "\u{fc} x");
        assert_eq!(normal("plain  text"), "plain  text");
    }

    /// The examples of RFC 4013 §3, a ligature, and passwords that SASLprep refuses.
    #[test]
    fn keys_are_made_of_what_clients_prepare() {
        for (password, expected) in [
            ("I\u{ad}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
            ("\u{fb01}sh", "fish"),
            ("a\u{a0}b", "a b"),
            ("u\u{308}", "\u{fc}"),
            ("\u{7}", "\u{7}"),
            ("\u{627}1", "\u{627}1"),
            ("\u{1f600}u\u{308}", "\u{1f600}\u{fc}"),
        ] {
            assert_eq!(prepared(password), expected, "{password:?}");
        }
    }

    #[test]
    fn new_passwords_have_no_characters_that_programs_change() {
        for found in [
            '\u{ad}',
            '\u{200d}',
            '\u{fe0f}',
            '\u{fdd0}',
            '\u{1ffff}',
            '\u{378}',
        ] {
            let password = format!("correct{found}horse");
            let refused = hash_password(&password);
            assert_eq!(refused, Err(PasswordError::Disallowed(found.into())));
            // A password that was set before this rule still counts.
            let salt = SaltString::generate(&mut OsRng);
            let hash = Argon2::default()
                .hash_password(password.as_bytes(), &salt)
                .unwrap();
            assert!(Comparison::of(&normal(&password)).matches(&hash.to_string()));
        }
        for good in [
            "p\u{e4}ssw\u{f6}rd",
            "\u{1f600}\u{4e2d}\u{aa}",
            "correct\u{a0}horse",
        ] {
            assert!(hash_password(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn unusable_passwords_are_refused() {
        assert_eq!(hash_password(""), Err(PasswordError::Empty));
        assert_eq!(hash_password("a\nb"), Err(PasswordError::Control));
    }
}
