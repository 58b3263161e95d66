//! Questions about the queue and its history.

use std::ops::Bound;

use super::{
    Found, Lane, QueueFilter, QueueId, Queued, Reference, Retired, RetiredFilter,
    keys::reference_key,
};
use crate::{
    Message, Order, Page, Store, StoreError, Time,
    filter::is_among,
    subject::{Listing, Reader},
    table::key::Name,
};

/// Records that are read under the lock at once.
const PORTION: usize = 128;

questions! {
    ask OneQueued { id: QueueId } -> Option<Queued>,
    |this, state| state.queue.queued.get(&this.id),
    |this, model| model.queue.queued.get(&this.id).cloned();

    ask IsClaimed { id: QueueId } -> bool,
    |this, state| state.queue.claimed.contains(&this.id),
    |this, model| model.queue.is_claimed(this.id);

    ask OneRetired { id: QueueId } -> Option<Retired>,
    |this, state| state.queue.retired.get(&this.id),
    |this, model| model.queue.retired.get(&this.id).cloned();

    scan List { filter: QueueFilter, after: Option<QueueId>, order: Order, limit: usize }
        -> Page<Queued, QueueId>,
    |this, reader| reader.list(
        &this.filter.ids,
        Listing {
            group: this.filter.group().map(|group| group.name()),
            after: this.after,
            order: this.order,
            limit: this.limit,
        },
        |state| &state.queue.queued,
        |queued| this.filter.matches_but_for_ids(queued),
    ),
    |this, model| model.queue.list(this);

    scan ListRetired { filter: RetiredFilter, after: Option<QueueId>, order: Order, limit: usize }
        -> Page<Retired, QueueId>,
    |this, reader| reader.list(
        &this.filter.ids,
        Listing {
            group: this.filter.group().map(|group| group.name()),
            after: this.after,
            order: this.order,
            limit: this.limit,
        },
        |state| &state.queue.retired,
        |retired| this.filter.matches_but_for_ids(retired),
    ),
    |this, model| model.queue.list_retired(this);

    ask LanesAfter { after: Option<Lane>, limit: usize } -> Vec<(Lane, Time)>,
    |this, state| {
        let after = this.after.as_ref().map(Lane::name);
        let lanes = state.queue.due.lanes_after(after, this.limit)?;
        Ok(lanes.into_iter().map(|(name, time)| (Lane::of(name), time)).collect())
    },
    |this, model| {
        let lanes = model.queue.lanes().into_iter();
        let after = lanes.filter(|(lane, _)| this.after.as_ref().is_none_or(|after| lane > after));
        after.take(this.limit).collect()
    };

    ask DueInLane { lane: Lane, after: Option<(Time, QueueId)>, now: Time, limit: usize }
        -> Vec<Queued>,
    |this, state| {
        let (due, lane) = (&state.queue.due, this.lane.name());
        let entries = due.entries_after(lane, this.after, this.now, this.limit)?;
        let mut messages = Vec::with_capacity(entries.len());
        for (_, id) in entries {
            messages.extend(state.queue.queued.get(&id)?);
        }
        Ok(messages)
    },
    |this, model| model.queue.due_in(&this.lane, this.after, this.now, this.limit);

    scan CountLanes { lanes: Vec<Lane>, now: Time, max: u64 } -> Vec<LaneCount>,
    |this, reader| this.count(reader),
    |this, model| {
        let count = |lane| model.queue.count_in(lane, this.now, this.max);
        this.lanes.iter().map(count).collect()
    };

    scan Find { name: Name, recipient: Option<String>, account: Option<String>, limit: usize }
        -> Vec<Found>,
    |this, reader| this.find(reader),
    |this, model| model.queue.find(this);
}

/// How many messages of a lane are neither held nor claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCount {
    /// All of them.
    pub waiting: u64,
    /// Those that are due.
    pub due: u64,
    /// When the first of them is or was due.
    pub first: Option<Time>,
}

impl LaneCount {
    pub(super) fn add(&mut self, time: Time, now: Time) {
        self.waiting += 1;
        self.due += u64::from(time <= now);
        self.first = self.first.into_iter().chain([time]).min();
    }
}

impl CountLanes {
    fn count(&self, reader: &Reader<'_>) -> Result<Vec<LaneCount>, StoreError> {
        let mut left = self.max;
        let mut counts = Vec::with_capacity(self.lanes.len());
        for lane in &self.lanes {
            let (mut count, mut after) = (LaneCount::default(), None);
            loop {
                let portion = usize::try_from(left).unwrap_or(PORTION).min(PORTION);
                let state = reader.state()?;
                let due = &state.queue.due;
                let end = Time(i64::MAX);
                let entries = due.entries_after(lane.name(), after, end, portion)?;
                drop(state);
                after = entries.last().copied();
                entries
                    .iter()
                    .for_each(|(time, _)| count.add(*time, self.now));
                left = left.saturating_sub(entries.len() as u64);
                if entries.len() < PORTION {
                    break;
                }
            }
            counts.push(count);
        }
        Ok(counts)
    }
}

impl Find {
    fn find(&self, reader: &Reader<'_>) -> Result<Vec<Found>, StoreError> {
        let wanted: Option<Name> = self.recipient.as_deref().map(Name::from);
        let first = wanted.clone().unwrap_or_else(|| "".into());
        let mut after = (Name::clone(&self.name), first, QueueId(0));
        let mut found = Vec::new();
        loop {
            let state = reader.state()?;
            let tables = &state.queue;
            let mut seen = 0;
            let range = tables
                .references
                .range(Bound::Excluded(&after), Bound::Unbounded)?;
            for item in range.take(PORTION) {
                let (key, ()) = item?;
                let (of, to, id) = &key;
                let other = *of != self.name || wanted.as_ref().is_some_and(|wanted| wanted != to);
                if other || found.len() >= self.limit {
                    return Ok(found);
                }
                let message = match tables.queued.get(id)? {
                    Some(queued) => Some(Found::Queued(queued)),
                    None => tables.retired.get(id)?.map(Found::Retired),
                };
                let of_account = |found: &Found| {
                    let account = self.account.as_ref();
                    account.is_none_or(|account| found.message().common.account == *account)
                };
                found.extend(message.filter(of_account));
                seen += 1;
                after = key;
            }
            if seen < PORTION {
                return Ok(found);
            }
        }
    }
}

impl Store {
    /// A message in the queue. None if it is not there (any more).
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn queued(&self, id: QueueId) -> Result<Option<Queued>, StoreError> {
        self.ask(OneQueued { id }).await
    }

    /// The lanes with messages that are neither held nor claimed, by name, and when the first
    /// message of each is due: so many lanes, behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn lanes(
        &self,
        after: Option<Lane>,
        limit: usize,
    ) -> Result<Vec<(Lane, Time)>, StoreError> {
        self.ask(LanesAfter { after, limit }).await
    }

    /// How many messages of these lanes are neither held nor claimed, for each lane. At most `max`
    /// messages are counted in all.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn count_lanes(
        &self,
        lanes: Vec<Lane>,
        now: Time,
        max: u64,
    ) -> Result<Vec<LaneCount>, StoreError> {
        self.scan(CountLanes { lanes, now, max }).await
    }

    /// Messages of a lane that are due at `now` and not claimed, by the times at which they were
    /// due: so many, behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn due_in_lane(
        &self,
        lane: &Lane,
        after: Option<(Time, QueueId)>,
        now: Time,
        limit: usize,
    ) -> Result<Vec<Queued>, StoreError> {
        let lane = lane.clone();
        self.ask(DueInLane {
            lane,
            after,
            now,
            limit,
        })
        .await
    }

    /// The bytes of a message in the queue: top and text.
    ///
    /// # Errors
    /// As for [`text`](Self::text).
    pub async fn queued_message(&self, queued: &Queued) -> Result<Message, StoreError> {
        self.message(&queued.top, queued.text).await
    }

    /// Whether somebody has claimed a message.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn is_claimed(&self, id: QueueId) -> Result<bool, StoreError> {
        self.ask(IsClaimed { id }).await
    }

    /// Messages in the queue that match, by number, beginning behind `after`. A filter for an
    /// account, a domain (`@example.com`), a transport, a Message-ID, held messages or numbers
    /// looks at few other messages. Any other filter may look at all messages.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Queued, QueueId>, StoreError> {
        let mut filter = filter.clone();
        if !self
            .name_ids(filter.message_id.as_deref(), &mut filter.ids)
            .await?
        {
            return Ok(Page::empty());
        }
        self.scan(List {
            filter,
            after,
            order,
            limit,
        })
        .await
    }

    /// A message in the history.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn retired(&self, id: QueueId) -> Result<Option<Retired>, StoreError> {
        self.ask(OneRetired { id }).await
    }

    /// Messages in the history that match, as for [`list`](Self::list).
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_retired(
        &self,
        filter: &RetiredFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Retired, QueueId>, StoreError> {
        let mut filter = filter.clone();
        if !self
            .name_ids(filter.message_id.as_deref(), &mut filter.ids)
            .await?
        {
            return Ok(Page::empty());
        }
        self.scan(ListRetired {
            filter,
            after,
            order,
            limit,
        })
        .await
    }

    /// Limits `ids` to the messages with this Message-ID, so that a listing reads no others. False:
    /// no message is left.
    async fn name_ids(
        &self,
        message_id: Option<&str>,
        ids: &mut Vec<QueueId>,
    ) -> Result<bool, StoreError> {
        let Some(message_id) = message_id else {
            return Ok(true);
        };
        let found = self
            .find(Reference::MessageId(message_id), None, None, usize::MAX)
            .await?;
        let named = found.iter().map(|found| found.message().id);
        let wanted = named.filter(|id| is_among(ids, *id)).collect();
        *ids = wanted;
        Ok(!ids.is_empty())
    }

    /// Messages with this reference, in the queue or in the history. `recipient` (in Unicode form,
    /// in any case) and `account` exclude the messages of others. At most `limit`, in no certain
    /// order. This is one look-up, however many messages with other references there are.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn find(
        &self,
        reference: Reference<'_>,
        recipient: Option<&str>,
        account: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let name = reference_key(reference);
        let (recipient, account) = (recipient.map(str::to_lowercase), account.map(str::to_owned));
        self.scan(Find {
            name,
            recipient,
            account,
            limit,
        })
        .await
    }
}
