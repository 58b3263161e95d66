//! What a header section says about its part.

use crate::field::{self, Field};

/// The transfer encoding of a part (RFC 2045 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// 7bit, and what a part without the field has.
    SevenBit,
    EightBit,
    Binary,
    QuotedPrintable,
    Base64,
    /// One that we do not know. Its content can't be encoded once more.
    Other,
}

/// How the content of a part is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    /// A content that may not be encoded, and that we can't look into.
    Fixed,
    /// Parts, with this line between them, and `--` at its beginning.
    Multipart(Vec<u8>),
    /// A message.
    Message,
}

/// A part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) encoding: Encoding,
    /// A leaf whose content is text, as opposed to a file.
    pub(super) is_text: bool,
    /// It has a Content-Type.
    pub(super) has_type: bool,
    /// The section is that of a message, not of a part of one.
    pub(super) is_message: bool,
    /// It is the message itself, not one within.
    pub(super) is_whole: bool,
    /// It has a MIME-Version.
    pub(super) has_version: bool,
    /// It may not change: it is in a part that is signed or encrypted.
    pub(super) is_protected: bool,
    /// Its parts may not change.
    pub(super) protects: bool,
    /// Its parts are messages unless they say otherwise.
    pub(super) is_digest: bool,
    /// It has a DKIM-Signature or an ARC seal.
    pub(super) is_signed: bool,
}

impl Part {
    /// Reads a header section. `in_digest`: without a Content-Type the part is a message.
    pub(super) fn read(section: &[u8], in_digest: bool) -> Self {
        let (mut content_type, mut encoding) = (None, Encoding::SevenBit);
        let (mut has_version, mut has_encoding, mut is_signed) = (false, false, false);
        for field in field::fields(section) {
            if field.is("Content-Type") {
                content_type = content_type.or(Some(field.value));
            } else if field.is("Content-Transfer-Encoding") && !has_encoding {
                (encoding, has_encoding) = (encoding_of(field), true);
            } else {
                has_version = has_version || field.is("MIME-Version");
                is_signed = is_signed || is_signature(field);
            }
        }
        let given = match content_type {
            Some(value) => value,
            None if in_digest => b"message/rfc822",
            None => b"text/plain",
        };
        let given = field::parameters(given);
        let (main, sub) = given.value.split_once('/').unwrap_or((&given.value, ""));
        let is_encoded = matches!(
            encoding,
            Encoding::QuotedPrintable | Encoding::Base64 | Encoding::Other
        );
        let kind = match (main, sub) {
            ("multipart", _) => match given.get("boundary").map(str::trim_end) {
                Some(boundary) if !boundary.is_empty() && boundary.is_ascii() => {
                    Kind::Multipart([b"--", boundary.as_bytes()].concat())
                }
                _ => Kind::Fixed,
            },
            ("message", "rfc822" | "news") if !is_encoded => Kind::Message,
            ("message", "partial" | "external-body") => Kind::Fixed,
            _ => Kind::Leaf,
        };
        Self {
            is_text: matches!(main, "text" | "message"),
            kind,
            encoding,
            has_type: content_type.is_some(),
            is_message: false,
            is_whole: false,
            has_version,
            is_protected: false,
            protects: main == "multipart" && matches!(sub, "signed" | "encrypted"),
            is_digest: sub == "digest",
            is_signed,
        }
    }
}

fn encoding_of(field: Field<'_>) -> Encoding {
    match field::parameters(field.value).value.as_str() {
        "" | "7bit" => Encoding::SevenBit,
        "8bit" => Encoding::EightBit,
        "binary" => Encoding::Binary,
        "quoted-printable" => Encoding::QuotedPrintable,
        "base64" => Encoding::Base64,
        _ => Encoding::Other,
    }
}

fn is_signature(field: Field<'_>) -> bool {
    let names = ["DKIM-Signature", "ARC-Message-Signature", "ARC-Seal"];
    names.iter().any(|name| field.is(name))
}
