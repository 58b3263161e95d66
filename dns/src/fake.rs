//! A resolver that answers from tables: for the tests of all crates, and to see what a zone would
//! do.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    ALIASES_MAX, Alias, Answer, DnsError, Lookup, Mx, Negative, Question, Record, RecordType,
    Resolver,
};

/// Answers from tables, which can be changed at any time. Clones share their tables.
///
/// Answers are authentic and have a TTL of 60 s, unless a test says otherwise. A name without any
/// records does not exist. CNAMEs are followed.
#[derive(Clone, Debug, Default)]
pub struct FakeResolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tables: Mutex<Tables>,
    /// Goes up with each change, to wake the questions that hang.
    changes: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            tables: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

#[derive(Debug, Default)]
struct Tables {
    records: HashMap<String, Vec<Record>>,
    failing: HashMap<String, DnsError>,
    failing_types: HashMap<Question, DnsError>,
    hanging: HashSet<String>,
    not_authentic: HashSet<String>,
    ttl: Option<Duration>,
    asked: HashMap<Question, usize>,
    zone_servers: Option<FakeResolver>,
    validation_out: bool,
}

impl FakeResolver {
    /// Adds a record.
    pub fn add(&self, name: &str, record: Record) {
        self.change(name, |tables, name| {
            tables.records.entry(name).or_default().push(record);
        });
    }

    /// Makes a name exist, also without records.
    pub fn exist(&self, name: &str) {
        self.change(name, |tables, name| {
            tables.records.entry(name).or_default();
        });
    }

    /// Makes these the MX records of a domain. Without hosts, the domain exists, but has no MX
    /// records.
    pub fn set_mx(&self, domain: &str, hosts: &[(u16, &str)]) {
        self.change(domain, |tables, domain| {
            let records = tables.records.entry(domain).or_default();
            records.retain(|record| record.record_type() != RecordType::Mx);
            records.extend(hosts.iter().map(|(preference, host)| {
                Record::Mx(Mx {
                    preference: *preference,
                    host: (*host).to_owned(),
                })
            }));
        });
    }

    /// Adds an address of a host.
    ///
    /// # Panics
    /// If it is not an address.
    #[expect(clippy::panic, reason = "a mistake in a test")]
    pub fn add_address(&self, host: &str, address: &str) {
        let record = match address.parse() {
            Ok(std::net::IpAddr::V4(address)) => Record::A(address),
            Ok(std::net::IpAddr::V6(address)) => Record::Aaaa(address),
            Err(_) => panic!("{address} is not an address"),
        };
        self.add(host, record);
    }

    /// Removes a name with all of its records.
    pub fn remove(&self, name: &str) {
        self.change(name, |tables, name| {
            tables.records.remove(&name);
        });
    }

    /// From now on, questions about this name fail.
    pub fn fail(&self, name: &str) {
        self.fail_with(name, DnsError::Temporary("no server answers".to_owned()));
    }

    /// From now on, questions about this name fail with this error.
    pub fn fail_with(&self, name: &str, error: DnsError) {
        self.change(name, |tables, name| {
            tables.failing.insert(name, error);
        });
    }

    /// From now on, DNSSEC proves the answers about this name wrong.
    pub fn bogus(&self, name: &str) {
        let bogus = DnsError::Bogus {
            name: name.to_owned(),
        };
        self.fail_with(name, bogus);
    }

    /// From now on, this question fails. Questions about the same name for other types do not.
    pub fn fail_question(&self, name: &str, record_type: RecordType) {
        let error = DnsError::Temporary("no server answers".to_owned());
        self.change(name, |tables, name| {
            let question = Question::new(&name, record_type);
            tables.failing_types.insert(question, error);
        });
    }

    /// From now on, questions about this name wait for an answer until [`mend`](Self::mend).
    pub fn hang(&self, name: &str) {
        self.change(name, |tables, name| {
            tables.hanging.insert(name);
        });
    }

    /// Ends [`fail`](Self::fail), [`bogus`](Self::bogus), [`fail_question`](Self::fail_question)
    /// and [`hang`](Self::hang). Questions that hang get their answers.
    pub fn mend(&self, name: &str) {
        self.change(name, |tables, name| {
            tables.failing.remove(&name);
            tables
                .failing_types
                .retain(|question, _| question.name() != name);
            tables.hanging.remove(&name);
        });
    }

    /// From now on, answers about this name are not authentic, and a CNAME of it is not either.
    pub fn distrust(&self, name: &str) {
        self.change(name, |tables, name| {
            tables.not_authentic.insert(name);
        });
    }

    /// Whether the servers pass on no signatures. Answers stay as they are: see
    /// [`distrust`](Self::distrust).
    pub fn set_validation_out(&self, out: bool) {
        self.tables().validation_out = out;
    }

    /// The TTL of all answers from now on.
    pub fn set_ttl(&self, ttl: Duration) {
        self.tables().ttl = Some(ttl);
    }

    /// The tables of the servers of all zones, for [`Resolver::directly`]. A clone of this resolver
    /// must not be its own zone server.
    pub fn set_zone_servers(&self, servers: Self) {
        self.tables().zone_servers = Some(servers);
    }

    /// How often a question was asked.
    #[must_use]
    pub fn asked(&self, question: &Question) -> usize {
        self.tables().asked.get(question).copied().unwrap_or(0)
    }

    /// How many questions were asked.
    #[must_use]
    pub fn asked_in_all(&self) -> usize {
        self.tables().asked.values().sum()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.shared
            .tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Tables, String)) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        change(&mut self.tables(), name);
        self.shared.changes.send_modify(|count| *count += 1);
    }
}

impl Tables {
    /// None while the name hangs.
    fn answer(&self, question: &Question) -> Option<Result<Answer<Record>, DnsError>> {
        let mut question = question.clone();
        let mut aliases = Vec::new();
        while let Some(target) = self.alias(&question) {
            if aliases.len() == ALIASES_MAX {
                return Some(Err(DnsError::Temporary("the CNAMEs are a loop".to_owned())));
            }
            let next = Question::new(target, question.record_type());
            aliases.push(Alias {
                target: next.name().to_owned(),
                authentic: !self.not_authentic.contains(question.name()),
            });
            question = next;
        }
        self.answer_of(&question, aliases)
    }

    /// The name that has the records in the place of this one. None for a name that does not
    /// answer.
    fn alias(&self, question: &Question) -> Option<&str> {
        let name = question.name();
        let silent = self.hanging.contains(name) || self.failing.contains_key(name);
        if silent || question.record_type() == RecordType::Cname {
            return None;
        }
        self.records
            .get(name)?
            .iter()
            .find_map(|record| match record {
                Record::Cname(target) => Some(target.as_str()),
                _ => None,
            })
    }

    fn answer_of(
        &self,
        question: &Question,
        aliases: Vec<Alias>,
    ) -> Option<Result<Answer<Record>, DnsError>> {
        let name = question.name();
        if self.hanging.contains(name) {
            return None;
        }
        let failing = self.failing_types.get(question);
        if let Some(error) = failing.or_else(|| self.failing.get(name)) {
            return Some(Err(error.clone()));
        }
        let authentic =
            !self.not_authentic.contains(name) && aliases.iter().all(|alias| alias.authentic);
        let ttl = self.ttl.unwrap_or(Duration::from_secs(60));
        let negative = Negative { authentic, ttl };
        let Some(records) = self.records.get(name) else {
            return Some(Err(DnsError::NoName(negative)));
        };
        let records: Vec<Record> = records
            .iter()
            .filter(|record| record.record_type() == question.record_type())
            .cloned()
            .collect();
        if records.is_empty() {
            return Some(Err(DnsError::NoRecords(negative)));
        }
        Some(Ok(Answer {
            records,
            aliases,
            authentic,
            ttl,
        }))
    }
}

impl Resolver for FakeResolver {
    fn directly(&self, _: &[SocketAddr]) -> Option<Arc<dyn Resolver>> {
        let servers = self.tables().zone_servers.clone();
        servers.map(|servers| Arc::new(servers) as Arc<dyn Resolver>)
    }

    fn is_validation_out(&self) -> bool {
        self.tables().validation_out
    }

    fn ask(&self, question: Question) -> Lookup<Record> {
        *self.tables().asked.entry(question.clone()).or_default() += 1;
        let fake = self.clone();
        let mut changes = self.shared.changes.subscribe();
        Box::pin(async move {
            loop {
                changes.mark_unchanged();
                let answer = fake.tables().answer(&question);
                if let Some(answer) = answer {
                    return answer;
                }
                // It does not fail: `fake` holds the sender.
                let _ = changes.changed().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn names_fail_hang_and_are_not_authentic() {
        let fake = FakeResolver::default();
        fake.add("a.test", Record::Txt(b"one".to_vec()));
        fake.add("a.test", Record::Txt(b"two".to_vec()));
        let answer = fake.txt("a.test").await.unwrap();
        assert_eq!(answer.records, [b"one", b"two"]);
        assert!(answer.authentic);
        fake.distrust("a.test");
        assert!(!fake.txt("a.test").await.unwrap().authentic);
        fake.fail("a.test");
        let failed = fake.txt("a.test").await.unwrap_err();
        assert_eq!(failed.to_string(), "no server answers");
        fake.mend("a.test");
        fake.hang("a.test");
        let mut waiting = fake.txt("a.test");
        let polled = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        fake.mend("a.test");
        assert_eq!(waiting.await.unwrap().records.len(), 2);
        assert_eq!(fake.asked(&Question::new("a.test", RecordType::Txt)), 4);
        fake.fail_question("a.test", RecordType::Mx);
        assert!(matches!(
            fake.mx("a.test").await,
            Err(DnsError::Temporary(_))
        ));
        assert!(fake.txt("a.test").await.is_ok());
        fake.mend("a.test");
        assert!(matches!(
            fake.mx("a.test").await,
            Err(DnsError::NoRecords(_))
        ));
        fake.remove("a.test");
        assert!(matches!(
            fake.txt("a.test").await,
            Err(DnsError::NoName(Negative {
                authentic: false,
                ..
            }))
        ));
    }

    #[tokio::test]
    async fn cnames_are_followed() {
        let fake = FakeResolver::default();
        fake.add("a.test", Record::Cname("b.test".to_owned()));
        fake.add("b.test", Record::Cname("c.test".to_owned()));
        assert!(matches!(fake.a("a.test").await, Err(DnsError::NoName(_))));
        fake.exist("c.test");
        assert!(matches!(
            fake.a("a.test").await,
            Err(DnsError::NoRecords(_))
        ));
        fake.add_address("c.test", "192.0.2.1");
        assert_eq!(fake.a("a.test").await.unwrap().records.len(), 1);
        fake.fail("c.test");
        assert!(matches!(
            fake.a("a.test").await,
            Err(DnsError::Temporary(_))
        ));
        let alias = fake.ask(Question::new("a.test", RecordType::Cname)).await;
        assert_eq!(alias.unwrap().records.len(), 1);
        fake.mend("c.test");
        fake.distrust("b.test");
        let answer = fake.a("a.test").await.unwrap();
        let aliases = answer.aliases.iter();
        let aliases: Vec<_> = aliases
            .map(|it| (it.target.as_str(), it.authentic))
            .collect();
        assert_eq!(aliases, [("b.test", true), ("c.test", false)]);
        assert!(!answer.authentic);
        fake.bogus("c.test");
        assert!(matches!(
            fake.a("a.test").await,
            Err(DnsError::Bogus { .. })
        ));
        fake.add("loop.test", Record::Cname("loop.test".to_owned()));
        assert!(matches!(
            fake.a("loop.test").await,
            Err(DnsError::Temporary(_))
        ));
    }
}
