//! The API v1: JSON bodies, statuses that say what is wrong, and what v0 lacks.
//!
//! `shape` has the requests and answers, `queue` the methods for what is queued, `events` those for what became of it, `messages` the list of what came in, `openapi` the
//! description, which is made of all of them.

mod events;
mod messages;
mod openapi;
mod queue;
pub(crate) mod shape;

use std::sync::Arc;

use axum::{
    body,
    extract::Request,
    http::{
        Extensions, HeaderMap, HeaderValue, Method as Verb, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{Html, IntoResponse, Response},
};
use postrider_store::Scope;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::error;

use self::shape::Problem;
use crate::{
    Parts,
    auth::{self, Refusal, User},
    error::{ApiError, Code},
    form::Files,
    http::{idempotency_key, json, ok, to_its_end},
    pages,
    send::{self, Once},
    unsubscribe::Subscription,
};

/// What a request may have besides the message: names, escapes, and base64 of what is attached.
const REQUEST_OVERHEAD: u64 = 1 << 20;
/// ... and the variables of many recipients.
const BATCH_OVERHEAD: u64 = 32 << 20;

/// Rows of a page, at most.
const SHOWN_MAX: usize = 1000;
/// ... and when nothing is said.
const SHOWN: usize = 100;

/// How many rows a page has when so many are wanted.
const fn limit(wanted: usize) -> usize {
    match wanted {
        0 => SHOWN,
        1..SHOWN_MAX => wanted,
        _ => SHOWN_MAX,
    }
}

/// The methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Send,
    SendBatch,
    QueueList,
    QueueStatus,
    QueueCancel,
    Events,
    Stats,
    MessageList,
}

impl Method {
    pub(crate) const ALL: [Self; 8] = [
        Self::Send,
        Self::SendBatch,
        Self::QueueList,
        Self::QueueStatus,
        Self::QueueCancel,
        Self::Events,
        Self::Stats,
        Self::MessageList,
    ];

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Send => "Send",
            Self::SendBatch => "SendBatch",
            Self::QueueList => "QueueList",
            Self::QueueStatus => "QueueStatus",
            Self::QueueCancel => "QueueCancel",
            Self::Events => "Events",
            Self::Stats => "Stats",
            Self::MessageList => "MessageList",
        }
    }

    const fn scope(self) -> Scope {
        match self {
            Self::Send
            | Self::SendBatch
            | Self::QueueList
            | Self::QueueStatus
            | Self::QueueCancel => Scope::Send,
            Self::Events | Self::Stats => Scope::Events,
            Self::MessageList => Scope::Messages,
        }
    }
}

/// The description of v1.
pub(crate) fn describe(parts: &Parts) -> Response {
    json(StatusCode::OK, &openapi::document(&parts.path))
}

/// Answers what is below `v1`.
pub(crate) async fn answer(parts: Arc<Parts>, request: Request) -> Response {
    let path = request.uri().path();
    let path = path.strip_prefix(parts.path.as_str()).unwrap_or_default();
    let name = path.strip_prefix("v1/").unwrap_or_default().to_owned();
    let get = *request.method() == Verb::GET;
    match name.as_str() {
        "" if get => return Html(openapi::page()).into_response(),
        "openapi.json" if get => return describe(&parts),
        "EventStream" if get => return events::stream(parts, request).await,
        _ => {}
    }
    if let Some(token) = name.strip_prefix("unsubscribe/") {
        return unsubscribe(&parts, token, request).await;
    }
    let Some(method) = Method::from_name(&name) else {
        let text = match pages::Method::from_name(&name) {
            Some(_) => "v1 has no such method, but v0 has",
            None => "no such method; see openapi.json for those that there are",
        };
        return problem(StatusCode::NOT_FOUND, "notFound", text);
    };
    if *request.method() != Verb::POST {
        let text = "call methods with POST";
        return problem(StatusCode::METHOD_NOT_ALLOWED, "protocol", text);
    }
    let (headers, extensions) = (request.headers(), request.extensions());
    let user = match caller(&parts, headers, extensions, method.scope(), &name).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let work = to_its_end(async move { call(&parts, &user, method, request).await });
    work.await.unwrap_or_else(|error| failed(&error))
}

/// Who calls, if they may call this.
async fn caller(
    parts: &Parts,
    headers: &HeaderMap,
    extensions: &Extensions,
    scope: Scope,
    name: &str,
) -> Result<User, Response> {
    let user = auth::authenticate(parts, headers, extensions).await;
    let user = user.map_err(refused)?;
    if user.may(scope) {
        return Ok(user);
    }
    let text = format!("the key may not be used for {name}");
    Err(problem(StatusCode::FORBIDDEN, "forbidden", &text))
}

async fn call(
    parts: &Parts,
    user: &User,
    method: Method,
    request: Request,
) -> Result<Response, ApiError> {
    let header = idempotency_key(request.headers());
    let overhead = match method {
        Method::SendBatch => BATCH_OVERHEAD,
        _ => REQUEST_OVERHEAD,
    };
    let text = read(parts, request, overhead).await?;
    Ok(match method {
        Method::Send => ok(&send_message(parts, user, &text, header).await?),
        Method::SendBatch => ok(&send_batch(parts, user, &text, header).await?),
        Method::QueueList => ok(&queue::list(parts, user, &parse(&text)?)?),
        Method::QueueStatus => ok(&queue::status(parts, user, &parse(&text)?)?),
        Method::QueueCancel => ok(&queue::cancel(parts, user, parse(&text)?).await?),
        Method::Events => ok(&events::list(parts, user, parse(&text)?)?),
        Method::MessageList => ok(&messages::list(parts, user, &parse(&text)?)?),
        Method::Stats => ok(&events::stats(parts, user, &parse(&text)?)?),
    })
}

/// A recipient's link. A look at it changes nothing: programs that check mail follow links too (RFC 8058 §3.2).
async fn unsubscribe(parts: &Parts, token: &str, request: Request) -> Response {
    let page = |status: StatusCode, text: &str| {
        let content = format!("<h1>Unsubscribe</h1>\n<p>{}</p>\n", pages::escaped(text));
        (status, Html(pages::page("Unsubscribe", &content))).into_response()
    };
    let Some(subscription) = Subscription::read(token, &parts.unsubscribe_key) else {
        return page(StatusCode::NOT_FOUND, "This link is not valid.");
    };
    let (address, list) = (subscription.address.unicode(), &subscription.list);
    let ended = format!("{address} gets no more mail of {list:?}.");
    match *request.method() {
        Verb::POST => match subscription.end(parts).await {
            Ok(()) => page(StatusCode::OK, &ended),
            Err(error) => {
                error!(%error, "failed to unsubscribe");
                let text = "This did not work; please try again later.";
                page(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        },
        Verb::GET if subscription.has_ended(parts).unwrap_or_default() => {
            page(StatusCode::OK, &ended)
        }
        Verb::GET => {
            let content = format!(
                "<h1>Unsubscribe</h1>\n<p>{} gets mail of {}.</p>\n<form method=\"post\">\
                 <button name=\"List-Unsubscribe\" value=\"One-Click\">Unsubscribe</button></form>\n",
                pages::escaped(&address),
                pages::escaped(&format!("{list:?}"))
            );
            Html(pages::page("Unsubscribe", &content)).into_response()
        }
        _ => page(StatusCode::METHOD_NOT_ALLOWED, "Use the button."),
    }
}

/// Compose a message, and queue it for each recipient. When the answer is there, the message is safe.
#[utoipa::path(
    post, path = "/Send", operation_id = "Send",
    request_body = shape::SendRequest,
    responses(
        (status = 200, body = send::Response),
        (status = 400, description = "Something is wrong with the request", body = Problem),
        (status = 409, description = "The idempotency key was used for another request", body = Problem),
        (status = 413, description = "The message is larger than the listener takes", body = Problem),
        (status = 429, description = "A limit of the account is reached", body = Problem),
    )
)]
async fn send_message(
    parts: &Parts,
    user: &User,
    text: &str,
    header: Option<String>,
) -> Result<send::Response, ApiError> {
    let mut wanted: shape::SendRequest = parse(text)?;
    let once = once(std::mem::take(&mut wanted.idempotency_key), header, text)?;
    let (wanted, files) = (wanted.into_request()?, Files::default());
    send::send(parts, user, wanted, files, once.as_ref()).await
}

/// Compose a message of its own for each recipient, from one text with variables, and queue them: all, or none. Subject, Text and HTML are
/// templates as of Jinja; `{{ name }}` is the recipient's variable `name`, escaped in HTML. A variable that a recipient lacks is an error.
#[utoipa::path(
    post, path = "/SendBatch", operation_id = "SendBatch",
    request_body = shape::SendBatchRequest,
    responses(
        (status = 200, body = send::BatchResponse),
        (status = 400, description = "Something is wrong with the request; the message names the recipient", body = Problem),
        (status = 409, description = "The idempotency key was used for another request", body = Problem),
        (status = 429, description = "A limit of the account would be reached", body = Problem),
    )
)]
async fn send_batch(
    parts: &Parts,
    user: &User,
    text: &str,
    header: Option<String>,
) -> Result<send::BatchResponse, ApiError> {
    let mut wanted: shape::SendBatchRequest = parse(text)?;
    let once = once(std::mem::take(&mut wanted.idempotency_key), header, text)?;
    send::send_all(parts, user, wanted.into_batch()?, once.as_ref()).await
}

/// By the idempotency key of the request, or else of the header.
fn once(key: String, header: Option<String>, text: &str) -> Result<Option<Once>, ApiError> {
    let key = Some(key).filter(|key| !key.is_empty()).or(header);
    let files = Files::default();
    key.map(|key| Once::new(&key, text, &files)).transpose()
}

/// The body, which is JSON.
async fn read(parts: &Parts, request: Request, overhead: u64) -> Result<String, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // A page of another site can't send this type without being asked first.
    if !kind.eq_ignore_ascii_case("application/json") {
        let text = format!("Content-Type {kind:?}: send application/json");
        return Err(ApiError::protocol(text));
    }
    // Files grow by a third in base64.
    let most = parts.max_message_size.saturating_mul(4) / 3 + overhead;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let bytes = body::to_bytes(request.into_body(), most)
        .await
        .map_err(|error| {
            let text = format!("reading the request (at most {most} bytes): {error}");
            let too_large = std::error::Error::source(&error)
                .is_some_and(|cause| cause.to_string().contains("length limit"));
            match too_large {
                true => ApiError::new(Code::MessageTooLarge, text),
                false => ApiError::protocol(text),
            }
        })?;
    String::from_utf8(bytes.into())
        .map_err(|error| ApiError::protocol(format!("the request is not UTF-8: {error}")))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    // A list would be taken for the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::protocol("the request must be a JSON object"));
    }
    let wrong = |error| ApiError::protocol(format!("parsing the request: {error}"));
    match serde_json::from_str(text) {
        // Clients in some languages send null for an empty list: as in v0, it is absent.
        Err(error) if error.to_string().contains("invalid type: null") => {
            let mut request: Value = serde_json::from_str(text).map_err(wrong)?;
            if let Value::Object(fields) = &mut request {
                fields.retain(|_, value| !value.is_null());
            }
            serde_json::from_value(request).map_err(wrong)
        }
        read => read.map_err(wrong),
    }
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    let problem = Problem {
        code: code.to_owned(),
        message: message.to_owned(),
    };
    json(status, &problem)
}

fn failed(error: &ApiError) -> Response {
    let status = match error.code {
        Code::MessageNotFound | Code::PartNotFound => StatusCode::NOT_FOUND,
        Code::IdempotencyConflict => StatusCode::CONFLICT,
        Code::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::MessageLimitReached | Code::RecipientLimitReached => StatusCode::TOO_MANY_REQUESTS,
        Code::Server => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    json(status, error)
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unauthorized(reason) => {
            let mut answer = problem(StatusCode::UNAUTHORIZED, "unauthorized", &reason);
            let challenge = HeaderValue::from_static("Basic realm=webapi");
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            answer
        }
        Refusal::TooMany => {
            let text = "too many failed logins, try again later";
            problem(StatusCode::TOO_MANY_REQUESTS, "tooManyFailedLogins", text)
        }
        Refusal::NoAddress => {
            let text = "the proxy gives no usable X-Forwarded-For";
            problem(StatusCode::INTERNAL_SERVER_ERROR, "server", text)
        }
        Refusal::Failed(error) => failed(&error),
    }
}
