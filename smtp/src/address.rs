//! Mailbox addresses and their parts, and the paths of MAIL and RCPT (RFC 5321 §4.1.2).
//!
//! A text is parsed once, where it comes in. A value of these types is valid, or was valid for the
//! program that stored it: the store's encoding (which is not human-readable) keeps what an earlier
//! parser took, as long as it has no control characters.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// The longest local-part in bytes, without its quotes. RFC 5321 §4.5.3.1.1 asks for 64. Some
/// senders make longer ones.
pub const LOCAL_PART_MAX: usize = 128;
/// The longest domain in A-labels (RFC 1035 §2.3.4).
const DOMAIN_MAX: usize = 253;
/// The longest local-part in bytes, as written, for a strict reader (RFC 5321 §4.5.3.1.1).
pub(crate) const STRICT_LOCAL_PART_MAX: usize = 64;
/// The ASCII characters that no domain name has. A name of DNS may have an underscore, and some
/// hosts and senders have one.
const NOT_IN_DOMAINS: idna::AsciiDenyList =
    idna::AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

/// The reason why a text is not an address, a domain or a local-part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// There is no `@`.
    #[error("it has no \"@\"")]
    NoAt,
    /// The local-part is empty.
    #[error("the part before the \"@\" is empty")]
    NoLocalPart,
    /// A character is only allowed in quotes.
    #[error("the character {0:?} is not allowed there without quotes")]
    Character(char),
    /// A quoted local-part is not closed, or has text after its closing quote.
    #[error("the quoted part before the \"@\" is not closed right")]
    Quotes,
    /// A control character is not allowed, even in quotes.
    #[error("it has a control character")]
    Control,
    /// The local-part is longer than [`LOCAL_PART_MAX`].
    #[error("the part before the \"@\" is longer than {LOCAL_PART_MAX} bytes")]
    LocalPartTooLong,
    /// The text is not a domain name.
    #[error("{0:?} is not a domain name")]
    Domain(String),
    /// The text is not an address literal such as `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    #[error("{0:?} is not an address literal such as [192.0.2.1] or [IPv6:2001:db8::1]")]
    Literal(String),
    /// The local-part is longer than 64 bytes. Only a strict reader says so.
    #[error("the part before the \"@\" is longer than {STRICT_LOCAL_PART_MAX} bytes")]
    StrictLocalPart,
    /// The host is an address literal. Only a strict reader says so.
    #[error("it has the IP address {0} in the place of a domain")]
    StrictLiteral(String),
    /// The domain ends with a dot. Only a strict reader says so.
    #[error("it ends with a dot")]
    StrictDot,
}

/// The part before the `@`, without quotes and escapes. The comparison is exact: only the domain
/// knows whether case matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct LocalPart(Box<str>);

const fn is_atext(c: char) -> bool {
    // RFC 5322 §3.2.3, with the UTF-8 of RFC 6531 §3.3.
    matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '/'
        | '=' | '?' | '^' | '_' | '`' | '{' | '|' | '}' | '~')
        || !c.is_ascii()
}

impl LocalPart {
    /// Reads a dot-string or a quoted string (RFC 5321 §4.1.2), also in UTF-8 (RFC 6531 §3.3).
    ///
    /// Dots may be anywhere, as in `a..b` and `ab.`: some providers have given out such addresses.
    /// The written form has quotes then, as the RFC demands.
    ///
    /// # Errors
    /// The text is neither, is too long, or has a control character.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // Two quotes, and a backslash for each character.
        if text.len() > 2 * LOCAL_PART_MAX + 2 {
            return Err(AddressError::LocalPartTooLong);
        }
        let text: Box<str> = match text.strip_prefix('"') {
            Some(rest) => unquote(rest)?.into(),
            None => check_atoms(text).map(|()| text.into())?,
        };
        match text.len() > LOCAL_PART_MAX {
            true => Err(AddressError::LocalPartTooLong),
            false => Ok(Self(text)),
        }
    }

    /// A local-part of exactly this text. Its written form has quotes if it needs them.
    ///
    /// # Errors
    /// The text is empty, too long, or has a control character.
    pub fn from_decoded(text: &str) -> Result<Self, AddressError> {
        if text.len() > LOCAL_PART_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(AddressError::Control);
        }
        Ok(Self(text.into()))
    }

    /// `postmaster`, which each domain has (RFC 5321 §4.5.1).
    #[must_use]
    pub fn postmaster() -> Self {
        Self("postmaster".into())
    }

    /// A stored local-part that [`parse`](Self::parse) does not take any more.
    fn kept(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        match text.strip_prefix('"') {
            Some(rest) => unquote(rest).ok().map(|text| Self(text.into())),
            None => Some(Self(text.into())),
        }
    }

    /// The text without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The local-part needs no SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

/// Atoms, with dots between, before and after them.
fn check_atoms(text: &str) -> Result<(), AddressError> {
    if text.is_empty() {
        return Err(AddressError::NoLocalPart);
    }
    let wrong = |c: &char| *c != '.' && (!is_atext(*c) || c.is_control());
    match text.chars().find(wrong) {
        None => Ok(()),
        Some(c) if c.is_control() => Err(AddressError::Control),
        Some(c) => Err(AddressError::Character(c)),
    }
}

/// The text needs no quotes (RFC 5321 §4.1.2).
fn is_dot_string(text: &str) -> bool {
    check_atoms(text).is_ok() && !text.split('.').any(str::is_empty)
}

/// The text in the quotes. `rest` begins after the opening quote.
fn unquote(rest: &str) -> Result<String, AddressError> {
    let inner = rest.strip_suffix('"').ok_or(AddressError::Quotes)?;
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '"' => return Err(AddressError::Quotes),
            '\\' => chars
                .next()
                .filter(|c| c.is_ascii())
                .ok_or(AddressError::Quotes)?,
            c => c,
        };
        if c.is_control() {
            return Err(AddressError::Control);
        }
        text.push(c);
    }
    if text.is_empty() {
        Err(AddressError::Empty)
    } else {
        Ok(text)
    }
}

/// The form in a command. It has quotes only if it needs them.
impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

/// A domain name. Its form is lower-case A-labels, however it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Domain(Box<str>);

impl Domain {
    /// Reads a domain name in Unicode or ASCII (UTS 46; letters, digits, hyphens and underscores).
    /// It ignores a last dot.
    ///
    /// # Errors
    /// The text is not a domain name.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Domain(text.to_owned());
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(AddressError::Empty);
        }
        // A longer name has no form within the limit, and IDNA takes long for it.
        if name.len() > 4 * DOMAIN_MAX {
            return Err(wrong());
        }
        let ascii = if is_plain(name) {
            Cow::Borrowed(name)
        } else {
            idna::domain_to_ascii_cow(name.as_bytes(), NOT_IN_DOMAINS).map_err(|_| wrong())?
        };
        let labels_fit = ascii.split('.').all(|label| {
            (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        });
        // Other programs take a name of digits and dots for an IPv4 address.
        let numeric = ascii
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if ascii.len() > DOMAIN_MAX || !labels_fit || numeric || !comes_back(&ascii) {
            return Err(wrong());
        }
        Ok(Self(ascii.into()))
    }

    /// A stored domain that [`parse`](Self::parse) does not take any more.
    fn kept(text: &str) -> Option<Self> {
        let is_name = |byte: u8| byte.is_ascii_graphic() && !b"<>@\"\\()[],;:".contains(&byte);
        let fits = !text.is_empty() && text.bytes().all(is_name);
        fits.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The name in lower-case A-labels.
    #[must_use]
    pub fn ascii(&self) -> &str {
        &self.0
    }

    /// The name with U-labels in the place of A-labels.
    #[must_use]
    pub fn unicode(&self) -> String {
        if self.0.contains("xn--") {
            idna::domain_to_unicode(&self.0).0
        } else {
            self.0.to_string()
        }
    }
}

/// The Unicode form of the name means the same name. This is not so if an A-label encodes a text
/// that looks like an A-label itself.
fn comes_back(ascii: &str) -> bool {
    if !ascii.contains("xn--") {
        return true;
    }
    let (unicode, valid) = idna::domain_to_unicode(ascii);
    let again = idna::domain_to_ascii_cow(unicode.as_bytes(), NOT_IN_DOMAINS);
    valid.is_ok() && again.is_ok_and(|again| again == ascii)
}

/// IDNA leaves the name as it is: it has lower-case letters, digits, hyphens, underscores and dots,
/// and no `xn--`.
fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
        && !name.contains("--")
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part after the `@`, or the name in EHLO: a domain or an address literal (RFC 5321 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub enum Host {
    /// A domain name.
    Domain(Domain),
    /// An IP address in brackets.
    Literal(IpAddr),
}

impl Host {
    /// Reads a domain or an address literal.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')
                .and_then(parse_literal)
                .map(Self::Literal)
                .ok_or_else(|| AddressError::Literal(text.to_owned())),
            None => Domain::parse(text).map(Self::Domain),
        }
    }

    /// A stored host whose domain is not taken any more.
    fn kept(text: &str) -> Option<Self> {
        Domain::kept(text).map(Self::Domain)
    }

    /// The domain in A-labels, or the literal with its brackets.
    #[must_use]
    pub fn ascii(&self) -> String {
        self.to_string()
    }

    /// The domain in U-labels, or the literal with its brackets.
    #[must_use]
    pub fn unicode(&self) -> String {
        match self {
            Self::Domain(domain) => domain.unicode(),
            Self::Literal(_) => self.to_string(),
        }
    }

    /// The domain. None for a literal.
    #[must_use]
    pub const fn domain(&self) -> Option<&Domain> {
        match self {
            Self::Domain(domain) => Some(domain),
            Self::Literal(_) => None,
        }
    }
}

fn parse_literal(inner: &str) -> Option<IpAddr> {
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => {
            inner.get(5..)?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => inner.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Self::Literal(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}

impl From<Domain> for Host {
    fn from(domain: Domain) -> Self {
        Self::Domain(domain)
    }
}

/// An address of a mailbox: local-part, `@`, and domain or literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Address {
    /// The part before the `@`.
    pub local: LocalPart,
    /// The part after the `@`.
    pub host: Host,
}

impl Address {
    /// Reads an address without angle brackets, display name or comment.
    ///
    /// # Errors
    /// The text is not an address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let (local, host) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        Ok(Self {
            local: LocalPart::parse(local)?,
            host: Host::parse(host)?,
        })
    }

    /// A stored address that [`parse`](Self::parse) does not take any more.
    fn kept(text: &str) -> Option<Self> {
        let (local, host) = text.rsplit_once('@')?;
        Some(Self {
            local: LocalPart::parse(local)
                .ok()
                .or_else(|| LocalPart::kept(local))?,
            host: Host::parse(host).ok().or_else(|| Host::kept(host))?,
        })
    }

    /// Reads an address of the webapi. It is stricter than [`Self::parse`]: the domain is a name
    /// without a dot at its end, and the local-part has 64 bytes at most (RFC 5321 §4.5.3.1.1).
    ///
    /// # Errors
    /// The text is not such an address.
    pub fn parse_strict(text: &str) -> Result<Self, AddressError> {
        let address = Self::parse(text)?;
        let local = text.rsplit_once('@').map_or(0, |(local, _)| local.len());
        if local > STRICT_LOCAL_PART_MAX {
            Err(AddressError::StrictLocalPart)
        } else if let Host::Literal(_) = address.host {
            Err(AddressError::StrictLiteral(address.host.to_string()))
        } else if text.ends_with('.') {
            Err(AddressError::StrictDot)
        } else {
            Ok(address)
        }
    }

    /// The address with its domain in U-labels.
    #[must_use]
    pub fn unicode(&self) -> String {
        format!("{}@{}", self.local, self.host.unicode())
    }

    /// The address needs no SMTPUTF8. Its domain has a form in ASCII in any case.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii()
    }
}

/// The form in a command, with the domain in A-labels.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.host)
    }
}

/// The sender in MAIL FROM (RFC 5321 §4.1.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub enum ReversePath {
    /// `<>`: nobody gets reports of the message.
    Null,
    /// The mailbox that gets the reports.
    Mailbox(Address),
}

impl ReversePath {
    /// Reads the text between the angle brackets: nothing, or an address.
    ///
    /// # Errors
    /// The text is not an address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            Ok(Self::Null)
        } else {
            Address::parse(text).map(Self::Mailbox)
        }
    }

    fn kept(text: &str) -> Option<Self> {
        Address::kept(text).map(Self::Mailbox)
    }

    /// The address. None for the null reverse-path.
    #[must_use]
    pub const fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Mailbox(address) => Some(address),
        }
    }
}

/// The form without angle brackets. It is empty for the null reverse-path.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(address) => address.fmt(f),
        }
    }
}

/// The recipient in RCPT TO (RFC 5321 §4.1.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub enum ForwardPath {
    /// `<postmaster>` without a domain, in upper or lower case.
    Postmaster,
    /// A mailbox.
    Mailbox(Address),
}

impl ForwardPath {
    /// Reads the text between the angle brackets.
    ///
    /// # Errors
    /// The text is neither `postmaster` nor an address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.eq_ignore_ascii_case("postmaster") {
            Ok(Self::Postmaster)
        } else {
            Address::parse(text).map(Self::Mailbox)
        }
    }

    fn kept(text: &str) -> Option<Self> {
        Address::kept(text).map(Self::Mailbox)
    }

    /// The address. None for the bare postmaster.
    #[must_use]
    pub const fn address(&self) -> Option<&Address> {
        match self {
            Self::Postmaster => None,
            Self::Mailbox(address) => Some(address),
        }
    }
}

/// The form without angle brackets.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("postmaster"),
            Self::Mailbox(address) => address.fmt(f),
        }
    }
}

macro_rules! as_string {
    ($($name:ident)*) => {$(
        impl FromStr for $name {
            type Err = AddressError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = AddressError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }

        /// A text for people (JSON, TOML) is parsed. The store's own encoding also gives back what
        /// an earlier parser took: a stricter one must not make a stored record unreadable.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let for_people = deserializer.is_human_readable();
                let text = String::deserialize(deserializer)?;
                match Self::parse(&text) {
                    Err(error) if for_people => Err(D::Error::custom(error)),
                    Err(error) => Self::kept(&text).ok_or_else(|| D::Error::custom(error)),
                    Ok(value) => Ok(value),
                }
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_string!(LocalPart Domain Host Address ReversePath ForwardPath);

#[cfg(test)]
mod tests;
