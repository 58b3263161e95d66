//! The workers of each site and of all sites, and the rules for when a worker may begin. There is
//! no I/O here.

use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Duration};

use postrider_config::QueueConfig;
use postrider_store::Moment;

use super::pace::{Brief, Pace};
use crate::{
    next_hop::Site,
    sites::{Now, Sites},
};

/// The part of all places that probes may have: one in so many.
const PROBES_PART: usize = 20;

/// The workers, and what waits for them. `W` reaches a worker that is idle: connected, with nothing
/// to do.
#[derive(Debug)]
pub(crate) struct InFlight<W> {
    sites: HashMap<Site, Workers<W>>,
    /// What is known of sites. It outlives their workers for a while.
    known: Arc<Sites>,
    /// The workers with something to do, without those that wait long for a greeting.
    busy: usize,
    /// Those of them at sites that were not known to be good when they began.
    unproven: Unproven,
    idle: usize,
}

/// How many workers are at sites that are not known to be good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unproven {
    all: usize,
    /// Those at sites that are known to fail or to be slow.
    poor: usize,
    /// Those that find out whether a site answers again.
    probes: usize,
}

impl Unproven {
    /// One worker at a site.
    fn one_at(site: &Brief) -> Self {
        Self {
            all: usize::from(!site.good),
            poor: usize::from(!site.good && site.poor),
            probes: usize::from(site.probed),
        }
    }

    const fn add(&mut self, more: Self) {
        self.all += more.all;
        self.poor += more.poor;
        self.probes += more.probes;
    }

    const fn take(&mut self, less: Self) {
        self.all = self.all.saturating_sub(less.all);
        self.poor = self.poor.saturating_sub(less.poor);
        self.probes = self.probes.saturating_sub(less.probes);
    }

    /// What is above so many workers.
    const fn above(self, workers: usize) -> Self {
        Self {
            all: self.all.saturating_sub(workers),
            poor: self.poor.saturating_sub(workers),
            probes: self.probes.saturating_sub(workers),
        }
    }

    /// Why no further worker may begin at such a site. None: one may.
    fn stop(self, limits: &QueueConfig, site: &Brief) -> Option<May> {
        if site.probed && self.probes >= (limits.max_concurrency / PROBES_PART).max(1) {
            Some(May::NotProbe)
        } else if site.good {
            None
        } else if self.is_full(limits, false) {
            Some(May::NotUnproven)
        } else if self.is_full(limits, site.poor) {
            Some(May::NotPoor)
        } else {
            None
        }
    }

    /// Whether no further worker may begin at a site that is not good. Half of the places are for
    /// such sites. Those that are known to fail or to be slow get half of that, so that sites that
    /// were never tried are tried.
    fn is_full(self, limits: &QueueConfig, poor: bool) -> bool {
        self.all >= half(limits) || (poor && self.poor >= half(limits).div_ceil(2))
    }
}

#[derive(Debug)]
struct Workers<W> {
    busy: usize,
    unproven: Unproven,
    /// Those of the busy ones that wait long for a greeting.
    slow: usize,
    /// The idle ones, each with the mean time of its transactions.
    idle: Vec<(Duration, W)>,
    pace: Arc<Pace>,
}

impl<W> Workers<W> {
    /// A busy worker ends or rests. Gives how many workers fewer are unproven.
    fn one_less(&mut self) -> Unproven {
        self.busy = self.busy.saturating_sub(1);
        let over = self.unproven.above(self.busy);
        self.unproven.take(over);
        over
    }
}

/// Nothing more can be done at a site that has so many workers.
const fn is_full(busy: usize, site: &Brief) -> bool {
    busy >= site.connections || site.tokens_at.is_some()
}

/// Half of all places, and at least one.
fn half(limits: &QueueConfig) -> usize {
    limits.max_concurrency.div_ceil(2).max(1)
}

impl<W> InFlight<W> {
    /// How many workers have something to do.
    pub(crate) const fn busy(&self) -> usize {
        self.busy
    }

    /// No workers, at these sites.
    pub(crate) fn new(known: Arc<Sites>) -> Self {
        Self {
            sites: HashMap::new(),
            known,
            busy: 0,
            unproven: Unproven::default(),
            idle: 0,
        }
    }

    /// What is known of a site.
    pub(crate) fn pace(&mut self, site: &Site, now: Now) -> &Arc<Pace> {
        &self.workers(site, now).pace
    }

    fn workers(&mut self, site: &Site, now: Now) -> &mut Workers<W> {
        let known = &self.known;
        self.sites.entry(site.clone()).or_insert_with(|| Workers {
            busy: 0,
            unproven: Unproven::default(),
            slow: 0,
            idle: Vec::new(),
            pace: known.pace(site, now),
        })
    }

    /// Whether a worker of this site may begin. `others`: further sites wait for a place.
    pub(crate) fn may_begin(
        &self,
        site: &Site,
        limits: &QueueConfig,
        now: Now,
        others: bool,
    ) -> May {
        let (busy, site) = match self.sites.get(site) {
            Some(workers) => (workers.busy, workers.pace.brief(now.moment)),
            None => (0, self.known.pace(site, now).brief(now.moment)),
        };
        if is_full(busy, &site) || site.connect_at.is_some() {
            May::NotAtThisSite
        } else if self.busy >= limits.max_concurrency {
            May::NotNow
        } else if others && busy >= half(limits) {
            May::AfterOthers
        } else {
            self.unproven.stop(limits, &site).unwrap_or(May::Begin)
        }
    }

    /// A worker of this site begins.
    pub(crate) fn begin(&mut self, site: &Site, now: Now) {
        let workers = self.workers(site, now);
        workers.busy += 1;
        let unproven = Unproven::one_at(&workers.pace.brief(now.moment));
        workers.unproven.add(unproven);
        self.busy += 1;
        self.unproven.add(unproven);
    }

    /// The site answers. If it is good, its workers count as those of a good site.
    pub(crate) fn prove(&mut self, site: &Site, now: Moment) {
        let workers = self.sites.get_mut(site);
        if let Some(workers) = workers.filter(|workers| workers.pace.brief(now).good) {
            self.unproven.take(std::mem::take(&mut workers.unproven));
        }
    }

    /// A connection of this site waits long for its greeting, or does so no more.
    pub(crate) fn slow(&mut self, site: &Site, slow: bool, now: Moment) {
        let Some(workers) = self.sites.get_mut(site) else {
            return;
        };
        if slow {
            workers.slow += 1;
            self.busy = self.busy.saturating_sub(1);
            let unproven = Unproven {
                all: workers.unproven.all.min(1),
                poor: workers.unproven.poor.min(1),
                probes: workers.unproven.probes.min(1),
            };
            workers.unproven.take(unproven);
            self.unproven.take(unproven);
        } else {
            workers.slow = workers.slow.saturating_sub(1);
            self.busy += 1;
            let unproven = Unproven::one_at(&workers.pace.brief(now));
            workers.unproven.add(unproven);
            self.unproven.add(unproven);
        }
    }

    /// A worker has nothing to do. The transactions of its connection took `mean` on average.
    pub(crate) fn rest(&mut self, site: &Site, worker: W, mean: Duration) {
        if let Some(workers) = self.sites.get_mut(site) {
            self.unproven.take(workers.one_less());
            workers.idle.push((mean, worker));
            self.busy = self.busy.saturating_sub(1);
            self.idle += 1;
        }
    }

    /// An idle worker: the one whose transactions took the shortest time, and of equal ones the one
    /// that became idle last. It counts as busy from now on.
    ///
    /// If it were always the last one, the slowest host would attract most: who works there comes
    /// to an end last.
    pub(crate) fn wake(&mut self, site: &Site) -> Option<W> {
        let workers = self.sites.get_mut(site)?;
        let means = workers.idle.iter().map(|(mean, _)| *mean).enumerate();
        let (fastest, _) = means.min_by_key(|(at, mean)| (*mean, Reverse(*at)))?;
        let (_, worker) = workers.idle.remove(fastest);
        workers.busy += 1;
        self.busy += 1;
        self.idle -= 1;
        Some(worker)
    }

    /// An idle worker that must go to make room for a new one, if there are `max` workers. It
    /// counts as busy until it has ended.
    pub(crate) fn make_room(&mut self, max: usize) -> Option<W> {
        if self.busy + self.idle < max || self.idle == 0 {
            return None;
        }
        let mut sites = self.sites.iter();
        let (site, _) = sites.find(|(_, workers)| !workers.idle.is_empty())?;
        let site = site.clone();
        self.wake(&site)
    }

    /// A worker of this site has ended. `is_gone` tells whether an idle worker is the one.
    pub(crate) fn end(&mut self, site: &Site, is_gone: impl Fn(&W) -> bool) {
        let Some(workers) = self.sites.get_mut(site) else {
            return;
        };
        if let Some(at) = workers.idle.iter().position(|(_, worker)| is_gone(worker)) {
            workers.idle.remove(at);
            self.idle -= 1;
        } else {
            self.unproven.take(workers.one_less());
            // It is none of the counted ones if it failed while it waited for a greeting.
            let counted = workers.slow <= workers.busy;
            workers.slow = workers.slow.min(workers.busy);
            self.busy = self.busy.saturating_sub(usize::from(counted));
        }
        self.tidy(site);
    }

    /// Forgets a site without workers.
    fn tidy(&mut self, site: &Site) {
        let workers = self.sites.get(site);
        let idle = workers.is_some_and(|workers| workers.busy == 0 && workers.idle.is_empty());
        if idle {
            self.sites.remove(site);
        }
    }

    /// Forgets all idle workers.
    pub(crate) fn dismiss(&mut self) {
        for workers in self.sites.values_mut() {
            workers.busy += workers.idle.len();
            workers.idle.clear();
        }
        self.busy += self.idle;
        self.idle = 0;
    }

    /// How many workers may begin by `max_concurrency`.
    pub(crate) const fn room(&self, limits: &QueueConfig) -> usize {
        limits.max_concurrency.saturating_sub(self.busy)
    }
}

/// Whether a worker may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// It may.
    Begin,
    /// The site is full.
    NotAtThisSite,
    /// There are as many workers as there may be.
    NotNow,
    /// The site has half of all places, and others wait.
    AfterOthers,
    /// The site is not known to answer, and such sites have half of all places.
    NotUnproven,
    /// The site is known to fail or to be slow, and such sites have a quarter of all places.
    NotPoor,
    /// The worker would be a probe, and probes have all places that they may have.
    NotProbe,
}

#[cfg(test)]
mod tests;
