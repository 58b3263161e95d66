//! One attempt: the hosts of a plan, and the addresses of each host, until each message has a
//! result.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use postrider_config::{Direct, Dynamic};
use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode, Host,
    client::{Connection, Credentials, Options, Remote, Tls, TlsMode},
};
use postrider_store::{Queued, Time};
use rustls::pki_types::ServerName;
use tracing::debug;

use super::KeptConnection;
use crate::{
    Queue, judge,
    next_hop::{self, Hop, Plan, TlsRule, Way},
    route::{self, SmarthostTls},
    settle::{EndedAttempt, LastHop},
};

/// How many hosts are tried in one attempt.
const HOSTS_MAX: usize = 10;
/// How many addresses are tried in one attempt.
const ADDRESSES_MAX: usize = 8;

/// An attempt under way.
pub(super) struct OngoingAttempt<'a> {
    pub(super) queue: &'a Queue,
    pub(super) config: &'a Dynamic,
    plan: &'a Plan,
    pub(super) start: Time,
    /// The messages without a result, each with the last thing that happened to it.
    pub(super) pending: Vec<(Queued, DeliveryStatus)>,
    pub(super) ended: Vec<EndedAttempt>,
    /// Some host failed in a way that may pass.
    pub(super) may_pass: bool,
}

/// An address to try.
struct Endpoint<'a> {
    host: &'a str,
    address: SocketAddr,
    /// Our own address; None: the system chooses.
    from: Option<IpAddr>,
    tls: TlsMode,
    login: Option<Credentials>,
}

impl<'a> OngoingAttempt<'a> {
    pub(super) fn new(
        queue: &'a Queue,
        config: &'a Dynamic,
        plan: &'a Plan,
        messages: Vec<Queued>,
    ) -> Self {
        let untried = DeliveryStatus::transient(
            Cause::Connect,
            EnhancedCode::NO_ANSWER,
            "no host could be tried",
        );
        Self {
            queue,
            config,
            plan,
            start: queue.clock.now(),
            pending: messages
                .into_iter()
                .map(|message| (message, untried.clone()))
                .collect(),
            ended: Vec::new(),
            may_pass: false,
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Ends the attempt. Messages without a result get the last thing that happened to them.
    pub(super) fn finish(mut self) -> Vec<EndedAttempt> {
        self.end_pending();
        self.ended
    }

    fn end_pending(&mut self) {
        for (message, status) in std::mem::take(&mut self.pending) {
            self.end(message, status, LastHop::SendsNoDsns);
        }
    }

    pub(super) fn end(&mut self, message: Queued, status: DeliveryStatus, hop: LastHop) {
        self.ended.push(EndedAttempt {
            message,
            status,
            start: self.start,
            hop,
        });
    }

    /// Makes the signatures before any connection is made. A message that can't be signed is not
    /// sent.
    pub(super) async fn sign_or_fail(&mut self) {
        let mut unsigned = Vec::new();
        for (at, (message, _)) in self.pending.iter().enumerate() {
            if let Err(error) = self.queue.signature(self.config, message).await {
                unsigned.push((at, error));
            }
        }
        for (at, text) in unsigned.into_iter().rev() {
            let (message, _) = self.pending.swap_remove(at);
            let code = EnhancedCode::CRYPTOGRAPHIC_FAILURE;
            let status = DeliveryStatus::transient(Cause::Local, code, text);
            self.end(message, status, LastHop::SendsNoDsns);
        }
    }

    /// Whether some message may only go over verified TLS. The others go over the same connection:
    /// that harms none.
    pub(super) fn wants_verified_tls(&self) -> bool {
        self.pending
            .iter()
            .any(|(message, _)| message.common.require_tls == Some(true))
    }

    /// Tries the hosts of the plan.
    pub(super) async fn try_hosts(&mut self, kept: &mut Option<KeptConnection>) {
        let plan = self.plan;
        let hops = plan.shuffled(&mut self.queue.fork_rng());
        let (direct, login) = match &plan.way {
            Way::Direct(settings) => (Some(settings), None),
            Way::Smarthost(login) => (None, login.as_ref()),
        };
        // The family that comes first changes with each attempt.
        let first_ipv6 = direct.is_some()
            && self
                .pending
                .first()
                .is_some_and(|(message, _)| message.attempts % 2 == 0);
        let mut tried = 0;
        for hop in hops.iter().take(HOSTS_MAX) {
            let resolver = &*self.queue.resolver;
            let addresses = match next_hop::addresses(resolver, &hop.name, first_ipv6).await {
                Ok(addresses) => addresses,
                Err(status) => {
                    self.note(&status);
                    continue;
                }
            };
            for ip in addresses {
                if direct.is_some_and(|settings| is_disabled(ip, settings)) {
                    continue;
                }
                if tried >= ADDRESSES_MAX {
                    return;
                }
                tried += 1;
                if direct.is_some() && self.is_forbidden(&hop.name, ip) {
                    continue;
                }
                let endpoint = Endpoint {
                    host: &hop.name,
                    address: SocketAddr::new(ip, hop.port),
                    from: direct.and_then(|settings| own_address(ip, settings)),
                    tls: self.queue.tls_for(hop, plan.tls, self.wants_verified_tls()),
                    login: login.cloned(),
                };
                if self.visit(endpoint, kept).await {
                    return;
                }
            }
        }
    }

    /// Whether the configuration excludes this address. The messages are told so.
    fn is_forbidden(&mut self, host: &str, ip: IpAddr) -> bool {
        let forbidden = self.queue.statics.delivery.forbid_private_addresses && is_private(ip);
        if forbidden {
            let text = format!(
                "{host} is at {ip}, a private address, which delivery.forbid_private_addresses excludes"
            );
            self.note(&DeliveryStatus::transient(
                Cause::Local,
                EnhancedCode::NO_ROUTE_TRANSIENT,
                text,
            ));
        }
        forbidden
    }

    /// Notes what happened to the messages without a result. A refusal counts only if all hosts
    /// refuse.
    fn note(&mut self, status: &DeliveryStatus) {
        debug!(%status, "a host did not take the messages");
        if status.permanent && self.may_pass {
            return;
        }
        self.may_pass |= !status.permanent;
        for (_, last) in &mut self.pending {
            *last = status.clone();
        }
    }

    /// Tries one address. Returns true when nothing is left to do.
    async fn visit(&mut self, endpoint: Endpoint<'_>, kept: &mut Option<KeptConnection>) -> bool {
        let mut connected = self.connect(&endpoint, endpoint.tls.clone()).await;
        // Opportunistic TLS that does not work is worth no more than plain text (RFC 7435 §3).
        if let (Err(status), TlsMode::Opportunistic(_)) = (&connected, &endpoint.tls)
            && status.cause == Cause::Tls
        {
            debug!(%status, "TLS failed, once more without");
            connected = self.connect(&endpoint, TlsMode::Never).await;
        }
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(status) => {
                // A host that answers for the domain has the last word when it says no for good.
                // But if it only refuses to speak with us, another host may be kinder.
                let last_word = status.permanent && !judge::refuses_to_speak(&status);
                if last_word {
                    self.may_pass = false;
                }
                self.note(&status);
                if last_word {
                    self.end_pending();
                }
                return last_word;
            }
        };
        let mut sent = 0;
        self.send(&mut connection, &mut sent).await;
        if connection.usable() {
            *kept = Some(KeptConnection {
                transport: self.plan.transport.clone(),
                verified: is_verifying(&endpoint.tls, self.plan.tls),
                connection,
                sent,
            });
        }
        self.pending.is_empty()
    }

    async fn connect(
        &self,
        endpoint: &Endpoint<'_>,
        tls: TlsMode,
    ) -> Result<Connection, DeliveryStatus> {
        let statics = &self.queue.statics;
        let remote = Remote {
            name: endpoint.host.to_owned(),
            ip: endpoint.address.ip(),
        };
        let limit = statics.smtp_client.connect_timeout;
        let port = endpoint.address.port();
        let failed = |text: String| {
            DeliveryStatus::transient(Cause::Connect, EnhancedCode::NO_ANSWER, text)
                .with_remote(remote.to_string())
                .with_command("connect")
        };
        let dialing = self.queue.dialer.dial(endpoint.address, endpoint.from);
        let stream = tokio::time::timeout(limit, dialing)
            .await
            .map_err(|_| {
                failed(format!(
                    "connecting to port {port} took longer than {limit:?}"
                ))
            })?
            .map_err(|error| failed(format!("connecting to port {port}: {error}")))?;
        let options = Options {
            login: endpoint.login.clone(),
            timeouts: route::timeouts(statics),
            ..Options::new(Host::Domain(statics.hostname.clone()), tls)
        };
        Connection::open(stream, remote, options).await
    }
}

impl Queue {
    /// How to speak to a host. `verified`: some message asks for verified TLS.
    fn tls_for(&self, hop: &Hop, rule: TlsRule, verified: bool) -> TlsMode {
        let Ok(name) = ServerName::try_from(hop.name.clone()) else {
            return TlsMode::Never;
        };
        let with = |config: &Arc<rustls::ClientConfig>| Tls {
            config: Arc::clone(config),
            name,
        };
        match rule {
            TlsRule::Opportunistic if verified => TlsMode::Required(with(&self.verifying_tls)),
            TlsRule::Opportunistic => TlsMode::Opportunistic(with(&self.any_tls)),
            TlsRule::Smarthost { tls, verify } => {
                let config = match verify {
                    true => &self.verifying_tls,
                    false => &self.any_tls,
                };
                match tls {
                    SmarthostTls::Implicit => TlsMode::Implicit(with(config)),
                    SmarthostTls::StartTls => TlsMode::Required(with(config)),
                    SmarthostTls::Never => TlsMode::Never,
                }
            }
        }
    }
}

/// Whether a connection with this TLS proves the server's name, or goes where the administrator
/// said.
fn is_verifying(tls: &TlsMode, rule: TlsRule) -> bool {
    matches!(rule, TlsRule::Smarthost { .. }) || matches!(tls, TlsMode::Required(_))
}

fn is_disabled(ip: IpAddr, settings: &Direct) -> bool {
    match ip {
        IpAddr::V4(_) => settings.disable_ipv4,
        IpAddr::V6(_) => settings.disable_ipv6,
    }
}

fn own_address(ip: IpAddr, settings: &Direct) -> Option<IpAddr> {
    let mut own = settings.local_ips.iter().copied();
    own.find(|local| local.is_ipv4() == ip.is_ipv4())
}

fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
        }
    }
}
