//! Messages of one domain with different routes: a site that takes nothing keeps only the mail that
//! goes there.

use std::{mem, sync::Arc, time::Duration};

use postrider_config::{Dynamic, Route};
use postrider_queue::SiteState;
use postrider_store::{Change, Event, QueueFilter, QueueId, Reroute};

use super::{
    patience::patiently,
    remote::{Act, Point, Remote},
    support::{Message, Setup, World},
    tarpits::domain,
};

const MINUTE: Duration = Duration::from_secs(60);
const SMART: &str = "192.0.2.7";
const DIRECT: &str = "192.0.2.1";
const STATICS: &str = "[transports.smart.smtp]\nhost = \"192.0.2.7\"\nno_starttls = true\n";
const OF_A: &str = "[[routes]]\nfrom_domain = [\"a.test\"]\ntransport = \"smart\"\n";
const BLOCKED: &str = "550 5.7.1 192.0.2.9 is listed at zen.spamhaus.org";

/// Mail from a.test goes by the smarthost, and other mail to x.test to its host.
fn world(dynamics: &str) -> World {
    let world = World::start(Setup {
        statics: STATICS,
        dynamics,
        ..Setup::default()
    });
    domain(&world, "x.test", DIRECT);
    world
}

/// A remote that says this to MAIL, or takes all.
async fn remote(says: Option<&'static str>) -> Remote {
    Remote::start(move |point, _| match point {
        Point::Command(line) if line.starts_with("MAIL") => says.map(Act::Say),
        _ => None,
    })
    .await
}

/// Sends a message from this domain to x.test, with its first attempt so many seconds from now.
async fn send(world: &World, from: &str, seconds: u64) -> QueueId {
    let text = format!("From: ann@{from}\r\nSubject: x\r\n\r\nHi.\r\n");
    let message = Message {
        text: &text,
        ..Message::to(&["x@x.test"])
    };
    let [id] = world.add(message.later(seconds)).await;
    id
}

/// Puts routes in force instead of those of before, and gives those.
fn set_routes(world: &World, routes: Vec<Route>) -> Vec<Route> {
    let mut config = Dynamic::clone(&world.config.load());
    let before = mem::replace(&mut config.routes, routes);
    world.config.store(Arc::new(config));
    before
}

/// The transports of the lanes.
async fn lanes(world: &World) -> Vec<String> {
    let lanes = world.store.lanes(None, 9).await.unwrap().into_iter();
    lanes.map(|(lane, _)| lane.transport().to_owned()).collect()
}

/// Waits until the lanes have these transports.
async fn lanes_are(world: &World, expected: &[&str]) {
    let moved = async {
        while lanes(world).await != expected {
            tokio::task::yield_now().await;
        }
    };
    patiently("the lanes", moved).await;
}

async fn pause(world: &World, site: &str) {
    let paused = world.queue.pause_site(&world.store, site, None, "");
    paused.await.unwrap();
}

/// One way takes nothing. Two messages wait for it, one of them the first of all, and the mail of
/// the other way is delivered.
#[tokio::test]
async fn a_site_that_takes_nothing_holds_up_no_mail_of_another_route() {
    for (halt, state) in [
        ("down", SiteState::Down),
        ("blocked", SiteState::Blocked),
        ("paused", SiteState::Paused),
    ] {
        for smart_is_halted in [true, false] {
            let world = world(OF_A);
            let (halted, open) = match smart_is_halted {
                true => ((SMART, "a.test"), (DIRECT, "b.test")),
                false => ((DIRECT, "b.test"), (SMART, "a.test")),
            };
            let takes = remote(None).await;
            world.lead(open.0, &takes);
            let refuses = remote(Some(BLOCKED)).await;
            if halt == "blocked" {
                world.lead(halted.0, &refuses);
            }
            // A message makes the site known.
            send(&world, open.1, 0).await;
            takes.wait_for(1).await;
            let count = if halt == "blocked" { 3 } else { 1 };
            if halt == "paused" {
                world.lead(halted.0, &takes);
                send(&world, halted.1, 0).await;
                takes.wait_for(2).await;
            } else {
                for _ in 0..count {
                    send(&world, halted.1, 0).await;
                    world.at_rest().await;
                }
            }
            let views = world.queue.site_views(None);
            let is_smart = |site: &str| site == "transport:smart";
            let site = views
                .iter()
                .find(|it| is_smart(&it.site) == smart_is_halted);
            let site = site.unwrap().site.clone();
            if halt == "paused" {
                pause(&world, &site).await;
            }
            let view = world.queue.site_views(Some(&site)).remove(0);
            assert_eq!(view.state, state, "{halt} {site}");
            let before = takes.received().len();
            let waits = [
                send(&world, halted.1, 0).await,
                send(&world, halted.1, 0).await,
            ];
            world.at_rest().await;
            send(&world, open.1, 0).await;
            send(&world, open.1, 0).await;
            takes.wait_for(before + 2).await;
            // Those that wait are looked at, and none of another way is among them.
            world.clock.advance(MINUTE * 6);
            world.at_rest().await;
            assert_eq!(takes.received().len(), before + 2, "{halt} {site}");
            for id in waits {
                let waiting = world.store.queued(id).await.unwrap().unwrap();
                let explained = world.queue.explain(&waiting).await.unwrap();
                assert!(explained.contains(halt), "{halt}: {explained}");
            }
            world.stop().await;
        }
    }
}

/// A fallback begins after two attempts. Both find the host of the domain down.
#[tokio::test]
async fn a_route_for_later_attempts_takes_over_while_the_first_site_takes_nothing() {
    let world = world("[[routes]]\nminimum_attempts = 2\ntransport = \"smart\"\n");
    let smart = remote(None).await;
    world.lead(SMART, &smart);
    let id = send(&world, "b.test", 0).await;
    for attempts in [1, 2] {
        world.at_rest().await;
        let queued = world.store.queued(id).await.unwrap().unwrap();
        assert_eq!(queued.attempts, attempts);
        let next = if attempts == 2 { "smart" } else { "" };
        assert_eq!(queued.next_transport(), next, "{attempts}");
        assert_eq!(smart.received().len(), 0);
        if attempts == 2 {
            // No probe of this site can help the message now.
            pause(&world, &world.queue.site_views(Some("x.test"))[0].site).await;
        }
        world.clock.advance(queued.next_attempt.since(world.now()));
    }
    smart.wait_for(1).await;
    let events = world.events(3).await;
    assert_eq!(events.last(), Some(&(id, Event::Delivered)));
    world.stop().await;
}

/// Messages wait at a paused smarthost, due and later ones, and their route is taken away.
/// Somebody tells the queue, or nobody does, or a restart comes.
#[tokio::test]
async fn messages_at_a_site_that_takes_nothing_move_when_their_route_changes() {
    for how in ["told", "looked at", "restart", "kill"] {
        let mut world = world(OF_A);
        let (smart, direct) = (remote(None).await, remote(None).await);
        world.lead(SMART, &smart);
        world.lead(DIRECT, &direct);
        pause(&world, "transport:smart").await;
        send(&world, "a.test", 0).await;
        send(&world, "a.test", 0).await;
        send(&world, "a.test", 3600).await;
        world.at_rest().await;
        assert_eq!(lanes(&world).await, ["smart"]);
        set_routes(&world, Vec::new());
        match how {
            "told" => world.queue.follow_config(),
            "looked at" => world.clock.advance(MINUTE * 6),
            "restart" => world.restart().await,
            _ => world.kill(),
        }
        direct.wait_for(2).await;
        if how != "looked at" {
            lanes_are(&world, &[""]).await;
        }
        world.clock.advance(MINUTE * 66);
        direct.wait_for(3).await;
        assert_eq!(smart.received().len(), 0, "{how}");
        for (_, event) in world.events(3).await {
            assert_eq!(event, Event::Delivered, "{how}");
        }
        world.stop().await;
    }
}

/// A message that comes due goes by the route of that moment, and that is its first attempt.
#[tokio::test]
async fn a_claim_moves_messages_whose_route_changed() {
    let world = world(OF_A);
    let (smart, direct) = (remote(None).await, remote(None).await);
    world.lead(SMART, &smart);
    world.lead(DIRECT, &direct);
    send(&world, "a.test", 0).await;
    smart.wait_for(1).await;
    let id = send(&world, "a.test", 60).await;
    let other = send(&world, "b.test", 60).await;
    set_routes(&world, Vec::new());
    world.clock.advance(MINUTE);
    direct.wait_for(2).await;
    world.events(3).await;
    assert_eq!(smart.received().len(), 1);
    for id in [id, other] {
        let retired = world.store.retired(id).await.unwrap().unwrap();
        assert_eq!((retired.message.attempts, retired.success), (1, true));
    }
    world.stop().await;
}

/// What an older program stored has no routes. The first start gives them.
#[tokio::test]
async fn a_start_gives_messages_of_an_older_program_their_routes() {
    let mut world = world(OF_A);
    let (a, b) = (
        send(&world, "a.test", 60).await,
        send(&world, "b.test", 60).await,
    );
    let older = Reroute {
        id: a,
        fence: 0,
        route: String::new(),
    };
    assert_eq!(world.store.reroute(vec![older]).await.unwrap(), 1);
    assert_eq!(lanes(&world).await, [""]);
    world.kill();
    lanes_are(&world, &["", "smart"]).await;
    let (a, b) = (world.store.queued(a), world.store.queued(b));
    assert_eq!(a.await.unwrap().unwrap().route, "smart");
    assert_eq!(b.await.unwrap().unwrap().route, "");
    world.stop().await;
}

/// A held message waits in no lane. It goes by the route of the moment when it is released, or when
/// its forced transport is taken back.
#[tokio::test]
async fn a_change_of_an_administrator_ends_in_the_route_of_today() {
    let world = world(OF_A);
    let of_a = set_routes(&world, Vec::new());
    let id = send(&world, "a.test", 60).await;
    let only = QueueFilter {
        ids: vec![id],
        ..QueueFilter::default()
    };
    let change = async |hold: Option<bool>, transport: Option<&str>| {
        let change = Change {
            hold,
            transport: transport.map(str::to_owned),
            ..Change::default()
        };
        let changed = world
            .queue
            .change(&world.store, &only, &change, "ann")
            .await;
        assert_eq!(changed.unwrap().changed, 1);
    };
    change(Some(true), None).await;
    assert_eq!(lanes(&world).await, [""; 0]);
    set_routes(&world, of_a);
    change(Some(false), None).await;
    assert_eq!(lanes(&world).await, ["smart"]);
    change(Some(true), Some("smart")).await;
    set_routes(&world, Vec::new());
    change(Some(false), Some("")).await;
    assert_eq!(lanes(&world).await, [""]);
    world.stop().await;
}
