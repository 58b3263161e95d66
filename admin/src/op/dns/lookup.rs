//! One question to DNS, with all that is known of its answer.

use std::net::IpAddr;

use postrider_dns::{DnsError, Question, RecordType, Resolver};
use postrider_smtp::Domain;
use serde::{Deserialize, Serialize};

use super::{super::Single, record::content};
use crate::{AdminError, Context};

/// The types that can be asked for.
const TYPES: [RecordType; 10] = [
    RecordType::A,
    RecordType::Aaaa,
    RecordType::Caa,
    RecordType::Cname,
    RecordType::Mx,
    RecordType::Ns,
    RecordType::Ptr,
    RecordType::Srv,
    RecordType::Tlsa,
    RecordType::Txt,
];

/// Asks DNS for the records of a name, past the cache of the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The type, for example `MX`. The case does not matter.
    pub record_type: String,
    /// The name. For `PTR` it may be an IP address.
    pub name: String,
}

/// What DNSSEC says about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dnssec {
    /// It proves the answer, also one that says "no".
    Secure,
    /// The zone is not signed.
    Insecure,
    /// It proves the answer wrong.
    Bogus,
    /// Nobody looked: validation is off, or the DNS servers do not pass on signatures.
    Unchecked,
    /// There is no answer.
    NoAnswer,
}

/// An answer of DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupItem {
    /// The name that was asked for, in ASCII and without a dot at the end.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub record_type: String,
    /// The records as in a zone file, but a text in one piece and without quotes. Empty: there are
    /// none, or there is no answer.
    pub records: Vec<String>,
    /// The CNAMEs that led to the answer, in their order.
    pub aliases: Vec<String>,
    /// What DNSSEC says.
    pub dnssec: Dnssec,
    /// How long the answer holds, in seconds; None: there is no answer.
    pub ttl: Option<u64>,
    /// The reason why there are no records.
    pub reason: Option<String>,
}

impl Lookup {
    fn question(&self) -> Result<Question, AdminError> {
        let wanted = |known: &RecordType| known.as_str().eq_ignore_ascii_case(&self.record_type);
        let record_type = TYPES.into_iter().find(wanted).ok_or_else(|| {
            let known = TYPES.map(RecordType::as_str).join(" ");
            let text = format!("the type {:?} is none of {known}", self.record_type);
            AdminError::invalid(text).at("record_type")
        })?;
        if let (RecordType::Ptr, Ok(address)) = (record_type, self.name.parse::<IpAddr>()) {
            return Ok(Question::reverse(address));
        }
        let wrong =
            |reason: &str| AdminError::invalid(format!("{:?}: {reason}", self.name)).at("name");
        let name = match self.name.is_ascii() {
            true => self.name.clone(),
            false => {
                let name = Domain::parse(&self.name);
                name.map_err(|error| wrong(&error.to_string()))?
                    .ascii()
                    .to_owned()
            }
        };
        let bare = name.strip_suffix('.').unwrap_or(&name);
        let fits = |label: &str| (1..=63).contains(&label.len());
        match bare.len() <= 253 && bare.split('.').all(fits) {
            true => Ok(Question::new(bare, record_type)),
            false => Err(wrong("a name has labels of 1 to 63 characters, 253 in all")),
        }
    }

    /// Asks this resolver. `validates`: its answers are validated by DNSSEC.
    ///
    /// # Errors
    /// If the type or the name is none.
    pub async fn ask(
        &self,
        resolver: &dyn Resolver,
        validates: bool,
    ) -> Result<LookupItem, AdminError> {
        let question = self.question()?;
        let answered = resolver.ask(question.clone()).await;
        let checked = validates && !resolver.is_validation_out();
        let proven = |authentic| match (authentic, checked) {
            (true, _) => Dnssec::Secure,
            (false, true) => Dnssec::Insecure,
            (false, false) => Dnssec::Unchecked,
        };
        let mut item = LookupItem {
            name: question.name().to_owned(),
            record_type: question.record_type().as_str().to_owned(),
            records: Vec::new(),
            aliases: Vec::new(),
            dnssec: Dnssec::NoAnswer,
            ttl: None,
            reason: None,
        };
        match answered {
            Ok(answer) => {
                item.dnssec = proven(answer.authentic);
                item.ttl = Some(answer.ttl.as_secs());
                item.records = answer.records.iter().map(content).collect();
                item.aliases = answer.aliases.into_iter().map(|it| it.target).collect();
            }
            Err(error) => {
                if let Some(negative) = error.negative() {
                    item.dnssec = proven(negative.authentic);
                    item.ttl = Some(negative.ttl.as_secs());
                } else if matches!(error, DnsError::Bogus { .. }) {
                    item.dnssec = Dnssec::Bogus;
                }
                item.reason = Some(error.to_string());
            }
        }
        Ok(item)
    }
}

impl Single for Lookup {
    type Output = LookupItem;

    async fn answer(self, context: &Context) -> Result<LookupItem, AdminError> {
        let validates = context.statics.resolver.dnssec;
        self.ask(context.resolver.as_ref(), validates).await
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Record};
    use serde_json::json;

    use super::*;

    async fn ask(fake: &FakeResolver, record_type: &str, name: &str) -> LookupItem {
        let lookup = Lookup {
            record_type: record_type.to_owned(),
            name: name.to_owned(),
        };
        lookup.ask(fake, true).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_comes_with_its_facts() {
        let fake = FakeResolver::default();
        fake.set_mx("a.test", &[(10, "mx.a.test"), (20, "mx.b.test")]);
        fake.add("txt.test", Record::Txt(b"v=spf1 -all".to_vec()));
        let reverse = Question::reverse([192, 0, 2, 7].into());
        fake.add(reverse.name(), Record::Ptr("mx.a.test".to_owned()));
        fake.fail("silent.test");
        for insecure in ["a.test", "none.test", "txt.test"] {
            fake.distrust(insecure);
        }
        fake.add_address("signed.test", "192.0.2.1");
        let found = ask(&fake, "mx", "A.test.").await;
        assert_eq!(found.records, ["10 mx.a.test.", "20 mx.b.test."]);
        assert_eq!(
            (found.name.as_str(), found.record_type.as_str()),
            ("a.test", "MX")
        );
        assert_eq!((found.dnssec, found.reason), (Dnssec::Insecure, None));
        assert_eq!(found.ttl, Some(60));
        assert_eq!(ask(&fake, "A", "signed.test").await.dnssec, Dnssec::Secure);
        assert_eq!(ask(&fake, "TXT", "txt.test").await.records, ["v=spf1 -all"]);
        assert_eq!(ask(&fake, "PTR", "192.0.2.7").await.records, ["mx.a.test."]);
        let none = ask(&fake, "A", "none.test").await;
        assert_eq!(none.reason.as_deref(), Some("the name does not exist"));
        assert_eq!(none.dnssec, Dnssec::Insecure);
        let silent = ask(&fake, "A", "silent.test").await;
        assert_eq!((silent.dnssec, silent.ttl), (Dnssec::NoAnswer, None));
        let shown = serde_json::to_value(&silent).unwrap();
        assert_eq!(
            (&shown["type"], &shown["dnssec"]),
            (&json!("A"), &json!("no_answer"))
        );
        let unchecked = Lookup {
            record_type: "txt".to_owned(),
            name: "txt.test".to_owned(),
        };
        let unchecked = unchecked.ask(&fake, false).await.unwrap();
        assert_eq!(unchecked.dnssec, Dnssec::Unchecked);
    }

    #[tokio::test]
    async fn a_question_that_makes_no_sense_is_refused() {
        let fake = FakeResolver::default();
        let long = "x".repeat(64);
        for (record_type, name, field) in [
            ("SOA", "a.test", "record_type"),
            ("A", "", "name"),
            ("A", "a..test", "name"),
            ("A", long.as_str(), "name"),
            ("A", "\u{e4} b", "name"),
        ] {
            let lookup = Lookup {
                record_type: record_type.to_owned(),
                name: name.to_owned(),
            };
            let error = lookup.ask(&fake, true).await.unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{name}");
        }
        assert_eq!(fake.asked_in_all(), 0);
    }
}
