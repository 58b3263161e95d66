//! Sums over the reports about DMARC: of each domain and day by source and author, and by reporter.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{NewSums, ReportSum, Tables};
use crate::{
    StoreError, Time,
    error::Fault,
    subject::{PORTION, Reader},
    table::{
        Faults, Table,
        key::{Key, Name},
        value::Value,
    },
};

/// How many sums by source a domain has for a day. What comes from further sources is added to the
/// source [`OTHER_SOURCES`].
pub const REPORT_SOURCES_MAX: u64 = 1000;

/// How many sums by reporter a domain has for a day. Further reporters share the name
/// [`OTHER_SOURCES`].
pub const REPORTERS_MAX: u64 = 1000;

/// The name that stands for all sources, or reporters, that are too many.
pub const OTHER_SOURCES: &str = "other";

/// How much a sum counts beside its names, in bytes.
const SUM_SIZE: u64 = 128;

/// The most groups of an answer.
const GROUPS_MAX: usize = 100_000;

/// A domain and a day: days since 1970.
pub(super) type DomainDay = (Name, u64);
/// The key of a sum: domain and day, source and author.
pub(super) type SumKey = (DomainDay, (Name, Name));

/// What is known of the sums of a domain and a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SumDay {
    /// When they go.
    keep_until: Time,
    /// How many there are by source.
    sources: u64,
    /// How many there are by reporter.
    reporters: u64,
}

/// What sums are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumsBy {
    /// The network that messages came from, and the author's domain.
    Source,
    /// The day.
    Day,
    /// Who reports.
    Reporter,
}

/// Which sums are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsFilter {
    /// The domains, in ASCII. None: all.
    pub domains: Option<BTreeSet<String>>,
    /// The first day: days since 1970.
    pub first: u32,
    /// The last day.
    pub last: u32,
}

/// What the messages of a sum have in common. What sums are not told apart by is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SumGroup {
    /// The day: days since 1970.
    pub day: Option<u32>,
    /// The network that they came from.
    pub source: String,
    /// The author's domain.
    pub from: String,
    /// Who reports.
    pub reporter: String,
}

impl Tables {
    /// Adds to the sums of a day.
    pub(super) fn add_sums(&mut self, new: NewSums) -> Result<(), Fault> {
        let domain: Name = new.domain.into();
        let key = (Arc::clone(&domain), u64::from(new.day));
        let mut day = match self.sum_days.get(&key)? {
            Some(day) => day,
            None => {
                let ends = (new.keep_until, key.clone());
                self.sum_ends.put_new(ends, ());
                SumDay {
                    keep_until: new.keep_until,
                    sources: 0,
                    reporters: 0,
                }
            }
        };
        let (mut total, mut size) = (ReportSum::default(), 0);
        for row in new.rows {
            total.add(&row.sum);
            let mut name: (Name, Name) = (row.source.into(), row.from.into());
            let is_new = !self.sums.contains(&(key.clone(), name.clone()))?;
            let is_full = is_new && day.sources >= REPORT_SOURCES_MAX;
            match &*name.0 == OTHER_SOURCES || is_full {
                true => name = (OTHER_SOURCES.into(), "".into()),
                false => day.sources += u64::from(is_new),
            }
            let sum = (key.clone(), name);
            let of_sum = sum_size(&sum);
            if add(&mut self.sums, sum, &row.sum)? {
                size += of_sum;
            }
        }
        let mut reporter: Name = new.reporter.into();
        let is_new = !self
            .reporters
            .contains(&(key.clone(), Arc::clone(&reporter)))?;
        match is_new && day.reporters >= REPORTERS_MAX {
            true => reporter = OTHER_SOURCES.into(),
            false => day.reporters += u64::from(is_new),
        }
        let reporter = (key.clone(), reporter);
        let of_reporter = reporter_size(&reporter);
        if add(&mut self.reporters, reporter, &total)? {
            size += of_reporter;
        }
        self.counters.sum_bytes = self.counters.sum_bytes.saturating_add(size);
        self.sum_days.put(key, day);
        Ok(())
    }

    /// The day whose time is over first, and when that is.
    pub(super) fn first_end(&self) -> Result<Option<(Time, DomainDay)>, Fault> {
        let mut ends = self.sum_ends.range(Bound::Unbounded, Bound::Unbounded)?;
        Ok(ends.next().transpose()?.map(|(end, ())| end))
    }

    /// Forgets sums whose time is over: at most `max` records. Gives how many.
    pub(super) fn end_sums(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let mut removed = 0;
        while removed < max {
            match self.first_end()? {
                Some((end, day)) if end <= now => {
                    removed += self.forget_sums(end, &day, max - removed)?;
                }
                _ => break,
            }
        }
        Ok(removed)
    }

    /// Forgets at most `max` records of a day that goes at `end`: its sums, and the day itself when
    /// it has no more. Gives how many.
    pub(super) fn forget_sums(
        &mut self,
        end: Time,
        day: &DomainDay,
        max: u64,
    ) -> Result<u64, Fault> {
        let room = usize::try_from(max).unwrap_or(usize::MAX);
        let next = (Arc::clone(&day.0), day.1.saturating_add(1));
        let empty = || Name::from("");
        let (from, to) = (
            (day.clone(), (empty(), empty())),
            (next.clone(), (empty(), empty())),
        );
        let sums = self
            .sums
            .range(Bound::Included(&from), Bound::Excluded(&to))?;
        let sums: Result<Vec<_>, Fault> = sums.take(room).map(|sum| Ok(sum?.0)).collect();
        let sums = sums?;
        let (from, to) = ((day.clone(), empty()), (next, empty()));
        let reporters = self
            .reporters
            .range(Bound::Included(&from), Bound::Excluded(&to))?;
        let reporters = reporters.take(room - sums.len());
        let reporters: Result<Vec<_>, Fault> = reporters.map(|sum| Ok(sum?.0)).collect();
        let reporters = reporters?;
        let (mut size, mut own) = (0, (0, 0));
        for key in &sums {
            self.sums.remove(key);
            size += sum_size(key);
            own.0 += u64::from(&*key.1.0 != OTHER_SOURCES);
        }
        for key in &reporters {
            self.reporters.remove(key);
            size += reporter_size(key);
            own.1 += u64::from(&*key.1 != OTHER_SOURCES);
        }
        self.counters.sum_bytes = self.counters.sum_bytes.saturating_sub(size);
        let removed = (sums.len() + reporters.len()) as u64;
        if removed < max {
            self.sum_days.remove(day);
            self.sum_ends.remove(&(end, day.clone()));
            return Ok(removed + 1);
        }
        if let Some(day) = self.sum_days.get_mut(day)? {
            day.sources = day.sources.saturating_sub(own.0);
            day.reporters = day.reporters.saturating_sub(own.1);
        }
        Ok(removed)
    }

    /// What all sums count, in bytes.
    pub(super) fn size_of_sums(&self) -> Result<u64, Fault> {
        let mut size = 0;
        self.sums.for_each(|key, _| {
            size += sum_size(&key);
            Ok(())
        })?;
        self.reporters.for_each(|key, _| {
            size += reporter_size(&key);
            Ok(())
        })?;
        Ok(size)
    }

    /// Compares the numbers of sums with the sums.
    pub(super) fn check_sums(&self, faults: &mut Faults) -> Result<(), Fault> {
        let mut counted: BTreeMap<DomainDay, (u64, u64)> = BTreeMap::new();
        self.sums.for_each(|(day, (source, _)), _| {
            counted.entry(day).or_default().0 += u64::from(&*source != OTHER_SOURCES);
            Ok(())
        })?;
        self.reporters.for_each(|(day, reporter), _| {
            counted.entry(day).or_default().1 += u64::from(&*reporter != OTHER_SOURCES);
            Ok(())
        })?;
        let mut days = 0;
        self.sum_days.for_each(|key, day| {
            days += 1;
            let name = format!("sums of reports about {} on the day {}", key.0, key.1);
            let (sources, reporters) = counted.remove(&key).unwrap_or_default();
            faults.compare(&name, day.sources, sources);
            faults.compare(&name, day.reporters, reporters);
            let found = self.sum_ends.contains(&(day.keep_until, key))?;
            faults.check(found, || format!("the {name} never go"));
            Ok(())
        })?;
        faults.check(counted.is_empty(), || {
            "sums of reports are of no day".to_owned()
        });
        faults.compare("ends of sums of reports", self.sum_ends.count()?, days);
        let size = self.size_of_sums()?;
        faults.compare("bytes of sums", self.counters.sum_bytes, size);
        Ok(())
    }
}

/// True: it is a new sum.
fn add<K: Key>(table: &mut Table<K, ReportSum>, key: K, more: &ReportSum) -> Result<bool, Fault> {
    match table.get_mut(&key)? {
        Some(sum) => {
            sum.add(more);
            Ok(false)
        }
        None => {
            table.put_new(key, *more);
            Ok(true)
        }
    }
}

/// What a sum with these names counts, in bytes.
pub(super) const fn size(domain: &str, source: &str, from: &str) -> u64 {
    SUM_SIZE + (domain.len() + source.len() + from.len()) as u64
}

fn sum_size(((domain, _), (source, from)): &SumKey) -> u64 {
    size(domain, source, from)
}

fn reporter_size(((domain, _), reporter): &(DomainDay, Name)) -> u64 {
    size(domain, reporter, "")
}

/// Adds to a group. If there are too many, further ones share the name [`OTHER_SOURCES`].
fn add_to_group(groups: &mut BTreeMap<SumGroup, ReportSum>, group: SumGroup, sum: &ReportSum) {
    let has_room = groups.len() < GROUPS_MAX || groups.contains_key(&group);
    let group = match has_room {
        true => group,
        false => group.others(),
    };
    groups.entry(group).or_default().add(sum);
}

impl SumGroup {
    /// The group of all that is too much.
    fn others(self) -> Self {
        let other = |name: &str| match name {
            "" => String::new(),
            _ => OTHER_SOURCES.to_owned(),
        };
        Self {
            day: self.day,
            source: other(&self.source),
            from: String::new(),
            reporter: other(&self.reporter),
        }
    }
}

pub(super) fn group_of_source(by: SumsBy, day: u32, source: &str, from: &str) -> SumGroup {
    match by {
        SumsBy::Source => SumGroup {
            source: source.to_owned(),
            from: from.to_owned(),
            ..SumGroup::default()
        },
        SumsBy::Day | SumsBy::Reporter => SumGroup {
            day: Some(day),
            ..SumGroup::default()
        },
    }
}

pub(super) fn group_of_reporter(reporter: &str) -> SumGroup {
    SumGroup {
        reporter: reporter.to_owned(),
        ..SumGroup::default()
    }
}

impl SumsFilter {
    pub(super) fn matches(&self, domain: &str, day: u64) -> bool {
        let days = u64::from(self.first)..=u64::from(self.last);
        let domains = self.domains.as_ref();
        days.contains(&day) && domains.is_none_or(|domains| domains.contains(domain))
    }

    /// The sums by group. The days of a domain stand together, so those before and behind the
    /// wanted ones are not read.
    pub(super) fn read(
        &self,
        by: SumsBy,
        reader: &Reader<'_>,
    ) -> Result<BTreeMap<SumGroup, ReportSum>, StoreError> {
        let mut groups = BTreeMap::new();
        let Some(domains) = &self.domains else {
            let first = (Name::from(""), 0);
            self.read_days((by, first), reader, |_| true, &mut groups)?;
            return Ok(groups);
        };
        for domain in domains {
            let name = Name::from(domain.as_str());
            let first = (Arc::clone(&name), u64::from(self.first));
            let last = u64::from(self.last);
            let wanted = |day: &DomainDay| day.0 == name && day.1 <= last;
            self.read_days((by, first), reader, wanted, &mut groups)?;
        }
        Ok(groups)
    }

    /// Adds the sums of the days from `first` on, as long as they are wanted.
    fn read_days(
        &self,
        (by, first): (SumsBy, DomainDay),
        reader: &Reader<'_>,
        wanted: impl Fn(&DomainDay) -> bool,
        groups: &mut BTreeMap<SumGroup, ReportSum>,
    ) -> Result<(), StoreError> {
        let mut from = Some(Bound::Included(first));
        while let Some(bound) = from {
            let mut days = Vec::new();
            let mut add = |key: &DomainDay, _: &SumDay| {
                if self.matches(&key.0, key.1) {
                    days.push(key.clone());
                }
            };
            from = portion(
                reader,
                bound.as_ref(),
                |tables| &tables.sum_days,
                &wanted,
                &mut add,
            )?;
            for day in days {
                read_day(by, &day, reader, groups)?;
            }
        }
        Ok(())
    }
}

/// Adds the sums of a day.
fn read_day(
    by: SumsBy,
    day: &DomainDay,
    reader: &Reader<'_>,
    groups: &mut BTreeMap<SumGroup, ReportSum>,
) -> Result<(), StoreError> {
    let number = u32::try_from(day.1).unwrap_or(u32::MAX);
    let empty = || Name::from("");
    match by {
        SumsBy::Reporter => each(
            reader,
            (day.clone(), empty()),
            |tables| &tables.reporters,
            |key| key.0 == *day,
            &mut |(_, reporter), sum| add_to_group(groups, group_of_reporter(reporter), sum),
        ),
        SumsBy::Source | SumsBy::Day => each(
            reader,
            (day.clone(), (empty(), empty())),
            |tables| &tables.sums,
            |key| key.0 == *day,
            &mut |(_, (source, from)), sum| {
                add_to_group(groups, group_of_source(by, number, source, from), sum);
            },
        ),
    }
}

/// Reads rows of a table from a key on, as long as their keys are wanted. The lock is free between
/// two portions.
fn each<K: Key, V: Value>(
    reader: &Reader<'_>,
    first: K,
    table: impl Fn(&Tables) -> &Table<K, V>,
    wanted: impl Fn(&K) -> bool,
    add: &mut impl FnMut(&K, &V),
) -> Result<(), StoreError> {
    let mut from = Some(Bound::Included(first));
    while let Some(bound) = from {
        from = portion(reader, bound.as_ref(), &table, &wanted, add)?;
    }
    Ok(())
}

/// Reads a portion of such rows. Gives where the next one begins. None: there are no more.
fn portion<K: Key, V: Value>(
    reader: &Reader<'_>,
    from: Bound<&K>,
    table: impl Fn(&Tables) -> &Table<K, V>,
    wanted: impl Fn(&K) -> bool,
    add: &mut impl FnMut(&K, &V),
) -> Result<Option<Bound<K>>, StoreError> {
    let state = reader.state()?;
    let (mut last, mut seen) = (None, 0);
    let rows = table(&state.received_reports).range(from, Bound::Unbounded)?;
    for row in rows.take(PORTION) {
        let (key, value) = row?;
        if !wanted(&key) {
            return Ok(None);
        }
        add(&key, &value);
        last = Some(key);
        seen += 1;
    }
    Ok(last.filter(|_| seen == PORTION).map(Bound::Excluded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_are_too_many_are_added_up() {
        let sum = ReportSum {
            messages: 1,
            ..ReportSum::default()
        };
        let mut groups = BTreeMap::new();
        for number in 0..GROUPS_MAX + 5 {
            let group = group_of_source(SumsBy::Source, 1, &number.to_string(), "a.test");
            add_to_group(&mut groups, group, &sum);
        }
        assert_eq!(groups.len(), GROUPS_MAX + 1);
        let other = group_of_source(SumsBy::Source, 1, OTHER_SOURCES, "");
        assert_eq!(groups.get(&other).unwrap().messages, 5);
        let known = group_of_source(SumsBy::Source, 1, "0", "a.test");
        add_to_group(&mut groups, known.clone(), &sum);
        assert_eq!(groups.get(&known).unwrap().messages, 2);
    }
}
