//! The forms that calls come in.

use axum::{
    body::{self, Body},
    extract::{FromRequest, Multipart, Request, multipart::Field},
    http::{HeaderMap, header::CONTENT_TYPE},
};
use bytes::Bytes;

use crate::{compose::File, error::ApiError};

/// The most bytes of a form without files, and of all fields of a form that are not files.
const FIELDS_MAX: usize = 10 << 20;

/// A form that was read.
#[derive(Debug, Default)]
pub(crate) struct Form {
    /// The field `request`.
    pub(crate) request: String,
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

async fn read_multipart(request: Request, max_files: u64) -> Result<Form, ApiError> {
    let wrong = |text: String| ApiError::protocol(format!("reading the form: {text}"));
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|error| wrong(error.body_text()))?;
    let mut form = Form::default();
    let mut fields_left = FIELDS_MAX;
    let mut files_left = usize::try_from(max_files).unwrap_or(usize::MAX);
    while let Some(field) = parts
        .next_field()
        .await
        .map_err(|error| wrong(error.body_text()))?
    {
        let name = field.name().unwrap_or_default().to_owned();
        if field.file_name().is_none() {
            let bytes = read_field(field, &mut fields_left).await.map_err(wrong)?;
            if name == "request" && form.request.is_empty() {
                form.request =
                    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
            }
            continue;
        }
        let files = match name.as_str() {
            "alternativefile" => Some(&mut form.alternative),
            "inlinefile" => Some(&mut form.inline),
            "attachedfile" => Some(&mut form.attached),
            _ => None,
        };
        let header = |name: &str| {
            let value = field
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default().trim().to_owned()
        };
        let mut file = File {
            name: field.file_name().unwrap_or_default().to_owned(),
            content_type: header("content-type"),
            content_id: header("content-id"),
            data: Bytes::new(),
        };
        file.data = read_field(field, &mut files_left)
            .await
            .map_err(|text| {
                let code = crate::error::Code::MessageTooLarge;
                if files_left == 0 {
                    ApiError::new(code, text)
                } else {
                    wrong(text)
                }
            })?
            .into();
        // Others are read over.
        if let Some(files) = files {
            files.push(file);
        }
    }
    Ok(form)
}

/// All of a field, as long as `left` lasts.
async fn read_field(mut field: Field<'_>, left: &mut usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| error.body_text())? {
        let Some(rest) = left.checked_sub(chunk.len()) else {
            *left = 0;
            return Err("it is larger than the limit".to_owned());
        };
        *left = rest;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
