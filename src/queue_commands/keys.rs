//! What each `apikey` command does.

use std::io::{self, Write};

use anyhow::Context;
use postrider_admin::{filter, request::Request, shape::ApiKeyItem};
use postrider_store::{ApiKeyId, Clock, Scope, SystemClock};
use serde_json::Value;

use super::Server;
use crate::{
    cli::{ApiKeys, KeyScope},
    commands::print,
};

pub(super) fn run(server: &Server, command: ApiKeys) -> anyhow::Result<()> {
    match command {
        ApiKeys::Add {
            name,
            account,
            scope,
            expires,
            json,
        } => {
            let all = [
                KeyScope::Send,
                KeyScope::Events,
                KeyScope::Suppression,
                KeyScope::Messages,
            ];
            let scopes = if scope.is_empty() {
                &all
            } else {
                scope.as_slice()
            };
            let expires = expires.map(|text| {
                let period = filter::duration(&text);
                let period = period.with_context(|| {
                    format!("--expires {text:?} is not a duration such as \"90d\"")
                })?;
                anyhow::Ok(SystemClock.now().after(period))
            });
            let request = Request::ApiKeyAdd {
                name,
                account,
                scopes: scopes.iter().copied().map(Scope::from).collect(),
                expires: expires.transpose()?,
            };
            let made = server.ask_one(&request)?;
            let made = made.context("the server gave no answer")?;
            if json {
                return print(&format!("{made}\n"));
            }
            let key = made.get("key").and_then(Value::as_str);
            print(&format!("{}\n", key.unwrap_or_default()))
        }
        ApiKeys::List { account, json } => {
            let request = Request::ApiKeyList { account };
            server.print_list(&request, json, "there are no keys", row)
        }
        ApiKeys::Rm { id } => {
            let id = ApiKeyId(id);
            server.ask_one(&Request::ApiKeyRemove { id })?;
            print(&format!("key {id} removed\n"))
        }
    }
}

impl From<KeyScope> for Scope {
    fn from(scope: KeyScope) -> Self {
        match scope {
            KeyScope::Send => Self::Send,
            KeyScope::Events => Self::Events,
            KeyScope::Suppression => Self::Suppression,
            KeyScope::Messages => Self::Messages,
        }
    }
}

fn row(out: &mut dyn Write, _: u64, item: ApiKeyItem) -> io::Result<()> {
    let scopes: Vec<String> = item
        .scopes
        .iter()
        .map(|scope| format!("{scope:?}").to_lowercase())
        .collect();
    let expires = item.expires.as_deref().unwrap_or("never");
    writeln!(
        out,
        "{:>6}  {:<20}  {:<20}  {}  expires {expires}",
        item.id,
        item.name,
        item.account,
        scopes.join(",")
    )
}
