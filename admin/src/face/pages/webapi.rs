//! The commands and calls that do the same as a page of the holder of an account. A holder reaches
//! the webapi, and the part of the management API about the own account.

use std::collections::BTreeMap;

use postrider_config::HttpService;
use serde_json::{Map, Value};

use super::{asked::Asked, command::AsCommand};

/// The ways to log in to the account.
const AUTH: &str = "/api/account/auth";

/// The path of the webapi. None: no port has it.
fn base(asked: &Asked) -> Option<&str> {
    let mut listeners = asked.context.statics.listeners.values();
    let found = listeners.find_map(|it| enabled(&it.webapi_https, &it.webapi_http));
    found.map(|service| service.path.as_str())
}

fn enabled<'a>(https: &'a HttpService, http: &'a HttpService) -> Option<&'a HttpService> {
    [https, http].into_iter().find(|service| service.enabled)
}

/// A request with those fields that have a value, by name.
pub(super) fn request<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter();
    let given = fields.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let given: BTreeMap<String, Value> = given.collect();
    Value::Object(given.into_iter().collect::<Map<_, _>>())
}

/// The call of a method of v1.
pub(super) fn v1(asked: &Asked, method: &str, request: &Value) -> AsCommand {
    match base(asked) {
        Some(base) => command(method, request).post(&format!("{base}v1/{method}"), request),
        None => AsCommand::none(),
    }
}

/// The call of a method of v0.
pub(super) fn v0(asked: &Asked, method: &str, request: &Value) -> AsCommand {
    match base(asked) {
        Some(base) => command(method, request).post_form(&format!("{base}v0/{method}"), request),
        None => AsCommand::none(),
    }
}

fn command(method: &str, request: &Value) -> AsCommand {
    AsCommand::cli(["webapi", method, &request.to_string()])
}

/// The call that shows the ways to log in to the account, or changes them.
pub(super) fn auth(asked: &Asked, changes: Option<&Value>) -> AsCommand {
    let mut listeners = asked.context.statics.listeners.values();
    let is_there = listeners.any(|it| enabled(&it.admin_https, &it.admin_http).is_some());
    let login = asked.session.as_ref().map(|session| &session.login);
    match login.filter(|_| is_there) {
        Some(login) => AsCommand::none().call_by_login(login, AUTH, changes),
        None => AsCommand::none(),
    }
}
