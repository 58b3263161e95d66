//! Requests and answers: paths, verbs, hosts, statuses.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{
        HeaderMap, HeaderValue, Method as Verb, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::any,
};
use postrider_smtp::Domain;
use postrider_webhook::Share;
use serde::Serialize;
use tracing::error;

use crate::{
    auth::{self, Refusal, User},
    context::Context,
    data::{Data, blocking_with},
    error::{ApiError, Code},
    form::{self, Form},
    mailbox,
    pages::{self, Method},
    send::{self, Once},
    suppression, v1,
};

/// What a network hears that had too many failed logins.
pub(crate) const TOO_MANY_LOGINS: &str = "too many failed logins from your network (limits.login_failures_per_network); \
    right ones are not looked at for a minute, or for a day when there were very many";
/// When it may try again at the earliest, in seconds.
pub(crate) const FAILED_LOGINS: u16 = 60;
/// When one may try again for whom there was no place, in seconds.
const BUSY: u16 = 5;
/// The most bytes of a request of any method but Send.
const QUESTION_MAX: u64 = 256 << 10;

/// The routes of the listener: everything below its path.
pub(crate) fn router(context: Context) -> Router {
    let base = context.endpoint.path.clone();
    let below = format!("{base}{{*rest}}");
    let shared = Arc::new(context);
    let mut router = Router::new()
        .route(&base, any(answer))
        .route(&below, any(answer));
    let without_slash = base.trim_end_matches('/');
    if !without_slash.is_empty() {
        let to = HeaderValue::from_str(&base).unwrap_or_else(|_| HeaderValue::from_static("/"));
        let redirect = move || async move { (StatusCode::MOVED_PERMANENTLY, [(LOCATION, to)]) };
        router = router.route(without_slash, any(redirect));
    }
    // Limits depend on the kind of form.
    router.layer(DefaultBodyLimit::disable()).with_state(shared)
}

fn text(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

/// Answers everything below the base path.
async fn answer(State(context): State<Arc<Context>>, request: Request) -> Response {
    if !knows_host(&context, &request) {
        return text(
            StatusCode::NOT_FOUND,
            "this server does not go by the name in the request's Host; the listener's hostname in postrider.conf, or a domain's \
             client_settings_domain in domains.conf, says which names are its own",
        );
    }
    let path = request.uri().path();
    let path = path
        .strip_prefix(context.endpoint.path.as_str())
        .unwrap_or_default()
        .to_owned();
    match path.as_str() {
        "" if *request.method() == Verb::GET => {
            let to = HeaderValue::from_str(&format!("{}v0/", context.endpoint.path));
            let to = to.unwrap_or_else(|_| HeaderValue::from_static("v0/"));
            (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
        }
        "" => text(StatusCode::METHOD_NOT_ALLOWED, "use GET"),
        "openapi.json" if *request.method() == Verb::GET => v1::describe(&context),
        "v0/" => pages::answer(StatusCode::OK, pages::index()),
        path if path == "v1" || path.starts_with("v1/") => v1::answer(context, request).await,
        path => match path.strip_prefix("v0/").and_then(Method::from_name) {
            None => text(
                StatusCode::NOT_FOUND,
                "no such method; see v0/ for those that there are",
            ),
            Some(method) => match *request.method() {
                Verb::GET => pages::answer(StatusCode::OK, pages::method(method)),
                Verb::POST => call(context, method, request).await,
                _ => text(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "use POST, or GET for documentation",
                ),
            },
        },
    }
}

/// The host and port that a request is for.
fn authority(request: &Request) -> Option<&str> {
    let header = request.headers().get(HOST);
    let uri = request.uri().authority();
    uri.map(|authority| authority.as_str())
        .or(header.and_then(|host| host.to_str().ok()))
}

/// Only names that are meant for us: a page of another site that points its own name here gets nothing.
fn knows_host(context: &Context, request: &Request) -> bool {
    let Some(authority) = authority(request) else {
        // HTTP/1.0 has none.
        return true;
    };
    let host = match authority.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let Ok(name) = Domain::parse(host) else {
        return false;
    };
    let config = context.config.load();
    name == context.endpoint.hostname
        || config
            .domains
            .values()
            .any(|domain| domain.client_settings_domain == name)
}

/// Whether a browser says that another site's page made it call (Fetch Metadata). It adds the login that it remembers from
/// the pages here to a form of any site. Programs do not send these fields.
fn is_cross_site(request: &Request) -> bool {
    let headers = request.headers();
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    // A browser that does not say so (on plain HTTP) says at least from where its page is (RFC 6454 §7). Programs say nothing.
    let Some(origin) = headers.get("origin") else {
        return false;
    };
    let origin = origin.to_str().unwrap_or_default();
    let page = origin
        .strip_prefix("https://")
        .or(origin.strip_prefix("http://"));
    page.is_none() || page != authority(request)
}

async fn call(context: Arc<Context>, method: Method, request: Request) -> Response {
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
        let text = "a page of another site may not call in the name of who is logged in here";
        return failed(&ApiError::protocol(text));
    }
    let place = context.bounds.call(&user);
    let work = async move { carry_out(&context, &user, method, request).await };
    let work = to_its_end(place, work);
    work.await.unwrap_or_else(|error| failed(&error))
}

/// Carries a call out in a task of its own, if there is a place for it: what has begun ends, whatever becomes of the caller.
pub(crate) async fn to_its_end(
    place: Result<Share, ApiError>,
    work: impl Future<Output = Result<Response, ApiError>> + Send + 'static,
) -> Result<Response, ApiError> {
    let place = place?;
    let work = async move {
        let _place = place;
        work.await
    };
    tokio::spawn(work).await.unwrap_or_else(|panic| {
        error!(%panic, "a call of the webapi failed within");
        Err(ApiError::new(Code::Server, "unhandled error"))
    })
}

async fn carry_out(
    context: &Context,
    user: &User,
    method: Method,
    request: Request,
) -> Result<Response, ApiError> {
    check_encoding(request.headers())?;
    let key = idempotency_key(request.headers())?;
    // Boxed, so that the task is small: it is moved before it begins.
    let form = Box::pin(form::read(context, user, request)).await?;
    let request = match method {
        Method::Send => String::new(),
        _ => question(context, user, &form.request).await?,
    };
    let request = request.as_str();
    Ok(match method {
        Method::Send => ok(&Box::pin(send_message(context, user, form, key)).await?),
        Method::SuppressionList => ok(&suppression::list(context, user, request).await?),
        Method::SuppressionAdd => ok(&suppression::add(context, user, request).await?),
        Method::SuppressionRemove => ok(&suppression::remove(context, user, request).await?),
        Method::SuppressionPresent => ok(&suppression::present(context, user, request).await?),
        Method::MessageGet => ok(&mailbox::get(context, user, request).await?),
        Method::MessageRawGet => mailbox::raw(context, user, request).await?,
        Method::MessagePartGet => mailbox::part(context, user, request).await?,
        Method::MessageDelete => ok(&mailbox::delete(context, user, request).await?),
        Method::MessageFlagsAdd => ok(&mailbox::flags(context, user, request, true).await?),
        Method::MessageFlagsRemove => ok(&mailbox::flags(context, user, request, false).await?),
        Method::MessageMove => ok(&mailbox::relocate(context, user, request).await?),
    })
}

/// The JSON of a method that takes little. What is done then may need memory of its own, so that this has no share.
async fn question(context: &Context, user: &User, request: &Data) -> Result<String, ApiError> {
    if request.len() > QUESTION_MAX {
        let text = format!("the request has more than {QUESTION_MAX} bytes");
        return Err(ApiError::protocol(text));
    }
    let (json, _share) = request.json(context, user).await?;
    Ok(json.text()?.to_owned())
}

async fn send_message(
    context: &Context,
    user: &User,
    form: Form,
    key: Option<String>,
) -> Result<send::Response, ApiError> {
    let (json, _share) = form.request.json(context, user).await?;
    let once = match key {
        Some(key) => Some(Once::new(&key, user, &form.request, &form.files).await?),
        None => None,
    };
    let request = blocking_with(form.request.len(), move || {
        send::Request::read(json.text()?)
    });
    send::send(context, user, request.await?, form.files, once.as_ref()).await
}

/// Bodies come as they are.
///
/// # Errors
/// If one is compressed.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let text = format!("Content-Encoding {encoding:?}: send the body without one");
            Err(ApiError::protocol(text))
        }
        _ => Ok(()),
    }
}

/// The key of the header, if there is one.
///
/// # Errors
/// If it is not UTF-8.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = std::str::from_utf8(key.as_bytes());
    let key = key.map_err(|_| ApiError::user("the idempotency key is not UTF-8"))?;
    Ok(Some(key.to_owned()))
}

pub(crate) fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unauthorized(reason) => {
            let challenge = [(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=webapi"),
            )];
            (StatusCode::UNAUTHORIZED, challenge, format!("{reason}\n")).into_response()
        }
        Refusal::TooMany => later(
            text(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_LOGINS),
            FAILED_LOGINS,
        ),
        Refusal::NoAddress => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the proxy gives no usable X-Forwarded-For",
        ),
        Refusal::Failed(error) => failed(&error),
    }
}

fn failed(error: &ApiError) -> Response {
    let status = match error.code {
        // Programs try again by themselves when they are told so by the status.
        Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    failure(status, error)
}

/// The answer to a call that failed, with the time to come again if that may help.
pub(crate) fn failure(status: StatusCode, error: &ApiError) -> Response {
    let answer = json(status, error);
    match error.code {
        Code::Busy => later(answer, BUSY),
        _ => answer,
    }
}

/// Says after how many seconds it may be tried again.
pub(crate) fn later(mut answer: Response, seconds: u16) -> Response {
    let seconds = HeaderValue::from(seconds);
    answer.headers_mut().insert(RETRY_AFTER, seconds);
    answer
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            let kind = HeaderValue::from_static("application/json; charset=utf-8");
            (status, [(CONTENT_TYPE, kind)], body).into_response()
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
