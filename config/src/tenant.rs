//! The customers of a provider, as `domains.D.tenant` and management keys name them.

use std::fmt;

/// The first number that a client in JavaScript can't tell from its neighbour.
const NUMBER_END: u64 = 1 << 53;
/// The longest name in bytes.
const NAME_MAX: usize = 128;

/// A customer. The number and the text of its digits are the same customer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tenant {
    /// A number below 2^53.
    Number(u64),
    /// A name of 1 to 128 bytes that is not only digits.
    Name(String),
}

impl Tenant {
    /// Reads a number or a name.
    ///
    /// # Errors
    /// A sentence about the text, if it is neither.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > NAME_MAX {
            return Err("must be a number below 2^53, or a name of 1 to 128 bytes");
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err("must not have control characters, or blanks around it");
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            if text.starts_with('-') && text.bytes().skip(1).all(|byte| byte.is_ascii_digit()) {
                return Err("must not be negative");
            }
            return Ok(Self::Name(text.to_owned()));
        }
        // Two texts for one number would be two customers for some readers and one for others.
        if text.len() > 1 && text.starts_with('0') {
            return Err("must be a number without zeros in front");
        }
        let number = text.parse().ok().filter(|number| *number < NUMBER_END);
        number
            .map(Self::Number)
            .ok_or("must be a number below 2^53")
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        let name = |name: &str| Ok(Tenant::Name(name.to_owned()));
        for (text, expected) in [
            ("0", Ok(Tenant::Number(0))),
            ("42", Ok(Tenant::Number(42))),
            ("9007199254740991", Ok(Tenant::Number(NUMBER_END - 1))),
            ("9007199254740992", Err("must be a number below 2^53")),
            ("007", Err("must be a number without zeros in front")),
            ("-1", Err("must not be negative")),
            ("acme", name("acme")),
            ("7th", name("7th")),
            ("-x", name("-x")),
        ] {
            assert_eq!(Tenant::parse(text), expected, "{text}");
        }
        for text in ["", " a", "a\n", &"x".repeat(129)] {
            assert!(Tenant::parse(text).is_err(), "{text:?}");
        }
        for text in ["42", "acme"] {
            assert_eq!(Tenant::parse(text).unwrap().to_string(), text);
        }
    }
}
