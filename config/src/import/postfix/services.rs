//! Listeners, certificates, limits and milters.

use std::{collections::HashMap, net::IpAddr};

use postrider_smtp::Domain;

use super::{
    context::{Context, Found},
    maps,
    master::Service,
    nexthop::{NextHop, parse_port},
};
use crate::{
    error::Errors,
    import::{
        document::{Table, array, tables},
        failure,
        lines::{unbraced, words},
    },
    quantity::Size,
};

/// The range of `max_message_size`.
const SIZES: (u64, u64) = (64 << 10, 2 << 30);

/// The tables of `postrider.conf` for mail that comes in.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) listeners: Vec<Table>,
    pub(super) milters: Vec<Table>,
    /// `limits.recipients_per_message`.
    pub(super) recipients: Option<i64>,
}

/// `myhostname`.
///
/// # Errors
/// If it is not a domain name, or is not set and the machine has no name.
pub(super) fn hostname(context: &Context<'_>) -> Result<String, Errors> {
    let found = context.get("myhostname");
    let line = found.place.line;
    let name = found.value.to_ascii_lowercase();
    if name.is_empty() {
        let text = "myhostname is not set, and this machine has no name; set it";
        return Err(failure(&found.place.file, line, text));
    }
    if Domain::parse(&name).is_err() {
        let text = format!("myhostname is {name:?}, which is not a domain name");
        return Err(failure(&found.place.file, line, text));
    }
    if found.is_set {
        context.taken(&found.place, "hostname");
    } else {
        let text = format!("hostname is {name:?}, the name of this machine");
        context.changed(&found.place, text);
    }
    context.get("mydomain");
    Ok(name)
}

/// The services that a listener can have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Smtp,
    Submission,
    Submissions,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Submission => 587,
            Self::Submissions => 465,
        }
    }
}

pub(super) fn read(context: &Context<'_>, services: Option<&[Service]>) -> Services {
    let mut found = Services {
        recipients: recipients(context),
        ..Services::default()
    };
    let certificates = certificates(context);
    let mut public = Table::new(&["listeners", "public"]);
    public.set("ips", array(addresses(context)));
    nat_ips(context, &mut public);
    let mut others: Vec<Table> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let inet = services
        .into_iter()
        .flatten()
        .filter(|service| service.kind == "inet");
    for service in inet {
        let Some((host, kind, port)) = kind_of(context, service) else {
            continue;
        };
        let table = match host {
            None => &mut public,
            Some(host) => {
                let at = *places.entry(host).or_insert_with_key(|host| {
                    let name = format!("address-{}", others.len() + 1);
                    let mut table = Table::new(&["listeners", &name]);
                    table.set("ips", array([host]));
                    others.push(table);
                    others.len() - 1
                });
                match others.get_mut(at) {
                    Some(table) => table,
                    None => continue,
                }
            }
        };
        add_service(context, Some(service), (kind, port), &certificates, table);
    }
    for service in services.into_iter().flatten() {
        let place = context.service_place(service, "");
        if matches!(service.command.as_str(), "pipe" | "spawn") {
            let text = "a program that gets mail has no counterpart; use an incoming webhook";
            context.left(&place, text);
        }
    }
    if services.is_none() {
        let text = "there is no master.cf, so the listener has the service smtp only";
        context.changed(&context.master_place(), text);
        add_service(context, None, (Kind::Smtp, 25), &certificates, &mut public);
    }
    found.listeners.push(public);
    found.listeners.extend(others);
    for table in &mut found.listeners {
        finish_listener(context, &certificates, table);
    }
    found.milters = milters(context);
    found
}

/// The host, the kind and the port of a service of master.cf. None if we have no such service.
fn kind_of(context: &Context<'_>, service: &Service) -> Option<(Option<String>, Kind, u16)> {
    let place = context.service_place(service, "");
    let (host, port) = match service.name.rsplit_once(':') {
        Some((host, port)) => (host.trim_matches(['[', ']']), port),
        None => ("", service.name.as_str()),
    };
    let Some(port) = parse_port(port) else {
        context.left(&place, "its port is not understood");
        return None;
    };
    if !matches!(service.command.as_str(), "smtpd" | "postscreen") {
        context.left(
            &place,
            format!("a service {} has no counterpart", service.command),
        );
        return None;
    }
    if !host.is_empty() && host.parse::<IpAddr>().is_err() {
        context.left(&place, format!("{host:?} is not an IP address"));
        return None;
    }
    let wrapped = context.get_for(Some(service), "smtpd_tls_wrappermode");
    let login = context.get_for(Some(service), "smtpd_sasl_auth_enable");
    let kind = if wrapped.is_yes() || port == 465 {
        Kind::Submissions
    } else if port == 25 {
        Kind::Smtp
    } else if port == 587 || (login.is_set && login.is_yes()) {
        Kind::Submission
    } else {
        let text = "a service that takes mail at another port has no counterpart; applications \
            use submission or the webapi";
        context.left(&place, text);
        return None;
    };
    if service.command == "postscreen" {
        let text = "the service smtp; the tests of postscreen have no counterpart";
        context.changed(&place, text);
    }
    let host = (!host.is_empty()).then(|| host.to_owned());
    Some((host, kind, port))
}

/// Adds a service to a listener.
fn add_service(
    context: &Context<'_>,
    service: Option<&Service>,
    (kind, port): (Kind, u16),
    certificates: &[(String, String)],
    table: &mut Table,
) {
    let name = kind.name();
    let key = |key: &str| format!("{name}.{key}");
    let place = match service {
        Some(service) => context.service_place(service, ""),
        None => context.master_place(),
    };
    if table.has(&key("enabled")) {
        context.left(&place, format!("{} is there already", table.name_of(name)));
        return;
    }
    if kind != Kind::Smtp && certificates.is_empty() {
        let text = format!("{name} needs a certificate, and smtpd_tls_cert_file names none");
        context.left(&place, text);
        return;
    }
    table.set(&key("enabled"), true);
    if port != kind.port() {
        table.set(&key("port"), i64::from(port));
    }
    if service.is_some() {
        context.taken(&place, table.name_of(name));
    }
    if kind == Kind::Smtp {
        security(context, service, certificates, table);
        blocklists(context, service, table);
    } else {
        let level = context.get_for(service, "smtpd_tls_security_level");
        if level.is_set && !matches!(level.value.as_str(), "encrypt" | "may") {
            let text = "logins need TLS here";
            context.changed(&level.place, text);
        }
    }
}

/// STARTTLS of the service smtp.
fn security(
    context: &Context<'_>,
    service: Option<&Service>,
    certificates: &[(String, String)],
    table: &mut Table,
) {
    let level = context.get_for(service, "smtpd_tls_security_level");
    // The older parameters count if the newer one is not set.
    let old = ["smtpd_enforce_tls", "smtpd_use_tls"].map(|name| context.get_for(service, name));
    let [enforce, may] = old
        .each_ref()
        .map(|found| level.is_empty() && found.is_yes());
    let encrypt = enforce || level.value == "encrypt";
    let place = match &old {
        [found, _] if enforce => &found.place,
        [_, found] if may => &found.place,
        _ => &level.place,
    };
    if !(may || encrypt || level.value == "may") {
        if !certificates.is_empty() {
            table.set("smtp.starttls", false);
        }
        if level.is_set {
            context.taken(place, table.name_of("smtp.starttls"));
        }
        return;
    }
    if certificates.is_empty() {
        let text = "smtpd_tls_cert_file names no certificate, so STARTTLS is not offered";
        context.left(place, text);
        return;
    }
    let key = if encrypt {
        "smtp.require_starttls"
    } else {
        "smtp.starttls"
    };
    table.set(key, true);
    context.taken(place, table.name_of(key));
}

/// The DNS block lists in the restrictions of the service smtp.
fn blocklists(context: &Context<'_>, service: Option<&Service>, table: &mut Table) {
    let mut zones: Vec<String> = Vec::new();
    for name in [
        "smtpd_client_restrictions",
        "smtpd_helo_restrictions",
        "smtpd_sender_restrictions",
        "smtpd_relay_restrictions",
        "smtpd_recipient_restrictions",
        "smtpd_data_restrictions",
    ] {
        let found = context.get_for(service, name);
        if !found.is_set {
            continue;
        }
        let list = found.list();
        let mut words = list.iter();
        let mut any = false;
        while let Some(word) = words.next() {
            match *word {
                "reject_rbl_client" => {
                    let Some(zone) = words.next() else { break };
                    let (zone, answer) = zone.split_once('=').unwrap_or((zone, ""));
                    if Domain::parse(zone).is_err() {
                        context.left(&found.place, format!("{zone:?} is not a DNS block list"));
                        continue;
                    }
                    any = true;
                    if !answer.is_empty() {
                        let text = format!("each answer of {zone} counts, not only {answer}");
                        context.changed(&found.place, text);
                    }
                    if !zones.iter().any(|other| other == zone) {
                        zones.push(zone.to_owned());
                    }
                }
                "reject_rhsbl_client"
                | "reject_rhsbl_helo"
                | "reject_rhsbl_sender"
                | "reject_rhsbl_recipient"
                | "reject_rhsbl_reverse_client" => {
                    let zone = words.next().copied().unwrap_or_default();
                    let text = format!("block lists of domains are not asked here ({zone})");
                    context.left(&found.place, text);
                }
                _ => {}
            }
        }
        if any {
            let text = format!(
                "{}; the other restrictions have no counterpart",
                table.name_of("smtp.dnsbls")
            );
            context.changed(&found.place, text);
        } else {
            context.left(&found.place, super::advice::without_counterpart(name));
        }
    }
    if !zones.is_empty() {
        table.set("smtp.dnsbls", array(zones));
    }
}

/// The keys of a listener that are not those of a service.
fn finish_listener(context: &Context<'_>, certificates: &[(String, String)], table: &mut Table) {
    let (size, key) = (context.get("message_size_limit"), "max_message_size");
    match size.value.parse::<u64>() {
        Ok(0) => {
            table.set(key, Size(SIZES.1).to_string());
            let text = format!("{key} is {}, the most that is possible", Size(SIZES.1));
            context.changed(&size.place, text);
        }
        Ok(bytes) => {
            let within = Size(bytes.clamp(SIZES.0, SIZES.1));
            table.set(key, within.to_string());
            if within.0 != bytes {
                context.changed(&size.place, format!("{key} is {within}"));
            } else if size.is_set {
                context.taken(&size.place, table.name_of(key));
            } else {
                let text = format!("{key} is {within}, which Postfix has built in");
                context.changed(&size.place, text);
            }
        }
        Err(_) => context.left(&size.place, format!("{:?} is not a size", size.value)),
    }
    if certificates.is_empty() {
        return;
    }
    let pairs = certificates
        .iter()
        .map(|(cert, key)| vec![("cert_file", cert.clone()), ("key_file", key.clone())]);
    table.set("tls.certs", tables(pairs));
    min_version(context, table);
}

/// `smtpd_tls_protocols` and `smtpd_tls_mandatory_protocols`.
fn min_version(context: &Context<'_>, table: &mut Table) {
    let mut newest = false;
    for name in ["smtpd_tls_protocols", "smtpd_tls_mandatory_protocols"] {
        let found = context.get(name);
        if !found.is_set {
            continue;
        }
        let words = words(&found.value, &[',', ':']);
        let lowest = words.iter().find_map(|word| word.strip_prefix(">="));
        let positive = words.iter().any(|word| !word.starts_with(['!', '>', '<']));
        let allowed = |version: &str| match lowest {
            Some(lowest) => rank(version) >= rank(lowest),
            None if positive => words.contains(&version),
            None => !words
                .iter()
                .any(|word| word.strip_prefix('!') == Some(version)),
        };
        if !allowed("TLSv1.2") && allowed("TLSv1.3") {
            newest = true;
            context.taken(&found.place, table.name_of("tls.min_version"));
        } else if allowed("TLSv1.1") || allowed("TLSv1") {
            let text = "tls.min_version is \"1.2\", the oldest version here";
            context.changed(&found.place, text);
        } else {
            context.taken(&found.place, table.name_of("tls.min_version"));
        }
    }
    if newest {
        table.set("tls.min_version", "1.3");
    }
}

/// The age of a TLS version.
fn rank(version: &str) -> u8 {
    match version.to_ascii_lowercase().as_str() {
        "tlsv1" | "0301" => 1,
        "tlsv1.1" | "0302" => 2,
        "tlsv1.2" | "0303" => 3,
        "tlsv1.3" | "0304" => 4,
        _ => 0,
    }
}

/// The pairs of certificate and key.
fn certificates(context: &Context<'_>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let path = |path: &str| context.resolve(path, true).display().to_string();
    let chains = context.get("smtpd_tls_chain_files");
    if chains.is_set && !chains.is_empty() {
        let mut key: Option<String> = None;
        for file in chains.list() {
            let file = path(file);
            let bytes = context
                .files
                .read(std::path::Path::new(&file))
                .unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let (has_key, has_cert) = (text.contains("PRIVATE KEY"), text.contains("CERTIFICATE"));
            match (has_key, has_cert, key.take()) {
                (true, false, _) => key = Some(file),
                (false, true, Some(key)) => pairs.push((file, key)),
                _ => pairs.push((file.clone(), file)),
            }
        }
        context.taken(&chains.place, "tls.certs of the listeners");
    }
    for (cert, key) in [
        ("smtpd_tls_cert_file", "smtpd_tls_key_file"),
        ("smtpd_tls_eccert_file", "smtpd_tls_eckey_file"),
    ] {
        let cert = context.get(cert);
        let key = context.get(key);
        if cert.is_empty() || cert.value == "none" {
            continue;
        }
        if !pairs.is_empty() && chains.is_set && !chains.is_empty() {
            let text = "smtpd_tls_chain_files counts instead";
            context.left(&cert.place, text);
            continue;
        }
        pairs.push((path(&cert.value), path(&key.value)));
        context.taken(&cert.place, "tls.certs of the listeners");
        if key.is_set {
            context.taken(&key.place, "tls.certs of the listeners");
        }
    }
    pairs
}

/// `inet_interfaces` as addresses.
fn addresses(context: &Context<'_>) -> Vec<String> {
    let found = context.get("inet_interfaces");
    let protocols = context.get("inet_protocols");
    let only = |family: &str| {
        let list = protocols.list();
        list == [family]
    };
    let (v4, v6) = (!only("ipv6"), !only("ipv4"));
    if protocols.is_set {
        context.taken(&protocols.place, "listeners.public.ips");
    }
    let mut ips: Vec<String> = Vec::new();
    let of_families = |four: &str, six: &str| {
        let four = v4.then(|| four.to_owned());
        four.into_iter().chain(v6.then(|| six.to_owned()))
    };
    for word in found.list() {
        match word {
            "all" => ips.extend(of_families("0.0.0.0", "::")),
            "loopback-only" | "localhost" => ips.extend(of_families("127.0.0.1", "::1")),
            word => match word.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(ip) => ips.push(ip.to_string()),
                Err(_) => {
                    let text =
                        format!("{word:?} is not an IP address; add the addresses of the name");
                    context.left(&found.place, text);
                }
            },
        }
    }
    ips.sort();
    ips.dedup();
    if found.is_set {
        context.taken(&found.place, "listeners.public.ips");
    }
    if ips.is_empty() {
        let text = "no address was found, so the listener is at the loopback addresses only";
        context.changed(&found.place, text);
        ips.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    ips
}

fn nat_ips(context: &Context<'_>, table: &mut Table) {
    let found = context.get("proxy_interfaces");
    if found.is_empty() {
        return;
    }
    let mut ips: Vec<String> = Vec::new();
    for (word, place) in maps::names(context, &found) {
        match word.parse::<IpAddr>() {
            Ok(ip) => ips.push(ip.to_string()),
            Err(_) => context.left(&place, format!("{word:?} is not an IP address")),
        }
    }
    ips.dedup();
    if !ips.is_empty() {
        table.set("nat_ips", array(ips));
        context.taken(&found.place, table.name_of("nat_ips"));
    }
}

fn recipients(context: &Context<'_>) -> Option<i64> {
    let found = context.get("smtpd_recipient_limit");
    if !found.is_set {
        return None;
    }
    match found.value.parse::<i64>() {
        Ok(limit @ 100..=100_000) => {
            context.taken(&found.place, "limits.recipients_per_message");
            Some(limit)
        }
        _ => {
            let text = format!("{:?} is not a limit from 100 to 100000", found.value);
            context.left(&found.place, text);
            None
        }
    }
}

/// `smtpd_milters`.
fn milters(context: &Context<'_>) -> Vec<Table> {
    let action = context.get("milter_default_action");
    let mut default = "tempfail";
    if action.is_set {
        match on_error(&action) {
            Some(word) => {
                default = word;
                context.taken(&action.place, "on_error of each milter");
            }
            None => {
                let text = format!(
                    "{:?} has no counterpart; on_error is \"tempfail\"",
                    action.value
                );
                context.changed(&action.place, text);
            }
        }
    }
    let found = context.get("smtpd_milters");
    let queue = context.params.expand("queue_directory").unwrap_or_default();
    let mut tables: Vec<Table> = Vec::new();
    for word in found.list() {
        let inner = unbraced(word).unwrap_or(word);
        let mut parts = words(inner, &[',']).into_iter();
        let socket = match parts.next().map(|socket| socket_of(socket, &queue)) {
            Some(Ok(socket)) => socket,
            Some(Err(socket)) => {
                context.left(&found.place, format!("{socket:?} is not a socket"));
                continue;
            }
            None => continue,
        };
        let mut on_failure = default;
        for part in parts {
            match part.split_once('=') {
                Some(("default_action", value)) => on_failure = word_of(value).unwrap_or(default),
                _ => context.left(&found.place, format!("{part} has no counterpart")),
            }
        }
        let name = format!("milter{}", tables.len() + 1);
        let mut table = Table::new(&["milters", &name]);
        table.set("socket", socket);
        table.set("on_error", on_failure);
        context.taken(&found.place, table.name_of(""));
        tables.push(table);
    }
    tables
}

fn on_error(found: &Found) -> Option<&'static str> {
    word_of(&found.value)
}

fn word_of(action: &str) -> Option<&'static str> {
    match action {
        "accept" => Some("accept"),
        "reject" => Some("reject"),
        "tempfail" => Some("tempfail"),
        "quarantine" => Some("quarantine"),
        _ => None,
    }
}

/// The socket of a milter in our form. A path is relative to the queue of Postfix.
fn socket_of<'t>(text: &'t str, queue: &str) -> Result<String, &'t str> {
    match text.split_once(':') {
        Some(("unix" | "local", path)) if !path.is_empty() => {
            let path = std::path::Path::new(queue).join(path);
            Ok(format!("unix:{}", path.display()))
        }
        Some(("inet" | "inet6", place)) => {
            let hop = NextHop::parse(place).ok_or(text)?;
            let port = hop.port.ok_or(text)?;
            match hop.host.contains(':') {
                true => Ok(format!("inet:[{}]:{port}", hop.host)),
                false => Ok(format!("inet:{}:{port}", hop.host)),
            }
        }
        _ => Err(text),
    }
}
