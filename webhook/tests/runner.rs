//! The runner against receivers on loopback that follow a script.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

#[path = "../../tests/it/support/patience.rs"]
#[allow(
    clippy::panic,
    unreachable_pub,
    reason = "the whole-server tests share it"
)]
mod patience;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

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
use patience::patiently;
use postrider_config::{Dynamic, Static};
use postrider_store::{
    Accept, ClaimHooks, Clock, Event, HookFilter, ManualClock, NewHook, NewHookKind, NewMail,
    Order, OutgoingEvent, QueueId, RetiredHook, RetiredHookFilter, Store, TextSource, Time, Top,
};
use postrider_webhook::{Runner, WebhookParts};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OLD_SECRET: &str = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZC0=";

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

/// A receiver whose answers depend on the path: `/status/204`, `/fail-once`, `/redirect`, `/hang` and what begins with it, `/down`
/// until it is up.
#[derive(Clone)]
struct Receiver {
    base: String,
    calls: Arc<watch::Sender<Vec<Call>>>,
    /// Each lets one call to `/hang` be answered.
    go_on: Arc<Semaphore>,
    /// Whether `/down` takes what it gets; the ones that it took.
    up: Arc<Mutex<(bool, Vec<Call>)>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            calls: Arc::new(watch::Sender::new(Vec::new())),
            go_on: Arc::new(Semaphore::new(0)),
            up: Arc::default(),
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
        let what = format!("{count} calls");
        patiently(&what, calls.wait_for(|calls| calls.len() >= count))
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
    let call = Call {
        path: path.clone(),
        headers,
        body,
    };
    receiver.calls.send_modify(|calls| {
        before = calls.iter().filter(|call| call.path == path).count();
        calls.push(call.clone());
    });
    match path.as_str() {
        "down" => {
            let mut up = receiver.up.lock().unwrap();
            if !up.0 {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            up.1.push(call);
            StatusCode::OK.into_response()
        }
        "redirect" => Redirect::temporary("/status/200").into_response(),
        "fail-once" if before == 0 => {
            (StatusCode::INTERNAL_SERVER_ERROR, "x".repeat(1000)).into_response()
        }
        hang if hang.starts_with("hang") => {
            receiver.go_on.acquire().await.unwrap().forget();
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
             outgoing_webhook = {{ url = \"http://127.0.0.1:9/\", secret = [\"{SECRET}\", \"{OLD_SECRET}\"] }}\n"
        );
        let dynamic = Dynamic::parse(&dynamics, "domains.conf", &statics).unwrap();
        let store = Store::memory();
        let clock = ManualClock::new(Time(1_800_000_000_000_000));
        let runner = Runner::new(WebhookParts {
            store: store.clone(),
            config: Arc::new(ArcSwap::from_pointee(dynamic)),
            statics: Arc::new(statics),
            clock: Arc::new(clock.clone()),
        });
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(runner.unwrap().run(stopped));
        Self {
            store,
            clock,
            stop,
            running,
        }
    }

    /// An event of a message of ann's.
    async fn tell(&self, url: &str, message: u64, event: Event) {
        self.tell_of("ann", url, message, event).await;
    }

    async fn tell_of(&self, account: &str, url: &str, message: u64, event: Event) {
        let now = self.clock.now();
        let hook = NewHook {
            account: account.into(),
            url: url.into(),
            authorization: "Bearer s3cret".into(),
            kind: NewHookKind::Outgoing(OutgoingEvent {
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

    /// Has a receiver answer once, since it then may have more than one call at a time.
    async fn warm(&self, receiver: &Receiver) {
        self.tell(&receiver.url("/status/200"), 999, Event::Delayed)
            .await;
        self.retired(1).await;
    }

    /// Waits until so many calls have ended, and gives them.
    async fn retired(&self, count: usize) -> Vec<RetiredHook> {
        let mut changed = self.store.hooks_changed();
        loop {
            changed.mark_unchanged();
            let page = self
                .store
                .list_retired_hooks(&RetiredHookFilter::default(), None, Order::Ascending, 100)
                .await
                .unwrap();
            if page.items.len() >= count {
                return page.items;
            }
            patiently("a call that ends", changed.changed())
                .await
                .unwrap();
        }
    }

    /// Waits until the oldest call that is not over has so many results.
    async fn results(&self, count: usize) {
        let mut changed = self.store.hooks_changed();
        loop {
            changed.mark_unchanged();
            let page = self
                .store
                .list_hooks(&HookFilter::default(), None, Order::Ascending, 1)
                .await
                .unwrap();
            if page.items.first().unwrap().results.len() >= count {
                return;
            }
            patiently("a call that ends", changed.changed())
                .await
                .unwrap();
        }
    }

    async fn first_result(&self) {
        self.results(1).await;
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
    let signatures: Vec<_> = call.header("webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), 2, "one by each secret");
    for (secret, signature) in [SECRET, OLD_SECRET].iter().zip(signatures) {
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(signed.as_bytes());
        mac.update(&call.body);
        let signature = STANDARD
            .decode(signature.strip_prefix("v1,").unwrap())
            .unwrap();
        mac.verify_slice(&signature).unwrap();
    }
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
    world.first_result().await;
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
async fn a_receiver_that_is_down_for_an_hour_misses_nothing() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    let url = receiver.url("/down");
    let events = [Event::Delayed, Event::Delayed, Event::Delivered];
    for event in events {
        for message in 1..=10 {
            world.tell(&url, message, event).await;
        }
    }
    for _ in 0..12 {
        world.clock.advance(Duration::from_secs(300));
        world.first_result().await;
    }
    assert_eq!(world.store.counts().await.hooks, 30, "all of them wait");
    receiver.up.lock().unwrap().0 = true;
    let retired = loop {
        tokio::select! {
            biased;
            retired = world.retired(30) => break retired,
            () = tokio::task::yield_now() => world.clock.advance(Duration::from_secs(60)),
        }
    };
    assert!(retired.iter().all(|retired| retired.success));
    let taken = receiver.up.lock().unwrap().1.clone();
    assert_eq!(taken.len(), 30);
    for message in 1..=10 {
        let told: Vec<_> = taken
            .iter()
            .map(Call::json)
            .filter(|told| told["QueueMsgID"] == message)
            .map(|told| told["Event"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, ["delayed", "delayed", "delivered"], "{message}");
    }
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
    let slow = Receiver::start().await;
    let quick = Receiver::start().await;
    let world = World::start("allow_private_addresses = true\nper_receiver_concurrency = 2\n");
    world.warm(&slow).await;
    let hang = slow.url("/hang");
    for message in 1..=5 {
        world.tell(&hang, message, Event::Delivered).await;
    }
    slow.wait_for(3).await;
    for event in [Event::Delayed, Event::Delivered, Event::Failed] {
        world.tell(&quick.url("/quick"), 9, event).await;
    }
    assert_eq!(world.retired(4).await.len(), 4);
    let calls = quick.wait_for(3).await;
    let events: Vec<_> = calls
        .iter()
        .map(|call| call.json()["Event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["delayed", "delivered", "failed"]);
    assert_eq!(
        slow.calls.borrow().len(),
        3,
        "two at a time for one receiver"
    );
    slow.go_on.add_permits(5);
    assert_eq!(world.retired(9).await.len(), 9);
    world.stop().await;
}

#[tokio::test]
async fn one_receiver_has_one_limit_whatever_its_urls_and_others_have_room() {
    let slow = Receiver::start().await;
    let quick = Receiver::start().await;
    let world = World::start(
        "allow_private_addresses = true\nmax_concurrency = 6\nper_receiver_concurrency = 2\n",
    );
    world.warm(&slow).await;
    for message in 1..=20 {
        let url = slow.url(&format!("/hang/{message}"));
        world.tell(&url, message, Event::Delivered).await;
    }
    slow.wait_for(3).await;
    for message in 31..=40 {
        world
            .tell(&quick.url("/status/200"), message, Event::Delivered)
            .await;
    }
    assert_eq!(quick.wait_for(10).await.len(), 10);
    world.retired(11).await;
    assert_eq!(slow.calls.borrow().len(), 3, "two at a time for one host");

    slow.go_on.add_permits(20);
    let retired = world.retired(31).await;
    assert!(retired.iter().all(|retired| retired.hook.attempts == 1));
    assert_eq!(slow.calls.borrow().len(), 21, "each call is made once");
    world.stop().await;
}

#[tokio::test]
async fn an_account_does_not_wait_for_another_at_the_same_host() {
    let shared = Receiver::start().await;
    let world = World::start(
        "allow_private_addresses = true\nmax_concurrency = 12\nper_receiver_concurrency = 2\n",
    );
    world.warm(&shared).await;
    for message in 1..=20 {
        let url = shared.url(&format!("/hang/{message}"));
        world.tell(&url, message, Event::Delivered).await;
    }
    shared.wait_for(3).await;
    for message in 31..=40 {
        let url = shared.url("/status/200");
        world.tell_of("bob", &url, message, Event::Delivered).await;
    }
    let retired = world.retired(11).await;
    let of_bob = retired
        .iter()
        .filter(|retired| retired.hook.account == "bob");
    assert_eq!(of_bob.count(), 10);
    shared.go_on.add_permits(20);
    world.retired(31).await;
    world.stop().await;
}

#[tokio::test]
async fn a_later_event_waits_while_the_earlier_one_is_repeated() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    let url = receiver.url("/fail-once");
    world.tell(&url, 1, Event::Delayed).await;
    world.tell(&url, 1, Event::Delivered).await;
    world.first_result().await;
    // Another message's is not held back.
    world.tell(&url, 2, Event::Delivered).await;
    world.retired(1).await;
    assert_eq!(receiver.wait_for(2).await[1].json()["QueueMsgID"], 2);

    world.clock.advance(Duration::from_secs(61));
    world.retired(3).await;
    let calls = receiver.wait_for(4).await;
    let events: Vec<_> = calls
        .iter()
        .map(Call::json)
        .filter(|call| call["QueueMsgID"] == 1)
        .map(|call| call["Event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["delayed", "delayed", "delivered"]);
    world.stop().await;
}

#[tokio::test]
async fn calls_under_way_when_the_server_stops_are_given_back() {
    let receiver = Receiver::start().await;
    let world = World::start("allow_private_addresses = true\nper_receiver_concurrency = 1\n");
    let hang = receiver.url("/hang");
    for message in 1..=3 {
        world.tell(&hang, message, Event::Delivered).await;
    }
    receiver.wait_for(1).await;
    let store = world.store.clone();
    // Time now passes by itself when nothing else happens.
    tokio::time::pause();
    world.stop().await;
    let hooks = store
        .list_hooks(&HookFilter::default(), None, Order::Ascending, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(hooks.len(), 3);
    for hook in hooks {
        assert_eq!((hook.attempts, hook.results.len()), (0, 0), "{}", hook.id.0);
    }
    assert_eq!(receiver.calls.borrow().len(), 1);
    let again = ClaimHooks {
        now: Time(1_800_000_000_000_000),
        max: 10,
        max_per_lane: 10,
        except: HashSet::new(),
    };
    assert_eq!(store.claim_hooks(again).await.unwrap().hooks.len(), 3);
}

#[tokio::test]
async fn calls_that_end_soon_enough_are_recorded_when_the_server_stops() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    world.tell(&receiver.url("/hang"), 1, Event::Failed).await;
    receiver.wait_for(1).await;
    let store = world.store.clone();
    world.stop.send_replace(true);
    receiver.go_on.add_permits(1);
    world.stop().await;
    let retired = store
        .list_retired_hooks(&RetiredHookFilter::default(), None, Order::Ascending, 10)
        .await
        .unwrap()
        .items;
    assert!(retired.len() == 1 && retired[0].success);
    assert_eq!(store.counts().await.hooks, 0);
}

#[tokio::test]
async fn after_all_repeats_a_call_is_given_up_and_the_next_event_comes() {
    let receiver = Receiver::start().await;
    let world =
        World::start("allow_private_addresses = true\nretry_intervals = [\"1m\", \"10m\"]\n");
    let url = receiver.url("/status/404");
    world.tell(&url, 1, Event::Delayed).await;
    world.tell(&url, 1, Event::Delivered).await;
    world.first_result().await;
    let due = world
        .store
        .list_hooks(&HookFilter::default(), None, Order::Ascending, 1)
        .await
        .unwrap()
        .items[0]
        .next_attempt;
    let wait = due.since(world.clock.now());
    assert!(
        (59_400..=60_600).contains(&wait.as_millis()),
        "within 1 % of a minute: {wait:?}"
    );
    world.clock.advance(Duration::from_secs(61));
    world.results(2).await;
    world.clock.advance(Duration::from_secs(607));
    let retired = world.retired(1).await;
    let first = &retired[0];
    assert!(!first.success);
    assert_eq!(
        (first.hook.attempts, first.hook.results.len()),
        (3, 3),
        "intervals + 1"
    );
    assert!(
        first
            .hook
            .results
            .iter()
            .all(|result| result.code == 404 && !result.success)
    );
    assert_eq!(
        first.keep_until.since(first.last_activity),
        Duration::from_secs(3600)
    );
    let calls = receiver.wait_for(4).await;
    assert_eq!(calls[3].json()["Event"], "delivered");
    assert_eq!(calls[3].header("x-mox-webhook-attempt"), "1");
    world.stop().await;
}

#[tokio::test]
async fn a_received_message_is_told_with_its_text_even_when_it_is_long() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    let mut body = world.store.text_writer();
    let text = format!("Subject: long\r\n\r\n{}", "0123456789\r\n".repeat(50_000));
    body.write(text.as_bytes()).await.unwrap();
    let now = world.clock.now();
    let accept = Accept {
        text: Some(body.finish().await.unwrap()),
        mails: vec![NewMail {
            account: "ann".into(),
            mailbox: "Inbox".into(),
            top: Top::EMPTY,
            text: TextSource::New,
            size: text.len() as u64,
            received: now,
            flags: Vec::new(),
            dsn: false,
            smtp: None,
        }],
        hooks: vec![NewHook {
            account: "ann".into(),
            url: receiver.url("/status/200"),
            authorization: String::new(),
            kind: NewHookKind::Incoming(0),
            submitted: now,
            next_attempt: now,
        }],
        ..Accept::default()
    };
    let accepted = world.store.accept(accept).await.unwrap();
    let calls = receiver.wait_for(1).await;
    let json = calls[0].json();
    assert_eq!(json["Meta"]["MsgID"], accepted.mails[0].0);
    assert_eq!(json["Subject"], "long");
    assert_eq!(json["Text"].as_str().unwrap().len(), 11 * 50_000);
    // Neither configured, so neither sent.
    assert_eq!(calls[0].header("authorization"), "");
    assert_eq!(calls[0].header("webhook-signature"), "");
    assert!(world.retired(1).await[0].success);
    world.stop().await;
}

/// A receiver that writes one thing over and over, to each call, until the caller has enough; tells how much it could write.
async fn chatterer(begin: &'static str, more: &'static [u8]) -> (String, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let talking = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut written = 0;
        while !more.is_empty() && stream.write_all(more).await.is_ok() {
            written += more.len();
        }
        // Until the caller closes.
        while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
        written
    });
    (address, talking)
}

#[tokio::test]
async fn a_receiver_that_is_not_there_or_talks_nonsense_is_a_failure_in_words() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let greeting = "220 mail.example.org ESMTP\r\n";
    let (nonsense, _) = chatterer(greeting, b"").await;
    let (no_tls, _) = chatterer(greeting, b"").await;
    let (silent, _) = chatterer("", b"").await;
    let (half, _) = chatterer("HTTP/1.1 200", b"").await;
    let world =
        World::start("allow_private_addresses = true\nretry_intervals = []\ntimeout = \"2s\"\n");
    let cases = [
        (format!("http://{nobody}/"), "refused"),
        (format!("http://{nonsense}/"), "invalid HTTP version"),
        (format!("https://{no_tls}/"), "InvalidContentType"),
        (format!("http://{silent}/"), "timed out"),
        (format!("http://{half}/"), "timed out"),
    ];
    for (message, (url, _)) in (1..).zip(&cases) {
        world.tell(url, message, Event::Failed).await;
    }
    for retired in world.retired(cases.len()).await {
        let result = &retired.hook.results[0];
        assert!(!retired.success && result.code == 0 && result.response.is_empty());
        let (url, words) = cases
            .iter()
            .find(|(url, _)| *url == retired.hook.url)
            .unwrap();
        assert!(result.error.contains(words), "{url}: {}", result.error);
    }
    world.stop().await;
}

#[tokio::test]
async fn of_an_endless_answer_only_the_beginning_is_read() {
    let (address, talking) = chatterer(
        "HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n",
        &[b'x'; 1 << 20],
    )
    .await;
    let world = World::start(ALLOWED);
    world
        .tell(&format!("http://{address}/"), 1, Event::Delivered)
        .await;
    let retired = world.retired(1).await.remove(0);
    assert!(retired.success);
    assert_eq!(retired.hook.results[0].response, "x".repeat(512));
    // The connection was closed: all but what lay in the sockets' buffers was never sent.
    let sent = patiently("the end of the connection", talking)
        .await
        .unwrap();
    assert!(sent < 100_000_000, "{sent}");
    world.stop().await;
}
