//! The keys `traces` of `postrider.conf`.

use std::time::Duration;

use crate::{
    quantity::Size,
    reader::Reader,
    schema::{
        Default::Value,
        Key,
        Kind::{self, Bool, Number},
        Section, key,
    },
};

pub(crate) const SECTION: Section = Section {
    title: "Traces: `traces`",
    intro: "A trace tells step by step what happened in a session, an attempt, a webhook call or \
        an API call. \"postrider trace\" shows traces.",
    keys: &[KEYS],
};

static KEYS: &[Key] = &[
    key("traces.enabled", Bool, Value("true"), "Keep traces."),
    key(
        "traces.keep",
        Kind::Duration,
        Value("\"7d\""),
        "How long a trace is kept.",
    )
    .range("\"1h\"", "\"3650d\""),
    key(
        "traces.max_size",
        Kind::Size,
        Value("\"1GiB\""),
        "The most room on the disk for traces. The oldest go first. When the disk is nearly full, \
            no traces are written at all.",
    )
    .range("\"1MiB\"", "\"64GiB\""),
    key(
        "traces.sample",
        Number,
        Value("1.0"),
        "The share of ordinary traces that are kept. Traces of something that was refused, \
            deferred or changed, that failed, is junk or took over 10 seconds are always kept.",
    )
    .range("0.0", "1.0"),
];

/// `traces`.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesConfig {
    /// Whether traces are kept.
    pub enabled: bool,
    /// How long a trace is kept.
    pub keep: Duration,
    /// The most bytes on the disk.
    pub max_size: Size,
    /// The share of ordinary traces that are kept, from 0 to 1.
    pub sample: f64,
}

pub(crate) fn read(reader: &Reader<'_>) -> TracesConfig {
    TracesConfig {
        enabled: reader.get("enabled"),
        keep: reader.get("keep"),
        max_size: reader.get("max_size"),
        sample: reader.get("sample"),
    }
}
