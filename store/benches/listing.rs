//! Measures lists and look-ups: the first page of a list, and a message by its Message-ID, among a
//! hundred and among a million messages, in the queue and in the history. Also measures the rate of
//! other callers while a million messages leave the history.
//!
//! `cargo bench -p postrider-store --bench listing`. The environment variables are those of the
//! bench `store`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a program for developers: it prints its results and ends when something fails"
)]

mod common;

use std::{
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use common::{
    DOMAINS, MEASURE, SMALL_TEXT, TEXT, count, memory, message_id, produce, rate, runtime,
};
use postrider_store::{
    Attempt, Change, Claim, Moment, Options, Order, Outcome, Party, QueueFilter, QueueId,
    Reference, RetiredFilter, Settle, Store, Time, Which,
};

/// The rows of a page.
const PAGE: usize = 100;
const FEW: u64 = 100;
/// The time until which the history keeps messages.
const KEEP: Time = Time(1 << 50);

/// The median time of a question, in microseconds.
fn ask(mut question: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let begun = Instant::now();
            question();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[10].as_secs_f64() * 1e6
}

fn queue_filters() -> Vec<(&'static str, QueueFilter)> {
    let none = QueueFilter::default;
    let text = |text: &str| Some(text.to_owned());
    vec![
        ("none", none()),
        (
            "account",
            QueueFilter {
                account: text("bench"),
                ..none()
            },
        ),
        (
            "sender domain",
            QueueFilter {
                from: text("@example.org"),
                ..none()
            },
        ),
        (
            "recipient domain",
            QueueFilter {
                to: text("@d7.example"),
                ..none()
            },
        ),
        (
            "transport",
            QueueFilter {
                transport: text("relay"),
                ..none()
            },
        ),
        (
            "held",
            QueueFilter {
                hold: Some(true),
                ..none()
            },
        ),
        (
            "ids",
            QueueFilter {
                ids: (1..=100).map(QueueId).collect(),
                ..none()
            },
        ),
    ]
}

fn retired_filters() -> Vec<(&'static str, RetiredFilter)> {
    let none = RetiredFilter::default;
    let text = |text: &str| Some(text.to_owned());
    vec![
        ("none", none()),
        (
            "account",
            RetiredFilter {
                account: text("bench"),
                ..none()
            },
        ),
        (
            "sender domain",
            RetiredFilter {
                from: text("@example.org"),
                ..none()
            },
        ),
        (
            "recipient domain",
            RetiredFilter {
                to: text("@d7.example"),
                ..none()
            },
        ),
        (
            "recipient",
            RetiredFilter {
                recipient: text("user7@d7.example"),
                ..none()
            },
        ),
        (
            "failed",
            RetiredFilter {
                success: Some(false),
                ..none()
            },
        ),
        (
            "ids",
            RetiredFilter {
                ids: (1..=100).map(QueueId).collect(),
                ..none()
            },
        ),
    ]
}

/// Queues `count` messages. One in a hundred is held and has a transport.
fn queue(store: &Store, count: u64) {
    let last = move |number, _| number >= count;
    produce(store, 100, SMALL_TEXT, |_| Time(0), 0, last);
    let changes: Vec<QueueId> = (1..=count).step_by(100).map(QueueId).collect();
    let change = Change {
        hold: Some(true),
        transport: Some("relay".into()),
        ..Change::default()
    };
    runtime().block_on(async {
        for ids in changes.chunks(500) {
            store.change(ids.to_vec(), &change, Time(0)).await.unwrap();
        }
    });
}

/// Sends all queued messages. One in a hundred fails.
fn retire(store: &Store) {
    let release = Change {
        hold: Some(false),
        ..Change::default()
    };
    runtime().block_on(async {
        let held: Vec<QueueId> = (1..=store.counts().await.queued)
            .step_by(100)
            .map(QueueId)
            .collect();
        for ids in held.chunks(500) {
            store.change(ids.to_vec(), &release, Time(0)).await.unwrap();
        }
        while store.counts().await.queued > 0 {
            let claim = Claim {
                now: Time(1_000_000),
                moment: Moment::default(),
                max: 500,
                max_per_lane: 500,
                which: Which::All,
                lease: Duration::from_secs(600),
            };
            let claimed = store.claim(claim).await.unwrap().messages;
            let settles = claimed.iter().map(|queued| {
                let success = !queued.id.0.is_multiple_of(100);
                Settle {
                    id: queued.id,
                    fence: queued.fence,
                    party: Party::Claimant,
                    attempt: Some(Attempt {
                        start: Time(1_000_000),
                        duration: Duration::from_millis(50),
                        success,
                        code: if success { 250 } else { 550 },
                        enhanced: None,
                        remote: "mx.d1.example [192.0.2.1]".into(),
                        error: if success { "" } else { "550 no such user" }.into(),
                        blames: !success,
                    }),
                    outcome: Outcome::Retire {
                        success,
                        now: Time(1_000_000),
                        keep_until: Some(KEEP),
                    },
                    route: None,
                    delay_told: false,
                    text: None,
                    queue: Vec::new(),
                    mails: Vec::new(),
                    hooks: Vec::new(),
                    suppress: Vec::new(),
                    events: Vec::new(),
                    reports: Vec::new(),
                }
            });
            store.settle(settles.collect()).await.unwrap();
        }
    });
}

/// Questions with their times in microseconds.
type Answers = Vec<(String, f64)>;

fn ask_queue(store: &Store) -> Answers {
    let runtime = runtime();
    let mut answers = Vec::new();
    for (name, filter) in queue_filters() {
        for order in [Order::Ascending, Order::Descending] {
            let time = ask(|| {
                runtime
                    .block_on(store.list(&filter, None, order, PAGE))
                    .unwrap();
            });
            answers.push((format!("queued, by {name}, {order:?}"), time));
        }
    }
    answers
}

fn ask_history(store: &Store) -> Answers {
    let runtime = runtime();
    let mut answers = Vec::new();
    for (name, filter) in retired_filters() {
        for order in [Order::Ascending, Order::Descending] {
            let time = ask(|| {
                let page = store.list_retired(&filter, None, order, PAGE);
                runtime.block_on(page).unwrap();
            });
            answers.push((format!("history, by {name}, {order:?}"), time));
        }
    }
    answers
}

fn ask_names(store: &Store, count: u64, what: &str) -> Answers {
    let runtime = runtime();
    let mut number = 0;
    let time = ask(|| {
        // Each message is far from the one before.
        number = (number + count * 7 / 13 + 1) % count;
        let id = message_id(number);
        let recipient = format!("user{number}@d{}.example", number % DOMAINS);
        let found = store.find(Reference::MessageId(&id), Some(&recipient), None, 10);
        assert_eq!(runtime.block_on(found).unwrap().len(), 1);
    });
    vec![(format!("{what}, one by Message-ID and recipient"), time)]
}

fn measure(store: &Store, count: u64) -> Answers {
    let begun = Instant::now();
    queue(store, count);
    println!(
        "{count} queued after {:.1} s, {}",
        begun.elapsed().as_secs_f64(),
        memory()
    );
    let mut answers = ask_queue(store);
    answers.extend(ask_names(store, count, "queued"));
    retire(store);
    println!(
        "in the history after {:.1} s, {}",
        begun.elapsed().as_secs_f64(),
        memory()
    );
    answers.extend(ask_history(store));
    answers.extend(ask_names(store, count, "history"));
    answers
}

/// Measures producers while all messages leave the history, at the pace of the server.
fn expire(store: &Store) {
    let producers = |what| {
        let latencies = produce(
            store,
            8,
            TEXT,
            |_| Time(1 << 60),
            1 << 40,
            |_, begun| begun.elapsed() >= MEASURE,
        );
        rate(latencies, what)
    };
    let before = producers("8 producers with this history");
    let expiring = std::thread::spawn({
        let store = store.clone();
        move || {
            let begun = Instant::now();
            let mut gone = 0;
            runtime().block_on(async {
                loop {
                    let step = Instant::now();
                    let count = store.expire(Time(1 << 55), 100).await.unwrap();
                    gone += count;
                    if count < 100 {
                        break;
                    }
                    tokio::time::sleep(step.elapsed() * 3).await;
                }
            });
            (gone, begun.elapsed())
        }
    });
    let during = producers("8 producers while the history is removed");
    let (gone, took) = expiring.join().unwrap();
    println!(
        "{gone} messages removed in {:.1} s; the producers had {:.2} of their rate; {}",
        took.as_secs_f64(),
        during / before,
        memory()
    );
}

fn main() {
    let parent = env::var_os("STORE_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new()
        .prefix("listing-bench-")
        .tempdir_in(parent)
        .unwrap();
    let open = |name: &str| Store::open(Options::new(dir.path().join(name))).unwrap();
    let few = measure(&open("few"), FEW);
    let many = open("many");
    let answers = measure(&many, count());
    println!("median of 21, microseconds: among {FEW}, among {}", count());
    for ((what, few), (_, many)) in few.iter().zip(&answers) {
        println!("{what}: {few:.0}, {many:.0}");
    }
    expire(&many);
    runtime().block_on(many.close());
}
