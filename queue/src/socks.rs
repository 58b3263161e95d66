//! The client's side of SOCKS5 (RFC 1928): the command CONNECT, without a login.
//!
//! A fault of the proxy is a fault of ours: it says nothing of the host behind it. If the proxy
//! does not say whose fault it is, it is the host's if the proxy reached others lately
//! ([`Reached`]).

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use postrider_store::Moment;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 5;
/// No login (RFC 1928 §3).
const NO_LOGIN: u8 = 0;
/// The greeting: one method, no login.
const GREETING: [u8; 3] = [VERSION, 1, NO_LOGIN];

/// The bytes of a reply that tell its length. No reply is shorter.
const REPLY_START: usize = 5;

/// Why there is no connection through a proxy.
#[derive(Debug)]
pub(crate) enum SocksError {
    /// The proxy failed, or does not do what it is asked for.
    Proxy(io::Error),
    /// The proxy can't reach the host. This is what it says.
    Host(&'static str),
    /// There is no connection, and the proxy does not say whose fault that is.
    Unclear(&'static str),
}

impl From<io::Error> for SocksError {
    fn from(error: io::Error) -> Self {
        Self::Proxy(error)
    }
}

fn proxy(text: impl Into<String>) -> SocksError {
    SocksError::Proxy(io::Error::other(text.into()))
}

/// Greets a proxy on a new connection, without a login.
pub(crate) async fn greet(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), SocksError> {
    io.write_all(&GREETING).await?;
    io.flush().await?;
    let mut answer = [0; 2];
    io.read_exact(&mut answer).await?;
    match answer {
        [VERSION, NO_LOGIN] => Ok(()),
        [VERSION, _] => Err(proxy("the proxy takes no client without a login")),
        _ => Err(proxy("the proxy does not speak SOCKS5")),
    }
}

/// Has the proxy connect to an address. The bytes that follow are those of the host.
pub(crate) async fn connect(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    address: SocketAddr,
) -> Result<(), SocksError> {
    io.write_all(&request(address)).await?;
    io.flush().await?;
    let mut start = [0; REPLY_START];
    // A proxy may close right behind the code of an error.
    let (code, rest) = start.split_at_mut(2);
    io.read_exact(code).await?;
    judge(code)?;
    io.read_exact(rest).await?;
    let mut rest = vec![0; rest_of_reply(start)?];
    io.read_exact(&mut rest).await?;
    Ok(())
}

/// The command CONNECT (RFC 1928 §4).
fn request(address: SocketAddr) -> Vec<u8> {
    let mut request = vec![VERSION, 1, 0];
    match address {
        SocketAddr::V4(v4) => {
            request.push(1);
            request.extend_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            request.push(4);
            request.extend_from_slice(&v6.ip().octets());
        }
    }
    request.extend_from_slice(&address.port().to_be_bytes());
    request
}

/// What the version and the code of a reply say (RFC 1928 §6).
fn judge(start: &[u8]) -> Result<(), SocksError> {
    match start {
        [VERSION, 0] => Ok(()),
        [VERSION, 4] => Err(SocksError::Host("the proxy finds no way to the host")),
        [VERSION, 5] => Err(SocksError::Host("the host refuses the proxy's connection")),
        [VERSION, 6] => Err(SocksError::Host(
            "the proxy's packets do not reach the host",
        )),
        [VERSION, 1] => Err(SocksError::Unclear(
            "the proxy tells of a failure, and not of whose",
        )),
        [VERSION, 2] => Err(proxy("the proxy does not allow the connection")),
        [VERSION, 3] => Err(proxy("the proxy has no way to the network of the host")),
        [VERSION, 8] => Err(proxy("the proxy does not know addresses of this family")),
        [VERSION, code] => Err(proxy(format!("the proxy failed with code {code}"))),
        _ => Err(proxy("the proxy does not speak SOCKS5")),
    }
}

/// How many bytes of a reply follow its start: the rest of an address, and a port.
fn rest_of_reply(start: [u8; REPLY_START]) -> Result<usize, SocksError> {
    let [_, _, _, kind, first] = start;
    let address: usize = match kind {
        1 => 4,
        4 => 16,
        // A name, with its length in front.
        3 => usize::from(first) + 1,
        _ => return Err(proxy("the proxy's reply has no address of SOCKS5")),
    };
    Ok(address - 1 + 2)
}

/// How long it counts that a proxy reached a host.
const REACHED_COUNTS: Duration = Duration::from_secs(10 * 60);

/// The last two hosts that a proxy reached, and when.
type LastTwo = [Option<(SocketAddr, Moment)>; 2];

/// The last hosts that each proxy reached.
#[derive(Debug, Default)]
pub(crate) struct Reached(Mutex<HashMap<String, LastTwo>>);

impl Reached {
    /// A proxy reached a host.
    pub(crate) fn note(&self, proxy: &str, host: SocketAddr, now: Moment) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [last, other] = all.entry(proxy.to_owned()).or_default();
        if last.is_some_and(|(known, _)| known != host) {
            *other = *last;
        }
        *last = Some((host, now));
    }

    /// Whether a proxy reached another host than this one lately.
    pub(crate) fn has_other(&self, proxy: &str, host: SocketAddr, now: Moment) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reached = all.get(proxy).into_iter().flatten().flatten();
        reached.any(|(known, at)| *known != host && now.since(*at) < REACHED_COUNTS)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Connects to this address through a proxy that sends these bytes after the greeting. Gives
    /// the request, the result, and what follows on the connection.
    async fn through(address: &str, reply: &[u8]) -> (Vec<u8>, Result<(), SocksError>, Vec<u8>) {
        let (mut ours, mut theirs) = duplex(1024);
        theirs.write_all(&[5, 0]).await.unwrap();
        theirs.write_all(reply).await.unwrap();
        theirs.shutdown().await.unwrap();
        greet(&mut ours).await.unwrap();
        let result = connect(&mut ours, address.parse().unwrap()).await;
        let (mut sent, mut rest) = (Vec::new(), Vec::new());
        ours.read_to_end(&mut rest).await.unwrap();
        drop(ours);
        theirs.read_to_end(&mut sent).await.unwrap();
        (sent.split_off(GREETING.len()), result, rest)
    }

    #[tokio::test]
    async fn what_follows_the_reply_is_the_hosts() {
        let v4 = [5, 0, 0, 1, 127, 0, 0, 1, 0, 99];
        let v6 = [&[5, 0, 0, 4][..], &[1; 16], &[0, 99]].concat();
        let name = [&[5, 0, 0, 3, 3][..], b"a.b", &[0, 99]].concat();
        let no_name = [5, 0, 0, 3, 0, 0, 99];
        for reply in [&v4[..], &v6, &name, &no_name] {
            let reply = [reply, b"220 mx\r\n"].concat();
            let (_, result, rest) = through("192.0.2.1:25", &reply).await;
            assert!(result.is_ok(), "{reply:?}");
            assert_eq!(rest, b"220 mx\r\n", "{reply:?}");
        }
    }

    #[tokio::test]
    async fn requests_by_address() {
        let (sent, _, _) = through("192.0.2.1:25", &[5, 1]).await;
        assert_eq!(sent, [5, 1, 0, 1, 192, 0, 2, 1, 0, 25]);
        let (sent, _, _) = through("[2001:db8::1]:465", &[5, 1]).await;
        let ip = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(sent, [&[5, 1, 0, 4][..], &ip, &[1, 209]].concat());
    }

    #[tokio::test]
    async fn faults_of_the_host_and_of_the_proxy_are_told_apart() {
        for code in 1..=9 {
            let (_, result, _) = through("192.0.2.1:25", &[5, code]).await;
            let is_hosts = matches!(result, Err(SocksError::Host(_)));
            let is_unclear = matches!(result, Err(SocksError::Unclear(_)));
            let is_proxys = matches!(result, Err(SocksError::Proxy(_)));
            assert_eq!(is_hosts, matches!(code, 4..=6), "{code}");
            assert_eq!(is_unclear, code == 1, "{code}");
            assert!(is_hosts || is_proxys || is_unclear, "{code}");
        }
        for broken in [
            &b""[..],
            &[5],
            &[4, 0, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0],
            &[5, 0, 0, 2, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0, 1, 127, 0, 0],
            b"220 mx\r\n",
        ] {
            let (_, result, _) = through("192.0.2.1:25", broken).await;
            assert!(matches!(result, Err(SocksError::Proxy(_))), "{broken:?}");
        }
    }

    #[test]
    fn a_proxy_works_if_it_reached_another_host_lately() {
        let reached = Reached::default();
        let host = |number: u8| SocketAddr::from(([192, 0, 2, number], 25));
        let at = |minutes: u64| Moment(Duration::from_secs(60 * minutes));
        let works = |number, minutes| reached.has_other("proxy", host(number), at(minutes));
        assert!(!works(1, 0));
        reached.note("proxy", host(1), at(0));
        assert!(!works(1, 0) && works(2, 0) && works(2, 9) && !works(2, 10));
        reached.note("proxy", host(2), at(5));
        assert!(works(1, 14) && works(2, 9) && !works(2, 10));
        reached.note("proxy", host(2), at(6));
        assert!(works(2, 9), "the other host is still known");
        assert!(!reached.has_other("proxy2", host(3), at(6)));
    }

    #[tokio::test]
    async fn a_proxy_that_wants_a_login_or_is_none_is_of_no_use() {
        for answer in [[5, 0xff], [5, 2], [4, 0], *b"HT"] {
            let (mut ours, mut theirs) = duplex(1024);
            theirs.write_all(&answer).await.unwrap();
            let result = greet(&mut ours).await;
            assert!(matches!(result, Err(SocksError::Proxy(_))), "{answer:?}");
        }
    }
}
