//! Workers for what waits at sites.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use postrider_observe::{metrics::PanicIn, panics};
use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode};

use super::{QueueLoop, Slot, worker::Worker};
use crate::{
    next_hop::Site,
    schedule::{May, Pace, Wait},
};

/// How long claimed messages wait whose site an administrator has paused.
const PAUSED_WAIT: Duration = Duration::from_secs(5 * 60);

impl QueueLoop {
    fn may_begin(&self, site: &Site) -> May {
        let others = self.waiting.has_others(site);
        let limits = &self.queue.statics.queue;
        self.in_flight
            .may_begin(site, limits, self.queue.now(), others)
    }

    /// The pace of a site. None: nothing is to be tried there now. Its lanes wait there, and its
    /// claimed messages are given back.
    pub(super) fn open_pace(&mut self, site: &Site) -> Option<Arc<Pace>> {
        self.wakes.remove(site);
        let now = self.queue.now();
        let pace = self.queue.sites.pace(site, now);
        if self.queue.sites.has_orders() {
            // Somebody may have set the wall clock, which orders end by.
            self.queue.sites.follow(site, now);
        }
        let wait = match pace.halt(now.moment) {
            Some(wait) => {
                self.wakes.set(site, wait.until);
                wait
            }
            None => {
                let Some(until) = pace.paused(now.moment) else {
                    return Some(pace);
                };
                if let Some(until) = until {
                    self.wakes.set(site, until);
                }
                Wait {
                    until: now.moment.after(PAUSED_WAIT),
                    failing: false,
                    status: paused(site),
                }
            }
        };
        let claimed = self.queue.lanes().take_claimed(site).into_iter();
        let messages = claimed.flat_map(|batch| batch.messages).collect();
        self.postpone(messages, wait);
        None
    }

    /// Wakes or begins workers for what waits at a site, if something may be tried there.
    pub(super) fn serve(&mut self, site: &Site) {
        if self.is_halted() {
            return;
        }
        if let Some(pace) = self.open_pace(site) {
            self.fill(site, &pace);
        }
    }

    /// Wakes or begins workers for what waits at a site. It waits behind others that wait for a
    /// place.
    pub(super) fn fill(&mut self, site: &Site, pace: &Pace) {
        self.fill_in_turn(site, pace, false);
    }

    /// The same. `its_turn`: the site may have one place before the others that wait.
    fn fill_in_turn(&mut self, site: &Site, pace: &Pace, mut its_turn: bool) {
        let brief = pace.brief(self.queue.clock.moment());
        let turns = self.queue.lanes().turns(site, brief.connections);
        if turns == 0 {
            return self.queue.lanes().tidy(site);
        }
        if let Some(at) = brief.tokens_at {
            return self.wakes.set(site, at);
        }
        for _ in 0..turns {
            if self.wake(site) {
                continue;
            }
            match self.may_begin(site) {
                May::Begin if !its_turn && self.waiting.has_others(site) => {
                    return self.waiting.push(site);
                }
                May::Begin => {
                    its_turn = false;
                    self.begin(site);
                }
                May::NotAtThisSite => {
                    if let Some(at) = brief.connect_at {
                        self.wakes.set(site, at);
                    }
                    return;
                }
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
            hand: None,
        };
        let worker = Worker::new(Arc::clone(&self.queue), slot);
        let work = panics::within(PanicIn::Delivery, worker.run());
        let task = self.workers.spawn(work);
        self.sites.insert(task.id(), site.clone());
    }

    /// Begins workers for the sites that waited for a place.
    pub(super) fn begin_waiting(&mut self) {
        loop {
            self.begin_in_turn();
            let before = self.waiting.len();
            self.begin_unproven();
            // A site may have gone behind those that wait for a place.
            if self.waiting.len() <= before {
                break;
            }
        }
        self.waiting.forgive_if_empty();
        let (flow, wanted) = (&self.queue.flow, self.waiting.len());
        flow.wanted.store(wanted, Ordering::Relaxed);
        flow.busy.store(self.in_flight.busy(), Ordering::Relaxed);
    }

    fn begin_in_turn(&mut self) {
        let mut aside = Vec::new();
        while let Some(site) = self.waiting.pop() {
            match self.may_begin(&site) {
                May::NotNow => {
                    self.waiting.push_front(site);
                    break;
                }
                // There may be places that only sites with fewer may have.
                May::AfterOthers if self.waiting.len() > 0 => aside.push(site),
                May::AfterOthers
                | May::Begin
                | May::NotAtThisSite
                | May::NotUnproven
                | May::NotPoor
                | May::NotProbe => {
                    if !self.is_halted()
                        && let Some(pace) = self.open_pace(&site)
                    {
                        self.fill_in_turn(&site, &pace, true);
                    }
                }
            }
        }
        aside.iter().for_each(|site| self.waiting.push(site));
    }

    fn begin_unproven(&mut self) {
        // Sites of which less is known come first.
        while let Some(site) = self.unproven.first().cloned() {
            if matches!(self.may_begin(&site), May::NotUnproven | May::NotNow) {
                break;
            }
            if let Some(site) = self.unproven.pop() {
                self.serve(&site);
            }
        }
        while let Some(site) = self.poor.first().cloned() {
            let may = self.may_begin(&site);
            if matches!(may, May::NotPoor | May::NotUnproven | May::NotNow) {
                break;
            }
            if let Some(site) = self.poor.pop() {
                self.serve(&site);
            }
        }
        while let Some(site) = self.probes.first().cloned() {
            let may = self.may_begin(&site);
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

/// Why messages wait whose site or destination is paused.
pub(crate) fn paused(target: impl std::fmt::Display) -> DeliveryStatus {
    DeliveryStatus::transient(
        Cause::Local,
        EnhancedCode::SYSTEM_TRANSIENT,
        format!("an administrator has paused deliveries to {target}"),
    )
}
