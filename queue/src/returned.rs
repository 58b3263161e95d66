//! Mail that reports on messages sent earlier, and how the two are matched. `complaint` has the
//! complaints.
//!
//! These names lead back to a message, in this order:
//!
//! | name | who knows it | what it is about | a report by it may suppress |
//! |---|---|---|---|
//! | fromid, in the address that the mail came to | the next hop, and readers of the message | the recipient of that message | yes |
//! | ENVID of our own | the next hop of one transaction | the recipients of that transaction | yes |
//! | ENVID of the submitter | the submitter and all next hops | the recipient that the report names | no |
//! | Message-ID | all readers of a copy | the recipient that the report names | no |
//!
//! A match is only made within the account whose mailbox the mail came to. A complaint to an abuse
//! address is also told to other accounts that send from its domain (see `complaint`).
//!
//! The sender of a report does not matter. To suppress somebody, its author needs a name that only
//! the servers and readers of that recipient know:
//!
//! - The server of one recipient never sees the fromid or the ENVID of a recipient elsewhere. The
//!   recipients of one transaction share their server, which could refuse all of them anyway.
//! - A report that comes again does no more than the first time. It can suppress an address again
//!   that was taken off the list. So can a reply of the same server.
//! - A forged "delivered" is an event. It takes nothing off a list, and ends no row of failures.
//! - Names of others never fill up what is looked at: look-ups are limited to the account, and to
//!   the recipient if the name proves nothing.

mod complaint;

use postrider_config::Dynamic;
use postrider_observe::metrics::SuppressedBy;
use postrider_smtp::{
    Address, Domain, EnhancedCode, ReversePath,
    bounce::{Reading, Recipient, Report, Said},
    dsn::Action,
};
use postrider_store::{
    Attempt, Event, Found, NewEvent, NewHook, NewSuppression, Note, OutgoingEvent, QueueId, Queued,
    Reference, StoreError, Time,
};
use tracing::debug;

use crate::{
    Queue,
    passed::is_sent,
    settle::logged,
    suppress::{Consequence, Failure, HeardFrom},
    told::{News, Tidings, TraceOf},
};

use std::{collections::HashMap, time::Duration};

/// How much of a mail is read. A report comes before the message that it returns.
pub const READ_MAX: u64 = 256 * 1024;
/// How many messages with one name are looked at.
const FOUND_MAX: usize = 1000;

/// A mail that came in, for one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// The account whose mailbox it came to.
    pub account: &'a str,
    /// MAIL FROM.
    pub reverse_path: &'a ReversePath,
    /// RCPT TO.
    pub rcpt_to: &'a Address,
    /// The header section says multipart/report.
    pub report: bool,
    /// The domain that the mail was proved to come from. None if nothing was proved.
    pub authenticated: Option<&'a Domain>,
}

/// The changes that a mail leads to. They are stored together with the mail.
#[derive(Debug, Default)]
pub struct ReturnEffects {
    /// Entries of the history.
    pub notes: Vec<Note>,
    /// Events for webhooks.
    pub hooks: Vec<NewHook>,
    /// Entries of the account's log.
    pub events: Vec<NewEvent>,
    /// Addresses that are not to be mailed any more.
    pub suppress: Vec<NewSuppression>,
    /// What is to be told when all of that is stored.
    pub told: Vec<Tidings>,
    /// The messages that a complaint was told of. Several mailboxes may get one complaint.
    complained: HashMap<QueueId, Trust>,
}

impl ReturnEffects {
    /// The message that a complaint is about. None if it is none, or about several.
    #[must_use]
    pub fn complained_about(&self) -> Option<QueueId> {
        let mut all = self.complained.keys();
        all.next().copied().filter(|_| all.next().is_none())
    }
}

/// How sure it is that the author of a report knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// Anybody who has seen a copy of the message may have written the report.
    Guess,
    /// The report has a name that only the servers and readers of the recipient saw.
    Proof,
}

/// The statement of a mail about one message.
struct Heard<'a> {
    event: Event,
    dsn: bool,
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: &'a str,
    remote: &'a str,
    said: Said<'a>,
}

impl Queue {
    /// Adds what a mail says of messages sent earlier to `returned`. True: it is about a message of
    /// the account that it came to. One value of effects is for all mailboxes that get the mail.
    ///
    /// `reading` gives the mail as [`postrider_smtp::bounce::read_with_path`] reads it from its
    /// first [`READ_MAX`] bytes. It is awaited only if it is needed.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn returned<'r>(
        &self,
        config: &Dynamic,
        arrived: &Arrived<'_>,
        reading: impl Future<Output = &'r Reading> + Send,
        returned: &mut ReturnEffects,
    ) -> Result<bool, StoreError> {
        let by_id = self
            .by_from_id(config, arrived.account, arrived.rcpt_to)
            .await?;
        let abuse = is_for_complaints(arrived.rcpt_to);
        let null = *arrived.reverse_path == ReversePath::Null;
        if by_id.is_none() && !abuse && !null && !arrived.report {
            return Ok(false);
        }
        match (by_id, reading.await) {
            (Some(message), reading) => {
                self.told_by_id(config, &message, reading, returned).await;
                Ok(true)
            }
            (None, Reading::Report(report)) => {
                self.match_report(config, arrived, report, returned).await
            }
            (None, Reading::Complaint(complaint)) => {
                self.match_complaint(config, arrived, complaint, returned)
                    .await
            }
            (None, Reading::Unusable(_) | Reading::Other) => Ok(false),
        }
    }

    /// Whether the address is the reverse-path of a message that its account sent, by a fromid.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn is_return_address(
        &self,
        config: &Dynamic,
        address: &Address,
    ) -> Result<bool, StoreError> {
        let Some(account) = config.lookup(address).and_then(|found| found.account()) else {
            return Ok(false);
        };
        let message = self.by_from_id(config, account, address).await?;
        Ok(message.is_some())
    }

    /// Whether a report names a message of an account by its ENVID: one of our own, or that of the
    /// submitter together with the recipient.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn knows_envid(&self, account: &str, report: &Report) -> Result<bool, StoreError> {
        let Some(envid) = report.envid.as_deref().filter(|envid| !envid.is_empty()) else {
            return Ok(false);
        };
        let ours = Reference::Transaction(envid);
        if !self
            .store
            .find(ours, None, Some(account), 1)
            .await?
            .is_empty()
        {
            return Ok(true);
        }
        for recipient in &report.recipients {
            let name = Reference::Envid(envid);
            if self.by_name(account, name, recipient).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The message of an account whose reverse-path is the address that a mail came to.
    async fn by_from_id(
        &self,
        config: &Dynamic,
        account: &str,
        rcpt_to: &Address,
    ) -> Result<Option<Queued>, StoreError> {
        let found = config.lookup(rcpt_to);
        let id = found.and_then(|found| found.tail).unwrap_or_default();
        self.with_from_id(id, account).await
    }

    /// The message of an account with this fromid.
    async fn with_from_id(&self, id: &str, account: &str) -> Result<Option<Queued>, StoreError> {
        if id.is_empty() {
            return Ok(None);
        }
        let reference = Reference::FromId(id);
        let found = self.store.find(reference, None, Some(account), 1).await?;
        Ok(found.into_iter().next().map(message))
    }

    /// Each mail to a fromid is an event of its message. It is about the recipient of that message,
    /// whatever addresses it names.
    async fn told_by_id(
        &self,
        config: &Dynamic,
        message: &Queued,
        reading: &Reading,
        returned: &mut ReturnEffects,
    ) {
        let unrecognized = |dsn, text| Heard {
            event: Event::Unrecognized,
            dsn,
            code: 0,
            enhanced: None,
            text,
            remote: "",
            said: Said::default(),
        };
        let recipient = message.recipient.unicode();
        let heard = match reading {
            Reading::Report(report) => match report.result_for(&recipient) {
                Some(result) => told(report, result),
                None => unrecognized(true, "incoming dsn is about no recipient"),
            },
            Reading::Complaint(complaint) if complaint::is_one(complaint) => {
                self.complained(config, message, complaint, Trust::Proof, returned);
                return;
            }
            Reading::Unusable(_) => unrecognized(true, "incoming dsn cannot be read"),
            Reading::Complaint(_) | Reading::Other => {
                unrecognized(false, "incoming message not a dsn")
            }
        };
        self.heard(config, message, &heard, Trust::Proof, returned)
            .await;
    }

    async fn match_report(
        &self,
        config: &Dynamic,
        arrived: &Arrived<'_>,
        report: &Report,
        returned: &mut ReturnEffects,
    ) -> Result<bool, StoreError> {
        let transaction = match &report.envid {
            Some(envid) => self.transaction(Some(arrived.account), envid).await?,
            None => Vec::new(),
        };
        let before = returned.notes.len();
        if let [only] = transaction.as_slice() {
            // As with a fromid.
            if let Some(result) = report.result_for(&only.recipient.unicode()) {
                self.heard(config, only, &told(report, result), Trust::Proof, returned)
                    .await;
            }
            return Ok(returned.notes.len() > before);
        }
        let of_transaction = by_recipient(&transaction);
        for recipient in &report.recipients {
            let heard = told(report, recipient);
            if let Some(message) = among(&of_transaction, recipient) {
                self.heard(config, message, &heard, Trust::Proof, returned)
                    .await;
                continue;
            }
            let envid = report.envid.as_deref().map(Reference::Envid);
            let message_id = report.original_message_id.as_deref();
            let names = envid.into_iter();
            for name in names.chain(message_id.map(Reference::MessageId)) {
                let found = self.by_name(arrived.account, name, recipient).await?;
                if let Some(message) = found {
                    self.heard(config, &message, &heard, Trust::Guess, returned)
                        .await;
                    break;
                }
            }
        }
        Ok(returned.notes.len() > before)
    }

    /// The messages of the transaction with this ENVID of ours. Without an account: of any.
    async fn transaction(
        &self,
        account: Option<&str>,
        envid: &str,
    ) -> Result<Vec<Queued>, StoreError> {
        let reference = Reference::Transaction(envid);
        let found = self.store.find(reference, None, account, FOUND_MAX).await?;
        Ok(found.into_iter().map(message).collect())
    }

    /// The message to a recipient of a report, by a name that others know too.
    async fn by_name(
        &self,
        account: &str,
        name: Reference<'_>,
        recipient: &Recipient,
    ) -> Result<Option<Queued>, StoreError> {
        for address in addresses(recipient) {
            let found = self.to_recipient(account, name, &address).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The message of an account to a recipient. If the message was sent again, the last one
    /// counts.
    async fn to_recipient(
        &self,
        account: &str,
        name: Reference<'_>,
        recipient: &str,
    ) -> Result<Option<Queued>, StoreError> {
        let found = self
            .store
            .find(name, Some(recipient), Some(account), FOUND_MAX)
            .await?;
        Ok(found.into_iter().map(message).max_by_key(|found| found.id))
    }

    async fn heard(
        &self,
        config: &Dynamic,
        message: &Queued,
        heard: &Heard<'_>,
        trust: Trust,
        returned: &mut ReturnEffects,
    ) {
        let now = self.clock.now();
        let account = config.accounts.get(&message.common.account);
        let failure = Failure {
            source: HeardFrom::Dsn,
            said: heard.said,
            known: None,
            on_block: self.statics.delivery.on_block,
            host: heard.remote,
        };
        let proven = heard.event == Event::Failed && trust == Trust::Proof;
        let consequence = match account.filter(|_| proven) {
            Some(account) => self.consequence(account, message, &failure, now).await,
            None => Consequence::default(),
        };
        debug!(
            queue = message.id.0,
            to = %message.recipient,
            event = heard.event.name(),
            code = heard.code,
            text = heard.text,
            "heard of a message"
        );
        let mut news = vec![News::Heard {
            event: heard.event,
            code: heard.code,
            text: heard.text.to_owned(),
        }];
        let listed = consequence.entry.iter().map(|entry| News::Listed {
            entry: entry.clone(),
            by: SuppressedBy::Dsn,
        });
        news.extend(listed);
        if is_sent(message) {
            news.push(News::Event(heard.event));
        }
        let told = Tidings::new(message.clone(), now, news, TraceOf::Alone);
        returned.told.push(told);
        returned.notes.push(Note {
            id: message.id,
            result: Attempt {
                blames: consequence.blames,
                ..note(heard, now)
            },
        });
        if !is_sent(message) {
            if heard.event == Event::Failed {
                self.report_bounced(message).await;
            }
            return;
        }
        let failed = matches!(heard.event, Event::Failed | Event::Delayed);
        let outgoing = OutgoingEvent {
            event: heard.event,
            dsn: heard.dsn,
            suppressing: consequence.entry.is_some(),
            queue_id: message.id,
            from_id: message.from_id.clone(),
            message_id: message.common.message_id.clone(),
            subject: message.common.subject.clone(),
            queued: now,
            code: if failed { heard.code } else { 0 },
            enhanced: heard.enhanced.filter(|_| failed),
            error: match heard.event {
                Event::Delivered | Event::Relayed | Event::Expanded => String::new(),
                _ => heard.text.to_owned(),
            },
            extra: message.common.extra.clone(),
        };
        returned.events.extend(logged(message, account, &outgoing));
        let hook = account.and_then(|account| {
            let name = &message.common.account;
            postrider_webhook::outgoing(name, account, &message.recipient, outgoing)
        });
        returned.hooks.extend(hook);
        returned.suppress.extend(consequence.entry);
    }
}

fn note(heard: &Heard<'_>, now: Time) -> Attempt {
    let success = matches!(
        heard.event,
        Event::Delivered | Event::Relayed | Event::Expanded
    );
    Attempt {
        start: now,
        duration: Duration::ZERO,
        success,
        code: heard.code,
        enhanced: heard.enhanced,
        remote: heard.remote.to_owned(),
        error: if success {
            format!("incoming dsn: {}", heard.event.name())
        } else {
            heard.text.to_owned()
        },
        blames: false,
    }
}

fn told<'a>(report: &'a Report, recipient: &'a Recipient) -> Heard<'a> {
    let event = match recipient.action {
        Action::Failed => Event::Failed,
        Action::Delayed => Event::Delayed,
        Action::Delivered => Event::Delivered,
        Action::Relayed => Event::Relayed,
        Action::Expanded => Event::Expanded,
    };
    let remote = recipient.remote_mta.as_deref();
    Heard {
        event,
        dsn: true,
        code: recipient.code,
        enhanced: recipient.enhanced,
        text: &recipient.diagnostic,
        remote: remote.or(report.reporting_mta.as_deref()).unwrap_or(""),
        said: recipient.said(),
    }
}

fn message(found: Found) -> Queued {
    match found {
        Found::Queued(message) => message,
        Found::Retired(retired) => retired.message,
    }
}

/// The messages of a transaction by the lower-case Unicode form of their recipients.
fn by_recipient(messages: &[Queued]) -> HashMap<String, &Queued> {
    let messages = messages.iter().rev();
    messages
        .map(|message| (message.recipient.unicode().to_lowercase(), message))
        .collect()
}

/// The message to a recipient of a report.
fn among<'a>(messages: &HashMap<String, &'a Queued>, recipient: &Recipient) -> Option<&'a Queued> {
    if messages.is_empty() {
        return None;
    }
    let mut named = addresses(recipient).into_iter();
    named.find_map(|address| messages.get(&address.to_lowercase()).copied())
}

/// The addresses of a recipient in a report, the original one first.
fn addresses(recipient: &Recipient) -> Vec<String> {
    [&recipient.original_recipient, &recipient.final_recipient]
        .into_iter()
        .flatten()
        .map(|address| unicode(address))
        .collect()
}

/// The Unicode form of an address. Other text stays as it is.
fn unicode(address: &str) -> String {
    Address::parse(address).map_or_else(|_| address.to_owned(), |address| address.unicode())
}

/// Whether providers send complaints to this address (RFC 2142 §2 and §4).
fn is_for_complaints(address: &Address) -> bool {
    let local = address.local.as_str();
    ["postmaster", "abuse"]
        .iter()
        .any(|name| local.eq_ignore_ascii_case(name))
}
