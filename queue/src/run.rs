//! The loop of the queue: it claims due messages, has plans made, hands messages to workers, and
//! waits for the next event.
//!
//! | step | where | its limit |
//! |---|---|---|
//! | claim due messages | here | free workers, [`PLANNING_MAX`], [`HELD_MAX`] |
//! | sort them by plan; tasks make new plans | `dispatch` | planned destinations are not claimed |
//! | put them into turns | `schedule/turns.rs` | a site takes so many; the rest goes back |
//! | deliver them | `worker`, one for each connection | `queue.max_concurrency` and the site's limits |
//!
//! A worker takes turns itself, and claims more of its destinations itself. When nothing waits for
//! its site, the worker is idle for a little while with its connection open. Queued messages that
//! are not in flight cost no memory here. Only the names of destinations whose site is full do.

mod dispatch;
mod worker;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use postrider_store::{Claim, Moment, Outcome, Party, Queued, Settle, StoreError, Time};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{Id, JoinError, JoinSet},
    time::Sleep,
};
use tracing::error;

use crate::{
    Queue,
    next_hop::{PlanKey, Site},
    schedule::{InFlight, Pace, Wait},
    settle::{self, Postponed},
};
use dispatch::Planning;

/// How long to wait before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// How many tasks make plans, end messages without a plan, or give messages back. While there are
/// more, nothing is claimed.
const PLANNING_MAX: usize = 512;
/// How many destinations are held because their sites are full. While there are more, nothing is
/// claimed.
const HELD_MAX: usize = 100_000;
/// From so many held destinations on, claims are made less often.
const HELD_MANY: usize = 1000;
/// The pause after a claim for each destination that it left out: the store walks past each of
/// them.
const PAUSE_PER_HELD: Duration = Duration::from_micros(5);

/// The wake-up of an idle worker.
type Wake = mpsc::Sender<()>;

/// When the loop claims again, if nothing happens before.
enum NextClaim {
    /// When a message is due.
    Due(Time),
    /// After a pause.
    Paused(Moment),
}

/// A note of a worker.
#[derive(Debug)]
enum WorkerNote {
    /// The worker has nothing to do and waits, its connection open.
    Idle { site: Site, wake: Wake },
    /// The worker is gone.
    Ended { site: Site },
    /// There is room for destinations that were held. They may be claimed again.
    Room,
    /// A worker claimed messages that do not belong to its site, or have no plan.
    Back {
        messages: Vec<Queued>,
        claimed: Moment,
    },
    /// A plan is still used, but a new one is to be made.
    Stale { key: PlanKey },
    /// The site answers, as it did not before, or it answers fast now.
    Answers { site: Site },
    /// A connection waits long for its greeting, or does so no more.
    Slow { site: Site, slow: bool },
}

/// A worker's place at its site, as its attempts see it.
pub(crate) struct Slot {
    site: Site,
    pub(crate) pace: Arc<Pace>,
    notes: mpsc::Sender<WorkerNote>,
}

impl Slot {
    /// The site answers, as it did not before, or it answers fast now.
    pub(crate) async fn answers(&self) {
        let site = self.site.clone();
        self.note(WorkerNote::Answers { site }).await;
    }

    /// The connection waits long for its greeting, or does so no more.
    pub(crate) async fn slow(&self, slow: bool) {
        let site = self.site.clone();
        self.note(WorkerNote::Slow { site, slow }).await;
    }

    async fn note(&self, note: WorkerNote) {
        // The loop takes notes until the last worker has ended.
        let _ = self.notes.send(note).await;
    }
}

/// Sites in the order in which they came, each once.
#[derive(Debug, Default)]
struct WaitingSites {
    order: VecDeque<Site>,
    known: HashSet<Site>,
}

impl WaitingSites {
    fn push(&mut self, site: &Site) {
        if self.known.insert(site.clone()) {
            self.order.push_back(site.clone());
        }
    }

    fn push_front(&mut self, site: Site) {
        if self.known.insert(site.clone()) {
            self.order.push_front(site);
        }
    }

    fn pop(&mut self) -> Option<Site> {
        let site = self.order.pop_front()?;
        self.known.remove(&site);
        Some(site)
    }

    /// Whether other sites than this one wait.
    fn has_others(&self, site: &Site) -> bool {
        self.order.len() > usize::from(self.known.contains(site))
    }
}

/// The loop, and what it knows.
struct QueueLoop {
    queue: Arc<Queue>,
    in_flight: InFlight<Wake>,
    workers: JoinSet<()>,
    /// The site of each worker.
    sites: HashMap<Id, Site>,
    notes: mpsc::Sender<WorkerNote>,
    planning: Planning,
    /// Sites with messages that wait only because there are as many workers as there may be.
    waiting: WaitingSites,
    /// Sites that wait because sites that are not known to answer have all places that they may
    /// have.
    unproven: WaitingSites,
    /// Sites that wait because sites that are known to fail or to be slow have all places that they
    /// may have.
    poor: WaitingSites,
    /// Sites that wait because probes have all places that they may have.
    probes: WaitingSites,
    /// No claim before its end.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Queue {
    /// Delivers due messages until `shutdown` is true. Then waits for the attempts that are under
    /// way.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let refreshing = self.policies.as_ref().map(|policies| {
            let policies = Arc::clone(policies);
            tokio::spawn(policies.run(shutdown.clone()))
        });
        let (known, restored) = oneshot::channel();
        let keeper = Arc::clone(&self);
        let keeper = tokio::spawn(async move { keeper.keep_sites(known).await });
        // Nothing is tried at a site that was paused or blocked before.
        let _ = restored.await;
        let mut changed = self.store.queue_changed();
        let mut unsettled = self.faults.unsettled();
        let mut ordered = self.sites.changed();
        let (notes, mut inbox) = mpsc::channel(64);
        let mut queue_loop = QueueLoop {
            queue: Arc::clone(&self),
            in_flight: InFlight::new(Arc::clone(&self.sites)),
            workers: JoinSet::new(),
            sites: HashMap::new(),
            notes,
            planning: Planning::default(),
            waiting: WaitingSites::default(),
            unproven: WaitingSites::default(),
            poor: WaitingSites::default(),
            probes: WaitingSites::default(),
            pause: None,
        };
        while !*shutdown.borrow() {
            changed.mark_unchanged();
            unsettled.mark_unchanged();
            let next = queue_loop.claim().await;
            let go_on = queue_loop.next_go();
            let due = async {
                match next {
                    Some(NextClaim::Due(time)) => self.clock.sleep_until(time).await,
                    Some(NextClaim::Paused(until)) => self.clock.sleep_until_moment(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                _ = unsettled.changed() => {}
                _ = ordered.changed() => queue_loop.follow_orders(),
                () = self.until(go_on) => queue_loop.let_go_on(),
                () = due => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
                Some(note) = inbox.recv() => queue_loop.take_note(note),
                () = end_of(&mut queue_loop.pause) => {}
                Some(planned) = queue_loop.planning.next() => queue_loop.take_plan(planned),
                Some(ended) = queue_loop.workers.join_next_with_id() => queue_loop.forget(ended),
            }
            while let Ok(note) = inbox.try_recv() {
                queue_loop.take_note(note);
            }
            while let Some(planned) = queue_loop.planning.try_next() {
                queue_loop.take_plan(planned);
            }
            queue_loop.begin_waiting();
        }
        queue_loop.stop(inbox).await;
        if let Some(refreshing) = refreshing {
            // It fails only if it panicked.
            let _ = refreshing.await;
        }
        if let Err(panic) = keeper.await {
            error!(%panic, "noting what is known of sites failed");
        }
    }

    /// Waits until a moment. None: for ever.
    async fn until(&self, moment: Option<Moment>) {
        match moment {
            Some(moment) => self.clock.sleep_until_moment(moment).await,
            None => std::future::pending().await,
        }
    }

    /// Gives messages back to the store, as if they had not been claimed.
    async fn release(&self, messages: Vec<Queued>) {
        let settles = messages.iter().map(|message| Settle {
            id: message.id,
            fence: message.fence,
            party: Party::Claimant,
            attempt: None,
            outcome: Outcome::Release,
            delay_told: false,
            text: None,
            queue: Vec::new(),
            mails: Vec::new(),
            hooks: Vec::new(),
            suppress: Vec::new(),
            events: Vec::new(),
        });
        self.settle(settles.collect()).await;
    }

    /// Stores results. Tries until the store takes them. Until then nothing is claimed, so no
    /// message is attempted again whose result is not stored.
    async fn settle(&self, settles: Vec<Settle>) {
        let again: Vec<Settle> = settles.iter().map(settle::copy).collect();
        let mut result = self.store.settle(settles).await;
        let mut unsettled = None;
        let mut ending = false;
        while let Err(error) = result {
            if ending || !may_pass(&error) {
                let ids: Vec<u64> = again.iter().map(|settle| settle.id.0).collect();
                error!(?ids, %error, "the results of attempts are not stored; these messages are sent again after the next start");
                return;
            }
            if !self.faults.is_unsettled() {
                error!(%error, "the results of attempts can't be stored; nothing is delivered until they are");
            }
            unsettled.get_or_insert_with(|| self.faults.unsettle());
            let again_at = self.clock.moment().after(STORE_RETRY);
            tokio::select! {
                () = self.clock.sleep_until_moment(again_at) => {}
                () = self.faults.ended() => ending = true,
            }
            let settles = again.iter().map(settle::copy).collect();
            result = self.store.settle(settles).await;
        }
    }

    /// Gives back messages of a site where nothing is to be tried.
    async fn postpone(&self, messages: Vec<Queued>, wait: &Wait) {
        let (config, now) = (self.config.load_full(), self.clock.now());
        let until = now.after(wait.until.since(self.clock.moment()));
        let mut settles = Vec::with_capacity(messages.len());
        for message in messages {
            let postponed = Postponed {
                message,
                status: wait.status.clone(),
                until,
                failing: wait.failing,
            };
            settles.push(self.postponement(&config, postponed).await);
        }
        self.settle(settles).await;
    }
}

/// Whether a settlement that failed so may succeed later.
const fn may_pass(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Full | StoreError::Write(_) | StoreError::Read(_)
    )
}

/// Waits for the end of a pause. Without a pause it never ends.
async fn end_of(pause: &mut Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) if !pause.is_elapsed() => pause.as_mut().await,
        _ => std::future::pending().await,
    }
}

impl QueueLoop {
    /// Claims due messages and hands them on. Gives when to claim again, if that is known.
    async fn claim(&mut self) -> Option<NextClaim> {
        let queue = Arc::clone(&self.queue);
        let now = (queue.clock.now(), queue.clock.moment());
        let limits = &queue.statics.queue;
        if queue.faults.take_forgiveness() {
            queue.sites.forgive(now.1);
            queue.plans().forgive();
        }
        let is_full = self.in_flight.room(limits) == 0;
        queue.used_up.store(is_full, Ordering::Relaxed);
        // The end of either wakes the loop.
        if queue.faults.is_unsettled() {
            return None;
        }
        if let Some(until) = queue.faults.until(now.1) {
            return Some(NextClaim::Paused(until));
        }
        // All workers are busy. The next note of a worker wakes the loop.
        if is_full
            || !self.waiting.order.is_empty()
            || self.planning.count() >= PLANNING_MAX
            || self.pause.as_ref().is_some_and(|pause| !pause.is_elapsed())
        {
            return None;
        }
        let (_, held) = self.in_flight.waiting();
        if held >= HELD_MAX {
            return None;
        }
        let left_out = self.planning.destinations();
        let left_out = left_out.chain(queue.sites.paused(now.0));
        let claim = self.in_flight.claim(now, limits, left_out)?;
        if claim.except.len() > HELD_MANY {
            let left_out = u32::try_from(claim.except.len()).unwrap_or(u32::MAX);
            let pause = tokio::time::sleep(PAUSE_PER_HELD * left_out);
            self.pause = Some(Box::pin(pause));
        }
        self.claim_and_dispatch(claim).await
    }

    /// When something may go on that waits for a token or for the end of an order.
    fn next_go(&self) -> Option<Moment> {
        let (time, moment) = (self.queue.clock.now(), self.queue.clock.moment());
        let token = self.in_flight.next_token(moment);
        let order = self.queue.sites.next_end(time);
        let order = order.map(|end| moment.after(end.since(time)));
        token.into_iter().chain(order).min()
    }

    /// A token came, or an order ended.
    fn let_go_on(&mut self) {
        for site in self.in_flight.let_ready_go(self.queue.clock.moment()) {
            self.serve(&site);
        }
    }

    /// Orders of administrators changed.
    fn follow_orders(&mut self) {
        for site in self.in_flight.halted(self.queue.clock.moment()) {
            self.serve(&site);
        }
        self.let_go_on();
    }

    async fn claim_and_dispatch(&mut self, claim: Claim) -> Option<NextClaim> {
        let moment = claim.moment;
        match self.queue.store.claim(claim).await {
            Ok(claimed) => {
                self.dispatch(claimed.messages, moment);
                claimed.next_due.map(NextClaim::Due)
            }
            Err(error) => {
                error!(%error, "failed to ask the store for what is due");
                Some(NextClaim::Paused(moment.after(STORE_RETRY)))
            }
        }
    }

    fn take_note(&mut self, note: WorkerNote) {
        match note {
            WorkerNote::Idle { site, wake } => {
                self.in_flight.rest(&site, wake);
                self.serve(&site);
            }
            WorkerNote::Ended { site } => {
                let now = self.queue.clock.moment();
                self.in_flight.end(&site, mpsc::Sender::is_closed, now);
                self.serve(&site);
            }
            WorkerNote::Room => {}
            WorkerNote::Back { messages, claimed } => self.dispatch(messages, claimed),
            WorkerNote::Stale { key } => self.refresh(key),
            WorkerNote::Answers { site } => {
                let now = self.queue.clock.moment();
                self.in_flight.prove(&site, now);
                self.serve(&site);
            }
            WorkerNote::Slow { site, slow } => {
                let now = self.queue.clock.moment();
                self.in_flight.slow(&site, slow, now);
            }
        }
    }

    /// A worker has ended. If it failed, it gave no note.
    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        match ended {
            Ok((id, ())) => {
                self.sites.remove(&id);
            }
            Err(panic) => {
                error!(%panic, "a delivery worker failed; its messages are attempted again later");
                if let Some(site) = self.sites.remove(&panic.id()) {
                    self.take_note(WorkerNote::Ended { site });
                }
            }
        }
    }

    /// Ends the queue. Idle workers end as their inboxes close, and busy workers when their
    /// messages have results. All other claimed messages go back to the store.
    async fn stop(mut self, mut inbox: mpsc::Receiver<WorkerNote>) {
        self.queue.faults.end();
        let mut left = self.planning.stop();
        for turns in self.in_flight.dismiss() {
            left.extend(turns.close().into_iter().flat_map(|batch| batch.messages));
        }
        drop(self.notes);
        while let Some(note) = inbox.recv().await {
            if let WorkerNote::Back { messages, .. } = note {
                left.extend(messages);
            }
        }
        while self.workers.join_next().await.is_some() {}
        self.planning.ended().await;
        if !left.is_empty() {
            self.queue.release(left).await;
        }
    }
}
