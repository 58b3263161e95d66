//! Segments for later use. A thread makes and zeroes them, or recycles them, before the journal
//! needs them.
//!
//! A file is `NAME.new` while it is filled with zeros. It is `NAME.spare` when it is complete and
//! has no generation. It is `GENERATION.seg` when it has a header and can be written to. Every step
//! is synced before the next, so that a `.seg` file always has its length and its header. A
//! released segment becomes a spare again or is deleted.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use super::{DIR, JournalOptions, frame::SegmentHeader, reader::SegmentFile, segment_name};
use crate::disk::{Disk, DiskFile, Open};

/// How long to wait before another try after a failure, mostly after a full disk.
const AGAIN: Duration = Duration::from_secs(1);
/// The bytes of zeros per write.
const ZEROS: usize = 1024 * 1024;

/// A segment that can be written to.
pub(super) struct Prepared {
    pub(super) header: SegmentHeader,
    pub(super) segment: Arc<SegmentFile>,
    pub(super) file: Arc<dyn DiskFile>,
}

/// A complete file without a generation.
pub(super) struct Spare {
    pub(super) name: String,
    /// The size in bytes.
    pub(super) size: u64,
}

/// Work on a file that is no longer needed.
enum Job {
    Recycle(Spare),
    Delete(String),
}

struct State {
    jobs: VecDeque<Job>,
    spares: Vec<Spare>,
    /// The segment for a full disk.
    reserve: Option<Spare>,
    /// The segment that the journal takes next.
    ready: Option<Prepared>,
    next_generation: u64,
    next_name: u64,
    /// Whether a step is being done.
    busy: bool,
    /// Why the last segment could not be made. Until it is cleared, no other one is made.
    failed: Option<io::Error>,
    /// A segment could not be made, and none was made since.
    scarce: bool,
    /// The thread ended by a panic.
    dead: bool,
    stop: bool,
}

impl State {
    fn fail(&mut self, error: io::Error) {
        self.failed = Some(error);
        self.scarce = true;
    }
}

struct Shared {
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    state: Mutex<State>,
    changed: Condvar,
}

/// Gives segments to the journal and takes them back.
pub(super) struct Spares {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// One step of the thread.
enum Step {
    Job(Job),
    /// Prepare a segment of this generation, from a spare if there is one.
    Prepare(u64, Option<Spare>),
    /// Make the reserve.
    Reserve,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the most urgent step out of the state.
    fn next(&self, state: &mut State) -> Option<Step> {
        if let Some(job) = state.jobs.pop_front() {
            return Some(Step::Job(job));
        }
        if state.ready.is_none() && (state.failed.is_none() || !state.spares.is_empty()) {
            let generation = state.next_generation;
            state.next_generation += 1;
            return Some(Step::Prepare(generation, state.spares.pop()));
        }
        if state.failed.is_none() && state.reserve.is_none() && self.options.reserve_size > 0 {
            return Some(Step::Reserve);
        }
        None
    }

    /// Does one step, without the lock, and stores its result.
    fn run(&self, step: Step) {
        match step {
            Step::Job(Job::Delete(name)) => {
                // If this fails, the next start finds the file and deletes it.
                let result = self.disk.remove(&name);
                if let Err(error) = result {
                    tracing::warn!(file = name, %error, "journal segment not deleted");
                }
            }
            Step::Job(Job::Recycle(spare)) => self.recycle(spare),
            Step::Prepare(generation, spare) => {
                let result = spare.map_or_else(|| self.make(self.options.segment_size), Ok);
                let result = result.and_then(|spare| self.prepare(generation, &spare));
                let mut state = self.lock();
                match result {
                    Ok(prepared) => {
                        state.ready = Some(prepared);
                        state.scarce = false;
                    }
                    Err(error) => state.fail(error),
                }
            }
            Step::Reserve => {
                let result = self.make(self.options.reserve_size);
                let mut state = self.lock();
                match result {
                    Ok(spare) => state.reserve = Some(spare),
                    Err(error) => state.fail(error),
                }
            }
        }
    }

    /// Turns a released segment into a spare. Deletes it if there are enough.
    fn recycle(&self, old: Spare) {
        let (number, is_reserve, wanted) = {
            let mut state = self.lock();
            state.next_name += 1;
            let is_reserve = old.size != self.options.segment_size;
            let wanted = if is_reserve {
                old.size == self.options.reserve_size && state.reserve.is_none()
            } else {
                state.spares.len() < self.options.keep
            };
            (state.next_name, is_reserve, wanted)
        };
        let name = format!("{DIR}/{number:016x}.spare");
        // The old name must be gone for good before the file gets another generation. A name that
        // does not agree with the header would look like damage.
        let result = if wanted {
            self.disk
                .rename(&old.name, &name)
                .and_then(|()| self.disk.sync_dir(DIR))
        } else {
            self.disk.remove(&old.name)
        };
        match result {
            Ok(()) if wanted => {
                let spare = Spare {
                    name,
                    size: old.size,
                };
                let mut state = self.lock();
                if is_reserve {
                    state.reserve = Some(spare);
                } else {
                    state.spares.push(spare);
                }
                // There is space for one segment again.
                state.failed = None;
            }
            Ok(()) => self.lock().failed = None,
            Err(error) => {
                tracing::warn!(file = old.name, %error, "journal segment not recycled");
            }
        }
    }

    /// Makes a file of zeros.
    fn make(&self, size: u64) -> io::Result<Spare> {
        let number = {
            let mut state = self.lock();
            state.next_name += 1;
            state.next_name
        };
        let new = format!("{DIR}/{number:016x}.new");
        let name = format!("{DIR}/{number:016x}.spare");
        let result = (|| {
            if self.disk.free()? < size.saturating_add(self.options.min_free) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = self.disk.open(&new, Open::Either)?;
            let zeros = vec![0; ZEROS];
            let mut at = 0;
            while at < size {
                let len = usize::try_from(size - at).unwrap_or(ZEROS).min(ZEROS);
                file.write_at(zeros.get(..len).unwrap_or_default(), at)?;
                at += len as u64;
            }
            file.sync_all()?;
            self.disk.rename(&new, &name)?;
            self.disk.sync_dir(DIR)
        })();
        if let Err(error) = result {
            // An incomplete file only takes space. If it cannot be removed now, the next start
            // removes it.
            let _ = self.disk.remove(&new);
            return Err(error);
        }
        Ok(Spare { name, size })
    }

    /// Gives a spare its generation.
    fn prepare(&self, generation: u64, spare: &Spare) -> io::Result<Prepared> {
        let header = SegmentHeader {
            generation,
            salt: self.options.salt(generation),
            size: spare.size,
        };
        let file = self.disk.open(&spare.name, Open::Existing)?;
        file.write_at(&header.encode(), 0)?;
        file.sync_all()?;
        self.disk.rename(&spare.name, &segment_name(generation))?;
        self.disk.sync_dir(DIR)?;
        let segment = Arc::new(SegmentFile {
            generation,
            size: spare.size,
        });
        Ok(Prepared {
            header,
            segment,
            file: Arc::from(file),
        })
    }

    fn work(&self) {
        let _unwinding = Unwinding(self);
        let mut state = self.lock();
        while !state.stop {
            if let Some(step) = self.next(&mut state) {
                state.busy = true;
                drop(state);
                self.run(step);
                state = self.lock();
                state.busy = false;
                self.changed.notify_all();
            } else if state.failed.is_some() {
                let (after, timeout) = self
                    .changed
                    .wait_timeout(state, AGAIN)
                    .unwrap_or_else(PoisonError::into_inner);
                state = after;
                if timeout.timed_out() {
                    state.failed = None;
                }
            } else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Tells of a panic of the thread, so that nobody waits for its segments for ever.
struct Unwinding<'a>(&'a Shared);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.lock();
            state.jobs.clear();
            state.spares.clear();
            state.busy = false;
            state.dead = true;
            state.fail(io::Error::other(
                "the thread that makes segments ended by a panic",
            ));
            drop(state);
            self.0.changed.notify_all();
        }
    }
}

/// The files for later use that are on disk when a journal is opened.
pub(super) struct Found {
    pub(super) spares: Vec<Spare>,
    /// Segments that were prepared but never written to, or only by a batch that was cut.
    pub(super) unused: Vec<Spare>,
    pub(super) next_generation: u64,
    pub(super) next_name: u64,
}

impl Spares {
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        found: Found,
    ) -> io::Result<Self> {
        let background = options.background;
        let mut jobs: VecDeque<Job> = found.unused.into_iter().map(Job::Recycle).collect();
        let mut spares = Vec::new();
        let mut reserve = None;
        for spare in found.spares {
            if spare.size == options.reserve_size && reserve.is_none() {
                reserve = Some(spare);
            } else if spare.size == options.segment_size && spares.len() < options.keep {
                spares.push(spare);
            } else {
                // The option was changed since, or there are too many.
                jobs.push_back(Job::Delete(spare.name));
            }
        }
        let shared = Arc::new(Shared {
            disk,
            options,
            state: Mutex::new(State {
                jobs,
                spares,
                reserve,
                ready: None,
                next_generation: found.next_generation,
                next_name: found.next_name,
                busy: false,
                failed: None,
                scarce: false,
                dead: false,
                stop: false,
            }),
            changed: Condvar::new(),
        });
        let thread = if background {
            let shared = Arc::clone(&shared);
            Some(
                std::thread::Builder::new()
                    .name("journal-spares".into())
                    .spawn(move || shared.work())?,
            )
        } else {
            None
        };
        let this = Self { shared, thread };
        this.work_here();
        Ok(this)
    }

    /// Wakes the thread. Without a thread, the caller does all steps here.
    fn work_here(&self) {
        if self.thread.is_some() {
            self.shared.changed.notify_all();
            return;
        }
        loop {
            let step = self.shared.next(&mut self.shared.lock());
            let Some(step) = step else { return };
            self.shared.run(step);
        }
    }

    /// Whether no segment is made any more.
    pub(super) fn is_dead(&self) -> bool {
        self.shared.lock().dead
    }

    /// The bytes of the reserve, while no other segment can be made. None: there is a segment to
    /// take, or one is being made.
    pub(super) fn reserve_left(&self) -> Option<u64> {
        let short = |state: &State| state.ready.is_none() && state.scarce;
        if !short(&self.shared.lock()) {
            return None;
        }
        if self.thread.is_none() {
            self.shared.lock().failed = None;
            self.work_here();
        }
        let state = self.shared.lock();
        let reserve = state.reserve.as_ref();
        short(&state).then(|| reserve.map_or(0, |spare| spare.size - super::frame::BLOCK))
    }

    /// A segment to write to, with space for at least `bytes` behind its first block. Waits for a
    /// segment that is being made.
    pub(super) fn take(&self, reserve: bool, bytes: u64) -> io::Result<Prepared> {
        if self.thread.is_none() {
            self.shared.lock().failed = None;
            self.work_here();
        }
        let mut state = self.shared.lock();
        loop {
            if let Some(prepared) = state.ready.take() {
                drop(state);
                self.work_here();
                return Ok(prepared);
            }
            // Segments must be used in the order of their generations. So the reserve is touched
            // only while nothing else is being made.
            let idle = !state.busy && state.jobs.is_empty() && state.spares.is_empty();
            if idle && let Some(error) = &state.failed {
                let error = io::Error::new(error.kind(), error.to_string());
                let fits = |spare: &Spare| super::frame::BLOCK + bytes <= spare.size;
                if !reserve || !state.reserve.as_ref().is_some_and(fits) {
                    return Err(error);
                }
                let Some(spare) = state.reserve.take() else {
                    return Err(error);
                };
                let generation = state.next_generation;
                state.next_generation += 1;
                state.busy = true;
                drop(state);
                let result = self.shared.prepare(generation, &spare);
                self.shared.lock().busy = false;
                self.shared.changed.notify_all();
                return result;
            }
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a segment back. `sound` says whether it may be used again.
    pub(super) fn give_back(&self, segment: Arc<SegmentFile>, sound: bool) {
        let name = segment_name(segment.generation);
        let size = segment.size;
        // A reader that still holds the file goes on reading it without a name. So the file must
        // not be written to again.
        let job = match Arc::try_unwrap(segment) {
            Ok(_) if sound => Job::Recycle(Spare { name, size }),
            _ => Job::Delete(name),
        };
        self.shared.lock().jobs.push_back(job);
        self.work_here();
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("panicked: thread of journal segments");
        }
        // The next start searches a segment that was not begun for entries, unless it has no
        // generation. If this fails, the next start only takes longer.
        let mut state = self.shared.lock();
        if let Some(prepared) = state.ready.take() {
            state.next_name += 1;
            let name = format!("{DIR}/{:016x}.spare", state.next_name);
            let _ = self
                .shared
                .disk
                .rename(&segment_name(prepared.segment.generation), &name);
        }
    }
}
