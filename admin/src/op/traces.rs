//! Traces: what happened to sessions, messages and calls, step by step.
//!
//! - `item`: traces and events as the faces show them. `sentence`: an event in words.
//! - `story`: all traces of a message, in order. `follow`: those that end now.

mod follow;
mod item;
mod sentence;
mod story;

use std::{
    cell::Cell,
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use postrider_observe::trace::{
    EventType, Key, Kind, Query, Record, Term, Traces, TracesError, Words,
};
use postrider_store::Time;
use serde::{Deserialize, Serialize};

use self::story::part;
pub use self::{
    follow::{Follow, FollowItem},
    item::{TraceEvent, TraceItem, Wanted, shown_event},
    story::{Stories, Story, StoryItem},
};
use super::Single;
use crate::{AdminError, Context};

/// How long an answer may take. It then tells where it goes on.
const TIME: Duration = Duration::from_secs(2);
/// The most bytes of the traces of an answer that has all their events, as the files have them. As
/// JSON they are about ten times as large.
const WHOLE_MAX: usize = 8 << 20;
/// The most traces of an answer.
pub const TRACES_MAX: usize = 1000;
/// The most traces of an answer that has only their numbers.
pub const NUMBERS_MAX: usize = 100_000;

/// What a caller may see: a tenant sees less than everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// The accounts of the tenant.
    pub accounts: BTreeSet<String>,
    /// The domains of the tenant, in lower case.
    pub domains: BTreeSet<String>,
}

impl Sight {
    /// Whether a tenant may see a trace: it belongs to accounts of the tenant, or it is that of a
    /// received message and has recipients of the tenant's domains only.
    #[must_use]
    pub fn has(&self, record: &Record) -> bool {
        if !record.owners.is_empty() {
            return record.owners.iter().all(|it| self.accounts.contains(it));
        }
        record.kind == Kind::Session
            && !record.has_more_domains
            && !record.domains.is_empty()
            && record.domains.iter().all(|it| self.domains.contains(it))
    }

    /// Whether a tenant may come to see a trace that goes on: a session of which only recipients of
    /// the tenant are known. Other traces have their owners from the start.
    #[must_use]
    pub fn may_come_to_have(&self, record: &Record) -> bool {
        record.kind == Kind::Session
            && record.owners.is_empty()
            && !record.has_more_domains
            && record.domains.iter().all(|it| self.domains.contains(it))
    }

    /// Whether a tenant may see a trace that goes on. Whose it is by its recipients is known at its
    /// end.
    #[must_use]
    pub fn has_going(&self, record: &Record, has_ended: bool) -> bool {
        (has_ended || !record.owners.is_empty()) && self.has(record)
    }
}

/// Finds traces, newest first. All conditions that are given have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Find {
    /// Traces with one of these numbers.
    pub spans: Vec<u64>,
    /// Traces with an event of one of these types, such as `smtp.rcpt-to`. An unknown type is in no
    /// trace.
    pub types: Vec<String>,
    /// `session`, `attempt`, `webhook` or `api`.
    pub kind: Option<String>,
    /// The name of a session, or of one transaction of it, of which then only the events are shown.
    pub session: Option<String>,
    /// The id of a queued message.
    pub queue: Option<u64>,
    /// A Message-ID.
    pub message_id: Option<String>,
    /// The reverse-path.
    pub sender: Option<String>,
    /// A recipient.
    pub recipient: Option<String>,
    /// The address of the other side.
    pub remote_ip: Option<IpAddr>,
    /// An account.
    pub account: Option<String>,
    /// The id of a webhook call.
    pub hook: Option<u64>,
    /// Words that have to be in the trace; those in double quotes belong together.
    pub words: String,
    /// Traces that started at this time or later.
    pub after: Option<Time>,
    /// Traces that started before this time.
    pub before: Option<Time>,
    /// Where an earlier search was to go on.
    pub cursor: Option<String>,
    /// So many traces are left out before the first one.
    pub skip: u64,
    /// The most traces: 1000 at most, or 100,000 of which only the numbers are wanted. 0: as many.
    pub limit: usize,
    /// All traces that match are counted, up to one more than this. 0: they are not counted.
    pub count: u64,
    /// What is told of each trace.
    pub show: Show,
    /// What the caller may see; None: everything.
    pub sight: Option<Sight>,
}

/// What is told of a trace that was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Show {
    /// All its events.
    #[default]
    Whole,
    /// The event that says most.
    Brief,
    /// Its number.
    Number,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The traces, newest first. Empty if only their numbers are wanted.
    pub traces: Vec<TraceItem>,
    /// Their numbers.
    pub numbers: Vec<u64>,
    /// How many there are in all, as far as they were counted.
    pub total: u64,
    /// All were counted.
    pub is_total: bool,
    /// The cursor with which the search goes on; None: it came to the end. A search ends after 2
    /// seconds, so there may be more where nothing was found. It also ends when the traces that it
    /// shows with all events have 8 MiB.
    pub next: Option<String>,
}

impl Found {
    /// Nothing matches.
    fn none() -> Self {
        Self {
            is_total: true,
            ..Self::default()
        }
    }
}

impl Single for Find {
    type Output = Found;

    async fn answer(self, context: &Context) -> Result<Found, AdminError> {
        reading(context, move |traces| self.search(traces)).await
    }
}

impl Find {
    fn search(&self, traces: &Traces) -> Result<Found, AdminError> {
        let Some(terms) = self.terms() else {
            return Ok(Found::none());
        };
        let kind = self.kind.as_deref().map(|name| {
            let kinds = Kind::ALL.iter().copied();
            kinds.into_iter().find(|kind| kind.name() == name)
        });
        if kind == Some(None) {
            return Ok(Found::none());
        }
        let cursor = self.cursor.as_deref().map(str::parse).transpose();
        let words = Words::parse(&self.words);
        let max = match self.show {
            Show::Number => NUMBERS_MAX,
            Show::Whole | Show::Brief => TRACES_MAX,
        };
        let allows: &dyn Fn(&Record) -> bool = &|record| {
            let is_seen = self.sight.as_ref().is_none_or(|sight| sight.has(record));
            is_seen && words.are_in(record)
        };
        let has_conditions = self.sight.is_some() || words != Words::default();
        let query = Query {
            terms,
            kind: kind.flatten(),
            after: self.after.map(|time| time.0),
            before: self.before.map(|time| time.0),
            cursor: cursor
                .map_err(|()| AdminError::invalid("this is no cursor of traces").at("cursor"))?,
            skip: self.skip,
            limit: if self.limit == 0 {
                max
            } else {
                self.limit.min(max)
            },
            count: self.count,
            only_numbers: self.show == Show::Number,
            allows: has_conditions.then_some(allows),
        };
        let look = traces.look()?;
        let budget = Budget::of(TIME);
        let (mut traces, mut numbers) = (Vec::new(), Vec::new());
        // A record is much larger than what is shown of it.
        let reached = look.find(&query, &mut || budget.is_over(), &mut |record| {
            numbers.push(record.span);
            let record = match &self.session {
                Some(name) => part(record, name),
                None => record,
            };
            match self.show {
                Show::Whole => traces.push(budget.whole(&record)),
                Show::Brief => traces.push(TraceItem::brief(&record, &self.types)),
                Show::Number => {}
            }
        })?;
        Ok(Found {
            traces,
            numbers,
            total: reached.total,
            is_total: reached.is_total,
            next: reached.next.map(|cursor| cursor.to_string()),
        })
    }

    /// The terms of the index. None: nothing can match.
    fn terms(&self) -> Option<Vec<Vec<Term<'_>>>> {
        let mut terms: Vec<Vec<Term<'_>>> = Vec::new();
        if !self.spans.is_empty() {
            terms.push(self.spans.iter().map(|span| Term::Span(*span)).collect());
        }
        if !self.types.is_empty() {
            let types = self.types.iter();
            let known: Vec<_> = types
                .filter_map(|name| EventType::from_name(name))
                .collect();
            if known.is_empty() {
                return None;
            }
            terms.push(known.into_iter().map(Term::Type).collect());
        }
        let single = [
            self.session.as_deref().map(Term::Session),
            self.queue.map(Term::Queue),
            self.message_id.as_deref().map(Term::MessageId),
            self.sender.as_deref().map(Term::Sender),
            self.recipient.as_deref().map(Term::Recipient),
            self.remote_ip.map(Term::RemoteIp),
            self.account.as_deref().map(Term::Account),
            self.hook.map(Term::Hook),
        ];
        terms.extend(single.into_iter().flatten().map(|term| vec![term]));
        Some(terms)
    }
}

/// Reads traces on a thread that may wait for the disk.
async fn reading<T: Send + 'static>(
    context: &Context,
    read: impl FnOnce(&Traces) -> Result<T, AdminError> + Send + 'static,
) -> Result<T, AdminError> {
    let traces = context.traces.clone();
    let read = tokio::task::spawn_blocking(move || read(&traces)).await;
    read.map_err(AdminError::internal)?
}

/// What is left of the time and of the bytes of an answer.
struct Budget {
    until: Instant,
    /// The bytes of the traces that are shown whole.
    bytes: Cell<usize>,
}

impl Budget {
    /// All the bytes, and so much time.
    fn of(time: Duration) -> Self {
        Self {
            until: Instant::now() + time,
            bytes: Cell::new(0),
        }
    }

    fn is_over(&self) -> bool {
        self.bytes.get() >= WHOLE_MAX || Instant::now() > self.until
    }

    /// Counts a trace that the answer has whole.
    fn take(&self, record: &Record) {
        self.bytes.set(self.bytes.get() + record.memory());
    }

    /// A trace with all its events.
    fn whole(&self, record: &Record) -> TraceItem {
        self.take(record);
        TraceItem::whole(record)
    }
}

impl From<TracesError> for AdminError {
    fn from(error: TracesError) -> Self {
        match error {
            TracesError::Off(_) => Self::unavailable(error),
            TracesError::File(_) => Self::internal(error),
        }
    }
}

/// The key of a parameter of a stream. Names are those of the keys, or with dashes: `remote-ip` is
/// `remoteIp`.
#[must_use]
pub fn key_of_parameter(name: &str) -> Option<Key> {
    let keys = Key::ALL.iter().copied();
    keys.into_iter().find(|key| {
        let known = key.name().chars().flat_map(|c| {
            let dash = c.is_ascii_uppercase().then_some('-');
            dash.into_iter().chain([c.to_ascii_lowercase()])
        });
        key.name() == name || known.eq(name.chars())
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use postrider_observe::trace::{Limits, Recorder, RecorderParts};

    use super::*;

    fn record(kind: Kind, owners: &[&str], domains: &[&str], more: bool) -> Record {
        let (tracer, handed_over) = postrider_observe::Tracer::new(Default::default());
        let trace = tracer.start(kind, 0);
        tracer.finish(trace, postrider_observe::Keep::Always);
        let mut record = handed_over.take().remove(0);
        let texts = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
        record.owners = texts(owners);
        record.domains = texts(domains);
        record.has_more_domains = more;
        record
    }

    /// A recorder in a folder.
    pub(crate) fn recorder(dir: &std::path::Path) -> Recorder {
        Recorder::start(RecorderParts {
            dir: dir.to_owned(),
            limits: Limits {
                keep: Duration::from_secs(3600),
                max_size: 1 << 30,
            },
            sample: 1.0,
            metrics: Arc::default(),
            now: Arc::new(|| 1_000_000),
            has_room: Box::new(|| true),
        })
        .unwrap()
    }

    /// Each trace here has some 60 KiB, and there are 24 MiB of them.
    #[test]
    fn an_answer_is_limited_in_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        const COUNT: usize = 400;
        for number in 0..COUNT {
            let mut trace = recorder.tracer().start(Kind::Attempt, 1_000_000);
            trace.index(Term::Queue(number as u64));
            for _ in 0..30 {
                trace.event(1_000_000, EventType::DeliveryRawInput, |data| {
                    data.text(Key::Contents, &"x".repeat(2000));
                });
            }
            let keep = postrider_observe::Keep::Always;
            recorder.tracer().finish(trace, keep);
            if number % 50 == 0 {
                // The hand-over has room for 16 MiB.
                recorder.traces().look().unwrap();
            }
        }
        let mut find = Find::default();
        let mut seen = BTreeSet::new();
        loop {
            let found = find.search(recorder.traces()).unwrap();
            assert!(found.traces.len() < COUNT / 2, "{}", found.traces.len());
            seen.extend(found.traces.iter().flat_map(|item| item.queue_ids.clone()));
            find.cursor = found.next;
            if find.cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), COUNT, "the cursor leads to the others");
        // With one event of each there are all of them.
        let brief = Find {
            show: Show::Brief,
            ..Find::default()
        };
        let mut found = brief.search(recorder.traces()).unwrap();
        assert_eq!((found.traces.len(), found.next.take()), (COUNT, None));
        assert!(found.traces.iter().all(|item| item.events.len() == 1));
    }

    #[test]
    fn a_tenant_sees_what_is_wholly_its_own() {
        let sight = Sight {
            accounts: ["app".to_owned(), "info".to_owned()].into(),
            domains: ["a.test".to_owned(), "b.test".to_owned()].into(),
        };
        for (kind, owners, domains, more, is_seen) in [
            (
                Kind::Attempt,
                &["app"][..],
                &["remote.test"][..],
                false,
                true,
            ),
            (Kind::Attempt, &["app", "info"], &[], false, true),
            (Kind::Attempt, &["app", "other"], &[], false, false),
            (Kind::Attempt, &[], &["a.test"], false, false),
            (Kind::Webhook, &["other"], &[], false, false),
            (Kind::Api, &["info"], &[], false, true),
            (Kind::Session, &["app"], &["remote.test"], false, true),
            (Kind::Session, &["other"], &["a.test"], false, false),
            (Kind::Session, &[], &["a.test"], false, true),
            (Kind::Session, &[], &["a.test", "b.test"], false, true),
            (Kind::Session, &[], &["a.test", "c.test"], false, false),
            (Kind::Session, &[], &["a.test"], true, false),
            (Kind::Session, &[], &[], false, false),
        ] {
            let record = record(kind, owners, domains, more);
            assert_eq!(
                sight.has(&record),
                is_seen,
                "{kind:?} {owners:?} {domains:?}"
            );
        }
    }

    #[test]
    fn parameters_of_streams_are_names_of_keys() {
        for (name, key) in [
            ("remote-ip", Some(Key::RemoteIp)),
            ("remoteIp", Some(Key::RemoteIp)),
            ("from", Some(Key::From)),
            ("queue-id", Some(Key::QueueId)),
            ("remote_ip", None),
            ("filter", None),
            ("", None),
        ] {
            assert_eq!(key_of_parameter(name), key, "{name}");
        }
    }
}
