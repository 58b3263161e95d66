//! The sites that are known, and what administrators want for them.
//!
//! | file | its job |
//! |---|---|
//! | here | the paces of sites by name, the orders of administrators |
//! | `view`, `view_sources` | what a site looks like to those who ask |
//! | `keep` | what a restart must not forget, to the store and back |
//! | `kept` | what the store has of sites, and of addresses |
//!
//! The loop, the workers and those who ask share one [`Sites`]. Its lock is held for a moment,
//! never over a wait. It comes before the lock of a [`Pace`].

mod keep;
mod kept;
#[cfg(test)]
mod tests;
mod view;
mod view_sources;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use postrider_config::{QueueConfig, Rate};
use postrider_store::{Moment, SiteLimit, SiteOrder, SitePause, Store, StoreError, Time};
use tokio::sync::{Notify, watch};
use tracing::debug;

use kept::Kept;
pub use view::{SiteAddress, SiteError, SiteHost, SiteView};
pub use view_sources::{SiteSource, SourceState};
pub use waiting::SiteWaiting;

use crate::{
    Queue,
    next_hop::{Plan, Site},
    schedule::{LimitInForce, Pace, SiteLimits},
};

/// How long an earlier pause is remembered: longer than any message waits.
const PAUSES_KEPT: Duration = Duration::from_secs(14 * 86400);
/// How many earlier pauses of a target are remembered.
const PAUSES_MAX: usize = 32;

/// The time by both clocks, and the way from one to the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) time: Time,
    pub(crate) moment: Moment,
}

impl Now {
    /// The moment of a time. A time before the first moment is the first moment.
    pub(crate) fn moment_of(self, time: Time) -> Moment {
        match time > self.time {
            true => self.moment.after(time.since(self.time)),
            false => Moment(self.moment.0.saturating_sub(self.time.since(time))),
        }
    }

    pub(crate) fn time_of(self, moment: Moment) -> Time {
        match moment > self.moment {
            true => self.time.after(moment.since(self.moment)),
            false => self.time.before(self.moment.since(moment)),
        }
    }
}

/// The sites that are known.
#[derive(Debug)]
pub(crate) struct Sites {
    /// The limits of a site of which no plan is known.
    usual: SiteLimits,
    /// Mail may come from several sources, and the rates of providers hold for each.
    by_source: bool,
    state: Mutex<State>,
    /// There are orders.
    ordered: AtomicBool,
    /// The orders of the store are known.
    restored: AtomicBool,
    /// Orders changed, or somebody wants an attempt: the loop is to look.
    changed: watch::Sender<()>,
    /// Something was learnt that is to be kept.
    learnt: Notify,
}

#[derive(Debug)]
struct State {
    paces: HashMap<Site, Arc<Pace>>,
    /// What the store has of sites. They may have left `paces`.
    kept: Kept,
    orders: BTreeMap<String, SiteOrder>,
}

impl Sites {
    pub(crate) fn new(config: &QueueConfig, by_source: bool) -> Self {
        Self {
            usual: SiteLimits::usual(config),
            by_source,
            state: Mutex::new(State {
                paces: HashMap::new(),
                kept: Kept::default(),
                orders: BTreeMap::new(),
            }),
            ordered: AtomicBool::new(false),
            restored: AtomicBool::new(false),
            changed: watch::Sender::new(()),
            learnt: Notify::new(),
        }
    }

    /// Mail may come from several sources, and the rates of providers hold for each.
    pub(crate) const fn by_source(&self) -> bool {
        self.by_source
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pace of a site. A site that was not known is known from now on, with what the store has
    /// of it.
    pub(crate) fn pace(&self, site: &Site, now: Now) -> Arc<Pace> {
        let mut state = self.state();
        if let Some(pace) = state.paces.get(site) {
            return Arc::clone(pace);
        }
        let pace = Arc::new(Pace::new(site.clone(), self.usual.clone(), now.moment));
        if let Some(learnt) = state.kept.get(site) {
            pace.restore(learnt.clone());
        }
        if let Some(order) = state.orders.get(&site.to_string()) {
            apply(&pace, order, now, true);
        }
        state.paces.insert(site.clone(), Arc::clone(&pace));
        pace
    }

    /// Forgets the sites at which nothing goes on, and of which nothing is known that the store has
    /// not. `waits`: whether something waits at a site.
    pub(crate) fn sweep(&self, waits: impl Fn(&Site) -> bool, now: Moment) {
        let State { paces, kept, .. } = &mut *self.state();
        paces.retain(|site, pace| {
            Arc::strong_count(pace) > 1
                || pace.is_of_use(now)
                || waits(site)
                || pace.learnt(now).as_ref() != kept.get(site)
        });
    }

    /// Notes that messages of a domain go to a site by this plan.
    pub(crate) fn planned(&self, plan: &Plan, domain: &str, now: Now) -> Arc<Pace> {
        let pace = self.pace(&plan.site, now);
        let limits = (SiteLimits::of(plan), self.by_source);
        pace.planned(plan, domain, limits, now.moment);
        if self.ordered.load(Ordering::Relaxed)
            && let Some(order) = self.state().orders.get(domain)
        {
            apply(&pace, order, now, false);
        }
        pace
    }

    /// The limits of a site that is known are those of this plan from now on.
    pub(crate) fn set_limits(&self, plan: &Plan) {
        let pace = self.state().paces.get(&plan.site).map(Arc::clone);
        if let Some(pace) = pace {
            pace.set_limits(SiteLimits::of(plan));
        }
    }

    /// Whether a site and its limits are known.
    pub(crate) fn is_known(&self, site: &Site) -> bool {
        self.state().paces.contains_key(site)
    }

    /// Tells when orders change.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// A site gets a probe at once if it rests or is down. A block stays.
    pub(crate) fn ask_for_probe(&self, site: &Site, now: Moment) {
        let pace = self.state().paces.get(site).map(Arc::clone);
        if pace.is_some_and(|pace| pace.ask_for_probe(false, now)) {
            self.note_soon();
        }
    }

    /// Has the loop look at all sites and lanes.
    pub(crate) fn look_again(&self) {
        self.changed.send_replace(());
    }

    /// Whether administrators want anything for a site or a domain.
    pub(crate) fn has_orders(&self) -> bool {
        self.ordered.load(Ordering::Relaxed)
    }

    /// Whether a domain is paused by name.
    pub(crate) fn is_paused(&self, domain: &str, now: Time) -> bool {
        self.ordered.load(Ordering::Relaxed) && {
            let state = self.state();
            let pause = state.orders.get(domain).and_then(|it| it.pause.as_ref());
            pause.is_some_and(|pause| pause_lasts(pause, now))
        }
    }

    /// When the next pause or limit ends by itself.
    pub(crate) fn next_end(&self, now: Time) -> Option<Time> {
        if !self.ordered.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state();
        let orders = state.orders.values();
        let ends = orders.flat_map(|order| {
            let pause = order.pause.as_ref().and_then(|pause| pause.until);
            let limit = order.limit.as_ref().and_then(|limit| limit.until);
            [pause, limit]
        });
        ends.flatten().filter(|until| *until > now).min()
    }

    /// Has the orders for a site end by the wall clock as it is now.
    pub(crate) fn follow(&self, site: &Site, now: Now) {
        let state = self.state();
        if let Some(pace) = state.paces.get(site) {
            state.follow(pace, now);
        }
    }

    /// Has all orders end by the wall clock as it is now.
    pub(crate) fn follow_all(&self, now: Now) {
        let state = self.state();
        state
            .paces
            .values()
            .for_each(|pace| state.follow(pace, now));
    }

    /// When something of the orders is over: a pause, a limit, or the time for which an earlier
    /// pause is remembered. None: never.
    fn next_over(&self) -> Option<Time> {
        let state = self.state();
        let orders = state.orders.values();
        let ends = orders.flat_map(|order| {
            let pause = order.pause.as_ref().and_then(|pause| pause.until);
            let limit = order.limit.as_ref().and_then(|limit| limit.until);
            let earlier = order.paused.iter().map(|(_, end)| end.after(PAUSES_KEPT));
            earlier.chain(pause).chain(limit)
        });
        ends.min()
    }

    /// For how long a message that was first due then stood still, since its site or its domain was
    /// paused.
    pub(crate) fn stood_still(
        &self,
        site: Option<&Site>,
        domain: &str,
        first_due: Time,
        now: Time,
    ) -> Duration {
        if !self.ordered.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let site = site.map(Site::to_string);
        let targets: HashSet<&str> = site.as_deref().into_iter().chain([domain]).collect();
        let state = self.state();
        let orders = targets.into_iter().filter_map(|it| state.orders.get(it));
        let mut pauses: Vec<(Time, Time)> = Vec::new();
        for order in orders {
            pauses.extend(&order.paused);
            let current = order.pause.as_ref();
            pauses.extend(current.map(|it| (it.since, it.until.unwrap_or(now).min(now))));
        }
        drop(state);
        together(pauses, first_due, now)
    }
}

impl State {
    /// Applies the orders that hold for a site once more.
    fn follow(&self, pace: &Pace, now: Now) {
        if let Some(order) = self.orders.get(pace.site().as_str()) {
            apply(pace, order, now, true);
        }
        for target in pace.limited_by() {
            if let Some(order) = self.orders.get(&target) {
                apply(pace, order, now, target == pace.site().as_str());
            }
        }
    }
}

/// How much of the time from `from` to `to` lies in one of these spans or more.
fn together(mut spans: Vec<(Time, Time)>, from: Time, to: Time) -> Duration {
    spans.sort_unstable();
    let (mut sum, mut counted) = (Duration::ZERO, from);
    for (begin, end) in spans {
        let (begin, end) = (begin.max(counted), end.min(to));
        sum += end.since(begin);
        counted = counted.max(end);
    }
    sum
}

fn pause_lasts(pause: &SitePause, now: Time) -> bool {
    pause.until.is_none_or(|until| now < until)
}

/// Sets the limit of an order for a site, and its pause if the order is for the site itself.
fn apply(pace: &Pace, order: &SiteOrder, now: Now, whole: bool) {
    let limit = order.limit.as_ref();
    let limit = limit.filter(|limit| limit.until.is_none_or(|until| now.time < until));
    let limit = limit.map(|limit| LimitInForce {
        target: order.target.clone(),
        connections: limit
            .connections
            .map(|connections| usize::try_from(connections).unwrap_or(usize::MAX)),
        rate: limit
            .rate
            .as_deref()
            .and_then(|rate| Rate::parse(rate).ok()),
        until: limit.until.map(|until| now.moment_of(until)),
    });
    pace.order(&order.target, limit);
    if whole {
        let pause = order.pause.as_ref();
        pace.pause(pause.map(|pause| pause.until.map(|until| now.moment_of(until))));
    }
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SiteOrderError {
    /// There are too many.
    #[error("there are {max} orders for sites already", max = postrider_store::SITE_ORDERS_MAX)]
    TooMany,
    /// There is nothing to take back.
    #[error("nothing holds up deliveries to {0}")]
    NotThere(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Queue {
    /// The time by both clocks.
    pub(crate) fn now(&self) -> Now {
        Now {
            time: self.clock.now(),
            moment: self.clock.moment(),
        }
    }

    /// Pauses deliveries to a site or a domain, until a time or until they are resumed. Attempts
    /// that go on come to their end.
    ///
    /// # Errors
    /// If there are too many orders or the store fails.
    pub async fn pause_site(
        &self,
        store: &Store,
        target: &str,
        until: Option<Time>,
        reason: &str,
    ) -> Result<(), SiteOrderError> {
        let now = self.now();
        self.change_order(store, target, |order| {
            let since = match &order.pause {
                Some(pause) if pause_lasts(pause, now.time) => pause.since,
                _ => now.time,
            };
            end_pause(order, now.time, since);
            order.pause = Some(SitePause {
                since,
                until,
                reason: reason.to_owned(),
            });
        })
        .await
    }

    /// Lets deliveries to a site or a domain go on after a pause. If the site rests, is down or has
    /// blocked us, it gets one message at once as a probe.
    ///
    /// # Errors
    /// If nothing held up deliveries, or the store fails.
    pub async fn resume_site(&self, store: &Store, target: &str) -> Result<(), SiteOrderError> {
        let now = self.now();
        let paused = self.sites.has_pause(target);
        if paused {
            self.change_order(store, target, |order| end_pause(order, now.time, now.time))
                .await?;
        }
        let mut probed = false;
        for pace in self.paces_of(target) {
            if pace.ask_for_probe(true, now.moment) {
                debug!(site = %pace.site(), "an administrator asked for a probe of a site");
                probed = true;
            }
        }
        if probed {
            self.sites.note_soon();
            self.sites.look_again();
        }
        match paused || probed {
            true => Ok(()),
            false => Err(SiteOrderError::NotThere(target.to_owned())),
        }
    }

    /// Limits a site, or the sites of a domain. Without connections and rate the limit is taken
    /// back.
    ///
    /// # Errors
    /// If there are too many orders or the store fails.
    pub async fn limit_site(
        &self,
        store: &Store,
        target: &str,
        (connections, rate): (Option<u32>, Option<Rate>),
        until: Option<Time>,
        reason: &str,
    ) -> Result<(), SiteOrderError> {
        let now = self.now();
        let wanted = connections.is_some() || rate.is_some();
        self.change_order(store, target, |order| {
            order.limit = wanted.then(|| SiteLimit {
                since: now.time,
                until,
                connections,
                rate: rate.map(|rate| rate.to_string()),
                reason: reason.to_owned(),
            });
        })
        .await
    }

    /// Forgets what was learnt of a site, or of the sites of a domain. Gives the sites.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_site(
        &self,
        store: &Store,
        target: &str,
    ) -> Result<Vec<String>, StoreError> {
        let mut forgotten = Vec::new();
        for site in self.sites.with_kept(target, &self.sites_of_domain(target)) {
            self.sites.forget(&site);
            let site = site.to_string();
            store.forget_site(&site).await?;
            debug!(%site, "what was learnt of a site is forgotten");
            forgotten.push(site);
        }
        // Lanes that wait for the end of what is forgotten.
        self.lanes().try_all_now();
        self.sites.look_again();
        Ok(forgotten)
    }

    /// Changes the order for a target. It is durable before it is in force.
    async fn change_order(
        &self,
        store: &Store,
        target: &str,
        change: impl FnOnce(&mut SiteOrder),
    ) -> Result<(), SiteOrderError> {
        let _one_at_a_time = self.ordering.lock().await;
        let known = match self.sites.restored.load(Ordering::Relaxed) {
            true => self.sites.state().orders.get(target).cloned(),
            false => {
                let orders = store.site_orders().await?.into_iter();
                orders.into_iter().find(|order| order.target == target)
            }
        };
        let mut order = known.unwrap_or_else(|| SiteOrder {
            target: target.to_owned(),
            pause: None,
            limit: None,
            paused: Vec::new(),
        });
        change(&mut order);
        let now = self.now();
        tidy(&mut order, now.time);
        let over = order.paused.len().saturating_sub(PAUSES_MAX);
        order.paused.drain(..over);
        if !store.set_site_order(order.clone()).await? {
            return Err(SiteOrderError::TooMany);
        }
        debug!(?order, "an administrator changed what is wanted for a site");
        self.put_in_force(order, now);
        Ok(())
    }

    fn put_in_force(&self, order: SiteOrder, now: Now) {
        let sites = self.sites_of_domain(&order.target);
        self.sites.set_order(order, &sites, now);
    }

    /// The sites where messages for a domain go, by its lanes and its plans. A site itself knows
    /// only some of its domains.
    fn sites_of_domain(&self, domain: &str) -> HashSet<Site> {
        let mut sites = self.lanes().sites_of(domain);
        sites.extend(self.plans().sites_of(domain));
        sites
    }

    /// The sites with this name, and those where messages for this domain go.
    pub(crate) fn paces_of(&self, target: &str) -> Vec<Arc<Pace>> {
        self.sites.matching(target, &self.sites_of_domain(target))
    }
}

/// Takes from an order what is over.
fn tidy(order: &mut SiteOrder, now: Time) {
    if order.pause.as_ref().is_some_and(|it| !pause_lasts(it, now)) {
        end_pause(order, now, now);
    }
    let limit = order.limit.take();
    order.limit = limit.filter(|limit| limit.until.is_none_or(|until| now < until));
    order
        .paused
        .retain(|(_, end)| now.since(*end) < PAUSES_KEPT);
}

impl Queue {
    /// Takes from the orders what is over. An order that tells nothing more is removed, so that it
    /// takes no place.
    async fn tidy_orders(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.ordering.lock().await;
        let now = self.now();
        let orders: Vec<SiteOrder> = self.sites.state().orders.values().cloned().collect();
        for order in orders {
            let mut tidied = order.clone();
            tidy(&mut tidied, now.time);
            if tidied != order {
                self.store.set_site_order(tidied.clone()).await?;
                self.put_in_force(tidied, now);
            }
        }
        Ok(())
    }

    /// Waits until something of the orders is over.
    async fn orders_over(&self) {
        let mut changed = self.sites.changed();
        loop {
            changed.mark_unchanged();
            let next = self.sites.next_over();
            tokio::select! {
                () = self.until_time(next) => return,
                // The sender lives as long as this.
                _ = changed.changed() => {}
            }
        }
    }
}

/// Ends the pause of an order, if it has one. It is remembered if it began before `since`.
fn end_pause(order: &mut SiteOrder, now: Time, since: Time) {
    if let Some(pause) = order.pause.take() {
        let end = pause.until.unwrap_or(now).min(now);
        if pause.since < since {
            order.paused.push((pause.since, end));
        }
    }
}

impl Sites {
    fn has_pause(&self, target: &str) -> bool {
        let state = self.state();
        state
            .orders
            .get(target)
            .is_some_and(|it| it.pause.is_some())
    }

    /// The sites with this name, those that know of messages for this domain, and these others.
    fn matching(&self, target: &str, others: &HashSet<Site>) -> Vec<Arc<Pace>> {
        let state = self.state();
        let paces = state.paces.iter();
        let matching = paces.filter(|(site, pace)| {
            site.as_str() == target || others.contains(*site) || pace.has_domain(target)
        });
        matching.map(|(_, pace)| Arc::clone(pace)).collect()
    }

    /// The same sites, with those of which only the store knows something.
    fn with_kept(&self, target: &str, others: &HashSet<Site>) -> BTreeSet<Site> {
        let known = self.matching(target, others);
        let known = known.iter().map(|pace| pace.site().clone());
        let state = self.state();
        let named = Site::from(target);
        let named = others.iter().chain([&named]);
        let kept = named.filter(|site| state.kept.get(site).is_some());
        known.chain(kept.cloned()).collect()
    }

    /// Forgets what was learnt of a site.
    fn forget(&self, site: &Site) {
        let mut state = self.state();
        state.kept.forget(site);
        if let Some(pace) = state.paces.get(site) {
            pace.forget();
        }
    }

    /// Puts an order in force. `sites`: where messages for its domain go.
    fn set_order(&self, order: SiteOrder, sites: &HashSet<Site>, now: Now) {
        for pace in self.matching(&order.target, sites) {
            apply(&pace, &order, now, pace.site().as_str() == order.target);
        }
        let mut state = self.state();
        match order.is_empty() {
            true => state.orders.remove(&order.target),
            false => state.orders.insert(order.target.clone(), order),
        };
        self.ordered
            .store(!state.orders.is_empty(), Ordering::Relaxed);
        drop(state);
        self.look_again();
    }
}
