//! Mail that comes in and goes on: to an LMTP server, and to another mail server and back.

use crate::support::{Setup, World, dns::Zone, lmtp::LmtpServer, remote::Remote};

const TEXT: &str = "From: <someone@elsewhere.test>\r\nSubject: hi\r\n\r\nHello.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_lmtp_server_gets_the_mail_of_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("lmtp");
    let server = LmtpServer::unix(&socket, |_, _| None);
    let world = World::start(Setup {
        statics: format!("[transports.store.lmtp]\nsocket = {socket:?}\n"),
        app: "destinations.\"imap@example.org\" = { forward_lmtp = \"store\" }\n".into(),
        dns: Some(Zone::default().serve().await),
        ..Setup::default()
    })
    .await;
    let mut client = world.client("smtp").await;
    let ehlo = client.command("EHLO sender.elsewhere.test").await;
    assert!(
        ehlo.lines()
            .any(|line| line.ends_with(" DSN") || line.ends_with("-DSN"))
    );
    let to = ["imap+x@example.org", "info@example.org"];
    let reply = client.submit("someone@elsewhere.test", &to, TEXT).await;
    assert!(reply.starts_with("250 2.0.0 delivered as"), "{reply}");
    let got = server.wait_for(1).await;
    let recipients: Vec<&str> = got[0].recipients.iter().map(|(to, _)| &**to).collect();
    assert_eq!(recipients, ["imap+x@example.org"]);
    assert!(got[0].mail.contains("<someone@elsewhere.test>"), "{got:?}");
    let expected = "Return-Path: <someone@elsewhere.test>\r\n\
                    Delivered-To: imap+x@example.org\r\n\
                    Authentication-Results: mail.example.org; \
                    dmarc=none header.from=elsewhere.test\r\n\
                    Received: from sender.elsewhere.test ";
    assert!(got[0].text.starts_with(expected), "{}", got[0].text);
    assert!(got[0].text.ends_with("\r\n\r\nHello.\r\n"));
    let store = world.server.store();
    let mails = store.list_mails("app", None, None, 10).await.unwrap();
    assert_eq!(mails.items.len(), 1, "the other recipient's");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_leaves_with_a_sender_that_leads_back() {
    let remote = Remote::start(|_, _| None).await;
    let app = "destinations.\"away@example.org\" = { forward = [\"x@remote.test\"] }\n";
    let world = World::facing(&remote, app.into()).await;
    let mut client = world.client("smtp").await;
    client.command("EHLO sender.elsewhere.test").await;
    let reply = client
        .submit("bob@remote.test", &["away@example.org"], TEXT)
        .await;
    assert!(reply.starts_with("250 2.0.0 queued as"), "{reply}");
    let forward = remote.wait_for(1).await.remove(0);
    assert!(forward.rcpts[0].contains("<x@remote.test>"), "{forward:?}");
    let path = forward.mail.split(['<', '>']).nth(1).unwrap();
    assert!(path.starts_with("SRS0="), "{path}");
    assert!(path.ends_with("=remote.test=bob@example.org"), "{path}");
    // The key is in the store, so a restart changes nothing.
    let path = path.to_owned();
    let world = world.restart().await;
    let mut client = world.client("smtp").await;
    client.command("EHLO mx.remote.test").await;
    let reply = client.submit("", &[path.as_str()], TEXT).await;
    assert!(reply.starts_with("250 2.0.0 queued as"), "{reply}");
    let report = remote.wait_for(2).await.remove(1);
    assert!(report.mail.contains("<>"), "{report:?}");
    assert!(report.rcpts[0].contains("<bob@remote.test>"), "{report:?}");
    let reply = client.submit("x@remote.test", &[path.as_str()], TEXT).await;
    assert!(reply.contains("550 5.7.1"), "{reply}");
    world.server.stop().await;
}
