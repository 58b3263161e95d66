//! Panics of a process. The hook belongs to the process, so this test has one of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails says where, and panics are what this one is about"
)]

use std::{process::Command, sync::Arc, thread};

use postrider_observe::{
    Metrics,
    log::{Level, Levels, Log, Value},
    metrics::PanicIn,
    panics,
};
use tracing_subscriber::layer::SubscriberExt as _;

/// How many panics of each part were counted.
fn counts(metrics: &Metrics) -> Vec<u64> {
    let count = |part| metrics.panics_total.with(part).get();
    [
        PanicIn::Session,
        PanicIn::Delivery,
        PanicIn::Webhook,
        PanicIn::Store,
        PanicIn::Http,
        PanicIn::Other,
    ]
    .map(count)
    .into()
}

fn fail(text: &str) {
    panic!("{text}");
}

/// Nobody may write the lines of the log when one of these threads has ended. The test runs itself
/// again for each thread: what is on standard error belongs to the process.
#[test]
fn panics_of_the_main_thread_and_of_the_log_go_to_standard_error_too() {
    const NAME: &str = "panics_of_the_main_thread_and_of_the_log_go_to_standard_error_too";
    const THREAD: &str = "POSTRIDER_TEST_THREAD";
    if let Ok(name) = std::env::var(THREAD) {
        panics::watch(Arc::default());
        let named = thread::Builder::new().name(name);
        assert!(named.spawn(|| fail("a\tthread")).unwrap().join().is_err());
        return;
    }
    for (name, is_told) in [("main", true), ("log", true), ("other", false)] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", NAME, "--nocapture"]);
        again.env(THREAD, name).env_remove("RUST_BACKTRACE");
        let ended = again.output().unwrap();
        let text = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success(), "{name}: {text}");
        assert_eq!(
            text.contains("error=\"a\\tthread\""),
            is_told,
            "{name}: {text}"
        );
    }
}

#[test]
fn each_panic_is_counted_by_its_part_and_has_a_line() {
    let metrics = Arc::<Metrics>::default();
    let log = Log::new(Levels::new(Some(Level::Info)), Arc::new(|| 5));
    let subscriber = tracing_subscriber::registry().with(log.layer());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    panics::watch(Arc::clone(&metrics));
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    // Nobody waits for a session, and its handle is dropped.
    let (ended, mut has_ended) = tokio::sync::oneshot::channel::<()>();
    runtime.spawn(panics::within(PanicIn::Session, async move {
        let _ended = ended;
        tokio::task::yield_now().await;
        fail("a\tlong session");
    }));
    assert!(runtime.block_on(&mut has_ended).is_err());
    assert_eq!(counts(&metrics), [1, 0, 0, 0, 0, 0]);
    let call = panics::within(PanicIn::Http, async { fail("a call") });
    let called = runtime.block_on(async { tokio::spawn(call).await });
    assert!(called.is_err());
    assert_eq!(counts(&metrics), [1, 0, 0, 0, 1, 0]);
    let thread = thread::spawn(|| {
        panics::within_thread(PanicIn::Store, || "x".find('y').expect("a position"))
    });
    assert!(thread.join().is_err());
    assert_eq!(counts(&metrics), [1, 0, 0, 1, 1, 0]);
    let alone = thread::Builder::new().name("alone".to_owned());
    let alone = alone.spawn(|| fail("somewhere")).unwrap();
    assert!(alone.join().is_err());
    assert_eq!(counts(&metrics), [1, 0, 0, 1, 1, 1]);

    let lines = log.newest(None);
    let texts: Vec<_> = { lines.iter() }
        .map(|(_, line)| {
            assert_eq!((line.level, &*line.message), (Level::Error, "panicked"));
            let text = |wanted| {
                let field = line.fields.iter().find(|(name, _)| *name == wanted);
                match field {
                    Some((_, Value::Text(text))) => text.to_string(),
                    other => panic!("{wanted}: {other:?}"),
                }
            };
            assert!(text("place").contains("panics.rs:"), "{}", text("place"));
            (text("part"), text("error"))
        })
        .collect();
    let expected = [
        ("other", "somewhere"),
        ("store", "a position"),
        ("http", "a call"),
        ("session", "a\\tlong session"),
    ];
    let expected = expected.map(|(part, error)| (part.to_owned(), error.to_owned()));
    assert_eq!(texts, expected);
}
