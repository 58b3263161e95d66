//! Names, types and records between the wire and this crate.

use hickory_resolver::proto::rr::{Name, RData, RecordType as WireType};

use crate::{Caa, DnsError, Mx, Record, RecordType, Srv, Tlsa};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
