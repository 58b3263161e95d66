//! The certificates that CAs issued, in memory, and how the hello of a client picks one.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use postrider_store::{AcmeCertificate, Time};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};

use super::{host_keys::HostKey, names::Wanted, time};

/// All certificates by domain name. Handshakes read them without a lock.
#[derive(Debug, Default)]
pub(super) struct Held {
    certificates: ArcSwap<HashMap<String, Vec<Entry>>>,
    /// The names that each account should have a certificate for.
    wanted: ArcSwap<HashSet<(String, String)>>,
    /// One change of the certificates at a time.
    changing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Entry {
    account: String,
    key_id: String,
    begins: Time,
    ends: Time,
    certified: Arc<CertifiedKey>,
}

impl Held {
    /// Takes a certificate in the place of the one before.
    pub(super) fn add(
        &self,
        account: &str,
        certificate: &AcmeCertificate,
        certified: Arc<CertifiedKey>,
    ) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = HashMap::clone(&self.certificates.load());
        let entries = all.entry(certificate.name.clone()).or_default();
        entries.retain(|it| it.account != account || it.key_id != certificate.key_id);
        entries.push(Entry {
            account: account.to_owned(),
            key_id: certificate.key_id.clone(),
            begins: certificate.begins,
            ends: certificate.ends,
            certified,
        });
        // Short signatures first.
        entries.sort_by_key(|it| it.certified.key.algorithm() == SignatureAlgorithm::RSA);
        self.certificates.store(Arc::new(all));
    }

    /// The beginning and the end of a certificate.
    pub(super) fn validity(&self, wanted: &Wanted) -> Option<(Time, Time)> {
        let all = self.certificates.load();
        let mut entries = all.get(&wanted.name)?.iter();
        let entry =
            entries.find(|it| it.account == wanted.account && it.key_id == wanted.key_id)?;
        Some((entry.begins, entry.ends))
    }

    /// The names that should have a certificate, and when the first of those of a name ends in
    /// seconds since 1970; 0: it has none.
    pub(super) fn ends(&self) -> Vec<(String, i64)> {
        let (wanted, all) = (self.wanted.load(), self.certificates.load());
        let ends = wanted.iter().map(|(account, name)| {
            let entries = all.get(name).into_iter().flatten();
            let entries = entries.filter(|entry| entry.account == *account);
            let first = entries
                .map(|entry| entry.ends.0.div_euclid(1_000_000))
                .min();
            (name.clone(), first.unwrap_or_default())
        });
        ends.collect()
    }

    /// Sets the names that should have a certificate.
    pub(super) fn want<'a>(&self, wanted: impl Iterator<Item = &'a Wanted>) {
        let wanted = wanted.map(|it| (it.account.clone(), it.name.clone()));
        self.wanted.store(Arc::new(wanted.collect()));
    }
}

/// How a service treats a name for which there is no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The certificate of the hostname, or a self-signed one. A mail server that uses TLS where it
    /// can would else send in clear, or not at all.
    AnyName,
    /// A self-signed certificate for a name that waits for its certificate, an alert for others.
    OwnNames,
    /// An alert. A browser shows its user more about it than about a wrong certificate.
    CertifiedNames,
}

/// The certificates of a listener with ACME.
pub struct Issued {
    held: Arc<Held>,
    account: String,
    hostname: String,
    host_keys: Vec<HostKey>,
    /// Self-signed certificates for the hostname, one for each host key or one in all.
    provisional: Vec<Arc<CertifiedKey>>,
}

impl Issued {
    pub(super) fn new(
        held: Arc<Held>,
        account: &str,
        hostname: &str,
        host_keys: Vec<HostKey>,
    ) -> anyhow::Result<Self> {
        let mut provisional = Vec::new();
        for key in &host_keys {
            provisional.push(self_signed(hostname, &key.pair, Arc::clone(&key.signing))?);
        }
        if provisional.is_empty() {
            let (pair, signing) = new_key()?;
            provisional.push(self_signed(hostname, &pair, signing)?);
        }
        provisional.sort_by_key(|it| it.key.algorithm() == SignatureAlgorithm::RSA);
        Ok(Self {
            held,
            account: account.to_owned(),
            hostname: hostname.to_owned(),
            host_keys,
            provisional,
        })
    }

    /// The certificates as a service with this manner shows them.
    #[must_use]
    pub fn resolver(self: &Arc<Self>, manner: Manner) -> Arc<dyn ResolvesServerCert> {
        let issued = Arc::clone(self);
        Arc::new(Resolver { issued, manner })
    }

    /// The certificate for a client that names this host, or none.
    fn choose(
        &self,
        manner: Manner,
        named: Option<&str>,
        offered: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let lower = named.map(str::to_ascii_lowercase);
        let name = lower.as_deref().unwrap_or(&self.hostname);
        if let Some(found) = self.certificate(name, offered) {
            return Some(found);
        }
        let known = || {
            let of_account = (self.account.clone(), name.to_owned());
            self.held.wanted.load().contains(&of_account)
        };
        match manner {
            Manner::AnyName => {
                let hostname = self.certificate(&self.hostname, offered);
                hostname.or_else(|| usable(self.provisional.iter(), offered))
            }
            Manner::OwnNames if name == self.hostname || known() => {
                usable(self.provisional.iter(), offered)
            }
            Manner::OwnNames | Manner::CertifiedNames => None,
        }
    }

    fn certificate(&self, name: &str, offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let all = self.held.certificates.load();
        let entries = all.get(name)?;
        let is_host_key = |id: &str| self.host_keys.iter().any(|key| key.id == id);
        let by_host_key = name == self.hostname && !self.host_keys.is_empty();
        let suited = |entry: &&Entry| {
            let by_right_key = !by_host_key || is_host_key(&entry.key_id);
            entry.account == self.account && by_right_key
        };
        usable(
            entries.iter().filter(suited).map(|it| &it.certified),
            offered,
        )
    }
}

/// The first certificate whose key makes a signature that the client understands.
fn usable<'a>(
    mut certificates: impl Iterator<Item = &'a Arc<CertifiedKey>>,
    offered: &[SignatureScheme],
) -> Option<Arc<CertifiedKey>> {
    let found = certificates.find(|it| it.key.choose_scheme(offered).is_some());
    found.cloned()
}

struct Resolver {
    issued: Arc<Issued>,
    manner: Manner,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (named, offered) = (hello.server_name(), hello.signature_schemes());
        self.issued.choose(self.manner, named, offered)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("issued", &self.issued)
            .field("manner", &self.manner)
            .finish()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("account", &self.account)
            .field("hostname", &self.hostname)
            .field("host_keys", &self.host_keys)
            .finish_non_exhaustive()
    }
}

/// A new P-256 key, to sign requests and handshakes.
pub(super) fn new_key() -> anyhow::Result<(KeyPair, Arc<dyn SigningKey>)> {
    let pair = KeyPair::generate().context("failed to make a key")?;
    let signing = signing_key(&pair.serialize_der())?;
    Ok((pair, signing))
}

fn signing_key(pkcs8: &[u8]) -> anyhow::Result<Arc<dyn SigningKey>> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    aws_lc_rs::sign::any_supported_type(&key).context("the key can't be used")
}

fn self_signed(
    name: &str,
    pair: &KeyPair,
    signing: Arc<dyn SigningKey>,
) -> anyhow::Result<Arc<CertifiedKey>> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "postrider, waiting for a certificate");
    params.distinguished_name = subject;
    let certificate = params.self_signed(pair)?;
    let chain = vec![certificate.der().clone()];
    Ok(Arc::new(CertifiedKey::new(chain, signing)))
}

/// A certificate for use in handshakes. `host_key` is the key if it is a host key.
///
/// # Errors
/// If the chain is not PEM, is not for the name, or does not belong to the key.
pub(super) fn certified(
    certificate: &AcmeCertificate,
    host_key: Option<&HostKey>,
) -> anyhow::Result<Arc<CertifiedKey>> {
    let signing = match host_key {
        Some(key) => Arc::clone(&key.signing),
        None => signing_key(&certificate.key)?,
    };
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes());
    let chain: Vec<CertificateDer<'static>> = chain
        .collect::<Result<_, _>>()
        .context("the chain is not PEM")?;
    let Some(first) = chain.first() else {
        bail!("the chain is empty");
    };
    let parsed = ParsedCertificate::try_from(first).context("the certificate is not X.509")?;
    let name = ServerName::try_from(certificate.name.as_str()).context("the name is not valid")?;
    verify_server_name(&parsed, &name)
        .with_context(|| format!("the certificate is not for {}", certificate.name))?;
    let pair = CertifiedKey::new(chain, signing);
    pair.keys_match()
        .context("the certificate is for another key")?;
    Ok(Arc::new(pair))
}

/// The beginning and the end of the first certificate of a chain in PEM.
///
/// # Errors
/// If the chain has no certificate.
pub(super) fn validity(chain: &str) -> anyhow::Result<(Time, Time)> {
    let first = CertificateDer::from_pem_slice(chain.as_bytes());
    let first = first.context("the chain has no certificate in PEM")?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(&first).context("the certificate is not X.509")?;
    let validity = parsed.validity();
    let (begins, ends) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    Ok((time(begins), time(ends)))
}

#[cfg(test)]
mod tests {
    use rcgen::{Issuer, PKCS_RSA_SHA256, RsaKeySize};

    use super::*;

    const ANY: &[SignatureScheme] = &[
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::RSA_PSS_SHA256,
    ];
    const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];

    /// A certificate from a CA that nobody trusts.
    fn issue(name: &str, key: &KeyPair, key_id: &str) -> AcmeCertificate {
        let ca = KeyPair::generate().unwrap();
        let issuer = Issuer::new(CertificateParams::new(Vec::new()).unwrap(), ca);
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let chain = params.signed_by(key, &issuer).unwrap().pem();
        let (begins, ends) = validity(&chain).unwrap();
        let own = key_id.is_empty();
        AcmeCertificate {
            directory: "https://ca.example".into(),
            name: name.into(),
            key_id: key_id.into(),
            key: if own { key.serialize_der() } else { Vec::new() },
            chain,
            begins,
            ends,
        }
    }

    fn add(held: &Held, account: &str, name: &str) {
        let issued = issue(name, &KeyPair::generate().unwrap(), "");
        held.add(account, &issued, certified(&issued, None).unwrap());
    }

    fn want(held: &Held, account: &str, name: &str) {
        held.want(std::iter::once(&Wanted {
            account: account.into(),
            name: name.into(),
            key_id: String::new(),
        }));
    }

    /// The first DNS name of the chosen certificate; with a mark if it is self-signed.
    fn shown(issued: &Issued, manner: Manner, named: Option<&str>) -> String {
        let Some(chosen) = issued.choose(manner, named, ANY) else {
            return "alert".into();
        };
        let (_, parsed) = x509_parser::parse_x509_certificate(&chosen.cert[0]).unwrap();
        let mark = match parsed.subject().to_string().contains("waiting") {
            true => "self-signed",
            false => "issued",
        };
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        let name = names.value.general_names[0].to_string();
        format!("{mark} {name}")
    }

    #[test]
    fn each_service_has_its_manner() {
        use Manner::{AnyName, CertifiedNames, OwnNames};
        let held = Arc::new(Held::default());
        let issued = Issued::new(Arc::clone(&held), "ca", "mx.example", Vec::new()).unwrap();
        want(&held, "ca", "mail.d.example");
        let own = "self-signed DNSName(mx.example)";
        let names = [
            None,
            Some("mx.example"),
            Some("mail.d.example"),
            Some("x.example"),
        ];
        let all = |manner| names.map(|name| shown(&issued, manner, name));
        assert_eq!(all(AnyName), [own; 4]);
        assert_eq!(all(OwnNames), [own, own, own, "alert"]);
        assert_eq!(all(CertifiedNames), ["alert"; 4]);

        add(&held, "ca", "mx.example");
        add(&held, "other", "mail.d.example");
        add(&held, "other", "x.example");
        let host = "issued DNSName(mx.example)";
        assert_eq!(all(AnyName), [host; 4]);
        assert_eq!(all(OwnNames), [host, host, own, "alert"]);
        assert_eq!(all(CertifiedNames), [host, host, "alert", "alert"]);

        add(&held, "ca", "mail.d.example");
        let mail = "issued DNSName(mail.d.example)";
        assert_eq!(all(AnyName), [host, host, mail, host]);
        assert_eq!(all(CertifiedNames), [host, host, mail, "alert"]);
        assert_eq!(shown(&issued, CertifiedNames, Some("MAIL.d.Example")), mail);
    }

    #[test]
    fn a_client_gets_a_certificate_with_a_host_key_that_it_understands() {
        let held = Arc::new(Held::default());
        let p256 = HostKey::p256();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rsa.pem");
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        postrider_config::replace_private(&file, rsa.serialize_pem().as_ref()).unwrap();
        let rsa = HostKey::read(&file).unwrap();
        let keys = vec![rsa.clone(), p256.clone()];
        let issued = Issued::new(Arc::clone(&held), "ca", "mx.example", keys).unwrap();
        let id = |offered| {
            let chosen = issued.choose(Manner::AnyName, None, offered)?;
            let public = chosen.key.public_key()?;
            let keys = [&rsa, &p256].into_iter();
            let mut keys = keys.filter(|key| key.signing.public_key().as_ref() == Some(&public));
            keys.next().map(|key| key.id.clone())
        };
        for round in ["self-signed", "issued"] {
            assert_eq!(id(ANY), Some(p256.id.clone()), "{round}");
            assert_eq!(id(RSA), Some(rsa.id.clone()), "{round}");
            assert_eq!(id(&[SignatureScheme::ED25519]), None, "{round}");
            // One with a key of its own would make the TLSA record wrong.
            add(&held, "ca", "mx.example");
            for key in [&rsa, &p256] {
                let new = issue("mx.example", &key.pair, &key.id);
                held.add("ca", &new, certified(&new, Some(key)).unwrap());
            }
        }
    }

    #[test]
    fn a_chain_that_does_not_fit_is_refused() {
        let key = KeyPair::generate().unwrap();
        let good = issue("mx.example", &key, "");
        assert!(certified(&good, None).is_ok());
        let other = KeyPair::generate().unwrap().serialize_der();
        for (bad, part) in [
            (
                AcmeCertificate {
                    key: other,
                    ..good.clone()
                },
                "another key",
            ),
            (
                AcmeCertificate {
                    key: vec![1],
                    ..good.clone()
                },
                "can't be used",
            ),
            (
                AcmeCertificate {
                    chain: "x".into(),
                    ..good.clone()
                },
                "is empty",
            ),
            (
                AcmeCertificate {
                    name: "b.example".into(),
                    ..good
                },
                "not for b.example",
            ),
        ] {
            let error = format!("{:#}", certified(&bad, None).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        assert!(validity("x").is_err());
    }

    #[test]
    fn a_new_certificate_takes_the_place_of_the_old_one() {
        let held = Held::default();
        let wanted = Wanted {
            account: "ca".into(),
            name: "a.example".into(),
            key_id: String::new(),
        };
        assert_eq!(held.validity(&wanted), None);
        add(&held, "ca", "a.example");
        add(&held, "ca", "a.example");
        let all = held.certificates.load();
        assert_eq!(all["a.example"].len(), 1);
        let entry = &all["a.example"][0];
        assert_eq!(held.validity(&wanted), Some((entry.begins, entry.ends)));
    }
}
