//! The values of the parameters of MAIL and RCPT: BODY, RET, NOTIFY, the xtext encoding, and the
//! time and urgency of a delivery.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

mod delivery;

pub use self::delivery::{ByMode, DeliverBy, DeliveryOptions, Hold, Priority};

/// The value of a parameter is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad parameter value")]
pub struct InvalidParameter;

/// BODY of MAIL (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyType {
    /// Lines of bytes below 128. This is the default.
    #[default]
    SevenBit,
    /// Lines of any bytes.
    EightBitMime,
    /// Any bytes, not in lines. Needs BDAT.
    BinaryMime,
}

impl fmt::Display for BodyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
            Self::BinaryMime => "BINARYMIME",
        })
    }
}

impl FromStr for BodyType {
    type Err = InvalidParameter;

    fn from_str(text: &str) -> Result<Self, InvalidParameter> {
        [Self::SevenBit, Self::EightBitMime, Self::BinaryMime]
            .into_iter()
            .find(|body| body.to_string().eq_ignore_ascii_case(text))
            .ok_or(InvalidParameter)
    }
}

/// RET of MAIL: the part of the message that a failure DSN returns (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The header section.
    Headers,
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        })
    }
}

impl FromStr for Ret {
    type Err = InvalidParameter;

    fn from_str(text: &str) -> Result<Self, InvalidParameter> {
        [Self::Full, Self::Headers]
            .into_iter()
            .find(|ret| ret.to_string().eq_ignore_ascii_case(text))
            .ok_or(InvalidParameter)
    }
}

/// NOTIFY of RCPT: the events that the sender wants a DSN for (RFC 3461 §4.1). Without any it is
/// `NEVER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notify {
    /// The delivery.
    pub success: bool,
    /// The failure.
    pub failure: bool,
    /// A delay.
    pub delay: bool,
}

impl Notify {
    /// NOTIFY=NEVER.
    pub const NEVER: Self = Self {
        success: false,
        failure: false,
        delay: false,
    };
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("NEVER");
        }
        let wanted = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let mut separator = "";
        for (_, word) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
            write!(f, "{separator}{word}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for Notify {
    type Err = InvalidParameter;

    fn from_str(text: &str) -> Result<Self, InvalidParameter> {
        let mut notify = Self::NEVER;
        if text.eq_ignore_ascii_case("NEVER") {
            return Ok(notify);
        }
        for word in text.split(',') {
            let wanted = match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => &mut notify.success,
                "FAILURE" => &mut notify.failure,
                "DELAY" => &mut notify.delay,
                _ => return Err(InvalidParameter),
            };
            *wanted = true;
        }
        Ok(notify)
    }
}

/// The encoding of ENVID and ORCPT values (RFC 3461 §4).
pub mod xtext {
    use super::InvalidParameter;

    /// Encodes a text. `+`, `=` and all but printable ASCII becomes `+XX`.
    #[must_use]
    pub fn encode(text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'!'..=b'~' if byte != b'+' && byte != b'=' => out.push(char::from(byte)),
                _ => {
                    out.push('+');
                    for digit in [byte >> 4, byte & 15] {
                        let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                        out.push(digit.to_ascii_uppercase());
                    }
                }
            }
        }
        out
    }

    /// Decodes a text.
    ///
    /// # Errors
    /// A character is not encoded and must be, a `+` has no two upper-case hexadecimal digits after
    /// it (RFC 3461 §4), or the result is not UTF-8.
    pub fn decode(text: &str) -> Result<String, InvalidParameter> {
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        let digit = |byte: Option<u8>| match byte {
            Some(byte @ b'0'..=b'9') => Ok(byte - b'0'),
            Some(byte @ b'A'..=b'F') => Ok(byte - b'A' + 10),
            _ => Err(InvalidParameter),
        };
        while let Some(byte) = bytes.next() {
            match byte {
                b'+' => out.push((digit(bytes.next())? << 4) | digit(bytes.next())?),
                b'!'..=b'~' if byte != b'=' => out.push(byte),
                _ => return Err(InvalidParameter),
            }
        }
        String::from_utf8(out).map_err(|_| InvalidParameter)
    }
}

/// The ASCII form of an internationalised address: utf-8-addr-xtext (RFC 6533 §3).
pub(crate) fn utf8_addr_xtext(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for c in address.chars() {
        match c {
            '!'..='~' if !matches!(c, '+' | '=' | '\\') => out.push(c),
            // Writing into a String cannot fail.
            _ => drop(write!(out, "\\x{{{:02X}}}", u32::from(c))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words() {
        assert_eq!("8bitmime".parse(), Ok(BodyType::EightBitMime));
        assert_eq!("hdrs".parse(), Ok(Ret::Headers));
        assert!("".parse::<Ret>().is_err() && "8BIT".parse::<BodyType>().is_err());
    }

    #[test]
    fn notify() {
        for text in ["NEVER", "SUCCESS", "FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"] {
            assert_eq!(text.parse::<Notify>().unwrap().to_string(), text);
        }
        for bad in ["", "NEVER,SUCCESS", "SUCCESS,", "ALWAYS"] {
            assert!(bad.parse::<Notify>().is_err(), "{bad}");
        }
    }

    #[test]
    fn xtext_of_rfc_3461() {
        assert_eq!(xtext::encode("a+b=c d"), "a+2Bb+3Dc+20d");
        for bad in ["+", "+2", "+2b", "a b", "a=b", "+ZZ", "+FF"] {
            assert!(xtext::decode(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn xtext_round_trip(text in ".*") {
            prop_assert_eq!(xtext::decode(&xtext::encode(&text)).unwrap(), text);
        }
    }
}
