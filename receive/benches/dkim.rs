//! The cost of DKIM for one message of 4 KiB with an RSA-2048 and an Ed25519 signature: from its
//! header section to its results, with the keys from a table.
//!
//! `cargo bench -p postrider-receive --bench dkim`.

use std::{hint::black_box, sync::Arc};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rsa::KeySize,
    signature::{Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use criterion::Criterion;
use postrider_config::SigningKey;
use postrider_dns::{FakeResolver, Record};
use postrider_receive::checks::{
    dkim::{BodyForms, BodyHasher, DkimCheck, DkimOutcome, HeaderFields},
    questions::Questions,
};
use postrider_smtp::{
    Domain,
    canonical::{Body, Form, field},
};
use postrider_store::{Clock, ManualClock, Time};

const NAMES: &str = "from:to:subject:date:message-id";

/// A header section of a kilobyte, and three kilobytes of text.
fn message() -> (String, String) {
    let mut section = String::new();
    for hop in 0..4 {
        section += &format!(
            "Received: from mx{hop}.example.net (mx{hop}.example.net [192.0.2.{hop}])\r\n\tby \
             mx.example.org with ESMTPS id 0123456789abcdef;\r\n\tFri, 11 Jul 2003 21:00:37 -0700\r\n"
        );
    }
    section += "From: Ann <ann@example.org>\r\nTo: Bob <bob@example.com>\r\nSubject: A message\r\n\
        Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <0123456789@example.org>\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";
    let line = "The quick brown fox jumps over the lazy dog, again and again and again.\r\n";
    (section, line.repeat(3072 / line.len()))
}

fn signed(key: &SigningKey, selector: &str, section: &str, body: &str) -> String {
    let mut canonical = Vec::new();
    let mut form = Body::new(Form::Relaxed);
    form.write(body.as_bytes(), &mut |bytes| {
        canonical.extend_from_slice(bytes)
    });
    form.finish(&mut |bytes| canonical.extend_from_slice(bytes));
    let hash = STANDARD.encode(digest(&SHA256, &canonical));
    let algorithm = key.algorithm();
    let own = format!(
        "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; d=example.org; s={selector};\r\n\t\
         h={NAMES}; bh={hash};\r\n\tb="
    );
    let mut covered = Vec::new();
    for name in NAMES.split(':') {
        let mut written = postrider_smtp::field::written(section.as_bytes());
        let is_named = |written: &&[u8]| {
            let head = written.get(..name.len()).unwrap_or_default();
            head.eq_ignore_ascii_case(name.as_bytes())
        };
        let written = written.find(is_named).expect("a field");
        field(Form::Relaxed, written, &mut covered);
    }
    field(Form::Relaxed, own.as_bytes(), &mut covered);
    covered.truncate(covered.len() - 2);
    let signature = key.sign(&digest(&SHA256, &covered)).expect("a signature");
    format!("{own}{}\r\n", STANDARD.encode(signature))
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (section, body) = message();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let ed25519 = Ed25519KeyPair::generate().expect("a key");
    let fake = FakeResolver::default();
    let rsa_record = format!("v=DKIM1; p={}", STANDARD.encode(rsa.public_key()));
    let ed25519_record = format!(
        "v=DKIM1; k=ed25519; p={}",
        STANDARD.encode(ed25519.public_key())
    );
    for (selector, record) in [("r", rsa_record), ("e", ed25519_record)] {
        let name = format!("{selector}._domainkey.example.org");
        fake.add(&name, Record::Txt(record.into()));
    }
    let (rsa, ed25519) = (SigningKey::Rsa(rsa), SigningKey::Ed25519(ed25519));
    let signatures = signed(&rsa, "r", &section, &body) + &signed(&ed25519, "e", &section, &body);
    let section: Bytes = (signatures + &section).into();
    let from = Domain::parse("example.org").expect("a domain");
    let clock = ManualClock::new(Time::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");

    let check = || {
        DkimCheck::new(
            Arc::new(HeaderFields::new(section.clone())),
            Some(&from),
            clock.now(),
        )
    };
    let hash = |forms: BodyForms| {
        let mut hasher = BodyHasher::new(forms);
        hasher.write(body.as_bytes());
        hasher.finish()
    };
    let keys = |check: &DkimCheck| {
        let questions = Questions::new(Arc::new(fake.clone()), Arc::new(clock.clone()));
        runtime.block_on(check.keys(&questions))
    };
    criterion.bench_function("dkim, whole check", |bench| {
        bench.iter(|| {
            let check = check();
            let results = check.results(&keys(&check), &hash(check.body_forms()));
            assert!(
                results.iter().all(|one| one.outcome == DkimOutcome::Pass) && results.len() == 2
            );
        });
    });
    criterion.bench_function("dkim, reading", |bench| bench.iter(|| black_box(check())));
    let read = check();
    criterion.bench_function("dkim, keys", |bench| bench.iter(|| black_box(keys(&read))));
    criterion.bench_function("dkim, body hash", |bench| {
        bench.iter(|| black_box(hash(read.body_forms())));
    });
    let (known, hashes) = (keys(&read), hash(read.body_forms()));
    criterion.bench_function("dkim, results", |bench| {
        bench.iter(|| black_box(read.results(&known, &hashes)));
    });
    criterion.final_summary();
}
