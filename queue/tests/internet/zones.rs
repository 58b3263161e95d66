//! The DNS of a world: tables in memory, or zones that are signed and asked over UDP and TCP.

use std::{sync::Arc, time::Duration};

use postrider_dns::{
    CacheLimits, CachingResolver, FakeResolver, FakeServer, Fault, HickoryResolver,
    HickorySettings, Mx, Now, Record, Resolver, TrustAnchors,
};

use super::clock::SimClock;

/// Names below it are not signed.
pub(crate) const UNSIGNED: &str = "insecure";
/// Names below it are signed.
pub(crate) const SIGNED: &str = "test";
/// How long a look-up may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What is wrong with answers about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DnsFault {
    /// No server answers.
    ServFail,
    /// The signatures are wrong.
    Bogus,
}

/// The zones.
pub(crate) enum Zones {
    Tables(FakeResolver),
    Signed(FakeServer),
}

impl Zones {
    pub(crate) fn tables() -> Self {
        Self::Tables(FakeResolver::default())
    }

    pub(crate) async fn signed() -> Self {
        let server = FakeServer::start().await.unwrap();
        server.add_zone(SIGNED, true).unwrap();
        server.add_zone(UNSIGNED, false).unwrap();
        Self::Signed(server)
    }

    /// A resolver that asks them. Signed zones have a cache before them, as in the server. Who
    /// waits there for the same answer goes on in an order that nobody chooses.
    pub(crate) fn resolver(&self, clock: SimClock) -> Arc<dyn Resolver> {
        match self {
            Self::Tables(tables) => Arc::new(tables.clone()),
            Self::Signed(server) => {
                let now: Now = Arc::new(move || clock.age());
                let settings = HickorySettings {
                    metrics: Arc::default(),
                    servers: &[server.address()],
                    timeout: LIMIT,
                    validate: true,
                    trust_anchors: TrustAnchors::parse(&server.trust_anchor()).unwrap(),
                    now: Arc::clone(&now),
                };
                let hickory = HickoryResolver::new(&settings).unwrap();
                let limits = CacheLimits::default();
                Arc::new(CachingResolver::new(hickory, limits, LIMIT, now))
            }
        }
    }

    pub(crate) fn add(&self, name: &str, record: &Record) {
        match self {
            Self::Tables(tables) => {
                tables.add(name, record.clone());
                if name.ends_with(UNSIGNED) {
                    tables.distrust(name);
                }
            }
            Self::Signed(server) => server.add(name, record).unwrap(),
        }
    }

    /// Makes these the only records of a domain.
    pub(crate) fn replace(&self, domain: &str, hosts: &[(u16, String)]) {
        match self {
            Self::Tables(tables) => tables.remove(domain),
            Self::Signed(server) => server.remove(domain).unwrap(),
        }
        for (preference, host) in hosts {
            let mx = Mx {
                preference: *preference,
                host: host.clone(),
            };
            self.add(domain, &Record::Mx(mx));
        }
    }

    /// From now on, answers about a name are wrong.
    pub(crate) fn spoil(&self, name: &str, fault: DnsFault) {
        match (self, fault) {
            (Self::Tables(tables), DnsFault::ServFail) => tables.fail(name),
            (Self::Tables(tables), DnsFault::Bogus) => tables.bogus(name),
            (Self::Signed(server), fault) => {
                let fault = match fault {
                    DnsFault::ServFail => Fault::ServFail,
                    DnsFault::Bogus => Fault::OtherKey,
                };
                server.add_fault(name, None, fault).unwrap();
            }
        }
    }

    /// Ends what is wrong with answers about a name.
    pub(crate) fn mend(&self, name: &str) {
        match self {
            Self::Tables(tables) => tables.mend(name),
            Self::Signed(server) => server.mend(name).unwrap(),
        }
    }
}
