//! What accounts want of their mail, on both engines.

use super::*;
use crate::{
    NewMessage, Order, QueueFilter, StoreError, TextId, TextSource,
    tests::{
        samples::{at, common, inline, recipient},
        verbs::on_both,
    },
};

/// A change of a script at second 1. Without a text it goes.
pub(super) fn script(account: &str, name: &str, text: Option<&str>) -> SieveScriptChange {
    SieveScriptChange {
        account: account.into(),
        name: name.into(),
        script: text.map(|text| SieveScript {
            name: name.into(),
            text: text.into(),
            enabled: true,
            changed: at(1),
        }),
    }
}

pub(super) fn rule(id: u64, priority: i64) -> SieveRule {
    SieveRule {
        id: SieveRuleId(id),
        priority,
        text: "{}".into(),
        changed: at(1),
    }
}

pub(super) fn responder() -> SieveResponder {
    SieveResponder {
        text: "{}".into(),
        changed: at(1),
    }
}

/// An answer that may go out again ten seconds later, at most two a day.
pub(super) fn answer(hash: u8, now: i64, text: TextSource) -> NewSieveAnswer {
    NewSieveAnswer {
        account: "ann".into(),
        hash: [hash; 32],
        now: at(now),
        until: at(now + 10),
        most: 2,
        message: NewMessage {
            common: common(),
            top: Default::default(),
            text,
            recipients: vec![recipient("x@b.example", at(now))],
        },
    }
}

async fn names(store: &Store, account: &str) -> Vec<String> {
    let all = store.sieve(account).await.unwrap();
    let scripts = all.scripts.iter().map(|script| script.name.clone());
    let rules = all.rules.iter().map(|rule| rule.id.to_string());
    let responder = all.responder.map(|_| "responder".to_owned());
    scripts.chain(rules).chain(responder).collect()
}

async fn accounts(store: &Store) -> Vec<String> {
    let all = store.sieve_accounts().await.unwrap();
    all.into_iter().map(|(account, _)| account).collect()
}

#[tokio::test]
async fn scripts_rules_and_responders_are_kept_by_account() {
    on_both(|store| async move {
        let mut changed = store.sieve_changed();
        assert_eq!(names(&store, "ann").await, [""; 0]);
        let both = vec![
            script("ann", "b", Some("keep;")),
            script("ann", "a", Some("stop;")),
            script("an", "c", Some("keep;")),
        ];
        assert_eq!(store.set_sieve_scripts(both.clone()).await.unwrap(), 3);
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
        // What is so already is no change.
        assert_eq!(store.set_sieve_scripts(both).await.unwrap(), 0);
        store.checkpoint().await;
        for (priority, expected) in [(5, 1), (-5, 2), (5, 3)] {
            let added = store.add_sieve_rule("ann", rule(0, priority)).await;
            assert_eq!(added.unwrap(), SieveRuleId(expected));
        }
        assert!(
            store
                .set_sieve_responder("ann", Some(responder()))
                .await
                .unwrap()
        );
        let expected = ["a", "b", "2", "1", "3", "responder"];
        assert_eq!(names(&store, "ann").await, expected);
        assert_eq!(names(&store, "an").await, ["c"]);
        assert_eq!(accounts(&store).await, ["an", "ann"]);

        let change = vec![rule(3, -9), rule(7, 1)];
        let changed = store.change_sieve_rules("ann", change).await.unwrap();
        assert_eq!(changed, 1, "7 is not there");
        assert!(
            store
                .remove_sieve_rule("ann", SieveRuleId(2))
                .await
                .unwrap()
        );
        assert!(!store.remove_sieve_rule("an", SieveRuleId(1)).await.unwrap());
        let gone = vec![script("ann", "a", None), script("an", "c", None)];
        assert_eq!(store.set_sieve_scripts(gone).await.unwrap(), 2);
        store.checkpoint().await;
        assert_eq!(names(&store, "ann").await, ["b", "3", "1", "responder"]);
        assert_eq!(accounts(&store).await, ["ann"]);
        assert!(!store.set_sieve_responder("an", None).await.unwrap());
        assert_eq!(store.faults().unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_version_changes_with_each_change() {
    on_both(|store| async move {
        let version = async || store.sieve("ann").await.unwrap().version;
        assert_eq!(version().await, 0);
        let mut before = 0;
        for text in ["keep;", "stop;"] {
            let change = vec![script("ann", "a", Some(text))];
            store.set_sieve_scripts(change).await.unwrap();
            let now = version().await;
            assert!(now > before);
            assert_eq!(store.sieve_accounts().await.unwrap(), [("ann".into(), now)]);
            before = now;
        }
    })
    .await;
}

#[tokio::test]
async fn an_account_leaves_nothing() {
    on_both(|store| async move {
        let scripts = vec![
            script("ann", "a", Some("keep;")),
            script("bob", "a", Some("keep;")),
        ];
        store.set_sieve_scripts(scripts).await.unwrap();
        store.add_sieve_rule("ann", rule(0, 1)).await.unwrap();
        let set = store.set_sieve_responder("ann", Some(responder()));
        assert!(set.await.unwrap());
        assert!(send(&store, 1, 1).await);
        assert!(store.take_redirects("ann", 1, 1, at(1)).await.unwrap());
        store.checkpoint().await;
        assert_eq!(store.forget_sieve("ann").await.unwrap(), 3);
        assert_eq!(store.forget_sieve("ann").await.unwrap(), 0);
        assert_eq!(names(&store, "ann").await, [""; 0]);
        assert_eq!(accounts(&store).await, ["bob"]);
        assert_eq!(store.faults().unwrap(), [""; 0]);
        // A later account of the name has its own memory and counts.
        assert!(send(&store, 1, 2).await);
        assert!(store.take_redirects("ann", 1, 1, at(1)).await.unwrap());
    })
    .await;
}

/// Sends an answer with a text of its own. True: it goes out.
async fn send(store: &Store, hash: u8, now: i64) -> bool {
    let text = store.stage(inline("Hi")).await.unwrap();
    let answer = answer(hash, now, TextSource::Existing(text));
    store.answer_once(answer).await.unwrap()
}

async fn queued(store: &Store) -> usize {
    let filter = QueueFilter::default();
    let page = store.list(&filter, None, Order::Ascending, 100).await;
    page.unwrap().items.len()
}

#[tokio::test]
async fn an_answer_goes_out_once_in_its_time() {
    on_both(|store| async move {
        assert!(send(&store, 1, 1).await);
        assert!(!send(&store, 1, 10).await);
        store.checkpoint().await;
        assert!(!send(&store, 1, 10).await, "the index has it too");
        // Another sender, or another answer.
        assert!(send(&store, 2, 2).await);
        assert_eq!(queued(&store).await, 2);
        // Two are all of this day.
        assert!(!send(&store, 3, 3).await);
        let day = store.sieve_day("ann", at(3)).await.unwrap();
        assert_eq!((day.answers, day.redirects), (2, 0));
        // The next day.
        assert!(send(&store, 1, 86_400).await);
        assert_eq!(queued(&store).await, 3);
        assert_eq!(store.faults().unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn the_memory_forgets_when_its_time_is_over() {
    on_both(|store| async move {
        assert!(send(&store, 1, 1).await);
        assert!(send(&store, 2, 2).await);
        assert_eq!(store.expire(at(10), 100).await.unwrap(), 0);
        store.checkpoint().await;
        assert_eq!(store.expire(at(11), 100).await.unwrap(), 1);
        assert_eq!(store.expire(at(12), 100).await.unwrap(), 1);
        assert_eq!(store.faults().unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn an_answer_without_text_or_recipient_is_none() {
    on_both(|store| async move {
        let missing = TextSource::Existing(TextId(77));
        assert!(!store.answer_once(answer(1, 1, missing)).await.unwrap());
        let mut nobody = answer(1, 1, missing);
        nobody.message.recipients.clear();
        let error = store.answer_once(nobody).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)));
        // Nothing was remembered.
        assert!(send(&store, 1, 1).await);
    })
    .await;
}

#[tokio::test]
async fn redirects_of_a_day_are_counted() {
    on_both(|store| async move {
        let take = async |count, now| store.take_redirects("ann", count, 5, at(now)).await;
        assert!(take(3, 1).await.unwrap());
        assert!(!take(3, 2).await.unwrap());
        assert!(take(2, 3).await.unwrap());
        assert!(!take(1, 4).await.unwrap());
        assert!(take(5, 86_400).await.unwrap());
    })
    .await;
}
