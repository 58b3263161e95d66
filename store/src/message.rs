//! A whole message: the fields that stand before its text, and the text.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{Pieces, StoreError, Text};

/// Header fields that stand before the text of one record. Each field ends in CRLF. Empty by
/// default; clones share the bytes.
///
/// A text is shared by several records. What is true for one of them only (Return-Path, Received,
/// results of checks) stands here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Top(Bytes);

impl Top {
    /// No fields.
    pub const EMPTY: Self = Self(Bytes::new());

    /// These fields. None if the last one does not end in CRLF.
    #[must_use]
    pub fn new(fields: impl Into<Bytes>) -> Option<Self> {
        let fields = fields.into();
        (fields.is_empty() || fields.ends_with(b"\r\n")).then_some(Self(fields))
    }

    /// The fields as bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// How many bytes the fields have.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The one reader of a whole message. It gives top and text as one run of bytes.
///
/// The message can be read while this value lives, even when the last record of it is removed
/// meanwhile.
#[derive(Clone, Debug)]
pub struct Message {
    top: Top,
    text: Text,
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::new(Top::EMPTY, text)
    }
}

impl Message {
    /// The message that has this top and this text.
    #[must_use]
    pub const fn new(top: Top, text: Text) -> Self {
        Self { top, text }
    }

    /// The fields before the text.
    #[must_use]
    pub const fn top(&self) -> &Top {
        &self.top
    }

    /// The text without the fields before it.
    #[must_use]
    pub const fn text(&self) -> &Text {
        &self.text
    }

    /// How many bytes top and text have together.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.top.len() + self.text.len()
    }

    /// Whether the message has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes, if they are in memory already.
    #[must_use]
    pub fn in_memory(&self) -> Option<&Bytes> {
        self.text.in_memory().filter(|_| self.top.is_empty())
    }

    /// The bytes at `range`, cut at the end of the message. A range that covers the whole text also
    /// checks that the text is what was written.
    ///
    /// # Errors
    /// If the disk does not give the bytes, or the text is damaged.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (top, rest) = self.split(range);
        if top.is_empty() {
            return self.text.read(rest).await;
        }
        if rest.is_empty() && !self.text.is_empty() {
            return Ok(top);
        }
        Ok(joined(top, self.text.read(rest).await?))
    }

    /// The message, to be handed on piece by piece. Then the text is checked before the last piece
    /// is given.
    #[must_use]
    pub fn into_pieces(self) -> Pieces {
        Pieces::new(self)
    }

    /// The bytes from `at` on, `max` at most. A piece ends at the end of the top, so that no bytes
    /// are copied. It is empty only at the end of the message.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn piece(&self, at: u64, max: u64) -> Result<Bytes, StoreError> {
        let end = at.saturating_add(max);
        if at < self.top.len() {
            return Ok(self.split(at..end.min(self.top.len())).0);
        }
        self.read(at..end).await
    }

    /// The same as [`read`](Self::read). It blocks the calling thread while the disk is read.
    ///
    /// # Errors
    /// As for `read`.
    pub fn read_blocking(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (top, rest) = self.split(range);
        if top.is_empty() {
            return self.text.read_blocking(rest);
        }
        if rest.is_empty() && !self.text.is_empty() {
            return Ok(top);
        }
        Ok(joined(top, self.text.read_blocking(rest)?))
    }

    /// All bytes.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn whole(&self) -> Result<Bytes, StoreError> {
        self.read(0..self.len()).await
    }

    /// The first bytes, `max` at most.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn beginning(&self, max: u64) -> Result<Bytes, StoreError> {
        self.read(0..self.len().min(max)).await
    }

    /// The part of a range that lies in the top, and the range of the text that follows it.
    fn split(&self, range: Range<u64>) -> (Bytes, Range<u64>) {
        let top = self.top.len();
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        let of_text = start.saturating_sub(top)..end.saturating_sub(top);
        let at = |at: u64| usize::try_from(at.min(top)).unwrap_or(self.top.0.len());
        (self.top.0.slice(at(start)..at(end)), of_text)
    }
}

fn joined(top: Bytes, text: Bytes) -> Bytes {
    if text.is_empty() {
        return top;
    }
    let mut all = BytesMut::with_capacity(top.len() + text.len());
    all.extend_from_slice(&top);
    all.extend_from_slice(&text);
    all.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(top: &'static str, text: &'static str) -> Message {
        Message::new(
            Top::new(top).unwrap(),
            Text::of_bytes(Bytes::from_static(text.as_bytes())),
        )
    }

    #[test]
    fn a_top_ends_its_last_field() {
        assert!(Top::new("A: b\r\n").is_some());
        assert!(Top::new("").is_some());
        assert_eq!(Top::new("A: b"), None);
        assert_eq!(Top::new("A: b\n"), None);
    }

    #[test]
    fn a_message_without_a_top_is_its_text() {
        let message = message("", "A: b\r\n\r\nHi\r\n");
        assert_eq!(message.len(), 12);
        assert!(message.in_memory().is_some());
        assert_eq!(message.read_blocking(0..4).unwrap(), "A: b");
        assert_eq!(message.read_blocking(12..20).unwrap(), "");
    }

    proptest! {
        #[test]
        fn any_split_gives_top_and_text(
            top in prop_oneof![Just(""), Just("R: x\r\n"), Just("R: x\r\nS: y\r\n")],
            text in prop_oneof![Just(""), Just("A: b\r\n\r\nHi\r\n")],
            mut cuts in prop::collection::vec(0..40_u64, 0..6),
            size in 1..40_u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let message = message(top, text);
            let all = format!("{top}{text}");
            prop_assert_eq!(message.len(), all.len() as u64);
            cuts.extend([0, u64::MAX]);
            cuts.sort_unstable();
            let (mut waited, mut blocked) = (Vec::new(), Vec::new());
            for pair in cuts.windows(2) {
                waited.extend(runtime.block_on(message.read(pair[0]..pair[1])).unwrap());
                blocked.extend(message.read_blocking(pair[0]..pair[1]).unwrap());
            }
            prop_assert_eq!(waited.as_slice(), all.as_bytes());
            prop_assert_eq!(blocked.as_slice(), all.as_bytes());
            prop_assert_eq!(runtime.block_on(message.whole()).unwrap(), all.as_bytes());
            let mut pieces = Vec::new();
            while (pieces.len() as u64) < message.len() {
                let piece = runtime.block_on(message.piece(pieces.len() as u64, size));
                let piece = piece.unwrap();
                prop_assert!(!piece.is_empty());
                pieces.extend(piece);
            }
            prop_assert_eq!(pieces.as_slice(), all.as_bytes());
            let beginning = runtime.block_on(message.beginning(7)).unwrap();
            prop_assert_eq!(beginning, &all.as_bytes()[..all.len().min(7)]);
        }
    }
}
