//! The TLS of a client: a verifier that accepts any certificate, and the stream.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::Link;
use crate::{TlsInfo, sasl::exporter};

/// Accepts any certificate, even an invalid one, for TLS that encrypts without authentication (RFC
/// 7435). The signature of the handshake proves that the server has the certificate's key.
#[derive(Debug)]
pub struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    lenient: bool,
}

impl AnyCertificate {
    /// For TLS that a rule demands.
    #[must_use]
    pub const fn new(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            lenient: false,
        }
    }

    /// For TLS where the other choice is none: a certificate that webpki can't read, like one of
    /// version 1, is accepted without a check of the signature.
    #[must_use]
    pub const fn lenient(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            lenient: true,
        }
    }

    /// Otherwise old servers would get the mail in clear.
    fn forgive(
        &self,
        result: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match result {
            Err(Error::InvalidCertificate(
                CertificateError::BadEncoding | CertificateError::Other(_),
            )) if self.lenient => Ok(HandshakeSignatureValid::assertion()),
            result => result,
        }
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.forgive(verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.forgive(verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub(super) enum Stream {
    /// The handshake has the stream.
    Upgrading,
    Plain(Link),
    Tls(Box<TlsStream<Link>>),
}

impl Stream {
    /// The address of ours that the stream comes from, over TCP.
    pub(super) fn local_ip(&self) -> Option<IpAddr> {
        match self {
            Self::Plain(link) => link.local_ip(),
            Self::Tls(stream) => stream.get_ref().0.local_ip(),
            Self::Upgrading => None,
        }
    }

    /// The TLS of the stream. None in clear.
    pub(super) fn info(&self) -> Option<TlsInfo> {
        match self {
            Self::Tls(stream) => Some(TlsInfo::of(stream.get_ref().1)),
            Self::Plain(_) | Self::Upgrading => None,
        }
    }

    /// The certificates of the server, its own first.
    pub(super) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        let certificates = match self {
            Self::Tls(stream) => stream.get_ref().1.peer_certificates(),
            Self::Plain(_) | Self::Upgrading => None,
        };
        certificates.unwrap_or_default()
    }

    /// The tls-exporter value of the stream (RFC 9266). None in clear, and under TLS 1.2.
    pub(super) fn channel(&self) -> Option<[u8; 32]> {
        match self {
            Self::Tls(stream) => exporter(stream.get_ref().1),
            Self::Plain(_) | Self::Upgrading => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Upgrading => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Upgrading => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Upgrading => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Upgrading => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
