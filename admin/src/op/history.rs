//! The history: messages that left the queue.

use std::collections::BTreeMap;

use postrider_queue::Allowance;
use postrider_store::{Actor, Order, Origin, QueueId, Queued, Retired, RetiredFilter, StoreError};
use serde::{Deserialize, Serialize};

use super::{
    Operation, Single, Sink,
    pages::{Pages, Part, Searched, search},
    queue::{AttemptItem, reverse_path},
};
use crate::{AdminError, Context};

/// A message of the history with all its results. Times are RFC 3339, addresses are in their
/// Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct RetiredItem {
    pub id: u64,
    pub account: String,
    /// The reverse-path; empty for the null reverse-path.
    pub from: String,
    pub to: String,
    pub subject: String,
    /// Bytes.
    pub size: u64,
    pub created: String,
    /// Whether the next hop accepted the message.
    pub success: bool,
    pub last_activity: String,
    /// When the record is removed.
    pub keep_until: String,
    pub attempts: u32,
    pub results: Vec<AttemptItem>,
    pub transport: String,
    pub message_id: String,
    pub from_id: String,
    pub extra: BTreeMap<String, String>,
}

impl From<&Retired> for RetiredItem {
    fn from(retired: &Retired) -> Self {
        let message = &retired.message;
        Self {
            id: message.id.0,
            account: message.common.account.clone(),
            from: reverse_path(message),
            to: message.recipient.unicode(),
            subject: message.common.subject.clone(),
            size: message.common.size,
            created: message.common.queued.to_string(),
            success: retired.success,
            last_activity: retired.last_activity.to_string(),
            keep_until: retired.keep_until.to_string(),
            attempts: message.attempts,
            results: message.results.iter().map(AttemptItem::from).collect(),
            transport: message.transport.clone(),
            message_id: message.common.message_id.clone(),
            from_id: message.from_id.clone(),
            extra: message.common.extra.clone(),
        }
    }
}

/// What the store does not filter by. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Also {
    /// The code of the last reply.
    pub code: Option<u16>,
    /// The enhanced code of the last reply, for example `5.1.1`.
    pub enhanced_code: Option<String>,
    /// The host of the last attempt, as `name [ip]`, has this text.
    pub host: Option<String>,
    /// An entry of the application's own data: its name, and its value. An empty value stands for
    /// any.
    pub extra: Option<(String, String)>,
}

impl Also {
    fn matches(&self, retired: &Retired) -> bool {
        let last = retired.message.results.last();
        let code = |code: &u16| last.is_some_and(|it| it.code == *code);
        let enhanced = |wanted: &String| {
            last.and_then(|it| it.enhanced)
                .is_some_and(|it| it.to_string() == *wanted)
        };
        let host = |host: &String| last.is_some_and(|it| it.remote.contains(host));
        let extra = &retired.message.common.extra;
        self.code.as_ref().is_none_or(code)
            && self.enhanced_code.as_ref().is_none_or(enhanced)
            && self.host.as_ref().is_none_or(host)
            && self.extra.as_ref().is_none_or(|(name, value)| {
                let found = extra.get(name);
                found.is_some_and(|it| value.is_empty() || it == value)
            })
    }
}

/// Lists messages of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The messages to list.
    pub filter: RetiredFilter,
    /// What they have to have besides.
    #[serde(default)]
    pub also: Also,
    /// By id, ascending or descending.
    pub order: Order,
    /// The largest number of messages; None: all.
    pub limit: Option<usize>,
}

impl Operation for List {
    type Item = RetiredItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<RetiredItem>,
    ) -> Result<(), AdminError> {
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut pages = Pages::new(None);
        while let Some((after, count)) = pages.next().filter(|_| left > 0) {
            let page = context
                .store
                .list_retired(&self.filter, after, self.order, count.min(left));
            let page = pages.pass(page.await?);
            let found = page.iter().filter(|retired| self.also.matches(retired));
            let found: Vec<RetiredItem> = found.take(left).map(RetiredItem::from).collect();
            left -= found.len();
            items.send(found).await?;
        }
        Ok(())
    }
}

/// Searches the history. It ends after 40 ms or 20,000 messages, and tells how far it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The messages.
    pub filter: RetiredFilter,
    /// What they have to have besides.
    #[serde(default)]
    pub also: Also,
    /// By id, ascending or descending.
    pub order: Order,
    /// The search begins behind this message; None: at the beginning.
    pub after: Option<QueueId>,
    /// The most messages.
    pub limit: usize,
}

impl Single for Search {
    type Output = Searched<RetiredItem>;

    async fn answer(self, context: &Context) -> Result<Searched<RetiredItem>, AdminError> {
        let indexed = self.filter.indexed();
        let (store, order) = (&context.store, self.order);
        let part = Part {
            after: self.after,
            limit: self.limit,
        };
        search(
            part,
            |after, count| store.list_retired(&indexed, after, order, count),
            |retired: &Retired| (retired.message.id.0, retired.message.common.queued),
            |retired| self.filter.matches(retired) && self.also.matches(retired),
        )
        .await
    }
}

/// Finds the messages of the history whose texts are still there, so that they can be sent again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithText {
    /// The messages.
    pub ids: Vec<QueueId>,
}

impl Single for WithText {
    type Output = Vec<u64>;

    async fn answer(self, context: &Context) -> Result<Vec<u64>, AdminError> {
        let store = &context.store;
        let mut found = Vec::new();
        for id in self.ids {
            if let Some(retired) = store.retired(id).await?
                && store.queued_message(&retired.message).await.is_ok()
            {
                found.push(id.0);
            }
        }
        Ok(found)
    }
}

/// Sends a message of the history again, as a new message to the same recipient. For the holder of
/// the account it is as if a program of the account sent it: with an own sender, within the limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendAgain {
    /// The message of the history.
    pub id: QueueId,
}

/// The new message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAgain {
    /// The number of the new message.
    pub id: u64,
}

impl Single for SendAgain {
    type Output = SentAgain;

    async fn answer(self, context: &Context) -> Result<SentAgain, AdminError> {
        let target = self.id.to_string();
        let context = &context.carrying("history.send_again", &target, &());
        let sent = self.send(context).await;
        context
            .record("history.send_again", &target, &(), sent)
            .await
    }
}

impl SendAgain {
    async fn send(&self, context: &Context) -> Result<SentAgain, AdminError> {
        let id = self.id;
        let retired = context.store.retired(id).await?;
        let missing = || {
            let text = format!("there is no message {id} in the history");
            AdminError::not_found(text).at("id")
        };
        let retired = retired.ok_or_else(missing)?;
        let _allowance = match context.caller.actor {
            Actor::Account => allow(context, &retired.message).await?,
            _ => None,
        };
        let _held = context
            .hold_account(&retired.message.common.account)
            .await?;
        let sent = context
            .queue
            .send_again(&context.store, &retired.message)
            .await;
        match sent {
            Ok(id) => Ok(SentAgain { id: id.0 }),
            Err(StoreError::NoText(_)) => {
                let text = format!("the text of message {id} is gone, so it can't be sent again");
                Err(AdminError::conflict(text).at("id"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Checks that an account may send a message now.
async fn allow(context: &Context, message: &Queued) -> Result<Option<Allowance>, AdminError> {
    let account = &message.common.account;
    if message.common.origin != Origin::Sent {
        let text = "the account did not send the message, so it can't send it again";
        return Err(AdminError::conflict(text).at("id"));
    }
    if let Some(address) = message.reverse_path.address() {
        let config = context.config.load();
        if !config.may_send_from(account, address) {
            let text = format!(
                "the account may not send from {} any more",
                address.unicode()
            );
            return Err(AdminError::conflict(text).at("id"));
        }
    }
    let recipients = vec![message.recipient.clone()];
    Ok(context.queue.allow(account, recipients, None).await?)
}
