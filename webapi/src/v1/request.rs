//! Reads the requests of calls.

use axum::extract::Request;
use postrider_webhook::Share;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::split::{self, Split};
use crate::{
    call::{
        auth::User,
        context::CallContext,
        data::{Data, IN_MEMORY, Upload, collect},
        run::blocking,
    },
    error::{ApiError, Code},
    http::header::media_type,
    send::NewContent,
};

/// Reads the body of a call, which must be JSON of at most `most` bytes.
pub(super) async fn body(
    context: &CallContext,
    user: &User,
    request: Request,
    most: u64,
) -> Result<Data, ApiError> {
    let kind = media_type(request.headers());
    // A browser does not let a page of another site send this type without our permission.
    if kind != "application/json" {
        let text = format!("Content-Type {kind:?}: send application/json");
        return Err(ApiError::protocol(text));
    }
    let upload = Upload::new(context, user);
    collect(upload, request.into_body(), most, Code::MessageTooLarge).await
}

/// A request that may have files.
pub(super) struct WithFiles<T> {
    pub(super) request: T,
    /// The contents of the files, if they were taken out of the JSON.
    pub(super) files: Vec<NewContent>,
    /// The memory for the request. To be kept until the call ends.
    pub(super) share: Share,
}

/// Reads a request that may have files. From a request in a file, the contents of files are taken
/// out first. The JSON may have `most` bytes besides them.
pub(super) async fn with_files<T: DeserializeOwned + Send + 'static>(
    context: &CallContext,
    user: &User,
    body: &Data,
    most: u64,
) -> Result<WithFiles<T>, ApiError> {
    if body.len() <= IN_MEMORY {
        let (json, share) = body.json(context, user).await?;
        return Ok(WithFiles {
            request: parse(json.text()?)?,
            files: Vec::new(),
            share,
        });
    }
    let memory = split::memory(body.len().min(most));
    let share = context.bounds.memory.take(&user.account, memory).await;
    let (whole, store) = (body.clone(), context.store.clone());
    let Split { json, size, files } = blocking(move || split::split(whole, most, &store)).await?;
    drop(share);
    let (json, share) = json.json_of(context, user, &size).await?;
    Ok(WithFiles {
        request: blocking(move || parse(json.text()?)).await?,
        files,
        share,
    })
}

/// Reads a request without files.
pub(super) async fn small<T: DeserializeOwned>(
    context: &CallContext,
    user: &User,
    body: &Data,
) -> Result<T, ApiError> {
    let (json, _share) = body.json(context, user).await?;
    parse(json.text()?)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    // serde would read a list as the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::protocol("the request must be a JSON object"));
    }
    let read = serde_json::from_str(text);
    let read = read.or_else(|error| without_nulls(text).unwrap_or_else(|| Err(error.to_string())));
    read.map_err(|error| ApiError::protocol(format!("parsing the request: {error}")))
}

/// Reads a request without the fields that are null. None if there is no such field.
///
/// Clients in some languages send null for an empty list. As in v0, null means absent.
fn without_nulls<T: DeserializeOwned>(text: &str) -> Option<Result<T, String>> {
    let mut fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    let all = fields.len();
    fields.retain(|_, value| !value.is_null());
    if fields.len() == all {
        return None;
    }
    // Written and read again, so that the code that reads `T` is compiled for texts only.
    let text = serde_json::to_string(&fields).ok()?;
    Some(serde_json::from_str(&text).map_err(|error| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let error = error.to_string();
        // The place is one in the new text, which the caller does not know.
        error.strip_suffix(&place).unwrap_or(&error).to_owned()
    }))
}
