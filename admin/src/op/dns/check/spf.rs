//! The SPF records of the domain and of the host: each of our addresses must pass.
//!
//! The evaluation follows RFC 7208 for the terms that a record of a mail server has. It asks no
//! questions for macros, `exists` and `ptr`: such a term counts, and never matches. So a record
//! that needs them gets a warning, never a wrong "ok".

use std::{net::IpAddr, pin::Pin};

use postrider_dns::{DnsError, Resolver};

use super::{About, Found, Row, Subject, Verdict};
use crate::op::dns::records::{self, spf_term};

/// The most terms that ask DNS (RFC 7208 §4.6.4).
const TERMS: usize = 10;
/// The most hosts of an `mx` term (RFC 7208 §4.6.4).
const MX_HOSTS: usize = 10;
/// The most addresses that are tried.
const SOURCES: usize = 20;

/// The result for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::op::dns) enum Spf {
    Pass,
    Fail,
    SoftFail,
    Neutral,
    /// There is no record.
    None,
    /// The record is wrong.
    PermError(String),
    /// DNS does not answer.
    TempError(String),
}

/// The SPF rows of the domain and of the host.
pub(super) fn spf<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let sources: Vec<IpAddr> = subject.facts.sources.keys().copied().collect();
        let wanted = records::spf(subject.facts);
        let of_domain = of_name(subject.domain, &wanted, &sources, resolver);
        if subject.host == subject.domain {
            return vec![of_domain.await];
        }
        let own = &subject.facts.addresses;
        let of_host = of_name(subject.host, records::HOST_SPF, own, resolver);
        let (of_domain, of_host) = tokio::join!(of_domain, of_host);
        vec![of_domain, of_host]
    })
}

async fn of_name(name: &str, wanted: &str, sources: &[IpAddr], resolver: &dyn Resolver) -> Found {
    let mut about = About {
        check: "SPF",
        record_type: "TXT",
        name,
        wanted: wanted.to_owned(),
        needed: true,
    };
    let missing = "add the record, or others can't tell your mail from forged mail";
    let (records, ttl) = match published(resolver, name).await {
        Ok((records, ttl)) if records.is_empty() => {
            let found = about.found(Verdict::Missing, records, missing);
            return found.holds(Some(ttl));
        }
        Ok(found) => found,
        Err(error) => return about.failed(&error, missing),
    };
    let result = match records.as_slice() {
        [record] => {
            let record = record.clone();
            judge(&mut about, name, &record, sources, resolver).await
        }
        _ => {
            let advice = "several SPF records count as none (RFC 7208 section 4.5); keep one";
            about.found(Verdict::Extra, records, advice)
        }
    };
    result.holds(Some(ttl))
}

/// Evaluates a record for each address, and tells what lacks.
async fn judge(
    about: &mut About<'_>,
    name: &str,
    record: &str,
    sources: &[IpAddr],
    resolver: &dyn Resolver,
) -> Found {
    let found = vec![record.to_owned()];
    let mut refused: Vec<IpAddr> = Vec::new();
    for source in sources.iter().take(SOURCES) {
        match evaluate(resolver, name, record, Some(*source)).await {
            Spf::Pass => {}
            Spf::PermError(reason) => {
                let advice = format!("the record is not valid: {reason}");
                return about.found(Verdict::Differs, found, advice);
            }
            Spf::TempError(reason) => {
                let advice = format!("a name in the record has no answer now: {reason}");
                return about.found(Verdict::Error, found, advice);
            }
            Spf::Fail | Spf::SoftFail | Spf::Neutral | Spf::None => refused.push(*source),
        }
    }
    about.wanted = completed(record, &refused);
    if !refused.is_empty() {
        let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
        let advice = format!(
            "mail from {} does not pass; add what lacks",
            refused.join(", ")
        );
        return about.found(Verdict::Differs, found, advice);
    }
    if allows_all(record) {
        let advice = "+all lets every host of the internet send mail of the domain; write ~all";
        return about.found(Verdict::Differs, found, advice);
    }
    // An address that matches nothing meets each term.
    match evaluate(resolver, name, record, None).await {
        Spf::PermError(reason) => {
            let advice = format!("the record is not valid for other senders: {reason}");
            about.found(Verdict::Differs, found, advice)
        }
        _ => about.ok(found),
    }
}

/// The published record with terms for these addresses, and without `+all`.
pub(in crate::op::dns) fn completed(record: &str, lacking: &[IpAddr]) -> String {
    let mut terms: Vec<String> = record.split_whitespace().map(str::to_owned).collect();
    let is_end = |term: &String| {
        let term = term.to_ascii_lowercase();
        term.trim_start_matches(['+', '-', '~', '?']) == "all" || term.starts_with("redirect=")
    };
    let end = terms.iter().position(is_end).unwrap_or(terms.len());
    for term in terms.iter_mut().filter(|term| allows_all(term)) {
        *term = "~all".to_owned();
    }
    let lacking = lacking.iter().map(|address| spf_term(*address));
    terms.splice(end..end, lacking);
    terms.join(" ")
}

fn allows_all(record: &str) -> bool {
    let mut terms = record.split_whitespace();
    terms.any(|term| term.eq_ignore_ascii_case("+all") || term.eq_ignore_ascii_case("all"))
}

/// The SPF records of a name, and how long the answer holds.
async fn published(
    resolver: &dyn Resolver,
    name: &str,
) -> Result<(Vec<String>, std::time::Duration), DnsError> {
    let answer = resolver.txt(name).await?;
    let texts = answer.records.iter();
    let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
    let is_spf = |text: &String| {
        let first = text.split(' ').next().unwrap_or_default();
        first.eq_ignore_ascii_case("v=spf1")
    };
    Ok((texts.filter(is_spf).collect(), answer.ttl))
}

/// Evaluates a record of a name for an address (RFC 7208 §4). None stands for an address that no
/// term matches.
pub(in crate::op::dns) async fn evaluate(
    resolver: &dyn Resolver,
    name: &str,
    record: &str,
    source: Option<IpAddr>,
) -> Spf {
    let mut evaluation = Evaluation {
        resolver,
        source,
        terms: 0,
    };
    match evaluation.record(name.to_owned(), record.to_owned()).await {
        Ok(result) | Err(result) => result,
    }
}

struct Evaluation<'a> {
    resolver: &'a dyn Resolver,
    source: Option<IpAddr>,
    terms: usize,
}

/// `Err` ends the whole evaluation.
type Evaluated<'a> = Pin<Box<dyn Future<Output = Result<Spf, Spf>> + Send + 'a>>;

impl Evaluation<'_> {
    fn record(&mut self, name: String, record: String) -> Evaluated<'_> {
        Box::pin(async move {
            let mut redirect = None;
            for term in record.split_whitespace().skip(1) {
                if let Some((modifier, value)) = term.split_once('=')
                    && modifier
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                {
                    if modifier.eq_ignore_ascii_case("redirect") {
                        redirect = Some(value.to_owned());
                    }
                    continue;
                }
                let (result, mechanism) = match term.split_at_checked(1) {
                    Some(("+", rest)) => (Spf::Pass, rest),
                    Some(("-", rest)) => (Spf::Fail, rest),
                    Some(("~", rest)) => (Spf::SoftFail, rest),
                    Some(("?", rest)) => (Spf::Neutral, rest),
                    _ => (Spf::Pass, term),
                };
                if self.matches(&name, mechanism).await? {
                    return Ok(result);
                }
            }
            let Some(target) = redirect else {
                return Ok(Spf::Neutral);
            };
            self.count(&format!("redirect={target}"))?;
            match self.other(&target).await? {
                Spf::None => Err(permanent(format!("{target} has no SPF record"))),
                result => Ok(result),
            }
        })
    }

    /// The result for the record of another name.
    async fn other(&mut self, target: &str) -> Result<Spf, Spf> {
        if target.contains('%') {
            return Ok(Spf::Neutral);
        }
        match published(self.resolver, target).await {
            Ok((records, _)) => match records.as_slice() {
                [] => Ok(Spf::None),
                [record] => self.record(target.to_owned(), record.clone()).await,
                _ => Err(permanent(format!("{target} has several SPF records"))),
            },
            Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => Ok(Spf::None),
            Err(error) => Err(Spf::TempError(format!("{target}: {error}"))),
        }
    }

    async fn matches(&mut self, name: &str, mechanism: &str) -> Result<bool, Spf> {
        let end = mechanism.find([':', '/']).unwrap_or(mechanism.len());
        let (kind, rest) = mechanism.split_at(end);
        let wrong = || permanent(format!("{mechanism:?} is no term"));
        match kind.to_ascii_lowercase().as_str() {
            "all" if rest.is_empty() => Ok(true),
            "ip4" | "ip6" => {
                let network = rest.strip_prefix(':').and_then(Network::parse);
                let network = network.ok_or_else(wrong)?;
                if network.address.is_ipv4() != kind.eq_ignore_ascii_case("ip4") {
                    return Err(wrong());
                }
                Ok(self.source.is_some_and(|source| network.contains(source)))
            }
            "a" | "mx" => {
                self.count(mechanism)?;
                let (target, lengths) = target_and_lengths(rest, name).ok_or_else(wrong)?;
                if target.contains('%') {
                    return Ok(false);
                }
                let hosts = match kind.eq_ignore_ascii_case("a") {
                    true => vec![target],
                    false => self.mx_hosts(&target).await?,
                };
                self.any_address(hosts, lengths).await
            }
            "include" => {
                self.count(mechanism)?;
                let target = rest.strip_prefix(':').ok_or_else(wrong)?;
                match self.other(target).await? {
                    Spf::Pass => Ok(true),
                    Spf::None => Err(permanent(format!("{target} has no SPF record"))),
                    _ => Ok(false),
                }
            }
            "exists" if rest.starts_with(':') => self.count(mechanism).map(|()| false),
            "ptr" => self.count(mechanism).map(|()| false),
            _ => Err(wrong()),
        }
    }

    fn count(&mut self, term: &str) -> Result<(), Spf> {
        self.terms += 1;
        match self.terms > TERMS {
            true => Err(permanent(format!(
                "more than {TERMS} terms ask DNS; {term} is too many"
            ))),
            false => Ok(()),
        }
    }

    async fn mx_hosts(&self, target: &str) -> Result<Vec<String>, Spf> {
        match self.resolver.mx(target).await {
            Ok(answer) if answer.records.len() > MX_HOSTS => Err(permanent(format!(
                "{target} has more than {MX_HOSTS} MX hosts"
            ))),
            Ok(answer) => Ok(answer.records.into_iter().map(|mx| mx.host).collect()),
            Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => Ok(Vec::new()),
            Err(error) => Err(Spf::TempError(format!("{target}: {error}"))),
        }
    }

    async fn any_address(&self, hosts: Vec<String>, lengths: (u8, u8)) -> Result<bool, Spf> {
        let Some(source) = self.source else {
            return Ok(false);
        };
        let length = match source {
            IpAddr::V4(_) => lengths.0,
            IpAddr::V6(_) => lengths.1,
        };
        for host in hosts.iter().filter(|host| !host.is_empty()) {
            match self.resolver.addresses(host).await {
                Ok(answer) => {
                    let mut networks = answer.records.into_iter();
                    if networks.any(|address| Network { address, length }.contains(source)) {
                        return Ok(true);
                    }
                }
                Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => {}
                Err(error) => return Err(Spf::TempError(format!("{host}: {error}"))),
            }
        }
        Ok(false)
    }
}

const fn permanent(reason: String) -> Spf {
    Spf::PermError(reason)
}

/// The name and the lengths of networks in `:name/24//64`, each of which may be absent.
fn target_and_lengths(rest: &str, name: &str) -> Option<(String, (u8, u8))> {
    let (target, lengths) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let target = match target {
        "" => name,
        target => target
            .strip_prefix(':')
            .filter(|target| !target.is_empty())?,
    };
    let (v4, v6) = match lengths.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (lengths, None),
    };
    let v4 = match v4.strip_prefix('/') {
        Some(length) => length.parse().ok().filter(|length| *length <= 32)?,
        None => 32,
    };
    let v6 = match v6 {
        Some(length) => length.parse().ok().filter(|length| *length <= 128)?,
        None => 128,
    };
    Some((target.to_owned(), (v4, v6)))
}

/// A network of addresses.
struct Network {
    address: IpAddr,
    /// The number of bits that all addresses share.
    length: u8,
}

impl Network {
    /// `192.0.2.0/24`, `2001:db8::/32`, or one address.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        (length <= most).then_some(Self { address, length })
    }

    fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.length)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.length)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Record};

    use super::*;

    fn zone() -> FakeResolver {
        let fake = FakeResolver::default();
        let txt = |name: &str, text: &str| fake.add(name, Record::Txt(text.as_bytes().to_vec()));
        txt("inc.test", "v=spf1 ip4:198.51.100.0/24 -all");
        txt("two.test", "v=spf1 -all");
        txt("two.test", "v=spf1 ~all");
        txt("loop.test", "v=spf1 include:loop.test -all");
        txt("soft.test", "v=spf1 ~all");
        fake.add_address("d.test", "192.0.2.1");
        fake.add_address("mx.d.test", "192.0.2.25");
        fake.add_address("mx.d.test", "2001:db8::25");
        fake.set_mx("d.test", &[(10, "mx.d.test")]);
        fake.fail("down.test");
        fake
    }

    #[tokio::test]
    async fn records_are_evaluated() {
        let fake = zone();
        let temporary = Spf::TempError("down.test: no server answers".into());
        for (record, source, expected) in [
            ("v=spf1 a -all", "192.0.2.1", Spf::Pass),
            ("v=spf1 a/24 -all", "192.0.2.77", Spf::Pass),
            ("v=spf1 a//64 -all", "192.0.2.77", Spf::Fail),
            ("v=spf1 mx ~all", "192.0.2.25", Spf::Pass),
            ("v=spf1 MX ~ALL", "2001:db8::25", Spf::Pass),
            ("v=spf1 mx//32 ~all", "2001:db8:1::9", Spf::Pass),
            ("v=spf1 a:mx.d.test ?all", "192.0.2.1", Spf::Neutral),
            ("v=spf1 ip4:192.0.2.0/25 ~all", "192.0.2.200", Spf::SoftFail),
            ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8::9", Spf::Pass),
            ("v=spf1 include:inc.test ~all", "198.51.100.9", Spf::Pass),
            ("v=spf1 include:inc.test ~all", "192.0.2.1", Spf::SoftFail),
            ("v=spf1 redirect=inc.test", "192.0.2.1", Spf::Fail),
            (
                "v=spf1 redirect=soft.test exp=x.test",
                "192.0.2.1",
                Spf::SoftFail,
            ),
            ("v=spf1 exists:%{i}.x.test -all", "192.0.2.1", Spf::Fail),
            ("v=spf1", "192.0.2.1", Spf::Neutral),
            ("v=spf1 a:down.test -all", "192.0.2.1", temporary),
        ] {
            let source = source.parse().ok();
            let found = evaluate(&fake, "d.test", record, source).await;
            assert_eq!(found, expected, "{record}");
        }
        for (record, reason) in [
            ("v=spf1 ip4:1.2.3 -all", "is no term"),
            ("v=spf1 ip4:2001:db8::1 -all", "is no term"),
            ("v=spf1 ip4:192.0.2.1/33 -all", "is no term"),
            ("v=spf1 a/33 -all", "is no term"),
            ("v=spf1 every -all", "is no term"),
            (
                "v=spf1 include:none.test -all",
                "none.test has no SPF record",
            ),
            ("v=spf1 redirect=none.test", "none.test has no SPF record"),
            ("v=spf1 include:two.test -all", "several"),
            ("v=spf1 include:loop.test -all", "more than 10 terms"),
        ] {
            let source = "203.0.113.1".parse().ok();
            match evaluate(&fake, "d.test", record, source).await {
                Spf::PermError(told) => assert!(told.contains(reason), "{record}: {told}"),
                other => panic!("{record}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_matches_nothing_meets_each_term() {
        let fake = zone();
        let eleven = "a ".repeat(11);
        let record = format!("v=spf1 ip4:0.0.0.0/0 {eleven}-all");
        let found = evaluate(&fake, "d.test", &record, "192.0.2.1".parse().ok()).await;
        assert_eq!(found, Spf::Pass);
        let found = evaluate(&fake, "d.test", &record, None).await;
        assert!(matches!(found, Spf::PermError(_)), "{found:?}");
    }

    #[test]
    fn what_lacks_is_added_before_the_end() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for (record, expected) in [
            ("v=spf1 a -all", "v=spf1 a ip4:192.0.2.1 -all"),
            ("v=spf1 a +all", "v=spf1 a ip4:192.0.2.1 ~all"),
            (
                "v=spf1 redirect=x.test",
                "v=spf1 ip4:192.0.2.1 redirect=x.test",
            ),
            ("v=spf1 mx", "v=spf1 mx ip4:192.0.2.1"),
        ] {
            assert_eq!(completed(record, &[address]), expected);
        }
    }
}
