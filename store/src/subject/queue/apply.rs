//! The effect of operations on the queue.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use super::{
    Change, ENVIDS_MAX, InWork, NewMessage, Note, Origin, QueueId, Queued, Reference, Reroute,
    Retired, Tables, Transaction,
    keys::{recipient_key, reference_key, reference_keys},
};
use crate::{
    Attempt, Outcome, StoreError, TextId, TextSource, Time,
    error::Fault,
    subject::{State, next, tag},
    table::key::Name,
};

/// How many results a message has at most. The store drops later notes.
pub(super) const RESULTS_MAX: usize = 100;

impl Tables {
    fn forget_references(&mut self, message: &Queued) {
        for key in reference_keys(message) {
            self.references.remove(&key);
        }
    }

    pub(super) fn forget_retired(&mut self, id: QueueId) -> Result<(), Fault> {
        if let Some(retired) = self.retired.take(&id)? {
            self.forget_references(&retired.message);
        }
        self.counters.retired -= 1;
        Ok(())
    }

    /// Adds what is heard of a message to its results.
    pub(in crate::subject) fn note(&mut self, note: Note) -> Result<(), Fault> {
        if let Some(queued) = self.queued.get_mut(&note.id)? {
            if queued.results.len() < RESULTS_MAX {
                queued.results.push(note.result);
            }
        } else if let Some(retired) = self.retired.get_mut(&note.id)? {
            retired.last_activity = retired.last_activity.max(note.result.start);
            if retired.message.results.len() < RESULTS_MAX {
                retired.message.results.push(note.result);
            }
        }
        Ok(())
    }

    /// Why the fromids of a message can't be used, if so.
    pub(in crate::subject) fn check_from_ids(
        &self,
        message: &NewMessage,
    ) -> Result<Option<StoreError>, Fault> {
        let mut seen = BTreeSet::new();
        for recipient in &message.recipients {
            let id = &recipient.from_id;
            if id.is_empty() {
                continue;
            }
            if !seen.insert(id) || self.is_referred(Reference::FromId(id))? {
                return Ok(Some(StoreError::FromIdInUse(id.clone())));
            }
        }
        Ok(None)
    }

    fn is_referred(&self, reference: Reference<'_>) -> Result<bool, Fault> {
        let name = reference_key(reference);
        let from = (Arc::clone(&name), "".into(), QueueId(0));
        let first = self
            .references
            .range(Bound::Included(&from), Bound::Unbounded)?
            .next()
            .transpose()?;
        Ok(first.is_some_and(|((found, _, _), ())| found == name))
    }

    /// Keeps the ENVIDs of transactions with their messages. Messages that are gone are left out.
    pub(super) fn begin(&mut self, transactions: &[Transaction]) -> Result<(), Fault> {
        for transaction in transactions {
            let envid = &transaction.envid;
            let name = |envid: &str| reference_key(Reference::Transaction(envid));
            for id in &transaction.messages {
                let Some(queued) = self.queued.get_mut(id)? else {
                    continue;
                };
                if queued.envids.contains(envid) {
                    continue;
                }
                let recipient = recipient_key(queued);
                queued.envids.push(envid.clone());
                let surplus = queued.envids.len().saturating_sub(ENVIDS_MAX);
                let forgotten: Vec<String> = queued.envids.drain(..surplus).collect();
                for envid in &forgotten {
                    let key = (name(envid), Arc::clone(&recipient), *id);
                    self.references.remove(&key);
                }
                self.references.put_new((name(envid), recipient, *id), ());
            }
        }
        Ok(())
    }

    /// Ends a claim, if there is one.
    fn unclaim(&mut self, id: QueueId) -> Result<Option<InWork>, Fault> {
        let claimed = self.claimed.take(&id)?;
        if claimed.is_some() {
            self.counters.claimed -= 1;
        }
        Ok(claimed)
    }

    /// Claims messages that are due.
    pub(super) fn claim(&mut self, now: Time, ids: &[QueueId]) -> Result<(), Fault> {
        // Neighbours are mostly of the same lane. Together they cost less.
        let mut lane: Option<(Name, Vec<(Time, QueueId)>)> = None;
        for id in ids {
            let Some(queued) = self.queued.get_mut(id)? else {
                continue;
            };
            let last_attempt = queued.last_attempt;
            queued.fence += 1;
            queued.attempts += 1;
            queued.last_attempt = Some(now);
            let due = (queued.next_attempt, queued.id);
            let of = queued.lane_name();
            // While entries of an earlier process are replayed, the message may be claimed already:
            // no entry told of the end of that claim.
            let again = self.claimed.get(id)?.is_some();
            if again {
                self.claimed.put(*id, InWork { last_attempt });
                continue;
            }
            self.claimed.put_new(*id, InWork { last_attempt });
            self.counters.claimed += 1;
            match &mut lane {
                Some((name, entries)) if *name == of => entries.push(due),
                _ => {
                    if let Some((name, entries)) = lane.replace((of, vec![due])) {
                        self.due.remove(&name, &entries)?;
                    }
                }
            }
        }
        match lane {
            Some((name, entries)) => self.due.remove(&name, &entries),
            None => Ok(()),
        }
    }
}

impl Tables {
    /// Gives all due messages the lanes of today. A message without a record is due no more.
    pub(super) fn renew_lanes(&mut self) -> Result<(), Fault> {
        let queued = &self.queued;
        let name = |id| Ok(queued.get(&id)?.map(|queued| queued.lane_name()));
        self.due.rename(name)
    }
}

/// Where a message waits, and until when.
#[derive(PartialEq, Eq)]
struct Waits {
    held: bool,
    next: Time,
    lane: Name,
}

impl Waits {
    fn of(queued: &Queued) -> Self {
        Self {
            held: queued.hold,
            next: queued.next_attempt,
            lane: queued.lane_name(),
        }
    }
}

impl State {
    /// Adds a message, one record for each recipient. `new` is the text of the unit.
    pub(in crate::subject) fn add_message(
        &mut self,
        message: NewMessage,
        new: TextId,
    ) -> Result<Vec<QueueId>, Fault> {
        let text = message.text.resolve(new);
        let common = Arc::new(message.common);
        let base = QueueId(self.queue.counters.last + 1);
        let rules = self.hold_rules.all()?;
        if common.origin == Origin::Sent {
            self.sent.count(&common, &message.recipients)?;
        }
        let mut ids = Vec::with_capacity(message.recipients.len());
        for recipient in message.recipients {
            let id = QueueId(next(&mut self.queue.counters.last));
            let top = message.top.clone();
            let mut queued = recipient.queued(id, base, top, text, Arc::clone(&common));
            if rules.iter().any(|rule| rule.filter.matches(&queued)) {
                queued.set_hold(true, common.queued);
            }
            self.queue.counters.queued += 1;
            for key in reference_keys(&queued) {
                self.queue.references.put_new(key, ());
            }
            if queued.hold {
                self.queue.counters.held += 1;
            } else {
                self.make_due(&queued)?;
            }
            self.queue.queued.put_new(id, queued);
            ids.push(id);
        }
        Ok(ids)
    }

    /// Removes a message from the history before its time. False: it is not there.
    pub(super) fn forget_ended(&mut self, id: QueueId) -> Result<bool, Fault> {
        let Some(retired) = self.queue.retired.get(&id)? else {
            return Ok(false);
        };
        self.history.remove(retired.keep_until, tag::queue, id.0);
        self.forget(tag::queue, id.0)?;
        Ok(true)
    }

    fn make_due(&mut self, queued: &Queued) -> Result<(), Fault> {
        self.effects.queue_changed = true;
        let lane = queued.lane_name();
        self.queue.due.insert(&lane, queued.next_attempt, queued.id)
    }

    pub(super) fn change(
        &mut self,
        id: QueueId,
        change: &Change,
        now: Time,
    ) -> Result<bool, Fault> {
        let Some(mut queued) = self.queue.queued.get(&id)? else {
            return Ok(false);
        };
        let was = Waits::of(&queued);
        change.apply(&mut queued, now);
        self.queue.counters.held -= u64::from(was.held);
        self.queue.counters.held += u64::from(queued.hold);
        self.move_waiting(was, queued)?;
        Ok(true)
    }

    /// Gives a message that waits another route. False: it is claimed, or it was since.
    pub(super) fn reroute(&mut self, to: Reroute) -> Result<bool, Fault> {
        let Some(mut queued) = self.queue.queued.get(&to.id)? else {
            return Ok(false);
        };
        if queued.fence != to.fence || self.queue.claimed.contains(&to.id)? {
            return Ok(false);
        }
        let was = Waits::of(&queued);
        queued.route = to.route;
        self.move_waiting(was, queued)?;
        Ok(true)
    }

    /// Keeps a changed message, and moves it from where it waited to where it waits now.
    fn move_waiting(&mut self, was: Waits, queued: Queued) -> Result<(), Fault> {
        let id = queued.id;
        let claimed = self.queue.claimed.contains(&id)?;
        // A claimed message is in no lane, and a held one neither.
        let moved = was != Waits::of(&queued);
        if moved && !claimed && !was.held {
            self.queue.due.remove(&was.lane, &[(was.next, id)])?;
        }
        if moved && !claimed && !queued.hold {
            self.make_due(&queued)?;
        }
        self.queue.queued.put(id, queued);
        Ok(())
    }

    /// Makes messages due again whose claims ran out. Their attempts count.
    pub(super) fn lapse(&mut self, ids: &[QueueId]) -> Result<(), Fault> {
        for id in ids {
            if self.queue.unclaim(*id)?.is_some()
                && let Some(queued) = self.queue.queued.get(id)?
                && !queued.hold
            {
                self.make_due(&queued)?;
            }
        }
        Ok(())
    }

    /// Ends all claims, since the process that had them is gone.
    pub(in crate::subject) fn end_claims_of_messages(&mut self) -> Result<(), Fault> {
        let claimed = self.queue.claimed.all()?.into_iter();
        self.lapse(&claimed.map(|(id, _)| id).collect::<Vec<_>>())
    }

    /// Records what became of a claimed message. `route`: that of its next attempt, if it is
    /// another.
    pub(in crate::subject) fn settle_message(
        &mut self,
        mut queued: Queued,
        attempt: Option<Attempt>,
        outcome: Outcome,
        delay_told: bool,
        route: Option<String>,
    ) -> Result<(), Fault> {
        let id = queued.id;
        let claimed = self.queue.unclaim(id)?;
        if claimed.is_none() && !queued.hold {
            // The claim ran out, and nobody else took the message.
            let lane = queued.lane_name();
            self.queue.due.remove(&lane, &[(queued.next_attempt, id)])?;
        }
        queued.fence += 1;
        queued.results.extend(attempt);
        queued.delay_told |= delay_told;
        queued.route = route.unwrap_or(queued.route);
        match outcome {
            Outcome::Release | Outcome::Postpone(_) => {
                queued.attempts = queued.attempts.saturating_sub(1);
                if let Some(claimed) = claimed {
                    queued.last_attempt = claimed.last_attempt;
                }
                if let Outcome::Postpone(time) = outcome {
                    queued.next_attempt = time;
                }
            }
            Outcome::Retry(time) => queued.next_attempt = time,
            Outcome::Retire {
                success,
                now,
                keep_until,
            } => {
                return self.retire(queued, success, now, keep_until);
            }
        }
        if !queued.hold {
            self.make_due(&queued)?;
        }
        self.queue.queued.put(id, queued);
        Ok(())
    }

    fn retire(
        &mut self,
        message: Queued,
        success: bool,
        last_activity: Time,
        keep_until: Option<Time>,
    ) -> Result<(), Fault> {
        let id = message.id;
        self.queue.queued.remove(&id);
        self.queue.counters.queued -= 1;
        if message.hold {
            self.queue.counters.held -= 1;
        }
        self.release_text(message.text)?;
        if let Some(keep_until) = keep_until {
            self.history.add(keep_until, tag::queue, id.0);
            self.queue.counters.retired += 1;
            let retired = Retired {
                message,
                success,
                last_activity,
                keep_until,
            };
            self.queue.retired.put_new(id, retired);
        } else {
            self.transcripts.forget_message(id)?;
            self.queue.forget_references(&message);
        }
        Ok(())
    }
}

impl TextSource {
    /// The text itself; `new` is the text of the unit.
    pub(crate) fn resolve(self, new: TextId) -> TextId {
        match self {
            Self::New => new,
            Self::Existing(id) => id,
        }
    }
}
