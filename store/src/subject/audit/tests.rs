//! The audit log on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

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
    let page = store.list_audit(filter, None, 10).await.unwrap();
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
        let page = store.list_audit(&any(), None, 2).await.unwrap();
        assert_eq!((page.items.len(), page.next), (2, Some(AuditId(2))));
        let page = store.list_audit(&any(), page.next, 2).await.unwrap();
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
