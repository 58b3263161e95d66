//! Asks DNS servers, by the `hickory-resolver` crate.
//!
//! | what the servers say | what it means here |
//! |---|---|
//! | records | an answer; authentic if the lowest proof of its records is "secure" |
//! | NXDOMAIN, or no records | they do not exist; authentic if the denial is "secure" |
//! | SERVFAIL, REFUSED, nothing in time | a temporary failure |
//! | nothing, since the system gives no socket | an error of the system, with its number |
//! | records or a denial that DNSSEC proves wrong | a bogus answer |
//! | more CNAMEs than are followed, or a loop of them | a temporary failure |
//!
//! Validation needs servers that pass on signatures. So the SOA of the root is asked first, and
//! again each hour. While the root is not "secure", answers are not validated, and none is
//! authentic. With other trust anchors, their zone is asked in the place of the root.
//!
//! | module | its job |
//! |---|---|
//! | `anchors` | has the keys that validation trusts |
//! | `upstream` | asks servers one question about one name |
//! | `chain` | leads along CNAMEs to the records |
//! | `counted` | counts these questions for the metrics |
//! | `special` | knows the names that no server is asked about |
//! | `wire` | turns names, types and records of the wire into those of this crate |

mod anchors;
mod chain;
mod counted;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod signed_tests;
mod special;
mod upstream;
mod wire;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hickory_resolver::{
    Hosts,
    proto::rr::{Name, RecordType as WireType},
};
use postrider_observe::Metrics;
use tokio::sync::Mutex;
use tracing::{info, warn};

pub use self::anchors::{TrustAnchorError, TrustAnchors};
pub(crate) use self::wire::{host, read, wire_name, wire_type};
use self::{
    chain::Chain,
    upstream::{Kind, Upstream},
};
use crate::{
    Answer, DnsError, Lookup, Now, Question, Record, RecordType, Resolver, UNVALIDATED_COUNTS,
    resolver::in_time,
};

/// How long it holds that the root is secure.
const ROOT_HOLDS: Duration = Duration::from_secs(60 * 60);
/// When the root is asked again after an answer that is not secure, or none. A lost answer to a
/// question of the validation looks as if it were not secure.
const ROOT_RETRY: Duration = Duration::from_secs(60);
/// How many answers in a row that are not secure turn the validation off.
const MISSES_MAX: u32 = 5;

/// How long an answer holds that was not validated while validation did not work.
const UNVALIDATED_HOLDS: Duration = Duration::from_secs(30);

/// How to ask.
#[derive(Clone)]
pub struct HickorySettings<'a> {
    /// The DNS servers. Empty: the servers of the system.
    pub servers: &'a [SocketAddr],
    /// How long a look-up may take. The servers are asked a second time after half of it.
    pub timeout: Duration,
    /// Validate answers by DNSSEC.
    pub validate: bool,
    /// The keys that validation trusts.
    pub trust_anchors: TrustAnchors,
    /// The time.
    pub now: Now,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Asks DNS servers.
#[derive(Clone)]
pub struct HickoryResolver {
    inner: Arc<Inner>,
}

struct Inner {
    plain: Arc<Upstream>,
    validating: Option<Validating>,
    /// The hosts file of the system.
    hosts: Arc<Hosts>,
    timeout: Duration,
    now: Now,
    metrics: Arc<Metrics>,
}

/// Servers whose answers are validated, and whether they let us.
struct Validating {
    upstream: Upstream,
    /// It is asked in order to see whether validation works.
    zone: Name,
    now: Now,
    root: Mutex<Option<Root>>,
    /// When an answer was last given that was not validated, in milliseconds; 0: never.
    unvalidated: AtomicU64,
}

/// The security of the root's answer.
#[derive(Clone, Copy)]
struct Root {
    secure: bool,
    until: Duration,
    /// The answers since then that were not secure.
    misses: u32,
}

/// Why a resolver can't be made.
#[derive(Debug, thiserror::Error)]
pub enum HickorySetupError {
    /// The configuration of the system can't be read.
    #[error("failed to set up the DNS resolver: {0}; set resolver.servers")]
    System(String),
}

impl HickoryResolver {
    /// A resolver without a cache of its own: put a [`CachingResolver`](crate::CachingResolver)
    /// before it.
    ///
    /// # Errors
    /// If the configuration of the system can't be read.
    pub fn new(settings: &HickorySettings<'_>) -> Result<Self, HickorySetupError> {
        let metrics = &settings.metrics;
        let upstream = |kind| Upstream::new(settings.servers, settings.timeout, kind, metrics);
        let anchors = &settings.trust_anchors;
        let validating = match settings.validate {
            true => Some(Validating {
                upstream: upstream(Kind::Validated(Arc::clone(&anchors.keys)))?,
                zone: anchors.zone.clone(),
                now: Arc::clone(&settings.now),
                root: Mutex::new(None),
                unvalidated: AtomicU64::new(0),
            }),
            false => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                plain: Arc::new(upstream(Kind::Recursive)?),
                validating,
                // A system without the file has no names in it.
                hosts: Arc::new(Hosts::from_system().unwrap_or_default()),
                timeout: settings.timeout,
                now: Arc::clone(&settings.now),
                metrics: Arc::clone(metrics),
            }),
        })
    }

    /// The same servers, without validation. No answer is authentic, and none costs the questions
    /// that validation asks: three to eight for a name that is not signed.
    #[must_use]
    pub fn unvalidated(&self) -> Self {
        Self {
            inner: Arc::new(Inner {
                plain: Arc::clone(&self.inner.plain),
                validating: None,
                hosts: Arc::clone(&self.inner.hosts),
                timeout: self.inner.timeout,
                now: Arc::clone(&self.inner.now),
                metrics: Arc::clone(&self.inner.metrics),
            }),
        }
    }

    /// Looks now, and whenever the last answer is over, whether the servers pass on signatures, and
    /// logs a change. It ends at once for a resolver that does not validate, and never otherwise.
    pub async fn watch_root(&self) {
        let Some(validating) = &self.inner.validating else {
            return;
        };
        loop {
            validating.is_possible(self.inner.timeout).await;
            tokio::time::sleep(validating.holds().await).await;
        }
    }
}

impl std::fmt::Debug for HickoryResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HickoryResolver")
            .field("validating", &self.inner.validating.is_some())
            .finish_non_exhaustive()
    }
}

impl Validating {
    /// Whether the servers pass on signatures, as the root shows.
    ///
    /// The root gets half of the time limit, so that there is time for the question itself.
    async fn is_possible(&self, timeout: Duration) -> bool {
        // Questions that come meanwhile wait for the same answer.
        let mut root = self.root.lock().await;
        let now = (self.now)();
        if let Some(known) = *root
            && now < known.until
        {
            return known.secure;
        }
        let before = root.map(|root| root.secure);
        let misses = root.map_or(0, |root| root.misses);
        let asked = self.upstream.ask(&self.zone, WireType::SOA);
        let answered = match in_time(timeout / 2, asked).await {
            Ok(response) => Some(response.has_secure(&self.zone, WireType::SOA)),
            // A server that does not answer says nothing about signatures.
            Err(DnsError::Temporary(_) | DnsError::System { .. }) => None,
            Err(_) => Some(false),
        };
        let misses = match answered {
            Some(true) => 0,
            Some(false) => misses + 1,
            None => misses,
        };
        // One lost answer must not turn DANE off. Until then answers are bogus, and mail waits.
        let secure = match answered {
            Some(secure) => secure || (before == Some(true) && misses < MISSES_MAX),
            None => before.unwrap_or(true),
        };
        if before != Some(secure) {
            match secure {
                true => info!("DNSSEC on"),
                false => warn!("DNSSEC off: the DNS servers do not pass on signatures"),
            }
        }
        let holds = match answered {
            Some(true) => ROOT_HOLDS,
            _ => ROOT_RETRY,
        };
        *root = Some(Root {
            secure,
            until: now.saturating_add(holds),
            misses,
        });
        secure
    }

    fn note_unvalidated(&self) {
        let now = u64::try_from((self.now)().as_millis()).unwrap_or(u64::MAX);
        self.unvalidated.store(now.max(1), Ordering::Relaxed);
    }

    /// Whether an answer was given lately that was not validated.
    fn is_out(&self) -> bool {
        let last = self.unvalidated.load(Ordering::Relaxed);
        let since = (self.now)().saturating_sub(Duration::from_millis(last));
        last > 0 && since < UNVALIDATED_COUNTS
    }

    /// How long the last answer of the root still holds.
    async fn holds(&self) -> Duration {
        let until = self.root.lock().await.map(|root| root.until);
        until.unwrap_or_default().saturating_sub((self.now)())
    }
}

impl Resolver for HickoryResolver {
    fn directly(&self, servers: &[SocketAddr]) -> Option<Arc<dyn Resolver>> {
        if servers.is_empty() {
            return None;
        }
        let timeout = self.inner.timeout;
        let plain =
            Upstream::new(servers, timeout, Kind::Authoritative, &self.inner.metrics).ok()?;
        Some(Arc::new(Self {
            inner: Arc::new(Inner {
                plain: Arc::new(plain),
                validating: None,
                hosts: Arc::default(),
                timeout,
                now: Arc::clone(&self.inner.now),
                metrics: Arc::clone(&self.inner.metrics),
            }),
        }))
    }

    fn is_validation_out(&self) -> bool {
        let validating = self.inner.validating.as_ref();
        validating.is_some_and(Validating::is_out)
    }

    fn ask(&self, question: Question) -> Lookup<Record> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { in_time(inner.timeout, inner.ask(&question)).await })
    }
}

/// Asks for records, through CNAMEs.
async fn follow(
    upstream: &Upstream,
    name: Name,
    record_type: RecordType,
) -> Result<Answer<Record>, DnsError> {
    let mut chain = Chain::new(name, record_type);
    loop {
        let response = upstream.ask(chain.name(), wire_type(record_type)).await?;
        if let Some(answer) = chain.step(&response)? {
            return Ok(answer);
        }
    }
}

impl Inner {
    async fn ask(&self, question: &Question) -> Result<Answer<Record>, DnsError> {
        let record_type = question.record_type();
        let name = wire_name(question.name())?;
        if let Some(known) = special::known(&name, record_type, &self.hosts) {
            return known;
        }
        match &self.validating {
            Some(validating) if validating.is_possible(self.timeout).await => {
                follow(&validating.upstream, name, record_type).await
            }
            Some(validating) => {
                validating.note_unvalidated();
                let answer = follow(&self.plain, name, record_type).await;
                // What is built on the answer is to be built anew when validation works again.
                let briefly = |ttl: &mut Duration| *ttl = (*ttl).min(UNVALIDATED_HOLDS);
                match answer {
                    Ok(mut answer) => {
                        briefly(&mut answer.ttl);
                        Ok(answer)
                    }
                    Err(DnsError::NoName(mut negative)) => {
                        briefly(&mut negative.ttl);
                        Err(DnsError::NoName(negative))
                    }
                    Err(DnsError::NoRecords(mut negative)) => {
                        briefly(&mut negative.ttl);
                        Err(DnsError::NoRecords(negative))
                    }
                    Err(error) => Err(error),
                }
            }
            None => follow(&self.plain, name, record_type).await,
        }
    }
}
