//! Mailboxes in the model.

use std::collections::BTreeMap;

use super::{
    ChangeMails, Counters, DeleteMails, Entry, Folder, FolderId, ListRows, Located, MailRow, Make,
    Record, RemoveFolder, Rename, RowPage, SpecialUse, Summarize, Summary,
    change::RENAME_MAX,
    read::{Collected, ROWS_LOOKED_AT},
    record::{SPOTS_MAX, Spot, is_seen},
};
use crate::{
    Mail, MailId, StoreError,
    subject::{ModelPart, ModelState},
};

type Name = (String, String);

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    counters: Counters,
    folders: BTreeMap<Name, Record>,
    entries: BTreeMap<MailId, Entry>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.counters.skip(by);
    }
}

fn name(account: &str, mailbox: &str) -> Name {
    (account.to_owned(), mailbox.to_owned())
}

impl Model {
    fn new_folder(&mut self, special_use: Option<SpecialUse>) -> Record {
        let id = self.counters.next_folder();
        Record::new(id, special_use, self.counters.skipped)
    }

    fn changed(&mut self, name: Name, record: Record) {
        let changed = self.counters.next_change();
        self.folders.insert(name, Record { changed, ..record });
    }

    /// Changes a mailbox that is there.
    fn change(&mut self, mail: &Mail, change: impl FnOnce(&mut Record)) {
        let name = name(&mail.account, &mail.mailbox);
        if let Some(mut record) = self.folders.get(&name).copied() {
            change(&mut record);
            self.changed(name, record);
        }
    }

    fn enter(&mut self, mail: &Mail, was: Vec<Spot>, summary: Option<Box<Summary>>) {
        let name = name(&mail.account, &mail.mailbox);
        let mut record = match self.folders.get(&name) {
            Some(record) => *record,
            None => self.new_folder(SpecialUse::usual(&mail.mailbox)),
        };
        // No test of the model has so many.
        let uid = record.take_uid(self.counters.skipped).unwrap_or(u32::MAX);
        record.count_in(mail);
        let spot = (record.id, uid);
        self.entries.insert(mail.id, Entry { spot, was, summary });
        self.changed(name, record);
    }

    /// A mail came into its mailbox.
    pub(crate) fn add(&mut self, mail: &Mail, summary: Option<Box<Summary>>) {
        self.enter(mail, Vec::new(), summary);
    }

    /// A mail is in no mailbox any more.
    pub(crate) fn remove(&mut self, mail: &Mail) {
        self.change(mail, |record| record.count_out(mail));
        self.entries.remove(&mail.id);
    }

    /// A mail was changed.
    pub(crate) fn refile(&mut self, before: &Mail, after: &Mail) {
        if before.mailbox != after.mailbox {
            self.change(before, |record| record.count_out(before));
            let entry = self.entries.remove(&before.id);
            let (mut was, mut summary) = (Vec::new(), None);
            if let Some(entry) = entry {
                was = entry.was;
                was.push(entry.spot);
                let too_many = was.len().saturating_sub(SPOTS_MAX);
                was.drain(..too_many);
                summary = entry.summary;
            }
            self.enter(after, was, summary);
        } else if before.flags != after.flags {
            self.change(after, |record| {
                if is_seen(before) != is_seen(after) {
                    record.count_out(before);
                    record.count_in(after);
                }
            });
        }
    }

    pub(super) fn folder(&self, account: &str, mailbox: &str) -> Option<Folder> {
        let record = self.folders.get(&name(account, mailbox))?;
        Some(record.folder(mailbox, self.counters.skipped))
    }

    pub(super) fn list(&self, account: &str) -> Vec<Folder> {
        let all = self.folders.iter();
        let own = all.filter(|((of, _), _)| of == account);
        own.map(|((_, mailbox), record)| record.folder(mailbox, self.counters.skipped))
            .collect()
    }

    /// The mail that is at a place, or was.
    fn find(&self, folder: FolderId, uid: u32) -> Option<(MailId, &Entry)> {
        let mut all = self.entries.iter();
        let spot = (folder, uid);
        let found = all.find(|(_, entry)| entry.spot == spot || entry.was.contains(&spot));
        found.map(|(id, entry)| (*id, entry))
    }
}

impl ModelState {
    pub(super) fn row(&self, id: MailId) -> Option<MailRow> {
        let entry = self.folders.entries.get(&id)?;
        Some(MailRow {
            uid: entry.spot.1,
            mail: self.mail.mails.get(&id)?.clone(),
            summary: entry.summary.clone(),
        })
    }

    pub(super) fn locate(&self, account: &str, mailbox: &str, uid: u32) -> Located {
        let Some(record) = self.folders.folders.get(&name(account, mailbox)) else {
            return Located::NoFolder;
        };
        let Some((id, entry)) = self.folders.find(record.id, uid) else {
            return Located::Nowhere;
        };
        match self.row(id) {
            None => Located::Nowhere,
            Some(row) if entry.spot == (record.id, uid) => Located::Here(Box::new(row)),
            Some(row) => Located::Moved {
                mailbox: row.mail.mailbox,
                uid: row.uid,
            },
        }
    }

    pub(super) fn list_rows(&self, asked: &ListRows) -> Option<RowPage> {
        let record = self
            .folders
            .folders
            .get(&name(&asked.account, &asked.mailbox))?;
        let mut uids = BTreeMap::new();
        for (id, entry) in &self.folders.entries {
            if entry.spot.0 == record.id {
                uids.insert(entry.spot.1, *id);
            }
        }
        let mut collected = Collected::new(asked);
        let mut below = asked.below.unwrap_or(u32::MAX);
        for (looked, (uid, id)) in uids.range(..below).rev().enumerate() {
            if collected.is_full() || looked >= ROWS_LOOKED_AT {
                return Some(collected.page(Some(below)));
            }
            if !collected.skips()
                && let Some(row) = self.row(*id)
            {
                collected.add(row);
            }
            below = *uid;
        }
        Some(collected.page(None))
    }

    /// The mails with these UIDs of a mailbox. None: one of them is not there.
    fn mails_at(&self, account: &str, mailbox: &str, uids: &[u32]) -> Option<Vec<MailId>> {
        let mut uids = uids.to_vec();
        uids.sort_unstable();
        uids.dedup();
        let find = |uid| match self.locate(account, mailbox, uid) {
            Located::Here(row) => Some(row.mail.id),
            _ => None,
        };
        // An empty list is found in a mailbox that is there.
        self.folders.folder(account, mailbox)?;
        uids.into_iter().map(find).collect()
    }
}

impl Make {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let (folders, name) = (&mut model.folders, name(&self.account, &self.mailbox));
        if folders.folders.contains_key(&name) {
            return false;
        }
        let special_use = self.special_use.or(SpecialUse::usual(&self.mailbox));
        let record = folders.new_folder(special_use);
        folders.changed(name, record);
        true
    }
}

impl Rename {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> Result<(), StoreError> {
        let folders = &mut model.folders;
        let (from, to) = (
            name(&self.account, &self.from),
            name(&self.account, &self.to),
        );
        let record = folders.folders.get(&from).copied();
        let record = record.ok_or(StoreError::NoFolder)?;
        if folders.folders.contains_key(&to) {
            return Err(StoreError::FolderExists);
        }
        if record.exists > RENAME_MAX {
            return Err(StoreError::FolderTooLarge);
        }
        folders.folders.remove(&from);
        folders.changed(to, record);
        for (id, entry) in &folders.entries {
            if entry.spot.0 == record.id
                && let Some(mail) = model.mail.mails.get_mut(id)
            {
                mail.mailbox.clone_from(&self.to);
            }
        }
        Ok(())
    }
}

impl RemoveFolder {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> Result<(), StoreError> {
        let (folders, name) = (&mut model.folders, name(&self.account, &self.mailbox));
        let record = folders.folders.get(&name).ok_or(StoreError::NoFolder)?;
        if record.exists > 0 {
            return Err(StoreError::FolderNotEmpty);
        }
        folders.folders.remove(&name);
        folders.counters.next_change();
        Ok(())
    }
}

impl ChangeMails {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let found = model.mails_at(&self.account, &self.mailbox, &self.uids);
        let Some(ids) = found else {
            return false;
        };
        for id in ids {
            model.change_mail(&self.account, id, &self.change);
        }
        true
    }
}

impl DeleteMails {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let found = model.mails_at(&self.account, &self.mailbox, &self.uids);
        let Some(ids) = found else {
            return false;
        };
        for id in ids {
            model.delete_mail(id, self.now, self.keep);
        }
        true
    }
}

impl Summarize {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let mut count = 0;
        for (id, summary) in self.summaries {
            if let Some(entry) = model.folders.entries.get_mut(&id)
                && entry.summary.is_none()
            {
                entry.summary = Some(Box::new(summary));
                count += 1;
            }
        }
        count
    }
}
