//! The caller: a login by HTTP basic authentication, or an API key. After many failures, logins are
//! refused for a while. A valid key is never refused for failures.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::ConnectInfo,
    http::{
        Extensions, HeaderMap,
        header::{AUTHORIZATION, USER_AGENT},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_observe::metrics::{Label, LoginMechanism, LoginResult, LoginService};
use postrider_receive::login::{Attempt, Identity, KeyText, PasswordCheck, Source, plain_login};
use postrider_smtp::{
    Address,
    server::{SessionId, SessionName},
};
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
    /// The address that the call comes from.
    pub(crate) remote: IpAddr,
    /// The name of the call in the log, in traces and in Received fields.
    pub(crate) call: SessionId,
    /// The scopes of the key. None allows everything.
    scopes: Option<Vec<Scope>>,
    /// The name of the key; empty with a password.
    key: String,
}

impl User {
    /// Whether the caller may use methods of this scope.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        let scopes = self.scopes.as_ref();
        scopes.is_none_or(|scopes| scopes.contains(&scope))
    }

    /// The account of a call of the mailbox API, and the address that it sends from.
    pub(crate) fn of_api(account: &str, login: Address, remote: IpAddr) -> Self {
        Self {
            account: account.to_owned(),
            login,
            remote,
            call: SessionId::of(rand::random()),
            scopes: None,
            key: String::new(),
        }
    }

    /// The name of the message at this place among those that the call sends. To send one is a
    /// transaction, as in a session over SMTP.
    pub(crate) fn transaction(&self, at: usize) -> SessionName {
        SessionName {
            session: self.call,
            transaction: u32::try_from(at + 1).unwrap_or(u32::MAX),
        }
    }
}

/// Why a caller is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Status 401, with this text. The result says for the metrics what is wrong.
    Unauthorized(LoginResult, String),
    /// Status 429, with the time until the next login is checked.
    TooMany(Duration),
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
    let malformed = |text: &str| {
        let result = LoginResult::Malformed;
        Refusal::Unauthorized(result, text.to_owned())
    };
    let credentials =
        credentials(headers).ok_or_else(|| malformed("log in with an address of your account"))?;
    if let Credentials::Bearer(key) = &credentials
        && KeyText::parse(key).is_none()
    {
        count(context, LoginResult::Malformed);
        return Err(malformed("the bearer token is not a key"));
    }
    let source = source(context, headers, extensions).ok_or(Refusal::NoAddress)?;
    let checked = match &credentials {
        Credentials::Bearer(text) => by_key(context, text, None, &source).await,
        Credentials::Basic(name, password) => match KeyText::parse(password) {
            Some(_) => by_key(context, password, Some(name), &source).await,
            None => by_password(context, name, password, &source).await,
        },
    };
    // Some clients send a key in the place of the name. Only an address may stand in the log.
    let login = match &credentials {
        Credentials::Basic(name, _) if Address::parse(name).is_ok() => Some(name.as_str()),
        _ => None,
    };
    let mechanism = match &credentials {
        Credentials::Basic(..) => LoginMechanism::Basic,
        Credentials::Bearer(_) => LoginMechanism::Bearer,
    };
    let result = match &checked {
        Ok(_) => LoginResult::Ok,
        Err(Refusal::Unauthorized(result, _)) => *result,
        Err(Refusal::TooMany(_)) => LoginResult::Limited,
        Err(Refusal::NoAddress | Refusal::Failed(_)) => LoginResult::Unavailable,
    };
    count(context, result);
    note(
        context,
        headers,
        checked.as_ref().ok(),
        Login {
            login,
            mechanism,
            result,
        },
        &source,
    );
    if checked.is_ok() {
        let mechanisms = &context.metrics.authentication_mechanisms_total;
        mechanisms.with(mechanism).inc();
    }
    let (service, mechanism) = (LoginService::Webapi.text(), mechanism.text());
    match &checked {
        Err(Refusal::Unauthorized(result, _)) => {
            let reason = result.text();
            warn!(service, remote = %source.ip, login, mechanism, reason, "login refused");
        }
        Err(Refusal::TooMany(_)) => {
            warn!(service, remote = %source.ip, login, mechanism, "logins limited");
        }
        _ => {}
    }
    checked
}

/// A login, as it is noted.
struct Login<'a> {
    /// The address that was named.
    login: Option<&'a str>,
    mechanism: LoginMechanism,
    result: LoginResult,
}

/// Notes what became of a login. It does not wait for the store.
fn note(
    context: &CallContext,
    headers: &HeaderMap,
    user: Option<&User>,
    login: Login<'_>,
    source: &Source,
) {
    let config = context.config.load();
    // The login leads to an account only where nothing else told it.
    let named = login.login.filter(|_| user.is_none());
    let named = named.and_then(|login| config.login(login));
    let named = named.as_ref().map(|found| found.account);
    let agent = headers.get(USER_AGENT).and_then(|it| it.to_str().ok());
    context.logins.note(&Attempt {
        account: user.map(|user| user.account.as_str()).or(named),
        result: login.result,
        service: LoginService::Webapi,
        mechanism: login.mechanism,
        client: agent.unwrap_or_default(),
        key: user.map_or("", |user| &user.key),
        login: login.login.unwrap_or_default(),
        ip: source.ip,
        tls: if context.endpoint.tls { "TLS" } else { "" },
        now: source.now,
    });
}

fn count(context: &CallContext, result: LoginResult) {
    let labels = (LoginService::Webapi, result);
    context.metrics.authentications_total.with(labels).inc();
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
    let account = found.as_ref().map(|found| found.account);
    let user = plain_login(&config, name);
    let verdict = context.logins.verify(&user, account, password, source);
    let verdict = verdict.await;
    let verdict = verdict.map_err(|error| {
        error!(%error, "failed to check a login");
        Refusal::Failed(ApiError::new(
            Code::Server,
            "the login could not be checked",
        ))
    })?;
    match (found, verdict) {
        (_, PasswordCheck::TooMany(wait)) => Err(Refusal::TooMany(wait)),
        (Some(found), PasswordCheck::Right) => {
            enabled(&found.config.login_disabled)?;
            Ok(User {
                account: found.account.to_owned(),
                login: found.address,
                remote: source.ip,
                call: SessionId::of(rand::random()),
                scopes: None,
                key: String::new(),
            })
        }
        (Some(_), PasswordCheck::TooWeak) => {
            let text = "the account has one-time codes; log in with an app password or a key";
            Err(Refusal::Unauthorized(LoginResult::Weak, text.into()))
        }
        _ => Err(Refusal::Unauthorized(
            LoginResult::Wrong,
            "wrong address or password".into(),
        )),
    }
}

/// Checks a key. `name` is the address that came with it, which must belong to the account of the
/// key. Wrong keys count as failures.
async fn by_key(
    context: &CallContext,
    text: &str,
    name: Option<&str>,
    source: &Source,
) -> Result<User, Refusal> {
    let wrong = || Refusal::Unauthorized(LoginResult::Wrong, "wrong key".into());
    let text = KeyText::parse(text).ok_or_else(wrong)?;
    let key = context.store.api_key(text.id()).await.map_err(|error| {
        error!(%error, "failed to look up a key");
        Refusal::Failed(error.into())
    })?;
    let Some(key) = key.filter(|key| text.is_of(key, source.now)) else {
        return Err(match source.begin(Identity::Key(text.id().0)) {
            Ok(()) => wrong(),
            Err(wait) => Refusal::TooMany(wait),
        });
    };
    let config = context.config.load_full();
    let account = config.accounts.get(&key.account).ok_or_else(wrong)?;
    enabled(&account.login_disabled)?;
    let login = match name {
        Some(name) => {
            let found = config.login(name);
            let found = found.filter(|found| found.account == key.account);
            found.ok_or_else(wrong)?.address
        }
        None => account.first_address().cloned().ok_or_else(|| {
            let text =
                "the account has no address of its own, so use the key as the password of one";
            Refusal::Unauthorized(LoginResult::Wrong, text.into())
        })?,
    };
    Ok(User {
        account: key.account,
        login,
        remote: source.ip,
        call: SessionId::of(rand::random()),
        scopes: Some(key.scopes),
        key: key.name,
    })
}

fn enabled(login_disabled: &str) -> Result<(), Refusal> {
    match login_disabled {
        "" => Ok(()),
        why => Err(Refusal::Unauthorized(
            LoginResult::Disabled,
            format!("login disabled: {why}"),
        )),
    }
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

/// Where a call comes from. None: the proxies do not tell.
pub(crate) fn source(
    context: &CallContext,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Option<Source> {
    Some(Source {
        limiter: Arc::clone(&context.limiter),
        ip: remote(context, headers, extensions)?,
        behind_proxy: context.endpoint.forwarded_hops > 0,
        now: context.clock.now(),
    })
}

/// The address of the client. None: the proxies do not give it.
fn remote(context: &CallContext, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
    if let Some(further) = context.endpoint.forwarded_hops.checked_sub(1) {
        return forwarded(headers, further);
    }
    let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(address.ip().to_canonical())
}

/// The address in X-Forwarded-For that has `further` addresses to its right. Each proxy adds the
/// address of its client at the right. Anybody may have written what is further to the left than
/// the trusted proxies.
fn forwarded(headers: &HeaderMap, further: usize) -> Option<IpAddr> {
    let fields = headers.get_all("x-forwarded-for").iter().rev();
    let addresses = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    let address = addresses.map(<[u8]>::trim_ascii).nth(further)?;
    let address = std::str::from_utf8(address).ok()?;
    // Some proxies add the port, and then put an IPv6 address in brackets.
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip = bare.unwrap_or(address).parse::<IpAddr>();
    let ip = ip.or_else(|_| address.parse::<SocketAddr>().map(|address| address.ip()));
    Some(ip.ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_forwarded_address_is_read_from_the_right() {
        for (fields, further, expected) in [
            (&["192.0.2.1"][..], 0, Some("192.0.2.1")),
            (&["forged, 198.51.100.7,192.0.2.1 "], 0, Some("192.0.2.1")),
            (
                &["forged, 198.51.100.7,192.0.2.1 "],
                1,
                Some("198.51.100.7"),
            ),
            (
                &["203.0.113.9, 198.51.100.7", "192.0.2.1"],
                1,
                Some("198.51.100.7"),
            ),
            (
                &["203.0.113.9, 198.51.100.7", "192.0.2.1"],
                2,
                Some("203.0.113.9"),
            ),
            (&["192.0.2.1:4711"], 0, Some("192.0.2.1")),
            (&["2001:db8::1"], 0, Some("2001:db8::1")),
            (&["[2001:db8::1]"], 0, Some("2001:db8::1")),
            (&["[2001:db8::1]:4711"], 0, Some("2001:db8::1")),
            (&["::ffff:192.0.2.1"], 0, Some("192.0.2.1")),
            (&[], 0, None),
            (&[""], 0, None),
            (&["192.0.2.1"], 1, None),
            (&["192.0.2.1, unknown"], 0, None),
            (&["192.0.2.1,"], 0, None),
            (&["192.0.2.1, \u{e4}"], 0, None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                let value = HeaderValue::from_bytes(field.as_bytes()).unwrap();
                headers.append("x-forwarded-for", value);
            }
            let expected = expected.map(|ip| ip.parse::<IpAddr>().unwrap());
            assert_eq!(
                forwarded(&headers, further),
                expected,
                "{fields:?} {further}"
            );
        }
    }
}
