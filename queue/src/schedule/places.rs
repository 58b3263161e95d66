//! Which site gets the next place among all deliveries: deficit round robin. There is no I/O here.
//!
//! A worker has its place for as long as it has work, and while other sites wait, for messages that
//! cost [`PLACE_COST`]. Then its site waits behind the others. If it used more, since its messages
//! are large, it lets one turn pass for each further [`PLACE_COST`].

use std::collections::{HashMap, HashSet, VecDeque};

use crate::next_hop::Site;

/// What the messages of a turn cost: 1 a recipient, and 1 for each 256 KiB of text.
pub(crate) const PLACE_COST: u64 = 100;
/// So many sites that do not wait are remembered with what they owe.
const OWING_MAX: usize = 10_000;

/// The sites that wait for a place, each once.
#[derive(Debug, Default)]
pub(crate) struct WaitingSites {
    order: VecDeque<Site>,
    known: HashSet<Site>,
    /// What sites used above their turns.
    debts: HashMap<Site, u64>,
    /// How many sites wait that have to let no turn pass.
    free: usize,
}

impl WaitingSites {
    /// Adds a site behind the others, if it does not wait already.
    pub(crate) fn push(&mut self, site: &Site) {
        if self.add(site) {
            self.order.push_back(site.clone());
        }
    }

    /// Adds a site before the others, if it does not wait already.
    pub(crate) fn push_front(&mut self, site: Site) {
        if self.add(&site) {
            self.order.push_front(site);
        }
    }

    fn add(&mut self, site: &Site) -> bool {
        let is_new = self.known.insert(site.clone());
        self.free += usize::from(is_new && !self.lets_pass(site));
        is_new
    }

    fn lets_pass(&self, site: &Site) -> bool {
        self.debts.get(site).is_some_and(|debt| *debt >= PLACE_COST)
    }

    /// A turn of a site has ended, which cost so much. If the site waits again, it is to be added
    /// after this. If it waits already, for a further place, it has not waited for a turn yet.
    pub(crate) fn charge(&mut self, site: &Site, used: u64) {
        let waits = self.known.contains(site);
        let more = match waits {
            true => used,
            false => used.saturating_sub(PLACE_COST),
        };
        if more == 0 {
            return;
        }
        let debt = self.debts.entry(site.clone()).or_default();
        let before = *debt;
        *debt = debt.saturating_add(more);
        let changed = waits && before < PLACE_COST && *debt >= PLACE_COST;
        self.free -= usize::from(changed);
        if self.debts.len() > self.known.len() + OWING_MAX {
            self.debts.retain(|site, _| self.known.contains(site));
        }
    }

    /// Takes the site whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Site> {
        if self.free == 0 {
            self.pass_rounds();
        }
        loop {
            let site = self.order.pop_front()?;
            let debt = self.debts.get_mut(&site);
            let Some(debt) = debt.filter(|debt| **debt >= PLACE_COST) else {
                self.known.remove(&site);
                self.free = self.free.saturating_sub(1);
                return Some(site);
            };
            *debt -= PLACE_COST;
            self.free += usize::from(*debt < PLACE_COST);
            self.order.push_back(site);
        }
    }

    /// If all have to let turns pass, all do, until one does not.
    fn pass_rounds(&mut self) {
        let debts = self.order.iter().filter_map(|site| self.debts.get(site));
        let rounds = debts
            .map(|debt| debt / PLACE_COST)
            .min()
            .unwrap_or_default();
        for site in &self.order {
            if let Some(debt) = self.debts.get_mut(site) {
                *debt = debt.saturating_sub(rounds.saturating_mul(PLACE_COST));
                self.free += usize::from(*debt < PLACE_COST);
            }
        }
    }

    /// While no site waits, there are places for all, and nobody owes anything.
    pub(crate) fn forgive_if_empty(&mut self) {
        if self.order.is_empty() {
            self.debts.clear();
        }
    }

    /// The site that came first.
    pub(crate) fn first(&self) -> Option<&Site> {
        self.order.front()
    }

    /// How many sites wait.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether other sites than this one wait.
    pub(crate) fn has_others(&self, site: &Site) -> bool {
        self.order.len() > usize::from(self.known.contains(site))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sites_have_their_turns_in_order_and_wait_once() {
        let mut waiting = WaitingSites::default();
        let [a, b, c] = ["a", "b", "c"].map(Site::from);
        for site in [&a, &b, &a] {
            waiting.push(site);
        }
        assert_eq!((waiting.len(), waiting.first()), (2, Some(&a)));
        assert!(waiting.has_others(&a) && waiting.has_others(&c));
        assert_eq!(waiting.pop(), Some(a.clone()));
        assert!(!waiting.has_others(&b) && waiting.has_others(&a));
        waiting.push_front(a.clone());
        assert_eq!(
            [waiting.pop(), waiting.pop(), waiting.pop()],
            [Some(a), Some(b), None]
        );
    }

    #[test]
    fn a_site_that_used_more_than_a_turn_lets_turns_pass() {
        let mut waiting = WaitingSites::default();
        let [large, small] = ["large", "small"].map(Site::from);
        waiting.charge(&large, PLACE_COST);
        waiting.push(&large);
        waiting.push(&small);
        assert_eq!(
            waiting.pop(),
            Some(large.clone()),
            "it used no more than its turn"
        );
        waiting.charge(&large, 3 * PLACE_COST);
        waiting.push(&large);
        for _ in 0..3 {
            assert_eq!(waiting.pop(), Some(small.clone()));
            waiting.push(&small);
        }
        assert_eq!(waiting.pop(), Some(large.clone()));
        // If nobody else waits, it has the turn at once.
        waiting.pop();
        waiting.charge(&large, 1000 * PLACE_COST);
        waiting.push(&large);
        assert_eq!(waiting.pop(), Some(large.clone()));
        // What it owes is forgotten when there are places for all.
        waiting.forgive_if_empty();
        waiting.push(&large);
        waiting.push(&small);
        assert_eq!(waiting.pop(), Some(large.clone()));
        // It waits for a second place before the other one comes. Then the first one is free again.
        waiting.forgive_if_empty();
        while waiting.pop().is_some() {}
        waiting.push(&large);
        waiting.push(&small);
        waiting.charge(&large, PLACE_COST);
        assert_eq!([waiting.pop(), waiting.pop()], [Some(small), Some(large)]);
    }

    proptest! {
        /// No site starves, whatever its turns cost. While all wait, none uses more than another
        /// beyond what a turn costs at most.
        #[test]
        fn no_site_starves(costs in prop::collection::vec(1..4000_u64, 2..12)) {
            let mut waiting = WaitingSites::default();
            let sites: Vec<Site> = (0..costs.len())
                .map(|at| Site::from(at.to_string().as_str()))
                .collect();
            for site in &sites {
                waiting.push(site);
            }
            let dearest = costs.iter().max().copied().unwrap_or_default();
            let mut used = vec![0_u64; costs.len()];
            for _ in 0..costs.len() * 400 {
                let site = waiting.pop().unwrap();
                let at = sites.iter().position(|it| *it == site).unwrap();
                // A turn that costs less than it might counts as a whole one.
                used[at] += costs[at].max(PLACE_COST);
                waiting.charge(&site, costs[at]);
                waiting.push(&site);
                prop_assert_eq!(waiting.len(), costs.len());
            }
            let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
            prop_assert!(most - least <= 2 * dearest.max(PLACE_COST), "{:?}", used);
        }
    }
}
