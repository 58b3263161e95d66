//! The minimum rate of a text: a server that takes it too slowly holds a connection for ever.

use std::time::{Duration, Instant};

/// The time in which the server has to take its share of a text.
const WINDOW: Duration = Duration::from_secs(60);

/// How fast the server takes the text that is being sent.
///
/// A window begins with the text, and again each time when the server took the bytes that the rate
/// asks for in a window. If it did not take them by the end of the window, it is too slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// The beginning of the window.
    since: Instant,
    /// The bytes that were written in the window.
    bytes: u64,
    /// The bytes that are handed out to be written.
    unwritten: u64,
    /// Bytes of a text are being written.
    text: bool,
    /// The next bytes are the first ones of a text or of a chunk.
    begins: bool,
}

impl Rate {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            unwritten: 0,
            text: false,
            begins: false,
        }
    }

    /// A text or a chunk comes next.
    pub(super) const fn begin_text(&mut self) {
        self.begins = true;
    }

    /// Bytes of the text are going to be written.
    pub(super) const fn take_text(&mut self, now: Instant) {
        if std::mem::replace(&mut self.begins, false) || !self.text {
            self.since = now;
            self.bytes = 0;
        }
        self.text = true;
    }

    /// So many bytes are handed out to be written.
    pub(super) const fn hand_out(&mut self, bytes: usize) {
        self.unwritten = bytes as u64;
    }

    /// So many of these bytes are written. `min_rate`: bytes per second.
    pub(super) fn wrote(&mut self, bytes: usize, min_rate: u64, now: Instant) {
        let bytes = (bytes as u64).min(self.unwritten);
        self.unwritten -= bytes;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= min_rate.saturating_mul(WINDOW.as_secs()) {
            self.since = now;
            self.bytes = 0;
        }
    }

    /// All these bytes are written. `more` of the text follows.
    pub(super) fn wrote_all(&mut self, more: bool, min_rate: u64, now: Instant) {
        self.wrote(usize::MAX, min_rate, now);
        self.text = self.text && more;
    }

    /// Bytes of a text are being written.
    pub(super) const fn is_text(&self) -> bool {
        self.text
    }

    /// The end of the window. None if no text is being written.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.checked_add(WINDOW).filter(|_| self.text)
    }
}
