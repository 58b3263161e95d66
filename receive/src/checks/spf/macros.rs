//! Macros: texts with values of the message in them (RFC 7208 §7).
//!
//! A text is parsed when its record is. Its expansion is short, whatever the record asks for: a
//! name of DNS has at most 253 characters, and only the end of a longer text counts.

use std::{borrow::Cow, net::IpAddr};

use super::record::SyntaxError;
use crate::checks::name::{NAME_MAX, is_name};

/// An expansion does not grow much above this.
const EXPANSION_MAX: usize = 4096;

/// The use of a text with macros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// In a record: no spaces, and no macros about the client's connection.
    Term,
    /// The explanation of a failure.
    Explanation,
}

/// A text with macros (RFC 7208 §7.1, `macro-string` and `explain-string`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MacroString {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `%%`, `%_` or `%-`.
    Sign(&'static str),
    Macro(Macro),
}

/// `macro-expand` (RFC 7208 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Macro {
    letter: Letter,
    /// The letter is in upper case: the value is written as in a URL.
    for_url: bool,
    /// How many parts stay, from the right. None: all.
    keep: Option<usize>,
    reverse: bool,
    /// What separates the parts; empty: the dot.
    delimiters: String,
}

/// `macro-letter` (RFC 7208 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    Sender,
    LocalPart,
    SenderDomain,
    Domain,
    Address,
    ValidatedName,
    Version,
    Helo,
    ReadableAddress,
    Receiver,
    Time,
}

/// The values of macros (RFC 7208 §7.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    /// The local-part of the sender.
    pub(super) local_part: &'a str,
    /// The domain of the sender.
    pub(super) sender_domain: &'a str,
    /// The domain whose record is read.
    pub(super) domain: &'a str,
    /// The client's address.
    pub(super) client: IpAddr,
    /// The client's name in EHLO.
    pub(super) helo: &'a str,
    /// A name of the client's address that leads back to it.
    pub(super) validated_name: &'a str,
    /// Our host name. For explanations.
    pub(super) receiver: &'a str,
    /// The seconds since 1970. For explanations.
    pub(super) now: i64,
}

impl MacroString {
    /// Reads a text with macros.
    pub(super) fn parse(text: &str, used: Use) -> Result<Self, SyntaxError> {
        let wrong = || SyntaxError::Macro(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal = rest.find('%').unwrap_or(rest.len());
            let (before, after) = rest.split_at_checked(literal).ok_or_else(wrong)?;
            let fits =
                |byte: u8| byte.is_ascii_graphic() || used == Use::Explanation && byte == b' ';
            if !before.bytes().all(fits) {
                return Err(SyntaxError::Character(text.to_owned()));
            }
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            let Some(after) = after.strip_prefix('%') else {
                break;
            };
            let (part, behind) = expand_part(after, used).ok_or_else(wrong)?;
            parts.push(part);
            rest = behind;
        }
        Ok(Self { parts })
    }

    /// The text ends with a macro, or with a dot and a label that can be a top-level domain (RFC
    /// 7208 §7.1, `domain-end`).
    pub(super) fn is_domain_spec(&self) -> bool {
        match self.parts.last() {
            None => false,
            Some(Part::Sign(_) | Part::Macro(_)) => true,
            Some(Part::Literal(text)) => {
                let text = text.strip_suffix('.').unwrap_or(text);
                text.rsplit_once('.')
                    .is_some_and(|(_, label)| is_top_label(label))
            }
        }
    }

    /// The expansion needs a name of the client's address.
    pub(super) fn needs_validated_name(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Macro(found) if found.letter == Letter::ValidatedName))
    }

    /// The text with the values. The rest of a text of several kilobytes is left out.
    pub(super) fn expand(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&part.expand(values));
            if text.len() > EXPANSION_MAX {
                break;
            }
        }
        text
    }

    /// The end of the text with the values. Longer than any name, if the text is.
    fn end(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&part.expand(values));
            if text.len() > EXPANSION_MAX {
                let from = text.ceil_char_boundary(text.len() - EXPANSION_MAX / 2);
                text.drain(..from);
            }
        }
        text
    }

    /// The text with the values as a name of DNS. A name that is too long loses labels on its left
    /// (RFC 7208 §7.3). None if it is no name that can be asked for.
    pub(super) fn name(&self, values: &Values<'_>) -> Option<String> {
        let text = self.end(values);
        let mut name = text.strip_suffix('.').unwrap_or(&text);
        while name.len() > NAME_MAX {
            (_, name) = name.split_once('.')?;
        }
        is_name(name).then(|| name.to_owned())
    }
}

/// `toplabel` (RFC 7208 §7.1).
fn is_top_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a macro behind its `%`, and returns the rest.
fn expand_part(text: &str, used: Use) -> Option<(Part, &str)> {
    for (sign, meaning) in [("%", "%"), ("_", " "), ("-", "%20")] {
        if let Some(rest) = text.strip_prefix(sign) {
            return Some((Part::Sign(meaning), rest));
        }
    }
    let (inner, rest) = text.strip_prefix('{')?.split_once('}')?;
    let letter = inner.chars().next()?;
    let transformers = inner.get(letter.len_utf8()..)?;
    let digits = transformers
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(transformers.len());
    let (digits, delimiters) = transformers.split_at_checked(digits)?;
    let keep = match digits {
        "" => None,
        digits if digits.bytes().all(|digit| digit == b'0') => return None,
        // More parts than any value has.
        digits => Some(digits.parse().unwrap_or(usize::MAX)),
    };
    let unreversed = delimiters.strip_prefix(['r', 'R']);
    let found = Macro {
        letter: Letter::read(letter, used)?,
        for_url: letter.is_ascii_uppercase(),
        keep,
        reverse: unreversed.is_some(),
        delimiters: unreversed.unwrap_or(delimiters).to_owned(),
    };
    let are_delimiters = found.delimiters.chars().all(|c| ".-+,/_=".contains(c));
    are_delimiters.then_some((Part::Macro(found), rest))
}

impl Part {
    fn expand<'v>(&'v self, values: &Values<'v>) -> Cow<'v, str> {
        match self {
            Self::Literal(literal) => literal.into(),
            Self::Sign(sign) => (*sign).into(),
            Self::Macro(found) => found.expand(values),
        }
    }
}

impl Letter {
    fn read(letter: char, used: Use) -> Option<Self> {
        Some(match letter.to_ascii_lowercase() {
            's' => Self::Sender,
            'l' => Self::LocalPart,
            'o' => Self::SenderDomain,
            'd' => Self::Domain,
            'i' => Self::Address,
            'p' => Self::ValidatedName,
            'v' => Self::Version,
            'h' => Self::Helo,
            'c' if used == Use::Explanation => Self::ReadableAddress,
            'r' if used == Use::Explanation => Self::Receiver,
            't' if used == Use::Explanation => Self::Time,
            _ => return None,
        })
    }

    fn value<'a>(self, values: &Values<'a>) -> Cow<'a, str> {
        match self {
            Self::Sender => format!("{}@{}", values.local_part, values.sender_domain).into(),
            Self::LocalPart => values.local_part.into(),
            Self::SenderDomain => values.sender_domain.into(),
            Self::Domain => values.domain.into(),
            Self::Address => dotted(values.client).into(),
            Self::ValidatedName => values.validated_name.into(),
            Self::Version if values.client.is_ipv4() => "in-addr".into(),
            Self::Version => "ip6".into(),
            Self::Helo => values.helo.into(),
            Self::ReadableAddress => values.client.to_string().into(),
            Self::Receiver => values.receiver.into(),
            Self::Time => values.now.to_string().into(),
        }
    }
}

impl Macro {
    fn expand<'a>(&self, values: &Values<'a>) -> Cow<'a, str> {
        let value = self.letter.value(values);
        let is_plain = self.keep.is_none() && !self.reverse && self.delimiters.is_empty();
        let value = match is_plain {
            true => value,
            false => self.transform(&value).into(),
        };
        match self.for_url {
            true => url_escaped(&value).into(),
            false => value,
        }
    }

    /// Splits the value, reverses the parts, keeps those on the right, and joins them with dots
    /// (RFC 7208 §7.3).
    fn transform(&self, value: &str) -> String {
        let splits = |c: char| match self.delimiters.as_str() {
            "" => c == '.',
            delimiters => delimiters.contains(c),
        };
        let mut parts: Vec<&str> = value.split(splits).collect();
        if self.reverse {
            parts.reverse();
        }
        let dropped = parts.len().saturating_sub(self.keep.unwrap_or(usize::MAX));
        parts.split_off(dropped).join(".")
    }
}

/// An IPv4 address as it is, an IPv6 address as 32 hexadecimal digits with dots between them.
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let nibbles = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
            let digits: Vec<String> = nibbles.map(|nibble| format!("{nibble:X}")).collect();
            digits.join(".")
        }
    }
}

/// The text with `%` and two digits for each byte that is not unreserved (RFC 3986 §2.3).
fn url_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                escaped.push(char::from(byte));
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(client: &str) -> Values<'static> {
        Values {
            local_part: "strong-bad",
            sender_domain: "email.example.com",
            domain: "email.example.com",
            client: client.parse().unwrap(),
            helo: "mx.example.org",
            validated_name: "unknown",
            receiver: "mx.example.net",
            now: 1_000_000_000,
        }
    }

    fn check(text: &str, expected: &str) {
        let client = match text.contains("{i") && expected.len() > 40 {
            true => "2001:db8::cb01",
            false => "192.0.2.3",
        };
        let parsed = MacroString::parse(text, Use::Explanation).unwrap();
        assert_eq!(parsed.expand(&values(client)), expected, "{text}");
    }

    /// The examples of RFC 7208 §7.4, and some more.
    #[test]
    fn macros_have_values() {
        for (text, expected) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lR-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{L1r-}%-%_%%", "strong%20 %"),
            ("%{S}", "strong-bad%40email.example.com"),
            (
                "%{ir}.%{v}._spf.%{d2}",
                "3.2.0.192.in-addr._spf.example.com",
            ),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            (
                "%{ir}.%{v}._spf.%{d2}",
                "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6._spf.example.com",
            ),
            (
                "%{c} %{r} %{t} %{h} %{p}",
                "192.0.2.3 mx.example.net 1000000000 mx.example.org unknown",
            ),
            ("%{d99999999999999999999999}", "email.example.com"),
            ("", ""),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn wrong_macros_are_found() {
        for text in [
            "%",
            "%a",
            "%{",
            "%{d",
            "%{}",
            "%{x}",
            "%{d0}",
            "%{d00r}",
            "%{dq}",
            "%{d.r}",
            "%{d-1}",
            "%{d}%",
            "a b",
            "a\u{e4}",
            "a\tb",
            "%{\u{e4}}",
            "%{c}",
            "%{r}",
            "%{t}",
        ] {
            assert!(MacroString::parse(text, Use::Term).is_err(), "{text}");
        }
        assert!(MacroString::parse("a b %{c}", Use::Explanation).is_ok());
        assert!(MacroString::parse("a\tb", Use::Explanation).is_err());
    }

    #[test]
    fn a_domain_has_a_top_label_or_ends_with_a_macro() {
        for (text, is_domain) in [
            ("example.org", true),
            ("example.org.", true),
            ("a:b/c.org", true),
            ("%{d}", true),
            ("a%%", true),
            ("%{d}.org", true),
            ("a.1-2", true),
            ("a.xn--p1ai", true),
            ("", false),
            (".", false),
            ("org", false),
            ("org.", false),
            ("%{d}org", false),
            ("%{d}.", false),
            ("a.12", false),
            ("a.-b", false),
            ("a.b-", false),
            ("a.b_c", false),
            ("example.org..", false),
        ] {
            let parsed = MacroString::parse(text, Use::Term).unwrap();
            assert_eq!(parsed.is_domain_spec(), is_domain, "{text}");
        }
    }

    #[test]
    fn a_long_name_loses_its_left_labels() {
        let name = |text: &str| {
            let parsed = MacroString::parse(text, Use::Term).unwrap();
            parsed.name(&values("192.0.2.3"))
        };
        let long = name(&format!("{}a.test", "%{d}.".repeat(2000))).unwrap();
        assert_eq!(long.len(), 18 * 13 + 6 + 12);
        assert!(
            long.starts_with("example.com.email.") && long.ends_with(".email.example.com.a.test")
        );
        assert_eq!(name(&"%{l}".repeat(2000)), None);
        assert_eq!(name(&format!("{}.test", "a".repeat(64))), None);
        assert_eq!(name("a..test"), None);
        assert_eq!(name(".a.test"), None);
        assert_eq!(name("a.test.").as_deref(), Some("a.test"));
        let mut values = values("192.0.2.3");
        values.local_part = "j\u{f6}rg";
        let parsed = MacroString::parse("%{l}.test", Use::Term).unwrap();
        assert_eq!(parsed.name(&values), None);
    }
}
