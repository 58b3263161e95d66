//! Signed links: they name a message and a number, and where they lead. Nobody else can make one,
//! so the server sends nobody to an address that no message had.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postrider_store::QueueId;

/// The version of the links.
const VERSION: u8 = 1;
/// The bytes of a signature: the first half of an HMAC-SHA256 (RFC 2104 §5).
const SIGNATURE: usize = 16;

/// The key that signs tracked links.
#[derive(Clone)]
pub struct TrackingKey(hmac::Key);

impl std::fmt::Debug for TrackingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackingKey").finish_non_exhaustive()
    }
}

impl TrackingKey {
    /// The key that follows from a secret of the server. The secret may have other uses.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let own = hmac::sign(&secret, b"tracked links of postrider");
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE] {
        let whole = hmac::sign(&self.0, bytes);
        let mut half = [0; SIGNATURE];
        let pairs = half.iter_mut().zip(whole.as_ref());
        pairs.for_each(|(to, from)| *to = *from);
        half
    }
}

/// A link in a tracked message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedLink {
    /// The message of one recipient.
    pub message: QueueId,
    /// The number of the link in the message. 0: the image that tells that it was opened.
    pub number: u16,
    /// Where the link leads. Empty for the image.
    pub url: String,
}

impl TrackedLink {
    /// The token in the path of the link: version, message, number, target and signature, in
    /// base64url (RFC 4648 §5).
    pub(super) fn token(&self, key: &TrackingKey) -> String {
        let mut token = vec![VERSION];
        token.extend(self.message.0.to_be_bytes());
        token.extend(self.number.to_be_bytes());
        token.extend(self.url.as_bytes());
        let signature = key.sign(&token);
        token.extend(signature);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Reads a token. None: this server did not sign it.
    #[must_use]
    pub fn read(token: &str, key: &TrackingKey) -> Option<Self> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, signature) = token.split_last_chunk::<SIGNATURE>()?;
        let expected = key.sign(signed);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, signature).ok()?;
        let (version, rest) = signed.split_first()?;
        let (message, rest) = rest.split_first_chunk()?;
        let (number, url) = rest.split_first_chunk()?;
        (*version == VERSION).then_some(())?;
        Some(Self {
            message: QueueId(u64::from_be_bytes(*message)),
            number: u16::from_be_bytes(*number),
            url: String::from_utf8(url.to_vec()).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_tokens_are_read() {
        let link = TrackedLink {
            message: QueueId(7),
            number: 300,
            url: "https://x.example/\u{e4}?a=b".into(),
        };
        let key = TrackingKey::of_secret(&[7; 32]);
        let token = link.token(&key);
        assert_eq!(TrackedLink::read(&token, &key), Some(link));
        let other = TrackingKey::of_secret(&[8; 32]);
        assert_eq!(TrackedLink::read(&token, &other), None);
        for at in 0..token.len() {
            let mut changed = token.clone();
            let letter = match token.as_bytes()[at] {
                b'A' => "B",
                _ => "A",
            };
            changed.replace_range(at..=at, letter);
            assert_eq!(TrackedLink::read(&changed, &key), None, "{at}");
        }
        for wrong in ["", "A", "!", &token[1..], &format!("{token}A")] {
            assert_eq!(TrackedLink::read(wrong, &key), None, "{wrong}");
        }
    }
}
