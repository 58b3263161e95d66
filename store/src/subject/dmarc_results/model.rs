//! Results of DMARC in the model.

use std::collections::BTreeMap;

use super::{
    DMARC_DOMAIN_ROWS_MAX, DMARC_ROWS_MAX, DmarcCount, DmarcNote, DmarcPublished, DmarcResults,
    NoteDmarc,
};
use crate::subject::{ModelPart, ModelState};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    published: BTreeMap<(u32, String), DmarcPublished>,
    counts: BTreeMap<(u32, String, String), DmarcCount>,
}

impl ModelPart for Model {}

impl Model {
    pub(super) fn one(&self, day: u32, domain: &str) -> Option<DmarcResults> {
        let published = self.published.get(&(day, domain.to_owned()))?.clone();
        let of_domain = self
            .counts
            .iter()
            .filter(|(key, _)| key.0 == day && key.1 == domain);
        let counts = of_domain.map(|(_, count)| count.clone()).collect();
        Some(DmarcResults { published, counts })
    }

    pub(crate) fn forget_day(&mut self, day: u32, domain: &str) {
        self.published.remove(&(day, domain.to_owned()));
        self.counts.retain(|key, _| key.0 != day || key.1 != domain);
    }

    fn add(&mut self, note: DmarcNote) -> bool {
        let key = (note.day, note.domain.clone(), note.name);
        if let Some(known) = self.counts.get_mut(&key) {
            known.count = known.count.saturating_add(note.count.count);
        } else {
            let of_day = self.counts.keys().filter(|key| key.0 == note.day);
            let of_domain = of_day.clone().filter(|key| key.1 == note.domain);
            if of_day.count() as u64 >= DMARC_ROWS_MAX
                || of_domain.count() as u64 >= DMARC_DOMAIN_ROWS_MAX
            {
                return false;
            }
            self.counts.insert(key, note.count);
        }
        self.published
            .insert((note.day, note.domain), note.published);
        true
    }
}

impl NoteDmarc {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        for note in self.notes {
            let report = note.report();
            if model.dmarc_results.add(note) {
                model.reports.make_due(report);
            }
        }
    }
}
