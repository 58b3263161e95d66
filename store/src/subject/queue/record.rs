//! What the store keeps of a message that is to be sent, and of one that left the queue.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use postrider_smtp::{Address, EnhancedCode, ReversePath};
use serde::{Deserialize, Serialize};

use crate::{TextId, TextSource, Time, Top, id::ids};

ids! {
    /// One recipient's message in the queue, and later in the history: the API's `QueueMsgID`. The numbers of one accepted
    /// unit are consecutive.
    QueueId,
}

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

/// A message to be sent to one or more recipients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewMessage {
    /// What the recipients have in common.
    pub common: Common,
    /// The fields before the text, for all recipients.
    pub top: Top,
    /// Its text.
    pub text: TextSource,
    /// At least one. Ids are given in this order, consecutive.
    pub recipients: Vec<NewRecipient>,
}

/// One recipient of a [`NewMessage`]. The fields are those of [`Queued`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of Queued"
)]
pub struct NewRecipient {
    pub reverse_path: ReversePath,
    pub from_id: String,
    pub recipient: Address,
    pub notify: Notify,
    pub orcpt: String,
    pub transport: String,
    pub hold: bool,
    pub next_attempt: Time,
}

/// Something heard of a message that is queued or in the history. One that is neither changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The message.
    pub id: QueueId,
    /// Added to its results. Its start is the message's last activity.
    pub result: Attempt,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the queue.
    Queued(Queued),
    /// In the history.
    Retired(Retired),
}

impl Found {
    /// The message itself.
    #[must_use]
    pub const fn message(&self) -> &Queued {
        match self {
            Self::Queued(queued) => queued,
            Self::Retired(retired) => &retired.message,
        }
    }
}

/// Where a queued message goes: the recipient's domain in A-labels, lower-case, or the address literal with brackets.
pub type Destination = String;


impl Queued {
    /// Where the message goes. Messages with one destination are claimed together.
    #[must_use]
    pub fn destination(&self) -> Destination {
        self.recipient.host.ascii()
    }
}

impl NewRecipient {
    /// The record that it becomes.
    pub(crate) fn queued(
        self,
        id: QueueId,
        base: QueueId,
        top: Top,
        text: TextId,
        common: Arc<Common>,
    ) -> Queued {
        Queued {
            id,
            base,
            top,
            text,
            common,
            reverse_path: self.reverse_path,
            from_id: self.from_id,
            recipient: self.recipient,
            notify: self.notify,
            orcpt: self.orcpt,
            transport: self.transport,
            hold: self.hold,
            attempts: 0,
            last_attempt: None,
            next_attempt: self.next_attempt,
            delay_told: false,
            fence: 0,
            results: Vec::new(),
        }
    }
}
