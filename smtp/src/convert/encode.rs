//! The transfer encodings (RFC 2045 §6.7 and §6.8), for a content that comes in pieces.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The most characters of a line of quoted-printable, without the `=` at its end.
const QUOTED_MAX: usize = 75;
/// The bytes in a line of base64, and its characters.
const BASE64_BYTES: usize = 57;
const BASE64_MAX: usize = 76;
/// Lines that are quoted-printable already are cut here if they are too long: between two bytes, or
/// anywhere in a line that is not quoted-printable.
const MENDED_MAX: usize = 900;
const MENDED_ANYWHERE: usize = 990;

/// Whether a byte stands for itself in quoted-printable. White space does so too, but not at the
/// end of a line.
pub(super) const fn is_literal(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 33..=60 | 62..=126)
}

/// Encodes the content of a part. It gets bytes within a line, and line ends for themselves.
#[derive(Debug, Default)]
pub(super) enum Encoder {
    #[default]
    None,
    Quoted(Quoted),
    Base64(Base64),
    MendQuoted(Quoted),
    MendBase64(usize),
}

impl Encoder {
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(bytes),
            Self::Quoted(quoted) => bytes.iter().for_each(|byte| quoted.push(*byte, out)),
            Self::Base64(base64) => base64.write(bytes, out),
            Self::MendQuoted(quoted) => quoted.mend(bytes, out),
            Self::MendBase64(column) => {
                let is_of_it =
                    |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
                for byte in bytes.iter().filter(is_of_it) {
                    if *column == BASE64_MAX {
                        out.extend_from_slice(b"\r\n");
                        *column = 0;
                    }
                    out.push(*byte);
                    *column += 1;
                }
            }
        }
    }

    /// Ends the content. True: the last line has no end yet.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::None | Self::MendQuoted(_) => false,
            Self::Quoted(quoted) => {
                quoted.finish(out);
                false
            }
            Self::Base64(base64) => base64.finish(out),
            Self::MendBase64(column) => column > 0,
        }
    }
}

/// Text with CRLF line ends as quoted-printable (RFC 2045 §6.7). A bare LF becomes a line end.
#[must_use]
pub fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8);
    let mut encoder = Encoder::Quoted(Quoted::default());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(rest) => {
                encoder.write(rest.strip_suffix(b"\r").unwrap_or(rest), &mut out);
                encoder.write(b"\r\n", &mut out);
            }
            None => encoder.write(line, &mut out),
        }
    }
    encoder.finish(&mut out);
    out
}

/// Quoted-printable.
#[derive(Debug, Default)]
pub(super) struct Quoted {
    column: usize,
    /// A byte whose form depends on the next one: white space, or a CR.
    held: Option<u8>,
    /// The line goes on from the one before.
    goes_on: bool,
    /// The characters since the last `=`, at most two.
    after_escape: usize,
}

impl Quoted {
    fn push(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.held.take() {
            Some(b'\r') if byte == b'\n' => {
                self.end_line(out);
                return;
            }
            Some(b'\r') => self.escape(b'\r', out),
            // It may be at the end of the line.
            Some(space) if byte == b'\r' => self.escape(space, out),
            Some(space) => self.literal(space, out),
            None => {}
        }
        match byte {
            b'\r' | b' ' | b'\t' => self.held = Some(byte),
            byte if is_literal(byte) => self.literal(byte, out),
            byte => self.escape(byte, out),
        }
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held.take() {
            self.escape(held, out);
        }
    }

    fn literal(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.column >= QUOTED_MAX {
            self.cut(out);
        }
        if byte == b'-' && self.goes_on && self.column == 0 {
            // The rest of a line must not look like a delimiter.
            return self.escape(byte, out);
        }
        out.push(byte);
        self.column += 1;
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        if self.column + 3 > QUOTED_MAX {
            self.cut(out);
        }
        let digit = |at: u8| DIGITS.get(usize::from(at)).copied().unwrap_or(b'0');
        out.extend_from_slice(&[b'=', digit(byte >> 4), digit(byte & 15)]);
        self.column += 3;
    }

    /// Ends a line that goes on.
    fn cut(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"=\r\n");
        (self.column, self.goes_on) = (0, true);
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        (self.column, self.goes_on) = (0, false);
    }

    /// Takes bytes that are quoted-printable, but for what a server would not take.
    fn mend(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if bytes == b"\r\n" || bytes == b"\n" {
            self.after_escape = 0;
            return self.end_line(out);
        }
        for byte in bytes {
            let between = self.column >= MENDED_MAX && self.after_escape == 0;
            if between || self.column >= MENDED_ANYWHERE {
                self.cut(out);
            }
            let looks_like_delimiter = *byte == b'-' && self.goes_on && self.column == 0;
            if *byte == b'=' {
                self.after_escape = 2;
            } else {
                self.after_escape = self.after_escape.saturating_sub(1);
            }
            if !byte.is_ascii() || matches!(byte, 0 | b'\r') || looks_like_delimiter {
                // `escape` cuts lines at another width.
                let column = std::mem::replace(&mut self.column, 0);
                self.escape(*byte, out);
                self.column = column + 3;
            } else {
                out.push(*byte);
                self.column += 1;
            }
        }
    }
}

/// Base64.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    /// The bytes of the line so far.
    line: Vec<u8>,
    /// A line was written.
    began: bool,
}

impl Base64 {
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = BASE64_BYTES - self.line.len();
            let (now, after) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.line.extend_from_slice(now);
            rest = after;
            if self.line.len() == BASE64_BYTES {
                self.write_line(out);
            }
        }
    }

    fn write_line(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.began, true) {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(STANDARD.encode(&self.line).as_bytes());
        self.line.clear();
    }

    fn finish(mut self, out: &mut Vec<u8>) -> bool {
        if !self.line.is_empty() {
            self.write_line(out);
        }
        self.began
    }
}
