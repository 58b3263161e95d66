//! Times relative to now, as people write them.

use std::{str::FromStr, time::Duration};

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

/// A time is before or after another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Before it.
    Before(Offset),
    /// After it.
    After(Offset),
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

impl FromStr for Bound {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if let Some(offset) = text.strip_prefix('<') {
            Ok(Self::Before(offset.trim().parse()?))
        } else if let Some(offset) = text.strip_prefix('>') {
            Ok(Self::After(offset.trim().parse()?))
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
        let earlier = |seconds| Offset::Earlier(Duration::from_secs(seconds));
        let later = |seconds| Offset::Later(Duration::from_secs(seconds));
        check("<now", Ok(Bound::Before(later(0))));
        check(">now", Ok(Bound::After(later(0))));
        check("<-1h30m", Ok(Bound::Before(earlier(5400))));
        check(">2h", Ok(Bound::After(later(7200))));
        check("> +1.5m", Ok(Bound::After(later(90))));
        check("<1d1s", Ok(Bound::Before(later(86401))));
        check("1h", Err(MomentError::Direction));
        for bad in ["", "h", "1", "1x", "-", "1h2", "99999999999999999999d", "é"] {
            check(&format!("<{bad}"), Err(MomentError::Offset(bad.into())));
        }
    }

    #[test]
    fn offsets_are_relative_to_now() {
        let at = |text: &str| text.parse::<Offset>().unwrap().from(NOW);
        assert_eq!(at("now"), NOW);
        assert_eq!(at("-1s"), Time(NOW.0 - 1_000_000));
        assert_eq!(at("1s"), Time(NOW.0 + 1_000_000));
    }
}
