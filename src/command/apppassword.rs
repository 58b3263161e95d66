//! `apppassword ...` and `totp ...`

use std::io::{self, Write};

use postrider_admin::op::{
    credentials::{
        AddAppPassword, AppPasswordItem, DisableOtp, EnableOtp, ListAppPasswords, RemoveAppPassword,
    },
    second_factors::Reset,
};
use postrider_store::WebSessionOwner;

use super::{
    desk::Desk,
    output::{print, print_json},
};
use crate::cli::{AppPassword, Totp};

pub(super) fn run(desk: &Desk, command: AppPassword) -> anyhow::Result<()> {
    match command {
        AppPassword::Add {
            account,
            name,
            json,
        } => {
            let added = desk.ask(&AddAppPassword { account, name })?;
            match json {
                true => print_json(&added),
                false => print(&format!("{}\n", added.password)),
            }
        }
        AppPassword::List { account, json } => {
            let none = "there are no app passwords";
            desk.print_list(&ListAppPasswords { account }, json, none, row)
        }
        AppPassword::Rm { account, name } => {
            let said = format!("app password {name} of account {account} removed\n");
            desk.ask(&RemoveAppPassword { account, name })?;
            print(&said)
        }
    }
}

fn row(out: &mut dyn Write, _: u64, item: &AppPasswordItem) -> io::Result<()> {
    let used = item.last_used.as_deref().unwrap_or("never");
    writeln!(
        out,
        "{:<20}  {:<20}  made {}  last used {used}",
        item.account, item.name, item.created
    )
}

pub(super) fn totp(desk: &Desk, command: Totp) -> anyhow::Result<()> {
    match command {
        Totp::Enable { account, json } => {
            let url = None;
            let enabled = desk.ask(&EnableOtp { account, url })?;
            match json {
                true => print_json(&enabled),
                false => print(&format!("{}\n", enabled.url)),
            }
        }
        Totp::Disable {
            account: Some(account),
            ..
        } => {
            let said = format!("account {account} needs no one-time codes any more\n");
            desk.ask(&DisableOtp { account })?;
            print(&said)
        }
        Totp::Disable { account: None, .. } => {
            let of = WebSessionOwner::Admin;
            desk.ask(&Reset { of })?;
            print("the administrator needs no one-time codes any more\n")
        }
    }
}
