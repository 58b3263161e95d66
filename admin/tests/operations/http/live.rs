//! Events: the list, server-sent events, and the WebSocket.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::StreamExt;
use postrider_admin::op::passwords;
use postrider_store::{Accept, ApiKeyId, Event, NewEvent, OutgoingEvent, QueueId, Scope, Time};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use super::Site;

/// The longest wait for a frame. No test waits for it.
const LIMIT: Duration = Duration::from_secs(120);

/// Writes an event into the log of an account.
async fn log(site: &Site, account: &str, event: Event, recipient: &str) {
    let event = NewEvent {
        account: account.to_owned(),
        recipient: recipient.to_owned(),
        told: OutgoingEvent {
            event,
            dsn: false,
            suppressing: false,
            queue_id: QueueId(7),
            from_id: String::new(),
            message_id: "<1@a.test>".to_owned(),
            subject: "Hello".to_owned(),
            queued: site.now(),
            code: 250,
            enhanced: None,
            error: String::new(),
            extra: [].into(),
        },
        keep_until: Time(i64::MAX),
    };
    let unit = Accept {
        events: vec![event],
        ..Accept::default()
    };
    site.desk.context.store.accept(unit).await.unwrap();
}

/// A stream of server-sent events.
pub(super) struct Stream {
    stream: TcpStream,
    text: String,
}

impl Stream {
    async fn open(site: &Site, key: &str, query: &str, headers: &str) -> Self {
        let login = format!("Authorization: Bearer {key}\r\n{headers}");
        Self::at(site, &format!("/api/events/live{query}"), &login).await
    }

    /// The stream at a path, with these header fields.
    pub(super) async fn at(site: &Site, path: &str, headers: &str) -> Self {
        let mut stream = site.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: mail.example.org\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let text = String::new();
        Self { stream, text }
    }

    /// Reads up to the end of this text, and gives all that came since the last call.
    pub(super) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            assert_ne!(self.read().await, 0, "{end:?} did not come: {}", self.text);
        }
    }

    /// Reads until the server ends the stream.
    async fn end(mut self) -> String {
        while self.read().await != 0 {
            // The last chunk is empty.
            if self.text.ends_with("\r\n0\r\n\r\n") || self.text.starts_with("0\r\n\r\n") {
                break;
            }
        }
        self.text
    }

    async fn read(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(LIMIT, self.stream.read(&mut buffer));
        let length = read.await.unwrap().unwrap();
        let read = buffer.get(..length).unwrap();
        self.text.push_str(std::str::from_utf8(read).unwrap());
        length
    }

    /// The next event: its id, its name and its data.
    pub(super) async fn event(&mut self) -> (u64, String, Value) {
        let text = self.until("\n\n").await;
        let field = |name: &str| {
            let mut lines = text.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
        };
        let data = serde_json::from_str(field("data: ")).unwrap_or_default();
        let id = field("id: ").parse().unwrap_or_default();
        (id, field("event: ").to_owned(), data)
    }
}

#[tokio::test]
async fn events_are_listed_by_account() {
    let site = Site::open().await;
    let none = json!({"items": [], "total": 0});
    assert_eq!(site.get("/api/events").await, none);
    assert_eq!(
        site.get("/api/events?account=ann&event=delivered").await,
        none
    );
    assert_eq!(site.get("/api/events?event=nothing").await, none);
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_goes_on_after_the_last_event_seen() {
    let site = Site::open().await;
    log(&site, "ann", Event::Delivered, "old@c.test").await;
    let mut all = Stream::open(&site, &site.key, "", "").await;
    let head = all.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    for field in ["content-type: text/event-stream", "cache-control: no-cache"] {
        assert!(head.contains(field), "{field}: {head}");
    }
    let (begin, _, data) = all.event().await;
    assert_eq!(data, Value::Null);
    log(&site, "ann", Event::Delivered, "x@c.test").await;
    log(&site, "bob", Event::Failed, "y@c.test").await;
    let (first, name, data) = all.event().await;
    assert!(first > begin);
    assert_eq!(
        (&*name, &data["recipient"]),
        ("delivered", &json!("x@c.test"))
    );
    // As a webhook does, an event tells codes of errors only.
    assert_eq!(
        (&data["smtp_code"], &data["smtp_enhanced_code"]),
        (&json!(0), &json!(""))
    );
    // The list has the same objects.
    let list = site.get("/api/events?account=ann&recipient=x@c.test").await;
    assert_eq!(list["items"], json!([data]));
    let (second, name, data) = all.event().await;
    assert_eq!((&*name, &data["account"]), ("failed", &json!("bob")));

    let last = format!("Last-Event-ID: {first}\r\n");
    let mut again = Stream::open(&site, &site.key, "", &last).await;
    again.until("\r\n\r\n").await;
    assert_eq!(again.event().await.0, second);
    let whole = "?after=1970-01-01T00:00:01Z&event=delivered&account=ann";
    let mut history = Stream::open(&site, &site.key, whole, "").await;
    history.until("\r\n\r\n").await;
    assert_eq!(history.event().await.0, begin);
    assert_eq!(history.event().await.0, first);
    log(&site, "ann", Event::Failed, "z@c.test").await;
    log(&site, "ann", Event::Delivered, "z@c.test").await;
    let (_, name, data) = history.event().await;
    assert_eq!(
        (&*name, &data["recipient"]),
        ("delivered", &json!("z@c.test"))
    );
    let mut wrong = Stream::open(&site, &site.key, "", "Last-Event-ID: x\r\n").await;
    assert!(wrong.until("\r\n").await.contains(" 400 "));
}

#[tokio::test]
async fn a_tenant_hears_of_its_own_accounts_only() {
    let site = Site::open().await;
    let key = site
        .make_key(&[Scope::ManageObserve], &["a.test"], |_| {})
        .await;
    let mut tenant = Stream::open(&site, &key, "?after=1970-01-01T00:00:01Z", "").await;
    tenant.until("\r\n\r\n").await;
    for account in ["bob", "both", "app", "gone", "ann"] {
        log(&site, account, Event::Delivered, "x@c.test").await;
    }
    assert_eq!(tenant.event().await.2["account"], json!("ann"));
    let mut others = Stream::open(&site, &key, "?account=bob", "").await;
    assert!(others.until("\r\n").await.contains(" 404 "));
    let scope = site.make_key(&[Scope::ManageQueue], &[], |_| {}).await;
    let mut scope = Stream::open(&site, &scope, "", "").await;
    assert!(scope.until("\r\n").await.contains(" 403 "));
}

#[tokio::test]
async fn a_key_has_sixteen_streams_at_a_time() {
    let site = Site::open().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = Stream::open(&site, &site.key, "", "").await;
        assert!(stream.until("\r\n").await.contains(" 200 "));
        streams.push(stream);
    }
    let mut more = Stream::open(&site, &site.key, "", "").await;
    let head = more.until("\r\n\r\n").await.to_lowercase();
    assert!(
        head.contains(" 429 ") && head.contains("retry-after: "),
        "{head}"
    );
    // Other calls, and other keys, have places of their own.
    assert_eq!(site.get("/api/queue/status").await, json!(true));
    let other = site.make_key(&[Scope::Manage], &[], |_| {}).await;
    let mut other = Stream::open(&site, &other, "", "").await;
    assert!(other.until("\r\n").await.contains(" 200 "));
    streams.pop();
    // The server learns soon that the client has gone.
    loop {
        let mut again = Stream::open(&site, &site.key, "", "").await;
        if again.until("\r\n").await.contains(" 200 ") {
            break;
        }
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_key_and_with_the_server() {
    let site = Site::open().await;
    let expires = site.now().after(Duration::from_secs(60));
    let expiring = site
        .make_key(&[Scope::Manage], &[], |add| add.expires = Some(expires))
        .await;
    let removed = site.make_key(&[Scope::Manage], &[], |_| {}).await;
    let other = site.make_key(&[Scope::Manage], &[], |_| {}).await;
    let mut streams = Vec::new();
    for key in [&expiring, &removed, &other] {
        let mut stream = Stream::open(&site, key, "", "").await;
        stream.until("\n\n").await;
        streams.push(stream);
    }
    let [expiring, removed, mut other] = streams.try_into().ok().unwrap();
    let store = &site.desk.context.store;
    // The first key has the number 1.
    store.remove_api_key(ApiKeyId(3)).await.unwrap();
    removed.end().await;
    site.desk.clock.advance(Duration::from_secs(60));
    // The server looks at all keys, and not only after a while.
    store.remove_api_key(ApiKeyId(1)).await.unwrap();
    expiring.end().await;
    log(&site, "ann", Event::Delivered, "x@c.test").await;
    assert_eq!(other.event().await.2["account"], json!("ann"));
    site.stop.send(true).unwrap();
    other.end().await;
}

#[tokio::test]
async fn silence_is_broken_by_pings() {
    let site = Site::open().await;
    let mut stream = Stream::open(&site, &site.key, "", "").await;
    stream.until("\n\n").await;
    // From here on the clock moves as soon as both sides wait.
    tokio::time::pause();
    let (_, name, data) = stream.event().await;
    assert_eq!((&*name, data), ("ping", json!({"interval": 30000})));
}

/// A WebSocket, or the status of the refusal.
async fn socket(
    site: &Site,
    login: &str,
    origin: Option<&str>,
) -> Result<WebSocketStream<TcpStream>, u16> {
    socket_at(site, "/api/events/live", login, origin).await
}

/// The same, at a path.
pub(super) async fn socket_at(
    site: &Site,
    path: &str,
    login: &str,
    origin: Option<&str>,
) -> Result<WebSocketStream<TcpStream>, u16> {
    let request = format!("ws://mail.example.org{path}");
    let mut request = request.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("authorization", HeaderValue::from_str(login).unwrap());
    if let Some(origin) = origin {
        headers.insert("origin", HeaderValue::from_str(origin).unwrap());
    }
    match client_async(request, site.connect().await).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_websocket_gives_the_data_of_each_event() {
    let site = Site::open().await;
    assert_eq!(socket(&site, "Bearer x", None).await.err(), Some(401));
    let bearer = format!("Bearer {}", site.key);
    let mut open = socket(&site, &bearer, None).await.unwrap();
    log(&site, "ann", Event::Delivered, "x@c.test").await;
    let Message::Text(text) = open.next().await.unwrap().unwrap() else {
        panic!("no text");
    };
    let data: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(site.get("/api/events").await["items"], json!([data]));
    // From here on the clock moves as soon as both sides wait.
    tokio::time::pause();
    let ping = open.next().await.unwrap().unwrap();
    assert!(ping.is_ping(), "{ping:?}");
    tokio::time::resume();
    site.stop.send(true).unwrap();
    loop {
        match open.next().await.unwrap().unwrap() {
            Message::Ping(_) => {}
            Message::Close(Some(frame)) => break assert_eq!(u16::from(frame.code), 1001),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_page_of_another_site_opens_no_websocket_with_a_remembered_password() {
    let site = Site::open().await;
    let file = site.desk.context.statics.admin_password_file.clone();
    passwords::set_admin_password(&file.unwrap(), "correct horse").unwrap();
    let basic = format!("Basic {}", STANDARD.encode("admin:correct horse"));
    for (origin, expected) in [
        (None, None),
        (Some("https://mail.example.org"), None),
        (Some("https://evil.test"), Some(403)),
        (Some("null"), Some(403)),
    ] {
        let got = socket(&site, &basic, origin).await;
        assert_eq!(got.err(), expected, "{origin:?}");
    }
}
