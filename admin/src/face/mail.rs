//! The administrative half of the mailbox API: domains, accounts and aliases for back ends that
//! give people mailboxes, and the tokens of the people. `docs/mailbox-api.md` is its contract.
//!
//! - `table`: the list of all calls: method, path, who may make it, and the function that answers.
//! - `caller`: who calls, and the limits on calls.
//! - `target`: the thing that a path names.
//! - `fields`: the body of a request. `list`: lists.
//! - `domains`, `accounts`, `aliases`, `tokens`: the calls. Each translates a request into
//!   operations, and their output into JSON.
//! - `openapi`: the description for programs.
//!
//! The other half, about the mail itself, is in the webapi.

mod accounts;
mod aliases;
mod caller;
mod domains;
mod fields;
mod list;
mod openapi;
mod table;
mod target;
mod tokens;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{StatusCode, header::CONTENT_TYPE, request::Parts},
    response::Response,
    routing::any,
};
use percent_encoding::percent_decode_str;
use postrider_observe::{metrics::PanicIn, panics};
use postrider_receive::login::{ApiUser, Manager, Source};
use serde_json::Value;
use tracing::error;

pub use self::openapi::{Callers, DescribedCall, Description, describe};
use self::{
    caller::Who,
    table::{BodyKind, Call, find},
    target::Target,
};
use super::http::{
    Endpoint, JSON, client_address, header, json_body, parameters::Query, problem::Problem,
    read_body,
};
use crate::Context;

/// The longest body of a request, in bytes.
const BODY_MAX: usize = 1 << 20;
/// How long a call that changes nothing may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The administrative half of the mailbox API.
#[derive(Clone)]
pub struct MailApi {
    context: Context,
}

#[derive(Clone)]
struct Served {
    context: Context,
    endpoint: Endpoint,
    /// The path of the whole API, with a slash at both ends.
    base: Arc<str>,
    tls: bool,
}

impl MailApi {
    /// The API for a running server. Each call has a clone of `context` with its caller.
    #[must_use]
    pub const fn new(context: Context) -> Self {
        Self { context }
    }

    /// The routes of a listener below `base`, which has a slash at both ends: `mail/domains`,
    /// `mail/accounts`, `mail/aliases` and `auth`, each with everything below it. A request needs
    /// the extension [`ConnectInfo`] with the address of the client. `tls`: it came over TLS.
    pub fn router(&self, endpoint: Endpoint, base: &str, tls: bool) -> Router {
        let mut router = Router::new();
        for part in table::PARTS {
            router = router
                .route(&format!("{base}{part}"), any(answer))
                .route(&format!("{base}{part}/"), any(answer))
                .route(&format!("{base}{part}/{{*rest}}"), any(answer));
        }
        let served = Served {
            context: self.context.clone(),
            endpoint,
            base: base.into(),
            tls,
        };
        router
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::new(served))
    }
}

/// A request whose caller is known and may make the call.
struct Asked {
    /// With the caller.
    context: Context,
    who: Who,
    /// The thing that the path names.
    target: Target,
    query: Query,
    body: Bytes,
    /// Where the call comes from.
    source: Source,
    program: String,
    tls: bool,
}

impl Asked {
    /// The platform or the tenant that calls.
    fn manager(&self) -> Result<&Manager, Problem> {
        match &self.who {
            Who::Manager(manager) => Ok(manager),
            _ => Err(Problem::forbidden("this call is for platforms and tenants")),
        }
    }

    /// The holder of an account who calls.
    fn user(&self) -> Result<&ApiUser, Problem> {
        match &self.who {
            Who::User(user) => Ok(user),
            _ => Err(Problem::forbidden("this call is for holders of accounts")),
        }
    }
}

/// The answer to a call that succeeded.
struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    const fn of(body: Value) -> Self {
        let status = StatusCode::OK;
        Self { status, body }
    }

    /// Something was made.
    const fn made(body: Value) -> Self {
        let status = StatusCode::CREATED;
        Self { status, body }
    }
}

async fn answer(State(served): State<Arc<Served>>, request: Request) -> Response {
    match carry_out(&served, request).await {
        Ok(answer) => json_body(answer.status, &answer.body, JSON),
        Err(problem) => problem.into_response(),
    }
}

/// Checks the request in the order of the contract: 401, 429, 403, 404, 413 and 415, 400. The call
/// itself has the rest: 422, 409.
async fn carry_out(served: &Served, request: Request) -> Result<Answer, Problem> {
    let (parts, body) = request.into_parts();
    let elements = elements(&served.base, parts.uri.path())?;
    let borrowed: Vec<&str> = elements.iter().map(String::as_str).collect();
    let found = find(&parts.method, &borrowed);
    let source = source(served, &parts)?;
    let program = header(&parts.headers, "user-agent").unwrap_or_default();
    let call = found.as_ref().map(|(call, _)| *call);
    let (who, _place) = caller::known(served, &parts.headers, call, (&source, program)).await?;
    let no_call = || Problem::no_path(&parts.method, parts.uri.path());
    let (call, elements) = found.ok_or_else(no_call)?;
    if call.needs_issuer && !served.context.statics.oauth.issuer {
        return Err(no_call());
    }
    who.check(call)?;
    let element = elements.first().map_or("", String::as_str);
    let target = Target::find(&served.context, &who, call.target, element).await?;
    check_type(call, &parts)?;
    let body = read_body(body, BODY_MAX, BODY_MAX).await?;
    let mut context = served.context.clone();
    context.caller = who.caller(source.ip);
    let asked = Asked {
        context,
        who,
        target,
        query: Query::new(parts.uri.query().unwrap_or_default()),
        body,
        program: program.to_owned(),
        source,
        tls: served.tls,
    };
    run(call, asked).await
}

/// Runs a call. A call that changes something runs to its end, also if the caller goes away.
async fn run(call: &'static Call, asked: Asked) -> Result<Answer, Problem> {
    if call.reads {
        let answered = tokio::time::timeout(READ_TIMEOUT, (call.run)(asked)).await;
        return answered.map_err(|_| Problem::slow())?;
    }
    let work = panics::within(PanicIn::Http, (call.run)(asked));
    tokio::spawn(work).await.unwrap_or_else(|_| {
        error!("call of the mailbox API panicked");
        Err(Problem::internal("the server failed"))
    })
}

/// Where a call comes from.
fn source(served: &Served, parts: &Parts) -> Result<Source, Problem> {
    let context = &served.context;
    let client = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let client = client.map(|ConnectInfo(address)| address.ip().to_canonical());
    let hops = served.endpoint.forwarded_hops;
    let client = client_address(&parts.headers, client, hops);
    let no_address = || Problem::internal("the proxy gives no usable X-Forwarded-For");
    Ok(Source {
        limiter: Arc::clone(&context.limiter),
        ip: client.ok_or_else(no_address)?,
        behind_proxy: hops > 0,
        now: context.clock.now(),
    })
}

/// A body of another type than the call takes is refused. A request without a type may have any.
fn check_type(call: &Call, parts: &Parts) -> Result<(), Problem> {
    let wanted = match call.kind {
        BodyKind::None => return Ok(()),
        BodyKind::Json => "application/json",
        BodyKind::Form => "application/x-www-form-urlencoded",
    };
    if !parts.headers.contains_key(CONTENT_TYPE) {
        return Ok(());
    }
    let given = header(&parts.headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    match given.eq_ignore_ascii_case(wanted) {
        true => Ok(()),
        false => Err(Problem::wrong_type(wanted)),
    }
}

/// The elements of a path below the base, decoded. A slash at the end counts nothing.
fn elements(base: &str, path: &str) -> Result<Vec<String>, Problem> {
    let below = path.strip_prefix(base).unwrap_or(path);
    let below = below.strip_suffix('/').unwrap_or(below);
    let decoded = below.split('/').map(|element| {
        let text = percent_decode_str(element).decode_utf8();
        text.map(std::borrow::Cow::into_owned)
            .map_err(|_| Problem::unreadable("the path is not UTF-8"))
    });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_slash_counts_nothing() {
        let read = |path: &str| elements("/api/v1/", path).unwrap();
        assert_eq!(read("/api/v1/mail/domains/"), ["mail", "domains"]);
        assert_eq!(read("/api/v1/mail/domains"), ["mail", "domains"]);
        let name = "/api/v1/mail/accounts/a%2Fb%40c";
        assert_eq!(read(name), ["mail", "accounts", "a/b@c"]);
        assert!(elements("/api/v1/", "/api/v1/mail/%ff").is_err());
    }
}
