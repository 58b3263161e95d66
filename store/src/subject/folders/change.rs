//! Changes of mailboxes, and of many mails in one.

use std::{collections::BTreeSet, ops::Bound};

use serde::{Deserialize, Serialize};

use super::{
    At, Entry, FolderId, Op, Record, SpecialUse, Spot, Summary, Tables,
    record::{SPOTS_MAX, is_seen},
};
use crate::{
    KeepDeleted, Mail, MailChange, MailId, Store, StoreError, Time,
    error::Fault,
    subject::{PORTION, State},
    table::key::Name,
};

/// The most mails of a mailbox that gets another name.
pub const RENAME_MAX: u64 = 10_000;

pub(super) fn key(account: &str, mailbox: &str) -> (Name, Name) {
    (account.into(), mailbox.into())
}

fn key_of(mail: &Mail) -> (Name, Name) {
    key(&mail.account, &mail.mailbox)
}

impl Tables {
    fn new_folder(&mut self, special_use: Option<SpecialUse>) -> Record {
        let id = self.counters.next_folder();
        Record::new(id, special_use, self.counters.skipped)
    }

    /// The record of a mailbox. It is made if it is not there.
    fn folder_of(&mut self, key: &(Name, Name)) -> Result<Record, Fault> {
        match self.folders.get(key)? {
            Some(record) => Ok(record),
            None => Ok(self.new_folder(SpecialUse::usual(&key.1))),
        }
    }

    /// Writes a mailbox that changed.
    fn changed(&mut self, key: (Name, Name), record: Record) {
        let changed = self.counters.next_change();
        self.folders.put(key, Record { changed, ..record });
    }

    /// The mail with a UID of a mailbox.
    pub(super) fn at(&self, folder: FolderId, uid: u32) -> Result<Option<MailId>, Fault> {
        Ok(self.uids.get(&(folder, uid))?.map(|at| at.0))
    }

    /// The mails of a mailbox, by UID.
    fn all_at(&self, folder: FolderId) -> Result<Vec<(Spot, At)>, Fault> {
        let (from, to) = ((folder, 0), (folder, u32::MAX));
        let range = (Bound::Included(&from), Bound::Included(&to));
        self.uids.range(range.0, range.1)?.collect()
    }

    /// Takes the next UID of a mailbox. If it has no more, it begins anew under another number, so
    /// that its UIDs are valid with another value.
    fn take_uid(&mut self, record: &mut Record) -> Result<u32, Fault> {
        let skipped = self.counters.skipped;
        if let Some(uid) = record.take_uid(skipped) {
            return Ok(uid);
        }
        let (before, id) = (record.id, self.counters.next_folder());
        let fresh = Record::new(id, record.special_use, skipped);
        *record = Record {
            exists: record.exists,
            unseen: record.unseen,
            size: record.size,
            ..fresh
        };
        for (spot, at) in self.all_at(before)? {
            self.uids.remove(&spot);
            let uid = record.take_uid(skipped).unwrap_or(u32::MAX);
            self.uids.put((id, uid), at);
            if let Some(entry) = self.entries.get(&at.0)? {
                let spot = (id, uid);
                self.entries.put(at.0, Entry { spot, ..entry });
            }
        }
        Ok(record.take_uid(skipped).unwrap_or(u32::MAX))
    }

    /// Removes the places that a mail had.
    fn forget(&mut self, spots: &[Spot]) {
        for spot in spots {
            self.moved.remove(spot);
        }
    }
}

impl State {
    fn tell_of_mail(&mut self, account: &str) {
        if !self.effects.mail_changed.contains(account) {
            self.effects.mail_changed.insert(account.into());
        }
    }

    /// Gives a mail a place in its mailbox.
    fn enter(
        &mut self,
        mail: &Mail,
        was: Vec<Spot>,
        summary: Option<Box<Summary>>,
    ) -> Result<(), Fault> {
        let tables = &mut self.folders;
        let key = key_of(mail);
        let mut record = tables.folder_of(&key)?;
        let uid = tables.take_uid(&mut record)?;
        record.count_in(mail);
        let spot = (record.id, uid);
        tables.uids.put_new(spot, At(mail.id));
        tables.entries.put(mail.id, Entry { spot, was, summary });
        tables.changed(key, record);
        self.tell_of_mail(&mail.account);
        Ok(())
    }

    /// Takes a mail out of its mailbox, and gives what was kept of it.
    fn leave(&mut self, mail: &Mail) -> Result<Option<Entry>, Fault> {
        let tables = &mut self.folders;
        let key = key_of(mail);
        if let Some(mut record) = tables.folders.get(&key)? {
            record.count_out(mail);
            tables.changed(key, record);
        }
        let entry = tables.entries.take(&mail.id)?;
        if let Some(entry) = &entry {
            tables.uids.remove(&entry.spot);
        }
        self.tell_of_mail(&mail.account);
        Ok(entry)
    }

    /// A mail came into its mailbox.
    pub(crate) fn enter_folder(
        &mut self,
        mail: &Mail,
        summary: Option<Box<Summary>>,
    ) -> Result<(), Fault> {
        self.enter(mail, Vec::new(), summary)
    }

    /// A mail left its mailbox, and is in no other.
    pub(crate) fn leave_folder(&mut self, mail: &Mail) -> Result<(), Fault> {
        if let Some(entry) = self.leave(mail)? {
            self.folders.forget(&entry.was);
        }
        Ok(())
    }

    /// A mail was changed. It may be in another mailbox now.
    pub(crate) fn change_place(&mut self, before: &Mail, after: &Mail) -> Result<(), Fault> {
        if before.mailbox != after.mailbox {
            let (mut was, mut summary) = (Vec::new(), None);
            if let Some(mut entry) = self.leave(before)? {
                entry.was.push(entry.spot);
                self.folders.moved.put(entry.spot, At(before.id));
                let too_many = entry.was.len().saturating_sub(SPOTS_MAX);
                let forgotten: Vec<_> = entry.was.drain(..too_many).collect();
                self.folders.forget(&forgotten);
                (was, summary) = (entry.was, entry.summary);
            }
            return self.enter(after, was, summary);
        }
        if before.flags == after.flags {
            return Ok(());
        }
        let (tables, key) = (&mut self.folders, key_of(after));
        if let Some(mut record) = tables.folders.get(&key)? {
            if is_seen(before) != is_seen(after) {
                record.count_out(before);
                record.count_in(after);
            }
            tables.changed(key, record);
        }
        self.tell_of_mail(&after.account);
        Ok(())
    }

    /// Gives all mails places that an earlier program gave none, in the order of their numbers.
    pub(crate) fn place_all(&mut self) -> Result<(), Fault> {
        let mut last = MailId(0);
        loop {
            let (from, to) = (Bound::Excluded(&last), Bound::Unbounded);
            let mails = self.mail.mails.range(from, to)?.take(PORTION);
            let mails: Result<Vec<(MailId, Mail)>, _> = mails.collect();
            let mails = mails?;
            let Some((id, _)) = mails.last() else {
                return Ok(());
            };
            last = *id;
            for (_, mail) in mails {
                self.enter_folder(&mail, None)?;
            }
        }
    }

    /// The mails of an account with these UIDs of a mailbox. None: one of them is not there.
    fn mails_at(
        &self,
        account: &str,
        mailbox: &str,
        uids: &[u32],
    ) -> Result<Option<Vec<Mail>>, Fault> {
        let Some(record) = self.folders.folders.get(&key(account, mailbox))? else {
            return Ok(None);
        };
        let uids: BTreeSet<u32> = uids.iter().copied().collect();
        let mut mails = Vec::with_capacity(uids.len());
        for uid in uids {
            let mail = match self.folders.at(record.id, uid)? {
                Some(id) => self.mail.mails.get(&id)?,
                None => None,
            };
            let Some(mail) = mail else {
                return Ok(None);
            };
            mails.push(mail);
        }
        Ok(Some(mails))
    }
}

/// Makes a mailbox. False: it is there already.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Make {
    pub(super) account: String,
    pub(super) mailbox: String,
    pub(super) special_use: Option<SpecialUse>,
}

/// Gives a mailbox another name. Its mails keep their UIDs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rename {
    pub(super) account: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// Removes a mailbox that is empty.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RemoveFolder {
    pub(super) account: String,
    pub(super) mailbox: String,
}

/// Changes mails of one mailbox: all of them, or none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeMails {
    pub(super) account: String,
    pub(super) mailbox: String,
    pub(super) uids: Vec<u32>,
    pub(super) change: MailChange,
}

/// Deletes mails of one mailbox: all of them, or none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeleteMails {
    pub(super) account: String,
    pub(super) mailbox: String,
    pub(super) uids: Vec<u32>,
    pub(super) now: Time,
    pub(super) keep: KeepDeleted,
}

/// Adds summaries that nobody has made yet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summarize {
    pub(super) summaries: Vec<(MailId, Summary)>,
}

pub(super) fn weigh(op: &Op) -> usize {
    match op {
        Op::Make(_) | Op::RemoveFolder(_) => 1,
        Op::Rename(_) => usize::try_from(RENAME_MAX).unwrap_or(usize::MAX),
        Op::ChangeMails(op) => op.uids.len(),
        Op::DeleteMails(op) => op.uids.len(),
        Op::Summarize(op) => op.summaries.len(),
    }
}

impl Make {
    pub(super) fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let (tables, key) = (&mut state.folders, key(&self.account, &self.mailbox));
        if tables.folders.contains(&key)? {
            return Ok(false);
        }
        let special_use = self.special_use.or(SpecialUse::usual(&self.mailbox));
        let record = tables.new_folder(special_use);
        tables.changed(key, record);
        state.tell_of_mail(&self.account);
        Ok(true)
    }
}

impl Rename {
    pub(super) fn apply(self, state: &mut State) -> Result<Result<(), StoreError>, Fault> {
        let tables = &mut state.folders;
        let (from, to) = (key(&self.account, &self.from), key(&self.account, &self.to));
        let Some(record) = tables.folders.get(&from)? else {
            return Ok(Err(StoreError::NoFolder));
        };
        if tables.folders.contains(&to)? {
            return Ok(Err(StoreError::FolderExists));
        }
        if record.exists > RENAME_MAX {
            return Ok(Err(StoreError::FolderTooLarge));
        }
        tables.folders.remove(&from);
        tables.changed(to, record);
        for (_, at) in state.folders.all_at(record.id)? {
            state.mail.rename_mailbox(at.0, &self.to)?;
        }
        state.tell_of_mail(&self.account);
        Ok(Ok(()))
    }
}

impl RemoveFolder {
    pub(super) fn apply(self, state: &mut State) -> Result<Result<(), StoreError>, Fault> {
        let (tables, key) = (&mut state.folders, key(&self.account, &self.mailbox));
        let Some(record) = tables.folders.get(&key)? else {
            return Ok(Err(StoreError::NoFolder));
        };
        if record.exists > 0 {
            return Ok(Err(StoreError::FolderNotEmpty));
        }
        tables.folders.remove(&key);
        tables.counters.next_change();
        state.tell_of_mail(&self.account);
        Ok(Ok(()))
    }
}

impl ChangeMails {
    pub(super) fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let found = state.mails_at(&self.account, &self.mailbox, &self.uids)?;
        let Some(mails) = found else {
            return Ok(false);
        };
        for mail in mails {
            state.change_mail(&self.account, mail.id, &self.change)?;
        }
        Ok(true)
    }
}

impl DeleteMails {
    pub(super) fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let found = state.mails_at(&self.account, &self.mailbox, &self.uids)?;
        let Some(mails) = found else {
            return Ok(false);
        };
        for mail in mails {
            state.delete_mail(mail, self.now, self.keep)?;
        }
        Ok(true)
    }
}

impl Summarize {
    pub(super) fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let mut count = 0;
        for (id, summary) in self.summaries {
            let entry = state.folders.entries.get(&id)?;
            if let Some(entry) = entry.filter(|entry| entry.summary.is_none()) {
                let summary = Some(Box::new(summary));
                state.folders.entries.put(id, Entry { summary, ..entry });
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Store {
    /// Makes a mailbox of an account. False: it is there already. Without a special use it gets the
    /// one that its name says.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn make_folder(
        &self,
        account: &str,
        mailbox: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<bool, StoreError> {
        let (account, mailbox) = (account.to_owned(), mailbox.to_owned());
        self.change_by(Make {
            account,
            mailbox,
            special_use,
        })
        .await
    }

    /// Gives a mailbox of an account another name. Its mails keep their UIDs.
    ///
    /// # Errors
    /// [`NoFolder`](StoreError::NoFolder), [`FolderExists`](StoreError::FolderExists) if there is
    /// one with the new name, [`FolderTooLarge`](StoreError::FolderTooLarge) above [`RENAME_MAX`]
    /// mails. Or if the change can't be made durable.
    pub async fn rename_folder(
        &self,
        account: &str,
        from: &str,
        to: &str,
    ) -> Result<(), StoreError> {
        let rename = Rename {
            account: account.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
        };
        self.change_by(rename).await
    }

    /// Removes a mailbox of an account that is empty.
    ///
    /// # Errors
    /// [`NoFolder`](StoreError::NoFolder), [`FolderNotEmpty`](StoreError::FolderNotEmpty). Or if
    /// the change can't be made durable.
    pub async fn remove_folder(&self, account: &str, mailbox: &str) -> Result<(), StoreError> {
        let (account, mailbox) = (account.to_owned(), mailbox.to_owned());
        self.change_by(RemoveFolder { account, mailbox }).await
    }

    /// Changes the mails with these UIDs of a mailbox: all of them. False: one of them is not
    /// there, and nothing was changed.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn change_mails(
        &self,
        account: &str,
        mailbox: &str,
        uids: Vec<u32>,
        change: MailChange,
    ) -> Result<bool, StoreError> {
        let (account, mailbox) = (account.to_owned(), mailbox.to_owned());
        self.change_by(ChangeMails {
            account,
            mailbox,
            uids,
            change,
        })
        .await
    }

    /// Deletes the mails with these UIDs of a mailbox, as [`delete_mail`](Store::delete_mail) does:
    /// all of them. False: one of them is not there, and nothing was changed.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn delete_mails(
        &self,
        account: &str,
        mailbox: &str,
        uids: Vec<u32>,
        now: Time,
        keep: KeepDeleted,
    ) -> Result<bool, StoreError> {
        let (account, mailbox) = (account.to_owned(), mailbox.to_owned());
        self.change_by(DeleteMails {
            account,
            mailbox,
            uids,
            now,
            keep,
        })
        .await
    }

    /// Adds summaries of mails that have none. Tells how many it added.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn summarize(&self, summaries: Vec<(MailId, Summary)>) -> Result<u64, StoreError> {
        match summaries.is_empty() {
            true => Ok(0),
            false => self.change_by(Summarize { summaries }).await,
        }
    }
}

#[cfg(test)]
pub(super) fn samples() -> Vec<Op> {
    let (account, mailbox) = (|| "ann".to_owned(), || "Inbox".to_owned());
    vec![
        Op::Make(Make {
            account: account(),
            mailbox: mailbox(),
            special_use: Some(SpecialUse::Junk),
        }),
        Op::Rename(Rename {
            account: account(),
            from: mailbox(),
            to: "Other".into(),
        }),
        Op::RemoveFolder(RemoveFolder {
            account: account(),
            mailbox: mailbox(),
        }),
        Op::ChangeMails(ChangeMails {
            account: account(),
            mailbox: mailbox(),
            uids: vec![1, 2],
            change: MailChange::default(),
        }),
        Op::DeleteMails(DeleteMails {
            account: account(),
            mailbox: mailbox(),
            uids: vec![1],
            now: Time(1),
            keep: KeepDeleted {
                until: Time(2),
                bytes: 3,
            },
        }),
        Op::Summarize(Summarize {
            summaries: vec![(MailId(1), Summary::default())],
        }),
    ]
}
