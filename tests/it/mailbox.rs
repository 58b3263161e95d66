//! The mailbox API over HTTP: folders, messages, sending, and those who may not.

use std::net::SocketAddr;

use postrider_receive::login::KeyText;
use postrider_store::{NewApiKey, Scope, Time};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::{PASSWORD, Setup, World, patience::patiently, remote::Remote};

const APP: &str = "app@example.org";

/// The mailbox API of a server.
struct Api {
    address: SocketAddr,
    /// The address that logs in with a password.
    login: &'static str,
}

impl Api {
    fn of(world: &World) -> Self {
        Self {
            address: world.server.address("mail_api_http").unwrap(),
            login: APP,
        }
    }

    /// The same for another login.
    const fn by(&self, login: &'static str) -> Self {
        Self {
            address: self.address,
            login,
        }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("http://{}/api/v1/mail/{path}", self.address);
        reqwest::Client::new().request(method, url)
    }

    async fn answer(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let request = self.request(method, path);
        let request = request.basic_auth(self.login, Some(PASSWORD));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().await.unwrap()
    }

    /// Status and body of a call.
    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = Some(body).filter(|body| !body.is_null());
        let answer = self.answer(method, path, body.as_ref()).await;
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    /// The answer to a call that succeeds.
    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A call that ends with this status, and with this kind of error.
    async fn fails(&self, (method, path): (&str, &str), body: Value, expected: (u16, &str)) {
        let (status, problem) = self.call(method, path, body).await;
        let got = (status, problem["error"].as_str().unwrap_or_default());
        assert_eq!(got, expected, "{method} {path}: {problem}");
        assert!(problem["detail"].is_string());
    }
}

async fn start() -> World {
    let setup = Setup {
        statics: "mail_api_http = { enabled = true, port = 0 }\n[policy]\ngreylist = false\n\
                  first_time_sender_delay = \"0s\"\n"
            .to_owned(),
        app: "quota = \"20kB\"\nshared_with.other = \"read\"\n".to_owned(),
        ..Setup::default()
    };
    World::start(setup).await
}

/// Takes a message from a stranger into the inbox of app.
async fn deliver(world: &World, text: &str) {
    let mut client = world.client("smtp").await;
    client.expect("EHLO client.test", "250").await;
    let reply = client.submit("ann@stranger.test", &[APP], text).await;
    assert!(reply.starts_with("250"), "{reply}");
}

fn text(subject: &str) -> String {
    format!(
        "From: Ann <ann@stranger.test>\r\nTo: <{APP}>\r\nSubject: {subject}\r\n\
         Message-ID: <{subject}@stranger.test>\r\n\r\nHello {subject}.\r\n"
    )
}

/// The subjects of the messages of a page.
fn subjects(page: &Value) -> Vec<&str> {
    let messages = page["messages"].as_array().unwrap().iter();
    messages.map(|it| it["subject"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_are_made_renamed_and_removed() {
    let world = start().await;
    let api = Api::of(&world);
    deliver(&world, &text("one")).await;
    let folders = api.get("webmail/folders").await;
    let inbox = &folders[0];
    assert_eq!(inbox["name"], "INBOX");
    assert_eq!((&inbox["exists"], &inbox["unseen"]), (&json!(1), &json!(1)));
    assert_eq!(inbox["uid_next"], 2);
    assert!(inbox["uid_validity"].as_u64().unwrap() > 0);

    let made = api
        .call("POST", "webmail/folders", json!({"name": "Work/2026"}))
        .await;
    assert_eq!((made.0, &made.1["name"]), (201, &json!("Work/2026")));
    let path = "webmail/folders/Work%2F2026";
    let renamed = api.call("PATCH", path, json!({"name": "Old \u{e4}"})).await;
    assert_eq!((renamed.0, &renamed.1["name"]), (200, &json!("Old \u{e4}")));
    let old = "webmail/folders/Old%20%C3%A4";
    for (call, body, expected) in [
        (
            ("POST", "webmail/folders"),
            json!({"name": "inbox"}),
            (409, "folderExists"),
        ),
        (
            ("POST", "webmail/folders"),
            json!({"name": "a\0b"}),
            (422, "invalid"),
        ),
        (
            ("POST", "webmail/folders"),
            json!({"name": "a*"}),
            (422, "invalid"),
        ),
        (
            ("POST", "webmail/folders"),
            json!({"name": "a%"}),
            (422, "invalid"),
        ),
        (
            ("POST", "webmail/folders"),
            json!({"name": ""}),
            (422, "invalid"),
        ),
        (
            ("POST", "webmail/folders"),
            json!({"name": "a".repeat(256)}),
            (422, "invalid"),
        ),
        (
            ("POST", "webmail/folders"),
            json!({"name": 7}),
            (422, "invalid"),
        ),
        (
            ("POST", "webmail/folders"),
            json!(["name"]),
            (400, "protocol"),
        ),
        (
            ("PATCH", "webmail/folders/INBOX"),
            json!({"name": "x"}),
            (409, "specialFolder"),
        ),
        (
            ("DELETE", "webmail/folders/INBOX"),
            Value::Null,
            (409, "specialFolder"),
        ),
        (
            ("DELETE", "webmail/folders/Trash"),
            Value::Null,
            (409, "specialFolder"),
        ),
        (
            ("PATCH", "webmail/folders/None"),
            json!({"name": "x"}),
            (404, "notFound"),
        ),
        (("DELETE", path), Value::Null, (404, "notFound")),
        (("GET", "webmail/nothing"), Value::Null, (404, "notFound")),
    ] {
        api.fails(call, body, expected).await;
    }
    let moved = api
        .call(
            "POST",
            "webmail/messages/inbox/1/move",
            json!({"target": "Old \u{e4}"}),
        )
        .await;
    assert_eq!(moved, (200, json!({"folder": "Old \u{e4}", "uid": 1})));
    api.fails(("DELETE", old), Value::Null, (409, "folderNotEmpty"))
        .await;
    let gone = api
        .call(
            "DELETE",
            "webmail/messages/Old%20%C3%A4/1?permanent=1",
            Value::Null,
        )
        .await;
    assert_eq!((gone.0, &gone.1["deleted"]), (200, &json!(true)));
    assert_eq!(api.call("DELETE", old, Value::Null).await.0, 200);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_listed_read_flagged_and_deleted() {
    let world = start().await;
    let api = Api::of(&world);
    let hostile = "From: Ann <ann@stranger.test>\r\nTo: <app@example.org>\r\nSubject: two\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/html; charset=nonsense\r\n\r\n\
        <p style=\"position:fixed;color:red\" onclick=\"x()\">Hi</p><script>alert(1)</script>\r\n\
        <img src=\"http://tracker.test/x.gif\"><img src=\"data:image/svg+xml,x\">\r\n\
        <form action=\"http://evil.test\"><input></form>\r\n\
        <a href=\"javascript:x\">j</a><a href=\"https://fine.test\">f</a>\r\n\
        --b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=\"a.txt\"\r\n\r\n\
        attached\r\n--b--\r\n";
    deliver(&world, &text("one")).await;
    deliver(&world, hostile).await;
    deliver(&world, &text("three")).await;

    let page = api.get("webmail/messages/INBOX?per_page=2").await;
    assert_eq!(subjects(&page), ["three", "two"]);
    assert_eq!((&page["total"], &page["unseen"]), (&json!(3), &json!(3)));
    let row = &page["messages"][1];
    assert_eq!(row["from_addr"], "ann@stranger.test");
    assert_eq!(row["from_name"], "Ann");
    assert_eq!(row["has_attachments"], true);
    assert_eq!((&row["uid"], &row["flags"]), (&json!(2), &json!([])));
    // The cursor leads on, also when a new message comes in the meantime.
    deliver(&world, &text("four")).await;
    let next = page["next"].as_str().unwrap();
    let rest = api
        .get(&format!("webmail/messages/INBOX?per_page=2&cursor={next}"))
        .await;
    assert_eq!(
        (subjects(&rest), &rest["next"]),
        (vec!["one"], &Value::Null)
    );
    let found = api.get("webmail/messages/INBOX?q=THREE").await;
    assert_eq!(subjects(&found), ["three"]);
    for query in [
        "per_page=0",
        "per_page=201",
        "page=0",
        "cursor=x",
        "per_page=x",
    ] {
        let path = format!("webmail/messages/INBOX?{query}");
        api.fails(("GET", &path), Value::Null, (422, "invalid"))
            .await;
    }
    let far = "webmail/messages/INBOX?page=201&per_page=50";
    api.fails(("GET", far), Value::Null, (422, "useCursor"))
        .await;

    let read = api.get("webmail/messages/INBOX/2").await;
    let html = read["html"].as_str().unwrap();
    for bad in [
        "script",
        "onclick",
        "tracker.test",
        "data:",
        "form",
        "javascript",
        "fixed",
    ] {
        assert!(!html.contains(bad), "{bad}: {html}");
    }
    assert!(html.contains("https://fine.test"), "{html}");
    let with_images = api.get("webmail/messages/INBOX/2?images=1").await;
    assert!(
        with_images["html"]
            .as_str()
            .unwrap()
            .contains("tracker.test")
    );
    let raw = api.get("webmail/messages/INBOX/2?html=raw").await;
    assert!(raw["html"].as_str().unwrap().contains("<script>"));
    let file = &read["attachments"][0];
    assert_eq!(
        (&file["filename"], &file["part"]),
        (&json!("a.txt"), &json!("2"))
    );
    let part = api
        .answer("GET", "webmail/messages/INBOX/2/parts/2", None)
        .await;
    assert_eq!(part.headers()["content-disposition"], "attachment");
    assert_eq!(part.text().await.unwrap(), "attached");
    let whole = api
        .answer("GET", "webmail/messages/INBOX/2/raw", None)
        .await;
    assert!(whole.text().await.unwrap().contains("Subject: two\r\n"));
    // Reading marks nothing.
    assert_eq!(
        api.get("webmail/messages/INBOX?unseen=1").await["unseen"],
        4
    );

    let flags = "webmail/messages/INBOX/1/flags";
    let set = json!({"flags": ["\\Seen", "\\Flagged", "todo"]});
    let (_, set) = api.call("POST", flags, set).await;
    assert_eq!(set["flags"], json!(["\\Flagged", "\\Seen", "todo"]));
    let (_, set) = api
        .call("POST", flags, json!({"flags": ["\\Answered"]}))
        .await;
    assert_eq!(set["flags"], json!(["\\Answered", "todo"]));
    let less = json!({"flags": ["todo"], "mode": "remove"});
    let (_, set) = api.call("POST", flags, less).await;
    assert_eq!(set["flags"], json!(["\\Answered"]));
    let many: Vec<String> = (0..101).map(|number| format!("k{number}")).collect();
    for wrong in [json!(["\\Recent"]), json!(["a b"]), json!(many), json!("x")] {
        let body = json!({"flags": wrong});
        api.fails(("POST", flags), body, (422, "invalid")).await;
    }
    let labels = json!({"add": ["Later"], "remove": []});
    let (status, _) = api
        .call("POST", "webmail/messages/INBOX/1/labels", labels)
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        subjects(&api.get("webmail/messages/INBOX?label=later").await),
        ["one"]
    );

    let to_trash = api
        .call("DELETE", "webmail/messages/INBOX/1", Value::Null)
        .await;
    assert_eq!(to_trash, (200, json!({"folder": "Trash", "uid": 1})));
    let (status, moved) = api
        .call("GET", "webmail/messages/INBOX/1", Value::Null)
        .await;
    assert_eq!(
        (status, &moved["folder"], &moved["uid"]),
        (410, &json!("Trash"), &json!(1))
    );
    let gone = api
        .call("DELETE", "webmail/messages/Trash/1", Value::Null)
        .await;
    assert_eq!((gone.0, &gone.1["uid"]), (200, &Value::Null));
    for path in [
        "webmail/messages/Trash/1",
        "webmail/messages/INBOX/99",
        "webmail/messages/No/1",
    ] {
        api.fails(("GET", path), Value::Null, (404, "notFound"))
            .await;
    }

    let batch = "webmail/messages/INBOX/batch";
    let all_or_none = json!({"uids": [2, 99], "action": "move", "target": "Archive"});
    assert_eq!(api.call("POST", batch, all_or_none).await.0, 404);
    let both = json!({"uids": [2, 3], "action": "move", "target": "Archive"});
    assert_eq!(api.call("POST", batch, both).await.0, 200);
    assert_eq!(
        subjects(&api.get("webmail/messages/Archive").await),
        ["three", "two"]
    );
    let unknown = json!({"uids": [4], "action": "move", "target": "Nowhere"});
    assert_eq!(api.call("POST", batch, unknown).await.0, 404);
    let made = json!({"target": "Nowhere", "create": true});
    let path = "webmail/messages/INBOX/4/move";
    assert_eq!(api.call("POST", path, made).await.0, 200);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_sent_and_kept() {
    let remote = Remote::start(|_, _| None).await;
    let setup = Setup {
        statics: "mail_api_http = { enabled = true, port = 0 }\n".to_owned(),
        app: "quota = \"6kB\"\n".to_owned(),
        ..Setup::default()
    };
    let world = World::facing_with(&remote, setup).await;
    let api = Api::of(&world);
    let own = world.server.store().clone();
    let draft = json!({"to": "a@remote.test", "subject": "Draft", "plain": "not yet"});
    let (status, kept) = api.call("POST", "webmail/drafts", draft).await;
    assert_eq!((status, &kept["folder"]), (201, &json!("Drafts")));
    let signature = json!({"name": "Mine", "plain": "Ann B.", "is_default": true});
    let (status, signature) = api.call("POST", "signatures/", signature).await;
    assert_eq!(status, 201, "{signature}");
    let template = json!({"name": "Hello", "subject": "Hello {{ name }}",
        "html": "<p>Dear {{ name }},</p>", "sample": {"name": "Bob"}});
    let (status, template) = api.call("POST", "templates", template).await;
    assert_eq!(
        (status, &template["variables"]),
        (201, &json!(["name"])),
        "{template}"
    );
    let shown = format!("templates/{}/render", template["id"]);
    let (_, shown) = api.call("POST", &shown, json!({})).await;
    assert_eq!(shown["html"], "<p>Dear Bob,</p>");

    let message = json!({
        "to": ["Rcpt <a@remote.test>"], "template": template["id"],
        "variables": {"name": "<Eve>"}, "signature": "auto", "draft_uid": kept["uid"],
    });
    let (status, sent) = api.call("POST", "webmail/send", message).await;
    assert_eq!(
        (status, &sent["folder"], &sent["uid"]),
        (201, &json!("Sent"), &json!(1))
    );
    assert_eq!(sent["submissions"][0]["address"], "a@remote.test");
    let got = &remote.wait_for(1).await[0].text;
    assert!(got.contains("Dear &lt;Eve&gt;,"), "{got}");
    assert!(got.contains("-- \r\nAnn B.\r\n"), "{got}");
    assert!(
        api.get("webmail/messages/Drafts").await["messages"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        subjects(&api.get("webmail/messages/Sent").await),
        ["Hello <Eve>"]
    );
    let contacts = api.get("contacts/autocomplete?q=rcp").await;
    assert_eq!(contacts[0]["email"], "a@remote.test");

    // A message that waits for its time can be put off and called back.
    let later = json!({"to": "b@remote.test", "plain": "x", "send_at": "2027-03-01T00:00:00Z",
        "save_sent": false});
    assert_eq!(api.call("POST", "webmail/send", later).await.0, 201);
    let waiting = api.get("scheduled").await;
    let waits = &waiting["items"][0];
    assert_eq!(
        (&waits["to"], &waits["send_at"]),
        (&json!(["b@remote.test"]), &json!("2027-03-01T00:00:00Z"))
    );
    let path = format!("scheduled/{}", waits["id"]);
    let put_off = json!({"send_at": "2027-03-02T00:00:00Z"});
    let (status, put_off) = api.call("PATCH", &path, put_off).await;
    assert_eq!(
        (status, &put_off["send_at"]),
        (200, &json!("2027-03-02T00:00:00Z"))
    );
    api.fails(
        ("PATCH", &path),
        json!({"send_at": "soon"}),
        (422, "invalid"),
    )
    .await;
    assert_eq!(api.call("DELETE", &path, Value::Null).await.0, 200);
    api.fails(("DELETE", &path), Value::Null, (404, "notFound"))
        .await;
    assert_eq!(own.counts().await.queued, 0);

    // The same key sends once.
    let again = json!({"to": "c@remote.test", "plain": "once", "save_sent": false});
    for _ in 0..2 {
        let request = api.request("POST", "webmail/send").json(&again);
        let request = request.basic_auth(APP, Some(PASSWORD));
        let answer = request
            .header("Idempotency-Key", "k1")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
    }
    assert!(remote.wait_for(2).await[1].text.contains("once"));
    for (body, expected) in [
        (json!({"plain": "x"}), (422, "noRecipients")),
        (json!({"to": "nobody", "plain": "x"}), (422, "badAddress")),
        (json!({"to": "a@remote.test"}), (422, "missingBody")),
        (
            json!({"to": "a@remote.test", "from": "x@other.test", "plain": "x"}),
            (422, "badFrom"),
        ),
        (
            json!({"to": "a@remote.test", "plain": "x", "signature": 99}),
            (422, "invalid"),
        ),
        (
            json!({"to": "a@remote.test", "template": 99}),
            (422, "invalid"),
        ),
        (
            json!({"to": "a@remote.test", "template": template["id"]}),
            (422, "user"),
        ),
        (json!({"to": 7, "plain": "x"}), (422, "invalid")),
    ] {
        api.fails(("POST", "webmail/send"), body, expected).await;
    }
    // Without room the message goes out, and the answer says that no copy was kept.
    let large = json!({"to": "d@remote.test", "plain": "x".repeat(7000)});
    let (status, sent) = api.call("POST", "webmail/send", large.clone()).await;
    assert_eq!(
        (status, &sent["uid"], &sent["warning"]),
        (201, &Value::Null, &json!("overQuota"))
    );
    api.fails(("POST", "webmail/drafts"), large, (409, "overQuota"))
        .await;
    let quota = api.get("webmail/quota").await;
    assert_eq!(quota["limit"], 6000);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_caller_gets_what_it_may_have() {
    let world = start().await;
    let api = Api::of(&world);
    deliver(&world, &text("one")).await;
    let other = api.by("other@example.org");
    // The inbox of app is shared with other, for reading.
    let shared = other.get("webmail/messages/INBOX?account=app").await;
    assert_eq!(subjects(&shared), ["one"]);
    let delete = ("DELETE", "webmail/messages/INBOX/1?account=app");
    other.fails(delete, Value::Null, (403, "forbidden")).await;
    let not_shared = ("GET", "webmail/folders?account=other");
    api.fails(not_shared, Value::Null, (404, "notFound")).await;

    let nobody = api.request("GET", "webmail/folders").send().await.unwrap();
    assert_eq!(nobody.status(), 401);
    let key = async |scopes: &[Scope], domains: &[&str]| {
        let (secret, hash) = KeyText::secret(&mut rand::rng());
        let key = NewApiKey {
            name: "platform".into(),
            account: String::new(),
            hash,
            scopes: scopes.to_vec(),
            created: Time(0),
            expires: None,
            domains: domains.iter().map(|it| (*it).to_owned()).collect(),
            legacy_status: false,
            tenant: String::new(),
        };
        let id = world.server.store().add_api_key(key).await.unwrap();
        KeyText::new(id, secret).to_string()
    };
    let status = async |key: &str, path: &str| {
        let request = api.request("GET", path).header("x-service-token", key);
        request.send().await.unwrap().status().as_u16()
    };
    let mail = key(&[Scope::ManageMail], &[]).await;
    assert_eq!(status(&mail, "webmail/folders?account=app").await, 200);
    assert_eq!(
        status(&mail, "webmail/folders?account=app@example.org").await,
        200
    );
    assert_eq!(status(&mail, "webmail/folders").await, 422);
    let manages = key(&[Scope::Manage], &[]).await;
    assert_eq!(status(&manages, "webmail/folders?account=app").await, 403);
    let foreign = key(&[Scope::ManageMail], &["elsewhere.test"]).await;
    assert_eq!(status(&foreign, "webmail/folders?account=app").await, 404);
    assert_eq!(status("wrong", "webmail/folders?account=app").await, 401);

    let post = |kind: &'static str, body: String| {
        let request = api.request("POST", "webmail/folders").body(body);
        let request = request.header("content-type", kind);
        request.basic_auth(APP, Some(PASSWORD)).send()
    };
    for (kind, body, expected) in [
        ("text/plain", "{}".to_owned(), 415),
        ("application/json", "{".to_owned(), 400),
        ("application/json", " ".repeat((1 << 20) + 1), 413),
    ] {
        assert_eq!(post(kind, body).await.unwrap().status(), expected, "{kind}");
    }
    // More calls than a user may make in a minute.
    let limited = async {
        loop {
            let answer = api.answer("GET", "webmail/quota", None).await;
            if answer.status() == 429 {
                return answer;
            }
        }
    };
    let limited = patiently("the limit of calls", limited).await;
    assert!(limited.headers().contains_key("retry-after"));
    world.server.stop().await;
}
