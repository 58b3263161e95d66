//! `config principal ...`

use std::io::{self, Write};

use anyhow::bail;
use postrider_admin::op::{
    config::principals::RemoveAll,
    principals::{Kind, List, PrincipalItem},
};

use crate::{
    cli::{Principal, PrincipalType},
    command::{desk::Desk, output::print},
};

pub(super) fn run(desk: &Desk, command: Principal) -> anyhow::Result<()> {
    match command {
        Principal::List {
            types,
            filter,
            json,
        } => {
            let found = found(desk, &types, &filter)?;
            print_all(&found, json)
        }
        Principal::Rm {
            types,
            filter,
            confirm,
        } => {
            let found = found(desk, &types, &filter)?;
            if found.is_empty() {
                return print("nothing matches\n");
            }
            if !confirm {
                print_all(&found, false)?;
                bail!("nothing was removed; say --confirm to remove all of these");
            }
            let removed = desk.ask(&RemoveAll::of(&found, kinds(&types), filter))?;
            print(&format!("{} removed\n", removed.count))
        }
    }
}

fn kinds(types: &[PrincipalType]) -> Vec<Kind> {
    let kinds = types.iter().map(|it| match it {
        PrincipalType::Account => Kind::Individual,
        PrincipalType::List => Kind::List,
        PrincipalType::Domain => Kind::Domain,
    });
    kinds.collect()
}

fn found(desk: &Desk, types: &[PrincipalType], filter: &str) -> anyhow::Result<Vec<PrincipalItem>> {
    let mut found = Vec::new();
    let list = List {
        kinds: kinds(types),
    };
    desk.call(&list, |item| {
        found.push(item);
        Ok(())
    })??;
    found.retain(|item| item.has_words(filter));
    Ok(found)
}

fn print_all(found: &[PrincipalItem], json: bool) -> anyhow::Result<()> {
    if json {
        return crate::command::output::print_json(&found);
    }
    let mut text = Vec::new();
    for item in found {
        row(&mut text, item)?;
    }
    print(&String::from_utf8_lossy(&text))
}

fn row(out: &mut dyn Write, item: &PrincipalItem) -> io::Result<()> {
    let emails = item.emails.join(" ");
    let kind = match item.kind {
        Kind::Individual => "account",
        kind => kind.name(),
    };
    writeln!(
        out,
        "{:>6}  {kind:<8}  {:<24}  {emails}",
        item.id, item.name
    )
}
