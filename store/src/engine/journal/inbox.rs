//! The requests that wait for the writer.

use std::{
    collections::HashSet,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::snapshot;
use crate::{
    Claim, ClaimHooks, Claimed, ClaimedHooks, Moment, QueueId, StoreError, TextFile, Transaction,
    error::Fault,
    subject::{Applied, Op},
};

/// A request to the writer.
pub(super) enum Request {
    Ops(Ops),
    Claim(Claim, oneshot::Sender<Result<Claimed, StoreError>>),
    ClaimHooks(
        ClaimHooks,
        oneshot::Sender<Result<ClaimedHooks, StoreError>>,
    ),
    Renew(
        Vec<(QueueId, u64)>,
        Moment,
        oneshot::Sender<Result<Vec<bool>, StoreError>>,
    ),
    Begin(Vec<Transaction>, oneshot::Sender<Result<(), StoreError>>),
    /// The checkpoint that was begun has ended.
    Checkpointed(Result<(), Fault>),
    /// Fix a position of the journal with a checkpoint, and keep its files.
    Snapshot(snapshot::Reply),
    /// The snapshot has only these files of texts.
    NeededFiles(HashSet<u64>),
    /// The files of the snapshot are needed no more.
    EndSnapshot,
    /// Remove the file of a text: no record refers to it.
    RemoveFile(u64),
    /// The index can't be read any more.
    Broken,
    /// Make a checkpoint now, and tell when it is done.
    Checkpoint(oneshot::Sender<()>),
    /// Freeze what changed and tell so, but hold the checkpoint back.
    #[cfg(test)]
    Freeze(oneshot::Sender<()>),
    /// Tell when all that was asked for before is done.
    #[cfg(test)]
    Rest(oneshot::Sender<()>),
    /// Hold no checkpoint back.
    #[cfg(test)]
    Thaw,
    /// Panic while the state is being changed.
    #[cfg(test)]
    Panic,
    /// Make a last checkpoint and end.
    Close(oneshot::Sender<()>),
}

/// Ops that are answered together. All are of the same kind.
pub(super) struct Ops {
    pub(super) ops: Vec<Prepared>,
    /// Holds later callers back when too much waits.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// None: nobody waits for an answer.
    pub(super) reply: Option<oneshot::Sender<Result<Vec<Applied>, StoreError>>>,
}

/// An op, as it goes to the journal.
pub(super) struct Prepared {
    pub(super) op: Op,
    pub(super) encoded: Vec<u8>,
    /// Empty for none.
    pub(super) text: Bytes,
    pub(super) file: Option<TextFile>,
}

/// The writer's queue. The permits of the callers bound it.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    ended: bool,
    stop: bool,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request. An error says that the writer has ended.
    pub(super) fn push(&self, request: Request) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.ended {
            return Err(StoreError::Closed);
        }
        state.requests.push(request);
        let first = state.requests.len() == 1;
        drop(state);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Asks the writer to end at once.
    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.filled.notify_one();
    }

    /// Moves all requests into `into`, which is empty. Waits for the first for this long (None: for
    /// ever). False: the writer has to stop.
    pub(super) fn take(&self, into: &mut Vec<Request>, timeout: Option<Duration>) -> bool {
        let idle = |state: &mut State| state.requests.is_empty() && !state.stop;
        let mut state = match timeout {
            None => self
                .filled
                .wait_while(self.state(), idle)
                .unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.filled
                    .wait_timeout_while(self.state(), timeout, idle)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        mem::swap(&mut state.requests, into);
        !state.stop
    }

    /// Refuses all requests from now on. The waiting requests are dropped, so that their callers
    /// are told.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let requests = mem::take(&mut state.requests);
        drop(state);
        drop(requests);
    }
}
