//! TCP ports on 127.0.0.1: a free one for a program, and the wait until a program answers.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// A port that was free a moment ago, for a program that must know its port before it starts.
///
/// The port is below the ports that Linux gives to connections (`ip_local_port_range` in ip(7),
/// from 32768 on). Any connection could take one of those while a program restarts, even a
/// connection to that same port.
pub(crate) fn free_port() -> Result<u16> {
    /// Where this process looks next. So no port is given twice.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 16 << 10;
    const PORTS: u16 = 16 << 10;
    // Processes that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(61) as u16;
    (0..PORTS)
        .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no port from 16384 to 32767 is free on 127.0.0.1")
}

/// Waits until a program accepts connections on a port of 127.0.0.1, for up to 20 seconds.
pub(crate) fn wait_for_port(port: u16) -> Result<()> {
    wait_for_address(([127, 0, 0, 1], port).into())
}

/// Waits until a program accepts connections at an address, for up to 20 seconds.
pub(crate) fn wait_for_address(address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("nothing answers at {address}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_are_not_those_of_connections() {
        let (one, other) = (free_port().unwrap(), free_port().unwrap());
        assert_ne!(one, other);
        assert!(one.max(other) < 32768, "{one} {other}");
    }

    #[test]
    fn a_port_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        wait_for_port(listener.local_addr().unwrap().port()).unwrap();
    }
}
