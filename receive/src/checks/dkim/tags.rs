//! Tag lists, such as `v=1; d=example.org` (RFC 6376 §3.2): the syntax of signatures and of key
//! records.

use std::{ops::Range, str};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use postrider_smtp::Domain;

/// The most tags of one list. RFC 6376 has 12 for a signature.
const MAX_TAGS: usize = 64;

/// Base64 with or without the signs at its end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is no tag list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagFault {
    /// Something between two semicolons is not `name=value`.
    #[error("a tag is not name=value")]
    Syntax,
    /// A tag is there twice.
    #[error("a tag is there twice")]
    Duplicate,
    /// There are more tags than a list can mean.
    #[error("too many tags")]
    TooMany,
}

/// A tag list.
#[derive(Debug)]
pub(crate) struct Tags<'a> {
    list: &'a [u8],
    /// The name of each tag, and where its value is: all bytes from the `=` to the `;`.
    tags: Vec<(&'a [u8], Range<usize>)>,
}

impl<'a> Tags<'a> {
    /// Reads a tag list strictly. The case of names matters, and no name is there twice.
    pub(crate) fn parse(list: &'a [u8]) -> Result<Self, TagFault> {
        let mut tags: Vec<(&[u8], Range<usize>)> = Vec::new();
        let mut begin = 0;
        while begin < list.len() {
            let rest = list.get(begin..).unwrap_or_default();
            let length = rest.iter().position(|byte| *byte == b';');
            let end = begin + length.unwrap_or(rest.len());
            let spec = list.get(begin..end).unwrap_or_default();
            // One semicolon at the end is allowed.
            if spec.trim_ascii().is_empty() && length.is_none() && !tags.is_empty() {
                break;
            }
            let equals = spec.iter().position(|byte| *byte == b'=');
            let equals = equals.ok_or(TagFault::Syntax)?;
            let (name, value) = spec.split_at_checked(equals).ok_or(TagFault::Syntax)?;
            let name = name.trim_ascii();
            let starts = name.first().is_some_and(u8::is_ascii_alphabetic);
            let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
            if !starts || !name.iter().all(goes_on) || value.iter().any(is_control) {
                return Err(TagFault::Syntax);
            }
            if tags.iter().any(|(known, _)| *known == name) {
                return Err(TagFault::Duplicate);
            }
            if tags.len() == MAX_TAGS {
                return Err(TagFault::TooMany);
            }
            tags.push((name, begin + equals + 1..end));
            begin = end + 1;
        }
        match tags.is_empty() {
            true => Err(TagFault::Syntax),
            false => Ok(Self { list, tags }),
        }
    }

    /// Where in the list the value of a tag is, with the white space around it.
    pub(crate) fn span(&self, name: &str) -> Option<Range<usize>> {
        let found = self
            .tags
            .iter()
            .find(|(known, _)| *known == name.as_bytes());
        found.map(|(_, span)| span.clone())
    }

    /// The value of a tag, without the white space around it.
    pub(crate) fn get(&self, name: &str) -> Option<&'a [u8]> {
        let value = self.list.get(self.span(name)?);
        value.map(<[u8]>::trim_ascii)
    }

    /// The name of the first tag.
    pub(crate) fn first(&self) -> &'a [u8] {
        self.tags.first().map(|(name, _)| *name).unwrap_or_default()
    }
}

/// The name and the value of a tag, without the white space around each. None if there is no `=`.
pub(crate) fn name_and_value(spec: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = spec.iter().position(|byte| *byte == b'=')?;
    let (name, value) = spec.split_at_checked(at)?;
    Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
}

/// A number of digits only. The largest number stands for all that are larger.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| digits)?;
    Some(text.parse().unwrap_or(u64::MAX))
}

/// A base64 text without its white space.
pub(crate) fn without_space(value: &[u8]) -> Vec<u8> {
    let is_space = |byte: &&u8| !byte.is_ascii_whitespace();
    value.iter().filter(is_space).copied().collect()
}

/// The bytes of a base64 text with any white space. None if it is empty or not base64.
pub(crate) fn base64(value: &[u8]) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(without_space(value)).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}

/// A domain name, also in UTF-8 (RFC 8616 §5).
pub(crate) fn domain(value: &[u8]) -> Option<Domain> {
    Domain::parse(str::from_utf8(value).ok()?).ok()
}

/// The parts of a list with colons, without the white space around each.
pub(crate) fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b':').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_is_read_strictly() {
        let tags = Tags::parse(b" v=1; a_b =\r\n x y ;c=;d==;\r\n ").unwrap();
        assert_eq!(tags.get("v"), Some(&b"1"[..]));
        assert_eq!(tags.get("a_b"), Some(&b"x y"[..]));
        assert_eq!(tags.span("a_b"), Some(11..18));
        assert_eq!(tags.get("c"), Some(&b""[..]));
        assert_eq!(tags.get("d"), Some(&b"="[..]));
        assert_eq!((tags.get("V"), tags.first()), (None, &b"v"[..]));
        for (list, fault) in [
            ("", TagFault::Syntax),
            (" ", TagFault::Syntax),
            (";", TagFault::Syntax),
            ("a=b;;", TagFault::Syntax),
            ("a=b; ;c=d", TagFault::Syntax),
            ("a", TagFault::Syntax),
            ("a=b; c", TagFault::Syntax),
            ("==", TagFault::Syntax),
            ("1a=b", TagFault::Syntax),
            ("a b=c", TagFault::Syntax),
            ("a-b=c", TagFault::Syntax),
            ("a=\u{1}", TagFault::Syntax),
            ("a=b;a=b", TagFault::Duplicate),
        ] {
            assert_eq!(Tags::parse(list.as_bytes()).unwrap_err(), fault, "{list:?}");
        }
        let many: String = (0..=MAX_TAGS).map(|n| format!("t{n}=;")).collect();
        assert_eq!(Tags::parse(many.as_bytes()).unwrap_err(), TagFault::TooMany);
    }

    #[test]
    fn values_are_read_strictly() {
        assert_eq!(number(b"012"), Some(12));
        assert_eq!(number(&[b'9'; 30]), Some(u64::MAX));
        for value in ["", "-1", "1 2", "+1", "x"] {
            assert_eq!(number(value.as_bytes()), None, "{value}");
        }
        assert_eq!(base64(b"AQ\r\n ID"), Some(vec![1, 2, 3]));
        assert_eq!(base64(b"AQI="), Some(vec![1, 2]));
        assert_eq!(base64(b"AQI"), Some(vec![1, 2]));
        for value in ["", "A", "AQ-_", "AQI=AQI=", "AQ;", "AQ==="] {
            assert_eq!(base64(value.as_bytes()), None, "{value}");
        }
        assert_eq!(
            domain("b\u{fc}.test".as_bytes()).unwrap().ascii(),
            "xn--b-eha.test"
        );
        assert_eq!(domain(b"***"), None);
        assert_eq!(
            parts(b"a: b\r\n :").collect::<Vec<_>>(),
            [&b"a"[..], b"b", b""]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(list in prop::collection::vec("a|b=|=|;| |\r\n|\u{e4}|\u{0}", 0..30)) {
            let list = list.concat();
            if let Ok(tags) = Tags::parse(list.as_bytes()) {
                let span = tags.span("a").unwrap_or_default();
                prop_assert!(list.as_bytes().get(span).is_some());
            }
        }
    }
}
