//! Delivery to LMTP servers.

use postrider_smtp::ReversePath;
use postrider_store::{Event, Notify, QueueId};

use crate::{
    lmtp_server::LmtpServer,
    support::{Message, Setup, World},
};

/// The routes of the tests: example.com and our own domain go to the LMTP server.
const ROUTES: &str = "[[routes]]\nto_domain = [\"example.com\", \"example.org\"]\n\
                      transport = \"store\"\n";

#[tokio::test]
async fn each_recipient_of_an_lmtp_server_has_its_own_result() {
    let (server, address) = LmtpServer::tcp(|address, text| match (address, text) {
        ("unknown@example.com", false) => Some("550 5.1.1 no such user"),
        ("full@example.com", true) => Some("552 5.2.2 mailbox full"),
        ("busy@example.com", true) => Some("451 4.2.0 mailbox in use"),
        _ => None,
    })
    .await;
    let world = World::start(Setup {
        statics: "[transports.store.lmtp]\nhost = \"store.test\"\nport = 24\n",
        dynamics: ROUTES,
        ..Setup::default()
    });
    world.host("store.test", "192.0.2.24");
    world.lead_to("192.0.2.24", address);
    let [good, unknown, full, busy] = world
        .add(Message::to(&[
            "good@example.com",
            "unknown@example.com",
            "full@example.com",
            "busy@example.com",
        ]))
        .await;
    let mut events = world.events(4).await;
    events.sort();
    assert_eq!(
        events,
        [
            (good, Event::Delivered),
            (unknown, Event::Failed),
            (full, Event::Failed),
            (busy, Event::Delayed),
        ]
    );
    let got = server.wait_for(1).await;
    assert_eq!(got.len(), 1, "they share a transaction");
    assert!(got[0].text.ends_with("\r\n\r\nHi.\r\n"), "{}", got[0].text);
    let recipients: Vec<&str> = got[0].recipients.iter().map(|(to, _)| &**to).collect();
    let accepted = ["good@example.com", "full@example.com", "busy@example.com"];
    assert_eq!(recipients, accepted);
    let retired = world.store.retired(good).await.unwrap().unwrap();
    assert_eq!(retired.message.results[0].remote, "store.test [192.0.2.24]");
    world.stop().await;
}

#[tokio::test]
async fn a_unix_socket_takes_mail_and_reports_of_it_say_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lmtp");
    let server = LmtpServer::unix(&path, |_, _| None);
    let world = World::start(Setup {
        statics: &format!("[transports.store.lmtp]\nsocket = {path:?}\n"),
        dynamics: ROUTES,
        ..Setup::default()
    });
    let notify = Notify {
        success: true,
        ..Notify::NEVER
    };
    let message = Message {
        notify,
        ..Message::to(&["ann@example.org"])
    };
    let [id] = world.add(message).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    let got = server.wait_for(1).await;
    assert_eq!(
        got[0].mail.split(' ').nth(1),
        Some("FROM:<ann@example.org>")
    );
    let retired = world.store.retired(id).await.unwrap().unwrap();
    let remote = &retired.message.results[0].remote;
    assert_eq!(*remote, path.display().to_string());
    let reports = world.mails().await;
    assert!(
        reports[0].contains("\r\nAction: delivered\r\n"),
        "{reports:?}"
    );
    world.stop().await;
}

/// A message goes by a transport that is forced on it, also while the server is away.
#[tokio::test]
async fn an_lmtp_server_that_is_away_gets_the_mail_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lmtp");
    let world = World::start(Setup {
        statics: &format!("[transports.store.lmtp]\nsocket = {path:?}\n"),
        dynamics: ROUTES,
        ..Setup::default()
    });
    let message = Message {
        reverse_path: ReversePath::Null,
        ..Message::to(&["a@example.com", "b@example.com"])
    };
    let start = world.now();
    let ids: [QueueId; 2] = world.add(message).await;
    let queued = world
        .queued_until(|queued| queued.iter().all(|message| message.next_attempt > start))
        .await;
    let errors = queued.iter().flat_map(|message| &message.results);
    for result in errors {
        assert!(result.error.contains("the socket"), "{}", result.error);
    }
    let server = LmtpServer::unix(&path, |_, _| None);
    world.clock.advance(std::time::Duration::from_secs(3600));
    server.wait_for(1).await;
    let events = world.events(3).await;
    for id in ids {
        assert!(events.contains(&(id, Event::Delivered)), "{events:?}");
    }
    world.stop().await;
}
