//! Traces: lists, single ones, stories, and the stream of those that end.

use std::time::Duration;

use futures_util::StreamExt;
use postrider_admin::op::traces::{Follow, FollowItem, Story};
use postrider_observe::{
    EventType, Keep, Key, Kind, Term,
    trace::{Recorder, Trace},
};
use postrider_store::{Scope, Time};
use serde_json::{Value, json};

use super::{
    super::{Code, client},
    Site,
    live::{Stream, socket_at},
};

/// A moment of the test's clock, so many microseconds after the start of the server.
fn at(site: &Site, micros: i64) -> i64 {
    site.now().0 + micros
}

/// Ends a trace. Gives its number.
fn end(recorder: &Recorder, kind: Kind, start: i64, fill: impl FnOnce(&mut Trace)) -> u64 {
    let mut trace = recorder.tracer().start(kind, start);
    let span = trace.span();
    fill(&mut trace);
    recorder.tracer().finish(trace, Keep::Always);
    span
}

/// A session that brought mail for these recipients.
fn received(site: &Site, start: i64, to: &[&str]) -> u64 {
    end(&site.desk.recorder, Kind::Session, start, |trace| {
        trace.index(Term::Session("7h3kq0v9x2mc.1"));
        trace.event(start, EventType::SmtpConnectionStart, |data| {
            data.text(Key::RemoteIp, "192.0.2.10");
        });
        trace.event(start + 1, EventType::SmtpMailFrom, |data| {
            data.text(Key::From, "remote@c.test");
            data.number(Key::Size, 99);
        });
        for to in to {
            trace.index(Term::Recipient(to));
            trace.event(start + 2, EventType::SmtpRcptTo, |data| {
                data.text(Key::To, to);
            });
        }
    })
}

/// An attempt to deliver a message.
fn attempt(site: &Site, start: i64, account: &str, queue: u64) -> u64 {
    end(&site.desk.recorder, Kind::Attempt, start, |trace| {
        trace.index(Term::Account(account));
        trace.index(Term::Queue(queue));
        trace.index(Term::Recipient("gone@remote.test"));
        trace.event(start, EventType::DeliveryAttemptStart, |data| {
            data.number(Key::QueueId, queue);
            data.number(Key::Attempt, 1);
        });
        trace.event(start + 44_000, EventType::DeliveryFailed, |data| {
            data.number(Key::QueueId, queue);
            data.text(Key::Class, "unknown_mailbox");
            data.text(Key::To, "gone@remote.test");
        });
    })
}

#[tokio::test]
async fn traces_are_listed_newest_first_and_read_one_by_one() {
    let site = Site::open().await;
    let none = json!({"items": [], "total": 0});
    assert_eq!(site.get("/api/telemetry/traces").await, none);
    let day = 24 * 60 * 60 * 1_000_000;
    let old = attempt(&site, at(&site, -day - 1), "ann", 6);
    let session = received(&site, at(&site, -2_000), &["ann@a.test"]);
    let new = attempt(&site, at(&site, -1_000), "ann", 7301);
    let queued = site.now().before(Duration::from_millis(1));
    for (query, expected) in [
        ("", vec![new, session]),
        ("?type=delivery.attempt-start", vec![new]),
        (
            "?type=delivery.attempt-start,smtp.rcpt-to",
            vec![new, session],
        ),
        ("?type=no.such-type", vec![]),
        ("?queue_id=7301", vec![new]),
        ("?queue_id=x", vec![]),
        ("?account=ann", vec![new, old]),
        ("?filter=gone@remote.test%20unknown_mailbox", vec![new, old]),
        ("?filter=%22192.0.2.10%22", vec![session]),
        ("?filter=nowhere", vec![]),
        ("?kind=session&after=2020-01-01T00:00:00Z", vec![session]),
        ("?recipient=GONE@remote.test", vec![new, old]),
        ("?session=7h3kq0v9x2mc", vec![session]),
        (&format!("?account=ann&after={queued}"), vec![new]),
        (&format!("?account=ann&before={queued}"), vec![old]),
        ("?account=ann&limit=1&page=2", vec![old]),
    ] {
        let listed = site.get(&format!("/api/telemetry/traces{query}")).await;
        assert_eq!(listed["items"], json!(expected), "{query}");
    }
    let first = site.get("/api/telemetry/traces?account=ann&limit=1").await;
    assert_eq!(first["items"], json!([new]));
    let next = first["next"].as_str().unwrap();
    let rest = format!("/api/telemetry/traces?account=ann&cursor={next}");
    assert_eq!(site.get(&rest).await["items"], json!([old]));
    for (query, total, more) in [
        ("?account=ann&limit=1", 2, None),
        ("?account=ann&limit=1&page=2", 2, None),
        ("?account=ann&limit=1&page=9", 2, None),
        (&format!("?account=ann&cursor={next}"), 2, None),
        ("?filter=gone@remote.test&limit=1&values=1", 2, None),
        ("?account=ann&max-total=1", 1, Some(true)),
        ("?account=ann&max-total=2", 2, None),
    ] {
        let listed = site.get(&format!("/api/telemetry/traces{query}")).await;
        assert_eq!(listed["total"], total, "{query}");
        assert_eq!(listed.get("more").and_then(Value::as_bool), more, "{query}");
    }
    let wrong = site.call("GET /api/telemetry/traces?cursor=x", "").await;
    assert_eq!(wrong.error().0, 422);

    let listed = site.get("/api/telemetry/traces?values=1").await;
    let event = &listed["items"][0];
    assert_eq!(event["type"], "delivery.attempt-start");
    assert_eq!(event["data"]["queueId"], 7301);
    assert_eq!(event["data"]["to"], "gone@remote.test");
    assert_eq!(event["data"]["spanId"], new);
    let event = &listed["items"][1];
    assert_eq!(event["data"]["from"], "remote@c.test");
    assert_eq!(event["data"]["size"], 99);

    let events = site.get(&format!("/api/telemetry/trace/{new}")).await;
    let kinds: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["type"])
        .collect();
    assert_eq!(kinds, ["delivery.attempt-start", "delivery.failed"]);
    let first = &events[0];
    assert_eq!(first["attempt"], 1, "ours stand beside data");
    assert_eq!(first["createdAt"], Time(at(&site, -1_000)).to_string());
    assert_eq!(first["data"], json!({"queueId": 7301, "spanId": new}));
    let both = site
        .get(&format!("/api/telemetry/trace/{session},{new},1"))
        .await;
    assert_eq!(both[0].as_array().unwrap().len(), 3);
    assert_eq!(both[1], events);
    assert_eq!(both[2], json!([]));
    for unknown in ["1", "x", "0"] {
        let path = format!("/api/telemetry/trace/{unknown}");
        assert_eq!(site.get(&path).await, json!([]), "{unknown}");
    }
}

#[tokio::test]
async fn more_than_a_thousand_numbers_are_one_answer() {
    let site = Site::open().await;
    let start = at(&site, -1_000);
    let spans: Vec<u64> = (0..1100)
        .map(|queue| attempt(&site, start, "ann", queue))
        .collect();
    let listed = site.get("/api/telemetry/traces").await;
    let newest_first: Vec<u64> = spans.iter().rev().copied().collect();
    assert_eq!(listed, json!({"items": newest_first, "total": 1100}));
    let second = site.get("/api/telemetry/traces?page=2&limit=1050").await;
    assert_eq!(second["items"], json!(newest_first[1050..]));
    let objects = site.get("/api/telemetry/traces?values=1").await;
    assert_eq!(objects["items"].as_array().unwrap().len(), 1000);
    assert_eq!(objects["total"], 1100);
    assert!(objects["next"].is_string() && objects.get("more").is_none());
}

#[tokio::test]
async fn a_tenant_sees_traces_of_its_own_only() {
    let site = Site::open().await;
    let now = at(&site, 0);
    let own = [
        attempt(&site, now, "ann", 1),
        received(&site, now, &["ann@a.test", "x@A.test"]),
    ];
    let foreign = [
        attempt(&site, now, "bob", 2),
        attempt(&site, now, "both", 3),
        attempt(&site, now, "gone", 4),
        received(&site, now, &["bob@b.test"]),
        received(&site, now, &["ann@a.test", "bob@b.test"]),
        received(&site, now, &[]),
    ];
    let key = site
        .make_key(&[Scope::ManageObserve], &["a.test"], |_| {})
        .await;
    let get = async |path: &str| {
        let request = format!("GET /api/telemetry/{path}");
        site.with_key(&key, &request, "").await.data()
    };
    let listed = get("traces").await;
    assert_eq!(listed, json!({"items": [own[1], own[0]], "total": 2}));
    assert_eq!(get("traces?account=bob").await["items"], json!([]));
    for span in own {
        assert_ne!(get(&format!("trace/{span}")).await, json!([]));
    }
    for span in foreign {
        assert_eq!(get(&format!("trace/{span}")).await, json!([]), "{span}");
    }
    let queue = site.make_key(&[Scope::ManageQueue], &[], |_| {}).await;
    let refused = site.with_key(&queue, "GET /api/telemetry/traces", "").await;
    assert_eq!(refused.status, 403);
}

async fn token(site: &Site, key: &str) -> String {
    let got = site
        .with_key(key, "GET /api/telemetry/live/tracing-token", "")
        .await;
    got.data().as_str().unwrap().to_owned()
}

fn spans(events: &Value) -> Vec<u64> {
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| {
            event
                .pointer("/data/spanId")
                .and_then(Value::as_u64)
                .unwrap()
        })
        .collect()
}

#[tokio::test]
async fn traces_are_streamed_whole_to_those_who_may_see_them() {
    let site = Site::open().await;
    let now = at(&site, 0);
    let scopes = [Scope::ManageObserve];
    let tenant = site.make_key(&scopes, &["a.test"], |_| {}).await;
    let (all, own) = (token(&site, &site.key).await, token(&site, &tenant).await);
    let path =
        |query: &str, token: &str| format!("/api/telemetry/traces/live?{query}token={token}");
    let mut to_gone = Stream::at(&site, &path("to=GONE@&", &all), "").await;
    let mut by_words = Stream::at(&site, &path("filter=ann@a.test&", &all), "").await;
    let mut of_tenant = Stream::at(&site, &path("", &own), "").await;
    for stream in [&mut to_gone, &mut by_words, &mut of_tenant] {
        let head = stream.until("\r\n\r\n").await.to_lowercase();
        assert!(head.contains("text/event-stream"), "{head}");
    }
    let foreign = attempt(&site, now, "bob", 1);
    let session = received(&site, now, &["ann@a.test"]);
    let (_, name, data) = to_gone.event().await;
    assert_eq!(name, "trace");
    assert_eq!(spans(&data), [foreign; 2], "the whole trace");
    let (_, _, data) = by_words.event().await;
    assert_eq!(spans(&data), [session; 3]);
    let (_, _, data) = of_tenant.event().await;
    assert_eq!(spans(&data), [session; 3], "nothing of others");
    // The token opens nothing else, and others do not open this.
    let other = site.call("GET /api/troubleshoot/token", "").await.data();
    let wrong = path("", other.as_str().unwrap());
    assert_eq!(site.send(&format!("GET {wrong}"), "", "").await.status, 401);
    let wrong = format!("GET /api/events/live?token={all}");
    assert_eq!(site.send(&wrong, "", "").await.status, 401);
}

#[tokio::test]
async fn the_events_of_a_trace_that_goes_on_are_streamed() {
    let site = Site::open().await;
    let token = token(&site, &site.key).await;
    let path =
        format!("/api/telemetry/traces/live?remote-ip=192.0.2.1&to=ann@a.test&token={token}");
    let mut stream = Stream::at(&site, &path, "").await;
    stream.until("\r\n\r\n").await;
    let tracer = site.desk.recorder.tracer();
    let session = |ip: &str, to: &str| {
        let mut trace = tracer.start(Kind::Session, at(&site, 0));
        trace.event(at(&site, 1), EventType::SmtpConnectionStart, |data| {
            data.text(Key::RemoteIp, ip);
        });
        trace.event(at(&site, 2), EventType::SmtpRcptTo, |data| {
            data.text(Key::To, to)
        });
        trace
    };
    // Only one has both values, each in an event of its own.
    let others = [
        session("192.0.2.10", "ann@a.test"),
        session("192.0.2.1", "joann@a.test"),
    ];
    let mut trace = session("192.0.2.1", "Ann@a.test");
    let (_, _, data) = stream.event().await;
    assert_eq!(spans(&data), [trace.span(); 2]);
    trace.event(at(&site, 3), EventType::SmtpQuit, |_| {});
    let (_, _, data) = stream.event().await;
    assert_eq!(
        (&data[0]["type"], spans(&data)),
        (&json!("smtp.quit"), vec![trace.span()])
    );
    drop(others);
}

#[tokio::test]
async fn a_websocket_gives_the_same_events() {
    let site = Site::open().await;
    let token = token(&site, &site.key).await;
    let path = format!("/api/telemetry/traces/live?token={token}");
    let mut socket = socket_at(&site, &path, "", None).await.unwrap();
    let span = attempt(&site, at(&site, 0), "ann", 1);
    let message = socket.next().await.unwrap().unwrap();
    let data: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
    assert_eq!(spans(&data), [span; 2]);
}

#[tokio::test]
async fn a_story_has_all_traces_of_a_message_by_time() {
    let site = Site::open().await;
    let now = at(&site, 0);
    // It ended after the attempt.
    let later = attempt(&site, now + 20, "ann", 7301);
    let call = end(&site.desk.recorder, Kind::Api, now, |trace| {
        trace.index(Term::Account("ann"));
        trace.index(Term::Sender("ann@a.test"));
        trace.event(now, EventType::PostriderApiStart, |data| {
            data.text(Key::Type, "Send")
        });
        for (id, to) in [(7301, "gone@remote.test"), (7302, "jane@remote.test")] {
            trace.index(Term::Queue(id));
            trace.index(Term::Recipient(to));
            trace.event(now + 3, EventType::QueueQueueMessage, |data| {
                data.number(Key::QueueId, id);
                data.text(Key::From, "ann@a.test");
                data.text(Key::To, to);
            });
        }
    });
    let ask = async |of: &str| {
        let story = Story {
            of: of.to_owned(),
            ..Story::default()
        };
        site.desk.ask(story).await
    };
    for (of, expected) in [
        ("gone@remote.test", vec![(Some(7301), vec![call, later])]),
        ("7301", vec![(Some(7301), vec![call, later])]),
        ("jane@remote.test", vec![(Some(7302), vec![call])]),
        (
            "ann@a.test",
            vec![(Some(7301), vec![call, later]), (Some(7302), vec![call])],
        ),
        ("nobody@remote.test", vec![]),
    ] {
        let told = ask(of).await;
        let stories = told.stories.iter();
        let stories = stories.map(|story| {
            let traces = story.traces.iter().map(|item| item.id).collect();
            (story.queue_id, traces)
        });
        assert_eq!(stories.collect::<Vec<_>>(), expected, "{of}");
        let earliest = Time(now).to_string();
        assert_eq!(told.earliest, Some(earliest), "how far back traces go");
    }
    let told = ask("gone@remote.test").await;
    assert_eq!(
        told.stories[0].title,
        "message 7301 of account ann, from ann@a.test, to gone@remote.test: failed at attempt 1"
    );
    let empty = Story::default();
    site.desk.refuses(empty, Code::Invalid, "of").await;
}

#[tokio::test]
async fn a_message_is_followed() {
    let site = Site::open().await;
    let now = at(&site, 0);
    let first = attempt(&site, now, "ann", 1);
    let follow = Follow {
        story: Story {
            of: "1".to_owned(),
            ..Story::default()
        },
    };
    let mut answer = client::call(site.desk.path(), &follow).await.unwrap();
    let Some(FollowItem::Stories(stories)) = answer.next().await.unwrap() else {
        panic!("the stories come first");
    };
    assert_eq!(stories.stories[0].traces[0].id, first);
    attempt(&site, now + 1, "ann", 2);
    let second = attempt(&site, now + 2, "ann", 1);
    let Some(FollowItem::Trace(trace)) = answer.next().await.unwrap() else {
        panic!("a trace that ended");
    };
    assert_eq!(trace.id, second, "and no other message");
}
