//! ACME on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

const DIRECTORY: &str = "https://ca.example/directory";

fn certificate(name: &str, key_id: &str, ends: i64) -> AcmeCertificate {
    AcmeCertificate {
        directory: DIRECTORY.into(),
        name: name.into(),
        key_id: key_id.into(),
        chain: "chain".into(),
        key: vec![7],
        begins: at(0),
        ends: at(ends),
    }
}

fn failed(name: &str, key_id: &str, tries: u32) -> AcmeTry {
    AcmeTry {
        directory: DIRECTORY.into(),
        name: name.into(),
        key_id: key_id.into(),
        tries,
        next: at(tries.into()),
        reason: "no answer".into(),
    }
}

#[tokio::test]
async fn a_certificate_replaces_the_one_before_and_ends_its_tries() {
    on_both(|store| async move {
        for (name, key_id) in [("a.example", ""), ("a.example", "host"), ("b.example", "")] {
            let last = failed(name, key_id, 1);
            store.set_acme_try(last).await.unwrap();
            store.checkpoint().await;
            store.set_acme_try(failed(name, key_id, 2)).await.unwrap();
        }
        assert_eq!(store.acme_tries().await.unwrap().len(), 3);
        for ends in [10, 20] {
            let issued = certificate("a.example", "", ends);
            store.set_acme_certificate(issued).await.unwrap();
            store.checkpoint().await;
        }
        let all = store.acme_certificates().await.unwrap();
        assert_eq!(all, [certificate("a.example", "", 20)]);
        let tries = store.acme_tries().await.unwrap();
        let left = [failed("a.example", "host", 2), failed("b.example", "", 2)];
        assert_eq!(tries, left);
        store.remove_acme(DIRECTORY, "a.example", "").await.unwrap();
        store.remove_acme(DIRECTORY, "b.example", "").await.unwrap();
        assert_eq!(store.acme_certificates().await.unwrap(), []);
        let tries = store.acme_tries().await.unwrap();
        assert_eq!(tries, [failed("a.example", "host", 2)]);
    })
    .await;
}

#[tokio::test]
async fn there_is_one_account_for_each_directory() {
    on_both(|store| async move {
        let account = |directory: &str, created| AcmeAccount {
            directory: directory.into(),
            eab_key_id: String::new(),
            credentials: "secret".into(),
            created: at(created),
        };
        for (directory, created) in [("one", 1), ("other", 2), ("one", 3)] {
            let account = account(directory, created);
            store.set_acme_account(account).await.unwrap();
        }
        let one = store.acme_account("one").await.unwrap().unwrap();
        assert_eq!(one, account("one", 3));
        assert!(!format!("{one:?}").contains("secret"));
        assert_eq!(store.acme_account("none").await.unwrap(), None);
    })
    .await;
}
