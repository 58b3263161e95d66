//! The way through the inbox. Mails and messages are two series of numbers, which are read side by
//! side by their times.

use std::{collections::VecDeque, fmt, str::FromStr};

use postrider_store::{MailId, Order, QueueFilter, QueueId, Queued, RetiredFilter, Store};

use super::{Entry, list::Facts};
use crate::{AdminError, Context};

/// How many records are read at once.
const PAGE: usize = 100;

/// A place in the list: that of one row. It names the newest mail and message that are not older
/// than the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The row is a mail. Otherwise it is a message.
    is_mail: bool,
    mail: u64,
    message: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_mail { 'm' } else { 'q' };
        write!(f, "{kind}.{}.{}", self.mail, self.message)
    }
}

impl FromStr for Place {
    type Err = AdminError;

    fn from_str(text: &str) -> Result<Self, AdminError> {
        let mut parts = text.split('.');
        let is_mail = match parts.next() {
            Some("m") => Some(true),
            Some("q") => Some(false),
            _ => None,
        };
        let mut number = || parts.next()?.parse::<u64>().ok();
        let place = match (is_mail, number(), number()) {
            (Some(is_mail), Some(mail), Some(message)) => Some(Self {
                is_mail,
                mail,
                message,
            }),
            _ => None,
        };
        place.ok_or_else(|| AdminError::invalid("this is no place in the list").at("after"))
    }
}

impl Place {
    /// Before the newest row.
    pub(super) const START: Self = Self {
        is_mail: true,
        mail: u64::MAX,
        message: u64::MAX,
    };
    /// Behind the oldest row.
    const END: Self = Self {
        is_mail: true,
        mail: 0,
        message: 1,
    };

    /// The numbers behind which mails and messages are read.
    const fn behind(self, order: Order) -> (u64, u64) {
        match (order, self.is_mail) {
            (Order::Descending, _) => (self.mail, self.message),
            // The newest message that is not older than the row is newer, and the other way round.
            (Order::Ascending, true) => (self.mail, self.message.saturating_sub(1)),
            (Order::Ascending, false) => (self.mail.saturating_sub(1), self.message),
        }
    }
}

/// A series of records by number.
struct Series<T> {
    read: VecDeque<T>,
    after: u64,
    ended: bool,
}

impl<T> Series<T> {
    const fn new(after: u64) -> Self {
        Self {
            read: VecDeque::new(),
            after,
            ended: false,
        }
    }

    fn is_to_be_read(&self) -> bool {
        self.read.is_empty() && !self.ended
    }

    /// Takes a page.
    fn fill(&mut self, items: Vec<T>, next: Option<u64>) {
        self.read.extend(items);
        self.ended = next.is_none();
        self.after = next.unwrap_or(self.after);
    }
}

/// A way through the inbox.
pub(super) struct Walk<'a> {
    store: &'a Store,
    account: Option<&'a str>,
    order: Order,
    mails: Series<Entry>,
    queued: Series<Queued>,
    ended: Series<(Queued, bool)>,
    place: Place,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        context: &'a Context,
        account: Option<&'a str>,
        after: Option<Place>,
        order: Order,
    ) -> Self {
        let place = after.unwrap_or(match order {
            Order::Descending => Place::START,
            Order::Ascending => Place::END,
        });
        let (mail, message) = place.behind(order);
        Self {
            store: &context.store,
            account,
            order,
            mails: Series::new(mail),
            queued: Series::new(message),
            ended: Series::new(message),
            place,
        }
    }

    /// The next entry, and its place.
    pub(super) async fn next(&mut self) -> Result<Option<(Entry, Place)>, AdminError> {
        self.read().await?;
        let first = |one: u64, other: u64| match self.order {
            Order::Descending => one > other,
            Order::Ascending => one < other,
        };
        let queued = self
            .queued
            .read
            .front()
            .map(|it| (it.id.0, it.common.queued));
        let ended = self
            .ended
            .read
            .front()
            .map(|(it, _)| (it.id.0, it.common.queued));
        let is_queued = match (queued, ended) {
            (Some((queued, _)), Some((ended, _))) => first(queued, ended),
            (queued, _) => queued.is_some(),
        };
        let message = if is_queued { queued } else { ended };
        let mail = self.mails.read.front().map(|mail| Facts::of(mail).time);
        // Times that are equal: messages are the newer ones.
        let is_mail = match (mail, message) {
            (Some(mail), Some((_, message))) => match self.order {
                Order::Descending => mail > message,
                Order::Ascending => mail <= message,
            },
            (mail, _) => mail.is_some(),
        };
        let entry = match (is_mail, is_queued) {
            (true, _) => self.mails.read.pop_front(),
            (false, true) => self.queued.read.pop_front().map(Entry::Queued),
            (false, false) => {
                let ended = self.ended.read.pop_front();
                ended.map(|(message, success)| Entry::Ended(message, success))
            }
        };
        Ok(entry.map(|entry| {
            let place = self.pass(&entry);
            (entry, place)
        }))
    }

    /// The place of an entry, behind which the way goes on.
    fn pass(&mut self, entry: &Entry) -> Place {
        let (is_mail, number) = match entry {
            Entry::Mail(mail) => (true, mail.id.0),
            Entry::Queued(message) | Entry::Ended(message, _) => (false, message.id.0),
        };
        // Going back in time, the numbers that were passed are the newest ones that are not older.
        // Going forth, they are older, so those that follow them are.
        let last = self.place;
        let (mail, message) = match self.order {
            Order::Ascending if last.is_mail => (last.mail.saturating_add(1), last.message),
            Order::Ascending => (last.mail, last.message.saturating_add(1)),
            Order::Descending => (last.mail, last.message),
        };
        self.place = match is_mail {
            true => Place {
                is_mail,
                mail: number,
                message,
            },
            false => Place {
                is_mail,
                mail,
                message: number,
            },
        };
        self.place
    }

    /// Reads what is missing to know the next entry.
    async fn read(&mut self) -> Result<(), AdminError> {
        let (store, order) = (self.store, self.order);
        if self.mails.is_to_be_read() {
            let after = Some(MailId(self.mails.after));
            let page = store.list_mails_in_order(self.account, after, order, PAGE);
            let page = page.await?;
            let items = page.items.into_iter().map(Entry::Mail);
            self.mails.fill(items.collect(), page.next.map(|id| id.0));
        }
        if self.queued.is_to_be_read() {
            let filter = QueueFilter {
                account: self.account.map(str::to_owned),
                ..QueueFilter::default()
            };
            let after = Some(QueueId(self.queued.after));
            let page = store.list(&filter, after, order, PAGE).await?;
            self.queued.fill(page.items, page.next.map(|id| id.0));
        }
        if self.ended.is_to_be_read() {
            let filter = RetiredFilter {
                account: self.account.map(str::to_owned),
                ..RetiredFilter::default()
            };
            let after = Some(QueueId(self.ended.after));
            let page = store.list_retired(&filter, after, order, PAGE).await?;
            let items = page.items.into_iter().map(|it| (it.message, it.success));
            self.ended.fill(items.collect(), page.next.map(|id| id.0));
        }
        Ok(())
    }
}
