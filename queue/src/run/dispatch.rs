//! From lanes, and from claimed messages without a site, to the sites.

use std::{sync::Arc, time::Duration};

use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode, Host};
use postrider_store::{Lane, Moment, Queued, Which};
use rand::RngExt as _;
use tracing::error;

use super::{
    QueueLoop, STORE_RETRY,
    course::Course,
    planning::{Done, PlanEnded, WaitsForPlan},
    worker::by_destination,
};
use crate::{
    next_hop::{Plan, PlanKey, Planned, Site},
    schedule::{ClaimedBatch, Wait},
};

impl QueueLoop {
    /// Finds the site of a lane that is due, by its first message.
    pub(super) async fn plan(&mut self, lane: Lane) {
        let queue = Arc::clone(&self.queue);
        let now = queue.now();
        if queue.sites.is_paused(lane.destination(), now.time) {
            return queue.lanes().pause(&lane, None, now.time);
        }
        let first = queue.store.due_in_lane(&lane, None, now.time, 1).await;
        let first = match first {
            Ok(first) => first,
            Err(error) => {
                error!(%error, "failed to read the first message of a destination");
                let later = now.time.after(STORE_RETRY);
                return queue.lanes().put_off(&lane, later, false, now.time);
            }
        };
        if first.is_empty() {
            // It was claimed a moment ago, or it can't be read: then a claim says so.
            let of = lane.clone();
            let queue = Arc::clone(&queue);
            self.planning.tasks.spawn(async move {
                let claimed = queue.claim(Which::Lanes(vec![of.clone()]), 1).await;
                Done::Back(of, claimed.unwrap_or_default())
            });
            return;
        }
        let config = queue.config.load_full();
        let mut courses = queue.courses(&config, first, now.moment);
        match courses.pop().map(|(course, _)| course) {
            Some(Course::Known { plan, stale }) => {
                if let Some(key) = stale {
                    self.refresh(key);
                }
                self.settle_at(&lane, &plan);
                self.arrived(&plan.site, &[lane]);
            }
            Some(Course::Unknown(key)) => {
                let waits = self.planning.begin(&queue, key);
                waits.lanes.push(lane);
            }
            Some(Course::Later(wait)) => self.put_off(&lane, &wait),
            Some(Course::End(_)) => self.end_lane(lane),
            None => queue.lanes().back(&lane, now.time),
        }
    }

    /// Puts a lane at the site of its plan.
    fn settle_at(&self, lane: &Lane, plan: &Plan) {
        let now = self.queue.now();
        self.queue.sites.planned(plan, lane.destination(), now);
        self.queue.lanes().put(lane, &plan.site, now.time);
    }

    /// Nothing is looked up for a lane before a time.
    fn put_off(&mut self, lane: &Lane, wait: &Wait) {
        let now = self.queue.now();
        let until = now.time_of(wait.until);
        let mut lanes = self.queue.lanes();
        lanes.put_off(lane, until, wait.failing, now.time);
    }

    /// Gives the sites of all plans their limits, if the entries of providers have changed.
    pub(super) fn follow_providers(&mut self) {
        let queue = Arc::clone(&self.queue);
        let providers = Arc::clone(&queue.config.load().providers);
        let before = self.providers.replace(Arc::clone(&providers));
        if before.is_none_or(|before| Arc::ptr_eq(&before, &providers)) {
            return;
        }
        let plans = {
            let mut plans = queue.plans();
            plans.set_providers(&providers);
            plans.all()
        };
        for plan in plans {
            queue.sites.set_limits(&plan);
        }
        self.serve_all();
    }

    /// Ends the messages of a lane, in a task.
    fn end_lane(&mut self, lane: Lane) {
        let queue = Arc::clone(&self.queue);
        self.planning.tasks.spawn(async move {
            let others = queue.end_lane(lane.clone()).await;
            Done::Back(lane, others)
        });
    }

    /// Hands on messages that were claimed at `claimed`, and whose site is another than that of
    /// their lane.
    pub(super) fn dispatch(&mut self, messages: Vec<Queued>, claimed: Moment) {
        let queue = Arc::clone(&self.queue);
        let config = queue.config.load_full();
        let now = queue.clock.moment();
        for messages in by_destination(messages) {
            for (course, messages) in queue.courses(&config, messages, now) {
                match course {
                    Course::Known { plan, stale } => {
                        if let Some(key) = stale {
                            self.refresh(key);
                        }
                        self.place(ClaimedBatch {
                            plan,
                            messages,
                            claimed,
                        });
                    }
                    Course::Unknown(key) => {
                        let waits = self.planning.begin(&queue, key);
                        waits.claimed.push((messages, claimed));
                    }
                    Course::Later(down) => self.postpone(messages, down),
                    Course::End(status) => self.end(messages, status),
                }
            }
        }
    }

    /// A plan was made, or another task of [`Planning`](super::planning::Planning) ended.
    pub(super) fn take_plan(&mut self, ended: PlanEnded) {
        let (id, done) = match ended {
            Ok(ended) => ended,
            Err(panic) => {
                error!("making a plan failed");
                (panic.id(), Done::Nothing)
            }
        };
        let now = self.queue.now();
        let planned = match done {
            Done::Planned(planned) => Some(planned),
            Done::Back(lane, claimed) => {
                self.queue.lanes().back(&lane, now.time);
                return self.dispatch(claimed, now.moment);
            }
            Done::Nothing => None,
        };
        let Some((key, _)) = self.planning.keys.remove(&id) else {
            return;
        };
        let waiting = self.planning.waiting.remove(&key).unwrap_or_default();
        let planned = match planned {
            Some(planned) => self.remember(&key, planned, now.moment),
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
        let was_out = faults.is_resolver_out();
        let is_literal = key.destination.starts_with('[');
        let out = match planned.fault {
            None if !is_literal => faults.looked_up(&key.destination, answered, now.moment),
            _ => None,
        };
        if was_out && !faults.is_resolver_out() {
            self.queue.plans().forgive_ours();
            self.queue.lanes().try_all_now();
        }
        let plan = match &planned.plan {
            Ok(plan) => plan,
            Err(status) => return self.without_plan(&key, &planned, (status, out), waiting),
        };
        for lane in &waiting.lanes {
            self.settle_at(lane, plan);
        }
        for (messages, claimed) in waiting.claimed {
            self.place(ClaimedBatch {
                plan: Arc::clone(plan),
                messages,
                claimed,
            });
        }
        self.arrived(&plan.site, &waiting.lanes);
    }

    /// Lanes came to a site. If nothing is tried there now, senders may have to be told.
    pub(super) fn arrived(&mut self, site: &Site, lanes: &[Lane]) {
        match self.open_pace(site) {
            None => {
                let now = self.queue.clock.now();
                let mut all = self.queue.lanes();
                lanes.iter().for_each(|lane| all.review_soon(lane, now));
            }
            Some(pace) if !self.is_halted() => self.fill(site, &pace),
            Some(_) => {}
        }
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
        waiting: WaitsForPlan,
    ) {
        let now = self.queue.clock.moment();
        let down = |until, failing| Wait {
            until,
            failing,
            status: status.clone(),
        };
        let claimed = waiting.claimed.into_iter();
        let mut messages: Vec<Queued> = claimed.flat_map(|(messages, _)| messages).collect();
        let wait = if let Some(fault) = planned.fault {
            down(self.queue.own_fault(fault, status), false)
        } else if !planned.unanswered {
            for lane in waiting.lanes {
                self.end_lane(lane);
            }
            return self.end(messages, status.clone());
        } else if let Some(until) = out {
            let spread = self.queue.rng().random_range(0.5..=1.0);
            let again = self.queue.plans().failed_by_us(key, status, spread, now);
            down(until.max(again), false)
        } else {
            let max = self.queue.longest_retry_interval();
            let until = self.queue.plans().failed(key, status, max, now);
            match (messages.pop(), waiting.lanes.first()) {
                (Some(message), _) => self.end(vec![message], status.clone()),
                (None, Some(lane)) => {
                    let (queue, lane) = (Arc::clone(&self.queue), lane.clone());
                    let status = status.clone();
                    self.planning.tasks.spawn(async move {
                        queue.count_for_one(lane, status).await;
                        Done::Nothing
                    });
                }
                (None, None) => {}
            }
            down(until, true)
        };
        for lane in &waiting.lanes {
            self.put_off(lane, &wait);
        }
        self.postpone(messages, wait);
    }

    /// Has a new plan made while the old one is used.
    pub(super) fn refresh(&mut self, key: PlanKey) {
        let queue = Arc::clone(&self.queue);
        self.planning.begin(&queue, key);
    }

    /// Adds claimed messages to those that wait at their site.
    fn place(&mut self, batch: ClaimedBatch) {
        let site = batch.plan.site.clone();
        let queue = Arc::clone(&self.queue);
        let first = batch.messages.first().map(Queued::destination);
        let domain = first.unwrap_or_default();
        queue.sites.planned(&batch.plan, &domain, queue.now());
        if let Err(batch) = queue.lanes().push(batch) {
            return self.give_back(batch.messages);
        }
        self.serve(&site);
    }

    /// Gives back messages that can't be attempted now, in a task.
    pub(super) fn postpone(&mut self, messages: Vec<Queued>, wait: Wait) {
        if messages.is_empty() {
            return;
        }
        let queue = Arc::clone(&self.queue);
        self.planning.tasks.spawn(async move {
            queue.postpone(messages, &wait).await;
            Done::Nothing
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
            Done::Nothing
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
            Done::Nothing
        });
    }
}
