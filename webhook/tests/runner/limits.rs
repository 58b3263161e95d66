//! A slow receiver delays no other receiver and no other account.

use postrider_store::Event;

use crate::support::{Receiver, World};

#[tokio::test]
async fn events_of_a_message_come_in_order_and_a_slow_receiver_delays_nobody() {
    let slow = Receiver::start().await;
    let quick = Receiver::start().await;
    let world = World::start("allow_private_addresses = true\nper_receiver_concurrency = 2\n");
    world.warm(&slow).await;
    let hang = slow.url("/hang");
    for message in 1..=5 {
        world.tell(&hang, message, Event::Delivered).await;
    }
    slow.wait_for(3).await;
    for event in [Event::Delayed, Event::Delivered, Event::Failed] {
        world.tell(&quick.url("/quick"), 9, event).await;
    }
    assert_eq!(world.retired(4).await.len(), 4);
    let calls = quick.wait_for(3).await;
    let events: Vec<_> = calls
        .iter()
        .map(|call| call.json()["Event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["delayed", "delivered", "failed"]);
    assert_eq!(
        slow.calls.borrow().len(),
        3,
        "two at a time for one receiver"
    );
    slow.go_on.add_permits(5);
    assert_eq!(world.retired(9).await.len(), 9);
    world.stop().await;
}

#[tokio::test]
async fn a_receiver_has_one_limit_for_all_its_urls_and_others_have_places() {
    let slow = Receiver::start().await;
    let quick = Receiver::start().await;
    let world = World::start(
        "allow_private_addresses = true\nmax_concurrency = 6\nper_receiver_concurrency = 2\n",
    );
    world.warm(&slow).await;
    for message in 1..=20 {
        let url = slow.url(&format!("/hang/{message}"));
        world.tell(&url, message, Event::Delivered).await;
    }
    slow.wait_for(3).await;
    for message in 31..=40 {
        world
            .tell(&quick.url("/status/200"), message, Event::Delivered)
            .await;
    }
    assert_eq!(quick.wait_for(10).await.len(), 10);
    world.retired(11).await;
    assert_eq!(slow.calls.borrow().len(), 3, "two at a time for one host");

    slow.go_on.add_permits(20);
    let retired = world.retired(31).await;
    assert!(retired.iter().all(|retired| retired.hook.attempts == 1));
    assert_eq!(slow.calls.borrow().len(), 21, "each call is made once");
    world.stop().await;
}

#[tokio::test]
async fn an_account_does_not_wait_for_another_at_the_same_host() {
    let shared = Receiver::start().await;
    let world = World::start(
        "allow_private_addresses = true\nmax_concurrency = 12\nper_receiver_concurrency = 2\n",
    );
    world.warm(&shared).await;
    for message in 1..=20 {
        let url = shared.url(&format!("/hang/{message}"));
        world.tell(&url, message, Event::Delivered).await;
    }
    shared.wait_for(3).await;
    for message in 31..=40 {
        let url = shared.url("/status/200");
        world.tell_of("bob", &url, message, Event::Delivered).await;
    }
    let retired = world.retired(11).await;
    let of_bob = retired
        .iter()
        .filter(|retired| retired.hook.account == "bob");
    assert_eq!(of_bob.count(), 10);
    shared.go_on.add_permits(20);
    world.retired(31).await;
    world.stop().await;
}
