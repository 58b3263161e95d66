//! `config account ...`

use std::io::{self, Write};

use postrider_admin::op::config::accounts::{
    AccountItem, Add, List, Remove, Removed, Set, Suspend, Unsuspend,
};

use super::settings::changes;
use crate::{
    cli::Account,
    command::{
        desk::Desk,
        output::{count, print, print_json},
    },
};

pub(super) fn run(desk: &Desk, command: Account) -> anyhow::Result<()> {
    match command {
        Account::Add { account, address } => {
            let said = format!(
                "account {account} added with {address}; set its password: postrider setpassword \
                 {account}\n"
            );
            desk.ask(&Add { account, address })?;
            print(&said)
        }
        Account::Rm { account, json } => {
            let removed = desk.ask(&Remove {
                account: account.clone(),
            })?;
            match json {
                true => print_json(&removed),
                false => print(&told(&removed, &account)),
            }
        }
        Account::List { json } => {
            let list = List { account: None };
            desk.print_list(&list, json, "there are no accounts", row)
        }
        Account::Get { account, json } => {
            let account = Some(account);
            desk.print_list(&List { account }, json, "there is no such account", lines)
        }
        Account::Set { account, settings } => {
            let said = format!("account {account} changed\n");
            let settings = changes(settings)?;
            desk.ask(&Set { account, settings })?;
            print(&said)
        }
        Account::Suspend { account, message } => {
            let said = format!("account {account} suspended\n");
            desk.ask(&Suspend { account, message })?;
            print(&said)
        }
        Account::Unsuspend { account } => {
            let said = format!("account {account} may log in again\n");
            desk.ask(&Unsuspend { account })?;
            print(&said)
        }
    }
}

/// The text about a removed account.
fn told(removed: &Removed, account: &str) -> String {
    let Removed {
        failed,
        in_delivery,
        mails,
        keys,
        suppressions,
    } = *removed;
    let mut text = format!("account {account} removed\n");
    for (number, one, many) in [
        (failed, "queued message failed", "queued messages failed"),
        (
            mails,
            "message of its mailboxes removed",
            "messages of its mailboxes removed",
        ),
        (keys, "API key removed", "API keys removed"),
        (
            suppressions,
            "suppressed address removed",
            "suppressed addresses removed",
        ),
    ] {
        if number > 0 {
            text += &format!("{}\n", count(number, one, many));
        }
    }
    if in_delivery > 0 {
        let messages = count(in_delivery, "message is", "messages are");
        text += &format!(
            "{messages} being delivered now; to end what stays in the queue: postrider queue fail \
             --account {account}\n"
        );
    }
    text
}

fn row(out: &mut dyn Write, _: u64, item: &AccountItem) -> io::Result<()> {
    let state = match item.suspended {
        true => "  (suspended)",
        false => "",
    };
    let addresses = item.addresses.join(" ");
    writeln!(out, "{:<20}  {addresses}{state}", item.name)
}

fn lines(out: &mut dyn Write, _: u64, item: &AccountItem) -> io::Result<()> {
    writeln!(out, "account       {}", item.name)?;
    writeln!(out, "domain        {}", item.domain)?;
    writeln!(out, "description   {}", item.description)?;
    writeln!(out, "full name     {}", item.full_name)?;
    writeln!(out, "addresses     {}", item.addresses.join(" "))?;
    writeln!(out, "aliases       {}", item.aliases.join(" "))?;
    match item.suspended {
        true => writeln!(out, "suspended     {}", item.login_disabled)?,
        false => writeln!(out, "suspended     no")?,
    }
    match item.quota {
        Some(bytes) => writeln!(out, "quota         {bytes} bytes")?,
        None => writeln!(out, "quota         none")?,
    }
    writeln!(out, "failure DSN   {}", item.failure_dsn)?;
    writeln!(
        out,
        "a day         {} recipients, {} of them for the first time",
        item.max_outgoing_messages_per_day, item.max_first_time_recipients_per_day
    )?;
    for (name, url) in [
        ("outgoing hook", &item.outgoing_webhook),
        ("incoming hook", &item.incoming_webhook),
    ] {
        let url = match url.as_str() {
            "" => "none",
            url => url,
        };
        writeln!(out, "{name} {url}")?;
    }
    Ok(())
}
