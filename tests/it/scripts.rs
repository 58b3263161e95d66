//! Rules and auto-responders of accounts, set by the mailbox API, at the delivery of mail.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use serde_json::{Value, json};

use crate::support::{
    PASSWORD, Setup, World, base64, dkim::DkimKey, dns::Zone, patience::patiently,
};

const STATICS: &str = "mail_api_http = { enabled = true, port = 0 }\n[policy]\ngreylist = false\n\
    first_time_sender_delay = \"0s\"\n";

/// Calls the mailbox API of a server as the holder of an account. The call has to succeed.
async fn call(world: &World, login: &str, (method, path): (&str, &str), body: Value) -> Value {
    let address = world.server.address("mail_api_http").unwrap();
    let url = format!("http://{address}/api/v1/mail/{path}");
    let method = method.parse().unwrap();
    let request = reqwest::Client::new().request(method, url);
    let request = request.basic_auth(login, Some(PASSWORD)).json(&body);
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Adds a rule of app about mail with this word in its subject.
async fn rule(world: &World, word: &str, action: Value) {
    let rule = json!({
        "name": word,
        "conditions": [{"field": "subject", "operator": "contains", "value": word}],
        "actions": [action],
    });
    let added = call(world, "app@example.org", ("POST", "rules"), rule).await;
    assert!(added["sieve"].as_str().unwrap().contains(word), "{added}");
}

/// Takes a message from a stranger, and gives the reply to its text.
async fn deliver(world: &World, subject: &str) -> String {
    let text = format!(
        "From: <ann@stranger.test>\r\nTo: <app@example.org>\r\nSubject: {subject}\r\n\r\nHi\r\n"
    );
    let mut client = world.client("smtp").await;
    client.expect("EHLO client.test", "250").await;
    client
        .submit("ann@stranger.test", &["app@example.org"], &text)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_decide_what_becomes_of_mail() {
    let setup = Setup {
        statics: STATICS.to_owned(),
        ..Setup::default()
    };
    let world = World::start(setup).await;
    rule(
        &world,
        "bill",
        json!({"action_type": "move", "value": "Bills"}),
    )
    .await;
    rule(
        &world,
        "spam",
        json!({"action_type": "reject", "value": "no thanks"}),
    )
    .await;
    rule(&world, "noise", json!({"action_type": "discard"})).await;
    rule(
        &world,
        "pass",
        json!({"action_type": "forward", "value": "x@remote.test"}),
    )
    .await;
    rule(&world, "star", json!({"action_type": "mark_flagged"})).await;
    for subject in ["plain", "your bill", "noise", "pass it on", "a star"] {
        let reply = deliver(&world, subject).await;
        assert!(reply.starts_with("250"), "{subject}: {reply}");
    }
    let refused = deliver(&world, "spam for you").await;
    assert!(refused.starts_with("550 5.7.1"), "{refused}");
    assert!(refused.contains("no thanks"), "{refused}");
    let store = world.server.store();
    let in_mailbox = async |mailbox: &str| {
        let found = store.list_mails("app", Some(mailbox), None, 100).await;
        found.unwrap().items
    };
    assert_eq!(in_mailbox("Bills").await.len(), 1);
    // Without allow_forward the message stays.
    let inbox = in_mailbox("Inbox").await;
    assert_eq!(inbox.len(), 3);
    let flagged = inbox
        .iter()
        .filter(|mail| mail.flags.iter().any(|it| it == "\\flagged"));
    assert_eq!(flagged.count(), 1);
    assert_eq!(store.counts().await.queued, 0);
    world.server.stop().await;
}

/// Where the MX host of a server seems to be.
const fn mx(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// A server for `NAME.test` with the account NAME, whose auto-responder answers everybody.
async fn answering(name: &'static str, dns: SocketAddr, key: &Path) -> (World, String) {
    let login = format!("{name}@{name}.test");
    let setup = Setup {
        dns: Some(dns),
        statics: STATICS.to_owned(),
        dynamics: format!(
            "[domains.\"{name}.test\".dkim]\nsign = [\"k\"]\n\
             selectors.k = {{ private_key_file = {key:?}, algorithm = \"ed25519\" }}\n\
             [accounts.{name}]\ndomain = \"{name}.test\"\n\
             destinations.\"{login}\" = {{}}\n"
        ),
        ..Setup::default()
    };
    let world = World::start(setup).await;
    world.server.ensure_password(name, PASSWORD).await.unwrap();
    let responder = json!({"plain": format!("{name} is away"), "subject": "Away"});
    call(&world, &login, ("PUT", "auto-responder"), responder).await;
    (world, login)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_that_answer_each_other_exchange_one_answer() {
    // Nobody asks for SPF of a client at loopback, so DKIM proves who writes.
    let (key, keys) = (DkimKey::new(), tempfile::tempdir().unwrap());
    let file = keys.path().join("key.pem");
    postrider_config::replace_private(&file, key.pem().as_bytes()).unwrap();
    let dns = Zone::default()
        .mx("ann.test", 10, "mx.ann.test")
        .address("mx.ann.test", mx(3))
        .txt("k._domainkey.ann.test", &key.record())
        .txt("_dmarc.ann.test", "v=DMARC1; p=none")
        .mx("bob.test", 10, "mx.bob.test")
        .address("mx.bob.test", mx(4))
        .txt("k._domainkey.bob.test", &key.record())
        .txt("_dmarc.bob.test", "v=DMARC1; p=none")
        .serve()
        .await;
    let (ann, from) = answering("ann", dns, &file).await;
    let (bob, to) = answering("bob", dns, &file).await;
    ann.dialer.lead(mx(4), bob.server.address("smtp").unwrap());
    bob.dialer.lead(mx(3), ann.server.address("smtp").unwrap());

    let inbox = async |world: &World, account: &str| {
        let store = world.server.store();
        let found = store.list_mails(account, Some("Inbox"), None, 100).await;
        found.unwrap().items
    };
    let all_quiet = async || {
        let (of_ann, of_bob) = (ann.server.store(), bob.server.store());
        loop {
            let queued = of_ann.counts().await.queued + of_bob.counts().await.queued;
            if queued == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    for (number, answers) in [(1, 1), (2, 1)] {
        let text = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nSubject: Number {number}\r\n\r\nAre you there?\r\n"
        );
        let mut client = ann.client("submission").await.login(&from, PASSWORD).await;
        let reply = client.submit(&from, &[&to], &text).await;
        assert!(reply.starts_with("250"), "{reply}");
        let arrives = async {
            while inbox(&bob, "bob").await.len() < number {
                tokio::task::yield_now().await;
            }
        };
        patiently("the message at bob's", arrives).await;
        patiently("the end of all deliveries", all_quiet()).await;
        assert_eq!(inbox(&ann, "ann").await.len(), answers, "message {number}");
    }
    let answer = &inbox(&ann, "ann").await[0];
    let stored = ann.server.store().mail_message(answer).await.unwrap();
    let text = String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap();
    assert!(text.contains("Auto-Submitted: auto-replied\r\n"), "{text}");
    assert!(text.contains(&base64(b"bob is away")), "{text}");
    assert!(text.contains("Return-Path: <>\r\n"), "{text}");
    ann.server.stop().await;
    bob.server.stop().await;
}
