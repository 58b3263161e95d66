//! The workers of each site and of all sites, and the rules for when a worker may begin. There is
//! no I/O here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use postrider_config::QueueConfig;
use postrider_store::{Claim, Destination, Moment, Time};

use super::{BATCH, LEASE, health::Health, turns::Turns};
use crate::next_hop::Site;

/// How many messages are claimed at once.
const CLAIM_MAX: usize = 1024;

/// From so many sites on, those of which nothing is known any more are forgotten.
const SWEEP_MIN: usize = 1024;

/// The workers, and what waits for them. `W` reaches a worker that is idle: connected, with nothing
/// to do.
#[derive(Debug)]
pub(crate) struct InFlight<W> {
    sites: HashMap<Site, Workers<W>>,
    /// What is known of sites. It outlives their workers for a while.
    health: HashMap<Site, Arc<Health>>,
    sweep_at: usize,
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
}

impl Unproven {
    /// One worker at a site.
    fn one_at(health: &Health, now: Moment) -> Self {
        Self {
            all: usize::from(!health.is_good(now)),
            poor: usize::from(!health.is_good(now) && health.is_poor(now)),
        }
    }

    const fn add(&mut self, more: Self) {
        self.all += more.all;
        self.poor += more.poor;
    }

    const fn take(&mut self, less: Self) {
        self.all = self.all.saturating_sub(less.all);
        self.poor = self.poor.saturating_sub(less.poor);
    }

    /// What is above so many workers.
    const fn above(self, workers: usize) -> Self {
        Self {
            all: self.all.saturating_sub(workers),
            poor: self.poor.saturating_sub(workers),
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
    /// The most connections, as the plans of the site say. None: as for all sites.
    connections: Option<usize>,
    busy: usize,
    unproven: Unproven,
    /// Those of the busy ones that wait long for a greeting.
    slow: usize,
    idle: Vec<W>,
    turns: Arc<Turns>,
    health: Arc<Health>,
}

impl<W> Workers<W> {
    /// The site has all connections that it may have.
    fn is_full(&self, limits: &QueueConfig, now: Moment) -> bool {
        let max = limits.per_destination.connections;
        let max = self.connections.unwrap_or(max);
        self.busy >= self.health.connections(max, now)
    }

    /// A busy worker ends or rests. Gives how many workers fewer are unproven.
    fn one_less(&mut self) -> Unproven {
        self.busy = self.busy.saturating_sub(1);
        let over = self.unproven.above(self.busy);
        self.unproven.take(over);
        over
    }
}

impl<W> Default for InFlight<W> {
    fn default() -> Self {
        Self {
            sites: HashMap::new(),
            health: HashMap::new(),
            sweep_at: SWEEP_MIN,
            busy: 0,
            unproven: Unproven::default(),
            idle: 0,
        }
    }
}

/// Half of all places, and at least one.
fn half(limits: &QueueConfig) -> usize {
    limits.max_concurrency.div_ceil(2).max(1)
}

impl<W> InFlight<W> {
    /// How many workers have something to do.
    #[cfg(test)]
    pub(crate) const fn busy(&self) -> usize {
        self.busy
    }

    /// Sets how many connections a site may have.
    pub(crate) fn limit(&mut self, site: &Site, connections: usize) {
        self.workers(site).connections = Some(connections);
    }

    /// The messages that wait for the workers of a site.
    pub(crate) fn turns(&mut self, site: &Site) -> &Arc<Turns> {
        &self.workers(site).turns
    }

    fn workers(&mut self, site: &Site) -> &mut Workers<W> {
        let health = &mut self.health;
        self.sites.entry(site.clone()).or_insert_with(|| Workers {
            connections: None,
            busy: 0,
            unproven: Unproven::default(),
            slow: 0,
            idle: Vec::new(),
            turns: Arc::default(),
            health: Arc::clone(health.entry(site.clone()).or_default()),
        })
    }

    /// What is known of a site.
    pub(crate) fn health(&mut self, site: &Site, now: Moment) -> &Arc<Health> {
        if self.health.len() >= self.sweep_at {
            let sites = &self.sites;
            self.health
                .retain(|site, health| sites.contains_key(site) || health.is_of_use(now));
            self.sweep_at = self.health.len().saturating_mul(2).max(SWEEP_MIN);
        }
        self.health.entry(site.clone()).or_default()
    }

    /// No site is down any more.
    pub(crate) fn forgive(&self) {
        self.health.values().for_each(|health| health.forgive());
    }

    /// How many workers of a site could take a turn now.
    pub(crate) fn turns_waiting(&self, site: &Site) -> usize {
        let workers = self.sites.get(site);
        workers.map_or(0, |workers| workers.turns.waiting())
    }

    /// Whether a worker of this site may begin. `others`: further sites wait for a place.
    pub(crate) fn may_begin(
        &self,
        site: &Site,
        limits: &QueueConfig,
        now: Moment,
        others: bool,
    ) -> May {
        let workers = self.sites.get(site);
        let busy = workers.map_or(0, |workers| workers.busy);
        let health = workers.map(|workers| &workers.health);
        let health = health.or_else(|| self.health.get(site));
        let max = workers.and_then(|workers| workers.connections);
        let max = max.unwrap_or(limits.per_destination.connections);
        let max = health.map_or(max, |health| health.connections(max, now));
        if busy >= max {
            May::NotAtThisSite
        } else if self.busy >= limits.max_concurrency {
            May::NotNow
        } else if others && busy >= half(limits) {
            May::AfterOthers
        } else if health.is_some_and(|it| it.is_good(now)) {
            May::Begin
        } else if self.unproven.is_full(limits, false) {
            May::NotUnproven
        } else if self
            .unproven
            .is_full(limits, health.is_some_and(|it| it.is_poor(now)))
        {
            May::NotPoor
        } else {
            May::Begin
        }
    }

    /// A worker of this site begins.
    pub(crate) fn begin(&mut self, site: &Site, now: Moment) {
        let workers = self.workers(site);
        workers.busy += 1;
        let unproven = Unproven::one_at(&workers.health, now);
        workers.unproven.add(unproven);
        self.busy += 1;
        self.unproven.add(unproven);
    }

    /// The site answers. If it is good, its workers count as those of a good site.
    pub(crate) fn prove(&mut self, site: &Site, now: Moment) {
        let workers = self.sites.get_mut(site);
        if let Some(workers) = workers.filter(|workers| workers.health.is_good(now)) {
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
            };
            workers.unproven.take(unproven);
            self.unproven.take(unproven);
        } else {
            workers.slow = workers.slow.saturating_sub(1);
            self.busy += 1;
            let unproven = Unproven::one_at(&workers.health, now);
            workers.unproven.add(unproven);
            self.unproven.add(unproven);
        }
    }

    /// A worker has nothing to do.
    pub(crate) fn rest(&mut self, site: &Site, worker: W) {
        if let Some(workers) = self.sites.get_mut(site) {
            self.unproven.take(workers.one_less());
            workers.idle.push(worker);
            self.busy = self.busy.saturating_sub(1);
            self.idle += 1;
        }
    }

    /// An idle worker: the one that became idle last. It counts as busy from now on.
    pub(crate) fn wake(&mut self, site: &Site) -> Option<W> {
        let workers = self.sites.get_mut(site)?;
        let worker = workers.idle.pop()?;
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
        if let Some(at) = workers.idle.iter().position(is_gone) {
            workers.idle.swap_remove(at);
            self.idle -= 1;
        } else {
            self.unproven.take(workers.one_less());
            // It is none of the counted ones if it failed while it waited for a greeting.
            let counted = workers.slow <= workers.busy;
            workers.slow = workers.slow.min(workers.busy);
            self.busy = self.busy.saturating_sub(usize::from(counted));
        }
        if workers.busy == 0 && workers.idle.is_empty() {
            // Only a worker lets destinations go, and this site has none now.
            workers.turns.let_all_go();
            if workers.turns.is_empty() {
                self.sites.remove(site);
            }
        }
    }

    /// Forgets all idle workers, and ends all turns. Gives what waited for each site.
    pub(crate) fn dismiss(&mut self) -> Vec<Arc<Turns>> {
        let mut turns = Vec::new();
        for workers in self.sites.values_mut() {
            workers.busy += workers.idle.len();
            workers.idle.clear();
            turns.push(Arc::clone(&workers.turns));
        }
        self.busy += self.idle;
        self.idle = 0;
        turns
    }

    /// The sites that have all the connections that they may have.
    pub(crate) fn full_sites(&self, limits: &QueueConfig, now: Moment) -> HashSet<Site> {
        self.sites
            .iter()
            .filter(|(_, workers)| workers.is_full(limits, now))
            .map(|(site, _)| site.clone())
            .collect()
    }

    /// How many claimed messages wait, and how many destinations are held, over all sites.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.sites
            .values()
            .map(|workers| workers.turns.counts())
            .fold((0, 0), |(messages, held), (more, more_held)| {
                (messages + more, held + more_held)
            })
    }

    /// The claim for the store. None if all workers are busy.
    pub(crate) fn claim(
        &self,
        (now, moment): (Time, Moment),
        limits: &QueueConfig,
        planning: impl Iterator<Item = Destination>,
    ) -> Option<Claim> {
        let room = limits.max_concurrency.saturating_sub(self.busy);
        if room == 0 {
            return None;
        }
        let mut except: HashSet<Destination> = planning.collect();
        for workers in self.sites.values() {
            let health = &workers.health;
            let waits =
                !health.is_good(moment) && self.unproven.is_full(limits, health.is_poor(moment));
            if waits || workers.is_full(limits, moment) {
                workers.turns.held(&mut except);
            }
        }
        Some(Claim {
            now,
            moment,
            max: room.saturating_mul(BATCH).min(CLAIM_MAX),
            max_per_destination: BATCH,
            only: None,
            except,
            lease: LEASE,
        })
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::schedule::{
        tests::config,
        turns::{Turn, tests::batch},
    };

    const NOW: (Time, Moment) = (Time(0), Moment(Duration::ZERO));

    fn except(in_flight: &InFlight<u8>, config: &QueueConfig) -> HashSet<Destination> {
        let claim = in_flight.claim(NOW, config, std::iter::empty());
        claim.unwrap().except
    }

    #[test]
    fn limits_hold_in_all_and_per_site() {
        let mut config = config();
        config.max_concurrency = 3;
        config.per_destination.connections = 2;
        let mut in_flight = InFlight::<u8>::default();
        let (a, b) = (Site::from("a"), Site::from("b"));
        for site in [&a, &b] {
            let health = in_flight.health(site, NOW.1);
            health.answered(1, Duration::ZERO, NOW.1);
        }
        in_flight.begin(&a, NOW.1);
        in_flight.turns(&a).push(batch("a.test", 1)).unwrap();
        assert!(except(&in_flight, &config).is_empty());
        assert_eq!(in_flight.may_begin(&a, &config, NOW.1, false), May::Begin);
        in_flight.begin(&a, NOW.1);
        assert_eq!(
            except(&in_flight, &config),
            HashSet::from(["a.test".to_owned()])
        );
        assert_eq!(
            in_flight.full_sites(&config, NOW.1),
            HashSet::from([a.clone()])
        );
        assert_eq!(
            in_flight.may_begin(&a, &config, NOW.1, false),
            May::NotAtThisSite
        );
        in_flight.begin(&b, NOW.1);
        assert!(in_flight.claim(NOW, &config, std::iter::empty()).is_none());
        assert_eq!(in_flight.may_begin(&b, &config, NOW.1, false), May::NotNow);
        in_flight.end(&a, |_| false);
        assert!(except(&in_flight, &config).is_empty());
        assert_eq!(in_flight.busy(), 2);
    }

    #[test]
    fn a_destination_that_is_planned_is_not_claimed() {
        let planning = ["a.test".to_owned()];
        let claim = InFlight::<u8>::default().claim(NOW, &config(), planning.clone().into_iter());
        assert_eq!(claim.unwrap().except, HashSet::from(planning));
    }

    #[test]
    fn a_site_stays_while_something_waits() {
        let mut in_flight = InFlight::<u8>::default();
        let a = Site::from("a");
        in_flight.begin(&a, NOW.1);
        in_flight.turns(&a).push(batch("a.test", 1)).unwrap();
        in_flight.end(&a, |_| false);
        assert_eq!(in_flight.waiting(), (1, 1));
        in_flight.begin(&a, NOW.1);
        let next = in_flight.turns(&a).next(None);
        assert!(matches!(next.turn, Some(Turn::Deliver(_))));
        in_flight.end(&a, |_| false);
        assert!(in_flight.sites.is_empty());
    }

    #[test]
    fn idle_workers_take_no_place_and_are_woken_or_sent_away() {
        let mut config = config();
        config.per_destination.connections = 1;
        let mut in_flight = InFlight::default();
        let (a, b) = (Site::from("a"), Site::from("b"));
        in_flight.begin(&a, NOW.1);
        assert!(in_flight.make_room(1).is_none(), "it is busy");
        in_flight.rest(&a, 1);
        assert!(except(&in_flight, &config).is_empty());
        assert_eq!(in_flight.wake(&b), None);
        assert_eq!(in_flight.wake(&a), Some(1));
        assert_eq!(in_flight.busy(), 1);
        in_flight.rest(&a, 1);
        assert_eq!(in_flight.make_room(2), None);
        assert_eq!(in_flight.make_room(1), Some(1));
        in_flight.end(&a, |_| false);
        assert_eq!(in_flight.busy(), 0);
        // A worker that gave up waiting ends as an idle one.
        in_flight.begin(&b, NOW.1);
        in_flight.begin(&b, NOW.1);
        in_flight.rest(&b, 2);
        in_flight.end(&b, |worker| *worker == 2);
        assert_eq!(in_flight.busy(), 1);
        assert_eq!(in_flight.wake(&b), None);
    }

    #[test]
    fn sites_that_are_not_known_to_answer_have_half_of_the_places() {
        let mut config = config();
        config.max_concurrency = 4;
        let mut in_flight = InFlight::<u8>::default();
        let good = Site::from("good");
        let silent = ["a", "b", "c"].map(Site::from);
        in_flight
            .health(&good, NOW.1)
            .answered(1, Duration::ZERO, NOW.1);
        for site in &silent {
            let batch = batch(&format!("{site}.test"), 1);
            in_flight.turns(site).push(batch).unwrap();
        }
        let [a, b, c] = &silent;
        in_flight.begin(a, NOW.1);
        in_flight.begin(b, NOW.1);
        assert_eq!(
            in_flight.may_begin(c, &config, NOW.1, false),
            May::NotUnproven
        );
        assert_eq!(
            in_flight.may_begin(&good, &config, NOW.1, false),
            May::Begin
        );
        let left_out = except(&in_flight, &config);
        assert!(left_out.contains("c.test") && left_out.len() == 3);
        // A connection that waits long takes no place.
        in_flight.slow(a, true, NOW.1);
        assert_eq!(in_flight.busy(), 1);
        assert_eq!(in_flight.may_begin(c, &config, NOW.1, false), May::Begin);
        in_flight.slow(a, false, NOW.1);
        assert_eq!(
            in_flight.may_begin(c, &config, NOW.1, false),
            May::NotUnproven
        );
        // A site that answers is one of the others.
        in_flight.turns(b);
        in_flight
            .health(b, NOW.1)
            .answered(1, Duration::ZERO, NOW.1);
        in_flight.prove(b, NOW.1);
        assert_eq!(in_flight.may_begin(c, &config, NOW.1, false), May::Begin);
        in_flight.end(a, |_| false);
        in_flight.end(b, |_| false);
        assert_eq!(in_flight.busy(), 0);
        assert_eq!(in_flight.unproven, Unproven::default());
    }

    /// Each slow site answers after 14 minutes. New sites come all the time.
    #[test]
    fn slow_sites_leave_places_for_sites_that_were_never_tried() {
        const TAKES: Duration = Duration::from_secs(14 * 60);
        let mut config = config();
        config.max_concurrency = 40;
        let mut in_flight = InFlight::<u8>::default();
        let slow: Vec<Site> = (0..125)
            .map(|number| Site::from(format!("slow{number}").as_str()))
            .collect();
        let mut now = Moment::default();
        let begin_all = |in_flight: &mut InFlight<u8>, sites: &[Site], now: Moment| {
            let mut begun = Vec::new();
            for site in sites {
                in_flight.turns(site);
                if in_flight.may_begin(site, &config, now, false) == May::Begin {
                    in_flight.begin(site, now);
                    begun.push(site.clone());
                }
            }
            begun
        };
        let mut first = true;
        for round in 0..20 {
            let busy = begin_all(&mut in_flight, &slow, now);
            let new: Vec<Site> = (0..10)
                .map(|number| Site::from(format!("new{round}.{number}").as_str()))
                .collect();
            let tried = begin_all(&mut in_flight, &new, now).len();
            // So far nothing is known of the slow sites.
            let known = in_flight.sites.values();
            let poor = known.filter(|it| it.busy > 0 && it.health.is_poor(now));
            assert!(poor.count() <= 10, "round {round}");
            assert!(first || busy.len() <= 20);
            // By then all slow sites were tried once.
            if round > 125 / 10 {
                assert_eq!(tried, 10, "round {round}");
            }
            for site in &new {
                if in_flight.sites.get(site).is_some_and(|it| it.busy > 0) {
                    in_flight.end(site, |_| false);
                }
            }
            now = now.after(TAKES);
            for site in &busy {
                let health = Arc::clone(in_flight.health(site, now));
                health.answered(1, TAKES, now);
                in_flight.prove(site, now);
                in_flight.end(site, |_| false);
            }
            first = false;
        }
        assert_eq!(in_flight.unproven, Unproven::default());
    }

    #[test]
    fn one_site_has_half_of_the_places_while_others_wait() {
        let mut config = config();
        config.max_concurrency = 4;
        let mut in_flight = InFlight::<u8>::default();
        let a = Site::from("a");
        in_flight
            .health(&a, NOW.1)
            .answered(1, Duration::ZERO, NOW.1);
        in_flight.begin(&a, NOW.1);
        assert_eq!(in_flight.may_begin(&a, &config, NOW.1, true), May::Begin);
        in_flight.begin(&a, NOW.1);
        assert_eq!(
            in_flight.may_begin(&a, &config, NOW.1, true),
            May::AfterOthers
        );
        assert_eq!(in_flight.may_begin(&a, &config, NOW.1, false), May::Begin);
    }

    #[test]
    fn what_is_known_of_sites_is_forgotten() {
        let mut in_flight = InFlight::<u8>::default();
        for number in 0..3 * SWEEP_MIN {
            let site = Site::from(number.to_string().as_str());
            in_flight.health(&site, NOW.1);
        }
        assert!(in_flight.health.len() <= SWEEP_MIN);
    }
}
