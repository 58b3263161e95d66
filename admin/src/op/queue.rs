//! Queued messages: list them, change them, end them, and see why they wait.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_queue::{EndAs as How, explain_retired};
use postrider_store::{Attempt, Change, Message, Order, QueueFilter, QueueId, Queued};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{Operation, Single, Sink, pages::Pages, transcripts::TranscriptItem};
use crate::{AdminError, Context};

/// Bytes of a message that are read and sent at once.
const PIECE: u64 = 256 * 1024;

/// A queued message. Times are RFC 3339, addresses are in their Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct QueueItem {
    pub id: u64,
    pub account: String,
    /// The reverse-path; empty for the null reverse-path.
    pub from: String,
    pub to: String,
    pub subject: String,
    /// Bytes.
    pub size: u64,
    pub created: String,
    pub next_attempt: String,
    pub last_attempt: Option<String>,
    pub attempts: u32,
    pub held: bool,
    /// The reason why it waits, in words.
    pub state: String,
    pub last_result: Option<AttemptItem>,
    /// The forced transport; empty if the routes decide.
    pub transport: String,
    pub message_id: String,
    pub from_id: String,
    pub extra: BTreeMap<String, String>,
}

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct AttemptItem {
    pub start: String,
    pub success: bool,
    /// The code of the SMTP reply; 0 without a reply.
    pub code: u16,
    /// Empty if the reply had none.
    pub enhanced_code: String,
    pub text: String,
    /// The remote host as `name [ip]`; empty if none was reached.
    pub remote: String,
}

impl AttemptItem {
    /// The reply in one line: code, enhanced code and text, as far as there are any.
    #[must_use]
    pub fn reply(&self) -> String {
        let code = match self.code {
            0 => String::new(),
            code => code.to_string(),
        };
        let parts = [code.as_str(), &self.enhanced_code, &self.text];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    }
}

impl QueueItem {
    pub(super) fn new(message: &Queued, state: String) -> Self {
        Self {
            id: message.id.0,
            account: message.common.account.clone(),
            from: reverse_path(message),
            to: message.recipient.unicode(),
            subject: message.common.subject.clone(),
            size: message.common.size,
            created: message.common.queued.to_string(),
            next_attempt: message.next_attempt.to_string(),
            last_attempt: message.last_attempt.map(|time| time.to_string()),
            attempts: message.attempts,
            held: message.hold,
            state,
            last_result: message.results.last().map(AttemptItem::from),
            transport: message.transport.clone(),
            message_id: message.common.message_id.clone(),
            from_id: message.from_id.clone(),
            extra: message.common.extra.clone(),
        }
    }
}

/// The reverse-path in its Unicode form; empty for the null reverse-path.
pub(super) fn reverse_path(message: &Queued) -> String {
    let address = message.reverse_path.address();
    address.map(|address| address.unicode()).unwrap_or_default()
}

impl From<&Attempt> for AttemptItem {
    fn from(attempt: &Attempt) -> Self {
        let enhanced = attempt.enhanced.map(|code| code.to_string());
        Self {
            start: attempt.start.to_string(),
            success: attempt.success,
            code: attempt.code,
            enhanced_code: enhanced.unwrap_or_default(),
            text: attempt.error.clone(),
            remote: attempt.remote.clone(),
        }
    }
}

/// Lists queued messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The messages to list.
    pub filter: QueueFilter,
    /// By id, ascending or descending.
    pub order: Order,
    /// The largest number of messages; None: all.
    pub limit: Option<usize>,
}

impl Operation for List {
    type Item = QueueItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<QueueItem>,
    ) -> Result<(), AdminError> {
        let mut pages = Pages::new(self.limit);
        while let Some((after, count)) = pages.next() {
            let (filter, order) = (&self.filter, self.order);
            let page = context.store.list(filter, after, order, count).await?;
            let mut listed = Vec::with_capacity(page.items.len());
            for message in pages.pass(page) {
                let state = context.queue.explain(&message).await?;
                listed.push(QueueItem::new(&message, state));
            }
            items.send(listed).await?;
        }
        Ok(())
    }
}

/// Changes queued messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modify {
    /// The messages to change.
    pub filter: QueueFilter,
    /// The change.
    pub change: Change,
}

/// How many messages were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modified {
    /// How many messages were changed.
    pub changed: u64,
    /// How many of them are held. There is no attempt until they are released.
    #[serde(default)]
    pub held: u64,
}

impl Single for Modify {
    type Output = Modified;

    async fn answer(self, context: &Context) -> Result<Modified, AdminError> {
        let context = &context.carrying("queue.modify", "queue", &self);
        let changed = context
            .queue
            .change(
                &context.store,
                &self.filter,
                &self.change,
                &context.caller.name,
            )
            .await;
        let changed = changed.map_err(AdminError::from);
        let count = context
            .record("queue.modify", "queue", &self, changed)
            .await?;
        Ok(Modified {
            changed: count.changed,
            held: count.held,
        })
    }
}

/// Ends queued messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The messages to end.
    pub filter: QueueFilter,
    /// How they end.
    pub ending: Ending,
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// As if its delivery had failed: event `failed`, and a DSN.
    Failed,
    /// Quietly: event `canceled`, and no DSN.
    Canceled,
}

/// How many messages were ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How many messages were ended.
    pub ended: u64,
    /// How many messages were in delivery, and were left alone.
    pub in_delivery: u64,
}

impl Single for End {
    type Output = Ended;

    async fn answer(self, context: &Context) -> Result<Ended, AdminError> {
        let how = match self.ending {
            Ending::Failed => How::Fail,
            Ending::Canceled => How::Drop,
        };
        let context = &context.carrying("queue.end", "queue", &self);
        let ended = context
            .queue
            .end_all(&context.store, &self.filter, how, &context.caller.name)
            .await;
        let ended = ended.map_err(AdminError::from);
        let count = context.record("queue.end", "queue", &self, ended).await?;
        Ok(Ended {
            ended: count.ended,
            in_delivery: count.in_delivery,
        })
    }
}

/// Reads a queued message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// The message.
    pub id: QueueId,
}

/// A piece of a message, in base64 on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece(pub Vec<u8>);

impl Serialize for Piece {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// Hands on the bytes of a message up to `end`, piece by piece. The last piece of a damaged message
/// is an error, so nobody takes it for whole.
pub(super) async fn send_pieces(
    message: Message,
    end: u64,
    items: &mut impl Sink<Piece>,
) -> Result<(), AdminError> {
    let pieces = message.into_pieces();
    let mut at = 0;
    while at < end {
        let piece = pieces.piece(at, PIECE.min(end - at)).await?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        items.send(vec![Piece(piece.to_vec())]).await?;
    }
    Ok(())
}

impl Operation for Dump {
    type Item = Piece;

    async fn run(self, context: &Context, items: &mut impl Sink<Piece>) -> Result<(), AdminError> {
        let queued = find(context, self.id).await?;
        let message = context.store.queued_message(&queued).await?;
        let end = message.len();
        send_pieces(message, end, items).await
    }
}

/// Says why a message is still in the queue, or how it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The message.
    pub id: QueueId,
}

/// The state of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The state in words, as a predicate: "waits for ...", "was delivered at ...".
    pub state: String,
    /// What was said in the last attempts, oldest first, as far as it is kept.
    pub transcripts: Vec<TranscriptItem>,
}

impl Single for Explain {
    type Output = Explained;

    async fn answer(self, context: &Context) -> Result<Explained, AdminError> {
        let state = match context.store.retired(self.id).await? {
            Some(retired) => explain_retired(&retired),
            None => {
                let message = find(context, self.id).await?;
                let state = context.queue.explain(&message).await?;
                match context.store.stops().await?.deliveries {
                    Some(since) => format!("{state}; all deliveries are stopped since {since}"),
                    None => state,
                }
            }
        };
        let transcripts = context.store.transcripts(self.id).await?.into_iter();
        let transcripts = transcripts.map(TranscriptItem::from).collect();
        Ok(Explained { state, transcripts })
    }
}

async fn find(context: &Context, id: QueueId) -> Result<Queued, AdminError> {
    let message = context.store.queued(id).await?;
    message.ok_or_else(|| {
        AdminError::not_found(format!("there is no message {id} in the queue")).at("id")
    })
}
