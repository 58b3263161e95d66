//! The pace of a site: what is known of it, and what may be done there now.
//!
//! The loop, the workers of the site and those who ask share it. The lock is held for a moment,
//! never over a wait. The rules are in `window`, `bucket` and `state`; here they come together.

mod by_source;
mod known;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_config::ReplyRule;
use postrider_smtp::{Cause, DeliveryStatus, bounce::Class, client::Again};
use postrider_store::Moment;
use tracing::warn;

pub use known::LimitedBy;
pub(crate) use known::{Known, LastError, LearntOfSite, Of};

use super::{
    BATCH,
    bucket::{Bucket, Buckets, Tokens},
    limits::{LimitInForce, SiteLimits},
    observation::Observation,
    senders::{Senders, Told},
    state::{Halt, Halts, SiteState},
    tally::Counts,
    window::{Window, rest_for},
};
use crate::{
    next_hop::{Plan, Site, Way},
    source::Source,
};
use known::{SLOW, SPAM_MIN};

/// How long a site is remembered at which nothing goes on.
const IDLE_FOR: Duration = Duration::from_secs(10 * 60);
/// How much of a reply that led to a halt is kept, in characters.
const REASON_MAX: usize = 500;
/// How many addresses of a site are remembered, for those who ask.
const ADDRESSES_MAX: usize = 20;
/// How many domains of a site are remembered, for those who ask.
const DOMAINS_MAX: usize = 20;

/// The pace of a site.
#[derive(Debug)]
pub(crate) struct Pace {
    site: Site,
    known: Mutex<Known>,
}

/// What may be done at a site now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Brief {
    /// The most connections. 0: none, while the site is halted or paused.
    pub(crate) connections: usize,
    /// No message may be sent before, since a rate is used up.
    pub(crate) tokens_at: Option<Moment>,
    /// No connection may be made before.
    pub(crate) connect_at: Option<Moment>,
    /// The site answered lately, and fast.
    pub(crate) good: bool,
    /// The site is known to fail, or to be slow. No such thing is known of a site that was never
    /// tried.
    pub(crate) poor: bool,
    /// The next connection is a probe.
    pub(crate) probed: bool,
}

/// Why messages wait that are not attempted.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    /// Until when.
    pub(crate) until: Moment,
    /// A message whose time is over fails meanwhile.
    pub(crate) failing: bool,
    pub(crate) status: DeliveryStatus,
}

impl Pace {
    pub(crate) fn new(site: Site, limits: SiteLimits, now: Moment) -> Self {
        let known = Known::new(limits, now);
        Self {
            site,
            known: Mutex::new(known),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of all that is known, for those who ask.
    pub(crate) fn copy(&self) -> Known {
        self.known().clone()
    }

    pub(crate) const fn site(&self) -> &Site {
        &self.site
    }

    /// Messages of a domain come to the site by this plan, with these limits. `by_source`: they may
    /// come from several sources of ours, and the rates hold for each.
    pub(crate) fn planned(
        &self,
        plan: &Plan,
        domain: &str,
        (limits, by_source): (SiteLimits, bool),
        now: Moment,
    ) {
        let by_source = by_source && matches!(plan.way, Way::Direct(_));
        let mut known = self.known();
        known.used = now;
        known.end_orders(now);
        let changes = known.by_source != by_source;
        known.by_source = by_source;
        known.set_limits(limits);
        if changes {
            known.set_rates();
        }
        if known.provider != plan.provider.name {
            known.provider.clone_from(&plan.provider.name);
        }
        known.tls = plan.tls_in_words();
        if known.hops != plan.hops {
            known.hops = Arc::clone(&plan.hops);
            known.addresses.clear();
        }
        if known.domains.len() < DOMAINS_MAX && !known.domains.iter().any(|it| it == domain) {
            known.domains.push(domain.to_owned());
        }
    }

    /// The limits of the plans of the site are these from now on.
    pub(crate) fn set_limits(&self, limits: SiteLimits) {
        self.known().set_limits(limits);
    }

    /// An address of a host is tried, from this source.
    pub(crate) fn tried(&self, host: &str, address: SocketAddr, source: &Source) {
        let mut known = self.known();
        known.came_from(source);
        let addresses = &mut known.addresses;
        let known = addresses.iter().any(|(_, known)| *known == address);
        if !known && addresses.len() < ADDRESSES_MAX {
            addresses.push((host.to_owned(), address));
        }
    }

    /// Whether messages of a domain came to the site, or an order for it holds here. It knows only
    /// some domains.
    pub(crate) fn has_domain(&self, domain: &str) -> bool {
        let known = self.known();
        let mut targets = known.orders.iter().map(|order| &order.target);
        targets.any(|target| target == domain) || known.domains.iter().any(|it| it == domain)
    }

    /// Sets what an administrator wants for a target, which is the site or a domain of it. None
    /// takes it back.
    pub(crate) fn order(&self, target: &str, order: Option<LimitInForce>) {
        let mut known = self.known();
        if order.as_ref() == known.orders.iter().find(|it| it.target == target) {
            return;
        }
        known.orders.retain(|known| known.target != target);
        known.orders.extend(order);
        known.set_rates();
    }

    /// Pauses the site, or lets it go on (None).
    pub(crate) fn pause(&self, paused: Option<Option<Moment>>) {
        self.known().paused = paused;
    }

    /// Whether an administrator has paused the site.
    pub(crate) fn is_paused(&self, now: Moment) -> bool {
        self.known().is_paused(now)
    }

    /// Until when an administrator has paused the site. None within: until that is taken back.
    pub(crate) fn paused(&self, now: Moment) -> Option<Option<Moment>> {
        self.known().pause(now)
    }

    /// The sites and domains whose limits are in force here.
    pub(crate) fn limited_by(&self) -> Vec<String> {
        let known = self.known();
        let orders = known.orders.iter();
        orders.map(|order| order.target.clone()).collect()
    }

    /// What may be done at the site now.
    pub(crate) fn brief(&self, now: Moment) -> Brief {
        let mut known = self.known();
        known.end_orders(now);
        let probed = known.halts.is_probed();
        Brief {
            connections: known.connections(now),
            tokens_at: known.tokens_at(now),
            connect_at: Some(known.connects.next()).filter(|at| now < *at),
            good: known.is_good(now),
            poor: probed || known.is_slow(now),
            probed,
        }
    }

    /// Whether more workers may work at the site than do.
    pub(crate) fn has_room(&self, now: Moment) -> bool {
        let known = self.known();
        known.working < known.connections(now)
    }

    /// Why nothing is to be tried at the site, if that is so. A pause is not meant.
    pub(crate) fn halt(&self, now: Moment) -> Option<Wait> {
        let known = self.known();
        known.halts.now(now).map(|halt| Wait {
            until: halt.until,
            failing: halt.failing,
            status: halt.status.clone(),
        })
    }

    /// How many messages a worker may take at once.
    pub(crate) fn batch(&self, now: Moment) -> usize {
        let known = self.known();
        match known.halts.is_probed() {
            true => 1,
            false => known
                .most_of_a_source(now)
                .map_or(BATCH, |most| most.clamp(1, BATCH)),
        }
    }

    /// Takes tokens for messages: as many as there are, and `count` at most.
    pub(crate) fn take_tokens(&self, count: usize, now: Moment) -> Tokens {
        self.known().messages.take(count, now)
    }

    /// Whether messages have a rate of an hour or a day.
    pub(crate) fn has_long_rates(&self) -> bool {
        self.known().messages.iter().any(|bucket| bucket.is_long())
    }

    /// Puts back tokens of messages that were not attempted.
    pub(crate) fn put_back_tokens(&self, unused: Tokens, now: Moment) {
        self.known().messages.put_back(unused, now);
    }

    /// Takes the token for a connection from a source.
    ///
    /// # Errors
    /// There is none before this moment.
    pub(crate) fn take_connect(&self, from: &Source, now: Moment) -> Result<Tokens, Moment> {
        let mut known = self.known();
        match known.at(from) {
            Some(at) => at.take_connect(now),
            None => known.connects.take_one(now),
        }
    }

    /// Whether connections have a rate of an hour or a day.
    pub(crate) fn has_long_connect_rates(&self) -> bool {
        let rate = self.known().limits.connect_rate;
        rate.is_some_and(|rate| Bucket::new(rate, Moment::default()).is_long())
    }

    /// Puts back the token of a connection from a source that was not begun.
    pub(crate) fn put_back_connect(&self, from: &Source, unused: Tokens, now: Moment) {
        let mut known = self.known();
        match known.at(from) {
            Some(at) => at.put_back_connect(unused, now),
            None => known.connects.put_back(unused, now),
        }
    }

    /// A connection is being made.
    pub(crate) fn open(self: &Arc<Self>) -> Opened {
        self.known().open += 1;
        Opened {
            pace: Arc::clone(self),
            ready: false,
        }
    }

    /// So many messages are attempted, by one worker.
    pub(crate) fn work(self: &Arc<Self>, messages: usize) -> Working {
        let mut known = self.known();
        known.working += 1;
        known.in_flight += messages;
        Working {
            pace: Arc::clone(self),
            messages,
        }
    }

    /// The site took so many messages from a source, in a batch of transactions of this time. True:
    /// that tells something that is to be kept.
    pub(crate) fn succeeded(
        &self,
        (messages, transactions): (usize, usize),
        took: Duration,
        from: Option<&Source>,
        now: Moment,
    ) -> bool {
        let mut known = self.known();
        known.window.took(transactions, took, now);
        if messages == 0 {
            return false;
        }
        let (working, max) = (known.working, known.max(now));
        known.window.succeeded(messages, working, max, now);
        known.taken = Some(now);
        known.used = now;
        let began = Moment(now.0.saturating_sub(took));
        known.answered_to(&self.site, from, true, (began, now))
    }

    /// What the opening of a connection from a source showed. `rule` is that of the provider for
    /// the reply.
    pub(crate) fn observe(
        &self,
        status: &DeliveryStatus,
        rule: Option<&ReplyRule>,
        from: Option<&Source>,
        now: Moment,
    ) {
        let seen = Observation::of(status, rule);
        self.note(seen, status, rule.is_some(), from, (now, now));
    }

    /// What the result of a message showed, in a batch that began and ended then. Gives false if
    /// the connection failed: the results of the other messages on it show the same.
    pub(crate) fn observe_result(
        &self,
        status: &DeliveryStatus,
        (rule, again): (Option<&ReplyRule>, Again),
        from: Option<&Source>,
        (began, now): (Moment, Moment),
    ) -> bool {
        let seen = Observation::of_transaction(status, rule, again);
        self.note(seen, status, rule.is_some(), from, (began, now));
        seen.0 != Some(Observation::Failed)
    }

    /// What the result of a message of this sender showed of its domain, in a batch that began and
    /// ended then. The log is told when something begins that is to be looked into.
    pub(crate) fn observe_sender(
        &self,
        domain: &str,
        status: &DeliveryStatus,
        rule: Option<&ReplyRule>,
        (began, now): (Moment, Moment),
    ) {
        let known = &mut *self.known();
        if status.is_success() {
            known.spam = 0;
            return known.senders.taken(domain, began);
        }
        if status.cause != Cause::Reply {
            return;
        }
        let (_, class) = Observation::of(status, rule);
        let site = &self.site;
        if class == Class::Spam {
            known.spam = known.spam.saturating_add(1);
            if known.spam == SPAM_MIN {
                warn!(%site, in_a_row = SPAM_MIN, %status, "a site takes our mail for spam");
            }
        }
        match known.senders.refused(domain, (class, rule), status, now) {
            Some(Told::Waits) => {
                warn!(%site, domain, %status, "mail from a domain waits at a site");
            }
            Some(Told::Unauthenticated) => {
                warn!(%site, domain, %status, "mail from a domain fails authentication at a site");
            }
            None => {}
        }
    }

    /// Whether mail of any sender's domain waits.
    pub(crate) fn any_sender_waits(&self, now: Moment) -> bool {
        self.known().senders.any_waits(now)
    }

    /// Why mail of a sender's domain waits. None: it does not.
    pub(crate) fn sender_waits(&self, domain: &str, now: Moment) -> Option<Wait> {
        self.known().senders.wait(domain, now)
    }

    /// A rule of the provider says that the site is to be left in peace after a reply of this
    /// class. A block is that of its source.
    pub(crate) fn rest_as_told(
        &self,
        status: &DeliveryStatus,
        (class, rest): (Class, Duration),
        from: &Source,
        now: Moment,
    ) {
        let state = match class {
            Class::Blocked => SiteState::Blocked,
            _ => SiteState::Resting,
        };
        if self.block_source(from, state, (status, rest), now) {
            return;
        }
        let mut known = self.known();
        known
            .halts
            .rest_as_told(&self.site, state, rest, status, now);
    }

    /// The one place where a result of a connection or a transaction changes the pace.
    /// `by_rule`: a rule of the provider gives the class.
    fn note(
        &self,
        (seen, class): (Option<Observation>, Class),
        status: &DeliveryStatus,
        by_rule: bool,
        from: Option<&Source>,
        (began, now): (Moment, Moment),
    ) {
        let Some(seen) = seen else {
            return;
        };
        let mut known = self.known();
        let (open, max) = (known.open, known.max(now));
        known.used = now;
        known.error = Some(Box::new(LastError {
            at: now,
            status: status.clone(),
            class,
        }));
        if let (Observation::Blocked { permanent }, Some(source)) = (seen, from)
            && let Some(at) = known.at(source)
        {
            let name = format_args!("{} from {}", self.site, source.name);
            return at.told_blocked(&name, (permanent, by_rule), status, now);
        }
        if seen == Observation::Answered {
            known.answered_to(&self.site, from, false, (began, now));
        }
        let Known { window, halts, .. } = &mut *known;
        match seen {
            Observation::Answered => window.answered(),
            Observation::TooMany => window.too_many(open, now),
            Observation::Busy => {
                // A probe that finds the site busy is not followed by the next one at once.
                let probed = halts.is_probed().then_some(rest_for(0));
                if let Some(rest) = window.busy(max, now).or(probed) {
                    halts.rest(&self.site, rest, status, now);
                }
            }
            Observation::Failed => {
                if window.failed(max, now) {
                    halts.dead(&self.site, status, now);
                }
            }
            Observation::Blocked { permanent } => {
                halts.told_blocked(&self.site, (permanent, by_rule), status, now);
            }
            Observation::LoginRefused => halts.login_refused(&self.site, status, now),
        }
    }

    /// All addresses of the site failed. While a connection takes mail, it is not dead.
    pub(crate) fn unreachable(&self, status: &DeliveryStatus, now: Moment) {
        let mut known = self.known();
        if known.ready == 0 {
            known.halts.dead(&self.site, status, now);
        }
    }

    /// Nothing is to be tried at the site until then, and that is no failure.
    pub(crate) fn wait(&self, status: &DeliveryStatus, time: Duration, now: Moment) {
        let mut known = self.known();
        if known.ready == 0 {
            known.halts.wait(&self.site, time, status, now);
        }
    }

    /// The site gets a probe at once if nothing is tried there. `even_blocked`: also if it has
    /// blocked us. Gives whether that changes anything.
    pub(crate) fn ask_for_probe(&self, even_blocked: bool, now: Moment) -> bool {
        let halts = &mut self.known().halts;
        halts.ask_for_probe(&self.site, even_blocked, now)
    }

    /// Forgets what was learnt of the site.
    pub(crate) fn forget(&self) {
        let mut known = self.known();
        known.window = Window::default();
        known.halts = Halts::default();
        known.at_sources.clear();
        known.held = None;
        (known.success, known.slow, known.error) = (None, None, None);
        (known.senders, known.spam) = (Senders::default(), 0);
        known.mean = Duration::ZERO;
        known.messages = Buckets::of_messages();
        known.connects = Buckets::of_connections();
        known.set_rates();
    }

    /// The site answered for so many messages, in this time with the making of the connection.
    /// Returns true if the loop is to know: the site did not answer lately, is good from now on, or
    /// takes more connections.
    pub(crate) fn answered(&self, messages: usize, took: Duration, now: Moment) -> bool {
        let mut known = self.known();
        let connections = known.connections(now);
        let grown = connections > known.told_connections;
        known.told_connections = connections;
        let (answered, was_good) = (known.answered(now), known.is_good(now));
        let messages = u32::try_from(messages).unwrap_or(u32::MAX).max(1);
        let took = took / messages;
        known.mean = match known.success {
            Some(_) => (known.mean * 3 + took) / 4,
            None => took,
        };
        known.success = Some(now);
        known.slow = (known.mean >= SLOW).then_some(now);
        grown || !answered || (!was_good && known.is_good(now))
    }

    /// There was a connection for this time, and no answer for any message.
    pub(crate) fn unanswered(&self, took: Duration, now: Moment) {
        if took >= SLOW {
            self.known().slow = Some(now);
        }
    }

    /// Attempts ended so.
    pub(crate) fn count(&self, counts: Counts, now: Moment) {
        if !counts.is_empty() {
            self.known().tally.add(counts, now);
        }
    }

    /// Something goes on, or is known that is of use and that no store has.
    pub(crate) fn is_of_use(&self, now: Moment) -> bool {
        let known = self.known();
        known.open > 0
            || known.working > 0
            || known.paused.is_some()
            || !known.orders.is_empty()
            || known.answered(now)
            || known.is_slow(now)
            || now.since(known.used) < IDLE_FOR
            || known.halts.now(now).is_some()
            || known.senders.any_waits(now)
            || known.at_sources.values().any(|at| at.block(now).is_some())
    }

    /// What a restart must not forget. None: nothing.
    pub(crate) fn learnt(&self, now: Moment) -> Option<LearntOfSite> {
        let known = self.known();
        let (deaths, blocks) = known.halts.counts();
        let halt = known.halts.last();
        let halt = halt.filter(|halt| now < halt.until || known.halts.is_probed());
        let mut halt = halt.cloned();
        if let Some(Halt { status, .. }) = &mut halt
            && status.text.len() > REASON_MAX
        {
            status.text = status.text.chars().take(REASON_MAX).collect();
        }
        let learnt = LearntOfSite {
            halt,
            deaths,
            blocks,
            cap: known.learnt(now),
            buckets: known.long_buckets(now).collect(),
            sources: known.learnt_of_sources(now),
        };
        (learnt != LearntOfSite::default()).then_some(learnt)
    }

    /// Sets what was learnt before a restart.
    pub(crate) fn restore(&self, learnt: LearntOfSite) {
        let mut known = self.known();
        known
            .halts
            .restore(learnt.halt, learnt.deaths, learnt.blocks);
        known.window.restore(learnt.cap);
        known.restore_sources(learnt.sources);
        for (of, bucket) in learnt.buckets {
            match of {
                Of::Messages => known.messages.restore(bucket),
                Of::Connects => known.connects.restore(bucket),
            }
        }
    }
}

/// A connection to a site. It ends with the value.
#[derive(Debug)]
pub(crate) struct Opened {
    pace: Arc<Pace>,
    ready: bool,
}

impl Opened {
    /// The connection takes mail.
    pub(crate) fn ready(&mut self) {
        self.pace.known().ready += usize::from(!self.ready);
        self.ready = true;
    }

    /// Whether the site has more connections than it may have. If so, this one does not count any
    /// more, and is to end.
    pub(crate) fn is_too_many(&mut self, now: Moment) -> bool {
        let mut known = self.pace.known();
        let counts = self.ready;
        let over = counts && known.ready > known.connections(now).max(1);
        if over {
            known.ready -= 1;
            drop(known);
            self.ready = false;
        }
        over
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut known = self.pace.known();
        known.open = known.open.saturating_sub(1);
        known.ready = known.ready.saturating_sub(usize::from(self.ready));
    }
}

/// Messages that are attempted. It ends with the value.
#[derive(Debug)]
pub(crate) struct Working {
    pace: Arc<Pace>,
    messages: usize,
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut known = self.pace.known();
        known.working = known.working.saturating_sub(1);
        known.in_flight = known.in_flight.saturating_sub(self.messages);
    }
}
