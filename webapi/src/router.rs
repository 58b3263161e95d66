//! The routes of a listener: everything below its path.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, Method as Verb, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::any,
};
use postrider_smtp::Domain;

use crate::{
    call::context::CallContext,
    http::{answer::text, header::authority},
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

async fn answer(State(context): State<Arc<CallContext>>, request: Request) -> Response {
    if !knows_host(&context, &request) {
        return text(
            StatusCode::NOT_FOUND,
            "the Host of the request is not a name of this server; its names are the hostname of the \
             listener in postrider.conf, and client_settings_domain of each domain in domains.conf; \
             localserve takes more names with --host NAME",
        );
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

/// Whether the request names this server. A page of another site whose name leads to this server
/// gets nothing.
fn knows_host(context: &CallContext, request: &Request) -> bool {
    let Some(authority) = authority(request) else {
        // HTTP/1.0 sends no host.
        return true;
    };
    let host = match authority.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let known = host.eq_ignore_ascii_case("localhost") || context.endpoint.hosts.has(host);
    if known || host.parse::<IpAddr>().is_ok() {
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

#[cfg(test)]
mod tests {
    use super::*;

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
