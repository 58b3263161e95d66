//! How the sessions of a listener behave.

use std::time::Duration;

use crate::Domain;

/// The mechanisms of AUTH beside PLAIN and LOGIN.
///
/// EXTERNAL is offered to each client that shows a certificate, and the forms of SCRAM with channel
/// binding under TLS 1.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaslConfig {
    /// The policy has SCRAM keys.
    pub scram: bool,
    /// The policy checks OAuth tokens, and they need this scope, which may be empty.
    pub oauth_scope: Option<String>,
}

/// How the sessions of a listener behave.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The server's name in the greeting and in the reply to EHLO.
    pub hostname: Domain,
    /// SIZE: the largest message in bytes.
    pub max_message_size: u64,
    /// The longest line of a message in bytes, without its CRLF. RFC 5321 §4.5.3.1.6 asks for 998.
    /// Many real messages have longer lines.
    pub max_line: usize,
    /// The server offers STARTTLS.
    pub starttls: bool,
    /// The server offers AUTH.
    pub auth: bool,
    /// MAIL needs a login.
    pub auth_required: bool,
    /// The server offers AUTH only under TLS.
    pub auth_requires_tls: bool,
    /// The mechanisms that the server offers beside PLAIN and LOGIN.
    pub sasl: SaslConfig,
    /// The server offers REQUIRETLS under TLS (RFC 8689).
    pub require_tls_extension: bool,
    /// The server offers DSN (RFC 3461).
    pub dsn: bool,
    /// The server offers FUTURERELEASE (RFC 4865), MT-PRIORITY (RFC 6710) and DELIVERBY (RFC 2852).
    pub submission: bool,
    /// The server offers BINARYMIME (RFC 3030). This is for servers that keep the messages: a
    /// message that is not made of lines cannot be passed on to every server.
    pub binary_mime: bool,
    /// The policy is asked about each EHLO and HELO.
    pub ask_hello: bool,
    /// The most recipients of a transaction.
    pub max_recipients: usize,
    /// The most transactions of a connection.
    pub max_messages: usize,
    /// The most refused commands of a connection.
    pub max_errors: usize,
    /// The time for a whole command line, for a whole AUTH exchange, and for a TLS handshake.
    pub command_timeout: Duration,
    /// The time for each read of a message.
    pub data_timeout: Duration,
    /// The time for a whole message, from DATA or the first BDAT on.
    pub message_timeout: Duration,
}
