//! DKIM signatures (RFC 6376, RFC 8463), made from the pieces of a message. The fields go in front
//! of the message while it is sent. Nothing is rewritten in the store.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use postrider_config::{DkimSelector, UnusableKey};
use postrider_smtp::{
    Domain,
    canonical::{self, BodyForms, BodyHasher, BodyHashes, Form, HeaderFields, TagLines},
};
use postrider_store::Time;

use crate::header;

/// A selector, and its settings with its key.
pub(crate) type Selector = (Domain, Arc<DkimSelector>);

/// Why a message can't be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// A key can't be used.
    #[error("signing with {selector}._domainkey.{domain}: {reason}")]
    Key {
        domain: Domain,
        selector: Domain,
        reason: UnusableKey,
    },
    /// The message can't be read.
    #[error("{0}")]
    Read(String),
}

/// The signatures of a message.
#[derive(Debug)]
pub(crate) struct Signed {
    /// The DKIM-Signature fields, with CRLFs.
    pub(crate) fields: Bytes,
    /// The keys that can't be used: each selector, and why.
    pub(crate) unusable: Vec<(Domain, SignError)>,
}

/// Signs a message by these keys of a domain, as far as they can be used. The message comes in
/// pieces. The signatures stand in the order of the keys.
///
/// # Errors
/// If no key can be used, or the message can't be read.
pub(crate) fn sign(
    domain: &Domain,
    keys: &[Selector],
    now: Time,
    pieces: &mut dyn Iterator<Item = Result<Bytes, String>>,
) -> Result<Signed, SignError> {
    let (section, rest) = header_section(pieces)?;
    let mut forms = BodyForms::default();
    for (_, settings) in keys {
        forms.add(body_form(settings));
    }
    let mut hasher = BodyHasher::new(forms);
    hasher.write(&rest);
    for piece in pieces {
        hasher.write(&piece.map_err(SignError::Read)?);
    }
    let (header, body) = (HeaderFields::new(section), hasher.finish());
    let (mut fields, mut unusable) = (String::new(), Vec::new());
    for (selector, settings) in keys {
        match signature(domain, selector, settings, &header, &body, now) {
            Ok(signature) => fields.push_str(&signature),
            Err(reason) => {
                let error = SignError::Key {
                    domain: domain.clone(),
                    selector: selector.clone(),
                    reason,
                };
                unusable.push((selector.clone(), error));
            }
        }
    }
    if fields.is_empty()
        && let Some((_, error)) = unusable.pop()
    {
        return Err(error);
    }
    Ok(Signed {
        fields: fields.into(),
        unusable,
    })
}

/// A DKIM-Signature field with its CRLF.
fn signature(
    domain: &Domain,
    selector: &Domain,
    settings: &DkimSelector,
    header: &HeaderFields,
    body: &BodyHashes,
    now: Time,
) -> Result<String, UnusableKey> {
    let key = settings.key.signing()?;
    let body = body.of(body_form(settings)).ok_or(UnusableKey)?;
    let names = settings.names_to_sign(header);
    let time = now.0.max(0) / 1_000_000;
    let head = format!("DKIM-Signature: v=1; a={};", key.algorithm());
    let mut tail = TagLines::default();
    tail.tag(&format!("c={};", settings.canonicalization));
    tail.tag(&format!("d={domain};"));
    tail.tag(&format!("s={selector};"));
    tail.tag(&format!("t={time};"));
    if !settings.expiration.is_zero() {
        let end = now.after(settings.expiration).0 / 1_000_000;
        tail.tag(&format!("x={end};"));
    }
    tail.names(&names);
    tail.tag(&format!("bh={}", STANDARD.encode(body)));
    let tail = tail.as_str();

    let form = match settings.canonicalization.header_relaxed() {
        true => Form::Relaxed,
        false => Form::Simple,
    };
    let mut covered = Vec::with_capacity(4096);
    for place in header.select(names.iter().map(String::as_bytes), None) {
        canonical::field(form, header.written(place), &mut covered);
    }
    let unsigned = format!("{head}\r\n\tb=;{tail}");
    canonical::field(form, unsigned.as_bytes(), &mut covered);
    // The own field has no line end (RFC 6376 §3.7).
    covered.truncate(covered.len().saturating_sub(2));
    let signature = STANDARD.encode(key.sign(&digest(&SHA256, &covered))?);
    // The signature is in one piece, so that a server on the way finds no place to fold it.
    Ok(format!("{head}\r\n\tb={signature};{tail}\r\n"))
}

fn body_form(settings: &DkimSelector) -> Form {
    match settings.canonicalization.body_relaxed() {
        true => Form::Relaxed,
        false => Form::Simple,
    }
}

/// Reads until the header section is whole. Gives it, and the beginning of the body.
fn header_section(
    pieces: &mut dyn Iterator<Item = Result<Bytes, String>>,
) -> Result<(Bytes, Bytes), SignError> {
    let mut read = Bytes::new();
    loop {
        let section = header::section(&read).len();
        // The section is whole when the blank line behind it is there.
        if read.get(section..section + 2) == Some(b"\r\n".as_slice()) {
            return Ok((read.slice(..section), read.slice(section + 2..)));
        }
        let Some(piece) = pieces.next() else {
            return Ok((read, Bytes::new()));
        };
        let piece = piece.map_err(SignError::Read)?;
        if read.is_empty() {
            read = piece;
        } else {
            let mut both = BytesMut::from(read);
            both.extend_from_slice(&piece);
            read = both.freeze();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_config::{Canonicalization, DkimAlgorithm, DkimHash, DkimKey};

    use super::*;

    fn selector(canonicalization: Canonicalization, expiration: Duration) -> DkimSelector {
        DkimSelector {
            private_key_file: std::path::PathBuf::new(),
            algorithm: DkimAlgorithm::Ed25519,
            hash: DkimHash::Sha256,
            canonicalization,
            headers: vec!["From".to_owned()],
            dont_seal_headers: false,
            expiration,
            key: Arc::new(DkimKey::generate(DkimAlgorithm::Ed25519).unwrap()),
        }
    }

    /// A signature by this key of a body that comes in pieces.
    fn signature_of(settings: DkimSelector, body: &str, size: usize) -> String {
        let (domain, selector) = (Domain::parse("example.org"), Domain::parse("k"));
        let text = format!("From: a@example.org\r\n\r\n{body}");
        let mut pieces = text.as_bytes().chunks(size);
        let mut pieces = pieces
            .by_ref()
            .map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let keys = [(selector.unwrap(), Arc::new(settings))];
        let now = Time(1_800_000_000_000_000);
        let signed = sign(&domain.unwrap(), &keys, now, &mut pieces).unwrap();
        String::from_utf8(signed.fields.to_vec()).unwrap()
    }

    #[test]
    fn the_time_is_that_of_the_clock() {
        let settings = selector(Canonicalization::SimpleSimple, Duration::from_secs(600));
        let field = signature_of(settings, "Hi\r\n", 1000);
        assert!(field.contains(" t=1800000000; x=1800000600;"), "{field}");
    }

    /// Blank lines at the end, with white space or without, do not count in the relaxed form.
    #[test]
    fn the_body_is_hashed_in_its_form() {
        for (form, body, hashed) in [
            (
                Canonicalization::RelaxedRelaxed,
                "Hi\r\n \r\n\r\n\t\r\n",
                "Hi\r\n",
            ),
            (Canonicalization::SimpleRelaxed, " \r\n", ""),
            (Canonicalization::SimpleRelaxed, "", ""),
            (
                Canonicalization::SimpleRelaxed,
                "a  b \r\n\r\n\tc",
                "a b\r\n\r\n c\r\n",
            ),
            (
                Canonicalization::RelaxedSimple,
                "Hi \r\n\r\n\r\n",
                "Hi \r\n",
            ),
            (Canonicalization::SimpleSimple, "Hi\r\n \r\n", "Hi\r\n \r\n"),
        ] {
            let hash = STANDARD.encode(digest(&SHA256, hashed.as_bytes()));
            for size in [1, 3, 1000] {
                let settings = selector(form, Duration::ZERO);
                let field = signature_of(settings, body, size);
                let field: String = field.split_whitespace().collect();
                assert!(field.ends_with(&format!("bh={hash}")), "{body:?}: {field}");
            }
        }
    }

    #[test]
    fn the_header_section_is_found_across_pieces() {
        for (text, section, body) in [
            (
                "A: b\r\nC: d\r\n\r\nbody\r\n",
                "A: b\r\nC: d\r\n",
                "body\r\n",
            ),
            ("A: b\r\n", "A: b\r\n", ""),
            ("\r\nbody\r\n", "", "body\r\n"),
        ] {
            for size in 1..text.len() {
                let mut pieces = text
                    .as_bytes()
                    .chunks(size)
                    .map(|piece| Ok(Bytes::copy_from_slice(piece)));
                let (found, rest) = header_section(&mut pieces).unwrap();
                let mut all = rest.to_vec();
                all.extend(pieces.flat_map(|piece| piece.unwrap()));
                assert_eq!(
                    (found.as_ref(), all.as_slice()),
                    (section.as_bytes(), body.as_bytes())
                );
            }
        }
    }
}
