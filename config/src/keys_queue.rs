//! The keys of `postrider.conf` about the queue.

use crate::{
    schema::{
        Default::Value,
        Key,
        Kind::{Duration, Integer, List, Number, Word},
        key,
    },
    values::KeepTranscripts,
};

pub(crate) static QUEUE: &[Key] = &[
    key(
        "queue.retry_intervals",
        List(&Duration),
        Value("[\"7m30s\", \"15m\", \"30m\", \"1h\", \"2h\", \"4h\", \"8h\", \"16h\"]"),
        "The waits after attempts 1, 2 and so on. The attempt after the last wait is the \
            last one.",
    )
    .range("\"1ms\"", "\"30d\""),
    key(
        "queue.delay_dsn_after",
        Duration,
        Value("\"4h\""),
        "The age of a message at which its sender gets a \"delayed\" DSN.",
    )
    .range("\"0s\"", "\"30d\""),
    key(
        "queue.max_concurrency",
        Integer,
        Value("500"),
        "The most deliveries at once.",
    )
    .range("1", "100000"),
    key(
        "queue.per_destination.connections",
        Integer,
        Value("10"),
        "The most connections at once to one site: a set of MX hosts, an address or a smarthost. \
            Known providers have figures of their own (providers in domains.conf).",
    )
    .range("1", "10000"),
    key(
        "queue.per_destination.messages_per_connection",
        Integer,
        Value("100"),
        "The most messages on one connection. After them a new connection is made.",
    )
    .range("1", "1000000"),
    key(
        "queue.per_destination.recipients_per_transaction",
        Integer,
        Value("100"),
        "The most recipients in one transaction.",
    )
    .range("1", "100000"),
    key(
        "queue.per_destination.idle",
        Duration,
        Value("\"5s\""),
        "How long a connection without work stays open.",
    )
    .range("\"0s\"", "\"5m\""),
    key(
        "queue.retry_spread",
        Number,
        Value("0.1"),
        "The share of the wait by which a retry is randomly earlier or later.",
    )
    .range("0.0", "0.5"),
    key(
        "queue.keep_transcripts",
        Word(KeepTranscripts::WORDS),
        Value("\"failed\""),
        "Of which attempts the transcript is kept: what was said to the host, without passwords and \
            texts, 8 KiB at most. A message has those of its last 3 attempts. failed: of those \
            that did not deliver.",
    ),
];
