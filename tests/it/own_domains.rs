//! Mail that our own users and applications send to our own domains: it never asks DNS, and goes
//! where the same mail would go from outside.

use std::collections::BTreeMap;

use postrider_store::Mail;
use serde_json::Value;

use crate::support::{Setup, World, patience::patiently, receiver::Receiver, webapi};

const LOGIN: &str = "app@example.org";

/// The other hosted domain, an alias, a forward inside, a circle of forwards, and a catch-all.
const MORE: &str = r#"
destinations."away@example.org" = { forward = ["bob@hosted.test"] }
destinations."round@example.org" = { forward = ["about@hosted.test"] }
[domains."hosted.test"]
[domains."all.test"]
[accounts.bob]
domain = "hosted.test"
destinations."bob@hosted.test" = { rulesets = [{ msg_from_regexp = "^app@", mailbox = "Known" }] }
destinations."about@hosted.test" = { forward = ["round@example.org"] }
destinations."@all.test" = {}
[accounts.small]
domain = "hosted.test"
quota = 10
destinations."small@hosted.test" = {}
[domains."example.org".aliases.team]
addresses = ["app@example.org", "other@example.org", "bob@hosted.test"]
"#;

/// A server without DNS: nobody answers there. Both webhooks of app go to the receiver.
async fn start(receiver: &Receiver, more: &str) -> World {
    let url = receiver.url();
    World::start(Setup {
        app: format!(
            "outgoing_webhook = {{ url = {url:?} }}\nincoming_webhook = {{ url = {url:?} }}\n"
        ),
        dynamics: more.to_owned(),
        ..Setup::default()
    })
    .await
}

async fn mails(world: &World, account: &str) -> Vec<(Mail, String)> {
    let store = world.server.store();
    let page = store.list_mails(account, None, None, 99).await.unwrap();
    let mut mails = Vec::new();
    for mail in page.items {
        let stored = store.mail_message(&mail).await.unwrap();
        let text = String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap();
        mails.push((mail, text));
    }
    mails
}

async fn submit(world: &World, to: &str) -> String {
    let text = format!("From: <{LOGIN}>\r\nTo: <{to}>\r\nSubject: hi\r\n\r\nHello.");
    world.submission().await.submit(LOGIN, &[to], &text).await
}

async fn send(world: &World, to: &str) -> Value {
    let address = world.server.address("webapi_http").unwrap();
    let request = format!(r#"{{"To":[{{"Address":"{to}"}}],"Subject":"sent","Text":"Hello."}}"#);
    webapi(address, LOGIN, "Send", &request).await
}

/// Waits until no message is in the queue.
async fn queue_is_empty(world: &World) {
    let store = world.server.store();
    let emptied = async {
        while store.counts().await.queued > 0 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the end of all messages", emptied).await;
}

/// The events of outgoing messages, by name: how many, and the last error.
async fn events(receiver: &Receiver, count: usize) -> BTreeMap<String, (usize, String)> {
    let mut events: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let calls = receiver.wait_for(count).await;
    for call in calls {
        let event = call.payload["Event"].as_str().unwrap_or("incoming");
        let entry = events.entry(event.to_owned()).or_default();
        entry.0 += 1;
        entry.1 = call.payload["Error"].as_str().unwrap_or("").to_owned();
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_to_an_address_here_is_delivered_without_dns() {
    let receiver = Receiver::start(|_| 200).await;
    let world = start(&receiver, MORE).await;
    for to in ["other@example.org", "bob@hosted.test", "any@all.test"] {
        let reply = submit(&world, to).await;
        assert!(reply.starts_with("250 2.0.0 "), "{to}: {reply}");
        send(&world, to).await;
    }
    // The sender's own address has both events.
    submit(&world, "info@example.org").await;
    let events = events(&receiver, 8).await;
    assert_eq!(events["delivered"], (7, String::new()));
    assert_eq!(events["incoming"].0, 1);
    assert_eq!(mails(&world, "other").await.len(), 2);
    let bob = mails(&world, "bob").await;
    let known = bob.iter().filter(|(mail, _)| mail.mailbox == "Known");
    assert_eq!((known.count(), bob.len()), (2, 4), "rulesets count");
    for (mail, text) in bob.iter().filter(|(mail, _)| mail.mailbox == "Known") {
        assert!(
            text.starts_with("Return-Path: <app@example.org>\r\n"),
            "{text}"
        );
        let to = "Delivered-To: bob@hosted.test\r\n";
        assert!(
            text.contains(to) && text.contains("\twith LOCAL id "),
            "{text}"
        );
        assert_eq!(mail.size, text.len() as u64);
        let arrival = mail.smtp.as_ref().unwrap();
        assert!(arrival.mail_from_validated && arrival.msg_from_validated);
    }
    let info = mails(&world, "app").await;
    assert_eq!(info.len(), 1);
    assert_eq!(info[0].0.mailbox, "Info");
    // A restart finds the mail, and nothing is delivered again.
    let world = world.restart().await;
    assert_eq!(mails(&world, "bob").await.len(), 4);
    world.server.stop().await;
    assert_eq!(receiver.wait_for(0).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_to_an_unknown_address_here_fails_with_a_report() {
    let receiver = Receiver::start(|_| 200).await;
    let world = start(&receiver, MORE).await;
    let reply = submit(&world, "nobody@example.org").await;
    assert!(reply.starts_with("550 5.1.1 "), "{reply}");
    send(&world, "nobody@hosted.test").await;
    let events = events(&receiver, 1).await;
    let (count, error) = &events["failed"];
    assert_eq!(*count, 1, "{events:?}");
    assert!(error.contains("RCPT: 550 5.1.1 "), "{error}");
    let reports = mails(&world, "app").await;
    assert_eq!(reports.len(), 1);
    let (mail, text) = &reports[0];
    assert!(mail.dsn, "{mail:?}");
    assert!(
        text.contains("Action: failed\r\nStatus: 5.1.1\r\n"),
        "{text}"
    );
    // A full mailbox is no end.
    send(&world, "small@hosted.test").await;
    let events = self::events(&receiver, 2).await;
    assert_eq!(events["failed"].0, 1);
    let (count, error) = &events["delayed"];
    assert_eq!(*count, 1);
    assert!(error.contains("452 4.2.2 "), "{error}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_forwards_and_circles_have_one_end() {
    let receiver = Receiver::start(|_| 200).await;
    let world = start(&receiver, MORE).await;
    // A list that only its members may write to: a login is the proof.
    submit(&world, "team@example.org").await;
    send(&world, "away@example.org").await;
    let told = events(&receiver, 2).await;
    assert_eq!(told["delivered"], (2, String::new()));
    assert_eq!(mails(&world, "other").await.len(), 1);
    assert!(
        mails(&world, "app").await.is_empty(),
        "its author gets no copy"
    );
    // The forward of a forward comes back to the first address, where it ends.
    send(&world, "round@example.org").await;
    let told = events(&receiver, 3).await;
    assert_eq!(told["delivered"].0, 3);
    queue_is_empty(&world).await;
    let bob = mails(&world, "bob").await;
    assert_eq!(bob.len(), 2, "{bob:?}");
    let forwards = bob.iter().filter(|(_, text)| {
        let hops = "Delivered-To: bob@hosted.test\r\n";
        text.contains(hops) && text.contains("Delivered-To: away@example.org\r\n")
    });
    assert_eq!(forwards.count(), 1, "{bob:?}");
    // The report of the circle goes to its sender, who is here.
    let reports = mails(&world, "app").await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].1.contains("Status: 5.4.6\r\n"),
        "{}",
        reports[0].1
    );
    world.server.stop().await;
}
