//! Answers in plain text and in JSON.

use std::time::Duration;

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use postrider_receive::login::wait_in_words;
use serde::Serialize;

use crate::error::{ApiError, Code};

/// The text when the client's address is not known.
pub(crate) const NO_ADDRESS: &str = "the proxy gives no usable X-Forwarded-For";
/// The seconds after which a call that found no place may try again.
const BUSY: Duration = Duration::from_secs(5);

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

/// The text for a login that is not checked until `wait` is over.
pub(crate) fn too_many_logins(wait: Duration) -> String {
    format!(
        "too many failed logins of this account from your network \
         (limits.login_failures_per_network); try again in {}",
        wait_in_words(wait)
    )
}

/// The answer says when to try again. The seconds are rounded up.
pub(crate) fn retry_after(mut answer: Response, wait: Duration) -> Response {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let seconds = HeaderValue::from(whole.max(1));
    answer.headers_mut().insert(RETRY_AFTER, seconds);
    answer
}
