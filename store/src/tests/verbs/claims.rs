//! Claims and settlements of messages.

use super::on_both;
use std::time::Duration;

use crate::tests::samples::*;
use crate::{
    Change, Claim, DeliveryClass, Lane, LaneHead, Outcome, QueueId, Reroute, Settle, Store,
    StoreError, TextId, Time, Which,
};

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
        later.queue[0].recipients[0].next_attempt = at(50);
        store.accept(later).await.unwrap();
        store.checkpoint().await;

        let claimed = store.claim(claim(at(0))).await.unwrap();
        assert_eq!((ids(&claimed), head(&store).await), (vec![], Some(at(1))));
        let claimed = store.claim(claim(at(10))).await.unwrap();
        assert_eq!(
            (ids(&claimed), head(&store).await),
            (vec![1, 3, 2], Some(at(50)))
        );
        let first = &claimed.messages[0];
        assert_eq!(
            (first.attempts, first.fence, first.last_attempt),
            (1, 1, Some(at(10)))
        );
        assert_eq!(first.next_attempt, at(1));
        assert!(ids(&store.claim(claim(at(10))).await.unwrap()).is_empty());
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
            which: Which::Lanes(vec![lane("z.example")]),
            ..claim(at(9))
        };
        assert!(ids(&store.claim(none).await.unwrap()).is_empty());
        let one_each = Claim {
            max_per_lane: 1,
            ..claim(at(9))
        };
        let claimed = store.claim(one_each).await.unwrap();
        assert_eq!(
            (ids(&claimed), head(&store).await),
            (vec![1, 3], Some(at(1)))
        );
        let only = Claim {
            which: Which::Lanes(vec![lane("y.example"), lane("x.example")]),
            max: 1,
            ..claim(at(9))
        };
        assert_eq!(ids(&store.claim(only).await.unwrap()), [4]);
        assert_eq!(
            store.lanes(None, 9).await.unwrap(),
            [(lane("x.example"), at(1))]
        );
        let claimed = store
            .claim(Claim {
                max: 0,
                ..claim(at(9))
            })
            .await
            .unwrap();
        assert_eq!((ids(&claimed), head(&store).await), (vec![], Some(at(1))));
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
        held.queue[0].recipients[0].hold = true;
        store.accept(held).await.unwrap();
        let claimed = store.claim(claim(at(9))).await.unwrap();
        assert_eq!((ids(&claimed), head(&store).await), (vec![], None));
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
        assert!(ids(&store.claim(claim(at(19))).await.unwrap()).is_empty());
        assert_eq!(head(&store).await, Some(at(20)));
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
async fn a_message_waits_in_the_lane_of_its_forced_transport_or_else_of_its_route() {
    on_both(|store| async move {
        let mut unit = message(&["a@x.example", "b@x.example", "c@x.example"]);
        let recipients = &mut unit.queue[0].recipients;
        recipients[1].route = "relay".into();
        recipients[2].route = "relay".into();
        recipients[2].transport = "forced".into();
        store.accept(unit).await.unwrap();
        let lane = |transport| Lane::new("x.example", transport, DeliveryClass::Normal, "ann");
        let waits = async |transport| {
            let due = store.due_in_lane(&lane(transport), None, at(9), 9).await;
            let due = due.unwrap().into_iter().map(|queued| queued.id.0);
            due.collect::<Vec<_>>()
        };
        let found = [waits("").await, waits("relay").await, waits("forced").await];
        assert_eq!(found, [[1], [2], [3]]);
        let to = |id, fence, route: &str| Reroute {
            id: QueueId(id),
            fence,
            route: route.into(),
        };
        store.follow_lanes();
        let claim_first = Claim {
            which: Which::Messages(vec![QueueId(1)]),
            ..claim(at(9))
        };
        let first = store.claim(claim_first).await.unwrap().messages.remove(0);
        let _ = store.changed_lanes();
        let moves = vec![
            to(1, 1, "other"),
            to(2, 0, "other"),
            to(2, 9, ""),
            to(3, 0, "other"),
            to(7, 0, "other"),
        ];
        assert_eq!(store.reroute(moves).await.unwrap(), 2);
        assert!(waits("relay").await.is_empty());
        assert_eq!(waits("other").await, [2], "it keeps its time");
        assert_eq!(waits("forced").await, [3], "the forced transport wins");
        let mut changed = store.changed_lanes();
        changed.sort();
        let expected = [(lane("other"), Some(at(1))), (lane("relay"), None)];
        assert_eq!(changed, expected);
        let retry = Settle {
            route: Some("relay".into()),
            ..settle(&first, Outcome::Retry(at(5)))
        };
        store.settle(vec![retry]).await.unwrap();
        assert_eq!(waits("relay").await, [1]);
        let by_routes = Change {
            transport: Some(String::new()),
            ..Change::default()
        };
        let all = vec![QueueId(1), QueueId(3)];
        store.change(all, &by_routes, at(9)).await.unwrap();
        assert_eq!(waits("other").await, [2, 3]);
        let claimed = store.claim(claim(at(9))).await.unwrap().messages;
        let routes = claimed.iter().map(|it| (it.id.0, it.next_transport()));
        let routes: Vec<_> = routes.collect();
        assert_eq!(routes, [(2, "other"), (3, "other"), (1, "relay")]);
        let release = claimed.iter().map(|queued| Settle {
            attempt: None,
            route: Some(String::new()),
            ..settle(queued, Outcome::Release)
        });
        store.settle(release.collect()).await.unwrap();
        assert_eq!(waits("").await, [2, 3, 1]);
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
                .renew(
                    vec![(first.id, first.fence), (QueueId(9), 1)],
                    moment(at(100))
                )
                .await
                .unwrap(),
            [true, false]
        );
        assert!(ids(&store.claim(claim(at(99))).await.unwrap()).is_empty());
        let second = store
            .claim(claim(at(100)))
            .await
            .unwrap()
            .messages
            .remove(0);
        assert_eq!(second.attempts, 2);
        assert_eq!(
            store
                .renew(vec![(first.id, first.fence)], moment(at(200)))
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
async fn a_wall_clock_that_is_set_ends_no_claim() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let first = store.claim(claim(at(9))).await.unwrap().messages.remove(0);
        let set = |time, moment_of| Claim {
            moment: moment(moment_of),
            ..claim(time)
        };
        for time in [at(100_000), at(0)] {
            let claimed = store.claim(set(time, at(10))).await.unwrap();
            assert!(ids(&claimed).is_empty());
        }
        assert_eq!(
            store.settle(vec![settle(&first, KEPT)]).await.unwrap(),
            [true]
        );
        // Even a clock that was set back ends the claims whose time is over.
        store.accept(message(&["b@x.example"])).await.unwrap();
        let claimed = store.claim(set(at(9), at(20))).await.unwrap();
        assert_eq!(ids(&claimed), [2]);
        let claimed = store.claim(set(at(5), at(80))).await.unwrap();
        assert_eq!(ids(&claimed), [2]);
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
            which: Which::Lanes(vec![lane("y.example")]),
            ..claim(at(1000))
        };
        assert!(ids(&store.claim(other).await.unwrap()).is_empty());
        assert_eq!(store.counts().await.claimed, 0);
        assert_eq!(
            store.settle(vec![settle(&queued, GONE)]).await.unwrap(),
            [true]
        );
        assert_eq!(ids(&store.claim(claim(at(1000))).await.unwrap()), [2]);
    })
    .await;
}

/// The lane of the sample messages to a destination.
fn lane(destination: &str) -> Lane {
    Lane::new(destination, "", DeliveryClass::Normal, "ann")
}

/// When the first message of all lanes is due.
async fn head(store: &Store) -> Option<Time> {
    let lanes = store.lanes(None, 100).await.unwrap();
    lanes.into_iter().map(|(_, head)| head).min()
}

#[tokio::test]
async fn lanes_part_destinations_transports_classes_and_accounts() {
    on_both(|store| async move {
        store.follow_lanes();
        store.accept(message(&["a@x.example"])).await.unwrap();
        let mut urgent = message(&["b@x.example"]);
        urgent.queue[0].common.urgency.priority = 4;
        urgent.queue[0].recipients[0].next_attempt = at(2);
        store.accept(urgent).await.unwrap();
        let mut bulk = message(&["c@x.example"]);
        bulk.queue[0].common.account = "bob".into();
        bulk.queue[0].common.urgency.bulk = true;
        bulk.queue[0].recipients[0].transport = "relay".into();
        bulk.queue[0].recipients[0].next_attempt = at(3);
        store.accept(bulk).await.unwrap();
        store.checkpoint().await;
        let lanes = [
            (
                Lane::new("x.example", "relay", DeliveryClass::Bulk, "bob"),
                at(3),
            ),
            (lane("x.example"), at(1)),
            (
                Lane::new("x.example", "", DeliveryClass::Urgent, "ann"),
                at(2),
            ),
        ];
        assert_eq!(store.lanes(None, 9).await.unwrap(), lanes);
        assert_eq!(
            store.lanes(Some(lanes[0].0.clone()), 1).await.unwrap(),
            lanes[1..2]
        );
        let mut changed = store.changed_lanes();
        changed.sort();
        let expected: Vec<LaneHead> = lanes
            .iter()
            .cloned()
            .map(|(lane, at)| (lane, Some(at)))
            .collect();
        assert_eq!(changed, expected);
        assert_eq!(store.changed_lanes(), []);
        let one = Claim {
            which: Which::Lanes(vec![lanes[2].0.clone(), lanes[2].0.clone()]),
            ..claim(at(9))
        };
        assert_eq!(ids(&store.claim(one).await.unwrap()), [2]);
        assert_eq!(store.changed_lanes(), [(lanes[2].0.clone(), None)]);
    })
    .await;
}

#[tokio::test]
async fn a_lane_tells_of_its_head_and_of_nothing_behind_it() {
    on_both(|store| async move {
        store.follow_lanes();
        let lane = lane("x.example");
        store
            .accept(message(&["a@x.example", "b@x.example"]))
            .await
            .unwrap();
        let _ = store.changed_lanes();
        store.accept(message(&["c@x.example"])).await.unwrap();
        assert_eq!(store.changed_lanes(), [], "it is behind the head");
        let mut earlier = message(&["d@x.example"]);
        earlier.queue[0].recipients[0].next_attempt = at(0);
        store.accept(earlier).await.unwrap();
        assert_eq!(store.changed_lanes(), [(lane.clone(), Some(at(0)))]);
        let due = async |after, limit| {
            let due = store.due_in_lane(&lane, after, at(1), limit).await.unwrap();
            due.iter().map(|queued| queued.id.0).collect::<Vec<_>>()
        };
        assert_eq!(due(None, 2).await, [4, 1]);
        assert_eq!(due(Some((at(1), QueueId(1))), 9).await, [2, 3]);
        let count = store.count_lanes(vec![lane.clone()], at(0), 100).await;
        let expected = crate::LaneCount {
            waiting: 4,
            due: 1,
            first: Some(at(0)),
        };
        assert_eq!(count.unwrap(), [expected]);
        let some = store
            .count_lanes(vec![lane.clone()], at(0), 3)
            .await
            .unwrap();
        assert_eq!(some[0].waiting, 3);
        let claimed = store
            .claim(Claim {
                max: 2,
                ..claim(at(9))
            })
            .await
            .unwrap();
        assert_eq!(ids(&claimed), [4, 1]);
        assert_eq!(due(None, 9).await, [2, 3]);
        let retry = settle(&claimed.messages[0], Outcome::Retry(at(50)));
        let _ = store.changed_lanes();
        store.settle(vec![retry]).await.unwrap();
        assert_eq!(store.changed_lanes(), []);
        let numbers = Claim {
            which: Which::Messages([3, 1, 4, 3, 2, 99].map(QueueId).to_vec()),
            ..claim(at(9))
        };
        let claimed = store.claim(numbers).await.unwrap();
        assert_eq!(
            ids(&claimed),
            [3, 2],
            "the others are claimed, not due, or not there"
        );
        assert_eq!(store.changed_lanes(), [(lane.clone(), Some(at(50)))]);
    })
    .await;
}
