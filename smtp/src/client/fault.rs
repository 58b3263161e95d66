//! Why a connection is not protected as it should be.

use std::{fmt, io, sync::Arc};

use rustls::{CertificateError, Error, OtherError, pki_types::CertificateDer};

use crate::{Certificate, DeliveryStatus};

/// Why a session did not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unopened {
    /// The failure, as the sender is told.
    pub status: DeliveryStatus,
    /// What is wrong with TLS, if that is the reason.
    pub tls: Option<Box<TlsFault>>,
}

impl From<DeliveryStatus> for Unopened {
    fn from(status: DeliveryStatus) -> Self {
        Self { status, tls: None }
    }
}

/// What is wrong with the TLS of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    /// The kind.
    pub kind: TlsFaultKind,
    /// What happened, in words; empty if the kind says all.
    pub text: String,
    /// The certificate that is wrong. None if none is to blame, or if it can't be read.
    pub certificate: Option<Certificate>,
}

/// The kind of a [`TlsFault`]. Each has another cause, and so another remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFaultKind {
    /// The server does not offer STARTTLS.
    NotOffered,
    /// The server offers STARTTLS, and refuses it.
    Refused,
    /// The certificate is for other names.
    NameMismatch,
    /// The certificate, or one above it, is over.
    Expired,
    /// The certificate, or one above it, is not valid yet.
    NotYetValid,
    /// No trusted CA stands behind the certificate.
    UnknownIssuer,
    /// No TLSA record matches the certificate (RFC 6698).
    NoTlsaMatch,
    /// Something else is wrong with the certificate.
    BadCertificate,
    /// The server ended the handshake with an alert (RFC 8446 §6.2).
    Alert,
    /// The handshake took too long.
    TimedOut,
    /// The connection ended during the handshake.
    Broken,
    /// The server does not speak TLS as it should, or has nothing in common with us.
    Protocol,
}

impl TlsFaultKind {
    /// The name in logs and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotOffered => "starttls-not-offered",
            Self::Refused => "starttls-refused",
            Self::NameMismatch => "name-mismatch",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::UnknownIssuer => "unknown-issuer",
            Self::NoTlsaMatch => "no-tlsa-match",
            Self::BadCertificate => "bad-certificate",
            Self::Alert => "alert",
            Self::TimedOut => "time-out",
            Self::Broken => "connection-lost",
            Self::Protocol => "protocol",
        }
    }

    /// The handshake hung or was reset. Some servers and firewalls do that to a large first message
    /// of the client.
    #[must_use]
    pub const fn is_silence(self) -> bool {
        matches!(self, Self::TimedOut | Self::Broken)
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::NotOffered => "the server does not offer STARTTLS",
            Self::Refused => "the server refuses STARTTLS",
            Self::NameMismatch => "the certificate is for another name",
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::UnknownIssuer => "the issuer of the certificate is not trusted",
            Self::NoTlsaMatch => "no TLSA record matches the certificate",
            Self::BadCertificate => "the certificate is not valid",
            Self::Alert => "the server ended the TLS handshake",
            Self::TimedOut => "the TLS handshake took too long",
            Self::Broken => "the connection ended during the TLS handshake",
            Self::Protocol => "the TLS handshake failed",
        }
    }

    const fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::NameMismatch
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            _ => Self::BadCertificate,
        }
    }
}

impl TlsFault {
    /// A fault without more to say.
    #[must_use]
    pub const fn new(kind: TlsFaultKind) -> Self {
        Self {
            kind,
            text: String::new(),
            certificate: None,
        }
    }

    /// What a check found wrong with a certificate.
    #[must_use]
    pub fn of_check(error: &Error, leaf: &[u8]) -> Self {
        if let Some(known) = carried(error) {
            return known.clone();
        }
        let (kind, text) = match error {
            Error::InvalidCertificate(error) => match TlsFaultKind::of_certificate(error) {
                TlsFaultKind::BadCertificate => (TlsFaultKind::BadCertificate, error.to_string()),
                kind => (kind, String::new()),
            },
            other => (TlsFaultKind::BadCertificate, other.to_string()),
        };
        Self {
            kind,
            text,
            certificate: Certificate::read(leaf),
        }
    }

    /// What a verifier returns to refuse a certificate. The driver finds the fault in it: one
    /// verifier serves many connections and can't tell them apart.
    #[must_use]
    pub fn refusal(error: &Error, leaf: &CertificateDer<'_>) -> Error {
        Self::of_check(error, leaf).into()
    }

    /// Why a handshake failed.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => TlsFaultKind::Broken,
            io::ErrorKind::TimedOut => TlsFaultKind::TimedOut,
            _ => TlsFaultKind::Protocol,
        };
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(error @ Error::InvalidCertificate(_)) => Self::of_check(error, &[]),
            Some(Error::AlertReceived(alert)) => Self {
                text: format!("{alert:?}"),
                ..Self::new(TlsFaultKind::Alert)
            },
            _ => Self {
                text: error.to_string(),
                ..Self::new(kind)
            },
        }
    }
}

/// The fault that a verifier put into its error.
fn carried(error: &Error) -> Option<&TlsFault> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref()
        }
        _ => None,
    }
}

impl From<TlsFault> for Error {
    fn from(fault: TlsFault) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        match &self.certificate {
            Some(certificate) => write!(f, " ({certificate})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TlsFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_check_have_kinds() {
        let made = rcgen::generate_simple_self_signed(["mx.test".to_owned()]).unwrap();
        let leaf = made.cert.der();
        for (error, kind, text) in [
            (
                CertificateError::NotValidForName,
                TlsFaultKind::NameMismatch,
                "the certificate is for another name (subject",
            ),
            (
                CertificateError::Expired,
                TlsFaultKind::Expired,
                "the certificate has expired (subject",
            ),
            (
                CertificateError::NotValidYet,
                TlsFaultKind::NotYetValid,
                "the certificate is not valid yet (subject",
            ),
            (
                CertificateError::UnknownIssuer,
                TlsFaultKind::UnknownIssuer,
                "the issuer of the certificate is not trusted (subject",
            ),
            (
                CertificateError::Revoked,
                TlsFaultKind::BadCertificate,
                "the certificate is not valid: ",
            ),
        ] {
            let refusal = TlsFault::refusal(&Error::InvalidCertificate(error), leaf);
            let fault =
                TlsFault::of_handshake(&io::Error::new(io::ErrorKind::InvalidData, refusal));
            assert_eq!(fault.kind, kind);
            assert!(fault.to_string().starts_with(text), "{fault}");
            assert_eq!(fault.certificate.unwrap().names, ["mx.test"]);
        }
    }

    #[test]
    fn other_ends_of_a_handshake_have_kinds() {
        use rustls::AlertDescription;
        for (error, kind) in [
            (io::ErrorKind::UnexpectedEof.into(), TlsFaultKind::Broken),
            (io::ErrorKind::ConnectionReset.into(), TlsFaultKind::Broken),
            (io::ErrorKind::TimedOut.into(), TlsFaultKind::TimedOut),
            (
                io::Error::other(Error::AlertReceived(AlertDescription::HandshakeFailure)),
                TlsFaultKind::Alert,
            ),
            (
                io::Error::other(Error::DecryptError),
                TlsFaultKind::Protocol,
            ),
        ] {
            let fault = TlsFault::of_handshake(&error);
            assert_eq!((fault.kind, fault.certificate), (kind, None), "{error}");
        }
    }
}
