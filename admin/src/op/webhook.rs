//! Calls of webhooks: those to be made, and their history.

mod find;
mod receivers;

pub use self::{
    find::{Ended, Find, FindPast, Sends, Show, ShownHook},
    receivers::{ReceiverItem, ReceiverList, Receivers},
};

use postrider_config::shown_url;
use postrider_observe::millis;
use postrider_store::{
    Event, Hook, HookAttempt, HookFilter, NextAttempt, Order, RetiredHook, RetiredHookFilter,
};
use postrider_webhook::WebhookKind;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{Operation, Single, Sink, pages::send_pages};
use crate::{AdminError, Context};

/// A call to be made. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct HookItem {
    pub id: u64,
    pub account: String,
    /// The name of the event, or `incoming`.
    pub event: String,
    /// 0 for an incoming message.
    pub queue_msg_id: u64,
    pub message_id: String,
    pub subject: String,
    pub url: String,
    pub submitted: String,
    pub next_attempt: String,
    pub attempts: u32,
    pub results: Vec<HookAttemptItem>,
}

/// A call of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct RetiredHookItem {
    #[serde(flatten)]
    pub call: HookItem,
    pub success: bool,
    pub last_activity: String,
    /// When the record is removed.
    pub keep_until: String,
}

/// The result of one attempt to make a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct HookAttemptItem {
    pub start: String,
    pub duration_ms: u64,
    pub success: bool,
    /// The HTTP status; 0 without an answer.
    pub code: u16,
    pub error: String,
    /// The first 512 bytes of the answer.
    pub response: String,
}

impl From<&HookAttempt> for HookAttemptItem {
    fn from(attempt: &HookAttempt) -> Self {
        Self {
            start: attempt.start.to_string(),
            duration_ms: millis(attempt.duration),
            success: attempt.success,
            code: attempt.code,
            error: attempt.error.clone(),
            response: attempt.response.clone(),
        }
    }
}

impl From<&Hook> for HookItem {
    fn from(hook: &Hook) -> Self {
        let (event, queue_msg_id, message_id, subject) = match hook.kind.outgoing() {
            Some(outgoing) => (
                outgoing.event.name(),
                outgoing.queue_id.0,
                outgoing.message_id.clone(),
                outgoing.subject.clone(),
            ),
            None => ("incoming", 0, String::new(), String::new()),
        };
        Self {
            id: hook.id.0,
            account: hook.account.clone(),
            event: event.to_owned(),
            queue_msg_id,
            message_id,
            subject,
            url: shown_url(&hook.url),
            submitted: hook.submitted.to_string(),
            next_attempt: hook.next_attempt.to_string(),
            attempts: hook.attempts,
            results: hook.results.iter().map(HookAttemptItem::from).collect(),
        }
    }
}

impl From<&RetiredHook> for RetiredHookItem {
    fn from(retired: &RetiredHook) -> Self {
        Self {
            call: HookItem::from(&retired.hook),
            success: retired.success,
            last_activity: retired.last_activity.to_string(),
            keep_until: retired.keep_until.to_string(),
        }
    }
}

/// Lists calls to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The calls to list.
    pub filter: HookFilter,
    /// By id, ascending or descending.
    pub order: Order,
    /// The largest number of calls; None: all.
    pub limit: Option<usize>,
}

impl Operation for List {
    type Item = HookItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<HookItem>,
    ) -> Result<(), AdminError> {
        let (filter, order) = (&self.filter, self.order);
        send_pages(self.limit, items, |after, count| {
            context.store.list_hooks(filter, after, order, count)
        })
        .await
    }
}

/// Lists calls of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The calls to list.
    pub filter: RetiredHookFilter,
    /// By id, ascending or descending.
    pub order: Order,
    /// The largest number of calls; None: all.
    pub limit: Option<usize>,
}

impl Operation for History {
    type Item = RetiredHookItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<RetiredHookItem>,
    ) -> Result<(), AdminError> {
        let (filter, order) = (&self.filter, self.order);
        send_pages(self.limit, items, |after, count| {
            context
                .store
                .list_retired_hooks(filter, after, order, count)
        })
        .await
    }
}

/// Moves the next attempts of calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The calls to move.
    pub filter: HookFilter,
    /// The new time.
    pub next: NextAttempt,
}

/// How many calls were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// How many calls were moved.
    pub scheduled: u64,
}

impl Single for Schedule {
    type Output = Scheduled;

    async fn answer(self, context: &Context) -> Result<Scheduled, AdminError> {
        let context = &context.carrying("webhook.schedule", "webhooks", &self);
        let done = context
            .webhooks
            .schedule(&context.store, &self.filter, self.next)
            .await;
        let done = done.map_err(AdminError::from);
        let scheduled = context
            .record("webhook.schedule", "webhooks", &self, done)
            .await?;
        Ok(Scheduled { scheduled })
    }
}

/// Ends calls as failed, without making them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The calls to end.
    pub filter: HookFilter,
}

/// How many calls were ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canceled {
    /// How many calls were ended.
    pub canceled: u64,
    /// How many calls were in progress, and were left alone.
    pub being_made: u64,
}

impl Single for Cancel {
    type Output = Canceled;

    async fn answer(self, context: &Context) -> Result<Canceled, AdminError> {
        let context = &context.carrying("webhook.cancel", "webhooks", &self);
        let done = context.webhooks.cancel(&context.store, &self.filter).await;
        let done = done.map_err(AdminError::from);
        let count = context
            .record("webhook.cancel", "webhooks", &self, done)
            .await?;
        Ok(Canceled {
            canceled: count.canceled,
            being_made: count.being_made,
        })
    }
}

/// Makes calls of the history again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The calls to make again.
    pub filter: RetiredHookFilter,
}

/// How many calls will be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// How many calls will be made again.
    pub replayed: u64,
    /// How many cannot be: the account has no such webhook now, or the received message was
    /// removed.
    pub impossible: u64,
}

impl Single for Replay {
    type Output = Replayed;

    async fn answer(self, context: &Context) -> Result<Replayed, AdminError> {
        let context = &context.carrying("webhook.replay", "webhooks", &self);
        let done = context.webhooks.replay(&context.store, &self.filter).await;
        let done = done.map_err(AdminError::from);
        let count = context
            .record("webhook.replay", "webhooks", &self, done)
            .await?;
        Ok(Replayed {
            replayed: count.replayed,
            impossible: count.impossible,
        })
    }
}

/// Calls a webhook once with an example. Nothing is recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The account.
    pub account: String,
    /// Call the webhook for received messages, instead of the webhook for events of sent messages.
    pub incoming: bool,
    /// The event that the example tells of; None: `delivered`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The body of the call, which must be JSON; None: that of the example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// The answer of the receiver to an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The URL that was called, without a login.
    pub url: String,
    /// The result.
    pub attempt: HookAttemptItem,
}

impl Single for Test {
    type Output = Tested;

    async fn answer(self, context: &Context) -> Result<Tested, AdminError> {
        let event = event(self.event.as_deref())?;
        if let Some(body) = &self.body
            && let Err(error) = serde_json::from_str::<IgnoredAny>(body)
        {
            let text = format!("the body is not JSON: {error}");
            return Err(AdminError::invalid(text).at("body"));
        }
        let which = kind(self.incoming);
        let body = self.body.map(String::into_bytes);
        let webhooks = &context.webhooks;
        let (url, attempt) = webhooks.test(&self.account, which, event, body).await?;
        let attempt = HookAttemptItem::from(&attempt);
        Ok(Tested {
            url: shown_url(&url),
            attempt,
        })
    }
}

/// Gives the example that [`Test`] sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The account.
    pub account: String,
    /// That of the webhook for received messages, instead of the webhook for events.
    pub incoming: bool,
    /// The event that the example tells of; None: `delivered`.
    #[serde(default)]
    pub event: Option<String>,
}

/// What a test sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleItem {
    /// The URL, without a login.
    pub url: String,
    /// Header and body.
    pub sends: Sends,
}

impl Single for Example {
    type Output = ExampleItem;

    async fn answer(self, context: &Context) -> Result<ExampleItem, AdminError> {
        let event = event(self.event.as_deref())?;
        let webhooks = &context.webhooks;
        let (url, described) = webhooks.example(&self.account, kind(self.incoming), event)?;
        Ok(ExampleItem {
            url: shown_url(&url),
            sends: described.into(),
        })
    }
}

const fn kind(incoming: bool) -> WebhookKind {
    match incoming {
        true => WebhookKind::Incoming,
        false => WebhookKind::Outgoing,
    }
}

fn event(name: Option<&str>) -> Result<Event, AdminError> {
    let Some(name) = name else {
        return Ok(Event::Delivered);
    };
    let unknown = || AdminError::invalid(format!("there is no event {name:?}")).at("event");
    Event::from_name(name).ok_or_else(unknown)
}
