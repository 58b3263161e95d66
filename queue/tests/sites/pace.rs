//! Pace, states and orders of sites: how the queue treats a site that blocks us, is busy, or is
//! paused or limited by an administrator, also after a restart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use postrider_config::Rate;
use postrider_queue::{LimitedBy, SiteOrderError, SiteState, SiteView, SourceState};
use postrider_store::{Change, Event, NextAttempt, QueueFilter, Queued, Time};

use super::{
    ONE_CONNECTION,
    patience::patiently,
    remote::{Act, Point, Remote},
    support::{Message, Setup, World},
    tarpits::{domain, send, taken},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const ECONNREFUSED: i32 = 111;
const BLOCKED: &str = "550 5.7.1 192.0.2.9 is listed at zen.spamhaus.org";

/// A remote that says this to MAIL while the flag is set.
async fn remote_that_says(reply: &'static str) -> (Remote, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (says, mails) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (flag, count) = (Arc::clone(&says), Arc::clone(&mails));
    let remote = Remote::start(move |point, _| match point {
        Point::Command(line) if line.starts_with("MAIL") => {
            count.fetch_add(1, Ordering::SeqCst);
            flag.load(Ordering::SeqCst).then_some(Act::Say(reply))
        }
        _ => None,
    })
    .await;
    (remote, says, mails)
}

fn view(world: &World, target: &str) -> SiteView {
    let mut views = world.queue.site_views(Some(target));
    assert_eq!(views.len(), 1, "{target}: {views:?}");
    views.remove(0)
}

/// Waits until the site of x.test is so.
async fn until(world: &World, is_so: impl Fn(&SiteView) -> bool) {
    let waits = async {
        while !is_so(&view(world, "x.test")) {
            tokio::task::yield_now().await;
        }
    };
    patiently("the state of the site", waits).await;
}

/// Waits until no message is due or in delivery.
async fn settled(world: &World) -> Vec<Queued> {
    let queued = world.at_rest().await;
    let none_in_flight = async {
        while world
            .queue
            .site_views(None)
            .iter()
            .any(|view| view.in_flight > 0)
        {
            tokio::task::yield_now().await;
        }
    };
    patiently("the end of the attempts", none_in_flight).await;
    queued
}

/// The site `mx.x.test` with one connection.
fn world(dynamics: &'static str, statics: &str) -> World {
    let statics = format!("{ONE_CONNECTION}{statics}");
    World::start(Setup {
        statics: &statics,
        account: dynamics,
        ..Setup::default()
    })
}

/// What is known of a blocked site is stored, so that a `kill -9` does not make the queue try again
/// what it should not.
#[tokio::test]
async fn a_site_that_blocks_us_is_left_alone_also_after_a_crash_and_nobody_is_suppressed() {
    let mut world = world("suppress_policy_blocks = true\n", "");
    let (remote, says, mails) = remote_that_says(BLOCKED).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let start = world.now();
    send(&world, 5, "x.test").await;
    let queued = settled(&world).await;
    assert_eq!(queued.len(), 5);
    let events = world.events(5).await;
    assert!(events.iter().all(|(_, event)| *event == Event::Delayed));
    let blocked = view(&world, "x.test");
    assert_eq!(blocked.state, SiteState::Blocked);
    assert_eq!(blocked.until, Some(start.after(4 * HOUR)));
    let error = blocked.last_error.unwrap();
    assert_eq!((error.code, error.class), (550, "blocked"));
    assert_eq!(
        (error.host.as_str(), error.stage.as_str()),
        ("mx.x.test", "MAIL")
    );
    assert_eq!(blocked.hour.deferred, 5);
    // Others wait, and that is no attempt.
    let tried = mails.load(Ordering::SeqCst);
    send(&world, 5, "x.test").await;
    let queued = settled(&world).await;
    assert_eq!(
        queued
            .iter()
            .filter(|message| message.attempts == 0)
            .count(),
        5
    );
    let noted = async {
        while world.store.learnt_of_sites().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    patiently("the note", noted).await;
    world.kill();
    send(&world, 1, "x.test").await;
    settled(&world).await;
    let after = view(&world, "x.test");
    assert_eq!(
        (after.state, after.until),
        (SiteState::Blocked, blocked.until)
    );
    assert_eq!(mails.load(Ordering::SeqCst), tried, "nothing was tried");
    // A probe finds the block, and its time doubles. The next one finds that it is over.
    world.clock.advance(4 * HOUR);
    settled(&world).await;
    assert_eq!(
        mails.load(Ordering::SeqCst),
        tried + 1,
        "the probe is one message"
    );
    assert_eq!(
        view(&world, "x.test").until,
        Some(world.now().after(8 * HOUR))
    );
    says.store(false, Ordering::SeqCst);
    world.clock.advance(8 * HOUR);
    taken(&remote, 11).await;
    until(&world, |site| site.state == SiteState::Active).await;
    assert_eq!(world.store.counts().await.suppressions, 0);
    world.stop().await;
}

#[tokio::test]
async fn a_block_fails_a_message_if_it_is_to() {
    let world = world("", "[delivery]\non_block = \"fail\"\n");
    let (remote, _, _) = remote_that_says(BLOCKED).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(Message::to(&["a@x.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Failed)]);
    until(&world, |site| site.state == SiteState::Active).await;
    world.stop().await;
}

#[tokio::test]
async fn a_busy_site_rests() {
    let world = world("", "");
    let (remote, says, _) = remote_that_says("421 4.3.2 busy, come back later").await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let start = world.now();
    send(&world, 1, "x.test").await;
    settled(&world).await;
    let rests = view(&world, "x.test");
    assert_eq!(
        (rests.state, rests.until),
        (SiteState::Resting, Some(start.after(MINUTE)))
    );
    says.store(false, Ordering::SeqCst);
    send(&world, 3, "x.test").await;
    let held = Change {
        hold: Some(true),
        ..Change::default()
    };
    let [id] = world.add(Message::to(&["held@x.test"]).later(60)).await;
    let only = QueueFilter {
        ids: vec![id],
        ..QueueFilter::default()
    };
    world
        .queue
        .change(&world.store, &only, &held, "ann")
        .await
        .unwrap();
    let queued = settled(&world).await;
    let waiting = world.queue.waiting_at(&[view(&world, "x.test")]).await;
    let waiting = waiting.unwrap()[0];
    // The first one waits for its second attempt.
    assert_eq!((waiting.waiting, waiting.due, waiting.held), (4, 3, 1));
    assert_eq!(waiting.oldest, Some(start));
    let waits = queued.iter().filter(|message| message.attempts == 0);
    assert_eq!(waits.count(), 4);
    world.clock.advance(MINUTE);
    taken(&remote, 3).await;
    world.stop().await;
}

/// The time of messages stands still while their site is paused.
#[tokio::test]
async fn a_paused_site_waits_for_its_end_also_after_a_restart() {
    let mut world = world(
        "",
        "retry_intervals = [\"1h\", \"2h\"]\nretry_spread = 0.0\n",
    );
    let (remote, says, mails) = remote_that_says("451 4.3.0 later").await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    send(&world, 1, "x.test").await;
    settled(&world).await;
    let site = view(&world, "x.test").site;
    let store = world.store.clone();
    world
        .queue
        .pause_site(&store, &site, None, "they mend it")
        .await
        .unwrap();
    assert_eq!(view(&world, "x.test").state, SiteState::Paused);
    let tried = mails.load(Ordering::SeqCst);
    let [waits] = world.add(Message::to(&["b@x.test"])).await;
    for _ in 0..10 {
        world.clock.advance(HOUR);
        tokio::task::yield_now().await;
    }
    world.restart().await;
    // A message for another site is delivered meanwhile, so the queue has looked.
    domain(&world, "y.test", "192.0.2.2");
    let other = Remote::start(|_, _| None).await;
    world.lead("192.0.2.2", &other);
    send(&world, 1, "y.test").await;
    taken(&other, 1).await;
    assert_eq!(mails.load(Ordering::SeqCst), tried);
    let message = store.queued(waits).await.unwrap().unwrap();
    assert_eq!((message.attempts, message.results.len()), (0, 0));
    let explained = world.queue.explain(&message).await.unwrap();
    assert!(explained.contains("is paused: they mend it"), "{explained}");
    // The host is gone now. Messages whose time is over would fail, and three hours are over.
    world.break_way("192.0.2.1", ECONNREFUSED);
    world.queue.resume_site(&store, &site).await.unwrap();
    let resumed = world.queue.resume_site(&store, &site).await;
    assert!(matches!(resumed, Err(SiteOrderError::NotThere(_))));
    settled(&world).await;
    assert_eq!(view(&world, "x.test").state, SiteState::Down);
    let told = world.told().await;
    assert!(
        told.iter().all(|told| told.event != Event::Failed),
        "{told:?}"
    );
    says.store(false, Ordering::SeqCst);
    world.lead("192.0.2.1", &remote);
    world.clock.advance(2 * HOUR);
    taken(&remote, 2).await;
    world.stop().await;
}

#[tokio::test]
async fn a_paused_domain_waits_and_others_of_its_site_do_not() {
    let world = world("", "");
    let remote = Remote::start(|_, _| None).await;
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.mx("a.test", &[(10, "mx.test")]);
    world.mx("b.test", &[(10, "mx.test")]);
    let store = world.store.clone();
    let end = Some(world.now().after(HOUR));
    world
        .queue
        .pause_site(&store, "a.test", end, "")
        .await
        .unwrap();
    send(&world, 2, "a.test").await;
    send(&world, 1, "b.test").await;
    taken(&remote, 1).await;
    assert!(remote.received()[0].rcpts[0].contains("b.test"));
    world.clock.advance(HOUR);
    taken(&remote, 3).await;
    world.stop().await;
}

#[tokio::test]
async fn a_rate_and_a_number_of_connections_can_be_ordered() {
    let world = world("", "");
    let remote = Remote::start(|_, _| None).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let store = world.store.clone();
    let limits = (Some(3), Rate::parse("2/minute").ok());
    world
        .queue
        .limit_site(&store, "x.test", limits, None, "")
        .await
        .unwrap();
    send(&world, 4, "x.test").await;
    taken(&remote, 1).await;
    until(&world, |site| {
        site.limited_by.first() == Some(&LimitedBy::Rate)
    })
    .await;
    let limited = view(&world, "x.test");
    assert_eq!((limited.state, limited.cap), (SiteState::Limited, 3));
    assert_eq!(limited.rate, ["2/minute"]);
    assert_eq!(limited.provider, "default");
    assert_eq!(limited.tls, "by DANE and MTA-STS");
    let [source] = &limited.sources[..] else {
        panic!("{:?}", limited.sources);
    };
    assert_eq!((source.name.as_str(), source.address.as_str()), ("", ""));
    assert_eq!(source.ehlo, "mail.example.org");
    assert_eq!(source.state, SourceState::Active);
    assert_eq!(limited.orders.len(), 1);
    for count in 2..4 {
        world.clock.advance(MINUTE / 2);
        taken(&remote, count).await;
    }
    assert_eq!(remote.received().len(), 3);
    // Without a limit the rest goes at once.
    world
        .queue
        .limit_site(&store, "x.test", (None, None), None, "")
        .await
        .unwrap();
    taken(&remote, 4).await;
    assert!(world.store.site_orders().await.unwrap().is_empty());
    world.stop().await;
}

/// A change that makes messages due at this time.
fn due_at(time: Time) -> Change {
    Change {
        next_attempt: Some(NextAttempt::At(time)),
        ..Change::default()
    }
}

/// The messages to a domain.
fn to(domain: &str) -> QueueFilter {
    QueueFilter {
        to: Some(format!("@{domain}")),
        ..QueueFilter::default()
    }
}

/// Two sites are busy and rest. Whoever wants an attempt at one of them gets a probe there.
#[tokio::test]
async fn a_kick_asks_for_one_probe_at_the_site_of_its_messages() {
    let world = world("", "");
    let mut remotes = Vec::new();
    for (number, name) in ["x.test", "y.test"].into_iter().enumerate() {
        let remote = remote_that_says("421 4.3.2 busy, come back later").await;
        let ip = format!("192.0.2.{}", number + 1);
        domain(&world, name, &ip);
        world.lead(&ip, &remote.0);
        send(&world, 1, name).await;
        settled(&world).await;
        send(&world, 4, name).await;
        assert_eq!(view(&world, name).state, SiteState::Resting);
        remotes.push(remote);
    }
    let mails = |number: usize| remotes[number].2.load(Ordering::SeqCst);
    let change = async |domain: &str, time: Time| {
        let queue = &world.queue;
        queue
            .change(&world.store, &to(domain), &due_at(time), "ann")
            .await
            .unwrap();
        settled(&world).await;
    };
    // A time in the future asks for nothing now.
    change("x.test", world.now().after(24 * HOUR)).await;
    assert_eq!(view(&world, "x.test").state, SiteState::Resting);
    assert_eq!((mails(0), mails(1)), (1, 1));
    change("x.test", world.now()).await;
    assert_eq!((mails(0), mails(1)), (2, 1), "one probe, and one site");
    assert_eq!(view(&world, "y.test").state, SiteState::Resting);
    remotes[0].1.store(false, Ordering::SeqCst);
    change("x.test", world.now()).await;
    taken(&remotes[0].0, 5).await;
    assert_eq!(mails(1), 1);
    world.stop().await;
}

/// A kick of messages ends no block. An administrator may ask for a probe.
#[tokio::test]
async fn a_block_ends_with_a_probe_that_an_administrator_asks_for() {
    let world = world("", "");
    let (remote, says, mails) = remote_that_says(BLOCKED).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let start = world.now();
    send(&world, 5, "x.test").await;
    settled(&world).await;
    let tried = mails.load(Ordering::SeqCst);
    let resume = || world.queue.resume_site(&world.store, "x.test");
    for _ in 0..2 {
        world
            .queue
            .change(&world.store, &to("x.test"), &due_at(world.now()), "ann")
            .await
            .unwrap();
        settled(&world).await;
    }
    let blocked = view(&world, "x.test");
    assert_eq!(
        (blocked.state, blocked.until),
        (SiteState::Blocked, Some(start.after(4 * HOUR)))
    );
    assert_eq!(mails.load(Ordering::SeqCst), tried);
    resume().await.unwrap();
    until(&world, |site| {
        site.until == Some(world.now().after(8 * HOUR))
    })
    .await;
    assert_eq!(mails.load(Ordering::SeqCst), tried + 1, "one message");
    says.store(false, Ordering::SeqCst);
    settled(&world).await;
    resume().await.unwrap();
    taken(&remote, 5).await;
    until(&world, |site| site.state == SiteState::Active).await;
    let nothing = resume().await;
    assert!(matches!(nothing, Err(SiteOrderError::NotThere(_))));
    world.stop().await;
}
