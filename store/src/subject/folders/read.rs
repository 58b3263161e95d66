//! Lists of mailboxes and of mails.

use std::ops::Bound;

use tokio::sync::watch;

use super::{At, Folder, Summary, Tables, change::key};
use crate::{
    Mail, MailId, Order, Store, StoreError,
    error::Fault,
    subject::{PORTION, Reader, State},
    table::key::Name,
};

/// The most mails that one call looks at.
pub const ROWS_LOOKED_AT: usize = 20_000;

/// A mail in a mailbox, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRow {
    /// The UID of the mail in its mailbox.
    pub uid: u32,
    /// The record.
    pub mail: Mail,
    /// The parts that a list shows. None: nobody has made them yet.
    pub summary: Option<Box<Summary>>,
}

/// Which mails of a mailbox. All given conditions must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// Only mails without the flag `\seen`.
    pub unseen: bool,
    /// Only mails with this flag.
    pub flag: Option<String>,
    /// Only mails with these letters in author, recipients or subject, in lower case. A mail
    /// without a summary has none.
    pub text: Option<String>,
}

impl RowFilter {
    /// Whether all mails match.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn matches(&self, row: &MailRow) -> bool {
        let has = |wanted: &str| row.mail.flags.iter().any(|flag| flag == wanted);
        let has_text = |text: &String| row.summary.as_ref().is_some_and(|it| it.has(text));
        (!self.unseen || !has("\\seen"))
            && self.flag.as_deref().is_none_or(has)
            && self.text.as_ref().is_none_or(has_text)
    }
}

/// Mails of a mailbox, newest UID first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowPage {
    /// The mails.
    pub rows: Vec<MailRow>,
    /// The next page has mails with lower UIDs. None: there are no more. A search that looked at
    /// [`ROWS_LOOKED_AT`] mails ends with a page that may not be full.
    pub next: Option<u32>,
}

/// A place in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// The mail is there.
    Here(Box<MailRow>),
    /// The mail is in this mailbox now, with this UID.
    Moved {
        /// The name of the mailbox.
        mailbox: String,
        /// The UID there.
        uid: u32,
    },
    /// There is no such mail.
    Nowhere,
    /// There is no such mailbox.
    NoFolder,
}

impl Tables {
    fn folder(&self, account: &str, mailbox: &str) -> Result<Option<Folder>, Fault> {
        let record = self.folders.get(&key(account, mailbox))?;
        Ok(record.map(|record| record.folder(mailbox, self.counters.skipped)))
    }
}

impl State {
    fn row(&self, id: MailId) -> Result<Option<MailRow>, Fault> {
        let (mail, entry) = (self.mail.mails.get(&id)?, self.folders.entries.get(&id)?);
        let row = |(mail, entry): (_, super::Entry)| MailRow {
            uid: entry.spot.1,
            mail,
            summary: entry.summary,
        };
        Ok(mail.zip(entry).map(row))
    }

    fn locate(&self, account: &str, mailbox: &str, uid: u32) -> Result<Located, Fault> {
        let tables = &self.folders;
        let Some(record) = tables.folders.get(&key(account, mailbox))? else {
            return Ok(Located::NoFolder);
        };
        if let Some(id) = tables.at(record.id, uid)? {
            let row = self.row(id)?;
            return Ok(row.map_or(Located::Nowhere, |row| Located::Here(Box::new(row))));
        }
        let Some(At(id)) = tables.moved.get(&(record.id, uid))? else {
            return Ok(Located::Nowhere);
        };
        let row = self.row(id)?;
        Ok(row.map_or(Located::Nowhere, |row| Located::Moved {
            mailbox: row.mail.mailbox,
            uid: row.uid,
        }))
    }
}

questions! {
    ask FolderOf<'a> { account: &'a str, mailbox: &'a str } -> Option<Folder>,
    |this, state| state.folders.folder(this.account, this.mailbox),
    |this, model| model.folders.folder(this.account, this.mailbox);

    ask Locate<'a> { account: &'a str, mailbox: &'a str, uid: u32 } -> Located,
    |this, state| state.locate(this.account, this.mailbox, this.uid),
    |this, model| model.locate(this.account, this.mailbox, this.uid);

    ask RowOf { id: MailId } -> Option<MailRow>,
    |this, state| state.row(this.id),
    |this, model| model.row(this.id);

    scan ListFolders { account: String } -> Vec<Folder>,
    |this, reader| this.list(reader),
    |this, model| model.folders.list(&this.account);

    scan ListRows {
        account: String, mailbox: String, filter: RowFilter, below: Option<u32>, skip: usize,
        limit: usize
    } -> Option<RowPage>,
    |this, reader| this.list(reader),
    |this, model| model.list_rows(this);
}

impl ListFolders {
    fn list(&self, reader: &Reader<'_>) -> Result<Vec<Folder>, StoreError> {
        let account: Name = self.account.as_str().into();
        let mut from = Bound::Included((Name::clone(&account), Name::from("")));
        let mut all = Vec::new();
        loop {
            let state = reader.state()?;
            let tables = &state.folders;
            let mut last = None;
            for item in tables
                .folders
                .range(from.as_ref(), Bound::Unbounded)?
                .take(PORTION)
            {
                let (key, record) = item?;
                if key.0 != account {
                    return Ok(all);
                }
                all.push(record.folder(&key.1, tables.counters.skipped));
                last = Some(key);
            }
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(all),
            }
        }
    }
}

impl ListRows {
    fn list(&self, reader: &Reader<'_>) -> Result<Option<RowPage>, StoreError> {
        let key = key(&self.account, &self.mailbox);
        let record = reader.state()?.folders.folders.get(&key)?;
        let Some(record) = record else {
            return Ok(None);
        };
        let (mut below, mut looked) = (self.below.unwrap_or(u32::MAX), 0);
        let mut collected = Collected::new(self);
        loop {
            let state = reader.state()?;
            let before = looked;
            let after = (record.id, below);
            let spots = state
                .folders
                .uids
                .scan(None, Some(&after), Order::Descending)?;
            for item in spots.take(PORTION) {
                let ((folder, uid), At(id)) = item?;
                if folder != record.id {
                    return Ok(Some(collected.page(None)));
                }
                if collected.is_full() || looked >= ROWS_LOOKED_AT {
                    return Ok(Some(collected.page(Some(below))));
                }
                if !collected.skips()
                    && let Some(row) = state.row(id)?
                {
                    collected.add(row);
                }
                below = uid;
                looked += 1;
            }
            if looked - before < PORTION {
                return Ok(Some(collected.page(None)));
            }
        }
    }
}

/// The rows of a page, as far as they are collected.
pub(super) struct Collected<'a> {
    asked: &'a ListRows,
    skip: usize,
    rows: Vec<MailRow>,
}

impl<'a> Collected<'a> {
    pub(super) const fn new(asked: &'a ListRows) -> Self {
        Self {
            asked,
            skip: asked.skip,
            rows: Vec::new(),
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.rows.len() >= self.asked.limit
    }

    /// Whether the next mail is left out without a look at it.
    pub(super) fn skips(&mut self) -> bool {
        let skips = self.skip > 0 && self.asked.filter.is_empty();
        self.skip -= usize::from(skips);
        skips
    }

    pub(super) fn add(&mut self, row: MailRow) {
        if !self.asked.filter.matches(&row) {
            return;
        }
        match self.skip {
            0 => self.rows.push(row),
            _ => self.skip -= 1,
        }
    }

    pub(super) fn page(self, next: Option<u32>) -> RowPage {
        let rows = self.rows;
        RowPage { rows, next }
    }
}

impl Store {
    /// A mailbox of an account.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn folder(&self, account: &str, mailbox: &str) -> Result<Option<Folder>, StoreError> {
        self.ask(FolderOf { account, mailbox }).await
    }

    /// The mailboxes of an account, by name.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn folders(&self, account: &str) -> Result<Vec<Folder>, StoreError> {
        let account = account.to_owned();
        self.scan(ListFolders { account }).await
    }

    /// Mails of a mailbox, newest UID first: those below a UID, after so many of them, and at most
    /// so many. None: there is no such mailbox.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_rows(
        &self,
        (account, mailbox): (&str, &str),
        filter: RowFilter,
        below: Option<u32>,
        (skip, limit): (usize, usize),
    ) -> Result<Option<RowPage>, StoreError> {
        let (account, mailbox) = (account.to_owned(), mailbox.to_owned());
        self.scan(ListRows {
            account,
            mailbox,
            filter,
            below,
            skip,
            limit,
        })
        .await
    }

    /// The mail with a UID of a mailbox, or the place where it is now.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn locate_mail(
        &self,
        account: &str,
        mailbox: &str,
        uid: u32,
    ) -> Result<Located, StoreError> {
        self.ask(Locate {
            account,
            mailbox,
            uid,
        })
        .await
    }

    /// A mail with its place. None: it is in no mailbox.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn mail_row(&self, id: MailId) -> Result<Option<MailRow>, StoreError> {
        self.ask(RowOf { id }).await
    }

    /// A count that goes up when the mailboxes of an account changed.
    #[must_use]
    pub fn mail_changed(&self, account: &str) -> watch::Receiver<u64> {
        self.changes().mail.follow(account)
    }
}
