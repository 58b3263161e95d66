//! Mail in the mailboxes of accounts.

mod learn;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
pub(crate) mod older;
mod usage;

use std::{mem, net::IpAddr, ops::Bound, sync::Arc};

use postrider_smtp::{Address, ReversePath};
use serde::{Deserialize, Serialize};

pub use self::learn::{JUNK_FLAG, Lesson, NOT_JUNK_FLAG, Trained, called_junk};
use self::learn::{Learn, TrainedV1};
pub use self::usage::MailUsage;
use super::{Listing, Reader, State, next};
use crate::{
    Message, Order, Page, Store, StoreError, Summary, TextId, TextSource, Time, Top,
    error::Fault,
    filter::page,
    id::ids,
    table::{
        Table,
        key::{Key, Name},
        tables,
        value::records,
    },
};

/// Records that are read under the lock at once.
const PORTION: usize = 128;

ids! {
    /// A message in a mailbox: the API's `MsgID`.
    MailId,
}

/// A message in a mailbox of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The number of the record.
    pub id: MailId,
    /// The account of the mailbox.
    pub account: String,
    /// The name of the mailbox, for example `Inbox`.
    pub mailbox: String,
    /// The fields before the text.
    pub top: Top,
    /// The text.
    pub text: TextId,
    /// Bytes of the whole message: top and text.
    pub size: u64,
    /// When the message came.
    pub received: Time,
    /// Lower-case system flags (`\seen`, `$junk`) and keywords, sorted.
    pub flags: Vec<String>,
    /// The message is a DSN.
    pub dsn: bool,
    /// How the message came by SMTP. None if it came otherwise.
    pub smtp: Option<Arrival>,
}

/// How a message came in by SMTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// MAIL FROM.
    pub mail_from: ReversePath,
    /// RCPT TO.
    pub rcpt_to: Address,
    /// The author address of the From header.
    pub msg_from: Option<Address>,
    /// MAIL FROM was validated (SPF).
    pub mail_from_validated: bool,
    /// The From domain was validated (as by DMARC).
    pub msg_from_validated: bool,
    /// Domains with a valid DKIM signature.
    pub dkim_domains: Vec<String>,
    /// The address of the client.
    pub remote_ip: Option<IpAddr>,
}

/// A message to be put in a mailbox. The fields are those of [`crate::Mail`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of Mail"
)]
pub struct NewMail {
    pub account: String,
    pub mailbox: String,
    pub top: Top,
    pub text: TextSource,
    pub size: u64,
    pub received: Time,
    pub flags: Vec<String>,
    pub dsn: bool,
    pub smtp: Option<Arrival>,
    /// The parts that lists show. None: they are made later.
    pub summary: Option<Box<Summary>>,
}

/// A change of a mail in a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailChange {
    /// Flags to add, as in [`Mail::flags`].
    pub add_flags: Vec<String>,
    /// Flags to remove.
    pub remove_flags: Vec<String>,
    /// The mailbox to move the mail to.
    pub mailbox: Option<String>,
}

impl MailChange {
    pub(crate) fn apply(&self, mail: &mut Mail) {
        mail.flags.retain(|flag| !self.remove_flags.contains(flag));
        for flag in &self.add_flags {
            if let Err(at) = mail.flags.binary_search(flag) {
                mail.flags.insert(at, flag.clone());
            }
        }
        if let Some(mailbox) = &self.mailbox {
            mail.mailbox.clone_from(mailbox);
        }
    }
}

impl NewMail {
    /// The record with this number, and the summary, which is kept beside it.
    pub(crate) fn split(self, id: MailId, text: TextId) -> (Mail, Option<Box<Summary>>) {
        let mail = Mail {
            id,
            account: self.account,
            mailbox: self.mailbox,
            top: self.top,
            text,
            size: self.size,
            received: self.received,
            flags: self.flags,
            dsn: self.dsn,
            smtp: self.smtp,
        };
        (mail, self.summary)
    }
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
    /// How many messages there are.
    pub(crate) mails: u64,
}

records! {
    Mail: version 1,
    Trained: version 2 [1 => TrainedV1],
}

tables! {
    /// The mailboxes.
    counters: Counters,
    mails: Table<MailId, Mail> = Table::new("mails"),
    /// By account and mailbox.
    by_mailbox: Table<(Name, Name, MailId), ()> = Table::new("mailboxes"),
    /// By account.
    by_account: Table<(Name, MailId), ()> = Table::new("account_mails"),
    /// What the junk filter has learnt from mails. Calls of webhooks have copies of mail records,
    /// and this is no concern of theirs.
    trained: Table<MailId, Trained> = Table::new("mails_trained"),
    /// How much mail an account has.
    usage: Table<Name, MailUsage> = Table::new("mail_usage"),
}

subject!(
    // Version 2: each mail has a place in its mailbox, see the subject `folders`.
    counters Counters, keys 2,
    const KEYS_SINCE: u8 = 1;,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn renew_keys(state: &mut State) -> Result<(), Fault> {
        state.place_all()
    }
);

impl Tables {
    /// Makes a record of a new mail, which has this text, and gives it with its summary. It is not
    /// in the mailbox yet.
    pub(super) fn number(&mut self, mail: NewMail, text: TextId) -> (Mail, Option<Box<Summary>>) {
        let id = MailId(next(&mut self.counters.last));
        mail.split(id, text)
    }

    fn add(&mut self, mail: Mail) {
        let account: Name = mail.account.as_str().into();
        let mailbox = mail.mailbox.as_str().into();
        self.by_mailbox
            .put_new((Arc::clone(&account), mailbox, mail.id), ());
        self.by_account.put_new((account, mail.id), ());
        self.counters.mails += 1;
        self.mails.put_new(mail.id, mail);
    }

    /// Takes a mail out of its mailbox.
    fn take_out(&mut self, mail: &Mail) {
        let account: Name = mail.account.as_str().into();
        let mailbox = (Arc::clone(&account), mail.mailbox.as_str().into(), mail.id);
        self.mails.remove(&mail.id);
        self.by_mailbox.remove(&mailbox);
        self.by_account.remove(&(account, mail.id));
        self.counters.mails -= 1;
    }

    /// A mail is in a mailbox of this name now, since the mailbox has another name.
    pub(super) fn rename_mailbox(&mut self, id: MailId, mailbox: &str) -> Result<(), Fault> {
        let Some(mut mail) = self.mails.get(&id)? else {
            return Ok(());
        };
        let before = mem::replace(&mut mail.mailbox, mailbox.to_owned());
        self.relist(&before, &mail);
        self.mails.put(id, mail);
        Ok(())
    }

    /// A mail that was listed in another mailbox is listed in its present one.
    fn relist(&mut self, before: &str, mail: &Mail) {
        let account: Name = mail.account.as_str().into();
        let from = (Arc::clone(&account), before.into(), mail.id);
        self.by_mailbox.remove(&from);
        let to = (account, mail.mailbox.as_str().into(), mail.id);
        self.by_mailbox.put(to, ());
    }

    /// A mail of an account.
    pub(super) fn of_account(&self, account: &str, id: MailId) -> Result<Option<Mail>, Fault> {
        let mail = self.mails.get(&id)?;
        Ok(mail.filter(|mail| mail.account == account))
    }
}

impl State {
    /// Changes a mail of an account, and gives it as it is then. A refused mail that is moved is an
    /// ordinary one. None: the account has no such mail.
    pub(super) fn change_mail(
        &mut self,
        account: &str,
        id: MailId,
        change: &MailChange,
    ) -> Result<Option<Mail>, Fault> {
        let tables = &mut self.mail;
        let Some(mut mail) = tables.of_account(account, id)? else {
            return Ok(None);
        };
        let before = mail.clone();
        change.apply(&mut mail);
        let is_moved = before.mailbox != mail.mailbox;
        if is_moved {
            tables.relist(&before.mailbox, &mail);
        }
        tables.mails.put(id, mail.clone());
        self.change_place(&before, &mail)?;
        // The sums are changed first: as long as they are not known, they are counted.
        if is_moved && self.rejects.is_kept(id)? {
            self.change_usage(account, |usage| usage.add(mail.size))?;
            self.unkeep(id)?;
        }
        Ok(Some(mail))
    }
}

operations! {
    Mail, version 2 since 1 weighed by weigh:
    ChangeOne -> bool, Ordinary;
    Remove -> bool, Reserve;
    Learn -> bool, Ordinary;
}

fn weigh(op: &Op) -> usize {
    match op {
        Op::ChangeOne(_) | Op::Remove(_) => 1,
        Op::Learn(learn) => learn.changes(),
    }
}

/// Changes a mail of an account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeOne {
    account: String,
    id: MailId,
    change: MailChange,
}

impl ChangeOne {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let changed = state.change_mail(&self.account, self.id, &self.change)?;
        Ok(changed.is_some())
    }
}

/// Removes a mail of an account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    account: String,
    id: MailId,
}

impl Remove {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let Some(mail) = state.mail.of_account(&self.account, self.id)? else {
            return Ok(false);
        };
        state.remove_mail(&mail)?;
        Ok(true)
    }
}

questions! {
    ask One { id: MailId } -> Option<Mail>,
    |this, state| state.mail.mails.get(&this.id),
    |this, model| model.mail.mails.get(&this.id).cloned();

    ask Was { id: MailId } -> bool,
    |this, state| Ok(this.id.0 > 0 && this.id.0 <= state.mail.counters.last),
    |this, model| this.id.0 > 0 && this.id.0 <= model.mail.last;

    scan List { account: String, mailbox: Option<String>, after: Option<MailId>, limit: usize }
        -> Page<Mail, MailId>,
    |this, reader| this.list(reader),
    |this, model| model.mail.list(this);

    scan InOrder { account: Option<String>, after: Option<MailId>, order: Order, limit: usize }
        -> Page<Mail, MailId>,
    |this, reader| {
        let listing = Listing {
            group: None,
            after: this.after,
            order: this.order,
            limit: this.limit,
        };
        reader.page(listing, |state| &state.mail.mails, |mail| this.matches(mail))
    },
    |this, model| model.mail.in_order(this);
}

impl InOrder {
    fn matches(&self, mail: &Mail) -> bool {
        let account = self.account.as_ref();
        account.is_none_or(|account| mail.account == *account)
    }
}

impl List {
    fn list(&self, reader: &Reader<'_>) -> Result<Page<Mail, MailId>, StoreError> {
        let account: Name = self.account.as_str().into();
        match &self.mailbox {
            None => {
                let key = |id| (Name::clone(&account), id);
                self.page(reader, |tables| &tables.by_account, |key| key.1, key)
            }
            Some(mailbox) => {
                let mailbox: Name = mailbox.as_str().into();
                let key = |id| (Name::clone(&account), Name::clone(&mailbox), id);
                self.page(reader, |tables| &tables.by_mailbox, |key| key.2, key)
            }
        }
    }

    fn page<K: Key>(
        &self,
        reader: &Reader<'_>,
        table: impl Fn(&Tables) -> &Table<K, ()>,
        id: impl Fn(&K) -> MailId,
        key: impl Fn(MailId) -> K,
    ) -> Result<Page<Mail, MailId>, StoreError> {
        let mut items = Vec::new();
        let (mut from, to) = (key(self.after.unwrap_or_default()), key(MailId(u64::MAX)));
        loop {
            let state = reader.state()?;
            let mut seen = 0;
            for item in table(&state.mail)
                .range(Bound::Excluded(&from), Bound::Included(&to))?
                .take(PORTION)
            {
                let (key, ()) = item?;
                items.extend(state.mail.mails.get(&id(&key))?);
                from = key;
                seen += 1;
            }
            if seen < PORTION || items.len() > self.limit {
                return Ok(page(items.into_iter(), self.limit, |mail| mail.id));
            }
        }
    }
}

impl Store {
    /// A message in a mailbox.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn mail(&self, id: MailId) -> Result<Option<Mail>, StoreError> {
        self.ask(One { id }).await
    }

    /// The bytes of a message in a mailbox: top and text.
    ///
    /// # Errors
    /// As for [`text`](Self::text).
    pub async fn mail_message(&self, mail: &Mail) -> Result<Message, StoreError> {
        self.message(&mail.top, mail.text).await
    }

    /// Messages of an account, in one mailbox or in all, by number, beginning behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_mails(
        &self,
        account: &str,
        mailbox: Option<&str>,
        after: Option<MailId>,
        limit: usize,
    ) -> Result<Page<Mail, MailId>, StoreError> {
        let (account, mailbox) = (account.to_owned(), mailbox.map(str::to_owned));
        self.scan(List {
            account,
            mailbox,
            after,
            limit,
        })
        .await
    }

    /// Messages in the mailboxes of an account, or of all accounts, by number in either order,
    /// beginning behind `after`. Those of one account are looked for among all.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_mails_in_order(
        &self,
        account: Option<&str>,
        after: Option<MailId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Mail, MailId>, StoreError> {
        self.scan(InOrder {
            account: account.map(str::to_owned),
            after,
            order,
            limit,
        })
        .await
    }

    /// Changes a mail of an account. False: the account has no mail with this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn change_mail(
        &self,
        account: &str,
        id: MailId,
        change: MailChange,
    ) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(ChangeOne {
            account,
            id,
            change,
        })
        .await
    }

    /// Removes a mail of an account for good. False: the account has no mail with this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_mail(&self, account: &str, id: MailId) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(Remove { account, id }).await
    }

    /// Whether a mail of this number was ever stored.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn was_mail(&self, id: MailId) -> Result<bool, StoreError> {
        self.ask(Was { id }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::ChangeOne(ChangeOne {
            account: "ann".into(),
            id: MailId(1),
            change: MailChange::default(),
        }),
        Op::Remove(Remove {
            account: "ann".into(),
            id: MailId(1),
        }),
        Op::Learn(learn::sample()),
    ]
}
