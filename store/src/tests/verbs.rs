//! What each verb does, on both engines.

use std::{future::Future, time::Duration};

use super::samples::*;
use crate::{
    Accept, Claim, Credential, Event, HookId, INLINE_TEXT_MAX, MailId, NewHook, NewHookKind,
    NewMessage, NewText, Options, Order, Outcome, QueueFilter, QueueId, RetiredFilter,
    RetiredHookFilter, Settle, Store, StoreError, TextId, TextSource, Top,
};

/// Runs a test on each engine: the one in memory and the durable one.
async fn on_both<F: Future<Output = ()>>(test: impl Fn(Store) -> F) {
    test(Store::memory()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options {
        segment_size: 1 << 20,
        ..Options::new(dir.path())
    })
    .unwrap();
    test(store.clone()).await;
    store.close().await;
}

/// Brings calls of webhooks.
async fn tell(store: &Store, hooks: Vec<NewHook>) {
    let accept = Accept {
        hooks,
        ..Accept::default()
    };
    store.accept(accept).await.unwrap();
}

#[tokio::test]
async fn ids_of_one_unit_are_consecutive() {
    on_both(|store| async move {
        let accepted = store
            .accept(message(&["a@x.example", "b@y.example"]))
            .await
            .unwrap();
        assert_eq!(accepted.queue, [QueueId(1), QueueId(2)]);
        let accepted = store.accept(message(&["c@x.example"])).await.unwrap();
        assert_eq!(accepted.queue, [QueueId(3)]);
        let second = store.queued(QueueId(2)).await.unwrap().unwrap();
        assert_eq!((second.base, second.text), (QueueId(1), TextId(1)));
        assert_eq!(text(&store, TextId(1)).await.unwrap(), "Hi!\r\n");
        assert_eq!(store.counts().await.queued, 3);
        assert_eq!(store.counts().await.text_bytes, 10);
    })
    .await;
}

#[tokio::test]
async fn a_claim_gives_what_is_due_by_destination_and_nothing_twice() {
    on_both(|store| async move {
        store
            .accept(message(&["a@x.example", "b@y.example", "c@x.example"]))
            .await
            .unwrap();
        let mut later = message(&["d@y.example"]);
        later.queue.as_mut().unwrap().recipients[0].next_attempt = at(50);
        store.accept(later).await.unwrap();
        store.checkpoint().await;

        let claimed = store.claim(claim(at(0))).await.unwrap();
        assert_eq!((ids(&claimed), claimed.next_due), (vec![], Some(at(1))));
        let claimed = store.claim(claim(at(10))).await.unwrap();
        assert_eq!(
            (ids(&claimed), claimed.next_due),
            (vec![1, 3, 2], Some(at(50)))
        );
        let first = &claimed.messages[0];
        assert_eq!(
            (first.attempts, first.fence, first.last_attempt),
            (1, 1, Some(at(10)))
        );
        assert_eq!(first.next_attempt, at(1));
        assert_eq!(ids(&store.claim(claim(at(10))).await.unwrap()), []);
        assert_eq!(store.counts().await.claimed, 3);
    })
    .await;
}

#[tokio::test]
async fn claims_respect_their_limits() {
    on_both(|store| async move {
        store
            .accept(message(&[
                "1@x.example",
                "2@x.example",
                "3@y.example",
                "4@y.example",
            ]))
            .await
            .unwrap();
        store.checkpoint().await;
        let none = Claim {
            except: ["x.example".into(), "y.example".into()].into(),
            ..claim(at(9))
        };
        let claimed = store.claim(none).await.unwrap();
        assert_eq!((ids(&claimed), claimed.next_due), (vec![], None));
        let one_each = Claim {
            max_per_destination: 1,
            ..claim(at(9))
        };
        let claimed = store.claim(one_each).await.unwrap();
        assert_eq!((ids(&claimed), claimed.next_due), (vec![1, 3], Some(at(1))));
        let only = Claim {
            only: Some("y.example".into()),
            ..claim(at(9))
        };
        let claimed = store.claim(only).await.unwrap();
        assert_eq!((ids(&claimed), claimed.next_due), (vec![4], None));
        let claimed = store
            .claim(Claim {
                max: 0,
                ..claim(at(9))
            })
            .await
            .unwrap();
        assert_eq!((ids(&claimed), claimed.next_due), (vec![], Some(at(1))));
        assert_eq!(
            ids(&store
                .claim(Claim {
                    max: 1,
                    ..claim(at(9))
                })
                .await
                .unwrap()),
            [2]
        );
    })
    .await;
}

#[tokio::test]
async fn held_messages_wait() {
    on_both(|store| async move {
        let mut held = message(&["a@x.example"]);
        held.queue.as_mut().unwrap().recipients[0].hold = true;
        store.accept(held).await.unwrap();
        let claimed = store.claim(claim(at(9))).await.unwrap();
        assert_eq!((ids(&claimed), claimed.next_due), (vec![], None));
        assert_eq!(
            (store.counts().await.queued, store.counts().await.held),
            (1, 1)
        );
    })
    .await;
}

#[tokio::test]
async fn a_message_ends_exactly_once() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let queued = store.claim(claim(at(9))).await.unwrap().messages.remove(0);
        let ends = vec![settle(&queued, KEPT), settle(&queued, KEPT)];
        assert_eq!(store.settle(ends).await.unwrap(), [true, false]);
        assert_eq!(
            store.settle(vec![settle(&queued, GONE)]).await.unwrap(),
            [false]
        );
        assert_eq!(store.queued(QueueId(1)).await.unwrap(), None);
        let retired = store.retired(QueueId(1)).await.unwrap().unwrap();
        assert!(retired.success);
        assert_eq!(retired.message.results, [attempt(at(3), true)]);
        assert!(
            matches!(
                store.text(TextId(1)).await,
                Err(StoreError::NoText(TextId(1)))
            ),
            "the history has no texts"
        );
        assert_eq!(store.counts().await.text_bytes, 0);
    })
    .await;
}

#[tokio::test]
async fn a_retry_comes_back_at_its_time_with_another_fence() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let first = store.claim(claim(at(9))).await.unwrap().messages.remove(0);
        let retry = Settle {
            delay_told: true,
            ..settle(&first, Outcome::Retry(at(20)))
        };
        assert_eq!(store.settle(vec![retry]).await.unwrap(), [true]);
        assert_eq!(
            store.settle(vec![settle(&first, GONE)]).await.unwrap(),
            [false]
        );
        assert_eq!(
            store.claim(claim(at(19))).await.unwrap().next_due,
            Some(at(20))
        );
        let again = store.claim(claim(at(20))).await.unwrap().messages.remove(0);
        assert_eq!(
            (again.attempts, again.results.len(), again.delay_told),
            (2, 1, true)
        );
        assert!(again.fence > first.fence);
    })
    .await;
}

#[tokio::test]
async fn what_is_released_is_as_before() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let queued = store.claim(claim(at(9))).await.unwrap().messages.remove(0);
        let release = Settle {
            attempt: None,
            ..settle(&queued, Outcome::Release)
        };
        assert_eq!(store.settle(vec![release]).await.unwrap(), [true]);
        let queued = store.queued(QueueId(1)).await.unwrap().unwrap();
        assert_eq!(
            (queued.attempts, queued.last_attempt, queued.results.len()),
            (0, None, 0)
        );
        assert_eq!(ids(&store.claim(claim(at(9))).await.unwrap()), [1]);
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_runs_out_goes_to_another_unless_renewed() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let first = store
            .claim(claim(at(0).after(Duration::from_secs(10))))
            .await
            .unwrap()
            .messages
            .remove(0);
        assert_eq!(
            store
                .renew(vec![(first.id, first.fence), (QueueId(9), 1)], at(100))
                .await
                .unwrap(),
            [true, false]
        );
        assert_eq!(ids(&store.claim(claim(at(99))).await.unwrap()), []);
        let second = store
            .claim(claim(at(100)))
            .await
            .unwrap()
            .messages
            .remove(0);
        assert_eq!(second.attempts, 2);
        assert_eq!(
            store
                .renew(vec![(first.id, first.fence)], at(200))
                .await
                .unwrap(),
            [false]
        );
        assert_eq!(
            store.settle(vec![settle(&first, GONE)]).await.unwrap(),
            [false]
        );
        assert_eq!(
            store.settle(vec![settle(&second, GONE)]).await.unwrap(),
            [true]
        );
    })
    .await;
}

#[tokio::test]
async fn a_late_result_counts_if_nobody_else_has_the_message() {
    on_both(|store| async move {
        store
            .accept(message(&["a@x.example", "b@x.example"]))
            .await
            .unwrap();
        let queued = store
            .claim(Claim {
                max: 1,
                ..claim(at(9))
            })
            .await
            .unwrap()
            .messages
            .remove(0);
        // Another claim notices that the first ran out, but does not take its message.
        let other = Claim {
            only: Some("y.example".into()),
            ..claim(at(1000))
        };
        assert_eq!(ids(&store.claim(other).await.unwrap()), []);
        assert_eq!(store.counts().await.claimed, 0);
        assert_eq!(
            store.settle(vec![settle(&queued, GONE)]).await.unwrap(),
            [true]
        );
        assert_eq!(ids(&store.claim(claim(at(1000))).await.unwrap()), [2]);
    })
    .await;
}

#[tokio::test]
async fn mail_and_events_come_with_the_settlement() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let queued = store.claim(claim(at(9))).await.unwrap().messages.remove(0);
        let end = Settle {
            text: Some(inline("a DSN")),
            mails: vec![
                mail("Inbox", TextSource::New),
                mail("Sent", TextSource::Existing(queued.text)),
            ],
            hooks: vec![
                hook("http://h/", event(Event::Failed, queued.id), at(9)),
                hook("http://h/", NewHookKind::Incoming(1), at(9)),
            ],
            ..settle(&queued, KEPT)
        };
        let stale = Settle {
            fence: 0,
            ..settle(&queued, GONE)
        };
        assert_eq!(store.settle(vec![stale, end]).await.unwrap(), [false, true]);
        assert_eq!(
            store.mail(MailId(1)).await.unwrap().unwrap().mailbox,
            "Inbox"
        );
        assert_eq!(text(&store, TextId(2)).await.unwrap(), "a DSN");
        assert_eq!(
            text(&store, queued.text).await.unwrap(),
            "Hi!\r\n",
            "the text lives on in the mailbox"
        );
        assert_eq!(store.counts().await.hooks, 2);
        let all = store.list_mails("ann", None, None, 10).await.unwrap();
        assert_eq!(all.items.len(), 2);
        let sent = store
            .list_mails("ann", Some("Sent"), None, 10)
            .await
            .unwrap();
        assert_eq!(
            sent.items.iter().map(|mail| mail.id).collect::<Vec<_>>(),
            [MailId(2)]
        );
        assert_eq!(
            store.list_mails("bob", None, None, 10).await.unwrap().items,
            []
        );
    })
    .await;
}

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

#[tokio::test]
async fn a_unit_that_makes_no_sense_is_refused_as_a_whole() {
    on_both(|store| async move {
        let mut no_text = message(&["a@x.example"]);
        no_text.text = None;
        assert!(matches!(
            store.accept(no_text).await,
            Err(StoreError::Invalid(_))
        ));
        assert!(matches!(
            store.accept(message(&[])).await,
            Err(StoreError::Invalid(_))
        ));
        let mut unknown = message(&["a@x.example"]);
        unknown.mails = vec![mail("Inbox", TextSource::Existing(TextId(7)))];
        assert!(matches!(
            store.accept(unknown).await,
            Err(StoreError::NoText(TextId(7)))
        ));
        let hooks = vec![hook("http://h/", NewHookKind::Incoming(0), at(1))];
        assert!(matches!(
            store
                .accept(Accept {
                    hooks,
                    ..Accept::default()
                })
                .await,
            Err(StoreError::Invalid(_))
        ));
        assert_eq!(
            store.counts().await.queued + store.counts().await.mails + store.counts().await.hooks,
            0
        );
        assert_eq!(
            store.accept(message(&["a@x.example"])).await.unwrap().queue,
            [QueueId(1)]
        );
    })
    .await;
}

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
        // What is over first goes first.
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
async fn large_texts_too() {
    on_both(|store| async move {
        let size = 3 * INLINE_TEXT_MAX + 7;
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let mut writer = store.text_writer();
        for piece in bytes.chunks(10_000) {
            writer.write(piece).await.unwrap();
        }
        assert_eq!(writer.len(), size as u64);
        let new = writer.finish().await.unwrap();
        store
            .accept(Accept {
                text: Some(new),
                ..message(&["a@x.example"])
            })
            .await
            .unwrap();
        // One that was not written piece by piece.
        let new = NewText::Inline(bytes.clone().into());
        store
            .accept(Accept {
                text: Some(new),
                ..message(&["a@x.example"])
            })
            .await
            .unwrap();
        for id in [TextId(1), TextId(2)] {
            assert_eq!(text(&store, id).await.unwrap(), bytes);
            let stored = store.text(id).await.unwrap();
            assert_eq!(stored.read(1000..1010).await.unwrap(), bytes[1000..1010]);
            assert_eq!(
                stored.read(size as u64 - 2..u64::MAX).await.unwrap(),
                bytes[size - 2..]
            );
        }
        let open = store.text(TextId(1)).await.unwrap();
        for queued in store.claim(claim(at(9))).await.unwrap().messages {
            assert_eq!(
                store.settle(vec![settle(&queued, GONE)]).await.unwrap(),
                [true]
            );
        }
        assert!(store.text(TextId(1)).await.is_err());
        assert_eq!(
            open.read(0..u64::MAX).await.unwrap(),
            bytes,
            "who has it open can read on"
        );
        assert_eq!(store.counts().await.text_bytes, 0);
    })
    .await;
}

#[tokio::test]
async fn an_empty_text_is_one() {
    on_both(|store| async move {
        store
            .accept(Accept {
                text: Some(inline("")),
                ..message(&["a@x.example"])
            })
            .await
            .unwrap();
        assert_eq!(text(&store, TextId(1)).await.unwrap(), "");
    })
    .await;
}

#[tokio::test]
async fn a_text_can_be_used_again_while_it_lives() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let resend = Accept {
            queue: Some(NewMessage {
                common: common(),
                top: Top::EMPTY,
                text: TextSource::Existing(TextId(1)),
                recipients: vec![recipient("b@x.example", at(1))],
            }),
            ..Accept::default()
        };
        store.accept(resend).await.unwrap();
        let messages = store.claim(claim(at(9))).await.unwrap().messages;
        assert_eq!(
            store
                .settle(vec![settle(&messages[0], GONE)])
                .await
                .unwrap(),
            [true]
        );
        assert!(text(&store, TextId(1)).await.is_some());
        assert_eq!(
            store
                .settle(vec![settle(&messages[1], GONE)])
                .await
                .unwrap(),
            [true]
        );
        assert!(text(&store, TextId(1)).await.is_none());
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
