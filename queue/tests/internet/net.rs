//! The network: it leads connections to hosts that exist only in memory.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use postrider_queue::{Dialer, Dialing};
use tokio::{
    io::{DuplexStream, duplex},
    time::sleep,
};

use super::{
    clock::SimClock,
    host::{Act, Host, Reach, Stage, When},
    ledger::Ledger,
    policy_host::PolicyHost,
    session::Session,
};

/// The bytes that are on their way in each direction, at most.
const PIPE: usize = 64 << 10;
/// EHOSTUNREACH: a router says that there is no way to the host.
const NO_WAY: i32 = 113;
/// The port of MX hosts.
const SMTP_PORT: u16 = 25;
/// The port of policy hosts.
const HTTPS_PORT: u16 = 443;

/// The network. Clones are the same network.
#[derive(Clone)]
pub(crate) struct Net(Arc<Inner>);

struct Inner {
    clock: SimClock,
    hosts: Vec<Host>,
    by_address: HashMap<IpAddr, usize>,
    policy_host: PolicyHost,
    ledger: Ledger,
    state: Mutex<State>,
}

/// What hosts remember.
#[derive(Default)]
struct State {
    /// How often a trouble had its chance, by host and place in its list.
    troubles: BTreeMap<(usize, usize), usize>,
    /// The minute of a host, and its messages so far.
    minutes: BTreeMap<usize, (u64, usize)>,
    /// When a triplet first came to a host.
    greylist: BTreeMap<(usize, String), Duration>,
}

impl Net {
    pub(crate) fn new(clock: SimClock, hosts: Vec<Host>, policy_host: PolicyHost) -> Self {
        let by_address = hosts.iter().enumerate();
        let by_address = by_address
            .flat_map(|(index, host)| host.addresses.iter().map(move |ip| (*ip, index)))
            .collect();
        Self(Arc::new(Inner {
            clock,
            hosts,
            by_address,
            policy_host,
            ledger: Ledger::default(),
            state: Mutex::default(),
        }))
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    pub(crate) fn age(&self) -> Duration {
        self.0.clock.age()
    }

    pub(crate) fn host(&self, index: usize) -> &Host {
        &self.0.hosts[index]
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn is_between(&self, from: Duration, to: Duration) -> bool {
        (from..to).contains(&self.age())
    }

    /// What happens at a stage in the place of the reply.
    pub(super) fn trouble(&self, host: usize, stage: Stage) -> Option<Act> {
        let troubles = self.host(host).policy.troubles.iter().enumerate();
        let mut here = troubles.filter(|(_, trouble)| trouble.stage == stage);
        let found = here.find(|(place, trouble)| match trouble.when {
            When::Always => true,
            When::Between(from, to) => self.is_between(from, to),
            When::First(times) => {
                let mut state = self.state();
                let count = state.troubles.entry((host, *place)).or_default();
                *count += 1;
                *count <= times
            }
        });
        found.map(|(_, trouble)| trouble.act)
    }

    /// Whether the host refuses our address at present.
    pub(super) fn blocks(&self, host: usize) -> bool {
        match self.host(host).policy.block {
            Some(When::Between(from, to)) => self.is_between(from, to),
            Some(When::Always) => true,
            Some(When::First(_)) | None => false,
        }
    }

    /// Whether the host takes another message in this minute.
    pub(super) fn takes_another(&self, host: usize) -> bool {
        let Some(max) = self.host(host).policy.rate_max else {
            return true;
        };
        let minute = self.age().as_secs() / 60;
        let mut state = self.state();
        let entry = state.minutes.entry(host).or_default();
        if entry.0 != minute {
            *entry = (minute, 0);
        }
        entry.1 += 1;
        entry.1 <= max
    }

    /// Whether the host does not know a triplet for long enough.
    pub(super) fn is_greylisted(&self, host: usize, triplet: &str) -> bool {
        let Some(delay) = self.host(host).policy.greylist else {
            return false;
        };
        let age = self.age();
        let mut state = self.state();
        let first = state.greylist.entry((host, triplet.to_owned()));
        age < *first.or_insert(age) + delay
    }

    /// What becomes of a connection to an address of a host.
    fn reach(&self, host: usize, address: IpAddr) -> Option<Reach> {
        let policy = &self.host(host).policy;
        if policy.lost_address == Some(address) {
            return Some(Reach::BlackHole);
        }
        let (reach, when) = policy.reach?;
        match when {
            When::Always => Some(reach),
            When::Between(from, to) => self.is_between(from, to).then_some(reach),
            When::First(times) => {
                let dialed = self.ledger().at_host(host, |notes| notes.dialed.len());
                (dialed <= times).then_some(reach)
            }
        }
    }

    async fn dialed(self, address: SocketAddr, from: Option<IpAddr>) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(PIPE);
        if address.port() == HTTPS_PORT {
            tokio::spawn(self.0.policy_host.clone().serve(self.0.clock, theirs));
            return Ok(ours);
        }
        let host = self.0.by_address.get(&address.ip()).copied();
        let (Some(host), SMTP_PORT) = (host, address.port()) else {
            self.ledger().fault(format!("a connection to {address}"));
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let age = self.age();
        self.ledger().at_host(host, |notes| notes.dialed.push(age));
        let reach = self.reach(host, address.ip());
        if let Some(reach) = reach {
            self.ledger().see(format_args!("{reach:?}"));
        }
        match reach {
            Some(Reach::BlackHole) => std::future::pending().await,
            Some(Reach::NoWay) => Err(io::Error::from_raw_os_error(NO_WAY)),
            Some(Reach::Refused) => Err(io::ErrorKind::ConnectionRefused.into()),
            None => {
                sleep(self.host(host).policy.pace).await;
                let Some(source) = from else {
                    self.ledger().fault("a connection without a source".into());
                    return Err(io::ErrorKind::ConnectionRefused.into());
                };
                tokio::spawn(Session::serve(self.clone(), host, source, theirs));
                Ok(ours)
            }
        }
    }
}

impl Dialer for Net {
    fn dial(&self, address: SocketAddr, from: Option<IpAddr>) -> Dialing {
        let net = self.clone();
        Box::pin(async move { Ok(net.dialed(address, from).await?.into()) })
    }
}
