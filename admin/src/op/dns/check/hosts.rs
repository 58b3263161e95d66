//! The addresses of the host, and their names.

use std::net::IpAddr;

use postrider_dns::Resolver;

use super::{About, Found, Row, Subject, Verdict};
use crate::op::dns::facts::is_private;

/// The host has addresses, and all are ours.
pub(super) fn addresses<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let own = &subject.facts.addresses;
        let about = About {
            check: "host",
            record_type: "A",
            name: subject.host,
            wanted: shown(own),
            needed: true,
        };
        if own.is_empty() {
            let advice = "no address of this machine is known; set listeners.NAME.ips or nat_ips";
            return vec![about.found(Verdict::Error, Vec::new(), advice)];
        }
        let answer = match resolver.addresses(subject.host).await {
            Ok(answer) => answer,
            Err(error) => {
                let advice = "add A and AAAA records with the addresses of this host";
                return vec![about.failed(&error, advice)];
            }
        };
        let found = listed(&answer.records);
        let foreign = answer.records.iter().filter(|ip| !own.contains(ip));
        let foreign: Vec<IpAddr> = foreign.copied().collect();
        let result = if answer.records.iter().any(IpAddr::is_loopback) {
            let advice = "an address leads each machine to itself; remove it";
            about.found(Verdict::Differs, found, advice)
        } else if !foreign.is_empty() {
            let advice = format!(
                "not an address of this host: {}; correct the record, or set nat_ips if a router \
                leads it here",
                shown(&foreign)
            );
            about.found(Verdict::Differs, found, advice)
        } else {
            about.ok(found)
        };
        vec![result.holds(Some(answer.ttl))]
    })
}

/// Each address from which mail goes out has one name, which leads back to it.
pub(super) fn reverse<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let sources = subject.facts.sources.iter();
        let items = sources.map(|(address, name)| {
            let name = name.as_ref().map(|name| name.ascii());
            reverse_of(*address, name, resolver)
        });
        futures_util::future::join_all(items).await
    })
}

/// Looks at the name of an address. Without a wanted name, any will do that leads back.
async fn reverse_of(address: IpAddr, wanted: Option<&str>, resolver: &dyn Resolver) -> Found {
    let question = postrider_dns::Question::reverse(address);
    let about = About {
        check: "PTR",
        record_type: "PTR",
        name: question.name(),
        wanted: wanted.map(|name| format!("{name}.")).unwrap_or_default(),
        needed: !is_private(address),
    };
    let names = match resolver.ptr(address).await {
        Ok(answer) => answer.records,
        Err(error) => {
            let advice = format!(
                "{address} has no name, and many servers refuse mail without one; ask the provider \
                of the address for {}",
                wanted.unwrap_or("a name that leads back to it")
            );
            return about.failed(&error, &advice);
        }
    };
    let found: Vec<String> = names.iter().map(|name| format!("{name}.")).collect();
    let name = match names.as_slice() {
        [name] if wanted.is_none_or(|wanted| name == wanted) => name,
        _ => {
            let advice = format!(
                "{address} must have one name{}; tell the provider of the address",
                wanted.map(|name| format!(", {name}")).unwrap_or_default()
            );
            return about.found(Verdict::Differs, found, advice);
        }
    };
    match resolver.addresses(name).await {
        Ok(answer) if answer.records.contains(&address) => about.ok(found),
        Ok(answer) => {
            let advice = format!(
                "{name} does not lead back to {address}, but to {}; add an address record",
                shown(&answer.records)
            );
            about.found(Verdict::Differs, found, advice)
        }
        Err(error) => {
            let advice = format!("{name} does not lead back to {address}: {error}");
            about.found(Verdict::Differs, found, advice)
        }
    }
}

fn listed(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

fn shown(addresses: &[IpAddr]) -> String {
    listed(addresses).join(", ")
}
