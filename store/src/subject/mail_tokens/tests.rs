//! Tokens that this server gives out, on both engines.

use super::*;
use crate::{
    Credential, CredentialChange,
    tests::{samples::at, verbs::on_both},
};

/// A token with a digest of this byte, from second 1 to second 100.
pub(super) fn token(byte: u8, account: &str, kind: MailTokenKind) -> NewMailToken {
    NewMailToken {
        hash: [byte; 32],
        account: account.into(),
        address: format!("{account}@example.org"),
        kind,
        created: at(1),
        until: at(100),
    }
}

async fn give(store: &Store, byte: u8, account: &str) -> MailTokenId {
    let given = store.give_mail_token(token(byte, account, MailTokenKind::Mail));
    given.await.unwrap()
}

async fn ids(store: &Store, account: &str) -> Vec<u64> {
    let all = store.mail_tokens(account).await.unwrap();
    all.iter().map(|token| token.id.0).collect()
}

#[tokio::test]
async fn a_token_is_found_by_its_digest_until_it_ends() {
    on_both(|store| async move {
        let first = give(&store, 1, "ann").await;
        give(&store, 2, "bob").await;
        store.checkpoint().await;
        let expected = token(1, "ann", MailTokenKind::Mail).token(first);
        let found = async |byte| store.mail_token(&[byte; 32]).await.unwrap();
        assert_eq!(found(1).await, Some(expected));
        assert_eq!(found(3).await, None);
        assert!(store.end_mail_token(first).await.unwrap());
        assert!(!store.end_mail_token(first).await.unwrap());
        assert_eq!(found(1).await, None);
        assert!(found(2).await.is_some());
        assert_eq!(store.expire(at(99), 9).await.unwrap(), 0);
        assert_eq!(store.expire(at(100), 9).await.unwrap(), 1);
        assert_eq!(found(2).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_new_password_and_the_end_of_the_account_end_the_tokens() {
    on_both(|store| async move {
        give(&store, 1, "ann").await;
        give(&store, 2, "bob").await;
        let change = async |change| {
            let changed = store.change_credential("ann", change, at(2)).await;
            assert!(changed.unwrap());
        };
        let otp = CredentialChange {
            otp: Some(None),
            ..CredentialChange::default()
        };
        change(otp).await;
        assert_eq!(ids(&store, "ann").await, [1]);
        let password = CredentialChange {
            argon2: Some("$argon2id$new".into()),
            ..CredentialChange::default()
        };
        change(password).await;
        assert_eq!(ids(&store, "ann").await, [0; 0]);
        give(&store, 3, "ann").await;
        store.set_credential("ann", None).await.unwrap();
        assert_eq!(ids(&store, "ann").await, [0; 0]);
        give(&store, 4, "ann").await;
        let credential = Some(Credential::default());
        store.set_credential("ann", credential).await.unwrap();
        assert_eq!(ids(&store, "ann").await, [0; 0]);
        assert_eq!(ids(&store, "bob").await, [2]);
        assert_eq!(store.end_mail_tokens("bob").await.unwrap(), 1);
        assert_eq!(ids(&store, "bob").await, [0; 0]);
    })
    .await;
}

#[tokio::test]
async fn the_oldest_token_of_a_kind_makes_room() {
    on_both(|store| async move {
        let user = token(200, "ann", MailTokenKind::User);
        store.give_mail_token(user).await.unwrap();
        let most = u8::try_from(MAIL_TOKENS_MAX).unwrap();
        for byte in 1..=most {
            give(&store, byte, "ann").await;
        }
        store.checkpoint().await;
        give(&store, 201, "ann").await;
        let left = ids(&store, "ann").await;
        assert_eq!(left.len(), MAIL_TOKENS_MAX + 1);
        assert_eq!(left[..2], [1, 3]);
    })
    .await;
}

/// A token that ended after the backup was made must not be good again.
#[tokio::test]
async fn a_restored_store_has_no_tokens() {
    on_both(|store| async move {
        give(&store, 1, "ann").await;
        store.checkpoint().await;
        store.restored(at(2)).await.unwrap();
        assert_eq!(ids(&store, "ann").await, [0; 0]);
        assert_eq!(give(&store, 2, "ann").await.0, 1_000_002);
    })
    .await;
}
