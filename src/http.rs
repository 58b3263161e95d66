//! The HTTP services of the listeners. Services on one port share one server.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::ConnectInfo,
    http::{
        Request, Response, StatusCode, Version,
        header::{CONNECTION, EXPECT, HOST, HeaderValue},
        uri::Authority,
    },
    response::IntoResponse,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use postrider_config::Network;
use postrider_observe::{
    Metrics,
    metrics::{Accepted as Counted, Api, PanicIn, StatusClass},
    panics,
};
use postrider_smtp::{sasl::TlsProof, server::Shown};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;
use tower_http::timeout::TimeoutBody;
use tracing::debug;

use crate::{
    framing::Fault,
    gate::{Door, Place},
    health,
    idle::{Activity, Noted},
    linger::{Lingering, Rest, Unread, Watched},
    listener::{self, Accepted, Ends, Entrance},
    observed::{Observed, Requests},
    sessions::{self, OnHttps},
    tls::{HandshakeFailures, SMTP_PROTOCOL},
};

/// The time limit of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit for the header of a request, and for an idle connection between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// The time limit until the next piece of a request's body arrives.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The time limit until the client reads the next piece of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The answer to a client without a place, on ports without TLS.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 38\r\n\r\ntoo many connections, try again later\n";
/// The time that running requests have to end when the server stops or a connection is idle.
const GRACE: Duration = Duration::from_secs(10);

/// A port for HTTP.
pub(crate) struct Port {
    pub(crate) entrance: Entrance,
    /// None: HTTP in clear.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) handshakes: Arc<HandshakeFailures>,
    pub(crate) requests: Arc<RequestCounts>,
    /// Submission for clients that ask for it by ALPN.
    pub(crate) submission: Option<Arc<OnHttps>>,
}

/// The counts of the requests at a port.
#[derive(Debug, Default)]
pub(crate) struct RequestCounts {
    pub(crate) metrics: Arc<Metrics>,
    /// What paths begin with, the longest first.
    pub(crate) paths: Vec<(String, Api)>,
}

impl RequestCounts {
    /// What answers requests for this path. None: `/healthz`, whose 503 is an answer and no error.
    fn api(&self, path: &str) -> Option<Api> {
        let mut paths = self.paths.iter();
        let api = paths.find(|(begin, _)| path.starts_with(begin));
        let api = api.map_or(Api::WellKnown, |(_, api)| *api);
        (path != health::PATH).then_some(api)
    }

    /// Counts an answer.
    fn count(&self, api: Api, status: StatusCode, took: Duration) {
        let class = match status.as_u16() {
            300..400 => StatusClass::Three,
            400..500 => StatusClass::Four,
            503 => StatusClass::Unavailable,
            500.. => StatusClass::Five,
            // Another protocol follows a 101, so that is a success.
            _ => StatusClass::Two,
        };
        self.metrics.http_requests_total.with((api, class)).inc();
        let duration = &self.metrics.http_request_duration_seconds;
        duration.with(api).observe(took);
    }
}

/// The rules for the connections of a port.
pub(crate) fn entrance(door: Door, proxies: &[Network], has_tls: bool) -> Entrance {
    Entrance {
        door,
        proxies: proxies.into(),
        refusal: match has_tls {
            true => |_| Vec::new(),
            false => |_| REFUSAL.to_vec(),
        },
        refusals: None,
    }
}

/// Serves `router` until `shutdown` is true. Then it closes idle connections and waits a while for
/// running requests.
pub(crate) async fn serve(
    listener: TcpListener,
    port: Port,
    router: Router,
    shutdown: watch::Receiver<bool>,
) {
    let Port {
        entrance,
        tls,
        handshakes,
        requests,
        submission,
    } = port;
    // Each connection holds a receiver. When the last receiver is gone, all connections have ended.
    // The stream of a connection holds it, because a WebSocket outlives the work for requests.
    let running = watch::Sender::new(());
    let secure = tls.map(|tls| Secure {
        acceptor: TlsAcceptor::from(tls),
        handshakes,
        submission,
    });
    listener::accept(listener, entrance, shutdown.clone(), |accepted| {
        let Accepted {
            stream,
            ends,
            place,
        } = accepted;
        let secure = secure.clone();
        let served_by = (router.clone(), Arc::clone(&requests));
        let held = (place, running.subscribe());
        let served = connection(stream, ends, secure, served_by, shutdown.clone(), held);
        let served = async move {
            if let Err(error) = served.await {
                debug!(remote = %ends.remote, error, "HTTP connection ended");
            }
        };
        tokio::spawn(panics::within(PanicIn::Http, served));
    })
    .await;
    running.closed().await;
}

/// The parts of a port with TLS.
#[derive(Clone)]
struct Secure {
    acceptor: TlsAcceptor,
    handshakes: Arc<HandshakeFailures>,
    submission: Option<Arc<OnHttps>>,
}

/// What a connection holds to its end: its place, and the sign that it runs.
type Held = (Place, watch::Receiver<()>);

/// What answers requests, and what counts them.
type ServedBy = (Router, Arc<RequestCounts>);

async fn connection(
    stream: TcpStream,
    ends: Ends,
    secure: Option<Secure>,
    served_by: ServedBy,
    mut shutdown: watch::Receiver<bool>,
    held: Held,
) -> Result<(), String> {
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let Some(secure) = secure else {
        return exchange(stream, ends.remote, served_by, shutdown, held).await;
    };
    // Logins of submission are bound to the certificate that the server shows.
    let (acceptor, shown) = match secure.submission {
        Some(_) => {
            let (config, shown) = Shown::beside(secure.acceptor.config());
            (TlsAcceptor::from(config), Some(shown))
        }
        None => (secure.acceptor, None),
    };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    let stream = tokio::select! {
        stream = handshake => stream,
        _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
    };
    let stream = match stream.map_err(std::io::Error::from).flatten() {
        Ok(stream) => stream,
        Err(error) => {
            secure.handshakes.tell(ends.remote, &error);
            return Ok(());
        }
    };
    secure
        .handshakes
        .succeeded(stream.get_ref().1.protocol_version());
    match (stream.get_ref().1.alpn_protocol(), secure.submission) {
        // A CA saw the certificate, and that is all it wants (RFC 8737 §3).
        (Some(crate::acme::PROTOCOL), _) => Ok(()),
        // In a box, so that an HTTP connection has no room for it.
        (Some(SMTP_PROTOCOL), Some(submission)) => {
            let proof = shown.map(|shown| shown.proof(stream.get_ref().1));
            let proof = proof.unwrap_or_default();
            Box::pin(submit(stream, proof, ends, submission, shutdown, held)).await
        }
        _ => exchange(stream, ends.remote, served_by, shutdown, held).await,
    }
}

/// Serves a client of submission. It changes its place for one of that kind.
async fn submit(
    mut stream: TlsStream<TcpStream>,
    proof: TlsProof,
    ends: Ends,
    submission: Arc<OnHttps>,
    shutdown: watch::Receiver<bool>,
    (place, _running): Held,
) -> Result<(), String> {
    let entered = submission.door.enter(ends.remote.ip());
    drop(place);
    let place = match entered {
        Ok(place) => {
            submission.door.note(Counted::Ok);
            place
        }
        Err(full) => {
            submission.door.note(full.result());
            submission.count(full);
            let refused = async {
                stream.write_all(&sessions::reply(full)).await?;
                stream.shutdown().await
            };
            let refused = tokio::time::timeout(WRITE_TIMEOUT, refused).await;
            return refused.map_or(Ok(()), |it| it.map_err(|error| error.to_string()));
        }
    };
    submission.serve(stream, proof, ends, shutdown).await;
    drop(place);
    Ok(())
}

/// Answers the requests of a connection. `held` is dropped with the stream.
async fn exchange<S, H>(
    stream: S,
    remote: SocketAddr,
    (router, counts): ServedBy,
    mut shutdown: watch::Receiver<bool>,
    held: H,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Unpin + Send + 'static,
{
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(WRITE_TIMEOUT));
    let unread = Unread::default();
    let stream = Lingering::new(Box::pin(stream), unread.clone(), HEADER_TIMEOUT);
    let (requests, activity) = (Requests::new(), Activity::new());
    let stream = Observed::new(stream, requests.clone(), activity.clone(), held);
    let service = Service {
        remote,
        router,
        counts,
        unread,
        requests,
        activity: activity.clone(),
        number: AtomicUsize::new(0),
    };
    // Requests of HTTP/2 have tasks of their own.
    let service = hyper::service::service_fn(move |request| {
        panics::within(PanicIn::Http, service.answer(request))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_TIMEOUT)
        .max_concurrent_streams(32);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = finished(&mut shutdown, &activity) => {
            connection.as_mut().graceful_shutdown();
            let ended = tokio::time::timeout(GRACE, connection).await;
            ended.map_err(|_| "cut off, since it did not end".to_owned())?
        }
    };
    ended.map_err(|error| error.to_string())
}

/// Waits until the server stops or the connection is idle.
async fn finished(shutdown: &mut watch::Receiver<bool>, activity: &Activity) {
    tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => {}
        () = activity.idle() => {}
    }
}

/// The answers to the requests of one connection.
struct Service {
    remote: SocketAddr,
    router: Router,
    counts: Arc<RequestCounts>,
    unread: Unread,
    requests: Requests,
    activity: Activity,
    /// The number of the next request.
    number: AtomicUsize,
}

impl Service {
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Noted>, Infallible>> + use<> {
        let work = self.activity.begin();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let multiplexed = request.version() == Version::HTTP_2;
        let fault = match multiplexed {
            true => host_fault(&request),
            false => self.requests.framing().fault(number),
        };
        let rest = Rest::default();
        // Reading would ask such a client for the body that it holds back.
        let asks_first = request.headers().contains_key(EXPECT);
        let mut request = request.map(|body| {
            let body = Watched::new(body, rest.clone());
            TimeoutBody::new(BODY_TIMEOUT, body)
        });
        request.extensions_mut().insert(ConnectInfo(self.remote));
        let (router, activity) = (self.router.clone(), self.activity.clone());
        let (unread, counts) = (self.unread.clone(), Arc::clone(&self.counts));
        let api = self.counts.api(request.uri().path());
        let begun = Instant::now();
        async move {
            let (mut answer, is_read) = match fault {
                None => {
                    let answer = router.oneshot(request).await?;
                    let is_read = match asks_first {
                        true => rest.leave(),
                        false => rest.read().await,
                    };
                    (answer, is_read)
                }
                // The rest of the connection has no clear meaning.
                Some(fault) => {
                    let answer = (StatusCode::BAD_REQUEST, format!("{fault}\n"));
                    (answer.into_response(), false)
                }
            };
            if !is_read {
                unread.set();
            }
            if !is_read && !multiplexed {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            drop(work);
            if let Some(api) = api {
                counts.count(api, answer.status(), begun.elapsed());
            }
            Ok(answer.map(|body| Noted::new(body, activity)))
        }
    }
}

/// The fault of a request in HTTP/2 as to its host (RFC 9113 §8.3.1).
fn host_fault(request: &Request<Incoming>) -> Option<Fault> {
    let authority = request.uri().authority().map(Authority::as_str);
    let mut hosts = request.headers().get_all(HOST).iter();
    match (authority, hosts.next(), hosts.next()) {
        (_, Some(_), Some(_)) => Some(Fault::TwoHosts),
        (None, None, None) => Some(Fault::NoHost),
        (Some(authority), Some(host), None) => {
            let same = host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
            (!same).then_some(Fault::TwoHosts)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
