//! Makes the calls that are due, and records their results.
//!
//! The store knows which calls are due, and keeps the calls of one message to one URL in order. The
//! runner keeps the number of calls within the limits: `webhook.max_concurrency` in all, and those
//! of `receivers` for each receiver and host.

use std::{
    collections::HashMap,
    future, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use postrider_config::{Dynamic, Live, Static, WebhookConfig};
use postrider_observe::{
    Metrics, Tracer,
    metrics::{PanicIn, WebhookResult},
    panics,
    trace::Trace,
};
use postrider_store::{
    ClaimHooks, Clock, Hook, HookAttempt, Moment, SettleHook, Store, StoreError, Time,
};
use reqwest::{Client, Proxy, redirect};
use tokio::{
    sync::{Semaphore, watch},
    task::{self, JoinError, JoinSet},
    time::timeout,
};
use tracing::{error, info};

use crate::{
    call::{Caller, UsedUp},
    observed::{self, Called},
    operate::Operator,
    outcome::{no_attempt, postpone, release, settle},
    receivers::{ReceiverKey, Receivers},
    share::MemoryBudget,
    target::PublicOnly,
};

/// The memory for received messages while their payloads are made, in bytes, for all accounts
/// together.
const MEMORY: u64 = 128 << 20;
/// How long running calls may take to end when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// The pause before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// The pause of a call that could not be made for want of our own means.
const USED_UP_RETRY: Duration = Duration::from_secs(5);
/// The number of results that may wait for the store. With more, no new calls are made.
const RESULTS_WAITING: usize = 1000;
/// How long a connection without calls is kept. Many servers close theirs after 5 seconds, and a
/// call on a connection that closes would fail.
const IDLE: Duration = Duration::from_secs(4);

/// The parts of the server that webhooks use.
#[expect(
    missing_debug_implementations,
    reason = "its parts have nothing to show"
)]
pub struct WebhookParts {
    /// Keeps the calls and the texts of received messages.
    pub store: Store,
    /// Takes the traces of calls.
    pub tracer: Tracer,
    /// The current dynamic configuration.
    pub config: Live,
    /// The static configuration.
    pub statics: Arc<Static>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Makes the calls.
pub struct Runner {
    caller: Arc<Caller>,
    store: Store,
    tracer: Tracer,
    config: Live,
    clock: Arc<dyn Clock>,
    settings: WebhookConfig,
    metrics: Arc<Metrics>,
    /// Results could not be recorded so far. Only one task records at a time.
    unsettled: Arc<AtomicBool>,
    /// The last call could not be made for want of our own means.
    used_up: AtomicBool,
}

/// Why a runner can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `webhook.proxy` is wrong.
    #[error("webhook.proxy: {0}")]
    Proxy(reqwest::Error),
    /// The HTTP client can't be set up.
    #[error("failed to set up the HTTP client of webhooks: {0}")]
    Client(reqwest::Error),
}

/// When the store is asked again, if nothing happens before.
enum NextClaim {
    /// When a call is due.
    Due(Time),
    /// After a pause.
    Paused(Moment),
}

/// The end of a task.
enum End {
    /// The server stops, so the call was not begun.
    NotBegun,
    /// No call could be made for want of our own means.
    UsedUp(UsedUp),
    /// The call was made.
    Made(HookAttempt, WebhookResult),
}

/// The result of a call, for the store, and what is told when it has it. None: the call was not
/// made.
type CallResult = (SettleHook, Option<Called>);

/// The calls that run now.
struct Running {
    calls: JoinSet<End>,
    /// The call of each task.
    claims: HashMap<task::Id, RunningCall>,
    receivers: Receivers,
}

/// A call that runs.
struct RunningCall {
    hook: Arc<Hook>,
    receiver: Arc<ReceiverKey>,
    /// What those who follow traces hear of it meanwhile.
    preview: Option<Trace>,
}

impl Runner {
    /// A runner with these parts.
    ///
    /// # Errors
    /// If the URL of the proxy is wrong, or TLS can't be set up.
    pub fn new(parts: WebhookParts) -> Result<Self, SetupError> {
        let WebhookParts {
            store,
            tracer,
            config,
            statics,
            metrics,
            clock,
        } = parts;
        let settings = statics.webhook.clone();
        let caller = Caller {
            client: client(&settings)?,
            store: store.clone(),
            memory: MemoryBudget::new(MEMORY),
            limits: statics.limits.mime(),
            allow_private_addresses: settings.allow_private_addresses,
        };
        Ok(Self {
            caller: Arc::new(caller),
            store,
            tracer,
            config,
            clock,
            settings,
            metrics,
            unsettled: Arc::default(),
            used_up: AtomicBool::new(false),
        })
    }

    /// The operations of administrators on calls.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator {
            caller: Arc::clone(&self.caller),
            store: self.store.clone(),
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Makes the calls that are due until `shutdown` is true. Running calls then have 5 seconds to
    /// end. The others are given back to the store.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut changed = self.store.hooks_changed();
        let mut running = Running {
            calls: JoinSet::new(),
            claims: HashMap::new(),
            receivers: Receivers::new(&self.settings),
        };
        let mut results = Vec::new();
        let mut settling = JoinSet::new();
        while !*shutdown.borrow() {
            changed.mark_unchanged();
            // Nothing new is called while results can't be recorded.
            let next = if results.len() < RESULTS_WAITING && !self.unsettled.load(Relaxed) {
                self.begin_due(&mut running, &mut results).await
            } else {
                None
            };
            // One task records at a time. The results that come meanwhile go together with the next
            // task.
            if settling.is_empty() && !results.is_empty() {
                settling.spawn(self.settle_all(mem::take(&mut results)));
            }
            let due = async {
                match next {
                    Some(NextClaim::Due(time)) => self.clock.sleep_until(time).await,
                    Some(NextClaim::Paused(until)) => self.clock.sleep_until_moment(until).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = due => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
                Some(ended) = running.calls.join_next_with_id() => {
                    results.extend(self.ended(&mut running, ended));
                }
                Some(_) = settling.join_next() => {}
            }
            while let Some(ended) = running.calls.try_join_next_with_id() {
                results.extend(self.ended(&mut running, ended));
            }
        }
        self.stop(running, results, settling).await;
    }

    /// Waits a time for the running calls to end, and gives the others back.
    async fn stop(
        &self,
        mut running: Running,
        mut results: Vec<CallResult>,
        mut settling: JoinSet<()>,
    ) {
        running.receivers.close();
        let all_end = async {
            while let Some(ended) = running.calls.join_next_with_id().await {
                results.extend(self.ended(&mut running, ended));
            }
        };
        if timeout(STOP_WITHIN, all_end).await.is_err() {
            running.calls.abort_all();
            while let Some(ended) = running.calls.join_next_with_id().await {
                results.extend(self.ended(&mut running, ended));
            }
        }
        let all_settled = async {
            while settling.join_next().await.is_some() {}
            if !results.is_empty() {
                self.settle_all(results).await;
            }
        };
        if timeout(STOP_WITHIN, all_settled).await.is_err() {
            error!(
                "results of webhook calls could not be recorded; these calls are made again after the next start"
            );
        }
    }

    /// Begins the calls that are due, as many as the limits allow. Gives when to claim
    /// again.
    async fn begin_due(
        &self,
        running: &mut Running,
        results: &mut Vec<CallResult>,
    ) -> Option<NextClaim> {
        loop {
            let all = self.settings.max_concurrency.max(1);
            let free = all.saturating_sub(running.calls.len());
            if free == 0 {
                return None;
            }
            let claim = ClaimHooks {
                now: self.clock.now(),
                max: free,
                max_per_lane: running.receivers.max_per_lane(),
                except: running.receivers.full_lanes(),
            };
            let claimed = match self.store.claim_hooks(claim).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    error!(%error, "failed to ask the store for calls that are due");
                    let until = self.clock.moment().after(STORE_RETRY);
                    return Some(NextClaim::Paused(until));
                }
            };
            let before = results.len();
            let config = self.config.load_full();
            for hook in claimed.hooks {
                let begun = running.receivers.begin_call(&hook.account, &hook.url);
                let Some((receiver, permits)) = begun else {
                    results.push((release(&hook), None));
                    continue;
                };
                let hook = Arc::new(hook);
                let preview = observed::begins(&hook, self.clock.now(), &self.tracer);
                let call = call(
                    Arc::clone(&self.caller),
                    Arc::clone(&hook),
                    Arc::clone(&config),
                    Arc::clone(&self.clock),
                    permits,
                );
                let call = panics::within(PanicIn::Webhook, call);
                let task = running.calls.spawn(call).id();
                let call = RunningCall {
                    hook,
                    receiver,
                    preview,
                };
                running.claims.insert(task, call);
            }
            running.receivers.drop_reservations();
            // Calls that were given back took the place of other receivers' calls in this claim.
            // Their lanes are known now, so the next claim leaves them out, and the loop ends.
            if results.len() == before {
                return claimed.next_due.map(NextClaim::Due);
            }
        }
    }

    /// The result of a task that ended.
    fn ended(
        &self,
        running: &mut Running,
        ended: Result<(task::Id, End), JoinError>,
    ) -> Option<CallResult> {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let RunningCall {
            hook,
            receiver,
            preview,
        } = running.claims.remove(&task)?;
        running.receivers.end_call(&receiver);
        let (attempt, result) = match ended {
            Ok((_, End::Made(attempt, result))) => (attempt, result),
            Ok((_, End::NotBegun)) => return Some((release(&hook), None)),
            Ok((_, End::UsedUp(used_up))) => {
                if !self.used_up.swap(true, Relaxed) {
                    error!(error = %used_up, "no webhook can be called; no attempt counts until that is over");
                }
                let until = self.clock.now().after(USED_UP_RETRY);
                return Some((postpone(&hook, until), None));
            }
            Err(error) if error.is_cancelled() => return Some((release(&hook), None)),
            Err(_) => {
                error!(hook = hook.id.0, "a webhook call panicked");
                let attempt = HookAttempt {
                    error: "the call failed with an internal error".to_owned(),
                    ..no_attempt(self.clock.now())
                };
                (attempt, WebhookResult::Failed)
            }
        };
        if attempt.code != 0 && self.used_up.swap(false, Relaxed) {
            info!("webhooks can be called again");
        }
        running
            .receivers
            .set_answering(&receiver, attempt.code != 0);
        let intervals = &self.settings.retry_intervals;
        let now = self.clock.now();
        let settle = settle(&hook, attempt, &self.config.load(), intervals, now);
        let called = Called {
            hook,
            result,
            preview,
        };
        Some((settle, Some(called)))
    }

    /// Records results, and tells of them then. Tries again for as long as the store fails.
    fn settle_all(&self, results: Vec<CallResult>) -> impl Future<Output = ()> + Send + use<> {
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        let unsettled = Arc::clone(&self.unsettled);
        let (metrics, tracer) = (Arc::clone(&self.metrics), self.tracer.clone());
        async move {
            let (settles, called): (Vec<_>, Vec<_>) = results.into_iter().unzip();
            loop {
                match store.settle_hooks(settles.clone()).await {
                    Ok(recorded) => {
                        unsettled.store(false, Relaxed);
                        let results = settles.iter().zip(called).zip(recorded);
                        for ((settle, called), is_recorded) in results {
                            if let Some(called) = called.filter(|_| is_recorded) {
                                let made = (&settle.attempt, settle.outcome);
                                observed::called(called, made, (&metrics, &tracer));
                            }
                        }
                        return;
                    }
                    Err(StoreError::Closed) => {
                        unsettled.store(false, Relaxed);
                        return;
                    }
                    Err(error) => {
                        // It is told once.
                        if !unsettled.swap(true, Relaxed) {
                            error!(%error, "the results of webhook calls can't be recorded; no further calls are made until they are");
                        }
                    }
                }
                let again_at = clock.moment().after(STORE_RETRY);
                clock.sleep_until_moment(again_at).await;
            }
        }
    }
}

fn client(settings: &WebhookConfig) -> Result<Client, SetupError> {
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
        // The proxy looks names up, so addresses can't be checked here.
        Some(url) => builder = builder.proxy(Proxy::all(url).map_err(SetupError::Proxy)?),
        None if settings.allow_private_addresses => {}
        None => builder = builder.dns_resolver(PublicOnly),
    }
    builder.build().map_err(SetupError::Client)
}

async fn call(
    caller: Arc<Caller>,
    hook: Arc<Hook>,
    config: Arc<Dynamic>,
    clock: Arc<dyn Clock>,
    permits: Arc<Semaphore>,
) -> End {
    // The permits are closed when the server stops.
    let Ok(_permit) = permits.acquire().await else {
        return End::NotBegun;
    };
    match caller.call(&hook, None, &config, &*clock).await {
        Ok((attempt, result)) => End::Made(attempt, result),
        Err(used_up) => End::UsedUp(used_up),
    }
}
