//! Mail that comes in and goes on to other servers, and reports to senders elsewhere.
//!
//! Such mail is no mail of an account. So it has no events, no limits and no suppression list, and
//! no DKIM signature is added to it. A report about it goes to its sender by mail. If nobody may
//! get one, the message that fails is kept in a mailbox here.

use std::collections::BTreeMap;

use postrider_config::Dynamic;
use postrider_smtp::{Address, Host, LocalPart, ReversePath, convert::TextNeeds};
use postrider_store::{
    Common, NewMail, NewMessage, NewRecipient, Notify, Origin, Queued, TextSource, Time, Top,
    Urgency,
};
use tracing::warn;

use crate::{Queue, SubmittedRecipient, add::take_once, route};

/// A message that came in, and goes on with the text that it came with.
#[derive(Debug)]
pub struct Passed {
    /// The account whose address it came to.
    pub account: String,
    /// The reverse-path with which it came.
    pub sender: ReversePath,
    /// Whether the sender may get reports about it. Without a proof of the sender, a report could
    /// go to somebody who never sent the message.
    pub reports: bool,
    /// The reverse-path with which it goes on.
    pub reverse_path: ReversePath,
    /// At least one recipient.
    pub recipients: Vec<SubmittedRecipient>,
    /// The transport that takes it. Empty: the routes decide.
    pub transport: String,
    /// The message waits until somebody releases it.
    pub hold: bool,
    /// The fields that stand before the text.
    pub top: Top,
    /// The size of the text in bytes.
    pub size: u64,
    /// The Message-ID with `<` and `>`.
    pub message_id: String,
    /// The decoded subject.
    pub subject: String,
    /// The author's address.
    pub from: Option<Address>,
    /// What top and text have that not every server takes.
    pub needs: TextNeeds,
    /// The header section or the envelope needs SMTPUTF8.
    pub smtputf8: bool,
    /// What the sender asks of TLS: true for REQUIRETLS, false for `TLS-Required: No` (RFC 8689).
    pub require_tls: Option<bool>,
    /// RET: full (true) or headers (false).
    pub ret_full: Option<bool>,
    /// ENVID. Empty without one.
    pub envid: String,
}

/// The field that tells an LMTP server why the message is junk. An incoming message has none: such
/// fields are removed from it.
pub const JUNK_FIELD: &str = "X-Postrider-Junk";

impl Queue {
    /// A message that was passed on and failed for good, as a mail of its account: in the Inbox, or
    /// in the junk mailbox if it is junk. The sender got 250 for it, and if nobody may be told of
    /// the failure, it would be lost without a trace. None for mail of other kinds. If the account
    /// is gone, the postmaster gets it.
    pub(crate) fn kept_here(
        &self,
        config: &Dynamic,
        message: &Queued,
        now: Time,
    ) -> Option<NewMail> {
        let Origin::Passed { sender } = &message.common.origin else {
            return None;
        };
        let top = message.top.bytes();
        let field = format!("\r\n{JUNK_FIELD}: ");
        let is_junk = top
            .windows(field.len())
            .any(|part| part == field.as_bytes());
        let (name, postmaster) = (&message.common.account, &self.statics.postmaster);
        // A report that can't go back to the sender of a forward has that account too.
        let is_report = *sender == ReversePath::Null && *name == postmaster.account;
        let (account, mailbox) = match config.accounts.get(name) {
            Some(_) if is_report => (name, postmaster.mailbox.as_str()),
            Some(account) if is_junk => (name, account.junk_mailbox.as_str()),
            Some(_) => (name, "Inbox"),
            None => (&postmaster.account, postmaster.mailbox.as_str()),
        };
        let mut fields = Vec::new();
        if !top.starts_with(b"Return-Path:") {
            fields.extend_from_slice(format!("Return-Path: <{sender}>\r\n").as_bytes());
        }
        let size = fields.len() as u64 + message.common.size;
        fields.extend_from_slice(top);
        warn!(
            queue = message.id.0,
            account = account.as_str(),
            mailbox,
            from = %sender,
            to = %message.recipient,
            message_id = message.common.message_id,
            "a message that was passed on failed, and is kept here"
        );
        Some(NewMail {
            account: account.clone(),
            mailbox: mailbox.to_owned(),
            top: Top::new(fields).unwrap_or_default(),
            text: TextSource::Existing(message.text),
            size,
            received: now,
            flags: Vec::new(),
            dsn: false,
            smtp: None,
            summary: None,
        })
    }

    /// The record of a message that goes on. Its text is the new one of the unit that has the
    /// record. None without recipients.
    #[must_use]
    pub fn pass_on(&self, mut passed: Passed) -> Option<NewMessage> {
        let now = self.clock.now();
        take_once(&mut passed.recipients);
        let recipients = passed.recipients.into_iter().map(|recipient| NewRecipient {
            reverse_path: passed.reverse_path.clone(),
            from_id: String::new(),
            recipient: recipient.address,
            // The next server gets this too, so it sends no report either.
            notify: match passed.reports {
                true => recipient.notify,
                false => Notify::NEVER,
            },
            orcpt: recipient.orcpt,
            transport: passed.transport.clone(),
            route: String::new(),
            hold: passed.hold,
            next_attempt: now,
        });
        let recipients: Vec<NewRecipient> = recipients.collect();
        if recipients.is_empty() {
            return None;
        }
        let mut message = NewMessage {
            common: Common {
                account: passed.account,
                queued: now,
                from: passed.from,
                message_id: passed.message_id,
                subject: passed.subject,
                size: passed.top.len() + passed.size,
                needs: passed.needs,
                smtputf8: passed.smtputf8,
                require_tls: passed.require_tls,
                future_release: String::new(),
                ret_full: passed.ret_full,
                envid: passed.envid,
                list: String::new(),
                extra: BTreeMap::new(),
                urgency: Urgency::default(),
                origin: Origin::Passed {
                    sender: passed.sender,
                },
            },
            top: passed.top,
            text: TextSource::New,
            recipients,
        };
        route::note(&mut message, &self.config.load());
        Some(message)
    }

    /// The record of a report to a sender elsewhere, with this text. It goes out with the null
    /// reverse-path, and nobody gets a report about it. With `require_tls` it needs REQUIRETLS, as
    /// the message that it is about (RFC 8689 §5).
    #[must_use]
    pub fn report_to(
        &self,
        account: &str,
        to: &Address,
        (text, source): (&[u8], TextSource),
        require_tls: bool,
        now: Time,
    ) -> NewMessage {
        let mut message = self.written(account, (&self.mailer(), to), (text, source), now);
        message.common.require_tls = require_tls.then_some(true);
        route::note(&mut message, &self.config.load());
        message
    }

    /// The record of an automatic answer of an account to a sender, with this text (RFC 3834). It
    /// goes out with the null reverse-path, and nobody gets a report about it.
    #[must_use]
    pub fn answer_from(
        &self,
        account: &str,
        from: &Address,
        to: &Address,
        (text, source): (&[u8], TextSource),
        now: Time,
    ) -> NewMessage {
        let mut message = self.written(account, (from, to), (text, source), now);
        message.common.smtputf8 |= !crate::header::section(text).is_ascii();
        route::note(&mut message, &self.config.load());
        message
    }

    /// A message that the server writes.
    fn written(
        &self,
        account: &str,
        (from, to): (&Address, &Address),
        (text, source): (&[u8], TextSource),
        now: Time,
    ) -> NewMessage {
        let header = crate::header::Header::scan(crate::header::section(text));
        NewMessage {
            common: Common {
                account: account.to_owned(),
                queued: now,
                from: Some(from.clone()),
                message_id: header.message_id().to_owned(),
                subject: header.subject().to_owned(),
                size: text.len() as u64,
                needs: TextNeeds::of(text),
                smtputf8: !to.is_ascii(),
                require_tls: None,
                future_release: String::new(),
                ret_full: None,
                envid: String::new(),
                list: String::new(),
                extra: BTreeMap::new(),
                urgency: Urgency::default(),
                origin: Origin::Server,
            },
            top: Top::EMPTY,
            text: source,
            recipients: vec![NewRecipient {
                reverse_path: ReversePath::Null,
                from_id: String::new(),
                recipient: to.clone(),
                notify: Notify::NEVER,
                orcpt: String::new(),
                transport: String::new(),
                route: String::new(),
                hold: false,
                next_attempt: now,
            }],
        }
    }

    /// The author of our reports: postmaster at our host name.
    #[must_use]
    pub fn mailer(&self) -> Address {
        Address {
            local: LocalPart::postmaster(),
            host: Host::Domain(self.statics.hostname.clone()),
        }
    }
}

/// The sender of a message, to whom reports about it go. None for the null reverse-path.
pub(crate) fn sender(message: &Queued) -> Option<&Address> {
    match &message.common.origin {
        Origin::Sent => message.reverse_path.address(),
        Origin::Passed { sender } => sender.address(),
        Origin::Server | Origin::Report(_) => None,
    }
}

/// The account sent the message, so it hears of it.
pub(crate) fn is_sent(message: &Queued) -> bool {
    message.common.origin == Origin::Sent
}
