//! A header section in ASCII, whatever it costs: for a server without SMTPUTF8.
//!
//! What has a form in ASCII gets it, as by [`super::in_ascii`]. The rest follows RFC 6857: a field
//! whose value has no such form becomes `Downgraded-NAME`, with all its text in encoded words. So
//! no program takes the text for something that it is not. In fields whose names matter more than
//! their values, 8-bit characters become `?`.

use super::{Field, ascii::Hints, ascii::Line, written};

/// A header section in ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downgraded {
    /// The new section.
    pub section: Vec<u8>,
    /// The local-part of an address is not ASCII, so its field has another name now.
    pub lost_addresses: bool,
}

/// Encodes all 8-bit texts of a header section. Signatures in the section do not count: whoever
/// calls this knows that none is to be kept.
#[must_use]
pub fn downgraded(section: &[u8]) -> Downgraded {
    let mut result = Downgraded::default();
    let hints = Hints::without_signatures(section);
    for field in written(section) {
        if field.is_ascii() {
            result.section.extend_from_slice(field);
            continue;
        }
        let encoded = hints.encode(field, &mut result.lost_addresses);
        let field = encoded.as_deref().unwrap_or(field);
        match field.is_ascii() {
            true => result.section.extend_from_slice(field),
            false => result.section.extend(rest(field, &hints)),
        }
    }
    result
}

/// The form of a field that has no other one.
fn rest(written: &[u8], hints: &Hints) -> Vec<u8> {
    let field = Field::read(written).filter(|field| field.name.is_ascii());
    let name = field.and_then(|field| std::str::from_utf8(field.name).ok());
    match (field, name) {
        (Some(field), Some(name)) if !is_needed(name) => {
            let mut line = Line::new(&format!("Downgraded-{name}"));
            line.text(&hints.line(field.value));
            line.end()
        }
        _ => {
            let text = String::from_utf8_lossy(written);
            text.replace(|c: char| !c.is_ascii(), "?").into_bytes()
        }
    }
}

/// Whether programs need the field under its name: it counts servers, or tells how to read a part.
fn is_needed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let trace = ["received", "received-spf", "authentication-results", "date"];
    let kinds = [
        "content-type",
        "content-disposition",
        "content-transfer-encoding",
        "mime-version",
    ];
    trace.contains(&name.as_str()) || kinds.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    fn check(section: &str, expected: &str, lost: bool) {
        let found = downgraded(section.as_bytes());
        let shown = String::from_utf8(found.section).unwrap();
        assert_eq!((shown.as_str(), found.lost_addresses), (expected, lost));
    }

    #[test]
    fn every_field_has_a_form_in_ascii() {
        check(
            "A: b\r\n c\r\nSubject: \u{fc}\r\nTo: \u{fc} <x@b\u{fc}cher.test>\r\n",
            "A: b\r\n c\r\nSubject: =?utf-8?q?=C3=BC?=\r\n\
             To: =?utf-8?q?=C3=BC?= <x@xn--bcher-kva.test>\r\n",
            false,
        );
        check(
            "To: <\u{fc}@x.test>\r\n",
            "Downgraded-To: =?utf-8?q?=3C=C3=BC=40x=2Etest=3E?=\r\n",
            true,
        );
        check(
            "Message-ID: <\u{fc}@x.test>\r\nReceived: from \u{fc} by y;\r\n\tdate\r\n",
            "Downgraded-Message-ID: =?utf-8?q?=3C=C3=BC=40x=2Etest=3E?=\r\n\
             Received: from ? by y;\r\n\tdate\r\n",
            false,
        );
        check(
            "Delivered-To: \u{fc}@x.test\r\nno field \u{fc}\r\n",
            "Downgraded-Delivered-To: =?utf-8?q?=C3=BC=40x=2Etest?=\r\nno field ?\r\n",
            false,
        );
        check(
            "Content-Type: t\u{fc}xt/plain; x=y\r\n",
            "Content-Type: t?xt/plain; x=y\r\n",
            false,
        );
    }

    #[test]
    fn no_signature_keeps_a_field() {
        check(
            "DKIM-Signature: v=1; h=subject\r\nSubject: \u{fc}\r\n",
            "DKIM-Signature: v=1; h=subject\r\nSubject: =?utf-8?q?=C3=BC?=\r\n",
            false,
        );
    }

    #[test]
    fn any_bytes_become_a_section_of_as_many_fields() {
        for name in [
            "Subject",
            "To",
            "Message-ID",
            "Content-Type",
            "Received",
            "List-Id",
            "X\u{fc}",
        ] {
            for value in [
                &b" \xff"[..],
                b" \xc3\xa4\r\n \xff <\xff>",
                b"\xff:;\xff\r\n\t\"\xff",
            ] {
                let section = [b"A: b\r\n", name.as_bytes(), b":", value, b"\r\nC: d\r\n"].concat();
                let found = downgraded(&section).section;
                assert!(found.is_ascii(), "{}", found.escape_ascii());
                let count = |section: &[u8]| written(section).count();
                assert_eq!(count(&found), count(&section), "{}", found.escape_ascii());
            }
        }
    }
}
