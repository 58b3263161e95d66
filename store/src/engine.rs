//! The engine: the journal is the truth, redb is the index over it, and what is newer than the index is in memory.
//!
//! - [`op`]: a change of state as a value. [`apply`]: what it does. [`state`], [`table`], [`due`], [`texts`]: to what.
//! - [`writer`]: the one thread that changes anything. [`checkpoint`]: the one that brings the index up to date.
//! - Readers take the state's lock shared, for the time of a look-up or of a part of a page.
//!
//! Invariants: what is in the index is in the journal before the position that the index says; applying the journal from
//! there on gives the state; only the writer takes the state's lock to change records.

mod apply;
mod checkpoint;
mod due;
mod inbox;
mod index;
mod key;
mod lease;
mod op;
mod open;
mod read;
mod state;
mod table;
mod texts;
mod value;
mod writer;

#[cfg(test)]
pub(crate) use open::Mode;

use std::{
    mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    Accept, Accepted, ApiKeyId, Change, Claim, ClaimHooks, Claimed, ClaimedHooks, Counts,
    Credential, HoldFilter, HoldRuleId, HookAttempt, HookId, INLINE_TEXT_MAX, MailChange, MailId,
    NewApiKey, NewMessage, NewSuppression, NewText, NextAttempt, Once, QueueId, Settle, SettleHook,
    StoreError, TextId, TextWriter, Time, journal::JournalReader, textfile::TextFiles,
};
use inbox::{Inbox, Ops, Prepared, Request};
use index::IndexRoom;
use op::{Applied, Op, OpText};
use state::State;

/// KiB of requests that may wait for the writer; those who come then wait before they are let in.
const WAITING_KIB: u32 = 64 << 10;
/// Bytes of settlements that go to the writer as one request.
const REQUEST_BYTES: usize = 1 << 20;
/// Messages that are changed by one op.
const CHANGE_MAX: usize = 200;

/// The engine behind a [`crate::Store`] that is on disk. Dropped, it stops as it is, which loses nothing.
pub(crate) struct Durable {
    shared: Arc<Shared>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
}

/// What the engine's threads and its callers share.
struct Shared {
    state: RwLock<State>,
    inbox: Inbox,
    waiting: Arc<Semaphore>,
    reader: JournalReader,
    files: TextFiles,
    room: Arc<IndexRoom>,
    queue_changed: watch::Sender<u64>,
    hooks_changed: watch::Sender<u64>,
    events_changed: watch::Sender<u64>,
    journal_bytes: AtomicU64,
    /// Why it stopped, if it did by itself.
    failed: OnceLock<StoreError>,
}

/// What made the engine stop: its own data can't be read, or the index not be written.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Index(#[from] redb::Error),
    #[error("the index has a {what} in its table {table} that makes no sense")]
    Record {
        table: &'static str,
        what: &'static str,
    },
    #[error("the thread of the index ended by a panic")]
    Panicked,
}

impl From<redb::StorageError> for Fault {
    fn from(error: redb::StorageError) -> Self {
        Self::Index(error.into())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Index(redb::Error::Io(error)) => Self::Read(error.into()),
            fault => Self::Corrupt(fault.to_string()),
        }
    }
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: StoreError) {
        // Only the first is the reason.
        let _ = self.failed.set(error);
        self.queue_changed.send_modify(|count| *count += 1);
    }

    /// The state, to be read. After a fault it may be half changed, and after the end it has no index under it.
    fn readable(&self) -> Result<RwLockReadGuard<'_, State>, StoreError> {
        let state = self.state();
        self.failed.get().cloned().map_or(Ok(state), Err)
    }

    /// What to say when an answer does not come.
    fn gone(&self) -> StoreError {
        self.failed.get().cloned().unwrap_or(StoreError::Closed)
    }
}

impl Durable {
    /// Ends in good order.
    pub(crate) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.shared.inbox.push(Request::Close(reply)).is_ok() {
            // An error: it ended otherwise.
            let _ = done.await;
        }
    }

    pub(crate) fn text_writer(&self) -> TextWriter {
        TextWriter::on_disk(self.shared.files.clone())
    }

    pub(crate) async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        let (op, text) = Op::accept(accept);
        match self.submit_one(op, text).await? {
            Applied::Accepted(accepted) => Ok(accepted),
            other => Err(refused(other)),
        }
    }

    pub(crate) async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.ask(|reply| Request::Claim(claim, reply)).await
    }

    pub(crate) async fn claim_hooks(&self, claim: ClaimHooks) -> Result<ClaimedHooks, StoreError> {
        self.ask(|reply| Request::ClaimHooks(claim, reply)).await
    }

    pub(crate) async fn renew(
        &self,
        claims: Vec<(QueueId, u64)>,
        until: Time,
    ) -> Result<Vec<bool>, StoreError> {
        self.ask(|reply| Request::Renew(claims, until, reply)).await
    }

    pub(crate) async fn settle(&self, settles: Vec<Settle>) -> Result<Vec<bool>, StoreError> {
        self.submit(settles.into_iter().map(Op::settle).collect())
            .await?
            .into_iter()
            .map(settled)
            .collect()
    }

    pub(crate) async fn settle_hooks(
        &self,
        settles: Vec<SettleHook>,
    ) -> Result<Vec<bool>, StoreError> {
        let ops = settles
            .into_iter()
            .map(|settle| (Op::SettleHook(settle), None))
            .collect();
        self.submit(ops).await?.into_iter().map(settled).collect()
    }

    pub(crate) async fn set_credential(
        &self,
        account: &str,
        credential: Option<Credential>,
    ) -> Result<(), StoreError> {
        match self
            .submit_one(
                Op::SetCredential {
                    account: account.to_owned(),
                    credential,
                },
                None,
            )
            .await?
        {
            Applied::Done => Ok(()),
            other => Err(refused(other)),
        }
    }

    pub(crate) async fn expire(&self, now: Time, max: u64) -> Result<u64, StoreError> {
        self.count(Op::Expire { now, max }).await
    }

    pub(crate) async fn change(
        &self,
        ids: Vec<QueueId>,
        change: &Change,
    ) -> Result<u64, StoreError> {
        let ops = ids.chunks(CHANGE_MAX).map(|ids| Op::Change {
            ids: ids.to_vec(),
            change: change.clone(),
        });
        self.count_all(ops).await
    }

    pub(crate) async fn suppress(&self, suppression: NewSuppression) -> Result<bool, StoreError> {
        Ok(self.count(Op::Suppress(suppression)).await? > 0)
    }

    pub(crate) async fn unsuppress(&self, account: &str, base: &str) -> Result<bool, StoreError> {
        let op = Op::Unsuppress {
            account: account.to_owned(),
            base: base.to_owned(),
        };
        Ok(self.count(op).await? > 0)
    }

    pub(crate) async fn change_mail(
        &self,
        account: &str,
        id: MailId,
        change: MailChange,
    ) -> Result<bool, StoreError> {
        let op = Op::ChangeMail {
            account: account.to_owned(),
            id,
            change,
        };
        Ok(self.count(op).await? > 0)
    }

    pub(crate) async fn remove_mail(&self, account: &str, id: MailId) -> Result<bool, StoreError> {
        let account = account.to_owned();
        let op = Op::RemoveMail { account, id };
        Ok(self.count(op).await? > 0)
    }

    pub(crate) async fn schedule_hooks(
        &self,
        ids: Vec<HookId>,
        next: NextAttempt,
    ) -> Result<u64, StoreError> {
        let ops = ids.chunks(CHANGE_MAX).map(|ids| Op::ScheduleHooks {
            ids: ids.to_vec(),
            next,
        });
        self.count_all(ops).await
    }

    pub(crate) async fn end_hooks(
        &self,
        ends: Vec<(HookId, Option<Time>)>,
        result: &HookAttempt,
    ) -> Result<u64, StoreError> {
        let ops = ends.chunks(CHANGE_MAX).map(|ends| Op::EndHooks {
            ends: ends.to_vec(),
            result: result.clone(),
        });
        self.count_all(ops).await
    }

    pub(crate) async fn stage(&self, text: NewText) -> Result<TextId, StoreError> {
        let op = Op::Stage {
            text: OpText::of(&text),
        };
        numbered(self.submit_one(op, Some(text)).await?).map(TextId)
    }

    pub(crate) async fn unstage(&self, ids: Vec<TextId>) -> Result<(), StoreError> {
        let ops = ids.chunks(CHANGE_MAX).map(|ids| {
            let ids = ids.to_vec();
            (Op::Unstage { ids }, None)
        });
        self.submit(ops.collect()).await.map(drop)
    }

    pub(crate) async fn accept_all(
        &self,
        messages: Vec<NewMessage>,
        once: Option<Once>,
    ) -> Result<Vec<QueueId>, StoreError> {
        let once = once.map(Box::new);
        match self
            .submit_one(Op::AcceptAll { messages, once }, None)
            .await?
        {
            Applied::Accepted(accepted) => Ok(accepted.queue),
            other => Err(refused(other)),
        }
    }

    pub(crate) async fn add_api_key(&self, key: NewApiKey) -> Result<ApiKeyId, StoreError> {
        let applied = self.submit_one(Op::AddApiKey(key), None).await?;
        numbered(applied).map(ApiKeyId)
    }

    pub(crate) async fn remove_api_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        Ok(self.count(Op::RemoveApiKey { id }).await? > 0)
    }

    pub(crate) fn was_mail(&self, id: MailId) -> bool {
        id.0 > 0 && id.0 <= self.shared.state().counters.last_mail
    }

    pub(crate) async fn add_hold_rule(
        &self,
        filter: HoldFilter,
        created: Time,
    ) -> Result<HoldRuleId, StoreError> {
        let op = Op::AddHoldRule { filter, created };
        numbered(self.submit_one(op, None).await?).map(HoldRuleId)
    }

    pub(crate) async fn remove_hold_rule(&self, id: HoldRuleId) -> Result<bool, StoreError> {
        Ok(self.count(Op::RemoveHoldRule { id }).await? > 0)
    }

    /// The last number that a text got: what was staged and went leaves no other trace.
    #[cfg(test)]
    pub(crate) fn last_text(&self) -> u64 {
        self.shared.state().counters.last_text
    }

    /// Brings the index up to date.
    #[cfg(test)]
    pub(crate) async fn checkpoint(&self) {
        let (reply, done) = oneshot::channel();
        if self.shared.inbox.push(Request::Checkpoint(reply)).is_ok() {
            let _ = done.await;
        }
    }

    pub(crate) fn queue_changed(&self) -> watch::Receiver<u64> {
        self.shared.queue_changed.subscribe()
    }

    /// Waits until it has stopped, and tells why.
    pub(crate) async fn stopped(&self) -> StoreError {
        let mut changed = self.shared.queue_changed.subscribe();
        loop {
            if let Some(error) = self.shared.failed.get() {
                return error.clone();
            }
            if changed.changed().await.is_err() {
                return StoreError::Closed;
            }
        }
    }

    pub(crate) fn hooks_changed(&self) -> watch::Receiver<u64> {
        self.shared.hooks_changed.subscribe()
    }

    pub(crate) fn events_changed(&self) -> watch::Receiver<u64> {
        self.shared.events_changed.subscribe()
    }

    pub(crate) fn counts(&self) -> Counts {
        let counters = self.shared.state().counters;
        Counts {
            queued: counters.queued,
            held: counters.held,
            claimed: counters.claimed,
            retired: counters.retired,
            hooks: counters.hooks,
            retired_hooks: counters.retired_hooks,
            mails: counters.mails,
            suppressions: counters.suppressions,
            hold_rules: counters.hold_rules,
            journal_bytes: self.shared.journal_bytes.load(Ordering::Relaxed),
            text_bytes: counters.text_bytes,
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.shared
            .inbox
            .push(request(reply))
            .map_err(|_| self.shared.gone())?;
        answer.await.map_err(|_| self.shared.gone())?
    }

    /// Has an op carried out that tells how many it changed.
    async fn count(&self, op: Op) -> Result<u64, StoreError> {
        counted(self.submit_one(op, None).await?)
    }

    /// The same with many of them.
    async fn count_all(&self, ops: impl Iterator<Item = Op>) -> Result<u64, StoreError> {
        let applied = self.submit(ops.map(|op| (op, None)).collect()).await?;
        applied.into_iter().map(counted).sum()
    }

    async fn submit_one(&self, op: Op, text: Option<NewText>) -> Result<Applied, StoreError> {
        let prepared = self.prepare(op, text).await?;
        let applied = self.send(vec![prepared]).await?;
        applied.into_iter().next().ok_or(StoreError::Closed)
    }

    /// Has ops carried out, in order.
    async fn submit(&self, ops: Vec<(Op, Option<NewText>)>) -> Result<Vec<Applied>, StoreError> {
        let mut applied = Vec::with_capacity(ops.len());
        let mut portion = Vec::with_capacity(ops.len());
        let mut bytes = 0;
        for (op, text) in ops {
            let prepared = self.prepare(op, text).await?;
            bytes += prepared.size();
            portion.push(prepared);
            if bytes >= REQUEST_BYTES {
                applied.extend(self.send(mem::take(&mut portion)).await?);
                bytes = 0;
            }
        }
        if !portion.is_empty() {
            applied.extend(self.send(portion).await?);
        }
        Ok(applied)
    }

    async fn prepare(&self, mut op: Op, text: Option<NewText>) -> Result<Prepared, StoreError> {
        let (text, file) = match text {
            None => (Bytes::new(), None),
            Some(NewText::File(file)) => (Bytes::new(), Some(file)),
            Some(NewText::Inline(text)) if text.len() <= INLINE_TEXT_MAX => (text, None),
            Some(NewText::Inline(text)) => {
                // Too large for a batch that others wait for.
                let mut writer = self.text_writer();
                writer.write(&text).await?;
                match writer.finish().await? {
                    NewText::Inline(text) => (text, None),
                    NewText::File(file) => {
                        op.set_file(file.place());
                        (Bytes::new(), Some(file))
                    }
                }
            }
        };
        Ok(Prepared {
            encoded: op.encode(),
            op,
            text,
            file,
        })
    }

    async fn send(&self, ops: Vec<Prepared>) -> Result<Vec<Applied>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let ops = Ops {
            ops,
            permit: None,
            reply: Some(reply),
        };
        let kib = u32::try_from(ops.size() >> 10)
            .unwrap_or(u32::MAX)
            .saturating_add(1)
            .min(WAITING_KIB);
        let permit = Arc::clone(&self.shared.waiting)
            .acquire_many_owned(kib)
            .await;
        let permit = Some(permit.map_err(|_| self.shared.gone())?);
        self.shared
            .inbox
            .push(Request::Ops(Ops { permit, ..ops }))
            .map_err(|_| self.shared.gone())?;
        answer.await.map_err(|_| self.shared.gone())?
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.shared.inbox.stop();
        self.shared.room.stop();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Err(_)) = writer.map(thread::JoinHandle::join) {
            tracing::error!("the thread of the store ended by a panic");
        }
    }
}

fn settled(applied: Applied) -> Result<bool, StoreError> {
    match applied {
        Applied::Settled(settled) => Ok(settled),
        other => Err(refused(other)),
    }
}

fn counted(applied: Applied) -> Result<u64, StoreError> {
    match applied {
        Applied::Counted(count) => Ok(count),
        other => Err(refused(other)),
    }
}

fn numbered(applied: Applied) -> Result<u64, StoreError> {
    match applied {
        Applied::Numbered(number) => Ok(number),
        other => Err(refused(other)),
    }
}

fn refused(applied: Applied) -> StoreError {
    match applied {
        Applied::Refused(error) => error,
        // Each op gives what belongs to it.
        _ => StoreError::Closed,
    }
}
