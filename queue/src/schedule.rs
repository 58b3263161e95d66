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

/// What is in flight, per destination and in all.
#[derive(Debug, Default)]
pub struct InFlight {
    workers: HashMap<Destination, usize>,
    total: usize,
}

impl InFlight {
    /// Workers in all.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }

    /// A worker for this destination begins.
    pub fn begin(&mut self, destination: &Destination) {
        *self.workers.entry(destination.clone()).or_default() += 1;
        self.total += 1;
    }

    /// A worker for this destination ended.
    pub fn end(&mut self, destination: &Destination) {
        if let Some(count) = self.workers.get_mut(destination) {
            *count -= 1;
            self.total -= 1;
            if *count == 0 {
                self.workers.remove(destination);
            }
        }
    }

    /// What to ask the store for; None when there is no room for another worker.
    #[must_use]
    pub fn claim(&self, now: Time, limits: &QueueConfig) -> Option<Claim> {
        let room = limits.max_concurrency.saturating_sub(self.total);
        if room == 0 {
            return None;
        }
        let full = |(destination, count): (&Destination, &usize)| {
            (*count >= limits.per_destination.connections).then(|| destination.clone())
        };
        Some(Claim {
            now,
            max: room.saturating_mul(BATCH).min(1024),
            max_per_destination: BATCH,
            only: None,
            except: self.workers.iter().filter_map(full).collect::<HashSet<_>>(),
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
        let mut in_flight = InFlight::default();
        let (a, b) = ("a.test".to_owned(), "b.test".to_owned());
        in_flight.begin(&a);
        assert!(in_flight.claim(Time(0), &config).unwrap().except.is_empty());
        in_flight.begin(&a);
        assert_eq!(
            in_flight.claim(Time(0), &config).unwrap().except,
            HashSet::from([a.clone()])
        );
        in_flight.begin(&b);
        assert!(in_flight.claim(Time(0), &config).is_none());
        in_flight.end(&a);
        assert!(in_flight.claim(Time(0), &config).unwrap().except.is_empty());
        assert_eq!(in_flight.total(), 2);
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
