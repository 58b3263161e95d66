//! How fast expired records of the history are removed.
//!
//! As many records expire as came in a while ago, so the pace follows from what came in: a run ends
//! only when nothing is left that has expired. The size of a step follows from how long steps take.
//! So a slow sync makes steps larger, not the run slower, and no step holds up the store for long.

use std::{sync::Arc, time::Duration};

use postrider_store::{Clock, Store};
use tokio::{sync::watch, time::Instant};
use tracing::warn;

/// Between two runs.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// A step should take at most so long, the sync included.
const STEP_TIME: Duration = Duration::from_millis(100);
/// The same in a run that does not end in time.
const LATE_STEP_TIME: Duration = Duration::from_millis(400);
/// Records in the smallest and in the largest step.
const SMALLEST: u64 = 100;
const LARGEST: u64 = 2048;

/// The pace of one run after the other.
#[derive(Debug)]
struct Pace {
    /// Records in the next step.
    step: u64,
    /// When the present run began.
    run_since: Option<Instant>,
}

/// What comes after a step.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Another step after this pause.
    Step(Duration),
    /// Nothing is left. Another run comes after a while.
    Run,
}

impl Pace {
    const fn new() -> Self {
        Self {
            step: SMALLEST,
            run_since: None,
        }
    }

    /// A step ended at `now` after `took`. It removed `removed` records.
    fn after(&mut self, now: Instant, took: Duration, removed: u64) -> Next {
        if removed < self.step {
            self.run_since = None;
            return Next::Run;
        }
        let since = *self.run_since.get_or_insert(now);
        let late = now.saturating_duration_since(since) > HOUSEKEEPING;
        let limit = if late { LATE_STEP_TIME } else { STEP_TIME };
        // At most twice as many or half as many, since one step says little.
        let step = if took < limit / 2 {
            self.step * 2
        } else if took > limit {
            self.step / 2
        } else {
            self.step
        };
        self.step = step.clamp(SMALLEST, LARGEST);
        // Three quarters of the time stay free for other work. A run that does not end in time
        // takes half, so that the history does not grow without limit.
        Next::Step(if late { took } else { took * 3 })
    }
}

/// Removes the expired records of the history, in small steps, until the server stops.
pub(crate) async fn expire_history(
    store: Store,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pace = Pace::new();
    loop {
        let begun = Instant::now();
        let next = match store.expire(clock.now(), pace.step).await {
            Ok(removed) => {
                let now = Instant::now();
                pace.after(now, now.saturating_duration_since(begun), removed)
            }
            Err(error) => {
                warn!(%error, "old history not removed");
                Next::Run
            }
        };
        let pause = async {
            match next {
                Next::Step(pause) => tokio::time::sleep(pause).await,
                Next::Run => {
                    let next = clock.moment().after(HOUSEKEEPING);
                    clock.sleep_until_moment(next).await;
                }
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = pause => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records per second that a pace removes when a step takes a fixed time and a time per record.
    fn rate(fixed: Duration, each: Duration, run: Duration) -> f64 {
        let begun = Instant::now();
        let mut pace = Pace::new();
        let (mut passed, mut removed) = (Duration::ZERO, 0);
        while passed < run {
            let step = pace.step;
            let took = fixed + each * u32::try_from(step).unwrap();
            passed += took;
            removed += step;
            match pace.after(begun + passed, took, step) {
                Next::Step(pause) => passed += pause,
                Next::Run => panic!("there is more"),
            }
        }
        removed as f64 / passed.as_secs_f64()
    }

    #[test]
    fn a_slow_sync_does_not_make_it_slow() {
        let micro = Duration::from_micros;
        // 10 ms for a sync: with steps of 100 that were 2500 a second.
        let slow = rate(micro(10_000), micro(5), Duration::from_secs(10));
        assert!(slow > 20_000.0, "{slow}");
        // 100 ms for a sync: a run that does not end in time uses large steps.
        let slow = rate(micro(100_000), micro(5), Duration::from_secs(600));
        assert!(slow > 5_000.0, "{slow}");
        // Records that take long are removed in small steps.
        let mut pace = Pace::new();
        let now = Instant::now();
        for _ in 0..20 {
            let took = micro(1000) * u32::try_from(pace.step).unwrap();
            pace.after(now, took, pace.step);
        }
        assert_eq!(pace.step, SMALLEST);
    }

    #[test]
    fn a_long_run_takes_more_of_the_time() {
        let (fixed, each) = (Duration::from_millis(1), Duration::from_micros(10));
        let short = rate(fixed, each, Duration::from_secs(50));
        let long = rate(fixed, each, Duration::from_secs(600));
        assert!(long > short * 1.7, "{short} {long}");
    }

    #[test]
    fn a_run_ends_when_nothing_is_left() {
        let mut pace = Pace::new();
        let now = Instant::now();
        let took = Duration::from_millis(1);
        assert_eq!(pace.after(now, took, 100), Next::Step(took * 3));
        assert_eq!(pace.after(now, took, 100), Next::Run);
        assert_eq!(pace.run_since, None);
    }
}
