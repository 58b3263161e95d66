//! The limits on open connections.
//!
//! MX, submission and HTTP share one number of connections, of which each has an eighth for itself.
//! So clients of one kind that fill all their places never lock out the others. Within a kind each
//! network has its limit, and the wider networks around it have a multiple of that.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The part of all connections that each kind has for itself, as a divisor.
const OWN_PART: usize = 8;

/// A kind of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Other mail servers.
    Mx,
    /// Applications and people who submit mail over SMTP.
    Submission,
    /// Clients of the HTTP services.
    Http,
}

impl Kind {
    /// The name in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mx => "MX",
            Self::Submission => "submission",
            Self::Http => "HTTP",
        }
    }
}

/// The limit that leaves no place for a connection. The text is its key in `postrider.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All places of the kind are taken.
    #[error("limits.connections")]
    All,
    /// The client's network has as many connections as it may.
    #[error("limits.connections_per_network")]
    Network,
}

/// Counts connections: all of them, those of each kind, and those of each network.
#[derive(Debug)]
pub struct Gate {
    all: usize,
    per_network: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    mx: Share,
    submission: Share,
    http: Share,
    networks: HashMap<(Kind, Network), usize>,
}

/// The connections of a kind.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The places that only this kind may take.
    own: usize,
    /// The open connections.
    open: usize,
}

/// The length of a prefix, and the first address with it.
type Network = (u8, IpAddr);

/// The way to the gate for the connections of one socket.
#[derive(Clone, Debug)]
pub struct Door {
    gate: Arc<Gate>,
    kind: Kind,
    behind_proxy: bool,
}

/// The place of one connection. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    kind: Kind,
    /// The address whose networks the connection counts in.
    counted: Option<IpAddr>,
}

impl Gate {
    /// Allows `all` connections, and of one kind `per_network` from one IPv4 address or IPv6 /64,
    /// twice as many from an IPv6 /56, and four times as many from an IPv4 /24 or IPv6 /48. Only
    /// the `kinds` that have sockets get places for themselves.
    #[must_use]
    pub fn new(all: usize, per_network: usize, kinds: &[Kind]) -> Arc<Self> {
        let mut open = Open::default();
        for kind in kinds {
            open.share(*kind).own = all / OWN_PART;
        }
        Arc::new(Self {
            all,
            per_network,
            open: Mutex::new(open),
        })
    }

    /// The way to the gate for a socket. Behind a trusted proxy, all connections come from the
    /// proxy, so its network does not count.
    #[must_use]
    pub fn door(self: &Arc<Self>, kind: Kind, behind_proxy: bool) -> Door {
        Door {
            gate: Arc::clone(self),
            kind,
            behind_proxy,
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    const fn share(&mut self, kind: Kind) -> &mut Share {
        match kind {
            Kind::Mx => &mut self.mx,
            Kind::Submission => &mut self.submission,
            Kind::Http => &mut self.http,
        }
    }

    /// The places that are taken, or that `kind` may not take.
    fn gone(&self, kind: Kind) -> usize {
        let shares = [
            (Kind::Mx, self.mx),
            (Kind::Submission, self.submission),
            (Kind::Http, self.http),
        ];
        let gone = shares.iter().map(|(of, share)| match *of == kind {
            true => share.open,
            false => share.open.max(share.own),
        });
        gone.sum()
    }
}

impl Door {
    /// The kind of the clients.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// A place for a connection from `remote`.
    ///
    /// # Errors
    /// If a limit leaves no place.
    pub fn enter(&self, remote: IpAddr) -> Result<Place, Full> {
        let remote = remote.to_canonical();
        let counted = (!remote.is_loopback() && !self.behind_proxy).then_some(remote);
        let (gate, kind) = (&self.gate, self.kind);
        let mut open = gate.open();
        if open.gone(kind) >= gate.all {
            return Err(Full::All);
        }
        for (network, factor) in counted.map(networks).into_iter().flatten().flatten() {
            let count = open.networks.get(&(kind, network));
            let limit = gate.per_network.saturating_mul(factor);
            if count.is_some_and(|count| *count >= limit) {
                return Err(Full::Network);
            }
        }
        for (network, _) in counted.map(networks).into_iter().flatten().flatten() {
            *open.networks.entry((kind, network)).or_default() += 1;
        }
        open.share(kind).open += 1;
        Ok(Place {
            gate: Arc::clone(gate),
            kind,
            counted,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.open();
        open.share(self.kind).open -= 1;
        for (network, _) in self.counted.map(networks).into_iter().flatten().flatten() {
            let key = (self.kind, network);
            if let Some(count) = open.networks.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    open.networks.remove(&key);
                }
            }
        }
    }
}

/// The networks that an address is in, each with the multiple of the limit that it has.
fn networks(address: IpAddr) -> [Option<(Network, usize)>; 3] {
    match address {
        IpAddr::V4(address) => {
            let network = |length: u8, factor| {
                let mask = u32::MAX << (32 - length);
                let first = Ipv4Addr::from_bits(address.to_bits() & mask);
                Some(((length, first.into()), factor))
            };
            [network(32, 1), network(24, 4), None]
        }
        IpAddr::V6(address) => {
            let network = |length: u8, factor| {
                let mask = u128::MAX << (128 - length);
                let first = Ipv6Addr::from_bits(address.to_bits() & mask);
                Some(((length, first.into()), factor))
            };
            [network(64, 1), network(56, 2), network(48, 4)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 3] = [Kind::Mx, Kind::Submission, Kind::Http];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The places that addresses get, until one is refused.
    fn fill(door: &Door, addresses: impl IntoIterator<Item = String>) -> Vec<Place> {
        let addresses = addresses.into_iter();
        addresses
            .map_while(|address| door.enter(ip(&address)).ok())
            .collect()
    }

    fn same(address: &str) -> impl Iterator<Item = String> {
        std::iter::repeat(address.to_owned())
    }

    #[test]
    fn places_are_counted_per_network_and_given_back() {
        let door = Gate::new(3, 2, &[]).door(Kind::Mx, false);
        let first = door.enter(ip("192.0.2.1")).unwrap();
        let _second = door.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(door.enter(ip("192.0.2.1")).unwrap_err(), Full::Network);
        let _other = door.enter(ip("2001:db8::1")).unwrap();
        drop(first);
        let _again = door.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(door.enter(ip("198.51.100.1")).unwrap_err(), Full::All);
    }

    #[test]
    fn wider_networks_have_a_multiple() {
        let gate = Gate::new(10_000, 3, &ALL);
        let door = gate.door(Kind::Mx, false);
        for (addresses, expected) in [
            (vec!["192.0.2.1".to_owned(); 99], 3),
            ((0..99).map(|n| format!("198.51.100.{n}")).collect(), 12),
            (vec!["2001:db8::1".to_owned(); 99], 3),
            ((0..99).map(|n| format!("2001:db8:1:{n:x}::1")).collect(), 6),
            (
                (0..99).map(|n| format!("2001:db8:2:{n:x}00::1")).collect(),
                12,
            ),
        ] {
            assert_eq!(fill(&door, addresses.clone()).len(), expected);
            // All were given back.
            assert_eq!(fill(&door, addresses).len(), expected);
        }
        assert!(gate.open().networks.is_empty());
    }

    #[test]
    fn loopback_and_proxies_have_no_share_and_a_mapped_address_is_ipv4() {
        let gate = Gate::new(20, 1, &[]);
        let door = gate.door(Kind::Http, false);
        let _many = (
            fill(&door, same("127.0.0.1").take(3)),
            fill(&door, same("::ffff:127.0.0.1").take(3)),
            fill(&door, same("::1").take(3)),
            fill(&gate.door(Kind::Http, true), same("192.0.2.1").take(3)),
        );
        assert_eq!(gate.open().http.open, 12);
        let _one = door.enter(ip("192.0.2.9")).unwrap();
        assert!(door.enter(ip("::ffff:192.0.2.9")).is_err());
    }

    #[test]
    fn each_kind_has_places_that_the_others_can_not_take() {
        let gate = Gate::new(80, 1000, &ALL);
        let door = |kind| gate.door(kind, false);
        let mut mx = fill(&door(Kind::Mx), same("127.0.0.1"));
        assert_eq!(mx.len(), 60);
        // One network that fills its limit as MX is not refused as application.
        let submission = fill(&door(Kind::Submission), same("127.0.0.1"));
        assert_eq!(submission.len(), 10);
        let http = fill(&door(Kind::Http), same("127.0.0.1"));
        assert_eq!(http.len(), 10);
        // A place that is free again goes to the first that comes.
        mx.truncate(55);
        let more = fill(&door(Kind::Http), same("127.0.0.1"));
        assert_eq!(more.len(), 5);
        assert!(door(Kind::Mx).enter(ip("127.0.0.1")).is_err());
        // Without sockets for the others, a kind has all places.
        let alone = Gate::new(80, 1000, &[Kind::Mx]);
        let mx = fill(&alone.door(Kind::Mx, false), same("127.0.0.1"));
        assert_eq!(mx.len(), 80);
    }

    #[test]
    fn the_limit_of_a_network_is_for_each_kind() {
        let gate = Gate::new(100, 2, &ALL);
        let fill = |kind| fill(&gate.door(kind, false), same("192.0.2.1"));
        let places = ALL.map(fill);
        assert_eq!(places.map(|places| places.len()), [2, 2, 2]);
    }
}
