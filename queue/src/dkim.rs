//! DKIM signatures (RFC 6376), made from the pieces of a message. The fields go in front of the
//! message while it is sent. Nothing is rewritten in the store.

use bytes::{Bytes, BytesMut};
use mail_auth::{
    common::{
        crypto::{DkimKey, Ed25519Key, RsaKey, Sha256},
        headers::HeaderWriter,
    },
    dkim::{Canonicalization, DkimSigner, DkimSigningStream, Done},
};
use postrider_config::{DkimAlgorithm, DkimSelector};
use postrider_smtp::{
    Domain,
    canonical::{self, Form},
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::header;

/// Why a message can't be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// A key can't be used.
    #[error("signing with {selector}._domainkey.{domain}: {reason}")]
    Key {
        domain: String,
        selector: String,
        reason: String,
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
/// pieces.
///
/// # Errors
/// If no key can be used, or the message can't be read.
pub(crate) fn sign(
    domain: &Domain,
    keys: &[(&Domain, &DkimSelector)],
    pieces: &mut dyn Iterator<Item = Result<Bytes, String>>,
) -> Result<Signed, SignError> {
    let (section, rest) = header_section(pieces)?;
    let failed = |selector: &Domain, reason: String| SignError::Key {
        domain: domain.ascii().to_owned(),
        selector: selector.ascii().to_owned(),
        reason,
    };
    let mut signers = Vec::with_capacity(keys.len());
    let mut unusable = Vec::new();
    for (selector, settings) in keys {
        match signer(domain, selector, settings, &section) {
            Ok(signer) => signers.push((*selector, settings, signer)),
            Err(reason) => unusable.push(((*selector).clone(), failed(selector, reason))),
        }
    }
    if signers.is_empty()
        && let Some((_, error)) = unusable.pop()
    {
        return Err(error);
    }
    let mut streams = Vec::with_capacity(signers.len());
    for (selector, settings, signer) in &signers {
        let mut stream = signer.sign_streaming();
        stream.write(&[&section, b"\r\n".as_slice()].concat());
        let body = match settings.canonicalization.body_relaxed() {
            true => Body::Relaxed(canonical::Body::new(Form::Relaxed)),
            false => Body::Simple,
        };
        streams.push((*selector, stream, body));
    }
    for piece in std::iter::once(Ok(rest)).chain(pieces) {
        let piece = piece.map_err(SignError::Read)?;
        for (_, stream, body) in &mut streams {
            body.write(&piece, stream);
        }
    }
    let mut fields = Vec::new();
    for (selector, mut stream, body) in streams {
        body.finish(&mut stream);
        match stream.finish() {
            Ok(signature) => fields.extend(signature.to_header().into_bytes()),
            Err(error) => unusable.push((selector.clone(), failed(selector, error.to_string()))),
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

fn signer(
    domain: &Domain,
    selector: &Domain,
    settings: &DkimSelector,
    section: &[u8],
) -> Result<DkimSigner<DkimKey, Done>, String> {
    let key = match settings.algorithm {
        DkimAlgorithm::Ed25519 => {
            Ed25519Key::from_pkcs8_maybe_unchecked_der(settings.key.pkcs8()).map(DkimKey::from)
        }
        DkimAlgorithm::Rsa => {
            let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(settings.key.pkcs8()));
            RsaKey::<Sha256>::from_key_der(der).map(DkimKey::from)
        }
    };
    let form = |relaxed: bool| {
        if relaxed {
            Canonicalization::Relaxed
        } else {
            Canonicalization::Simple
        }
    };
    Ok(
        DkimSigner::from_key(key.map_err(|error| error.to_string())?)
            .domain(domain.ascii())
            .selector(selector.ascii())
            .headers(signed_headers(settings, section))
            .expiration(settings.expiration.as_secs())
            .header_canonicalization(form(settings.canonicalization.header_relaxed()))
            .body_canonicalization(form(settings.canonicalization.body_relaxed())),
    )
}

/// The configured fields, as the library wants them. It signs each named field as often as the
/// message has it, and once more for each time that the field is named again. Sealed, a present
/// field is named twice and an absent field once, so that none can be added (RFC 6376 §8.15).
fn signed_headers(settings: &DkimSelector, section: &[u8]) -> Vec<String> {
    let present: Vec<&[u8]> = section
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

/// How the body goes into a signature.
enum Body {
    Simple,
    /// The library counts lines of white space at the end of a body, which the relaxed form ignores
    /// (RFC 6376 §3.4.4). So it gets the relaxed form, which it leaves as it is.
    Relaxed(canonical::Body),
}

impl Body {
    fn write(&mut self, piece: &[u8], stream: &mut DkimSigningStream<'_, DkimKey>) {
        match self {
            Self::Simple => stream.write(piece),
            Self::Relaxed(body) => body.write(piece, &mut |bytes| stream.write(bytes)),
        }
    }

    fn finish(self, stream: &mut DkimSigningStream<'_, DkimKey>) {
        match self {
            Self::Simple => {}
            Self::Relaxed(body) => body.finish(&mut |bytes| stream.write(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::{Engine, engine::general_purpose::STANDARD};
    use postrider_config::{Canonicalization, DkimHash};
    use sha2::Digest;

    use super::*;

    /// A signature of this body by a new key, which comes in pieces.
    fn signature(canonicalization: Canonicalization, body: &str, size: usize) -> String {
        let settings = DkimSelector {
            private_key_file: std::path::PathBuf::new(),
            algorithm: DkimAlgorithm::Ed25519,
            hash: DkimHash::Sha256,
            canonicalization,
            headers: vec!["From".to_owned()],
            dont_seal_headers: false,
            expiration: std::time::Duration::ZERO,
            key: Arc::new(postrider_config::DkimKey::generate(DkimAlgorithm::Ed25519).unwrap()),
        };
        let (domain, selector) = (Domain::parse("example.org"), Domain::parse("k"));
        let text = format!("From: a@example.org\r\n\r\n{body}");
        let mut pieces = text.as_bytes().chunks(size);
        let mut pieces = pieces
            .by_ref()
            .map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let keys = [(&selector.unwrap(), &settings)];
        let signed = sign(&domain.unwrap(), &keys, &mut pieces).unwrap();
        String::from_utf8(signed.fields.to_vec()).unwrap()
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
            let hash = STANDARD.encode(sha2::Sha256::digest(hashed));
            for size in [1, 3, 1000] {
                let field: String = signature(form, body, size).split_whitespace().collect();
                assert!(field.contains(&format!("bh={hash};")), "{body:?}: {field}");
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
