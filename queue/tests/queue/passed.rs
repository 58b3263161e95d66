//! Mail that came in and goes on to other servers.

use postrider_queue::{Passed, SubmittedRecipient};
use postrider_store::{Accept, NewText, Notify, QueueId, Top};

use crate::{
    remote::{Act, Point, Remote},
    support::{DkimKeys, Setup, World},
};

const TEXT: &str =
    "From: ann@example.org\r\nSubject: x\r\nMessage-Id: <1@example.org>\r\n\r\nHi.\r\n";

/// Passes a message of bob@sender.test on to x@remote.test.
async fn pass(world: &World, reports: bool) -> QueueId {
    let top = Top::new("Received: from somewhere\r\n").unwrap();
    let passed = Passed {
        account: "ann".into(),
        sender: "bob@sender.test".parse().unwrap(),
        reports,
        reverse_path: "SRS0=AAAAAA=AA=sender.test=bob@example.org"
            .parse()
            .unwrap(),
        recipients: vec![SubmittedRecipient {
            address: "x@remote.test".parse().unwrap(),
            notify: Notify::default(),
            orcpt: "rfc822;away@example.org".into(),
        }],
        transport: String::new(),
        top,
        size: TEXT.len() as u64,
        message_id: "<1@example.org>".into(),
        subject: "x".into(),
        from: Some("ann@example.org".parse().unwrap()),
        eight_bit: false,
        smtputf8: false,
        require_tls: false,
        ret_full: None,
        envid: "E7".into(),
    };
    let accept = Accept {
        text: Some(NewText::Inline(TEXT.into())),
        queue: world.queue.pass_on(passed).into_iter().collect(),
        ..Accept::default()
    };
    world.store.accept(accept).await.unwrap().queue[0]
}

/// A world in which remote.test is at `remote`, and sender.test at `sender`.
fn world(setup: Setup<'_>, remote: &Remote, sender: &Remote) -> World {
    let world = World::start(setup);
    for (domain, ip, at) in [
        ("remote.test", "192.0.2.1", remote),
        ("sender.test", "192.0.2.2", sender),
    ] {
        world.host(domain, ip);
        world.lead(ip, at);
    }
    world
}

async fn refusing() -> Remote {
    Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("RCPT") => Some(Act::Say("550 5.1.1 nobody")),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn the_sender_of_mail_that_was_passed_on_hears_of_its_failure() {
    let (remote, sender) = (refusing().await, Remote::start(|_, _| None).await);
    let world = world(Setup::default(), &remote, &sender);
    let id = pass(&world, true).await;
    let report = sender.wait_for(1).await.remove(0);
    assert!(report.mail.starts_with("MAIL FROM:<>"), "{report:?}");
    assert!(report.rcpts[0].contains("<bob@sender.test>"), "{report:?}");
    for part in [
        "Original-Envelope-Id: E7\r\n",
        "Original-Recipient: rfc822; away@example.org\r\n",
        "Final-Recipient: rfc822; x@remote.test\r\n",
        "Action: failed\r\nStatus: 5.1.1\r\n",
    ] {
        assert!(report.text.contains(part), "{part}: {}", report.text);
    }
    world.queued_until(<[_]>::is_empty).await;
    // It was no mail of the account.
    assert!(world.told().await.is_empty());
    assert!(world.mails().await.is_empty());
    assert_eq!(world.store.counts().await.suppressions, 0);
    let start = world.now();
    let sent = world.store.sent("ann", start).await.unwrap();
    assert_eq!(sent.recipients, 0);
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert!(!retired.success);
    world.stop().await;
}

#[tokio::test]
async fn a_sender_that_is_not_proven_hears_nothing() {
    let (remote, sender) = (refusing().await, Remote::start(|_, _| None).await);
    let world = world(Setup::default(), &remote, &sender);
    pass(&world, false).await;
    world.queued_until(<[_]>::is_empty).await;
    assert!(sender.received().is_empty());
    world.stop().await;
}

/// Anybody could get our signature under a message.
#[tokio::test]
async fn what_is_passed_on_is_not_signed() {
    let keys = DkimKeys::new();
    let remote = Remote::start(|_, _| None).await;
    let config = keys.config();
    let setup = Setup {
        domain: &config,
        ..Setup::default()
    };
    let world = world(setup, &remote, &remote);
    pass(&world, true).await;
    let got = remote.wait_for(1).await.remove(0);
    assert_eq!(got.text, format!("Received: from somewhere\r\n{TEXT}"));
    assert!(got.mail.starts_with("MAIL FROM:<SRS0=AAAAAA="), "{got:?}");
    world.stop().await;
}
