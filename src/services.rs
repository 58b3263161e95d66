//! The services of the configured listeners, with their addresses and certificates.

mod links;
mod mail_api;
mod web_pages;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::{Context, bail};
use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
};
use postrider_admin::face::{
    http::{self as management, Management},
    mail::MailApi,
    pages::Pages,
};
use postrider_config::{CertificateSource, HttpService, Listener, Static, TlsVersion};
use postrider_observe::metrics::{self, Api};
use postrider_receive::SessionContext;
use postrider_smtp::server::{SaslConfig, SessionConfig};
use postrider_webapi::{Endpoint, HostNames, Webapi};
use rustls::{ServerConfig, server::ResolvesServerCert};

use self::links::public_url;
use crate::{
    acme::{self, Acme, Challenges, Issued, Manner},
    gate::Kind,
    health,
    listener::{self, BoundSocket},
    service_manager::GivenSockets,
    tls::{self, Certificates, KeyPairFiles, Tickets},
    wellknown::WellKnown,
};

/// The longest line of a message, in bytes. Real mail has lines far above the 998 bytes of RFC
/// 5321.
const MAX_LINE: usize = 64 * 1024;
/// Where the ports of the management API have the metrics.
const METRICS: &str = "/metrics";

/// Where the HTTP ports of localserve have the inbox.
const INBOX: &str = "/inbox/";

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
    /// The account pages in clear.
    AccountHttp,
    /// The account pages over TLS.
    AccountHttps,
    /// The management API and the admin pages in clear.
    AdminHttp,
    /// The management API and the admin pages over TLS.
    AdminHttps,
    /// The mailbox API in clear.
    MailApiHttp,
    /// The mailbox API over TLS.
    MailApiHttps,
    /// The metrics.
    MetricsHttp,
    /// The settings for mail programs.
    AutoconfigHttps,
    /// The MTA-STS policies.
    MtaStsHttps,
}

impl Service {
    const ALL: [Self; 14] = [
        Self::Smtp,
        Self::Submission,
        Self::Submissions,
        Self::WebapiHttp,
        Self::WebapiHttps,
        Self::AccountHttp,
        Self::AccountHttps,
        Self::AdminHttp,
        Self::AdminHttps,
        Self::MailApiHttp,
        Self::MailApiHttps,
        Self::MetricsHttp,
        Self::AutoconfigHttps,
        Self::MtaStsHttps,
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
            Self::AccountHttp => "account_http",
            Self::AccountHttps => "account_https",
            Self::AdminHttp => "admin_http",
            Self::AdminHttps => "admin_https",
            Self::MailApiHttp => "mail_api_http",
            Self::MailApiHttps => "mail_api_https",
            Self::MetricsHttp => "metrics_http",
            Self::AutoconfigHttps => "autoconfig_https",
            Self::MtaStsHttps => "mta_sts_https",
        }
    }

    /// The settings of the service on a listener. None: the service does not speak HTTP.
    const fn http(self, listener: &Listener) -> Option<&HttpService> {
        match self {
            Self::Smtp | Self::Submission | Self::Submissions => None,
            Self::WebapiHttp => Some(&listener.webapi_http),
            Self::WebapiHttps => Some(&listener.webapi_https),
            Self::AccountHttp => Some(&listener.account_http),
            Self::AccountHttps => Some(&listener.account_https),
            Self::AdminHttp => Some(&listener.admin_http),
            Self::AdminHttps => Some(&listener.admin_https),
            Self::MailApiHttp => Some(&listener.mail_api_http),
            Self::MailApiHttps => Some(&listener.mail_api_https),
            Self::MetricsHttp => Some(&listener.metrics_http),
            Self::AutoconfigHttps => Some(&listener.autoconfig_https),
            Self::MtaStsHttps => Some(&listener.mta_sts_https),
        }
    }

    /// The port of this service on a listener. None: the listener does not have it.
    const fn port(self, listener: &Listener) -> Option<u16> {
        let (enabled, port) = match (self, self.http(listener)) {
            (_, Some(http)) => (http.enabled, http.port),
            (Self::Submission, None) => (listener.submission.enabled, listener.submission.port),
            (Self::Submissions, None) => (listener.submissions.enabled, listener.submissions.port),
            (_, None) => (listener.smtp.enabled, listener.smtp.port),
        };
        if enabled { Some(port) } else { None }
    }

    /// The kind of its clients.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Smtp => Kind::Mx,
            Self::Submission | Self::Submissions => Kind::Submission,
            _ => Kind::Http,
        }
    }

    /// The service in the metrics.
    #[must_use]
    pub const fn label(self) -> metrics::Listener {
        match self {
            Self::Smtp => metrics::Listener::Smtp,
            Self::Submission => metrics::Listener::Submission,
            Self::Submissions => metrics::Listener::Submissions,
            _ if self.is_https() => metrics::Listener::Https,
            _ => metrics::Listener::Http,
        }
    }

    /// The service speaks HTTP over TLS.
    const fn is_https(self) -> bool {
        matches!(
            self,
            Self::WebapiHttps
                | Self::AccountHttps
                | Self::AdminHttps
                | Self::MailApiHttps
                | Self::AutoconfigHttps
                | Self::MtaStsHttps
        )
    }

    /// The service requires a certificate.
    const fn needs_tls(self) -> bool {
        matches!(self, Self::Submissions) || self.is_https()
    }
}

/// The services at one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Services {
    /// A service over SMTP, which has its port for itself.
    Smtp(Service),
    /// Services over HTTP, at least one. All have TLS, or none has.
    Http(Vec<Service>),
}

impl Services {
    /// All services.
    #[must_use]
    pub fn all(&self) -> &[Service] {
        match self {
            Self::Smtp(service) => std::slice::from_ref(service),
            Self::Http(services) => services,
        }
    }

    /// The TLS configuration of the port. None: the port has no TLS. `tickets` are those of the
    /// listener.
    ///
    /// # Errors
    /// If the TLS configuration is invalid.
    pub fn tls_config(
        &self,
        listener: &Listener,
        certificates: Option<&Source>,
        tickets: Option<&Tickets>,
        challenges: Option<&Arc<Challenges>>,
    ) -> anyhow::Result<Option<Arc<ServerConfig>>> {
        let (Some(certificates), Some(tls)) = (certificates, &listener.tls) else {
            return Ok(None);
        };
        let https = self.all().iter().any(|service| service.is_https());
        let manner = match self {
            Self::Http(_) if !https => return Ok(None),
            Self::Smtp(Service::Smtp) if !listener.smtp.starttls => return Ok(None),
            Self::Smtp(Service::Smtp) => Manner::AnyName,
            Self::Smtp(_) => Manner::OwnNames,
            Self::Http(_) => Manner::CertifiedNames,
        };
        let mut resolver = certificates.resolver(manner);
        let mut protocols: Vec<&[u8]> = Vec::new();
        if https {
            protocols.extend([&b"h2"[..], b"http/1.1"]);
            if let Some(challenges) = challenges {
                resolver = challenges.beside(resolver);
                protocols.push(acme::PROTOCOL);
            }
        }
        // The last one, so that a client which speaks HTTP too gets HTTP.
        if self.is_submission_on_https(listener) {
            protocols.push(tls::SMTP_PROTOCOL);
        }
        let sends_tickets = *self != Self::Smtp(Service::Smtp) || listener.smtp.tls_tickets;
        let min_tls13 = tls.min_version == TlsVersion::Tls13;
        // Mail servers get no question that some of them can't answer, and browsers no dialog.
        let submission = matches!(self, Self::Smtp(Service::Submission | Service::Submissions));
        let client_auth = submission && tls.client_auth;
        let tickets = tickets.filter(|_| sends_tickets);
        tls::server_config(resolver, min_tls13, client_auth, &protocols, tickets).map(Some)
    }

    /// Clients get submission at this port too, if they ask for that by ALPN.
    #[must_use]
    pub fn is_submission_on_https(&self, listener: &Listener) -> bool {
        let mut services = self.all().iter();
        listener.submissions.on_https && services.any(|service| service.is_https())
    }
}

/// The clients of these services come through a proxy that adds their addresses to each request.
#[must_use]
pub fn behind_proxy(services: &[Service], listener: &Listener) -> bool {
    let http = services.iter().filter_map(|it| it.http(listener));
    http.into_iter().any(|http| http.forwarded_hops > 0)
}

/// The certificates of a listener.
#[derive(Clone, Debug)]
pub enum Source {
    /// From files.
    Files(Arc<Certificates>),
    /// From a CA, by ACME.
    Acme(Arc<Issued>),
}

impl Source {
    /// The certificates as a service with this manner shows them.
    fn resolver(&self, manner: Manner) -> Arc<dyn ResolvesServerCert> {
        match self {
            Self::Files(certificates) => Arc::<Certificates>::clone(certificates),
            Self::Acme(issued) => issued.resolver(manner),
        }
    }
}

/// A listener with its bound sockets. They do not listen yet.
#[derive(Debug)]
pub struct Bound {
    /// The name in the configuration.
    pub name: String,
    /// The configuration.
    pub listener: Listener,
    /// One socket for each port and address.
    pub ports: Vec<(Services, BoundSocket)>,
    /// The certificates of the listener. None: it has no TLS.
    pub certificates: Option<Source>,
}

impl Bound {
    /// The certificates, if they come from files.
    #[must_use]
    pub const fn files(&self) -> Option<&Arc<Certificates>> {
        match &self.certificates {
            Some(Source::Files(certificates)) => Some(certificates),
            _ => None,
        }
    }

    /// The kinds of clients that come to the listener.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.ports.iter().flat_map(|(services, _)| {
            let on_https = services.is_submission_on_https(&self.listener);
            let submission = on_https.then_some(Kind::Submission);
            let own = services.all().iter().map(|service| service.kind());
            own.chain(submission)
        })
    }

    /// The TLS session tickets of the listener. None: it has no TLS.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn tickets(&self) -> anyhow::Result<Option<Tickets>> {
        let has_tls = self.certificates.is_some();
        has_tls.then(tls::tickets).transpose()
    }
}

/// Loads the certificates, and binds the sockets of all listeners. A port for which the service
/// manager gave sockets takes those. `acme` is there if a listener has ACME.
///
/// # Errors
/// If a certificate or an address can't be used.
pub fn bind_all(
    statics: &Static,
    acme: Option<&Acme>,
    given: &mut GivenSockets,
) -> anyhow::Result<Vec<Bound>> {
    let listeners = statics.listeners.iter();
    let bound = listeners.map(|(name, listener)| {
        let certificates = match (acme, listener.acme_account()) {
            (Some(acme), Some(_)) => Some(Source::Acme(acme.certificates(statics, name)?)),
            _ => certificates(name, listener)?.map(Source::Files),
        };
        bind(name, listener, certificates, given)
    });
    bound.collect()
}

fn bind(
    name: &str,
    listener: &Listener,
    certificates: Option<Source>,
    given: &mut GivenSockets,
) -> anyhow::Result<Bound> {
    let mut ports = Vec::new();
    for (services, port) in ports_of(listener) {
        let names = services.all().iter().map(|service| service.name());
        let names: Vec<&str> = names.collect();
        let keys = format!("listeners.{name}.{}", names.join(" and "));
        let needs_tls = services.all().iter().any(|service| service.needs_tls());
        if needs_tls && certificates.is_none() {
            bail!("{keys} needs a certificate: set listeners.{name}.tls");
        }
        // A socket has the name of one of the services at its port.
        let taken = names.iter().map(|service| format!("{name}.{service}"));
        let taken: Vec<_> = taken.flat_map(|name| given.of(&name)).collect();
        if !taken.is_empty() {
            for socket in taken {
                ports.push((services.clone(), BoundSocket::given(socket)?));
            }
            continue;
        }
        for ip in &listener.ips {
            let socket = listener::bind(SocketAddr::new(*ip, port)).context(keys.clone())?;
            ports.push((services.clone(), socket));
        }
    }
    Ok(Bound {
        name: name.to_owned(),
        listener: listener.clone(),
        ports,
        certificates,
    })
}

/// The ports of a listener with their services. Services over HTTP share a port. With port 0 each
/// has its own.
fn ports_of(listener: &Listener) -> Vec<(Services, u16)> {
    let mut ports: Vec<(Services, u16)> = Vec::new();
    for service in Service::ALL {
        let Some(port) = service.port(listener) else {
            continue;
        };
        if service.http(listener).is_none() {
            ports.push((Services::Smtp(service), port));
            continue;
        }
        let shared = ports
            .iter_mut()
            .find_map(|(services, other)| match services {
                Services::Http(services) if *other == port && port != 0 => Some(services),
                _ => None,
            });
        match shared {
            Some(services) => services.push(service),
            None => ports.push((Services::Http(vec![service]), port)),
        }
    }
    ports
}

/// The ports at which a CA can ask for the answer to its challenge: over HTTPS, and over HTTP.
#[must_use]
pub fn challenge_ports(statics: &Static) -> (Vec<u16>, Vec<u16>) {
    let (mut https, mut http) = (Vec::new(), Vec::new());
    for (services, port) in statics.listeners.values().flat_map(ports_of) {
        if let Services::Http(services) = services {
            let over_tls = services.iter().any(|service| service.is_https());
            if over_tls { &mut https } else { &mut http }.push(port);
        }
    }
    (https, http)
}

fn certificates(name: &str, listener: &Listener) -> anyhow::Result<Option<Arc<Certificates>>> {
    let files = match listener.tls.as_ref().map(|tls| &tls.source) {
        None | Some(CertificateSource::Acme(_)) => return Ok(None),
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

/// The certificates of all listeners that have some in files. Each loads, or has its error.
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

/// The APIs that are served over HTTP.
#[expect(
    missing_debug_implementations,
    reason = "its parts have nothing to show"
)]
pub struct Apis {
    /// The API for applications.
    pub webapi: Webapi,
    /// The API for administrators.
    pub management: Management,
    /// The administrative half of the mailbox API.
    pub mail_api: MailApi,
    /// The web pages.
    pub pages: Pages,
}

/// The paths of services over HTTP, for the metrics: the longest first.
#[must_use]
pub fn paths(services: &[Service], listener: &Listener) -> Vec<(String, Api)> {
    let mut paths = vec![("/".to_owned(), Api::WellKnown)];
    paths.push((INBOX.to_owned(), Api::Inbox));
    for service in services {
        let Some(http) = service.http(listener) else {
            continue;
        };
        match service {
            Service::WebapiHttp | Service::WebapiHttps => {
                paths.push((http.path.clone(), Api::Webapi));
            }
            Service::AdminHttp | Service::AdminHttps => {
                paths.push(("/api".to_owned(), Api::Manage));
                paths.push(("/api/account/".to_owned(), Api::Account));
                paths.push((METRICS.to_owned(), Api::Metrics));
                paths.push((http.path.clone(), Api::Admin));
            }
            Service::AccountHttp | Service::AccountHttps => {
                paths.push(("/api/account/".to_owned(), Api::Account));
                paths.push((http.path.clone(), Api::Account));
            }
            Service::MailApiHttp | Service::MailApiHttps => {
                paths.push(("/api/account/".to_owned(), Api::Account));
                paths.push((http.path.clone(), Api::Mailbox));
            }
            Service::MetricsHttp => paths.push((http.path.clone(), Api::Metrics)),
            _ => {}
        }
    }
    paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    paths
}

/// A port with services over HTTP.
#[derive(Debug)]
pub struct HttpPort<'a> {
    /// The listener.
    pub listener: &'a Listener,
    /// The services at the port.
    pub services: &'a [Service],
    /// Further names by which clients reach localserve. None: a production server.
    pub hosts: Option<HostNames>,
    /// The answers to CAs. None: no listener has ACME.
    pub challenges: Option<Arc<Challenges>>,
}

impl HttpPort<'_> {
    /// The router of the port.
    pub fn router(self, shared: &SessionContext, apis: &Apis) -> Router {
        let has = |service| self.services.contains(&service);
        let mut router = health::router(shared.store.clone());
        let (mut pages, mut management) = (BTreeMap::new(), Router::new());
        for service in [Service::WebapiHttp, Service::WebapiHttps] {
            if let Some(conf) = service.http(self.listener).filter(|_| has(service)) {
                router = router.merge(apis.webapi.router(Endpoint {
                    hostname: self.listener.hostname.clone(),
                    hosts: self.hosts.clone().unwrap_or_default(),
                    max_message_size: self.listener.max_message_size.0,
                    path: conf.path.clone(),
                    public_url: public_url(&shared.statics, self.listener),
                    forwarded_hops: conf.forwarded_hops,
                    tls: service == Service::WebapiHttps,
                }));
            }
        }
        router = router.merge(self.tracked_links(shared, apis));
        for service in [Service::AdminHttp, Service::AdminHttps] {
            if let Some(conf) = service.http(self.listener).filter(|_| has(service)) {
                let endpoint = management::Endpoint {
                    forwarded_hops: conf.forwarded_hops,
                };
                management = management.merge(apis.management.router(endpoint));
                pages.entry(METRICS.to_owned()).or_insert(endpoint);
            }
        }
        if let Some(conf) = Service::MetricsHttp.http(self.listener)
            && has(Service::MetricsHttp)
        {
            let endpoint = management::Endpoint {
                forwarded_hops: conf.forwarded_hops,
            };
            pages.insert(conf.path.clone(), endpoint);
        }
        for (path, endpoint) in pages {
            management = management.merge(apis.management.metrics(endpoint, &path));
        }
        management = management.merge(self.mail_api(shared, apis));
        router = router.merge(match self.hosts.clone() {
            // Everybody knows the passwords of localserve, so pages of other sites do too.
            Some(hosts) => named(management, hosts, self.listener, shared),
            None => management,
        });
        router = router.merge(apis.pages.router(self.pages(shared)));
        let known = WellKnown {
            statics: Arc::clone(&shared.statics),
            config: Arc::clone(&shared.config),
            autoconfig: has(Service::AutoconfigHttps),
            mta_sts: has(Service::MtaStsHttps),
            challenges: self.challenges,
        };
        known.before(router)
    }
}

/// These routes, for requests that name this server only.
fn named(routes: Router, hosts: HostNames, listener: &Listener, shared: &SessionContext) -> Router {
    let named = (hosts, listener.hostname.clone(), Arc::clone(&shared.config));
    let named = Arc::new(named);
    let check = move |request: Request, next: Next| {
        let named = Arc::clone(&named);
        async move {
            let (hosts, hostname, config) = &*named;
            let refusal = hosts.refusal(hostname, &config.load(), &request);
            match refusal {
                Some(refusal) => refusal,
                None => next.run(request).await,
            }
        }
    };
    routes.layer(middleware::from_fn(check))
}

/// The scope that OAuth tokens need. None: tokens are not taken.
fn oauth_scope(statics: &Static) -> Option<String> {
    let server = statics.oauth.server.as_ref();
    let scope = server.map(|oauth| oauth.scope.clone());
    scope.or_else(|| statics.oauth.issuer.then(|| "smtp".to_owned()))
}

/// Lets clients of localserve log in at its SMTP port. Their messages are submissions then, and may
/// go to servers that lack BINARYMIME.
pub const fn allow_logins(config: &mut SessionConfig) {
    config.auth = true;
    config.auth_requires_tls = false;
    config.sasl.scram = true;
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
        sasl: SaslConfig {
            scram: submission,
            oauth_scope: oauth_scope(statics).filter(|_| submission),
        },
        submission,
        require_tls_extension: submission || listener.smtp.require_tls_extension,
        dsn: true,
        // Mail to the MX goes into mailboxes. Submitted mail goes to servers that may lack
        // BINARYMIME.
        binary_mime: !submission,
        // The server sets it, if an outside program wants to be asked.
        ask_hello: false,
        max_recipients: limits.recipients_per_message,
        max_messages: limits.messages_per_connection,
        max_errors: limits.errors_per_connection,
        command_timeout: limits.command_timeout,
        data_timeout: limits.data_timeout,
        message_timeout: limits.message_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_services_share_a_port_unless_the_system_chooses_it() {
        let text = r#"
hostname = "mx.example"
postmaster.account = "ann"
acme.ca = {}
[listeners.a]
ips = ["192.0.2.1"]
tls.acme = "ca"
smtp = {}
webapi_https = {}
autoconfig_https = {}
mta_sts_https = { port = 8443 }
webapi_http = {}
[listeners.b]
ips = ["192.0.2.2"]
tls.acme = "ca"
autoconfig_https = { port = 0 }
mta_sts_https = { port = 0 }
"#;
        let statics = Static::parse(text, "postrider.conf").unwrap();
        let ports = |name: &str| ports_of(&statics.listeners[name]);
        let http = |services: &[Service]| Services::Http(services.to_vec());
        assert_eq!(
            ports("a"),
            [
                (Services::Smtp(Service::Smtp), 25),
                (http(&[Service::WebapiHttp]), 80),
                (http(&[Service::WebapiHttps, Service::AutoconfigHttps]), 443),
                (http(&[Service::MtaStsHttps]), 8443),
            ]
        );
        assert_eq!(
            ports("b"),
            [
                (http(&[Service::AutoconfigHttps]), 0),
                (http(&[Service::MtaStsHttps]), 0),
            ]
        );
        assert_eq!(challenge_ports(&statics), (vec![443, 8443, 0, 0], vec![80]));
    }
}
