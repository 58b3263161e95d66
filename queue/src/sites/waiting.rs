//! How much waits for each site.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use postrider_store::{Lane, Order, QueueFilter, StoreError, Time};

use super::SiteView;
use crate::{Queue, schedule::SiteState};

/// How many messages are counted. Sites that come later in the list count as empty then.
const COUNTED_MAX: u64 = 1_000_000;
/// How many held messages are looked at.
const HELD_MAX: usize = 10_000;
/// How many of them are read at once.
const PAGE: usize = 500;
/// How many lanes are read at once.
const LANES: usize = 1000;

/// The messages of a site that are in the queue and not in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteWaiting {
    /// Those that are due now, or later.
    pub waiting: u64,
    /// Those that are due now.
    pub due: u64,
    /// Those that an administrator or a rule holds.
    pub held: u64,
    /// Since when the first of those is due that are due now.
    pub oldest: Option<Time>,
}

impl Queue {
    /// How many of the known sites are in each state.
    #[must_use]
    pub fn site_states(&self) -> HashMap<SiteState, usize> {
        let now = self.now();
        let mut states = HashMap::new();
        for pace in self.sites.all() {
            *states.entry(pace.copy().state(now.moment).0).or_default() += 1;
        }
        states
    }

    /// How long beyond its time the message waits that waits longest, of those that nothing holds
    /// back: their site takes mail, or is not known yet. Without a fault of ours that is a moment.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn overdue(&self) -> Result<Duration, StoreError> {
        let now = self.now();
        let resting: HashSet<String> = {
            let paces = self.sites.all().into_iter();
            let resting = paces.filter(|pace| pace.copy().state(now.moment).0 != SiteState::Active);
            resting.map(|pace| pace.site().to_string()).collect()
        };
        let waits: HashSet<Lane> = {
            let lanes = self.lanes().with_sites().into_iter();
            let waits = lanes.filter(|(_, site)| {
                let site = site.as_ref();
                site.is_some_and(|site| resting.contains(site.as_str()))
            });
            waits.map(|(lane, _)| lane).collect()
        };
        let (mut after, mut first) = (None, None);
        loop {
            let lanes = self.store.lanes(after, LANES).await?;
            let could_go = lanes.iter().filter(|(lane, _)| !waits.contains(lane));
            first = could_go.map(|(_, due)| *due).chain(first).min();
            match lanes.into_iter().nth(LANES - 1) {
                Some((lane, _)) => after = Some(lane),
                None => break,
            }
        }
        let waited = first.map_or(0, |first| self.clock.now().0 - first.0);
        Ok(Duration::from_micros(u64::try_from(waited).unwrap_or(0)))
    }

    /// How much waits for each of these sites. Messages whose site is not known yet count for the
    /// site where their domain had its mail before.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn waiting_at(&self, views: &[SiteView]) -> Result<Vec<SiteWaiting>, StoreError> {
        let now = self.clock.now();
        let names = views.iter().enumerate();
        let names: HashMap<&str, usize> =
            names.map(|(at, view)| (view.site.as_str(), at)).collect();
        let mut domains: HashMap<&str, usize> = HashMap::new();
        for (at, view) in views.iter().enumerate() {
            domains.extend(view.domains.iter().map(|domain| (domain.as_str(), at)));
        }
        let mut lanes: Vec<Lane> = Vec::new();
        let mut places: Vec<usize> = Vec::new();
        let mut destinations: HashMap<String, usize> = HashMap::new();
        for (lane, site) in self.lanes().with_sites() {
            let site = site.and_then(|site| names.get(site.as_str()));
            let Some(at) = site.or_else(|| domains.get(lane.destination())) else {
                continue;
            };
            destinations.insert(lane.destination().to_owned(), *at);
            places.push(*at);
            lanes.push(lane);
        }
        let mut counts = vec![SiteWaiting::default(); views.len()];
        let found = self.store.count_lanes(lanes, now, COUNTED_MAX).await?;
        for (at, found) in places.into_iter().zip(found) {
            if let Some(count) = counts.get_mut(at) {
                count.waiting += found.waiting;
                count.due += found.due;
                let first = found.first.filter(|first| *first <= now);
                count.oldest = count.oldest.into_iter().chain(first).min();
            }
        }
        let (mut after, mut looked) = (None, 0);
        let filter = QueueFilter {
            hold: Some(true),
            ..QueueFilter::default()
        };
        while looked < HELD_MAX {
            let page = self
                .store
                .list(&filter, after, Order::Ascending, PAGE)
                .await?;
            looked += page.items.len();
            for message in &page.items {
                let destination = message.destination();
                let known = destinations.get(&destination);
                let at = known.or_else(|| domains.get(destination.as_str()));
                if let Some(count) = at.and_then(|at| counts.get_mut(*at)) {
                    count.held += 1;
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(counts)
    }
}
