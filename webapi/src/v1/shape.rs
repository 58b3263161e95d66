//! The requests and answers of v1. Names are exact, unknown ones are refused, and what is left out has its empty value.

#![expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]

use std::collections::BTreeMap;

use jiff::Zoned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    mailbox::Meta,
    send::{self, NewContent, NewFile},
    time::rfc3339,
    unsubscribe::check_list,
};

/// What is wrong.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Problem {
    /// For programs.
    #[schema(example = "badAddress")]
    pub code: String,
    /// For people.
    pub message: String,
}

/// A person's name and address.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct NameAddress {
    /// May be empty.
    pub name: String,
    #[schema(example = "jane@example.com")]
    pub address: String,
}

/// A file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct FileData {
    pub name: String,
    /// Found out by the content when empty.
    pub content_type: String,
    /// With `<` and `>`.
    #[serde(rename = "ContentID")]
    pub content_id: String,
    /// Base64 with padding.
    pub data: String,
}

/// A message to be sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct SendRequest {
    /// At most one; none: the account's name and the address of the login.
    pub from: Vec<NameAddress>,
    pub to: Vec<NameAddress>,
    #[serde(rename = "CC")]
    pub cc: Vec<NameAddress>,
    /// Not in the header.
    #[serde(rename = "BCC")]
    pub bcc: Vec<NameAddress>,
    pub reply_to: Vec<NameAddress>,
    /// With `<` and `>`; made when empty.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// With `<` and `>`, oldest first.
    pub references: Vec<String>,
    /// RFC 3339; null: now.
    pub date: Option<String>,
    pub subject: String,
    /// At least one of Text and HTML.
    pub text: String,
    #[serde(rename = "HTML")]
    pub html: String,
    /// The application's own data: comes back in each event.
    pub extra: BTreeMap<String, String>,
    /// Further header fields.
    pub headers: Vec<(String, String)>,
    pub alternative_files: Vec<FileData>,
    pub inline_files: Vec<FileData>,
    pub attached_files: Vec<FileData>,
    /// True: only over verified TLS; false: without it if need be; null: as the remote's policy says.
    #[serde(rename = "RequireTLS")]
    pub require_tls: Option<bool>,
    /// RFC 3339: no attempt before this time, at most 60 days ahead.
    pub future_release: Option<String>,
    /// Keep a copy in the mailbox Sent.
    pub save_sent: bool,
    /// The recipient, who must be the only one, can unsubscribe by one click.
    pub unsubscribe: Option<Unsubscribe>,
    /// For 24 hours, the same request with the same key gets the same answer, and nothing is sent twice. Also as header
    /// Idempotency-Key.
    #[schema(max_length = 255)]
    pub idempotency_key: String,
}

impl SendRequest {
    /// `apart` has the contents of files, if they were taken out: then there are their places instead.
    pub(super) fn into_request(self, apart: &[NewContent]) -> Result<send::Request, ApiError> {
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
                content: content(it.data, apart),
            })
            .collect()
        };
        Ok(send::Request {
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
            headers: self.headers,
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

/// Adds List-Unsubscribe with one click (RFC 8058). Who follows it gets no more mail of that list; other mail goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Unsubscribe {
    /// The application's name for the mailing list.
    #[schema(example = "newsletter", max_length = 100)]
    pub list: String,
}

/// Messages to many, of one text.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct SendBatchRequest {
    /// At most one; none: the account's name and the address of the login.
    pub from: Vec<NameAddress>,
    pub reply_to: Vec<NameAddress>,
    /// 1 to 10000, each with a message of its own.
    pub recipients: Vec<BatchRecipient>,
    /// A template.
    #[schema(example = "Your order {{ order }}")]
    pub subject: String,
    /// A template. At least one of Text and HTML.
    #[schema(example = "Dear {{ name }},\n\nthank you.")]
    pub text: String,
    /// A template, in which what is filled in is escaped.
    #[serde(rename = "HTML")]
    pub html: String,
    /// The application's own data: comes back in each event.
    pub extra: BTreeMap<String, String>,
    /// Further header fields.
    pub headers: Vec<(String, String)>,
    pub alternative_files: Vec<FileData>,
    pub inline_files: Vec<FileData>,
    pub attached_files: Vec<FileData>,
    /// True: only over verified TLS; false: without it if need be; null: as the remote's policy says.
    #[serde(rename = "RequireTLS")]
    pub require_tls: Option<bool>,
    /// RFC 3339: no attempt before this time, at most 60 days ahead.
    pub future_release: Option<String>,
    /// Recipients can unsubscribe by one click.
    pub unsubscribe: Option<Unsubscribe>,
    /// For 24 hours, the same request with the same key gets the same answer, and nothing is sent twice.
    #[schema(max_length = 255)]
    pub idempotency_key: String,
}

/// One of the recipients.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct BatchRecipient {
    pub to: NameAddress,
    /// For the templates: any JSON by name.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// Besides that of the batch, and before it.
    pub extra: BTreeMap<String, String>,
}

impl SendBatchRequest {
    pub(super) fn into_batch(self, apart: &[NewContent]) -> Result<send::Batch, ApiError> {
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
            common: common.into_request(apart)?,
        })
    }
}

fn content(text: String, apart: &[NewContent]) -> NewContent {
    let place = if apart.is_empty() {
        None
    } else {
        text.parse().ok()
    };
    let content = place.and_then(|place: usize| apart.get(place).cloned());
    content.unwrap_or(NewContent::Base64(text))
}

/// A time with the offset that it was given with.
pub(super) fn time(name: &str, text: Option<&str>) -> Result<Option<Zoned>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = |error| ApiError::protocol(format!("{name}: {error}"));
    rfc3339(text).map(Some).map_err(wrong)
}

/// Which messages in the account's mailboxes are listed, in the order in which they came.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct MessageListRequest {
    /// Empty: all mailboxes.
    #[schema(example = "Inbox")]
    pub mailbox_name: String,
    /// At most so many; 0: 100.
    #[schema(maximum = 1000)]
    pub limit: usize,
    /// Next of the page before; 0: from the beginning.
    pub after: u64,
}

/// A page of messages in mailboxes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct MessageListResponse {
    pub messages: Vec<MessageItem>,
    /// Where the next page begins; null at the end.
    pub next: Option<u64>,
}

/// A message in a mailbox.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct MessageItem {
    /// By which the methods of v0 know it.
    #[serde(rename = "MsgID")]
    pub msg_id: u64,
    /// RFC 3339.
    pub received: String,
    pub meta: Meta,
}

/// Which queued messages of the account are listed, oldest first. All that is given must match.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct QueueListRequest {
    /// In the recipient's address; `@example.com` for a domain.
    pub to: String,
    /// Likewise the sender's.
    pub from: String,
    /// Only held ones, or only others.
    pub hold: Option<bool>,
    /// At most so many; 0: 100.
    #[schema(maximum = 1000)]
    pub limit: usize,
    /// Next of the page before; 0: from the beginning.
    pub after: u64,
}

/// A page of queued messages.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct QueueListResponse {
    pub messages: Vec<MessageStatus>,
    /// Where the next page begins; null at the end.
    pub next: Option<u64>,
}

/// Which messages are asked for: one of the three.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct QueueStatusRequest {
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// One entry of what was given as Extra: of the first five, by their keys, that have at most 200 bytes.
    pub extra: BTreeMap<String, String>,
}

/// The messages that were found, queued and in the history, at most 1000, and fewer when they have long data.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct QueueStatusResponse {
    pub messages: Vec<MessageStatus>,
    /// There may be others.
    pub more: bool,
}

/// What is known of a message to one recipient.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
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
    /// Queued, delivered or undelivered.
    pub state: State,
    /// In words: what it waits for, or how it ended.
    pub explanation: String,
    /// RFC 3339; null when it is not queued any more.
    pub next_attempt: Option<String>,
    pub hold: bool,
    pub extra: BTreeMap<String, String>,
    /// What came of each attempt, and what was heard later, oldest first.
    pub results: Vec<AttemptResult>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// To be sent.
    Queued,
    /// The next hop has it.
    Delivered,
    /// It ended otherwise.
    Undelivered,
}

/// What came of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct AttemptResult {
    /// RFC 3339.
    pub start: String,
    #[serde(rename = "DurationMS")]
    pub duration_ms: u64,
    pub success: bool,
    /// 0 without an SMTP reply.
    pub code: u16,
    /// Empty without one.
    pub enhanced_code: String,
    /// `name [ip]`.
    pub remote: String,
    pub error: String,
}

/// Which messages are canceled.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct QueueCancelRequest {
    /// At most 10000. Those that are not queued, or another account's, are left alone.
    #[serde(rename = "QueueMsgIDs")]
    pub queue_msg_ids: Vec<u64>,
}

/// What was canceled.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct QueueCancelResponse {
    /// Ended, each with the event `canceled`.
    pub canceled: u64,
    /// Being delivered at this moment, and left alone.
    pub in_delivery: u64,
}

/// Which events are listed. All that is given must match.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct EventsRequest {
    /// Of these kinds, such as `delivered`; empty: any.
    pub events: Vec<String>,
    /// About messages to this address.
    pub recipient: String,
    /// About messages with this Message-ID, with `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// RFC 3339: made at this time or later.
    pub since: Option<String>,
    /// RFC 3339: made before this time.
    pub before: Option<String>,
    /// Newest first.
    pub descending: bool,
    /// At most so many; 0: 100.
    #[schema(maximum = 1000)]
    pub limit: usize,
    /// Next of the page before; 0: from the beginning.
    pub after: u64,
}

/// A page of events.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct EventsResponse {
    pub events: Vec<EventItem>,
    /// Where the next page begins; null at the end.
    pub next: Option<u64>,
}

/// An event, as webhooks tell it, with its number and the recipient.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct EventItem {
    /// Goes up with each event of the account, so that one can go on from it.
    #[serde(rename = "ID")]
    pub id: u64,
    /// RFC 3339.
    pub time: String,
    #[schema(example = "delivered")]
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
    /// Of an error; 0 without one.
    #[serde(rename = "SMTPCode")]
    pub smtp_code: u16,
    #[serde(rename = "SMTPEnhancedCode")]
    pub smtp_enhanced_code: String,
    pub error: String,
    pub extra: BTreeMap<String, String>,
}

/// For which days, in UTC, events are counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct StatsRequest {
    /// `YYYY-MM-DD`; empty: 30 days ago.
    pub from: String,
    /// `YYYY-MM-DD`; empty: today. At most 400 days.
    pub to: String,
    /// Only of recipients in this domain.
    pub domain: String,
}

/// How many events there were.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct StatsResponse {
    /// By day, event and domain; what is 0 is left out.
    pub counts: Vec<Count>,
}

/// Events of one kind, on one day, of one recipient domain.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Count {
    /// `YYYY-MM-DD`, UTC.
    pub day: String,
    #[schema(example = "delivered")]
    pub event: String,
    pub domain: String,
    pub count: u64,
}
