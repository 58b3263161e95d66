//! The greylist on both engines.

use super::{Greyness::*, *};
use crate::tests::{samples::at, verbs::on_both};

const DAYS: i64 = 24 * 60 * 60;

async fn check(store: &Store, sender: u64, network: u64, seconds: i64, expected: Greyness) {
    let attempt = GreyAttempt {
        sender,
        network,
        now: at(seconds),
        max_rows: 100,
    };
    let greyness = store.try_greylist(attempt).await.unwrap();
    assert_eq!(greyness, expected, "{sender} in {network} at {seconds}");
    store.checkpoint().await;
}

#[tokio::test]
async fn a_sender_passes_after_a_minute_and_from_then_on() {
    on_both(|store| async move {
        check(&store, 1, 100, 0, Waits).await;
        check(&store, 1, 100, 59, Waits).await;
        check(&store, 2, 100, 60, Waits).await;
        check(&store, 1, 100, 60, Passes).await;
        check(&store, 1, 100, 61, Known).await;
        // Each use makes it last longer.
        check(&store, 1, 100, 35 * DAYS, Known).await;
        check(&store, 1, 100, 70 * DAYS, Known).await;
        check(&store, 1, 100, 106 * DAYS, Waits).await;
        check(&store, 1, 100, 106 * DAYS + 60, Passes).await;
    })
    .await;
}

#[tokio::test]
async fn a_sender_that_comes_too_late_begins_again() {
    on_both(|store| async move {
        check(&store, 1, 100, 0, Waits).await;
        check(&store, 1, 100, 2 * DAYS, Waits).await;
        check(&store, 1, 100, 2 * DAYS + 59, Waits).await;
        check(&store, 1, 100, 4 * DAYS - 1, Passes).await;
        // The clock is set back.
        check(&store, 2, 100, 4 * DAYS, Waits).await;
        check(&store, 2, 100, 3 * DAYS, Waits).await;
    })
    .await;
}

#[tokio::test]
async fn two_passes_make_a_network_known() {
    on_both(|store| async move {
        for sender in [1, 2] {
            check(&store, sender, 100, 0, Waits).await;
            check(&store, 9, 100, 1, Waits).await;
            check(&store, sender, 100, 60, Passes).await;
        }
        check(&store, 10, 100, 61, Known).await;
        check(&store, 10, 101, 61, Waits).await;
        check(&store, 11, 100, 35 * DAYS, Known).await;
        check(&store, 12, 100, 70 * DAYS, Known).await;
        check(&store, 13, 100, 106 * DAYS, Waits).await;
    })
    .await;
}

#[tokio::test]
async fn what_changes_nothing_is_not_written() {
    on_both(|store| async move {
        check(&store, 1, 100, 0, Waits).await;
        check(&store, 1, 100, 60, Passes).await;
        let until = async || {
            let rows = store
                .ask(Rows {
                    sender: 1,
                    network: 100,
                })
                .await
                .unwrap();
            rows.map(|row| row.map(|row| row.until))
        };
        let end = Some(at(60).after(LASTS));
        assert_eq!(until().await, [end, end]);
        check(&store, 1, 100, 59 + DAYS, Known).await;
        assert_eq!(until().await, [end, end]);
        check(&store, 1, 100, 61 + DAYS, Known).await;
        assert_eq!(until().await, [Some(at(61 + DAYS).after(LASTS)), end]);
    })
    .await;
}

#[tokio::test]
async fn the_oldest_rows_go() {
    on_both(|store| async move {
        for sender in 0..120 {
            check(&store, sender, 1000, sender.cast_signed(), Waits).await;
        }
        // The row of the network takes the place of 20, and that of 20 the place of 21.
        check(&store, 119, 1000, 200, Passes).await;
        check(&store, 20, 1000, 200, Waits).await;
        // What is over goes by itself: the senders that never came again after two days, and the
        // others after 36.
        let expire = async |seconds, max| store.expire(at(seconds), max).await.unwrap();
        assert_eq!(expire(2 * DAYS + 120, 40).await, 40);
        assert_eq!(expire(2 * DAYS + 200, 999).await, 58);
        assert_eq!(expire(36 * DAYS + 199, 999).await, 0);
        assert_eq!(expire(36 * DAYS + 200, 999).await, 2);
    })
    .await;
}

#[tokio::test]
async fn the_secret_is_set_once() {
    on_both(|store| async move {
        assert_eq!(store.greylist_secret([1; 16]).await.unwrap(), [1; 16]);
        store.checkpoint().await;
        assert_eq!(store.greylist_secret([2; 16]).await.unwrap(), [1; 16]);
    })
    .await;
}
