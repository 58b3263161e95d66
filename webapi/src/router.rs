//! The routes of a listener: everything below its path.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, Method as Verb, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::any,
};
use postrider_observe::metrics::{CallResult, Label, Method};

use crate::{
    call::context::{CallContext, Endpoint},
    http::answer::text,
    v0, v1,
};

/// The routes of a listener with this context.
pub(crate) fn router(context: CallContext) -> Router {
    let base = context.endpoint.path.clone();
    let below = format!("{base}{{*rest}}");
    let mut router = Router::new()
        .route(&base, any(answer))
        .route(&below, any(answer));
    let without_slash = base.trim_end_matches('/');
    if !without_slash.is_empty() {
        let to = HeaderValue::from_str(&base).unwrap_or_else(|_| HeaderValue::from_static("/"));
        let redirect = move || async move { (StatusCode::MOVED_PERMANENTLY, [(LOCATION, to)]) };
        router = router.route(without_slash, any(redirect));
    }
    // The limit on a body depends on the method and the kind of form.
    let router = router.layer(DefaultBodyLimit::disable());
    router.with_state(Arc::new(context))
}

/// Answers a request, and counts it if it calls a method.
async fn answer(State(context): State<Arc<CallContext>>, request: Request) -> Response {
    let method = called(&context.endpoint.path, &request);
    let metrics = Arc::clone(&context.metrics);
    let answer = answered(context, request).await;
    if let Some(method) = method {
        let result = match answer.status() {
            status if status.is_server_error() => CallResult::Server,
            status if status.is_client_error() => CallResult::User,
            _ => CallResult::Ok,
        };
        metrics.webapi_calls_total.with((method, result)).inc();
    }
    answer
}

/// The method that a request calls. Who uses GET reads about a method, except the stream.
fn called(base: &str, request: &Request) -> Option<Method> {
    let path = request.uri().path().strip_prefix(base)?;
    let path = path
        .strip_prefix("v0/")
        .or_else(|| path.strip_prefix("v1/"))?;
    let mut methods = Method::ALL.iter().copied();
    let method = methods.find(|method| method.text() == path);
    let method = method.unwrap_or(Method::Other);
    let is_stream = method == Method::EventStream;
    let calls = match *request.method() {
        Verb::POST => !is_stream,
        Verb::GET => is_stream,
        _ => false,
    };
    calls.then_some(method)
}

async fn answered(context: Arc<CallContext>, request: Request) -> Response {
    let Endpoint {
        hosts, hostname, ..
    } = &context.endpoint;
    let refusal = hosts.refusal(hostname, &context.config.load(), &request);
    if let Some(refusal) = refusal {
        return refusal;
    }
    let base = context.endpoint.path.as_str();
    let path = request.uri().path();
    let Some(path) = normal(path.strip_prefix(base).unwrap_or_default()) else {
        return v0::no_such_method();
    };
    match path.as_str() {
        "" if *request.method() == Verb::GET => {
            let to = HeaderValue::from_str(&format!("{base}v0/"));
            let to = to.unwrap_or_else(|_| HeaderValue::from_static("v0/"));
            (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
        }
        "" => text(StatusCode::METHOD_NOT_ALLOWED, "use GET"),
        "openapi.json" if *request.method() == Verb::GET => v1::describe(&context),
        "v1" => v1::answer(context, "", request).await,
        path => {
            if let Some(name) = path.strip_prefix("v1/") {
                v1::answer(context, name, request).await
            } else if let Some(name) = path.strip_prefix("v0/") {
                v0::answer(context, name, request).await
            } else {
                v0::no_such_method()
            }
        }
    }
}

/// A path without empty parts, `.` and `..` (RFC 3986 §5.2.4). Its last slash stays. None for a
/// path that leads out of the API.
fn normal(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let is_folder = ["", ".", ".."].contains(&path.rsplit('/').next().unwrap_or_default());
    let end = if is_folder && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    Some(parts.join("/") + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_is_counted_by_its_name() {
        let called = |verb: &str, path: &str| {
            let request = Request::builder().method(verb).uri(path);
            called(
                "/webapi/",
                &request.body(axum::body::Body::empty()).unwrap(),
            )
        };
        let methods = v0::Method::ALL.into_iter().map(v0::Method::name);
        let methods = methods.chain(v1::Method::ALL.into_iter().map(v1::Method::name));
        for name in methods {
            let method = called("POST", &format!("/webapi/v1/{name}")).unwrap();
            assert_eq!(method.text(), name);
        }
        for (verb, path, expected) in [
            ("GET", "/webapi/v0/Send", None),
            (
                "GET",
                "/webapi/v1/EventStream?account=a",
                Some(Method::EventStream),
            ),
            ("POST", "/webapi/v0/send", Some(Method::Other)),
            ("POST", "/webapi/v2/Send", None),
            ("POST", "/other/v0/Send", None),
            ("GET", "/webapi/", None),
        ] {
            assert_eq!(called(verb, path), expected, "{verb} {path}");
        }
    }

    #[test]
    fn paths_become_normal() {
        for (path, expected) in [
            ("v0/Send", Some("v0/Send")),
            ("v0//Send", Some("v0/Send")),
            ("/v0/Send", Some("v0/Send")),
            ("v0/../v0/Send", Some("v0/Send")),
            ("v0/./Send", Some("v0/Send")),
            ("v0/Send/..", Some("v0/")),
            ("v0/", Some("v0/")),
            ("v0", Some("v0")),
            ("v0//", Some("v0/")),
            ("", Some("")),
            ("v0/..", Some("")),
            ("..", None),
            ("v0/../../admin/", None),
        ] {
            assert_eq!(normal(path).as_deref(), expected, "{path}");
        }
    }
}
