//! Values in requests: addresses and times.

use jiff::{Timestamp, civil::DateTime, tz::Offset};
use postrider_smtp::Address;

use crate::error::{ApiError, Code};

/// Reads an address, strictly.
pub(crate) fn address(text: &str) -> Result<Address, ApiError> {
    Address::parse_strict(text).map_err(|error| {
        ApiError::new(
            Code::BadAddress,
            format!("parsing address {text:?}: {error}"),
        )
    })
}

/// The number of bytes in pairs of texts.
pub(crate) fn lengths<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> usize {
    let pairs = pairs.into_iter();
    pairs.map(|(name, value)| name.len() + value.len()).sum()
}

/// A date and a time of day, and their distance from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetTime {
    time: DateTime,
    offset: Offset,
}

impl OffsetTime {
    /// The point in time. The last hours of the year 9999 count as the last time that there is.
    pub(crate) fn timestamp(self) -> Timestamp {
        let far = if self.time.year() > 0 {
            Timestamp::MAX
        } else {
            Timestamp::MIN
        };
        self.offset.to_timestamp(self.time).unwrap_or(far)
    }

    /// The zero value of times in Go. Clients of the contract send it for no time.
    pub(crate) fn is_zero(self) -> bool {
        self.time == jiff::civil::date(1, 1, 1).at(0, 0, 0, 0) && self.offset == Offset::UTC
    }

    /// The form of the header field Date (RFC 5322 §3.3).
    pub(crate) fn header_form(self) -> String {
        let minutes = self.offset.seconds() / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let minutes = minutes.unsigned_abs();
        let time = self.time.strftime("%a, %-d %b %Y %H:%M:%S");
        format!("{time} {sign}{:02}{:02}", minutes / 60, minutes % 60)
    }
}

impl From<Timestamp> for OffsetTime {
    /// In UTC.
    fn from(time: Timestamp) -> Self {
        Self {
            time: Offset::UTC.to_datetime(time),
            offset: Offset::UTC,
        }
    }
}

/// Reads a time (RFC 3339 §5.6) with its offset. `jiff` alone reads more forms, which other servers
/// refuse.
///
/// # Errors
/// A text that says what is wrong.
pub(crate) fn rfc3339(text: &str) -> Result<OffsetTime, String> {
    let wrong = |what: &str| format!("{text:?} is not an RFC 3339 time: {what}");
    if !has_form(text.as_bytes()) {
        return Err(wrong("one looks like 2026-12-24T18:00:00Z"));
    }
    let zone = text.rfind(['Z', '+', '-']).unwrap_or(text.len());
    let (time, zone) = text.split_at_checked(zone).unwrap_or((text, ""));
    let time = time
        .parse()
        .map_err(|error: jiff::Error| wrong(&error.to_string()))?;
    let offset = offset(zone).ok_or_else(|| wrong("there is no such offset"))?;
    Ok(OffsetTime { time, offset })
}

/// The offset of `Z`, `+HH:MM` or `-HH:MM`.
fn offset(zone: &str) -> Option<Offset> {
    if zone == "Z" {
        return Some(Offset::UTC);
    }
    let (sign, digits) = zone.split_at_checked(1)?;
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * 60)?;
    Offset::from_seconds(if sign == "-" { -seconds } else { seconds }).ok()
}

fn has_form(text: &[u8]) -> bool {
    let Some((time, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            match rest.split_at_checked(digits) {
                Some((_, rest)) if digits > 0 => rest,
                _ => return false,
            }
        }
    };
    let zone = match rest {
        [b'+' | b'-', offset @ ..] => is_like(offset, b"00:00"),
        zone => zone == b"Z",
    };
    zone && is_like(time, b"0000-00-00T00:00:00")
}

/// Whether `text` has a digit for each 0 of `form`, and all other bytes are the same.
fn is_like(text: &[u8], form: &[u8]) -> bool {
    let same = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte == form,
    };
    text.len() == form.len() && text.iter().zip(form).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_offset() {
        let time = rfc3339("2023-11-14T22:13:20.5+01:00").unwrap();
        assert_eq!(time.timestamp().as_second(), 1_699_996_400);
        for (text, header) in [
            (
                "2023-11-14T22:13:20.5+01:00",
                "Tue, 14 Nov 2023 22:13:20 +0100",
            ),
            ("2023-11-04T22:13:20Z", "Sat, 4 Nov 2023 22:13:20 +0000"),
            (
                "2023-11-04T22:13:20-00:30",
                "Sat, 4 Nov 2023 22:13:20 -0030",
            ),
            ("9999-12-31T23:59:59Z", "Fri, 31 Dec 9999 23:59:59 +0000"),
            (
                "9999-12-31T23:59:59-12:00",
                "Fri, 31 Dec 9999 23:59:59 -1200",
            ),
        ] {
            assert_eq!(rfc3339(text).unwrap().header_form(), header);
        }
        assert_eq!(
            rfc3339("9999-12-31T23:59:59Z").unwrap().timestamp(),
            Timestamp::MAX
        );
        assert!(rfc3339("0001-01-01T00:00:00Z").unwrap().is_zero());
        for other in ["0001-01-01T00:00:01Z", "0001-01-01T00:00:00+01:00"] {
            assert!(!rfc3339(other).unwrap().is_zero());
        }
    }

    #[test]
    fn other_forms_of_times_are_refused() {
        for text in [
            "yesterday",
            "",
            "2023-11-14",
            "2023-11-14 22:13:20Z",
            "2023-11-14t22:13:20z",
            "2023-11-14T22:13Z",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+01",
            "2023-11-14T22:13:20Z[UTC]",
            "20231114T221320Z",
            "-002023-11-14T22:13:20Z",
            "2023-02-29T22:13:20Z",
            "2023-11-14T25:13:20Z",
            "2023-11-14T22:13:20+24:00",
            "2023-11-14T22:13:20+01:60",
        ] {
            assert!(rfc3339(text).is_err(), "{text}");
        }
    }
}
