//! Stops, and a store that was restored.

use super::{on_both, tell};

use crate::tests::samples::*;
use crate::{
    AuditId, Event, HoldFilter, HoldRuleId, HookId, MailId, NewAuditEntry, NewHookKind, Options,
    QueueId, Stops, Store, TextSource, Work,
};

#[tokio::test]
async fn a_stop_lets_work_end_that_was_begun_and_begins_no_other() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let claimed = store.claim(claim(at(5))).await.unwrap();
        assert!(store.stop(Work::Deliveries, at(6)).await.unwrap());
        assert!(!store.stop(Work::Deliveries, at(7)).await.unwrap());
        let stops = Stops {
            deliveries: Some(at(6)),
            webhooks: None,
        };
        assert_eq!(store.stops().await.unwrap(), stops);
        let accepted = store.accept(message(&["b@y.example"])).await.unwrap();
        assert_eq!(accepted.queue, [QueueId(2)], "messages are accepted");
        let none = store.claim(claim(at(8))).await.unwrap();
        assert!(ids(&none).is_empty());
        let hooks = vec![hook("http://h/", event(Event::Delayed, QueueId(1)), at(1))];
        tell(&store, hooks).await;
        let calls = store.claim_hooks(claim_hooks(at(8))).await.unwrap();
        assert_eq!(calls.hooks.len(), 1, "calls of webhooks go on");
        let settled = settle(&claimed.messages[0], crate::Outcome::Release);
        assert_eq!(store.settle(vec![settled]).await.unwrap(), [true]);

        let mut changed = store.queue_changed();
        changed.mark_unchanged();
        assert!(store.start(Work::Deliveries).await.unwrap());
        assert!(!store.start(Work::Deliveries).await.unwrap());
        assert!(changed.has_changed().unwrap() || store.counts().await.journal_bytes == 0);
        assert_eq!(store.stops().await.unwrap(), Stops::default());
        assert_eq!(ids(&store.claim(claim(at(9))).await.unwrap()), [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn webhooks_stop_alone() {
    on_both(|store| async move {
        let hooks = vec![hook("http://h/", event(Event::Delayed, QueueId(1)), at(1))];
        tell(&store, hooks).await;
        assert!(store.stop(Work::Webhooks, at(2)).await.unwrap());
        let none = store.claim_hooks(claim_hooks(at(5))).await.unwrap();
        assert_eq!((none.hooks.len(), none.next_due), (0, None));
        store.accept(message(&["a@x.example"])).await.unwrap();
        assert_eq!(ids(&store.claim(claim(at(5))).await.unwrap()), [1]);
        assert!(store.start(Work::Webhooks).await.unwrap());
        let calls = store.claim_hooks(claim_hooks(at(5))).await.unwrap();
        assert_eq!(calls.hooks.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_restored_store_is_stopped_and_gives_higher_numbers() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        store.restored(at(3)).await.unwrap();
        let stops = Stops {
            deliveries: Some(at(3)),
            webhooks: Some(at(3)),
        };
        assert_eq!(store.stops().await.unwrap(), stops);
        let mut accept = message(&["b@x.example"]);
        accept.mails = vec![mail("Inbox", TextSource::New)];
        accept.hooks = vec![hook("http://h/", NewHookKind::Incoming(0), at(1))];
        let accepted = store.accept(accept).await.unwrap();
        assert_eq!(accepted.queue, [QueueId(1_000_002)]);
        assert_eq!(accepted.mails, [MailId(1_000_001)]);
        let hook = store.hook(HookId(1_000_001)).await.unwrap();
        assert!(hook.is_some());
        let rule = store.add_hold_rule(HoldFilter::default(), at(4)).await;
        assert_eq!(rule.unwrap(), HoldRuleId(1_000_001));
        let audited = store.audit(NewAuditEntry::default()).await;
        assert_eq!(audited.unwrap(), AuditId(1_000_001));
        assert!(store.queued(QueueId(1)).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_stop_lasts_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options {
        segment_size: 1 << 20,
        ..Options::new(dir.path())
    };
    let store = Store::open(options()).unwrap();
    store.accept(message(&["a@x.example"])).await.unwrap();
    store.stop(Work::Deliveries, at(1)).await.unwrap();
    store.close().await;
    let store = Store::open(options()).unwrap();
    assert!(ids(&store.claim(claim(at(9))).await.unwrap()).is_empty());
    store.start(Work::Deliveries).await.unwrap();
    assert_eq!(ids(&store.claim(claim(at(9))).await.unwrap()), [1]);
    store.close().await;
}
