//! Domains whose hosts can't be found, or may not be connected to.

use postrider_store::Queued;

use super::*;

/// Waits for the end of the next attempt of the only message, at its time.
async fn next_attempt(world: &World, id: QueueId) -> Queued {
    let queued = world.store.queued(id).await.unwrap().unwrap();
    world.clock.advance(queued.next_attempt.since(world.now()));
    let later = |all: &[Queued]| all.iter().all(|it| it.results.len() > queued.results.len());
    world
        .queued_until(later)
        .await
        .into_iter()
        .next()
        .unwrap_or(queued)
}

fn last_error(message: &Queued) -> String {
    let last = message.results.last().unwrap();
    format!("{} {}", last.enhanced.unwrap(), last.error)
}

/// The reason of the only failure that was told.
async fn failure(world: &World) -> String {
    let told = world.told().await;
    let failed = told
        .iter()
        .find(|event| event.event == Event::Failed)
        .unwrap();
    failed.error.clone()
}

#[tokio::test]
async fn hosts_without_an_address_are_often_repaired_so_the_third_attempt_is_final() {
    let world = World::start(Setup::default());
    world.mx("a.test", &[(10, "mx1.test"), (20, "mx2.test")]);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delayed)]);
    let queued = world.store.queued(id).await.unwrap().unwrap();
    assert_eq!(queued.attempts, 1);
    let expected = "4.4.4 mx2.test has no address: the name does not exist";
    assert_eq!(last_error(&queued), expected);
    assert_eq!(last_error(&next_attempt(&world, id).await), expected);
    next_attempt(&world, id).await;
    assert_eq!(world.events(3).await[2], (id, Event::Failed));
    assert_eq!(failure(&world).await, expected.replace("4.4.4", "5.4.4"));
    world.stop().await;
}

#[tokio::test]
async fn a_domain_without_hosts_and_without_an_address_fails_at_once() {
    let world = World::start(Setup::default());
    world.mx("a.test", &[]);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Failed)]);
    let expected = "5.4.4 a.test has no address: the name has no such records";
    assert_eq!(failure(&world).await, expected);
    world.stop().await;
}

#[tokio::test]
async fn a_host_without_an_answer_is_passed_over_and_counts_for_one_message() {
    let world = World::start(Setup::default());
    world.mx("a.test", &[(10, "mx1.test"), (20, "mx2.test")]);
    world.resolver.fail("mx1.test");
    for _ in 0..3 {
        let [_] = world.add(Message::to(&["x@a.test"]).later(5)).await;
    }
    world.clock.advance(Duration::from_secs(5));
    let settled = |all: &[Queued]| all.iter().all(|it| it.next_attempt > world.now());
    let queued = world.queued_until(settled).await;
    let mut attempts: Vec<u32> = queued.iter().map(|message| message.attempts).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [0, 0, 1]);
    let tried = queued.iter().find(|message| message.attempts == 1).unwrap();
    let expected = "4.4.3 looking up the addresses of mx1.test: no server answers";
    assert_eq!(last_error(tried), expected);
    let (remote, _) = counted().await;
    world.host("mx2.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.clock.advance(Duration::from_secs(600));
    remote.wait_for(3).await;
    world.stop().await;
}

#[tokio::test]
async fn a_failed_look_up_counts_for_one_message_and_the_others_wait() {
    let world = World::start(Setup::default());
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.mx("a.test", &[(10, "mx.test")]);
    world.resolver.fail("a.test");
    for _ in 0..3 {
        let [_] = world.add(Message::to(&["x@a.test"]).later(5)).await;
    }
    world.clock.advance(Duration::from_secs(5));
    let one_counts = |all: &[Queued]| all.iter().any(|it| it.attempts == 1);
    world.queued_until(one_counts).await;
    let queued = world.at_rest().await;
    assert_eq!(queued.iter().filter(|it| it.attempts == 0).count(), 2);
    assert_eq!(queued.iter().filter(|it| it.attempts == 1).count(), 1);
    // One that comes meanwhile waits too, without a look-up.
    let [late] = world.add(Message::to(&["x@a.test"])).await;
    let queued = world.at_rest().await;
    let late = queued.iter().find(|it| it.id == late).unwrap();
    assert_eq!(late.attempts, 0);
    let explained = world.queue.explain(late).await.unwrap();
    assert!(
        explained.contains("a.test are looked up at "),
        "{explained}"
    );
    assert_eq!(asked(&world, "a.test"), 1);
    world.resolver.mend("a.test");
    world.clock.advance(Duration::from_secs(60));
    remote.wait_for(3).await;
    world.clock.advance(Duration::from_secs(600));
    remote.wait_for(4).await;
    world.stop().await;
}

#[tokio::test]
async fn if_most_look_ups_fail_all_wait_for_our_resolver_and_no_attempt_counts() {
    const DOMAINS: usize = 60;
    let world = World::start(Setup::default());
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    for number in 0..DOMAINS {
        world.resolver.fail(&format!("{number}.test"));
    }
    send_to_domains_of(&world, DOMAINS, "mx.test").await;
    let queued = world.at_rest().await;
    let uncounted = queued
        .iter()
        .filter(|message| message.attempts == 0)
        .count();
    // One of the first 50 failures tells that it is the resolver.
    assert!(
        (DOMAINS - 49..=DOMAINS - 39).contains(&uncounted),
        "{uncounted}"
    );
    // A domain whose look-up would succeed waits too.
    world.mx("good.test", &[(10, "mx.test")]);
    let [good] = world.add(Message::to(&["x@good.test"])).await;
    for number in 0..DOMAINS {
        world.resolver.mend(&format!("{number}.test"));
    }
    assert!(!world.store.is_claimed(good).await.unwrap());
    assert_eq!(asked(&world, "good.test"), 0);
    world.clock.advance(Duration::from_secs(30));
    remote.wait_for(1).await;
    // The first of the others that is asked again shows that the resolver answers.
    world.clock.advance(Duration::from_secs(30));
    remote.wait_for(uncounted + 1).await;
    world.clock.advance(Duration::from_secs(600));
    remote.wait_for(DOMAINS + 1).await;
    world.stop().await;
}

#[tokio::test]
async fn forbidden_addresses_are_as_none() {
    let world = World::start(Setup {
        statics: "[delivery]\nforbid_private_addresses = true\n",
        ..Setup::default()
    });
    let (remote, _) = counted().await;
    world.mx("many.test", &[(10, "many-addresses.test")]);
    for number in 1..=9 {
        world.host("many-addresses.test", &format!("10.0.0.{number}"));
        world.lead(&format!("10.0.0.{number}"), &remote);
    }
    world.host("many-addresses.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(Message::to(&["x@many.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    world.host("private.test", "10.0.0.1");
    world.mx("a.test", &[(10, "private.test")]);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(2).await[1], (id, Event::Delayed));
    next_attempt(&world, id).await;
    next_attempt(&world, id).await;
    assert_eq!(world.events(4).await[3], (id, Event::Failed));
    assert_eq!(
        failure(&world).await,
        "5.4.4 private.test has no address that may be used: 10.0.0.1 is private, which \
         delivery.forbid_private_addresses excludes"
    );
    for number in 1..=9 {
        assert_eq!(world.dialed(&format!("10.0.0.{number}")), 0);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_host_at_an_address_of_this_server_would_send_the_mail_back() {
    let world = World::start(Setup {
        statics: "smtp.enabled = true\n",
        ..Setup::default()
    });
    let (remote, _) = counted().await;
    world.host("us.test", "127.0.0.1");
    world.lead("127.0.0.1", &remote);
    world.host("better.test", "192.0.2.1");
    world.host("same.test", "192.0.2.2");
    world.lead("192.0.2.2", &remote);
    world.mx(
        "a.test",
        &[(10, "us.test"), (10, "same.test"), (20, "same.test")],
    );
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Failed)]);
    assert_eq!(
        failure(&world).await,
        "5.4.6 us.test [127.0.0.1] is this server, so mail for a.test would come back to it"
    );
    // A better host is down now. It gets the mail later, and this server never.
    world.mx(
        "b.test",
        &[(5, "better.test"), (10, "us.test"), (20, "same.test")],
    );
    let [id] = world.add(Message::to(&["x@b.test"])).await;
    assert_eq!(world.events(2).await[1], (id, Event::Delayed));
    let queued = world.store.queued(id).await.unwrap().unwrap();
    assert!(last_error(&queued).starts_with("4.4.1 "), "{queued:?}");
    assert_eq!(
        (world.dialed("127.0.0.1"), world.dialed("192.0.2.2")),
        (0, 0)
    );
    world.stop().await;
}

/// The address of the better host is missing. That is often repaired, whether this server is known
/// by its address or by its name.
#[tokio::test]
async fn a_better_host_without_an_address_is_waited_for_though_this_server_is_next() {
    for ours in ["us.test", "mail.example.org"] {
        let world = World::start(Setup {
            statics: "smtp.enabled = true\n",
            ..Setup::default()
        });
        world.host("us.test", "127.0.0.1");
        world.mx(
            "a.test",
            &[(10, "lost.test"), (20, ours), (20, "same.test")],
        );
        let [id] = world.add(Message::to(&["x@a.test"])).await;
        assert_eq!(world.events(1).await, [(id, Event::Delayed)], "{ours}");
        next_attempt(&world, id).await;
        next_attempt(&world, id).await;
        assert_eq!(world.events(3).await[2], (id, Event::Failed), "{ours}");
        let failure = failure(&world).await;
        assert!(
            failure.starts_with("5.4.4 lost.test has no address"),
            "{failure}"
        );
        world.stop().await;
    }
}
