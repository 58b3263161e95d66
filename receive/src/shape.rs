//! The shape of a text that comes in: its fields, and its MIME parts (RFC 2046). A text with too
//! many of them harms everybody who reads it, so it is refused while it comes.
//!
//! [`Shape`] takes the text in pieces of any size, and holds no more than one line and the
//! boundaries that are open. It looks at lines only, so parts within an encoded part are not seen.
//! Who reads a text later has limits for these ([`postrider_smtp::mime`]).

use memchr::memchr_iter;
use postrider_smtp::{field::parameters, mime::Limits};

/// The most fields of a header section.
pub const FIELDS_MAX: usize = 1000;
/// The bytes of a line that are looked at. A boundary has at most 70 characters.
const LINE_MAX: usize = 1000;
/// The bytes of a Content-Type field that are looked at.
const FIELD_MAX: usize = 4096;

/// What a text has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A header section has too many fields.
    #[error("the message has more than {FIELDS_MAX} header fields")]
    Fields,
    /// The text has too many parts.
    #[error("the message has more than {0} MIME parts")]
    Parts(usize),
    /// Parts stand too deep within parts.
    #[error("the parts of the message nest more than {0} deep")]
    Depth(usize),
}

/// The shape of a text so far.
#[derive(Debug)]
pub struct Shape {
    limits: Limits,
    /// The parts that are open, the outermost first.
    open: Vec<Part>,
    parts: usize,
    /// The header section of a part is coming.
    header: Option<PartHeader>,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
}

/// A part with parts within it.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Multipart {
        /// The line between its parts, `--` included.
        boundary: Vec<u8>,
        /// Its parts are messages, unless they say otherwise.
        is_digest: bool,
    },
    Message,
}

/// The header section of a part, so far.
#[derive(Debug, Default)]
struct PartHeader {
    fields: usize,
    /// The value of Content-Type. None: there was no such field.
    content_type: Option<Vec<u8>>,
    /// The next line may go on with Content-Type.
    in_content_type: bool,
}

impl Shape {
    /// The shape of a text of which nothing has come.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: Vec::new(),
            parts: 1,
            header: None,
            line: Vec::new(),
        }
    }

    /// Takes the whole header section of the text, without the blank line.
    ///
    /// # Errors
    /// If it has too many fields.
    pub fn section(&mut self, section: &[u8]) -> Result<(), ShapeError> {
        let mut header = PartHeader::default();
        for line in section.split_inclusive(|byte| *byte == b'\n') {
            header.line(line)?;
        }
        self.body_begins(&header)
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// If the text has too much of something.
    pub fn body(&mut self, piece: &[u8]) -> Result<(), ShapeError> {
        if self.open.is_empty() && self.header.is_none() {
            return Ok(());
        }
        let mut from = 0;
        for at in memchr_iter(b'\n', piece) {
            let rest = piece.get(from..=at).unwrap_or_default();
            from = at + 1;
            if self.line.is_empty() {
                self.whole_line(rest)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                append(&mut line, rest, LINE_MAX);
                self.whole_line(&line)?;
                line.clear();
                self.line = line;
            }
        }
        let rest = piece.get(from..).unwrap_or_default();
        append(&mut self.line, rest, LINE_MAX);
        Ok(())
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), ShapeError> {
        let line = line.get(..LINE_MAX).unwrap_or(line);
        if line.starts_with(b"--") && self.boundary(line)? {
            return Ok(());
        }
        let Some(mut header) = self.header.take() else {
            return Ok(());
        };
        if line.trim_ascii_end().is_empty() {
            return self.body_begins(&header);
        }
        header.line(line)?;
        self.header = Some(header);
        Ok(())
    }

    /// Takes a line that may be the boundary of an open part. False: it is an ordinary line.
    fn boundary(&mut self, line: &[u8]) -> Result<bool, ShapeError> {
        let line = line.trim_ascii_end();
        // The innermost first. A boundary of an outer part ends the inner ones.
        let found = self.open.iter().enumerate().rev().find_map(|(at, part)| {
            let Part::Multipart { boundary, .. } = part else {
                return None;
            };
            match line.strip_prefix(boundary.as_slice())? {
                b"" => Some((at, true)),
                b"--" => Some((at, false)),
                _ => None,
            }
        });
        let Some((at, opens)) = found else {
            return Ok(false);
        };
        // After its last boundary a part goes on with text that belongs to nothing.
        self.open.truncate(if opens { at + 1 } else { at });
        self.header = None;
        if opens {
            self.begin_part()?;
        }
        Ok(true)
    }

    fn begin_part(&mut self) -> Result<(), ShapeError> {
        self.parts += 1;
        if self.parts > self.limits.parts {
            return Err(ShapeError::Parts(self.limits.parts));
        }
        self.header = Some(PartHeader::default());
        Ok(())
    }

    /// The header section of a part is whole.
    fn body_begins(&mut self, header: &PartHeader) -> Result<(), ShapeError> {
        let in_digest = matches!(
            self.open.last(),
            Some(Part::Multipart {
                is_digest: true,
                ..
            })
        );
        let value = match &header.content_type {
            Some(value) => value.as_slice(),
            None if in_digest => b"message/rfc822",
            None => return Ok(()),
        };
        let value = parameters(value);
        let part = match (value.value.split_once('/'), value.get("boundary")) {
            (Some(("multipart", kind)), Some(boundary)) if !boundary.is_empty() => {
                Part::Multipart {
                    boundary: format!("--{}", boundary.trim_end()).into_bytes(),
                    is_digest: kind == "digest",
                }
            }
            (Some(("message", "rfc822" | "global" | "news")), _) => Part::Message,
            _ => return Ok(()),
        };
        let is_message = part == Part::Message;
        self.open.push(part);
        if self.open.len() > self.limits.depth {
            return Err(ShapeError::Depth(self.limits.depth));
        }
        if is_message {
            self.begin_part()?;
        }
        Ok(())
    }
}

impl PartHeader {
    fn line(&mut self, line: &[u8]) -> Result<(), ShapeError> {
        const NAME: &[u8] = b"content-type";
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let (true, Some(value)) = (self.in_content_type, &mut self.content_type) {
                append(value, line, FIELD_MAX);
            }
            return Ok(());
        }
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(ShapeError::Fields);
        }
        let name = line.get(..NAME.len());
        let value = line.get(NAME.len()..).unwrap_or_default();
        let value = value.trim_ascii_start().strip_prefix(b":");
        let is_type = name.is_some_and(|name| name.eq_ignore_ascii_case(NAME));
        self.in_content_type = is_type && value.is_some() && self.content_type.is_none();
        if let (true, Some(value)) = (self.in_content_type, value) {
            self.content_type = Some(value.to_vec());
        }
        Ok(())
    }
}

/// Appends bytes up to a length.
fn append(to: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let room = max.saturating_sub(to.len());
    to.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { parts: 6, depth: 3 };

    /// Takes a text in pieces of this size.
    fn take(text: &str, size: usize) -> Result<usize, ShapeError> {
        let (section, body) = text.split_once("\r\n\r\n").unwrap();
        let mut shape = Shape::new(LIMITS);
        shape.section(format!("{section}\r\n").as_bytes())?;
        for piece in body.as_bytes().chunks(size) {
            shape.body(piece)?;
        }
        assert!(shape.line.len() <= LINE_MAX);
        Ok(shape.parts)
    }

    fn check(text: &str, expected: Result<usize, ShapeError>) {
        for size in [1, 2, 3, 7, 50, 1 << 20] {
            assert_eq!(take(text, size), expected, "by {size}: {text}");
        }
    }

    fn mixed(boundary: &str) -> String {
        format!("Content-Type: multipart/mixed;\r\n boundary=\"{boundary}\"\r\n\r\n")
    }

    #[test]
    fn parts_are_counted() {
        let part = "--b\r\n\r\ntext\r\n";
        for (text, parts) in [
            ("Subject: x\r\n\r\n--b\r\n\r\n--b--\r\n".to_owned(), 1),
            (format!("{}{part}{part}--b--\r\n", mixed("b")), 3),
            // Text after the end, and lines that only look like a boundary.
            (format!("{}{part}--b--\r\n{part}", mixed("b")), 2),
            (format!("{}--bb\r\n --b\r\n--b \t\r\n--", mixed("b")), 2),
            (
                "X: y\r\ncontent-TYPE : Multipart/Mixed; boundary=b\r\n\r\n--b\r\n--b\r\n".into(),
                3,
            ),
            // A message within a part has parts of its own.
            (
                format!(
                    "{}--b\r\nContent-Type: message/rfc822\r\n\r\n{}--c\r\n\r\n--c--\r\n{part}",
                    mixed("b"),
                    mixed("c")
                ),
                5,
            ),
            // The parts of a digest are messages.
            (
                format!(
                    "Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\n{}--c\r\n",
                    mixed("c")
                ),
                4,
            ),
            // The outer boundary ends the inner parts.
            (
                format!(
                    "{}--b\r\n{}--c\r\n\r\n--b\r\n\r\n--c\r\n",
                    mixed("b"),
                    mixed("c")
                ),
                4,
            ),
        ] {
            check(&text, Ok(parts));
        }
    }

    #[test]
    fn too_much_of_something_is_refused() {
        let part = "--b\r\n\r\ntext\r\n";
        let many = |count| format!("{}{}", mixed("b"), part.repeat(count));
        check(&many(5), Ok(6));
        check(&many(6), Err(ShapeError::Parts(6)));
        let deep = |count| -> String {
            let within = (0..count).map(|n| format!("{}--{n}b\r\n", mixed(&format!("{n}b"))));
            within.collect()
        };
        check(&deep(3), Ok(4));
        check(&deep(4), Err(ShapeError::Depth(3)));
        let message = "Content-Type: message/rfc822\r\n\r\n";
        check(&message.repeat(3), Ok(4));
        check(&message.repeat(4), Err(ShapeError::Depth(3)));
        let fields = |count| "A: b\r\n c\r\n".repeat(count);
        check(&format!("{}\r\n", fields(1000)), Ok(1));
        check(&format!("{}\r\n", fields(1001)), Err(ShapeError::Fields));
        let in_part = format!("{}--b\r\n{}", mixed("b"), fields(1001));
        check(&in_part, Err(ShapeError::Fields));
    }

    #[test]
    fn a_long_line_takes_no_memory() {
        let long = "x".repeat(100_000);
        check(&format!("{}{long}\r\n--b\r\n\r\n{long}", mixed("b")), Ok(2));
        let folded = format!("\r\n {long}").repeat(3);
        let text = format!("Content-Type: text/plain;{folded}\r\n\r\n");
        check(&text, Ok(1));
    }
}
