//! The limits on open connections.
//!
//! MX, submission and HTTP share one number of connections, of which each has an eighth for itself.
//! So clients of one kind that fill all their places never lock out the others. Within a kind each
//! network has its limit, and the wider networks around it have a multiple of that.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use postrider_config as config;
use postrider_observe::{
    Metrics,
    metrics::{Accepted, Listener, OpenConnection},
};
use postrider_receive::{network::Network, refusals::reason};

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
            Self::Mx => "smtp",
            Self::Submission => "submission",
            Self::Http => "http",
        }
    }
}

/// The limit that leaves no place for a connection. The text is its key in `postrider.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All places of the kind are taken.
    #[error("limits.connections")]
    All,
    /// This network of the client has as many connections as it may.
    #[error("limits.connections_per_network")]
    Network(Network),
}

impl Full {
    /// What became of the connection, for the metrics.
    pub(crate) const fn result(&self) -> Accepted {
        match self {
            Self::All => Accepted::Limit,
            Self::Network(_) => Accepted::Network,
        }
    }

    /// The name of the reason, for counters.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::All => reason::CONNECTIONS,
            Self::Network(_) => reason::CONNECTIONS_PER_NETWORK,
        }
    }
}

/// Counts connections: all of them, those of each kind, and those of each network.
#[derive(Debug)]
pub struct Gate {
    all: usize,
    per_network: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    mx: Share,
    submission: Share,
    http: Share,
    /// Strangers of many networks may wait here, so an entry is small.
    networks: HashMap<(Kind, Network), u32>,
}

/// The connections of a kind.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The places that only this kind may take.
    own: usize,
    /// The open connections.
    open: usize,
}

/// The way to the gate for the connections of one socket.
#[derive(Clone, Debug)]
pub struct Door {
    gate: Arc<Gate>,
    kind: Kind,
    behind_proxy: bool,
    /// The peers whose networks do not count, since they bring other clients.
    exempt: Arc<[config::Network]>,
    counts: Counts,
}

/// Where the connections of a socket are counted.
#[derive(Clone, Debug)]
struct Counts {
    metrics: Arc<Metrics>,
    service: Listener,
}

/// The place of one connection. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    kind: Kind,
    /// The address whose networks the connection counts in.
    counted: Option<IpAddr>,
    _open: OpenConnection,
}

impl Gate {
    /// Allows `all` connections, and of one kind `per_network` from one IPv4 address or IPv6 /64,
    /// three times as many from an IPv4 /26 or IPv6 /48, and nine times as many from an IPv4 /21 or
    /// IPv6 /32. Only the `kinds` that have sockets get places for themselves.
    #[must_use]
    pub fn new(all: usize, per_network: usize, kinds: &[Kind]) -> Arc<Self> {
        let mut open = Open::default();
        for kind in kinds {
            open.share(*kind).own = all / OWN_PART;
        }
        Arc::new(Self {
            all,
            per_network: u32::try_from(per_network).unwrap_or(u32::MAX),
            open: Mutex::new(open),
        })
    }

    /// The way to the gate for a socket. Behind a trusted proxy that tells the address in each
    /// request, all connections come from the proxy, so its network does not count. The connections
    /// count in the metrics as those of `service`.
    #[must_use]
    pub fn door(
        self: &Arc<Self>,
        kind: Kind,
        behind_proxy: bool,
        (metrics, service): (&Arc<Metrics>, Listener),
    ) -> Door {
        Door {
            gate: Arc::clone(self),
            kind,
            behind_proxy,
            exempt: Arc::default(),
            counts: Counts {
                metrics: Arc::clone(metrics),
                service,
            },
        }
    }

    /// The number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        let open = self.open();
        open.mx.open + open.submission.open + open.http.open
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

    /// The networks of these peers do not count.
    #[must_use]
    pub fn exempting(self, exempt: Arc<[config::Network]>) -> Self {
        Self { exempt, ..self }
    }

    /// Counts what became of a connection.
    pub(crate) fn note(&self, result: Accepted) {
        let labels = (self.counts.service, result);
        self.counts.metrics.connections_total.with(labels).inc();
    }

    /// A place for a connection from `remote`.
    ///
    /// # Errors
    /// If a limit leaves no place.
    pub fn enter(&self, remote: IpAddr) -> Result<Place, Full> {
        let mut place = self.enter_unknown()?;
        self.count(&mut place, remote)?;
        Ok(place)
    }

    /// A place for a connection whose client is not known yet.
    ///
    /// # Errors
    /// If all places are taken.
    pub fn enter_unknown(&self) -> Result<Place, Full> {
        let (gate, kind) = (&self.gate, self.kind);
        let mut open = gate.open();
        if open.gone(kind) >= gate.all {
            return Err(Full::All);
        }
        open.share(kind).open += 1;
        let Counts { metrics, service } = &self.counts;
        Ok(Place {
            gate: Arc::clone(gate),
            kind,
            counted: None,
            _open: OpenConnection::new(metrics, *service),
        })
    }

    /// Counts a connection from [`enter_unknown`](Self::enter_unknown) in the networks of its
    /// client, once.
    ///
    /// # Errors
    /// If a network has as many connections as it may.
    pub fn count(&self, place: &mut Place, remote: IpAddr) -> Result<(), Full> {
        let remote = remote.to_canonical();
        let is_exempt = remote.is_loopback()
            || self.behind_proxy
            || self.exempt.iter().any(|network| network.contains(remote));
        if is_exempt || place.counted.is_some() {
            return Ok(());
        }
        let (gate, kind) = (&self.gate, place.kind);
        let mut open = gate.open();
        for network in Network::around(remote) {
            let count = open.networks.get(&(kind, network));
            let limit = gate.per_network.saturating_mul(network.size().factor());
            if count.is_some_and(|count| *count >= limit) {
                return Err(Full::Network(network));
            }
        }
        for network in Network::around(remote) {
            *open.networks.entry((kind, network)).or_default() += 1;
        }
        place.counted = Some(remote);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.open();
        open.share(self.kind).open -= 1;
        for network in self.counted.into_iter().flat_map(Network::around) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn door_of(gate: &Arc<Gate>, kind: Kind, behind_proxy: bool) -> Door {
        let metrics = (&Arc::default(), Listener::Smtp);
        gate.door(kind, behind_proxy, metrics)
    }

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
        let gate = Gate::new(3, 2, &[]);
        let door = door_of(&gate, Kind::Mx, false);
        let first = door.enter(ip("192.0.2.1")).unwrap();
        let _second = door.enter(ip("192.0.2.1")).unwrap();
        let full = door.enter(ip("192.0.2.1")).unwrap_err();
        let Full::Network(network) = full else {
            panic!("{full}")
        };
        assert_eq!(network.with_prefix(), "192.0.2.1/32");
        assert_eq!(gate.connections(), 2);
        let _other = door.enter(ip("2001:db8::1")).unwrap();
        drop(first);
        let _again = door.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(door.enter(ip("198.51.100.1")).unwrap_err(), Full::All);
    }

    #[test]
    fn wider_networks_have_a_multiple() {
        let gate = Gate::new(10_000, 3, &ALL);
        let door = door_of(&gate, Kind::Mx, false);
        let many = |address: fn(u32) -> String| (0..99).map(address).collect();
        for (addresses, expected) in [
            (vec!["192.0.2.1".to_owned(); 99], 3),
            (many(|n| format!("198.51.100.{}", n % 64)), 9),
            (many(|n| format!("198.51.{}.{}", 104 + n % 8, n)), 27),
            (vec!["2001:db8::1".to_owned(); 99], 3),
            (many(|n| format!("2001:db8:1:{n:x}::1")), 9),
            (many(|n| format!("2001:db8:{n:x}::1")), 27),
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
        let door = door_of(&gate, Kind::Http, false);
        let _many = (
            fill(&door, same("127.0.0.1").take(3)),
            fill(&door, same("::ffff:127.0.0.1").take(3)),
            fill(&door, same("::1").take(3)),
            fill(&door_of(&gate, Kind::Http, true), same("192.0.2.1").take(3)),
        );
        assert_eq!(gate.open().http.open, 12);
        let _one = door.enter(ip("192.0.2.9")).unwrap();
        assert!(door.enter(ip("::ffff:192.0.2.9")).is_err());
    }

    #[test]
    fn a_client_behind_a_proxy_counts_when_it_is_known() {
        let gate = Gate::new(3, 1, &[]);
        let door = door_of(&gate, Kind::Mx, false);
        let mut place = door.enter_unknown().unwrap();
        let mut other = door.enter_unknown().unwrap();
        door.count(&mut place, ip("192.0.2.7")).unwrap();
        // A second count changes nothing.
        door.count(&mut place, ip("192.0.2.7")).unwrap();
        let full = door.count(&mut other, ip("192.0.2.7")).unwrap_err();
        assert_eq!(full.to_string(), "limits.connections_per_network");
        drop(place);
        door.count(&mut other, ip("192.0.2.7")).unwrap();
        let _last = (door.enter_unknown().unwrap(), door.enter_unknown().unwrap());
        assert_eq!(door.enter_unknown().unwrap_err(), Full::All);
        drop(other);
        assert!(gate.open().networks.is_empty());
    }

    #[test]
    fn peers_that_bring_other_clients_do_not_count() {
        let gate = Gate::new(20, 1, &[]);
        let exempt = [config::Network::parse("192.0.2.0/28").unwrap()];
        let door = door_of(&gate, Kind::Mx, false).exempting(Arc::new(exempt));
        let places = fill(&door, same("192.0.2.7").take(5));
        assert_eq!(places.len(), 5);
        assert_eq!(fill(&door, same("192.0.2.17").take(5)).len(), 1);
    }

    #[test]
    fn each_kind_has_places_that_the_others_can_not_take() {
        let gate = Gate::new(80, 1000, &ALL);
        let door = |kind| door_of(&gate, kind, false);
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
        let mx = fill(&door_of(&alone, Kind::Mx, false), same("127.0.0.1"));
        assert_eq!(mx.len(), 80);
    }

    #[test]
    fn the_limit_of_a_network_is_for_each_kind() {
        let gate = Gate::new(100, 2, &ALL);
        let fill = |kind| fill(&door_of(&gate, kind, false), same("192.0.2.1"));
        let places = ALL.map(fill);
        assert_eq!(places.map(|places| places.len()), [2, 2, 2]);
    }
}
