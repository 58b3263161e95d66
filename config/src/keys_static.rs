//! Every key of `postrider.conf`.

use crate::{
    schema::{
        Default::{Absent, Required, Value},
        Key,
        Kind::{
            Bool, Domain, Duration, Host, Integer, Ip, List, Number, Path, Size, SocketAddress,
            Text, Url, Word,
        },
        Section,
    },
    values::{LogFormat, LogLevel, Mechanism, StoreEngine, TlsVersion},
};

const fn key(
    name: &'static str,
    kind: crate::schema::Kind,
    default: crate::schema::Default,
    meaning: &'static str,
) -> Key {
    Key::new(name, kind, default, meaning)
}

pub(crate) static SECTIONS: &[Section] = &[
    Section {
        title: "General",
        intro: "",
        keys: &[GENERAL],
    },
    Section {
        title: "Certificates by ACME: `acme.<name>`",
        intro: "An account at a CA, which a listener's `tls.acme` names.",
        keys: &[ACME],
    },
    Section {
        title: "Queue, webhooks, limits",
        intro: "",
        keys: &[FLOW],
    },
    Section {
        title: "`listeners.<name>`",
        intro: "At least one. A service's table switches it on, unless it says `enabled = false`. Port 0 lets the system choose. \
                HTTP services with the same port share its server.",
        keys: &[
            LISTENER,
            &WEBAPI_HTTP,
            &WEBAPI_HTTPS,
            &ACCOUNT_HTTP,
            &ACCOUNT_HTTPS,
            &ADMIN_HTTP,
            &ADMIN_HTTPS,
            &METRICS_HTTP,
            &AUTOCONFIG_HTTPS,
            &MTA_STS_HTTPS,
        ],
    },
    Section {
        title: "`transports.<name>`",
        intro: "Each has exactly one of these tables. Routes in domains.conf name transports; mail without a route goes straight to its MX hosts.",
        keys: &[&SUBMISSIONS, &SUBMISSION, &SMTP, OTHER_TRANSPORTS],
    },
];

const LEVELS: crate::schema::Kind = Word(LogLevel::WORDS);

static GENERAL: &[Key] = &[
    key(
        "data_dir",
        Path,
        Value("\"../data\""),
        "Records, bodies and the control socket.",
    ),
    key(
        "hostname",
        Domain,
        Required,
        "The name in EHLO, Message-IDs and Received, and of the reporting MTA.",
    ),
    key(
        "user",
        Text,
        Value("\"postrider\""),
        "Switched to after the sockets are bound, when started as root; \"\": stay.",
    ),
    key(
        "log.level",
        LEVELS,
        Value("\"info\""),
        "How much is logged.",
    ),
    key(
        "log.format",
        Word(LogFormat::WORDS),
        Value("\"text\""),
        "For people, or one JSON object a line.",
    ),
    key(
        "log.modules.<module>",
        LEVELS,
        Absent("log.level"),
        "The level of one module, such as \"postrider_queue\".",
    ),
    key(
        "admin_password_file",
        Path,
        Absent("none"),
        "Argon2id hash for the management API and the admin pages; \"postrider setadminpassword\" writes it.",
    ),
    key(
        "postmaster.account",
        Text,
        Required,
        "The account that gets mail to postmaster at the hostname and to the empty <postmaster>.",
    ),
    key(
        "postmaster.mailbox",
        Text,
        Value("\"Postmaster\""),
        "Its mailbox for that.",
    ),
    key(
        "resolver.servers",
        List(&SocketAddress),
        Absent("those of the system"),
        "DNS servers.",
    ),
    key(
        "resolver.dnssec",
        Bool,
        Value("true"),
        "Validate answers (needed for DANE); false: never treat an answer as authentic.",
    ),
    key(
        "resolver.timeout",
        Duration,
        Value("\"5s\""),
        "For one look-up.",
    )
    .range("\"100ms\"", "\"5m\""),
    key(
        "tls.ca_files",
        List(&Path),
        Value("[]"),
        "PEM files of CAs trusted besides the system's, for all outgoing TLS.",
    ),
    key(
        "delivery.forbid_private_addresses",
        Bool,
        Value("false"),
        "Refuse MX hosts at loopback or private addresses.",
    ),
    key(
        "policy.greylist",
        Bool,
        Value("true"),
        "Doubtful strangers must come twice; never loopback.",
    )
    .later(),
    key(
        "policy.first_time_sender_delay",
        Duration,
        Value("\"15s\""),
        "How long doubtful strangers wait; never loopback.",
    )
    .range("\"0s\"", "\"4m\"")
    .later(),
    key(
        "default_mailboxes",
        List(&Text),
        Value("[\"Inbox\", \"Sent\", \"Archive\", \"Trash\", \"Drafts\", \"Junk\"]"),
        "Mailboxes of a new account.",
    ),
    key(
        "store.engine",
        Word(StoreEngine::WORDS),
        Value("\"redb\""),
        "What keeps records and bodies.",
    ),
];

static ACME: &[Key] = &[
    key(
        "acme.<name>.directory_url",
        Url,
        Value("\"https://acme-v02.api.letsencrypt.org/directory\""),
        "The CA's directory.",
    )
    .later(),
    key(
        "acme.<name>.contact_email",
        Text,
        Value("\"\""),
        "Where the CA writes to.",
    )
    .later(),
    key(
        "acme.<name>.renew_before",
        Duration,
        Value("\"30d\""),
        "How long before its end a certificate is renewed.",
    )
    .range("\"1h\"", "\"89d\"")
    .later(),
    key(
        "acme.<name>.ca_file",
        Path,
        Absent("public CAs"),
        "CA of the directory's own certificate.",
    )
    .later(),
    key(
        "acme.<name>.eab.key_id",
        Text,
        Required,
        "External account binding: the key's name.",
    )
    .later(),
    key(
        "acme.<name>.eab.key_file",
        Path,
        Required,
        "External account binding: the key.",
    )
    .later(),
];

static FLOW: &[Key] = &[
    key("queue.retry_intervals", List(&Duration), Value("[\"7m30s\", \"15m\", \"30m\", \"1h\", \"2h\", \"4h\", \"8h\", \"16h\"]"), "Wait after attempt 1, 2, ...; after the last the message fails.").range("\"1ms\"", "\"30d\""),
    key("queue.delay_dsn_after", Duration, Value("\"4h\""), "Since queueing: when a \"delayed\" DSN goes to the sender.").range("\"0s\"", "\"30d\""),
    key("queue.max_concurrency", Integer, Value("500"), "Deliveries in flight.").range("1", "100000"),
    key("queue.per_destination.connections", Integer, Value("10"), "Connections at once to one destination.").range("1", "10000"),
    key("queue.per_destination.messages_per_connection", Integer, Value("100"), "After so many a new connection is made.").range("1", "1000000"),
    key("queue.per_destination.recipients_per_transaction", Integer, Value("100"), "RCPTs in one transaction.").range("1", "100000"),
    key("queue.per_destination.idle", Duration, Value("\"5s\""), "How long a connection without work is kept.").range("\"0s\"", "\"5m\""),
    key("queue.retry_spread", Number, Value("0.1"), "Random share by which a retry may be early or late.").range("0.0", "0.5"),
    key("webhook.retry_intervals", List(&Duration), Value("[\"1m\", \"2m\", \"4m\", \"7m30s\", \"15m\", \"30m\", \"1h\", \"2h\", \"4h\", \"8h\", \"16h\"]"), "Wait after call 1, 2, ...; after the last the call is retired as failed.").range("\"1ms\"", "\"30d\""),
    key("webhook.timeout", Duration, Value("\"30s\""), "For one call.").range("\"100ms\"", "\"10m\""),
    key("webhook.max_concurrency", Integer, Value("100"), "Calls at once.").range("1", "10000"),
    key("webhook.per_receiver_concurrency", Integer, Value("10"), "Calls at once of an account to one receiver (scheme, host and port) that answers; one that has given no answer yet, or none last time, has one. All accounts together have at most half of max_concurrency for a host.").range("1", "10000"),
    key("webhook.proxy", Url, Absent("none; the environment is not looked at"), "An http, https or socks5 proxy for calls."),
    key("webhook.allow_private_addresses", Bool, Value("false"), "Call receivers at loopback or private addresses too."),
    key("limits.connections", Integer, Value("20000"), "Open connections, of SMTP and HTTP together.").range("1", "1000000"),
    key("limits.connections_per_network", Integer, Value("300"), "Of them from one network (/32 or /64); loopback is exempt.").range("1", "1000000"),
    key("limits.messages_per_connection", Integer, Value("10000"), "Transactions in a session.").range("1", "1000000000"),
    key("limits.recipients_per_message", Integer, Value("1000"), "RCPTs in a transaction (RFC 5321 asks for 100 at least).").range("1", "100000"),
    key("limits.errors_per_connection", Integer, Value("20"), "Refused commands before a session is ended.").range("1", "1000000"),
    key("limits.command_timeout", Duration, Value("\"5m\""), "The time for a whole SMTP command, AUTH exchange or TLS handshake.").range("\"1s\"", "\"1h\""),
    key("limits.data_timeout", Duration, Value("\"10m\""), "The time for each read of a message.").range("\"1s\"", "\"1h\""),
    key("limits.message_timeout", Duration, Value("\"30m\""), "The time for a whole message by SMTP.").range("\"1s\"", "\"24h\""),
    key("limits.header_size", Size, Value("\"256KiB\""), "Of a message's header section.").range("\"4KiB\"", "\"64MiB\""),
    key("limits.mime_depth", Integer, Value("50"), "How deep parts within parts of a received message are looked into, for the webapi and webhooks.").range("1", "1000"),
    key("limits.mime_parts", Integer, Value("5000"), "Parts of a received message; of one with more only the header is read.").range("1", "1000000"),
    key("limits.login_failures_per_network.per_minute", Integer, Value("10"), "Failed logins from one network (/32 or /64); wider networks get a multiple.").range("1", "1000000"),
    key("limits.login_failures_per_network.per_day", Integer, Value("50"), "The same for 24 hours.").range("1", "1000000"),
    key("smtp_client.connect_timeout", Duration, Value("\"30s\""), "For the TCP connection to one address.").range("\"100ms\"", "\"1h\""),
    key("smtp_client.greeting_timeout", Duration, Value("\"5m\""), "For the greeting.").range("\"100ms\"", "\"1h\""),
    key("smtp_client.mail_timeout", Duration, Value("\"5m\""), "For the reply to MAIL, EHLO, STARTTLS and AUTH.").range("\"100ms\"", "\"1h\""),
    key("smtp_client.rcpt_timeout", Duration, Value("\"5m\""), "For the reply to RCPT.").range("\"100ms\"", "\"1h\""),
    key("smtp_client.data_timeout", Duration, Value("\"2m\""), "For the reply to DATA.").range("\"100ms\"", "\"1h\""),
    key("smtp_client.dot_timeout", Duration, Value("\"10m\""), "For the reply to the end of the message.").range("\"100ms\"", "\"1h\""),
];

/// The four keys of an HTTP service.
macro_rules! http {
    ($name:literal, $port:literal, $path:literal, $meaning:literal) => {
        [
            key(
                concat!("listeners.<name>.", $name, ".enabled"),
                Bool,
                Absent("true when the table is there"),
                $meaning,
            ),
            key(
                concat!("listeners.<name>.", $name, ".port"),
                Integer,
                Value($port),
                "TCP port.",
            )
            .range("0", "65535"),
            key(
                concat!("listeners.<name>.", $name, ".path"),
                Text,
                Value($path),
                "Where it answers.",
            ),
            key(
                concat!("listeners.<name>.", $name, ".forwarded"),
                Bool,
                Value("false"),
                "Trust X-Forwarded-For: only behind a reverse proxy that sets it.",
            ),
        ]
    };
}

/// Keys whose feature comes later.
const fn all_later<const N: usize>(mut keys: [Key; N]) -> [Key; N] {
    let mut at = 0;
    while at < N {
        #[expect(
            clippy::indexing_slicing,
            reason = "the loop's condition bounds it, at compile time"
        )]
        {
            keys[at] = keys[at].later();
        }
        at += 1;
    }
    keys
}

static WEBAPI_HTTP: [Key; 4] = http!("webapi_http", "80", "\"/webapi/\"", "The application API.");
static WEBAPI_HTTPS: [Key; 4] = http!(
    "webapi_https",
    "443",
    "\"/webapi/\"",
    "The application API over TLS."
);
static ACCOUNT_HTTP: [Key; 4] = all_later(http!(
    "account_http",
    "80",
    "\"/account/\"",
    "The account pages."
));
static ACCOUNT_HTTPS: [Key; 4] = all_later(http!(
    "account_https",
    "443",
    "\"/account/\"",
    "The account pages over TLS."
));
static ADMIN_HTTP: [Key; 4] = all_later(http!(
    "admin_http",
    "80",
    "\"/admin/\"",
    "The admin pages and the management API."
));
static ADMIN_HTTPS: [Key; 4] = all_later(http!(
    "admin_https",
    "443",
    "\"/admin/\"",
    "The admin pages and the management API over TLS."
));
static METRICS_HTTP: [Key; 4] = all_later(http!(
    "metrics_http",
    "8010",
    "\"/metrics\"",
    "Metrics for Prometheus."
));
static AUTOCONFIG_HTTPS: [Key; 4] = all_later(http!(
    "autoconfig_https",
    "443",
    "\"/\"",
    "Client settings, at the paths that mail programs ask for."
));
static MTA_STS_HTTPS: [Key; 4] = all_later(http!(
    "mta_sts_https",
    "443",
    "\"/\"",
    "MTA-STS policies, at the path of RFC 8461."
));

static LISTENER: &[Key] = &[
    key(
        "listeners.<name>.ips",
        List(&Ip),
        Required,
        "Addresses to listen on; \"0.0.0.0\" and \"::\" stand for all.",
    ),
    key(
        "listeners.<name>.nat_ips",
        List(&Ip),
        Value("[]"),
        "The public addresses, where those differ.",
    )
    .later(),
    key(
        "listeners.<name>.hostname",
        Domain,
        Absent("hostname"),
        "The name in greetings; what asks its webapi must call it by this name, an IP address, localhost, or a domain's client_settings_domain.",
    ),
    key(
        "listeners.<name>.tls.acme",
        Text,
        Absent("none"),
        "An account of `acme` that certificates come from.",
    )
    .later(),
    key(
        "listeners.<name>.tls.certs[].cert_file",
        Path,
        Required,
        "Certificate chain in PEM; reloaded when it changes. The first pair is for clients that name no host.",
    ),
    key(
        "listeners.<name>.tls.certs[].key_file",
        Path,
        Required,
        "Its private key in PEM.",
    ),
    key(
        "listeners.<name>.tls.min_version",
        Word(TlsVersion::WORDS),
        Value("\"1.2\""),
        "The oldest TLS version taken.",
    ),
    key(
        "listeners.<name>.tls.client_auth",
        Bool,
        Value("true"),
        "Ask clients for a certificate; never demanded.",
    )
    .later(),
    key(
        "listeners.<name>.max_message_size",
        Size,
        Value("\"100MB\""),
        "The SIZE limit (RFC 1870).",
    )
    .range("\"64KiB\"", "\"2GiB\""),
    key(
        "listeners.<name>.smtp.enabled",
        Bool,
        Absent("true when the table is there"),
        "MX: take mail from other servers.",
    ),
    key(
        "listeners.<name>.smtp.port",
        Integer,
        Value("25"),
        "TCP port.",
    )
    .range("0", "65535"),
    key(
        "listeners.<name>.smtp.starttls",
        Bool,
        Absent("true when `tls` is set"),
        "Offer STARTTLS.",
    ),
    key(
        "listeners.<name>.smtp.require_starttls",
        Bool,
        Value("false"),
        "Refuse MAIL before STARTTLS.",
    ),
    key(
        "listeners.<name>.smtp.dnsbls",
        List(&Domain),
        Value("[]"),
        "Zones in which doubtful clients are looked up.",
    )
    .later(),
    key(
        "listeners.<name>.smtp.require_tls_extension",
        Bool,
        Value("true"),
        "Offer REQUIRETLS (RFC 8689).",
    )
    .later(),
    key(
        "listeners.<name>.submission.enabled",
        Bool,
        Absent("true when the table is there"),
        "Take mail from the own accounts.",
    ),
    key(
        "listeners.<name>.submission.port",
        Integer,
        Value("587"),
        "TCP port.",
    )
    .range("0", "65535"),
    key(
        "listeners.<name>.submission.require_tls",
        Bool,
        Value("true"),
        "Allow a login after STARTTLS only.",
    ),
    key(
        "listeners.<name>.submissions.enabled",
        Bool,
        Absent("true when the table is there"),
        "Take mail from the own accounts, over TLS from the first byte.",
    ),
    key(
        "listeners.<name>.submissions.port",
        Integer,
        Value("465"),
        "TCP port.",
    )
    .range("0", "65535"),
];

/// The keys of a smarthost.
macro_rules! smarthost {
    ($name:literal, $port:literal, $meaning:literal) => {
        [
            key(
                concat!("transports.<name>.", $name, ".host"),
                Host,
                Required,
                $meaning,
            ),
            key(
                concat!("transports.<name>.", $name, ".port"),
                Integer,
                Value($port),
                "TCP port.",
            )
            .range("1", "65535"),
            key(
                concat!("transports.<name>.", $name, ".auth.username"),
                Text,
                Required,
                "The login there.",
            ),
            key(
                concat!("transports.<name>.", $name, ".auth.password"),
                Text,
                Required,
                "Its password.",
            ),
            key(
                concat!("transports.<name>.", $name, ".auth.mechanisms"),
                List(&Word(Mechanism::WORDS)),
                Value("[]"),
                "Which may be used; none: the best that both sides know.",
            ),
            key(
                concat!("transports.<name>.", $name, ".insecure_skip_verify"),
                Bool,
                Value("false"),
                "Take any certificate.",
            ),
            key(
                concat!("transports.<name>.", $name, ".no_starttls"),
                Bool,
                Value("false"),
                "Do not use STARTTLS.",
            ),
        ]
    };
}

static SUBMISSIONS: [Key; 7] = smarthost!(
    "submissions",
    "465",
    "A smarthost, over TLS from the first byte."
);
static SUBMISSION: [Key; 7] = smarthost!(
    "submission",
    "587",
    "A smarthost's submission port, with STARTTLS."
);
static SMTP: [Key; 7] = smarthost!("smtp", "25", "A smarthost's SMTP port, with STARTTLS.");

static OTHER_TRANSPORTS: &[Key] = &[
    key(
        "transports.<name>.lmtp.host",
        Host,
        Absent("none"),
        "An LMTP server; either this or `socket`.",
    ),
    key(
        "transports.<name>.lmtp.port",
        Integer,
        Value("24"),
        "TCP port.",
    )
    .range("1", "65535"),
    key(
        "transports.<name>.lmtp.socket",
        Path,
        Absent("none"),
        "An LMTP server's Unix socket.",
    ),
    key(
        "transports.<name>.socks.address",
        Text,
        Required,
        "A SOCKS5 proxy as \"HOST:PORT\", through which MX hosts are reached.",
    ),
    key(
        "transports.<name>.socks.remote_ips",
        List(&Ip),
        Value("[]"),
        "Addresses from which the proxy connects.",
    ),
    key(
        "transports.<name>.socks.remote_hostname",
        Domain,
        Absent("hostname"),
        "The name in EHLO that goes with those.",
    ),
    key(
        "transports.<name>.direct.disable_ipv4",
        Bool,
        Value("false"),
        "Straight to the MX hosts, never over IPv4.",
    ),
    key(
        "transports.<name>.direct.disable_ipv6",
        Bool,
        Value("false"),
        "Straight to the MX hosts, never over IPv6.",
    ),
    key(
        "transports.<name>.direct.local_ips",
        List(&Ip),
        Value("[]"),
        "Addresses to connect from.",
    ),
    key(
        "transports.<name>.fail.code",
        Integer,
        Value("554"),
        "Fail each message, as if a remote had answered so.",
    )
    .range("400", "599"),
    key(
        "transports.<name>.fail.message",
        Text,
        Value("\"transport fails all messages\""),
        "The text that goes with it.",
    ),
];
