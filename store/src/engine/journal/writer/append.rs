//! Batches: appended, applied, answered.

use std::{mem, sync::Arc};

use super::{
    super::checkpoint::Job,
    super::inbox::{Ops, Prepared},
    Dead, WEIGHT, Writer, now,
};
use crate::{
    StoreError,
    journal::{AppendError, Appended, Batch, Space},
    subject::{Applied, ENVELOPE, Effects, Op, unit},
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
        let leave = waited || self.closing.is_some() || self.wants_freeze();
        if self.pending.is_empty() && (self.riders.is_empty() || !leave) {
            return Ok(());
        }
        let mut requests = self.next_batch();
        let appended = self.append(&mut requests);
        self.stuck = appended.is_err();
        if self.stuck {
            // No checkpoint can begin. The callers that wait for one are told so.
            self.wanted.clear();
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
            // The riders try it again after a while.
            self.riders_since = Some(now());
        }
        result
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
        self.journal.append(&mut self.batch, space)
    }

    /// Applies the appended requests, and answers them.
    pub(super) fn apply(&mut self, requests: Vec<Ops>, appended: &Appended) -> Result<(), Dead> {
        let mut places = appended.texts.iter().skip(self.riders.len()).copied();
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
                // From here on the state decides whether a file is needed.
                file.map(crate::TextFile::keep);
                self.weight += encoded.len() + op.changes() * WEIGHT;
                let settled = match &op {
                    Op::Unit(unit::Op::Settle { id, .. }) => Some(*id),
                    _ => None,
                };
                let result = op.apply(&mut state, places.next().flatten())?;
                // A late settlement does not end the claim of another.
                if let (Some(id), Applied::Flag(true)) = (settled, &result) {
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

    pub(super) fn take_effects(&self, effects: Effects) {
        for file in effects.dropped_files {
            self.helper.give(Job::RemoveFile(file));
        }
        if effects.queue_changed {
            self.shared.changes.queue.send_modify(|count| *count += 1);
        }
        if effects.events_changed {
            self.shared.changes.events.send_modify(|count| *count += 1);
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
        refuse(refused, error);
    }
}

impl Ops {
    fn needs_room(&self) -> bool {
        self.ops.iter().any(|prepared| prepared.op.needs_room())
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
