//! The types of `postrider.conf`: what takes effect at start.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use postrider_smtp::{Domain, Host};

use crate::{
    quantity::Size,
    values::{LogFormat, LogLevel, Mechanism, StoreEngine, TlsVersion},
};

/// `postrider.conf`. Fields have the names of its keys; paths are resolved against the file's folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Static {
    /// The file it was read from.
    pub path: PathBuf,
    /// Records, bodies, the control socket.
    pub data_dir: PathBuf,
    /// EHLO name, Message-IDs, Received, the reporting MTA.
    pub hostname: Domain,
    /// Switched to after the sockets are bound, when started as root; empty: stay.
    pub user: String,
    /// Logging.
    pub log: Log,
    /// Holds the hash of the administrator's password.
    pub admin_password_file: Option<PathBuf>,
    /// Who reads mail to postmaster@hostname and to the empty `<postmaster>`.
    pub postmaster: Postmaster,
    /// DNS.
    pub resolver: ResolverConfig,
    /// Outgoing TLS.
    pub tls: OutgoingTls,
    /// ACME accounts by name.
    pub acme: BTreeMap<String, Acme>,
    /// Listeners by name, at least one.
    pub listeners: BTreeMap<String, Listener>,
    /// Transports by name, for routes.
    pub transports: BTreeMap<String, Transport>,
    /// The queue.
    pub queue: QueueConfig,
    /// Calls of webhooks.
    pub webhook: WebhookConfig,
    /// Limits for what comes in.
    pub limits: Limits,
    /// Time-outs for what goes out.
    pub smtp_client: SmtpClient,
    /// Delivery to MX hosts.
    pub delivery: Delivery,
    /// Treatment of strangers.
    pub policy: Policy,
    /// Mailboxes of a new account.
    pub default_mailboxes: Vec<String>,
    /// The store.
    pub store: StoreConfig,
    pub(crate) notes: Notes,
}

/// What reading the file told besides values; it makes no two configurations different.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Where `postmaster.account` stands, for an error that only `domains.conf` brings to light.
    pub(crate) postmaster_at: (usize, usize),
    pub(crate) not_yet: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl PartialEq for Notes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Static {
    /// `domains.conf`, which is in the same folder.
    #[must_use]
    pub fn domains_file(&self) -> PathBuf {
        self.path
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join("domains.conf")
    }

    /// Full keys that are set although this version does nothing with them yet.
    #[must_use]
    pub fn not_yet(&self) -> Vec<String> {
        self.notes.not_yet.clone()
    }

    /// What is valid but probably not meant, each a sentence with its place.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.notes.warnings
    }
}

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// For all that `modules` does not name.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
    /// Levels of single modules.
    pub modules: BTreeMap<String, LogLevel>,
}

/// `postmaster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmaster {
    /// An account of `domains.conf`.
    pub account: String,
    /// Its mailbox.
    pub mailbox: String,
}

/// `resolver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// DNS servers; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Whether answers are validated.
    pub dnssec: bool,
    /// For one look-up.
    pub timeout: Duration,
}

/// `tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingTls {
    /// PEM files of CAs that are trusted besides the system's.
    pub ca_files: Vec<PathBuf>,
}

/// `acme.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The directory of the CA.
    pub directory_url: String,
    /// Where the CA writes to.
    pub contact_email: String,
    /// How long before its end a certificate is renewed.
    pub renew_before: Duration,
    /// The CA that the directory's own certificate is from, when it is not a public one.
    pub ca_file: Option<PathBuf>,
    /// External account binding.
    pub eab: Option<Eab>,
}

/// `acme.NAME.eab` (RFC 8555 §7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eab {
    /// Given by the CA.
    pub key_id: String,
    /// Holds the key.
    pub key_file: PathBuf,
}

/// `listeners.NAME`: addresses, and the services on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Addresses to listen on, at least one.
    pub ips: Vec<IpAddr>,
    /// The public addresses, where those differ.
    pub nat_ips: Vec<IpAddr>,
    /// The name in greetings; the global one when not set.
    pub hostname: Domain,
    /// Certificates; none: no TLS here.
    pub tls: Option<ListenerTls>,
    /// The SIZE limit.
    pub max_message_size: Size,
    /// MX.
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
    /// The admin pages and the management API.
    pub admin_http: HttpService,
    /// The admin pages and the management API over TLS.
    pub admin_https: HttpService,
    /// Prometheus.
    pub metrics_http: HttpService,
    /// Client settings.
    pub autoconfig_https: HttpService,
    /// MTA-STS policies (RFC 8461 §3.3).
    pub mta_sts_https: HttpService,
}

impl Listener {
    /// All HTTP services by the name of their key, enabled or not.
    #[must_use]
    pub fn http_services(&self) -> [(&'static str, &HttpService); 9] {
        [
            ("webapi_http", &self.webapi_http),
            ("webapi_https", &self.webapi_https),
            ("account_http", &self.account_http),
            ("account_https", &self.account_https),
            ("admin_http", &self.admin_http),
            ("admin_https", &self.admin_https),
            ("metrics_http", &self.metrics_http),
            ("autoconfig_https", &self.autoconfig_https),
            ("mta_sts_https", &self.mta_sts_https),
        ]
    }
}

/// `listeners.NAME.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Where certificates come from.
    pub source: CertificateSource,
    /// The oldest version taken.
    pub min_version: TlsVersion,
    /// Whether client certificates are asked for (never demanded).
    pub client_auth: bool,
}

/// Exactly one of `tls.acme` and `tls.certs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// An account of `acme`.
    Acme(String),
    /// Files, at least one pair; reloaded when they change.
    Files(Vec<CertificateFiles>),
}

/// One of `listeners.NAME.tls.certs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM, the leaf first.
    pub cert_file: PathBuf,
    /// PEM.
    pub key_file: PathBuf,
}

/// `listeners.NAME.smtp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpService {
    /// Whether it runs.
    pub enabled: bool,
    /// TCP port; 0: chosen by the system.
    pub port: u16,
    /// Whether STARTTLS is offered.
    pub starttls: bool,
    /// Whether MAIL is refused before STARTTLS.
    pub require_starttls: bool,
    /// Zones in which clients are looked up.
    pub dnsbls: Vec<Domain>,
    /// Whether REQUIRETLS (RFC 8689) is offered.
    pub require_tls_extension: bool,
}

/// `listeners.NAME.submission`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionService {
    /// Whether it runs.
    pub enabled: bool,
    /// TCP port; 0: chosen by the system.
    pub port: u16,
    /// Whether a login needs STARTTLS first.
    pub require_tls: bool,
}

/// `listeners.NAME.submissions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionsService {
    /// Whether it runs.
    pub enabled: bool,
    /// TCP port; 0: chosen by the system.
    pub port: u16,
}

/// An HTTP service of a listener; those with the same port share a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpService {
    /// Whether it runs.
    pub enabled: bool,
    /// TCP port; 0: chosen by the system.
    pub port: u16,
    /// Under which it answers, with a slash at both ends where it is a folder.
    pub path: String,
    /// Whether X-Forwarded-For is trusted.
    pub forwarded: bool,
}

/// `transports.NAME`: a way for outgoing mail, other than straight to the MX hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A smarthost over TLS from the first byte.
    Submissions(Smarthost),
    /// A smarthost's submission port, STARTTLS demanded unless `no_starttls`.
    Submission(Smarthost),
    /// A smarthost's SMTP port, STARTTLS demanded unless `no_starttls`.
    Smtp(Smarthost),
    /// LMTP (RFC 2033).
    Lmtp(Lmtp),
    /// MX hosts, through a SOCKS5 proxy.
    Socks(Socks),
    /// MX hosts, with settings.
    Direct(Direct),
    /// Refuse.
    Fail(Fail),
}

impl Transport {
    /// The word for its kind in the configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Submissions(_) => "submissions",
            Self::Submission(_) => "submission",
            Self::Smtp(_) => "smtp",
            Self::Lmtp(_) => "lmtp",
            Self::Socks(_) => "socks",
            Self::Direct(_) => "direct",
            Self::Fail(_) => "fail",
        }
    }
}

/// A host that takes all mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smarthost {
    /// A name, whose addresses are used (not its MX), or an address.
    pub host: Host,
    /// TCP port.
    pub port: u16,
    /// The login there.
    pub auth: Option<TransportAuth>,
    /// Whether the certificate need not be valid.
    pub insecure_skip_verify: bool,
    /// Whether STARTTLS is left out.
    pub no_starttls: bool,
}

/// A login at a smarthost. Its `Debug` form hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct TransportAuth {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
    /// Which may be used; empty: the best that both know.
    pub mechanisms: Vec<Mechanism>,
}

impl fmt::Debug for TransportAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportAuth")
            .field("username", &self.username)
            .field("mechanisms", &self.mechanisms)
            .finish_non_exhaustive()
    }
}

/// Where an LMTP server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lmtp {
    /// Over TCP.
    Tcp {
        /// A name or an address.
        host: Host,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket.
    Socket(PathBuf),
}

/// A SOCKS5 proxy (RFC 1928).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socks {
    /// The proxy's name or address.
    pub host: Host,
    /// The proxy's TCP port.
    pub port: u16,
    /// Addresses from which it connects, for SPF.
    pub remote_ips: Vec<IpAddr>,
    /// The name for EHLO that goes with them.
    pub remote_hostname: Domain,
}

/// Delivery to MX hosts in another way than usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direct {
    /// Never connect over IPv4.
    pub disable_ipv4: bool,
    /// Never connect over IPv6.
    pub disable_ipv6: bool,
    /// Addresses to connect from.
    pub local_ips: Vec<IpAddr>,
}

/// A transport that fails each message, as if a remote had answered so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// 400 to 599.
    pub code: u16,
    /// The text.
    pub message: String,
}

/// `queue`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// Wait after attempt 1, 2, ...; after the last the message fails.
    pub retry_intervals: Vec<Duration>,
    /// Since queueing: when the sender hears of a delay.
    pub delay_dsn_after: Duration,
    /// Deliveries in flight.
    pub max_concurrency: usize,
    /// Limits for each destination.
    pub per_destination: PerDestination,
    /// Random share by which a retry may be early or late, 0 to 0.5.
    pub retry_spread: f64,
}

/// `queue.per_destination`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerDestination {
    /// At once.
    pub connections: usize,
    /// Then a new connection is made.
    pub messages_per_connection: usize,
    /// RCPTs in a transaction.
    pub recipients_per_transaction: usize,
    /// How long a connection without work is kept.
    pub idle: Duration,
}

/// `webhook`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Wait after call 1, 2, ...; after the last the call is retired as failed.
    pub retry_intervals: Vec<Duration>,
    /// For one call.
    pub timeout: Duration,
    /// Calls at once.
    pub max_concurrency: usize,
    /// Calls at once of an account to one receiver.
    pub per_receiver_concurrency: usize,
    /// An HTTP or SOCKS5 proxy's URL.
    pub proxy: Option<String>,
    /// Whether a receiver may be at a loopback or private address.
    pub allow_private_addresses: bool,
}

/// `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections, of SMTP and HTTP together.
    pub connections: usize,
    /// Of one network (/32 or /64); loopback is exempt.
    pub connections_per_network: usize,
    /// Transactions in a session.
    pub messages_per_connection: usize,
    /// RCPTs in a transaction.
    pub recipients_per_message: usize,
    /// Refused commands in a session.
    pub errors_per_connection: usize,
    /// The time for a whole SMTP command, AUTH exchange or TLS handshake.
    pub command_timeout: Duration,
    /// The time for each read of a message.
    pub data_timeout: Duration,
    /// The time for a whole message by SMTP.
    pub message_timeout: Duration,
    /// Of a message's header section.
    pub header_size: Size,
    /// Nesting of parts.
    pub mime_depth: usize,
    /// Parts in all.
    pub mime_parts: usize,
    /// Failed logins.
    pub login_failures_per_network: LoginFailures,
}

impl Limits {
    /// Those for reading messages.
    #[must_use]
    pub const fn mime(&self) -> postrider_smtp::mime::Limits {
        postrider_smtp::mime::Limits {
            parts: self.mime_parts,
            depth: self.mime_depth,
        }
    }
}

/// `limits.login_failures_per_network`, per /32 or /64; wider networks get a multiple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginFailures {
    /// In a minute.
    pub per_minute: u32,
    /// In 24 hours.
    pub per_day: u32,
}

/// `smtp_client`: how long to wait for each reply (RFC 5321 §4.5.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpClient {
    /// For the TCP connection.
    pub connect_timeout: Duration,
    /// For the 220.
    pub greeting_timeout: Duration,
    /// For the reply to MAIL, and to EHLO, STARTTLS, AUTH.
    pub mail_timeout: Duration,
    /// For the reply to RCPT.
    pub rcpt_timeout: Duration,
    /// For the 354.
    pub data_timeout: Duration,
    /// For the reply to the end of the message.
    pub dot_timeout: Duration,
}

/// `delivery`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whether MX hosts at loopback or private addresses are refused.
    pub forbid_private_addresses: bool,
}

/// `policy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether doubtful strangers must come twice.
    pub greylist: bool,
    /// How long a first-time sender waits for the reply.
    pub first_time_sender_delay: Duration,
}

/// `store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where records and bodies are kept.
    pub engine: StoreEngine,
}
