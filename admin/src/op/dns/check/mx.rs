//! The hosts that take the mail of the domain, and their keys.

use postrider_dns::{DnsError, Record, Resolver};

use super::{About, Found, MANY, Row, Subject, Verdict};
use crate::op::dns::{record::content, records::tlsa_of};

/// An MX host with its addresses.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) addresses: Vec<std::net::IpAddr>,
    /// All its addresses are ours.
    pub(super) own: bool,
}

/// The MX hosts of the domain, in the order of their preference, each once, with their addresses.
pub(super) async fn hosts(
    subject: &Subject<'_>,
    resolver: &dyn Resolver,
) -> Result<Vec<Host>, DnsError> {
    let mut records = resolver.mx(subject.domain).await?.records;
    records.sort_by_key(|mx| mx.preference);
    let mut names: Vec<String> = Vec::new();
    for mx in records {
        if !mx.host.is_empty() && !names.contains(&mx.host) && names.len() < MANY {
            names.push(mx.host);
        }
    }
    let hosts = names.into_iter().map(|name| async move {
        let addresses = resolver.addresses(&name).await;
        let addresses = addresses.map(|answer| answer.records).unwrap_or_default();
        let own = match addresses.as_slice() {
            // Without addresses, the name tells.
            [] => name == subject.host,
            addresses => addresses.iter().all(|ip| subject.facts.is_own(*ip)),
        };
        Host {
            name,
            addresses,
            own,
        }
    });
    Ok(futures_util::future::join_all(hosts).await)
}

/// All MX hosts are ours.
pub(super) fn mx<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let about = About {
            check: "MX",
            record_type: "MX",
            name: subject.domain,
            wanted: format!("10 {}.", subject.host),
            needed: true,
        };
        let advice = "no server is named that takes the mail; add the record";
        let answer = match resolver.mx(subject.domain).await {
            Ok(answer) => answer,
            Err(error) => return vec![about.failed(&error, advice)],
        };
        let records = answer.records.into_iter();
        let found: Vec<String> = records.map(|mx| content(&Record::Mx(mx))).collect();
        if found.iter().any(|mx| mx.ends_with(" .")) {
            let advice = "a null MX says that the domain takes no mail (RFC 7505); replace it";
            return vec![about.found(Verdict::Differs, found, advice)];
        }
        let hosts = match hosts(subject, resolver).await {
            Ok(hosts) => hosts,
            Err(error) => return vec![about.failed(&error, advice)],
        };
        let of = |pick: fn(&&Host) -> bool| -> String {
            let names = hosts.iter().filter(pick).map(|host| host.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let silent = of(|host| host.addresses.is_empty());
        let foreign = of(|host| !host.own && !host.addresses.is_empty());
        let result = if !silent.is_empty() {
            let advice = format!("without an address: {silent}; correct the record");
            about.found(Verdict::Differs, found, advice)
        } else if !foreign.is_empty() {
            let advice = format!(
                "not this server: {foreign}; mail that goes there does not arrive here. Remove the \
                record, unless that server passes the mail on"
            );
            about.found(Verdict::Differs, found, advice)
        } else {
            about.ok(found)
        };
        vec![result.holds(Some(answer.ttl))]
    })
}

/// The TLSA records of our MX hosts have our keys, and no others.
pub(super) fn tlsa<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let mut names = vec![subject.host.to_owned()];
        let hosts = hosts(subject, resolver).await.unwrap_or_default();
        for host in hosts.into_iter().filter(|host| host.own) {
            if !names.contains(&host.name) {
                names.push(host.name);
            }
        }
        let items = names
            .iter()
            .map(|name| tlsa_of_host(subject, name, resolver));
        futures_util::future::join_all(items).await
    })
}

async fn tlsa_of_host(subject: &Subject<'_>, host: &str, resolver: &dyn Resolver) -> Found {
    let keys = subject.facts.tls_keys.iter();
    let wanted: Vec<Record> = keys.map(|key| Record::Tlsa(tlsa_of(&key.digest))).collect();
    let name = format!("_25._tcp.{host}");
    let mut about = About {
        check: "TLSA",
        record_type: "TLSA",
        name: &name,
        wanted: wanted.iter().map(content).collect::<Vec<_>>().join(", "),
        needed: subject.facts.dnssec && !wanted.is_empty(),
    };
    let answer = match resolver.tlsa(&name).await {
        Ok(answer) => answer,
        Err(DnsError::NoName(_) | DnsError::NoRecords(_)) if wanted.is_empty() => {
            let advice = "not used: no listener has tls.host_keys";
            return about.found(Verdict::Ok, Vec::new(), advice);
        }
        Err(error) => {
            let advice = match subject.facts.dnssec {
                true => "add the records, so that other servers can verify this one (DANE)",
                false => "DANE needs DNSSEC: sign the zone of the host, then add the records",
            };
            return about.failed(&error, advice);
        }
    };
    about.needed = true;
    let records: Vec<Record> = answer.records.into_iter().map(Record::Tlsa).collect();
    let found: Vec<String> = records.iter().map(content).collect();
    let foreign = records.iter().any(|record| !wanted.contains(record));
    let absent = wanted.iter().any(|record| !records.contains(record));
    let result = if wanted.is_empty() {
        let advice = "other servers demand a key that this server does not promise to keep: set \
            tls.host_keys, or remove the record";
        about.found(Verdict::Differs, found, advice)
    } else if records.iter().all(|record| !wanted.contains(record)) {
        let advice = "no record has a key of this server: servers with DANE do not deliver here; \
            replace the records";
        about.found(Verdict::Differs, found, advice)
    } else if foreign {
        let advice = "a record has a key that is not ours; remove it";
        about.found(Verdict::Extra, found, advice)
    } else if absent {
        let advice = "a key has no record: when its certificate is in use, servers with DANE do \
            not deliver here; add it";
        about.found(Verdict::Differs, found, advice)
    } else if !answer.authentic {
        let advice = "DNSSEC does not secure the records, so they have no effect; sign the zone";
        about.found(Verdict::Differs, found, advice).warning()
    } else {
        about.ok(found)
    };
    result.holds(Some(answer.ttl))
}
