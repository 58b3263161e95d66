//! Sites on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

/// A site that is blocked, noted at this second.
pub(super) fn note(site: &str, noted: i64) -> SiteNote {
    SiteNote {
        site: site.into(),
        noted: at(noted),
        halt: Some(HaltNote {
            kind: HaltKind::Blocked,
            until: at(noted + 3600),
            failing: true,
            code: 554,
            enhanced: Some(EnhancedCode::permanent(7, 1)),
            text: "blocked".into(),
            remote: "mx.test [192.0.2.1]".into(),
            stage: "MAIL".into(),
        }),
        deaths: 0,
        blocks: 2,
        cap: Some((3, at(noted + 60))),
        buckets: vec![BucketNote {
            rate: "100/day".into(),
            connections: false,
            full_at: at(noted + 600),
        }],
        sources: vec![SourceNote {
            source: "one".into(),
            halt: None,
            blocks: 1,
            buckets: Vec::new(),
            warm_up: Some(WarmUpNote {
                day: 20_000,
                sent: 99,
                blocked: true,
                repeats: 2,
            }),
        }],
    }
}

/// A pause that lasts.
pub(super) fn order(target: &str) -> SiteOrder {
    SiteOrder {
        target: target.into(),
        pause: Some(SitePause {
            since: at(1),
            until: None,
            reason: "they asked for it".into(),
        }),
        limit: None,
        paused: vec![(at(-100), at(-50))],
    }
}

#[tokio::test]
async fn what_was_learnt_is_replaced_and_kept_for_a_week() {
    on_both(|store| async move {
        let both = vec![note("a.test", 10), note("b.test", 10)];
        store.note_sites(both, Vec::new()).await.unwrap();
        store.checkpoint().await;
        let again = vec![note("b.test", 20), note("c.test", 20)];
        store
            .note_sites(again, vec!["d.test".into()])
            .await
            .unwrap();
        let expected = [note("a.test", 10), note("b.test", 20), note("c.test", 20)];
        assert_eq!(store.learnt_of_sites().await.unwrap(), expected);
        store
            .note_sites(Vec::new(), vec!["c.test".into()])
            .await
            .unwrap();
        let week = 7 * 86400;
        assert_eq!(store.expire(at(week + 9), 100).await.unwrap(), 0);
        assert_eq!(store.expire(at(week + 10), 100).await.unwrap(), 1);
        assert_eq!(store.learnt_of_sites().await.unwrap(), [note("b.test", 20)]);
        assert!(store.forget_site("b.test").await.unwrap());
        assert!(!store.forget_site("b.test").await.unwrap());
        assert_eq!(store.learnt_of_sites().await.unwrap(), []);
        assert_eq!(store.expire(at(2 * week), 100).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_order_stays_until_it_wants_nothing() {
    on_both(|store| async move {
        assert!(store.set_site_order(order("b.test")).await.unwrap());
        assert!(store.set_site_order(order("a.test")).await.unwrap());
        store.checkpoint().await;
        let resumed = SiteOrder {
            pause: None,
            ..order("b.test")
        };
        assert!(store.set_site_order(resumed.clone()).await.unwrap());
        let orders = store.site_orders().await.unwrap();
        assert_eq!(orders, [order("a.test"), resumed.clone()]);
        let empty = SiteOrder {
            paused: Vec::new(),
            ..resumed
        };
        assert!(store.set_site_order(empty.clone()).await.unwrap());
        assert!(store.set_site_order(empty).await.unwrap(), "it is gone");
        assert_eq!(store.site_orders().await.unwrap(), [order("a.test")]);
        assert_eq!(store.expire(at(86400 * 365), 100).await.unwrap(), 0);
    })
    .await;
}
