//! The facts about this host that its DNS records tell: addresses, keys and the CA.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use postrider_config::{
    CertificateSource, Static, Transport, is_public, pkcs8_of_pem, read_secret_file,
};
use postrider_smtp::Domain;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};

/// The facts about this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The public addresses at which mail arrives.
    pub addresses: Vec<IpAddr>,
    /// The addresses from which mail goes out, each with the name that it should have. None: any
    /// name that leads back to it.
    pub sources: BTreeMap<IpAddr, Option<Domain>>,
    /// The keys of the host's certificates.
    pub tls_keys: Vec<TlsKey>,
    /// The CAs of the listeners' certificates.
    pub cas: Vec<Ca>,
    /// Whether DNSSEC secures the names of the host.
    pub dnssec: bool,
}

/// A key of the host's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsKey {
    /// The file of the private key.
    pub file: PathBuf,
    /// The SHA-256 digest of the public key, as SubjectPublicKeyInfo in DER.
    pub digest: [u8; 32],
}

/// A CA that issues certificates of the host by ACME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ca {
    /// Its name in CAA records.
    pub issuer: Domain,
    /// The URLs of its directories that the configuration names.
    pub directories: Vec<String>,
    /// The URIs of our accounts there that are known.
    pub account_uris: Vec<String>,
}

impl HostFacts {
    /// The facts that the configuration and the network interfaces give, and a warning for each
    /// file that can't be used. `interfaces` are the addresses of the interfaces; they stand for a
    /// listener on all addresses. What DNSSEC secures is not known here.
    #[must_use]
    pub fn gather(statics: &Static, interfaces: &[IpAddr]) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let addresses = addresses(statics, interfaces);
        if addresses.is_empty() {
            warnings.push(
                "no address of this host is known: set listeners.NAME.ips or nat_ips of a \
                listener with smtp"
                    .to_owned(),
            );
        }
        let hostname = Some(statics.hostname.clone());
        let own = addresses.iter().map(|ip| (*ip, hostname.clone()));
        let mut sources: BTreeMap<IpAddr, Option<Domain>> = own.collect();
        for source in statics.sources.values().filter(|it| is_usable(it.ip)) {
            sources.insert(source.ip, Some(source.ehlo.clone()));
        }
        for transport in statics.transports.values() {
            let (ips, name) = match transport {
                Transport::Direct(direct) => (&direct.local_ips, None),
                Transport::Socks(socks) => (&socks.remote_ips, Some(&socks.remote_hostname)),
                _ => continue,
            };
            for ip in ips.iter().filter(|ip| is_usable(**ip)) {
                sources.entry(*ip).or_insert_with(|| name.cloned());
            }
        }
        let mut tls_keys: Vec<TlsKey> = Vec::new();
        let listeners = || statics.listeners.values();
        let tls = || listeners().filter_map(|listener| listener.tls.as_ref());
        for file in tls().flat_map(|tls| &tls.host_keys) {
            match digest(file) {
                Ok(digest) if tls_keys.iter().all(|key| key.digest != digest) => {
                    tls_keys.push(TlsKey {
                        file: file.clone(),
                        digest,
                    });
                }
                Ok(_) => {}
                Err(reason) => warnings.push(format!("{}: {reason}", file.display())),
            }
        }
        let mut cas: Vec<Ca> = Vec::new();
        for tls in tls() {
            let CertificateSource::Acme(account) = &tls.source else {
                continue;
            };
            let Some(account) = statics.acme.get(account) else {
                continue;
            };
            let Some(issuer) = &account.issuer else {
                continue;
            };
            let directory = &account.directory_url;
            match cas.iter_mut().find(|ca| ca.issuer == *issuer) {
                Some(ca) if ca.directories.contains(directory) => {}
                Some(ca) => ca.directories.push(directory.clone()),
                None => cas.push(Ca {
                    issuer: issuer.clone(),
                    directories: vec![directory.clone()],
                    account_uris: Vec::new(),
                }),
            }
        }
        let facts = Self {
            addresses,
            sources,
            tls_keys,
            cas,
            dnssec: false,
        };
        (facts, warnings)
    }

    /// Whether an address is one at which mail arrives.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

impl Ca {
    /// Whether one of our accounts has this URI, or may have it.
    #[must_use]
    pub fn may_have(&self, account_uri: &str) -> bool {
        self.account_uris.len() < self.directories.len()
            || self.account_uris.iter().any(|uri| uri == account_uri)
    }
}

/// The URI of an account at a CA, from the form in which the ACME library keeps the account.
pub(super) fn account_uri(credentials: &str) -> Option<String> {
    /// The part of the form that CAA records need.
    #[derive(serde::Deserialize)]
    struct Credentials {
        id: String,
    }

    let credentials: Credentials = serde_json::from_str(credentials).ok()?;
    Some(credentials.id)
}

/// The public addresses at which mail arrives. If there are none, the private ones: a lab has no
/// others.
fn addresses(statics: &Static, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut add = |ip: IpAddr| {
        if !found.contains(&ip) && !ip.is_unspecified() {
            found.push(ip);
        }
    };
    for listener in statics.listeners.values() {
        if !listener.smtp.enabled {
            continue;
        }
        if !listener.nat_ips.is_empty() {
            listener.nat_ips.iter().copied().for_each(&mut add);
            continue;
        }
        for ip in &listener.ips {
            match ip.is_unspecified() {
                true => interfaces
                    .iter()
                    .copied()
                    .filter(|interface| interface.is_ipv4() == ip.is_ipv4())
                    .for_each(&mut add),
                false => add(*ip),
            }
        }
    }
    // An address of documentation is not of the internet, but nobody has it as a private one.
    let public = |ip: &IpAddr| is_usable(*ip) && (is_public(*ip) || !is_private(*ip));
    match found.iter().any(public) {
        true => found.retain(public),
        false => found.retain(|ip| is_usable(*ip)),
    }
    found
}

/// Whether another host could use an address, perhaps in the same network.
fn is_usable(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// Whether an address is for private networks (RFC 1918, RFC 6598, RFC 4193).
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// The digest of the public half of a private key in a PEM file.
fn digest(file: &Path) -> Result<[u8; 32], String> {
    let bytes = read_secret_file(file).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    // A file with header lines is for our own reader. It takes no other forms than PKCS#8.
    let key = match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => key,
        Err(_) => PrivateKeyDer::Pkcs8(pkcs8_of_pem(&text)?.into()),
    };
    let key = any_supported_type(&key).map_err(|error| format!("is no usable key: {error}"))?;
    let public = key.public_key();
    let public = public.ok_or("is a key without a known public half")?;
    Ok(Sha256::digest(&public).into())
}
