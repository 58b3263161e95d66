//! The runner against receivers on loopback that follow a script.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use postrider_config::{Dynamic, Static};
use postrider_store::{
    Accept, Clock, Event, ManualClock, NewHook, NewHookKind, Outgoing, QueueId, RetiredHook, Store,
    Time,
};
use postrider_webhook::Runner;
use sha2::Sha256;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// What came to a receiver.
#[derive(Clone, Debug)]
struct Call {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A receiver whose answers depend on the path: `/status/204`, `/fail-once`, `/redirect`, `/hang`.
#[derive(Clone)]
struct Receiver {
    base: String,
    calls: Arc<watch::Sender<Vec<Call>>>,
    go_on: Arc<Notify>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            calls: Arc::new(watch::Sender::new(Vec::new())),
            go_on: Arc::default(),
        };
        let router = Router::new()
            .route("/{*path}", post(answer))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn wait_for(&self, count: usize) -> Vec<Call> {
        let mut calls = self.calls.subscribe();
        calls
            .wait_for(|calls| calls.len() >= count)
            .await
            .unwrap()
            .clone()
    }
}

async fn answer(
    State(receiver): State<Receiver>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut before = 0;
    receiver.calls.send_modify(|calls| {
        before = calls.iter().filter(|call| call.path == path).count();
        calls.push(Call {
            path: path.clone(),
            headers,
            body,
        });
    });
    match path.as_str() {
        "redirect" => Redirect::temporary("/status/200").into_response(),
        "fail-once" if before == 0 => {
            (StatusCode::INTERNAL_SERVER_ERROR, "x".repeat(1000)).into_response()
        }
        "hang" => {
            receiver.go_on.notified().await;
            StatusCode::OK.into_response()
        }
        other => {
            let status = other
                .strip_prefix("status/")
                .and_then(|code| code.parse().ok());
            StatusCode::from_u16(status.unwrap_or(200))
                .unwrap()
                .into_response()
        }
    }
}

struct World {
    store: Store,
    clock: ManualClock,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl World {
    fn start(settings: &str) -> Self {
        let statics = format!(
            "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"ann\"\n\
             [listeners.l]\nips = [\"127.0.0.1\"]\n[webhook]\n{settings}"
        );
        let statics = Static::parse(&statics, "postrider.conf").unwrap();
        let dynamics = format!(
            "[domains.\"example.org\"]\n[accounts.ann]\ndomain = \"example.org\"\n\
             destinations.\"ann@example.org\" = {{}}\nkeep_retired_webhook_period = \"1h\"\n\
             outgoing_webhook = {{ url = \"http://127.0.0.1:9/\", secret = \"{SECRET}\" }}\n"
        );
        let dynamic = Dynamic::parse(&dynamics, "domains.conf", &statics).unwrap();
        let store = Store::memory();
        let clock = ManualClock::new(Time(1_800_000_000_000_000));
        let runner = Runner::new(
            store.clone(),
            Arc::new(ArcSwap::from_pointee(dynamic)),
            Arc::new(clock.clone()),
            statics.webhook,
        );
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(runner.unwrap().run(stopped));
        Self {
            store,
            clock,
            stop,
            running,
        }
    }

    /// An event of a message.
    async fn tell(&self, url: &str, message: u64, event: Event) {
        let now = self.clock.now();
        let hook = NewHook {
            account: "ann".into(),
            url: url.into(),
            authorization: "Bearer s3cret".into(),
            kind: NewHookKind::Outgoing(Outgoing {
                event,
                dsn: false,
                suppressing: false,
                queue_id: QueueId(message),
                from_id: String::new(),
                message_id: "<1@example.org>".into(),
                subject: "Hi".into(),
                queued: now,
                code: 0,
                enhanced: None,
                error: String::new(),
                extra: BTreeMap::new(),
            }),
            submitted: now,
            next_attempt: now,
        };
        let accept = Accept {
            hooks: vec![hook],
            ..Accept::default()
        };
        self.store.accept(accept).await.unwrap();
    }

    /// Waits until so many calls have ended, and gives them.
    async fn retired(&self, count: usize) -> Vec<RetiredHook> {
        let mut changed = self.store.hooks_changed();
        loop {
            changed.mark_unchanged();
            let page = self.store.list_retired_hooks(None, 100).unwrap();
            if page.items.len() >= count {
                return page.items;
            }
            changed.changed().await.unwrap();
        }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
    }
}

const ALLOWED: &str = "allow_private_addresses = true\n";

#[tokio::test]
async fn a_call_has_what_the_contract_says() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    world
        .tell(&receiver.url("/status/204"), 7, Event::Delivered)
        .await;
    let calls = receiver.wait_for(1).await;
    let call = &calls[0];
    assert_eq!(call.json()["Event"], "delivered");
    assert_eq!(call.json()["QueueMsgID"], 7);
    assert_eq!(
        call.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(call.header("authorization"), "Bearer s3cret");
    assert_eq!(call.header("x-mox-webhook-attempt"), "1");
    assert!(call.header("user-agent").starts_with("postrider/"));
    let retired = world.retired(1).await;
    assert!(retired[0].success, "any 2xx is success");
    assert_eq!(retired[0].hook.results[0].code, 204);
    assert_eq!(
        call.header("x-mox-webhook-id"),
        retired[0].hook.id.0.to_string()
    );

    let signed = format!(
        "{}.{}.",
        call.header("webhook-id"),
        call.header("webhook-timestamp")
    );
    assert!(signed.ends_with(".1800000000."), "{signed}");
    let key = STANDARD
        .decode(SECRET.strip_prefix("whsec_").unwrap())
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(signed.as_bytes());
    mac.update(&call.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(call.header("webhook-signature"), expected);
    world.stop().await;
}

#[tokio::test]
async fn a_failed_call_is_repeated_as_the_same_and_its_answer_kept() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    world
        .tell(&receiver.url("/fail-once"), 1, Event::Delivered)
        .await;
    let first = receiver.wait_for(1).await;
    // The result is recorded before the time of the next call can come.
    let mut changed = world.store.hooks_changed();
    while world.store.list_hooks(None, 10).unwrap().items[0]
        .results
        .is_empty()
    {
        changed.changed().await.unwrap();
    }
    world.clock.advance(Duration::from_secs(61));
    let calls = receiver.wait_for(2).await;
    assert_eq!(calls[1].header("x-mox-webhook-attempt"), "2");
    assert_eq!(
        calls[1].header("x-mox-webhook-id"),
        first[0].header("x-mox-webhook-id")
    );
    assert_eq!(calls[1].body, first[0].body);
    let results = world.retired(1).await[0].hook.results.clone();
    assert_eq!((results[0].code, results[0].response.len()), (500, 512));
    assert!(
        results[0].error.contains("500 Internal Server Error"),
        "{}",
        results[0].error
    );
    assert!(results[1].success && results[1].error.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_after_the_last_call_none_follows() {
    let receiver = Receiver::start().await;
    let world = World::start("allow_private_addresses = true\nretry_intervals = []\n");
    world
        .tell(&receiver.url("/redirect"), 1, Event::Failed)
        .await;
    let retired = world.retired(1).await;
    assert!(!retired[0].success);
    assert!(retired[0].hook.results[0].error.contains("not followed"));
    assert_eq!(receiver.wait_for(1).await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn private_receivers_are_not_called_unless_allowed() {
    let receiver = Receiver::start().await;
    let world = World::start("retry_intervals = []\n");
    world
        .tell(&receiver.url("/status/200"), 1, Event::Failed)
        .await;
    let by_name = receiver
        .url("/status/200")
        .replace("127.0.0.1", "localhost");
    world.tell(&by_name, 2, Event::Failed).await;
    world.tell("no url", 3, Event::Failed).await;
    let retired = world.retired(3).await;
    let error = |at: usize| retired[at].hook.results[0].error.clone();
    assert!(error(0).contains("not a public address"), "{}", error(0));
    assert!(error(1).contains("not a public address"), "{}", error(1));
    assert!(error(2).contains("is not a URL"), "{}", error(2));
    assert!(receiver.calls.borrow().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn events_of_a_message_come_in_order_and_a_slow_receiver_delays_nobody() {
    let receiver = Receiver::start().await;
    let world = World::start("allow_private_addresses = true\nper_receiver_concurrency = 2\n");
    let hang = receiver.url("/hang");
    for message in 1..=5 {
        world.tell(&hang, message, Event::Delivered).await;
    }
    receiver.wait_for(2).await;
    let quick = receiver.url("/quick");
    for event in [Event::Delayed, Event::Delivered, Event::Failed] {
        world.tell(&quick, 9, event).await;
    }
    assert_eq!(world.retired(3).await.len(), 3);
    let calls = receiver.wait_for(5).await;
    let events = |path: &str| -> Vec<String> {
        let calls = calls.iter().filter(|call| call.path == path);
        calls
            .map(|call| call.json()["Event"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(events("quick"), ["delayed", "delivered", "failed"]);
    assert_eq!(events("hang").len(), 2, "two at a time for one receiver");
    for _ in 0..5 {
        receiver.go_on.notify_one();
        receiver.go_on.notify_waiters();
        tokio::task::yield_now().await;
    }
    while world.store.counts().hooks > 0 {
        receiver.go_on.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(world.retired(8).await.len(), 8);
    world.stop().await;
}
