//! Panics of a process. The hook belongs to the process, so this test has one of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails says where, and panics are what this one is about"
)]

use std::sync::Arc;

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
    let thread = std::thread::spawn(|| {
        panics::within_thread(PanicIn::Store, || "x".find('y').expect("a position"))
    });
    assert!(thread.join().is_err());
    assert_eq!(counts(&metrics), [1, 0, 0, 1, 1, 0]);
    let alone = std::thread::Builder::new().name("alone".to_owned());
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
