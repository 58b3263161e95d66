//! How TLS went with the hosts of other domains: counts of connections by day, domain and policy,
//! for reports (RFC 8460).
//!
//! The queue counts in memory, and notes what it counted every few seconds. The first note of a day
//! for a domain makes a report due.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{State, reports::DueReport};
use crate::{
    ReportKind, Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

/// How many policies of all domains have counts in one day. Further ones are not counted.
pub const TLS_ROWS_MAX: u64 = 100_000;
/// How many policies of one domain have counts in one day. A domain may change its records often.
pub const TLS_POLICIES_MAX: usize = 100;
/// How many different failures are kept for a policy and a day. The rest is in the sum alone.
pub const TLS_DETAILS_MAX: usize = 100;

/// The kind of a policy (RFC 8460 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TlsPolicyKind {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
    /// Neither.
    NoPolicyFound,
}

impl TlsPolicyKind {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::NoPolicyFound => "no-policy-found",
        }
    }
}

/// The type of a failure (RFC 8460 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub enum TlsResultType {
    StarttlsNotSupported,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    TlsaInvalid,
    DnssecInvalid,
    DaneRequired,
    StsPolicyFetchError,
    StsPolicyInvalid,
    StsWebpkiInvalid,
}

impl TlsResultType {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

/// A policy that connections are made under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TlsPolicy {
    /// The kind.
    pub kind: TlsPolicyKind,
    /// The domain that has the policy, in ASCII. Under DANE, the name of the TLSA records.
    pub domain: String,
    /// The policy's own words: TLSA records, or the lines of an MTA-STS policy.
    pub lines: Vec<String>,
    /// The patterns of MX hosts that an MTA-STS policy has.
    pub hosts: Vec<String>,
}

/// A failure of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TlsFailure {
    /// The type.
    pub result: TlsResultType,
    /// A short word for what exactly failed; empty if the type says all.
    pub reason: String,
    /// What happened, in words; empty if there is no more to say.
    pub text: String,
    /// The address of ours that the connection came from. None if it is not known.
    pub from: Option<IpAddr>,
    /// The name of the MX host; empty if no host was reached.
    pub host: String,
    /// Its address. None if no connection was made.
    pub to: Option<IpAddr>,
}

/// The counts of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsCounts {
    /// The policy.
    pub policy: TlsPolicy,
    /// How many connections were made as it says.
    pub successes: u64,
    /// How many were not.
    pub failures: u64,
    /// The failures, each with its number: [`TLS_DETAILS_MAX`] at most.
    pub details: Vec<(TlsFailure, u64)>,
}

impl TlsCounts {
    /// No connections yet.
    #[must_use]
    pub const fn none(policy: TlsPolicy) -> Self {
        Self {
            policy,
            successes: 0,
            failures: 0,
            details: Vec::new(),
        }
    }

    /// Adds counts of the same policy.
    pub fn add(&mut self, other: Self) {
        self.successes = self.successes.saturating_add(other.successes);
        self.failures = self.failures.saturating_add(other.failures);
        for (failure, count) in other.details {
            self.add_detail(failure, count);
        }
    }

    /// Adds so many failures to the details, and not to the sum.
    pub fn add_detail(&mut self, failure: TlsFailure, count: u64) {
        let room = self.details.len() < TLS_DETAILS_MAX;
        match self.details.iter_mut().find(|(known, _)| *known == failure) {
            Some((_, known)) => *known = known.saturating_add(count),
            None if room => self.details.push((failure, count)),
            None => {}
        }
    }
}

/// The counts of a day for a domain that may get a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsResults {
    /// Days since 1970, in UTC.
    pub day: u32,
    /// The domain, in ASCII.
    pub domain: String,
    /// By policy.
    pub counts: Vec<TlsCounts>,
}

impl TlsResults {
    /// Adds counts of the same day and domain. At most `room` of them may be about new policies.
    /// Gives how many are.
    pub fn add(&mut self, counts: Vec<TlsCounts>, room: u64) -> u64 {
        let mut new = 0;
        for other in counts {
            let has_room = new < room && self.counts.len() < TLS_POLICIES_MAX;
            let mut known = self.counts.iter_mut();
            match known.find(|known| known.policy == other.policy) {
                Some(known) => known.add(other),
                None if has_room => {
                    new += 1;
                    self.counts.push(other);
                }
                None => {}
            }
        }
        new
    }
}

/// Counts to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsNote {
    /// The counts.
    pub results: TlsResults,
    /// When the report about them is due, if none is yet.
    pub due: Time,
}

impl TlsNote {
    fn report(&self) -> DueReport {
        let TlsResults { day, domain, .. } = &self.results;
        DueReport::new(ReportKind::Tls, *day, domain, self.due)
    }
}

records! {
    TlsResults: version 1,
}

tables! {
    /// There are no counters.
    counters: (),
    /// By day and domain.
    results: Table<(u64, Name), TlsResults> = Table::new("tls_results"),
    /// How many rows each day has: one for each policy.
    rows: Table<u64, u64> = Table::new("tls_rows"),
}

subject!(counters (), keys 1);

operations! {
    TlsResults, version 1 weighed by weigh:
    NoteTls -> (), Ordinary;
}

/// Adds counts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoteTls {
    notes: Vec<TlsNote>,
}

fn weigh(op: &Op) -> usize {
    let Op::NoteTls(note) = op;
    note.notes.len()
}

impl Tables {
    /// Adds counts. Gives whether any of the day and domain are kept.
    fn add(&mut self, results: TlsResults) -> Result<bool, Fault> {
        let day = u64::from(results.day);
        let key = (day, Name::from(results.domain.as_str()));
        let rows = self.rows.get(&day)?.unwrap_or(0);
        let mut known = self.results.get(&key)?.unwrap_or_else(|| TlsResults {
            counts: Vec::new(),
            ..results.clone()
        });
        let new = known.add(results.counts, TLS_ROWS_MAX.saturating_sub(rows));
        if known.counts.is_empty() {
            return Ok(false);
        }
        self.results.put(key, known);
        self.rows.put(day, rows + new);
        Ok(true)
    }

    /// Forgets the counts of a day for a domain.
    pub(super) fn forget_day(&mut self, day: u32, domain: &str) -> Result<(), Fault> {
        let day = u64::from(day);
        let Some(results) = self.results.take(&(day, domain.into()))? else {
            return Ok(());
        };
        let rows = self.rows.get(&day)?.unwrap_or(0);
        match rows.saturating_sub(results.counts.len() as u64) {
            0 => self.rows.remove(&day),
            rows => self.rows.put(day, rows),
        }
        Ok(())
    }
}

impl State {
    /// Compares the number of rows of each day with the rows.
    pub(super) fn check_tls_results(&self, faults: &mut crate::table::Faults) -> Result<(), Fault> {
        let mut rows = std::collections::BTreeMap::new();
        self.tls_results.results.for_each(|(day, _), results| {
            *rows.entry(day).or_insert(0) += results.counts.len() as u64;
            Ok(())
        })?;
        let noted = self.tls_results.rows.all()?.into_iter().collect();
        faults.check(rows == noted, || {
            format!("the results about TLS have {rows:?} rows by day, and not {noted:?}")
        });
        Ok(())
    }
}

impl NoteTls {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        for note in self.notes {
            let report = note.report();
            if state.tls_results.add(note.results)? {
                state.reports.make_due(report)?;
            }
        }
        Ok(())
    }
}

questions! {
    ask One<'a> { day: u32, domain: &'a str } -> Option<TlsResults>,
    |this, state| state.tls_results.results.get(&(this.day.into(), this.domain.into())),
    |this, model| model.tls_results.one(this.day, this.domain);
}

impl Store {
    /// Adds counts of connections. A report about them becomes due.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn note_tls_results(&self, notes: Vec<TlsNote>) -> Result<(), StoreError> {
        self.change_by(NoteTls { notes }).await
    }

    /// The counts of a day for a domain. None: there are none.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn tls_results(
        &self,
        day: u32,
        domain: &str,
    ) -> Result<Option<TlsResults>, StoreError> {
        self.ask(One { day, domain }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let notes = vec![tests::note(20_000, "a.test", Time(1))];
    vec![Op::NoteTls(NoteTls { notes })]
}
