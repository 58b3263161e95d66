//! The callers of the mailbox API: a platform, a tenant, or the holder of an account.
//!
//! A key or a token is known by its beginning. Whatever else comes as bearer token is a question to
//! the authorization server, if there is one. `x-service-token` comes before `Authorization`: if it
//! is there, nothing else is looked at.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::{Account, Dynamic, LoginName, Tenant};
use postrider_observe::{
    Metrics,
    metrics::{Label, LoginMechanism, LoginResult, LoginService},
};
use postrider_smtp::Address;
use postrider_store::{ApiKey, ApiKeyId, MailTokenKind, Scope, StoreError};

use tracing::{debug, info, warn};

use super::{
    Attempt, KeyText, Logins, Meaning, PasswordCheck, Reach,
    calls::CallsOf,
    limiter::{Identity, Source},
    plain_login,
    token::{address_owner, is_own_secret},
};

/// The scope that a token of the authorization server needs.
const OAUTH_SCOPE: &str = "mail";

/// The credentials of a request.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiCredentials {
    /// The value of `x-service-token`.
    Service(String),
    /// A bearer token.
    Bearer(String),
    /// A name and a password.
    Basic(String, String),
}

/// Hides the secrets.
impl std::fmt::Debug for ApiCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Service(_) => "Service",
            Self::Bearer(_) => "Bearer",
            Self::Basic(..) => "Basic",
        })
    }
}

impl ApiCredentials {
    /// Reads the values of `x-service-token` and `Authorization`. None: there are no credentials,
    /// or they can't be read.
    #[must_use]
    pub fn read(service: Option<&[u8]>, authorization: Option<&[u8]>) -> Option<Self> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        if let Some(service) = service {
            return text(service).map(|it| Self::Service(it.trim().to_owned()));
        }
        let (scheme, rest) = text(authorization?)?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(rest.trim().to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        let (name, password) = decoded.split_once(':')?;
        Some(Self::Basic(name.to_owned(), password.to_owned()))
    }
}

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiCaller {
    /// A platform or a tenant.
    Manager(Manager),
    /// The holder of an account.
    User(ApiUser),
}

impl ApiCaller {
    /// The name under which calls are counted.
    #[must_use]
    pub fn calls_of(&self) -> CallsOf {
        match self {
            Self::Manager(manager) => CallsOf::Manager(manager.id.clone()),
            Self::User(user) => CallsOf::User(user.account.clone()),
        }
    }
}

/// A platform or a tenant: a management key, or a token with a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// The name for limits and repeated requests: `key N` or `tenant T`. It is never used again for
    /// another caller.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// The key. None: a token of the authorization server.
    pub key: Option<ApiKeyId>,
    /// The scopes, those for the webapi too.
    pub scopes: Vec<Scope>,
    /// The things that the caller sees. A platform sees everything.
    pub reach: Reach,
}

impl Manager {
    /// Whether the caller may manage domains, accounts and aliases. `reads`: only look at them.
    #[must_use]
    pub fn may_manage(&self, reads: bool) -> bool {
        let enough = |scope: &Scope| match scope {
            Scope::Manage | Scope::ManageAccounts => true,
            Scope::ManageRead => reads,
            _ => false,
        };
        self.scopes.iter().any(enough)
    }

    /// Whether the caller may read and send the mail of the accounts that it sees.
    #[must_use]
    pub fn may_use_mail(&self) -> bool {
        self.scopes.contains(&Scope::ManageMail)
    }

    /// Whether the caller sees everything.
    #[must_use]
    pub fn is_platform(&self) -> bool {
        !self.reach.is_tenant()
    }
}

/// The holder of an account, or a program with a key or a token of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUser {
    /// The account.
    pub account: String,
    /// The address of the login. With a key it is the first address of the account.
    pub login: Address,
    /// The scopes of a key. None: everything.
    pub scopes: Option<Vec<Scope>>,
    /// The name of the key. None: the caller gave a password or a token.
    pub key: Option<String>,
    /// The kind of the token of this server that the caller gave. None: it gave none.
    pub token: Option<MailTokenKind>,
}

impl ApiUser {
    /// Whether the caller may make calls of this scope.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        let scopes = self.scopes.as_ref();
        scopes.is_none_or(|scopes| scopes.contains(&scope))
    }
}

/// Why a caller is refused.
#[derive(Debug, thiserror::Error)]
pub enum ApiRefusal {
    /// Status 401, with this text.
    #[error("{1}")]
    Unauthorized(LoginResult, String),
    /// Status 429. The next login is checked after this time.
    #[error("too many failed logins")]
    TooMany(Duration),
    /// Status 503: the authorization server gives no answer.
    #[error("the authorization server gives no answer; try again later")]
    NoAnswer,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApiRefusal {
    fn wrong(text: &str) -> Self {
        Self::Unauthorized(LoginResult::Wrong, text.to_owned())
    }

    /// What became of the login.
    #[must_use]
    pub const fn result(&self) -> LoginResult {
        match self {
            Self::Unauthorized(result, _) => *result,
            Self::TooMany(_) => LoginResult::Limited,
            Self::NoAnswer | Self::Store(_) => LoginResult::Unavailable,
        }
    }
}

/// The program that makes a call.
#[derive(Clone, Copy, Debug)]
pub struct ApiClient<'a> {
    /// Where it is.
    pub source: &'a Source,
    /// What it calls itself.
    pub program: &'a str,
    /// The call came over TLS.
    pub tls: bool,
}

impl ApiCredentials {
    const fn mechanism(&self) -> LoginMechanism {
        match self {
            Self::Service(_) | Self::Bearer(_) => LoginMechanism::Bearer,
            Self::Basic(..) => LoginMechanism::Basic,
        }
    }

    /// The name for the log. Some clients send a key in its place, so it has to be an address.
    fn login(&self) -> Option<&str> {
        match self {
            Self::Basic(name, _) if Address::parse(name).is_ok() => Some(name),
            _ => None,
        }
    }
}

impl Logins {
    /// Checks the caller of the mailbox API, counts the login and notes what became of it.
    ///
    /// # Errors
    /// If the caller is refused.
    pub async fn api_login(
        &self,
        config: &Dynamic,
        metrics: &Metrics,
        credentials: &ApiCredentials,
        client: ApiClient<'_>,
    ) -> Result<ApiCaller, ApiRefusal> {
        let checked = self.api_caller(config, credentials, client.source).await;
        let result = checked
            .as_ref()
            .map_or_else(ApiRefusal::result, |_| LoginResult::Ok);
        self.note_api_login(
            config,
            metrics,
            credentials,
            client,
            (result, checked.as_ref().ok()),
        );
        checked
    }

    /// Counts a login at the mailbox API, and notes what became of it.
    pub fn note_api_login(
        &self,
        config: &Dynamic,
        metrics: &Metrics,
        credentials: &ApiCredentials,
        client: ApiClient<'_>,
        (result, caller): (LoginResult, Option<&ApiCaller>),
    ) {
        let (service, mechanism) = (LoginService::Mailbox, credentials.mechanism());
        metrics.authentications_total.with((service, result)).inc();
        if result == LoginResult::Ok {
            let mechanisms = &metrics.authentication_mechanisms_total;
            mechanisms.with(mechanism).inc();
        }
        let login = credentials.login();
        let (known, key) = match caller {
            Some(ApiCaller::User(user)) => (Some(user.account.as_str()), user.key.as_deref()),
            Some(ApiCaller::Manager(manager)) => (None, Some(manager.name.as_str())),
            None => (None, None),
        };
        // The login leads to an account only where nothing else told it.
        let named = login.filter(|_| caller.is_none());
        let named = named.and_then(|login| config.login(login));
        let named = named.as_ref().map(|found| found.account);
        self.note(&Attempt {
            account: known.or(named),
            result,
            service,
            mechanism,
            client: client.program,
            key: key.unwrap_or_default(),
            login: login.unwrap_or_default(),
            ip: client.source.ip,
            tls: if client.tls { "TLS" } else { "" },
            now: client.source.now,
        });
        let (service, mechanism, remote) = (service.text(), mechanism.text(), client.source.ip);
        match (result, key) {
            // Programs that have a key log in with each call.
            (LoginResult::Ok, Some(key)) => debug!(service, %remote, key, mechanism, "login"),
            (LoginResult::Ok, None) => {
                info!(service, %remote, login, account = known, mechanism, "login");
            }
            (LoginResult::Limited, _) => {
                warn!(service, %remote, login, mechanism, "logins limited");
            }
            (result, _) => {
                let reason = result.text();
                warn!(service, %remote, login, mechanism, reason, "login refused");
            }
        }
    }

    /// Checks the caller of the mailbox API.
    ///
    /// # Errors
    /// If the caller is refused. A failure counts, and a right key or password is never refused for
    /// failures of others.
    pub async fn api_caller(
        &self,
        config: &Dynamic,
        credentials: &ApiCredentials,
        source: &Source,
    ) -> Result<ApiCaller, ApiRefusal> {
        match credentials {
            ApiCredentials::Service(text) => match self.by_key(config, text, None, source).await? {
                caller @ ApiCaller::Manager(_) => Ok(caller),
                ApiCaller::User(_) => {
                    let text = "x-service-token takes a management key, and this key has no \
                            scope of the management API";
                    Err(ApiRefusal::wrong(text))
                }
            },
            ApiCredentials::Bearer(text) if KeyText::parse(text).is_some() => {
                self.by_key(config, text, None, source).await
            }
            ApiCredentials::Bearer(text) => self.by_token(config, text, source).await,
            ApiCredentials::Basic(name, password) if KeyText::parse(password).is_some() => {
                self.by_key(config, password, Some(name), source).await
            }
            ApiCredentials::Basic(name, password) => {
                self.by_name(config, name, password, source).await
            }
        }
    }

    /// The caller with a key. `name` is the address that came with it: that of the account of a key
    /// for the webapi. A management key takes any name.
    async fn by_key(
        &self,
        config: &Dynamic,
        text: &str,
        name: Option<&str>,
        source: &Source,
    ) -> Result<ApiCaller, ApiRefusal> {
        let wrong = || ApiRefusal::wrong("the key is wrong or has expired");
        let text = KeyText::parse(text).ok_or_else(|| {
            let text = "this is not a key of this server".to_owned();
            ApiRefusal::Unauthorized(LoginResult::Malformed, text)
        })?;
        let key = self.store().api_key(text.id()).await?;
        let Some(key) = key.filter(|key| text.is_of(key, source.now)) else {
            return Err(match source.begin(Identity::Key(text.id().0)) {
                Ok(()) => wrong(),
                Err(wait) => ApiRefusal::TooMany(wait),
            });
        };
        if !key.account.is_empty() {
            let account = config.accounts.get(&key.account).ok_or_else(wrong)?;
            enabled(account)?;
        }
        if key.scopes.iter().any(|scope| scope.is_management()) {
            let reach = Reach::of_key(&key, config).ok_or_else(wrong)?;
            return Ok(ApiCaller::Manager(manager(key, reach)));
        }
        let account = config.accounts.get(&key.account).ok_or_else(wrong)?;
        let login = match name {
            Some(name) => {
                let found = config.login(name);
                let found = found.filter(|found| found.account == key.account);
                found.ok_or_else(wrong)?.address
            }
            None => account.first_address().cloned().ok_or_else(|| {
                let text =
                    "the account has no address of its own, so use the key as the password of one";
                ApiRefusal::wrong(text)
            })?,
        };
        Ok(ApiCaller::User(ApiUser {
            account: key.account,
            login,
            scopes: Some(key.scopes),
            key: Some(key.name),
            token: None,
        }))
    }

    /// The caller with a token of this server, or of the authorization server.
    async fn by_token(
        &self,
        config: &Dynamic,
        text: &str,
        source: &Source,
    ) -> Result<ApiCaller, ApiRefusal> {
        let wrong = || ApiRefusal::wrong("the token is unknown or has expired");
        if is_own_secret(text) {
            let kinds = [MailTokenKind::Mail, MailTokenKind::User];
            let found = self.token_owner(text, &kinds, config, source.now).await?;
            let token = found.ok_or_else(wrong)?;
            let owner = address_owner(config, &token.address).ok_or_else(wrong)?;
            return Ok(user(owner, Some(token.kind)));
        }
        let Some(oauth) = self.oauth() else {
            let text = "the bearer token is neither a key nor a token of this server".to_owned();
            return Err(ApiRefusal::Unauthorized(LoginResult::Malformed, text));
        };
        let meaning = oauth.meaning_of(text, source.now).await;
        let meaning = meaning.map_err(|_| ApiRefusal::NoAnswer)?;
        let Meaning::Good(holder) = meaning.within(OAUTH_SCOPE) else {
            return Err(ApiRefusal::wrong(
                "the token is unknown, has expired, or lacks the scope mail",
            ));
        };
        if let Some(tenant) = &holder.tenant {
            let tenant = Tenant::parse(tenant).map_err(|_| wrong())?;
            let named = Scope::ALL.into_iter();
            let named = named.filter(|scope| holder.scopes.iter().any(|it| it == scope.name()));
            let scopes = named.chain([Scope::ManageAccounts]).collect();
            return Ok(ApiCaller::Manager(Manager {
                id: format!("tenant {tenant}"),
                name: holder.names.first().cloned().unwrap_or_default(),
                key: None,
                scopes,
                reach: Reach::of_tenant(tenant, config),
            }));
        }
        let mut names = holder.names.iter();
        let owner = names.find_map(|name| address_owner(config, name));
        let owner = owner.ok_or_else(|| {
            ApiRefusal::wrong("the token is good, and names no address of an account here")
        })?;
        enabled(owner.config)?;
        Ok(user(owner, None))
    }

    /// The caller with an address and a password. An account with one-time codes needs an app
    /// password.
    async fn by_name(
        &self,
        config: &Dynamic,
        name: &str,
        password: &str,
        source: &Source,
    ) -> Result<ApiCaller, ApiRefusal> {
        let found = config.login(name);
        // For an unknown address a password is checked as well, and then refused. So the time that
        // it takes does not tell which addresses exist.
        let account = found.as_ref().map(|found| found.account);
        let plain = plain_login(config, name);
        let check = self.verify(&plain, account, password, source).await?;
        match (found, check) {
            (_, PasswordCheck::TooMany(wait)) => Err(ApiRefusal::TooMany(wait)),
            (Some(found), PasswordCheck::Right) => {
                enabled(found.config)?;
                Ok(user(found, None))
            }
            (Some(_), PasswordCheck::TooWeak) => {
                let text = "the account has one-time codes; log in with an app password or a key";
                Err(ApiRefusal::Unauthorized(LoginResult::Weak, text.to_owned()))
            }
            _ => Err(ApiRefusal::wrong("wrong address or password")),
        }
    }
}

fn manager(key: ApiKey, reach: Reach) -> Manager {
    Manager {
        id: format!("key {}", key.id),
        name: key.name,
        key: Some(key.id),
        scopes: key.scopes,
        reach,
    }
}

/// The holder of an address, who may do everything with the account.
fn user(owner: LoginName<'_>, token: Option<MailTokenKind>) -> ApiCaller {
    ApiCaller::User(ApiUser {
        account: owner.account.to_owned(),
        login: owner.address,
        scopes: None,
        key: None,
        token,
    })
}

fn enabled(account: &Account) -> Result<(), ApiRefusal> {
    match account.login_disabled.as_str() {
        "" => Ok(()),
        why => {
            let text = format!("login disabled: {why}");
            Err(ApiRefusal::Unauthorized(LoginResult::Disabled, text))
        }
    }
}

#[cfg(test)]
mod tests;
