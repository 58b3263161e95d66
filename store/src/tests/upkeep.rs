//! Segments of the journal are given back, and texts that live long are copied onward.

use std::time::Duration;

use super::samples::*;
use crate::{
    Accept, MailId, NewText, Options, Outcome, Store, StoreError, TextSource, disk::sim::SimDisk,
    engine::journal::Mode,
};

const TEXT: usize = 100 << 10;
/// Four or five texts fit.
const SEGMENT: u64 = 512 << 10;

fn open(disk: &SimDisk, seed: u64) -> Store {
    let options = Options {
        segment_size: SEGMENT,
        checkpoint_interval: Duration::MAX,
        ..Options::new("/data")
    };
    Store::open_on(disk.disk(), &options, Mode::Inline(seed)).unwrap()
}

async fn add(store: &Store, number: u8) -> MailId {
    add_text(store, number, TEXT).await
}

async fn add_text(store: &Store, number: u8, len: usize) -> MailId {
    let accept = Accept {
        text: Some(NewText::Inline(vec![number; len].into())),
        mails: vec![mail("Inbox", TextSource::New)],
        ..Accept::default()
    };
    store.accept(accept).await.unwrap().mails[0]
}

/// Makes checkpoints until the journal has at most so many segments.
async fn until_segments(store: &Store, most: u64) {
    for _ in 0..500 {
        store.checkpoint().await;
        if store.counts().await.journal_bytes <= most * SEGMENT {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!(
        "the journal has {} bytes",
        store.counts().await.journal_bytes
    );
}

#[tokio::test]
async fn a_journal_follows_what_is_alive_in_it() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1);
    let mut ids = Vec::new();
    for number in 0..80 {
        ids.push(add(&store, number).await);
    }
    store.checkpoint().await;
    assert!(store.counts().await.journal_bytes >= 16 * SEGMENT);
    // One text of each second segment lives on: half of the segments are free, and half are sparse.
    let mut kept = Vec::new();
    for (number, id) in ids.into_iter().enumerate() {
        if number % 8 == 0 {
            kept.push((number, id));
        } else {
            store.remove_mail("ann", id).await.unwrap();
        }
    }
    until_segments(&store, 6).await;
    store.close().await;
    // Another start looks at all of them once.
    let store = open(&disk, 2);
    for (number, id) in &kept {
        let mail = store.mail(*id).await.unwrap().unwrap();
        let text = store.text(mail.text).await.unwrap();
        let bytes = text.read(0..u64::MAX).await.unwrap();
        assert!(bytes.len() == TEXT && bytes.iter().all(|byte| usize::from(*byte) == *number));
    }
    for (_, id) in kept {
        store.remove_mail("ann", id).await.unwrap();
    }
    until_segments(&store, 2).await;
    store.close().await;
}

#[tokio::test]
async fn texts_are_not_copied_into_the_room_of_settlements() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1);
    // Each segment keeps a text or two, so none gets free.
    for number in 0..200 {
        let id = add_text(&store, number, 8 << 10).await;
        if number % 20 != 0 {
            store.remove_mail("ann", id).await.unwrap();
        }
    }
    disk.set_space(Some(0));
    while store.accept(message(&["a@x.example"])).await.is_ok() {}
    let mut messages = Vec::new();
    loop {
        match store.claim(claim(at(9))).await {
            Ok(claimed) => messages.extend(claimed.messages),
            Err(StoreError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    store.checkpoint().await;
    let before = store.counts().await.journal_bytes;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        store.checkpoint().await;
    }
    assert_eq!(store.counts().await.journal_bytes, before);
    // Each in a batch of its own, which is the dearest way.
    assert!(!messages.is_empty());
    for message in &messages {
        let retry = settle(message, Outcome::Retry(at(99)));
        assert_eq!(store.settle(vec![retry]).await.unwrap(), [true]);
    }
    disk.set_space(None);
    assert!(before > 8 * SEGMENT);
    until_segments(&store, 6).await;
    store.close().await;
}

#[tokio::test]
async fn a_segment_is_copied_onward_when_it_can_be_read_again() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1);
    for number in 0..80 {
        let id = add(&store, number).await;
        if number % 4 != 0 {
            store.remove_mail("ann", id).await.unwrap();
        }
    }
    disk.fail_reads(Some("journal/"));
    for _ in 0..5 {
        store.checkpoint().await;
    }
    assert!(store.counts().await.journal_bytes > 12 * SEGMENT);
    disk.fail_reads(None);
    until_segments(&store, 8).await;
    store.close().await;
}
