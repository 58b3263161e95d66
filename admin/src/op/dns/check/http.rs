//! TLS connections and HTTPS requests of a check. No redirect is followed.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use postrider_dns::Resolver;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{CONNECTION_TIME, Subject, tls::Certificate};

/// The largest answer. RFC 8461 §3.3 suggests 64 KiB for policies.
const ANSWER_MAX: usize = 64 << 10;
/// The most addresses that are tried.
const ADDRESSES: usize = 4;

/// The answer to a request.
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Makes a TLS connection to a name, and gives its certificate.
///
/// # Errors
/// A sentence without a full stop.
pub(super) async fn certificate(
    subject: &Subject<'_>,
    name: &str,
    port: u16,
    resolver: &dyn Resolver,
) -> Result<Certificate, String> {
    let work = async {
        let (_, certificate) = connect(subject, name, port, resolver).await?;
        Ok(certificate)
    };
    in_time(work).await
}

/// Fetches a page over HTTPS. The certificate must be trusted.
///
/// # Errors
/// A sentence without a full stop.
pub(super) async fn get(
    subject: &Subject<'_>,
    name: &str,
    port: u16,
    path: &str,
    resolver: &dyn Resolver,
) -> Result<HttpAnswer, String> {
    let work = async {
        let (stream, certificate) = connect(subject, name, port, resolver).await?;
        if let Err(reason) = certificate.trusted {
            return Err(format!("the certificate does not fit ({reason})"));
        }
        request(stream, name, path).await
    };
    in_time(work).await
}

async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(CONNECTION_TIME, work).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "no answer within {} s from here",
            CONNECTION_TIME.as_secs()
        )),
    }
}

/// Connects to the first address of a name that answers.
async fn connect(
    subject: &Subject<'_>,
    name: &str,
    port: u16,
    resolver: &dyn Resolver,
) -> Result<(TlsStream<TcpStream>, Certificate), String> {
    let addresses = resolver.addresses(name).await;
    let addresses = addresses.map_err(|error| format!("{name}: {error}"))?;
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name} is a name that no certificate can have"))?;
    let mut failure = format!("{name} has no address");
    for address in addresses.records.into_iter().take(ADDRESSES) {
        let target = SocketAddr::new(address, port);
        let stream = match subject.world.dialer.dial(target, None).await {
            Ok(stream) => stream,
            Err(error) => {
                failure = format!("{address} port {port} can't be reached from here ({error})");
                continue;
            }
        };
        let (config, watch) = subject.tls.watch()?;
        let connector = TlsConnector::from(Arc::clone(&config));
        let stream = match connector.connect(server.clone(), stream).await {
            Ok(stream) => stream,
            Err(error) => {
                failure = format!("TLS with {address} port {port} failed ({error})");
                continue;
            }
        };
        let certificate = watch.certificate();
        let certificate = certificate.ok_or("the server showed no certificate")?;
        return Ok((stream, certificate));
    }
    Err(failure)
}

async fn request(
    stream: TlsStream<TcpStream>,
    name: &str,
    path: &str,
) -> Result<HttpAnswer, String> {
    let failed = |error: hyper::Error| format!("the HTTP request failed ({error})");
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(failed)?;
    let request = Request::get(path)
        .header(header::HOST, name)
        .header(header::USER_AGENT, "postrider")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| format!("the answer could not be read ({error})"))?;
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(HttpAnswer { status, body })
    };
    tokio::pin!(answer);
    let connection = async {
        // It ends by itself only after the answer, or with an error that the answer tells too.
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = &mut answer => answer,
        () = connection => Err("the connection ended".to_owned()),
    }
}
