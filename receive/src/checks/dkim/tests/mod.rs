//! Tests of whole DKIM checks.

mod faults;
mod hostile;
mod keys;
pub(crate) mod support;

use proptest::prelude::*;

use self::support::{MESSAGE, NOW, TestKey, ed25519, results, rsa, sign, zone};
use super::*;

/// The outcome and reason of the only signature.
pub(crate) async fn outcome(text: &str, record: &str) -> (DkimOutcome, String) {
    let (found, _) = results(text, &zone(record)).await;
    let [found] = found.as_slice() else {
        panic!("not one result: {found:?}");
    };
    (found.outcome, found.reason.clone().unwrap_or_default())
}

/// A message with an Ed25519 signature by these tags besides `v`, `a`, `d` and `s`.
pub(crate) fn signed(tags: &str) -> String {
    let tags = format!("v=1; a=ed25519-sha256; d=example.org; s=k; {tags}");
    sign(ed25519(), &tags, MESSAGE)
}

const PASS: (DkimOutcome, String) = (DkimOutcome::Pass, String::new());

/// The message and the keys of RFC 8463 §A.
#[tokio::test]
async fn the_example_of_rfc_8463_passes() {
    let text = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n \
        d=football.example.com; i=@football.example.com;\r\n \
        q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
        subject : date : message-id : from : subject : date;\r\n \
        bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
        b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n \
        Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n\
        DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n \
        d=football.example.com; i=@football.example.com;\r\n \
        q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n \
        date : message-id : from : subject : date;\r\n \
        bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
        b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n \
        DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n \
        dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n\
        From: Joe SixPack <joe@football.example.com>\r\n\
        To: Suzie Q <suzie@shopping.example.net>\r\n\
        Subject: Is dinner ready?\r\n\
        Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
        Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n\
        Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
    let fake = postrider_dns::FakeResolver::default();
    for (selector, record) in [
        (
            "brisbane",
            "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        ),
        (
            "test",
            "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6\
             Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL\
             6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
        ),
    ] {
        let name = format!("{selector}._domainkey.football.example.com");
        fake.add(&name, postrider_dns::Record::Txt(record.into()));
    }
    let (found, asked) = results(text, &fake).await;
    assert_eq!(asked, 2);
    for (found, selector) in found.iter().zip(["brisbane", "test"]) {
        assert_eq!((found.outcome, &found.reason), (DkimOutcome::Pass, &None));
        assert_eq!(found.selector.as_deref(), Some(selector));
        assert_eq!(found.identity.as_deref(), Some("@football.example.com"));
    }
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].algorithm.as_deref(), Some("ed25519-sha256"));
    assert_eq!(
        found[0].domain.as_ref().unwrap().ascii(),
        "football.example.com"
    );
    let b = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY";
    assert_eq!(found[0].signature, b);
}

#[tokio::test]
async fn every_form_and_algorithm_passes() {
    for form in ["", "c=simple; ", "c=relaxed; ", "c=relaxed/simple; "]
        .into_iter()
        .chain([
            "c=simple/relaxed; ",
            "c=simple/simple; ",
            "c=relaxed/relaxed; ",
        ])
    {
        for (algorithm, key) in [("ed25519-sha256", ed25519()), ("rsa-sha256", rsa())] {
            let tags = format!(
                "v=1; a={algorithm}; {form}d=example.org; s=k; h=From:to:subject:date:subject:x"
            );
            let TestKey { record, .. } = key;
            let text = sign(key, &tags, MESSAGE);
            assert_eq!(outcome(&text, record).await, PASS, "{tags}");
            let with_bcc = text.replace("To: bob", "Bcc: c@d.test\r\nTo: bob");
            assert_eq!(outcome(&with_bcc, record).await, PASS, "{tags}");
            for (change, why) in [
                (("Hi\r\n", "Ho\r\n"), "signature did not verify"),
                (("Subject: Hi\r\n", ""), "signature did not verify"),
                (("Date:", "X: y\r\nDate:"), "signature did not verify"),
                (("Date:", "Subject: y\r\nDate:"), "signature did not verify"),
                (("Bob.", "Bob!"), "body hash did not verify"),
            ] {
                let changed = text.replace(change.0, change.1);
                let expected = (DkimOutcome::Fail, why.to_owned());
                assert_eq!(
                    outcome(&changed, record).await,
                    expected,
                    "{tags} {change:?}"
                );
            }
        }
    }
}

/// The relaxed form takes changes of white space, the simple form does not.
#[tokio::test]
async fn white_space_counts_in_the_simple_form_only() {
    let ed25519 = ed25519();
    let header = ("Subject: Hi\r\n", "SUBJECT :  Hi \r\n");
    let body = ("Hello  Bob. ", "Hello Bob.\t");
    for (form, change, passes) in [
        ("relaxed/simple", header, true),
        ("simple/relaxed", header, false),
        ("simple/relaxed", body, true),
        ("relaxed/simple", body, false),
    ] {
        let text = signed(&format!("c={form}; h=from:subject"));
        let (found, _) = outcome(&text.replace(change.0, change.1), &ed25519.record).await;
        assert_eq!(found == DkimOutcome::Pass, passes, "{form} {change:?}");
    }
}

#[tokio::test]
async fn only_the_needed_forms_of_the_body_are_asked_for() {
    let forms = |text: &str| {
        let (section, _) = support::split(text);
        let check = DkimCheck::new(Arc::new(HeaderFields::new(section)), None, support::now());
        let BodyForms { simple, relaxed } = check.body_forms();
        (simple, relaxed)
    };
    assert_eq!(forms(MESSAGE), (false, false));
    assert_eq!(forms(&signed("h=from:subject")), (true, false));
    assert_eq!(
        forms(&signed("c=simple/relaxed; h=from:subject")),
        (false, true)
    );
    // A signature that is no good needs none.
    assert_eq!(forms(&signed("h=to")), (false, false));
    let (section, _) = support::split(&signed("h=from:subject"));
    let check = DkimCheck::new(Arc::new(HeaderFields::new(section)), None, support::now());
    let keys = check
        .keys(&support::questions(&zone(&ed25519().record)))
        .await;
    let results = check.results(&keys, &BodyHashes::default());
    assert_eq!(results[0].reason.as_deref(), Some("the body was not read"));
}

/// Another signature, by another domain, covers the first one.
#[tokio::test]
async fn a_signature_may_cover_another_one() {
    let first = signed("h=from:subject");
    let tags = "v=1; a=ed25519-sha256; d=example.org; s=k; h=from:subject:dkim-signature";
    let both = sign(ed25519(), tags, &first);
    let fake = zone(&ed25519().record);
    let (found, asked) = results(&both, &fake).await;
    assert!(
        found.iter().all(|one| one.outcome == DkimOutcome::Pass),
        "{found:?}"
    );
    assert_eq!((found.len(), asked), (2, 1), "one question for one key");
    let broken = both.replacen("b=", "b= ", 2).replacen("b= ", "b=", 1);
    let (found, _) = results(&broken, &fake).await;
    assert_ne!(found[0].outcome, DkimOutcome::Pass);
}

#[tokio::test]
async fn names_of_keys_may_be_numbers_and_words_of_any_script() {
    for (d, s, name) in [
        ("example.org", "20230601", "20230601._domainkey.example.org"),
        ("example.org", "a.b_c", "a.b_c._domainkey.example.org"),
        (
            "b\u{fc}.test",
            "\u{fc}",
            "xn--tda._domainkey.xn--b-eha.test",
        ),
        ("EXAMPLE.org", "K", "k._domainkey.example.org"),
    ] {
        let tags = format!("v=1; a=ed25519-sha256; d={d}; s={s}; h=from:subject");
        let text = sign(ed25519(), &tags, MESSAGE);
        let fake = postrider_dns::FakeResolver::default();
        fake.add(
            name,
            postrider_dns::Record::Txt(ed25519().record.clone().into()),
        );
        let (found, _) = results(&text, &fake).await;
        assert_eq!(found[0].outcome, DkimOutcome::Pass, "{d} {s}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A change of any letter or digit in what is signed is noticed.
    #[test]
    fn no_changed_message_passes(at in 0_usize..10_000) {
        let text = signed(&format!("t={NOW}; c=relaxed/relaxed; h=from:to:subject:date"));
        let places: Vec<usize> = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| byte.is_ascii_alphanumeric())
            .map(|(at, _)| at)
            .collect();
        let at = places[at % places.len()];
        let mut changed = text.into_bytes();
        changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
        let changed = String::from_utf8(changed).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (found, _) = runtime.block_on(results(&changed, &zone(&ed25519().record)));
        prop_assert!(found.iter().all(|one| one.outcome != DkimOutcome::Pass), "{changed}");
    }

    /// Any tags give a result, and no panic.
    #[test]
    fn any_signature_has_a_result(
        tags in prop::collection::vec("v=1;|a=rsa-sha256;|b=AQID;|bh=A;|d=|x.test;|s=k;|h=from;|i=@|c=/;|;|=| |\u{e4}", 0..20),
    ) {
        let text = format!("DKIM-Signature: {}\r\n{MESSAGE}", tags.concat());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (found, _) = runtime.block_on(results(&text, &zone("")));
        prop_assert_eq!(found.len(), 1);
        prop_assert!(found[0].outcome != DkimOutcome::Pass && found[0].reason.is_some());
    }
}
