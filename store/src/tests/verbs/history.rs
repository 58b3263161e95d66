//! The history, listings, and the rest.

use super::on_both;

use crate::tests::samples::*;
use crate::{
    APP_PASSWORDS_MAX, Accept, AppHash, AppPassword, Credential, CredentialChange, ENVIDS_MAX,
    Event, Found, NewSuppression, Order, Otp, OtpAlgorithm, Outcome, PasswordOf, QueueFilter,
    QueueId, Reference, RetiredFilter, ScramSalts, Store, StoreError, Transaction,
    subject::credentials as samples,
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
            ..Credential::default()
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
async fn app_passwords_and_codes_change_as_a_whole() {
    on_both(|store| async move {
        let app_password = |name: &str| AppPassword {
            name: name.into(),
            hash: AppHash::Random([7; 32]),
            created: at(1),
            last_used: None,
            keys: None,
        };
        let change = async |change: CredentialChange| {
            let changed = store.change_credential("ann", change, at(2)).await;
            changed.unwrap()
        };
        let now = async || store.credential("ann").await.unwrap().unwrap();
        assert!(!store.take_otp_step("ann", 7).await.unwrap());
        let otp = Otp {
            secret: vec![1; 20],
            algorithm: OtpAlgorithm::Sha1,
            digits: 6,
            period: 30,
            last_step: 0,
        };
        let all = CredentialChange {
            argon2: Some("hash".into()),
            otp: Some(Some(otp)),
            add: vec![app_password("phone"), app_password("laptop")],
            ..CredentialChange::default()
        };
        assert!(change(all).await);
        store.checkpoint().await;
        let before = now().await;
        assert_eq!((before.argon2.as_str(), before.set), ("hash", at(2)));
        // One name is taken, so nothing changes.
        let half = CredentialChange {
            argon2: Some("other".into()),
            otp: Some(None),
            remove: vec!["laptop".into()],
            add: vec![app_password("tablet"), app_password("phone")],
            ..CredentialChange::default()
        };
        assert!(!change(half).await);
        assert_eq!(now().await, before);
        let many = CredentialChange {
            add: (0..APP_PASSWORDS_MAX - 1)
                .map(|it| app_password(&it.to_string()))
                .collect(),
            ..CredentialChange::default()
        };
        assert!(!change(many).await);

        store.use_app_password("ann", "phone", at(5)).await.unwrap();
        store.use_app_password("ann", "phone", at(4)).await.unwrap();
        store.use_app_password("ann", "gone", at(4)).await.unwrap();
        let used: Vec<_> = now()
            .await
            .app_passwords
            .iter()
            .map(|it| it.last_used)
            .collect();
        assert_eq!(used, [Some(at(5)), None]);
        assert!(store.take_otp_step("ann", 7).await.unwrap());
        assert!(!store.take_otp_step("ann", 7).await.unwrap());
        assert!(!store.take_otp_step("ann", 6).await.unwrap());
        assert!(store.take_otp_step("ann", 8).await.unwrap());
        let replaced = CredentialChange {
            otp: Some(None),
            remove: vec!["phone".into(), "gone".into()],
            add: vec![app_password("phone")],
            ..CredentialChange::default()
        };
        assert!(change(replaced).await);
        let after = now().await;
        assert_eq!(after.argon2, "hash");
        assert!(after.otp.is_none());
        let names: Vec<&str> = after
            .app_passwords
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        assert_eq!(names, ["laptop", "phone"]);
        assert!(!store.take_otp_step("ann", 9).await.unwrap());
        assert!(!format!("{before:?}").contains("hash\""));
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

/// The messages of one of our transactions, by number.
async fn of_transaction(store: &Store, envid: &str) -> Vec<u64> {
    let reference = Reference::Transaction(envid);
    let found = store.find(reference, None, None, 9).await.unwrap();
    let mut ids: Vec<u64> = found.iter().map(|found| found.message().id.0).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn an_envid_names_the_messages_of_its_transaction_as_long_as_they_are_kept() {
    on_both(|store| async move {
        let to = ["a@x.example", "b@x.example", "c@x.example"];
        store.accept(message(&to)).await.unwrap();
        let messages = store.claim(claim(at(9))).await.unwrap().messages;
        let transaction = |envid: &str, ids: &[u64]| Transaction {
            envid: envid.into(),
            messages: ids.iter().copied().map(QueueId).collect(),
        };
        // A message that is not there is left out.
        let begun = vec![transaction("one", &[1, 2, 77]), transaction("two", &[3])];
        store.begin(begun).await.unwrap();
        assert_eq!(of_transaction(&store, "one").await, [1, 2]);
        assert_eq!(of_transaction(&store, "two").await, [3]);
        let ends = [
            Outcome::Retry(at(10)),
            GONE,
            Outcome::Retire {
                success: true,
                now: at(9),
                keep_until: Some(at(20)),
            },
        ];
        let ends = messages.iter().zip(ends);
        let settled = ends.map(|(message, end)| settle(message, end)).collect();
        assert_eq!(store.settle(settled).await.unwrap(), [true, true, true]);
        store.checkpoint().await;
        assert_eq!(of_transaction(&store, "one").await, [1]);
        let found = store
            .find(Reference::Transaction("two"), None, None, 9)
            .await;
        assert!(matches!(found.unwrap().as_slice(), [Found::Retired(_)]));
        assert_eq!(store.expire(at(20), 9).await.unwrap(), 1);
        assert!(of_transaction(&store, "two").await.is_empty());
        // The submitter's ENVID is another name, even with the same letters.
        let envid = Reference::Envid("one");
        assert_eq!(store.find(envid, None, None, 9).await.unwrap(), []);
        // A message keeps the last ones.
        for number in 0..ENVIDS_MAX {
            let begun = vec![transaction(&number.to_string(), &[1])];
            store.begin(begun.clone()).await.unwrap();
            store.begin(begun).await.unwrap();
        }
        assert!(of_transaction(&store, "one").await.is_empty());
        assert_eq!(of_transaction(&store, "0").await, [1]);
        let kept = store.queued(QueueId(1)).await.unwrap().unwrap().envids;
        assert_eq!((kept.len(), kept[0].as_str()), (ENVIDS_MAX, "0"));
    })
    .await;
}

#[tokio::test]
async fn an_expired_suppression_counts_as_absent() {
    on_both(|store| async move {
        let entry = |created, until: Option<i64>| NewSuppression {
            account: "ann".into(),
            base: "x@a.example".into(),
            list: String::new(),
            original: "X@a.example".into(),
            created: at(created),
            manual: until.is_none(),
            reason: "test".into(),
            reply: None,
            until: until.map(at),
        };
        let found = async |now| {
            let found = store.suppression("ann", "x@a.example", at(now)).await;
            let listed = store
                .list_suppressions(Some("ann"), at(now), None, Order::Ascending, 9)
                .await;
            let found = found.unwrap();
            assert_eq!(
                found.clone().into_iter().collect::<Vec<_>>(),
                listed.unwrap().items
            );
            found.map(|found| found.id.0)
        };
        let remove = async |now| store.unsuppress("ann", "x@a.example", at(now)).await;
        assert!(store.suppress(entry(1, Some(10))).await.unwrap());
        assert!(!store.suppress(entry(9, Some(50))).await.unwrap());
        store.checkpoint().await;
        assert_eq!((found(9).await, found(10).await), (Some(1), None));
        assert!(!remove(10).await.unwrap(), "it was not there any more");
        // A new entry takes the place of an expired one, which housekeeping does not see then.
        assert!(store.suppress(entry(10, Some(20))).await.unwrap());
        assert!(store.suppress(entry(20, Some(30))).await.unwrap());
        assert_eq!(found(20).await, Some(3));
        assert_eq!(store.expire(at(29), 9).await.unwrap(), 0);
        assert_eq!(store.expire(at(30), 9).await.unwrap(), 1);
        assert_eq!(store.counts().await.suppressions, 0);
        // An entry without an end stays, and can be removed.
        assert!(store.suppress(entry(40, None)).await.unwrap());
        assert_eq!(store.expire(at(999), 9).await.unwrap(), 0);
        assert_eq!(found(999).await, Some(4));
        assert!(remove(999).await.unwrap());
        assert_eq!(store.counts().await.suppressions, 0);
    })
    .await;
}

#[tokio::test]
async fn the_entries_of_an_address_are_found_in_all_lists() {
    on_both(|store| async move {
        let entry = |base: &str, list: &str, until: Option<i64>| NewSuppression {
            account: "ann".into(),
            base: base.into(),
            list: list.into(),
            original: base.into(),
            created: at(1),
            manual: true,
            reason: "test".into(),
            reply: None,
            until: until.map(at),
        };
        for new in [
            entry("x@a.example", "news", None),
            entry("x@a.example", "", None),
            entry("x@a.example", "old", Some(2)),
            entry("x@a.example2", "", None),
            entry("w@a.example", "", None),
        ] {
            assert!(store.suppress(new).await.unwrap());
        }
        let found = store.suppressions_of("ann", "x@a.example", at(5)).await;
        let lists: Vec<String> = found.unwrap().into_iter().map(|it| it.list).collect();
        assert_eq!(lists, ["", "news"]);
        let others = store.suppressions_of("bob", "x@a.example", at(5)).await;
        assert!(others.unwrap().is_empty());
        let newest = store.list_suppressions(Some("ann"), at(5), None, Order::Descending, 2);
        let newest = newest.await.unwrap();
        let bases: Vec<&str> = newest.items.iter().map(|it| it.base.as_str()).collect();
        assert_eq!(bases, ["w@a.example", "x@a.example2"]);
        let rest = store.list_suppressions(Some("ann"), at(5), newest.next, Order::Descending, 9);
        assert_eq!(rest.await.unwrap().items.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn all_passwords_of_an_account_have_the_same_salts() {
    on_both(|store| async move {
        let (salts, keys) = (samples::salts(), samples::keys());
        let other = ScramSalts {
            sha1: salts.sha256,
            ..salts
        };
        let now = async || store.credential("ann").await.unwrap().unwrap();
        let set = |hash: &str, salts| CredentialChange {
            argon2: Some(hash.into()),
            scram: Some(salts),
            main_keys: Some(keys.clone()),
            ..CredentialChange::default()
        };
        let main = |hash: &str| PasswordOf::Main(hash.into());
        let add = async |password, salts| {
            let added = store.add_scram_keys("ann", password, salts, keys.clone());
            added.await.unwrap()
        };
        assert!(!add(main("one"), salts).await, "there is no account");
        let change = async |change| store.change_credential("ann", change, at(1)).await.unwrap();
        assert!(change(set("one", salts)).await);
        assert_eq!(now().await.main_keys, Some(keys.clone()));
        // The account has salts, so keys with others are worthless.
        assert!(change(set("two", other)).await);
        assert_eq!(
            (now().await.main_keys, now().await.scram),
            (None, Some(salts))
        );
        assert!(!add(main("one"), salts).await, "an old password");
        assert!(!add(main("two"), other).await, "other salts");
        assert!(add(main("two"), salts).await);
        store.checkpoint().await;
        assert_eq!(now().await.main_keys, Some(keys.clone()));
        let hash = AppHash::Random([7; 32]);
        let app_password = AppPassword {
            name: "phone".into(),
            hash: hash.clone(),
            created: at(1),
            last_used: None,
            keys: None,
        };
        let added = CredentialChange {
            add: vec![app_password],
            ..CredentialChange::default()
        };
        assert!(change(added).await);
        let of = |name: &str, hash| PasswordOf::App(name.into(), hash);
        assert!(!add(of("gone", hash.clone()), salts).await);
        assert!(!add(of("phone", AppHash::Random([8; 32])), salts).await);
        assert!(add(of("phone", hash), salts).await);
        assert_eq!(now().await.app_passwords[0].keys, Some(keys.clone()));
    })
    .await;
}

#[tokio::test]
async fn the_key_for_unknown_users_stays() {
    on_both(|store| async move {
        assert_eq!(store.salts_key([1; 32]).await.unwrap(), [1; 32]);
        store.checkpoint().await;
        assert_eq!(store.salts_key([2; 32]).await.unwrap(), [1; 32]);
    })
    .await;
}
