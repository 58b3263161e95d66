//! The queue over real sockets. The store is in memory, the test moves the clock, and remote
//! servers follow a script.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

#[path = "queue/check.rs"]
mod check;
#[path = "queue/conversion.rs"]
mod conversion;
#[path = "queue/dane.rs"]
mod dane;
#[path = "queue/families.rs"]
mod families;
#[path = "../../tests/it/support/https.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::new_without_default,
    reason = "the whole-server tests share it"
)]
mod https_host;
#[path = "queue/lmtp.rs"]
mod lmtp;
#[path = "../../tests/it/support/lmtp.rs"]
#[allow(unreachable_pub, reason = "the whole-server tests share it")]
mod lmtp_server;
#[path = "queue/logins.rs"]
mod logins;
#[path = "queue/mta_sts.rs"]
mod mta_sts;
#[path = "queue/passed.rs"]
mod passed;
#[path = "../../tests/it/support/patience.rs"]
#[allow(unreachable_pub, reason = "the whole-server tests share it")]
mod patience;
#[path = "../../tests/it/support/remote.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the whole-server tests share it, and use more of it"
)]
mod remote;
#[path = "queue/reports_out.rs"]
mod reports_out;
#[path = "../../tests/it/support/socks.rs"]
#[allow(unreachable_pub, reason = "the whole-server tests share it")]
mod socks_server;
#[path = "queue/sources.rs"]
mod sources;
#[allow(dead_code, reason = "the other tests of this crate use more of it")]
mod support;
#[path = "queue/tls.rs"]
mod tls;
#[path = "queue/traces.rs"]
mod traces;
#[path = "queue/transcripts.rs"]
mod transcripts;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use postrider_config::{DkimKey, Dynamic};
use postrider_smtp::ReversePath;
use postrider_store::{Event, Notify, QueueId};
use remote::{Act, Point, Remote};
use support::{Message, Setup, World};

#[tokio::test]
async fn hosts_are_tried_in_the_order_of_their_preference() {
    let world = World::start(Setup::default());
    let remote = Remote::start(|_, _| None).await;
    world.mx("remote.test", &[(20, "b.test"), (10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.host("b.test", "192.0.2.2");
    world.lead("192.0.2.2", &remote);
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert_eq!(retired.message.results[0].remote, "b.test [192.0.2.2]");
    assert_eq!(retired.message.attempts, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_permanent_answer_of_the_first_host_is_the_last_word() {
    let world = World::start(Setup::default());
    let first = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("RCPT") => Some(Act::Say("550 5.1.1 no")),
        _ => None,
    })
    .await;
    let second = Remote::start(|_, _| None).await;
    world.mx("remote.test", &[(10, "a.test"), (20, "b.test")]);
    world.host("a.test", "192.0.2.1");
    world.host("b.test", "192.0.2.2");
    world.lead("192.0.2.1", &first);
    world.lead("192.0.2.2", &second);
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Failed)]);
    assert!(second.received().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_temporary_answer_of_the_first_host_leads_to_the_second() {
    let world = World::start(Setup::default());
    let first = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("MAIL") => Some(Act::Say("450 4.3.2 busy")),
        _ => None,
    })
    .await;
    let second = Remote::start(|_, _| None).await;
    world.mx("remote.test", &[(10, "a.test"), (20, "b.test")]);
    world.host("a.test", "192.0.2.1");
    world.host("b.test", "192.0.2.2");
    world.lead("192.0.2.1", &first);
    world.lead("192.0.2.2", &second);
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    world.stop().await;
}

#[tokio::test]
async fn literals_need_no_dns_and_both_families_are_tried() {
    let world = World::start(Setup::default());
    let remote = Remote::start(|_, _| None).await;
    world.lead("192.0.2.7", &remote);
    world.lead("2001:db8::7", &remote);
    world.mx("six.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.99");
    world.host("a.test", "2001:db8::7");
    let ids: [QueueId; 3] = world
        .add(Message::to(&[
            "x@[192.0.2.7]",
            "x@[IPv6:2001:db8::7]",
            "x@six.test",
        ]))
        .await;
    let mut events = world.events(3).await;
    events.sort();
    assert_eq!(events, ids.map(|id| (id, Event::Delivered)));
    world.stop().await;
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_host_and_one_that_wants_no_mail_gets_none() {
    let world = World::start(Setup::default());
    let remote = Remote::start(|_, _| None).await;
    world.host("plain.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.resolver.set_mx("null.test", &[(0, "")]);
    let [plain, null, none] = world
        .add(Message::to(&["x@plain.test", "x@null.test", "x@none.test"]))
        .await;
    let mut events = world.events(3).await;
    events.sort();
    assert_eq!(
        events,
        [
            (plain, Event::Delivered),
            (null, Event::Failed),
            (none, Event::Failed)
        ]
    );
    let error = async |id| {
        let retired = world.store.retired(id).await.unwrap().unwrap();
        let attempt = retired.message.results[0].clone();
        (attempt.code, attempt.enhanced.unwrap().to_string())
    };
    assert_eq!(error(null).await, (0, "5.1.10".into()));
    assert_eq!(error(none).await, (0, "5.1.2".into()));
    world.stop().await;
}

#[tokio::test]
async fn messages_share_a_connection_and_recipients_a_transaction() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let world = World::start(Setup {
        statics: "[queue]\nper_destination.connections = 1\n",
        ..Setup::default()
    });
    let remote = Remote::start(move |point, _| {
        if matches!(point, Point::Command(line) if line.starts_with("EHLO")) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        None
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    // Nobody answers until all messages are queued.
    let _: [QueueId; 3] = world
        .add(Message::to(&["a@remote.test", "b@remote.test", "c@remote.test"]).later(5))
        .await;
    for _ in 0..4 {
        let _: [QueueId; 1] = world.add(Message::to(&["d@remote.test"]).later(5)).await;
    }
    world.lead("192.0.2.1", &remote);
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(world.events(7).await.len(), 7);
    let received = remote.received();
    assert_eq!(received.len(), 5);
    assert!(received.iter().any(|message| message.rcpts.len() == 3));
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_message_is_tried_nine_times_and_its_sender_told_once_of_the_delay_and_once_of_the_failure()
 {
    let world = World::start(Setup::default());
    let remote = Remote::start(|point, _| match point {
        Point::EndOfData => Some(Act::Say("451 4.3.0 not today")),
        Point::Command(_) => None,
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    let mut delays = Vec::new();
    for attempt in 1..=8 {
        assert_eq!(
            world.events(attempt).await.pop().unwrap(),
            (id, Event::Delayed)
        );
        let queued = world.store.queued(id).await.unwrap().unwrap();
        assert_eq!(queued.attempts as usize, attempt);
        let wait = queued.next_attempt.since(world.now());
        delays.push(world.mails().await.len());
        world.clock.advance(wait);
    }
    assert_eq!(world.events(9).await.pop().unwrap(), (id, Event::Failed));
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert_eq!(retired.message.results.len(), 9);
    assert!(!retired.success);
    // The sixth attempt ends more than four hours after the message was queued (within the spread).
    // Later attempts do not tell again.
    assert_eq!(
        delays.iter().filter(|told| **told == 0).count(),
        6,
        "{delays:?}"
    );
    let mails = world.mails().await;
    assert_eq!(mails.len(), 2);
    assert!(mails[0].contains("Action: delayed") && mails[0].contains("Will-Retry-Until: "));
    assert!(mails[1].contains("Action: failed") && mails[1].contains("Status: 4.3.0"));
    world.stop().await;
}

#[tokio::test]
async fn no_dsn_where_none_is_wanted() {
    let world = World::start(Setup {
        account: "failure_dsn = \"both\"\n",
        ..Setup::default()
    });
    let mut bounce = Message::to(&["x@none.test"]);
    bounce.reverse_path = ReversePath::Null;
    let _: [QueueId; 1] = world.add(bounce).await;
    let mut never = Message::to(&["x@none.test"]);
    never.notify = Notify::NEVER;
    let _: [QueueId; 1] = world.add(never).await;
    assert_eq!(world.events(2).await.len(), 2);
    assert!(world.mails().await.is_empty());
    world.stop().await;

    let world = World::start(Setup {
        account: "failure_dsn = \"event\"\n",
        ..Setup::default()
    });
    let _: [QueueId; 1] = world.add(Message::to(&["x@none.test"])).await;
    assert_eq!(world.events(1).await.len(), 1);
    assert!(world.mails().await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_route_leads_to_a_smarthost_with_a_login_or_to_an_end() {
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => {
            Some(Act::Say("250-smart.test\r\n250 AUTH PLAIN"))
        }
        Point::Command(line) if line == "AUTH PLAIN AHVzZXIAc2VjcmV0" => {
            Some(Act::Say("235 2.7.0 welcome"))
        }
        Point::Command(line) if line.starts_with("AUTH") => Some(Act::Say("535 5.7.8 no")),
        _ => None,
    })
    .await;
    let statics = format!(
        "[transports.smart.submission]\nhost = \"127.0.0.1\"\nport = {}\nno_starttls = true\n\
         auth = {{ username = \"user\", password = \"secret\" }}\n\
         [transports.end.fail]\ncode = 554\nmessage = \"not by mail\"\n",
        remote.address.port()
    );
    let world = World::start(Setup {
        statics: &statics,
        dynamics: "[[routes]]\nto_domain = [\"end.test\"]\ntransport = \"end\"\n[[routes]]\ntransport = \"smart\"\n",
        ..Setup::default()
    });
    world.lead("127.0.0.1", &remote);
    let [delivered, failed] = world.add(Message::to(&["x@any.test", "x@end.test"])).await;
    let mut events = world.events(2).await;
    events.sort();
    assert_eq!(
        events,
        [(delivered, Event::Delivered), (failed, Event::Failed)]
    );
    let retired = world.store.retired(failed).await.unwrap().unwrap();
    let attempt = &retired.message.results[0];
    assert_eq!((attempt.code, attempt.error.as_str()), (554, "not by mail"));
    world.stop().await;
}

#[tokio::test]
async fn a_disabled_senders_domain_waits() {
    let world = World::start(Setup {
        domain: "disabled = true\n",
        ..Setup::default()
    });
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delayed)]);
    let queued = world.store.queued(id).await.unwrap().unwrap();
    assert!(queued.results[0].error.contains("example.org is disabled"));
    world.stop().await;
}

#[tokio::test]
async fn each_recipient_gets_a_reverse_path_of_its_own_where_the_login_asks_for_it() {
    let world = World::start(Setup {
        domain: "localpart_catchall_separators = [\"+\"]\n",
        account: "from_id_login_addresses = [\"ann+id@example.org\"]\n",
        ..Setup::default()
    });
    let remote = Remote::start(|_, _| None).await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let mut message = Message::to(&["a@remote.test", "b@remote.test"]);
    message.login = "ann+id@example.org";
    let submitted = world.submit(message).await;
    let received = remote.wait_for(2).await;
    let mut wanted: Vec<String> = submitted
        .iter()
        .map(|submitted| {
            assert_eq!(submitted.from_id.len(), 22);
            format!("MAIL FROM:<ann+{}@example.org>", submitted.from_id)
        })
        .collect();
    let mut seen: Vec<String> = received
        .iter()
        .map(|message| message.mail.split(" BODY").next().unwrap().to_owned())
        .collect();
    wanted.sort();
    seen.sort();
    assert_eq!(seen, wanted);
    world.stop().await;
}

#[tokio::test]
async fn others_can_verify_the_signatures() {
    let keys = support::DkimKeys::new();
    let world = World::start(Setup {
        domain: &keys.config(),
        ..Setup::default()
    });
    let remote = Remote::start(|_, _| None).await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let mut message = Message::to(&["a@remote.test", "b@remote.test"]);
    message.text = "From: Ann <ann@example.org>\r\nTo: x@remote.test\r\nSubject: signed \r\n\tfolded\r\n\r\nHi  there \r\n.dot\r\n";
    let _: [QueueId; 2] = world.add(message).await;
    assert_eq!(world.events(2).await.len(), 2);
    let text = remote.received()[0].text.clone();
    assert_eq!(text.matches("DKIM-Signature:").count(), 2, "{text}");
    assert_eq!(keys.verify(&text).await, ["pass ed", "pass rsa"]);
    // The fields are sealed: another From, Subject or Cc in front breaks both signatures.
    for field in ["From: eve@evil.test", "Subject: other", "Cc: eve@evil.test"] {
        let changed = format!("{field}\r\n{text}");
        assert!(
            !keys
                .verify(&changed)
                .await
                .iter()
                .any(|result| result.starts_with("pass")),
            "{field}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn a_large_message_is_signed_in_pieces() {
    let keys = support::DkimKeys::new();
    let world = World::start(Setup {
        domain: &keys.config(),
        ..Setup::default()
    });
    let remote = Remote::start(|_, _| None).await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    // Pieces end in the header section, in lines, and in blank lines. (The verifier would count
    // blank lines with white space at the end; dkim.rs tests that the signer does not.)
    let filler = format!("X-Long: {}\r\n", "x".repeat(900)).repeat(80);
    let body = "A line  with spaces \r\n \t\r\n\r\n\tanother one\r\n".repeat(5000);
    let text =
        format!("From: Ann <ann@example.org>\r\n{filler}Subject: large\r\n\r\n{body}\r\n\r\n");
    let mut message = Message::to(&["a@remote.test"]);
    message.text = &text;
    let _: [QueueId; 1] = world.add(message).await;
    assert_eq!(world.events(1).await.len(), 1);
    let text = remote.received()[0].text.clone();
    assert_eq!(keys.verify(&text).await, ["pass ed", "pass rsa"]);
    let changed = text.replacen("another", "an other", 1);
    assert_eq!(keys.verify(&changed).await, ["not ed", "not rsa"]);
    world.stop().await;
}

/// The host of remote.test, which defers so many texts.
async fn deferring(world: &World, texts: usize) -> Remote {
    let count = AtomicUsize::new(0);
    let remote = Remote::start(move |point, _| match point {
        Point::EndOfData if count.fetch_add(1, Ordering::Relaxed) < texts => {
            Some(Act::Say("451 4.3.0 not yet"))
        }
        _ => None,
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    remote
}

/// A waiting message gets a new signature when half of the time of the first is over.
#[tokio::test]
async fn a_signature_that_gets_old_is_made_anew() {
    let keys = support::DkimKeys::new();
    let config = keys.config()
        + "dkim.selectors.ed.expiration = \"2h\"
dkim.selectors.rsa.expiration = \"2h\"
";
    // The second attempt comes after 7 minutes, and the fifth after 112 minutes.
    for (attempts, is_new) in [(2, false), (5, true)] {
        let world = World::start(Setup {
            domain: &config,
            ..Setup::default()
        });
        let remote = deferring(&world, attempts - 1).await;
        let start = world.now();
        let [id] = world.add(Message::to(&["a@remote.test"])).await;
        for attempt in 1..attempts {
            world.events(attempt).await;
            let queued = world.store.queued(id).await.unwrap().unwrap();
            world.clock.advance(queued.next_attempt.since(world.now()));
        }
        world.events(attempts).await;
        let made = match is_new {
            true => world.now(),
            false => start,
        };
        let text = remote.wait_for(1).await.pop().unwrap().text;
        let time = format!(" t={};", made.0 / 1_000_000);
        assert_eq!(text.matches(&time).count(), 2, "{text}");
        world.stop().await;
    }
}

/// A message that waits loses the signature of a key that was removed meanwhile.
#[tokio::test]
async fn a_key_that_is_removed_signs_no_longer() {
    let keys = support::DkimKeys::new();
    let world = World::start(Setup {
        domain: &keys.config(),
        ..Setup::default()
    });
    let remote = deferring(&world, 1).await;
    let [id] = world.add(Message::to(&["a@remote.test"])).await;
    world.events(1).await;
    let mut config = Dynamic::clone(&world.config.load());
    for domain in config.domains.values_mut() {
        domain.dkim.sign.retain(|name| name.ascii() != "rsa");
    }
    world.config.store(Arc::new(config));
    let queued = world.store.queued(id).await.unwrap().unwrap();
    world.clock.advance(queued.next_attempt.since(world.now()));
    world.events(2).await;
    let text = remote.wait_for(1).await.pop().unwrap().text;
    assert_eq!(keys.verify(&text).await, ["pass ed"]);
    world.stop().await;
}

/// An RSA key of 1024 bits does not sign.
#[tokio::test]
async fn a_key_that_cannot_be_used_leaves_the_signing_to_the_others() {
    let keys = support::DkimKeys::new();
    let world = World::start(Setup {
        domain: &keys.config(),
        ..Setup::default()
    });
    let remote = Remote::start(|_, _| None).await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let short = include_str!("../../testdata/config/dynamic/keys/rsa1024.pem");
    let short = Arc::new(DkimKey::from_pem(short).unwrap());
    let spoil = |selectors: &[&str]| {
        let mut config = Dynamic::clone(&world.config.load());
        for domain in config.domains.values_mut() {
            for (name, selector) in &mut domain.dkim.selectors {
                if selectors.contains(&name.ascii()) {
                    Arc::make_mut(selector).key = Arc::clone(&short);
                }
            }
        }
        world.config.store(Arc::new(config));
    };
    spoil(&["rsa"]);
    let _: [QueueId; 1] = world.add(Message::to(&["a@remote.test"])).await;
    world.events(1).await;
    let text = remote.wait_for(1).await[0].text.clone();
    assert_eq!(keys.verify(&text).await, ["pass ed"]);
    // Without any key the message waits, and that is no attempt.
    spoil(&["ed"]);
    let start = world.now();
    let [waits] = world.add(Message::to(&["b@remote.test"])).await;
    let queued = world
        .queued_until(|queued| queued.iter().any(|message| message.next_attempt > start))
        .await;
    assert_eq!((queued[0].id, queued[0].attempts), (waits, 0));
    world.stop().await;
}
