//! The first bytes of a connection from a trusted proxy: they tell whose connection it is.

use std::{io, time::Duration};

use postrider_smtp::{PROXY_HEADER_MAX, ProxiedClient, ProxyError, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// The time limit for the whole header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection of a proxy is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The bytes are not a header.
    #[error(transparent)]
    Header(#[from] ProxyError),
    /// The header did not come in time.
    #[error("the PROXY header did not come within {} seconds", HEADER_TIMEOUT.as_secs())]
    Timeout,
    /// The connection ended before the header did.
    #[error("the connection ended within the PROXY header")]
    End,
    /// The connection broke.
    #[error("{0}")]
    Broken(#[from] io::Error),
}

/// Reads the header, and no byte behind it. None: the addresses of the connection hold.
pub(crate) async fn client(stream: &mut TcpStream) -> Result<Option<ProxiedClient>, Fault> {
    let header = timeout(HEADER_TIMEOUT, Box::pin(header(stream)));
    header.await.map_err(|_| Fault::Timeout)?
}

/// What came is looked at first and then taken, so that what follows stays where it is.
async fn header(stream: &mut TcpStream) -> Result<Option<ProxiedClient>, Fault> {
    let mut bytes = [0; PROXY_HEADER_MAX];
    let mut taken = 0;
    loop {
        let room = bytes.get_mut(taken..).unwrap_or_default();
        let seen = stream.peek(room).await?;
        if seen == 0 {
            return Err(Fault::End);
        }
        let all = taken.saturating_add(seen);
        let read = ProxyHeader::parse(bytes.get(..all).unwrap_or_default())?;
        let end = read.map_or(all, |header| header.length);
        let new = bytes.get_mut(taken..end).unwrap_or_default();
        stream.read_exact(new).await?;
        taken = end;
        if let Some(header) = read {
            return Ok(header.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (far, _) = listener.accept().await.unwrap();
        (near.await.unwrap(), far)
    }

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n";

    #[tokio::test]
    async fn no_byte_behind_the_header_is_taken() {
        for (behind, size) in [(&b"EHLO a\r\n"[..], 1000), (b"EHLO a\r\n", 1), (b"", 1000)] {
            let (mut proxy, mut stream) = pair().await;
            let sending = tokio::spawn(async move {
                for piece in [HEADER, behind].concat().chunks(size) {
                    proxy.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let client = client(&mut stream).await.unwrap().unwrap();
            assert_eq!(client.source.to_string(), "192.0.2.7:4711");
            assert_eq!(client.destination.to_string(), "198.51.100.1:25");
            sending.await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, behind);
        }
    }

    #[tokio::test]
    async fn a_header_that_does_not_come_is_not_awaited_for_ever() {
        let (mut proxy, mut stream) = pair().await;
        proxy.write_all(b"PROXY TCP4 ").await.unwrap();
        stream.readable().await.unwrap();
        tokio::time::pause();
        let fault = client(&mut stream).await.unwrap_err();
        assert!(matches!(fault, Fault::Timeout), "{fault}");
    }

    #[tokio::test]
    async fn other_bytes_and_early_ends_are_told() {
        for (bytes, told) in [
            (&b"EHLO a\r\n"[..], "the first bytes are no PROXY header"),
            (
                b"PROXY TCP4 x\r\n",
                "the line of the PROXY header is malformed",
            ),
            (b"PROXY ", "the connection ended within the PROXY header"),
            (b"", "the connection ended within the PROXY header"),
        ] {
            let (mut proxy, mut stream) = pair().await;
            proxy.write_all(bytes).await.unwrap();
            drop(proxy);
            let fault = client(&mut stream).await.unwrap_err();
            assert_eq!(fault.to_string(), told);
        }
    }
}
