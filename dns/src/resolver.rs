//! The trait that answers questions.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use crate::{Answer, Caa, DnsError, Mx, Negative, Question, Record, RecordType, Srv, Tlsa};

/// A look-up under way. It is boxed: a question is rare beside the mail that it is asked for.
pub type Lookup<T> = Pin<Box<dyn Future<Output = Result<Answer<T>, DnsError>> + Send>>;

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
        let Answer {
            records,
            authentic,
            ttl,
        } = lookup.await?;
        let records: Vec<T> = records.into_iter().filter_map(pick).collect();
        if records.is_empty() {
            return Err(DnsError::NoRecords(Negative { authentic, ttl }));
        }
        Ok(Answer {
            records,
            authentic,
            ttl,
        })
    })
}

fn both_families(
    v4: Result<Answer<Ipv4Addr>, DnsError>,
    v6: Result<Answer<Ipv6Addr>, DnsError>,
) -> Result<Answer<IpAddr>, DnsError> {
    let (v4, v6) = (v4.map(any_family), v6.map(any_family));
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.records.extend(v6.records);
            Ok(Answer {
                records: v4.records,
                authentic: v4.authentic && v6.authentic,
                ttl: v4.ttl.min(v6.ttl),
            })
        }
        (Ok(found), Err(error)) | (Err(error), Ok(found)) => {
            let ttl = error
                .negative()
                .map_or(found.ttl, |negative| negative.ttl.min(found.ttl));
            Ok(Answer { ttl, ..found })
        }
        (Err(error @ DnsError::System { .. }), Err(_))
        | (Err(_), Err(error @ DnsError::System { .. }))
        | (Err(error @ DnsError::Temporary(_)), Err(_))
        | (Err(_), Err(error @ DnsError::Temporary(_))) => Err(error),
        (Err(DnsError::NoName(a)), Err(DnsError::NoName(b))) => Err(DnsError::NoName(both(a, b))),
        (Err(a), Err(b)) => {
            let none = Negative {
                authentic: false,
                ttl: Duration::ZERO,
            };
            let (a, b) = (a.negative().unwrap_or(none), b.negative().unwrap_or(none));
            Err(DnsError::NoRecords(both(a, b)))
        }
    }
}

fn any_family<T: Into<IpAddr>>(answer: Answer<T>) -> Answer<IpAddr> {
    Answer {
        records: answer.records.into_iter().map(Into::into).collect(),
        authentic: answer.authentic,
        ttl: answer.ttl,
    }
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

    #[test]
    fn a_failed_family_counts_only_if_the_other_has_nothing() {
        let found = || {
            Ok(Answer {
                records: vec![Ipv4Addr::LOCALHOST],
                authentic: true,
                ttl: Duration::from_secs(60),
            })
        };
        let failed = || DnsError::Temporary("no server answers".to_owned());
        let answer = both_families(found(), Err(failed())).unwrap();
        assert!(answer.authentic && answer.ttl == Duration::from_secs(60));
        let none = Negative {
            authentic: true,
            ttl: Duration::from_secs(5),
        };
        let answer = both_families(found(), Err(DnsError::NoRecords(none))).unwrap();
        assert_eq!(answer.ttl, Duration::from_secs(5));
        assert_eq!(
            both_families(Err(DnsError::NoRecords(none)), Err(failed())),
            Err(failed())
        );
        let no_socket = || DnsError::System {
            errno: 24,
            text: "too many open files".to_owned(),
        };
        assert_eq!(
            both_families(Err(failed()), Err(no_socket())),
            Err(no_socket())
        );
    }
}
