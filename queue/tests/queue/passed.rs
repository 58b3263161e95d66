//! Mail that came in and goes on to other servers.

use postrider_observe::trace::{EventType, Key, Term};
use postrider_queue::{JUNK_FIELD, Passed, SubmittedRecipient, header::section};
use postrider_smtp::{
    ReversePath,
    convert::{NeedsScan, TextNeeds},
};
use postrider_store::{Accept, NewText, Notify, QueueId, Top};

use crate::{
    lmtp_server::LmtpServer,
    remote::{Act, Point, Remote},
    support::{DkimKeys, Setup, World},
};

const TEXT: &str =
    "From: ann@example.org\r\nSubject: x\r\nMessage-Id: <1@example.org>\r\n\r\nHi.\r\n";

/// Passes a message of bob@sender.test on to x@remote.test.
async fn pass(world: &World, reports: bool) -> QueueId {
    pass_with(world, |passed| passed.reports = reports).await
}

/// The same, with changes.
async fn pass_with(world: &World, change: impl FnOnce(&mut Passed)) -> QueueId {
    pass_text(world, TEXT, change).await
}

/// Passes a message with this text on.
pub(crate) async fn pass_text(
    world: &World,
    text: &'static str,
    change: impl FnOnce(&mut Passed),
) -> QueueId {
    let top = Top::new("Received: from somewhere\r\n").unwrap();
    let mut passed = Passed {
        account: "ann".into(),
        sender: "bob@sender.test".parse().unwrap(),
        reports: true,
        reverse_path: "SRS0=AAAAAA=AA=sender.test=bob@example.org"
            .parse()
            .unwrap(),
        recipients: vec![SubmittedRecipient {
            address: "x@remote.test".parse().unwrap(),
            notify: Notify::default(),
            orcpt: "rfc822;away@example.org".into(),
        }],
        transport: String::new(),
        hold: false,
        top,
        size: text.len() as u64,
        message_id: "<1@example.org>".into(),
        subject: "x".into(),
        from: Some("ann@example.org".parse().unwrap()),
        needs: binary_needs(text),
        smtputf8: !section(text.as_bytes()).is_ascii(),
        require_tls: None,
        ret_full: None,
        envid: "E7".into(),
    };
    change(&mut passed);
    let accept = Accept {
        text: Some(NewText::Inline(text.into())),
        queue: world.queue.pass_on(passed).into_iter().collect(),
        ..Accept::default()
    };
    world.store.accept(accept).await.unwrap().queue[0]
}

fn binary_needs(text: &str) -> TextNeeds {
    let mut scan = NeedsScan::of_binary();
    scan.write(text.as_bytes());
    scan.finish()
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
    // The traces of the failure and of the report are found by the Message-ID of the report.
    let report_id = { report.text.lines() }
        .find_map(|line| line.strip_prefix("Message-ID: "))
        .unwrap();
    let traces = world.observed.traces.take();
    let found = traces
        .iter()
        .filter(|it| it.has(Term::MessageId(report_id)));
    let found: Vec<_> = found.collect();
    let [failed, sent] = &found[..] else {
        panic!("{report_id}: {traces:?}");
    };
    assert_eq!((&failed.queues, sent.queues.len()), (&vec![id.0], 1));
    let mut events = failed.events();
    let queued = events.find(|event| event.event == EventType::QueueQueueDsn);
    assert_eq!(queued.unwrap().text(Key::To), Some("bob@sender.test"));
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

/// Nobody may hear of the failure, so the account finds the message here.
#[tokio::test]
async fn a_message_of_whose_failure_nobody_hears_is_kept() {
    let (remote, sender) = (refusing().await, Remote::start(|_, _| None).await);
    let setup = Setup {
        dynamics: "[accounts.ben]\ndomain = \"example.org\"\n\
                   destinations.\"ben@example.org\" = {}\n",
        ..Setup::default()
    };
    let world = world(setup, &remote, &sender);
    let junk = |passed: &mut Passed| {
        passed.sender = ReversePath::Null;
        passed.account = "ben".into();
        passed.top = Top::new(format!("Return-Path: <>\r\n{JUNK_FIELD}: x\r\n")).unwrap();
    };
    let gone = |passed: &mut Passed| {
        passed.reports = false;
        passed.account = "gone".into();
    };
    let report = |passed: &mut Passed| passed.sender = ReversePath::Null;
    pass(&world, false).await;
    pass_with(&world, junk).await;
    pass_with(&world, gone).await;
    pass_with(&world, report).await;
    // The sender of this one hears of it.
    pass(&world, true).await;
    sender.wait_for(1).await;
    world.queued_until(<[_]>::is_empty).await;
    let mut kept = Vec::new();
    for account in ["ann", "ben"] {
        let page = world
            .store
            .list_mails(account, None, None, 9)
            .await
            .unwrap();
        for mail in page.items {
            let text = world.store.mail_message(&mail).await.unwrap();
            let text = text.whole().await.unwrap();
            assert_eq!(text.len() as u64, mail.size);
            kept.push((
                account,
                mail.mailbox,
                String::from_utf8(text.to_vec()).unwrap(),
            ));
        }
    }
    kept.sort();
    let of =
        |account, mailbox: &str, top: &str| (account, mailbox.to_owned(), format!("{top}{TEXT}"));
    let top = "Return-Path: <bob@sender.test>\r\nReceived: from somewhere\r\n";
    let null = "Return-Path: <>\r\nReceived: from somewhere\r\n";
    let expected = [
        of("ann", "Inbox", top),
        of("ann", "Postmaster", null),
        of("ann", "Postmaster", top),
        of("ben", "Junk", "Return-Path: <>\r\nX-Postrider-Junk: x\r\n"),
    ];
    assert_eq!(kept, expected);
    world.stop().await;
}

/// The author is what a stranger wrote.
#[tokio::test]
async fn the_author_of_mail_that_is_passed_on_chooses_no_way() {
    let (remote, smarthost) = (Remote::start(|_, _| None).await, refusing().await);
    let setup = Setup {
        statics: "[transports.ours.smtp]\nhost = \"relay.test\"\nport = 25\n",
        domain: "disabled = true\n",
        dynamics: "[domains.\"srs.test\"]\n[[routes]]\nfrom_domain = [\"example.org\"]\n\
                   transport = \"ours\"\n",
        ..Setup::default()
    };
    let world = world(setup, &remote, &remote);
    world.host("relay.test", "192.0.2.3");
    world.lead("192.0.2.3", &smarthost);
    let path = "SRS0=AAAAAA=AA=sender.test=bob@srs.test";
    let id = pass_with(&world, |passed| passed.reverse_path = path.parse().unwrap()).await;
    let got = remote.wait_for(1).await.remove(0);
    assert!(got.mail.contains(path), "{got:?}");
    world.queued_until(<[_]>::is_empty).await;
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert!(retired.success);
    world.stop().await;
}

/// A report to the sender would have an ENVID that it never gave (RFC 3461 §5.2.1).
#[tokio::test]
async fn mail_that_is_passed_on_gets_no_envid() {
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => {
            Some(Act::Say("250-remote.test\r\n250 DSN"))
        }
        _ => None,
    })
    .await;
    let world = world(Setup::default(), &remote, &remote);
    pass_with(&world, |passed| passed.envid.clear()).await;
    pass_with(&world, |_| {}).await;
    let mut mails: Vec<String> = remote
        .wait_for(2)
        .await
        .into_iter()
        .map(|it| it.mail)
        .collect();
    mails.sort_by_key(String::len);
    assert!(!mails[0].contains("ENVID"), "{mails:?}");
    assert!(mails[1].ends_with(" ENVID=E7"), "{mails:?}");
    world.stop().await;
}

/// Nobody can read a message on the way to a server on the same machine. This server does not offer
/// SMTPUTF8 either, and stores the fields as they are.
#[tokio::test]
async fn an_lmtp_server_on_this_machine_takes_what_needs_tls_and_utf8() {
    let (server, address) = LmtpServer::tcp(|_, _| None).await;
    let world = World::start(Setup {
        statics: "[transports.here.lmtp]\nhost = \"here.test\"\nport = 24\n\
                  [transports.there.lmtp]\nhost = \"there.test\"\nport = 24\n",
        ..Setup::default()
    });
    for (host, ip) in [("here.test", "127.0.0.3"), ("there.test", "192.0.2.24")] {
        world.host(host, ip);
        world.lead_to(ip, address);
    }
    let to = |transport: &'static str| {
        move |passed: &mut Passed| {
            passed.require_tls = Some(true);
            passed.smtputf8 = true;
            passed.reports = false;
            passed.transport = transport.into();
        }
    };
    let there = pass_with(&world, to("there")).await;
    pass_with(&world, to("here")).await;
    let got = server.wait_for(1).await;
    assert!(!got[0].mail.contains("SMTPUTF8"), "{got:?}");
    let queued = world
        .queued_until(|queued| queued.len() == 1 && !queued[0].results.is_empty())
        .await;
    assert_eq!(queued[0].id, there);
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
