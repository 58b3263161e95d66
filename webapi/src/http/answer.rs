//! Answers in plain text and in JSON.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::error::{ApiError, Code};

/// The text for a network with too many failed logins.
pub(crate) const TOO_MANY_LOGINS: &str = "too many failed logins from your network \
    (limits.login_failures_per_network); no login from there is checked for a minute, or for a day \
    after very many failures";
/// The text when the client's address is not known.
pub(crate) const NO_ADDRESS: &str = "the proxy gives no usable X-Forwarded-For";
/// The seconds after which a network with too many failed logins may try again.
const FAILED_LOGINS: u16 = 60;
/// The seconds after which a call that found no place may try again.
const BUSY: u16 = 5;

/// A line of plain text.
pub(crate) fn text(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

/// JSON and a line end.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_bytes(status, serde_json::to_vec(value))
}

/// JSON with status 200.
pub(crate) fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

fn json_bytes(status: StatusCode, json: serde_json::Result<Vec<u8>>) -> Response {
    match json {
        Ok(mut body) => {
            body.push(b'\n');
            let kind = HeaderValue::from_static("application/json; charset=utf-8");
            (status, [(CONTENT_TYPE, kind)], body).into_response()
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// The answer to a call that failed. It says when to try again, if that may help.
pub(crate) fn failure(status: StatusCode, error: &ApiError) -> Response {
    let answer = json(status, error);
    match error.code {
        Code::Busy => retry_after(answer, BUSY),
        _ => answer,
    }
}

/// The answer asks for a login.
pub(crate) fn challenge(mut answer: Response) -> Response {
    let challenge = HeaderValue::from_static("Basic realm=webapi");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

/// The answer says when failed logins are forgotten.
pub(crate) fn after_failed_logins(answer: Response) -> Response {
    retry_after(answer, FAILED_LOGINS)
}

fn retry_after(mut answer: Response, seconds: u16) -> Response {
    let seconds = HeaderValue::from(seconds);
    answer.headers_mut().insert(RETRY_AFTER, seconds);
    answer
}
