//! Which host and which family of addresses an attempt takes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use postrider_queue::{SiteState, SiteView};
use postrider_store::{Event, Queued};

use crate::{
    remote::{Act, Point, Remote},
    support::{Message, Setup, World},
};

const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";

/// A world with a host that has an address of each family.
async fn both() -> (World, Remote) {
    let remote = Remote::start(|_, _| None).await;
    let world = World::start(Setup::default());
    world.mx("a.test", &[(10, "mx.a.test")]);
    world.host("mx.a.test", V4);
    world.host("mx.a.test", V6);
    (world, remote)
}

#[tokio::test]
async fn ipv6_goes_first_and_ipv4_is_not_asked_when_it_works() {
    let (world, remote) = both().await;
    world.lead(V6, &remote);
    world.lead(V4, &remote);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    assert_eq!((world.dialed(V6), world.dialed(V4)), (1, 0));
    world.stop().await;
}

#[tokio::test]
async fn ipv4_wins_when_ipv6_is_silent_or_has_no_way() {
    // ENETUNREACH: this machine has no IPv6.
    for broken in [None, Some(101)] {
        let (world, remote) = both().await;
        match broken {
            None => world.silence(V6),
            Some(error) => world.break_way(V6, error),
        }
        world.lead(V4, &remote);
        let [id] = world.add(Message::to(&["x@a.test"])).await;
        assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
        assert_eq!((world.dialed(V6), world.dialed(V4)), (1, 1));
        world.stop().await;
    }
}

/// The address that we have no way to says nothing. The other one is what the site has.
#[tokio::test]
async fn a_dead_host_is_down_and_probed_without_a_way_to_its_other_address() {
    let (world, remote) = both().await;
    world.break_way(V6, 101);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delayed)]);
    let [later] = world.add(Message::to(&["y@a.test"])).await;
    let down = async {
        let is_down = |site: &SiteView| site.state == SiteState::Down;
        while !world.queue.site_views(Some("a.test")).iter().any(is_down) {
            tokio::task::yield_now().await;
        }
    };
    crate::patience::patiently("the site down", down).await;
    assert_eq!(world.dialed(V4), 1);
    // The mark of the address holds for longer.
    world.lead(V4, &remote);
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.events(2).await[1], (later, Event::Delivered));
    assert_eq!(world.dialed(V4), 2);
    world.stop().await;
}

/// An address that refuses is marked, also if the other one wins, and those who ask see both.
#[tokio::test]
async fn an_address_that_loses_is_marked_and_shown() {
    let (world, remote) = both().await;
    world.lead(V4, &remote);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    let views = world.queue.site_views(Some("a.test"));
    let addresses = views[0].hosts[0].addresses.iter();
    let mut shown: Vec<(String, bool)> = addresses
        .map(|address| (address.ip.to_string(), address.until.is_some()))
        .collect();
    shown.sort();
    assert_eq!(shown, [(V4.to_owned(), false), (V6.to_owned(), true)]);
    world.stop().await;
}

/// A world with both addresses, whose site takes one message a connection.
async fn one_a_connection(more: &str) -> (World, Remote) {
    let remote = Remote::start(|_, _| None).await;
    let provider =
        format!("[providers.a]\ndomains = [\"a.test\"]\nmessages_per_connection = 1\n{more}\n");
    let world = World::start(Setup {
        dynamics: &provider,
        ..Setup::default()
    });
    world.mx("a.test", &[(10, "mx.a.test")]);
    world.host("mx.a.test", V4);
    world.host("mx.a.test", V6);
    world.lead(V4, &remote);
    (world, remote)
}

/// This machine has no IPv6. That fails at once, and says nothing of the hosts of others.
#[tokio::test]
async fn a_fault_of_ours_is_no_loss_of_a_family() {
    let (world, _remote) = one_a_connection("").await;
    world.break_way(V6, 101);
    for count in 1..=5 {
        let [_] = world.add(Message::to(&["x@a.test"])).await;
        assert_eq!(world.events(count).await.len(), count);
        assert_eq!((world.dialed(V6), world.dialed(V4)), (count, count));
    }
    world.stop().await;
}

/// Each connection takes a token, also the second one of a race.
#[tokio::test]
async fn each_connection_of_a_race_counts_for_the_rate() {
    let (world, remote) = one_a_connection("connect_rate = \"2/minute\"").await;
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    world.dialed_until(V6, 1).await;
    let waits = async {
        let limited = |site: &SiteView| {
            site.limited_by
                .contains(&postrider_queue::LimitedBy::ConnectRate)
                && site.in_flight == 0
        };
        while !world.queue.site_views(Some("a.test")).iter().any(limited) {
            tokio::task::yield_now().await;
        }
    };
    crate::patience::patiently("the rate of connections used up", waits).await;
    assert_eq!((world.dialed(V6), world.dialed(V4)), (1, 0));
    world.clock.advance(Duration::from_secs(30));
    remote.wait_for(1).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    assert_eq!((world.dialed(V6), world.dialed(V4)), (1, 1));
    world.stop().await;
}

/// A server says no to our IPv6 address, while its IPv4 address refuses connections.
#[tokio::test]
async fn after_a_refusal_by_policy_the_other_family_is_next() {
    let (world, remote) = both().await;
    let strict = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("RCPT") => {
            Some(Act::Say("450 4.7.25 no PTR record of your address"))
        }
        _ => None,
    })
    .await;
    world.lead(V6, &strict);
    let start = world.now();
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    let waiting = world
        .queued_until(|queued| queued[0].next_attempt > start)
        .await;
    let dialed = [world.dialed(V6), world.dialed(V4)];
    assert_eq!((waiting[0].attempts, dialed), (1, [1, 1]));
    world.lead(V4, &remote);
    world.clock.advance(Duration::from_secs(3600));
    let events = world.events(2).await;
    assert_eq!(events, [(id, Event::Delayed), (id, Event::Delivered)]);
    assert_eq!(world.dialed(V6), dialed[0], "no second look at IPv6");
    world.stop().await;
}

/// Ten hosts of one preference with greylists of their own. An attempt asks eight of them.
#[tokio::test]
async fn a_greylist_sees_the_same_host_again() {
    let world = World::start(Setup::default());
    let names: Vec<String> = (0..10).map(|number| format!("mx{number}.test")).collect();
    let hosts: Vec<(u16, &str)> = names.iter().map(|name| (10, name.as_str())).collect();
    world.mx("a.test", &hosts);
    let ips: Vec<String> = (0..10).map(|number| format!("192.0.2.{number}")).collect();
    for (name, ip) in names.iter().zip(&ips) {
        let remote = Remote::start(|point, seen| match point {
            Point::Command(line) if line.starts_with("RCPT") && seen == 0 => {
                Some(Act::Say("450 4.2.0 Greylisted, come again"))
            }
            _ => None,
        })
        .await;
        world.host(name, ip);
        world.lead(ip, &remote);
    }
    let start = world.now();
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    let waiting = world
        .queued_until(|queued| queued[0].next_attempt > start)
        .await;
    let first = waiting[0].results[0].remote.clone();
    world.clock.advance(Duration::from_secs(3600));
    let delivered = async || {
        loop {
            if let Some(retired) = world.store.retired(id).await.unwrap() {
                return retired;
            }
            world.events(2).await;
        }
    };
    let results = delivered().await.message.results;
    let remotes: Vec<&str> = results
        .iter()
        .map(|result| result.remote.as_str())
        .collect();
    assert_eq!(remotes.last(), Some(&first.as_str()));
    world.stop().await;
}

/// A remote that gives this reply to RCPT.
async fn refusing(reply: &'static str) -> Remote {
    let script = move |point: &Point, _| match point {
        Point::Command(line) if line.starts_with("RCPT") => Some(Act::Say(reply)),
        _ => None,
    };
    Remote::start(script).await
}

#[tokio::test]
async fn after_a_final_refusal_by_policy_the_other_family_is_tried_at_once() {
    for (reply, delivered) in [
        ("550 5.7.1 relay denied", true),
        ("550 5.7.25 no PTR record of your address", true),
        ("550 5.1.1 no such user", false),
        ("550 5.7.1 user unknown", false),
    ] {
        let (world, remote) = both().await;
        world.lead(V6, &refusing(reply).await);
        world.lead(V4, &remote);
        let [id] = world.add(Message::to(&["x@a.test"])).await;
        let event = match delivered {
            true => Event::Delivered,
            false => Event::Failed,
        };
        assert_eq!(world.events(1).await, [(id, event)], "{reply}");
        let dialed = (world.dialed(V6), world.dialed(V4));
        assert_eq!(dialed, (1, usize::from(delivered)), "{reply}");
        world.stop().await;
    }
}

/// Both families refuse. The message fails once, and so is the recipient suppressed.
#[tokio::test]
async fn a_refusal_by_both_families_is_final() {
    for addresses in [[V6, V4].as_slice(), &[V6]] {
        let world = World::start(Setup {
            account: "suppress_policy_blocks = true\n",
            ..Setup::default()
        });
        world.mx("a.test", &[(10, "mx.a.test")]);
        for ip in addresses {
            world.host("mx.a.test", ip);
        }
        world.lead(V6, &refusing("550 5.7.1 relay denied").await);
        world.lead(V4, &refusing("550 5.7.1 relay denied here too").await);
        let [id] = world.add(Message::to(&["x@a.test"])).await;
        assert_eq!(world.events(1).await, [(id, Event::Failed)]);
        let told = world.told().await;
        let last = addresses.last().unwrap();
        assert!(
            told[0].suppressing && told[0].error.contains(last),
            "{told:?}"
        );
        let retired = world.store.retired(id).await.unwrap().unwrap();
        assert_eq!(retired.message.results.len(), 1);
        assert_eq!(world.mails().await.len(), 1, "one DSN");
        assert_eq!(
            (world.dialed(V6), world.dialed(V4)),
            (1, addresses.len() - 1)
        );
        world.stop().await;
    }
}

/// The other family has the last word when it takes the message later, and none when it can't be
/// reached.
#[tokio::test]
async fn what_the_other_family_says_counts_if_it_says_something() {
    let (world, _) = both().await;
    world.lead(V6, &refusing("550 5.7.1 relay denied").await);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Failed)]);
    assert!(world.told().await[0].error.contains("relay denied"));
    assert_eq!((world.dialed(V6), world.dialed(V4)), (1, 1));
    world.stop().await;

    let (world, _) = both().await;
    world.lead(V6, &refusing("550 5.7.1 relay denied").await);
    world.lead(V4, &refusing("450 4.2.1 busy").await);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delayed)]);
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.events(2).await[1], (id, Event::Failed));
    world.stop().await;
}

/// A machine without IPv6 has the first refusal at once. Without a token for a second connection,
/// the next attempt takes the other family.
#[tokio::test]
async fn a_family_that_can_not_be_tried_has_its_turn_later_or_never() {
    let (world, _) = both().await;
    world.break_way(V6, 101);
    world.lead(V4, &refusing("550 5.7.1 relay denied").await);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Failed)]);
    world.stop().await;

    let (world, _remote) = one_a_connection("connect_rate = \"2/minute\"").await;
    world.lead(V6, &refusing("550 5.7.1 relay denied").await);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delayed)]);
    assert_eq!((world.dialed(V6), world.dialed(V4)), (1, 0));
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.events(2).await[1], (id, Event::Delivered));
    assert_eq!((world.dialed(V6), world.dialed(V4)), (1, 1));
    world.stop().await;
}

/// A message that waits for the end of a block is not tried again at once.
#[tokio::test]
async fn after_a_block_the_other_family_is_next() {
    let (world, remote) = both().await;
    let blocked = "550 5.7.1 your IP is blocked using a block list";
    world.lead(V6, &refusing(blocked).await);
    world.lead(V4, &remote);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delayed)]);
    assert_eq!(world.dialed(V4), 0);
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.events(2).await[1], (id, Event::Delivered));
    assert_eq!((world.dialed(V6), world.dialed(V4)), (1, 1));
    world.stop().await;
}

/// Two hosts with greylists of their own, and a message that each of them has seen. Both are due at
/// once, and each goes to its host again, from the same address of ours.
#[tokio::test]
async fn messages_of_one_batch_go_to_the_hosts_that_greylisted_them() {
    let world = World::start(Setup {
        statics: "[queue.per_destination]\nconnections = 1\nmessages_per_connection = 1\n\
                  [sources.one]\nip = \"127.0.0.11\"\nehlo = \"one.example.org\"\n\
                  [sources.two]\nip = \"127.0.0.12\"\nehlo = \"two.example.org\"\n\
                  [pools.both.sources]\none = 1\ntwo = 1\n\
                  [delivery]\nsource_pool = \"both\"\n",
        ..Setup::default()
    });
    world.mx("a.test", &[(10, "mx1.a.test"), (20, "mx2.a.test")]);
    let names = Arc::<Mutex<Vec<String>>>::default();
    let asked = Arc::<Mutex<Vec<(&str, String)>>>::default();
    let mut remotes = Vec::new();
    for (host, ip) in [("mx1.a.test", "192.0.2.1"), ("mx2.a.test", "192.0.2.2")] {
        let (names, asked) = (Arc::clone(&names), Arc::clone(&asked));
        let remote = Remote::start(move |point, _| match point {
            Point::Command(line) if line.starts_with("EHLO") => {
                names.lock().unwrap().push(line.clone());
                None
            }
            Point::Command(line) if line.starts_with("RCPT") => {
                let mut asked = asked.lock().unwrap();
                let asks = (host, line.clone());
                let is_new = !asked.contains(&asks);
                asked.push(asks);
                is_new.then_some(Act::Say("450 4.2.0 Greylisted, come again"))
            }
            _ => None,
        })
        .await;
        world.host(host, ip);
        remotes.push((ip, remote));
    }
    // One host at a time is there.
    for ((ip, remote), to) in remotes.iter().zip(["x@a.test", "y@a.test"]) {
        let start = world.now();
        world.lead(ip, remote);
        let [id] = world.add(Message::to(&[to])).await;
        let is_tried = |queued: &[Queued]| {
            let mut queued = queued.iter().filter(|message| message.id == id);
            queued.all(|message| message.next_attempt > start && !message.results.is_empty())
        };
        world.queued_until(is_tried).await;
        // Nobody listens there. The mark of the other address ends.
        world.break_way(ip, 111);
        world.clock.advance(Duration::from_secs(301));
    }
    for (ip, remote) in &remotes {
        world.lead(ip, remote);
    }
    world.clock.advance(Duration::from_secs(3600));
    for (_, remote) in &remotes {
        remote.wait_for(1).await;
    }
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    let x = ("mx1.a.test", "RCPT TO:<x@a.test>".to_owned());
    let y = ("mx2.a.test", "RCPT TO:<y@a.test>".to_owned());
    assert_eq!(asked, [x.clone(), x, y.clone(), y]);
    let mut names = names.lock().unwrap().clone();
    names.dedup();
    assert_eq!(names.len(), 1, "the same source: {names:?}");
    world.stop().await;
}
