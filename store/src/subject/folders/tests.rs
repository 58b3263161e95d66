use std::time::Duration;

use super::*;
use crate::{
    Accept, KeepDeleted, MailChange, NewMail, Options, Store, StoreError, TextSource, Time,
    subject::Operations as _,
    tests::{
        samples::{inline, mail},
        verbs::on_both,
    },
};

/// Puts mails of these sizes into a mailbox. The first one is seen.
async fn put(store: &Store, mailbox: &str, sizes: &[u64]) -> Vec<MailId> {
    let mails = sizes.iter().enumerate().map(|(at, size)| NewMail {
        size: *size,
        flags: (at == 0).then(|| "\\seen".to_owned()).into_iter().collect(),
        summary: Some(Box::new(Summary {
            subject: format!("size {size}"),
            ..Summary::default()
        })),
        ..mail(mailbox, TextSource::New)
    });
    let accept = Accept {
        text: Some(inline("Hi\r\n")),
        mails: mails.collect(),
        ..Accept::default()
    };
    store.accept(accept).await.unwrap().mails
}

fn to(mailbox: &str) -> MailChange {
    MailChange {
        mailbox: Some(mailbox.into()),
        ..MailChange::default()
    }
}

/// Name, number of mails, unseen ones, bytes, next UID.
async fn counts(store: &Store) -> Vec<(String, u64, u64, u64, u32)> {
    let folders = store.folders("ann").await.unwrap();
    let counts = folders
        .into_iter()
        .map(|it| (it.name, it.exists, it.unseen, it.size, it.uid_next));
    counts.collect()
}

async fn uids(store: &Store, mailbox: &str, filter: RowFilter) -> Vec<u32> {
    let page = store.list_rows(("ann", mailbox), filter, None, (0, 100));
    let rows = page.await.unwrap().unwrap().rows;
    rows.iter().map(|row| row.uid).collect()
}

#[tokio::test]
async fn a_mailbox_counts_its_mails() {
    on_both(|store| async move {
        let ids = put(&store, "Inbox", &[5, 7, 11]).await;
        let inbox = |exists, unseen, size| ("Inbox".to_owned(), exists, unseen, size, 4);
        assert_eq!(counts(&store).await, [inbox(3, 2, 23)]);
        store.checkpoint().await;

        let seen = MailChange {
            add_flags: vec!["\\seen".into()],
            ..MailChange::default()
        };
        assert!(store.change_mail("ann", ids[1], seen).await.unwrap());
        assert_eq!(counts(&store).await, [inbox(3, 1, 23)]);
        assert!(store.remove_mail("ann", ids[2]).await.unwrap());
        assert_eq!(counts(&store).await, [inbox(2, 0, 12)]);
        let changed = store.folder("ann", "Inbox").await.unwrap().unwrap();
        assert_eq!(changed.changed, 5);
        assert_eq!(store.folders("bob").await.unwrap(), []);
        assert_eq!(store.folder("bob", "Inbox").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_mail_that_moved_is_found_by_its_earlier_place() {
    on_both(|store| async move {
        let ids = put(&store, "Inbox", &[5, 7]).await;
        assert!(
            store
                .change_mail("ann", ids[0], to("Archive"))
                .await
                .unwrap()
        );
        let moved = |mailbox: &str, uid| Located::Moved {
            mailbox: mailbox.into(),
            uid,
        };
        let locate = async |mailbox, uid| store.locate_mail("ann", mailbox, uid).await.unwrap();
        assert_eq!(locate("Inbox", 1).await, moved("Archive", 1));
        store.checkpoint().await;
        assert!(store.change_mail("ann", ids[0], to("Inbox")).await.unwrap());
        assert_eq!(locate("Inbox", 1).await, moved("Inbox", 3));
        assert_eq!(locate("Archive", 1).await, moved("Inbox", 3));
        let Located::Here(row) = locate("Inbox", 3).await else {
            panic!("it is not there");
        };
        assert_eq!((row.uid, row.mail.id), (3, ids[0]));
        assert_eq!(row.summary.unwrap().subject, "size 5");
        assert_eq!(locate("Inbox", 9).await, Located::Nowhere);
        assert_eq!(locate("Other", 1).await, Located::NoFolder);
        assert_eq!(uids(&store, "Inbox", RowFilter::default()).await, [3, 2]);

        store.remove_mail("ann", ids[0]).await.unwrap();
        assert_eq!(locate("Inbox", 1).await, Located::Nowhere);
        assert_eq!(locate("Inbox", 3).await, Located::Nowhere);
    })
    .await;
}

#[tokio::test]
async fn few_earlier_places_are_kept() {
    on_both(|store| async move {
        let id = put(&store, "Inbox", &[5]).await[0];
        for round in 0..10 {
            let mailbox = ["Archive", "Inbox"][round % 2];
            assert!(store.change_mail("ann", id, to(mailbox)).await.unwrap());
        }
        let locate = async |mailbox, uid| store.locate_mail("ann", mailbox, uid).await.unwrap();
        assert_eq!(locate("Inbox", 1).await, Located::Nowhere);
        assert_eq!(locate("Archive", 1).await, Located::Nowhere);
        assert!(matches!(locate("Inbox", 2).await, Located::Moved { .. }));
        assert!(matches!(locate("Inbox", 6).await, Located::Here(_)));
    })
    .await;
}

#[tokio::test]
async fn a_mail_that_comes_back_gets_another_uid() {
    on_both(|store| async move {
        let id = put(&store, "Inbox", &[5]).await[0];
        let keep = KeepDeleted {
            until: Time(100),
            bytes: 1000,
        };
        assert!(store.delete_mail("ann", id, Time(1), keep).await.unwrap());
        assert_eq!(counts(&store).await, [("Inbox".into(), 0, 0, 0, 2)]);
        assert!(store.restore_mail("ann", id, "Inbox", None).await.unwrap());
        assert_eq!(uids(&store, "Inbox", RowFilter::default()).await, [2]);
        // Its summary is made anew.
        let row = store.mail_row(id).await.unwrap().unwrap();
        assert_eq!(row.summary, None);
        let summary = || Summary {
            subject: "again".into(),
            ..Summary::default()
        };
        let added = store.summarize(vec![(id, summary()), (MailId(9), summary())]);
        assert_eq!(added.await.unwrap(), 1);
        assert_eq!(store.summarize(vec![(id, summary())]).await.unwrap(), 0);
        let row = store.mail_row(id).await.unwrap().unwrap();
        assert_eq!(row.summary.unwrap().subject, "again");
    })
    .await;
}

#[tokio::test]
async fn mailboxes_are_made_renamed_and_removed() {
    on_both(|store| async move {
        assert!(store.make_folder("ann", "Junk", None).await.unwrap());
        assert!(!store.make_folder("ann", "Junk", None).await.unwrap());
        let junk = store.folder("ann", "Junk").await.unwrap().unwrap();
        assert_eq!(junk.special_use, Some(SpecialUse::Junk));
        let trash = Some(SpecialUse::Trash);
        store.make_folder("ann", "Bin", trash).await.unwrap();
        let bin = store.folder("ann", "Bin").await.unwrap().unwrap();
        assert_eq!(bin.special_use, trash);

        let ids = put(&store, "Work", &[5, 7]).await;
        let work = store.folder("ann", "Work").await.unwrap().unwrap();
        let rename = async |from, to| store.rename_folder("ann", from, to).await;
        assert!(matches!(
            rename("None", "X").await,
            Err(StoreError::NoFolder)
        ));
        let taken = rename("Work", "Bin").await;
        assert!(matches!(taken, Err(StoreError::FolderExists)));
        rename("Work", "Done").await.unwrap();
        assert_eq!(store.folder("ann", "Work").await.unwrap(), None);
        let done = store.folder("ann", "Done").await.unwrap().unwrap();
        assert_eq!(done.uid_validity(), work.uid_validity());
        assert_eq!(uids(&store, "Done", RowFilter::default()).await, [2, 1]);
        let listed = store.list_mails("ann", Some("Done"), None, 10);
        assert_eq!(listed.await.unwrap().items.len(), 2);

        let full = store.remove_folder("ann", "Done").await;
        assert!(matches!(full, Err(StoreError::FolderNotEmpty)));
        for id in ids {
            store.remove_mail("ann", id).await.unwrap();
        }
        store.remove_folder("ann", "Done").await.unwrap();
        let gone = store.remove_folder("ann", "Done").await;
        assert!(matches!(gone, Err(StoreError::NoFolder)));
        put(&store, "Done", &[5]).await;
        let again = store.folder("ann", "Done").await.unwrap().unwrap();
        assert_ne!(again.uid_validity(), done.uid_validity());
    })
    .await;
}

#[tokio::test]
async fn many_mails_change_together_or_not_at_all() {
    on_both(|store| async move {
        put(&store, "Inbox", &[5, 7, 11]).await;
        let change = async |uids: &[u32], change| {
            let changed = store.change_mails("ann", "Inbox", uids.to_vec(), change);
            changed.await.unwrap()
        };
        assert!(!change(&[1, 4], to("Archive")).await);
        assert_eq!(counts(&store).await, [("Inbox".into(), 3, 2, 23, 4)]);
        // A UID that is there twice counts once.
        assert!(change(&[2, 1, 2], to("Archive")).await);
        let expected = [
            ("Archive".into(), 2, 1, 12, 3),
            ("Inbox".into(), 1, 1, 11, 4),
        ];
        assert_eq!(counts(&store).await, expected);

        let keep = KeepDeleted {
            until: Time(100),
            bytes: 1000,
        };
        let delete = async |uids: &[u32]| {
            let deleted = store.delete_mails("ann", "Archive", uids.to_vec(), Time(1), keep);
            deleted.await.unwrap()
        };
        assert!(!delete(&[1, 7]).await);
        assert!(delete(&[2, 2]).await);
        assert_eq!(store.deleted_usage("ann").await.unwrap().mails, 1);
        assert_eq!(uids(&store, "Archive", RowFilter::default()).await, [1]);
    })
    .await;
}

#[tokio::test]
async fn rows_are_listed_by_page_and_by_filter() {
    on_both(|store| async move {
        put(&store, "Inbox", &(1..=300).collect::<Vec<_>>()).await;
        store.checkpoint().await;
        let list = async |filter, below, part| {
            let page = store.list_rows(("ann", "Inbox"), filter, below, part);
            let page = page.await.unwrap().unwrap();
            let uids: Vec<_> = page.rows.iter().map(|row| row.uid).collect();
            (uids, page.next)
        };
        let any = RowFilter::default;
        assert_eq!(list(any(), None, (0, 2)).await, (vec![300, 299], Some(299)));
        assert_eq!(list(any(), Some(299), (1, 1)).await, (vec![297], Some(297)));
        assert_eq!(list(any(), None, (298, 2)).await, (vec![2, 1], None));
        assert_eq!(list(any(), None, (300, 2)).await, (vec![], None));
        let seen = RowFilter {
            flag: Some("\\seen".into()),
            ..any()
        };
        assert_eq!(list(seen, None, (0, 5)).await, (vec![1], None));
        let unseen = RowFilter {
            unseen: true,
            ..any()
        };
        assert_eq!(list(unseen, Some(3), (0, 5)).await, (vec![2], None));
        let text = RowFilter {
            text: Some("size 29".into()),
            ..any()
        };
        let (found, next) = list(text, None, (0, 3)).await;
        assert_eq!((found, next), (vec![299, 298, 297], Some(297)));
        let none = store.list_rows(("ann", "None"), any(), None, (0, 1));
        assert_eq!(none.await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn those_who_follow_an_account_are_told_of_its_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options::new(dir.path())).unwrap();
    let mut ann = store.mail_changed("ann");
    let bob = store.mail_changed("bob");
    put(&store, "Inbox", &[5]).await;
    assert!(ann.has_changed().unwrap());
    assert!(!bob.has_changed().unwrap());
    ann.mark_unchanged();
    store.make_folder("ann", "Work", None).await.unwrap();
    let wait = tokio::time::timeout(Duration::from_secs(60), ann.changed());
    wait.await.unwrap().unwrap();
    store.close().await;
}

#[test]
fn a_mailbox_without_free_uids_begins_anew() {
    let mut state = State::new();
    let sample = |id: u64| {
        NewMail {
            size: 5,
            ..mail("Inbox", TextSource::New)
        }
        .split(MailId(id), crate::TextId(1))
        .0
    };
    state.add_mail(sample(1), None).unwrap();
    let key = change::key("ann", "Inbox");
    let record = state.folders.folders.get(&key).unwrap().unwrap();
    let full = record.with_uid_next(u32::MAX - 1);
    state.folders.folders.put(key.clone(), full);
    state.add_mail(sample(2), None).unwrap();
    let last = state.folders.entries.get(&MailId(2)).unwrap().unwrap();
    assert_eq!(last.spot, (record.id, u32::MAX - 1));

    state.add_mail(sample(3), None).unwrap();
    let renewed = state.folders.folders.get(&key).unwrap().unwrap();
    assert_ne!(renewed.id, record.id);
    for id in 1..=3 {
        let entry = state.folders.entries.get(&MailId(id)).unwrap().unwrap();
        assert_eq!(entry.spot, (renewed.id, u32::try_from(id).unwrap()));
    }
    let mut faults = Faults::default();
    state.mail.counters.mails = 3;
    state.check_folders(&mut faults).unwrap();
    assert_eq!(faults.into_sentences(), [""; 0]);
}

#[test]
fn mails_of_an_earlier_program_get_places_in_their_order() {
    let mut state = State::new();
    for (id, mailbox) in [(1, "Inbox"), (2, "Work"), (5, "Inbox")] {
        let (mail, summary) = mail(mailbox, TextSource::New).split(MailId(id), crate::TextId(1));
        state.add_mail(mail, summary).unwrap();
    }
    state.folders = Tables::new();
    state.place_all().unwrap();
    let places: Vec<u32> = [1, 2, 5]
        .map(|id| {
            state
                .folders
                .entries
                .get(&MailId(id))
                .unwrap()
                .unwrap()
                .spot
                .1
        })
        .into();
    assert_eq!(places, [1, 1, 2]);
    let mut faults = Faults::default();
    state.check_folders(&mut faults).unwrap();
    assert_eq!(faults.into_sentences(), [""; 0]);
}

#[test]
fn an_operation_weighs_as_many_records_as_it_changes() {
    let weights: Vec<usize> = samples().iter().map(|op| op.changes()).collect();
    assert_eq!(weights, [1, 10_000, 1, 2, 1, 1]);
}
