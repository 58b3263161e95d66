//! Options that several commands read in the same way.

use anyhow::bail;
use jiff::tz::TimeZone;
use postrider_store::{Clock, NextAttempt, Order, SystemClock, Time};

use super::Usage;
use crate::cli::{Bound, Listing, Moment, Offset, When};

/// Refuses a command that would change everything by mistake. `any` is true if no filter is given.
pub(super) fn check_selection(any: bool, all: bool, what: &str) -> anyhow::Result<()> {
    if any && !all {
        bail!(Usage(format!("say which {what}, or --all for every one")));
    }
    if !any && all {
        bail!(Usage("--all and a filter exclude each other".to_owned()));
    }
    Ok(())
}

/// The order of a list that has the oldest entry first unless it is reversed.
pub(super) const fn oldest_first(listing: Listing) -> Order {
    match listing.reverse {
        false => Order::Ascending,
        true => Order::Descending,
    }
}

/// The order of a list that has the newest entry first unless it is reversed.
pub(super) const fn newest_first(listing: Listing) -> Order {
    match listing.reverse {
        false => Order::Descending,
        true => Order::Ascending,
    }
}

/// A bound as the times "before" and "after". At most one of them is given.
pub(super) fn bounds(bound: Option<Bound>) -> (Option<Time>, Option<Time>) {
    match bound {
        None => (None, None),
        Some(Bound::Before(moment)) => (Some(time_of(moment)), None),
        Some(Bound::After(moment)) => (None, Some(time_of(moment))),
    }
}

/// The time of a moment in the time zone of this machine.
pub(super) fn time_of(moment: Moment) -> Time {
    moment.from(SystemClock.now(), &TimeZone::system())
}

/// A Message-ID with `<` and `>`, as messages have it.
pub(super) fn bracketed(message_id: &str) -> String {
    let bare = message_id.trim().trim_matches(['<', '>']);
    format!("<{bare}>")
}

/// Now.
pub(super) fn now() -> NextAttempt {
    NextAttempt::At(SystemClock.now())
}

/// The new time of the next attempt.
pub(super) fn next_attempt(when: &When) -> NextAttempt {
    match (when.at, when.by) {
        (Some(at), _) => NextAttempt::At(time_of(at)),
        (None, by) => {
            let now = SystemClock.now();
            let moved = by.map_or(now, |by: Offset| by.from(now));
            NextAttempt::Shift(moved.0.saturating_sub(now.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_selected_only_on_purpose() {
        assert!(check_selection(true, true, "messages").is_ok());
        assert!(check_selection(false, false, "messages").is_ok());
        for (any, all) in [(true, false), (false, true)] {
            let error = check_selection(any, all, "messages").unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains("--all"));
        }
    }

    #[test]
    fn a_message_id_gets_its_brackets() {
        assert_eq!(bracketed("a@b"), "<a@b>");
        assert_eq!(bracketed(" <a@b> "), "<a@b>");
    }

    #[test]
    fn a_next_attempt_moves_by_an_offset() {
        let by = |text: &str| When {
            at: None,
            by: Some(text.parse().unwrap()),
        };
        let minutes = |minutes: i64| NextAttempt::Shift(minutes * 60_000_000);
        assert_eq!(next_attempt(&by("1h30m")), minutes(90));
        assert_eq!(next_attempt(&by("-10m")), minutes(-10));
    }
}
