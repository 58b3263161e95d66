//! Certificates of clients, and logins with them.

use postrider_smtp::server::{SaslConfig, SessionConfig};
use rcgen::{CertificateParams, CustomExtension, KeyPair, SignatureAlgorithm};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Shown, config, hear, say, start_with, tls_of};

fn with_auth() -> SessionConfig {
    SessionConfig {
        auth: true,
        auth_requires_tls: true,
        sasl: SaslConfig {
            scram: true,
            oauth_scope: None,
        },
        ..config()
    }
}

/// The AUTH line of the reply to EHLO, and the server's answer to AUTH EXTERNAL.
async fn external(
    versions: &[&'static rustls::SupportedProtocolVersion],
    shown: Option<Shown>,
) -> (String, String) {
    let (server, client) = start_with(with_auth(), true, tls_of(versions, shown), b"").await;
    let mut io = server.handshake(Box::new(client)).await;
    hear(&mut io, "220").await;
    let offered = say(&mut io, "EHLO c.example\r\n", "250 ").await;
    let answer = say(&mut io, "AUTH EXTERNAL =\r\nNOOP\r\n", "250 2.0.0").await;
    let line = offered.lines().find(|line| line.contains("AUTH"));
    let answer = answer.lines().next().unwrap_or_default();
    (line.unwrap_or_default().to_owned(), answer.to_owned())
}

fn made_certificate() -> Shown {
    let made = rcgen::generate_simple_self_signed(["client.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    (made.cert.der().clone(), key)
}

#[tokio::test]
async fn a_certificate_of_the_client_logs_in() {
    let scram = "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN";
    let plus = "SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS";
    let tls13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let tls12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    let (offered, answer) = external(tls13, Some(made_certificate())).await;
    assert_eq!(offered, format!("250-AUTH EXTERNAL {plus} {scram}"));
    assert_eq!(answer, "235 2.7.0 logged in");
    let (offered, answer) = external(tls12, Some(made_certificate())).await;
    assert_eq!(offered, format!("250-AUTH EXTERNAL {scram}"));
    assert_eq!(answer, "235 2.7.0 logged in");
    let (offered, answer) = external(tls13, None).await;
    assert_eq!(offered, format!("250-AUTH {plus} {scram}"));
    assert!(answer.starts_with("504 5.5.4"), "{answer}");
}

/// The handshake goes on, and nobody logs in with such a certificate.
#[tokio::test]
async fn a_certificate_that_nobody_can_read_is_no_login() {
    let (_, key) = made_certificate();
    let garbage = CertificateDer::from(b"no certificate".to_vec());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let shown = Some((garbage.clone(), key.clone_key()));
        let (offered, answer) = external(&[version], shown).await;
        assert!(!offered.contains("EXTERNAL"), "{offered}");
        assert!(answer.starts_with("504 5.5.4"), "{answer}");
    }
}

fn from_testdata(name: &str) -> CertificateDer<'static> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/tls");
    CertificateDer::from_pem_file(format!("{dir}/{name}")).unwrap()
}

/// Many programs show a certificate that was made for something else.
#[tokio::test]
async fn keys_that_are_not_taken_do_not_break_the_handshake() {
    let (_, key) = made_certificate();
    for (file, version) in ["rsa-1024.crt", "secp256k1.crt"]
        .into_iter()
        .flat_map(|file| {
            [
                (file, &rustls::version::TLS13),
                (file, &rustls::version::TLS12),
            ]
        })
    {
        // The signature is not looked at, so the key of another certificate does.
        let shown = Some((from_testdata(file), key.clone_key()));
        let (offered, answer) = external(&[version], shown).await;
        assert!(
            offered.contains("AUTH ") && !offered.contains("EXTERNAL"),
            "{file}: {offered}"
        );
        assert!(answer.starts_with("504 5.5.4"), "{file}: {answer}");
    }
}

/// The key counts, and nothing else of a certificate.
#[tokio::test]
async fn certificates_of_any_form_log_in() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/tls");
    let key = PrivateKeyDer::from_pem_file(format!("{dir}/version-1.key")).unwrap();
    let old = (from_testdata("version-1.crt"), key);
    let mut params = CertificateParams::new(["client.example".to_owned()]).unwrap();
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    unknown.set_criticality(true);
    params.custom_extensions = vec![unknown];
    let made = |algorithm: &'static SignatureAlgorithm| {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.self_signed(&pair).unwrap().der().clone();
        (
            certificate,
            PrivateKeyDer::Pkcs8(pair.serialize_der().into()),
        )
    };
    let mut all = vec![old];
    all.extend(
        [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ]
        .map(made),
    );
    for (certificate, key) in all {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let shown = Some((certificate.clone(), key.clone_key()));
            let (_, answer) = external(&[version], shown).await;
            assert_eq!(answer, "235 2.7.0 logged in");
        }
    }
}

/// A key that is not the certificate's proves nothing.
#[tokio::test]
async fn a_stolen_certificate_breaks_the_handshake() {
    let ((certificate, _), (_, other)) = (made_certificate(), made_certificate());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let shown = Some((certificate.clone(), other.clone_key()));
        let (server, client) = start_with(with_auth(), true, tls_of(&[version], shown), b"").await;
        let name = ServerName::try_from("mx.example.org").unwrap();
        let mut heard = String::new();
        if let Ok(stream) = server.tls.connect(name, client).await {
            let _ = BufReader::new(stream).read_line(&mut heard).await;
        }
        assert_eq!(heard, "");
        assert!(server.task.await.unwrap().is_err());
    }
}
