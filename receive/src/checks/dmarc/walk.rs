//! The walk from a domain up to its public suffix, which finds DMARC records and organisations (RFC
//! 9989 §4.10).

use std::collections::HashMap;

use postrider_dns::DnsError;
use postrider_smtp::Domain;

use super::record::{Record, Suffix};
use crate::checks::{name::is_name, questions::Questions};

/// How many labels the names after the first one have at most. So a walk asks at most eight
/// questions.
const LABELS_MAX: usize = 7;

/// The DMARC records of names, as far as they are known. None: the name has none.
#[derive(Debug, Default)]
pub struct Records(HashMap<String, Option<Record>>);

/// The records of all walks of a message. A name is asked for once.
#[derive(Debug)]
pub(super) struct Walker<'a> {
    pub(super) questions: &'a Questions,
    known: HashMap<String, Result<Option<Record>, DnsError>>,
}

/// What a walk found.
#[derive(Debug)]
pub(super) struct Walk {
    start: String,
    /// The names with records, from the longest to the shortest.
    found: Vec<(String, Record)>,
    /// Why the walk ended too early: there is no answer about a name.
    pub(super) unanswered: Option<DnsError>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(questions: &'a Questions, known: Records) -> Self {
        let known = known.0.into_iter();
        Self {
            questions,
            known: known.map(|(name, record)| (name, Ok(record))).collect(),
        }
    }

    /// What is known now. Names without an answer are left out, so that they are asked for again.
    fn into_records(self) -> Records {
        let known = self.known.into_iter();
        Records(
            known
                .filter_map(|(name, record)| Some((name, record.ok()?)))
                .collect(),
        )
    }

    /// Walks from a domain upwards.
    pub(super) async fn walk(&mut self, start: &str) -> Walk {
        let mut walk = Walk {
            start: start.to_owned(),
            found: Vec::new(),
            unanswered: None,
        };
        for name in names(start) {
            match self.record(name).await {
                Ok(None) => {}
                Ok(Some(record)) => {
                    // A suffix that sends mail itself goes on, to the suffix above it.
                    let stops = match record.suffix {
                        Suffix::No => true,
                        Suffix::Yes => name != start,
                        Suffix::Unknown => false,
                    };
                    walk.found.push((name.to_owned(), record));
                    if stops {
                        break;
                    }
                }
                Err(error) => {
                    walk.unanswered = Some(error);
                    break;
                }
            }
        }
        walk
    }

    /// The DMARC record of a name. Several are none.
    async fn record(&mut self, name: &str) -> Result<Option<Record>, DnsError> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let record = self.ask(name).await;
        self.known.insert(name.to_owned(), record.clone());
        record
    }

    async fn ask(&self, name: &str) -> Result<Option<Record>, DnsError> {
        let question = format!("_dmarc.{name}");
        if !is_name(&question) {
            return Ok(None);
        }
        let texts = match self.questions.ask(|dns| dns.txt(&question)).await {
            Ok(answer) => answer.records,
            Err(error) if error.negative().is_some() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut records = texts.iter().filter_map(|text| Record::parse(text));
        let record = records.next();
        Ok(record.filter(|_| records.next().is_none()))
    }
}

impl Records {
    /// Adds the record of one name.
    pub(crate) async fn and_of(self, questions: &Questions, domain: &Domain) -> Self {
        let mut walker = Walker::new(questions, self);
        // Without an answer it stays unknown.
        let _ = walker.record(domain.ascii()).await;
        walker.into_records()
    }

    /// Adds the records of the walk from a domain upwards.
    pub(crate) async fn and_above(self, questions: &Questions, domain: &Domain) -> Self {
        let mut walker = Walker::new(questions, self);
        walker.walk(domain.ascii()).await;
        walker.into_records()
    }
}

/// The names of a walk: the start, then its parents, from [`LABELS_MAX`] labels on.
fn names(start: &str) -> impl Iterator<Item = &str> {
    let parents = std::iter::successors(Some(start), |name| {
        name.split_once('.').map(|(_, parent)| parent)
    });
    let fits = |name: &&str| name.split('.').count() <= LABELS_MAX;
    std::iter::once(start).chain(parents.skip(1).filter(fits))
}

impl Walk {
    /// The organisation of the domain that the walk started at (RFC 9989 §4.10.2).
    pub(super) fn organisation(&self) -> &str {
        for (name, record) in &self.found {
            match record.suffix {
                Suffix::No => return name,
                Suffix::Yes if *name != self.start => return self.below(name),
                Suffix::Yes | Suffix::Unknown => {}
            }
        }
        self.found.last().map_or(&self.start, |(name, _)| name)
    }

    /// The name one label below a parent of the start.
    fn below(&self, parent: &str) -> &str {
        let labels = parent.split('.').count() + 1;
        let extra = self.start.split('.').count().saturating_sub(labels);
        let mut name = self.start.as_str();
        for _ in 0..extra {
            name = name.split_once('.').map_or(name, |(_, parent)| parent);
        }
        name
    }

    /// The record with the policy for the start, and its name: the own one, that of the
    /// organisation, or that of the public suffix (RFC 9989 §4.10.1).
    pub(super) fn policy_record(&self) -> Option<(&str, &Record)> {
        let organisation = self.organisation();
        let is_suffix = |record: &Record| record.suffix == Suffix::Yes;
        let own = |found: &&(String, Record)| found.0 == self.start;
        let of_organisation = |found: &&(String, Record)| found.0 == organisation;
        let of_suffix = |found: &&(String, Record)| is_suffix(&found.1);
        let found = self
            .found
            .iter()
            .find(own)
            .or_else(|| self.found.iter().find(of_organisation))
            .or_else(|| self.found.iter().find(of_suffix));
        found.map(|(name, record)| (name.as_str(), record))
    }

    /// The start has a record itself.
    pub(super) fn has_own(&self) -> bool {
        self.found
            .first()
            .is_some_and(|(name, _)| *name == self.start)
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Question, Record as DnsRecord, RecordType};

    use super::*;
    use crate::checks::questions::tests::questions;

    /// Walks from a name. `zone` has names with the rest of their records. Gives the organisation,
    /// the name of the policy record, and the number of questions.
    async fn check(start: &str, zone: &[(&str, &str)], expected: &str) {
        let fake = FakeResolver::default();
        for (name, rest) in zone {
            let text = format!("v=DMARC1; p=none;{rest}").into_bytes();
            fake.add(&format!("_dmarc.{name}"), DnsRecord::Txt(text));
        }
        let (questions, _clock) = questions(&fake);
        let mut walker = Walker::new(&questions, Records::default());
        let walk = walker.walk(start).await;
        let policy = walk.policy_record().map_or("-", |(name, _)| name);
        let asked = questions.asked();
        let found = format!("{} {policy} {asked}", walk.organisation());
        assert_eq!(found, expected, "{start} {zone:?}");
        // A second walk over the same names asks nothing.
        let again = walker.walk(start).await;
        assert_eq!(
            (again.organisation(), questions.asked()),
            (walk.organisation(), asked)
        );
        let question = Question::new(&format!("_dmarc.{start}"), RecordType::Txt);
        assert_eq!(fake.asked(&question), 1);
    }

    /// The examples of RFC 9989 §4.10, and some more.
    #[tokio::test]
    async fn organisations_are_found() {
        let mail = ("mail.example.com", "");
        let example = ("example.com", "");
        let com = ("com", "psd=y");
        for (start, zone, expected) in [
            ("a.mail.example.com", &[][..], "a.mail.example.com - 4"),
            (
                "a.mail.example.com",
                &[mail, example],
                "example.com example.com 4",
            ),
            ("a.mail.example.com", &[com], "example.com com 4"),
            ("a.mail.example.com", &[mail, com], "example.com com 4"),
            (
                "a.mail.example.com",
                &[mail, example, com],
                "example.com example.com 4",
            ),
            (
                "a.mail.example.com",
                &[("mail.example.com", "psd=n"), example],
                "mail.example.com mail.example.com 2",
            ),
            (
                "mail.example.com",
                &[("mail.example.com", "psd=n"), example],
                "mail.example.com mail.example.com 1",
            ),
            (
                "mail.example.com",
                &[mail, example],
                "example.com mail.example.com 3",
            ),
            ("example.com", &[("com", "")], "com com 2"),
            ("example.com", &[com], "example.com com 2"),
            ("com", &[com], "com com 1"),
            // A suffix below another suffix.
            (
                "gov.example",
                &[("gov.example", "psd=y"), ("example", "psd=y")],
                "gov.example gov.example 2",
            ),
            (
                "gov.example",
                &[("gov.example", "psd=y")],
                "gov.example gov.example 2",
            ),
            (
                "a.b.gov.example",
                &[("gov.example", "psd=y"), ("example", "psd=y")],
                "b.gov.example gov.example 3",
            ),
            // Several records are none.
            (
                "mail.example.com",
                &[example, example, mail, mail],
                "mail.example.com - 3",
            ),
            // At most eight questions.
            (
                "h.g.f.e.d.c.b.example.com",
                &[example],
                "example.com example.com 8",
            ),
            (
                "i.h.g.f.e.d.c.b.example.com",
                &[("h.g.f.e.d.c.b.example.com", "")],
                "i.h.g.f.e.d.c.b.example.com - 8",
            ),
            (
                "c.b.a.example.com",
                &[("c.b.a.example.com", "")],
                "c.b.a.example.com c.b.a.example.com 5",
            ),
        ] {
            check(start, zone, expected).await;
        }
    }

    #[tokio::test]
    async fn a_walk_of_many_labels_asks_eight_questions() {
        for labels in 1..=120 {
            let start = format!("{}test", "a.".repeat(labels - 1));
            let expected = format!("{start} - {}", labels.min(8));
            check(&start, &[], &expected).await;
        }
        // A name with which the question would be too long is not asked for.
        let start = format!(
            "{}.{}.{}.{}",
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(60)
        );
        let fake = FakeResolver::default();
        let (questions, _clock) = questions(&fake);
        let walk = Walker::new(&questions, Records::default())
            .walk(&start)
            .await;
        assert!(walk.unanswered.is_none() && !walk.has_own());
        assert_eq!(questions.asked(), 3);
    }

    #[tokio::test]
    async fn a_name_without_an_answer_ends_the_walk() {
        let fake = FakeResolver::default();
        fake.add(
            "_dmarc.a.test",
            DnsRecord::Txt(b"v=DMARC1; p=none".to_vec()),
        );
        fake.fail("_dmarc.test");
        let (questions, _clock) = questions(&fake);
        let walk = Walker::new(&questions, Records::default())
            .walk("b.a.test")
            .await;
        assert!(walk.unanswered.is_some() && !walk.has_own());
        fake.fail("_dmarc.b.a.test");
        let walk = Walker::new(&questions, Records::default())
            .walk("b.a.test")
            .await;
        assert!(walk.unanswered.is_some() && walk.policy_record().is_none());
        assert_eq!(questions.asked(), 4);
    }
}
