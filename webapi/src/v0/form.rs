//! Reads the forms of calls.

use axum::{body::Body, extract::Request, http::header::CONTENT_TYPE};
use percent_encoding::percent_decode;

use super::multipart::{PartHeader, Parts, unreadable};
use crate::{
    call::{
        auth::User,
        context::CallContext,
        data::{Data, FIELDS_MAX, Upload, collect},
        run::blocking_with,
    },
    compose::{File, Files},
    error::{ApiError, Code},
    http::header::media_type,
};

/// The most parts of a form.
const PARTS_MAX: usize = 10_000;
/// The most bytes of the names and types of the files of a form.
const NAMES_MAX: u64 = 1 << 20;

/// The content of a form.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// The field `request`.
    pub(super) request: Data,
    pub(super) files: Files,
}

/// Reads a form. All its files together may be as large as the largest message.
pub(super) async fn read(
    context: &CallContext,
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

async fn read_urlencoded(context: &CallContext, user: &User, body: Body) -> Result<Form, ApiError> {
    let upload = Upload::new(context, user);
    let body = collect(upload, body, FIELDS_MAX, Code::Protocol).await?;
    // Enough for the body and its decoded value, in which a byte that is no text becomes three.
    let memory = &context.bounds.memory;
    let share = memory.take(&user.account, 6 * body.len()).await;
    let bytes = body.read(0..body.len()).await?;
    let value = blocking_with(body.len(), move || request_field(&bytes)).await?;
    // Frees the place of the body, if it was in a file.
    drop(body);
    let request = Data::keep(context, user, value).await?;
    drop(share);
    Ok(Form {
        request,
        files: Files::default(),
    })
}

/// The value of the first field `request` that is not empty. Empty if there is none.
fn request_field(form: &[u8]) -> Result<Vec<u8>, ApiError> {
    for field in form.split(|byte| *byte == b'&') {
        if let Some((name, value)) = form_urlencoded::parse(field).next()
            && name == "request"
            && !value.is_empty()
        {
            if value.contains(char::REPLACEMENT_CHARACTER) {
                check_utf8(field)?;
            }
            return Ok(value.into_owned().into_bytes());
        }
    }
    Ok(Vec::new())
}

/// Refuses a field `request` with bytes that are no text. The form decoder would replace them.
fn check_utf8(field: &[u8]) -> Result<(), ApiError> {
    let decoded: Vec<u8> = percent_decode(field).collect();
    let value = decoded.get("request=".len()..).unwrap_or_default();
    let checked = std::str::from_utf8(value).map(drop);
    checked.map_err(|error| ApiError::protocol(format!("the request is not UTF-8: {error}")))
}

/// Reads a multipart form.
struct FormReader<'a> {
    upload: Upload<'a>,
    /// The bytes left for all fields that are not files.
    fields_left: u64,
    /// The bytes left for all files.
    files_left: u64,
    /// The bytes left for the names and types of files.
    names_left: u64,
}

/// The range of a part in the bytes of all parts.
type Place = (u64, u64);

async fn read_multipart(
    context: &CallContext,
    user: &User,
    request: Request,
) -> Result<Form, ApiError> {
    let most = context.endpoint.max_message_size;
    let kind = request.headers().get(CONTENT_TYPE).cloned();
    let kind = kind.as_ref().map(|kind| kind.as_bytes());
    let mut parts = Parts::new(kind.unwrap_or_default(), request.into_body())?;
    let mut reader = FormReader {
        upload: Upload::new(context, user),
        fields_left: FIELDS_MAX,
        files_left: most,
        names_left: NAMES_MAX,
    };
    let mut request = (0, 0);
    let mut files: [Vec<(File, Place)>; 3] = Default::default();
    let mut count = 0;
    while let Some(header) = parts.next().await? {
        count += 1;
        if count > PARTS_MAX {
            return Err(unreadable(&format!("it has more than {PARTS_MAX} parts")));
        }
        if header.file_name.is_none() {
            let wanted = header.name == "request" && request.0 == request.1;
            if let Some(place) = reader.field(&mut parts, wanted).await? {
                request = place;
            }
            continue;
        }
        let [alternative, inline, attached] = &mut files;
        let list = match header.name.as_str() {
            "alternativefile" => Some(alternative),
            "inlinefile" => Some(inline),
            "attachedfile" => Some(attached),
            _ => None,
        };
        // Files with other names are ignored.
        let wanted = list.is_some();
        let file = reader.file(&mut parts, header, wanted, most).await?;
        if let (Some(list), Some(file)) = (list, file) {
            list.push(file);
        }
    }
    let all = reader.upload.finish().await?;
    let [alternative, inline, attached] = files.map(|list| with_data(list, &all));
    Ok(Form {
        request: all.part(request.0..request.1),
        files: Files {
            alternative,
            inline,
            attached,
        },
    })
}

/// Files with their ranges of `all`.
fn with_data(files: Vec<(File, Place)>, all: &Data) -> Vec<File> {
    let files = files.into_iter();
    files
        .map(|(file, (start, end))| File {
            data: all.part(start..end),
            ..file
        })
        .collect()
}

impl FormReader<'_> {
    /// Reads a field that is no file. Gives its place if it is `wanted`.
    async fn field(&mut self, parts: &mut Parts, wanted: bool) -> Result<Option<Place>, ApiError> {
        let (place, left) = self.data(parts, self.fields_left, wanted).await?;
        self.fields_left = left;
        match left {
            0 => Err(unreadable(&format!(
                "its fields have more than {FIELDS_MAX} bytes"
            ))),
            _ => Ok(place),
        }
    }

    /// Reads a file. Gives it if it is `wanted`. All files together have at most `most` bytes.
    async fn file(
        &mut self,
        parts: &mut Parts,
        header: PartHeader,
        wanted: bool,
        most: u64,
    ) -> Result<Option<(File, Place)>, ApiError> {
        let file = File {
            name: header.file_name.unwrap_or_default(),
            content_type: header.content_type,
            content_id: header.content_id,
            ..File::default()
        };
        let names = file.name.len() + file.content_type.len() + file.content_id.len();
        self.names_left = self.names_left.saturating_sub(names as u64);
        if self.names_left == 0 {
            return Err(unreadable(&format!(
                "the names and types of its files have more than {NAMES_MAX} bytes"
            )));
        }
        let (place, left) = self.data(parts, self.files_left, wanted).await?;
        self.files_left = left;
        if left == 0 {
            let text = format!("the files have more than {most} bytes");
            return Err(ApiError::new(Code::MessageTooLarge, text));
        }
        Ok(place.map(|place| (file, place)))
    }

    /// Reads a part of at most `left` bytes, and keeps it if it is `wanted`. Gives its place and
    /// the rest of `left`. With no rest the part was too large, and was not read to its end.
    async fn data(
        &mut self,
        parts: &mut Parts,
        mut left: u64,
        wanted: bool,
    ) -> Result<(Option<Place>, u64), ApiError> {
        let start = self.upload.len();
        while let Some(chunk) = parts.chunk().await? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_the_first_field_of_its_name_with_a_value() {
        for (form, value) in [
            (&b"request=a+b%20c%2Bd"[..], "a b c+d"),
            (b"x=1&request=&&request=%7b%7D&request=no", "{}"),
            (b"r%65quest=a=b", "a=b"),
            (b"request=%EF%BF%BD", "\u{fffd}"),
            (b"request=100%&x=%ff", "100%"),
            (b"request", ""),
            (b"", ""),
        ] {
            let found = request_field(form).unwrap();
            assert_eq!(String::from_utf8(found).unwrap(), value);
        }
    }

    #[test]
    fn a_request_that_is_not_utf_8_is_refused() {
        for form in [&b"request=a%ff"[..], b"request=\xff", b"request=%C3x"] {
            let error = request_field(form).unwrap_err();
            assert!(error.message.contains("not UTF-8"), "{error}");
        }
    }
}
