//! The workers of each site and of all sites, and the rules for when a worker may begin. There is
//! no I/O here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use postrider_config::QueueConfig;
use postrider_store::{Claim, Destination, Moment, Time};

use super::{BATCH, LEASE, turns::Turns};
use crate::next_hop::Site;

/// How many messages are claimed at once.
const CLAIM_MAX: usize = 1024;

/// The workers, and what waits for them. `W` reaches a worker that is idle: connected, with nothing
/// to do.
#[derive(Debug)]
pub(crate) struct InFlight<W> {
    sites: HashMap<Site, Workers<W>>,
    busy: usize,
    idle: usize,
}

#[derive(Debug)]
struct Workers<W> {
    busy: usize,
    idle: Vec<W>,
    turns: Arc<Turns>,
}

impl<W> Default for InFlight<W> {
    fn default() -> Self {
        Self {
            sites: HashMap::new(),
            busy: 0,
            idle: 0,
        }
    }
}

impl<W> InFlight<W> {
    /// How many workers have something to do.
    #[cfg(test)]
    pub(crate) const fn busy(&self) -> usize {
        self.busy
    }

    /// The messages that wait for the workers of a site.
    pub(crate) fn turns(&mut self, site: &Site) -> &Arc<Turns> {
        &self.workers(site).turns
    }

    fn workers(&mut self, site: &Site) -> &mut Workers<W> {
        self.sites.entry(site.clone()).or_insert_with(|| Workers {
            busy: 0,
            idle: Vec::new(),
            turns: Arc::default(),
        })
    }

    /// How many workers of a site could take a turn now.
    pub(crate) fn turns_waiting(&self, site: &Site) -> usize {
        let workers = self.sites.get(site);
        workers.map_or(0, |workers| workers.turns.waiting())
    }

    /// Whether a worker of this site may begin.
    pub(crate) fn may_begin(&self, site: &Site, limits: &QueueConfig) -> May {
        let busy = self.sites.get(site).map_or(0, |workers| workers.busy);
        if busy >= limits.per_destination.connections {
            May::NotAtThisSite
        } else if self.busy >= limits.max_concurrency {
            May::NotNow
        } else {
            May::Begin
        }
    }

    /// A worker of this site begins.
    pub(crate) fn begin(&mut self, site: &Site) {
        self.workers(site).busy += 1;
        self.busy += 1;
    }

    /// A worker has nothing to do.
    pub(crate) fn rest(&mut self, site: &Site, worker: W) {
        if let Some(workers) = self.sites.get_mut(site) {
            workers.busy -= 1;
            workers.idle.push(worker);
            self.busy -= 1;
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
            workers.busy -= 1;
            self.busy -= 1;
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
    pub(crate) fn full_sites(&self, limits: &QueueConfig) -> HashSet<Site> {
        self.sites
            .iter()
            .filter(|(_, workers)| workers.busy >= limits.per_destination.connections)
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
            if workers.busy >= limits.per_destination.connections {
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
        in_flight.begin(&a);
        in_flight.turns(&a).push(batch("a.test", 1)).unwrap();
        assert!(except(&in_flight, &config).is_empty());
        assert_eq!(in_flight.may_begin(&a, &config), May::Begin);
        in_flight.begin(&a);
        assert_eq!(
            except(&in_flight, &config),
            HashSet::from(["a.test".to_owned()])
        );
        assert_eq!(in_flight.full_sites(&config), HashSet::from([a.clone()]));
        assert_eq!(in_flight.may_begin(&a, &config), May::NotAtThisSite);
        in_flight.begin(&b);
        assert!(in_flight.claim(NOW, &config, std::iter::empty()).is_none());
        assert_eq!(in_flight.may_begin(&b, &config), May::NotNow);
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
        in_flight.begin(&a);
        in_flight.turns(&a).push(batch("a.test", 1)).unwrap();
        in_flight.end(&a, |_| false);
        assert_eq!(in_flight.waiting(), (1, 1));
        in_flight.begin(&a);
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
        in_flight.begin(&a);
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
        in_flight.begin(&b);
        in_flight.begin(&b);
        in_flight.rest(&b, 2);
        in_flight.end(&b, |worker| *worker == 2);
        assert_eq!(in_flight.busy(), 1);
        assert_eq!(in_flight.wake(&b), None);
    }
}
