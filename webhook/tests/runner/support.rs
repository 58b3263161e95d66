//! A receiver on loopback that follows a script, and a runner with a store in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
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
use postrider_config::{Dynamic, Static};
use postrider_observe::{
    Metrics, Tracer,
    trace::{HandedOver, TracerSettings},
};
use postrider_store::{
    Accept, Clock, Event, HookFilter, ManualClock, NewHook, NewHookKind, Order, OutgoingEvent,
    QueueId, RetiredHook, RetiredHookFilter, Store, Time,
};
use postrider_webhook::{Runner, WebhookParts};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::patience::patiently;

pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
pub(crate) const OLD_SECRET: &str = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZC0=";

/// A call that a receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A receiver whose answer depends on the path.
///
/// | path | answer |
/// |---|---|
/// | `/status/204` | this status |
/// | `/fail-once` | 500, then 200 |
/// | `/redirect` | a redirect |
/// | `/hang...` | none until a permit of `go_on` |
/// | `/down` | 503 until `up` is true |
#[derive(Clone)]
pub(crate) struct Receiver {
    base: String,
    pub(crate) calls: Arc<watch::Sender<Vec<Call>>>,
    /// Each permit answers one call to `/hang`.
    pub(crate) go_on: Arc<Semaphore>,
    /// Whether `/down` takes calls, and the calls that it took.
    pub(crate) up: Arc<Mutex<(bool, Vec<Call>)>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
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

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Call> {
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

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: ManualClock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: HandedOver,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) running: JoinHandle<()>,
}

impl World {
    pub(crate) fn start(settings: &str) -> Self {
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
        let (tracer, traces) = Tracer::new(TracerSettings::default());
        let metrics = Arc::<Metrics>::default();
        let runner = Runner::new(WebhookParts {
            metrics: Arc::clone(&metrics),
            store: store.clone(),
            tracer,
            config: Arc::new(ArcSwap::from_pointee(dynamic)),
            statics: Arc::new(statics),
            clock: Arc::new(clock.clone()),
        });
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(runner.unwrap().run(stopped));
        Self {
            store,
            clock,
            metrics,
            traces,
            stop,
            running,
        }
    }

    /// Queues a call for an event of one of ann's messages.
    pub(crate) async fn tell(&self, url: &str, message: u64, event: Event) {
        self.tell_of("ann", url, message, event).await;
    }

    pub(crate) async fn tell_of(&self, account: &str, url: &str, message: u64, event: Event) {
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

    /// Lets a receiver answer once, so that it may have more than one call at a time.
    pub(crate) async fn warm(&self, receiver: &Receiver) {
        self.tell(&receiver.url("/status/200"), 999, Event::Delayed)
            .await;
        self.retired(1).await;
    }

    /// Waits until `count` calls have ended, and gives them.
    pub(crate) async fn retired(&self, count: usize) -> Vec<RetiredHook> {
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

    /// Waits until the oldest waiting call has `count` results.
    pub(crate) async fn results(&self, count: usize) {
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

    pub(crate) async fn first_result(&self) {
        self.results(1).await;
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
    }
}

pub(crate) const ALLOWED: &str = "allow_private_addresses = true\n";
