//! The loop of the queue: it finds lanes that are due, has plans made for them, puts them at their
//! sites, and waits for the next event.
//!
//! | step | where | its limit |
//! |---|---|---|
//! | follow the heads of lanes, move those that are due | `schedule/lanes.rs` | one entry a lane |
//! | find the site of a lane; tasks make new plans | `course`, `planning`, `dispatch` | [`PLANNING_MAX`] |
//! | begin or wake workers of the site | `serve` | `queue.max_concurrency` and the site's limits |
//! | claim messages of lanes, deliver them | `worker`, one for each connection | `schedule::share` |
//! | make way for others in the middle of a batch | `hand` | one worker for who comes |
//! | look at lanes that wait for long | `review` | [`REVIEWS_MAX`] |
//! | move messages whose route changed | `reroute` | a page at a time |
//! | what goes on beside the loop | `beside` | a task each |
//!
//! Only workers claim messages, each for its own site and just before it sends them. So what waits
//! is in the store, and no message of a site that is halted is touched. When nothing waits for its
//! site, a worker is idle for a little while with its connection open.

mod beside;
mod course;
mod dispatch;
mod hand;
mod planning;
mod reroute;
mod review;
mod serve;
mod worker;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use postrider_config::Providers;
use postrider_store::{
    Claim, Lane, Moment, NewText, Outcome, Party, QueueId, Queued, Settle, StoreError, Time,
    Transcript, Which,
};
use tokio::{
    sync::{mpsc, watch},
    task::{Id, JoinError, JoinSet},
};
use tracing::{error, warn};

use crate::{
    Queue,
    next_hop::{PlanKey, Site},
    schedule::{self, InFlight, LEASE, Lanes, Pace, Wait, WaitingSites, Wakes},
    settle::Postponed,
    told::{Settlement, Settlements},
};
use beside::Beside;
use hand::Hand;
use planning::Planning;
use review::Next;
pub(crate) use serve::paused;

/// How long to wait before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// How many tasks make plans, end messages without a plan, or give messages back. While there are
/// more, no further lane is planned.
const PLANNING_MAX: usize = 512;
/// How many lanes are looked at, at once, that wait for long.
const REVIEWS_MAX: usize = 4;
/// A claim is shared by so many of its lanes, if they have enough messages.
const LANES_PER_CLAIM: usize = 4;
/// How many lanes are read from the store at once.
const LANES_PAGE: usize = 500;

/// The wake-up of an idle worker.
type Wake = mpsc::Sender<()>;

/// What the loop tells its workers.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// An administrator has stopped all deliveries.
    stopped: AtomicBool,
    /// So many sites wait for a place that others have.
    wanted: AtomicUsize,
    /// So many workers have something to do.
    busy: AtomicUsize,
}

impl Flow {
    /// Whether other sites wait for a place.
    fn has_others(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// How many messages a worker takes at once.
    fn share(&self) -> usize {
        schedule::share(self.busy.load(Ordering::Relaxed))
    }
}

/// When the loop looks again, if nothing happens before.
enum NextLook {
    /// When a lane is due.
    Due(Time),
    /// After a pause.
    Paused(Moment),
    /// Nothing but an event is waited for.
    Event,
}

/// A note of a worker.
#[derive(Debug)]
enum WorkerNote {
    /// The worker has nothing to do and waits, its connection open, whose transactions took so long
    /// on average.
    Idle {
        site: Site,
        wake: Wake,
        mean: Duration,
    },
    /// The worker is gone. Its messages cost so much while other sites waited for a place.
    Ended { site: Site, used: u64 },
    /// There is more to do at the site than one worker does.
    More { site: Site },
    /// The store gave no messages, and is not to be asked for a while.
    StoreFailed,
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
    /// What the worker has in its hands.
    pub(crate) hand: Option<Arc<Hand>>,
}

impl Slot {
    /// A place beside those of the workers. Nobody hears of what happens there.
    pub(crate) fn aside(pace: Arc<Pace>) -> Self {
        let (notes, _) = mpsc::channel(1);
        Self {
            site: pace.site().clone(),
            pace,
            notes,
            hand: None,
        }
    }

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

/// The loop, and what it knows.
struct QueueLoop {
    queue: Arc<Queue>,
    in_flight: InFlight<Wake>,
    workers: JoinSet<()>,
    /// The site of each worker.
    sites: HashMap<Id, Site>,
    notes: mpsc::Sender<WorkerNote>,
    planning: Planning,
    /// The lanes that wait for long and are to be looked at, with the sites where they wait.
    to_review: VecDeque<(Lane, Option<Site>)>,
    reviews: JoinSet<(Lane, Next)>,
    /// Sites that wait for a token, or for the end of a halt.
    wakes: Wakes,
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
    /// All lanes of the store are known.
    lanes_read: bool,
    /// The store failed, and is not asked before then.
    store_rests: Option<Moment>,
    /// When the next order ends by itself.
    order_ends: Option<Time>,
    /// A worker failed, and its claims end then.
    lapse: Option<Moment>,
    /// Nothing is delivered at this time.
    halted: bool,
    /// The entries of providers that the limits of sites come from.
    providers: Option<Arc<Providers>>,
}

impl Queue {
    /// Delivers due messages until `shutdown` is true. Then waits for the attempts that are under
    /// way.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let (beside, restored) = Beside::begin(&self, &shutdown);
        // Nothing is tried at a site that was paused or blocked before.
        tokio::select! {
            _ = restored => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        self.store.follow_lanes();
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
            to_review: VecDeque::new(),
            reviews: JoinSet::new(),
            wakes: Wakes::default(),
            waiting: WaitingSites::default(),
            unproven: WaitingSites::default(),
            poor: WaitingSites::default(),
            probes: WaitingSites::default(),
            lanes_read: false,
            store_rests: None,
            order_ends: self.sites.next_end(self.clock.now()),
            lapse: None,
            halted: false,
            providers: None,
        };
        while !*shutdown.borrow() {
            changed.mark_unchanged();
            unsettled.mark_unchanged();
            let next = queue_loop.advance().await;
            let go_on = queue_loop.next_go();
            let order_ends = queue_loop.order_ends;
            let due = async {
                match next {
                    NextLook::Due(time) => self.clock.sleep_until(time).await,
                    NextLook::Paused(until) => self.clock.sleep_until_moment(until).await,
                    NextLook::Event => std::future::pending().await,
                }
            };
            // What is ready at the same time is taken in this order, so that a course can be had
            // again. Nothing starves: what is below is taken behind this, or only wakes the loop.
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => {}
                _ = ordered.changed() => queue_loop.follow_orders(),
                () = self.until_time(order_ends) => queue_loop.end_orders(),
                () = self.until(go_on) => queue_loop.let_go_on(),
                Some(note) = inbox.recv() => queue_loop.take_note(note),
                Some(planned) = queue_loop.planning.next() => queue_loop.take_plan(planned),
                Some(reviewed) = queue_loop.reviews.join_next() => queue_loop.take_review(reviewed),
                Some(ended) = queue_loop.workers.join_next_with_id() => queue_loop.forget(ended),
                _ = changed.changed() => {}
                _ = unsettled.changed() => {}
                () = due => {}
            }
            queue_loop.take_all(&mut inbox);
            queue_loop.begin_waiting();
        }
        queue_loop.stop(inbox).await;
        beside.end().await;
    }

    /// What each lane waits for. The lock is held for a moment, never over a wait.
    pub(crate) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the heads of lanes that changed in the store.
    fn follow_lanes(&self) {
        // Both under one lock: else an older head could come after a newer one.
        let mut lanes = self.lanes();
        lanes.follow(self.store.changed_lanes());
    }

    fn next_unplanned(&self) -> Option<Lane> {
        self.lanes().next_unplanned()
    }

    /// Whether messages may be claimed now.
    fn may_claim(&self, now: Moment) -> bool {
        !self.faults.is_unsettled()
            && self.faults.until(now).is_none()
            && !self.flow.stopped.load(Ordering::Relaxed)
    }

    /// Claims messages. Afterwards the heads of their lanes are known. Messages whose route is
    /// another than that of their lane move, and are not among those that this gives.
    async fn claim(&self, which: Which, max: usize) -> Result<Vec<Queued>, StoreError> {
        let each = match &which {
            Which::Lanes(lanes) => max.div_ceil(lanes.len().clamp(1, LANES_PER_CLAIM)),
            Which::All | Which::Messages(_) => max,
        };
        let claim = Claim {
            now: self.clock.now(),
            moment: self.clock.moment(),
            max,
            max_per_lane: each,
            which,
            lease: LEASE,
        };
        let claimed = self.store.claim(claim).await;
        self.follow_lanes();
        Ok(self.keep_in_place(claimed?.messages).await)
    }

    /// Waits until a time. None: for ever.
    pub(crate) async fn until_time(&self, time: Option<Time>) {
        match time {
            Some(time) => self.clock.sleep_until(time).await,
            None => std::future::pending().await,
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
        let settles = messages.iter().map(|message| released(message, None));
        self.settle(settles.collect()).await;
    }

    /// Stores results, and tells of them then.
    async fn settle(&self, settlements: Settlements) {
        let (settles, untold) = settlements.split();
        let stored = self.store_results(settles).await;
        self.tell_stored(untold, &stored);
    }

    /// Stores results. Tries until the store takes them. Until then nothing is claimed, so no
    /// message is attempted again whose result is not stored. Gives of each whether it is stored.
    async fn store_results(&self, settles: Vec<Settle>) -> Vec<bool> {
        let again: Vec<Settle> = settles.iter().map(copy).collect();
        let mut result = self.store.settle(settles).await;
        let mut unsettled = None;
        let mut ending = false;
        loop {
            let error = match result {
                Ok(stored) => return stored,
                Err(error) => error,
            };
            if ending || !may_pass(&error) {
                let ids: Vec<u64> = again.iter().map(|settle| settle.id.0).collect();
                error!(queue = ?ids, %error, "the results of attempts are not stored; these messages are sent again after the next start");
                return Vec::new();
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
            let settles = again.iter().map(copy).collect();
            result = self.store.settle(settles).await;
        }
    }

    /// Stores what was said in attempts. It is lost if the store can't take it now: results are
    /// worth a wait, and transcripts are not.
    async fn keep_transcripts(&self, transcripts: Vec<(QueueId, Transcript)>) {
        if transcripts.is_empty() {
            return;
        }
        if let Err(error) = self.store.keep_transcripts(transcripts).await {
            warn!(%error, "the transcripts of attempts are not stored");
        }
    }

    /// Gives back messages of a site where nothing is to be tried.
    async fn postpone(&self, messages: Vec<Queued>, wait: &Wait) {
        let (config, now) = (self.config.load_full(), self.clock.now());
        let until = now.after(wait.until.since(self.clock.moment()));
        let mut settles = Settlements::default();
        for message in messages {
            let postponed = Postponed::by(message, wait, until);
            settles.push(self.postponement(&config, postponed).await);
        }
        self.settle(settles).await;
    }
}

/// Gives a message back as if it had not been claimed. `route`: that of its next attempt, if it is
/// another.
fn released(message: &Queued, route: Option<String>) -> Settlement {
    Settlement::quiet(Settle {
        id: message.id,
        fence: message.fence,
        party: Party::Claimant,
        attempt: None,
        outcome: Outcome::Release,
        route,
        delay_told: false,
        text: None,
        queue: Vec::new(),
        mails: Vec::new(),
        hooks: Vec::new(),
        suppress: Vec::new(),
        events: Vec::new(),
        reports: Vec::new(),
    })
}

/// A copy of a settlement, to be tried again. A DSN is the only text that a settlement has, and it
/// is in memory.
fn copy(settle: &Settle) -> Settle {
    let text = match &settle.text {
        Some(NewText::Inline(text)) => Some(NewText::Inline(text.clone())),
        Some(NewText::File(_)) | None => None,
    };
    Settle {
        id: settle.id,
        fence: settle.fence,
        party: settle.party,
        attempt: settle.attempt.clone(),
        outcome: settle.outcome,
        route: settle.route.clone(),
        delay_told: settle.delay_told,
        text,
        queue: settle.queue.clone(),
        mails: settle.mails.clone(),
        hooks: settle.hooks.clone(),
        suppress: settle.suppress.clone(),
        events: settle.events.clone(),
        reports: settle.reports.clone(),
    }
}

/// Whether a settlement that failed so may succeed later.
const fn may_pass(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Full | StoreError::Write(_) | StoreError::Read(_)
    )
}

impl QueueLoop {
    /// Takes all results that are there.
    fn take_all(&mut self, inbox: &mut mpsc::Receiver<WorkerNote>) {
        while let Ok(note) = inbox.try_recv() {
            self.take_note(note);
        }
        while let Some(planned) = self.planning.try_next() {
            self.take_plan(planned);
        }
        while let Some(reviewed) = self.reviews.try_join_next() {
            self.take_review(reviewed);
        }
        while let Some(ended) = self.workers.try_join_next_with_id() {
            self.forget(ended);
        }
    }

    /// Moves what is due to where it waits for a worker. Gives when to look again.
    async fn advance(&mut self) -> NextLook {
        let queue = Arc::clone(&self.queue);
        let now = queue.now();
        let is_full = self.in_flight.room(&queue.statics.queue) == 0;
        queue.used_up.store(is_full, Ordering::Relaxed);
        if let Some(look) = self.halt(now.moment).await {
            self.halted = true;
            return look;
        }
        queue.follow_lanes();
        self.follow_providers();
        if std::mem::take(&mut self.halted) {
            self.serve_all();
        }
        let is_known = |site: &Site| queue.sites.is_known(site);
        let due = queue.lanes().advance(now.time, is_known);
        for (site, lanes) in due {
            self.arrived(&site, &lanes);
        }
        while self.planning.count() < PLANNING_MAX {
            let Some(lane) = queue.next_unplanned() else {
                break;
            };
            self.plan(lane).await;
        }
        self.review();
        self.begin_waiting();
        let wakes = queue.lanes().wakes_at();
        wakes.map_or(NextLook::Event, NextLook::Due)
    }

    /// Whether nothing is to be delivered now, and when to look again then.
    async fn halt(&mut self, now: Moment) -> Option<NextLook> {
        let queue = Arc::clone(&self.queue);
        // The end of this wakes the loop.
        if queue.faults.is_unsettled() {
            return Some(NextLook::Event);
        }
        if let Some(until) = queue.faults.until(now) {
            return Some(NextLook::Paused(until));
        }
        if let Some(until) = self.store_rests.filter(|until| now < *until) {
            return Some(NextLook::Paused(until));
        }
        self.store_rests = None;
        match self.ask_store(now).await {
            Ok(stopped) => {
                queue.flow.stopped.store(stopped, Ordering::Relaxed);
                // A start wakes the loop.
                stopped.then_some(NextLook::Event)
            }
            Err(error) => {
                error!(%error, "failed to ask the store for what is due");
                let until = now.after(STORE_RETRY);
                self.store_rests = Some(until);
                Some(NextLook::Paused(until))
            }
        }
    }

    /// Asks the store whether deliveries are stopped. Before that, reads all lanes if they are not
    /// known yet, and ends claims whose time is over if a worker failed.
    async fn ask_store(&mut self, now: Moment) -> Result<bool, StoreError> {
        let queue = Arc::clone(&self.queue);
        if self.lapse.is_some_and(|lapse| lapse <= now) {
            self.lapse = None;
            queue.claim(Which::Lanes(Vec::new()), 0).await?;
        }
        if !self.lanes_read {
            let mut after = None;
            loop {
                let lanes = queue.store.lanes(after, LANES_PAGE).await?;
                let is_last = lanes.len() < LANES_PAGE;
                after = lanes.last().map(|(lane, _)| lane.clone());
                let heads = lanes.into_iter().map(|(lane, head)| (lane, Some(head)));
                queue.lanes().follow(heads.collect());
                if is_last {
                    break;
                }
            }
            self.lanes_read = true;
        }
        Ok(queue.store.stops().await?.deliveries.is_some())
    }

    /// Whether nothing is to be delivered now, as far as is known without a question.
    fn is_halted(&self) -> bool {
        let now = self.queue.clock.moment();
        !self.queue.may_claim(now) || self.store_rests.is_some_and(|until| now < until)
    }

    fn serve_all(&mut self) {
        let sites = self.queue.lanes().sites();
        sites.iter().for_each(|site| self.serve(site));
    }

    /// When something may go on that waits for a token, for the end of a halt or of a pause.
    fn next_go(&self) -> Option<Moment> {
        let lapse = self.lapse.filter(|_| !self.is_halted());
        self.wakes.next().into_iter().chain(lapse).min()
    }

    /// Sites may go on.
    fn let_go_on(&mut self) {
        let now = self.queue.now();
        for site in self.wakes.take(now.moment) {
            self.serve(&site);
        }
    }

    /// An order ended by itself.
    fn end_orders(&mut self) {
        self.queue.sites.follow_all(self.queue.now());
        self.follow_orders();
    }

    /// Orders of administrators changed.
    fn follow_orders(&mut self) {
        let now = self.queue.now();
        self.queue.lanes().go_on(now.time);
        self.serve_all();
        self.order_ends = self.queue.sites.next_end(now.time);
    }

    fn take_note(&mut self, note: WorkerNote) {
        match note {
            WorkerNote::Idle { site, wake, mean } => {
                self.in_flight.rest(&site, wake, mean);
                self.serve(&site);
            }
            WorkerNote::Ended { site, used } => {
                self.in_flight.end(&site, mpsc::Sender::is_closed);
                self.waiting.charge(&site, used);
                self.serve(&site);
            }
            WorkerNote::More { site } => self.serve(&site),
            WorkerNote::StoreFailed => {
                self.store_rests = Some(self.queue.clock.moment().after(STORE_RETRY));
            }
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
                error!("a delivery worker panicked; its messages are attempted again later");
                let now = self.queue.now();
                // Its claims end by themselves.
                self.lapse = Some(now.moment.after(LEASE));
                if let Some(site) = self.sites.remove(&panic.id()) {
                    self.queue.lanes().rescue(&site, now.time);
                    self.take_note(WorkerNote::Ended { site, used: 0 });
                }
            }
        }
    }

    /// Ends the queue. Idle workers end as their inboxes close, and busy workers when their
    /// messages have results. All other claimed messages go back to the store.
    async fn stop(mut self, mut inbox: mpsc::Receiver<WorkerNote>) {
        self.queue.faults.end();
        let mut left = self.planning.stop();
        self.in_flight.dismiss();
        let claimed = self.queue.lanes().close().into_iter();
        left.extend(claimed.flat_map(|batch| batch.messages));
        drop(self.notes);
        while let Some(note) = inbox.recv().await {
            if let WorkerNote::Back { messages, .. } = note {
                left.extend(messages);
            }
        }
        while self.workers.join_next().await.is_some() {}
        self.planning.ended().await;
        while self.reviews.join_next().await.is_some() {}
        if !left.is_empty() {
            self.queue.release(left).await;
        }
    }
}
