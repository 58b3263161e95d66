//! When sites may go on that wait for a token or for the end of a halt. There is no I/O here.

use std::collections::{BTreeSet, HashMap};

use postrider_store::Moment;

use crate::next_hop::Site;

/// The sites that wait for a moment. Each has one.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    order: BTreeSet<(Moment, Site)>,
    of: HashMap<Site, Moment>,
}

impl Wakes {
    /// A site may go on at this moment, and not before.
    pub(crate) fn set(&mut self, site: &Site, at: Moment) {
        if let Some(old) = self.of.insert(site.clone(), at) {
            self.order.remove(&(old, site.clone()));
        }
        self.order.insert((at, site.clone()));
    }

    /// A site waits for no moment.
    pub(crate) fn remove(&mut self, site: &Site) {
        if let Some(old) = self.of.remove(site) {
            self.order.remove(&(old, site.clone()));
        }
    }

    /// The next moment.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the sites that may go on now.
    pub(crate) fn take(&mut self, now: Moment) -> Vec<Site> {
        let mut sites = Vec::new();
        while let Some((at, site)) = self.order.first()
            && *at <= now
        {
            let site = site.clone();
            self.remove(&site);
            sites.push(site);
        }
        sites
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_site_has_one_moment_and_goes_on_then() {
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let mut wakes = Wakes::default();
        let [a, b] = ["a", "b"].map(Site::from);
        wakes.set(&a, at(5));
        wakes.set(&b, at(3));
        wakes.set(&a, at(9));
        assert_eq!(wakes.next(), Some(at(3)));
        assert_eq!(wakes.take(at(8)), std::slice::from_ref(&b));
        assert_eq!(wakes.take(at(9)), std::slice::from_ref(&a));
        wakes.set(&b, at(1));
        wakes.remove(&b);
        assert_eq!((wakes.next(), wakes.take(at(99))), (None, vec![]));
    }
}
