//! The checkpoint: changes go to the index, while the writer goes on.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use super::{
    Shared,
    inbox::Request,
    index::{Index, Meta},
};
use crate::{error::Fault, table::Frozen};

/// A job that the writer need not wait for.
pub(super) enum Job {
    Checkpoint(Vec<Box<dyn Frozen>>, Meta),
    /// Remove the file of a text that nothing refers to any more.
    RemoveFile(u64),
}

/// Does jobs, one after the other.
pub(super) struct Checkpointer {
    index: Index,
    shared: Arc<Shared>,
}

impl Checkpointer {
    pub(super) fn new(index: Index, shared: Arc<Shared>) -> Self {
        Self { index, shared }
    }

    fn run(&self, job: Job) {
        match job {
            Job::Checkpoint(tables, meta) => {
                let result = self.checkpoint(&tables, &meta);
                // If the writer has ended, nobody needs to know.
                let _ = self.shared.inbox.push(Request::Checkpointed(result));
            }
            Job::RemoveFile(file) => {
                if let Err(error) = self.shared.files.remove(file) {
                    tracing::warn!(file, %error, "the file of a text that is needed no more could not be removed");
                }
            }
        }
    }

    fn checkpoint(&self, tables: &[Box<dyn Frozen>], meta: &Meta) -> Result<(), Fault> {
        self.index.commit(tables, meta)?;
        let transaction = self.index.read()?;
        self.shared.state_mut().rebase(&transaction)
    }
}

/// Does the jobs of the writer.
pub(super) enum Helper {
    Thread(mpsc::Sender<Job>, thread::JoinHandle<()>),
    /// Does each job at once, so that a test runs alike each time.
    #[cfg(test)]
    Inline(Checkpointer),
}

impl Helper {
    pub(super) fn thread(checkpointer: Checkpointer) -> std::io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let thread = thread::Builder::new()
            .name("store-index".into())
            .spawn(move || {
                let _tell = TellPanic(Arc::clone(&checkpointer.shared));
                for job in jobs {
                    checkpointer.run(job);
                }
            })?;
        Ok(Self::Thread(sender, thread))
    }

    pub(super) fn give(&self, job: Job) {
        match self {
            // The thread ends only when the sender is dropped, or by a panic, which it reports.
            Self::Thread(sender, _) => drop(sender.send(job)),
            #[cfg(test)]
            Self::Inline(checkpointer) => checkpointer.run(job),
        }
    }

    /// Waits for the end of all jobs.
    pub(super) fn end(self) {
        match self {
            Self::Thread(sender, thread) => {
                drop(sender);
                if thread.join().is_err() {
                    tracing::error!("the thread of the index ended by a panic");
                }
            }
            #[cfg(test)]
            Self::Inline(_) => {}
        }
    }
}

/// Tells the writer of a panic, so that it does not wait for a checkpoint that never ends.
struct TellPanic(Arc<Shared>);

impl Drop for TellPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self
                .0
                .inbox
                .push(Request::Checkpointed(Err(Fault::Panicked)));
        }
    }
}
