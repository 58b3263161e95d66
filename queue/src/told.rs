//! What people hear of a change of messages: its lines of the log, its counts, and the events of
//! its traces.
//!
//! It is told when the store has the change, and not before. So each result is told once, however
//! often the store fails first, and nobody hears of a result that a crash takes back.

use std::{fmt, time::Duration};

use postrider_observe::metrics::{Event as EventLabel, SuppressedBy};
use postrider_smtp::{DeliveryStatus, bounce::Class, dsn::Action};
use postrider_store::{Common, Event, NewSuppression, Queued, Settle, Time};

use crate::{
    Queue,
    observed::{self, AttemptOutcome, Seen},
    passed::sender,
    traces::AttemptTrace,
};

/// Tells of something when the store has it.
pub struct Telling(Box<dyn FnOnce() + Send + Sync>);

impl Telling {
    /// Tells by this function.
    pub fn new(tell: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Box::new(tell))
    }

    /// Tells it.
    pub fn tell(self) {
        (self.0)();
    }
}

impl fmt::Debug for Telling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telling").finish_non_exhaustive()
    }
}

/// One piece of news about a message.
#[derive(Debug)]
pub(crate) enum News {
    /// The result of an attempt, or of a message that had none.
    Result {
        outcome: AttemptOutcome,
        status: DeliveryStatus,
        /// None: no failure, or somebody wanted the message to end so.
        class: Option<Class>,
        /// How long the attempt took. None: there was no attempt.
        took: Option<Duration>,
    },
    /// It waits on, without an attempt.
    Postponed { reason: String, until: Time },
    /// It ended, since its recipient is on a suppression list for this reason.
    Suppressed { reason: String },
    /// Somebody ended it.
    Canceled { who: String, reason: String },
    /// Its recipient comes on a suppression list.
    Listed {
        entry: NewSuppression,
        by: SuppressedBy,
    },
    /// Its sender gets a DSN.
    Dsn {
        action: Action,
        status: DeliveryStatus,
        /// The DSN, if it goes by the queue.
        queued: Option<Box<Common>>,
    },
    /// A mail that came back tells this of it.
    Heard {
        event: Event,
        code: u16,
        text: String,
    },
    /// Its recipient complained. `proven`: the report has a name that only a receiver of the
    /// message can know.
    Complaint { kind: String, proven: bool },
    /// Applications get this event.
    Event(Event),
    /// An application gets the event that a mail came in.
    Incoming,
    /// What the mailboxes of this server tell.
    Taken(Telling),
}

/// The trace that tells of a message.
#[derive(Debug)]
pub(crate) enum TraceOf {
    /// A trace of its own, of an end or a change without an attempt. It is begun when there is
    /// something to tell.
    Alone,
    /// The trace of an attempt for this message alone.
    Own(Box<AttemptTrace>),
    /// The trace with this place among those of the attempts.
    Shared(usize),
}

/// What is to be told of a message.
#[derive(Debug)]
pub struct Tidings {
    message: Queued,
    /// When it became known.
    at: Time,
    news: Vec<News>,
    trace: TraceOf,
}

impl Tidings {
    pub(crate) const fn new(message: Queued, at: Time, news: Vec<News>, trace: TraceOf) -> Self {
        Self {
            message,
            at,
            news,
            trace,
        }
    }
}

/// A change of a message, and what is to be told of it.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) settle: Settle,
    told: Option<Tidings>,
}

impl Settlement {
    pub(crate) const fn new(settle: Settle, told: Tidings) -> Self {
        let told = Some(told);
        Self { settle, told }
    }

    /// A change that nobody hears of.
    pub(crate) const fn quiet(settle: Settle) -> Self {
        Self { settle, told: None }
    }

    /// The same, with this trace.
    pub(crate) fn traced(mut self, trace: TraceOf) -> Self {
        if let Some(told) = &mut self.told {
            told.trace = trace;
        }
        self
    }

    /// Adds a piece of news.
    pub(crate) fn add(&mut self, news: News) {
        if let Some(told) = &mut self.told {
            told.news.push(news);
        }
    }
}

/// Changes of messages that are stored together.
#[derive(Debug, Default)]
pub(crate) struct Settlements {
    settles: Vec<Settle>,
    untold: Untold,
}

/// What is to be told of changes when the store has them.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    /// One for each change.
    told: Vec<Option<Tidings>>,
    traces: Vec<AttemptTrace>,
}

impl Settlements {
    pub(crate) fn push(&mut self, settlement: Settlement) {
        let Settlement { settle, told } = settlement;
        self.settles.push(settle);
        self.untold.told.push(told);
    }

    /// Takes the traces of attempts. Gives the place of the first one.
    pub(crate) fn take_traces(&mut self, traces: Vec<AttemptTrace>) -> usize {
        let first = self.untold.traces.len();
        self.untold.traces.extend(traces);
        first
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.settles.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Settle> {
        self.settles.iter()
    }

    pub(crate) fn split(self) -> (Vec<Settle>, Untold) {
        (self.settles, self.untold)
    }
}

impl FromIterator<Settlement> for Settlements {
    fn from_iter<I: IntoIterator<Item = Settlement>>(settlements: I) -> Self {
        let mut all = Self::default();
        settlements.into_iter().for_each(|it| all.push(it));
        all
    }
}

impl Queue {
    /// Tells of changes that the store has.
    pub fn tell(&self, told: Vec<Tidings>) {
        for told in told {
            self.tell_one(told, true, &mut []);
        }
    }

    /// Tells of these changes, as far as the store has them: `stored` says so of each. The traces
    /// of all attempts end.
    pub(crate) fn tell_stored(&self, untold: Untold, stored: &[bool]) {
        let Untold { told, mut traces } = untold;
        for (place, told) in told.into_iter().enumerate() {
            let is_stored = stored.get(place) == Some(&true);
            if let Some(told) = told {
                self.tell_one(told, is_stored, &mut traces);
            }
        }
        let traces = traces.into_iter();
        traces.for_each(|trace| trace.finish(&self.tracer));
    }

    fn tell_one(&self, told: Tidings, is_stored: bool, traces: &mut [AttemptTrace]) {
        let Tidings {
            message,
            at,
            news,
            trace,
        } = told;
        let (mut own, mut shared) = (AttemptTrace::off(), None);
        match trace {
            TraceOf::Alone if is_stored => {
                own = AttemptTrace::unattempted(&self.tracer, at, &message);
            }
            TraceOf::Alone => {}
            TraceOf::Own(trace) => own = *trace,
            TraceOf::Shared(place) => shared = traces.get_mut(place),
        }
        if is_stored {
            let trace = shared.unwrap_or(&mut own);
            for news in news {
                self.tell_news(news, &message, at, trace);
            }
        }
        own.finish(&self.tracer);
    }

    fn tell_news(&self, news: News, message: &Queued, at: Time, trace: &mut AttemptTrace) {
        match news {
            News::Result {
                outcome,
                status,
                class,
                took,
            } => {
                let seen = Seen {
                    message,
                    outcome,
                    status: &status,
                    class,
                    took,
                };
                self.see_result(&seen, at, trace);
            }
            News::Postponed { reason, until } => trace.postponed(at, message, &reason, until),
            News::Suppressed { reason } => self.see_suppressed(message, &reason, at, trace),
            News::Canceled { who, reason } => self.see_canceled(message, (&who, &reason)),
            News::Listed { entry, by } => self.see_listed(message, (&entry, by), at, trace),
            News::Dsn {
                action,
                status,
                queued,
            } => {
                let Some(to) = sender(message) else { return };
                self.see_dsn(message, to, (action, &status), at, trace);
                if let Some(dsn) = queued {
                    self.count_own(dsn.size);
                    trace.dsn_queued(at, to, &dsn);
                }
            }
            News::Heard { event, code, text } => trace.heard(at, message, event, (code, &text)),
            News::Complaint { kind, proven } => {
                observed::complaint(message, &kind, proven);
                trace.heard(at, message, Event::Complained, (0, &kind));
            }
            News::Event(event) => self.see_event(event),
            News::Incoming => self.metrics.events_total.with(EventLabel::Incoming).inc(),
            News::Taken(telling) => telling.tell(),
        }
    }
}
