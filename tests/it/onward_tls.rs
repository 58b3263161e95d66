//! The TLS of what goes out: REQUIRETLS, `TLS-Required: No` (RFC 8689), and certificates that are
//! wrong.

use std::time::Duration;

use crate::support::{
    Setup, World, message,
    receiver::Receiver,
    remote::{Act, Point, Remote, RemoteTls},
};

/// A server whose mail goes to a smarthost, and the events of its account. `trusted` has the
/// certificates that it trusts.
async fn with_smarthost(remote: &Remote, trusted: &RemoteTls, url: &str) -> World {
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &trusted.certificate).unwrap();
    let setup = Setup {
        statics: format!(
            "[delivery]\ndane = false\n[tls]\nca_files = [{ca:?}]\n[transports.smart.smtp]\nhost = \"mx.remote.test\"\n"
        ),
        app: format!("[accounts.app.outgoing_webhook]\nurl = {url:?}\n"),
        dynamics: "[[routes]]\nto_domain = [\"smart.test\"]\ntransport = \"smart\"\n".into(),
        ..Setup::default()
    };
    World::facing_with(remote, setup).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requiretls_needs_a_proven_host_and_its_promise() {
    let tls = RemoteTls::new(&["mx.remote.test"], "REQUIRETLS");
    let remote = Remote::start_with(Some(tls.clone()), |_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let world = with_smarthost(&remote, &tls, &receiver.url()).await;
    let mut client = world.submission().await;
    let mut send = async |to: &str| {
        let mail = "MAIL FROM:<app@example.org> REQUIRETLS";
        client.expect(mail, "250").await;
        client.expect(&format!("RCPT TO:<{to}>"), "250").await;
        client.expect("DATA", "354").await;
        let text = message("secret");
        client.expect(&format!("{text}\r\n."), "250").await;
    };
    // The smarthost is proven by its certificate, and offers the extension.
    send("x@smart.test").await;
    let received = remote.wait_for(1).await;
    assert!(received[0].tls.is_some());
    assert!(
        received[0].mail.ends_with(" REQUIRETLS"),
        "{}",
        received[0].mail
    );
    // The same server as the MX host of a domain is not proven by anything.
    send("x@remote.test").await;
    let calls = receiver.wait_for(2).await;
    let failed = calls
        .iter()
        .find(|call| call.payload["Event"] == "failed")
        .unwrap();
    let error = failed.payload["Error"].as_str().unwrap();
    assert!(
        error.ends_with(
            ": 5.7.30 REQUIRETLS is needed, and neither DANE nor MTA-STS proves the host"
        ),
        "{error}"
    );
    assert_eq!(remote.received().len(), 1);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_is_named_and_a_sender_may_not_care() {
    let tls = RemoteTls::new(&["other.test"], "");
    let remote = Remote::start_with(Some(tls.clone()), |_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let world = with_smarthost(&remote, &tls, &receiver.url()).await;
    let mut client = world.submission().await;
    let reply = client
        .submit("app@example.org", &["x@smart.test"], &message("x"))
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let calls = receiver.wait_for(1).await;
    assert_eq!(calls[0].payload["Event"], "delayed");
    let error = calls[0].payload["Error"].as_str().unwrap();
    let part = "mx.remote.test [127.0.0.2]: STARTTLS: 4.7.5 the transport demands TLS: the certificate \
         is for another name (subject \"CN=rcgen self signed cert\", issuer \"CN=rcgen self \
         signed cert\", names other.test, valid 1975-01-01 to 4096-01-01, SPKI SHA-256 ";
    assert!(error.contains(part), "{error}");
    assert!(remote.received().is_empty());
    // The smarthost is tried again after a minute.
    world.clock.advance(Duration::from_secs(120));
    let text = format!("TLS-Required: No\r\n{}", message("urgent"));
    let reply = client
        .submit("app@example.org", &["y@smart.test"], &text)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let received = remote.wait_for(1).await;
    assert!(received[0].text.contains("TLS-Required: No\r\n"));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_for_a_domain_goes_under_tls_if_it_works_and_else_in_clear() {
    for (works, expected) in [(true, Some("X25519MLKEM768")), (false, None)] {
        let tls = RemoteTls::new(&["mx.remote.test"], "");
        let script = move |point: &Point, _| match point {
            Point::Command(line) if line == "STARTTLS" && !works => Some(Act::Cut),
            _ => None,
        };
        let remote = Remote::start_with(Some(tls), script).await;
        let world = World::facing(&remote, String::new()).await;
        let mut client = world.submission().await;
        let reply = client
            .submit("app@example.org", &["x@remote.test"], &message("x"))
            .await;
        assert!(reply.starts_with("250"), "{reply}");
        let received = remote.wait_for(1).await;
        assert_eq!(received[0].tls.as_deref(), expected);
        world.server.stop().await;
    }
}
