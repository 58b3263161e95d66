//! The audit log on both engines.

use super::*;
use crate::{
    Party, Settle,
    tests::{
        samples::{self, at},
        verbs::on_both,
    },
};

fn entry(operation: &str, target: &str, seconds: i64) -> NewAuditEntry {
    NewAuditEntry {
        time: at(seconds),
        actor: Actor::Admin,
        name: "root".into(),
        from: Some([192, 0, 2, 1].into()),
        operation: operation.into(),
        target: target.into(),
        before: String::new(),
        after: "held".into(),
        refusal: String::new(),
        keep_until: at(seconds + 100),
    }
}

async fn ids(store: &Store, filter: &AuditFilter) -> Vec<u64> {
    let page = store
        .list_audit(filter, None, Order::Descending, 10)
        .await
        .unwrap();
    page.items.iter().map(|entry| entry.id.0).collect()
}

#[tokio::test]
async fn entries_are_listed_newest_first_by_filter_and_in_pages() {
    on_both(|store| async move {
        let entries = [("add", "ann", 1), ("add", "bob", 2), ("remove", "ann", 3)];
        for (operation, subject, seconds) in entries {
            let new = entry(operation, subject, seconds);
            store.audit(new).await.unwrap();
            store.checkpoint().await;
        }
        let any = AuditFilter::default;
        assert_eq!(ids(&store, &any()).await, [3, 2, 1]);
        let ann = AuditFilter {
            target: Some("ann".into()),
            ..any()
        };
        assert_eq!(ids(&store, &ann).await, [3, 1]);
        let added = AuditFilter {
            operation: Some("add".into()),
            ..any()
        };
        assert_eq!(ids(&store, &added).await, [2, 1]);
        let between = AuditFilter {
            name: Some("root".into()),
            since: Some(at(2)),
            before: Some(at(3)),
            ..any()
        };
        assert_eq!(ids(&store, &between).await, [2]);
        let (any, after) = (any(), Some(AuditId(1)));
        let oldest = store.list_audit(&any, after, Order::Ascending, 1);
        let oldest = oldest.await.unwrap();
        assert_eq!(
            (oldest.items[0].id, oldest.next),
            (AuditId(2), Some(AuditId(2)))
        );
        let page = store
            .list_audit(&any, None, Order::Descending, 2)
            .await
            .unwrap();
        assert_eq!((page.items.len(), page.next), (2, Some(AuditId(2))));
        let page = store
            .list_audit(&any, page.next, Order::Descending, 2)
            .await
            .unwrap();
        assert_eq!(page.items, [entry("add", "ann", 1).entry(AuditId(1))]);
        assert_eq!(page.next, None);
    })
    .await;
}

#[tokio::test]
async fn entries_go_when_their_time_is_over() {
    on_both(|store| async move {
        store.audit(entry("add", "ann", 1)).await.unwrap();
        store.audit(entry("add", "bob", 2)).await.unwrap();
        store.checkpoint().await;
        assert_eq!(store.expire(at(101), 9).await.unwrap(), 1);
        assert_eq!(ids(&store, &AuditFilter::default()).await, [2]);
        assert_eq!(
            store.audit(entry("add", "eve", 3)).await.unwrap(),
            AuditId(3)
        );
    })
    .await;
}

async fn all(store: &Store) -> Vec<u64> {
    ids(store, &AuditFilter::default()).await
}

#[tokio::test]
async fn an_entry_goes_with_the_first_change_that_has_an_effect() {
    on_both(|store| async move {
        let handle = store.carrying(entry("change", "rule", 1));
        let none = crate::HoldRuleId(7);
        assert!(!handle.remove_hold_rule(none).await.unwrap());
        assert_eq!(all(&store).await, [0; 0]);
        for (count, account) in ["ann", "bob"].into_iter().enumerate() {
            let rule = crate::HoldFilter {
                account: Some(account.into()),
                ..crate::HoldFilter::default()
            };
            handle.add_hold_rule(rule, at(1)).await.unwrap();
            assert_eq!(all(&store).await, [1], "after change {count}");
        }
        assert!(handle.carried_with_a_change());
        let again = store.carrying(entry("change", "rule", 2));
        assert!(!again.remove_hold_rule(none).await.unwrap());
        assert!(!again.carried_with_a_change());
        // The entry was taken out, so the handle carries none.
        assert_eq!(
            again.audit(entry("refused", "rule", 2)).await.unwrap(),
            AuditId(2)
        );
        assert_eq!(all(&store).await, [2, 1]);
    })
    .await;
}

#[tokio::test]
async fn an_entry_goes_with_a_message_and_with_its_end() {
    on_both(|store| async move {
        let handle = store.carrying(entry("send", "queue", 1));
        let accepted = handle.accept(samples::message(&["x@a.example"])).await;
        let accepted = accepted.unwrap();
        assert!(handle.carried_with_a_change());
        let message = store.queued(accepted.queue[0]).await.unwrap().unwrap();
        assert_eq!(
            samples::text(&store, message.text).await.unwrap(),
            "Hi!\r\n"
        );
        let handle = store.carrying(entry("end", "queue", 2));
        let ended = Settle {
            party: Party::Administrator,
            ..samples::settle(&message, samples::GONE)
        };
        assert_eq!(handle.settle(vec![ended]).await.unwrap(), [true]);
        assert!(handle.carried_with_a_change());
        assert_eq!(all(&store).await, [2, 1]);
        assert_eq!(store.counts().await.queued, 0);
    })
    .await;
}

#[test]
fn an_entry_carries_no_entry() {
    let inner = super::super::Op::Audit(Op::Append(entry("add", "ann", 1)));
    let outer = Op::Carry(Carry::new(entry("add", "ann", 1), inner));
    let bytes = super::super::Op::Audit(outer).encode();
    assert!(super::super::Op::decode(&bytes).is_err());
}
