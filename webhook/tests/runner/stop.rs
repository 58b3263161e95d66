//! The calls that run when the server stops.

use std::collections::HashSet;

use postrider_store::{ClaimHooks, Event, HookFilter, Order, RetiredHookFilter, Time};

use crate::support::{ALLOWED, Receiver, World};

#[tokio::test]
async fn running_calls_are_given_back_when_the_server_stops() {
    let receiver = Receiver::start().await;
    let world = World::start("allow_private_addresses = true\nper_receiver_concurrency = 1\n");
    let hang = receiver.url("/hang");
    for message in 1..=3 {
        world.tell(&hang, message, Event::Delivered).await;
    }
    receiver.wait_for(1).await;
    let store = world.store.clone();
    // From here on, time passes by itself when all tasks wait.
    tokio::time::pause();
    world.stop().await;
    let hooks = store
        .list_hooks(&HookFilter::default(), None, Order::Ascending, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(hooks.len(), 3);
    for hook in hooks {
        assert_eq!((hook.attempts, hook.results.len()), (0, 0), "{}", hook.id.0);
    }
    assert_eq!(receiver.calls.borrow().len(), 1);
    let again = ClaimHooks {
        now: Time(1_800_000_000_000_000),
        max: 10,
        max_per_lane: 10,
        except: HashSet::new(),
    };
    assert_eq!(store.claim_hooks(again).await.unwrap().hooks.len(), 3);
}

#[tokio::test]
async fn calls_that_end_while_the_server_stops_are_recorded() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    world.tell(&receiver.url("/hang"), 1, Event::Failed).await;
    receiver.wait_for(1).await;
    let store = world.store.clone();
    world.stop.send_replace(true);
    receiver.go_on.add_permits(1);
    world.stop().await;
    let retired = store
        .list_retired_hooks(&RetiredHookFilter::default(), None, Order::Ascending, 10)
        .await
        .unwrap()
        .items;
    assert!(retired.len() == 1 && retired[0].success);
    assert_eq!(store.counts().await.hooks, 0);
}
