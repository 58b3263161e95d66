//! Tests of whole checks: results in words, and hostile records. The suite of RFC 7208 has the
//! rest.

use std::sync::Arc;

use postrider_dns::{FakeResolver, Question, Record, RecordType, Resolver};
use postrider_smtp::Address;
use postrider_store::{Clock, ManualClock, Time};
use proptest::prelude::*;

use super::*;
use crate::checks::questions::{MAX_QUESTIONS, TIME_LIMIT, tests::questions};

const CLIENT: &str = "192.0.2.7";

fn zone(records: &[(&str, &str)]) -> FakeResolver {
    let fake = FakeResolver::default();
    for (name, text) in records {
        fake.add(name, Record::Txt(text.as_bytes().to_vec()));
    }
    fake
}

fn path(text: &str) -> ReversePath {
    match text {
        "" => ReversePath::Null,
        text => ReversePath::Mailbox(Address::parse(text).unwrap()),
    }
}

/// The result for a sender, and how many questions it took.
async fn result(fake: &FakeResolver, client: &str, sender: &str) -> (SpfResult, u32) {
    let (questions, _clock) = questions(fake);
    let check = SpfCheck::new(questions.clone(), client.parse().unwrap(), "mx.test");
    let result = check.mail_from(&path(sender)).await;
    (result, questions.asked())
}

/// Checks the result for `ann@a.test` and the number of questions.
async fn check(fake: &FakeResolver, expected: &str, asked: u32) {
    let (result, questions) = result(fake, CLIENT, "ann@a.test").await;
    assert_eq!(format!("{}: {}", result.outcome, result.reason), expected);
    assert_eq!(questions, asked, "{expected}");
}

#[tokio::test]
async fn a_result_says_why() {
    for (record, expected, asked) in [
        (
            "v=spf1 ip4:192.0.2.0/24 -all",
            "pass: ip4:192.0.2.0/24 matches in the record of a.test",
            1,
        ),
        (
            "v=spf1 -all",
            "fail: -all matches in the record of a.test",
            1,
        ),
        (
            "v=spf1 ip4:192.0.2.8",
            "neutral: nothing matches in the record of a.test",
            1,
        ),
        (
            "v=spf1 redirect=b.test",
            "softfail: ~all matches in the record of b.test",
            2,
        ),
        (
            "v=spf1 redirect=c.test",
            "permerror: redirect= leads to c.test, which has no record",
            2,
        ),
        (
            "v=spf1 redirect=%{l}..b",
            "permerror: redirect= leads to no domain",
            1,
        ),
        (
            "v=spf1 include:c.test",
            "permerror: it includes c.test, which has no record",
            2,
        ),
        (
            "v=spf1 a:s.test -all",
            "temperror: no answer about s.test: no server answers",
            2,
        ),
        (
            "v=spf1 x -all",
            "permerror: in the SPF record of a.test, \"x\" is no mechanism of SPF",
            1,
        ),
        ("v=spf10", "none: a.test has no SPF record", 1),
    ] {
        let fake = zone(&[("a.test", record), ("b.test", "v=spf1 ~all")]);
        fake.fail("s.test");
        check(&fake, expected, asked).await;
    }
    check(&zone(&[]), "none: a.test has no SPF record", 1).await;
    let two = zone(&[("a.test", "v=spf1 -all"), ("a.test", "v=spf1 x")]);
    check(&two, "permerror: a.test has several SPF records", 1).await;
}

#[tokio::test]
async fn the_mechanism_and_its_record_are_told() {
    let fake = zone(&[
        ("a.test", "v=spf1 -include:b.test redirect=c.test"),
        ("b.test", "v=spf1 ip4:192.0.2.8"),
        ("c.test", "v=spf1 ?include:d.test -all"),
        ("d.test", "v=spf1 ip4:192.0.2.9 include:e.test"),
        ("e.test", "v=spf1 ip4:192.0.2.10 exists:s.test"),
    ]);
    fake.fail("s.test");
    for (client, outcome, mechanism, domain) in [
        ("192.0.2.8", SpfOutcome::Fail, "-include:b.test", "a.test"),
        (
            "192.0.2.9",
            SpfOutcome::Neutral,
            "?include:d.test",
            "c.test",
        ),
        (
            "192.0.2.10",
            SpfOutcome::Neutral,
            "?include:d.test",
            "c.test",
        ),
        (
            "192.0.2.11",
            SpfOutcome::TempError,
            "?include:d.test",
            "c.test",
        ),
    ] {
        let (result, _) = result(&fake, client, "ann@a.test").await;
        let found = result.mechanism.unwrap();
        assert_eq!((result.outcome, found.text.as_str()), (outcome, mechanism));
        assert_eq!(found.domain, domain);
        assert_eq!(result.domain.unwrap().ascii(), "a.test");
    }
}

#[tokio::test]
async fn helo_is_checked_for_a_null_reverse_path() {
    let fake = zone(&[("mx.test", "v=spf1 exists:%{s}.%{h} -all")]);
    fake.add_address("postmaster@mx.test.mx.test", "127.0.0.2");
    let (null, asked) = result(&fake, CLIENT, "").await;
    assert_eq!((null.outcome, asked), (SpfOutcome::Pass, 2));
    assert_eq!(null.identity, SpfIdentity::Helo);
    let (questions, _clock) = questions(&fake);
    for (helo, outcome) in [
        ("MX.test", SpfOutcome::Pass),
        ("mx.test.", SpfOutcome::Pass),
        ("mx", SpfOutcome::None),
        ("[192.0.2.7]", SpfOutcome::None),
        ("192.0.2.7", SpfOutcome::None),
        ("", SpfOutcome::None),
    ] {
        let check = SpfCheck::new(questions.clone(), CLIENT.parse().unwrap(), helo);
        let result = check.helo().await;
        assert_eq!(result.outcome, outcome, "{helo}");
        assert_eq!(
            Some(check.mail_from(&ReversePath::Null).await),
            Some(result)
        );
    }
    assert_eq!(questions.asked(), 8);
    let (literal, asked) = result(&fake, CLIENT, "ann@[192.0.2.7]").await;
    assert_eq!((literal.outcome, asked), (SpfOutcome::None, 0));
    assert_eq!(literal.reason, "there is no domain to check");
    assert_eq!(literal.identity, SpfIdentity::MailFrom);
}

/// An attacker's record leads to a record of another kind. It is read as what it is, and asked for
/// as any TXT record: nothing about it is kept that another check would take for its own.
#[tokio::test]
async fn a_record_of_another_kind_is_no_spf_record() {
    let other = ("_dmarc.victim.test", "v=DMARC1; p=reject");
    let fake = zone(&[("a.test", "v=spf1 include:_dmarc.victim.test -all"), other]);
    let expected = "permerror: it includes _dmarc.victim.test, which has no record";
    check(&fake, expected, 2).await;
    let fake = zone(&[("a.test", "v=spf1 redirect=_dmarc.victim.test"), other]);
    let expected = "permerror: redirect= leads to _dmarc.victim.test, which has no record";
    check(&fake, expected, 2).await;
    let victim = fake.txt("_dmarc.victim.test").await.unwrap();
    assert_eq!(victim.records, [other.1.as_bytes()]);
    let fake = zone(&[("a.test", "v=spf1 exp=_dmarc.victim.test -all"), other]);
    check(&fake, "fail: -all matches in the record of a.test", 1).await;
}

#[tokio::test]
async fn endless_records_end_after_ten_terms() {
    let too_many = "permerror: more than 10 terms ask DNS";
    for (record, asked) in [
        ("v=spf1 include:a.test", 11),
        ("v=spf1 redirect=a.test", 11),
        ("v=spf1 include:a.test include:a.test redirect=a.test", 11),
        ("v=spf1 redirect=%{d}", 11),
    ] {
        check(&zone(&[("a.test", record)]), too_many, asked).await;
    }
    // Each record leads to new names.
    let fake = FakeResolver::default();
    let mut name = "a.test".to_owned();
    for _ in 0..20 {
        let record = b"v=spf1 include:x.%{d} include:y.%{d}".to_vec();
        fake.add(&name, Record::Txt(record));
        name = format!("x.{name}");
    }
    check(&fake, too_many, 11).await;
    // All of the terms of a long record.
    let fake = zone(&[("a.test", &format!("v=spf1{}", " a".repeat(4000)))]);
    fake.add_address("a.test", "192.0.2.8");
    check(&fake, too_many, 11).await;
}

/// The most that the RFC lets a record ask for is more than a message may ask.
#[tokio::test]
async fn the_questions_of_a_message_end_first() {
    let fake = FakeResolver::default();
    let terms: String = (0..10).map(|n| format!(" mx:m{n}.test")).collect();
    fake.add(
        "a.test",
        Record::Txt(format!("v=spf1{terms} -all").into_bytes()),
    );
    for n in 0..100 {
        let host = format!("h{n}.test");
        fake.add_address(&host, "192.0.2.8");
        let mx = postrider_dns::Mx {
            preference: 0,
            host,
        };
        fake.add(&format!("m{}.test", n / 10), Record::Mx(mx));
    }
    let expected = "temperror: no answer about m9.test: the message needs too many DNS questions";
    check(&fake, expected, MAX_QUESTIONS).await;
}

#[tokio::test]
async fn a_long_record_is_an_error() {
    let long = format!("v=spf1{} -all", " ip4:192.0.2.1".repeat(800));
    assert!(long.len() > 10_000);
    let expected = format!(
        "permerror: in the SPF record of a.test, the record has {} bytes, and 8192 are allowed",
        long.len()
    );
    check(&zone(&[("a.test", &long)]), &expected, 1).await;
    // Names grow no longer than DNS allows, whatever macros are in them.
    let grows = format!("v=spf1 exists:{}a.test ~all", "%{s}.".repeat(1600));
    check(
        &zone(&[("a.test", &grows)]),
        "softfail: ~all matches in the record of a.test",
        2,
    )
    .await;
}

#[tokio::test]
async fn terms_that_find_nothing_are_limited_to_two() {
    let too_many = "permerror: more than 2 terms ask for what does not exist";
    let neutral = "neutral: nothing matches in the record of a.test";
    for (record, expected, asked) in [
        ("v=spf1 a:1.void a:2.void", neutral, 3),
        (
            "v=spf1 a:n1.void a:n2.void a:n3.void a:n4.void",
            too_many,
            4,
        ),
        ("v=spf1 exists:n1.void mx:n2.void ptr", too_many, 4),
        // Names that can't be asked for cost nothing.
        ("v=spf1 a:a..void a:b..void a:c..void a:d..void", neutral, 1),
        // A term is one, however many hosts it has.
        (
            "v=spf1 mx:hosts.test ?all",
            "neutral: ?all matches in the record of a.test",
            12,
        ),
    ] {
        let record = record
            .replace(".void", ".void.test")
            .replace(":1.", ":n1.")
            .replace(":2.", ":n2.");
        let fake = zone(&[("a.test", &record)]);
        for n in 0..10 {
            let host = format!("h{n}.test");
            fake.add(
                "hosts.test",
                Record::Mx(postrider_dns::Mx {
                    preference: n,
                    host,
                }),
            );
        }
        check(&fake, expected, asked).await;
    }
}

#[tokio::test]
async fn names_of_the_client_are_limited_and_looked_up_once() {
    let fake = zone(&[(
        "a.test",
        "v=spf1 ptr:n.test ptr:n.test exists:%{p}.x.test ~all",
    )]);
    fake.exist("x.test");
    let reverse = Question::reverse(CLIENT.parse().unwrap());
    for n in 0..1000 {
        fake.add(reverse.name(), Record::Ptr(format!("h{n}.n.test")));
    }
    // Ten names do not lead back, and the value of the macro is "unknown".
    fake.add_address("unknown.x.test", "127.0.0.2");
    check(
        &fake,
        "pass: exists:%{p}.x.test matches in the record of a.test",
        13,
    )
    .await;
    fake.add_address("h10.n.test", CLIENT);
    check(
        &fake,
        "pass: exists:%{p}.x.test matches in the record of a.test",
        13,
    )
    .await;
    fake.add_address("h9.n.test", CLIENT);
    check(
        &fake,
        "pass: ptr:n.test matches in the record of a.test",
        12,
    )
    .await;
    // Names outside of the target are not looked up.
    let fake = zone(&[("a.test", "v=spf1 ptr:n.test ~all")]);
    for n in 0..10 {
        fake.add(reverse.name(), Record::Ptr(format!("h{n}.other{n}n.test")));
    }
    check(&fake, "softfail: ~all matches in the record of a.test", 2).await;
}

/// No answer about the client's names is no reason to call the term void.
#[tokio::test]
async fn names_without_an_answer_match_nothing() {
    let fake = zone(&[("a.test", "v=spf1 ptr ptr:b.test ptr:c.test ~all")]);
    fake.fail(Question::reverse(CLIENT.parse().unwrap()).name());
    check(&fake, "softfail: ~all matches in the record of a.test", 2).await;
    fake.mend(Question::reverse(CLIENT.parse().unwrap()).name());
    let too_many = "permerror: more than 2 terms ask for what does not exist";
    check(&fake, too_many, 2).await;
}

#[tokio::test]
async fn the_time_of_the_message_is_a_temporary_error() {
    let fake = zone(&[("a.test", "v=spf1 a:slow.test -all")]);
    fake.hang("slow.test");
    let clock = ManualClock::new(Time::default());
    let questions = Questions::new(Arc::new(fake), Arc::new(clock.clone()));
    let check = SpfCheck::new(questions, CLIENT.parse().unwrap(), "mx.test");
    let sender = path("ann@a.test");
    let later = async { clock.advance(TIME_LIMIT) };
    let (result, ()) = tokio::join!(check.mail_from(&sender), later);
    assert_eq!(result.outcome, SpfOutcome::TempError);
    assert!(result.reason.starts_with("no answer about slow.test: "));
}

#[tokio::test]
async fn an_explanation_is_asked_for_when_it_is_wanted() {
    let explained = async |text: &[u8]| {
        let fake = zone(&[
            ("a.test", "v=spf1 redirect=b.test"),
            ("b.test", "v=spf1 -all exp=e.%{d}"),
        ]);
        fake.add("e.b.test", Record::Txt(text.to_vec()));
        let (questions, clock) = questions(&fake);
        clock.advance(Duration::from_secs(5));
        let check = SpfCheck::new(questions, CLIENT.parse().unwrap(), "mx.test");
        let result = check.mail_from(&path("ann@a.test")).await;
        assert_eq!(result.outcome, SpfOutcome::Fail);
        let question = Question::new("e.b.test", RecordType::Txt);
        assert_eq!(fake.asked(&question), 0);
        let text = check.explain(&result, "mx.example", clock.now()).await;
        assert_eq!(fake.asked(&question), 1);
        text
    };
    assert_eq!(
        explained(b"%{c} may not send as %{s}. See %{r}, %{d}, %{t} %{h} %{p}")
            .await
            .unwrap(),
        "a.test explains: 192.0.2.7 may not send as ann@a.test. See mx.example, b.test, 5 mx.test unknown"
    );
    let long = explained(&b"x".repeat(60_000)).await.unwrap();
    assert_eq!(long, format!("a.test explains: {}", "x".repeat(200)));
    let long = explained(&b"%{S}%_".repeat(5000)).await.unwrap();
    assert!(
        long.starts_with("a.test explains: ann%40a.test ann%40a.test "),
        "{long}"
    );
    for text in [
        &b""[..],
        b" ",
        b"a\r\n250 ok",
        b"\x1b[2J",
        b"\xc3\xa4",
        b"%{x}",
        b"%",
    ] {
        assert_eq!(explained(text).await, None, "{text:?}");
    }
}

#[tokio::test]
async fn no_explanation_without_a_failure() {
    let fake = zone(&[("a.test", "v=spf1 ~all exp=e.test"), ("e.test", "text")]);
    let (questions, _clock) = questions(&fake);
    let check = SpfCheck::new(questions.clone(), CLIENT.parse().unwrap(), "mx.test");
    let result = check.mail_from(&path("ann@a.test")).await;
    let explained = check.explain(&result, "mx.example", Time::default()).await;
    assert_eq!((explained, questions.asked()), (None, 1));
}

proptest! {
    /// Any records that lead to each other end, within the terms and questions that are allowed.
    #[test]
    fn any_zone_ends(
        records in prop::collection::vec(
            "v=spf1( [-+?~]?(all|a|mx|ptr|ip4:192[.]0[.]2[.]7|(a|mx|ptr|include|exists):(%[{][slodipvh][0-9]?r?[-.]?[}][.])?[abcd][.]test|redirect=[abcd][.]test|exp=[abcd][.]test)){0,6}",
            4,
        ),
        names in prop::collection::vec("[abcd][.]test", 0..12),
        local_part in "[a-z.%\u{e4}]{0,20}",
        is_v6 in any::<bool>(),
    ) {
        let client = if is_v6 { "2001:db8::7" } else { CLIENT };
        let fake = FakeResolver::default();
        for (name, record) in ["a.test", "b.test", "c.test", "d.test"].iter().zip(&records) {
            fake.add(name, Record::Txt(record.clone().into_bytes()));
        }
        for (at, host) in names.iter().enumerate() {
            let mx = postrider_dns::Mx { preference: 0, host: host.clone() };
            fake.add(&names[at / 2], Record::Mx(mx));
            fake.add(Question::reverse(client.parse().unwrap()).name(), Record::Ptr(host.clone()));
            fake.add_address(host, if at % 2 == 0 { client } else { "192.0.2.8" });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime.block_on(async {
            let (questions, _clock) = questions(&fake);
            let check = SpfCheck::new(questions.clone(), client.parse().unwrap(), "a.test");
            let domain = Domain::parse("a.test").unwrap();
            let result = check.sender(&local_part, Some(domain)).await;
            let asked = questions.asked();
            let explained = check.explain(&result, "mx.example", Time::default()).await;
            (result, asked, explained)
        });
        let (result, asked, explained) = result;
        prop_assert!(asked <= MAX_QUESTIONS);
        prop_assert!(!result.reason.is_empty() && result.outcome != SpfOutcome::None);
        if let Some(text) = explained {
            prop_assert!(result.outcome == SpfOutcome::Fail && text.len() < 300);
        }
    }
}
