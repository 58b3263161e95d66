//! How connections to other servers are made.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
};

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
            Ok(socket.connect(address).await?.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

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
