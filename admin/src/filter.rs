//! Filters as people write them.

use std::time::Duration;

use postrider_store::Time;

/// Before or after a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Before it.
    Before(Time),
    /// After it.
    After(Time),
}

/// What is wrong with a time filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BoundError {
    /// It must begin with `<` or `>`.
    #[error("{0:?} must begin with \"<\" (before) or \">\" (after)")]
    Direction(String),
    /// The rest is not a duration.
    #[error("{0:?} is not a duration such as \"now\", \"-1h30m\" or \"2h\"")]
    Duration(String),
}

/// Reads `<D` or `>D`, where D is `now` or a signed duration of hours, minutes and seconds, relative to `now`.
///
/// # Errors
/// If it is not of that form.
pub fn bound(text: &str, now: Time) -> Result<Bound, BoundError> {
    let make = if text.starts_with('<') {
        Bound::Before
    } else if text.starts_with('>') {
        Bound::After
    } else {
        return Err(BoundError::Direction(text.to_owned()));
    };
    let offset = text.trim_start_matches(['<', '>']).trim();
    relative(offset, now)
        .map(make)
        .ok_or_else(|| BoundError::Duration(offset.to_owned()))
}

/// `now`, or a signed duration relative to it; None if it is neither.
#[must_use]
pub fn relative(offset: &str, now: Time) -> Option<Time> {
    if offset == "now" {
        return Some(now);
    }
    if let Some(earlier) = offset.strip_prefix('-') {
        return Some(now.before(duration(earlier)?));
    }
    Some(now.after(duration(offset.strip_prefix('+').unwrap_or(offset))?))
}

/// Numbers with the units d, h, m, s and ms one after the other, such as `1h30m` or `1.5h`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut left = text;
    let mut total = Duration::ZERO;
    while !left.is_empty() {
        let digits = left.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = left.split_at_checked(digits)?;
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (unit, rest) = rest.split_at_checked(unit_len)?;
        let seconds = match unit {
            "d" => 86400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        left = rest;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(10_000_000_000_000);

    #[test]
    fn reads_bounds() {
        let check = |text: &str, expected| assert_eq!(bound(text, NOW), expected, "{text}");
        let seconds = Duration::from_secs;
        check("<now", Ok(Bound::Before(NOW)));
        check(">now", Ok(Bound::After(NOW)));
        check("<-1h30m", Ok(Bound::Before(NOW.before(seconds(5400)))));
        check(">2h", Ok(Bound::After(NOW.after(seconds(7200)))));
        check("> +1.5m", Ok(Bound::After(NOW.after(seconds(90)))));
        check("<1d1s", Ok(Bound::Before(NOW.after(seconds(86401)))));
        check("1h", Err(BoundError::Direction("1h".into())));
        for bad in ["", "h", "1", "1x", "-", "1h2", "99999999999999999999d", "é"] {
            check(&format!("<{bad}"), Err(BoundError::Duration(bad.into())));
        }
    }
}
