//! Orders of administrators: when they begin and end, and what a restart keeps of them.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use postrider_config::Rate;
use postrider_queue::{LimitedBy, SiteOrderError, SiteView};

use super::{
    ONE_CONNECTION,
    patience::patiently,
    remote::{Point, Remote},
    support::{Message, Setup, World},
    tarpits::{domain, send, taken},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// One connection to each site, and x.test at 192.0.2.1.
async fn world(dynamics: &str) -> (World, Remote) {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        dynamics,
        ..Setup::default()
    });
    let remote = Remote::start(|_, _| None).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    (world, remote)
}

/// Waits until the site of x.test is so.
async fn until(world: &World, is_so: impl Fn(&SiteView) -> bool) {
    let waits = async {
        while !world.queue.site_views(Some("x.test")).iter().any(&is_so) {
            tokio::task::yield_now().await;
        }
    };
    patiently("the state of the site", waits).await;
}

/// Mail for another site is delivered, so the queue has looked at what is due.
async fn looked(world: &World, name: &str, ip: &str) {
    let other = Remote::start(|_, _| None).await;
    domain(world, name, ip);
    world.lead(ip, &other);
    send(world, 1, name).await;
    taken(&other, 1).await;
}

/// The pause comes while the first of three messages is on its way: that one is delivered, and no
/// MAIL goes out for the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_for_messages_of_an_attempt_under_way() {
    for by_site in [false, true] {
        let (world, _) = world("").await;
        let (arrived, mut arrives) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let (goes_on, first) = (Mutex::new(goes_on), AtomicBool::new(true));
        let remote = Remote::start(move |point, _| {
            if *point == Point::EndOfData && first.swap(false, Ordering::SeqCst) {
                arrived.send(()).unwrap();
                goes_on.lock().unwrap().recv().unwrap();
            }
            None
        })
        .await;
        world.lead("192.0.2.1", &remote);
        for _ in 0..3 {
            world.submit(Message::to(&["a@x.test"]).later(5)).await;
        }
        world.clock.advance(Duration::from_secs(5));
        arrives.recv().await.unwrap();
        let target = match by_site {
            true => world.queue.site_views(Some("x.test"))[0].site.clone(),
            false => "x.test".to_owned(),
        };
        let store = world.store.clone();
        let paused = world.queue.pause_site(&store, &target, None, "");
        paused.await.unwrap();
        go_on.send(()).unwrap();
        world.queued_until(|queued| queued.len() == 2).await;
        let waiting = world.at_rest().await;
        assert_eq!(remote.received().len(), 1);
        for message in &waiting {
            assert_eq!((message.attempts, message.results.len()), (0, 0));
        }
        world.queue.resume_site(&store, &target).await.unwrap();
        taken(&remote, 3).await;
        world.stop().await;
    }
}

/// Somebody sets the clock forward to the end of a pause, for a domain and for a site.
#[tokio::test]
async fn a_pause_ends_when_the_wall_clock_is_set_to_its_end() {
    let (world, remote) = world("").await;
    let store = world.store.clone();
    send(&world, 1, "x.test").await;
    taken(&remote, 1).await;
    let site = world.queue.site_views(Some("x.test"))[0].site.clone();
    for (count, target) in [(2, "x.test"), (3, &site)] {
        let end = world.now().after(HOUR);
        let paused = world.queue.pause_site(&store, target, Some(end), "");
        paused.await.unwrap();
        send(&world, 1, "x.test").await;
        looked(
            &world,
            &format!("{count}.test"),
            &format!("192.0.2.2{count}"),
        )
        .await;
        assert_eq!(remote.received().len(), count - 1);
        world.clock.set(end);
        taken(&remote, count).await;
    }
    world.stop().await;
}

/// Somebody sets the clock back. The pause ends when the clock shows its end, and somebody wakes
/// then.
#[tokio::test]
async fn a_pause_of_a_site_lasts_until_the_wall_clock_shows_its_end() {
    let (world, remote) = world("").await;
    let store = world.store.clone();
    send(&world, 1, "x.test").await;
    taken(&remote, 1).await;
    let site = world.queue.site_views(Some("x.test"))[0].site.clone();
    let start = world.now();
    let end = Some(start.after(HOUR));
    let paused = world.queue.pause_site(&store, &site, end, "");
    paused.await.unwrap();
    send(&world, 1, "x.test").await;
    world.clock.set(start.before(HOUR));
    world.clock.advance(HOUR);
    looked(&world, "y.test", "192.0.2.2").await;
    assert_eq!(remote.received().len(), 1);
    world.clock.advance(HOUR);
    taken(&remote, 2).await;
    world.stop().await;
}

/// An order that is over takes no place. A pause is remembered while it may count for messages.
#[tokio::test]
async fn orders_that_are_over_are_removed() {
    let (world, _) = world("").await;
    let store = world.store.clone();
    let end = Some(world.now().after(HOUR));
    let limits = (Some(3), None);
    let limited = world.queue.limit_site(&store, "x.test", limits, end, "");
    limited.await.unwrap();
    let paused = world.queue.pause_site(&store, "y.test", end, "");
    paused.await.unwrap();
    assert_eq!(store.site_orders().await.unwrap().len(), 2);
    let left = async |count: usize| {
        let left = async {
            loop {
                let orders = store.site_orders().await.unwrap();
                if orders.len() == count && orders.iter().all(|it| it.pause.is_none()) {
                    return orders;
                }
                tokio::task::yield_now().await;
            }
        };
        patiently("the orders that are left", left).await
    };
    world.clock.advance(HOUR);
    let orders = left(1).await;
    assert_eq!(
        (orders[0].target.as_str(), orders[0].paused.len()),
        ("y.test", 1)
    );
    let resumed = world.queue.resume_site(&store, "y.test").await;
    assert!(matches!(resumed, Err(SiteOrderError::NotThere(_))));
    world.clock.advance(14 * 24 * HOUR);
    assert!(left(0).await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_rate_that_is_ordered_for_a_domain_is_not_begun_anew_by_a_restart() {
    let (mut world, remote) = world("").await;
    let store = world.store.clone();
    // One at once, and one in eight hours.
    let limits = (None, Rate::parse("3/day").ok());
    let limited = world.queue.limit_site(&store, "x.test", limits, None, "");
    limited.await.unwrap();
    send(&world, 2, "x.test").await;
    taken(&remote, 1).await;
    until(&world, |site| site.limited_by.contains(&LimitedBy::Rate)).await;
    world.restart().await;
    until(&world, |site| site.limited_by.contains(&LimitedBy::Rate)).await;
    assert_eq!(remote.received().len(), 1);
    world.clock.advance(8 * HOUR);
    taken(&remote, 2).await;
    world.stop().await;
}

#[tokio::test]
async fn connections_of_a_day_are_not_begun_anew_by_a_restart() {
    let provider = "[providers.x]\ndomains = [\"x.test\"]\nconnect_rate = \"2/day\"\n";
    let (mut world, remote) = world(provider).await;
    send(&world, 1, "x.test").await;
    taken(&remote, 1).await;
    world.restart().await;
    send(&world, 1, "x.test").await;
    until(&world, |site| {
        site.limited_by.contains(&LimitedBy::ConnectRate)
    })
    .await;
    assert_eq!(world.dialed("192.0.2.1"), 1);
    world.clock.advance(12 * HOUR);
    taken(&remote, 2).await;
    world.stop().await;
}

/// Its orders can't be read, so it delivers nothing. It still ends when it is told to, and takes no
/// order that it could not keep.
#[tokio::test]
async fn a_queue_whose_store_fails_at_the_start_waits_and_ends() {
    let (mut world, _) = world("").await;
    let store = world.store.clone();
    store.clone().close().await;
    world.restart().await;
    let paused = world.queue.pause_site(&store, "x.test", None, "").await;
    assert!(matches!(paused, Err(SiteOrderError::Store(_))));
    world.clock.advance(Duration::from_secs(5));
    patiently("the end of the queue", world.stop()).await;
}
