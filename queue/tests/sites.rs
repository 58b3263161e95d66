//! Plans and sites: domains with the same hosts share connections and limits, and delay no others.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

#[path = "sites/edges.rs"]
mod edges;
#[path = "sites/learnt.rs"]
mod learnt;
#[path = "sites/marked.rs"]
mod marked;
#[path = "sites/orders.rs"]
mod orders;
#[path = "sites/pace.rs"]
mod pace;
#[path = "../../tests/it/support/patience.rs"]
#[allow(unreachable_pub, reason = "the whole-server tests share it")]
mod patience;
#[path = "sites/providers.rs"]
mod providers;
#[path = "../../tests/it/support/remote.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the whole-server tests share it, and use more of it"
)]
mod remote;
#[path = "sites/routes.rs"]
mod routes;
#[path = "sites/sources.rs"]
mod sources;
#[allow(dead_code, reason = "the other tests of this crate use more of it")]
mod support;
#[path = "sites/tarpits.rs"]
mod tarpits;
#[path = "sites/times.rs"]
mod times;
#[path = "sites/turns.rs"]
mod turns;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use patience::patiently;
use postrider_dns::{Question, RecordType};
use postrider_store::{Event, QueueId};
use remote::{Act, Point, Remote};
use support::{Message, Setup, World};
use tokio::net::TcpListener;

const ONE_CONNECTION: &str = "[queue]\nper_destination.connections = 1\n";

/// A remote that takes all mail, and the number of sessions that began.
async fn counted() -> (Remote, Arc<AtomicUsize>) {
    let sessions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sessions);
    let remote = Remote::start(move |point, _| {
        if matches!(point, Point::Command(line) if line.starts_with("EHLO")) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        None
    })
    .await;
    (remote, sessions)
}

/// Sends a message to so many domains that have this host.
async fn send_to_domains_of(world: &World, domains: usize, host: &str) {
    let domains: Vec<String> = (0..domains)
        .map(|number| format!("{number}.test"))
        .collect();
    for domain in &domains {
        world.mx(domain, &[(10, host)]);
    }
    let addresses: Vec<String> = domains.iter().map(|domain| format!("x@{domain}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    world.submit(Message::to(&addresses)).await;
}

fn asked(world: &World, domain: &str) -> usize {
    world.resolver.asked(&Question::new(domain, RecordType::Mx))
}

#[tokio::test]
async fn domains_with_the_same_hosts_share_a_connection_and_its_limits() {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        ..Setup::default()
    });
    let (remote, sessions) = counted().await;
    world.host("mx1.test", "192.0.2.1");
    world.host("mx2.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let domains = ["a.test", "b.test", "c.test", "d.test"];
    for (number, domain) in domains.iter().enumerate() {
        // The set counts, not the preferences.
        let (first, second) = match number % 2 {
            0 => ("mx1.test", "mx2.test"),
            _ => ("mx2.test", "mx1.test"),
        };
        world.mx(domain, &[(10, first), (20, second)]);
    }
    for _ in 0..3 {
        for domain in domains {
            let address = format!("x@{domain}");
            let [_] = world.add(Message::to(&[&address]).later(5)).await;
        }
    }
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(world.events(12).await.len(), 12);
    assert_eq!(sessions.load(Ordering::Relaxed), 1);
    world.stop().await;
}

#[tokio::test]
async fn recipients_of_two_domains_never_share_a_transaction() {
    let world = World::start(Setup::default());
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.mx("a.test", &[(10, "mx.test")]);
    world.mx("b.test", &[(10, "mx.test")]);
    let _: [QueueId; 3] = world
        .add(Message::to(&["x@a.test", "x@b.test", "y@a.test"]))
        .await;
    let received = remote.wait_for(2).await;
    let mut recipients: Vec<usize> = received.iter().map(|it| it.rcpts.len()).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, [1, 2]);
    world.stop().await;
}

#[tokio::test]
async fn a_smarthost_is_one_site_for_all_domains() {
    let (remote, sessions) = counted().await;
    let statics = format!(
        "[transports.smart.smtp]\nhost = \"127.0.0.1\"\nport = {}\nno_starttls = true\n{ONE_CONNECTION}",
        remote.address.port()
    );
    let world = World::start(Setup {
        statics: &statics,
        dynamics: "[[routes]]\ntransport = \"smart\"\n",
        ..Setup::default()
    });
    world.lead("127.0.0.1", &remote);
    let _: [QueueId; 3] = world
        .add(Message::to(&["x@a.test", "x@b.test", "x@c.test"]).later(5))
        .await;
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(world.events(3).await.len(), 3);
    assert_eq!(sessions.load(Ordering::Relaxed), 1);
    assert_eq!(asked(&world, "a.test"), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_slow_plan_delays_no_other_domain() {
    let world = World::start(Setup::default());
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.mx("slow.test", &[(10, "mx.test")]);
    world.mx("fast.test", &[(10, "mx.test")]);
    world.resolver.hang("slow.test");
    let [slow] = world.add(Message::to(&["x@slow.test"])).await;
    let [fast] = world.add(Message::to(&["x@fast.test"])).await;
    assert_eq!(world.events(1).await, [(fast, Event::Delivered)]);
    // More for the slow domain waits for the same plan.
    let [next] = world.add(Message::to(&["x@slow.test"])).await;
    world.resolver.mend("slow.test");
    let mut events = world.events(3).await.split_off(1);
    events.sort();
    assert_eq!(events, [slow, next].map(|id| (id, Event::Delivered)));
    assert_eq!(asked(&world, "slow.test"), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_plan_is_remembered_and_a_domain_moves_with_its_hosts() {
    let world = World::start(Setup::default());
    let ((old, _), (new, _)) = (counted().await, counted().await);
    world.host("old.test", "192.0.2.1");
    world.host("new.test", "192.0.2.2");
    world.lead("192.0.2.1", &old);
    world.lead("192.0.2.2", &new);
    world.mx("a.test", &[(10, "old.test")]);
    for _ in 0..3 {
        let [_] = world.add(Message::to(&["x@a.test"])).await;
    }
    world.events(3).await;
    assert_eq!(asked(&world, "a.test"), 1);
    world.mx("a.test", &[(10, "new.test")]);
    world.clock.advance(Duration::from_secs(3600));
    let [_] = world.add(Message::to(&["x@a.test"])).await;
    world.events(4).await;
    assert_eq!(asked(&world, "a.test"), 2);
    assert_eq!((old.received().len(), new.received().len()), (3, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_failed_look_up_is_no_plan_and_counts_as_an_attempt() {
    let world = World::start(Setup::default());
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.mx("a.test", &[(10, "mx.test")]);
    world.resolver.fail("a.test");
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delayed)]);
    let queued = world.store.queued(id).await.unwrap().unwrap();
    assert_eq!(queued.attempts, 1);
    let error = &queued.results[0];
    assert_eq!(error.enhanced.unwrap().to_string(), "4.4.3");
    assert_eq!(
        error.error,
        "looking up the MX records of a.test: no server answers"
    );
    world.resolver.mend("a.test");
    world.clock.advance(queued.next_attempt.since(world.now()));
    assert_eq!(world.events(2).await[1], (id, Event::Delivered));
    world.stop().await;
}

/// Most look-ups fail, and that once looks like a fault of our resolver. When the dead domains are
/// looked up again, nobody else waits for them.
#[tokio::test]
async fn many_dead_domains_hold_back_the_others_once() {
    let world = World::start(Setup::default());
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let dead: Vec<String> = (0..80).map(|number| format!("dead{number}.test")).collect();
    for domain in &dead {
        world.resolver.fail(domain);
        let to = format!("x@{domain}");
        let [_] = world.add(Message::to(&[&to])).await;
    }
    let all_asked = |times: usize| {
        let (world, dead) = (&world, &dead);
        async move {
            while dead.iter().any(|domain| asked(world, domain) < times) {
                world.clock.advance(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
        }
    };
    patiently("the first look-ups", all_asked(1)).await;
    for round in 2..=4 {
        let domain = format!("good{round}.test");
        world.mx(&domain, &[(10, "mx.test")]);
        patiently("more look-ups", all_asked(round)).await;
        // The clock stands still from here on.
        let to = format!("x@{domain}");
        let [_] = world.add(Message::to(&[&to])).await;
        remote.wait_for(round - 1).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_few_messages_do_not_wait_for_many_at_the_same_site() {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        ..Setup::default()
    });
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.mx("many.test", &[(10, "mx.test")]);
    world.mx("few.test", &[(10, "mx.test")]);
    for _ in 0..200 {
        let [_] = world.add(Message::to(&["x@many.test"]).later(5)).await;
    }
    let [_] = world.add(Message::to(&["x@few.test"]).later(6)).await;
    world.lead("192.0.2.1", &remote);
    world.clock.advance(Duration::from_secs(6));
    let received = remote.wait_for(201).await;
    let few = |received: &remote::Received| received.rcpts[0].contains("few.test");
    let place = received.iter().position(few).unwrap();
    assert!(place < 100, "it came as number {place}");
    world.stop().await;
}

#[tokio::test]
async fn many_domains_of_one_site_are_delivered_over_its_one_connection() {
    const DOMAINS: usize = 1300;
    let world = World::start(Setup {
        statics: "[queue]\nper_destination.connections = 1\n\
                  per_destination.messages_per_connection = 100000\n",
        ..Setup::default()
    });
    let (remote, sessions) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    send_to_domains_of(&world, DOMAINS, "mx.test").await;
    assert_eq!(remote.wait_for(DOMAINS).await.len(), DOMAINS);
    assert_eq!(sessions.load(Ordering::Relaxed), 1);
    world.stop().await;
}

#[tokio::test]
async fn many_domains_of_a_site_that_hangs_delay_no_other_site() {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        ..Setup::default()
    });
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (remote, _) = counted().await;
    world.host("silent.test", "192.0.2.1");
    world.host("mx.test", "192.0.2.2");
    world.mx("good.test", &[(10, "mx.test")]);
    world.lead_to("192.0.2.1", silent.local_addr().unwrap());
    world.lead("192.0.2.2", &remote);
    send_to_domains_of(&world, 2300, "silent.test").await;
    let [_] = world.add(Message::to(&["x@good.test"])).await;
    remote.wait_for(1).await;
    // The queue is not stopped: it would wait for the greeting.
}

#[tokio::test]
async fn messages_without_a_plan_are_left_alone_at_the_end() {
    let world = World::start(Setup::default());
    world.resolver.hang("slow.test");
    let [id] = world.add(Message::to(&["x@slow.test"])).await;
    let asked = async {
        while asked(&world, "slow.test") == 0 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the look-up", asked).await;
    let store = world.store.clone();
    world.stop().await;
    let queued = store.queued(id).await.unwrap().unwrap();
    assert_eq!((queued.attempts, queued.results.len()), (0, 0));
    assert!(!store.is_claimed(id).await.unwrap());
}

#[tokio::test]
async fn a_message_that_waits_for_a_full_site_says_so() {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        ..Setup::default()
    });
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.host("silent.test", "192.0.2.1");
    world.lead_to("192.0.2.1", silent.local_addr().unwrap());
    world.mx("a.test", &[(10, "silent.test")]);
    for _ in 0..40 {
        let [_] = world.add(Message::to(&["x@a.test"])).await;
    }
    patiently("the connection", silent.accept()).await.unwrap();
    let [last] = world.add(Message::to(&["x@a.test"])).await;
    let message = world.store.queued(last).await.unwrap().unwrap();
    let explained = async {
        loop {
            let text = world.queue.explain(&message).await.unwrap();
            if text.contains("waits for one of the 1 connections to a.test") {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    patiently("the explanation", explained).await;
}

/// One account has much mail for a site, and another one message: it comes after a few others.
#[tokio::test]
async fn an_account_with_much_mail_does_not_hold_up_another() {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        dynamics: "[accounts.bob]\ndomain = \"example.org\"\n\
                   destinations.\"bob@example.org\" = {}\n",
        ..Setup::default()
    });
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.mx("x.test", &[(10, "mx.test")]);
    for _ in 0..200 {
        let [_] = world.add(Message::to(&["a@x.test"]).later(5)).await;
    }
    let of_bob = Message {
        account: "bob",
        login: "bob@example.org",
        ..Message::to(&["b@x.test"]).later(5)
    };
    let [_] = world.add(of_bob).await;
    world.clock.advance(Duration::from_secs(5));
    remote.wait_for(201).await;
    let received = remote.received();
    let at = received
        .iter()
        .position(|mail| mail.rcpts[0].contains("b@x.test"));
    assert!(at.is_some_and(|at| at < 10), "{at:?}");
    world.stop().await;
}

/// A worker has more to do at its site for as long as messages wait. A stop ends that.
#[tokio::test]
async fn a_stop_leaves_messages_that_are_not_claimed() {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        ..Setup::default()
    });
    let (remote, _) = counted().await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.mx("x.test", &[(10, "mx.test")]);
    for _ in 0..400 {
        let [_] = world.add(Message::to(&["a@x.test"]).later(5)).await;
    }
    world.clock.advance(Duration::from_secs(5));
    remote.wait_for(1).await;
    let store = world.store.clone();
    world.stop().await;
    let counts = store.counts().await;
    assert!(counts.queued > 0, "all were delivered");
    assert_eq!(counts.claimed, 0);
}
