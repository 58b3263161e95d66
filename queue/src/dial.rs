//! How connections to other servers are made.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    pin::Pin,
};

use nix::errno::Errno;
use postrider_smtp::client::Link;
use tokio::net::{TcpSocket, UnixStream};

/// A connection in the making.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

/// A connection to a Unix socket in the making.
pub type SocketDialing = Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send>>;

/// An address of ours could not be used for a connection. It is inside of the [`io::Error`] of a
/// [`Dialer`]. The server has nothing to do with it.
#[derive(Debug, thiserror::Error)]
#[error("no connection can come from {ip}: {error}")]
pub struct BindError {
    /// The address.
    pub ip: IpAddr,
    /// The error of the system.
    pub error: io::Error,
}

impl BindError {
    /// The error of a dialer, if it is this one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        Self::new(error.error.kind(), error)
    }
}

/// Makes connections to other servers. Tests lead them to other places.
pub trait Dialer: Send + Sync {
    /// Connects to `address`. If `from` is given, the connection comes from this address of ours.
    /// If that can't be used, the error is a [`BindError`].
    fn dial(&self, address: SocketAddr, from: Option<IpAddr>) -> Dialing;

    /// Connects to the Unix socket at `path`.
    fn dial_socket(&self, path: &Path) -> SocketDialing {
        let path = path.to_owned();
        Box::pin(async move { UnixStream::connect(path).await })
    }
}

/// Connects by TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial(&self, address: SocketAddr, from: Option<IpAddr>) -> Dialing {
        Box::pin(async move {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            if let Some(from) = from {
                let bound = socket.bind(SocketAddr::new(from, 0));
                bound.map_err(|error| BindError { ip: from, error })?;
            }
            let connected = socket.connect(address).await;
            Ok(connected
                .map_err(|error| blamed(error, address, from))?
                .into())
        })
    }
}

/// The same error, without its number if it came from outside. While a connection is made, the
/// system hands on what a router or a firewall on the way says: that it knows no way
/// (ENETUNREACH), or that it forbids this one (EACCES, by IPv6). This machine says the same of its
/// own routes, and for those the number stays.
fn blamed(error: io::Error, to: SocketAddr, from: Option<IpAddr>) -> io::Error {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let is_unclear = matches!(errno, Some(Errno::ENETUNREACH | Errno::EACCES));
    match is_unclear && has_route(to, from) {
        true => io::Error::new(error.kind(), error.to_string()),
        false => error,
    }
}

/// Whether this machine has a route to an address. A UDP socket that is connected looks for the
/// route, and sends no packet.
fn has_route(to: SocketAddr, from: Option<IpAddr>) -> bool {
    let any = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(from.unwrap_or(any), 0));
    socket.and_then(|socket| socket.connect(to)).is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::faults::OwnFault;

    /// Nobody may connect to the broadcast address, so there is no route. To loopback there is one.
    #[test]
    fn what_a_router_says_of_a_connection_is_no_fault_of_ours() {
        for (errno, to, is_ours) in [
            (Errno::ENETUNREACH, "127.0.0.1:25", false),
            (Errno::EACCES, "127.0.0.1:25", false),
            (Errno::ENETUNREACH, "255.255.255.255:25", true),
            (Errno::EACCES, "255.255.255.255:25", true),
            // These come from nowhere else.
            (Errno::EADDRNOTAVAIL, "127.0.0.1:25", true),
            (Errno::EMFILE, "127.0.0.1:25", true),
            (Errno::ECONNREFUSED, "255.255.255.255:25", false),
        ] {
            let error = io::Error::from_raw_os_error(errno as i32);
            let text = error.to_string();
            let error = blamed(error, to.parse().unwrap(), None);
            assert_eq!(OwnFault::of(&error).is_some(), is_ours, "{errno} {to}");
            assert_eq!(error.to_string(), text);
        }
        let to = "127.0.0.1:25".parse().unwrap();
        assert!(has_route(to, Some("127.0.0.9".parse().unwrap())));
        // RFC 5737: nobody has this address.
        assert!(!has_route(to, Some("192.0.2.1".parse().unwrap())));
    }

    #[tokio::test]
    async fn a_missing_route_is_a_fault_of_ours() {
        let to = "255.255.255.255:25".parse().unwrap();
        let error = TcpDialer.dial(to, None).await.unwrap_err();
        assert_eq!(OwnFault::of(&error), Some(OwnFault::NoWay), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_is_told_from_a_host_that_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let from = |ip: &str| TcpDialer.dial(address, Some(ip.parse().unwrap()));
        let Ok(Link::Tcp(dialed)) = from("127.0.0.9").await else {
            panic!("no TCP connection");
        };
        assert_eq!(dialed.local_addr().unwrap().ip().to_string(), "127.0.0.9");
        // RFC 5737: nobody has this address.
        let error = from("192.0.2.1").await.unwrap_err();
        assert_eq!(BindError::of(&error).unwrap().ip.to_string(), "192.0.2.1");
        drop((listener, dialed));
        let error = from("127.0.0.9").await.unwrap_err();
        assert!(BindError::of(&error).is_none(), "{error}");
    }
}
