//! Errors of the mailbox API: problems of RFC 9457, as the management API has them.

use std::time::Duration;

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use postrider_receive::login::{ApiRefusal, wait_in_words};
use postrider_store::StoreError;
use serde_json::{Value, json};

use crate::{
    error::{ApiError, Code},
    http::answer::{retry_after, too_many_logins},
};

/// How long a caller waits whose call found no place.
const BUSY: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// The kind of the error, for programs.
    error: &'static str,
    /// The error in words, for people.
    detail: String,
    /// Further members.
    members: Vec<(&'static str, Value)>,
    wait: Option<Duration>,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, detail: impl ToString) -> Self {
        Self {
            status,
            error,
            detail: detail.to_string(),
            members: Vec::new(),
            wait: None,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// Status 401.
    pub(super) fn unauthorized(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// Status 403.
    pub(super) fn forbidden(detail: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Status 404.
    pub(super) fn not_found(detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "notFound", detail)
    }

    /// Status 410: the message is in another mailbox now.
    pub(super) fn moved(folder: &str, uid: u32) -> Self {
        let detail = format!("the message is in {folder:?} now, with the UID {uid}");
        Self::new(StatusCode::GONE, "moved", detail)
            .with("folder", folder)
            .with("uid", uid)
    }

    /// Status 409.
    pub(super) fn conflict(error: &'static str, detail: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, error, detail)
    }

    /// Status 400: the request can't be read.
    pub(super) fn unreadable(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "protocol", detail)
    }

    /// Status 413.
    pub(super) fn too_large(most: u64) -> Self {
        let detail = format!("the request has more than {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", detail)
    }

    /// Status 415.
    pub(super) fn wrong_type(given: &str) -> Self {
        let detail = format!("Content-Type {given:?}: send application/json");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrongType", detail)
    }

    /// Status 422: a field has a wrong value.
    pub(super) fn field(field: &str, detail: impl ToString) -> Self {
        let detail = detail.to_string();
        let errors = json!([{"field": field, "detail": detail}]);
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            format!("{field}: {detail}"),
        )
        .with("errors", errors)
    }

    /// Status 422: these fields have wrong values, each with what is wrong.
    pub(super) fn fields<'a>(wrong: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let wrong: Vec<(&str, &str)> = wrong.collect();
        let errors = wrong
            .iter()
            .map(|(field, detail)| json!({"field": field, "detail": detail}));
        let errors = errors.collect::<Vec<_>>();
        let detail = match wrong.first() {
            Some(("", detail)) => (*detail).to_owned(),
            Some((field, detail)) => format!("{field}: {detail}"),
            None => "a field is wrong".to_owned(),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).with("errors", errors)
    }

    /// Status 422, with this kind of error.
    pub(super) fn refused(error: &'static str, detail: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error, detail).with("errors", json!([]))
    }

    /// Status 429.
    pub(super) fn limited(wait: Duration) -> Self {
        let text = wait_in_words(wait);
        Self {
            wait: Some(wait),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "tooManyRequests",
                format!("too many calls; the next one is taken in {text}"),
            )
        }
    }

    /// Status 500.
    pub(super) fn internal(detail: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server", detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoFolder => Self::not_found(error),
            StoreError::FolderExists => Self::conflict("folderExists", error),
            StoreError::FolderNotEmpty => Self::conflict("folderNotEmpty", error),
            StoreError::FolderTooLarge => Self::conflict("folderTooLarge", error),
            StoreError::Full | StoreError::Closed => Self {
                wait: Some(BUSY),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server", error)
            },
            error => {
                tracing::error!(%error, "the store failed a call of the mailbox API");
                Self::internal(error)
            }
        }
    }
}

/// The errors of Send: its codes, with status 422 unless a limit is reached or the server failed.
impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let status = match error.code {
            Code::MessageNotFound | Code::PartNotFound => StatusCode::NOT_FOUND,
            Code::IdempotencyConflict => StatusCode::CONFLICT,
            Code::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::MessageLimitReached | Code::RecipientLimitReached => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Code::Server => StatusCode::INTERNAL_SERVER_ERROR,
            Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::Protocol => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let problem = Self::new(status, error.code.name(), &error.message);
        match status {
            StatusCode::UNPROCESSABLE_ENTITY => problem.with("errors", json!([])),
            StatusCode::SERVICE_UNAVAILABLE => Self {
                wait: Some(BUSY),
                ..problem
            },
            _ => problem,
        }
    }
}

impl From<ApiRefusal> for Problem {
    fn from(refusal: ApiRefusal) -> Self {
        match refusal {
            ApiRefusal::Unauthorized(_, text) => Self::unauthorized(text),
            ApiRefusal::TooMany(wait) => Self {
                wait: Some(wait),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "tooManyFailedLogins",
                    too_many_logins(wait),
                )
            },
            ApiRefusal::NoAnswer => Self::new(StatusCode::SERVICE_UNAVAILABLE, "server", refusal),
            ApiRefusal::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "error": self.error,
        });
        if let Some(body) = body.as_object_mut() {
            for (name, value) in self.members {
                body.insert(name.to_owned(), value);
            }
        }
        let kind = HeaderValue::from_static("application/problem+json");
        let mut answer = (self.status, [(CONTENT_TYPE, kind)], body.to_string()).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer, Basic realm=\"mail\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        match self.wait {
            Some(wait) => retry_after(answer, wait),
            None => answer,
        }
    }
}
