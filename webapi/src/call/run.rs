//! Tasks and threads for calls.

use std::{any::Any, pin::Pin};

use axum::response::Response;
use postrider_observe::{metrics::PanicIn, panics};
use postrider_webhook::Share;
use tracing::error;

use super::data::IN_MEMORY;
use crate::error::{ApiError, Code};

/// A call on its way to its answer. Boxed, so that the code of each method is compiled once and its
/// task is small.
pub(crate) type Work<'a> = Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send + 'a>>;

/// Carries a call out in a task of its own, if there is a place for it. A call that has begun ends
/// even if the caller goes away.
pub(crate) async fn to_its_end(
    place: Result<Share, ApiError>,
    work: Work<'static>,
) -> Result<Response, ApiError> {
    let place = place?;
    let work = async move {
        let _place = place;
        work.await
    };
    let work = panics::within(PanicIn::Http, work);
    tokio::spawn(work).await.unwrap_or_else(|_| {
        error!("a call of the webapi panicked");
        Err(ApiError::new(Code::Server, "unhandled error"))
    })
}

/// Runs `work` here if it is for few bytes, else in a thread that may block.
pub(crate) async fn blocking_with<T: Send + 'static>(
    bytes: u64,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match bytes <= IN_MEMORY {
        true => work(),
        false => blocking(work).await,
    }
}

/// Runs `work` in a thread that may block, so that other calls do not wait for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let work = || -> Result<Box<dyn Any + Send>, ApiError> { Ok(Box::new(work()?)) };
    let done = spawn_blocking(Box::new(work)).await?;
    let done = done.downcast().map(|done| *done);
    done.map_err(|_| ApiError::new(Code::Server, "unhandled error"))
}

type Blocking = Box<dyn FnOnce() -> Result<Box<dyn Any + Send>, ApiError> + Send>;

/// Not generic, so that the machinery of a task is compiled once.
async fn spawn_blocking(work: Blocking) -> Result<Box<dyn Any + Send>, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::new(Code::Server, error.to_string()))?
}
