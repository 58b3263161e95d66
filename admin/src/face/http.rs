//! The management API over HTTP, below `/api`. `docs/management-api.md` is its contract.
//!
//! - `table`: the list of all calls: method, path, scope, and the function that answers.
//! - `login`: the caller. `access`: what the caller may do and see. `tokens`: for those that can't
//!   send a login.
//! - `parameters`: the query and the body. `paging`: lists.
//! - `live`: streams.
//! - `problem`: errors. `once`: repeated requests. `openapi`: the description for programs.
//! - `page`: the metrics for Prometheus, beside the API.
//! - `calls`: the calls. Each translates a request into operations, and their output into JSON.

mod access;
mod calls;
mod live;
mod login;
mod once;
mod openapi;
mod page;
pub(super) mod paging;
pub(super) mod parameters;
pub(super) mod problem;
mod table;
mod tokens;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
    routing::any,
};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use postrider_observe::{metrics::PanicIn, panics};
use postrider_webhook::{Places, Share};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::error;

pub(super) use self::login::{
    Client, Known, PasswordMark, address as client_address, by_code, by_password, password_mark,
};
use self::{
    access::Access,
    live::Live,
    once::Repeats,
    parameters::Query,
    problem::Problem,
    table::{Call, find},
    tokens::Tokens,
};
use crate::{Context, op::junk::READ_MAX};

/// The longest body of a request, in bytes.
const BODY_MAX: usize = 1 << 20;
/// How long a caller may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call that changes nothing may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The most calls at a time, in all and of one caller.
const CALLS: (u32, u32) = (512, 32);
/// The most streams at a time, in all and of one caller.
const STREAMS: (u32, u32) = (512, 16);
/// The type of answers.
pub(super) const JSON: &str = "application/json; charset=utf-8";

/// The management API. All listeners share its limits.
#[derive(Clone)]
pub struct Management {
    shared: Arc<Shared>,
}

/// The parts that all listeners share.
struct Shared {
    context: Context,
    places: Places,
    streams: Places,
    stopping: watch::Receiver<bool>,
    repeats: Repeats,
    tokens: Arc<Tokens>,
}

/// The settings of one listener.
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoint {
    /// The number of trusted proxies, each of which adds an address to X-Forwarded-For. 0: the
    /// client connects itself.
    pub forwarded_hops: usize,
}

#[derive(Clone)]
struct Served {
    shared: Arc<Shared>,
    endpoint: Endpoint,
}

impl Management {
    /// The API for a running server. Each call has a clone of `context` with its caller. When
    /// `stopping` is true, streams end.
    #[must_use]
    pub fn new(context: Context, stopping: watch::Receiver<bool>) -> Self {
        Self {
            shared: Arc::new(Shared {
                context,
                places: Places::new(CALLS.0, CALLS.1),
                streams: Places::new(STREAMS.0, STREAMS.1),
                stopping,
                repeats: Repeats::default(),
                tokens: Arc::default(),
            }),
        }
    }

    /// The routes of a listener: `/api` and everything below it. A request needs the extension
    /// [`ConnectInfo`] with the address of the client.
    pub fn router(&self, endpoint: Endpoint) -> Router {
        Router::new()
            .route("/api", any(answer))
            .route("/api/", any(answer))
            .route("/api/{*rest}", any(answer))
            .layer(DefaultBodyLimit::disable())
            .with_state(self.served(endpoint))
    }

    /// The calls below `/api/account` alone, for a listener without the management API.
    pub fn account_router(&self, endpoint: Endpoint) -> Router {
        Router::new()
            .route("/api/account/{*rest}", any(answer))
            .layer(DefaultBodyLimit::disable())
            .with_state(self.served(endpoint))
    }

    fn served(&self, endpoint: Endpoint) -> Served {
        Served {
            shared: Arc::clone(&self.shared),
            endpoint,
        }
    }
}

/// A request whose caller is known and may make the call.
struct Asked {
    /// With the caller.
    context: Context,
    access: Access,
    /// The variable elements of the path, decoded.
    elements: Vec<String>,
    query: Query,
    /// The number in Last-Event-ID, if the field is there.
    last_event_id: Option<String>,
    body: Bytes,
    /// The place of the call, for as long as somebody works on it.
    place: Share,
    streams: Places,
    tokens: Arc<Tokens>,
    stopping: watch::Receiver<bool>,
}

/// The answer to a call that succeeded.
enum Answer {
    /// `{"data": VALUE}`.
    Data(Value),
    /// The same, with more members beside `data`.
    Beside(Value, Map<String, Value>),
    /// The same, with a member beside `data` that must not be stored.
    Secret(Value, Map<String, Value>),
    /// Bytes of any kind.
    Bytes(Vec<u8>),
    /// A stream.
    Live(Live),
}

impl Answer {
    fn null() -> Self {
        Self::Data(Value::Null)
    }

    /// The body as JSON. None: the answer is not JSON.
    fn json(&self, with_secret: bool) -> Option<Value> {
        let (data, beside) = match self {
            Self::Bytes(_) | Self::Live(_) => return None,
            Self::Data(data) => (data, None),
            Self::Beside(data, beside) => (data, Some(beside)),
            Self::Secret(data, beside) => (data, with_secret.then_some(beside)),
        };
        let mut body = Map::new();
        body.insert("data".to_owned(), data.clone());
        body.extend(beside.cloned().unwrap_or_default());
        Some(Value::Object(body))
    }

    fn into_response(self) -> Response {
        match self {
            Self::Bytes(bytes) => {
                let kind = HeaderValue::from_static("application/octet-stream");
                ([(CONTENT_TYPE, kind)], bytes).into_response()
            }
            answer => json_body(StatusCode::OK, &answer.json(true).unwrap_or_default(), JSON),
        }
    }
}

/// A value as the body of an answer.
pub(super) fn json_body(status: StatusCode, value: &Value, kind: &'static str) -> Response {
    let kind = HeaderValue::from_static(kind);
    (status, [(CONTENT_TYPE, kind)], value.to_string()).into_response()
}

async fn answer(State(served): State<Served>, request: Request) -> Response {
    let method = request.method().clone();
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    match carry_out(&served, method, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn carry_out(served: &Served, method: Method, request: Request) -> Result<Response, Problem> {
    let elements = elements(request.uri().path())?;
    let borrowed: Vec<&str> = elements.iter().map(String::as_str).collect();
    if method == Method::GET && borrowed == ["openapi.json"] {
        return Ok(json_body(StatusCode::OK, &openapi::document(), JSON));
    }
    let no_call = || Problem::no_path(&method, request.uri().path());
    let (call, elements) = find(&method, &borrowed).ok_or_else(no_call)?;
    let (parts, body) = request.into_parts();
    let client = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let client = client.map(|ConnectInfo(address)| address.ip().to_canonical());
    let client = login::address(&parts.headers, client, served.endpoint.forwarded_hops);
    let behind_proxy = served.endpoint.forwarded_hops > 0;
    let shared = &served.shared;
    let context = &shared.context;
    let query = Query::new(parts.uri.query().unwrap_or_default());
    let token = query.text("token").filter(|_| call.takes_token());
    let (caller, access) = match token {
        Some(token) => {
            let found = (shared.tokens).find(token, call.path, context.clock.moment());
            login::by_token(context, found, client).await?
        }
        None => login::login(context, &parts.headers, client, behind_proxy).await?,
    };
    let legacy = access.legacy_status;
    let answered = async {
        access.check(call)?;
        let place = shared.places.try_take(&access.name, 1);
        let place = place.ok_or_else(Problem::too_many_calls)?;
        let body = match call.body {
            "message" => {
                let largest = context.statics.largest_message();
                read_body(body, READ_MAX, largest).await?
            }
            _ => read_body(body, BODY_MAX, BODY_MAX).await?,
        };
        let mut context = context.clone();
        context.caller = caller;
        let asked = Asked {
            context,
            query,
            last_event_id: header(&parts.headers, "last-event-id").map(str::to_owned),
            access,
            elements,
            body,
            place,
            streams: shared.streams.clone(),
            tokens: Arc::clone(&shared.tokens),
            stopping: shared.stopping.clone(),
        };
        run(served, call, asked, parts).await
    };
    answered.await.map_err(|problem| problem.legacy(legacy))
}

/// Runs a call. A call that changes something runs to its end, also if the caller goes away.
async fn run(
    served: &Served,
    call: &'static Call,
    asked: Asked,
    parts: Parts,
) -> Result<Response, Problem> {
    if call.reads {
        let access = asked.access.clone();
        let answered = tokio::time::timeout(READ_TIMEOUT, (call.run)(asked)).await;
        return match answered.map_err(|_| Problem::slow())?? {
            Answer::Live(live) => live.respond(parts, &access).await,
            answer => Ok(answer.into_response()),
        };
    }
    let key = once::key(&parts.headers, call)?;
    let request = once::request(&parts, &asked.body);
    let shared = Arc::clone(&served.shared);
    let work = async move {
        match key {
            None => (call.run)(asked).await.map(Answer::into_response),
            Some(key) => {
                let repeats = &shared.repeats;
                repeats.answer(key, request, asked, call.run).await
            }
        }
    };
    let work = panics::within(PanicIn::Http, work);
    tokio::spawn(work).await.unwrap_or_else(|_| {
        error!("call of the management API panicked");
        Err(Problem::internal("the server failed"))
    })
}

/// The elements of a path below `/api`, decoded. A slash at the end counts nothing.
fn elements(path: &str) -> Result<Vec<String>, Problem> {
    let below = path.strip_prefix("/api").unwrap_or(path);
    let below = below.strip_prefix('/').unwrap_or(below);
    let below = below.strip_suffix('/').unwrap_or(below);
    let decoded = below.split('/').map(|element| {
        let text = percent_decode_str(element).decode_utf8();
        text.map(std::borrow::Cow::into_owned)
            .map_err(|_| Problem::unreadable("the path is not UTF-8"))
    });
    decoded.collect()
}

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// The answer to a body that is longer, takes too long or breaks off.
pub(super) async fn read_whole(body: Body, max: usize) -> Result<Bytes, Response> {
    let read = read_body(body, max, max).await;
    read.map_err(Problem::into_response)
}

/// Reads a body of at most `max` bytes, and gives its first bytes, `kept` at most.
pub(super) async fn read_body(body: Body, kept: usize, max: usize) -> Result<Bytes, Problem> {
    let read = async {
        let (mut bytes, mut seen) = (Vec::new(), 0);
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| Problem::unreadable("the body broke off"))?;
            seen += piece.len();
            if seen > max {
                return Err(Problem::too_large(max));
            }
            let room = kept - bytes.len();
            bytes.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        }
        Ok(Bytes::from(bytes))
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await;
    read.map_err(|_| Problem::unreadable("the body took too long"))?
}

/// The members of an object, without those that are null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(mut members) => {
            members.retain(|_, member| !member.is_null());
            Value::Object(members)
        }
        other => other,
    }
}

/// One member.
fn member(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert(name.to_owned(), value.into());
    members
}

/// A serialisable value as JSON.
fn value(of: &impl serde::Serialize) -> Result<Value, Problem> {
    serde_json::to_value(of).map_err(Problem::internal)
}

/// The value of a header as text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_decoded_and_a_last_slash_counts_nothing() {
        let read = |path: &str| elements(path).unwrap();
        assert_eq!(read("/api/queue/messages/"), ["queue", "messages"]);
        assert_eq!(read("/api/principal/a%2Fb%40c"), ["principal", "a/b@c"]);
        assert_eq!(read("/api"), [""]);
        assert!(elements("/api/%ff").is_err());
    }

    #[test]
    fn a_secret_is_answered_but_not_kept() {
        let answer = Answer::Secret(json!(7), member("key", "prk"));
        assert_eq!(answer.json(true), Some(json!({"data": 7, "key": "prk"})));
        assert_eq!(answer.json(false), Some(json!({"data": 7})));
    }
}
