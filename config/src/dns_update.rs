//! `dns_update."ZONE"` of `postrider.conf`: the server that takes changes of a zone, and the key
//! that signs them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use base64::Engine as _;
use postrider_smtp::Domain;

use crate::{
    reader::Reader,
    secret_file::read_secret_file,
    values::{TsigAlgorithm, parse_domain},
};

/// `dns_update."ZONE"`: where the records of a zone are written by DNS UPDATE (RFC 2136).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsUpdate {
    /// The primary server of the zone.
    pub server: SocketAddr,
    /// The name of the key, as the server knows it, without a dot at the end.
    pub key_name: String,
    /// The secret of the key.
    pub key: Arc<TsigSecret>,
    /// The algorithm of the key.
    pub algorithm: TsigAlgorithm,
}

/// The secret of a TSIG key (RFC 8945), decoded. Its `Debug` form hides it.
#[derive(PartialEq, Eq)]
pub struct TsigSecret(Vec<u8>);

impl TsigSecret {
    /// Reads the text of a key file: base64 alone, `algorithm:name:base64`, or the text of BIND and
    /// Knot with a field `secret`.
    ///
    /// # Errors
    /// A sentence that can follow the name of the file.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let between = |c: char| c.is_whitespace() || matches!(c, '"' | ':' | ';' | '{' | '}');
        let words = || text.split(between).filter(|word| !word.is_empty());
        let mut field = words().skip_while(|word| *word != "secret");
        let base64 = match field.next() {
            Some(_) => field.next(),
            None => words().next_back(),
        };
        let decoded = base64::engine::general_purpose::STANDARD.decode(base64.unwrap_or_default());
        match decoded {
            Ok(secret) if !secret.is_empty() => Ok(Self(secret)),
            _ => Err(
                "holds no TSIG key: write its secret in base64 into the file, or the \
                output of tsig-keygen or \"keymgr -t\""
                    .to_owned(),
            ),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TsigSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigSecret({} bytes)", self.0.len())
    }
}

/// Reads `dns_update`.
pub(crate) fn read(root: &Reader<'_>) -> BTreeMap<Domain, DnsUpdate> {
    let section = root.section("dns_update");
    let mut zones = BTreeMap::new();
    for (name, reader) in section.named() {
        let zone = match parse_domain(name.strip_suffix('.').unwrap_or(name)) {
            Ok(zone) => zone,
            Err(message) => {
                section.wrong(name, message);
                continue;
            }
        };
        let update = read_zone(&reader);
        match zones.entry(zone) {
            Entry::Occupied(entry) => {
                let zone = entry.key();
                let message =
                    format!("is {zone} in another spelling, and exists already; keep one");
                section.wrong(name, message);
            }
            Entry::Vacant(entry) => {
                entry.insert(update);
            }
        }
    }
    let whole = zones.into_iter();
    whole
        .filter_map(|(zone, update)| Some((zone, update?)))
        .collect()
}

fn read_zone(reader: &Reader<'_>) -> Option<DnsUpdate> {
    let server = reader.opt("server");
    let key_name: Option<String> = reader.opt("key_name");
    let key_name = key_name.map(|name| name.strip_suffix('.').unwrap_or(&name).to_owned());
    if key_name.as_deref().is_some_and(|name| !is_key_name(name)) {
        reader.wrong(
            "key_name",
            "is not the name of a key: parts of 1 to 63 letters, digits, - or _, with dots between",
        );
    }
    let algorithm = reader.opt("algorithm").unwrap_or(TsigAlgorithm::HmacSha256);
    let key_file: Option<std::path::PathBuf> = reader.opt("key_file");
    let key = key_file.and_then(|path| {
        let shown = path.display();
        let read = read_key(&path).map_err(|message| format!("{shown} {message}"));
        read.inspect_err(|message| reader.wrong("key_file", message.as_str()))
            .ok()
    });
    Some(DnsUpdate {
        server: server?,
        key_name: key_name?,
        key: Arc::new(key?),
        algorithm,
    })
}

/// Whether DNS can have this name. A key may have an underscore in its name, other than a host.
fn is_key_name(name: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.bytes();
        (1..=63).contains(&part.len())
            && bytes
                .into_iter()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() < 254 && name.split('.').all(part)
}

fn read_key(path: &Path) -> Result<TsigSecret, String> {
    let bytes = read_secret_file(path).map_err(|error| error.to_string())?;
    TsigSecret::from_text(&String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_the_forms_of_the_servers() {
        for text in [
            "c2VjcmV0IQ==\n",
            "hmac-sha256:key:c2VjcmV0IQ==\n",
            "# hmac-sha256:key:c2VjcmV0IQ==\nkey:\n  - id: key\n    algorithm: hmac-sha256\n    secret: c2VjcmV0IQ==\n",
            "key \"secret-1\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0IQ==\";\n};\n",
        ] {
            let secret = TsigSecret::from_text(text).unwrap();
            assert_eq!(secret.bytes(), b"secret!", "{text}");
            assert_eq!(format!("{secret:?}"), "TsigSecret(7 bytes)");
        }
        for text in ["", "secret", "no base64!", "secret \"%\";"] {
            let error = TsigSecret::from_text(text).unwrap_err();
            assert!(error.contains("holds no TSIG key"), "{text}");
        }
    }
}
