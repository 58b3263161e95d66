//! DKIM signatures (RFC 6376), made when a message is first delivered and kept for its other recipients.
//!
//! The fields go in front of the text while it is sent; nothing is rewritten in the store.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use mail_auth::{
    common::{
        crypto::{Ed25519Key, RsaKey, Sha256, SigningKey},
        headers::HeaderWriter,
    },
    dkim::{Canonicalization, DkimSigner},
};
use postrider_config::{DkimAlgorithm, DkimSelector, Dynamic};
use postrider_smtp::{Address, Domain};
use postrider_store::{TextId, Top};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// How many messages' signatures are kept.
const KEPT: usize = 256;

/// Why a message can't be signed.
#[derive(Debug, thiserror::Error)]
#[error("signing with {selector}._domainkey.{domain}: {reason}")]
pub struct SignError {
    domain: String,
    selector: String,
    reason: String,
}

/// Signs, and remembers for a while.
#[derive(Debug, Default)]
pub struct Signer {
    recent: Mutex<Vec<(TextId, Top, Bytes)>>,
}

impl Signer {
    /// Whether messages of this author are signed, so that the text is needed.
    #[must_use]
    pub fn wants(config: &Dynamic, from: Option<&Address>) -> bool {
        domain(config, from).is_some()
    }

    /// The signatures made before.
    #[must_use]
    pub fn known(&self, text: TextId, top: &Top) -> Option<Bytes> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent
            .iter()
            .find(|(known, with, _)| *known == text && with == top)
            .map(|(_, _, fields)| fields.clone())
    }

    /// The DKIM-Signature fields for this message, with CRLFs; empty if its author's domain has no keys that sign.
    ///
    /// # Errors
    /// If a key can't be used.
    pub fn sign(
        &self,
        config: &Dynamic,
        from: Option<&Address>,
        text: TextId,
        top: &Top,
        whole: &[u8],
    ) -> Result<Bytes, SignError> {
        let Some((domain, signing)) = domain(config, from) else {
            return Ok(Bytes::new());
        };
        let mut fields = Vec::new();
        for (selector, settings) in signing {
            let failed = |reason: String| SignError {
                domain: domain.ascii().to_owned(),
                selector: selector.ascii().to_owned(),
                reason,
            };
            fields.extend(signature(domain, selector, settings, whole).map_err(failed)?);
        }
        let fields = Bytes::from(fields);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= KEPT {
            recent.remove(0);
        }
        recent.push((text, top.clone(), fields.clone()));
        Ok(fields)
    }
}

fn domain<'a>(
    config: &'a Dynamic,
    from: Option<&Address>,
) -> Option<(&'a Domain, Vec<(&'a Domain, &'a DkimSelector)>)> {
    let (name, domain) = config.domains.get_key_value(from?.host.domain()?)?;
    let signing: Vec<_> = domain.dkim.signing().collect();
    (!signing.is_empty()).then_some((name, signing))
}

fn signature(
    domain: &Domain,
    selector: &Domain,
    settings: &DkimSelector,
    text: &[u8],
) -> Result<Vec<u8>, String> {
    match settings.algorithm {
        DkimAlgorithm::Ed25519 => {
            let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(settings.key.pkcs8());
            sign_with(
                key.map_err(|error| error.to_string())?,
                domain,
                selector,
                settings,
                text,
            )
        }
        DkimAlgorithm::Rsa => {
            let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(settings.key.pkcs8()));
            let key = RsaKey::<Sha256>::from_key_der(der).map_err(|error| error.to_string())?;
            sign_with(key, domain, selector, settings, text)
        }
    }
}

fn sign_with<K: SigningKey>(
    key: K,
    domain: &Domain,
    selector: &Domain,
    settings: &DkimSelector,
    text: &[u8],
) -> Result<Vec<u8>, String> {
    let form = |relaxed: bool| {
        if relaxed {
            Canonicalization::Relaxed
        } else {
            Canonicalization::Simple
        }
    };
    let signer = DkimSigner::from_key(key)
        .domain(domain.ascii())
        .selector(selector.ascii())
        .headers(signed_headers(settings, text))
        .expiration(settings.expiration.as_secs())
        .header_canonicalization(form(settings.canonicalization.header_relaxed()))
        .body_canonicalization(form(settings.canonicalization.body_relaxed()));
    let view = if settings.canonicalization.body_relaxed() {
        without_blank_end(text)
    } else {
        text
    };
    let signature = signer.sign(view).map_err(|error| error.to_string())?;
    Ok(signature.to_header().into_bytes())
}

/// The configured fields, as the library wants them: each that is named is signed as often as it is there, and once more for
/// each time that it is named again. Sealed, one that is there is named twice and one that is not once, so that none can be
/// added (RFC 6376 §8.15).
fn signed_headers(settings: &DkimSelector, text: &[u8]) -> Vec<String> {
    let present: Vec<&[u8]> = crate::header::section(text)
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let name = line.split(|byte| *byte == b':').next()?;
            Some(name.trim_ascii_end())
        })
        .collect();
    let times = |name: &str| {
        let there = present
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name.as_bytes()));
        match (there, settings.dont_seal_headers) {
            (true, false) => 2,
            (true, true) | (false, false) => 1,
            (false, true) => 0,
        }
    };
    settings
        .headers
        .iter()
        .flat_map(|name| std::iter::repeat_n(name.clone(), times(name)))
        .collect()
}

/// The text without lines of nothing but white space at its end: relaxed canonicalisation ignores them (RFC 6376 §3.4.4), and
/// the library counts those that hold a space or a tab.
fn without_blank_end(text: &[u8]) -> &[u8] {
    let body = crate::header::section(text).len() + 2;
    let mut end = text.len();
    while end > body {
        let Some(rest) = text.get(..end).and_then(|text| text.strip_suffix(b"\r\n")) else {
            break;
        };
        let start = rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let blank = rest
            .get(start..)
            .is_some_and(|line| line.iter().all(|byte| matches!(byte, b' ' | b'\t')));
        if !blank || start < body {
            break;
        }
        end = start;
    }
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::without_blank_end;

    #[test]
    fn blank_lines_at_the_end_do_not_count() {
        for (text, view) in [
            ("A: b\r\n\r\nHi\r\n \r\n\r\n\t\r\n", "A: b\r\n\r\nHi\r\n"),
            ("A: b\r\n\r\nHi \r\n", "A: b\r\n\r\nHi \r\n"),
            ("A: b\r\n\r\n \r\n", "A: b\r\n\r\n"),
            ("A: b\r\n\r\n", "A: b\r\n\r\n"),
            ("A: b\r\n \r\n", "A: b\r\n \r\n"),
            ("A: b\r\n\r\nno end ", "A: b\r\n\r\nno end "),
            ("", ""),
        ] {
            assert_eq!(
                without_blank_end(text.as_bytes()),
                view.as_bytes(),
                "{text:?}"
            );
        }
    }
}
