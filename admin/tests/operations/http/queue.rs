//! The calls for the queue.

use std::time::Duration;

use postrider_store::{Claim, Order, Scope, Urgency};
use serde_json::{Value, json};

use super::{
    super::accounts::{queue, queue_as},
    Site,
};

/// A site with three messages: of ann, of bob, and of the account in both domains.
async fn site() -> Site {
    let site = Site::open().await;
    queue(&site.desk, "ann", "ann@a.test").await;
    queue(&site.desk, "bob", "bob@b.test").await;
    queue(&site.desk, "both", "both@a.test").await;
    site
}

#[tokio::test]
async fn deliveries_are_stopped_and_started() {
    let site = Site::open().await;
    let call = async |name: &str| {
        let request = format!("PATCH /api/queue/status/{name}");
        site.call(&request, "").await.data()
    };
    assert_eq!(call("stop").await, json!(true));
    assert_eq!(call("stop").await, json!(false));
    assert_eq!(site.get("/api/queue/status").await, json!(false));
    let list = site.get("/api/queue/messages").await;
    assert_eq!(list, json!({"items": [], "total": 0, "status": false}));
    assert_eq!(call("start").await, json!(false));
    assert_eq!(call("start").await, json!(true));
}

#[tokio::test]
async fn a_message_has_the_fields_of_both_forms() {
    let site = site().await;
    let message = site.get("/api/queue/messages/1").await;
    let due = site.now().after(Duration::from_secs(60)).to_string();
    let recipients = &message["recipients"];
    assert_eq!(recipients[0]["next_retry"], json!(due));
    let notify = site
        .now()
        .after(Duration::from_secs(60 + 4 * 60 * 60))
        .to_string();
    let expires = recipients[0]["expires"].as_str().unwrap();
    assert!(expires > due.as_str(), "{expires}");
    assert_eq!(
        recipients,
        &json!([{
            "address": "a@remote.test", "queue": "default", "status": "scheduled",
            "retry_num": 0, "next_retry": due, "next_notify": notify, "expires": expires
        }])
    );
    let hash = message["blob_hash"].as_str().unwrap();
    let created = site.now().to_string();
    let mut expected = json!({
        "id": 1, "return_path": "ann@a.test", "created": created, "size": 4,
        "blob_hash": hash, "recipients": recipients,
        "account": "ann", "from": "ann@a.test", "to": "a@remote.test", "subject": "",
        "next_attempt": due, "last_attempt": null, "attempts": 0, "held": false,
        "state": message["state"], "last_result": null, "transport": "",
        "message_id": "<1@example.org>", "from_id": "", "extra": {}, "results": [],
        "transcripts": []
    });
    assert_eq!(message, expected);
    let text = site.call(&format!("GET /api/store/blobs/{hash}"), "").await;
    assert_eq!((text.status, text.bytes.as_slice()), (200, &b"\r\nHi"[..]));
    assert!(text.headers.contains("application/octet-stream"));
    let part = format!("GET /api/store/blobs/{hash}?offset=2&limit=1");
    assert_eq!(site.call(&part, "").await.bytes, b"H");
    assert_eq!(site.call("GET /api/store/blobs/xyz", "").await.status, 404);

    let all = site.get("/api/queue/messages?values=1&limit=1").await;
    for alone in ["results", "transcripts"] {
        expected.as_object_mut().unwrap().remove(alone);
    }
    assert_eq!(
        all,
        json!({"items": [expected], "total": 3, "next": "1", "status": true})
    );
}

#[tokio::test]
async fn a_message_with_a_priority_tells_it() {
    let site = Site::open().await;
    queue(&site.desk, "ann", "ann@a.test").await;
    let urgency = Urgency {
        priority: -3,
        ..Urgency::default()
    };
    queue_as(&site.desk, "ann", "ann@a.test", urgency).await;
    let items = site.get("/api/queue/messages?values=1").await["items"].take();
    assert_eq!(items[0].get("priority"), None);
    assert_eq!(items[1]["priority"], json!(-3));
}

#[tokio::test]
async fn messages_are_listed_by_filter_and_page() {
    let site = site().await;
    let ids = async |query: &str| {
        let mut data = site.get(&format!("/api/queue/messages?{query}")).await;
        data["items"].take()
    };
    assert_eq!(ids("").await, json!([1, 2, 3]));
    assert_eq!(ids("limit=2&page=2").await, json!([3]));
    assert_eq!(ids("limit=2&cursor=1&sort=id").await, json!([2, 3]));
    assert_eq!(ids("sort=-id&limit=2").await, json!([3, 2]));
    assert_eq!(ids("from=a.test").await, json!([1, 3]));
    assert_eq!(ids("text=bob&from=a.test").await, json!([2]));
    assert_eq!(ids("to=remote.test&range-start=2").await, json!([2, 3]));
    assert_eq!(ids("range-end=1").await, json!([1]));
    assert_eq!(ids("filter=account:bob").await, json!([2]));
    assert_eq!(ids("filter=bob").await, json!([2]));
    assert_eq!(ids("filter=domain:remote.test,from:both").await, json!([3]));
    assert_eq!(
        ids("filter=message_id:1@example.org").await,
        json!([1, 2, 3])
    );
    assert_eq!(ids("filter=status:scheduled").await, json!([1, 2, 3]));
    assert_eq!(ids("filter=status:held").await, json!([]));
    assert_eq!(ids("queue=default").await, json!([1, 2, 3]));
    assert_eq!(ids("queue=relay").await, json!([]));
    let soon = site.now().after(Duration::from_secs(30));
    assert_eq!(ids(&format!("before={soon}")).await, json!([]));
    assert_eq!(ids(&format!("after={soon}")).await, json!([1, 2, 3]));
    // The parameters of a list may be wrong.
    assert_eq!(
        ids("limit=x&before=yesterday&nothing=1").await,
        json!([1, 2, 3])
    );
    let few = site
        .get("/api/queue/messages?filter=domain:remote.test&max-total=2")
        .await;
    assert_eq!((&few["total"], &few["more"]), (&json!(2), &json!(true)));
}

#[tokio::test]
async fn a_message_is_changed_and_ended() {
    let site = site().await;
    let call = async |request: &str, body: &str| site.call(request, body).await;
    let one = "PATCH /api/queue/messages/1";
    assert_eq!(call(one, "").await.data(), json!(true));
    let due = site.get("/api/queue/messages/1").await["next_attempt"].take();
    assert_eq!(due, json!(site.now().to_string()));
    let at = "2030-01-01T00:00:00Z";
    let later = format!("{one}?at={at}");
    assert_eq!(call(&later, "").await.data(), json!(true));
    let due = site.get("/api/queue/messages/1").await["next_attempt"].take();
    assert_eq!(due, json!(at));
    let others = format!("{one}?filter=other.test");
    assert_eq!(call(&others, "").await.data(), json!(false));
    let held = call(one, r#"{"hold": true}"#).await.data();
    assert_eq!(held, json!(true));
    let message = site.get("/api/queue/messages/1").await;
    assert_eq!(message["held"], json!(true));
    assert_eq!(message["recipients"][0].get("next_retry"), None);
    assert_eq!(call(one, "").await.data(), json!(true));
    let message = site.get("/api/queue/messages/1").await;
    assert_eq!(message["held"], json!(true));
    let unknown = call(one, r#"{"transport": "none"}"#).await;
    assert_eq!(unknown.error(), (422, "other".to_owned()));
    assert_eq!(unknown.json()["field"], json!("transport"));
    // A time that can't be read is as if it was absent.
    let never = call(&format!("{one}?at=never"), "").await;
    assert_eq!(never.data(), json!(true));
    let due = site.get("/api/queue/messages/1").await["next_attempt"].take();
    assert_eq!(due, json!(site.now().to_string()));

    let end = "DELETE /api/queue/messages/1";
    let others = format!("{end}?filter=other.test");
    assert_eq!(call(&others, "").await.data(), json!(false));
    assert_eq!(call(end, "").await.data(), json!(true));
    assert_eq!(call(end, "").await.error(), (404, "notFound".to_owned()));
    assert_eq!(call(one, "").await.error(), (404, "notFound".to_owned()));
}

#[tokio::test]
async fn messages_in_delivery_are_left_alone() {
    let site = site().await;
    site.desk.clock.advance(Duration::from_secs(61));
    let claim = Claim {
        now: site.now(),
        moment: site.desk.context.clock.moment(),
        max: 1,
        max_per_lane: 1,
        which: postrider_store::Which::All,
        lease: Duration::from_secs(600),
    };
    let claimed = site.desk.context.store.claim(claim).await.unwrap();
    let id = claimed.messages[0].id;
    let list = site
        .get("/api/queue/messages?filter=status:delivering")
        .await;
    assert_eq!(list["items"], json!([id.0]));
    for verb in ["PATCH", "DELETE"] {
        let got = site
            .call(&format!("{verb} /api/queue/messages/{id}"), "")
            .await;
        assert_eq!(got.data(), json!(false), "{verb}");
    }
    let all = site.call("DELETE /api/queue/messages", "").await;
    assert_eq!(
        all.json(),
        json!({"data": true, "count": 2, "in_delivery": 1, "done": true})
    );
}

#[tokio::test]
async fn all_that_match_are_changed_unless_a_parameter_is_wrong() {
    let site = site().await;
    for query in [
        "before=x",
        "filter=status:x",
        "nothing=1",
        "range-start=x",
        "filter=status:failed",
    ] {
        for verb in ["PATCH", "DELETE"] {
            let request = format!("{verb} /api/queue/messages?{query}");
            let got = site.call(&request, "").await;
            assert_eq!(got.error(), (400, "other".to_owned()), "{request}");
        }
    }
    let hold = r#"{"hold": true}"#;
    let got = site
        .call("PATCH /api/queue/messages?from=a.test", hold)
        .await;
    assert_eq!(
        got.json(),
        json!({"data": true, "count": 2, "in_delivery": 0, "done": true})
    );
    let list = site.get("/api/queue/messages?filter=status:held").await;
    assert_eq!(list["items"], json!([1, 3]));
    let got = site
        .call("DELETE /api/queue/messages?text=nobody", "")
        .await;
    assert_eq!(got.json()["data"], json!(false));
    let got = site.call("DELETE /api/queue/messages?fail=1", "").await;
    assert_eq!(got.json()["count"], json!(3));
    let audit = site.desk.context.store;
    let filter = postrider_store::AuditFilter {
        operation: Some("queue.end".to_owned()),
        ..Default::default()
    };
    let entries = audit
        .list_audit(&filter, None, Order::Descending, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(entries.len(), 2);
    assert_eq!(
        (entries[0].name.as_str(), entries[0].from.is_some()),
        ("tool", true)
    );
}

#[tokio::test]
async fn the_mapped_client_reads_its_lists() {
    let site = site().await;
    let list = site.get("/api/queue/messages?limit=100").await;
    assert_eq!(
        list,
        json!({"items": [1, 2, 3], "total": 3, "status": true})
    );
    let list = site.get("/api/queue/messages?filter=status:failed").await;
    assert_eq!(list, json!({"items": [], "total": 0, "status": true}));
}

#[tokio::test]
async fn a_tenant_sees_what_is_wholly_in_its_domains() {
    let site = site().await;
    let key = site.make_key(&[Scope::Manage], &["a.test"], |_| {}).await;
    let call = async |request: &str, body: &str| site.with_key(&key, request, body).await;
    let list = call("GET /api/queue/messages", "").await.data();
    assert_eq!(list, json!({"items": [1], "total": 1, "status": true}));
    for id in [2, 3, 9] {
        for verb in ["GET", "PATCH", "DELETE"] {
            let got = call(&format!("{verb} /api/queue/messages/{id}"), "").await;
            assert_eq!(got.error(), (404, "notFound".to_owned()));
            let text = format!("there is no message {id}");
            assert_eq!(got.json()["detail"], json!(text), "{verb}");
        }
    }
    let blob = site.get("/api/queue/messages/2").await["blob_hash"].take();
    let blob = format!("GET /api/store/blobs/{}", blob.as_str().unwrap());
    assert_eq!(call(&blob, "").await.status, 404);
    let all = call("DELETE /api/queue/messages", "").await.json();
    assert_eq!(all["count"], json!(1));
    assert_eq!(
        site.get("/api/queue/messages").await["items"],
        json!([2, 3])
    );
    // A tenant without accounts changes nothing.
    let key = site
        .make_key(&[Scope::Manage], &["example.org"], |_| {})
        .await;
    let app = r#"{"account": "bob"}"#;
    let got = site.with_key(&key, "POST /api/queue/hold-rules", app).await;
    assert_eq!(got.error(), (404, "notFound".to_owned()));
    let got = site
        .with_key(&key, "POST /api/queue/hold-rules", "{}")
        .await;
    assert_eq!(got.error(), (422, "other".to_owned()));
    let got = site.with_key(&key, "DELETE /api/queue/messages", "").await;
    assert_eq!(got.json()["count"], json!(0));
}

#[tokio::test]
async fn hold_rules_come_and_go() {
    let site = site().await;
    let add = r#"{"account": "ann"}"#;
    let added = site.call("POST /api/queue/hold-rules", add).await.data();
    assert_eq!(added, json!({"id": 1, "held": 1}));
    let list = site.get("/api/queue/hold-rules").await;
    assert_eq!(list["total"], json!(1));
    assert_eq!(list["items"][0]["account"], json!("ann"));
    let bad = site
        .call("POST /api/queue/hold-rules", r#"{"sender": "x"}"#)
        .await;
    assert_eq!(bad.error(), (422, "other".to_owned()));
    assert_eq!(bad.json()["field"], json!("sender"));
    let tenant = site
        .make_key(&[Scope::ManageQueue], &["b.test"], |_| {})
        .await;
    let request = "DELETE /api/queue/hold-rules/1";
    assert_eq!(site.with_key(&tenant, request, "").await.status, 404);
    let list = site
        .with_key(&tenant, "GET /api/queue/hold-rules", "")
        .await;
    assert_eq!(list.data(), json!({"items": [], "total": 0}));
    assert_eq!(site.call(request, "").await.json(), json!({"data": null}));
    assert_eq!(site.call(request, "").await.status, 404);
}

#[tokio::test]
async fn suppressions_come_and_go() {
    let site = site().await;
    let path = "/api/queue/suppressions";
    let add = r#"{"account": "ann", "address": "x+y@remote.test", "reason": "asked"}"#;
    let added = site.call(&format!("POST {path}"), add).await;
    assert_eq!(added.data(), Value::Null);
    let again = site.call(&format!("POST {path}"), add).await;
    assert_eq!(again.error(), (409, "fieldAlreadyExists".to_owned()));
    assert_eq!(again.json()["value"], json!("x+y@remote.test"));
    let found = site.get(&format!("{path}/ann/x%40remote.test")).await;
    assert_eq!(found["reason"], json!("asked"));
    let list = site.get(path).await;
    assert_eq!(list["items"][0], found);
    let listed = r#"{"account": "ann", "address": "z@remote.test", "list": "news"}"#;
    assert_eq!(site.call(&format!("POST {path}"), listed).await.status, 200);
    let entry = format!("{path}/ann/z@remote.test");
    assert_eq!(site.call(&format!("GET {entry}"), "").await.status, 404);
    let entry = format!("{entry}?list=news");
    assert_eq!(site.get(&entry).await["list"], json!("news"));
    for (query, expected) in [
        ("?text=X%2Bother@remote.test", 1),
        ("?text=asked", 1),
        ("?list=news", 1),
        ("?list=news&text=asked", 0),
        ("?manual=true", 2),
        ("?manual=false", 0),
    ] {
        let found = site.get(&format!("{path}{query}")).await;
        assert_eq!(found["total"], json!(expected), "{query}");
    }
    let tenant = site
        .make_key(&[Scope::ManageQueue], &["b.test"], |_| {})
        .await;
    let got = site.with_key(&tenant, &format!("DELETE {entry}"), "").await;
    assert_eq!(got.json()["detail"], json!("there is no account ann"));
    assert_eq!(
        site.call(&format!("DELETE {entry}"), "").await.data(),
        Value::Null
    );
    assert_eq!(site.call(&format!("DELETE {entry}"), "").await.status, 404);
}

#[tokio::test]
async fn destinations_are_paused_and_limited() {
    let site = site().await;
    let path = "/api/queue/destinations";
    assert_eq!(site.get(path).await, json!({"items": [], "total": 0}));
    let change = async |what: &str, body: &str| {
        let request = format!("PATCH {path}/{what}");
        site.call(&request, body).await
    };
    let terms = r#"{"for": "2h", "reason": "they move"}"#;
    let paused = change("Remote.test/pause", terms).await;
    assert_eq!(paused.json(), json!({"data": null}));
    let terms = r#"{"connections": 2, "rate": "100/hour"}"#;
    let limited = change("mx:00ff/limit", terms).await;
    assert_eq!(limited.data(), Value::Null);
    let orders = site.get(&format!("{path}/orders")).await;
    let (since, until) = (site.now(), site.now().after(Duration::from_secs(7200)));
    assert_eq!(
        orders["items"],
        json!([
            {"target": "mx:00ff", "order": "limit", "since": since.to_string(),
             "until": null, "connections": 2, "rate": "100/hour", "reason": ""},
            {"target": "remote.test", "order": "pause", "since": since.to_string(),
             "until": until.to_string(), "connections": null, "rate": null,
             "reason": "they move"},
        ])
    );
    for (what, body, status, field) in [
        ("a..b/pause", "", 422, Some("target")),
        ("remote.test/pause", r#"{"for": "soon"}"#, 422, Some("for")),
        (
            "remote.test/limit",
            r#"{"rate": "5/week"}"#,
            422,
            Some("rate"),
        ),
        (
            "remote.test/limit",
            r#"{"connections": 0}"#,
            422,
            Some("connections"),
        ),
        ("other.test/resume", "", 404, None),
        ("other.test/forget", "", 404, None),
    ] {
        let refused = change(what, body).await;
        assert_eq!(refused.status, status, "{what} {body}: {refused:?}");
        assert_eq!(refused.json()["field"], json!(field), "{what} {body}");
    }
    assert_eq!(
        site.call(&format!("GET {path}/remote.test"), "")
            .await
            .status,
        404
    );
    let tenant = site
        .make_key(&[Scope::ManageQueue], &["b.test"], |_| {})
        .await;
    let request = format!("PATCH {path}/remote.test/resume");
    assert_eq!(site.with_key(&tenant, &request, "").await.status, 403);
    assert_eq!(site.call(&request, "").await.data(), Value::Null);
    assert_eq!(change("mx:00ff/limit", "").await.data(), Value::Null);
    let orders = site.get(&format!("{path}/orders")).await;
    assert_eq!(orders["items"], json!([]));
    let audit = site.get("/api/audit?target=remote.test").await;
    let made: Vec<&Value> = audit["items"].as_array().unwrap().iter().collect();
    let operations = |name: &str| {
        made.iter()
            .filter(|it| it["operation"] == json!(name))
            .count()
    };
    assert_eq!(
        operations("destination.pause"),
        2,
        "one of them was refused: {audit}"
    );
    assert_eq!(operations("destination.resume"), 1);
}
