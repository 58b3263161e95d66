//! Queued messages for somebody who looks through them: a few, and soon, however many there are.

use std::time::{Duration, Instant};

use postrider_store::{Order, QueueFilter, QueueId, Queued, Reference};
use serde::{Deserialize, Serialize};

use super::{
    Single,
    messages::{MessageItem, Selection, Stage},
};
use crate::{AdminError, Context};

/// A search ends after this time, or when it looked at so many messages.
const TIME: Duration = Duration::from_millis(40);
const LOOKED_MAX: u64 = 20_000;
/// How many messages are read at once.
const PAGE: usize = 200;
/// The most messages that an entry of the application's own data leads to.
const EXTRA_MAX: usize = 1000;
/// So much may the clock have been set back between two messages of the queue.
const CLOCK: Duration = Duration::from_secs(60 * 60);

/// Looks through queued messages. It ends after a while: the output says how far it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Browse {
    /// The messages. A stage of the history selects none.
    pub which: Selection,
    /// By number, ascending or descending.
    pub order: Order,
    /// Begins behind this message; None: at the beginning.
    pub after: Option<QueueId>,
    /// The most messages.
    pub limit: usize,
    /// Counts the messages that match behind the last one that is given, too.
    pub count: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Browsed {
    /// The messages.
    pub messages: Vec<MessageItem>,
    /// How many messages were counted.
    pub counted: u64,
    /// The search did not come to its end: it goes on behind this message.
    pub reached: Option<Reached>,
}

/// How far a search came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The last message that was looked at.
    pub id: u64,
    /// When that was queued, in RFC 3339.
    pub queued: String,
}

impl Single for Browse {
    type Output = Browsed;

    async fn answer(self, context: &Context) -> Result<Browsed, AdminError> {
        let mut browsed = Browsed {
            messages: Vec::new(),
            counted: 0,
            reached: None,
        };
        if self.which.stage.is_some_and(Stage::is_end) {
            return Ok(browsed);
        }
        if self.count && self.limit == 0 && self.which == Selection::default() {
            browsed.counted = context.store.counts().await.queued;
            return Ok(browsed);
        }
        let filter = self.which.for_store();
        let Some(by_index) = self.by_index(context, &filter).await? else {
            return Ok(browsed);
        };
        let (begun, mut looked, mut after) = (Instant::now(), 0, self.after);
        loop {
            let page = context
                .store
                .list(&by_index, after, self.order, PAGE)
                .await?;
            let last = page.items.last();
            let last = last.map(|last| (last.id, last.common.queued));
            for message in page.items {
                looked += 1;
                if self.is_past(&message) {
                    return Ok(browsed);
                }
                if !self.which.selects(context, &filter, &message).await? {
                    continue;
                }
                browsed.counted += 1;
                if browsed.messages.len() < self.limit {
                    browsed
                        .messages
                        .push(MessageItem::queued(context, &message).await?);
                }
                if !self.count && browsed.messages.len() >= self.limit {
                    return Ok(browsed);
                }
            }
            let (Some(next), Some((id, queued))) = (page.next, last) else {
                return Ok(browsed);
            };
            if looked >= LOOKED_MAX || begun.elapsed() >= TIME {
                browsed.reached = Some(Reached {
                    id: id.0,
                    queued: queued.to_string(),
                });
                return Ok(browsed);
            }
            after = Some(next);
        }
    }
}

impl Browse {
    /// The part of the filter that an index answers. None: nothing can match.
    async fn by_index(
        &self,
        context: &Context,
        filter: &QueueFilter,
    ) -> Result<Option<QueueFilter>, AdminError> {
        let has_domain = |part: &Option<String>| {
            let part = part.as_ref();
            part.is_some_and(|part| part.starts_with('@'))
        };
        let mut by_index = QueueFilter {
            ids: filter.ids.clone(),
            message_id: filter.message_id.clone(),
            ..QueueFilter::default()
        };
        if let Some((key, value)) = self.which.extra_pair() {
            let found = with_extra(context, filter.account.as_deref(), key, value).await?;
            let wanted = found
                .into_iter()
                .filter(|id| by_index.ids.is_empty() || by_index.ids.contains(id));
            by_index.ids = wanted.collect();
            return Ok((!by_index.ids.is_empty()).then_some(by_index));
        }
        if has_domain(&filter.to) {
            by_index.to.clone_from(&filter.to);
        } else if let Some((_, domain)) = filter.to.as_deref().and_then(|to| to.split_once('@')) {
            // A whole address is among those of its domain.
            by_index.to = Some(format!("@{domain}"));
        } else if has_domain(&filter.from) {
            by_index.from.clone_from(&filter.from);
        } else if let Some((_, domain)) =
            filter.from.as_deref().and_then(|from| from.split_once('@'))
        {
            by_index.from = Some(format!("@{domain}"));
        } else if filter.hold == Some(true) {
            by_index.hold = filter.hold;
        } else if filter.transport.as_ref().is_some_and(|it| !it.is_empty()) {
            by_index.transport.clone_from(&filter.transport);
        } else {
            by_index.account.clone_from(&filter.account);
        }
        Ok(Some(by_index))
    }

    /// No message from here on matches: they were queued later.
    fn is_past(&self, message: &Queued) -> bool {
        let before = self.which.filter.submitted_before;
        let before = before.filter(|_| self.order == Order::Ascending);
        before.is_some_and(|before| message.common.queued > before.after(CLOCK))
    }
}

/// The messages with an entry of their applications' own data.
async fn with_extra(
    context: &Context,
    account: Option<&str>,
    key: &str,
    value: &str,
) -> Result<Vec<QueueId>, AdminError> {
    let accounts: Vec<String> = match account {
        Some(account) => vec![account.to_owned()],
        None => context.config.load().accounts.keys().cloned().collect(),
    };
    let mut ids = Vec::new();
    for account in &accounts {
        let extra = Reference::Extra {
            account,
            key,
            value,
        };
        let left = EXTRA_MAX - ids.len();
        let found = context.store.find(extra, None, None, left).await?;
        ids.extend(found.iter().map(|found| found.message().id));
        if ids.len() >= EXTRA_MAX {
            break;
        }
    }
    Ok(ids)
}
