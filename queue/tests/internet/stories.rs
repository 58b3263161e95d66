//! What people see of the messages of a world: their traces, their lines of the log, and the
//! counts. Each message must have its whole story, in order.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use postrider_observe::{
    Metrics, Tracer,
    metrics::{AttemptOutcome, Class, End, Label, TraceKind, TraceResult},
    trace::{EventType, HandedOver, Key, Kind, Record, TracerSettings},
};
use postrider_store::Retired;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// What a trace tells of one message.
#[derive(Clone, Debug)]
struct Chapter {
    started: i64,
    /// The types of the events that are about the message, or about all messages of the trace.
    events: Vec<EventType>,
}

/// The results that a trace may tell of a message.
const RESULTS: [EventType; 3] = [
    EventType::DeliveryDelivered,
    EventType::DeliveryFailed,
    EventType::QueueRescheduled,
];
/// The lines about a result.
const LINES: [&str; 3] = ["delivered", "failed", "deferred"];
/// What a delivery to a host shows, in this order.
const WAY: [EventType; 6] = [
    EventType::DeliveryAttemptStart,
    EventType::DeliveryMxLookup,
    EventType::DeliveryConnect,
    EventType::DeliveryMailFrom,
    EventType::DeliveryRcptTo,
    EventType::DeliveryDelivered,
];

#[derive(Debug, Default)]
struct Entries {
    chapters: BTreeMap<u64, Vec<Chapter>>,
    /// The lines with the name of a result, by message.
    lines: BTreeMap<(u64, String), usize>,
    faults: Vec<String>,
}

/// What was seen so far. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Stories {
    entries: Arc<Mutex<Entries>>,
    handed_over: Arc<HandedOver>,
    pub(crate) tracer: Tracer,
    pub(crate) metrics: Arc<Metrics>,
}

impl Stories {
    pub(crate) fn new() -> Self {
        let metrics: Arc<Metrics> = Arc::default();
        let settings = TracerSettings::default();
        let (tracer, handed_over) = Tracer::counting(settings, Arc::clone(&metrics));
        Self {
            entries: Arc::default(),
            handed_over: Arc::new(handed_over),
            tracer,
            metrics,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap()
    }

    /// Takes the traces that have ended.
    pub(crate) fn take(&self) {
        let mut entries = self.entries();
        for record in self.handed_over.take() {
            if record.kind == Kind::Attempt {
                entries.read(&record);
            }
        }
    }

    /// What is wrong with the story of a message that has ended.
    pub(crate) fn judge(&self, retired: &Retired) -> Option<String> {
        let message = &retired.message;
        let entries = self.entries();
        let mut chapters = entries.chapters.get(&message.id.0).cloned();
        let chapters = chapters.get_or_insert_default();
        chapters.sort_by_key(|chapter| chapter.started);
        let of = |chapter: &Chapter| -> Vec<EventType> {
            let events = chapter.events.iter().copied();
            events.filter(|event| RESULTS.contains(event)).collect()
        };
        let told: Vec<EventType> = chapters.iter().flat_map(of).collect();
        let is_suppressed = told.len() + 1 == message.results.len()
            && chapters.last().is_some_and(|last| {
                let has = |event| last.events.contains(&event);
                has(EventType::PostriderSuppressed) && !has(EventType::DeliveryAttemptStart)
            });
        let attempts = message.results.len() - usize::from(is_suppressed);
        let results = message.results.iter().take(attempts);
        let expected: Vec<EventType> = results
            .enumerate()
            .map(|(at, result)| match (result.success, at + 1 == attempts) {
                (true, _) => EventType::DeliveryDelivered,
                (false, true) if !is_suppressed => EventType::DeliveryFailed,
                (false, _) => EventType::QueueRescheduled,
            })
            .collect();
        if told != expected {
            return Some(format!("its traces tell {told:?}, not {expected:?}"));
        }
        for (name, event) in LINES.iter().zip(RESULTS) {
            let lines = entries.lines.get(&(message.id.0, (*name).to_owned()));
            let wanted = expected.iter().filter(|told| **told == event).count();
            if lines.copied().unwrap_or_default() != wanted {
                return Some(format!("{lines:?} lines {name}, not {wanted}"));
            }
        }
        if retired.success {
            let last = chapters.last().map(|last| last.events.clone());
            let mut events = last.unwrap_or_default().into_iter();
            let mut missing = WAY
                .iter()
                .filter(|step| !events.any(|event| event == **step));
            if let Some(missing) = missing.next() {
                return Some(format!("its last trace has no {missing} in its place"));
            }
        }
        None
    }

    /// What is wrong with the traces and the counts of all messages. `results` are their attempts,
    /// and `ends` how many were delivered, failed and were suppressed.
    pub(crate) fn judge_all(&self, results: usize, ends: [u64; 3]) -> Vec<String> {
        let mut wrong = self.entries().faults.clone();
        let missing = [TraceResult::Sampled, TraceResult::Dropped].map(|result| {
            let traces = &self.metrics.traces_total;
            traces.with((TraceKind::Attempt, result)).get()
        });
        if missing != [0, 0] {
            wrong.push(format!("traces are missing: {missing:?}"));
        }
        let attempts = &self.metrics.attempts_total;
        let outcomes = AttemptOutcome::ALL.iter();
        let cells = outcomes.flat_map(|outcome| Class::ALL.iter().map(|class| (*outcome, *class)));
        let counted: u64 = cells.map(|labels| attempts.with(labels).get()).sum();
        if counted > results as u64 {
            wrong.push(format!(
                "{counted} attempts are counted, and {results} are stored"
            ));
        }
        let ended = &self.metrics.messages_ended_total;
        let labels = [End::Delivered, End::Failed, End::Suppressed];
        let counted = labels.map(|end| ended.with(end).get());
        if counted != ends {
            wrong.push(format!("the ends are counted as {counted:?}, not {ends:?}"));
        }
        for usage in postrider_observe::metrics::Usage::ALL {
            let open = self.metrics.outgoing_connections.with(*usage).get();
            if open != 0 {
                wrong.push(format!("{open} connections are still open: {usage:?}"));
            }
        }
        wrong
    }
}

impl Entries {
    fn read(&mut self, record: &Record) {
        let events: Vec<_> = record.events().collect();
        let is_ordered = events.is_sorted_by_key(|event| event.micros);
        let is_attempt = events
            .iter()
            .any(|event| event.event == EventType::DeliveryAttemptStart);
        let bounds = (events.first(), events.last());
        let bounds = (bounds.0.map(|it| it.event), bounds.1.map(|it| it.event));
        let is_whole = !is_attempt
            || bounds
                == (
                    Some(EventType::DeliveryAttemptStart),
                    Some(EventType::DeliveryAttemptEnd),
                );
        if !is_ordered || !is_whole || record.owners != ["ann"] {
            self.faults
                .push(format!("the trace of {:?}: {events:?}", record.queues));
        }
        for id in &record.queues {
            // The start has the id of the first message only.
            let concerns = |event: &postrider_observe::trace::Event| {
                let of = event.number(Key::QueueId);
                event.event == EventType::DeliveryAttemptStart || of.is_none_or(|of| of == *id)
            };
            let of_message = events.iter().filter(|event| concerns(event));
            let chapter = Chapter {
                started: record.started,
                events: of_message.map(|event| event.event).collect(),
            };
            self.chapters.entry(*id).or_default().push(chapter);
        }
    }
}

/// Counts the lines about results. It is the log of a world, which has one thread.
impl Subscriber for Stories {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::INFO && metadata.target().starts_with("postrider_queue")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        if let Some(queue) = line.queue {
            let mut entries = self.entries();
            *entries.lines.entry((queue, line.name)).or_default() += 1;
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    name: String,
    queue: Option<u64>,
}

impl Visit for Line {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "queue" {
            self.queue = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.name = format!("{value:?}");
        }
    }
}

/// The number of results of messages that ended, and their ends.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) results: usize,
    /// Delivered, failed, suppressed.
    pub(crate) ends: [u64; 3],
}

impl Sums {
    pub(crate) fn add(&mut self, retired: &Retired, is_suppressed: bool) {
        self.results += retired.message.results.len();
        let place = match (retired.success, is_suppressed) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        self.ends[place] += 1;
    }
}
