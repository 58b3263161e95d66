//! The inbox of localserve: what came in and what was sent, for developers.
//!
//! - `list`: its rows, newest first. `walk`: the way through them. `query`: the search.
//! - `message`: one of them. `html`: its HTML, so that a browser can show it. `links`: where it
//!   leads. `hints`: what mail programs will not like.
//! - `happened`: what became of it.
//! - `change`: clear the inbox, and note what was read.
//! - `send`: a test message, and what a failure that an address asks for will look like.

mod change;
mod happened;
mod hints;
mod html;
mod links;
mod list;
mod message;
mod query;
mod send;
mod walk;

use std::{fmt, str::FromStr};

use postrider_queue::sent_as;
use postrider_smtp::mime;
use postrider_store::{Mail, MailId, Message, Order, QueueId, Queued};
use postrider_webhook::message::Parsed;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub use self::{
    change::{Clear, Cleared, Mark, Marked},
    happened::{EventItem, Happened, WhatHappened},
    hints::HintItem,
    html::{Html, ShownHtml},
    links::LinkItem,
    list::{InboxPage, InboxRow, InboxState, List},
    message::{FileItem, Get, HeaderItem, InboxMessage, Part, PartItem, Source},
    send::{Foresee, Foreseen, SendTest, Sent, Simulated, Stage},
};
use crate::{AdminError, Context};

/// The most bytes of a message that are read for a list.
const BEGINNING: u64 = 64 << 10;
/// The largest message that is read as a whole. Of a larger one only the beginning is shown.
const WHOLE_MAX: u64 = 64 << 20;
/// How many messages are read as a whole at a time.
static WHOLE: Semaphore = Semaphore::const_new(2);
/// The mailbox with copies of messages that were sent. They did not come in.
const SENT: &str = "Sent";
/// The flag of a mail that was read.
const SEEN: &str = "\\seen";

/// The name of something in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum InboxId {
    /// A mail in a mailbox: `m` and its number.
    Mail(MailId),
    /// A message of the queue or the history: `q` and its number.
    Message(QueueId),
}

impl fmt::Display for InboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(id) => write!(f, "m{id}"),
            Self::Message(id) => write!(f, "q{id}"),
        }
    }
}

impl FromStr for InboxId {
    type Err = AdminError;

    fn from_str(text: &str) -> Result<Self, AdminError> {
        let number = |text: &str| text.parse::<u64>().ok();
        let mail = text.strip_prefix('m').and_then(number);
        let message = text.strip_prefix('q').and_then(number);
        match (mail, message) {
            (Some(id), _) => Ok(Self::Mail(MailId(id))),
            (None, Some(id)) => Ok(Self::Message(QueueId(id))),
            (None, None) => Err(missing(text)),
        }
    }
}

impl TryFrom<String> for InboxId {
    type Error = AdminError;

    fn try_from(text: String) -> Result<Self, AdminError> {
        text.parse()
    }
}

impl From<InboxId> for String {
    fn from(id: InboxId) -> Self {
        id.to_string()
    }
}

fn missing(id: impl fmt::Display) -> AdminError {
    AdminError::not_found(format!("there is no message {id} in the inbox")).at("id")
}

/// Something that is in the inbox.
#[derive(Clone, Debug)]
enum Entry {
    Mail(Mail),
    Queued(Queued),
    /// It left the queue, and the next hop took it or not.
    Ended(Queued, bool),
}

impl Entry {
    const fn id(&self) -> InboxId {
        match self {
            Self::Mail(mail) => InboxId::Mail(mail.id),
            Self::Queued(message) | Self::Ended(message, _) => InboxId::Message(message.id),
        }
    }

    /// Finds it. One of another account is not there.
    async fn find(
        context: &Context,
        id: InboxId,
        account: Option<&str>,
    ) -> Result<Self, AdminError> {
        let store = &context.store;
        let found = match id {
            InboxId::Mail(id) => store.mail(id).await?.map(Self::Mail),
            InboxId::Message(id) => match store.queued(id).await? {
                Some(queued) => Some(Self::Queued(queued)),
                None => {
                    let retired = store.retired(id).await?;
                    retired.map(|it| Self::Ended(it.message, it.success))
                }
            },
        };
        let is_theirs = |entry: &Self| account.is_none_or(|account| entry.account() == account);
        found.filter(is_theirs).ok_or_else(|| missing(id))
    }

    fn account(&self) -> &str {
        match self {
            Self::Mail(mail) => &mail.account,
            Self::Queued(message) | Self::Ended(message, _) => &message.common.account,
        }
    }

    /// The message that was sent.
    fn sent(&self) -> Option<QueueId> {
        match self {
            Self::Mail(mail) => sent_as(mail),
            Self::Queued(message) | Self::Ended(message, _) => Some(message.id),
        }
    }

    /// Its bytes. None: they are kept no more.
    async fn bytes(&self, context: &Context) -> Result<Option<Message>, AdminError> {
        let store = &context.store;
        let found = match self {
            Self::Mail(mail) => store.mail_message(mail).await,
            Self::Queued(message) | Self::Ended(message, _) => store.queued_message(message).await,
        };
        match found {
            Ok(message) => Ok(Some(message)),
            Err(postrider_store::StoreError::NoText(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Its bytes. A message that localserve delivered has them as a mail.
    async fn content(&self, context: &Context) -> Result<Option<Message>, AdminError> {
        if let Self::Ended(message, true) = self
            && let Some(mail) = delivered(context, message).await?
        {
            return Self::Mail(mail).bytes(context).await;
        }
        self.bytes(context).await
    }
}

/// How many mails are looked at for the one that a message became.
const DELIVERED_MAX: usize = 1000;

/// The mail that localserve made of a message. None: it was removed, or many came since.
async fn delivered(context: &Context, message: &Queued) -> Result<Option<Mail>, AdminError> {
    let account = Some(message.common.account.as_str());
    let page = context
        .store
        .list_mails_in_order(account, None, Order::Descending, DELIVERED_MAX);
    let mails = page.await?.items.into_iter();
    let mut mails = mails.take_while(|mail| mail.received >= message.common.queued);
    Ok(mails.find(|mail| sent_as(mail) == Some(message.id)))
}

/// Reads a message as a whole, if it is not too large, and works on it. None: there are no bytes.
async fn read<T: Send + 'static>(
    message: Option<Message>,
    work: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<Option<T>, AdminError> {
    let Some(message) = message else {
        return Ok(None);
    };
    let _turn = WHOLE.acquire().await.map_err(AdminError::internal)?;
    let end = match message.len() {
        whole @ ..=WHOLE_MAX => whole,
        _ => BEGINNING,
    };
    let done = tokio::task::spawn_blocking(move || {
        let bytes = message.read_blocking(0..end)?;
        Ok::<_, AdminError>(work(&bytes))
    });
    done.await.map_err(AdminError::internal)?.map(Some)
}

/// The limits of the parser.
fn limits(context: &Context) -> mime::Limits {
    context.statics.limits.mime()
}

/// Who wrote a message, as the header says it.
fn author(parsed: &Parsed) -> String {
    let author = parsed.from.first();
    author.map(ToString::to_string).unwrap_or_default()
}
