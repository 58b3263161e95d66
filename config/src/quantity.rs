//! Sizes, rates, and the written form of durations.

use std::{fmt, num::NonZeroU32, time::Duration};

use crate::duration::{UNITS, split_number};

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

/// A number of things in a time. It is written as `"100/minute"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    /// The number.
    pub count: NonZeroU32,
    /// The time: a second, a minute, an hour or a day.
    pub per: Duration,
}

/// The times of rates in seconds.
const RATE_UNITS: [(&str, u64); 4] = [
    ("second", 1),
    ("minute", 60),
    ("hour", 60 * 60),
    ("day", 24 * 60 * 60),
];

impl Rate {
    /// Reads `"100/minute"`. The error is a sentence about the text.
    ///
    /// # Errors
    /// If the text is not a rate.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a rate; write a number per second, minute, hour or day, as in \
                \"100/minute\", or \"none\""
            )
        };
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let (digits, rest) = split_number(count);
        let count = digits.parse().map_err(|_| wrong())?;
        let mut units = RATE_UNITS.iter();
        let (_, seconds) = units
            .find(|(name, _)| *name == unit && rest.is_empty())
            .ok_or_else(wrong)?;
        let per = Duration::from_secs(*seconds);
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = RATE_UNITS.iter();
        match units.find(|(_, seconds)| *seconds == self.per.as_secs()) {
            Some((unit, _)) => write!(f, "{}/{unit}", self.count),
            None => write!(f, "{} in {}", self.count, format_duration(self.per)),
        }
    }
}

/// Writes a duration so that [`crate::parse_duration`] reads the same value. A part below a
/// millisecond is cut.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in UNITS {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse_duration;

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
    fn rates() {
        for (text, count, seconds) in [
            ("1/second", 1, 1),
            ("100/minute", 100, 60),
            ("4294967295/hour", u32::MAX, 3600),
            ("4000000000/day", 4_000_000_000, 86400),
            ("7/hour", 7, 3600),
            ("20/day", 20, 86400),
        ] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!((rate.count.get(), rate.per.as_secs()), (count, seconds));
            assert_eq!(rate.to_string(), text);
        }
        for text in [
            "",
            "100",
            "/minute",
            "0/minute",
            "-1/minute",
            "+1/minute",
            "1.5/minute",
            "1 /minute",
            "1/minutes",
            "1/m",
            "4294967296/day",
            "9999999999/day",
            "/",
            "5/week",
            "5/ day",
            "none",
        ] {
            assert!(Rate::parse(text).is_err(), "{text}");
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
            let _ = Rate::parse(&text);
            let _ = parse_duration(&text);
        }
    }
}
