//! What a text needs of a server.

use memchr::{memchr, memchr2_iter, memrchr};
use serde::{Deserialize, Serialize};

use super::LINE_MAX;

/// What a text has that not every server takes.
///
/// It is stored as one byte. A text that was stored as "8-bit or not" reads as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub struct TextNeeds {
    /// Bytes above 127: 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// A line of more than [`LINE_MAX`] bytes. No extension allows it, except BINARYMIME.
    pub long_lines: bool,
    /// A NUL, or a CR or LF that stands alone: BINARYMIME (RFC 3030).
    pub binary: bool,
}

const EIGHT_BIT: u8 = 1;
const LONG_LINES: u8 = 2;
const BINARY: u8 = 4;

impl From<u8> for TextNeeds {
    fn from(bits: u8) -> Self {
        Self {
            eight_bit: bits & EIGHT_BIT != 0,
            long_lines: bits & LONG_LINES != 0,
            binary: bits & BINARY != 0,
        }
    }
}

impl From<TextNeeds> for u8 {
    fn from(needs: TextNeeds) -> Self {
        let bit = |has: bool, bit: Self| if has { bit } else { 0 };
        bit(needs.eight_bit, EIGHT_BIT)
            | bit(needs.long_lines, LONG_LINES)
            | bit(needs.binary, BINARY)
    }
}

impl TextNeeds {
    /// What a whole text needs.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let mut scan = NeedsScan::default();
        scan.write(text);
        scan.finish()
    }

    /// What two texts need together, if the first ends with its last line.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            eight_bit: self.eight_bit || other.eight_bit,
            long_lines: self.long_lines || other.long_lines,
            binary: self.binary || other.binary,
        }
    }
}

/// Finds out what a text needs, while it comes in pieces of any size.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeedsScan {
    needs: TextNeeds,
    /// The bytes of the line so far.
    column: usize,
    /// The last byte was a CR.
    cr: bool,
    /// The text may be binary.
    any_bytes: bool,
}

impl NeedsScan {
    /// A scan of a text that may have any bytes. The other scans do not look for a NUL, or for a CR
    /// or LF that stands alone: a session refuses such a text.
    #[must_use]
    pub fn of_binary() -> Self {
        Self {
            any_bytes: true,
            ..Self::default()
        }
    }

    /// Takes the next piece.
    pub fn write(&mut self, piece: &[u8]) {
        self.needs.eight_bit = self.needs.eight_bit || !piece.is_ascii();
        if self.any_bytes && !self.needs.binary {
            self.needs.binary = memchr(0, piece).is_some() || self.has_bare_end(piece);
        }
        if !self.needs.long_lines {
            self.look_for_long_lines(piece);
        }
    }

    /// What the text needs.
    #[must_use]
    pub const fn finish(mut self) -> TextNeeds {
        self.needs.binary = self.needs.binary || self.cr;
        self.needs
    }

    /// Whether a CR or an LF stands alone.
    fn has_bare_end(&mut self, piece: &[u8]) -> bool {
        let starts_after_cr = std::mem::replace(&mut self.cr, piece.last() == Some(&b'\r'));
        let Some(first) = piece.first() else {
            self.cr = starts_after_cr;
            return false;
        };
        if starts_after_cr && *first != b'\n' {
            return true;
        }
        memchr2_iter(b'\r', b'\n', piece).any(|at| match piece.get(at) {
            Some(b'\r') => piece.get(at + 1).is_some_and(|next| *next != b'\n'),
            _ => match at.checked_sub(1) {
                Some(before) => piece.get(before) != Some(&b'\r'),
                None => !starts_after_cr,
            },
        })
    }

    /// A line that is not too long ends within a window of the size of the longest line. So most
    /// bytes need no look: the last line end of the window is found from its end.
    fn look_for_long_lines(&mut self, piece: &[u8]) {
        let mut rest = piece;
        loop {
            // The CRLF belongs to the window, and a piece may end between CR and LF.
            let room = (LINE_MAX + 2).saturating_sub(self.column);
            let Some((window, _)) = rest.split_at_checked(room) else {
                break;
            };
            let Some(at) = memrchr(b'\n', window) else {
                self.needs.long_lines = true;
                return;
            };
            rest = rest.get(at + 1..).unwrap_or_default();
            self.column = 0;
        }
        self.column = match memrchr(b'\n', rest) {
            Some(at) => rest.len() - at - 1,
            None => self.column + rest.len(),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scanned(text: &[u8], size: usize) -> TextNeeds {
        let mut scan = NeedsScan::of_binary();
        text.chunks(size).for_each(|piece| scan.write(piece));
        scan.finish()
    }

    #[test]
    fn needs_are_found_and_stored_as_one_byte() {
        let line = |length: usize| format!("{}\r\n", "x".repeat(length));
        for (text, bits) in [
            (String::new(), 0),
            ("a\r\nb".to_owned(), 0),
            ("\u{e4}\r\n".to_owned(), EIGHT_BIT),
            (line(998), 0),
            (line(999), LONG_LINES),
            (format!("{}{}", line(20), line(998).repeat(3)), 0),
            (format!("{}{}", line(998), line(999)), LONG_LINES),
            (format!("{}{}", line(1), "x".repeat(1001)), LONG_LINES),
            ("a\0b\r\n".to_owned(), BINARY),
            ("a\nb\r\n".to_owned(), BINARY),
            ("a\rb\r\n".to_owned(), BINARY),
            ("a\r".to_owned(), BINARY),
            ("\n".to_owned(), BINARY),
        ] {
            for size in [1, 2, 3, 500, 997, 998, 1000, 5000] {
                let needs = scanned(text.as_bytes(), size);
                assert_eq!(u8::from(needs), bits, "{text:?} by {size}");
                assert_eq!(TextNeeds::from(bits), needs);
            }
            let lenient = TextNeeds::of(text.as_bytes());
            assert_eq!(u8::from(lenient), bits & !BINARY, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same(
            lengths in prop::collection::vec(prop_oneof![0_usize..5, 990_usize..1003], 0..8),
            size in 1_usize..1500,
        ) {
            let text: String = lengths.iter().map(|length| format!("{}\r\n", "x".repeat(*length))).collect();
            let long = lengths.iter().any(|length| *length > LINE_MAX);
            let needs = scanned(text.as_bytes(), size);
            prop_assert_eq!(needs, TextNeeds { long_lines: long, ..TextNeeds::default() });
        }
    }
}
