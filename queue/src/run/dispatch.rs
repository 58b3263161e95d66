//! From claimed messages to the turns of sites: plans, and workers for what waits.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use postrider_config::Dynamic;
use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode, Host};
use postrider_store::{Destination, Moment, Queued};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::error;

use super::{QueueLoop, Slot, worker::Worker};
use crate::{
    DeliveryMode, Queue,
    mta_sts::Known,
    next_hop::{Plan, PlanKey, Planned, Planner, Site},
    route::{self, Route},
    schedule::{ClaimedBatch, May, Wait},
    settle::{EndedAttempt, LastHop},
};

/// How many claimed messages wait for workers, over all sites. While more wait, a full site takes
/// no further messages.
const WAITING_MAX: usize = 16 * 1024;

/// The way of messages.
#[derive(Clone, Debug)]
pub(super) enum Course {
    /// By a known plan.
    Known {
        plan: Arc<Plan>,
        /// The key of the plan, if a new plan is to be made.
        stale: Option<PlanKey>,
    },
    /// A plan is to be made first.
    Unknown(PlanKey),
    /// Nowhere for now: a look-up had no answer, and the next one is made later.
    Later(Wait),
    /// Nowhere: this is what becomes of the messages.
    End(DeliveryStatus),
}

impl Queue {
    /// Sorts messages of one destination by where they go. As a rule they all go the same way.
    pub(super) fn courses(
        &self,
        config: &Dynamic,
        messages: Vec<Queued>,
        now: Moment,
    ) -> Vec<(Course, Vec<Queued>)> {
        let mut routes: Vec<(Route<'_>, Vec<Queued>)> = Vec::new();
        for message in messages {
            let route = route::route(&message, &self.statics, config);
            match routes.iter_mut().find(|(known, _)| *known == route) {
                Some((_, messages)) => messages.push(message),
                None => routes.push((route, vec![message])),
            }
        }
        let routes = routes.into_iter().filter_map(|(route, messages)| {
            let destination = messages.first()?.destination();
            Some((self.course(config, route, destination, now), messages))
        });
        routes.collect()
    }

    fn course(
        &self,
        config: &Dynamic,
        route: Route<'_>,
        destination: Destination,
        now: Moment,
    ) -> Course {
        let known = |plan| Course::Known { plan, stale: None };
        if self.delivery == DeliveryMode::Local {
            return known(Arc::new(Plan::local(&destination, &self.statics.providers)));
        }
        let transport = match route {
            Route::End(status) => return Course::End(status),
            Route::Direct(transport) => transport,
            Route::Named(transport) => match self.plans().named(transport) {
                Some(plan) => return known(plan),
                None => transport,
            },
        };
        let key = PlanKey {
            destination,
            transport: transport.to_owned(),
        };
        let (found, failure) = {
            let mut plans = self.plans();
            plans.set_providers(&config.providers);
            (plans.find(&key, now), plans.failure(&key, now))
        };
        match found {
            None => match failure {
                Some((until, status)) => Course::Later(Wait {
                    until,
                    failing: true,
                    status,
                }),
                None => Course::Unknown(key),
            },
            Some(found) => match found.plan {
                Ok(plan) => Course::Known {
                    plan,
                    stale: (found.stale && failure.is_none()).then_some(key),
                },
                Err(status) => Course::End(status),
            },
        }
    }

    /// What is known of the MTA-STS policy of a destination. None: MTA-STS does not count.
    async fn policy_of(&self, destination: &Host) -> Option<Known> {
        match (&self.policies, destination) {
            (Some(policies), Host::Domain(domain)) => Some(policies.find(domain.ascii()).await),
            _ => None,
        }
    }

    /// Ends messages that have no plan.
    async fn end_unplanned(&self, messages: Vec<Queued>, status: DeliveryStatus) {
        let (config, start) = (self.config.load_full(), self.clock.now());
        let mut settles = Vec::with_capacity(messages.len());
        let messages = self
            .keep_unsuppressed(&config, messages, &mut settles)
            .await;
        for message in messages {
            let ended = EndedAttempt {
                message,
                status: status.clone(),
                known: None,
                start,
                hop: LastHop::SendsNoDsns,
            };
            settles.push(self.settlement(&config, ended).await);
        }
        self.settle(settles).await;
    }
}

/// The plans that are being made, with the messages that wait for them. Its tasks also end messages
/// without a plan, and give messages back.
#[derive(Default)]
pub(super) struct Planning {
    waiting: HashMap<PlanKey, Vec<WaitsForPlan>>,
    tasks: JoinSet<Option<Planned>>,
    keys: HashMap<Id, (PlanKey, AbortHandle)>,
}

/// Messages that were claimed at this time.
struct WaitsForPlan {
    messages: Vec<Queued>,
    claimed: Moment,
}

/// How a task of [`Planning`] ended. The task has no plan if it was to do something else.
pub(super) type PlanEnded = Result<(Id, Option<Planned>), JoinError>;

impl Planning {
    /// How many tasks there are.
    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// The destinations with messages that wait.
    pub(super) fn destinations(&self) -> impl Iterator<Item = Destination> {
        let waiting = self.waiting.iter();
        waiting
            .filter(|(_, messages)| !messages.is_empty())
            .map(|(key, _)| key.destination.clone())
    }

    /// The end of the next task. None if there is no task.
    pub(super) async fn next(&mut self) -> Option<PlanEnded> {
        self.tasks.join_next_with_id().await
    }

    /// The end of a task that has ended already.
    pub(super) fn try_next(&mut self) -> Option<PlanEnded> {
        self.tasks.try_join_next_with_id()
    }

    /// Has a plan made, unless that is under way. `messages` wait for it.
    fn begin(&mut self, queue: &Arc<Queue>, key: PlanKey, messages: Option<WaitsForPlan>) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.extend(messages);
            return;
        }
        let (queue, wanted) = (Arc::clone(queue), key.clone());
        let task = self.tasks.spawn(async move {
            let settings = route::direct(&queue.statics, &wanted.transport);
            let destination = Host::parse(&wanted.destination).ok()?;
            let providers = Arc::clone(&queue.config.load().providers);
            let planner = Planner {
                resolver: &*queue.resolver,
                providers: &providers,
                ours: &queue.ours,
            };
            let plan = planner.plan(&destination, &wanted.transport, &settings);
            let (planned, known) = tokio::join!(plan, queue.policy_of(&destination));
            Some(match known {
                Some(known) => planned.under(known),
                None => planned,
            })
        });
        self.keys.insert(task.id(), (key.clone(), task));
        self.waiting.insert(key, messages.into_iter().collect());
    }

    /// Gives up all plans. Returns the messages that waited.
    pub(super) fn stop(&mut self) -> Vec<Queued> {
        for (_, task) in self.keys.values() {
            task.abort();
        }
        let waiting = std::mem::take(&mut self.waiting);
        let waiting = waiting.into_values().flatten();
        waiting.flat_map(|waits| waits.messages).collect()
    }

    /// Waits for the end of all tasks.
    pub(super) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl QueueLoop {
    /// Hands on messages that were claimed at `claimed`.
    pub(super) fn dispatch(&mut self, messages: Vec<Queued>, claimed: Moment) {
        let queue = Arc::clone(&self.queue);
        let config = queue.config.load_full();
        let now = queue.clock.moment();
        let (mut waiting, _) = self.in_flight.waiting();
        let mut sites = HashSet::new();
        let mut refused = Vec::new();
        for messages in by_destination(messages) {
            for (course, messages) in queue.courses(&config, messages, now) {
                match course {
                    Course::Known { plan, stale } => {
                        if let Some(key) = stale {
                            self.refresh(key);
                        }
                        waiting += messages.len();
                        sites.insert(plan.site.clone());
                        let batch = batch(plan, messages, claimed);
                        refused.extend(self.place(batch, waiting > WAITING_MAX));
                    }
                    Course::Unknown(key) => {
                        let waits = WaitsForPlan { messages, claimed };
                        self.planning.begin(&queue, key, Some(waits));
                    }
                    Course::Later(down) => self.postpone(messages, down),
                    Course::End(status) => self.end(messages, status),
                }
            }
        }
        self.give_back(refused);
        for site in sites {
            self.serve(&site);
        }
    }

    /// A plan was made, or another task of [`Planning`] ended.
    pub(super) fn take_plan(&mut self, ended: PlanEnded) {
        let (id, planned) = match ended {
            Ok(ended) => ended,
            Err(panic) => {
                error!(%panic, "making a plan failed");
                (panic.id(), None)
            }
        };
        let Some((key, _)) = self.planning.keys.remove(&id) else {
            return;
        };
        let waiting = self.planning.waiting.remove(&key).unwrap_or_default();
        let now = self.queue.clock.moment();
        let planned = match planned {
            Some(planned) => self.remember(&key, planned, now),
            None => Planned {
                plan: Err(DeliveryStatus::transient(
                    Cause::Local,
                    EnhancedCode::SYSTEM_TRANSIENT,
                    format!("no plan could be made for {}", key.destination),
                )),
                fault: None,
                unanswered: false,
                holds: Duration::ZERO,
            },
        };
        let answered = !planned.unanswered;
        let faults = &self.queue.faults;
        let is_literal = key.destination.starts_with('[');
        let out = match planned.fault {
            None if !is_literal => faults.looked_up(&key.destination, answered, now),
            _ => None,
        };
        let plan = match &planned.plan {
            Ok(plan) => plan,
            Err(status) => {
                let messages = waiting.into_iter().flat_map(|waits| waits.messages);
                return self.without_plan(&key, &planned, (status, out), messages.collect());
            }
        };
        let mut refused = Vec::new();
        for WaitsForPlan { messages, claimed } in waiting {
            let batch = batch(Arc::clone(plan), messages, claimed);
            refused.extend(self.place(batch, false));
        }
        self.give_back(refused);
        self.serve(&plan.site);
    }

    /// Remembers a plan.
    fn remember(&self, key: &PlanKey, mut planned: Planned, now: Moment) -> Planned {
        // The entries of providers may have changed during the look-up.
        let providers = Arc::clone(&self.queue.config.load().providers);
        let mut plans = self.queue.plans();
        plans.set_providers(&providers);
        if let (Ok(plan), Ok(destination)) = (&mut planned.plan, Host::parse(&key.destination)) {
            *plan = Arc::new(plan.with(&destination, &providers));
        }
        plans.remember(key.clone(), &planned, now);
        planned
    }

    /// No plan could be made. What the DNS says counts for all messages, and a fault of ours for
    /// none. If there was no answer, that counts for one, as a failed connection does, and the
    /// others wait for the next look-up. `out`: our resolver is out of order until then.
    fn without_plan(
        &mut self,
        key: &PlanKey,
        planned: &Planned,
        (status, out): (&DeliveryStatus, Option<Moment>),
        mut messages: Vec<Queued>,
    ) {
        let now = self.queue.clock.moment();
        let down = |until, failing| Wait {
            until,
            failing,
            status: status.clone(),
        };
        if let Some(fault) = planned.fault {
            let until = self.queue.own_fault(fault, status);
            return self.postpone(messages, down(until, false));
        }
        if !planned.unanswered {
            return self.end(messages, status.clone());
        }
        if let Some(until) = out {
            return self.postpone(messages, down(until, false));
        }
        let max = self.queue.longest_retry_interval();
        let until = self.queue.plans().failed(key, status, max, now);
        let expired = messages.first().is_none_or(|it| self.queue.is_expired(it));
        let others = messages.split_off(usize::from(!expired));
        self.end(messages, status.clone());
        self.postpone(others, down(until, true));
    }

    /// Has a new plan made while the old one is used.
    pub(super) fn refresh(&mut self, key: PlanKey) {
        let queue = Arc::clone(&self.queue);
        self.planning.begin(&queue, key, None);
    }

    /// Puts messages into the turns of their site. Gives the messages without a place: a full site
    /// takes none if there is `no_room`.
    fn place(&mut self, batch: ClaimedBatch, no_room: bool) -> Vec<Queued> {
        let site = batch.plan.site.clone();
        let queue = Arc::clone(&self.queue);
        let now = queue.now();
        let pace = queue.sites.planned(&batch.plan, &batch.destination, now);
        if let Some(wait) = pace.halt(now.moment) {
            self.postpone(batch.messages, wait);
            return Vec::new();
        }
        let may = self.may_begin(&site);
        let waits = matches!(
            may,
            May::NotAtThisSite | May::NotUnproven | May::NotPoor | May::NotProbe
        );
        // Without a token, or while an administrator wants it so, messages wait in the store.
        let stays = pace.brief(now.moment).tokens_at.is_some() || pace.is_paused(now.moment);
        let turns = self.in_flight.turns(&site, now);
        let placed = match stays || (no_room && waits) {
            true => Err(turns.park(batch)),
            false => turns.push(batch),
        };
        placed.map_or_else(|batch| batch.messages, |()| Vec::new())
    }

    fn may_begin(&self, site: &Site) -> May {
        let others = self.waiting.has_others(site);
        let limits = &self.queue.statics.queue;
        self.in_flight
            .may_begin(site, limits, self.queue.now(), others)
    }

    /// Gives back messages that can't be attempted now, in a task.
    fn postpone(&mut self, messages: Vec<Queued>, wait: Wait) {
        if messages.is_empty() {
            return;
        }
        let queue = Arc::clone(&self.queue);
        self.planning.tasks.spawn(async move {
            queue.postpone(messages, &wait).await;
            None
        });
    }

    /// Ends messages without a plan, in a task.
    fn end(&mut self, messages: Vec<Queued>, status: DeliveryStatus) {
        if messages.is_empty() {
            return;
        }
        let queue = Arc::clone(&self.queue);
        self.planning.tasks.spawn(async move {
            queue.end_unplanned(messages, status).await;
            None
        });
    }

    /// Gives messages back to the store, in a task.
    fn give_back(&mut self, messages: Vec<Queued>) {
        if messages.is_empty() {
            return;
        }
        let queue = Arc::clone(&self.queue);
        self.planning.tasks.spawn(async move {
            queue.release(messages).await;
            None
        });
    }

    /// Gives back what waits at a site where nothing is to be tried. Returns false if there is no
    /// such reason.
    fn clear(&mut self, site: &Site) -> bool {
        let now = self.queue.now();
        let pace = self.queue.sites.pace(site, now);
        let turns = pace.turns();
        if let Some(wait) = pace.halt(now.moment) {
            let batches = turns.drain().into_iter();
            let messages: Vec<Queued> = batches.flat_map(|batch| batch.messages).collect();
            if !messages.is_empty() {
                self.postpone(messages, wait);
            }
            self.in_flight.tidy(site);
            return true;
        }
        if pace.is_paused(now.moment) {
            let batches = turns.take_batches().into_iter();
            let messages = batches.flat_map(|batch| turns.park(batch).messages);
            self.give_back(messages.collect());
            return true;
        }
        false
    }

    /// Wakes or begins workers for what waits at a site.
    pub(super) fn serve(&mut self, site: &Site) {
        if self.clear(site) {
            return;
        }
        for _ in 0..self.in_flight.turns_waiting(site) {
            if self.wake(site) {
                continue;
            }
            match self.may_begin(site) {
                May::Begin => self.begin(site),
                May::NotAtThisSite => return,
                May::NotNow | May::AfterOthers => return self.waiting.push(site),
                May::NotUnproven => return self.unproven.push(site),
                May::NotPoor => return self.poor.push(site),
                May::NotProbe => return self.probes.push(site),
            }
        }
    }

    fn wake(&mut self, site: &Site) -> bool {
        while let Some(wake) = self.in_flight.wake(site) {
            // It fails when that worker just gave up waiting. Then it ends by itself.
            if wake.try_send(()).is_ok() {
                return true;
            }
        }
        false
    }

    fn begin(&mut self, site: &Site) {
        // An idle worker of another site ends when nothing can reach it any more.
        let max = self.queue.statics.queue.max_concurrency;
        drop(self.in_flight.make_room(max));
        let now = self.queue.now();
        self.in_flight.begin(site, now);
        let slot = Slot {
            site: site.clone(),
            pace: Arc::clone(self.in_flight.pace(site, now)),
            notes: self.notes.clone(),
        };
        let worker = Worker::new(Arc::clone(&self.queue), slot);
        let task = self.workers.spawn(worker.run());
        self.sites.insert(task.id(), site.clone());
    }

    /// Begins workers for the sites that waited for a place.
    pub(super) fn begin_waiting(&mut self) {
        for _ in 0..self.waiting.order.len() {
            let Some(site) = self.waiting.pop() else {
                break;
            };
            match self.may_begin(&site) {
                May::NotNow => {
                    self.waiting.push_front(site);
                    break;
                }
                May::AfterOthers => self.waiting.push(&site),
                May::Begin
                | May::NotAtThisSite
                | May::NotUnproven
                | May::NotPoor
                | May::NotProbe => self.serve(&site),
            }
        }
        // Sites of which less is known come first.
        while let Some(site) = self.unproven.order.front() {
            if matches!(self.may_begin(site), May::NotUnproven | May::NotNow) {
                break;
            }
            if let Some(site) = self.unproven.pop() {
                self.serve(&site);
            }
        }
        while let Some(site) = self.poor.order.front() {
            let may = self.may_begin(site);
            if matches!(may, May::NotPoor | May::NotUnproven | May::NotNow) {
                break;
            }
            if let Some(site) = self.poor.pop() {
                self.serve(&site);
            }
        }
        while let Some(site) = self.probes.order.front() {
            let may = self.may_begin(site);
            if matches!(
                may,
                May::NotProbe | May::NotPoor | May::NotUnproven | May::NotNow
            ) {
                break;
            }
            if let Some(site) = self.probes.pop() {
                self.serve(&site);
            }
        }
    }
}

fn batch(plan: Arc<Plan>, messages: Vec<Queued>, claimed: Moment) -> ClaimedBatch {
    let destination = messages.first().map(Queued::destination);
    ClaimedBatch {
        destination: destination.unwrap_or_default(),
        plan,
        messages,
        claimed,
    }
}

/// Messages of one destination are together already.
fn by_destination(messages: Vec<Queued>) -> Vec<Vec<Queued>> {
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
