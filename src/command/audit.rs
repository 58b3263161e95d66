//! `audit ...`

use std::io::{self, Write};

use postrider_admin::op::audit::{AuditItem, List};
use serde_json::Value;

use super::{desk::Desk, select::time_of};
use crate::cli::Audit;

pub(super) fn run(desk: &Desk, command: Audit) -> anyhow::Result<()> {
    let Audit::List {
        who,
        operation,
        target,
        after,
        before,
        limit,
        json,
    } = command;
    let list = List {
        who,
        operation,
        target,
        since: after.map(time_of),
        before: before.map(time_of),
        limit,
    };
    desk.print_list(&list, json, "there are no entries", row)
}

fn row(out: &mut dyn Write, _: u64, item: &AuditItem) -> io::Result<()> {
    let from = item.from.map(|ip| format!(" from {ip}"));
    writeln!(
        out,
        "{:>6}  {}  {} {}{}  {} {}: {}",
        item.id,
        item.time,
        item.who.kind,
        item.who.name,
        from.unwrap_or_default(),
        item.operation,
        item.target,
        item.outcome,
    )?;
    for (sign, values) in [("-", &item.before), ("+", &item.after)] {
        let Value::Object(values) = values else {
            continue;
        };
        for (key, value) in values {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            writeln!(out, "        {sign} {key} = {value}")?;
        }
    }
    Ok(())
}
