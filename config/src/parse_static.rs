//! From the tables of `postrider.conf` to a [`Static`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use postrider_observe::log::{is_known_module, known_modules};
use postrider_smtp::{Address, Domain, Host};
use toml_edit::Document;

use crate::{
    dns_update,
    error::Errors,
    hooks::{read_hook, read_milter},
    keys, listeners,
    mailboxes::{MailApi, Undelete},
    oauth, otlp, parse_providers,
    providers::Providers,
    reader::{Reader, Source, read_text},
    scalar::{Url, parse_host_port},
    sources,
    statics::{
        Acme, Delivery, Eab, HostTlsRpt, Limits, Log, LoginFailures, MetricsConfig, Notes,
        OutgoingTls, PerDestination, Policy, Postmaster, QueueConfig, Reports, ResolverConfig,
        SmtpClient, Static, StoreConfig, Web, WebhookConfig,
    },
    suggest::nearest_names,
    traces,
    transports::{Direct, Fail, Lmtp, Smarthost, Socks, Transport, TransportAuth, TransportSecret},
    values::{
        DmarcHandling, KeepTranscripts, LogFormat, LogLevel, Mechanism, OnBlock, ReportsTls,
        RequireTls, RequireTotp, StoreEngine, missing_domain,
    },
};

impl Static {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// If the file cannot be read. If it has problems, with all of them.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Errors> {
        Self::load_as_far(path.as_ref()).map_err(|failed| failed.0)
    }

    /// As [`load`](Self::load). With the errors comes what could be read, for the checks of
    /// `domains.conf` that need no more.
    pub(crate) fn load_as_far(path: &Path) -> Result<Self, Box<(Errors, Self)>> {
        match read_text(path) {
            Ok(text) => Self::parse_as_far(&text, path),
            Err(errors) => Err(Box::new((errors, Self::unknown(path)))),
        }
    }

    /// Checks a text as the content of the file `path`. The file need not exist.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self, Errors> {
        Self::parse_as_far(text, path.as_ref()).map_err(|failed| failed.0)
    }

    fn parse_as_far(text: &str, path: &Path) -> Result<Self, Box<(Errors, Self)>> {
        let source = Source::new(text, path);
        let document = match source.document() {
            Ok(document) => document,
            Err(errors) => return Err(Box::new((errors, Self::unknown(path)))),
        };
        let root = source.root(&document, &keys::STATIC_TREE);
        let mut parsed = read(&root, path);
        match source.errors() {
            None => {
                parsed.notes.not_yet = source.take_not_yet();
                parsed.notes.warnings = source.take_warnings();
                Ok(parsed)
            }
            Some(errors) => {
                parsed.notes.incomplete = true;
                Err(Box::new((errors, parsed)))
            }
        }
    }

    /// A configuration of which nothing is known.
    fn unknown(path: &Path) -> Self {
        let source = Source::new("", path);
        let document = Document::new();
        let mut unknown = read(&source.root(&document, &keys::STATIC_TREE), path);
        unknown.notes.incomplete = true;
        unknown
    }
}

/// Reads everything, even if a required value is missing, so that all problems are found.
fn read(root: &Reader<'_>, path: &Path) -> Static {
    let hostname: Option<Domain> = root.opt("hostname");
    let postmaster = root.section("postmaster");
    let acme: BTreeMap<String, Acme> = named(root, "acme", read_acme);
    let listeners = listeners::read(root, hostname.as_ref(), &acme);
    let all_sources = root.section("sources");
    let sources = named(root, "sources", |reader| {
        sources::read_source(reader, hostname.as_ref())
    });
    let all_pools = root.section("pools");
    let pools = named(root, "pools", |reader| {
        sources::read_pool(reader, &all_sources)
    });
    let transports = named(root, "transports", |reader| {
        read_transport(reader, hostname.as_ref(), &all_pools)
    });
    let hooks = named(root, "hooks", |reader| read_hook(reader, &listeners));
    let milters = named(root, "milters", |reader| read_milter(reader, &listeners));
    for name in milters.keys().filter(|name| hooks.contains_key(*name)) {
        let message = "is the name of a hook too; each needs a name of its own";
        root.section("milters").wrong(name, message);
    }
    let log = root.section("log");
    let undelete = root.section("undelete");
    let store = root.section("store");
    let delivery = root.section("delivery");
    let queue = read_queue(&root.section("queue"));
    let shipped = Providers::shipped(&queue.per_destination);
    let names: Vec<String> = all_pools.names().into_iter().map(str::to_owned).collect();
    let providers = parse_providers::read_static(&delivery, shipped, &names);
    Static {
        path: path.to_owned(),
        data_dir: root.get("data_dir"),
        hostname: hostname.unwrap_or_else(missing_domain),
        user: root.get("user"),
        log: read_log(&log),
        metrics: MetricsConfig {
            allow: root.section("metrics").set("allow"),
        },
        sandbox: root.get("sandbox"),
        admin_password_file: root.opt("admin_password_file"),
        postmaster: read_postmaster(root, &postmaster),
        host_tls_rpt: root
            .table("host_tls_rpt")
            .and_then(|table| read_host_tls_rpt(&table)),
        reports: read_reports(&root.section("reports")),
        undelete: Undelete {
            keep: undelete.get("keep"),
            max_size: undelete.get("max_size"),
        },
        dns_update: dns_update::read(root),
        oauth: oauth::read(&root.section("oauth")),
        mail_api: MailApi {
            origins: root.section("mail_api").set("origins"),
        },
        otlp: root.table("otlp").and_then(|table| otlp::read(&table)),
        resolver: read_resolver(&root.section("resolver")),
        tls: OutgoingTls {
            ca_files: root.section("tls").set("ca_files"),
        },
        acme,
        listeners,
        transports,
        sources,
        pools,
        hooks,
        milters,
        queue,
        web: Web {
            require_totp: root
                .section("web")
                .opt("require_totp")
                .unwrap_or(RequireTotp::None),
        },
        webhook: read_webhook(&root.section("webhook")),
        limits: read_limits(&root.section("limits")),
        smtp_client: read_smtp_client(&root.section("smtp_client")),
        delivery: read_delivery(&delivery, &all_pools),
        providers: Arc::new(providers),
        policy: read_policy(&root.section("policy")),
        default_mailboxes: read_mailboxes(root, "default_mailboxes"),
        traces: traces::read(&root.section("traces")),
        store: StoreConfig {
            engine: store.opt("engine").unwrap_or(StoreEngine::Redb),
            segment_size: store.get("segment_size"),
        },
        notes: Notes {
            postmaster_at: postmaster.position("account"),
            host_tls_rpt_at: root.section("host_tls_rpt").position("account"),
            ..Notes::default()
        },
    }
}

/// Reads tables, and gives them by name. Wrong tables are reported and left out.
fn named<T>(
    root: &Reader<'_>,
    name: &str,
    mut read: impl FnMut(&Reader<'_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let tables = root.section(name).named();
    tables
        .into_iter()
        .filter_map(|(name, reader)| Some((name.to_owned(), read(&reader)?)))
        .collect()
}

fn read_postmaster(root: &Reader<'_>, reader: &Reader<'_>) -> Postmaster {
    if !reader.is_present() {
        root.wrong_below(
            "postmaster",
            "account",
            "is required, but missing: an account of domains.conf that gets mail to postmaster",
        );
    }
    Postmaster {
        account: reader.opt("account").unwrap_or_default(),
        mailbox: read_mailbox(reader, "mailbox"),
    }
}

fn read_resolver(reader: &Reader<'_>) -> ResolverConfig {
    ResolverConfig {
        servers: reader.set("servers"),
        dnssec: reader.get("dnssec"),
        trust_anchor_file: reader.opt("trust_anchor_file"),
        timeout: reader.get("timeout"),
    }
}

fn read_delivery(reader: &Reader<'_>, pools: &Reader<'_>) -> Delivery {
    let source_pool: Option<String> = reader.opt("source_pool");
    if let Some(pool) = &source_pool {
        sources::check_pool(reader, "source_pool", pool, pools.names().into_iter());
    }
    Delivery {
        forbid_private_addresses: reader.get("forbid_private_addresses"),
        dane: reader.get("dane"),
        source_pool,
        message_time: reader.get("message_time"),
        min_rate: reader.get("min_rate"),
        connections_per_address: reader.get("connections_per_address"),
        slow_connections: reader.get("slow_connections"),
        require_tls: reader.opt("require_tls").unwrap_or(RequireTls::Enforce),
        mta_sts: reader.get("mta_sts"),
        on_block: reader.opt("on_block").unwrap_or(OnBlock::Defer),
    }
}

fn read_policy(reader: &Reader<'_>) -> Policy {
    Policy {
        dmarc: reader.opt("dmarc").unwrap_or(DmarcHandling::Enforce),
        arc_trusted_sealers: reader.set("arc_trusted_sealers"),
        junk_threshold: reader.get("junk_threshold"),
        greylist: reader.get("greylist"),
        first_time_sender_delay: reader.get("first_time_sender_delay"),
        trusted_reporters: reader.set("trusted_reporters"),
    }
}

fn read_log(reader: &Reader<'_>) -> Log {
    let modules = reader.section("modules");
    for name in modules.names() {
        if !is_known_module(name) {
            let nearest = nearest_names(name, known_modules()).join(", ");
            let message = format!("no module of this name writes lines; the nearest are {nearest}");
            modules.warn(name, &message);
        }
    }
    Log {
        level: reader.opt("level").unwrap_or(LogLevel::Info),
        format: reader.opt("format").unwrap_or(LogFormat::Text),
        modules: modules
            .names()
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), modules.opt(name)?)))
            .collect(),
    }
}

/// The name in CAA records of a CA with this directory, if the CA is known here.
fn issuer_of(directory_url: &str) -> Option<Domain> {
    const LETSENCRYPT: &str = "letsencrypt.org";
    let url = url::Url::parse(directory_url).ok()?;
    let host = url.host_str()?.strip_suffix(LETSENCRYPT)?;
    let known = host.is_empty() || host.ends_with('.');
    known.then(|| Domain::parse(LETSENCRYPT).ok())?
}

fn read_acme(reader: &Reader<'_>) -> Option<Acme> {
    let directory_url = reader.url("directory_url", &["https"]).unwrap_or_default();
    let contact_email: String = reader.get("contact_email");
    if !contact_email.is_empty() && !Address::parse(&contact_email).is_ok_and(|it| it.is_ascii()) {
        reader.wrong("contact_email", "must be a mail address in ASCII");
    }
    Some(Acme {
        contact_email,
        renew_before: reader.get("renew_before"),
        ca_file: reader.opt("ca_file"),
        issuer: reader.opt("issuer").or_else(|| issuer_of(&directory_url)),
        directory_url,
        eab: reader.table("eab").and_then(|eab| {
            let key_id = eab.opt("key_id");
            let key_file = eab.opt("key_file");
            Some(Eab {
                key_id: key_id?,
                key_file: key_file?,
            })
        }),
    })
}

fn read_host_tls_rpt(reader: &Reader<'_>) -> Option<HostTlsRpt> {
    let localpart = match reader.opt("localpart") {
        Some(localpart) => Some(localpart),
        None => reader.default_of("localpart"),
    };
    let mailbox = read_mailbox(reader, "mailbox");
    Some(HostTlsRpt {
        account: reader.opt("account")?,
        mailbox,
        localpart: localpart?,
    })
}

fn read_reports(reader: &Reader<'_>) -> Reports {
    Reports {
        tls: reader.opt("tls").unwrap_or(ReportsTls::Failures),
        dmarc: reader.get("dmarc"),
        from: reader.opt("from"),
        keep: reader.get("keep"),
        max_size: reader.get("max_size"),
    }
}

fn read_queue(reader: &Reader<'_>) -> QueueConfig {
    let destination = reader.section("per_destination");
    QueueConfig {
        retry_intervals: reader.list("retry_intervals"),
        delay_dsn_after: reader.get("delay_dsn_after"),
        max_concurrency: reader.get("max_concurrency"),
        per_destination: PerDestination {
            connections: destination.get("connections"),
            messages_per_connection: destination.get("messages_per_connection"),
            recipients_per_transaction: destination.get("recipients_per_transaction"),
            idle: destination.get("idle"),
        },
        retry_spread: reader.get("retry_spread"),
        keep_transcripts: reader
            .opt("keep_transcripts")
            .unwrap_or(KeepTranscripts::Failed),
    }
}

fn read_webhook(reader: &Reader<'_>) -> WebhookConfig {
    WebhookConfig {
        retry_intervals: reader.list("retry_intervals"),
        timeout: reader.get("timeout"),
        max_concurrency: reader.get("max_concurrency"),
        per_receiver_concurrency: reader.get("per_receiver_concurrency"),
        proxy: reader.url("proxy", &["http", "https", "socks5", "socks5h"]),
        allow_private_addresses: reader.get("allow_private_addresses"),
    }
}

fn read_limits(reader: &Reader<'_>) -> Limits {
    let logins = reader.section("login_failures_per_network");
    Limits {
        connections: reader.get("connections"),
        connections_per_network: reader.get("connections_per_network"),
        messages_per_network: reader.get("messages_per_network"),
        recipients_per_network: reader.get("recipients_per_network"),
        bytes_per_network: reader.get("bytes_per_network"),
        messages_per_connection: reader.get("messages_per_connection"),
        recipients_per_message: reader.get("recipients_per_message"),
        errors_per_connection: reader.get("errors_per_connection"),
        command_timeout: reader.get("command_timeout"),
        data_timeout: reader.get("data_timeout"),
        message_timeout: reader.get("message_timeout"),
        header_size: reader.get("header_size"),
        text_memory: reader.get("text_memory"),
        mime_depth: reader.get("mime_depth"),
        mime_parts: reader.get("mime_parts"),
        login_failures_per_network: LoginFailures {
            per_minute: logins.get("per_minute"),
            per_day: logins.get("per_day"),
        },
    }
}

fn read_smtp_client(reader: &Reader<'_>) -> SmtpClient {
    SmtpClient {
        connect_timeout: reader.get("connect_timeout"),
        greeting_timeout: reader.get("greeting_timeout"),
        mail_timeout: reader.get("mail_timeout"),
        rcpt_timeout: reader.get("rcpt_timeout"),
        data_timeout: reader.get("data_timeout"),
        dot_timeout: reader.get("dot_timeout"),
    }
}

const TRANSPORT_KINDS: [&str; 7] = [
    "submissions",
    "submission",
    "smtp",
    "lmtp",
    "socks",
    "direct",
    "fail",
];

fn read_transport(
    reader: &Reader<'_>,
    hostname: Option<&Domain>,
    pools: &Reader<'_>,
) -> Option<Transport> {
    let kinds: Vec<&str> = TRANSPORT_KINDS
        .into_iter()
        .filter(|kind| reader.has(kind))
        .collect();
    let read: Vec<Transport> = kinds
        .iter()
        .filter_map(|kind| read_transport_kind(kind, &reader.section(kind), hostname, pools))
        .collect();
    match kinds.as_slice() {
        [_] => read.into_iter().next(),
        [] => {
            let all = TRANSPORT_KINDS.join(", ");
            reader.wrong_here(format!("must have one of the tables {all}"));
            None
        }
        [_, second, ..] => {
            let kinds = kinds.join(" and ");
            reader.wrong(
                second,
                format!(
                    "is one too many: this transport has {kinds}; keep one, and put the other in a \
            transport of its own"
                ),
            );
            None
        }
    }
}

fn read_transport_kind(
    kind: &str,
    reader: &Reader<'_>,
    hostname: Option<&Domain>,
    pools: &Reader<'_>,
) -> Option<Transport> {
    Some(match kind {
        "submissions" => Transport::Submissions(read_smarthost(reader)?),
        "submission" => Transport::Submission(read_smarthost(reader)?),
        "smtp" => Transport::Smtp(read_smarthost(reader)?),
        "lmtp" => Transport::Lmtp(read_lmtp(reader)?),
        "socks" => Transport::Socks(read_socks(reader, hostname)?),
        "direct" => Transport::Direct(read_direct(reader, pools)),
        _ => Transport::Fail(Fail {
            code: reader.get("code"),
            message: reader.get("message"),
        }),
    })
}

fn read_smarthost(reader: &Reader<'_>) -> Option<Smarthost> {
    let auth = reader.table("auth").and_then(|auth| read_auth(&auth));
    let smarthost = Smarthost {
        port: reader.get("port"),
        auth,
        insecure_skip_verify: reader.get("insecure_skip_verify"),
        no_starttls: reader.get("no_starttls"),
        host: reader.opt("host")?,
    };
    if smarthost.no_starttls && smarthost.auth.is_some() {
        reader.warn(
            "no_starttls",
            "the password goes over the network in clear text",
        );
    }
    Some(smarthost)
}

fn read_auth(reader: &Reader<'_>) -> Option<TransportAuth> {
    let mechanisms: Vec<Mechanism> = reader.set("mechanisms");
    let username = reader.opt("username");
    let password: Option<String> = reader.opt("password");
    let token_file: Option<PathBuf> = reader.opt("token_file");
    match (reader.has("password"), reader.has("token_file")) {
        (true, true) => reader.wrong(
            "token_file",
            "cannot be used together with password; keep one",
        ),
        (false, false) => reader.wrong_here("needs a password or a token_file"),
        (_, has_token) => {
            let fits = |mechanism: &Mechanism| mechanism.takes_token() == has_token;
            if !mechanisms.is_empty() && !mechanisms.iter().any(fits) {
                let wanted = match has_token {
                    true => "has no mechanism that takes a token: OAUTHBEARER or XOAUTH2",
                    false => "has no mechanism that takes a password",
                };
                reader.wrong("mechanisms", wanted);
            }
        }
    }
    let secret = match (password, token_file) {
        (Some(password), None) => TransportSecret::Password(password),
        (None, Some(file)) => TransportSecret::TokenFile(file),
        _ => return None,
    };
    Some(TransportAuth {
        username: username?,
        secret,
        mechanisms,
    })
}

fn read_lmtp(reader: &Reader<'_>) -> Option<Lmtp> {
    let host: Option<Host> = reader.opt("host");
    let socket: Option<PathBuf> = reader.opt("socket");
    let port = reader.get("port");
    match (reader.has("host"), reader.has("socket")) {
        (true, true) => {
            reader.wrong("socket", "cannot be used together with host; keep one");
            None
        }
        (false, false) => {
            reader.wrong_here("needs a host or a socket");
            None
        }
        _ => match socket {
            Some(socket) => {
                if reader.has("port") {
                    reader.wrong("port", "has no meaning for a socket; remove it");
                }
                Some(Lmtp::Socket(socket))
            }
            None => Some(Lmtp::Tcp { host: host?, port }),
        },
    }
}

fn read_socks(reader: &Reader<'_>, hostname: Option<&Domain>) -> Option<Socks> {
    let remote_ips = reader.set("remote_ips");
    let remote_hostname = reader.opt("remote_hostname");
    let address: String = reader.opt("address")?;
    match parse_host_port(&address) {
        Ok((host, port)) => Some(Socks {
            host,
            port,
            remote_ips,
            remote_hostname: remote_hostname.or_else(|| hostname.cloned())?,
        }),
        Err(message) => {
            reader.wrong("address", message);
            None
        }
    }
}

fn read_direct(reader: &Reader<'_>, pools: &Reader<'_>) -> Direct {
    let direct = Direct {
        disable_ipv4: reader.get("disable_ipv4"),
        disable_ipv6: reader.get("disable_ipv6"),
        local_ips: reader.set("local_ips"),
        source_pool: reader.opt("source_pool"),
    };
    if let Some(pool) = &direct.source_pool {
        sources::check_pool(reader, "source_pool", pool, pools.names().into_iter());
        if reader.has("local_ips") {
            reader.wrong(
                "source_pool",
                "cannot be used together with local_ips; keep one",
            );
        }
    }
    if direct.disable_ipv4 && direct.disable_ipv6 {
        reader.wrong(
            "disable_ipv6",
            "leaves no address family, because disable_ipv4 is set too",
        );
    }
    direct
}

/// Reads the name of a mailbox.
pub(crate) fn read_mailbox(reader: &Reader<'_>, name: &str) -> String {
    let mailbox: String = reader.get(name);
    if let Some(message) = mailbox_problem(&mailbox) {
        reader.wrong(name, message);
    }
    mailbox
}

fn read_mailboxes(reader: &Reader<'_>, name: &str) -> Vec<String> {
    let mailboxes: Vec<(usize, String)> = reader.entries(name);
    let mut seen = BTreeSet::new();
    for (index, mailbox) in &mailboxes {
        if let Some(message) = mailbox_problem(mailbox) {
            reader.wrong_element(name, *index, message);
        } else if !seen.insert(mailbox.to_lowercase()) {
            reader.wrong_element(
                name,
                *index,
                "is in the array twice, perhaps in another case; remove one",
            );
        }
    }
    mailboxes.into_iter().map(|(_, mailbox)| mailbox).collect()
}

/// The problem of a mailbox name. Names are paths with `/` between the levels.
pub(crate) fn mailbox_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("must be the name of a mailbox, not empty")
    } else if name
        .split('/')
        .any(|part| part.trim() != part || part.is_empty())
    {
        Some("is not a mailbox name: a level is empty, or begins or ends with a space")
    } else if name.contains(['*', '%', '\\', '"']) || name.starts_with('#') {
        Some("is not a mailbox name: it begins with # or has one of the characters * % \\ \"")
    } else {
        None
    }
}

impl Reader<'_> {
    /// Reads a URL with one of these schemes.
    pub(crate) fn url(&self, name: &str, schemes: &[&str]) -> Option<String> {
        let url: Url = match self.opt(name) {
            Some(url) => url,
            None => self.default_of(name)?,
        };
        if schemes.contains(&url.scheme().as_str()) {
            Some(url.0)
        } else {
            let schemes = schemes.join(":// or ");
            self.wrong(name, format!("must begin with {schemes}://"));
            None
        }
    }
}
