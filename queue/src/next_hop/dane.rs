//! The questions for DANE (RFC 7672 §2.2).

use std::sync::Arc;

use postrider_dns::{Answer, DnsError, Mx, Resolver};
use postrider_smtp::{DeliveryStatus, Domain};

use super::{Hop, LookUpFailure, hosts::unanswered};
use crate::{
    faults::OwnFault,
    tls::{DaneCheck, TlsaFact, TlsaSet, zone_form},
};

/// The TLSA records of a host.
#[derive(Clone, Debug)]
pub(crate) enum HostTlsa {
    /// There are none, or DNSSEC does not prove the way to them.
    Absent,
    /// It is not known whether there are any.
    Failed {
        /// The reason, in words.
        reason: String,
        failure: LookUpFailure,
        /// DNSSEC proves the answer wrong.
        bogus: bool,
    },
    /// There are some, and none can be used.
    Unusable {
        /// Their name without port and protocol.
        base: String,
        /// The records in the form of zone files.
        lines: Vec<String>,
    },
    /// These can be used.
    Usable(Arc<DaneCheck>),
}

impl HostTlsa {
    /// The fault of ours by which it is not known whether there are any.
    pub(crate) fn own_fault(&self) -> Option<(OwnFault, &DeliveryStatus)> {
        match self {
            Self::Failed { failure, .. } => Some((failure.fault?, &failure.status)),
            Self::Absent | Self::Unusable { .. } | Self::Usable(_) => None,
        }
    }

    /// What counts for the rules of TLS.
    pub(crate) fn fact(&self) -> TlsaFact<'_> {
        match self {
            Self::Absent => TlsaFact::Absent,
            Self::Failed { reason, .. } => TlsaFact::Failed(reason),
            Self::Unusable { .. } => TlsaFact::Unusable,
            Self::Usable(_) => TlsaFact::Usable,
        }
    }
}

/// The names of a domain that the certificates of its hosts may have: its own, and the one that its
/// CNAMEs lead to (RFC 7672 §3.2.3). A domain without MX records is its own host, and has no
/// further name. None if DNSSEC does not prove which hosts the domain has.
pub(super) fn secure_names(
    domain: &Domain,
    answer: &Result<Answer<Mx>, DnsError>,
) -> Option<Vec<String>> {
    match answer {
        Ok(answer) if answer.authentic => {
            let own = std::iter::once(domain.ascii());
            Some(own.chain(answer.expanded()).map(str::to_owned).collect())
        }
        Err(DnsError::NoRecords(negative)) if negative.authentic => Some(Vec::new()),
        _ => None,
    }
}

/// Looks up the TLSA records of a host at the `bases`, of which the first with records counts.
/// Records that DNSSEC does not prove are none.
pub(crate) async fn host_tlsa(
    resolver: &dyn Resolver,
    hop: &Hop,
    bases: &[String],
    domain_names: &[String],
) -> HostTlsa {
    for base in bases {
        let name = format!("_{}._tcp.{base}", hop.port);
        let records = match resolver.tlsa(&name).await {
            Ok(answer) if answer.authentic => answer.records,
            Ok(_) | Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => continue,
            Err(error) => {
                let failure = unanswered(&name, &error);
                return HostTlsa::Failed {
                    reason: format!("{name}: {error}"),
                    failure,
                    bogus: matches!(error, DnsError::Bogus { .. }),
                };
            }
        };
        let usable = TlsaSet::of(&records);
        if usable.is_empty() {
            return HostTlsa::Unusable {
                base: base.clone(),
                lines: records
                    .iter()
                    .map(|it| zone_form(it.usage, it.selector, it.matching, &it.data))
                    .collect(),
            };
        }
        let records = usable;
        let mut names = vec![base.clone()];
        for name in std::iter::once(&hop.name).chain(domain_names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        return HostTlsa::Usable(Arc::new(DaneCheck {
            records,
            base: base.clone(),
            names,
        }));
    }
    HostTlsa::Absent
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Question, Record, RecordType, Tlsa};

    use super::*;

    fn record(usage: u8) -> Record {
        Record::Tlsa(Tlsa {
            usage,
            selector: 1,
            matching: 1,
            data: vec![7; 32],
        })
    }

    /// What is found for `mx.test`, which is an alias of `host.test`.
    async fn found(resolver: &FakeResolver) -> String {
        let hop = Hop {
            name: "mx.test".to_owned(),
            preference: 10,
            port: 2525,
        };
        let bases = ["host.test", "mx.test"].map(str::to_owned);
        let domain = ["dom.test".to_owned()];
        match host_tlsa(resolver, &hop, &bases, &domain).await {
            HostTlsa::Absent => "absent".to_owned(),
            HostTlsa::Failed { reason, bogus, .. } => {
                assert_eq!(bogus, reason.contains("bogus"), "{reason}");
                reason
            }
            HostTlsa::Unusable { base, lines } => format!("unusable {base} {}", lines.join(",")),
            HostTlsa::Usable(check) => format!("{} {:?}", check.base, check.names),
        }
    }

    #[tokio::test]
    async fn the_first_name_with_records_counts() {
        const EXPANDED: &str = "_2525._tcp.host.test";
        const OWN: &str = "_2525._tcp.mx.test";
        let resolver = FakeResolver::default();
        assert_eq!(found(&resolver).await, "absent");
        resolver.add(OWN, record(3));
        let own = r#"mx.test ["mx.test", "dom.test"]"#;
        assert_eq!(found(&resolver).await, own);
        // No records of this type, and records without a proof.
        resolver.exist(EXPANDED);
        assert_eq!(found(&resolver).await, own);
        resolver.add(EXPANDED, record(2));
        resolver.distrust(EXPANDED);
        assert_eq!(found(&resolver).await, own);
        // No answer is not the answer "no".
        for fault in ["no server answers", "bogus"] {
            match fault {
                "bogus" => resolver.bogus(EXPANDED),
                _ => resolver.fail(EXPANDED),
            }
            let reason = found(&resolver).await;
            assert!(reason.starts_with("_2525._tcp.host.test: "), "{reason}");
            assert!(reason.contains(fault), "{reason}");
            resolver.mend(EXPANDED);
        }
        let asked = resolver.asked(&Question::new(OWN, RecordType::Tlsa));
        assert_eq!(asked, 4);
    }

    #[tokio::test]
    async fn records_at_the_expanded_name_end_the_search() {
        let resolver = FakeResolver::default();
        resolver.add("_2525._tcp.mx.test", record(3));
        resolver.add("_2525._tcp.host.test", record(1));
        let unusable = format!("unusable host.test 1 1 1 {}", "07".repeat(32));
        assert_eq!(found(&resolver).await, unusable);
        resolver.add("_2525._tcp.host.test", record(2));
        let expanded = r#"host.test ["host.test", "mx.test", "dom.test"]"#;
        assert_eq!(found(&resolver).await, expanded);
    }

    #[tokio::test]
    async fn a_domain_has_names_if_dnssec_proves_its_hosts() {
        let resolver = FakeResolver::default();
        resolver.set_mx("a.test", &[(10, "mx.test")]);
        resolver.set_mx("none.test", &[]);
        resolver.add("alias.test", Record::Cname("a.test".to_owned()));
        resolver.fail("failing.test");
        let names = async |text: &str| {
            let domain: Domain = text.parse().unwrap();
            secure_names(&domain, &resolver.mx(text).await)
        };
        let some = |names: &[&str]| Some(names.iter().map(|it| (*it).to_owned()).collect());
        for (domain, expected) in [
            ("a.test", some(&["a.test"])),
            ("alias.test", some(&["alias.test", "a.test"])),
            ("none.test", some(&[])),
            ("missing.test", None),
            ("failing.test", None),
        ] {
            assert_eq!(names(domain).await, expected, "{domain}");
        }
        for domain in ["a.test", "none.test"] {
            resolver.distrust(domain);
            assert_eq!(names(domain).await, None, "{domain}");
        }
        assert_eq!(names("alias.test").await, None);
    }
}
