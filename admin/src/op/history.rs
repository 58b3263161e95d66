//! The history: messages that left the queue.

use std::collections::BTreeMap;

use postrider_store::{Order, Retired, RetiredFilter};
use serde::{Deserialize, Serialize};

use super::{
    Operation, Sink,
    pages::send_pages,
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

/// Lists messages of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The messages to list.
    pub filter: RetiredFilter,
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
        let (filter, order) = (&self.filter, self.order);
        send_pages(self.limit, items, |after, count| {
            context.store.list_retired(filter, after, order, count)
        })
        .await
    }
}
