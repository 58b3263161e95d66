//! Messages with signatures.

use super::*;
use crate::checks::{
    dkim::tests::support::{ed25519, rsa, sign},
    questions::MAX_QUESTIONS,
};

const TAGS: &str = "v=1; a=ed25519-sha256; d=remote.test; s=k; h=from:subject; c=relaxed/relaxed";
const KEY: &str = "k._domainkey.remote.test";

/// A world in which the remote host has keys.
fn world() -> World {
    let world = World::new();
    for (name, key) in [(KEY, ed25519()), ("r._domainkey.remote.test", rsa())] {
        world.dns.add(name, Record::Txt(key.record.clone().into()));
    }
    world
}

fn key_question() -> Question {
    Question::new(KEY, RecordType::Txt)
}

/// The results of DKIM in a text, without their properties.
fn outcomes(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_start);
    let results = lines.filter_map(|line| line.strip_prefix("dkim="));
    results
        .map(|result| result.split(['\r', ';', ' ']).next().unwrap())
        .collect()
}

#[tokio::test]
async fn signatures_are_verified() {
    let world = world();
    let signed = sign(ed25519(), TAGS, MESSAGE);
    let simple = "v=1; a=rsa-sha256; d=remote.test; s=r; h=from:subject; c=simple/simple";
    let both = sign(rsa(), simple, &signed);
    let (_, text) = send(&world, REMOTE, "ann@remote.test", &both).await;
    assert_eq!(outcomes(&text), ["pass", "pass"], "{text}");
    assert!(text.ends_with(&both), "{text}");
    assert!(
        text.contains(
            "\tdkim=pass header.d=remote.test header.s=k header.a=ed25519-sha256 header.b="
        ),
        "{text}"
    );
    // A broken signature is as good as none.
    let broken = signed.replace("Hello", "Hallo");
    let (_, text) = send(&world, REMOTE, "ann@remote.test", &broken).await;
    assert!(
        text.contains("\tdkim=fail reason=\"body hash did not verify\""),
        "{text}"
    );
    // Without a signature, there is no question for a key.
    let asked = world.dns.asked(&key_question());
    let (_, text) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    assert!(outcomes(&text).is_empty(), "{text}");
    assert_eq!(world.dns.asked(&key_question()), asked);
}

/// The questions of all checks of a message, and of an equal one soon after it.
#[tokio::test]
async fn a_message_needs_few_questions_and_the_next_one_none() {
    let mut world = world();
    world.dns.add(
        "_dmarc.remote.test",
        Record::Txt(b"v=DMARC1; p=reject".to_vec()),
    );
    let clock = Arc::clone(&world.context.clock);
    let now: postrider_dns::Now = Arc::new(move || clock.moment().0);
    let (dns, limits) = (world.dns.clone(), postrider_dns::CacheLimits::default());
    let caching = postrider_dns::CachingResolver::new(dns, limits, TIME_LIMIT, now);
    world.context.resolver = Arc::new(caching);
    let simple = "v=1; a=rsa-sha256; d=remote.test; s=r; h=from:subject; c=simple/simple";
    let signed = sign(rsa(), simple, &sign(ed25519(), TAGS, MESSAGE));
    for _ in 0..2 {
        let (_, text) = send(&world, REMOTE, "ann@remote.test", &signed).await;
        for result in ["iprev=pass", "spf=pass", "dkim=pass", "dmarc=pass"] {
            assert!(text.contains(result), "{text}");
        }
        // iprev: PTR, A, AAAA; sender: MX; SPF: TXT, and the A that iprev has asked for already;
        // two keys; DMARC.
        assert_eq!(world.dns.asked_in_all(), 8);
    }
}

/// The signature covers a field that is removed because it has our prefix.
#[tokio::test]
async fn the_section_is_verified_as_it_came() {
    let world = world();
    let tags = TAGS.replace("h=from", "h=x-postrider-test:from");
    let signed = sign(
        ed25519(),
        &tags,
        &format!("X-Postrider-Test: 1\r\n{MESSAGE}"),
    );
    let (_, text) = send(&world, REMOTE, "ann@remote.test", &signed).await;
    assert_eq!(outcomes(&text), ["pass"], "{text}");
    assert!(!text.contains("X-Postrider-Test:"), "{text}");
}

#[tokio::test]
async fn a_text_in_a_file_is_hashed_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world();
    world.context.store = Store::open(postrider_store::Options::new(folder.path())).unwrap();
    // No memory beside what is free.
    world.context.memory = TextMemory::new(0);
    let large = format!("{MESSAGE}{}", "line \r\n".repeat(100_000));
    let signed = sign(ed25519(), TAGS, &large);
    let (client, transaction) = (client(REMOTE), transaction("ann@remote.test"));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    session.data(&client, &transaction).await.unwrap();
    for piece in signed.as_bytes().chunks(5000) {
        session.text(piece).await.unwrap();
    }
    let reply = session.end(&client, &transaction).await.to_string();
    assert!(reply.starts_with("250 "), "{reply}");
    let (mail, text) = world.mails().await.pop().unwrap();
    assert!(mail.size > 700_000);
    assert_eq!(outcomes(&text), ["pass"]);
}

/// The keys are asked for before the text ends. A text that comes slowly costs the checks no time.
#[tokio::test]
async fn keys_have_their_own_time_while_the_text_comes() {
    let world = world();
    let signed = sign(ed25519(), TAGS, MESSAGE);
    let (client, transaction) = (client(REMOTE), transaction("ann@remote.test"));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    session.data(&client, &transaction).await.unwrap();
    let spf = Question::new("remote.test", RecordType::Txt);
    while world.dns.asked(&spf) == 0 {
        tokio::task::yield_now().await;
    }
    world.clock.advance(2 * TIME_LIMIT);
    let (begin, end) = signed.split_at(signed.len() - 4);
    session.text(begin.as_bytes()).await.unwrap();
    while world.dns.asked(&key_question()) == 0 {
        tokio::task::yield_now().await;
    }
    world.clock.advance(2 * TIME_LIMIT);
    session.text(end.as_bytes()).await.unwrap();
    assert!(
        session
            .end(&client, &transaction)
            .await
            .to_string()
            .starts_with("250 ")
    );
    let (_, text) = world.mails().await.pop().unwrap();
    assert_eq!(outcomes(&text), ["pass"], "{text}");
}

#[tokio::test]
async fn silent_keys_are_a_temporary_error_and_end_with_rset() {
    let world = world();
    world.dns.hang(KEY);
    let signed = sign(ed25519(), TAGS, MESSAGE);
    let (client, transaction) = (client(REMOTE), transaction("ann@remote.test"));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, &signed).await;
    while world.dns.asked(&key_question()) == 0 {
        tokio::task::yield_now().await;
    }
    session.reset();
    while Arc::strong_count(&world.context.clock) > 2 {
        tokio::task::yield_now().await;
    }
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, &signed).await;
    while world.dns.asked(&key_question()) < 2 {
        tokio::task::yield_now().await;
    }
    let later = async { world.clock.advance(TIME_LIMIT) };
    let (reply, ()) = tokio::join!(session.end(&client, &transaction), later);
    assert!(reply.to_string().starts_with("250 "));
    let (_, text) = world.mails().await.pop().unwrap();
    assert_eq!(outcomes(&text), ["temperror"], "{text}");
}

/// A sender with many signatures gets no more questions than others.
#[tokio::test]
async fn keys_count_as_questions_of_the_message() {
    let world = world();
    let mut signed = MESSAGE.to_owned();
    for n in 0..200 {
        signed = format!(
            "DKIM-Signature: v=1; a=rsa-sha256; d=d{n}.test; s=k; h=from:subject; bh=AAAA; \
             b=AAAA\r\n{signed}"
        );
    }
    let (_, text) = send(&world, REMOTE, "ann@remote.test", &signed).await;
    assert!(outcomes(&text).len() <= 11, "{text}");
    let asked = (0..200).filter(|n| {
        let name = format!("k._domainkey.d{n}.test");
        world.dns.asked(&Question::new(&name, RecordType::Txt)) > 0
    });
    assert!(asked.count() <= 10 && MAX_QUESTIONS >= 10);
}
