//! A message, read piece by piece, with its checksum.
//!
//! Whoever reads a message as a whole is told if the text is damaged. Whoever hands on one piece
//! after the other would know too late. So the last piece is an error then, and the receiver does
//! not take the message for a whole one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{Message, StoreError};

/// Bytes that are read at once to find the checksum of a part that was skipped.
const STEP: u64 = 64 * 1024;

/// Reads a message in pieces. [`Message::into_pieces`] makes it.
#[derive(Debug)]
pub struct Pieces {
    message: Message,
    seen: Mutex<Seen>,
}

/// The beginning of the text that was read, and its CRC-32C.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    to: u64,
    crc: u32,
}

impl Seen {
    fn add(&mut self, piece: &[u8]) {
        self.to += piece.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, piece);
    }
}

/// What is to be done about the checksum of a piece.
enum Check {
    /// Nothing: it is known, or it is not due.
    Done,
    /// The bytes of the text before this place were not read in order. They have to be read again.
    ReadTo(u64),
}

impl Pieces {
    pub(crate) fn new(message: Message) -> Self {
        Self {
            message,
            seen: Mutex::default(),
        }
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// The bytes from `at` on, `max` at most, as by [`Message::piece`].
    ///
    /// # Errors
    /// If the disk does not give the bytes. For the last piece also [`StoreError::Corrupt`] if the
    /// text is not what was written.
    pub async fn piece(&self, at: u64, max: u64) -> Result<Bytes, StoreError> {
        let piece = self.message.piece(at, max).await?;
        let mut check = self.check(at, &piece)?;
        while let Check::ReadTo(to) = check {
            let top = self.message.top().len();
            let from = self.seen().to.min(to);
            let skipped = self.message.text().read(from..to.min(from + STEP)).await?;
            self.check(top + from, &skipped)?;
            check = self.check(at, &piece)?;
        }
        Ok(piece)
    }

    /// All pieces in order, of `max` bytes at most. It blocks the calling thread while the disk is
    /// read.
    pub fn blocking(self, max: u64) -> impl Iterator<Item = Result<Bytes, StoreError>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let top = self.message.top().len();
            // As Message::piece does, a piece ends at the end of the top.
            let end = match at < top {
                true => top.min(at + max),
                false => at + max,
            };
            let read = self.message.read_blocking(at..end);
            // In order, no part is skipped.
            let read = read.and_then(|piece| self.check(at, &piece).map(|_| piece));
            at += read.as_ref().map_or(0, |piece| piece.len() as u64);
            match &read {
                Ok(piece) if piece.is_empty() => None,
                _ => Some(read),
            }
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece of the message into the checksum. Compares the checksum if it is the last one.
    fn check(&self, at: u64, piece: &[u8]) -> Result<Check, StoreError> {
        let text = self.message.text();
        let Some(at) = at.checked_sub(self.message.top().len()) else {
            return Ok(Check::Done);
        };
        let end = at + piece.len() as u64;
        let whole = at == 0 && end == text.len();
        // The read of a whole text checks it.
        if piece.is_empty() || whole || text.in_memory().is_some() {
            return Ok(Check::Done);
        }
        let mut seen = self.seen();
        if at == 0 {
            *seen = Seen::default();
        }
        if seen.to == at {
            seen.add(piece);
        } else if end == text.len() {
            if seen.to > at {
                *seen = Seen::default();
            }
            return Ok(Check::ReadTo(at));
        }
        match seen.to == text.len() {
            true => text.check(seen.crc).map(|()| Check::Done),
            false => Ok(Check::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Text, Top,
        disk::sim::SimDisk,
        textfile::{TextFilePlace, TextFiles},
    };

    const LEN: u64 = 200_000;

    /// A message whose text lies in a file, and the file with a byte changed at this place.
    fn message(changed: Option<usize>) -> Pieces {
        let disk = SimDisk::new(1);
        let files = TextFiles::open(disk.disk(), 1, 0).unwrap();
        let mut writer = files.create().unwrap();
        writer.write(&text()).unwrap();
        let place: TextFilePlace = writer.finish().unwrap().keep();
        if let Some(at) = changed {
            let mut damaged = text();
            damaged[at] ^= 1;
            disk.set_content("texts/01/0000000000000001", &damaged);
        }
        let text = Text::in_file(files.read(place).unwrap());
        Message::new(Top::new("Top: x\r\n").unwrap(), text).into_pieces()
    }

    fn text() -> Vec<u8> {
        (0..LEN).map(|at| (at % 251) as u8).collect()
    }

    async fn read_all(pieces: &Pieces, max: u64) -> Result<Vec<u8>, (usize, StoreError)> {
        let mut all = Vec::new();
        loop {
            match pieces.piece(all.len() as u64, max).await {
                Ok(piece) if piece.is_empty() => return Ok(all),
                Ok(piece) => all.extend_from_slice(&piece),
                Err(error) => return Err((all.len(), error)),
            }
        }
    }

    #[tokio::test]
    async fn a_sound_message_is_read_as_often_as_wanted() {
        let pieces = message(None);
        let whole = [b"Top: x\r\n".to_vec(), text()].concat();
        for max in [1000, 64 * 1024, LEN, LEN * 2] {
            assert_eq!(read_all(&pieces, max).await.unwrap(), whole, "{max}");
        }
        let in_order: Result<Vec<_>, _> = message(None).blocking(1000).collect();
        assert_eq!(in_order.unwrap().concat(), whole);
    }

    #[tokio::test]
    async fn the_last_piece_of_a_damaged_text_is_withheld() {
        for changed in [0, 1, 100_000, LEN as usize - 1] {
            for max in [1000, 64 * 1024, LEN - 1, LEN] {
                let pieces = message(Some(changed));
                for _ in 0..2 {
                    let (got, error) = read_all(&pieces, max).await.unwrap_err();
                    assert!(got < 8 + LEN as usize, "{changed} {max}");
                    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
                }
            }
            let results: Vec<_> = message(Some(changed)).blocking(1000).take(300).collect();
            let good = results.iter().take_while(|piece| piece.is_ok()).count();
            assert_eq!(good, 200, "the top, and all pieces but the last");
        }
    }

    #[tokio::test]
    async fn a_part_that_was_skipped_is_checked_with_the_last_piece() {
        for (changed, sound) in [(None, true), (Some(70_000), false), (Some(5), false)] {
            let pieces = message(changed);
            // In any order, and again.
            for at in [50_000, 8, 120_000, 8] {
                pieces.piece(at, 1000).await.unwrap();
            }
            let last = pieces.piece(8 + LEN - 10, 10).await;
            assert_eq!(last.is_ok(), sound, "{changed:?}");
        }
    }
}
