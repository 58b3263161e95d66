//! The journal engine: the journal is the truth, redb is the index over it, and what is newer than
//! the index is in memory.
//!
//! - [`writer`]: the one thread that changes anything. [`checkpoint`]: the thread that brings the
//!   index up to date.
//! - [`ahead`]: what callers read for the writer before it needs that. [`open`]: the start.
//!   [`read`]: how readers look at the state.
//! - [`snapshot`]: the files of one position, kept for a backup. [`inspect`]: a folder that nobody
//!   uses.
//!
//! Invariants:
//! - What is in the index is in the journal before the position that the index names.
//! - The operations of the journal from that position on, applied to the index, give the state.
//! - Only the writer takes the state's lock to change records. Readers share the lock for the time
//!   of a look-up, or of a part of a page.

mod ahead;
mod checkpoint;
#[cfg(test)]
mod gate;
mod inbox;
mod index;
mod inspect;
mod lease;
mod open;
pub(crate) mod read;
mod snapshot;
mod sweep;
mod writer;

pub(crate) use {
    index::{FILE as INDEX_FILE, FORMAT},
    inspect::{inspect_folder, snapshot_of_folder},
    snapshot::Lease,
};

#[cfg(test)]
pub(crate) use {index::OLDEST, open::Mode};

use std::{
    io, mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, oneshot},
    task,
};

use super::{Changes, Engine};
use crate::{
    Accept, Accepted, Claim, ClaimHooks, Claimed, ClaimedHooks, Counts, DiskUse, INLINE_TEXT_MAX,
    Moment, NewText, QueueId, Settle, SettleHook, StoreError, Text, TextFile, TextId, TextWriter,
    Transaction,
    disk::{Disk, Open},
    error::Fault,
    journal::{self, HeldText, JournalReader, ReadError},
    subject::{Applied, Op, Question, Scan, State, hooks, texts::Place, unit},
    textfile::{TextFilePlace, TextFiles},
};
use ahead::LargeTables;
use inbox::{Inbox, Ops, Prepared, Request};
use index::IndexRoom;
use read::Reader;
use writer::{Dead, WRITER};

/// KiB of requests that may wait for the writer. Later callers wait before their requests are let
/// in.
const WAITING_KIB: u32 = 64 << 10;
/// Bytes of settlements that go to the writer as one request.
const REQUEST_BYTES: usize = 1 << 20;

/// The engine of a store on disk. When it is dropped it stops as it is. That loses nothing.
pub(crate) struct JournalEngine {
    shared: Arc<Shared>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
}

/// The state that the threads of the engine and its callers share.
struct Shared {
    state: RwLock<State>,
    inbox: Inbox,
    waiting: Arc<Semaphore>,
    reader: JournalReader,
    files: TextFiles,
    disk: Arc<dyn Disk>,
    /// Bytes of the disk that stay free for the index.
    min_free: u64,
    room: Arc<IndexRoom>,
    changes: Changes,
    large: LargeTables,
    journal_bytes: AtomicU64,
    /// Scans run at once, so that a test runs alike each time.
    #[cfg(test)]
    inline: bool,
    /// Nothing happens by itself.
    #[cfg(test)]
    stepped: bool,
    #[cfg(test)]
    gate: Arc<gate::Gate>,
    /// Why it stopped, if it did by itself.
    failed: OnceLock<StoreError>,
}

/// A text that is about to be opened.
enum Held {
    Empty,
    Segment(HeldText),
    File(TextFilePlace),
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store stops for this reason, unless it has stopped already. If a call of the index's
    /// file failed, that is the reason of all that followed.
    fn fail(&self, error: StoreError) {
        let reason = self.room.broken().cloned().unwrap_or(error);
        let _ = self.failed.set(reason);
        self.changes.queue.send_modify(|count| *count += 1);
    }

    /// Stops the store if a reader found that the index can't be read any more.
    fn check_index<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if read.is_err()
            && let Some(error) = self.room.broken()
        {
            self.fail(error.clone());
            // If the writer has ended, it need not be told.
            let _ = self.inbox.push(Request::Broken);
        }
        read
    }

    /// The error of a call after the stop. [`Engine::stopped`] tells of a failed call of the disk.
    fn after_stop(reason: &StoreError) -> StoreError {
        match reason {
            StoreError::Write(_) | StoreError::Read(_) => StoreError::Closed,
            reason => reason.clone(),
        }
    }

    /// The state, for readers. After a fault or a panic it may be half changed, and after the end
    /// it has no index.
    fn readable(&self) -> Result<RwLockReadGuard<'_, State>, StoreError> {
        let Ok(state) = self.state.read() else {
            return Err(Fault::Panicked(WRITER).into());
        };
        match self.failed.get() {
            None => Ok(state),
            Some(reason) => Err(Self::after_stop(reason)),
        }
    }

    /// The place of a text. The lock of the state is not held while the text is opened, because
    /// that may wait for the disk. Once it is open, it can be read even when its last record goes.
    fn place_of(&self, id: TextId) -> Result<(Place, Held), StoreError> {
        let state = self.readable()?;
        let stored = state.texts.texts.get(&id)?;
        let place = stored.ok_or(StoreError::NoText(id))?.place;
        let held = match place {
            Place::Empty => Held::Empty,
            Place::Journal(place) => Held::Segment(self.reader.hold(place)?),
            Place::File(place) => Held::File(place),
        };
        Ok((place, held))
    }

    /// The result of a change. After a fault the state is half changed, so the store stops before
    /// the lock of the state is free again.
    fn sound<T>(&self, result: Result<T, Fault>) -> Result<T, Dead> {
        result.map_err(|fault| {
            let error = StoreError::from(fault);
            self.fail(error.clone());
            Dead(error)
        })
    }

    /// The error when an answer does not come.
    fn gone(&self) -> StoreError {
        let reason = self.failed.get();
        reason.map_or(StoreError::Closed, Self::after_stop)
    }
}

impl Engine for JournalEngine {
    async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        let (op, text) = unit::Op::accept(accept);
        let prepared = self.prepare(Op::Unit(op), text).await?;
        let applied = self.send(vec![prepared]).await?;
        let applied = applied.into_iter().next();
        applied.ok_or(StoreError::Closed)?.output()
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.look_ahead_of_claim(&claim).await;
        self.request(|reply| Request::Claim(claim, reply)).await
    }

    async fn begin(&self, transactions: Vec<Transaction>) -> Result<(), StoreError> {
        self.request(|reply| Request::Begin(transactions, reply))
            .await
    }

    async fn renew(
        &self,
        claims: Vec<(QueueId, u64)>,
        until: Moment,
    ) -> Result<Vec<bool>, StoreError> {
        self.request(|reply| Request::Renew(claims, until, reply))
            .await
    }

    async fn settle(&self, settles: Vec<Settle>) -> Result<Vec<bool>, StoreError> {
        let ops = settles.into_iter().map(|settle| {
            let (op, text) = unit::Op::settle(settle);
            (Op::Unit(op), text)
        });
        let applied = self.submit(ops.collect()).await?;
        applied.into_iter().map(Applied::output).collect()
    }

    async fn claim_hooks(&self, claim: ClaimHooks) -> Result<ClaimedHooks, StoreError> {
        self.look_ahead_of_hooks(&claim).await;
        self.request(|reply| Request::ClaimHooks(claim, reply))
            .await
    }

    async fn settle_hooks(&self, settles: Vec<SettleHook>) -> Result<Vec<bool>, StoreError> {
        let settles = settles.into_iter();
        let ops = settles.map(|settle| (Op::Hooks(hooks::Op::Settle(settle)), None));
        let applied = self.submit(ops.collect()).await?;
        applied.into_iter().map(Applied::output).collect()
    }

    async fn change(&self, ops: Vec<(Op, Option<NewText>)>) -> Result<Vec<Applied>, StoreError> {
        self.submit(ops).await
    }

    /// The answer takes microseconds, so it is made at once.
    async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, StoreError> {
        let answer = question.answer(&*self.shared.readable()?);
        self.shared.check_index(answer.map_err(StoreError::from))
    }

    /// On tokio's pool of blocking threads.
    async fn scan<S: Scan>(&self, scan: S) -> Result<S::Answer, StoreError> {
        #[cfg(test)]
        if self.shared.inline {
            let answer = scan.answer(&Reader::new(&self.shared));
            return self.shared.check_index(answer);
        }
        let shared = Arc::clone(&self.shared);
        // The task is cancelled only when the runtime ends.
        let done = task::spawn_blocking(move || scan.answer(&Reader::new(&shared))).await;
        self.shared
            .check_index(done.unwrap_or(Err(StoreError::Closed)))
    }

    async fn text(&self, id: TextId) -> Result<Text, StoreError> {
        let mut last = None;
        loop {
            let found = self.shared.place_of(id);
            let (place, held) = self.shared.check_index(found)?;
            let opened = match held {
                Held::Empty => return Ok(Text::empty()),
                Held::Segment(held) => match self.shared.reader.open(held) {
                    Err(error @ ReadError::Released { .. }) => Err(error.into()),
                    opened => return Ok(Text::in_journal(opened?)),
                },
                Held::File(file) => match self.shared.files.read(file) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(read_error(error)),
                    opened => return Ok(Text::in_file(opened.map_err(read_error)?)),
                },
            };
            // Between the look-up and the opening, the text was copied onward, or its last record
            // went. If its place is the same as before, its file is missing.
            if last.replace(place) == Some(place) {
                return opened;
            }
        }
    }

    fn text_writer(&self) -> TextWriter {
        TextWriter::on_disk(self.shared.files.clone())
    }

    async fn new_text(&self, file: &TextFile) -> Result<Text, StoreError> {
        let reader = self.shared.files.read(file.place()).map_err(read_error)?;
        Ok(Text::in_file(reader))
    }

    async fn counts(&self) -> Counts {
        let journal_bytes = self.shared.journal_bytes.load(Ordering::Relaxed);
        counts_of(&self.shared.state(), journal_bytes)
    }

    async fn set_aside(&self) -> u64 {
        self.shared.state().set_aside()
    }

    async fn disk_use(&self) -> io::Result<DiskUse> {
        let shared = Arc::clone(&self.shared);
        let look = move || {
            let index = shared.disk.open(index::FILE, Open::Existing)?;
            Ok(DiskUse {
                index: index.size()?,
                free: shared.disk.free()?,
                reserve: shared.min_free,
            })
        };
        task::spawn_blocking(look).await?
    }

    async fn journal_size(&self) -> io::Result<u64> {
        let shared = Arc::clone(&self.shared);
        task::spawn_blocking(move || size_of_files(&*shared.disk, journal::DIR)).await?
    }

    fn changes(&self) -> &Changes {
        &self.shared.changes
    }

    async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.shared.inbox.push(Request::Close(reply)).is_ok() {
            // An error: the engine ended otherwise.
            let _ = done.await;
        }
    }

    async fn stopped(&self) -> StoreError {
        let mut changed = self.shared.changes.queue.subscribe();
        loop {
            if let Some(error) = self.shared.failed.get() {
                return error.clone();
            }
            if changed.changed().await.is_err() {
                return StoreError::Closed;
            }
        }
    }
}

/// The bytes of all files of a folder.
fn size_of_files(disk: &dyn Disk, dir: &str) -> io::Result<u64> {
    let mut bytes = 0;
    for name in disk.list(dir)? {
        match disk.open(&format!("{dir}/{name}"), Open::Existing) {
            Ok(file) => bytes += file.size()?,
            // It was deleted or renamed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

fn counts_of(state: &State, journal_bytes: u64) -> Counts {
    let (queue, hooks) = (state.queue.counters, state.hooks.counters);
    Counts {
        queued: queue.queued,
        held: queue.held,
        claimed: queue.claimed,
        retired: queue.retired,
        hooks: hooks.hooks,
        retired_hooks: hooks.retired,
        mails: state.mail.counters.mails,
        suppressions: state.suppression.counters.entries,
        hold_rules: state.hold_rules.counters.rules,
        journal_bytes,
        text_bytes: state.texts.counters.bytes,
        report_bytes: state.received_reports.bytes(),
    }
}

fn read_error(error: io::Error) -> StoreError {
    StoreError::Read(error.into())
}

impl JournalEngine {
    /// The last number that a text got. What was staged and went leaves no other trace.
    #[cfg(test)]
    pub(crate) fn last_text(&self) -> u64 {
        self.shared.state().texts.counters.last
    }

    /// The faults of the state, as an inspection finds them.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> Result<Vec<String>, StoreError> {
        let mut faults = crate::table::Faults::default();
        self.shared.readable()?.check(&mut faults);
        Ok(faults.into_sentences())
    }

    /// Makes the writer panic.
    #[cfg(test)]
    pub(crate) fn panic(&self) {
        let _ = self.shared.inbox.push(Request::Panic);
    }

    /// Freezes what changed, and holds the checkpoint back that writes it.
    #[cfg(test)]
    pub(crate) async fn freeze(&self) {
        let (reply, frozen) = oneshot::channel();
        if self.shared.inbox.push(Request::Freeze(reply)).is_ok() {
            let _ = frozen.await;
        }
    }

    /// Holds no checkpoint back.
    #[cfg(test)]
    pub(crate) fn thaw(&self) {
        let _ = self.shared.inbox.push(Request::Thaw);
    }

    /// Waits until the threads of a stepped engine do nothing.
    #[cfg(test)]
    pub(crate) async fn rest(&self) {
        if self.shared.stepped {
            self.writer_rests().await;
            self.shared.gate.rest();
            self.writer_rests().await;
        }
    }

    /// Waits until the writer has done what it was asked for, or has ended.
    #[cfg(test)]
    async fn writer_rests(&self) {
        let (reply, done) = oneshot::channel();
        let asked = self.shared.inbox.push(Request::Rest(reply));
        if asked.is_err() || done.await.is_err() {
            self.join();
        }
    }

    /// Brings the index up to date, and gives back what only the old index needed.
    pub(crate) async fn checkpoint(&self) {
        let (reply, done) = oneshot::channel();
        if self.shared.inbox.push(Request::Checkpoint(reply)).is_ok() {
            let _ = done.await;
        }
    }

    async fn request<T>(
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

    /// Has operations carried out, in order.
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
        if let Op::Unit(op) = op.change() {
            self.look_ahead_of_messages(op.messages()).await;
        }
        let (text, file) = match text {
            None => (Bytes::new(), None),
            Some(NewText::File(file)) => (Bytes::new(), Some(file)),
            Some(NewText::Inline(text)) if text.len() <= INLINE_TEXT_MAX => (text, None),
            Some(NewText::Inline(text)) => {
                // Too large for a batch that other callers wait for.
                let mut writer = Engine::text_writer(self);
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

impl JournalEngine {
    /// Waits for the end of the writer.
    fn join(&self) {
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Err(_)) = writer.map(thread::JoinHandle::join) {
            tracing::error!("panicked: thread of the store");
        }
    }
}

impl Drop for JournalEngine {
    fn drop(&mut self) {
        self.shared.inbox.stop();
        self.shared.room.stop();
        self.join();
    }
}
