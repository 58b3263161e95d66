//! Queued messages for somebody who looks through them: a few, and soon, however many there are.

use std::time::{Duration, Instant};

use postrider_smtp::{Address, Host};
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
/// A count ends after this time. Whoever is asked before something is done to many messages is told
/// their number, and can wait for it.
const COUNT_TIME: Duration = Duration::from_secs(2);
/// How many messages are read at once.
const PAGE: usize = 200;
/// If an entry of the application's own data is in more messages than this, the search does without
/// the index of these entries.
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
            if self.is_long(looked, begun.elapsed()) {
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
        let mut by_index = QueueFilter {
            to: narrowed(filter.to.as_deref()),
            from: narrowed(filter.from.as_deref()),
            ..filter.clone()
        }
        .indexed();
        if let Some((key, value)) = self.which.extra_pair()
            && let Some(found) = with_extra(context, filter.account.as_deref(), key, value).await?
        {
            let wanted = found
                .into_iter()
                .filter(|id| by_index.ids.is_empty() || by_index.ids.contains(id));
            by_index.ids = wanted.collect();
            return Ok((!by_index.ids.is_empty()).then_some(by_index));
        }
        Ok(Some(by_index))
    }

    /// Whether the search has looked for long enough.
    const fn is_long(&self, looked: u64, elapsed: Duration) -> bool {
        match self.count {
            true => elapsed.as_millis() >= COUNT_TIME.as_millis(),
            false => looked >= LOOKED_MAX || elapsed.as_millis() >= TIME.as_millis(),
        }
    }

    /// No message from here on matches: they were queued later.
    fn is_past(&self, message: &Queued) -> bool {
        let before = self.which.filter.submitted_before;
        let before = before.filter(|_| self.order == Order::Ascending);
        before.is_some_and(|before| message.common.queued > before.after(CLOCK))
    }
}

/// The pattern for the domain of a whole address: its messages are among those of the domain. Other
/// patterns stay: part of an address may stand in any domain.
fn narrowed(pattern: Option<&str>) -> Option<String> {
    let pattern = pattern?;
    let host = Address::parse(pattern).map(|address| address.host);
    let domain = match host {
        Ok(Host::Domain(domain)) => domain.unicode(),
        _ => String::new(),
    };
    let is_whole = domain.contains('.');
    Some(match is_whole {
        true => format!("@{domain}"),
        false => pattern.to_owned(),
    })
}

/// The messages with an entry of their applications' own data. None: there are too many.
async fn with_extra(
    context: &Context,
    account: Option<&str>,
    key: &str,
    value: &str,
) -> Result<Option<Vec<QueueId>>, AdminError> {
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
        let one_more = EXTRA_MAX + 1 - ids.len();
        let found = context.store.find(extra, None, None, one_more).await?;
        ids.extend(found.iter().map(|found| found.message().id));
        if ids.len() > EXTRA_MAX {
            return Ok(None);
        }
    }
    Ok(Some(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_takes_its_time() {
        let browse = |count| Browse {
            which: Selection::default(),
            order: Order::Ascending,
            after: None,
            limit: 5,
            count,
        };
        for (count, looked, millis, is_long) in [
            (false, 200, 10, false),
            (false, 200, 40, true),
            (false, 20_000, 10, true),
            (true, 900_000, 1999, false),
            (true, 200, 2000, true),
        ] {
            let time = Duration::from_millis(millis);
            assert_eq!(browse(count).is_long(looked, time), is_long, "{looked}");
        }
    }

    #[test]
    fn a_whole_address_is_looked_for_in_its_domain() {
        for (pattern, wanted) in [
            ("x@example.org", "@example.org"),
            ("x@m\u{fc}ller.example", "@m\u{fc}ller.example"),
            ("@example.org", "@example.org"),
            // Parts of addresses: any domain may have them.
            ("x@7", "x@7"),
            ("x@exam", "x@exam"),
            ("x@", "x@"),
            ("x", "x"),
            ("x@[192.0.2.1]", "x@[192.0.2.1]"),
        ] {
            assert_eq!(narrowed(Some(pattern)).as_deref(), Some(wanted));
        }
        assert_eq!(narrowed(None), None);
    }
}
