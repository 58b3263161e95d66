//! The records of a queued message, and of one that left the queue.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use postrider_smtp::{Address, EnhancedCode, ReversePath, convert::TextNeeds};
use serde::{Deserialize, Serialize};

use crate::{TextId, TextSource, Time, Top, id::ids};

ids! {
    /// One recipient's message in the queue, and later in the history: the API's `QueueMsgID`. The
    /// numbers of one accepted unit are consecutive.
    QueueId,
}

/// The common data of all recipients of one submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// The account that sent the message. It gets the events.
    pub account: String,
    /// When the store accepted the message.
    pub queued: Time,
    /// The author address of the From field. It decides the DKIM key and the domain's routes. None
    /// without such an address.
    pub from: Option<Address>,
    /// The Message-ID with `<` and `>`.
    pub message_id: String,
    /// The Subject field, decoded; empty if absent.
    pub subject: String,
    /// Bytes of the whole message: top and text.
    pub size: u64,
    /// What top and text have that not every server takes.
    pub needs: TextNeeds,
    /// The header or the envelope needs SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// None: the policy decides. True: REQUIRETLS, or the delivery fails. False: as with
    /// `TLS-Required: No` (RFC 8689).
    pub require_tls: Option<bool>,
    /// The submitter's RFC 4865 request (`for;N` or `until;TIME`); empty if none.
    pub future_release: String,
    /// RET of RFC 3461: full message (true) or headers only (false) in a failure DSN; None if not
    /// given.
    pub ret_full: Option<bool>,
    /// The submitter's ENVID of RFC 3461, decoded; empty if none.
    pub envid: String,
    /// The application's mailing list that the message belongs to; empty if none.
    pub list: String,
    /// The application's own data, returned in events.
    pub extra: BTreeMap<String, String>,
    /// How the message came into the queue.
    pub origin: Origin,
    /// How urgently the submitter wants the message delivered.
    pub urgency: Urgency,
}

/// How a message came into the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The account sent it. The account hears of its results, and its limits count it.
    #[default]
    Sent,
    /// It came to an address of the account, and goes on to another server as it is.
    Passed {
        /// The reverse-path with which it came. Our reports about it go there.
        sender: ReversePath,
    },
    /// The server wrote it: a report to a sender elsewhere.
    Server,
    /// The server wrote it: a report about the mail of a domain, to those who ask for it.
    Report(ReportKind),
}

/// What the server reports to other domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReportKind {
    /// How TLS went with the domain's hosts (RFC 8460).
    Tls,
    /// What DMARC said of mail from the domain (RFC 9990).
    Dmarc,
}

/// How urgently a message is to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Urgency {
    /// The priority from -9 to 9 (RFC 6710). 0 is normal, and higher is more urgent.
    pub priority: i8,
    /// The time within which the message is to be delivered; None: that of the configuration.
    pub deadline: Option<Deadline>,
    /// The message is one of many that were sent together, and gives way to others.
    pub bulk: bool,
}

/// The time within which a message is to be delivered (RFC 2852).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The end of that time.
    pub at: Time,
    /// The message fails then. Otherwise the sender is told, and the delivery goes on.
    pub fails: bool,
    /// The sender is told of each server that takes the message.
    pub trace: bool,
}

/// When the sender wants a DSN (RFC 3461 §4.1). The default stands for an absent NOTIFY: failure
/// and delay, unless the account wants none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// On delivery.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
    /// The submitter gave NOTIFY. It counts more than the settings of the account.
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
    /// The number of the message. The history keeps it.
    pub id: QueueId,
    /// The first number of the same submission.
    pub base: QueueId,
    /// The fields before the text; shared with the other recipients.
    pub top: Top,
    /// The text; shared with the other recipients.
    pub text: TextId,
    /// The common data of the recipients.
    pub common: Arc<Common>,
    /// The address of MAIL FROM for this recipient, with its fromid when one is used.
    pub reverse_path: ReversePath,
    /// The unique part of the reverse-path; empty when not used.
    pub from_id: String,
    /// The address of RCPT TO.
    pub recipient: Address,
    /// When the sender wants a DSN.
    pub notify: Notify,
    /// ORCPT of RFC 3461 (`type;address`, decoded); empty if none.
    pub orcpt: String,
    /// The name of the transport that is forced; empty: the routes decide.
    pub transport: String,
    /// The name of the transport that the routes give the next attempt; empty: none. During an
    /// attempt: that of this attempt. It counts while no transport is forced.
    pub route: String,
    /// The message is held: no attempts while this is set.
    pub hold: bool,
    /// When the present hold began. None if the message is not held.
    pub held_since: Option<Time>,
    /// When the message was first due. The time of the message counts from here: when the sender is
    /// told of a delay, and when the message fails at last. What puts the message off moves this
    /// time on: a hold, and an administrator who sets a later attempt.
    pub first_due: Time,
    /// How many attempts began.
    pub attempts: u32,
    /// When the last attempt began.
    pub last_attempt: Option<Time>,
    /// When the next attempt is due. During an attempt: when that attempt was due.
    pub next_attempt: Time,
    /// A "delayed" DSN went to the sender already.
    pub delay_told: bool,
    /// Goes up with every claim. So the store can tell the result of an earlier claim apart.
    pub fence: u64,
    /// The result of each attempt, oldest first.
    pub results: Vec<Attempt>,
    /// The ENVIDs of our own transactions with the message, oldest first. The store keeps the last
    /// [`ENVIDS_MAX`] of them.
    pub envids: Vec<String>,
}

/// How many of its own ENVIDs a message keeps. A report by an older one is not matched by it.
pub const ENVIDS_MAX: usize = 20;

/// A transaction that is about to begin: its own ENVID (RFC 3461 §4.4), and its messages.
///
/// The ENVID is random and new for each transaction. Only the server of the transaction sees it. So
/// a report that names it comes from a server that got just these messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The ENVID, not encoded.
    pub envid: String,
    /// The messages: one for each recipient of the transaction.
    pub messages: Vec<QueueId>,
}

/// The result of one attempt at delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When the attempt began.
    pub start: Time,
    /// How long the attempt took.
    pub duration: Duration,
    /// The next hop accepted the message.
    pub success: bool,
    /// The SMTP reply code of the remote; 0 without one.
    pub code: u16,
    /// The enhanced status code, by the remote or by us.
    pub enhanced: Option<EnhancedCode>,
    /// The host talked to, as `name [ip]`; empty if none was reached.
    pub remote: String,
    /// The remote's text or ours; empty on success.
    pub error: String,
    /// The failure is final, and the recipient's address is to blame as far as one failure can
    /// tell. The third message in a row with such a failure suppresses the address.
    pub blames: bool,
}

/// A message that left the queue. The history keeps it for the account's period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The message as it was in the queue, with all results.
    pub message: Queued,
    /// The next hop accepted the message (event `delivered`).
    pub success: bool,
    /// When the message left the queue, or the last DSN for it came.
    pub last_activity: Time,
    /// When the store removes the record.
    pub keep_until: Time,
}

/// A message to be sent to one or more recipients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewMessage {
    /// The common data of the recipients.
    pub common: Common,
    /// The fields before the text, for all recipients.
    pub top: Top,
    /// The text of the message.
    pub text: TextSource,
    /// At least one. They get consecutive numbers in this order.
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
    pub route: String,
    pub hold: bool,
    pub next_attempt: Time,
}

/// A queued message whose next attempt goes by another route than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reroute {
    /// The message.
    pub id: QueueId,
    /// Its fence. A message that was claimed since has had its own fate.
    pub fence: u64,
    /// The name of the transport that the routes give; empty: none.
    pub route: String,
}

/// News of a message in the queue or in the history. News of any other message changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The message.
    pub id: QueueId,
    /// Added to the results of the message. Its start becomes the message's last activity.
    pub result: Attempt,
}

/// A message that [`find`](crate::Store::find) found.
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

/// The destination of a queued message: the recipient's domain in A-labels, lower-case, or the
/// address literal with brackets.
pub type Destination = String;

impl Queued {
    /// The destination of the message. Messages with one destination are claimed together.
    #[must_use]
    pub fn destination(&self) -> Destination {
        self.recipient.host.ascii()
    }

    /// The name of the transport of the next attempt: the forced one, else that of the routes.
    /// Empty: none.
    #[must_use]
    pub fn next_transport(&self) -> &str {
        match self.transport.as_str() {
            "" => &self.route,
            forced => forced,
        }
    }

    /// Begins or ends a hold at `now`. The time of the message stands still meanwhile.
    pub(crate) fn set_hold(&mut self, hold: bool, now: Time) {
        self.hold = hold;
        match (hold, self.held_since) {
            (true, None) => self.held_since = Some(now),
            (false, Some(since)) => {
                self.held_since = None;
                self.put_off(since, now);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Sets the next attempt. If that is later than before, the time of the message stands still
    /// between the two.
    pub(crate) fn set_next_attempt(&mut self, next: Time) {
        let before = std::mem::replace(&mut self.next_attempt, next);
        self.first_due = self.first_due.min(next.max(self.common.queued));
        self.put_off(before, next);
    }

    /// Nothing was or is to be done for the message from one time to the other.
    fn put_off(&mut self, from: Time, to: Time) {
        let stands_still = to.since(from.max(self.first_due));
        self.first_due = self.first_due.after(stands_still);
    }
}

impl NewRecipient {
    /// The record with this number.
    pub(crate) fn queued(
        self,
        id: QueueId,
        base: QueueId,
        top: Top,
        text: TextId,
        common: Arc<Common>,
    ) -> Queued {
        let held_since = self.hold.then_some(common.queued);
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
            route: self.route,
            hold: self.hold,
            held_since,
            first_due: self.next_attempt,
            attempts: 0,
            last_attempt: None,
            next_attempt: self.next_attempt,
            delay_told: false,
            fence: 0,
            results: Vec::new(),
            envids: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hour: u32) -> Time {
        Time(0).after(HOUR * hour)
    }

    /// A message that was accepted at hour 10, with its first attempt at this hour.
    fn message(first: u32, hold: bool) -> Queued {
        let unit = crate::tests::samples::message(&["x@a.example"]);
        let common = Common {
            queued: at(10),
            ..unit.queue[0].common.clone()
        };
        let new = NewRecipient {
            hold,
            ..crate::tests::samples::recipient("x@a.example", at(first))
        };
        let id = QueueId(1);
        new.queued(id, id, Top::EMPTY, TextId(1), Arc::new(common))
    }

    #[test]
    fn the_time_of_a_message_stands_still_during_a_hold() {
        for (first, hold, began, ended, expected) in [
            (10, true, 10, 15, 15),
            (12, true, 10, 15, 15),
            (20, true, 10, 15, 20),
            (10, false, 13, 15, 12),
            (14, false, 13, 15, 15),
        ] {
            let mut message = message(first, hold);
            message.set_hold(true, at(began));
            message.set_hold(true, at(began + 1));
            assert_eq!(message.held_since, Some(at(began)));
            message.set_hold(false, at(ended));
            message.set_hold(false, at(ended + 1));
            let found = (message.first_due, message.held_since);
            assert_eq!(found, (at(expected), None), "{first} {began}");
        }
    }

    #[test]
    fn a_later_attempt_puts_a_message_off_and_an_earlier_one_does_not() {
        for (first, next, then, expected) in [
            (10, None, 18, 18),
            (20, None, 18, 18),
            (20, None, 9, 10),
            (10, Some(14), 18, 14),
            (10, Some(14), 12, 10),
        ] {
            let mut message = message(first, false);
            // An attempt failed, and this is the next one.
            message.next_attempt = next.map_or(message.next_attempt, at);
            message.set_next_attempt(at(then));
            assert_eq!(message.next_attempt, at(then));
            assert_eq!(message.first_due, at(expected), "{first} {next:?} {then}");
        }
    }
}
