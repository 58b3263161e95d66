//! The keys of `transports.<name>` in `postrider.conf`.

use crate::{
    schema::{
        Default::{Absent, Required, Value},
        Key,
        Kind::{Bool, Domain, Host, Integer, Ip, List, Path, Text, Word},
        Section, key,
    },
    values::Mechanism,
};

pub(crate) const SECTION: Section = Section {
    title: "`transports.<name>`",
    intro: "A transport has exactly one of these tables. Routes in domains.conf name \
            transports. Mail without a route goes directly to its MX hosts.",
    keys: &[&SUBMISSIONS, &SUBMISSION, &SMTP, OTHER_TRANSPORTS],
};

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
                "The TCP port.",
            )
            .range("1", "65535"),
            key(
                concat!("transports.<name>.", $name, ".auth.username"),
                Text,
                Required,
                "The login name at the smarthost.",
            ),
            key(
                concat!("transports.<name>.", $name, ".auth.password"),
                Text,
                Absent("none"),
                "The password at the smarthost. Set either this or `token_file`.",
            )
            .secret(),
            key(
                concat!("transports.<name>.", $name, ".auth.token_file"),
                Path,
                Absent("none"),
                "The file with an OAuth 2.0 access token, as its first line. It is read for each \
                 login, so another program can renew the token. Other users may have no access to \
                 it.",
            ),
            key(
                concat!("transports.<name>.", $name, ".auth.mechanisms"),
                List(&Word(Mechanism::WORDS)),
                Value("[]"),
                "The mechanisms that may be used. An empty array means the best that both sides know.",
            ),
            key(
                concat!("transports.<name>.", $name, ".insecure_skip_verify"),
                Bool,
                Value("false"),
                "Accept any certificate.",
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

static SUBMISSIONS: [Key; 8] = smarthost!(
    "submissions",
    "465",
    "The smarthost, reached over TLS from the first byte."
);
static SUBMISSION: [Key; 8] = smarthost!(
    "submission",
    "587",
    "The smarthost, reached at its submission port with STARTTLS."
);
static SMTP: [Key; 8] = smarthost!(
    "smtp",
    "25",
    "The smarthost, reached at its SMTP port with STARTTLS."
);

static OTHER_TRANSPORTS: &[Key] = &[
    key(
        "transports.<name>.lmtp.host",
        Host,
        Absent("none"),
        "The host of an LMTP server. Set either this or `socket`.",
    ),
    key(
        "transports.<name>.lmtp.port",
        Integer,
        Value("24"),
        "The TCP port.",
    )
    .range("1", "65535"),
    key(
        "transports.<name>.lmtp.socket",
        Path,
        Absent("none"),
        "The Unix socket of an LMTP server.",
    ),
    key(
        "transports.<name>.socks.address",
        Text,
        Required,
        "A SOCKS5 proxy as \"HOST:PORT\". MX hosts are reached through it.",
    ),
    key(
        "transports.<name>.socks.remote_ips",
        List(&Ip),
        Value("[]"),
        "The IP addresses from which the proxy connects.",
    ),
    key(
        "transports.<name>.socks.remote_hostname",
        Domain,
        Absent("hostname"),
        "The name in EHLO for connections through the proxy.",
    ),
    key(
        "transports.<name>.direct.disable_ipv4",
        Bool,
        Value("false"),
        "Deliver directly to the MX hosts, but never over IPv4.",
    ),
    key(
        "transports.<name>.direct.disable_ipv6",
        Bool,
        Value("false"),
        "Deliver directly to the MX hosts, but never over IPv6.",
    ),
    key(
        "transports.<name>.direct.local_ips",
        List(&Ip),
        Value("[]"),
        "The IP addresses to connect from. They are a pool in which all have the same weight, and \
         the name in EHLO is hostname.",
    ),
    key(
        "transports.<name>.direct.source_pool",
        Text,
        Absent("that of the account, then the provider, then delivery"),
        "The pool of addresses to connect from.",
    ),
    key(
        "transports.<name>.fail.code",
        Integer,
        Value("554"),
        "The reply code with which each message fails, as if a remote host had sent it.",
    )
    .range("400", "599"),
    key(
        "transports.<name>.fail.message",
        Text,
        Value("\"transport fails all messages\""),
        "The text of the reply.",
    ),
];
