//! The addresses of one host: a race for a connection, then a session with the winner.

use std::sync::{Mutex, PoisonError};

use postrider_observe::metrics::Connected;
use postrider_smtp::client::Link;
use tokio::time::Instant;
use tracing::debug;

use super::{
    KeptConnection,
    addresses::{Peer, Place},
    attempt::{OngoingAttempt, Visit},
    endpoint::{Endpoint, Unconnected, unreached},
    happenings::ends_of,
    race::{self, race},
};

/// Why an address got no connection.
enum Missed {
    /// It has no place for another one.
    Crowded,
    Unconnected(Unconnected),
}

/// An address with a connection.
struct Winner<'a> {
    index: usize,
    endpoint: Endpoint<'a>,
    place: Place,
    link: Link,
}

/// A race so far.
#[derive(Default)]
struct Race {
    /// The addresses that got no connection, by their index.
    missed: Vec<(usize, Missed)>,
    /// A connection to an IPv6 address was begun.
    dialed_ipv6: bool,
}

impl Race {
    /// Whether it says something of IPv6 that another family won: a connection was begun, and no
    /// limit or fault of ours stood in its way.
    fn ipv6_lost(&self, open: &[Endpoint<'_>]) -> bool {
        let excused = |(index, missed): &(usize, Missed)| {
            let theirs = matches!(missed, Missed::Unconnected(Unconnected::Theirs(_)));
            !theirs && open.get(*index).is_some_and(is_ipv6)
        };
        self.dialed_ipv6 && !self.missed.iter().any(excused)
    }
}

/// A race under way. The lock is held for a moment, never over a wait.
#[derive(Default)]
struct Track(Mutex<Race>);

impl Track {
    fn change(&self, change: impl FnOnce(&mut Race)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn end(self) -> Race {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OngoingAttempt<'_> {
    /// Tries the addresses of a host, best first. Returns true when nothing is left to do.
    pub(super) async fn try_addresses(
        &mut self,
        mut open: Vec<Endpoint<'_>>,
        kept: &mut Option<KeptConnection>,
    ) -> bool {
        while !open.is_empty() {
            if Instant::now() >= self.end_of_time() {
                self.be_late();
                return true;
            }
            self.choose_anew(&mut open);
            if open
                .first()
                .is_some_and(|first| self.all_lack(&first.hop.name))
            {
                return false;
            }
            let track = Track::default();
            let winner = self.race(&open, &track).await;
            let race = track.end();
            self.note_race(&open, &race, winner.as_ref());
            let missed = race.missed;
            let Some(winner) = winner else {
                // All of them.
                let mut addresses = open.into_iter().map(Some).collect::<Vec<_>>();
                return missed.into_iter().any(|(index, missed)| {
                    let endpoint = addresses.get_mut(index).and_then(Option::take);
                    endpoint.is_some_and(|endpoint| self.missed(&endpoint, missed))
                });
            };
            for (index, missed) in &missed {
                if let Some(endpoint) = open.get(*index) {
                    self.lost(endpoint, missed);
                }
            }
            let gone =
                |index: usize| index == winner.index || missed.iter().any(|(at, _)| *at == index);
            let mut index = 0;
            open.retain(|_| {
                index += 1;
                !gone(index - 1)
            });
            let start = Visit::Connected(winner.place, winner.link);
            if self.visit(winner.endpoint, start, kept).await {
                return true;
            }
        }
        false
    }

    /// Connects to one of the addresses. The family of the best one goes first. None: no
    /// connection can be made, and all of them are among the missed ones.
    async fn race<'a>(&self, open: &[Endpoint<'a>], track: &Track) -> Option<Winner<'a>> {
        let ipv6_first = open.first().is_some_and(is_ipv6);
        let contestants = open.iter().enumerate();
        let (first, second): (Vec<_>, Vec<_>) =
            contestants.partition(|(_, endpoint)| is_ipv6(endpoint) == ipv6_first);
        race(self.lane(first, track), self.lane(second, track)).await
    }

    /// Notes which family won, if both ran and IPv6 went first.
    fn note_race(&self, open: &[Endpoint<'_>], race: &Race, winner: Option<&Winner<'_>>) {
        let ipv6_first = open.first().is_some_and(is_ipv6);
        let both = !open.iter().all(is_ipv6);
        let (Some(winner), true, true) = (winner, both, ipv6_first) else {
            return;
        };
        let ipv6_won = is_ipv6(&winner.endpoint);
        if ipv6_won || race.ipv6_lost(open) {
            let now = self.queue.clock.moment();
            self.queue.families.ended(ipv6_won, now);
        }
    }

    /// Connects to the addresses of one family, one after another.
    async fn lane<'a>(
        &self,
        contestants: Vec<(usize, &Endpoint<'a>)>,
        track: &Track,
    ) -> Option<Winner<'a>> {
        let mut left = contestants.len();
        for (index, endpoint) in contestants {
            left -= 1;
            let last = left == 0;
            match self.contest(index, endpoint.clone(), last, track).await {
                Ok(winner) => return Some(winner),
                Err(error) => track.change(|race| race.missed.push((index, error))),
            }
        }
        None
    }

    /// Connects to an address. `last`: its family has no other one.
    async fn contest<'a>(
        &self,
        index: usize,
        mut endpoint: Endpoint<'a>,
        last: bool,
        track: &Track,
    ) -> Result<Winner<'a>, Missed> {
        let clock = &*self.queue.clock;
        let place = self.queue.addresses.place(&endpoint.address, clock, false);
        let Some(place) = place.await else {
            return Err(Missed::Crowded);
        };
        track.change(|race| race.dialed_ipv6 |= is_ipv6(&endpoint));
        self.note_tried(&endpoint);
        loop {
            let dialing = self.dial(&endpoint);
            let dialed = match last {
                true => dialing.await,
                false => {
                    let dialed = tokio::time::timeout(race::NEXT_AFTER, dialing).await;
                    dialed.unwrap_or_else(|_| {
                        let late = late(&endpoint);
                        self.count_undialed(Connected::Timeout);
                        let ends = || ends_of(&endpoint, self.plan);
                        let step = || late.happened(ends(), race::NEXT_AFTER);
                        self.happenings.note(step);
                        Err(late)
                    })
                }
            };
            let error = match dialed {
                Ok(link) => {
                    return Ok(Winner {
                        index,
                        endpoint,
                        place,
                        link,
                    });
                }
                Err(error) => error,
            };
            match &error {
                Unconnected::Ours(..) => {
                    if let Some(source) = self.other_source(&endpoint) {
                        endpoint.source = source;
                        continue;
                    }
                }
                Unconnected::NotBefore(_) => {}
                Unconnected::Theirs(unopened) => {
                    let status = &unopened.status;
                    debug!(%status, "an address got no connection");
                    if self.blames_address(status) {
                        place.failed(clock.moment(), false);
                    }
                }
            }
            return Err(Missed::Unconnected(error));
        }
    }

    /// Notes what became of an address while another one won. It may still be that the session with
    /// the winner fails. What is our own affair says nothing then: a connection was made.
    fn lost(&mut self, endpoint: &Endpoint<'_>, missed: &Missed) {
        match missed {
            Missed::Crowded => self.crowded(endpoint),
            Missed::Unconnected(Unconnected::Theirs(unopened)) => {
                self.outrun(&unopened.status);
            }
            Missed::Unconnected(Unconnected::Ours(..) | Unconnected::NotBefore(_)) => {}
        }
    }

    /// Notes that an address got no connection. Returns true when nothing is left to do.
    fn missed(&mut self, endpoint: &Endpoint<'_>, missed: Missed) -> bool {
        match missed {
            Missed::Crowded => {
                self.crowded(endpoint);
                false
            }
            Missed::Unconnected(error) => self.unconnected(endpoint, error, None),
        }
    }
}

fn is_ipv6(endpoint: &Endpoint<'_>) -> bool {
    match &endpoint.address {
        Peer::Ip(address) => address.is_ipv6(),
        Peer::Socket(_) => false,
    }
}

/// The failure of an address whose time is over, since its family has others.
fn late(endpoint: &Endpoint<'_>) -> Unconnected {
    let (door, limit) = (endpoint.door(), race::NEXT_AFTER);
    let text = format!("connecting to {door} took longer than {limit:?}");
    Unconnected::Theirs(unreached(endpoint, text).into())
}
