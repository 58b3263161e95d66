//! Mail that reports on messages sent earlier, and how the two are matched.
//!
//! Three names lead back to a message, in this order of trust:
//!
//! | name | who knows it | a report by it may suppress |
//! |---|---|---|
//! | fromid, in the address that the mail came to | readers of the message: it is random | yes |
//! | our own ENVID | the next hops: it is random | yes |
//! | Message-ID | all readers of a copy, so the recipient must match too | no |
//!
//! A match is only made within the account whose mailbox the mail came to.
//!
//! The sender of a report does not matter. To forge a report, its author needs a name that only
//! rightful authors know.

use postrider_config::Dynamic;
use postrider_smtp::{
    Address, EnhancedCode, ReversePath,
    bounce::{self, Complaint, Reading, Recipient, Report},
    dsn::Action,
};
use postrider_store::{
    Attempt, Event, Found, NewEvent, NewHook, NewSuppression, Note, OutgoingEvent, Queued,
    Reference, StoreError, Time,
};
use tracing::info;

use crate::{
    Queue,
    settle::logged,
    suppress::{FailureFacts, HeardFrom, new_suppression},
};

use std::time::Duration;

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
}

/// How sure it is that the author of a report knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The report has a name that others never saw.
    Proof,
    /// Anybody who has seen the message may have written the report.
    Guess,
}

/// The statement of a mail about one message.
struct Heard<'a> {
    event: Event,
    dsn: bool,
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: &'a str,
    remote: &'a str,
}

impl Queue {
    /// The effects of a mail about messages sent earlier. None if it is about none. `text` gives
    /// the first [`READ_MAX`] bytes of the mail. It is awaited only if they are needed.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn returned(
        &self,
        config: &Dynamic,
        arrived: &Arrived<'_>,
        text: impl Future<Output = Vec<u8>> + Send,
    ) -> Result<Option<ReturnEffects>, StoreError> {
        let by_id = self.by_from_id(config, arrived).await?;
        let abuse = is_for_complaints(arrived.rcpt_to);
        let null = *arrived.reverse_path == ReversePath::Null;
        if by_id.is_none() && !abuse && !null && !arrived.report {
            return Ok(None);
        }
        let reading = bounce::read_with_path(
            arrived.reverse_path,
            &text.await,
            self.statics.limits.mime(),
        );
        let mut returned = ReturnEffects::default();
        match (by_id, reading) {
            (Some(message), reading) => {
                self.told_by_id(config, &message, reading, &mut returned)
                    .await;
            }
            (None, Reading::Report(report)) => {
                self.match_report(config, arrived, &report, &mut returned)
                    .await?;
            }
            (None, Reading::Complaint(complaint)) => {
                self.match_complaint(config, arrived, &complaint, abuse, &mut returned)
                    .await?;
            }
            (None, Reading::Unusable(_) | Reading::Other) => {}
        }
        Ok((!returned.notes.is_empty()).then_some(returned))
    }

    /// The message whose reverse-path is the address that this mail came to.
    async fn by_from_id(
        &self,
        config: &Dynamic,
        arrived: &Arrived<'_>,
    ) -> Result<Option<Queued>, StoreError> {
        let found = config.lookup(arrived.rcpt_to);
        let Some(id) = found
            .and_then(|found| found.tail)
            .filter(|id| !id.is_empty())
        else {
            return Ok(None);
        };
        let found = self
            .store
            .find(Reference::FromId(id), None, None, 1)
            .await?;
        Ok(of_account(found, arrived.account).next())
    }

    /// Each mail to a fromid is an event of its message.
    async fn told_by_id(
        &self,
        config: &Dynamic,
        message: &Queued,
        reading: Reading,
        returned: &mut ReturnEffects,
    ) {
        let unrecognized = |dsn, text| Heard {
            event: Event::Unrecognized,
            dsn,
            code: 0,
            enhanced: None,
            text,
            remote: "",
        };
        match reading {
            Reading::Report(report) => match report.recipients.as_slice() {
                [only] => {
                    self.heard(
                        config,
                        message,
                        &told(&report, only),
                        Trust::Proof,
                        returned,
                    )
                    .await
                }
                _ => {
                    let text = "incoming dsn is not about exactly one recipient";
                    let heard = unrecognized(true, text);
                    self.heard(config, message, &heard, Trust::Proof, returned)
                        .await;
                }
            },
            Reading::Complaint(complaint) => {
                self.complained(config, message, &complaint, returned).await
            }
            Reading::Unusable(_) => {
                let heard = unrecognized(true, "incoming dsn cannot be read");
                self.heard(config, message, &heard, Trust::Proof, returned)
                    .await;
            }
            Reading::Other => {
                let heard = unrecognized(false, "incoming message not a dsn");
                self.heard(config, message, &heard, Trust::Proof, returned)
                    .await;
            }
        }
    }

    async fn match_report(
        &self,
        config: &Dynamic,
        arrived: &Arrived<'_>,
        report: &Report,
        returned: &mut ReturnEffects,
    ) -> Result<(), StoreError> {
        let mut by_envid: Vec<Queued> = Vec::new();
        if let Some(envid) = &report.envid {
            let found = self
                .store
                .find(Reference::Envid(envid), None, None, FOUND_MAX)
                .await?;
            by_envid.extend(of_account(found, arrived.account));
        }
        for recipient in &report.recipients {
            if let Some(message) = among(&by_envid, recipient, report.recipients.len()) {
                let ours = message.common.envid.is_empty();
                let trust = if ours { Trust::Proof } else { Trust::Guess };
                self.heard(config, message, &told(report, recipient), trust, returned)
                    .await;
                continue;
            }
            let Some(message_id) = &report.original_message_id else {
                continue;
            };
            let by_message_id = self
                .by_message_id(arrived.account, message_id, recipient)
                .await?;
            if let Some(message) = by_message_id {
                let heard = told(report, recipient);
                self.heard(config, &message, &heard, Trust::Guess, returned)
                    .await;
            }
        }
        Ok(())
    }

    async fn by_message_id(
        &self,
        account: &str,
        message_id: &str,
        recipient: &Recipient,
    ) -> Result<Option<Queued>, StoreError> {
        for address in addresses(recipient) {
            let reference = Reference::MessageId(message_id);
            let found = self
                .store
                .find(reference, Some(&address), None, FOUND_MAX)
                .await?;
            // If the message was sent again, the last one counts.
            if let Some(message) = of_account(found, account).last() {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    async fn match_complaint(
        &self,
        config: &Dynamic,
        arrived: &Arrived<'_>,
        complaint: &Complaint,
        abuse: bool,
        returned: &mut ReturnEffects,
    ) -> Result<(), StoreError> {
        let Some(message_id) = &complaint.original_message_id else {
            return Ok(());
        };
        for rcpt_to in &complaint.original_rcpt_to {
            let address = unicode(rcpt_to);
            let reference = Reference::MessageId(message_id);
            let found = self
                .store
                .find(reference, Some(&address), None, FOUND_MAX)
                .await?;
            let concerned = found.into_iter().map(message).filter(|message| {
                let sender = message.reverse_path.address();
                let domain = sender.map(|sender| &sender.host);
                // An abuse address stands for its domain, whichever account reads its mail.
                message.common.account == arrived.account
                    || (abuse && domain == Some(&arrived.rcpt_to.host))
            });
            if let Some(message) = concerned.last() {
                self.complained(config, &message, complaint, returned).await;
            }
        }
        Ok(())
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
        let failure = FailureFacts {
            source: HeardFrom::Dsn,
            code: heard.code,
            enhanced: heard.enhanced,
            text: heard.text,
        };
        let suppression =
            match account.filter(|_| heard.event == Event::Failed && trust == Trust::Proof) {
                Some(account) => self.suppression_for(account, message, &failure, now).await,
                None => None,
            };
        info!(
            id = message.id.0,
            to = %message.recipient,
            event = heard.event.name(),
            code = heard.code,
            text = heard.text,
            "heard of a message"
        );
        returned.notes.push(Note {
            id: message.id,
            result: note(heard, now),
        });
        let failed = matches!(heard.event, Event::Failed | Event::Delayed);
        let outgoing = OutgoingEvent {
            event: heard.event,
            dsn: heard.dsn,
            suppressing: suppression.is_some(),
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
            postrider_webhook::outgoing(&message.common.account, account, outgoing)
        });
        returned.hooks.extend(hook);
        returned.suppress.extend(suppression);
    }

    /// A complaint. The v0 contract has no event for it, so only the history and the log have it.
    async fn complained(
        &self,
        config: &Dynamic,
        message: &Queued,
        complaint: &Complaint,
        returned: &mut ReturnEffects,
    ) {
        let now = self.clock.now();
        let kind = &complaint.feedback_type;
        let text = format!("complaint by the recipient ({kind})");
        info!(id = message.id.0, to = %message.recipient, kind, "complaint");
        let heard = Heard {
            event: Event::Failed,
            dsn: false,
            code: 0,
            enhanced: None,
            text: &text,
            remote: "",
        };
        returned.notes.push(Note {
            id: message.id,
            result: note(&heard, now),
        });
        let wanted = !kind.eq_ignore_ascii_case("not-spam");
        if wanted && config.accounts.contains_key(&message.common.account) {
            let reason = format!("{}: {kind}", HeardFrom::Complaint.name());
            returned
                .suppress
                .push(new_suppression(message, reason, now));
        }
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
    }
}

fn message(found: Found) -> Queued {
    match found {
        Found::Queued(message) => message,
        Found::Retired(retired) => retired.message,
    }
}

fn of_account(found: Vec<Found>, account: &str) -> impl Iterator<Item = Queued> {
    found
        .into_iter()
        .map(message)
        .filter(move |message| message.common.account == account)
}

/// The message that a recipient of a report belongs to. One message and one recipient belong
/// together, even if the address was changed on the way.
fn among<'a>(messages: &'a [Queued], recipient: &Recipient, reported: usize) -> Option<&'a Queued> {
    let named = addresses(recipient);
    let same = |message: &&Queued| {
        let own = message.recipient.unicode().to_lowercase();
        named.iter().any(|address| address.to_lowercase() == own)
    };
    match messages {
        [only] if reported == 1 => Some(only),
        _ => messages.iter().find(same),
    }
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
