//! A part of a message: the fields of its header that say what it is, and its content without
//! transfer encoding (RFC 2045 §6).

use std::borrow::Cow;

use mail_parser::{Message, MessagePart, PartType};
use postrider_smtp::field::{self, Parameters};

/// A part with its header.
pub(super) struct PartView<'a> {
    message: &'a Message<'a>,
    pub(super) part: &'a MessagePart<'a>,
    /// Content-Type. Empty without the field.
    pub(super) content_type: Parameters,
    /// Content-Disposition. Empty without the field.
    pub(super) disposition: Parameters,
}

impl<'a> PartView<'a> {
    /// The part at this place of the message's list of parts.
    pub(super) fn new(message: &'a Message<'a>, at: usize) -> Option<Self> {
        let mut view = Self {
            message,
            part: message.parts.get(at)?,
            content_type: Parameters::default(),
            disposition: Parameters::default(),
        };
        let read = |name| view.first(name).map(field::parameters).unwrap_or_default();
        let (content_type, disposition) = (read("Content-Type"), read("Content-Disposition"));
        (view.content_type, view.disposition) = (content_type, disposition);
        Some(view)
    }

    /// The value of the part's first field of this name.
    pub(super) fn first(&self, name: &str) -> Option<&'a [u8]> {
        let section = self.bytes(self.part.offset_header, self.part.offset_body);
        let mut fields = field::fields(section);
        let found = fields.find(|field| field.is(name))?;
        Some(found.value)
    }

    /// The type in lower case.
    pub(super) fn kind(&self) -> &str {
        match self.content_type.value.as_str() {
            // The default in a multipart/digest.
            "" if matches!(self.part.body, PartType::Message(_)) => "message/rfc822",
            "" => "text/plain",
            kind => kind,
        }
    }

    /// The decoded name of a file: the name in the disposition, else the name in the type.
    pub(super) fn file_name(&self) -> Option<&str> {
        let name = self.disposition.get("filename");
        name.or_else(|| self.content_type.get("name"))
    }

    /// The bytes after the header, unchanged.
    fn raw(&self) -> &'a [u8] {
        self.bytes(self.part.offset_body, self.part.offset_end)
    }

    fn bytes(&self, from: u32, to: u32) -> &'a [u8] {
        let range = from as usize..to as usize;
        self.message.raw_message.get(range).unwrap_or_default()
    }

    /// The bytes after the header, without their transfer encoding. For a multipart these are all
    /// its parts.
    pub(super) fn content(&self) -> Cow<'a, [u8]> {
        match &self.part.body {
            PartType::Multipart(_) => return Cow::Borrowed(self.raw()),
            // The parser decoded these.
            PartType::Binary(bytes) | PartType::InlineBinary(bytes)
                if !self.part.is_encoding_problem =>
            {
                return Cow::Borrowed(bytes);
            }
            _ => {}
        }
        let encoding = self.first("Content-Transfer-Encoding");
        match encoding
            .map(|value| field::parameters(value).value)
            .as_deref()
        {
            Some("base64") => Cow::Owned(base64(self.raw())),
            Some("quoted-printable") => Cow::Owned(quoted_printable(self.raw())),
            _ => Cow::Borrowed(self.raw()),
        }
    }

    /// The text of a part that is a text.
    pub(super) fn text(&self) -> String {
        let charset = self.content_type.get("charset");
        match self.kind() {
            "text/html" => field::decode_html(charset, &self.content()),
            _ => field::decode(charset, &self.content()),
        }
    }

    /// The number of bytes of the content. 0 for a multipart.
    pub(super) fn decoded_size(&self) -> i64 {
        match self.part.body {
            PartType::Multipart(_) => 0,
            _ => i64::try_from(self.content().len()).unwrap_or(i64::MAX),
        }
    }
}

/// Decodes lines of base64 (RFC 2045 §6.8). They end after padding, and before a line that can be
/// none: a mailing list may have put its own text behind.
fn base64(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    let mut after_blank = false;
    for line in text.split(|byte| *byte == b'\n') {
        let letters = line.trim_ascii();
        let odd = !letters.len().is_multiple_of(4);
        if after_blank && !letters.is_empty() && count == 0 && odd {
            break;
        }
        after_blank = letters.is_empty();
        let padding = letters
            .iter()
            .rev()
            .take_while(|byte| **byte == b'=')
            .count();
        let letters = letters.get(..letters.len() - padding).unwrap_or_default();
        if !letters
            .iter()
            .all(|byte| sextet(*byte).is_some() || byte.is_ascii_whitespace())
        {
            break;
        }
        for value in letters.iter().filter_map(|byte| sextet(*byte)) {
            bits = bits << 6 | u32::from(value);
            count += 6;
            if count >= 8 {
                count -= 8;
                let [low, ..] = (bits >> count).to_le_bytes();
                bytes.push(low);
                bits &= (1 << count) - 1;
            }
        }
        if padding > 0 {
            break;
        }
    }
    bytes
}

const fn sextet(letter: u8) -> Option<u8> {
    Some(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Decodes quoted-printable (RFC 2045 §6.7). A `=` that begins no code stands for itself.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    for line in &mut lines {
        let end = line.len()
            - line
                .iter()
                .rev()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
        let (content, line_end) = line.split_at_checked(end).unwrap_or((line, &[]));
        // White space at the end of a line is not part of the text.
        let line_end = match line_end {
            [.., b'\r', b'\n'] => &b"\r\n"[..],
            [.., b'\n'] => b"\n",
            _ => b"",
        };
        let (content, line_end) = match content.strip_suffix(b"=") {
            Some(content) => (content, &b""[..]),
            None => (content, line_end),
        };
        let mut rest = content;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            let code = match after {
                [high, low, ..] if *first == b'=' => hex(*high).zip(hex(*low)),
                _ => None,
            };
            match code {
                Some((high, low)) => {
                    bytes.push(high << 4 | low);
                    rest = rest.get(2..).unwrap_or_default();
                }
                None => bytes.push(*first),
            }
        }
        bytes.extend_from_slice(line_end);
    }
    bytes
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_ends_where_other_text_begins() {
        for (text, expected) in [
            ("SGVs\r\nbG8=\r\n", "Hello"),
            ("SGVsbG8", "Hello"),
            ("SGVsbG8=\r\n\r\nfooter\r\n", "Hello"),
            ("SGVsbG8h\r\n\r\n-- \r\nA list\r\n", "Hello!"),
            ("SGVsbG8h\r\n_____\r\nlist\r\n", "Hello!"),
            ("SGVs\n\nbG8h", "Hello!"),
            ("SGVs bG8h\t", "Hello!"),
            ("SGVsbG8h\r\n\r\nfooter\r\n", "Hello!"),
            ("no base64!", ""),
            ("", ""),
        ] {
            assert_eq!(
                String::from_utf8(base64(text.as_bytes())).unwrap(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn quoted_printable_survives_mistakes() {
        for (text, expected) in [
            ("h=E4 =\r\nyou=3D \r\nx\t\r\n", &b"h\xe4 you=\r\nx\r\n"[..]),
            ("a=e4b=ZZ=4", b"a\xe4b=ZZ=4"),
            ("a=", b"a"),
            ("a =  \nb\n", b"a b\n"),
            ("", b""),
        ] {
            assert_eq!(quoted_printable(text.as_bytes()), expected, "{text}");
        }
    }
}
