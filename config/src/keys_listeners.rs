//! The keys of `listeners.<name>` in `postrider.conf`.

use crate::{
    schema::{
        Default::{Absent, Required, Value},
        Key,
        Kind::{Bool, Domain, Integer, Ip, List, Network, Path, Size, Text, Word},
        Section, key,
    },
    values::TlsVersion,
};

pub(crate) const SECTION: Section = Section {
    title: "`listeners.<name>`",
    intro: "At least one listener is required. The table of a service switches the service on, unless it has `enabled = false`. \
            With port 0 the system chooses the port. HTTP services with the same port share one server.",
    keys: &[
        LISTENER,
        &WEBAPI_HTTP,
        &WEBAPI_HTTPS,
        &ACCOUNT_HTTP,
        &ACCOUNT_HTTPS,
        &ADMIN_HTTP,
        &ADMIN_HTTPS,
        &MAIL_API_HTTP,
        &MAIL_API_HTTPS,
        &METRICS_HTTP,
        &AUTOCONFIG_HTTPS,
        &MTA_STS_HTTPS,
    ],
};

/// The keys of an HTTP service.
macro_rules! http {
    ($name:literal, $port:literal, $path:literal, $meaning:literal) => {
        [
            key(
                concat!("listeners.<name>.", $name, ".enabled"),
                Bool,
                Absent("true if the table exists"),
                $meaning,
            ),
            key(
                concat!("listeners.<name>.", $name, ".port"),
                Integer,
                Value($port),
                "The TCP port.",
            )
            .range("0", "65535"),
            key(
                concat!("listeners.<name>.", $name, ".path"),
                Text,
                Value($path),
                "The path of the service.",
            ),
            key(
                concat!("listeners.<name>.", $name, ".forwarded"),
                Bool,
                Value("false"),
                "Trust X-Forwarded-For. Use it only behind a reverse proxy that sets this field.",
            ),
            key(
                concat!("listeners.<name>.", $name, ".forwarded_hops"),
                Integer,
                Absent("1 if forwarded is true"),
                "The number of trusted proxies, each of which adds an address to \
                    X-Forwarded-For. The address of the client is this far from the right.",
            )
            .range("1", "20"),
        ]
    };
}

static WEBAPI_HTTP: [Key; 5] = http!("webapi_http", "80", "\"/webapi/\"", "The application API.");
static WEBAPI_HTTPS: [Key; 5] = http!(
    "webapi_https",
    "443",
    "\"/webapi/\"",
    "The application API over TLS."
);
static ACCOUNT_HTTP: [Key; 5] = http!(
    "account_http",
    "80",
    "\"/account/\"",
    "The web pages for holders of accounts."
);
static ACCOUNT_HTTPS: [Key; 5] = http!(
    "account_https",
    "443",
    "\"/account/\"",
    "The web pages for holders of accounts, over TLS."
);
static ADMIN_HTTP: [Key; 5] = http!(
    "admin_http",
    "80",
    "\"/admin/\"",
    "The management API and the admin pages."
);
static ADMIN_HTTPS: [Key; 5] = http!(
    "admin_https",
    "443",
    "\"/admin/\"",
    "The management API and the admin pages, over TLS."
);
static MAIL_API_HTTP: [Key; 5] = http!(
    "mail_api_http",
    "80",
    "\"/api/v1/\"",
    "The mailbox API, for back ends that give people mailboxes."
);
static MAIL_API_HTTPS: [Key; 5] = http!(
    "mail_api_https",
    "443",
    "\"/api/v1/\"",
    "The mailbox API over TLS."
);
static METRICS_HTTP: [Key; 5] = http!(
    "metrics_http",
    "8010",
    "\"/metrics\"",
    "The metrics for Prometheus. The ports of the management API have them too, at /metrics."
);
static AUTOCONFIG_HTTPS: [Key; 5] = http!(
    "autoconfig_https",
    "443",
    "\"/\"",
    "The settings for mail programs, at the paths that those ask for."
);
static MTA_STS_HTTPS: [Key; 5] = http!(
    "mta_sts_https",
    "443",
    "\"/\"",
    "The MTA-STS policies, at the path of RFC 8461."
);

static LISTENER: &[Key] = &[
    key(
        "listeners.<name>.ips",
        List(&Ip),
        Required,
        "The IP addresses to listen on. \"0.0.0.0\" and \"::\" mean all addresses.",
    ),
    key(
        "listeners.<name>.nat_ips",
        List(&Ip),
        Value("[]"),
        "The public IP addresses, if they differ from `ips`.",
    ),
    key(
        "listeners.<name>.proxy_from",
        List(&Network),
        Value("[]"),
        "The proxies in front of the listener. Each of them begins a connection with the PROXY \
            protocol, version 1 or 2, which tells the address of the client. All other peers are closed. \
            It holds for all ports of the listener.",
    ),
    key(
        "listeners.<name>.xclient_from",
        List(&Network),
        Value("[]"),
        "The peers that may tell with XCLIENT for which client they speak, over SMTP.",
    ),
    key(
        "listeners.<name>.hostname",
        Domain,
        Absent("hostname"),
        "The name in greetings. A request to the webapi must use this name, an IP \
            address, localhost, or a domain's client_settings_domain as host.",
    ),
    key(
        "listeners.<name>.tls.acme",
        Text,
        Absent("none"),
        "The account of `acme` that gets the certificates. The CA connects to port 443 or 80 of each \
            name, so a listener needs an HTTPS or an HTTP service.",
    ),
    key(
        "listeners.<name>.tls.certs[].cert_file",
        Path,
        Required,
        "The certificate chain in PEM. It is reloaded when it changes. A client that \
            names no host gets the first pair.",
    ),
    key(
        "listeners.<name>.tls.certs[].key_file",
        Path,
        Required,
        "The private key of the certificate, in PEM.",
    ),
    key(
        "listeners.<name>.tls.min_version",
        Word(TlsVersion::WORDS),
        Value("\"1.2\""),
        "The oldest TLS version that is accepted.",
    ),
    key(
        "listeners.<name>.tls.client_auth",
        Bool,
        Value("true"),
        "Ask the clients of submission for a certificate. It is never required. A client logs in with \
            it if an account has its key (postrider tlspubkey).",
    ),
    key(
        "listeners.<name>.tls.host_keys",
        List(&Path),
        Value("[]"),
        "The private keys, in PEM, that the certificates of the hostname have. TLSA records (DANE) \
            name these keys, so they must stay the same when a certificate is renewed.",
    ),
    key(
        "listeners.<name>.max_message_size",
        Size,
        Value("\"100MiB\""),
        "The largest message (SIZE, RFC 1870).",
    )
    .range("\"64KiB\"", "\"2GiB\""),
    key(
        "listeners.<name>.smtp.enabled",
        Bool,
        Absent("true if the table exists"),
        "The MX service: receive mail from other servers.",
    ),
    key(
        "listeners.<name>.smtp.port",
        Integer,
        Value("25"),
        "The TCP port.",
    )
    .range("0", "65535"),
    key(
        "listeners.<name>.smtp.starttls",
        Bool,
        Absent("true if `tls` is set"),
        "Offer STARTTLS.",
    ),
    key(
        "listeners.<name>.smtp.require_starttls",
        Bool,
        Value("false"),
        "Take mail over TLS only. Reports about TLS (`host_tls_rpt`, `tls_rpt`) are taken without.",
    ),
    key(
        "listeners.<name>.smtp.dnsbls",
        List(&Domain),
        Value("[]"),
        "The DNSBL zones in which doubtful clients are looked up.",
    ),
    key(
        "listeners.<name>.smtp.require_tls_extension",
        Bool,
        Value("true"),
        "Offer REQUIRETLS (RFC 8689) under TLS. What is forwarded keeps the demand.",
    ),
    key(
        "listeners.<name>.smtp.tls_tickets",
        Bool,
        Value("false"),
        "Send TLS session tickets. Some mail servers hang up on servers that do. The other services \
            always send them.",
    ),
    key(
        "listeners.<name>.submission.enabled",
        Bool,
        Absent("true if the table exists"),
        "The submission service: receive mail from our own accounts.",
    ),
    key(
        "listeners.<name>.submission.port",
        Integer,
        Value("587"),
        "The TCP port.",
    )
    .range("0", "65535"),
    key(
        "listeners.<name>.submission.require_tls",
        Bool,
        Value("true"),
        "Allow a login only after STARTTLS.",
    ),
    key(
        "listeners.<name>.submissions.enabled",
        Bool,
        Absent("true if the table exists"),
        "The submission service over TLS from the first byte.",
    ),
    key(
        "listeners.<name>.submissions.port",
        Integer,
        Value("465"),
        "The TCP port.",
    )
    .range("0", "65535"),
    key(
        "listeners.<name>.submissions.on_https",
        Bool,
        Value("false"),
        "Also serve submission on the HTTPS ports of the listener, for clients that ask for `smtp` by \
            ALPN. It works with `enabled = false` too.",
    ),
];
