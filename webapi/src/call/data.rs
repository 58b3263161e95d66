//! The bytes of requests. A large request is in a file of the store while it is carried out.

use std::{ops::Range, pin::pin, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use postrider_store::{INLINE_TEXT_MAX, Scratch, StoreError, TextWriter};
use postrider_webhook::{MemoryBudget, Share};

use super::{auth::User, bounds::FileShare, context::CallContext, json_size::JsonSize};
use crate::error::{ApiError, Code};

/// The most bytes that stay in memory.
pub(crate) const IN_MEMORY: u64 = INLINE_TEXT_MAX as u64;
/// The most bytes of a request without its files: all fields of a form, or the JSON of Send.
pub(crate) const FIELDS_MAX: u64 = 10 << 20;
/// The number of bytes of a file that are read at once.
pub(crate) const PIECE: u64 = 64 << 10;

/// Bytes of a request, all or some of them.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    all: Scratch,
    range: Range<u64>,
    /// The place of the file, if the bytes are in one.
    _place: Option<Arc<FileShare>>,
}

impl Data {
    /// The bytes at `range` of these.
    pub(crate) fn part(&self, range: Range<u64>) -> Self {
        Self {
            range: self.place(&range),
            ..self.clone()
        }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Reads the bytes at `range`. A range that goes beyond the end is cut.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.all.read(self.place(&range)).await
    }

    /// Like [`read`](Self::read), in a thread that may block.
    pub(crate) fn read_blocking(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.all.read_blocking(self.place(&range))
    }

    fn place(&self, range: &Range<u64>) -> Range<u64> {
        let at = |at: u64| self.range.start.saturating_add(at).min(self.range.end);
        at(range.start)..at(range.end)
    }

    /// Reads all bytes, `piece` bytes at a time.
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

    /// Reads all bytes as JSON. The share is for the memory that it takes.
    pub(crate) async fn json(
        &self,
        context: &CallContext,
        user: &User,
    ) -> Result<(Json, Share), ApiError> {
        let mut size = JsonSize::default();
        if self.len() > MemoryBudget::SMALL {
            let mut pieces = pin!(self.pieces(PIECE));
            while let Some(piece) = pieces.next().await {
                size.add(&piece?);
            }
        }
        self.json_of(context, user, &size).await
    }

    /// Like [`json`](Self::json), for JSON whose size is known.
    pub(crate) async fn json_of(
        &self,
        context: &CallContext,
        user: &User,
        size: &JsonSize,
    ) -> Result<(Json, Share), ApiError> {
        let memory = &context.bounds.memory;
        let share = memory.take(&user.account, size.memory()?).await;
        Ok((Json(self.read(0..self.len()).await?), share))
    }

    /// Keeps bytes: in memory, or in a file if they are many.
    pub(crate) async fn keep(
        context: &CallContext,
        user: &User,
        bytes: Vec<u8>,
    ) -> Result<Self, ApiError> {
        if bytes.len() as u64 <= IN_MEMORY {
            return Ok(Bytes::from(bytes).into());
        }
        let mut upload = Upload::new(context, user);
        for piece in bytes.chunks(PIECE as usize) {
            upload.write(piece).await?;
        }
        upload.finish().await
    }
}

impl Default for Data {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl From<Scratch> for Data {
    fn from(all: Scratch) -> Self {
        Self {
            range: 0..all.len(),
            all,
            _place: None,
        }
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Scratch::from(bytes).into()
    }
}

/// JSON in memory, not yet checked.
#[derive(Clone, Debug)]
pub(crate) struct Json(Bytes);

impl Json {
    /// The text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub(crate) fn text(&self) -> Result<&str, ApiError> {
        std::str::from_utf8(&self.0)
            .map_err(|error| ApiError::protocol(format!("the request is not UTF-8: {error}")))
    }
}

/// Takes the bytes of a request as they arrive: into memory while they are few, then into a file,
/// if there is a place for one.
pub(crate) struct Upload<'a> {
    writer: TextWriter,
    context: &'a CallContext,
    user: &'a User,
    place: Option<FileShare>,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(context: &'a CallContext, user: &'a User) -> Self {
        Self {
            writer: context.store.text_writer(),
            context,
            user,
            place: None,
        }
    }

    /// The number of bytes that arrived.
    pub(crate) fn len(&self) -> u64 {
        self.writer.len()
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        let size = self.len() + bytes.len() as u64;
        if size > IN_MEMORY {
            let bounds = &self.context.bounds;
            let place = match &mut self.place {
                Some(place) => place,
                None => self.place.insert(bounds.file(&self.user.account)?),
            };
            place.grow(bounds, &self.user.account, size)?;
        }
        Ok(self.writer.write(bytes).await?)
    }

    pub(crate) async fn finish(self) -> Result<Data, ApiError> {
        let all = self.writer.into_scratch().await?;
        Ok(Data {
            range: 0..all.len(),
            all,
            _place: self.place.map(Arc::new),
        })
    }
}

/// Reads a body of at most `most` bytes. A longer body is an error with the code `too_long`.
pub(crate) async fn collect(
    mut upload: Upload<'_>,
    body: Body,
    most: u64,
    too_long: Code,
) -> Result<Data, ApiError> {
    let mut pieces = body.into_data_stream();
    let mut first: Option<Bytes> = None;
    let mut size = 0;
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|error| ApiError::protocol(format!("reading the request: {error}")))?;
        size += piece.len() as u64;
        if size > most {
            let text = format!("the request has more than {most} bytes");
            return Err(ApiError::new(too_long, text));
        }
        if size == piece.len() as u64 {
            first = Some(piece);
            continue;
        }
        if let Some(first) = first.take() {
            upload.write(&first).await?;
        }
        upload.write(&piece).await?;
    }
    match first {
        // Most requests are one piece, which needs no copy.
        Some(only) => Ok(only.into()),
        None => upload.finish().await,
    }
}
