//! The one thread that changes anything.
//!
//! A round: take all that waits; answer claims from the state as it is; put what is to be made durable into one batch;
//! append it, with one sync; apply it; answer all. So ops are applied in the order in which they are in the journal,
//! and only when they are safe there. Claims are the exception: their entries (*riders*) go into the batch that follows, in
//! front, since nobody waits for them.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Fault, Shared,
    checkpoint::{Helper, Job},
    due::Pick,
    inbox::{Ops, Prepared, Request},
    index::Meta,
    lease::Leases,
    op::{Applied, Op, VERSION},
    state::Effects,
};
use crate::{
    Claim, ClaimHooks, Claimed, ClaimedHooks, Options, QueueId, StoreError, TextId, Time,
    disk::DiskLock,
    journal::{AppendError, Appended, Batch, Journal, Position, Space},
};

/// How long riders wait for a batch to go with.
pub(super) const RIDE: Duration = Duration::from_millis(5);
/// From here on, a pause has no end.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How often to look whether the index has room again, while callers wait for that.
const LOOK: Duration = Duration::from_millis(100);
/// Between two portions of texts that are copied onward.
const MOVE_PAUSE: Duration = Duration::from_millis(20);
/// Texts in a portion.
const MOVE_MAX: usize = 32;
/// Bytes of a portion.
const MOVE_BYTES: usize = 512 << 10;
/// With fewer segments, texts stay where they are.
const SEGMENTS_KEPT: usize = 4;
/// What a change takes in memory, beside the bytes of its op.
const WEIGHT: usize = 600;

pub(super) struct Writer {
    shared: Arc<Shared>,
    options: Options,
    ride: Duration,
    journal: Journal,
    helper: Helper,
    leases: Leases,
    batch: Batch,
    /// Requests that wait for a batch.
    pending: VecDeque<Ops>,
    /// Ops that are applied already, encoded.
    riders: Vec<Vec<u8>>,
    riders_since: Option<Instant>,
    /// The last batch could not be appended.
    stuck: bool,
    /// About how many bytes changed since the last freeze.
    weight: usize,
    last_freeze: Instant,
    /// What the checkpoint that is being made covers.
    freezing: Option<Position>,
    /// Where a replay would begin.
    checkpointed: Position,
    /// Those who wait for a checkpoint to be made, and for the one that is being made.
    wanted: Vec<oneshot::Sender<()>>,
    wanted_now: Vec<oneshot::Sender<()>>,
    /// The segment whose texts are being copied onward, and how far that is.
    moving: Option<(u64, TextId)>,
    /// Segments in which something could not be read.
    unmovable: BTreeSet<u64>,
    closing: Option<oneshot::Sender<()>>,
}

/// Why the thread ends early.
struct Dead(StoreError);

impl From<Fault> for Dead {
    fn from(fault: Fault) -> Self {
        Self(fault.into())
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: Options,
        ride: Duration,
        journal: Journal,
        helper: Helper,
        checkpointed: Position,
    ) -> Self {
        Self {
            shared,
            options,
            ride,
            journal,
            helper,
            leases: Leases::default(),
            batch: Batch::new(),
            pending: VecDeque::new(),
            // What happens from now on is only right when it is known that the claims ended.
            riders: vec![Op::Start.encode()],
            riders_since: Some(now()),
            stuck: false,
            // What was replayed is not in the index yet.
            weight: 1,
            last_freeze: now(),
            freezing: None,
            checkpointed,
            wanted: Vec::new(),
            wanted_now: Vec::new(),
            moving: None,
            unmovable: BTreeSet::new(),
            closing: None,
        }
    }

    /// Works until it is closed or stopped, or can't go on. Then lets go of the folder.
    pub(super) fn run(mut self, lock: Box<dyn DiskLock>) {
        let shared = Arc::clone(&self.shared);
        // Also if something panics, nobody is left waiting.
        let guard = EndInbox(&shared);
        if let Err(Dead(error)) = self.work() {
            tracing::error!(%error, "the store stops");
            shared.fail(error);
        }
        shared.fail(StoreError::Closed);
        drop(guard);
        let closing = self.closing.take();
        let Self {
            journal,
            helper,
            pending,
            ..
        } = self;
        // Their senders are dropped, which says that the store is closed.
        drop(pending);
        shared.room.stop();
        shared.state_mut().unbase();
        helper.end();
        drop(journal);
        drop(lock);
        if let Some(closing) = closing {
            let _ = closing.send(());
        }
    }

    fn work(&mut self) -> Result<(), Dead> {
        let mut requests = Vec::new();
        self.release_segments()?;
        loop {
            let timeout = self.timeout();
            if !self.shared.inbox.take(&mut requests, timeout) {
                return Ok(());
            }
            for request in requests.drain(..) {
                self.handle(request)?;
            }
            self.append_pending()?;
            self.move_some()?;
            self.freeze_if_due()?;
            if self.closing.is_some() && (self.is_done() || self.stuck) {
                // What could not be appended was promised to nobody: the next start finds it as after a crash.
                return Ok(());
            }
        }
    }

    /// How long there is nothing to do unless something comes.
    fn timeout(&self) -> Option<Duration> {
        if self.is_blocked() {
            return Some(LOOK);
        }
        if !self.pending.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.stuck && !self.riders.is_empty() && self.wants_freeze() {
            return Some(LOOK);
        }
        let ride = self
            .riders_since
            .map(|since| self.ride().saturating_sub(since.elapsed()));
        let moving = self.moving.map(|_| MOVE_PAUSE);
        let freeze = (self.weight > 0 && self.freezing.is_none()).then(|| {
            self.options
                .checkpoint_interval
                .saturating_sub(self.last_freeze.elapsed())
        });
        [ride, moving, freeze]
            .into_iter()
            .flatten()
            .filter(|timeout| *timeout < NEVER)
            .min()
    }

    /// How long riders wait for a batch; longer when the last one could not be appended.
    fn ride(&self) -> Duration {
        if self.stuck {
            self.ride.max(LOOK)
        } else {
            self.ride
        }
    }

    /// Whether so much is in memory that the checkpoint must come first.
    fn is_blocked(&self) -> bool {
        self.freezing.is_some()
            && self.weight > 2 * self.options.changes_in_memory
            && !self.shared.room.is_full()
    }

    fn is_done(&self) -> bool {
        self.pending.is_empty()
            && self.riders.is_empty()
            && self.weight == 0
            && self.freezing.is_none()
    }

    fn handle(&mut self, request: Request) -> Result<(), Dead> {
        match request {
            Request::Ops(ops) => self.pending.push_back(ops),
            Request::Claim(claim, reply) => {
                let claimed = self.claim(&claim)?;
                let _ = reply.send(Ok(claimed));
            }
            Request::ClaimHooks(claim, reply) => {
                let claimed = self.claim_hooks(&claim)?;
                let _ = reply.send(Ok(claimed));
            }
            Request::Renew(claims, until, reply) => {
                let renewed = self.renew(&claims, until)?;
                let _ = reply.send(Ok(renewed));
            }
            Request::Checkpointed(result) => {
                result?;
                self.checkpoint_done()?;
            }
            #[cfg(test)]
            Request::Checkpoint(reply) => self.wanted.push(reply),
            Request::Close(reply) => self.closing = Some(reply),
        }
        Ok(())
    }

    fn claim(&mut self, claim: &Claim) -> Result<Claimed, Fault> {
        let mut state = self.shared.state_mut();
        let lapsed = self.leases.lapsed(claim.now);
        if !lapsed.is_empty() {
            let op = Op::Claim {
                now: claim.now,
                lapsed,
                claimed: Vec::new(),
            };
            self.riders.push(op.encode());
            self.weight += WEIGHT;
            state.apply(op, None)?;
        }
        let ids = state.due.pick(&Pick {
            now: claim.now,
            max: claim.max,
            max_per_lane: claim.max_per_destination,
            only: claim.only.as_deref(),
            except: &claim.except,
        })?;
        let mut messages = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let until = claim.now.after(claim.lease);
            for id in &ids {
                self.leases.set(*id, until);
            }
            let op = Op::Claim {
                now: claim.now,
                lapsed: Vec::new(),
                claimed: ids.clone(),
            };
            self.riders.push(op.encode());
            self.weight += ids.len() * WEIGHT;
            state.apply(op, None)?;
            for id in &ids {
                messages.extend(state.queued.get(id)?);
            }
        }
        let next_due = state.due.next(claim.only.as_deref(), &claim.except)?;
        drop(state);
        self.board();
        Ok(Claimed { messages, next_due })
    }

    fn claim_hooks(&mut self, claim: &ClaimHooks) -> Result<ClaimedHooks, Fault> {
        let mut state = self.shared.state_mut();
        let ids = state.hooks_due.pick(&Pick {
            now: claim.now,
            max: claim.max,
            max_per_lane: claim.max_per_lane,
            only: None,
            except: &claim.except,
        })?;
        let mut hooks = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let op = Op::ClaimHooks {
                claimed: ids.clone(),
            };
            self.riders.push(op.encode());
            self.weight += ids.len() * WEIGHT;
            state.apply(op, None)?;
            for id in &ids {
                hooks.extend(state.hooks.get(id)?);
            }
        }
        let next_due = state.hooks_due.next(None, &claim.except)?;
        drop(state);
        self.board();
        Ok(ClaimedHooks { hooks, next_due })
    }

    fn board(&mut self) {
        if !self.riders.is_empty() {
            self.riders_since.get_or_insert_with(now);
        }
    }

    fn renew(&mut self, claims: &[(QueueId, u64)], until: Time) -> Result<Vec<bool>, Fault> {
        let state = self.shared.state();
        let mut renewed = Vec::with_capacity(claims.len());
        for (id, fence) in claims {
            let holds = self.leases.contains(*id)
                && state
                    .queued
                    .get(id)?
                    .is_some_and(|queued| queued.fence == *fence);
            if holds {
                self.leases.set(*id, until);
            }
            renewed.push(holds);
        }
        Ok(renewed)
    }

    /// Appends one batch of what waits, if there is anything that should not wait longer.
    fn append_pending(&mut self) -> Result<(), Dead> {
        if self.is_blocked() {
            return Ok(());
        }
        if self.shared.room.is_full() && self.weight > 2 * self.options.changes_in_memory {
            self.refuse_pending(&StoreError::Full);
        }
        let waited = self
            .riders_since
            .is_some_and(|since| since.elapsed() >= self.ride());
        let leave = waited || self.closing.is_some() || self.wants_freeze();
        if self.pending.is_empty() && (self.riders.is_empty() || !leave) {
            return Ok(());
        }
        let mut requests = self.next_batch();
        let appended = self.append(&mut requests);
        self.stuck = appended.is_err();
        if self.stuck {
            // No checkpoint can begin; those who wait for one are told so.
            self.wanted.clear();
        }
        let appended = match appended {
            Ok(appended) => appended,
            Err(AppendError::Closed(error)) => {
                // Whether it will be found at the next start is not known, so the files must stay until then.
                requests.into_iter().for_each(keep_files);
                return Err(Dead(StoreError::Write(error.into())));
            }
            // All were told.
            Err(_) => return Ok(()),
        };
        self.apply(requests, &appended)
    }

    /// Takes what fits in one batch, one request at least.
    fn next_batch(&mut self) -> Vec<Ops> {
        let limit = self.options.batch_size.min(self.journal.max_batch());
        let mut size: usize = self
            .riders
            .iter()
            .map(|rider| Batch::entry_size(rider.len(), 0))
            .sum();
        let mut requests = Vec::with_capacity(self.pending.len());
        while let Some(ops) = self.pending.front() {
            size += ops.size();
            if size > limit && !requests.is_empty() {
                break;
            }
            requests.extend(self.pending.pop_front());
        }
        requests
    }

    /// Appends the riders and these requests. When it does not work, tries again without those that need room, and answers
    /// those that were left out. In the end `requests` are those that were appended.
    fn append(&mut self, requests: &mut Vec<Ops>) -> Result<Appended, AppendError> {
        let space = if requests.iter().any(Ops::needs_room) {
            Space::Ordinary
        } else {
            Space::Reserve
        };
        let error = match self.append_as(requests, space) {
            Err(error) if !matches!(error, AppendError::Closed(_)) => error,
            result => return result,
        };
        let answer = answer_to(&error);
        let (refused, rest) = mem::take(requests).into_iter().partition(Ops::needs_room);
        *requests = rest;
        refuse(refused, &answer);
        if requests.is_empty() && self.riders.is_empty() {
            return Err(error);
        }
        let result = self.append_as(requests, Space::Reserve);
        if let Err(error) = &result
            && !matches!(error, AppendError::Closed(_))
        {
            refuse(mem::take(requests), &answer_to(error));
            // They try it again after a while.
            self.riders_since = Some(now());
        }
        result
    }

    fn append_as(&mut self, requests: &[Ops], space: Space) -> Result<Appended, AppendError> {
        self.batch.clear();
        for rider in &self.riders {
            self.batch.push(VERSION, rider, &[]);
        }
        for prepared in requests.iter().flat_map(|ops| &ops.ops) {
            self.batch.push(VERSION, &prepared.encoded, &prepared.text);
        }
        self.journal.append(&mut self.batch, space)
    }

    /// Applies what was appended, and answers.
    fn apply(&mut self, requests: Vec<Ops>, appended: &Appended) -> Result<(), Dead> {
        let mut places = appended.bodies.iter().skip(self.riders.len()).copied();
        self.riders.clear();
        self.riders_since = None;
        let mut answers = Vec::with_capacity(requests.len());
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state_mut();
        for Ops { ops, permit, reply } in requests {
            let mut applied = Vec::with_capacity(ops.len());
            for Prepared {
                op, encoded, file, ..
            } in ops
            {
                // From here on the state says whether a file is needed.
                file.map(crate::TextFile::keep);
                self.weight += encoded.len() + op.changes() * WEIGHT;
                let settled = match &op {
                    Op::Settle { id, .. } => Some(*id),
                    _ => None,
                };
                let result = state.apply(op, places.next().flatten())?;
                // A settlement that came too late ends nobody else's claim.
                if let (Some(id), Applied::Settled(true)) = (settled, &result) {
                    self.leases.remove(id);
                }
                applied.push(result);
            }
            answers.push((reply, permit, applied));
        }
        let effects = mem::take(&mut state.effects);
        drop(state);
        self.take_effects(effects);
        for (reply, permit, applied) in answers {
            drop(permit);
            if let Some(reply) = reply {
                let _ = reply.send(Ok(applied));
            }
        }
        Ok(())
    }

    fn take_effects(&self, effects: Effects) {
        for file in effects.dropped_files {
            self.helper.give(Job::RemoveFile(file));
        }
        if effects.queue_changed {
            self.shared.queue_changed.send_modify(|count| *count += 1);
        }
        if effects.events_changed {
            self.shared.events_changed.send_modify(|count| *count += 1);
        }
        if effects.hooks_changed {
            self.shared.hooks_changed.send_modify(|count| *count += 1);
        }
    }

    /// Answers those that need room with an error.
    fn refuse_pending(&mut self, error: &StoreError) {
        let (refused, rest): (Vec<_>, Vec<_>) = mem::take(&mut self.pending)
            .into_iter()
            .partition(Ops::needs_room);
        self.pending = rest.into();
        refuse(refused, error);
    }

    /// Whether a checkpoint should begin.
    fn wants_freeze(&self) -> bool {
        let interval = self.options.checkpoint_interval;
        self.freezing.is_none()
            && (!self.wanted.is_empty()
                || self.weight > 0
                    && (self.closing.is_some()
                        || self.weight >= self.options.changes_in_memory
                        || self.last_freeze.elapsed() >= interval))
    }

    fn freeze_if_due(&mut self) -> Result<(), Dead> {
        // What is applied but not in the journal must not get into the index: it would be done twice by a replay.
        if !self.wants_freeze() || !self.riders.is_empty() {
            return Ok(());
        }
        let position = self.journal.end();
        let (tables, counters) = {
            let mut state = self.shared.state_mut();
            (state.freeze(), state.counters)
        };
        self.weight = 0;
        self.last_freeze = now();
        self.freezing = Some(position);
        self.wanted_now.append(&mut self.wanted);
        self.helper.give(Job::Checkpoint(
            tables,
            Meta {
                counters,
                position: Some(position),
            },
        ));
        Ok(())
    }

    fn checkpoint_done(&mut self) -> Result<(), Fault> {
        if let Some(position) = self.freezing.take() {
            self.checkpointed = position;
        }
        self.release_segments()?;
        self.choose_move()?;
        for reply in self.wanted_now.drain(..) {
            let _ = reply.send(());
        }
        Ok(())
    }

    /// Gives back the segments that neither a replay nor a text needs.
    fn release_segments(&mut self) -> Result<(), Fault> {
        let mut bytes = 0;
        for segment in self.journal.segments() {
            let replayed = segment.generation >= self.checkpointed.generation;
            if replayed
                || self.shared.state().segments.contains(&segment.generation)?
                || !self.journal.release(segment.generation)
            {
                bytes += segment.size;
            }
        }
        self.shared.journal_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Finds a segment with little alive.
    fn choose_move(&mut self) -> Result<(), Fault> {
        let segments = self.journal.segments();
        if self.moving.is_some() || segments.len() <= SEGMENTS_KEPT || self.shared.room.is_full() {
            return Ok(());
        }
        let state = self.shared.state();
        for segment in segments {
            if segment.generation < self.checkpointed.generation
                && !self.unmovable.contains(&segment.generation)
                && state
                    .segments
                    .get(&segment.generation)?
                    .is_some_and(|alive| alive.bytes < segment.size / 4)
            {
                self.moving = Some((segment.generation, TextId(0)));
                break;
            }
        }
        Ok(())
    }

    /// Copies some texts of that segment onward.
    fn move_some(&mut self) -> Result<(), Dead> {
        // Never in the way of others.
        if !self.pending.is_empty() {
            return Ok(());
        }
        let Some((generation, from)) = self.moving else {
            return Ok(());
        };
        let (texts, mut go_on) = self.shared.state().texts_of(generation, from, MOVE_MAX)?;
        let mut ops = Vec::new();
        let mut bytes = 0;
        for (id, place) in texts {
            if bytes > 0 && bytes + place.len as usize > MOVE_BYTES {
                go_on = Some(id);
                break;
            }
            bytes += place.len as usize;
            match self.shared.reader.read(place, 0..u64::from(place.len)) {
                Ok(text) => {
                    let op = Op::Move {
                        text: id,
                        from: generation,
                    };
                    ops.push(Prepared {
                        encoded: op.encode(),
                        op,
                        text,
                        file: None,
                    });
                }
                Err(error) => {
                    tracing::error!(text = %id, %error, "a text could not be copied onward; its segment stays");
                    self.unmovable.insert(generation);
                }
            }
        }
        self.moving = go_on.map(|next| (generation, next));
        if !ops.is_empty() {
            self.pending.push_back(Ops {
                ops,
                permit: None,
                reply: None,
            });
        }
        Ok(())
    }
}

struct EndInbox<'a>(&'a Shared);

impl Drop for EndInbox<'_> {
    fn drop(&mut self) {
        self.0.inbox.end();
    }
}

impl Ops {
    fn needs_room(&self) -> bool {
        self.ops.iter().any(|prepared| prepared.op.needs_room())
    }

    /// Bytes in the journal.
    pub(super) fn size(&self) -> usize {
        self.ops.iter().map(Prepared::size).sum()
    }
}

impl Prepared {
    /// Bytes in the journal.
    pub(super) fn size(&self) -> usize {
        Batch::entry_size(self.encoded.len(), self.text.len())
    }
}

fn keep_files(ops: Ops) {
    for prepared in ops.ops {
        prepared.file.map(crate::TextFile::keep);
    }
}

fn refuse(requests: Vec<Ops>, error: &StoreError) {
    for ops in requests {
        if let Some(reply) = ops.reply {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

fn answer_to(error: &AppendError) -> StoreError {
    match error {
        AppendError::Full(_) => StoreError::Full,
        AppendError::TooLarge { .. } => {
            StoreError::Invalid("more than fits in a segment of the journal")
        }
        AppendError::Failed(error) | AppendError::Closed(error) => StoreError::Write(Arc::new(
            std::io::Error::new(error.kind(), error.to_string()),
        )),
    }
}

/// The drivers' clock: for pauses between checkpoints only, never in a record.
fn now() -> Instant {
    Instant::now()
}
