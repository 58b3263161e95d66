//! The listeners of mox.

use super::{
    rules::{Convert, Form, Rule},
    sconf::Node,
};
use crate::{
    duration::parse_duration,
    import::{
        document::{Table, tables},
        files::below,
    },
    quantity::format_duration,
};

const LISTENER: &[Rule] = &[
    ("IPs", "ips", Form::List),
    ("NATIPs", "nat_ips", Form::List),
    ("Hostname", "hostname", Form::Text),
    ("SMTPMaxMessageSize", "max_message_size", Form::Bytes),
];

/// A service of mox, our service, and its keys beside the port.
type Service = (&'static str, &'static str, &'static [Rule]);

const SERVICES: &[Service] = &[
    (
        "SMTP",
        "smtp",
        &[
            ("NoSTARTTLS", "starttls", Form::Inverse),
            ("RequireSTARTTLS", "require_starttls", Form::Bool),
            ("NoRequireTLS", "require_tls_extension", Form::Inverse),
            ("DNSBLs", "dnsbls", Form::List),
            ("TLSSessionTicketsDisabled", "tls_tickets", Form::Inverse),
        ],
    ),
    (
        "Submission",
        "submission",
        &[("NoRequireSTARTTLS", "require_tls", Form::Inverse)],
    ),
    (
        "Submissions",
        "submissions",
        &[("EnabledOnHTTPS", "on_https", Form::Bool)],
    ),
    ("AccountHTTP", "account_http", HTTP),
    ("AccountHTTPS", "account_https", HTTP),
    ("AdminHTTP", "admin_http", HTTP),
    ("AdminHTTPS", "admin_https", HTTP),
    ("WebAPIHTTP", "webapi_http", HTTP),
    ("WebAPIHTTPS", "webapi_https", HTTP),
    ("MetricsHTTP", "metrics_http", &[]),
    ("AutoconfigHTTPS", "autoconfig_https", &[]),
    ("MTASTSHTTPS", "mta_sts_https", &[]),
];

const HTTP: &[Rule] = &[
    ("Path", "path", Form::Text),
    ("Forwarded", "forwarded", Form::Bool),
];

/// The listeners, as tables. Settings that all listeners share go into `plain`.
pub(super) fn convert(convert: &mut Convert<'_>, root: &Node, plain: &mut Table) -> Vec<Table> {
    let Some(listeners) = root.get("Listeners") else {
        return Vec::new();
    };
    let mut converted = Vec::new();
    for listener in listeners.all() {
        let mut table = Table::new(&["listeners", listener.key.as_str()]);
        convert.apply(listener, &mut table, LISTENER);
        if let Some(node) = listener.get("TLS") {
            tls(convert, node, &mut table);
        }
        for service in SERVICES {
            if let Some(node) = listener.get(service.0) {
                convert_service(convert, node, *service, &mut table);
            }
        }
        if let Some(smtp) = listener.get("SMTP") {
            first_time_delay(convert, smtp, plain);
        }
        converted.push(table);
    }
    converted
}

fn convert_service(
    convert: &mut Convert<'_>,
    node: &Node,
    (_, ours, rules): Service,
    to: &mut Table,
) {
    if !node.is("Enabled") {
        // All other keys of a service that is off have no effect.
        for key in node.all() {
            key.all().for_each(drop);
        }
        return;
    }
    to.set(&format!("{ours}.enabled"), true);
    convert.taken(node, to.name_of(ours));
    let port: Rule = ("Port", "port", Form::Number);
    for rule in std::iter::once(&port).chain(rules) {
        convert.apply_as(node, to, *rule, &format!("{ours}.{}", rule.1));
    }
    if ours.starts_with("account_") && node.text("Path").is_none() {
        convert.changed(node, "the account pages are at /account/, not at /");
    }
}

fn tls(convert: &mut Convert<'_>, node: &Node, to: &mut Table) {
    convert.apply(
        node,
        to,
        &[
            ("ACME", "tls.acme", Form::Text),
            ("HostPrivateKeyFiles", "tls.host_keys", Form::Paths),
            ("ClientAuthDisabled", "tls.client_auth", Form::Inverse),
        ],
    );
    if let Some(pairs) = node.get("KeyCerts") {
        certificates(convert, pairs, to);
    }
    if let Some(version) = node.get("MinVersion") {
        match version.value.as_str() {
            "" => {}
            "TLSv1.2" => {
                to.set("tls.min_version", "1.2");
                convert.taken(version, to.name_of("tls.min_version"));
            }
            "TLSv1.3" => {
                to.set("tls.min_version", "1.3");
                convert.taken(version, to.name_of("tls.min_version"));
            }
            _ => {
                let name = to.name_of("tls.min_version");
                convert.changed(
                    version,
                    format!("{name} is \"1.2\", the oldest version here"),
                );
            }
        }
    }
}

fn certificates(convert: &mut Convert<'_>, pairs: &Node, to: &mut Table) {
    let mut files = Vec::new();
    for pair in pairs.all() {
        match (pair.text("CertFile"), pair.text("KeyFile")) {
            (Some(cert), Some(key)) => {
                let path = |file: &str| below(convert.folder, file).display().to_string();
                files.push(vec![("cert_file", path(cert)), ("key_file", path(key))]);
            }
            _ => convert.left(pair, "needs a CertFile and a KeyFile"),
        }
    }
    if files.is_empty() {
        return;
    }
    if to.has("tls.acme") {
        convert.left(
            pairs,
            "a listener has certificates by ACME or from files, not both",
        );
        return;
    }
    to.set("tls.certs", tables(files));
    convert.taken(pairs, to.name_of("tls.certs"));
}

/// The delay of strangers is one for all listeners here.
fn first_time_delay(convert: &mut Convert<'_>, smtp: &Node, plain: &mut Table) {
    const NAME: &str = "policy.first_time_sender_delay";
    let Some(node) = smtp
        .get("FirstTimeSenderDelay")
        .filter(|_| smtp.is("Enabled"))
    else {
        return;
    };
    if node.value.is_empty() {
        return;
    }
    match parse_duration(&node.value) {
        Err(message) => convert.left(node, message),
        Ok(_) if plain.has(NAME) => {
            convert.left(
                node,
                format!("{NAME} is one for all listeners, and is set already"),
            );
        }
        Ok(delay) => {
            plain.set(NAME, format_duration(delay));
            convert.changed(node, format!("{NAME}, for all listeners"));
        }
    }
}
