//! Who calls: HTTP basic authentication with an account's login, and limits for those who guess.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap, header::AUTHORIZATION},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_smtp::Address;
use tracing::{error, warn};

use crate::{
    Parts,
    error::{ApiError, Code},
};

/// A caller who is who they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) account: String,
    /// The address as typed.
    pub(crate) login: Address,
}

/// Why a caller is turned away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 401, with this text.
    Unauthorized(String),
    /// 429.
    TooMany,
    /// 500: the proxy in front does not say who calls.
    NoAddress,
    /// 400.
    Failed(ApiError),
}

/// Checks the caller.
pub(crate) async fn authenticate(
    parts: &Parts,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<User, Refusal> {
    let unauthorized = |text: &str| Refusal::Unauthorized(text.to_owned());
    let (name, password) = credentials(headers)
        .ok_or_else(|| unauthorized("log in with an address of your account"))?;
    let ip = remote(parts, headers, extensions).ok_or(Refusal::NoAddress)?;
    let now = parts.clock.now();
    if !parts.limiter.allowed(ip, now) {
        return Err(Refusal::TooMany);
    }
    let config = parts.config.load_full();
    let found = config.login(&name);
    // For an unknown address a password is checked, too, and refused whatever comes of it: the time taken must not tell
    // which addresses there are.
    let account = found.as_ref().map_or("", |found| found.account);
    let right = parts
        .logins
        .verify(account, &password)
        .await
        .map_err(|error| {
            error!(%error, "failed to check a login");
            parts.limiter.failed(ip, now);
            Refusal::Failed(ApiError::new(
                Code::Server,
                "the login could not be checked",
            ))
        })?;
    let wrong = |text: &str| {
        parts.limiter.failed(ip, now);
        warn!(remote = %ip, user = name, "webapi login refused");
        Err(unauthorized(text))
    };
    match found {
        Some(found) if right && found.config.login_disabled.is_empty() => {
            parts.limiter.succeeded(ip);
            Ok(User {
                account: found.account.to_owned(),
                login: found.address,
            })
        }
        Some(found) if right => wrong(&format!("login disabled: {}", found.config.login_disabled)),
        _ => wrong("wrong address or password"),
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn remote(parts: &Parts, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
    if parts.forwarded {
        let value = headers.get("x-forwarded-for")?.to_str().ok()?;
        return value.split(',').next()?.trim().parse().ok();
    }
    let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(address.ip().to_canonical())
}
