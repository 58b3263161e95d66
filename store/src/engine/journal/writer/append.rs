//! Batches: appended, applied, answered.

use std::{mem, sync::Arc};

use super::{
    super::inbox::{Ops, Prepared},
    Dead, WEIGHT, Writer, now,
};
use crate::{
    StoreError,
    journal::{AppendError, Appended, Batch, Space},
    subject::{Applied, ENVELOPE, Effects, Op, hooks, unit},
};

impl Writer {
    /// Appends one batch of the waiting requests, if one should not wait longer.
    pub(super) fn append_pending(&mut self) -> Result<(), Dead> {
        if self.is_blocked() {
            return Ok(());
        }
        if self.shared.room.is_full() && self.weight > 2 * self.options.changes_in_memory {
            self.refuse_pending(&StoreError::Full);
        }
        let waited = self
            .riders_since
            .is_some_and(|since| since.elapsed() >= self.ride());
        let leave = waited || self.is_closing() || self.wants_freeze();
        if self.pending.is_empty() && (self.riders.is_empty() || !leave) {
            return Ok(());
        }
        let mut requests = self.next_batch();
        let appended = self.append(&mut requests);
        self.stuck = appended.is_err();
        if self.stuck {
            // No checkpoint can begin. The callers that wait for one are told so.
            self.wanted.clear();
            #[cfg(test)]
            self.wanted_frozen.clear();
        }
        let appended = match appended {
            Ok(appended) => appended,
            Err(AppendError::Closed(error)) => {
                // Nobody knows whether the next start finds the batch, so the files must stay until
                // then.
                requests.into_iter().for_each(keep_files);
                return Err(Dead(StoreError::Write(error.into())));
            }
            // All were told.
            Err(_) => return Ok(()),
        };
        self.apply(requests, &appended)
    }

    /// Takes as many requests as fit in one batch, at least one.
    pub(super) fn next_batch(&mut self) -> Vec<Ops> {
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

    /// Appends the riders and these requests. After a failure it tries again without the requests
    /// that need room, and answers these. In the end `requests` has the appended requests.
    pub(super) fn append(&mut self, requests: &mut Vec<Ops>) -> Result<Appended, AppendError> {
        let space = if requests.iter().any(Ops::needs_room) {
            Space::Ordinary
        } else {
            Space::Reserve
        };
        let error = match self.append_as(requests, space) {
            Ok(appended) => {
                self.went_well();
                return Ok(appended);
            }
            Err(error @ AppendError::Closed(_)) => return Err(error),
            Err(error) => error,
        };
        let answer = answer_to(&error);
        let (refused, rest) = mem::take(requests).into_iter().partition(Ops::needs_room);
        *requests = rest;
        self.refuse(refused, &answer);
        if requests.is_empty() && self.riders.is_empty() {
            return Err(error);
        }
        let result = self.append_as(requests, Space::Reserve);
        match &result {
            Ok(_) => self.went_well(),
            Err(AppendError::Closed(_)) => {}
            Err(error) => {
                let answer = answer_to(error);
                self.refuse(mem::take(requests), &answer);
                if matches!(error, AppendError::Full(_) | AppendError::Failed(_)) {
                    self.unstored = Some(answer);
                }
                // The riders try it again after a while.
                self.riders_since = Some(now());
            }
        }
        result
    }

    /// A batch is safe, so those that failed before can't come back.
    fn went_well(&mut self) {
        self.unstored = None;
        for file in mem::take(&mut self.doubtful.0) {
            self.helper.remove_file(file.keep().file);
        }
    }

    pub(super) fn append_as(
        &mut self,
        requests: &[Ops],
        space: Space,
    ) -> Result<Appended, AppendError> {
        self.batch.clear();
        for rider in &self.riders {
            self.batch.push(ENVELOPE, rider, &[]);
        }
        for prepared in requests.iter().flat_map(|ops| &ops.ops) {
            self.batch.push(ENVELOPE, &prepared.encoded, &prepared.text);
        }
        let appended = self.journal.append(&mut self.batch, space)?;
        let operations = requests.iter().map(|ops| ops.ops.len()).sum::<usize>();
        let metrics = &self.options.metrics;
        metrics
            .store_batch_operations
            .observe(self.riders.len() + operations);
        self.unindexed += self.batch.size() as u64;
        metrics.store_unindexed_bytes.set(self.unindexed);
        Ok(appended)
    }

    /// Applies the appended requests, and answers them.
    pub(super) fn apply(
        &mut self,
        mut requests: Vec<Ops>,
        appended: &Appended,
    ) -> Result<(), Dead> {
        // The journal refers to the files, so they stay even if one of the operations ends in a
        // fault. From here on the state decides whether a file is needed.
        for prepared in requests.iter_mut().flat_map(|ops| &mut ops.ops) {
            prepared.file.take().map(crate::TextFile::keep);
        }
        let mut places = appended.texts.iter().skip(self.riders.len()).copied();
        self.riders.clear();
        self.riders_since = None;
        let mut answers = Vec::with_capacity(requests.len());
        let shared = Arc::clone(&self.shared);
        let mut settled_hooks = 0;
        let mut state = shared.state_mut();
        for Ops { ops, permit, reply } in requests {
            let mut applied = Vec::with_capacity(ops.len());
            for Prepared { op, encoded, .. } in ops {
                self.weight += encoded.len() + op.changes() * WEIGHT;
                let settled = match op.change() {
                    Op::Unit(unit::Op::Settle { id, .. }) => Some(*id),
                    _ => None,
                };
                let of_hook = matches!(op.change(), Op::Hooks(hooks::Op::Settle(_)));
                let result = shared.sound(op.apply(&mut state, places.next().flatten()))?;
                settled_hooks += u64::from(of_hook && matches!(result, Applied::Flag(true)));
                // A late settlement does not end the claim of another.
                if let (Some(id), Applied::Flag(true)) = (settled, &result) {
                    self.leases.remove(id);
                }
                applied.push(result);
            }
            answers.push((reply, permit, applied));
        }
        let effects = mem::take(&mut state.effects);
        let heads = state.queue.due.take_changed();
        drop(state);
        self.shared.changes.lanes.tell(heads);
        self.claimed_hooks = self.claimed_hooks.saturating_sub(settled_hooks);
        self.take_effects(effects);
        for (reply, permit, applied) in answers {
            drop(permit);
            if let Some(reply) = reply {
                let _ = reply.send(Ok(applied));
            }
        }
        Ok(())
    }

    fn take_effects(&mut self, effects: Effects) {
        self.shrunk |= !effects.shrunk.is_empty();
        self.candidates.extend(effects.shrunk);
        for file in effects.dropped_files {
            self.remove_file(file);
        }
        if effects.queue_changed {
            self.shared.changes.queue.send_modify(|count| *count += 1);
        }
        if effects.events_changed {
            self.shared.changes.events.send_modify(|count| *count += 1);
        }
        self.shared.changes.mail.tell(&effects.mail_changed);
        if effects.sieve_changed {
            self.shared.changes.sieve.send_modify(|count| *count += 1);
        }
        if effects.reports_arrived {
            self.shared.changes.reports.send_modify(|count| *count += 1);
        }
        if effects.keys_removed {
            self.shared.changes.keys.send_modify(|count| *count += 1);
        }
        if effects.hooks_changed {
            self.shared.changes.hooks.send_modify(|count| *count += 1);
        }
    }

    /// Answers the waiting requests that need room with an error.
    pub(super) fn refuse_pending(&mut self, error: &StoreError) {
        let (refused, rest): (Vec<_>, Vec<_>) = mem::take(&mut self.pending)
            .into_iter()
            .partition(Ops::needs_room);
        self.pending = rest.into();
        self.refuse(refused, error);
    }

    /// Answers requests with an error. Their files go, unless the next start may find the entries
    /// that refer to them.
    fn refuse(&mut self, requests: Vec<Ops>, error: &StoreError) {
        for Ops { ops, permit, reply } in requests {
            for file in ops.into_iter().filter_map(|prepared| prepared.file) {
                if self.journal.is_uncertain() {
                    self.doubtful.0.push(file);
                } else {
                    self.helper.remove_file(file.keep().file);
                }
            }
            drop(permit);
            if let Some(reply) = reply {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

impl Ops {
    /// Whether the request waits for room in the ordinary segments.
    fn needs_room(&self) -> bool {
        let mut ops = self.ops.iter();
        ops.any(|prepared| prepared.op.space() == Space::Ordinary)
    }

    /// Bytes in the journal.
    pub(in super::super) fn size(&self) -> usize {
        self.ops.iter().map(Prepared::size).sum()
    }
}

impl Prepared {
    /// Bytes in the journal.
    pub(in super::super) fn size(&self) -> usize {
        Batch::entry_size(self.encoded.len(), self.text.len())
    }
}

fn keep_files(ops: Ops) {
    for prepared in ops.ops {
        prepared.file.map(crate::TextFile::keep);
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
