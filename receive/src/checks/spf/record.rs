//! SPF records: the grammar of RFC 7208 §12, exactly. A record with an error has no meaning.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::{
    SpfOutcome,
    macros::{MacroString, Use},
};

/// The longest record in bytes. Real ones fit into a UDP answer (RFC 7208 §3.4).
const RECORD_MAX: usize = 8192;

/// The beginning of a record. Case does not matter.
const VERSION: &[u8] = b"v=spf1";

/// How much of a term an error shows, in characters.
const SHOWN_MAX: usize = 60;

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The mechanisms in their order.
    pub(super) directives: Vec<Directive>,
    /// The domain whose record counts if no mechanism matches.
    pub(super) redirect: Option<MacroString>,
    /// The name of the explanation.
    pub(super) explanation: Option<MacroString>,
}

/// A mechanism with its qualifier.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// The result if the mechanism matches.
    pub(super) outcome: SpfOutcome,
    /// The mechanism.
    pub(super) mechanism: Mechanism,
    /// The directive as the record has it, without the end of a long one.
    pub(super) text: String,
}

/// A mechanism (RFC 7208 §5).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(MacroString),
    A(Option<MacroString>, Networks),
    Mx(Option<MacroString>, Networks),
    Ptr(Option<MacroString>),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(MacroString),
}

/// The lengths of the prefixes by which addresses are compared, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Networks {
    pub(super) v4: u8,
    pub(super) v6: u8,
}

/// Why a record can't be read. Each has the term, without the end of a long one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SyntaxError {
    #[error("the record has {0} bytes, and {RECORD_MAX} are allowed")]
    TooLong(usize),
    #[error("the record has characters other than ASCII")]
    NotAscii,
    #[error("{:?} is no mechanism of SPF", shown(.0))]
    Unknown(String),
    #[error("{:?} has a character that is not allowed", shown(.0))]
    Character(String),
    #[error("{:?} has a wrong macro", shown(.0))]
    Macro(String),
    #[error("{:?} is not a domain", shown(.0))]
    Domain(String),
    #[error("{:?} has no domain", shown(.0))]
    NoDomain(String),
    #[error("{:?} has something behind it that is not allowed", shown(.0))]
    Argument(String),
    #[error("{:?} is not a network", shown(.0))]
    Network(String),
    #[error("{:?} is not a name of a modifier", shown(.0))]
    ModifierName(String),
    #[error("{0} is there twice")]
    Twice(&'static str),
}

/// The beginning of a text.
fn shown(text: &str) -> &str {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}

/// Whether a TXT record is an SPF record (RFC 7208 §4.5).
pub(super) fn is_spf(text: &[u8]) -> bool {
    let Some((version, rest)) = text.split_at_checked(VERSION.len()) else {
        return false;
    };
    version.eq_ignore_ascii_case(VERSION) && rest.first().is_none_or(|byte| *byte == b' ')
}

impl Record {
    /// Reads a record that [`is_spf`].
    pub(super) fn parse(text: &[u8]) -> Result<Self, SyntaxError> {
        if text.len() > RECORD_MAX {
            return Err(SyntaxError::TooLong(text.len()));
        }
        let text = str::from_utf8(text).map_err(|_| SyntaxError::NotAscii)?;
        if !text.is_ascii() {
            return Err(SyntaxError::NotAscii);
        }
        let mut record = Self {
            directives: Vec::new(),
            redirect: None,
            explanation: None,
        };
        let terms = text.get(VERSION.len()..).unwrap_or_default();
        for term in terms.split(' ').filter(|term| !term.is_empty()) {
            record.read_term(term)?;
        }
        Ok(record)
    }

    fn read_term(&mut self, term: &str) -> Result<(), SyntaxError> {
        let name_end = term.find([':', '/', '=']);
        let (name, rest) = term
            .split_at_checked(name_end.unwrap_or(term.len()))
            .unwrap_or((term, ""));
        let Some(value) = rest.strip_prefix('=') else {
            self.directives.push(Directive::parse(term)?);
            return Ok(());
        };
        if !is_modifier_name(name) {
            return Err(SyntaxError::ModifierName(term.to_owned()));
        }
        let (place, name) = match name.to_ascii_lowercase().as_str() {
            "redirect" => (&mut self.redirect, "redirect="),
            "exp" => (&mut self.explanation, "exp="),
            // An unknown modifier has no meaning, but a syntax (RFC 7208 §6).
            _ => return MacroString::parse(value, Use::Term).map(|_| ()),
        };
        if place.is_some() {
            return Err(SyntaxError::Twice(name));
        }
        *place = Some(domain(value, term)?);
        Ok(())
    }
}

/// `name` (RFC 7208 §12).
fn is_modifier_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

impl Directive {
    fn parse(term: &str) -> Result<Self, SyntaxError> {
        let (outcome, rest) = match term.chars().next() {
            Some('+') => (SpfOutcome::Pass, term.get(1..)),
            Some('-') => (SpfOutcome::Fail, term.get(1..)),
            Some('~') => (SpfOutcome::SoftFail, term.get(1..)),
            Some('?') => (SpfOutcome::Neutral, term.get(1..)),
            _ => (SpfOutcome::Pass, Some(term)),
        };
        let rest = rest.unwrap_or_default();
        let end = rest.find([':', '/']).unwrap_or(rest.len());
        let (name, argument) = rest.split_at_checked(end).unwrap_or((rest, ""));
        Ok(Self {
            outcome,
            mechanism: Mechanism::parse(name, argument, term)?,
            text: shown(term).to_owned(),
        })
    }
}

impl Mechanism {
    /// `argument` is the rest of the term behind the name: empty, or it begins with `:` or `/`.
    fn parse(name: &str, argument: &str, term: &str) -> Result<Self, SyntaxError> {
        let value = argument.strip_prefix(':');
        let needed = || value.ok_or_else(|| SyntaxError::NoDomain(term.to_owned()));
        let network = || SyntaxError::Network(term.to_owned());
        Ok(match name.to_ascii_lowercase().as_str() {
            "all" if argument.is_empty() => Self::All,
            "all" => return Err(SyntaxError::Argument(term.to_owned())),
            "include" => Self::Include(domain(needed()?, term)?),
            "exists" => Self::Exists(domain(needed()?, term)?),
            "a" => {
                let (target, networks) = target_and_networks(argument, term)?;
                Self::A(target, networks)
            }
            "mx" => {
                let (target, networks) = target_and_networks(argument, term)?;
                Self::Mx(target, networks)
            }
            "ptr" => match (argument, value) {
                ("", _) => Self::Ptr(None),
                (_, Some(value)) => Self::Ptr(Some(domain(value, term)?)),
                _ => return Err(SyntaxError::Argument(term.to_owned())),
            },
            "ip4" => {
                let (address, length) = value
                    .and_then(|text| network_of(text, 32))
                    .ok_or_else(network)?;
                Self::Ip4(address, length)
            }
            "ip6" => {
                let (address, length) = value
                    .and_then(|text| network_of(text, 128))
                    .ok_or_else(network)?;
                Self::Ip6(address, length)
            }
            _ => return Err(SyntaxError::Unknown(term.to_owned())),
        })
    }
}

/// `domain-spec` (RFC 7208 §7.1).
fn domain(text: &str, term: &str) -> Result<MacroString, SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::NoDomain(term.to_owned()));
    }
    let parsed = MacroString::parse(text, Use::Term)?;
    match parsed.is_domain_spec() {
        true => Ok(parsed),
        false => Err(SyntaxError::Domain(term.to_owned())),
    }
}

/// `[ ":" domain-spec ] [ dual-cidr-length ]` (RFC 7208 §5.3). A domain may have slashes, so the
/// lengths are read from the end.
fn target_and_networks(
    argument: &str,
    term: &str,
) -> Result<(Option<MacroString>, Networks), SyntaxError> {
    let wrong = || SyntaxError::Network(term.to_owned());
    let mut networks = Networks { v4: 32, v6: 128 };
    let mut rest = argument;
    if let Some((before, digits)) = trailing_digits(rest)
        && let Some(before) = before.strip_suffix("//")
    {
        networks.v6 = prefix_length(digits, 128).ok_or_else(wrong)?;
        rest = before;
    }
    if let Some((before, digits)) = trailing_digits(rest)
        && let Some(before) = before.strip_suffix('/')
    {
        networks.v4 = prefix_length(digits, 32).ok_or_else(wrong)?;
        rest = before;
    }
    match rest.strip_prefix(':') {
        Some(text) => Ok((Some(domain(text, term)?), networks)),
        None if rest.is_empty() => Ok((None, networks)),
        None => Err(wrong()),
    }
}

/// The text before the digits at its end, and the digits. None without digits.
fn trailing_digits(text: &str) -> Option<(&str, &str)> {
    let before = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = text.get(before.len()..)?;
    (!digits.is_empty()).then_some((before, digits))
}

/// The length of a prefix: digits without a leading zero, at most `max`.
fn prefix_length(digits: &str, max: u8) -> Option<u8> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 3;
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    let length = digits.parse().ok().filter(|length| *length <= max);
    length.filter(|_| plain && !leading_zero)
}

/// An address with the length of its network.
fn network_of<A: FromStr>(text: &str, bits: u8) -> Option<(A, u8)> {
    match text.split_once('/') {
        None => Some((text.parse().ok()?, bits)),
        Some((address, length)) => Some((address.parse().ok()?, prefix_length(length, bits)?)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        Record::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn terms_are_read() {
        let record = "V=spf1  a ?A:x.test/24//64 -mx//0 ~ptr:%{d} ip4:192.0.2.0/24 IP6:2001:db8::/32 \
                      +include:y.test. exists:%{i}.z.test exp=e.test x-y_z.1=%{d}:/ redirect=r.test \
                      -all ";
        let record = Record::parse(record.as_bytes()).unwrap();
        let parsed = |text| Some(MacroString::parse(text, Use::Term).unwrap());
        let networks = |v4, v6| Networks { v4, v6 };
        let expected = [
            (SpfOutcome::Pass, Mechanism::A(None, networks(32, 128))),
            (
                SpfOutcome::Neutral,
                Mechanism::A(parsed("x.test"), networks(24, 64)),
            ),
            (SpfOutcome::Fail, Mechanism::Mx(None, networks(32, 0))),
            (SpfOutcome::SoftFail, Mechanism::Ptr(parsed("%{d}"))),
            (SpfOutcome::Pass, Mechanism::Ip4([192, 0, 2, 0].into(), 24)),
            (
                SpfOutcome::Pass,
                Mechanism::Ip6("2001:db8::".parse().unwrap(), 32),
            ),
            (
                SpfOutcome::Pass,
                Mechanism::Include(parsed("y.test.").unwrap()),
            ),
            (
                SpfOutcome::Pass,
                Mechanism::Exists(parsed("%{i}.z.test").unwrap()),
            ),
            (SpfOutcome::Fail, Mechanism::All),
        ];
        let found = record.directives.into_iter();
        let found: Vec<_> = found
            .map(|directive| (directive.outcome, directive.mechanism))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(record.explanation, parsed("e.test"));
        assert_eq!(record.redirect, parsed("r.test"));
    }

    #[test]
    fn a_domain_may_have_slashes() {
        for (term, target, v4, v6) in [
            ("a:b/c.test", "b/c.test", 32, 128),
            ("a:b/1.test/8", "b/1.test", 8, 128),
            ("a:%{d/}/8//9", "%{d/}", 8, 9),
            ("a:%{d2/}", "%{d2/}", 32, 128),
            ("a:b//c.test//9", "b//c.test", 32, 9),
        ] {
            let record = Record::parse(format!("v=spf1 {term}").as_bytes()).unwrap();
            let target = MacroString::parse(target, Use::Term).unwrap();
            let expected = Mechanism::A(Some(target), Networks { v4, v6 });
            assert_eq!(record.directives[0].mechanism, expected, "{term}");
        }
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (term, expected) in [
            ("moo", "\"moo\" is no mechanism of SPF"),
            ("-all.", "\"-all.\" is no mechanism of SPF"),
            (
                "all/8",
                "\"all/8\" has something behind it that is not allowed",
            ),
            ("include", "\"include\" has no domain"),
            ("include:", "\"include:\" has no domain"),
            ("a:", "\"a:\" has no domain"),
            ("a:192.0.2.1", "\"a:192.0.2.1\" is not a domain"),
            ("a/24/64", "\"a/24/64\" is not a network"),
            ("a/", "\"a/\" is not a network"),
            ("a//", "\"a//\" is not a network"),
            ("a/33", "\"a/33\" is not a network"),
            ("a//0128", "\"a//0128\" is not a network"),
            (
                "ip4:192.0.2.1/032",
                "\"ip4:192.0.2.1/032\" is not a network",
            ),
            ("ip4:192.0.2.1/+8", "\"ip4:192.0.2.1/+8\" is not a network"),
            ("ip4:192.0.2", "\"ip4:192.0.2\" is not a network"),
            ("ip4/8", "\"ip4/8\" is not a network"),
            ("ip6:fe80::1%1", "\"ip6:fe80::1%1\" is not a network"),
            (
                "ptr/8",
                "\"ptr/8\" has something behind it that is not allowed",
            ),
            ("1up=x", "\"1up=x\" is not a name of a modifier"),
            ("-exp=x.test", "\"-exp=x.test\" is not a name of a modifier"),
            ("exp=a.test EXP=b.test", "exp= is there twice"),
            (
                "redirect=a.test redirect=a.test",
                "redirect= is there twice",
            ),
            ("exp=%{r}.test", "\"%{r}.test\" has a wrong macro"),
            ("x=%", "\"%\" has a wrong macro"),
            ("x=\t", "\"\\t\" has a character that is not allowed"),
            ("+-all", "\"+-all\" is no mechanism of SPF"),
            ("-", "\"-\" is no mechanism of SPF"),
            ("\u{e4}", "the record has characters other than ASCII"),
        ] {
            assert_eq!(error(&format!("v=spf1 {term}")), expected, "{term}");
        }
        let long = "x".repeat(10_000);
        let shown = format!("{:?} is no mechanism of SPF", "x".repeat(SHOWN_MAX));
        assert_eq!(error(&format!("v=spf1 {}", &long[..8000])), shown);
        assert_eq!(
            error(&format!("v=spf1 {long}")),
            "the record has 10007 bytes, and 8192 are allowed"
        );
    }

    #[test]
    fn the_version_ends_with_a_space_or_the_record() {
        for (text, expected) in [
            ("v=spf1", true),
            ("V=SPF1 ", true),
            ("v=spf1 x", true),
            ("v=spf10", false),
            ("v=spf1\t-all", false),
            (" v=spf1", false),
            ("v=spf", false),
            ("", false),
        ] {
            assert_eq!(is_spf(text.as_bytes()), expected, "{text}");
        }
        assert!(!is_spf(b"\x96") && !is_spf(b"v=spf\xff"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_spf(&bytes);
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn terms_of_any_kind_are_read(
            terms in "([-+?~]?(all|a|mx|ip4|ip6|ptr|exists|include|exp|redirect|x)[:=/]{0,2}[a.%{}0-9ridlR/:-]{0,12} ?){0,8}"
        ) {
            let record = format!("v=spf1 {terms}");
            if let Err(error) = Record::parse(record.as_bytes()) {
                prop_assert!(error.to_string().len() < 200);
            }
        }
    }
}
