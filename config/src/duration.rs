//! The grammar of durations. The configuration, the command line and the tasks use it.
//!
//! This file needs only the standard library, because the tasks include it as source.

use std::time::Duration;

/// Units of durations in milliseconds, in the order in which they must be written.
pub(crate) const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration such as `"90s"`, `"7m30s"`, `"1.5h"`, `"3d"` or `"250ms"`. The error is a
/// sentence about the text.
///
/// This is the only grammar of durations: the configuration, the command line and the tasks use it.
/// A duration is a sequence of numbers with units. Units go from the largest to the smallest, each
/// at most once, so that a slip such as `"5m5m"` is an error. A number may have a fraction. The
/// result is a whole number of milliseconds.
///
/// # Errors
/// If the text is not a duration, is finer than a millisecond, or is too long.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is not a duration; write numbers with units, as in \"90s\", \"7m30s\", \
            \"72h\" or \"3d\""
        )
    };
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    loop {
        let (whole, tail) = split_number(rest);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => split_number(tail),
            None => ("0", tail),
        };
        let unit_length = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        // The search goes on behind the last unit. That enforces the order of the units.
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = fraction_of(fraction, *factor).ok_or_else(wrong)?;
        total = whole
            .checked_mul(*factor)
            .and_then(|millis| total.checked_add(millis)?.checked_add(part))
            .filter(|millis| i64::try_from(*millis).is_ok())
            .ok_or_else(|| format!("{text:?} is too long a duration"))?;
        if tail.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = tail;
    }
}

/// The share `0.DIGITS` of a unit, in milliseconds. None if there are no digits, too many of them,
/// or if the share is not a whole number of milliseconds.
fn fraction_of(digits: &str, unit: u64) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    let scale = 10_u64.checked_pow(digits.len().try_into().ok()?)?;
    let scaled = number.checked_mul(unit)?;
    scaled.is_multiple_of(scale).then_some(scaled / scale)
}

/// Splits a text behind its first digits.
pub(crate) fn split_number(text: &str) -> (&str, &str) {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("7m30s", 450),
            ("72h", 72 * 3600),
            ("3d", 3 * 86400),
            ("1d1h1m1s", 86400 + 3600 + 61),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("1s250ms"), Ok(Duration::from_millis(1250)));
        assert_eq!(parse_duration("1.25s"), Ok(Duration::from_millis(1250)));
        assert_eq!(parse_duration("1.5h0.5m"), Ok(Duration::from_secs(5430)));
        for text in [
            "",
            "0",
            "5",
            "s",
            "30s7m",
            "5m5m",
            "1.h",
            ".5h",
            "1.5.5h",
            "0.5ms",
            "1.00001s",
            "1.99999999999999999999s",
            "-1s",
            " 1s",
            "1w",
            "999999999999d",
            "1s\u{0661}",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
