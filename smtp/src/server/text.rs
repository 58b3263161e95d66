//! The text of a message on its way in.
//!
//! The reader finds the end of DATA, removes the dots that DATA added, and checks each line. Only
//! CRLF ends a line, and only CRLF.CRLF ends DATA (RFC 5321 §2.3.8, §4.1.1.4). A text with a bare
//! CR or LF, a NUL or an over-long line is read to its end and then refused. So no other idea of a
//! line end can smuggle a second message in, or out to the next hop. A binary text (RFC 3030 §3)
//! may have any bytes: its end is counted, and it goes on by BDAT or in another form
//! ([`crate::convert`]).

use bytes::{Bytes, BytesMut};
use memchr::memchr3;

/// A fault of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TextError {
    /// A CR without an LF after it.
    #[error("a CR without LF")]
    BareCr,
    /// An LF without a CR before it.
    #[error("an LF without CR")]
    BareLf,
    /// A NUL. RFC 5322 §4 calls it obsolete, and many programs cut a text there.
    #[error("a NUL character")]
    Nul,
    /// A line that is longer than the limit.
    #[error("a line that is too long")]
    LineTooLong,
    /// The text is larger than the limit.
    #[error("more than the size limit")]
    TooLarge,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A piece of the text, without the dots of DATA. Never empty.
    Text(Bytes),
    /// The reader needs more input.
    More,
    /// The end of the text or of the chunk.
    End,
}

/// Reads one text, by DATA or in the chunks of BDAT.
#[derive(Debug)]
pub(super) struct TextReader {
    limits: TextLimits,
    /// The bytes of the text so far.
    size: u64,
    /// The bytes of the line so far.
    line: usize,
    at_line_start: bool,
    /// The chunk ended with a CR. Its LF may begin the next chunk.
    held_cr: bool,
    /// The text need not be made of lines.
    binary: bool,
    error: Option<TextError>,
}

/// The limits of a text in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextLimits {
    /// The limit of the whole text.
    pub size: u64,
    /// The limit of a line without its CRLF.
    pub line: usize,
}

impl TextReader {
    /// A reader at the beginning of a text.
    pub(super) const fn new(limits: TextLimits) -> Self {
        Self {
            limits,
            size: 0,
            line: 0,
            at_line_start: true,
            held_cr: false,
            binary: false,
            error: None,
        }
    }

    /// A reader at the beginning of a binary text, which comes in chunks.
    pub(super) const fn binary(limits: TextLimits) -> Self {
        Self {
            binary: true,
            ..Self::new(limits)
        }
    }

    /// The first fault so far. After a fault the reader gives no more text.
    pub(super) const fn error(&self) -> Option<TextError> {
        self.error
    }

    /// Takes text from the front of `input`, which has the bytes after the 354.
    pub(super) fn read_data(&mut self, input: &mut BytesMut) -> Piece {
        loop {
            // The first byte of a line tells: the end, an added dot, or text.
            if self.at_line_start && input.first() == Some(&b'.') {
                match input.get(1..3) {
                    Some(b"\r\n") => {
                        drop(input.split_to(3));
                        return Piece::End;
                    }
                    None if input.len() == 1 || input.get(1) == Some(&b'\r') => return Piece::More,
                    _ => {
                        drop(input.split_to(1));
                        // The dot is gone. The next byte belongs to the line, even if it is a dot.
                        self.at_line_start = false;
                    }
                }
            }
            let taken = self.scan(input, true);
            if taken == 0 {
                return Piece::More;
            }
            let text = input.split_to(taken).freeze();
            if let Some(piece) = self.give(text) {
                return piece;
            }
        }
    }

    /// Takes text of a chunk from the front of `input`. `left` is the number of bytes of the chunk
    /// that are still to come, and goes down.
    pub(super) fn read_chunk(&mut self, input: &mut BytesMut, left: &mut u64) -> Piece {
        let there = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(input.len());
        if *left == 0 {
            return Piece::End;
        }
        if there == 0 {
            return Piece::More;
        }
        let mut part = input.split_to(there);
        *left -= there as u64;
        let end = |left: u64| if left == 0 { Piece::End } else { Piece::More };
        if self.binary {
            return self.give(part.freeze()).unwrap_or_else(|| end(*left));
        }
        if self.held_cr {
            // The CR goes back in front of its possible LF.
            let mut joined = BytesMut::with_capacity(there + 1);
            joined.extend_from_slice(b"\r");
            joined.extend_from_slice(&part);
            part = joined;
            self.held_cr = false;
        }
        let length = part.len();
        let taken = self.scan(&part, false);
        self.held_cr = taken < length;
        part.truncate(taken);
        self.give(part.freeze()).unwrap_or_else(|| end(*left))
    }

    /// The last chunk was read. A CR at its end is bare.
    pub(super) fn finish_chunks(&mut self) {
        if self.held_cr {
            self.fail(TextError::BareCr);
        }
    }

    /// Counts a piece, and gives it out unless there is a fault.
    fn give(&mut self, text: Bytes) -> Option<Piece> {
        self.size = self.size.saturating_add(text.len() as u64);
        if self.size > self.limits.size {
            self.fail(TextError::TooLarge);
        }
        (self.error.is_none() && !text.is_empty()).then_some(Piece::Text(text))
    }

    fn fail(&mut self, error: TextError) {
        self.error.get_or_insert(error);
    }

    /// The number of bytes at the front of `input` that are text for sure. The scan stops before a
    /// CR at the end of the input and, with `dots`, before a dot at the beginning of a line.
    fn scan(&mut self, input: &[u8], dots: bool) -> usize {
        let mut at = 0;
        while let Some(rest) = input.get(at..) {
            if rest.is_empty() || (dots && self.at_line_start && rest.first() == Some(&b'.')) {
                break;
            }
            let Some(found) = memchr3(b'\r', b'\n', 0, rest) else {
                self.extend_line(rest.len());
                at = input.len();
                break;
            };
            self.extend_line(found);
            at += found;
            match (rest.get(found), rest.get(found + 1)) {
                (Some(b'\r'), Some(b'\n')) => {
                    at += 2;
                    self.line = 0;
                    self.at_line_start = true;
                }
                (Some(b'\r'), None) => break,
                (Some(byte), _) => {
                    self.fail(match byte {
                        b'\r' => TextError::BareCr,
                        b'\n' => TextError::BareLf,
                        _ => TextError::Nul,
                    });
                    at += 1;
                    self.extend_line(1);
                }
                (None, _) => break,
            }
        }
        at
    }

    fn extend_line(&mut self, bytes: usize) {
        if bytes > 0 {
            self.at_line_start = false;
            self.line = self.line.saturating_add(bytes);
            if self.line > self.limits.line {
                self.fail(TextError::LineTooLong);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: TextLimits = TextLimits {
        size: 100,
        line: 20,
    };

    /// Reads `wire` in pieces of `split` bytes. Gives the text, the bytes after its end, and the
    /// fault. None without an end.
    fn read(wire: &[u8], split: usize) -> Option<(Vec<u8>, Vec<u8>, Option<TextError>)> {
        let mut reader = TextReader::new(LIMITS);
        let (mut input, mut text) = (BytesMut::new(), Vec::new());
        let mut chunks = wire.chunks(split);
        loop {
            match reader.read_data(&mut input) {
                Piece::Text(piece) => text.extend_from_slice(&piece),
                Piece::More => input.extend_from_slice(chunks.next()?),
                Piece::End => {
                    let mut left = input.to_vec();
                    chunks.for_each(|chunk| left.extend_from_slice(chunk));
                    return Some((text, left, reader.error()));
                }
            }
        }
    }

    fn check(wire: &str, text: &str, left: &str) {
        for split in 1..=wire.len() {
            let expected = (text.as_bytes().to_vec(), left.as_bytes().to_vec(), None);
            assert_eq!(
                read(wire.as_bytes(), split),
                Some(expected),
                "{wire:?} by {split}"
            );
        }
    }

    #[test]
    fn the_end_is_found_and_dots_are_unstuffed() {
        check(".\r\n", "", "");
        check("a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n");
        check("..\r\n.\r\n", ".\r\n", "");
        check(
            "...a\r\n..b\r\n.c\r\n\r\n.\r\n",
            "..a\r\n.b\r\nc\r\n\r\n",
            "",
        );
        check("a.\r\n.\r\n.\r\n", "a.\r\n", ".\r\n");
    }

    fn wrong(wire: &str, error: TextError) {
        for split in 1..=wire.len() {
            let (_, left, found) =
                read(wire.as_bytes(), split).unwrap_or_else(|| panic!("{wire:?}: no end"));
            assert_eq!(
                (found, &*left),
                (Some(error), &b""[..]),
                "{wire:?} by {split}"
            );
        }
    }

    #[test]
    fn only_crlf_ends_a_line_and_what_is_wrong_is_read_to_its_end() {
        wrong("a\nb\r\n.\r\n", TextError::BareLf);
        wrong("a\n.\nb\r\n.\r\n", TextError::BareLf);
        wrong("a\n.\r\nb\r\n.\r\n", TextError::BareLf);
        wrong("a\r.\r\nb\r\n.\r\n", TextError::BareCr);
        wrong("a\r\n.\rb\r\n.\r\n", TextError::BareCr);
        wrong("a\r\r\n.\r\n", TextError::BareCr);
        wrong("a\r\n.\nb\r\n.\r\n", TextError::BareLf);
        wrong("a\0b\r\n.\r\n", TextError::Nul);
        wrong("123456789012345678901\r\n.\r\n", TextError::LineTooLong);
        wrong(
            &format!("{}.\r\n", "123456789\r\n".repeat(10)),
            TextError::TooLarge,
        );
    }

    /// Reads chunks, each in pieces of `split` bytes.
    fn chunks(chunks: &[&str], split: usize) -> (Vec<u8>, Option<TextError>) {
        chunks_of(TextReader::new(LIMITS), chunks, split)
    }

    fn chunks_of(
        mut reader: TextReader,
        chunks: &[&str],
        split: usize,
    ) -> (Vec<u8>, Option<TextError>) {
        let mut text = Vec::new();
        for chunk in chunks {
            let mut left = chunk.len() as u64;
            let mut pieces = chunk.as_bytes().chunks(split);
            let mut input = BytesMut::new();
            loop {
                match reader.read_chunk(&mut input, &mut left) {
                    Piece::Text(piece) => text.extend_from_slice(&piece),
                    Piece::More => input.extend_from_slice(pieces.next().unwrap()),
                    Piece::End => break,
                }
            }
        }
        reader.finish_chunks();
        (text, reader.error())
    }

    #[test]
    fn chunks_keep_their_dots_and_may_split_a_line_end() {
        for split in 1..8 {
            assert_eq!(
                chunks(&["a\r", "\n.\r\n", "..b\r\n"], split),
                (b"a\r\n.\r\n..b\r\n".to_vec(), None)
            );
            assert_eq!(chunks(&["a\r\n\r"], split).1, Some(TextError::BareCr));
            assert_eq!(chunks(&["a\r", "b"], split).1, Some(TextError::BareCr));
            assert_eq!(chunks(&["a\n"], split).1, Some(TextError::BareLf));
        }
    }

    #[test]
    fn a_binary_text_has_anything_but_too_much() {
        let (line, text) = ("x".repeat(50), "a\r|\n.\r\n\0\r\r\n.\r\n".to_owned());
        for split in 1..8 {
            let chunks = [text.as_str(), "", &line, "\r"];
            let read = chunks_of(TextReader::binary(LIMITS), &chunks, split);
            assert_eq!(read, (chunks.concat().into_bytes(), None));
            let large = [line.as_str(), &line, "x"];
            let (_, error) = chunks_of(TextReader::binary(LIMITS), &large, split);
            assert_eq!(error, Some(TextError::TooLarge));
        }
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(wire in "[a.\r\n]{0,40}", split in 1_usize..10) {
            let wire = format!("{wire}\r\n.\r\n");
            let whole = read(wire.as_bytes(), wire.len());
            let parts = read(wire.as_bytes(), split);
            // Only the text before a fault depends on the split.
            let facts = |read: Option<(Vec<u8>, Vec<u8>, Option<TextError>)>| {
                read.map(|(text, left, error)| (error.is_none().then_some(text), left, error))
            };
            prop_assert_eq!(facts(whole), facts(parts));
        }
    }
}
