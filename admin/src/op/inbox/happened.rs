//! What became of a message: attempts, events, calls of webhooks, and how it came.

use postrider_store::{
    EventFilter, HookFilter, HookKind, LoggedEvent, MailId, Order, QueueId, RetiredHookFilter, Time,
};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        Single, messages,
        messages::MessageItem,
        traces::{Stories, Story, StoryItem},
        webhook::{HookItem, RetiredHookItem},
    },
    Entry, InboxId,
    list::{Facts, beginning},
};
use crate::{AdminError, Code, Context};

/// The most events and calls that are told of.
const MOST: usize = 200;

/// Tells what became of a message of the inbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhatHappened {
    /// The message.
    pub id: InboxId,
    /// Only of this account; None: of any account.
    #[serde(default)]
    pub account: Option<String>,
}

/// What became of a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// The message as the queue or the history has it; None: it was not sent, or the history has it
    /// no more.
    pub message: Option<MessageItem>,
    /// Its events, oldest first.
    pub events: Vec<EventItem>,
    /// Calls of webhooks that are to be made.
    pub calls: Vec<HookItem>,
    /// Calls of webhooks that ended.
    pub ended_calls: Vec<RetiredHookItem>,
    /// How it came, and the attempts, step by step, as far as it was traced.
    pub stories: Vec<StoryItem>,
    /// Nothing will happen any more, as far as it is known.
    pub over: bool,
}

/// An event of a sent message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventItem {
    /// Its name, such as `delivered`.
    pub event: String,
    /// When it happened, in RFC 3339.
    pub time: String,
    /// The code of an SMTP reply; 0 without one.
    pub code: u16,
    /// The enhanced code; empty: there is none.
    pub enhanced_code: String,
    /// The text of an error; empty: there is none.
    pub error: String,
    /// The failure put the recipient on the suppression list.
    pub suppressing: bool,
}

impl From<&LoggedEvent> for EventItem {
    fn from(event: &LoggedEvent) -> Self {
        let told = &event.told;
        let enhanced = told.enhanced.map(|code| code.to_string());
        Self {
            event: told.event.name().to_owned(),
            time: told.queued.to_string(),
            code: told.code,
            enhanced_code: enhanced.unwrap_or_default(),
            error: told.error.clone(),
            suppressing: told.suppressing,
        }
    }
}

impl Single for WhatHappened {
    type Output = Happened;

    async fn answer(self, context: &Context) -> Result<Happened, AdminError> {
        let entry = Entry::find(context, self.id, self.account.as_deref()).await?;
        let mut happened = Happened::default();
        let account = entry.account().to_owned();
        let message_id = match entry.bytes(context).await? {
            Some(message) => beginning(context, &message).await?.message_id,
            None => String::new(),
        };
        if let Some(id) = entry.sent() {
            happened.message = match (messages::Get { id }).answer(context).await {
                Ok(message) => Some(message),
                Err(error) if error.code == Code::NotFound => None,
                Err(error) => return Err(error),
            };
            happened.events = events(context, &account, id, &happened).await?;
            happened.add_calls(context, id).await?;
        }
        if let Entry::Mail(mail) = &entry {
            happened
                .add_incoming(context, &account, mail.id, mail.received)
                .await?;
        }
        let waits = happened
            .message
            .as_ref()
            .is_some_and(|it| !it.stage.is_end());
        happened.over = !waits && happened.calls.is_empty();
        happened.stories = stories(context, &entry, &message_id).await?;
        Ok(happened)
    }
}

/// The events of a message in the log of its account.
async fn events(
    context: &Context,
    account: &str,
    id: QueueId,
    happened: &Happened,
) -> Result<Vec<EventItem>, AdminError> {
    let Some(message) = &happened.message else {
        return Ok(Vec::new());
    };
    let filter = EventFilter {
        account: Some(account.to_owned()),
        message_id: Some(message.message.message_id.clone()),
        ..EventFilter::default()
    };
    let page = context
        .store
        .list_events(&filter, None, Order::Ascending, MOST)
        .await?;
    let events = page.items.iter().filter(|event| event.told.queue_id == id);
    Ok(events.map(EventItem::from).collect())
}

impl Happened {
    /// Adds the calls that tell of a sent message.
    async fn add_calls(&mut self, context: &Context, id: QueueId) -> Result<(), AdminError> {
        let filter = HookFilter {
            message: Some(id),
            ..HookFilter::default()
        };
        let order = Order::Ascending;
        let page = context.store.list_hooks(&filter, None, order, MOST).await?;
        self.calls.extend(page.items.iter().map(HookItem::from));
        let filter = RetiredHookFilter {
            message: Some(id),
            ..RetiredHookFilter::default()
        };
        let page = context
            .store
            .list_retired_hooks(&filter, None, order, MOST)
            .await?;
        self.ended_calls
            .extend(page.items.iter().map(RetiredHookItem::from));
        Ok(())
    }

    /// Adds the calls that tell of a mail that came in at this time.
    async fn add_incoming(
        &mut self,
        context: &Context,
        account: &str,
        id: MailId,
        received: Time,
    ) -> Result<(), AdminError> {
        let is_of = |kind: &HookKind| matches!(kind, HookKind::Incoming(mail) if mail.id == id);
        // Calls are made when the mail comes.
        let after = Time(received.0.saturating_sub(1_000_000));
        let before = Time(received.0.saturating_add(60_000_000));
        let (account, event) = (Some(account.to_owned()), Some("incoming".to_owned()));
        let filter = HookFilter {
            account: account.clone(),
            event: event.clone(),
            submitted_after: Some(after),
            submitted_before: Some(before),
            ..HookFilter::default()
        };
        let order = Order::Ascending;
        let page = context.store.list_hooks(&filter, None, order, MOST).await?;
        let calls = page.items.iter().filter(|hook| is_of(&hook.kind));
        self.calls.extend(calls.map(HookItem::from));
        let filter = RetiredHookFilter {
            account,
            event,
            submitted_after: Some(after),
            submitted_before: Some(before),
            ..RetiredHookFilter::default()
        };
        let page = context
            .store
            .list_retired_hooks(&filter, None, order, MOST)
            .await?;
        let ended = page
            .items
            .iter()
            .filter(|retired| is_of(&retired.hook.kind));
        self.ended_calls.extend(ended.map(RetiredHookItem::from));
        Ok(())
    }
}

/// The stories of a message, as far as traces are there.
async fn stories(
    context: &Context,
    entry: &Entry,
    message_id: &str,
) -> Result<Vec<StoryItem>, AdminError> {
    let sent = entry.sent();
    let of = match sent {
        Some(id) => id.to_string(),
        None if message_id.is_empty() => return Ok(Vec::new()),
        None => message_id.to_owned(),
    };
    // A session may have begun long before its message.
    let since = Facts::of(entry).time.0.saturating_sub(3_600_000_000);
    let story = Story {
        of,
        since: Some(Time(since)),
        sight: None,
    };
    match story.answer(context).await {
        Ok(Stories { stories, .. }) => {
            // A number may be that of something else too.
            let is_of = |story: &StoryItem| sent.is_none() || story.queue_id == sent.map(|id| id.0);
            Ok(stories.into_iter().filter(is_of).collect())
        }
        // The server writes no traces.
        Err(error) if error.code == Code::Unavailable => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
