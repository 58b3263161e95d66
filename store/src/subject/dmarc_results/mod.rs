//! What DMARC said of incoming mail: counts of messages by day, domain with the policy, source and
//! results, for aggregate reports (RFC 9990).
//!
//! The MX counts in memory, and the queue notes what was counted every few seconds. The first note
//! of a day for a domain makes a report due.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, ops::Bound};

use serde::{Deserialize, Serialize};

use super::{PORTION, Reader, State, reports::DueReport};
use crate::{
    ReportKind, Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

/// How many rows of all domains there are in one day. Further ones are not counted.
pub const DMARC_ROWS_MAX: u64 = 100_000;
/// How many rows a domain has in one day.
pub const DMARC_DOMAIN_ROWS_MAX: u64 = 10_000;

/// What is done with a message, or is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DmarcAction {
    /// Nothing.
    None,
    /// Nothing, since the message passed a policy that asks for more. No domain asks for it.
    Pass,
    /// The message is suspicious.
    Quarantine,
    /// The message is refused.
    Reject,
}

impl DmarcAction {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// The policy of a domain, as its record says it (RFC 9989 §4.7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmarcPublished {
    /// `p=`. None in a record without a valid one.
    pub policy: Option<DmarcAction>,
    /// `sp=`.
    pub below: Option<DmarcAction>,
    /// `np=`.
    pub missing: Option<DmarcAction>,
    /// `adkim=s`.
    pub dkim_strict: bool,
    /// `aspf=s`.
    pub spf_strict: bool,
    /// `t=y`, or `pct=0` of RFC 7489.
    pub testing: bool,
}

impl DmarcPublished {
    /// What is asked for mail of the domain, of names below it, and of names that do not exist.
    /// What is not published has the value that it stands for (RFC 9989 §4.7).
    #[must_use]
    pub fn in_force(&self) -> [DmarcAction; 3] {
        let policy = self.policy.unwrap_or(DmarcAction::None);
        let below = self.below.unwrap_or(policy);
        [policy, below, self.missing.unwrap_or(below)]
    }
}

/// Why a policy was not followed (RFC 9990 §3.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DmarcOverride {
    /// A rule of this server.
    LocalPolicy,
    /// The message came through a mailing list.
    MailingList,
    /// The domain only tests its policy.
    PolicyTestMode,
    /// A server that is known to forward mail passed the message on.
    TrustedForwarder,
}

impl DmarcOverride {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LocalPolicy => "local_policy",
            Self::MailingList => "mailing_list",
            Self::PolicyTestMode => "policy_test_mode",
            Self::TrustedForwarder => "trusted_forwarder",
        }
    }
}

/// The result of a DKIM signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DmarcSignature {
    /// `d=`, in ASCII.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// The result in the words of RFC 8601 §2.7.1.
    pub result: String,
}

/// What messages of one row have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DmarcRow {
    /// The address of the client.
    pub source: IpAddr,
    /// What was done by DMARC.
    pub disposition: DmarcAction,
    /// A DKIM signature passed for an aligned domain.
    pub dkim_aligned: bool,
    /// SPF passed for an aligned domain.
    pub spf_aligned: bool,
    /// Why something else was done than the policy says, with a comment.
    pub overrides: Vec<(DmarcOverride, String)>,
    /// The author's domain, in ASCII.
    pub header_from: String,
    /// The domain of MAIL FROM; empty for the null reverse-path.
    pub envelope_from: String,
    /// The domain of the first recipient.
    pub envelope_to: String,
    /// The signatures.
    pub dkim: Vec<DmarcSignature>,
    /// The domain that SPF was checked for, and the result in the words of RFC 8601 §2.7.2.
    pub spf: Option<(String, String)>,
}

/// A row with the number of its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmarcCount {
    /// What the messages have in common.
    pub row: DmarcRow,
    /// How many there were.
    pub count: u64,
}

/// A count to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmarcNote {
    /// Days since 1970, in UTC.
    pub day: u32,
    /// The domain whose policy counts, in ASCII.
    pub domain: String,
    /// When the report is due, if none is yet.
    pub due: Time,
    /// The policy.
    pub published: DmarcPublished,
    /// A name of the row, such as its hash. Rows with one name are the same.
    pub name: String,
    /// The row.
    pub count: DmarcCount,
}

impl DmarcNote {
    fn report(&self) -> DueReport {
        DueReport::new(ReportKind::Dmarc, self.day, &self.domain, self.due)
    }
}

/// What is known of a domain on a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DmarcDomain {
    /// As it was seen last.
    published: DmarcPublished,
    rows: u64,
}

records! {
    DmarcDomain: version 1,
    DmarcCount: version 1,
}

tables! {
    /// There are no counters.
    counters: (),
    /// By day and domain.
    domains: Table<(u64, Name), DmarcDomain> = Table::new("dmarc_domains"),
    /// By day, domain and name of the row.
    counts: Table<(u64, Name, Name), DmarcCount> = Table::new("dmarc_counts"),
    /// How many rows each day has.
    rows: Table<u64, u64> = Table::new("dmarc_rows"),
}

subject!(counters (), keys 1);

operations! {
    DmarcResults, version 1 weighed by weigh:
    NoteDmarc -> (), Ordinary;
}

/// Adds counts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoteDmarc {
    notes: Vec<DmarcNote>,
}

fn weigh(op: &Op) -> usize {
    let Op::NoteDmarc(note) = op;
    note.notes.len()
}

impl Tables {
    /// Adds a count. False: there is no room for its row.
    fn add(&mut self, note: DmarcNote) -> Result<bool, Fault> {
        let day = u64::from(note.day);
        let domain = Name::from(note.domain);
        let key = (day, Name::clone(&domain), Name::from(note.name));
        let mut known = self
            .domains
            .get(&(day, Name::clone(&domain)))?
            .unwrap_or_else(|| DmarcDomain {
                published: note.published.clone(),
                rows: 0,
            });
        match self.counts.get_mut(&key)? {
            Some(count) => count.count = count.count.saturating_add(note.count.count),
            None => {
                let rows = self.rows.get(&day)?.unwrap_or(0);
                if rows >= DMARC_ROWS_MAX || known.rows >= DMARC_DOMAIN_ROWS_MAX {
                    return Ok(false);
                }
                known.rows += 1;
                self.rows.put(day, rows + 1);
                self.counts.put_new(key, note.count);
            }
        }
        known.published = note.published;
        self.domains.put((day, domain), known);
        Ok(true)
    }

    /// Forgets the rows of a day for a domain.
    pub(super) fn forget_day(&mut self, day: u32, domain: &str) -> Result<(), Fault> {
        let day = u64::from(day);
        let domain = Name::from(domain);
        let Some(known) = self.domains.take(&(day, Name::clone(&domain)))? else {
            return Ok(());
        };
        let mut after = None;
        loop {
            let counts = self.portion(day, &domain, after)?;
            for (key, _) in &counts {
                self.counts.remove(key);
            }
            match counts.into_iter().next_back() {
                Some((key, _)) => after = Some(key),
                None => break,
            }
        }
        let rows = self.rows.get(&day)?.unwrap_or(0);
        match rows.saturating_sub(known.rows) {
            0 => self.rows.remove(&day),
            rows => self.rows.put(day, rows),
        }
        Ok(())
    }

    /// Some rows of a day for a domain, behind this one.
    #[expect(clippy::type_complexity, reason = "entries of a table")]
    fn portion(
        &self,
        day: u64,
        domain: &Name,
        after: Option<(u64, Name, Name)>,
    ) -> Result<Vec<((u64, Name, Name), DmarcCount)>, Fault> {
        let first = (day, Name::clone(domain), Name::from(""));
        let from = match &after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(&first),
        };
        let counts = self.counts.range(from, Bound::Unbounded)?;
        let of_domain = counts.take_while(|entry| match entry {
            Ok(((of_day, of_domain, _), _)) => *of_day == day && of_domain == domain,
            Err(_) => true,
        });
        of_domain.take(PORTION).collect()
    }
}

impl State {
    /// Compares the numbers of rows with the rows.
    pub(super) fn check_dmarc_results(
        &self,
        faults: &mut crate::table::Faults,
    ) -> Result<(), Fault> {
        use std::collections::BTreeMap;
        let tables = &self.dmarc_results;
        let (mut days, mut domains) = (BTreeMap::new(), BTreeMap::new());
        tables.counts.for_each(|(day, domain, _), _| {
            *days.entry(day).or_insert(0) += 1;
            *domains.entry((day, domain)).or_insert(0) += 1;
            Ok(())
        })?;
        let noted = tables.rows.all()?.into_iter().collect();
        faults.check(days == noted, || {
            format!("the results of DMARC have {days:?} rows by day, and not {noted:?}")
        });
        tables.domains.for_each(|key, domain| {
            let rows = domains.remove(&key).unwrap_or(0);
            let what = "results of DMARC for a domain";
            faults.compare(what, domain.rows, rows);
            Ok(())
        })?;
        let none = domains.is_empty();
        faults.check(none, || "results of DMARC are of no domain".to_owned());
        Ok(())
    }
}

impl NoteDmarc {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        for note in self.notes {
            let report = note.report();
            if state.dmarc_results.add(note)? {
                state.reports.make_due(report)?;
            }
        }
        Ok(())
    }
}

/// The results of a day for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmarcResults {
    /// The policy, as it was seen last.
    pub published: DmarcPublished,
    /// The rows, in an order of no meaning.
    pub counts: Vec<DmarcCount>,
}

questions! {
    scan One { day: u32, domain: String } -> Option<DmarcResults>,
    |this, reader| this.read(reader),
    |this, model| model.dmarc_results.one(this.day, &this.domain);
}

impl One {
    fn read(&self, reader: &Reader<'_>) -> Result<Option<DmarcResults>, StoreError> {
        let (day, domain) = (u64::from(self.day), Name::from(self.domain.as_str()));
        let key = (day, Name::clone(&domain));
        let Some(known) = reader.state()?.dmarc_results.domains.get(&key)? else {
            return Ok(None);
        };
        let (mut counts, mut after) = (Vec::new(), None);
        loop {
            // The lock is free between two portions.
            let portion = reader.state()?.dmarc_results.portion(day, &domain, after)?;
            let Some((last, _)) = portion.last() else {
                break;
            };
            after = Some(last.clone());
            counts.extend(portion.into_iter().map(|(_, count)| count));
        }
        let published = known.published;
        Ok(Some(DmarcResults { published, counts }))
    }
}

impl Store {
    /// Adds counts of messages. A report about them becomes due.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn note_dmarc_results(&self, notes: Vec<DmarcNote>) -> Result<(), StoreError> {
        self.change_by(NoteDmarc { notes }).await
    }

    /// The results of a day for a domain: [`DMARC_DOMAIN_ROWS_MAX`] rows at most. None: there are
    /// none.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn dmarc_results(
        &self,
        day: u32,
        domain: &str,
    ) -> Result<Option<DmarcResults>, StoreError> {
        let domain = domain.to_owned();
        self.scan(One { day, domain }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let notes = vec![tests::note(20_000, "a.test", 1)];
    vec![Op::NoteDmarc(NoteDmarc { notes })]
}
