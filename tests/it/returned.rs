//! Reports and replies from recipients: the server matches them to sent messages and tells the
//! application.

use std::net::SocketAddr;

use postrider_store::QueueId;
use serde_json::Value;

use crate::support::{
    PASSWORD, Setup, World, client::Client, program, receiver::Call, receiver::Receiver,
    remote::Act, remote::Point, remote::Remote, webapi,
};

/// A login whose messages each get a reverse-path of their own.
const LOGIN: &str = "app+unique@example.org";

/// A remote that supports DSN and refuses some recipients.
async fn remote() -> Remote {
    Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => {
            Some(Act::Say("250-remote.test\r\n250-DSN\r\n250 PIPELINING"))
        }
        Point::Command(line) if line.starts_with("RCPT TO:<no@") => {
            Some(Act::Say("550 5.1.1 no such user"))
        }
        Point::Command(line) if line.starts_with("RCPT TO:<later@") => {
            Some(Act::Say("451 4.7.1 come back later"))
        }
        _ => None,
    })
    .await
}

/// A world where mail for remote.test goes to `remote`, and events of the account app go to the
/// receivers.
async fn world(remote: &Remote, outgoing: &Receiver, incoming: &Receiver) -> World {
    let app = format!(
        "from_id_login_addresses = [{LOGIN:?}]\n\
         outgoing_webhook = {{ url = {:?} }}\nincoming_webhook = {{ url = {:?} }}\n",
        outgoing.url(),
        incoming.url()
    );
    World::facing(remote, app).await
}

/// How an application submits a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Send,
    Submission,
}

/// Sends with `"K": "v"` as extra data.
async fn send(world: &World, by: By, login: &str, to: &str) {
    match by {
        By::Send => {
            let address = world.server.address("webapi_http").unwrap();
            let request = format!(
                r#"{{"To":[{{"Address":"{to}"}}],"Subject":"told","Text":"x","Extra":{{"K":"v"}}}}"#
            );
            webapi(address, login, "Send", &request).await;
        }
        By::Submission => {
            let text = format!(
                "From: <app@example.org>\r\nTo: <{to}>\r\nSubject: told\r\nX-Mox-Extra-K: v\r\n\r\nx"
            );
            let mut client = world
                .client("submission")
                .await
                .login(login, PASSWORD)
                .await;
            let reply = client.submit("app@example.org", &[to], &text).await;
            assert!(reply.starts_with("250 2.0.0"), "{reply}");
        }
    }
}

/// A report as another server sends it. `recipients` has the groups of fields after the first
/// group.
fn report(recipients: &str, returned: &str) -> String {
    format!(
        "From: MAILER-DAEMON@remote.test\nTo: app@example.org\nSubject: Delivery report\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b/1\"\n\n\
         --b/1\nContent-Type: text/plain\n\nThis is a report.\n\
         --b/1\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.remote.test\n{recipients}\n\
         --b/1\nContent-Type: text/rfc822-headers\n\n{returned}\n--b/1--"
    )
    .replace('\n', "\r\n")
}

fn about(recipient: &str, action: &str, rest: &str) -> String {
    format!("\nFinal-Recipient: rfc822; {recipient}\nAction: {action}\n{rest}\n")
}

/// Sends mail from outside to the MX. The MX must accept it.
async fn arrives(address: SocketAddr, from: &str, to: &str, text: &str) {
    let mut client = Client::connect(address).await;
    client.expect("EHLO mx.remote.test", "250").await;
    let reply = client.submit(from, &[to], text).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    client.expect("QUIT", "221").await;
}

fn kind(payload: &Value) -> (&str, bool, bool, u64) {
    (
        payload["Event"].as_str().unwrap(),
        payload["DSN"].as_bool().unwrap(),
        payload["Suppressing"].as_bool().unwrap(),
        payload["SMTPCode"].as_u64().unwrap(),
    )
}

/// The calls of a receiver in their order.
struct Calls<'a>(&'a Receiver, usize);

impl Calls<'_> {
    async fn next(&mut self) -> Call {
        self.1 += 1;
        self.0.wait_for(self.1).await.swap_remove(self.1 - 1)
    }
}

/// The reverse-path of a message that a remote received.
fn reverse_path(mail: &str) -> String {
    let path = mail.strip_prefix("MAIL FROM:<").unwrap();
    path.split_once('>').unwrap().0.to_owned()
}

/// The ENVID of the transaction in which a remote received a message.
fn envid(mail: &str) -> &str {
    let (_, envid) = mail.split_once("ENVID=").unwrap();
    envid.split(' ').next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_from_send_to_the_webhook() {
    every_event(By::Send).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_from_submission_to_the_webhook() {
    every_event(By::Submission).await;
}

async fn every_event(by: By) {
    let (remote, receiver) = (remote().await, Receiver::start(|_| 200).await);
    let incoming = Receiver::start(|_| 200).await;
    let world = world(&remote, &receiver, &incoming).await;
    let mut calls = Calls(&receiver, 0);
    let (first, returns_to) = events_of_attempts(&world, &remote, by, &mut calls).await;
    let reports = events_of_reports(&world, by, &mut calls, &first, &returns_to).await;

    // All reports are in the history and in the Inbox. Unlike other mail, they cause no event for
    // incoming mail.
    let id = QueueId(first["QueueMsgID"].as_u64().unwrap());
    let retired = world.server.store().retired(id).await.unwrap().unwrap();
    assert!(retired.success, "the next hop took it");
    assert_eq!(retired.message.results.len(), 1 + reports);
    arrives(
        world.server.address("smtp").unwrap(),
        "user@remote.test",
        "app@example.org",
        "From: <user@remote.test>\r\nSubject: a question\r\n\r\n?",
    )
    .await;
    let told = incoming.wait_for(1).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].payload["Subject"], "a question");
    world.server.stop().await;
}

/// The events that the replies of the next hop cause. Gives the first event, and the reverse-path
/// of its message.
async fn events_of_attempts(
    world: &World,
    remote: &Remote,
    by: By,
    calls: &mut Calls<'_>,
) -> (Value, String) {
    send(world, by, LOGIN, "user@remote.test").await;
    let first = calls.next().await.payload;
    assert_eq!(kind(&first), ("delivered", false, false, 0));
    let from_id = first["FromID"].as_str().unwrap();
    let returns_to = reverse_path(&remote.wait_for(1).await[0].mail);
    assert_eq!(returns_to, format!("app+{from_id}@example.org"));
    assert!(!remote.received()[0].text.contains("X-Mox-Extra"));
    send(world, by, LOGIN, "no@remote.test").await;
    assert_eq!(
        kind(&calls.next().await.payload),
        ("failed", false, true, 550)
    );
    send(world, by, LOGIN, "no@remote.test").await;
    assert_eq!(
        kind(&calls.next().await.payload),
        ("suppressed", false, false, 0)
    );
    send(world, by, LOGIN, "later@remote.test").await;
    assert_eq!(
        kind(&calls.next().await.payload),
        ("delayed", false, false, 451)
    );
    let conf = world.dir.path().join("postrider.conf");
    let dropped = program::run(&conf, &["queue", "drop", "--to", "later@"]).await;
    assert!(dropped.status.success(), "{dropped:?}");
    assert_eq!(
        kind(&calls.next().await.payload),
        ("canceled", false, false, 0)
    );
    (first, returns_to)
}

/// The events that later reports cause. Gives the number of reports.
async fn events_of_reports(
    world: &World,
    by: By,
    calls: &mut Calls<'_>,
    first: &Value,
    returns_to: &str,
) -> usize {
    let mx = world.server.address("smtp").unwrap();
    let user = "user@remote.test";
    let reports = [
        (
            about(user, "delayed", "Status: 4.4.1"),
            ("delayed", true, false, 400),
        ),
        (
            about(user, "delivered", "Status: 2.0.0"),
            ("delivered", true, false, 0),
        ),
        (
            about(user, "relayed", "Status: 2.0.0"),
            ("relayed", true, false, 0),
        ),
        (
            about(user, "expanded", "Status: 2.0.0"),
            ("expanded", true, false, 0),
        ),
        (
            about(
                user,
                "failed",
                "Status: 5.2.2\nDiagnostic-Code: smtp; 552 5.2.2 mailbox full",
            ),
            ("failed", true, false, 552),
        ),
        (
            about(
                user,
                "failed",
                "Status: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 gone",
            ),
            ("failed", true, true, 550),
        ),
        (
            about(user, "vanished", "Status: 5.1.1"),
            ("unrecognized", true, false, 0),
        ),
    ];
    for (recipients, expected) in &reports {
        arrives(mx, "", returns_to, &report(recipients, "")).await;
        let payload = calls.next().await.payload;
        assert_eq!(kind(&payload), *expected, "{payload}");
        for field in ["QueueMsgID", "FromID", "MessageID", "Subject"] {
            assert_eq!(payload[field], first[field], "{field}");
        }
        assert_eq!(payload["Extra"]["K"], "v");
    }
    let vacation = "From: <user@remote.test>\r\nSubject: away\r\n\r\nI am away.";
    arrives(mx, user, returns_to, vacation).await;
    assert_eq!(
        kind(&calls.next().await.payload),
        ("unrecognized", false, false, 0)
    );
    // A report about a mailbox that does not exist suppresses the address.
    send(world, by, LOGIN, "us.er+shop@remote.test").await;
    assert_eq!(
        kind(&calls.next().await.payload),
        ("suppressed", false, false, 0)
    );
    reports.len() + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fromid_the_envid_or_the_message_id_lead_back() {
    let (remote, receiver) = (remote().await, Receiver::start(|_| 200).await);
    let world = world(&remote, &receiver, &receiver).await;
    let mx = world.server.address("smtp").unwrap();
    let mut calls = Calls(&receiver, 0);
    send(
        &world,
        By::Submission,
        "app@example.org",
        "user@remote.test",
    )
    .await;
    let sent = calls.next().await.payload;
    assert_eq!(
        (&sent["FromID"], &sent["Event"]),
        (&"".into(), &"delivered".into())
    );
    let mail = &remote.wait_for(1).await[0].mail;
    assert_eq!(reverse_path(mail), "app@example.org");
    let envid = envid(mail);
    let failed = about("user@remote.test", "failed", "Status: 5.2.2");
    let envelope = report(&format!("Original-Envelope-Id: {envid}\n{failed}"), "");
    let header = format!(
        "Message-ID: {}\nSubject: told\n",
        sent["MessageID"].as_str().unwrap()
    );
    for text in [envelope, report(&failed, &header)] {
        arrives(mx, "", "app@example.org", &text).await;
        let payload = calls.next().await.payload;
        assert_eq!(kind(&payload), ("failed", true, false, 500));
        assert_eq!(payload["QueueMsgID"], sent["QueueMsgID"]);
    }
    world.server.stop().await;
}

/// A recipient's server knows the ENVID of its own transaction, and the Message-ID. With them it
/// claims that another recipient's mailbox is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_of_one_recipient_can_not_suppress_another() {
    let (remote, receiver) = (remote().await, Receiver::start(|_| 200).await);
    let world = world(&remote, &receiver, &receiver).await;
    let mx = world.server.address("smtp").unwrap();
    let mut calls = Calls(&receiver, 0);
    let mut sent = Vec::new();
    for to in ["one@remote.test", "two@remote.test"] {
        send(&world, By::Submission, "app@example.org", to).await;
        sent.push(calls.next().await.payload);
    }
    let received = remote.wait_for(2).await;
    let (own, others) = (envid(&received[0].mail), envid(&received[1].mail));
    assert_ne!(own, others);
    let gone = about("two@remote.test", "failed", "Status: 5.1.1");
    let message_id = |event: &Value| {
        let id = event["MessageID"].as_str().unwrap();
        format!("Message-ID: {id}\nSubject: told\n")
    };
    let forged = [
        (
            format!("Original-Envelope-Id: {own}\n{gone}"),
            message_id(&sent[0]),
        ),
        (
            format!("Original-Envelope-Id: {own}\n{gone}"),
            message_id(&sent[1]),
        ),
        (gone.clone(), message_id(&sent[1])),
    ];
    for (report_text, header) in &forged {
        arrives(mx, "", "app@example.org", &report(report_text, header)).await;
    }
    // Mail still goes there. The reports with its own ENVID may concern the recipient of that
    // server, and nobody else.
    send(&world, By::Submission, "app@example.org", "two@remote.test").await;
    remote.wait_for(3).await;
    loop {
        let payload = calls.next().await.payload;
        let own = payload["QueueMsgID"] == sent[0]["QueueMsgID"];
        assert!(own || payload["Suppressing"] == false, "{payload}");
        if payload["Event"] == "delivered" {
            break;
        }
    }
    // The server of the recipient itself is believed.
    let honest = report(&format!("Original-Envelope-Id: {others}\n{gone}"), "");
    arrives(mx, "", "app@example.org", &honest).await;
    let payload = calls.next().await.payload;
    assert_eq!(payload["QueueMsgID"], sent[1]["QueueMsgID"], "{payload}");
    assert_eq!(payload["Suppressing"], true, "{payload}");
    send(&world, By::Submission, "app@example.org", "two@remote.test").await;
    let payload = calls.next().await.payload;
    assert_eq!(kind(&payload), ("suppressed", false, false, 0));
    world.server.stop().await;
}

/// One account reads the abuse address, and another one has sent the message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complaint_to_the_abuse_address_reaches_the_sender_and_the_reader() {
    let (remote, sender, reader) = (
        remote().await,
        Receiver::start(|_| 200).await,
        Receiver::start(|_| 200).await,
    );
    let hook = format!(
        "{{ url = {:?}, version = 1, events = [\"complained\"] }}",
        sender.url()
    );
    let setup = Setup {
        app: format!("outgoing_webhook = {hook}\n"),
        dynamics: format!(
            "destinations.\"abuse@example.org\" = {{}}\nincoming_webhook = {{ url = {:?} }}\n",
            reader.url()
        ),
        ..Setup::default()
    };
    let world = World::facing_with(&remote, setup).await;
    let text = "From: <app@example.org>\r\nMessage-ID: <one@example.org>\r\n\r\nx";
    let client = world.client("submission").await;
    let mut client = client.login("app@example.org", PASSWORD).await;
    let reply = client
        .submit("app@example.org", &["user@remote.test"], text)
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    remote.wait_for(1).await;
    let complaint = |message_id: &str| {
        let text = format!(
            "From: fbl@remote.test\nSubject: FW: x\nMIME-Version: 1.0\n\
             Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n\
             --b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n\
             User-Agent: fbl/1\nVersion: 1\nOriginal-Rcpt-To: <user@remote.test>\n\n\
             --b\nContent-Type: text/rfc822-headers\n\nMessage-ID: {message_id}\n\n--b--\n"
        );
        text.replace('\n', "\r\n")
    };
    let mx = world.server.address("smtp").unwrap();
    // The reader sees no difference between a message of another account and none.
    let mut read = Calls(&reader, 0);
    for message_id in ["<none@example.org>", "<one@example.org>"] {
        let text = complaint(message_id);
        arrives(mx, "fbl@remote.test", "abuse@example.org", &text).await;
        assert_eq!(read.next().await.payload["Subject"], "FW: x");
    }
    let told = Calls(&sender, 0).next().await.payload;
    assert_eq!(told["Event"], "complained", "{told}");
    assert_eq!(told["Recipient"], "user@remote.test");
    world.server.stop().await;
}

/// The server answers a report with 250, and dies before or while it tells the event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_a_report_and_its_event_loses_no_event_and_makes_none_twice() {
    let remote = remote().await;
    // The receiver does not answer the calls that a crash interrupts.
    let receiver = Receiver::start(|number| if number % 2 == 1 { 0 } else { 200 }).await;
    let setup = Setup {
        statics: format!(
            "[listeners.crash]\nips = [\"127.0.0.1\"]\ntls.certs = [{{ cert_file = \"localserve.crt\", key_file = \"localserve.key\" }}]\n\
             smtp = {{ enabled = true, port = 0 }}\n\
             submission = {{ enabled = true, port = 0, require_tls = false }}\n\
             [transports.remote.smtp]\nhost = \"127.0.0.1\"\nport = {}\nno_starttls = true\n",
            remote.address.port()
        ),
        app: format!(
            "from_id_login_addresses = [{LOGIN:?}]\noutgoing_webhook = {{ url = {:?} }}\n",
            receiver.url()
        ),
        dynamics: "[[routes]]\ntransport = \"remote\"\n".into(),
        ..Setup::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let conf = setup.write(dir.path());
    program::set_password(&conf);
    let mut server = program::Program::start(&conf);
    let mut client = Client::connect(server.address("crash.submission").await)
        .await
        .login(LOGIN, PASSWORD)
        .await;
    let text = crate::support::message("told");
    let reply = client
        .submit("app@example.org", &["user@remote.test"], &text)
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    drop(client);
    let returns_to = reverse_path(&remote.wait_for(1).await[0].mail);
    assert_eq!(receiver.wait_for(1).await[0].payload["Event"], "delivered");

    let actions = ["delayed", "relayed", "failed", "expanded"];
    let mut heard = 1;
    for (round, action) in actions.into_iter().enumerate() {
        let text = report(&about("user@remote.test", action, "Status: 4.0.0"), "");
        let mx = server.address("crash.smtp").await;
        arrives(mx, "", &returns_to, &text).await;
        if round % 2 == 0 {
            // The call is in progress. It gets no answer.
            heard += 1;
            receiver.wait_for(heard).await;
        }
        server.kill();
        server = program::Program::start(&conf);
        // Now the server calls until it gets an answer.
        loop {
            let calls = receiver.wait_for(heard + 1).await;
            heard = calls.len();
            let answered = (heard - 1).is_multiple_of(2);
            // The server repeats the event before if it died before it stored the answer.
            if answered && calls[heard - 1].payload["Event"] == action {
                break;
            }
            if !answered {
                server.kill();
                server = program::Program::start(&conf);
            }
        }
    }
    let calls = receiver.wait_for(heard).await;
    let mut events: Vec<(&str, &str)> = calls
        .iter()
        .map(|call| {
            let id = call.headers["x-mox-webhook-id"].to_str().unwrap();
            (id, call.payload["Event"].as_str().unwrap())
        })
        .collect();
    assert!(events.len() > actions.len() + 1, "some were called again");
    events.dedup();
    let names: Vec<_> = events.iter().map(|(_, event)| *event).collect();
    assert_eq!(
        names,
        ["delivered", "delayed", "relayed", "failed", "expanded"]
    );
}
