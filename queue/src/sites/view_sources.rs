//! What the sources of ours at a site look like to those who ask.

use std::net::IpAddr;

use postrider_store::{Moment, Time};

use super::Now;
use crate::{
    Queue,
    schedule::{AtSource, Bar, Known, LimitedBy},
    source::{Source, Via},
};

/// The state of a source of ours at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It may send.
    Active,
    /// Its rate, or its warm-up for the day, is used up.
    Limited,
    /// The site blocks it.
    Blocked,
    /// No name leads back to its IPv6 address, so it is not used.
    Nameless,
    /// No connection can be begun at its address.
    Off,
}

impl SourceState {
    /// The name in APIs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Limited => "limited",
            Self::Blocked => "blocked",
            Self::Nameless => "nameless",
            Self::Off => "off",
        }
    }
}

/// Where connections to a site come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteSource {
    /// The name in the configuration, or the address; empty: the system chooses the address.
    pub name: String,
    /// The address or the proxy of ours; empty: the system chooses the address, or the source is
    /// not in the configuration any more.
    pub address: String,
    /// Our name in EHLO; empty: the source is not in the configuration any more.
    pub ehlo: String,
    /// The state.
    pub state: SourceState,
    /// When the state ends by itself; None: it depends on what happens.
    pub until: Option<Time>,
    /// The reason for the state.
    pub reason: Option<String>,
    /// What limits it.
    pub limited_by: Option<LimitedBy>,
    /// The rates of its messages that hold, as `100/minute`.
    pub rate: Vec<String>,
    /// The messages of the day in UTC, and the most there may be. None: there is no warm-up.
    pub warm_up: Option<(u32, u32)>,
}

impl Queue {
    /// The sources at a site: those that connections came from, and those of which something was
    /// learnt.
    pub(super) fn sources_of(&self, known: &Known, now: Now) -> Vec<SiteSource> {
        let mut all: Vec<SiteSource> = Vec::new();
        for source in &known.sources {
            all.push(self.source_view(source, known.at_sources.get(&source.name), now));
        }
        for (name, at) in &known.at_sources {
            if all.iter().any(|view| view.name == *name) {
                continue;
            }
            let view = match Source::named(&self.statics, name) {
                Some(source) => self.source_view(&source, Some(at), now),
                None => SiteSource {
                    name: name.clone(),
                    ..of(String::new(), String::new())
                }
                .at(at, now),
            };
            all.push(view);
        }
        all
    }

    fn source_view(&self, source: &Source, at: Option<&AtSource>, now: Now) -> SiteSource {
        let view = SiteSource {
            name: source.name.clone(),
            ..of(source.via.shown(), source.ehlo.ascii().to_owned())
        };
        let Via::Ip(ip) = source.via else {
            return at.map_or_else(|| view.clone(), |at| view.clone().at(at, now));
        };
        let view = match at {
            Some(at) => view.at(at, now),
            None => view,
        };
        self.by_address(view, source, ip, now)
    }

    /// What its address says of a source comes first.
    fn by_address(&self, view: SiteSource, source: &Source, ip: IpAddr, now: Now) -> SiteSource {
        if let Some(reason) = source.name_fault(&self.names) {
            return SiteSource {
                state: SourceState::Nameless,
                until: None,
                reason: Some(reason),
                limited_by: None,
                ..view
            };
        }
        match self.off.off_until(ip, now.moment) {
            Some(until) => SiteSource {
                state: SourceState::Off,
                until: Some(now.time_of(until)),
                reason: Some("no connection can be begun at the address".to_owned()),
                limited_by: None,
                ..view
            },
            None => view,
        }
    }
}

fn of(address: String, ehlo: String) -> SiteSource {
    SiteSource {
        name: String::new(),
        address,
        ehlo,
        state: SourceState::Active,
        until: None,
        reason: None,
        limited_by: None,
        rate: Vec::new(),
        warm_up: None,
    }
}

impl SiteSource {
    /// The same source, with what is known of it at the site.
    fn at(mut self, at: &AtSource, now: Now) -> Self {
        self.rate = at.rates().map(|rate| rate.to_string()).collect();
        self.warm_up = at.day(now);
        if let Some(barred) = at.bar(true, now) {
            let time = |moment: Moment| now.time_of(moment);
            self.state = match barred.bar {
                Bar::Blocked => SourceState::Blocked,
                Bar::WarmUp | Bar::Rate | Bar::ConnectRate => SourceState::Limited,
            };
            self.until = Some(time(barred.until));
            self.reason = Some(barred.status.to_string());
            self.limited_by = (barred.bar != Bar::Blocked).then(|| barred.bar.limit());
        }
        self
    }
}
