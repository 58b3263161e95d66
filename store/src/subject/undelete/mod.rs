//! Mail that users deleted, which stays for a while so that it can come back.
//!
//! A deleted mail is in no mailbox and in no sum of an account. It has its number and its text. It
//! goes for good when its time is over, when an account has too much of it, and on request.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Bound};

use serde::{Deserialize, Serialize};

use super::{Reader, State, tag};
use crate::{
    Mail, MailId, MailUsage, Page, Store, StoreError, TextId, Time, Trained,
    error::Fault,
    filter::page,
    table::{Faults, Table, key::Name, tables, value::records},
};

/// Records that are read under the lock at once.
const PORTION: usize = 128;

/// How long deleted mail stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepDeleted {
    /// When it goes for good. At this time or later, it goes at once.
    pub until: Time,
    /// How much of it an account has, in bytes of whole messages. With more, the oldest goes. A
    /// larger mail goes at once.
    pub bytes: u64,
}

/// A deleted mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedMail {
    /// The mail, with the mailbox that it was in.
    pub mail: Mail,
    /// When it was deleted.
    pub deleted: Time,
    /// When it goes for good.
    pub until: Time,
}

/// The place in a list of deleted mail: when a mail was deleted, and its number.
pub type DeletedPlace = (Time, MailId);

/// What is known of a deleted mail beside the mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deletion {
    account: String,
    size: u64,
    deleted: Time,
    until: Time,
    /// The text of the mail. It can go although the mail can't be read. None: an older version
    /// wrote this.
    text: Option<TextId>,
}

/// The shape of version 1.
#[derive(Deserialize)]
struct DeletionV1 {
    account: String,
    size: u64,
    deleted: Time,
    until: Time,
}

impl From<DeletionV1> for Deletion {
    fn from(old: DeletionV1) -> Self {
        Self {
            account: old.account,
            size: old.size,
            deleted: old.deleted,
            until: old.until,
            text: None,
        }
    }
}

records! {
    Deletion: version 2 [1 => DeletionV1],
}

tables! {
    /// Deleted mail.
    counters: (),
    /// By the number of the mail.
    deletions: Table<MailId, Deletion> = Table::new("deletions"),
    mails: Table<MailId, Mail> = Table::new("deleted_mails"),
    /// What the junk filter has learnt from them.
    trained: Table<MailId, Trained> = Table::new("deleted_mails_trained"),
    /// By account, by time.
    by_account: Table<(Name, Time, MailId), ()> = Table::new("account_deletions"),
    /// How much deleted mail an account has.
    totals: Table<Name, MailUsage> = Table::new("deletion_totals"),
}

subject!(
    counters (), keys 1,
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.drop_deleted(MailId(number)).map(drop)
    }
);

operations! {
    Undelete, version 1 weighed by weigh:
    Delete -> bool, Reserve;
    Restore -> bool, Ordinary;
    Purge -> u64, Reserve;
}

fn weigh(op: &Op) -> usize {
    match op {
        Op::Delete(_) | Op::Restore(_) => 1,
        Op::Purge(purge) => usize::try_from(purge.max).unwrap_or(usize::MAX),
    }
}

/// Deletes a mail of an account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delete {
    account: String,
    id: MailId,
    now: Time,
    keep: KeepDeleted,
}

/// Puts a deleted mail into a mailbox again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Restore {
    account: String,
    id: MailId,
    mailbox: String,
    received: Option<Time>,
}

/// Removes deleted mails for good: the oldest of an account, or of all accounts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Purge {
    account: Option<String>,
    max: u64,
}

impl KeepDeleted {
    /// Whether a mail of this size stays that is deleted now.
    const fn keeps(self, now: Time, size: u64) -> bool {
        self.until.0 > now.0 && size <= self.bytes
    }
}

impl Delete {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        match state.mail.of_account(&self.account, self.id)? {
            Some(mail) => state.delete_mail(mail, self.now, self.keep).map(|()| true),
            None => Ok(false),
        }
    }
}

impl Restore {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let tables = &mut state.undelete;
        let deletion = tables.deletions.get(&self.id)?;
        let is_of_account = |it: &Deletion| it.account == self.account;
        let Some(deletion) = deletion.filter(is_of_account) else {
            return Ok(false);
        };
        // A record that can't be read counts as absent. It stays deleted as it is, with its text:
        // a later version may read it.
        let Some(mut mail) = tables.mails.get(&self.id)? else {
            return Ok(false);
        };
        let trained = tables.trained.take(&self.id)?;
        tables.remove(self.id, &deletion)?;
        let until = deletion.until;
        state.history.remove(until, tag::undelete, self.id.0);
        mail.mailbox = self.mailbox;
        mail.received = self.received.unwrap_or(mail.received);
        state.add_mail(mail, None)?;
        if let Some(trained) = trained {
            state.mail.trained.put(self.id, trained);
        }
        Ok(true)
    }
}

impl Purge {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let account: Option<Name> = self.account.as_deref().map(Into::into);
        let max = usize::try_from(self.max).unwrap_or(usize::MAX);
        let found = state.undelete.oldest(account.as_ref(), max)?;
        for id in &found {
            state.end_deleted(*id)?;
        }
        Ok(found.len() as u64)
    }
}

impl Tables {
    /// The first deleted mails of an account by time, or any. Those that can't go, since their
    /// records can't be read, are left out: they would be the first again and again.
    fn oldest(&self, account: Option<&Name>, max: usize) -> Result<Vec<MailId>, Fault> {
        let key = |time, id| account.map(|account| (Name::clone(account), Time(time), MailId(id)));
        let (from, to) = (key(i64::MIN, 0), key(i64::MAX, u64::MAX));
        let from = from.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let to = to.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let mut found = Vec::new();
        for item in self.by_account.range(from, to)? {
            if found.len() >= max {
                break;
            }
            let ((_, _, id), ()) = item?;
            if let Some(deletion) = self.deletions.get(&id)?
                && self.text_of(id, &deletion)?.is_some()
            {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// The text of a deleted mail. None: an older version deleted the mail, and its record can't be
    /// read. Then it stays, so that nothing keeps a text that nobody knows of.
    fn text_of(&self, id: MailId, deletion: &Deletion) -> Result<Option<TextId>, Fault> {
        match deletion.text {
            Some(text) => Ok(Some(text)),
            None => Ok(self.mails.get(&id)?.map(|mail| mail.text)),
        }
    }

    /// Removes a mail from all tables here but that of what was learnt.
    fn remove(&mut self, id: MailId, deletion: &Deletion) -> Result<(), Fault> {
        let account: Name = deletion.account.as_str().into();
        self.totals
            .change_total(&account, |total| total.subtract(deletion.size))?;
        self.by_account.remove(&(account, deletion.deleted, id));
        self.deletions.remove(&id);
        self.mails.remove(&id);
        Ok(())
    }
}

impl State {
    /// Deletes a mail that is there.
    pub(super) fn delete_mail(
        &mut self,
        mail: Mail,
        now: Time,
        keep: KeepDeleted,
    ) -> Result<(), Fault> {
        if !keep.keeps(now, mail.size) {
            return self.remove_mail(&mail);
        }
        let (id, trained) = (mail.id, self.take_mail(&mail)?);
        let account: Name = mail.account.as_str().into();
        let tables = &mut self.undelete;
        if let Some(trained) = trained {
            tables.trained.put(id, trained);
        }
        let key = (Name::clone(&account), now, id);
        tables.by_account.put_new(key, ());
        tables
            .totals
            .change_total(&account, |total| total.add(mail.size))?;
        let deletion = Deletion {
            account: mail.account.clone(),
            size: mail.size,
            deleted: now,
            until: keep.until,
            text: Some(mail.text),
        };
        tables.deletions.put(id, deletion);
        tables.mails.put(id, mail);
        self.history.add(keep.until, tag::undelete, id.0);
        while self.undelete.totals.total(&account)?.bytes > keep.bytes {
            let oldest = self.undelete.oldest(Some(&account), 1)?;
            let Some(oldest) = oldest.first() else {
                break;
            };
            self.end_deleted(*oldest)?;
        }
        Ok(())
    }

    /// Removes a deleted mail for good whose end is not in the history any more. Gives what was
    /// known of it. None: there is none, or it can't go.
    fn drop_deleted(&mut self, id: MailId) -> Result<Option<Deletion>, Fault> {
        let tables = &mut self.undelete;
        let Some(deletion) = tables.deletions.get(&id)? else {
            return Ok(None);
        };
        let Some(text) = tables.text_of(id, &deletion)? else {
            return Ok(None);
        };
        tables.trained.remove(&id);
        tables.remove(id, &deletion)?;
        self.release_text(text)?;
        Ok(Some(deletion))
    }

    /// Removes a deleted mail for good.
    fn end_deleted(&mut self, id: MailId) -> Result<(), Fault> {
        if let Some(deletion) = self.drop_deleted(id)? {
            self.history.remove(deletion.until, tag::undelete, id.0);
        }
        Ok(())
    }

    /// Compares what follows from the records with them. Gives the end of each.
    pub(super) fn check_undelete(
        &self,
        faults: &mut Faults,
    ) -> Result<Vec<(Time, u8, u64)>, Fault> {
        let tables = &self.undelete;
        let (mut count, mut ends) = (0, Vec::new());
        let mut totals: BTreeMap<Name, MailUsage> = BTreeMap::new();
        tables.deletions.for_each(|id, deletion| {
            count += 1;
            ends.push((deletion.until, tag::undelete, id.0));
            let account: Name = deletion.account.as_str().into();
            let key = (Name::clone(&account), deletion.deleted, id);
            totals.entry(account).or_default().add(deletion.size);
            let found = tables.by_account.contains(&key)? && tables.mails.contains(&id)?;
            faults.check(found, || {
                format!("the deleted mail {id} is missing, or not found by its account")
            });
            Ok(())
        })?;
        faults.compare("deleted mails", tables.mails.count()?, count);
        faults.compare(
            "deleted mails by account",
            tables.by_account.count()?,
            count,
        );
        tables.totals.check_totals(totals, "deleted mail", faults)?;
        Ok(ends)
    }
}

questions! {
    ask DeletedTotal<'a> { account: &'a str } -> MailUsage,
    |this, state| state.undelete.totals.total(&this.account.into()),
    |this, model| model.undelete.total(this.account);

    scan ListDeleted { account: String, after: Option<DeletedPlace>, limit: usize }
        -> Page<DeletedMail, DeletedPlace>,
    |this, reader| this.list(reader),
    |this, model| model.undelete.list(this);
}

/// The place of a deleted mail.
const fn place(deleted: &DeletedMail) -> DeletedPlace {
    (deleted.deleted, deleted.mail.id)
}

impl ListDeleted {
    fn list(&self, reader: &Reader<'_>) -> Result<Page<DeletedMail, DeletedPlace>, StoreError> {
        let account: Name = self.account.as_str().into();
        let key = |(time, id): DeletedPlace| (Name::clone(&account), time, id);
        let first = (Time(i64::MIN), MailId(0));
        let mut from = key(self.after.unwrap_or(first));
        let to = key((Time(i64::MAX), MailId(u64::MAX)));
        let mut items = Vec::new();
        loop {
            let state = reader.state()?;
            let tables = &state.undelete;
            let mut seen = 0;
            let rest = (Bound::Excluded(&from), Bound::Included(&to));
            for item in tables.by_account.range(rest.0, rest.1)?.take(PORTION) {
                let (found, ()) = item?;
                let deletion = tables.deletions.get(&found.2)?;
                if let (Some(mail), Some(deletion)) = (tables.mails.get(&found.2)?, deletion) {
                    items.push(DeletedMail {
                        mail,
                        deleted: deletion.deleted,
                        until: deletion.until,
                    });
                }
                from = found;
                seen += 1;
            }
            if seen < PORTION || items.len() > self.limit {
                return Ok(page(items.into_iter(), self.limit, place));
            }
        }
    }
}

impl Store {
    /// Deletes a mail of an account, which may come back as long as it is kept. False: the account
    /// has no mail with this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn delete_mail(
        &self,
        account: &str,
        id: MailId,
        now: Time,
        keep: KeepDeleted,
    ) -> Result<bool, StoreError> {
        let account = account.to_owned();
        let delete = Delete {
            account,
            id,
            now,
            keep,
        };
        self.change_by(delete).await
    }

    /// Puts a deleted mail of an account into a mailbox again, under its number. `received` is the
    /// time at which it came from now on; None: the time stays. False: the account has no such
    /// deleted mail.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn restore_mail(
        &self,
        account: &str,
        id: MailId,
        mailbox: &str,
        received: Option<Time>,
    ) -> Result<bool, StoreError> {
        let (account, mailbox) = (account.to_owned(), mailbox.to_owned());
        let restore = Restore {
            account,
            id,
            mailbox,
            received,
        };
        self.change_by(restore).await
    }

    /// Removes deleted mails for good, at most so many: those of an account, or of all. Tells how
    /// many it removed.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn purge_deleted(&self, account: Option<&str>, max: u64) -> Result<u64, StoreError> {
        let account = account.map(str::to_owned);
        self.change_by(Purge { account, max }).await
    }

    /// How much deleted mail an account has.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn deleted_usage(&self, account: &str) -> Result<MailUsage, StoreError> {
        self.ask(DeletedTotal { account }).await
    }

    /// The deleted mails of an account, oldest first, beginning behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_deleted(
        &self,
        account: &str,
        after: Option<DeletedPlace>,
        limit: usize,
    ) -> Result<Page<DeletedMail, DeletedPlace>, StoreError> {
        let account = account.to_owned();
        let list = ListDeleted {
            account,
            after,
            limit,
        };
        self.scan(list).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::Delete(Delete {
            account: "ann".into(),
            id: MailId(1),
            now: Time(1),
            keep: KeepDeleted {
                until: Time(2),
                bytes: 3,
            },
        }),
        Op::Restore(Restore {
            account: "ann".into(),
            id: MailId(1),
            mailbox: "Inbox".into(),
            received: Some(Time(1)),
        }),
        Op::Purge(Purge {
            account: Some("ann".into()),
            max: 1,
        }),
    ]
}
