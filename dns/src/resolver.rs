//! The trait that answers questions.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use crate::{Alias, Answer, Caa, DnsError, Mx, Negative, Question, Record, RecordType, Srv, Tlsa};

/// A look-up under way. It is boxed: a question is rare beside the mail that it is asked for.
pub type Lookup<T> = Pin<Box<dyn Future<Output = Result<Answer<T>, DnsError>> + Send>>;

/// How long it counts that an answer was not validated: longer than caches and plans remember it.
pub const UNVALIDATED_COUNTS: Duration = Duration::from_secs(2 * 60 * 60);

/// Answers questions. Only [`ask`](Self::ask) is to be written; the other methods ask it.
pub trait Resolver: Send + Sync {
    /// Asks a question. CNAMEs are followed. All records of the answer have the type of the
    /// question.
    fn ask(&self, question: Question) -> Lookup<Record>;

    /// A resolver that asks these servers of a zone, and nobody else. Its answers are never
    /// authentic. None if this resolver can't.
    fn directly(&self, _servers: &[SocketAddr]) -> Option<Arc<dyn Resolver>> {
        None
    }

    /// Answers are to be validated by DNSSEC, and lately some were not, since the servers do not
    /// pass on signatures. An answer that is not authentic may be so for that alone. It may have
    /// been remembered: so this counts for [`UNVALIDATED_COUNTS`].
    fn is_validation_out(&self) -> bool {
        false
    }

    /// The MX records of a domain.
    fn mx(&self, domain: &str) -> Lookup<Mx> {
        typed(
            self.ask(Question::new(domain, RecordType::Mx)),
            |record| match record {
                Record::Mx(mx) => Some(mx),
                _ => None,
            },
        )
    }

    /// The IPv4 addresses of a host.
    fn a(&self, host: &str) -> Lookup<Ipv4Addr> {
        typed(
            self.ask(Question::new(host, RecordType::A)),
            |record| match record {
                Record::A(address) => Some(address),
                _ => None,
            },
        )
    }

    /// The IPv6 addresses of a host.
    fn aaaa(&self, host: &str) -> Lookup<Ipv6Addr> {
        typed(
            self.ask(Question::new(host, RecordType::Aaaa)),
            |record| match record {
                Record::Aaaa(address) => Some(address),
                _ => None,
            },
        )
    }

    /// The addresses of a host, of both families. A family without addresses, or without an answer,
    /// is left out if the other family has addresses.
    fn addresses(&self, host: &str) -> Lookup<IpAddr> {
        let (v4, v6) = (self.a(host), self.aaaa(host));
        Box::pin(async move {
            let (v4, v6) = tokio::join!(v4, v6);
            both_families(v4, v6)
        })
    }

    /// The names of the servers of a zone.
    fn ns(&self, zone: &str) -> Lookup<String> {
        typed(
            self.ask(Question::new(zone, RecordType::Ns)),
            |record| match record {
                Record::Ns(server) => Some(server),
                _ => None,
            },
        )
    }

    /// The CAs that may issue certificates for a name. Without records, those of the name above it
    /// count (RFC 8659 §3).
    fn caa(&self, name: &str) -> Lookup<Caa> {
        typed(
            self.ask(Question::new(name, RecordType::Caa)),
            |record| match record {
                Record::Caa(caa) => Some(caa),
                _ => None,
            },
        )
    }

    /// The names of an address.
    fn ptr(&self, address: IpAddr) -> Lookup<String> {
        typed(
            self.ask(Question::reverse(address)),
            |record| match record {
                Record::Ptr(name) => Some(name),
                _ => None,
            },
        )
    }

    /// The TXT records of a name, one text for each record.
    fn txt(&self, name: &str) -> Lookup<Vec<u8>> {
        typed(
            self.ask(Question::new(name, RecordType::Txt)),
            |record| match record {
                Record::Txt(text) => Some(text),
                _ => None,
            },
        )
    }

    /// The TLSA records of a name such as `_25._tcp.mx.example`.
    fn tlsa(&self, name: &str) -> Lookup<Tlsa> {
        typed(
            self.ask(Question::new(name, RecordType::Tlsa)),
            |record| match record {
                Record::Tlsa(tlsa) => Some(tlsa),
                _ => None,
            },
        )
    }

    /// The SRV records of a name such as `_submission._tcp.example`.
    fn srv(&self, name: &str) -> Lookup<Srv> {
        typed(
            self.ask(Question::new(name, RecordType::Srv)),
            |record| match record {
                Record::Srv(srv) => Some(srv),
                _ => None,
            },
        )
    }
}

/// The outcome of a look-up that has so much time.
pub(crate) async fn in_time<T>(
    limit: Duration,
    lookup: impl Future<Output = Result<T, DnsError>>,
) -> Result<T, DnsError> {
    match tokio::time::timeout(limit, lookup).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DnsError::Temporary("no answer in time".to_owned())),
    }
}

fn typed<T: Send + 'static>(lookup: Lookup<Record>, pick: fn(Record) -> Option<T>) -> Lookup<T> {
    Box::pin(async move {
        let mut answer = lookup.await?;
        let records = std::mem::take(&mut answer.records);
        let records: Vec<T> = records.into_iter().filter_map(pick).collect();
        if records.is_empty() {
            let Answer { authentic, ttl, .. } = answer;
            return Err(DnsError::NoRecords(Negative { authentic, ttl }));
        }
        Ok(answer.with_records(records))
    })
}

/// The answer about both families. It is authentic if both are, also if one of them says that there
/// are no addresses. A family without an answer says nothing.
fn both_families(
    v4: Result<Answer<Ipv4Addr>, DnsError>,
    v6: Result<Answer<Ipv6Addr>, DnsError>,
) -> Result<Answer<IpAddr>, DnsError> {
    let (v4, v6) = (v4.map(any_family), v6.map(any_family));
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            let same = |(at, alias): (usize, Alias)| Alias {
                authentic: alias.authentic && v6.aliases.get(at) == Some(&alias),
                ..alias
            };
            v4.records.extend(v6.records);
            Ok(Answer {
                records: v4.records,
                aliases: v4.aliases.into_iter().enumerate().map(same).collect(),
                authentic: v4.authentic && v6.authentic,
                ttl: v4.ttl.min(v6.ttl),
            })
        }
        (Ok(found), Err(error)) | (Err(error), Ok(found)) => match error.negative() {
            Some(negative) => Ok(Answer {
                authentic: found.authentic && negative.authentic,
                ttl: found.ttl.min(negative.ttl),
                ..found
            }),
            None => Ok(found),
        },
        (Err(DnsError::NoName(a)), Err(DnsError::NoName(b))) => Err(DnsError::NoName(both(a, b))),
        (Err(a), Err(b)) => match (a.negative(), b.negative()) {
            (Some(a), Some(b)) => Err(DnsError::NoRecords(both(a, b))),
            _ => Err(worst(a, b)),
        },
    }
}

/// The error of two that says most of what is wrong. A fault of ours counts before a fault of
/// others, and that before an answer.
fn worst(a: DnsError, b: DnsError) -> DnsError {
    let rank = |error: &DnsError| match error {
        DnsError::System { .. } => 3,
        DnsError::Bogus { .. } => 2,
        DnsError::Temporary(_) => 1,
        DnsError::NoName(_) | DnsError::NoRecords(_) => 0,
    };
    if rank(&b) > rank(&a) { b } else { a }
}

fn any_family<T: Into<IpAddr> + Copy>(answer: Answer<T>) -> Answer<IpAddr> {
    let records = answer.records.iter().map(|address| (*address).into());
    let records = records.collect();
    answer.with_records(records)
}

fn both(a: Negative, b: Negative) -> Negative {
    Negative {
        authentic: a.authentic && b.authentic,
        ttl: a.ttl.min(b.ttl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FakeResolver;

    #[tokio::test]
    async fn one_family_is_enough() {
        let fake = FakeResolver::default();
        fake.add_address("both.test", "192.0.2.1");
        fake.add_address("both.test", "2001:db8::1");
        fake.add_address("four.test", "192.0.2.1");
        fake.set_mx("mail.test", &[(10, "both.test")]);
        let both = fake.addresses("both.test").await.unwrap();
        let expected: [IpAddr; 2] =
            ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        assert_eq!(both.records, expected);
        let four = fake.addresses("four.test").await.unwrap();
        assert_eq!(four.records, expected[..1]);
        assert!(matches!(
            fake.addresses("mail.test").await,
            Err(DnsError::NoRecords(_))
        ));
        assert!(matches!(
            fake.addresses("none.test").await,
            Err(DnsError::NoName(_))
        ));
    }

    fn found<T>(address: T, aliases: &[(&str, bool)], authentic: bool) -> Answer<T> {
        let alias = |(target, authentic): &(&str, bool)| Alias {
            target: (*target).to_owned(),
            authentic: *authentic,
        };
        Answer {
            records: vec![address],
            aliases: aliases.iter().map(alias).collect(),
            authentic,
            ttl: Duration::from_secs(60),
        }
    }

    const fn none(authentic: bool) -> Negative {
        Negative {
            authentic,
            ttl: Duration::from_secs(5),
        }
    }

    #[test]
    fn a_failed_family_counts_only_if_the_other_has_nothing() {
        let v4 = || Ok(found(Ipv4Addr::LOCALHOST, &[], true));
        let failed = || DnsError::Temporary("no server answers".to_owned());
        let bogus = || DnsError::Bogus {
            name: "a.test".to_owned(),
        };
        let no_socket = || DnsError::System {
            errno: 24,
            text: "too many open files".to_owned(),
        };
        let answer = both_families(v4(), Err(failed())).unwrap();
        assert!(answer.authentic && answer.ttl == Duration::from_secs(60));
        let answer = both_families(v4(), Err(DnsError::NoRecords(none(true)))).unwrap();
        assert!(answer.authentic && answer.ttl == Duration::from_secs(5));
        for (a, b, expected) in [
            (DnsError::NoRecords(none(true)), failed(), failed()),
            (failed(), bogus(), bogus()),
            (bogus(), no_socket(), no_socket()),
            (no_socket(), failed(), no_socket()),
            (
                DnsError::NoName(none(true)),
                DnsError::NoRecords(none(false)),
                DnsError::NoRecords(none(false)),
            ),
        ] {
            for (a, b) in [(a.clone(), b.clone()), (b, a)] {
                assert_eq!(both_families(Err(a), Err(b)), Err(expected.clone()));
            }
        }
    }

    #[test]
    fn addresses_are_authentic_if_both_families_are() {
        for (v4, v6) in [(true, true), (true, false), (false, true), (false, false)] {
            let answer = both_families(
                Ok(found(Ipv4Addr::LOCALHOST, &[], v4)),
                Ok(found(Ipv6Addr::LOCALHOST, &[], v6)),
            );
            assert_eq!(answer.unwrap().authentic, v4 && v6);
            for negative in [DnsError::NoName(none(v6)), DnsError::NoRecords(none(v6))] {
                let answer = both_families(Ok(found(Ipv4Addr::LOCALHOST, &[], v4)), Err(negative));
                assert_eq!(answer.unwrap().authentic, v4 && v6);
            }
        }
    }

    #[test]
    fn an_alias_is_authentic_if_both_families_say_so() {
        let both = [("b.test", true), ("c.test", true)];
        for (v6, expected) in [
            (&both[..], [true, true]),
            (&[("b.test", true), ("c.test", false)], [true, false]),
            (&[("b.test", true), ("d.test", true)], [true, false]),
            (&[("b.test", true)], [true, false]),
            (&[], [false, false]),
        ] {
            let answer = both_families(
                Ok(found(Ipv4Addr::LOCALHOST, &both, true)),
                Ok(found(Ipv6Addr::LOCALHOST, v6, true)),
            )
            .unwrap();
            let authentic: Vec<bool> = answer.aliases.iter().map(|it| it.authentic).collect();
            assert_eq!(authentic, expected);
            assert_eq!(answer.expanded(), Some("c.test"));
        }
        let answer = both_families(
            Ok(found(Ipv4Addr::LOCALHOST, &both, true)),
            Err(DnsError::NoRecords(none(true))),
        );
        assert_eq!(answer.unwrap().aliases.len(), 2);
    }
}
