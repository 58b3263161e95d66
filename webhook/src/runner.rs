//! Makes the calls that are due, and records what came of them.
//!
//! The store says which calls are due, and keeps the calls of one message to one URL in order. The runner keeps what is under
//! way within its limits: in all, and per receiver, so that one that is slow delays nobody else's calls.

use std::{
    collections::{HashMap, HashSet},
    future, mem,
    sync::Arc,
    time::Duration,
};

use postrider_config::{Dynamic, Live, WebhookConfig};
use postrider_store::{
    ClaimHooks, Clock, Hook, HookAttempt, Outcome, SettleHook, Store, StoreError, Time,
};
use rand::RngExt;
use reqwest::{Client, Proxy, Url, redirect};
use tokio::{
    sync::{Semaphore, watch},
    task::{self, JoinError, JoinSet},
    time::timeout,
};
use tracing::{debug, error, info, warn};

use crate::{call::Caller, operate::Operator, target::PublicOnly};

/// The share by which a retry may be early or late.
const SPREAD: f64 = 0.01;
/// History of an account that is gone.
const KEEP_WITHOUT_ACCOUNT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long calls under way may take to end when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// How many results may wait for the store before no more calls are made.
const RESULTS_WAITING: usize = 1000;
/// How long a connection without calls is kept. Many servers close theirs after 5 seconds, and a call that meets the closing
/// would fail.
const IDLE: Duration = Duration::from_secs(4);

/// Makes the calls.
pub struct Runner {
    caller: Arc<Caller>,
    store: Store,
    config: Live,
    clock: Arc<dyn Clock>,
    settings: WebhookConfig,
}

/// Why there can be no runner.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `webhook.proxy`.
    #[error("webhook.proxy: {0}")]
    Proxy(reqwest::Error),
    /// The HTTP client.
    #[error("failed to set up the HTTP client of webhooks: {0}")]
    Client(reqwest::Error),
}

/// What is under way.
#[derive(Default)]
struct UnderWay {
    /// None: it was not begun.
    calls: JoinSet<Option<HookAttempt>>,
    /// What each of them calls, and whom.
    claims: HashMap<task::Id, (Arc<Hook>, Arc<str>)>,
    receivers: HashMap<Arc<str>, Receiver>,
    /// Those that answered the last call that ended. The others have one call at a time until they do, so that many that are
    /// down leave room for those that are up.
    answering: HashSet<Arc<str>>,
}

/// How many receivers are remembered to answer.
const ANSWERING_MAX: usize = 100_000;

/// Who answers at a scheme, host and port, whatever the path.
struct Receiver {
    /// Those that are made, and those that wait for a permit.
    calls: usize,
    /// Each call holds one while it is made.
    permits: Arc<Semaphore>,
    /// Its URLs that were seen since it last had no calls: the store knows URLs only.
    urls: HashSet<String>,
}

impl Runner {
    /// A runner of these parts.
    ///
    /// # Errors
    /// If the proxy's URL is of no use, or TLS can't be set up.
    pub fn new(
        store: Store,
        config: Live,
        clock: Arc<dyn Clock>,
        settings: WebhookConfig,
    ) -> Result<Self, SetupError> {
        let mut builder = Client::builder()
            .user_agent(concat!(
                "postrider/",
                env!("CARGO_PKG_VERSION"),
                " (webhook)"
            ))
            .redirect(redirect::Policy::none())
            .timeout(settings.timeout)
            .pool_max_idle_per_host(settings.per_receiver_concurrency)
            .pool_idle_timeout(IDLE)
            .no_proxy();
        match &settings.proxy {
            // The proxy looks names up.
            Some(url) => builder = builder.proxy(Proxy::all(url).map_err(SetupError::Proxy)?),
            None if settings.allow_private_addresses => {}
            None => builder = builder.dns_resolver(PublicOnly),
        }
        let caller = Caller {
            client: builder.build().map_err(SetupError::Client)?,
            store: store.clone(),
            allow_private_addresses: settings.allow_private_addresses,
        };
        Ok(Self {
            caller: Arc::new(caller),
            store,
            config,
            clock,
            settings,
        })
    }

    /// What administrators may do to the calls.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator {
            caller: Arc::clone(&self.caller),
            store: self.store.clone(),
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Makes the calls that are due until `shutdown` says so. Calls under way may then end; those that
    /// do not within 5 seconds are given back.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut changed = self.store.hooks_changed();
        let mut under_way = UnderWay::default();
        let mut results = Vec::new();
        let mut settling = JoinSet::new();
        while !*shutdown.borrow() {
            changed.mark_unchanged();
            let wake = if results.len() < RESULTS_WAITING {
                self.begin_due(&mut under_way, &mut results).await
            } else {
                None
            };
            // One at a time: what ends meanwhile goes together with the next.
            if settling.is_empty() && !results.is_empty() {
                settling.spawn(self.settle(mem::take(&mut results)));
            }
            let due = async {
                match wake {
                    Some(time) => self.clock.sleep_until(time).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = due => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
                Some(ended) = under_way.calls.join_next_with_id() => {
                    results.extend(self.ended(&mut under_way, ended));
                }
                Some(_) = settling.join_next() => {}
            }
            while let Some(ended) = under_way.calls.try_join_next_with_id() {
                results.extend(self.ended(&mut under_way, ended));
            }
        }
        self.stop(under_way, results, settling).await;
    }

    /// Lets what is under way end, for a time, and gives the rest back.
    async fn stop(
        &self,
        mut under_way: UnderWay,
        mut results: Vec<SettleHook>,
        mut settling: JoinSet<()>,
    ) {
        for receiver in under_way.receivers.values() {
            receiver.permits.close();
        }
        let all_end = async {
            while let Some(ended) = under_way.calls.join_next_with_id().await {
                results.extend(self.ended(&mut under_way, ended));
            }
        };
        if timeout(STOP_WITHIN, all_end).await.is_err() {
            under_way.calls.abort_all();
            while let Some(ended) = under_way.calls.join_next_with_id().await {
                results.extend(self.ended(&mut under_way, ended));
            }
        }
        let all_settled = async {
            while settling.join_next().await.is_some() {}
            if !results.is_empty() {
                self.settle(results).await;
            }
        };
        if timeout(STOP_WITHIN, all_settled).await.is_err() {
            error!(
                "results of webhook calls could not be recorded; these are made again after the next start"
            );
        }
    }

    /// Begins what is due, as far as there is room; gives the time when there is more to do.
    async fn begin_due(
        &self,
        under_way: &mut UnderWay,
        results: &mut Vec<SettleHook>,
    ) -> Option<Time> {
        let per_receiver = self.settings.per_receiver_concurrency.max(1);
        loop {
            let room = self
                .settings
                .max_concurrency
                .max(1)
                .saturating_sub(under_way.calls.len());
            if room == 0 {
                return None;
            }
            let full = under_way
                .receivers
                .iter()
                .filter(|(name, receiver)| {
                    receiver.calls >= under_way.allowance(name, per_receiver)
                })
                .map(|(_, receiver)| receiver);
            let claim = ClaimHooks {
                now: self.clock.now(),
                max: room,
                max_per_url: per_receiver,
                except: full.flat_map(|full| full.urls.iter().cloned()).collect(),
            };
            let claimed = match self.store.claim_hooks(claim).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    error!(%error, "failed to ask the store for calls that are due");
                    return Some(self.clock.now().after(STORE_RETRY));
                }
            };
            let before = results.len();
            let config = self.config.load_full();
            for hook in claimed.hooks {
                let name = receiver_of(&hook.url);
                // As many may wait as are made, so that the next is at hand. A receiver with many URLs gives more.
                let most = match under_way.answering.contains(name.as_str()) {
                    true => 2 * per_receiver,
                    false => 1,
                };
                let (key, receiver) = under_way.receiver(name, &hook.url, per_receiver);
                if receiver.calls >= most {
                    results.push(release(&hook));
                    continue;
                }
                receiver.calls += 1;
                let permits = Arc::clone(&receiver.permits);
                let hook = Arc::new(hook);
                let call = call(
                    Arc::clone(&self.caller),
                    Arc::clone(&hook),
                    Arc::clone(&config),
                    Arc::clone(&self.clock),
                    permits,
                );
                let task = under_way.calls.spawn(call).id();
                under_way.claims.insert(task, (hook, key));
            }
            // Those given back took the room of other receivers' calls. Their URLs are known now, so this comes to an end.
            if results.len() == before {
                return claimed.next_due;
            }
        }
    }

    /// What is to be recorded of a task that ended.
    fn ended(
        &self,
        under_way: &mut UnderWay,
        ended: Result<(task::Id, Option<HookAttempt>), JoinError>,
    ) -> Option<SettleHook> {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let (hook, receiver) = under_way.claims.remove(&task)?;
        under_way.leave(&receiver);
        let attempt = match ended {
            Ok((_, Some(attempt))) => attempt,
            Ok((_, None)) => return Some(release(&hook)),
            Err(error) if error.is_cancelled() => return Some(release(&hook)),
            Err(panic) => {
                error!(hook = hook.id.0, %panic, "a webhook call failed within");
                HookAttempt {
                    error: "the call failed within".to_owned(),
                    ..no_attempt(self.clock.now())
                }
            }
        };
        under_way.heard(&receiver, attempt.code != 0);
        let intervals = &self.settings.retry_intervals;
        let now = self.clock.now();
        Some(result(&hook, attempt, &self.config.load(), intervals, now))
    }

    /// Records results, however long the store can't.
    fn settle(&self, results: Vec<SettleHook>) -> impl Future<Output = ()> + Send + use<> {
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        async move {
            loop {
                match store.settle_hooks(results.clone()).await {
                    Ok(_) | Err(StoreError::Closed) => return,
                    Err(error) => {
                        error!(%error, "failed to record the results of webhook calls; to be tried again");
                    }
                }
                clock.sleep_until(clock.now().after(STORE_RETRY)).await;
            }
        }
    }
}

async fn call(
    caller: Arc<Caller>,
    hook: Arc<Hook>,
    config: Arc<Dynamic>,
    clock: Arc<dyn Clock>,
    permits: Arc<Semaphore>,
) -> Option<HookAttempt> {
    // It is closed when the server stops.
    let _permit = permits.acquire().await.ok()?;
    Some(caller.call(&hook, None, &config, &*clock).await)
}

impl UnderWay {
    /// How many calls a receiver may have.
    fn allowance(&self, name: &str, per_receiver: usize) -> usize {
        match self.answering.contains(name) {
            true => per_receiver,
            false => 1,
        }
    }

    /// Notes whether a receiver answered.
    fn heard(&mut self, name: &Arc<str>, answered: bool) {
        if !answered {
            self.answering.remove(name);
        } else if !self.answering.contains(name) {
            if self.answering.len() >= ANSWERING_MAX {
                self.answering.clear();
            }
            self.answering.insert(Arc::clone(name));
        }
    }

    /// The receiver of this name, which answers at this URL.
    fn receiver(
        &mut self,
        name: String,
        url: &str,
        per_receiver: usize,
    ) -> (Arc<str>, &mut Receiver) {
        let name: Arc<str> = name.into();
        let receiver = self
            .receivers
            .entry(Arc::clone(&name))
            .or_insert_with(|| Receiver {
                calls: 0,
                permits: Arc::new(Semaphore::new(per_receiver)),
                urls: HashSet::new(),
            });
        if !receiver.urls.contains(url) {
            receiver.urls.insert(url.to_owned());
        }
        (name, receiver)
    }

    fn leave(&mut self, name: &str) {
        if let Some(receiver) = self.receivers.get_mut(name) {
            receiver.calls = receiver.calls.saturating_sub(1);
            if receiver.calls == 0 {
                self.receivers.remove(name);
            }
        }
    }
}

/// Scheme, host and port of a URL; all of it if it has none, since it is then called in vain.
fn receiver_of(url: &str) -> String {
    match Url::parse(url).map(|url| url.origin()) {
        Ok(origin) if origin.is_tuple() => origin.ascii_serialization(),
        _ => url.to_owned(),
    }
}

const fn no_attempt(now: Time) -> HookAttempt {
    HookAttempt {
        start: now,
        duration: Duration::ZERO,
        success: false,
        code: 0,
        error: String::new(),
        response: String::new(),
    }
}

/// Gives a call back that was not made, or not to its end.
fn release(hook: &Hook) -> SettleHook {
    SettleHook {
        id: hook.id,
        fence: hook.fence,
        attempt: no_attempt(hook.next_attempt),
        outcome: Outcome::Release,
    }
}

/// What is to be recorded of a call.
fn result(
    hook: &Hook,
    attempt: HookAttempt,
    config: &Dynamic,
    intervals: &[Duration],
    now: Time,
) -> SettleHook {
    let made = usize::try_from(hook.attempts).unwrap_or(usize::MAX);
    let wait = intervals.get(made.saturating_sub(1));
    let outcome = match wait {
        Some(wait) if !attempt.success => {
            let factor = 1.0 + SPREAD * rand::rng().random_range(-1.0..=1.0);
            Outcome::Retry(now.after(wait.mul_f64(factor)))
        }
        _ => Outcome::Retire {
            success: attempt.success,
            now,
            keep_until: keep_until(hook, config, now),
        },
    };
    if attempt.success {
        debug!(
            hook = hook.id.0,
            url = hook.url,
            code = attempt.code,
            "webhook called"
        );
    } else if wait.is_some() {
        info!(
            hook = hook.id.0,
            account = hook.account,
            url = hook.url,
            attempt = hook.attempts,
            error = attempt.error,
            "webhook call failed, to be repeated"
        );
    } else {
        warn!(
            hook = hook.id.0,
            account = hook.account,
            url = hook.url,
            attempts = hook.attempts,
            error = attempt.error,
            "webhook call given up"
        );
    }
    SettleHook {
        id: hook.id,
        fence: hook.fence,
        attempt,
        outcome,
    }
}

/// Until when a call that ends is kept in the history; None: it is not.
pub(crate) fn keep_until(hook: &Hook, config: &Dynamic, now: Time) -> Option<Time> {
    let account = config.accounts.get(&hook.account);
    let keep = account.map_or(KEEP_WITHOUT_ACCOUNT, |account| {
        account.keep_retired_webhook_period
    });
    (!keep.is_zero()).then(|| now.after(keep))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_no_answer_has_one_call_at_a_time_until_it_does() {
        let mut under_way = UnderWay::default();
        let name: Arc<str> = "https://a.example".into();
        assert_eq!(under_way.allowance(&name, 10), 1);
        under_way.heard(&name, true);
        assert_eq!(under_way.allowance(&name, 10), 10);
        assert_eq!(under_way.allowance("https://b.example", 10), 1);
        under_way.heard(&name, false);
        assert_eq!(under_way.allowance(&name, 10), 1);
    }
}
