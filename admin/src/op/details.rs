//! What else is known of one message: who else gets it, what was told of it, and its text.

use std::time::{Duration, Instant};

use postrider_smtp::{field, mime::Limits};
use postrider_store::{
    Actor, HookFilter, HookId, Message, Order, Origin, QueueId, Queued, RetiredHookFilter, Store,
};
use postrider_webhook::message::{self, Structure};
use serde::{Deserialize, Serialize};

use super::{
    Single,
    webhook::{HookItem, RetiredHookItem},
};
use crate::{AdminError, Context};

/// The most other recipients that are told.
const SIBLINGS_MAX: usize = 20;
/// How long calls are looked for.
const TIME: Duration = Duration::from_millis(10);
/// How many calls are read at once, and how many are told.
const PAGE: usize = 100;
const CALLS_MAX: usize = 50;
/// The most bytes of a header section, a text and a source that are told.
const HEADER_MAX: u64 = 256 * 1024;
const PARSED_MAX: u64 = 8 << 20;
const SHOWN_MAX: usize = 256 * 1024;

/// Asks what else is known of a message of the queue or of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// The message.
    pub id: QueueId,
}

/// What else is known of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailsItem {
    /// How it came into the queue, in words.
    pub origin: String,
    /// The transport of the next attempt; empty: directly to the hosts of the destination.
    pub route: String,
    /// Other recipients of the same submission, 20 at most.
    pub siblings: Vec<Sibling>,
    /// The mailing list of the application; empty: none.
    pub list: String,
    /// It gives way to others.
    pub is_bulk: bool,
    /// Whether it needs verified TLS; None: as the policy of the remote says.
    pub require_tls: Option<bool>,
    /// Calls of webhooks about it that wait, newest first.
    pub calls: Vec<HookItem>,
    /// Calls of webhooks about it that ended, newest first.
    pub past_calls: Vec<RetiredHookItem>,
    /// There may be more calls.
    pub more_calls: bool,
    /// When it left the queue, and until when its record is kept. None: it is queued.
    #[serde(default)]
    pub retired: Option<(String, String)>,
    /// Its text is still there, so it can be sent again.
    #[serde(default)]
    pub has_text: bool,
}

/// Another recipient of the same submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sibling {
    /// The number of the message.
    pub id: u64,
    /// The recipient.
    pub to: String,
}

impl Single for Details {
    type Output = DetailsItem;

    async fn answer(self, context: &Context) -> Result<DetailsItem, AdminError> {
        let store = &context.store;
        let message = find(store, self.id).await?;
        let (message, retired) = message.ok_or_else(|| missing(self.id))?;
        let mut details = DetailsItem {
            origin: origin(&message.common.origin).to_owned(),
            route: message.next_transport().to_owned(),
            siblings: siblings(store, &message).await?,
            list: message.common.list.clone(),
            is_bulk: message.common.urgency.bulk,
            require_tls: message.common.require_tls,
            retired,
            has_text: store.queued_message(&message).await.is_ok(),
            ..DetailsItem::default()
        };
        details.add_calls(store, &message).await?;
        Ok(details)
    }
}

fn missing(id: QueueId) -> AdminError {
    AdminError::not_found(format!("there is no message {id}")).at("id")
}

/// A message of the queue, or of the history with the time of its end and until when it is kept.
async fn find(
    store: &Store,
    id: QueueId,
) -> Result<Option<(Queued, Option<(String, String)>)>, AdminError> {
    if let Some(message) = store.queued(id).await? {
        return Ok(Some((message, None)));
    }
    let retired = store.retired(id).await?;
    Ok(retired.map(|it| {
        let times = (it.last_activity.to_string(), it.keep_until.to_string());
        (it.message, Some(times))
    }))
}

const fn origin(origin: &Origin) -> &'static str {
    match origin {
        Origin::Sent => "sent by the account",
        Origin::Passed { .. } => "passed on for an address of the account",
        Origin::Server => "written by the server: a report to a sender",
        Origin::Report(_) => "written by the server: a report about mail of a domain",
    }
}

/// The other recipients: the numbers of one submission are consecutive.
async fn siblings(store: &Store, message: &Queued) -> Result<Vec<Sibling>, AdminError> {
    let mut siblings = Vec::new();
    for number in message.base.0..message.base.0 + SIBLINGS_MAX as u64 + 1 {
        if number == message.id.0 {
            continue;
        }
        match find(store, QueueId(number)).await? {
            Some((other, _)) if other.base == message.base => siblings.push(Sibling {
                id: number,
                to: other.recipient.unicode(),
            }),
            Some(_) => break,
            None => {}
        }
    }
    Ok(siblings)
}

impl DetailsItem {
    /// Looks for the calls about a message among those of its account, newest first, back to the
    /// time of the message.
    async fn add_calls(&mut self, store: &Store, message: &Queued) -> Result<(), AdminError> {
        let (begun, since) = (Instant::now(), message.common.queued);
        let account = Some(message.common.account.clone());
        let is_about = |item: &HookItem| item.queue_msg_id == message.id.0;
        let filter = HookFilter {
            account: account.clone(),
            ..HookFilter::default()
        };
        let mut after: Option<HookId> = None;
        loop {
            let page = store.list_hooks(&filter, after, Order::Descending, PAGE);
            let page = page.await?;
            let is_past = page.items.iter().any(|hook| hook.submitted < since);
            let items = page.items.iter().map(HookItem::from);
            self.calls.extend(items.filter(is_about));
            after = page.next;
            if after.is_none() || is_past {
                break;
            }
            if begun.elapsed() > TIME || self.calls.len() >= CALLS_MAX {
                self.more_calls = true;
                break;
            }
        }
        let filter = RetiredHookFilter {
            account,
            ..RetiredHookFilter::default()
        };
        let mut after: Option<HookId> = None;
        loop {
            let page = store.list_retired_hooks(&filter, after, Order::Descending, PAGE);
            let page = page.await?;
            let is_past = page.items.iter().any(|it| it.hook.submitted < since);
            let items = page.items.iter().map(RetiredHookItem::from);
            self.past_calls
                .extend(items.filter(|item| is_about(&item.call)));
            after = page.next;
            if after.is_none() || is_past {
                return Ok(());
            }
            if begun.elapsed() > TIME * 2 || self.past_calls.len() >= CALLS_MAX {
                self.more_calls = true;
                return Ok(());
            }
        }
    }
}

/// Reads the header section of a queued message and the structure of its parts, and its text if
/// that is wanted. The audit log notes who read a text, unless it is mail of the account itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// The message.
    pub id: QueueId,
    /// With its text and its source.
    pub with_text: bool,
}

/// What a message has in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The header fields in order: name, and value in one line, decoded.
    pub fields: Vec<(String, String)>,
    /// The header section as it is.
    pub header: String,
    /// The parts, each with its depth, in order. None: the message is too long for a look.
    pub parts: Option<Vec<PartItem>>,
    /// The text for people. None: not asked for.
    pub text: Option<String>,
    /// The message as it is, its beginning at least. None: not asked for.
    pub source: Option<String>,
    /// The source is longer than what is told of it.
    pub is_cut: bool,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartItem {
    /// How many parts it is in.
    pub depth: usize,
    /// The type, for example `text/plain`.
    pub kind: String,
    /// The name of a file; empty: it has none.
    pub filename: String,
    /// `attachment`, `inline`, or empty.
    pub disposition: String,
    /// Bytes without transfer encoding; 0 for one with parts.
    pub size: u64,
}

impl Single for Look {
    type Output = Looked;

    async fn answer(self, context: &Context) -> Result<Looked, AdminError> {
        let queued = context.store.queued(self.id).await?;
        let queued = queued.ok_or_else(|| {
            let text = format!("there is no message {} in the queue", self.id);
            AdminError::not_found(text).at("id")
        })?;
        let message = context.store.queued_message(&queued).await?;
        let looked = self.look(&message).await;
        if self.with_text && !is_own(context, &queued) {
            let target = self.id.to_string();
            return context.record("queue.look", &target, &(), looked).await;
        }
        looked
    }
}

/// Whether the caller is logged in to the account of the message.
fn is_own(context: &Context, message: &Queued) -> bool {
    let (caller, config) = (&context.caller, context.config.load());
    let login = config.login(&caller.name);
    caller.actor == Actor::Account
        && login.is_some_and(|login| login.account == message.common.account)
}

impl Look {
    async fn look(&self, message: &Message) -> Result<Looked, AdminError> {
        let mut looked = Looked::default();
        let is_short = message.len() <= PARSED_MAX;
        let bytes = match is_short {
            true => message.whole().await?,
            false => message.beginning(HEADER_MAX).await?,
        };
        let end = header_end(&bytes);
        let header = bytes.get(..end.min(SHOWN_MAX)).unwrap_or(&bytes);
        looked.header = String::from_utf8_lossy(header).into_owned();
        looked.fields = field::fields(header)
            .map(|it| {
                let name = String::from_utf8_lossy(it.name).into_owned();
                (name, field::text(it.value))
            })
            .collect();
        if is_short {
            let whole = bytes.clone();
            let parsed =
                tokio::task::spawn_blocking(move || message::parse(&whole, Limits::default()));
            let parsed = parsed.await.map_err(AdminError::internal)?;
            let mut parts = Vec::new();
            add_parts(&parsed.structure, 0, &mut parts);
            looked.parts = Some(parts);
            if self.with_text {
                looked.text = Some(parsed.text);
            }
        } else if self.with_text {
            looked.text = Some(String::new());
        }
        if self.with_text {
            let shown = bytes.get(..SHOWN_MAX).unwrap_or(&bytes);
            looked.is_cut = (shown.len() as u64) < message.len();
            looked.source = Some(String::from_utf8_lossy(shown).into_owned());
        }
        Ok(looked)
    }
}

/// Where the header section ends.
fn header_end(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\r\n") {
        return 0;
    }
    let blank = |end: &[u8]| bytes.windows(end.len()).position(|window| window == end);
    blank(b"\r\n\r\n").map_or(bytes.len(), |at| at + 2)
}

fn add_parts(structure: &Structure, depth: usize, parts: &mut Vec<PartItem>) {
    parts.push(PartItem {
        depth,
        kind: structure.content_type.clone(),
        filename: structure.filename.clone(),
        disposition: structure.content_disposition.clone(),
        size: u64::try_from(structure.decoded_size).unwrap_or(0),
    });
    for part in &structure.parts {
        add_parts(part, depth + 1, parts);
    }
}
