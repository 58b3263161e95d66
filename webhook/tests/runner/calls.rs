//! The content of one call, and the answers to it.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use postrider_store::{Accept, Clock, Event, NewHook, NewHookKind, NewMail, TextSource, Top};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    patience::patiently,
    support::{ALLOWED, OLD_SECRET, Receiver, SECRET, World},
};

#[tokio::test]
async fn a_call_has_what_the_contract_says() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    world
        .tell(&receiver.url("/status/204"), 7, Event::Delivered)
        .await;
    let calls = receiver.wait_for(1).await;
    let call = &calls[0];
    assert_eq!(call.json()["Event"], "delivered");
    assert_eq!(call.json()["QueueMsgID"], 7);
    assert_eq!(
        call.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(call.header("authorization"), "Bearer s3cret");
    assert_eq!(call.header("x-mox-webhook-attempt"), "1");
    assert!(call.header("user-agent").starts_with("postrider/"));
    let retired = world.retired(1).await;
    assert!(retired[0].success, "any 2xx is success");
    assert_eq!(retired[0].hook.results[0].code, 204);
    assert_eq!(
        call.header("x-mox-webhook-id"),
        retired[0].hook.id.0.to_string()
    );

    let signed = format!(
        "{}.{}.",
        call.header("webhook-id"),
        call.header("webhook-timestamp")
    );
    assert!(signed.ends_with(".1800000000."), "{signed}");
    let signatures: Vec<_> = call.header("webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), 2, "one by each secret");
    for (secret, signature) in [SECRET, OLD_SECRET].iter().zip(signatures) {
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(signed.as_bytes());
        mac.update(&call.body);
        let signature = STANDARD
            .decode(signature.strip_prefix("v1,").unwrap())
            .unwrap();
        mac.verify_slice(&signature).unwrap();
    }
    world.stop().await;
}

#[tokio::test]
async fn a_call_for_a_received_message_has_its_text_even_if_it_is_long() {
    let receiver = Receiver::start().await;
    let world = World::start(ALLOWED);
    let mut body = world.store.text_writer();
    let text = format!("Subject: long\r\n\r\n{}", "0123456789\r\n".repeat(50_000));
    body.write(text.as_bytes()).await.unwrap();
    let now = world.clock.now();
    let accept = Accept {
        text: Some(body.finish().await.unwrap()),
        mails: vec![NewMail {
            account: "ann".into(),
            mailbox: "Inbox".into(),
            top: Top::EMPTY,
            text: TextSource::New,
            size: text.len() as u64,
            received: now,
            flags: Vec::new(),
            dsn: false,
            smtp: None,
            summary: None,
        }],
        hooks: vec![NewHook {
            account: "ann".into(),
            url: receiver.url("/status/200"),
            authorization: String::new(),
            kind: NewHookKind::Incoming(0),
            submitted: now,
            next_attempt: now,
        }],
        ..Accept::default()
    };
    let accepted = world.store.accept(accept).await.unwrap();
    let calls = receiver.wait_for(1).await;
    let json = calls[0].json();
    assert_eq!(json["Meta"]["MsgID"], accepted.mails[0].0);
    assert_eq!(json["Subject"], "long");
    assert_eq!(json["Text"].as_str().unwrap().len(), 11 * 50_000);
    // Neither is configured, so neither is sent.
    assert_eq!(calls[0].header("authorization"), "");
    assert_eq!(calls[0].header("webhook-signature"), "");
    assert!(world.retired(1).await[0].success);
    world.stop().await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_after_the_last_call_none_follows() {
    let receiver = Receiver::start().await;
    let world = World::start("allow_private_addresses = true\nretry_intervals = []\n");
    world
        .tell(&receiver.url("/redirect"), 1, Event::Failed)
        .await;
    let retired = world.retired(1).await;
    assert!(!retired[0].success);
    assert!(retired[0].hook.results[0].error.contains("not followed"));
    assert_eq!(receiver.wait_for(1).await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn private_receivers_are_not_called_unless_allowed() {
    let receiver = Receiver::start().await;
    let world = World::start("retry_intervals = []\n");
    world
        .tell(&receiver.url("/status/200"), 1, Event::Failed)
        .await;
    let by_name = receiver
        .url("/status/200")
        .replace("127.0.0.1", "localhost");
    world.tell(&by_name, 2, Event::Failed).await;
    world.tell("no url", 3, Event::Failed).await;
    let retired = world.retired(3).await;
    let error = |at: usize| retired[at].hook.results[0].error.clone();
    assert!(error(0).contains("not a public address"), "{}", error(0));
    assert!(error(1).contains("not a public address"), "{}", error(1));
    assert!(error(2).contains("is not a URL"), "{}", error(2));
    assert!(receiver.calls.borrow().is_empty());
    world.stop().await;
}

/// A receiver that answers a call with `begin`, then writes `more` again and again until the caller
/// closes. Gives the number of bytes that it wrote after `begin`.
async fn chatterer(begin: &'static str, more: &'static [u8]) -> (String, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let talking = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut written = 0;
        while !more.is_empty() && stream.write_all(more).await.is_ok() {
            written += more.len();
        }
        // Until the caller closes.
        while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
        written
    });
    (address, talking)
}

#[tokio::test]
async fn receivers_that_are_absent_or_speak_no_http_are_failures_in_words() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let greeting = "220 mail.example.org ESMTP\r\n";
    let (nonsense, _) = chatterer(greeting, b"").await;
    let (no_tls, _) = chatterer(greeting, b"").await;
    let (silent, _) = chatterer("", b"").await;
    let (half, _) = chatterer("HTTP/1.1 200", b"").await;
    let world =
        World::start("allow_private_addresses = true\nretry_intervals = []\ntimeout = \"2s\"\n");
    let cases = [
        (format!("http://{nobody}/"), "refused"),
        (format!("http://{nonsense}/"), "invalid HTTP version"),
        (format!("https://{no_tls}/"), "InvalidContentType"),
        (format!("http://{silent}/"), "timed out"),
        (format!("http://{half}/"), "timed out"),
    ];
    for (message, (url, _)) in (1..).zip(&cases) {
        world.tell(url, message, Event::Failed).await;
    }
    for retired in world.retired(cases.len()).await {
        let result = &retired.hook.results[0];
        assert!(!retired.success && result.code == 0 && result.response.is_empty());
        let (url, words) = cases
            .iter()
            .find(|(url, _)| *url == retired.hook.url)
            .unwrap();
        assert!(result.error.contains(words), "{url}: {}", result.error);
    }
    world.stop().await;
}

#[tokio::test]
async fn only_the_beginning_of_an_endless_answer_is_read() {
    let (address, talking) = chatterer(
        "HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n",
        &[b'x'; 1 << 20],
    )
    .await;
    let world = World::start(ALLOWED);
    world
        .tell(&format!("http://{address}/"), 1, Event::Delivered)
        .await;
    let retired = world.retired(1).await.remove(0);
    assert!(retired.success);
    assert_eq!(retired.hook.results[0].response, "x".repeat(512));
    // The connection was closed: the receiver wrote no more than the sockets' buffers hold.
    let sent = patiently("the end of the connection", talking)
        .await
        .unwrap();
    assert!(sent < 100_000_000, "{sent}");
    world.stop().await;
}
