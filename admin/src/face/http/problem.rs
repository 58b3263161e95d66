//! Errors: problems of RFC 9457 that also have the members of Stalwart's errors.

use std::time::Duration;

use axum::{
    http::{
        HeaderValue, Method, StatusCode,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::Response,
};
use postrider_observe::metrics::LoginResult;
use postrider_receive::login::wait_in_words;
use serde_json::{Map, Value, json};

use super::{JSON, json_body};
use crate::{AdminError, Code};

/// The type of problems.
pub(in crate::face) const PROBLEM: &str = "application/problem+json";
/// After how many seconds a caller may try again whose call found no place.
const BUSY: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug)]
pub(in crate::face) struct Problem {
    status: StatusCode,
    /// One of the six words that clients know.
    error: &'static str,
    detail: String,
    /// The members of the word.
    members: Vec<(&'static str, Value)>,
    /// Stalwart answers this error with status 200.
    legacy: bool,
    /// Answer with status 200.
    as_success: bool,
    retry_after: Option<Duration>,
    /// What became of a login. None: the problem is not about one.
    login: Option<LoginResult>,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, detail: impl ToString) -> Self {
        Self {
            status,
            error,
            detail: detail.to_string(),
            members: Vec::new(),
            legacy: false,
            as_success: false,
            retry_after: None,
            login: None,
        }
    }

    /// An error of the API itself, with details.
    fn plain(status: StatusCode, detail: impl ToString) -> Self {
        let problem = Self::new(status, "other", detail);
        let details = problem.detail.clone();
        problem.with("details", details).with("reason", Value::Null)
    }

    /// An error that Stalwart answers with status 200.
    fn known(status: StatusCode, error: &'static str, detail: impl ToString) -> Self {
        let problem = Self::new(status, error, detail);
        Self {
            legacy: true,
            ..problem
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// What a person reads, and the time after which to try again.
    pub(in crate::face) fn told(&self) -> (&str, Option<Duration>) {
        (&self.detail, self.retry_after)
    }

    /// The password is right, and the login needs a code too.
    pub(in crate::face) fn is_code_missing(&self) -> bool {
        self.status == StatusCode::PAYMENT_REQUIRED
    }

    /// Status 200 if the caller wants that, and Stalwart does it.
    pub(in crate::face) fn legacy(self, wanted: bool) -> Self {
        Self {
            as_success: self.legacy && wanted,
            ..self
        }
    }

    /// The thing does not exist.
    pub(in crate::face) fn not_found(item: impl Into<String>, detail: impl ToString) -> Self {
        Self::known(StatusCode::NOT_FOUND, "notFound", detail).with("item", item.into())
    }

    /// The thing does not exist. The status is 404 for all clients.
    pub(in crate::face) fn missing(item: impl Into<String>, detail: impl ToString) -> Self {
        Self {
            legacy: false,
            ..Self::not_found(item, detail)
        }
    }

    /// There is no such call.
    pub(in crate::face) fn no_path(method: &Method, path: &str) -> Self {
        Self::missing(path, format!("there is no call {method} {path}"))
    }

    /// A value is taken.
    pub(in crate::face) fn exists(
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl ToString,
    ) -> Self {
        Self::known(StatusCode::CONFLICT, "fieldAlreadyExists", detail)
            .with("field", field.into())
            .with("value", value.into())
    }

    /// A field is missing.
    pub(in crate::face) fn field_missing(field: &str) -> Self {
        let detail = format!("the field {field} is missing");
        Self::known(StatusCode::UNPROCESSABLE_ENTITY, "fieldMissing", detail).with("field", field)
    }

    /// The server does not do this.
    pub(in crate::face) fn unsupported(detail: impl ToString) -> Self {
        let problem = Self::known(StatusCode::UNPROCESSABLE_ENTITY, "unsupported", detail);
        let details = problem.detail.clone();
        problem.with("details", details)
    }

    /// A condition of the request does not hold.
    pub(in crate::face) fn assert_failed(detail: impl ToString) -> Self {
        Self::known(StatusCode::CONFLICT, "assertFailed", detail)
    }

    /// A value is refused.
    pub(in crate::face) fn refused(detail: impl ToString) -> Self {
        let problem = Self::plain(StatusCode::UNPROCESSABLE_ENTITY, detail);
        Self {
            legacy: true,
            ..problem
        }
    }

    /// The field that the error is about.
    pub(in crate::face) fn at(self, field: impl Into<String>) -> Self {
        self.with("field", field.into())
    }

    /// A parameter or the body can't be read.
    /// Values are refused, each with the name of its field. The detail names the first one.
    pub(in crate::face) fn invalid(errors: Vec<(String, String)>) -> Self {
        let detail = match errors.first() {
            Some((field, detail)) if field.is_empty() => detail.clone(),
            Some((field, detail)) => format!("{field}: {detail}"),
            None => "a value is refused".to_owned(),
        };
        let field = errors.first().map(|(field, _)| field.clone());
        let errors = errors.into_iter();
        let errors = errors.map(|(field, detail)| json!({"field": field, "detail": detail}));
        let errors: Vec<Value> = errors.collect();
        let problem = Self::refused(detail).with("errors", errors);
        match field {
            Some(field) if !field.is_empty() => problem.at(field),
            _ => problem,
        }
    }

    /// The same, with a word of its own that programs tell it by.
    pub(in crate::face) fn coded(self, error: &'static str) -> Self {
        Self { error, ..self }
    }

    /// The thing can't go, because these need it.
    pub(in crate::face) fn in_use(uses: Vec<String>) -> Self {
        let detail = format!("it is in use: {}", uses.join(", "));
        Self::conflict(detail).coded("inUse").with("uses", uses)
    }

    /// The body is of another type than the call takes.
    pub(in crate::face) fn wrong_type(wanted: &str) -> Self {
        let detail = format!("the body has another type than {wanted}");
        Self::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// The caller makes too many calls, or got too many things.
    pub(in crate::face) fn limited(wait: Duration, detail: impl ToString) -> Self {
        Self {
            retry_after: Some(wait.max(Duration::from_secs(1))),
            ..Self::plain(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// Somebody else has to answer first, and does not.
    pub(in crate::face) fn no_answer(detail: impl ToString) -> Self {
        Self {
            retry_after: Some(BUSY),
            ..Self::plain(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    pub(in crate::face) fn unreadable(detail: impl ToString) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, detail)
    }

    /// The caller is not known.
    pub(in crate::face) fn unauthorized(detail: impl ToString) -> Self {
        Self::plain(StatusCode::UNAUTHORIZED, detail)
    }

    /// A login is refused, with this result.
    pub(in crate::face) fn login(result: LoginResult, detail: impl ToString) -> Self {
        Self {
            login: Some(result),
            ..Self::unauthorized(detail)
        }
    }

    /// The result of a login that ends with this problem.
    pub(in crate::face) fn login_result(&self) -> LoginResult {
        // What is not about the login kept it from being checked.
        self.login.unwrap_or(LoginResult::Unavailable)
    }

    /// The password is right, and a one-time code is needed beside it.
    pub(in crate::face) fn code_missing() -> Self {
        let detail = "there are one-time codes; send the password, a $ and the code";
        Self {
            login: Some(LoginResult::Weak),
            ..Self::plain(StatusCode::PAYMENT_REQUIRED, detail)
        }
    }

    /// The caller may not do this.
    pub(in crate::face) fn forbidden(detail: impl ToString) -> Self {
        Self::plain(StatusCode::FORBIDDEN, detail)
    }

    /// The key of a repeated request had another request.
    pub(in crate::face) fn conflict(detail: impl ToString) -> Self {
        Self::plain(StatusCode::CONFLICT, detail)
    }

    /// The body is too large.
    pub(in crate::face) fn too_large(max: usize) -> Self {
        let detail = format!("the body has more than {max} bytes");
        Self::plain(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// Too many failed logins.
    pub(in crate::face) fn too_many_logins(wait: Duration) -> Self {
        let detail = format!(
            "too many failed logins; the next one is checked in {}",
            wait_in_words(wait)
        );
        Self {
            retry_after: Some(wait),
            login: Some(LoginResult::Limited),
            ..Self::plain(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// Too many calls of one caller at the same time.
    pub(in crate::face) fn too_many_calls() -> Self {
        let detail = "too many calls at the same time; try again later";
        Self {
            retry_after: Some(BUSY),
            ..Self::plain(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// Too many tokens at the same time.
    pub(in crate::face) fn too_many_tokens() -> Self {
        let detail = "too many tokens at the same time; one lasts a minute";
        Self {
            retry_after: Some(BUSY),
            ..Self::plain(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// Too many streams of one caller at the same time.
    pub(in crate::face) fn too_many_streams() -> Self {
        let detail = "too many streams at the same time; end one of them";
        Self {
            retry_after: Some(BUSY),
            ..Self::plain(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// A call that reads took too long.
    pub(in crate::face) fn slow() -> Self {
        let detail = "the call took too long; ask for less, for example with a filter or a limit";
        Self {
            retry_after: Some(BUSY),
            ..Self::plain(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    /// The server failed.
    pub(in crate::face) fn internal(detail: impl ToString) -> Self {
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// The status for clients that look at it.
    pub(in crate::face) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The body.
    pub(in crate::face) fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("type".to_owned(), json!("about:blank"));
        let title = self.status.canonical_reason().unwrap_or("Error");
        body.insert("title".to_owned(), json!(title));
        body.insert("status".to_owned(), json!(self.status.as_u16()));
        body.insert("detail".to_owned(), json!(self.detail));
        body.insert("error".to_owned(), json!(self.error));
        for (name, value) in &self.members {
            body.insert((*name).to_owned(), value.clone());
        }
        Value::Object(body)
    }

    pub(in crate::face) fn into_response(self) -> Response {
        let (status, kind) = match self.as_success {
            true => (StatusCode::OK, JSON),
            false => (self.status, PROBLEM),
        };
        let mut response = json_body(status, &self.body(), kind);
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs().max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let schemes = "Bearer, Basic realm=\"postrider\", charset=\"UTF-8\"";
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(schemes));
        }
        response
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let AdminError { code, field, text } = error;
        match (code, field) {
            (Code::NotFound, field) => Self::not_found(field.unwrap_or_default(), text),
            (Code::Conflict, Some(field)) => Self::exists(field, Value::Null, text),
            (Code::Conflict, None) => Self::assert_failed(&text).with("details", text),
            (Code::Invalid, Some(field)) => Self::refused(text).at(field),
            (Code::Invalid, None) => Self::refused(text),
            (Code::Unsupported, _) => Self::unsupported(text),
            (Code::Unavailable, _) => Self {
                retry_after: Some(BUSY),
                ..Self::plain(StatusCode::SERVICE_UNAVAILABLE, text)
            },
            (Code::Internal, _) => {
                tracing::error!(error = text, "call of the management API failed");
                Self::internal(text)
            }
        }
    }
}

impl From<postrider_store::StoreError> for Problem {
    fn from(error: postrider_store::StoreError) -> Self {
        AdminError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_both_kinds() {
        let taken = Problem::exists("name", "info", "the account name info is taken");
        assert_eq!(
            taken.body(),
            json!({
                "type": "about:blank", "title": "Conflict", "status": 409,
                "detail": "the account name info is taken",
                "error": "fieldAlreadyExists", "field": "name", "value": "info"
            })
        );
        let status = |problem: Problem| problem.into_response().status().as_u16();
        assert_eq!(status(taken), 409);
        let taken = || Problem::exists("name", "info", "taken");
        assert_eq!(status(taken().legacy(true)), 200);
        assert_eq!(status(Problem::missing("7", "none").legacy(true)), 404);
        assert_eq!(status(Problem::forbidden("no").legacy(true)), 403);
    }

    #[test]
    fn each_error_has_one_of_the_six_words() {
        let problems = [
            (Problem::not_found("x", "no"), "notFound", 404, "item"),
            (
                Problem::exists("a", "b", "no"),
                "fieldAlreadyExists",
                409,
                "value",
            ),
            (Problem::field_missing("name"), "fieldMissing", 422, "field"),
            (Problem::unsupported("no"), "unsupported", 422, "details"),
            (Problem::assert_failed("no"), "assertFailed", 409, "detail"),
            (Problem::refused("no"), "other", 422, "reason"),
            (Problem::unreadable("no"), "other", 400, "details"),
            (Problem::too_large(1), "other", 413, "details"),
            (Problem::internal("no"), "other", 500, "details"),
        ];
        for (problem, word, status, member) in problems {
            let body = problem.body();
            assert_eq!(
                (&body["error"], &body["status"]),
                (&json!(word), &json!(status))
            );
            assert!(body.get(member).is_some(), "{body}");
        }
    }
}
