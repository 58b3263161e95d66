//! The thread that writes traces, and the handle of those who read them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use tracing::{info, warn};

use super::{
    Listening, Page, Query, Reached, Record, Tracer, TracerSettings,
    files::{Files, Limits},
    followers::{Followers, Subscription},
    segment::FileError,
    tracer::HandedOver,
};
use crate::{Metrics, metrics::TraceReader};

/// How often old traces are looked for when none come.
const LOOK: Duration = Duration::from_secs(60);

/// The time now, in microseconds since 1970.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;
/// Whether the disk has room for traces.
pub type HasRoom = Box<dyn Fn() -> bool + Send>;

/// What a recorder needs.
pub struct RecorderParts {
    /// The folder of the traces. It is made if it is not there.
    pub dir: PathBuf,
    /// What is kept.
    pub limits: Limits,
    /// The share of ordinary traces that are kept, from 0 to 1.
    pub sample: f64,
    /// Counts what becomes of traces.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub now: Now,
    /// Whether the disk has room for traces. It is asked before each write.
    pub has_room: HasRoom,
}

impl std::fmt::Debug for RecorderParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecorderParts")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Writes the traces that end, on a thread of its own. When it is dropped, it writes what waits and
/// ends.
#[derive(Debug)]
pub struct Recorder {
    tracer: Tracer,
    traces: Traces,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Opens the folder, and begins to write.
    ///
    /// # Errors
    /// If the disk fails, or a newer program wrote the traces. Then nothing was changed.
    pub fn start(parts: RecorderParts) -> Result<Self, FileError> {
        let files = Arc::new(Files::open(&parts.dir, parts.limits)?);
        let now = u64::try_from((parts.now)()).unwrap_or(0);
        let settings = TracerSettings {
            sample: parts.sample,
            // Numbers by the clock rise, also if traces were left out before the restart. Those on
            // the disk tell if somebody set the clock back.
            first_span: now.max(files.largest_span() + 1),
        };
        let followers = Arc::new(Followers::new(Arc::clone(&parts.metrics)));
        let (tracer, handed_over) = Tracer::counting(settings, parts.metrics);
        let following = Arc::downgrade(&followers);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            files: Arc::clone(&files),
            handed_over,
            followers,
            now: parts.now,
            has_room: parts.has_room,
            stop: Arc::clone(&stop),
            state: State::Writing,
        };
        let thread = std::thread::Builder::new().name("traces".to_owned());
        let thread = thread.spawn(move || writer.run());
        let thread = thread.map_err(FileError::io(&parts.dir))?;
        let traces = Traces {
            source: Source::Open(files),
            tracer: tracer.clone(),
            followers: Some(following),
        };
        Ok(Self {
            tracer,
            traces,
            stop,
            thread: Some(thread),
        })
    }

    /// What starts traces.
    #[must_use]
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// What reads traces.
    #[must_use]
    pub const fn traces(&self) -> &Traces {
        &self.traces
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.tracer.hurry();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Whether traces are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Writing,
    /// The disk has too little room.
    NoRoom,
    /// The disk failed.
    Failed,
}

struct Writer {
    files: Arc<Files>,
    handed_over: HandedOver,
    followers: Arc<Followers>,
    now: Now,
    has_room: HasRoom,
    stop: Arc<AtomicBool>,
    state: State,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Asked before the last traces are taken: none may come between.
            let is_last = self.stop.load(Relaxed);
            if !is_last {
                self.handed_over.wait(LOOK);
            }
            let records = self.handed_over.take();
            self.write(&records);
            self.followers.publish(records);
            if is_last {
                break;
            }
            self.handed_over.done();
        }
        if let Err(error) = self.files.close() {
            warn!(%error, "failed to close the traces");
        }
        self.handed_over.done();
    }

    /// Writes traces, and removes old ones. Without room on the disk none are written, and now and
    /// then a segment goes.
    fn write(&mut self, records: &[Record]) {
        let has_room = (self.has_room)();
        let (count, written) = match has_room {
            true => self.files.add(records),
            false => (0, Ok(())),
        };
        let (kept, dropped) = records.split_at(count.min(records.len()));
        self.handed_over.count(kept, true);
        self.handed_over.count(dropped, false);
        let expired = self.files.expire((self.now)(), has_room);
        let state = match written.and(expired) {
            Err(error) => {
                if self.state != State::Failed {
                    warn!(%error, "failed to write traces");
                }
                State::Failed
            }
            Ok(()) if has_room => State::Writing,
            Ok(()) => State::NoRoom,
        };
        let before = std::mem::replace(&mut self.state, state);
        match (before, state) {
            (State::NoRoom | State::Failed, State::Writing) => info!("traces are written again"),
            (State::Writing, State::NoRoom) => {
                warn!("the disk has little room, so no traces are written");
            }
            _ => {}
        }
    }
}

/// Reads traces: the search in their files, and those that end now. A clone is cheap.
#[derive(Clone, Debug)]
pub struct Traces {
    source: Source,
    tracer: Tracer,
    /// The writer has it, so that all subscriptions end with the writer.
    followers: Option<Weak<Followers>>,
}

#[derive(Clone, Debug)]
enum Source {
    /// The files that the recorder writes.
    Open(Arc<Files>),
    /// A folder, which is read for each look.
    Folder(PathBuf),
    /// There are none, for this reason.
    Off(Arc<str>),
}

/// Why traces can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// There are none, for this reason.
    #[error("{0}")]
    Off(Arc<str>),
    /// A file can't be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Traces {
    /// No traces, and the sentence that says why.
    #[must_use]
    pub fn off(why: &str) -> Self {
        Self {
            source: Source::Off(why.into()),
            tracer: Tracer::off(),
            followers: None,
        }
    }

    /// The traces in a folder, while no recorder writes there. Each look reads the folder, and
    /// changes nothing.
    #[must_use]
    pub fn in_folder(dir: &Path) -> Self {
        Self {
            source: Source::Folder(dir.to_owned()),
            tracer: Tracer::off(),
            followers: None,
        }
    }

    fn files(&self) -> Result<Arc<Files>, TracesError> {
        match &self.source {
            Source::Open(files) => Ok(Arc::clone(files)),
            Source::Folder(dir) => Ok(Arc::new(Files::read(dir)?)),
            Source::Off(why) => Err(TracesError::Off(Arc::clone(why))),
        }
    }

    /// Begins to look: what ended before the call is found. It waits until that is written, so it
    /// is not for an async task.
    ///
    /// # Errors
    /// If there are no traces, or the disk fails.
    pub fn look(&self) -> Result<Look, TracesError> {
        let files = self.files()?;
        self.tracer.settle();
        Ok(Look(files))
    }

    /// The bytes of the files that a recorder writes; 0 without one. It waits while traces are
    /// written, so it is not for an async task.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.source {
            Source::Open(files) => files.size(),
            Source::Folder(_) | Source::Off(_) => 0,
        }
    }

    /// The traces that are kept from now on, as they end. None: traces are off, so none will come.
    #[must_use]
    pub fn subscribe(&self, reader: TraceReader) -> Option<Subscription> {
        let followers = self.followers.as_ref()?.upgrade()?;
        Some(followers.subscribe(reader))
    }

    /// The events of all traces from now on, as they happen, also of those that will not be kept.
    /// None: traces are off, so none will come.
    #[must_use]
    pub fn listen(&self) -> Option<Listening> {
        self.followers.as_ref()?.upgrade()?;
        self.tracer.listen()
    }
}

/// A look at the traces that have ended, for one search or several.
#[derive(Clone, Debug)]
pub struct Look(Arc<Files>);

impl Look {
    /// Searches, newest first, until `is_over` says that it took long enough. It reads files, so it
    /// is not for an async task.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn search(
        &self,
        query: &Query<'_>,
        is_over: &mut dyn FnMut() -> bool,
    ) -> Result<Page, TracesError> {
        let mut page = Page::default();
        let reached = self.find(query, is_over, &mut |record| page.records.push(record))?;
        page.next = reached.next;
        Ok(page)
    }

    /// The same, and gives each trace to `found`, so that nobody has to hold all of them. Gives
    /// how far it came.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn find(
        &self,
        query: &Query<'_>,
        is_over: &mut dyn FnMut() -> bool,
        found: &mut dyn FnMut(Record),
    ) -> Result<Reached, TracesError> {
        Ok(self.0.search(query, is_over, found)?)
    }

    /// How far back the traces go: when the earliest started, in microseconds since 1970. None:
    /// there are none yet.
    #[must_use]
    pub fn earliest(&self) -> Option<i64> {
        self.0.earliest()
    }
}

#[cfg(test)]
mod tests;
