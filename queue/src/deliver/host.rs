//! The addresses of one host: a race for a connection, then a session with the winner.

use std::sync::{Mutex, PoisonError};

use postrider_smtp::client::Link;
use tokio::time::Instant;
use tracing::debug;

use super::{
    KeptConnection,
    addresses::{Peer, Place},
    attempt::{OngoingAttempt, Visit, blames_address},
    endpoint::{Endpoint, Unconnected, unreached},
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

/// The addresses that got no connection, by their index.
type AllMissed = Mutex<Vec<(usize, Missed)>>;

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
            if open
                .first()
                .is_some_and(|first| self.all_lack(&first.hop.name))
            {
                return false;
            }
            if open.first().is_some_and(|first| !self.may_connect(first)) {
                return true;
            }
            let missed = AllMissed::default();
            let winner = self.race(&open, &missed).await;
            let missed = missed.into_inner().unwrap_or_else(PoisonError::into_inner);
            let Some(winner) = winner else {
                // All of them.
                let mut addresses = open.into_iter().map(Some).collect::<Vec<_>>();
                return missed.into_iter().any(|(index, missed)| {
                    let endpoint = addresses.get_mut(index).and_then(Option::take);
                    endpoint.is_some_and(|endpoint| self.missed(&endpoint, missed))
                });
            };
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
    async fn race<'a>(&self, open: &[Endpoint<'a>], missed: &AllMissed) -> Option<Winner<'a>> {
        let ipv6_first = open.first().is_some_and(is_ipv6);
        let contestants = open.iter().enumerate();
        let (first, second): (Vec<_>, Vec<_>) =
            contestants.partition(|(_, endpoint)| is_ipv6(endpoint) == ipv6_first);
        let both = !second.is_empty();
        let winner = race(self.lane(first, missed), self.lane(second, missed)).await;
        if let Some(winner) = &winner
            && both
            && ipv6_first
        {
            let now = self.queue.clock.moment();
            self.queue.families.ended(is_ipv6(&winner.endpoint), now);
        }
        winner
    }

    /// Connects to the addresses of one family, one after another.
    async fn lane<'a>(
        &self,
        contestants: Vec<(usize, &Endpoint<'a>)>,
        missed: &AllMissed,
    ) -> Option<Winner<'a>> {
        let mut left = contestants.len();
        for (index, endpoint) in contestants {
            left -= 1;
            match self.contest(index, endpoint.clone(), left == 0).await {
                Ok(winner) => return Some(winner),
                Err(error) => {
                    let mut missed = missed.lock().unwrap_or_else(PoisonError::into_inner);
                    missed.push((index, error));
                }
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
    ) -> Result<Winner<'a>, Missed> {
        let clock = &*self.queue.clock;
        let place = self.queue.addresses.place(&endpoint.address, clock, false);
        let Some(place) = place.await else {
            return Err(Missed::Crowded);
        };
        loop {
            let dialing = self.dial(&endpoint);
            let dialed = match last {
                true => dialing.await,
                false => {
                    let dialed = tokio::time::timeout(race::NEXT_AFTER, dialing).await;
                    dialed.unwrap_or_else(|_| Err(late(&endpoint)))
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
                Unconnected::Theirs(unopened) => {
                    let status = &unopened.status;
                    debug!(%status, "an address got no connection");
                    if blames_address(status) {
                        place.failed(clock.moment(), false);
                    }
                }
            }
            return Err(Missed::Unconnected(error));
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
