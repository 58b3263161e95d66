//! Reports of success to senders elsewhere (RFC 3461 §5.2).
//!
//! A sender that asks for it hears that its message is in the mailbox, or that it went on to the
//! members of a list or to several addresses. Only a proven sender gets such a report, and junk is
//! no success. What goes on to one server is reported by that server, or by the queue.

use postrider_queue::header::{self, Header};
use postrider_smtp::{
    Address, DeliveryStatus, EnhancedCode, Reply, ReplyCode, Ret,
    dsn::{self, Action, Report, Reported, Returned},
    server::RcptTo,
};
use postrider_store::{NewMessage, NewText, StoreError, TextSource, Time};

use super::{is_proven, original_recipient, with_deliveries};
use crate::{SessionContext, decide::Outcome, deliver::Incoming};

/// How much of a message a report returns at most.
const RETURN_MAX: u64 = 128 * 1024;

/// Whether the sender wants to hear of the success for a recipient.
fn asks(rcpt: &RcptTo) -> bool {
    rcpt.notify.is_some_and(|notify| notify.success)
}

/// What a report says of one recipient. None: there is nothing to say. Whoever sends junk does not
/// hear that it arrived.
fn action(rcpt: &RcptTo, outcomes: &[&Outcome], is_list: bool) -> Option<Action> {
    if !asks(rcpt) {
        return None;
    }
    let mut expanded = is_list;
    let mut delivered = false;
    for outcome in outcomes {
        match outcome {
            Outcome::Mailbox { junk: None, .. } => delivered = true,
            Outcome::Forward(to) if to.len() > 1 => expanded = true,
            _ => {}
        }
    }
    let taken = |outcome: &&Outcome| {
        matches!(
            outcome,
            Outcome::Mailbox { junk: None, .. }
                | Outcome::Forward(_)
                | Outcome::Lmtp { junk: None, .. }
        )
    };
    match (expanded, delivered) {
        (true, _) if outcomes.iter().copied().any(|outcome| taken(&outcome)) => {
            Some(Action::Expanded)
        }
        (false, true) => Some(Action::Delivered),
        _ => None,
    }
}

impl SessionContext {
    /// The report of success to the sender. Its text is staged. None if no recipient asks for one.
    ///
    /// # Errors
    /// If the store can't be used.
    pub(crate) async fn success_report(
        &self,
        incoming: &Incoming<'_>,
    ) -> Result<Option<NewMessage>, StoreError> {
        let Incoming {
            transaction,
            facts,
            deliveries,
            ..
        } = *incoming;
        let mail = &transaction.mail;
        let Some(to) = mail.reverse_path.address() else {
            return Ok(None);
        };
        // Few ask, so what became of the message is collected for those only.
        let proven = || is_proven(&mail.reverse_path, facts);
        if !transaction.recipients.iter().any(asks) || !proven() {
            return Ok(None);
        }
        let reply = Reply::new(ReplyCode::OK, Some(EnhancedCode::OK), "taken".to_owned());
        let status = DeliveryStatus::from_reply(&reply, "end of data");
        let mut told = Vec::new();
        let recipients = facts.recipients.iter();
        for (recipient, (rcpt, outcomes)) in
            recipients.zip(with_deliveries(transaction, facts, deliveries))
        {
            let is_list = recipient.is_list();
            if let Some(action) = action(rcpt, &outcomes, is_list) {
                let orcpt = rcpt.orcpt.clone();
                let orcpt = orcpt.unwrap_or_else(|| original_recipient(&recipient.address));
                told.push((&recipient.address, orcpt, action));
            }
        }
        let taken = deliveries.iter().find_map(|one| one.target(facts));
        let Some((_, target)) = taken.filter(|_| !told.is_empty()) else {
            return Ok(None);
        };
        let text = self
            .store
            .beginning(&incoming.text.text, RETURN_MAX)
            .await?;
        // Nobody may read the text of a message with REQUIRETLS in a report (RFC 8689 §5).
        let whole = mail.ret == Some(Ret::Full)
            && !mail.require_tls
            && text.len() as u64 == incoming.text.size;
        let returned = match whole {
            true => Returned::Full(&text),
            false => Returned::Headers(header::section(&text)),
        };
        let reported: Vec<Reported<'_>> = told
            .iter()
            .map(|(recipient, orcpt, action)| Reported {
                recipient,
                orcpt: Some(orcpt),
                action: *action,
                status: &status,
                last_attempt: None,
                will_retry_until: None,
            })
            .collect();
        let now = self.clock.now();
        let report = self.composed(incoming, to, &reported, returned, now);
        let staged = self
            .store
            .stage(NewText::Inline(report.clone().into()))
            .await?;
        let report = (&*report, TextSource::Existing(staged));
        let queue = &self.queue;
        let message = queue.report_to(&target.account, to, report, mail.require_tls, now);
        Ok(Some(message))
    }

    /// The text of a report.
    fn composed(
        &self,
        incoming: &Incoming<'_>,
        to: &Address,
        recipients: &[Reported<'_>],
        returned: Returned<'_>,
        now: Time,
    ) -> Vec<u8> {
        let (mail, facts) = (&incoming.transaction.mail, incoming.facts);
        let from = self.queue.mailer();
        let hostname = self.statics.hostname.ascii();
        let mut rng = rand::rng();
        let message_id = header::message_id(&mut rng, hostname);
        let boundary = header::random_id(&mut rng).replace(['-', '_'], "x");
        dsn::compose(&Report {
            reporting_mta: hostname,
            from: &from,
            to,
            message_id: &message_id,
            date: now.timestamp(),
            boundary: &boundary,
            envid: mail.envid.as_deref(),
            arrival: Some(now.timestamp()),
            original_message_id: facts.header.as_ref().map_or("", Header::message_id),
            smtputf8: mail.smtputf8,
            recipients,
            returned,
        })
    }
}
