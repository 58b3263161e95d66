//! Signatures and templates, on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

pub(super) fn shelf(account: &str, kind: StationeryKind) -> StationeryShelf {
    StationeryShelf {
        kind,
        owner: StationeryOwner::Account(account.into()),
    }
}

fn change(id: u64, text: &str) -> StationeryChange {
    StationeryChange {
        id: StationeryId(id),
        text: text.into(),
    }
}

async fn add(store: &Store, shelf: &StationeryShelf, text: &str) -> Option<u64> {
    let added = store.add_stationery(shelf, text.into(), Vec::new(), 3, at(1));
    added.await.unwrap().map(|id| id.0)
}

async fn texts(store: &Store, shelf: &StationeryShelf) -> Vec<(u64, u64, String)> {
    let items = store.stationery(shelf).await.unwrap().into_iter();
    items
        .map(|item| (item.id.0, item.version, item.text))
        .collect()
}

#[tokio::test]
async fn each_owner_has_a_shelf_of_each_kind() {
    on_both(|store| async move {
        let kind = StationeryKind::Signature;
        let shelves = [
            shelf("ann", kind),
            shelf("ann", StationeryKind::Template),
            shelf("ann.b", kind),
            StationeryShelf {
                kind,
                owner: StationeryOwner::Domain("ann".into()),
            },
            StationeryShelf {
                kind,
                owner: StationeryOwner::Server,
            },
        ];
        for (shelf, expected) in shelves.iter().zip(1..) {
            assert_eq!(add(&store, shelf, "x").await, Some(expected));
        }
        store.checkpoint().await;
        for (shelf, id) in shelves.iter().zip(1..) {
            assert_eq!(texts(&store, shelf).await, [(id, 1, "x".to_owned())]);
        }
        // The number alone is not enough.
        let [first, second, ..] = &shelves;
        let changed = store.change_stationery(second, vec![change(1, "y")], at(2));
        assert_eq!(changed.await.unwrap(), 0);
        let other = store.stationery_item(second, StationeryId(1), None);
        assert_eq!(other.await.unwrap(), None);
        assert!(
            !store
                .remove_stationery(second, StationeryId(1))
                .await
                .unwrap()
        );
        assert!(
            store
                .remove_stationery(first, StationeryId(1))
                .await
                .unwrap()
        );
        assert_eq!(texts(&store, first).await, []);
        assert_eq!(store.forget_stationery(second).await.unwrap(), 1);
        assert_eq!(store.forget_stationery(second).await.unwrap(), 0);
        assert_eq!(store.faults().unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_full_shelf_takes_no_more() {
    on_both(|store| async move {
        let shelf = shelf("ann", StationeryKind::Signature);
        for expected in 1..=3 {
            assert_eq!(add(&store, &shelf, "x").await, Some(expected));
        }
        let more = vec![change(1, "y")];
        let added = store.add_stationery(&shelf, "x".into(), more, 3, at(1));
        assert_eq!(added.await.unwrap(), None);
        assert_eq!(texts(&store, &shelf).await[0], (1, 1, "x".to_owned()));
        assert!(
            store
                .remove_stationery(&shelf, StationeryId(2))
                .await
                .unwrap()
        );
        let more = vec![change(1, "y")];
        let added = store.add_stationery(&shelf, "x".into(), more, 3, at(1));
        assert_eq!(added.await.unwrap(), Some(StationeryId(4)));
        assert_eq!(texts(&store, &shelf).await[0], (1, 2, "y".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn the_last_versions_stay_readable() {
    on_both(|store| async move {
        let shelf = shelf("ann", StationeryKind::Template);
        add(&store, &shelf, "1").await;
        let id = StationeryId(1);
        let last = STATIONERY_VERSIONS + 3;
        for version in 2..=last {
            let text = version.to_string();
            let now = at(i64::try_from(version).unwrap());
            let changed = store.change_stationery(&shelf, vec![change(1, &text)], now);
            assert_eq!(changed.await.unwrap(), 1);
            if version == 5 {
                store.checkpoint().await;
            }
        }
        let again = vec![change(1, &last.to_string())];
        let changed = store.change_stationery(&shelf, again, at(99)).await;
        assert_eq!(changed.unwrap(), 0, "it has this text");
        for version in 1..=last + 1 {
            let found = store.stationery_item(&shelf, id, Some(version));
            let found = found.await.unwrap();
            let kept = (4..=last).contains(&version);
            assert_eq!(found.is_some(), kept, "{version}");
            if let Some(item) = found {
                let changed = at(i64::try_from(version).unwrap());
                let expected = (version, version.to_string(), at(1), changed);
                let item = (item.version, item.text, item.created, item.changed);
                assert_eq!(item, expected);
            }
        }
        assert_eq!(store.faults().unwrap(), [""; 0]);
        assert!(store.remove_stationery(&shelf, id).await.unwrap());
        assert_eq!(store.faults().unwrap(), [""; 0]);
    })
    .await;
}
