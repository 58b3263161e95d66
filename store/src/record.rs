//! The records: what is on disk of a queued message, its history, a mailbox message, a webhook call and a credential.
//!
//! They are plain data. What may happen to them is in [`crate::verb`].

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use postrider_smtp::{Address, Domain, EnhancedCode, ReversePath};
use serde::{Deserialize, Serialize};

use crate::{
    ApiKeyId, Destination, EventId, HoldRuleId, HookId, MailId, QueueId, SuppressionId, TextId,
    Time, Top, verb::Reference,
};

/// What all recipients of one submission have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// The account that sent it and that hears of its fate.
    pub account: String,
    /// When it was accepted.
    pub queued: Time,
    /// The author address of the From header: picks the DKIM key and the domain's routes. None if it had none.
    pub from: Option<Address>,
    /// With `<` and `>`.
    pub message_id: String,
    /// Decoded; empty if absent.
    pub subject: String,
    /// Bytes of the whole message: top and text.
    pub size: u64,
    /// The text has bytes above 127, so needs 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// The header or the envelope needs SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// None: by policy; true: REQUIRETLS or fail; false: as with `TLS-Required: No` (RFC 8689).
    pub require_tls: Option<bool>,
    /// The submitter's RFC 4865 request (`for;N` or `until;TIME`); empty if none.
    pub future_release: String,
    /// RET of RFC 3461: full message (true) or headers only (false) in a failure DSN; None if not given.
    pub ret_full: Option<bool>,
    /// The submitter's ENVID of RFC 3461, decoded; empty if none.
    pub envid: String,
    /// The random ENVID that it is sent with when the submitter gave none, so that a DSN for it can be recognised; empty: none.
    pub own_envid: String,
    /// The application's mailing list that it belongs to; empty if none.
    pub list: String,
    /// The application's own data, returned in events.
    pub extra: BTreeMap<String, String>,
}

/// When the sender wants a DSN (RFC 3461 §4.1). The default stands for an absent NOTIFY: failure and delay, as far as the account
/// wants that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// On delivery.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
    /// The submitter said so, which counts more than what the account is set to.
    pub given: bool,
}

impl Notify {
    /// NOTIFY=NEVER.
    pub const NEVER: Self = Self {
        success: false,
        failure: false,
        delay: false,
        given: true,
    };
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            success: false,
            failure: true,
            delay: true,
            given: false,
        }
    }
}

/// One recipient's message in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Its number; kept in the history.
    pub id: QueueId,
    /// The first id of the same submission; its own when alone.
    pub base: QueueId,
    /// The fields before the text; shared with the other recipients.
    pub top: Top,
    /// The text; shared with the other recipients.
    pub text: TextId,
    /// Shared with the other recipients.
    pub common: Arc<Common>,
    /// What MAIL FROM says for this recipient (with its fromid, when used).
    pub reverse_path: ReversePath,
    /// The unique part of the reverse-path; empty when not used.
    pub from_id: String,
    /// What RCPT TO says.
    pub recipient: Address,
    /// When the sender wants a DSN.
    pub notify: Notify,
    /// ORCPT of RFC 3461 (`type;address`, decoded); empty if none.
    pub orcpt: String,
    /// Forced transport by name; empty: by routes.
    pub transport: String,
    /// No attempts while set.
    pub hold: bool,
    /// Attempts begun.
    pub attempts: u32,
    /// When the last attempt began.
    pub last_attempt: Option<Time>,
    /// When the next attempt is due; for a message being attempted, when that attempt was due.
    pub next_attempt: Time,
    /// A "delayed" DSN went to the sender already.
    pub delay_told: bool,
    /// Goes up with every claim, so that a result of an earlier claim is told apart.
    pub fence: u64,
    /// What came of each attempt, oldest first.
    pub results: Vec<Attempt>,
}

/// The result of one attempt at delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub start: Time,
    /// How long it took.
    pub duration: Duration,
    /// The next hop accepted it.
    pub success: bool,
    /// The SMTP reply code of the remote; 0 without one.
    pub code: u16,
    /// The enhanced status code, by the remote or by us.
    pub enhanced: Option<EnhancedCode>,
    /// The host talked to, as `name [ip]`; empty if none was reached.
    pub remote: String,
    /// The remote's text or ours; empty on success.
    pub error: String,
}

/// A message that left the queue: kept for the account's period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// As it was in the queue, with all results.
    pub message: Queued,
    /// The next hop accepted it (event `delivered`).
    pub success: bool,
    /// When it was retired, or a DSN for it came.
    pub last_activity: Time,
    /// When the record goes.
    pub keep_until: Time,
}

/// An address that an account does not mail to any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// Its number.
    pub id: SuppressionId,
    /// Whose list it is on.
    pub account: String,
    /// What stands for all variants of the address; unique in the list.
    pub base: String,
    /// The application's mailing list that it is about; empty: all mail of the account.
    pub list: String,
    /// The address itself, in its Unicode form.
    pub original: String,
    /// Since when.
    pub created: Time,
    /// Somebody put it there, rather than failures.
    pub manual: bool,
    /// Why, in words.
    pub reason: String,
}

/// Which new messages are held: those that all given fields match. Without any it is every message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldFilter {
    /// Of this account.
    pub account: Option<String>,
    /// With a reverse-path in this domain.
    pub sender_domain: Option<Domain>,
    /// With a recipient in this domain.
    pub recipient_domain: Option<Domain>,
    /// With this reverse-path.
    pub sender: Option<Address>,
    /// To this recipient.
    pub recipient: Option<Address>,
}

/// A hold rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRule {
    /// Its number.
    pub id: HoldRuleId,
    /// Which messages.
    pub filter: HoldFilter,
    /// Since when.
    pub created: Time,
}

/// What an outgoing webhook tells of (the v0 contract's events).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Event {
    /// The next hop accepted it, or a DSN says so.
    Delivered,
    /// The recipient is on the suppression list.
    Suppressed,
    /// An attempt failed and another is planned.
    Delayed,
    /// It failed for good.
    Failed,
    /// A DSN says that a host without DSN support took it.
    Relayed,
    /// A DSN says that it went to several recipients.
    Expanded,
    /// An administrator dropped it.
    Canceled,
    /// A mail to the fromid address that is not a usable DSN.
    Unrecognized,
    /// The recipient unsubscribed from a mailing list. In the log only: the contract of webhooks has none of it.
    Unsubscribed,
}

impl Event {
    /// All, in the order of the contract, and what it does not have behind it.
    pub const ALL: [Self; 9] = [
        Self::Delivered,
        Self::Suppressed,
        Self::Delayed,
        Self::Failed,
        Self::Relayed,
        Self::Expanded,
        Self::Canceled,
        Self::Unrecognized,
        Self::Unsubscribed,
    ];

    /// The name on the wire and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Suppressed => "suppressed",
            Self::Delayed => "delayed",
            Self::Failed => "failed",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Canceled => "canceled",
            Self::Unrecognized => "unrecognized",
            Self::Unsubscribed => "unsubscribed",
        }
    }

    /// The event of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// What happened to a sent message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingEvent {
    /// What happened.
    pub event: Event,
    /// It came from an incoming DSN.
    pub dsn: bool,
    /// This failure put the address on the suppression list.
    pub suppressing: bool,
    /// The message.
    pub queue_id: QueueId,
    /// Its fromid; empty when not used.
    pub from_id: String,
    /// Its Message-ID with `<` and `>`.
    pub message_id: String,
    /// Its subject.
    pub subject: String,
    /// When the event was made.
    pub queued: Time,
    /// The SMTP code of an error; 0 without one.
    pub code: u16,
    /// The enhanced code of an error.
    pub enhanced: Option<EnhancedCode>,
    /// The text of an error; empty without one.
    pub error: String,
    /// As submitted.
    pub extra: BTreeMap<String, String>,
}

/// An event in the log of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Its number.
    pub id: EventId,
    /// Whose.
    pub account: String,
    /// To whom the message was, in Unicode form.
    pub recipient: String,
    /// What happened.
    pub told: OutgoingEvent,
    /// When the record goes.
    pub keep_until: Time,
}

/// What a webhook call is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookKind {
    /// What became of a sent message.
    Outgoing(OutgoingEvent),
    /// A message came into a mailbox. The hook holds the text, so it can be told even when the message is deleted meanwhile.
    Incoming(Arc<Mail>),
}

/// A call of a webhook that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The same over all attempts.
    pub id: HookId,
    /// Whose webhook.
    pub account: String,
    /// As configured when the event was made.
    pub url: String,
    /// As configured when the event was made; empty: none.
    pub authorization: String,
    /// What it tells.
    pub kind: HookKind,
    /// When the event was made.
    pub submitted: Time,
    /// Calls begun.
    pub attempts: u32,
    /// When the next call is due.
    pub next_attempt: Time,
    /// Goes up with every claim.
    pub fence: u64,
    /// What came of each call, oldest first.
    pub results: Vec<HookAttempt>,
}

impl Hook {
    /// The [lane](crate::hook_lane) that it is in.
    pub(crate) fn lane(&self) -> String {
        crate::hook_lane(&self.account, &self.url)
    }
}

/// The result of one call of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookAttempt {
    /// When it began.
    pub start: Time,
    /// How long it took.
    pub duration: Duration,
    /// The receiver answered 2xx.
    pub success: bool,
    /// The HTTP status; 0 without one.
    pub code: u16,
    /// What went wrong; empty on success.
    pub error: String,
    /// The first 512 bytes of the answer.
    pub response: String,
}

/// A webhook call that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredHook {
    /// As it was, with all results.
    pub hook: Hook,
    /// The receiver took it.
    pub success: bool,
    /// When it ended.
    pub last_activity: Time,
    /// When the record goes.
    pub keep_until: Time,
}

/// A message in a mailbox of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Its number.
    pub id: MailId,
    /// Whose mailbox.
    pub account: String,
    /// The mailbox's name, for example `Inbox`.
    pub mailbox: String,
    /// The fields before the text.
    pub top: Top,
    /// The text.
    pub text: TextId,
    /// Bytes of the whole message: top and text.
    pub size: u64,
    /// When it came.
    pub received: Time,
    /// Lower-case system flags (`\seen`, `$junk`) and keywords, sorted.
    pub flags: Vec<String>,
    /// It is a DSN.
    pub dsn: bool,
    /// How it came; None for one that was not delivered by SMTP.
    pub smtp: Option<Arrival>,
}

/// How a message came in by SMTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// MAIL FROM.
    pub mail_from: ReversePath,
    /// RCPT TO.
    pub rcpt_to: Address,
    /// The author address of the From header.
    pub msg_from: Option<Address>,
    /// MAIL FROM was validated (SPF).
    pub mail_from_validated: bool,
    /// The From domain was validated (as by DMARC).
    pub msg_from_validated: bool,
    /// Domains with a valid DKIM signature.
    pub dkim_domains: Vec<String>,
    /// Who sent it to us.
    pub remote_ip: Option<IpAddr>,
}

/// A key by which a program may call the API in an account's name. Never the key itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its number, which is part of the key.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// In whose name it may be used.
    pub account: String,
    /// SHA-256 of the secret part, which is random enough to need no more.
    pub hash: [u8; 32],
    /// What may be done with it.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Time,
    /// From when on it is of no use; None: never.
    pub expires: Option<Time>,
}

/// Hides the hash, so that a log line can't have it.
impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("account", &self.account)
            .field("scopes", &self.scopes)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What may be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send, and look at and cancel what is queued.
    Send,
    /// See events and their numbers.
    Events,
    /// See and change the suppression list.
    Suppression,
    /// Read and change the messages in the mailboxes.
    Messages,
}

/// The answer to something that is done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Of the sequence of answers.
    pub(crate) number: u64,
    /// What was asked: a hash of it.
    pub request: [u8; 32],
    /// What the caller made of it.
    pub answer: Vec<u8>,
    /// The first number that was given to what was queued; the others follow it.
    pub first: QueueId,
    /// From when on it is forgotten.
    pub until: Time,
}

/// How an account proves who it is. Never the password itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Argon2id in PHC string form (RFC 9106).
    pub argon2: String,
    /// When it was set.
    pub set: Time,
}

/// Hides the hash, so that a log line can't have it.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("set", &self.set)
            .finish_non_exhaustive()
    }
}

/// The application's own data is looked up by as many of its entries, in the order of their keys.
const EXTRA_NAMES: usize = 5;
/// ... and only by those with no more bytes than this.
const EXTRA_NAME_MAX: usize = 200;

impl Queued {
    /// The names by which it is looked up: those by which an answer to it may call it, where a fromid makes an ENVID needless, and the
    /// application's own data, as far as it is short.
    pub(crate) fn references(&self) -> impl Iterator<Item = Reference<'_>> {
        let by_id = (!self.from_id.is_empty()).then_some(Reference::FromId(&self.from_id));
        let otherwise = self.from_id.is_empty();
        let envid = [self.common.envid.as_str(), &self.common.own_envid]
            .into_iter()
            .find(|envid| otherwise && !envid.is_empty())
            .map(Reference::Envid);
        let message_id = (!self.common.message_id.is_empty())
            .then_some(Reference::MessageId(&self.common.message_id));
        let account = self.common.account.as_str();
        let extra = self.common.extra.iter();
        let extra = extra
            .filter(|(key, value)| key.len() + value.len() <= EXTRA_NAME_MAX)
            .take(EXTRA_NAMES)
            .map(move |(key, value)| Reference::Extra {
                account,
                key,
                value,
            });
        by_id
            .into_iter()
            .chain(envid)
            .chain(message_id)
            .chain(extra)
    }

    /// Where it goes: messages of one destination are claimed together.
    #[must_use]
    pub fn destination(&self) -> Destination {
        self.recipient.host.ascii()
    }
}

impl Hook {
    /// What its order is kept in: the message and the URL. None if it may be called at any time.
    #[must_use]
    pub(crate) fn chain(&self) -> Option<(QueueId, String)> {
        match &self.kind {
            HookKind::Outgoing(outgoing) => Some((outgoing.queue_id, self.url.clone())),
            HookKind::Incoming(_) => None,
        }
    }
}

impl HoldFilter {
    /// Whether it holds this message.
    #[must_use]
    pub fn matches(&self, queued: &Queued) -> bool {
        let sender = queued.reverse_path.address();
        let sender_domain = sender.and_then(|sender| sender.host.domain());
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        is(self.account.as_ref(), Some(&queued.common.account))
            && is(self.sender_domain.as_ref(), sender_domain)
            && is(
                self.recipient_domain.as_ref(),
                queued.recipient.host.domain(),
            )
            && is(self.sender.as_ref(), sender)
            && is(self.recipient.as_ref(), Some(&queued.recipient))
    }
}
