//! The policies that are known, and those that are being fetched.
//!
//! | when | what |
//! |---|---|
//! | a plan is made | the record is asked; a new id is fetched, while an older policy holds |
//! | no policy is known | the plan waits for the first one, [`FIRST_WAIT`] at most |
//! | fetching fails | an older policy holds to its end; the next try is 5 min to 1 h later |
//! | each day, and when a message would fail by a policy | the policy is fetched again |
//!
//! Each domain is looked at once at a time. The policies are in the store. Here are only the
//! domains that are being looked at, and those that failed lately.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use postrider_config::MtaStsMode;
use postrider_dns::{Resolver, organisation};
use postrider_store::{Clock, Store, StoreError, StsPolicy, Time};
use rustls::ClientConfig;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch},
    task::JoinSet,
};
use tracing::{debug, error};

use super::{
    Policy,
    failures::{Failures, pause},
    fetch::{self, Announced, FETCH_TIME, FetchError, FetchFault},
};
use crate::{Dialer, https::HttpsClient, tls::MtaStsFact};

/// How long a plan waits for the first policy of its domain.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// When a policy is fetched again.
const REFRESH: Duration = Duration::from_secs(24 * 60 * 60);
/// A policy is not fetched again sooner than this.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// A use is written down once in so long.
const USED_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How many texts are fetched at once for plans.
const FETCHES_MAX: usize = 256;
/// How many of them for one organisation: a domain with silent hosts leaves places to others.
const FETCHES_OF_ONE: usize = 4;
/// How many texts are fetched again at once.
const FETCHES_AGAIN: usize = 32;
/// How many domains are looked at at once.
const FLIGHTS_MAX: usize = 4096;
/// How many policies the worker fetches again at once.
const REFRESHES_MAX: usize = 16;
/// How long the worker waits before it asks the store again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(60);

/// The policy that holds for a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The domain to which the mail is addressed, in ASCII.
    pub(crate) domain: String,
    pub(crate) policy: Policy,
}

impl Applied {
    /// What the policy says of an MX host. Only a policy that is enforced counts.
    pub(crate) fn fact(&self, host: &str) -> MtaStsFact {
        match self.policy.mode {
            MtaStsMode::Enforce if self.policy.allows(host) => MtaStsFact::Listed,
            MtaStsMode::Enforce => MtaStsFact::NotListed,
            MtaStsMode::Testing | MtaStsMode::None => MtaStsFact::Absent,
        }
    }
}

/// What is known of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) policy: Option<Arc<Applied>>,
    /// It is known whether there is a policy.
    pub(crate) learnt: bool,
    /// What is wrong with the policy, if one is announced and none is known.
    pub(crate) fault: Option<FetchFault>,
    /// How long that holds. Zero: it may change at any time.
    pub(crate) holds: Duration,
}

/// How far the look at a domain is.
#[derive(Clone, Debug)]
enum Progress {
    /// The record is being asked.
    Asking,
    /// The text is being fetched.
    Fetching,
    /// It has ended.
    Done(Looked),
}

/// What a look at a domain gave.
#[derive(Clone, Debug, Default)]
struct Looked {
    /// The policy, if it was fetched.
    fetched: Option<Arc<Applied>>,
    /// The look was no failure.
    worked: bool,
    /// How long the answer of DNS holds. Zero: the look failed.
    holds: Duration,
}

/// A look at a domain, as others see it.
type Flight = watch::Receiver<Progress>;

/// Why a domain is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// A plan is made: a policy with a known id is not fetched again.
    Plan,
    /// The policy may be outdated, so it is fetched again in any case.
    Refresh,
}

/// What the worker waits for.
enum Next {
    /// This time.
    At(Time),
    /// A pause.
    Pause,
    /// The first policy.
    Policy,
}

/// What [`Policies`] needs.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) dialer: Arc<dyn Dialer>,
    /// The TLS of the hosts that have the texts.
    pub(crate) tls: Arc<ClientConfig>,
    /// Hosts at private addresses give no texts.
    pub(crate) only_public: bool,
}

/// The policies of domains.
pub(crate) struct Policies {
    parts: Parts,
    flights: Mutex<HashMap<String, Flight>>,
    failures: Mutex<Failures>,
    fetches: Semaphore,
    /// The places of the organisations whose policies are being fetched.
    organisations: Mutex<HashMap<String, Weak<Semaphore>>>,
    again: Semaphore,
    /// Goes up with each policy that is kept.
    kept: watch::Sender<u64>,
    ended: watch::Sender<bool>,
}

/// A place to fetch a text.
struct FetchPlace<'a> {
    _place: Option<SemaphorePermit<'a>>,
    _of_one: Option<OwnedSemaphorePermit>,
}

/// Ends a look, also if it fails.
struct Landing<'a> {
    policies: &'a Policies,
    domain: &'a str,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.policies.flights().remove(self.domain);
    }
}

impl Policies {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            flights: Mutex::default(),
            failures: Mutex::default(),
            fetches: Semaphore::new(FETCHES_MAX),
            organisations: Mutex::default(),
            again: Semaphore::new(FETCHES_AGAIN),
            kept: watch::Sender::new(0),
            ended: watch::Sender::new(false),
        })
    }

    /// The looks under way. The lock is held for a moment, never over a wait.
    fn flights(&self) -> MutexGuard<'_, HashMap<String, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failures. The lock is held for a moment, never over a wait.
    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy that holds for mail to a domain, for a plan.
    ///
    /// # Errors
    /// If the store does not tell the policy. There may be one, so nothing is to be sent then.
    pub(crate) async fn find(self: &Arc<Self>, domain: &str) -> Result<Known, StoreError> {
        let kept = self.in_force(domain).await?;
        let old = kept.as_ref().and_then(applied);
        if let Some(kept) = &kept {
            self.note_use(kept).await;
        }
        let looked = match self.rests(domain, kept.as_ref()) {
            true => None,
            false => self.first_look(domain, kept).await,
        };
        let looked = looked.unwrap_or_default();
        let policy = looked.fetched.or(old);
        let fault = match policy {
            Some(_) => None,
            None => self.failures().fault(domain),
        };
        Ok(Known {
            learnt: policy.is_some() || looked.worked,
            fault,
            policy,
            holds: looked.holds,
        })
    }

    /// Whether the policy of a domain is another one by now than this one, by which a message would
    /// fail (RFC 8461 §5.1). For that, it is fetched again, unless that was just done.
    pub(crate) async fn is_outdated(self: &Arc<Self>, used: &Applied) -> bool {
        let differs = |kept: Option<&StsPolicy>| {
            let kept = kept.and_then(applied);
            kept.is_none_or(|kept| *kept != *used)
        };
        let Ok(kept) = self.in_force(&used.domain).await else {
            // Without the store, the policy that is known counts.
            return false;
        };
        let Some(known) = kept.as_ref().filter(|kept| !differs(Some(kept))) else {
            return true;
        };
        let is_fresh = self.parts.clock.now().since(known.fetched) < FRESH;
        if is_fresh || self.rests(&used.domain, kept.as_ref()) {
            return false;
        }
        let refreshing = self.refresh(&used.domain, kept.clone());
        // A worker waits for it, so not for long. The look goes on.
        let _ = tokio::time::timeout(FETCH_TIME, refreshing).await;
        let kept = self.in_force(&used.domain).await;
        kept.is_ok_and(|kept| differs(kept.as_ref()))
    }

    /// Fetches policies again when it is time, until `shutdown` is true. Then all looks end.
    pub(crate) async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut kept = self.kept.subscribe();
        while !*shutdown.borrow() {
            kept.mark_unchanged();
            let next = tokio::select! {
                next = self.refresh_due() => next,
                _ = shutdown.wait_for(|stop| *stop) => break,
            };
            let clock = &self.parts.clock;
            let waiting = async {
                match next {
                    Next::At(time) => clock.sleep_until(time).await,
                    Next::Pause => {
                        let until = clock.moment().after(STORE_RETRY);
                        clock.sleep_until_moment(until).await;
                    }
                    Next::Policy => std::future::pending().await,
                }
            };
            tokio::select! {
                () = waiting => {}
                _ = kept.changed() => {}
                _ = shutdown.wait_for(|stop| *stop) => break,
            }
        }
        self.ended.send_replace(true);
    }

    /// The policy of a domain in the store, if its end is not over.
    async fn in_force(&self, domain: &str) -> Result<Option<StsPolicy>, StoreError> {
        let now = self.parts.clock.now();
        let kept = self.parts.store.sts_policy(domain).await?;
        Ok(kept.filter(|kept| now < kept.ends))
    }

    async fn note_use(&self, kept: &StsPolicy) {
        let now = self.parts.clock.now();
        if now.since(kept.used) >= USED_WITHIN {
            let noted = self.parts.store.use_sts_policy(&kept.domain, now).await;
            if let Err(error) = noted {
                // The policy lasts for half a year without it.
                debug!(%error, domain = kept.domain, "the use of an MTA-STS policy is not noted");
            }
        }
    }

    /// Whether the domain waits for the next try after a failure.
    fn rests(&self, domain: &str, kept: Option<&StsPolicy>) -> bool {
        let clock = &self.parts.clock;
        match kept {
            Some(kept) => kept.failures > 0 && clock.now() < kept.refresh,
            None => self.failures().rests(domain, clock.moment()),
        }
    }

    /// Looks at a domain, and waits as long as a plan may. If a policy is known, the plan does not
    /// wait for a newer text. None: the wait was in vain.
    async fn first_look(self: &Arc<Self>, domain: &str, kept: Option<StsPolicy>) -> Option<Looked> {
        let is_known = kept.is_some();
        let mut flight = self.look(domain, kept, Reason::Plan)?;
        let enough = |progress: &Progress| match progress {
            Progress::Asking => false,
            Progress::Fetching => is_known,
            Progress::Done(_) => true,
        };
        let progress = tokio::time::timeout(FIRST_WAIT, flight.wait_for(enough)).await;
        match &*progress.ok()?.ok()? {
            Progress::Done(looked) => Some(looked.clone()),
            Progress::Asking | Progress::Fetching => None,
        }
    }

    /// Begins to look at a domain, or joins a look under way. None: there are too many, or the
    /// queue ends.
    fn look(
        self: &Arc<Self>,
        domain: &str,
        kept: Option<StsPolicy>,
        reason: Reason,
    ) -> Option<Flight> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(domain) {
            return Some(flight.clone());
        }
        if flights.len() >= FLIGHTS_MAX || *self.ended.borrow() {
            return None;
        }
        let (progress, flight) = watch::channel(Progress::Asking);
        flights.insert(domain.to_owned(), flight.clone());
        drop(flights);
        let (policies, domain) = (Arc::clone(self), domain.to_owned());
        tokio::spawn(async move {
            let landing = Landing {
                policies: &policies,
                domain: &domain,
            };
            let mut ended = policies.ended.subscribe();
            let looked = tokio::select! {
                looked = policies.fly(&domain, kept.as_ref(), reason, &progress) => looked,
                _ = ended.wait_for(|ended| *ended) => Looked::default(),
            };
            // Who sees the end may begin the next look.
            drop(landing);
            progress.send_replace(Progress::Done(looked));
        });
        Some(flight)
    }

    async fn fly(
        &self,
        domain: &str,
        kept: Option<&StsPolicy>,
        reason: Reason,
        progress: &watch::Sender<Progress>,
    ) -> Looked {
        match self.ask_and_fetch(domain, kept, reason, progress).await {
            Ok(looked) => {
                self.failures().succeeded(domain);
                looked
            }
            Err(error) => {
                self.failed(domain, kept, &error).await;
                Looked::default()
            }
        }
    }

    async fn ask_and_fetch(
        &self,
        domain: &str,
        kept: Option<&StsPolicy>,
        reason: Reason,
        progress: &watch::Sender<Progress>,
    ) -> Result<Looked, FetchError> {
        let (announced, holds) = fetch::announced(&*self.parts.resolver, domain).await?;
        let known = |id: &str| kept.is_some_and(|kept| kept.id == id);
        let id = match announced {
            Announced::Nothing if reason == Reason::Refresh => return Err(FetchError::Unannounced),
            Announced::Id(id) if reason == Reason::Refresh || !known(&id) => id,
            // An older policy holds to its end, also without a record.
            Announced::Nothing | Announced::Id(_) => {
                return Ok(Looked {
                    fetched: None,
                    worked: true,
                    holds,
                });
            }
        };
        progress.send_replace(Progress::Fetching);
        let _place = self.place(domain, reason).await;
        let client = HttpsClient {
            resolver: &*self.parts.resolver,
            dialer: &*self.parts.dialer,
            tls: Arc::clone(&self.parts.tls),
            limit: FETCH_TIME,
            only_public: self.parts.only_public,
        };
        let policy = fetch::policy(&client, domain).await?;
        debug!(domain, id, mode = %policy.mode, "fetched an MTA-STS policy");
        self.keep(domain, id, &policy, kept).await;
        let domain = domain.to_owned();
        let fetched = Some(Arc::new(Applied { domain, policy }));
        Ok(Looked {
            fetched,
            worked: true,
            holds,
        })
    }

    /// Waits for a place to fetch a text. Places for plans are shared by organisations.
    async fn place(&self, domain: &str, reason: Reason) -> FetchPlace<'_> {
        // The semaphores are never closed.
        if reason == Reason::Refresh {
            let place = self.again.acquire().await.ok();
            return FetchPlace {
                _place: place,
                _of_one: None,
            };
        }
        let of_one = {
            let all = self.organisations.lock();
            let mut all = all.unwrap_or_else(PoisonError::into_inner);
            let name = organisation(domain);
            match all.get(name).and_then(Weak::upgrade) {
                Some(known) => known,
                None => {
                    all.retain(|_, places| places.strong_count() > 0);
                    let places = Arc::new(Semaphore::new(FETCHES_OF_ONE));
                    all.insert(name.to_owned(), Arc::downgrade(&places));
                    places
                }
            }
        };
        FetchPlace {
            _of_one: of_one.acquire_owned().await.ok(),
            _place: self.fetches.acquire().await.ok(),
        }
    }

    async fn keep(&self, domain: &str, id: String, policy: &Policy, before: Option<&StsPolicy>) {
        let now = self.parts.clock.now();
        // A policy that ends sooner is fetched again before its end.
        let refresh = REFRESH.min(policy.max_age / 2).max(FRESH);
        let kept = StsPolicy {
            domain: domain.to_owned(),
            id,
            text: policy.to_string(),
            fetched: now,
            // A policy that is over at once would be fetched for each attempt.
            ends: now.after(policy.max_age.max(FRESH)),
            used: before.map_or(now, |before| before.used),
            refresh: now.after(refresh),
            failures: 0,
        };
        match self.parts.store.keep_sts_policy(kept).await {
            Ok(()) => self.kept.send_modify(|count| *count += 1),
            Err(error) => error!(%error, domain, "an MTA-STS policy can't be stored"),
        }
    }

    async fn failed(&self, domain: &str, kept: Option<&StsPolicy>, error: &FetchError) {
        debug!(domain, %error, "no new MTA-STS policy");
        let clock = &self.parts.clock;
        let Some(kept) = kept else {
            return self
                .failures()
                .failed(domain, error.fault(), clock.moment());
        };
        let again = clock.now().after(pause(kept.failures));
        let noted = self.parts.store.retry_sts_policy(domain, again).await;
        if let Err(error) = noted {
            error!(%error, domain, "the next try for an MTA-STS policy can't be stored");
        }
    }

    /// Fetches the policies again whose time has come.
    async fn refresh_due(self: &Arc<Self>) -> Next {
        loop {
            let next = match self.parts.store.next_sts_refreshes(REFRESHES_MAX).await {
                Ok(next) => next,
                Err(error) => {
                    error!(%error, "failed to ask the store for MTA-STS policies");
                    return Next::Pause;
                }
            };
            let now = self.parts.clock.now();
            match next.first() {
                None => return Next::Policy,
                Some(first) if now < first.refresh => return Next::At(first.refresh),
                Some(_) => {}
            }
            let mut refreshes = JoinSet::new();
            for kept in next.into_iter().filter(|kept| kept.refresh <= now) {
                let policies = Arc::clone(self);
                refreshes.spawn(async move { policies.refresh_or_remove(kept).await });
            }
            let moved = refreshes.join_all().await;
            if moved.into_iter().any(|moved| !moved) {
                return Next::Pause;
            }
        }
    }

    /// Fetches a policy again. If that fails and its end is over, it goes. Returns whether the time
    /// of its next refresh has changed.
    async fn refresh_or_remove(self: &Arc<Self>, before: StsPolicy) -> bool {
        let domain = &before.domain;
        self.refresh(domain, Some(before.clone())).await;
        let store = &self.parts.store;
        match store.sts_policy(domain).await {
            Ok(Some(after)) if after.ends <= self.parts.clock.now() => {
                store.remove_sts_policy(domain).await.is_ok()
            }
            Ok(Some(after)) => after.refresh != before.refresh,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Fetches a policy again, and waits for the end.
    async fn refresh(self: &Arc<Self>, domain: &str, kept: Option<StsPolicy>) {
        if let Some(mut flight) = self.look(domain, kept, Reason::Refresh) {
            let ended = flight.wait_for(|progress| matches!(progress, Progress::Done(_)));
            // It fails only if the look panicked.
            let _ = ended.await;
        }
    }
}

/// The policy of a record. None: a later program can't read its text.
fn applied(kept: &StsPolicy) -> Option<Arc<Applied>> {
    let policy = Policy::parse(kept.text.as_bytes()).ok()?;
    let domain = kept.domain.clone();
    Some(Arc::new(Applied { domain, policy }))
}

#[cfg(test)]
mod tests;
