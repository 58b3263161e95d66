//! Deleted mail on both engines.

use super::*;
use crate::{
    Accept, MailChange, NewMail, TextSource,
    tests::{
        samples::{at, inline, mail, text},
        verbs::on_both,
    },
};

const KEEP: KeepDeleted = KeepDeleted {
    until: Time(100_000_000),
    bytes: 100,
};

/// Brings mail of these sizes, all with one text.
async fn bring(store: &Store, sizes: &[u64]) -> Vec<MailId> {
    let mails = sizes.iter().map(|size| NewMail {
        size: *size,
        ..mail("Inbox", TextSource::New)
    });
    let accept = Accept {
        text: Some(inline("Hi!\r\n")),
        mails: mails.collect(),
        ..Accept::default()
    };
    store.accept(accept).await.unwrap().mails
}

async fn delete(store: &Store, id: MailId, now: i64) -> bool {
    let deleted = store.delete_mail("ann", id, at(now), KEEP).await;
    deleted.unwrap()
}

/// The numbers of deleted mails, page by page.
async fn deleted(store: &Store) -> Vec<u64> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_deleted("ann", after, 2).await.unwrap();
        found.extend(page.items.iter().map(|it| it.mail.id.0));
        match page.next {
            None => return found,
            next => after = next,
        }
    }
}

/// Checks the mails in mailboxes: their number and bytes. The sums are right.
async fn check(store: &Store, usage: (u64, u64)) {
    let has = store.mail_usage("ann").await.unwrap();
    assert_eq!((has.mails, has.bytes), usage);
    assert_eq!(store.faults().unwrap(), [""; 0]);
}

#[tokio::test]
async fn deleted_mail_comes_back_as_it_was() {
    on_both(|store| async move {
        let ids = bring(&store, &[10, 20, 30]).await;
        let flags = MailChange {
            add_flags: vec!["$junk".into()],
            ..MailChange::default()
        };
        let lesson = crate::Lesson {
            tokenizer: 1,
            tokens: vec![1, 2],
            ..crate::Lesson::default()
        };
        let learnt = store.learn_mail("ann", ids[1], flags, lesson).await;
        assert!(learnt.unwrap());
        let before = store.mail(ids[1]).await.unwrap().unwrap();
        let trained = store.trained(ids[1]).await.unwrap();
        assert!(trained.is_some());
        assert!(delete(&store, ids[1], 1).await);
        assert!(!delete(&store, ids[1], 1).await, "it is not there");
        assert!(delete(&store, ids[0], 2).await);
        store.checkpoint().await;
        check(&store, (1, 30)).await;
        assert_eq!(store.mail(ids[1]).await.unwrap(), None);
        assert_eq!(deleted(&store).await, [2, 1], "oldest first");
        let page = store.list_deleted("ann", None, 1).await.unwrap();
        assert_eq!(page.items[0].mail, before);
        assert_eq!(
            (page.items[0].deleted, page.items[0].until),
            (at(1), at(100))
        );
        assert!(
            store
                .list_deleted("bob", None, 9)
                .await
                .unwrap()
                .items
                .is_empty()
        );
        // The others may go: the text is there as long as one mail has it.
        assert!(store.remove_mail("ann", ids[2]).await.unwrap());
        for (account, id, expected) in [("bob", ids[1], false), ("ann", ids[1], true)] {
            let restored = store.restore_mail(account, id, "Inbox", None).await;
            assert_eq!(restored.unwrap(), expected, "{account}");
        }
        assert_eq!(store.mail(ids[1]).await.unwrap().unwrap(), before);
        assert_eq!(store.trained(ids[1]).await.unwrap(), trained);
        assert_eq!(text(&store, before.text).await.unwrap(), "Hi!\r\n");
        let later = store
            .restore_mail("ann", ids[0], "Archive", Some(at(50)))
            .await;
        assert!(later.unwrap());
        let mail = store.mail(ids[0]).await.unwrap().unwrap();
        assert_eq!((mail.mailbox.as_str(), mail.received), ("Archive", at(50)));
        assert!(deleted(&store).await.is_empty());
        check(&store, (2, 30)).await;
        // What came back does not go.
        assert_eq!(store.expire(at(500), 9).await.unwrap(), 0);
        assert!(delete(&store, ids[0], 1).await, "it is deleted once more");
        check(&store, (1, 20)).await;
    })
    .await;
}

#[tokio::test]
async fn deleted_mail_goes_with_its_text_when_its_time_is_over() {
    on_both(|store| async move {
        let ids = bring(&store, &[10, 20]).await;
        let of = store.mail(ids[0]).await.unwrap().unwrap().text;
        assert!(delete(&store, ids[0], 1).await && delete(&store, ids[1], 2).await);
        store.checkpoint().await;
        assert_eq!(store.expire(at(99), 9).await.unwrap(), 0);
        assert_eq!(text(&store, of).await.unwrap(), "Hi!\r\n");
        assert_eq!(store.expire(at(100), 9).await.unwrap(), 2);
        assert_eq!(text(&store, of).await, None);
        let restored = store.restore_mail("ann", ids[0], "Inbox", None).await;
        assert!(!restored.unwrap());
        check(&store, (0, 0)).await;
        // What is not to be kept goes at once.
        let ids = bring(&store, &[10]).await;
        assert!(delete(&store, ids[0], 100).await);
        assert!(deleted(&store).await.is_empty());
        check(&store, (0, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn an_account_has_so_much_deleted_mail() {
    on_both(|store| async move {
        let ids = bring(&store, &[40, 50, 30, 101, 70]).await;
        for (id, now) in ids.iter().take(3).zip(1..) {
            assert!(delete(&store, *id, now).await);
        }
        assert_eq!(deleted(&store).await, [2, 3]);
        store.checkpoint().await;
        // A mail that is larger than all of it takes nobody's place.
        assert!(delete(&store, ids[3], 4).await);
        assert_eq!(deleted(&store).await, [2, 3]);
        assert!(delete(&store, ids[4], 5).await);
        assert_eq!(deleted(&store).await, [3, 5]);
        let total = store.deleted_usage("ann").await.unwrap();
        assert_eq!((total.mails, total.bytes), (2, 100));
        check(&store, (0, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn deleted_mail_goes_on_request() {
    on_both(|store| async move {
        let ids = bring(&store, &[1, 2, 3]).await;
        for (id, now) in ids.iter().zip(1..) {
            assert!(delete(&store, *id, now).await);
        }
        let of_bob = NewMail {
            account: "bob".into(),
            ..mail("Inbox", TextSource::New)
        };
        let accept = Accept {
            text: Some(inline("Ho!\r\n")),
            mails: vec![of_bob],
            ..Accept::default()
        };
        let bob = store.accept(accept).await.unwrap().mails;
        assert!(store.delete_mail("bob", bob[0], at(1), KEEP).await.unwrap());
        assert_eq!(store.purge_deleted(Some("ann"), 2).await.unwrap(), 2);
        assert_eq!(deleted(&store).await, [3]);
        assert_eq!(store.purge_deleted(Some("eve"), 9).await.unwrap(), 0);
        store.checkpoint().await;
        assert_eq!(store.purge_deleted(None, 9).await.unwrap(), 2);
        assert_eq!(store.expire(at(500), 9).await.unwrap(), 0);
        check(&store, (0, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn refused_mail_that_is_deleted_comes_back_as_ordinary_mail() {
    on_both(|store| async move {
        let reject = crate::NewReject {
            mail: NewMail {
                size: 10,
                ..mail("Rejects", TextSource::New)
            },
            key: crate::RejectKey(1),
            until: Some(at(50)),
            limit: None,
        };
        let accept = Accept {
            text: Some(inline("Buy!\r\n")),
            rejects: vec![reject],
            ..Accept::default()
        };
        let ids = store.accept(accept).await.unwrap().rejects;
        assert!(delete(&store, ids[0], 1).await);
        assert_eq!(store.kept_rejects("ann").await.unwrap().mails, 0);
        // The end of refused mail is no end of deleted mail.
        assert_eq!(store.expire(at(60), 9).await.unwrap(), 0);
        let restored = store.restore_mail("ann", ids[0], "Inbox", None).await;
        assert!(restored.unwrap());
        check(&store, (1, 10)).await;
    })
    .await;
}
