//! Types of values that TOML does not have: closed sets of words, secrets, patterns.

use std::{fmt, net::IpAddr};

use postrider_smtp::{Address, Domain};

use crate::words::words;

words! {
    /// How much is logged.
    LogLevel {
        /// Nothing.
        Off = "off",
        /// Events that need an administrator.
        Error = "error",
        /// Events that may need an administrator.
        Warn = "warn",
        /// Events in the life of a message.
        Info = "info",
        /// Decisions about a message.
        Debug = "debug",
        /// Everything, protocol lines included.
        Trace = "trace",
    }
}

words! {
    /// The form of log lines.
    LogFormat {
        /// Text for people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// The oldest TLS version that a listener accepts.
    TlsVersion {
        /// RFC 5246.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
}

words! {
    /// The store of records and texts.
    StoreEngine {
        /// The journal with a redb index, in the data folder.
        Redb = "redb",
    }
}

words! {
    /// What becomes of incoming mail that fails the DMARC check of its author's domain.
    DmarcHandling {
        /// What the owner of the domain wants.
        Enforce = "enforce",
        /// As `enforce`, but what the owner wants refused goes to the junk mailbox.
        Junk = "junk",
        /// Nothing; the result is only reported.
        Report = "report",
    }
}

words! {
    /// What a message with REQUIRETLS (RFC 8689) needs.
    RequireTls {
        /// A proven host that offers the extension REQUIRETLS under TLS.
        Enforce = "enforce",
        /// A proven host.
        Verified = "verified",
    }
}

words! {
    /// What becomes of a message when a host says that our address or name is blocked.
    OnBlock {
        /// It is tried again until its attempts or its time end.
        Defer = "defer",
        /// It fails, if the reply is 5xx.
        Fail = "fail",
        /// Other sources of its pool take it at once. Without another one it is as with `defer`.
        Switch = "switch",
    }
}

words! {
    /// Who must have one-time codes to use the pages.
    RequireTotp {
        /// Nobody.
        None = "none",
        /// The administrator.
        Admin = "admin",
        /// The administrator and all account holders.
        All = "all",
    }
}

words! {
    /// Of which attempts the transcript is kept.
    KeepTranscripts {
        /// Of all.
        All = "all",
        /// Of those that did not deliver.
        Failed = "failed",
        /// Of none.
        None = "none",
    }
}

words! {
    /// A SASL mechanism for a login at a next hop.
    Mechanism {
        /// RFC 4616.
        Plain = "PLAIN",
        /// The unregistered but common `LOGIN`.
        Login = "LOGIN",
        /// RFC 5802.
        ScramSha1 = "SCRAM-SHA-1",
        /// RFC 5802 with channel binding to TLS.
        ScramSha1Plus = "SCRAM-SHA-1-PLUS",
        /// RFC 7677.
        ScramSha256 = "SCRAM-SHA-256",
        /// RFC 7677 with channel binding to TLS.
        ScramSha256Plus = "SCRAM-SHA-256-PLUS",
        /// RFC 7628. It takes a token.
        OauthBearer = "OAUTHBEARER",
        /// The older form of `OAUTHBEARER` by Google and Microsoft.
        Xoauth2 = "XOAUTH2",
    }
}

impl Mechanism {
    /// The mechanism takes a token in place of a password.
    #[must_use]
    pub const fn takes_token(self) -> bool {
        matches!(self, Self::OauthBearer | Self::Xoauth2)
    }
}

words! {
    /// The algorithm of a key that signs changes of a zone (RFC 8945 §6).
    TsigAlgorithm {
        /// HMAC with SHA-256.
        HmacSha256 = "hmac-sha256",
        /// HMAC with SHA-384.
        HmacSha384 = "hmac-sha384",
        /// HMAC with SHA-512.
        HmacSha512 = "hmac-sha512",
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
        /// The only hash that a signer should use (RFC 8301 §3.1).
        Sha256 = "sha256",
        /// Deprecated. Possible with RSA keys only.
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
    /// Whether the header is canonicalized with the relaxed algorithm.
    #[must_use]
    pub const fn header_relaxed(self) -> bool {
        matches!(self, Self::RelaxedRelaxed | Self::RelaxedSimple)
    }

    /// Whether the body is canonicalized with the relaxed algorithm.
    #[must_use]
    pub const fn body_relaxed(self) -> bool {
        matches!(self, Self::RelaxedRelaxed | Self::SimpleRelaxed)
    }
}

words! {
    /// What other servers do when a domain's MX hosts have no valid TLS (RFC 8461 §3.2).
    MtaStsMode {
        /// Deliver only with valid TLS.
        Enforce = "enforce",
        /// Report the problem and deliver.
        Testing = "testing",
        /// The domain has no policy any more.
        None = "none",
    }
}

words! {
    /// An event of an outgoing webhook.
    WebhookEvent {
        /// The next hop accepted the message, or a DSN says so.
        Delivered = "delivered",
        /// The recipient is on the suppression list.
        Suppressed = "suppressed",
        /// An attempt failed and another is planned.
        Delayed = "delayed",
        /// The delivery failed for good.
        Failed = "failed",
        /// A DSN says that a host without DSN support accepted the message.
        Relayed = "relayed",
        /// A DSN says that the message went to several recipients.
        Expanded = "expanded",
        /// An administrator canceled the message.
        Canceled = "canceled",
        /// A mail to the fromid address that is not a usable DSN.
        Unrecognized = "unrecognized",
        /// The recipient unsubscribed from a mailing list. Payloads of version 0 do not tell it.
        Unsubscribed = "unsubscribed",
        /// The recipient complained. Payloads of version 0 do not tell it.
        Complained = "complained",
        /// The recipient opened a tracked message. Payloads of version 0 do not have it.
        Opened = "opened",
        /// The recipient followed a tracked link. Payloads of version 0 do not have it.
        Clicked = "clicked",
    }
}

impl WebhookEvent {
    /// Whether the event comes from the tracking of messages.
    pub(crate) const fn is_tracked(self) -> bool {
        matches!(self, Self::Opened | Self::Clicked)
    }
}

words! {
    /// The right of an account to the mailboxes of another one. A later right includes the earlier
    /// ones.
    Right {
        /// See the mail.
        Read = "read",
        /// Also change mail and mailboxes.
        Write = "write",
        /// Also send with the addresses of the other account.
        Send = "send",
    }
}

words! {
    /// When reports about TLS go to other servers (RFC 8460).
    ReportsTls {
        /// When a connection failed.
        Failures = "failures",
        /// Also when all connections succeeded.
        All = "all",
        /// Never.
        None = "none",
    }
}

words! {
    /// How an account learns of a failed delivery. The webhook gets the event in any case, if it
    /// wants it.
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
    /// Whether a failure makes a DSN mail.
    #[must_use]
    pub const fn by_mail(self) -> bool {
        matches!(self, Self::Mail | Self::Both)
    }
}

/// A key that signs webhook calls, decoded from its `whsec_` form. Its `Debug` form hides the key.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(pub Vec<u8>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecret({} bytes)", self.0.len())
    }
}

/// A regular expression of a ruleset. Two are equal if their texts are.
#[derive(Clone, Debug)]
pub struct Pattern(pub regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A domain in a route. With a leading dot it matches its subdomains too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPattern {
    /// The domain.
    pub domain: Domain,
    /// Whether subdomains match too.
    pub subdomains: bool,
}

impl DomainPattern {
    /// Reads `example.com` or `.example.com`. The error is a sentence about the text.
    ///
    /// # Errors
    /// If the text is not a domain name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, subdomains) = match text.strip_prefix('.') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let domain = parse_domain(name)?;
        Ok(Self { domain, subdomains })
    }

    /// Whether the pattern matches `domain`.
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

/// A network, or a single address. It is written as `192.0.2.0/24` or `192.0.2.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address.
    pub address: IpAddr,
    /// The length of the prefix in bits: up to 32 for IPv4, up to 128 for IPv6.
    pub prefix: u8,
}

impl Network {
    /// Reads `192.0.2.0/24` or `192.0.2.1`. The error is a sentence about the text.
    ///
    /// # Errors
    /// If the text is not a network, or its address has bits behind the prefix.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not an IP address or a network; write it as \"192.0.2.0/24\" or \
                \"2001:db8::/32\""
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        if prefix > longest {
            return Err(wrong());
        }
        let network = Self { address, prefix };
        if network.masked(address) != bits(address) {
            return Err(format!(
                "{text:?} has bits behind its prefix; write the first address of the network"
            ));
        }
        Ok(network)
    }

    /// Whether an address is in the network. An IPv4 address is in no network of IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && self.masked(address) == bits(self.address)
    }

    /// The bits of an address within the prefix. The others are zero.
    fn masked(&self, address: IpAddr) -> u128 {
        let mask = u128::MAX
            .checked_shl(128 - u32::from(self.prefix))
            .unwrap_or(0);
        bits(address) & mask
    }
}

/// The bits of an address. The first bit is the highest, for both families.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The addresses of a destination of an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationAddress {
    /// One address, `user@example.com`.
    Address(Address),
    /// All addresses of the domain without a destination of their own, `@example.com`.
    CatchAll(Domain),
}

impl DestinationAddress {
    /// Reads `user@example.com` or `@example.com`. The error is a sentence about the text.
    ///
    /// # Errors
    /// If the text is neither an address nor `@` and a domain.
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

/// A domain in place of one that is missing or wrong. The rest can be checked with it, and the
/// problem is reported.
pub(crate) fn missing_domain() -> Domain {
    Domain::parse("invalid").expect("\"invalid\" is a domain name (RFC 2606)")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn networks() {
        let contains = |network: &str, address: &str| {
            let network = Network::parse(network).unwrap();
            network.contains(address.parse().unwrap())
        };
        assert!(contains("192.0.2.0/24", "192.0.2.255"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("192.0.2.1", "192.0.2.1"));
        assert!(!contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(!contains("::/0", "192.0.2.1"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        for text in [
            "",
            "x",
            "192.0.2.0/33",
            "::/129",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.1/24",
            "192.0.2.0/24/24",
            "::1/0",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Network::parse(&text);
            let _ = DomainPattern::parse(&text);
            let _ = DestinationAddress::parse(&text);
        }
    }
}
