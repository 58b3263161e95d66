use std::sync::{Mutex, atomic::AtomicI64};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::{
    metrics::{TraceKind, TraceResult},
    trace::{EventType, Followed, Keep, Kind, Term, followers::BEHIND_MAX},
};

/// A recorder with a clock and a disk that the test rules.
struct World {
    dir: TempDir,
    now: Arc<AtomicI64>,
    has_room: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempdir().unwrap(),
            now: Arc::new(AtomicI64::new(1_000_000)),
            has_room: Arc::new(AtomicBool::new(true)),
            metrics: Arc::default(),
        }
    }

    fn start(&self) -> Recorder {
        let (now, has_room) = (Arc::clone(&self.now), Arc::clone(&self.has_room));
        let parts = RecorderParts {
            dir: self.dir.path().join("traces"),
            limits: Limits {
                keep: Duration::from_secs(3600),
                max_size: 16 << 20,
            },
            sample: 1.0,
            metrics: Arc::clone(&self.metrics),
            now: Arc::new(move || now.load(Relaxed)),
            has_room: Box::new(move || has_room.load(Relaxed)),
        };
        Recorder::start(parts).unwrap()
    }

    /// How many attempts were kept and dropped.
    fn counts(&self) -> (u64, u64) {
        let count = |result| {
            let counter = (TraceKind::Attempt, result);
            self.metrics.traces_total.with(counter).get()
        };
        (count(TraceResult::Kept), count(TraceResult::Dropped))
    }
}

/// Ends a trace of a message, and tells its number.
fn end(recorder: &Recorder, queue: u64) -> u64 {
    let mut trace = recorder.tracer().start(Kind::Attempt, 5);
    let span = trace.span();
    trace.index(Term::Queue(queue));
    trace.event(6, EventType::DeliveryFailed, |_| {});
    recorder.tracer().finish(trace, Keep::Always);
    span
}

fn found(traces: &Traces, queue: u64) -> Vec<u64> {
    let query = Query {
        terms: vec![vec![Term::Queue(queue)]],
        ..Query::any(10)
    };
    let look = traces.look().unwrap();
    let page = look.search(&query, &mut || false).unwrap();
    page.records.iter().map(|record| record.span).collect()
}

#[test]
fn what_ended_before_a_search_is_found() {
    let world = World::new();
    let recorder = world.start();
    for queue in 0..20 {
        let span = end(&recorder, queue);
        assert_eq!(found(recorder.traces(), queue), [span]);
    }
    assert_eq!(world.counts(), (20, 0));
    assert!(recorder.traces().bytes() > 0);
    assert_eq!(Traces::off("none").bytes(), 0);
}

#[test]
fn spans_rise_over_restarts_whatever_the_clock_says() {
    let world = World::new();
    let mut last = 0;
    for (now, at_least) in [
        (1_000_000, 1_000_000),
        (2_000_000, 2_000_000),
        // Somebody set the clock back.
        (5, 2_000_001),
        (-5, 2_000_002),
    ] {
        world.now.store(now, Relaxed);
        let recorder = world.start();
        let span = end(&recorder, 1);
        assert!(span > last && span >= at_least && span < 1 << 53, "{span}");
        last = span;
        drop(recorder);
    }
    let traces = Traces::in_folder(&world.dir.path().join("traces"));
    assert_eq!(found(&traces, 1).len(), 4, "the end of a server loses none");
}

#[test]
fn on_a_full_disk_traces_stop_and_go_on_later() {
    let world = World::new();
    let recorder = world.start();
    end(&recorder, 1);
    assert_eq!(found(recorder.traces(), 1).len(), 1);
    world.has_room.store(false, Relaxed);
    end(&recorder, 1);
    assert_eq!(found(recorder.traces(), 1).len(), 1);
    assert_eq!(world.counts(), (1, 1));
    world.has_room.store(true, Relaxed);
    end(&recorder, 1);
    assert_eq!(found(recorder.traces(), 1).len(), 2);
    assert_eq!(world.counts(), (2, 1));
}

/// Time goes on while the disk is full, and what is too old goes.
#[test]
fn on_a_full_disk_old_traces_go() {
    let world = World::new();
    for _ in 0..3 {
        // The end of each recorder seals a segment.
        end(&world.start(), 1);
    }
    let recorder = world.start();
    assert_eq!(found(recorder.traces(), 1).len(), 3);
    world.has_room.store(false, Relaxed);
    end(&recorder, 1);
    assert_eq!(
        found(recorder.traces(), 1).len(),
        3,
        "so few would not help"
    );
    world.now.store(3 * 3_600_000_000, Relaxed);
    end(&recorder, 1);
    assert_eq!(
        found(recorder.traces(), 1).len(),
        0,
        "and all that are old go"
    );
}

#[test]
fn a_disk_that_fails_loses_traces_only() {
    let world = World::new();
    let recorder = world.start();
    let dir = world.dir.path().join("traces");
    std::fs::remove_dir(&dir).unwrap();
    std::fs::write(&dir, "no folder").unwrap();
    end(&recorder, 1);
    let query = Query::any(1);
    let look = recorder.traces().look().unwrap();
    let page = look.search(&query, &mut || false).unwrap();
    assert_eq!(page.records.len(), 0);
    assert_eq!(world.counts(), (0, 1));
    std::fs::remove_file(&dir).unwrap();
    std::fs::create_dir(&dir).unwrap();
    end(&recorder, 2);
    assert_eq!(found(recorder.traces(), 2).len(), 1);
}

#[test]
fn no_traces_say_why() {
    let traces = Traces::off("traces.enabled is false");
    let error = traces.look().unwrap_err();
    assert_eq!(error.to_string(), "traces.enabled is false");
    assert!(traces.subscribe(TraceReader::Live).is_none());
}

/// What a subscriber has got when no more come.
async fn rest(mut subscription: Subscription) -> (Vec<u64>, u64) {
    let (mut spans, mut lost) = (Vec::new(), 0);
    while let Some(followed) = subscription.next().await {
        match followed {
            Followed::Trace(record) => spans.push(record.span),
            Followed::Lost(count) => lost += count,
        }
    }
    (spans, lost)
}

#[tokio::test]
async fn a_subscriber_gets_what_ends_from_then_on() {
    let world = World::new();
    let recorder = world.start();
    end(&recorder, 1);
    assert_eq!(found(recorder.traces(), 1).len(), 1);
    let subscription = recorder.traces().subscribe(TraceReader::Live).unwrap();
    // Also when the disk is full.
    world.has_room.store(false, Relaxed);
    let spans = [end(&recorder, 2), end(&recorder, 3)];
    let traces = recorder.traces().clone();
    drop(recorder);
    assert_eq!(rest(subscription).await, (spans.to_vec(), 0));
    assert!(
        traces.subscribe(TraceReader::Live).is_none(),
        "no more will come"
    );
}

/// All that is taken from the hand-over at once comes to those who follow.
#[tokio::test]
async fn a_busy_moment_loses_nothing() {
    let world = World::new();
    let recorder = world.start();
    let [one, other] = [(); 2].map(|()| recorder.traces().subscribe(TraceReader::Live).unwrap());
    let spans: Vec<_> = (0..3000).map(|_| end(&recorder, 1)).collect();
    drop(recorder);
    assert_eq!(rest(one).await, (spans.clone(), 0));
    assert_eq!(rest(other).await, (spans, 0));
    let lost = &world.metrics.traces_lost_total;
    assert_eq!(lost.with(TraceReader::Live).get(), 0);
}

#[tokio::test]
async fn a_slow_subscriber_loses_the_oldest_and_is_told() {
    let world = World::new();
    let recorder = world.start();
    let subscription = recorder.traces().subscribe(TraceReader::Otlp).unwrap();
    let count = BEHIND_MAX + 88;
    let mut spans = Vec::new();
    while spans.len() < count {
        let more = (count - spans.len()).min(1000);
        spans.extend((0..more).map(|_| end(&recorder, 1)));
        // The hand-over has room again.
        assert!(!found(recorder.traces(), 1).is_empty());
    }
    drop(recorder);
    assert_eq!(rest(subscription).await, (spans[88..].to_vec(), 88));
    let lost = &world.metrics.traces_lost_total;
    assert_eq!(lost.with(TraceReader::Otlp).get(), 88);
    assert_eq!(lost.with(TraceReader::Live).get(), 0);
}

/// While traces come from many threads, each is written once.
#[test]
fn traces_of_many_threads_are_all_written() {
    let world = World::new();
    let recorder = world.start();
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let spans: Vec<_> = (0..500).map(|_| end(&recorder, 9)).collect();
                all.lock().unwrap().extend(spans);
            });
        }
    });
    let query = Query {
        terms: vec![vec![Term::Queue(9)]],
        ..Query::any(usize::MAX)
    };
    let look = recorder.traces().look().unwrap();
    let page = look.search(&query, &mut || false).unwrap();
    let mut found: Vec<_> = page.records.iter().map(|record| record.span).collect();
    let mut all = all.into_inner().unwrap();
    found.sort_unstable();
    all.sort_unstable();
    assert_eq!(found, all);
}
