//! The work that the store does when it has many records: counted, not timed.

use std::time::Duration;

use super::samples::*;
use crate::{
    Accept, Claim, Event, NewEvent, NewHookKind, Options, Order, QueueFilter, QueueId, Store, Time,
    disk::sim::{Calls, SimDisk},
    engine::journal::Mode,
};

fn options() -> Options {
    Options {
        checkpoint_interval: Duration::MAX,
        segment_size: 4 << 20,
        // Less than the records take.
        cache_size: 4 << 20,
        ..Options::new("/data")
    }
}

fn open(disk: &SimDisk, seed: u64) -> Store {
    Store::open_on(disk.disk(), &options(), Mode::Inline(seed)).unwrap()
}

/// Recipients with different names, at 50 domains.
fn recipients(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers
        .map(|number| format!("r{number:05}@d{}.example", number % 50))
        .collect()
}

async fn accept(store: &Store, recipients: &[String]) {
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut accept = message(&recipients);
    // So that few records fit in a page of the index.
    accept.queue[0].common.subject = "s".repeat(3500);
    store.accept(accept).await.unwrap();
}

/// Accepts messages to 2000 recipients. Then the cache has the last of their records only.
async fn cold_store(disk: &SimDisk) -> Store {
    let store = open(disk, 1);
    for from in (0..2000).step_by(500) {
        accept(&store, &recipients(from..from + 500)).await;
    }
    store.close().await;
    let store = open(disk, 2);
    // When this is answered, the writer has done what it does at the start.
    store.renew(Vec::new(), moment(at(1))).await.unwrap();
    let filter = QueueFilter::default();
    let all = store.list(&filter, None, Order::Ascending, 10_000).await;
    assert_eq!(all.unwrap().items.len(), 2000);
    store
}

#[tokio::test]
async fn a_claim_does_not_wait_for_the_disk_under_the_lock() {
    let disk = SimDisk::new(1);
    let store = cold_store(&disk).await;
    let before = disk.counts().reads_of_writer;
    let some = Claim {
        max: 20,
        ..claim(at(9))
    };
    let claimed = store.claim(some).await.unwrap();
    assert_eq!(claimed.messages.len(), 20);
    let reads = disk.counts().reads_of_writer - before;
    // Without looking ahead there are 40. The cache may drop a page again.
    assert!(reads <= 10, "{reads} reads");
    store.close().await;
}

#[tokio::test]
async fn an_accepted_message_looks_up_its_recipients_before_the_lock() {
    let disk = SimDisk::new(1);
    let store = cold_store(&disk).await;
    // One of each page of the table, and as many unknown ones.
    let mut known = recipients(0..2000);
    known.retain(|recipient| recipient.ends_with("@d7.example"));
    let unknown = known.iter().map(|recipient| format!("x{recipient}"));
    let all: Vec<String> = unknown.chain(known.iter().cloned()).collect();
    let before = disk.counts().reads_of_writer;
    accept(&store, &all).await;
    let reads = disk.counts().reads_of_writer - before;
    assert!(
        reads <= 4,
        "{reads} reads, where {} recipients lie",
        all.len()
    );
    store.close().await;
}

fn day(number: i64) -> Time {
    Time(number * 86_400_000_000)
}

#[tokio::test]
async fn recipients_without_a_message_for_long_are_forgotten_in_steps() {
    let disk = SimDisk::new(1);
    for store in [open(&disk, 1), Store::memory()] {
        for (on, numbers) in [(1, 0..500), (20, 0..9), (200, 0..10)] {
            let recipients = recipients(numbers);
            let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
            let mut accept = message(&recipients);
            accept.queue[0].common.queued = day(on);
            store.accept(accept).await.unwrap();
            store.checkpoint().await;
        }
        let is_known = async |number| {
            let recipient = recipients(number..number + 1)[0].parse().unwrap();
            store.is_known("ann", &recipient).await.unwrap()
        };
        let is_known_domain = async |domain: &str| {
            let domain = domain.parse().unwrap();
            store.is_known_domain("ann", &domain).await.unwrap()
        };
        let expire = async |on| {
            let mut forgotten = 0;
            // The search goes over the table once a day.
            for _ in 0..60 {
                let some = store.expire(day(on), 10).await.unwrap();
                // A step looks at 160 rows at most.
                assert!(some <= 10);
                forgotten += some;
            }
            forgotten
        };
        assert_eq!(expire(730).await, 0);
        assert!(is_known_domain("d10.example").await);
        // Of 50 domains, ten had a message later.
        assert_eq!(expire(731).await, 40);
        assert!(is_known_domain("d9.example").await && !is_known_domain("d10.example").await);
        assert_eq!(expire(930).await, 10);
        assert_eq!(expire(1096).await, 0);
        assert!(is_known(499).await);
        assert_eq!(expire(1097).await, 490);
        assert!(is_known(9).await && !is_known(10).await && !is_known(499).await);
        store.close().await;
    }
}

#[tokio::test]
async fn a_search_that_finds_nothing_looks_at_few_recipients_at_once() {
    let disk = SimDisk::new(1);
    let store = cold_store(&disk).await;
    let reads = async || {
        let before = disk.counts().reads_of_writer;
        assert_eq!(store.expire(day(7), 1).await.unwrap(), 0);
        disk.counts().reads_of_writer - before
    };
    let mut steps = Vec::new();
    for _ in 0..150 {
        steps.push(reads().await);
    }
    // 16 recipients in each step, and 2000 in all.
    assert!(steps.iter().all(|reads| *reads <= 3), "{steps:?}");
    let searching = steps.iter().rposition(|reads| *reads > 0).unwrap();
    assert!((112..=125).contains(&searching), "{searching}");
    store.close().await;
}

#[tokio::test]
async fn numbers_of_events_come_whole() {
    let store = open(&SimDisk::new(1), 1);
    let NewHookKind::Outgoing(told) = event(Event::Delivered, QueueId(1)) else {
        panic!("an event is outgoing");
    };
    let events = (0..300).map(|number| NewEvent {
        account: "ann".into(),
        recipient: format!("x@d{number:03}.example"),
        told: told.clone(),
        keep_until: at(99),
    });
    let accept = Accept {
        events: events.collect(),
        ..message(&["a@x.example"])
    };
    store.accept(accept).await.unwrap();
    let counted = store.counted_events("ann", 0..=3).await.unwrap();
    let domains: Vec<_> = counted.iter().map(|(row, _)| row.domain.clone()).collect();
    let all: Vec<_> = (0..300)
        .map(|number| format!("d{number:03}.example"))
        .collect();
    assert_eq!(domains, all);
    store.close().await;
}

/// A store whose index is large and nearly empty. Gives the bytes of the index.
async fn large_and_empty(disk: &SimDisk) -> usize {
    let store = cold_store(disk).await;
    let all = Claim {
        max: 1990,
        max_per_lane: 1990,
        ..claim(at(9))
    };
    let claimed = store.claim(all).await.unwrap().messages;
    let done = claimed.iter().map(|queued| settle(queued, GONE));
    store.settle(done.collect()).await.unwrap();
    // The recipients and their domains are forgotten too.
    while store.expire(day(1500), 1000).await.unwrap() > 0 {}
    store.close().await;
    let size = disk.content("index.redb").unwrap().len();
    assert!(size > 4 << 20, "{size}");
    size
}

#[tokio::test]
async fn an_index_that_lost_its_records_gives_its_room_back() {
    let disk = SimDisk::new(1);
    let large = large_and_empty(&disk).await;
    let store = open(&disk, 3);
    let small = disk.content("index.redb").unwrap().len();
    assert!(small < large / 3, "{small} of {large}");
    assert_eq!(store.counts().await.queued, 10);
    store.close().await;
}

#[tokio::test]
async fn a_failure_while_the_index_shrinks_loses_nothing() {
    let disk = SimDisk::new(1);
    let large = large_and_empty(&disk).await;
    let options = options();
    let mut starts = 0;
    for number in 0..24 {
        match number % 3 {
            0 => disk.fail_sync_after(number / 3),
            1 => disk.fail_call_after(Calls::Write, number * 2),
            _ => disk.fail_power_after(number * 2),
        }
        let opened = Store::open_on(disk.disk(), &options, Mode::Inline(number + 10));
        starts += u64::from(opened.is_ok());
        drop(opened);
        disk.crash();
    }
    let store = open(&disk, 3);
    let small = disk.content("index.redb").unwrap().len();
    assert!(small < large / 3, "{small} of {large}");
    let rest = store.claim(claim(at(9))).await.unwrap();
    assert_eq!(rest.messages.len(), 10, "after {starts} starts");
    store.close().await;
}
