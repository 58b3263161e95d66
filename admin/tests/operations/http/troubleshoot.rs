//! Checks of deliveries as a stream, and transcripts of a message.

use std::time::Duration;

use postrider_admin::op::{Single, keys};
use postrider_store::{ApiKeyId, QueueId, Scope, Speaker, Transcript, TranscriptLine};
use serde_json::{Value, json};

use super::{super::accounts::queue, Site};

/// The data of the events of a stream that has ended.
fn stages(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .map(|event| {
            let stages = event.as_array().unwrap();
            assert_eq!(stages.len(), 1, "{event}");
            stages.first().unwrap().clone()
        })
        .collect()
}

fn kinds(stages: &[Value]) -> Vec<&str> {
    let kinds = stages.iter().map(|stage| stage["type"].as_str().unwrap());
    kinds.collect()
}

#[tokio::test]
async fn the_stages_of_a_check_are_streamed() {
    let site = Site::open().await;
    let resolver = &site.desk.resolver;
    resolver.set_mx("null.test", &[(0, "")]);
    resolver.set_mx("lost.test", &[(10, "mx.lost.test")]);
    let check = async |of: &str| {
        let request = format!("GET /api/troubleshoot/delivery/{of}");
        site.call(&request, "").await
    };
    let got = check("x@null.test?timeout=20").await;
    assert!(got.headers.contains("text/event-stream"), "{}", got.headers);
    let told = stages(&got.bytes);
    let expected = ["mxLookupStart", "mxLookupError", "completed"];
    assert_eq!(kinds(&told), expected);
    assert_eq!(told[0]["domain"], "null.test");
    assert!(told[1]["elapsed"].is_u64() && told[1]["reason"].is_string());
    assert_eq!(told[2]["result"]["permanent"], true);
    // A domain stands for its postmaster. What only we tell is not in the stream.
    let told = stages(&check("lost.test").await.bytes);
    let kinds = kinds(&told);
    assert!(kinds.contains(&"deliveryAttemptStart") && kinds.contains(&"ipLookupError"));
    assert!(!kinds.contains(&"plan"), "{kinds:?}");
    // The site was checked just now.
    assert_eq!(check("lost.test").await.status, 503);
    assert_eq!(check("x%20y").await.error().0, 422);
    let key = site.make_key(&[Scope::ManageQueue], &[], |_| {}).await;
    let request = "GET /api/troubleshoot/delivery/x@null.test";
    assert_eq!(site.with_key(&key, request, "").await.status, 403);
}

/// The events of a stream that has ended, as the lines of each.
fn events(bytes: &[u8]) -> Vec<Vec<String>> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    // The lengths of HTTP chunks stand between the lines.
    let lines = text.lines().filter(|line| line.contains(": "));
    let mut events: Vec<Vec<String>> = Vec::new();
    for line in lines {
        match (line.starts_with("event: "), events.last_mut()) {
            (false, Some(event)) => event.push(line.to_owned()),
            _ => events.push(vec![line.to_owned()]),
        }
    }
    events
}

#[tokio::test]
async fn an_event_has_a_name_and_one_stage() {
    let site = Site::open().await;
    site.desk.resolver.set_mx("null.test", &[(0, "")]);
    // Parameters that can't be read are as if they were absent.
    let request = "GET /api/troubleshoot/delivery/x@null.test?timeout=no";
    let got = site.call(request, "").await;
    let events = events(&got.bytes);
    assert_eq!(events.len(), 3, "{events:?}");
    for event in events {
        let [name, data] = event.as_slice() else {
            panic!("{event:?}");
        };
        assert_eq!(name, "event: event");
        let data = data.strip_prefix("data: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data.as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn all_stages_are_streamed_on_request() {
    let site = Site::open().await;
    let resolver = &site.desk.resolver;
    resolver.set_mx("lost.test", &[(10, "mx.lost.test")]);
    let request = "GET /api/troubleshoot/delivery/x@lost.test?stages=all";
    let told = stages(&site.call(request, "").await.bytes);
    let plan = told.iter().find(|stage| stage["type"] == "plan");
    let hosts = &plan.unwrap()["plan"]["hosts"];
    assert_eq!(*hosts, json!(["mx.lost.test:25"]));
    let wrong = "GET /api/troubleshoot/delivery/x@lost.test?source=none";
    let wrong = site.call(wrong, "").await;
    assert_eq!(wrong.error(), (404, "notFound".to_owned()));
    let wrong = "GET /api/troubleshoot/delivery/x@lost.test?from=no";
    assert_eq!(site.call(wrong, "").await.error().0, 422);
}

#[tokio::test]
async fn a_tenant_checks_but_hears_nothing_of_others() {
    let site = Site::open().await;
    site.desk.resolver.set_mx("null.test", &[(0, "")]);
    let scopes = [Scope::ManageObserve];
    let key = site.make_key(&scopes, &["a.test"], |_| {}).await;
    let path = "GET /api/troubleshoot/delivery/x@null.test";
    for (query, status) in [
        ("", 200),
        ("?from=ann@a.test", 200),
        ("?from=bob@b.test", 404),
        ("?stages=all", 403),
        ("?source=any", 403),
    ] {
        let got = site.with_key(&key, &format!("{path}{query}"), "").await;
        assert_eq!(got.status, status, "{query}");
        if status == 404 {
            assert_eq!(got.json()["item"], "b.test");
        }
    }
}

#[tokio::test]
async fn a_token_opens_checks_for_a_minute_as_its_caller() {
    let site = Site::open().await;
    site.desk.resolver.set_mx("null.test", &[(0, "")]);
    let observer = site.make_key(&[Scope::ManageObserve], &[], |_| {}).await;
    let token = async |key: &str| {
        let got = site.with_key(key, "GET /api/troubleshoot/token", "").await;
        got.data().as_str().unwrap().to_owned()
    };
    let check = async |token: &str, query: &str| {
        let request = format!("GET /api/troubleshoot/delivery/x@null.test?token={token}{query}");
        site.send(&request, "", "").await.status
    };
    let first = token(&observer).await;
    assert_eq!(check(&first, "").await, 200);
    assert_eq!(check(&first, "&timeout=5").await, 200, "more than once");
    for wrong in ["", "x", &first[1..]] {
        assert_eq!(check(wrong, "").await, 401, "{wrong}");
    }
    // It opens nothing else.
    for path in ["/api/events", "/api/events/live", "/api/troubleshoot/token"] {
        let request = format!("GET {path}?token={first}");
        assert_eq!(site.send(&request, "", "").await.status, 401, "{path}");
    }
    // It is for the same tenant.
    let scopes = [Scope::ManageObserve];
    let tenant = site.make_key(&scopes, &["a.test"], |_| {}).await;
    let of_tenant = token(&tenant).await;
    assert_eq!(check(&of_tenant, "").await, 200);
    assert_eq!(check(&of_tenant, "&stages=all").await, 403);
    // It goes with its key.
    let all = site.desk.list(keys::List { account: None }).await;
    let last = all.iter().map(|key| key.id).max().unwrap();
    let remove = keys::Remove { id: ApiKeyId(last) };
    remove.answer(&site.desk.context).await.unwrap();
    assert_eq!(check(&of_tenant, "").await, 401);
    site.desk.clock.advance(Duration::from_secs(60));
    assert_eq!(check(&first, "").await, 401);
    let queue = site.make_key(&[Scope::ManageQueue], &[], |_| {}).await;
    let refused = site.with_key(&queue, "GET /api/troubleshoot/token", "");
    assert_eq!(refused.await.status, 403);
}

#[tokio::test]
async fn one_message_has_its_transcripts() {
    let site = Site::open().await;
    queue(&site.desk, "ann", "ann@a.test").await;
    let id = QueueId(1);
    let transcript = Transcript {
        start: site.now(),
        remote: "mx.remote.test [192.0.2.1]".into(),
        lines: vec![TranscriptLine {
            ms: 7,
            by: Speaker::Server,
            text: "421 busy".into(),
        }],
        ..Transcript::default()
    };
    let store = &site.desk.context.store;
    store
        .keep_transcripts(vec![(id, transcript)])
        .await
        .unwrap();
    let message = site.get(&format!("/api/queue/messages/{id}")).await;
    assert_eq!(
        message["transcripts"],
        json!([{
            "start": site.now().to_string(), "remote": "mx.remote.test [192.0.2.1]",
            "source": "", "ehlo": "", "tls_rule": "", "tls_version": null, "tls_cipher": null,
            "certificate": null, "left_out": 0,
            "lines": [{"ms": 7, "by": "server", "text": "421 busy"}],
        }])
    );
    let list = site.get("/api/queue/messages?values=1").await;
    assert_eq!(list["items"][0]["transcripts"], Value::Null);
}

#[tokio::test]
async fn a_message_is_checked_as_its_client_would_bring_it() {
    let site = Site::open().await;
    let resolver = &site.desk.resolver;
    let spf = |text: &str| postrider_dns::Record::Txt(text.into());
    resolver.add("good.test", spf("v=spf1 ip4:192.0.2.7 -all"));
    resolver.add("_dmarc.good.test", spf("v=DMARC1; p=reject"));
    let mut request = json!({
        "remoteIp": "192.0.2.7",
        "ehloDomain": "mx.good.test",
        "mailFrom": "a@good.test",
        "body": "From: <a@good.test>\r\nSubject: Hi\r\n\r\nHello\r\n",
    });
    let call = async |query: &str, request: &Value| {
        let path = format!("POST /api/troubleshoot/dmarc{query}");
        site.call(&path, &request.to_string()).await
    };
    let found = call("", &request).await.data();
    let names: Vec<&str> = found
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "spfEhloDomain",
        "spfEhloResult",
        "spfMailFromDomain",
        "spfMailFromResult",
        "ipRevResult",
        "ipRevPtr",
        "dkimResults",
        "dkimPass",
        "arcResult",
        "dmarcResult",
        "dmarcPass",
        "dmarcPolicy",
        "elapsed",
    ];
    assert_eq!(names, expected);
    assert_eq!(found["spfMailFromResult"], json!({"type": "pass"}));
    assert_eq!(
        (&found["dmarcPass"], &found["dmarcPolicy"]),
        (&json!(true), &json!("reject"))
    );
    assert_eq!(found["ipRevResult"]["type"], "permError");
    let more = call("?details=all", &request).await.data();
    let mail_from = &more["details"]["spf_mail_from"];
    assert_eq!(mail_from["mechanism"], "ip4:192.0.2.7");
    // Without a message, MAIL FROM is the author.
    request.as_object_mut().unwrap().remove("body");
    assert_eq!(call("", &request).await.data()["dmarcPass"], true);
    request["mailFrom"] = json!("no address");
    let wrong = call("", &request).await;
    assert_eq!(
        (wrong.status, wrong.json()["field"].as_str()),
        (422, Some("mailFrom"))
    );
    assert_eq!(call("", &json!({})).await.status, 400);
    // It changes nothing, so a key that only reads may make the call.
    request["mailFrom"] = json!("");
    let key = site.make_key(&[Scope::ManageRead], &[], |_| {}).await;
    let path = "POST /api/troubleshoot/dmarc";
    let got = site.with_key(&key, path, &request.to_string()).await;
    assert_eq!(got.data()["spfMailFromDomain"], "mx.good.test");
}
