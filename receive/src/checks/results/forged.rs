//! The fields of a message that pretend to be ours (RFC 8601 §5).
//!
//! Mail readers trust an Authentication-Results field with our host name. So such a field that came
//! with the message is removed, and also one whose host name we can't read: another reader may read
//! it as ours.

use postrider_smtp::{Domain, field};

use super::field::is_of_token;

/// The beginning of the names of our own fields, in lower case.
const OUR_PREFIX: &[u8] = b"x-postrider-";

/// A header section without the fields that pretend to be ours: Return-Path, fields with our
/// prefix, and Authentication-Results of the hosts `own` or of a host that can't be read. None if
/// there are none.
///
/// The results of the message are verified before this, since the signatures may cover such fields.
#[must_use]
pub fn without_forged(section: &[u8], own: &[Domain]) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    let (mut end, mut any) = (0, false);
    for written in field::written(section) {
        end += written.len();
        match is_forged(written, own) {
            true => any = true,
            false => kept.extend_from_slice(written),
        }
    }
    // The blank line, if there is one.
    kept.extend_from_slice(section.get(end..).unwrap_or_default());
    any.then_some(kept)
}

/// Whether a field, as it is written, pretends to be ours.
fn is_forged(written: &[u8], own: &[Domain]) -> bool {
    let Some(colon) = written.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let (name, value) = written.split_at_checked(colon).unwrap_or_default();
    // Some readers take a name with white space or control characters in it.
    let name = name.iter().filter(|byte| byte.is_ascii_graphic());
    let name: Vec<u8> = name.map(u8::to_ascii_lowercase).collect();
    match name.as_slice() {
        b"return-path" => true,
        b"authentication-results" => {
            let id = authserv_id(value.get(1..).unwrap_or_default());
            id.is_none_or(|id| is_own(&id, own))
        }
        name => name.starts_with(OUR_PREFIX),
    }
}

fn is_own(id: &str, own: &[Domain]) -> bool {
    let id = id.trim_end_matches('.');
    let domain = Domain::parse(id).ok();
    own.iter()
        .any(|own| id.eq_ignore_ascii_case(own.ascii()) || domain.as_ref() == Some(own))
}

/// The name of the host that made the results (RFC 8601 §2.2, `authserv-id`). None if it can't be
/// read, also if something else follows it than a version and results.
fn authserv_id(value: &[u8]) -> Option<String> {
    let rest = skip_comments(value)?;
    let (id, rest) = match rest.strip_prefix(b"\"") {
        Some(rest) => unquote(rest)?,
        None => {
            let ends = |byte: &u8| !is_of_token(*byte) && byte.is_ascii();
            let end = rest.iter().position(ends).unwrap_or(rest.len());
            let (id, rest) = rest.split_at_checked(end)?;
            (id.to_vec(), rest)
        }
    };
    let rest = skip_comments(rest)?;
    let version = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = skip_comments(rest.get(version..)?)?;
    let id = String::from_utf8(id).ok()?;
    let id = id.trim();
    // A reader may leave out the space that a fold puts into a quoted name.
    let is_name = !id.is_empty() && !id.contains(|c: char| c.is_whitespace() || c.is_control());
    let ends = matches!(rest.first(), None | Some(b';'));
    (is_name && ends).then(|| id.to_owned())
}

/// The rest behind white space and comments. None if a comment is not closed.
fn skip_comments(text: &[u8]) -> Option<&[u8]> {
    let (mut depth, mut escaped) = (0_usize, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if depth > 0 => escaped = true,
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth > 0 => {}
            _ => return text.get(at..),
        }
    }
    (depth == 0).then_some(&[])
}

/// The text of a quoted string behind its first quote, and the rest. Line ends are left out. None
/// if it is not closed.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut inner, mut escaped) = (Vec::new(), false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            byte if escaped => {
                inner.push(*byte);
                escaped = false;
            }
            b'\\' => escaped = true,
            b'"' => return Some((inner, text.get(at + 1..)?)),
            byte => inner.push(*byte),
        }
    }
    None
}
