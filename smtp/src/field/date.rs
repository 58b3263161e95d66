//! Dates (RFC 5322 §3.3), also in the obsolete forms (§4.3) and with common mistakes.

use jiff::{civil::DateTime, tz::Offset};

use super::{mailbox::comment_end, unfolded};

/// The time of a value, in the form of RFC 3339 with the offset of its zone. None for a value that
/// is no date, and for a date that no calendar has.
///
/// The names of zones other than those of RFC 5322 §4.3 say nothing reliable. They count as UTC.
#[must_use]
pub fn date(value: &[u8]) -> Option<String> {
    let value = unfolded(value);
    let mut parts = Parts::default();
    let mut rest = &*value;
    while let Some(first) = rest.first() {
        let length = match first {
            b'(' => comment_end(rest),
            b',' => 1,
            byte if byte.is_ascii_whitespace() => 1,
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b",(".contains(byte);
                let length = rest.iter().position(ends).unwrap_or(rest.len());
                parts.take(std::str::from_utf8(rest.get(..length)?).ok()?)?;
                length
            }
        };
        rest = rest.get(length..)?;
    }
    parts.shown()
}

/// The parts of a date, as far as they are read.
#[derive(Default)]
struct Parts {
    day: Option<i8>,
    month: Option<i8>,
    year: Option<i16>,
    time: Option<[i8; 3]>,
    /// In seconds.
    offset: Option<i32>,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

impl Parts {
    /// Takes a word. None if it can't be part of a date.
    fn take(&mut self, word: &str) -> Option<()> {
        if word.contains(':') && self.time.is_none() {
            // A zone may follow without a space.
            let end = word.find(|letter: char| !letter.is_ascii_digit() && letter != ':');
            let (time, zone) = word.split_at_checked(end.unwrap_or(word.len()))?;
            self.time = Some(clock(time)?);
            if !zone.is_empty() {
                self.offset = Some(zone_offset(zone)?);
            }
        } else if word.bytes().all(|byte| byte.is_ascii_digit()) {
            match (self.day, word.len()) {
                (None, 1 | 2) => self.day = word.parse().ok(),
                _ if self.year.is_none() => self.year = Some(year(word)?),
                _ => return None,
            }
        } else if word.starts_with(['+', '-']) || self.time.is_some() && self.offset.is_none() {
            self.offset = Some(zone_offset(word)?);
        } else if self.month.is_none() {
            let name = word.get(..3).map(str::to_ascii_lowercase);
            let month = MONTHS
                .iter()
                .position(|month| Some(*month) == name.as_deref());
            // Else it is the day of the week, which the date tells.
            self.month = month.and_then(|at| i8::try_from(at + 1).ok());
        }
        Some(())
    }

    fn shown(&self) -> Option<String> {
        let [hour, minute, second] = self.time?;
        let date =
            DateTime::new(self.year?, self.month?, self.day?, hour, minute, second, 0).ok()?;
        let offset = self.offset.unwrap_or_default();
        // Readers refuse a time that is out of range in UTC.
        Offset::from_seconds(offset).ok()?.to_timestamp(date).ok()?;
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.unsigned_abs() / 60;
        Some(match offset {
            0 => format!("{date}Z"),
            _ => format!("{date}{sign}{:02}:{:02}", minutes / 60, minutes % 60),
        })
    }
}

/// Hours, minutes, and seconds if there are any.
fn clock(text: &str) -> Option<[i8; 3]> {
    let mut parts = text.split(':');
    let mut part = |default: Option<&'static str>| {
        let digits = parts.next().or(default)?;
        let fits = (1..=2).contains(&digits.len());
        digits.parse().ok().filter(|_| fits)
    };
    let time = [part(None)?, part(None)?, part(Some("0"))?];
    parts.next().is_none().then_some(time)
}

/// A year. Two and three digits are the obsolete forms of RFC 5322 §4.3.
fn year(digits: &str) -> Option<i16> {
    let number: i16 = digits.parse().ok()?;
    Some(match (digits.len(), number) {
        (2, 0..50) => number + 2000,
        (2 | 3, _) => number + 1900,
        _ => number,
    })
}

/// The offset of a zone in seconds.
fn zone_offset(zone: &str) -> Option<i32> {
    if let Some(sign) = zone.chars().next().filter(|sign| matches!(sign, '+' | '-')) {
        let digits: String = zone
            .chars()
            .skip(1)
            .filter(|letter| *letter != ':')
            .collect();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: i32 = digits.parse().ok()?;
        let (hours, minutes) = match digits.len() {
            1 | 2 => (number, 0),
            3 | 4 => (number / 100, number % 100),
            _ => return None,
        };
        let seconds = (minutes < 60).then_some((hours * 60 + minutes) * 60)?;
        return Some(if sign == '-' { -seconds } else { seconds });
    }
    if !zone.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let hours = match zone.to_ascii_uppercase().as_str() {
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        _ => 0,
    };
    Some(hours * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (value, expected) in [
            (
                "Tue, 14 Nov 2023 22:13:20 +0100",
                Some("2023-11-14T22:13:20+01:00"),
            ),
            (
                "Thu, 29 Feb 2024 23:59:59 -0030",
                Some("2024-02-29T23:59:59-00:30"),
            ),
            ("Fri, 1 Mar 2024 00:00:00 GMT", Some("2024-03-01T00:00:00Z")),
            ("1 Mar 2024 00:00 -0000", Some("2024-03-01T00:00:00Z")),
            // One letter, with and without a line end.
            (
                "Mon, 1 Jan 2024 22:13:20 Z\r\n",
                Some("2024-01-01T22:13:20Z"),
            ),
            ("Mon, 1 Jan 2024 22:13:20 A", Some("2024-01-01T22:13:20Z")),
            ("Mon, 1 Jan 2024 22:13:20 j\n", Some("2024-01-01T22:13:20Z")),
            // The obsolete forms.
            ("1 Jan 24 22:13:20 EST", Some("2024-01-01T22:13:20-05:00")),
            ("1 Jan 99 22:13:20 UT", Some("1999-01-01T22:13:20Z")),
            ("1 Jan 101 22:13:20 PDT", Some("2001-01-01T22:13:20-07:00")),
            (
                "Mon (day), 1 (x) Jan\r\n 2024 22:13:20 (a (b)) +0000 (UTC)",
                Some("2024-01-01T22:13:20Z"),
            ),
            // Mistakes.
            ("Mon Jan  1 22:13:20 2024", Some("2024-01-01T22:13:20Z")),
            ("Mon, 1 Jan 2024 22:13:20", Some("2024-01-01T22:13:20Z")),
            (
                "Mon, 1 Jan 2024 22:13:20 +01:30",
                Some("2024-01-01T22:13:20+01:30"),
            ),
            (
                "Mon, 1 Jan 2024 22:13:20+0100",
                Some("2024-01-01T22:13:20+01:00"),
            ),
            (
                "Monday, 1 January 2024 22:13:20 CET",
                Some("2024-01-01T22:13:20Z"),
            ),
            // No calendar has these.
            ("Wed, 29 Feb 2023 10:00:00 +0000", None),
            ("Fri, 1 Mar 2024 24:00:00 +0000", None),
            ("Fri, 1 Mar 2024 10:00:60 +0000", None),
            ("Fri, 1 Mar 2024 10:00:00 +9900", None),
            ("1 Mar 99999 10:00:00 +0000", None),
            ("1 Foo 2024 10:00:00 +0000", None),
            ("yesterday", None),
            ("", None),
            ("1 Mar 2024 1:2:3:4", None),
            ("1 Mar 2024", None),
        ] {
            assert_eq!(date(value.as_bytes()).as_deref(), expected, "{value}");
        }
    }
}
