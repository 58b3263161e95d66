//! Records as the management API and `--json` show them: the contract outside, so that the records inside can change.

use std::collections::BTreeMap;

use postrider_queue::describe;
use postrider_store::{
    ApiKey, Attempt, HoldRule, Hook, HookAttempt, HookKind, Queued, Retired, RetiredHook, Scope,
    Suppression,
};
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
    /// What it waits for, in words.
    pub state: String,
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

/// A message of the history, with all that was heard of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct RetiredItem {
    pub id: u64,
    pub account: String,
    /// The reverse-path; empty for the null reverse-path.
    pub from: String,
    pub to: String,
    pub subject: String,
    /// Bytes.
    pub size: u64,
    pub created: String,
    /// The next hop accepted it.
    pub success: bool,
    pub last_activity: String,
    /// When the record goes.
    pub keep_until: String,
    pub attempts: u32,
    pub results: Vec<AttemptItem>,
    pub transport: String,
    pub message_id: String,
    pub from_id: String,
    pub extra: BTreeMap<String, String>,
}

/// An address that is not mailed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct SuppressionItem {
    pub id: u64,
    pub created: String,
    pub account: String,
    pub base_address: String,
    /// The mailing list that it is about; empty: all mail.
    pub list: String,
    pub original_address: String,
    pub manual: bool,
    pub reason: String,
}

/// A hold rule; empty fields match everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct HoldRuleItem {
    pub id: u64,
    pub created: String,
    pub account: String,
    pub sender_domain: String,
    pub recipient_domain: String,
    pub sender: String,
    pub recipient: String,
    /// In words.
    pub holds: String,
}

/// A key for the API, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct ApiKeyItem {
    pub id: u64,
    pub name: String,
    pub account: String,
    pub scopes: Vec<Scope>,
    pub created: String,
    pub expires: Option<String>,
}

impl From<&ApiKey> for ApiKeyItem {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name.clone(),
            account: key.account.clone(),
            scopes: key.scopes.clone(),
            created: key.created.to_string(),
            expires: key.expires.map(|time| time.to_string()),
        }
    }
}

/// A call of a webhook that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct HookItem {
    pub id: u64,
    pub account: String,
    /// The event's name, or `incoming`.
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

/// A call of a webhook that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct RetiredHookItem {
    #[serde(flatten)]
    pub call: HookItem,
    pub success: bool,
    pub last_activity: String,
    /// When the record goes.
    pub keep_until: String,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct HookAttemptItem {
    pub start: String,
    pub duration_ms: u64,
    pub success: bool,
    /// The HTTP status; 0 without one.
    pub code: u16,
    pub error: String,
    /// The first 512 bytes of the answer.
    pub response: String,
}

impl From<&HookAttempt> for HookAttemptItem {
    fn from(attempt: &HookAttempt) -> Self {
        Self {
            start: attempt.start.to_string(),
            duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            success: attempt.success,
            code: attempt.code,
            error: attempt.error.clone(),
            response: attempt.response.clone(),
        }
    }
}

impl From<&Hook> for HookItem {
    fn from(hook: &Hook) -> Self {
        let (event, queue_msg_id, message_id, subject) = match &hook.kind {
            HookKind::Outgoing(outgoing) => (
                outgoing.event.name(),
                outgoing.queue_id.0,
                outgoing.message_id.clone(),
                outgoing.subject.clone(),
            ),
            HookKind::Incoming(_) => ("incoming", 0, String::new(), String::new()),
        };
        Self {
            id: hook.id.0,
            account: hook.account.clone(),
            event: event.to_owned(),
            queue_msg_id,
            message_id,
            subject,
            url: hook.url.clone(),
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

impl From<&Retired> for RetiredItem {
    fn from(retired: &Retired) -> Self {
        let message = &retired.message;
        Self {
            id: message.id.0,
            account: message.common.account.clone(),
            from: reverse_path(message),
            to: message.recipient.unicode(),
            subject: message.common.subject.clone(),
            size: message.common.size,
            created: message.common.queued.to_string(),
            success: retired.success,
            last_activity: retired.last_activity.to_string(),
            keep_until: retired.keep_until.to_string(),
            attempts: message.attempts,
            results: message.results.iter().map(AttemptItem::from).collect(),
            transport: message.transport.clone(),
            message_id: message.common.message_id.clone(),
            from_id: message.from_id.clone(),
            extra: message.common.extra.clone(),
        }
    }
}

impl From<&Suppression> for SuppressionItem {
    fn from(entry: &Suppression) -> Self {
        Self {
            id: entry.id.0,
            created: entry.created.to_string(),
            account: entry.account.clone(),
            base_address: entry.base.clone(),
            list: entry.list.clone(),
            original_address: entry.original.clone(),
            manual: entry.manual,
            reason: entry.reason.clone(),
        }
    }
}

impl From<&HoldRule> for HoldRuleItem {
    fn from(rule: &HoldRule) -> Self {
        let filter = &rule.filter;
        let domain = |domain: &Option<postrider_smtp::Domain>| {
            domain.as_ref().map(postrider_smtp::Domain::unicode)
        };
        let address = |address: &Option<postrider_smtp::Address>| {
            address.as_ref().map(postrider_smtp::Address::unicode)
        };
        Self {
            id: rule.id.0,
            created: rule.created.to_string(),
            account: filter.account.clone().unwrap_or_default(),
            sender_domain: domain(&filter.sender_domain).unwrap_or_default(),
            recipient_domain: domain(&filter.recipient_domain).unwrap_or_default(),
            sender: address(&filter.sender).unwrap_or_default(),
            recipient: address(&filter.recipient).unwrap_or_default(),
            holds: describe(filter),
        }
    }
}

fn reverse_path(message: &Queued) -> String {
    let address = message.reverse_path.address();
    address.map(|address| address.unicode()).unwrap_or_default()
}

impl QueueItem {
    /// A message and what it waits for.
    #[must_use]
    pub fn new(message: &Queued, state: String) -> Self {
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
