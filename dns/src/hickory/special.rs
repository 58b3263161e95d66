//! Names that no server is asked about: those of this machine, and those that never exist.

use std::{net::Ipv6Addr, time::Duration};

use hickory_resolver::{
    Hosts,
    proto::{
        op::Query,
        rr::{
            Name,
            domain::usage::{IN_ADDR_ARPA_127, INVALID, IP6_ARPA_1, LOCALHOST, ONION},
        },
    },
};

use super::wire::{read, wire_type};
use crate::{Answer, DnsError, Negative, Record, RecordType};

/// How long what this machine says of a name holds.
const HOLDS: Duration = Duration::from_secs(60);

/// What is known of a name without a question. None for a name that servers know.
///
/// The names of loopback addresses are fixed (RFC 6761 §6.3). Names below `invalid` and `onion` do
/// not exist (RFC 6761 §6.4, RFC 7686 §2). The hosts file of the system names hosts, as other
/// programs of this machine know them. Nothing of this is authentic.
pub(super) fn known(
    name: &Name,
    record_type: RecordType,
    hosts: &Hosts,
) -> Option<Result<Answer<Record>, DnsError>> {
    let none = Negative {
        authentic: false,
        ttl: HOLDS,
    };
    if INVALID.zone_of(name) || ONION.zone_of(name) {
        return Some(Err(DnsError::NoName(none)));
    }
    let loopback = [&*LOCALHOST, &*IN_ADDR_ARPA_127, &*IP6_ARPA_1];
    let records = if loopback.iter().any(|zone| zone.zone_of(name)) {
        match record_type {
            RecordType::A => vec![Record::A([127, 0, 0, 1].into())],
            RecordType::Aaaa => vec![Record::Aaaa(Ipv6Addr::LOCALHOST)],
            RecordType::Ptr => vec![Record::Ptr("localhost".to_owned())],
            _ => return Some(Err(DnsError::NoRecords(none))),
        }
    } else {
        let query = Query::query(name.clone(), wire_type(record_type));
        let found = hosts.lookup_static_host(&query)?;
        let records = found.answers().iter();
        let records = records.filter_map(|record| read(&record.data));
        records.collect()
    };
    Some(Ok(Answer {
        records,
        aliases: Vec::new(),
        authentic: false,
        ttl: HOLDS,
    }))
}

#[cfg(test)]
mod tests {
    use super::{super::wire::wire_name, *};
    use crate::Question;

    #[test]
    fn names_of_this_machine() {
        let mut hosts = Hosts::default();
        let file = "192.0.2.1 mail.test other.test\n2001:db8::1 mail.test\n";
        hosts.read_hosts_conf(file.as_bytes()).unwrap();
        let ask = |name: &str, record_type| known(&wire_name(name).unwrap(), record_type, &hosts);
        let loopback = Question::reverse([127, 0, 0, 9].into());
        for (name, record_type, expected) in [
            ("localhost", RecordType::A, "127.0.0.1"),
            ("smtp.localhost", RecordType::Aaaa, "::1"),
            ("mail.test", RecordType::A, "192.0.2.1"),
            ("mail.test", RecordType::Aaaa, "2001:db8::1"),
            (loopback.name(), RecordType::Ptr, "localhost"),
        ] {
            let answer = ask(name, record_type).unwrap().unwrap();
            let text = match answer.records.as_slice() {
                [Record::A(address)] => address.to_string(),
                [Record::Aaaa(address)] => address.to_string(),
                [Record::Ptr(name)] => name.clone(),
                other => panic!("{other:?}"),
            };
            assert_eq!(
                (text.as_str(), answer.authentic),
                (expected, false),
                "{name}"
            );
        }
        let no_mx = ask("localhost", RecordType::Mx);
        assert!(matches!(no_mx, Some(Err(DnsError::NoRecords(_)))));
        for name in ["a.invalid", "b.onion"] {
            let no_name = ask(name, RecordType::A);
            assert!(matches!(no_name, Some(Err(DnsError::NoName(_)))));
        }
        for (name, record_type) in [
            ("mail.test", RecordType::Mx),
            ("other.test", RecordType::Aaaa),
            ("local.test", RecordType::A),
        ] {
            assert_eq!(ask(name, record_type), None, "{name}");
        }
    }
}
