//! The management API over a socket.

#[path = "http/frame.rs"]
mod frame;
#[path = "http/junk.rs"]
mod junk;
#[path = "http/lists.rs"]
mod lists;
#[path = "http/live.rs"]
mod live;
#[path = "http/mail.rs"]
mod mail;
#[path = "http/observe.rs"]
mod observe;
#[path = "http/principals.rs"]
mod principals;
#[path = "http/queue.rs"]
mod queue;
#[path = "http/received.rs"]
mod received;
#[path = "http/reports.rs"]
mod reports;
#[path = "http/secrets.rs"]
mod secrets;
#[path = "http/settings.rs"]
mod settings;
#[path = "http/telemetry.rs"]
mod telemetry;
#[path = "http/traces.rs"]
mod traces;
#[path = "http/troubleshoot.rs"]
mod troubleshoot;
#[path = "http/undelete.rs"]
mod undelete;
#[path = "http/webhooks.rs"]
mod webhooks;

use std::net::SocketAddr;

use postrider_admin::{
    face::http::{Endpoint, Management},
    op::{Single, keys},
};
use postrider_store::{Scope, Time};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Desk, STATICS};

/// Two tenants, each with a domain of its own, and an account with addresses in both.
pub(super) const TENANTS: &str = "[domains.\"example.org\"]\n[domains.\"a.test\"]\n\
    [domains.\"b.test\"]\n\
    [accounts.app]\ndomain = \"example.org\"\ndestinations.\"app@example.org\" = {}\n\
    [accounts.ann]\ndomain = \"a.test\"\ndestinations.\"ann@a.test\" = {}\n\
    [accounts.bob]\ndomain = \"b.test\"\ndestinations.\"bob@b.test\" = {}\n\
    [accounts.both]\ndomain = \"a.test\"\ndestinations.\"both@a.test\" = {}\n\
    destinations.\"both@b.test\" = {}\n";

/// A server of the management API.
pub(super) struct Site {
    pub(super) desk: Desk,
    address: SocketAddr,
    /// Tells the server to stop.
    pub(super) stop: watch::Sender<bool>,
    /// The text of a key with the scope `manage`.
    pub(super) key: String,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) bytes: Vec<u8>,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of an answer with status 200.
    pub(super) fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.bytes));
        self.json().get_mut("data").unwrap().take()
    }

    /// The status and the word of an error.
    pub(super) fn error(&self) -> (u16, String) {
        let body = self.json();
        let word = body.get("error").and_then(Value::as_str);
        (self.status, word.unwrap().to_owned())
    }
}

impl Site {
    pub(super) async fn open() -> Self {
        Self::of(Desk::with_admin(STATICS, TENANTS)).await
    }

    pub(super) async fn of(desk: Desk) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = watch::Sender::new(false);
        let router =
            Management::new(desk.context.clone(), stop.subscribe()).router(Endpoint::default());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let mut site = Self {
            desk,
            address,
            stop,
            key: String::new(),
        };
        site.key = site.make_key(&[Scope::Manage], &[], |_| {}).await;
        site
    }

    /// Requests to a server of another API at this address.
    pub(super) fn at(desk: Desk, address: SocketAddr) -> Self {
        Self {
            desk,
            address,
            stop: watch::Sender::new(false),
            key: String::new(),
        }
    }

    /// The text of the site's key with another secret. Only its first character differs, since the
    /// last one has bits that no key uses.
    pub(super) fn wrong_key(&self) -> String {
        let secret = self.key.match_indices('_').nth(1).unwrap().0 + 1;
        let (id, secret) = self.key.split_at(secret);
        let first = if secret.starts_with('A') { 'B' } else { 'A' };
        format!("{id}{first}{}", &secret[1..])
    }

    /// The text of a new key.
    pub(super) async fn make_key(
        &self,
        scopes: &[Scope],
        domains: &[&str],
        change: impl FnOnce(&mut keys::Add),
    ) -> String {
        let mut add = keys::Add {
            name: "tool".to_owned(),
            account: String::new(),
            scopes: scopes.to_vec(),
            expires: None,
            domains: domains.iter().map(|it| (*it).to_owned()).collect(),
            legacy_status: false,
            tenant: String::new(),
        };
        change(&mut add);
        add.answer(&self.desk.context).await.unwrap().key
    }

    /// Adds a principal. Gives its number.
    pub(super) async fn add(&self, new: &Value) -> u64 {
        let got = self.call("POST /api/principal", &new.to_string()).await;
        got.data().as_u64().unwrap()
    }

    /// Changes a principal.
    pub(super) async fn patch(&self, name: &str, changes: &Value) -> Got {
        let request = format!("PATCH /api/principal/{name}");
        self.call(&request, &changes.to_string()).await
    }

    /// Each of these changes is refused with this status and this word, and the right change before
    /// it in the request is not made.
    pub(super) async fn refuses<const N: usize>(&self, name: &str, wrong: [(Value, u16, &str); N]) {
        for (wrong, status, word) in wrong {
            let first = json!({"action": "set", "field": "description", "value": "Changed"});
            let got = self.patch(name, &json!([first, wrong])).await;
            assert_eq!(got.error(), (status, word.to_owned()), "{wrong}");
        }
    }

    /// A connection to the server.
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request with these header lines, and reads the answer.
    pub(super) async fn send(&self, request: &str, headers: &str, body: &str) -> Got {
        let mut stream = self.connect().await;
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\nHost: mail.example.org\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let headers = String::from_utf8(bytes.get(..end).unwrap().to_vec()).unwrap();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Got {
            status,
            headers,
            bytes: bytes.split_off(end + 4),
        }
    }

    pub(super) async fn with_key(&self, key: &str, request: &str, body: &str) -> Got {
        let headers = format!("Authorization: Bearer {key}\r\n");
        self.send(request, &headers, body).await
    }

    /// A request with the key that may do everything.
    pub(super) async fn call(&self, request: &str, body: &str) -> Got {
        self.with_key(&self.key, request, body).await
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.call(&format!("GET {path}"), "").await.data()
    }

    pub(super) fn now(&self) -> Time {
        self.desk.context.clock.now()
    }
}
