//! The values of the parameters of MAIL and RCPT: BODY, RET, NOTIFY, the xtext encoding, and the
//! time and urgency of a delivery.

use std::{fmt, str::FromStr};

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

/// The value of ORCPT for an original recipient as `type;address`. None if the type is not an atom
/// or the address is missing.
pub(crate) fn orcpt(text: &str) -> Option<String> {
    let (kind, address) = text.split_once(';')?;
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if kind.is_empty() || !kind.bytes().all(atom) || address.is_empty() {
        return None;
    }
    let encoded = if kind.eq_ignore_ascii_case("utf-8") {
        utf8_addr::encode(address)
    } else {
        xtext::encode(address)
    };
    Some(format!("{kind};{encoded}"))
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

/// The encodings of an internationalised address (RFC 6533 §3).
pub mod utf8_addr {
    use std::fmt::Write as _;

    use super::InvalidParameter;

    /// The characters that stand for themselves in ASCII.
    const fn is_plain(c: char) -> bool {
        matches!(c, '!'..='~') && !matches!(c, '+' | '=' | '\\')
    }

    /// The ASCII form, utf-8-addr-xtext.
    #[must_use]
    pub fn encode(address: &str) -> String {
        let mut out = String::with_capacity(address.len());
        for c in address.chars() {
            match c {
                c if is_plain(c) => out.push(c),
                // Writing into a String cannot fail.
                _ => drop(write!(out, "\\x{{{:02X}}}", u32::from(c))),
            }
        }
        out
    }

    /// Decodes the ASCII form, and the form in UTF-8, utf-8-addr-unitext.
    ///
    /// # Errors
    /// A character is not encoded and must be, or `\x{...}` has no upper-case hexadecimal number of
    /// a character.
    pub fn decode(text: &str) -> Result<String, InvalidParameter> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if is_plain(c) || !c.is_ascii() {
                out.push(c);
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
                continue;
            }
            let (number, after) = rest
                .strip_prefix("\\x{")
                .and_then(|encoded| encoded.split_once('}'))
                .ok_or(InvalidParameter)?;
            let is_number = (2..=6).contains(&number.len())
                && number
                    .bytes()
                    .all(|it| matches!(it, b'0'..=b'9' | b'A'..=b'F'));
            let number = u32::from_str_radix(number, 16).ok().filter(|_| is_number);
            let c = number.and_then(char::from_u32).ok_or(InvalidParameter)?;
            out.push(c);
            rest = after;
        }
        Ok(out)
    }
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

    #[test]
    fn internationalised_addresses_of_rfc_6533() {
        for (text, address) in [
            ("j\u{f6}rg@x.test", "j\u{f6}rg@x.test"),
            (r"j\x{F6}rg@x.test", "j\u{f6}rg@x.test"),
            (r"\x{5C}\x{2B}\x{1F4E7}@x.test", "\\+\u{1f4e7}@x.test"),
        ] {
            assert_eq!(utf8_addr::decode(text).as_deref(), Ok(address));
            assert_eq!(
                utf8_addr::decode(&utf8_addr::encode(address)).as_deref(),
                Ok(address)
            );
        }
        for bad in [
            "a+b",
            "a=b",
            "a b",
            "a\\b",
            r"\x{}",
            r"\x{F}",
            r"\x{f6}",
            r"\x{F6",
            r"\x{D800}",
            r"\x{+F6}",
            r"\x{0000041}",
            "\u{7f}",
        ] {
            assert!(utf8_addr::decode(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn utf8_addr_round_trip(text in ".*") {
            prop_assert_eq!(utf8_addr::decode(&utf8_addr::encode(&text)).unwrap(), text);
        }

        #[test]
        fn xtext_round_trip(text in ".*") {
            prop_assert_eq!(xtext::decode(&xtext::encode(&text)).unwrap(), text);
        }
    }
}
