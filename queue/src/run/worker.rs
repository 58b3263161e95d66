//! A worker: delivers to one site over one connection.

use std::{collections::HashSet, sync::Arc, time::Duration};

use postrider_config::Dynamic;
use postrider_store::{Claim, Destination, Moment, Outcome, Queued, Settle, Time};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{error, warn};

use super::{Slot, WorkerNote, dispatch::Course};
use crate::{
    DeliveryMode, Queue, deadline,
    deliver::KeptConnection,
    next_hop::Plan,
    schedule::{ClaimedBatch, Counts, LEASE, Turn},
};

/// Delivers to one site over one connection.
pub(super) struct Worker {
    queue: Arc<Queue>,
    slot: Slot,
    kept: Option<KeptConnection>,
    /// Results on their way into the store.
    settling: JoinSet<()>,
}

impl Worker {
    pub(super) fn new(queue: Arc<Queue>, slot: Slot) -> Self {
        Self {
            queue,
            slot,
            kept: None,
            settling: JoinSet::new(),
        }
    }

    /// Takes turns until there are none, and none comes for a while.
    pub(super) async fn run(mut self) {
        let mut again = None;
        while self.may_go_on() {
            let pace = &self.slot.pace;
            let has_tokens = pace.brief(self.queue.clock.moment()).tokens_at.is_none();
            let next = pace.turns().next(again.take(), pace.batch(), has_tokens);
            if next.let_go {
                // If the loop has no room for the note, it is about to look anyway.
                let _ = self.slot.notes.try_send(WorkerNote::Room);
            }
            let (batches, tokens) = match next.turn {
                Some(Turn::Deliver(batches)) => {
                    let batches = self.still_claimed(batches).await;
                    self.with_tokens(batches).await
                }
                Some(Turn::Claim(destination)) => self.claim(destination).await,
                None if self.wait().await => continue,
                None => break,
            };
            if batches.is_empty() {
                continue;
            }
            again = only_destination(&batches);
            if !self.attempt(batches, tokens).await {
                break;
            }
        }
        if let Some(kept) = self.kept.take() {
            kept.quit().await;
        }
        while self.settling.join_next().await.is_some() {}
        let Slot { site, notes, .. } = self.slot;
        let _ = notes.send(WorkerNote::Ended { site }).await;
    }

    /// Whether to take another turn: the site takes mail, and not from fewer connections than there
    /// are. What waits is the affair of the loop then.
    fn may_go_on(&mut self) -> bool {
        let now = self.queue.clock.moment();
        let site = self.slot.pace.brief(now);
        let is_over = match &mut self.kept {
            Some(kept) => kept.is_too_many(now),
            None => site.connect_at.is_some(),
        };
        site.connections > 0 && !is_over
    }

    /// Takes tokens for messages. Gives back the messages without one: they wait in the store for
    /// the next.
    async fn with_tokens(&self, mut batches: Vec<ClaimedBatch>) -> (Vec<ClaimedBatch>, usize) {
        let wanted: usize = batches.iter().map(|batch| batch.messages.len()).sum();
        let tokens = self.take_tokens(wanted);
        if tokens == wanted {
            return (batches, tokens);
        }
        let (mut left, mut back) = (tokens, Vec::new());
        for batch in &mut batches {
            let keep = left.min(batch.messages.len());
            left -= keep;
            let over = batch.messages.split_off(keep);
            if !over.is_empty() {
                let turns = self.slot.pace.turns();
                turns.park_name(batch.destination.clone());
                back.extend(over);
            }
        }
        batches.retain(|batch| !batch.messages.is_empty());
        self.queue.release(back).await;
        (batches, tokens)
    }

    fn take_tokens(&self, wanted: usize) -> usize {
        let tokens = self
            .slot
            .pace
            .take_tokens(wanted, self.queue.clock.moment());
        if self.slot.pace.has_long_rates() {
            self.queue.sites.note_soon();
        }
        tokens
    }

    /// Gives back messages that waited so long that their claim may end during the attempt.
    async fn still_claimed(&self, mut batches: Vec<ClaimedBatch>) -> Vec<ClaimedBatch> {
        let now = self.queue.clock.moment();
        let old = batches.extract_if(.., |batch| now.since(batch.claimed) > LEASE / 2);
        let old: Vec<Queued> = old.flat_map(|batch| batch.messages).collect();
        if !old.is_empty() {
            self.queue.release(old).await;
        }
        batches
    }

    /// More of a destination's messages that are due now. Messages that do not belong to this site
    /// go to the loop. Gives the tokens that were taken for them, too.
    async fn claim(&self, destination: Destination) -> (Vec<ClaimedBatch>, usize) {
        let (now, moment) = (self.queue.clock.now(), self.queue.clock.moment());
        let (faults, pace) = (&self.queue.faults, &self.slot.pace);
        if faults.is_unsettled()
            || faults.until(moment).is_some()
            || self.queue.sites.is_paused(&destination, now)
        {
            // The loop claims them later.
            return (Vec::new(), 0);
        }
        let max = self.take_tokens(pace.batch());
        if max == 0 {
            pace.turns().park_name(destination);
            return (Vec::new(), 0);
        }
        let batches = self.claim_some(destination, max, (now, moment)).await;
        let claimed: usize = batches.iter().map(|batch| batch.messages.len()).sum();
        pace.put_back_tokens(max.saturating_sub(claimed));
        (batches, claimed)
    }

    async fn claim_some(
        &self,
        destination: Destination,
        max: usize,
        (now, moment): (Time, Moment),
    ) -> Vec<ClaimedBatch> {
        let claim = Claim {
            now,
            moment,
            max,
            max_per_destination: max,
            only: Some(destination.clone()),
            except: HashSet::new(),
            lease: LEASE,
        };
        // The main loop meets the same error, tells of it, and waits.
        let Ok(claimed) = self.queue.store.claim(claim).await else {
            return Vec::new();
        };
        if claimed.messages.is_empty() {
            return Vec::new();
        }
        let config = self.queue.config.load_full();
        let (mut batches, mut back) = (Vec::new(), Vec::new());
        for (course, messages) in self.queue.courses(&config, claimed.messages, moment) {
            match course {
                Course::Known { plan, stale } if plan.site == self.slot.site => {
                    if let Some(key) = stale {
                        let _ = self.slot.notes.send(WorkerNote::Stale { key }).await;
                    }
                    batches.push(ClaimedBatch {
                        destination: destination.clone(),
                        plan,
                        messages,
                        claimed: moment,
                    });
                }
                _ => back.extend(messages),
            }
        }
        if !back.is_empty() {
            let note = WorkerNote::Back {
                messages: back,
                claimed: moment,
            };
            let _ = self.slot.notes.send(note).await;
        }
        batches
    }

    /// Waits for a turn, if there is a connection worth keeping. Returns false when none came.
    async fn wait(&mut self) -> bool {
        let Some(kept) = &self.kept else {
            return false;
        };
        let (wake, mut woken) = mpsc::channel(1);
        let note = WorkerNote::Idle {
            site: self.slot.site.clone(),
            wake,
        };
        if self.slot.notes.send(note).await.is_err() {
            return false;
        }
        let idle = self.queue.statics.queue.per_destination.idle;
        tokio::select! {
            woken = woken.recv() => return woken.is_some(),
            () = tokio::time::sleep(idle) => {}
            // Another site has messages for this address.
            () = kept.is_wanted_elsewhere() => {}
        }
        woken.close();
        // If the loop woke us while the wait ended, it counts on us.
        woken.recv().await.is_some()
    }

    /// Returns false if no connection to the site can be made.
    async fn attempt(&mut self, batches: Vec<ClaimedBatch>, tokens: usize) -> bool {
        let count = batches.iter().map(|batch| batch.messages.len()).sum();
        let _working = self.slot.pace.work(count);
        let messages = batches.iter().flat_map(|batch| &batch.messages);
        let keys: Vec<_> = messages
            .map(|message| (message.id, message.fence))
            .collect();
        let queue = Arc::clone(&self.queue);
        let renewing = async {
            loop {
                let clock = &queue.clock;
                let next = clock.moment().after(LEASE / 3);
                clock.sleep_until_moment(next).await;
                let until = clock.moment().after(LEASE);
                if let Err(error) = queue.store.renew(keys.clone(), until).await {
                    warn!(%error, "failed to renew the claims of a long delivery");
                }
            }
        };
        let (settles, connects) = tokio::select! {
            delivered = self.deliver(batches) => delivered,
            never = renewing => never,
        };
        let attempted = settles.iter().filter(|settle| settle.attempt.is_some());
        let unused = tokens.saturating_sub(attempted.count());
        self.slot.pace.put_back_tokens(unused);
        // Results of the batch before this one are stored by now, or this waits for them: so there
        // is a bound.
        while self.settling.join_next().await.is_some() {}
        let queue = Arc::clone(&self.queue);
        self.settling
            .spawn(async move { queue.settle(settles).await });
        connects
    }

    async fn deliver(&mut self, batches: Vec<ClaimedBatch>) -> (Vec<Settle>, bool) {
        let config = self.queue.config.load_full();
        let mut settles = Vec::new();
        let (mut connects, mut counts) = (true, Counts::default());
        for (plan, messages) in by_plan(batches) {
            let messages = self
                .queue
                .keep_unsuppressed(&config, messages, &mut settles)
                .await;
            if self.queue.delivery == DeliveryMode::Local {
                let count = messages.len();
                for message in messages {
                    settles.push(self.queue.deliver_here(&config, message).await);
                }
                let now = self.queue.clock.moment();
                self.slot.pace.succeeded(count, count, Duration::ZERO, now);
                if self.slot.pace.answered(count, Duration::ZERO, now) {
                    self.slot.answers().await;
                }
            } else if !messages.is_empty() {
                let queue = &self.queue;
                let delivered = queue
                    .deliver(&config, &plan, messages, &mut self.kept, &self.slot)
                    .await;
                connects = connects && delivered.connects;
                for ended in delivered.ended {
                    let settle = queue.settlement(&config, ended).await;
                    match settle.outcome {
                        Outcome::Retire { success: true, .. } => counts.delivered += 1,
                        Outcome::Retire { .. } => counts.failed += 1,
                        _ => counts.deferred += 1,
                    }
                    settles.push(settle);
                }
                for postponed in delivered.postponed {
                    settles.push(queue.postponement(&config, postponed).await);
                }
            }
        }
        let now = self.queue.clock.moment();
        self.slot.pace.count(counts, now);
        (settles, connects)
    }
}

/// The destination of these messages, if they have only one.
fn only_destination(batches: &[ClaimedBatch]) -> Option<Destination> {
    let first = &batches.first()?.destination;
    let mut others = batches.iter();
    others
        .all(|batch| batch.destination == *first)
        .then(|| first.clone())
}

/// Messages whose plans are equal share an attempt.
fn by_plan(batches: Vec<ClaimedBatch>) -> Vec<(Arc<Plan>, Vec<Queued>)> {
    let mut groups: Vec<(Arc<Plan>, Vec<Queued>)> = Vec::new();
    for batch in batches {
        let same = |(plan, _): &&mut (Arc<Plan>, _)| {
            Arc::ptr_eq(plan, &batch.plan) || **plan == *batch.plan
        };
        match groups.iter_mut().find(same) {
            Some((_, messages)) => messages.extend(batch.messages),
            None => groups.push((batch.plan, batch.messages)),
        }
    }
    groups
}

impl Queue {
    /// Ends messages whose recipients are on a suppression list, and those that missed their
    /// deadline. Gives the others, the urgent ones first.
    pub(super) async fn keep_unsuppressed(
        &self,
        config: &Dynamic,
        messages: Vec<Queued>,
        settles: &mut Vec<Settle>,
    ) -> Vec<Queued> {
        let mut kept = Vec::with_capacity(messages.len());
        let now = self.clock.now();
        for message in messages {
            if let Some(status) = deadline::missed(&message, now) {
                settles.push(self.missed(config, message, status).await);
                continue;
            }
            match self.suppression_of(&message).await {
                Ok(Some(entry)) => settles.push(self.suppressed(config, &message, &entry).await),
                Ok(None) => kept.push(message),
                Err(error) => {
                    // To mail an address once more harms less than to fail a message by mistake.
                    error!(%error, "failed to read the suppression list");
                    kept.push(message);
                }
            }
        }
        deadline::sort(&mut kept);
        kept
    }
}
