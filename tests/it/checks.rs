//! The checks of a message with a real resolver, which asks a DNS server on loopback.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hickory_proto::rr::Name;
use postrider_dns::{HickoryResolver, HickorySettings, TrustAnchors};
use postrider_receive::checks::{
    dkim::{BodyHashes, DkimCheck, DkimOutcome, HeaderFields},
    dmarc::{self, Alignment, DmarcInput, DmarcPolicy, Records},
    questions::Questions,
    spf::SpfCheck,
};
use postrider_smtp::{Address, Domain, ReversePath};
use postrider_store::{SystemClock, Time};

use crate::support::{Setup, World, base64, dns::Zone};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

async fn questions(zone: Zone) -> Questions {
    let servers = [zone.serve().await];
    let settings = HickorySettings {
        metrics: Arc::default(),
        servers: &servers,
        timeout: Duration::from_secs(5),
        validate: false,
        trust_anchors: TrustAnchors::default(),
        now: Arc::new(Duration::default),
    };
    let resolver = HickoryResolver::new(&settings).unwrap();
    Questions::new(Arc::new(resolver), Arc::new(SystemClock))
}

async fn spf(questions: &Questions, helo: &str, sender: &str) -> String {
    let check = SpfCheck::new(questions.clone(), CLIENT, helo);
    let sender = ReversePath::Mailbox(Address::parse(sender).unwrap());
    check.mail_from(&sender).await.outcome.to_string()
}

#[tokio::test]
async fn spf_asks_for_names_with_any_characters() {
    // The name as the server sees it.
    let strange = Name::from_labels([&b"a:b/c d"[..], b"x", b"test"]).unwrap();
    let strange = strange.to_ascii().trim_end_matches('.').to_owned();
    let zone = Zone::default()
        .txt("a.test", "v=spf1 include:b.test -all")
        .txt("b.test", "v=spf1 a:mail.b.test ~all")
        .txt("c.test", "v=spf1 redirect=a.test")
        .txt("helo.test", "v=spf1 exists:%{h}.x.test -all")
        .txt(
            "long.test",
            &format!("v=spf1{} ip4:192.0.2.7", " ip4:192.0.2.8".repeat(30)),
        )
        .address("mail.b.test", CLIENT)
        .address(&strange, [127, 0, 0, 2].into());
    let questions = questions(zone).await;
    for (helo, sender, expected) in [
        ("mx.test", "ann@a.test", "pass"),
        ("mx.test", "ann@c.test", "pass"),
        ("mx.test", "ann@none.test", "none"),
        ("mx.test", "ann@long.test", "pass"),
        ("a:b/c d", "ann@helo.test", "pass"),
        ("JUMPIN' JUPITER\\", "ann@helo.test", "fail"),
        ("%%%", "ann@helo.test", "fail"),
        ("..", "ann@helo.test", "fail"),
    ] {
        assert_eq!(
            spf(&questions, helo, sender).await,
            expected,
            "{helo} {sender}"
        );
    }
}

#[tokio::test]
async fn dmarc_tells_names_that_are_missing_from_names_without_an_address() {
    let zone = Zone::default()
        .txt(
            "_dmarc.a.test",
            "v=DMARC1; p=none; sp=quarantine; np=reject",
        )
        .txt("here.a.test", "any");
    let questions = questions(zone).await;
    for (from, policy) in [
        ("a.test", Some(DmarcPolicy::None)),
        ("here.a.test", Some(DmarcPolicy::Quarantine)),
        ("missing.a.test", Some(DmarcPolicy::Reject)),
        ("b.test", None),
    ] {
        let from = Domain::parse(from).unwrap();
        let input = DmarcInput {
            spf: None,
            dkim_passed: &[],
            dkim_unanswered: &[],
        };
        let mut alignment = Alignment::new(&questions, Records::default(), &from).await;
        let result = dmarc::check(input, Some(&mut alignment)).await;
        assert_eq!(result.policy, policy, "{from}");
    }
}

/// Names that a stranger chooses do not change what is known of another domain.
#[tokio::test]
async fn the_spf_of_a_stranger_does_not_turn_off_the_dmarc_of_a_victim() {
    let zone = Zone::default()
        .txt("_dmarc.victim.test", "v=DMARC1; p=reject")
        .txt("evil.test", "v=spf1 include:_dmarc.victim.test -all");
    let questions = questions(zone).await;
    let found = spf(&questions, "mx.test", "x@evil.test").await;
    assert_eq!((&*found, questions.asked()), ("permerror", 2));
    let from = Domain::parse("victim.test").unwrap();
    let input = DmarcInput {
        spf: None,
        dkim_passed: &[],
        dkim_unanswered: &[],
    };
    let mut alignment = Alignment::new(&questions, Records::default(), &from).await;
    let policy = dmarc::check(input, Some(&mut alignment)).await.policy;
    assert_eq!((policy, questions.asked()), (Some(DmarcPolicy::Reject), 4));
}

#[tokio::test]
async fn many_signatures_and_names_ask_few_questions() {
    let signature = |number: usize, names: &str| {
        let (hash, value) = (base64(&[0; 32]), base64(&[0; 64]));
        format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; d=d{number}.test; s=k; h=from{names}; \
             bh={hash}; b={value}\r\n"
        )
    };
    let many = |count| -> String { (0..count).map(|number| signature(number, "")).collect() };
    let long = signature(0, &":x".repeat(1 << 16));
    for (signatures, expected, asked) in [
        (
            many(999),
            [vec![DkimOutcome::PermError; 10], vec![DkimOutcome::Policy]].concat(),
            10,
        ),
        // With From, these are more fields than a signature may choose from.
        (many(1000), vec![DkimOutcome::Policy; 11], 0),
        (long, vec![DkimOutcome::Policy], 0),
    ] {
        let questions = questions(Zone::default()).await;
        let section = format!("From: <x@evil.test>\r\n{signatures}");
        let fields = Arc::new(HeaderFields::new(section.into()));
        let check = DkimCheck::new(fields, None, Time::default());
        let keys = check.keys(&questions).await;
        let results = check.results(&keys, &BodyHashes::default());
        let outcomes: Vec<_> = results.iter().map(|result| result.outcome).collect();
        assert_eq!((outcomes, questions.asked()), (expected, asked));
    }
}

/// All clients of these tests are on this machine. SPF is not checked for them, and DMARC refuses
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_on_this_machine_is_not_refused_by_dmarc() {
    let zone = Zone::default()
        .txt("_dmarc.bank.test", "v=DMARC1; p=reject")
        .txt("bank.test", "v=spf1 -all");
    let world = World::start(Setup {
        dns: Some(zone.serve().await),
        statics: "[policy]\ndmarc = \"enforce\"\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let mut client = world.client("smtp").await;
    client.command("EHLO sender.test").await;
    for (from, expected) in [
        ("From: <ceo@bank.test>\r\n", "250 2.0.0"),
        ("", "554 5.6.0 exactly one From is needed"),
    ] {
        let text = format!("{from}Subject: hi\r\n\r\nHello.");
        let reply = client
            .submit("ceo@bank.test", &["app@example.org"], &text)
            .await;
        assert!(reply.starts_with(expected), "{reply}");
    }
    let store = world.server.store();
    let found = store.list_mails("app", Some("Inbox"), None, 10).await;
    let mails = found.unwrap().items;
    assert_eq!(mails.len(), 1);
    for mail in mails {
        let stored = store.mail_message(&mail).await.unwrap();
        let text = String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap();
        let expected = "Authentication-Results: mail.example.org; dmarc=fail \
                        (none: from this machine, without SPF) header.from=bank.test \
                        policy.dmarc=reject\r\n";
        assert!(text.contains(expected), "{text}");
        assert!(!mail.smtp.unwrap().msg_from_validated);
    }
    world.server.stop().await;
}
