//! Times as people write them.

use std::{str::FromStr, time::Duration};

use jiff::{Timestamp, ToSpan, Zoned, civil, tz::TimeZone};
use postrider_config::parse_duration;
use postrider_store::Time;

/// A time relative to now: `now`, or a duration with or without a sign, such as `-1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// So much before now.
    Earlier(Duration),
    /// So much after now.
    Later(Duration),
}

/// A time: relative to now, or by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Relative to now.
    Relative(Offset),
    /// With an offset from UTC, as RFC 3339 has it: `2026-11-28T14:00:00Z`.
    Exact(Timestamp),
    /// A local time: `2026-11-28 14:00`, or a date alone, which is its beginning.
    Local(civil::DateTime),
    /// The next time at which the local clock shows this: `14:00`.
    Clock(civil::Time),
}

/// A time is before or after another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Before it.
    Before(Moment),
    /// After it.
    After(Moment),
}

/// Why a text is not a time or a bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// A bound has no direction.
    #[error("it must begin with \"<\" (before) or \">\" (after)")]
    Direction,
    /// The text is not an offset.
    #[error("{0:?} is not \"now\" or a duration such as \"1h30m\", \"-1h30m\" or \"2d\"")]
    Offset(String),
    /// The text is not a time.
    #[error(
        "{0:?} is not a time: write \"now\", a duration such as \"1h30m\" or \"-2d\", a time such as \
         \"2026-11-28T14:00:00Z\" or \"2026-11-28 14:00\" (local), or \"14:00\" (local)"
    )]
    Moment(String),
}

impl Offset {
    /// The time, if it is `now` at present.
    #[must_use]
    pub fn from(self, now: Time) -> Time {
        match self {
            Self::Earlier(duration) => now.before(duration),
            Self::Later(duration) => now.after(duration),
        }
    }
}

impl FromStr for Offset {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if text == "now" {
            return Ok(Self::Later(Duration::ZERO));
        }
        let (make, duration): (fn(Duration) -> Self, _) = match text.strip_prefix('-') {
            Some(earlier) => (Self::Earlier, earlier),
            None => (Self::Later, text.strip_prefix('+').unwrap_or(text)),
        };
        let duration = parse_duration(duration);
        let duration = duration.map_err(|_| MomentError::Offset(text.to_owned()))?;
        Ok(make(duration))
    }
}

impl Moment {
    /// The time, if it is `now` at present in this time zone. If a change of the clock skips a
    /// local time, the time is later by the length of the change.
    #[must_use]
    pub fn from(self, now: Time, zone: &TimeZone) -> Time {
        let at = |local: civil::DateTime| local.to_zoned(zone.clone()).map(|it| it.timestamp());
        let timestamp = match self {
            Self::Relative(offset) => return offset.from(now),
            Self::Exact(timestamp) => Ok(timestamp),
            Self::Local(local) => at(local),
            Self::Clock(time) => next(&now.timestamp().to_zoned(zone.clone()), time),
        };
        // A time that is out of the range of the calendar is no time that anybody means.
        timestamp.map_or(now, Time::from)
    }
}

/// The first time after `now` at which the clock shows `time`.
fn next(now: &Zoned, time: civil::Time) -> Result<Timestamp, jiff::Error> {
    let zone = now.time_zone();
    let today = now.date().to_datetime(time).to_zoned(zone.clone())?;
    if today > *now {
        return Ok(today.timestamp());
    }
    let tomorrow = now.date().checked_add(1.day())?;
    let tomorrow = tomorrow.to_datetime(time).to_zoned(zone.clone())?;
    Ok(tomorrow.timestamp())
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if let Ok(offset) = text.parse() {
            return Ok(Self::Relative(offset));
        }
        if let Ok(exact) = text.parse() {
            return Ok(Self::Exact(exact));
        }
        // The parser of local times reads a time with an offset too, and forgets the offset.
        let has_offset = text.ends_with(['z', 'Z']) || text.contains(['+', '[']);
        if has_offset {
            return Err(MomentError::Moment(text.to_owned()));
        }
        match (text.parse(), text.parse()) {
            (Ok(local), _) if text.contains('-') => Ok(Self::Local(local)),
            (_, Ok(time)) if text.contains(':') => Ok(Self::Clock(time)),
            _ => Err(MomentError::Moment(text.to_owned())),
        }
    }
}

impl FromStr for Bound {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if let Some(moment) = text.strip_prefix('<') {
            Ok(Self::Before(moment.trim().parse()?))
        } else if let Some(moment) = text.strip_prefix('>') {
            Ok(Self::After(moment.trim().parse()?))
        } else {
            Err(MomentError::Direction)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(10_000_000_000_000);

    #[test]
    fn reads_bounds() {
        let check = |text: &str, expected| assert_eq!(text.parse(), expected, "{text}");
        let earlier = |seconds| Moment::Relative(Offset::Earlier(Duration::from_secs(seconds)));
        let later = |seconds| Moment::Relative(Offset::Later(Duration::from_secs(seconds)));
        check("<now", Ok(Bound::Before(later(0))));
        check(">now", Ok(Bound::After(later(0))));
        check("<-1h30m", Ok(Bound::Before(earlier(5400))));
        check(">2h", Ok(Bound::After(later(7200))));
        check("> +1.5m", Ok(Bound::After(later(90))));
        check("<1d1s", Ok(Bound::Before(later(86401))));
        check("1h", Err(MomentError::Direction));
        for bad in ["", "h", "1", "1x", "-", "1h2", "99999999999999999999d", "é"] {
            check(&format!("<{bad}"), Err(MomentError::Moment(bad.into())));
        }
    }

    #[test]
    fn offsets_are_relative_to_now() {
        let at = |text: &str| text.parse::<Offset>().unwrap().from(NOW);
        assert_eq!(at("now"), NOW);
        assert_eq!(at("-1s"), Time(NOW.0 - 1_000_000));
        assert_eq!(at("1s"), Time(NOW.0 + 1_000_000));
        let error = "14:00".parse::<Offset>().unwrap_err();
        assert_eq!(error, MomentError::Offset("14:00".into()));
    }

    #[test]
    fn times_by_the_clock_are_local_or_have_an_offset() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = Time::from("2026-11-28T12:30:00Z".parse::<Timestamp>().unwrap());
        let at = |text: &str| text.parse::<Moment>().unwrap().from(now, &zone).to_string();
        for (text, expected) in [
            ("1h", "2026-11-28T13:30:00Z"),
            ("2026-11-28T14:00:00Z", "2026-11-28T14:00:00Z"),
            ("2026-11-28T14:00:00-05:00", "2026-11-28T19:00:00Z"),
            ("2026-11-28 14:00", "2026-11-28T12:00:00Z"),
            ("2026-11-28T14:00:30", "2026-11-28T12:00:30Z"),
            ("2026-11-29", "2026-11-28T22:00:00Z"),
            // The clock shows 14:30 now.
            ("15:00", "2026-11-28T13:00:00Z"),
            ("14:30", "2026-11-29T12:30:00Z"),
            ("09:15", "2026-11-29T07:15:00Z"),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
        for bad in ["25:00", "2026-13-01", "noon", "14", "14:00Z", "yesterday"] {
            let error = bad.parse::<Moment>().unwrap_err();
            assert_eq!(error, MomentError::Moment(bad.into()));
        }
    }
}
