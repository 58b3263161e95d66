//! The configurations of rustls for connections to hosts.
//!
//! A resumed session skips the check of the certificate. So rustls resumes a session only under the
//! same verifier object, and each check has one verifier for as long as the queue lives. There is no
//! early data: a copy of it could be sent again.

use std::{fmt, sync::Arc};

use postrider_config::Static;
use postrider_smtp::client::{AnyCertificate, TlsFault, TlsFaultKind};
use postrider_store::Clock;
use rustls::{
    ClientConfig, NamedGroup,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    time_provider::TimeProvider,
};

use super::{
    Check,
    verifiers::{certificate_verifier, provider},
};
use crate::QueueSetupError;

/// How many tickets of sessions a check keeps. A host has up to eight.
const TICKETS_MAX: usize = 2048;

/// What the client offers for the exchange of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyShares {
    /// A post-quantum one too. The first message of the client then fills two segments, which some
    /// hosts and firewalls can't take.
    PostQuantum,
    /// Only those of old.
    Classical,
}

/// The configurations, and the check of certificates after a handshake.
pub(crate) struct Configs {
    lenient: Configured,
    encrypted: Configured,
    pkix: Configured,
    verifier: Arc<dyn ServerCertVerifier>,
    clock: Arc<dyn Clock>,
}

/// A check with either choice of key shares. They share sessions.
struct Configured {
    post_quantum: Arc<ClientConfig>,
    classical: Arc<ClientConfig>,
}

impl Configs {
    /// # Errors
    /// If the trusted CAs can't be loaded.
    pub(crate) fn new(statics: &Static, clock: Arc<dyn Clock>) -> Result<Self, QueueSetupError> {
        let verifier = certificate_verifier(statics)?;
        let any = AnyCertificate::new(provider());
        let lenient = AnyCertificate::lenient(provider());
        Ok(Self {
            lenient: Configured::new(Arc::new(lenient), &clock)?,
            encrypted: Configured::new(Arc::new(any), &clock)?,
            pkix: Configured::new(Arc::clone(&verifier), &clock)?,
            verifier,
            clock,
        })
    }

    /// The configuration for a check.
    pub(crate) fn of(&self, check: Check, shares: KeyShares) -> Arc<ClientConfig> {
        let configured = match check {
            Check::Lenient => &self.lenient,
            Check::Encrypted => &self.encrypted,
            Check::Pkix | Check::Dane => &self.pkix,
        };
        Arc::clone(match shares {
            KeyShares::PostQuantum => &configured.post_quantum,
            KeyShares::Classical => &configured.classical,
        })
    }

    /// What the check by the trusted CAs says of the certificates of a connection, the server's own
    /// first.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn check_pkix(
        &self,
        certificates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), Box<TlsFault>> {
        let [leaf, others @ ..] = certificates else {
            return Err(TlsFault::new(TlsFaultKind::BadCertificate).into());
        };
        let now = unix_time(&*self.clock);
        let checked = self
            .verifier
            .verify_server_cert(leaf, others, name, &[], now);
        checked
            .map(drop)
            .map_err(|error| TlsFault::of_check(&error, leaf).into())
    }
}

impl Configured {
    fn new(
        verifier: Arc<dyn ServerCertVerifier>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, rustls::Error> {
        let resumption = Resumption::in_memory_sessions(TICKETS_MAX);
        let made = |provider: Arc<CryptoProvider>| -> Result<Arc<ClientConfig>, rustls::Error> {
            let time = Arc::new(QueueTime(Arc::clone(clock)));
            let builder = ClientConfig::builder_with_details(provider, time);
            let mut config = builder
                .with_protocol_versions(rustls::ALL_VERSIONS)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(&verifier))
                .with_no_client_auth();
            config.resumption = resumption.clone();
            Ok(Arc::new(config))
        };
        let mut classical = CryptoProvider::clone(&provider());
        classical.kx_groups.retain(|group| {
            matches!(
                group.name(),
                NamedGroup::X25519 | NamedGroup::secp256r1 | NamedGroup::secp384r1
            )
        });
        Ok(Self {
            post_quantum: made(provider())?,
            classical: made(Arc::new(classical))?,
        })
    }
}

/// The clock of the queue, for rustls.
struct QueueTime(Arc<dyn Clock>);

impl TimeProvider for QueueTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(&*self.0))
    }
}

impl fmt::Debug for QueueTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueTime")
    }
}

fn unix_time(clock: &dyn Clock) -> UnixTime {
    let micros = u64::try_from(clock.now().0).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_micros(micros))
}
