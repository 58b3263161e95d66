//! Asks DNS servers, by the `hickory-resolver` crate.
//!
//! | what the servers say | what it means here |
//! |---|---|
//! | records | an answer; authentic if the lowest proof of its records is "secure" |
//! | NXDOMAIN, or no records | they do not exist; authentic if the denial is "secure" |
//! | SERVFAIL, REFUSED, nothing in time | a temporary failure |
//! | nothing, since the system gives no socket | an error of the system, with its number |
//! | records or a denial that DNSSEC proves wrong | a temporary failure |
//!
//! Validation needs servers that pass on signatures. So the SOA of the root is asked first, and
//! again each hour. While the root is not "secure", answers are not validated, and none is
//! authentic.

#[cfg(test)]
mod server_tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup as Found,
    net::{DnsError as NetDnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        dnssec::Proof,
        op::ResponseCode,
        rr::{Name, RData, RecordType as WireType},
    },
};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::{
    Answer, Caa, DnsError, Lookup, Mx, Negative, Now, Question, Record, RecordType, Resolver, Srv,
    Tlsa, places::ASKED_MAX, resolver::in_time,
};

/// How long the root's answer holds.
const ROOT_HOLDS: Duration = Duration::from_secs(60 * 60);
/// When the root is asked again after a failure.
const ROOT_RETRY: Duration = Duration::from_secs(60);
/// How many questions one TCP connection to a server takes. Beyond, the crate counts it as broken,
/// and makes another one. All questions of all callers may be there at once, as with a server that
/// cuts off each answer over UDP, and validation asks several questions for one.
const PER_CONNECTION: usize = 16 * ASKED_MAX;
/// The TTL of a negative answer of which the server does not say how long it holds: one without the
/// SOA (RFC 2308 §5). The checks of a message ask mostly for what is not there.
const NEGATIVE_TTL: u32 = 60;

/// How to ask.
#[derive(Clone)]
pub struct HickorySettings<'a> {
    /// The DNS servers. Empty: the servers of the system.
    pub servers: &'a [SocketAddr],
    /// How long a look-up may take. The servers are asked a second time after half of it.
    pub timeout: Duration,
    /// Validate answers by DNSSEC.
    pub validate: bool,
    /// The time.
    pub now: Now,
}

/// Asks DNS servers.
#[derive(Clone)]
pub struct HickoryResolver {
    inner: Arc<Inner>,
}

struct Inner {
    plain: TokioResolver,
    validating: Option<Validating>,
    timeout: Duration,
    now: Now,
}

/// A resolver that validates, and whether its servers let it.
struct Validating {
    resolver: TokioResolver,
    now: Now,
    root: Mutex<Option<Root>>,
}

/// The security of the root's answer.
#[derive(Clone, Copy)]
struct Root {
    secure: bool,
    until: Duration,
}

/// Why a resolver can't be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the DNS resolver: {0}; set resolver.servers")]
pub struct HickorySetupError(String);

impl HickoryResolver {
    /// A resolver without a cache of its own: put a [`CachingResolver`](crate::CachingResolver)
    /// before it.
    ///
    /// # Errors
    /// If the configuration of the system can't be read.
    pub fn new(settings: &HickorySettings<'_>) -> Result<Self, HickorySetupError> {
        let plain = build(settings, false, true)?;
        let validating = match settings.validate {
            true => Some(Validating {
                resolver: build(settings, true, true)?,
                now: settings.now.clone(),
                root: Mutex::new(None),
            }),
            false => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                plain,
                validating,
                timeout: settings.timeout,
                now: Arc::clone(&settings.now),
            }),
        })
    }
}

impl std::fmt::Debug for HickoryResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HickoryResolver")
            .field("validating", &self.inner.validating.is_some())
            .finish_non_exhaustive()
    }
}

fn build(
    settings: &HickorySettings<'_>,
    validate: bool,
    recursion: bool,
) -> Result<TokioResolver, HickorySetupError> {
    let mut options = ResolverOpts::default();
    options.recursion_desired = recursion;
    // The time of one try, so that a second one is within the time limit: `attempts` are those
    // after the first.
    options.timeout = settings.timeout / 2;
    options.attempts = 1;
    options.max_active_requests = PER_CONNECTION;
    options.ndots = 0;
    options.cache_size = 0;
    options.validate = validate;
    let failed = |error: NetError| HickorySetupError(error.to_string());
    let builder = if settings.servers.is_empty() {
        TokioResolver::builder_tokio().map_err(failed)?
    } else {
        let servers = settings.servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    builder.with_options(options).build().map_err(failed)
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

impl Validating {
    /// Whether the servers pass on signatures, as the root shows.
    ///
    /// The root gets half of the time limit, so that there is time for the question itself.
    async fn is_possible(&self, timeout: Duration) -> bool {
        // Questions that come meanwhile wait for the same answer.
        let mut root = self.root.lock().await;
        let now = (self.now)();
        if let Some(known) = *root
            && now < known.until
        {
            return known.secure;
        }
        let before = root.map(|root| root.secure);
        let found = self.resolver.lookup(Name::root(), WireType::SOA);
        let found = tokio::time::timeout(timeout / 2, found).await;
        let (secure, holds) = match found.unwrap_or(Err(NetError::Timeout)) {
            Ok(found) => (lowest_proof(&found) == Some(Proof::Secure), ROOT_HOLDS),
            // A server that does not answer says nothing about signatures.
            Err(error) if no_answer(&error) => (before.unwrap_or(false), ROOT_RETRY),
            Err(_) => (false, ROOT_HOLDS),
        };
        if before != Some(secure) {
            match secure {
                true => info!("DNS answers are validated by DNSSEC"),
                false => warn!(
                    "the DNS servers do not pass on DNSSEC signatures: answers are not validated (resolver.dnssec)"
                ),
            }
        }
        *root = Some(Root {
            secure,
            until: now.saturating_add(holds),
        });
        secure
    }
}

/// No server gave an answer that could be judged.
fn no_answer(error: &NetError) -> bool {
    !matches!(
        error,
        NetError::Dns(
            NetDnsError::NoRecordsFound(_) | NetDnsError::Nsec { .. } | NetDnsError::DnssecBogus
        )
    )
}

impl Resolver for HickoryResolver {
    fn directly(&self, servers: &[SocketAddr]) -> Option<Arc<dyn Resolver>> {
        let settings = HickorySettings {
            servers,
            timeout: self.inner.timeout,
            validate: false,
            now: Arc::clone(&self.inner.now),
        };
        if servers.is_empty() {
            return None;
        }
        let plain = build(&settings, false, false).ok()?;
        Some(Arc::new(Self {
            inner: Arc::new(Inner {
                plain,
                validating: None,
                timeout: settings.timeout,
                now: settings.now,
            }),
        }))
    }

    fn ask(&self, question: Question) -> Lookup<Record> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { in_time(inner.timeout, inner.ask(&question)).await })
    }
}

impl Inner {
    async fn ask(&self, question: &Question) -> Result<Answer<Record>, DnsError> {
        let resolver = match &self.validating {
            Some(validating) if validating.is_possible(self.timeout).await => &validating.resolver,
            _ => &self.plain,
        };
        let name = wire_name(question.name())?;
        match resolver
            .lookup(name, wire_type(question.record_type()))
            .await
        {
            Ok(found) => answer(&found, question.record_type()),
            Err(error) => Err(failure(error)),
        }
    }
}

/// The name as it is asked. The crate reads a text as a host name, and refuses many characters
/// then. Real hosts have an underscore, SPF records lead to names with any character, and DNS takes
/// any bytes (RFC 2181 §11).
pub(crate) fn wire_name(name: &str) -> Result<Name, DnsError> {
    if name.is_empty() {
        return Ok(Name::root());
    }
    Name::from_labels(name.split('.').map(str::as_bytes))
        .map_err(|error| DnsError::Temporary(format!("{name:?} is no DNS name: {error}")))
}

pub(crate) const fn wire_type(record_type: RecordType) -> WireType {
    match record_type {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Caa => WireType::CAA,
        RecordType::Cname => WireType::CNAME,
        RecordType::Mx => WireType::MX,
        RecordType::Ns => WireType::NS,
        RecordType::Ptr => WireType::PTR,
        RecordType::Srv => WireType::SRV,
        RecordType::Tlsa => WireType::TLSA,
        RecordType::Txt => WireType::TXT,
    }
}

/// The lowest proof of all records; signatures have none of their own. None without records.
fn lowest_proof(found: &Found) -> Option<Proof> {
    let records = found.answers().iter();
    records
        .filter(|record| record.record_type() != WireType::RRSIG)
        .map(|record| record.proof)
        .min()
}

fn answer(found: &Found, record_type: RecordType) -> Result<Answer<Record>, DnsError> {
    let authentic = lowest_proof(found) == Some(Proof::Secure);
    let ttls = found.answers().iter().map(|record| record.ttl);
    let ttl = Duration::from_secs(ttls.min().unwrap_or(0).into());
    let records: Vec<Record> = found
        .answers()
        .iter()
        .filter_map(|record| read(&record.data))
        .filter(|record| record.record_type() == record_type)
        .collect();
    if records.is_empty() {
        return Err(DnsError::NoRecords(Negative { authentic, ttl }));
    }
    Ok(Answer {
        records,
        authentic,
        ttl,
    })
}

pub(crate) fn read(data: &RData) -> Option<Record> {
    Some(match data {
        RData::A(address) => Record::A(address.0),
        RData::AAAA(address) => Record::Aaaa(address.0),
        RData::MX(mx) => Record::Mx(Mx {
            preference: mx.preference,
            host: host(&mx.exchange),
        }),
        RData::CAA(caa) => Record::Caa(Caa {
            critical: caa.issuer_critical,
            tag: caa.tag.to_ascii_lowercase(),
            value: caa.value.clone(),
        }),
        RData::CNAME(name) => Record::Cname(host(&name.0)),
        RData::NS(name) => Record::Ns(host(&name.0)),
        RData::PTR(name) => Record::Ptr(host(&name.0)),
        RData::SRV(srv) => Record::Srv(Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: host(&srv.target),
        }),
        RData::TLSA(tlsa) => Record::Tlsa(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        RData::TXT(txt) => Record::Txt(txt.txt_data.concat()),
        _ => return None,
    })
}

/// In lower case, without the last dot; empty for the root.
pub(crate) fn host(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn failure(error: NetError) -> DnsError {
    match error {
        NetError::Dns(NetDnsError::NoRecordsFound(none)) => {
            let negative = Negative {
                authentic: is_proven(&none),
                ttl: Duration::from_secs(negative_ttl(&none).into()),
            };
            negative_answer(none.response_code, negative)
        }
        // A denial that is not secure: an unsigned zone has no proof, and needs none.
        NetError::Dns(NetDnsError::Nsec {
            response,
            proof: Proof::Insecure,
            ..
        }) => {
            let negative = Negative {
                authentic: false,
                ttl: Duration::from_secs(response.negative_ttl().unwrap_or(NEGATIVE_TTL).into()),
            };
            negative_answer(response.response_code, negative)
        }
        NetError::Io(error) => match error.raw_os_error() {
            Some(errno) => DnsError::System {
                errno,
                text: error.to_string(),
            },
            None => DnsError::Temporary(error.to_string()),
        },
        error => DnsError::Temporary(error.to_string()),
    }
}

fn negative_answer(code: ResponseCode, negative: Negative) -> DnsError {
    match code {
        ResponseCode::NXDomain => DnsError::NoName(negative),
        _ => DnsError::NoRecords(negative),
    }
}

/// The denial is there, and all of it is secure.
fn is_proven(none: &NoRecords) -> bool {
    let proofs = none.authorities.iter().flat_map(|records| records.iter());
    let proofs = proofs.filter(|record| record.record_type() != WireType::RRSIG);
    proofs.map(|record| record.proof).min() == Some(Proof::Secure)
}

/// RFC 2308 §5: the smaller of the TTL of the SOA and its last field. With validation, only the
/// SOA tells it.
fn negative_ttl(none: &NoRecords) -> u32 {
    let of_soa = || none.soa.as_ref().map(|soa| soa.ttl.min(soa.data.minimum));
    none.negative_ttl.or_else(of_soa).unwrap_or(NEGATIVE_TTL)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::{
        op::Query,
        rr::{Record as WireRecord, rdata},
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(ttl: u32, data: RData, proof: Proof) -> WireRecord {
        let mut record = WireRecord::from_rdata(name("a.test."), ttl, data);
        record.proof = proof;
        record
    }

    fn found(record_type: WireType, records: Vec<WireRecord>) -> Found {
        Found::new_with_max_ttl(Query::query(name("a.test."), record_type), records)
    }

    #[test]
    fn names_may_have_underscores() {
        for name in [
            "mx_1.example.test",
            "_dmarc.sub_dom.test",
            "a-b.test",
            "xn--74h.test",
        ] {
            let wire = wire_name(name).unwrap();
            assert!(wire.is_fqdn());
            assert_eq!(host(&wire), name);
        }
        let any = wire_name("a:b/c d%\\.*.test").unwrap();
        let labels: Vec<&[u8]> = any.iter().collect();
        assert_eq!(labels, [&b"a:b/c d%\\"[..], b"*", b"test"]);
        assert!(any.is_fqdn());
        assert_eq!(wire_name(""), Ok(Name::root()));
        assert!(wire_name(&"a.".repeat(128)).is_err() && wire_name("a..").is_err());
        assert!(wire_name(&"a".repeat(64)).is_err() && wire_name("a..b").is_err());
    }

    #[test]
    fn an_answer_has_the_lowest_proof_and_the_smallest_ttl() {
        let mx = |host: &str| RData::MX(rdata::MX::new(10, name(host)));
        let alias = RData::CNAME(rdata::CNAME(name("b.test.")));
        for (proof, authentic) in [(Proof::Secure, true), (Proof::Insecure, false)] {
            let records = vec![
                record(300, alias.clone(), proof),
                record(600, mx("MX.Test."), Proof::Secure),
                record(900, mx("."), Proof::Secure),
            ];
            let answer = answer(&found(WireType::MX, records), RecordType::Mx).unwrap();
            assert_eq!(answer.authentic, authentic);
            assert_eq!(answer.ttl, Duration::from_secs(300));
            let hosts = ["mx.test", ""].map(|host| {
                Record::Mx(Mx {
                    preference: 10,
                    host: host.to_owned(),
                })
            });
            assert_eq!(answer.records, hosts);
        }
        let only_alias = vec![record(300, alias, Proof::Secure)];
        assert!(matches!(
            answer(&found(WireType::MX, only_alias), RecordType::Mx),
            Err(DnsError::NoRecords(Negative {
                authentic: true,
                ..
            }))
        ));
    }

    #[test]
    fn the_strings_of_a_text_are_joined_and_texts_are_kept_apart() {
        let text = |strings: &[&str]| {
            let strings = strings.iter().map(|text| (*text).to_owned()).collect();
            RData::TXT(rdata::TXT::new(strings))
        };
        let records = vec![
            record(60, text(&["v=spf1 ", "-all"]), Proof::Insecure),
            record(60, text(&["other"]), Proof::Insecure),
        ];
        let answer = answer(&found(WireType::TXT, records), RecordType::Txt).unwrap();
        let expected = [b"v=spf1 -all".to_vec(), b"other".to_vec()].map(Record::Txt);
        assert_eq!(answer.records, expected);
    }

    #[test]
    fn a_denial_is_authentic_if_all_of_it_is_secure() {
        let denial = |code: ResponseCode, proof: Proof| {
            let query = Query::query(name("a.test."), WireType::MX);
            let mut none = NoRecords::new(query, code);
            let proven = record(60, RData::A(rdata::A::new(192, 0, 2, 1)), proof);
            none.authorities = Some([proven].into());
            none.negative_ttl = Some(120);
            failure(none.into())
        };
        let negative = |authentic| Negative {
            authentic,
            ttl: Duration::from_secs(120),
        };
        assert_eq!(
            denial(ResponseCode::NXDomain, Proof::Secure),
            DnsError::NoName(negative(true))
        );
        assert_eq!(
            denial(ResponseCode::NoError, Proof::Insecure),
            DnsError::NoRecords(negative(false))
        );
        for error in [NetDnsError::DnssecBogus.into(), NetError::Timeout] {
            assert!(matches!(failure(error), DnsError::Temporary(_)));
        }
        let no_socket = failure(std::io::Error::from_raw_os_error(24).into());
        assert!(matches!(no_socket, DnsError::System { errno: 24, .. }));
        let refused = NetDnsError::ResponseCode(ResponseCode::Refused);
        assert!(matches!(failure(refused.into()), DnsError::Temporary(_)));
    }

    /// Validation takes away the TTL that the crate has found.
    #[test]
    fn a_validated_denial_holds_for_the_ttl_of_its_soa_or_a_minute() {
        for (ttl, expected) in [(Some(600), 90), (Some(30), 30), (None, 60)] {
            let query = Query::query(name("a.test."), WireType::TXT);
            let mut none = NoRecords::new(query, ResponseCode::NXDomain);
            none.soa = ttl.map(|ttl| {
                let soa = rdata::SOA::new(name("ns.test."), name("x.test."), 1, 2, 3, 4, 90);
                Box::new(WireRecord::from_rdata(name("test."), ttl, soa))
            });
            let negative = Negative {
                authentic: false,
                ttl: Duration::from_secs(expected),
            };
            assert_eq!(failure(none.into()), DnsError::NoName(negative));
        }
    }
}
