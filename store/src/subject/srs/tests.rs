//! Sender rewriting on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

fn key(secret: u8, since: i64) -> SrsKey {
    SrsKey {
        secret: [secret; 32],
        since: at(since),
    }
}

fn sender(address: &str, keep_until: i64) -> SrsSender {
    SrsSender {
        address: address.parse().unwrap(),
        keep_until: at(keep_until),
    }
}

#[tokio::test]
async fn two_keys_are_kept_and_only_an_old_one_gets_a_successor() {
    on_both(|store| async move {
        assert_eq!(store.srs_keys().await.unwrap(), []);
        let keys = store.rotate_srs_key(key(1, 10), at(0)).await.unwrap();
        assert_eq!(keys, [key(1, 10)]);
        // Somebody else was first.
        let keys = store.rotate_srs_key(key(2, 11), at(5)).await.unwrap();
        assert_eq!(keys, [key(1, 10)]);
        store.checkpoint().await;
        for (secret, expected) in [(3, [3, 1]), (4, [4, 3])] {
            let since = i64::from(secret) * 10;
            let keys = store.rotate_srs_key(key(secret, since), at(since));
            let keys = keys.await.unwrap();
            assert_eq!([keys[0].secret[0], keys[1].secret[0]], expected);
        }
        assert!(!format!("{:?}", key(201, 1)).contains("201"));
    })
    .await;
}

#[tokio::test]
async fn senders_are_kept_until_their_time_is_over() {
    on_both(|store| async move {
        for (name, end) in [("one", 10), ("two", 20), ("one", 30)] {
            let kept = sender(&format!("{name}@a.example"), end);
            store.keep_srs_sender(name, kept).await.unwrap();
            store.checkpoint().await;
        }
        let one = store.srs_sender("one").await.unwrap();
        assert_eq!(one, Some(sender("one@a.example", 30)));
        assert_eq!(store.expire(at(20), 100).await.unwrap(), 1);
        assert_eq!(store.srs_sender("two").await.unwrap(), None);
        assert!(store.srs_sender("one").await.unwrap().is_some());
        assert_eq!(store.expire(at(30), 100).await.unwrap(), 1);
        assert_eq!(store.srs_sender("one").await.unwrap(), None);
        assert_eq!(store.expire(at(30), 100).await.unwrap(), 0);
    })
    .await;
}
