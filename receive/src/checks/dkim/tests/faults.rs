//! Signatures with one fault each. Without the fault they would pass.

use super::{
    PASS, outcome, signed,
    support::{MESSAGE, NOW, ed25519, hash_of, results, sign, zone},
};
use crate::checks::dkim::{DkimOutcome, MAX_NAMES};

async fn check(text: &str, expected: DkimOutcome, why: &str) {
    let found = outcome(text, &ed25519().record).await;
    assert_eq!(found, (expected, why.to_owned()), "{text}");
}

async fn permerror(text: &str, why: &str) {
    check(text, DkimOutcome::PermError, why).await;
}

/// A signature whose tags are all written out.
fn with(tags: &str) -> String {
    sign(ed25519(), tags, MESSAGE)
}

#[tokio::test]
async fn tags_that_must_be_there() {
    for missing in ["v", "a", "d", "s", "h"] {
        let tags = [
            "v=1",
            "a=ed25519-sha256",
            "d=example.org",
            "s=k",
            "h=from:subject",
        ];
        let tags = tags.iter().filter(|tag| !tag.starts_with(missing));
        let tags: Vec<&str> = tags.copied().collect();
        let why = format!("the signature has no {missing}=");
        permerror(&with(&tags.join("; ")), &why).await;
    }
    let text = signed("h=from:subject");
    permerror(&text.replacen("bh=", "xbh=", 1), "the signature has no bh=").await;
    permerror(&text.replacen(" b=", " xb=", 1), "the signature has no b=").await;
}

#[tokio::test]
async fn tags_that_can_not_be_read() {
    let rest = "d=example.org; s=k; h=from:subject";
    let ed = "a=ed25519-sha256";
    for (tags, bad) in [
        (format!("v=2; {ed}; {rest}"), "v"),
        (format!("v=01; {ed}; {rest}"), "v"),
        (format!("v=1; a=rsa; {rest}"), "a"),
        (format!("v=1; a=; {rest}"), "a"),
        (format!("v=1; a=rsa-sha512; {rest}"), "a"),
        (format!("v=1; {ed}; d=; s=k; h=from:subject"), "d"),
        (format!("v=1; {ed}; d=a..b; s=k; h=from:subject"), "d"),
        (format!("v=1; {ed}; d=example.org; s=; h=from:subject"), "s"),
        (
            format!("v=1; {ed}; d=example.org; s=a b; h=from:subject"),
            "s",
        ),
        (format!("v=1; {ed}; {rest}; c="), "c"),
        (format!("v=1; {ed}; {rest}; c=nice"), "c"),
        (format!("v=1; {ed}; {rest}; c=simple/"), "c"),
        (format!("v=1; {ed}; {rest}; t=now"), "t"),
        (format!("v=1; {ed}; {rest}; t=-1"), "t"),
        (format!("v=1; {ed}; {rest}; x="), "x"),
        (format!("v=1; {ed}; {rest}; l=0x"), "l"),
        (format!("v=1; {ed}; {rest}; q=dns/any"), "q"),
        (format!("v=1; {ed}; {rest}; i=example.org"), "i"),
        (format!("v=1; {ed}; {rest}; i=a=4@example.org"), "i"),
    ] {
        permerror(&with(&tags), &format!("the signature has a bad {bad}=")).await;
    }
    // mail-auth drops a signature with such base64, so that nobody hears of it.
    let text = signed("h=from:subject");
    for broken in ["", "A", "?", "AA-_", "QUJD=QUJD"] {
        let (before, after) = text.split_once("; b=").unwrap();
        let (_, after) = after.split_once("\r\n").unwrap();
        let changed = format!("{before}; b={broken}\r\n{after}");
        permerror(&changed, "the signature has a bad b=").await;
        let (before, after) = text.split_once("bh=").unwrap();
        let (_, after) = after.split_once("; ").unwrap();
        let changed = format!("{before}bh={broken}; {after}");
        permerror(&changed, "the signature has a bad bh=").await;
    }
    let short = text.replace("bh=", "bh=QUJD; ybh=");
    permerror(&short, "the signature has a bad bh=").await;
}

#[tokio::test]
async fn lists_that_are_no_tag_lists() {
    let text = signed("h=from:subject");
    for (change, why) in [
        (
            "v=1; v=1;",
            "the signature can't be read: a tag is there twice",
        ),
        (
            "v=1; d=example.com;",
            "the signature can't be read: a tag is there twice",
        ),
        (
            "v=1;;",
            "the signature can't be read: a tag is not name=value",
        ),
        (
            "v=1; strange;",
            "the signature can't be read: a tag is not name=value",
        ),
        (
            "v=1; 5=6;",
            "the signature can't be read: a tag is not name=value",
        ),
    ] {
        permerror(&text.replacen("v=1;", change, 1), why).await;
    }
    permerror(
        &format!("DKIM-Signature:\r\n{MESSAGE}"),
        "the signature can't be read: a tag is not name=value",
    )
    .await;
    // Unknown tags, any order, and a semicolon at the end are allowed.
    let tags = "zz=?; s=k; h=from:subject; d=example.org; a=ed25519-sha256; v=1";
    assert_eq!(outcome(&with(tags), &ed25519().record).await, PASS);
}

/// mail-auth lets such signatures pass.
#[tokio::test]
async fn signatures_that_do_not_protect() {
    permerror(
        &with("v=1; a=rsa-sha1; d=example.org; s=k; h=from:subject"),
        "rsa-sha1 is not secure",
    )
    .await;
    for names in ["subject", "to:subject", "from-x:subject", ":subject", ""] {
        permerror(&signed(&format!("h={names}")), "From is not signed").await;
    }
    let policy = DkimOutcome::Policy;
    for length in ["0", "5", "99999"] {
        let text = signed(&format!("h=from:subject; l={length}"));
        check(&text, policy, "l= leaves the end of the body open").await;
    }
    check(&signed("h=from:to"), policy, "Subject is not signed").await;
    let without = MESSAGE.replace("Subject: Hi\r\n", "");
    let tags = "v=1; a=ed25519-sha256; d=example.org; s=k; h=from";
    let text = sign(ed25519(), tags, &without);
    assert_eq!(outcome(&text, &ed25519().record).await, PASS);
    let names = "from:subject".to_owned() + &":x".repeat(MAX_NAMES - 2);
    assert_eq!(
        outcome(&signed(&format!("h={names}")), &ed25519().record).await,
        PASS
    );
    check(
        &signed(&format!("h={names}:x")),
        policy,
        "too many names in h=",
    )
    .await;
}

#[tokio::test]
async fn times() {
    let h = "h=from:subject";
    for good in [
        format!("{h}; t={NOW}; x={NOW}"),
        format!("{h}; t={}", NOW + 300),
        format!("{h}; t=0; x={}", "9".repeat(30)),
        format!("{h}; x={}", NOW + 1),
    ] {
        assert_eq!(
            outcome(&signed(&good), &ed25519().record).await,
            PASS,
            "{good}"
        );
    }
    permerror(
        &signed(&format!("{h}; x={}", NOW - 1)),
        "the signature has expired",
    )
    .await;
    permerror(
        &signed(&format!("{h}; t={}", NOW + 301)),
        "the signature is from the future",
    )
    .await;
    permerror(
        &signed(&format!("{h}; t={}", "9".repeat(30))),
        "the signature is from the future",
    )
    .await;
    permerror(
        &signed(&format!("{h}; t={}; x={}", NOW + 100, NOW + 99)),
        "the signature expires before its own time",
    )
    .await;
}

#[tokio::test]
async fn identities_and_domains() {
    let h = "h=from:subject";
    for good in [
        "i=@example.org",
        "i=ann@example.org",
        "i=ann@a.b.EXAMPLE.org",
        "i=a=40b=3Bc @ example.org",
        "i=\u{e4}@example.org",
    ] {
        let text = signed(&format!("{h}; {good}"));
        assert_eq!(outcome(&text, &ed25519().record).await, PASS, "{good}");
    }
    for outside in [
        "@example.com",
        "@badexample.org",
        "@org",
        "@example.org.test",
    ] {
        permerror(&signed(&format!("{h}; i={outside}")), "i= is not in d=").await;
    }
    for suffix in ["org", "co.uk", "test", "xn--p1ai"] {
        let tags = format!("v=1; a=ed25519-sha256; d={suffix}; s=k; {h}");
        permerror(&with(&tags), "d= is a public suffix").await;
    }
    // The owner of a service on the private part of the list may sign.
    let fake = zone("");
    let record = postrider_dns::Record::Txt(ed25519().record.clone().into());
    fake.add("k._domainkey.github.io", record);
    let tags = format!("v=1; a=ed25519-sha256; d=github.io; s=k; {h}");
    let (found, _) = results(&with(&tags), &fake).await;
    assert_eq!(found[0].outcome, DkimOutcome::Pass);
}

/// mail-auth calls a wrong body hash neutral.
#[tokio::test]
async fn a_wrong_hash_is_a_failure() {
    let text = signed("h=from:subject");
    let (before, after) = text.split_once("bh=").unwrap();
    let (_, after) = after.split_once(';').unwrap();
    let other = format!("{before}bh={};{after}", hash_of(b"other"));
    check(&other, DkimOutcome::Fail, "body hash did not verify").await;
    let other = text.replace("\r\n\r\nHello", "\r\n\r\nX");
    check(&other, DkimOutcome::Fail, "body hash did not verify").await;
}

/// White space at the end of a body is no content in the relaxed form. mail-auth hashes it.
#[tokio::test]
async fn blank_lines_at_the_end_of_a_body_do_not_count() {
    let text = signed("c=relaxed/relaxed; h=from:subject");
    let longer = format!("{text} \t\r\n\r\n\t\r\n");
    assert_eq!(outcome(&longer, &ed25519().record).await, PASS);
    let longer = format!("{text} x\r\n");
    check(&longer, DkimOutcome::Fail, "body hash did not verify").await;
}
