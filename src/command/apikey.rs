//! `apikey ...`

use std::io::{self, Write};

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
            domain,
            tenant,
            legacy_status,
            expires,
            json,
        } => {
            let expires = expires.map(|lifetime| SystemClock.now().after(lifetime));
            let added = server.ask(&Add {
                name,
                account: account.unwrap_or_default(),
                scopes: scopes(&scope),
                expires,
                domains: domain,
                legacy_status,
                tenant: tenant.unwrap_or_default(),
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

/// The given scopes; all scopes of the webapi if none is given.
fn scopes(given: &[KeyScope]) -> Vec<Scope> {
    match given {
        [] => {
            let all = Scope::ALL.into_iter();
            all.filter(|scope| !scope.is_management()).collect()
        }
        given => given.iter().copied().map(Scope::from).collect(),
    }
}

impl From<KeyScope> for Scope {
    fn from(scope: KeyScope) -> Self {
        match scope {
            KeyScope::Send => Self::Send,
            KeyScope::Events => Self::Events,
            KeyScope::Suppression => Self::Suppression,
            KeyScope::Messages => Self::Messages,
            KeyScope::Manage => Self::Manage,
            KeyScope::ManageRead => Self::ManageRead,
            KeyScope::ManageQueue => Self::ManageQueue,
            KeyScope::ManageAccounts => Self::ManageAccounts,
            KeyScope::ManageObserve => Self::ManageObserve,
            KeyScope::ManageMail => Self::ManageMail,
        }
    }
}

fn row(out: &mut dyn Write, _: u64, item: &ApiKeyItem) -> io::Result<()> {
    let scopes: Vec<&str> = item.scopes.iter().map(|scope| scope.name()).collect();
    let expires = item.expires.as_deref().unwrap_or("never");
    let tenant = match item.tenant.as_str() {
        "" => None,
        tenant => Some(format!("tenant {tenant}")),
    };
    let reach: Vec<String> = item.domains.iter().cloned().chain(tenant).collect();
    let domains = match reach.as_slice() {
        [] => String::new(),
        reach => format!("  only {}", reach.join(",")),
    };
    writeln!(
        out,
        "{:>6}  {:<20}  {:<20}  {}  expires {expires}{domains}",
        item.id,
        item.name,
        item.account,
        scopes.join(",")
    )
}
