//! The keys that validation begins with.

use std::{path::Path, sync::Arc};

use hickory_resolver::proto::{
    dnssec::TrustAnchors as WireAnchors,
    rr::{LowerName, Name},
    serialize::txt::trust_anchor::{Entry, Parser},
};

/// The keys that DNSSEC validation trusts (RFC 4033 §2). By default they are those of the root of
/// the internet.
#[derive(Clone)]
pub struct TrustAnchors {
    pub(super) keys: Arc<WireAnchors>,
    /// A zone with a key of these. It shows whether validation works.
    pub(super) zone: Name,
}

/// Why keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustAnchorError {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// The text is no list of DNSKEY records.
    #[error("{0}; each line must be a DNSKEY record, such as \". 86400 IN DNSKEY 257 3 15 KEY\"")]
    Text(String),
}

impl TrustAnchors {
    /// The keys in a file.
    ///
    /// # Errors
    /// If the file can't be read, or has something else than DNSKEY records.
    pub fn read(path: &Path) -> Result<Self, TrustAnchorError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// The keys of a text in the format of a zone file (RFC 1035 §5.1): DNSKEY records (RFC 4034
    /// §2.2), each with the full name of its zone. No other keys are trusted then.
    ///
    /// # Errors
    /// If something else is there, or no key.
    pub fn parse(text: &str) -> Result<Self, TrustAnchorError> {
        let failed = |text: String| TrustAnchorError::Text(text);
        let entries = Parser::new(text).parse();
        let entries = entries.map_err(|error| failed(error.to_string()))?;
        let mut keys = WireAnchors::empty();
        let mut zones = Vec::new();
        for entry in entries {
            let Entry::DNSKEY(record) = entry else {
                return Err(failed("another record is there".to_owned()));
            };
            let mut zone = record.name().clone();
            zone.set_fqdn(true);
            keys.insert_with_name(record.data().public_key(), LowerName::from(&zone));
            zones.push(zone);
        }
        // The highest zone: the others may be below one that is not signed.
        let zone = zones.into_iter().min_by_key(Name::num_labels);
        Ok(Self {
            keys: Arc::new(keys),
            zone: zone.ok_or_else(|| failed("there is no key".to_owned()))?,
        })
    }
}

impl Default for TrustAnchors {
    fn default() -> Self {
        Self {
            keys: Arc::new(WireAnchors::default()),
            zone: Name::root(),
        }
    }
}

impl std::fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustAnchors")
            .field("zone", &self.zone)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=";

    #[test]
    fn keys_of_a_zone_file() {
        for (text, zone) in [
            (format!(". IN DNSKEY {KEY}\n"), "."),
            (
                format!("; a lab\n\nLab.Test. 3600 IN DNSKEY {KEY}"),
                "lab.test.",
            ),
            (format!("a.b. IN DNSKEY {KEY}\nb. IN DNSKEY {KEY}\n"), "b."),
        ] {
            let anchors = TrustAnchors::parse(&text).unwrap();
            assert_eq!(anchors.zone, Name::from_ascii(zone).unwrap(), "{text}");
        }
        for text in [
            String::new(),
            "no record".to_owned(),
            ". IN A 192.0.2.1".to_owned(),
            ". IN DNSKEY 257 3 15".to_owned(),
            format!(". IN DS {KEY}"),
            format!(". IN DNSKEY {KEY} ("),
        ] {
            let error = TrustAnchors::parse(&text).unwrap_err().to_string();
            assert!(error.contains("DNSKEY"), "{text}: {error}");
        }
        assert!(matches!(
            TrustAnchors::read(Path::new("/nowhere/anchors")),
            Err(TrustAnchorError::File(_))
        ));
    }
}
