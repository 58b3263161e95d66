//! What people see of calls.

use std::time::Duration;

use postrider_observe::{
    metrics::{WebhookDirection, WebhookResult},
    trace::{EventType, Key, Kind, Record, Term},
};
use postrider_store::Event;

use crate::support::{ALLOWED, Receiver, World};

/// The events of a call: the URL, the id of the message and the status.
fn told(trace: &Record) -> (String, Option<u64>, Option<u64>) {
    let events: Vec<_> = trace.events().collect();
    let [start, end] = events.as_slice() else {
        return (format!("{events:?}"), None, None);
    };
    let types = (start.event, end.event);
    let expected = (
        EventType::PostriderWebhookStart,
        EventType::PostriderWebhookEnd,
    );
    assert_eq!(types, expected);
    let url = start.text(Key::Url).unwrap_or_default().to_owned();
    (url, start.number(Key::QueueId), end.number(Key::Code))
}

#[tokio::test]
async fn each_call_counts_and_has_a_trace_without_secrets() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    let url = receiver.url("/fail-once");
    world
        .tell(&format!("{url}?token=secret"), 7, Event::Failed)
        .await;
    receiver.wait_for(1).await;
    world.first_result().await;
    world.clock.advance(Duration::from_secs(61));
    world.retired(1).await;
    let mut traces = world.traces.take();
    traces.sort_by_key(|trace| trace.span);
    let all: Vec<_> = traces.iter().map(told).collect();
    let expected = [500, 200].map(|code| (url.clone(), Some(7), Some(code)));
    assert_eq!(all, expected);
    for trace in &traces {
        assert_eq!(
            (trace.kind, &trace.owners),
            (Kind::Webhook, &vec!["ann".to_owned()])
        );
        assert!(trace.has(Term::Queue(7)) && trace.has(Term::MessageId("1@example.org")));
    }
    let outgoing = WebhookDirection::Outgoing;
    let calls = |result| {
        world
            .metrics
            .webhook_calls_total
            .with((outgoing, result))
            .get()
    };
    assert_eq!(
        (calls(WebhookResult::Ok), calls(WebhookResult::Refused)),
        (1, 1)
    );
    assert_eq!(
        world
            .metrics
            .webhook_duration_seconds
            .with(outgoing)
            .count(),
        2
    );
    assert_eq!(world.metrics.webhooks_given_up_total.get(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_gets_no_answer_counts_by_its_reason() {
    for (settings, url, result) in [
        ("", "http://127.0.0.1:9/", WebhookResult::Forbidden),
        (ALLOWED, "http://127.0.0.1:9/", WebhookResult::Connect),
        (
            ALLOWED,
            "https://127.0.0.1:9/?secret",
            WebhookResult::Connect,
        ),
        (ALLOWED, "secret", WebhookResult::Failed),
    ] {
        let world = World::start(settings);
        world.tell(url, 7, Event::Failed).await;
        world.first_result().await;
        let labels = (WebhookDirection::Outgoing, result);
        let calls = world.metrics.webhook_calls_total.with(labels).get();
        assert_eq!(calls, 1, "{url} {result:?}");
        let traces = world.traces.take();
        let events = traces.iter().flat_map(Record::events);
        let shown: Vec<String> = events.map(|event| format!("{event:?}")).collect();
        assert!(!shown.concat().contains("secret"), "{shown:?}");
        world.stop().await;
    }
}
