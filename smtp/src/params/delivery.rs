//! When and how urgently a message is delivered: FUTURERELEASE (RFC 4865), MT-PRIORITY (RFC 6710)
//! and DELIVERBY (RFC 2852).

use std::{fmt, str::FromStr};

use jiff::Timestamp;

use super::InvalidParameter;

/// The parameters of MAIL about the time and the urgency of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// HOLDFOR or HOLDUNTIL. None: the message goes out at once.
    pub hold: Option<Hold>,
    /// MT-PRIORITY.
    pub priority: Priority,
    /// BY. None: the server's own time limit.
    pub deliver_by: Option<DeliverBy>,
}

/// The time before which a message is not delivered (RFC 4865).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// HOLDFOR: that many seconds from now.
    For(u32),
    /// HOLDUNTIL: that moment.
    Until(Timestamp),
}

impl Hold {
    /// Reads the value of HOLDFOR: 1 to 9 digits.
    ///
    /// # Errors
    /// If it is of another form.
    pub fn parse_for(text: &str) -> Result<Self, InvalidParameter> {
        digits(text).map(Self::For)
    }

    /// Reads the value of HOLDUNTIL: a time of RFC 3339.
    ///
    /// # Errors
    /// If it is of another form.
    pub fn parse_until(text: &str) -> Result<Self, InvalidParameter> {
        let has_zone = text.contains(['T', 't']) && !text.contains(' ') && !text.contains('[');
        let time = text.parse().map_err(|_| InvalidParameter)?;
        has_zone
            .then_some(Self::Until(time))
            .ok_or(InvalidParameter)
    }
}

/// The form in DSNs: `for;SECONDS` or `until;TIME` (RFC 4865 §6).
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(seconds) => write!(f, "for;{seconds}"),
            Self::Until(time) => write!(f, "until;{time}"),
        }
    }
}

/// A priority from -9 to 9 (RFC 6710). 0 is normal, and higher is more urgent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i8);

impl Priority {
    /// The normal priority.
    pub const NORMAL: Self = Self(0);

    /// A priority. A number out of range becomes the next one in range.
    #[must_use]
    pub fn new(number: i8) -> Self {
        Self(number.clamp(-9, 9))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Priority {
    type Err = InvalidParameter;

    /// Reads `0`, or a digit from 1 to 9 that may have a `-` before it.
    fn from_str(text: &str) -> Result<Self, InvalidParameter> {
        let digit = text.strip_prefix('-').unwrap_or(text);
        let is_digit = matches!(digit.as_bytes(), [b'0'..=b'9']);
        match text.parse() {
            Ok(number) if is_digit && text != "-0" => Ok(Self(number)),
            _ => Err(InvalidParameter),
        }
    }
}

/// The time within which a message is to be delivered (RFC 2852).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// The seconds from now. With [`ByMode::Notify`] the time may be over already.
    pub seconds: i64,
    /// What happens when the time is over.
    pub mode: ByMode,
    /// Each server on the way reports to the sender that it passed the message on.
    pub trace: bool,
}

/// What happens to a message that was not delivered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByMode {
    /// `R`: it fails.
    Return,
    /// `N`: the sender is told, and the delivery goes on.
    Notify,
}

impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            ByMode::Return => 'R',
            ByMode::Notify => 'N',
        };
        let trace = if self.trace { "T" } else { "" };
        // RFC 2852 §4: at most nine digits.
        let seconds = self.seconds.clamp(-999_999_999, 999_999_999);
        write!(f, "{seconds};{mode}{trace}")
    }
}

impl FromStr for DeliverBy {
    type Err = InvalidParameter;

    /// Reads `SECONDS;MODE`, with `T` behind the mode for a trace.
    fn from_str(text: &str) -> Result<Self, InvalidParameter> {
        let (time, mode) = text.split_once(';').ok_or(InvalidParameter)?;
        let unsigned = time.strip_prefix(['-', '+']).unwrap_or(time);
        let seconds = i64::from(digits(unsigned)?);
        let (mode, trace) = match mode.to_ascii_uppercase().as_str() {
            "R" => (ByMode::Return, false),
            "RT" => (ByMode::Return, true),
            "N" => (ByMode::Notify, false),
            "NT" => (ByMode::Notify, true),
            _ => return Err(InvalidParameter),
        };
        Ok(Self {
            seconds: if time.starts_with('-') {
                -seconds
            } else {
                seconds
            },
            mode,
            trace,
        })
    }
}

/// A number of 1 to 9 digits.
fn digits(text: &str) -> Result<u32, InvalidParameter> {
    let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    let number = text.parse().map_err(|_| InvalidParameter)?;
    is_number.then_some(number).ok_or(InvalidParameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds() {
        let shown = |hold: Result<Hold, _>| hold.map(|hold| hold.to_string());
        assert_eq!(shown(Hold::parse_for("86400")).unwrap(), "for;86400");
        let until = Hold::parse_until("2026-12-01T10:00:00+01:00");
        assert_eq!(shown(until).unwrap(), "until;2026-12-01T09:00:00Z");
        for bad in ["", "-1", "+1", "1.5", "1234567890", "1s"] {
            assert!(Hold::parse_for(bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "2026-12-01",
            "2026-12-01T10:00:00",
            "2026-12-01 10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-12-01T10:00:00+01:00[Europe/Paris]",
        ] {
            assert!(Hold::parse_until(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn priorities() {
        for number in -9..=9 {
            let priority: Priority = number.to_string().parse().unwrap();
            assert_eq!((priority.get(), Priority::new(number)), (number, priority));
        }
        for bad in ["", "10", "-10", "+1", "-0", "01", "-", "x"] {
            assert!(bad.parse::<Priority>().is_err(), "{bad}");
        }
        assert_eq!(Priority::new(100).get(), 9);
    }

    #[test]
    fn deliver_by() {
        for text in ["120;R", "0;N", "-5;NT", "999999999;RT"] {
            assert_eq!(text.parse::<DeliverBy>().unwrap().to_string(), text);
        }
        let plus: DeliverBy = "+7;n".parse().unwrap();
        assert_eq!((plus.seconds, plus.mode), (7, ByMode::Notify));
        for bad in [
            "",
            "5",
            "5;",
            "5;X",
            "5;T",
            ";R",
            "--5;N",
            "1234567890;N",
            "5 ;N",
        ] {
            assert!(bad.parse::<DeliverBy>().is_err(), "{bad}");
        }
    }
}
