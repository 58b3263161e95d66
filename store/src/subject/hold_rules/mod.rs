//! Hold rules: which new messages wait in the queue until an administrator releases them.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use postrider_smtp::{Address, Domain};
use serde::{Deserialize, Serialize};

use super::{State, next};
use crate::{
    QueueFilter, Queued, Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{Table, tables, value::records, values},
};

ids! {
    /// A hold rule.
    HoldRuleId,
}

/// Which new messages are held: those that match all given fields. Without any field that is every
/// message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldFilter {
    /// Of this account.
    pub account: Option<String>,
    /// With a reverse-path in this domain.
    pub sender_domain: Option<Domain>,
    /// With a recipient in this domain.
    pub recipient_domain: Option<Domain>,
    /// With this reverse-path.
    pub sender: Option<Address>,
    /// To this recipient.
    pub recipient: Option<Address>,
}

/// A hold rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRule {
    /// The number of the record.
    pub id: HoldRuleId,
    /// Which messages the rule holds.
    pub filter: HoldFilter,
    /// When the record was made.
    pub created: Time,
}

impl HoldFilter {
    /// A filter for the messages that can match, held or not, and some others. The store has an
    /// index for it.
    #[must_use]
    pub fn candidates(&self, hold: bool) -> QueueFilter {
        let at = |domain: &Domain| format!("@{}", domain.unicode());
        let domain_of = |address: &Option<Address>| {
            let domain = address.as_ref().and_then(|address| address.host.domain());
            domain.cloned()
        };
        let from = self
            .sender_domain
            .clone()
            .or_else(|| domain_of(&self.sender));
        let to = self
            .recipient_domain
            .clone()
            .or_else(|| domain_of(&self.recipient));
        QueueFilter {
            account: self.account.clone(),
            from: from.as_ref().map(at),
            to: to.as_ref().map(at),
            hold: Some(hold),
            ..QueueFilter::default()
        }
    }

    /// Whether the filter matches a message.
    #[must_use]
    pub fn matches(&self, queued: &Queued) -> bool {
        let sender = queued.reverse_path.address();
        let sender_domain = sender.and_then(|sender| sender.host.domain());
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        is(self.account.as_ref(), Some(&queued.common.account))
            && is(self.sender_domain.as_ref(), sender_domain)
            && is(
                self.recipient_domain.as_ref(),
                queued.recipient.host.domain(),
            )
            && is(self.sender.as_ref(), sender)
            && is(self.recipient.as_ref(), Some(&queued.recipient))
    }
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
    /// How many rules there are.
    pub(crate) rules: u64,
}

records! {
    HoldRule: version 1,
}

tables! {
    /// The hold rules.
    counters: Counters,
    rules: Table<HoldRuleId, HoldRule> = Table::new("hold_rules"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    }
);

impl Tables {
    /// All rules. There are few.
    pub(crate) fn all(&self) -> Result<Vec<HoldRule>, Fault> {
        if self.counters.rules == 0 {
            return Ok(Vec::new());
        }
        Ok(values(self.rules.all()?))
    }
}

operations! {
    HoldRules, version 1:
    Add -> HoldRuleId, Reserve;
    Remove -> bool, Reserve;
}

/// Adds a rule.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add {
    filter: HoldFilter,
    created: Time,
}

impl Add {
    fn apply(self, state: &mut State) -> Result<HoldRuleId, Fault> {
        let tables = &mut state.hold_rules;
        let id = HoldRuleId(next(&mut tables.counters.last));
        tables.counters.rules += 1;
        let Self { filter, created } = self;
        let rule = HoldRule {
            id,
            filter,
            created,
        };
        tables.rules.put_new(id, rule);
        Ok(id)
    }
}

/// Removes a rule.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    id: HoldRuleId,
}

impl Remove {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let tables = &mut state.hold_rules;
        let removed = tables.rules.take(&self.id)?.is_some();
        tables.counters.rules -= u64::from(removed);
        Ok(removed)
    }
}

questions! {
    ask All {} -> Vec<HoldRule>,
    |_this, state| state.hold_rules.all(),
    |_this, model| model.hold_rules.rules.values().cloned().collect();
}

impl Store {
    /// The hold rules, by number.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn hold_rules(&self) -> Result<Vec<HoldRule>, StoreError> {
        self.ask(All {}).await
    }

    /// Adds a hold rule. The store holds each matching message that it accepts from now on.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn add_hold_rule(
        &self,
        filter: HoldFilter,
        created: Time,
    ) -> Result<HoldRuleId, StoreError> {
        self.change_by(Add { filter, created }).await
    }

    /// Removes a hold rule. The messages that it held stay held. False: no rule has this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_hold_rule(&self, id: HoldRuleId) -> Result<bool, StoreError> {
        self.change_by(Remove { id }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::Add(Add {
            filter: HoldFilter::default(),
            created: Time(1),
        }),
        Op::Remove(Remove { id: HoldRuleId(1) }),
    ]
}
