//! Takes the text of a message as it grows: for the store, and for the sender's copy if one is
//! wanted.

use postrider_smtp::convert::{NeedsScan, TextNeeds};
use postrider_store::{NewText, TextWriter};

use crate::error::{ApiError, Code};

/// A composed message.
#[derive(Debug)]
pub(crate) struct Composed {
    /// The message after its prefix.
    pub(crate) text: FinishedText,
    /// What prefix and message have that not every server takes.
    pub(crate) needs: TextNeeds,
    /// The same message after another prefix.
    pub(crate) copy: Option<FinishedText>,
}

/// A finished text.
#[derive(Debug)]
pub(crate) struct FinishedText {
    pub(crate) body: NewText,
    /// In bytes.
    pub(crate) size: u64,
}

/// Takes a message piece by piece.
pub(crate) struct Output {
    text: TextWriter,
    copy: Option<TextWriter>,
    /// The bytes of the message without a prefix.
    size: u64,
    max_size: u64,
    needs: NeedsScan,
}

impl Output {
    /// An output that begins with `prefix`, which does not count for `max_size`.
    pub(crate) async fn new(
        mut text: TextWriter,
        prefix: &[u8],
        max_size: u64,
    ) -> Result<Self, ApiError> {
        text.write(prefix).await?;
        let mut needs = NeedsScan::default();
        needs.write(prefix);
        Ok(Self {
            text,
            copy: None,
            size: 0,
            max_size,
            needs,
        })
    }

    /// Writes the message a second time, after another prefix. To be called before the first byte
    /// of the message.
    pub(crate) async fn copy_to(
        &mut self,
        mut copy: TextWriter,
        prefix: &[u8],
    ) -> Result<(), ApiError> {
        copy.write(prefix).await?;
        self.copy = Some(copy);
        Ok(())
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        self.size += bytes.len() as u64;
        if self.size > self.max_size {
            let text = format!("the message is larger than {} bytes", self.max_size);
            return Err(ApiError::new(Code::MessageTooLarge, text));
        }
        self.needs.write(bytes);
        if let Some(copy) = &mut self.copy {
            copy.write(bytes).await?;
        }
        Ok(self.text.write(bytes).await?)
    }

    pub(crate) async fn finish(self) -> Result<Composed, ApiError> {
        let copy = match self.copy {
            Some(copy) => Some(finish(copy).await?),
            None => None,
        };
        Ok(Composed {
            text: finish(self.text).await?,
            needs: self.needs.finish(),
            copy,
        })
    }
}

async fn finish(writer: TextWriter) -> Result<FinishedText, ApiError> {
    let size = writer.len();
    let body = writer.finish().await?;
    Ok(FinishedText { body, size })
}
