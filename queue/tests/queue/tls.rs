//! TLS of deliveries: what is tried, what is remembered, and what a message demands.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use postrider_store::{Attempt, Event, QueueId};

use crate::{
    remote::{Act, Point, Remote, RemoteTls},
    support::{Message, Setup, World},
};

/// Each message has a connection of its own.
const ONE_EACH: &str = "[queue.per_destination]\nmessages_per_connection = 1\n";

/// A world whose mail for remote.test goes to a remote at mx.test.
fn direct(statics: &str, remote: &Remote) -> World {
    let world = World::start(Setup {
        statics,
        ..Setup::default()
    });
    world.mx("remote.test", &[(10, "mx.test")]);
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", remote);
    world
}

/// A world whose mail goes to a smarthost at smart.test. Its certificate is trusted.
fn by_smarthost(options: &str, tls: &RemoteTls, statics: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &tls.certificate).unwrap();
    let statics = format!(
        "[tls]\nca_files = [{ca:?}]\n[transports.smart.smtp]\nhost = \"smart.test\"\n{options}\n{statics}"
    );
    let world = World::start(Setup {
        statics: &statics,
        dynamics: "[[routes]]\ntransport = \"smart\"\n",
        ..Setup::default()
    });
    world.host("smart.test", "192.0.2.1");
    world
}

/// The last attempt of a message that is in the queue after `attempts` of them.
async fn attempt(world: &World, id: QueueId, attempts: u32) -> Attempt {
    let queued = world
        .queued_until(|queued| {
            let mut queued = queued.iter();
            queued.any(|message| message.id == id && message.attempts == attempts)
        })
        .await;
    let message = queued.iter().find(|message| message.id == id).unwrap();
    message.results.last().unwrap().clone()
}

/// The last attempt of a message that failed.
async fn failure(world: &World, id: QueueId) -> Attempt {
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert!(!retired.success);
    retired.message.results.last().unwrap().clone()
}

fn code(attempt: &Attempt) -> String {
    attempt.enhanced.unwrap().to_string()
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered_whatever_the_certificate() {
    let tls = RemoteTls::new(&["other.test"], "");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    let world = direct("", &remote);
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    assert_eq!(remote.received()[0].tls.as_deref(), Some("X25519MLKEM768"));
    world.stop().await;
}

/// Counts the STARTTLS commands, and does this at those that `fails` picks.
async fn counting(
    tls: RemoteTls,
    act: Act,
    fails: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> (Remote, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let script = move |point: &Point, before: usize| match point {
        Point::Command(line) if line == "STARTTLS" => {
            counted.fetch_add(1, Ordering::Relaxed);
            fails(before).then(|| act.clone())
        }
        _ => None,
    };
    (Remote::start_with(Some(tls), script).await, count)
}

#[tokio::test]
async fn plain_text_after_a_failed_handshake_is_kept_for_an_hour() {
    let tls = RemoteTls::new(&["mx.test"], "");
    let (remote, count) = counting(tls, Act::Cut, |_| true).await;
    let world = direct(ONE_EACH, &remote);
    // A cut handshake is tried twice: with a post-quantum key share, and without.
    for (sent, expected, minutes) in [(1, 2, 0), (2, 2, 59), (3, 4, 1)] {
        world.clock.advance(Duration::from_secs(minutes * 60));
        let [_id] = world.add(Message::to(&["x@remote.test"])).await;
        let received = remote.wait_for(sent).await;
        assert_eq!(received[sent - 1].tls, None);
        assert_eq!(count.load(Ordering::Relaxed), expected, "message {sent}");
        world.events(sent).await;
    }
    let store = world.store.clone();
    world.stop().await;
    // A report tells of all that went in clear.
    let counted = crate::reports_out::counted(&store, "remote.test").await;
    assert!(
        counted[0].starts_with("no-policy-found remote.test +0 -3 "),
        "{counted:?}"
    );
}

#[tokio::test]
async fn a_handshake_that_is_cut_is_tried_without_a_post_quantum_share() {
    let tls = RemoteTls::new(&["mx.test"], "");
    let (remote, count) = counting(tls, Act::Cut, |before| before == 0).await;
    let world = direct(ONE_EACH, &remote);
    for (sent, expected) in [(1, 2), (2, 3)] {
        let [_id] = world.add(Message::to(&["x@remote.test"])).await;
        let received = remote.wait_for(sent).await;
        assert_eq!(received[sent - 1].tls.as_deref(), Some("X25519"));
        assert_eq!(count.load(Ordering::Relaxed), expected, "message {sent}");
        world.events(sent).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn the_certificate_of_a_smarthost_is_checked_and_named() {
    let tls = RemoteTls::new(&["other.test"], "");
    let world = by_smarthost("", &tls, "");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    let found = attempt(&world, id, 1).await;
    assert_eq!(code(&found), "4.7.5");
    assert_eq!(found.remote, "smart.test [192.0.2.1]");
    let part = "the transport demands TLS: the certificate is for another name (subject \"CN=rcgen self \
         signed cert\", issuer \"CN=rcgen self signed cert\", names other.test, valid 1975-01-01 \
         to 4096-01-01, SPKI SHA-256 ";
    assert!(found.error.contains(part), "{}", found.error);
    assert!(remote.received().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_smarthost_without_starttls_gets_nothing() {
    let world = by_smarthost("", &RemoteTls::new(&["smart.test"], ""), "");
    let remote = Remote::start(|_, _| None).await;
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    let found = attempt(&world, id, 1).await;
    assert_eq!(code(&found), "4.7.4");
    let text = "the transport demands TLS: the server does not offer STARTTLS";
    assert!(found.error.contains(text), "{}", found.error);
    assert!(remote.received().is_empty());
    world.stop().await;
}

fn with(require_tls: bool) -> Message<'static> {
    Message {
        require_tls: Some(require_tls),
        ..Message::to(&["x@remote.test"])
    }
}

#[tokio::test]
async fn requiretls_goes_to_a_proven_smarthost_that_offers_it() {
    let tls = RemoteTls::new(&["smart.test"], "REQUIRETLS");
    let world = by_smarthost("", &tls, "");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(with(true)).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    let received = remote.received();
    assert!(received[0].tls.is_some());
    assert!(
        received[0].mail.ends_with(" REQUIRETLS"),
        "{}",
        received[0].mail
    );
    world.stop().await;
}

#[tokio::test]
async fn requiretls_without_the_extension_fails_unless_configured() {
    for (key, delivered) in [
        ("", false),
        ("[delivery]\nrequire_tls = \"verified\"\n", true),
    ] {
        let tls = RemoteTls::new(&["smart.test"], "");
        let world = by_smarthost("", &tls, key);
        let remote = Remote::start_with(Some(tls), |_, _| None).await;
        world.lead("192.0.2.1", &remote);
        let [id] = world.add(with(true)).await;
        if delivered {
            assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
            assert!(!remote.received()[0].mail.contains("REQUIRETLS"));
        } else {
            assert_eq!(world.events(1).await, [(id, Event::Failed)]);
            let found = failure(&world, id).await;
            assert_eq!(code(&found), "5.7.30");
            assert!(found.error.contains("REQUIRETLS"), "{}", found.error);
            assert!(remote.received().is_empty());
        }
        world.stop().await;
    }
}

/// The hosts of a domain are not proven without DANE or MTA-STS, so nobody connects to them.
#[tokio::test]
async fn requiretls_fails_alone_where_no_host_is_proven() {
    let tls = RemoteTls::new(&["mx.test"], "REQUIRETLS");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    let world = direct("", &remote);
    let [needs] = world.add(with(true).later(60)).await;
    let [other] = world.add(Message::to(&["x@remote.test"]).later(60)).await;
    world.clock.advance(Duration::from_secs(60));
    let mut events = world.events(2).await;
    events.sort();
    assert_eq!(events, [(needs, Event::Failed), (other, Event::Delivered)]);
    let found = failure(&world, needs).await;
    assert_eq!(code(&found), "5.7.30");
    assert_eq!(found.remote, "mx.test");
    assert_eq!(world.dialed("192.0.2.1"), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_sender_may_waive_the_tls_of_a_smarthost_without_a_login() {
    let tls = RemoteTls::new(&["other.test"], "");
    let world = by_smarthost("", &tls, "");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(with(false)).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    assert!(remote.received()[0].tls.is_some());
    world.stop().await;
}

/// A remote that takes messages of 10 bytes at most.
async fn small() -> Remote {
    let script = |point: &Point, _: usize| match point {
        Point::Command(line) if line.starts_with("EHLO") => {
            Some(Act::Say("250-small.test\r\n250 SIZE 10"))
        }
        _ => None,
    };
    Remote::start(script).await
}

#[tokio::test]
async fn a_host_that_takes_no_such_message_is_passed_over() {
    let (little, large) = (small().await, Remote::start(|_, _| None).await);
    let world = World::start(Setup::default());
    world.mx("remote.test", &[(10, "a.test"), (20, "b.test")]);
    world.host("a.test", "192.0.2.1");
    world.host("b.test", "192.0.2.2");
    world.lead("192.0.2.1", &little);
    // The second host is down, so it is not known whether it takes the message.
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    let found = attempt(&world, id, 1).await;
    assert_eq!(code(&found), "4.3.4", "{}", found.error);
    world.lead("192.0.2.2", &large);
    world.clock.advance(Duration::from_secs(3600));
    let delivered = |events: &[(QueueId, Event)]| events.contains(&(id, Event::Delivered));
    assert!(delivered(&world.events(2).await));
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert_eq!(
        retired.message.results.last().unwrap().remote,
        "b.test [192.0.2.2]"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_message_fails_if_all_hosts_lack_what_it_needs() {
    let little = small().await;
    let world = World::start(Setup::default());
    world.mx("remote.test", &[(10, "a.test"), (20, "b.test")]);
    for (host, ip) in [("a.test", "192.0.2.1"), ("b.test", "192.0.2.2")] {
        world.host(host, ip);
        world.lead(ip, &little);
    }
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Failed)]);
    let found = failure(&world, id).await;
    assert_eq!(code(&found), "5.3.4");
    assert_eq!(found.remote, "b.test [192.0.2.2]");
    world.stop().await;
}
