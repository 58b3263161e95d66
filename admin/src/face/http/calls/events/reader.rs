//! Reads the log of events as it grows, at the pace of a client.

use std::{collections::VecDeque, time::Duration};

use postrider_store::{EventFilter, EventId, LoggedEvent, Order, Store, StoreError};
use tokio::{sync::watch, time::Instant};

use super::{super::super::live::Frame, shown};

/// How many events are read at once.
const PAGE: usize = 100;
/// How long a client may be behind the newest event. After that it loses events.
const BEHIND_MAX: Duration = Duration::from_secs(60);

/// The function that says which events a client gets.
type IsWanted = Box<dyn Fn(&LoggedEvent) -> bool + Send + Sync>;

/// Reads the log of events as it grows. The log is the memory for a client that reads slowly, so
/// nothing but a page of events waits here. A client that came up to the newest event once, and
/// then is behind for too long, loses what lies between.
pub(super) struct Reader {
    store: Store,
    changed: watch::Receiver<u64>,
    /// The events that are read.
    listed: EventFilter,
    is_wanted: IsWanted,
    /// The last event that was read.
    after: EventId,
    /// Events that were read and are wanted.
    waiting: VecDeque<LoggedEvent>,
    /// The client came up to the newest event once.
    is_live: bool,
    /// Since when there was always a newer event.
    behind: Option<Instant>,
    /// Events that the client lost and does not know of.
    lost: u64,
}

impl Reader {
    /// Reads behind `after`. `changed` was made before anything was read.
    pub(super) fn new(
        store: Store,
        changed: watch::Receiver<u64>,
        listed: EventFilter,
        after: EventId,
        is_wanted: impl Fn(&LoggedEvent) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            store,
            changed,
            listed,
            is_wanted: Box::new(is_wanted),
            after,
            waiting: VecDeque::new(),
            is_live: false,
            behind: None,
            lost: 0,
        }
    }

    /// Waits for the next frame. None when no more will come. A call that is dropped loses nothing.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            match std::mem::take(&mut self.lost) {
                0 => {}
                lost => return Some(Frame::Lost(lost)),
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(Frame::Event {
                    id: event.id.0,
                    name: event.told.event.name(),
                    data: shown(&event),
                });
            }
            self.changed.mark_unchanged();
            let is_more = self.read().await.ok()?;
            if self.waiting.is_empty() && !is_more {
                self.changed.changed().await.ok()?;
            }
        }
    }

    /// Reads a page, or all that is left if the client was behind for too long. True: there is
    /// more.
    async fn read(&mut self) -> Result<bool, StoreError> {
        loop {
            let after = Some(self.after);
            let page = self
                .store
                .list_events(&self.listed, after, Order::Ascending, PAGE)
                .await?;
            let is_more = page.next.is_some();
            let late = self.is_live && self.behind.is_some_and(|it| it.elapsed() > BEHIND_MAX);
            for event in page.items {
                self.after = event.id;
                if (self.is_wanted)(&event) {
                    self.waiting.push_back(event);
                }
            }
            if !is_more {
                self.is_live = true;
                self.behind = None;
                return Ok(false);
            }
            self.behind.get_or_insert_with(Instant::now);
            if !late {
                return Ok(true);
            }
            self.lost += self.waiting.drain(..).len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::{Accept, Event, NewEvent, Options, OutgoingEvent, QueueId, Time};
    use tempfile::TempDir;

    use super::*;

    async fn log(store: &Store, recipients: impl Iterator<Item = usize>) {
        let events = recipients.map(|number| NewEvent {
            account: "ann".to_owned(),
            recipient: format!("{number}@b.test"),
            told: OutgoingEvent {
                event: Event::Delivered,
                dsn: false,
                suppressing: false,
                queue_id: QueueId(7),
                from_id: String::new(),
                message_id: String::new(),
                subject: String::new(),
                queued: Time(1),
                code: 0,
                enhanced: None,
                error: String::new(),
                extra: [].into(),
            },
            keep_until: Time(i64::MAX),
        });
        let unit = Accept {
            events: events.collect(),
            ..Accept::default()
        };
        store.accept(unit).await.unwrap();
    }

    /// A reader that begins at the beginning. It leaves out the recipient 0.
    fn reader() -> (TempDir, Store, Reader) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path())).unwrap();
        let is_wanted = |event: &LoggedEvent| event.recipient != "0@b.test";
        let (changed, all) = (store.events_changed(), EventFilter::default());
        let reader = Reader::new(store.clone(), changed, all, EventId(0), is_wanted);
        (dir, store, reader)
    }

    /// The number of the recipient of the next event.
    async fn next(reader: &mut Reader) -> usize {
        match reader.next().await.unwrap() {
            Frame::Event { data, name, .. } => {
                assert_eq!(name, "delivered");
                let recipient = data["recipient"].as_str().unwrap();
                recipient.split_once('@').unwrap().0.parse().unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn events_come_in_order_and_others_are_passed_over() {
        let (_dir, store, mut reader) = reader();
        log(&store, [1, 0, 2].into_iter()).await;
        assert_eq!(next(&mut reader).await, 1);
        log(&store, [0; 3 * PAGE].into_iter().chain([3])).await;
        assert_eq!(next(&mut reader).await, 2);
        assert_eq!(next(&mut reader).await, 3);
        let waiting = tokio::spawn(async move { next(&mut reader).await });
        log(&store, [0].into_iter()).await;
        log(&store, [4].into_iter()).await;
        assert_eq!(waiting.await.unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_for_too_long_loses_events_and_learns_how_many() {
        let (_dir, store, mut reader) = reader();
        log(&store, 1..=1).await;
        assert_eq!(next(&mut reader).await, 1);
        log(&store, [0].into_iter().chain(2..=5 * PAGE)).await;
        // It is behind from here on.
        assert_eq!(next(&mut reader).await, 2);
        tokio::time::advance(BEHIND_MAX + Duration::from_secs(1)).await;
        for number in 3..=PAGE {
            assert_eq!(next(&mut reader).await, number);
        }
        let lost = reader.next().await.unwrap();
        assert_eq!(lost, Frame::Lost(3 * PAGE as u64));
        for number in 4 * PAGE + 1..=5 * PAGE {
            assert_eq!(next(&mut reader).await, number);
        }
        // A short delay costs nothing, however much there is.
        log(&store, 1..=3 * PAGE).await;
        for number in 1..=3 * PAGE {
            assert_eq!(next(&mut reader).await, number);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_what_was_missed_loses_nothing() {
        let (_dir, store, mut reader) = reader();
        log(&store, 1..=3 * PAGE).await;
        for number in 1..=3 * PAGE {
            assert_eq!(next(&mut reader).await, number);
            tokio::time::advance(BEHIND_MAX).await;
        }
    }
}
