//! The API v0, compatible with mox.
//!
//! `form` reads the forms of calls with `multipart`, `json` the JSON in them. `method` lists the
//! methods: `send`, `suppression` and `mailbox` carry them out. `pages` has the documentation.

mod form;
mod json;
mod mailbox;
mod method;
mod multipart;
mod pages;
mod send;
pub(crate) mod shape;
mod suppression;

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{Method as Verb, StatusCode},
    response::Response,
};
use serde::Serialize;

pub(crate) use self::method::Method;
use crate::{
    call::{
        auth::{self, Refusal, User},
        context::CallContext,
        data::Data,
        run::{Work, to_its_end},
    },
    error::{ApiError, Code},
    http::{
        answer::{NO_ADDRESS, challenge, failure, ok, retry_after, text, too_many_logins},
        header::{check_encoding, idempotency_key, is_cross_site},
        page,
    },
};

/// The most bytes of a request of any method but Send.
const QUESTION_MAX: u64 = 256 << 10;

/// Answers a request below `v0/`, whose path goes on with `name`.
pub(crate) async fn answer(context: Arc<CallContext>, name: &str, request: Request) -> Response {
    if name.is_empty() {
        return page::answer(StatusCode::OK, pages::index());
    }
    let Some(method) = Method::from_name(name) else {
        return no_such_method();
    };
    match *request.method() {
        Verb::GET => page::answer(StatusCode::OK, pages::method(method)),
        Verb::POST => call(context, method, request).await,
        _ => text(
            StatusCode::METHOD_NOT_ALLOWED,
            "use POST, or GET for documentation",
        ),
    }
}

/// The answer to a path without a method.
pub(crate) fn no_such_method() -> Response {
    let reason = "no such method; v0/ lists the methods";
    text(StatusCode::NOT_FOUND, reason)
}

async fn call(context: Arc<CallContext>, method: Method, request: Request) -> Response {
    let user = match auth::authenticate(&context, request.headers(), request.extensions()).await {
        Ok(user) => user,
        Err(refusal) => return refused(refusal),
    };
    if !user.may(method.scope()) {
        // Not 401: the key is right.
        let reason = "the key may not be used for this method";
        return text(StatusCode::FORBIDDEN, reason);
    }
    if is_cross_site(&request) {
        let text = "a page of another site may not use the login of this browser";
        return failed(&ApiError::protocol(text));
    }
    let place = context.bounds.call(&user.account);
    let work = async move { carry_out(&context, &user, method, request).await };
    let done = to_its_end(place, Box::pin(work)).await;
    done.unwrap_or_else(|error| failed(&error))
}

async fn carry_out(
    context: &CallContext,
    user: &User,
    method: Method,
    request: Request,
) -> Result<Response, ApiError> {
    check_encoding(request.headers())?;
    let key = idempotency_key(request.headers())?;
    // Boxed, so that the task is small: it is moved before it begins.
    let form = Box::pin(form::read(context, user, request)).await?;
    if method == Method::Send {
        return answered(send::send(context, user, form, key)).await;
    }
    let request = question(context, user, &form.request).await?;
    work(context, user, method, &request).await
}

/// Any method but Send.
fn work<'a>(
    context: &'a CallContext,
    user: &'a User,
    method: Method,
    request: &'a str,
) -> Work<'a> {
    match method {
        Method::Send => Box::pin(async { Err(ApiError::protocol("Send takes a form")) }),
        Method::SuppressionList => answered(suppression::list(context, user, request)),
        Method::SuppressionAdd => answered(suppression::add(context, user, request)),
        Method::SuppressionRemove => answered(suppression::remove(context, user, request)),
        Method::SuppressionPresent => answered(suppression::present(context, user, request)),
        Method::MessageGet => answered(mailbox::get(context, user, request)),
        Method::MessageRawGet => Box::pin(mailbox::raw(context, user, request)),
        Method::MessagePartGet => Box::pin(mailbox::part(context, user, request)),
        Method::MessageDelete => answered(mailbox::delete(context, user, request)),
        Method::MessageFlagsAdd => answered(mailbox::flags(context, user, request, true)),
        Method::MessageFlagsRemove => answered(mailbox::flags(context, user, request, false)),
        Method::MessageMove => answered(mailbox::relocate(context, user, request)),
    }
}

/// A method with its answer as JSON.
fn answered<'a, A: Serialize>(
    work: impl Future<Output = Result<A, ApiError>> + Send + 'a,
) -> Work<'a> {
    Box::pin(async move { Ok(ok(&work.await?)) })
}

/// The JSON of a small request. The method may take memory of its own afterwards, so the JSON keeps
/// no share of it.
async fn question(context: &CallContext, user: &User, request: &Data) -> Result<String, ApiError> {
    if request.len() > QUESTION_MAX {
        let text = format!("the request has more than {QUESTION_MAX} bytes");
        return Err(ApiError::protocol(text));
    }
    let (json, _share) = request.json(context, user).await?;
    Ok(json.text()?.to_owned())
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unauthorized(_, reason) => challenge(text(StatusCode::UNAUTHORIZED, &reason)),
        Refusal::TooMany(wait) => {
            let answer = text(StatusCode::TOO_MANY_REQUESTS, &too_many_logins(wait));
            retry_after(answer, wait)
        }
        Refusal::NoAddress => text(StatusCode::INTERNAL_SERVER_ERROR, NO_ADDRESS),
        Refusal::Failed(error) => failed(&error),
    }
}

fn failed(error: &ApiError) -> Response {
    let status = match error.code {
        // Programs try again by themselves when the status says so.
        Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    failure(status, error)
}
