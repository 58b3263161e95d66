//! Sizes and durations, as they are written in the configuration and on the command line.

use std::{fmt, time::Duration};

/// A number of bytes. It is written as `"25MB"` (10^6), `"25MiB"` (2^20) or a bare number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// Units of sizes, largest first. The first unit that divides a number gives its shortest form.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl Size {
    /// Reads `"25MB"`, `"25MiB"` or `"25"`. The error is a sentence about the text.
    ///
    /// # Errors
    /// If the text is not a size, or is too large.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text);
        let wrong = || {
            format!(
                "{text:?} is not a size; write a number and a unit, as in \"25MB\" or \"25MiB\""
            )
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor = match unit {
            "" => 1,
            "kB" => 1_000,
            unit => SIZE_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, factor)| *factor)
                .ok_or_else(wrong)?,
        };
        number
            .checked_mul(factor)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is too large a size"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SIZE_UNITS
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match fits {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "0B"),
        }
    }
}

/// Units of durations in milliseconds, in the order in which they must be written.
const DURATION_UNITS: [(&str, u64); 5] = [
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
            "{text:?} is not a duration; write numbers with units, as in \"90s\", \"7m30s\", \"72h\" or \"3d\""
        )
    };
    let mut rest = text;
    let mut units = DURATION_UNITS.iter();
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

/// Writes a duration so that [`parse_duration`] reads the same value. A part below a millisecond is
/// cut.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// Splits a text behind its first digits.
fn split_number(text: &str) -> (&str, &str) {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("25", 25),
            ("25B", 25),
            ("25MB", 25_000_000),
            ("25MiB", 25 << 20),
            ("256KiB", 256 << 10),
            ("1kB", 1000),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "MB",
            "-1",
            "1.5MB",
            "25 MB",
            "25mb",
            "99999999TiB",
            "9223372036854775808",
        ] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

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

    proptest! {
        #[test]
        fn sizes_and_durations_are_written_and_read_again(number in 0..=i64::MAX as u64) {
            prop_assert_eq!(Size::parse(&Size(number).to_string()), Ok(Size(number)));
            let duration = Duration::from_millis(number);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Size::parse(&text);
            let _ = parse_duration(&text);
        }
    }
}
