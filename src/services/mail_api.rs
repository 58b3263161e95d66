//! The mailbox API of a port, and the calls of `/api/account`, which holders of accounts make too.
//! The parts of the mailbox API are routers of their own. Whatever none of them has is no call.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
            CONTENT_TYPE, ORIGIN, VARY,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use postrider_admin::face::{http as management, mail};
use postrider_config::Origin;
use postrider_receive::SessionContext;
use postrider_webapi::{Endpoint, MAIL_SCHEMAS, mail_calls};
use serde_json::{Map, Value};

use super::{Apis, HttpPort, Service, links::public_url};

/// What a page of another origin may send.
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
/// The header fields that it may set.
const FIELDS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Service-Token";
/// How many seconds a browser may remember the answer.
const REMEMBERED: &str = "600";

impl HttpPort<'_> {
    /// The mailbox API, if the port has it, and the calls of `/api/account`.
    pub(super) fn mail_api(&self, shared: &SessionContext, apis: &Apis) -> Router {
        let has = |service: &Service| self.services.contains(service);
        let mut router = Router::new();
        let mail_api = [Service::MailApiHttp, Service::MailApiHttps];
        for conf in mail_api.iter().filter(|it| has(it)) {
            if let Some(conf) = conf.http(self.listener) {
                let endpoint = management::Endpoint {
                    forwarded_hops: conf.forwarded_hops,
                };
                let tls = self.services.iter().any(|service| service.is_https());
                let issuer = shared.statics.oauth.issuer;
                let of_mail = apis.webapi.mail_router(Endpoint {
                    hostname: self.listener.hostname.clone(),
                    hosts: self.hosts.clone().unwrap_or_default(),
                    max_message_size: self.listener.max_message_size.0,
                    path: conf.path.clone(),
                    public_url: public_url(&shared.statics, self.listener),
                    forwarded_hops: conf.forwarded_hops,
                    tls,
                });
                let calls = other_calls(&conf.path)
                    .merge(description(&conf.path, issuer))
                    .merge(apis.mail_api.router(endpoint, &conf.path, tls))
                    .merge(of_mail);
                let origins = shared.statics.mail_api.origins.clone();
                router = router.merge(for_origins(calls, origins));
            }
        }
        // The management API has these calls already.
        if has(&Service::AdminHttp) || has(&Service::AdminHttps) {
            return router;
        }
        let account = [Service::AccountHttp, Service::AccountHttps];
        let mut services = account.iter().chain(&mail_api).filter(|it| has(it));
        if let Some(conf) = services.find_map(|it| it.http(self.listener)) {
            let endpoint = management::Endpoint {
                forwarded_hops: conf.forwarded_hops,
            };
            router = router.merge(apis.management.account_router(endpoint));
        }
        router
    }
}

/// The description of the API for programs (OpenAPI 3.1), without a login.
fn description(base: &str, issuer: bool) -> Router {
    let of_mail = mail_calls().map(|call| mail::DescribedCall {
        method: call.method,
        path: call.path,
        tag: "mail",
        callers: mail::Callers::All,
        parameters: call.parameters,
        body: call.body,
        is_form: false,
        answer: call.answer,
        makes: call.makes,
        summary: call.summary,
    });
    let mail::Description { paths, mut schemas } = mail::describe(base, issuer, of_mail);
    let more: Map<String, Value> = serde_json::from_str(MAIL_SCHEMAS).unwrap_or_default();
    schemas.extend(more);
    let document = serde_json::json!({
        "openapi": "3.1.0",
        "info": {
            "title": "postrider mailbox API",
            "description": "The API for back ends that give people mailboxes.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "service": {"type": "apiKey", "in": "header", "name": "x-service-token"},
                "key": {"type": "http", "scheme": "bearer"},
                "login": {"type": "http", "scheme": "basic"},
            },
        },
    });
    let document: Arc<str> = document.to_string().into();
    let answer = move || {
        let document = document.to_string();
        async move {
            (
                [(CONTENT_TYPE, "application/json; charset=utf-8")],
                document,
            )
        }
    };
    Router::new().route(&format!("{base}openapi.json"), get(answer))
}

/// The calls below a path that are not there.
fn other_calls(base: &str) -> Router {
    Router::new()
        .route(base, any(no_call))
        .route(&format!("{base}{{*rest}}"), any(no_call))
        .layer(DefaultBodyLimit::disable())
}

/// The answer to a call that is not there.
async fn no_call(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let detail = format!("there is no call {method} {path}");
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": detail,
        "error": "notFound",
        "item": path,
    });
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    (StatusCode::NOT_FOUND, kind, problem.to_string()).into_response()
}

/// These calls, for pages of some origins too (CORS). Browsers send no cookie and no password with
/// such calls: they may not, since `Access-Control-Allow-Credentials` is missing.
fn for_origins(calls: Router, origins: Vec<Origin>) -> Router {
    let origins = Arc::new(origins);
    calls.layer(middleware::from_fn(move |request: Request, next: Next| {
        let origins = Arc::clone(&origins);
        async move {
            let asks = request.method() == Method::OPTIONS
                && request
                    .headers()
                    .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
            let allowed = allowed(request.headers(), &origins);
            let mut answer = match asks {
                true => StatusCode::NO_CONTENT.into_response(),
                false => next.run(request).await,
            };
            let headers = answer.headers_mut();
            headers.append(VARY, HeaderValue::from_static("Origin"));
            if let Some(origin) = allowed {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                if asks {
                    headers.insert(
                        ACCESS_CONTROL_ALLOW_METHODS,
                        HeaderValue::from_static(METHODS),
                    );
                    headers.insert(
                        ACCESS_CONTROL_ALLOW_HEADERS,
                        HeaderValue::from_static(FIELDS),
                    );
                    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
                }
            }
            answer
        }
    }))
}

/// The origin of a request, if it is one of these.
fn allowed(headers: &HeaderMap, origins: &[Origin]) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let is_named = |it: &Origin| origin.as_bytes() == it.as_str().as_bytes();
    origins.iter().any(is_named).then(|| origin.clone())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: &str, fields: &[(&str, &str)]) -> Response {
        let origins = vec![Origin::parse("https://app.example.com").unwrap()];
        let router = for_origins(other_calls("/api/v1/"), origins);
        let mut request = Request::builder().method(method).uri("/api/v1/mail/x");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn an_unknown_call_is_a_problem() {
        let answer = ask("PUT", &[]).await;
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["detail"], "there is no call PUT /api/v1/mail/x");
        assert_eq!(body["status"], 404);
    }

    #[tokio::test]
    async fn only_pages_of_named_origins_may_read_answers() {
        let preflight = ("access-control-request-method", "POST");
        for (method, origin, status, is_allowed) in [
            ("OPTIONS", "https://app.example.com", 204, true),
            ("OPTIONS", "https://evil.example", 204, false),
            ("GET", "https://app.example.com", 404, true),
            ("GET", "https://app.example.com.evil.example", 404, false),
            ("GET", "null", 404, false),
        ] {
            let answer = ask(method, &[("origin", origin), preflight]).await;
            assert_eq!(answer.status(), status, "{method} {origin}");
            let headers = answer.headers();
            let allowed = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(allowed.is_some(), is_allowed, "{method} {origin}");
            assert_eq!(headers[VARY], "Origin");
            let methods = headers.get(ACCESS_CONTROL_ALLOW_METHODS);
            assert_eq!(methods.is_some(), is_allowed && status == 204);
            assert!(!headers.contains_key("access-control-allow-credentials"));
        }
        // A question without the field of CORS is a call like others.
        assert_eq!(ask("OPTIONS", &[]).await.status(), 404);
    }
}
