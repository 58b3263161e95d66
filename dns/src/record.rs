//! Questions, and the records that answer them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// The types of record that mail needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// A CA that may issue certificates (RFC 8659).
    Caa,
    /// The name that a name is an alias of.
    Cname,
    /// A host that takes the mail of a domain.
    Mx,
    /// A server of a zone.
    Ns,
    /// The name of an address.
    Ptr,
    /// A host and port of a service (RFC 2782).
    Srv,
    /// The certificate of a service (RFC 6698).
    Tlsa,
    /// Free text.
    Txt,
}

impl RecordType {
    /// The name of the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Caa => "CAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Srv => "SRV",
            Self::Tlsa => "TLSA",
            Self::Txt => "TXT",
        }
    }
}

/// A name and a type: the key of the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    name: Arc<str>,
    record_type: RecordType,
}

impl Question {
    /// A question about a fully qualified name in ASCII. Its last dot may be left out, and its case
    /// does not matter.
    #[must_use]
    pub fn new(name: &str, record_type: RecordType) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name);
        Self {
            name: name.to_ascii_lowercase().into(),
            record_type,
        }
    }

    /// The question for the name of an address.
    #[must_use]
    pub fn reverse(address: IpAddr) -> Self {
        let name = match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            IpAddr::V6(address) => {
                let mut name = String::with_capacity(72);
                for byte in address.octets().iter().rev() {
                    name.push_str(&format!("{:x}.{:x}.", byte & 15, byte >> 4));
                }
                name.push_str("ip6.arpa");
                name
            }
        };
        Self::new(&name, RecordType::Ptr)
    }

    /// The name in lower case, without its last dot.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type.
    #[must_use]
    pub const fn record_type(&self) -> RecordType {
        self.record_type
    }
}

/// One record of an answer. Host names are in lower case, without their last dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A CA that may issue certificates.
    Caa(Caa),
    /// The name that a name is an alias of.
    Cname(String),
    /// A host that takes mail.
    Mx(Mx),
    /// A server of a zone.
    Ns(String),
    /// The name of an address.
    Ptr(String),
    /// A host of a service.
    Srv(Srv),
    /// The certificate of a service.
    Tlsa(Tlsa),
    /// The strings of one TXT record, joined.
    Txt(Vec<u8>),
}

/// An MX record (RFC 5321 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    /// The host with the lowest preference is tried first.
    pub preference: u16,
    /// The host. Empty for the root, which means "no mail" (RFC 7505).
    pub host: String,
}

/// A CAA record (RFC 8659 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caa {
    /// A CA that does not understand the tag must not issue.
    pub critical: bool,
    /// The tag, for example `issue`.
    pub tag: String,
    /// The value. For `issue`, it is the CA's name and its parameters.
    pub value: Vec<u8>,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// The target with the lowest priority is tried first.
    pub priority: u16,
    /// The share of this target among targets of the same priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host. Empty for the root, which means "no such service".
    pub target: String,
}

/// A TLSA record (RFC 6698 §2). The numbers are as sent; the caller decides which it can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    /// Certificate usage: 2 is a trust anchor, 3 is the server's own certificate.
    pub usage: u8,
    /// Selector: 0 is the certificate, 1 is its public key.
    pub selector: u8,
    /// Matching type: 0 is all bytes, 1 is SHA-256, 2 is SHA-512.
    pub matching: u8,
    /// The bytes or the digest.
    pub data: Vec<u8>,
}

impl Record {
    /// The type.
    #[must_use]
    pub const fn record_type(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::Aaaa,
            Self::Caa(_) => RecordType::Caa,
            Self::Cname(_) => RecordType::Cname,
            Self::Mx(_) => RecordType::Mx,
            Self::Ns(_) => RecordType::Ns,
            Self::Ptr(_) => RecordType::Ptr,
            Self::Srv(_) => RecordType::Srv,
            Self::Tlsa(_) => RecordType::Tlsa,
            Self::Txt(_) => RecordType::Txt,
        }
    }

    /// The bytes that the record has outside of its own value.
    pub(crate) const fn heap_size(&self) -> usize {
        match self {
            Self::A(_) | Self::Aaaa(_) => 0,
            Self::Caa(caa) => caa.tag.len() + caa.value.len(),
            Self::Mx(mx) => mx.host.len(),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => name.len(),
            Self::Srv(srv) => srv.target.len(),
            Self::Tlsa(tlsa) => tlsa.data.len(),
            Self::Txt(text) => text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_last_dot() {
        assert_eq!(
            Question::new("Mail.Example.", RecordType::A),
            Question::new("mail.example", RecordType::A)
        );
        assert_ne!(
            Question::new("mail.example", RecordType::A),
            Question::new("mail.example", RecordType::Aaaa)
        );
    }

    #[test]
    fn addresses_have_names() {
        for (address, name) in [
            ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
            (
                "2001:db8::567:89ab",
                "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            let question = Question::reverse(address.parse().unwrap());
            assert_eq!(question.name(), name);
        }
    }
}
