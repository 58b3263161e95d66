//! Checks of deliveries as a stream, and transcripts of a message.

use postrider_store::{QueueId, Scope, Speaker, Transcript, TranscriptLine};
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
    let key = site.make_key(&[Scope::Manage], &["a.test"], |_| {}).await;
    assert_eq!(site.with_key(&key, request, "").await.status, 403);
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
