//! Answers that come late, so that a client that guesses addresses or passwords gets few answers.
//!
//! A wait holds a timer and no thread. The session looks at no further input meanwhile, and what it
//! had to say before leaves in the same write as the late answer.

use std::{net::IpAddr, sync::Arc, time::Duration};

use postrider_store::Clock;
use tokio::sync::Semaphore;

/// The most answers that are late at the same time. A further one comes at once: many slow clients
/// must not hold all connections.
const PLACES: usize = 1000;
/// The mistakes of a session before its answers come late.
const FREE: u32 = 2;
/// The mistakes of a session that end it.
const LAST: u32 = 10;
/// The longest wait after a mistake.
const LONGEST: Duration = Duration::from_secs(10);

/// The answers that are late. Clones share the places.
#[derive(Clone)]
pub struct SlowAnswers {
    places: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl SlowAnswers {
    /// No answer is late.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            clock,
        }
    }

    /// How many answers are late.
    #[must_use]
    pub fn late(&self) -> usize {
        PLACES.saturating_sub(self.places.available_permits())
    }

    /// Waits before an answer to a client. Ends at once if too many answers are late, and for a
    /// client on this machine: it passes on what others ask.
    pub async fn wait(&self, client: IpAddr, time: Duration) {
        if time.is_zero() || client.to_canonical().is_loopback() {
            return;
        }
        if let Ok(_place) = self.places.try_acquire() {
            let until = self.clock.moment().after(time);
            self.clock.sleep_until_moment(until).await;
        }
    }
}

impl std::fmt::Debug for SlowAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlowAnswers")
            .field("late", &self.late())
            .finish_non_exhaustive()
    }
}

/// The mistakes of one kind in a session: unknown recipients, or failed logins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    all: u32,
    /// Those without anything right in the session.
    without_good: u32,
    had_good: bool,
}

/// What a mistake costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// How late the answer comes.
    pub wait: Duration,
    /// The session ends.
    pub closes: bool,
}

impl Mistakes {
    /// Counts a mistake. The third costs a second, and each further one a second more. The tenth
    /// ends the session, unless the client got something right.
    pub fn add(&mut self) -> Penalty {
        self.all = self.all.saturating_add(1);
        if !self.had_good {
            self.without_good = self.without_good.saturating_add(1);
        }
        let seconds = self.all.saturating_sub(FREE);
        Penalty {
            wait: Duration::from_secs(seconds.into()).min(LONGEST),
            closes: self.without_good >= LAST,
        }
    }

    /// The client got something right.
    pub const fn good(&mut self) {
        self.had_good = true;
        self.without_good = 0;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use postrider_store::{ManualClock, Time};
    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn each_mistake_costs_more() {
        let mut mistakes = Mistakes::default();
        let penalties: Vec<_> = (0..10).map(|_| mistakes.add()).collect();
        let waits: Vec<_> = penalties.iter().map(|it| it.wait.as_secs()).collect();
        assert_eq!(waits, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let closes: Vec<_> = penalties.iter().map(|it| it.closes).collect();
        assert_eq!(closes.iter().position(|closes| *closes), Some(9));
        mistakes.good();
        let penalties: Vec<_> = (0..10).map(|_| mistakes.add()).collect();
        assert!(penalties.iter().all(|it| !it.closes));
        assert_eq!(penalties[9].wait, LONGEST);
    }

    #[tokio::test]
    async fn an_answer_waits_unless_too_many_do() {
        let clock = ManualClock::new(Time::default());
        let slow = SlowAnswers::new(Arc::new(clock.clone()));
        let second = Duration::from_secs(1);
        let client = IpAddr::from([192, 0, 2, 1]);
        let near = IpAddr::from([127, 0, 0, 1]);
        assert!(slow.wait(client, Duration::ZERO).now_or_never().is_some());
        assert!(slow.wait(near, second).now_or_never().is_some());
        let mut waits = JoinSet::new();
        for _ in 0..PLACES {
            let slow = slow.clone();
            waits.spawn(async move { slow.wait(client, second).await });
        }
        while slow.late() < PLACES {
            tokio::task::yield_now().await;
        }
        let one_more = || slow.wait(client, second).now_or_never();
        assert!(one_more().is_some(), "there is no place");
        clock.advance(second);
        waits.join_all().await;
        assert!(one_more().is_none(), "there is a place again");
    }
}
