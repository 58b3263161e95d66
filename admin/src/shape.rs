//! Records as the management API and `--json` show them: the contract outside, so that the records inside can change.

use std::collections::BTreeMap;

use postrider_store::{Attempt, Queued};
use serde::{Deserialize, Serialize};

/// A queued message. Times are RFC 3339, addresses in their Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub last_result: Option<AttemptItem>,
    /// Forced transport; empty: by routes.
    pub transport: String,
    pub message_id: String,
    pub from_id: String,
    pub extra: BTreeMap<String, String>,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct AttemptItem {
    pub start: String,
    pub success: bool,
    /// 0 without an SMTP reply.
    pub code: u16,
    /// Empty without one.
    pub enhanced_code: String,
    pub text: String,
    /// `name [ip]`; empty if none was reached.
    pub remote: String,
}

impl From<&Queued> for QueueItem {
    fn from(message: &Queued) -> Self {
        Self {
            id: message.id.0,
            account: message.common.account.clone(),
            from: message
                .reverse_path
                .address()
                .map(|address| address.unicode())
                .unwrap_or_default(),
            to: message.recipient.unicode(),
            subject: message.common.subject.clone(),
            size: message.common.size,
            created: message.common.queued.to_string(),
            next_attempt: message.next_attempt.to_string(),
            last_attempt: message.last_attempt.map(|time| time.to_string()),
            attempts: message.attempts,
            held: message.hold,
            last_result: message.results.last().map(AttemptItem::from),
            transport: message.transport.clone(),
            message_id: message.common.message_id.clone(),
            from_id: message.from_id.clone(),
            extra: message.common.extra.clone(),
        }
    }
}

impl From<&Attempt> for AttemptItem {
    fn from(attempt: &Attempt) -> Self {
        Self {
            start: attempt.start.to_string(),
            success: attempt.success,
            code: attempt.code,
            enhanced_code: attempt
                .enhanced
                .map(|code| code.to_string())
                .unwrap_or_default(),
            text: attempt.error.clone(),
            remote: attempt.remote.clone(),
        }
    }
}
