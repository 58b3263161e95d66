//! Calls of webhooks.

use super::on_both;
use super::tell;

use crate::tests::samples::*;
use crate::{
    Accept, Event, HookFilter, HookId, MailId, NewHook, NewHookKind, Order, Outcome, QueueId,
    RetiredHookFilter, TextId, TextSource,
};

#[tokio::test]
async fn events_of_a_message_go_to_a_url_in_order() {
    on_both(|store| async move {
        let hooks = vec![
            hook("http://h/", event(Event::Delayed, QueueId(1)), at(1)),
            hook("http://h/", event(Event::Delivered, QueueId(1)), at(1)),
            hook("http://h/", event(Event::Delivered, QueueId(2)), at(1)),
            hook("http://other/", event(Event::Delivered, QueueId(1)), at(1)),
        ];
        tell(&store, hooks).await;
        store.checkpoint().await;
        let claimed = store.claim_hooks(claim_hooks(at(5))).await.unwrap();
        assert_eq!(
            claimed
                .hooks
                .iter()
                .map(|hook| hook.id.0)
                .collect::<Vec<_>>(),
            [1, 3, 4]
        );
        assert_eq!(claimed.hooks[0].attempts, 1);
        assert_eq!(claimed.next_due, None, "the second waits for the first");
        let retry = settle_hook(&claimed.hooks[0], Outcome::Retry(at(7)));
        assert_eq!(
            store
                .settle_hooks(vec![retry.clone(), retry])
                .await
                .unwrap(),
            [true, false]
        );
        assert_eq!(
            store
                .claim_hooks(claim_hooks(at(6)))
                .await
                .unwrap()
                .next_due,
            Some(at(7))
        );
        let again = store.claim_hooks(claim_hooks(at(7))).await.unwrap().hooks;
        assert_eq!(
            (again.len(), again[0].id, again[0].attempts),
            (1, HookId(1), 2)
        );
        assert_eq!(
            store
                .settle_hooks(vec![settle_hook(&again[0], KEPT)])
                .await
                .unwrap(),
            [true]
        );
        let next = store.claim_hooks(claim_hooks(at(7))).await.unwrap().hooks;
        assert_eq!(next.iter().map(|hook| hook.id.0).collect::<Vec<_>>(), [2]);
        let retired = store
            .list_retired_hooks(&RetiredHookFilter::default(), None, Order::Ascending, 9)
            .await
            .unwrap()
            .items;
        assert_eq!((retired.len(), retired[0].hook.results.len()), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn calls_are_listed_by_whether_an_attempt_failed() {
    on_both(|store| async move {
        let delivered = |message: u64| event(Event::Delivered, QueueId(message));
        let hooks = vec![
            hook("http://h/", delivered(1), at(1)),
            hook("http://other/", delivered(2), at(9)),
        ];
        tell(&store, hooks).await;
        let claimed = store.claim_hooks(claim_hooks(at(5))).await.unwrap();
        let retry = settle_hook(&claimed.hooks[0], Outcome::Retry(at(7)));
        assert_eq!(store.settle_hooks(vec![retry]).await.unwrap(), [true]);
        for (failed, expected) in [
            (None, vec![1, 2]),
            (Some(true), vec![1]),
            (Some(false), vec![2]),
        ] {
            let filter = HookFilter {
                failed,
                ..HookFilter::default()
            };
            let listed = store.list_hooks(&filter, None, Order::Ascending, 9).await;
            let ids: Vec<u64> = listed.unwrap().items.iter().map(|it| it.id.0).collect();
            assert_eq!(ids, expected, "{failed:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn calls_of_two_accounts_to_one_url_do_not_wait_for_each_other() {
    on_both(|store| async move {
        let of = |account: &str, message: u64| NewHook {
            account: account.into(),
            ..hook(
                "http://h/",
                event(Event::Delivered, QueueId(message)),
                at(1),
            )
        };
        let hooks = vec![of("ann", 1), of("ann", 2), of("ann", 3), of("bob", 4)];
        tell(&store, hooks).await;
        let claim = crate::ClaimHooks {
            max_per_lane: 1,
            ..claim_hooks(at(5))
        };
        let claimed = store.claim_hooks(claim).await.unwrap().hooks;
        let ids = |hooks: &[crate::Hook]| hooks.iter().map(|it| it.id.0).collect::<Vec<_>>();
        assert_eq!(ids(&claimed), [1, 4]);
        let retry = settle_hook(&claimed[1], Outcome::Retry(at(5)));
        assert_eq!(store.settle_hooks(vec![retry]).await.unwrap(), [true]);
        let claim = crate::ClaimHooks {
            except: [crate::hook_lane("ann", "http://h/")].into(),
            ..claim_hooks(at(5))
        };
        let claimed = store.claim_hooks(claim).await.unwrap();
        assert_eq!((ids(&claimed.hooks), claimed.next_due), (vec![4], None));
    })
    .await;
}

#[tokio::test]
async fn an_event_of_a_mail_holds_its_text() {
    on_both(|store| async move {
        let accept = Accept {
            text: Some(inline("mail")),
            mails: vec![mail("Inbox", TextSource::New)],
            hooks: vec![hook("http://h/", NewHookKind::Incoming(0), at(1))],
            ..Accept::default()
        };
        assert_eq!(store.accept(accept).await.unwrap().mails, [MailId(1)]);
        let hooks = store.claim_hooks(claim_hooks(at(5))).await.unwrap().hooks;
        assert_eq!(
            store
                .settle_hooks(vec![settle_hook(&hooks[0], GONE)])
                .await
                .unwrap(),
            [true]
        );
        assert_eq!(
            text(&store, TextId(1)).await.unwrap(),
            "mail",
            "the mailbox has it still"
        );
        assert_eq!(
            (
                store.counts().await.hooks,
                store.counts().await.retired_hooks
            ),
            (0, 0)
        );
    })
    .await;
}
