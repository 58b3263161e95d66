//! Complaints about messages sent earlier (ARF, RFC 5965).
//!
//! Everybody who has a copy of a message can write a complaint about it. So a complaint suppresses
//! nobody, unless it comes to a fromid, or from a reporter in `policy.trusted_reporters` who is
//! authenticated. It is an event in any case, in the log of events, in the history, and for
//! webhooks of version 1. Version 0 has no such event.

use postrider_config::Dynamic;
use postrider_smtp::bounce::Complaint;
use postrider_store::{Attempt, Event, Note, OutgoingEvent, Queued, Reference, StoreError, Time};
use tracing::info;

use super::{Arrived, Queue, ReturnEffects, Trust, unicode};
use crate::{settle::logged, suppress::new_entry};

use std::time::Duration;

/// Whether a feedback report is a complaint. The report of a failed authentication (RFC 6591) is
/// none. A recipient who says that a message is not spam does not complain either.
pub(super) fn is_one(report: &Complaint) -> bool {
    !["auth-failure", "not-spam"]
        .iter()
        .any(|other| report.feedback_type.eq_ignore_ascii_case(other))
}

impl Queue {
    /// Matches a complaint by Message-ID and recipient, within the account that it came to. That is
    /// so even if it came to an abuse address, which stands for a whole domain.
    pub(super) async fn match_complaint(
        &self,
        config: &Dynamic,
        arrived: &Arrived<'_>,
        complaint: &Complaint,
        returned: &mut ReturnEffects,
    ) -> Result<(), StoreError> {
        let Some(message_id) = &complaint.original_message_id else {
            return Ok(());
        };
        if !is_one(complaint) {
            return Ok(());
        }
        let reporters = &self.statics.policy.trusted_reporters;
        let trusted = arrived
            .authenticated
            .is_some_and(|domain| reporters.contains(domain));
        let trust = if trusted { Trust::Proof } else { Trust::Guess };
        for rcpt_to in &complaint.original_rcpt_to {
            let name = Reference::MessageId(message_id);
            let found = self
                .to_recipient(arrived.account, name, &unicode(rcpt_to))
                .await?;
            if let Some(message) = found {
                self.complained(config, &message, complaint, trust, returned);
            }
        }
        Ok(())
    }

    pub(super) fn complained(
        &self,
        config: &Dynamic,
        message: &Queued,
        complaint: &Complaint,
        trust: Trust,
        returned: &mut ReturnEffects,
    ) {
        let now = self.clock.now();
        let kind = &complaint.feedback_type;
        let proven = trust == Trust::Proof;
        info!(id = message.id.0, to = %message.recipient, kind, proven, "complaint");
        let account = config.accounts.get(&message.common.account);
        let entry = account.filter(|_| proven).map(|account| {
            let reason = format!("complaint: {kind}");
            new_entry(account, message, reason, None, now)
        });
        let text = format!("complaint by the recipient ({kind})");
        returned.notes.push(Note {
            id: message.id,
            result: note(&text, now),
        });
        let told = OutgoingEvent {
            event: Event::Complained,
            dsn: false,
            suppressing: entry.is_some(),
            queue_id: message.id,
            from_id: message.from_id.clone(),
            message_id: message.common.message_id.clone(),
            subject: message.common.subject.clone(),
            queued: now,
            code: 0,
            enhanced: None,
            error: text,
            extra: message.common.extra.clone(),
        };
        returned.events.extend(logged(message, account, &told));
        let hook = account.and_then(|account| {
            let name = &message.common.account;
            postrider_webhook::outgoing(name, account, &message.recipient, told)
        });
        returned.hooks.extend(hook);
        returned.suppress.extend(entry);
    }
}

fn note(text: &str, now: Time) -> Attempt {
    Attempt {
        start: now,
        duration: Duration::ZERO,
        success: false,
        code: 0,
        enhanced: None,
        remote: String::new(),
        error: text.to_owned(),
        blames: false,
    }
}
