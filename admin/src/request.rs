//! What can be asked of a running server through its control socket, and the answers.

use std::{io, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::Live;
use postrider_queue::{End, Queue, base_address};
use postrider_receive::login::{KeyText, Logins};
use postrider_smtp::Address;
use postrider_store::{
    ApiKeyId, Change, Clock, HoldFilter, HoldRuleId, Hook, HookFilter, NewApiKey, NewSuppression,
    NextAttempt, Order, Page, QueueFilter, QueueId, Queued, Retired, RetiredFilter, RetiredHook,
    RetiredHookFilter, Scope, Store, StoreError, Suppression, Time, base_in_list,
};
use postrider_webhook::{Operator, Which};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use crate::{
    control::Items,
    password,
    shape::{
        ApiKeyItem, HoldRuleItem, HookAttemptItem, HookItem, QueueItem, RetiredHookItem,
        RetiredItem, SuppressionItem,
    },
};

/// How many records are read at once for a listing.
const PAGE: usize = 500;
/// Bytes of a dumped text that are read at once.
const DUMP: u64 = 256 * 1024;

/// What a command asks of the running server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Is anybody there? One item: the version.
    Ping {},
    /// Sets an account's password.
    SetPassword {
        /// Which account.
        account: String,
        /// Its new password.
        password: String,
    },
    /// Lists queued messages as [`QueueItem`]s.
    QueueList {
        /// Which ones.
        filter: QueueFilter,
        /// By their numbers.
        order: Order,
        /// At most so many.
        limit: Option<usize>,
    },
    /// Changes queued messages. One item: how many.
    QueueChange {
        /// Which ones.
        filter: QueueFilter,
        /// What.
        change: Change,
    },
    /// Ends queued messages. One item: `{"ended": N, "in_delivery": N}`.
    QueueEnd {
        /// Which ones.
        filter: QueueFilter,
        /// Without a DSN, as event `canceled`; else as if delivery had failed.
        drop: bool,
    },
    /// The text of a queued message. Items: pieces of it, in base64.
    QueueDump {
        /// Which one.
        id: QueueId,
    },
    /// Why a message is still there. One item: a sentence.
    QueueExplain {
        /// Which one.
        id: QueueId,
    },
    /// Lists the history as [`RetiredItem`]s.
    RetiredList {
        /// Which ones.
        filter: RetiredFilter,
        /// By their numbers.
        order: Order,
        /// At most so many.
        limit: Option<usize>,
    },
    /// Makes a key for the API. One item: `{"id": N, "key": "..."}`; the key is never shown again.
    ApiKeyAdd {
        /// What people call it.
        name: String,
        /// In whose name it may be used.
        account: String,
        /// What for.
        scopes: Vec<Scope>,
        /// Until when; None: without end.
        expires: Option<Time>,
    },
    /// Lists keys as [`ApiKeyItem`]s.
    ApiKeyList {
        /// Of this account only.
        account: Option<String>,
    },
    /// Removes a key.
    ApiKeyRemove {
        /// Which one.
        id: ApiKeyId,
    },
    /// Lists the calls of webhooks that are to be made, as [`HookItem`]s.
    WebhookList {
        /// Which ones.
        filter: HookFilter,
        /// By their numbers.
        order: Order,
        /// At most so many.
        limit: Option<usize>,
    },
    /// Moves the next calls. One item: how many.
    WebhookSchedule {
        /// Which ones.
        filter: HookFilter,
        /// To when.
        next: NextAttempt,
    },
    /// Ends calls as failed. One item: `{"canceled": N, "being_made": N}`.
    WebhookCancel {
        /// Which ones.
        filter: HookFilter,
    },
    /// Lists the history of calls as [`RetiredHookItem`]s.
    WebhookRetiredList {
        /// Which ones.
        filter: RetiredHookFilter,
        /// By their numbers.
        order: Order,
        /// At most so many.
        limit: Option<usize>,
    },
    /// Makes calls of the history again. One item: `{"replayed": N, "impossible": N}`.
    WebhookReplay {
        /// Which ones.
        filter: RetiredHookFilter,
    },
    /// Calls a webhook once with an example. One item: `{"url": "...", "attempt": {...}}`, with a [`HookAttemptItem`].
    WebhookTest {
        /// Whose.
        account: String,
        /// The one for received messages.
        incoming: bool,
    },
    /// Lists suppressed addresses as [`SuppressionItem`]s.
    SuppressionList {
        /// Of this account only.
        account: Option<String>,
    },
    /// Puts an address on a suppression list.
    SuppressionAdd {
        /// Whose.
        account: String,
        /// The address; all its variants are meant.
        address: String,
        /// Why.
        reason: String,
    },
    /// Takes an address off a suppression list.
    SuppressionRemove {
        /// Whose.
        account: String,
        /// The address or a variant of it.
        address: String,
        /// Of mail of this list; empty: of all mail.
        #[serde(default)]
        list: String,
    },
    /// Looks an address up. One item, a [`SuppressionItem`], if it is there.
    SuppressionLookup {
        /// Whose list.
        account: String,
        /// The address or a variant of it.
        address: String,
        /// Of mail of this list; empty: of all mail.
        #[serde(default)]
        list: String,
    },
    /// Lists hold rules as [`HoldRuleItem`]s.
    HoldRulesList {},
    /// Adds a hold rule. One item: `{"id": N, "held": N}`.
    HoldRulesAdd {
        /// What it holds.
        filter: HoldFilter,
    },
    /// Removes a hold rule.
    HoldRulesRemove {
        /// Which one.
        id: HoldRuleId,
    },
}

/// What the server's side needs.
#[derive(Clone)]
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The queue.
    pub queue: Arc<Queue>,
    /// Remembered logins, told of changed passwords.
    pub logins: Arc<Logins>,
    /// The dynamic configuration.
    pub config: Live,
    /// The calls of webhooks.
    pub webhooks: Arc<Operator>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a request is not carried out, or not to its end.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The connection broke.
    Gone(io::Error),
    /// It can't be done.
    Refused(String),
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        refused(error)
    }
}

fn refused(error: impl ToString) -> RequestError {
    RequestError::Refused(error.to_string())
}

impl Request {
    pub(crate) async fn carry_out(
        self,
        parts: &Parts,
        items: &mut Items,
    ) -> Result<(), RequestError> {
        match self {
            Self::Ping {} => one(items, env!("CARGO_PKG_VERSION").into()).await,
            Self::SetPassword { account, password } => {
                set_password(parts, &account, &password).await
            }
            Self::QueueList {
                filter,
                order,
                limit,
            } => {
                let filter = &filter;
                let read = |after, portion| async move {
                    let page = parts.store.list(filter, after, order, portion).await?;
                    let mut items = Vec::with_capacity(page.items.len());
                    for message in page.items {
                        let state = parts.queue.explain(&message).await?;
                        items.push((message, state));
                    }
                    let next = page.next;
                    Ok(Page { items, next })
                };
                let shape = |(message, state): &(Queued, String)| {
                    Ok(value(&QueueItem::new(message, state.clone()))?)
                };
                list(limit, items, read, shape).await
            }
            Self::QueueChange { filter, change } => {
                let count = parts.queue.change(&filter, &change).await;
                one(items, count.map_err(refused)?.into()).await
            }
            Self::QueueEnd { filter, drop } => {
                let end = if drop { End::Drop } else { End::Fail };
                let count = parts.queue.end_all(&filter, end).await?;
                let item = json!({"ended": count.ended, "in_delivery": count.in_delivery});
                one(items, item).await
            }
            Self::QueueDump { id } => dump(parts, id, items).await,
            Self::QueueExplain { id } => explain(parts, id, items).await,
            Self::RetiredList {
                filter,
                order,
                limit,
            } => {
                let read =
                    |after, portion| parts.store.list_retired(&filter, after, order, portion);
                let shape = |retired: &Retired| Ok(value(&RetiredItem::from(retired))?);
                list(limit, items, read, shape).await
            }
            Self::SuppressionList { account } => {
                let read = |after, portion| {
                    parts
                        .store
                        .list_suppressions(account.as_deref(), after, portion)
                };
                let shape = |entry: &Suppression| Ok(value(&SuppressionItem::from(entry))?);
                list(None, items, read, shape).await
            }
            Self::ApiKeyAdd {
                name,
                account,
                scopes,
                expires,
            } => {
                if !parts.config.load().accounts.contains_key(&account) {
                    return Err(refused(format!("there is no account {account}")));
                }
                let (secret, hash) = KeyText::secret(&mut rand::rng());
                let key = NewApiKey {
                    name: name.clone(),
                    account: account.clone(),
                    hash,
                    scopes,
                    created: parts.clock.now(),
                    expires,
                };
                let id = parts.store.add_api_key(key).await?;
                info!(%id, name, account, "key for the API made");
                let text = KeyText::new(id, secret).to_string();
                one(items, json!({"id": id.0, "key": text})).await
            }
            Self::ApiKeyList { account } => {
                let keys = parts.store.api_keys().await?;
                let keys = keys.iter().filter(|key| {
                    let account = account.as_ref();
                    account.is_none_or(|account| *account == key.account)
                });
                let values: io::Result<Vec<_>> =
                    keys.map(|key| value(&ApiKeyItem::from(key))).collect();
                Ok(items.send(values?).await?)
            }
            Self::ApiKeyRemove { id } => {
                if parts.store.remove_api_key(id).await? {
                    info!(%id, "key for the API removed");
                    return Ok(());
                }
                Err(refused(format!("there is no key {id}")))
            }
            Self::WebhookList {
                filter,
                order,
                limit,
            } => {
                let read = |after, portion| parts.store.list_hooks(&filter, after, order, portion);
                let shape = |hook: &Hook| Ok(value(&HookItem::from(hook))?);
                list(limit, items, read, shape).await
            }
            Self::WebhookRetiredList {
                filter,
                order,
                limit,
            } => {
                let read = |after, portion| {
                    parts
                        .store
                        .list_retired_hooks(&filter, after, order, portion)
                };
                let shape = |retired: &RetiredHook| Ok(value(&RetiredHookItem::from(retired))?);
                list(limit, items, read, shape).await
            }
            Self::WebhookSchedule { filter, next } => {
                let count = parts.webhooks.schedule(&filter, next).await?;
                one(items, count.into()).await
            }
            Self::WebhookCancel { filter } => {
                let count = parts.webhooks.cancel(&filter).await?;
                let item = json!({"canceled": count.canceled, "being_made": count.being_made});
                one(items, item).await
            }
            Self::WebhookReplay { filter } => {
                let count = parts.webhooks.replay(&filter).await?;
                let item = json!({"replayed": count.replayed, "impossible": count.impossible});
                one(items, item).await
            }
            Self::WebhookTest { account, incoming } => {
                let which = match incoming {
                    true => Which::Incoming,
                    false => Which::Outgoing,
                };
                let tested = parts.webhooks.test(&account, which).await;
                let (url, attempt) = tested.map_err(refused)?;
                let attempt = value(&HookAttemptItem::from(&attempt))?;
                one(items, json!({"url": url, "attempt": attempt})).await
            }
            Self::SuppressionAdd {
                account,
                address,
                reason,
            } => suppress(parts, account, &address, reason).await,
            Self::SuppressionRemove {
                account,
                address,
                list,
            } => {
                let base = base(&address)?;
                let name = base_in_list(&base, &list);
                if parts.store.unsuppress(&account, &name).await? {
                    info!(
                        account,
                        base, list, "suppression removed by an administrator"
                    );
                    return Ok(());
                }
                let text = match list.as_str() {
                    "" => format!("{base} is not on the list of {account} for all mail"),
                    list => format!("{base} is not suppressed for mail of {list:?} of {account}"),
                };
                Err(refused(text))
            }
            Self::SuppressionLookup {
                account,
                address,
                list,
            } => {
                let name = base_in_list(&base(&address)?, &list);
                match parts.store.suppression(&account, &name).await? {
                    Some(entry) => one(items, value(&SuppressionItem::from(&entry))?).await,
                    None => Ok(()),
                }
            }
            Self::HoldRulesList {} => {
                let rules = parts.store.hold_rules().await?;
                let values = rules.iter().map(HoldRuleItem::from);
                let values: io::Result<Vec<_>> = values.map(|item| value(&item)).collect();
                Ok(items.send(values?).await?)
            }
            Self::HoldRulesAdd { filter } => {
                let (id, held) = parts.queue.add_hold_rule(filter).await?;
                one(items, json!({"id": id.0, "held": held})).await
            }
            Self::HoldRulesRemove { id } => {
                if parts.store.remove_hold_rule(id).await? {
                    return Ok(());
                }
                Err(refused(format!("there is no hold rule {id}")))
            }
        }
    }
}

async fn one(items: &mut Items, item: Value) -> Result<(), RequestError> {
    Ok(items.send(vec![item]).await?)
}

fn value(item: &impl Serialize) -> io::Result<Value> {
    Ok(serde_json::to_value(item)?)
}

async fn set_password(parts: &Parts, account: &str, password: &str) -> Result<(), RequestError> {
    let config = parts.config.load_full();
    let logins = Some(&*parts.logins);
    let now = parts.clock.now();
    let (store, logins) = (&parts.store, logins);
    password::set_account_password(store, logins, &config, account, password, now)
        .await
        .map_err(refused)?;
    info!(account, "password set through the control socket");
    Ok(())
}

/// How many more records are wanted at once; None when there are enough.
fn portion(limit: Option<usize>, sent: usize) -> Option<usize> {
    let left = limit.map_or(PAGE, |limit| limit.saturating_sub(sent).min(PAGE));
    (left > 0).then_some(left)
}

/// Reads records page by page, and sends what `shape` makes of them.
async fn list<T, C: Copy, F: Future<Output = Result<Page<T, C>, StoreError>>>(
    limit: Option<usize>,
    items: &mut Items,
    read: impl Fn(Option<C>, usize) -> F,
    shape: impl Fn(&T) -> Result<Value, RequestError>,
) -> Result<(), RequestError> {
    let (mut after, mut sent) = (None, 0);
    while let Some(portion) = portion(limit, sent) {
        let page = read(after, portion).await?;
        let values: Result<Vec<_>, _> = page.items.iter().map(&shape).collect();
        sent += page.items.len();
        items.send(values?).await?;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(())
}

async fn suppress(
    parts: &Parts,
    account: String,
    address: &str,
    reason: String,
) -> Result<(), RequestError> {
    if !parts.config.load().accounts.contains_key(&account) {
        return Err(refused(format!("there is no account {account}")));
    }
    let address = parse(address)?;
    let base = base_address(&address);
    let new = NewSuppression {
        account: account.clone(),
        base: base.clone(),
        list: String::new(),
        original: address.unicode(),
        created: parts.clock.now(),
        manual: true,
        reason,
    };
    if parts.store.suppress(new).await? {
        info!(account, base, "suppression added by an administrator");
        return Ok(());
    }
    Err(refused(format!(
        "{base} is on the list of {account} already"
    )))
}

async fn dump(parts: &Parts, id: QueueId, items: &mut Items) -> Result<(), RequestError> {
    let message = queued(parts, id).await?;
    let stored = parts.store.queued_message(&message).await?;
    let mut at = 0;
    while at < stored.len() {
        let end = stored.len().min(at + DUMP);
        let piece = stored.read(at..end).await?;
        one(items, STANDARD.encode(&piece).into()).await?;
        at = end;
    }
    Ok(())
}

async fn explain(parts: &Parts, id: QueueId, items: &mut Items) -> Result<(), RequestError> {
    if let Some(retired) = parts.store.retired(id).await? {
        let text = postrider_queue::explain_retired(&retired);
        return one(items, text.into()).await;
    }
    let message = queued(parts, id).await?;
    one(items, parts.queue.explain(&message).await?.into()).await
}

async fn queued(parts: &Parts, id: QueueId) -> Result<Queued, RequestError> {
    let message = parts.store.queued(id).await?;
    message.ok_or_else(|| refused(format!("there is no message {id} in the queue")))
}

fn parse(address: &str) -> Result<Address, RequestError> {
    Address::parse(address).map_err(|error| refused(format!("{address:?}: {error}")))
}

fn base(address: &str) -> Result<String, RequestError> {
    Ok(base_address(&parse(address)?))
}
