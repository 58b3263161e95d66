//! `apikey ...`

use std::io::{self, Write};

use clap::ValueEnum;
use postrider_admin::op::keys::{Add, ApiKeyItem, List, Remove};
use postrider_store::{ApiKeyId, Clock, Scope, SystemClock};

use super::{
    output::{print, print_json},
    running::Running,
};
use crate::cli::{ApiKey, KeyScope};

pub(super) fn run(server: &Running, command: ApiKey) -> anyhow::Result<()> {
    match command {
        ApiKey::Add {
            name,
            account,
            scope,
            expires,
            json,
        } => {
            let expires = expires.map(|lifetime| SystemClock.now().after(lifetime));
            let added = server.ask(&Add {
                name,
                account,
                scopes: scopes(&scope),
                expires,
            })?;
            match json {
                true => print_json(&added),
                false => print(&format!("{}\n", added.key)),
            }
        }
        ApiKey::List { account, json } => {
            server.print_list(&List { account }, json, "there are no keys", row)
        }
        ApiKey::Rm { id } => {
            let id = ApiKeyId(id);
            server.ask(&Remove { id })?;
            print(&format!("key {id} removed\n"))
        }
    }
}

/// The given scopes; all of them if none is given.
fn scopes(given: &[KeyScope]) -> Vec<Scope> {
    let scopes = match given {
        [] => KeyScope::value_variants(),
        given => given,
    };
    scopes.iter().copied().map(Scope::from).collect()
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

fn row(out: &mut dyn Write, _: u64, item: &ApiKeyItem) -> io::Result<()> {
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
