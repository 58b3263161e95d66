//! The checkpoint: what changed goes to the index, while the writer goes on.

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

/// Something that can be done behind the writer's back.
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
                // The writer may have ended meanwhile; then nobody needs to know.
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

/// Where the writer gives its jobs.
pub(super) enum Helper {
    Thread(mpsc::Sender<Job>, thread::JoinHandle<()>),
    /// For tests that must run alike each time: at once.
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
            // It ends only when the sender is dropped, or by a panic, which it told.
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

/// Tells the writer, so that it does not wait for a checkpoint that will never be.
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
