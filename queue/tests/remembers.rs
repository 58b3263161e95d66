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
#[allow(dead_code, reason = "the other tests of this crate use more of it")]
mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use postrider_queue::{AddError, Arrived, EndAs, EndedCount, OperateError};
use postrider_smtp::{Address, ReversePath};
use postrider_store::{
    Accept, Change, Event, HoldFilter, NewSuppression, NextAttempt, Notify, OutgoingEvent,
    QueueFilter, QueueId, Time,
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
        .suppression("ann", "username@remote.test")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(entry.reason, "queue: 550, 5.1.1");
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
    let removed = world.store.unsuppress("ann", "username@remote.test").await;
    assert!(removed.unwrap());
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
    let _remote = refusing(&world, "554 5.3.0 not now").await;
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
async fn hold_rules_are_for_what_is_queued_and_what_comes() {
    let world = World::start(Setup::default());
    let remote = accepting(&world).await;
    let [old] = world.add(Message::to(&["x@remote.test"]).later(60)).await;
    let rule = HoldFilter {
        account: Some("ann".into()),
        recipient_domain: Some("remote.test".parse().unwrap()),
        ..HoldFilter::default()
    };
    let (id, held) = world.queue.add_hold_rule(rule).await.unwrap();
    assert_eq!(held, 1);
    let [new] = world.add(Message::to(&["y@remote.test"])).await;
    let other = HoldFilter {
        account: Some("bob".into()),
        recipient_domain: Some("other.test".parse().unwrap()),
        ..HoldFilter::default()
    };
    let (_, held) = world.queue.add_hold_rule(other).await.unwrap();
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
        "is held by an administrator, until it is released"
    );
    let released = world.queue.change(&to("@remote.test"), &hold(false)).await;
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
    let error = world.queue.change(&to("a@"), &change).await.unwrap_err();
    assert!(matches!(error, OperateError::UnknownTransport(name) if name == "nowhere"));
    let ended = world.queue.end_all(&to("a@"), EndAs::Fail).await.unwrap();
    assert_eq!(
        ended,
        EndedCount {
            ended: 1,
            in_delivery: 0
        }
    );
    world.queue.change(&to("b@"), &hold(true)).await.unwrap();
    let soon = Change {
        next_attempt: Some(NextAttempt::At(world.now())),
        ..Change::default()
    };
    let count = world.queue.change(&to("b@"), &soon).await.unwrap();
    assert_eq!((count.changed, count.held), (1, 1));
    // A held message can be ended too.
    let ended = world.queue.end_all(&to("b@"), EndAs::Drop).await.unwrap();
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
    let count = world.queue.change(&to("c@"), &kick).await.unwrap();
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
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => Some(Act::Say("250-a.test\r\n250 DSN")),
        _ => None,
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let message = Message {
        notify: success,
        ..Message::to(&["x@remote.test"])
    };
    let [id] = world.add(message).await;
    world.events(1).await;
    assert!(world.mails().await.is_empty());
    let received = remote.received();
    let own = world.store.retired(id).await.unwrap().unwrap();
    let own = &own.message.common.own_envid;
    assert!(own.len() == 22 && received[0].mail.contains(&format!("ENVID={own}")));
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

const FROM_ID: Setup<'_> = Setup {
    statics: "",
    dynamics: "",
    domain: "localpart_catchall_separators = [\"+\"]\n",
    account: "from_id_login_addresses = [\"ann+id@example.org\"]\n",
};

#[tokio::test]
async fn a_submitters_own_fromid_is_for_one_recipient_and_once() {
    let world = World::start(FROM_ID);
    let own = |path: &'static str, to: &[&'static str]| Message {
        reverse_path: path.parse().unwrap(),
        own_from_id: true,
        login: "ann+id@example.org",
        ..Message::to(to).later(60)
    };
    let submitted = world
        .submit(own("ann+order7@example.org", &["x@remote.test"]))
        .await;
    assert_eq!(submitted[0].from_id, "order7");
    let again = own("ann+order7@example.org", &["y@remote.test"]);
    let error = world.try_submit(again).await.unwrap_err();
    assert!(matches!(error, AddError::FromIdInUse(id) if id == "order7"));
    let two = own(
        "ann+order8@example.org",
        &["x@remote.test", "y@remote.test"],
    );
    let error = world.try_submit(two).await.unwrap_err();
    assert!(matches!(error, AddError::FromIdRecipients));
    let empty = own("ann+@example.org", &["x@remote.test", "y@remote.test"]);
    let submitted = world.submit(empty).await;
    assert!(
        submitted
            .iter()
            .all(|submitted| submitted.from_id.is_empty())
    );
    // Even if only the history has the message.
    world
        .queue
        .end_all(&QueueFilter::default(), EndAs::Drop)
        .await
        .unwrap();
    let again = own("ann+order7@example.org", &["y@remote.test"]);
    let error = world.try_submit(again).await.unwrap_err();
    assert!(matches!(error, AddError::FromIdInUse(_)));
    world.stop().await;
}

/// Takes a mail to `rcpt_to` as the MX does. Gives the events that it makes.
async fn comes_back(
    world: &World,
    reverse_path: &str,
    rcpt_to: &str,
    text: &str,
) -> Option<Vec<OutgoingEvent>> {
    let rcpt_to: Address = rcpt_to.parse().unwrap();
    let reverse_path = match reverse_path {
        "<>" => ReversePath::Null,
        address => ReversePath::Mailbox(address.parse().unwrap()),
    };
    let arrived = Arrived {
        account: "ann",
        reverse_path: &reverse_path,
        rcpt_to: &rcpt_to,
        report: text.contains("multipart/report"),
    };
    let before = world.told().await.len();
    let config = world.config.load_full();
    let text = async { text.replace('\n', "\r\n").into_bytes() };
    let returned = world
        .queue
        .returned(&config, &arrived, text)
        .await
        .unwrap()?;
    let accept = Accept {
        notes: returned.notes,
        hooks: returned.hooks,
        suppress: returned.suppress,
        ..Accept::default()
    };
    world.store.accept(accept).await.unwrap();
    Some(world.told().await.split_off(before))
}

fn dsn(fields: &str, recipient: &str, returned: &str) -> String {
    format!(
        "From: mailer-daemon@remote.test\nSubject: Undelivered\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n\
         --b\nContent-Type: text/plain\n\nSorry.\n\
         --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; remote.test\n{fields}\n{recipient}\n\
         --b\nContent-Type: text/rfc822-headers\n\n{returned}\n--b--\n"
    )
}

const FAILED: &str = "Final-Recipient: rfc822; x@remote.test\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n";

#[tokio::test]
async fn mail_to_a_fromid_is_about_its_message() {
    let world = World::start(FROM_ID);
    let _remote = accepting(&world).await;
    let message = Message {
        login: "ann+id@example.org",
        ..Message::to(&["x@remote.test"])
    };
    let submitted = world.submit(message).await;
    let (id, from_id) = (submitted[0].id, submitted[0].from_id.clone());
    world.events(1).await;
    let address = format!("ann+{from_id}@example.org");
    let told = |told: Option<Vec<OutgoingEvent>>| {
        let told = told.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].queue_id, id);
        assert_eq!(told[0].extra["K"], "v");
        (
            told[0].event,
            told[0].dsn,
            told[0].suppressing,
            told[0].code,
        )
    };
    for (action, event) in [
        ("delayed", Event::Delayed),
        ("delivered", Event::Delivered),
        ("relayed", Event::Relayed),
        ("expanded", Event::Expanded),
    ] {
        let status = if action == "delayed" {
            "4.4.1"
        } else {
            "2.0.0"
        };
        let recipient =
            format!("Final-Recipient: rfc822; x@remote.test\nAction: {action}\nStatus: {status}\n");
        let code = if action == "delayed" { 400 } else { 0 };
        let back = comes_back(&world, "<>", &address, &dsn("", &recipient, "")).await;
        assert_eq!(told(back), (event, true, false, code));
    }
    let back = comes_back(&world, "<>", &address, &dsn("", FAILED, ""))
        .await
        .unwrap();
    assert_eq!(back[0].error, "550 5.1.1 no such user");
    assert_eq!(told(Some(back)), (Event::Failed, true, true, 550));
    // The list has the address now, so the second report adds nothing.
    let back = comes_back(&world, "<>", &address, &dsn("", FAILED, "")).await;
    assert_eq!(told(back), (Event::Failed, true, false, 550));
    let two = format!("{FAILED}\n{}", FAILED.replace("x@", "y@"));
    let back = comes_back(&world, "<>", &address, &dsn("", &two, "")).await;
    assert_eq!(told(back), (Event::Unrecognized, true, false, 0));
    let vague = FAILED.replace("failed", "vanished");
    let back = comes_back(&world, "<>", &address, &dsn("", &vague, "")).await;
    assert_eq!(told(back), (Event::Unrecognized, true, false, 0));
    let vacation = "From: x@remote.test\nSubject: Out of office\n\nI am away.\n";
    let back = comes_back(&world, "x@remote.test", &address, vacation).await;
    assert_eq!(told(back), (Event::Unrecognized, false, false, 0));
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert!(
        retired.success,
        "what comes later does not change how it left"
    );
    assert_eq!(retired.message.results.len(), 10);
    // The fromid of another account means nothing here.
    let back = comes_back(
        &world,
        "<>",
        "ann+0123456789@example.org",
        &dsn("", FAILED, ""),
    )
    .await;
    assert_eq!(back, None);
    world.stop().await;
}

#[tokio::test]
async fn without_a_fromid_the_envid_and_then_the_message_id_lead_back() {
    let world = World::start(Setup::default());
    let _remote = accepting(&world).await;
    let [x, y]: [QueueId; 2] = world
        .add(Message::to(&["x@remote.test", "y@remote.test"]))
        .await;
    world.events(2).await;
    let own = world.store.retired(x).await.unwrap().unwrap();
    let envid = format!("Original-Envelope-Id: {}\n", own.message.common.own_envid);
    // Nobody can guess our ENVID: both recipients of one report are matched by it.
    let both = format!("{FAILED}\n{}", FAILED.replace("x@", "y@"));
    let told = comes_back(&world, "<>", "ann@example.org", &dsn(&envid, &both, ""))
        .await
        .unwrap();
    let events: Vec<_> = told
        .iter()
        .map(|told| (told.queue_id, told.event, told.suppressing))
        .collect();
    assert_eq!(events, [(x, Event::Failed, true), (y, Event::Failed, true)]);
    // Many know the Message-ID: the recipient must match, and nobody is suppressed.
    world
        .store
        .unsuppress("ann", "x@remote.test")
        .await
        .unwrap();
    let header = "Message-ID: <1@example.org>\nFrom: ann@example.org\n";
    let told = comes_back(&world, "<>", "ann@example.org", &dsn("", FAILED, header))
        .await
        .unwrap();
    assert_eq!(
        (told[0].queue_id, told[0].event, told[0].suppressing),
        (x, Event::Failed, false)
    );
    let stranger = FAILED.replace("x@", "z@");
    let back = comes_back(&world, "<>", "ann@example.org", &dsn("", &stranger, header)).await;
    assert_eq!(back, None);
    // A queued message is found too.
    let queued = Message::to(&["q@remote.test"]).later(60);
    let [q] = world.add(queued).await;
    let about = FAILED.replace("x@", "q@");
    let told = comes_back(&world, "<>", "ann@example.org", &dsn("", &about, header))
        .await
        .unwrap();
    assert_eq!(told[0].queue_id, q);
    assert_eq!(
        world.store.queued(q).await.unwrap().unwrap().results.len(),
        1
    );
    world.stop().await;
}

#[tokio::test]
async fn a_complaint_ends_mail_to_its_author() {
    let world = World::start(Setup::default());
    let _remote = accepting(&world).await;
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    world.events(1).await;
    let complaint = "From: fbl@remote.test\nSubject: FW: x\nMIME-Version: 1.0\n\
        Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n\
        --b\nContent-Type: text/plain\n\nA complaint.\n\
        --b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: fbl/1\nVersion: 1\n\
        Original-Rcpt-To: <x@remote.test>\n\n\
        --b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <1@example.org>\n\n--b--\n";
    let told = comes_back(&world, "fbl@remote.test", "abuse@example.org", complaint).await;
    assert_eq!(told, Some(Vec::new()), "the contract has no event for it");
    let entry = world
        .store
        .suppression("ann", "x@remote.test")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(entry.reason, "complaint: abuse");
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert_eq!(
        retired.message.results[1].error,
        "complaint by the recipient (abuse)"
    );
    world.stop().await;
}
