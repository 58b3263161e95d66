//! Bytes of a message as they stand in JSON, piece by piece: as text, and in base64.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The replacement character, for bytes that are not UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Writes bytes as the inside of a JSON string. Bytes that are not UTF-8 become U+FFFD, as
/// [`String::from_utf8_lossy`] replaces them, wherever the pieces are cut.
#[derive(Clone, Debug, Default)]
pub(super) struct JsonText {
    /// The beginning of a character whose other bytes are to come. At most three bytes.
    begun: Vec<u8>,
}

impl JsonText {
    /// Writes the next piece.
    pub(super) fn write(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len() + piece.len() / 8);
        let mut rest = piece;
        // Only the character that was begun is joined with what follows.
        while !self.begun.is_empty() && !rest.is_empty() {
            let (byte, after) = rest.split_at(1);
            self.begun.extend_from_slice(byte);
            rest = after;
            let joined = std::mem::take(&mut self.begun);
            self.write_whole(&joined, &mut out);
        }
        self.write_whole(rest, &mut out);
        out
    }

    /// Writes the end of the text.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        match std::mem::take(&mut self.begun).is_empty() {
            true => Vec::new(),
            false => REPLACEMENT.to_vec(),
        }
    }

    /// Writes all but a character at the end that is not complete.
    fn write_whole(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            escape(chunk.valid(), out);
            let is_last = chunks.peek().is_none();
            match chunk.invalid() {
                [] => {}
                begun if is_last && is_begun(begun) => self.begun = begun.to_vec(),
                _ => out.extend_from_slice(REPLACEMENT),
            }
        }
    }
}

/// Whether the bytes are the beginning of a character.
fn is_begun(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Writes a text as the inside of a JSON string (RFC 8259 §7).
fn escape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    while let Some(at) = rest.iter().position(is_special) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else {
            return;
        };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Writes bytes in base64.
#[derive(Clone, Debug, Default)]
pub(super) struct Base64Text {
    /// The bytes behind the last group of three.
    left: Vec<u8>,
}

impl Base64Text {
    /// Writes the next piece.
    pub(super) fn write(&mut self, piece: &[u8]) -> Vec<u8> {
        self.left.extend_from_slice(piece);
        let whole = self.left.len() - self.left.len() % 3;
        let left = self.left.split_off(whole);
        let groups = std::mem::replace(&mut self.left, left);
        STANDARD.encode(groups).into_bytes()
    }

    /// Writes the end of the text.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        STANDARD.encode(std::mem::take(&mut self.left)).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text in pieces of this many bytes.
    fn json(bytes: &[u8], size: usize) -> String {
        let mut text = JsonText::default();
        let mut out: Vec<u8> = bytes.chunks(size).flat_map(|it| text.write(it)).collect();
        out.extend(text.finish());
        String::from_utf8(out).unwrap()
    }

    fn base64(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut text = Base64Text::default();
        let mut out: Vec<u8> = bytes.chunks(size).flat_map(|it| text.write(it)).collect();
        out.extend(text.finish());
        out
    }

    fn check(bytes: &[u8]) {
        let lossy = String::from_utf8_lossy(bytes).into_owned();
        for size in [1, 2, 3, 4, 7, bytes.len().max(1)] {
            let written = json(bytes, size);
            let read: String = serde_json::from_str(&format!("\"{written}\"")).unwrap();
            assert_eq!(read, lossy, "{bytes:x?} by {size}");
            let encoded = base64(bytes, size);
            assert_eq!(STANDARD.decode(&encoded).unwrap(), bytes, "by {size}");
        }
    }

    #[test]
    fn any_cut_gives_the_same_text() {
        let cases: &[&[u8]] = &[
            b"",
            b"plain\r\n\ttext \"q\" \\ \0 \x1f \x7f\r\n",
            "\u{e9} \u{20ac} \u{1f4e7}".as_bytes(),
            // Bytes that are no UTF-8: alone, begun and broken off, too long a form, a surrogate.
            b"a\xffb\xc3",
            b"\xe2\x82",
            b"\xe2\x82x",
            b"\xf0\x9f\x93",
            b"\xf0\x9f\x93\xf0\x9f\x93\xa7",
            b"\xe2\xe2\x82\xac",
            b"\xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80",
            b"\xc3\xc3\xc3\xa9\x80\x80",
        ];
        for bytes in cases {
            check(bytes);
        }
    }

    #[test]
    fn a_text_is_written_as_serde_writes_it() {
        let text: String = (0..0x300).filter_map(char::from_u32).collect();
        let by_serde = serde_json::to_string(&text).unwrap();
        let read = |text: &str| serde_json::from_str::<String>(text).unwrap();
        let ours = format!("\"{}\"", json(text.as_bytes(), 5));
        assert_eq!(read(&ours), read(&by_serde));
        assert!(ours.bytes().all(|byte| byte >= b' '));
    }

    proptest! {
        #[test]
        fn any_bytes_are_written(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac), Just(0xf0), Just(0x9f)], 0..64,
        )) {
            check(&bytes);
        }
    }
}
