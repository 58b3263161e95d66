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
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tracing::debug;

use crate::listener::{self, Gate};

/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to send the header of a request, and how long a connection may be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
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
    let acceptor = tls.map(TlsAcceptor::from);
    listener::accept(listener, gate, b"", shutdown, |stream, remote, place| {
        let (router, acceptor, graceful) =
            (router.clone(), acceptor.clone(), Arc::clone(&graceful));
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection(stream, remote, acceptor, router, &graceful).await {
                debug!(%remote, error, "HTTP connection ended");
            }
        });
    })
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
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
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
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    graceful
        .watch(connection)
        .await
        .map_err(|error| error.to_string())
}
