//! A header section in ASCII, as far as that is possible without harm.
//!
//! Programs write field values in UTF-8 or in a charset of their own, and expect that the mail
//! arrives. A server without SMTPUTF8 need not take such a header section. So its texts become
//! encoded words.
//!
//! | field | what is encoded |
//! |---|---|
//! | addresses, for example To | names and comments as encoded words (RFC 2047), domains as A-labels |
//! | Content-Type, Content-Disposition | parameters (RFC 2231) |
//! | List-Id, Keywords and the like | all but what stands in angle brackets |
//! | identifiers, dates, trace fields, results, signatures | nothing |
//! | a field that a DKIM-Signature covers | nothing |
//! | any other | the whole text as encoded words |
//!
//! No encoding exists for a local-part. A section with one in UTF-8 needs SMTPUTF8.

use std::collections::BTreeSet;

use super::{
    Field, charset, encode::encoded_words, encode::percent_encoded, parameter, piece, piece::Piece,
    unfolded, word, written,
};
use crate::Domain;

/// Lines are folded to this length where possible (RFC 5322 §2.1.1).
const WIDTH: usize = 76;
/// The most bytes of a part of an encoded parameter.
const PARAMETER_MAX: usize = 50;
/// The longest name of a parameter that is encoded, in bytes. Each part of a value repeats the
/// name.
const NAME_MAX: usize = 60;

/// A header section in ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsciiSection {
    /// The new section. None: nothing is to be changed.
    pub section: Option<Vec<u8>>,
    /// An address in the section has characters that only SMTPUTF8 can carry (RFC 6531).
    pub needs_smtputf8: bool,
}

/// Encodes the 8-bit texts of a header section, so that most servers take it.
#[must_use]
pub fn in_ascii(section: &[u8]) -> AsciiSection {
    let mut result = AsciiSection::default();
    if section.is_ascii() {
        return result;
    }
    let hints = Hints::of(section);
    let mut out = Vec::with_capacity(section.len() * 2);
    let mut rest = section;
    for field in written(section) {
        rest = rest.get(field.len()..).unwrap_or_default();
        let encoded = hints.encode(field, &mut result.needs_smtputf8);
        out.extend_from_slice(encoded.as_deref().unwrap_or(field));
    }
    // Nothing is behind the fields. If there is, it stays.
    out.extend_from_slice(rest);
    result.section = Some(out).filter(|out| out != section);
    result
}

/// How the value of a field is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Addresses,
    /// Words and comments. What stands in angle brackets is no address of a person.
    Phrases,
    Parameters,
    Text,
    /// Its words have a meaning for programs.
    Fixed,
}

impl Kind {
    fn of(name: &[u8]) -> Self {
        let name = name.to_ascii_lowercase();
        match name.as_slice() {
            b"from"
            | b"sender"
            | b"reply-to"
            | b"to"
            | b"cc"
            | b"resent-from"
            | b"resent-sender"
            | b"resent-reply-to"
            | b"resent-to"
            | b"resent-cc"
            | b"return-receipt-to"
            | b"disposition-notification-to"
            | b"errors-to"
            | b"mail-followup-to"
            | b"mail-reply-to"
            | b"apparently-to" => Self::Addresses,
            b"list-id" | b"keywords" | b"list-unsubscribe" | b"list-subscribe" | b"list-post"
            | b"list-help" | b"list-owner" | b"list-archive" => Self::Phrases,
            b"content-type" | b"content-disposition" => Self::Parameters,
            b"message-id"
            | b"in-reply-to"
            | b"references"
            | b"resent-message-id"
            | b"original-message-id"
            | b"content-id"
            | b"content-location"
            | b"content-base"
            | b"content-transfer-encoding"
            | b"content-md5"
            | b"content-language"
            | b"mime-version"
            | b"date"
            | b"resent-date"
            | b"received"
            | b"received-spf"
            | b"return-path"
            | b"delivered-to"
            | b"auto-submitted"
            | b"archived-at"
            | b"autocrypt"
            | b"dkim-signature"
            | b"domainkey-signature"
            | b"authentication-results"
            | b"list-unsubscribe-post"
            | b"tls-required" => Self::Fixed,
            name if name.starts_with(b"arc-") => Self::Fixed,
            _ => Self::Text,
        }
    }
}

/// What the section says about its own fields.
pub(super) struct Hints {
    /// The charset of the body, which programs often use for the header section too.
    charset: Option<String>,
    /// The names of the fields that a signature covers, in lower case.
    signed: BTreeSet<Vec<u8>>,
}

impl Hints {
    fn of(section: &[u8]) -> Self {
        let mut hints = Self {
            charset: None,
            signed: BTreeSet::new(),
        };
        for field in super::fields(section) {
            if field.is("Content-Type") {
                let kind = parameter::parameters(field.value);
                hints.charset = kind.get("charset").map(str::to_owned);
            } else if field.is("DKIM-Signature") || field.is("ARC-Message-Signature") {
                hints.signed.extend(signed_fields(field.value));
            }
        }
        hints
    }

    /// The hints of a section whose signatures do not count.
    pub(super) fn without_signatures(section: &[u8]) -> Self {
        Self {
            signed: BTreeSet::new(),
            ..Self::of(section)
        }
    }

    /// The text of a value on one line.
    pub(super) fn line(&self, value: &[u8]) -> String {
        // A line end within a line would end it for some readers, and some charsets hide one.
        let unprintable = |c: char| c.is_control() && c != '\t';
        self.text(&unfolded(value)).replace(unprintable, " ")
    }

    /// The text of 8-bit bytes: UTF-8, else in the charset of the body, else windows-1252.
    fn text(&self, bytes: &[u8]) -> String {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return text.to_owned();
        }
        let named = charset::decode(self.charset.as_deref(), bytes);
        match named.contains(char::REPLACEMENT_CHARACTER) {
            true => charset::decode(None, bytes),
            false => named,
        }
    }

    /// The field in ASCII. None: it stays as it is.
    pub(super) fn encode(&self, written: &[u8], needs_smtputf8: &mut bool) -> Option<Vec<u8>> {
        if written.is_ascii() {
            return None;
        }
        let field = Field::read(written).filter(|field| field.name.is_ascii())?;
        let name = String::from_utf8(field.name.to_vec()).ok()?;
        let lower = name.to_ascii_lowercase().into_bytes();
        let kind = Kind::of(&lower);
        let value = self.line(field.value);
        let mut line = Line::new(&name);
        match kind {
            Kind::Fixed => return None,
            Kind::Text => line.text(&value),
            Kind::Parameters => line.parameters(&value),
            Kind::Phrases => drop(line.addresses(&value, false)),
            Kind::Addresses => *needs_smtputf8 |= line.addresses(&value, true),
        }
        if self.signed.contains(&lower) {
            // The domains stay in UTF-8, too.
            *needs_smtputf8 |= kind == Kind::Addresses && has_8bit_address(&value);
            return None;
        }
        Some(line.end())
    }
}

/// The names in the tag `h` of a signature (RFC 6376 §3.5), in lower case.
fn signed_fields(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let tags = value.split(|byte| *byte == b';');
    let names = tags.filter_map(|tag| {
        let mut pair = tag.splitn(2, |byte| *byte == b'=');
        let (name, value) = (pair.next()?, pair.next()?);
        name.trim_ascii()
            .eq_ignore_ascii_case(b"h")
            .then_some(value)
    });
    let names = names.flat_map(|names| names.split(|byte| *byte == b':'));
    names.map(|name| name.trim_ascii().to_ascii_lowercase())
}

fn has_8bit_address(value: &str) -> bool {
    piece::pieces(value).into_iter().any(|piece| match piece {
        Piece::Angle(angle) => !angle.is_ascii(),
        Piece::Word(word) => word.contains('@') && !word.is_ascii(),
        _ => false,
    })
}

/// A field that is written, folded.
pub(super) struct Line {
    out: Vec<u8>,
    column: usize,
}

impl Line {
    pub(super) fn new(name: &str) -> Self {
        let mut line = Self {
            out: Vec::new(),
            column: 0,
        };
        line.attach(name);
        line.attach(":");
        line
    }

    /// The field with its CRLF.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"\r\n");
        self.out
    }

    /// Writes text that belongs to the text before.
    fn attach(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.column += text.len();
    }

    /// Writes a token after white space, on a new line if it does not fit.
    fn push(&mut self, space: &str, token: &str) {
        if !space.is_empty() && self.column + space.len() + token.len() > WIDTH {
            self.out.extend_from_slice(b"\r\n");
            self.column = 0;
        }
        self.attach(space);
        self.attach(token);
    }

    /// Writes encoded words after this white space.
    fn encoded(&mut self, mut space: &str, text: &str) {
        for word in encoded_words(text) {
            self.push(if space.is_empty() { " " } else { space }, &word);
            space = " ";
        }
    }

    /// Writes a free text. Its ASCII words stay, and so do its encoded words.
    pub(super) fn text(&mut self, text: &str) {
        let mut words = Words::new(text).peekable();
        let mut before_encoded = false;
        // The space that the token before has taken in.
        let mut taken = false;
        while let Some((space, word)) = words.next() {
            if word.is_ascii() {
                let space = if taken || space.is_empty() {
                    " "
                } else {
                    space
                };
                self.push(space, word);
                before_encoded = is_encoded(word);
                taken = false;
                continue;
            }
            // Space between encoded words is lost, so it is a part of this one.
            let (space, own) = if before_encoded {
                (" ", space)
            } else {
                (space, "")
            };
            let mut run = own.to_owned();
            run.push_str(word);
            while let Some((space, word)) = words.next_if(|(_, word)| !word.is_ascii()) {
                run.push_str(space);
                run.push_str(word);
            }
            if let Some((space, next)) = words.peek()
                && is_encoded(next)
            {
                run.push_str(space);
                taken = true;
            }
            self.encoded(space, &run);
            before_encoded = true;
        }
    }

    /// Writes a value with parameters. Each parameter with 8-bit characters is extended (RFC 2231
    /// §4), in all its parts.
    fn parameters(&mut self, value: &str) {
        let known = parameter::parameters(value.as_bytes());
        let segments = segments(value);
        let base = |segment: &str| {
            let (name, _) = segment.split_once('=')?;
            let base = name.split('*').next()?.trim();
            let is_name = base.is_ascii() && base.len() <= NAME_MAX;
            is_name.then(|| base.to_ascii_lowercase())
        };
        let changed: BTreeSet<String> = segments
            .iter()
            .skip(1)
            .filter(|segment| !segment.is_ascii())
            .filter_map(|segment| base(segment))
            .collect();
        let mut done = BTreeSet::new();
        for (number, segment) in segments.iter().enumerate() {
            let name = base(segment).filter(|name| number > 0 && changed.contains(name));
            let decoded = name.as_ref().and_then(|name| known.get(name));
            match (name, decoded) {
                (Some(name), Some(_)) if done.contains(&name) => {}
                (Some(name), Some(decoded)) => {
                    self.extended(&name, decoded);
                    done.insert(name);
                }
                _ => {
                    self.attach(if number > 0 { ";" } else { "" });
                    self.push(" ", segment);
                }
            }
        }
    }

    /// Writes an extended parameter, in parts if it is long (RFC 2231 §3).
    fn extended(&mut self, name: &str, value: &str) {
        let mut parts = vec![String::new()];
        for letter in value.chars().map(percent_encoded) {
            match parts.last_mut() {
                Some(part) if part.len() + letter.len() <= PARAMETER_MAX => part.push_str(&letter),
                _ => parts.push(letter),
            }
        }
        let several = parts.len() > 1;
        for (number, part) in parts.iter().enumerate() {
            let charset = if number == 0 { "utf-8''" } else { "" };
            self.attach(";");
            match several {
                true => self.push(" ", &format!("{name}*{number}*={charset}{part}")),
                false => self.push(" ", &format!("{name}*={charset}{part}")),
            }
        }
    }

    /// Writes a list of addresses. True: an address has characters that stay in UTF-8. If
    /// `in_angles` is false, the text in angle brackets stays.
    fn addresses(&mut self, value: &str, in_angles: bool) -> bool {
        let pieces = piece::pieces(value);
        let roles = roles(&pieces);
        let mut stays = false;
        let mut space = " ";
        // The last token is an encoded word, so white space has to follow.
        let mut after_encoded = false;
        let mut at = 0;
        while let (Some(piece), Some(role)) = (pieces.get(at), roles.get(at)) {
            at += 1;
            let gap = if after_encoded && space.is_empty() {
                " "
            } else {
                space
            };
            let mut encoded = false;
            match (*piece, *role) {
                (Piece::Space(written), _) => {
                    space = if space.is_empty() { written } else { space };
                    continue;
                }
                (Piece::Sign(sign), _) => self.push(space, sign.encode_utf8(&mut [0; 4])),
                (Piece::Angle(angle), _) if in_angles => {
                    let new = angle_in_ascii(angle);
                    stays |= !new.is_ascii();
                    self.push(gap, &new);
                }
                (Piece::Word(word), Role::Address) => {
                    let new = address_in_ascii(word);
                    stays |= !new.is_ascii();
                    self.push(gap, &new);
                }
                (Piece::Comment(comment), _) if !comment.is_ascii() => {
                    let words = encoded_words(&piece::unquoted(comment));
                    let (frame, last) = (gap, words.len().saturating_sub(1));
                    for (number, word) in words.iter().enumerate() {
                        let open = if number == 0 { "(" } else { "" };
                        let close = if number == last { ")" } else { "" };
                        let gap = if number == 0 { frame } else { " " };
                        self.push(gap, &format!("{open}{word}{close}"));
                    }
                }
                (Piece::Word(written) | Piece::Quoted(written), Role::Name)
                    if !written.is_ascii() =>
                {
                    let before = at
                        .checked_sub(2)
                        .and_then(|at| name_word(&pieces, &roles, at));
                    let (run, next) = run(&pieces, &roles, at - 1, before.is_some());
                    self.encoded(gap, &run);
                    (at, encoded) = (next, true);
                }
                (
                    Piece::Word(written)
                    | Piece::Quoted(written)
                    | Piece::Comment(written)
                    | Piece::Angle(written)
                    | Piece::Open(written),
                    role,
                ) => {
                    stays |= role == Role::LocalPart && !written.is_ascii();
                    self.push(gap, written);
                }
            }
            (space, after_encoded) = ("", encoded);
        }
        stays
    }
}

/// What a piece of a list of addresses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A word of a name, or no word.
    Name,
    /// An address or a domain without angle brackets.
    Address,
    /// A local-part without its domain.
    LocalPart,
}

fn roles(pieces: &[Piece<'_>]) -> Vec<Role> {
    let words: Vec<(usize, &str)> = pieces
        .iter()
        .enumerate()
        .filter_map(|(at, piece)| match piece {
            Piece::Space(_) | Piece::Comment(_) => None,
            Piece::Word(text) | Piece::Quoted(text) => Some((at, *text)),
            _ => Some((at, "")),
        })
        .collect();
    let mut roles = vec![Role::Name; pieces.len()];
    for (number, (at, text)) in words.iter().enumerate() {
        let is_word = |place: &usize| matches!(pieces.get(*place), Some(Piece::Word(_)));
        let before = number.checked_sub(1).and_then(|number| words.get(number));
        let after = words.get(number + 1);
        let follows_at = before.is_some_and(|(at, text)| is_word(at) && text.ends_with('@'));
        let precedes_at = after.is_some_and(|(at, text)| is_word(at) && text.starts_with('@'));
        let Some(role) = roles.get_mut(*at) else {
            continue;
        };
        if is_word(at) && (text.contains('@') && !is_encoded(text) || follows_at) {
            *role = Role::Address;
        } else if precedes_at {
            *role = Role::LocalPart;
        }
    }
    roles
}

/// A word of a name as an encoded word that exists already.
fn name_word<'a>(pieces: &[Piece<'a>], roles: &[Role], space: usize) -> Option<&'a str> {
    let before = space.checked_sub(1)?;
    match (pieces.get(space)?, pieces.get(before)?, roles.get(before)?) {
        (Piece::Space(_), Piece::Word(word), Role::Name) if is_encoded(word) => Some(word),
        _ => None,
    }
}

/// The words of a name from `at` on that are to be encoded together, and the place of the piece
/// behind them. White space between encoded words is lost, so it is a part of the text.
fn run(pieces: &[Piece<'_>], roles: &[Role], at: usize, after_encoded: bool) -> (String, usize) {
    let mut text = String::from(if after_encoded { " " } else { "" });
    let mut next = at;
    let mut space = "";
    let mut place = at;
    while let (Some(piece), Some(Role::Name)) = (pieces.get(place), roles.get(place)) {
        match piece {
            Piece::Space(written) => space = written,
            Piece::Word(word) if !word.is_ascii() => {
                text.push_str(space);
                text.push_str(word);
                (space, next) = ("", place + 1);
            }
            Piece::Quoted(quoted) if !quoted.is_ascii() => {
                text.push_str(space);
                text.push_str(&piece::unquoted(quoted));
                (space, next) = ("", place + 1);
            }
            Piece::Word(word) if is_encoded(word) => {
                text.push_str(space);
                break;
            }
            _ => break,
        }
        place += 1;
    }
    (text, next)
}

/// An address in angle brackets with its domain in A-labels.
fn angle_in_ascii(angle: &str) -> String {
    let inner = angle.strip_prefix('<').unwrap_or(angle);
    let inner = inner.strip_suffix('>').unwrap_or(inner);
    format!("<{}>", address_in_ascii(inner))
}

/// An address, or `@` and a domain, or a domain, with the domain in A-labels. An address whose
/// local-part is not ASCII stays as it is: only SMTPUTF8 can carry it.
fn address_in_ascii(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let (local, domain) = text.rsplit_once('@').map_or(("", text), |pair| pair);
    let at = if text.contains('@') { "@" } else { "" };
    match Domain::parse(domain.trim()) {
        Ok(domain) if local.is_ascii() => format!("{local}{at}{domain}"),
        _ => text.to_owned(),
    }
}

fn is_encoded(text: &str) -> bool {
    text.starts_with("=?") && word::length(text.as_bytes()) == Some(text.len())
}

/// The value and its parameters: what stands between semicolons outside of quotes.
fn segments(value: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let (mut quoted, mut escaped, mut from) = (false, false, 0);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                segments.extend(value.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    segments.extend(value.get(from..));
    segments.into_iter().map(str::trim).collect()
}

/// The words of a text, each with the white space before it.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    const fn new(text: &'a str) -> Self {
        Self(text)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let blank = |c: char| c == ' ' || c == '\t';
        let begin = self.0.find(|c| !blank(c))?;
        let (space, rest) = self.0.split_at_checked(begin)?;
        let end = rest.find(blank).unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(end)?;
        self.0 = rest;
        Some((space, word))
    }
}

#[cfg(test)]
#[path = "ascii/tests.rs"]
mod tests;
