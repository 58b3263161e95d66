//! Traces: what happened to a message, as the command tells it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use postrider_observe::{
    EventType, Keep, Key, Kind, Term,
    trace::{Limits, Recorder, RecorderParts},
};
use serde_json::Value;

use crate::support::{Setup, World, message, program};

/// A server, and its configuration.
async fn world(statics: &str) -> (World, PathBuf) {
    let setup = Setup {
        statics: statics.to_owned(),
        ..Setup::default()
    };
    let dir = tempfile::tempdir().unwrap();
    setup.write(dir.path());
    let conf = dir.path().join("postrider.conf");
    (World::start_in(dir).await, conf)
}

/// What a command prints to standard output and to standard error, and whether it succeeds.
async fn says(conf: &Path, arguments: &[&str]) -> (String, String, bool) {
    let output = program::run(conf, arguments).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let is_done = output.status.success();
    (text(output.stdout), text(output.stderr), is_done)
}

/// Keeps the traces of a message that failed, as a server did that ran before.
fn keep_traces(data: &Path) {
    let start = 1_799_999_000_000_000;
    let recorder = Recorder::start(RecorderParts {
        dir: data.join("traces"),
        limits: Limits {
            keep: Duration::from_secs(7 * 24 * 60 * 60),
            max_size: 1 << 30,
        },
        sample: 1.0,
        metrics: Arc::default(),
        now: Arc::new(move || start),
        has_room: Box::new(|| true),
    });
    let recorder = recorder.unwrap();
    let tracer = recorder.tracer();
    let mut call = tracer.start(Kind::Api, start);
    call.index(Term::Account("app"));
    call.index(Term::Session("7h3kq0v9x2mc.1"));
    call.index(Term::Queue(7301));
    call.index(Term::Recipient("gone@remote.test"));
    call.event(start, EventType::PostriderApiStart, |data| {
        data.text(Key::Type, "Send");
        data.text(Key::AccountName, "app");
    });
    call.event(start + 3_000, EventType::QueueQueueMessage, |data| {
        data.number(Key::QueueId, 7301);
        data.text(Key::From, "app@example.org");
        data.text(Key::To, "gone@remote.test");
    });
    let mut attempt = tracer.start(Kind::Attempt, start + 4_000);
    attempt.index(Term::Queue(7301));
    attempt.event(start + 4_000, EventType::DeliveryAttemptStart, |data| {
        data.number(Key::QueueId, 7301);
        data.number(Key::Attempt, 1);
    });
    attempt.event(start + 48_000, EventType::DeliveryFailed, |data| {
        data.number(Key::QueueId, 7301);
        data.text(Key::Class, "unknown_mailbox");
    });
    tracer.finish(call, Keep::Sampled);
    tracer.finish(attempt, Keep::Always);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_story_is_told_with_and_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    Setup::default().write(dir.path());
    keep_traces(&dir.path().join("data"));
    let conf = dir.path().join("postrider.conf");
    let World { server, dir, .. } = World::start_in(dir).await;
    let head = |text: &str, name: &str| format!("{text:<64}{name}");
    let story = [
        "message 7301 of account app, from app@example.org, to gone@remote.test: \
         failed at attempt 1"
            .to_owned(),
        head(
            "2027-01-15 07:43:20.000  Send, account app",
            "7h3kq0v9x2mc.1",
        ),
        "    +3 ms  queued as 7301, from <app@example.org>, to <gone@remote.test>".to_owned(),
        head(
            "2027-01-15 07:43:20.004  attempt 1, direct",
            "span 1799999000000001",
        ),
        "   +44 ms  failed: unknown_mailbox, message 7301".to_owned(),
        String::new(),
    ];
    let story = story.join("\n");
    let check = async || {
        for of in ["gone@remote.test", "7301", "7h3kq0v9x2mc"] {
            let (told, errors, is_done) = says(&conf, &["trace", of]).await;
            assert!(is_done, "{of}: {errors}");
            assert_eq!(told, story, "{of}");
        }
        let (told, _, _) = says(&conf, &["trace", "7301", "--json"]).await;
        let told: Vec<Value> = serde_json::from_str(&told).unwrap();
        assert_eq!(
            told[0]["traces"][1]["events"][1]["class"],
            "unknown_mailbox"
        );
        let (told, errors, is_done) = says(&conf, &["trace", "nobody@remote.test"]).await;
        assert!(!is_done && told.is_empty());
        let back = "traces go back to 2027-01-15T07:43:20Z";
        assert!(errors.contains(back), "{errors}");
    };
    check().await;
    server.stop().await;
    check().await;
    let since = says(&conf, &["trace", "7301", "--since", "2027-01-16"]).await;
    assert!(!since.2, "nothing is as new: {}", since.0);
    let backup = dir.path().with_extension("backup");
    let copy = backup.to_str().unwrap();
    let (_, errors, is_done) = says(&conf, &["backup", copy, "--traces"]).await;
    assert!(is_done, "{errors}");
    let kept = std::fs::read_dir(backup.join("config/data/traces")).unwrap();
    assert_eq!(kept.count(), 2, "a segment and its index");
    std::fs::remove_dir_all(backup).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_can_be_turned_off() {
    let (world, conf) = world("[traces]\nenabled = false\n").await;
    let mut client = world.submission().await;
    client
        .submit("app@example.org", &["x@remote.test"], &message("x"))
        .await;
    let (_, errors, is_done) = says(&conf, &["trace", "x@remote.test"]).await;
    assert!(!is_done);
    assert!(errors.contains("traces.enabled"), "{errors}");
    assert!(!world.dir.path().join("data/traces").exists());
    world.server.stop().await;
}
