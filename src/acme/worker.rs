//! The task that gets certificates, and renews them.
//!
//! It makes one order at a time. The time of the next try of a name is in the store before the try
//! begins, so that no restart, whatever its cause, makes the server ask a CA more often.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use instant_acme::Account;
use postrider_config::{Dynamic, Live, Static};
use postrider_dns::Resolver;
use postrider_observe::{Metrics, metrics::Success};
use postrider_store::{AcmeCertificate, AcmeTry, Clock, Store, StoreError, Time};
use rcgen::KeyPair;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::{
    Acme, FORGOTTEN_AFTER,
    advice::remedy,
    ca::Ca,
    challenges::{Way, ways},
    issued,
    names::{self, Wanted},
    order::{Failure, order},
    schedule::{Scope, limited, pause, renew_at},
};

/// The time limit of an order as a whole.
const ORDER: Duration = Duration::from_secs(5 * 60);
/// How often the worker looks for a change of the configuration.
const LOOK: Duration = Duration::from_secs(1);
/// How long a certificate that is not in the store waits until it is tried to keep it again.
const KEEP_AGAIN: Duration = Duration::from_secs(60);
/// The longest sleep.
const SLEEP: Duration = Duration::from_secs(24 * 3600);
/// From this time before the end of a certificate on, a failure is an error in the log.
const URGENT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Gets and renews the certificates of a server.
pub struct Worker {
    acme: Acme,
    statics: Arc<Static>,
    config: Live,
    store: Store,
    clock: Arc<dyn Clock>,
    resolver: Arc<dyn Resolver>,
    metrics: Arc<Metrics>,
    ways: Vec<Way>,
    /// The accounts that were used, by the name in the configuration.
    accounts: HashMap<String, Account>,
    /// What is known about each name that has been tried.
    tried: HashMap<Wanted, Tried>,
    /// The tries of a CA as a whole, by the name of the account.
    cas: HashMap<String, Tried>,
    /// Certificates that could not be kept in the store.
    unkept: Vec<AcmeCertificate>,
}

/// The parts of a worker.
pub struct WorkerParts {
    /// The CAs, the host keys and the certificates.
    pub acme: Acme,
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The domains.
    pub config: Live,
    /// The store of accounts, certificates and tries.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The DNS resolver. It keeps no answers, so that a new record is seen at once.
    pub resolver: Arc<dyn Resolver>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The tries of a name or of a CA.
#[derive(Clone, Debug, Default)]
struct Tried {
    /// The failures that the CA knows of, since the last success.
    failures: u32,
    /// The failures before the CA was asked, since the last other end.
    unasked: u32,
    /// No try begins before.
    next: Time,
    /// The reason that the log has last.
    told: String,
    /// The log says that the name leads to addresses that are not ours.
    foreign: bool,
}

impl Worker {
    /// A worker. `https` and `http` are the ports at which the server answers CAs.
    ///
    /// # Errors
    /// If the tries before this start can't be read.
    pub async fn new(
        parts: WorkerParts,
        (https, http): (&[u16], &[u16]),
    ) -> Result<Self, StoreError> {
        let mut worker = Self {
            ways: ways(https, http),
            acme: parts.acme,
            statics: parts.statics,
            config: parts.config,
            store: parts.store,
            clock: parts.clock,
            resolver: parts.resolver,
            metrics: parts.metrics,
            accounts: HashMap::new(),
            tried: HashMap::new(),
            cas: HashMap::new(),
            unkept: Vec::new(),
        };
        worker.remember().await?;
        let wanted = worker.wanted(&worker.config.load());
        worker.acme.held.want(wanted.iter());
        Ok(worker)
    }

    /// Takes the tries of the store. An account with another directory begins anew. A try that is
    /// long past was of a name that is not wanted any more.
    async fn remember(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for last in self.store.acme_tries().await? {
            if last.next.after(FORGOTTEN_AFTER) < now {
                let (directory, name, key_id) = (&last.directory, &last.name, &last.key_id);
                self.store.remove_acme(directory, name, key_id).await?;
                continue;
            }
            let cas = self.acme.cas.values();
            for ca in cas.filter(|ca| ca.directory == last.directory) {
                let tried = Tried {
                    failures: last.tries,
                    next: last.next,
                    ..Tried::default()
                };
                if last.name.is_empty() {
                    self.cas.insert(ca.name.clone(), tried);
                    continue;
                }
                let wanted = Wanted {
                    account: ca.name.clone(),
                    name: last.name.clone(),
                    key_id: last.key_id.clone(),
                };
                if last.next > now {
                    warn!(
                        name = wanted.name, error = last.reason, next = %last.next,
                        "certificate not renewed"
                    );
                }
                self.tried.insert(wanted, tried);
            }
        }
        Ok(())
    }

    /// Runs until the server stops.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let config = self.config.load_full();
            let wanted = self.wanted(&config);
            self.acme.held.want(wanted.iter());
            self.keep_unkept().await;
            let now = self.clock.now();
            let next = self.next(&wanted, now);
            if let Some((at, wanted)) = &next
                && *at <= now
            {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = self.attempt(wanted) => {}
                }
                continue;
            }
            let mut until = next.map_or(now.after(SLEEP), |(at, _)| at.min(now.after(SLEEP)));
            if !self.unkept.is_empty() {
                until = until.min(now.after(KEEP_AGAIN));
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.clock.sleep_until(until) => {}
                () = change(&self.config, &config) => {}
            }
        }
    }

    fn wanted(&self, config: &Dynamic) -> Vec<Wanted> {
        let wanted = names::wanted(&self.statics, config, &self.acme.host_keys);
        wanted.into_iter().collect()
    }

    /// The certificate to get next, and when. Of those that are due, the one with the fewest
    /// failures comes first, so that a name that fails holds up no other.
    fn next(&self, wanted: &[Wanted], now: Time) -> Option<(Time, Wanted)> {
        let due = wanted.iter().filter_map(|wanted| {
            let ca = self.acme.cas.get(&wanted.account)?;
            let renewal = self
                .acme
                .held
                .validity(wanted)
                .map_or(Time(i64::MIN), |(begins, ends)| {
                    renew_at(begins, ends, ca.renew_before)
                });
            let tried = self.tried.get(wanted);
            let paused = self
                .cas
                .get(&wanted.account)
                .map_or(Time(i64::MIN), |it| it.next);
            let at = renewal
                .max(paused)
                .max(tried.map_or(Time(i64::MIN), |it| it.next));
            let failures = tried.map_or(0, |it| it.failures.saturating_add(it.unasked));
            let is_host = wanted.name == self.statics.hostname.ascii();
            Some((at.max(now), failures, !is_host, wanted))
        });
        let (at, _, _, wanted) = due.min()?;
        Some((at, wanted.clone()))
    }

    /// Tries to get a certificate.
    async fn attempt(&mut self, wanted: &Wanted) {
        let Some(way) = self.preferred(wanted) else {
            let failure = Failure::ours("no listener of this server can answer the CA");
            return self.failed(wanted, failure, None).await;
        };
        if let Err(failure) = self.look_up(wanted).await {
            return self.failed(wanted, failure, None).await;
        }
        if let Err(error) = self.mark(wanted, "the server stopped during the try").await {
            warn!(name = wanted.name, %error, "ACME try put off: not noted");
            let next = self.clock.now().after(KEEP_AGAIN);
            self.tried.entry(wanted.clone()).or_default().next = next;
            return;
        }
        let got = tokio::time::timeout(ORDER, self.get(wanted, way)).await;
        let got = got.unwrap_or_else(|_| Err(Failure::of_name("the order took too long")));
        let got = match got {
            Ok(certificate) => self.take(wanted, certificate).await,
            Err(failure) => Err(failure),
        };
        let result = match &got {
            Ok(()) => Success::Ok,
            Err(_) => Success::Failed,
        };
        self.metrics.acme_orders_total.with(result).inc();
        if let Err(failure) = got {
            self.failed(wanted, failure, Some(way)).await;
        }
    }

    /// The way to answer the CA. Each try after a failure uses the next way.
    fn preferred(&self, wanted: &Wanted) -> Option<Way> {
        let failures = self.tried.get(wanted).map_or(0, |tried| tried.failures);
        let at = usize::try_from(failures)
            .ok()?
            .checked_rem(self.ways.len())?;
        self.ways.get(at).copied()
    }

    /// Looks at the addresses of a name. Without any, no CA needs to be asked.
    async fn look_up(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let name = &wanted.name;
        let found = match self.resolver.addresses(name).await {
            Ok(found) => found.records,
            Err(error) if error.negative().is_some() => {
                return Err(Failure {
                    problem: "dns".to_owned(),
                    ..Failure::ours(format!("{name} has no address in DNS"))
                });
            }
            // The CA asks for itself.
            Err(_) => return Ok(()),
        };
        let tried = self.tried.entry(wanted.clone()).or_default();
        if is_foreign(&self.statics, &found) && !std::mem::replace(&mut tried.foreign, true) {
            warn!(
                name, addresses = ?found,
                "name leads to addresses that no listener has as ips or nat_ips"
            );
        }
        Ok(())
    }

    /// Notes a try in the store, with the time of the next one.
    async fn mark(&mut self, wanted: &Wanted, reason: &str) -> Result<(), StoreError> {
        let failures = self.tried.get(wanted).map_or(0, |tried| tried.failures);
        let failures = failures.saturating_add(1);
        let next = self.clock.now().after(pause(Scope::Name, failures));
        let last = self.record(wanted, failures, next, reason);
        self.store.set_acme_try(last).await
    }

    fn record(&self, wanted: &Wanted, tries: u32, next: Time, reason: &str) -> AcmeTry {
        let ca = self.acme.cas.get(&wanted.account);
        AcmeTry {
            directory: ca.map(|ca| ca.directory.clone()).unwrap_or_default(),
            name: wanted.name.clone(),
            key_id: wanted.key_id.clone(),
            tries,
            next,
            reason: reason.to_owned(),
        }
    }

    /// Orders a certificate.
    async fn get(&mut self, wanted: &Wanted, way: Way) -> Result<AcmeCertificate, Failure> {
        let Some(ca) = self.acme.cas.get(&wanted.account) else {
            return Err(Failure::ours("the account is not configured"));
        };
        let host_key = self.acme.host_key(&wanted.key_id);
        let own = match host_key {
            Some(_) => None,
            None => {
                let (pair, _) = issued::new_key().map_err(|e| Failure::ours(format!("{e:#}")))?;
                Some(pair)
            }
        };
        let pair: &KeyPair = match (host_key, &own) {
            (Some(key), _) => &key.pair,
            (None, Some(pair)) => pair,
            (None, None) => return Err(Failure::ours("there is no key")),
        };
        // The other ways stand behind, in case that the CA does not offer the first.
        let mut ways = vec![way];
        ways.extend(self.ways.iter().filter(|other| **other != way));
        let (store, now) = (&self.store, self.clock.now());
        let account = match self.accounts.get(&ca.name) {
            Some(account) => account.clone(),
            None => ca.account(store, now).await?,
        };
        let challenges = self.acme.challenges();
        let mut used = account.clone();
        let mut got = order(&account, &wanted.name, pair, challenges, &ways).await;
        if got
            .as_ref()
            .is_err_and(|failure| failure.problem == "accountDoesNotExist")
        {
            warn!(
                acme = ca.name,
                "ACME account unknown to the CA; another one is made"
            );
            used = ca.register(store, now).await?;
            got = order(&used, &wanted.name, pair, challenges, &ways).await;
        }
        match got
            .as_ref()
            .is_err_and(|failure| failure.scope == Scope::Ca)
        {
            true => self.accounts.remove(&ca.name),
            false => self.accounts.insert(ca.name.clone(), used),
        };
        let chain = got?;
        let (begins, ends) = issued::validity(&chain)
            .map_err(|error| Failure::of_name(format!("the CA gave no certificate: {error:#}")))?;
        Ok(AcmeCertificate {
            directory: ca.directory.clone(),
            name: wanted.name.clone(),
            key_id: wanted.key_id.clone(),
            chain,
            key: own.map(|pair| pair.serialize_der()).unwrap_or_default(),
            begins,
            ends,
        })
    }

    /// Puts a certificate into use, and keeps it in the store.
    async fn take(&mut self, wanted: &Wanted, new: AcmeCertificate) -> Result<(), Failure> {
        let now = self.clock.now();
        let host_key = self.acme.host_key(&wanted.key_id);
        let certified = issued::certified(&new, host_key);
        let certified = certified.map_err(|error| Failure::of_name(format!("{error:#}")))?;
        self.acme.held.add(&wanted.account, &new, certified);
        info!(name = wanted.name, acme = wanted.account, expires = %new.ends, "certificate loaded");
        let renew_before = self.acme.cas.get(&wanted.account).map(|ca| ca.renew_before);
        let renewal = renew_at(new.begins, new.ends, renew_before.unwrap_or_default());
        let ends = new.ends;
        self.unkept.push(new);
        self.keep_unkept().await;
        if self.cas.remove(&wanted.account).is_some() {
            let last = self.record(&of_ca(&wanted.account), 0, Time(0), "");
            let _ = self.store.remove_acme(&last.directory, "", "").await;
        }
        if renewal <= now {
            // Without a pause the next order would follow at once, again and again.
            return Err(Failure::of_name(format!(
                "the new certificate is to be renewed already, since it ends at {ends}; look at the \
                 clock of this machine"
            )));
        }
        self.tried.remove(wanted);
        Ok(())
    }

    /// Keeps the certificates that are not in the store yet.
    async fn keep_unkept(&mut self) {
        while let Some(certificate) = self.unkept.first() {
            let kept = self.store.set_acme_certificate(certificate.clone()).await;
            if let Err(error) = kept {
                warn!(
                    name = certificate.name, %error,
                    "certificate in use, but not stored"
                );
                return;
            }
            self.unkept.remove(0);
        }
    }

    /// Notes a failure, and tells it if the log does not have it yet.
    async fn failed(&mut self, wanted: &Wanted, failure: Failure, way: Option<Way>) {
        let now = self.clock.now();
        let Some(ca) = self.acme.cas.get(&wanted.account) else {
            return;
        };
        let wished = ca.wished_pause();
        let advice = remedy(&failure, ca, &wanted.name, way);
        let of_ca = of_ca(&wanted.account);
        let (subject, tried) = match failure.scope {
            Scope::Ca => (&of_ca, self.cas.entry(wanted.account.clone()).or_default()),
            Scope::Name | Scope::Unasked => (wanted, self.tried.entry(wanted.clone()).or_default()),
        };
        let count = match failure.scope {
            Scope::Unasked => &mut tried.unasked,
            Scope::Name | Scope::Ca => &mut tried.failures,
        };
        *count = count.saturating_add(1);
        let mut pause = pause(failure.scope, *count);
        if failure.problem == "rateLimited" || wished.is_some() {
            pause = pause.max(limited(wished));
        }
        if failure.scope != Scope::Unasked {
            tried.unasked = 0;
        }
        tried.next = now.after(pause);
        let (next, failures) = (tried.next, tried.failures);
        let is_news = tried.told != failure.reason;
        tried.told.clone_from(&failure.reason);
        self.tell(wanted, &failure, &advice, next, is_news);
        if failure.scope == Scope::Unasked {
            return;
        }
        let mut records = vec![self.record(subject, failures, next, &failure.reason)];
        if failure.scope == Scope::Ca {
            // The name itself did not fail. It waits for the CA only.
            let failures = self.tried.get(wanted).map_or(0, |tried| tried.failures);
            records.push(self.record(wanted, failures, now, &failure.reason));
        }
        for record in records {
            if let Err(error) = self.store.set_acme_try(record).await {
                warn!(name = wanted.name, %error, "ACME try not noted");
            }
        }
    }

    fn tell(&self, wanted: &Wanted, failure: &Failure, remedy: &str, next: Time, is_news: bool) {
        let (name, reason) = (&wanted.name, &failure.reason);
        let ends = self.acme.held.validity(wanted).map(|(_, ends)| ends);
        match ends {
            Some(ends) if ends.before(URGENT) <= self.clock.now() => error!(
                name, error = reason, remedy, next = %next, expires = %ends,
                "certificate failed"
            ),
            _ if !is_news => debug!(name, error = reason, next = %next, "certificate failed again"),
            Some(ends) => warn!(
                name, error = reason, remedy, next = %next, expires = %ends,
                "certificate not renewed"
            ),
            None => warn!(name, error = reason, remedy, next = %next, "certificate not obtained"),
        }
    }
}

/// The CA of an account, in the place of one of its names.
fn of_ca(account: &str) -> Wanted {
    Wanted {
        account: account.to_owned(),
        name: String::new(),
        key_id: String::new(),
    }
}

/// Whether none of these addresses is ours. A server that listens on all addresses does not know.
fn is_foreign(statics: &Static, found: &[IpAddr]) -> bool {
    let mut own = statics
        .listeners
        .values()
        .flat_map(|listener| listener.ips.iter().chain(&listener.nat_ips));
    !found.is_empty() && own.all(|ip| !ip.is_unspecified() && !found.contains(ip))
}

/// Waits until another configuration is in force.
async fn change(config: &Live, seen: &Arc<Dynamic>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !Arc::ptr_eq(&config.load(), seen) {
            return;
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cas: Vec<&str> = self
            .acme
            .cas
            .values()
            .map(|ca: &Ca| ca.name.as_str())
            .collect();
        f.debug_struct("Worker")
            .field("cas", &cas)
            .finish_non_exhaustive()
    }
}
