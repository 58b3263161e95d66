//! The servers that are asked, one question about one name at a time.

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{
        DnsHandle, NetError, RetryDnsHandle, dnssec::DnssecDnsHandle,
        runtime::TokioRuntimeProvider, xfer::FirstAnswer,
    },
    proto::{
        dnssec::TrustAnchors,
        op::{DnsRequestOptions, Query},
        rr::{Name, RecordType as WireType},
    },
    system_conf::read_system_conf,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

use postrider_observe::Metrics;

use super::{
    HickorySetupError,
    chain::{self, Response},
    counted::Counted,
};
use crate::{DnsError, places::ASKED_MAX};

/// How many questions one TCP connection to a server takes. Beyond, the crate counts it as broken,
/// and makes another one. All questions of all callers may be there at once, as with a server that
/// cuts off each answer over UDP, and validation asks several questions for one.
const PER_CONNECTION: usize = 16 * ASKED_MAX;
/// How many proofs validation remembers: each is that of the records of one name and type. The
/// crate's own limit is a million of them, which is some 100 MB.
const PROOFS_MAX: usize = 20_000;

type Servers = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// Asks servers.
pub(super) struct Upstream {
    servers: Asked,
    options: DnsRequestOptions,
    /// The time that a server has for an answer.
    patience: Duration,
    metrics: Arc<Metrics>,
}

enum Asked {
    Plain(Servers),
    Validating(Box<DnssecDnsHandle<Servers>>),
}

/// What the servers are to do.
pub(super) enum Kind {
    /// Find the answer.
    Recursive,
    /// Find the answer, and pass on what validates it with these keys.
    Validated(Arc<TrustAnchors>),
    /// Say what they know themselves.
    Authoritative,
}

impl Upstream {
    /// Asks these servers; those of the system, if there are none. They get half of `timeout`, and
    /// the same again.
    pub(super) fn new(
        servers: &[SocketAddr],
        timeout: Duration,
        kind: Kind,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, HickorySetupError> {
        let failed = |error: NetError| HickorySetupError::System(error.to_string());
        let servers = match servers {
            [] => {
                let (config, _) = read_system_conf().map_err(failed)?;
                config.name_servers().to_vec()
            }
            servers => servers.iter().map(name_server).collect(),
        };
        let validate = matches!(kind, Kind::Validated(_));
        let mut options = ResolverOpts::default();
        // The time of one try, so that a second one is within the time limit: `attempts` are those
        // after the first.
        let patience = timeout / 2;
        options.timeout = patience;
        options.attempts = 1;
        options.max_active_requests = PER_CONNECTION;
        options.validate = validate;
        let mut asking = DnsRequestOptions::default();
        asking.recursion_desired = !matches!(kind, Kind::Authoritative);
        asking.use_edns = options.edns0;
        asking.edns_payload_len = options.edns_payload_len;
        asking.edns_set_dnssec_ok = validate;
        let attempts = options.attempts;
        let context = PoolContext::new(options, TlsConfig::new().map_err(failed)?);
        let provider = TokioRuntimeProvider::default();
        let pool = NameServerPool::from_config(servers, Arc::new(context), provider);
        let servers = RetryDnsHandle::new(pool, attempts);
        let servers = match kind {
            Kind::Validated(keys) => {
                let validating = DnssecDnsHandle::with_trust_anchor(servers, keys);
                Asked::Validating(Box::new(validating.validation_cache_size(PROOFS_MAX)))
            }
            Kind::Recursive | Kind::Authoritative => Asked::Plain(servers),
        };
        Ok(Self {
            servers,
            options: asking,
            patience,
            metrics: Arc::clone(metrics),
        })
    }

    /// Asks about one name.
    ///
    /// # Errors
    /// If there is no answer, or DNSSEC proves it wrong.
    pub(super) async fn ask(
        &self,
        name: &Name,
        record_type: WireType,
    ) -> Result<Response, DnsError> {
        let query = Query::query(name.clone(), record_type);
        let counted = Counted::begin(&self.metrics, record_type, self.patience);
        let result = match &self.servers {
            Asked::Plain(servers) => servers.lookup(query, self.options).first_answer().await,
            Asked::Validating(servers) => servers.lookup(query, self.options).first_answer().await,
        };
        let failed = result.as_ref().err().map(chain::failure);
        let response = Response::read(name, result);
        counted.end(&response, failed);
        response
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}
