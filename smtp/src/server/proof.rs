//! The certificate that the server shows in a handshake, which some logins are bound to.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    ServerConfig, ServerConnection,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::sasl::TlsProof;

/// Passes the certificate of another resolver on, and remembers it: rustls does not tell which
/// certificate a connection has.
pub struct Shown {
    resolver: Arc<dyn ResolvesServerCert>,
    key: OnceLock<Arc<CertifiedKey>>,
}

impl Shown {
    /// The configuration for one connection, and the memory of its certificate.
    #[must_use]
    pub fn beside(config: &ServerConfig) -> (Arc<ServerConfig>, Arc<Self>) {
        let shown = Arc::new(Self {
            resolver: Arc::clone(&config.cert_resolver),
            key: OnceLock::new(),
        });
        let mut config = config.clone();
        config.cert_resolver = Arc::<Self>::clone(&shown);
        (Arc::new(config), shown)
    }

    /// What the connection proves after its handshake.
    #[must_use]
    pub fn proof(&self, connection: &ServerConnection) -> TlsProof {
        let certificate = self.key.get().and_then(|key| key.cert.first());
        TlsProof::of(connection, certificate.map(AsRef::as_ref))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.resolver.resolve(hello)?;
        Some(Arc::clone(self.key.get_or_init(|| key)))
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}
