//! Calls of the API, from the HTTP request to what is queued.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::{Request, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use mail_parser::{MessageParser, MimeHeaders};
use postrider_config::{Dynamic, Static};
use postrider_queue::{Delivery, Queue, TcpDialer, dns::MapResolver};
use postrider_store::{
    Credential, ManualClock, QueueFilter, Queued, Store, Time,
    login::{LoginLimiter, LoginLimits, Logins, hash_password},
};
use postrider_webapi::Parts;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tower::ServiceExt;

const PASSWORD: &str = "a good password";

struct World {
    store: Store,
    router: Router,
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: header::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl World {
    async fn start() -> Self {
        Self::with("").await
    }

    async fn with(dynamics: &str) -> Self {
        let statics = "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"ann\"\n\
             [listeners.l]\nips = [\"127.0.0.1\"]\n";
        let statics = Static::parse(statics, "postrider.conf").unwrap();
        let dynamics = format!(
            "[domains.\"example.org\"]\nlocalpart_catchall_separators = [\"+\"]\n[domains.\"off.example\"]\ndisabled = true\n\
             [accounts.ann]\ndomain = \"example.org\"\nfull_name = \"Ann Lee\"\n\
             destinations.\"ann@example.org\" = {{}}\ndestinations.\"ann@off.example\" = {{}}\n\
             from_id_login_addresses = [\"ann+id@example.org\"]\n\
             [accounts.locked]\ndomain = \"example.org\"\ndestinations.\"locked@example.org\" = {{}}\n\
             login_disabled = \"moved away\"\n{dynamics}"
        );
        let dynamic = Dynamic::parse(&dynamics, "domains.conf", &statics).unwrap();
        let store = Store::memory();
        let clock = Arc::new(ManualClock::new(Time(1_700_000_000_000_000)));
        let argon2 = hash_password(PASSWORD).unwrap();
        for account in ["ann", "locked"] {
            let credential = Credential {
                argon2: argon2.clone(),
                set: Time(0),
            };
            store
                .set_credential(account, Some(credential))
                .await
                .unwrap();
        }
        let (config, statics) = (Arc::new(ArcSwap::from_pointee(dynamic)), Arc::new(statics));
        let queue = Queue::new(postrider_queue::Parts {
            store: store.clone(),
            config: Arc::clone(&config),
            statics: Arc::clone(&statics),
            clock: Arc::<ManualClock>::clone(&clock),
            resolver: Arc::new(MapResolver::default()),
            dialer: Arc::new(TcpDialer),
            delivery: Delivery::Remote,
            rng: StdRng::seed_from_u64(1),
        });
        let router = postrider_webapi::router(Parts {
            store: store.clone(),
            queue: Arc::new(queue.unwrap()),
            config,
            statics,
            clock,
            logins: Arc::new(Logins::new(store.clone())),
            limiter: Arc::new(LoginLimiter::new(LoginLimits::default())),
            hostname: "mail.example.org".parse().unwrap(),
            max_message_size: 100_000,
            path: "/webapi/".into(),
            forwarded: false,
            tls: false,
        });
        Self { store, router }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let mut request = request;
        let remote: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(remote));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, verb: &str, path: &str) -> Answer {
        self.ask(
            Request::builder()
                .method(verb)
                .uri(path)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    async fn post(&self, login: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let mut request = Request::post("/webapi/v0/Send");
        if !login.is_empty() {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(login)));
        }
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        self.ask(request.body(body.into()).unwrap()).await
    }

    async fn send_as(&self, login: &str, request: &Value) -> Answer {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("request", &request.to_string())
            .finish();
        let login = format!("{login}:{PASSWORD}");
        self.post(&login, "application/x-www-form-urlencoded", form)
            .await
    }

    async fn send(&self, request: &Value) -> Answer {
        self.send_as("ann@example.org", request).await
    }

    fn queued(&self) -> Vec<Queued> {
        self.store
            .list(&QueueFilter::default(), None, 100)
            .unwrap()
            .items
    }

    fn text(&self, queued: &Queued) -> String {
        let body = self.store.body(queued.body).unwrap();
        String::from_utf8(body.read(0..body.len()).unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn paths_and_verbs() {
    let world = World::start().await;
    for (verb, path, status) in [
        ("GET", "/webapi", 301),
        ("GET", "/webapi/", 303),
        ("POST", "/webapi/", 405),
        ("GET", "/webapi/v0/", 200),
        ("PUT", "/webapi/v0/", 200),
        ("GET", "/webapi/v0/Send", 200),
        ("HEAD", "/webapi/v0/Send", 405),
        ("PUT", "/webapi/v0/Send", 405),
        ("GET", "/webapi/v0/send", 404),
        ("POST", "/webapi/v0/Nothing", 404),
        ("GET", "/webapi/v2/", 404),
    ] {
        let answer = world.get(verb, path).await;
        assert_eq!(answer.status, status, "{verb} {path}: {}", answer.body);
    }
    assert_eq!(
        world.get("GET", "/webapi/").await.headers["location"],
        "/webapi/v0/"
    );
    assert!(
        world.get("GET", "/webapi/v0/Send").await.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let host = |host: &str| {
        Request::get("/webapi/v0/")
            .header("host", host)
            .body(Body::empty())
            .unwrap()
    };
    for known in [
        "127.0.0.1:1080",
        "[::1]:1080",
        "localhost",
        "mail.example.org",
        "MAIL.example.org:80",
    ] {
        assert_eq!(world.ask(host(known)).await.status, 200, "{known}");
    }
    assert_eq!(world.ask(host("evil.example")).await.status, 404);
}

#[tokio::test]
async fn callers_must_say_who_they_are_and_may_not_guess_for_long() {
    let world = World::start().await;
    let form = "application/x-www-form-urlencoded";
    let answer = world.post("", form, "request={}").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.headers["www-authenticate"], "Basic realm=webapi");
    let answer = world
        .post(
            &format!("locked@example.org:{PASSWORD}"),
            form,
            "request={}",
        )
        .await;
    assert!(
        answer.status == 401 && answer.body.contains("moved away"),
        "{}",
        answer.body
    );
    let wrong = || world.post("locked@example.org:wrong", form, "request={}");
    assert!(!wrong().await.body.contains("moved away"));
    for _ in 0..8 {
        assert_eq!(wrong().await.status, 401);
    }
    let right = format!("ann@example.org:{PASSWORD}");
    assert_eq!(world.post(&right, form, "request={}").await.status, 429);
}

#[tokio::test]
async fn forms_and_json_that_can_not_be_read_are_protocol_errors() {
    let world = World::start().await;
    let login = format!("ann@example.org:{PASSWORD}");
    for (kind, body) in [
        ("", "request={}"),
        ("application/json", "{}"),
        ("application/x-www-form-urlencoded", ""),
        ("application/x-www-form-urlencoded", "request="),
        ("application/x-www-form-urlencoded", "request=%7b"),
        (
            "application/x-www-form-urlencoded",
            "request=%7b%22Nothing%22:1%7d",
        ),
        ("application/x-www-form-urlencoded", "request=[]"),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{}",
        ),
        ("multipart/form-data", "--b--"),
    ] {
        let answer = world.post(&login, kind, body).await;
        assert_eq!(answer.status, 400, "{kind} {body}");
        assert_eq!(
            answer.json()["Code"],
            "protocol",
            "{kind} {body}: {}",
            answer.body
        );
        assert!(answer.body.ends_with("}\n"));
    }
    let large = format!("request={}", "x".repeat(11 << 20));
    let answer = world
        .post(&login, "application/x-www-form-urlencoded", large)
        .await;
    assert_eq!(answer.json()["Code"], "protocol", "{}", answer.body);
    assert!(world.queued().is_empty());
}

#[tokio::test]
async fn each_fault_has_its_code_in_the_order_of_the_contract() {
    let world = World::start().await;
    let to = json!([{"Address": "b@example.com"}]);
    for (request, code) in [
        (json!({"To": [{"Address": "bad"}]}), "missingBody"),
        (
            json!({"Text": "x", "From": [{"Address": "a"}, {"Address": "b"}]}),
            "multipleFrom",
        ),
        (
            json!({"Text": "x", "From": [{"Address": "bad"}]}),
            "badAddress",
        ),
        (
            json!({"Text": "x", "To": [{"Address": "bad"}], "From": [{"Address": "x@else.example"}]}),
            "badAddress",
        ),
        (
            json!({"Text": "x", "From": [{"Address": "ann@off.example"}]}),
            "domainDisabled",
        ),
        (
            json!({"Text": "x", "From": [{"Address": "x@else.example"}]}),
            "badFrom",
        ),
        (json!({"Text": "x"}), "noRecipients"),
        (
            json!({"Text": "x", "To": to, "ReplyTo": [{"Address": "bad"}]}),
            "badAddress",
        ),
        (json!({"Text": "x", "To": to, "Subject": "a\nb"}), "user"),
        (
            json!({"Text": "x", "To": to, "Headers": [["X-A", "b\r\nc"]]}),
            "user",
        ),
        (
            json!({"Text": "x", "To": to, "AttachedFiles": [{"Data": "!"}]}),
            "user",
        ),
        (
            json!({"Text": "x", "To": to, "MessageID": "1@x"}),
            "malformedMessageID",
        ),
        (
            json!({"Text": "x".repeat(100_001), "To": to}),
            "messageTooLarge",
        ),
        (
            json!({"Text": "x", "To": to, "FutureRelease": "2024-01-20T00:00:00Z"}),
            "user",
        ),
    ] {
        let answer = world.send(&request).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.json()["Code"], code, "{}", answer.body);
        assert!(!answer.json()["Message"].as_str().unwrap().is_empty());
    }
    assert!(world.queued().is_empty());
}

#[tokio::test]
async fn a_message_is_queued_for_each_recipient() {
    let world = World::start().await;
    let answer = world
        .send(&json!({
            "to": [{"name": "B", "ADDRESS": "b@Example.com"}], "CC": [{"Address": "c@example.com"}],
            "BCC": [{"Address": "b@Example.com"}], "Subject": "Hi", "Text": "Hello", "Extra": {"Order": "7"},
            "RequireTLS": false, "FutureRelease": "2023-11-15T00:00:00Z", "From": null,
        }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.headers["content-type"],
        "application/json; charset=utf-8"
    );
    let json = answer.json();
    let addresses: Vec<&str> = json["Submissions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["Address"].as_str().unwrap())
        .collect();
    assert_eq!(
        addresses,
        ["b@Example.com", "c@example.com", "b@Example.com"]
    );
    let queued = world.queued();
    let ids: Vec<u64> = queued.iter().map(|queued| queued.id.0).collect();
    assert_eq!(ids, [ids[0], ids[0] + 1, ids[0] + 2]);
    assert_eq!(json["Submissions"][2]["QueueMsgID"], ids[2]);
    assert_eq!(json["Submissions"][0]["FromID"], "");
    let first = &queued[0];
    assert_eq!(first.common.message_id, json["MessageID"].as_str().unwrap());
    assert_eq!(first.common.extra["Order"], "7");
    assert_eq!(first.common.require_tls, Some(false));
    assert_eq!(first.next_attempt.to_string(), "2023-11-15T00:00:00Z");
    assert_eq!(first.reverse_path.to_string(), "ann@example.org");
    let text = world.text(first);
    assert_eq!(first.common.size, text.len() as u64);
    assert!(
        text.starts_with("Received: from mail.example.org by mail.example.org\r\n\twith HTTP id "),
        "{text}"
    );
    assert!(
        !text.contains("\r\n\tfor <") && !text.contains("Bcc"),
        "{text}"
    );
    assert!(text.contains("\r\nFrom: Ann Lee <ann@example.org>\r\nTo: B <b@example.com>\r\nCc: <c@example.com>\r\nSubject: Hi\r\n"), "{text}");
}

#[tokio::test]
async fn a_login_that_asks_for_it_gets_fromids() {
    let world = World::start().await;
    let request = json!({"To": [{"Address": "b@example.com"}], "Text": "x"});
    let json = world.send_as("ann+id@example.org", &request).await.json();
    let from_id = json["Submissions"][0]["FromID"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(from_id.len(), 22);
    assert_eq!(
        world.queued()[0].reverse_path.to_string(),
        format!("ann+{from_id}@example.org")
    );
}

#[tokio::test]
async fn a_copy_is_kept_on_request_and_shows_blind_copies() {
    let world = World::start().await;
    let request = json!({"BCC": [{"Address": "b@example.com"}], "Text": "x", "SaveSent": true});
    assert_eq!(world.send(&request).await.status, 200);
    let mails = world
        .store
        .list_mails("ann", Some("Sent"), None, 10)
        .unwrap()
        .items;
    assert_eq!(mails[0].flags, ["$notjunk", "\\seen"]);
    let body = world.store.body(mails[0].body).unwrap();
    let text = String::from_utf8(body.read(0..body.len()).unwrap().to_vec()).unwrap();
    assert!(text.starts_with("Bcc: <b@example.com>\r\nFrom: "), "{text}");
}

#[tokio::test]
async fn files_come_in_the_json_and_as_uploads() {
    let world = World::start().await;
    let request = json!({
        "To": [{"Address": "b@example.com"}], "Text": "see", "HTML": "<p>see</p>",
        "AttachedFiles": [{"Name": "a.txt", "Data": "aGVs\r\nbG8="}],
    });
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"attachedfile\"; filename=\"b.bin\"\r\n\r\n\u{1}\u{2}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"other\"; filename=\"x\"\r\n\r\nignored\r\n\
         --b\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{request}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"inlinefile\"; filename=\"i.png\"\r\n\
         Content-Type: image/png\r\nContent-ID: <i@x>\r\n\r\npng\r\n--b--\r\n"
    );
    let login = format!("ann@example.org:{PASSWORD}");
    let answer = world
        .post(&login, "multipart/form-data; boundary=b", body)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = world.text(&world.queued()[0]);
    let message = MessageParser::default().parse(text.as_bytes()).unwrap();
    let files: Vec<(&str, &[u8])> = message
        .parts
        .iter()
        .filter_map(|part| Some((part.attachment_name()?, part.contents())))
        .collect();
    assert_eq!(
        files,
        [
            ("i.png", &b"png"[..]),
            ("a.txt", b"hello"),
            ("b.bin", b"\x01\x02")
        ]
    );

    let large = format!(
        "--b\r\nContent-Disposition: form-data; name=\"attachedfile\"; filename=\"b\"\r\n\r\n{}\r\n--b--\r\n",
        "x".repeat(100_001)
    );
    let answer = world
        .post(&login, "multipart/form-data; boundary=b", large)
        .await;
    assert_eq!(answer.json()["Code"], "messageTooLarge", "{}", answer.body);
}

#[tokio::test]
async fn other_alphabets_in_addresses_need_smtputf8() {
    let world = World::start().await;
    let request = json!({"To": [{"Name": "J\u{f6}rg", "Address": "j\u{f6}rg@example.com"}], "Text": "x", "Subject": "\u{e4}"});
    assert_eq!(world.send(&request).await.status, 200);
    let queued = world.queued();
    assert!(queued[0].common.smtputf8);
    let text = world.text(&queued[0]);
    assert!(
        text.contains("Subject: \u{e4}\r\n") && text.contains("<j\u{f6}rg@example.com>"),
        "{text}"
    );
}
