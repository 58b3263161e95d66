//! The keys of `providers.<name>` in `domains.conf`. The file of `delivery.providers_file` has the
//! same keys, without `providers.` in front.

use postrider_smtp::bounce::Class;

use crate::{
    providers::{ProviderTls, ReplyScope},
    schema::{
        Default::{Absent, Required, Value},
        Key,
        Kind::{Bool, Domain, Duration, Integer, List, Rate, Regexp, Text, Word},
        Section, key,
    },
};

pub(crate) const SECTION: Section = Section {
    title: "`providers.<name>`",
    intro: "How to send mail to one provider. A key replaces the same key of the shipped entry \
            with this name, or of `delivery.providers_file`; another name makes a new entry. The \
            entry `default` is for all other hosts, and for keys that an entry does not have. \
            docs/providers.md explains entries and shows the shipped ones.",
    keys: &[ENTRY, REPLY],
};

static ENTRY: &[Key] = &[
    key(
        "providers.<name>.mx",
        List(&Domain),
        Absent("none"),
        "The entry is for domains whose MX hosts all have one of these names, or are below one of \
            them. The longest name wins. An empty array takes these hosts away from a shipped \
            entry.",
    ),
    key(
        "providers.<name>.domains",
        List(&Domain),
        Absent("none"),
        "The entry is for recipients at these domains, whatever their MX hosts are.",
    ),
    key(
        "providers.<name>.rollup",
        Bool,
        Absent("true"),
        "All hosts that `mx` matches share the limits of this entry. With false, each set of MX \
            hosts has them for itself.",
    ),
    key(
        "providers.<name>.connections",
        Integer,
        Absent("as in the entry default"),
        "The most connections at once.",
    )
    .range("1", "10000"),
    key(
        "providers.<name>.messages_per_connection",
        Integer,
        Absent("as in the entry default"),
        "The most messages on one connection. After them a new connection is made.",
    )
    .range("1", "1000000"),
    key(
        "providers.<name>.recipients_per_transaction",
        Integer,
        Absent("as in the entry default"),
        "The most recipients in one transaction.",
    )
    .range("1", "100000"),
    key(
        "providers.<name>.rate",
        Rate,
        Absent("as in the entry default"),
        "The most messages in a time, such as \"1000/hour\". \"none\" means no limit.",
    ),
    key(
        "providers.<name>.connect_rate",
        Rate,
        Absent("as in the entry default"),
        "The most new connections in a time, such as \"100/minute\". \"none\" means no limit. It \
            holds for hosts of the internet, and not for those of a transport.",
    ),
    key(
        "providers.<name>.tls",
        Word(ProviderTls::WORDS),
        Absent("as in the entry default"),
        "The least TLS of connections; DANE and MTA-STS may demand more. opportunistic: TLS if the \
            host offers it. encrypt: only with TLS, with any certificate. verify: only with a valid \
            certificate for the name of the host. dane: only with a certificate that TLSA records \
            name. none: no TLS at all.",
    ),
    key(
        "providers.<name>.chunking",
        Bool,
        Absent("as in the entry default"),
        "Send messages with BDAT (RFC 3030) to hosts that offer it.",
    ),
    key(
        "providers.<name>.source_pool",
        Text,
        Absent("as in the entry default, then delivery.source_pool"),
        "The pool of addresses that mail to the provider comes from: a name in `pools` of \
            postrider.conf. The pool of a transport or of an account comes before it.",
    ),
    key(
        "providers.<name>.from",
        Text,
        Absent("none"),
        "Where the figures come from, for people.",
    ),
];

static REPLY: &[Key] = &[
    key(
        "providers.<name>.reply[].match",
        Regexp,
        Required,
        "The pattern of a reply, on one line with its codes, such as \"421 4.7.28 slow down\". \
            Capitals do not matter. The first pattern that matches counts. The array replaces \
            that of the shipped entry.",
    ),
    key(
        "providers.<name>.reply[].class",
        Word(Class::NAMES),
        Required,
        "The meaning of the reply. docs/providers.md says what the classes cause.",
    ),
    key(
        "providers.<name>.reply[].scope",
        Word(ReplyScope::WORDS),
        Value("\"source\""),
        "What the reply is about: our address, the sender's domain, or this message only.",
    ),
    key(
        "providers.<name>.reply[].rest",
        Duration,
        Absent("none"),
        "How long nothing is sent to the provider after the reply.",
    )
    .range("\"1s\"", "\"7d\""),
];
