//! One connection: from its endpoint to an open session.

use std::{borrow::Cow, io, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode, Host,
    client::{Connection, Link, Options, Recorder, Remote, TlsMode, Unopened},
};
use postrider_store::Moment;
use tokio::time::Instant;

use super::{
    addresses::Peer,
    attempt::OngoingAttempt,
    connections::{count_opened, count_unopened},
    counting::HostSeen,
    happenings::{Happened, HostRef, ends_of},
    tls::Protection,
    transcripts::Ends,
};
use crate::{
    faults::OwnFault,
    header,
    next_hop::Hop,
    route::{self, Login},
    source::Source,
};

/// A connection whose session did not begin by then counts as slow.
const SLOW_AFTER: Duration = Duration::from_secs(60);

/// Why there is no connection.
pub(super) enum Unconnected {
    /// It is our fault.
    Ours(OwnFault, io::Error),
    /// It is the host's fault.
    Theirs(Unopened),
    /// The rate of connections is used up. None is to be made before.
    NotBefore(Moment),
}

impl Unconnected {
    /// The step that no connection was made to an address.
    pub(super) fn happened(
        &self,
        (host, ip): (HostRef, Option<IpAddr>),
        took: Duration,
    ) -> Happened {
        let reason: Box<str> = match self {
            Self::NotBefore(_) => return Happened::NoToken { host, ip },
            Self::Ours(_, error) => error.to_string().into(),
            Self::Theirs(unopened) => unopened.status.text.as_str().into(),
        };
        Happened::Unconnected {
            host,
            ip,
            reason,
            took,
        }
    }
}

/// An address to try.
#[derive(Clone)]
pub(super) struct Endpoint<'a> {
    pub(super) hop: Cow<'a, Hop>,
    pub(super) address: Peer,
    pub(super) source: Source,
    pub(super) protection: Protection,
    /// What reports about TLS show of the host.
    pub(super) seen: Arc<HostSeen>,
    pub(super) login: Option<Login>,
}

impl OngoingAttempt<'_> {
    /// Opens a session at an endpoint, over this connection or a new one.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint<'_>,
        tls: TlsMode,
        (link, recorder): (&mut Option<Link>, Option<&Recorder>),
    ) -> Result<Connection, Unconnected> {
        let statics = &self.queue.statics;
        let login = match &endpoint.login {
            Some(login) => {
                let nonce = header::random_id(&mut *self.queue.rng());
                let credentials = login.credentials(nonce).await;
                Some(credentials.map_err(|error| Unconnected::Ours(OwnFault::Settings, error))?)
            }
            None => None,
        };
        let stream = match link.take() {
            Some(link) => link,
            None => self.dial(endpoint).await?,
        };
        self.queue.faults.connected();
        let options = Options {
            login,
            timeouts: route::timeouts(statics),
            lmtp: self.plan.way.is_last(),
            chunking: self.plan.provider.chunking,
            recorder: recorder.cloned(),
            ..Options::new(Host::Domain(endpoint.source.ehlo.clone()), tls)
        };
        let opening = Connection::open(stream, endpoint.remote(), options);
        let began = Instant::now();
        let opened = self.open(endpoint, opening).await;
        match &opened {
            Ok(connection) => count_opened(&self.queue.metrics, connection),
            Err(unopened) => count_unopened(&self.queue.metrics, unopened),
        }
        if let Err(unopened) = &opened {
            self.happenings.note(|| {
                let (host, ip) = ends_of(endpoint, self.plan);
                Happened::Unopened {
                    host,
                    ip,
                    status: Box::new(unopened.status.clone()),
                    fault: unopened.tls.clone(),
                    rule: endpoint.protection.rule(),
                    took: began.elapsed(),
                }
            });
        }
        opened.map_err(Unconnected::Theirs)
    }

    /// Opens a session. After a minute it takes one of the places for slow connections, and gives
    /// its own to others.
    async fn open(
        &self,
        endpoint: &Endpoint<'_>,
        opening: impl Future<Output = Result<Connection, Unopened>>,
    ) -> Result<Connection, Unopened> {
        let limit = self.queue.statics.delivery.message_time;
        let mut opening = pin!(opening);
        let first = SLOW_AFTER.min(limit);
        if let Ok(opened) = tokio::time::timeout(first, opening.as_mut()).await {
            return opened;
        }
        let late = |limit: Duration| {
            let text = format!("the session did not begin within {limit:?}");
            let status = unreached(endpoint, text);
            Unopened::from(DeliveryStatus {
                cause: Cause::Timeout,
                ..status.with_command("greeting")
            })
        };
        let place = self.queue.slow.try_acquire();
        let (Ok(_place), Some(rest)) = (place, limit.checked_sub(first)) else {
            return Err(late(first));
        };
        self.slot.slow(true).await;
        let opened = tokio::time::timeout(rest, opening).await;
        self.slot.slow(false).await;
        opened.unwrap_or_else(|_| Err(late(limit)))
    }
}

impl Endpoint<'_> {
    fn remote(&self) -> Remote {
        self.ends().remote()
    }

    /// The two ends of a connection to the endpoint.
    pub(super) fn ends(&self) -> Ends<'_> {
        Ends {
            host: &self.hop.name,
            peer: &self.address,
            source: &self.source,
            rule: self.protection.rule(),
        }
    }

    /// What a connection is made to, behind the name of the host.
    pub(super) fn door(&self) -> Cow<'static, str> {
        match &self.address {
            Peer::Ip(address) => format!("port {}", address.port()).into(),
            Peer::Socket(_) => "the socket".into(),
        }
    }
}

/// The status of an address without a connection.
pub(super) fn unreached(endpoint: &Endpoint<'_>, text: String) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Connect, EnhancedCode::NO_ANSWER, text)
        .with_remote(endpoint.remote().to_string())
        .with_command("connect")
}

/// The status of an address to which no connection may be made now.
pub(super) fn no_token(endpoint: &Endpoint<'_>) -> DeliveryStatus {
    let text = "no connection may be made at this moment: the rate of connections is used up";
    unreached(endpoint, text.to_owned())
}
