//! Reports that are due: the domains that get a report about a day, and the addresses that get none
//! for a time. The results of the days are in the subjects `tls_results` and `dmarc_results`.
//!
//! The first result of a day for a domain makes a report due. When the report is sent, or given up,
//! it goes together with the results.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    ReportKind, Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

/// How many addresses rest at most. When one more comes, the one whose rest ends first goes.
pub const RESTING_MAX: u64 = 10_000;

/// A report that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueReport {
    /// What it is about.
    pub kind: ReportKind,
    /// The day that it is about: days since 1970, in UTC.
    pub day: u32,
    /// The domain that it is about, in ASCII.
    pub domain: String,
    /// When it is sent, or tried again.
    pub due: Time,
    /// How often sending it failed.
    pub attempts: u32,
    /// The addresses that have it, or that do not take it, as the domain's record names them.
    pub done: Vec<String>,
}

/// An address that gets no reports for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rest {
    until: Time,
}

/// The key of a report: its kind, its day, its domain.
type ReportKey = (u8, u64, Name);

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    resting: u64,
}

records! {
    DueReport: version 1,
    Rest: version 1,
}

tables! {
    counters: Counters,
    reports: Table<ReportKey, DueReport> = Table::new("reports"),
    /// The reports by the time when they are due.
    due: Table<(Time, ReportKey), ()> = Table::new("reports_due"),
    /// By address.
    resting: Table<Name, Rest> = Table::new("reports_resting"),
    /// The addresses by the end of their rest.
    rest_ends: Table<(Time, Name), ()> = Table::new("reports_rest_ends"),
}

subject!(
    counters Counters, keys 1,
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.reports.end_rests(now, max)
    }
);

operations! {
    Reports, version 1:
    PutOff -> bool, Reserve;
    Finish -> bool, Reserve;
    Rests -> (), Reserve;
}

/// Sets when a report is tried again, and which addresses need it no more. False: it is not due.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PutOff(DueReport);

/// Removes a report with its results. False: it is not due.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finish {
    kind: ReportKind,
    day: u32,
    domain: String,
}

/// An address gets no reports until a time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rests {
    address: String,
    until: Time,
}

const fn number(kind: ReportKind) -> u8 {
    match kind {
        ReportKind::Tls => 0,
        ReportKind::Dmarc => 1,
    }
}

fn key(kind: ReportKind, day: u32, domain: &str) -> ReportKey {
    (number(kind), day.into(), domain.into())
}

impl DueReport {
    /// A report that was never tried.
    #[must_use]
    pub fn new(kind: ReportKind, day: u32, domain: &str, due: Time) -> Self {
        Self {
            kind,
            day,
            domain: domain.to_owned(),
            due,
            attempts: 0,
            done: Vec::new(),
        }
    }

    fn key(&self) -> ReportKey {
        key(self.kind, self.day, &self.domain)
    }
}

impl Tables {
    /// Makes a report due, unless it is.
    pub(super) fn make_due(&mut self, report: DueReport) -> Result<(), Fault> {
        let key = report.key();
        if !self.reports.contains(&key)? {
            self.due.put_new((report.due, key.clone()), ());
            self.reports.put_new(key, report);
        }
        Ok(())
    }

    fn take(&mut self, key: &ReportKey) -> Result<bool, Fault> {
        let found = self.reports.take(key)?;
        if let Some(report) = &found {
            self.due.remove(&(report.due, key.clone()));
        }
        Ok(found.is_some())
    }

    fn next_due(&self, max: usize) -> Result<Vec<DueReport>, Fault> {
        let mut reports = Vec::new();
        let due = self.due.range(Bound::Unbounded, Bound::Unbounded)?;
        for entry in due.take(max) {
            let ((_, key), ()) = entry?;
            reports.extend(self.reports.get(&key)?);
        }
        Ok(reports)
    }

    /// Reports by kind, day and domain, behind this one.
    fn listed(&self, after: Option<&ReportKey>, max: usize) -> Result<Vec<DueReport>, Fault> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let reports = self.reports.range(from, Bound::Unbounded)?;
        let reports = reports.take(max);
        reports.map(|entry| Ok(entry?.1)).collect()
    }

    fn end_rest(&mut self, address: &Name) -> Result<(), Fault> {
        if let Some(rest) = self.resting.take(address)? {
            self.rest_ends.remove(&(rest.until, Arc::clone(address)));
            self.counters.resting = self.counters.resting.saturating_sub(1);
        }
        Ok(())
    }

    /// Forgets at most `max` addresses whose rest is over.
    fn end_rests(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let to = (Time(now.0.saturating_add(1)), Name::from(""));
        let over: Result<Vec<_>, Fault> = self
            .rest_ends
            .range(Bound::Unbounded, Bound::Excluded(&to))?
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect();
        let over = over?;
        for ((_, address), ()) in &over {
            self.end_rest(address)?;
        }
        Ok(over.len() as u64)
    }
}

impl State {
    /// Compares the reports with the times when they are due, and the rests with their ends.
    pub(super) fn check_reports(&self, faults: &mut crate::table::Faults) -> Result<(), Fault> {
        let tables = &self.reports;
        let mut reports = 0;
        tables.reports.for_each(|key, report| {
            reports += 1;
            let found = tables.due.contains(&(report.due, key))?;
            faults.check(found, || {
                format!("the report to {} is never due", report.domain)
            });
            Ok(())
        })?;
        faults.compare("reports that are due", tables.due.count()?, reports);
        let mut resting = 0;
        tables.resting.for_each(|address, rest| {
            resting += 1;
            let found = tables
                .rest_ends
                .contains(&(rest.until, Arc::clone(&address)))?;
            faults.check(found, || format!("the rest of {address} never ends"));
            Ok(())
        })?;
        faults.compare("resting report addresses", tables.counters.resting, resting);
        faults.compare("ends of rests", tables.rest_ends.count()?, resting);
        Ok(())
    }
}

impl PutOff {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let (tables, report) = (&mut state.reports, self.0);
        let known = tables.take(&report.key())?;
        if known {
            tables.make_due(report)?;
        }
        Ok(known)
    }
}

impl Finish {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let known = state
            .reports
            .take(&key(self.kind, self.day, &self.domain))?;
        match self.kind {
            ReportKind::Tls => state.tls_results.forget_day(self.day, &self.domain)?,
            ReportKind::Dmarc => state.dmarc_results.forget_day(self.day, &self.domain)?,
        }
        Ok(known)
    }
}

impl Rests {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let tables = &mut state.reports;
        let address: Name = self.address.into();
        tables.end_rest(&address)?;
        if tables.counters.resting >= RESTING_MAX {
            let mut all = tables.rest_ends.range(Bound::Unbounded, Bound::Unbounded)?;
            let first = all.next().transpose()?;
            drop(all);
            if let Some(((_, first), ())) = first {
                tables.end_rest(&first)?;
            }
        }
        tables.counters.resting += 1;
        tables
            .rest_ends
            .put_new((self.until, Arc::clone(&address)), ());
        let until = self.until;
        tables.resting.put_new(address, Rest { until });
        Ok(())
    }
}

questions! {
    ask NextDue { max: usize } -> Vec<DueReport>,
    |this, state| state.reports.next_due(this.max),
    |this, model| model.reports.next_due(this.max);

    ask Listed<'a> { after: Option<&'a DueReport>, max: usize } -> Vec<DueReport>,
    |this, state| state.reports.listed(this.after.map(DueReport::key).as_ref(), this.max),
    |this, model| model.reports.listed(this.after, this.max);

    ask OneDue<'a> { kind: ReportKind, day: u32, domain: &'a str } -> Option<DueReport>,
    |this, state| state.reports.reports.get(&key(this.kind, this.day, this.domain)),
    |this, model| model.reports.one(this.kind, this.day, this.domain);

    ask RestOf<'a> { address: &'a str } -> Option<Time>,
    |this, state| Ok(state.reports.resting.get(&this.address.into())?.map(|rest| rest.until)),
    |this, model| model.reports.resting.get(this.address).copied();
}

impl Store {
    /// The reports that are due next, in order, `max` at most.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn next_reports(&self, max: usize) -> Result<Vec<DueReport>, StoreError> {
        self.ask(NextDue { max }).await
    }

    /// The reports that are due now or later by kind, day and domain, `max` at most: those behind
    /// `after`, or the first ones.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_reports(
        &self,
        after: Option<&DueReport>,
        max: usize,
    ) -> Result<Vec<DueReport>, StoreError> {
        self.ask(Listed { after, max }).await
    }

    /// The report about a day to a domain. None: it is not due, now or later.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn due_report(
        &self,
        kind: ReportKind,
        day: u32,
        domain: &str,
    ) -> Result<Option<DueReport>, StoreError> {
        self.ask(OneDue { kind, day, domain }).await
    }

    /// Puts a report in the place of the one with the same kind, day and domain. False: none is
    /// due.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn put_off_report(&self, report: DueReport) -> Result<bool, StoreError> {
        self.change_by(PutOff(report)).await
    }

    /// Removes a report together with the results of its day. False: it is not due.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn finish_report(&self, report: &DueReport) -> Result<bool, StoreError> {
        self.change_by(Finish {
            kind: report.kind,
            day: report.day,
            domain: report.domain.clone(),
        })
        .await
    }

    /// An address gets no reports until this time.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn rest_report_address(&self, address: &str, until: Time) -> Result<(), StoreError> {
        let address = address.to_owned();
        self.change_by(Rests { address, until }).await
    }

    /// Until when an address gets no reports. The time may be over.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn report_address_rests(&self, address: &str) -> Result<Option<Time>, StoreError> {
        self.ask(RestOf { address }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::PutOff(PutOff(DueReport::new(
            ReportKind::Tls,
            20_000,
            "a.test",
            Time(1),
        ))),
        Op::Finish(Finish {
            kind: ReportKind::Dmarc,
            day: 20_000,
            domain: "a.test".into(),
        }),
        Op::Rests(Rests {
            address: "reports@a.test".into(),
            until: Time(2),
        }),
    ]
}
