//! The headers of requests.

use axum::{
    extract::Request,
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_TYPE, HOST},
    },
};

use crate::error::ApiError;

/// The host and port of a request. None in HTTP/1.0.
pub(crate) fn authority(request: &Request) -> Option<&str> {
    let header = request.headers().get(HOST);
    let uri = request.uri().authority();
    uri.map(|authority| authority.as_str())
        .or(header.and_then(|host| host.to_str().ok()))
}

/// Whether a page of another site made a browser send this request (Fetch Metadata).
///
/// A browser adds the login that it remembers from our pages to a form of any site. Programs do not
/// send these fields.
pub(crate) fn is_cross_site(request: &Request) -> bool {
    let headers = request.headers();
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    // On plain HTTP a browser sends the origin of its page only (RFC 6454 §7).
    let Some(origin) = headers.get("origin") else {
        return false;
    };
    let origin = origin.to_str().unwrap_or_default();
    let page = origin
        .strip_prefix("https://")
        .or(origin.strip_prefix("http://"));
    page.is_none() || page != authority(request)
}

/// The type of a body, without parameters, in lower case. Empty without the field.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Refuses a compressed body.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let text = format!("Content-Encoding {encoding:?}: send the body without one");
            Err(ApiError::protocol(text))
        }
        _ => Ok(()),
    }
}

/// The idempotency key in the header, if there is one.
///
/// # Errors
/// If the key is not UTF-8.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = std::str::from_utf8(key.as_bytes());
    let key = key.map_err(|_| ApiError::user("the idempotency key is not UTF-8"))?;
    Ok(Some(key.to_owned()))
}
