//! The test suite of RFC 7208's authors, in `testdata/spf`.

use std::{collections::BTreeMap, net::IpAddr};

use postrider_dns::{FakeResolver, Mx, Record, RecordType};
use postrider_smtp::Domain;
use postrider_store::Time;
use serde::Deserialize;

use super::SpfCheck;
use crate::checks::questions::tests::questions;

const SUITE: &str = include_str!("../../../../testdata/spf/rfc7208-tests.yml");

/// The number of cases. A loader that reads fewer is broken.
const CASES: usize = 203;

/// Cases with several results that the RFC allows, with our result and the reason for it. The
/// result is among those that the suite allows.
const CONTESTED: &[(&str, &str, &str)] = &[
    (
        "multispf1",
        "permerror",
        "two equal records are two records",
    ),
    (
        "invalid-domain-empty-label",
        "fail",
        "a name that DNS can't have does not exist",
    ),
    (
        "invalid-domain-long",
        "fail",
        "a name that DNS can't have does not exist",
    ),
    (
        "invalid-domain-long-via-macro",
        "fail",
        "a name that DNS can't have does not exist",
    ),
    ("ptr-limit", "neutral", "names after the tenth do not count"),
    (
        "p-macro-multiple",
        "pass",
        "a name below the domain is preferred",
    ),
];

/// Explanations in place of which the receiver has a text of its own.
const NO_EXPLANATION: &str = "DEFAULT";

#[derive(Deserialize)]
struct Scenario {
    description: String,
    tests: BTreeMap<String, Case>,
    zonedata: BTreeMap<String, Vec<Entry>>,
}

#[derive(Deserialize)]
struct Case {
    helo: String,
    host: IpAddr,
    mailfrom: String,
    result: OneOrMore,
    explanation: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    /// `TIMEOUT`.
    Word(String),
    Record(BTreeMap<String, Value>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Mx(u16, String),
    Pieces(Vec<String>),
}

/// The bytes of a text: the suite writes a byte as the character with its number.
fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

fn name(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase()
}

/// The record of an entry. None for a record that says that there is none. Records of type SPF
/// become TXT.
fn record(kind: &str, value: &Value) -> Option<Record> {
    Some(match (kind, value) {
        ("TXT", Value::Text(text)) if text == "NONE" => return None,
        ("TXT" | "SPF", Value::Text(text)) => Record::Txt(bytes(text)),
        ("TXT" | "SPF", Value::Pieces(pieces)) => Record::Txt(bytes(&pieces.concat())),
        // Two strings look like an MX record only if the first one is a number.
        ("MX", Value::Mx(preference, host)) => Record::Mx(Mx {
            preference: *preference,
            host: name(host),
        }),
        ("A", Value::Text(address)) => Record::A(address.parse().unwrap()),
        ("AAAA", Value::Text(address)) => Record::Aaaa(address.parse().unwrap()),
        ("PTR", Value::Text(host)) => Record::Ptr(host.trim_end_matches('.').to_owned()),
        ("CNAME", Value::Text(host)) => Record::Cname(name(host)),
        _ => panic!("an entry of kind {kind} is not understood"),
    })
}

fn load(zone: &BTreeMap<String, Vec<Entry>>) -> FakeResolver {
    use RecordType::{A, Aaaa, Mx, Ptr, Txt};
    let fake = FakeResolver::default();
    for (owner, entries) in zone {
        fake.exist(owner);
        let has_txt = entries.iter().any(|entry| match entry {
            Entry::Word(_) => false,
            Entry::Record(record) => record.contains_key("TXT"),
        });
        let mut seen = Vec::new();
        for entry in entries {
            match entry {
                Entry::Word(word) => {
                    assert_eq!(word, "TIMEOUT");
                    let unseen = |kind: &&RecordType| !seen.contains(*kind);
                    for kind in [A, Aaaa, Mx, Ptr, Txt].iter().filter(unseen) {
                        fake.fail_question(owner, *kind);
                    }
                }
                Entry::Record(entry) => {
                    for (kind, value) in entry {
                        if kind == "SPF" && has_txt {
                            continue;
                        }
                        if let Some(record) = record(kind, value) {
                            seen.push(record.record_type());
                            fake.add(owner, record);
                        }
                    }
                }
            }
        }
    }
    fake
}

async fn run(fake: &FakeResolver, case: &Case) -> (String, Option<String>) {
    let (questions, _clock) = questions(fake);
    let check = SpfCheck::new(questions, case.host, &case.helo);
    let result = match case.mailfrom.rsplit_once('@') {
        None => check.helo().await,
        Some((local_part, domain)) => check.sender(local_part, Domain::parse(domain).ok()).await,
    };
    let explanation = check.explanation(&result, "mx.test", Time::default()).await;
    (result.outcome.to_string(), explanation)
}

#[tokio::test]
async fn the_suite_of_rfc_7208() {
    let scenarios: Vec<Scenario> = serde_saphyr::from_multiple(SUITE).unwrap();
    let (mut cases, mut explanations, mut wrong) = (0, 0, Vec::new());
    let mut contested = Vec::new();
    for scenario in &scenarios {
        let fake = load(&scenario.zonedata);
        for (id, case) in &scenario.tests {
            cases += 1;
            let (outcome, explanation) = run(&fake, case).await;
            let expected = match &case.result {
                OneOrMore::One(expected) => expected.as_str(),
                OneOrMore::More(allowed) => {
                    let (_, ours, why) = CONTESTED
                        .iter()
                        .find(|(contested, ..)| contested == id)
                        .unwrap_or_else(|| {
                            panic!("{id} has several results, and no choice of ours")
                        });
                    assert!(allowed.iter().any(|result| result == ours), "{id}: {why}");
                    contested.push(id.as_str());
                    *ours
                }
            };
            if outcome != expected {
                wrong.push(format!(
                    "{}: {id}: {outcome}, not {expected}",
                    scenario.description
                ));
            }
            if let Some(expected) = &case.explanation {
                explanations += 1;
                let expected = Some(expected).filter(|text| *text != NO_EXPLANATION);
                if explanation.as_ref() != expected {
                    wrong.push(format!(
                        "{id}: explanation {explanation:?}, not {expected:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!((scenarios.len(), cases, explanations), (16, CASES, 22));
    assert_eq!(contested.len(), CONTESTED.len());
}
