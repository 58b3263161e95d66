//! A TLS client that trusts every certificate. These tests are about mail, not about certificates.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::client::Stream;

#[derive(Debug)]
struct AnyCertificate {
    provider: CryptoProvider,
    /// The library can't check signatures by a certificate with the proof of tls-alpn-01: it
    /// refuses critical extensions that it does not know.
    checks_signatures: bool,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.checks_signatures {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.checks_signatures {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The parts of a client's hello that a test chooses.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// The name of the server. None: the client sends no name.
    pub name: Option<&'a str>,
    /// The protocols.
    pub alpn: &'a [&'a [u8]],
}

/// Does a handshake over `stream`.
pub async fn connect(stream: Box<dyn Stream>) -> TlsStream<Box<dyn Stream>> {
    let hello = Hello {
        name: Some("localhost"),
        alpn: &[],
    };
    handshake(stream, hello).await.unwrap()
}

/// Does a handshake over `stream` with this hello. The error may be an alert of the server.
pub async fn handshake(
    stream: Box<dyn Stream>,
    hello: Hello<'_>,
) -> std::io::Result<TlsStream<Box<dyn Stream>>> {
    let name = hello.name.unwrap_or("localhost").to_owned();
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(client_config(hello))
        .connect(name, stream)
        .await
}

/// The configuration of a client that trusts every certificate. Connections with the same
/// configuration resume sessions.
pub fn client_config(hello: Hello<'_>) -> Arc<ClientConfig> {
    config_of(hello, rustls::DEFAULT_VERSIONS)
}

/// As [`client_config`], with these versions of TLS.
pub fn config_of(
    hello: Hello<'_>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let provider = aws_lc_rs::default_provider();
    let verifier = AnyCertificate {
        provider: provider.clone(),
        checks_signatures: hello.alpn.is_empty(),
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = hello.alpn.iter().map(|it| it.to_vec()).collect();
    config.enable_sni = hello.name.is_some();
    Arc::new(config)
}
