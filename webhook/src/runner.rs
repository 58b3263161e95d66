//! Makes the calls that are due, and records what came of them.
//!
//! The store says which calls are due, and keeps the calls of one message to one URL in order. The runner keeps what is under
//! way within its limits: in all, and per receiver, so that one that is slow delays nobody else's calls.

use std::{collections::HashMap, sync::Arc, time::Duration};

use postrider_config::{Dynamic, Live, WebhookConfig};
use postrider_store::{ClaimHooks, Clock, Hook, HookAttempt, Outcome, SettleHook, Store, Time};
use rand::RngExt;
use reqwest::{Client, Proxy, redirect};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tracing::{debug, error, warn};

use crate::{call::Caller, target::PublicOnly};

/// The share by which a retry may be early or late.
const SPREAD: f64 = 0.01;
/// History of an account that is gone.
const KEEP_WITHOUT_ACCOUNT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long calls under way may take to end when the server stops. What does not end is called again after the next start.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(5);

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
    calls: JoinSet<(Arc<str>, SettleHook)>,
    receivers: HashMap<Arc<str>, Receiver>,
}

struct Receiver {
    calls: usize,
    /// Each call holds one permit while it is made.
    permits: Arc<Semaphore>,
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

    /// Makes the calls that are due until `shutdown` says so.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut changed = self.store.hooks_changed();
        let mut under_way = UnderWay::default();
        let mut results = Vec::new();
        let mut settling = JoinSet::new();
        while !*shutdown.borrow() {
            changed.mark_unchanged();
            let wake = self.begin_due(&mut under_way).await;
            let due = async {
                match wake {
                    Some(time) => self.clock.sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = due => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
                Some(ended) = under_way.calls.join_next() => under_way.ended(ended, &mut results),
                Some(_) = settling.join_next() => {}
            }
            while let Some(ended) = under_way.calls.try_join_next() {
                under_way.ended(ended, &mut results);
            }
            // One at a time: what ends meanwhile goes together with the next.
            if settling.is_empty() && !results.is_empty() {
                settling.spawn(settle(self.store.clone(), std::mem::take(&mut results)));
            }
        }
        let all_end = async {
            while let Some(ended) = under_way.calls.join_next().await {
                under_way.ended(ended, &mut results);
            }
        };
        if tokio::time::timeout(STOP_WITHIN, all_end).await.is_err() {
            under_way.calls.shutdown().await;
        }
        while settling.join_next().await.is_some() {}
        settle(self.store.clone(), results).await;
    }

    /// Begins what is due, as far as there is room; gives the time when there is more to do.
    async fn begin_due(&self, under_way: &mut UnderWay) -> Option<Time> {
        let room = self
            .settings
            .max_concurrency
            .saturating_sub(under_way.calls.len());
        if room == 0 {
            return None;
        }
        let per_receiver = self.settings.per_receiver_concurrency.max(1);
        let full = under_way
            .receivers
            .iter()
            .filter(|(_, receiver)| receiver.calls >= per_receiver);
        let claim = ClaimHooks {
            now: self.clock.now(),
            max: room,
            max_per_url: per_receiver,
            except: full.map(|(url, _)| url.to_string()).collect(),
        };
        let claimed = match self.store.claim_hooks(claim).await {
            Ok(claimed) => claimed,
            Err(error) => {
                error!(%error, "failed to ask the store for calls that are due");
                return Some(self.clock.now().after(STORE_RETRY));
            }
        };
        for hook in claimed.hooks {
            let (url, permits) = under_way.enter(&hook.url, per_receiver);
            let (caller, clock) = (Arc::clone(&self.caller), Arc::clone(&self.clock));
            let (config, intervals) = (
                self.config.load_full(),
                self.settings.retry_intervals.clone(),
            );
            under_way.calls.spawn(async move {
                let permit = permits.acquire().await;
                let attempt = caller.call(&hook, &config, &*clock).await;
                drop(permit);
                (
                    url,
                    result(&hook, attempt, &config, &intervals, clock.now()),
                )
            });
        }
        claimed.next_due
    }
}

impl UnderWay {
    fn enter(&mut self, url: &str, per_receiver: usize) -> (Arc<str>, Arc<Semaphore>) {
        let key = match self.receivers.get_key_value(url) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(url),
        };
        let receiver = self
            .receivers
            .entry(Arc::clone(&key))
            .or_insert_with(|| Receiver {
                calls: 0,
                permits: Arc::new(Semaphore::new(per_receiver)),
            });
        receiver.calls += 1;
        (key, Arc::clone(&receiver.permits))
    }

    fn ended(
        &mut self,
        ended: Result<(Arc<str>, SettleHook), tokio::task::JoinError>,
        results: &mut Vec<SettleHook>,
    ) {
        match ended {
            Ok((url, settle)) => {
                results.push(settle);
                if let Some(receiver) = self.receivers.get_mut(&url) {
                    receiver.calls -= 1;
                    if receiver.calls == 0 {
                        self.receivers.remove(&url);
                    }
                }
            }
            Err(panic) => {
                error!(%panic, "a call failed within; it is made again after the next start")
            }
        }
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
        debug!(
            hook = hook.id.0,
            url = hook.url,
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

fn keep_until(hook: &Hook, config: &Dynamic, now: Time) -> Option<Time> {
    let account = config.accounts.get(&hook.account);
    let keep = account.map_or(KEEP_WITHOUT_ACCOUNT, |account| {
        account.keep_retired_webhook_period
    });
    (!keep.is_zero()).then(|| now.after(keep))
}

async fn settle(store: Store, results: Vec<SettleHook>) {
    if results.is_empty() {
        return;
    }
    if let Err(error) = store.settle_hooks(results).await {
        error!(%error, "failed to record the results of webhook calls; they are made again after the next start");
    }
}
