//! `queue suppress ...`: the suppression lists.

use std::io::{self, Write};

use postrider_admin::op::suppression::{self, Add, Lookup, Remove, SuppressionItem, Wanted};

use super::{
    output::{List, print, until_closed},
    running::Running,
};
use crate::cli::{OnList, Suppress};

pub(super) fn run(server: &Running, command: Suppress) -> anyhow::Result<()> {
    match command {
        Suppress::List {
            account,
            text,
            list,
            manual,
            json,
        } => {
            let which = Wanted {
                account,
                text,
                list,
                manual,
            };
            let list = suppression::List { which };
            server.print_list(&list, json, "no address is suppressed", row)
        }
        Suppress::Add {
            account,
            address,
            reason,
        } => add(
            server,
            Add {
                account,
                address,
                reason,
                list: String::new(),
            },
        ),
        Suppress::Remove(entry) => remove(server, entry),
        Suppress::Lookup { entry, json } => lookup(server, entry, json),
    }
}

fn add(server: &Running, add: Add) -> anyhow::Result<()> {
    server.ask(&add)?;
    let Add {
        account, address, ..
    } = add;
    print(&format!("{address} is suppressed for {account}\n"))
}

fn remove(server: &Running, entry: OnList) -> anyhow::Result<()> {
    let said = format!(
        "{} is no longer suppressed for {}\n",
        entry.address, entry.account
    );
    server.ask(&Remove {
        account: entry.account,
        address: entry.address,
        list: entry.list,
    })?;
    print(&said)
}

fn lookup(server: &Running, entry: OnList, json: bool) -> anyhow::Result<()> {
    let none = format!("{} is not suppressed for {}", entry.address, entry.account);
    let found = server.ask(&Lookup {
        account: entry.account,
        address: entry.address,
        list: entry.list,
    })?;
    let mut list = List::new(io::stdout().lock(), json, row);
    let written = found.iter().try_for_each(|item| list.add(item));
    let written = written.and_then(|()| list.end(&none));
    Ok(until_closed(written)?)
}

fn row(out: &mut dyn Write, _: u64, item: &SuppressionItem) -> io::Result<()> {
    let list = match item.list.as_str() {
        "" => String::new(),
        list => format!(" (list {list})"),
    };
    let until = item.expires.as_ref().map(|time| format!(" (until {time})"));
    writeln!(
        out,
        "{}  {:<40}  {}  {}{list}{}",
        item.account,
        item.base_address,
        item.created,
        item.reason,
        until.unwrap_or_default()
    )
}
