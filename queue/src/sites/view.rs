//! What a site looks like to those who ask.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use postrider_smtp::EnhancedCode;
use postrider_store::{Moment, SiteOrder, Time};

use super::{Now, SiteSource, Sites};
use crate::{
    Queue,
    deliver::Peer,
    schedule::{Counts, LastError, LimitedBy, Pace, SiteState},
};

/// How much of the text of a reply is shown, in characters.
const TEXT_MAX: usize = 1000;

/// A site, as it is at this moment.
#[derive(Clone, Debug)]
pub struct SiteView {
    /// The name of the site.
    pub site: String,
    /// The entry of the provider; empty: nothing was planned since the start.
    pub provider: String,
    /// What sets the TLS of connections, in words; empty: nothing was planned since the start.
    pub tls: &'static str,
    /// Where connections came from lately, and sources of ours of which something is known there.
    pub sources: Vec<SiteSource>,
    /// The domains whose messages go there: some of them, if there are many.
    pub domains: Vec<String>,
    /// The state.
    pub state: SiteState,
    /// When the state ends by itself; None: it depends on what happens.
    pub until: Option<Time>,
    /// The reason for the state. For a site that takes mail: what administrators should look into.
    pub reason: Option<String>,
    /// All limits that hold back messages, the most important first.
    pub limited_by: Vec<LimitedBy>,
    /// The messages of attempts that go on.
    pub in_flight: usize,
    /// The connections, also those that are being made.
    pub open: usize,
    /// How many connections there may be now.
    pub connections: usize,
    /// The window, of which that is the whole part within the cap.
    pub window: f64,
    /// The most connections, by configuration, orders and what the site told.
    pub cap: usize,
    /// The rates of messages that hold, as `100/minute`.
    pub rate: Vec<String>,
    /// The results of the last hour.
    pub hour: Counts,
    /// When the site last took a message.
    pub last_success: Option<Time>,
    /// The last failure.
    pub last_error: Option<SiteError>,
    /// The hosts of the last plan, by preference.
    pub hosts: Vec<SiteHost>,
    /// What administrators want for the site, for the domains that it shows, and for those whose
    /// limits are in force here.
    pub orders: Vec<SiteOrder>,
}

/// A failure at a site.
#[derive(Clone, Debug)]
pub struct SiteError {
    /// When it was.
    pub time: Time,
    /// The name of the host; empty: it is not known.
    pub host: String,
    /// The address of the host.
    pub ip: Option<IpAddr>,
    /// The stage of the session; empty: it is not known.
    pub stage: String,
    /// The reply code; 0: there was no reply.
    pub code: u16,
    /// The enhanced code.
    pub enhanced: Option<EnhancedCode>,
    /// The text of the reply, or ours.
    pub text: String,
    /// The name of the class of the reason.
    pub class: &'static str,
}

/// A host of a site.
#[derive(Clone, Debug)]
pub struct SiteHost {
    /// Its name.
    pub name: String,
    /// Its preference.
    pub preference: u16,
    /// The addresses that were tried.
    pub addresses: Vec<SiteAddress>,
}

/// An address of a host.
#[derive(Clone, Copy, Debug)]
pub struct SiteAddress {
    /// The address.
    pub ip: IpAddr,
    /// Other addresses go first until then, since connections to this one failed.
    pub until: Option<Time>,
}

impl SiteError {
    fn of(error: &LastError, now: Now) -> Self {
        let LastError { at, status, class } = error;
        let (host, ip) = status.host();
        Self {
            time: now.time_of(*at),
            host: host.unwrap_or_default().to_owned(),
            ip,
            stage: status.command.as_deref().unwrap_or_default().to_owned(),
            code: status.code,
            enhanced: status.enhanced,
            text: status.text.chars().take(TEXT_MAX).collect(),
            class: class.name(),
        }
    }
}

impl Queue {
    /// The sites that are known, by name: all, or those with this name and those with messages of
    /// this domain.
    #[must_use]
    pub fn site_views(&self, target: Option<&str>) -> Vec<SiteView> {
        let now = self.now();
        let mut paces = match target {
            Some(target) => self.paces_of(target),
            None => self.sites.all(),
        };
        paces.sort_unstable_by(|a, b| a.site().cmp(b.site()));
        paces
            .iter()
            .map(|pace| self.site_view(pace, target, now))
            .collect()
    }

    /// One site. `target`: its name, or the domain that was asked for.
    fn site_view(&self, pace: &Pace, target: Option<&str>, now: Now) -> SiteView {
        let mut known = pace.copy();
        let (state, mut limited_by) = known.state(now.moment);
        let site = pace.site().to_string();
        let asked = target.filter(|target| *target != site);
        if let Some(domain) = asked.filter(|it| !known.domains.iter().any(|known| known == it)) {
            known.domains.push(domain.to_owned());
        }
        let limits = known.orders.iter().map(|order| &order.target);
        let targets = known.domains.iter().chain(limits).chain([&site]);
        let orders = self.sites.orders_of(targets);
        let (until, reason) = match state {
            SiteState::Paused => {
                let own = orders.iter().find(|order| order.target == site);
                let pause = own.and_then(|order| order.pause.as_ref());
                (
                    pause.and_then(|pause| pause.until),
                    pause.map(|pause| pause.reason.clone()),
                )
            }
            SiteState::Resting | SiteState::Down | SiteState::Blocked => {
                let halt = known.halts.now(now.moment);
                let halt = halt.or_else(|| known.all_blocked(now.moment));
                let halt = halt.or_else(|| known.halts.last());
                (
                    halt.map(|halt| now.time_of(halt.until)),
                    halt.map(|halt| halt.status.to_string()),
                )
            }
            SiteState::Active | SiteState::Limited => {
                let held = known.held(now.moment);
                let until = held.map(|held| now.time_of(held.until));
                let reason = held.map(|held| held.status.to_string());
                (until, reason.or_else(|| known.alerts(now.moment)))
            }
        };
        let open = matches!(state, SiteState::Active | SiteState::Limited);
        let mut peers = known.addresses.iter().map(|(_, peer)| (*peer).into());
        let is_closed = |peer: Peer| self.addresses.is_closed(&peer, now.moment);
        if open && !known.addresses.is_empty() && peers.all(is_closed) {
            limited_by.push(LimitedBy::Address);
        }
        if open && self.used_up.load(Ordering::Relaxed) {
            limited_by.push(LimitedBy::Concurrency);
        }
        let hosts = known.hops.iter().map(|hop| SiteHost {
            name: hop.name.clone(),
            preference: hop.preference,
            addresses: known
                .addresses
                .iter()
                .filter(|(host, _)| *host == hop.name)
                .map(|(_, peer)| SiteAddress {
                    ip: peer.ip(),
                    until: self
                        .addresses
                        .marked_until(&(*peer).into(), now.moment)
                        .map(|until| now.time_of(until)),
                })
                .collect(),
        });
        SiteView {
            provider: known.provider.clone(),
            tls: known.tls,
            sources: self.sources_of(&known, now),
            domains: known.domains.clone(),
            state,
            until,
            reason,
            limited_by,
            in_flight: known.in_flight,
            open: known.open,
            connections: known.connections(now.moment),
            window: known.window.size(),
            cap: known.window.cap(known.max(now.moment), now.moment),
            rate: known.rates().map(|rate| rate.to_string()).collect(),
            hour: known.tally.hour(now.moment),
            last_success: known.taken.map(|at: Moment| now.time_of(at)),
            last_error: known.error.as_ref().map(|it| SiteError::of(it, now)),
            hosts: hosts.collect(),
            orders,
            site,
        }
    }

    /// All orders of administrators for sites and domains, by target.
    #[must_use]
    pub fn site_orders(&self) -> Vec<SiteOrder> {
        self.sites.all_orders()
    }
}

impl Sites {
    /// All that are known.
    pub(super) fn all(&self) -> Vec<Arc<Pace>> {
        self.state().paces.values().map(Arc::clone).collect()
    }

    fn orders_of<'t>(&self, targets: impl Iterator<Item = &'t String>) -> Vec<SiteOrder> {
        let state = self.state();
        let targets: BTreeSet<&String> = targets.collect();
        let orders = targets.into_iter().filter_map(|it| state.orders.get(it));
        orders.cloned().collect()
    }

    fn all_orders(&self) -> Vec<SiteOrder> {
        self.state().orders.values().cloned().collect()
    }
}
