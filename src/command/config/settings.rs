//! `config get`, `config set`, `config unset`, and settings on the command line.

use std::io::{self, Write};

use postrider_admin::op::config::settings::{Get, Set, Setting, SettingItem};

use crate::{
    cli::Settings,
    command::{Usage, desk::Desk, output::print, password::read_secret},
};

pub(super) fn get(desk: &Desk, key: String, json: bool) -> anyhow::Result<()> {
    let row = |out: &mut dyn Write, _: u64, item: &SettingItem| -> io::Result<()> {
        writeln!(out, "{} = {}", item.key, item.value)
    };
    desk.print_list(&Get { key }, json, "domains.conf is empty", row)
}

pub(super) fn set(desk: &Desk, key: String, value: String) -> anyhow::Result<()> {
    let said = format!("{key} set\n");
    let value = match value.as_str() {
        "-" => read_secret("value: ")?,
        _ => value,
    };
    let value = Some(value);
    desk.ask(&Set {
        settings: vec![Setting { key, value }],
    })?;
    print(&said)
}

pub(super) fn unset(desk: &Desk, keys: Vec<String>) -> anyhow::Result<()> {
    let said = format!("{} removed\n", keys.join(", "));
    desk.ask(&Set {
        settings: removed(keys),
    })?;
    print(&said)
}

fn removed(keys: Vec<String>) -> Vec<Setting> {
    let remove = |key| Setting { key, value: None };
    keys.into_iter().map(remove).collect()
}

/// The changes that a command line asks for.
pub(super) fn changes(settings: Settings) -> anyhow::Result<Vec<Setting>> {
    let mut changes = Vec::new();
    for text in settings.set {
        let Some((key, value)) = text.split_once('=') else {
            let sentence = format!("{text:?} is not of the form KEY=VALUE");
            return Err(Usage::new(sentence).into());
        };
        changes.push(Setting {
            key: key.to_owned(),
            value: Some(value.to_owned()),
        });
    }
    changes.extend(removed(settings.unset));
    Ok(changes)
}
