//! API keys: their text, and the check of one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use postrider_store::{ApiKey, ApiKeyId, Time};

/// The beginning of the text of each key. It makes a leaked key easy to recognise.
pub(super) const PREFIX: &str = "prk_";

/// The text of a key: its number and 256 random bits. The store keeps only a hash of the bits.
pub struct KeyText {
    id: ApiKeyId,
    secret: [u8; 32],
}

impl KeyText {
    /// A new secret, and its hash for the store.
    pub fn secret(rng: &mut impl Rng) -> ([u8; 32], [u8; 32]) {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        (secret, Sha256::digest(secret).into())
    }

    /// The text of the key with this number and secret.
    #[must_use]
    pub const fn new(id: ApiKeyId, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// Parses a text. None: it is not the text of a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let secret = URL_SAFE_NO_PAD.decode(secret).ok()?;
        Some(Self {
            id: ApiKeyId(id.parse().ok()?),
            secret: secret.try_into().ok()?,
        })
    }

    /// The number of the key.
    #[must_use]
    pub const fn id(&self) -> ApiKeyId {
        self.id
    }

    /// The text belongs to this key, and the key has not expired.
    #[must_use]
    pub fn is_of(&self, key: &ApiKey, now: Time) -> bool {
        let hash: [u8; 32] = Sha256::digest(self.secret).into();
        bool::from(hash.ct_eq(&key.hash)) && key.expires.is_none_or(|expires| expires > now)
    }
}

/// Writes the text itself, secret included.
impl std::fmt::Display for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = URL_SAFE_NO_PAD.encode(self.secret);
        write!(f, "{PREFIX}{}_{secret}", self.id)
    }
}

/// Hides the secret.
impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyText")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_text_is_of_its_key_only_and_for_its_time() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (secret, hash) = KeyText::secret(rng);
        let key = ApiKey {
            id: ApiKeyId(7),
            name: "shop".into(),
            account: "ann".into(),
            hash,
            scopes: Vec::new(),
            created: Time(0),
            expires: Some(Time(10)),
            domains: Vec::new(),
            legacy_status: false,
            tenant: String::new(),
        };
        let text = KeyText::new(key.id, secret).to_string();
        assert!(text.starts_with("prk_7_") && text.len() == 6 + 43, "{text}");
        let read = KeyText::parse(&text).unwrap();
        assert_eq!(read.id(), ApiKeyId(7));
        assert!(read.is_of(&key, Time(9)) && !read.is_of(&key, Time(10)));
        let (other, _) = KeyText::secret(rng);
        assert!(!KeyText::new(key.id, other).is_of(&key, Time(0)));
        for none in [
            "",
            "prk_",
            "prk_7_",
            "prk_x_AAAA",
            "a good password",
            "prk_7",
        ] {
            assert!(KeyText::parse(none).is_none(), "{none}");
        }
        assert!(!format!("{read:?}").contains(&text[6..]));
    }
}
