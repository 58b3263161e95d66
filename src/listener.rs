//! Sockets: how they are bound, and how connections are accepted within the limits.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::{
    gate::{Door, Place},
    sparing::Sparing,
};

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
    /// A socket that the service manager bound.
    ///
    /// # Errors
    /// If its address can't be found out.
    pub fn given(socket: std::net::TcpListener) -> anyhow::Result<Self> {
        let address = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        let socket = socket.into();
        Ok(Self { socket, address })
    }

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

/// Accepts connections until `shutdown` is true, and passes each to `serve` with its place. A
/// connection without a place gets `refusal` and is closed.
pub async fn accept(
    listener: TcpListener,
    door: Door,
    refusal: &'static [u8],
    mut shutdown: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr, Place),
) {
    let mut lines = Sparing::default();
    loop {
        let due = lines.due();
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                tell_left_out(&mut lines, &door);
                continue;
            }
            _ = shutdown.wait_for(|stop| *stop) => {
                tell_left_out(&mut lines, &door);
                return;
            }
        };
        match accepted {
            Ok((stream, remote)) => match door.enter(remote.ip()) {
                Ok(place) => serve(stream, remote, place),
                Err(full) => {
                    if lines.count(Instant::now()) {
                        let reply = refusal.split(|byte| *byte == b'\r').next();
                        let reply = String::from_utf8_lossy(reply.unwrap_or_default());
                        let kind = door.kind().name();
                        info!(%remote, kind, limit = %full, %reply, "refused");
                    }
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

/// Logs how many refusals have no line of their own.
fn tell_left_out(lines: &mut Sparing, door: &Door) {
    let count = lines.take_left_out();
    if count > 0 {
        let kind = door.kind().name();
        info!(
            kind,
            count, "more connections refused, without a line for each"
        );
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

    #[tokio::test]
    async fn a_port_in_use_says_what_to_do() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let first = first.listen().unwrap();
        let error = format!("{:#}", bind(first.local_addr().unwrap()).unwrap_err());
        assert!(error.contains("another server may have it"), "{error}");
    }
}
