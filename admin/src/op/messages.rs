//! Messages by page: of the queue, and of the history. Also changes of the queued messages that a
//! selection has.

use std::collections::BTreeSet;

use postrider_queue::EndAs;
use postrider_store::{Change, Order, QueueFilter, QueueId, Queued, Retired, RetiredFilter, Store};
use serde::{Deserialize, Serialize};

use super::{
    Operation, Single, Sink,
    queue::{AttemptItem, Ending, QueueItem},
    transcripts::TranscriptItem,
};
use crate::{AdminError, Context};

/// How many messages are read at once.
const PAGE: usize = 500;
/// How many messages are changed or ended at once.
const PORTION: usize = 200;

/// The stages of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is queued, and there was no attempt.
    Scheduled,
    /// It is queued, and an attempt failed.
    Deferred,
    /// An attempt is under way.
    Delivering,
    /// It is held.
    Held,
    /// It left the queue, and the next hop did not take it.
    Failed,
    /// It left the queue, and the next hop took it.
    Delivered,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 6] = [
        Self::Scheduled,
        Self::Deferred,
        Self::Delivering,
        Self::Held,
        Self::Failed,
        Self::Delivered,
    ];

    /// The name in filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Deferred => "deferred",
            Self::Delivering => "delivering",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
        }
    }

    /// The message is in the history.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Failed | Self::Delivered)
    }
}

/// Selects messages. All given fields must match. Without fields it selects the whole queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// The fields that the store knows.
    pub filter: QueueFilter,
    /// The reverse-path or the recipient has this text.
    pub text: Option<String>,
    /// Messages of these accounts; None: of all accounts.
    pub accounts: Option<BTreeSet<String>>,
    /// Messages with this number or a higher one.
    pub first: Option<u64>,
    /// Messages with this number or a lower one.
    pub last: Option<u64>,
    /// Messages at this stage; None: all queued messages.
    pub stage: Option<Stage>,
    /// Messages with this entry of the application's own data, as `KEY=VALUE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<String>,
}

impl Selection {
    /// One queued message.
    #[must_use]
    pub fn one(id: QueueId) -> Self {
        Self {
            filter: QueueFilter {
                ids: vec![id],
                ..QueueFilter::default()
            },
            ..Self::default()
        }
    }

    fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// The filter for the store. Of one account, the store reads no others.
    pub(super) fn for_store(&self) -> QueueFilter {
        let mut filter = self.filter.clone();
        if let (None, Some(accounts)) = (&filter.account, &self.accounts)
            && accounts.len() == 1
        {
            filter.account = accounts.first().cloned();
        }
        if self.stage == Some(Stage::Held) {
            filter.hold = Some(true);
        }
        filter
    }

    fn for_history(&self) -> RetiredFilter {
        let filter = self.for_store();
        RetiredFilter {
            ids: filter.ids,
            account: filter.account,
            from: filter.from,
            to: filter.to,
            message_id: filter.message_id,
            subject: filter.subject,
            transport: filter.transport,
            success: self.stage.map(|stage| stage == Stage::Delivered),
            submitted_before: filter.submitted_before,
            submitted_after: filter.submitted_after,
            ..RetiredFilter::default()
        }
    }

    /// The parts that the store does not know match.
    fn matches(&self, message: &Queued) -> bool {
        let account = &message.common.account;
        let text = |text: &String| {
            let from = message.reverse_path.address().map(|it| it.unicode());
            from.is_some_and(|from| from.contains(text))
                || message.recipient.unicode().contains(text)
        };
        self.accounts
            .as_ref()
            .is_none_or(|accounts| accounts.contains(account))
            && self.first.is_none_or(|first| message.id.0 >= first)
            && self.last.is_none_or(|last| message.id.0 <= last)
            && self.text.as_ref().is_none_or(text)
            && self.has_extra(message)
    }

    /// The key and the value of the wanted entry of the application's own data. An entry without
    /// `=` has no value.
    pub(super) fn extra_pair(&self) -> Option<(&str, &str)> {
        let extra = self.extra.as_deref()?;
        Some(extra.split_once('=').unwrap_or((extra, "")))
    }

    fn has_extra(&self, message: &Queued) -> bool {
        self.extra_pair().is_none_or(|(key, value)| {
            let extra = &message.common.extra;
            extra.get(key).is_some_and(|known| known == value)
        })
    }

    /// Whether a queued message is one of them. `filter` is the filter
    /// [for the store](Self::for_store).
    pub(super) async fn selects(
        &self,
        context: &Context,
        filter: &QueueFilter,
        message: &Queued,
    ) -> Result<bool, AdminError> {
        let matches = filter.matches(message) && self.matches(message);
        Ok(matches && self.is_at_stage(&context.store, message).await?)
    }

    async fn is_at_stage(&self, store: &Store, message: &Queued) -> Result<bool, AdminError> {
        match self.stage {
            None => Ok(true),
            Some(stage) => Ok(stage_of(store, message).await? == stage),
        }
    }
}

/// The stage of a queued message.
async fn stage_of(store: &Store, message: &Queued) -> Result<Stage, AdminError> {
    Ok(if store.is_claimed(message.id).await? {
        Stage::Delivering
    } else if message.hold {
        Stage::Held
    } else if message.attempts > 0 {
        Stage::Deferred
    } else {
        Stage::Scheduled
    })
}

/// A message with all that is known of it. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageItem {
    /// The fields of a queued message. Of a message that ended, `next_attempt` is the time of the
    /// last attempt.
    pub message: QueueItem,
    /// Its stage.
    pub stage: Stage,
    /// The priority from -9 to 9; 0 is normal, and higher is more urgent.
    pub priority: i8,
    /// The ENVID of the submitter; empty if there was none.
    pub env_id: String,
    /// The ORCPT of the recipient; empty if there was none.
    pub orcpt: String,
    /// The next attempt; None: there will be none.
    pub next_retry: Option<String>,
    /// The sender is told of the delay then; None: it will not be told.
    pub next_notify: Option<String>,
    /// The message fails then, if all attempts fail; None: it ended.
    pub expires: Option<String>,
    /// The results of all attempts, oldest first.
    pub results: Vec<AttemptItem>,
    /// What was said in the last attempts, oldest first, as far as it is kept. Only a message that
    /// was asked for alone has them.
    pub transcripts: Vec<TranscriptItem>,
}

impl MessageItem {
    pub(super) async fn queued(context: &Context, message: &Queued) -> Result<Self, AdminError> {
        let state = context.queue.explain(message).await?;
        let outlook = context.queue.outlook(message);
        Ok(Self {
            stage: stage_of(&context.store, message).await?,
            next_retry: (!message.hold).then(|| message.next_attempt.to_string()),
            next_notify: outlook.delay_told.map(|time| time.to_string()),
            expires: (!message.hold).then(|| outlook.fails.to_string()),
            ..Self::new(message, state)
        })
    }

    fn retired(retired: &Retired) -> Self {
        let state = postrider_queue::explain_retired(retired);
        Self {
            stage: match retired.success {
                true => Stage::Delivered,
                false => Stage::Failed,
            },
            ..Self::new(&retired.message, state)
        }
    }

    fn new(message: &Queued, state: String) -> Self {
        Self {
            message: QueueItem::new(message, state),
            stage: Stage::Scheduled,
            priority: message.common.urgency.priority,
            env_id: message.common.envid.clone(),
            orcpt: message.orcpt.clone(),
            next_retry: None,
            next_notify: None,
            expires: None,
            results: message.results.iter().map(AttemptItem::from).collect(),
            transcripts: Vec::new(),
        }
    }
}

/// Finds messages, a page of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// The messages.
    pub which: Selection,
    /// By number, ascending or descending.
    pub order: Order,
    /// The page begins behind this message; None: at the beginning.
    pub after: Option<QueueId>,
    /// How many messages are left out from there.
    pub skip: u64,
    /// The most messages of a page.
    pub limit: usize,
    /// Give the messages themselves. Otherwise only their numbers.
    pub whole: bool,
    /// The number of messages at which the count ends.
    pub count_max: u64,
}

/// A page of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The numbers of the messages.
    pub ids: Vec<u64>,
    /// The messages, if they were asked for.
    pub messages: Vec<MessageItem>,
    /// How many messages match in all.
    pub total: u64,
    /// There may be more than `total`: the count ended there.
    pub more: bool,
    /// The next page begins behind this message; None: there is no further page.
    pub next: Option<u64>,
}

impl Single for Find {
    type Output = Found;

    async fn answer(self, context: &Context) -> Result<Found, AdminError> {
        let mut walk = Walk::new(&self.which, self.order, self.after);
        let mut found = Found {
            ids: Vec::new(),
            messages: Vec::new(),
            total: 0,
            more: false,
            next: None,
        };
        let mut skip = self.skip;
        'pages: while let Some(page) = walk.next(context).await? {
            for message in page {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                if found.ids.len() >= self.limit {
                    found.next = found.ids.last().copied();
                    break 'pages;
                }
                found.ids.push(message.id());
                if self.whole {
                    found.messages.push(message.item(context).await?);
                }
            }
        }
        (found.total, found.more) = self.count(context).await?;
        Ok(found)
    }
}

impl Find {
    /// How many messages match, and whether the count ended early.
    async fn count(&self, context: &Context) -> Result<(u64, bool), AdminError> {
        if self.which.is_everything() {
            return Ok((context.store.counts().await.queued, false));
        }
        let mut walk = Walk::new(&self.which, Order::Ascending, None);
        let mut total = 0;
        while let Some(page) = walk.next(context).await? {
            total += page.len() as u64;
            if total > self.count_max {
                return Ok((self.count_max, true));
            }
        }
        Ok((total, false))
    }
}

/// A message on the way through the queue or the history.
enum Seen {
    Queued(Queued),
    Retired(Retired),
}

impl Seen {
    const fn id(&self) -> u64 {
        match self {
            Self::Queued(message) => message.id.0,
            Self::Retired(retired) => retired.message.id.0,
        }
    }

    async fn item(&self, context: &Context) -> Result<MessageItem, AdminError> {
        match self {
            Self::Queued(message) => MessageItem::queued(context, message).await,
            Self::Retired(retired) => Ok(MessageItem::retired(retired)),
        }
    }
}

/// A way through the messages that match, page by page.
struct Walk<'a> {
    which: &'a Selection,
    order: Order,
    after: Option<QueueId>,
    /// How many messages are read at once.
    page: usize,
    ended: bool,
}

impl<'a> Walk<'a> {
    const fn new(which: &'a Selection, order: Order, after: Option<QueueId>) -> Self {
        Self {
            which,
            order,
            after,
            page: PAGE,
            ended: false,
        }
    }

    /// The same in pages of this size.
    const fn in_pages_of(mut self, page: usize) -> Self {
        self.page = page;
        self
    }

    /// The next messages that match; perhaps none of them. None: the way ends.
    async fn next(&mut self, context: &Context) -> Result<Option<Vec<Seen>>, AdminError> {
        if self.ended {
            return Ok(None);
        }
        let (store, which) = (&context.store, self.which);
        let mut seen = Vec::new();
        let next = if which.stage.is_some_and(Stage::is_end) {
            let filter = which.for_history();
            let page = store.list_retired(&filter, self.after, self.order, self.page);
            let page = page.await?;
            let items = page.items.into_iter();
            seen.extend(
                items
                    .filter(|it| which.matches(&it.message))
                    .map(Seen::Retired),
            );
            page.next
        } else {
            let filter = which.for_store();
            let page = store
                .list(&filter, self.after, self.order, self.page)
                .await?;
            for message in page.items {
                if which.matches(&message) && which.is_at_stage(store, &message).await? {
                    seen.push(Seen::Queued(message));
                }
            }
            page.next
        };
        self.after = next;
        self.ended = next.is_none();
        Ok(Some(seen))
    }
}

/// Reads a message of the queue or of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The message.
    pub id: QueueId,
}

impl Single for Get {
    type Output = MessageItem;

    async fn answer(self, context: &Context) -> Result<MessageItem, AdminError> {
        let transcripts = context.store.transcripts(self.id).await?;
        let transcripts = transcripts.into_iter().map(TranscriptItem::from).collect();
        if let Some(message) = context.store.queued(self.id).await? {
            return Ok(MessageItem {
                transcripts,
                ..MessageItem::queued(context, &message).await?
            });
        }
        let retired = context.store.retired(self.id).await?;
        let retired = retired.ok_or_else(|| {
            let text = format!("there is no message {}", self.id);
            AdminError::not_found(text).at("id")
        })?;
        Ok(MessageItem {
            transcripts,
            ..MessageItem::retired(&retired)
        })
    }
}

/// Changes the queued messages of a selection. The output has an item for each portion of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSelected {
    /// The messages.
    pub which: Selection,
    /// The change.
    pub change: Change,
}

/// A portion of messages that were changed or ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    /// How many messages were changed or ended.
    pub done: u64,
    /// How many messages are in delivery, and were left alone.
    pub in_delivery: u64,
}

impl Operation for ChangeSelected {
    type Item = Portion;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<Portion>,
    ) -> Result<(), AdminError> {
        let Self { which, change } = self;
        let after = (&which, &change);
        let context = &context.carrying("queue.modify", "queue", &after);
        let result = in_portions(context, &which, items, Work::Change(&change)).await;
        context
            .record("queue.modify", "queue", &after, result)
            .await
    }
}

/// Ends the queued messages of a selection. The output has an item for each portion of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSelected {
    /// The messages.
    pub which: Selection,
    /// How they end.
    pub ending: Ending,
}

impl Operation for EndSelected {
    type Item = Portion;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<Portion>,
    ) -> Result<(), AdminError> {
        let Self { which, ending } = self;
        let how = match ending {
            Ending::Failed => EndAs::Fail,
            Ending::Canceled => EndAs::Drop,
        };
        let after = (&which, ending);
        let context = &context.carrying("queue.end", "queue", &after);
        let result = in_portions(context, &which, items, Work::End(how)).await;
        context.record("queue.end", "queue", &after, result).await
    }
}

/// The work on a portion of messages.
#[derive(Clone, Copy)]
enum Work<'a> {
    Change(&'a Change),
    End(EndAs),
}

impl Work<'_> {
    async fn run(self, context: &Context, ids: Vec<QueueId>) -> Result<Portion, AdminError> {
        let filter = QueueFilter {
            ids,
            ..QueueFilter::default()
        };
        let who = context.caller.name.as_str();
        let (done, in_delivery) = match self {
            Self::Change(change) => (
                context
                    .queue
                    .change(&context.store, &filter, change, who)
                    .await?
                    .changed,
                0,
            ),
            Self::End(how) => {
                let (queue, store) = (&context.queue, &context.store);
                let count = queue.end_all(store, &filter, how, who).await?;
                (count.ended, count.in_delivery)
            }
        };
        Ok(Portion { done, in_delivery })
    }
}

/// Does the work on the messages that are not in delivery, portion by portion. Messages that come
/// meanwhile are left alone.
async fn in_portions(
    context: &Context,
    which: &Selection,
    items: &mut impl Sink<Portion>,
    work: Work<'_>,
) -> Result<(), AdminError> {
    let mut walk = Walk::new(which, Order::Ascending, None).in_pages_of(PORTION);
    while let Some(page) = walk.next(context).await? {
        let (mut free, mut in_delivery) = (Vec::new(), 0);
        for message in page {
            match message {
                Seen::Queued(message) if context.store.is_claimed(message.id).await? => {
                    in_delivery += 1;
                }
                Seen::Queued(message) => free.push(message.id),
                Seen::Retired(_) => {}
            }
        }
        let mut portion = match free.is_empty() {
            true => Portion::default(),
            false => work.run(context, free).await?,
        };
        portion.in_delivery += in_delivery;
        items.send(vec![portion]).await?;
    }
    Ok(())
}
