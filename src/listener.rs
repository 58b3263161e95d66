//! Sockets: how they are bound, and how connections are accepted within the limits.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use postrider_config::Network;
use postrider_observe::{
    Keep, Metrics, Tracer,
    metrics::{self, Accepted as Counted, Label},
    trace::{self, EventType, Key, Term},
};
use postrider_receive::refusals::{RefusalCounts, reason};
use postrider_store::Clock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    gate::{Door, Full, Place},
    proxied,
    sparing::Sparing,
};

/// The number of connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The time that a client without a place has to read its refusal.
const MOMENT: Duration = Duration::from_secs(1);
/// The most clients without a place that have this time at once.
const MOMENTS: usize = 64;
/// The most bytes that are read from such a client.
const UNREAD_MAX: u64 = 64 << 10;

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

/// The rules for the connections of one socket.
#[derive(Clone)]
pub(crate) struct Entrance {
    /// The places.
    pub(crate) door: Door,
    /// The proxies, one of which must be each peer. Empty: clients connect themselves.
    pub(crate) proxies: Arc<[Network]>,
    /// The answer to a client without a place. Empty: the connection is closed without one.
    pub(crate) refusal: fn(Full) -> Vec<u8>,
    /// Where refused connections are counted. None: nowhere, since they bring no mail.
    pub(crate) refusals: Option<RefusedConnections>,
}

/// Counts the refused connections of a service over SMTP, and traces some of them.
#[derive(Clone)]
pub(crate) struct RefusedConnections {
    pub(crate) counts: Arc<RefusalCounts>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracer: Tracer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) service: metrics::Service,
    pub(crate) listener: metrics::Listener,
}

impl RefusedConnections {
    /// Counts a connection that is refused for the reason with this name.
    pub(crate) fn count(&self, name: &str) {
        let labels = (self.service, self.counts.count(name).reason);
        self.metrics.refusals_total.with(labels).inc();
    }

    /// Traces a connection without a place. There is no session that could do so.
    fn trace(&self, ends: Ends, full: Full, said: &Said<'_>) {
        let now = self.clock.now().0;
        let mut trace = self.tracer.start(trace::Kind::Session, now);
        if !trace.is_on() {
            return;
        }
        trace.index(Term::RemoteIp(ends.remote.ip()));
        trace.event(now, EventType::SmtpConnectionStart, |data| {
            data.text(Key::ListenerId, self.listener.text());
            data.display(Key::LocalIp, ends.local.ip().to_canonical());
            data.number(Key::LocalPort, ends.local.port().into());
            data.display(Key::RemoteIp, ends.remote.ip().to_canonical());
            data.number(Key::RemotePort, ends.remote.port().into());
        });
        let meaning = RefusalCounts::meaning(full.reason());
        trace.event(now, meaning.event, |data| {
            if let Some(code) = said.code {
                data.number(Key::Code, code.into());
            }
            data.text_if_any(Key::Reason, said.text.unwrap_or_default());
            data.display(Key::Policy, full);
            if let Full::Network(network) = full {
                data.display(Key::Details, network.with_prefix());
            }
            data.text(Key::Rule, meaning.reason.text());
        });
        trace.event(now, EventType::SmtpConnectionEnd, |_| {});
        self.tracer.finish(trace, Keep::Always);
    }
}

/// What a client without a place is told, such as `421 4.3.2 too many connections`. Some are told
/// nothing, and clients of HTTP get an answer without a code of SMTP.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said<'a> {
    code: Option<u16>,
    enhanced: Option<&'a str>,
    text: Option<&'a str>,
}

impl<'a> Said<'a> {
    fn of(reply: &'a [u8]) -> Self {
        let line = reply.split(|byte| *byte == b'\r').next();
        let line = line.and_then(|line| str::from_utf8(line).ok());
        let line = line.unwrap_or_default();
        let mut parts = line.splitn(3, ' ');
        let code = parts.next().and_then(|code| code.parse().ok());
        match (code, parts.next(), parts.next()) {
            (Some(_), Some(enhanced), Some(text)) => Self {
                code,
                enhanced: Some(enhanced),
                text: Some(text),
            },
            _ => Self {
                text: Some(line).filter(|line| !line.is_empty()),
                ..Self::default()
            },
        }
    }
}

/// The addresses of a connection that count. Behind a proxy they are those of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client's address.
    pub(crate) remote: SocketAddr,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
}

/// A connection with its place.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) ends: Ends,
    pub(crate) place: Place,
}

/// What a socket waits for.
enum Event {
    /// A connection.
    Came(std::io::Result<(TcpStream, SocketAddr)>),
    /// A proxy has said for whom a connection comes, or why not.
    Opened(Result<(SocketAddr, Result<Accepted, Unserved>), JoinError>),
    /// The time for a line of the log.
    Due,
    /// The end of the server.
    Stop,
}

/// Why a connection is not served.
enum Unserved {
    /// It has no place. The answer is sent if there is one.
    Full(TcpStream, Full, Ends),
    /// It broke at once.
    Broken(std::io::Error),
    /// It comes from a peer that is none of the proxies.
    Stranger,
    /// The proxy did not say for whom it comes.
    Proxy(proxied::Fault),
}

impl Unserved {
    /// The name of the reason, for counters. None: nobody refused the connection.
    const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Full(_, full, _) => Some(full.reason()),
            Self::Broken(_) => None,
            Self::Stranger => Some(reason::UNLISTED_PROXY),
            Self::Proxy(_) => Some(reason::PROXY_HEADER),
        }
    }
}

/// Accepts connections until `shutdown` is true, and passes each to `serve` with its place. A
/// connection without a place gets the refusal and is closed.
pub(crate) async fn accept(
    listener: TcpListener,
    entrance: Entrance,
    mut shutdown: watch::Receiver<bool>,
    serve: impl Fn(Accepted),
) {
    let mut unserved = Log {
        kind: entrance.door.kind().name(),
        lines: Sparing::default(),
    };
    let moments = Arc::new(Semaphore::new(MOMENTS));
    // The connections whose proxies have not said yet for whom they come. Each has a place, so
    // their number is limited. They end with this function.
    let mut opening = JoinSet::new();
    loop {
        let due = unserved.lines.due();
        let event = tokio::select! {
            came = listener.accept() => Event::Came(came),
            Some(opened) = opening.join_next() => Event::Opened(opened),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
            _ = shutdown.wait_for(|stop| *stop) => Event::Stop,
        };
        let (remote, ready) = match event {
            Event::Came(Ok((stream, remote))) if entrance.proxies.is_empty() => {
                (remote, direct(stream, remote, &entrance))
            }
            Event::Came(Ok((stream, remote))) => match behind_proxy(stream, remote, &entrance) {
                Ok(ready) => {
                    opening.spawn(async move { (remote, ready.await) });
                    continue;
                }
                Err(reason) => (remote, Err(reason)),
            },
            Event::Came(Err(error)) => {
                // File descriptors have probably run out. Some connections must end first.
                entrance.door.note(match is_used_up(&error) {
                    true => Counted::Descriptors,
                    false => Counted::Failed,
                });
                warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Event::Opened(Ok(opened)) => opened,
            Event::Opened(Err(_)) => continue,
            Event::Due => {
                unserved.tell_left_out();
                continue;
            }
            Event::Stop => {
                unserved.tell_left_out();
                return;
            }
        };
        match ready {
            Ok(accepted) => {
                entrance.door.note(Counted::Ok);
                serve(accepted);
            }
            Err(reason) => {
                entrance.door.note(match &reason {
                    Unserved::Full(_, full, _) => full.result(),
                    _ => Counted::Failed,
                });
                if let (Some(refusals), Some(name)) = (&entrance.refusals, reason.reason()) {
                    refusals.count(name);
                }
                let reply = match &reason {
                    Unserved::Full(_, full, _) => (entrance.refusal)(*full),
                    _ => Vec::new(),
                };
                unserved.tell(remote, &reason, &reply, entrance.refusals.as_ref());
                if let Unserved::Full(stream, ..) = reason {
                    refuse(stream, reply, &moments);
                }
            }
        }
    }
}

/// Whether there are no file descriptors left.
fn is_used_up(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A connection of a client itself.
fn direct(
    stream: TcpStream,
    remote: SocketAddr,
    entrance: &Entrance,
) -> Result<Accepted, Unserved> {
    let local = stream.local_addr().map_err(Unserved::Broken)?;
    let ends = Ends { remote, local };
    match entrance.door.enter(remote.ip()) {
        Ok(place) => Ok(Accepted {
            stream,
            ends,
            place,
        }),
        Err(full) => Err(Unserved::Full(stream, full, ends)),
    }
}

/// A connection of a proxy, once that has said for whom it comes.
fn behind_proxy(
    mut stream: TcpStream,
    remote: SocketAddr,
    entrance: &Entrance,
) -> Result<impl Future<Output = Result<Accepted, Unserved>> + use<>, Unserved> {
    let proxies = &entrance.proxies;
    let peer = remote.ip().to_canonical();
    if !proxies.iter().any(|network| network.contains(peer)) {
        return Err(Unserved::Stranger);
    }
    let local = stream.local_addr().map_err(Unserved::Broken)?;
    let door = entrance.door.clone();
    let mut place = match door.enter_unknown() {
        Ok(place) => place,
        Err(full) => return Err(Unserved::Full(stream, full, Ends { remote, local })),
    };
    Ok(async move {
        let client = proxied::client(&mut stream).await;
        let ends = match client.map_err(Unserved::Proxy)? {
            Some(client) => Ends {
                remote: client.source,
                local: client.destination,
            },
            None => Ends { remote, local },
        };
        match door.count(&mut place, ends.remote.ip()) {
            Ok(()) => Ok(Accepted {
                stream,
                ends,
                place,
            }),
            Err(full) => Err(Unserved::Full(stream, full, ends)),
        }
    })
}

/// The lines of the log about connections that are not served.
struct Log {
    kind: &'static str,
    lines: Sparing,
}

impl Log {
    /// Tells of a connection that is not served. One that has a line has a trace too.
    fn tell(
        &mut self,
        remote: SocketAddr,
        reason: &Unserved,
        reply: &[u8],
        refusals: Option<&RefusedConnections>,
    ) {
        if !self.lines.count(Instant::now()) {
            return;
        }
        let kind = self.kind;
        match reason {
            Unserved::Full(_, full, ends) => {
                let said = Said::of(reply);
                let meaning = RefusalCounts::meaning(full.reason());
                // Clients of HTTP have no trace here, so that no event stands for the line.
                let event = refusals.map(|_| meaning.event.name());
                info!(
                    remote = %ends.remote.ip().to_canonical(),
                    service = kind,
                    reason = meaning.reason.text(),
                    code = said.code,
                    enhanced = said.enhanced,
                    text = said.text,
                    limit = %full,
                    trace.event = event,
                    "refused"
                );
                if let Some(refusals) = refusals {
                    refusals.trace(*ends, *full, &said);
                }
            }
            Unserved::Broken(error) => {
                debug!(%remote, service = kind, %error, "connection broke at once")
            }
            Unserved::Stranger => {
                warn!(%remote, service = kind, "connection closed: not in proxy_from of its listener");
            }
            Unserved::Proxy(fault) => {
                warn!(%remote, service = kind, error = %fault, "connection closed: fault of the proxy")
            }
        }
    }

    /// Logs how many connections have no line of their own.
    fn tell_left_out(&mut self) {
        let count = self.lines.take_left_out();
        if count > 0 {
            let kind = self.kind;
            info!(service = kind, count, "more connections refused");
        }
    }
}

/// Sends a refusal and closes. The kernel answers bytes that nobody read with a reset, and a client
/// that gets one may never read the refusal. So the server closes its writing side, and reads for a
/// moment what the client had to say. Only so many clients have such a moment at once: the others
/// are closed at once, since their number has no limit.
fn refuse(mut stream: TcpStream, refusal: Vec<u8>, moments: &Arc<Semaphore>) {
    if refusal.is_empty() {
        return;
    }
    let moment = Arc::clone(moments).try_acquire_owned();
    tokio::spawn(async move {
        let farewell = async {
            // The refusal fits the buffer of the socket, so the write does not wait.
            stream.write_all(&refusal).await?;
            stream.shutdown().await?;
            if moment.is_ok() {
                let mut rest = stream.take(UNREAD_MAX);
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
            }
            std::io::Result::Ok(())
        };
        // A failure concerns nobody.
        let _ = tokio::time::timeout(MOMENT, farewell).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request was never read. The client gets the whole refusal, and no reset.
    #[tokio::test]
    async fn a_refused_client_that_has_sent_its_request_reads_the_refusal() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen().unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(&[b'x'; 10_000]).await.unwrap();
        stream.readable().await.unwrap();
        let moments = Arc::new(Semaphore::new(1));
        refuse(stream, b"HTTP/1.1 503 \r\n\r\n".to_vec(), &moments);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HTTP/1.1 503 \r\n\r\n");
        // The client closes, which ends the moment.
        drop(client);
        drop(moments.acquire().await.unwrap());
    }

    #[test]
    fn what_a_client_is_told_has_its_parts() {
        let said = |code, enhanced, text| Said {
            code,
            enhanced,
            text,
        };
        for (reply, expected) in [
            (
                &b"421 4.3.2 too many connections\r\n"[..],
                said(Some(421), Some("4.3.2"), Some("too many connections")),
            ),
            (
                b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
                said(None, None, Some("HTTP/1.1 503 Service Unavailable")),
            ),
            (b"", said(None, None, None)),
        ] {
            assert_eq!(Said::of(reply), expected);
        }
    }

    #[tokio::test]
    async fn a_port_in_use_says_what_to_do() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let first = first.listen().unwrap();
        let error = format!("{:#}", bind(first.local_addr().unwrap()).unwrap_err());
        assert!(error.contains("another server may have it"), "{error}");
    }
}
