//! The HTTP services of the listeners. Services on one port share one server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::ConnectInfo,
    http::{Request, Version},
    response::IntoResponse,
    routing::get,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use postrider_store::{Accept, Store};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tower_http::timeout::TimeoutBody;
use tracing::debug;

use crate::{
    linger::{Lingering, Rest, Unread, Watched},
    listener::{self, Gate},
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
/// The time that running requests have to end when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// `/healthz`: 200 while the store can be written. Each request tries a write.
pub fn health(store: Store) -> Router {
    Router::new().route(
        "/healthz",
        get(move || {
            let store = store.clone();
            async move {
                match store.accept(Accept::default()).await {
                    Ok(_) => "ok\n".into_response(),
                    Err(error) => (
                        axum::http::StatusCode::SERVICE_UNAVAILABLE,
                        format!("{error}\n"),
                    )
                        .into_response(),
                }
            }
        }),
    )
}

/// Serves `router` until `shutdown` is true. Then it closes idle connections and waits a while for
/// running requests.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    gate: Arc<Gate>,
    shutdown: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    // Dropping this value ends the connections.
    let (patience, impatient) = watch::channel(());
    let refusal = if tls.is_none() { REFUSAL } else { b"" };
    let acceptor = tls.map(TlsAcceptor::from);
    listener::accept(
        listener,
        gate,
        refusal,
        shutdown,
        |stream, remote, place| {
            let served = connection(
                stream,
                remote,
                acceptor.clone(),
                router.clone(),
                graceful.watcher(),
            );
            let mut impatient = impatient.clone();
            tokio::spawn(async move {
                let _place = place;
                let ended = tokio::select! {
                    ended = served => ended,
                    _ = impatient.changed() => Err("cut off, since the server stops".to_owned()),
                };
                if let Err(error) = ended {
                    debug!(%remote, error, "HTTP connection ended");
                }
            });
        },
    )
    .await;
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    drop(patience);
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    graceful: Watcher,
) -> Result<(), String> {
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    match acceptor {
        None => exchange(stream, remote, router, graceful).await,
        Some(acceptor) => {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            let stream = handshake
                .map_err(|_| "TLS handshake took too long".to_owned())?
                .map_err(|error| format!("TLS handshake failed: {error}"))?;
            exchange(stream, remote, router, graceful).await
        }
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    remote: SocketAddr,
    router: Router,
    graceful: Watcher,
) -> Result<(), String> {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(WRITE_TIMEOUT));
    let unread = Unread::default();
    let stream = Lingering::new(Box::pin(stream), unread.clone(), HEADER_TIMEOUT);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let rest = Rest::default();
        let mut request = request.map(|body| {
            let body = Watched::new(body, unread.clone(), rest.clone());
            TimeoutBody::new(BODY_TIMEOUT, body)
        });
        let multiplexed = request.version() == Version::HTTP_2;
        request.extensions_mut().insert(ConnectInfo(remote));
        let router = router.clone();
        async move {
            let answer = router.oneshot(request).await;
            if multiplexed {
                rest.read().await;
            }
            answer
        }
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
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    graceful
        .watch(connection)
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicBool, Ordering},
    };

    use axum::{
        body::{Body, Bytes},
        routing::post,
    };
    use futures_util::{StreamExt, stream};
    use hyper::client::conn::http2;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        sync::Notify,
        task::JoinHandle,
    };

    use super::*;

    /// The length of the answer of `/long`.
    const LONG: usize = 10 << 20;

    /// A client of a server that takes each POST. `buffer` bytes fit between the two. The clock
    /// moves as soon as both sides wait.
    fn client(buffer: usize) -> (DuplexStream, JoinHandle<Result<(), String>>) {
        let router = Router::new()
            .route("/", post(async |body: Bytes| format!("{}\n", body.len())))
            .route("/refused", post(async || "no"))
            .route("/long", get(async || Body::from(vec![b'x'; LONG])));
        let (client, server) = tokio::io::duplex(buffer);
        let remote = SocketAddr::from(([192, 0, 2, 1], 1234));
        let serving = tokio::spawn(async move {
            let graceful = GracefulShutdown::new();
            exchange(server, remote, router, graceful.watcher()).await
        });
        (client, serving)
    }

    async fn all(mut client: DuplexStream) -> String {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_or_a_body_that_stops_coming_ends_the_connection() {
        for silent in [&b""[..], b"PRI"] {
            let (mut slow, serving) = client(4096);
            slow.write_all(silent).await.unwrap();
            assert_eq!(all(slow).await, "");
            assert!(serving.await.unwrap().is_err());
        }

        let (mut slow, serving) = client(4096);
        slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n")
            .await
            .unwrap();
        assert_eq!(all(slow).await, "");
        assert!(serving.await.unwrap().is_err());

        let (mut slow, serving) = client(4096);
        slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
            .await
            .unwrap();
        let answer = all(slow).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        serving.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_slowly_is_read() {
        let (mut slow, serving) = client(4096);
        slow.write_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n",
        )
        .await
        .unwrap();
        for _ in 0..10 {
            tokio::time::sleep(BODY_TIMEOUT - Duration::from_secs(1)).await;
            slow.write_all(b"x").await.unwrap();
        }
        let answer = all(slow).await;
        assert!(answer.ends_with("\r\n\r\n10\n"), "{answer}");
        serving.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_long_body_to_its_end_hears_that_it_was_refused() {
        let body = vec![b'x'; LONG];
        let head = format!("POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: {LONG}\r\n\r\n");
        let (mut eager, serving) = client(64 << 10);
        eager.write_all(head.as_bytes()).await.unwrap();
        eager.write_all(&body).await.unwrap();
        let answer = all(eager).await;
        assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
        serving.await.unwrap().unwrap();

        // The server does not read an endless body for ever.
        let (mut endless, serving) = client(64 << 10);
        endless
            .write_all(head.replace(&LONG.to_string(), "99999999999").as_bytes())
            .await
            .unwrap();
        while endless.write_all(&body[..1000]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        serving.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn in_http2_the_rest_of_a_refused_body_is_read_before_the_stream_ends() {
        let (stream, _serving) = client(64 << 10);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let body = stream::iter(["first", "second"]).then(move |piece| {
            let end = Arc::clone(&end);
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                end.store(piece == "second", Ordering::Relaxed);
                Ok::<_, Infallible>(Bytes::from(piece))
            }
        });
        let request = Request::post("http://x/refused").body(Body::from_stream(body));
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(ended.load(Ordering::Relaxed), "all of the body was read");
        // The server does not wait for the end of an endless body.
        let endless = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let request = Request::post("http://x/refused").body(endless);
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_the_connection() {
        let (mut lazy, serving) = client(4096);
        lazy.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        assert!(serving.await.unwrap().is_err());
        assert!(all(lazy).await.len() < LONG);
    }

    /// A request whose answer waits for the test.
    #[derive(Default)]
    struct Held {
        begun: Notify,
        release: Notify,
    }

    /// A server and its stop signal. It answers `/` at once and `/held` on request; the answer of
    /// `/endless` never ends.
    async fn server() -> (SocketAddr, watch::Sender<bool>, Arc<Held>, JoinHandle<()>) {
        let held = Arc::<Held>::default();
        let handler = Arc::clone(&held);
        let router = Router::new()
            .route("/", get(async || "done"))
            .route(
                "/held",
                get(move || async move {
                    handler.begun.notify_one();
                    handler.release.notified().await;
                    "done"
                }),
            )
            .route(
                "/endless",
                get(async || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, None, router, Gate::new(10, 10), stopping));
        (address, stop, held, serving)
    }

    /// A connection that sent this request.
    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    async fn rest(client: &mut TcpStream) -> String {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn at_a_stop_idle_connections_are_closed_and_running_requests_are_answered() {
        let (address, stop, held, serving) = server().await;
        let mut idle = ask(address, "/").await;
        let mut running = ask(address, "/held").await;
        assert_ne!(idle.read(&mut [0; 1000]).await.unwrap(), 0);
        held.begun.notified().await;

        stop.send(true).unwrap();
        assert_eq!(rest(&mut idle).await, "");
        held.release.notify_one();
        assert!(rest(&mut running).await.ends_with("\r\n\r\ndone"));
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_end_by_itself_is_cut_off_after_a_stop() {
        let (address, stop, _held, serving) = server().await;
        let mut endless = ask(address, "/endless").await;
        let mut head = [0; 15];
        endless.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        // From here on the clock moves as soon as both sides wait.
        tokio::time::pause();
        stop.send(true).unwrap();
        serving.await.unwrap();
        while endless
            .read(&mut [0; 1000])
            .await
            .is_ok_and(|read| read > 0)
        {}
    }

    #[test]
    fn the_refusal_is_an_answer_of_http() {
        let (head, body) = std::str::from_utf8(REFUSAL)
            .unwrap()
            .split_once("\r\n\r\n")
            .unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
    }
}
