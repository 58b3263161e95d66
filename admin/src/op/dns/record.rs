//! The DNS records of a domain as values, and their forms as text.

use std::fmt::Write as _;

use postrider_dns::{Record, TXT_PIECE};
use serde::{Deserialize, Serialize};

use crate::op::hex;

/// The TTL of our records in seconds.
pub const TTL: u32 = 300;

/// A record that a domain should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name in ASCII, without a dot at the end.
    pub name: String,
    /// What the record says.
    pub record: Record,
    /// Its use. Records with another use may have the same name and type.
    pub purpose: Purpose,
    /// Whether the domain needs it.
    pub need: Need,
    /// A sentence for people.
    pub comment: String,
}

/// The use of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The keys of the MX host (RFC 7672).
    Tlsa,
    /// The hosts that take mail.
    Mx,
    /// The keys of signatures (RFC 6376).
    Dkim,
    /// The hosts that send mail (RFC 7208).
    Spf,
    /// The policy for mail in the name of the domain (RFC 9989).
    Dmarc,
    /// The permission to send reports about another domain here (RFC 9990).
    DmarcOptIn,
    /// The TLS policy (RFC 8461).
    MtaSts,
    /// The address for reports about TLS (RFC 8460).
    TlsRpt,
    /// A service for mail programs, or its absence (RFC 6186, RFC 8314).
    Service,
    /// A name of this server.
    HostName,
    /// The CA that may issue certificates (RFC 8659).
    Caa,
}

/// Whether a domain needs a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Mail suffers without it.
    Needed,
    /// It helps.
    Optional,
    /// It does harm until a condition is true, which its comment names. Zone files have it as a
    /// comment.
    Later,
}

/// A record, as the management API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordItem {
    /// The type, for example `MX`.
    #[serde(rename = "type")]
    pub record_type: String,
    /// The name, with a dot at the end.
    pub name: String,
    /// The content as in a zone file, but a text in one piece and without quotes.
    pub content: String,
    /// The TTL in seconds.
    pub ttl: u32,
    /// The domain works without it. The comment says when to add it.
    pub optional: bool,
    /// Whether zone files have it only as a comment.
    pub later: bool,
    /// A sentence for people.
    pub comment: String,
}

impl Wanted {
    /// The record as the management API shows it.
    #[must_use]
    pub fn item(&self) -> RecordItem {
        RecordItem {
            record_type: type_name(&self.record).to_owned(),
            name: absolute(&self.name),
            content: content(&self.record),
            ttl: TTL,
            optional: self.need != Need::Needed,
            later: self.need == Need::Later,
            comment: self.comment.clone(),
        }
    }
}

impl RecordItem {
    /// The records as a zone file (RFC 1035 §5).
    #[must_use]
    pub fn zone_file(items: &[Self]) -> String {
        Self::listing(items, |item, out| {
            let content = match item.record_type.as_str() {
                "TXT" => quoted(&item.content),
                _ => item.content.clone(),
            };
            let Self { name, ttl, .. } = item;
            let _ = writeln!(out, "{name} {ttl} IN {} {content}", item.record_type);
        })
    }

    /// The records for the forms of a DNS provider: each text is in one piece.
    #[must_use]
    pub fn text(items: &[Self]) -> String {
        Self::listing(items, |item, out| {
            let _ = writeln!(out, "{} {} {}", item.name, item.record_type, item.content);
        })
    }

    /// Each record on a line of its own. Records with the same comment stand together below it.
    fn listing(items: &[Self], line: impl Fn(&Self, &mut String)) -> String {
        let mut out = String::new();
        let mut comment = "";
        for item in items {
            if item.comment != comment {
                comment = &item.comment;
                let gap = if out.is_empty() { "" } else { "\n" };
                let _ = writeln!(out, "{gap}; {comment}");
            }
            if item.later {
                out.push_str("; ");
            }
            line(item, &mut out);
        }
        out
    }
}

/// The name with a dot at the end.
fn absolute(name: &str) -> String {
    format!("{name}.")
}

/// The name of the record's type.
const fn type_name(record: &Record) -> &'static str {
    record.record_type().as_str()
}

/// The content of a record as in a zone file, but a text in one piece and without quotes.
pub(super) fn content(record: &Record) -> String {
    match record {
        Record::A(address) => address.to_string(),
        Record::Aaaa(address) => address.to_string(),
        Record::Caa(caa) => {
            let flags = if caa.critical { 128 } else { 0 };
            let value = String::from_utf8_lossy(&caa.value);
            format!("{flags} {} \"{value}\"", caa.tag)
        }
        Record::Cname(name) | Record::Ns(name) | Record::Ptr(name) => absolute(name),
        Record::Mx(mx) => format!("{} {}", mx.preference, absolute(&mx.host)),
        Record::Srv(srv) => {
            let target = absolute(&srv.target);
            format!("{} {} {} {target}", srv.priority, srv.weight, srv.port)
        }
        Record::Tlsa(tlsa) => {
            let data = hex(&tlsa.data);
            format!("{} {} {} {data}", tlsa.usage, tlsa.selector, tlsa.matching)
        }
        Record::Txt(text) => String::from_utf8_lossy(text).into_owned(),
    }
}

/// A text as strings of a zone file.
fn quoted(text: &str) -> String {
    let mut pieces = Vec::new();
    for piece in text.as_bytes().chunks(TXT_PIECE) {
        let mut quoted = String::from("\"");
        for byte in piece {
            match byte {
                b'"' | b'\\' => quoted.extend(['\\', char::from(*byte)]),
                0x20..=0x7e => quoted.push(char::from(*byte)),
                byte => {
                    let _ = write!(quoted, "\\{byte:03}");
                }
            }
        }
        quoted.push('"');
        pieces.push(quoted);
    }
    match pieces.as_slice() {
        [] => "\"\"".to_owned(),
        pieces => pieces.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::{Caa, Mx, Srv, Tlsa};

    use super::*;

    #[test]
    fn contents_are_as_in_a_zone_file() {
        for (record, expected) in [
            (Record::A([192, 0, 2, 1].into()), "192.0.2.1"),
            (
                Record::Mx(Mx {
                    preference: 10,
                    host: "a.test".into(),
                }),
                "10 a.test.",
            ),
            (
                Record::Srv(Srv {
                    priority: 0,
                    weight: 0,
                    port: 0,
                    target: String::new(),
                }),
                "0 0 0 .",
            ),
            (
                Record::Tlsa(Tlsa {
                    usage: 3,
                    selector: 1,
                    matching: 1,
                    data: vec![0, 0xab],
                }),
                "3 1 1 00ab",
            ),
            (
                Record::Caa(Caa {
                    critical: true,
                    tag: "issue".into(),
                    value: b"ca.test".to_vec(),
                }),
                "128 issue \"ca.test\"",
            ),
            (Record::Txt(b"a \"b\"".to_vec()), "a \"b\""),
        ] {
            assert_eq!(content(&record), expected);
        }
    }

    #[test]
    fn texts_are_quoted_in_pieces() {
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted("a\"\\\u{e9}"), r#""a\"\\\195\169""#);
        let long = "x".repeat(250);
        let pieces = [100, 100, 50].map(|length| format!("\"{}\"", "x".repeat(length)));
        assert_eq!(quoted(&long), pieces.join(" "));
    }
}
