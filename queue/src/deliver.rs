//! Attempts over the network: host by host, address by address, several messages on one connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use postrider_config::{Direct, Dynamic, Smarthost};
use postrider_smtp::{
    BodyType, Cause, DeliveryStatus, EnhancedCode, Host, Notify as SmtpNotify, Ret,
    client::{
        Again, Connection, Envelope, MessageSource, Options, OutgoingMessage, Prefixed, Recipient,
        Remote, Tls, TlsMode,
    },
};
use postrider_store::{Message, Queued, Time};
use rustls::pki_types::ServerName;
use tracing::debug;

use crate::{
    Queue,
    dkim::Signer,
    next_hop,
    route::{self, Route, SmarthostTls},
    settle::{Ended, Hop},
};

/// How many addresses are tried in one attempt.
const ADDRESSES_MAX: usize = 8;
/// How often recipients that were too many for a transaction are sent in another one.
const TRANSACTIONS_MAX: usize = 100;

/// A connection that is kept for more messages.
pub(crate) struct Kept {
    route: Route,
    connection: Connection,
    sent: usize,
}

impl Kept {
    /// Takes leave of the server.
    pub(crate) async fn quit(self) {
        self.connection.quit().await;
    }
}

/// An attempt under way: messages without a result so far, and the last thing that happened to each.
struct Attempt<'a> {
    queue: &'a Queue,
    config: &'a Dynamic,
    start: Time,
    pending: Vec<(Queued, DeliveryStatus)>,
    ended: Vec<Ended>,
}

/// A host to try.
struct Target {
    name: String,
    address: SocketAddr,
    from: Option<IpAddr>,
    tls: TlsMode,
}

impl Queue {
    /// Attempts messages that share a route. `kept` is the connection of the last attempt, and of the next.
    pub(crate) async fn deliver(
        &self,
        config: &Dynamic,
        route: &Route,
        messages: Vec<Queued>,
        kept: &mut Option<Kept>,
    ) -> Vec<Ended> {
        let start = self.clock.now();
        let unknown = || {
            DeliveryStatus::transient(
                Cause::Connect,
                EnhancedCode::transient(4, 1),
                "no host could be tried",
            )
        };
        let mut attempt = Attempt {
            queue: self,
            config,
            start,
            pending: messages
                .into_iter()
                .map(|message| (message, unknown()))
                .collect(),
            ended: Vec::new(),
        };
        attempt.sign_or_fail().await;
        if let Some(mut old) = kept.take_if(|kept| kept.route == *route && kept.connection.usable())
        {
            attempt.send(&mut old.connection, &mut old.sent).await;
            *kept = Some(old);
        } else if let Some(old) = kept.take() {
            tokio::spawn(old.connection.quit());
        }
        let limit = self.statics.queue.per_destination.messages_per_connection;
        if let Some(full) = kept.take_if(|kept| kept.sent >= limit || !kept.connection.usable()) {
            tokio::spawn(full.connection.quit());
        }
        if !attempt.pending.is_empty() {
            match route {
                Route::End(status) => attempt.end_all(status),
                Route::Direct {
                    destination,
                    settings,
                } => {
                    attempt.direct(route, destination, settings, kept).await;
                }
                Route::Smarthost { host, tls } => attempt.smarthost(route, host, *tls, kept).await,
            }
        }
        attempt.finish()
    }
}

impl Attempt<'_> {
    fn end_all(&mut self, status: &DeliveryStatus) {
        for (_, last) in &mut self.pending {
            *last = status.clone();
        }
        self.end_pending();
    }

    fn end_pending(&mut self) {
        let start = self.start;
        let ended = self.pending.drain(..).map(|(message, status)| Ended {
            message,
            status,
            start,
            hop: Hop::SendsNone,
        });
        self.ended.extend(ended);
    }

    fn finish(mut self) -> Vec<Ended> {
        self.end_pending();
        self.ended
    }

    /// Makes the signatures before any connection is made; what can't be signed is not sent.
    async fn sign_or_fail(&mut self) {
        let queue = self.queue;
        let (config, start) = (self.config, self.start);
        let mut failures = Vec::new();
        for (at, (message, _)) in self.pending.iter().enumerate() {
            if let Err(error) = queue.signature(config, message).await {
                failures.push((at, error));
            }
        }
        for (at, text) in failures.into_iter().rev() {
            let (message, _) = self.pending.swap_remove(at);
            let status =
                DeliveryStatus::transient(Cause::Local, EnhancedCode::transient(7, 5), text);
            self.ended.push(Ended {
                message,
                status,
                start,
                hop: Hop::SendsNone,
            });
        }
    }

    async fn direct(
        &mut self,
        route: &Route,
        destination: &Host,
        settings: &Direct,
        kept: &mut Option<Kept>,
    ) {
        let mut rng = self.queue.fork_rng();
        let hosts = match next_hop::hosts(&*self.queue.resolver, destination, &mut rng).await {
            Ok(hosts) => hosts,
            Err(status) => return self.end_all(&status),
        };
        // The family that comes first changes with each attempt.
        let first_ipv6 = self
            .pending
            .first()
            .is_some_and(|(message, _)| message.attempts % 2 == 0);
        let mut tried = 0;
        for host in hosts {
            let addresses =
                match next_hop::addresses(&*self.queue.resolver, &host, first_ipv6).await {
                    Ok(addresses) => addresses,
                    Err(status) => {
                        self.note(&status);
                        continue;
                    }
                };
            for ip in addresses {
                if (ip.is_ipv4() && settings.disable_ipv4)
                    || (ip.is_ipv6() && settings.disable_ipv6)
                {
                    continue;
                }
                if tried >= ADDRESSES_MAX {
                    return;
                }
                tried += 1;
                if self.queue.statics.delivery.forbid_private_addresses && is_private(ip) {
                    let text = format!(
                        "{host} is at {ip}, a private address, which delivery.forbid_private_addresses excludes"
                    );
                    self.note(&DeliveryStatus::transient(
                        Cause::Local,
                        EnhancedCode::transient(4, 4),
                        text,
                    ));
                    continue;
                }
                let target = Target {
                    name: host.clone(),
                    address: SocketAddr::new(ip, 25),
                    from: settings
                        .local_ips
                        .iter()
                        .copied()
                        .find(|local| local.is_ipv4() == ip.is_ipv4()),
                    tls: self.queue.tls_for(&host, self.wants_verified_tls()),
                };
                if self.visit(route, target, None, kept).await {
                    return;
                }
            }
        }
    }

    /// Some message may only go over verified TLS. They go with the others' connection then, which harms nobody.
    fn wants_verified_tls(&self) -> bool {
        self.pending
            .iter()
            .any(|(message, _)| message.common.require_tls == Some(true))
    }

    async fn smarthost(
        &mut self,
        route: &Route,
        host: &Smarthost,
        tls: SmarthostTls,
        kept: &mut Option<Kept>,
    ) {
        let name = match &host.host {
            Host::Domain(domain) => domain.ascii().to_owned(),
            Host::Literal(address) => address.to_string(),
        };
        let addresses = match next_hop::addresses(&*self.queue.resolver, &name, false).await {
            Ok(addresses) => addresses,
            Err(status) => return self.end_all(&status),
        };
        for ip in addresses.into_iter().take(ADDRESSES_MAX) {
            let mode = self.queue.smarthost_tls(&name, host, tls);
            let target = Target {
                name: name.clone(),
                address: SocketAddr::new(ip, host.port),
                from: None,
                tls: mode,
            };
            if self.visit(route, target, route::login(host), kept).await {
                return;
            }
        }
    }

    /// Notes what happened to all that have no result.
    fn note(&mut self, status: &DeliveryStatus) {
        debug!(%status, "host did not do");
        for (_, last) in &mut self.pending {
            *last = status.clone();
        }
    }

    /// Tries one host; true when nothing is left to do.
    async fn visit(
        &mut self,
        route: &Route,
        target: Target,
        login: Option<postrider_smtp::client::Login>,
        kept: &mut Option<Kept>,
    ) -> bool {
        let mut connection = match self
            .connect(&target, login.clone(), target.tls.clone())
            .await
        {
            Ok(connection) => connection,
            // Opportunistic TLS that does not work is worth no more than none (RFC 7435 §3).
            Err(status)
                if status.cause == Cause::Tls
                    && matches!(target.tls, TlsMode::Opportunistic(_)) =>
            {
                debug!(%status, "TLS failed, once more without");
                match self.connect(&target, login, TlsMode::Never).await {
                    Ok(connection) => connection,
                    Err(status) => {
                        self.note(&status);
                        return self.stop_if_permanent(&status);
                    }
                }
            }
            Err(status) => {
                self.note(&status);
                return self.stop_if_permanent(&status);
            }
        };
        let mut sent = 0;
        self.send(&mut connection, &mut sent).await;
        if connection.usable() {
            *kept = Some(Kept {
                route: route.clone(),
                connection,
                sent,
            });
        }
        self.pending.is_empty()
    }

    /// A host that answers for the domain has the last word when it says no for good.
    fn stop_if_permanent(&mut self, status: &DeliveryStatus) -> bool {
        if status.permanent {
            self.end_pending();
        }
        status.permanent
    }

    async fn connect(
        &self,
        target: &Target,
        login: Option<postrider_smtp::client::Login>,
        tls: TlsMode,
    ) -> Result<Connection, DeliveryStatus> {
        let remote = Remote {
            name: target.name.clone(),
            ip: target.address.ip(),
        };
        let limit = self.queue.statics.smtp_client.connect_timeout;
        let dialing = self.queue.dialer.dial(target.address, target.from);
        let failed = |text: String| {
            DeliveryStatus::transient(Cause::Connect, EnhancedCode::transient(4, 1), text)
                .with_remote(remote.to_string())
                .with_command("connect")
        };
        let stream = match tokio::time::timeout(limit, dialing).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(failed(format!(
                    "connecting to port {}: {error}",
                    target.address.port()
                )));
            }
            Err(_) => {
                return Err(failed(format!(
                    "connecting to port {} took longer than {limit:?}",
                    target.address.port()
                )));
            }
        };
        let options = Options {
            login,
            timeouts: route::timeouts(&self.queue.statics),
            ..Options::new(Host::Domain(self.queue.statics.hostname.clone()), tls)
        };
        Connection::open(stream, remote, options).await
    }

    /// Sends all that is pending, in as many transactions as that takes.
    async fn send(&mut self, connection: &mut Connection, sent: &mut usize) {
        for _ in 0..TRANSACTIONS_MAX {
            if self.pending.is_empty() || !connection.usable() {
                return;
            }
            let before = self.pending.len();
            let (groups, batch) = self.transactions().await;
            *sent += batch.len();
            let hop = if connection.extensions().dsn {
                Hop::SendsDsns
            } else {
                Hop::SendsNone
            };
            let results = connection.send(batch).await;
            let mut left = Vec::new();
            let mut again = false;
            for (group, result) in groups.into_iter().zip(results) {
                for (message, result) in group.into_iter().zip(result.recipients) {
                    again = again || result.again == Again::NewTransaction;
                    if result.status.is_success() || result.status.permanent {
                        self.ended.push(Ended {
                            message,
                            status: result.status,
                            start: self.start,
                            hop,
                        });
                    } else {
                        left.push((message, result.status));
                    }
                }
            }
            self.pending.extend(left);
            if !again || self.pending.len() == before {
                return;
            }
        }
    }

    /// Takes all pending messages into transactions: those that share top, text and reverse-path in one.
    async fn transactions(&mut self) -> (Vec<Vec<Queued>>, Vec<OutgoingMessage<Signed>>) {
        let max = self
            .queue
            .statics
            .queue
            .per_destination
            .recipients_per_transaction
            .max(1);
        let mut groups: Vec<Vec<Queued>> = Vec::new();
        let mut left = Vec::new();
        for (message, status) in self.pending.drain(..) {
            let fits = |group: &Vec<Queued>| {
                group.len() < max
                    && group.first().is_some_and(|first| {
                        first.text == message.text
                            && first.top == message.top
                            && first.reverse_path == message.reverse_path
                    })
            };
            let full = groups.len() >= crate::schedule::BATCH;
            let place = groups.iter().rposition(fits);
            match place.and_then(|at| groups.get_mut(at)) {
                Some(group) => group.push(message),
                None if full => left.push((message, status)),
                None => groups.push(vec![message]),
            }
        }
        self.pending = left;
        let mut taken = Vec::new();
        let mut batch = Vec::new();
        for group in groups {
            match self.queue.outgoing(self.config, &group).await {
                Ok(outgoing) => {
                    batch.push(outgoing);
                    taken.push(group);
                }
                Err(status) => {
                    let start = self.start;
                    self.ended.extend(group.into_iter().map(|message| Ended {
                        message,
                        status: status.clone(),
                        start,
                        hop: Hop::SendsNone,
                    }));
                }
            }
        }
        (taken, batch)
    }
}

/// A stored message, as the client reads it.
struct Stored(Message);

/// A message with its DKIM-Signature fields in front; without any where nothing is signed.
type Signed = Prefixed<Stored>;

impl MessageSource for Stored {
    fn size(&self) -> u64 {
        self.0.len()
    }

    async fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let end = self.0.len().min(offset.saturating_add(max as u64));
        self.0.read(offset..end).await.map_err(io::Error::other)
    }
}

impl Queue {
    async fn signature(&self, config: &Dynamic, message: &Queued) -> Result<Bytes, String> {
        let from = message.common.from.as_ref();
        if !Signer::wants(config, from) {
            return Ok(Bytes::new());
        }
        if let Some(known) = self.signer.known(message.text, &message.top) {
            return Ok(known);
        }
        let stored = self.store.queued_message(message).await;
        let stored = stored.map_err(|error| error.to_string())?;
        let whole = stored.whole().await.map_err(|error| error.to_string())?;
        self.signer
            .sign(config, from, message.text, &message.top, &whole)
            .map_err(|error| error.to_string())
    }

    async fn outgoing(
        &self,
        config: &Dynamic,
        group: &[Queued],
    ) -> Result<OutgoingMessage<Signed>, DeliveryStatus> {
        let local = |text: String| {
            DeliveryStatus::transient(Cause::Local, EnhancedCode::transient(3, 0), text)
        };
        let Some(first) = group.first() else {
            return Err(local("empty transaction".to_owned()));
        };
        let prefix = self.signature(config, first).await.map_err(local)?;
        let stored = self.store.queued_message(first).await;
        let source = Prefixed {
            prefix,
            message: Stored(stored.map_err(|error| local(error.to_string()))?),
        };
        let common = &first.common;
        Ok(OutgoingMessage {
            envelope: Envelope {
                reverse_path: first.reverse_path.clone(),
                body_type: if common.eight_bit {
                    BodyType::EightBitMime
                } else {
                    BodyType::SevenBit
                },
                smtputf8: common.smtputf8,
                require_tls: common.require_tls == Some(true),
                ret: common
                    .ret_full
                    .map(|full| if full { Ret::Full } else { Ret::Headers }),
                envid: [&common.envid, &common.own_envid]
                    .into_iter()
                    .find(|envid| !envid.is_empty())
                    .cloned(),
                recipients: group.iter().map(recipient).collect(),
            },
            source,
        })
    }

    /// How to speak to a stranger's MX.
    fn tls_for(&self, host: &str, verified: bool) -> TlsMode {
        match server_name(host) {
            Some(name) if verified => TlsMode::Required(Tls {
                config: Arc::clone(&self.verifying_tls),
                name,
            }),
            Some(name) => TlsMode::Opportunistic(Tls {
                config: Arc::clone(&self.any_tls),
                name,
            }),
            None => TlsMode::Never,
        }
    }

    fn smarthost_tls(&self, name: &str, host: &Smarthost, tls: SmarthostTls) -> TlsMode {
        let config = if host.insecure_skip_verify {
            &self.any_tls
        } else {
            &self.verifying_tls
        };
        match (server_name(name), tls) {
            (Some(name), SmarthostTls::Implicit) => TlsMode::Implicit(Tls {
                config: Arc::clone(config),
                name,
            }),
            (Some(name), SmarthostTls::StartTls) => TlsMode::Required(Tls {
                config: Arc::clone(config),
                name,
            }),
            (None, _) | (_, SmarthostTls::Never) => TlsMode::Never,
        }
    }
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}

fn recipient(message: &Queued) -> Recipient {
    let notify = message.notify;
    Recipient {
        address: message.recipient.clone(),
        notify: notify.given.then_some(SmtpNotify {
            success: notify.success,
            failure: notify.failure,
            delay: notify.delay,
        }),
        orcpt: Some(message.orcpt.clone()).filter(|orcpt| !orcpt.is_empty()),
    }
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
