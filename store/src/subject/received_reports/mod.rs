//! Reports that came in: about DMARC, about TLS, and about single messages.
//!
//! A mail that may be a report waits here from the moment it is taken, in the same operation, until
//! it was read. What is kept of a report is a summary. The report itself is in the text of the
//! mail, which the record here shares with the mail in the mailbox.
//!
//! The sums over the reports about DMARC have tables of their own. A report that somebody removes
//! leaves its name and its part of the sums behind, until their time is over. So a report counts
//! once, also when it comes again.
//!
//! Reporters decide how many reports there are, of which size and about which days. So reports and
//! sums have a limit in bytes together. Sums, which are worth more for their size, have a part of
//! it to themselves. No operation removes more than a few records.

mod filter;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
mod older;
mod record;
mod sums;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeMap, ops::Bound};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::sums::{DomainDay, SumDay, SumKey};
pub use self::{
    filter::ReceivedFilter,
    record::*,
    sums::{OTHER_SOURCES, REPORT_SOURCES_MAX, REPORTERS_MAX, SumGroup, SumsBy, SumsFilter},
};
use super::{Listing, State, next, tag};
use crate::{
    Order, Page, Store, StoreError, TextId, Time,
    error::Fault,
    id::ids,
    table::{
        Faults, Grouping, Table,
        key::Name,
        tables,
        value::{Unreadable, exactly, records},
    },
};

ids! {
    /// A report that came in, or a mail that may be one.
    ReceivedReportId,
}

/// How much a report counts beside its text, in bytes.
const RECORD_SIZE: u64 = 1024;
/// The part of the room that sums may have: one of so many.
const SUMS_SHARE: u64 = 4;
/// How many records are removed for want of room in the operation that keeps a report. If that is
/// not enough, further operations go on.
const TRIMMED_MAX: u64 = 64;

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
    /// What all reports count, in bytes.
    bytes: u64,
    /// What all sums count, in bytes.
    sum_bytes: u64,
    dmarc: Counted,
    tls: Counted,
    arf: Counted,
}

/// How many reports of a kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    all: u64,
    /// Those that can be read.
    readable: u64,
}

impl Counters {
    const fn of(&mut self, kind: ReceivedKind) -> &mut Counted {
        match kind {
            ReceivedKind::Dmarc => &mut self.dmarc,
            ReceivedKind::Tls => &mut self.tls,
            ReceivedKind::Arf => &mut self.arf,
        }
    }
}

impl Counted {
    fn add(&mut self, about: &ReportSummary) {
        self.all += 1;
        self.readable += u64::from(about.was_read());
    }

    fn remove(&mut self, about: &ReportSummary) {
        self.all = self.all.saturating_sub(1);
        let readable = u64::from(about.was_read());
        self.readable = self.readable.saturating_sub(readable);
    }
}

/// The counters before sums, and reports by kind, were counted.
#[derive(Deserialize)]
struct CountersV1 {
    last: u64,
    bytes: u64,
}

/// The name of a report, which stays when the report goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownName(String);

records! {
    ArrivedReport: version 1,
    ReceivedReport: version 2 [1 => older::ReceivedReportV1],
    ReceivedReportId: version 1,
    KnownName: version 1,
    ReportSum: version 1,
    SumDay: version 1,
}

tables! {
    counters: Counters,
    /// Mails that wait to be read.
    arrived: Table<ReceivedReportId, ArrivedReport> = Table::new("reports_arrived"),
    /// The group of a report is its kind.
    reports: Table<ReceivedReportId, ReceivedReport> = Table::grouped(
        "reports_received",
        Grouping {
            name: "reports_received_groups",
            of: |report| vec![report.about.kind.as_str().to_owned()],
            has: |kind, report| report.about.kind.as_str() == kind,
        },
    ),
    /// In the order in which they go if there are too many: 0 if a report counts for nothing.
    by_worth: Table<(u8, ReceivedReportId), ()> = Table::new("reports_received_worth"),
    /// The reports that came, by name.
    known: Table<Name, ReceivedReportId> = Table::new("reports_received_names"),
    names: Table<ReceivedReportId, KnownName> = Table::new("reports_received_known"),
    sums: Table<SumKey, ReportSum> = Table::new("report_sums"),
    reporters: Table<(DomainDay, Name), ReportSum> = Table::new("report_sums_reporters"),
    sum_days: Table<DomainDay, SumDay> = Table::new("report_sums_days"),
    sum_ends: Table<(Time, DomainDay), ()> = Table::new("report_sums_ends"),
}

subject!(
    counters Counters, keys 2,
    fn older_counters(_: u8, bytes: &[u8]) -> Result<Counters, Unreadable> {
        let CountersV1 { last, bytes } = exactly(bytes)?;
        Ok(Counters {
            last,
            bytes,
            ..Counters::default()
        })
    },
    fn renew_keys(state: &mut State) -> Result<(), Fault> {
        let tables = &mut state.received_reports;
        tables.counters.sum_bytes = tables.size_of_sums()?;
        let mut counted = Counters::default();
        tables.reports.for_each(|_, report| {
            counted.of(report.about.kind).add(&report.about);
            Ok(())
        })?;
        let Counters {
            dmarc, tls, arf, ..
        } = counted;
        tables.counters = Counters {
            dmarc,
            tls,
            arf,
            ..tables.counters
        };
        Ok(())
    },
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        let id = ReceivedReportId(number);
        state.received_reports.forget_name(id)?;
        state.drop_report(id).map(drop)
    },
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.received_reports.end_sums(now, max)
    }
);

operations! {
    ReceivedReports, version 3 weighed by weigh older older::operation:
    Read -> bool, Reserve;
    RemoveReport -> bool, Reserve;
    Trim -> u64, Reserve;
}

/// Ends the wait of a mail. True: its report is kept. False: there is none, or the store has it
/// already, or nothing waits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Read {
    id: ReceivedReportId,
    report: Option<Box<NewReceivedReport>>,
    room: ReportRoom,
}

/// Removes a report. False: there is none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RemoveReport {
    id: ReceivedReportId,
}

/// Removes at most `max` reports and sums for which there is no room. Tells how many.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trim {
    room: ReportRoom,
    max: u64,
}

fn weigh(op: &Op) -> usize {
    let records = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    match op {
        Op::Read(read) => {
            let sums = read.report.as_ref().and_then(|it| it.sums.as_ref());
            1 + sums.map_or(0, |sums| sums.rows.len()) + records(TRIMMED_MAX)
        }
        Op::RemoveReport(_) => 1,
        Op::Trim(trim) => records(trim.max),
    }
}

/// A report counts for something.
fn worth(about: &ReportSummary) -> u8 {
    u8::from(about.verified && about.error.is_empty())
}

impl Tables {
    /// Lets a mail with this text wait.
    pub(super) fn await_reading(&mut self, new: NewArrivedReport, text: TextId) {
        let id = ReceivedReportId(next(&mut self.counters.last));
        self.arrived.put_new(id, new.record(id, text));
    }

    /// Calls `add` for each text that a record here refers to.
    pub(super) fn for_each_text(&self, add: &mut impl FnMut(TextId)) -> Result<(), Fault> {
        self.arrived.for_each(|_, arrived| {
            add(arrived.text);
            Ok(())
        })?;
        self.reports.for_each(|_, report| {
            add(report.text);
            Ok(())
        })
    }

    fn next_arrived(
        &self,
        after: Option<ReceivedReportId>,
        max: usize,
    ) -> Result<Vec<ArrivedReport>, Fault> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let arrived = self.arrived.range(from, Bound::Unbounded)?;
        arrived.take(max).map(|entry| Ok(entry?.1)).collect()
    }

    /// What all reports and sums count, in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        let Counters {
            bytes, sum_bytes, ..
        } = self.counters;
        bytes.saturating_add(sum_bytes)
    }

    /// Reports and sums have more than this room.
    const fn are_over(&self, ReportRoom(room): ReportRoom) -> bool {
        self.counters.sum_bytes > room / SUMS_SHARE || self.bytes() > room
    }

    fn forget_name(&mut self, id: ReceivedReportId) -> Result<(), Fault> {
        if let Some(KnownName(name)) = self.names.take(&id)? {
            self.known.remove(&name.into());
        }
        Ok(())
    }

    /// The report that goes first if there are too many: of those behind `after`. One whose record
    /// can't be read is left out: it would be the first again and again. A later version may read
    /// it.
    fn least(
        &self,
        after: Option<(u8, ReceivedReportId)>,
    ) -> Result<Option<(u8, ReceivedReportId)>, Fault> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        for item in self.by_worth.range(from, Bound::Unbounded)? {
            let (key, ()) = item?;
            if self.reports.get(&key.1)?.is_some() {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

impl State {
    /// Removes a report, and gives when its time is over. Its name stays until then.
    fn drop_report(&mut self, id: ReceivedReportId) -> Result<Option<Time>, Fault> {
        let tables = &mut self.received_reports;
        let Some(report) = tables.reports.take(&id)? else {
            return Ok(None);
        };
        tables.by_worth.remove(&(worth(&report.about), id));
        let counted = tables.counters.of(report.about.kind);
        counted.remove(&report.about);
        let size = report.size.saturating_add(RECORD_SIZE);
        tables.counters.bytes = tables.counters.bytes.saturating_sub(size);
        self.release_text(report.text)?;
        Ok(Some(report.keep_until))
    }

    /// Removes at most `max` records, as long as there are more than the room has. First those sums
    /// whose time is over first, if all sums have more than their share; then reports, with their
    /// names: names count for nothing, and must not be many. Tells how many records it removed.
    ///
    /// Sums whose records can't be read count on. They take no more than their share from reports.
    fn trim_reports(&mut self, room: ReportRoom, max: u64) -> Result<u64, Fault> {
        let (mut removed, mut last) = (0, None);
        while removed < max && self.received_reports.are_over(room) {
            let tables = &mut self.received_reports;
            if tables.counters.sum_bytes > room.0 / SUMS_SHARE
                && let Some((end, day)) = tables.first_end()?
            {
                removed += tables.forget_sums(end, &day, max - removed)?;
                continue;
            }
            let sums = tables.counters.sum_bytes.min(room.0 / SUMS_SHARE);
            if tables.counters.bytes.saturating_add(sums) <= room.0 {
                break;
            }
            // What stands before the last one can't be read: it is not looked at again.
            let Some(least) = tables.least(last)? else {
                break;
            };
            last = Some(least);
            let id = least.1;
            tables.forget_name(id)?;
            if let Some(end) = self.drop_report(id)? {
                self.history.remove(end, tag::received_reports, id.0);
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Keeps a report whose mail waited. The text changes hands.
    fn keep_report(
        &mut self,
        arrived: &ArrivedReport,
        new: NewReceivedReport,
        room: ReportRoom,
    ) -> Result<bool, Fault> {
        let (id, tables) = (arrived.id, &mut self.received_reports);
        if let Some(name) = new.name {
            let key: Name = name.as_str().into();
            if tables.known.contains(&key)? {
                self.release_text(arrived.text)?;
                return Ok(false);
            }
            tables.known.put_new(key, id);
            tables.names.put_new(id, KnownName(name));
        }
        if let Some(sums) = new.sums {
            tables.add_sums(sums)?;
        }
        let report = ReceivedReport {
            id,
            text: arrived.text,
            size: arrived.size,
            received: arrived.received,
            keep_until: new.keep_until,
            about: new.about,
        };
        tables.by_worth.put_new((worth(&report.about), id), ());
        let counted = tables.counters.of(report.about.kind);
        counted.add(&report.about);
        let size = report.size.saturating_add(RECORD_SIZE);
        tables.counters.bytes = tables.counters.bytes.saturating_add(size);
        self.history
            .add(report.keep_until, tag::received_reports, id.0);
        tables.reports.put_new(id, report);
        self.trim_reports(room, TRIMMED_MAX)?;
        Ok(true)
    }

    /// Compares the reports with what follows from them.
    pub(super) fn check_received_reports(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.received_reports;
        let (mut count, mut bytes, mut ends) = (0, 0_u64, Vec::new());
        let mut counted = Counters::default();
        tables.reports.for_each(|id, report| {
            count += 1;
            counted.of(report.about.kind).add(&report.about);
            bytes += report.size.saturating_add(RECORD_SIZE);
            ends.push((report.keep_until, tag::received_reports, id.0));
            let found = tables.by_worth.contains(&(worth(&report.about), id))?;
            faults.check(found, || format!("the report {id} that came in never goes"));
            Ok(())
        })?;
        let of_kinds = |counters: &Counters| [counters.dmarc, counters.tls, counters.arf];
        faults.check(of_kinds(&counted) == of_kinds(&tables.counters), || {
            "the numbers of reports by kind are wrong".to_owned()
        });
        faults.compare("bytes of reports", tables.counters.bytes, bytes);
        faults.compare("reports by worth", tables.by_worth.count()?, count);
        let mut names = 0;
        tables.names.for_each(|id, KnownName(name)| {
            names += 1;
            let found = tables.known.get(&name.into())?;
            faults.check(found == Some(id), || {
                format!("the report {id} is not found by its name")
            });
            Ok(())
        })?;
        faults.compare("names of reports", tables.known.count()?, names);
        tables.check_sums(faults)?;
        self.check_expiry(&ends, faults)
    }
}

impl Read {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let Some(arrived) = state.received_reports.arrived.take(&self.id)? else {
            return Ok(false);
        };
        match self.report {
            Some(report) => state.keep_report(&arrived, *report, self.room),
            None => {
                state.release_text(arrived.text)?;
                Ok(false)
            }
        }
    }
}

impl RemoveReport {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        Ok(state.drop_report(self.id)?.is_some())
    }
}

impl Trim {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        state.trim_reports(self.room, self.max)
    }
}

questions! {
    ask NextArrived { after: Option<ReceivedReportId>, max: usize } -> Vec<ArrivedReport>,
    |this, state| state.received_reports.next_arrived(this.after, this.max),
    |this, model| model.received_reports.next_arrived(this.after, this.max);

    ask AreOver { room: ReportRoom } -> bool,
    |this, state| Ok(state.received_reports.are_over(this.room)),
    |this, model| model.received_reports.are_over(this.room);

    ask OneReceived { id: ReceivedReportId } -> Option<ReceivedReport>,
    |this, state| state.received_reports.reports.get(&this.id),
    |this, model| model.received_reports.reports.get(&this.id).cloned();

    ask CountReceived { kind: ReceivedKind, readable: bool } -> u64,
    |this, state| {
        let mut counters = state.received_reports.counters;
        let counted = counters.of(this.kind);
        Ok(if this.readable { counted.readable } else { counted.all })
    },
    |this, model| model.received_reports.count(this);

    scan ListReceived {
        filter: ReceivedFilter, after: Option<ReceivedReportId>, order: Order, limit: usize
    } -> Page<ReceivedReport, ReceivedReportId>,
    |this, reader| {
        let listing = Listing {
            group: this.filter.kind.map(|kind| kind.as_str().to_owned()),
            after: this.after,
            order: this.order,
            limit: this.limit,
        };
        let matches = |report: &ReceivedReport| this.filter.matches(report);
        reader.page(listing, |state| &state.received_reports.reports, matches)
    },
    |this, model| model.received_reports.list(this);

    scan Sums { filter: SumsFilter, by: SumsBy } -> BTreeMap<SumGroup, ReportSum>,
    |this, reader| this.filter.read(this.by, reader),
    |this, model| model.received_reports.sums(&this.filter, this.by);
}

impl Store {
    /// Changes when a mail came that may be a report.
    #[must_use]
    pub fn reports_arrived(&self) -> watch::Receiver<u64> {
        self.changes().reports.subscribe()
    }

    /// Mails that may be reports and wait to be read, oldest first: those behind `after`, `max` at
    /// most.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn arrived_reports(
        &self,
        after: Option<ReceivedReportId>,
        max: usize,
    ) -> Result<Vec<ArrivedReport>, StoreError> {
        self.ask(NextArrived { after, max }).await
    }

    /// Ends the wait of a mail. Its report is kept, if there is one. Others may go for it, as with
    /// [`trim_reports`](Self::trim_reports). False: there is no report, or it is known already, or
    /// nothing waits under this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn report_read(
        &self,
        id: ReceivedReportId,
        report: Option<NewReceivedReport>,
        room: ReportRoom,
    ) -> Result<bool, StoreError> {
        let report = report.map(Box::new);
        self.change_by(Read { id, report, room }).await
    }

    /// Removes reports and sums that have no room: at most `max` records. Tells how many it
    /// removed: fewer than `max` when the rest has room.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn trim_reports(&self, room: ReportRoom, max: u64) -> Result<u64, StoreError> {
        match self.ask(AreOver { room }).await? {
            true => self.change_by(Trim { room, max }).await,
            false => Ok(0),
        }
    }

    /// A report that came in.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn received_report(
        &self,
        id: ReceivedReportId,
    ) -> Result<Option<ReceivedReport>, StoreError> {
        self.ask(OneReceived { id }).await
    }

    /// How many reports of a kind there are: all, or those that can be read. No report is read for
    /// it.
    ///
    /// # Errors
    /// If the store is closed.
    pub async fn count_received_reports(
        &self,
        kind: ReceivedKind,
        readable: bool,
    ) -> Result<u64, StoreError> {
        self.ask(CountReceived { kind, readable }).await
    }

    /// Reports that came in, beginning behind `after`. A filter for a kind looks at reports of that
    /// kind only.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn received_reports(
        &self,
        filter: &ReceivedFilter,
        after: Option<ReceivedReportId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<ReceivedReport, ReceivedReportId>, StoreError> {
        let scan = ListReceived {
            filter: filter.clone(),
            after,
            order,
            limit,
        };
        let mut page = self.scan(scan).await?;
        let reports = page.items.iter_mut();
        reports.for_each(|report| filter.narrow(report));
        Ok(page)
    }

    /// Removes a report. What it added to the sums stays. False: there is none.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_received_report(&self, id: ReceivedReportId) -> Result<bool, StoreError> {
        self.change_by(RemoveReport { id }).await
    }

    /// Sums over the reports about DMARC that are verified, by group.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn report_sums(
        &self,
        filter: SumsFilter,
        by: SumsBy,
    ) -> Result<BTreeMap<SumGroup, ReportSum>, StoreError> {
        self.scan(Sums { filter, by }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::Read(Read {
            id: ReceivedReportId(1),
            report: Some(Box::new(tests::report("a", 1))),
            room: ReportRoom(1 << 20),
        }),
        Op::RemoveReport(RemoveReport {
            id: ReceivedReportId(1),
        }),
        Op::Trim(Trim {
            room: ReportRoom(1 << 20),
            max: 2,
        }),
    ]
}
