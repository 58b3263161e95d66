//! Logins on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

const DAY: i64 = 24 * 60 * 60;

/// A wrong password at this second.
pub(super) fn attempt(of: LoginOf, second: i64) -> LoginAttempt {
    LoginAttempt {
        id: LoginAttemptId(0),
        of,
        result: "wrong".into(),
        service: "submission".into(),
        mechanism: "plain".into(),
        client: "client.test".into(),
        network: "192.0.2.1".into(),
        key: String::new(),
        login: "ann@example.org".into(),
        ip: [192, 0, 2, 1].into(),
        tls: "TLSv1.3".into(),
        first: at(second),
        last: at(second),
        count: 1,
    }
}

fn ann() -> LoginOf {
    LoginOf::Account("ann".into())
}

async fn list(store: &Store, filter: LoginAttemptFilter) -> Vec<LoginAttempt> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .list_logins(&filter, after, Order::Descending, 400)
            .await
            .unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// The numbers and counts of the records that match.
async fn counts(store: &Store, filter: LoginAttemptFilter) -> Vec<(u64, u64)> {
    let all = list(store, filter).await;
    all.iter().map(|it| (it.id.0, it.count)).collect()
}

#[tokio::test]
async fn logins_that_are_alike_are_one_record_for_a_day() {
    on_both(|store| async move {
        let all = LoginAttemptFilter::default;
        let note = async |attempts| store.note_logins(attempts).await.unwrap();
        let other = |change: fn(&mut LoginAttempt)| {
            let mut other = attempt(ann(), 2);
            change(&mut other);
            other
        };
        note(vec![attempt(ann(), 1)]).await;
        store.checkpoint().await;
        let again =
            other(|it| (it.count, it.login, it.ip) = (3, "ANN".into(), [10, 0, 0, 1].into()));
        note(vec![again.clone()]).await;
        let known = list(&store, all()).await;
        let expected = LoginAttempt {
            id: LoginAttemptId(2),
            first: at(1),
            count: 4,
            ..again
        };
        assert_eq!(known, [expected]);
        let others = vec![
            other(|it| it.of = LoginOf::Nobody),
            other(|it| it.of = LoginOf::Admin),
            other(|it| it.of = LoginOf::Account("admin".into())),
            other(|it| it.result = "ok".into()),
            other(|it| it.service = "webapi".into()),
            other(|it| it.mechanism = "login".into()),
            other(|it| it.client = "other.test".into()),
            other(|it| it.network = "192.0.2.2".into()),
            other(|it| it.key = "shop".into()),
            attempt(ann(), DAY),
        ];
        note(others.clone()).await;
        store.checkpoint().await;
        assert_eq!(list(&store, all()).await.len(), 1 + others.len());
        // The number says when there was the last one.
        note(vec![attempt(ann(), 3)]).await;
        assert_eq!(counts(&store, all()).await[..2], [(13, 5), (12, 1)]);
    })
    .await;
}

#[tokio::test]
async fn records_are_found_by_owner_result_service_and_time() {
    on_both(|store| async move {
        let with = |of, second, result: &str, service: &str| LoginAttempt {
            result: result.into(),
            service: service.into(),
            ..attempt(of, second)
        };
        let all = vec![
            with(ann(), 1, "ok", "submission"),
            with(LoginOf::Admin, 2, "wrong", "admin"),
            with(ann(), 3, "wrong", "webapi"),
            with(LoginOf::Nobody, 4, "wrong", "submission"),
        ];
        store.note_logins(all).await.unwrap();
        store.checkpoint().await;
        let found = async |filter| {
            let found = counts(&store, filter).await;
            found.iter().map(|(id, _)| *id).collect::<Vec<_>>()
        };
        let filter = LoginAttemptFilter::default;
        assert_eq!(found(filter()).await, [4, 3, 2, 1]);
        let of = |of| LoginAttemptFilter {
            of: Some(of),
            ..filter()
        };
        assert_eq!(found(of(ann())).await, [3, 1]);
        assert_eq!(found(of(LoginOf::Admin)).await, [2]);
        assert_eq!(found(of(LoginOf::Nobody)).await, [4]);
        let ok = LoginAttemptFilter {
            result: Some("wrong".into()),
            ..of(ann())
        };
        assert_eq!(found(ok).await, [3]);
        let submission = LoginAttemptFilter {
            service: Some("submission".into()),
            ..filter()
        };
        assert_eq!(found(submission).await, [4, 1]);
        let since = LoginAttemptFilter {
            since: Some(at(3)),
            ..filter()
        };
        assert_eq!(found(since).await, [4, 3]);
        let (all, after) = (filter(), Some(LoginAttemptId(3)));
        let later = store.list_logins(&all, after, Order::Ascending, 2);
        let later = later.await.unwrap();
        assert_eq!((later.items[0].id, later.next), (LoginAttemptId(4), None));
        let page = store
            .list_logins(&filter(), None, Order::Descending, 2)
            .await
            .unwrap();
        assert_eq!((page.items.len(), page.next), (2, Some(LoginAttemptId(3))));
    })
    .await;
}

#[tokio::test]
async fn a_record_goes_thirty_days_after_its_last_login() {
    on_both(|store| async move {
        let old = vec![attempt(ann(), 1), attempt(LoginOf::Nobody, 2)];
        store.note_logins(old).await.unwrap();
        store.note_logins(vec![attempt(ann(), 10)]).await.unwrap();
        store.checkpoint().await;
        let end = |second| at(second + 30 * DAY);
        assert_eq!(store.expire(end(1), 9).await.unwrap(), 0);
        assert_eq!(store.expire(end(2), 9).await.unwrap(), 1);
        let all = LoginAttemptFilter::default;
        assert_eq!(counts(&store, all()).await, [(3, 2)]);
        assert_eq!(store.expire(end(10), 9).await.unwrap(), 1);
        assert!(list(&store, all()).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_oldest_records_of_a_group_make_room() {
    on_both(|store| async move {
        let clients = i64::try_from(LOGIN_ATTEMPTS_OF_ONE).unwrap() + 3;
        let many = (1..=clients).map(|second| LoginAttempt {
            client: second.to_string(),
            ..attempt(ann(), second)
        });
        store
            .note_logins(vec![attempt(LoginOf::Nobody, 0)])
            .await
            .unwrap();
        store.note_logins(many.collect()).await.unwrap();
        let of = |of| LoginAttemptFilter {
            of: Some(of),
            ..LoginAttemptFilter::default()
        };
        let left = list(&store, of(ann())).await;
        assert_eq!(left.len() as u64, LOGIN_ATTEMPTS_OF_ONE);
        assert_eq!(left.last().unwrap().client, "4");
        assert_eq!(counts(&store, of(LoginOf::Nobody)).await, [(1, 1)]);
    })
    .await;
}

#[tokio::test]
async fn the_logins_of_an_account_go_with_it_and_those_of_others_stay() {
    on_both(|store| async move {
        let other = |of| attempt(of, 2);
        let again = LoginAttempt {
            result: "ok".into(),
            ..attempt(ann(), 3)
        };
        let ann_a = LoginOf::Account("ann a".into());
        let all = vec![
            attempt(ann(), 1),
            other(LoginOf::Nobody),
            other(LoginOf::Admin),
            other(ann_a),
            again,
        ];
        store.note_logins(all).await.unwrap();
        store.checkpoint().await;
        assert_eq!(store.forget_logins("bob").await.unwrap(), 0);
        assert_eq!(store.forget_logins("ann").await.unwrap(), 2);
        assert_eq!(store.forget_logins("ann").await.unwrap(), 0);
        let all = LoginAttemptFilter::default;
        assert_eq!(counts(&store, all()).await, [(4, 1), (3, 1), (2, 1)]);
        // A new account of this name begins with nothing.
        store.note_logins(vec![attempt(ann(), 4)]).await.unwrap();
        assert_eq!(counts(&store, all()).await[0], (6, 1));
    })
    .await;
}
