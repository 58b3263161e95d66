//! Makes the calls that are due, and records what came of them.
//!
//! The store says which calls are due, and keeps the calls of one message to one URL in order. The runner keeps what is under
//! way within its limits: in all, and per receiver and account, so that one that is slow delays nobody else's calls, and no host
//! takes the places of all others.

use std::{
    collections::{HashMap, HashSet},
    future, mem,
    sync::Arc,
    time::Duration,
};

use postrider_config::{Dynamic, Live, Static, WebhookConfig};
use postrider_store::{
    ClaimHooks, Clock, Hook, HookAttempt, Outcome, SettleHook, Store, StoreError, Time, hook_lane,
};
use rand::RngExt;
use reqwest::{Client, Proxy, Url, redirect};
use tokio::{
    sync::{Semaphore, watch},
    task::{self, JoinError, JoinSet},
    time::timeout,
};
use tracing::{debug, error, info, warn};

use crate::{call::Caller, operate::Operator, share::MemoryBudget, target::PublicOnly};

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

/// The memory for received messages while their payloads are made, in bytes, for all accounts together.
const MEMORY: u64 = 128 << 20;

/// The parts of the server that webhooks use.
#[expect(
    missing_debug_implementations,
    reason = "its parts have nothing to show"
)]
pub struct WebhookParts {
    /// Keeps the calls and the texts of received messages.
    pub store: Store,
    /// The current dynamic configuration.
    pub config: Live,
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

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
struct UnderWay {
    /// None: it was not begun.
    calls: JoinSet<Option<HookAttempt>>,
    /// What each of them calls, and whom.
    claims: HashMap<task::Id, (Arc<Hook>, Arc<Name>)>,
    receivers: HashMap<Arc<Name>, Receiver>,
    /// Calls per origin, those of all accounts.
    origins: HashMap<String, usize>,
    /// Those that answered the last call that ended. The others have one call at a time until they do, so that many that are
    /// down leave room for those that are up.
    answering: HashSet<Arc<Name>>,
    /// How many receivers are in line for a place at their host.
    in_line: usize,
    /// The last turn that was given.
    last_turn: u64,
    limits: Limits,
}

/// How many calls there may be at once.
#[derive(Clone, Copy)]
struct Limits {
    per_receiver: usize,
    /// A part of all, since a host that is slow is so for all accounts that have a receiver there.
    per_origin: usize,
}

/// Whom an account calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    account: String,
    /// Scheme, host and port of the URL.
    origin: String,
}

/// How many receivers are remembered to answer.
const ANSWERING_MAX: usize = 100_000;

/// Who answers at a scheme, host and port, whatever the path, to the calls of an account.
struct Receiver {
    /// Those that are made, and those that wait for a permit.
    calls: usize,
    /// Each call holds one while it is made.
    permits: Arc<Semaphore>,
    /// Its lanes in the store that were seen since it last had no calls.
    lanes: HashSet<String>,
    line: Line,
}

/// Whether a receiver is in line for a place at its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Not,
    /// There was no room for its calls. It waits until one of another ends there, those with the lowest number first.
    Waits(u64),
    /// A place is kept for it, if it still wants one; else it waits again with its old number.
    Called(u64),
}

impl Receiver {
    const fn is_called(&self) -> bool {
        matches!(self.line, Line::Called(_))
    }

    const fn waits(&self) -> bool {
        matches!(self.line, Line::Waits(_))
    }
}

impl Runner {
    /// A runner with these parts.
    ///
    /// # Errors
    /// If the URL of the proxy is wrong, or TLS can't be set up.
    pub fn new(parts: WebhookParts) -> Result<Self, SetupError> {
        let WebhookParts {
            store,
            config,
            statics,
            clock,
        } = parts;
        let settings = statics.webhook.clone();
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
            memory: MemoryBudget::new(MEMORY),
            limits: statics.limits.mime(),
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
        let mut under_way = UnderWay::new(&self.settings);
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
        loop {
            let room = self
                .settings
                .max_concurrency
                .max(1)
                .saturating_sub(under_way.calls.len());
            if room == 0 {
                return None;
            }
            let full = under_way.receivers.iter();
            let full = full.filter(|(name, receiver)| under_way.is_full(name, receiver));
            let claim = ClaimHooks {
                now: self.clock.now(),
                max: room,
                max_per_lane: under_way.limits.per_receiver,
                except: full
                    .flat_map(|(_, full)| full.lanes.iter().cloned())
                    .collect(),
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
                let Some((key, permits)) = under_way.enter(&hook.account, &hook.url) else {
                    results.push(release(&hook));
                    continue;
                };
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
            under_way.keep_no_places();
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
    fn new(settings: &WebhookConfig) -> Self {
        let per_receiver = settings.per_receiver_concurrency.max(1);
        Self {
            calls: JoinSet::new(),
            claims: HashMap::new(),
            receivers: HashMap::new(),
            origins: HashMap::new(),
            answering: HashSet::new(),
            in_line: 0,
            last_turn: 0,
            limits: Limits {
                per_receiver,
                per_origin: per_receiver.max(settings.max_concurrency / 2),
            },
        }
    }

    fn calls_of(&self, origin: &str) -> usize {
        self.origins.get(origin).copied().unwrap_or_default()
    }

    /// Whether no more calls of a receiver should be claimed.
    fn is_full(&self, name: &Name, receiver: &Receiver) -> bool {
        let most = match self.answering.contains(name) {
            true => self.limits.per_receiver,
            false => 1,
        };
        let of_origin = self.calls_of(&name.origin);
        receiver.waits() || receiver.calls >= most || of_origin >= self.limits.per_origin
    }

    /// How many places at a host are kept for those who waited.
    fn kept(&self, origin: &str) -> usize {
        if self.in_line == 0 {
            return 0;
        }
        let receivers = self.receivers.iter();
        let called = receivers.filter(|(name, it)| it.is_called() && name.origin == origin);
        called.count()
    }

    /// Keeps no place any more: who waited for one and has nothing due now needs none.
    fn keep_no_places(&mut self) {
        if self.in_line == 0 {
            return;
        }
        let in_line = &mut self.in_line;
        self.receivers.retain(|_, receiver| {
            if receiver.is_called() {
                receiver.line = Line::Not;
                *in_line -= 1;
            }
            receiver.calls > 0 || receiver.waits()
        });
    }

    /// Counts a call that is going to be made, if there is room for it; gives what it needs.
    fn enter(&mut self, account: &str, url: &str) -> Option<(Arc<Name>, Arc<Semaphore>)> {
        let name = Arc::new(Name {
            account: account.to_owned(),
            origin: origin(url),
        });
        // As many may wait as are made, so that the next is at hand. A receiver with many URLs gives more.
        let most = match self.answering.contains(&name) {
            true => 2 * self.limits.per_receiver,
            false => 1,
        };
        let of_origin = self.calls_of(&name.origin);
        let kept = self.kept(&name.origin);
        let receiver = self.receivers.entry(Arc::clone(&name));
        let receiver = receiver.or_insert_with(|| Receiver {
            calls: 0,
            permits: Arc::new(Semaphore::new(self.limits.per_receiver)),
            lanes: HashSet::new(),
            line: Line::Not,
        });
        receiver.lanes.insert(hook_lane(account, url));
        let taken = of_origin + if receiver.is_called() { 0 } else { kept };
        if taken >= self.limits.per_origin {
            let turn = match receiver.line {
                Line::Waits(turn) | Line::Called(turn) => turn,
                Line::Not => {
                    self.in_line += 1;
                    self.last_turn += 1;
                    self.last_turn
                }
            };
            receiver.line = Line::Waits(turn);
            return None;
        }
        if receiver.calls >= most {
            return None;
        }
        receiver.calls += 1;
        self.in_line -= usize::from(receiver.line != Line::Not);
        receiver.line = Line::Not;
        let permits = Arc::clone(&receiver.permits);
        self.origins.insert(name.origin.clone(), of_origin + 1);
        Some((name, permits))
    }

    /// Notes whether a receiver answered.
    fn heard(&mut self, name: &Arc<Name>, answered: bool) {
        if !answered {
            self.answering.remove(name);
        } else if !self.answering.contains(name) {
            if self.answering.len() >= ANSWERING_MAX {
                self.answering.clear();
            }
            self.answering.insert(Arc::clone(name));
        }
    }

    /// A call has ended.
    fn leave(&mut self, name: &Name) {
        if let Some(receiver) = self.receivers.get_mut(name) {
            receiver.calls = receiver.calls.saturating_sub(1);
            if receiver.calls == 0 && receiver.line == Line::Not {
                self.receivers.remove(name);
            }
        }
        let left = self.calls_of(&name.origin).saturating_sub(1);
        if left == 0 {
            self.origins.remove(&name.origin);
        } else {
            self.origins.insert(name.origin.clone(), left);
        }
        self.let_go(&name.origin, left);
    }

    /// Lets as many receivers try again that found no room at their host as there is now, those first that wait longest.
    fn let_go(&mut self, origin: &str, calls: usize) {
        if self.in_line == 0 {
            return;
        }
        if calls == 0 {
            // Nobody there is left who would let others go.
            let in_line = &mut self.in_line;
            self.receivers.retain(|name, receiver| {
                let there = name.origin == origin;
                *in_line -= usize::from(there && receiver.line != Line::Not);
                !there
            });
            return;
        }
        let room = self
            .limits
            .per_origin
            .saturating_sub(calls + self.kept(origin));
        let receivers = self.receivers.iter_mut();
        let there = receivers.filter(|(name, _)| name.origin == origin);
        let mut waiting: Vec<(u64, &mut Receiver)> = there
            .filter_map(|(_, receiver)| match receiver.line {
                Line::Waits(turn) => Some((turn, receiver)),
                Line::Not | Line::Called(_) => None,
            })
            .collect();
        waiting.sort_unstable_by_key(|(turn, _)| *turn);
        for (turn, receiver) in waiting.into_iter().take(room) {
            receiver.line = Line::Called(turn);
        }
    }
}

/// Scheme, host and port of a URL; all of it if it has none, since it is then called in vain.
fn origin(url: &str) -> String {
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
    use std::collections::VecDeque;

    use super::*;

    /// How many receivers wait for a place.
    fn waiting(under_way: &UnderWay) -> usize {
        let receivers = under_way.receivers.values();
        receivers.filter(|receiver| receiver.waits()).count()
    }

    fn settings() -> WebhookConfig {
        WebhookConfig {
            retry_intervals: Vec::new(),
            timeout: Duration::ZERO,
            max_concurrency: 8,
            per_receiver_concurrency: 3,
            proxy: None,
            allow_private_addresses: false,
        }
    }

    fn under_way() -> UnderWay {
        UnderWay::new(&settings())
    }

    /// Whether the receiver takes no second call beside one; that one has ended.
    fn is_full_with_one(under_way: &mut UnderWay, account: &str, url: &str) -> (Arc<Name>, bool) {
        let (name, _) = under_way.enter(account, url).unwrap();
        let full = under_way.is_full(&name, &under_way.receivers[&name]);
        under_way.leave(&name);
        (name, full)
    }

    #[test]
    fn who_gives_no_answer_has_one_call_at_a_time_until_it_does() {
        let mut under_way = under_way();
        let (name, full) = is_full_with_one(&mut under_way, "ann", "https://a.example/1");
        assert!(full);
        under_way.heard(&name, true);
        assert!(!is_full_with_one(&mut under_way, "ann", "https://a.example/2").1);
        assert!(is_full_with_one(&mut under_way, "ann", "https://b.example/").1);
        assert!(is_full_with_one(&mut under_way, "bob", "https://a.example/").1);
        under_way.heard(&name, false);
        assert!(is_full_with_one(&mut under_way, "ann", "https://a.example/1").1);
        assert!(under_way.receivers.is_empty() && under_way.origins.is_empty());
    }

    #[test]
    fn a_host_has_a_part_of_all_places_however_many_accounts_call_it() {
        let mut under_way = under_way();
        let mut enter = |account: &str| {
            under_way
                .enter(account, "https://a.example/")
                .map(|it| it.0)
        };
        let names: Vec<_> = ["1", "2", "3", "4"]
            .into_iter()
            .filter_map(&mut enter)
            .collect();
        assert_eq!(names.len(), 4);
        assert!(enter("5").is_none());
        assert!(enter("6").is_none());
        let (fifth, receiver) = under_way
            .receivers
            .iter()
            .find(|(_, it)| it.calls == 0)
            .unwrap();
        assert!(
            under_way.is_full(fifth, receiver),
            "it is not asked for again"
        );
        assert!(under_way.enter("5", "https://b.example/").is_some());
        under_way.leave(&names[0]);
        assert_eq!(waiting(&under_way), 1, "one place, one that may have it");
        // The other is called off. When nobody is left, all may try again.
        for name in &names[1..] {
            under_way.leave(name);
        }
        assert_eq!((waiting(&under_way), under_way.in_line), (0, 0));
        let all = under_way.receivers.keys();
        assert_eq!(
            all.map(|name| &name.origin[..]).collect::<Vec<_>>(),
            ["https://b.example"]
        );
    }

    #[test]
    fn who_waits_and_finds_a_place_by_another_url_is_in_line_no_more() {
        let mut under_way = under_way();
        let accounts = ["1", "2", "3", "4", "5", "6"];
        let enter = |account: &&str| under_way.enter(account, "https://a.example/");
        let names: Vec<_> = accounts.iter().filter_map(enter).map(|it| it.0).collect();
        assert_eq!((names.len(), under_way.in_line), (4, 2));
        under_way.leave(&names[0]);
        // It is 5's turn, which has nothing any more.
        under_way.keep_no_places();
        assert_eq!(waiting(&under_way), 1);
        let (name, _) = under_way.enter("6", "https://a.example/other").unwrap();
        assert_eq!((waiting(&under_way), under_way.in_line), (0, 0));
        for name in names[1..].iter().chain([&name]) {
            under_way.leave(name);
        }
        assert!(under_way.receivers.is_empty() && under_way.origins.is_empty());
    }

    #[test]
    fn who_waits_longest_for_a_place_at_a_host_has_it_next() {
        let settings = WebhookConfig {
            max_concurrency: 4,
            per_receiver_concurrency: 1,
            ..settings()
        };
        let mut under_way = UnderWay::new(&settings);
        let accounts = ["1", "2", "3", "4"];
        let mut made = [0; 4];
        let mut running: VecDeque<Arc<Name>> = VecDeque::new();
        for _ in 0..400 {
            // All have calls that are due, and are asked in the same order each time.
            for (account, made) in accounts.into_iter().zip(&mut made) {
                let full = under_way.receivers.iter();
                let mut full = full.filter(|(name, it)| under_way.is_full(name, it));
                if full.any(|(name, _)| name.account == account) {
                    continue;
                }
                if let Some((name, _)) = under_way.enter(account, "https://a.example/") {
                    *made += 1;
                    running.push_back(name);
                }
            }
            under_way.keep_no_places();
            under_way.leave(&running.pop_front().unwrap());
        }
        assert!(
            made.iter().all(|made| (90..=110).contains(made)),
            "{made:?}"
        );
        for name in running {
            under_way.leave(&name);
        }
        assert_eq!((waiting(&under_way), under_way.in_line), (0, 0));
        assert!(under_way.receivers.is_empty());
    }
}
