//! The options of a connection.

use std::{fmt, net::IpAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};

use super::{Recorder, Timeouts};
use crate::{Host, sasl::ClientLogin};

/// The options of a connection to a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The client's name in EHLO.
    pub helo: Host,
    /// The use of TLS.
    pub tls: TlsMode,
    /// The credentials. None: no login.
    pub login: Option<Credentials>,
    /// The time limits.
    pub timeouts: Timeouts,
    /// LMTP instead of SMTP (RFC 2033). It has one reply to the end of data for each recipient.
    pub lmtp: bool,
    /// Use BDAT where the server offers CHUNKING (RFC 3030). It saves the wait for the reply to
    /// DATA.
    pub chunking: bool,
    /// Records the dialog. None: nothing is recorded.
    pub recorder: Option<Recorder>,
}

impl Options {
    /// Options for SMTP to an MX host, with this TLS mode.
    #[must_use]
    pub fn new(helo: Host, tls: TlsMode) -> Self {
        Self {
            helo,
            tls,
            login: None,
            timeouts: Timeouts::default(),
            lmtp: false,
            chunking: true,
            recorder: None,
        }
    }
}

/// The use of TLS.
#[derive(Clone, Debug)]
pub enum TlsMode {
    /// No TLS, even where the server offers it.
    Never,
    /// STARTTLS where the server offers it (RFC 7435). A failed handshake ends the connection. The
    /// caller may make another one without TLS.
    Opportunistic(Tls),
    /// STARTTLS, or no mail.
    Required(Tls),
    /// TLS from the first byte (RFC 8314 §3).
    Implicit(Tls),
}

/// The parameters of TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The check of certificates. [`super::AnyCertificate`] makes none.
    pub config: Arc<ClientConfig>,
    /// The server's name, which its certificate must have.
    pub name: ServerName<'static>,
}

/// Credentials for AUTH (RFC 4954).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user, what proves it, and the mechanisms.
    pub login: ClientLogin,
    /// Send them without TLS too. This is for servers on the same machine, and for tests.
    pub without_tls: bool,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// The name in the MX record or in the configuration.
    pub name: String,
    /// The address. None: the server listens on a Unix socket, and the name is its path.
    pub ip: Option<IpAddr>,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "{} [{ip}]", self.name),
            None => f.write_str(&self.name),
        }
    }
}
