//! Hold rules: they hold the messages that match them.

use std::{
    fmt::Display,
    str::FromStr,
    time::{Duration, Instant},
};

use postrider_queue::describe;
use postrider_smtp::{Address, Domain};
use postrider_store::{HoldFilter, HoldRule, HoldRuleId, Order};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Operation, Single, Sink};
use crate::{AdminError, Context};

/// A hold rule. An empty field matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct HoldRuleItem {
    pub id: u64,
    pub created: String,
    pub account: String,
    pub sender_domain: String,
    pub recipient_domain: String,
    pub sender: String,
    pub recipient: String,
    /// The messages that the rule holds, in words.
    pub holds: String,
}

impl From<&HoldRule> for HoldRuleItem {
    fn from(rule: &HoldRule) -> Self {
        let filter = &rule.filter;
        let domain = |domain: &Option<Domain>| domain.as_ref().map(Domain::unicode);
        let address = |address: &Option<Address>| address.as_ref().map(Address::unicode);
        Self {
            id: rule.id.0,
            created: rule.created.to_string(),
            account: filter.account.clone().unwrap_or_default(),
            sender_domain: domain(&filter.sender_domain).unwrap_or_default(),
            recipient_domain: domain(&filter.recipient_domain).unwrap_or_default(),
            sender: address(&filter.sender).unwrap_or_default(),
            recipient: address(&filter.recipient).unwrap_or_default(),
            holds: describe(filter),
        }
    }
}

/// Lists the rules.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Operation for List {
    type Item = HoldRuleItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<HoldRuleItem>,
    ) -> Result<(), AdminError> {
        let rules = context.store.hold_rules().await?;
        let listed = rules.iter().map(HoldRuleItem::from).collect();
        items.send(listed).await
    }
}

/// How long the messages of all rules are counted.
const TIME: Duration = Duration::from_millis(40);
/// How many messages are read at once.
const PAGE: usize = 200;

/// Counts the messages that each rule holds now: those that are held and match it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountHeld {}

/// How many messages a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCount {
    /// The rule.
    pub id: u64,
    /// How many messages were counted.
    pub held: u64,
    /// The count did not come to its end: there may be more.
    pub more: bool,
}

impl Operation for CountHeld {
    type Item = HeldCount;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<HeldCount>,
    ) -> Result<(), AdminError> {
        let rules = context.store.hold_rules().await?;
        let each = TIME / u32::try_from(rules.len().max(1)).unwrap_or(u32::MAX);
        let mut counts = Vec::with_capacity(rules.len());
        for rule in &rules {
            counts.push(count_held(context, rule, each).await?);
        }
        items.send(counts).await
    }
}

async fn count_held(
    context: &Context,
    rule: &HoldRule,
    time: Duration,
) -> Result<HeldCount, AdminError> {
    let mut count = HeldCount {
        id: rule.id.0,
        held: 0,
        more: false,
    };
    if rule.filter == HoldFilter::default() {
        count.held = context.store.counts().await.held;
        return Ok(count);
    }
    let (begun, filter) = (Instant::now(), rule.filter.candidates(true));
    let mut after = None;
    loop {
        let store = &context.store;
        let page = store.list(&filter, after, Order::Ascending, PAGE).await?;
        let held = page.items.iter().filter(|it| rule.filter.matches(it));
        count.held += held.count() as u64;
        after = page.next;
        count.more = after.is_some();
        if after.is_none() || begun.elapsed() >= time {
            return Ok(count);
        }
    }
}

/// Adds a rule. It holds new messages and queued ones. All given fields must match; without fields
/// the rule holds everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = HoldRuleAdd))]
#[serde(default, deny_unknown_fields)]
pub struct Add {
    /// The account.
    pub account: Option<String>,
    /// The domain of the reverse-path.
    pub sender_domain: Option<String>,
    /// The domain of the recipient.
    pub recipient_domain: Option<String>,
    /// The reverse-path.
    pub sender: Option<String>,
    /// The recipient.
    pub recipient: Option<String>,
}

/// The rule that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = HoldRuleAdded))]
pub struct Added {
    /// Its id.
    pub id: u64,
    /// How many queued messages it holds.
    pub held: u64,
}

impl Single for Add {
    type Output = Added;

    async fn answer(self, context: &Context) -> Result<Added, AdminError> {
        let described = self.clone();
        let context = &context.carrying("hold_rule.add", "hold_rules", &described);
        let added = self.add(context).await;
        context
            .record("hold_rule.add", "hold_rules", &described, added)
            .await
    }
}

impl Add {
    async fn add(self, context: &Context) -> Result<Added, AdminError> {
        let filter = HoldFilter {
            account: self.account,
            sender_domain: parse(self.sender_domain, "sender_domain")?,
            recipient_domain: parse(self.recipient_domain, "recipient_domain")?,
            sender: parse(self.sender, "sender")?,
            recipient: parse(self.recipient, "recipient")?,
        };
        let (queue, store) = (&context.queue, &context.store);
        let (id, held) = queue
            .add_hold_rule(store, filter, &context.caller.name)
            .await?;
        Ok(Added { id: id.0, held })
    }
}

/// Reads a field of a rule.
fn parse<T: FromStr<Err: Display>>(
    text: Option<String>,
    field: &str,
) -> Result<Option<T>, AdminError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let parsed = text.parse();
    let parsed = parsed.map_err(|error| {
        AdminError::invalid(format!("{} {text:?}: {error}", field.replace('_', " "))).at(field)
    })?;
    Ok(Some(parsed))
}

/// Removes a rule. Messages that it held stay held, unless they are released.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The rule.
    pub id: HoldRuleId,
    /// Release the messages that it held, but for those that another rule holds too.
    #[serde(default)]
    pub release: bool,
}

/// What came of the removal of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// How many messages are released.
    pub released: u64,
}

impl Single for Remove {
    type Output = Removed;

    async fn answer(self, context: &Context) -> Result<Removed, AdminError> {
        let target = self.id.to_string();
        let after = self.release.then(|| json!({"release": true}));
        let context = &context.carrying("hold_rule.remove", &target, &after);
        let removed = self.remove(context).await;
        context
            .record("hold_rule.remove", &target, &after, removed)
            .await
    }
}

impl Remove {
    async fn remove(self, context: &Context) -> Result<Removed, AdminError> {
        let (id, store) = (self.id, &context.store);
        let missing = || AdminError::not_found(format!("there is no hold rule {id}")).at("id");
        let rules = store.hold_rules().await?;
        let rule = rules.into_iter().find(|rule| rule.id == id);
        let rule = rule.ok_or_else(missing)?;
        if !store.remove_hold_rule(id).await? {
            return Err(missing());
        }
        let released = match self.release {
            true => {
                let who = &context.caller.name;
                let (queue, filter) = (&context.queue, &rule.filter);
                queue.release_held_by(store, filter, who).await?
            }
            false => 0,
        };
        Ok(Removed { released })
    }
}
