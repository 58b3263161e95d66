//! How connections to other servers are made.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
};

use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// A connection in the making.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// A connection to a Unix socket in the making.
pub type SocketDialing = Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send>>;

/// Makes connections to other servers. Tests lead them to other places.
pub trait Dialer: Send + Sync {
    /// Connects to `address`. If `from` is given, the connection comes from this address of ours.
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
                socket.bind(SocketAddr::new(from, 0))?;
            }
            socket.connect(address).await
        })
    }
}
