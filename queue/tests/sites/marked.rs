//! Addresses that failed lately: the others go first, and a probe tries them too.

use super::*;

/// A message, after which the addresses that were tried are marked and the site is down.
async fn send_in_vain(world: &World) {
    let start = world.now();
    let [_] = world.add(Message::to(&["x@a.test"])).await;
    world
        .queued_until(|queued| queued[0].next_attempt > start)
        .await;
}

/// The first host has as many addresses as an attempt tries.
#[tokio::test]
async fn marked_addresses_take_no_turn_of_a_host_that_is_well() {
    let world = World::start(Setup::default());
    let (remote, _) = counted().await;
    let ips: Vec<String> = (1..=8).map(|number| format!("192.0.2.{number}")).collect();
    for ip in &ips {
        world.host("gone.test", ip);
    }
    world.host("good.test", "192.0.2.99");
    world.mx("a.test", &[(10, "gone.test"), (20, "good.test")]);
    send_in_vain(&world).await;
    assert_eq!(world.dialed("192.0.2.99"), 0, "eight were tried before");
    world.lead("192.0.2.99", &remote);
    let [_] = world.add(Message::to(&["x@a.test"])).await;
    world.clock.advance(Duration::from_secs(60));
    remote.wait_for(1).await;
    let dialed: Vec<usize> = ips.iter().map(|ip| world.dialed(ip)).collect();
    assert_eq!(dialed, [1; 8]);
    world.stop().await;
}

#[tokio::test]
async fn a_probe_tries_all_marked_addresses_until_one_is_back() {
    let world = World::start(Setup::default());
    let (remote, _) = counted().await;
    for (number, name) in ["gone.test", "back.test", "last.test"].iter().enumerate() {
        world.host(name, &format!("192.0.2.{number}"));
    }
    world.mx(
        "a.test",
        &[(10, "gone.test"), (20, "back.test"), (30, "last.test")],
    );
    send_in_vain(&world).await;
    let dialed = || [0, 1, 2].map(|number| world.dialed(&format!("192.0.2.{number}")));
    assert_eq!(dialed(), [1, 1, 1]);
    world.lead("192.0.2.1", &remote);
    let [_] = world.add(Message::to(&["x@a.test"])).await;
    world.clock.advance(Duration::from_secs(60));
    remote.wait_for(1).await;
    assert_eq!(dialed(), [2, 2, 1]);
    world.stop().await;
}
