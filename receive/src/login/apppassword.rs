//! App passwords: the text of one that is made here, and the search for the one that matches.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use postrider_store::{AppHash, AppPassword};

use super::password::{Comparison, normal};

/// The beginning of each app password that is made here. It makes a leaked one easy to recognise.
const PREFIX: &str = "pra_";

/// The fewest characters of an app password that somebody chose.
pub const APP_PASSWORD_MIN_LENGTH: usize = 16;

/// A new app password of 128 random bits, and its hash for the store.
pub fn make_app_password(rng: &mut impl Rng) -> (String, AppHash) {
    let mut secret = [0; 16];
    rng.fill_bytes(&mut secret);
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let hash = AppHash::Random(Sha256::digest(&text).into());
    (text, hash)
}

/// A password matches the hash of an app password. It may cost a slow hash.
#[must_use]
pub fn matches_hash(password: &str, hash: &AppHash) -> bool {
    let normal = normal(password);
    match hash {
        AppHash::Random(_) => has_digest(hash, &digest(&normal)),
        AppHash::Chosen(hash) => Comparison::of(&normal).matches(hash),
    }
}

fn digest(normal: &str) -> [u8; 32] {
    Sha256::digest(normal).into()
}

/// The app password was made here, and its text has this digest.
fn has_digest(hash: &AppHash, digest: &[u8; 32]) -> bool {
    match hash {
        AppHash::Random(hash) => bool::from(hash.ct_eq(digest)),
        AppHash::Chosen(_) => false,
    }
}

/// The app password of these that was made here and is this one. It costs no slow hash.
pub(super) fn find_random<'a>(
    passwords: &'a [AppPassword],
    password: &str,
) -> Option<&'a AppPassword> {
    if passwords.is_empty() {
        return None;
    }
    let digest = digest(&normal(password));
    passwords.iter().find(|it| has_digest(&it.hash, &digest))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use postrider_store::Time;

    #[test]
    fn an_app_password_is_found_by_its_text_only() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (first, second) = (make_app_password(rng), make_app_password(rng));
        assert!(
            first.0.starts_with("pra_") && first.0.len() == 4 + 22,
            "{}",
            first.0
        );
        assert_ne!(first.0, second.0);
        let password = |name: &str, hash: &AppHash| AppPassword {
            name: name.into(),
            hash: hash.clone(),
            created: Time(0),
            last_used: None,
            keys: None,
        };
        let all = [
            password("one", &first.1),
            password("two", &second.1),
            password("chosen", &AppHash::Chosen(first.0.clone())),
        ];
        let found = |text: &str| find_random(&all, text).map(|it| it.name.as_str());
        assert_eq!(found(&first.0), Some("one"));
        assert_eq!(found(&second.0), Some("two"));
        assert_eq!(found(&first.0[4..]), None);
        assert_eq!(found(""), None);
    }
}
