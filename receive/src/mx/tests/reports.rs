//! Reports about mail of an account, and mail that looks like one.

use postrider_queue::Mailboxes as _;
use postrider_store::{Order, Origin, QueueFilter, ReportKind};

use super::{
    dmarc::{ann_sends, ann_submits},
    *,
};
use crate::{LocalMailboxes, mx::MxRules};

/// A report that its author's server did not write, with these fields.
fn dsn(fields: &str, recipient: &str) -> String {
    format!(
        "From: <daemon@other.test>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\n{fields}\
         Reporting-MTA: dns; mail.remote.test\r\n\r\n\
         Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         --b--\r\n"
    )
}

/// Sends a message of a client in a block list. Gives the reply and the mailbox of the newest mail.
async fn send(world: &World, from: &str, to: &str, message: &str) -> (String, String) {
    let rules = MxRules {
        dnsbls: [Domain::parse("bl.test").unwrap()].into(),
        ..MxRules::default()
    };
    let (client, mut transaction) = (client(REMOTE), transaction(from));
    transaction.recipients = vec![dmarc::rcpt(to)];
    let mut session = world.session().with_rules(rules);
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, message).await;
    let reply = session.end(&client, &transaction).await.to_string();
    let newest = world.mails().await.pop();
    let mailbox = newest.map(|(mail, _)| mail.mailbox);
    (reply, mailbox.unwrap_or_default())
}

async fn world() -> World {
    let world = World::new();
    world.dns.add_address("2.0.0.127.bl.test", "127.0.0.2");
    world.dns.add_address("7.2.0.192.bl.test", "127.0.0.2");
    ann_sends(&world).await;
    assert_eq!(ann_submits(&world, "ann@example.org", "letter8").await, "");
    world
}

#[tokio::test]
async fn a_report_about_our_mail_is_taken_whoever_brings_it() {
    let world = world().await;
    let ours = "Original-Envelope-Id: letter8\r\n";
    let unusable = dsn("", "bob@bank.test").replace("failed", "vanished");
    for (to, message) in [
        // By the fromid.
        ("ann+order7@example.org", dsn("", "bob@bank.test")),
        ("ann+order7@example.org", unusable),
        // By the ENVID.
        ("ann@example.org", dsn(ours, "bob@bank.test")),
    ] {
        let (reply, mailbox) = send(&world, "", to, &message).await;
        assert!(reply.starts_with("250 "), "{to} {message}: {reply}");
        assert_eq!(mailbox, "Inbox", "{to} {message}");
    }
    let listed = "550 5.7.1 192.0.2.7 is listed by bl.test";
    let strange = "Original-Envelope-Id: letter9\r\n";
    for (to, message) in [
        ("ann+order8@example.org", dsn("", "bob@bank.test")),
        ("ann@example.org", dsn(strange, "bob@bank.test")),
        // The submitter's ENVID says something together with the recipient only.
        ("ann@example.org", dsn(ours, "eve@bank.test")),
        ("ann@example.org", dsn("", "bob@bank.test")),
    ] {
        let (reply, _) = send(&world, "", to, &message).await;
        assert_eq!(reply, listed, "{to} {message}");
    }
}

/// Everybody who got a message knows its return address. So mail to it is judged as any other, and
/// at worst goes to the junk mailbox.
#[tokio::test]
async fn mail_that_only_looks_like_a_report_is_at_worst_junk() {
    let world = world().await;
    let spam = "From: <x@remote.test>\r\nSubject: Undelivered\r\n\r\nBuy.\r\n";
    let (reply, mailbox) = send(&world, "", "ann+order7@example.org", spam).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(mailbox, "Junk");
    let titled = format!("Content-Type: multipart/report\r\n{spam}");
    let from = "x@remote.test";
    let (reply, mailbox) = send(&world, from, "ann+order7@example.org", &titled).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(mailbox, "Junk");
}

/// Which mail a full account has to take is known at the end of a report.
#[tokio::test]
async fn a_full_account_takes_reports_about_its_mail_only() {
    let world = World::new();
    ann_sends(&world).await;
    assert_eq!(ann_submits(&world, "ann@example.org", "letter8").await, "");
    let (_, mailbox) = send(&world, "x@remote.test", "ann@example.org", MESSAGE).await;
    assert_eq!(mailbox, "Inbox");
    let full = DYNAMICS.replace("domain = ", "quota = \"1KiB\"\ndomain = ");
    let full = Dynamic::parse(&full, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(full));
    let large = "x".repeat(900) + "\r\n" + &"x".repeat(900);
    let spam = format!("{MESSAGE}{large}");
    let refused = "452 4.2.2 the mailbox is full, try again later";
    let to = "ann+order7@example.org";
    assert_eq!(send(&world, "", to, &spam).await.0, refused);
    let report = dsn("Original-Envelope-Id: letter8\r\n", "bob@bank.test") + &large;
    for to in [to, "ann@example.org"] {
        let (reply, mailbox) = send(&world, "", to, &report).await;
        assert!(reply.starts_with("250 "), "{to}: {reply}");
        assert_eq!(mailbox, "Inbox");
    }
}

/// An account that may send mail is no proof of what a report says, whatever domain it is about.
/// The server believes the reports that it wrote itself.
#[tokio::test]
async fn a_login_verifies_no_report() {
    let world = World::new();
    let dynamics = DYNAMICS.replacen("[accounts", "dmarc = { account = \"ann\" }\n[accounts", 1);
    let dynamic = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamic));
    ann_submits(&world, "ann@example.org", "letter8").await;
    let (store, config) = (&world.context.store, world.context.dynamic());
    let all = QueueFilter::default();
    let list = store.list(&all, None, Order::Ascending, 1);
    let mut message = list.await.unwrap().items.remove(0);
    message.recipient = "dmarcreports@example.org".parse().unwrap();
    let mailboxes = LocalMailboxes::new(world.context.clone());
    let sender = message.reverse_path.clone();
    for (origin, expected) in [
        (Origin::Sent, false),
        (Origin::Server, false),
        (Origin::Passed { sender }, false),
        (Origin::Report(ReportKind::Dmarc), true),
        (Origin::Report(ReportKind::Tls), true),
    ] {
        Arc::make_mut(&mut message.common).origin = origin;
        let taken = mailboxes.take(&config, &message).await.unwrap();
        let [report] = taken.records.reports.as_slice() else {
            panic!("{taken:?}");
        };
        let proofs = [report.from_passed, report.signed_for_tls];
        assert_eq!(proofs, [expected; 2], "{:?}", message.common.origin);
    }
}
