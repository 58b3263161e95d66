//! The TLS handshakes of clients, counted.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use postrider_observe::{
    Metrics,
    metrics::{Success, TlsDirection, TlsFailure, TlsVersion},
};
use postrider_smtp::HandshakeFailure;
use rustls::{CertificateError, Error, PeerIncompatible, ProtocolVersion};
use tracing::debug;

/// Counts the handshakes of clients since the start of the server, and the failed ones by kind.
#[derive(Debug, Default)]
pub struct HandshakeFailures {
    kinds: [AtomicU64; HandshakeFailure::ALL.len()],
    metrics: Arc<Metrics>,
}

impl HandshakeFailures {
    /// Counts in these metrics too.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            ..Self::default()
        }
    }

    /// Counts a failure, and logs it with the number of its kind so far. That number tells a fault
    /// of ours, which all clients meet, from the few that scanners leave.
    pub(crate) fn tell(&self, remote: SocketAddr, error: &io::Error) {
        let labels = (TlsDirection::In, TlsVersion::None, Success::Failed);
        self.metrics.tls_handshakes_total.with(labels).inc();
        let labels = (TlsDirection::In, reason(error));
        self.metrics.tls_failures_total.with(labels).inc();
        let kind = HandshakeFailure::of(error);
        if let Some(counter) = self.counter(kind) {
            let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            debug!(%remote, kind = kind.as_str(), count, %error, "TLS handshake failed");
        }
    }

    /// Counts a handshake that succeeded.
    pub(crate) fn succeeded(&self, version: Option<ProtocolVersion>) {
        let version = match version {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            _ => TlsVersion::None,
        };
        let labels = (TlsDirection::In, version, Success::Ok);
        self.metrics.tls_handshakes_total.with(labels).inc();
    }

    /// The number of failures of this kind.
    #[must_use]
    pub fn count(&self, kind: HandshakeFailure) -> u64 {
        let counter = self.counter(kind);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn counter(&self, kind: HandshakeFailure) -> Option<&AtomicU64> {
        let place = HandshakeFailure::ALL.iter().position(|it| *it == kind)?;
        self.kinds.get(place)
    }
}

/// The reason for the metrics, which is finer than the kind in the log.
fn reason(error: &io::Error) -> TlsFailure {
    match HandshakeFailure::of(error) {
        HandshakeFailure::Alert => return TlsFailure::Alert,
        HandshakeFailure::NotTls => return TlsFailure::NotTls,
        HandshakeFailure::EndOfStream => return TlsFailure::Eof,
        HandshakeFailure::Timeout => return TlsFailure::Timeout,
        HandshakeFailure::Refused => {}
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::PeerIncompatible(incompatible)) => match incompatible {
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon => TlsFailure::Cipher,
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13 => TlsFailure::Version,
            _ => TlsFailure::Other,
        },
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => TlsFailure::Name,
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => {
            TlsFailure::Certificate
        }
        _ => TlsFailure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_reason() {
        let tls = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, expected) in [
            (io::ErrorKind::UnexpectedEof.into(), TlsFailure::Eof),
            (io::ErrorKind::TimedOut.into(), TlsFailure::Timeout),
            (
                tls(PeerIncompatible::NoCipherSuitesInCommon.into()),
                TlsFailure::Cipher,
            ),
            (
                tls(PeerIncompatible::Tls12NotOfferedOrEnabled.into()),
                TlsFailure::Version,
            ),
            (
                tls(CertificateError::NotValidForName.into()),
                TlsFailure::Name,
            ),
            (
                tls(CertificateError::UnknownIssuer.into()),
                TlsFailure::Certificate,
            ),
            (
                tls(rustls::InvalidMessage::InvalidContentType.into()),
                TlsFailure::NotTls,
            ),
            (tls(Error::HandshakeNotComplete), TlsFailure::Other),
        ] {
            let failures = HandshakeFailures::default();
            failures.tell("192.0.2.1:1".parse().unwrap(), &error);
            let labels = (TlsDirection::In, expected);
            let counted = failures.metrics.tls_failures_total.with(labels).get();
            assert_eq!(counted, 1, "{error}");
        }
    }
}
