//! `login ...`

use std::io::{self, Write};

use postrider_admin::op::{
    login_attempts::{List, LoginItem, Whose},
    logins::Unlock,
};

use super::{output::print, running::Running, select::time_of};
use crate::cli::Login;

pub(super) fn run(server: &Running, command: Login) -> anyhow::Result<()> {
    match command {
        Login::List {
            account,
            admin,
            nobody,
            result,
            service,
            after,
            limit,
            json,
        } => {
            let of = match (account, admin, nobody) {
                (Some(account), ..) => Some(Whose::Account(account)),
                (None, true, _) => Some(Whose::Admin),
                (None, false, true) => Some(Whose::Nobody),
                (None, false, false) => None,
            };
            let list = List {
                of,
                result,
                service,
                since: after.map(time_of),
                after: None,
                limit,
            };
            server.print_list(&list, json, "there are no logins", row)
        }
        Login::Unlock { account, network } => unlock(server, account, network),
    }
}

fn row(out: &mut dyn Write, _: u64, item: &LoginItem) -> io::Result<()> {
    let whose = item.account.as_deref().unwrap_or(&item.kind);
    write!(
        out,
        "{}  {} {} {} {} from {}",
        item.last, whose, item.result, item.service, item.mechanism, item.ip
    )?;
    if item.count > 1 {
        write!(out, ", {} times since {}", item.count, item.first)?;
    }
    for (name, text) in [
        ("login", &item.login),
        ("key", &item.key),
        ("client", &item.client),
        ("tls", &item.tls),
    ] {
        if !text.is_empty() {
            write!(out, ", {name} {text}")?;
        }
    }
    writeln!(out)
}

fn unlock(
    server: &Running,
    account: Option<String>,
    network: Option<std::net::IpAddr>,
) -> anyhow::Result<()> {
    let unlocked = server.ask(&Unlock {
        account,
        ip: network,
    })?;
    print(match unlocked.counts {
        0 => "there were no failed logins\n",
        _ => "unlocked\n",
    })
}
