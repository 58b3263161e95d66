//! Questions that start before their answers are needed.

use super::{
    dmarc::{FORGED, signed},
    *,
};

fn reverse() -> Question {
    Question::reverse([192, 0, 2, 7].into())
}

fn record(name: &str) -> Question {
    Question::new(name, RecordType::Txt)
}

/// Waits until a question was asked this often.
async fn until_asked(world: &World, question: &Question, times: usize) {
    while world.dns.asked(question) < times {
        tokio::task::yield_now().await;
    }
}

/// A message in a session that goes on. Gives the reply.
async fn one(session: &mut MxSession, client: &Client) -> String {
    let transaction = transaction("ann@remote.test");
    begin(session, client, &transaction).await;
    text(session, client, &transaction, MESSAGE).await;
    session.end(client, &transaction).await.to_string()
}

#[tokio::test]
async fn the_names_of_a_client_are_asked_for_once_when_it_connects() {
    let world = World::new();
    let remote = client(REMOTE);
    let mut session = world.session();
    session.greeting(&remote).await.unwrap();
    until_asked(&world, &reverse(), 1).await;
    for _ in 0..2 {
        let reply = one(&mut session, &remote).await;
        assert!(reply.starts_with("250 "), "{reply}");
        // STARTTLS.
        session.restart();
    }
    assert_eq!(world.dns.asked(&reverse()), 1);
    for (_, text) in world.mails().await {
        assert!(
            text.contains("; iprev=pass policy.iprev=192.0.2.7;"),
            "{text}"
        );
    }
    // XCLIENT brings another client into the session.
    let other = client("192.0.2.8:1");
    session.greeting(&other).await.unwrap();
    one(&mut session, &other).await;
    let (_, text) = world.mails().await.pop().unwrap();
    assert!(text.contains("policy.iprev=192.0.2.8;"), "{text}");
    let question = Question::reverse([192, 0, 2, 8].into());
    assert_eq!(world.dns.asked(&question), 1);
}

#[tokio::test]
async fn names_without_an_answer_are_asked_for_again() {
    let world = World::new();
    world.dns.fail(reverse().name());
    let client = client(REMOTE);
    let mut session = world.session();
    session.greeting(&client).await.unwrap();
    until_asked(&world, &reverse(), 1).await;
    world.dns.mend(reverse().name());
    one(&mut session, &client).await;
    let (_, text) = world.mails().await.pop().unwrap();
    assert!(text.contains("; iprev=pass "), "{text}");
    assert_eq!(world.dns.asked(&reverse()), 2);
}

#[tokio::test]
async fn the_questions_about_a_client_end_with_its_session() {
    let world = World::new();
    world.dns.hang(reverse().name());
    let clocks = || Arc::strong_count(&world.context.clock);
    let before = clocks();
    let mut session = world.session();
    session.greeting(&client(REMOTE)).await.unwrap();
    until_asked(&world, &reverse(), 1).await;
    assert!(clocks() > before + 1, "the check holds the clock");
    drop(session);
    while clocks() > before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn clients_on_this_machine_and_of_localserve_are_not_asked_for() {
    let mut world = World::new();
    let here = Question::reverse([127, 0, 0, 1].into());
    world
        .session()
        .greeting(&client("127.0.0.1:1"))
        .await
        .unwrap();
    world.context.simulate = true;
    world.session().greeting(&client(REMOTE)).await.unwrap();
    assert_eq!(
        send(&world, REMOTE, "x@remote.test", MESSAGE)
            .await
            .0
            .mailbox,
        "Inbox"
    );
    assert_eq!(world.dns.asked(&here) + world.dns.asked(&reverse()), 0);
}

#[tokio::test]
async fn the_records_of_dmarc_are_asked_for_before_the_end_and_once() {
    let world = World::new();
    let policy = Record::Txt(b"v=DMARC1; p=reject".to_vec());
    world.dns.add("_dmarc.bank.test", policy);
    let (client, transaction) = (client(REMOTE), transaction("x@remote.test"));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    until_asked(&world, &record("_dmarc.remote.test"), 1).await;
    let message = signed("mail.bank.test", FORGED);
    let (header, body) = message.split_at(message.find("\r\n\r\n").unwrap() + 4);
    session.data(&client, &transaction).await.unwrap();
    session.text(header.as_bytes()).await.unwrap();
    until_asked(&world, &record("_dmarc.test"), 1).await;
    session.text(body.as_bytes()).await.unwrap();
    let reply = session.end(&client, &transaction).await.to_string();
    assert!(reply.starts_with("550 5.7.1 rejected per DMARC"), "{reply}");
    for name in ["_dmarc.remote.test", "_dmarc.bank.test", "_dmarc.test"] {
        assert_eq!(world.dns.asked(&record(name)), 1, "{name}");
    }
}

#[tokio::test]
async fn a_record_without_an_answer_is_asked_for_again_at_the_end() {
    let world = World::new();
    let name = "_dmarc.remote.test";
    world.dns.fail(name);
    let (client, transaction) = (client(REMOTE), transaction("x@remote.test"));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, MESSAGE).await;
    until_asked(&world, &record(name), 2).await;
    world.dns.mend(name);
    let reply = session.end(&client, &transaction).await.to_string();
    assert!(reply.starts_with("250 "), "{reply}");
    let (_, text) = world.mails().await.pop().unwrap();
    assert!(text.contains("\tdmarc=none "), "{text}");
}
