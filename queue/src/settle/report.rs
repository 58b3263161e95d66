//! The DSN about the result of an attempt, to the sender of the message.

use postrider_config::Dynamic;
use postrider_smtp::{
    Address, DeliveryStatus,
    dsn::{self, Action, Report, Reported, Returned},
};
use postrider_store::{NewMail, NewText, Queued, Settle, TextSource, Time, Top};
use postrider_webhook::message::summary;

use crate::{
    Queue, header,
    passed::{is_sent, sender},
    told::News,
};

/// How much of a message is read to find its header section for a DSN.
const HEADER_MAX: u64 = 64 * 1024;

impl Queue {
    pub(super) async fn add_report(
        &self,
        config: &Dynamic,
        message: &Queued,
        (action, status, until): (Action, &DeliveryStatus, Option<Time>),
        (settle, news): (&mut Settle, &mut Vec<News>),
    ) {
        let now = self.clock.now();
        let Some((to, text)) = self.report(message, action, status, until, now).await else {
            return;
        };
        let mut queued = None;
        if is_sent(message) {
            let mail = self.dsn_mail(config, message, &text, now);
            settle.mails.push(mail);
        } else {
            let account = &message.common.account;
            let require_tls = message.common.require_tls == Some(true);
            let report = (&*text, TextSource::New);
            let report = self.report_to(account, to, report, require_tls, now);
            queued = Some(Box::new(report.common.clone()));
            settle.queue.push(report);
        }
        news.push(News::Dsn {
            action,
            status: status.clone(),
            queued,
        });
        settle.text = Some(NewText::Inline(text.into()));
    }

    /// The sender of a message, and the text of a DSN to it. None if the message has no sender.
    async fn report<'a>(
        &self,
        message: &'a Queued,
        action: Action,
        status: &DeliveryStatus,
        until: Option<Time>,
        now: Time,
    ) -> Option<(&'a Address, Vec<u8>)> {
        // The null reverse-path never gets a DSN (RFC 5321 §4.5.5).
        let to = sender(message)?;
        // A reply of 5xx may delay a message. The status of a delay is 4.x.x (RFC 3464 §2.3.4).
        let status = &DeliveryStatus {
            permanent: status.permanent && action == Action::Failed,
            ..status.clone()
        };
        let hostname = self.statics.hostname.ascii();
        let from = self.mailer();
        let stored = self.store.queued_message(message).await.ok()?;
        // Nobody may read the text of a message with REQUIRETLS in a report (RFC 8689 §5).
        let full =
            message.common.ret_full == Some(true) && message.common.require_tls != Some(true);
        let wanted = if full {
            stored.len().min(HEADER_MAX * 4)
        } else {
            stored.len().min(HEADER_MAX)
        };
        let text = stored.beginning(wanted).await.ok()?;
        let returned = if full && wanted == stored.len() {
            Returned::Full(&text)
        } else {
            Returned::Headers(header::section(&text))
        };
        let (message_id, boundary) = {
            let mut rng = self.rng();
            (
                header::message_id(&mut *rng, hostname),
                header::random_id(&mut *rng).replace(['-', '_'], "x"),
            )
        };
        let envid = Some(message.common.envid.as_str()).filter(|envid| !envid.is_empty());
        let orcpt = Some(message.orcpt.as_str()).filter(|orcpt| !orcpt.is_empty());
        let text = dsn::compose(&Report {
            reporting_mta: hostname,
            from: &from,
            to,
            message_id: &message_id,
            date: now.timestamp(),
            boundary: &boundary,
            envid,
            arrival: Some(message.common.queued.timestamp()),
            original_message_id: &message.common.message_id,
            smtputf8: message.common.smtputf8,
            recipients: &[Reported {
                recipient: &message.recipient,
                orcpt,
                action,
                status,
                last_attempt: message.last_attempt.map(Time::timestamp),
                will_retry_until: until.map(Time::timestamp),
            }],
            returned,
        });
        Some((to, text))
    }

    /// A DSN goes to the Inbox of the sending account. If the account is gone, the postmaster gets
    /// it.
    fn dsn_mail(&self, config: &Dynamic, message: &Queued, text: &[u8], now: Time) -> NewMail {
        let sender = &message.common.account;
        let (account, mailbox) = if config.accounts.contains_key(sender) {
            (sender.clone(), "Inbox".to_owned())
        } else {
            (
                self.statics.postmaster.account.clone(),
                self.statics.postmaster.mailbox.clone(),
            )
        };
        NewMail {
            account,
            mailbox,
            top: Top::EMPTY,
            text: TextSource::New,
            size: text.len() as u64,
            received: now,
            flags: Vec::new(),
            dsn: true,
            smtp: None,
            summary: Some(Box::new(summary(text, self.statics.limits.mime()))),
        }
    }
}
