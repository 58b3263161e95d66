//! The test suite of ARC in `testdata/arc`: chains to validate, and messages to seal.

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_lc_rs::digest::Digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::UnusableKey;
use postrider_dns::{FakeResolver, Record};
use postrider_smtp::{Domain, field};
use postrider_store::Time;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, pkcs1::DecodeRsaPrivateKey};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::{ArcChain, ArcOutcome, ArcResult, SealError, SealKey, Sealer};
use crate::checks::dkim::{
    BodyForms, BodyHashes, HeaderFields,
    tests::support::{hashes, questions, split},
};

/// One document of the suite.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Scenario<T> {
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    tests: Cases<T>,
    #[serde(default)]
    txt_records: BTreeMap<String, String>,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    sel: String,
    #[serde(default)]
    privatekey: String,
}

/// The cases of a document. Some names are there twice.
struct Cases<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Cases<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(Vec<(String, T)>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Cases<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of cases")
            }
            fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Cases<T>, A::Error> {
                while let Some(pair) = map.next_entry()? {
                    self.0.push(pair);
                }
                Ok(Cases(self.0))
            }
        }
        deserializer.deserialize_map(Pairs(Vec::new()))
    }
}

#[derive(Deserialize)]
struct Validation {
    message: String,
    cv: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sealing {
    message: String,
    t: i64,
    sig_headers: String,
    srv_id: String,
    #[serde(rename = "AS")]
    seal: String,
    #[serde(rename = "AMS")]
    signature: String,
    #[serde(rename = "AAR")]
    results: String,
}

fn scenarios<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<Scenario<T>> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
    };
    serde_saphyr::from_multiple_with_options(text, options).unwrap()
}

fn zone(records: &BTreeMap<String, String>) -> FakeResolver {
    let fake = FakeResolver::default();
    for (name, record) in records {
        fake.add(name, Record::Txt(record.clone().into_bytes()));
    }
    fake
}

async fn validate(message: &str, fake: &FakeResolver) -> (ArcChain, ArcResult, BodyHashes) {
    let (section, body) = split(&message.replace('\n', "\r\n"));
    let chain = ArcChain::new(Arc::new(HeaderFields::new(section)));
    let all = BodyForms {
        simple: true,
        relaxed: true,
    };
    let body = hashes(all, &body);
    let result = chain
        .verify(&questions(fake), &body, Time(20_000_000_000))
        .await;
    (chain, result, body)
}

#[tokio::test]
async fn the_chains_of_the_suite_validate_as_they_should() {
    let text = include_str!("../../../../testdata/arc/arc-draft-validation-tests.yml");
    let mut count = 0;
    let mut wrong = Vec::new();
    for scenario in scenarios::<Validation>(text) {
        let fake = zone(&scenario.txt_records);
        for (name, case) in scenario.tests.0 {
            count += 1;
            let expected = match case.cv.trim() {
                "None" => ArcOutcome::None,
                "Pass" => ArcOutcome::Pass,
                // Three cases leave it out. Their seals say `cv=fail`.
                "Fail" | "" => ArcOutcome::Fail,
                other => panic!("{name} has the result {other}"),
            };
            let (_, result, _) = validate(&case.message, &fake).await;
            if result.outcome != expected {
                wrong.push((name, result));
            }
        }
    }
    // 171 names, and four of them twice.
    assert_eq!(count, 175);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The key of the suite has 1024 bits. aws-lc-rs does not sign with it.
struct ShortKey(RsaPrivateKey);

impl SealKey for ShortKey {
    fn algorithm(&self) -> &'static str {
        "rsa-sha256"
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SealError> {
        // The prefix of a SHA-256 hash (RFC 8017 §9.2).
        let prefix = [
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x01, 0x05, 0x00, 0x04, 0x20,
        ];
        let padding = Pkcs1v15Sign {
            hash_len: Some(32),
            prefix: Box::new(prefix),
        };
        self.0
            .sign(padding, digest.as_ref())
            .map_err(|_| SealError::Key(UnusableKey))
    }
}

/// The results of this server in the message: those of its Authentication-Results fields, joined.
fn own_results(message: &str, server: &str) -> String {
    let fields: Vec<_> = field::fields(message.as_bytes())
        .filter(|field| field.is("Authentication-Results"))
        .filter_map(|field| {
            let value = str::from_utf8(field.value).unwrap();
            let value: Vec<&str> = value.split_whitespace().collect();
            value
                .join(" ")
                .strip_prefix(&format!("{server};"))
                .map(str::to_owned)
        })
        .collect();
    format!("{server};{}", fields.join(";"))
}

/// The tags of a field without white space, in the order of their names.
fn tags(value: &str) -> Vec<String> {
    let mut tags: Vec<String> = value
        .split(';')
        .map(|tag| tag.split_whitespace().collect())
        .filter(|tag: &String| !tag.is_empty())
        .collect();
    tags.sort();
    tags
}

#[tokio::test]
async fn the_messages_of_the_suite_are_sealed_as_they_should() {
    let text = include_str!("../../../../testdata/arc/arc-draft-sign-tests.yml");
    let mut count = 0;
    for scenario in scenarios::<Sealing>(text) {
        let fake = zone(&scenario.txt_records);
        let lines = scenario
            .privatekey
            .lines()
            .filter(|line| !line.contains("---"));
        let der = STANDARD.decode(lines.collect::<String>()).unwrap();
        let key = ShortKey(RsaPrivateKey::from_pkcs1_der(&der).unwrap());
        let (domain, selector) = (
            Domain::parse(&scenario.domain),
            Domain::parse(&scenario.sel),
        );
        let (domain, selector) = (domain.unwrap(), selector.unwrap());
        for (name, case) in scenario.tests.0 {
            count += 1;
            let names: Vec<String> = case.sig_headers.split(':').map(str::to_owned).collect();
            let sealer = Sealer {
                domain: &domain,
                selector: &selector,
                key: &key,
                names: &names,
            };
            let (chain, result, body) = validate(&case.message, &fake).await;
            let results = own_results(&case.message, &case.srv_id);
            let now = Time(case.t * 1_000_000);
            let set = chain.seal(&result, &sealer, &results, &body, now).unwrap();
            // The suite seals a chain that failed, with `cv=fail`. We leave it as it is.
            if ["i1_base_fail", "i2_base_fail"].contains(&name.as_str()) {
                assert_eq!(result.outcome, ArcOutcome::Fail, "{name}");
                assert_eq!(set, None, "{name}");
                continue;
            }
            if case.seal.trim().is_empty() {
                assert_eq!(set, None, "{name}");
                continue;
            }
            let set = set.unwrap();
            let fields: Vec<_> = field::fields(&set).collect();
            let expected = [
                ("ARC-Seal", case.seal),
                ("ARC-Message-Signature", case.signature),
                ("ARC-Authentication-Results", case.results),
            ];
            assert_eq!(fields.len(), expected.len());
            for (field, (of, expected)) in fields.iter().zip(expected) {
                assert!(field.is(of), "{name}");
                let value = str::from_utf8(field.value).unwrap();
                assert_eq!(tags(value), tags(&expected), "{name}: {of}");
            }
        }
    }
    assert_eq!(count, 17);
}
