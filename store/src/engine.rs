//! The engine trait: the face between [`Store`](crate::Store) and the place where the data is.
//!
//! There are two engines. [`journal`] keeps everything on disk. `model` keeps everything in memory,
//! and is for tests: it exists with the feature `memory`. A further engine is a type that
//! implements [`Engine`], and one variant of [`Engines`].
//!
//! The face has verbs, not keys and values. High-rate verbs have a method each. All other changes
//! go through [`Engine::change`], and all reads through [`Engine::ask`] and [`Engine::scan`]: the
//! subjects say what these mean.

pub(crate) mod journal;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    Accept, Accepted, Claim, ClaimHooks, Claimed, ClaimedHooks, Counts, DiskUse, Lane, LaneHead,
    Moment, NewText, QueueId, Settle, SettleHook, StoreError, Text, TextFile, TextId, TextWriter,
    Time, Transaction,
    subject::{Applied, Op, Question, Scan},
    table::key::Name,
};

/// The verbs of an engine. Each call is one atomic unit. Its answer comes when the change is
/// durable.
///
/// A claim is a lease with a fence. It ends when it is settled, when its time is over, or when the
/// process ends.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Takes mail, messages to be sent, and events.
    fn accept(&self, accept: Accept) -> impl Future<Output = Result<Accepted, StoreError>> + Send;
    /// Claims messages that are due.
    fn claim(&self, claim: Claim) -> impl Future<Output = Result<Claimed, StoreError>> + Send;
    /// Keeps the ENVIDs of transactions that are about to begin.
    fn begin(
        &self,
        transactions: Vec<Transaction>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Prolongs claims. False: the claim has ended.
    fn renew(
        &self,
        claims: Vec<(QueueId, u64)>,
        until: Moment,
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;
    /// Records what became of claimed messages. False: the claim was not the last one of the
    /// message.
    fn settle(
        &self,
        settles: Vec<Settle>,
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;
    /// Claims calls of webhooks that are due.
    fn claim_hooks(
        &self,
        claim: ClaimHooks,
    ) -> impl Future<Output = Result<ClaimedHooks, StoreError>> + Send;
    /// Records what became of claimed calls of webhooks.
    fn settle_hooks(
        &self,
        settles: Vec<SettleHook>,
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Carries out operations in order, and says what each did.
    fn change(
        &self,
        ops: Vec<(Op, Option<NewText>)>,
    ) -> impl Future<Output = Result<Vec<Applied>, StoreError>> + Send;
    /// Answers a question that takes a few look-ups.
    fn ask<Q: Question>(
        &self,
        question: Q,
    ) -> impl Future<Output = Result<Q::Answer, StoreError>> + Send;
    /// Answers a question that may look at many records. It never holds up the task that asks.
    fn scan<S: Scan>(&self, scan: S) -> impl Future<Output = Result<S::Answer, StoreError>> + Send;

    /// Opens a stored text.
    fn text(&self, id: TextId) -> impl Future<Output = Result<Text, StoreError>> + Send;
    /// Begins a text.
    fn text_writer(&self) -> TextWriter;
    /// Opens a text that is in a file and not stored yet.
    fn new_text(&self, file: &TextFile) -> impl Future<Output = Result<Text, StoreError>> + Send;

    /// How much there is of everything.
    fn counts(&self) -> impl Future<Output = Counts> + Send;
    /// Records that were set aside since the start, since they could not be read.
    fn set_aside(&self) -> impl Future<Output = u64> + Send;
    /// How much of the disk is used and free.
    fn disk_use(&self) -> impl Future<Output = io::Result<DiskUse>> + Send;
    /// The bytes of all files of the journal. Opens each.
    fn journal_size(&self) -> impl Future<Output = io::Result<u64>> + Send;
    /// Tells of changes.
    fn changes(&self) -> &Changes;
    /// From now on the lanes whose heads change are kept.
    fn follow_lanes(&self) {
        self.changes().lanes.follow();
    }
    /// Stops in good order.
    fn close(&self) -> impl Future<Output = ()> + Send;
    /// Waits until the engine has stopped, and tells why.
    fn stopped(&self) -> impl Future<Output = StoreError> + Send;
}

/// The engines that a store may have.
#[derive(Clone)]
pub(crate) enum Engines {
    Journal(Arc<journal::JournalEngine>),
    #[cfg(any(test, feature = "memory"))]
    Model(Arc<model::Model>),
}

/// Calls the engine of a store. Each arm is a call of a known type, so that no future is boxed.
macro_rules! on_engine {
    ($engines:expr, $engine:ident => $call:expr) => {
        match $engines {
            $crate::engine::Engines::Journal($engine) => $call,
            #[cfg(any(test, feature = "memory"))]
            $crate::engine::Engines::Model($engine) => $call,
        }
    };
}
pub(crate) use on_engine;

/// Counts that go up when something changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// A message may have become due.
    pub(crate) queue: watch::Sender<u64>,
    /// A call of a webhook may have become due.
    pub(crate) hooks: watch::Sender<u64>,
    /// There are more events.
    pub(crate) events: watch::Sender<u64>,
    /// A key for the API is gone.
    pub(crate) keys: watch::Sender<u64>,
    /// A mail came that may be a report.
    pub(crate) reports: watch::Sender<u64>,
    /// An account wants something else of its mail.
    pub(crate) sieve: watch::Sender<u64>,
    /// The lanes of the queue whose heads changed.
    pub(crate) lanes: LaneChanges,
    /// The mailboxes of an account changed.
    pub(crate) mail: MailChanges,
}

/// Counts that go up when the mailboxes of an account changed. An account has one as long as
/// somebody follows it.
#[derive(Debug, Default)]
pub(crate) struct MailChanges(Mutex<HashMap<Name, watch::Sender<u64>>>);

impl MailChanges {
    fn counts(&self) -> MutexGuard<'_, HashMap<Name, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows an account.
    pub(crate) fn follow(&self, account: &str) -> watch::Receiver<u64> {
        let mut counts = self.counts();
        match counts.get(account) {
            Some(count) => count.subscribe(),
            None => {
                // Accounts that nobody follows any more make room for others.
                if counts.len() == counts.capacity() {
                    counts.retain(|_, count| !count.is_closed());
                }
                let count = counts.entry(account.into()).or_default();
                count.subscribe()
            }
        }
    }

    /// Tells those who follow these accounts.
    pub(crate) fn tell(&self, accounts: &BTreeSet<Name>) {
        if accounts.is_empty() {
            return;
        }
        let counts = self.counts();
        for account in accounts {
            if let Some(count) = counts.get(account) {
                count.send_modify(|count| *count += 1);
            }
        }
    }

    /// Tells all.
    #[cfg(any(test, feature = "memory"))]
    pub(crate) fn tell_all(&self) {
        for count in self.counts().values() {
            count.send_modify(|count| *count += 1);
        }
    }
}

/// The lanes whose heads changed, until somebody takes them. Each lane is in it once, with its head
/// as it is now: so there is a bound.
#[derive(Debug, Default)]
pub(crate) struct LaneChanges(Mutex<Option<HashMap<Name, Option<Time>>>>);

impl LaneChanges {
    fn changes(&self) -> MutexGuard<'_, Option<HashMap<Name, Option<Time>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes are kept from now on.
    pub(crate) fn follow(&self) {
        self.changes().get_or_insert_default();
    }

    /// Whether somebody takes changes.
    #[cfg(any(test, feature = "memory"))]
    pub(crate) fn is_followed(&self) -> bool {
        self.changes().is_some()
    }

    pub(crate) fn tell(&self, heads: HashMap<Name, Option<Time>>) {
        if heads.is_empty() {
            return;
        }
        if let Some(changes) = &mut *self.changes() {
            match changes.is_empty() {
                true => *changes = heads,
                false => changes.extend(heads),
            }
        }
    }

    pub(crate) fn take(&self) -> Vec<LaneHead> {
        let changes = self.changes().as_mut().map(std::mem::take);
        let changes = changes.unwrap_or_default().into_iter();
        changes.map(|(lane, head)| (Lane::of(lane), head)).collect()
    }
}
