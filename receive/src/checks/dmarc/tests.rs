//! Tests of the whole check.

use std::{sync::Arc, time::Duration};

use postrider_dns::{
    CacheLimits, CachingResolver, FakeResolver, Question, Record as DnsRecord, RecordType,
};
use postrider_smtp::{Address, ReversePath};
use postrider_store::{ManualClock, Time};

use super::*;
use crate::checks::{questions::tests::questions, spf::SpfCheck};

/// A message: its author domain, the MAIL FROM domain with its SPF record, and its DKIM domains, of
/// which those with `?` have no answer.
struct Mail {
    from: &'static str,
    spf: (&'static str, &'static str),
    dkim: &'static [&'static str],
}

const PASS: &str = "v=spf1 all";
const FAIL: &str = "v=spf1 -all";
const TEMPORARY: &str = "v=spf1 include:silent.test -all";

fn domains<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Domain> {
    texts.map(|text| Domain::parse(text).unwrap()).collect()
}

fn zone(records: &[(&str, &str)]) -> FakeResolver {
    let fake = FakeResolver::default();
    for (name, text) in records {
        fake.exist(name);
        let text = format!("v=DMARC1; {text}").into_bytes();
        fake.add(&format!("_dmarc.{name}"), DnsRecord::Txt(text));
    }
    fake
}

/// Checks a message with this author's domain, of which no record is known.
async fn dmarc(questions: &Questions, from: Option<&Domain>, input: DmarcInput<'_>) -> DmarcResult {
    let mut alignment = match from {
        Some(from) => Some(Alignment::new(questions, Records::default(), from).await),
        None => None,
    };
    super::check(input, alignment.as_mut()).await
}

/// Checks a message. Gives the result, and the number of questions that DMARC took.
async fn check(fake: &FakeResolver, mail: &Mail) -> (DmarcResult, u32) {
    let (questions, _clock) = questions(fake);
    let (domain, record) = mail.spf;
    fake.remove(domain);
    fake.add(domain, DnsRecord::Txt(record.as_bytes().to_vec()));
    let spf = SpfCheck::new(questions.clone(), [192, 0, 2, 7].into(), "mx.test");
    let sender = Address::parse(&format!("ann@{domain}")).unwrap();
    let spf = spf.mail_from(&ReversePath::Mailbox(sender)).await;
    let before = questions.asked();
    let from = Domain::parse(mail.from).unwrap();
    let dkim = mail.dkim.iter().copied();
    let passed = domains(dkim.clone().filter(|domain| !domain.starts_with('?')));
    let unanswered = domains(dkim.filter_map(|domain| domain.strip_prefix('?')));
    let input = DmarcInput {
        spf: Some(&spf),
        dkim_passed: &passed,
        dkim_unanswered: &unanswered,
    };
    let result = dmarc(&questions, Some(&from), input).await;
    (result, questions.asked() - before)
}

fn words(result: &DmarcResult) -> String {
    let policy = result.policy.map_or("-", DmarcPolicy::as_str);
    let (spf, dkim) = (result.spf_aligned, result.dkim_aligned);
    let by = [(spf, " spf"), (dkim, " dkim")];
    let by: String = by.iter().filter(|by| by.0).map(|by| by.1).collect();
    format!("{} {policy}{by}", result.outcome.as_str())
}

#[tokio::test]
async fn aligned_domains_pass() {
    let relaxed = ("a.test", "p=reject");
    let strict = ("a.test", "p=reject; adkim=s; aspf=s");
    let own = ("b.a.test", "p=quarantine; psd=n");
    let suffix = ("test", "p=none; psd=y");
    for (records, from, spf, dkim, expected, asked) in [
        // The same domain needs no second walk.
        (
            &[relaxed][..],
            "a.test",
            ("a.test", PASS),
            &[][..],
            "pass reject spf",
            2,
        ),
        (
            &[relaxed],
            "a.test",
            ("a.test", FAIL),
            &["a.test"],
            "pass reject dkim",
            2,
        ),
        (
            &[relaxed],
            "a.test",
            ("a.test", PASS),
            &["x.test", "a.test"],
            "pass reject spf dkim",
            2,
        ),
        (
            &[relaxed],
            "a.test",
            ("a.test", FAIL),
            &[],
            "fail reject",
            2,
        ),
        (
            &[relaxed],
            "a.test",
            ("x.test", PASS),
            &["y.test"],
            "fail reject",
            2,
        ),
        (
            &[relaxed],
            "a.test",
            ("x.example", PASS),
            &["a.test.example"],
            "fail reject",
            2,
        ),
        // Another name of the organisation needs one question more.
        (
            &[relaxed],
            "a.test",
            ("b.a.test", PASS),
            &[],
            "pass reject spf",
            3,
        ),
        (
            &[relaxed],
            "b.a.test",
            ("x.test", PASS),
            &["c.a.test"],
            "pass reject dkim",
            4,
        ),
        (
            &[relaxed],
            "b.a.test",
            ("x.test", PASS),
            &["a.test"],
            "pass reject dkim",
            3,
        ),
        (
            &[strict],
            "a.test",
            ("b.a.test", PASS),
            &["b.a.test"],
            "fail reject",
            2,
        ),
        (
            &[strict],
            "b.a.test",
            ("a.test", PASS),
            &["a.test", "b.a.test"],
            "pass reject dkim",
            3,
        ),
        // A name below is an organisation of its own.
        (
            &[relaxed, own],
            "a.test",
            ("b.a.test", PASS),
            &[],
            "fail reject",
            3,
        ),
        (
            &[relaxed, own],
            "b.a.test",
            ("a.test", PASS),
            &[],
            "fail quarantine",
            1,
        ),
        (
            &[relaxed, own],
            "b.a.test",
            ("c.b.a.test", PASS),
            &[],
            "pass quarantine spf",
            2,
        ),
        // A record of the public suffix only.
        (
            &[suffix],
            "b.a.test",
            ("c.a.test", PASS),
            &["x.test"],
            "pass none spf",
            4,
        ),
        (
            &[suffix],
            "b.a.test",
            ("x.test", PASS),
            &["x.test"],
            "fail none",
            3,
        ),
        // A public suffix is no organisation of names below it.
        (
            &[relaxed],
            "a.test",
            ("a.test", FAIL),
            &["test"],
            "fail reject",
            2,
        ),
    ] {
        let mail = Mail { from, spf, dkim };
        let (result, questions) = check(&zone(records), &mail).await;
        let case = format!("{records:?} {from} {spf:?} {dkim:?}");
        assert_eq!(words(&result), expected, "{case}");
        assert_eq!(questions, asked, "{case}");
    }
}

#[tokio::test]
async fn names_below_have_their_own_policies() {
    let mail = |from| Mail {
        from,
        spf: ("x.test", FAIL),
        dkim: &[],
    };
    for (record, from, expected, asked) in [
        (
            "p=reject; sp=quarantine; np=none",
            "a.test",
            "fail reject",
            2,
        ),
        (
            "p=reject; sp=quarantine; np=none",
            "here.a.test",
            "fail quarantine",
            4,
        ),
        (
            "p=reject; sp=quarantine; np=none",
            "no.a.test",
            "fail none",
            4,
        ),
        ("p=none; np=reject; t=y", "no.a.test", "fail quarantine", 4),
        ("p=none; np=reject", "here.a.test", "fail none", 4),
        // Whether the name exists makes no difference.
        ("p=reject; sp=none", "no.a.test", "fail none", 3),
        ("p=reject; sp=none; np=none", "no.a.test", "fail none", 3),
        ("p=reject", "no.a.test", "fail reject", 3),
        ("p=reject; pct=0", "no.a.test", "fail quarantine", 3),
        ("p=block", "no.a.test", "none -", 3),
        ("p=block; rua=mailto:a@a.test", "no.a.test", "fail none", 3),
        ("x=y", "a.test", "none -", 2),
    ] {
        let fake = zone(&[("a.test", record)]);
        fake.exist("here.a.test");
        let (result, questions) = check(&fake, &mail(from)).await;
        assert_eq!(words(&result), expected, "{record} {from}");
        assert_eq!(questions, asked, "{record} {from}");
    }
    let fake = zone(&[("a.test", "p=none; np=reject")]);
    fake.fail_question("no.a.test", RecordType::A);
    let (result, _) = check(&fake, &mail("no.a.test")).await;
    assert_eq!(words(&result), "temperror none");
}

#[tokio::test]
async fn a_domain_without_a_record_is_measured_by_the_public_suffix_list() {
    for (from, spf, dkim, expected) in [
        (
            "a.example.co.uk",
            ("b.example.co.uk", PASS),
            &[][..],
            "none - spf",
        ),
        (
            "a.example.co.uk",
            ("other.co.uk", PASS),
            &["example.co.uk"],
            "none - dkim",
        ),
        (
            "a.example.co.uk",
            ("example.co.uk", FAIL),
            &["co.uk"],
            "none -",
        ),
        ("co.uk", ("x.test", FAIL), &["co.uk"], "none - dkim"),
    ] {
        let mail = Mail { from, spf, dkim };
        let (result, _) = check(&zone(&[]), &mail).await;
        assert_eq!(words(&result), expected, "{from}");
        let validated = expected.len() > "none -".len();
        assert_eq!(result.from_is_validated(), validated, "{from}");
    }
}

#[tokio::test]
async fn without_an_answer_nothing_is_certain() {
    let record = ("a.test", "p=reject");
    for (silent, from, spf, dkim, expected) in [
        // The walk.
        (
            "_dmarc.a.test",
            "a.test",
            ("x.test", PASS),
            &[][..],
            "temperror -",
        ),
        (
            "_dmarc.a.test",
            "a.test",
            ("a.test", PASS),
            &[],
            "temperror - spf",
        ),
        (
            "_dmarc.a.test",
            "a.test",
            ("b.a.test", PASS),
            &[],
            "temperror -",
        ),
        (
            "_dmarc.a.test",
            "b.a.test",
            ("b.a.test", FAIL),
            &["b.a.test"],
            "temperror - dkim",
        ),
        // The own record is known, the organisation is not.
        (
            "_dmarc.test",
            "a.test",
            ("a.test", PASS),
            &[],
            "pass reject spf",
        ),
        (
            "_dmarc.test",
            "a.test",
            ("b.a.test", PASS),
            &[],
            "temperror reject",
        ),
        (
            "_dmarc.test",
            "a.test",
            ("x.example", PASS),
            &["y.example"],
            "fail reject",
        ),
        // The walk of another domain.
        (
            "_dmarc.b.a.test",
            "a.test",
            ("b.a.test", PASS),
            &[],
            "temperror reject",
        ),
        (
            "_dmarc.b.a.test",
            "a.test",
            ("b.a.test", PASS),
            &["a.test"],
            "pass reject dkim",
        ),
        // The checks.
        (
            "s.test",
            "a.test",
            ("a.test", "v=spf1 a:s.test"),
            &[],
            "temperror reject",
        ),
        (
            "s.test",
            "a.test",
            ("a.test", "v=spf1 a:s.test"),
            &["a.test"],
            "pass reject dkim",
        ),
        (
            "s.test",
            "a.test",
            ("x.test", "v=spf1 a:s.test"),
            &[],
            "fail reject",
        ),
        (
            "s.test",
            "a.test",
            ("x.test", FAIL),
            &["?b.a.test"],
            "temperror reject",
        ),
        (
            "s.test",
            "a.test",
            ("x.test", FAIL),
            &["?x.test"],
            "fail reject",
        ),
        (
            "s.test",
            "a.test",
            ("x.test", FAIL),
            &["?a.test", "b.a.test"],
            "pass reject dkim",
        ),
    ] {
        let fake = zone(&[record]);
        fake.fail(silent);
        let mail = Mail { from, spf, dkim };
        let (result, _) = check(&fake, &mail).await;
        assert_eq!(words(&result), expected, "{silent} {from} {spf:?} {dkim:?}");
    }
}

/// Who lacks an answer may stand behind the author, also without a record.
#[tokio::test]
async fn a_missing_answer_about_the_author_is_told() {
    let record = &[("a.test", "p=none")][..];
    for (records, spf, dkim, expected) in [
        (&[][..], ("b.a.test", TEMPORARY), &[][..], true),
        (&[], ("x.test", FAIL), &["?b.a.test"], true),
        (&[], ("x.test", TEMPORARY), &["?x.test"], false),
        (&[], ("a.test", PASS), &["?a.test"], false),
        (&[], ("x.test", FAIL), &["a.test", "?a.test"], false),
        (record, ("x.test", FAIL), &["?a.test"], true),
        (record, ("x.test", TEMPORARY), &["?x.test"], false),
        (record, ("x.test", FAIL), &["a.test", "?a.test"], false),
    ] {
        let fake = zone(records);
        fake.fail("silent.test");
        let from = "a.test";
        let (result, _) = check(&fake, &Mail { from, spf, dkim }).await;
        assert_eq!(result.unanswered, expected, "{records:?} {spf:?} {dkim:?}");
    }
    let fake = zone(record);
    fake.fail("_dmarc.a.test");
    for (spf, expected) in [(FAIL, true), (PASS, false)] {
        let (from, spf) = ("a.test", ("a.test", spf));
        let (result, _) = check(
            &fake,
            &Mail {
                from,
                spf,
                dkim: &[],
            },
        )
        .await;
        assert_eq!(result.unanswered, expected, "{spf:?}");
    }
}

#[tokio::test]
async fn a_result_says_why() {
    let reject = ("a.test", "p=reject");
    for (records, spf, dkim, expected) in [
        (
            &[reject][..],
            ("a.test", FAIL),
            &[][..],
            "SPF fail, no aligned DKIM signature",
        ),
        (
            &[reject],
            ("x.test", PASS),
            &["x.test"],
            "SPF not aligned, no aligned DKIM signature",
        ),
        (
            &[reject],
            ("a.test", PASS),
            &["a.test"],
            "SPF and DKIM passed for an aligned domain",
        ),
        (&[], ("a.test", PASS), &[], "a.test has no DMARC record"),
        (
            &[("a.test", "p=x")],
            ("a.test", PASS),
            &[],
            "the DMARC record of a.test has no valid policy",
        ),
    ] {
        let mail = Mail {
            from: "a.test",
            spf,
            dkim,
        };
        let (result, _) = check(&zone(records), &mail).await;
        assert_eq!(result.reason, expected);
        assert_eq!(result.record_domain.is_some(), result.policy.is_some());
    }
}

#[tokio::test]
async fn a_message_without_an_author_domain_can_not_be_checked() {
    let (questions, _clock) = questions(&FakeResolver::default());
    let input = DmarcInput {
        spf: None,
        dkim_passed: &[],
        dkim_unanswered: &[],
    };
    let result = dmarc(&questions, None, input).await;
    assert_eq!(
        (result.outcome, questions.asked()),
        (DmarcOutcome::PermError, 0)
    );
}

/// Many signatures for many names of one organisation cost eight questions each at most, and names
/// that are shared are asked for once.
#[tokio::test]
async fn many_domains_ask_a_limited_number_of_questions() {
    let fake = zone(&[("a.test", "p=reject; psd=n")]);
    let (questions, _clock) = questions(&fake);
    let deep = |n: usize| format!("{}x{n}.a.test", format!("y{n}.").repeat(10));
    let passed: Vec<String> = (0..10).map(deep).collect();
    for name in &passed {
        // Each is an organisation of its own, so none is aligned.
        let own = DnsRecord::Txt(b"v=DMARC1; p=none; psd=n".to_vec());
        fake.add(&format!("_dmarc.{}", &name[name.len() - 9..]), own);
    }
    let passed = domains(passed.iter().map(String::as_str));
    let from = Domain::parse("a.test").unwrap();
    let input = DmarcInput {
        spf: None,
        dkim_passed: &passed,
        dkim_unanswered: &passed,
    };
    let result = dmarc(&questions, Some(&from), input).await;
    assert_eq!(words(&result), "fail reject");
    // The walks stop at the third name from the right.
    assert_eq!(questions.asked(), 1 + 10 * 6);
    let shared = Question::new("_dmarc.a.test", RecordType::Txt);
    assert_eq!(fake.asked(&shared), 1);
}

/// A sender's SPF record leads to the DMARC record of a victim, by each way that asks for TXT.
/// Behind the cache that all checks share, the victim's record is still there for DMARC.
#[tokio::test]
async fn the_records_of_a_sender_do_not_turn_off_the_dmarc_of_a_victim() {
    let fake = zone(&[("victim.test", "p=reject")]);
    fake.add_address("s.test", "192.0.2.7");
    let now: postrider_dns::Now = Arc::new(|| Duration::ZERO);
    let cache = CachingResolver::new(fake.clone(), CacheLimits::default(), Duration::MAX, now);
    let ask = || {
        let clock = ManualClock::new(Time::default());
        Questions::new(Arc::new(cache.clone()), Arc::new(clock))
    };
    for (name, record) in [
        ("a.test", "v=spf1 include:_dmarc.victim.test -all"),
        ("b.test", "v=spf1 redirect=_dmarc.victim.test"),
        ("c.test", "v=spf1 -a:s.test exp=_dmarc.victim.test"),
        ("d.test", "v=spf1 include:x._domainkey.victim.test -all"),
    ] {
        fake.add(name, DnsRecord::Txt(record.as_bytes().to_vec()));
        let spf = SpfCheck::new(ask(), [192, 0, 2, 7].into(), "mx.test");
        let sender = Address::parse(&format!("ann@{name}")).unwrap();
        let result = spf.mail_from(&ReversePath::Mailbox(sender)).await;
        assert_ne!(result.outcome, SpfOutcome::Pass);
        let _ = spf.explain(&result, "mx.example", Time::default()).await;
        let from = Domain::parse("victim.test").unwrap();
        let input = DmarcInput {
            spf: Some(&result),
            dkim_passed: &[],
            dkim_unanswered: &[],
        };
        assert_eq!(
            words(&dmarc(&ask(), Some(&from), input).await),
            "fail reject",
            "{record}"
        );
    }
    // All of them read the same answer.
    let victim = Question::new("_dmarc.victim.test", RecordType::Txt);
    assert_eq!(fake.asked(&victim), 1);
}
