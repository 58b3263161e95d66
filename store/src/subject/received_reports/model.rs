//! Reports that came in, in the model.

use std::collections::BTreeMap;

use super::{
    ArrivedReport, CountReceived, ListReceived, NewArrivedReport, NewReceivedReport, NewSums,
    OTHER_SOURCES, RECORD_SIZE, REPORT_SOURCES_MAX, REPORTERS_MAX, Read, ReceivedReport,
    ReceivedReportId, RemoveReport, ReportRoom, ReportSum, SUMS_SHARE, SumGroup, SumsBy,
    SumsFilter, TRIMMED_MAX, Trim,
    sums::{group_of_reporter, group_of_source, size},
    worth,
};
use crate::{
    Page, TextId, Time,
    filter::{ordered, page},
    subject::{ModelPart, ModelState, next},
};

/// The sums of a domain and a day.
#[derive(Clone, Debug)]
struct Day {
    keep_until: Time,
    sources: BTreeMap<(String, String), ReportSum>,
    reporters: BTreeMap<String, ReportSum>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    arrived: BTreeMap<ReceivedReportId, ArrivedReport>,
    pub(super) reports: BTreeMap<ReceivedReportId, ReceivedReport>,
    names: BTreeMap<ReceivedReportId, String>,
    /// When the time of a report is over, also of one that went before.
    ends: BTreeMap<ReceivedReportId, Time>,
    days: BTreeMap<(String, u64), Day>,
    /// The texts of reports whose time is over, to be dropped.
    pub(crate) over: Vec<TextId>,
}

impl ModelPart for Model {
    fn uses(&self, text: TextId) -> bool {
        self.arrived.values().any(|it| it.text == text)
            || self.reports.values().any(|it| it.text == text)
    }

    fn history(&self) -> Vec<(Time, u64)> {
        let ends = self.ends.iter();
        ends.map(|(id, time)| (*time, id.0)).collect()
    }

    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn forget(&mut self, number: u64) {
        let id = ReceivedReportId(number);
        self.names.remove(&id);
        self.ends.remove(&id);
        let over = self.reports.remove(&id).map(|report| report.text);
        self.over.extend(over);
    }

    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let mut removed = 0;
        while removed < max {
            match self.first_end() {
                Some((end, key)) if end <= now => removed += self.forget_sums(&key, max - removed),
                _ => break,
            }
        }
        removed
    }
}

impl Model {
    pub(crate) fn await_reading(&mut self, new: NewArrivedReport, text: TextId) {
        let id = ReceivedReportId(next(&mut self.last));
        self.arrived.insert(id, new.record(id, text));
    }

    pub(super) fn next_arrived(
        &self,
        after: Option<ReceivedReportId>,
        max: usize,
    ) -> Vec<ArrivedReport> {
        let behind = self.arrived.values().filter(|it| Some(it.id) > after);
        behind.take(max).cloned().collect()
    }

    pub(super) fn count(&self, asked: &CountReceived) -> u64 {
        let reports = self.reports.values().map(|report| &report.about);
        let of_kind = reports.filter(|about| about.kind == asked.kind);
        let counted = of_kind.filter(|about| !asked.readable || about.was_read());
        counted.count() as u64
    }

    pub(super) fn list(&self, asked: &ListReceived) -> Page<ReceivedReport, ReceivedReportId> {
        let order = asked.order;
        let items = self.reports.values().filter(|report| {
            let after = asked.after;
            after.is_none_or(|after| order.follows(report.id, after))
                && asked.filter.matches(report)
        });
        page(ordered(items, order), asked.limit, |report| report.id)
    }

    pub(super) fn sums(&self, filter: &SumsFilter, by: SumsBy) -> BTreeMap<SumGroup, ReportSum> {
        let mut groups: BTreeMap<SumGroup, ReportSum> = BTreeMap::new();
        let days = self.days.iter();
        for ((_, number), day) in days.filter(|((domain, day), _)| filter.matches(domain, *day)) {
            if by == SumsBy::Reporter {
                for (reporter, sum) in &day.reporters {
                    groups
                        .entry(group_of_reporter(reporter))
                        .or_default()
                        .add(sum);
                }
                continue;
            }
            let number = u32::try_from(*number).unwrap_or(u32::MAX);
            for ((source, from), sum) in &day.sources {
                let group = group_of_source(by, number, source, from);
                groups.entry(group).or_default().add(sum);
            }
        }
        groups
    }

    fn add_sums(&mut self, new: NewSums) {
        let key = (new.domain, u64::from(new.day));
        let day = self.days.entry(key).or_insert_with(|| Day {
            keep_until: new.keep_until,
            sources: BTreeMap::new(),
            reporters: BTreeMap::new(),
        });
        let mut total = ReportSum::default();
        for row in new.rows {
            total.add(&row.sum);
            let name = (row.source, row.from);
            let other = (OTHER_SOURCES.to_owned(), String::new());
            let full = own(day.sources.keys().map(|(source, _)| source)) >= REPORT_SOURCES_MAX;
            let is_full = full && !day.sources.contains_key(&name);
            let name = match is_full || name.0 == OTHER_SOURCES {
                true => other,
                false => name,
            };
            day.sources.entry(name).or_default().add(&row.sum);
        }
        let full = own(day.reporters.keys()) >= REPORTERS_MAX;
        let reporter = match full && !day.reporters.contains_key(&new.reporter) {
            true => OTHER_SOURCES.to_owned(),
            false => new.reporter,
        };
        day.reporters.entry(reporter).or_default().add(&total);
    }

    fn first_end(&self) -> Option<(Time, (String, u64))> {
        let ends = self.days.iter();
        ends.map(|(key, day)| (day.keep_until, key.clone())).min()
    }

    fn forget_sums(&mut self, key: &(String, u64), max: u64) -> u64 {
        let Some(day) = self.days.get_mut(key) else {
            return 0;
        };
        let mut removed = 0;
        while removed < max
            && (day.sources.pop_first().is_some() || day.reporters.pop_first().is_some())
        {
            removed += 1;
        }
        if removed < max {
            self.days.remove(key);
            removed += 1;
        }
        removed
    }

    fn bytes(&self) -> u64 {
        let sizes = self.reports.values().map(|it| it.size + RECORD_SIZE);
        sizes.sum()
    }

    fn sum_bytes(&self) -> u64 {
        let days = self.days.iter();
        let sizes = days.flat_map(|((domain, _), day)| {
            let sources = day.sources.keys();
            let sources = sources.map(|(source, from)| size(domain, source, from));
            let reporters = day.reporters.keys();
            sources.chain(reporters.map(|reporter| size(domain, reporter, "")))
        });
        sizes.sum()
    }

    /// What all reports and sums count, in bytes.
    pub(crate) fn all_bytes(&self) -> u64 {
        self.bytes() + self.sum_bytes()
    }

    pub(super) fn are_over(&self, ReportRoom(room): ReportRoom) -> bool {
        self.sum_bytes() > room / SUMS_SHARE || self.all_bytes() > room
    }
}

/// How many of these names are not that of all others.
fn own<'a>(names: impl Iterator<Item = &'a String>) -> u64 {
    names.filter(|name| *name != OTHER_SOURCES).count() as u64
}

impl ModelState {
    fn keep_report(
        &mut self,
        arrived: ArrivedReport,
        new: NewReceivedReport,
        room: ReportRoom,
    ) -> bool {
        let (id, model) = (arrived.id, &mut self.received_reports);
        if let Some(name) = new.name {
            if model.names.values().any(|known| *known == name) {
                return false;
            }
            model.names.insert(id, name);
        }
        if let Some(sums) = new.sums {
            model.add_sums(sums);
        }
        model.ends.insert(id, new.keep_until);
        let report = ReceivedReport {
            id,
            text: arrived.text,
            size: arrived.size,
            received: arrived.received,
            keep_until: new.keep_until,
            about: new.about,
        };
        model.reports.insert(id, report);
        self.trim_reports(room, TRIMMED_MAX);
        true
    }

    fn trim_reports(&mut self, room: ReportRoom, max: u64) -> u64 {
        let mut removed = 0;
        while removed < max && self.received_reports.are_over(room) {
            let model = &mut self.received_reports;
            if model.sum_bytes() > room.0 / SUMS_SHARE
                && let Some((_, day)) = model.first_end()
            {
                removed += model.forget_sums(&day, max - removed);
                continue;
            }
            let reports = model.reports.values();
            let least = reports.min_by_key(|report| (worth(&report.about), report.id));
            let Some((id, text)) = least.map(|least| (least.id, least.text)) else {
                break;
            };
            model.reports.remove(&id);
            model.names.remove(&id);
            model.ends.remove(&id);
            self.drop_unused(text);
            removed += 1;
        }
        removed
    }
}

impl Trim {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        model.trim_reports(self.room, self.max)
    }
}

impl Read {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let Some(arrived) = model.received_reports.arrived.remove(&self.id) else {
            return false;
        };
        let text = arrived.text;
        let kept = match self.report {
            Some(report) => model.keep_report(arrived, *report, self.room),
            None => false,
        };
        model.drop_unused(text);
        kept
    }
}

impl RemoveReport {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        match model.received_reports.reports.remove(&self.id) {
            Some(report) => {
                model.drop_unused(report.text);
                true
            }
            None => false,
        }
    }
}
