//! Sites: what the queue has learnt of the sites that it delivers to, and what administrators want
//! there for a time.
//!
//! A site, and the target of an order, is a name that the queue gives. What was learnt is kept for
//! a week after it was noted. Orders stay until they are removed.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
mod older;
#[cfg(test)]
mod tests;

use std::{ops::Bound, time::Duration};

use postrider_smtp::EnhancedCode;
use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records, values},
};

/// How long what was learnt of a site is kept.
pub const LEARNT_KEPT: Duration = Duration::from_secs(7 * 86400);
/// Of how many sites is kept what was learnt. When one more comes, the one that was noted first
/// goes.
pub const LEARNT_MAX: u64 = 100_000;
/// How many orders there are at most.
pub const SITE_ORDERS_MAX: u64 = 10_000;

/// Why nothing is tried at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HaltKind {
    /// It rests.
    Resting,
    /// It can't be reached.
    Down,
    /// It has blocked us.
    Blocked,
}

/// A time in which nothing is tried at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltNote {
    /// The kind.
    pub kind: HaltKind,
    /// Its end.
    pub until: Time,
    /// Messages whose time is over fail meanwhile.
    pub failing: bool,
    /// The reply code that led to it; 0: there was no reply.
    pub code: u16,
    /// The enhanced code.
    pub enhanced: Option<EnhancedCode>,
    /// The text of the reply, or ours.
    pub text: String,
    /// The host, as `name [ip]`; empty: it is not known.
    pub remote: String,
    /// The stage of the session, as the status of an attempt names it; empty: it is not known.
    pub stage: String,
}

/// The bucket of a rate of a site: what was used up of an hour's or a day's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketNote {
    /// The rate, as `100/hour`.
    pub rate: String,
    /// It counts connections. Else it counts messages.
    pub connections: bool,
    /// When the bucket is full again.
    pub full_at: Time,
}

/// The last day of a source of ours that other servers come to know, at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUpNote {
    /// The day, as the number of days since 1970-01-01 in UTC.
    pub day: u32,
    /// The messages that were sent on it.
    pub sent: u32,
    /// The site said on it that it blocks the source.
    pub blocked: bool,
    /// The days before it on which the number of messages did not grow.
    pub repeats: u32,
}

/// What was learnt of one source of ours at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceNote {
    /// The name of the source.
    pub source: String,
    /// The last time in which nothing is tried from it.
    pub halt: Option<HaltNote>,
    /// How often it was blocked since the site took a message from it.
    pub blocks: u32,
    /// The buckets of hours and days.
    pub buckets: Vec<BucketNote>,
    /// The last day of its warm-up.
    pub warm_up: Option<WarmUpNote>,
}

/// What was learnt of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteNote {
    /// The site.
    pub site: String,
    /// When this was noted.
    pub noted: Time,
    /// The last halt.
    pub halt: Option<HaltNote>,
    /// How often it was dead since it answered.
    pub deaths: u32,
    /// How often it blocked us since it took a message.
    pub blocks: u32,
    /// So many connections it takes, and until when that holds.
    pub cap: Option<(u32, Time)>,
    /// The buckets of hours and days.
    pub buckets: Vec<BucketNote>,
    /// What was learnt of each source of ours there.
    pub sources: Vec<SourceNote>,
}

/// A pause of deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePause {
    /// When it began.
    pub since: Time,
    /// Its end; None: until it is taken back.
    pub until: Option<Time>,
    /// Why, in the administrator's words.
    pub reason: String,
}

/// A limit that an administrator sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteLimit {
    /// When it began.
    pub since: Time,
    /// Its end; None: until it is taken back.
    pub until: Option<Time>,
    /// The most connections at once.
    pub connections: Option<u32>,
    /// The most messages in a time, as `100/hour`.
    pub rate: Option<String>,
    /// Why, in the administrator's words.
    pub reason: String,
}

/// What administrators want for a site or a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteOrder {
    /// The site or the domain.
    pub target: String,
    /// The pause.
    pub pause: Option<SitePause>,
    /// The limit.
    pub limit: Option<SiteLimit>,
    /// The beginnings and ends of earlier pauses. The time of messages stood still in them.
    pub paused: Vec<(Time, Time)>,
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    learnt: u64,
    orders: u64,
}

records! {
    SiteNote: version 2 [1 => older::SiteNoteV1],
    SiteOrder: version 1,
}

tables! {
    counters: Counters,
    /// By site.
    learnt: Table<Name, SiteNote> = Table::new("sites_learnt"),
    /// The sites by the time when they were noted.
    noted: Table<(Time, Name), ()> = Table::new("sites_noted"),
    /// By target.
    orders: Table<Name, SiteOrder> = Table::new("sites_orders"),
}

subject!(
    counters Counters, keys 1,
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.sites.forget_old(now, max)
    }
);

operations! {
    Sites, version 2 weighed by weigh older older::operation:
    NoteSites -> (), Reserve;
    SetOrder -> bool, Reserve;
    ForgetSite -> bool, Reserve;
}

/// Keeps what was learnt of sites, and forgets sites of which there is nothing to keep.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoteSites {
    learnt: Vec<SiteNote>,
    forget: Vec<String>,
}

/// Sets the order for its target. One that wants nothing and tells of no pause is removed. False:
/// there are too many orders.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetOrder {
    order: SiteOrder,
}

/// Forgets what was learnt of a site. False: nothing was.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetSite {
    site: String,
}

fn weigh(op: &Op) -> usize {
    match op {
        Op::NoteSites(note) => note.learnt.len() + note.forget.len(),
        Op::SetOrder(_) | Op::ForgetSite(_) => 1,
    }
}

impl SiteOrder {
    /// The order has nothing that is worth keeping.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pause.is_none() && self.limit.is_none() && self.paused.is_empty()
    }
}

impl Tables {
    /// Removes at most `max` sites that were noted too long ago.
    fn forget_old(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let end = now.before(LEARNT_KEPT);
        let to = (Time(end.0.saturating_add(1)), Name::from(""));
        let old: Result<Vec<_>, Fault> = self
            .noted
            .range(Bound::Unbounded, Bound::Excluded(&to))?
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect();
        let old = old?;
        for (noted, ()) in &old {
            self.forget(noted);
        }
        Ok(old.len() as u64)
    }

    fn forget(&mut self, noted: &(Time, Name)) {
        self.noted.remove(noted);
        self.learnt.remove(&noted.1);
        self.counters.learnt = self.counters.learnt.saturating_sub(1);
    }

    /// False: nothing was known of the site.
    fn forget_site(&mut self, site: &str) -> Result<bool, Fault> {
        let name = Name::from(site);
        let known = self.learnt.get(&name)?;
        if let Some(known) = &known {
            self.forget(&(known.noted, name));
        }
        Ok(known.is_some())
    }

    fn note(&mut self, note: SiteNote) -> Result<(), Fault> {
        self.forget_site(&note.site)?;
        if self.counters.learnt >= LEARNT_MAX {
            let mut all = self.noted.range(Bound::Unbounded, Bound::Unbounded)?;
            let first = all.next().transpose()?;
            drop(all);
            if let Some((first, ())) = first {
                self.forget(&first);
            }
        }
        let name = Name::from(note.site.as_str());
        self.noted.put((note.noted, Name::clone(&name)), ());
        self.learnt.put(name, note);
        self.counters.learnt += 1;
        Ok(())
    }
}

impl NoteSites {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        for site in self.forget {
            state.sites.forget_site(&site)?;
        }
        for note in self.learnt {
            state.sites.note(note)?;
        }
        Ok(())
    }
}

impl SetOrder {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let tables = &mut state.sites;
        let name = Name::from(self.order.target.as_str());
        let known = tables.orders.get(&name)?.is_some();
        if self.order.is_empty() {
            tables.orders.remove(&name);
            tables.counters.orders -= u64::from(known);
            return Ok(true);
        }
        if !known && tables.counters.orders >= SITE_ORDERS_MAX {
            return Ok(false);
        }
        tables.counters.orders += u64::from(!known);
        tables.orders.put(name, self.order);
        Ok(true)
    }
}

impl ForgetSite {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        state.sites.forget_site(&self.site)
    }
}

questions! {
    ask Learnt {} -> Vec<SiteNote>,
    |_this, state| Ok(values(state.sites.learnt.all()?)),
    |_this, model| model.sites.learnt.values().cloned().collect();

    ask Orders {} -> Vec<SiteOrder>,
    |_this, state| Ok(values(state.sites.orders.all()?)),
    |_this, model| model.sites.orders.values().cloned().collect();
}

impl Store {
    /// What was learnt of sites, by their names: [`LEARNT_MAX`] at most.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn learnt_of_sites(&self) -> Result<Vec<SiteNote>, StoreError> {
        self.ask(Learnt {}).await
    }

    /// Keeps what was learnt of sites, in place of what was kept of them before. Forgets the sites
    /// of `forget`.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn note_sites(
        &self,
        learnt: Vec<SiteNote>,
        forget: Vec<String>,
    ) -> Result<(), StoreError> {
        self.change_by(NoteSites { learnt, forget }).await
    }

    /// Forgets what was learnt of a site. False: nothing was.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn forget_site(&self, site: &str) -> Result<bool, StoreError> {
        let site = site.to_owned();
        self.change_by(ForgetSite { site }).await
    }

    /// What administrators want for sites and domains: [`SITE_ORDERS_MAX`] orders at most.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn site_orders(&self) -> Result<Vec<SiteOrder>, StoreError> {
        self.ask(Orders {}).await
    }

    /// Sets what administrators want for a site or a domain. An order that wants nothing and tells
    /// of no pause is removed. False: there are [`SITE_ORDERS_MAX`] orders already.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn set_site_order(&self, order: SiteOrder) -> Result<bool, StoreError> {
        self.change_by(SetOrder { order }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::NoteSites(NoteSites {
            learnt: vec![tests::note("mx.test", 1)],
            forget: vec!["mx2.test".into()],
        }),
        Op::SetOrder(SetOrder {
            order: tests::order("mx.test"),
        }),
        Op::ForgetSite(ForgetSite {
            site: "mx.test".into(),
        }),
    ]
}
