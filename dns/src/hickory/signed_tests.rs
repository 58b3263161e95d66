//! Validation of real signatures, from a server with signed zones.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{Alias, FakeServer, Fault, Mx, RecordType, Tlsa};

const LIMIT: Duration = Duration::from_secs(30);

/// Signed zones: `test`, `good.test`, and `other.test`. `plain.test` is not signed.
async fn server() -> FakeServer {
    let server = FakeServer::start().await.unwrap();
    server.add_zone("test", true).unwrap();
    for (zone, signed) in [("good", true), ("other", true), ("plain", false)] {
        let zone = format!("{zone}.test");
        server.add_zone(&zone, signed).unwrap();
        let host = format!("mx.{zone}");
        let mx = Record::Mx(Mx {
            preference: 10,
            host: host.clone(),
        });
        server.add(&zone, &mx).unwrap();
        let address = Record::A([192, 0, 2, 1].into());
        server.add(&host, &address).unwrap();
        let tlsa = Record::Tlsa(Tlsa {
            usage: 3,
            selector: 1,
            matching: 1,
            data: vec![7; 32],
        });
        server.add(&format!("_25._tcp.{host}"), &tlsa).unwrap();
    }
    server
}

fn alias(server: &FakeServer, name: &str, target: &str) {
    server.add(name, &Record::Cname(target.to_owned())).unwrap();
}

fn resolver(server: &FakeServer) -> HickoryResolver {
    let settings = HickorySettings {
        metrics: Arc::default(),
        servers: &[server.address()],
        timeout: LIMIT,
        validate: true,
        trust_anchors: TrustAnchors::parse(&server.trust_anchor()).unwrap(),
        now: Arc::new(Duration::default),
    };
    HickoryResolver::new(&settings).unwrap()
}

/// What a question gives, in a word.
async fn verdict(resolver: &HickoryResolver, name: &str, record_type: RecordType) -> String {
    let security = |authentic| if authentic { "secure" } else { "insecure" };
    match resolver.ask(Question::new(name, record_type)).await {
        Ok(answer) => security(answer.authentic).to_owned(),
        Err(DnsError::NoName(negative)) => format!("{} no name", security(negative.authentic)),
        Err(DnsError::NoRecords(negative)) => {
            format!("{} no records", security(negative.authentic))
        }
        Err(DnsError::Bogus { name }) => format!("bogus {name}"),
        Err(error) => format!("failed: {error}"),
    }
}

/// Each question with the verdict that it must give.
async fn check(server: &FakeServer, cases: &[(&str, RecordType, &str)]) {
    let resolver = resolver(server);
    for (name, record_type, expected) in cases {
        let verdict = verdict(&resolver, name, *record_type).await;
        assert_eq!(verdict, *expected, "{name} {record_type:?}");
    }
}

#[tokio::test]
async fn answers_and_denials_of_signed_and_unsigned_zones() {
    use RecordType::{A, Aaaa, Mx, Tlsa, Txt};
    check(
        &server().await,
        &[
            ("good.test", Mx, "secure"),
            ("MX.Good.test", A, "secure"),
            ("_25._tcp.mx.good.test", Tlsa, "secure"),
            ("mx.good.test", Aaaa, "secure no records"),
            ("good.test", Txt, "secure no records"),
            // A name with names below, and no records.
            ("_tcp.mx.good.test", Txt, "secure no records"),
            ("none.good.test", A, "secure no name"),
            ("none.test", A, "secure no name"),
            ("a.none.none.test", A, "secure no name"),
            ("plain.test", Mx, "insecure"),
            ("mx.plain.test", A, "insecure"),
            ("_25._tcp.mx.plain.test", Tlsa, "insecure"),
            ("mx.plain.test", Aaaa, "insecure no records"),
            ("none.plain.test", A, "insecure no name"),
        ],
    )
    .await;
}

#[tokio::test]
async fn each_step_of_cnames_is_validated() {
    use RecordType::{A, Aaaa, Mx};
    let server = server().await;
    alias(&server, "a.good.test", "b.other.test");
    alias(&server, "b.other.test", "mx.good.test");
    alias(&server, "c.good.test", "d.plain.test");
    alias(&server, "d.plain.test", "mx.good.test");
    alias(&server, "e.plain.test", "mx.good.test");
    alias(&server, "f.good.test", "mx.plain.test");
    alias(&server, "g.good.test", "none.other.test");
    alias(&server, "h.good.test", "i.good.test");
    alias(&server, "i.good.test", "h.good.test");
    check(
        &server,
        &[
            ("a.good.test", A, "secure"),
            ("a.good.test", Aaaa, "secure no records"),
            ("a.good.test", Mx, "secure no records"),
            ("c.good.test", A, "insecure"),
            ("c.good.test", Aaaa, "insecure no records"),
            ("e.plain.test", A, "insecure"),
            ("e.plain.test", Aaaa, "insecure no records"),
            ("f.good.test", A, "insecure"),
            ("f.good.test", Aaaa, "insecure no records"),
            ("g.good.test", A, "secure no name"),
        ],
    )
    .await;
    let resolver = resolver(&server);
    let answer = resolver.a("c.good.test").await.unwrap();
    let alias = |target: &str, authentic| Alias {
        target: target.to_owned(),
        authentic,
    };
    let steps = [alias("d.plain.test", true), alias("mx.good.test", false)];
    assert_eq!(answer.aliases, steps);
    let error = resolver.a("h.good.test").await.unwrap_err();
    assert!(error.to_string().contains("loop"), "{error}");
}

#[tokio::test]
async fn wrong_signatures_are_bogus() {
    use RecordType::{A, Aaaa, Mx, Tlsa};
    for fault in [Fault::Expired, Fault::OtherKey, Fault::Unsigned] {
        // All of a zone.
        let server = server().await;
        server.add_fault("good.test", None, fault).unwrap();
        check(
            &server,
            &[
                ("good.test", Mx, "bogus good.test"),
                ("mx.good.test", Aaaa, "bogus mx.good.test"),
                ("none.good.test", A, "bogus none.good.test"),
                ("other.test", Mx, "secure"),
            ],
        )
        .await;
        // One RRset, also behind a CNAME.
        server.mend("good.test").unwrap();
        let name = "_25._tcp.mx.good.test";
        server.add_fault(name, Some(Tlsa), fault).unwrap();
        alias(&server, "_25._tcp.alias.other.test", name);
        check(
            &server,
            &[
                (name, Tlsa, "bogus _25._tcp.mx.good.test"),
                (
                    "_25._tcp.alias.other.test",
                    Tlsa,
                    "bogus _25._tcp.mx.good.test",
                ),
                ("mx.good.test", A, "secure"),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_server_without_an_answer_is_no_bogus_answer() {
    let server = server().await;
    let question = |resolver: &HickoryResolver| resolver.mx("good.test");
    for fault in [
        Fault::ServFail,
        Fault::Truncated,
        Fault::Delayed(Duration::from_millis(1)),
    ] {
        server
            .add_fault("good.test", Some(RecordType::Mx), fault)
            .unwrap();
        let answer = question(&resolver(&server)).await;
        match fault {
            Fault::ServFail => assert!(matches!(answer, Err(DnsError::Temporary(_)))),
            _ => assert!(answer.unwrap().authentic),
        }
        server.mend("good.test").unwrap();
    }
    assert!(server.asked().contains(&"tcp good.test MX".to_owned()));
    // Signatures are cut off over UDP if they are too long for it.
    let text = Record::Txt(vec![b'a'; 1200]);
    server.add("good.test", &text).unwrap();
    let answer = resolver(&server).txt("good.test").await.unwrap();
    assert!(answer.authentic && answer.records[0].len() == 1200);
    assert!(server.asked().contains(&"tcp good.test TXT".to_owned()));
}

#[tokio::test]
async fn records_come_and_go() {
    let server = server().await;
    server.remove("mx.good.test").unwrap();
    let name = "mx.good.test";
    check(&server, &[(name, RecordType::A, "secure no records")]).await;
    server.remove("_25._tcp.mx.good.test").unwrap();
    check(&server, &[(name, RecordType::A, "secure no name")]).await;
}

/// A resolver that validates, and the seconds of its clock.
fn with_a_clock(server: &FakeServer) -> (HickoryResolver, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(0));
    let time = Arc::clone(&seconds);
    let settings = HickorySettings {
        metrics: Arc::default(),
        servers: &[server.address()],
        timeout: LIMIT,
        validate: true,
        trust_anchors: TrustAnchors::parse(&server.trust_anchor()).unwrap(),
        now: Arc::new(move || Duration::from_secs(time.load(Ordering::Relaxed))),
    };
    (HickoryResolver::new(&settings).unwrap(), seconds)
}

/// A server that does not pass on signatures makes nothing bogus, and nothing authentic.
#[tokio::test]
async fn without_signatures_nothing_is_validated() {
    let server = server().await;
    server.add_fault("", None, Fault::Unsigned).unwrap();
    let (resolver, seconds) = with_a_clock(&server);
    let root = || {
        let asked = server.asked();
        asked.iter().filter(|asked| *asked == "udp  SOA").count()
    };
    for (second, mended, expected, asked) in [
        (0, false, "insecure", 1),
        (59, true, "insecure", 1),
        // The proofs that the crate remembers are over after a minute too.
        (60, true, "secure", 2),
        (3659, true, "secure", 2),
        (3660, true, "secure", 3),
    ] {
        if mended {
            server.mend("").unwrap();
        }
        seconds.store(second, Ordering::Relaxed);
        let verdict = verdict(&resolver, "good.test", RecordType::Mx).await;
        assert_eq!((verdict.as_str(), root()), (expected, asked), "{second}");
        assert!(resolver.is_validation_out(), "{second}");
    }
    // What was not validated is not remembered any more.
    seconds.store(59 + 2 * 3600, Ordering::Relaxed);
    assert!(!resolver.is_validation_out());
    assert!(
        !resolver.unvalidated().is_validation_out(),
        "nor is it to be"
    );
}

/// What is built on an answer that was not validated is built anew when validation works again.
#[tokio::test]
async fn what_is_not_validated_does_not_hold_for_long() {
    let server = server().await;
    let (resolver, seconds) = with_a_clock(&server);
    server.add_fault("", None, Fault::Unsigned).unwrap();
    let ttl = async || {
        let mx = Question::new("good.test", RecordType::Mx);
        let none = Question::new("none.good.test", RecordType::Mx);
        let found = resolver.ask(mx).await.unwrap();
        let DnsError::NoName(negative) = resolver.ask(none).await.unwrap_err() else {
            panic!("the name exists");
        };
        (found.ttl.as_secs(), negative.ttl.as_secs())
    };
    let (found, negative) = ttl().await;
    assert!(found <= 30 && negative <= 30, "{found} {negative}");
    server.mend("").unwrap();
    seconds.store(60, Ordering::Relaxed);
    let (found, negative) = ttl().await;
    assert!(found > 30 && negative > 30, "{found} {negative}");
}

/// Whoever can spoil one answer can't turn the validation off.
#[tokio::test]
async fn validation_ends_only_when_the_root_was_not_secure_several_times() {
    let server = server().await;
    let (resolver, seconds) = with_a_clock(&server);
    assert_eq!(
        verdict(&resolver, "good.test", RecordType::Mx).await,
        "secure"
    );
    server.add_fault("", None, Fault::Unsigned).unwrap();
    for (second, expected) in [
        (3600, "bogus good.test"),
        (3660, "bogus good.test"),
        (3720, "bogus good.test"),
        (3780, "bogus good.test"),
        (3840, "insecure"),
    ] {
        seconds.store(second, Ordering::Relaxed);
        let verdict = verdict(&resolver, "good.test", RecordType::Mx).await;
        assert_eq!(verdict, expected, "{second}");
        assert_eq!(resolver.is_validation_out(), second == 3840, "{second}");
    }
}

/// The keys of a zone below an unsigned one show whether validation works.
#[tokio::test]
async fn other_trust_anchors_are_not_trusted() {
    let server = server().await;
    let other = FakeServer::start().await.unwrap();
    let settings = HickorySettings {
        metrics: Arc::default(),
        servers: &[server.address()],
        timeout: LIMIT,
        validate: true,
        trust_anchors: TrustAnchors::parse(&other.trust_anchor()).unwrap(),
        now: Arc::new(Duration::default),
    };
    let resolver = HickoryResolver::new(&settings).unwrap();
    let verdict = verdict(&resolver, "good.test", RecordType::Mx).await;
    assert_eq!(verdict, "insecure");
}
