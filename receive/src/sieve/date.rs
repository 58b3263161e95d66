//! Dates and their parts (RFC 5260 §4).

use jiff::{
    Timestamp, Zoned,
    civil::{self, DateTime},
    tz::{Offset, TimeZone},
};
use memchr::memrchr;
use postrider_smtp::field;

/// A part of a date (RFC 5260 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    Month,
    Day,
    Date,
    Julian,
    Hour,
    Minute,
    Second,
    Time,
    Iso8601,
    Std11,
    Zone,
    Weekday,
}

impl Part {
    /// The part with this name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "year" => Self::Year,
            "month" => Self::Month,
            "day" => Self::Day,
            "date" => Self::Date,
            "julian" => Self::Julian,
            "hour" => Self::Hour,
            "minute" => Self::Minute,
            "second" => Self::Second,
            "time" => Self::Time,
            "iso8601" => Self::Iso8601,
            "std11" => Self::Std11,
            "zone" => Self::Zone,
            "weekday" => Self::Weekday,
            _ => return None,
        })
    }

    /// The part of a date, as text.
    pub(super) fn of(self, date: &Zoned) -> String {
        match self {
            Self::Year => date.strftime("%Y").to_string(),
            Self::Month => date.strftime("%m").to_string(),
            Self::Day => date.strftime("%d").to_string(),
            Self::Date => date.strftime("%Y-%m-%d").to_string(),
            Self::Julian => julian(date).to_string(),
            Self::Hour => date.strftime("%H").to_string(),
            Self::Minute => date.strftime("%M").to_string(),
            Self::Second => date.strftime("%S").to_string(),
            Self::Time => date.strftime("%H:%M:%S").to_string(),
            Self::Iso8601 => date.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            Self::Std11 => date.strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
            Self::Zone => date.strftime("%z").to_string(),
            Self::Weekday => date.strftime("%w").to_string(),
        }
    }
}

/// The Modified Julian Day: the days since 17 November 1858.
fn julian(date: &Zoned) -> i32 {
    // 1 January 1970 is day 40,587.
    let epoch = civil::date(1970, 1, 1);
    let days = date.date().since((jiff::Unit::Day, epoch));
    40_587 + days.map_or(0, |span| span.get_days())
}

/// The date in the value of a field, with its own zone. In a field with parameters, such as
/// Received, the date stands behind the last semicolon.
pub(super) fn read(value: &[u8]) -> Option<Zoned> {
    let behind = memrchr(b';', value).map_or(0, |at| at + 1);
    let text = field::date(value.get(behind..)?)?;
    let instant: Timestamp = text.parse().ok()?;
    let civil: DateTime = match text.strip_suffix('Z') {
        Some(civil) => civil.parse().ok()?,
        None => text.get(..text.len().checked_sub(6)?)?.parse().ok()?,
    };
    let offset = civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second() - instant.as_second();
    let offset = Offset::from_seconds(i32::try_from(offset).ok()?).ok()?;
    Some(instant.to_zoned(TimeZone::fixed(offset)))
}

/// The zone with an offset such as `+0100` (RFC 5260 §4.1). None for another text.
pub(super) fn zone(offset: &str) -> Option<TimeZone> {
    let (sign, digits) = match offset.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i32 = digits.parse().ok()?;
    let (hours, minutes) = (number / 100, number % 100);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = Offset::from_seconds(sign * (hours * 60 + minutes) * 60).ok()?;
    Some(TimeZone::fixed(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_parts() {
        let date = read(b" Fri, 13 Feb 2009 23:31:30 -0130 (x)\r\n").unwrap();
        for (name, expected) in [
            ("year", "2009"),
            ("MONTH", "02"),
            ("day", "13"),
            ("date", "2009-02-13"),
            ("julian", "54875"),
            ("hour", "23"),
            ("minute", "31"),
            ("second", "30"),
            ("time", "23:31:30"),
            ("iso8601", "2009-02-13T23:31:30-01:30"),
            ("std11", "Fri, 13 Feb 2009 23:31:30 -0130"),
            ("zone", "-0130"),
            ("weekday", "5"),
        ] {
            assert_eq!(Part::named(name).unwrap().of(&date), expected);
        }
        let shifted = date.with_time_zone(zone("+0100").unwrap());
        assert_eq!(Part::Iso8601.of(&shifted), "2009-02-14T02:01:30+01:00");
        assert!(Part::named("century").is_none());
    }

    #[test]
    fn dates_stand_behind_parameters() {
        let value = b"from a by b; Mon, 1 Jan 2024 10:00:00 GMT";
        let date = read(value).unwrap();
        assert_eq!(Part::Iso8601.of(&date), "2024-01-01T10:00:00+00:00");
        for value in [
            "",
            "x",
            "Mon, 1 Jan 2024",
            "1 Jan 2024 10:00; ",
            "1 Jan 99999 1:00 +0000",
        ] {
            assert!(read(value.as_bytes()).is_none(), "{value}");
        }
        for text in [
            "",
            "+",
            "0100",
            "+01:00",
            "+2400",
            "+0160",
            "+01000",
            "x0100",
            "\u{e9}0100",
        ] {
            assert!(zone(text).is_none(), "{text}");
        }
    }
}
