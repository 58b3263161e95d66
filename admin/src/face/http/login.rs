//! The caller: a key, the administrator, or the holder of an account. After many failures, logins
//! are refused for a while. A valid key is never refused for failures.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_observe::metrics::{Label, LoginMechanism, LoginResult, LoginService};
use postrider_receive::login::{
    Attempt, CodeCheck, Identity, KeyText, Reach, SecondCheck, Source, plain_login,
};
use postrider_smtp::Address;
use postrider_store::{Actor, ApiKey, WebSessionOwner};
use sha2::{Digest, Sha256};
use tracing::{debug, info, warn};

use super::{
    access::{Access, Proof},
    header,
    problem::Problem,
};
use crate::{AdminError, Caller, Context};

/// The name of the administrator in a login.
const ADMIN: &str = "admin";
/// The beginning of a bearer token that has a name and a key in base64.
const NAMED: &str = "api_";

/// The credentials of a caller.
enum Credentials {
    Basic(String, String),
    /// A name and a password that somebody typed into a form of the pages.
    Form(String, String),
    Key(String),
}

/// Checks the caller. `client` is its address; None: the proxy does not give it.
pub(super) async fn login(
    context: &Context,
    headers: &HeaderMap,
    client: Option<IpAddr>,
    behind_proxy: bool,
) -> Result<(Caller, Access), Problem> {
    let credentials = credentials(headers).ok_or_else(|| {
        Problem::unauthorized("log in with a key as bearer token, or as admin with the password")
    })?;
    let is_basic = matches!(credentials, Credentials::Basic(..));
    if is_basic && is_cross_site(headers) {
        let text = "a page of another site made this request";
        return Err(Problem::forbidden(text));
    }
    let client = Client {
        ip: client,
        behind_proxy,
        program: header(headers, "user-agent").unwrap_or_default(),
    };
    check(context, &credentials, &client).await
}

/// Where a login comes from.
pub(in crate::face) struct Client<'a> {
    /// The address. None: the proxy does not give it.
    pub(in crate::face) ip: Option<IpAddr>,
    /// A trusted proxy stands before the server.
    pub(in crate::face) behind_proxy: bool,
    /// The name of the program or browser.
    pub(in crate::face) program: &'a str,
}

impl Client<'_> {
    fn source(&self, context: &Context) -> Result<Source, Problem> {
        let no_address = || Problem::internal("the proxy gives no usable X-Forwarded-For");
        Ok(Source {
            limiter: Arc::clone(&context.limiter),
            ip: self.ip.ok_or_else(no_address)?,
            behind_proxy: self.behind_proxy,
            now: context.clock.now(),
        })
    }
}

/// Somebody whose password was typed into a form of the pages, and was right.
pub(in crate::face) struct Known {
    /// Whose password it is.
    pub(in crate::face) owner: WebSessionOwner,
    /// The login: an address, or `admin`.
    pub(in crate::face) login: String,
    /// A code is needed too, as long as the password has this mark: see [`by_code`].
    pub(in crate::face) needs_code: Option<PasswordMark>,
}

/// What tells a password from the one that comes after it: a digest of its hash.
pub(in crate::face) type PasswordMark = [u8; 32];

/// The mark of the present password of somebody.
pub(in crate::face) async fn password_mark(
    context: &Context,
    owner: &WebSessionOwner,
) -> Result<PasswordMark, AdminError> {
    let hash = match owner {
        WebSessionOwner::Admin => context.admin_password_hash().await,
        WebSessionOwner::Account(account) => {
            let credential = context.store.credential(account).await?;
            credential.map(|credential| credential.argon2)
        }
    };
    Ok(Sha256::digest(hash.unwrap_or_default()).into())
}

/// Checks the password of the administrator (the name `admin`) or of an account (its login
/// address), for a face with a form. The password of a single program opens no form.
pub(in crate::face) async fn by_password(
    context: &Context,
    name: &str,
    password: String,
    client: &Client<'_>,
) -> Result<Known, Problem> {
    // The mark is read before the check. A password that changes meanwhile has another mark.
    let half = half_known(context, name).await;
    let credentials = Credentials::Form(name.to_owned(), password);
    match check(context, &credentials, client).await {
        Ok((caller, access)) => Ok(Known {
            owner: access
                .account
                .map_or(WebSessionOwner::Admin, WebSessionOwner::Account),
            login: caller.name,
            needs_code: None,
        }),
        Err(problem) if problem.is_code_missing() => half,
        Err(problem) => Err(problem),
    }
}

/// Somebody who needs a code, if the password is right.
async fn half_known(context: &Context, name: &str) -> Result<Known, Problem> {
    let (owner, login) = match name {
        ADMIN => (WebSessionOwner::Admin, ADMIN.to_owned()),
        name => {
            let config = context.config.load_full();
            let found = config.login(name).ok_or_else(wrong)?;
            enabled(&found.config.login_disabled)?;
            let owner = WebSessionOwner::Account(found.account.to_owned());
            (owner, found.address.unicode())
        }
    };
    let mark = password_mark(context, &owner).await?;
    Ok(Known {
        owner,
        login,
        needs_code: Some(mark),
    })
}

/// Checks the one-time code or the recovery code of somebody whose password was right. Gives how
/// many recovery codes are left, if it is one of them.
pub(in crate::face) async fn by_code(
    context: &Context,
    owner: &WebSessionOwner,
    login: &str,
    code: &str,
    client: &Client<'_>,
) -> Result<Option<usize>, Problem> {
    let source = client.source(context)?;
    let checked = check_code(context, owner, code, &source).await;
    let caller = Caller {
        name: login.to_owned(),
        ..Caller::default()
    };
    let credentials = Credentials::Form(login.to_owned(), String::new());
    let told = checked.as_ref().map(|_| &caller);
    let result = tell(context, &credentials, source.ip, told);
    note(
        context,
        client.program,
        &credentials,
        (&source, result),
        None,
    );
    checked
}

async fn check_code(
    context: &Context,
    owner: &WebSessionOwner,
    code: &str,
    source: &Source,
) -> Result<Option<usize>, Problem> {
    if let WebSessionOwner::Account(account) = owner {
        let config = context.config.load_full();
        let account = config.accounts.get(account).ok_or_else(wrong)?;
        enabled(&account.login_disabled)?;
    }
    match context.logins.check_code(owner, code, source).await? {
        SecondCheck::Code => Ok(None),
        SecondCheck::Recovery(left) => Ok(Some(left)),
        SecondCheck::Wrong => {
            let text = "the code is wrong, or was used before; take the one that is shown now";
            Err(Problem::login(LoginResult::Wrong, text))
        }
        SecondCheck::TooMany(wait) => Err(Problem::too_many_logins(wait)),
    }
}

/// Checks credentials, and tells the log.
async fn check(
    context: &Context,
    credentials: &Credentials,
    client: &Client<'_>,
) -> Result<(Caller, Access), Problem> {
    let source = client.source(context)?;
    let ip = source.ip;
    let checked = match credentials {
        Credentials::Key(text) => by_key(context, text, &source).await,
        Credentials::Basic(name, password) | Credentials::Form(name, password) if name == ADMIN => {
            by_admin_password(context, password, &source).await
        }
        Credentials::Basic(name, password) | Credentials::Form(name, password) => {
            by_account_password(context, name, password, &source).await
        }
    };
    let checked = checked.and_then(|(caller, access)| match (credentials, access.by) {
        (Credentials::Form(..), Proof::AppPassword) => {
            let text = "this is the password of a single program, and opens no pages; give that \
                of the account";
            Err(Problem::login(LoginResult::Weak, text))
        }
        _ => Ok((
            Caller {
                from: Some(ip),
                ..caller
            },
            access,
        )),
    });
    let caller = checked.as_ref().map(|(caller, _)| caller);
    let result = tell(context, credentials, ip, caller);
    let (program, known) = (client.program, checked.as_ref().ok());
    note(context, program, credentials, (&source, result), known);
    checked
}

/// Notes what became of a login. It does not wait for the store.
fn note(
    context: &Context,
    program: &str,
    credentials: &Credentials,
    (source, result): (&Source, LoginResult),
    checked: Option<&(Caller, Access)>,
) {
    let (service, mechanism) = credentials.kind();
    let known = checked.and_then(|(_, access)| access.account.as_deref());
    let config = context.config.load();
    // The login leads to an account only where nothing else told it.
    let login = credentials.login();
    let named = login.filter(|_| known.is_none());
    let named = named.and_then(|login| config.login(login));
    let named = named.as_ref().map(|found| found.account);
    context.logins.note(&Attempt {
        account: known.or(named),
        result,
        service,
        mechanism,
        client: program,
        key: match (checked, credentials) {
            (Some((caller, _)), Credentials::Key(_)) => &caller.name,
            _ => "",
        },
        login: login.unwrap_or_default(),
        ip: source.ip,
        tls: "",
        now: source.now,
    });
}

/// Tells the log of a login from this address, and counts it. Gives what became of it.
fn tell(
    context: &Context,
    credentials: &Credentials,
    remote: IpAddr,
    checked: Result<&Caller, &Problem>,
) -> LoginResult {
    let (service, mechanism) = credentials.kind();
    let result = match checked {
        Ok(_) => LoginResult::Ok,
        Err(problem) => problem.login_result(),
    };
    let metrics = &context.metrics;
    metrics.authentications_total.with((service, result)).inc();
    if result == LoginResult::Ok {
        let mechanisms = &metrics.authentication_mechanisms_total;
        mechanisms.with(mechanism).inc();
    }
    let (service, mechanism) = (service.text(), mechanism.text());
    let login = credentials.login();
    match (checked, result) {
        // Programs that have a key log in with each call.
        (Ok(caller), _) if matches!(credentials, Credentials::Key(_)) => {
            debug!(service, %remote, key = caller.name, mechanism, "login");
        }
        (Ok(caller), _) => {
            info!(service, %remote, login, account = caller.name, mechanism, "login");
        }
        (Err(_), LoginResult::Limited) => {
            warn!(service, %remote, login, mechanism, "logins limited");
        }
        (Err(_), result) => {
            let reason = result.text();
            warn!(service, %remote, login, mechanism, reason, "login refused");
        }
    }
    result
}

impl Credentials {
    /// Where they are used, and how.
    fn kind(&self) -> (LoginService, LoginMechanism) {
        match self {
            Self::Key(_) => (LoginService::Admin, LoginMechanism::Bearer),
            Self::Basic(name, _) | Self::Form(name, _) if name == ADMIN => {
                (LoginService::Admin, LoginMechanism::Basic)
            }
            Self::Basic(..) | Self::Form(..) => (LoginService::Account, LoginMechanism::Basic),
        }
    }

    /// The name for the log. Some clients send a key in its place, so it has to be an address.
    fn login(&self) -> Option<&str> {
        match self {
            Self::Basic(name, _) | Self::Form(name, _)
                if name == ADMIN || Address::parse(name).is_ok() =>
            {
                Some(name)
            }
            _ => None,
        }
    }
}

/// The caller that a token stands for, if its key would be let in now. `found`: what is known of
/// the token. A token has 256 random bits, so nobody guesses one, and failures are not counted.
pub(super) async fn by_token(
    context: &Context,
    found: Option<(Caller, Access)>,
    client: Option<IpAddr>,
) -> Result<(Caller, Access), Problem> {
    let unknown = || Problem::unauthorized("the token is unknown or has expired");
    let (caller, access) = found.ok_or_else(unknown)?;
    still(context, &access).await.ok_or_else(unknown)?;
    let caller = Caller {
        from: client,
        ..caller
    };
    Ok((caller, access))
}

async fn by_admin_password(
    context: &Context,
    password: &str,
    source: &Source,
) -> Result<(Caller, Access), Problem> {
    let hash = context.admin_password_hash().await;
    let logins = &context.logins;
    match logins
        .verify_admin_with_code(hash, password, source)
        .await?
    {
        CodeCheck::Password | CodeCheck::AppPassword => {}
        CodeCheck::CodeMissing => return Err(Problem::code_missing()),
        CodeCheck::Wrong => return Err(wrong()),
        CodeCheck::TooMany(wait) => return Err(Problem::too_many_logins(wait)),
    }
    let caller = Caller {
        actor: Actor::Admin,
        name: ADMIN.to_owned(),
        from: None,
    };
    let access = Access {
        name: ADMIN.to_owned(),
        by: Proof::Password,
        ..Access::default()
    };
    Ok((caller, access))
}

async fn by_account_password(
    context: &Context,
    name: &str,
    password: &str,
    source: &Source,
) -> Result<(Caller, Access), Problem> {
    let config = context.config.load_full();
    let found = config.login(name);
    let account = found.as_ref().map(|found| found.account);
    // For an unknown address a password is checked as well, and then refused. So the time that it
    // takes does not tell which addresses exist.
    let check = context
        .logins
        .verify_with_code(&plain_login(&config, name), account, password, source)
        .await?;
    let by = match check {
        CodeCheck::Password => Proof::Password,
        CodeCheck::AppPassword => Proof::AppPassword,
        CodeCheck::CodeMissing => return Err(Problem::code_missing()),
        CodeCheck::Wrong => return Err(wrong()),
        CodeCheck::TooMany(wait) => return Err(Problem::too_many_logins(wait)),
    };
    let found = found.ok_or_else(wrong)?;
    enabled(&found.config.login_disabled)?;
    let caller = Caller {
        actor: Actor::Account,
        name: found.address.unicode(),
        from: None,
    };
    let access = Access {
        name: format!("account {}", found.account),
        only_account: true,
        account: Some(found.account.to_owned()),
        by,
        ..Access::default()
    };
    Ok((caller, access))
}

async fn by_key(
    context: &Context,
    text: &str,
    source: &Source,
) -> Result<(Caller, Access), Problem> {
    let named = text.strip_prefix(NAMED).and_then(|encoded| {
        let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (name, key) = decoded.split_once(':')?;
        Some((name.to_owned(), key.to_owned()))
    });
    let (name, text) = match &named {
        Some((name, key)) => (Some(name.as_str()), key.as_str()),
        None => (None, text),
    };
    let text = KeyText::parse(text)
        .ok_or_else(|| Problem::login(LoginResult::Malformed, "the bearer token is not a key"))?;
    let key = context.store.api_key(text.id()).await?;
    let is_right =
        |key: &ApiKey| text.is_of(key, source.now) && name.is_none_or(|name| name == key.name);
    let Some(key) = key.filter(is_right) else {
        return Err(match source.begin(Identity::Key(text.id().0)) {
            Ok(()) => wrong_key(),
            Err(wait) => Problem::too_many_logins(wait),
        });
    };
    let access = of_key(context, &key)?;
    let caller = Caller {
        actor: Actor::Key,
        name: key.name,
        from: None,
    };
    Ok((caller, access))
}

/// What a key allows.
fn of_key(context: &Context, key: &ApiKey) -> Result<Access, Problem> {
    let reach = Reach::of_key(key, &context.config.load()).ok_or_else(wrong_key)?;
    let account = Some(key.account.clone()).filter(|account| !account.is_empty());
    if let Some(account) = &account {
        let config = context.config.load();
        let account = config.accounts.get(account).ok_or_else(wrong_key)?;
        enabled(&account.login_disabled)?;
    }
    Ok(Access {
        name: format!("key {}", key.id),
        key: Some(key.id),
        scopes: Some(key.scopes.clone()),
        account,
        reach,
        legacy_status: key.legacy_status,
        ..Access::default()
    })
}

/// Whether a caller that was let in would be let in now, and for how long its key lasts. A password
/// is not checked again.
pub(super) async fn still(context: &Context, access: &Access) -> Option<Duration> {
    let Some(id) = access.key else {
        return Some(Duration::MAX);
    };
    let key = context.store.api_key(id).await.ok()??;
    if of_key(context, &key).ok()? != *access {
        return None;
    }
    let now = context.clock.now();
    match key.expires {
        None => Some(Duration::MAX),
        Some(expires) if expires > now => Some(expires.since(now)),
        Some(_) => None,
    }
}

fn wrong_key() -> Problem {
    Problem::login(LoginResult::Wrong, "the key is wrong or has expired")
}

fn wrong() -> Problem {
    Problem::login(LoginResult::Wrong, "wrong name or password")
}

fn enabled(login_disabled: &str) -> Result<(), Problem> {
    match login_disabled {
        "" => Ok(()),
        why => {
            let text = format!("login disabled: {why}");
            Err(Problem::login(LoginResult::Disabled, text))
        }
    }
}

fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credentials::Key(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some(Credentials::Basic(name.to_owned(), password.to_owned()))
}

/// Whether a page of another site made a browser send this request (Fetch Metadata). A browser adds
/// a password that it remembers. Programs do not send this field.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = header(headers, "sec-fetch-site");
    site.is_some_and(|site| site != "same-origin" && site != "none")
}

/// The address of the client: `connected`, or with trusted proxies the address in X-Forwarded-For
/// that the first of them saw. Anybody may have written what stands further to the left. None: the
/// proxies do not give it.
pub(in crate::face) fn address(
    headers: &HeaderMap,
    connected: Option<IpAddr>,
    forwarded_hops: usize,
) -> Option<IpAddr> {
    let Some(further) = forwarded_hops.checked_sub(1) else {
        return connected;
    };
    let fields = headers.get_all("x-forwarded-for").iter().rev();
    let addresses = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    let address = addresses.map(<[u8]>::trim_ascii).nth(further)?;
    let address = std::str::from_utf8(address).ok()?;
    let ip = address.trim_matches(['[', ']']).parse::<IpAddr>();
    let ip = ip.or_else(|_| {
        address
            .parse()
            .map(|address: std::net::SocketAddr| address.ip())
    });
    Some(ip.ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_address_is_read_from_the_right() {
        let connected = Some(IpAddr::from([127, 0, 0, 1]));
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "forged, 192.0.2.9".parse().unwrap());
        headers.append("x-forwarded-for", "[2001:db8::1]:80".parse().unwrap());
        let read = |hops| address(&headers, connected, hops).map(|ip| ip.to_string());
        assert_eq!(read(0).as_deref(), Some("127.0.0.1"));
        assert_eq!(read(1).as_deref(), Some("2001:db8::1"));
        assert_eq!(read(2).as_deref(), Some("192.0.2.9"));
        assert_eq!(read(3), None);
        assert_eq!(read(4), None);
    }
}
