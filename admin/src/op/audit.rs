//! The audit log: who changed what, and who tried to.

use std::net::IpAddr;

use postrider_config::nearest_names;
use postrider_store::{Actor, AuditEntry, AuditFilter, AuditId, Order, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Operation, Single, Sink,
    pages::{Part, Searched, search, send_pages},
};
use crate::{AdminError, Context, op};

/// An entry of the audit log. The time is RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct AuditItem {
    /// The number of the entry.
    pub id: u64,
    /// When the change was made or refused.
    pub time: String,
    /// The caller.
    pub who: Who,
    /// The address of the caller; None: the caller used this machine.
    #[cfg_attr(test, schema(value_type = Option<String>))]
    pub from: Option<IpAddr>,
    /// The operation, for example `account.add`.
    pub operation: String,
    /// The thing that was to change.
    pub target: String,
    /// The changed values before, by their keys; null if there were none. Secrets are `****`.
    pub before: Value,
    /// The changed values after, by their keys; null if there are none.
    pub after: Value,
    /// `done`, or the reason of the refusal.
    pub outcome: String,
}

/// The caller of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct Who {
    /// `socket`, `admin`, `key` or `account`.
    pub kind: String,
    /// A system user, a login or the name of a key.
    pub name: String,
}

impl From<&AuditEntry> for AuditItem {
    fn from(entry: &AuditEntry) -> Self {
        let kind = match entry.actor {
            Actor::Socket => "socket",
            Actor::Admin => "admin",
            Actor::Key => "key",
            Actor::Account => "account",
        };
        let outcome = match entry.refusal.as_str() {
            "" => "done",
            refusal => refusal,
        };
        Self {
            id: entry.id.0,
            time: entry.time.to_string(),
            who: Who {
                kind: kind.to_owned(),
                name: entry.name.clone(),
            },
            from: entry.from,
            operation: entry.operation.clone(),
            target: entry.target.clone(),
            before: values(&entry.before),
            after: values(&entry.after),
            outcome: outcome.to_owned(),
        }
    }
}

/// The values of an entry. A text that is no JSON is shown as it is.
fn values(text: &str) -> Value {
    match text {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

/// Lists entries, newest first. All given fields must match.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// The name of the caller.
    pub who: Option<String>,
    /// The operation, for example `account.add`, or `account` for all whose names begin so.
    pub operation: Option<String>,
    /// The thing that was to change.
    pub target: Option<String>,
    /// Entries at this time or later.
    pub since: Option<Time>,
    /// Entries before this time.
    pub before: Option<Time>,
    /// The largest number of entries; None: all.
    pub limit: Option<usize>,
}

impl List {
    /// The entries.
    fn filter(self) -> AuditFilter {
        AuditFilter {
            name: self.who,
            operation: self.operation,
            target: self.target,
            since: self.since,
            before: self.before,
        }
    }
}

impl Operation for List {
    type Item = AuditItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<AuditItem>,
    ) -> Result<(), AdminError> {
        if let Some(name) = &self.operation {
            check_operation(context, name).await?;
        }
        let limit = self.limit;
        let filter = self.filter();
        send_pages(limit, items, |after, count| {
            context
                .store
                .list_audit(&filter, after, Order::Descending, count)
        })
        .await
    }
}

/// Finds entries. The search ends after 40 ms or 20,000 entries, and tells how far it came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Find {
    /// The entries, and how many at most.
    pub which: List,
    /// By number, ascending or descending.
    pub order: Order,
    /// The search begins behind the entry with this number; None: at the beginning.
    pub after: Option<u64>,
}

impl Single for Find {
    type Output = Searched<AuditItem>;

    async fn answer(self, context: &Context) -> Result<Searched<AuditItem>, AdminError> {
        if let Some(name) = &self.which.operation {
            check_operation(context, name).await?;
        }
        let part = Part {
            after: self.after.map(AuditId),
            limit: self.which.limit.unwrap_or(usize::MAX),
        };
        let order = self.order;
        let filter = self.which.filter();
        // The store has an index of targets.
        let read = AuditFilter {
            target: filter.target.clone(),
            ..AuditFilter::default()
        };
        let entries = |after, count| context.store.list_audit(&read, after, order, count);
        let place = |entry: &AuditEntry| (entry.id.0, entry.time);
        let found = search(part, entries, place, |entry| filter.matches(entry)).await?;
        Ok(found.within(order, filter.since, filter.before))
    }
}

/// An operation that the management API has alone: it reads the configuration again.
pub(crate) const RELOAD: &str = "server.reload";

/// The names of operations, and what they begin with.
fn known() -> Vec<&'static str> {
    let names = op::NAMES.iter().copied().chain([RELOAD]);
    let mut known: Vec<_> = names
        .flat_map(|name| [name.split('.').next().unwrap_or(name), name])
        .collect();
    known.sort_unstable();
    known.dedup();
    known
}

/// Refuses the name of an operation that there is not and never was: an entry of an older program
/// may have another name.
async fn check_operation(context: &Context, name: &str) -> Result<(), AdminError> {
    let known = known();
    if known.contains(&name) {
        return Ok(());
    }
    let filter = AuditFilter {
        operation: Some(name.to_owned()),
        ..AuditFilter::default()
    };
    let page = context
        .store
        .list_audit(&filter, None, Order::Descending, 1)
        .await?;
    if !page.items.is_empty() {
        return Ok(());
    }
    let nearest = nearest_names(name, known.into_iter()).join(", ");
    let text = format!("there is no operation {name:?}; the nearest are {nearest}");
    Err(AdminError::invalid(text).at("operation"))
}
