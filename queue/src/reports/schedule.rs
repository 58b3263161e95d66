//! When reports are sent, as pure functions.

use std::time::Duration;

use postrider_store::{ReportKind, Time};
use sha2::{Digest, Sha256};

/// The first reports of a day are sent so long after its end.
const FIRST: Duration = Duration::from_secs(5 * 60);
/// The last ones are sent so long after its end.
const LAST: Duration = Duration::from_secs(4 * 60 * 60);
/// The waits after a failure. There is no try after the last.
const WAITS: [Duration; 4] = [
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
];
/// How often a report is tried.
pub(super) const ATTEMPTS_MAX: u32 = WAITS.len() as u32 + 1;
/// How long a report is tried after it was first due.
pub(super) const TRIED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// The beginning of a day of UTC, by its number since 1970.
pub(super) const fn begin(day: u32) -> Time {
    Time(day as i64 * DAY)
}

/// The last second of a day.
pub(super) fn last_second(day: u32) -> Time {
    begin(day.saturating_add(1)).before(Duration::from_secs(1))
}

/// When the report about a day is due for a domain: some time between [`FIRST`] and [`LAST`] after
/// the end of the day. It is the same for each day, and another one for each server and domain: so
/// reports of many servers do not come to a domain in one second.
pub(super) fn due(kind: ReportKind, day: u32, domain: &str) -> Time {
    let hash = Sha256::digest(format!("{kind:?} {domain}"));
    let number = hash
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let spread = number % (LAST - FIRST).as_secs();
    let after = FIRST + Duration::from_secs(spread);
    begin(day.saturating_add(1)).after(after)
}

/// When a report is tried again after so many failures. None: it is given up.
pub(super) fn again(first_due: Time, failures: u32, now: Time) -> Option<Time> {
    let wait = usize::try_from(failures).ok()?.checked_sub(1)?;
    let again = now.after(*WAITS.get(wait)?);
    (again < first_due.after(TRIED_FOR)).then_some(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_spread_over_four_hours() {
        let day = 20_000;
        let end = begin(day + 1);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..1000 {
            let due = due(ReportKind::Tls, day, &format!("{number}.test"));
            assert!(end.after(FIRST) <= due && due < end.after(LAST));
            seen.insert(due.since(end).as_secs() / 3600);
        }
        assert_eq!(seen.len(), 4);
        let tls = due(ReportKind::Tls, day, "a.test");
        assert_eq!(tls, due(ReportKind::Tls, day, "a.test"));
        assert_ne!(tls, due(ReportKind::Dmarc, day, "a.test"));
        assert_ne!(tls, due(ReportKind::Tls, day, "b.test"));
        assert_eq!(last_second(0), Time(86_399_000_000));
    }

    #[test]
    fn a_report_is_tried_five_times_in_a_day() {
        let first = begin(20_001);
        let mut now = first;
        let mut tries = 1;
        while let Some(next) = again(first, tries, now) {
            assert!(next > now);
            now = next;
            tries += 1;
        }
        assert_eq!(tries, ATTEMPTS_MAX);
        assert!(now < first.after(TRIED_FOR));
        // After a long downtime nothing is tried any more.
        assert_eq!(again(first, 1, first.after(TRIED_FOR)), None);
        assert_eq!(again(first, 0, first), None);
    }
}
