//! Values that TOML has no type of its own for: sizes, durations, closed sets of words, secrets.

use std::{fmt, time::Duration};

use postrider_smtp::{Address, Domain};

/// A number of bytes, written as `"25MB"` (10^6), `"25MiB"` (2^20) or a bare number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// Units of sizes, largest first, so that the first that divides a number is the shortest way to write it.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl Size {
    /// Reads `"25MB"`, `"25MiB"` or `"25"`; the error is a sentence about the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text);
        let wrong = || {
            format!(
                "{text:?} is not a size; write a number and a unit, as in \"25MB\" or \"25MiB\""
            )
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor = match unit {
            "" => 1,
            "kB" => 1_000,
            unit => SIZE_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, factor)| *factor)
                .ok_or_else(wrong)?,
        };
        number
            .checked_mul(factor)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is too large a size"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SIZE_UNITS
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match fits {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "0B"),
        }
    }
}

/// Units of durations in milliseconds, in the order in which they must be written.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads `"90s"`, `"7m30s"`, `"72h"`, `"3d"`, `"250ms"`; the error is a sentence about the text.
///
/// Units come from the largest to the smallest, each at most once, so that a slip such as `"5m5m"` is seen.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is not a duration; write numbers with units, as in \"90s\", \"7m30s\", \"72h\" or \"3d\""
        )
    };
    let mut rest = text;
    let mut units = DURATION_UNITS.iter();
    let mut total: u64 = 0;
    loop {
        let (number, tail) = split_number(rest);
        let unit_length = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        // Searching on from where the last unit was found is what demands the order.
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = number
            .checked_mul(*factor)
            .and_then(|millis| total.checked_add(millis))
            .filter(|millis| i64::try_from(*millis).is_ok())
            .ok_or_else(|| format!("{text:?} is too long a duration"))?;
        if tail.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = tail;
    }
}

/// Writes a duration so that [`parse_duration`] reads the same (to the millisecond).
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS {
        // "72h" reads better than "3d" only to those who wrote it; one form for all is what matters.
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

fn split_number(text: &str) -> (&str, &str) {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(digits)
}

/// Defines an enum whose values are words in the configuration.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// All values, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The words for them, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The value for a word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How much is logged.
    LogLevel {
        /// Nothing.
        Off = "off",
        /// What needs an administrator.
        Error = "error",
        /// What may need one.
        Warn = "warn",
        /// What happens to mail.
        Info = "info",
        /// Decisions on the way.
        Debug = "debug",
        /// Everything, protocol lines included.
        Trace = "trace",
    }
}

words! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// The oldest TLS version that a listener takes.
    TlsVersion {
        /// RFC 5246.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
}

words! {
    /// Where records and bodies are kept.
    StoreEngine {
        /// The journal with a redb index, in the data folder.
        Redb = "redb",
    }
}

words! {
    /// A SASL mechanism for logging in at a next hop.
    Mechanism {
        /// RFC 4616.
        Plain = "PLAIN",
        /// The unregistered but common `LOGIN`.
        Login = "LOGIN",
        /// RFC 2195.
        CramMd5 = "CRAM-MD5",
        /// RFC 5802.
        ScramSha1 = "SCRAM-SHA-1",
        /// RFC 5802, bound to the TLS channel.
        ScramSha1Plus = "SCRAM-SHA-1-PLUS",
        /// RFC 7677.
        ScramSha256 = "SCRAM-SHA-256",
        /// RFC 7677, bound to the TLS channel.
        ScramSha256Plus = "SCRAM-SHA-256-PLUS",
    }
}

words! {
    /// The kind of a DKIM key (RFC 6376, RFC 8463).
    DkimAlgorithm {
        /// RSA, at least 1024 bits.
        Rsa = "rsa",
        /// Ed25519.
        Ed25519 = "ed25519",
    }
}

words! {
    /// The hash of a DKIM signature.
    DkimHash {
        /// The only one that a signer should use (RFC 8301 §3.1).
        Sha256 = "sha256",
        /// Deprecated; for RSA keys only.
        Sha1 = "sha1",
    }
}

words! {
    /// The canonicalization of header and body in a DKIM signature (RFC 6376 §3.4).
    Canonicalization {
        /// Both relaxed.
        RelaxedRelaxed = "relaxed/relaxed",
        /// Header relaxed, body simple.
        RelaxedSimple = "relaxed/simple",
        /// Header simple, body relaxed.
        SimpleRelaxed = "simple/relaxed",
        /// Both simple.
        SimpleSimple = "simple/simple",
    }
}

impl Canonicalization {
    /// Whether the header is canonicalized by the relaxed algorithm.
    #[must_use]
    pub const fn header_relaxed(self) -> bool {
        matches!(self, Self::RelaxedRelaxed | Self::RelaxedSimple)
    }

    /// Whether the body is canonicalized by the relaxed algorithm.
    #[must_use]
    pub const fn body_relaxed(self) -> bool {
        matches!(self, Self::RelaxedRelaxed | Self::SimpleRelaxed)
    }
}

words! {
    /// What others shall do when a domain's MX hosts have no valid TLS (RFC 8461 §3.2).
    MtaStsMode {
        /// Deliver only with valid TLS.
        Enforce = "enforce",
        /// Report, deliver all the same.
        Testing = "testing",
        /// No policy any more.
        None = "none",
    }
}

words! {
    /// What an outgoing webhook tells of.
    WebhookEvent {
        /// The next hop accepted it, or a DSN says so.
        Delivered = "delivered",
        /// The recipient is on the suppression list.
        Suppressed = "suppressed",
        /// An attempt failed and another is planned.
        Delayed = "delayed",
        /// It failed for good.
        Failed = "failed",
        /// A DSN says that a host without DSN support took it.
        Relayed = "relayed",
        /// A DSN says that it went to several recipients.
        Expanded = "expanded",
        /// An administrator dropped it.
        Canceled = "canceled",
        /// A mail to the fromid address that is not a usable DSN.
        Unrecognized = "unrecognized",
    }
}

words! {
    /// How an account is told of a failed delivery, besides an event that its webhook wants in any case.
    FailureDsn {
        /// By a DSN mail.
        Mail = "mail",
        /// By the event only.
        Event = "event",
        /// By both.
        Both = "both",
    }
}

impl FailureDsn {
    /// Whether a DSN mail is made.
    #[must_use]
    pub const fn by_mail(self) -> bool {
        matches!(self, Self::Mail | Self::Both)
    }
}

/// A key for signing webhook calls, decoded from its `whsec_` form. Its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(pub Vec<u8>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecret({} bytes)", self.0.len())
    }
}

/// A regular expression of a ruleset; two are equal when their texts are.
#[derive(Clone, Debug)]
pub struct Pattern(pub regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A domain in a route: itself, or (written with a leading dot) itself and all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPattern {
    /// The domain.
    pub domain: Domain,
    /// Whether subdomains match too.
    pub subdomains: bool,
}

impl DomainPattern {
    /// Reads `example.com` or `.example.com`; the error is a sentence about the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, subdomains) = match text.strip_prefix('.') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let domain = parse_domain(name)?;
        Ok(Self { domain, subdomains })
    }

    /// Whether `domain` is meant.
    #[must_use]
    pub fn matches(&self, domain: &Domain) -> bool {
        if self.domain == *domain {
            return true;
        }
        self.subdomains
            && domain
                .ascii()
                .strip_suffix(self.domain.ascii())
                .is_some_and(|left| left.ends_with('.'))
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subdomains {
            f.write_str(".")?;
        }
        write!(f, "{}", self.domain)
    }
}

/// What a destination of an account stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationAddress {
    /// One address, `user@example.com`.
    Address(Address),
    /// All that no other destination of the domain takes, `@example.com`.
    CatchAll(Domain),
}

impl DestinationAddress {
    /// Reads `user@example.com` or `@example.com`; the error is a sentence about the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(domain) => parse_domain(domain).map(Self::CatchAll),
            None => parse_address(text).map(Self::Address),
        }
    }
}

impl fmt::Display for DestinationAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::CatchAll(domain) => write!(f, "@{domain}"),
        }
    }
}

pub(crate) fn parse_domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|_| format!("{text:?} is not a domain name"))
}

pub(crate) fn parse_address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| format!("{text:?} is not a mail address: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("25", 25),
            ("25B", 25),
            ("25MB", 25_000_000),
            ("25MiB", 25 << 20),
            ("256KiB", 256 << 10),
            ("1kB", 1000),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "MB",
            "-1",
            "1.5MB",
            "25 MB",
            "25mb",
            "99999999TiB",
            "9223372036854775808",
        ] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("7m30s", 450),
            ("72h", 72 * 3600),
            ("3d", 3 * 86400),
            ("1d1h1m1s", 86400 + 3600 + 61),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("1s250ms"), Ok(Duration::from_millis(1250)));
        for text in [
            "",
            "0",
            "5",
            "s",
            "30s7m",
            "5m5m",
            "1.5h",
            "-1s",
            " 1s",
            "1w",
            "999999999999d",
            "1s\u{0661}",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_read_as_written() {
        for word in WebhookEvent::WORDS {
            assert_eq!(
                WebhookEvent::from_word(word).map(WebhookEvent::as_str),
                Some(*word)
            );
        }
        assert_eq!(WebhookEvent::from_word("bounced"), None);
        assert!(Canonicalization::RelaxedSimple.header_relaxed());
        assert!(!Canonicalization::RelaxedSimple.body_relaxed());
    }

    #[test]
    fn a_leading_dot_takes_subdomains() {
        let matches = |pattern: &str, domain: &str| {
            DomainPattern::parse(pattern)
                .unwrap()
                .matches(&Domain::parse(domain).unwrap())
        };
        assert!(matches("example.com", "EXAMPLE.com"));
        assert!(!matches("example.com", "a.example.com"));
        assert!(matches(".example.com", "example.com"));
        assert!(matches(".example.com", "a.b.example.com"));
        assert!(!matches(".example.com", "badexample.com"));
        assert!(matches("\u{263a}.example", "xn--74h.example"));
    }

    proptest! {
        #[test]
        fn written_sizes_and_durations_are_read_again(number in 0..=i64::MAX as u64) {
            prop_assert_eq!(Size::parse(&Size(number).to_string()), Ok(Size(number)));
            let duration = Duration::from_millis(number);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Size::parse(&text);
            let _ = parse_duration(&text);
            let _ = DomainPattern::parse(&text);
            let _ = DestinationAddress::parse(&text);
        }
    }
}
