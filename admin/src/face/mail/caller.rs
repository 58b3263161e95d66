//! The caller of the mailbox API, and what it may do.

use std::net::IpAddr;

use axum::http::{HeaderMap, header::AUTHORIZATION};
use postrider_observe::metrics::LoginResult;
use postrider_receive::login::{
    ApiCaller, ApiClient, ApiCredentials, ApiRefusal, ApiUser, InCall, Manager, Source,
    wait_in_words,
};
use postrider_store::Actor;

use super::{
    Served,
    table::{Call, For},
};
use crate::{Caller, Context, face::http::problem::Problem};

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A platform or a tenant.
    Manager(Manager),
    /// The holder of an account.
    User(ApiUser),
    /// Somebody who logs in by the call itself.
    Nobody,
}

/// Checks the credentials of a request, and takes a place for it. A call that is a login needs
/// none.
pub(super) async fn known(
    served: &Served,
    headers: &HeaderMap,
    call: Option<&Call>,
    (source, program): (&Source, &str),
) -> Result<(Who, Option<InCall>), Problem> {
    if call.is_some_and(|call| call.who == For::Everybody) {
        return Ok((Who::Nobody, None));
    }
    let context = &served.context;
    let bytes = |name: &str| headers.get(name).map(|value| value.as_bytes());
    let authorization = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let credentials = ApiCredentials::read(bytes("x-service-token"), authorization);
    let credentials = credentials.ok_or_else(|| {
        Problem::unauthorized(
            "log in with a management key in x-service-token, or with a key, a token or a password \
             in Authorization",
        )
    })?;
    let client = ApiClient {
        source,
        program,
        tls: served.tls,
    };
    let config = context.config.load_full();
    let logins = &context.logins;
    let login = logins.api_login(&config, &context.metrics, &credentials, client);
    let suspended_is_conflict = call.is_some_and(|call| call.path == "auth/mail-token");
    let caller = login.await.map_err(|refusal| match refusal {
        // The password or the key is right.
        ApiRefusal::Unauthorized(LoginResult::Disabled, text) if suspended_is_conflict => {
            Problem::conflict(text)
        }
        refusal => refused(refusal),
    })?;
    let place = logins.calls().begin(caller.calls_of());
    let place = place.map_err(|wait| {
        let wait_shown = wait_in_words(wait);
        Problem::limited(
            wait,
            format!("too many calls; the next one is taken in {wait_shown}"),
        )
    })?;
    let who = match caller {
        ApiCaller::Manager(manager) => Who::Manager(manager),
        ApiCaller::User(user) => Who::User(user),
    };
    Ok((who, Some(place)))
}

fn refused(refusal: ApiRefusal) -> Problem {
    match refusal {
        ApiRefusal::Unauthorized(result, text) => Problem::login(result, text),
        ApiRefusal::TooMany(wait) => Problem::too_many_logins(wait),
        ApiRefusal::NoAnswer => Problem::no_answer(refusal),
        ApiRefusal::Store(error) => error.into(),
    }
}

impl Who {
    /// Whether the caller may make a call.
    pub(super) fn check(&self, call: &Call) -> Result<(), Problem> {
        let forbidden = |text: &str| Err(Problem::forbidden(text));
        match (call.who, self) {
            (For::Everybody | For::Anyone, _) | (For::User, Self::User(_)) => Ok(()),
            (For::User, _) => forbidden("this call is for holders of accounts"),
            (For::Platform | For::Manager, Self::Manager(manager)) => {
                if !manager.may_manage(call.reads) {
                    return forbidden("the key has no scope for this call");
                }
                match call.who == For::Platform && !manager.is_platform() {
                    true => forbidden("this call is not for tenants"),
                    false => Ok(()),
                }
            }
            (For::Platform | For::Manager, _) => {
                forbidden("this call is for platforms and tenants, with a management key")
            }
        }
    }

    /// The caller for the audit log.
    pub(super) fn caller(&self, from: IpAddr) -> Caller {
        let (actor, name) = match self {
            Self::Manager(manager) if manager.key.is_some() => (Actor::Key, manager.name.clone()),
            Self::Manager(manager) => (Actor::Key, manager.id.clone()),
            Self::User(user) => (Actor::Account, user.login.unicode()),
            Self::Nobody => (Actor::Account, String::new()),
        };
        Caller {
            actor,
            name,
            from: Some(from),
        }
    }

    /// Whether the caller may ask about tokens of an account, and end them.
    pub(super) fn sees_tokens_of(&self, context: &Context, account: &str) -> bool {
        match self {
            Self::Manager(manager) if !manager.may_manage(true) => false,
            Self::Manager(manager) => {
                let config = context.config.load();
                let account = config.accounts.get(account);
                account.is_some_and(|account| manager.reach.sees(account))
            }
            Self::User(user) => user.account == account,
            Self::Nobody => false,
        }
    }
}
