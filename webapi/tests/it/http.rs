//! Paths, statuses, logins, forms.

use std::time::Duration;

use axum::{body::Body, http::Request};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_receive::login::{KeyText, make_app_password, make_otp};
use postrider_store::{ApiKeyId, AppPassword, CredentialChange, NewApiKey, Scope, Time};
use rand::{SeedableRng, rngs::StdRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{PASSWORD, World};

#[tokio::test]
async fn paths_and_verbs() {
    let world = World::start().await;
    for (verb, path, status) in [
        ("GET", "/webapi", 301),
        ("GET", "/webapi/", 303),
        ("HEAD", "/webapi/", 405),
        ("POST", "/webapi/", 405),
        ("GET", "/webapi/v0/", 200),
        ("GET", "/webapi/openapi.json", 200),
        ("PUT", "/webapi/v0/", 200),
        ("GET", "/webapi/v0/Send", 200),
        ("HEAD", "/webapi/v0/Send", 405),
        ("PUT", "/webapi/v0/Send", 405),
        ("GET", "/webapi/v0/send", 404),
        ("POST", "/webapi/v0/Nothing", 404),
        ("POST", "/webapi/v1/EventStream", 405),
        ("GET", "/webapi/v2/", 404),
        ("GET", "/webapi/v0//Send", 200),
        ("GET", "/webapi//v0/Send", 200),
        ("GET", "/webapi/v0/../v0/Send", 200),
        ("POST", "/webapi/v0/../v0/Send", 401),
        ("GET", "/webapi/v0/../../webapi/v0/Send", 404),
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
    let page = world.get("GET", "/webapi/v0/Send").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
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
async fn callers_must_log_in_and_may_not_guess_for_long() {
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
    for _ in 0..9 {
        assert_eq!(wrong().await.status, 401);
    }
    world.clock.advance(Duration::from_millis(12_500));
    let refused = wrong().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers["retry-after"], "48");
    assert!(refused.body.contains("login_failures_per_network"));
    assert!(refused.body.contains("in 48 seconds"), "{}", refused.body);
    // Other accounts at this address are not concerned.
    let right = format!("ann@example.org:{PASSWORD}");
    let answer = world.post(&right, form, "request={}").await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn with_one_time_codes_an_app_password_logs_in_and_the_password_does_not() {
    let world = World::start().await;
    let rng = &mut StdRng::seed_from_u64(7);
    let (text, hash) = make_app_password(rng);
    let (otp, _) = make_otp("ann", "mail", rng).unwrap();
    let change = CredentialChange {
        otp: Some(Some(otp)),
        add: vec![AppPassword {
            name: "shop".into(),
            hash,
            created: Time(0),
            last_used: None,
            keys: None,
        }],
        ..CredentialChange::default()
    };
    let changed = world.store.change_credential("ann", change, Time(0)).await;
    assert!(changed.unwrap());
    let form = "application/x-www-form-urlencoded";
    let main = format!("ann@example.org:{PASSWORD}");
    let refused = world.post(&main, form, "").await;
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("app password"), "{}", refused.body);
    let app = format!("ann@example.org:{text}");
    let answer = world.post(&app, form, "").await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn a_valid_key_is_never_refused_for_failures() {
    let world = World::start().await;
    let (secret, hash) = KeyText::secret(&mut StdRng::seed_from_u64(7));
    let key = NewApiKey {
        name: "shop".into(),
        account: "ann".into(),
        hash,
        scopes: vec![Scope::Send],
        created: Time(0),
        expires: None,
        domains: Vec::new(),
        legacy_status: false,
        tenant: String::new(),
    };
    let id = world.store.add_api_key(key).await.unwrap();
    let form = "application/x-www-form-urlencoded";
    for n in 0..100 {
        let wrong = KeyText::new(ApiKeyId(1000 + n), [1; 32]);
        let wrong = format!("ann@example.org:{wrong}");
        assert_eq!(world.post(&wrong, form, "").await.status, 401);
    }
    let right = format!("ann@example.org:{PASSWORD}");
    assert_eq!(world.post(&right, form, "").await.status, 429);
    let wrong = format!("ann@example.org:{}", KeyText::new(id, [1; 32]));
    assert_eq!(world.post(&wrong, form, "").await.status, 429);
    let valid = format!("ann@example.org:{}", KeyText::new(id, secret));
    assert_eq!(world.post(&valid, form, "").await.status, 400);
}

#[tokio::test]
async fn wrong_forms_and_wrong_json_are_protocol_errors() {
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
            "application/x-www-form-urlencoded",
            "request=%7b%22Text%22:%22h%e4%22%7d",
        ),
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
    // A plus is a space, and names are encoded like values.
    let fine =
        "x=1&re%71uest=%7b%22To%22:[{%22Address%22:%22b@x.example%22}],%22Text%22:%22a+%2b+b%22}";
    let answer = world
        .post(&login, "application/x-www-form-urlencoded", fine)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let queued = world.queued().await;
    assert!(world.text(&queued[0]).await.ends_with("\r\n\r\na + b\r\n"));
    let large = format!("request={}", "x".repeat(11 << 20));
    let answer = world
        .post(&login, "application/x-www-form-urlencoded", large)
        .await;
    assert_eq!(answer.json()["Code"], "protocol", "{}", answer.body);
    let packed = Request::post("/webapi/v0/Send")
        .header(
            "authorization",
            format!("Basic {}", STANDARD.encode(&login)),
        )
        .header("content-type", "application/x-www-form-urlencoded")
        .header("content-encoding", "gzip");
    let answer = world.ask(packed.body("x".into()).unwrap()).await;
    assert_eq!(answer.json()["Code"], "protocol", "{}", answer.body);
    assert!(answer.body.contains("Content-Encoding"), "{}", answer.body);
    assert_eq!(world.queued().await.len(), 1);
}

#[tokio::test]
async fn a_right_login_clears_the_failed_ones() {
    let world = World::start().await;
    let form = "application/x-www-form-urlencoded";
    let right = format!("ann@example.org:{PASSWORD}");
    for _ in 0..3 {
        for wrong in [
            "ann@example.org:no",
            "nobody@example.org:no",
            "x@else.example:no",
            "ann:",
        ] {
            assert_eq!(world.post(wrong, form, "").await.status, 401, "{wrong}");
        }
        assert_eq!(world.post(&right, form, "").await.status, 400);
    }
}

#[tokio::test]
async fn other_authorizations_do_not_count_as_guesses() {
    let world = World::start().await;
    for _ in 0..12 {
        for header in ["Basic !", "Basic bm9jb2xvbg==", "Bearer x", ""] {
            let request = Request::post("/webapi/v0/Send").header("authorization", header);
            let answer = world.ask(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, 401, "{header}");
            assert_eq!(answer.headers["www-authenticate"], "Basic realm=webapi");
        }
    }
}

#[tokio::test]
async fn a_key_works_for_its_scopes() {
    let world = World::start().await;
    let key = async |account: &str, scopes: &[Scope], expires| {
        let (secret, hash) = KeyText::secret(&mut StdRng::seed_from_u64(7));
        let key = NewApiKey {
            name: "shop".into(),
            account: account.into(),
            hash,
            scopes: scopes.to_vec(),
            created: Time(0),
            expires,
            domains: Vec::new(),
            legacy_status: false,
            tenant: String::new(),
        };
        let id = world.store.add_api_key(key).await.unwrap();
        KeyText::new(id, secret).to_string()
    };
    let call = async |method: &str, authorization: String| {
        let request = Request::post(format!("/webapi/v0/{method}"))
            .header("authorization", authorization)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("request={}"));
        world.ask(request.unwrap()).await.status.as_u16()
    };
    let basic = |name: &str, password: &str| {
        format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
    };
    let bearer = |key: &str| format!("Bearer {key}");
    let list = key("ann", &[Scope::Suppression], None).await;
    assert_eq!(call("SuppressionList", bearer(&list)).await, 200);
    assert_eq!(
        call("SuppressionList", basic("ann@example.org", &list)).await,
        200
    );
    // The key is refused for other scopes, with another account's address, and for a locked
    // account.
    assert_eq!(call("Send", bearer(&list)).await, 403);
    assert_eq!(
        call("SuppressionList", basic("bob@example.org", &list)).await,
        401
    );
    let locked = key("locked", &[Scope::Suppression], None).await;
    assert_eq!(call("SuppressionList", bearer(&locked)).await, 401);
    let old = key("ann", &[Scope::Suppression], Some(Time(1))).await;
    assert_eq!(call("SuppressionList", bearer(&old)).await, 401);
    let send = key("ann", &[Scope::Send], None).await;
    assert_eq!(
        call("Send", bearer(&send)).await,
        400,
        "allowed, and without a text"
    );
    world.store.remove_api_key(ApiKeyId(1)).await.unwrap();
    assert_eq!(call("SuppressionList", bearer(&list)).await, 401);
}

#[tokio::test]
async fn a_proxy_must_give_the_address() {
    let world = World::behind_proxy().await;
    let login = |login: &str, header: Option<&str>| {
        let mut request = Request::post("/webapi/v0/Send")
            .header("authorization", format!("Basic {}", STANDARD.encode(login)));
        if let Some(header) = header {
            request = request.header("x-forwarded-for", header);
        }
        world.ask(request.body(Body::empty()).unwrap())
    };
    let right = format!("ann@example.org:{PASSWORD}");
    for unusable in [
        None,
        Some(""),
        Some("192.0.2.1"),
        Some("unknown, 192.0.2.1"),
    ] {
        assert_eq!(login(&right, unusable).await.status, 500, "{unusable:?}");
    }
    for n in 0..10 {
        // The client writes the first address itself.
        let chain = format!("10.0.0.{n}, 192.0.2.1, 198.51.100.1");
        let answer = login("ann@example.org:no", Some(&chain)).await;
        assert_eq!(answer.status, 401);
    }
    let from = "192.0.2.1, 198.51.100.1";
    assert_eq!(login(&right, Some(from)).await.status, 429);
    assert_eq!(
        login(&right, Some("203.0.113.1, 198.51.100.1"))
            .await
            .status,
        400
    );
    // Many clients may share the address, so the failures of others do not matter.
    for n in 0..110 {
        let wrong = KeyText::new(ApiKeyId(n), [1; 32]);
        login(&format!("bob@example.org:{wrong}"), Some(from)).await;
    }
    let bob = format!("bob@example.org:{PASSWORD}");
    assert_eq!(login(&bob, Some(from)).await.status, 400);
}

#[tokio::test]
async fn pages_of_other_sites_can_not_call() {
    let world = World::start().await;
    let call = |name: &str, value: &str| {
        let request = Request::post("/webapi/v0/Send")
            .header(
                "authorization",
                format!(
                    "Basic {}",
                    STANDARD.encode(format!("ann@example.org:{PASSWORD}"))
                ),
            )
            .header("content-type", "application/x-www-form-urlencoded")
            .header("host", "localhost")
            .header(name, value);
        let body = "request={\"Text\":\"x\",\"To\":[{\"Address\":\"b@example.com\"}]}";
        world.ask(request.body(Body::from(body)).unwrap())
    };
    for site in ["cross-site", "same-site"] {
        let answer = call("sec-fetch-site", site).await;
        assert_eq!(answer.status, 400, "{site}");
        assert_eq!(answer.json()["Code"], "protocol");
    }
    // Over plain HTTP a browser sends only the origin of its page.
    for origin in ["http://evil.example", "null", "http://localhost:1"] {
        assert_eq!(call("origin", origin).await.status, 400, "{origin}");
    }
    assert!(world.queued().await.is_empty());
    assert_eq!(call("sec-fetch-site", "same-origin").await.status, 200);
    assert_eq!(call("origin", "http://localhost").await.status, 200);
}

#[tokio::test]
async fn forms_are_limited() {
    let world = World::start().await;
    let login = format!("ann@example.org:{PASSWORD}");
    let kind = "multipart/form-data; boundary=b";
    let field = "--b\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{}\r\n";
    let file =
        "--b\r\nContent-Disposition: form-data; name=\"attachedfile\"; filename=\"x\"\r\n\r\n\r\n";
    for (what, body) in [
        (
            "a part's header",
            format!("--b\r\nX: {}", "x".repeat(12 << 20)),
        ),
        ("empty files", file.repeat((12 << 20) / file.len())),
        (
            "fields",
            format!(
                "{field}--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n{}\r\n--b--\r\n",
                "x".repeat(10 << 20)
            ),
        ),
    ] {
        let answer = world.post(&login, kind, body).await;
        assert_eq!(answer.json()["Code"], "protocol", "{what}: {}", answer.body);
    }
    let unnamed = format!(
        "--b\r\nContent-Disposition: form-data; name=\"attachedfile\"; filename=\"\"\r\n\r\n\r\n{field}--b--\r\n"
    );
    let answer = world.post(&login, kind, unnamed).await;
    assert_eq!(answer.json()["Code"], "missingBody", "{}", answer.body);
}

#[tokio::test]
async fn extreme_json_is_a_protocol_error() {
    let world = World::start().await;
    let deep = |open: &str, close: &str| {
        let nested = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        format!(r#"{{"To": {nested}}}"#)
    };
    for (method, request) in [
        ("Send", deep("[", "]")),
        ("Send", deep(r#"{"To":"#, "}")),
        ("Send", r#"{"To": 1e999}"#.into()),
        (
            "Send",
            r#"{"To": [{"Address": "a@x.example"}], "Text": "x", "Date": "2026-13-01T00:00:00Z"}"#
                .into(),
        ),
        (
            "Send",
            r#"{"To": [{"Address": "a@x.example"}], "Text": "\ud800"}"#.into(),
        ),
        ("Send", "\u{feff}{}".into()),
        ("Send", "{'To': []}".into()),
        ("Send", r#"{"To": [}"#.into()),
        ("MessageGet", r#"{"MsgID": 9223372036854775808}"#.into()),
        ("MessageGet", r#"{"MsgID": 1.5}"#.into()),
        ("MessageGet", r#"{"MsgID": "1"}"#.into()),
        (
            "MessagePartGet",
            r#"{"MsgID": 1, "PartPath": [1e99]}"#.into(),
        ),
    ] {
        let answer = world.call(method, &request).await;
        let shown = &request[..request.len().min(60)];
        assert_eq!(answer.status, 400, "{shown}");
        assert_eq!(
            answer.json()["Code"],
            "protocol",
            "{shown}: {}",
            answer.body
        );
    }
    // The method itself refuses numbers that fit and wrong base64.
    let negative = world.call("MessageGet", r#"{"MsgID": -1}"#).await;
    assert_eq!(negative.json()["Code"], "messageNotFound");
    let request =
        r#"{"To": [{"Address": "a@x.example"}], "Text": "x", "AttachedFiles": [{"Data": "a$b="}]}"#;
    assert_eq!(world.call("Send", request).await.json()["Code"], "user");
    assert!(world.queued().await.is_empty());
}

/// The answer on a connection to these bytes, after which the client sends no more.
async fn after(world: &World, bytes: &[u8]) -> String {
    let mut stream = world.connect().await;
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // The server may close the connection before it has read everything.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn incomplete_requests_send_nothing_and_delay_nobody() {
    let world = World::start().await;
    let login = STANDARD.encode(format!("ann@example.org:{PASSWORD}"));
    let request = r#"{"To":[{"Address":"a@x.example"}],"Text":"x"}"#;
    let multipart = format!(
        "--b\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{request}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"attachedfile\"; filename=\"x\"\r\n\r\n"
    );
    let head = |kind: &str, length: usize| {
        format!(
            "POST /webapi/v0/Send HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\n\
             Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let form = "application/x-www-form-urlencoded";
    let cases = [
        ("a header", "POST /webapi/v0/Send HTTP/1.1\r\nHo".to_owned()),
        ("a form", head(form, 1000) + "request=" + request),
        (
            "a file",
            head("multipart/form-data; boundary=b", multipart.len() + 1000) + &multipart,
        ),
        (
            "a multipart form as long as it said",
            head("multipart/form-data; boundary=b", multipart.len()) + &multipart,
        ),
        (
            "a chunk",
            head(form, 0).replace("Content-Length: 0", "Transfer-Encoding: chunked")
                + "ff\r\nrequest=",
        ),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".to_owned()),
        (
            "a length that is none",
            head(form, 1).replace(": 1\r", ": -1\r"),
        ),
        (
            "two lengths",
            head(form, 1).replace(
                "Content-Length: 1",
                "Content-Length: 1\r\nContent-Length: 2",
            ),
        ),
    ];
    for (what, bytes) in &cases {
        // Other connections wait meanwhile, in the middle of the same request.
        let mut waiting = world.connect().await;
        let (most, _) = bytes.split_at(bytes.len() - 1);
        waiting.write_all(most.as_bytes()).await.unwrap();
        let answer = after(&world, bytes.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{what}: {answer}"
        );
        assert!(world.queued().await.is_empty(), "{what}");
    }
    let json = serde_json::from_str(request).unwrap();
    assert_eq!(world.send(&json).await.status, 200);
    assert_eq!(world.queued().await.len(), 1);
}

#[tokio::test]
async fn failures_of_the_store_have_the_code_server() {
    let world = World::start().await;
    let form = "application/x-www-form-urlencoded";
    let right = format!("ann@example.org:{PASSWORD}");
    world.store.clone().close().await;
    let answer = world.post(&right, form, "").await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.json()["Code"], "server");
}
