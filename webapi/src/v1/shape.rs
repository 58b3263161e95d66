//! The requests and answers of v1.
//!
//! Names of fields are exact. Unknown fields are refused. Fields that are left out have an empty
//! value.

#![expect(
    missing_docs,
    reason = "the names are those of the contract, and say enough"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    call::value::{OffsetTime, rfc3339},
    error::ApiError,
    received::Meta,
    send::{self, NewContent, NewFile},
    unsubscribe::check_list,
};

/// An error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Problem {
    /// The kind of the error, for programs.
    #[cfg_attr(test, schema(example = "badAddress"))]
    pub code: String,
    /// The error in words, for people.
    pub message: String,
}

/// The name and address of a person.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct NameAddress {
    /// May be empty.
    pub name: String,
    #[cfg_attr(test, schema(example = "jane@example.com"))]
    pub address: String,
}

/// A file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct FileData {
    pub name: String,
    /// Empty: detected from the content.
    pub content_type: String,
    /// With or without `<` and `>`.
    #[serde(rename = "ContentID")]
    pub content_id: String,
    /// Base64 with padding.
    pub data: String,
}

/// A message to send.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct SendRequest {
    /// At most one. Default: the name of the account and the address of the login.
    pub from: Vec<NameAddress>,
    pub to: Vec<NameAddress>,
    #[serde(rename = "CC")]
    pub cc: Vec<NameAddress>,
    /// Not in the header.
    #[serde(rename = "BCC")]
    pub bcc: Vec<NameAddress>,
    pub reply_to: Vec<NameAddress>,
    /// With `<` and `>`. Empty: the server makes one.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// With `<` and `>`, oldest first.
    pub references: Vec<String>,
    /// RFC 3339. null: now.
    pub date: Option<String>,
    pub subject: String,
    /// At least one of Text and HTML.
    pub text: String,
    #[serde(rename = "HTML")]
    pub html: String,
    /// The application's own data. Each event of the message has it.
    pub extra: BTreeMap<String, String>,
    /// Further header fields, each as a list of its name and its value. Fields that other members
    /// set are refused.
    pub headers: Vec<Vec<String>>,
    pub alternative_files: Vec<FileData>,
    pub inline_files: Vec<FileData>,
    pub attached_files: Vec<FileData>,
    /// true: only over verified TLS. false: also without TLS. null: as the policy of the receiving
    /// domain says.
    #[serde(rename = "RequireTLS")]
    pub require_tls: Option<bool>,
    /// RFC 3339. The first attempt is not before this time, which is at most 60 days ahead.
    pub future_release: Option<String>,
    /// Keep a copy in the mailbox Sent.
    pub save_sent: bool,
    /// Lets the recipient unsubscribe by one click. The message must have one recipient only.
    pub unsubscribe: Option<Unsubscribe>,
    /// For 24 hours, the same request with the same key gets the same answer, and nothing is sent
    /// twice. The header Idempotency-Key does the same.
    #[cfg_attr(test, schema(max_length = 255))]
    pub idempotency_key: String,
}

impl SendRequest {
    /// The draft of the message. If `files` is not empty, it has the contents of files, and the
    /// request has their places in it.
    pub(super) fn into_draft(self, contents: &[NewContent]) -> Result<send::Draft, ApiError> {
        let people = |list: Vec<NameAddress>| {
            let list = list.into_iter();
            list.map(|it| send::NameAddress {
                name: it.name,
                address: it.address,
            })
            .collect()
        };
        let files = |list: Vec<FileData>| {
            let list = list.into_iter();
            list.map(|it| NewFile {
                name: it.name,
                content_type: it.content_type,
                content_id: it.content_id,
                content: content(it.data, contents),
            })
            .collect()
        };
        Ok(send::Draft {
            from: people(self.from),
            to: people(self.to),
            cc: people(self.cc),
            bcc: people(self.bcc),
            reply_to: people(self.reply_to),
            message_id: self.message_id,
            references: self.references,
            date: time("Date", self.date.as_deref())?,
            subject: self.subject,
            text: self.text,
            html: self.html,
            extra: self.extra,
            headers: pairs(self.headers)?,
            alternative: files(self.alternative_files),
            inline: files(self.inline_files),
            attached: files(self.attached_files),
            require_tls: self.require_tls,
            future_release: time("FutureRelease", self.future_release.as_deref())?,
            save_sent: self.save_sent,
            list: match self.unsubscribe {
                Some(unsubscribe) => {
                    check_list(&unsubscribe.list)?;
                    unsubscribe.list
                }
                None => String::new(),
            },
        })
    }
}

/// Adds List-Unsubscribe with one click (RFC 8058). A recipient who follows the link gets no more
/// mail of the list, but other mail.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Unsubscribe {
    /// The application's name for the mailing list.
    #[cfg_attr(test, schema(example = "newsletter", max_length = 100))]
    pub list: String,
}

/// Messages to many recipients, from one text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct SendBatchRequest {
    /// At most one. Default: the name of the account and the address of the login.
    pub from: Vec<NameAddress>,
    pub reply_to: Vec<NameAddress>,
    /// 1 to 10000. Each recipient gets a message of its own.
    pub recipients: Vec<BatchRecipient>,
    /// A template.
    #[cfg_attr(test, schema(example = "Your order {{ order }}"))]
    pub subject: String,
    /// A template. At least one of Text and HTML.
    #[cfg_attr(test, schema(example = "Dear {{ name }},\n\nthank you."))]
    pub text: String,
    /// A template. Values are escaped in it.
    #[serde(rename = "HTML")]
    pub html: String,
    /// The application's own data. Each event of the message has it.
    pub extra: BTreeMap<String, String>,
    /// Further header fields, each as a list of its name and its value. Fields that other members
    /// set are refused.
    pub headers: Vec<Vec<String>>,
    pub alternative_files: Vec<FileData>,
    pub inline_files: Vec<FileData>,
    pub attached_files: Vec<FileData>,
    /// true: only over verified TLS. false: also without TLS. null: as the policy of the receiving
    /// domain says.
    #[serde(rename = "RequireTLS")]
    pub require_tls: Option<bool>,
    /// RFC 3339. The first attempt is not before this time, which is at most 60 days ahead.
    pub future_release: Option<String>,
    /// Lets recipients unsubscribe by one click.
    pub unsubscribe: Option<Unsubscribe>,
    /// For 24 hours, the same request with the same key gets the same answer, and nothing is sent
    /// twice.
    #[cfg_attr(test, schema(max_length = 255))]
    pub idempotency_key: String,
}

/// A recipient of a batch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct BatchRecipient {
    pub to: NameAddress,
    /// The values for the templates: any JSON, by name.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// Added to the Extra of the batch. Wins over an entry there with the same key.
    pub extra: BTreeMap<String, String>,
}

impl SendBatchRequest {
    /// The batch. `contents` is as for [`SendRequest::into_draft`].
    pub(super) fn into_batch(self, contents: &[NewContent]) -> Result<send::Batch, ApiError> {
        let recipients = self.recipients.into_iter();
        let recipients = recipients.map(|it| send::BatchRecipient {
            to: send::NameAddress {
                name: it.to.name,
                address: it.to.address,
            },
            variables: it.variables,
            extra: it.extra,
        });
        let common = SendRequest {
            from: self.from,
            reply_to: self.reply_to,
            subject: self.subject,
            text: self.text,
            html: self.html,
            extra: self.extra,
            headers: self.headers,
            alternative_files: self.alternative_files,
            inline_files: self.inline_files,
            attached_files: self.attached_files,
            require_tls: self.require_tls,
            future_release: self.future_release,
            unsubscribe: self.unsubscribe,
            ..SendRequest::default()
        };
        Ok(send::Batch {
            recipients: recipients.collect(),
            common: common.into_draft(contents)?,
        })
    }
}

fn pairs(headers: Vec<Vec<String>>) -> Result<Vec<(String, String)>, ApiError> {
    let pair = |(at, header): (usize, Vec<String>)| {
        <[String; 2]>::try_from(header)
            .map(Into::into)
            .map_err(|header| {
                let count = header.len();
                ApiError::user(format!("Headers[{at}] must have two strings, not {count}"))
            })
    };
    headers.into_iter().enumerate().map(pair).collect()
}

fn content(text: String, contents: &[NewContent]) -> NewContent {
    let place = if contents.is_empty() {
        None
    } else {
        text.parse().ok()
    };
    let content = place.and_then(|place: usize| contents.get(place).cloned());
    content.unwrap_or(NewContent::Base64(text))
}

/// Reads a time with its offset.
pub(super) fn time(name: &str, text: Option<&str>) -> Result<Option<OffsetTime>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = |error| ApiError::protocol(format!("{name}: {error}"));
    rfc3339(text).map(Some).map_err(wrong)
}

/// Selects messages in the account's mailboxes, in the order of their arrival.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct MessageListRequest {
    /// Empty: all mailboxes.
    #[cfg_attr(test, schema(example = "Inbox"))]
    pub mailbox_name: String,
    /// The most items of a page. 0: 100.
    #[cfg_attr(test, schema(maximum = 1000))]
    pub limit: usize,
    /// Next of the page before. 0: the first page.
    pub after: u64,
}

/// A page of messages in mailboxes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct MessageListResponse {
    pub messages: Vec<MessageItem>,
    /// The value of After for the next page. null at the end.
    pub next: Option<u64>,
}

/// A message in a mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct MessageItem {
    /// The number of the message for the methods of v0.
    #[serde(rename = "MsgID")]
    pub msg_id: u64,
    /// RFC 3339.
    pub received: String,
    pub meta: Meta,
}

/// Selects queued messages of the account, oldest first. A message must match all given fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct QueueListRequest {
    /// A part of the recipient's address. `@example.com` selects a domain.
    pub to: String,
    /// A part of the sender's address.
    pub from: String,
    /// true: only messages on hold. false: only other messages.
    pub hold: Option<bool>,
    /// The most items of a page. 0: 100.
    #[cfg_attr(test, schema(maximum = 1000))]
    pub limit: usize,
    /// Next of the page before. 0: the first page.
    pub after: u64,
}

/// A page of queued messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct QueueListResponse {
    pub messages: Vec<MessageStatus>,
    /// The value of After for the next page. null at the end.
    pub next: Option<u64>,
}

/// Selects messages by one of four fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct QueueStatusRequest {
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    /// At most 1000.
    #[serde(rename = "QueueMsgIDs")]
    pub queue_msg_ids: Vec<u64>,
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// One entry of the Extra of the message. It must be among the first five entries, in the order
    /// of their keys, with at most 200 bytes.
    pub extra: BTreeMap<String, String>,
}

/// The messages that match, in the queue and in the history. At most 1000, and fewer if they have
/// long data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct QueueStatusResponse {
    pub messages: Vec<MessageStatus>,
    /// There may be more messages.
    pub more: bool,
}

/// The state of a message to one recipient.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct MessageStatus {
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    #[serde(rename = "MessageID")]
    pub message_id: String,
    #[serde(rename = "FromID")]
    pub from_id: String,
    /// The reverse-path.
    pub from: String,
    pub to: String,
    pub subject: String,
    /// RFC 3339.
    pub queued: String,
    /// The place of the message.
    pub state: State,
    /// In words: the reason to wait, or the end.
    pub explanation: String,
    /// RFC 3339. null if the message is not queued.
    pub next_attempt: Option<String>,
    pub hold: bool,
    pub extra: BTreeMap<String, String>,
    /// The results of attempts and later reports, oldest first.
    pub results: Vec<AttemptResult>,
}

/// The place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In the queue.
    Queued,
    /// The next hop took the message.
    Delivered,
    /// The message ended in another way.
    Undelivered,
}

/// The result of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct AttemptResult {
    /// RFC 3339.
    pub start: String,
    #[serde(rename = "DurationMS")]
    pub duration_ms: u64,
    pub success: bool,
    /// 0 without an SMTP reply.
    pub code: u16,
    /// Empty without an enhanced code.
    pub enhanced_code: String,
    /// `name [ip]`.
    pub remote: String,
    pub error: String,
}

/// Selects the messages to cancel by one of four fields, as QueueStatus does. Messages that are not
/// queued, or of another account, stay as they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct QueueCancelRequest {
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    /// At most 10000.
    #[serde(rename = "QueueMsgIDs")]
    pub queue_msg_ids: Vec<u64>,
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// One entry of the Extra of the message, as for QueueStatus. It selects at most 10000
    /// messages.
    pub extra: BTreeMap<String, String>,
}

/// The result of a cancellation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct QueueCancelResponse {
    /// The number of messages that ended, each with the event `canceled`.
    pub canceled: u64,
    /// The number of messages in delivery. They go on.
    pub in_delivery: u64,
}

/// Selects events. An event must match all given fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct EventsRequest {
    /// Empty: all events.
    #[cfg_attr(test, schema(value_type = Vec<EventName>))]
    pub events: Vec<String>,
    /// Events of messages to this address.
    pub recipient: String,
    /// Events of messages with this Message-ID, with `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// RFC 3339. Events at this time or later.
    pub since: Option<String>,
    /// RFC 3339. Events before this time.
    pub before: Option<String>,
    /// Newest first.
    pub descending: bool,
    /// The most items of a page. 0: 100.
    #[cfg_attr(test, schema(maximum = 1000))]
    pub limit: usize,
    /// Next of the page before. 0: the first page.
    pub after: u64,
}

/// A page of events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct EventsResponse {
    pub events: Vec<EventItem>,
    /// The value of After for the next page. null at the end.
    pub next: Option<u64>,
}

/// An event, with the fields of a webhook call, its number, and the recipient.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct EventItem {
    /// The number of the event. Later events of the account have higher numbers.
    #[serde(rename = "ID")]
    pub id: u64,
    /// RFC 3339.
    pub time: String,
    #[cfg_attr(test, schema(value_type = EventName))]
    pub event: String,
    #[serde(rename = "DSN")]
    pub dsn: bool,
    pub suppressing: bool,
    pub recipient: String,
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    #[serde(rename = "FromID")]
    pub from_id: String,
    #[serde(rename = "MessageID")]
    pub message_id: String,
    pub subject: String,
    /// The SMTP code of an error. 0 without an error.
    #[serde(rename = "SMTPCode")]
    pub smtp_code: u16,
    #[serde(rename = "SMTPEnhancedCode")]
    pub smtp_enhanced_code: String,
    pub error: String,
    pub extra: BTreeMap<String, String>,
}

/// Selects the days, in UTC, and the domain of counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct StatsRequest {
    /// `YYYY-MM-DD`. Empty: 30 days before To.
    pub from: String,
    /// `YYYY-MM-DD`. Empty: today. At most 400 days after From.
    pub to: String,
    /// Only recipients in this domain. Empty: all.
    pub domain: String,
}

/// Counts of events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct StatsResponse {
    /// By day, event and domain. Counts of 0 are left out.
    pub counts: Vec<Count>,
}

/// The count of one event on one day for one recipient domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Count {
    /// `YYYY-MM-DD` in UTC.
    pub day: String,
    #[cfg_attr(test, schema(value_type = EventName))]
    pub event: String,
    pub domain: String,
    pub count: u64,
}

/// The kind of an event. Later versions may have more.
#[cfg(test)]
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(super) enum EventName {
    Delivered,
    Suppressed,
    Delayed,
    Failed,
    Relayed,
    Expanded,
    Canceled,
    Unrecognized,
    Unsubscribed,
    Complained,
    Opened,
    Clicked,
}
