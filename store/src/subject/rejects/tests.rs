//! Refused mail and sums of mail on both engines.

use std::time::Duration;

use super::*;
use crate::{
    Accept, Accepted, MailChange, TextSource,
    tests::{
        samples::{at, inline, mail, text},
        verbs::on_both,
    },
};

const LIMIT: RejectLimit = RejectLimit {
    mails: 3,
    bytes: 100,
};

fn reject(key: u64, size: u64) -> NewReject {
    let refused = mail("Rejects", TextSource::New);
    NewReject {
        mail: NewMail { size, ..refused },
        key: RejectKey(key),
        until: Some(at(100)),
        limit: Some(LIMIT),
    }
}

async fn refuse(store: &Store, rejects: Vec<NewReject>) -> Vec<MailId> {
    let accept = Accept {
        text: Some(inline("Buy!\r\n")),
        rejects,
        ..Accept::default()
    };
    store.accept(accept).await.unwrap().rejects
}

/// Takes a mail of 7 bytes that has this key.
async fn take(store: &Store, key: u64) -> Accepted {
    let taken = mail("Inbox", TextSource::New);
    let accept = Accept {
        text: Some(inline("Hi!\r\n")),
        mails: vec![NewMail { size: 7, ..taken }],
        taken: vec![TakenMail {
            account: "ann".into(),
            key: RejectKey(key),
        }],
        ..Accept::default()
    };
    store.accept(accept).await.unwrap()
}

async fn rejects(store: &Store) -> Vec<u64> {
    let page = store.list_mails("ann", Some("Rejects"), None, 99).await;
    page.unwrap().items.iter().map(|mail| mail.id.0).collect()
}

/// Checks the sums: mails and bytes of the account's mail, and of refused mail.
async fn check(store: &Store, usage: (u64, u64), kept: (u64, u64)) {
    let [has, keeps] = [
        store.mail_usage("ann").await.unwrap(),
        store.kept_rejects("ann").await.unwrap(),
    ];
    assert_eq!((has.mails, has.bytes), usage);
    assert_eq!((keeps.mails, keeps.bytes), kept);
    assert_eq!(store.faults().unwrap(), [""; 0]);
}

#[tokio::test]
async fn each_mail_is_kept_once_and_goes_when_it_is_taken() {
    on_both(|store| async move {
        let ids = refuse(&store, vec![reject(1, 10), reject(2, 20), reject(1, 10)]).await;
        assert_eq!(ids, [MailId(1), MailId(2)]);
        assert_eq!(refuse(&store, vec![reject(1, 10)]).await, []);
        check(&store, (0, 0), (2, 30)).await;
        store.checkpoint().await;
        let other = NewReject {
            mail: NewMail {
                account: "bob".into(),
                ..reject(1, 10).mail
            },
            ..reject(1, 10)
        };
        assert_eq!(refuse(&store, vec![other]).await.len(), 1);
        let text_of = store.mail(MailId(1)).await.unwrap().unwrap().text;
        take(&store, 1).await;
        assert_eq!(rejects(&store).await, [2]);
        check(&store, (1, 7), (1, 20)).await;
        assert_eq!(store.kept_rejects("bob").await.unwrap().mails, 1);
        // The other mail has the same text.
        assert_eq!(text(&store, text_of).await.unwrap(), "Buy!\r\n");
        take(&store, 2).await;
        assert_eq!(text(&store, text_of).await, None);
        check(&store, (2, 14), (0, 0)).await;
        // Taken mail is not refused mail that was there before.
        take(&store, 2).await;
        check(&store, (3, 21), (0, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn the_oldest_goes_when_there_is_too_much() {
    on_both(|store| async move {
        for key in 1..=5 {
            refuse(&store, vec![reject(key, 10)]).await;
        }
        assert_eq!(rejects(&store).await, [3, 4, 5]);
        check(&store, (0, 0), (3, 30)).await;
        refuse(&store, vec![reject(6, 85)]).await;
        assert_eq!(rejects(&store).await, [5, 6]);
        check(&store, (0, 0), (2, 95)).await;
        // It was forgotten, so it is new.
        assert_eq!(refuse(&store, vec![reject(1, 1)]).await.len(), 1);
        let endless = NewReject {
            until: None,
            limit: None,
            ..reject(7, 1000)
        };
        refuse(&store, vec![endless]).await;
        check(&store, (0, 0), (4, 1096)).await;
    })
    .await;
}

#[tokio::test]
async fn refused_mail_goes_when_its_time_is_over() {
    on_both(|store| async move {
        take(&store, 9).await;
        refuse(&store, vec![reject(1, 10)]).await;
        let later = NewReject {
            until: Some(at(200)),
            ..reject(2, 20)
        };
        let endless = NewReject {
            until: None,
            ..reject(3, 30)
        };
        refuse(&store, vec![later, endless]).await;
        store.checkpoint().await;
        assert_eq!(store.expire(at(99), 10).await.unwrap(), 0);
        assert_eq!(store.expire(at(100), 10).await.unwrap(), 1);
        assert_eq!(rejects(&store).await, [3, 4]);
        check(&store, (1, 7), (2, 50)).await;
        let far = at(200).after(Duration::from_secs(1_000_000));
        assert_eq!(store.expire(far, 10).await.unwrap(), 1);
        check(&store, (1, 7), (1, 30)).await;
    })
    .await;
}

#[tokio::test]
async fn refused_mail_that_is_moved_is_mail_as_any_other() {
    on_both(|store| async move {
        refuse(&store, vec![reject(1, 10), reject(2, 20), reject(3, 30)]).await;
        let change = async |id, mailbox: Option<&str>| {
            let change = MailChange {
                add_flags: vec!["$junk".into()],
                mailbox: mailbox.map(str::to_owned),
                ..MailChange::default()
            };
            store.change_mail("ann", MailId(id), change).await.unwrap()
        };
        assert!(change(1, Some("Inbox")).await);
        check(&store, (1, 10), (2, 50)).await;
        assert!(change(2, None).await && change(2, Some("Rejects")).await);
        check(&store, (1, 10), (2, 50)).await;
        assert!(store.remove_mail("ann", MailId(2)).await.unwrap());
        check(&store, (1, 10), (1, 30)).await;
        assert_eq!(store.expire(at(500), 10).await.unwrap(), 1);
        check(&store, (1, 10), (0, 0)).await;
        assert!(store.remove_mail("ann", MailId(1)).await.unwrap());
        check(&store, (0, 0), (0, 0)).await;
        // The mail that was moved away does not hinder the next one.
        assert_eq!(refuse(&store, vec![reject(1, 10)]).await.len(), 1);
    })
    .await;
}
