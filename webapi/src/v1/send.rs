//! The methods Send and SendBatch.

use std::mem;

use super::{request::with_files, shape};
use crate::{
    call::{
        auth::User,
        context::CallContext,
        data::{Data, FIELDS_MAX},
    },
    compose::Files,
    error::ApiError,
    send::{self, BatchResponse, Once, SendResponse},
};

/// The most bytes of a request of Send without its files. The forms of v0 have the same limit.
pub(super) const SEND_MAX: u64 = FIELDS_MAX;
/// The most bytes of a request of SendBatch, which has the variables of many recipients, without
/// its files.
pub(super) const BATCH_MAX: u64 = 32 << 20;

/// Compose a message and queue it for each recipient. After the answer, the message is safe.
#[cfg_attr(test, utoipa::path(
    post, path = "/Send", operation_id = "Send",
    request_body = shape::SendRequest,
    responses(
        (status = 200, body = SendResponse),
        (status = 400, description = "The request is wrong", body = shape::Problem),
        (status = 409, description = "The idempotency key was used for another request", body = shape::Problem),
        (status = 413, description = "The message is larger than the listener allows", body = shape::Problem),
        (status = 429, description = "A limit of the account is reached", body = shape::Problem),
    )
))]
pub(super) async fn send(
    context: &CallContext,
    user: &User,
    body: &Data,
    header: Option<String>,
) -> Result<SendResponse, ApiError> {
    let read = with_files::<shape::SendRequest>(context, user, body, SEND_MAX).await?;
    let (mut request, _share) = (read.request, read.share);
    let once = once(user, mem::take(&mut request.idempotency_key), header, body).await?;
    let draft = request.into_draft(&read.files)?;
    send::send(context, user, draft, Files::default(), once.as_ref()).await
}

/// Compose a message of its own for each recipient, from one text with variables. Queue all of
/// them, or none. Subject, Text and HTML are templates as in Jinja: `{{ name }}` is the recipient's
/// variable `name`, escaped in HTML. A missing variable is an error.
#[cfg_attr(test, utoipa::path(
    post, path = "/SendBatch", operation_id = "SendBatch",
    request_body = shape::SendBatchRequest,
    responses(
        (status = 200, body = BatchResponse),
        (status = 400, description = "The request is wrong; the message names the recipient", body = shape::Problem),
        (status = 409, description = "The idempotency key was used for another request", body = shape::Problem),
        (status = 429, description = "The batch would pass a limit of the account", body = shape::Problem),
    )
))]
pub(super) async fn send_batch(
    context: &CallContext,
    user: &User,
    body: &Data,
    header: Option<String>,
) -> Result<BatchResponse, ApiError> {
    let read = with_files::<shape::SendBatchRequest>(context, user, body, BATCH_MAX).await?;
    let (mut request, _share) = (read.request, read.share);
    let once = once(user, mem::take(&mut request.idempotency_key), header, body).await?;
    let batch = request.into_batch(&read.files)?;
    send::send_all(context, user, batch, once.as_ref()).await
}

/// The idempotency key of the request, else of the header.
async fn once(
    user: &User,
    key: String,
    header: Option<String>,
    body: &Data,
) -> Result<Option<Once>, ApiError> {
    let key = Some(key).filter(|key| !key.is_empty()).or(header);
    let Some(key) = key else { return Ok(None) };
    let once = Once::new(&key, user, body, &Files::default()).await?;
    Ok(Some(once))
}
