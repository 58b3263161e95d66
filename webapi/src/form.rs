//! The forms that calls come in.

use axum::{
    body::Body,
    extract::{
        DefaultBodyLimit, FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::{HeaderMap, header::CONTENT_TYPE},
};

use postrider_store::BodyWriter;

use crate::{
    Parts,
    compose::File,
    data::{Data, collect},
    error::{ApiError, Code},
};

/// The most bytes of a form without files, and of all fields of a form that are not files.
pub(crate) const FIELDS_MAX: u64 = 10 << 20;
/// What a form may have besides the content of its fields and files: boundaries and the parts' own headers.
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
pub(crate) async fn read(parts: &Parts, request: Request) -> Result<Form, ApiError> {
    let form = match media_type(request.headers()).as_str() {
        "" => {
            return Err(ApiError::protocol(
                "there is no Content-Type; send a form with the field \"request\"",
            ));
        }
        "application/x-www-form-urlencoded" => read_urlencoded(parts, request.into_body()).await?,
        "multipart/form-data" => read_multipart(parts, request).await?,
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

async fn read_urlencoded(parts: &Parts, body: Body) -> Result<Form, ApiError> {
    let writer = parts.store.body_writer();
    let body = collect(body, FIELDS_MAX, Code::Protocol, writer).await?;
    // With what is decoded.
    let _share = parts.memory.take(2 * body.len()).await;
    let bytes = body.read(0..body.len()).await?;
    let mut pairs = url::form_urlencoded::parse(&bytes);
    let value = pairs.find_map(|(name, value)| {
        (name == "request" && !value.is_empty()).then(|| value.into_owned())
    });
    let mut writer = parts.store.body_writer();
    writer.write(value.unwrap_or_default().as_bytes()).await?;
    Ok(Form {
        request: writer.into_scratch().await?.into(),
        files: Files::default(),
    })
}

/// Where the bytes of a part begin and end among those of all.
type Place = (u64, u64);

async fn read_multipart(parts: &Parts, mut request: Request) -> Result<Form, ApiError> {
    let mut fields_left = FIELDS_MAX;
    let mut files_left = parts.max_message_size;
    // Also a part's header or a countless number of empty parts would otherwise take memory without end.
    let most = files_left.saturating_add(FIELDS_MAX + OVERHEAD_MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    DefaultBodyLimit::max(most).apply(&mut request);
    let mut fields = Multipart::from_request(request, &())
        .await
        .map_err(|error| unreadable(&error.body_text()))?;
    let mut writer = parts.store.body_writer();
    let mut request = (0, 0);
    let mut files: [Vec<(File, Place)>; 3] = Default::default();
    while let Some(field) = fields.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default();
        // A browser sends an empty file name where none was chosen.
        if field.file_name().is_none_or(str::is_empty) {
            let wanted = (name == "request" && request.0 == request.1).then_some(&mut writer);
            if let Some(place) = read_field(field, &mut fields_left, wanted).await? {
                request = place;
            }
            if fields_left == 0 {
                return Err(unreadable(&format!(
                    "its fields have more than {FIELDS_MAX} bytes"
                )));
            }
            continue;
        }
        let [alternative, inline, attached] = &mut files;
        let list = match name {
            "alternativefile" => Some(alternative),
            "inlinefile" => Some(inline),
            "attachedfile" => Some(attached),
            _ => None,
        };
        let file = File {
            name: field.file_name().unwrap_or_default().to_owned(),
            content_type: header(&field, "content-type"),
            content_id: header(&field, "content-id"),
            ..File::default()
        };
        let wanted = list.is_some().then_some(&mut writer);
        let place = read_field(field, &mut files_left, wanted).await?;
        if files_left == 0 {
            let text = format!("the files have more than {} bytes", parts.max_message_size);
            return Err(ApiError::new(Code::MessageTooLarge, text));
        }
        // Those of other names are read over.
        if let (Some(list), Some(place)) = (list, place) {
            list.push((file, place));
        }
    }
    let all = writer.into_scratch().await?;
    let data = |(start, end): Place| Data::within(all.clone(), start..end);
    let [alternative, inline, attached] = files.map(|list| {
        let list = list.into_iter();
        list.map(|(file, place)| File {
            data: data(place),
            ..file
        })
        .collect()
    });
    Ok(Form {
        request: data(request),
        files: Files {
            alternative,
            inline,
            attached,
        },
    })
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
    left: &mut u64,
    mut wanted: Option<&mut BodyWriter>,
) -> Result<Option<Place>, ApiError> {
    let start = wanted.as_ref().map(|writer| writer.len());
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        *left = left.saturating_sub(chunk.len() as u64);
        if *left == 0 {
            return Ok(None);
        }
        if let Some(writer) = &mut wanted {
            writer.write(&chunk).await?;
        }
    }
    Ok(start.zip(wanted.map(|writer| writer.len())))
}
