//! Clients behind a proxy (PROXY protocol) and behind a peer that uses XCLIENT: their own addresses
//! count.

use std::net::IpAddr;

use serde_json::json;

use crate::support::{
    PASSWORD, Setup, World, base64,
    client::{Client, proxy_header},
    dkim::DkimKey,
    dns::Zone,
    patience::patiently,
    program,
    receiver::Receiver,
};

/// The address of the sender's host.
const SENDER: &str = "192.0.2.7";
/// An address that has nothing to do with the sender.
const STRANGER: &str = "203.0.113.9";

const MESSAGE: &str =
    "From: Ann <ann@sender.test>\r\nTo: <app@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n";

/// The DNS of a domain that wants forgeries of its mail refused.
fn zone(key: &DkimKey) -> Zone {
    let sender: IpAddr = SENDER.parse().unwrap();
    Zone::default()
        .host("mx.sender.test", sender)
        .mx("sender.test", 10, "mx.sender.test")
        .txt("sender.test", "v=spf1 ip4:192.0.2.7 ip6:2001:db8::7 -all")
        .txt("_dmarc.sender.test", "v=DMARC1; p=reject")
        .txt("k._domainkey.sender.test", &key.record())
}

/// Strangers are heard at once.
const AT_ONCE: &str = "[policy]\ngreylist = false\nfirst_time_sender_delay = \"0s\"\n";

/// A server behind a proxy on this machine, with further lines for the end of its listener.
async fn world(zone: Zone, more: &str, dynamics: String) -> World {
    World::start(Setup {
        dns: Some(zone.serve().await),
        statics: format!("proxy_from = [\"127.0.0.0/8\"]\n{more}{AT_ONCE}"),
        dynamics,
        ..Setup::default()
    })
    .await
}

/// Waits until the server has counted so many refusals, all for this reason.
async fn counts(world: &World, reason: &str, count: u64) {
    let conf = world.dir.path().join("postrider.conf");
    let expected = [(reason.to_owned(), count)].into();
    let counted = async { while program::refusals(&conf).await != expected {} };
    patiently(reason, counted).await;
}

/// Sends a message from this address. Returns the last reply.
async fn send(world: &World, from: &str, text: &str) -> String {
    let mut client = world.proxied("smtp", from).await;
    client.expect("EHLO mx.sender.test", "250").await;
    let text = text.trim_end_matches("\r\n");
    client
        .submit("ann@sender.test", &["app@example.org"], text)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_judged_by_the_address_of_its_client() {
    let key = DkimKey::new();
    let receiver = Receiver::start(|_| 200).await;
    let webhook = format!(
        "[accounts.app.incoming_webhook]\nurl = {:?}\n",
        receiver.url()
    );
    let world = world(zone(&key), "", webhook).await;
    let signed = key.sign("sender.test", "k", MESSAGE);

    let reply = send(&world, SENDER, &signed).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    let mails = world.mails("Inbox").await;
    let [text] = mails.as_slice() else {
        panic!("{mails:?}")
    };
    let results = format!(
        "\r\nAuthentication-Results: mail.example.org; iprev=pass policy.iprev={SENDER};\r\n\
         \tspf=pass smtp.mailfrom=sender.test;\r\n\
         \tdkim=pass header.d=sender.test header.s=k header.a=ed25519-sha256 header.b="
    );
    assert!(
        text.starts_with("Return-Path: <ann@sender.test>\r\n"),
        "{text}"
    );
    assert!(text.contains(&results), "{text}");
    let dmarc = ";\r\n\tdmarc=pass header.from=sender.test policy.dmarc=reject\r\n";
    assert!(text.contains(dmarc), "{text}");
    assert!(
        text.contains(&format!("\r\nReceived: from mx.sender.test ([{SENDER}])")),
        "{text}"
    );
    let call = receiver.wait_for(1).await.remove(0);
    let meta = &call.payload["Meta"];
    assert_eq!(meta["RemoteIP"], SENDER);
    assert_eq!(meta["MailFromValidated"], true);
    assert_eq!(meta["MsgFromValidated"], true);
    assert_eq!(meta["DKIMVerifiedDomains"], json!(["sender.test"]));

    // SPF passes alone.
    let reply = send(&world, SENDER, MESSAGE).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let call = receiver.wait_for(2).await.remove(1);
    assert_eq!(call.payload["Meta"]["MsgFromValidated"], true);
    assert_eq!(call.payload["Meta"]["DKIMVerifiedDomains"], json!([]));

    // The signature passes alone, as behind a server that forwards mail.
    let reply = send(&world, STRANGER, &signed).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let call = receiver.wait_for(3).await.remove(2);
    let meta = &call.payload["Meta"];
    assert_eq!(meta["RemoteIP"], STRANGER);
    assert_eq!(meta["MailFromValidated"], false);
    assert_eq!(meta["MsgFromValidated"], true);
    // A stranger whose SPF fails is not trusted with the inbox.
    let mails = world.mails("Junk").await;
    let found = mails.iter().find(|text| text.contains(STRANGER)).unwrap();
    assert!(found.contains(" iprev=permerror"), "{found}");
    assert!(found.contains("\tspf=fail"), "{found}");
    assert!(
        found.contains("\tdmarc=pass header.from=sender.test"),
        "{found}"
    );

    // Nothing passes: a forgery.
    for forged in [MESSAGE.to_owned(), signed.replace("Hello.", "Pay now.")] {
        let reply = send(&world, STRANGER, &forged).await;
        assert!(
            reply.starts_with("550 5.7.1 rejected per DMARC policy of sender.test"),
            "{reply}"
        );
    }
    assert_eq!(world.mails("Inbox").await.len(), 2);
    world.all_ended().await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_tells_its_client_by_xclient() {
    let zone = zone(&DkimKey::new());
    let world = World::start(Setup {
        dns: Some(zone.serve().await),
        statics: format!("xclient_from = [\"127.0.0.1\"]\n{AT_ONCE}"),
        ..Setup::default()
    })
    .await;
    let mut client = world.client("smtp").await;
    let offered = client.expect("EHLO proxy.test", "250").await;
    let offer = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";
    assert!(offered.contains(offer), "{offered}");
    for (address, reply) in [
        (SENDER, "250 2.0.0"),
        (STRANGER, "550 5.7.1 rejected per DMARC"),
    ] {
        let command = format!("XCLIENT ADDR={address} NAME=[UNAVAILABLE] LOGIN=app@example.org");
        client.expect(&command, "220 mail.example.org").await;
        client.expect("MAIL FROM:<ann@sender.test>", "503").await;
        client.expect("EHLO mx.sender.test", "250").await;
        let sent = client.submit("ann@sender.test", &["app@example.org"], MESSAGE);
        let sent = sent.await;
        assert!(sent.starts_with(reply), "{address}: {sent}");
    }
    let mails = world.mails("Inbox").await;
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains("spf=pass"), "{mails:?}");

    // A login that the peer tells of is none. The address counts for submission, too.
    let mut client = world.client("submission").await;
    client.expect("EHLO proxy.test", "250").await;
    let mut client = client.starttls().await;
    let command = format!("XCLIENT ADDR={SENDER} LOGIN=app@example.org HELO=a.test PROTO=ESMTP");
    client.expect(&command, "220").await;
    client
        .expect("MAIL FROM:<app@example.org>", "530 5.7.0")
        .await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_listed_peers_may_speak_for_others() {
    let world = world(
        Zone::default(),
        "xclient_from = [\"192.0.2.7\"]\n",
        String::new(),
    )
    .await;
    for (from, reply) in [(SENDER, "220"), (STRANGER, "550 5.7.0")] {
        let mut client = world.proxied("smtp", from).await;
        let offered = client.expect("EHLO a.test", "250").await;
        assert_eq!(offered.contains("XCLIENT"), from == SENDER, "{offered}");
        client.expect("XCLIENT ADDR=198.51.100.1", reply).await;
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_in_the_place_of_the_proxy_gets_no_byte() {
    let world = World::start(Setup {
        statics: "proxy_from = [\"192.0.2.0/24\", \"2001:db8::1\"]\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let services = ["smtp", "submission", "submissions", "webapi_http"];
    for service in services {
        let address = world.server.address(service).unwrap();
        for first in [&proxy_header(SENDER)[..], b"EHLO a.test\r\n", b""] {
            let mut client = Client::open(address, first).await;
            assert_eq!(client.rest().await, "", "{service}");
        }
    }
    // Those of HTTP are not counted.
    counts(&world, "unlisted_proxy", 9).await;
    world.all_ended().await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_says_nothing_right_gets_no_byte() {
    let world = world(Zone::default(), "", String::new()).await;
    let unix = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"[..], &[0; 216]].concat();
    for service in ["smtp", "submission", "submissions", "webapi_http"] {
        let address = world.server.address(service).unwrap();
        for first in [
            &b"EHLO a.test\r\n"[..],
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
            b"PROXY TCP4 mx.sender.test 198.51.100.1 4711 25\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c012345678901",
            &unix,
        ] {
            let mut client = Client::open(address, first).await;
            assert_eq!(client.rest().await, "", "{service}");
        }
    }
    // One that leaves amid its header.
    drop(Client::open(world.server.address("smtp").unwrap(), b"PROXY TCP").await);
    counts(&world, "proxy_header", 19).await;
    world.all_ended().await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_and_a_proxy_that_speaks_for_itself() {
    let world = world(zone(&DkimKey::new()), "", String::new()).await;
    let smtp = world.server.address("smtp").unwrap();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let v4 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x19\x12\x67\0\x19";
    let v6 = proxy_header("2001:db8::7");
    for (header, seen) in [
        (&local[..], "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (v4, "192.0.2.7"),
        (&v6, "2001:db8::7"),
    ] {
        let mut client = Client::open(smtp, header).await.greeted().await;
        client.expect("EHLO a.test", "250").await;
        let text = MESSAGE.trim_end_matches("\r\n");
        let sent = client.submit("ann@sender.test", &["app@example.org"], text);
        let reply = sent.await;
        assert!(reply.starts_with("250"), "{seen}: {reply}");
        let mails = world.mails("Inbox").await;
        let received = format!("{seen}])");
        assert!(
            mails.iter().any(|text| text.contains(&received)),
            "{seen}: {mails:?}"
        );
    }
    // TLS from the first byte comes behind the header.
    let submissions = world.server.address("submissions").unwrap();
    let mut stream = tokio::net::TcpStream::connect(submissions).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &proxy_header(SENDER))
        .await
        .unwrap();
    let stream = crate::support::tls::connect(Box::new(stream)).await;
    let mut client = Client::over(Box::new(stream)).greeted().await;
    client.expect("EHLO a.test", "250").await;
    // HTTP, too.
    let http = world.server.address("webapi_http").unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let request = [&proxy_header(SENDER)[..], request].concat();
    let answer = Client::open(http, &request).await.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_networks_of_clients_have_the_limit_and_not_the_proxy() {
    let limit = "[limits]\nconnections_per_network = 2\n";
    let world = world(Zone::default(), limit, String::new()).await;
    let smtp = world.server.address("smtp").unwrap();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(world.proxied("smtp", SENDER).await);
    }
    let mut third = Client::open(smtp, &proxy_header(SENDER)).await;
    let refusal = third.reply().await;
    assert_eq!(
        refusal,
        "421 4.7.0 too many connections from 192.0.2.7/32, try again later"
    );
    // A flood from many addresses of a network: 2, and 9 times as many for its /21.
    let mut refused = 0;
    for last in 8..64 {
        let from = format!("192.0.2.{last}");
        let mut client = Client::open(smtp, &proxy_header(&from)).await;
        match client.reply().await {
            reply if reply.starts_with("220 ") => held.push(client),
            reply => {
                let full = "421 4.7.0 too many connections from 192.0.2.0/26, try again later";
                assert_eq!(reply, full);
                refused += 1;
            }
        }
    }
    for last in 64..=255 {
        let from = format!("192.0.2.{last}");
        let mut client = Client::open(smtp, &proxy_header(&from)).await;
        match client.reply().await {
            reply if reply.starts_with("220 ") => held.push(client),
            reply => {
                assert!(reply.starts_with("421 4.7.0 "), "{reply}");
                refused += 1;
            }
        }
    }
    assert_eq!(
        held.len(),
        18,
        "three times two for a /26, nine times two for a /21"
    );
    assert_eq!(refused, 2 + 248 - 18);
    counts(&world, "connections_per_network", 1 + refused).await;
    // Others come in, and those that left make room.
    held.push(world.proxied("smtp", STRANGER).await);
    drop(held);
    world.all_ended().await;
    world.proxied("smtp", SENDER).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_logins_count_for_the_network_of_the_client() {
    let world = world(Zone::default(), "", String::new()).await;
    let secret = |password: &str| base64(format!("\0app@example.org\0{password}").as_bytes());
    let mut refused = None;
    for attempt in 0..30 {
        let mut client = world.proxied("submission", SENDER).await;
        client.expect("EHLO a.test", "250").await;
        let mut client = client.starttls().await;
        client.expect("EHLO a.test", "250").await;
        let reply = client
            .command(&format!("AUTH PLAIN {}", secret("guess")))
            .await;
        if !reply.starts_with("535 5.7.8") {
            refused = Some((attempt, reply));
            break;
        }
    }
    let (attempt, reply) = refused.unwrap();
    assert!(attempt >= 2, "{attempt}");
    assert!(
        reply.starts_with("454 4.7.0") || reply.starts_with("421 4.7.0"),
        "{reply}"
    );
    // The right password is of no use there, and works elsewhere.
    for (from, expected) in [(SENDER, false), (STRANGER, true)] {
        let mut client = world.proxied("submission", from).await;
        client.expect("EHLO a.test", "250").await;
        let mut client = client.starttls().await;
        client.expect("EHLO a.test", "250").await;
        let reply = client
            .command(&format!("AUTH PLAIN {}", secret(PASSWORD)))
            .await;
        assert_eq!(reply.starts_with("235"), expected, "{from}: {reply}");
    }
    world.all_ended().await;
    world.server.stop().await;
}

/// Nobody has to wait: the answers at MAIL and RCPT tell all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_asked_before_its_text() {
    let world = World::start(Setup {
        dns: Some(zone(&DkimKey::new()).serve().await),
        statics: "proxy_from = [\"127.0.0.0/8\"]\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let (mail, rcpt) = ("MAIL FROM:<ann@sender.test>", "RCPT TO:<app@example.org>");
    let unknown = "451 4.7.1 unknown sender, please retry in a minute";
    let mut stranger = world.proxied("smtp", STRANGER).await;
    stranger.expect("EHLO mx.sender.test", "250").await;
    let literal = "MAIL FROM:<ann@[192.0.2.9]>";
    stranger.expect(literal, "550 5.7.1 ").await;
    let missing = "MAIL FROM:<ann@missing.test>";
    stranger.expect(missing, "550 5.1.8 ").await;
    stranger.expect(mail, "250 2.1.0 ").await;
    stranger.expect(rcpt, unknown).await;
    let postmaster = "RCPT TO:<postmaster>";
    stranger.expect(postmaster, "250 2.1.5 ").await;
    // SPF lets this client send for the domain.
    let mut known = world.proxied("smtp", SENDER).await;
    known.expect("EHLO mx.sender.test", "250").await;
    known.expect(mail, "250 2.1.0 ").await;
    known.expect(rcpt, "250 2.1.5 ").await;
    drop((stranger, known));
    world.all_ended().await;
    world.server.stop().await;
}
