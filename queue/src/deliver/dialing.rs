//! The socket under a connection: from a source of ours, or through a proxy.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use postrider_config::Socks;
use postrider_observe::metrics::Connected;
use postrider_smtp::{Host, client::Link};
use tokio::time::Instant;

use super::{
    addresses::Peer,
    attempt::OngoingAttempt,
    connections::undialed,
    endpoint::{Endpoint, Unconnected, unreached},
    happenings::{Happened, ends_of},
};
use crate::{
    dial::BindError,
    faults::OwnFault,
    next_hop,
    socks::{self, SocksError},
    source::{Choice, Source, Via},
};

/// How many addresses of a proxy are tried.
const PROXY_ADDRESSES_MAX: usize = 4;

impl OngoingAttempt<'_> {
    /// The source to take in place of that of an endpoint, if that can't be used.
    pub(super) fn other_source(&self, endpoint: &Endpoint<'_>) -> Option<Source> {
        let Peer::Ip(address) = &endpoint.address else {
            return None;
        };
        match self.choose(address.ip(), true) {
            Choice::Take(best) if *best != endpoint.source => Some(best.clone()),
            _ => None,
        }
    }

    /// Connects to an endpoint, with a token of the rate of connections.
    pub(super) async fn dial(&self, endpoint: &Endpoint<'_>) -> Result<Link, Unconnected> {
        let (queue, pace) = (self.queue, &self.slot.pace);
        let taken = pace.take_connect(&endpoint.source, queue.clock.moment());
        let ends = || ends_of(endpoint, self.plan);
        let tokens = taken.map_err(|until| {
            let none = Unconnected::NotBefore(until);
            let step = || none.happened(ends(), Duration::ZERO);
            self.happenings.note(step);
            none
        })?;
        if pace.has_long_connect_rates() {
            queue.sites.note_soon();
        }
        let began = Instant::now();
        let dialed = self.dial_now(endpoint).await;
        self.happenings.note(|| {
            let took = began.elapsed();
            let (host, ip) = ends();
            match &dialed {
                Ok(link) => Happened::Connected {
                    host,
                    ip,
                    from: link.local_ip(),
                    took,
                },
                Err(error) => error.happened((host, ip), took),
            }
        });
        if matches!(dialed, Err(Unconnected::Ours(..))) {
            // The host saw nothing of it.
            pace.put_back_connect(&endpoint.source, tokens, queue.clock.moment());
        }
        dialed
    }

    async fn dial_now(&self, endpoint: &Endpoint<'_>) -> Result<Link, Unconnected> {
        let dialer = &self.queue.dialer;
        match (&endpoint.address, &endpoint.source.via) {
            (Peer::Socket(path), _) => self.in_time(endpoint, dialer.dial_socket(path)).await,
            (Peer::Ip(address), Via::Any) => {
                self.in_time(endpoint, dialer.dial(*address, None)).await
            }
            (Peer::Ip(address), Via::Ip(ip)) => {
                let dialing = dialer.dial(*address, Some(*ip));
                let link = self.in_time(endpoint, dialing).await?;
                self.queue.off.worked(*ip);
                Ok(link)
            }
            (Peer::Ip(address), Via::Proxy(proxy)) => {
                self.dial_through(proxy, *address, endpoint).await
            }
        }
    }

    /// Waits for a connection in the making, as long as connections may take.
    async fn in_time<T: Into<Link>>(
        &self,
        endpoint: &Endpoint<'_>,
        dialing: impl Future<Output = io::Result<T>>,
    ) -> Result<Link, Unconnected> {
        let limit = self.queue.statics.smtp_client.connect_timeout;
        let theirs = |text, result| {
            self.count_undialed(result);
            Unconnected::Theirs(unreached(endpoint, text).into())
        };
        match tokio::time::timeout(limit, dialing).await {
            Ok(Ok(connected)) => Ok(connected.into()),
            Ok(Err(error)) => Err(match self.own_fault_of(&error) {
                Some(fault) => Unconnected::Ours(fault, error),
                None => {
                    let text = format!("connecting to {}: {error}", endpoint.door());
                    theirs(text, undialed(&error))
                }
            }),
            Err(_) => {
                let text = format!(
                    "connecting to {} took longer than {limit:?}",
                    endpoint.door()
                );
                Err(theirs(text, Connected::Timeout))
            }
        }
    }

    /// Counts a connection that could not be made.
    pub(super) fn count_undialed(&self, result: Connected) {
        let counts = &self.queue.metrics.outgoing_connections_total;
        counts.with(result).inc();
    }

    /// The fault of ours that an error of a dialer tells. None: the fault is not ours.
    fn own_fault_of(&self, error: &io::Error) -> Option<OwnFault> {
        let Some(bind) = BindError::of(error) else {
            return OwnFault::of(error);
        };
        let now = self.queue.clock.moment();
        self.queue.off.failed(bind.ip, &bind.error, now);
        Some(OwnFault::of(&bind.error).unwrap_or(OwnFault::NoWay))
    }

    /// Connects through a proxy. All that goes wrong before the proxy tries the host is a fault of
    /// ours. If the proxy does not say whose fault it is, it is the host's if the proxy works for
    /// others.
    async fn dial_through(
        &self,
        proxy: &Socks,
        address: SocketAddr,
        endpoint: &Endpoint<'_>,
    ) -> Result<Link, Unconnected> {
        let limit = self.queue.statics.smtp_client.connect_timeout;
        let theirs = |text, result| {
            self.count_undialed(result);
            Unconnected::Theirs(unreached(endpoint, text).into())
        };
        let mut stream = self.greeted_proxy(proxy).await.map_err(|error| {
            let fault = OwnFault::of(&error).unwrap_or(OwnFault::Settings);
            Unconnected::Ours(fault, named(proxy, &error))
        })?;
        let door = endpoint.door();
        let (reached, now) = (&self.queue.reached, || self.queue.clock.moment());
        let name = format!("{}:{}", proxy.host, proxy.port);
        match tokio::time::timeout(limit, socks::connect(&mut stream, address)).await {
            Ok(Ok(())) => {
                reached.note(&name, address, now());
                Ok(stream)
            }
            Ok(Err(SocksError::Unclear(text))) if reached.has_other(&name, address, now()) => {
                let text = format!("connecting to {door}: {text}");
                Err(theirs(text, Connected::Unreachable))
            }
            Ok(Err(SocksError::Unclear(text))) => {
                let error = named(proxy, &io::Error::other(text));
                Err(Unconnected::Ours(OwnFault::Settings, error))
            }
            Ok(Err(SocksError::Host(text))) => {
                let text = format!("connecting to {door}: {text}");
                Err(theirs(text, Connected::Unreachable))
            }
            Ok(Err(SocksError::Proxy(error))) => {
                Err(Unconnected::Ours(OwnFault::Settings, named(proxy, &error)))
            }
            Err(_) => {
                let text =
                    format!("connecting to {door} through the proxy took longer than {limit:?}");
                Err(theirs(text, Connected::Timeout))
            }
        }
    }

    /// A connection to a proxy that takes commands.
    async fn greeted_proxy(&self, proxy: &Socks) -> io::Result<Link> {
        let limit = self.queue.statics.smtp_client.connect_timeout;
        let ips = match &proxy.host {
            Host::Literal(literal) => vec![*literal],
            Host::Domain(name) => {
                let found = next_hop::addresses(&*self.queue.resolver, name.ascii(), false).await;
                found
                    .map_err(|failure| io::Error::other(failure.status.text))?
                    .addresses
            }
        };
        let mut last = io::Error::other("its name has no address");
        for ip in ips.into_iter().take(PROXY_ADDRESSES_MAX) {
            let greeted = tokio::time::timeout(limit, self.greet(ip, proxy.port)).await;
            match greeted {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::other(format!("it did not answer within {limit:?}")),
            }
        }
        Err(last)
    }

    async fn greet(&self, ip: IpAddr, port: u16) -> io::Result<Link> {
        let dialing = self.queue.dialer.dial(SocketAddr::new(ip, port), None);
        let mut stream = dialing.await?;
        match socks::greet(&mut stream).await {
            Ok(()) => Ok(stream),
            Err(SocksError::Proxy(error)) => Err(error),
            Err(SocksError::Host(text) | SocksError::Unclear(text)) => Err(io::Error::other(text)),
        }
    }
}

/// An error of a proxy, with its name.
fn named(proxy: &Socks, error: &io::Error) -> io::Error {
    io::Error::other(format!("the proxy {}:{}: {error}", proxy.host, proxy.port))
}
