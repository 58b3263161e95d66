//! What happens while the writer goes on: changes go to the index, and files are removed.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use postrider_observe::{metrics::PanicIn, panics};

#[cfg(test)]
use super::gate::Gate;
use super::{
    Shared,
    inbox::Request,
    index::{Index, Meta},
    snapshot::{Held, Reply},
    sweep::sweep,
};
use crate::{error::Fault, table::Frozen, textfile::TextFiles};

/// A checkpoint that the writer need not wait for.
pub(super) struct Job {
    pub(super) tables: Vec<Box<dyn Frozen>>,
    pub(super) meta: Meta,
    /// The caller of a snapshot gets the index as of this checkpoint.
    pub(super) snapshot: Option<(Held, Reply)>,
}

/// Makes checkpoints, one after the other.
pub(super) struct Checkpointer {
    index: Index,
    shared: Arc<Shared>,
}

impl Checkpointer {
    pub(super) fn new(index: Index, shared: Arc<Shared>) -> Self {
        Self { index, shared }
    }

    fn run(&self, job: Job) {
        let result = self.checkpoint(job);
        // If the writer has ended, nobody needs to know.
        let _ = self.shared.inbox.push(Request::Checkpointed(result));
    }

    fn checkpoint(&self, job: Job) -> Result<(), Fault> {
        let Job {
            tables,
            meta,
            snapshot,
        } = job;
        self.index.commit(&tables, &meta).map_err(Fault::Commit)?;
        let transaction = self.index.read()?;
        let mut state = self.shared.state_mut();
        state.rebase(&transaction)?;
        self.shared.large.update(&state);
        drop(state);
        if let Some((held, reply)) = snapshot {
            // A caller that has gone lets go of the files.
            let _ = reply.send(Ok((held, transaction)));
        }
        Ok(())
    }
}

/// Does the jobs of the writer. A checkpoint may wait for room on the disk, so files are removed in
/// a thread of their own: that gives room. A third thread looks at the files of earlier processes,
/// so that a start does not wait for that.
pub(super) enum Helper {
    Threads(Thread<Job>, Thread<u64>, Thread<()>),
    /// Does each job at once, so that a test runs alike each time.
    #[cfg(test)]
    Inline(Checkpointer),
    /// Makes checkpoints in a thread, but no sooner than the test says. Removes files at once.
    #[cfg(test)]
    Gated(Thread<Job>, TextFiles, Arc<Gate>),
}

/// A thread that does jobs, one after the other.
pub(super) struct Thread<T> {
    jobs: mpsc::Sender<T>,
    handle: thread::JoinHandle<()>,
}

impl<T: Send + 'static> Thread<T> {
    fn start(
        name: &'static str,
        shared: &Arc<Shared>,
        work: impl Fn(T) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<T>();
        let shared = Arc::clone(shared);
        let handle = thread::Builder::new().name(name.into()).spawn(move || {
            let _panics = TellPanic::of(&shared, name);
            panics::within_thread(PanicIn::Store, || jobs.into_iter().for_each(work));
        })?;
        Ok(Self {
            jobs: sender,
            handle,
        })
    }

    /// The thread ends only when the sender is dropped, or by a panic, which it reports.
    fn give(&self, job: T) {
        drop(self.jobs.send(job));
    }

    /// Waits for the end of all jobs.
    fn end(self) {
        drop(self.jobs);
        // A panic was reported.
        let _ = self.handle.join();
    }
}

impl Helper {
    pub(super) fn threads(checkpointer: Checkpointer) -> io::Result<Self> {
        let shared = Arc::clone(&checkpointer.shared);
        let index = Thread::start("store-index", &shared, move |job| checkpointer.run(job))?;
        let files = shared.files.clone();
        let remover = Thread::start("store-files", &shared, move |file| remove(&files, file))?;
        let swept = Arc::clone(&shared);
        let sweeper = Thread::start("store-sweep", &shared, move |()| sweep(&swept))?;
        sweeper.give(());
        Ok(Self::Threads(index, remover, sweeper))
    }

    #[cfg(test)]
    pub(super) fn gated(checkpointer: Checkpointer) -> io::Result<Self> {
        let shared = Arc::clone(&checkpointer.shared);
        let gate = Arc::clone(&shared.gate);
        let passed = Arc::clone(&gate);
        let index = Thread::start("store-index", &shared, move |job| {
            let _passing = passed.pass();
            checkpointer.run(job);
        })?;
        Ok(Self::Gated(index, shared.files.clone(), gate))
    }

    /// Holds checkpoints back, or no longer.
    #[cfg(test)]
    pub(super) fn hold(&self, on: bool) {
        if let Self::Gated(_, _, gate) = self {
            gate.hold(on);
        }
    }

    /// Begins a checkpoint. The writer is told of its end.
    pub(super) fn checkpoint(&self, job: Job) {
        match self {
            Self::Threads(index, ..) => index.give(job),
            #[cfg(test)]
            Self::Inline(checkpointer) => checkpointer.run(job),
            #[cfg(test)]
            Self::Gated(index, _, gate) => {
                gate.expect();
                index.give(job);
            }
        }
    }

    /// Removes the file of a text that nothing refers to any more.
    pub(super) fn remove_file(&self, file: u64) {
        match self {
            Self::Threads(_, remover, _) => remover.give(file),
            #[cfg(test)]
            Self::Inline(checkpointer) => remove(&checkpointer.shared.files, file),
            #[cfg(test)]
            Self::Gated(_, files, _) => remove(files, file),
        }
    }

    /// Waits for the end of all jobs.
    pub(super) fn end(self) {
        match self {
            Self::Threads(index, remover, sweeper) => {
                index.end();
                remover.end();
                sweeper.end();
            }
            #[cfg(test)]
            Self::Inline(_) => {}
            #[cfg(test)]
            Self::Gated(index, _, gate) => {
                gate.hold(false);
                index.end();
            }
        }
    }
}

fn remove(files: &TextFiles, file: u64) {
    if let Err(error) = files.remove(file) {
        tracing::warn!(text = file, %error, "text not removed");
    }
}

/// Stops the store when a thread of it panics: nobody waits for that thread, and nobody is shown a
/// state that is half changed. [`Store::stopped`](crate::Store::stopped) tells of it.
pub(super) struct TellPanic {
    shared: Arc<Shared>,
    thread: &'static str,
}

impl TellPanic {
    pub(super) fn of(shared: &Arc<Shared>, thread: &'static str) -> Self {
        Self {
            shared: Arc::clone(shared),
            thread,
        }
    }
}

impl Drop for TellPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let fault = Fault::Panicked(self.thread);
            tracing::error!(error = %fault, "store stopped");
            self.shared.fail(Fault::Panicked(self.thread).into());
            let _ = self.shared.inbox.push(Request::Checkpointed(Err(fault)));
        }
    }
}
