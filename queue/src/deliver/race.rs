//! Happy eyeballs (RFC 8305) with figures of our own: which address of a host gets the connection,
//! if the host has addresses of both families.
//!
//! | rule | figure |
//! |---|---|
//! | IPv6 goes first, and IPv4 follows after | [`HEAD_START`], or when IPv6 has failed |
//! | an address has so long, if its family has another one | [`NEXT_AFTER`] |
//! | IPv4 goes first after so many races in a row that it won | [`LOSSES_MAX`] |
//! | for | [`IPV4_FIRST_FOR`] |
//!
//! Only the connections race. The winner gets the one session.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_store::Moment;

/// How long the first family is alone.
const HEAD_START: Duration = Duration::from_secs(1);
/// The time for an address that is not the last one of its family.
pub(super) const NEXT_AFTER: Duration = Duration::from_secs(10);
/// How many races in a row IPv6 loses before IPv4 goes first.
const LOSSES_MAX: u32 = 3;
/// How long IPv4 goes first then.
const IPV4_FIRST_FOR: Duration = Duration::from_secs(60 * 60);

/// Runs two lanes. The second one begins when the first one has ended without a winner, or after
/// its head start. None: no lane has a winner.
pub(super) async fn race<T>(
    first: impl Future<Output = Option<T>>,
    second: impl Future<Output = Option<T>>,
) -> Option<T> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    match tokio::time::timeout(HEAD_START, first.as_mut()).await {
        Ok(Some(winner)) => return Some(winner),
        Ok(None) => return second.await,
        Err(_) => {}
    }
    tokio::select! {
        ended = first.as_mut() => match ended {
            Some(winner) => Some(winner),
            None => second.await,
        },
        ended = second.as_mut() => match ended {
            Some(winner) => Some(winner),
            None => first.await,
        },
    }
}

/// Which family goes first, by the races so far.
#[derive(Debug, Default)]
pub(crate) struct Families(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The races in a row that IPv6 lost.
    losses: u32,
    /// IPv4 goes first until then.
    ipv4_until: Moment,
}

impl Families {
    /// The lock is held for a moment, never over a wait.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ipv6_first(&self, now: Moment) -> bool {
        self.state().ipv4_until <= now
    }

    /// A race of both families has ended, in which IPv6 went first.
    pub(super) fn ended(&self, ipv6_won: bool, now: Moment) {
        let mut state = self.state();
        state.losses = if ipv6_won { 0 } else { state.losses + 1 };
        if state.losses >= LOSSES_MAX {
            *state = State {
                losses: 0,
                ipv4_until: now.after(IPV4_FIRST_FOR),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    /// Ends after so many milliseconds, with a winner or without.
    async fn lane(name: &'static str, milliseconds: u64, wins: bool) -> Option<&'static str> {
        sleep(Duration::from_millis(milliseconds)).await;
        wins.then_some(name)
    }

    /// The winner, and the milliseconds until the end.
    async fn run(
        first: impl Future<Output = Option<&'static str>>,
        second: impl Future<Output = Option<&'static str>>,
    ) -> (Option<&'static str>, u128) {
        let start = Instant::now();
        let winner = race(first, second).await;
        (winner, start.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_lane_begins_a_second_later() {
        let check = async |first: (u64, bool), second: (u64, bool), winner, end| {
            let ended = run(lane("6", first.0, first.1), lane("4", second.0, second.1)).await;
            assert_eq!(ended, (winner, end), "{first:?} {second:?}");
        };
        check((900, true), (0, true), Some("6"), 900).await;
        check((1500, true), (400, true), Some("4"), 1400).await;
        check((1500, true), (600, true), Some("6"), 1500).await;
        // The second lane waits for no head start when the first one has failed.
        check((100, false), (50, true), Some("4"), 150).await;
        check((1500, false), (1000, true), Some("4"), 2000).await;
        check((5000, true), (100, false), Some("6"), 5000).await;
        check((100, false), (50, false), None, 150).await;
        check((3000, false), (500, false), None, 3000).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_family_costs_a_second() {
        let ended = run(pending(), lane("4", 20, true)).await;
        assert_eq!(ended, (Some("4"), 1020));
    }

    #[test]
    fn three_losses_in_a_row_put_ipv4_first_for_an_hour() {
        let families = Families::default();
        let mut now = Moment::default();
        for won in [false, false, true, false, false] {
            families.ended(won, now);
            assert!(families.is_ipv6_first(now));
        }
        families.ended(false, now);
        now = now.after(Duration::from_secs(60 * 60 - 1));
        assert!(!families.is_ipv6_first(now));
        now = now.after(Duration::from_secs(1));
        assert!(families.is_ipv6_first(now));
        families.ended(false, now);
        assert!(families.is_ipv6_first(now), "the count begins anew");
    }
}
