//! The certificates of a process: keys cost time, so each is made once.

use std::sync::{Arc, LazyLock};

use postrider_dns::Tlsa;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use sha2::{Digest, Sha256};

/// The certificate of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From the CA that we trust, for all names below `pkix.test`.
    Trusted,
    /// The same, but over.
    Expired,
    /// From nobody.
    SelfSigned,
}

/// The names that certificates of the trusted CA are for.
const NAMES: &str = "*.pkix.test";

struct Made {
    ca: Certificate,
    issuer: Issuer<'static, KeyPair>,
    trusted: Served,
    expired: Served,
    self_signed: Served,
}

/// A certificate with the server that shows it.
struct Served {
    der: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

static MADE: LazyLock<Made> = LazyLock::new(Made::new);

fn params(names: &[String], until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(names.to_vec()).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

impl Made {
    fn new() -> Self {
        let mut ca = params(&[], 2045);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = ca.self_signed(&key).unwrap();
        let issuer = Issuer::new(ca, key);
        let names = [NAMES.to_owned()];
        let signed = |until| {
            let key = KeyPair::generate().unwrap();
            let made = params(&names, until).signed_by(&key, &issuer).unwrap();
            Served::new(&[&made, &certificate], &key)
        };
        let (trusted, expired) = (signed(2040), signed(2025));
        let key = KeyPair::generate().unwrap();
        let made = params(&["self.test".to_owned()], 2040).self_signed(&key);
        let self_signed = Served::new(&[&made.unwrap()], &key);
        Self {
            ca: certificate,
            issuer,
            trusted,
            expired,
            self_signed,
        }
    }

    const fn of(&self, kind: Kind) -> &Served {
        match kind {
            Kind::Trusted => &self.trusted,
            Kind::Expired => &self.expired,
            Kind::SelfSigned => &self.self_signed,
        }
    }
}

impl Served {
    fn new(chain: &[&Certificate], key: &KeyPair) -> Self {
        let der: Vec<_> = chain.iter().map(|it| it.der().clone()).collect();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(der.clone(), key)
            .unwrap();
        Self {
            der: der.into_iter().next().unwrap(),
            config: Arc::new(config),
        }
    }
}

/// The certificate of the trusted CA, in PEM.
pub(crate) fn ca_pem() -> String {
    MADE.ca.pem()
}

/// The TLS of a server with a certificate of this kind.
pub(crate) fn server(kind: Kind) -> Arc<ServerConfig> {
    Arc::clone(&MADE.of(kind).config)
}

/// The TLS of a server with a certificate from the trusted CA for these names.
pub(crate) fn server_for(names: &[String]) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let made = params(names, 2040).signed_by(&key, &MADE.issuer).unwrap();
    Served::new(&[&made], &key).config
}

/// A TLSA record (RFC 6698) that names the certificate of a kind itself.
pub(crate) fn end_entity(kind: Kind) -> Tlsa {
    tlsa(3, &MADE.of(kind).der)
}

/// A TLSA record that names the CA.
pub(crate) fn trust_anchor() -> Tlsa {
    tlsa(2, MADE.ca.der())
}

/// A TLSA record that no certificate matches.
pub(crate) fn nobody() -> Tlsa {
    tlsa(3, b"nobody")
}

fn tlsa(usage: u8, der: &[u8]) -> Tlsa {
    Tlsa {
        usage,
        selector: 0,
        matching: 1,
        data: Sha256::digest(der).to_vec(),
    }
}
