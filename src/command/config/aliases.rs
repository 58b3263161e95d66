//! `config alias ...`

use std::io::{self, Write};

use postrider_admin::op::config::aliases::{
    Add, AddMembers, AliasItem, List, Remove, RemoveMembers, Update,
};

use crate::{
    cli::Alias,
    command::{desk::Desk, output::print},
};

pub(super) fn run(desk: &Desk, command: Alias) -> anyhow::Result<()> {
    let said = match &command {
        Alias::Add { alias, .. } => format!("alias {alias} added\n"),
        Alias::Rm { alias } => format!("alias {alias} removed\n"),
        Alias::Set { alias, .. }
        | Alias::AddMembers { alias, .. }
        | Alias::RmMembers { alias, .. } => format!("alias {alias} changed\n"),
        Alias::List { .. } => String::new(),
    };
    match command {
        Alias::List { domain, json } => {
            return desk.print_list(&List { domain }, json, "there are no aliases", row);
        }
        Alias::Add {
            alias,
            members,
            post_public,
            list_members,
            allow_msg_from,
        } => desk.ask(&Add {
            alias,
            members,
            post_public,
            list_members,
            allow_msg_from,
        }),
        Alias::Rm { alias } => desk.ask(&Remove { alias }),
        Alias::Set {
            alias,
            post_public,
            list_members,
            allow_msg_from,
        } => desk.ask(&Update {
            alias,
            post_public,
            list_members,
            allow_msg_from,
        }),
        Alias::AddMembers { alias, members } => desk.ask(&AddMembers { alias, members }),
        Alias::RmMembers { alias, members } => desk.ask(&RemoveMembers { alias, members }),
    }?;
    print(&said)
}

fn row(out: &mut dyn Write, _: u64, item: &AliasItem) -> io::Result<()> {
    let mut settings = String::new();
    for (name, on) in [
        ("post_public", item.post_public),
        ("list_members", item.list_members),
        ("allow_msg_from", item.allow_msg_from),
    ] {
        if on {
            settings += &format!("  {name}");
        }
    }
    writeln!(
        out,
        "{:<30}  {}{settings}",
        item.alias,
        item.members.join(" ")
    )
}
