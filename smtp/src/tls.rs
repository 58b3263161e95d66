//! The TLS of a connection, and handshakes that fail.

use std::io;

use rustls::{CommonState, Error};

/// The TLS of a connection, for logs and Received fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsInfo {
    /// The version, for example `TLSv1.3`.
    pub version: String,
    /// The cipher suite by its registered name, for example `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
}

impl TlsInfo {
    /// The TLS of a connection after its handshake.
    pub(crate) fn of(connection: &CommonState) -> Self {
        // rustls writes TLSv1_3 and TLS13_AES_256_GCM_SHA384.
        let version = connection
            .protocol_version()
            .map(|version| format!("{version:?}").replace('_', "."));
        let cipher = connection
            .negotiated_cipher_suite()
            .map(|suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"));
        Self {
            version: version.unwrap_or_default(),
            cipher: cipher.unwrap_or_default(),
        }
    }
}

/// The kind of a TLS handshake's failure at the server. Each has another cause, and so another
/// remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// The client sent an alert (RFC 8446 §6.2): often it does not trust our certificate.
    Alert,
    /// The client's bytes are not TLS.
    NotTls,
    /// The client closed the connection: a scanner, or a client that hangs up on what we sent.
    EndOfStream,
    /// The handshake took too long.
    Timeout,
    /// We refused: no version, cipher suite, protocol or certificate suits the client, or it broke
    /// the rules.
    Refused,
}

impl HandshakeFailure {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Alert,
        Self::NotTls,
        Self::EndOfStream,
        Self::Timeout,
        Self::Refused,
    ];

    /// The kind of this error of a handshake.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => return Self::EndOfStream,
            io::ErrorKind::TimedOut => return Self::Timeout,
            _ => {}
        }
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(Error::AlertReceived(_)) => Self::Alert,
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            _ => Self::Refused,
        }
    }

    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::NotTls => "not TLS",
            Self::EndOfStream => "end of stream",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
        }
    }
}
