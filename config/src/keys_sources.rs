//! The keys of `sources.<name>` and `pools.<name>` in `postrider.conf`.

use crate::{
    schema::{
        Default::{Absent, Required},
        Key,
        Kind::{Date, Domain, Integer, Ip, Rate, Word},
        Section, key,
    },
    values::OnBlock,
};

pub(crate) const SOURCES: Section = Section {
    title: "Addresses for outgoing mail: `sources.<name>`",
    intro: "An address of this machine that connections to MX hosts come from, with the name that \
            its reverse record has. A pool names it.",
    keys: &[SOURCE],
};

pub(crate) const POOLS: Section = Section {
    title: "Pools of addresses: `pools.<name>`",
    intro: "The addresses among which the mail of an account is spread. All mail of an account to \
            the same hosts comes from the same address, as long as that can be used. \
            `transports.<name>.direct.source_pool`, `accounts.<name>.source_pool`, \
            `providers.<name>.source_pool` and `delivery.source_pool` name a pool. The first of \
            them that is set counts.",
    keys: &[POOL],
};

static SOURCE: &[Key] = &[
    key(
        "sources.<name>.ip",
        Ip,
        Required,
        "The address. The machine needs to have it.",
    ),
    key(
        "sources.<name>.ehlo",
        Domain,
        Absent("hostname"),
        "The name in EHLO for connections from this address.",
    ),
    key(
        "sources.<name>.rate",
        Rate,
        Absent("none"),
        "The most messages from this address to one site in a time, such as \"1000/hour\". More \
            messages wait. The rate of the provider holds too.",
    ),
    key(
        "sources.<name>.warm_up",
        Date,
        Absent("none"),
        "The day (UTC) from which on mail comes from this address, which is new to other servers: \
            100 messages to each site on that day, then half as many again each day, for 30 days. \
            After a day with a block the number does not grow. Other sources of the pool take the \
            rest, or it waits for the next day.",
    ),
];

static POOL: &[Key] = &[
    key(
        "pools.<name>.sources.<source>",
        Integer,
        Absent("not in the pool"),
        "The weight of a source. A source with weight 2 has twice the mail of one with weight 1.",
    )
    .range("1", "1000"),
    key(
        "pools.<name>.on_block",
        Word(OnBlock::WORDS),
        Absent("delivery.on_block"),
        "What becomes of a message when a host says with a 5xx reply that its source is blocked.",
    ),
];
