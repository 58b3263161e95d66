//! Policies of MTA-STS on both engines.

use super::*;
use crate::{
    Options,
    tests::{samples::at, verbs::on_both},
};

const DAY: i64 = 24 * 60 * 60;

pub(super) fn policy(domain: &str, seconds: i64) -> StsPolicy {
    StsPolicy {
        domain: domain.into(),
        id: "1".into(),
        text: "version: STSv1\nmode: enforce\nmx: mx.test\nmax_age: 86400\n".into(),
        fetched: at(seconds),
        ends: at(seconds + DAY),
        used: at(seconds),
        refresh: at(seconds + DAY),
        failures: 0,
    }
}

async fn refreshes(store: &Store) -> Vec<String> {
    let next = store.next_sts_refreshes(2).await.unwrap();
    next.into_iter().map(|policy| policy.domain).collect()
}

#[tokio::test]
async fn a_policy_is_kept_used_and_replaced() {
    on_both(|store| async move {
        for (domain, seconds) in [("c.test", 3), ("b.test", 1), ("a.test", 1)] {
            store
                .keep_sts_policy(policy(domain, seconds))
                .await
                .unwrap();
            store.checkpoint().await;
        }
        assert_eq!(refreshes(&store).await, ["a.test", "b.test"]);
        store.retry_sts_policy("a.test", at(DAY + 2)).await.unwrap();
        assert_eq!(refreshes(&store).await, ["b.test", "a.test"]);
        store.use_sts_policy("a.test", at(9)).await.unwrap();
        store.use_sts_policy("a.test", at(8)).await.unwrap();
        store.use_sts_policy("gone.test", at(8)).await.unwrap();
        store.retry_sts_policy("gone.test", at(8)).await.unwrap();
        let expected = StsPolicy {
            used: at(9),
            refresh: at(DAY + 2),
            failures: 1,
            ..policy("a.test", 1)
        };
        let kept = async || store.sts_policy("a.test").await.unwrap();
        assert_eq!(kept().await, Some(expected));
        // A new text does not make the last use earlier.
        store.keep_sts_policy(policy("a.test", 5)).await.unwrap();
        let expected = StsPolicy {
            used: at(9),
            ..policy("a.test", 5)
        };
        assert_eq!(kept().await, Some(expected));
        assert_eq!(refreshes(&store).await, ["b.test", "c.test"]);
        store.remove_sts_policy("a.test").await.unwrap();
        store.remove_sts_policy("a.test").await.unwrap();
        assert_eq!(kept().await, None);
    })
    .await;
}

#[tokio::test]
async fn an_unused_policy_goes() {
    on_both(|store| async move {
        for (domain, seconds) in [("a.test", 0), ("b.test", 1)] {
            store
                .keep_sts_policy(policy(domain, seconds))
                .await
                .unwrap();
        }
        store.use_sts_policy("a.test", at(3)).await.unwrap();
        store.checkpoint().await;
        let expire = async |seconds| store.expire(at(180 * DAY + seconds), 9).await.unwrap();
        assert_eq!(expire(0).await, 0);
        assert_eq!(expire(1).await, 1);
        assert_eq!(refreshes(&store).await, ["a.test"]);
        assert_eq!(expire(2).await, 0);
        assert_eq!(expire(3).await, 1);
        assert_eq!(refreshes(&store).await, [""; 0]);
    })
    .await;
}

#[test]
fn the_policy_that_was_unused_for_longest_makes_room() {
    let mut state = State::new();
    for number in 0..=STS_POLICIES_MAX.cast_signed() {
        // The first policy was used last.
        let seconds = if number == 0 {
            i64::from(u32::MAX)
        } else {
            number
        };
        let policy = policy(&format!("{number}.test"), seconds);
        Keep(policy).apply(&mut state).unwrap();
    }
    let tables = &state.mta_sts;
    assert_eq!(tables.counters.policies, STS_POLICIES_MAX);
    assert!(tables.policies.contains(&"0.test".into()).unwrap());
    assert!(!tables.policies.contains(&"1.test".into()).unwrap());
    assert!(tables.policies.contains(&"2.test".into()).unwrap());
}

#[tokio::test]
async fn policies_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for start in 0..2 {
        let store = Store::open(Options::new(dir.path())).unwrap();
        if start == 0 {
            store.keep_sts_policy(policy("a.test", 1)).await.unwrap();
        }
        let kept = store.sts_policy("a.test").await.unwrap();
        assert_eq!(kept, Some(policy("a.test", 1)));
        store.close().await;
    }
}
