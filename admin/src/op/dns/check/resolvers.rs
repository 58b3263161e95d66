//! Resolvers of a check: one that asks each question once, and one that asks the servers of zones.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use postrider_dns::{Answer, DnsError, Lookup, Question, Record, RecordType, Resolver};
use tokio::sync::OnceCell;

type Outcome = Result<Answer<Record>, DnsError>;
type Cells<T> = Arc<Mutex<HashMap<Question, Arc<OnceCell<T>>>>>;

/// The port of DNS servers.
const DNS_PORT: u16 = 53;
/// The most servers of a zone that are asked.
const SERVERS: usize = 4;

/// The most answers that are remembered. What is of this host is asked first, so it is among them.
const ANSWERS_MAX: usize = 4096;

/// Asks another resolver, each question once.
pub(super) struct Memo {
    upstream: Arc<dyn Resolver>,
    cells: Cells<Outcome>,
}

impl Memo {
    pub(super) fn new(upstream: Arc<dyn Resolver>) -> Self {
        let cells = Cells::default();
        Self { upstream, cells }
    }

    /// The place of an answer. None: it is not remembered.
    fn cell(&self, question: &Question) -> Option<Arc<OnceCell<Outcome>>> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        match cells.get(question) {
            Some(cell) => Some(Arc::clone(cell)),
            None if cells.len() >= ANSWERS_MAX => None,
            None => Some(Arc::clone(cells.entry(question.clone()).or_default())),
        }
    }
}

fn cell<T>(cells: &Cells<T>, question: &Question) -> Arc<OnceCell<T>> {
    let mut cells = cells.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(cells.entry(question.clone()).or_default())
}

impl Resolver for Memo {
    fn ask(&self, question: Question) -> Lookup<Record> {
        let Some(cell) = self.cell(&question) else {
            return self.upstream.ask(question);
        };
        let upstream = Arc::clone(&self.upstream);
        Box::pin(async move {
            let outcome = cell.get_or_init(|| upstream.ask(question)).await;
            outcome.clone()
        })
    }

    fn directly(&self, servers: &[SocketAddr]) -> Option<Arc<dyn Resolver>> {
        self.upstream.directly(servers)
    }

    fn is_validation_out(&self) -> bool {
        self.upstream.is_validation_out()
    }
}

/// Asks the servers of the zone that has a name, so that no cache stands between. Its answers count
/// as authentic: DNSSEC is the matter of resolvers.
pub(super) struct ZoneServers {
    resolver: Arc<dyn Resolver>,
    zones: Cells<Option<Arc<dyn Resolver>>>,
}

impl ZoneServers {
    pub(super) fn new(resolver: Arc<dyn Resolver>) -> Self {
        let zones = Cells::default();
        Self { resolver, zones }
    }
}

impl Resolver for ZoneServers {
    fn ask(&self, question: Question) -> Lookup<Record> {
        let (resolver, zones) = (Arc::clone(&self.resolver), Arc::clone(&self.zones));
        Box::pin(async move {
            let mut name = question.name();
            let servers = loop {
                let zone = Question::new(name, RecordType::Ns);
                let cell = cell(&zones, &zone);
                let servers = cell.get_or_init(|| servers(&resolver, name)).await;
                if let Some(servers) = servers {
                    break Arc::clone(servers);
                }
                match name.split_once('.') {
                    Some((_, above)) => name = above,
                    None => {
                        let text = "no zone with this name answers".to_owned();
                        return Err(DnsError::Temporary(text));
                    }
                }
            };
            let answer = servers.ask(question).await?;
            Ok(Answer {
                authentic: true,
                ..answer
            })
        })
    }
}

/// The servers of a zone. None if the name is no zone, or no server is known.
async fn servers(resolver: &Arc<dyn Resolver>, zone: &str) -> Option<Arc<dyn Resolver>> {
    let names = resolver.ns(zone).await.ok()?.records;
    let names = names.iter().take(SERVERS);
    let lookups = names.map(|name| resolver.addresses(name));
    let found = futures_util::future::join_all(lookups).await;
    let addresses = found.into_iter().flatten().flat_map(|found| found.records);
    let addresses: Vec<SocketAddr> = addresses.map(|ip| SocketAddr::new(ip, DNS_PORT)).collect();
    resolver.directly(&addresses)
}
