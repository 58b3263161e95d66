//! Mail from the internet.

use postrider_store::MailId;

use crate::support::{Setup, World, dns::Zone};

const TEXT: &str = "From: <someone@elsewhere.test>\r\nSubject: hi\r\n\r\nHello.";

async fn text_of(world: &World, id: MailId) -> String {
    let store = world.server.store();
    let mail = store.mail(id).await.unwrap().unwrap();
    let stored = store.mail_message(&mail).await.unwrap();
    String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_for_our_addresses_reaches_their_mailboxes() {
    let world = World::start(Setup {
        dns: Some(Zone::default().serve().await),
        ..Setup::default()
    })
    .await;
    let mut client = world.client("smtp").await;
    let ehlo = client.command("EHLO sender.elsewhere.test").await;
    for extension in [
        "PIPELINING",
        "SIZE 1000000",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "STARTTLS",
    ] {
        assert!(
            ehlo.lines().any(|line| line.get(4..) == Some(extension)),
            "{extension} in {ehlo}"
        );
    }
    assert!(!ehlo.contains("AUTH"), "{ehlo}");
    let reply = client
        .submit(
            "someone@elsewhere.test",
            &["App+x@Example.ORG", "info@example.org"],
            TEXT,
        )
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");

    let store = world.server.store();
    let inbox = store
        .list_mails("app", Some("Inbox"), None, 10)
        .await
        .unwrap()
        .items;
    let info = store
        .list_mails("app", Some("Info"), None, 10)
        .await
        .unwrap()
        .items;
    assert_eq!((inbox.len(), info.len()), (1, 1));
    assert_eq!(inbox[0].text, info[0].text, "one text for both");
    let stored = store.text(inbox[0].text).await.unwrap();
    let stored = stored.read(0..stored.len()).await.unwrap();
    assert!(
        stored.starts_with(b"From: "),
        "trace fields are in the top, not in the text"
    );
    let arrival = inbox[0].smtp.clone().unwrap();
    assert_eq!(arrival.rcpt_to.to_string(), "App+x@example.org");
    let text = text_of(&world, inbox[0].id).await;
    assert!(
        text.starts_with(
            "Return-Path: <someone@elsewhere.test>\r\n\
             Delivered-To: App+x@example.org\r\n\
             Authentication-Results: mail.example.org; dmarc=none header.from=elsewhere.test\r\n\
             Received: from sender.elsewhere.test "
        ),
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\nHello.\r\n"), "{text}");

    // The mail is also there after a restart.
    let world = world.restart().await;
    assert_eq!(text_of(&world, inbox[0].id).await, text);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_for_unknown_recipients_is_refused_at_rcpt() {
    let world = World::start(Setup::default()).await;
    let mut client = world.client("smtp").await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    client
        .expect("MAIL FROM:<someone@elsewhere.test>", "250 2.")
        .await;
    client
        .expect("RCPT TO:<nobody@example.org>", "550 5.1.1")
        .await;
    client
        .expect("RCPT TO:<someone@elsewhere.test>", "550 5.7.1")
        .await;
    client.expect("DATA", "503 5.5.1").await;
    client.expect("RCPT TO:<postmaster>", "250 2.1.5").await;
    client.expect("RSET", "250").await;
    client.expect("VRFY app", "252").await;
    client.expect("AUTH PLAIN AGFwcABwdw==", "50").await;
    client.expect("QUIT", "221 2.0.0").await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unclean_messages_are_refused_and_not_stored() {
    let world = World::start(Setup::default()).await;
    for (what, text) in [
        ("bare LF", "Subject: x\r\n\r\none\ntwo"),
        ("bare CR", "Subject: x\r\n\r\none\rtwo"),
        (
            "smuggled end",
            "Subject: x\r\n\r\none\n.\r\nMAIL FROM:<evil@elsewhere.test>",
        ),
        ("NUL", "Subject: x\r\n\r\none\0two"),
    ] {
        let mut client = world.client("smtp").await;
        client.expect("EHLO sender.elsewhere.test", "250").await;
        let reply = client
            .submit("someone@elsewhere.test", &["app@example.org"], text)
            .await;
        assert!(reply.starts_with("5"), "{what}: {reply}");
    }
    let mut client = world.client("smtp").await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    let big = format!(
        "From: <someone@elsewhere.test>\r\nSubject: x\r\n\r\n{}",
        "0123456789\r\n".repeat(100_000)
    );
    let reply = client
        .submit("someone@elsewhere.test", &["app@example.org"], &big)
        .await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    client
        .expect(
            "MAIL FROM:<someone@elsewhere.test> SIZE=1000001",
            "552 5.3.4",
        )
        .await;
    // The session continues.
    let reply = client
        .submit("someone@elsewhere.test", &["app@example.org"], TEXT)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(
        world
            .server
            .store()
            .list_mails("app", None, None, 10)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_is_stored_whole() {
    let world = World::start(Setup::default()).await;
    let mut client = world.client("smtp").await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    let lines = "..0123456789\r\n".repeat(40_000);
    let reply = client
        .submit(
            "someone@elsewhere.test",
            &["app@example.org"],
            &format!("From: <someone@elsewhere.test>\r\nSubject: x\r\n\r\n{lines}end"),
        )
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let mails = world
        .server
        .store()
        .list_mails("app", None, None, 10)
        .await
        .unwrap()
        .items;
    let text = text_of(&world, mails[0].id).await;
    assert_eq!(
        text.matches("\r\n.0123456789").count(),
        40_000,
        "every line is there, without its extra dot"
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binary_message_is_stored_unchanged_and_refused_for_submission() {
    let world = World::start(Setup::default()).await;
    let mut client = world.client("smtp").await;
    let offered = client.expect("EHLO sender.elsewhere.test", "250").await;
    assert!(offered.contains("250-BINARYMIME"), "{offered}");
    client
        .expect("MAIL FROM:<someone@elsewhere.test> BODY=BINARYMIME", "250")
        .await;
    client.expect("RCPT TO:<app@example.org>", "250").await;
    client.expect("DATA", "503").await;
    let content = b"\0\r.\n\r\n.\r\n\xff\xfe\n";
    let mut text = b"From: <a@b.test>\r\nContent-Type: application/octet-stream\r\n\
        Content-Transfer-Encoding: binary\r\n\r\n"
        .to_vec();
    text.extend_from_slice(content);
    client
        .send(format!("BDAT {} LAST\r\n", text.len()).as_bytes())
        .await;
    client.send(&text).await;
    assert!(client.reply().await.starts_with("250"));
    let store = world.server.store();
    let mail = store
        .list_mails("app", None, None, 10)
        .await
        .unwrap()
        .items
        .remove(0);
    let stored = store.mail_message(&mail).await.unwrap();
    assert!(stored.whole().await.unwrap().ends_with(content));

    // The header section is made of lines, so that nothing hides a field in one.
    for line_end in ["\r", "\n\n", "\0"] {
        let forged = "Authentication-Results: mx.example.org; dmarc=pass";
        let text = format!("Subject: x{line_end}{forged}\r\n\r\nbody");
        client
            .expect("MAIL FROM:<someone@elsewhere.test> BODY=BINARYMIME", "250")
            .await;
        client.expect("RCPT TO:<app@example.org>", "250").await;
        let chunk = format!("BDAT {} LAST\r\n{text}", text.len());
        client.send(chunk.as_bytes()).await;
        let reply = client.reply().await;
        assert!(reply.starts_with("554 5.5.2 the header section"), "{reply}");
    }
    let mails = store.list_mails("app", None, None, 10).await.unwrap();
    assert_eq!(mails.items.len(), 1);

    let mut client = world.submission().await;
    client
        .expect("MAIL FROM:<app@example.org> BODY=BINARYMIME", "555 5.5.4")
        .await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_injected_before_tls_is_not_executed() {
    let world = World::start(Setup::default()).await;
    let mut client = world.client("smtp").await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    client
        .send(b"STARTTLS\r\nMAIL FROM:<evil@elsewhere.test>\r\n")
        .await;
    let reply = client.reply().await;
    assert!(reply.starts_with("5") || reply.is_empty(), "{reply}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_real_senders_are_overlooked() {
    let world = World::start(Setup::default()).await;
    let mut client = world.client("smtp").await;
    client.send(b"EHLO b\xfcro_pc(1)\r\n").await;
    let reply = client.reply().await;
    assert!(reply.starts_with("250-"), "{reply}");
    let text = "From: <someone@elsewhere.test>\r\nBcc: kept@elsewhere.test\r\nSubject: gr\u{fc}\u{df}e\r\n\r\nHello.";
    for (mail, rcpt) in [
        ("MAIL FROM:joe@remote.test", "RCPT TO:app@example.org"),
        (
            "MAIL FROM:<a..b@my_host.remote.test>",
            "RCPT TO: <app@example.org>",
        ),
        (
            "MAIL FROM:<ab.@remote.test> SMTPUTF8",
            "RCPT TO:< app@example.org >",
        ),
    ] {
        client.expect(mail, "250 2.1.0").await;
        client.expect(rcpt, "250 2.1.5").await;
        client.expect("DATA", "354").await;
        client.expect(&format!("{text}\r\n."), "250 2.0.0").await;
    }
    let store = world.server.store();
    let mails = store
        .list_mails("app", Some("Inbox"), None, 10)
        .await
        .unwrap();
    assert_eq!(mails.items.len(), 3);
    for mail in mails.items {
        let stored = text_of(&world, mail.id).await;
        // The text of others stays as it is.
        assert!(stored.ends_with(&format!("{text}\r\n")), "{stored}");
        assert!(
            stored.contains("Received: from b?ro_pc?1? ([127.0.0.1])\r\n"),
            "{stored}"
        );
    }
    world.server.stop().await;
}
