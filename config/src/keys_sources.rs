//! The keys of `sources.<name>` and `pools.<name>` in `postrider.conf`.

use crate::schema::{
    Default::{Absent, Required},
    Key,
    Kind::{Domain, Integer, Ip},
    Section, key,
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
            `delivery.source_pool`, `transports.<name>.direct.source_pool` and \
            `accounts.<name>.source_pool` name a pool.",
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
];

static POOL: &[Key] = &[key(
    "pools.<name>.sources.<source>",
    Integer,
    Absent("not in the pool"),
    "The weight of a source. A source with weight 2 has twice the mail of one with weight 1.",
)
.range("1", "1000")];
