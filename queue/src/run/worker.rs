//! A worker: delivers to one site over one connection.

use std::{sync::Arc, time::Duration};

use postrider_config::Dynamic;
use postrider_observe::metrics::Usage;
use postrider_store::{Lane, Moment, QueueId, Queued, Transcript, Which};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{error, warn};

use super::{Slot, WorkerNote, course::Course, hand::Hand, released};
use crate::{
    DeliveryMode, Queue, deadline,
    deliver::KeptConnection,
    next_hop::{Plan, Site},
    schedule::{ClaimedBatch, Counts, LEASE, PLACE_COST, Share, Tokens, Turn, cost},
    settle::EndedAttempt,
    told::Settlements,
};

/// Delivers to one site over one connection.
pub(super) struct Worker {
    queue: Arc<Queue>,
    slot: Slot,
    kept: Option<KeptConnection>,
    /// Results on their way into the store.
    settling: JoinSet<()>,
    /// What its messages cost since other sites wait for a place.
    used: u64,
    /// What it gave back, and what still counts for those whom it belongs to.
    given_back: Vec<Share>,
}

/// The claim of a worker.
enum Claimed {
    /// These messages, and the tokens that were taken for them.
    Some(Vec<ClaimedBatch>, Tokens, Hand),
    /// Nothing, and nothing is to be claimed now.
    End,
}

/// A turn of bulk mail, until it ends.
struct OfBulk {
    queue: Arc<Queue>,
    site: Site,
}

impl Drop for OfBulk {
    fn drop(&mut self) {
        self.queue.lanes().bulk_ended(&self.site);
    }
}

impl Worker {
    pub(super) fn new(queue: Arc<Queue>, slot: Slot) -> Self {
        Self {
            queue,
            slot,
            kept: None,
            settling: JoinSet::new(),
            used: 0,
            given_back: Vec::new(),
        }
    }

    /// Takes turns until there are none, and none comes for a while.
    pub(super) async fn run(mut self) {
        while self.may_go_on() {
            let turn = self.take();
            self.refund();
            let Some((turn, bulk)) = turn else {
                if self.wait().await {
                    continue;
                }
                break;
            };
            let _bulk = bulk.then(|| OfBulk {
                queue: Arc::clone(&self.queue),
                site: self.slot.site.clone(),
            });
            let mut lanes = Vec::new();
            let (batches, tokens, hand) = match turn {
                Turn::Deliver(batches) => {
                    let batches = self.still_claimed(batches).await;
                    let (batches, tokens) = self.with_tokens(batches).await;
                    let shares = Share::of(batches.iter().flat_map(|batch| &batch.messages));
                    let site = &self.slot.site;
                    let hand = Hand::take(&self.queue, site, shares, self.used);
                    (batches, tokens, hand)
                }
                Turn::Claim(turn) => {
                    lanes = turn;
                    match self.claim(&mut lanes).await {
                        Claimed::Some(batches, tokens, hand) => (batches, tokens, hand),
                        Claimed::End => break,
                    }
                }
            };
            if batches.is_empty() {
                continue;
            }
            self.slot.hand = Some(Arc::new(hand));
            let connects = self.attempt(batches, tokens).await;
            self.slot.hand = None;
            if !connects {
                // The time of others may be over too.
                let now = self.queue.clock.now();
                let mut all = self.queue.lanes();
                lanes.iter().for_each(|lane| all.review_soon(lane, now));
                break;
            }
            if self.used >= PLACE_COST {
                break;
            }
        }
        self.refund();
        if let Some(kept) = self.kept.take() {
            kept.quit().await;
        }
        while self.settling.join_next().await.is_some() {}
        let Slot { site, notes, .. } = self.slot;
        let used = self.used;
        let _ = notes.send(WorkerNote::Ended { site, used }).await;
    }

    /// What was given back cost nothing.
    fn refund(&mut self) {
        let back = std::mem::take(&mut self.given_back);
        if !back.is_empty() {
            self.queue.lanes().refund(&self.slot.site, &back);
        }
    }

    /// The next turn. Without a token for a message there is none.
    fn take(&self) -> Option<(Turn, bool)> {
        let (now, pace) = (self.queue.now(), &self.slot.pace);
        let brief = pace.brief(now.moment);
        if brief.tokens_at.is_some() {
            return None;
        }
        let mut lanes = self.queue.lanes();
        lanes.take(
            &self.slot.site,
            self.batch(now.moment),
            brief.connections,
            now.time,
        )
    }

    /// How many messages a turn has at most.
    fn batch(&self, now: Moment) -> usize {
        self.slot.pace.batch(now).min(self.queue.flow.share())
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
    async fn with_tokens(&self, mut batches: Vec<ClaimedBatch>) -> (Vec<ClaimedBatch>, Tokens) {
        let wanted: usize = batches.iter().map(|batch| batch.messages.len()).sum();
        let tokens = self.take_tokens(wanted);
        if tokens.count == wanted {
            return (batches, tokens);
        }
        let (mut left, mut back) = (tokens.count, Vec::new());
        for batch in &mut batches {
            let keep = left.min(batch.messages.len());
            left -= keep;
            let over = batch.messages.split_off(keep);
            back.extend(over);
        }
        batches.retain(|batch| !batch.messages.is_empty());
        self.queue.release(back).await;
        (batches, tokens)
    }

    fn take_tokens(&self, wanted: usize) -> Tokens {
        let tokens = self
            .slot
            .pace
            .take_tokens(wanted, self.queue.clock.moment());
        if self.slot.pace.has_long_rates() {
            self.queue.sites.note_soon();
        }
        tokens
    }

    /// Puts back all tokens but these.
    fn put_back_tokens(&self, tokens: Tokens, used: usize) {
        let unused = Tokens {
            count: tokens.count.saturating_sub(used),
            ..tokens
        };
        self.slot
            .pace
            .put_back_tokens(unused, self.queue.clock.moment());
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

    /// Claims due messages of lanes, without the lanes that an administrator has paused. Messages
    /// that do not belong to this site go to the loop.
    async fn claim(&self, lanes: &mut Vec<Lane>) -> Claimed {
        let (queue, pace, site) = (&self.queue, &self.slot.pace, &self.slot.site);
        let now = queue.now();
        if queue.sites.has_orders() {
            let paused = |lane: &mut Lane| queue.sites.is_paused(lane.destination(), now.time);
            for lane in lanes.extract_if(.., paused) {
                queue.lanes().pause(&lane, Some(site), now.time);
            }
        }
        let wanted = match queue.may_claim(now.moment) && !lanes.is_empty() {
            true => self.batch(now.moment),
            false => 0,
        };
        let tokens = self.take_tokens(wanted);
        let claimed = match tokens.count {
            0 => Ok(Vec::new()),
            max => queue.claim(Which::Lanes(lanes.clone()), max).await,
        };
        let messages = claimed.as_deref().unwrap_or_default();
        self.put_back_tokens(tokens, messages.len());
        let costs = costs(lanes, messages);
        let shares = Share::of(messages);
        let more = {
            let mut all = queue.lanes();
            // Before the lanes wait again: nothing of them is new here.
            all.hold(site, &shares);
            for (lane, cost) in lanes.iter().zip(costs) {
                all.done(lane, site, cost, now.time);
            }
            pace.has_room(now.moment) && all.has_more(site)
        };
        let hand = Hand::held(queue, site, shares, self.used);
        if more {
            self.slot
                .note(WorkerNote::More { site: site.clone() })
                .await;
        }
        let Ok(messages) = claimed else {
            self.slot.note(WorkerNote::StoreFailed).await;
            return Claimed::End;
        };
        if messages.is_empty() && !queue.may_claim(now.moment) {
            return Claimed::End;
        }
        let claimed = Tokens {
            count: messages.len(),
            ..tokens
        };
        let batches = self.sort(messages).await;
        // Messages that go elsewhere need no token here.
        let count = batches.iter().map(|batch| batch.messages.len()).sum();
        self.put_back_tokens(claimed, count);
        Claimed::Some(batches, Tokens { count, ..claimed }, hand)
    }

    /// Sorts claimed messages by their plans. Those that go elsewhere are given to the loop.
    async fn sort(&self, messages: Vec<Queued>) -> Vec<ClaimedBatch> {
        let (config, now) = (self.queue.config.load_full(), self.queue.clock.moment());
        let (mut batches, mut back) = (Vec::new(), Vec::new());
        for messages in by_destination(messages) {
            for (course, messages) in self.queue.courses(&config, messages, now) {
                match course {
                    Course::Known { plan, stale } if plan.site == self.slot.site => {
                        if let Some(key) = stale {
                            self.slot.note(WorkerNote::Stale { key }).await;
                        }
                        // The limits may be others than when the lane came to the site.
                        let domain = messages.first().map(Queued::destination);
                        let (queue, domain) = (&self.queue, domain.unwrap_or_default());
                        queue.sites.planned(&plan, &domain, queue.now());
                        batches.push(ClaimedBatch {
                            plan,
                            messages,
                            claimed: now,
                        });
                    }
                    _ => back.extend(messages),
                }
            }
        }
        if !back.is_empty() {
            let time = self.queue.clock.now();
            for message in &back {
                self.queue.lanes().replan(&message.lane(), time);
            }
            let note = WorkerNote::Back {
                messages: back,
                claimed: now,
            };
            self.slot.note(note).await;
        }
        batches
    }

    /// Waits for a turn, if there is a connection worth keeping. Returns false when none came.
    async fn wait(&mut self) -> bool {
        let Some(kept) = &mut self.kept else {
            return false;
        };
        kept.set_usage(Usage::Idle);
        let woken = self.wait_idle().await;
        if let Some(kept) = &mut self.kept {
            kept.set_usage(Usage::Busy);
        }
        woken
    }

    async fn wait_idle(&self) -> bool {
        let Some(kept) = &self.kept else {
            return false;
        };
        let mean = kept.mean();
        let (wake, mut woken) = mpsc::channel(1);
        let note = WorkerNote::Idle {
            site: self.slot.site.clone(),
            wake,
            mean,
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
    async fn attempt(&mut self, batches: Vec<ClaimedBatch>, tokens: Tokens) -> bool {
        let count = batches.iter().map(|batch| batch.messages.len()).sum();
        let _working = self.slot.pace.work(count);
        let messages = batches.iter().flat_map(|batch| &batch.messages);
        let claimed: u64 = messages.clone().map(cost).sum();
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
        let (settles, transcripts, back, connects) = tokio::select! {
            delivered = self.deliver(batches) => delivered,
            never = renewing => never,
        };
        let back = Share::of(&back);
        let cost = claimed
            - back
                .iter()
                .map(|share| share.cost)
                .sum::<u64>()
                .min(claimed);
        self.used = match self.queue.flow.has_others() {
            true => self.used.saturating_add(cost),
            false => 0,
        };
        self.given_back = back;
        let attempted = settles.iter().filter(|settle| settle.attempt.is_some());
        self.put_back_tokens(tokens, attempted.count());
        // Results of the batch before this one are stored by now, or this waits for them: so there
        // is a bound.
        while self.settling.join_next().await.is_some() {}
        let queue = Arc::clone(&self.queue);
        // They go into the same batch of the store.
        self.settling.spawn(async move {
            tokio::join!(queue.keep_transcripts(transcripts), queue.settle(settles));
        });
        connects
    }

    async fn deliver(
        &mut self,
        batches: Vec<ClaimedBatch>,
    ) -> (Settlements, Vec<(QueueId, Transcript)>, Vec<Queued>, bool) {
        let config = self.queue.config.load_full();
        let (mut settles, mut transcripts, mut back) =
            (Settlements::default(), Vec::new(), Vec::new());
        let (mut connects, mut counts) = (true, Counts::default());
        for (plan, messages) in by_plan(batches) {
            let messages = self
                .queue
                .keep_unsuppressed(&config, messages, &mut settles)
                .await;
            if plan.stays_here() {
                let (queue, count) = (&self.queue, messages.len());
                for message in messages {
                    let settle = match queue.delivery {
                        DeliveryMode::Local => queue.deliver_here(&config, message).await,
                        DeliveryMode::Remote => queue.deliver_to_mailbox(&config, message).await,
                    };
                    counts.note(settle.settle.outcome);
                    settles.push(settle);
                }
                let now = self.queue.clock.moment();
                let pace = &self.slot.pace;
                pace.succeeded((count, count), Duration::ZERO, None, now);
                if self.slot.pace.answered(count, Duration::ZERO, now) {
                    self.slot.answers().await;
                }
            } else if !messages.is_empty() {
                let queue = &self.queue;
                let delivered = queue
                    .deliver(&config, &plan, messages, &mut self.kept, &self.slot)
                    .await;
                connects = connects && delivered.connects;
                transcripts.extend(delivered.transcripts);
                for message in &delivered.given_back {
                    settles.push(released(message, None));
                }
                back.extend(delivered.given_back);
                let before = settles.take_traces(delivered.traces);
                for ended in delivered.ended {
                    let trace = before + ended.trace;
                    let ended = EndedAttempt { trace, ..ended };
                    let settle = queue.settlement(&config, ended).await;
                    counts.note(settle.settle.outcome);
                    settles.push(settle);
                }
                for postponed in delivered.postponed {
                    settles.push(queue.postponement(&config, postponed).await);
                }
                for (lane, until) in delivered.held {
                    let now = queue.now();
                    let until = now.time_of(until);
                    queue.lanes().wait_for_source(&lane, until, now.time);
                }
            }
        }
        let now = self.queue.clock.moment();
        self.slot.pace.count(counts, now);
        (settles, transcripts, back, connects)
    }
}

/// What the messages of each of these lanes cost.
fn costs(lanes: &[Lane], messages: &[Queued]) -> Vec<u64> {
    if let [_] = lanes {
        return vec![messages.iter().map(cost).sum()];
    }
    let mut costs = vec![0; lanes.len()];
    for message in messages {
        let of = message.lane();
        let at = lanes.iter().position(|lane| *lane == of);
        if let Some(sum) = at.and_then(|at| costs.get_mut(at)) {
            *sum += cost(message);
        }
    }
    costs
}

/// Messages of one destination are together already.
pub(super) fn by_destination(messages: Vec<Queued>) -> Vec<Vec<Queued>> {
    let mut groups: Vec<Vec<Queued>> = Vec::new();
    for message in messages {
        let last = groups.last_mut().filter(|group| {
            let first = group.first();
            first.is_some_and(|first| first.recipient.host == message.recipient.host)
        });
        match last {
            Some(group) => group.push(message),
            None => groups.push(vec![message]),
        }
    }
    groups
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
        settles: &mut Settlements,
    ) -> Vec<Queued> {
        let mut kept = Vec::with_capacity(messages.len());
        let now = self.clock.now();
        for message in messages {
            if let Some(status) = deadline::missed(&message, now) {
                settles.push(self.missed(config, message, status).await);
                continue;
            }
            match self.suppression_of(&message).await {
                Ok(Some(entry)) => settles.push(self.suppressed(config, message, &entry).await),
                Ok(None) => kept.push(message),
                Err(error) => {
                    // To mail an address once more harms less than to fail a message by mistake.
                    error!(%error, "failed to read the suppression list");
                    kept.push(message);
                }
            }
        }
        deadline::sort(kept)
    }
}
