//! What may begin now, and when a failed message is tried again: pure functions of what is in flight and of limits.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use postrider_config::QueueConfig;
use postrider_store::{Claim, Destination, Time};
use rand::{Rng, RngExt};

/// How long a claim holds unless it is renewed.
pub const LEASE: Duration = Duration::from_secs(600);

/// How many messages a worker takes at once: enough to fill a pipeline, few enough that ten connections share a burst.
pub const BATCH: usize = 32;

/// The workers, per destination and in all. `W` is what reaches one that is idle: connected, with nothing to do.
#[derive(Debug)]
pub struct InFlight<W> {
    destinations: HashMap<Destination, Workers<W>>,
    busy: usize,
    idle: usize,
}

#[derive(Debug)]
struct Workers<W> {
    busy: usize,
    idle: Vec<W>,
}

impl<W> Default for InFlight<W> {
    fn default() -> Self {
        Self {
            destinations: HashMap::new(),
            busy: 0,
            idle: 0,
        }
    }
}

impl<W> InFlight<W> {
    /// Workers that have something to do.
    #[must_use]
    pub const fn busy(&self) -> usize {
        self.busy
    }

    /// A worker for this destination begins.
    pub fn begin(&mut self, destination: &Destination) {
        let workers = self.destinations.entry(destination.clone());
        let workers = workers.or_insert_with(|| Workers {
            busy: 0,
            idle: Vec::new(),
        });
        workers.busy += 1;
        self.busy += 1;
    }

    /// A worker has nothing to do.
    pub fn rest(&mut self, destination: &Destination, worker: W) {
        if let Some(workers) = self.destinations.get_mut(destination) {
            workers.busy -= 1;
            workers.idle.push(worker);
            self.busy -= 1;
            self.idle += 1;
        }
    }

    /// An idle worker, the last that became so; it counts as busy from now on.
    pub fn wake(&mut self, destination: &Destination) -> Option<W> {
        let workers = self.destinations.get_mut(destination)?;
        let worker = workers.idle.pop()?;
        workers.busy += 1;
        self.busy += 1;
        self.idle -= 1;
        Some(worker)
    }

    /// If no more than `max` workers may be there and all are: an idle one, which is to be sent away. It counts as busy
    /// until it ended.
    pub fn make_room(&mut self, max: usize) -> Option<W> {
        if self.busy + self.idle < max || self.idle == 0 {
            return None;
        }
        let mut waiting = self.destinations.iter();
        let (destination, _) = waiting.find(|(_, workers)| !workers.idle.is_empty())?;
        let destination = destination.clone();
        self.wake(&destination)
    }

    /// A worker for this destination ended; `is_gone` tells of an idle one whether it is the one.
    pub fn end(&mut self, destination: &Destination, is_gone: impl Fn(&W) -> bool) {
        let Some(workers) = self.destinations.get_mut(destination) else {
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
            self.destinations.remove(destination);
        }
    }

    /// Forgets all idle workers.
    pub fn dismiss(&mut self) {
        for workers in self.destinations.values_mut() {
            workers.busy += workers.idle.len();
            workers.idle.clear();
        }
        self.busy += self.idle;
        self.idle = 0;
    }

    /// What to ask the store for; None when all that may work do.
    #[must_use]
    pub fn claim(&self, now: Time, limits: &QueueConfig) -> Option<Claim> {
        let room = limits.max_concurrency.saturating_sub(self.busy);
        if room == 0 {
            return None;
        }
        let full = |(destination, workers): (&Destination, &Workers<W>)| {
            (workers.busy >= limits.per_destination.connections).then(|| destination.clone())
        };
        Some(Claim {
            now,
            max: room.saturating_mul(BATCH).min(1024),
            max_per_destination: BATCH,
            only: None,
            except: self
                .destinations
                .iter()
                .filter_map(full)
                .collect::<HashSet<_>>(),
            lease: LEASE,
        })
    }
}

/// When a message whose attempt number `attempts` (from 1) failed at `now` is tried again; None when that was the last.
pub fn retry_at(
    now: Time,
    attempts: u32,
    config: &QueueConfig,
    rng: &mut impl Rng,
) -> Option<Time> {
    let index = usize::try_from(attempts)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    let interval = config.retry_intervals.get(index)?;
    let spread = config.retry_spread.clamp(0.0, 1.0);
    let factor = 1.0 + spread * rng.random_range(-1.0..=1.0);
    Some(now.after(interval.mul_f64(factor)))
}

/// Until when a message is tried that failed attempt number `attempts` and is next tried at `next`.
#[must_use]
pub fn gives_up_at(next: Time, attempts: u32, config: &QueueConfig) -> Time {
    let done = usize::try_from(attempts).unwrap_or(usize::MAX);
    config
        .retry_intervals
        .iter()
        .skip(done)
        .fold(next, |time, interval| time.after(*interval))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn config() -> QueueConfig {
        let statics = "hostname = \"a.example\"\n[postmaster]\naccount = \"a\"\n[listeners.l]\nips = [\"127.0.0.1\"]\n";
        postrider_config::Static::parse(statics, "postrider.conf")
            .unwrap()
            .queue
    }

    #[test]
    fn limits_hold_in_all_and_per_destination() {
        let mut config = config();
        config.max_concurrency = 3;
        config.per_destination.connections = 2;
        let mut in_flight = InFlight::<u8>::default();
        let (a, b) = ("a.test".to_owned(), "b.test".to_owned());
        let except = |in_flight: &InFlight<u8>| in_flight.claim(Time(0), &config).unwrap().except;
        in_flight.begin(&a);
        assert!(except(&in_flight).is_empty());
        in_flight.begin(&a);
        assert_eq!(except(&in_flight), HashSet::from([a.clone()]));
        in_flight.begin(&b);
        assert!(in_flight.claim(Time(0), &config).is_none());
        in_flight.end(&a, |_| false);
        assert!(except(&in_flight).is_empty());
        assert_eq!(in_flight.busy(), 2);
    }

    #[test]
    fn idle_workers_take_no_place_and_are_woken_or_sent_away() {
        let mut config = config();
        config.per_destination.connections = 1;
        let mut in_flight = InFlight::default();
        let (a, b) = ("a.test".to_owned(), "b.test".to_owned());
        in_flight.begin(&a);
        assert!(in_flight.make_room(1).is_none(), "it is busy");
        in_flight.rest(&a, 1);
        let claim = in_flight.claim(Time(0), &config).unwrap();
        assert!(claim.except.is_empty());
        assert_eq!(in_flight.wake(&b), None);
        assert_eq!(in_flight.wake(&a), Some(1));
        assert_eq!(in_flight.busy(), 1);
        in_flight.rest(&a, 1);
        assert_eq!(in_flight.make_room(2), None);
        assert_eq!(in_flight.make_room(1), Some(1));
        in_flight.end(&a, |_| false);
        assert_eq!(in_flight.busy(), 0);
        // One that gave up waiting ends as an idle one.
        in_flight.begin(&b);
        in_flight.begin(&b);
        in_flight.rest(&b, 2);
        in_flight.end(&b, |worker| *worker == 2);
        assert_eq!(in_flight.busy(), 1);
        assert_eq!(in_flight.wake(&b), None);
    }

    #[test]
    fn nine_attempts_and_then_none() {
        let mut config = config();
        config.retry_spread = 0.0;
        let mut rng = StdRng::seed_from_u64(1);
        let waits: Vec<u64> = (1..=9)
            .map_while(|attempts| retry_at(Time(0), attempts, &config, &mut rng))
            .map(|time| time.since(Time(0)).as_secs())
            .collect();
        assert_eq!(waits, [450, 900, 1800, 3600, 7200, 14400, 28800, 57600]);
        let next = Time(0).after(Duration::from_secs(28800));
        assert_eq!(gives_up_at(next, 7, &config).since(next).as_secs(), 57600);
        assert_eq!(gives_up_at(next, 8, &config), next);
    }

    #[test]
    fn the_spread_is_bounded() {
        let config = config();
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..1000 {
            let wait = retry_at(Time(0), 1, &config, &mut rng)
                .unwrap()
                .since(Time(0))
                .as_secs_f64();
            assert!((405.0..=495.0).contains(&wait), "{wait}");
        }
    }
}
