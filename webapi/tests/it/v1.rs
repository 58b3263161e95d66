//! The methods of v1.

use axum::{body::Body, http::Request};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{StreamExt, future::join_all};
use postrider_receive::login::KeyText;
use postrider_store::{
    Accept, Event, HookFilter, HookKind, NewApiKey, NewEvent, Order, OutgoingEvent, QueueId, Scope,
    Time,
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::methods::receive;
use crate::support::{Answer, PASSWORD, World};

async fn call_as(world: &World, authorization: &str, method: &str, body: &str) -> Answer {
    let request = Request::post(format!("/webapi/v1/{method}"))
        .header("authorization", authorization)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()));
    world.ask(request.unwrap()).await
}

fn basic(login: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{login}:{PASSWORD}")))
}

async fn call(world: &World, method: &str, body: &Value) -> Answer {
    call_as(world, &basic("ann@example.org"), method, &body.to_string()).await
}

fn field<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn openapi_describes_v1() {
    let world = World::start().await;
    let document = world.get("GET", "/webapi/v1/openapi.json").await.json();
    assert_eq!(field(&document, "/openapi"), "3.1.0");
    assert_eq!(field(&document, "/servers/0/url"), "/webapi/v1");
    let page = world.get("GET", "/webapi/v1/").await;
    assert!(page.body.contains("QueueStatus"), "{}", page.body);
    assert_eq!(world.get("GET", "/webapi/v1/Send").await.status, 405);
    assert_eq!(world.get("POST", "/webapi/v1/Nothing").await.status, 404);
}

#[tokio::test]
async fn a_message_is_sent_listed_and_canceled() {
    let world = World::start().await;
    let request = json!({
        "To": [{"Address": "a@x.example"}, {"Name": "B", "Address": "b@x.example"}],
        "Subject": "h\u{e4}llo",
        "Text": "x",
        "Extra": {"OrderID": "42"},
        "FutureRelease": "2023-11-15T00:00:00+01:00",
        "AttachedFiles": [{"Name": "a.txt", "Data": "YQ=="}],
        "IdempotencyKey": "order 42",
    });
    let sent = call(&world, "Send", &request).await;
    assert_eq!(sent.status, 200, "{}", sent.body);
    assert_eq!(call(&world, "Send", &request).await.body, sent.body);
    let sent = sent.json();
    assert_eq!(field(&sent, "/Submissions/1/Address"), "b@x.example");
    let message_id = field(&sent, "/MessageID").clone();

    let listed = call(&world, "QueueList", &json!({"Limit": 1})).await.json();
    assert_eq!(field(&listed, "/Messages/0/To"), "a@x.example");
    assert_eq!(field(&listed, "/Messages/0/State"), "queued");
    let explanation = field(&listed, "/Messages/0/Explanation").as_str().unwrap();
    assert!(
        explanation.contains("is not to be sent before 2023-11-14T23:00:00Z"),
        "{explanation}"
    );
    let next = field(&listed, "/Next").clone();
    let rest = call(
        &world,
        "QueueList",
        &json!({"After": next, "To": "@x.example"}),
    )
    .await
    .json();
    assert_eq!(field(&rest, "/Messages/0/To"), "b@x.example");
    assert_eq!(field(&rest, "/Next"), &Value::Null);

    for asked in [
        json!({"MessageID": message_id}),
        json!({"Extra": {"OrderID": "42"}}),
    ] {
        let found = call(&world, "QueueStatus", &asked).await.json();
        assert_eq!(
            field(&found, "/Messages").as_array().unwrap().len(),
            2,
            "{asked}"
        );
    }
    let one = call(&world, "QueueStatus", &json!({"QueueMsgID": 2}))
        .await
        .json();
    assert_eq!(field(&one, "/Messages/0/Subject"), "h\u{e4}llo");
    let none = json!({"Extra": {"OrderID": "43"}});
    let none = call(&world, "QueueStatus", &none).await.json();
    assert_eq!(field(&none, "/Messages"), &json!([]));
    // No account sees or cancels another account's messages.
    let bob = basic("bob@example.org");
    let asked = json!({"MessageID": message_id}).to_string();
    let other = call_as(&world, &bob, "QueueStatus", &asked).await.json();
    assert_eq!(field(&other, "/Messages"), &json!([]));
    let asked = json!({"QueueMsgID": 2}).to_string();
    let other = call_as(&world, &bob, "QueueStatus", &asked).await.json();
    assert_eq!(field(&other, "/Messages"), &json!([]));
    let ids = json!({"QueueMsgIDs": [1, 2, 3]});
    let other = call_as(&world, &bob, "QueueCancel", &ids.to_string())
        .await
        .json();
    assert_eq!(other, json!({"Canceled": 0, "InDelivery": 0}));
    let none = json!({"Extra": {"OrderID": "43"}});
    let canceled = call(&world, "QueueCancel", &none).await.json();
    assert_eq!(canceled, json!({"Canceled": 0, "InDelivery": 0}));
    let canceled = call(&world, "QueueCancel", &ids).await.json();
    assert_eq!(canceled, json!({"Canceled": 2, "InDelivery": 0}));
    assert!(world.queued().await.is_empty());
    let status = call(&world, "QueueStatus", &ids).await.json();
    assert_eq!(field(&status, "/Messages").as_array().unwrap().len(), 2);
    let why = field(&status, "/Messages/0/Explanation").as_str().unwrap();
    assert!(
        why.contains("delivery canceled by ann@example.org"),
        "{why}"
    );
}

#[tokio::test]
async fn errors_have_a_status_and_a_code() {
    let world = World::start().await;
    let to = json!([{"Address": "a@x.example"}]);
    let table = [
        ("Send", json!({}), 400, "missingBody"),
        ("Send", json!({"to": to, "Text": "x"}), 400, "protocol"),
        ("Send", json!({"Text": "x"}), 400, "noRecipients"),
        ("Send", json!({"To": to, "Text": 7}), 400, "protocol"),
        (
            "Send",
            json!({"To": to, "Text": "x", "Date": "today"}),
            400,
            "protocol",
        ),
        (
            "Send",
            json!({"To": [{"Address": "a"}], "Text": "x"}),
            400,
            "badAddress",
        ),
        (
            "Send",
            json!({"To": to, "Text": "x".repeat(110_000)}),
            413,
            "messageTooLarge",
        ),
        (
            "Send",
            json!({"To": to, "Text": "x", "IdempotencyKey": "k"}),
            200,
            "",
        ),
        (
            "Send",
            json!({"To": to, "Text": "y", "IdempotencyKey": "k"}),
            409,
            "idempotencyConflict",
        ),
        ("QueueStatus", json!({}), 400, "user"),
        (
            "QueueStatus",
            json!({"QueueMsgID": 1, "MessageID": "<a@b>"}),
            400,
            "user",
        ),
        ("QueueCancel", json!({"QueueMsgIDs": []}), 400, "user"),
        ("QueueCancel", json!({"IDs": [1]}), 400, "protocol"),
        (
            "QueueCancel",
            json!({"QueueMsgIDs": [1], "QueueMsgID": 1}),
            400,
            "user",
        ),
        (
            "Send",
            json!({"To": to, "Text": "x", "Headers": [["X-A"]]}),
            400,
            "user",
        ),
        (
            "Send",
            json!({"To": to, "Text": "x", "Headers": [["Subject", "x"]]}),
            400,
            "user",
        ),
        ("QueueList", json!([]), 400, "protocol"),
    ];
    for (method, body, status, code) in table {
        let answer = call(&world, method, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {}", answer.body);
        if status != 200 {
            assert_eq!(field(&answer.json(), "/Code"), code, "{method} {body}");
        }
    }
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = call_as(&world, &basic("ann@example.org"), "Send", &nested).await;
    assert_eq!(field(&answer.json(), "/Code"), "protocol");
    let form = Request::post("/webapi/v1/Send")
        .header("authorization", basic("ann@example.org"))
        .header("content-type", "text/plain")
        .body(Body::from("{}"));
    assert_eq!(world.ask(form.unwrap()).await.status, 400);
    let nobody = call_as(&world, "Basic x", "Send", "{}").await;
    assert_eq!(
        (nobody.status.as_u16(), field(&nobody.json(), "/Code")),
        (401, &json!("unauthorized"))
    );
    // Bob has low limits.
    let many: Vec<_> = (0..4)
        .map(|n| json!({"Address": format!("{n}@x.example")}))
        .collect();
    let request = json!({"To": many, "Text": "x"}).to_string();
    let answer = call_as(&world, &basic("bob@example.org"), "Send", &request).await;
    assert_eq!(answer.status, 429, "{}", answer.body);
    let (secret, hash) = KeyText::secret(&mut StdRng::seed_from_u64(7));
    let key = NewApiKey {
        name: "events only".into(),
        account: "ann".into(),
        hash,
        scopes: vec![Scope::Events],
        created: Time(0),
        expires: None,
        domains: Vec::new(),
        legacy_status: false,
        tenant: String::new(),
    };
    let id = world.store.add_api_key(key).await.unwrap();
    let bearer = format!("Bearer {}", KeyText::new(id, secret));
    let answer = call_as(&world, &bearer, "Send", "{}").await;
    assert_eq!(
        (answer.status.as_u16(), field(&answer.json(), "/Code")),
        (403, &json!("forbidden"))
    );
}

/// Adds an event to the log, some seconds after the start of the world.
async fn log(world: &World, account: &str, recipient: &str, event: Event, seconds: i64) {
    let time = Time(1_700_000_000_000_000 + seconds * 1_000_000);
    let accept = Accept {
        events: vec![NewEvent {
            account: account.into(),
            recipient: recipient.into(),
            told: OutgoingEvent {
                event,
                dsn: false,
                suppressing: false,
                queue_id: QueueId(7),
                from_id: String::new(),
                message_id: "<1@example.org>".into(),
                subject: "s".into(),
                queued: time,
                code: 550,
                enhanced: None,
                error: "no".into(),
                extra: [("K".to_owned(), "v".to_owned())].into(),
            },
            keep_until: Time(i64::MAX),
        }],
        ..Accept::default()
    };
    world.store.accept(accept).await.unwrap();
}

#[tokio::test]
async fn events_are_listed_and_counted() {
    let world = World::start().await;
    log(&world, "ann", "a@x.example", Event::Delayed, 0).await;
    log(&world, "bob", "a@x.example", Event::Delivered, 1).await;
    log(&world, "ann", "a@x.example", Event::Failed, 2).await;
    log(&world, "ann", "b@y.example", Event::Delivered, 90_000).await;
    let found = async |request: Value| {
        let answer = call(&world, "Events", &request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        let events = field(&answer, "/Events").as_array().unwrap().iter();
        let names: Vec<_> = events
            .map(|event| field(event, "/Event").as_str().unwrap().to_owned())
            .collect();
        (names.join(" "), field(&answer, "/Next").clone(), answer)
    };
    let (names, next, answer) = found(json!({"Limit": 2})).await;
    assert_eq!(names, "delayed failed");
    let expected = json!({
        "ID": 1_700_000_002_000_000_u64,
        "Time": "2023-11-14T22:13:22Z",
        "Event": "failed",
        "DSN": false,
        "Suppressing": false,
        "Recipient": "a@x.example",
        "QueueMsgID": 7,
        "FromID": "",
        "MessageID": "<1@example.org>",
        "Subject": "s",
        "SMTPCode": 550,
        "SMTPEnhancedCode": "",
        "Error": "no",
        "Extra": {"K": "v"},
    });
    assert_eq!(field(&answer, "/Events/1"), &expected);
    assert_eq!(found(json!({"After": next})).await.0, "delivered");
    assert_eq!(
        found(json!({"Descending": true})).await.0,
        "delivered failed delayed"
    );
    assert_eq!(found(json!({"Recipient": "A@X.example"})).await.0, "");
    assert_eq!(
        found(json!({"Recipient": "a@X.example", "Events": ["failed"]}))
            .await
            .0,
        "failed"
    );
    assert_eq!(
        found(json!({"MessageID": "<1@example.org>", "Since": "2023-11-14T23:13:21+01:00"}))
            .await
            .0,
        "failed delivered"
    );
    assert_eq!(
        found(json!({"Before": "2023-11-14T22:13:22Z"})).await.0,
        "delayed"
    );
    let unknown = call(&world, "Events", &json!({"Events": ["sent"]})).await;
    assert_eq!(unknown.status, 400);

    let counts = call(
        &world,
        "Stats",
        &json!({"From": "2023-11-01", "To": "2023-11-30"}),
    )
    .await;
    let row = |day: &str, event: &str, domain: &str| json!({"Day": day, "Event": event, "Domain": domain, "Count": 1});
    let expected = [
        row("2023-11-14", "delayed", "x.example"),
        row("2023-11-14", "failed", "x.example"),
        row("2023-11-15", "delivered", "y.example"),
    ];
    assert_eq!(counts.json(), json!({"Counts": expected}));
    let today = call(&world, "Stats", &json!({"Domain": "x.example"})).await;
    assert_eq!(field(&today.json(), "/Counts").as_array().unwrap().len(), 2);
    let long = call(&world, "Stats", &json!({"From": "2020-01-01"})).await;
    assert_eq!(long.status, 400, "{}", long.body);
}

#[tokio::test]
async fn the_stream_gives_events_as_they_happen_and_goes_on_after_an_event() {
    let world = World::start().await;
    log(&world, "ann", "a@x.example", Event::Delayed, 1).await;
    let open = async |last: Option<&str>| {
        let mut request = Request::get("/webapi/v1/EventStream")
            .header("authorization", basic("ann@example.org"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let body = world.open(request.body(Body::empty()).unwrap()).await;
        body.into_data_stream()
    };
    let mut all = open(Some("0")).await;
    let first = String::from_utf8(all.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(
        first.contains("event: delayed\n") && first.contains("\"Recipient\":\"a@x.example\""),
        "{first}"
    );
    let id = first
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap()
        .to_owned();
    let (mut on, mut new) = (open(Some(&id)).await, open(None).await);
    let begin = new.next().await.unwrap().unwrap();
    assert_eq!(begin, format!("id: {id}\n\n").as_bytes());
    log(&world, "bob", "a@x.example", Event::Delivered, 2).await;
    log(&world, "ann", "b@x.example", Event::Delivered, 3).await;
    for stream in [&mut all, &mut on, &mut new] {
        let next = stream.next().await.unwrap().unwrap();
        let next = String::from_utf8(next.to_vec()).unwrap();
        assert!(
            next.contains("event: delivered\n") && next.contains("b@x.example"),
            "{next}"
        );
    }
    world.running.send(true).unwrap();
    while let Some(rest) = all.next().await {
        rest.unwrap();
    }
}

#[tokio::test]
async fn a_batch_is_a_message_for_each_recipient_or_none() {
    let world = World::start().await;
    let recipient = |address: &str, name: &str| {
        json!({
            "To": {"Name": name, "Address": address},
            "Variables": {"name": name, "items": ["a", "b"]},
            "Extra": {"Who": name},
        })
    };
    let batch = |recipients: &[Value]| {
        json!({
            "Subject": "For {{ name }}",
            "Text": "Dear {{ name }},\n{% for item in items %}{{ item }} {% endfor %}",
            "HTML": "<p>{{ name }}</p>",
            "Extra": {"Campaign": "7", "Who": "nobody"},
            "Recipients": recipients,
            "IdempotencyKey": "batch 7",
        })
    };
    let both = [
        recipient("a@x.example", "Tom & Co"),
        recipient("b@x.example", "J\u{f6}rg"),
    ];
    let sent = call(&world, "SendBatch", &batch(&both)).await;
    assert_eq!(sent.status, 200, "{}", sent.body);
    assert_eq!(
        call(&world, "SendBatch", &batch(&both)).await.body,
        sent.body
    );
    let sent = sent.json();
    assert_eq!(field(&sent, "/Submissions/1/Address"), "b@x.example");
    let queued = world.queued().await;
    assert_eq!(queued.len(), 2);
    assert!(queued.iter().all(|it| it.common.urgency.bulk));
    assert_eq!(
        field(&sent, "/Submissions/0/MessageID"),
        &json!(queued[0].common.message_id)
    );
    assert_ne!(queued[0].common.message_id, queued[1].common.message_id);
    assert_eq!(queued[0].common.extra["Who"], "Tom & Co");
    assert_eq!(queued[0].common.extra["Campaign"], "7");
    let text = world.text(&queued[0]).await;
    for part in [
        "\r\nSubject: For Tom & Co\r\n",
        "\r\nDear Tom & Co,\r\na b ",
        "<p>Tom &amp; Co</p>",
        "<a@x.example>\r\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }

    // An error for one recipient refuses the batch, and names the recipient.
    let lacks = json!({"To": {"Address": "c@x.example"}});
    let bad = async |wanted: Value| {
        let answer = call(&world, "SendBatch", &wanted).await;
        assert_ne!(answer.status, 200);
        let answer = answer.json();
        let text = |name: &str| field(&answer, name).as_str().unwrap().to_owned();
        (text("/Code"), text("/Message"))
    };
    let mut request = batch(&[both[0].clone(), lacks]);
    request["IdempotencyKey"] = json!("");
    let (code, message) = bad(request.clone()).await;
    assert!(
        code == "user"
            && message.starts_with("Recipients[1]: Subject: undefined value")
            && message.ends_with("; Variables has no name"),
        "{message}"
    );
    request["Recipients"][1]["To"]["Address"] = json!("no address");
    let (code, message) = bad(request.clone()).await;
    assert!(
        code == "badAddress" && message.starts_with("Recipients[1]: "),
        "{message}"
    );
    request["Recipients"] = json!([]);
    assert_eq!(bad(request.clone()).await.0, "noRecipients");
    request["Recipients"] = json!(both);
    request["Text"] = json!("{% for a in items %}{% endif %}");
    let (code, message) = bad(request.clone()).await;
    assert!(
        code == "user" && message.starts_with("Text: syntax error"),
        "{message}"
    );
    request["Text"] =
        json!("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}");
    assert_eq!(bad(request.clone()).await.0, "user");
    request["Text"] = json!("{{ name }}");
    request["Subject"] = json!("{{ name }}\r\nBcc: all@x.example");
    assert_eq!(bad(request).await.0, "user");
    assert_eq!(world.queued().await.len(), 2);
    let mut bytes = 0;
    for message in &queued {
        bytes += world.text(message).await.len() as u64;
    }
    assert_eq!(world.store.counts().await.text_bytes, bytes);
}

#[tokio::test]
async fn a_recipient_unsubscribes_from_a_list_by_one_click() {
    let world = World::start().await;
    let send = async |to: &Value| {
        let request = json!({"To": to, "Text": "x", "Unsubscribe": {"List": "news"}});
        call(&world, "Send", &request).await
    };
    let answer = send(&json!([{"Address": "A.b@x.example"}])).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = world.text(&world.queued().await[0]).await;
    assert!(
        text.contains("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"),
        "{text}"
    );
    let text = text.replace(": \r\n ", ": ").replace(":\r\n ", ": ");
    let link = text
        .split_once("\r\nList-Unsubscribe: <https://mail.example.org")
        .unwrap()
        .1;
    let link = link.split_once('>').unwrap().0.to_owned();
    assert_eq!(world.queued().await[0].common.list, "news");

    // GET changes nothing.
    let page = world.get("GET", &link).await;
    assert!(
        page.status == 200 && page.body.contains("A.b@x.example"),
        "{}",
        page.body
    );
    let name = postrider_store::base_in_list("ab@x.example", "news");
    let suppressed = async || {
        world
            .store
            .suppression("ann", &name, Time(0))
            .await
            .unwrap()
    };
    assert_eq!(suppressed().await, None);
    let clicks = join_all((0..20).map(|_| world.get("POST", &link))).await;
    assert!(clicks.iter().all(|click| click.status == 200));
    assert_eq!(suppressed().await.unwrap().list, "news");
    let wanted = json!({"Events": ["unsubscribed"]});
    let told = call(&world, "Events", &wanted).await.json();
    assert_eq!(field(&told, "/Events").as_array().unwrap().len(), 1);
    let page = world.get("GET", &link).await;
    assert!(page.body.contains("no more mail"), "{}", page.body);
    assert_eq!(
        world
            .store
            .suppression("ann", "ab@x.example", Time(0))
            .await
            .unwrap(),
        None,
        "other mail goes on"
    );
    // The application is told once.
    let filter = HookFilter::default();
    let hooks = world
        .store
        .list_hooks(&filter, None, Order::Ascending, 10)
        .await
        .unwrap()
        .items;
    let [hook] = hooks.as_slice() else {
        panic!("{hooks:?}");
    };
    let HookKind::OutgoingV1(event) = &hook.kind else {
        panic!("{hook:?}");
    };
    assert_eq!(
        (&*event.recipient, event.told.event),
        ("A.b@x.example", Event::Unsubscribed)
    );
    assert_eq!(event.told.extra["List"], "news");
    // The entry is in the list, and can be removed.
    let listed = world.call("SuppressionList", "{}").await.json();
    let entry = field(&listed, "/Suppressions/0");
    assert_eq!(field(entry, "/BaseAddress"), "ab@x.example");
    assert_eq!(
        field(entry, "/Reason"),
        "unsubscribed by one click from list \"news\""
    );
    let address = r#"{"EmailAddress":"a.b@x.example"}"#;
    assert_eq!(world.call("SuppressionRemove", address).await.status, 200);
    assert_eq!(suppressed().await, None);
    assert_eq!(world.call("SuppressionRemove", address).await.status, 400);
    for changed in [
        format!("{link}x"),
        link.replace("unsubscribe/", "unsubscribe/x"),
    ] {
        assert_eq!(world.get("POST", &changed).await.status, 404);
    }

    // The header has the field once.
    let mut twice =
        json!({"To": [{"Address": "a@x.example"}], "Text": "x", "Unsubscribe": {"List": "news"}});
    twice["Headers"] = json!([["list-unsubscribe", "<mailto:a@b.example>"]]);
    assert_eq!(
        field(&call(&world, "Send", &twice).await.json(), "/Code"),
        "user"
    );
    // A request that is too large is refused before it is read.
    let large = json!({"To": [{"Address": "a@x.example"}], "Text": "x".repeat(3 << 20)});
    let answer = call(&world, "Send", &large).await;
    assert_eq!(
        (
            answer.status.as_u16(),
            field(&answer.json(), "/Code").clone()
        ),
        (413, json!("messageTooLarge"))
    );

    // Each recipient has a link of its own.
    let two = json!([{"Address": "a@x.example"}, {"Address": "b@x.example"}]);
    assert_eq!(field(&send(&two).await.json(), "/Code"), "user");
    let recipients = [
        json!({"To": {"Address": "a@x.example"}}),
        json!({"To": {"Address": "b@x.example"}}),
    ];
    let batch = json!({"Recipients": recipients, "Text": "x", "Unsubscribe": {"List": "news"}});
    assert_eq!(call(&world, "SendBatch", &batch).await.status, 200);
    let link = async |at: usize| {
        let text = world
            .text(&world.queued().await[at])
            .await
            .replace(":\r\n ", ": ");
        text.split_once("\r\nList-Unsubscribe: ")
            .unwrap()
            .1
            .split_once("\r\n")
            .unwrap()
            .0
            .to_owned()
    };
    assert_ne!(link(1).await, link(2).await);
    let nameless = json!({"To": [{"Address": "a@x.example"}], "Text": "x", "Unsubscribe": {}});
    assert_eq!(
        field(&call(&world, "Send", &nameless).await.json(), "/Code"),
        "user"
    );
}

#[tokio::test]
async fn the_messages_in_the_mailboxes_are_listed_in_pages() {
    let world = World::start().await;
    for (account, subject) in [("ann", "1"), ("bob", "2"), ("ann", "3"), ("ann", "4")] {
        receive(&world, account, &format!("Subject: {subject}\r\n\r\n")).await;
    }
    let list = async |request: Value| {
        let answer = call(&world, "MessageList", &request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        let ids: Vec<u64> = answer["Messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["MsgID"].as_u64().unwrap())
            .collect();
        (ids, answer["Next"].as_u64())
    };
    let (first, next) = list(json!({"Limit": 2})).await;
    assert_eq!((first, next.is_some()), (vec![1, 3], true));
    assert_eq!(
        list(json!({"Limit": 2, "After": next})).await,
        (vec![4], None)
    );
    assert_eq!(
        list(json!({"MailboxName": "Nowhere"})).await,
        (vec![], None)
    );
    let answer = call(&world, "MessageList", &json!({"Mailbox": "Inbox"})).await;
    assert_eq!(answer.status, 400, "a field of another name");
}
