//! Texts of other alphabets in ASCII: encoded words (RFC 2047) and percent-encoding (RFC 2231).

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};

/// The most bytes of an encoded word (RFC 2047 §2).
const WORD_MAX: usize = 75;

/// The text as encoded words, each with whole characters. In base64 if quoted-printable would be
/// more than twice as long.
#[must_use]
pub fn encoded_words(text: &str) -> Vec<String> {
    let quoted_length: usize = text.bytes().map(q_length).sum();
    let quoted = quoted_length <= text.len().div_ceil(3) * 8;
    // The frame of a word has 12 bytes: =?utf-8?q??=
    let most = WORD_MAX - 12;
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = 0;
        let mut length = 0;
        for (at, letter) in rest.char_indices() {
            let next = at + letter.len_utf8();
            length = if quoted {
                let bytes = rest.get(at..next).unwrap_or_default().bytes();
                length + bytes.map(q_length).sum::<usize>()
            } else {
                next.div_ceil(3) * 4
            };
            if length > most {
                break;
            }
            end = next;
        }
        let (part, after) = rest.split_at(end.max(1));
        words.push(if quoted {
            let mut word = String::with_capacity(WORD_MAX);
            word.push_str("=?utf-8?q?");
            part.bytes().for_each(|byte| q_encode(byte, &mut word));
            word.push_str("?=");
            word
        } else {
            format!("=?utf-8?b?{}?=", STANDARD.encode(part))
        });
        rest = after;
    }
    words
}

/// Whether a byte needs no encoding, even in a phrase (RFC 2047 §5).
const fn q_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'*' | b'+' | b'-' | b'/')
}

const fn q_length(byte: u8) -> usize {
    if q_plain(byte) || byte == b' ' { 1 } else { 3 }
}

fn q_encode(byte: u8, out: &mut String) {
    match byte {
        b' ' => out.push('_'),
        byte if q_plain(byte) => out.push(char::from(byte)),
        byte => escape('=', byte, out),
    }
}

/// Writes a byte as a mark and two hexadecimal digits.
fn escape(mark: char, byte: u8, out: &mut String) {
    // Writing into a String cannot fail.
    let _ = write!(out, "{mark}{byte:02X}");
}

/// A character of an encoded parameter (RFC 2231 §4), in UTF-8.
#[must_use]
pub fn percent_encoded(letter: char) -> String {
    if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_') {
        return letter.to_string();
    }
    let mut encoded = String::new();
    let mut buffer = [0; 4];
    for byte in letter.encode_utf8(&mut buffer).bytes() {
        escape('%', byte, &mut encoded);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_short_and_of_whole_characters() {
        for (text, words) in [
            ("", &[][..]),
            ("a b_?=", &["=?utf-8?q?a_b=5F=3F=3D?="]),
            ("\u{65e5}\u{672c}\u{8a9e}", &["=?utf-8?b?5pel5pys6Kqe?="]),
        ] {
            assert_eq!(encoded_words(text), words, "{text:?}");
        }
        for letter in ["\u{e4}x", "\u{65e5}", "\u{1f600}"] {
            let words = encoded_words(&letter.repeat(100));
            assert!(words.len() > 1);
            for word in words {
                assert!(word.len() <= WORD_MAX, "{word}");
            }
        }
    }

    #[test]
    fn characters_of_parameters() {
        let encoded = |text: &str| text.chars().map(percent_encoded).collect::<String>();
        assert_eq!(encoded("a-b._ %'*"), "a-b._%20%25%27%2A");
        assert_eq!(encoded("\u{e4}"), "%C3%A4");
    }
}
