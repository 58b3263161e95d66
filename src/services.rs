//! The services of the configured listeners, with their addresses and certificates.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, bail};
use axum::Router;
use postrider_config::{CertificateSource, HttpService, Listener, Static, TlsVersion};
use postrider_receive::SessionContext;
use postrider_smtp::server::SessionConfig;
use postrider_webapi::{Endpoint, HostNames, Webapi};
use rustls::ServerConfig;

use crate::{
    gate::Kind,
    health,
    listener::{self, BoundSocket},
    service_manager::GivenSockets,
    tls::{Certificates, KeyPairFiles},
};

/// The longest line of a message, in bytes. Real mail has lines far above the 998 bytes of RFC
/// 5321.
const MAX_LINE: usize = 64 * 1024;

/// A kind of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// SMTP for other mail servers (MX).
    Smtp,
    /// Submission with STARTTLS.
    Submission,
    /// Submission with TLS from the start.
    Submissions,
    /// The webapi in clear.
    WebapiHttp,
    /// The webapi over TLS.
    WebapiHttps,
}

impl Service {
    const ALL: [Self; 5] = [
        Self::Smtp,
        Self::Submission,
        Self::Submissions,
        Self::WebapiHttp,
        Self::WebapiHttps,
    ];

    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
            Self::WebapiHttp => "webapi_http",
            Self::WebapiHttps => "webapi_https",
        }
    }

    /// The service speaks HTTP.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::WebapiHttp | Self::WebapiHttps)
    }

    /// The kind of its clients.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Smtp => Kind::Mx,
            Self::Submission | Self::Submissions => Kind::Submission,
            Self::WebapiHttp | Self::WebapiHttps => Kind::Http,
        }
    }

    /// The clients come through a trusted proxy.
    #[must_use]
    pub const fn behind_proxy(self, listener: &Listener) -> bool {
        match self {
            Self::WebapiHttp => listener.webapi_http.forwarded_hops > 0,
            Self::WebapiHttps => listener.webapi_https.forwarded_hops > 0,
            Self::Smtp | Self::Submission | Self::Submissions => false,
        }
    }

    /// The port of this service on a listener. None: the listener does not have it.
    const fn port(self, listener: &Listener) -> Option<u16> {
        let (enabled, port) = match self {
            Self::Smtp => (listener.smtp.enabled, listener.smtp.port),
            Self::Submission => (listener.submission.enabled, listener.submission.port),
            Self::Submissions => (listener.submissions.enabled, listener.submissions.port),
            Self::WebapiHttp => (listener.webapi_http.enabled, listener.webapi_http.port),
            Self::WebapiHttps => (listener.webapi_https.enabled, listener.webapi_https.port),
        };
        if enabled { Some(port) } else { None }
    }

    /// The service requires a certificate.
    const fn needs_tls(self) -> bool {
        matches!(self, Self::Submissions | Self::WebapiHttps)
    }

    /// The TLS configuration of this service on a listener. None: the service has no TLS there.
    ///
    /// # Errors
    /// If the TLS configuration is invalid.
    pub fn tls_config(
        self,
        listener: &Listener,
        certificates: Option<&Arc<Certificates>>,
    ) -> anyhow::Result<Option<Arc<ServerConfig>>> {
        let (Some(certificates), Some(tls)) = (certificates, &listener.tls) else {
            return Ok(None);
        };
        let alpn: &[&[u8]] = match self {
            Self::WebapiHttp => return Ok(None),
            Self::Smtp if !listener.smtp.starttls => return Ok(None),
            Self::Smtp | Self::Submission | Self::Submissions => &[],
            Self::WebapiHttps => &[b"h2", b"http/1.1"],
        };
        certificates
            .server_config(tls.min_version == TlsVersion::Tls13, alpn)
            .map(Some)
    }
}

/// A listener with its bound sockets. They do not listen yet.
#[derive(Debug)]
pub struct Bound {
    /// The name in the configuration.
    pub name: String,
    /// The configuration.
    pub listener: Listener,
    /// One socket for each service and address.
    pub sockets: Vec<(Service, BoundSocket)>,
    /// The certificates of the listener. None: it has no TLS.
    pub certificates: Option<Arc<Certificates>>,
}

/// Loads the certificates, and binds the sockets of all listeners. A service for which the service
/// manager gave sockets takes those.
///
/// # Errors
/// If a certificate or an address can't be used.
pub fn bind_all(statics: &Static, given: &mut GivenSockets) -> anyhow::Result<Vec<Bound>> {
    statics
        .listeners
        .iter()
        .map(|(name, listener)| bind(name, listener, given))
        .collect()
}

fn bind(name: &str, listener: &Listener, given: &mut GivenSockets) -> anyhow::Result<Bound> {
    let certificates = certificates(name, listener)?;
    let mut sockets = Vec::new();
    for service in Service::ALL {
        let Some(port) = service.port(listener) else {
            continue;
        };
        if service.needs_tls() && certificates.is_none() {
            bail!(
                "listeners.{name}.{} needs a certificate: set listeners.{name}.tls.certs",
                service.name()
            );
        }
        let taken = given.of(&format!("{name}.{}", service.name()));
        if !taken.is_empty() {
            for socket in taken {
                sockets.push((service, BoundSocket::given(socket)?));
            }
            continue;
        }
        for ip in &listener.ips {
            let socket = listener::bind(SocketAddr::new(*ip, port))
                .with_context(|| format!("listeners.{name}.{}", service.name()))?;
            sockets.push((service, socket));
        }
    }
    Ok(Bound {
        name: name.to_owned(),
        listener: listener.clone(),
        sockets,
        certificates,
    })
}

fn certificates(name: &str, listener: &Listener) -> anyhow::Result<Option<Arc<Certificates>>> {
    let files = match listener.tls.as_ref().map(|tls| &tls.source) {
        None => return Ok(None),
        Some(CertificateSource::Acme(_)) => {
            bail!(
                "listeners.{name}.tls.acme: this version can't get certificates by ACME yet; use tls.certs"
            )
        }
        Some(CertificateSource::Files(files)) => files,
    };
    let files = files.iter().map(|pair| KeyPairFiles {
        cert: pair.cert_file.clone(),
        key: pair.key_file.clone(),
    });
    Certificates::load(files.collect())
        .map(Some)
        .with_context(|| format!("listeners.{name}.tls.certs"))
}

/// The certificates of all listeners that have some. Each loads, or has its error.
pub fn all_certificates(
    statics: &Static,
) -> impl Iterator<Item = anyhow::Result<Arc<Certificates>>> {
    let listeners = statics.listeners.iter();
    listeners.filter_map(|(name, listener)| certificates(name, listener).transpose())
}

/// The options of the store.
#[must_use]
pub fn store_options(statics: &Static) -> postrider_store::Options {
    postrider_store::Options {
        segment_size: statics.store.segment_size.0,
        ..postrider_store::Options::new(&statics.data_dir)
    }
}

/// The public URL of the webapi: over TLS if any listener offers that, or else as this listener
/// offers it.
fn public_url(statics: &Static, listener: &Listener) -> String {
    let over_tls = statics
        .listeners
        .values()
        .find(|listener| listener.webapi_https.enabled);
    let (scheme, host, service, usual) = match over_tls {
        Some(listener) => ("https", &listener.hostname, &listener.webapi_https, 443),
        None => ("http", &listener.hostname, &listener.webapi_http, 80),
    };
    let port = match service.port {
        port if port == usual => String::new(),
        port => format!(":{port}"),
    };
    format!("{scheme}://{}{port}{}", host.ascii(), service.path)
}

/// The router of an HTTP socket.
pub fn router(
    shared: &SessionContext,
    webapi: &Webapi,
    listener: &Listener,
    service: Service,
    hosts: HostNames,
) -> Router {
    let conf: &HttpService = if service == Service::WebapiHttps {
        &listener.webapi_https
    } else {
        &listener.webapi_http
    };
    let webapi = webapi.router(Endpoint {
        hostname: listener.hostname.clone(),
        hosts,
        max_message_size: listener.max_message_size.0,
        path: conf.path.clone(),
        public_url: public_url(&shared.statics, listener),
        forwarded_hops: conf.forwarded_hops,
        tls: service == Service::WebapiHttps,
    });
    health::router(shared.store.clone()).merge(webapi)
}

/// Lets clients of localserve log in at its SMTP port. Their messages are submissions then, and may
/// go to servers that lack BINARYMIME.
pub const fn allow_logins(config: &mut SessionConfig) {
    config.auth = true;
    config.auth_requires_tls = false;
    config.dsn = true;
    config.binary_mime = false;
}

/// The SMTP settings of a session of this service.
#[must_use]
pub fn session_config(statics: &Static, listener: &Listener, service: Service) -> SessionConfig {
    let limits = &statics.limits;
    let submission = service != Service::Smtp;
    let starttls = match service {
        Service::Smtp => listener.smtp.starttls && listener.tls.is_some(),
        Service::Submission => listener.tls.is_some(),
        _ => false,
    };
    SessionConfig {
        hostname: listener.hostname.clone(),
        max_message_size: listener.max_message_size.0,
        max_line: MAX_LINE,
        starttls,
        auth: submission,
        auth_required: submission,
        auth_requires_tls: service == Service::Submission && listener.submission.require_tls,
        require_tls: !submission && listener.smtp.require_starttls,
        require_tls_extension: submission || listener.smtp.require_tls_extension,
        dsn: submission,
        // Mail to the MX goes into mailboxes. Submitted mail goes to servers that may lack
        // BINARYMIME.
        binary_mime: !submission,
        max_recipients: limits.recipients_per_message,
        max_messages: limits.messages_per_connection,
        max_errors: limits.errors_per_connection,
        command_timeout: limits.command_timeout,
        data_timeout: limits.data_timeout,
        message_timeout: limits.message_timeout,
    }
}
