//! Making connections.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};

use tokio::net::{TcpSocket, TcpStream};

/// A connection in the making.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// How connections to other servers are made. Tests lead them elsewhere.
pub trait Dialer: Send + Sync {
    /// Connects to `address`, from our address `from` if given.
    fn dial(&self, address: SocketAddr, from: Option<IpAddr>) -> Dialing;
}

/// By TCP, as it is.
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
