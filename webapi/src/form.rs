//! The forms that calls come in.

use axum::{
    body::{self, Body},
    extract::{
        DefaultBodyLimit, FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::{HeaderMap, header::CONTENT_TYPE},
};

use crate::{
    compose::File,
    error::{ApiError, Code},
};

/// The most bytes of a form without files, and of all fields of a form that are not files.
const FIELDS_MAX: usize = 10 << 20;
/// What a form may have besides the content of its fields and files: boundaries and the parts' own headers.
const OVERHEAD_MAX: usize = 1 << 20;

/// A form that was read.
#[derive(Debug, Default)]
pub(crate) struct Form {
    /// The field `request`.
    pub(crate) request: String,
    pub(crate) files: Files,
}

/// Uploaded files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) alternative: Vec<File>,
    pub(crate) inline: Vec<File>,
    pub(crate) attached: Vec<File>,
}

/// Reads a form whose files have no more than `max_files` bytes in all.
pub(crate) async fn read(request: Request, max_files: u64) -> Result<Form, ApiError> {
    let form = match media_type(request.headers()).as_str() {
        "" => {
            return Err(ApiError::protocol(
                "there is no Content-Type; send a form with the field \"request\"",
            ));
        }
        "application/x-www-form-urlencoded" => read_urlencoded(request.into_body()).await?,
        "multipart/form-data" => read_multipart(request, max_files).await?,
        other => {
            return Err(ApiError::protocol(format!(
                "Content-Type {other:?}: send application/x-www-form-urlencoded or multipart/form-data with the field \"request\""
            )));
        }
    };
    if form.request.is_empty() {
        return Err(ApiError::protocol(
            "the form field \"request\" is missing or empty; it holds the JSON of the call",
        ));
    }
    Ok(form)
}

fn media_type(headers: &HeaderMap) -> String {
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

async fn read_urlencoded(body: Body) -> Result<Form, ApiError> {
    let bytes = body::to_bytes(body, FIELDS_MAX).await.map_err(|error| {
        ApiError::protocol(format!(
            "reading the form (at most {FIELDS_MAX} bytes): {error}"
        ))
    })?;
    let mut form = Form::default();
    for (name, value) in url::form_urlencoded::parse(&bytes) {
        if name == "request" && form.request.is_empty() {
            form.request = value.into_owned();
        }
    }
    Ok(form)
}

async fn read_multipart(mut request: Request, max_files: u64) -> Result<Form, ApiError> {
    let mut fields_left = FIELDS_MAX;
    let mut files_left = usize::try_from(max_files).unwrap_or(usize::MAX);
    // Also a part's header or a countless number of empty parts would otherwise take memory without end.
    let most = files_left.saturating_add(FIELDS_MAX + OVERHEAD_MAX);
    DefaultBodyLimit::max(most).apply(&mut request);
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|error| unreadable(&error.body_text()))?;
    let mut form = Form::default();
    while let Some(field) = parts.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default();
        // A browser sends an empty file name where none was chosen.
        if field.file_name().is_none_or(str::is_empty) {
            let wanted = name == "request" && form.request.is_empty();
            if let Some(bytes) = read_field(field, &mut fields_left, wanted).await? {
                form.request =
                    String::from_utf8(bytes).map_err(|error| unreadable(&error.to_string()))?;
            }
            if fields_left == 0 {
                return Err(unreadable(&format!(
                    "its fields have more than {FIELDS_MAX} bytes"
                )));
            }
            continue;
        }
        let files = match name {
            "alternativefile" => Some(&mut form.files.alternative),
            "inlinefile" => Some(&mut form.files.inline),
            "attachedfile" => Some(&mut form.files.attached),
            _ => None,
        };
        let mut file = File {
            name: field.file_name().unwrap_or_default().to_owned(),
            content_type: header(&field, "content-type"),
            content_id: header(&field, "content-id"),
            ..File::default()
        };
        let data = read_field(field, &mut files_left, files.is_some()).await?;
        if files_left == 0 {
            let text = format!("the files have more than {max_files} bytes");
            return Err(ApiError::new(Code::MessageTooLarge, text));
        }
        // Those of other names are read over.
        if let (Some(files), Some(data)) = (files, data) {
            file.data = data.into();
            files.push(file);
        }
    }
    Ok(form)
}

fn unreadable(what: &str) -> ApiError {
    ApiError::protocol(format!("reading the form: {what}"))
}

fn broken(error: MultipartError) -> ApiError {
    unreadable(&error.body_text())
}

fn header(field: &Field<'_>, name: &str) -> String {
    let value = field
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_owned()
}

/// Reads all of a field, and gives it if it is `wanted`. `left` is 0 when there was more than that, which is then not read.
async fn read_field(
    mut field: Field<'_>,
    left: &mut usize,
    wanted: bool,
) -> Result<Option<Vec<u8>>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        *left = left.saturating_sub(chunk.len());
        if *left == 0 {
            return Ok(None);
        }
        if wanted {
            bytes.extend_from_slice(&chunk);
        }
    }
    Ok(wanted.then_some(bytes))
}
