//! Results about TLS in the model.

use std::collections::BTreeMap;

use super::{NoteTls, TLS_ROWS_MAX, TlsResults};
use crate::subject::{ModelPart, ModelState};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    results: BTreeMap<(u32, String), TlsResults>,
}

impl ModelPart for Model {}

impl Model {
    pub(super) fn one(&self, day: u32, domain: &str) -> Option<TlsResults> {
        self.results.get(&(day, domain.to_owned())).cloned()
    }

    pub(crate) fn forget_day(&mut self, day: u32, domain: &str) {
        self.results.remove(&(day, domain.to_owned()));
    }

    fn add(&mut self, results: TlsResults) -> bool {
        let of_day = self.results.iter().filter(|(key, _)| key.0 == results.day);
        let rows: usize = of_day.map(|(_, results)| results.counts.len()).sum();
        let key = (results.day, results.domain.clone());
        let mut known = self
            .one(results.day, &results.domain)
            .unwrap_or(TlsResults {
                counts: Vec::new(),
                ..results.clone()
            });
        known.add(results.counts, TLS_ROWS_MAX.saturating_sub(rows as u64));
        let is_kept = !known.counts.is_empty();
        if is_kept {
            self.results.insert(key, known);
        }
        is_kept
    }
}

impl NoteTls {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        for note in self.notes {
            let report = note.report();
            if model.tls_results.add(note.results) {
                model.reports.make_due(report);
            }
        }
    }
}
