//! Points of metrics on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

/// A point of this minute.
pub(super) fn point(minute: i64, span: PointSpan) -> MetricsPoint {
    MetricsPoint {
        time: at(60 * minute),
        span,
        values: vec![
            ("queue.count".into(), PointAmount::Gauge(7.0)),
            ("postrider.attempts".into(), PointAmount::Counter(2.0)),
            (
                "postrider.accept_duration_seconds".into(),
                PointAmount::Histogram { count: 2, sum: 0.5 },
            ),
        ],
        keep_until: at(60 * minute + 3600),
    }
}

#[tokio::test]
async fn points_are_listed_by_time_and_go() {
    on_both(|store| async move {
        for minute in [5, 10, 15, 60] {
            let short = point(minute, PointSpan::Short);
            store.keep_metrics(short).await.unwrap();
            store.checkpoint().await;
        }
        let hour = point(60, PointSpan::Hour);
        store.keep_metrics(hour.clone()).await.unwrap();
        let list = async |span, since: i64, before: i64, limit| {
            let (since, before) = (at(60 * since), at(60 * before));
            let points = store.list_metrics(span, since, before, limit).await;
            let points = points.unwrap().into_iter();
            points
                .map(|point| point.time.0 / MINUTE)
                .collect::<Vec<_>>()
        };
        let base = at(0).0 / MINUTE;
        for (since, before, limit, expected) in [
            (0, 99, 9, &[5, 10, 15, 60][..]),
            (10, 60, 9, &[10, 15]),
            (6, 99, 1, &[10]),
            (61, 99, 9, &[]),
        ] {
            let found = list(PointSpan::Short, since, before, limit).await;
            let found: Vec<_> = found.iter().map(|minute| minute - base).collect();
            assert_eq!(found, expected, "{since} {before} {limit}");
        }
        assert_eq!(list(PointSpan::Hour, 0, 99, 9).await, [base + 60]);
        // The first point of a minute stays.
        let again = MetricsPoint {
            values: Vec::new(),
            ..hour.clone()
        };
        store.keep_metrics(again).await.unwrap();
        let kept = store
            .list_metrics(PointSpan::Hour, at(0), at(9000), 9)
            .await;
        assert_eq!(kept.unwrap(), [hour]);
        store.checkpoint().await;
        assert_eq!(store.expire(at(60 * 70), 9).await.unwrap(), 2);
        assert_eq!(
            list(PointSpan::Short, 0, 99, 9).await,
            [base + 15, base + 60]
        );
    })
    .await;
}

/// More hours than are read under the lock at once, with other points between.
#[tokio::test]
async fn points_of_hours_are_found_among_others() {
    on_both(|store| async move {
        let hours = i64::try_from(PORTION).unwrap() + 3;
        for hour in 1..=hours {
            let points = [
                (60 * hour - 55, PointSpan::Short),
                (60 * hour, PointSpan::Short),
                (60 * hour, PointSpan::Hour),
            ];
            // There is a time without any points, and one without points of hours.
            for (minute, span) in points {
                let is_short = span == PointSpan::Short;
                if !(5..10).contains(&hour) || (hour > 7 && is_short) {
                    store.keep_metrics(point(minute, span)).await.unwrap();
                }
            }
            if hour % 50 == 0 {
                store.checkpoint().await;
            }
        }
        let hour = |number: i64| at(60 * 60 * number);
        for (since, before, limit, expected) in [
            (hour(0), hour(999), 999, (1..5).chain(10..=hours).collect()),
            (hour(2), hour(4), 9, vec![2, 3]),
            (Time(hour(2).0 + 1), hour(4), 9, vec![3]),
            (Time(i64::MIN), Time(i64::MAX), 6, vec![1, 2, 3, 4, 10, 11]),
            (hour(5), hour(10), 9, vec![]),
            (hour(hours), Time(i64::MAX), 9, vec![hours]),
        ] {
            let found = store.list_metrics(PointSpan::Hour, since, before, limit);
            let found = found.await.unwrap().into_iter().map(|point| point.time);
            let expected: Vec<i64> = expected;
            let expected = expected.into_iter().map(hour);
            assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    })
    .await;
}
