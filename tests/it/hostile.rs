//! Clients that break the rules of SMTP over real sockets. Each gets the right code, and no
//! connection stays.

use crate::support::{
    Setup, World,
    client::{Client, proxy_header},
};

const FROM: &str = "MAIL FROM:<someone@elsewhere.test>\r\n";
const TO: &str = "RCPT TO:<app@example.org>\r\n";

/// The first three characters of each reply, without the lines before the last one.
fn codes(replies: &str) -> Vec<&str> {
    let lines = replies.lines();
    let last = lines.filter(|line| line.as_bytes().get(3) == Some(&b' '));
    last.filter_map(|line| line.get(..3)).collect()
}

async fn open(world: &World) -> Client {
    let mut client = world.client("smtp").await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_talks_before_the_greeting_is_sent_away() {
    let world = World::start(Setup {
        statics: "proxy_from = [\"127.0.0.1\"]\n".to_owned(),
        ..Setup::default()
    })
    .await;
    for (service, early, reply) in [
        ("smtp", "EHLO a.test\r\n", "554 5.5.1 "),
        ("smtp", "QUIT\r\n", "554 5.5.1 "),
        ("smtp", "\r\n", "554 5.5.1 "),
        (
            "submission",
            "EHLO a.test\r\nAUTH PLAIN AGEAYg==\r\n",
            "554 5.5.1 ",
        ),
        (
            "smtp",
            "GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n",
            "500 5.5.2 ",
        ),
        (
            "smtp",
            "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\0",
            "500 5.5.2 ",
        ),
    ] {
        let address = world.server.address(service).unwrap();
        // The bytes come together with the header of the proxy, so they are there before the
        // session is.
        let first = [&proxy_header("192.0.2.7"), early.as_bytes()].concat();
        let said = Client::open(address, &first).await.rest().await;
        assert!(said.starts_with(reply), "{early:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{early:?}: {said}");
    }
    world.all_ended().await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_and_tls_clients_are_told_apart_from_slow_ones() {
    let world = World::start(Setup::default()).await;
    for first in [
        &b"POST /x HTTP/1.1\r\nHost: a\r\n\r\nEHLO a.test\r\n"[..],
        b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
    ] {
        let mut client = world.client("smtp").await;
        client.send(first).await;
        let said = client.rest().await;
        assert!(said.starts_with("500 5.5.2 "), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    world.all_ended().await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_no_more_still_gets_its_replies() {
    let world = World::start(Setup::default()).await;
    let text = "From: <someone@elsewhere.test>\r\nSubject: x\r\n\r\nHello.\r\n";
    // All of a session, and then the end of the client's side.
    let mut client = open(&world).await;
    let all = format!("{FROM}{TO}BDAT {} LAST\r\n{text}NOOP\r\n", text.len());
    client.send(all.as_bytes()).await;
    client.close_half().await;
    let said = client.rest().await;
    assert_eq!(codes(&said), ["250", "250", "250", "250"], "{said}");
    assert_eq!(world.mails("Inbox").await.len(), 1);

    // The end comes amid a line, a text or a chunk. Nothing is taken.
    for (begun, expected) in [
        ("NOOP\r\nNOO", vec!["250"]),
        (
            "MAIL FROM:<a@b.test>\r\nRCPT TO:<app@example.org>\r\nDATA\r\n",
            vec!["250", "250", "354"],
        ),
        (
            "MAIL FROM:<a@b.test>\r\nRCPT TO:<app@example.org>\r\nDATA\r\nSubject: x\r\n\r\nHello\r\n.",
            vec!["250", "250", "354"],
        ),
        (
            "MAIL FROM:<a@b.test>\r\nRCPT TO:<app@example.org>\r\nBDAT 100 LAST\r\nSubject: x\r\n",
            vec!["250", "250"],
        ),
        ("STARTTLS\r\n", vec!["220"]),
    ] {
        let mut client = open(&world).await;
        client.send(begun.as_bytes()).await;
        client.close_half().await;
        let said = client.rest().await;
        assert_eq!(codes(&said), expected, "{begun:?}: {said}");
    }
    assert_eq!(world.mails("Inbox").await.len(), 1);
    world.all_ended().await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_whose_sizes_lie() {
    let world = World::start(Setup::default()).await;
    let begin = format!("{FROM}{TO}");
    let subject = "From: a@b.test\r\n\r\n";
    for (what, lines, expected) in [
        // The commands behind belong to the chunk, which never ends.
        (
            "too large",
            format!("BDAT 1000 LAST\r\n{subject}\r\nQUIT\r\n"),
            vec![],
        ),
        // The rest of the text is no command.
        (
            "too small",
            format!("BDAT 18 LAST\r\n{subject}Hello.\r\nQUIT\r\n"),
            vec!["250", "500", "221"],
        ),
        (
            "beyond SIZE",
            "BDAT 99999999999 LAST\r\nMAIL FROM:<evil@elsewhere.test>\r\n".to_owned(),
            vec![],
        ),
        (
            "beyond any number",
            "BDAT 99999999999999999999999 LAST\r\nNOOP\r\n".to_owned(),
            vec!["501"],
        ),
        (
            "negative",
            "BDAT -1 LAST\r\nNOOP\r\n".to_owned(),
            vec!["501"],
        ),
        (
            "no number",
            "BDAT 0x10 LAST\r\nNOOP\r\n".to_owned(),
            vec!["501"],
        ),
        (
            "nothing at all",
            "BDAT 0 LAST\r\nQUIT\r\n".to_owned(),
            // It has no From.
            vec!["554", "221"],
        ),
    ] {
        let before = world.mails("Inbox").await.len();
        let mut client = open(&world).await;
        client.send(format!("{begin}{lines}").as_bytes()).await;
        client.close_half().await;
        let said = client.rest().await;
        let mut got = codes(&said);
        assert_eq!(
            got.drain(..2).collect::<Vec<_>>(),
            ["250", "250"],
            "{what}: {said}"
        );
        assert_eq!(got, expected, "{what}: {said}");
        let taken = usize::from(got.first() == Some(&"250"));
        assert_eq!(
            world.mails("Inbox").await.len() - before,
            taken,
            "{what}: {said}"
        );
    }
    world.all_ended().await;
    world.server.stop().await;
}

/// All ends of a text that some server, somewhere, took for CRLF.CRLF.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_smuggled_behind_a_false_end() {
    let world = World::start(Setup::default()).await;
    let ends = [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\n.\r",
        "\r.\n",
        "\r\r\n.\r\r\n",
        "\n\n.\r\n",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
        "\r\n\r.\r\n",
        "\r\n.\r\r\n",
        "\u{85}.\u{85}",
        "\r\n. \r\n",
        "\r\n .\r\n",
        "\r\n\u{b}.\r\n",
    ];
    for end in ends {
        let mut client = open(&world).await;
        client.send(format!("{FROM}{TO}DATA\r\n").as_bytes()).await;
        for expected in ["250", "250", "354"] {
            let reply = client.reply().await;
            assert!(reply.starts_with(expected), "{reply}");
        }
        let text = format!(
            "From: <a@b.test>\r\nSubject: outer\r\n\r\nHello.{end}\
             MAIL FROM:<evil@elsewhere.test>\r\n{TO}DATA\r\n\
             Subject: smuggled\r\n\r\nEvil.\r\n.\r\n"
        );
        client.send(text.as_bytes()).await;
        // One text, so one reply.
        let reply = client.reply().await;
        let is_line = !end.replace("\r\n", "").contains(['\r', '\n', '\0']);
        let expected = if is_line { "2" } else { "5" };
        assert!(reply.starts_with(expected), "{end:?}: {reply}");
        client.send(b"QUIT\r\n").await;
        let rest = client.rest().await;
        assert!(
            rest.is_empty() || codes(&rest) == ["221"],
            "{end:?}: {rest}"
        );
    }
    for text in world.mails("Inbox").await {
        assert!(!text.contains("Return-Path: <evil@"), "{text}");
        // It lies within the body of the outer message.
        let body = text.split_once("\r\n\r\n").unwrap().1;
        assert!(!text.contains("Subject: smuggled") || body.contains("Subject: smuggled"));
    }
    world.all_ended().await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_without_an_end_and_endless_errors_end_the_connection() {
    let world = World::start(Setup::default()).await;
    for (lines, reply) in [
        ("x".repeat(5000), "500 5.5.2 "),
        (
            format!("AUTH PLAIN {}\r\n", "A".repeat(20_000)),
            "500 5.5.2 ",
        ),
        ("BOGUS\r\n".repeat(1000), "421 4.7.0 "),
        ("\0\0\0\r\n".repeat(1000), "421 4.7.0 "),
        (
            format!("{FROM}{}", "RCPT TO:<no@example.org>\r\n".repeat(1000)),
            "421 4.7.0 ",
        ),
    ] {
        let mut client = open(&world).await;
        client.send(lines.as_bytes()).await;
        let said = client.rest().await;
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with(reply), "{said}");
    }
    world.all_ended().await;
    world.server.stop().await;
}

/// A client that floods the server with connections and leaves them, each in another state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_left_in_any_state_leave_nothing() {
    let world = World::start(Setup::default()).await;
    let smtp = world.server.address("smtp").unwrap();
    let submissions = world.server.address("submissions").unwrap();
    let http = world.server.address("webapi_http").unwrap();
    for _ in 0..20 {
        drop(Client::open(smtp, b"").await);
        drop(Client::open(submissions, b"\x16\x03\x01").await);
        drop(Client::open(http, b"POST /webapi/v0/Send HTTP/1.1\r\nContent-Le").await);
        let mut client = open(&world).await;
        client
            .send(format!("{FROM}{TO}DATA\r\nSubject: x\r\n").as_bytes())
            .await;
        drop(client);
    }
    world.all_ended().await;
    assert!(world.mails("Inbox").await.is_empty());
    world.server.stop().await;
}
