//! Outgoing mail: DNS, remote servers that follow a script, events, history, DSNs.

use std::time::Duration;

use postrider_store::QueueId;

use crate::support::{
    Setup, World, dns, message,
    receiver::{Call, Receiver},
    remote::{Act, Point, Remote},
};

/// A world where mail for remote.test goes to `remote`, and events of the account app go to
/// `receiver`.
async fn world(remote: &Remote, receiver: &Receiver) -> World {
    let app = format!(
        "[accounts.app.outgoing_webhook]\nurl = {:?}\nauthorization = \"Bearer s3cret\"\n",
        receiver.url()
    );
    World::facing(remote, app).await
}

async fn send(world: &World, to: &[&str], subject: &str) {
    let reply = world
        .submission()
        .await
        .submit("app@example.org", to, &message(subject))
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
}

fn events(calls: &[Call]) -> Vec<String> {
    calls
        .iter()
        .map(|call| call.payload["Event"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_delivered_after_a_temporary_failure() {
    let remote = Remote::start(|point, count| match (point, count) {
        (Point::EndOfData, 0) => Some(Act::Say("451 4.7.1 come back later")),
        _ => None,
    })
    .await;
    let receiver = Receiver::start(|_| 200).await;
    let world = world(&remote, &receiver).await;
    send(&world, &["rcpt@remote.test"], "patience").await;
    let delayed = receiver.wait_for(1).await;
    assert_eq!(events(&delayed), ["delayed"]);
    assert_eq!(delayed[0].payload["SMTPCode"], 451);
    assert_eq!(delayed[0].payload["SMTPEnhancedCode"], "4.7.1");
    assert_eq!(delayed[0].headers["authorization"], "Bearer s3cret");
    assert_eq!(delayed[0].headers["x-mox-webhook-attempt"], "1");

    world.clock.advance(Duration::from_secs(9 * 60));
    let calls = receiver.wait_for(2).await;
    assert_eq!(events(&calls), ["delayed", "delivered"]);
    assert_eq!(calls[1].payload["SMTPCode"], 0);
    assert_eq!(
        calls[0].payload["QueueMsgID"],
        calls[1].payload["QueueMsgID"]
    );
    let received = remote.wait_for(2).await;
    assert_eq!(received[1].mail, "MAIL FROM:<app@example.org>");
    assert!(
        received[1].text.starts_with("Received: from client.test"),
        "{}",
        received[1].text
    );
    assert!(
        received[1].text.contains("\r\nMessage-Id: <"),
        "{}",
        received[1].text
    );
    assert!(
        received[1].text.contains("\r\nDate: "),
        "{}",
        received[1].text
    );

    let id = QueueId(calls[0].payload["QueueMsgID"].as_u64().unwrap());
    let retired = world.server.store().retired(id).await.unwrap().unwrap();
    assert!(retired.success);
    assert_eq!(
        retired
            .message
            .results
            .iter()
            .map(|attempt| attempt.code)
            .collect::<Vec<_>>(),
        [451, 250]
    );
    assert_eq!(world.server.store().counts().await.queued, 0);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_failure_gives_an_event_a_dsn_and_history() {
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("RCPT TO:<nobody@") => {
            Some(Act::Say("550 5.1.1 no such user"))
        }
        _ => None,
    })
    .await;
    let receiver = Receiver::start(|_| 204).await;
    let world = world(&remote, &receiver).await;
    send(
        &world,
        &["nobody@remote.test", "somebody@remote.test"],
        "one of two",
    )
    .await;
    let calls = receiver.wait_for(2).await;
    let failed = calls
        .iter()
        .find(|call| call.payload["Event"] == "failed")
        .unwrap();
    assert_eq!(failed.payload["SMTPCode"], 550);
    assert_eq!(failed.payload["SMTPEnhancedCode"], "5.1.1");
    assert!(
        failed.payload["Error"]
            .as_str()
            .unwrap()
            .contains("no such user")
    );
    assert!(
        calls
            .iter()
            .any(|call| call.payload["Event"] == "delivered"),
        "{:?}",
        events(&calls)
    );
    assert_eq!(remote.wait_for(1).await[0].rcpts.len(), 1);

    let store = world.server.store();
    let mails = store
        .list_mails("app", Some("Inbox"), None, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(mails.len(), 1, "one DSN");
    assert!(mails[0].dsn);
    let stored = store.mail_message(&mails[0]).await.unwrap();
    let text = String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap();
    for expected in [
        "Content-Type: multipart/report",
        "Final-Recipient: rfc822; nobody@remote.test",
        "Action: failed",
        "Status: 5.1.1",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user",
        "Subject: one of two",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let id = QueueId(failed.payload["QueueMsgID"].as_u64().unwrap());
    assert!(!store.retired(id).await.unwrap().unwrap().success);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_dropped_after_data_loses_nothing() {
    let remote = Remote::start(|point, count| match (point, count) {
        (Point::EndOfData, 0) => Some(Act::Drop),
        _ => None,
    })
    .await;
    let receiver = Receiver::start(|_| 200).await;
    let world = world(&remote, &receiver).await;
    send(&world, &["rcpt@remote.test"], "dropped").await;
    assert_eq!(events(&receiver.wait_for(1).await), ["delayed"]);
    world.clock.advance(Duration::from_secs(9 * 60));
    assert_eq!(
        events(&receiver.wait_for(2).await),
        ["delayed", "delivered"]
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_message_is_delivered_after_a_restart() {
    let remote = Remote::start(|point, count| match (point, count) {
        (Point::EndOfData, 0) => Some(Act::Say("450 4.2.0 not now")),
        _ => None,
    })
    .await;
    let receiver = Receiver::start(|_| 200).await;
    let world = world(&remote, &receiver).await;
    send(&world, &["rcpt@remote.test"], "restart").await;
    receiver.wait_for(1).await;
    let world = world.restart().await;
    assert_eq!(world.server.store().counts().await.queued, 1);
    world.clock.advance(Duration::from_secs(9 * 60));
    assert_eq!(
        events(&receiver.wait_for(2).await),
        ["delayed", "delivered"]
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_does_not_exist_fails_at_once() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let world = world(&remote, &receiver).await;
    send(&world, &["rcpt@nowhere.test"], "nowhere").await;
    let calls = receiver.wait_for(1).await;
    assert_eq!(events(&calls), ["failed"]);
    assert!(
        calls[0].payload["Error"]
            .as_str()
            .unwrap()
            .contains("nowhere.test"),
        "{}",
        calls[0].payload
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_fails_is_called_again() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|count| if count == 0 { 500 } else { 200 }).await;
    let world = world(&remote, &receiver).await;
    send(&world, &["rcpt@remote.test"], "again").await;
    receiver.wait_for(1).await;
    // The server stores the result of the first call after the receiver has recorded the call. So
    // no fixed time is late enough for the retry: move the clock until the call comes.
    let second = async {
        loop {
            tokio::select! {
                calls = receiver.wait_for(2) => return calls,
                () = tokio::task::yield_now() => world.clock.advance(Duration::from_secs(60)),
            }
        }
    };
    let calls = second.await;
    assert_eq!(
        calls[0].headers["x-mox-webhook-id"],
        calls[1].headers["x-mox-webhook-id"]
    );
    assert_eq!(calls[1].headers["x-mox-webhook-attempt"], "2");
    assert_eq!(calls[0].payload, calls[1].payload);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webapi_send_is_queued_and_delivered() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let world = world(&remote, &receiver).await;
    let url = format!(
        "http://{}/webapi/v0/Send",
        world.server.address("webapi_http").unwrap()
    );
    let request = r#"{"to":[{"Name":"R","Address":"rcpt@remote.test"}],"Subject":"h\u00e4llo","Text":"hi","Extra":{"k":"v"}}"#;
    let answer = reqwest::Client::new()
        .post(url)
        .basic_auth("app@example.org", Some(crate::support::PASSWORD))
        .form(&[("request", request)])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let answer: serde_json::Value = answer.json().await.unwrap();
    let submission = &answer["Submissions"][0];
    assert_eq!(submission["Address"], "rcpt@remote.test");
    let calls = receiver.wait_for(1).await;
    assert_eq!(calls[0].payload["QueueMsgID"], submission["QueueMsgID"]);
    assert_eq!(calls[0].payload["MessageID"], answer["MessageID"]);
    assert_eq!(calls[0].payload["Extra"]["k"], "v");
    assert_eq!(calls[0].payload["Subject"], "h\u{e4}llo");
    assert!(
        remote.wait_for(1).await[0]
            .text
            .contains("\r\nTo: R <rcpt@remote.test>\r\n")
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_with_underscores_are_found() {
    let remote = Remote::start(|_, _| None).await;
    let ip: std::net::IpAddr = [127, 0, 0, 2].into();
    let dns = dns::Zone::default()
        .mx("sub_dom.d-us.test", 10, "mx_1.example.test")
        .address("mx_1.example.test", ip)
        .serve()
        .await;
    let setup = Setup {
        dns: Some(dns),
        ..Setup::default()
    };
    let world = World::start(setup).await;
    world.dialer.lead(ip, remote.address);
    send(&world, &["u@sub_dom.d-us.test"], "underscores").await;
    let received = remote.wait_for(1).await;
    assert_eq!(received[0].rcpts, ["RCPT TO:<u@sub_dom.d-us.test>"]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_in_the_packet_of_the_go_is_final() {
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line == "DATA" => Some(Act::Say("354 go\r\n554 5.7.1 blocked")),
        _ => None,
    })
    .await;
    let receiver = Receiver::start(|_| 200).await;
    let world = world(&remote, &receiver).await;
    send(&world, &["rcpt@remote.test"], "blocked").await;
    let calls = receiver.wait_for(1).await;
    assert_eq!(events(&calls), ["failed"]);
    assert_eq!(calls[0].payload["SMTPCode"], 554);
    assert_eq!(calls[0].payload["SMTPEnhancedCode"], "5.7.1");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_hosts_hold_back_no_other_delivery() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let world = world(&remote, &receiver).await;
    // Nobody accepts these connections, but the system makes them.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses: Vec<String> = (0..20)
        .map(|number| format!("{number}@[127.0.1.{}]", number % 5))
        .collect();
    for number in 0..5 {
        let address = silent.local_addr().unwrap();
        world.dialer.lead([127, 0, 1, number].into(), address);
    }
    let to: Vec<&str> = addresses.iter().map(String::as_str).collect();
    send(&world, &to, "silence").await;
    send(&world, &["rcpt@remote.test"], "through").await;
    let calls = receiver.wait_for(1).await;
    assert_eq!(events(&calls), ["delivered"]);
    // The connections break, and so the attempts end.
    drop(silent);
    world.server.stop().await;
}
