//! The HTTP side of the listeners: services that share a port share its server.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, http::Request, response::IntoResponse, routing::get};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
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

use crate::listener::{self, Gate};

/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to send the header of a request, and how long a connection may be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take until more of a request's body comes.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take until it reads more of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// What a client hears for which there is no place, where TLS does not come first.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 38\r\n\r\ntoo many connections, try again later\n";
/// How long requests that run may take to end after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// `/healthz`: 200 while the store can be written, which is tried.
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

/// Serves `router` until `shutdown` says so, then lets running requests end.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    gate: Arc<Gate>,
    shutdown: watch::Receiver<bool>,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    let refusal = if tls.is_none() { REFUSAL } else { b"" };
    let acceptor = tls.map(TlsAcceptor::from);
    listener::accept(
        listener,
        gate,
        refusal,
        shutdown,
        |stream, remote, place| {
            let (router, acceptor, graceful) =
                (router.clone(), acceptor.clone(), Arc::clone(&graceful));
            tokio::spawn(async move {
                let _place = place;
                if let Err(error) = connection(stream, remote, acceptor, router, &graceful).await {
                    debug!(%remote, error, "HTTP connection ended");
                }
            });
        },
    )
    .await;
    if let Ok(graceful) = Arc::try_unwrap(graceful) {
        let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    }
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    graceful: &GracefulShutdown,
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
    graceful: &GracefulShutdown,
) -> Result<(), String> {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| TimeoutBody::new(BODY_TIMEOUT, body));
        request.extensions_mut().insert(ConnectInfo(remote));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(
                router
                    .oneshot(request)
                    .await
                    .unwrap_or_else(|never| match never {}),
            )
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
        .max_concurrent_streams(128);
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(WRITE_TIMEOUT));
    let connection = builder
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
        .into_owned();
    graceful
        .watch(connection)
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, Bytes},
        routing::post,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// The length of what `/long` answers with.
    const LONG: usize = 10 << 20;

    /// A client of a server that takes what is posted, with room for `buffer` bytes on the way. The time is moved as soon as
    /// both sides wait.
    fn client(buffer: usize) -> (DuplexStream, tokio::task::JoinHandle<Result<(), String>>) {
        let router = Router::new()
            .route("/", post(async |body: Bytes| format!("{}\n", body.len())))
            .route("/long", get(async || Body::from(vec![b'x'; LONG])));
        let (client, server) = tokio::io::duplex(buffer);
        let remote = SocketAddr::from(([192, 0, 2, 1], 1234));
        let graceful = GracefulShutdown::new();
        let serving =
            tokio::spawn(async move { exchange(server, remote, router, &graceful).await });
        (client, serving)
    }

    async fn all(mut client: DuplexStream) -> String {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_or_a_body_that_stops_coming_ends_the_connection() {
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
    async fn an_answer_that_nobody_reads_ends_the_connection() {
        let (mut lazy, serving) = client(4096);
        lazy.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        assert!(serving.await.unwrap().is_err());
        assert!(all(lazy).await.len() < LONG);
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
