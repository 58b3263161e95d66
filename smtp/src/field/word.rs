//! Free text with encoded words (RFC 2047).

use memchr::memchr;

use super::{charset::decode, unfolded};

/// The most bytes of the content of a word that are read. RFC 2047 §2 allows 75 for a whole word.
/// Some senders write longer ones.
const LENGTH_MAX: usize = 4 << 10;

/// The text of a value.
///
/// Encoded words that follow each other in one charset are one text, so a character may be divided
/// between them. Bytes outside of encoded words are read as [`decode`] does without a charset.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let value = unfolded(value);
    let mut rest = &*value;
    let mut text = String::with_capacity(rest.len());
    let mut run = Run::default();
    while let Some(at) = memchr::memmem::find(rest, b"=?") {
        let (before, begun) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        match EncodedWord::parse(begun) {
            Some((word, after)) => {
                // White space between two words is not part of the text (RFC 2047 §6.2).
                let adjoins = run.charset.is_some() && before.trim_ascii().is_empty();
                if !adjoins {
                    run.end(&mut text);
                    text.push_str(&decode(None, before));
                } else if run
                    .charset
                    .is_some_and(|charset| !charset.eq_ignore_ascii_case(word.charset))
                {
                    run.end(&mut text);
                }
                run.add(&word);
                rest = after;
            }
            None => {
                run.end(&mut text);
                let (plain, after) = rest.split_at_checked(at + 2).unwrap_or((rest, &[]));
                text.push_str(&decode(None, plain));
                rest = after;
            }
        }
    }
    run.end(&mut text);
    text.push_str(&decode(None, rest));
    text
}

/// The length of the encoded word at the beginning. None if there is none.
pub(super) fn length(text: &[u8]) -> Option<usize> {
    let (_, after) = EncodedWord::parse(text)?;
    Some(text.len() - after.len())
}

/// An encoded word, without its transfer encoding.
struct EncodedWord<'a> {
    charset: &'a [u8],
    bytes: Vec<u8>,
    /// The last letter of base64 that has not even the bits of one byte.
    odd: Option<u8>,
}

impl<'a> EncodedWord<'a> {
    /// Reads the word at the beginning of `text`. Gives the bytes after it too. None if there is no
    /// word, or none that can be decoded.
    fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let rest = text.strip_prefix(b"=?")?;
        let (charset, rest) = rest.split_at_checked(memchr(b'?', rest)?)?;
        let token = |byte: &u8| byte.is_ascii_graphic() && !b"=<>,".contains(byte);
        if charset.is_empty() || !charset.iter().all(token) {
            return None;
        }
        let (encoding, rest) = rest.strip_prefix(b"?")?.split_first()?;
        let rest = rest.strip_prefix(b"?")?;
        // Without a limit, many beginnings of words without an end would take very long.
        let near = rest.get(..rest.len().min(LENGTH_MAX))?;
        let (content, after) = rest.split_at_checked(memchr::memmem::find(near, b"?=")?)?;
        let after = after.get(2..)?;
        let (bytes, odd) = match encoding {
            b'q' | b'Q' => (quoted(content), None),
            b'b' | b'B' => base64(content)?,
            _ => return None,
        };
        let word = Self {
            charset,
            bytes,
            odd,
        };
        Some((word, after))
    }
}

/// The Q encoding (RFC 2047 §4.2). What is no code stands for itself.
fn quoted(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'_', _) => bytes.push(b' '),
            (b'=', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'='),
            },
            (other, _) => bytes.push(*other),
        }
    }
    bytes
}

/// The value of a hexadecimal digit.
pub(super) const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Base64 with or without padding, also several pieces with padding each. None if it has other
/// letters.
fn base64(content: &[u8]) -> Option<(Vec<u8>, Option<u8>)> {
    let mut bytes = Vec::with_capacity(content.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in content {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => {
                (bits, count) = (0, 0);
                continue;
            }
            byte if byte.is_ascii_whitespace() => continue,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(low_byte(bits >> count));
        }
        bits &= (1 << count) - 1;
    }
    let odd = (count == 6).then(|| low_byte(bits << 2));
    Some((bytes, odd))
}

const fn low_byte(bits: u32) -> u8 {
    let [low, ..] = bits.to_le_bytes();
    low
}

/// Words in one charset that follow each other.
#[derive(Default)]
struct Run<'a> {
    charset: Option<&'a [u8]>,
    bytes: Vec<u8>,
    /// The place of a byte that misses its two lowest bits, and its other bits.
    odd: Option<(usize, u8)>,
}

impl<'a> Run<'a> {
    fn add(&mut self, word: &EncodedWord<'a>) {
        self.charset = Some(word.charset);
        self.bytes.extend_from_slice(&word.bytes);
        if let (Some(odd), None) = (word.odd, self.odd) {
            self.odd = Some((self.bytes.len(), odd));
        }
    }

    /// Adds the text of the words to `text`.
    fn end(&mut self, text: &mut String) {
        let Some(charset) = self.charset.take() else {
            return;
        };
        let charset = std::str::from_utf8(charset).ok();
        let mut decoded = decode(charset, &self.bytes);
        if let Some((place, bits)) = self.odd.take()
            && decoded.contains(char::REPLACEMENT_CHARACTER)
            && place < self.bytes.len()
        {
            // A word was cut within a byte. Its two bits are found again if only one of their
            // values gives a text; ones are tried first, since a letter has more of them than a
            // sign.
            self.bytes.insert(place, bits);
            for low in (0..4).rev() {
                if let Some(byte) = self.bytes.get_mut(place) {
                    *byte = bits | low;
                }
                let whole = decode(charset, &self.bytes);
                if !whole.contains(char::REPLACEMENT_CHARACTER) {
                    decoded = whole;
                    break;
                }
            }
        }
        text.push_str(&decoded);
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (value, expected) in [
            (&b" Hello  you \r\n"[..], "Hello  you"),
            (b"a\r\n b", "a b"),
            (b"=?utf-8?q?a_b=3F?=", "a b?"),
            (b"x =?utf-8?q?a?= y", "x a y"),
            (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
            (b"=?utf-8?q?a?=\r\n\t=?iso-8859-1*de?Q?=E4?=", "aä"),
            // A character that is divided.
            (
                b"=?UTF-8?Q?pasi=C5=BEad=C4?=\r\n =?UTF-8?Q?=97jim=C5=B3?=",
                "pasižadėjimų",
            ),
            (b"=?utf-8?B?QmVoww?=\r\n =?utf-8?B?tnJkZW4=?=", "Behörden"),
            (b"=?utf-8?B?QmVow?=\r\n =?utf-8?B?tnJkZW4=?=", "Behörden"),
            (b"=?gb2312?B?xOO6?= =?gb2312?B?ww==?=", "你好"),
            (b"=?UTF-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
            // Other charsets are other texts.
            (b"=?utf-8?q?=C3?= =?iso-8859-1?q?=A4?=", "\u{fffd}¤"),
            // Base64 without padding, and with an odd letter.
            (b"=?utf-8?b?w6Q?=", "ä"),
            (b"=?utf-8?B?SGVsbG8?= you", "Hello you"),
            (b"=?utf-8?B?QUJDR?=", "ABC"),
            (b"=?utf-8?B?QQ==QQ==?=", "AA"),
            // What is no word stays as it is.
            (b"=?utf-8?B?Q!?=", "=?utf-8?B?Q!?="),
            (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
            (b"=?utf-8?q?a", "=?utf-8?q?a"),
            (b"=?=?utf-8?q?a?=", "=?a"),
            (b"1 =? 2", "1 =? 2"),
            (b"=?utf-8?q?=ZZ=4?=", "=ZZ=4"),
            (b"=?utf-8?q?a b?=", "a b"),
            (b"a=?utf-8?q?b?=c", "abc"),
            // Raw bytes.
            (b"gr\xfc\xdfe", "grüße"),
            ("grüße".as_bytes(), "grüße"),
            (b"\xe4 =?utf-8?q?=C3=A4?=", "ä ä"),
            (b"=?ibm437?q?=84?=", "ä"),
            (b"", ""),
        ] {
            assert_eq!(text(value), expected, "{}", value.escape_ascii());
        }
    }
}
