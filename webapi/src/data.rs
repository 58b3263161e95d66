//! The bytes that come with requests. Those of a large request lie in a file of the store while it is worked on.

use std::ops::Range;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use postrider_store::{BodyWriter, Memory, Scratch, Share, StoreError};

use crate::{
    error::{ApiError, Code},
    memory::{JsonSize, SMALL},
};

/// How much of a file is read at once.
pub(crate) const PIECE: u64 = 64 << 10;

/// Some of the bytes that came with a request.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    all: Scratch,
    range: Range<u64>,
}

impl Data {
    /// Those at `range` in `all`.
    pub(crate) const fn within(all: Scratch, range: Range<u64>) -> Self {
        Self { all, range }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Some of them, cut at the end.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.all.read(self.place(&range)).await
    }

    /// Likewise, in a thread that may block.
    pub(crate) fn read_blocking(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.all.read_blocking(self.place(&range))
    }

    fn place(&self, range: &Range<u64>) -> Range<u64> {
        let at = |at: u64| self.range.start.saturating_add(at).min(self.range.end);
        at(range.start)..at(range.end)
    }

    /// All of them, `piece` bytes at a time.
    pub(crate) fn pieces(
        &self,
        piece: u64,
    ) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + use<> {
        stream::try_unfold((self.clone(), 0), move |(data, at)| async move {
            if at >= data.len() {
                return Ok(None);
            }
            let bytes = data.read(at..at + piece).await?;
            Ok(Some((bytes, (data, at + piece))))
        })
    }

    /// All of them as a text of JSON, with the memory that reading it takes.
    pub(crate) async fn json(&self, memory: &Memory) -> Result<(Json, Share), ApiError> {
        if self.len() <= SMALL {
            return Ok((Json(self.read(0..self.len()).await?), Share::default()));
        }
        let mut size = JsonSize::default();
        let mut pieces = std::pin::pin!(self.pieces(PIECE));
        while let Some(piece) = pieces.next().await {
            size.add(&piece?);
        }
        let share = memory.take(size.memory()?).await;
        Ok((Json(self.read(0..self.len()).await?), share))
    }
}

impl Default for Data {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl From<Scratch> for Data {
    fn from(all: Scratch) -> Self {
        let range = 0..all.len();
        Self { all, range }
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Scratch::from(bytes).into()
    }
}

/// A text in memory.
#[derive(Debug)]
pub(crate) struct Json(Bytes);

impl Json {
    /// # Errors
    /// If it is not UTF-8.
    pub(crate) fn text(&self) -> Result<&str, ApiError> {
        std::str::from_utf8(&self.0)
            .map_err(|error| ApiError::protocol(format!("the request is not UTF-8: {error}")))
    }
}

/// Reads a body of at most `most` bytes; `too_long` is said of a longer one.
pub(crate) async fn collect(
    body: Body,
    most: u64,
    too_long: Code,
    mut writer: BodyWriter,
) -> Result<Data, ApiError> {
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|error| ApiError::protocol(format!("reading the request: {error}")))?;
        if writer.len() + piece.len() as u64 > most {
            let text = format!("the request has more than {most} bytes");
            return Err(ApiError::new(too_long, text));
        }
        writer.write(&piece).await?;
    }
    Ok(writer.into_scratch().await?.into())
}

/// Does what would keep other calls waiting.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::new(Code::Server, error.to_string()))?
}
