//! The bytes of a message that the programs may change, piece by piece.

use bytes::Bytes;
use postrider_store::StoreError;

use super::draft::{Body, Draft};

/// The most bytes of a piece of a body. So few bytes are read at once.
const PIECE: u64 = 32 * 1024;

/// Reads a body from its beginning to its end.
#[derive(Clone, Debug)]
pub struct BodyPieces {
    body: Body,
    at: u64,
}

impl BodyPieces {
    /// The pieces of this body.
    #[must_use]
    pub const fn of(body: Body) -> Self {
        Self { body, at: 0 }
    }

    /// The next piece. None at the end.
    ///
    /// # Errors
    /// If the text can't be read.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let piece = self.body.piece(self.at, PIECE).await?;
        self.at = self.at.saturating_add(piece.len() as u64);
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// Reads a message from its beginning to its end: the header section in one piece, the blank line
/// with it, and the body.
#[derive(Clone, Debug)]
pub struct RawPieces {
    head: Option<Bytes>,
    body: BodyPieces,
}

impl RawPieces {
    /// The pieces of this message. They have [`Draft::size`] bytes.
    #[must_use]
    pub fn of(draft: &Draft) -> Self {
        Self {
            head: Some(draft.head()),
            body: BodyPieces::of(draft.body.clone()),
        }
    }

    /// The next piece. None at the end.
    ///
    /// # Errors
    /// If the text can't be read.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self.head.take() {
            Some(head) => Ok(Some(head)),
            None => self.body.next_piece().await,
        }
    }
}
