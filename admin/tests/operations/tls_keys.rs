//! Keys of client certificates.

use postrider_admin::op::tls_keys::{Add, List, Remove};
use rcgen::{CertificateParams, KeyPair};

use super::*;

fn certificate(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "laptop of ann");
    params.self_signed(key).unwrap().pem()
}

fn add(login: &str, certificate: &str) -> Add {
    Add {
        login: login.into(),
        name: None,
        certificate: certificate.into(),
    }
}

#[tokio::test]
async fn a_key_is_added_listed_and_removed() {
    let desk = Desk::open();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let added = desk.ask(add("app@example.org", &certificate(&key))).await;
    assert_eq!(
        (added.kind.as_str(), added.account.as_str()),
        ("ed25519", "app")
    );
    assert_eq!(added.name, "laptop of ann");
    assert_eq!(added.fingerprint.len(), 43);
    // Another certificate of the same key is the same key.
    let again = add("app@example.org", &certificate(&key));
    let text = desk.refuses(again, Code::Conflict, "certificate").await;
    assert!(text.contains(&added.fingerprint), "{text}");
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let named = Add {
        name: Some("phone".into()),
        ..add("app@example.org", &certificate(&p256))
    };
    let second = desk.ask(named).await;
    assert_eq!(
        (second.kind.as_str(), second.name.as_str()),
        ("ecdsa-p256", "phone")
    );
    let all = || List { account: None };
    assert_eq!(desk.list(all()).await.len(), 2);
    let remove = || Remove {
        fingerprint: added.fingerprint.clone(),
    };
    desk.ask(remove()).await;
    desk.refuses(remove(), Code::NotFound, "fingerprint").await;
    assert_eq!(desk.list(all()).await, [second]);
}

#[tokio::test]
async fn what_is_no_certificate_of_a_login_is_refused() {
    let desk = Desk::open();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let good = certificate(&key);
    desk.refuses(add("nobody@example.org", &good), Code::NotFound, "login")
        .await;
    for (bad, expected) in [
        ("", "no PEM block"),
        (&key.serialize_pem(), "no PEM block"),
        (&good.repeat(2), "several certificates"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "can't be read",
        ),
        (&"x".repeat(70_000), "longer than"),
    ] {
        let text = desk
            .refuses(add("app@example.org", bad), Code::Invalid, "certificate")
            .await;
        assert!(text.contains(expected), "{text}");
    }
    let unnamed = Add {
        name: Some(" ".into()),
        ..add("app@example.org", &good)
    };
    desk.refuses(unnamed, Code::Invalid, "name").await;
}

#[tokio::test]
async fn an_address_that_a_key_logs_in_by_stays() {
    use postrider_admin::op::config::{accounts, addresses};

    let desk = Desk::open();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let address = "second@example.org";
    desk.ask(addresses::Add {
        address: address.into(),
        account: "app".into(),
    })
    .await;
    let added = desk.ask(add(address, &certificate(&key))).await;
    let remove = || addresses::Remove {
        address: address.into(),
    };
    let text = desk.refuses(remove(), Code::Invalid, "address").await;
    assert!(text.contains("tlspubkey rm"), "{text}");
    desk.ask(Remove {
        fingerprint: added.fingerprint,
    })
    .await;
    desk.ask(remove()).await;
    // The keys of an account go with it.
    desk.ask(accounts::Add {
        account: "bob".into(),
        address: "bob@example.org".into(),
    })
    .await;
    desk.ask(add("bob@example.org", &certificate(&key))).await;
    desk.ask(accounts::Remove {
        account: "bob".into(),
    })
    .await;
    assert!(desk.list(List { account: None }).await.is_empty());
}
