//! TLSA records (RFC 6698): which of them a client of SMTP can use (RFC 7672 §3.1), and whether a
//! chain of certificates matches them. Values without I/O.

use std::cell::Cell;

use postrider_dns::Tlsa;
use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, TrustAnchor, UnixTime},
};
use sha2::{Digest, Sha256, Sha512};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{
    asn1_rs::Any, certificate::X509Certificate, extensions::GeneralName, prelude::FromDer,
    x509::SubjectPublicKeyInfo,
};

/// The names of the records' fields (RFC 7218).
const DANE_TA: u8 = 2;
const DANE_EE: u8 = 3;

/// How many certificates of a server are looked at.
const CHAIN_MAX: usize = 16;
/// The most records that count. Those of a domain are its own to choose, and each one costs time.
const RECORDS_MAX: usize = 64;
/// The most of them that hold a whole certificate or key: each is a chain of its own to check.
const FULL_MAX: usize = 4;
/// How many ways from an anchor to a server's certificate are searched in a check. Domain and
/// server choose both ends, and each search may cost a hundred signatures.
const SEARCHES_MAX: usize = 8;

/// What the certificate of a record is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Usage {
    /// It issued the server's certificate.
    TrustAnchor,
    /// It is the server's.
    EndEntity,
}

/// The part of a certificate that a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Selector {
    Certificate,
    PublicKey,
}

/// That part, or its digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Content {
    Full(Vec<u8>),
    Sha256(Vec<u8>),
    Sha512(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Usable {
    usage: Usage,
    selector: Selector,
    content: Content,
}

/// The records of a host that can be used. Sets with the same records are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsaSet(Vec<Usable>);

/// Why no record matches a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// No record is about a certificate of the chain.
    NoMatch,
    /// A trust anchor of the records is there. But the chain from it is broken, or has ended.
    Chain(webpki::Error),
    /// A trust anchor of the records is there, and it has ended, or is not valid yet.
    AnchorDates,
    /// A trust anchor of the records issued the certificate, which is for other names.
    Names,
}

/// A record in the form of zone files (RFC 6698 §2.2).
pub(crate) fn zone_form(usage: u8, selector: u8, matching: u8, data: &[u8]) -> String {
    let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{usage} {selector} {matching} {data}")
}

impl TlsaSet {
    /// The records that can be used. Those of usage 0 and 1 can't, since no list of CAs is common
    /// to all servers of SMTP (RFC 7672 §3.1.3). Of two digests for one usage and selector, only
    /// the stronger one counts (RFC 7671 §9).
    pub(crate) fn of(records: &[Tlsa]) -> Self {
        let mut usable: Vec<Usable> = records.iter().filter_map(Usable::of).collect();
        usable.sort();
        usable.dedup();
        let strong: Vec<(Usage, Selector)> = usable
            .iter()
            .filter(|record| matches!(record.content, Content::Sha512(_)))
            .map(|record| (record.usage, record.selector))
            .collect();
        usable.retain(|record| {
            let weak = matches!(record.content, Content::Sha256(_));
            !weak || !strong.contains(&(record.usage, record.selector))
        });
        usable.truncate(RECORDS_MAX);
        let mut full = 0;
        usable.retain(|record| {
            full += usize::from(matches!(record.content, Content::Full(_)));
            !matches!(record.content, Content::Full(_)) || full <= FULL_MAX
        });
        Self(usable)
    }

    /// The records, as they stand in DNS.
    pub(crate) fn records(&self) -> Vec<Tlsa> {
        let records = self.0.iter().map(|record| {
            let (matching, data) = match &record.content {
                Content::Full(bytes) => (0, bytes),
                Content::Sha256(digest) => (1, digest),
                Content::Sha512(digest) => (2, digest),
            };
            Tlsa {
                usage: match record.usage {
                    Usage::TrustAnchor => DANE_TA,
                    Usage::EndEntity => DANE_EE,
                },
                selector: match record.selector {
                    Selector::Certificate => 0,
                    Selector::PublicKey => 1,
                },
                matching,
                data: data.clone(),
            }
        });
        records.collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The records in the form of zone files (RFC 6698 §2.2).
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.0.iter().map(|record| {
            let usage = match record.usage {
                Usage::TrustAnchor => DANE_TA,
                Usage::EndEntity => DANE_EE,
            };
            let selector = match record.selector {
                Selector::Certificate => 0,
                Selector::PublicKey => 1,
            };
            let (matching, data) = match &record.content {
                Content::Full(data) => (0, data),
                Content::Sha256(data) => (1, data),
                Content::Sha512(data) => (2, data),
            };
            zone_form(usage, selector, matching, data)
        });
        lines.collect()
    }

    /// The bytes that the set takes, about.
    pub(crate) fn size(&self) -> usize {
        let content = |record: &Usable| match &record.content {
            Content::Full(bytes) | Content::Sha256(bytes) | Content::Sha512(bytes) => bytes.len(),
        };
        let contents: usize = self.0.iter().map(content).sum();
        contents + self.0.len() * size_of::<Usable>()
    }

    /// Whether a server with these certificates, its own first, is the right one.
    ///
    /// A record of usage 3 is about the server's certificate, and nothing else of it counts: no
    /// name, no date (RFC 7671 §5.1). One of usage 2 is about a certificate above, from which the
    /// chain must be valid, with one of `names` (RFC 7672 §3.2.3).
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(
        &self,
        chain: &[CertificateDer<'_>],
        names: &[String],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Mismatch> {
        let chain = chain.get(..CHAIN_MAX).unwrap_or(chain);
        let Some((leaf, above)) = chain.split_first() else {
            return Err(Mismatch::NoMatch);
        };
        if self.has(Usage::EndEntity, leaf) {
            return Ok(());
        }
        let mut worst = Mismatch::NoMatch;
        let path = Path {
            leaf,
            above,
            now,
            algorithms,
            searches: Cell::new(0),
        };
        let found = above
            .iter()
            .filter(|certificate| self.has(Usage::TrustAnchor, certificate));
        for certificate in found.cloned().chain(self.anchors()) {
            match path.leads_from_certificate(&certificate) {
                Ok(()) => return named(leaf, names),
                Err(mismatch) => worst = mismatch,
            }
        }
        for key in self.anchor_keys() {
            match path.leads_from_key(key) {
                Ok(()) => return named(leaf, names),
                Err(mismatch) if worst == Mismatch::NoMatch => worst = mismatch,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    fn has(&self, usage: Usage, certificate: &[u8]) -> bool {
        let key = public_key(certificate);
        let mut records = self.0.iter().filter(|record| record.usage == usage);
        records.any(|record| match (record.selector, key) {
            (Selector::Certificate, _) => record.content.is_of(certificate),
            (Selector::PublicKey, Some(key)) => record.content.is_of(key),
            (Selector::PublicKey, None) => false,
        })
    }

    /// The trust anchors that are whole in the records: a server need not send them.
    fn anchors(&self) -> impl Iterator<Item = CertificateDer<'_>> {
        let full = self.full(Selector::Certificate);
        full.map(CertificateDer::from)
    }

    fn anchor_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.full(Selector::PublicKey)
    }

    fn full(&self, selector: Selector) -> impl Iterator<Item = &[u8]> {
        let records = self.0.iter();
        records.filter_map(move |record| match &record.content {
            Content::Full(bytes)
                if record.usage == Usage::TrustAnchor && record.selector == selector =>
            {
                Some(bytes.as_slice())
            }
            _ => None,
        })
    }
}

impl Usable {
    fn of(record: &Tlsa) -> Option<Self> {
        let usage = match record.usage {
            DANE_TA => Usage::TrustAnchor,
            DANE_EE => Usage::EndEntity,
            _ => return None,
        };
        let selector = match record.selector {
            0 => Selector::Certificate,
            1 => Selector::PublicKey,
            _ => return None,
        };
        let data = record.data.clone();
        let content = match (record.matching, data.len(), selector) {
            (0, _, Selector::Certificate) if is_certificate(&data) => Content::Full(data),
            (0, _, Selector::PublicKey) if is_public_key(&data) => Content::Full(data),
            (1, 32, _) => Content::Sha256(data),
            (2, 64, _) => Content::Sha512(data),
            _ => return None,
        };
        Some(Self {
            usage,
            selector,
            content,
        })
    }
}

impl Content {
    fn is_of(&self, part: &[u8]) -> bool {
        match self {
            Self::Full(bytes) => bytes == part,
            Self::Sha256(digest) => digest.as_slice() == Sha256::digest(part).as_slice(),
            Self::Sha512(digest) => digest.as_slice() == Sha512::digest(part).as_slice(),
        }
    }
}

/// The certificates of a server.
struct Path<'a> {
    leaf: &'a CertificateDer<'a>,
    above: &'a [CertificateDer<'a>],
    now: UnixTime,
    algorithms: &'a WebPkiSupportedAlgorithms,
    /// The searches so far.
    searches: Cell<usize>,
}

impl Path<'_> {
    fn leads_from_certificate(&self, certificate: &CertificateDer<'_>) -> Result<(), Mismatch> {
        let anchor = anchor_from_trusted_cert(certificate).map_err(Mismatch::Chain)?;
        let (_, read) = X509Certificate::from_der(certificate)
            .map_err(|_| Mismatch::Chain(webpki::Error::BadDer))?;
        let now = i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX);
        let validity = read.validity();
        if now < validity.not_before.timestamp() || validity.not_after.timestamp() < now {
            return Err(Mismatch::AnchorDates);
        }
        self.leads_from_anchor(anchor)
    }

    /// From a key whose certificate is not there. It is the key of the issuer of some certificate
    /// of the chain, so that issuer's name is the anchor's.
    fn leads_from_key(&self, key: &[u8]) -> Result<(), Mismatch> {
        let (_, key) = Any::from_der(key).map_err(|_| Mismatch::NoMatch)?;
        let mut last = Mismatch::NoMatch;
        for certificate in std::iter::once(self.leaf).chain(self.above) {
            let Ok((_, read)) = X509Certificate::from_der(certificate) else {
                continue;
            };
            let Ok((_, issuer)) = Any::from_der(read.issuer().as_raw()) else {
                continue;
            };
            let anchor = TrustAnchor {
                subject: issuer.data.into(),
                subject_public_key_info: key.data.into(),
                name_constraints: None,
            };
            match self.leads_from_anchor(anchor) {
                Ok(()) => return Ok(()),
                Err(mismatch) => last = mismatch,
            }
        }
        Err(last)
    }

    fn leads_from_anchor(&self, anchor: TrustAnchor<'_>) -> Result<(), Mismatch> {
        let searches = self.searches.get();
        if searches >= SEARCHES_MAX {
            let error = webpki::Error::MaximumPathBuildCallsExceeded;
            return Err(Mismatch::Chain(error));
        }
        self.searches.set(searches + 1);
        let leaf = EndEntityCert::try_from(self.leaf).map_err(Mismatch::Chain)?;
        let anchors = [anchor];
        let checked = leaf.verify_for_usage(
            self.algorithms.all,
            &anchors,
            self.above,
            self.now,
            KeyUsage::server_auth(),
            None,
            None,
        );
        checked.map(drop).map_err(Mismatch::Chain)
    }
}

fn is_certificate(bytes: &[u8]) -> bool {
    X509Certificate::from_der(bytes).is_ok_and(|(rest, _)| rest.is_empty())
}

fn is_public_key(bytes: &[u8]) -> bool {
    SubjectPublicKeyInfo::from_der(bytes).is_ok_and(|(rest, _)| rest.is_empty())
}

/// The SubjectPublicKeyInfo of a certificate, as its bytes are. Certificates of version 1 have one
/// too.
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    Some(read.tbs_certificate.subject_pki.raw)
}

/// Whether a certificate has one of the names: in its subjectAltName, or in the common name if that
/// has no names of hosts (RFC 7672 §3.2.3).
fn named(certificate: &[u8], names: &[String]) -> Result<(), Mismatch> {
    let Ok((_, read)) = X509Certificate::from_der(certificate) else {
        return Err(Mismatch::Names);
    };
    let extension = read.subject_alternative_name().ok().flatten();
    let general = extension
        .iter()
        .flat_map(|it| it.value.general_names.iter());
    let mut certified: Vec<&str> = general
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    if certified.is_empty() {
        let common = read.subject().iter_common_name();
        certified = common.filter_map(|name| name.as_str().ok()).collect();
    }
    let has = |name: &String| certified.iter().any(|pattern| covers(pattern, name));
    match names.iter().any(has) {
        true => Ok(()),
        false => Err(Mismatch::Names),
    }
}

/// Whether the name in a certificate is for a host: `*` as the first label is for any one label
/// (RFC 6125 §6.4.3).
fn covers(pattern: &str, name: &str) -> bool {
    let pattern = pattern.trim_end_matches('.');
    match pattern.strip_prefix("*.") {
        Some(parent) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests;
