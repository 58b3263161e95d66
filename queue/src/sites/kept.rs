//! What the store has of sites and of addresses, as far as a site or an address that comes back
//! needs it.

use std::{collections::HashMap, net::SocketAddr};

use postrider_store::{LEARNT_KEPT, LEARNT_MAX, Time};

use super::Now;
use crate::{deliver::Mark, next_hop::Site, schedule::LearntOfSite};

/// What the store has.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// With the time when it was noted. After [`LEARNT_KEPT`] the store forgets it.
    sites: HashMap<Site, (LearntOfSite, Time)>,
    /// Each until it ends.
    pub(super) marks: HashMap<SocketAddr, Mark>,
}

impl Kept {
    pub(super) fn get(&self, site: &Site) -> Option<&LearntOfSite> {
        self.sites.get(site).map(|(learnt, _)| learnt)
    }

    /// The store has this of a site since that time.
    pub(super) fn put(&mut self, site: Site, learnt: LearntOfSite, noted: Time) {
        self.sites.insert(site, (learnt, noted));
    }

    pub(super) fn forget(&mut self, site: &Site) {
        self.sites.remove(site);
    }

    /// Forgets what the store does not keep any more: what is too old, and what was noted first if
    /// there is too much.
    pub(super) fn tidy(&mut self, now: Now) {
        self.sites
            .retain(|_, (_, noted)| now.time.since(*noted) < LEARNT_KEPT);
        self.marks.retain(|_, mark| now.moment < mark.until);
        let max = usize::try_from(LEARNT_MAX).unwrap_or(usize::MAX);
        let over = self.sites.len().saturating_sub(max);
        if over == 0 {
            return;
        }
        let mut noted: Vec<Time> = self.sites.values().map(|(_, noted)| *noted).collect();
        let (_, last, _) = noted.select_nth_unstable(over - 1);
        let last = *last;
        self.sites.retain(|_, (_, noted)| *noted > last);
    }
}
