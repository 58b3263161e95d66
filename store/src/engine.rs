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

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    Accept, Accepted, Claim, ClaimHooks, Claimed, ClaimedHooks, Counts, Moment, NewText, QueueId,
    Settle, SettleHook, StoreError, Text, TextFile, TextId, TextWriter, Transaction,
    subject::{Applied, Op, Question, Scan},
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
    /// The first bytes of a text that is in a file and not stored yet.
    fn beginning(
        &self,
        file: &TextFile,
        max: u64,
    ) -> impl Future<Output = Result<Bytes, StoreError>> + Send;

    /// How much there is of everything.
    fn counts(&self) -> impl Future<Output = Counts> + Send;
    /// Tells of changes.
    fn changes(&self) -> &Changes;
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
}
