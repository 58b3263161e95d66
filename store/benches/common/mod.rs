//! The common parts of the benches of the store.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use postrider_store::{
    Accept, Common, NewMessage, NewRecipient, NewText, Notify, Store, TextSource, Time, Top,
};

/// The time for which each rate is measured.
pub(crate) const MEASURE: Duration = Duration::from_secs(4);
/// The bytes of a text.
pub(crate) const TEXT: usize = 4096;
/// The bytes of a text in a queue of a million, to spare the disk.
pub(crate) const SMALL_TEXT: usize = 512;
/// The number of recipient domains.
pub(crate) const DOMAINS: u64 = 1000;

/// The number of messages in a large queue.
pub(crate) fn count() -> u64 {
    env::var("STORE_BENCH_QUEUED")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000_000)
}

pub(crate) fn message(number: u64, text: usize, due: Time) -> Accept {
    Accept {
        text: Some(NewText::Inline(Bytes::from(vec![b'x'; text]))),
        queue: vec![NewMessage {
            common: Common {
                account: "bench".into(),
                queued: Time(0),
                from: Some("bench@example.org".parse().unwrap()),
                message_id: message_id(number),
                subject: "A subject of usual length".into(),
                size: text as u64,
                needs: Default::default(),
                smtputf8: false,
                require_tls: None,
                future_release: String::new(),
                ret_full: None,
                envid: String::new(),
                list: String::new(),
                extra: [].into(),
                origin: postrider_store::Origin::Sent,
                urgency: Default::default(),
            },
            top: Top::EMPTY,
            text: TextSource::New,
            recipients: vec![NewRecipient {
                reverse_path: "bench@example.org".parse().unwrap(),
                from_id: String::new(),
                recipient: format!("user{number}@d{}.example", number % DOMAINS)
                    .parse()
                    .unwrap(),
                notify: Notify::default(),
                orcpt: String::new(),
                transport: String::new(),
                route: String::new(),
                hold: false,
                next_attempt: due,
            }],
        }],
        ..Accept::default()
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The Message-ID of a message.
pub(crate) fn message_id(number: u64) -> String {
    format!("<{number}@example.org>")
}

/// Accepts messages from several producers until `last` gives true for the number of a message.
/// Gives the latencies.
pub(crate) fn produce(
    store: &Store,
    producers: usize,
    text: usize,
    due: impl Fn(u64) -> Time + Send + Sync + Copy + 'static,
    first: u64,
    last: impl Fn(u64, Instant) -> bool + Send + Sync + Copy + 'static,
) -> Vec<Duration> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.store(first, Ordering::Relaxed);
    let begun = Instant::now();
    runtime().block_on(async {
        let tasks: Vec<_> = (0..producers)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    loop {
                        let number = NEXT.fetch_add(1, Ordering::Relaxed);
                        if last(number, begun) {
                            return latencies;
                        }
                        let start = Instant::now();
                        store
                            .accept(message(number, text, due(number)))
                            .await
                            .unwrap();
                        latencies.push(start.elapsed());
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    })
}

/// Prints the rate and the latencies. Gives the messages per second.
pub(crate) fn rate(mut latencies: Vec<Duration>, what: &str) -> f64 {
    latencies.sort();
    let at =
        |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let rate = latencies.len() as f64 / MEASURE.as_secs_f64();
    println!(
        "{what}: {rate:.0}/s, p50 {:.3} ms, p99 {:.3} ms",
        at(0.5),
        at(0.99)
    );
    rate
}

pub(crate) fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or("VmRSS: unknown");
    line.split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}
