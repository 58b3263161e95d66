//! What the holder of an account wants to know first: what waits, what failed, what needs
//! attention.

use std::time::Duration;

use postrider_store::{HookFilter, Order, QueueFilter, Queued, RetiredFilter};
use serde::{Deserialize, Serialize};

use super::{Single, history::RetiredItem, queue::QueueItem};
use crate::{AdminError, Context};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The counts end here, so that a page costs the same with however many messages.
pub const COUNTED_MAX: usize = 1000;
/// The most messages that are given of each kind.
const EXAMPLES: usize = 5;
/// How many records are read at once.
const PAGE: usize = 200;

/// Asks what waits, and what failed lately, of an account. It looks at the first
/// [`COUNTED_MAX`] records of each kind only.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overview {
    /// The account.
    pub account: String,
}

/// A count that ends at [`COUNTED_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many were counted.
    pub count: u64,
    /// There are more.
    pub more: bool,
}

/// What waits, and what failed lately, of an account. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountOverview {
    /// Queued messages. The following counts are of these.
    pub queued: Counted,
    /// Those that are held.
    pub held: u64,
    /// Those with an attempt that failed.
    pub deferred: u64,
    /// When the oldest one was queued.
    pub oldest: Option<String>,
    /// Some that had failed attempts, the oldest first.
    pub waiting: Vec<QueueItem>,
    /// Whether messages that ended are kept. Without that, nothing is known of failures.
    pub has_history: bool,
    /// Messages that ended without delivery, the newest first, of those that were sent last.
    pub failed: Vec<RetiredItem>,
    /// Calls of webhooks that wait.
    pub calls: Counted,
    /// Those with a try that failed.
    pub calls_failing: u64,
    /// The recipients of the last 24 hours.
    pub recipients: u64,
    /// The most recipients in 24 hours.
    pub max_recipients: u64,
}

impl Single for Overview {
    type Output = AccountOverview;

    async fn answer(self, context: &Context) -> Result<AccountOverview, AdminError> {
        context.check_account(&self.account)?;
        let mut overview = AccountOverview::default();
        overview.read_limits(context, &self.account).await?;
        overview.read_queue(context, &self.account).await?;
        overview.read_history(context, &self.account).await?;
        overview.read_calls(context, &self.account).await?;
        Ok(overview)
    }
}

impl AccountOverview {
    async fn read_limits(&mut self, context: &Context, account: &str) -> Result<(), AdminError> {
        let config = context.config.load_full();
        if let Some(account) = config.accounts.get(account) {
            self.max_recipients = account.max_outgoing_messages_per_day.into();
            self.has_history = !account.keep_retired_message_period.is_zero();
        }
        let since = context.clock.now().before(DAY);
        self.recipients = context.store.sent(account, since).await?.recipients;
        Ok(())
    }

    async fn read_queue(&mut self, context: &Context, account: &str) -> Result<(), AdminError> {
        let filter = QueueFilter {
            account: Some(account.to_owned()),
            ..QueueFilter::default()
        };
        let mut after = None;
        loop {
            let list = context.store.list(&filter, after, Order::Ascending, PAGE);
            let page = list.await?;
            for message in &page.items {
                self.count_queued(context, message).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
            if self.queued.count >= COUNTED_MAX as u64 {
                self.queued.more = true;
                return Ok(());
            }
        }
    }

    async fn count_queued(
        &mut self,
        context: &Context,
        message: &Queued,
    ) -> Result<(), AdminError> {
        self.queued.count += 1;
        self.held += u64::from(message.hold);
        let oldest = || message.common.queued.to_string();
        self.oldest.get_or_insert_with(oldest);
        if message.attempts == 0 {
            return Ok(());
        }
        self.deferred += 1;
        if self.waiting.len() < EXAMPLES {
            let state = context.queue.explain(message).await?;
            self.waiting.push(QueueItem::new(message, state));
        }
        Ok(())
    }

    async fn read_history(&mut self, context: &Context, account: &str) -> Result<(), AdminError> {
        let filter = RetiredFilter {
            account: Some(account.to_owned()),
            ..RetiredFilter::default()
        };
        let (mut after, mut looked) = (None, 0);
        while looked < COUNTED_MAX && self.failed.len() < EXAMPLES {
            let store = &context.store;
            let list = store.list_retired(&filter, after, Order::Descending, PAGE);
            let page = list.await?;
            looked += page.items.len();
            let failed = page.items.iter().filter(|retired| !retired.success);
            let room = EXAMPLES - self.failed.len();
            self.failed.extend(failed.take(room).map(RetiredItem::from));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn read_calls(&mut self, context: &Context, account: &str) -> Result<(), AdminError> {
        let filter = HookFilter {
            account: Some(account.to_owned()),
            ..HookFilter::default()
        };
        let store = &context.store;
        let page = store.list_hooks(&filter, None, Order::Ascending, COUNTED_MAX);
        let page = page.await?;
        let failing = page.items.iter().filter(|call| call.attempts > 0).count();
        self.calls = Counted {
            count: page.items.len() as u64,
            more: page.next.is_some(),
        };
        self.calls_failing = failing as u64;
        Ok(())
    }
}
