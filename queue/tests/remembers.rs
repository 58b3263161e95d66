//! What the queue remembers and learns: suppression, hold rules, the work of administrators, and
//! reports that come back.

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
#[path = "remembers/reports.rs"]
mod reports;
#[allow(dead_code, reason = "the other tests of this crate use more of it")]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use postrider_queue::{EndAs, EndedCount, OperateError};
use postrider_store::{
    Change, Event, HoldFilter, NewSuppression, NextAttempt, Notify, OutgoingEvent, QueueFilter,
    Suppression, Time,
};
use remote::{Act, Point, Remote};
use support::{Message, Setup, World};

/// Starts a remote that answers RCPT like this. Gives the count of MAIL commands.
async fn refusing(world: &World, answer: &'static str) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let remote = Remote::start(move |point, _| match point {
        Point::Command(line) if line.starts_with("MAIL") => {
            counter.fetch_add(1, Ordering::Relaxed);
            None
        }
        Point::Command(line) if line.starts_with("RCPT") => Some(Act::Say(answer)),
        _ => None,
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    asked
}

/// Takes an address off the list. False: it was not there.
async fn unsuppress(world: &World, base: &str) -> bool {
    let removed = world.store.unsuppress("ann", base, world.now()).await;
    removed.unwrap()
}

/// The entry of an address.
async fn entry(world: &World, base: &str) -> Option<Suppression> {
    let found = world.store.suppression("ann", base, world.now()).await;
    found.unwrap()
}

/// A remote that takes everything and supports DSN.
async fn accepting_with_dsn(world: &World) -> Remote {
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => Some(Act::Say("250-a.test\r\n250 DSN")),
        _ => None,
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    remote
}

/// The ENVIDs of the transactions that a remote received.
fn envids(remote: &Remote) -> Vec<String> {
    let received = remote.received();
    let envid = |mail: &str| {
        let (_, envid) = mail.split_once("ENVID=").unwrap();
        envid.split(' ').next().unwrap().to_owned()
    };
    received.iter().map(|one| envid(&one.mail)).collect()
}

async fn accepting(world: &World) -> Remote {
    let remote = Remote::start(|_, _| None).await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    remote
}

fn to(address: &str) -> QueueFilter {
    QueueFilter {
        to: Some(address.into()),
        ..QueueFilter::default()
    }
}

fn hold(hold: bool) -> Change {
    Change {
        hold: Some(hold),
        ..Change::default()
    }
}

fn summary(told: &[OutgoingEvent]) -> Vec<(Event, bool, u16)> {
    told.iter()
        .map(|told| (told.event, told.suppressing, told.code))
        .collect()
}

#[tokio::test]
async fn an_address_that_is_none_is_not_tried_again_in_any_variant() {
    let world = World::start(Setup::default());
    let asked = refusing(&world, "550 5.1.1 no such user").await;
    let [_] = world.add(Message::to(&["user.name+a@remote.test"])).await;
    world.events(1).await;
    let entry = world
        .store
        .suppression("ann", "username@remote.test", world.now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        entry.reason,
        "queue: 550, 5.1.1 from a.test [192.0.2.1]: no such user"
    );
    let reply = entry.reply.unwrap();
    assert_eq!((reply.code, &*reply.text), (550, "no such user"));
    assert_eq!((&*reply.host, entry.until), ("a.test [192.0.2.1]", None));
    assert_eq!(entry.original, "user.name+a@remote.test");
    let [second] = world.add(Message::to(&["username@remote.test"])).await;
    world.events(2).await;
    assert_eq!(
        summary(&world.told().await),
        [(Event::Failed, true, 550), (Event::Suppressed, false, 0)]
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1, "not asked again");
    let retired = world.store.retired(second).await.unwrap().unwrap();
    assert!(!retired.success);
    assert!(
        retired.message.results[0]
            .error
            .contains("suppression list")
    );
    assert_eq!(world.mails().await.len(), 2, "the sender is told of both");
    // After its removal from the list the address is tried, and listed again.
    assert!(unsuppress(&world, "username@remote.test").await);
    let [_] = world.add(Message::to(&["username@remote.test"])).await;
    world.events(3).await;
    assert_eq!(summary(&world.told().await)[2], (Event::Failed, true, 550));
    world.stop().await;
}

#[tokio::test]
async fn an_address_that_unsubscribed_from_a_list_still_gets_other_mail() {
    let world = World::start(Setup::default());
    let _remote = accepting(&world).await;
    let unsubscribed = NewSuppression {
        account: "ann".into(),
        base: "x@remote.test".into(),
        list: "news".into(),
        original: "x@remote.test".into(),
        created: Time(0),
        manual: false,
        reason: "unsubscribed".into(),
        reply: None,
        until: None,
    };
    assert!(world.store.suppress(unsubscribed).await.unwrap());
    let mail = |list: &'static str| Message {
        list,
        ..Message::to(&["x@remote.test"])
    };
    let expected = [
        ("news", Event::Suppressed),
        ("offers", Event::Delivered),
        ("", Event::Delivered),
    ];
    for (at, (list, event)) in expected.into_iter().enumerate() {
        let [_] = world.add(mail(list)).await;
        let told = world.events(at + 1).await;
        assert_eq!(told[at].1, event, "{list}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_block_of_our_own_address_is_not_the_recipients_fault() {
    for (setting, suppressing) in [("", false), ("suppress_policy_blocks = true\n", true)] {
        let world = World::start(Setup {
            account: setting,
            ..Setup::default()
        });
        let _remote = refusing(&world, "550 5.7.1 blocked, see our policy").await;
        let [_] = world.add(Message::to(&["x@remote.test"])).await;
        world.events(1).await;
        assert_eq!(
            summary(&world.told().await),
            [(Event::Failed, suppressing, 550)],
            "{setting}"
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn the_third_failure_in_a_row_suppresses() {
    let world = World::start(Setup::default());
    let _remote = refusing(&world, "552 5.2.2 mailbox full").await;
    for count in 1..=4 {
        let [_] = world.add(Message::to(&["x@remote.test"])).await;
        world.events(count).await;
    }
    let told = summary(&world.told().await);
    let events: Vec<_> = told.iter().map(|told| (told.0, told.1)).collect();
    assert_eq!(
        events,
        [
            (Event::Failed, false),
            (Event::Failed, false),
            (Event::Failed, true),
            (Event::Suppressed, false)
        ]
    );
    world.stop().await;
}

#[tokio::test]
async fn only_failures_that_may_be_the_recipients_fault_make_a_row() {
    let world = World::start(Setup::default());
    let full = Some("552 5.2.2 mailbox full");
    let blocked = Some("554 5.7.1 client host 192.0.2.9 blocked using zen.spamhaus.org");
    // What the remote says to each message, and whether that suppresses the recipient.
    let story = [
        (full, false),
        (full, false),
        (None, false),
        (full, false),
        (blocked, false),
        (full, false),
        (blocked, false),
        (full, true),
    ];
    let remote = Remote::start(move |point, number| match point {
        Point::Command(line) if line.starts_with("RCPT") => story[number].0.map(Act::Say),
        _ => None,
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    for (at, (said, suppressing)) in story.into_iter().enumerate() {
        let [_] = world.add(Message::to(&["x@remote.test"])).await;
        world.events(at + 1).await;
        let told = &world.told().await[at];
        assert_eq!(told.event == Event::Delivered, said.is_none(), "{at}");
        assert_eq!(told.suppressing, suppressing, "{at}");
        world.clock.advance(Duration::from_secs(60));
    }
    let entry = entry(&world, "x@remote.test").await.unwrap();
    assert_eq!(
        entry.reason,
        "three consecutive failures; queue: 552, 5.2.2 from a.test [192.0.2.1]: mailbox full"
    );
    world.stop().await;
}

#[tokio::test]
async fn an_entry_expires_after_the_accounts_period() {
    let world = World::start(Setup {
        account: "suppression_period = \"1h\"\n",
        ..Setup::default()
    });
    let asked = refusing(&world, "550 5.1.1 no such user").await;
    let hour = Duration::from_secs(3600);
    for (at, expected) in [Event::Failed, Event::Suppressed, Event::Failed]
        .into_iter()
        .enumerate()
    {
        let [_] = world.add(Message::to(&["x@remote.test"])).await;
        assert_eq!(world.events(at + 1).await[at].1, expected);
        let until = entry(&world, "x@remote.test").await.unwrap().until;
        let made = if expected == Event::Failed {
            world.now()
        } else {
            world.now().before(hour / 2)
        };
        assert_eq!(until, Some(made.after(hour)));
        world.clock.advance(hour / 2);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    world.stop().await;
}

/// A remote that refuses to speak with us.
async fn refusing_all() -> Remote {
    Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") || line.starts_with("HELO") => {
            Some(Act::Say("554 5.1.1 not with you"))
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_refusal_to_speak_is_tried_at_other_hosts_and_again_and_blames_nobody() {
    let world = World::start(Setup::default());
    world.mx("one.test", &[(10, "a.test")]);
    world.mx("two.test", &[(10, "a.test"), (20, "b.test")]);
    world.host("a.test", "192.0.2.1");
    world.host("b.test", "192.0.2.2");
    let (no, yes) = (refusing_all().await, Remote::start(|_, _| None).await);
    world.lead("192.0.2.1", &no);
    world.lead("192.0.2.2", &yes);
    let [two] = world.add(Message::to(&["x@two.test"])).await;
    assert_eq!(world.events(1).await, [(two, Event::Delivered)]);
    // The address that refused is left out for a while.
    world.clock.advance(Duration::from_secs(3600));
    let [_] = world.add(Message::to(&["x@one.test"])).await;
    for attempt in 2..=4 {
        world.events(attempt).await;
        world.clock.advance(Duration::from_secs(3600));
    }
    let told = summary(&world.told().await);
    let expected = [
        (Event::Delayed, false, 554),
        (Event::Delayed, false, 554),
        (Event::Failed, false, 554),
    ];
    assert_eq!(told[1..], expected);
    assert_eq!(entry(&world, "x@one.test").await, None);
    world.stop().await;
}

#[tokio::test]
async fn hold_rules_are_for_what_is_queued_and_what_comes() {
    let world = World::start(Setup::default());
    let remote = accepting(&world).await;
    let [old] = world.add(Message::to(&["x@remote.test"]).later(60)).await;
    let rule = HoldFilter {
        account: Some("ann".into()),
        recipient_domain: Some("remote.test".parse().unwrap()),
        ..HoldFilter::default()
    };
    let (id, held) = world
        .queue
        .add_hold_rule(&world.store, rule, "ann")
        .await
        .unwrap();
    assert_eq!(held, 1);
    let [new] = world.add(Message::to(&["y@remote.test"])).await;
    let other = HoldFilter {
        account: Some("bob".into()),
        recipient_domain: Some("other.test".parse().unwrap()),
        ..HoldFilter::default()
    };
    let (_, held) = world
        .queue
        .add_hold_rule(&world.store, other, "ann")
        .await
        .unwrap();
    assert_eq!(held, 0);
    let [free] = world.add(Message::to(&["y@other.test"]).later(60)).await;
    let message = async |id| world.store.queued(id).await.unwrap().unwrap();
    assert!(message(old).await.hold && message(new).await.hold && !message(free).await.hold);
    assert_eq!(
        world.queue.explain(&message(new).await).await.unwrap(),
        format!("is held; hold rule {id} is for account ann and recipients at remote.test")
    );
    // Without the rule the messages stay held until they are released.
    assert!(world.store.remove_hold_rule(id).await.unwrap());
    assert_eq!(
        world.queue.explain(&message(new).await).await.unwrap(),
        "is held until it is released; no hold rule matches it"
    );
    let released = world
        .queue
        .change(&world.store, &to("@remote.test"), &hold(false), "ann")
        .await;
    assert_eq!(released.unwrap().changed, 2);
    assert_eq!(world.events(1).await, [(new, Event::Delivered)]);
    assert_eq!(remote.received().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn administrators_change_and_end_messages() {
    let world = World::start(Setup::default());
    let _remote = accepting(&world).await;
    let [a] = world.add(Message::to(&["a@remote.test"]).later(60)).await;
    let [b] = world.add(Message::to(&["b@remote.test"]).later(60)).await;
    let [c] = world.add(Message::to(&["c@remote.test"]).later(60)).await;
    let change = Change {
        transport: Some("nowhere".into()),
        ..Change::default()
    };
    let error = world
        .queue
        .change(&world.store, &to("a@"), &change, "ann")
        .await
        .unwrap_err();
    assert!(matches!(error, OperateError::UnknownTransport(name) if name == "nowhere"));
    let ended = world
        .queue
        .end_all(&world.store, &to("a@"), EndAs::Fail, "ann")
        .await
        .unwrap();
    assert_eq!(
        ended,
        EndedCount {
            ended: 1,
            in_delivery: 0
        }
    );
    world
        .queue
        .change(&world.store, &to("b@"), &hold(true), "ann")
        .await
        .unwrap();
    let soon = Change {
        next_attempt: Some(NextAttempt::At(world.now())),
        ..Change::default()
    };
    let count = world
        .queue
        .change(&world.store, &to("b@"), &soon, "ann")
        .await
        .unwrap();
    assert_eq!((count.changed, count.held), (1, 1));
    // A held message can be ended too.
    let ended = world
        .queue
        .end_all(&world.store, &to("b@"), EndAs::Drop, "ann")
        .await
        .unwrap();
    assert_eq!(ended.ended, 1);
    let told = world.told().await;
    assert_eq!(
        summary(&told),
        [(Event::Failed, false, 0), (Event::Canceled, false, 0)]
    );
    assert_eq!(told[0].error, "delivery canceled by admin");
    assert_eq!(world.mails().await.len(), 1, "dropped without a word");
    for id in [a, b] {
        assert!(!world.store.retired(id).await.unwrap().unwrap().success);
    }
    let kick = Change {
        next_attempt: Some(NextAttempt::At(world.now())),
        ..Change::default()
    };
    let count = world
        .queue
        .change(&world.store, &to("c@"), &kick, "ann")
        .await
        .unwrap();
    assert_eq!((count.changed, count.held), (1, 0));
    let events = world.events(3).await;
    assert_eq!(events[2], (c, Event::Delivered));
    world.stop().await;
}

#[tokio::test]
async fn a_message_says_why_it_is_still_here() {
    let world = World::start(Setup::default());
    let _remote = refusing(&world, "451 4.7.1 greylisted").await;
    let explain = async |id| {
        let message = world.store.queued(id).await.unwrap().unwrap();
        world.queue.explain(&message).await.unwrap()
    };
    let [later] = world.add(Message::to(&["x@remote.test"]).later(60)).await;
    assert_eq!(
        explain(later).await,
        "is not to be sent before 2027-01-15T08:01:00Z (attempt 1 of 9)"
    );
    let [tried] = world.add(Message::to(&["x@remote.test"])).await;
    world.events(1).await;
    let text = explain(tried).await;
    assert!(
        text.starts_with("waits for its next attempt at 2027-01-15T08:0")
            && text.ends_with(
                "(attempt 2 of 9); last answer, at 2027-01-15T08:00:00Z from a.test [192.0.2.1]: 451 4.7.1 greylisted"
            ),
        "{text}"
    );
    world.stop().await;
}

#[tokio::test]
async fn success_is_told_by_the_next_hop_or_by_us() {
    let success = Notify {
        success: true,
        failure: false,
        delay: false,
        given: true,
    };
    // A remote that does not know DSNs.
    let world = World::start(Setup::default());
    let _remote = accepting(&world).await;
    let message = Message {
        notify: success,
        envid: "my id",
        ..Message::to(&["x@remote.test"])
    };
    let [_] = world.add(message).await;
    world.events(1).await;
    let mails = world.mails().await;
    assert_eq!(mails.len(), 1);
    assert!(
        mails[0].contains("Action: relayed") && mails[0].contains("Original-Envelope-Id: my id")
    );
    world.stop().await;
    // A remote that knows DSNs.
    let world = World::start(Setup::default());
    let remote = accepting_with_dsn(&world).await;
    let message = Message {
        notify: success,
        ..Message::to(&["x@remote.test"])
    };
    let [id] = world.add(message).await;
    world.events(1).await;
    assert!(world.mails().await.is_empty());
    let received = remote.received();
    let own = world.store.retired(id).await.unwrap().unwrap();
    assert_eq!(own.message.envids, envids(&remote));
    assert_eq!(own.message.envids[0].len(), 22);
    assert!(received[0].rcpts[0].contains("NOTIFY=SUCCESS"));
    world.stop().await;
}

#[tokio::test]
async fn the_submitters_word_on_dsns_goes_before_the_accounts_setting() {
    let world = World::start(Setup {
        account: "failure_dsn = \"event\"\n",
        ..Setup::default()
    });
    let message = Message {
        notify: Notify {
            failure: true,
            given: true,
            ..Notify::NEVER
        },
        ..Message::to(&["x@none.test"])
    };
    let [_] = world.add(message).await;
    world.events(1).await;
    assert_eq!(world.mails().await.len(), 1);
    world.stop().await;
}
