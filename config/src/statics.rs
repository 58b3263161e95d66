//! The types of `postrider.conf`. The file takes effect at start.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use postrider_smtp::{Address, Domain, LocalPart};

use crate::{
    dns_update::DnsUpdate,
    hooks::{Hook, Milter},
    mailboxes::{MailApi, Undelete},
    oauth::Oauth,
    otlp::OtlpConfig,
    providers::Providers,
    quantity::Size,
    sources::{OutgoingSource, Pool},
    traces::TracesConfig,
    transports::Transport,
    values::{
        DmarcHandling, KeepTranscripts, LogFormat, LogLevel, Network, OnBlock, ReportsTls,
        RequireTls, RequireTotp, StoreEngine, TlsVersion,
    },
};

/// `postrider.conf`. Fields have the names of its keys. Paths are resolved against the file's
/// folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Static {
    /// The path of the file.
    pub path: PathBuf,
    /// The folder of the records, the texts and the control socket.
    pub data_dir: PathBuf,
    /// The server's name in EHLO, Message-IDs, Received fields and DSNs.
    pub hostname: Domain,
    /// The user that a server started by root switches to. Empty means no switch.
    pub user: String,
    /// The log.
    pub log: Log,
    /// The metrics.
    pub metrics: MetricsConfig,
    /// Whether the server takes rights from itself that it does not need.
    pub sandbox: bool,
    /// The file with the hash of the administrator's password.
    pub admin_password_file: Option<PathBuf>,
    /// The account for mail to `<postmaster>`, and to postmaster and abuse at the hostname and at
    /// each domain without such an address.
    pub postmaster: Postmaster,
    /// The address for reports about TLS connections to this host.
    pub host_tls_rpt: Option<HostTlsRpt>,
    /// The reports that go to other servers.
    pub reports: Reports,
    /// How long deleted mail is kept.
    pub undelete: Undelete,
    /// The DNS resolver.
    pub resolver: ResolverConfig,
    /// The servers that take changes of a zone, by zone.
    pub dns_update: BTreeMap<Domain, DnsUpdate>,
    /// The authorization server whose tokens log in, and whether this server is one too.
    pub oauth: Oauth,
    /// The mailbox API.
    pub mail_api: MailApi,
    /// The collector that gets the log and the traces.
    pub otlp: Option<OtlpConfig>,
    /// Trust for outgoing TLS.
    pub tls: OutgoingTls,
    /// ACME accounts by name.
    pub acme: BTreeMap<String, Acme>,
    /// Listeners by name. There is at least one.
    pub listeners: BTreeMap<String, Listener>,
    /// Transports by name. Routes name them.
    pub transports: BTreeMap<String, Transport>,
    /// `sources`, by name.
    pub sources: BTreeMap<String, OutgoingSource>,
    /// `pools`, by name.
    pub pools: BTreeMap<String, Pool>,
    /// The programs that are asked over HTTP, by name.
    pub hooks: BTreeMap<String, Hook>,
    /// The milters, by name.
    pub milters: BTreeMap<String, Milter>,
    /// The queue.
    pub queue: QueueConfig,
    /// The pages.
    pub web: Web,
    /// The webhook calls.
    pub webhook: WebhookConfig,
    /// Limits for incoming connections and messages.
    pub limits: Limits,
    /// Time limits for outgoing SMTP.
    pub smtp_client: SmtpClient,
    /// Delivery to MX hosts.
    pub delivery: Delivery,
    /// Known providers: the shipped entries, with those of `delivery.providers_file`. The entries
    /// in force are [`Dynamic::providers`](crate::Dynamic::providers).
    pub providers: Arc<Providers>,
    /// The treatment of unknown senders.
    pub policy: Policy,
    /// The mailboxes of a new account.
    pub default_mailboxes: Vec<String>,
    /// The traces.
    pub traces: TracesConfig,
    /// The store.
    pub store: StoreConfig,
    pub(crate) notes: Notes,
}

impl Static {
    /// The keys and tables at the top of the file whose values are not the same in `other`.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        macro_rules! differing {
            ($($name:ident),*) => {{
                let Self { path: _, notes: _, $($name),* } = self;
                let all = [$((stringify!($name), *$name != other.$name)),*];
                all.into_iter()
                    .filter_map(|(name, differs)| differs.then_some(name))
                    .collect()
            }};
        }
        differing!(
            data_dir,
            hostname,
            user,
            log,
            metrics,
            sandbox,
            admin_password_file,
            postmaster,
            host_tls_rpt,
            reports,
            undelete,
            resolver,
            dns_update,
            oauth,
            mail_api,
            otlp,
            tls,
            acme,
            listeners,
            transports,
            sources,
            pools,
            hooks,
            milters,
            queue,
            web,
            webhook,
            limits,
            smtp_client,
            delivery,
            providers,
            policy,
            default_mailboxes,
            traces,
            store
        )
    }
}

/// Results of reading the file beside the values. Two configurations with different notes are
/// equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Line and column of `postmaster.account`. Only `domains.conf` shows whether the account
    /// exists.
    pub(crate) postmaster_at: (usize, usize),
    /// Likewise of `host_tls_rpt.account`.
    pub(crate) host_tls_rpt_at: (usize, usize),
    /// The file has errors, so its values may be wrong, and names may be missing.
    pub(crate) incomplete: bool,
    pub(crate) not_yet: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl PartialEq for Notes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Static {
    /// The path of `domains.conf`, in the same folder.
    #[must_use]
    pub fn domains_file(&self) -> PathBuf {
        self.path
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join("domains.conf")
    }

    /// The full names of keys that are set, but that this version only checks.
    #[must_use]
    pub fn not_yet(&self) -> Vec<String> {
        self.notes.not_yet.clone()
    }

    /// Warnings about values that are valid but probably wrong. Each is a sentence with its place.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.notes.warnings
    }
}

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The level of modules that `modules` does not name.
    pub level: LogLevel,
    /// The form of log lines.
    pub format: LogFormat,
    /// The levels of single modules.
    pub modules: BTreeMap<String, LogLevel>,
}

/// `metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The networks whose clients may read the metrics.
    pub allow: Vec<Network>,
}

/// `postmaster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmaster {
    /// An account of `domains.conf`.
    pub account: String,
    /// The mailbox of that account.
    pub mailbox: String,
}

/// `host_tls_rpt`. The domain of the address is the hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTlsRpt {
    /// The account.
    pub account: String,
    /// The mailbox.
    pub mailbox: String,
    /// The local-part of the address.
    pub localpart: LocalPart,
}

/// `reports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// When reports about TLS are sent.
    pub tls: ReportsTls,
    /// Whether reports about DMARC are sent.
    pub dmarc: bool,
    /// The sender. None means postmaster at the domain of the hostname.
    pub from: Option<Address>,
    /// How long reports that came in are kept.
    pub keep: Duration,
    /// The bytes that they may have together with the sums over them.
    pub max_size: Size,
}

/// `resolver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// The DNS servers. Empty means the system's servers.
    pub servers: Vec<SocketAddr>,
    /// Whether answers are validated with DNSSEC.
    pub dnssec: bool,
    /// A file of DNSKEY records. None means the keys of the root of the internet.
    pub trust_anchor_file: Option<PathBuf>,
    /// The time limit of one look-up.
    pub timeout: Duration,
}

/// What counts without a file.
impl Default for ResolverConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            dnssec: true,
            trust_anchor_file: None,
            timeout: Duration::from_secs(5),
        }
    }
}

/// `tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingTls {
    /// PEM files of further CAs, beside the system's.
    pub ca_files: Vec<PathBuf>,
}

/// `acme.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The directory of the CA.
    pub directory_url: String,
    /// The mail address that the CA writes to.
    pub contact_email: String,
    /// How long before its end a certificate is renewed. At most half of its time counts.
    pub renew_before: Duration,
    /// The file of the CAs that the connection to the directory trusts. None: those that all
    /// outgoing connections trust.
    pub ca_file: Option<PathBuf>,
    /// The name of the CA in CAA records (RFC 8659). None: not known.
    pub issuer: Option<Domain>,
    /// External account binding.
    pub eab: Option<Eab>,
}

/// `acme.NAME.eab` (RFC 8555 §7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eab {
    /// The name of the key. The CA gives it.
    pub key_id: String,
    /// The file with the key, in base64.
    pub key_file: PathBuf,
}

/// `listeners.NAME`: IP addresses and the services on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The IP addresses to listen on, at least one.
    pub ips: Vec<IpAddr>,
    /// The public IP addresses, if they differ.
    pub nat_ips: Vec<IpAddr>,
    /// The proxies that tell the addresses of their clients by the PROXY protocol. Empty: clients
    /// connect themselves.
    pub proxy_from: Vec<Network>,
    /// The peers that may use XCLIENT.
    pub xclient_from: Vec<Network>,
    /// The name in greetings. The default is the global hostname.
    pub hostname: Domain,
    /// The certificates. None means no TLS on this listener.
    pub tls: Option<ListenerTls>,
    /// The largest message (SIZE).
    pub max_message_size: Size,
    /// The MX service.
    pub smtp: SmtpService,
    /// Submission with STARTTLS (RFC 6409).
    pub submission: SubmissionService,
    /// Submission over TLS (RFC 8314).
    pub submissions: SubmissionsService,
    /// The application API.
    pub webapi_http: HttpService,
    /// The application API over TLS.
    pub webapi_https: HttpService,
    /// The account pages.
    pub account_http: HttpService,
    /// The account pages over TLS.
    pub account_https: HttpService,
    /// The management API and the admin pages.
    pub admin_http: HttpService,
    /// The management API and the admin pages, over TLS.
    pub admin_https: HttpService,
    /// The mailbox API.
    pub mail_api_http: HttpService,
    /// The mailbox API over TLS.
    pub mail_api_https: HttpService,
    /// The metrics for Prometheus.
    pub metrics_http: HttpService,
    /// The settings for mail programs.
    pub autoconfig_https: HttpService,
    /// The MTA-STS policies (RFC 8461 §3.3).
    pub mta_sts_https: HttpService,
}

impl Listener {
    /// All HTTP services with the names of their keys, enabled or not.
    #[must_use]
    pub fn http_services(&self) -> [(&'static str, &HttpService); 11] {
        [
            ("webapi_http", &self.webapi_http),
            ("webapi_https", &self.webapi_https),
            ("account_http", &self.account_http),
            ("account_https", &self.account_https),
            ("admin_http", &self.admin_http),
            ("admin_https", &self.admin_https),
            ("mail_api_http", &self.mail_api_http),
            ("mail_api_https", &self.mail_api_https),
            ("metrics_http", &self.metrics_http),
            ("autoconfig_https", &self.autoconfig_https),
            ("mta_sts_https", &self.mta_sts_https),
        ]
    }

    /// Whether a service over HTTPS runs.
    #[must_use]
    pub fn has_https(&self) -> bool {
        let mut services = self.http_services().into_iter();
        services.any(|(name, service)| service.enabled && name.ends_with("_https"))
    }

    /// The ports at which a CA can look for the answer to a challenge of ACME: those of HTTPS
    /// (tls-alpn-01, RFC 8737) or those of HTTP (http-01, RFC 8555 §8.3).
    pub fn challenge_ports(&self, https: bool) -> impl Iterator<Item = u16> {
        let services = self.http_services().into_iter();
        let suited = services.filter(move |(name, service)| {
            service.enabled && name.ends_with("_https") == https && !name.starts_with("metrics")
        });
        suited.map(|(_, service)| service.port)
    }

    /// The name of the account that gets this listener's certificates by ACME.
    #[must_use]
    pub fn acme_account(&self) -> Option<&str> {
        match &self.tls.as_ref()?.source {
            CertificateSource::Acme(account) => Some(account),
            CertificateSource::Files(_) => None,
        }
    }
}

/// `listeners.NAME.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The source of the certificates.
    pub source: CertificateSource,
    /// The oldest TLS version that is accepted.
    pub min_version: TlsVersion,
    /// Whether clients are asked for a certificate. It is never required.
    pub client_auth: bool,
    /// The files of the private keys that the certificates of the hostname have. TLSA records name
    /// these keys.
    pub host_keys: Vec<PathBuf>,
}

/// Exactly one of `tls.acme` and `tls.certs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// An account of `acme`.
    Acme(String),
    /// Files, at least one pair. They are reloaded when they change.
    Files(Vec<CertificateFiles>),
}

/// One of `listeners.NAME.tls.certs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate chain in PEM, the leaf first.
    pub cert_file: PathBuf,
    /// The private key in PEM.
    pub key_file: PathBuf,
}

/// `listeners.NAME.smtp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpService {
    /// Whether the service runs.
    pub enabled: bool,
    /// The TCP port. With 0 the system chooses the port.
    pub port: u16,
    /// Whether STARTTLS is offered.
    pub starttls: bool,
    /// Whether MAIL is refused before STARTTLS.
    pub require_starttls: bool,
    /// DNSBL zones in which clients are looked up.
    pub dnsbls: Vec<Domain>,
    /// Whether REQUIRETLS (RFC 8689) is offered.
    pub require_tls_extension: bool,
    /// Whether clients may resume TLS sessions with tickets.
    pub tls_tickets: bool,
}

/// `listeners.NAME.submission`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionService {
    /// Whether the service runs.
    pub enabled: bool,
    /// The TCP port. With 0 the system chooses the port.
    pub port: u16,
    /// Whether a login needs STARTTLS first.
    pub require_tls: bool,
}

/// `listeners.NAME.submissions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionsService {
    /// Whether the service runs.
    pub enabled: bool,
    /// The TCP port. With 0 the system chooses the port.
    pub port: u16,
    /// Whether the HTTPS port serves submission too, for clients that ask for it by ALPN.
    pub on_https: bool,
}

/// An HTTP service of a listener. Services with the same port share one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpService {
    /// Whether the service runs.
    pub enabled: bool,
    /// The TCP port. With 0 the system chooses the port.
    pub port: u16,
    /// The path of the service. A folder has a slash at both ends.
    pub path: String,
    /// The number of trusted proxies, each of which adds an address to X-Forwarded-For. 0: the
    /// field is not trusted.
    pub forwarded_hops: usize,
}

/// `queue`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// The waits after attempts 1, 2 and so on. The attempt after the last wait is the last one.
    pub retry_intervals: Vec<Duration>,
    /// The age of a message at which its sender learns of the delay.
    pub delay_dsn_after: Duration,
    /// The most deliveries at once.
    pub max_concurrency: usize,
    /// Limits for each destination.
    pub per_destination: PerDestination,
    /// The share of the wait by which a retry is randomly earlier or later, 0 to 0.5.
    pub retry_spread: f64,
    /// Of which attempts the transcript is kept.
    pub keep_transcripts: KeepTranscripts,
}

/// `queue.per_destination`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerDestination {
    /// The most connections at once.
    pub connections: usize,
    /// The most messages on one connection.
    pub messages_per_connection: usize,
    /// The most recipients in a transaction.
    pub recipients_per_transaction: usize,
    /// How long a connection without work stays open.
    pub idle: Duration,
}

/// `web`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Web {
    /// Who must have one-time codes.
    pub require_totp: RequireTotp,
}

/// `webhook`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The waits after calls 1, 2 and so on. The call after the last wait is the last one.
    pub retry_intervals: Vec<Duration>,
    /// The time limit of one call.
    pub timeout: Duration,
    /// The most calls at once.
    pub max_concurrency: usize,
    /// The most calls at once of one account to one receiver.
    pub per_receiver_concurrency: usize,
    /// The URL of an HTTP or SOCKS5 proxy.
    pub proxy: Option<String>,
    /// Whether a receiver may be at a loopback or private address.
    pub allow_private_addresses: bool,
}

/// `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most open connections, SMTP and HTTP together.
    pub connections: usize,
    /// The most open connections of one kind from one network (/32 or /64). Wider networks get a
    /// multiple. Loopback and trusted proxies are exempt.
    pub connections_per_network: usize,
    /// The most messages in a minute from one network (/32 or /64) to the MX. Wider networks get a
    /// multiple. Loopback is exempt.
    pub messages_per_network: u32,
    /// The most recipients in a minute from one network (/32 or /64) to the MX, taken or refused.
    /// Wider networks get a multiple. Loopback is exempt.
    pub recipients_per_network: u32,
    /// The most bytes of texts in a minute from one network (/32 or /64) to the MX, taken or
    /// refused. Wider networks get a multiple. Loopback is exempt.
    pub bytes_per_network: Size,
    /// The most transactions in a session.
    pub messages_per_connection: usize,
    /// The most recipients in a transaction.
    pub recipients_per_message: usize,
    /// The most refused commands in a session.
    pub errors_per_connection: usize,
    /// The time limit of a whole SMTP command, AUTH exchange or TLS handshake.
    pub command_timeout: Duration,
    /// The time limit of each read of a message.
    pub data_timeout: Duration,
    /// The time limit of a whole message by SMTP.
    pub message_timeout: Duration,
    /// The largest header section of a message.
    pub header_size: Size,
    /// The memory for texts that arrive by SMTP, in all sessions together.
    pub text_memory: Size,
    /// The deepest nesting of MIME parts.
    pub mime_depth: usize,
    /// The most MIME parts of a message.
    pub mime_parts: usize,
    /// The most failed logins of one account from one network.
    pub login_failures_per_network: LoginFailures,
}

impl Static {
    /// The largest message that a listener takes, in bytes.
    #[must_use]
    pub fn largest_message(&self) -> usize {
        let sizes = self.listeners.values();
        let largest = sizes.map(|listener| listener.max_message_size.0).max();
        usize::try_from(largest.unwrap_or_default()).unwrap_or(usize::MAX)
    }
}

impl Limits {
    /// The limits for reading messages.
    #[must_use]
    pub const fn mime(&self) -> postrider_smtp::mime::Limits {
        postrider_smtp::mime::Limits {
            parts: self.mime_parts,
            depth: self.mime_depth,
        }
    }
}

/// `limits.login_failures_per_network`: of one account from one network (/32 or /64). All accounts
/// together get ten times as many. Wider networks get a multiple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginFailures {
    /// The most failures in a minute.
    pub per_minute: u32,
    /// The most failures in 24 hours.
    pub per_day: u32,
}

/// `smtp_client`: the time limits for replies (RFC 5321 §4.5.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpClient {
    /// The limit for the TCP connection.
    pub connect_timeout: Duration,
    /// The limit for the greeting.
    pub greeting_timeout: Duration,
    /// The limit for the reply to MAIL, EHLO, STARTTLS or AUTH.
    pub mail_timeout: Duration,
    /// The limit for the reply to RCPT.
    pub rcpt_timeout: Duration,
    /// The limit for the reply to DATA.
    pub data_timeout: Duration,
    /// The limit for the reply to the end of the message.
    pub dot_timeout: Duration,
}

/// `delivery`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whether MX hosts at loopback or private addresses are refused.
    pub forbid_private_addresses: bool,
    /// Whether TLSA records of MX hosts count.
    pub dane: bool,
    /// The pool of addresses that connections to MX hosts come from, by name.
    pub source_pool: Option<String>,
    /// The time limit of an attempt, and of each message from its MAIL on. The time of the text at
    /// `min_rate` comes on top.
    pub message_time: Duration,
    /// The bytes per second of a text that a host has to take.
    pub min_rate: u32,
    /// The most connections at once to one address.
    pub connections_per_address: usize,
    /// The most connections that wait long for a greeting.
    pub slow_connections: usize,
    /// What a message with REQUIRETLS needs.
    pub require_tls: RequireTls,
    /// Whether the MTA-STS policies of recipient domains count.
    pub mta_sts: bool,
    /// What becomes of a message when a host says that we are blocked.
    pub on_block: OnBlock,
}

/// `policy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What becomes of mail that fails the DMARC check.
    pub dmarc: DmarcHandling,
    /// The domains whose ARC seals are believed.
    pub arc_trusted_sealers: Vec<Domain>,
    /// The probability above which mail is taken for junk by its words.
    pub junk_threshold: f64,
    /// Whether the first attempt of a doubtful stranger is refused with a temporary error.
    pub greylist: bool,
    /// How long a doubtful stranger waits for the reply.
    pub first_time_sender_delay: Duration,
    /// The domains whose authenticated complaints suppress a recipient.
    pub trusted_reporters: Vec<Domain>,
}

/// `store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The store of the records and texts.
    pub engine: StoreEngine,
    /// The size of a file of the journal.
    pub segment_size: Size,
}
