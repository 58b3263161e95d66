//! The handle through which everything else uses the store.
//!
//! Here are the verbs that concern several subjects. Each subject adds its own methods to
//! [`Store`], in its folder.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    Accept, Accepted, Claim, ClaimHooks, Claimed, ClaimedHooks, Moment, NewText, OpenError,
    Options, QueueId, Settle, SettleHook, StoreError, Text, TextId, TextWriter, Transaction,
    engine::{Changes, Engine, Engines, journal::JournalEngine, on_engine},
    subject::{Applied, Op, Operation, Question, Scan, audit::Slot, unit},
};

/// The store: all durable data. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    engine: Engines,
    /// The entry of the audit log that goes with the next change.
    slot: Option<Arc<Slot>>,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages to be sent, one per recipient, with the held ones.
    pub queued: u64,
    /// Held messages among these.
    pub held: u64,
    /// Messages among these that are being attempted.
    pub claimed: u64,
    /// Sent and failed messages in the history.
    pub retired: u64,
    /// Calls of webhooks that are to be made.
    pub hooks: u64,
    /// Calls of webhooks in the history.
    pub retired_hooks: u64,
    /// Messages in mailboxes.
    pub mails: u64,
    /// Entries of suppression lists.
    pub suppressions: u64,
    /// Hold rules.
    pub hold_rules: u64,
    /// Bytes of the segments of the journal that are in use; 0 in memory.
    /// [`Store::journal_size`] gives those of all its files.
    pub journal_bytes: u64,
    /// Bytes of texts that some record refers to, in the journal and in files of their own.
    pub text_bytes: u64,
    /// Bytes that the reports that came in count, and their sums: what `reports.max_size` limits.
    pub report_bytes: u64,
}

/// How much of the disk a store uses, in bytes. All are 0 in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// The file of the index. [`Counts`] has the texts, [`Store::journal_size`] the journal.
    pub index: u64,
    /// What is free.
    pub free: u64,
    /// The free bytes that are for the work under way: below this, new mail is refused.
    pub reserve: u64,
}

impl Store {
    /// Opens a data folder, or makes it, and goes on where the last process stopped. It does not
    /// matter how that process stopped. All claims end.
    ///
    /// # Errors
    /// Each says what is wrong with the folder and what to do.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let engine = JournalEngine::open(&options)?;
        Ok(Self {
            engine: Engines::Journal(Arc::new(engine)),
            slot: None,
        })
    }

    /// An empty store in memory, for tests. It is gone when the last handle is dropped.
    #[cfg(any(test, feature = "memory"))]
    #[must_use]
    pub fn memory() -> Self {
        Self {
            engine: Engines::Model(Arc::default()),
            slot: None,
        }
    }

    /// A store in memory refuses results from now on, as with a full disk, or takes them again.
    /// Gives how often it refused them.
    #[cfg(any(test, feature = "memory"))]
    #[must_use]
    pub fn refuse_results(&self, refuse: bool) -> watch::Receiver<u64> {
        match &self.engine {
            Engines::Journal(_) => watch::Sender::new(0).subscribe(),
            Engines::Model(model) => model.refuse_results(refuse),
        }
    }

    /// How many questions a store in memory was asked so far. Another store counts none.
    #[cfg(any(test, feature = "memory"))]
    #[must_use]
    pub fn asked(&self) -> u64 {
        match &self.engine {
            Engines::Journal(_) => 0,
            Engines::Model(model) => model.asked(),
        }
    }

    /// Stops in good order. The store carries out what was asked before; later calls fail with
    /// [`StoreError::Closed`].
    pub async fn close(self) {
        on_engine!(&self.engine, engine => engine.close().await);
    }

    /// Waits until the store takes nothing any more, and tells why: [`StoreError::Closed`] after
    /// [`close`](Self::close), else a failure that only a new start can mend.
    pub async fn stopped(&self) -> StoreError {
        on_engine!(&self.engine, engine => engine.stopped().await)
    }

    /// Begins a text. The [`Accept`] or [`Settle`] that brings the text stores it.
    #[must_use]
    pub fn text_writer(&self) -> TextWriter {
        on_engine!(&self.engine, engine => engine.text_writer())
    }

    /// The first bytes, `max` at most, of a text that is not stored yet.
    ///
    /// # Errors
    /// If the text can't be read.
    pub async fn beginning(&self, text: &NewText, max: u64) -> Result<Bytes, StoreError> {
        self.new_text(text).await?.read(0..max).await
    }

    /// Opens a text that is not stored yet. It can be read while `text` lives.
    ///
    /// # Errors
    /// If the text can't be opened.
    pub async fn new_text(&self, text: &NewText) -> Result<Text, StoreError> {
        match text {
            NewText::Inline(text) => Ok(Text::of_bytes(text.clone())),
            NewText::File(file) => {
                on_engine!(&self.engine, engine => engine.new_text(file).await)
            }
        }
    }

    /// Takes mail, messages to be sent, and events. When this returns, they are durable.
    ///
    /// # Errors
    /// [`StoreError::Full`] without room. After an error nothing was taken.
    pub async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        accept.check()?;
        if self.slot.is_some() {
            let (op, text) = unit::Op::accept(accept);
            return self.change_one(Op::Unit(op), text).await?.output();
        }
        on_engine!(&self.engine, engine => engine.accept(accept).await)
    }

    /// Takes messages that are due, so that nobody else gets them until they are settled or the
    /// claim ends. This does not wait for the disk: the next batch makes the attempts durable that
    /// begin with it.
    ///
    /// The cost follows what is claimed and what `except` skips, not what is queued.
    ///
    /// # Errors
    /// If the store is closed or can't be read.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        on_engine!(&self.engine, engine => engine.claim(claim).await)
    }

    /// Keeps the ENVIDs of transactions that are about to begin with their messages. When this
    /// returns, [`Reference::Transaction`](crate::Reference::Transaction) finds the messages. They
    /// go when the message and its history go.
    ///
    /// This does not wait for the disk, as [`claim`](Self::claim) does not. Whatever the store
    /// makes durable after this call, it makes durable together with the ENVIDs or after them. If
    /// the process dies before that, the ENVIDs are not known any more, and the messages are as if
    /// the transactions had not begun.
    ///
    /// # Errors
    /// If the store is closed or can't be read.
    pub async fn begin(&self, transactions: Vec<Transaction>) -> Result<(), StoreError> {
        on_engine!(&self.engine, engine => engine.begin(transactions).await)
    }

    /// Prolongs claims (message and fence) until a later time. False: the claim has ended already,
    /// and another may have the message.
    ///
    /// # Errors
    /// If the store is closed.
    pub async fn renew(
        &self,
        claims: Vec<(QueueId, u64)>,
        until: Moment,
    ) -> Result<Vec<bool>, StoreError> {
        on_engine!(&self.engine, engine => engine.renew(claims, until).await)
    }

    /// Records what became of claimed messages, with the mail and events that follow from it. Each
    /// settlement is one atomic change. When this returns they are durable. False: the claim was
    /// not the last one of that message, or the message is gone; nothing was changed then.
    ///
    /// A claim that ran out can still be settled while nobody else has the message.
    ///
    /// # Errors
    /// If the store is closed, or none of them could be made durable. The messages stay claimed
    /// then.
    pub async fn settle(&self, settles: Vec<Settle>) -> Result<Vec<bool>, StoreError> {
        settles.iter().try_for_each(Settle::check)?;
        if self.slot.is_some() {
            let settles = settles.into_iter().map(|settle| {
                let (op, text) = unit::Op::settle(settle);
                (Op::Unit(op), text)
            });
            let applied = self.change_all(settles.collect()).await?;
            return applied.into_iter().map(Applied::output).collect();
        }
        on_engine!(&self.engine, engine => engine.settle(settles).await)
    }

    /// Takes calls of webhooks that are due. A claim holds until it is settled or the process ends.
    ///
    /// # Errors
    /// If the store is closed or can't be read.
    pub async fn claim_hooks(&self, claim: ClaimHooks) -> Result<ClaimedHooks, StoreError> {
        on_engine!(&self.engine, engine => engine.claim_hooks(claim).await)
    }

    /// Records what became of claimed calls, as [`settle`](Self::settle) does for messages.
    ///
    /// # Errors
    /// As for `settle`.
    pub async fn settle_hooks(&self, settles: Vec<SettleHook>) -> Result<Vec<bool>, StoreError> {
        on_engine!(&self.engine, engine => engine.settle_hooks(settles).await)
    }

    /// Changes when a message may have become due, and when deliveries were stopped or started.
    #[must_use]
    pub fn queue_changed(&self) -> watch::Receiver<u64> {
        self.changes().queue.subscribe()
    }

    /// From now on the store keeps which lanes of the queue changed, for
    /// [`changed_lanes`](Self::changed_lanes).
    pub fn follow_lanes(&self) {
        on_engine!(&self.engine, engine => engine.follow_lanes());
    }

    /// The lanes whose heads changed since the last call, each with its head as it is now. After a
    /// claim is answered, its lanes are among them. [`lanes`](Self::lanes) reads all of them.
    #[must_use]
    pub fn changed_lanes(&self) -> Vec<crate::LaneHead> {
        self.changes().lanes.take()
    }

    /// Changes when a call of a webhook may have become due earlier than the last claim told.
    #[must_use]
    pub fn hooks_changed(&self) -> watch::Receiver<u64> {
        self.changes().hooks.subscribe()
    }

    /// How much there is of everything. This costs nothing.
    pub async fn counts(&self) -> Counts {
        on_engine!(&self.engine, engine => engine.counts().await)
    }

    /// Records that could not be read since the start, and were set aside. The log names each.
    pub async fn set_aside(&self) -> u64 {
        on_engine!(&self.engine, engine => engine.set_aside().await)
    }

    /// How much of the disk is used and free.
    ///
    /// # Errors
    /// The errors of the system.
    pub async fn disk_use(&self) -> io::Result<DiskUse> {
        on_engine!(&self.engine, engine => engine.disk_use().await)
    }

    /// The bytes of all files of the journal: also of those that are made in advance, and of the
    /// reserve. It opens each file. 0 in memory.
    ///
    /// # Errors
    /// The errors of the system.
    pub async fn journal_size(&self) -> io::Result<u64> {
        on_engine!(&self.engine, engine => engine.journal_size().await)
    }
}

/// The base of the methods of the subjects.
impl Store {
    pub(crate) const fn engine(&self) -> &Engines {
        &self.engine
    }

    pub(crate) fn changes(&self) -> &Changes {
        on_engine!(&self.engine, engine => engine.changes())
    }

    pub(crate) async fn open_text(&self, id: TextId) -> Result<Text, StoreError> {
        on_engine!(&self.engine, engine => engine.text(id).await)
    }

    /// Answers a question at once.
    pub(crate) async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, StoreError> {
        on_engine!(&self.engine, engine => engine.ask(question).await)
    }

    /// Answers a question that may look at many records.
    pub(crate) async fn scan<S: Scan>(&self, scan: S) -> Result<S::Answer, StoreError> {
        on_engine!(&self.engine, engine => engine.scan(scan).await)
    }

    /// The same store through a handle with this slot.
    pub(crate) fn with_slot(&self, slot: Slot) -> Self {
        Self {
            slot: Some(Arc::new(slot)),
            ..self.clone()
        }
    }

    /// The slot of this handle.
    pub(crate) fn slot(&self) -> Option<&Slot> {
        self.slot.as_deref()
    }

    /// Carries out an operation and gives its result.
    pub(crate) async fn change_by<O: Operation>(
        &self,
        operation: O,
    ) -> Result<O::Output, StoreError> {
        self.change_one(operation.into_op(), None).await?.output()
    }

    /// Carries out an operation that may bring a text.
    pub(crate) async fn change_one(
        &self,
        op: Op,
        text: Option<NewText>,
    ) -> Result<Applied, StoreError> {
        let applied = self.change_all(vec![(op, text)]).await?;
        applied.into_iter().next().ok_or(StoreError::Closed)
    }

    /// Carries out operations in order.
    pub(crate) async fn change_many(&self, ops: Vec<Op>) -> Result<Vec<Applied>, StoreError> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        self.change_all(ops.into_iter().map(|op| (op, None)).collect())
            .await
    }

    /// Carries out operations in order, and adds up how many records they changed.
    pub(crate) async fn count(&self, ops: Vec<Op>) -> Result<u64, StoreError> {
        let applied = self.change_many(ops).await?;
        applied.into_iter().map(Applied::output::<u64>).sum()
    }

    async fn change_all(
        &self,
        mut ops: Vec<(Op, Option<NewText>)>,
    ) -> Result<Vec<Applied>, StoreError> {
        let slot = self.slot.as_ref();
        let carried = slot.and_then(|slot| Some((slot, slot.load(&mut ops)?)));
        let applied = on_engine!(&self.engine, engine => engine.change(ops).await);
        if let Some((slot, entry)) = carried {
            slot.unload(entry, &applied);
        }
        applied
    }
}

impl Store {
    /// Brings the index up to date now. Then segments of the journal that no text and no replay
    /// needs are given back.
    pub async fn checkpoint(&self) {
        match &self.engine {
            Engines::Journal(journal) => journal.checkpoint().await,
            #[cfg(any(test, feature = "memory"))]
            Engines::Model(_) => {}
        }
    }
}

#[cfg(test)]
impl Store {
    /// On another disk.
    pub(crate) fn open_on(
        disk: Arc<dyn crate::disk::Disk>,
        options: &Options,
        mode: crate::engine::journal::Mode,
    ) -> Result<Self, OpenError> {
        let engine = JournalEngine::open_on(disk, options, mode)?;
        Ok(Self {
            engine: Engines::Journal(Arc::new(engine)),
            slot: None,
        })
    }

    /// Freezes what changed, and holds the checkpoint back that writes it.
    pub(crate) async fn freeze(&self) {
        if let Engines::Journal(journal) = &self.engine {
            journal.freeze().await;
        }
    }

    /// Holds no checkpoint back.
    pub(crate) fn thaw(&self) {
        if let Engines::Journal(journal) = &self.engine {
            journal.thaw();
        }
    }

    /// Waits until the threads of a stepped engine do nothing.
    pub(crate) async fn rest(&self) {
        if let Engines::Journal(journal) = &self.engine {
            journal.rest().await;
        }
    }

    /// The faults that an inspection would find in the state.
    pub(crate) fn faults(&self) -> Result<Vec<String>, StoreError> {
        match &self.engine {
            Engines::Journal(journal) => journal.faults(),
            Engines::Model(_) => Ok(Vec::new()),
        }
    }

    /// Makes the thread panic that changes the state.
    pub(crate) fn panic(&self) {
        if let Engines::Journal(journal) = &self.engine {
            journal.panic();
        }
    }

    /// Ends all claims of a model.
    pub(crate) fn crash(&self) {
        if let Engines::Model(model) = &self.engine {
            model.crash();
        }
    }

    /// The last number that a text got. What was staged and went leaves no other trace.
    pub(crate) fn last_text(&self) -> u64 {
        on_engine!(&self.engine, engine => engine.last_text())
    }

    /// A copy of a model.
    pub(crate) fn fork(&self) -> Self {
        match &self.engine {
            Engines::Model(model) => Self {
                engine: Engines::Model(Arc::new(model.fork())),
                slot: None,
            },
            Engines::Journal(_) => self.clone(),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
