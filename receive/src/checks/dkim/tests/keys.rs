//! Keys in DNS.

use aws_lc_rs::{rsa::KeySize, signature::KeyPair};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::SigningKey;
use postrider_dns::{DnsError, FakeResolver, Record};

use super::{
    PASS, outcome, signed,
    support::{MESSAGE, ed25519, results, rsa, rsa_of, sign, zone},
};
use crate::checks::dkim::DkimOutcome;

const NAME: &str = "k._domainkey.example.org";

/// The base64 text of the Ed25519 key.
fn public() -> &'static str {
    ed25519().record.rsplit_once("p=").unwrap().1
}

async fn check(record: &str, expected: DkimOutcome, why: &str) {
    let found = outcome(&signed("h=from:subject"), record).await;
    assert_eq!(found, (expected, why.to_owned()), "{record}");
}

#[tokio::test]
async fn records_that_are_good() {
    let p = public();
    for record in [
        format!("k=ed25519; p={p}"),
        format!("v=DKIM1; k=ed25519; p={p};"),
        format!("v=DKIM1;k=Ed25519;h=sha1:sha256;s=email;t=y:s;n=a note;p={p}"),
        format!(
            "v=DKIM1; k=ed25519; s=tlsrpt:*; h= x : SHA256 ; t=; x=y; p={}",
            p.replace('=', "")
        ),
        format!("v=DKIM1; k=ed25519; p= {} ", p.replace('/', "/ ")),
    ] {
        let found = outcome(&signed("h=from:subject"), &record).await;
        assert_eq!(found, PASS, "{record}");
    }
}

#[tokio::test]
async fn records_that_are_bad() {
    let p = public();
    let permerror = DkimOutcome::PermError;
    for (record, why) in [
        (
            format!("v=DKIM2; k=ed25519; p={p}"),
            "the key has an unknown version",
        ),
        (
            format!("v=dkim1; k=ed25519; p={p}"),
            "the key has an unknown version",
        ),
        (
            format!("k=ed25519; v=DKIM1; p={p}"),
            "the key has an unknown version",
        ),
        (format!("v=DKIM1; k=dsa; p={p}"), "the key has another type"),
        (format!("v=DKIM1; k=; p={p}"), "the key has another type"),
        (format!("v=DKIM1; p={p}"), "the key can't be read"),
        (
            format!("v=DKIM1; k=ed25519; k=ed25519; p={p}"),
            "the key can't be read",
        ),
        (
            format!("v=DKIM1; k=ed25519; p={p}; oops"),
            "the key can't be read",
        ),
        ("v=DKIM1; k=ed25519".to_owned(), "the key can't be read"),
        ("v=DKIM1; k=ed25519; p=".to_owned(), "the key is revoked"),
        (
            "v=DKIM1; k=ed25519; p= ; t=y".to_owned(),
            "the key is revoked",
        ),
        (
            format!("v=DKIM1; k=ed25519; p={p}{p}"),
            "the key can't be read",
        ),
        (
            "v=DKIM1; k=ed25519; p=QUJD".to_owned(),
            "the key can't be read",
        ),
        (
            "v=DKIM1; k=ed25519; p=?".to_owned(),
            "the key can't be read",
        ),
        (
            format!("v=DKIM1; k=ed25519; h=sha1; p={p}"),
            "the key is not for this hash",
        ),
        (
            format!("v=DKIM1; k=ed25519; h=; p={p}"),
            "the key is not for this hash",
        ),
        (
            format!("v=DKIM1; k=ed25519; s=tlsrpt; p={p}"),
            "the key is not for mail",
        ),
        (
            format!("v=DKIM1; k=ed25519; s=other; p={p}"),
            "the key is not for mail",
        ),
        (rsa().record.clone(), "the key has another type"),
        ("v=spf1 -all".to_owned(), "no key"),
        (String::new(), "no key"),
        ("x=p=y".to_owned(), "no key"),
    ] {
        check(&record, permerror, why).await;
    }
}

/// RFC 8460 §3: a key may be for reports about TLS only.
#[tokio::test]
async fn a_signature_is_good_for_reports_about_tls_if_its_key_says_so() {
    let p = public();
    let text = signed("h=from:subject");
    let changed = text.replace("Bob.", "Bob!");
    for (service, text, expected) in [
        ("", &text, true),
        ("s=*; ", &text, true),
        ("s=email; ", &text, false),
        ("s=tlsrpt; ", &text, true),
        ("s=email:tlsrpt; ", &text, true),
        ("s=tlsrpt; ", &changed, false),
        ("", &changed, false),
    ] {
        let record = format!("v=DKIM1; k=ed25519; {service}p={p}");
        let (found, _) = results(text, &zone(&record)).await;
        assert_eq!(found[0].for_tls_reports, expected, "{record}");
    }
    // A part of the body is not enough.
    let in_part = signed("h=from:subject; l=3");
    let record = format!("v=DKIM1; k=ed25519; p={p}");
    let (found, _) = results(&in_part, &zone(&record)).await;
    assert!(!found[0].for_tls_reports);
}

/// mail-auth takes the first record that it can read.
#[tokio::test]
async fn other_records_hide_no_fault() {
    let good = ed25519().record.clone();
    let revoked = "v=DKIM1; k=ed25519; p=";
    for (records, expected) in [
        (vec!["v=spf1 -all", &good, "hello"], ""),
        (vec![&good, &good], "several keys"),
        (vec![revoked, &good], "several keys"),
        (vec!["v=DKIM1; oops", &good], "several keys"),
        (
            vec!["v=spf1 -all", "v=DKIM1; oops"],
            "the key can't be read",
        ),
        (vec!["v=spf1 -all", "hello"], "no key"),
    ] {
        let fake = FakeResolver::default();
        for record in &records {
            fake.add(NAME, Record::Txt((*record).into()));
        }
        let (found, _) = results(&signed("h=from:subject"), &fake).await;
        let why = found[0].reason.clone().unwrap_or_default();
        assert_eq!(why, expected, "{records:?}");
        assert_eq!(found[0].outcome == DkimOutcome::Pass, expected.is_empty());
    }
}

#[tokio::test]
async fn a_test_key_makes_a_failure_neutral() {
    let record = format!("v=DKIM1; k=ed25519; t=y; p={}", public());
    let text = signed("h=from:subject");
    assert_eq!(outcome(&text, &record).await, PASS);
    let neutral = |why: &str| (DkimOutcome::Neutral, why.to_owned());
    let changed = text.replace("Bob.", "Bob!");
    assert_eq!(
        outcome(&changed, &record).await,
        neutral("body hash did not verify")
    );
    let changed = text.replace("Ann", "Eve");
    assert_eq!(
        outcome(&changed, &record).await,
        neutral("signature did not verify")
    );
    // What is wrong for good stays so.
    let (found, _) = outcome(&signed("h=to"), &record).await;
    assert_eq!(found, DkimOutcome::PermError);
}

#[tokio::test]
async fn a_strict_key_is_for_its_own_domain_only() {
    let record = format!("v=DKIM1; k=ed25519; t=s; p={}", public());
    let text = signed("h=from:subject; i=@example.org");
    assert_eq!(outcome(&text, &record).await, PASS);
    let text = signed("h=from:subject; i=@a.example.org");
    let expected = (DkimOutcome::PermError, "i= is not in d=".to_owned());
    assert_eq!(outcome(&text, &record).await, expected);
    assert_eq!(outcome(&text, &ed25519().record).await, PASS);
}

#[tokio::test]
async fn rsa_keys_have_a_shortest_and_a_longest() {
    let tags = "v=1; a=rsa-sha256; d=example.org; s=k; h=from:subject";
    let text = sign(rsa(), tags, MESSAGE);
    let short = "v=DKIM1; k=rsa; p= MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAIWmlgix/84GJ+dfgjm7LTc9EPdfk\
        ftlgiPpCq4/kbDAZmU0VvYKDljjleJ1dfvS+CGy9U/kk1tG3EeEvb82xAcCAwEAAQ==";
    let permerror = |why: &str| (DkimOutcome::PermError, why.to_owned());
    assert_eq!(
        outcome(&text, short).await,
        permerror("the key is too short")
    );
    // The modulus of a long key, one bit below and above the limits.
    for (bits, why) in [
        (1023, "the key is too short"),
        (1024, "signature did not verify"),
        (4096, "signature did not verify"),
        (4097, "the key is too long"),
        (16_384, "the key is too long"),
    ] {
        let record = format!("v=DKIM1; p={}", STANDARD.encode(der(bits)));
        let (found, reason) = outcome(&text, &record).await;
        assert_eq!(reason, why, "{bits}");
        assert_eq!(found == DkimOutcome::Policy, bits > 4096);
    }
    let ed25519 = outcome(&text, &ed25519().record).await;
    assert_eq!(ed25519, permerror("the key has another type"));
    for broken in ["MIGf", "MAA=", "MIA=", "AAAA", "MIT/////", "MAMCAQA="] {
        let record = format!("v=DKIM1; p={broken}");
        assert_eq!(
            outcome(&text, &record).await,
            permerror("the key can't be read"),
            "{broken}"
        );
    }
}

/// RFC 6376 §3.6.1 names the one form, and domains publish the other.
#[tokio::test]
async fn an_rsa_key_has_two_forms() {
    let tags = "v=1; a=rsa-sha256; d=example.org; s=k; h=from:subject";
    let text = sign(rsa(), tags, MESSAGE);
    assert_eq!(outcome(&text, &rsa().record).await, PASS);
    let SigningKey::Rsa(pair) = &rsa().key else {
        panic!("a key of another type");
    };
    let bare = STANDARD.encode(pair.public_key().as_ref());
    let record = format!("v=DKIM1; k=rsa; p={bare}");
    assert!(record.len() < rsa().record.len());
    assert_eq!(outcome(&text, &record).await, PASS);
}

/// A public key with an odd modulus of so many bits.
fn der(bits: usize) -> Vec<u8> {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> ((8 - bits % 8) % 8);
    if modulus[0] & 0x80 != 0 {
        modulus.insert(0, 0);
    }
    let element = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let length = match length {
            [0, short] => vec![0x81, short],
            [high, low] => vec![0x82, high, low],
        };
        [&[tag], length.as_slice(), content].concat()
    };
    let numbers = [element(2, &modulus), vec![2, 3, 1, 0, 1]].concat();
    element(0x30, &numbers)
}

#[tokio::test]
async fn a_long_key_is_long_work() {
    let long = rsa_of(KeySize::Rsa4096);
    let tags = "v=1; a=rsa-sha256; d=example.org; s=k; h=from:subject";
    assert_eq!(
        outcome(&sign(&long, tags, MESSAGE), &long.record).await,
        PASS
    );
    for (record, is_long) in [(&long.record, true), (&rsa().record, false)] {
        let questions = super::support::questions(&zone(record));
        let mut keys = crate::checks::dkim::Keys::default();
        keys.ask(&questions, [NAME, NAME].into_iter()).await;
        assert_eq!((keys.is_long_work(), questions.asked()), (is_long, 1));
    }
}

#[tokio::test]
async fn answers_of_dns() {
    let text = signed("h=from:subject");
    let fake = FakeResolver::default();
    let (found, _) = results(&text, &fake).await;
    assert_eq!(found[0].reason.as_deref(), Some("no key"));
    fake.add_address(NAME, "192.0.2.1");
    let (found, _) = results(&text, &fake).await;
    assert_eq!(found[0].reason.as_deref(), Some("no key"));
    assert_eq!(found[0].outcome, DkimOutcome::PermError);
    let no_socket = DnsError::System {
        errno: 24,
        text: "too many open files".to_owned(),
    };
    let bogus = DnsError::Bogus {
        name: NAME.to_owned(),
    };
    for error in [DnsError::Temporary("SERVFAIL".to_owned()), no_socket, bogus] {
        fake.fail_with(NAME, error);
        let (found, _) = results(&text, &fake).await;
        assert_eq!(
            found[0].reason.as_deref(),
            Some("no answer of DNS about the key")
        );
        assert_eq!(found[0].outcome, DkimOutcome::TempError);
    }
    // Nothing of the failure is kept.
    fake.mend(NAME);
    fake.remove(NAME);
    fake.add(NAME, Record::Txt(ed25519().record.clone().into()));
    let (found, _) = results(&text, &fake).await;
    assert_eq!(found[0].outcome, DkimOutcome::Pass);
}
