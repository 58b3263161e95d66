//! The addresses that records name for reports: `rua=` of TLSRPT (RFC 8460 §3) and of DMARC (RFC
//! 9989 §4.6).

use percent_encoding::percent_decode_str;
use postrider_smtp::{Address, Domain};

use crate::https::HTTPS_PORT;

/// How many addresses of a record get a report.
const ADDRESSES_MAX: usize = 10;

/// An address for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReportAddress {
    /// As the record has it, without its size.
    pub(super) uri: String,
    pub(super) target: Target,
    /// The largest report that it takes, in bytes.
    pub(super) size_max: Option<u64>,
}

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Mail(Address),
    Https {
        host: String,
        port: u16,
        /// With the query.
        path: String,
    },
}

impl ReportAddress {
    /// Reads a URI. A size may stand behind it, after `!` (RFC 7489 §6.2). None if the URI has
    /// another scheme, or is wrong.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        let (uri, size_max) = match text.rsplit_once('!') {
            Some((uri, size)) => (uri, Some(size_of(size)?)),
            None => (text, None),
        };
        let (scheme, rest) = uri.split_once(':')?;
        let target = match scheme.to_ascii_lowercase().as_str() {
            "mailto" => mailto(rest)?,
            "https" => https(rest)?,
            _ => return None,
        };
        Some(Self {
            uri: uri.to_owned(),
            target,
            size_max,
        })
    }

    /// The host of the URI, in ASCII. None for an address literal.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.target {
            Target::Mail(address) => Some(address.host.domain()?.ascii()),
            Target::Https { host, .. } => Some(host),
        }
    }
}

/// A size in bytes: a number, and perhaps k, m, g or t.
fn size_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = text.get(digits.len()..)?.to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The only address of a mailto URI (RFC 6068). Fields behind `?` do not count.
fn mailto(rest: &str) -> Option<Target> {
    let address = rest.split('?').next().unwrap_or_default();
    let address = percent_decode_str(address).decode_utf8().ok()?;
    let address = Address::parse(&address).ok()?;
    address.host.domain()?;
    Some(Target::Mail(address))
}

fn https(rest: &str) -> Option<Target> {
    let rest = rest.strip_prefix("//")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let path = path.split('#').next().unwrap_or_default();
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, HTTPS_PORT),
    };
    let is_sound = path.bytes().all(|byte| byte.is_ascii_graphic());
    let host = Domain::parse(host).ok().filter(|_| is_sound)?;
    Some(Target::Https {
        host: host.ascii().to_owned(),
        port,
        path,
    })
}

/// The value of a tag of a record, of which the first one is the version. None: the text is no such
/// record, or has no such tag.
fn tag<'a>(text: &'a [u8], version: &str, name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(text).ok()?;
    let mut tags = text.split(';').map(|tag| {
        let (name, value) = tag.split_once('=').unwrap_or((tag, ""));
        (name.trim_ascii(), value.trim_ascii())
    });
    let (first, value) = tags.next()?;
    if !first.eq_ignore_ascii_case("v") || value != version {
        return None;
    }
    let found = tags.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value)
}

/// Whether a text is a record of this version.
pub(super) fn is_record(text: &[u8], version: &str) -> bool {
    let rest = std::str::from_utf8(text).ok().and_then(|text| {
        let (name, value) = text.split(';').next()?.split_once('=')?;
        Some((name.trim_ascii(), value.trim_ascii()))
    });
    rest.is_some_and(|(name, value)| name.eq_ignore_ascii_case("v") && value == version)
}

/// The version of a TLSRPT record.
pub(super) const TLSRPT: &str = "TLSRPTv1";
/// The version of a DMARC record.
pub(super) const DMARC: &str = "DMARC1";

/// The addresses of the only record of this version among the texts of a name. Several records are
/// none.
pub(super) fn addresses(texts: &[Vec<u8>], version: &str) -> Vec<ReportAddress> {
    let mut records = texts.iter().filter(|text| is_record(text, version));
    let (Some(record), None) = (records.next(), records.next()) else {
        return Vec::new();
    };
    in_record(record, version)
}

/// The addresses of a record.
pub(super) fn in_record(record: &[u8], version: &str) -> Vec<ReportAddress> {
    let uris = tag(record, version, "rua").unwrap_or_default().split(',');
    let mut addresses: Vec<ReportAddress> = Vec::new();
    for address in uris.filter_map(ReportAddress::parse) {
        let is_known = addresses.iter().any(|known| known.uri == address.uri);
        if !is_known && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(address: &ReportAddress) -> String {
        let size = address.size_max.map(|size| format!(" <= {size}"));
        let target = match &address.target {
            Target::Mail(address) => address.to_string(),
            Target::Https { host, port, path } => format!("{host} {port} {path}"),
        };
        target + &size.unwrap_or_default()
    }

    #[test]
    fn uris_are_read() {
        for (uri, expected) in [
            ("mailto:a@x.test", Some("a@x.test")),
            (" MAILTO:a%2Bb@x.test ", Some("a+b@x.test")),
            ("mailto:a@x.test?subject=x", Some("a@x.test")),
            ("mailto:a@x.test!10m", Some("a@x.test <= 10485760")),
            ("mailto:a@x.test!5K", Some("a@x.test <= 5120")),
            ("mailto:a@x.test!7", Some("a@x.test <= 7")),
            ("https://x.test", Some("x.test 443 /")),
            ("https://X.test:8443/a?b=c#d", Some("x.test 8443 /a?b=c")),
            ("https://x.test?b", Some("x.test 443 /?b")),
            ("mailto:a@x.test!", None),
            ("mailto:a@x.test!x", None),
            ("mailto:a@x.test!99999999999999t", None),
            ("mailto:a", None),
            ("mailto:a@[192.0.2.1]", None),
            ("mailto:a@x.test%0d%0aBcc: b@x.test", None),
            ("mailto:%ff@x.test", None),
            ("http://x.test/", None),
            ("https:x.test", None),
            ("https://u@x.test/", None),
            ("https://x.test:0x1/", None),
            ("https://x.test/a b", None),
            ("a@x.test", None),
            ("", None),
        ] {
            let found = ReportAddress::parse(uri);
            assert_eq!(found.as_ref().map(shown).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn only_one_record_counts() {
        for (texts, expected) in [
            (&["v=TLSRPTv1; rua=mailto:a@x.test"][..], "a@x.test"),
            (
                &["v=TLSRPTv1;rua=mailto:a@x.test, https://x.test/r,x,mailto:a@x.test;"],
                "a@x.test, x.test 443 /r",
            ),
            (
                &["v=spf1 -all", "v=TLSRPTv1; x=y; RUA = mailto:a@x.test"],
                "a@x.test",
            ),
            (&["v=TLSRPTv1"], ""),
            (&["v=TLSRPTv2; rua=mailto:a@x.test"], ""),
            (&["rua=mailto:a@x.test; v=TLSRPTv1"], ""),
            (
                &[
                    "v=TLSRPTv1; rua=mailto:a@x.test",
                    "v=TLSRPTv1; rua=mailto:b@x.test",
                ],
                "",
            ),
            (&[], ""),
        ] {
            let texts: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            let found = addresses(&texts, TLSRPT);
            let found: Vec<_> = found.iter().map(shown).collect();
            assert_eq!(found.join(", "), expected, "{texts:?}");
        }
        let many: Vec<_> = (0..20).map(|it| format!("mailto:{it}@x.test")).collect();
        let record = format!("v=DMARC1; rua={}", many.join(","));
        assert_eq!(addresses(&[record.into()], DMARC).len(), ADDRESSES_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            uris in "(mailto:|https://)[ -~]{0,30}(,(mailto:|https://)[ -~]{0,30}){0,3}",
        ) {
            let _ = addresses(&[[b"v=DMARC1; rua=".as_slice(), &bytes].concat()], DMARC);
            for address in addresses(&[format!("v=DMARC1; rua={uris}").into()], DMARC) {
                prop_assert!(address.host().is_some());
            }
        }
    }
}
