//! Clients elsewhere whose mail goes on, and what they hear of it: DSN and REQUIRETLS on port 25.

use std::{fs::Permissions, net::IpAddr, os::unix::fs::PermissionsExt};

use crate::support::{
    Setup, World, client::Client, dkim::DkimKey, dns::Zone, lmtp::LmtpServer, remote::Remote,
};

/// The address of the client.
const CLIENT: &str = "192.0.2.7";
/// The address of the hosts that get mail.
const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// Strangers are heard at once.
const STATICS: &str = "proxy_from = [\"127.0.0.0/8\"]\n[policy]\ngreylist = false\n\
                       first_time_sender_delay = \"0s\"\n";

/// A zone in which SPF passes for sender.test, and in which all domains get their mail at the
/// remote.
fn zone() -> Zone {
    let domains = ["sender.test", "remote.test", "bank.test", "evil.test"];
    let zone = domains.into_iter().fold(Zone::default(), |zone, domain| {
        zone.mx(domain, 10, "mx.remote.test")
    });
    zone.address("mx.remote.test", REMOTE)
        .host("mx.sender.test", CLIENT.parse().unwrap())
        .txt("sender.test", "v=spf1 ip4:192.0.2.7 -all")
}

/// A server behind a proxy. `root` stands at the beginning of domains.conf.
async fn start(zone: Zone, remote: &Remote, root: &str, setup: Setup) -> World {
    let setup = Setup {
        dns: Some(zone.serve().await),
        statics: format!("{STATICS}{}", setup.statics),
        ..setup
    };
    let dir = tempfile::tempdir().unwrap();
    setup.write(dir.path());
    let dynamics = format!("{root}{}", setup.dynamic_conf());
    std::fs::write(dir.path().join("domains.conf"), dynamics).unwrap();
    let world = World::start_in(dir).await;
    world.dialer.lead(REMOTE, remote.address);
    world
}

async fn client(world: &World) -> Client {
    let mut client = world.proxied("smtp", CLIENT).await;
    client.expect("EHLO mx.sender.test", "250").await;
    client
}

/// Sends a message with these parameters. Returns the reply to its end.
async fn give(client: &mut Client, mail: &str, rcpt: &str, text: &str) -> String {
    client.expect(&format!("MAIL FROM:{mail}"), "250").await;
    client.expect(&format!("RCPT TO:{rcpt}"), "250").await;
    client.expect("DATA", "354").await;
    let text = text.trim_end_matches("\r\n");
    client.command(&format!("{text}\r\n.")).await
}

/// The owner of evil.test signs the message. That says nothing of the sender, who would get the
/// text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_of_success_goes_to_a_proven_sender_only() {
    let (remote, key) = (Remote::start(|_, _| None).await, DkimKey::new());
    let zone = zone()
        .txt("_dmarc.evil.test", "v=DMARC1; p=reject")
        .txt("k._domainkey.evil.test", &key.record());
    let world = start(zone, &remote, "", Setup::default()).await;
    let text = "From: <x@evil.test>\r\nSubject: buy\r\n\r\nBuy this.\r\n";
    let text = key.sign("evil.test", "k", text);
    let mut client = client(&world).await;
    let rcpt = "<app@example.org> NOTIFY=SUCCESS ORCPT=rfc822;first@origin.test";
    for sender in ["victim@bank.test", "x@evil.test"] {
        let mail = format!("<{sender}> RET=FULL ENVID=E1");
        let reply = give(&mut client, &mail, rcpt, &text).await;
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    }
    assert_eq!(world.mails("Inbox").await.len(), 2);
    let reports = remote.wait_for(1).await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].rcpts[0].contains("<x@evil.test>"), "{reports:?}");
    for part in [
        "Original-Envelope-Id: E1\r\n",
        "Original-Recipient: rfc822; first@origin.test\r\n",
        "Action: delivered\r\n",
        "\r\nBuy this.\r\n",
    ] {
        assert!(reports[0].text.contains(part), "{part}: {reports:?}");
    }
    world.server.stop().await;
    assert_eq!(remote.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_of_a_forward_comes_back_to_the_first_forwarder() {
    let remote = Remote::start(|_, _| None).await;
    let setup = Setup {
        app: "destinations.\"away@example.org\" = { forward = [\"x@remote.test\"] }\n".into(),
        dynamics: "[domains.\"srs.test\"]\n".into(),
        ..Setup::default()
    };
    let world = start(zone(), &remote, "srs_domain = \"srs.test\"\n", setup).await;
    let mut client = client(&world).await;
    let text = "From: <bob@first.test>\r\nSubject: hi\r\n\r\nHello.";
    let first = "SRS0=abcd=AA=first.test=bob@sender.test";
    let mail = format!("<{first}> ENVID=E2");
    let rcpt = "<away@example.org> NOTIFY=SUCCESS,FAILURE";
    let reply = give(&mut client, &mail, rcpt, text).await;
    assert!(reply.starts_with("250 2.0.0 queued as"), "{reply}");
    // The next server sends no reports, so ours is the last one.
    let got = remote.wait_for(2).await;
    let path = got[0].mail.split(['<', '>']).nth(1).unwrap();
    assert!(path.starts_with("SRS1="), "{path}");
    assert!(
        path.ends_with("=sender.test==abcd=AA=first.test=bob@srs.test"),
        "{path}"
    );
    assert!(got[1].rcpts[0].contains(&format!("<{first}>")), "{got:?}");
    for part in [
        "Original-Envelope-Id: E2\r\n",
        "Original-Recipient: rfc822; away@example.org\r\n",
        "Action: relayed\r\n",
    ] {
        assert!(got[1].text.contains(part), "{part}: {got:?}");
    }
    let reply = give(&mut client, "<>", &format!("<{path}>"), text).await;
    assert!(reply.starts_with("250 2.0.0 queued as"), "{reply}");
    let back = remote.wait_for(3).await.remove(2);
    assert!(back.mail.contains("<>"), "{back:?}");
    assert!(back.rcpts[0].contains(&format!("<{first}>")), "{back:?}");
    world.server.stop().await;
}

/// The next server finds out by our seal what ours has seen. Reports come back to the sender.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_of_signed_mail_has_a_seal_that_the_next_server_believes() {
    let remote = Remote::start(|_, _| None).await;
    let [theirs, ours] = [DkimKey::new(), DkimKey::new()];
    let public = || {
        zone()
            .mx("example.org", 10, "mx.remote.test")
            .txt("s._domainkey.example.org", &ours.record())
            .txt("_dmarc.sender.test", "v=DMARC1; p=reject")
    };
    let keys = tempfile::tempdir().unwrap();
    let pem = keys.path().join("s.pem");
    std::fs::write(&pem, ours.pem()).unwrap();
    std::fs::set_permissions(&pem, Permissions::from_mode(0o600)).unwrap();
    let setup = Setup {
        app: "destinations.\"away@example.org\" = { forward = [\"x@remote.test\"] }\n".into(),
        dynamics: format!(
            "[domains.\"example.org\".dkim]\nsign = [\"s\"]\n\
             selectors.s.private_key_file = {pem:?}\n"
        ),
        ..Setup::default()
    };
    let signed_for = public().txt("k._domainkey.sender.test", &theirs.record());
    let world = start(signed_for, &remote, "", setup).await;
    let mut client = client(&world).await;
    let text = "From: <ann@sender.test>\r\nSubject: hi\r\n\r\nHello.\r\n";
    let signed = theirs.sign("sender.test", "k", text);
    let ann = "<ann@sender.test>";
    let reply = give(&mut client, ann, "<away@example.org>", &signed).await;
    assert!(reply.starts_with("250 2.0.0 queued as"), "{reply}");
    let forward = remote.wait_for(1).await.remove(0);
    let (top, rest) = forward.text.split_at(forward.text.len() - signed.len());
    assert_eq!(rest, signed, "the text is as it came");
    assert!(top.starts_with("ARC-Seal: a=ed25519-sha256;\r\n"), "{top}");
    for part in [
        "\r\n\tcv=none; d=example.org; i=1; s=s; t=1800000000\r\nARC-Message-Signature: ",
        "\r\nARC-Authentication-Results: i=1; mail.example.org; ",
        "\tdkim=pass header.d=sender.test ",
        "\tdmarc=pass header.from=sender.test ",
    ] {
        assert!(top.contains(part), "{part}: {top}");
    }
    assert!(!top.contains("\r\nDKIM-Signature"), "{top}");

    let path = forward.mail.split(['<', '>']).nth(1).unwrap();
    assert!(path.starts_with("SRS0="), "{path}");
    assert!(path.ends_with("=sender.test=ann@example.org"), "{path}");
    let path = format!("<{path}>");
    let reply = give(&mut client, "<>", &path, text).await;
    assert!(reply.starts_with("250 2.0.0 queued as"), "{reply}");
    let back = remote.wait_for(2).await.remove(1);
    assert!(back.mail.contains("<>"), "{back:?}");
    assert!(back.rcpts[0].contains(ann), "{back:?}");

    // The author's key is gone from DNS by the time that the next server asks for it.
    for (trusted, expected) in [
        ("[]", "550 5.7.1 rejected per DMARC policy of sender.test"),
        ("[\"example.org\"]", "250 2.0.0 "),
    ] {
        let setup = Setup {
            statics: format!("arc_trusted_sealers = {trusted}\n"),
            ..Setup::default()
        };
        let next = start(public(), &remote, "", setup).await;
        let mut client = next.proxied("smtp", "203.0.113.9").await;
        client.expect("EHLO mail.example.org", "250").await;
        let reply = give(&mut client, &path, "<app@example.org>", &forward.text).await;
        assert!(reply.starts_with(expected), "{trusted}: {reply}");
        if reply.starts_with("250") {
            let mails = next.mails("Inbox").await;
            let seen = "\tarc=pass header.oldest-pass=0 smtp.remote-ip=203.0.113.9";
            assert!(mails[0].contains(seen), "{mails:?}");
        }
        next.server.stop().await;
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_post_that_is_signed_reaches_a_member_at_an_lmtp_server() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("lmtp");
    let server = LmtpServer::unix(&socket, |_, _| None);
    let (remote, key) = (Remote::start(|_, _| None).await, DkimKey::new());
    let setup = Setup {
        statics: format!("[transports.store.lmtp]\nsocket = {socket:?}\n"),
        app: "destinations.\"imap@example.org\" = { forward_lmtp = \"store\" }\n".into(),
        dynamics: "[domains.\"example.org\".aliases.team]\n\
                   addresses = [\"imap@example.org\", \"other@example.org\"]\n\
                   allow_msg_from = true\n"
            .into(),
        ..Setup::default()
    };
    let zone = zone().txt("k._domainkey.example.org", &key.record());
    let world = start(zone, &remote, "", setup).await;
    let text = "From: <team@example.org>\r\nSubject: hi\r\n\r\nHello.\r\n";
    let mut plain = client(&world).await;
    let (mail, rcpt) = ("<ann@sender.test>", "<team@example.org>");
    let reply = give(&mut plain, mail, rcpt, text).await;
    assert!(reply.starts_with("550 5.7.2 "), "{reply}");
    // The client may demand TLS of each server over TLS only. The socket needs none.
    plain
        .expect(&format!("MAIL FROM:{mail} REQUIRETLS"), "523 5.7.10")
        .await;
    let mut client = client(&world).await.starttls().await;
    client.expect("EHLO mx.sender.test", "250").await;
    let signed = key.sign("example.org", "k", text);
    let mail = format!("{mail} REQUIRETLS");
    let reply = give(&mut client, &mail, rcpt, &signed).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    let got = server.wait_for(1).await.remove(0);
    let recipients: Vec<&str> = got.recipients.iter().map(|(to, _)| &**to).collect();
    assert_eq!(recipients, ["imap@example.org"]);
    let expected = "Return-Path: <ann@sender.test>\r\nDelivered-To: imap@example.org\r\n\
                    Delivered-To: team@example.org\r\n";
    assert!(got.text.starts_with(expected), "{}", got.text);
    world.server.stop().await;
}
