//! The caller: a login by HTTP basic authentication, or an API key. Networks with many failed
//! logins are refused.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap, header::AUTHORIZATION},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::{Account, DestinationAddress};
use postrider_receive::login::{KeyText, PasswordCheck, Source};
use postrider_smtp::Address;
use postrider_store::Scope;
use tracing::{error, warn};

use super::context::CallContext;
use crate::error::{ApiError, Code};

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) account: String,
    /// The address of the login as typed. With a key as bearer token, the first address of the
    /// account.
    pub(crate) login: Address,
    /// The scopes of the key. None allows everything.
    scopes: Option<Vec<Scope>>,
}

impl User {
    /// Whether the caller may use methods of this scope.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        let scopes = self.scopes.as_ref();
        scopes.is_none_or(|scopes| scopes.contains(&scope))
    }
}

/// Why a caller is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Status 401, with this text.
    Unauthorized(String),
    /// Status 429.
    TooMany,
    /// Status 500: the proxy does not give the caller's address.
    NoAddress,
    /// Status 400.
    Failed(ApiError),
}

/// The credentials of a caller.
enum Credentials {
    /// An address and a password, or a key instead of the password.
    Basic(String, String),
    /// A key.
    Bearer(String),
}

/// Checks the caller.
pub(crate) async fn authenticate(
    context: &CallContext,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<User, Refusal> {
    let unauthorized = |text: &str| Refusal::Unauthorized(text.to_owned());
    let credentials = credentials(headers)
        .ok_or_else(|| unauthorized("log in with an address of your account"))?;
    if let Credentials::Bearer(key) = &credentials
        && KeyText::parse(key).is_none()
    {
        return Err(unauthorized("the bearer token is not a key"));
    }
    let ip = remote(context, headers, extensions).ok_or(Refusal::NoAddress)?;
    let now = context.clock.now();
    if !context.limiter.allowed(ip, now) {
        warn!(remote = %ip, "webapi login not checked: limits.login_failures_per_network");
        return Err(Refusal::TooMany);
    }
    let source = Source {
        limiter: Arc::clone(&context.limiter),
        ip,
        now,
    };
    let key = async |text: &str, name: Option<&str>| {
        let user = by_key(context, text, name).await;
        user.inspect_err(|_| context.limiter.failed(ip, now))
    };
    let checked = match &credentials {
        Credentials::Bearer(text) => key(text, None).await,
        Credentials::Basic(name, password) => match KeyText::parse(password) {
            Some(_) => key(password, Some(name)).await,
            None => by_password(context, name, password, &source).await,
        },
    };
    let user = match &credentials {
        Credentials::Basic(name, _) => name.as_str(),
        Credentials::Bearer(_) => "",
    };
    match checked {
        Ok(found) => {
            context.limiter.succeeded(ip);
            Ok(found)
        }
        Err(refusal) => {
            if let Refusal::Unauthorized(_) = &refusal {
                warn!(remote = %ip, user, "webapi login refused");
            }
            Err(refusal)
        }
    }
}

/// Checks an address and a password. Failures count.
async fn by_password(
    context: &CallContext,
    name: &str,
    password: &str,
    source: &Source,
) -> Result<User, Refusal> {
    let config = context.config.load_full();
    let found = config.login(name);
    // For an unknown address a password is checked as well, and then refused. So the time that it
    // takes does not tell which addresses exist.
    let account = found.as_ref().map_or("", |found| found.account);
    let failed = || source.limiter.failed(source.ip, source.now);
    let verdict = context
        .logins
        .verify(account, password, source)
        .await
        .map_err(|error| {
            error!(%error, "failed to check a login");
            failed();
            Refusal::Failed(ApiError::new(
                Code::Server,
                "the login could not be checked",
            ))
        })?;
    match (found, verdict) {
        (_, PasswordCheck::TooMany) => Err(Refusal::TooMany),
        (Some(found), PasswordCheck::Right) => {
            enabled(&found.config.login_disabled).inspect_err(|_| failed())?;
            Ok(User {
                account: found.account.to_owned(),
                login: found.address,
                scopes: None,
            })
        }
        _ => Err(Refusal::Unauthorized("wrong address or password".into())),
    }
}

/// Checks a key. `name` is the address that came with it, which must belong to the account of the
/// key.
async fn by_key(context: &CallContext, text: &str, name: Option<&str>) -> Result<User, Refusal> {
    let wrong = || Refusal::Unauthorized("wrong key".into());
    let text = KeyText::parse(text).ok_or_else(wrong)?;
    let key = context.store.api_key(text.id()).await.map_err(|error| {
        error!(%error, "failed to look up a key");
        Refusal::Failed(error.into())
    })?;
    let key = key
        .filter(|key| text.is_of(key, context.clock.now()))
        .ok_or_else(wrong)?;
    let config = context.config.load_full();
    let account = config.accounts.get(&key.account).ok_or_else(wrong)?;
    enabled(&account.login_disabled)?;
    let login = match name {
        Some(name) => {
            let found = config.login(name);
            let found = found.filter(|found| found.account == key.account);
            found.ok_or_else(wrong)?.address
        }
        None => first_address(account).ok_or_else(|| {
            let text =
                "the account has no address of its own, so use the key as the password of one";
            Refusal::Unauthorized(text.into())
        })?,
    };
    Ok(User {
        account: key.account,
        login,
        scopes: Some(key.scopes),
    })
}

fn enabled(login_disabled: &str) -> Result<(), Refusal> {
    match login_disabled {
        "" => Ok(()),
        why => Err(Refusal::Unauthorized(format!("login disabled: {why}"))),
    }
}

fn first_address(account: &Account) -> Option<Address> {
    let mut addresses = account.destinations.keys();
    addresses.find_map(|address| match address {
        DestinationAddress::Address(address) => Some(address.clone()),
        DestinationAddress::CatchAll(_) => None,
    })
}

fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credentials::Bearer(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some(Credentials::Basic(name.to_owned(), password.to_owned()))
}

fn remote(context: &CallContext, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
    if context.endpoint.forwarded {
        let value = headers.get("x-forwarded-for")?.to_str().ok()?;
        return value.split(',').next()?.trim().parse().ok();
    }
    let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(address.ip().to_canonical())
}
