//! What the store does with records that it can't read.

use std::path::Path;

use redb::ReadableDatabase;

use super::{faults::soon, samples::*};
use crate::{
    Accept, ArrivedReport, Event, Options, QueueId, ReportRoom, Store, StoreError, TextId,
    TextSource,
    subject::received_reports::tests::{arrived, report},
    table::value::append,
};

/// Writes bytes into a table of the index of a closed store.
fn overwrite(dir: &Path, table: &str, key: &[u8], value: &[u8]) {
    let definition = redb::TableDefinition::<&[u8], &[u8]>::new(table);
    let database = redb::Database::open(dir.join("index.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(definition).unwrap();
        assert!(table.insert(key, value).unwrap().is_some(), "it was there");
    }
    transaction.commit().unwrap();
}

/// Writes bytes over all values of a table of the index of a closed store.
fn overwrite_all(dir: &Path, table: &str, value: &[u8]) {
    let definition = redb::TableDefinition::<&[u8], &[u8]>::new(table);
    let database = redb::Database::open(dir.join("index.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    let rows = transaction.open_table(definition).unwrap();
    let keys = rows.range::<&[u8]>(..).unwrap();
    let keys: Vec<_> = keys.map(|row| row.unwrap().0.value().to_vec()).collect();
    drop((rows, transaction, database));
    assert!(!keys.is_empty(), "{table}");
    for key in keys {
        overwrite(dir, table, &key, value);
    }
}

#[tokio::test]
async fn a_record_that_can_not_be_read_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_size: 1 << 20,
        ..Options::new(dir.path())
    };
    let store = Store::open(options.clone()).unwrap();
    let told = |id| {
        hook(
            "http://one.example/",
            event(Event::Delivered, QueueId(id)),
            at(1),
        )
    };
    let accept = Accept {
        mails: vec![mail("Inbox", TextSource::New)],
        hooks: vec![told(1), told(2)],
        ..message(&["1@x.example", "2@x.example", "3@y.example"])
    };
    store.accept(accept).await.unwrap();
    store.close().await;
    let damaged = [("queued", 1_u64), ("hooks", 1), ("mails", 1), ("texts", 1)];
    for (table, number) in damaged {
        overwrite(dir.path(), table, &number.to_be_bytes(), &[1, 0xff, 0xff]);
    }
    for start in 0..2 {
        let store = Store::open(options.clone()).unwrap();
        assert_eq!(store.queued(QueueId(1)).await.unwrap(), None);
        assert_eq!(store.mail(crate::MailId(1)).await.unwrap(), None);
        let listed = store
            .list(&Default::default(), None, crate::Order::Ascending, 10)
            .await;
        assert_eq!(listed.unwrap().items.len(), 2);
        let mails = store.list_mails("ann", None, None, 10).await.unwrap();
        assert!(mails.items.is_empty());
        let text = store.text(TextId(1)).await;
        assert!(matches!(text, Err(StoreError::NoText(_))), "{text:?}");
        // It is no longer claimed, and keeps no other from being claimed.
        let claimed = store.claim(claim(at(9))).await.unwrap();
        assert_eq!(ids(&claimed), [2, 3]);
        let claimed_hooks = store.claim_hooks(claim_hooks(at(9))).await.unwrap();
        assert_eq!(claimed_hooks.hooks.len(), 1);
        // The second start has no reason to look at the call.
        assert_eq!(store.set_aside().await, 4 - start);
        store.close().await;
    }
    let store = Store::open(options).unwrap();
    let claimed = store.claim(claim(at(9))).await.unwrap();
    let settles = claimed.messages.iter().map(|queued| settle(queued, GONE));
    assert_eq!(store.settle(settles.collect()).await.unwrap(), [true, true]);
    store.close().await;
    let definition = redb::TableDefinition::<&[u8], &[u8]>::new("queued");
    let database = redb::Database::open(dir.path().join("index.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(definition).unwrap();
    let kept = table.get(1_u64.to_be_bytes().as_slice()).unwrap().unwrap();
    assert_eq!(kept.value(), [1, 0xff, 0xff], "it can still be looked at");
}

#[tokio::test]
async fn a_deleted_mail_that_can_not_be_read_stays_with_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_size: 1 << 20,
        ..Options::new(dir.path())
    };
    let keep = crate::KeepDeleted {
        until: at(100),
        bytes: 14,
    };
    let store = Store::open(options.clone()).unwrap();
    let accept = Accept {
        text: Some(inline("Hi!\r\n")),
        mails: vec![mail("Inbox", TextSource::New); 5],
        ..Accept::default()
    };
    let mails = store.accept(accept).await.unwrap().mails;
    let text_of = store.mail(mails[0]).await.unwrap().unwrap().text;
    for id in &mails[..2] {
        assert!(store.delete_mail("ann", *id, at(3), keep).await.unwrap());
    }
    store.close().await;
    // Of the first, the mail can't be read; of the second, when and where it was deleted.
    let damaged = [("deleted_mails", mails[0]), ("deletions", mails[1])];
    for (table, id) in damaged {
        overwrite(dir.path(), table, &id.0.to_be_bytes(), &[1, 0xff, 0xff]);
    }
    let store = Store::open(options.clone()).unwrap();
    for id in &mails[..2] {
        let restored = store.restore_mail("ann", *id, "Inbox", None).await;
        assert!(!restored.unwrap(), "it counts as absent");
    }
    for id in &mails[2..] {
        let there = store.mail(*id).await.unwrap();
        assert!(store.remove_mail("ann", there.unwrap().id).await.unwrap());
    }
    store.close().await;
    let store = Store::open(options.clone()).unwrap();
    assert_eq!(text(&store, text_of).await.unwrap(), "Hi!\r\n");
    let usage = store.deleted_usage("ann").await.unwrap();
    assert_eq!(usage.mails, 2, "nothing of them went");
    // They hold up no other: neither a removal in steps nor the limit of the account ends never.
    for removed in [1, 0] {
        let purged = soon(store.purge_deleted(None, 1)).await;
        assert_eq!(purged.unwrap(), removed);
    }
    let accept = Accept {
        text: Some(inline("Ho!\r\n")),
        mails: vec![mail("Inbox", TextSource::New)],
        ..Accept::default()
    };
    let mails = store.accept(accept).await.unwrap().mails;
    let keep = crate::KeepDeleted { bytes: 7, ..keep };
    let deleted = soon(store.delete_mail("ann", mails[0], at(4), keep)).await;
    assert!(deleted.unwrap());
    let usage = store.deleted_usage("ann").await.unwrap();
    assert_eq!(usage.mails, 1, "what can't be read counts on");
    store.close().await;
}

#[tokio::test]
async fn a_deleted_mail_that_can_not_be_read_goes_with_its_text() {
    let keep = crate::KeepDeleted {
        until: at(100),
        bytes: 1 << 20,
    };
    // The deletion of an older version does not know the text: then all stays.
    for (is_purged, knows_text) in [(true, true), (false, true), (true, false), (false, false)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            segment_size: 1 << 20,
            ..Options::new(dir.path())
        };
        let store = Store::open(options.clone()).unwrap();
        let accept = Accept {
            text: Some(inline("Hi!\r\n")),
            mails: vec![mail("Inbox", TextSource::New)],
            ..Accept::default()
        };
        let id = store.accept(accept).await.unwrap().mails[0];
        let mail = store.mail(id).await.unwrap().unwrap();
        assert!(store.delete_mail("ann", id, at(3), keep).await.unwrap());
        store.close().await;
        let key = id.0.to_be_bytes();
        overwrite(dir.path(), "deleted_mails", &key, &[1, 0xff, 0xff]);
        if !knows_text {
            let mut deletion = vec![1];
            append(&("ann", mail.size, at(3), at(100)), &mut deletion);
            overwrite(dir.path(), "deletions", &key, &deletion);
        }
        let store = Store::open(options.clone()).unwrap();
        match is_purged {
            true => {
                let purged = soon(store.purge_deleted(Some("ann"), 9)).await;
                assert_eq!(purged.unwrap(), u64::from(knows_text));
            }
            false => assert_eq!(store.expire(at(100), 9).await.unwrap(), 1),
        }
        let usage = store.deleted_usage("ann").await.unwrap();
        assert_eq!(usage.mails, u64::from(!knows_text), "{is_purged}");
        let found = store.text(mail.text).await;
        assert_eq!(found.is_ok(), !knows_text, "{is_purged}: {found:?}");
        store.close().await;
    }
}

/// Brings reports, and reads them. The sums of their day go before them.
async fn keep_reports(store: &Store, count: usize, networks: usize) -> Vec<ArrivedReport> {
    let accept = Accept {
        text: Some(inline("Report\r\n")),
        reports: vec![arrived(); count],
        ..Accept::default()
    };
    store.accept(accept).await.unwrap();
    let arrived = store.arrived_reports(None, 99).await.unwrap();
    for arrived in &arrived {
        let id = arrived.id.0.to_string();
        let mut report = report(&id, networks);
        report.keep_until = at(1000);
        let read = store.report_read(arrived.id, Some(report), ReportRoom(1 << 20));
        assert!(read.await.unwrap());
    }
    arrived
}

#[tokio::test]
async fn a_report_that_can_not_be_read_is_not_removed_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_size: 1 << 20,
        ..Options::new(dir.path())
    };
    let store = Store::open(options.clone()).unwrap();
    let arrived = keep_reports(&store, 5, 1).await;
    assert_eq!(store.expire(at(100), 9).await.unwrap(), 3, "the sums");
    store.close().await;
    for damaged in &arrived[..2] {
        let key = damaged.id.0.to_be_bytes();
        overwrite(dir.path(), "reports_received", &key, &[1, 0xff, 0xff]);
    }
    let store = Store::open(options.clone()).unwrap();
    for removed in [2, 1, 0] {
        let trimmed = soon(store.trim_reports(ReportRoom(0), 2)).await;
        assert_eq!(trimmed.unwrap(), removed);
    }
    for (number, arrived) in arrived.iter().enumerate() {
        let there = store.received_report(arrived.id).await.unwrap();
        assert_eq!(there, None);
        let removed = store.remove_received_report(arrived.id).await.unwrap();
        assert!(!removed, "{number} counts as absent");
    }
    // They have their text until a later version reads them, also when their time is over.
    assert_eq!(store.expire(at(1000), 9).await.unwrap(), 2);
    assert_eq!(text(&store, arrived[0].text).await.unwrap(), "Report\r\n");
    let trimmed = soon(store.trim_reports(ReportRoom(0), 2)).await;
    assert_eq!(trimmed.unwrap(), 0);
    store.close().await;
}

#[tokio::test]
async fn no_report_goes_for_sums_that_can_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_size: 1 << 20,
        ..Options::new(dir.path())
    };
    let store = Store::open(options.clone()).unwrap();
    let arrived = keep_reports(&store, 1, 40).await;
    store.close().await;
    overwrite_all(dir.path(), "report_sums", &[1, 0xff, 0xff]);
    let store = Store::open(options).unwrap();
    // The sum by reporter, and the day.
    assert_eq!(store.expire(at(100), 99).await.unwrap(), 2);
    let room = ReportRoom(4000);
    assert_eq!(soon(store.trim_reports(room, 9)).await.unwrap(), 0);
    let there = store.received_report(arrived[0].id).await.unwrap();
    assert!(there.is_some());
    store.close().await;
}
