use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use sha2::{Digest, Sha256};

use super::{super::verifiers::provider, *};

fn testdata(file: &str) -> String {
    format!("{}/../testdata/tls/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// A server that shows this certificate whatever its key is.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Shows {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A handshake with a server that has this certificate and key, checked by its digest.
fn shake(
    version: &'static SupportedProtocolVersion,
    certificate: &CertificateDer<'static>,
    key: &PrivateKeyDer<'static>,
) -> Result<(), Error> {
    let record = postrider_dns::Tlsa {
        usage: 3,
        selector: 0,
        matching: 1,
        data: Sha256::digest(certificate).to_vec(),
    };
    let verifier = DaneVerifier {
        check: DaneCheck {
            records: TlsaSet::of(&[record]),
            base: "mx.test".to_owned(),
            names: vec!["mx.test".to_owned()],
        },
        provider: provider(),
    };
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let key = provider().key_provider.load_private_key(key.clone_key());
    let shown = CertifiedKey::new(vec![certificate.clone()], key.unwrap());
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(Arc::new(shown))));
    let name = ServerName::try_from("mx.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn the_server_must_have_the_key_of_its_certificate_also_of_an_odd_one() {
    let made = rcgen::generate_simple_self_signed(["other.test".to_owned()]).unwrap();
    let new = made.cert.der().clone();
    let new_key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let old = CertificateDer::from_pem_file(testdata("version-1.crt")).unwrap();
    let old_key = PrivateKeyDer::from_pem_file(testdata("version-1.key")).unwrap();
    let another = rcgen::KeyPair::generate().unwrap();
    let another = PrivateKeyDer::Pkcs8(another.serialize_der().into());
    for version in [&TLS12, &TLS13] {
        assert_eq!(shake(version, &new, &new_key), Ok(()));
        assert_eq!(shake(version, &old, &old_key), Ok(()));
        assert!(shake(version, &new, &another).is_err());
        assert!(shake(version, &old, &another).is_err());
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let made = rcgen::generate_simple_self_signed(["mx.test".to_owned()]).unwrap();
    let leaf = made.cert.der().clone();
    let check = DaneCheck {
        records: TlsaSet::of(&[postrider_dns::Tlsa {
            usage: 3,
            selector: 1,
            matching: 1,
            data: vec![0; 32],
        }]),
        base: "mx.test".to_owned(),
        names: vec!["mx.test".to_owned()],
    };
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
    let fault = check.check(&[leaf], now, &provider()).unwrap_err();
    assert_eq!(fault.kind, TlsFaultKind::NoTlsaMatch);
    assert_eq!(fault.certificate.as_ref().unwrap().names, ["mx.test"]);
    let text = fault.to_string();
    assert!(
        text.starts_with("no TLSA record matches the certificate (subject"),
        "{text}"
    );
    for (mismatch, kind) in [
        (Mismatch::Names, TlsFaultKind::NameMismatch),
        (Mismatch::AnchorDates, TlsFaultKind::Expired),
        (
            Mismatch::Chain(webpki::Error::UnknownIssuer),
            TlsFaultKind::NoTlsaMatch,
        ),
        (
            Mismatch::Chain(webpki::Error::BadDer),
            TlsFaultKind::BadCertificate,
        ),
    ] {
        assert_eq!(super::fault(&mismatch).0, kind);
    }
}
