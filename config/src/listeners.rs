//! `listeners.NAME` of `postrider.conf`: the services, and the rules between them.

use std::{collections::BTreeMap, net::IpAddr};

use postrider_smtp::Domain;

use crate::{
    reader::Reader,
    statics::{
        Acme, CertificateFiles, CertificateSource, HttpService, Listener, ListenerTls, SmtpService,
        SubmissionService, SubmissionsService,
    },
    values::{TlsVersion, missing_domain},
};

/// Reads all listeners. Checks that no two services use the same port.
pub(crate) fn read(
    root: &Reader<'_>,
    hostname: Option<&Domain>,
    acme: &BTreeMap<String, Acme>,
) -> BTreeMap<String, Listener> {
    let tables = root.section("listeners").named();
    if tables.is_empty() {
        root.wrong_below(
            "listeners",
            "<name>",
            "is required, but missing: without a listener no client can connect; write a \
            table such as [listeners.public]",
        );
    }
    let mut ports = Ports::default();
    let mut listeners = BTreeMap::new();
    for (name, reader) in &tables {
        let listener = read_listener(reader, hostname, acme);
        ports.add(name, reader, &listener);
        listeners.insert((*name).to_owned(), listener);
    }
    for (name, reader) in &tables {
        if listeners
            .get(*name)
            .is_some_and(|it| it.acme_account().is_some())
        {
            check_challenges(&reader.section("tls"), &listeners);
        }
    }
    listeners
}

/// A CA asks at port 443 or 80 of each name for the answer to its challenge. The listener that
/// answers need not be the one that gets the certificate.
fn check_challenges(tls: &Reader<'_>, listeners: &BTreeMap<String, Listener>) {
    let ports = |https| {
        let listeners = listeners.values();
        let ports = listeners.flat_map(move |listener| listener.challenge_ports(https));
        ports.collect::<Vec<u16>>()
    };
    let (https, http) = (ports(true), ports(false));
    if https.is_empty() && http.is_empty() {
        tls.wrong(
            "acme",
            "can get no certificate: the CA connects to port 443 or 80 of each name, and no \
            listener has an HTTPS or HTTP service; add one, such as autoconfig_https = {}",
        );
    } else if !https.contains(&443) && !http.contains(&80) {
        let (way, port) = match (https.first(), http.first()) {
            (Some(port), _) => (443, *port),
            (None, port) => (80, port.copied().unwrap_or_default()),
        };
        // Nobody knows yet which port the system will choose.
        if port == 0 {
            return;
        }
        let message = format!(
            "no listener has an HTTPS service at port 443 or an HTTP service at port 80, to which \
            the CA connects; forward port {way} to port {port}, or change the port"
        );
        tls.warn("acme", &message);
    }
}

fn read_listener(
    reader: &Reader<'_>,
    hostname: Option<&Domain>,
    acme: &BTreeMap<String, Acme>,
) -> Listener {
    let ips: Vec<IpAddr> = reader.set("ips");
    if reader.has("ips") && reader.elements("ips").is_empty() {
        reader.wrong(
            "ips",
            "must name at least one address; \"0.0.0.0\" and \"::\" mean all",
        );
    }
    let tls = reader.table("tls").map(|tls| read_tls(&tls, acme));
    let has_tls = tls.is_some();
    let listener = Listener {
        ips,
        nat_ips: reader.set("nat_ips"),
        proxy_from: reader.set("proxy_from"),
        xclient_from: reader.set("xclient_from"),
        hostname: reader
            .opt("hostname")
            .or_else(|| hostname.cloned())
            .unwrap_or_else(missing_domain),
        tls: tls.flatten(),
        max_message_size: reader.get("max_message_size"),
        smtp: read_smtp(&reader.section("smtp"), has_tls),
        submission: read_submission(&reader.section("submission"), has_tls),
        submissions: read_submissions(&reader.section("submissions"), has_tls),
        webapi_http: read_http(reader, "webapi_http", has_tls),
        webapi_https: read_http(reader, "webapi_https", has_tls),
        account_http: read_http(reader, "account_http", has_tls),
        account_https: read_http(reader, "account_https", has_tls),
        admin_http: read_http(reader, "admin_http", has_tls),
        admin_https: read_http(reader, "admin_https", has_tls),
        mail_api_http: read_http(reader, "mail_api_http", has_tls),
        mail_api_https: read_http(reader, "mail_api_https", has_tls),
        metrics_http: read_http(reader, "metrics_http", has_tls),
        autoconfig_https: read_http(reader, "autoconfig_https", has_tls),
        mta_sts_https: read_http(reader, "mta_sts_https", has_tls),
    };
    if listener.submissions.on_https && !listener.has_https() {
        reader.section("submissions").wrong(
            "on_https",
            "needs a service over HTTPS on this listener, such as webapi_https = {}",
        );
    }
    listener
}

fn read_tls(reader: &Reader<'_>, acme: &BTreeMap<String, Acme>) -> Option<ListenerTls> {
    let account: Option<String> = reader.opt("acme");
    if let Some(account) = &account
        && !acme.contains_key(account)
    {
        reader.wrong(
            "acme",
            format!("names {account:?}, which is not in [acme]; add [acme.{account}]"),
        );
    }
    let files: Vec<CertificateFiles> = reader
        .tables("certs")
        .iter()
        .filter_map(|pair| {
            let cert_file = pair.opt("cert_file");
            let key_file = pair.opt("key_file");
            Some(CertificateFiles {
                cert_file: cert_file?,
                key_file: key_file?,
            })
        })
        .collect();
    let min_version = reader.opt("min_version").unwrap_or(TlsVersion::Tls12);
    let client_auth = reader.get("client_auth");
    let host_keys = reader.set("host_keys");
    let source = match (reader.has("acme"), reader.has("certs")) {
        (true, true) => {
            reader.wrong("certs", "cannot be used together with acme; keep one");
            None
        }
        (false, false) => {
            reader.wrong_here("needs certificates: set acme or certs");
            None
        }
        (true, false) => account.map(CertificateSource::Acme),
        (false, true) => {
            if reader.tables("certs").is_empty() {
                reader.wrong(
                    "certs",
                    "must have at least one {cert_file = \"...\", key_file = \"...\"}",
                );
            }
            Some(CertificateSource::Files(files))
        }
    };
    Some(ListenerTls {
        source: source?,
        min_version,
        client_auth,
        host_keys,
    })
}

/// Whether a service runs. It runs if its table exists, unless the table has `enabled = false`.
fn enabled(reader: &Reader<'_>) -> bool {
    reader.opt("enabled").unwrap_or_else(|| reader.is_present())
}

fn read_smtp(reader: &Reader<'_>, tls: bool) -> SmtpService {
    let service = SmtpService {
        enabled: enabled(reader),
        port: reader.get("port"),
        starttls: reader.opt("starttls").unwrap_or(tls),
        require_starttls: reader.get("require_starttls"),
        dnsbls: reader.set("dnsbls"),
        require_tls_extension: reader.get("require_tls_extension"),
        tls_tickets: reader.get("tls_tickets"),
    };
    if !service.enabled {
        return service;
    }
    if service.starttls && !tls {
        reader.wrong(
            "starttls",
            "needs certificates: set the listener's tls, or set starttls to false",
        );
    } else if service.require_starttls && !service.starttls {
        reader.wrong(
            "require_starttls",
            "needs starttls, which is off or has no certificates",
        );
    }
    service
}

fn read_submission(reader: &Reader<'_>, tls: bool) -> SubmissionService {
    let service = SubmissionService {
        enabled: enabled(reader),
        port: reader.get("port"),
        require_tls: reader.get("require_tls"),
    };
    if service.enabled && service.require_tls && !tls {
        reader.wrong(
            "require_tls",
            "needs certificates, or no client could log in: set the listener's tls, or set \
            require_tls to false",
        );
    }
    service
}

fn read_submissions(reader: &Reader<'_>, tls: bool) -> SubmissionsService {
    let service = SubmissionsService {
        enabled: enabled(reader),
        port: reader.get("port"),
        on_https: reader.get("on_https"),
    };
    if service.enabled && !tls {
        reader.wrong_here("needs certificates: set the listener's tls");
    }
    service
}

fn read_http(listener: &Reader<'_>, name: &str, tls: bool) -> HttpService {
    let reader = listener.section(name);
    let mut service = HttpService {
        enabled: enabled(&reader),
        port: reader.get("port"),
        path: reader.get("path"),
        forwarded_hops: read_hops(&reader),
    };
    if service.enabled && name.ends_with("_https") && !tls {
        reader.wrong_here("needs certificates: set the listener's tls");
    }
    if !service.path.starts_with('/') || service.path.contains(['?', '#', ' ', '{', '}']) {
        reader.wrong(
            "path",
            "must begin with \"/\" and must not have spaces or any of ? # { }",
        );
    } else if !service.path.ends_with('/') && !name.starts_with("metrics") {
        service.path.push('/');
    }
    if name.starts_with("metrics") && FIXED.contains(&service.path.trim_end_matches('/')) {
        reader.wrong(
            "path",
            "is the path of something else at the port; choose another one",
        );
    }
    if has_fixed_paths(name) && service.path != "/" {
        reader.wrong(
            "path",
            "cannot be changed, because clients use a fixed path; remove it",
        );
    }
    service
}

fn read_hops(reader: &Reader<'_>) -> usize {
    let given = reader.opt("forwarded_hops");
    match (reader.get("forwarded"), given) {
        (true, given) => given.unwrap_or(1),
        (false, None) => 0,
        (false, Some(_)) => {
            reader.wrong("forwarded_hops", "needs forwarded = true");
            0
        }
    }
}

/// Paths that a port has beside those of its services, without a slash at the end.
const FIXED: [&str; 2] = ["/healthz", "/api"];

/// Whether a service answers at paths that a standard fixes. They differ from the paths of all
/// other services.
fn has_fixed_paths(service: &str) -> bool {
    matches!(service, "autoconfig_https" | "mta_sts_https")
}

/// The protocol on a port. Services with the same protocol may share a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Smtp,
    Http,
    Https,
}

/// The use of a port by a service.
struct PortUse {
    listener: String,
    service: &'static str,
    ip: IpAddr,
    port: u16,
    protocol: Protocol,
    path: Option<String>,
}

/// All ports in use so far.
#[derive(Default)]
struct Ports(Vec<PortUse>);

impl Ports {
    fn add(&mut self, name: &str, reader: &Reader<'_>, listener: &Listener) {
        let smtp = [
            ("smtp", listener.smtp.enabled, listener.smtp.port),
            (
                "submission",
                listener.submission.enabled,
                listener.submission.port,
            ),
            (
                "submissions",
                listener.submissions.enabled,
                listener.submissions.port,
            ),
        ];
        for (service, enabled, port) in smtp {
            if enabled {
                self.claim(
                    name,
                    reader,
                    listener,
                    (service, port, Protocol::Smtp, None),
                );
            }
        }
        for (service, http) in listener.http_services() {
            let protocol = if service.ends_with("_https") {
                Protocol::Https
            } else {
                Protocol::Http
            };
            if http.enabled {
                let path = (!has_fixed_paths(service)).then_some(http.path.as_str());
                self.claim(name, reader, listener, (service, http.port, protocol, path));
            }
        }
    }

    /// Takes the port of a service on all addresses of its listener. Reports the first conflict.
    fn claim(
        &mut self,
        name: &str,
        reader: &Reader<'_>,
        listener: &Listener,
        (service, port, protocol, path): (&'static str, u16, Protocol, Option<&str>),
    ) {
        let wanted: Vec<PortUse> = listener
            .ips
            .iter()
            .map(|ip| PortUse {
                listener: name.to_owned(),
                service,
                ip: *ip,
                port,
                protocol,
                path: path.map(str::to_owned),
            })
            .collect();
        let conflict = wanted
            .iter()
            .find_map(|want| self.0.iter().find_map(|have| have.conflict(want)));
        if let Some(message) = conflict {
            reader.section(service).wrong("port", message);
        }
        self.0.extend(wanted);
    }
}

impl PortUse {
    /// The error if `other` cannot be used beside this one.
    fn conflict(&self, other: &Self) -> Option<String> {
        let overlap = self.ip == other.ip
            || (self.ip.is_ipv4() == other.ip.is_ipv4()
                && (self.ip.is_unspecified() || other.ip.is_unspecified()));
        // With port 0 the system chooses a different port each time.
        if self.port != other.port || self.port == 0 || !overlap {
            return None;
        }
        let Self {
            listener, service, ..
        } = self;
        let port = self.port;
        let ip = other.ip;
        let both_http = self.protocol != Protocol::Smtp && self.protocol == other.protocol;
        let same_listener = *listener == other.listener;
        if !(both_http && same_listener) {
            return Some(format!(
                "conflicts with listeners.{listener}.{service}: both use port {port} on {ip}; \
            change one of the ports"
            ));
        }
        // The path without the last slash leads to the one with it.
        let path = |port_use: &Self| {
            let path = port_use.path.as_deref();
            path.map(|path| path.trim_end_matches('/').to_owned())
        };
        (self.path.is_some() && path(self) == path(other)).then(|| {
            format!(
                "conflicts with listeners.{listener}.{service}: both use the same path of port \
            {port}; change one of the paths"
            )
        })
    }
}
