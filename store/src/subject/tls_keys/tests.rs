//! Keys of client certificates on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

pub(super) fn key(fingerprint: &str) -> TlsKey {
    TlsKey {
        fingerprint: fingerprint.into(),
        kind: "ed25519".into(),
        name: "laptop".into(),
        certificate: vec![1, 2, 3],
        account: "ann".into(),
        login: "ann@example.org".parse().unwrap(),
        created: at(1),
        last_used: None,
    }
}

#[tokio::test]
async fn a_key_is_there_once_until_it_is_removed() {
    on_both(|store| async move {
        assert!(store.add_tls_key(key("b")).await.unwrap());
        assert!(store.add_tls_key(key("a")).await.unwrap());
        let other = TlsKey {
            account: "bob".into(),
            ..key("a")
        };
        assert!(!store.add_tls_key(other).await.unwrap());
        store.checkpoint().await;
        assert_eq!(store.tls_keys().await.unwrap(), [key("a"), key("b")]);
        store.use_tls_key("a", at(5)).await.unwrap();
        store.use_tls_key("a", at(4)).await.unwrap();
        store.use_tls_key("gone", at(4)).await.unwrap();
        let used = store.tls_key("a").await.unwrap().unwrap();
        assert_eq!(used.last_used, Some(at(5)));
        assert!(store.remove_tls_key("a").await.unwrap());
        assert!(!store.remove_tls_key("a").await.unwrap());
        assert_eq!(store.tls_key("a").await.unwrap(), None);
        assert_eq!(store.tls_keys().await.unwrap(), [key("b")]);
    })
    .await;
}
