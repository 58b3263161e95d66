//! What TLS proves to SASL: the channel (RFC 5929, RFC 9266) and the key of the client.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use rustls::{ConnectionCommon, ServerConnection};
use x509_parser::{
    der_parser::Oid,
    oid_registry::{
        OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512,
        OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
    },
    parse_x509_certificate,
    signature_algorithm::SignatureAlgorithm,
    x509::AlgorithmIdentifier,
};

use super::{
    Evidence, Login, Mechanism, Pending, Step, Terms, Then, key::key_fingerprint, malformed,
};

/// What the TLS of a connection proves to SASL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsProof {
    /// The names of the channel. None under TLS 1.2, whose channels two connections may share (RFC
    /// 9266 §3).
    pub bindings: Option<ChannelBindings>,
    /// The fingerprint of the key in the client's certificate. None without a certificate, if it
    /// can't be read, and if its key may not log in.
    pub client_key: Option<String>,
}

/// Names of a TLS channel, for mechanisms that bind a login to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBindings {
    /// `tls-exporter` (RFC 9266).
    pub exporter: [u8; 32],
    /// `tls-server-end-point` (RFC 5929 §4): the hash of the server's certificate. None if the
    /// signature of the certificate has no hash function of its own, such as Ed25519.
    pub end_point: Option<Vec<u8>>,
}

impl TlsProof {
    /// The proof of a connection after its handshake. `shown` is the server's own certificate in
    /// DER.
    #[must_use]
    pub fn of(connection: &ServerConnection, shown: Option<&[u8]>) -> Self {
        let peer = connection.peer_certificates().unwrap_or_default().first();
        Self {
            bindings: bindings(connection, shown),
            client_key: peer.and_then(|peer| key_fingerprint(peer)),
        }
    }
}

fn bindings(connection: &ServerConnection, shown: Option<&[u8]>) -> Option<ChannelBindings> {
    Some(ChannelBindings {
        exporter: exporter(&**connection)?,
        end_point: shown.and_then(end_point),
    })
}

/// The value of `tls-exporter` (RFC 9266), which both sides of a connection know. None under TLS
/// 1.2.
pub(crate) fn exporter<D>(connection: &ConnectionCommon<D>) -> Option<[u8; 32]> {
    let version = connection.protocol_version();
    if version != Some(rustls::ProtocolVersion::TLSv1_3) {
        return None;
    }
    let exporter = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None);
    exporter.ok()
}

/// The hash of a certificate with the hash function of its signature. MD5 and SHA-1 become SHA-256.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let hash = hash_of(&parsed.signature_algorithm)?;
    Some(digest(hash, certificate).as_ref().to_vec())
}

/// The hash function of a signature. None if it has no hash function of its own.
fn hash_of(signature: &AlgorithmIdentifier<'_>) -> Option<&'static Algorithm> {
    match SignatureAlgorithm::try_from(signature) {
        Ok(SignatureAlgorithm::RSASSA_PSS(pss)) => hash_by(pss.hash_algorithm_oid()),
        _ => hash_by(&signature.algorithm),
    }
}

fn hash_by(oid: &Oid<'_>) -> Option<&'static Algorithm> {
    let sha256 = [
        OID_PKCS1_MD5WITHRSAENC,
        OID_PKCS1_SHA1WITHRSA,
        OID_HASH_SHA1,
        OID_PKCS1_SHA256WITHRSA,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_NIST_HASH_SHA256,
    ];
    let sha384 = [
        OID_PKCS1_SHA384WITHRSA,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_NIST_HASH_SHA384,
    ];
    let sha512 = [
        OID_PKCS1_SHA512WITHRSA,
        OID_SIG_ECDSA_WITH_SHA512,
        OID_NIST_HASH_SHA512,
    ];
    if sha256.contains(oid) {
        Some(&SHA256)
    } else if sha384.contains(oid) {
        Some(&SHA384)
    } else if sha512.contains(oid) {
        Some(&SHA512)
    } else {
        None
    }
}

/// The one response of EXTERNAL: the user to act as, which may be empty.
pub(super) fn external(response: &[u8], terms: Terms<'_>) -> Step {
    let user = std::str::from_utf8(response).ok();
    let user = user.filter(|user| !user.contains('\0'));
    let (Some(user), Some(key)) = (user, terms.client_key()) else {
        return malformed("not a response of EXTERNAL");
    };
    let login = Login {
        mechanism: Mechanism::External,
        authorization: user.to_owned(),
        user: String::new(),
        evidence: Evidence::Certificate(key.to_owned()),
    };
    Pending::step(login, Then::Verdict)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn certificate(key: &KeyPair) -> Vec<u8> {
        let params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.self_signed(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_fingerprint_belongs_to_the_key() {
        let keys = [(); 2].map(|()| KeyPair::generate().unwrap());
        let prints = keys.each_ref().map(|key| {
            let (one, two) = (certificate(key), certificate(key));
            let print = key_fingerprint(&one).unwrap();
            assert_eq!(key_fingerprint(&two).unwrap(), print);
            assert_eq!(print.len(), 43);
            print
        });
        assert_ne!(prints[0], prints[1]);
        assert_eq!(key_fingerprint(b"no certificate"), None);
    }

    #[test]
    fn the_end_point_has_the_hash_of_the_signature() {
        let made = |algorithm: &'static SignatureAlgorithm| {
            certificate(&KeyPair::generate_for(algorithm).unwrap())
        };
        let p256 = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(end_point(&p256).unwrap(), digest(&SHA256, &p256).as_ref());
        let p384 = made(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point(&p384).unwrap(), digest(&SHA384, &p384).as_ref());
        // RFC 5929 §4.1 leaves this undefined.
        assert_eq!(end_point(&made(&rcgen::PKCS_ED25519)), None);
        assert_eq!(end_point(b"no certificate"), None);
    }
}
