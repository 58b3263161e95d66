//! The forms that calls come in.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{self, Poll, ready},
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::{
        DefaultBodyLimit, FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::{HeaderMap, header::CONTENT_TYPE},
};

use futures_util::Stream;

use crate::{
    auth::User,
    compose::File,
    context::Context,
    data::{Data, Upload, blocking_with, collect},
    error::{ApiError, Code},
};

/// The most bytes of a form without files, and of all fields of a form that are not files.
pub(crate) const FIELDS_MAX: u64 = 10 << 20;
/// The most parts of a form.
const PARTS_MAX: usize = 10_000;
/// What a form may have besides the content of its fields and files: boundaries and the parts' own headers. Also what the names
/// and types of files may have.
const OVERHEAD_MAX: u64 = 1 << 20;

/// A form that was read.
#[derive(Debug, Default)]
pub(crate) struct Form {
    /// The field `request`.
    pub(crate) request: Data,
    pub(crate) files: Files,
}

/// Uploaded files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) alternative: Vec<File>,
    pub(crate) inline: Vec<File>,
    pub(crate) attached: Vec<File>,
}

/// Reads a form whose files have no more than the largest message has, all of them.
pub(crate) async fn read(
    context: &Context,
    user: &User,
    request: Request,
) -> Result<Form, ApiError> {
    let form = match media_type(request.headers()).as_str() {
        "" => {
            return Err(ApiError::protocol(
                "there is no Content-Type; send a form with the field \"request\"",
            ));
        }
        "application/x-www-form-urlencoded" => {
            read_urlencoded(context, user, request.into_body()).await?
        }
        "multipart/form-data" => read_multipart(context, user, request).await?,
        other => {
            return Err(ApiError::protocol(format!(
                "Content-Type {other:?}: send application/x-www-form-urlencoded or multipart/form-data with the field \"request\""
            )));
        }
    };
    if form.request.len() == 0 {
        return Err(ApiError::protocol(
            "the form field \"request\" is missing or empty; it holds the JSON of the call",
        ));
    }
    Ok(form)
}

/// The kind of a body, without parameters, in lower case; empty if it is not said.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

async fn read_urlencoded(context: &Context, user: &User, body: Body) -> Result<Form, ApiError> {
    let upload = Upload::new(context, user);
    let body = collect(upload, body, FIELDS_MAX, Code::Protocol).await?;
    // With what is decoded, in which letters that are none become longer.
    let memory = &context.bounds.memory;
    let share = memory.take(&user.account, 6 * body.len()).await;
    let bytes = body.read(0..body.len()).await?;
    let value = blocking_with(body.len(), move || {
        let mut pairs = bytes.split(|byte| *byte == b'&').map(pair);
        let value = pairs.find(|(name, value)| decoded(name) == b"request" && !value.is_empty());
        Ok(value.map(|(_, value)| decoded(value)))
    });
    let value = value.await?.unwrap_or_default();
    // So is its place, if it was in a file.
    drop(body);
    let request = Data::keep(context, user, value).await?;
    drop(share);
    Ok(Form {
        request,
        files: Files::default(),
    })
}

/// The name and the value of a field.
fn pair(field: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(b'=', field).unwrap_or(field.len());
    let (name, value) = field.split_at_checked(at).unwrap_or_default();
    (name, value.get(1..).unwrap_or_default())
}

/// Without the encoding of forms (URL Standard, application/x-www-form-urlencoded). Bytes that are no text stay as they are.
fn decoded(text: &[u8]) -> Vec<u8> {
    let spaces: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_encoding::percent_decode(&spaces).collect()
}

/// The body of a form, of which the parser gets a piece only when it has found nothing in what it has: it would read ahead as
/// far as it can. Ends in an error when there is much in which the parser finds nothing.
struct Paced {
    body: BodyDataStream,
    progress: Arc<Progress>,
}

/// What the parser did since it gave something.
#[derive(Debug, Default)]
struct Progress {
    /// Bytes that it took.
    bytes: AtomicU64,
    /// It asked for more once, and got nothing.
    asked: AtomicBool,
}

impl Progress {
    /// The parser gave something.
    fn made(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.progress.asked.swap(true, Ordering::Relaxed) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.progress.bytes.load(Ordering::Relaxed) > OVERHEAD_MAX {
            let text = format!("more than {OVERHEAD_MAX} bytes of a part's header, or of no part");
            return Poll::Ready(Some(Err(axum::Error::new(text))));
        }
        let piece = ready!(Pin::new(&mut self.body).poll_next(cx));
        if let Some(Ok(piece)) = &piece {
            let bytes = piece.len() as u64;
            self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.progress.asked.store(false, Ordering::Relaxed);
        }
        Poll::Ready(piece)
    }
}

/// A form as it is read.
struct Reader<'a> {
    upload: Upload<'a>,
    progress: Arc<Progress>,
    /// Of all fields that are not files.
    fields_left: u64,
    files_left: u64,
    /// For the names and types of files.
    names_left: u64,
}

/// Where the bytes of a part begin and end among those of all.
type Place = (u64, u64);

async fn read_multipart(
    context: &Context,
    user: &User,
    request: Request,
) -> Result<Form, ApiError> {
    let most = context.endpoint.max_message_size;
    let progress = Arc::<Progress>::default();
    let mut request = request.map(|body| {
        Body::from_stream(Paced {
            body: body.into_data_stream(),
            progress: Arc::clone(&progress),
        })
    });
    let all = most.saturating_add(FIELDS_MAX + OVERHEAD_MAX);
    DefaultBodyLimit::max(usize::try_from(all).unwrap_or(usize::MAX)).apply(&mut request);
    let mut fields = Multipart::from_request(request, &())
        .await
        .map_err(|error| unreadable(&error.body_text()))?;
    let mut reader = Reader {
        upload: Upload::new(context, user),
        progress,
        fields_left: FIELDS_MAX,
        files_left: most,
        names_left: OVERHEAD_MAX,
    };
    let mut request = (0, 0);
    let mut files: [Vec<(File, Place)>; 3] = Default::default();
    let mut count = 0;
    while let Some(field) = fields.next_field().await.map_err(broken)? {
        reader.progress.made();
        count += 1;
        if count > PARTS_MAX {
            return Err(unreadable(&format!("it has more than {PARTS_MAX} parts")));
        }
        // A browser sends an empty file name where none was chosen.
        if field.file_name().is_none_or(str::is_empty) {
            let wanted = field.name() == Some("request") && request.0 == request.1;
            if let Some(place) = reader.field(field, wanted).await? {
                request = place;
            }
            continue;
        }
        let [alternative, inline, attached] = &mut files;
        let list = match field.name().unwrap_or_default() {
            "alternativefile" => Some(alternative),
            "inlinefile" => Some(inline),
            "attachedfile" => Some(attached),
            _ => None,
        };
        // Those of other names are read over.
        let file = reader.file(field, list.is_some(), most).await?;
        if let (Some(list), Some(file)) = (list, file) {
            list.push(file);
        }
    }
    let all = reader.upload.finish().await?;
    let [alternative, inline, attached] = files.map(|list| {
        let list = list.into_iter();
        list.map(|(file, (start, end))| File {
            data: all.part(start..end),
            ..file
        })
        .collect()
    });
    Ok(Form {
        request: all.part(request.0..request.1),
        files: Files {
            alternative,
            inline,
            attached,
        },
    })
}

impl Reader<'_> {
    /// A field that is no file, if it is `wanted`.
    async fn field(&mut self, field: Field<'_>, wanted: bool) -> Result<Option<Place>, ApiError> {
        let (place, left) = self.data(field, self.fields_left, wanted).await?;
        self.fields_left = left;
        match left {
            0 => Err(unreadable(&format!(
                "its fields have more than {FIELDS_MAX} bytes"
            ))),
            _ => Ok(place),
        }
    }

    /// A file, if it is `wanted`. All of them have `most` bytes at most.
    async fn file(
        &mut self,
        field: Field<'_>,
        wanted: bool,
        most: u64,
    ) -> Result<Option<(File, Place)>, ApiError> {
        let file = File {
            name: field.file_name().unwrap_or_default().to_owned(),
            content_type: header(&field, "content-type"),
            content_id: header(&field, "content-id"),
            ..File::default()
        };
        let names = file.name.len() + file.content_type.len() + file.content_id.len();
        self.names_left = self.names_left.saturating_sub(names as u64);
        if self.names_left == 0 {
            return Err(unreadable(&format!(
                "the names and types of its files have more than {OVERHEAD_MAX} bytes"
            )));
        }
        let (place, left) = self.data(field, self.files_left, wanted).await?;
        self.files_left = left;
        if left == 0 {
            let text = format!("the files have more than {most} bytes");
            return Err(ApiError::new(Code::MessageTooLarge, text));
        }
        Ok(place.map(|place| (file, place)))
    }

    /// Reads all of a part, and keeps it if it is `wanted`. The second is what is left of `left`: 0 when there was more than that,
    /// which is then not read.
    async fn data(
        &mut self,
        mut field: Field<'_>,
        mut left: u64,
        wanted: bool,
    ) -> Result<(Option<Place>, u64), ApiError> {
        let start = self.upload.len();
        while let Some(chunk) = field.chunk().await.map_err(broken)? {
            self.progress.made();
            left = left.saturating_sub(chunk.len() as u64);
            if left == 0 {
                return Ok((None, 0));
            }
            if wanted {
                self.upload.write(&chunk).await?;
            }
        }
        Ok((wanted.then_some((start, self.upload.len())), left))
    }
}

fn unreadable(what: &str) -> ApiError {
    ApiError::protocol(format!("reading the form: {what}"))
}

fn broken(error: MultipartError) -> ApiError {
    // The first cause says most: the layers above it only that reading failed.
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    unreadable(&cause.to_string())
}

fn header(field: &Field<'_>, name: &str) -> String {
    let value = field
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_owned()
}
