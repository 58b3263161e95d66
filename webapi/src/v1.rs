//! The API v1: JSON bodies, statuses that say what is wrong, and methods that v0 lacks.
//!
//! - `shape` has the requests and answers, `openapi` describes them.
//! - `method` lists the methods. `send`, `queue`, `events` and `messages` carry them out, `stream`
//!   is the stream of events.
//! - `request` reads requests, `split` takes files out of large ones. `paging` makes pages of
//!   listings. `problem` has the errors.
//! - `unsubscribe` is the page of a recipient's link.

mod events;
mod messages;
mod method;
mod openapi;
mod paging;
mod problem;
mod queue;
mod request;
mod send;
pub(crate) mod shape;
mod split;
mod stream;
mod unsubscribe;

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{Extensions, HeaderMap, Method as Verb, StatusCode},
    response::Response,
};
use postrider_store::Scope;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::method::Method;
use self::problem::{failed, problem, refused};
use crate::{
    call::{
        auth::{self, User},
        context::CallContext,
        data::Data,
        run::{Work, to_its_end},
    },
    error::ApiError,
    http::{
        answer::{json, ok},
        header::{check_encoding, idempotency_key},
        page,
    },
    v0,
};

/// The most bytes of a request of any method that does not send.
const QUESTION_MAX: u64 = 1 << 20;

/// Answers with the description of v1.
pub(crate) fn describe(context: &CallContext) -> Response {
    json(StatusCode::OK, &openapi::document(&context.endpoint.path))
}

/// Answers a request below `v1/`, whose path goes on with `name`.
pub(crate) async fn answer(context: Arc<CallContext>, name: &str, request: Request) -> Response {
    let get = *request.method() == Verb::GET;
    match name {
        "" if get => return page::answer(StatusCode::OK, openapi::page()),
        "openapi.json" if get => return describe(&context),
        "EventStream" if get => return event_stream(context, request).await,
        "EventStream" => {
            let text = "call EventStream with GET";
            return problem(StatusCode::METHOD_NOT_ALLOWED, "protocol", text);
        }
        _ => {}
    }
    if let Some(token) = name.strip_prefix("unsubscribe/") {
        return unsubscribe::answer(&context, token, request).await;
    }
    let Some(method) = Method::from_name(name) else {
        let text = match v0::Method::from_name(name) {
            Some(_) => "v1 has no such method, but v0 has it",
            None => "no such method; openapi.json lists the methods",
        };
        return problem(StatusCode::NOT_FOUND, "notFound", text);
    };
    if *request.method() != Verb::POST {
        let text = "call methods with POST";
        return problem(StatusCode::METHOD_NOT_ALLOWED, "protocol", text);
    }
    let (headers, extensions) = (request.headers(), request.extensions());
    let user = match caller(&context, headers, extensions, method.scope(), name).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let place = context.bounds.call(&user.account);
    let work = async move { carry_out(&context, &user, method, request).await };
    let done = to_its_end(place, Box::pin(work)).await;
    done.unwrap_or_else(|error| failed(&error))
}

async fn event_stream(context: Arc<CallContext>, request: Request) -> Response {
    let (headers, extensions) = (request.headers(), request.extensions());
    match caller(&context, headers, extensions, Scope::Events, "EventStream").await {
        Ok(user) => stream::stream(context, user, request).await,
        Err(refusal) => refusal,
    }
}

/// The caller, if the caller may use this method.
async fn caller(
    context: &CallContext,
    headers: &HeaderMap,
    extensions: &Extensions,
    scope: Scope,
    name: &str,
) -> Result<User, Response> {
    let user = auth::authenticate(context, headers, extensions).await;
    let user = user.map_err(refused)?;
    if user.may(scope) {
        return Ok(user);
    }
    let text = format!("the key may not be used for {name}");
    Err(problem(StatusCode::FORBIDDEN, "forbidden", &text))
}

async fn carry_out(
    context: &CallContext,
    user: &User,
    method: Method,
    request: Request,
) -> Result<Response, ApiError> {
    check_encoding(request.headers())?;
    let key = idempotency_key(request.headers())?;
    // Base64 makes files a third larger.
    let files = context.endpoint.max_message_size.saturating_mul(4) / 3;
    let most = match method {
        Method::Send => send::SEND_MAX + files,
        Method::SendBatch => send::BATCH_MAX + files,
        _ => QUESTION_MAX,
    };
    // Boxed, so that the task is small: it is moved before it begins.
    let body = Box::pin(request::body(context, user, request, most)).await?;
    work(context, user, method, &body, key).await
}

fn work<'a>(
    context: &'a CallContext,
    user: &'a User,
    method: Method,
    body: &'a Data,
    key: Option<String>,
) -> Work<'a> {
    match method {
        Method::Send => answered(send::send(context, user, body, key)),
        Method::SendBatch => answered(send::send_batch(context, user, body, key)),
        Method::QueueCancel => Box::pin(async move {
            let request = request::small(context, user, body).await?;
            Ok(ok(&queue::cancel(context, user, request).await?))
        }),
        Method::QueueList => looked_up(context, user, body, queue::list),
        Method::QueueStatus => looked_up(context, user, body, queue::status),
        Method::Events => looked_up(context, user, body, events::list),
        Method::MessageList => looked_up(context, user, body, messages::list),
        Method::Stats => looked_up(context, user, body, events::stats),
    }
}

/// A method with its answer as JSON.
fn answered<'a, A: Serialize>(
    work: impl Future<Output = Result<A, ApiError>> + Send + 'a,
) -> Work<'a> {
    Box::pin(async move { Ok(ok(&work.await?)) })
}

/// A method that may look at many records. An account has a limited number of places for such
/// calls.
fn looked_up<'a, T, A, F>(
    context: &'a CallContext,
    user: &'a User,
    body: &'a Data,
    method: impl FnOnce(&'a CallContext, &'a User, T) -> F + Send + 'a,
) -> Work<'a>
where
    T: DeserializeOwned + Send + 'a,
    A: Serialize,
    F: Future<Output = Result<A, ApiError>> + Send + 'a,
{
    Box::pin(async move {
        let request = request::small(context, user, body).await?;
        let _place = context.bounds.questions.take(&user.account, 1).await;
        Ok(ok(&method(context, user, request).await?))
    })
}
