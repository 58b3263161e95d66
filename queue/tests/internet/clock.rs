//! The clock of a world: it follows tokio's time, which jumps to the next timer when all tasks
//! wait.

use std::time::Duration;

use postrider_store::{Clock, Moment, Sleep, Time};
use tokio::time::Instant;

/// The beginning of each world: 2027-01-15T08:00:00Z.
const BEGINNING: Time = Time(1_800_000_000_000_000);

/// The time since the beginning of a world. Its wall clock is never set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimClock {
    start: Instant,
}

impl SimClock {
    /// The world begins now.
    pub(crate) fn begin() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// How long the world is old.
    pub(crate) fn age(&self) -> Duration {
        self.start.elapsed()
    }

    /// The age of the world at a time.
    pub(crate) fn age_at(time: Time) -> Duration {
        time.since(BEGINNING)
    }

    /// The time at an age of the world.
    pub(crate) fn time_at(age: Duration) -> Time {
        BEGINNING.after(age)
    }

    /// Waits until the world has this age.
    pub(crate) async fn wait_for(&self, age: Duration) {
        tokio::time::sleep_until(self.start + age).await;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        Self::time_at(self.age())
    }

    fn moment(&self) -> Moment {
        Moment(self.age())
    }

    fn sleep_until(&self, time: Time) -> Sleep {
        Box::pin(tokio::time::sleep_until(self.start + Self::age_at(time)))
    }

    fn sleep_until_moment(&self, moment: Moment) -> Sleep {
        Box::pin(tokio::time::sleep_until(self.start + moment.0))
    }
}
