//! The history, listings, and the rest.

use super::on_both;

use crate::tests::samples::*;
use crate::{
    Accept, Credential, Event, Order, Outcome, QueueFilter, QueueId, RetiredFilter, StoreError,
};

#[tokio::test]
async fn history_goes_when_its_time_is_over() {
    on_both(|store| async move {
        store
            .accept(message(&["a@x.example", "b@x.example"]))
            .await
            .unwrap();
        let messages = store.claim(claim(at(9))).await.unwrap().messages;
        let until = |seconds| Outcome::Retire {
            success: false,
            now: at(9),
            keep_until: Some(at(seconds)),
        };
        let ends = vec![
            settle(&messages[0], until(20)),
            settle(&messages[1], until(30)),
        ];
        assert_eq!(store.settle(ends).await.unwrap(), [true, true]);
        store.checkpoint().await;
        assert_eq!(store.expire(at(19), 9).await.unwrap(), 0);
        assert_eq!(store.expire(at(20), 9).await.unwrap(), 1);
        let left = store
            .list_retired(&RetiredFilter::default(), None, Order::Ascending, 9)
            .await
            .unwrap()
            .items;
        assert_eq!(
            left.iter()
                .map(|retired| retired.message.id.0)
                .collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(store.expire(at(99), 9).await.unwrap(), 1);
        assert_eq!(store.counts().await.retired, 0);
    })
    .await;
}

#[tokio::test]
async fn history_goes_in_steps() {
    on_both(|store| async move {
        let to = ["a@x.example", "b@x.example", "c@x.example"];
        store.accept(message(&to)).await.unwrap();
        let messages = store.claim(claim(at(9))).await.unwrap().messages;
        let ends = messages.iter().zip([30, 20, 25]).map(|(message, seconds)| {
            let end = Outcome::Retire {
                success: true,
                now: at(9),
                keep_until: Some(at(seconds)),
            };
            settle(message, end)
        });
        store.settle(ends.collect()).await.unwrap();
        store.checkpoint().await;
        // The record with the earliest end goes first.
        assert_eq!(store.expire(at(99), 2).await.unwrap(), 2);
        assert_eq!(store.retired(QueueId(2)).await.unwrap(), None);
        assert!(store.retired(QueueId(1)).await.unwrap().is_some());
        assert_eq!(store.expire(at(99), 2).await.unwrap(), 1);
        assert_eq!(store.expire(at(99), 2).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn lists_come_in_pages_and_by_filter() {
    on_both(|store| async move {
        for n in 0..300 {
            let host = if n % 3 == 0 { "x.example" } else { "y.example" };
            store
                .accept(message(&[&format!("u{n}@{host}")]))
                .await
                .unwrap();
            if n == 200 {
                store.checkpoint().await;
            }
        }
        let all = QueueFilter::default();
        let page = store.list(&all, None, Order::Ascending, 299).await.unwrap();
        assert_eq!((page.items.len(), page.next), (299, Some(QueueId(299))));
        let page = store
            .list(&all, page.next, Order::Ascending, 299)
            .await
            .unwrap();
        assert_eq!((page.items.len(), page.next), (1, None));
        let x = QueueFilter {
            to: Some("@x.example".into()),
            ..all.clone()
        };
        let page = store.list(&x, None, Order::Ascending, 99).await.unwrap();
        assert_eq!((page.items.len(), page.next), (99, Some(QueueId(295))));
        assert_eq!(
            store
                .list(&x, page.next, Order::Ascending, 99)
                .await
                .unwrap()
                .items[0]
                .id,
            QueueId(298)
        );
        let some = QueueFilter {
            ids: vec![QueueId(250), QueueId(4), QueueId(5), QueueId(999)],
            ..x
        };
        let ids: Vec<_> = store
            .list(&some, None, Order::Ascending, 9)
            .await
            .unwrap()
            .items
            .iter()
            .map(|queued| queued.id.0)
            .collect();
        assert_eq!(ids, [4, 250]);
        // All of them have one Message-ID and one subject.
        let called = |id: &str, subject: &str| QueueFilter {
            message_id: Some(id.into()),
            subject: Some(subject.into()),
            ..some.clone()
        };
        for (id, subject, expected) in [
            ("<1@example.org>", "hI", &[4, 250][..]),
            ("<1@example.org>", "hello", &[]),
            ("<2@example.org>", "hi", &[]),
        ] {
            let filter = called(id, subject);
            let page = store.list(&filter, None, Order::Ascending, 9).await;
            let page = page.unwrap();
            let ids: Vec<_> = page.items.iter().map(|queued| queued.id.0).collect();
            assert_eq!(ids, expected, "{id} {subject}");
        }
        let nobody = QueueFilter {
            account: Some("bob".into()),
            ..all
        };
        assert_eq!(
            store
                .list(&nobody, None, Order::Ascending, 9)
                .await
                .unwrap()
                .items,
            []
        );
    })
    .await;
}

#[tokio::test]
async fn credentials_are_set_and_removed() {
    on_both(|store| async move {
        assert_eq!(store.credential("ann").await.unwrap(), None);
        let credential = Credential {
            argon2: "$argon2id$".into(),
            set: at(1),
        };
        store
            .set_credential("ann", Some(credential.clone()))
            .await
            .unwrap();
        store.checkpoint().await;
        assert_eq!(store.credential("ann").await.unwrap(), Some(credential));
        store.set_credential("ann", None).await.unwrap();
        assert_eq!(store.credential("ann").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn who_waits_for_something_to_be_due_is_told() {
    on_both(|store| async move {
        let (mut queue, mut hooks) = (store.queue_changed(), store.hooks_changed());
        store.accept(message(&["a@x.example"])).await.unwrap();
        queue.changed().await.unwrap();
        let hook = hook("http://h/", event(Event::Delivered, QueueId(1)), at(1));
        store
            .accept(Accept {
                hooks: vec![hook],
                ..Accept::default()
            })
            .await
            .unwrap();
        hooks.changed().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        store.clone().close().await;
        assert!(matches!(
            store.accept(message(&["a@x.example"])).await,
            Err(StoreError::Closed)
        ));
        assert!(matches!(
            store.claim(claim(at(9))).await,
            Err(StoreError::Closed)
        ));
        assert!(matches!(
            store.queued(QueueId(1)).await,
            Err(StoreError::Closed)
        ));
    })
    .await;
}
