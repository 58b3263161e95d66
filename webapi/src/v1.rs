//! The API v1: JSON bodies, statuses that say what is wrong, and what v0 lacks.
//!
//! `shape` has the requests and answers, `queue` the methods for what is queued, `events` those for what became of it, `messages` the list of what came in, `openapi` the
//! description, which is made of all of them. `split` takes files out of large requests.

mod events;
mod messages;
mod openapi;
mod queue;
pub(crate) mod shape;
mod split;

use std::{collections::BTreeMap, mem, sync::Arc};

use axum::{
    extract::Request,
    http::{
        Extensions, HeaderMap, HeaderValue, Method as Verb, StatusCode, header::WWW_AUTHENTICATE,
    },
    response::Response,
};
use postrider_store::{Page, Scope, StoreError};
use postrider_webhook::Share;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tracing::error;

use self::{shape::Problem, split::Split};
use crate::{
    auth::{self, Refusal, User},
    context::Context,
    data::{self, Data, IN_MEMORY, Upload, blocking},
    error::{ApiError, Code},
    form::{FIELDS_MAX, Files, media_type},
    http::{
        FAILED_LOGINS, TOO_MANY_LOGINS, check_encoding, failure, idempotency_key, json, later, ok,
        to_its_end,
    },
    pages, request,
    send::{self, NewContent, Once},
    unsubscribe::Subscription,
};

/// The most bytes of what is sent, without the base64 of files. v0 has the same for its forms.
const SEND_MAX: u64 = FIELDS_MAX;
/// ... with the variables of many recipients.
const BATCH_MAX: u64 = 32 << 20;
/// The most bytes of any other request.
const QUESTION_MAX: u64 = 1 << 20;
/// About so many bytes of rows end a page.
const PAGE: usize = 1 << 20;
/// Rows that are looked up at once.
const STEP: usize = 50;

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

/// A page: what `list` gives after each row, up to `limit` rows, or fewer when they are long; and after which there are more.
async fn rows<T, K: Copy, F: Future<Output = Result<Page<T, K>, StoreError>>>(
    limit: usize,
    mut after: Option<K>,
    list: impl Fn(Option<K>, usize) -> F,
    size: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, Option<K>), StoreError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    loop {
        let page = list(after, STEP.min(limit - rows.len())).await?;
        bytes += page.items.iter().map(&size).sum::<usize>();
        rows.extend(page.items);
        after = page.next;
        if after.is_none() || rows.len() >= limit || bytes >= PAGE {
            return Ok((rows, after));
        }
    }
}

/// What texts of a row have that may be long.
fn long(subject: &str, extra: &BTreeMap<String, String>) -> usize {
    subject.len() + request::lengths(extra)
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
pub(crate) fn describe(context: &Context) -> Response {
    json(StatusCode::OK, &openapi::document(&context.endpoint.path))
}

/// Answers what is below `v1`.
pub(crate) async fn answer(context: Arc<Context>, request: Request) -> Response {
    let path = request.uri().path();
    let path = path
        .strip_prefix(context.endpoint.path.as_str())
        .unwrap_or_default();
    let name = path.strip_prefix("v1/").unwrap_or_default().to_owned();
    let get = *request.method() == Verb::GET;
    match name.as_str() {
        "" if get => return pages::answer(StatusCode::OK, openapi::page()),
        "openapi.json" if get => return describe(&context),
        "EventStream" if get => return events::stream(context, request).await,
        "EventStream" => {
            let text = "call EventStream with GET";
            return problem(StatusCode::METHOD_NOT_ALLOWED, "protocol", text);
        }
        _ => {}
    }
    if let Some(token) = name.strip_prefix("unsubscribe/") {
        return unsubscribe(&context, token, request).await;
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
    let user = match caller(&context, headers, extensions, method.scope(), &name).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let place = context.bounds.call(&user);
    let work = async move { call(&context, &user, method, request).await };
    let work = to_its_end(place, work);
    work.await.unwrap_or_else(|error| failed(&error))
}

/// Who calls, if they may call this.
async fn caller(
    context: &Context,
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

async fn call(
    context: &Arc<Context>,
    user: &User,
    method: Method,
    request: Request,
) -> Result<Response, ApiError> {
    check_encoding(request.headers())?;
    let header = idempotency_key(request.headers())?;
    // Files grow by a third in base64.
    let files = context.endpoint.max_message_size.saturating_mul(4) / 3;
    let most = match method {
        Method::Send => SEND_MAX + files,
        Method::SendBatch => BATCH_MAX + files,
        _ => QUESTION_MAX,
    };
    let body = Box::pin(read(context, user, request, most)).await?;
    Ok(match method {
        Method::Send => ok(&Box::pin(send_message(context, user, &body, header)).await?),
        Method::SendBatch => ok(&Box::pin(send_batch(context, user, &body, header)).await?),
        Method::QueueList => {
            let (wanted, _place) = look(context, user, &body).await?;
            ok(&queue::list(context, user, &wanted).await?)
        }
        Method::QueueStatus => {
            let (wanted, _place) = look(context, user, &body).await?;
            ok(&queue::status(context, user, &wanted).await?)
        }
        Method::QueueCancel => {
            ok(&queue::cancel(context, user, question(context, user, &body).await?).await?)
        }
        Method::Events => {
            let (wanted, _place) = look(context, user, &body).await?;
            ok(&events::list(context, user, &wanted).await?)
        }
        Method::MessageList => {
            let (wanted, _place) = look(context, user, &body).await?;
            ok(&messages::list(context, user, &wanted).await?)
        }
        Method::Stats => {
            let (wanted, _place) = look(context, user, &body).await?;
            ok(&events::stats(context, user, &wanted).await?)
        }
    })
}

/// A recipient's link. A look at it changes nothing: programs that check mail follow links too (RFC 8058 §3.2).
async fn unsubscribe(context: &Context, token: &str, request: Request) -> Response {
    let page = |status: StatusCode, text: &str| {
        let content = format!("<h1>Unsubscribe</h1>\n<p>{}</p>\n", pages::escaped(text));
        pages::answer(status, pages::page("Unsubscribe", &content))
    };
    let Some(subscription) = Subscription::read(token, &context.unsubscribe_key) else {
        return page(StatusCode::NOT_FOUND, "This link is not valid.");
    };
    let (address, list) = (subscription.address.unicode(), &subscription.list);
    let ended = format!("{address} gets no more mail of {list:?}.");
    match *request.method() {
        Verb::POST => match subscription.end(context).await {
            Ok(()) => page(StatusCode::OK, &ended),
            Err(error) => {
                error!(%error, "failed to unsubscribe");
                let text = "This did not work; please try again later.";
                page(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        },
        Verb::GET if subscription.has_ended(context).await.unwrap_or_default() => {
            page(StatusCode::OK, &ended)
        }
        Verb::GET => {
            let content = format!(
                "<h1>Unsubscribe</h1>\n<p>{} gets mail of {}.</p>\n<form method=\"post\">\
                 <button name=\"List-Unsubscribe\" value=\"One-Click\">Unsubscribe</button></form>\n",
                pages::escaped(&address),
                pages::escaped(&format!("{list:?}"))
            );
            pages::answer(StatusCode::OK, pages::page("Unsubscribe", &content))
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
    context: &Context,
    user: &User,
    body: &Data,
    header: Option<String>,
) -> Result<send::Response, ApiError> {
    let wanted = read_with_files::<shape::SendRequest>(context, user, body, SEND_MAX).await?;
    let (mut request, _share) = (wanted.request, wanted.share);
    let once = once(user, mem::take(&mut request.idempotency_key), header, body).await?;
    let request = request.into_request(&wanted.files)?;
    send::send(context, user, request, Files::default(), once.as_ref()).await
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
    context: &Context,
    user: &User,
    body: &Data,
    header: Option<String>,
) -> Result<send::BatchResponse, ApiError> {
    let wanted = read_with_files::<shape::SendBatchRequest>(context, user, body, BATCH_MAX).await?;
    let (mut request, _share) = (wanted.request, wanted.share);
    let once = once(user, mem::take(&mut request.idempotency_key), header, body).await?;
    let batch = request.into_batch(&wanted.files)?;
    send::send_all(context, user, batch, once.as_ref()).await
}

/// By the idempotency key of the request, or else of the header.
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

/// The body, which is JSON.
async fn read(
    context: &Context,
    user: &User,
    request: Request,
    most: u64,
) -> Result<Data, ApiError> {
    let kind = media_type(request.headers());
    // A page of another site can't send this type without being asked first.
    if kind != "application/json" {
        let text = format!("Content-Type {kind:?}: send application/json");
        return Err(ApiError::protocol(text));
    }
    let upload = Upload::new(context, user);
    data::collect(upload, request.into_body(), most, Code::MessageTooLarge).await
}

/// A request that was read.
struct Wanted<T> {
    request: T,
    /// The contents of its files, if they were taken out of the JSON.
    files: Vec<NewContent>,
    /// Of memory, until all is done.
    share: Share,
}

/// Reads a request that may have files. One that does not fit into memory is split first.
async fn read_with_files<T: DeserializeOwned + Send + 'static>(
    context: &Context,
    user: &User,
    body: &Data,
    most: u64,
) -> Result<Wanted<T>, ApiError> {
    if body.len() <= IN_MEMORY {
        let (json, share) = body.json(context, user).await?;
        return Ok(Wanted {
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
    Ok(Wanted {
        request: blocking(move || parse(json.text()?)).await?,
        files,
        share,
    })
}

/// Reads a question that may look at many records. Each account has a limited number of places for such questions; the
/// second value is the place.
async fn look<T: DeserializeOwned>(
    context: &Context,
    user: &User,
    body: &Data,
) -> Result<(T, Share), ApiError> {
    let request = question(context, user, body).await?;
    let place = context.bounds.questions.take(&user.account, 1).await;
    Ok((request, place))
}

/// A request without files.
async fn question<T: DeserializeOwned>(
    context: &Context,
    user: &User,
    body: &Data,
) -> Result<T, ApiError> {
    let (json, _share) = body.json(context, user).await?;
    parse(json.text()?)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    // A list would be taken for the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::protocol("the request must be a JSON object"));
    }
    serde_json::from_str(text)
        .or_else(|error| without_nulls(text).unwrap_or(Err(error)))
        .map_err(|error| ApiError::protocol(format!("parsing the request: {error}")))
}

/// Clients in some languages send null for an empty list: as in v0, it is absent. None if there is no null.
fn without_nulls<T: DeserializeOwned>(text: &str) -> Option<Result<T, serde_json::Error>> {
    let mut fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    let all = fields.len();
    fields.retain(|_, value| !value.is_null());
    (fields.len() < all).then(|| serde_json::from_value(Value::Object(fields)))
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
        Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    failure(status, error)
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
            let status = StatusCode::TOO_MANY_REQUESTS;
            let answer = problem(status, "tooManyFailedLogins", TOO_MANY_LOGINS);
            later(answer, FAILED_LOGINS)
        }
        Refusal::NoAddress => {
            let text = "the proxy gives no usable X-Forwarded-For";
            problem(StatusCode::INTERNAL_SERVER_ERROR, "server", text)
        }
        Refusal::Failed(error) => failed(&error),
    }
}
