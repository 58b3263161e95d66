//! Mail that users deleted: what there is, and the way back.

use postrider_queue::header::section;
use postrider_smtp::field::{self, fields};
use postrider_store::{DeletedMail, DeletedPlace, MailId, Time};
use serde::{Deserialize, Serialize};

use super::{Listed, Operation, Sink, blob, pages::Pages};
use crate::{AdminError, Context};

/// The letter of deleted mail in names.
const LETTER: char = 'd';
/// The mailbox that mail comes back to.
const INBOX: &str = "Inbox";
/// How many mails an entry of the audit log names.
const NAMED: usize = 20;
/// How much of a mail is read for its author and subject. Who wrote it chose the length.
const READ_MAX: u64 = 64 << 10;
/// The most characters of an author or a subject.
const TEXT_MAX: usize = 1000;
/// The most mails that a call brings back by their names.
pub const RESTORE_MAX: usize = 1000;

/// Lists the deleted mail of an account, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The account.
    pub account: String,
    /// Begin behind this place; None: at the oldest mail.
    #[serde(default)]
    pub after: Option<DeletedPlace>,
    /// So many mails from there are left out.
    #[serde(default)]
    pub skip: usize,
    /// The largest number of mails; None: all.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// A deleted mail. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct UndeleteItem {
    /// The name of the mail, for the way back.
    pub hash: String,
    /// Bytes of the whole message.
    pub size: u64,
    /// When it was deleted.
    pub deleted_at: String,
    /// When it goes for good.
    pub expires_at: String,
    /// The mail itself.
    pub item: UndeletedMail,
    /// Always `email`.
    pub collection: String,
}

/// What is shown of a deleted mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct UndeletedMail {
    /// Always `email`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The From field as text; empty if it can't be read.
    pub from: String,
    /// The subject; empty if it can't be read.
    pub subject: String,
    /// When the mail came.
    pub received_at: String,
}

/// Puts deleted mail of an account into its inbox again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The account.
    pub account: String,
    /// The mails: 1000 at most. None: all.
    #[serde(default)]
    pub mails: Option<Vec<RestoreOne>>,
}

/// A deleted mail that is to come back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreOne {
    /// The name of the mail.
    pub hash: String,
    /// The time at which it came from now on; None: that stays as it is.
    #[serde(default)]
    pub received: Option<Time>,
}

/// What became of a mail that is to come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Restored {
    /// It is in the inbox.
    Success,
    /// The account has no such deleted mail.
    NotFound,
    /// It is still deleted.
    Error {
        /// The reason.
        reason: String,
    },
}

/// The name of a deleted mail.
fn hash(id: MailId) -> String {
    blob::name_of(LETTER, id.0)
}

/// The mail that a name is for.
#[must_use]
pub fn mail_of(hash: &str) -> Option<MailId> {
    blob::number_of(LETTER, hash).map(MailId)
}

impl UndeleteItem {
    /// The place of the mail in the list.
    #[must_use]
    pub fn place(&self) -> Option<DeletedPlace> {
        let deleted: jiff::Timestamp = self.deleted_at.parse().ok()?;
        Some((deleted.into(), mail_of(&self.hash)?))
    }

    async fn of(context: &Context, deleted: &DeletedMail) -> Self {
        let mail = &deleted.mail;
        let header = match context.store.mail_message(mail).await {
            Ok(message) => message.read(0..message.len().min(READ_MAX)).await,
            Err(error) => Err(error),
        };
        // A text that can't be read is damaged. The list shows what is known.
        let header = header.unwrap_or_default();
        let text = |name: &str| {
            let mut found = fields(section(&header)).filter(|field| field.is(name));
            let text = found.next().map(|field| field::text(field.value));
            let text = text.unwrap_or_default();
            text.trim().chars().take(TEXT_MAX).collect::<String>()
        };
        Self {
            hash: hash(mail.id),
            size: mail.size,
            deleted_at: deleted.deleted.to_string(),
            expires_at: deleted.until.to_string(),
            item: UndeletedMail {
                kind: "email".to_owned(),
                from: text("From"),
                subject: text("Subject"),
                received_at: mail.received.to_string(),
            },
            collection: "email".to_owned(),
        }
    }
}

impl Operation for List {
    type Item = UndeleteItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<UndeleteItem>,
    ) -> Result<(), AdminError> {
        context.check_account(&self.account)?;
        let limit = self.limit.map(|limit| limit.saturating_add(self.skip));
        let (mut pages, mut skip) = (Pages::new(limit), self.skip);
        while let Some((after, count)) = pages.next() {
            let after = after.or(self.after);
            let page = context.store.list_deleted(&self.account, after, count);
            let found = pages.pass(page.await?);
            let left_out = skip.min(found.len());
            skip -= left_out;
            for deleted in found.into_iter().skip(left_out) {
                let item = UndeleteItem::of(context, &deleted).await;
                items.send(vec![item]).await?;
            }
        }
        Ok(())
    }
}

impl Restore {
    /// The mails to bring back. None: a name is for none.
    async fn wanted(
        &self,
        context: &Context,
    ) -> Result<Vec<(Option<MailId>, Option<Time>)>, AdminError> {
        context.check_account(&self.account)?;
        let Some(mails) = &self.mails else {
            let (mut all, mut pages) = (Vec::new(), Pages::new(None));
            while let Some((after, count)) = pages.next() {
                let page = context.store.list_deleted(&self.account, after, count);
                let found = pages.pass(page.await?);
                all.extend(found.iter().map(|it| (Some(it.mail.id), None)));
            }
            return Ok(all);
        };
        if mails.len() > RESTORE_MAX {
            let text = format!("more than {RESTORE_MAX} mails");
            return Err(AdminError::invalid(text).at("mails"));
        }
        let wanted = mails.iter().map(|one| (mail_of(&one.hash), one.received));
        Ok(wanted.collect())
    }

    async fn one(
        &self,
        context: &Context,
        (id, received): (Option<MailId>, Option<Time>),
    ) -> Restored {
        let Some(id) = id else {
            return Restored::NotFound;
        };
        // Mail of an account that goes meanwhile would be that of the next one of its name.
        let Ok(_held) = context.hold_account(&self.account).await else {
            return Restored::NotFound;
        };
        let store = &context.store;
        match store.restore_mail(&self.account, id, INBOX, received).await {
            Ok(true) => Restored::Success,
            Ok(false) => Restored::NotFound,
            Err(error) => Restored::Error {
                reason: error.to_string(),
            },
        }
    }
}

impl Operation for Restore {
    type Item = Restored;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<Restored>,
    ) -> Result<(), AdminError> {
        let wanted = self.wanted(context).await;
        let all = self.mails.is_none();
        let named = wanted.as_deref().unwrap_or_default();
        let names = named.iter().filter_map(|(id, _)| id.map(hash));
        let names: Vec<String> = names.take(NAMED).collect();
        let after = serde_json::json!({"all": all, "count": named.len(), "mails": names});
        let context = &context.carrying(Self::NAME, &self.account, &after);
        let mut is_change = all;
        let done = async {
            for mail in wanted? {
                let restored = self.one(context, mail).await;
                is_change |= restored == Restored::Success;
                items.send(vec![restored]).await?;
            }
            Ok(())
        };
        let done = done.await;
        // Nothing was there to be restored: that is no change.
        if done.is_ok() && !is_change {
            return Ok(());
        }
        context
            .record(Self::NAME, &self.account, &after, done)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_for_one_mail() {
        assert_eq!(mail_of(&hash(MailId(7))), Some(MailId(7)));
        // That of a queued message is another.
        let queued = blob::name_of('m', 7);
        for wrong in ["", "ZA", "?", &queued] {
            assert_eq!(mail_of(wrong), None, "{wrong}");
        }
    }
}
