//! Calls by filter, and one call with all that belongs to it.

use postrider_store::{Hook, HookFilter, HookId, Order, RetiredHook, RetiredHookFilter};
use postrider_webhook::Described;
use serde::{Deserialize, Serialize};

use super::{HookItem, RetiredHookItem};
use crate::{
    AdminError, Context,
    op::{
        Single,
        pages::{Part, Searched, search},
    },
};

/// Finds calls to be made. The search ends after 40 ms or 20,000 calls, and tells how far it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// The calls.
    pub filter: HookFilter,
    /// By id, ascending or descending.
    pub order: Order,
    /// The search begins behind this call; None: at the beginning.
    pub after: Option<HookId>,
    /// The most calls.
    pub limit: usize,
}

impl Single for Find {
    type Output = Searched<HookItem>;

    async fn answer(self, context: &Context) -> Result<Searched<HookItem>, AdminError> {
        let indexed = HookFilter {
            ids: self.filter.ids.clone(),
            account: self.filter.account.clone(),
            ..HookFilter::default()
        };
        let (store, order) = (&context.store, self.order);
        let part = Part {
            after: self.after,
            limit: self.limit,
        };
        search(
            part,
            |after, count| store.list_hooks(&indexed, after, order, count),
            |hook: &Hook| (hook.id.0, hook.submitted),
            |hook| self.filter.matches(hook),
        )
        .await
    }
}

/// Finds calls of the history. The search ends after 40 ms or 20,000 calls, and tells how far it
/// came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindPast {
    /// The calls.
    pub filter: RetiredHookFilter,
    /// By id, ascending or descending.
    pub order: Order,
    /// The search begins behind this call; None: at the beginning.
    pub after: Option<HookId>,
    /// The most calls.
    pub limit: usize,
}

impl Single for FindPast {
    type Output = Searched<RetiredHookItem>;

    async fn answer(self, context: &Context) -> Result<Searched<RetiredHookItem>, AdminError> {
        let indexed = RetiredHookFilter {
            ids: self.filter.ids.clone(),
            account: self.filter.account.clone(),
            ..RetiredHookFilter::default()
        };
        let (store, order) = (&context.store, self.order);
        let part = Part {
            after: self.after,
            limit: self.limit,
        };
        search(
            part,
            |after, count| store.list_retired_hooks(&indexed, after, order, count),
            |retired: &RetiredHook| (retired.hook.id.0, retired.hook.submitted),
            |retired| self.filter.matches(retired),
        )
        .await
    }
}

/// Reads a call that is to be made, or one of the history, with what it sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The call.
    pub id: HookId,
}

/// A call with what it sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownHook {
    /// The call.
    pub call: HookItem,
    /// How it ended; None: it is to be made.
    pub ended: Option<Ended>,
    /// What the last attempt sent, or what the next attempt would send.
    pub sends: Sends,
}

/// How a call ended. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The receiver took it.
    pub success: bool,
    /// When it ended.
    pub at: String,
    /// When the record is removed.
    pub keep_until: String,
}

/// What a call sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sends {
    /// The fields of its header, in order. `***` stands for secrets.
    pub headers: Vec<(String, String)>,
    /// The body; empty if it can't be made.
    pub body: String,
    /// Why the body can't be made; empty: it can.
    pub error: String,
}

impl From<Described> for Sends {
    fn from(described: Described) -> Self {
        let (body, error) = match described.body {
            Ok(body) => (String::from_utf8_lossy(&body).into_owned(), String::new()),
            Err(error) => (String::new(), error),
        };
        Self {
            headers: described.headers,
            body,
            error,
        }
    }
}

impl Single for Show {
    type Output = ShownHook;

    async fn answer(self, context: &Context) -> Result<ShownHook, AdminError> {
        let id = self.id;
        let (hook, ended) = match context.store.hook(id).await? {
            Some(hook) => (hook, None),
            None => {
                let filter = RetiredHookFilter {
                    ids: vec![id],
                    ..RetiredHookFilter::default()
                };
                let order = Order::Ascending;
                let page = context.store.list_retired_hooks(&filter, None, order, 1);
                let retired = page.await?.items.pop().ok_or_else(|| {
                    AdminError::not_found(format!("there is no webhook call {id}")).at("id")
                })?;
                let ended = Ended {
                    success: retired.success,
                    at: retired.last_activity.to_string(),
                    keep_until: retired.keep_until.to_string(),
                };
                (retired.hook, Some(ended))
            }
        };
        let sends = Sends::from(context.webhooks.describe(&hook).await);
        Ok(ShownHook {
            call: HookItem::from(&hook),
            ended,
            sends,
        })
    }
}
