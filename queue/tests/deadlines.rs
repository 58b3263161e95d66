//! What submitters ask for about the time and the urgency of a delivery: DELIVERBY (RFC 2852) and
//! MT-PRIORITY (RFC 6710).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

#[path = "../../tests/it/support/patience.rs"]
#[allow(unreachable_pub, reason = "the whole-server tests share it")]
mod patience;
#[path = "../../tests/it/support/remote.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the whole-server tests share it, and use more of it"
)]
mod remote;
#[allow(dead_code, reason = "the other tests of this crate use more of it")]
mod support;

use std::time::Duration;

use postrider_store::{Deadline, Event, Urgency};
use remote::{Act, Point, Remote};
use support::{Message, Setup, World};

/// A remote that offers these extensions, and says this to RCPT.
async fn remote(world: &World, offers: &'static str, rcpt: Option<&'static str>) -> Remote {
    let remote = Remote::start(move |point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => Some(Act::Say(offers)),
        Point::Command(line) if line.starts_with("RCPT") => rcpt.map(Act::Say),
        _ => None,
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    remote
}

fn within(world: &World, seconds: u64, fails: bool, trace: bool) -> Urgency {
    Urgency {
        deadline: Some(Deadline {
            at: world.now().after(Duration::from_secs(seconds)),
            fails,
            trace,
        }),
        ..Urgency::default()
    }
}

const PLAIN: &str = "250 a.test";
const BUSY: Option<&str> = Some("451 4.3.0 later");

#[tokio::test]
async fn a_message_that_is_late_fails() {
    let world = World::start(Setup::default());
    remote(&world, PLAIN, BUSY).await;
    let urgency = within(&world, 120, true, false);
    world
        .submit_urgently(Message::to(&["x@remote.test"]), urgency)
        .await;
    let queued = world
        .queued_until(|queued| queued[0].results.len() == 1)
        .await;
    // The next attempt would come later.
    let deadline = urgency.deadline.unwrap().at;
    assert_eq!(queued[0].next_attempt, deadline);
    world.clock.advance(Duration::from_secs(120));
    let events = world.events(2).await;
    let events: Vec<Event> = events.into_iter().map(|(_, event)| event).collect();
    assert_eq!(events, [Event::Delayed, Event::Failed]);
    let told = world.told().await;
    assert_eq!(told[1].enhanced.unwrap().to_string(), "5.4.7");
    let mails = world.mails().await;
    assert_eq!(mails.len(), 1);
    assert!(
        mails[0].contains("\r\nAction: failed\r\nStatus: 5.4.7\r\n"),
        "{}",
        mails[0]
    );
    assert!(mails[0].contains("wanted; last: "), "{}", mails[0]);
    world.stop().await;
}

#[tokio::test]
async fn the_sender_hears_of_a_message_that_is_late_and_goes_on() {
    let world = World::start(Setup::default());
    remote(&world, PLAIN, BUSY).await;
    let urgency = within(&world, 120, false, false);
    world
        .submit_urgently(Message::to(&["x@remote.test"]), urgency)
        .await;
    world
        .queued_until(|queued| queued[0].results.len() == 1)
        .await;
    assert!(world.mails().await.is_empty());
    world.clock.advance(Duration::from_secs(120));
    let queued = world
        .queued_until(|queued| queued[0].results.len() == 2)
        .await;
    assert!(queued[0].delay_told);
    let mails = world.mails().await;
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains("\r\nAction: delayed\r\n"), "{}", mails[0]);
    world.stop().await;
}

#[tokio::test]
async fn the_next_hop_gets_what_it_offers() {
    let world = World::start(Setup::default());
    let offers = "250-a.test\r\n250-MT-PRIORITY\r\n250 DELIVERBY 60";
    let knows = remote(&world, offers, None).await;
    let urgency = Urgency {
        priority: 4,
        ..within(&world, 600, true, true)
    };
    world
        .submit_urgently(Message::to(&["x@remote.test"]), urgency)
        .await;
    world.events(1).await;
    let mail = &knows.received()[0].mail;
    assert!(mail.ends_with(" MT-PRIORITY=4 BY=600;RT"), "{mail}");
    // The trace tells of this server.
    let mails = world.mails().await;
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains("\r\nAction: relayed\r\n"), "{}", mails[0]);
    world.stop().await;
}
