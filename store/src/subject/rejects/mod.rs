//! Mail that an account refused, and that it keeps for a while in a mailbox of its own.
//!
//! Each is a mail as any other, and has a record here beside. It goes when its time is over, when
//! there are too many, and when the account takes the same mail after all. A mail that somebody
//! moves to another mailbox is no refused mail any more.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
pub(crate) mod older;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, ops::Bound};

use serde::{Deserialize, Serialize};

use super::{NoOperation, State, tag};
use crate::{
    MailId, MailUsage, NewMail, Store, StoreError, Summary, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

/// A name of a mail. It is the same when the mail is sent again: a hash of its Message-ID, or of
/// its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RejectKey(pub u64);

/// A refused mail that is to be kept. An account keeps one of each key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewReject {
    /// The mail, with the mailbox for refused mail.
    pub mail: NewMail,
    /// Its name.
    pub key: RejectKey,
    /// When it goes. None: never.
    pub until: Option<Time>,
    /// How much the account keeps. None: there is no limit.
    pub limit: Option<RejectLimit>,
}

/// How much refused mail an account keeps. With more, the oldest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectLimit {
    /// The number of mails.
    pub mails: u64,
    /// The sum of their sizes in bytes.
    pub bytes: u64,
}

/// A mail that an account takes. Refused mail of this key goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenMail {
    /// The account.
    pub account: String,
    /// The name of the mail.
    pub key: RejectKey,
}

/// What is known of a refused mail beside the mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reject {
    pub(crate) account: String,
    key: RejectKey,
    pub(crate) size: u64,
    pub(crate) until: Option<Time>,
}

records! {
    Reject: version 1,
    MailId: version 1,
}

tables! {
    /// Refused mail.
    counters: (),
    /// By the number of the mail.
    rejects: Table<MailId, Reject> = Table::new("rejects"),
    by_key: Table<(Name, u64), MailId> = Table::new("reject_keys"),
    by_account: Table<(Name, MailId), ()> = Table::new("account_rejects"),
    /// How much refused mail an account has.
    totals: Table<Name, MailUsage> = Table::new("reject_totals"),
}

subject!(
    counters (), keys 1,
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.drop_mail(MailId(number))
    }
);

/// Refused mail changes in units, and with its mail.
pub(crate) type Op = NoOperation;

impl Tables {
    /// Whether a mail is kept as refused.
    pub(crate) fn is_kept(&self, id: MailId) -> Result<bool, Fault> {
        self.rejects.contains(&id)
    }

    /// The refused mail of an account with this key.
    fn find(&self, account: &str, key: RejectKey) -> Result<Option<MailId>, Fault> {
        self.by_key.get(&(account.into(), key.0))
    }

    /// Takes the record of a mail out of all tables here.
    fn take(&mut self, id: MailId) -> Result<Option<Reject>, Fault> {
        let taken = self.rejects.take(&id)?;
        if let Some(reject) = &taken {
            let account: Name = reject.account.as_str().into();
            self.by_key.remove(&(Name::clone(&account), reject.key.0));
            self.by_account.remove(&(Name::clone(&account), id));
            self.totals
                .change_total(&account, |total| total.subtract(reject.size))?;
        }
        Ok(taken)
    }

    /// The oldest refused mail of an account. One whose record can't be read is left out: it would
    /// be the first again and again.
    fn oldest(&self, account: &Name) -> Result<Option<MailId>, Fault> {
        let key = |id| (Name::clone(account), MailId(id));
        let (from, to) = (key(0), key(u64::MAX));
        let range = (Bound::Included(&from), Bound::Included(&to));
        for item in self.by_account.range(range.0, range.1)? {
            let ((_, id), ()) = item?;
            if self.rejects.get(&id)?.is_some() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// How many records there are, and how many keys of each kind follow from them.
    pub(crate) fn count(&self) -> Result<(u64, u64, u64), Fault> {
        let counts = (self.rejects.count()?, self.by_key.count()?);
        Ok((counts.0, counts.1, self.by_account.count()?))
    }
}

impl State {
    /// The mails among these that the account does not keep yet.
    pub(super) fn new_rejects(&self, mut new: Vec<NewReject>) -> Result<Vec<NewReject>, Fault> {
        let mut fault = None;
        let mut seen = HashSet::new();
        new.retain(|reject| {
            let account = &reject.mail.account;
            let is_first = seen.insert((account.clone(), reject.key));
            match self.rejects.find(account, reject.key) {
                Ok(found) => is_first && found.is_none(),
                Err(error) => {
                    fault = Some(error);
                    false
                }
            }
        });
        fault.map_or(Ok(new), Err)
    }

    /// Keeps a mail that is not in its mailbox yet.
    pub(super) fn keep(
        &mut self,
        (mail, summary): (crate::Mail, Option<Box<Summary>>),
        new: &NewReject,
    ) -> Result<(), Fault> {
        let (id, account): (_, Name) = (mail.id, mail.account.as_str().into());
        let tables = &mut self.rejects;
        tables.by_key.put((Name::clone(&account), new.key.0), id);
        tables.by_account.put_new((Name::clone(&account), id), ());
        tables
            .totals
            .change_total(&account, |total| total.add(mail.size))?;
        let reject = Reject {
            account: mail.account.clone(),
            key: new.key,
            size: mail.size,
            until: new.until,
        };
        tables.rejects.put_new(id, reject);
        if let Some(until) = new.until {
            self.history.add(until, tag::rejects, id.0);
        }
        self.add_uncounted(mail, summary)?;
        match new.limit {
            Some(limit) => self.trim(&account, limit),
            None => Ok(()),
        }
    }

    /// Removes the oldest refused mails of an account that are too many.
    fn trim(&mut self, account: &Name, limit: RejectLimit) -> Result<(), Fault> {
        loop {
            let total = self.rejects.totals.total(account)?;
            if total.mails <= limit.mails && total.bytes <= limit.bytes {
                return Ok(());
            }
            match self.rejects.oldest(account)? {
                Some(oldest) => self.drop_mail(oldest)?,
                None => return Ok(()),
            }
        }
    }

    /// Removes the refused mail that the account takes after all.
    pub(super) fn drop_taken(&mut self, taken: &TakenMail) -> Result<(), Fault> {
        match self.rejects.find(&taken.account, taken.key)? {
            Some(id) => self.drop_mail(id),
            None => Ok(()),
        }
    }

    fn drop_mail(&mut self, id: MailId) -> Result<(), Fault> {
        match self.mail.mails.get(&id)? {
            Some(mail) => self.remove_mail(&mail),
            // A record that can't be read. Nothing leads to it any more.
            None => self.unkeep(id).map(drop),
        }
    }

    /// A mail is no refused mail any more. False: it was none.
    pub(super) fn unkeep(&mut self, id: MailId) -> Result<bool, Fault> {
        let taken = self.rejects.take(id)?;
        if let Some(until) = taken.as_ref().and_then(|reject| reject.until) {
            self.history.remove(until, tag::rejects, id.0);
        }
        Ok(taken.is_some())
    }
}

questions! {
    ask Total<'a> { account: &'a str } -> MailUsage,
    |this, state| state.rejects.totals.total(&this.account.into()),
    |this, model| model.rejects.total(this.account);
}

impl Store {
    /// How much refused mail an account keeps.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn kept_rejects(&self, account: &str) -> Result<MailUsage, StoreError> {
        self.ask(Total { account }).await
    }
}

#[cfg(test)]
pub(crate) const fn samples() -> Vec<Op> {
    Vec::new()
}
