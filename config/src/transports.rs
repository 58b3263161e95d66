//! The types of `transports.NAME`: ways around the MX hosts of a domain.

use std::{fmt, net::IpAddr, path::PathBuf};

use postrider_smtp::{Domain, Host};

use crate::values::Mechanism;

/// `transports.NAME`: a way for outgoing mail other than directly to the MX hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A smarthost over TLS from the first byte.
    Submissions(Smarthost),
    /// A smarthost's submission port. STARTTLS is required unless `no_starttls` is set.
    Submission(Smarthost),
    /// A smarthost's SMTP port. STARTTLS is required unless `no_starttls` is set.
    Smtp(Smarthost),
    /// An LMTP server (RFC 2033).
    Lmtp(Lmtp),
    /// The MX hosts, through a SOCKS5 proxy.
    Socks(Socks),
    /// The MX hosts, with settings for the connection.
    Direct(Direct),
    /// No delivery: each message fails.
    Fail(Fail),
}

impl Transport {
    /// The word for the kind in the configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Submissions(_) => "submissions",
            Self::Submission(_) => "submission",
            Self::Smtp(_) => "smtp",
            Self::Lmtp(_) => "lmtp",
            Self::Socks(_) => "socks",
            Self::Direct(_) => "direct",
            Self::Fail(_) => "fail",
        }
    }
}

/// A host that accepts mail for all destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smarthost {
    /// The host. Of a name, the addresses are used, not the MX hosts.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
    /// The login at the smarthost.
    pub auth: Option<TransportAuth>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
    /// Whether STARTTLS is not used.
    pub no_starttls: bool,
}

/// A login at a smarthost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportAuth {
    /// The login name.
    pub username: String,
    /// What proves it.
    pub secret: TransportSecret,
    /// The mechanisms that may be used. Empty means the best that both sides know.
    pub mechanisms: Vec<Mechanism>,
}

/// What proves a login at a smarthost. Its `Debug` form hides the password.
#[derive(Clone, PartialEq, Eq)]
pub enum TransportSecret {
    /// This password.
    Password(String),
    /// The OAuth 2.0 access token in the first line of this file. It is read for each login.
    TokenFile(PathBuf),
}

impl fmt::Debug for TransportSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(_) => f.write_str("Password"),
            Self::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
        }
    }
}

/// The place where an LMTP server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lmtp {
    /// A TCP port.
    Tcp {
        /// The host.
        host: Host,
        /// The TCP port.
        port: u16,
    },
    /// A Unix socket.
    Socket(PathBuf),
}

/// A SOCKS5 proxy (RFC 1928).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socks {
    /// The proxy's name or address.
    pub host: Host,
    /// The proxy's TCP port.
    pub port: u16,
    /// The addresses from which the proxy connects. SPF sees them.
    pub remote_ips: Vec<IpAddr>,
    /// The name in EHLO for connections through the proxy.
    pub remote_hostname: Domain,
}

/// Settings for connections to MX hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direct {
    /// Never connect over IPv4.
    pub disable_ipv4: bool,
    /// Never connect over IPv6.
    pub disable_ipv6: bool,
    /// The addresses to connect from.
    pub local_ips: Vec<IpAddr>,
    /// The pool of addresses to connect from, by name. It is not set together with `local_ips`.
    pub source_pool: Option<String>,
}

/// A transport that fails each message, as if a remote host had sent this reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// The reply code, 400 to 599.
    pub code: u16,
    /// The text of the reply.
    pub message: String,
}
