//! JSON with the escapes of the v0 contract: `<`, `>`, `&` and the line separators of JavaScript
//! are escaped within strings. So a payload can stand in a web page without changes.

use std::io;

use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

/// The compact JSON text of `value`.
///
/// # Errors
/// If `value` has a map whose keys are not strings. The payloads of this crate have no such map.
pub(crate) fn to_vec<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut text, Escaping))?;
    Ok(text)
}

/// The compact format with the additional escapes.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some((before, escape, after)) = split_at_escaped(rest) {
            writer.write_all(before.as_bytes())?;
            writer.write_all(escape)?;
            rest = after;
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Cuts `text` at the first character that needs an escape. Gives the text before it, its escape
/// and the text after it.
fn split_at_escaped(text: &str) -> Option<(&str, &'static [u8], &str)> {
    // Both line separators begin with 0xE2.
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let (length, escape): (usize, &'static [u8]) = match byte {
            b'<' => (1, b"\\u003c"),
            b'>' => (1, b"\\u003e"),
            b'&' => (1, b"\\u0026"),
            0xe2 => match bytes.get(at + 1..at + 3) {
                Some(b"\x80\xa8") => (3, b"\\u2028"),
                Some(b"\x80\xa9") => (3, b"\\u2029"),
                _ => continue,
            },
            _ => continue,
        };
        return Some((text.get(..at)?, escape, text.get(at + length..)?));
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_is_escaped() {
        let text = to_vec(&"a<b>&\u{2028}\u{2029}\u{2027}\u{e9}\"\\\n\u{1}\u{7f}").unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\u{2027}\u{e9}\\\"\\\\\\n\\u0001\u{7f}\""
        );
    }

    proptest! {
        #[test]
        fn escaped_text_reads_back_the_same(text in "[<>&\u{2028}\u{2029}\u{2027}a\"\\\\\\PC]*") {
            let json = to_vec(&text).unwrap();
            prop_assert!(!json.iter().any(|byte| b"<>&".contains(byte)));
            let read: String = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
