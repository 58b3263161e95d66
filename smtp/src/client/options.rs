//! How a connection is to be made.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};

use crate::Host;

/// How to talk to a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// What we call ourselves.
    pub helo: Host,
    /// Whether to use TLS.
    pub tls: TlsMode,
    /// With whose credentials; None: without.
    pub login: Option<Login>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// LMTP instead of SMTP (RFC 2033): one reply to the end of data for each recipient.
    pub lmtp: bool,
    /// Use BDAT where CHUNKING is offered (RFC 3030): it saves the wait for the reply to DATA.
    pub chunking: bool,
}

impl Options {
    /// SMTP as to a stranger's MX, with this TLS mode.
    #[must_use]
    pub fn new(helo: Host, tls: TlsMode) -> Self {
        Self {
            helo,
            tls,
            login: None,
            timeouts: Timeouts::default(),
            lmtp: false,
            chunking: true,
        }
    }
}

/// Whether and how to use TLS.
#[derive(Clone, Debug)]
pub enum TlsMode {
    /// Not even when offered.
    Never,
    /// STARTTLS when offered (RFC 7435). A handshake that fails fails the connection: the caller may try another without.
    Opportunistic(Tls),
    /// STARTTLS, or no mail.
    Required(Tls),
    /// TLS from the first byte (RFC 8314 §3).
    Implicit(Tls),
}

/// The parameters of TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What is trusted. See [`super::opportunistic_config`].
    pub config: Arc<ClientConfig>,
    /// The name sent to and expected of the server.
    pub name: ServerName<'static>,
}

/// Credentials for AUTH (RFC 4954): PLAIN, or LOGIN where that is all a server has. Only under TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The authentication identity.
    pub user: String,
    /// The password.
    pub password: String,
    /// Send them without TLS too; for servers on the same machine and in tests.
    pub without_tls: bool,
}

/// Hides the password, so that a log line can't have it.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// How long to wait for the server: RFC 5321 §4.5.3.2 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TLS handshake.
    pub tls: Duration,
    /// For the greeting.
    pub greeting: Duration,
    /// For the replies to EHLO, HELO, STARTTLS, AUTH, RSET.
    pub helo: Duration,
    /// For the reply to MAIL.
    pub mail: Duration,
    /// For the reply to RCPT.
    pub rcpt: Duration,
    /// For the reply to DATA.
    pub data: Duration,
    /// For the server to take more of the text.
    pub block: Duration,
    /// For the reply to the end of the text.
    pub dot: Duration,
    /// For the reply to QUIT, for which the RFC has no figure. Nothing depends on it.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes.saturating_mul(60));
        Self {
            tls: minutes(2),
            greeting: minutes(5),
            helo: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            block: minutes(3),
            dot: minutes(10),
            quit: Duration::from_secs(5),
        }
    }
}

/// The host at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Its name, as the MX record or the configuration has it.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.name, self.ip)
    }
}
