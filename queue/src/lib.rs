//! Outgoing mail: the way of a message from its submission to its end.
//!
//! In reading order:
//!
//! | module | its job |
//! |---|---|
//! | `add`, `limits` | the way into the queue for what accounts send, and how much they may send |
//! | `passed` | mail that comes in and goes on, and reports to senders elsewhere |
//! | [`header`], [`extra`] | the header section of a message, and the application's data in it |
//! | `run` | the loop that claims due messages, and its workers |
//! | `deadline` | the time and the priority that a submitter asked for |
//! | `schedule` | what may begin and when a message is tried again, as pure functions |
//! | `sites` | the sites that are known, and what administrators want for them |
//! | `route`, `next_hop` | where a message goes: the transport, then the plan with its site |
//! | `tls` | the TLS that a connection needs, and the checks of certificates |
//! | [`mta_sts`], [`https`] | the policies of domains about TLS, and requests over HTTPS |
//! | `deliver`, `dkim`, [`dial`] | attempts over the network, signatures, connections |
//! | `source`, `socks` | the addresses of ours that connections come from, and proxies |
//! | `mailboxes` | mail for our own domains |
//! | `tracking` | links and an image that tell of openings and clicks |
//! | `local`, [`simulate`] | the delivery of localserve |
//! | `settle`, `judge`, `suppress` | what the result of an attempt means and changes |
//! | `observed`, `traces` | what people see of messages: lines of the log, counts, traces |
//! | `returned` | mail that reports on messages sent earlier |
//! | `reports` | reports to other domains: about TLS, and about DMARC |
//! | `operate`, `explain`, [`check`] | what administrators do and ask |
//!
//! Other crates have the protocol (`postrider-smtp`), the disk (`postrider-store`), the DNS
//! questions (`postrider-dns`) and the calls of webhooks (`postrider-webhook`). Nothing here reads
//! a clock: the time comes from a [`postrider_store::Clock`].

mod add;
mod again;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
pub mod check;
mod deadline;
mod deliver;
pub mod dial;
mod dkim;
mod explain;
pub mod extra;
mod faults;
pub mod header;
mod held;
pub mod https;
mod judge;
mod limits;
mod local;
mod mailboxes;
pub mod mta_sts;
mod next_hop;
mod observed;
mod operate;
mod passed;
mod private;
mod reports;
mod returned;
mod route;
mod run;
mod schedule;
mod settle;
pub mod simulate;
mod sites;
mod socks;
mod source;
mod suppress;
mod tls;
mod told;
mod traces;
mod tracking;

#[cfg(test)]
#[path = "../../tests/it/support/https.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::new_without_default,
    reason = "the whole-server tests share it"
)]
mod https_host;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::AtomicBool},
};

use postrider_config::{Live, Static};
use postrider_dns::Resolver;
use postrider_observe::{Metrics, Tracer};
use postrider_store::{Clock, Store};
use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::{Notify, Semaphore};

use check::Checks;
use deliver::{Addresses, Families, Peer, Signatures};
use faults::Faults;
use mta_sts::Policies;
use next_hop::{Ours, Plans};
use reports::Gathered;
use run::Flow;
use schedule::Lanes;
use sites::Sites;
use socks::Reached;
use source::{Off, names::Names};
use tls::{Check, Configs, Habits, KeyShares};

pub use add::{
    AddError, DoOnce, MakeAnswer, Named, Staged, Submission, Submitted, SubmittedRecipient,
};
pub use dial::{BindError, Dialer, Dialing, SocketDialing, TcpDialer};
pub use explain::{describe, explain_retired};
pub use held::{AccountHeld, AccountsAlone};
pub use limits::{Allowance, LimitError};
pub use local::{Foreseen, is_in_mailbox, sent_as};
pub use mailboxes::{Mailboxes, Taken, TakenWay, Taking};
pub use next_hop::interfaces;
pub use operate::{ChangedCount, EndAs, EndedCount, OperateError};
pub use passed::{JUNK_FIELD, Passed};
pub use reports::{DmarcSeen, ReportPreview, ReportUri, report_range};
pub use returned::{Arrived, READ_MAX, ReturnEffects};
pub use schedule::{Counts, LimitedBy, SiteState};
pub use settle::Outlook;
pub use sites::{
    SiteAddress, SiteError, SiteHost, SiteOrderError, SiteSource, SiteView, SiteWaiting,
    SourceState,
};
pub use suppress::base_address;
pub use tls::certificate_verifier;
pub use told::{Telling, Tidings};
pub use tracking::{TRACK, Track, TrackedLink, TrackingKey};

/// The place of delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// At the mail servers of the recipients, or in the mailboxes of our own domains.
    Remote,
    /// In the sender's own mailbox: localserve.
    Local,
}

impl Queue {
    /// Takes the traces of attempts, and of the calls and sessions that add messages.
    #[must_use]
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Whether nothing leaves this machine: localserve without `--deliver`.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.delivery == DeliveryMode::Local
    }
}

/// The parts of a queue.
pub struct QueueParts {
    /// The store.
    pub store: Store,
    /// Takes the traces of attempts.
    pub tracer: Tracer,
    /// The dynamic configuration as it is now.
    pub config: Live,
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Answers DNS questions.
    pub resolver: Arc<dyn Resolver>,
    /// Makes connections.
    pub dialer: Arc<dyn Dialer>,
    /// The place of delivery.
    pub delivery: DeliveryMode,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Randomness for ids and for the spread of retries.
    pub rng: StdRng,
}

/// The outgoing messages. It takes them and delivers them.
pub struct Queue {
    store: Store,
    tracer: Tracer,
    config: Live,
    statics: Arc<Static>,
    clock: Arc<dyn Clock>,
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    delivery: DeliveryMode,
    metrics: Arc<Metrics>,
    rng: Mutex<StdRng>,
    signatures: Signatures,
    plans: Mutex<Plans>,
    /// This server as an MX host.
    ours: Ours,
    /// None: MTA-STS does not count.
    policies: Option<Arc<Policies>>,
    addresses: Arc<Addresses>,
    /// The addresses of ours that can't be used.
    off: Off,
    /// The names of our IPv6 addresses.
    names: Names,
    /// The hosts that proxies reached.
    reached: Reached,
    /// Which family of addresses goes first.
    families: Families,
    sites: Arc<Sites>,
    /// One order of an administrator is changed at a time.
    ordering: tokio::sync::Mutex<()>,
    /// The places of connections that wait long for a greeting.
    slow: Semaphore,
    faults: Faults,
    /// What each lane of due messages waits for.
    lanes: Mutex<Lanes>,
    /// What the loop tells its workers.
    flow: Flow,
    /// The configuration was replaced.
    replaced: Notify,
    /// When the loop last looked, `queue.max_concurrency` was used up.
    used_up: AtomicBool,
    /// The messages that submissions are about to add, for the limits of accounts.
    reserved: Mutex<limits::Reserved>,
    /// The configurations of TLS.
    tls: Configs,
    /// The addresses where TLS works only in part.
    habits: Habits<Peer>,
    /// The counts for reports to other domains.
    gathered: Gathered,
    /// It was told that reports are not signed, and so not sent.
    unsigned_told: AtomicBool,
    checks: Checks,
    /// Who works on which account.
    accounts: held::Accounts,
    /// Where mail for our own domains goes.
    mailboxes: OnceLock<Weak<dyn Mailboxes>>,
    /// What signs tracked links.
    tracking: OnceLock<TrackingKey>,
}

/// Why no queue can be made.
#[derive(Debug, thiserror::Error)]
pub enum QueueSetupError {
    /// A file of `tls.ca_files` can't be used.
    #[error("tls.ca_files: {path}: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// The error.
        reason: String,
    },
    /// The CAs of the system can't be used.
    #[error("failed to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Queue {
    /// A queue of these parts.
    ///
    /// # Errors
    /// If the trusted CAs can't be loaded.
    pub fn new(parts: QueueParts) -> Result<Self, QueueSetupError> {
        let tls = Configs::new(&parts.statics, Arc::clone(&parts.clock))?;
        let plans = Plans::new(&parts.statics);
        let ours = Ours::new(&parts.statics, interfaces);
        let delivery = &parts.statics.delivery;
        let addresses = Addresses::new(delivery.connections_per_address);
        let slow = Semaphore::new(delivery.slow_connections);
        let counts = delivery.mta_sts && parts.delivery == DeliveryMode::Remote;
        let policies = counts.then(|| {
            let tls = https::for_https(&tls.of(Check::Pkix, KeyShares::PostQuantum));
            Policies::new(mta_sts::Parts {
                store: parts.store.clone(),
                clock: Arc::clone(&parts.clock),
                resolver: Arc::clone(&parts.resolver),
                dialer: Arc::clone(&parts.dialer),
                tls: Arc::new(tls),
                only_public: delivery.forbid_private_addresses,
            })
        });
        let sites = Sites::new(&parts.statics.queue, source::matter(&parts.statics));
        Ok(Self {
            store: parts.store,
            tracer: parts.tracer,
            config: parts.config,
            statics: parts.statics,
            clock: parts.clock,
            resolver: parts.resolver,
            dialer: parts.dialer,
            delivery: parts.delivery,
            metrics: parts.metrics,
            rng: Mutex::new(parts.rng),
            signatures: Signatures::default(),
            plans: Mutex::new(plans),
            ours,
            policies,
            addresses: Arc::new(addresses),
            off: Off::default(),
            names: Names::default(),
            reached: Reached::default(),
            families: Families::default(),
            sites: Arc::new(sites),
            ordering: tokio::sync::Mutex::default(),
            slow,
            faults: Faults::default(),
            lanes: Mutex::default(),
            flow: Flow::default(),
            replaced: Notify::new(),
            used_up: AtomicBool::new(false),
            reserved: Mutex::default(),
            tls,
            habits: Habits::new(),
            gathered: Gathered::default(),
            unsigned_told: AtomicBool::new(false),
            checks: Checks::default(),
            accounts: held::Accounts::default(),
            mailboxes: OnceLock::new(),
            tracking: OnceLock::new(),
        })
    }

    /// Randomness. The lock is held for a moment, never over a wait.
    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plans. The lock is held for a moment, never over a wait.
    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserved(&self) -> MutexGuard<'_, limits::Reserved> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A generator of the caller's own, for use over waits.
    fn fork_rng(&self) -> StdRng {
        StdRng::from_rng(&mut *self.rng())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}
