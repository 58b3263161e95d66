//! Chains that are sealed by our own code, changed, and verified.

use std::{sync::Arc, time::Duration};

use postrider_config::{Canonicalization, DkimAlgorithm, DkimHash, DkimKey, DkimSelector};
use postrider_dns::{FakeResolver, Record};
use postrider_smtp::{Domain, field};

use super::{
    ArcChain, ArcFault, ArcOutcome, ArcResult, MAX_SETS, SealError, Sealer, names_to_sign,
};
use crate::checks::dkim::{
    BodyForms, BodyHashes, HeaderFields, MAX_FIELDS,
    tests::support::{MESSAGE, TestKey, ed25519, hashes, now, questions, rsa, split, zone},
};

const RESULTS: &str = "mx.test; dmarc=pass header.from=example.org";

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn chain_of(text: &str) -> (ArcChain, BodyHashes) {
    let (section, body) = split(text);
    let chain = ArcChain::new(Arc::new(HeaderFields::new(section)));
    let mut forms = chain.body_forms();
    forms.relaxed = true;
    (chain, hashes(forms, &body))
}

/// The result of a message, and the number of questions.
async fn verify(text: &str, fake: &FakeResolver) -> (ArcResult, u32) {
    let (chain, body) = chain_of(text);
    let questions = questions(fake);
    let result = chain.verify(&questions, &body, now()).await;
    (result, questions.asked())
}

async fn check_fault(text: &str, expected: ArcFault) {
    let fake = zone(&ed25519().record);
    let (result, _) = verify(text, &fake).await;
    assert_eq!(result.outcome, ArcOutcome::Fail, "{text}");
    assert_eq!(result.reason, Some(expected.to_string()), "{text}");
    assert_eq!(result.oldest_pass, None);
}

/// The message with one more set.
pub(crate) async fn seal_as(
    text: &str,
    key: &TestKey,
    signer: &str,
    results: &str,
) -> Option<String> {
    let fake = zone(&key.record);
    for number in 1..=MAX_SETS {
        let name = format!("k._domainkey.s{number}.test");
        fake.add(&name, Record::Txt(key.record.clone().into()));
    }
    let (chain, body) = chain_of(text);
    let verified = chain.verify(&questions(&fake), &body, now()).await;
    let names = ["from", "to", "subject", "from"].map(str::to_owned);
    let sealer = Sealer {
        domain: &domain(signer),
        selector: &domain("k"),
        key: &key.key,
        names: &names,
    };
    let set = chain
        .seal(&verified, &sealer, results, &body, now())
        .unwrap()?;
    Some(String::from_utf8(set).unwrap() + text)
}

async fn seal(text: &str) -> String {
    seal_as(text, ed25519(), "example.org", RESULTS)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_sealed_message_passes_with_both_algorithms() {
    for key in [ed25519(), rsa()] {
        let text = seal_as(MESSAGE, key, "example.org", RESULTS).await.unwrap();
        let twice = seal_as(&text, key, "example.org", RESULTS).await.unwrap();
        for (text, sets) in [(&text, 1), (&twice, 2)] {
            let (result, asked) = verify(text, &zone(&key.record)).await;
            let expected = ArcResult {
                outcome: ArcOutcome::Pass,
                reason: None,
                oldest_pass: Some(0),
                remote_ip: None,
            };
            assert_eq!((result, asked), (expected, 1), "{text}");
            assert_eq!(chain_of(text).0.sealers().count(), sets);
        }
        let names: Vec<_> = field::fields(twice.as_bytes())
            .map(|field| str::from_utf8(field.name).unwrap())
            .take(6)
            .collect();
        let set = [
            "ARC-Seal",
            "ARC-Message-Signature",
            "ARC-Authentication-Results",
        ];
        assert_eq!(names, [set, set].concat());
        // Each line has its limit, but for the signature in one piece.
        let mut lines = twice.split("\r\n").filter(|line| !line.starts_with("\tb="));
        assert!(lines.all(|line| line.len() < 79), "{twice}");
    }
}

#[tokio::test]
async fn a_message_without_sets_has_no_chain() {
    let (result, asked) = verify(MESSAGE, &FakeResolver::default()).await;
    assert_eq!(
        (result.outcome, result.reason, asked),
        (ArcOutcome::None, None, 0)
    );
}

#[tokio::test]
async fn oldest_pass_tells_since_when_the_message_is_the_same() {
    let fake = zone(&ed25519().record);
    let first = seal(MESSAGE).await;
    let list = |text: &str, tag: &str| {
        let changed = text.replace("Subject: ", &format!("Subject: [{tag}] "));
        changed.replace("Hello", &format!("{tag} Hello"))
    };
    // A server changes the message, and seals it afterwards.
    let verified = verify(&first, &fake).await.0;
    let changed = list(&first, "a");
    let (_, body) = chain_of(&changed);
    let names = ["from", "subject"].map(str::to_owned);
    let sealer = Sealer {
        domain: &domain("example.org"),
        selector: &domain("k"),
        key: &ed25519().key,
        names: &names,
    };
    let (chain, _) = chain_of(&changed);
    let set = chain
        .seal(&verified, &sealer, RESULTS, &body, now())
        .unwrap()
        .unwrap();
    let second = String::from_utf8(set).unwrap() + &changed;
    let (result, _) = verify(&second, &fake).await;
    assert_eq!(
        (result.outcome, result.oldest_pass),
        (ArcOutcome::Pass, Some(2))
    );
    let third = seal(&second).await;
    let (result, _) = verify(&third, &fake).await;
    assert_eq!(
        (result.outcome, result.oldest_pass),
        (ArcOutcome::Pass, Some(2))
    );
    // A change after the last seal breaks the chain.
    let (result, _) = verify(&list(&third, "b"), &fake).await;
    let reason = "message signature 3: body hash did not verify";
    assert_eq!(result.outcome, ArcOutcome::Fail);
    assert_eq!(result.reason.as_deref(), Some(reason));
}

#[tokio::test]
async fn sets_that_are_not_whole() {
    let text = seal(&seal(MESSAGE).await).await;
    let lines: Vec<&str> = field::written(text.as_bytes())
        .map(|field| str::from_utf8(field).unwrap())
        .collect();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let without = |left_out: &[usize]| {
        let kept = (0..lines.len()).filter(|at| !left_out.contains(at));
        kept.map(|at| lines[at]).collect::<String>() + "\r\n" + body
    };
    // The fields are: seal, signature and results of set 2, then those of set 1.
    for (left_out, fault) in [
        (vec![0], ArcFault::Missing(2)),
        (vec![1], ArcFault::Missing(2)),
        (vec![2], ArcFault::Missing(2)),
        (vec![3], ArcFault::Missing(1)),
        (vec![4], ArcFault::Missing(1)),
        (vec![5], ArcFault::Missing(1)),
        (vec![3, 4, 5], ArcFault::Missing(1)),
        (vec![0, 1], ArcFault::Missing(2)),
    ] {
        check_fault(&without(&left_out), fault).await;
    }
    for (at, line) in lines.iter().enumerate().take(6) {
        let set = if at < 3 { 2 } else { 1 };
        check_fault(&format!("{line}{text}"), ArcFault::Duplicate(set)).await;
    }
    for instance in ["0", "", "x", "-1", "1 1"] {
        let changed = text.replacen("i=2;", &format!("i={instance};"), 1);
        check_fault(&changed, ArcFault::Instance).await;
    }
    let changed = text.replacen("i=2;", "i=9;", 1);
    check_fault(&changed, ArcFault::Missing(2)).await;
    let changed = text.replacen("i=2;", "i=99999999999999999999999;", 1);
    check_fault(&changed, ArcFault::Missing(2)).await;
    let changed = text.replacen("i=2; mx.test;", "mx.test; i=2;", 1);
    check_fault(&changed, ArcFault::Instance).await;
}

#[tokio::test]
async fn tags_that_can_not_be() {
    let text = seal(&seal(MESSAGE).await).await;
    for (from, to, fault) in [
        ("cv=pass", "cv=fail", ArcFault::Broken(2)),
        ("cv=pass", "cv=none", ArcFault::Validation(2)),
        ("cv=pass", "cv=", ArcFault::Validation(2)),
        ("cv=pass", "x=y", ArcFault::Validation(2)),
        ("cv=none", "cv=pass", ArcFault::Validation(1)),
        ("cv=none", "cv=fail", ArcFault::Validation(1)),
        ("cv=pass", "cv=pass; h=from", ArcFault::SealNamesFields(2)),
        ("h=from:to", "h=arc-seal:to", ArcFault::CoversSeals(2)),
    ] {
        check_fault(&text.replacen(from, to, 1), fault).await;
    }
    for (from, to, reason) in [
        (
            "cv=pass; d=example.org",
            "cv=pass; d=***",
            "seal 2: the signature has a bad d=",
        ),
        (
            "a=ed25519-sha256",
            "a=rsa-sha1",
            "seal 2: rsa-sha1 is not secure",
        ),
        (
            "bh=",
            "bh=?",
            "message signature 2: the signature has a bad bh=",
        ),
        (
            "bh=",
            "l=3; bh=",
            "message signature 2: l= leaves the end of the body open",
        ),
        (
            "bh=",
            "x=3; bh=",
            "message signature 2: the signature expires before its own time",
        ),
        (
            "Subject: Hi",
            "Subject: Ho",
            "message signature 2: signature did not verify",
        ),
        ("mx.test;", "my.test;", "seal 2: signature did not verify"),
    ] {
        let changed = text.replacen(from, to, 1);
        let (result, _) = verify(&changed, &zone(&ed25519().record)).await;
        assert_eq!(result.reason.as_deref(), Some(reason));
    }
}

/// A set in the middle can't be exchanged, although the newest signature does not cover it.
#[tokio::test]
async fn every_seal_counts() {
    let text = seal(&seal(&seal(MESSAGE).await).await).await;
    let at = text.rfind("mx.test;").unwrap();
    let changed = format!("{}my.test;{}", &text[..at], &text[at + 8..]);
    let (result, _) = verify(&changed, &zone(&ed25519().record)).await;
    assert_eq!(
        result.reason.as_deref(),
        Some("seal 3: signature did not verify")
    );
    // The newest seal is right, and an older one wrong.
    let fake = zone(&ed25519().record);
    let mine = seal_as(MESSAGE, ed25519(), "s1.test", RESULTS)
        .await
        .unwrap();
    let both = seal_as(&mine, ed25519(), "s2.test", RESULTS).await.unwrap();
    fake.add(
        "k._domainkey.s2.test",
        Record::Txt(ed25519().record.clone().into()),
    );
    fake.add(
        "k._domainkey.s1.test",
        Record::Txt(rsa().record.clone().into()),
    );
    let (result, _) = verify(&both, &fake).await;
    assert_eq!(
        result.reason.as_deref(),
        Some("seal 1: the key has another type")
    );
}

#[tokio::test]
async fn a_chain_that_fails_is_left_as_it_is() {
    let text = seal(MESSAGE).await.replace("Subject: Hi", "Subject: Ho");
    assert_eq!(
        seal_as(&text, ed25519(), "example.org", RESULTS).await,
        None
    );
}

/// Fifty sets with keys of their own are the most. Broken ones ask nothing, or little.
#[tokio::test]
async fn long_chains_have_a_limit() {
    let mut text = MESSAGE.to_owned();
    for number in 1..=MAX_SETS {
        let signer = format!("s{number}.test");
        text = seal_as(&text, ed25519(), &signer, RESULTS).await.unwrap();
    }
    let fake = FakeResolver::default();
    for number in 1..=MAX_SETS {
        let record = Record::Txt(ed25519().record.clone().into());
        fake.add(&format!("k._domainkey.s{number}.test"), record);
    }
    let (result, asked) = verify(&text, &fake).await;
    assert_eq!(
        (result.outcome, asked),
        (ArcOutcome::Pass, 50),
        "{result:?}"
    );
    assert_eq!(
        seal_as(&text, ed25519(), "s1.test", RESULTS).await,
        None,
        "no 51st"
    );
    let changed = text.replacen("i=25;", "i=26;", 1);
    let (result, asked) = verify(&changed, &fake).await;
    assert_eq!((result.outcome, asked), (ArcOutcome::Fail, 0), "a gap");
    let changed = text.replace("Subject: Hi", "Subject: Ho");
    let (result, asked) = verify(&changed, &fake).await;
    assert_eq!(
        (result.outcome, asked),
        (ArcOutcome::Fail, 1),
        "the newest set is wrong"
    );
    let many = "ARC-Seal: i=1; a=b; cv=none\r\n".repeat(MAX_SETS + 1) + MESSAGE;
    let (result, asked) = verify(&many, &fake).await;
    assert_eq!(
        (result.reason.as_deref(), asked),
        (Some("too many sets"), 0)
    );
    let many = "X: y\r\n".repeat(MAX_FIELDS) + &text;
    let (result, asked) = verify(&many, &fake).await;
    assert_eq!(
        (result.reason.as_deref(), asked),
        (Some("too many header fields"), 0)
    );
}

#[tokio::test]
async fn without_an_answer_of_dns_the_chain_does_not_pass() {
    let text = seal(MESSAGE).await;
    let fake = zone(&ed25519().record);
    fake.fail("k._domainkey.example.org");
    let (result, asked) = verify(&text, &fake).await;
    let reason = "message signature 1: no answer of DNS about the key";
    assert_eq!((result.outcome, asked), (ArcOutcome::TempError, 1));
    assert_eq!(result.reason.as_deref(), Some(reason));
    // RFC 8617 §5.2.2.
    assert_eq!(result.outcome.as_str(), "fail");
    let (chain, _) = chain_of(&text);
    let sealer = Sealer {
        domain: &domain("example.org"),
        selector: &domain("k"),
        key: &ed25519().key,
        names: &[],
    };
    let body = BodyHashes::default();
    assert_eq!(
        chain.seal(&result, &sealer, RESULTS, &body, now()),
        Ok(None)
    );
    // The key of an older seal.
    let twice = seal_as(&text, ed25519(), "s1.test", RESULTS).await.unwrap();
    let record = Record::Txt(ed25519().record.clone().into());
    fake.add("k._domainkey.s1.test", record);
    let (result, _) = verify(&twice, &fake).await;
    assert_eq!(result.outcome, ArcOutcome::TempError);
    // No answer mends what is broken anyway.
    let broken = twice.replace("Subject: Hi", "Subject: Ho");
    assert_eq!(verify(&broken, &fake).await.0.outcome, ArcOutcome::Fail);
}

#[tokio::test]
async fn what_passed_is_told_of_trusted_servers_only() {
    let mut text = MESSAGE.to_owned();
    let both = "mx.test; dkim=pass header.d=a.test; spf=pass smtp.mailfrom=x@b.test";
    let more = "mx.test; dkim=pass header.i=@a.test; dkim=fail header.d=c.test; dmarc=pass";
    for (results, signer) in [(both, "s1.test"), (both, "s2.test"), (more, "s3.test")] {
        text = seal_as(&text, ed25519(), signer, results).await.unwrap();
    }
    let (chain, _) = chain_of(&text);
    let passed = |trusted: &str| -> Vec<String> {
        let found = chain.passed(&|sealer| trusted.contains(sealer.ascii()));
        let found = found.iter();
        found
            .map(|(kind, domain)| format!("{kind:?} {domain}"))
            .collect()
    };
    assert_eq!(passed("s3.test"), ["Dkim a.test"]);
    assert_eq!(passed("s2.test s3.test"), ["Dkim a.test", "Spf b.test"]);
    assert!(passed("s1.test s2.test").is_empty());
}

/// Which set overrides a failed DMARC check, by what the sets report and who is trusted.
#[tokio::test]
async fn the_oldest_trusted_set_that_saw_a_pass_vouches() {
    let fake = zone(&ed25519().record);
    let (pass, fail) = (RESULTS, "mx.test; dmarc=fail header.from=example.org");
    let dkim = "mx.test; dmarc=none; dkim=pass header.d=news.example.org";
    let other = "mx.test; dmarc=pass header.from=example.com";
    for (reported, trusted, expected) in [
        ([pass, fail, fail], "s1 s2 s3", Some(1)),
        ([pass, pass, fail], "s1 s2 s3", Some(1)),
        ([pass, pass, fail], "s2 s3", Some(2)),
        ([pass, fail, fail], "s2 s3", None),
        ([pass, pass, pass], "s1 s2", None),
        ([pass, pass, pass], "s1 s3", Some(3)),
        ([fail, dkim, fail], "s1 s2 s3", Some(2)),
        ([other, fail, fail], "s1 s2 s3", None),
        ([pass, pass, pass], "", None),
    ] {
        let mut text = MESSAGE.to_owned();
        for (results, number) in reported.iter().zip(1..) {
            let signer = format!("s{number}.test");
            let record = Record::Txt(ed25519().record.clone().into());
            fake.remove(&format!("k._domainkey.{signer}"));
            fake.add(&format!("k._domainkey.{signer}"), record);
            text = seal_as(&text, ed25519(), &signer, results).await.unwrap();
        }
        let (chain, body) = chain_of(&text);
        let result = chain.verify(&questions(&fake), &body, now()).await;
        assert_eq!(result.outcome, ArcOutcome::Pass);
        let is_trusted = |signer: &Domain| {
            let mut names = trusted.split(' ').filter(|name| !name.is_empty());
            names.any(|name| signer.ascii() == format!("{name}.test"))
        };
        let is_aligned = |_, other: &Domain| other.ascii().ends_with("example.org");
        let from = domain("example.org");
        let found = chain.vouching_set(&result, &from, &is_trusted, &is_aligned);
        assert_eq!(found, expected, "{reported:?} {trusted}");
        // What it may be once DNS answers.
        let open = ArcResult::new(ArcOutcome::TempError, None);
        let found = chain.vouching_set(&open, &from, &is_trusted, &is_aligned);
        assert_eq!(found, expected, "{reported:?} {trusted}");
        let failed = ArcResult::new(ArcOutcome::Fail, None);
        assert_eq!(
            chain.vouching_set(&failed, &from, &is_trusted, &is_aligned),
            None
        );
    }
}

/// A selector that signs fields of these names.
fn selector(headers: &[&str]) -> DkimSelector {
    DkimSelector {
        private_key_file: "k.pem".into(),
        algorithm: DkimAlgorithm::Ed25519,
        hash: DkimHash::Sha256,
        canonicalization: Canonicalization::RelaxedRelaxed,
        headers: headers.iter().map(|name| (*name).to_owned()).collect(),
        dont_seal_headers: false,
        expiration: Duration::ZERO,
        key: Arc::new(DkimKey::generate(DkimAlgorithm::Ed25519).unwrap()),
    }
}

#[test]
fn the_names_to_sign_are_those_of_dkim() {
    let section = "From: a\r\nReceived: x\r\nDKIM-Signature: b\r\nTo: c\r\nTo: d\r\n\
        DKIM-Signature: e\r\nAuthentication-Results: f\r\n";
    let fields = HeaderFields::new(section.into());
    let selector = selector(&["From", "To", "Cc", "List-Id", "ARC-Seal", "DKIM-Signature"]);
    let names = names_to_sign(&selector, &fields).join(" ");
    assert_eq!(names, "From From To To To Cc DKIM-Signature DKIM-Signature");
}

#[test]
fn a_body_that_was_not_hashed_is_an_error() {
    let (chain, _) = chain_of(MESSAGE);
    let sealer = Sealer {
        domain: &domain("example.org"),
        selector: &domain("k"),
        key: &ed25519().key,
        names: &[],
    };
    let none = ArcResult::new(ArcOutcome::None, None);
    let simple = BodyForms {
        simple: true,
        relaxed: false,
    };
    let sealed = chain.seal(&none, &sealer, RESULTS, &hashes(simple, b""), now());
    assert_eq!(sealed, Err(SealError::BodyNotRead));
}
