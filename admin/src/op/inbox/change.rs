//! Changes of the inbox: clear it, and note what was read.

use postrider_queue::EndAs;
use postrider_store::{MailChange, MailId, Order, QueueFilter, QueueId};
use serde::{Deserialize, Serialize};

use super::{
    super::{Listed, Single, count_true},
    Entry, InboxId, SEEN,
    list::{is_shown_elsewhere, row},
    query::Query,
    walk::Walk,
};
use crate::{AdminError, Context};

/// How many records are removed or marked at a time.
const STEP: usize = 200;

/// Removes what is in the inbox for good: mails, and messages that were sent. What waits is
/// canceled. What is in delivery stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clear {
    /// These; None: what matches the search.
    pub ids: Option<Vec<InboxId>>,
    /// The search; empty: everything.
    pub query: String,
    /// Only of this account; None: of all accounts.
    pub account: Option<String>,
    /// Only count.
    pub dry_run: bool,
}

/// How much was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Mails.
    pub mails: u64,
    /// Messages that had ended.
    pub ended: u64,
    /// Messages that waited, and were canceled.
    pub canceled: u64,
    /// Messages that are in delivery, and stay.
    pub in_delivery: u64,
}

impl Single for Clear {
    type Output = Cleared;

    async fn answer(self, context: &Context) -> Result<Cleared, AdminError> {
        if self.dry_run {
            return self.clear(context).await;
        }
        let context = &context.carrying(Self::NAME, "inbox", &self);
        let cleared = self.clear(context).await;
        context.record(Self::NAME, "inbox", &self, cleared).await
    }
}

/// What a step removes.
#[derive(Default)]
struct Portion {
    mails: Vec<(String, MailId)>,
    ended: Vec<QueueId>,
    queued: Vec<QueueId>,
}

impl Portion {
    /// Adds an entry. With `all`, the message that a mail was goes too, as no row shows it.
    fn add(&mut self, entry: &Entry, all: bool) {
        match entry {
            Entry::Mail(mail) => {
                self.mails.push((mail.account.clone(), mail.id));
                self.ended.extend(entry.sent().filter(|_| all));
            }
            Entry::Queued(message) => self.queued.push(message.id),
            Entry::Ended(message, _) => self.ended.push(message.id),
        }
    }

    const fn len(&self) -> usize {
        self.mails.len() + self.ended.len() + self.queued.len()
    }
}

impl Clear {
    async fn clear(&self, context: &Context) -> Result<Cleared, AdminError> {
        let query = Query::parse(&self.query)?;
        let account = self.account.as_deref();
        if let Some(ids) = &self.ids {
            let (mut portion, mut cleared) = (Portion::default(), Cleared::default());
            for id in ids {
                portion.add(&Entry::find(context, *id, account).await?, true);
            }
            self.remove(context, portion, &mut cleared).await?;
            return Ok(cleared);
        }
        let mut walk = Walk::new(context, account, None, Order::Descending);
        let (mut portion, mut cleared) = (Portion::default(), Cleared::default());
        while let Some((entry, place)) = walk.next().await? {
            // Without a search also what no row shows goes.
            let wanted = match query.is_empty() {
                true => !self.dry_run || !is_shown_elsewhere(&entry),
                false => {
                    !is_shown_elsewhere(&entry)
                        && row(context, &entry, place, &query).await?.is_some()
                }
            };
            if !wanted {
                continue;
            }
            portion.add(&entry, !query.is_empty());
            if portion.len() >= STEP {
                self.remove(context, std::mem::take(&mut portion), &mut cleared)
                    .await?;
            }
        }
        self.remove(context, portion, &mut cleared).await?;
        Ok(cleared)
    }

    async fn remove(
        &self,
        context: &Context,
        portion: Portion,
        cleared: &mut Cleared,
    ) -> Result<(), AdminError> {
        let Portion {
            mails,
            mut ended,
            queued,
        } = portion;
        if self.dry_run {
            cleared.mails += mails.len() as u64;
            cleared.ended += ended.len() as u64;
            cleared.canceled += queued.len() as u64;
            return Ok(());
        }
        let store = &context.store;
        let removals = mails
            .iter()
            .map(|(account, id)| store.remove_mail(account, *id));
        cleared.mails += count_true(removals).await?;
        if !queued.is_empty() {
            let filter = QueueFilter {
                ids: queued.clone(),
                ..QueueFilter::default()
            };
            let who = context.caller.name.as_str();
            let counts = context
                .queue
                .end_all(store, &filter, EndAs::Drop, who)
                .await?;
            cleared.canceled += counts.ended;
            cleared.in_delivery += counts.in_delivery;
        }
        let others = store.forget_retired(std::mem::take(&mut ended)).await?;
        cleared.ended += others;
        // Those that were canceled just now are in the history.
        store.forget_retired(queued).await?;
        Ok(())
    }
}

/// Notes that mails were read, or that they were not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mark {
    /// The mails; None: all.
    pub ids: Option<Vec<InboxId>>,
    /// Only of this account; None: of all accounts.
    pub account: Option<String>,
    /// They were read.
    pub read: bool,
}

/// How many mails were marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// How many mails were not so before.
    pub marked: u64,
}

impl Single for Mark {
    type Output = Marked;

    async fn answer(self, context: &Context) -> Result<Marked, AdminError> {
        let context = &context.carrying(Self::NAME, "inbox", &self);
        let marked = self.mark(context).await;
        context.record(Self::NAME, "inbox", &self, marked).await
    }
}

impl Mark {
    async fn mark(&self, context: &Context) -> Result<Marked, AdminError> {
        let mut marked = 0;
        let account = self.account.as_deref();
        if let Some(ids) = &self.ids {
            for id in ids {
                let entry = Entry::find(context, *id, account).await?;
                marked += u64::from(set(context, &entry, self.read).await?);
            }
            return Ok(Marked { marked });
        }
        let mut after = None;
        loop {
            let page = context
                .store
                .list_mails_in_order(account, after, Order::Ascending, STEP)
                .await?;
            let entries: Vec<Entry> = page.items.into_iter().map(Entry::Mail).collect();
            let changes = entries.iter().map(|entry| set(context, entry, self.read));
            marked += count_true(changes).await?;
            after = page.next;
            if after.is_none() {
                return Ok(Marked { marked });
            }
        }
    }
}

/// Notes whether an entry was read. False: it was so before, or it is no mail.
async fn set(context: &Context, entry: &Entry, read: bool) -> Result<bool, AdminError> {
    let Entry::Mail(mail) = entry else {
        return Ok(false);
    };
    if mail.flags.iter().any(|flag| flag == SEEN) == read {
        return Ok(false);
    }
    let flags = vec![SEEN.to_owned()];
    let change = match read {
        true => MailChange {
            add_flags: flags,
            ..MailChange::default()
        },
        false => MailChange {
            remove_flags: flags,
            ..MailChange::default()
        },
    };
    Ok(context
        .store
        .change_mail(&mail.account, mail.id, change)
        .await?)
}

/// Notes that somebody looks at an entry. That is no change that an audit is interested in.
pub(super) async fn note_read(context: &Context, entry: &Entry) -> Result<(), AdminError> {
    set(context, entry, true).await.map(drop)
}
