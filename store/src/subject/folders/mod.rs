//! Mailboxes as records: their numbers, their counts, and the UID that each mail has in its
//! mailbox.
//!
//! A mailbox comes into being with its first mail, or when somebody makes it. The counts change in
//! the same operation as the mail. A mail gets a UID from its mailbox when it enters: by delivery,
//! by a move, or when it comes back from deletion. A UID is used once only. A mail that was moved
//! is also found by the places that it had before, as long as the mail is there.
//!
//! | file | its part |
//! |---|---|
//! | `record` | the records |
//! | `change` | operations, and what other subjects call when a mail enters or leaves a mailbox |
//! | `read` | lists of mailboxes and of mails |

mod change;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
mod read;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::{change::RENAME_MAX, read::*, record::*};
use self::{
    change::{ChangeMails, DeleteMails, Make, RemoveFolder, Rename, Summarize, weigh},
    record::{At, Spot},
};
use super::State;
use crate::{
    MailId,
    error::Fault,
    table::{Faults, Table, key::Name, tables},
};

tables! {
    /// Mailboxes.
    counters: Counters,
    /// By account and name.
    folders: Table<(Name, Name), Record> = Table::new("folders"),
    /// By mailbox and UID.
    uids: Table<Spot, At> = Table::new("uids"),
    /// By the number of the mail.
    entries: Table<MailId, Entry> = Table::new("mail_entries"),
    /// By a place that a mail had earlier.
    moved: Table<Spot, At> = Table::new("moved_uids"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.skip(by);
    }
);

operations! {
    Folders, version 1 weighed by weigh:
    Make -> bool, Ordinary;
    Rename -> (), Ordinary;
    RemoveFolder -> (), Reserve;
    ChangeMails -> bool, Ordinary;
    DeleteMails -> bool, Reserve;
    Summarize -> u64, Ordinary;
}

impl State {
    /// Compares mailboxes and places with the mails.
    pub(super) fn check_folders(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.folders;
        let (mut names, mut counted) = (BTreeMap::new(), BTreeMap::new());
        tables.folders.for_each(|(account, name), record| {
            names.insert(record.id, (account, name));
            let empty = Record::new(record.id, None, 0);
            counted.insert(record.id, (record, empty));
            Ok(())
        })?;
        let mut moved = 0;
        self.mail.mails.for_each(|id, mail| {
            let Some(entry) = tables.entries.get(&id)? else {
                faults.add(format!("the mail {id} has no place in its mailbox"));
                return Ok(());
            };
            let name = names.get(&entry.spot.0);
            let is_right = name.is_some_and(|(account, name)| {
                **account == *mail.account && **name == *mail.mailbox
            });
            let found = tables.uids.get(&entry.spot)? == Some(At(id));
            faults.check(is_right && found, || {
                format!("the mail {id} is not found in its mailbox")
            });
            if let Some((_, counts)) = counted.get_mut(&entry.spot.0) {
                counts.count_in(&mail);
            }
            for spot in &entry.was {
                moved += 1;
                let found = tables.moved.get(spot)? == Some(At(id));
                faults.check(found, || {
                    format!("the mail {id} is not found by an earlier place")
                });
            }
            Ok(())
        })?;
        for (record, counts) in counted.values() {
            let is_right = (record.exists, record.unseen, record.size)
                == (counts.exists, counts.unseen, counts.size);
            faults.check(is_right, || {
                let (account, name) = names.get(&record.id).cloned().unwrap_or_default();
                format!("the mailbox {name} of {account} counts {record:?}, and has {counts:?}")
            });
        }
        let mails = self.mail.counters.mails;
        faults.compare("mails with a place", tables.entries.count()?, mails);
        faults.compare("mails by their place", tables.uids.count()?, mails);
        faults.compare("earlier places of mails", tables.moved.count()?, moved);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    change::samples()
}
