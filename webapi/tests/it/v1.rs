//! The API v1.

use axum::{body::Body, http::Request};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_store::{NewApiKey, Scope, Time, login::KeyText};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

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
async fn it_describes_itself() {
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
async fn a_message_is_sent_looked_at_and_canceled() {
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
    // Nobody sees or ends what is another's.
    let bob = basic("bob@example.org");
    let asked = json!({"QueueMsgID": 2}).to_string();
    let other = call_as(&world, &bob, "QueueStatus", &asked).await.json();
    assert_eq!(field(&other, "/Messages"), &json!([]));
    let ids = json!({"QueueMsgIDs": [1, 2, 3]});
    let other = call_as(&world, &bob, "QueueCancel", &ids.to_string())
        .await
        .json();
    assert_eq!(other, json!({"Canceled": 0, "InDelivery": 0}));
    let canceled = call(&world, "QueueCancel", &ids).await.json();
    assert_eq!(canceled, json!({"Canceled": 2, "InDelivery": 0}));
    assert!(world.queued().is_empty());
}

#[tokio::test]
async fn what_is_wrong_has_a_status_and_a_code() {
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
    // Bob's limits are low.
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
    };
    let id = world.store.add_api_key(key).await.unwrap();
    let bearer = format!("Bearer {}", KeyText::new(id, secret));
    let answer = call_as(&world, &bearer, "Send", "{}").await;
    assert_eq!(
        (answer.status.as_u16(), field(&answer.json(), "/Code")),
        (403, &json!("forbidden"))
    );
}
