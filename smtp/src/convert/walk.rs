//! The structure of a text (RFC 2046): its lines, told as header sections, contents and delimiters.
//!
//! The CRLF before a delimiter belongs to the delimiter (RFC 2046 §5.1.1), so a line end is held
//! back until the next line is known.

use memchr::memchr;

use super::{
    LINE_MAX, Unconvertible,
    part::{Kind, Part},
};
use crate::mime::Limits;

/// The longest header section, in bytes.
const SECTION_MAX: usize = 1 << 20;
/// More bytes of a line than these, with its CR, are no delimiter. A boundary has at most 70
/// characters.
const DELIMITER_MAX: usize = LINE_MAX + 1;

/// Takes what the walker finds.
pub(super) trait Sink {
    /// A header section, with CRLF after each line. `blank`: the blank line stood behind it.
    fn section(&mut self, section: &[u8], part: &Part, blank: bool) -> Result<(), Unconvertible>;

    /// Bytes of the content of a part without parts: a line end, or bytes within a line.
    fn content(&mut self, bytes: &[u8]);

    /// The end of such a content.
    fn end(&mut self) -> Result<(), Unconvertible>;

    /// Bytes before the first and after the last delimiter of a multipart, likewise. True: they may
    /// not stay as they are.
    fn around(&mut self, bytes: &[u8]) -> bool;

    /// A delimiter, with the line ends before and after it.
    fn delimiter(&mut self, before: &[u8], line: &[u8], after: &[u8]);
}

/// A part with parts within it.
#[derive(Debug)]
struct Open {
    /// Empty: a message within a part.
    boundary: Vec<u8>,
    is_digest: bool,
    is_protected: bool,
    /// A delimiter was there.
    seen: bool,
    /// The text before the first delimiter may not stay.
    around: bool,
}

#[derive(Debug)]
enum State {
    /// In a header section, with its lines so far.
    Section(Vec<u8>),
    Content,
    Around,
}

/// Walks through a text that comes in pieces.
#[derive(Debug)]
pub(super) struct Walker {
    open: Vec<Open>,
    state: State,
    /// The header section is that of a message.
    is_message: bool,
    parts: usize,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// A beginning of the line is handed on.
    in_line: bool,
    /// The line end before this line, which is not handed on yet.
    held: &'static [u8],
}

impl Walker {
    pub(super) const fn new() -> Self {
        Self {
            open: Vec::new(),
            state: State::Section(Vec::new()),
            is_message: true,
            parts: 1,
            line: Vec::new(),
            in_line: false,
            held: b"",
        }
    }

    /// Takes the next piece of the text.
    pub(super) fn write(
        &mut self,
        piece: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Unconvertible> {
        let mut rest = piece;
        while let Some(at) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at_checked(at + 1).unwrap_or((rest, &[]));
            rest = after;
            if self.line.is_empty() {
                self.whole_line(line, sink)?;
                continue;
            }
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            self.whole_line(&whole, sink)?;
            whole.clear();
            self.line = whole;
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > DELIMITER_MAX {
            self.part_of_line(sink)?;
        }
        Ok(())
    }

    /// Ends the text.
    pub(super) fn finish(&mut self, sink: &mut impl Sink) -> Result<(), Unconvertible> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() || self.in_line {
            self.whole_line(&line, sink)?;
        }
        self.leave(sink)?;
        self.close(0)
    }

    /// Hands on what is there of a long line, but for a CR at its end.
    fn part_of_line(&mut self, sink: &mut impl Sink) -> Result<(), Unconvertible> {
        if matches!(self.state, State::Section(_)) {
            return match self.line.len() > SECTION_MAX {
                true => Err(Unconvertible::TooMuch),
                false => Ok(()),
            };
        }
        let mut line = std::mem::take(&mut self.line);
        let cr = line.ends_with(b"\r");
        let part = line.strip_suffix(b"\r").unwrap_or(&line);
        self.hand_on(part, sink);
        self.in_line = true;
        line.clear();
        line.extend_from_slice(if cr { b"\r" } else { b"" });
        self.line = line;
        Ok(())
    }

    /// Takes a line with its end, or the rest of one. Only the last line may have no end.
    fn whole_line(&mut self, line: &[u8], sink: &mut impl Sink) -> Result<(), Unconvertible> {
        let (content, end): (&[u8], &'static [u8]) = match line {
            [content @ .., b'\r', b'\n'] => (content, b"\r\n"),
            [content @ .., b'\n'] => (content, b"\n"),
            content => (content, b""),
        };
        let goes_on = std::mem::replace(&mut self.in_line, false);
        if !goes_on && content.starts_with(b"--") && content.len() <= LINE_MAX {
            let found = self.find(content);
            if let Some((at, opens)) = found {
                return self.delimiter(content, end, (at, opens), sink);
            }
        }
        match &mut self.state {
            State::Section(section) if content.is_empty() => {
                let section = std::mem::take(section);
                let part = self.part(&section);
                sink.section(&section, &part, true)?;
                self.enter(part)
            }
            State::Section(section) => {
                section.extend_from_slice(content);
                section.extend_from_slice(b"\r\n");
                match section.len() > SECTION_MAX {
                    true => Err(Unconvertible::TooMuch),
                    false => Ok(()),
                }
            }
            State::Content | State::Around => {
                self.hand_on(content, sink);
                self.held = end;
                Ok(())
            }
        }
    }

    /// Hands on the line end that was held back, and bytes of a line.
    fn hand_on(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let held = std::mem::replace(&mut self.held, b"");
        for bytes in [held, bytes] {
            if bytes.is_empty() {
                continue;
            }
            if matches!(self.state, State::Content) {
                sink.content(bytes);
            } else if sink.around(bytes)
                && let Some(open) = self.open.last_mut()
            {
                open.around = true;
            }
        }
    }

    /// The open part that a line is the delimiter of, and whether a part follows. The innermost
    /// comes first. A delimiter of an outer part ends the inner ones.
    fn find(&self, line: &[u8]) -> Option<(usize, bool)> {
        let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t'));
        let line = line.get(..=end?).unwrap_or_default();
        let mut open = self.open.iter().enumerate().rev();
        open.find_map(|(at, open)| {
            if open.boundary.is_empty() {
                return None;
            }
            match line.strip_prefix(open.boundary.as_slice())? {
                b"" => Some((at, true)),
                b"--" => Some((at, false)),
                _ => None,
            }
        })
    }

    fn delimiter(
        &mut self,
        line: &[u8],
        after: &[u8],
        (at, opens): (usize, bool),
        sink: &mut impl Sink,
    ) -> Result<(), Unconvertible> {
        let before = std::mem::replace(&mut self.held, b"");
        self.leave(sink)?;
        if let Some(open) = self.open.get_mut(at) {
            open.seen = true;
        }
        self.close(if opens { at + 1 } else { at })?;
        sink.delimiter(before, line, after);
        if !opens {
            // What follows belongs to nothing.
            self.state = State::Around;
            return Ok(());
        }
        self.begin(false)
    }

    /// Ends the part that the walker is in.
    fn leave(&mut self, sink: &mut impl Sink) -> Result<(), Unconvertible> {
        match std::mem::replace(&mut self.state, State::Around) {
            State::Section(section) => {
                let part = self.part(&section);
                sink.section(&section, &part, false)?;
                match part.kind {
                    Kind::Leaf | Kind::Fixed => sink.end(),
                    Kind::Multipart(_) | Kind::Message => Ok(()),
                }
            }
            State::Content => {
                self.state = State::Content;
                self.hand_on(b"", sink);
                self.state = State::Around;
                sink.end()
            }
            State::Around => {
                self.hand_on(b"", sink);
                Ok(())
            }
        }
    }

    /// Closes all open parts but the first `keep`.
    fn close(&mut self, keep: usize) -> Result<(), Unconvertible> {
        let closed = self.open.split_off(keep.min(self.open.len()));
        // A multipart without a delimiter is none: all of it would be lost.
        let is_none = |open: &Open| !open.boundary.is_empty() && !open.seen && open.around;
        match closed.iter().any(is_none) {
            true => Err(Unconvertible::Part),
            false => Ok(()),
        }
    }

    fn part(&self, section: &[u8]) -> Part {
        let outer = self.open.last();
        let in_digest = !self.is_message && outer.is_some_and(|open| open.is_digest);
        Part {
            is_message: self.is_message,
            is_whole: self.is_message && self.open.is_empty(),
            is_protected: outer.is_some_and(|open| open.is_protected),
            ..Part::read(section, in_digest)
        }
    }

    /// Goes from a header section into its content.
    fn enter(&mut self, part: Part) -> Result<(), Unconvertible> {
        let boundary = match part.kind {
            Kind::Leaf | Kind::Fixed => {
                self.state = State::Content;
                return Ok(());
            }
            Kind::Multipart(boundary) => boundary,
            Kind::Message => Vec::new(),
        };
        if self.open.len() >= Limits::default().depth {
            return Err(Unconvertible::TooMuch);
        }
        let is_message = boundary.is_empty();
        self.open.push(Open {
            boundary,
            is_digest: part.is_digest,
            is_protected: part.is_protected || part.protects,
            seen: false,
            around: false,
        });
        match is_message {
            true => self.begin(true),
            false => {
                self.state = State::Around;
                Ok(())
            }
        }
    }

    /// Begins a part, or a message in a part.
    fn begin(&mut self, is_message: bool) -> Result<(), Unconvertible> {
        self.parts += 1;
        self.state = State::Section(Vec::new());
        self.is_message = is_message;
        match self.parts > Limits::default().parts {
            true => Err(Unconvertible::TooMuch),
            false => Ok(()),
        }
    }
}
