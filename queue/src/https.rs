//! A client for HTTPS: one request over one connection, to the host that is named. It follows no
//! redirect, uses no proxy, and keeps nothing.
//!
//! It fetches policies of MTA-STS, sends reports on TLS, and serves the check of a domain.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use postrider_config::Static;
use postrider_dns::{DnsError, Resolver};
use postrider_smtp::client::{Link, TlsFault};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Dialer, QueueSetupError, certificate_verifier, private::is_private};

/// The port of HTTPS.
pub const HTTPS_PORT: u16 = 443;
/// The largest answer, in bytes. RFC 8461 §3.3 suggests it for policies.
pub const ANSWER_MAX: usize = 64 << 10;
/// The most addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// What a request needs.
pub struct HttpsClient<'a> {
    /// Finds the addresses of hosts.
    pub resolver: &'a dyn Resolver,
    /// Makes connections.
    pub dialer: &'a dyn Dialer,
    /// Says which certificates are trusted.
    pub tls: Arc<ClientConfig>,
    /// The time for a request, from the question for the address to the end of the answer.
    pub limit: Duration,
    /// Private addresses are left out. It is for hosts that strangers name.
    pub only_public: bool,
}

/// The TLS of requests: the CAs of the system and of `tls.ca_files` are trusted.
///
/// # Errors
/// If a file of `tls.ca_files` or the system's CAs can't be used.
pub fn tls_config(statics: &Static) -> Result<ClientConfig, QueueSetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(certificate_verifier(statics)?)
        .with_no_client_auth();
    Ok(for_https(&config))
}

/// The same TLS, for requests.
pub(crate) fn for_https(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsAnswer {
    /// The status, such as 200.
    pub status: u16,
    /// The content, [`ANSWER_MAX`] bytes at most.
    pub body: Bytes,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The addresses of the host are not known.
    #[error("{name}: {error}")]
    Dns {
        /// The host.
        name: String,
        /// The error of the question.
        error: DnsError,
    },
    /// The host has no address, or none that may be used.
    #[error("{0} has no address that may be used")]
    NoAddress(String),
    /// No certificate can have the name of the host.
    #[error("{0} is a name that no certificate can have")]
    Name(String),
    /// An address can't be connected to.
    #[error("{address} port {port} can't be reached from here ({error})")]
    Unreached {
        /// The last address that was tried.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The error of the system.
        error: io::Error,
    },
    /// The certificate of the host is not trusted, or not for its name.
    #[error("the certificate does not fit ({0})")]
    Certificate(Box<TlsFault>),
    /// TLS did not begin for another reason than the certificate.
    #[error("TLS with {address} port {port} failed ({error})")]
    Tls {
        /// The last address that was tried.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The error of the handshake.
        error: io::Error,
    },
    /// The host does not speak HTTP, or the connection was lost.
    #[error("the HTTP request failed ({0})")]
    Http(#[from] hyper::Error),
    /// The request can't be written.
    #[error("no HTTP request can be made ({0})")]
    Request(#[from] hyper::http::Error),
    /// The answer has more than [`ANSWER_MAX`] bytes, or the connection was lost in it.
    #[error("the answer could not be read ({0})")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The time was over.
    #[error("no answer within {} s from here", .0.as_secs())]
    Time(Duration),
}

impl HttpsClient<'_> {
    /// Connects to the first address of a host that answers, and makes TLS.
    ///
    /// # Errors
    /// Why no address gave a connection. That of the last one, if there are several.
    pub async fn connect(&self, name: &str, port: u16) -> Result<TlsStream<Link>, HttpsError> {
        self.in_time(self.open(name, port)).await
    }

    /// Fetches what is at a path.
    ///
    /// # Errors
    /// Why there is no answer. An answer with another status than 200 is an answer.
    pub async fn get(&self, name: &str, port: u16, path: &str) -> Result<HttpsAnswer, HttpsError> {
        let request = Request::get(path)
            .header(header::HOST, authority(name, port))
            .header(header::USER_AGENT, "postrider")
            .body(Full::default())?;
        let read = async |answer: Response<Incoming>| {
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect();
            let body = body.await.map_err(HttpsError::Body)?.to_bytes();
            Ok(HttpsAnswer { status, body })
        };
        self.ask(name, port, request, read).await
    }

    /// Sends a content to a path at a host and its port. `content` has its media type and its
    /// bytes. Gives the status of the answer, whose content is not read.
    ///
    /// # Errors
    /// Why there is no answer. An answer with another status than 2xx is an answer.
    pub async fn post(
        &self,
        (name, port): (&str, u16),
        path: &str,
        (media_type, content): (&str, Vec<u8>),
    ) -> Result<u16, HttpsError> {
        let request = Request::post(path)
            .header(header::HOST, authority(name, port))
            .header(header::USER_AGENT, "postrider")
            .header(header::CONTENT_TYPE, media_type)
            .body(Full::from(content))?;
        let read = async |answer: Response<Incoming>| Ok(answer.status().as_u16());
        self.ask(name, port, request, read).await
    }

    /// Sends a request, and reads its answer.
    async fn ask<T>(
        &self,
        name: &str,
        port: u16,
        request: Request<Full<Bytes>>,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, HttpsError>,
    ) -> Result<T, HttpsError> {
        let work = async {
            let stream = self.open(name, port).await?;
            exchange(stream, request, read).await
        };
        self.in_time(work).await
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, HttpsError>>,
    ) -> Result<T, HttpsError> {
        let limit = self.limit;
        let result = tokio::time::timeout(limit, work).await;
        result.unwrap_or_else(|_| Err(HttpsError::Time(limit)))
    }

    async fn open(&self, name: &str, port: u16) -> Result<TlsStream<Link>, HttpsError> {
        let dns = |error| HttpsError::Dns {
            name: name.to_owned(),
            error,
        };
        let addresses = self.resolver.addresses(name).await.map_err(dns)?;
        let server =
            ServerName::try_from(name.to_owned()).map_err(|_| HttpsError::Name(name.to_owned()))?;
        let mut last = HttpsError::NoAddress(name.to_owned());
        let usable = addresses.records.into_iter();
        let usable = usable.filter(|ip| !self.only_public || !is_private(*ip));
        for address in usable.take(ADDRESSES_MAX) {
            match self.open_at(address, port, server.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open_at(
        &self,
        address: IpAddr,
        port: u16,
        server: ServerName<'static>,
    ) -> Result<TlsStream<Link>, HttpsError> {
        let target = SocketAddr::new(address, port);
        let stream = self.dialer.dial(target, None).await;
        let stream = stream.map_err(|error| HttpsError::Unreached {
            address,
            port,
            error,
        })?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(server, stream).await;
        stream.map_err(|error| match certificate_fault(&error) {
            Some(fault) => HttpsError::Certificate(fault.into()),
            None => HttpsError::Tls {
                address,
                port,
                error,
            },
        })
    }
}

/// The host and the port as the field Host has them: the usual port is left out.
fn authority(name: &str, port: u16) -> String {
    match port {
        HTTPS_PORT => name.to_owned(),
        port => format!("{name}:{port}"),
    }
}

/// What is wrong with the certificate, if it is the reason why a handshake failed.
fn certificate_fault(error: &io::Error) -> Option<TlsFault> {
    let error = error.get_ref()?.downcast_ref()?;
    let is_fault = matches!(error, rustls::Error::InvalidCertificate(_));
    is_fault.then(|| TlsFault::of_check(error, &[]))
}

async fn exchange<T>(
    stream: TlsStream<Link>,
    request: Request<Full<Bytes>>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, HttpsError>,
) -> Result<T, HttpsError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async { read(sender.send_request(request).await?).await };
    let driving = async {
        // It ends by itself only after the answer, or with an error that the answer tells too.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = driving => never,
    }
}

#[cfg(test)]
mod tests;
