//! Transfer encodings (RFC 2045 §6), and the detection of content types.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The most bytes of a line that is not encoded.
const LINE_MAX: usize = 76;
/// The number of bytes in a line of base64.
pub(crate) const BASE64_LINE: usize = 57;

/// The transfer encoding of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    SevenBit,
    EightBit,
    QuotedPrintable,
}

impl Encoding {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
            Self::QuotedPrintable => "quoted-printable",
        }
    }
}

/// The text with CRLF after each line, also after the last, and its transfer encoding. A bare CR
/// stays, so the text becomes quoted-printable.
pub(crate) fn prepare(text: &str) -> (String, Encoding) {
    let mut lines = String::with_capacity(text.len() + text.len() / 32 + 2);
    let mut encoding = if text.is_ascii() {
        Encoding::SevenBit
    } else {
        Encoding::EightBit
    };
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() > LINE_MAX || line.bytes().any(|byte| matches!(byte, b'\r' | b'\0')) {
            encoding = Encoding::QuotedPrintable;
        }
        lines.push_str(line);
        lines.push_str("\r\n");
        rest = after;
    }
    (lines, encoding)
}

/// Appends a text with CRLF line ends as quoted-printable (RFC 2045 §6.7).
pub(crate) fn quoted_printable(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + text.len() / 8);
    for line in text.split_inclusive("\r\n") {
        let (line, end) = line
            .strip_suffix("\r\n")
            .map_or((line, ""), |line| (line, "\r\n"));
        let mut column = 0;
        let bytes = line.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            let last = at + 1 == bytes.len();
            let plain = match byte {
                b' ' | b'\t' => !last,
                b'=' => false,
                byte => (b'!'..=b'~').contains(byte),
            };
            let length = if plain { 1 } else { 3 };
            // One byte is for the = of a soft line break, unless the line ends here.
            if column + length > if last { LINE_MAX } else { LINE_MAX - 1 } {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            if plain {
                out.push(*byte);
            } else {
                out.extend_from_slice(&escaped(b'=', *byte));
            }
            column += length;
        }
        out.extend_from_slice(end.as_bytes());
    }
}

/// A byte as a mark and two hexadecimal digits.
const fn escaped(mark: u8, byte: u8) -> [u8; 3] {
    const fn digit(value: u8) -> u8 {
        if value < 10 {
            b'0' + value
        } else {
            b'A' + value - 10
        }
    }
    [mark, digit(byte >> 4), digit(byte & 15)]
}

/// Appends base64 in lines of 76 letters. The length of `bytes` must be a multiple of
/// [`BASE64_LINE`], except at the end.
pub(crate) fn base64_lines(bytes: &[u8], out: &mut Vec<u8>) {
    let mut line = [0; LINE_MAX];
    for chunk in bytes.chunks(BASE64_LINE) {
        // 57 bytes make 76 letters, so this always fits.
        if let Ok(length) = STANDARD.encode_slice(chunk, &mut line) {
            out.extend_from_slice(line.get(..length).unwrap_or_default());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The type of a content by its first bytes, as in the MIME Sniffing Standard of the WHATWG. None
/// if it is not known.
pub(crate) fn sniff(bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 27] = [
        (b"%PDF-", "application/pdf"),
        (b"%!PS-Adobe-", "application/postscript"),
        (b"\xfe\xff", "text/plain; charset=utf-16be"),
        (b"\xff\xfe", "text/plain; charset=utf-16le"),
        (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
        (b"\x00\x00\x01\x00", "image/x-icon"),
        (b"\x00\x00\x02\x00", "image/x-icon"),
        (b"BM", "image/bmp"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b".snd", "audio/basic"),
        (b"ID3", "audio/mpeg"),
        (b"OggS\x00", "application/ogg"),
        (b"MThd\x00\x00\x00\x06", "audio/midi"),
        (b"\x1a\x45\xdf\xa3", "video/webm"),
        (b"\x00\x01\x00\x00", "font/ttf"),
        (b"OTTO", "font/otf"),
        (b"ttcf", "font/collection"),
        (b"wOFF", "font/woff"),
        (b"wOF2", "font/woff2"),
        (b"\x1f\x8b\x08", "application/x-gzip"),
        (b"PK\x03\x04", "application/zip"),
        (b"Rar!\x1a\x07\x00", "application/x-rar-compressed"),
        (b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
        (b"\x00asm", "application/wasm"),
    ];
    const TAGS: [&str; 17] = [
        "<!doctype html",
        "<html",
        "<head",
        "<script",
        "<iframe",
        "<h1",
        "<div",
        "<font",
        "<table",
        "<a",
        "<style",
        "<title",
        "<b",
        "<body",
        "<br",
        "<p",
        "<!--",
    ];
    let head = bytes.get(..512).unwrap_or(bytes);
    let trimmed = head.trim_ascii_start();
    let tag = |tag: &&str| {
        let begin = trimmed.get(..tag.len());
        let ends = matches!(trimmed.get(tag.len()), Some(b' ' | b'>')) || **tag == *"<!--";
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(tag.as_bytes())) && ends
    };
    if TAGS.iter().any(tag) {
        return Some("text/html; charset=utf-8");
    }
    if trimmed.starts_with(b"<?xml") {
        return Some("text/xml; charset=utf-8");
    }
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(kind);
    }
    match (head.get(..4), head.get(8..12)) {
        (Some(b"RIFF"), Some(b"WEBP")) => return Some("image/webp"),
        (Some(b"RIFF"), Some(b"WAVE")) => return Some("audio/wave"),
        (Some(b"RIFF"), Some(b"AVI ")) => return Some("video/avi"),
        (Some(b"FORM"), Some(b"AIFF")) => return Some("audio/aiff"),
        _ => {}
    }
    if head.get(4..8) == Some(b"ftyp") {
        return Some("video/mp4");
    }
    let binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    (!head.iter().any(binary)).then_some("text/plain; charset=utf-8")
}

#[cfg(test)]
mod tests {
    use mail_parser::decoders::quoted_printable::quoted_printable_decode;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_get_line_ends_and_an_encoding() {
        for (text, lines, encoding) in [
            ("a\nb", "a\r\nb\r\n", Encoding::SevenBit),
            ("a\r\n\nb\n", "a\r\n\r\nb\r\n", Encoding::SevenBit),
            ("\u{e4}", "\u{e4}\r\n", Encoding::EightBit),
            ("a\rb", "a\rb\r\n", Encoding::QuotedPrintable),
            ("", "", Encoding::SevenBit),
        ] {
            assert_eq!(prepare(text), (lines.to_owned(), encoding), "{text:?}");
        }
        assert_eq!(prepare(&"x".repeat(76)).1, Encoding::SevenBit);
        assert_eq!(prepare(&"x".repeat(77)).1, Encoding::QuotedPrintable);
    }

    #[test]
    fn types_of_content() {
        for (bytes, kind) in [
            (&b" \n<!DOCTYPE html>"[..], Some("text/html; charset=utf-8")),
            (b"<phony", Some("text/plain; charset=utf-8")),
            (b"%PDF-1.7", Some("application/pdf")),
            (b"\x89PNG\r\n\x1a\n", Some("image/png")),
            (b"RIFF1234WEBPVP", Some("image/webp")),
            (b"hello", Some("text/plain; charset=utf-8")),
            (b"", Some("text/plain; charset=utf-8")),
            (b"\x01\x02", None),
        ] {
            assert_eq!(sniff(bytes), kind, "{bytes:?}");
        }
    }

    #[test]
    fn base64_in_lines() {
        let mut out = Vec::new();
        base64_lines(&[0; 60], &mut out);
        assert_eq!(
            out.split(|byte| *byte == b'\n')
                .map(<[u8]>::len)
                .collect::<Vec<_>>(),
            [77, 5, 0]
        );
    }

    proptest! {
        #[test]
        fn quoted_printable_is_read_back(text in "[ \t=a\u{e4}\r\n\u{1f600}]{0,300}") {
            let (lines, _) = prepare(&text);
            let mut encoded = Vec::new();
            quoted_printable(&lines, &mut encoded);
            for line in encoded.split(|byte| *byte == b'\n') {
                prop_assert!(line.len() <= 77 && line.is_ascii());
                prop_assert!(!line.ends_with(b" \r") && !line.ends_with(b"\t\r"));
            }
            prop_assert_eq!(quoted_printable_decode(&encoded).unwrap_or_default(), lines.into_bytes());
        }
    }
}
