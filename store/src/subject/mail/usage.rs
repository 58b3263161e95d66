//! How much mail each account has.
//!
//! The sums follow from the mails. An account of which no sum is known yet has none in the table:
//! an earlier program kept no sums. The first change of its mail counts them all.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Mail, MailId, PORTION, Trained};
use crate::{
    Store, StoreError, Summary,
    error::Fault,
    subject::{Reader, State},
    table::{Faults, Table, key::Name, value::records},
};

/// How much mail an account has. Mail that is kept as refused does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailUsage {
    /// The number of mails.
    pub mails: u64,
    /// The sum of their sizes in bytes, as of [`Mail::size`].
    pub bytes: u64,
}

records! {
    MailUsage: version 1,
}

impl MailUsage {
    pub(crate) const fn add(&mut self, size: u64) {
        self.mails += 1;
        self.bytes = self.bytes.saturating_add(size);
    }

    pub(crate) const fn subtract(&mut self, size: u64) {
        self.mails = self.mails.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
    }
}

/// How much mail of one kind each account has. An account that has none is not in the table.
impl Table<Name, MailUsage> {
    /// What an account has.
    pub(crate) fn total(&self, account: &Name) -> Result<MailUsage, Fault> {
        Ok(self.get(account)?.unwrap_or_default())
    }

    /// Changes what an account has.
    pub(crate) fn change_total(
        &mut self,
        account: &Name,
        change: impl FnOnce(&mut MailUsage),
    ) -> Result<(), Fault> {
        let mut total = self.total(account)?;
        change(&mut total);
        match total.mails {
            0 => self.remove(account),
            _ => self.put(Name::clone(account), total),
        }
        Ok(())
    }

    /// Compares the table with what accounts have by their records. `kind` is that of the mail.
    pub(crate) fn check_totals(
        &self,
        mut totals: BTreeMap<Name, MailUsage>,
        kind: &str,
        faults: &mut Faults,
    ) -> Result<(), Fault> {
        self.for_each(|account, counted| {
            let total = totals.remove(&account).unwrap_or_default();
            faults.check(total == counted, || {
                format!("the account {account} counts {counted:?} of {kind}, and has {total:?}")
            });
            Ok(())
        })?;
        for account in totals.keys() {
            faults.add(format!(
                "the {kind} of the account {account} is not counted"
            ));
        }
        Ok(())
    }
}

impl State {
    /// How much mail an account has.
    fn mail_usage(&self, account: &Name) -> Result<MailUsage, Fault> {
        match self.mail.usage.get(account)? {
            Some(usage) => Ok(usage),
            None => self.counted_usage(account),
        }
    }

    /// The same, by looking at each mail.
    pub(crate) fn counted_usage(&self, account: &Name) -> Result<MailUsage, Fault> {
        let key = |id| (Arc::clone(account), MailId(id));
        let (from, to) = (key(0), key(u64::MAX));
        let mut usage = MailUsage::default();
        let mails = &self.mail.by_account;
        for item in mails.range(Bound::Included(&from), Bound::Included(&to))? {
            let ((_, id), ()) = item?;
            if !self.rejects.is_kept(id)?
                && let Some(mail) = self.mail.mails.get(&id)?
            {
                usage.add(mail.size);
            }
        }
        Ok(usage)
    }

    /// Changes the sums of an account.
    pub(crate) fn change_usage(
        &mut self,
        account: &str,
        change: impl FnOnce(&mut MailUsage),
    ) -> Result<(), Fault> {
        let account: Name = account.into();
        let mut usage = self.mail_usage(&account)?;
        change(&mut usage);
        self.mail.usage.put(account, usage);
        Ok(())
    }

    /// Puts a mail into its mailbox.
    pub(crate) fn add_mail(
        &mut self,
        mail: Mail,
        summary: Option<Box<Summary>>,
    ) -> Result<(), Fault> {
        self.change_usage(&mail.account, |usage| usage.add(mail.size))?;
        self.add_uncounted(mail, summary)
    }

    /// The same for refused mail, which counts in no sum.
    pub(crate) fn add_uncounted(
        &mut self,
        mail: Mail,
        summary: Option<Box<Summary>>,
    ) -> Result<(), Fault> {
        self.enter_folder(&mail, summary)?;
        self.mail.add(mail);
        Ok(())
    }

    /// Removes a mail that is there.
    pub(crate) fn remove_mail(&mut self, mail: &Mail) -> Result<(), Fault> {
        self.take_mail(mail)?;
        self.release_text(mail.text)
    }

    /// Takes a mail that is there out of its mailbox. Its text stays. Gives what the junk filter
    /// has learnt from it.
    pub(crate) fn take_mail(&mut self, mail: &Mail) -> Result<Option<Trained>, Fault> {
        match self.unkeep(mail.id)? {
            true => {}
            false => self.change_usage(&mail.account, |usage| usage.subtract(mail.size))?,
        }
        self.leave_folder(mail)?;
        self.mail.take_out(mail);
        self.mail.trained.take(&mail.id)
    }
}

questions! {
    /// The sums of an account. None: they are not known yet.
    ask Known<'a> { account: &'a str } -> Option<MailUsage>,
    |this, state| state.mail.usage.get(&this.account.into()),
    |this, model| Some(model.mail_usage(this.account));

    scan Count { account: String } -> MailUsage,
    |this, reader| this.count(reader),
    |this, model| model.mail_usage(&this.account);
}

impl Count {
    fn count(&self, reader: &Reader<'_>) -> Result<MailUsage, StoreError> {
        let account: Name = self.account.as_str().into();
        let key = |id| (Arc::clone(&account), id);
        let (mut from, to) = (key(MailId(0)), key(MailId(u64::MAX)));
        let mut usage = MailUsage::default();
        loop {
            let state = reader.state()?;
            let mut seen = 0;
            let range = (Bound::Excluded(&from), Bound::Included(&to));
            for item in state.mail.by_account.range(range.0, range.1)?.take(PORTION) {
                let (found, ()) = item?;
                if !state.rejects.is_kept(found.1)?
                    && let Some(mail) = state.mail.mails.get(&found.1)?
                {
                    usage.add(mail.size);
                }
                from = found;
                seen += 1;
            }
            if seen < PORTION {
                return Ok(usage);
            }
        }
    }
}

impl Store {
    /// How much mail an account has.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn mail_usage(&self, account: &str) -> Result<MailUsage, StoreError> {
        match self.ask(Known { account }).await? {
            Some(usage) => Ok(usage),
            None => {
                let account = account.to_owned();
                self.scan(Count { account }).await
            }
        }
    }
}
