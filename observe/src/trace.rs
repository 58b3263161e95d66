//! Traces: what happened to a session, a message or a call, step by step.
//!
//! | module | content |
//! |---|---|
//! | `event_type`, `key` | the closed sets of types of events, and of names of their values |
//! | `building` | a trace while it goes on: bytes in a buffer of its own |
//! | `term` | what a trace can be found by |
//! | `record` | a trace that ended, as it is kept |
//! | `reading` | the events of a record |
//! | `transaction` | the part of a record that is about one transaction |
//! | `tracer` | the start of traces, and their hand-over at the end |
//! | `listening` | the events of traces that go on, for those who listen |
//! | `recorder` | the thread that writes traces, and the handle of those who read them |
//! | `followers` | those who follow the traces that end |
//! | `files`, `segment`, `index` | the folder of traces, and the format of its files |
//! | `lack` | what of the files goes when the disk has no room |
//! | `search` | what is searched, and what is found |
//!
//! Who is traced owns its [`Trace`], and adds events to it without a lock and without waiting. At
//! the end the [`Tracer`] takes it, or drops it if there is no room. So a trace is never a reason
//! for mail to wait.
//!
//! Never in a trace: bodies, subjects, header values but Message-ID and the address in From,
//! passwords and what SASL sends, keys, tokens, cookies, secrets, queries of URLs, and the extra
//! data of applications.
//!
//! ```
//! use postrider_observe::trace::{EventType, Keep, Key, Kind, Term, Tracer, TracerSettings};
//!
//! let (tracer, handed_over) = Tracer::new(TracerSettings::default());
//! let now = 1_772_355_600_000_000; // Microseconds since 1970.
//! let mut trace = tracer.start(Kind::Session, now);
//! trace.index(Term::Session("7h3kq0v9x2mc.1"));
//! trace.event(now, EventType::SmtpMailFrom, |data| {
//!     data.text(Key::From, "app@sender.test");
//!     data.number(Key::Size, 1451);
//! });
//! trace.index(Term::Sender("app@sender.test"));
//! trace.index(Term::Queue(7301));
//! tracer.finish(trace, Keep::Sampled);
//!
//! let records = handed_over.take();
//! assert_eq!(records[0].events().count(), 1);
//! ```

mod building;
mod event_type;
mod files;
mod followers;
mod index;
mod key;
mod lack;
mod listening;
mod reading;
mod record;
mod recorder;
mod search;
mod segment;
mod term;
mod tracer;
mod transaction;

pub use self::{
    building::{Data, Trace},
    event_type::EventType,
    files::Limits,
    followers::{Followed, Subscription},
    key::Key,
    listening::{Going, Heard, Listening},
    reading::{Event, Events, Value},
    record::Record,
    recorder::{HasRoom, Look, Now, Recorder, RecorderParts, Traces, TracesError},
    search::{Cursor, Missing, Page, Query, Reached, Words},
    segment::FileError,
    term::Term,
    tracer::{HandedOver, Keep, Tracer, TracerSettings},
};

/// The most bytes of an event.
pub const EVENT_MAX: usize = 2048;
/// The most events of a trace.
pub const EVENTS_MAX: usize = 512;
/// The most bytes of the events of a trace.
pub const TRACE_MAX: usize = 64 * 1024;

/// What a trace is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An incoming session over SMTP.
    Session = 0,
    /// A delivery attempt: one transaction with a host.
    Attempt = 1,
    /// One call of a webhook.
    Webhook = 2,
    /// A call of an HTTP API that queued or changed a message.
    Api = 3,
}

impl Kind {
    /// All kinds.
    pub const ALL: &[Self] = &[Self::Session, Self::Attempt, Self::Webhook, Self::Api];

    /// The name: `session`, `attempt`, `webhook` or `api`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Attempt => "attempt",
            Self::Webhook => "webhook",
            Self::Api => "api",
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}
