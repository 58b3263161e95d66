//! Sockets: how they are bound, and how connections are accepted within the limits.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tracing::{debug, warn};

/// The number of connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A socket that has its address but accepts no connections yet.
#[derive(Debug)]
pub struct BoundSocket {
    socket: Socket,
    address: SocketAddr,
}

/// Binds a socket to an address.
///
/// # Errors
/// If the address is in use or not ours; the error says what to do.
pub fn bind(address: SocketAddr) -> anyhow::Result<BoundSocket> {
    let socket = open(address).with_context(|| failed(address))?;
    Ok(BoundSocket { socket, address })
}

impl BoundSocket {
    /// Begins to accept connections. Everything that serves clients must be ready before.
    ///
    /// # Errors
    /// If another process took the address meanwhile.
    pub fn listen(self) -> anyhow::Result<TcpListener> {
        let listen = || {
            self.socket.listen(BACKLOG)?;
            TcpListener::from_std(self.socket.into())
        };
        listen().with_context(|| failed(self.address))
    }
}

fn failed(address: SocketAddr) -> String {
    let hint = if address.port() < 1024 {
        "ports below 1024 need root or CAP_NET_BIND_SERVICE; or another server has it"
    } else {
        "another server may have it: stop that one, or choose another port or --port-offset"
    };
    format!("failed to listen on {address} ({hint})")
}

fn open(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Counts connections: all of them, and those of each network.
#[derive(Debug)]
pub struct Gate {
    all: Arc<Semaphore>,
    per_network: usize,
    networks: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    _all: OwnedSemaphorePermit,
    gate: Arc<Gate>,
    network: Option<IpAddr>,
}

impl Gate {
    /// Allows `all` connections, and `per_network` of one IPv4 address or IPv6 /64. Connections
    /// from loopback count only in `all`.
    #[must_use]
    pub fn new(all: usize, per_network: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            per_network,
            networks: Mutex::default(),
        })
    }

    /// A place for a connection from `remote`. None: all places are taken.
    pub fn enter(self: &Arc<Self>, remote: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let network = (!remote.to_canonical().is_loopback()).then(|| network(remote));
        if let Some(network) = network {
            let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
            let count = networks.entry(network).or_default();
            if *count >= self.per_network {
                return None;
            }
            *count += 1;
        }
        Some(Place {
            _all: permit,
            gate: Arc::clone(self),
            network,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut networks = self
            .gate
            .networks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&network);
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Accepts connections until `shutdown` is true, and passes each to `serve` with its place. A
/// connection without a place gets `refusal` and is closed.
pub async fn accept(
    listener: TcpListener,
    gate: Arc<Gate>,
    refusal: &'static [u8],
    mut shutdown: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr, Place),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, remote)) => match gate.enter(remote.ip()) {
                Some(place) => serve(stream, remote, place),
                None => {
                    debug!(%remote, "connection refused: limits.connections or limits.connections_per_network");
                    refuse(stream, refusal);
                }
            },
            Err(error) => {
                // File descriptors have probably run out. Some connections must end first.
                warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn refuse(mut stream: TcpStream, refusal: &'static [u8]) {
    if refusal.is_empty() {
        return;
    }
    tokio::spawn(async move {
        // The refusal fits the buffer of the socket, so the write does not wait. A failure concerns
        // nobody.
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(refusal)).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_per_network_and_given_back() {
        let gate = Gate::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = gate.enter(ip("192.0.2.1")).unwrap();
        let _second = gate.enter(ip("192.0.2.1")).unwrap();
        assert!(gate.enter(ip("192.0.2.1")).is_none());
        let _other = gate.enter(ip("2001:db8::1")).unwrap();
        drop(first);
        let _again = gate.enter(ip("192.0.2.1")).unwrap();
        assert!(gate.enter(ip("198.51.100.1")).is_none(), "three in all");
    }

    #[test]
    fn an_ipv6_network_is_a_64_and_loopback_has_no_share() {
        let gate = Gate::new(10, 1);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let _one = gate.enter(ip("2001:db8::1")).unwrap();
        assert!(gate.enter(ip("2001:db8::2")).is_none());
        assert!(gate.enter(ip("2001:db8:0:1::2")).is_some());
        let _loopback = (
            gate.enter(ip("127.0.0.1")).unwrap(),
            gate.enter(ip("::ffff:127.0.0.1")).unwrap(),
        );
    }

    #[tokio::test]
    async fn a_port_in_use_says_what_to_do() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let first = first.listen().unwrap();
        let error = format!("{:#}", bind(first.local_addr().unwrap()).unwrap_err());
        assert!(error.contains("another server may have it"), "{error}");
    }
}
