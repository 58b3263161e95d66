//! Messages and signers for the tests of DKIM and ARC.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer, PublicKeyX509Der},
    rsa::KeySize,
    signature::{Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use postrider_config::SigningKey;
use postrider_dns::{FakeResolver, Record};
use postrider_smtp::{Domain, canonical::Form};
use postrider_store::{ManualClock, Time};

use crate::checks::{
    arc::ArcChain,
    dkim::{
        BodyForms, BodyHasher, BodyHashes, DkimCheck, DkimResult, HeaderFields,
        hash::header_digest,
        signature::Covered,
        tags::{Tags, number},
    },
    questions::Questions,
};

/// The time of all tests, in seconds since 1970.
pub(crate) const NOW: u64 = 1_700_000_000;

/// A plain message.
pub(crate) const MESSAGE: &str = "From: Ann <ann@example.org>\r\nTo: bob@example.com\r\n\
    Subject: Hi\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700\r\n\r\nHello  Bob. \r\n\r\n\r\n";

/// The time as the checks get it.
pub(crate) fn now() -> Time {
    Time(i64::try_from(NOW).unwrap() * 1_000_000)
}

/// The header section of a message, and its body.
pub(crate) fn split(text: &str) -> (Bytes, Bytes) {
    let end = match text.starts_with("\r\n") {
        true => Some(0),
        false => text.find("\r\n\r\n").map(|at| at + 2),
    };
    let (section, body) = text.split_at(end.unwrap_or(text.len()));
    let body = body.strip_prefix("\r\n").unwrap_or_default();
    (section.to_owned().into(), body.to_owned().into())
}

/// The hashes of a body that comes in small pieces.
pub(crate) fn hashes(forms: BodyForms, body: &[u8]) -> BodyHashes {
    let mut hasher = BodyHasher::new(forms);
    for piece in body.chunks(7) {
        hasher.write(piece);
    }
    hasher.finish()
}

/// Questions to this zone.
pub(crate) fn questions(fake: &FakeResolver) -> Questions {
    let clock = ManualClock::new(now());
    Questions::new(Arc::new(fake.clone()), Arc::new(clock))
}

/// The results of all signatures of a message, and the number of questions.
pub(crate) async fn results(text: &str, fake: &FakeResolver) -> (Vec<DkimResult>, u32) {
    results_at(now(), text, fake).await
}

/// The same at another time.
pub(crate) async fn results_at(
    now: Time,
    text: &str,
    fake: &FakeResolver,
) -> (Vec<DkimResult>, u32) {
    let (section, body) = split(text);
    let fields = Arc::new(HeaderFields::new(section));
    let from = Domain::parse("example.org").unwrap();
    let check = DkimCheck::new(fields, Some(&from), now);
    let questions = questions(fake);
    let keys = check.keys(&questions).await;
    let results = check.results(&keys, &hashes(check.body_forms(), &body));
    (results, questions.asked())
}

/// A private key, and the record of its public key.
pub(crate) struct TestKey {
    pub(crate) key: SigningKey,
    pub(crate) record: String,
}

/// The Ed25519 key of all tests.
pub(crate) fn ed25519() -> &'static TestKey {
    static KEY: OnceLock<TestKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = STANDARD.encode(pair.public_key());
        TestKey {
            record: format!("v=DKIM1; k=ed25519; p={public}"),
            key: SigningKey::Ed25519(pair),
        }
    })
}

/// The RSA key of all tests, of 2048 bits.
pub(crate) fn rsa() -> &'static TestKey {
    static KEY: OnceLock<TestKey> = OnceLock::new();
    KEY.get_or_init(|| rsa_of(KeySize::Rsa2048))
}

/// A new RSA key.
pub(crate) fn rsa_of(size: KeySize) -> TestKey {
    let pair = RsaKeyPair::generate(size).unwrap();
    // SubjectPublicKeyInfo, as nearly all records have it.
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let public = STANDARD.encode(public.as_ref());
    TestKey {
        record: format!("v=DKIM1; k=rsa; p={public}"),
        key: SigningKey::Rsa(pair),
    }
}

/// A zone with this record of the key `k._domainkey.example.org`.
pub(crate) fn zone(record: &str) -> FakeResolver {
    let fake = FakeResolver::default();
    fake.add("k._domainkey.example.org", Record::Txt(record.into()));
    fake
}

/// Adds a signature to a message. `tags` are those before `bh=` and `b=`; `h=` and `c=` decide what
/// is signed.
pub(crate) fn sign(key: &TestKey, tags: &str, text: &str) -> String {
    sign_field(key, &format!("DKIM-Signature: {tags}"), text)
}

/// The same with any field name and tags.
pub(crate) fn sign_field(key: &TestKey, head: &str, text: &str) -> String {
    let (section, body) = split(text);
    let fields = HeaderFields::new(section);
    let begin = head.find(':').unwrap() + 1;
    let forms = match Tags::parse(&head.as_bytes()[begin..]).map(|tags| tags.get("c")) {
        Ok(Some(b"relaxed/relaxed")) => (Form::Relaxed, Form::Relaxed),
        Ok(Some(b"relaxed" | b"relaxed/simple")) => (Form::Relaxed, Form::Simple),
        Ok(Some(b"simple/relaxed")) => (Form::Simple, Form::Relaxed),
        _ => (Form::Simple, Form::Simple),
    };
    let mut needed = BodyForms::default();
    needed.add(forms.1);
    let hash = STANDARD.encode(hashes(needed, &body).of(forms.1).unwrap());
    let head = format!("{head}; bh={hash}; b=");
    let own = format!("{head}\r\n");
    let tags = Tags::parse(&head.as_bytes()[begin..]);
    let time = tags
        .as_ref()
        .ok()
        .and_then(|tags| tags.get("t"))
        .and_then(number);
    let covered = tags
        .ok()
        .and_then(|tags| Covered::read(&tags, time, Form::Simple).ok());
    let selected = covered.map(|covered| fields.select(covered.names(), None));
    let at = head.len()..head.len();
    let selected = selected.unwrap_or_default();
    let hash = header_digest(&fields, forms.0, &selected, own.as_bytes(), &at);
    let signature = STANDARD.encode(key.key.sign(&hash).unwrap());
    format!("{head}{signature}\r\n{text}")
}

/// The hash of some bytes in base64.
pub(crate) fn hash_of(bytes: &[u8]) -> String {
    STANDARD.encode(digest(&SHA256, bytes))
}

/// The forms of the body that a chain needs, and the one for a new seal.
pub(crate) fn body_form_of(chain: &ArcChain) -> BodyForms {
    let sealing = BodyForms {
        simple: false,
        relaxed: true,
    };
    chain.body_forms().and(sealing)
}
