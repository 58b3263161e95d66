//! Sessions of web pages on both engines.

use super::*;
use crate::{
    Credential, CredentialChange,
    tests::{samples::at, verbs::on_both},
};

/// A session with a digest of this byte that begins at second 1 and ends at second 100.
pub(super) fn session(byte: u8, owner: WebSessionOwner) -> NewWebSession {
    NewWebSession {
        hash: [byte; 32],
        owner,
        login: "ann@example.org".into(),
        created: at(1),
        until: at(100),
        ip: Some([192, 0, 2, 1].into()),
        browser: "Firefox".into(),
    }
}

fn ann() -> WebSessionOwner {
    WebSessionOwner::Account("ann".into())
}

fn bob() -> WebSessionOwner {
    WebSessionOwner::Account("bob".into())
}

async fn begin(store: &Store, byte: u8, owner: WebSessionOwner) -> WebSessionId {
    let begun = store.begin_web_session(session(byte, owner)).await;
    begun.unwrap()
}

async fn ids(store: &Store, owner: Option<WebSessionOwner>) -> Vec<u64> {
    let all = store.web_sessions(owner).await.unwrap();
    all.iter().map(|session| session.id.0).collect()
}

#[tokio::test]
async fn a_session_is_found_by_its_digest_until_it_ends() {
    on_both(|store| async move {
        let first = begin(&store, 1, ann()).await;
        begin(&store, 2, WebSessionOwner::Admin).await;
        store.checkpoint().await;
        let expected = session(1, ann()).session(first);
        let found = async |byte| store.web_session(&[byte; 32]).await.unwrap();
        assert_eq!(found(1).await, Some(expected.clone()));
        assert_eq!(found(3).await, None);
        let used = |now, until, proven| WebSessionUse {
            id: first,
            now: at(now),
            until: at(until),
            ip: None,
            proven,
        };
        assert!(store.use_web_session(used(5, 200, false)).await.unwrap());
        let mut expected = WebSession {
            last_used: at(5),
            until: at(200),
            ip: None,
            ..expected
        };
        assert_eq!(found(1).await, Some(expected.clone()));
        assert!(store.use_web_session(used(6, 300, true)).await.unwrap());
        (expected.last_used, expected.proven, expected.until) = (at(6), at(6), at(300));
        assert_eq!(found(1).await, Some(expected));
        assert!(store.end_web_session(first).await.unwrap());
        assert!(!store.end_web_session(first).await.unwrap());
        assert!(!store.use_web_session(used(7, 300, true)).await.unwrap());
        assert_eq!(found(1).await, None);
        assert_eq!(ids(&store, None).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn sessions_go_when_their_time_is_over() {
    on_both(|store| async move {
        begin(&store, 1, ann()).await;
        let second = begin(&store, 2, ann()).await;
        store.checkpoint().await;
        let used = WebSessionUse {
            id: second,
            now: at(50),
            until: at(150),
            ip: None,
            proven: false,
        };
        store.use_web_session(used).await.unwrap();
        assert_eq!(store.expire(at(99), 9).await.unwrap(), 0);
        assert_eq!(store.expire(at(100), 9).await.unwrap(), 1);
        assert_eq!(ids(&store, Some(ann())).await, [2]);
        assert_eq!(store.web_session(&[1; 32]).await.unwrap(), None);
        assert_eq!(store.expire(at(150), 9).await.unwrap(), 1);
        assert_eq!(ids(&store, None).await, [0; 0]);
    })
    .await;
}

#[tokio::test]
async fn all_sessions_of_one_owner_end_but_the_present_one() {
    on_both(|store| async move {
        for (byte, owner) in [(1, ann()), (2, bob()), (3, ann()), (4, ann())] {
            begin(&store, byte, owner).await;
        }
        begin(&store, 5, WebSessionOwner::Admin).await;
        let end = async |owner, except| store.end_web_sessions(owner, except).await.unwrap();
        assert_eq!(end(ann(), Some(WebSessionId(3))).await, 2);
        assert_eq!(ids(&store, None).await, [2, 3, 5]);
        assert_eq!(ids(&store, Some(ann())).await, [3]);
        assert_eq!(end(WebSessionOwner::Admin, None).await, 1);
        // An account may have the name that the administrator has.
        let namesake = WebSessionOwner::Account("admin".into());
        begin(&store, 6, namesake).await;
        assert_eq!(end(WebSessionOwner::Admin, None).await, 0);
        assert_eq!(ids(&store, None).await, [2, 3, 6]);
    })
    .await;
}

#[tokio::test]
async fn a_new_password_and_a_removed_credential_end_the_sessions() {
    on_both(|store| async move {
        let begin_all = async || {
            for (byte, owner) in [(1, ann()), (2, bob()), (3, WebSessionOwner::Admin)] {
                begin(&store, byte, owner).await;
            }
        };
        begin_all().await;
        let change = async |change| {
            let changed = store.change_credential("ann", change, at(2)).await;
            assert!(changed.unwrap());
        };
        // Whatever leaves the password as it is leaves the sessions.
        let otp = CredentialChange {
            otp: Some(None),
            ..CredentialChange::default()
        };
        change(otp).await;
        assert_eq!(ids(&store, None).await, [1, 2, 3]);
        let password = CredentialChange {
            argon2: Some("$argon2id$new".into()),
            ..CredentialChange::default()
        };
        change(password).await;
        assert_eq!(ids(&store, None).await, [2, 3]);
        begin(&store, 4, ann()).await;
        store.set_credential("ann", None).await.unwrap();
        assert_eq!(ids(&store, None).await, [2, 3]);
        begin(&store, 5, ann()).await;
        let credential = Some(Credential::default());
        store.set_credential("ann", credential).await.unwrap();
        assert_eq!(ids(&store, None).await, [2, 3]);
    })
    .await;
}

#[tokio::test]
async fn the_session_that_was_used_longest_ago_makes_room() {
    on_both(|store| async move {
        let most = u8::try_from(WEB_SESSIONS_MAX).unwrap();
        for byte in 1..=most {
            begin(&store, byte, ann()).await;
        }
        begin(&store, 200, bob()).await;
        let used = WebSessionUse {
            id: WebSessionId(1),
            now: at(9),
            until: at(100),
            ip: None,
            proven: false,
        };
        store.use_web_session(used).await.unwrap();
        store.checkpoint().await;
        begin(&store, 201, ann()).await;
        let left = ids(&store, Some(ann())).await;
        assert_eq!(left.len(), WEB_SESSIONS_MAX);
        assert_eq!(left[..2], [1, 3]);
        assert_eq!(ids(&store, Some(bob())).await.len(), 1);
    })
    .await;
}

/// Who ended a session after the backup was made must not find it alive again.
#[tokio::test]
async fn a_restored_store_has_no_sessions() {
    on_both(|store| async move {
        begin(&store, 1, ann()).await;
        begin(&store, 2, WebSessionOwner::Admin).await;
        store.checkpoint().await;
        store.restored(at(2)).await.unwrap();
        assert_eq!(ids(&store, None).await, [0; 0]);
        assert_eq!(begin(&store, 3, ann()).await.0, 1_000_003);
    })
    .await;
}
