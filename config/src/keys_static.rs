//! The keys of `postrider.conf`: the list of sections, and the keys outside of listeners and
//! transports.

use crate::{
    keys_hooks, keys_listeners, keys_oauth, keys_queue, keys_sources, keys_transports, mailboxes,
    otlp,
    schema::{
        Default::{Absent, Required, Value},
        Key,
        Kind::{
            Address, Bool, Domain, Duration, Integer, List, LocalPart, Network, Number, Path, Size,
            SocketAddress, Text, Url, Word,
        },
        Section, key,
    },
    traces,
    values::{
        DmarcHandling, LogFormat, LogLevel, OnBlock, ReportsTls, RequireTls, RequireTotp,
        StoreEngine, TsigAlgorithm,
    },
};

pub(crate) static SECTIONS: &[Section] = &[
    Section {
        title: "General",
        intro: "",
        keys: &[GENERAL],
    },
    Section {
        title: "Certificates by ACME: `acme.<name>`",
        intro: "An account at a CA. A listener names it in `tls.acme`.",
        keys: &[ACME],
    },
    Section {
        title: "Zones that the server writes: `dns_update.\"<zone>\"`",
        intro: "The server of a zone takes the DNS records of our domains in it (RFC 2136). \
            \"postrider dns publish\" writes them, and a new domain has them at once.",
        keys: &[DNS_UPDATE],
    },
    Section {
        title: "Queue, webhooks, limits",
        intro: "",
        keys: &[keys_queue::QUEUE, FLOW],
    },
    Section {
        title: "Pages: `web`",
        intro: "",
        keys: &[WEB],
    },
    traces::SECTION,
    keys_oauth::SECTION,
    otlp::SECTION,
    mailboxes::SECTION,
    keys_listeners::SECTION,
    keys_transports::SECTION,
    keys_sources::SOURCES,
    keys_sources::POOLS,
    keys_hooks::HOOKS,
    keys_hooks::MILTERS,
];

const LEVELS: crate::schema::Kind = Word(LogLevel::WORDS);

static GENERAL: &[Key] = &[
    key(
        "data_dir",
        Path,
        Value("\"../data\""),
        "The folder of the records, the texts and the control socket.",
    ),
    key(
        "hostname",
        Domain,
        Required,
        "The server's name in EHLO, Message-IDs, Received fields and DSNs.",
    ),
    key(
        "user",
        Text,
        Value("\"postrider\""),
        "The system user of a server that root starts. The server switches to it after it \
            has bound its sockets. \"\" means no switch.",
    ),
    key(
        "sandbox",
        Bool,
        Value("true"),
        "Take rights from the running server that it does not need: it writes in its own folders \
            only, runs no programs, and can't call dangerous parts of the kernel. Linux with \
            Landlock and seccomp.",
    ),
    key(
        "log.level",
        LEVELS,
        Value("\"info\""),
        "The least severe level that is logged.",
    ),
    key(
        "log.format",
        Word(LogFormat::WORDS),
        Value("\"text\""),
        "The form of log lines: text for people, or one JSON object per line.",
    ),
    key(
        "log.modules.<module>",
        LEVELS,
        Absent("log.level"),
        "The level of one module, such as \"queue\" or \"smtp::server\". Libraries log from warn on \
            only, whatever their level, except hickory (DNS).",
    ),
    key(
        "metrics.allow",
        List(&Network),
        Value(
            "[\"127.0.0.0/8\", \"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \
                \"169.254.0.0/16\", \"::1\", \"fc00::/7\", \"fe80::/10\"]",
        ),
        "The networks whose clients may read the metrics at /metrics: loopback and private networks, \
            unless this says others.",
    ),
    key(
        "admin_password_file",
        Path,
        Absent("none"),
        "The file with the Argon2id hash of the admin password, for the management API \
            and the admin pages. \"postrider setadminpassword\" writes it.",
    ),
    key(
        "postmaster.account",
        Text,
        Required,
        "The account that gets mail to <postmaster>, and to postmaster and abuse at the hostname and \
            at each domain without such an address.",
    ),
    key(
        "postmaster.mailbox",
        Text,
        Value("\"Postmaster\""),
        "The mailbox of that account for this mail.",
    ),
    key(
        "host_tls_rpt.account",
        Text,
        Required,
        "The account that gets reports about TLS connections to this host.",
    ),
    key(
        "host_tls_rpt.mailbox",
        Text,
        Value("\"TLSRPT\""),
        "The mailbox of that account for the reports.",
    ),
    key(
        "host_tls_rpt.localpart",
        LocalPart,
        Value("\"tlsreports\""),
        "The local-part of the report address. Its domain is the hostname.",
    ),
    key(
        "reports.tls",
        Word(ReportsTls::WORDS),
        Value("\"failures\""),
        "When reports about TLS connections go to the servers that ask for them.",
    ),
    key(
        "reports.dmarc",
        Bool,
        Value("true"),
        "Send aggregate reports to the domains whose DMARC policy asks for them.",
    ),
    key(
        "reports.from",
        Address,
        Absent("postmaster at the domain of the hostname"),
        "The sender of reports.",
    ),
    key(
        "reports.keep",
        Duration,
        Value("\"365d\""),
        "How long reports that came in are kept, and the sums over them.",
    )
    .range("\"1d\"", "\"3650d\""),
    key(
        "reports.max_size",
        Size,
        Value("\"4GiB\""),
        "The bytes that reports that came in, and the sums over them, may have together. With \
            more, the oldest go: first those that are not verified, then the others.",
    )
    .range("\"1MiB\"", "\"1TiB\""),
    key(
        "undelete.keep",
        Duration,
        Value("\"30d\""),
        "How long mail that a user deletes can come back, if the account has no undelete_period. It \
            counts in no quota. With \"0s\" it goes at once.",
    )
    .range("\"0s\"", "\"3650d\""),
    key(
        "undelete.max_size",
        Size,
        Value("\"1GiB\""),
        "The most deleted mail of an account that is kept. With more, the oldest goes. A larger \
            message goes at once.",
    )
    .range("\"1MiB\"", "\"1TiB\""),
    key(
        "resolver.servers",
        List(&SocketAddress),
        Absent("the system's servers"),
        "The DNS servers to ask.",
    ),
    key(
        "resolver.dnssec",
        Bool,
        Value("true"),
        "Validate answers with DNSSEC. DANE needs this. Without it no answer counts as authentic.",
    ),
    key(
        "resolver.trust_anchor_file",
        Path,
        Absent("the keys of the root of the internet"),
        "A file with the keys that DNSSEC validation trusts, and no others: DNSKEY records in the \
            format of a zone file. For labs and networks with a root of their own.",
    ),
    key(
        "resolver.timeout",
        Duration,
        Value("\"5s\""),
        "The time limit of one look-up.",
    )
    .range("\"100ms\"", "\"5m\""),
    key(
        "tls.ca_files",
        List(&Path),
        Value("[]"),
        "PEM files of further CAs that all outgoing TLS connections trust, beside the \
            system's CAs.",
    ),
    key(
        "delivery.forbid_private_addresses",
        Bool,
        Value("false"),
        "Do not deliver to MX hosts at loopback, private, shared or link-local addresses. They count as \
            no addresses.",
    ),
    key(
        "delivery.dane",
        Bool,
        Value("true"),
        "Check the certificates of MX hosts by their TLSA records (RFC 7672), where DNSSEC proves \
            them. It needs resolver.dnssec.",
    ),
    key(
        "delivery.source_pool",
        Text,
        Absent("none"),
        "The pool of addresses that connections to MX hosts come from, where no transport, account \
            or provider names one. Without a pool the system chooses the address.",
    ),
    key(
        "delivery.message_time",
        Duration,
        Value("\"15m\""),
        "The time limit of an attempt, and of each message from its MAIL on. The time of the text \
            at delivery.min_rate comes on top.",
    )
    .range("\"1s\"", "\"1d\""),
    key(
        "delivery.min_rate",
        Integer,
        Value("500"),
        "The bytes per second of a text that a host has to take, in each minute.",
    )
    .range("1", "1000000000"),
    key(
        "delivery.connections_per_address",
        Integer,
        Value("20"),
        "The most connections at once to one address, over all sites.",
    )
    .range("1", "10000"),
    key(
        "delivery.on_block",
        Word(OnBlock::WORDS),
        Value("\"defer\""),
        "What becomes of a message when a host says with a 5xx reply that our address or name is \
            blocked. defer: it is tried again until its attempts or its time end, and its recipient \
            is not suppressed. fail: it fails at once. switch: other sources of its pool take the \
            mail at once; without another one it is as with defer.",
    ),
    key(
        "delivery.slow_connections",
        Integer,
        Value("100"),
        "The most connections that wait for a greeting longer than a minute. They do not count in \
            queue.max_concurrency. Further ones are closed.",
    )
    .range("0", "100000"),
    key(
        "delivery.require_tls",
        Word(RequireTls::WORDS),
        Value("\"enforce\""),
        "What a message with REQUIRETLS (RFC 8689) needs. enforce: a host that TLSA records, an \
            enforced MTA-STS policy or a transport with a checked certificate prove, and that \
            offers REQUIRETLS. verified: such a host, with REQUIRETLS or without; hosts that do \
            not offer it may then send the message on without TLS.",
    ),
    key(
        "delivery.providers_file",
        Path,
        Absent("none"),
        "A file with entries of known providers, which change the shipped ones. It has the keys of \
            `providers.<name>` in domains.conf, without `providers.` in front.",
    ),
    key(
        "delivery.mta_sts",
        Bool,
        Value("true"),
        "Look up the MTA-STS policies of recipient domains (RFC 8461). Mail for a domain whose \
            policy says enforce goes to the hosts of the policy only, over TLS with a valid \
            certificate. Until then it waits.",
    ),
    key(
        "policy.dmarc",
        Word(DmarcHandling::WORDS),
        Value("\"enforce\""),
        "What becomes of incoming mail that fails the DMARC check. enforce: what the owner of the \
            author's domain wants. junk: what the owner wants refused goes to the junk mailbox. \
            report: nothing but an entry in Authentication-Results.",
    ),
    key(
        "policy.arc_trusted_sealers",
        List(&Domain),
        Value("[]"),
        "Domains of servers that pass mail on and are believed: mail that fails the DMARC check is \
            taken if their ARC seals say that it passed before.",
    ),
    key(
        "policy.junk_threshold",
        Number,
        Value("0.95"),
        "The probability above which mail is taken for junk by its words. For mail with a doubt (a \
            client without a matching name or without TLS, or a recipient who is neither in To nor \
            in Cc) it is 0.25 at most.",
    )
    .range("0.01", "0.9999"),
    key(
        "policy.greylist",
        Bool,
        Value("true"),
        "Refuse the first attempt of a doubtful stranger with a temporary error. Loopback \
            is exempt.",
    ),
    key(
        "policy.first_time_sender_delay",
        Duration,
        Value("\"15s\""),
        "How long a stranger waits for the reply to a message that is taken. Loopback is exempt.",
    )
    .range("\"0s\"", "\"4m\""),
    key(
        "policy.trusted_reporters",
        List(&Domain),
        Value("[]"),
        "Domains whose complaints (ARF) suppress a recipient. A complaint counts only if SPF or \
            DKIM stands behind the domain of its From field.",
    ),
    key(
        "default_mailboxes",
        List(&Text),
        Value("[\"Inbox\", \"Sent\", \"Archive\", \"Trash\", \"Drafts\", \"Junk\"]"),
        "The mailboxes of a new account.",
    ),
    key(
        "store.engine",
        Word(StoreEngine::WORDS),
        Value("\"redb\""),
        "The store of the records and texts.",
    ),
    key(
        "store.segment_size",
        Size,
        Value("\"64MiB\""),
        "The size of a file of the journal. Two are made in advance, so small ones suit a server \
            with little mail. No operation can be larger.",
    )
    .range("\"4MiB\"", "\"1GiB\""),
];

static ACME: &[Key] = &[
    key(
        "acme.<name>.directory_url",
        Url,
        Value("\"https://acme-v02.api.letsencrypt.org/directory\""),
        "The URL of the CA's directory.",
    ),
    key(
        "acme.<name>.contact_email",
        Text,
        Value("\"\""),
        "The mail address that the CA writes to.",
    ),
    key(
        "acme.<name>.renew_before",
        Duration,
        Value("\"30d\""),
        "How long before its end a certificate is renewed, but at most half of its time.",
    )
    .range("\"1h\"", "\"89d\""),
    key(
        "acme.<name>.ca_file",
        Path,
        Absent("the public CAs"),
        "PEM file of the CAs that the connection to the directory trusts.",
    ),
    key(
        "acme.<name>.issuer",
        Domain,
        Absent("letsencrypt.org for Let's Encrypt, else none"),
        "The domain that names the CA in CAA records.",
    ),
    key(
        "acme.<name>.eab.key_id",
        Text,
        Required,
        "External account binding: the name of the key.",
    ),
    key(
        "acme.<name>.eab.key_file",
        Path,
        Required,
        "External account binding: the file with the key, base64 as the CA gives it.",
    ),
];

static DNS_UPDATE: &[Key] = &[
    key(
        "dns_update.<zone>.server",
        SocketAddress,
        Required,
        "The primary server of the zone.",
    ),
    key(
        "dns_update.<zone>.key_name",
        Text,
        Required,
        "The name of the TSIG key (RFC 8945), as the server knows it.",
    ),
    key(
        "dns_update.<zone>.key_file",
        Path,
        Required,
        "The file with the secret of the key: base64, or the output of tsig-keygen or keymgr.",
    ),
    key(
        "dns_update.<zone>.algorithm",
        Word(TsigAlgorithm::WORDS),
        Value("\"hmac-sha256\""),
        "The algorithm of the key.",
    ),
];

static WEB: &[Key] = &[key(
    "web.require_totp",
    Word(RequireTotp::WORDS),
    Value("\"none\""),
    "Who must have one-time codes (TOTP) to use the pages: none, admin, or all, which is the \
        administrator and all account holders. Whoever has none yet is led to set them up.",
)];

static FLOW: &[Key] = &[
    key(
        "webhook.retry_intervals",
        List(&Duration),
        Value(
            "[\"1m\", \"2m\", \"4m\", \"7m30s\", \"15m\", \"30m\", \"1h\", \"2h\", \"4h\", \
            \"8h\", \"16h\"]",
        ),
        "The waits after calls 1, 2 and so on. The call after the last wait is the last \
            one; then the event is retired as failed.",
    )
    .range("\"1ms\"", "\"30d\""),
    key(
        "webhook.timeout",
        Duration,
        Value("\"60s\""),
        "The time limit of one call.",
    )
    .range("\"100ms\"", "\"10m\""),
    key(
        "webhook.max_concurrency",
        Integer,
        Value("100"),
        "The most calls at once.",
    )
    .range("1", "10000"),
    key(
        "webhook.per_receiver_concurrency",
        Integer,
        Value("10"),
        "The most calls at once of one account to one receiver (scheme, host and port). A \
            receiver that has not answered yet, or did not answer the last call, gets one \
            call at a time. One host gets at most half of max_concurrency from all accounts \
            together.",
    )
    .range("1", "10000"),
    key(
        "webhook.proxy",
        Url,
        Absent("none; the environment is ignored"),
        "The http, https or socks5 proxy for calls.",
    ),
    key(
        "webhook.allow_private_addresses",
        Bool,
        Value("false"),
        "Allow calls to receivers at loopback or private addresses.",
    ),
    key(
        "limits.connections",
        Integer,
        Value("20000"),
        "The most open connections, SMTP and HTTP together. MX, submission and HTTP each have an \
            eighth for themselves. The limit of open files of the process may lower the number.",
    )
    .range("1", "1000000"),
    key(
        "limits.connections_per_network",
        Integer,
        Value("300"),
        "The most open connections from one network (/32 or /64), for each of MX, submission and \
            HTTP. Wider networks get a multiple: three times for a /26 or /48, nine times for a /21 \
            or /32. Loopback and trusted proxies are exempt. Behind the PROXY protocol the address of \
            the client counts.",
    )
    .range("1", "1000000"),
    key(
        "limits.messages_per_network",
        Integer,
        Value("1000"),
        "The most messages in a minute from one network (/32 or /64) to the MX. Wider networks get \
            a multiple: three times for a /26 or /48, nine times for a /21 or /32. Loopback is \
            exempt.",
    )
    .range("1", "1000000"),
    key(
        "limits.recipients_per_network",
        Integer,
        Value("5000"),
        "The most recipients in a minute from one network (/32 or /64) to the MX, taken or refused. \
            Wider networks get a multiple: three times for a /26 or /48, nine times for a /21 or \
            /32. Loopback is exempt.",
    )
    .range("100", "1000000"),
    key(
        "limits.bytes_per_network",
        Size,
        Value("\"1GiB\""),
        "The most bytes of message texts in a minute from one network (/32 or /64) to the MX, taken \
            or refused. Wider networks get a multiple: three times for a /26 or /48, nine times for \
            a /21 or /32. Loopback is exempt.",
    )
    .range("\"1MiB\"", "\"1TiB\""),
    key(
        "limits.messages_per_connection",
        Integer,
        Value("10000"),
        "The most transactions in a session.",
    )
    .range("1", "1000000000"),
    key(
        "limits.recipients_per_message",
        Integer,
        Value("1000"),
        "The most recipients in a transaction. RFC 5321 demands at least 100.",
    )
    .range("100", "100000"),
    key(
        "limits.errors_per_connection",
        Integer,
        Value("20"),
        "The most refused commands and messages in a session, since the last message that was taken. \
            The next one ends the session.",
    )
    .range("1", "1000000"),
    key(
        "limits.command_timeout",
        Duration,
        Value("\"5m\""),
        "The time limit of a whole SMTP command, AUTH exchange or TLS handshake.",
    )
    .range("\"1s\"", "\"1h\""),
    key(
        "limits.data_timeout",
        Duration,
        Value("\"10m\""),
        "The time limit of each read of a message.",
    )
    .range("\"1s\"", "\"1h\""),
    key(
        "limits.message_timeout",
        Duration,
        Value("\"30m\""),
        "The time limit of a whole message by SMTP.",
    )
    .range("\"1s\"", "\"24h\""),
    key(
        "limits.header_size",
        Size,
        Value("\"256KiB\""),
        "The largest header section of a message.",
    )
    .range("\"4KiB\"", "\"64MiB\""),
    key(
        "limits.text_memory",
        Size,
        Value("\"256MiB\""),
        "The memory for texts that arrive by SMTP, in all sessions together. One network gets at \
            most a quarter. The first 16 KiB of each text do not count. When all is taken, texts \
            go to files early, and large header sections wait a while or get 452.",
    )
    .range("\"1MiB\"", "\"64GiB\""),
    key(
        "limits.mime_depth",
        Integer,
        Value("50"),
        "The deepest level of parts within parts of a received message. A message with more \
            is refused over SMTP.",
    )
    .range("1", "1000"),
    key(
        "limits.mime_parts",
        Integer,
        Value("5000"),
        "The most parts of a received message. A message with more is refused over SMTP. Of one \
            that came otherwise, only the header is read.",
    )
    .range("1", "1000000"),
    key(
        "limits.login_failures_per_network.per_minute",
        Integer,
        Value("10"),
        "The most failed logins per minute of one account from one network (/32 or /64). All \
            accounts together get ten times as many. Wider networks get a multiple: three times \
            for a /26 or /48, nine times for a /21 or /32.",
    )
    .range("1", "1000000"),
    key(
        "limits.login_failures_per_network.per_day",
        Integer,
        Value("50"),
        "The most failed logins in 24 hours, counted likewise.",
    )
    .range("1", "1000000"),
    key(
        "smtp_client.connect_timeout",
        Duration,
        Value("\"30s\""),
        "The time limit for the TCP connection to one address.",
    )
    .range("\"100ms\"", "\"1h\""),
    key(
        "smtp_client.greeting_timeout",
        Duration,
        Value("\"5m\""),
        "The time limit for the greeting.",
    )
    .range("\"100ms\"", "\"1h\""),
    key(
        "smtp_client.mail_timeout",
        Duration,
        Value("\"5m\""),
        "The time limit for the reply to MAIL, EHLO, STARTTLS or AUTH.",
    )
    .range("\"100ms\"", "\"1h\""),
    key(
        "smtp_client.rcpt_timeout",
        Duration,
        Value("\"5m\""),
        "The time limit for the reply to RCPT.",
    )
    .range("\"100ms\"", "\"1h\""),
    key(
        "smtp_client.data_timeout",
        Duration,
        Value("\"2m\""),
        "The time limit for the reply to DATA.",
    )
    .range("\"100ms\"", "\"1h\""),
    key(
        "smtp_client.dot_timeout",
        Duration,
        Value("\"10m\""),
        "The time limit for the reply to the end of the message.",
    )
    .range("\"100ms\"", "\"1h\""),
];
