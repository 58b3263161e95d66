//! The webapi over HTTP, with a store in memory.

use std::{net::SocketAddr, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::{Request, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use postrider_config::{Dynamic, Live, Static};
use postrider_dns::FakeResolver;
use postrider_observe::Metrics;
use postrider_queue::{DeliveryMode, Queue, TcpDialer};
use postrider_receive::login::{LoginLimiter, LoginLimits, Logins, hash_password};
use postrider_store::{Credential, ManualClock, Options, Order, QueueFilter, Queued, Store, Time};
use postrider_webapi::{Endpoint, HostNames, Webapi, WebapiParts};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The password of each account.
pub(crate) const PASSWORD: &str = "a good password";

/// A server and its parts.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) config: Live,
    pub(crate) metrics: Arc<Metrics>,
    address: SocketAddr,
    /// Set to true to stop the server.
    pub(crate) running: watch::Sender<bool>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    /// As text. Bytes that are no text are replaced.
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Store::memory(), 0, 100_000).await
    }

    /// A server behind two proxies, which give the address of the client.
    pub(crate) async fn behind_proxy() -> Self {
        Self::with(Store::memory(), 2, 100_000).await
    }

    /// A server with a store in this folder, and with larger messages.
    pub(crate) async fn on_disk(folder: &Path) -> Self {
        let store = Store::open(Options::new(folder)).unwrap();
        Self::with(store, 0, 10_000_000).await
    }

    async fn with(store: Store, forwarded_hops: usize, max_message_size: u64) -> Self {
        let statics = "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"ann\"\n\
             [listeners.l]\nips = [\"127.0.0.1\"]\n";
        let statics = Static::parse(statics, "postrider.conf").unwrap();
        let dynamics = "[domains.\"example.org\"]\nlocalpart_catchall_separators = [\"+\"]\n[domains.\"off.example\"]\ndisabled = true\n\
             [accounts.ann]\ndomain = \"example.org\"\nfull_name = \"Ann Lee\"\nkeep_retired_message_period = \"1h\"\n\
             destinations.\"ann@example.org\" = {}\ndestinations.\"help@example.org\" = { full_name = \"Helpdesk\" }\ndestinations.\"ann@off.example\" = {}\n\
             from_id_login_addresses = [\"ann+id@example.org\"]\n\
             outgoing_webhook = { url = \"https://app.example/events\", version = 1 }\n\
             [accounts.bob]\ndomain = \"example.org\"\ndestinations.\"bob@example.org\" = { mailbox = \"Shop\" }\n\
             max_outgoing_messages_per_day = 5\nmax_first_time_recipients_per_day = 3\n\
             [accounts.locked]\ndomain = \"example.org\"\ndestinations.\"locked@example.org\" = {}\n\
             login_disabled = \"moved away\"\n";
        let dynamic = Dynamic::parse(dynamics, "domains.conf", &statics).unwrap();
        let clock = Arc::new(ManualClock::new(Time(1_700_000_000_000_000)));
        let argon2 = hash_password(PASSWORD).unwrap();
        for account in ["ann", "bob", "locked"] {
            let credential = Credential {
                argon2: argon2.clone(),
                set: Time(0),
                ..Credential::default()
            };
            store
                .set_credential(account, Some(credential))
                .await
                .unwrap();
        }
        let (config, statics) = (Arc::new(ArcSwap::from_pointee(dynamic)), Arc::new(statics));
        let queue = Queue::new(postrider_queue::QueueParts {
            metrics: Arc::default(),
            store: store.clone(),
            tracer: postrider_observe::Tracer::off(),
            config: Arc::clone(&config),
            statics: Arc::clone(&statics),
            clock: Arc::<ManualClock>::clone(&clock),
            resolver: Arc::new(FakeResolver::default()),
            dialer: Arc::new(TcpDialer),
            delivery: DeliveryMode::Remote,
            rng: StdRng::seed_from_u64(1),
        });
        let (running, stopping) = watch::channel(false);
        let (queue, metrics) = (Arc::new(queue.unwrap()), Arc::<Metrics>::default());
        let webapi = Webapi::new(WebapiParts {
            metrics: Arc::clone(&metrics),
            store: store.clone(),
            queue: Arc::clone(&queue),
            config: Arc::clone(&config),
            statics,
            clock: Arc::<ManualClock>::clone(&clock),
            logins: Arc::new(Logins::new(store.clone())),
            limiter: Arc::new(LoginLimiter::new(LoginLimits::default())),
            hooks: Arc::default(),
            unsubscribe_key: [7; 32].into(),
            stopping,
        });
        let router = webapi.router(Endpoint {
            hostname: "mail.example.org".parse().unwrap(),
            hosts: HostNames::default(),
            max_message_size,
            path: "/webapi/".into(),
            public_url: "https://mail.example.org/webapi/".into(),
            forwarded_hops,
            tls: false,
        });
        // The server takes this address for the client's.
        let remote: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        let router = router.layer(Extension(ConnectInfo(remote)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            store,
            clock,
            queue,
            config,
            metrics,
            address,
            running,
        }
    }

    /// A connection, for bytes that no HTTP client sends.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn exchange(&self, mut request: Request<Body>) -> Response<Incoming> {
        let host = self.address.to_string().parse().unwrap();
        request.headers_mut().entry(header::HOST).or_insert(host);
        let stream = TokioIo::new(self.connect().await);
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.exchange(request).await.into_parts();
        let body = to_bytes(Body::new(body), 8 << 20).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    /// The body of an answer, as a stream.
    pub(crate) async fn open(&self, request: Request<Body>) -> Body {
        let response = self.exchange(request).await;
        assert_eq!(response.status(), 200);
        Body::new(response.into_body())
    }

    pub(crate) async fn get(&self, verb: &str, path: &str) -> Answer {
        self.ask(
            Request::builder()
                .method(verb)
                .uri(path)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    pub(crate) async fn post(
        &self,
        login: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Answer {
        self.post_to("Send", login, content_type, body).await
    }

    async fn post_to(
        &self,
        method: &str,
        login: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::post(format!("/webapi/v0/{method}"));
        if !login.is_empty() {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(login)));
        }
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        self.ask(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn send_as(&self, login: &str, request: &Value) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("request", &request.to_string())
            .finish();
        let login = format!("{login}:{PASSWORD}");
        self.post(&login, "application/x-www-form-urlencoded", form)
            .await
    }

    /// Calls a method of v0 as ann, with this text as the field `request`.
    pub(crate) async fn call(&self, method: &str, request: &str) -> Answer {
        self.call_as("ann@example.org", method, request).await
    }

    pub(crate) async fn call_as(&self, login: &str, method: &str, request: &str) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("request", request)
            .finish();
        let login = format!("{login}:{PASSWORD}");
        let form_type = "application/x-www-form-urlencoded";
        self.post_to(method, &login, form_type, form).await
    }

    /// Sends with an idempotency key.
    pub(crate) async fn send_once(&self, login: &str, key: &str, request: &Value) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("request", &request.to_string())
            .finish();
        let login = STANDARD.encode(format!("{login}:{PASSWORD}"));
        let request = Request::post("/webapi/v0/Send")
            .header("authorization", format!("Basic {login}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("idempotency-key", key)
            .body(form.into());
        self.ask(request.unwrap()).await
    }

    /// Calls a method of v1 as ann.
    pub(crate) async fn call_v1(&self, method: &str, request: &Value) -> Answer {
        let login = STANDARD.encode(format!("ann@example.org:{PASSWORD}"));
        let request = Request::post(format!("/webapi/v1/{method}"))
            .header("authorization", format!("Basic {login}"))
            .header("content-type", "application/json")
            .body(request.to_string().into());
        self.ask(request.unwrap()).await
    }

    pub(crate) async fn send(&self, request: &Value) -> Answer {
        self.send_as("ann@example.org", request).await
    }

    pub(crate) async fn queued(&self) -> Vec<Queued> {
        self.store
            .list(&QueueFilter::default(), None, Order::Ascending, 100)
            .await
            .unwrap()
            .items
    }

    pub(crate) async fn text(&self, queued: &Queued) -> String {
        let stored = self.store.queued_message(queued).await.unwrap();
        String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap()
    }
}
