//! Days.

use std::fmt;

/// The days from 1970-01-01 to the year 9999.
const MAX: u32 = 2_932_896;

/// A day in UTC, as the number of days since 1970-01-01. It is written as `2026-12-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    /// Reads `2026-12-01`. The error is a sentence about the text.
    ///
    /// # Errors
    /// If the text is not a day from 1970 to 9999.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be a date such as 2026-12-01, not {text:?}");
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let all = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| all)
        };
        let (year, month, day) = (number(4), number(2), number(2));
        let (Some(year), Some(month), Some(day), None) = (year, month, day, parts.next()) else {
            return Err(wrong());
        };
        let is_date = year >= 1970 && (1..=12).contains(&month) && day >= 1;
        if !is_date || day > days_of(year, month) {
            return Err(wrong());
        }
        let before = (1970..year).map(|year| 365 + u32::from(is_leap(year)));
        let months = (1..month).map(|month| days_of(year, month));
        Ok(Self(before.chain(months).sum::<u32>() + day - 1))
    }
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut year, mut left) = (1970, self.0.min(MAX));
        while left >= 365 + u32::from(is_leap(year)) {
            left -= 365 + u32::from(is_leap(year));
            year += 1;
        }
        let mut month = 1;
        while left >= days_of(year, month) {
            left -= days_of(year, month);
            month += 1;
        }
        write!(f, "{year:04}-{month:02}-{:02}", left + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days() {
        for (text, number) in [
            ("1970-01-01", 0),
            ("1972-02-29", 789),
            ("2000-02-29", 11_016),
            ("2026-12-01", 20_788),
            ("9999-12-31", MAX),
        ] {
            assert_eq!(Day::parse(text), Ok(Day(number)), "{text}");
        }
        for text in [
            "",
            "2026-12",
            "2026-12-01-01",
            "2026-12-1",
            "2026-13-01",
            "2026-00-01",
            "2026-12-00",
            "2026-02-29",
            "2100-02-29",
            "1969-12-31",
            "+026-12-01",
            "2026-12-01T00:00:00Z",
            "tomorrow",
        ] {
            assert!(Day::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_day_is_read_again(number in 0..=MAX) {
            prop_assert_eq!(Day::parse(&Day(number).to_string()), Ok(Day(number)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}|[0-9]{4}-[0-9]{2}-[0-9]{2}") {
            if let Ok(day) = Day::parse(&text) {
                prop_assert_eq!(day.to_string(), text);
            }
        }
    }
}
