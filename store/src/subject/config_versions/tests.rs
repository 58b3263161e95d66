//! Versions of `domains.conf` on both engines.

use super::*;
use crate::{
    Options,
    tests::{samples::at, verbs::on_both},
};

/// A text that somebody brought by an operation, or with an editor.
pub(super) fn version(text: &str, who: &str) -> ConfigVersion {
    ConfigVersion {
        id: ConfigVersionId(0),
        time: at(1),
        who: who.into(),
        what: match who {
            "" => "",
            _ => "account.add new",
        }
        .into(),
        hash: format!("hash of {text}"),
        text: text.into(),
    }
}

#[tokio::test]
async fn a_text_is_kept_once_with_the_name_of_who_brought_it() {
    on_both(|store| async move {
        let keep = async |text, who| store.keep_config_version(version(text, who)).await.unwrap();
        let shown = async || {
            let all = store.config_versions().await.unwrap();
            let shown = all.into_iter().map(|it| (it.id.0, it.text, it.who));
            shown.collect::<Vec<_>>()
        };
        let row = |id, text: &str, who: &str| (id, text.to_owned(), who.to_owned());
        assert!(keep("a", "").await);
        store.checkpoint().await;
        assert!(!keep("a", "ann").await);
        // Who is known is not forgotten, and the first one counts.
        assert!(!keep("a", "").await && !keep("a", "bob").await);
        assert_eq!(shown().await, [row(1, "a", "ann")]);
        assert!(keep("b", "").await);
        // An earlier text may come again.
        assert!(keep("a", "").await);
        assert_eq!(
            shown().await,
            [row(1, "a", "ann"), row(2, "b", ""), row(3, "a", "")]
        );
        let one = store.config_version(ConfigVersionId(2)).await.unwrap();
        assert_eq!(one.unwrap().text, "b");
        assert_eq!(
            store.config_version(ConfigVersionId(9)).await.unwrap(),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn the_last_twenty_are_kept() {
    on_both(|store| async move {
        for text in 1..=CONFIG_VERSIONS_MAX + 2 {
            let kept = store.keep_config_version(version(&text.to_string(), "ann"));
            assert!(kept.await.unwrap());
            store.checkpoint().await;
        }
        let all = store.config_versions().await.unwrap();
        assert_eq!(all.len(), CONFIG_VERSIONS_MAX);
        assert_eq!((all[0].id.0, all[0].text.as_str()), (3, "3"));
    })
    .await;
}

#[tokio::test]
async fn a_text_that_is_known_is_not_written_to_the_journal() {
    const SEGMENT: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options {
        segment_size: SEGMENT,
        ..Options::new(dir.path())
    });
    let store = store.unwrap();
    let text = "x".repeat(100_000);
    let keep = async |who| {
        store
            .keep_config_version(version(&text, who))
            .await
            .unwrap()
    };
    assert!(keep("ann").await);
    let before = store.journal_size().await.unwrap();
    for who in ["ann", "bob", ""].into_iter().cycle().take(60) {
        assert!(!keep(who).await, "{who}");
    }
    // One segment may have been made in advance meanwhile. The texts would take six.
    assert!(store.journal_size().await.unwrap() <= before + SEGMENT);
    store.close().await;
}
