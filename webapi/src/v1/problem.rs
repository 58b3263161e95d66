//! The errors of v1: a status that fits, and a [`Problem`].

use axum::{http::StatusCode, response::Response};

use super::shape::Problem;
use crate::{
    call::auth::Refusal,
    error::{ApiError, Code},
    http::answer::{NO_ADDRESS, challenge, failure, json, retry_after, too_many_logins},
};

/// An answer with this status and problem.
pub(super) fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    let problem = Problem {
        code: code.to_owned(),
        message: message.to_owned(),
    };
    json(status, &problem)
}

/// The answer to a call that failed.
pub(super) fn failed(error: &ApiError) -> Response {
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

/// The answer to a caller who is refused.
pub(super) fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unauthorized(_, reason) => {
            challenge(problem(StatusCode::UNAUTHORIZED, "unauthorized", &reason))
        }
        Refusal::TooMany(wait) => {
            let (status, text) = (StatusCode::TOO_MANY_REQUESTS, too_many_logins(wait));
            retry_after(problem(status, "tooManyFailedLogins", &text), wait)
        }
        Refusal::NoAddress => problem(StatusCode::INTERNAL_SERVER_ERROR, "server", NO_ADDRESS),
        Refusal::Failed(error) => failed(&error),
    }
}
