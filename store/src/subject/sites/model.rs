//! Sites in the model.

use std::collections::BTreeMap;

use super::{
    ForgetSite, LEARNT_KEPT, LEARNT_MAX, NoteSites, SITE_ORDERS_MAX, SetOrder, SiteNote, SiteOrder,
};
use crate::{
    Time,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) learnt: BTreeMap<String, SiteNote>,
    pub(crate) orders: BTreeMap<String, SiteOrder>,
}

impl Model {
    /// The sites by the time when they were noted.
    fn noted(&self) -> Vec<(Time, String)> {
        let learnt = self.learnt.values();
        let mut noted: Vec<_> = learnt.map(|note| (note.noted, note.site.clone())).collect();
        noted.sort();
        noted
    }
}

impl ModelPart for Model {
    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let end = now.before(LEARNT_KEPT);
        let old = self.noted().into_iter().filter(|(noted, _)| *noted <= end);
        let old: Vec<_> = old
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect();
        for (_, site) in &old {
            self.learnt.remove(site);
        }
        old.len() as u64
    }
}

impl NoteSites {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let model = &mut model.sites;
        for site in self.forget {
            model.learnt.remove(&site);
        }
        for note in self.learnt {
            model.learnt.remove(&note.site);
            if model.learnt.len() as u64 >= LEARNT_MAX
                && let Some((_, first)) = model.noted().into_iter().next()
            {
                model.learnt.remove(&first);
            }
            model.learnt.insert(note.site.clone(), note);
        }
    }
}

impl SetOrder {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let orders = &mut model.sites.orders;
        let target = &self.order.target;
        if self.order.is_empty() {
            orders.remove(target);
            return true;
        }
        if !orders.contains_key(target) && orders.len() as u64 >= SITE_ORDERS_MAX {
            return false;
        }
        orders.insert(target.clone(), self.order);
        true
    }
}

impl ForgetSite {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.sites.learnt.remove(&self.site).is_some()
    }
}
