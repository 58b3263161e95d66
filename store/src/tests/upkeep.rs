//! Segments of the journal are given back, and texts that live long are copied onward.

use std::time::Duration;

use super::samples::*;
use crate::{
    Accept, MailId, NewText, Options, Store, TextSource, disk::sim::SimDisk, engine::journal::Mode,
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
    let accept = Accept {
        text: Some(NewText::Inline(vec![number; TEXT].into())),
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
