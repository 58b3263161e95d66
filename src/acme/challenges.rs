//! The answers to a CA that checks whether a name leads to this server: by HTTP (http-01, RFC 8555
//! §8.3) and within a TLS handshake (tls-alpn-01, RFC 8737).

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The ALPN protocol of tls-alpn-01.
pub const PROTOCOL: &[u8] = b"acme-tls/1";
/// Where a CA asks over HTTP. The token follows.
const FOLDER: &str = "/.well-known/acme-challenge/";

/// The ways in which this server can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// tls-alpn-01, at port 443.
    TlsAlpn,
    /// http-01, at port 80.
    Http,
}

/// The ways that these ports allow, the best first. A port that a CA does not connect to is of use
/// only if another port is forwarded to it.
pub(super) fn ways(https: &[u16], http: &[u16]) -> Vec<Way> {
    let mut ways = Vec::new();
    if !https.is_empty() {
        ways.push(Way::TlsAlpn);
    }
    if !http.is_empty() {
        let first = http.contains(&80) && !https.contains(&443);
        ways.insert(if first { 0 } else { ways.len() }, Way::Http);
    }
    ways
}

/// The challenges that wait for a CA.
#[derive(Default)]
pub struct Challenges(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The content by token.
    tokens: HashMap<String, String>,
    /// The certificate by domain name.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

/// An answer that is given until this value is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Answer {
    challenges: Arc<Challenges>,
    of: Of,
}

#[derive(Debug)]
enum Of {
    Token(String),
    Name(String),
}

impl Challenges {
    /// The content of a path on the HTTP port. None: the path is no challenge that waits.
    #[must_use]
    pub fn http(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(FOLDER)?;
        self.waiting().tokens.get(token).cloned()
    }

    /// Answers over HTTP from now on.
    pub(super) fn answer_http(self: &Arc<Self>, token: &str, content: &str) -> Answer {
        let mut waiting = self.waiting();
        waiting.tokens.insert(token.to_owned(), content.to_owned());
        Answer {
            challenges: Arc::clone(self),
            of: Of::Token(token.to_owned()),
        }
    }

    /// Answers within TLS from now on, with the SHA-256 of the key authorization.
    ///
    /// # Errors
    /// If the certificate can't be made.
    pub(super) fn answer_tls(
        self: &Arc<Self>,
        name: &str,
        digest: &[u8],
    ) -> anyhow::Result<Answer> {
        let certified = certificate(name, digest)?;
        let mut waiting = self.waiting();
        waiting
            .certificates
            .insert(name.to_owned(), Arc::new(certified));
        Ok(Answer {
            challenges: Arc::clone(self),
            of: Of::Name(name.to_owned()),
        })
    }

    /// Whether the client is a CA that checks a name: it offers the one protocol and no other.
    fn is_check(hello: &ClientHello<'_>) -> bool {
        let mut offered = hello.alpn().into_iter().flatten();
        offered.next() == Some(PROTOCOL) && offered.next().is_none()
    }

    fn tls(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.waiting().certificates.get(&name).cloned()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificates of an HTTPS port: those of `others`, and the answers to CAs.
    #[must_use]
    pub fn beside(
        self: &Arc<Self>,
        others: Arc<dyn ResolvesServerCert>,
    ) -> Arc<dyn ResolvesServerCert> {
        let challenges = Arc::clone(self);
        Arc::new(Beside { challenges, others })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut waiting = self.challenges.waiting();
        match &self.of {
            Of::Token(token) => drop(waiting.tokens.remove(token)),
            Of::Name(name) => drop(waiting.certificates.remove(name)),
        }
    }
}

/// A self-signed certificate with the extension of RFC 8737 §3.
fn certificate(name: &str, digest: &[u8]) -> anyhow::Result<CertifiedKey> {
    anyhow::ensure!(digest.len() == 32, "the digest of a challenge has 32 bytes");
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&pair)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).context("the new key can't be used")?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[derive(Debug)]
struct Beside {
    challenges: Arc<Challenges>,
    others: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for Beside {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if Challenges::is_check(&hello) {
            return self.challenges.tls(hello.server_name()?);
        }
        self.others.resolve(hello)
    }
}

/// Hides the contents.
impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting();
        let count = waiting.tokens.len() + waiting.certificates.len();
        write!(f, "Challenges({count} wait)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_follows_from_the_ports() {
        use Way::{Http, TlsAlpn};
        for (https, http, expected) in [
            (&[443][..], &[80][..], &[TlsAlpn, Http][..]),
            (&[443], &[8080], &[TlsAlpn, Http]),
            (&[8443], &[80], &[Http, TlsAlpn]),
            (&[8443], &[8080], &[TlsAlpn, Http]),
            (&[443], &[], &[TlsAlpn]),
            (&[], &[8080], &[Http]),
            (&[], &[], &[]),
        ] {
            assert_eq!(ways(https, http), expected, "{https:?} {http:?}");
        }
    }

    #[test]
    fn an_answer_is_given_until_it_is_dropped() {
        let challenges = Arc::new(Challenges::default());
        let path = |token: &str| format!("{FOLDER}{token}");
        let (one, other) = (
            challenges.answer_http("one", "one.key"),
            challenges.answer_http("other", "other.key"),
        );
        let named = challenges.answer_tls("a.example", &[7; 32]).unwrap();
        assert_eq!(challenges.http(&path("one")).as_deref(), Some("one.key"));
        assert_eq!(challenges.http("one"), None);
        let found = challenges.tls("A.example").unwrap();
        let (_, found) = x509_parser::parse_x509_certificate(&found.cert[0]).unwrap();
        let extension = found.extensions().iter().find(|extension| {
            extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31" && extension.critical
        });
        assert_eq!(&extension.unwrap().value[2..], [7; 32]);
        drop((one, named));
        assert_eq!(challenges.http(&path("one")), None);
        assert!(challenges.tls("a.example").is_none());
        assert!(challenges.http(&path("other")).is_some());
        drop(other);
        assert!(challenges.answer_tls("a.example", &[7; 31]).is_err());
    }
}
