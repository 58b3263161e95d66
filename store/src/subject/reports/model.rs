//! Due reports in the model.

use std::collections::BTreeMap;

use super::{DueReport, Finish, PutOff, RESTING_MAX, Rests, number};
use crate::{
    ReportKind, Time,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    reports: BTreeMap<(u8, u32, String), DueReport>,
    pub(super) resting: BTreeMap<String, Time>,
}

impl Model {
    pub(crate) fn make_due(&mut self, report: DueReport) {
        let key = (number(report.kind), report.day, report.domain.clone());
        self.reports.entry(key).or_insert(report);
    }

    pub(super) fn next_due(&self, max: usize) -> Vec<DueReport> {
        let mut reports: Vec<_> = self.reports.iter().collect();
        reports.sort_by_key(|(key, report)| (report.due, (*key).clone()));
        let reports = reports.into_iter().take(max);
        reports.map(|(_, report)| report.clone()).collect()
    }

    pub(super) fn listed(&self, after: Option<&DueReport>, max: usize) -> Vec<DueReport> {
        let after = after.map(|it| (number(it.kind), it.day, it.domain.clone()));
        let reports = self.reports.iter();
        let behind = reports.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
        behind.take(max).map(|(_, report)| report.clone()).collect()
    }

    pub(super) fn one(&self, kind: ReportKind, day: u32, domain: &str) -> Option<DueReport> {
        let key = (number(kind), day, domain.to_owned());
        self.reports.get(&key).cloned()
    }

    /// The addresses by the end of their rest.
    fn rest_ends(&self) -> Vec<(Time, String)> {
        let resting = self.resting.iter();
        let mut ends: Vec<_> = resting
            .map(|(address, until)| (*until, address.clone()))
            .collect();
        ends.sort();
        ends
    }
}

impl ModelPart for Model {
    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let over = self.rest_ends().into_iter().filter(|(end, _)| *end <= now);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let over: Vec<_> = over.take(max).collect();
        for (_, address) in &over {
            self.resting.remove(address);
        }
        over.len() as u64
    }
}

impl PutOff {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let report = self.0;
        let key = (number(report.kind), report.day, report.domain.clone());
        let found = model.reports.reports.get_mut(&key);
        found.map(|known| *known = report).is_some()
    }
}

impl Finish {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        match self.kind {
            ReportKind::Tls => model.tls_results.forget_day(self.day, &self.domain),
            ReportKind::Dmarc => model.dmarc_results.forget_day(self.day, &self.domain),
        }
        let key = (number(self.kind), self.day, self.domain);
        model.reports.reports.remove(&key).is_some()
    }
}

impl Rests {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let model = &mut model.reports;
        model.resting.remove(&self.address);
        if model.resting.len() as u64 >= RESTING_MAX
            && let Some((_, first)) = model.rest_ends().into_iter().next()
        {
            model.resting.remove(&first);
        }
        model.resting.insert(self.address, self.until);
    }
}
