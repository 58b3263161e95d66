//! What becomes of an outgoing message.
//!
//! In reading order:
//! - [`add`]: the one way into the queue. [`extra`]: data that comes in header fields. [`header`]: what is known of a text, and the fields put on top of it.
//! - `schedule`: what may begin and when it is tried again, as pure functions; [`run`]: the driver around them.
//! - `route`, `next_hop`, [`dial`]: where it goes. `dkim`: its signatures. `deliver`: attempts over the network.
//! - [`local`] and [`simulate`]: what localserve does in their place.
//! - `settle`: what an attempt's result changes, in one place. `suppress`: which failures end all mail to an address.
//! - `returned`: mail that tells of messages sent earlier. `operate`, `explain`: what administrators do, and ask.
//!
//! Not here: the protocol (`postrider-smtp`), what is on disk (`postrider-store`), the calling of webhooks
//! (`postrider-webhook`). Nothing here reads a clock: time comes from a [`postrider_store::Clock`].

mod add;
mod deliver;
pub mod dial;
mod dkim;
mod explain;
pub mod extra;
pub mod header;
mod limits;
mod local;
mod next_hop;
mod operate;
mod returned;
mod route;
mod run;
mod schedule;
mod settle;
pub mod simulate;
mod suppress;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use postrider_config::{Live, Static};
use postrider_dns::Resolver;
use postrider_smtp::client::opportunistic_config;
use postrider_store::{Clock, Store};
use rand::{SeedableRng, rngs::StdRng};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;

use deliver::Signatures;
use next_hop::Plans;

pub use add::{AddError, DoOnce, MakeAnswer, Staged, Submission, Submitted, SubmittedRecipient};
pub use dial::{Dialer, Dialing, TcpDialer};
pub use explain::{describe, explain_retired};
pub use limits::{Allowance, LimitError};
pub use operate::{EndAs, EndedCount, OperateError};
pub use returned::{Arrived, READ_MAX, ReturnEffects};
pub use suppress::base_address;

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// To the recipients' mail servers.
    Remote,
    /// To the sender's own mailbox: localserve.
    Local,
}

/// What a queue is made of.
pub struct QueueParts {
    /// Where it is kept.
    pub store: Store,
    /// The dynamic configuration as it is now.
    pub config: Live,
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// DNS.
    pub resolver: Arc<dyn Resolver>,
    /// How connections are made.
    pub dialer: Arc<dyn Dialer>,
    /// Where messages go.
    pub delivery: DeliveryMode,
    /// For ids, and for the spread of retries.
    pub rng: StdRng,
}

/// The outgoing messages: taking them, and delivering them.
pub struct Queue {
    store: Store,
    config: Live,
    statics: Arc<Static>,
    clock: Arc<dyn Clock>,
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    delivery: DeliveryMode,
    rng: Mutex<StdRng>,
    signatures: Signatures,
    plans: Mutex<Plans>,
    /// As of the last look at what is due.
    limits: Mutex<explain::UsedUp>,
    /// What is allowed by the limits of accounts, and not added yet.
    reserved: Mutex<limits::Reserved>,
    /// Trusts the system's CAs and the configured ones.
    verifying_tls: Arc<ClientConfig>,
    /// Trusts anybody (RFC 7435).
    any_tls: Arc<ClientConfig>,
}

/// Why there can be no queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueSetupError {
    /// A file of `tls.ca_files`.
    #[error("tls.ca_files: {path}: {reason}")]
    CaFile {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The system's trust in CAs.
    #[error("failed to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Queue {
    /// A queue of these parts.
    ///
    /// # Errors
    /// If the CAs that are trusted can't be loaded.
    pub fn new(parts: QueueParts) -> Result<Self, QueueSetupError> {
        let verifying_tls = Arc::new(verifying_config(&parts.statics)?);
        let plans = Plans::new(&parts.statics);
        Ok(Self {
            store: parts.store,
            config: parts.config,
            statics: parts.statics,
            clock: parts.clock,
            resolver: parts.resolver,
            dialer: parts.dialer,
            delivery: parts.delivery,
            rng: Mutex::new(parts.rng),
            signatures: Signatures::default(),
            plans: Mutex::new(plans),
            limits: Mutex::default(),
            reserved: Mutex::default(),
            verifying_tls,
            any_tls: Arc::new(opportunistic_config()),
        })
    }

    /// Randomness; held for a moment, never over a wait.
    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> MutexGuard<'_, explain::UsedUp> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plans; held for a moment, never over a wait.
    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserved(&self) -> MutexGuard<'_, limits::Reserved> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Randomness of one's own, for use over waits.
    fn fork_rng(&self) -> StdRng {
        StdRng::from_rng(&mut *self.rng())
    }
}

fn verifying_config(statics: &Static) -> Result<ClientConfig, QueueSetupError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    let mut extra = Vec::new();
    for path in &statics.tls.ca_files {
        let failed = |reason: String| QueueSetupError::CaFile {
            path: path.display().to_string(),
            reason,
        };
        let certificates =
            CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        for certificate in certificates {
            extra.push(certificate.map_err(|error| failed(error.to_string()))?);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)?;
    if extra.is_empty() {
        return Ok(builder.with_platform_verifier()?.with_no_client_auth());
    }
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}
