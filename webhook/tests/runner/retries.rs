//! Calls that failed are made again, in order, and end.

use std::{sync::Arc, time::Duration};

use postrider_observe::metrics::{WebhookDirection, WebhookResult};
use postrider_store::{Clock, Event, HookFilter, Order};

use crate::support::{ALLOWED, Call, Receiver, World};

#[tokio::test]
async fn a_failed_call_is_repeated_unchanged_and_its_answer_kept() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    world
        .tell(&receiver.url("/fail-once"), 1, Event::Delivered)
        .await;
    let first = receiver.wait_for(1).await;
    // The result is recorded before the time of the next call can come.
    world.first_result().await;
    world.clock.advance(Duration::from_secs(61));
    let calls = receiver.wait_for(2).await;
    assert_eq!(calls[1].header("x-mox-webhook-attempt"), "2");
    assert_eq!(
        calls[1].header("x-mox-webhook-id"),
        first[0].header("x-mox-webhook-id")
    );
    assert_eq!(calls[1].body, first[0].body);
    let results = world.retired(1).await[0].hook.results.clone();
    assert_eq!((results[0].code, results[0].response.len()), (500, 512));
    assert!(
        results[0].error.contains("500 Internal Server Error"),
        "{}",
        results[0].error
    );
    assert!(results[1].success && results[1].error.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_down_for_an_hour_misses_nothing() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    let url = receiver.url("/down");
    let events = [Event::Delayed, Event::Delayed, Event::Delivered];
    for event in events {
        for message in 1..=10 {
            world.tell(&url, message, event).await;
        }
    }
    for _ in 0..12 {
        world.clock.advance(Duration::from_secs(300));
        world.first_result().await;
    }
    assert_eq!(world.store.counts().await.hooks, 30, "all of them wait");
    receiver.up.lock().unwrap().0 = true;
    let retired = loop {
        tokio::select! {
            biased;
            retired = world.retired(30) => break retired,
            () = tokio::task::yield_now() => world.clock.advance(Duration::from_secs(60)),
        }
    };
    assert!(retired.iter().all(|retired| retired.success));
    let taken = receiver.up.lock().unwrap().1.clone();
    assert_eq!(taken.len(), 30);
    for message in 1..=10 {
        let told: Vec<_> = taken
            .iter()
            .map(Call::json)
            .filter(|told| told["QueueMsgID"] == message)
            .map(|told| told["Event"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, ["delayed", "delayed", "delivered"], "{message}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_later_event_waits_while_the_earlier_one_is_repeated() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    let url = receiver.url("/fail-once");
    world.tell(&url, 1, Event::Delayed).await;
    world.tell(&url, 1, Event::Delivered).await;
    world.first_result().await;
    // An event of another message does not wait.
    world.tell(&url, 2, Event::Delivered).await;
    world.retired(1).await;
    assert_eq!(receiver.wait_for(2).await[1].json()["QueueMsgID"], 2);

    world.clock.advance(Duration::from_secs(61));
    world.retired(3).await;
    let calls = receiver.wait_for(4).await;
    let events: Vec<_> = calls
        .iter()
        .map(Call::json)
        .filter(|call| call["QueueMsgID"] == 1)
        .map(|call| call["Event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["delayed", "delayed", "delivered"]);
    world.stop().await;
}

#[tokio::test]
async fn after_all_repeats_a_call_is_given_up_and_the_next_event_comes() {
    let receiver = Receiver::start().await;
    let world =
        World::start("allow_private_addresses = true\nretry_intervals = [\"1m\", \"10m\"]\n");
    let url = receiver.url("/status/404");
    world.tell(&url, 1, Event::Delayed).await;
    world.tell(&url, 1, Event::Delivered).await;
    world.first_result().await;
    let due = world
        .store
        .list_hooks(&HookFilter::default(), None, Order::Ascending, 1)
        .await
        .unwrap()
        .items[0]
        .next_attempt;
    let wait = due.since(world.clock.now());
    assert!(
        (59_400..=60_600).contains(&wait.as_millis()),
        "within 1 % of a minute: {wait:?}"
    );
    world.clock.advance(Duration::from_secs(61));
    world.results(2).await;
    world.clock.advance(Duration::from_secs(607));
    let retired = world.retired(1).await;
    let first = &retired[0];
    assert!(!first.success);
    assert_eq!(
        (first.hook.attempts, first.hook.results.len()),
        (3, 3),
        "intervals + 1"
    );
    assert!(
        first
            .hook
            .results
            .iter()
            .all(|result| result.code == 404 && !result.success)
    );
    assert_eq!(
        first.keep_until.since(first.last_activity),
        Duration::from_secs(3600)
    );
    let calls = receiver.wait_for(4).await;
    assert_eq!(calls[3].json()["Event"], "delivered");
    assert_eq!(calls[3].header("x-mox-webhook-attempt"), "1");
    world.stop().await;
}

#[tokio::test]
async fn results_are_tried_until_they_are_recorded_and_nothing_is_called_meanwhile() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    let url = receiver.url("/status/200");
    let mut refused = world.store.refuse_results(true);
    world.tell(&url, 1, Event::Delivered).await;
    receiver.wait_for(1).await;
    for count in 1..=3 {
        refused.wait_for(|refused| *refused >= count).await.unwrap();
        world.clock.advance(Duration::from_secs(60));
    }
    world.tell(&url, 2, Event::Delivered).await;
    refused.wait_for(|refused| *refused >= 4).await.unwrap();
    assert_eq!(receiver.wait_for(1).await.len(), 1);
    // Nobody hears of a result that is not recorded.
    let metrics = Arc::clone(&world.metrics);
    let labels = (WebhookDirection::Outgoing, WebhookResult::Ok);
    let counted = || metrics.webhook_calls_total.with(labels).get();
    assert_eq!(counted(), 0);
    assert!(world.traces.take().is_empty());
    let _ = world.store.refuse_results(false);
    world.clock.advance(Duration::from_secs(60));
    world.retired(2).await;
    assert_eq!(receiver.wait_for(2).await.len(), 2);
    world.stop().await;
    assert_eq!(counted(), 2);
}
