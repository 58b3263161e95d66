//! DNSSEC, the CAs that may issue certificates, and block lists.

use std::net::{IpAddr, Ipv4Addr};

use postrider_dns::{Caa, DnsError, Question, Record, Resolver, is_within};

use super::{About, Found, MANY, Row, Subject, Verdict, World};
use crate::op::dns::{
    facts::{Ca, HostFacts, is_private},
    record::content,
};

/// The ways by which our certificates are validated.
const METHODS: [&str; 2] = ["http-01", "tls-alpn-01"];
/// Tags that do not restrict certificates of servers, or that are looked at here.
const KNOWN_TAGS: [&str; 7] = [
    "issue",
    "issuewild",
    "iodef",
    "contactemail",
    "contactphone",
    "issuemail",
    "issuevmc",
];

/// The resolver validates, and the domain is signed.
pub(super) fn dnssec<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let about = |name| About {
            check: "DNSSEC",
            record_type: "DNSSEC",
            name,
            wanted: "authentic answers".to_owned(),
            needed: false,
        };
        // Every resolver can validate a zone that has been signed for long.
        let validates = async {
            let about = about("com");
            let advice = "the resolver does not validate DNSSEC, so DANE is not used and forged \
                answers are not noticed; use a validating resolver (resolver.servers)";
            match resolver.ns("com").await {
                Ok(answer) => signed(&about, answer.authentic, advice),
                Err(error) => about.failed(&error, advice),
            }
        };
        let is_signed = async {
            let about = about(subject.domain);
            let advice = "DNSSEC does not sign the zone, so answers about it can be forged";
            match resolver.mx(subject.domain).await {
                Ok(answer) => signed(&about, answer.authentic, advice),
                Err(error) => match error.negative() {
                    Some(negative) => signed(&about, negative.authentic, advice),
                    None => about.failed(&error, advice),
                },
            }
        };
        let (validates, is_signed) = tokio::join!(validates, is_signed);
        vec![validates, is_signed]
    })
}

fn signed(about: &About<'_>, authentic: bool, advice: &str) -> Found {
    match authentic {
        true => about.ok(vec!["authentic".to_owned()]),
        false => about.found(Verdict::Differs, vec!["not authentic".to_owned()], advice),
    }
}

/// Our CAs may issue certificates for the domain and the host.
pub(super) fn caa<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let mut names = vec![subject.domain];
        if !is_within(subject.host, subject.domain) {
            names.push(subject.host);
        }
        let items = names.into_iter().flat_map(|name| {
            let cas = subject.facts.cas.iter();
            cas.map(move |ca| caa_of(name, ca, resolver))
        });
        futures_util::future::join_all(items).await
    })
}

async fn caa_of(name: &str, ca: &Ca, resolver: &dyn Resolver) -> Found {
    let about = About {
        check: "CAA",
        record_type: "CAA",
        name,
        wanted: format!("none, or 0 issue \"{}\"", ca.issuer.ascii()),
        needed: true,
    };
    // The records of the nearest name count (RFC 8659 §3).
    let mut climbing = name;
    let answer = loop {
        match resolver.caa(climbing).await {
            Ok(answer) => break answer,
            Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => {}
            Err(error) => return about.failed(&error, ""),
        }
        match climbing.split_once('.') {
            Some((_, above)) => climbing = above,
            None => return about.ok(Vec::new()),
        }
    };
    let records = answer.records.iter().cloned();
    let found = records.map(|caa| content(&Record::Caa(caa))).collect();
    let result = match refusal(&answer.records, ca) {
        None => about.ok(found),
        Some(advice) => about.found(Verdict::Differs, found, advice),
    };
    result.holds(Some(answer.ttl))
}

/// Why a CA may not issue our certificates.
fn refusal(records: &[Caa], ca: &Ca) -> Option<String> {
    let unknown = records
        .iter()
        .find(|caa| caa.critical && !KNOWN_TAGS.contains(&caa.tag.as_str()));
    if let Some(caa) = unknown {
        let tag = &caa.tag;
        return Some(format!(
            "no CA may issue certificates that does not know {tag}"
        ));
    }
    let issue: Vec<String> = records
        .iter()
        .filter(|caa| caa.tag == "issue")
        .map(|caa| String::from_utf8_lossy(&caa.value).into_owned())
        .collect();
    if issue.is_empty() {
        return None;
    }
    let issuer = ca.issuer.ascii();
    let of_ca = |value: &&String| {
        let name = value.split(';').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case(issuer)
    };
    let of_ca: Vec<&String> = issue.iter().filter(of_ca).collect();
    if of_ca.is_empty() {
        return Some(format!(
            "the records forbid {issuer} to issue certificates; add 0 issue \"{issuer}\""
        ));
    }
    let allows = |value: &&String| {
        let parameters = value.split(';').skip(1).filter_map(|it| it.split_once('='));
        parameters.into_iter().all(|(name, given)| {
            let given = given.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "accounturi" => ca.may_have(given),
                "validationmethods" => given
                    .split(',')
                    .any(|method| METHODS.contains(&method.trim())),
                _ => true,
            }
        })
    };
    match of_ca.iter().any(allows) {
        true => None,
        false => Some(format!(
            "{issuer} may not issue for this server's account, or not by {}",
            METHODS.join(" or ")
        )),
    }
}

/// No block list has one of our addresses.
pub(super) fn dnsbl<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let lists = subject.world.lists(subject.facts);
        let items = lists.zones.iter().flat_map(|zone| {
            let sources = lists.sources.iter();
            sources.map(move |source| listing(zone, *source, resolver))
        });
        futures_util::future::join_all(items).await
    })
}

/// The zones that list clients, and our own addresses that should be on no list.
pub(in super::super) struct Lists {
    pub(in super::super) zones: Vec<String>,
    sources: Vec<IpAddr>,
}

impl World {
    /// The lists that count, and what should not be on them.
    pub(in super::super) fn lists(&self, facts: &HostFacts) -> Lists {
        let mut zones: Vec<String> = Vec::new();
        let listeners = self.statics.listeners.values();
        let of_listeners = listeners.flat_map(|listener| &listener.smtp.dnsbls);
        for zone in self.config.monitor_dnsbls.iter().chain(of_listeners) {
            let is_known = zones.iter().any(|known| *known == zone.ascii());
            if !is_known && zones.len() < MANY {
                zones.push(zone.ascii().to_owned());
            }
        }
        let sources = facts.sources.keys();
        Lists {
            zones,
            sources: sources.copied().filter(|ip| !is_private(*ip)).collect(),
        }
    }
}

impl Lists {
    /// Our addresses as texts.
    pub(in super::super) fn addresses(&self) -> Vec<String> {
        self.sources.iter().map(ToString::to_string).collect()
    }

    /// Each zone with each address, and the name of their item with a dot at the end.
    pub(in super::super) fn pairs(&self) -> impl Iterator<Item = (String, String, String)> {
        self.zones.iter().flat_map(|zone| {
            let sources = self.sources.iter();
            sources.map(move |source| {
                let name = format!("{}.", name_in(zone, *source));
                (zone.clone(), source.to_string(), name)
            })
        })
    }
}

/// The name of an address in a zone that lists clients (RFC 5782).
fn name_in(zone: &str, address: IpAddr) -> String {
    let reversed = Question::reverse(address);
    let reversed = reversed.name();
    let reversed = reversed.trim_end_matches(".in-addr.arpa");
    let reversed = reversed.trim_end_matches(".ip6.arpa");
    format!("{reversed}.{zone}")
}

async fn listing(zone: &str, address: IpAddr, resolver: &dyn Resolver) -> Found {
    let name = name_in(zone, address);
    let about = About {
        check: "DNSBL",
        record_type: "DNSBL",
        name: &name,
        wanted: format!("{address} is not on the list {zone}"),
        needed: true,
    };
    match resolver.a(&name).await {
        Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => about.ok(Vec::new()),
        Err(error) => about.failed(&error, "").warning(),
        Ok(answer) => {
            let found = answer.records.iter().map(ToString::to_string).collect();
            let (listed, refused) = codes(&answer.records);
            if listed {
                let text = resolver.txt(&name).await.ok();
                let text = text.and_then(|answer| answer.records.into_iter().next());
                let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
                let advice = format!(
                    "{zone} lists {address}, so some servers refuse its mail{}; find the cause, \
                    then ask the list to remove it",
                    text.map(|text| format!(" ({text})")).unwrap_or_default()
                );
                about.found(Verdict::Differs, found, advice)
            } else {
                let advice = match refused {
                    true => "the list does not answer this resolver; use a resolver of your own",
                    false => "the answer is no code of a list (RFC 5782)",
                };
                about.found(Verdict::Error, found, advice).warning()
            }
        }
    }
}

/// Whether codes of a list say that an address is listed (127/8), and whether they say that the
/// question is not welcome (127.255.255.0/24).
fn codes(codes: &[Ipv4Addr]) -> (bool, bool) {
    let refused = |code: &Ipv4Addr| matches!(code.octets(), [127, 255, 255, _]);
    let listed = |code: &Ipv4Addr| code.is_loopback() && !refused(code);
    (codes.iter().any(listed), codes.iter().any(refused))
}
