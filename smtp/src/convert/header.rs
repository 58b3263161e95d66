//! A header section, written anew.

use std::borrow::Cow;

use super::{
    Form, LINE_MAX, Unconvertible,
    part::{Encoding, Kind, Part},
    survey::{Charset, Treatment},
};
use crate::field::{self, Field};

/// Lines are folded to this length where possible (RFC 5322 §2.1.1).
const WIDTH: usize = 78;
const ENCODING: &str = "Content-Transfer-Encoding";

/// Whether a section may not stay as it is, whatever becomes of its content.
pub(super) fn changes(section: &[u8], part: &Part, form: Form) -> Result<bool, Unconvertible> {
    let eight_bit = form >= Form::AsciiHeader && !section.is_ascii();
    if eight_bit && part.is_whole && field::downgraded(section).lost_addresses {
        return Err(Unconvertible::Address);
    }
    let long = || section.split(|byte| *byte == b'\n');
    Ok(eight_bit
        || label(part, Treatment::Keep, form).is_some()
        || has_odd_bytes(section)
        // With the CR.
        || long().any(|line| line.len() > LINE_MAX + 1 && can_fold(line)))
}

/// Writes a section for a content that is treated so.
pub(super) fn write(
    section: &[u8],
    part: &Part,
    treatment: Treatment,
    form: Form,
    out: &mut Vec<u8>,
) -> Result<(), Unconvertible> {
    let mut section = Cow::Borrowed(section);
    if form >= Form::AsciiHeader && !section.is_ascii() {
        let downgraded = field::downgraded(&section);
        if part.is_whole && downgraded.lost_addresses {
            return Err(Unconvertible::Address);
        }
        section = Cow::Owned(downgraded.section);
    }
    if has_odd_bytes(&section) {
        section = Cow::Owned(without_odd_bytes(&section));
    }
    let mut label = label(part, treatment, form);
    let is_changed = label.is_some();
    for written in field::written(&section) {
        let is_label = Field::read(written).is_some_and(|field| field.is(ENCODING));
        match label.take_if(|_| is_label) {
            Some(label) => push_label(label, out),
            // Of two such fields, the first counts.
            None if is_label && is_changed => {}
            None => fold(written, out),
        }
    }
    if is_changed && part.is_message && !part.has_version {
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    if let Treatment::Quoted(charset) | Treatment::Base64(charset) = treatment {
        out.extend_from_slice(match charset {
            Charset::None => b"",
            Charset::Utf8 => b"Content-Type: text/plain; charset=utf-8\r\n",
            Charset::Unknown => b"Content-Type: text/plain; charset=unknown-8bit\r\n",
        });
    }
    if let Some(label) = label {
        push_label(label, out);
    }
    Ok(())
}

fn push_label(label: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{ENCODING}: {label}\r\n").as_bytes());
}

/// The new value of Content-Transfer-Encoding. None: it stays.
fn label(part: &Part, treatment: Treatment, form: Form) -> Option<&'static str> {
    let is_composite = matches!(part.kind, Kind::Multipart(_) | Kind::Message);
    match treatment {
        Treatment::Quoted(_) => Some("quoted-printable"),
        Treatment::Base64(_) => Some("base64"),
        Treatment::MendQuoted | Treatment::MendBase64 => None,
        // What a part has within it is converted, too.
        Treatment::Keep => match part.encoding {
            Encoding::EightBit if is_composite && form == Form::SevenBit => Some("7bit"),
            Encoding::Binary if form == Form::SevenBit => Some("7bit"),
            Encoding::Binary => Some("8bit"),
            _ => None,
        },
    }
}

/// Whether there is a NUL, or a CR that stands alone. All lines end in CRLF.
pub(super) fn has_odd_bytes(section: &[u8]) -> bool {
    let mut found = memchr::memchr2_iter(b'\r', 0, section);
    found.any(|at| section.get(at..at + 2) != Some(b"\r\n"))
}

fn without_odd_bytes(section: &[u8]) -> Vec<u8> {
    let next = section.iter().skip(1).chain([&0]);
    let pairs = section.iter().zip(next);
    let bytes = pairs.map(|pair| match pair {
        (0, _) => b' ',
        (b'\r', next) if *next != b'\n' => b' ',
        (byte, _) => *byte,
    });
    bytes.collect()
}

/// Whether a line can be folded at all.
fn can_fold(line: &[u8]) -> bool {
    place_to_fold(line).is_some()
}

/// Writes a field, and folds its lines that are too long at white space. Whoever unfolds it reads
/// the same (RFC 5322 §2.2.3).
fn fold(written: &[u8], out: &mut Vec<u8>) {
    for line in written.split_inclusive(|byte| *byte == b'\n') {
        let mut rest = line;
        // With the CRLF.
        let is_long = line.len() > LINE_MAX + 2;
        while is_long
            && rest.len() > WIDTH + 2
            && let Some(at) = place_to_fold(rest)
        {
            let (now, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            out.extend_from_slice(now);
            out.extend_from_slice(b"\r\n");
            rest = after;
        }
        out.extend_from_slice(rest);
    }
}

/// The white space before which a line is folded: the last one in its width, else the first one.
/// Neither the line nor the next one may be blank, and none may become a delimiter.
fn place_to_fold(line: &[u8]) -> Option<usize> {
    if line.starts_with(b"--") {
        return None;
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let is_text = |byte: &u8| !byte.is_ascii_whitespace();
    let first = line.iter().position(is_text)?;
    let last = line.iter().rposition(is_text)?;
    let between = line.get(first..last)?;
    let within = WIDTH.saturating_sub(first).min(between.len());
    let near = between.get(..within).unwrap_or_default();
    let place = near.iter().rposition(is_space);
    let place = place.or_else(|| between.iter().position(is_space))?;
    Some(first + place)
}
