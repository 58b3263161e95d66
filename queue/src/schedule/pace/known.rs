//! What is known of a site.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use postrider_config::Rate;
use postrider_smtp::{DeliveryStatus, bounce::Class};
use postrider_store::Moment;

use super::super::{
    at_source::{AtSource, Barred, LearntOfSource, long_buckets},
    bucket::{Bucket, Buckets},
    limits::{LimitInForce, SiteLimits},
    senders::Senders,
    state::{Halt, Halts, SiteState},
    tally::Tally,
    window::{Learnt, Window},
};
use crate::{next_hop::Hop, source::Source};

/// How long a success counts.
const GOOD_FOR: Duration = Duration::from_secs(10 * 60);
/// The mean time of a message from which on a site is not good.
pub(super) const SLOW: Duration = Duration::from_secs(5);
/// How long it counts that a site was slow. Until then it is tried again, also if there are many.
const SLOW_FOR: Duration = Duration::from_secs(6 * 60 * 60);

/// So many messages in a row that are taken for spam are told of.
pub(super) const SPAM_MIN: usize = 10;
/// How many domains of senders are told of.
const ALERTS_MAX: usize = 5;

/// What is known of a site.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) limits: SiteLimits,
    pub(crate) orders: Vec<LimitInForce>,
    /// An administrator has paused the site. None within: until it is taken back.
    pub(crate) paused: Option<Option<Moment>>,
    pub(crate) window: Window,
    pub(crate) halts: Halts,
    pub(crate) messages: Buckets,
    pub(crate) connects: Buckets,
    /// The rates of the limits hold for each source of ours, and so does a block.
    pub(super) by_source: bool,
    /// The sources, by their names.
    pub(crate) at_sources: BTreeMap<String, AtSource>,
    /// Why messages wait that no source may send.
    pub(super) held: Option<Barred>,
    /// The connections, also those that are being made.
    pub(crate) open: usize,
    /// Those of them that take mail.
    pub(super) ready: usize,
    /// Those of them with messages at this moment.
    pub(super) working: usize,
    /// The messages of attempts that go on.
    pub(crate) in_flight: usize,
    /// The connections that the loop knows to be allowed.
    pub(super) told_connections: usize,
    pub(super) success: Option<Moment>,
    /// The mean time of a message, with its part of the connection.
    pub(super) mean: Duration,
    /// When the site last took long.
    pub(super) slow: Option<Moment>,
    /// What the site has against domains of senders.
    pub(crate) senders: Senders,
    /// How many messages in a row the site took for spam.
    pub(super) spam: usize,
    pub(crate) tally: Tally,
    pub(crate) taken: Option<Moment>,
    pub(crate) error: Option<Box<LastError>>,
    /// The hosts of the last plan.
    pub(crate) hops: Arc<[Hop]>,
    /// The addresses that were tried, with the names of their hosts.
    pub(crate) addresses: Vec<(String, SocketAddr)>,
    /// Where connections came from, each once.
    pub(crate) sources: Vec<Source>,
    /// The entry of the provider, and the TLS, of the last plan.
    pub(crate) provider: String,
    pub(crate) tls: &'static str,
    pub(crate) domains: Vec<String>,
    /// When something last went on.
    pub(super) used: Moment,
}

/// The last failure at a site.
#[derive(Clone, Debug)]
pub(crate) struct LastError {
    pub(crate) at: Moment,
    pub(crate) status: DeliveryStatus,
    pub(crate) class: Class,
}

/// What was learnt of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LearntOfSite {
    pub(crate) halt: Option<Halt>,
    pub(crate) deaths: usize,
    pub(crate) blocks: u32,
    pub(crate) cap: Option<Learnt>,
    /// The buckets of an hour and a day that are not full.
    pub(crate) buckets: Vec<(Of, Bucket)>,
    /// What was learnt of sources of ours there, by their names.
    pub(crate) sources: Vec<(String, LearntOfSource)>,
}

/// What a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Messages,
    Connects,
}

/// The limit that holds back messages of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedBy {
    /// All connections that the window allows are at work.
    Connections,
    /// The rate of messages is used up.
    Rate,
    /// The rate of new connections is used up.
    ConnectRate,
    /// The site is probed with one message at a time.
    Probe,
    /// The site blocks all sources that may send the messages.
    Blocked,
    /// All sources that may send the messages have sent what their warm-up allows for the day.
    WarmUp,
    /// All known addresses have as many connections as they may have, or failed lately.
    Address,
    /// All deliveries that there may be at once are under way.
    Concurrency,
}

impl LimitedBy {
    /// The name in APIs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Rate => "rate",
            Self::ConnectRate => "connect_rate",
            Self::Probe => "probe",
            Self::Blocked => "blocked",
            Self::WarmUp => "warm_up",
            Self::Address => "address",
            Self::Concurrency => "concurrency",
        }
    }
}

impl Known {
    pub(super) fn new(limits: SiteLimits, now: Moment) -> Self {
        let mut known = Self {
            limits,
            orders: Vec::new(),
            paused: None,
            window: Window::default(),
            halts: Halts::default(),
            messages: Buckets::of_messages(),
            connects: Buckets::of_connections(),
            by_source: false,
            at_sources: BTreeMap::new(),
            held: None,
            sources: Vec::new(),
            provider: String::new(),
            tls: "",
            open: 0,
            ready: 0,
            working: 0,
            in_flight: 0,
            told_connections: 0,
            success: None,
            mean: Duration::ZERO,
            slow: None,
            senders: Senders::default(),
            spam: 0,
            tally: Tally::default(),
            taken: None,
            error: None,
            hops: Arc::default(),
            addresses: Vec::new(),
            domains: Vec::new(),
            used: now,
        };
        known.set_rates();
        known
    }

    /// Ends the orders whose time is over.
    pub(super) fn end_orders(&mut self, now: Moment) {
        if self.orders.iter().any(|order| !order.lasts(now)) {
            self.orders.retain(|order| order.lasts(now));
            self.set_rates();
        }
    }

    pub(super) fn set_limits(&mut self, limits: SiteLimits) {
        if self.limits != limits {
            self.limits = limits;
            self.set_rates();
        }
    }

    pub(super) fn set_rates(&mut self) {
        let ordered = self.orders.iter().filter_map(|order| order.rate);
        let of_site = !self.by_source;
        let rate = self.limits.rate.filter(|_| of_site);
        let connect_rate = self.limits.connect_rate.filter(|_| of_site);
        self.messages.set(rate.into_iter().chain(ordered));
        self.connects.set(connect_rate.into_iter());
    }

    /// The most connections by configuration and orders.
    pub(crate) fn max(&self, now: Moment) -> usize {
        let ordered = self.orders.iter().filter(|order| order.lasts(now));
        let ordered = ordered.filter_map(|order| order.connections).min();
        ordered.unwrap_or(self.limits.connections).max(1)
    }

    /// The rates of messages that hold.
    pub(crate) fn rates(&self) -> impl Iterator<Item = Rate> {
        self.messages.iter().map(Bucket::rate)
    }

    /// Until when the site is paused. None within: until that is taken back.
    pub(super) fn pause(&self, now: Moment) -> Option<Option<Moment>> {
        self.paused
            .filter(|until| until.is_none_or(|until| now < until))
    }

    pub(super) fn is_paused(&self, now: Moment) -> bool {
        self.pause(now).is_some()
    }

    pub(crate) fn connections(&self, now: Moment) -> usize {
        if self.is_paused(now) || self.halts.now(now).is_some() {
            0
        } else if self.halts.is_probed() {
            1
        } else {
            self.window.connections(self.max(now), now)
        }
    }

    /// When a message may be sent, if there is none now: a rate of messages is used up, or there is
    /// no connection and none may be made.
    pub(super) fn tokens_at(&self, now: Moment) -> Option<Moment> {
        let connects = match self.ready {
            0 => self.connects.next(),
            _ => Moment::default(),
        };
        let at = self.messages.next().max(connects);
        (now < at).then_some(at)
    }

    /// The state, and all that limits the site, the most important first.
    pub(crate) fn state(&self, now: Moment) -> (SiteState, Vec<LimitedBy>) {
        if self.is_paused(now) {
            return (SiteState::Paused, Vec::new());
        }
        if let Some(halt) = self.halts.now(now) {
            return (halt.state, Vec::new());
        }
        if self.all_blocked(now).is_some() {
            return (SiteState::Blocked, Vec::new());
        }
        let mut limits = Vec::new();
        if self.halts.is_probed() {
            limits.push(LimitedBy::Probe);
        }
        limits.extend(self.held(now).map(|held| held.bar.limit()));
        if now < self.messages.next() && !limits.contains(&LimitedBy::Rate) {
            limits.push(LimitedBy::Rate);
        }
        if self.working >= self.connections(now) {
            limits.push(LimitedBy::Connections);
        }
        if now < self.connects.next() && !limits.contains(&LimitedBy::ConnectRate) {
            limits.push(LimitedBy::ConnectRate);
        }
        let state = match limits.first() {
            Some(LimitedBy::Probe) => self.halts.probed_as().unwrap_or(SiteState::Down),
            Some(_) => SiteState::Limited,
            None => SiteState::Active,
        };
        (state, limits)
    }

    /// What administrators should look into, though the site takes mail. None: nothing.
    pub(crate) fn alerts(&self, now: Moment) -> Option<String> {
        let mut alerts = self.senders.in_words(now);
        alerts.truncate(ALERTS_MAX);
        if self.spam >= SPAM_MIN {
            let spam = format!("it took the last {} messages for spam", self.spam);
            alerts.insert(0, spam);
        }
        (!alerts.is_empty()).then(|| alerts.join("; "))
    }

    pub(super) fn learnt(&self, now: Moment) -> Option<Learnt> {
        let learnt = self.window.learnt();
        learnt.filter(|_| self.window.cap(usize::MAX, now) < self.limits.connections)
    }

    pub(super) fn long_buckets(&self, now: Moment) -> impl Iterator<Item = (Of, Bucket)> {
        long_buckets(&self.messages, &self.connects, now)
    }

    pub(super) fn is_good(&self, now: Moment) -> bool {
        self.answered(now) && self.mean < SLOW
    }

    pub(super) fn is_slow(&self, now: Moment) -> bool {
        self.slow.is_some_and(|at| now.since(at) < SLOW_FOR)
    }

    pub(super) fn answered(&self, now: Moment) -> bool {
        self.success.is_some_and(|at| now.since(at) < GOOD_FOR)
    }
}
