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
use postrider_smtp::Domain;
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
            true => Body::Relaxed(BlankEnd::default()),
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
    for (selector, stream, _) in streams {
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
    Relaxed(BlankEnd),
}

impl Body {
    fn write(&mut self, piece: &[u8], stream: &mut DkimSigningStream<'_, DkimKey>) {
        match self {
            Self::Simple => stream.write(piece),
            Self::Relaxed(blank_end) => blank_end.write(piece, &mut |bytes| stream.write(bytes)),
        }
    }
}

/// Leaves out the lines at the end of a body that have only white space. The relaxed form ignores
/// these lines (RFC 6376 §3.4.4), but the library counts the lines with a space or a tab.
///
/// A line of white space in the middle passes as an empty line, and white space at the start of a
/// line as one space. The relaxed form makes the same of them. So the filter needs no memory for
/// the bytes that it holds back.
#[derive(Debug, Default)]
struct BlankEnd {
    /// Lines of white space that were held back.
    blank_lines: u64,
    /// The present line began with white space, which was held back.
    white_space: bool,
    line: LineState,
}

/// The state of the present line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LineState {
    /// Nothing but white space.
    #[default]
    Blank,
    /// The same, and a CR.
    BlankCr,
    /// Other bytes.
    Content,
}

impl BlankEnd {
    fn write(&mut self, piece: &[u8], out: &mut dyn FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(first) = rest.first() {
            match (self.line, first) {
                (LineState::Content, _) => {
                    let (content, tail) = rest.split_at(end_of_content(rest));
                    out(content);
                    rest = tail;
                    if content.ends_with(b"\n") {
                        self.line = LineState::Blank;
                    }
                    continue;
                }
                (LineState::Blank, b' ' | b'\t') => self.white_space = true,
                (LineState::Blank, b'\r') => self.line = LineState::BlankCr,
                (LineState::Blank | LineState::BlankCr, b'\n') => {
                    self.blank_lines += 1;
                    self.white_space = false;
                    self.line = LineState::Blank;
                }
                (LineState::Blank | LineState::BlankCr, _) => {
                    self.pass_held(out);
                    self.line = LineState::Content;
                    continue;
                }
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }

    fn pass_held(&mut self, out: &mut dyn FnMut(&[u8])) {
        for _ in 0..std::mem::take(&mut self.blank_lines) {
            out(b"\r\n");
        }
        if std::mem::take(&mut self.white_space) {
            out(b" ");
        }
        if self.line == LineState::BlankCr {
            out(b"\r");
        }
    }
}

/// How many bytes can pass, from inside a line with content on: up to a line that may be blank.
fn end_of_content(bytes: &[u8]) -> usize {
    let mut start = 0;
    loop {
        let line = bytes.get(start..).unwrap_or_default();
        let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
            return bytes.len();
        };
        start += end + 1;
        if !matches!(bytes.get(start), Some(byte) if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        {
            return start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_at_the_end_do_not_count() {
        for (body, expected) in [
            ("Hi\r\n \r\n\r\n\t\r\n", "Hi\r\n"),
            ("Hi \r\n", "Hi \r\n"),
            (" \r\n", ""),
            ("\r\n\r\n", ""),
            ("", ""),
            ("no end ", "no end "),
            ("a\r\n \t\r\n\r\n\t b\r\nc\r\n", "a\r\n\r\n\r\n b\r\nc\r\n"),
            ("  a\r\n", " a\r\n"),
            ("\rb\r\n", "\rb\r\n"),
        ] {
            for cut in 0..=body.len() {
                let (first, second) = body.as_bytes().split_at(cut);
                let (mut blank_end, mut passed) = (BlankEnd::default(), Vec::new());
                for piece in [first, second] {
                    blank_end.write(piece, &mut |bytes| passed.extend_from_slice(bytes));
                }
                let passed = String::from_utf8(passed).unwrap();
                assert_eq!(passed, expected, "{body:?} cut at {cut}");
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
