//! The events of traces that go on, for those who listen to them.
//!
//! While nobody listens, a trace looks at one number for each event. A listener hears of each event
//! at once. Of a trace that began before the listener came, all events come together with the next
//! one. It is the same after a listener lost something.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};

use super::{Event, Record, tracer::Shared};

/// How many messages a listener may be behind. Then it loses the oldest.
const BEHIND_MAX: usize = 1024;
/// The bytes of the messages that somebody still has to hear, or keeps. With more of them, traces
/// are not told whole.
const BYTES_MAX: usize = 16 << 20;
/// A listener that loses much gets all traces whole at most once in this time.
const AGAIN: Duration = Duration::from_secs(1);

/// News of a trace that goes on.
#[derive(Debug)]
pub struct Going {
    /// What is known of the trace, with its newest events only. It is found by no terms.
    pub record: Record,
    /// How many events the trace had before those that come with this.
    pub after: u64,
    /// How many events the trace has had so far.
    pub total: u64,
    /// The trace ended.
    pub has_ended: bool,
    counted: Counted,
}

/// The bytes of a message, which are counted while it is there.
#[derive(Debug)]
struct Counted {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

impl Going {
    /// The events begin with the first one that the trace has had.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.after == 0 && self.total > 0
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.counted.bytes
    }

    /// The events that are new to one who has seen so many of the trace.
    pub fn news(&self, seen: u64) -> impl Iterator<Item = Event> {
        let count = self.record.events().count();
        let new = usize::try_from(self.total.saturating_sub(seen)).unwrap_or(usize::MAX);
        self.record.events().skip(count.saturating_sub(new))
    }
}

/// Where traces tell their events, and who listens.
#[derive(Debug)]
pub(super) struct Listeners {
    listeners: AtomicUsize,
    /// How often somebody began to listen, or lost something. Such a listener has not heard what
    /// was told before.
    begun: AtomicU64,
    /// The bytes of the messages that are there.
    bytes: Arc<AtomicUsize>,
    sender: broadcast::Sender<Arc<Going>>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            listeners: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            bytes: Arc::default(),
            sender: broadcast::Sender::new(BEHIND_MAX),
        }
    }
}

impl Listeners {
    /// Whether somebody listens.
    pub(super) fn is_heard(&self) -> bool {
        self.listeners.load(Acquire) > 0
    }

    /// How often somebody began to listen, or lost something.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Acquire)
    }

    /// Whether there is memory for more than the newest events.
    pub(super) fn has_memory(&self) -> bool {
        self.bytes.load(Relaxed) < BYTES_MAX
    }

    /// Tells news of a trace, with the events at these places among all that it has had.
    pub(super) fn tell(&self, record: Record, events: Range<u64>, has_ended: bool) {
        let bytes = size_of::<Going>() + record.memory();
        self.bytes.fetch_add(bytes, Relaxed);
        let going = Going {
            record,
            after: events.start,
            total: events.end,
            has_ended,
            counted: Counted {
                bytes,
                all: Arc::clone(&self.bytes),
            },
        };
        // Without a listener nobody misses it.
        let _ = self.sender.send(Arc::new(going));
    }
}

/// The events of all traces from now on, for one who listens.
#[derive(Debug)]
pub struct Listening {
    shared: Arc<Shared>,
    receiver: broadcast::Receiver<Arc<Going>>,
    /// Something was lost, and traces are not told whole yet.
    is_behind: bool,
    /// When they were last, for that.
    again: Option<Instant>,
}

/// What a listener hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// News of a trace.
    Going(Arc<Going>),
    /// So many news were lost, since the listener was too slow. Traces come whole with their next
    /// events.
    Lost(u64),
}

impl Listening {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let live = &shared.live;
        let receiver = live.sender.subscribe();
        live.begun.fetch_add(1, Release);
        live.listeners.fetch_add(1, Release);
        Self {
            shared: Arc::clone(shared),
            receiver,
            is_behind: false,
            again: None,
        }
    }

    /// Has all traces told whole again, after something was lost.
    fn begin_again(&mut self) {
        if self.is_behind && self.again.is_none_or(|again| again.elapsed() >= AGAIN) {
            self.is_behind = false;
            self.again = Some(Instant::now());
            self.shared.live.begun.fetch_add(1, Release);
        }
    }

    /// The next news. None: no more come. What it waits for is not lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Heard> {
        self.begin_again();
        match self.receiver.recv().await {
            Ok(going) => Some(Heard::Going(going)),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                self.shared
                    .metrics
                    .trace_news_lost_total
                    .with(())
                    .add(count);
                self.is_behind = true;
                self.begin_again();
                Some(Heard::Lost(count))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.shared.live.listeners.fetch_sub(1, Release);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        metrics::TraceReader,
        trace::{EventType, Keep, Key, Kind, Term, Trace, Tracer, TracerSettings},
    };

    fn add(trace: &mut Trace, at: i64) {
        trace.event(at, EventType::SmtpRcptTo, |data| {
            data.number(Key::Code, u64::try_from(at).unwrap());
        });
    }

    /// What a listener has heard since: of each message the times of its events, how many there
    /// were in all, and whether the trace ended.
    fn heard(listening: &mut Listening) -> Vec<(Vec<i64>, u64, bool)> {
        let mut all = Vec::new();
        while let Some(Some(Heard::Going(going))) = listening.next().now_or_never() {
            let times = going.record.events().map(|event| event.micros).collect();
            all.push((times, going.total, going.has_ended));
        }
        all
    }

    #[test]
    fn events_are_heard_at_once_and_earlier_ones_with_the_next() {
        let (tracer, handed_over) = Tracer::new(TracerSettings::default());
        let mut trace = tracer.start(Kind::Session, 1);
        add(&mut trace, 1);
        add(&mut trace, 2);
        assert!(!tracer.is_heard());
        let mut first = tracer.listen().unwrap();
        assert!(tracer.is_heard());
        assert_eq!(heard(&mut first), []);
        add(&mut trace, 3);
        trace.index(Term::Recipient("ann@a.test"));
        add(&mut trace, 4);
        let told = [(vec![1, 2, 3], 3, false), (vec![4], 4, false)];
        assert_eq!(heard(&mut first), told);
        // One more gets all that was before, and the other knows what is new.
        let mut second = tracer.listen().unwrap();
        add(&mut trace, 5);
        let whole = [(vec![1, 2, 3, 4, 5], 5, false)];
        assert_eq!(heard(&mut second), whole);
        let Some(Some(Heard::Going(going))) = first.next().now_or_never() else {
            panic!("it hears the same");
        };
        let news = |seen| going.news(seen).map(|it| it.micros).collect::<Vec<_>>();
        assert_eq!((news(4), news(3), news(5)), (vec![5], vec![4, 5], vec![]));
        assert_eq!(going.record.domains, ["a.test"]);
        drop(first);
        tracer.finish(trace, Keep::Sampled);
        assert_eq!(heard(&mut second), [(vec![], 5, true)]);
        assert_eq!(handed_over.take()[0].events().count(), 5);
        drop(second);
        assert!(!tracer.is_heard());
    }

    #[test]
    fn the_end_is_heard_of_traces_that_are_not_kept_too() {
        let (tracer, handed_over) = Tracer::new(TracerSettings {
            sample: 0.0,
            ..TracerSettings::default()
        });
        let mut listening = tracer.listen().unwrap();
        let mut trace = tracer.start(Kind::Session, 1);
        add(&mut trace, 1);
        tracer.finish(trace, Keep::Sampled);
        let told = [(vec![1], 1, false), (vec![], 1, true)];
        assert_eq!(heard(&mut listening), told);
        // One that never had an event is nothing to hear of.
        drop(tracer.start(Kind::Session, 1));
        assert_eq!(heard(&mut listening), []);
        assert!(handed_over.take().is_empty());
    }

    #[test]
    fn a_long_trace_is_heard_to_its_end_and_whole_as_far_as_it_is_kept() {
        let (tracer, _handed_over) = Tracer::new(TracerSettings::default());
        let mut trace = tracer.start(Kind::Session, 1);
        for at in 1..=2000 {
            add(&mut trace, at);
        }
        let mut listening = tracer.listen().unwrap();
        add(&mut trace, 2001);
        add(&mut trace, 2002);
        let all = heard(&mut listening);
        let [(times, 2001, false), (last, 2002, false)] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!(last, &[2002]);
        assert_eq!((times.first(), times.last()), (Some(&1), Some(&2001)));
        assert!(times.len() < 600, "the middle is left out");
    }

    #[test]
    fn after_a_loss_traces_are_heard_whole_again() {
        let (tracer, _handed_over) = Tracer::new(TracerSettings::default());
        let mut listening = tracer.listen().unwrap();
        let mut trace = tracer.start(Kind::Session, 1);
        add(&mut trace, 1);
        add(&mut trace, 2);
        let mut other = tracer.start(Kind::Session, 1);
        let behind = i64::try_from(BEHIND_MAX).unwrap();
        for at in 0..behind {
            add(&mut other, at);
        }
        let Some(Some(Heard::Lost(2))) = listening.next().now_or_never() else {
            panic!("the first two were lost");
        };
        assert_eq!(heard(&mut listening).len(), BEHIND_MAX);
        add(&mut trace, 3);
        add(&mut trace, 4);
        let told = [(vec![1, 2, 3], 3, false), (vec![4], 4, false)];
        assert_eq!(heard(&mut listening), told);
        let metrics = &listening.shared.metrics;
        assert_eq!(metrics.trace_news_lost_total.with(()).get(), 2);
        let lost = metrics.traces_lost_total.with(TraceReader::Live);
        assert_eq!(lost.get(), 0, "no trace that ended was lost");
    }

    #[test]
    fn without_memory_only_new_events_are_told() {
        let (tracer, _handed_over) = Tracer::new(TracerSettings::default());
        let mut trace = tracer.start(Kind::Session, 1);
        add(&mut trace, 1);
        let mut listening = tracer.listen().unwrap();
        let shared = Arc::clone(&listening.shared);
        let live = &shared.live;
        live.bytes.fetch_add(BYTES_MAX, Relaxed);
        add(&mut trace, 2);
        live.bytes.fetch_sub(BYTES_MAX, Relaxed);
        add(&mut trace, 3);
        let told = [(vec![2], 2, false), (vec![1, 2, 3], 3, false)];
        assert_eq!(heard(&mut listening), told);
        assert_eq!(live.bytes.load(Relaxed), 0, "nobody has any of it");
    }

    #[test]
    fn what_was_told_before_the_trace_began_is_not_told_again() {
        let (tracer, handed_over) = Tracer::new(TracerSettings::default());
        assert!(tracer.preview(Kind::Attempt, 1).is_none(), "nobody listens");
        let mut listening = tracer.listen().unwrap();
        let mut preview = tracer.preview(Kind::Attempt, 1).unwrap();
        add(&mut preview, 1);
        add(&mut preview, 2);
        let span = preview.span();
        let mut trace = tracer.start_after(Kind::Attempt, 1, Some(preview));
        assert_eq!(trace.span(), span);
        trace.quietly(|trace| {
            add(trace, 1);
            add(trace, 2);
        });
        add(&mut trace, 3);
        tracer.finish(trace, Keep::Always);
        let told = [
            (vec![1], 1, false),
            (vec![2], 2, false),
            (vec![3], 3, false),
            (vec![], 3, true),
        ];
        assert_eq!(heard(&mut listening), told);
        let kept = handed_over.take();
        assert_eq!((kept.len(), kept[0].events().count()), (1, 3));
        // Without a trace, the preview ends and nothing is kept.
        let mut preview = tracer.preview(Kind::Attempt, 4).unwrap();
        add(&mut preview, 4);
        drop(preview);
        let told = [(vec![4], 1, false), (vec![], 1, true)];
        assert_eq!(heard(&mut listening), told);
        assert!(handed_over.take().is_empty());
    }
}
