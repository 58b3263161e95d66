//! Webhook calls that wait.

use std::time::Duration;

use postrider_store::{Accept, Event, NewHook, NewHookKind, OutgoingEvent, QueueId, Scope};
use serde_json::{Value, json};

use super::Site;

/// A site with a call of ann, and one of bob, which are due later.
async fn site() -> Site {
    let site = Site::open().await;
    for account in ["ann", "bob"] {
        let told = OutgoingEvent {
            event: Event::Delivered,
            dsn: false,
            suppressing: false,
            queue_id: QueueId(7),
            from_id: String::new(),
            message_id: "<1@a.test>".to_owned(),
            subject: String::new(),
            queued: site.now(),
            code: 250,
            enhanced: None,
            error: String::new(),
            extra: [].into(),
        };
        let hook = NewHook {
            account: account.to_owned(),
            url: "http://a.test/".to_owned(),
            authorization: String::new(),
            kind: NewHookKind::Outgoing(told),
            submitted: site.now(),
            next_attempt: site.now().after(Duration::from_secs(3600)),
        };
        let accept = Accept {
            hooks: vec![hook],
            ..Accept::default()
        };
        site.desk.context.store.accept(accept).await.unwrap();
    }
    site
}

/// The accounts of the calls that wait, with the times of their next attempts.
async fn waiting(site: &Site) -> Vec<(Value, Value)> {
    let list = site.get("/api/queue/webhooks").await;
    let items = list.pointer("/items").unwrap().as_array().unwrap().iter();
    items
        .map(|item| {
            let field = |name: &str| item.get(name).unwrap().clone();
            (field("account"), field("next_attempt"))
        })
        .collect()
}

#[tokio::test]
async fn all_calls_that_match_are_moved_and_ended() {
    let site = site().await;
    let now = json!(site.now().to_string());
    let call = async |request: &str| site.call(request, "").await;
    for query in ["?at=never", "?account=", "?nothing=1"] {
        let got = call(&format!("PATCH /api/queue/webhooks{query}")).await;
        assert_eq!(got.error(), (400, "other".to_owned()), "{query}");
    }
    let none = call("PATCH /api/queue/webhooks?event=failed").await;
    assert_eq!(none.data(), json!(false));
    let moved = call("PATCH /api/queue/webhooks?account=bob").await;
    assert_eq!(moved.data(), json!(true));
    let [ann, bob] = waiting(&site).await.try_into().unwrap();
    assert_eq!(bob, (json!("bob"), now.clone()));
    assert_ne!(ann.1, now);
    let at = "2030-01-01T00:00:00Z";
    let moved = call(&format!("PATCH /api/queue/webhooks?at={at}")).await;
    assert_eq!(moved.data(), json!(true));
    assert!(waiting(&site).await.iter().all(|(_, next)| next == at));
    // A time that can't be read is as if it was absent, for one call.
    let id = site.get("/api/queue/webhooks").await["items"][0]["id"].clone();
    let one = call(&format!("PATCH /api/queue/webhooks/{id}?at=never")).await;
    assert_eq!(one.data(), json!(true));
    assert_eq!(waiting(&site).await[0].1, now);

    let ended = call("DELETE /api/queue/webhooks?account=ann&event=delivered").await;
    assert_eq!(ended.data(), json!(true));
    let left = waiting(&site).await;
    assert_eq!((left.len(), &left[0].0), (1, &json!("bob")));
}

#[tokio::test]
async fn calls_are_found_by_message_time_and_failures() {
    let site = site().await;
    let now = site.now();
    let hour = Duration::from_secs(3600);
    let (before, after) = (now.before(hour), now.after(hour));
    for (query, expected) in [
        ("message=7".to_owned(), 2),
        ("message=8".to_owned(), 0),
        (format!("before={before}"), 0),
        (format!("before={after}&after={before}"), 2),
        (format!("after={after}"), 0),
        ("failed=true".to_owned(), 0),
        ("failed=false&account=bob".to_owned(), 1),
    ] {
        let found = site.get(&format!("/api/queue/webhooks?{query}")).await;
        assert_eq!(found["total"], json!(expected), "{query}");
    }
    let ended = site
        .call("DELETE /api/queue/webhooks?failed=true", "")
        .await;
    assert_eq!(ended.data(), json!(false));
    let ended = site
        .call("DELETE /api/queue/webhooks?failed=maybe", "")
        .await;
    assert_eq!(ended.status, 400);
    assert_eq!(waiting(&site).await.len(), 2);
    let past = "/api/queue/webhooks/retired?success=false&message=7";
    assert_eq!(site.get(past).await["total"], json!(0));
}

#[tokio::test]
async fn a_tenant_changes_its_own_calls() {
    let site = site().await;
    let key = site
        .make_key(&[Scope::ManageQueue], &["a.test"], |_| {})
        .await;
    let call = async |request: &str| site.with_key(&key, request, "").await.data();
    for method in ["PATCH", "DELETE"] {
        let foreign = call(&format!("{method} /api/queue/webhooks?account=bob")).await;
        assert_eq!(foreign, json!(false), "{method}");
    }
    assert_eq!(call("PATCH /api/queue/webhooks").await, json!(true));
    assert_eq!(call("DELETE /api/queue/webhooks").await, json!(true));
    let [left] = waiting(&site).await.try_into().unwrap();
    assert_eq!(left.0, json!("bob"));
    assert_ne!(left.1, json!(site.now().to_string()));
}
