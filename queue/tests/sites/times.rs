//! Which clock counts what: the time of a message counts from when it was first due, by the wall
//! clock, and waits of some length go by moments.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use postrider_store::{Change, Event, Notify as Wanted, QueueFilter, QueueId};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::Notify,
};

use super::{
    patience::patiently,
    remote::{Act, Point, Remote},
    support::{Message, Setup, World},
    tarpits::{domain, host, send, taken},
};

const MINUTE: Duration = Duration::from_secs(60);
const ENETUNREACH: i32 = 101;
/// All waits between attempts together are three hours.
const THREE_HOURS: &str = "[queue]\nretry_intervals = [\"1h\", \"2h\"]\nretry_spread = 0.0\n\
                           delay_dsn_after = \"1h\"\n";

/// Lets so many minutes pass. Gives the minute, from the given start, at which each message failed.
async fn pass(world: &World, minutes: u64, failed: &mut BTreeMap<QueueId, u64>, start: u64) {
    for minute in start..start + minutes {
        world.at_rest().await;
        for told in world.told().await {
            if told.event == Event::Failed {
                failed.entry(told.queue_id).or_insert(minute);
            }
        }
        world.clock.advance(MINUTE);
    }
}

fn hold(hold: bool) -> Change {
    Change {
        hold: Some(hold),
        ..Change::default()
    }
}

/// The site is down all the time. It is probed for messages that are due from the beginning.
#[tokio::test]
async fn the_time_of_a_message_counts_from_when_it_was_first_due_also_after_a_restart() {
    let mut world = World::start(Setup {
        statics: THREE_HOURS,
        ..Setup::default()
    });
    domain(&world, "gone.test", "192.0.2.1");
    let [at_once] = world.add(Message::to(&["a@gone.test"])).await;
    let told_by_mail = Message {
        notify: Wanted {
            given: true,
            ..Wanted::default()
        },
        ..Message::to(&["later@gone.test"]).later(4 * 3600)
    };
    let [later] = world.add(told_by_mail).await;
    let [held] = world.add(Message::to(&["held@gone.test"]).later(600)).await;
    let only_held = QueueFilter {
        ids: vec![held],
        ..QueueFilter::default()
    };
    world
        .queue
        .change(&world.store, &only_held, &hold(true), "ann")
        .await
        .unwrap();
    let mut failed = BTreeMap::new();
    // A message for each hour, so that the site never counts as tried and forgotten.
    for hour in 0..4 {
        send(&world, 1, "gone.test").await;
        pass(&world, 60, &mut failed, hour * 60).await;
    }
    world
        .queue
        .change(&world.store, &only_held, &hold(false), "ann")
        .await
        .unwrap();
    // Both come to a site that is down for four hours by now, and neither fails for that.
    pass(&world, 45, &mut failed, 240).await;
    let about = |mails: &[String]| {
        let about = mails.iter().filter(|mail| mail.contains("later@gone.test"));
        about.count()
    };
    assert_eq!(about(&world.mails().await), 0, "it is not late yet");
    pass(&world, 45, &mut failed, 285).await;
    assert!(!failed.contains_key(&later) && !failed.contains_key(&held));
    assert!((180..240).contains(&failed[&at_once]), "{failed:?}");
    world.restart().await;
    pass(&world, 130, &mut failed, 330).await;
    for id in [later, held] {
        // Three hours after hour 4, and at the next probe.
        assert!((420..455).contains(&failed[&id]), "{failed:?}");
    }
    let mails = world.mails().await;
    let delayed = mails
        .iter()
        .find(|mail| mail.contains("later@gone.test") && mail.contains("Action: delayed"));
    let delayed = delayed.unwrap();
    assert!(delayed.contains("Will-Retry-Until: "), "{delayed}");
    world.stop().await;
}

/// A fault of ours keeps a message from its first attempt, and its time goes on.
#[tokio::test]
async fn a_message_fails_when_its_time_is_over_though_attempts_are_left() {
    let world = World::start(Setup {
        statics: THREE_HOURS,
        ..Setup::default()
    });
    domain(&world, "late.test", "192.0.2.1");
    world.break_way("192.0.2.1", ENETUNREACH);
    let start = world.now();
    let [id] = world.add(Message::to(&["x@late.test"])).await;
    let mut failed = BTreeMap::new();
    pass(&world, 150, &mut failed, 0).await;
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("RCPT") => Some(Act::Say("451 4.3.0 later")),
        _ => None,
    });
    world.lead("192.0.2.1", &remote.await);
    pass(&world, 20, &mut failed, 150).await;
    let queued = world.queued_until(|queued| queued[0].attempts == 1).await;
    // The next attempt would be in an hour.
    let end = start.after(180 * MINUTE);
    let fails = world.queue.outlook(&queued[0]).fails;
    assert_eq!((queued[0].next_attempt, fails), (end, end));
    pass(&world, 20, &mut failed, 170).await;
    assert_eq!(failed[&id], 180);
    let retired = world.store.retired(id).await.unwrap().unwrap();
    let results = retired.message.results;
    assert_eq!(results.len(), 2);
    assert_eq!(results[1].enhanced.unwrap().to_string(), "5.4.7");
    assert_eq!(results[1].error, "expired; last: later");
    world.stop().await;
}

/// The look-ups for a domain have no answer, and the pauses between them grow to half an hour.
#[tokio::test]
async fn a_message_behind_a_dns_that_never_answers_ends_in_its_time() {
    let world = World::start(Setup {
        statics: THREE_HOURS,
        ..Setup::default()
    });
    world.mx("gone.test", &[(10, "mx.gone.test")]);
    world.resolver.fail("gone.test");
    let mut ends = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for minute in 0..30 {
        let message = Message::to(&["x@gone.test"]);
        let [id] = world.add(message).await;
        ends.insert(id, minute + 180);
        pass(&world, 1, &mut failed, minute).await;
    }
    pass(&world, 190, &mut failed, 30).await;
    assert_eq!(failed.len(), 30);
    for (id, end) in ends {
        assert!((end..=end + 1).contains(&failed[&id]), "{end}: {failed:?}");
    }
    world.stop().await;
}

/// A claim ends after ten minutes unless it is renewed.
#[tokio::test]
async fn a_wall_clock_that_is_set_back_during_a_long_delivery_delivers_nothing_twice() {
    let world = World::start(Setup::default());
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (at_dot, release) = (Arc::clone(&reached), Arc::clone(&go_on));
    let slow = host(move |stream| {
        let (reached, go_on) = (Arc::clone(&at_dot), Arc::clone(&release));
        async move {
            let (read, mut write) = stream.into_split();
            write.write_all(b"220 x\r\n").await?;
            let mut lines = BufReader::new(read).lines();
            let mut text = false;
            while let Some(line) = lines.next_line().await? {
                match line.as_str() {
                    "." => {
                        text = false;
                        reached.notify_one();
                        go_on.notified().await;
                        write.write_all(b"250 x\r\n").await?;
                    }
                    _ if text => {}
                    "DATA" => {
                        text = true;
                        write.write_all(b"354 x\r\n").await?;
                    }
                    _ => write.write_all(b"250 x\r\n").await?,
                }
            }
            Ok(())
        }
    })
    .await;
    domain(&world, "slow.test", "192.0.2.1");
    world.lead_to("192.0.2.1", slow);
    let remote = Remote::start(|_, _| None).await;
    domain(&world, "fast.test", "192.0.2.2");
    world.lead("192.0.2.2", &remote);
    send(&world, 1, "slow.test").await;
    patiently("the final dot", reached.notified()).await;
    world.clock.set(world.now().before(60 * MINUTE));
    // Until the message is due again by the wall clock.
    for step in 1..=40 {
        world.clock.advance(Duration::from_secs(100));
        // A delivery elsewhere takes longer than the renewal of the claim, and claims what is due.
        send(&world, 1, "fast.test").await;
        taken(&remote, step).await;
    }
    assert_eq!(world.dialed("192.0.2.1"), 1);
    go_on.notify_one();
    let all = patiently("all deliveries", world.events(41)).await;
    assert_eq!(all.len(), 41);
    assert!(all.iter().all(|(_, event)| *event == Event::Delivered));
    world.stop().await;
}
