//! `undelete ...`, `purge ...`

use std::io::{self, Write};

use anyhow::bail;
use postrider_admin::op::{
    purge::{Account, Blob, Data},
    undelete::{List, Restore, RestoreOne, Restored, UndeleteItem},
};

use super::{
    desk::Desk,
    output::{List as Output, bytes, count, print, until_closed},
};
use crate::cli::{Purge, Undelete};

pub(super) fn run(desk: &Desk, command: Undelete) -> anyhow::Result<()> {
    match command {
        Undelete::List {
            account,
            limit,
            json,
        } => {
            let none = format!("{account} has no deleted mail");
            let list = List {
                account,
                after: None,
                skip: 0,
                limit,
            };
            desk.print_list(&list, json, &none, row)
        }
        Undelete::Restore {
            account,
            names,
            all,
            json,
        } => {
            let mails = names.iter().map(|name| RestoreOne {
                hash: name.clone(),
                received: None,
            });
            let restore = Restore {
                account,
                mails: (!all).then(|| mails.collect()),
            };
            let mut missing = 0_u64;
            let row = |out: &mut dyn Write, number: u64, restored: &Restored| {
                let index = usize::try_from(number).unwrap_or(usize::MAX);
                let name = names.get(index).map_or("mail", String::as_str);
                writeln!(out, "{name}: {}", outcome(restored))
            };
            let none = "there is no deleted mail";
            let mut list = Output::new(io::stdout(), json, row);
            let written = desk.call(&restore, |restored| {
                missing += u64::from(restored != Restored::Success);
                list.add(&restored)
            })?;
            until_closed(written.and_then(|()| list.end(none)))?;
            match missing {
                0 => Ok(()),
                missing => bail!("{} not restored", count(missing, "mail was", "mails were")),
            }
        }
    }
}

/// What became of a mail, in words.
fn outcome(restored: &Restored) -> String {
    match restored {
        Restored::Success => "is in the inbox".to_owned(),
        Restored::NotFound => "there is no such deleted mail".to_owned(),
        Restored::Error { reason } => format!("failed: {reason}"),
    }
}

fn row(out: &mut dyn Write, _: u64, item: &UndeleteItem) -> io::Result<()> {
    writeln!(
        out,
        "{}  deleted {}, goes {}, {}",
        item.hash,
        item.deleted_at,
        item.expires_at,
        bytes(item.size)
    )?;
    writeln!(out, "    from {}", item.item.from)?;
    writeln!(out, "    {}", item.item.subject)
}

pub(super) fn purge(desk: &Desk, command: Purge) -> anyhow::Result<()> {
    let (purged, one, many) = match command {
        Purge::Account { account, all: _ } => {
            let purged = desk.ask(&Account { account })?;
            (purged, "deleted mail", "deleted mails")
        }
        Purge::Data => (desk.ask(&Data {})?, "record", "records"),
        Purge::Blob => {
            desk.ask(&Blob {})?;
            return print("the room of texts that are gone was given back\n");
        }
    };
    print(&format!("removed {}\n", count(purged.removed, one, many)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deleted_mail_has_three_lines() {
        let item: UndeleteItem = serde_json::from_value(json!({
            "hash": "ZDc", "size": 1451, "deletedAt": "2026-03-01T09:00:00Z",
            "expiresAt": "2026-03-31T09:00:00Z", "collection": "email",
            "item": {"type": "email", "from": "Ann <ann@a.test>", "subject": "Hi",
                "received_at": "2026-02-01T09:00:00Z"},
        }))
        .unwrap();
        let mut out = Vec::new();
        row(&mut out, 0, &item).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ZDc  deleted 2026-03-01T09:00:00Z, goes 2026-03-31T09:00:00Z, 1.4 kB\n    \
             from Ann <ann@a.test>\n    Hi\n"
        );
    }
}
