//! A call: who makes it, for which account, and what it asks.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, WebSocketUpgrade},
    http::{
        HeaderMap,
        header::{AUTHORIZATION, SEC_WEBSOCKET_KEY, USER_AGENT},
        request::Parts,
    },
};
use postrider_config::{Account, Dynamic, Right};
use postrider_receive::login::{ApiCaller, ApiClient, ApiCredentials, InCall, Manager, Source};
use postrider_store::{KeepDeleted, Scope, Time};
use serde::de::DeserializeOwned;

use super::{
    problem::Problem,
    table::{Call, Need},
};
use crate::{
    call::{
        auth::{self, User},
        context::CallContext,
        data::{Data, Upload, collect},
    },
    error::Code,
    http::header::{check_encoding, idempotency_key, media_type},
};

/// The most bytes of a body that brings no files.
const BODY_MAX: u64 = 1 << 20;

/// A call whose caller may make it.
pub(super) struct Asked {
    pub(super) context: Arc<CallContext>,
    /// The account that the call is about, and who sends if it sends.
    pub(super) user: User,
    /// The caller, if it manages accounts of others.
    pub(super) manager: Option<Manager>,
    /// The variable elements of the path, decoded.
    pub(super) elements: Vec<String>,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) key: Option<String>,
    pub(super) body: Data,
    /// The request wants to become a WebSocket.
    pub(super) upgrade: Option<WebSocketUpgrade>,
    /// The call counts as long as this is there.
    place: Option<InCall>,
}

impl Asked {
    /// Checks a request in the order of the contract: 401, 429, 403, 404, 413 and 415, 400.
    /// `call` is the call of the path. None: there is none.
    pub(super) async fn read(
        context: Arc<CallContext>,
        call: Option<(&'static Call, Vec<String>)>,
        request: Request,
    ) -> Result<(&'static Call, Self), Problem> {
        let (mut parts, body) = request.into_parts();
        let query = Query::of(parts.uri.query().unwrap_or_default());
        let upgrade = match parts.headers.contains_key(SEC_WEBSOCKET_KEY) {
            true => WebSocketUpgrade::from_request_parts(&mut parts, &())
                .await
                .ok(),
            false => None,
        };
        if let Some((call, elements)) = &call
            && let Some(token) = query.text("token").filter(|_| call.is_stream())
        {
            let now = context.clock.moment();
            let user = context.bounds.stream_tokens.take(token, now);
            let user = user.ok_or_else(|| {
                Problem::unauthorized("the token is unknown, was used, or its minute is over")
            })?;
            let asked = Self {
                context,
                user,
                manager: None,
                elements: elements.clone(),
                query,
                headers: parts.headers,
                key: None,
                body: Data::default(),
                upgrade,
                place: None,
            };
            return Ok((call, asked));
        }
        let (caller, source) = caller(&context, &parts).await?;
        let place = context.logins.calls().begin(caller.calls_of());
        let place = place.map_err(Problem::limited)?;
        let Some((call, elements)) = call else {
            let (method, path) = (&parts.method, parts.uri.path());
            return Err(Problem::not_found(format!(
                "there is no call {method} {path}"
            )));
        };
        let config = context.config.load_full();
        let user = target(&config, &caller, call.need, query.text("account"), &source)?;
        let key = idempotency_key(&parts.headers)?;
        let body = match call.has_body() {
            true => read_body(&context, &user, call, &parts.headers, body).await?,
            false => Data::default(),
        };
        let manager = match caller {
            ApiCaller::Manager(manager) => Some(manager),
            ApiCaller::User(_) => None,
        };
        let asked = Self {
            context,
            user,
            manager,
            elements,
            query,
            headers: parts.headers,
            key,
            body,
            upgrade,
            place: Some(place),
        };
        Ok((call, asked))
    }

    /// The account.
    pub(super) fn account(&self) -> &str {
        &self.user.account
    }

    /// A stream goes on, and other calls may take its place.
    pub(super) fn leave_place(&mut self) {
        self.place = None;
    }

    /// Whether the caller is a platform, which sees everything.
    pub(super) fn sees_all(&self) -> bool {
        let manager = self.manager.as_ref();
        manager.is_some_and(|manager| !manager.reach.is_tenant())
    }

    /// A variable element of the path.
    pub(super) fn element(&self, at: usize) -> &str {
        self.elements.get(at).map_or("", String::as_str)
    }

    /// The mailbox in the path.
    pub(super) fn folder(&self) -> Result<String, Problem> {
        // A name that no mailbox may have is the name of none.
        let name = self.element(0);
        super::folder_name::read("folder", name)
            .map_err(|_| Problem::not_found(format!("there is no mailbox {name:?}")))
    }

    /// The UID in the path.
    pub(super) fn uid(&self) -> Result<u32, Problem> {
        let text = self.element(1);
        text.parse()
            .map_err(|_| Problem::not_found(format!("there is no message {text:?}")))
    }

    /// The body, as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let (json, _share) = self.body.json(&self.context, &self.user).await?;
        let value: serde_json::Value = serde_json::from_str(json.text()?)
            .map_err(|error| Problem::unreadable(format!("the body is not JSON: {error}")))?;
        if !value.is_object() {
            return Err(Problem::unreadable("the body must be a JSON object"));
        }
        serde_path_to_error::deserialize(value).map_err(|error| {
            let field = error.path().to_string();
            Problem::field(&field, error.inner())
        })
    }

    pub(super) fn now(&self) -> Time {
        self.context.clock.now()
    }

    /// How long mail stays that is deleted now.
    pub(super) fn keep_deleted(&self) -> KeepDeleted {
        let config = self.context.config.load();
        let undelete = self.context.statics.undelete;
        let period = undelete.period_of(config.accounts.get(self.account()));
        KeepDeleted {
            until: self.now().after(period),
            bytes: undelete.max_size.0,
        }
    }
}

/// Checks the credentials of a request.
async fn caller(context: &CallContext, parts: &Parts) -> Result<(ApiCaller, Source), Problem> {
    let bytes = |name: &str| parts.headers.get(name).map(|value| value.as_bytes());
    let authorization = parts.headers.get(AUTHORIZATION);
    let credentials = ApiCredentials::read(
        bytes("x-service-token"),
        authorization.map(|value| value.as_bytes()),
    );
    let credentials = credentials.ok_or_else(|| {
        Problem::unauthorized(
            "log in with a key, a token or a password in Authorization, or with a management key \
             in x-service-token",
        )
    })?;
    let source = auth::source(context, &parts.headers, &parts.extensions)
        .ok_or_else(|| Problem::internal(crate::http::answer::NO_ADDRESS))?;
    let program = parts.headers.get(USER_AGENT);
    let client = ApiClient {
        source: &source,
        program: program.and_then(|it| it.to_str().ok()).unwrap_or_default(),
        tls: context.endpoint.tls,
    };
    let config = context.config.load_full();
    let logins = &context.logins;
    let caller = logins.api_login(&config, &context.metrics, &credentials, client);
    Ok((caller.await?, source))
}

/// The account that a call is about, if the caller may make it.
fn target(
    config: &Dynamic,
    caller: &ApiCaller,
    need: Need,
    named: Option<&str>,
    source: &Source,
) -> Result<User, Problem> {
    match caller {
        ApiCaller::Manager(manager) => of_manager(config, manager, need, named, source),
        ApiCaller::User(user) => {
            let scope = match need {
                Need::Send => Scope::Send,
                Need::Read | Need::Write => Scope::Messages,
            };
            if !user.may(scope) {
                let text = format!("the key has no scope {}", scope.name());
                return Err(Problem::forbidden(text));
            }
            let own = || User::of_api(&user.account, user.login.clone(), source.ip);
            let Some(named) = named else {
                return Ok(own());
            };
            let (name, account) = find(config, named)?;
            if name == user.account {
                return Ok(own());
            }
            // Whoever has no right does not learn that the account is there.
            let right = account
                .right_of(&user.account)
                .ok_or_else(|| no_account(named))?;
            let is_enough = match need {
                Need::Read => true,
                Need::Write => matches!(right, Right::Write | Right::Send),
                Need::Send => right == Right::Send,
            };
            if !is_enough {
                let text = format!("the account {name} is shared with you, but not for this");
                return Err(Problem::forbidden(text));
            }
            with_address(name, account, source)
        }
    }
}

fn of_manager(
    config: &Dynamic,
    manager: &Manager,
    _need: Need,
    named: Option<&str>,
    source: &Source,
) -> Result<User, Problem> {
    if !manager.may_use_mail() {
        return Err(Problem::forbidden("the key has no scope manage-mail"));
    }
    let named = named.ok_or_else(|| {
        Problem::field(
            "account",
            "name the account: by its name or one of its addresses",
        )
    })?;
    let (name, account) = find(config, named)?;
    if !manager.reach.sees(account) {
        return Err(no_account(named));
    }
    with_address(name, account, source)
}

fn no_account(named: &str) -> Problem {
    Problem::not_found(format!("there is no account {named:?}"))
}

/// The account with this name, or this address.
fn find<'a>(config: &'a Dynamic, named: &str) -> Result<(&'a str, &'a Account), Problem> {
    if let Some((name, account)) = config.accounts.get_key_value(named) {
        return Ok((name, account));
    }
    let owner = config.login(named);
    let owner = owner.map(|found| (found.account, found.config));
    owner.ok_or_else(|| no_account(named))
}

fn with_address(name: &str, account: &Account, source: &Source) -> Result<User, Problem> {
    let address = account.first_address().cloned();
    let address = address.ok_or_else(|| {
        let text = format!("the account {name} has no address of its own");
        Problem::conflict("noAddress", text)
    })?;
    Ok(User::of_api(name, address, source.ip))
}

async fn read_body(
    context: &CallContext,
    user: &User,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Data, Problem> {
    check_encoding(headers)?;
    let most = match call.need {
        // Base64 makes files a third larger.
        Need::Send => BODY_MAX + context.endpoint.max_message_size.saturating_mul(4) / 3,
        Need::Read | Need::Write => BODY_MAX,
    };
    let kind = media_type(headers);
    if kind != "application/json" && !kind.is_empty() {
        return Err(Problem::wrong_type(&kind));
    }
    let upload = Upload::new(context, user);
    let read = collect(upload, body, most, Code::MessageTooLarge).await;
    read.map_err(|error| match error.code {
        Code::MessageTooLarge => Problem::too_large(most),
        _ => error.into(),
    })
}

/// The parameters of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    fn of(text: &str) -> Self {
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// A parameter. None if it is empty, too.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let text = self.0.get(name).map(String::as_str);
        text.filter(|text| !text.is_empty())
    }

    /// Whether a parameter is `1` or `true`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.text(name), Some("1" | "true"))
    }

    /// A number.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let read = |text: &str| {
            text.parse()
                .map_err(|_| Problem::field(name, format!("{text:?} is not such a number")))
        };
        self.text(name).map(read).transpose()
    }

    /// A number with a default and bounds.
    pub(super) fn within(
        &self,
        name: &str,
        usual: usize,
        least: usize,
        most: usize,
    ) -> Result<usize, Problem> {
        let given = self.number(name)?.unwrap_or(usual);
        match (least..=most).contains(&given) {
            true => Ok(given),
            false => Err(Problem::field(
                name,
                format!("give a number from {least} to {most}"),
            )),
        }
    }
}
