//! The operations of administrators on queued messages, by filter. Each operation works page by
//! page, so its memory does not grow with the queue. A caller that drops the future stops it
//! between two pages.

use std::collections::HashSet;

use postrider_config::Dynamic;
use postrider_smtp::Address;
use postrider_store::{
    Change, Event, HoldFilter, HoldRuleId, Order, Page, QueueFilter, QueueId, Queued, Store,
    StoreError,
};
use tracing::debug;

use crate::{
    Queue, observed,
    told::Settlements,
    traces::{self, ChangeKind},
};

/// How many messages are read and changed at once.
const PAGE: usize = 500;

/// Why an operation did nothing, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The configuration has no such transport.
    #[error("there is no transport {0:?} in postrider.conf")]
    UnknownTransport(String),
    /// The store failed. Changes before that stay.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many messages were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangedCount {
    /// Messages that were changed.
    pub changed: u64,
    /// Messages among them that are held. Their delivery waits for a release.
    pub held: u64,
}

/// How many messages were ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedCount {
    /// Messages that were ended.
    pub ended: u64,
    /// Messages that are being delivered at this moment. They stay.
    pub in_delivery: u64,
}

/// How an administrator ends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndAs {
    /// As if the delivery had failed: event `failed`, and a DSN.
    Fail,
    /// Without a DSN: event `canceled`.
    Drop,
}

impl Queue {
    /// Changes the messages that match. The log names `who` wants it.
    ///
    /// # Errors
    /// If a transport is unknown or the store fails.
    pub async fn change(
        &self,
        store: &Store,
        filter: &QueueFilter,
        change: &Change,
        who: &str,
    ) -> Result<ChangedCount, OperateError> {
        if let Some(transport) = &change.transport
            && !transport.is_empty()
            && !self.statics.transports.contains_key(transport)
        {
            return Err(OperateError::UnknownTransport(transport.clone()));
        }
        let mut count = ChangedCount::default();
        let mut after = None;
        loop {
            let mut page = self.page(filter, after).await?;
            let ids: Vec<QueueId> = page.items.iter().map(|message| message.id).collect();
            if !ids.is_empty() {
                count.changed += store.change(ids, change, self.clock.now()).await?;
                self.see_change(&page.items, change, who);
                self.try_now(&page.items, change);
            }
            let held = page.items.iter();
            let held = held.filter(|message| change.hold.unwrap_or(message.hold));
            count.held += held.count() as u64;
            if change.hold == Some(false) || change.transport.is_some() {
                // Held messages wait in no lane, so nobody looked at their routes.
                let config = self.config.load_full();
                self.reroute(&mut page.items, &config).await?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        debug!(
            ?filter,
            ?change,
            who,
            count = count.changed,
            "messages changed"
        );
        Ok(count)
    }

    /// Ends the messages that match. The log names `who` wants it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn end_all(
        &self,
        store: &Store,
        filter: &QueueFilter,
        end: EndAs,
        who: &str,
    ) -> Result<EndedCount, StoreError> {
        let event = match end {
            EndAs::Fail => Event::Failed,
            EndAs::Drop => Event::Canceled,
        };
        // These are the words of the contract, for both.
        let by = (who, "delivery canceled by admin");
        self.end_matching(store, filter, event, by, None).await
    }

    /// Ends all messages of an account that was removed, as if their delivery had failed. `before`
    /// is the configuration with the account: its webhook gets the events. The log names `who`
    /// wants it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn fail_account(
        &self,
        account: &str,
        before: &Dynamic,
        who: &str,
    ) -> Result<EndedCount, StoreError> {
        let filter = QueueFilter {
            account: Some(account.to_owned()),
            ..QueueFilter::default()
        };
        let by = (who, "the account was removed by an administrator");
        self.end_matching(&self.store, &filter, Event::Failed, by, Some(before))
            .await
    }

    /// Cancels the messages that match, for an application that logged in with this address. The
    /// event and the history name the login.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn cancel_all(
        &self,
        filter: &QueueFilter,
        login: &Address,
    ) -> Result<EndedCount, StoreError> {
        let who = login.unicode();
        let text = format!("delivery canceled by {who}");
        self.end_matching(&self.store, filter, Event::Canceled, (&who, &text), None)
            .await
    }

    /// Ends the messages that match. Events and DSNs go by `config`, or else by the configuration
    /// in force.
    async fn end_matching(
        &self,
        store: &Store,
        filter: &QueueFilter,
        event: Event,
        (who, text): (&str, &str),
        config: Option<&Dynamic>,
    ) -> Result<EndedCount, StoreError> {
        let mut count = EndedCount::default();
        let mut after = None;
        loop {
            let page = self.page(filter, after).await?;
            let in_force = self.config.load_full();
            let config = config.unwrap_or(&in_force);
            let mut settlements = Settlements::default();
            for message in &page.items {
                let message = message.clone();
                settlements.push(self.ended(config, message, event, (who, text)).await);
            }
            let (settles, untold) = settlements.split();
            let ended = store.settle(settles).await?;
            let mut changes = Vec::new();
            for (message, ended) in page.items.iter().zip(&ended) {
                count.ended += u64::from(*ended);
                count.in_delivery += u64::from(!ended);
                if *ended {
                    changes.push((message, ChangeKind::Ended(event)));
                }
            }
            self.tell_stored(untold, &ended);
            let now = self.clock.now();
            traces::changed(&self.tracer, now, (who, text), &changes);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        debug!(
            ?filter,
            event = event.name(),
            who,
            count = count.ended,
            "messages ended"
        );
        Ok(count)
    }

    /// Adds a hold rule for new and queued messages. Returns how many queued messages it holds. The
    /// log names `who` wants it.
    ///
    /// # Errors
    /// If the store fails. If it fails after the rule was added, the rule stays, and queued
    /// messages can be held by filter.
    pub async fn add_hold_rule(
        &self,
        store: &Store,
        rule: HoldFilter,
        who: &str,
    ) -> Result<(HoldRuleId, u64), StoreError> {
        let id = store.add_hold_rule(rule.clone(), self.clock.now()).await?;
        let filter = rule.candidates(false);
        let hold = Change {
            hold: Some(true),
            ..Change::default()
        };
        let mut count = 0;
        let mut after = None;
        loop {
            let page = self.page(&filter, after).await?;
            let matching = || page.items.iter().filter(|message| rule.matches(message));
            let ids: Vec<QueueId> = matching().map(|message| message.id).collect();
            if !ids.is_empty() {
                count += store.change(ids, &hold, self.clock.now()).await?;
                let reason = format!("hold rule {}", id.0);
                matching().for_each(|message| observed::held(message, (who, Some(&reason))));
                let changes = matching().map(|message| (message, ChangeKind::Held));
                let changes: Vec<_> = changes.collect();
                let now = self.clock.now();
                traces::changed(&self.tracer, now, (who, &reason), &changes);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        debug!(rule = id.0, filter = ?rule, who, count, "hold rule added");
        Ok((id, count))
    }

    /// Releases the messages that a rule held, after it was removed. Those that another rule holds
    /// too stay held. Returns how many are released. The log names `who` wants it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn release_held_by(
        &self,
        store: &Store,
        rule: &HoldFilter,
        who: &str,
    ) -> Result<u64, OperateError> {
        let others = store.hold_rules().await?;
        let is_free = |message: &Queued| {
            let held = others.iter().any(|other| other.filter.matches(message));
            rule.matches(message) && !held
        };
        let release = Change {
            hold: Some(false),
            ..Change::default()
        };
        let filter = rule.candidates(true);
        let mut count = 0;
        let mut after = None;
        loop {
            let page = self.page(&filter, after).await?;
            let free = page.items.iter().filter(|message| is_free(message));
            let ids: Vec<QueueId> = free.map(|message| message.id).collect();
            if !ids.is_empty() {
                let free = QueueFilter {
                    ids,
                    ..QueueFilter::default()
                };
                count += self.change(store, &free, &release, who).await?.changed;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(count)
    }

    /// Whoever wants an attempt now gets one, also at a site that rests or is down: its next
    /// message is a probe. So it is with the look-up of a destination. Other sites are not touched,
    /// and a block stays: it is no affair of one message.
    fn try_now(&self, messages: &[Queued], change: &Change) {
        let now = self.now();
        let is_wanted = |message: &&Queued| {
            let next = change
                .next_attempt
                .map(|next| next.instead_of(message.next_attempt));
            let is_held = change.hold.unwrap_or(message.hold);
            !is_held && next.is_some_and(|next| next <= now.time)
        };
        let mut lanes = HashSet::new();
        for message in messages.iter().filter(is_wanted) {
            let lane = message.lane();
            if lanes.contains(&lane) {
                continue;
            }
            if let Some(site) = self.site_of(message) {
                self.sites.ask_for_probe(&site, now.moment);
            }
            self.plans().try_now(lane.destination(), now.moment);
            self.lanes().try_now(&lane);
            lanes.insert(lane);
        }
        if !lanes.is_empty() {
            self.sites.look_again();
        }
    }

    /// Tells what a change does to messages, which are as they were before it.
    fn see_change(&self, messages: &[Queued], change: &Change, who: &str) {
        let kind = |message: &Queued| match change.hold {
            Some(hold) if hold == message.hold => ChangeKind::Changed,
            Some(true) => ChangeKind::Held,
            Some(false) => ChangeKind::Released,
            None => ChangeKind::Changed,
        };
        let changes: Vec<_> = messages.iter().map(|it| (it, kind(it))).collect();
        for (message, kind) in &changes {
            match kind {
                ChangeKind::Held => observed::held(message, (who, None)),
                ChangeKind::Released => observed::released(message, who),
                ChangeKind::Changed | ChangeKind::Ended(_) => {}
            }
        }
        traces::changed(&self.tracer, self.clock.now(), (who, ""), &changes);
    }

    /// Tells which of these new messages a hold rule holds.
    pub(crate) async fn see_new_holds(&self, ids: &[QueueId]) {
        if self.store.counts().await.hold_rules == 0 {
            return;
        }
        for ids in ids.chunks(PAGE) {
            let filter = QueueFilter {
                ids: ids.to_vec(),
                hold: Some(true),
                ..QueueFilter::default()
            };
            // They are held all the same, so no failure is told here.
            let held = self.page(&filter, None).await.map(|page| page.items);
            let held = held.unwrap_or_default();
            let by = ("hold rule", None);
            held.iter().for_each(|message| observed::held(message, by));
            let changes: Vec<_> = held.iter().map(|it| (it, ChangeKind::Held)).collect();
            traces::changed(&self.tracer, self.clock.now(), ("hold rule", ""), &changes);
        }
    }

    /// A page of the queue.
    async fn page(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
    ) -> Result<Page<Queued, QueueId>, StoreError> {
        self.store.list(filter, after, Order::Ascending, PAGE).await
    }
}
