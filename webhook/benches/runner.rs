//! The calls per second that the runner makes to one receiver, which answers at once over kept
//! connections.
//!
//! `cargo bench -p postrider-webhook --bench runner [-- CALLS]`. The receiver has a thread on the
//! same machine, so its work counts as well. A few hundred calls wait at a time.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: a panic is how it fails, and its figures are its output"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use postrider_config::{Dynamic, Static};
use postrider_store::{
    Accept, Clock, Event, NewHook, NewHookKind, Options, OutgoingEvent, QueueId, Store, SystemClock,
};
use postrider_webhook::{Runner, WebhookParts};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    sync::watch,
};

const CALLS: u64 = 100_000;
/// The number of calls that are made in one unit.
const UNIT: u64 = 50;
/// The most calls that wait.
const WAITING: u64 = 500;

/// The number of calls that the receiver answered.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

fn main() {
    // Cargo passes `--bench`.
    let calls = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(CALLS);
    let url = receiver();
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let stores = [
        ("in memory", Store::memory()),
        (
            "on disk",
            Store::open(Options::new(dir.path().join("data"))).unwrap(),
        ),
    ];
    for (name, store) in stores {
        for (kind, secret) in [("unsigned", ""), ("signed", SECRET)] {
            let before = ANSWERED.load(Ordering::Relaxed);
            let took = runtime.block_on(run(store.clone(), &url, secret, calls));
            let answered = ANSWERED.load(Ordering::Relaxed) - before;
            assert_eq!(answered, calls, "each is made once");
            let rate = calls as f64 / took.as_secs_f64();
            println!(
                "{name}, {kind}: {calls} calls in {:.2} s, {rate:.0} a second",
                took.as_secs_f64()
            );
        }
    }
}

const SECRET: &str = ", secret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\"";

async fn run(store: Store, url: &str, secret: &str, calls: u64) -> Duration {
    let statics = "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"ann\"\n\
        [listeners.l]\nips = [\"127.0.0.1\"]\n[webhook]\nallow_private_addresses = true\n";
    let statics = Static::parse(statics, "postrider.conf").unwrap();
    let dynamics = format!(
        "[domains.\"example.org\"]\n[accounts.ann]\ndomain = \"example.org\"\n\
         destinations.\"ann@example.org\" = {{}}\noutgoing_webhook = {{ url = \"{url}\"{secret} }}\n"
    );
    let dynamic = Dynamic::parse(&dynamics, "domains.conf", &statics).unwrap();
    let runner = Runner::new(WebhookParts {
        metrics: Arc::default(),
        store: store.clone(),
        tracer: postrider_observe::Tracer::off(),
        config: Arc::new(ArcSwap::from_pointee(dynamic)),
        statics: Arc::new(statics),
        clock: Arc::new(SystemClock),
    })
    .unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(runner.run(stopped));
    let begun = Instant::now();
    let mut made = 0;
    loop {
        let waiting = store.counts().await.hooks;
        if made < calls && waiting < WAITING {
            let unit = UNIT.min(calls - made);
            let hooks = (made..made + unit).map(|at| hook(url, at)).collect();
            store
                .accept(Accept {
                    hooks,
                    ..Accept::default()
                })
                .await
                .unwrap();
            made += unit;
        } else if made == calls && waiting == 0 {
            break;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let took = begun.elapsed();
    stop.send_replace(true);
    running.await.unwrap();
    took
}

fn hook(url: &str, message: u64) -> NewHook {
    let now = SystemClock.now();
    NewHook {
        account: "ann".into(),
        url: url.into(),
        authorization: "Bearer s3cret".into(),
        kind: NewHookKind::Outgoing(OutgoingEvent {
            event: Event::Delivered,
            dsn: false,
            suppressing: false,
            queue_id: QueueId(message + 1),
            from_id: "MDEyMzQ1Njc4OWFiY2RlZg".into(),
            message_id: format!("<{message}@example.org>"),
            subject: "Your order of today".into(),
            queued: now,
            code: 250,
            enhanced: None,
            error: String::new(),
            extra: BTreeMap::from([("UserID".to_owned(), "7".to_owned())]),
        }),
        submitted: now,
        next_attempt: now,
    }
}

/// Starts a receiver. Gives its URL.
fn receiver() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(answer(stream));
            }
        });
    });
    url
}

/// Answers 204 to each request of a connection. Understands only the HTTP that the client uses.
async fn answer(mut stream: TcpStream) -> Option<()> {
    let mut buffer = Vec::with_capacity(8192);
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = std::str::from_utf8(buffer.get(..end)?).ok()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            if name.eq_ignore_ascii_case("content-length") {
                value.trim().parse::<usize>().ok()
            } else {
                None
            }
        })?;
        while buffer.len() < end + length {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        buffer.drain(..end + length);
        ANSWERED.fetch_add(1, Ordering::Relaxed);
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .ok()?;
    }
}
