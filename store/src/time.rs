//! Wall-clock time as records keep it, monotonic time for leases, and the clocks that give both.
//!
//! Nothing below the drivers asks the system for the time: a [`Clock`] is passed in, so that a test
//! can let an hour of retries pass in a millisecond.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A moment: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Time(pub i64);

impl Time {
    /// The moment `duration` later; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// The moment `duration` earlier; saturates at the beginning of time.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Days since 1970, in UTC; 0 for earlier moments.
    #[must_use]
    pub fn day(self) -> u32 {
        u32::try_from(self.0.max(0) / 86_400_000_000).unwrap_or(u32::MAX)
    }

    /// The same moment as a timestamp for formatting; moments outside of years -9999 to 9999 are
    /// clamped.
    #[must_use]
    pub fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }
}

/// A moment of a clock that nobody sets: the time since some beginning, the same one for all
/// moments of a [`Clock`]. It means nothing to another process, so it is in no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// The moment `duration` later; saturates at the end of time.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<jiff::Timestamp> for Time {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp.as_microsecond())
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(-micros(before.duration())),
        }
    }
}

/// RFC 3339 in UTC with as many digits of a second as are needed.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timestamp().fmt(f)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The future of a clock's `sleep_until`.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The time, and waiting for it.
pub trait Clock: Send + Sync + 'static {
    /// The time now, as the wall clock shows it. Somebody may set that clock.
    fn now(&self) -> Time;
    /// The moment now. It goes on evenly, whatever the wall clock does.
    fn moment(&self) -> Moment;
    /// Ends when `now` has reached `time`; at once if it has. For times that people or records
    /// name.
    fn sleep_until(&self, time: Time) -> Sleep;
    /// Ends when `moment` has come; at once if it has. For waits of some length: who sets the wall
    /// clock does not make them longer or shorter.
    fn sleep_until_moment(&self, moment: Moment) -> Sleep;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        SystemTime::now().into()
    }

    fn moment(&self) -> Moment {
        // The system has this clock, so there is no error.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
        Moment(now.map(Duration::from).unwrap_or_default())
    }

    fn sleep_until(&self, time: Time) -> Sleep {
        let clock = *self;
        Box::pin(async move {
            // A wall clock may be set while we sleep, so sleep in slices and look again.
            loop {
                let left = time.since(clock.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(30))).await;
            }
        })
    }

    fn sleep_until_moment(&self, moment: Moment) -> Sleep {
        // The timers of tokio follow the same monotonic clock.
        Box::pin(tokio::time::sleep(moment.since(self.moment())))
    }
}

/// A clock that moves only when told to.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<watch::Sender<(Time, Moment)>>);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self(Arc::new(watch::Sender::new((now, Moment::default()))))
    }

    /// Moves the clock on, and wakes every sleeper whose moment has come.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|(now, moment)| {
            *now = now.after(duration);
            *moment = moment.after(duration);
        });
    }

    /// Sets the wall clock, as an administrator or a time service does. No time passes.
    pub fn set(&self, time: Time) {
        self.0.send_modify(|(now, _)| *now = time);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        self.0.borrow().0
    }

    fn moment(&self) -> Moment {
        self.0.borrow().1
    }

    fn sleep_until(&self, time: Time) -> Sleep {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            if now.wait_for(|(now, _)| *now >= time).await.is_err() {
                // The clock is gone, so that moment never comes.
                std::future::pending::<()>().await;
            }
        })
    }

    fn sleep_until_moment(&self, moment: Moment) -> Sleep {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            if now.wait_for(|(_, now)| *now >= moment).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_rfc_3339() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Time(1_500_000).after(Duration::from_secs(60)).to_string(),
            "1970-01-01T00:01:01.5Z"
        );
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time(i64::MAX).after(Duration::MAX), Time(i64::MAX));
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers() {
        let clock = ManualClock::new(Time(0));
        let sleep = tokio::spawn(clock.sleep_until(Time(1_000_000)));
        clock.advance(Duration::from_secs(1));
        sleep.await.unwrap();
        assert_eq!(clock.now(), Time(1_000_000));
    }

    #[tokio::test]
    async fn a_wait_of_some_length_ends_though_the_wall_clock_is_set_back() {
        let clock = ManualClock::new(Time(3_600_000_000));
        let second = Duration::from_secs(1);
        let sleep = tokio::spawn(clock.sleep_until_moment(clock.moment().after(second)));
        clock.set(Time(0));
        clock.advance(second);
        sleep.await.unwrap();
        SystemClock.sleep_until_moment(SystemClock.moment()).await;
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_no_moment() {
        let clock = ManualClock::new(Time(0));
        clock.advance(Duration::from_secs(1));
        let before = clock.moment();
        clock.set(Time(9_000_000));
        assert_eq!((clock.now(), clock.moment()), (Time(9_000_000), before));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.moment().since(before), Duration::from_secs(1));
        assert_eq!(before.since(clock.moment()), Duration::ZERO);
        let system = SystemClock.moment();
        assert!(system > Moment::default() && SystemClock.moment() >= system);
    }
}
