//! TLS connections that go on whatever the certificate is, and what is to be said of it.

use std::sync::Arc;

use postrider_config::Static;
use postrider_smtp::{
    Certificate,
    client::{AnyCertificate, TlsFault},
};
use rustls::{
    ClientConfig,
    client::danger::ServerCertVerifier,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// The seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// The CAs that are trusted: the system's, and those of `tls.ca_files`.
pub(in super::super) struct Trust {
    verifier: Arc<dyn ServerCertVerifier>,
    any: Arc<ClientConfig>,
    verifying: Arc<ClientConfig>,
}

/// The certificate that a server showed.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// None if it can't be read.
    facts: Option<Certificate>,
    /// Whether a trusted CA issued it for the name. If not, why.
    pub(super) trusted: Result<(), String>,
}

impl Trust {
    pub(in super::super) fn new(statics: &Static) -> Result<Self, String> {
        let verifier = postrider_queue::certificate_verifier(statics);
        let verifying = postrider_queue::https::tls_config(statics);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let any = builder
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
            .with_no_client_auth();
        Ok(Self {
            verifier: verifier.map_err(|error| error.to_string())?,
            verifying: Arc::new(verifying.map_err(|error| error.to_string())?),
            any: Arc::new(any),
        })
    }

    /// The TLS configuration of requests over HTTPS. It takes trusted certificates only.
    pub(super) fn verifying(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.verifying)
    }

    /// The TLS configuration of connections that take any certificate.
    pub(super) fn any(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.any)
    }

    /// What is to be said of the certificates of a connection, the server's own first. None if
    /// there are none.
    pub(super) fn judge(
        &self,
        certificates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Option<Shown> {
        let (leaf, others) = certificates.split_first()?;
        let verified = self
            .verifier
            .verify_server_cert(leaf, others, name, &[], UnixTime::now());
        Some(Shown {
            facts: Certificate::read(leaf),
            trusted: verified
                .map(drop)
                .map_err(|error| TlsFault::of_check(&error, leaf).to_string()),
        })
    }
}

impl Shown {
    /// The days until it ends. None if it can't be read.
    pub(super) fn days_left(&self, now: i64) -> Option<i64> {
        let end = self.facts.as_ref()?.not_after;
        Some(end.saturating_sub(now).div_euclid(DAY))
    }

    /// The SHA-256 digest of its public key. None if it can't be read.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        Some(self.facts.as_ref()?.spki_sha256)
    }
}
