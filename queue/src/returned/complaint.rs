//! Complaints about messages sent earlier (ARF, RFC 5965).
//!
//! Everybody who has a copy of a message can write a complaint about it. So a complaint suppresses
//! nobody, unless it has a fromid, or comes from a reporter in `policy.trusted_reporters` who is
//! authenticated. It is an event in any case, in the log of events, in the history, and for
//! webhooks of version 1. Version 0 has no such event.
//!
//! Providers write to the abuse address of a domain, which one account reads for all that send from
//! the domain. So a complaint to it is told to the account that sent the message, if the message is
//! from that very domain. This crosses accounts, and gives nobody more than before:
//!
//! - The account that sent the message learns of a complaint about a message of its own, and of its
//!   type. It learns nothing else of the mail.
//! - The account that reads the abuse address gets the mail in its mailbox and its webhook, whether
//!   another account has such a message or not. So it can't find out.
//! - A stranger causes no more than an event, as with a complaint to the account itself. With a
//!   fromid, a stranger could write to the fromid.
//! - Accounts that send from other domains neither hear of the complaint nor hide it from others.

use postrider_config::Dynamic;
use postrider_observe::metrics::SuppressedBy;
use postrider_smtp::{Address, bounce::Complaint};
use postrider_store::{Attempt, Event, Note, OutgoingEvent, Queued, Reference, StoreError, Time};

use super::{Arrived, FOUND_MAX, Queue, ReturnEffects, Trust, is_for_complaints, message, unicode};
use crate::{
    settle::logged,
    suppress::new_entry,
    told::{News, Tidings, TraceOf},
};

use std::{collections::BTreeMap, time::Duration};

/// Whether a feedback report is a complaint. The report of a failed authentication (RFC 6591) is
/// none. A recipient who says that a message is not spam does not complain either.
pub(super) fn is_one(report: &Complaint) -> bool {
    !["auth-failure", "not-spam"]
        .iter()
        .any(|other| report.feedback_type.eq_ignore_ascii_case(other))
}

impl Queue {
    /// Adds the effects of a complaint. True: it is about a message of the account that it came to.
    pub(super) async fn match_complaint(
        &self,
        config: &Dynamic,
        arrived: &Arrived<'_>,
        complaint: &Complaint,
        returned: &mut ReturnEffects,
    ) -> Result<bool, StoreError> {
        if !is_one(complaint) {
            return Ok(false);
        }
        let by_id = self.by_mail_from(config, complaint).await?;
        if let Some(message) = by_id.filter(|message| may_be_told(arrived, message)) {
            self.complained(config, &message, complaint, Trust::Proof, returned);
            return Ok(message.common.account == arrived.account);
        }
        let reporters = &self.statics.policy.trusted_reporters;
        let trusted = arrived
            .authenticated
            .is_some_and(|domain| reporters.contains(domain));
        let trust = if trusted { Trust::Proof } else { Trust::Guess };
        let mut is_own = false;
        for message in self.by_names(arrived, complaint).await?.values() {
            is_own |= message.common.account == arrived.account;
            self.complained(config, message, complaint, trust, returned);
        }
        Ok(is_own)
    }

    /// The message whose fromid is in the reverse-path that a complaint names.
    async fn by_mail_from(
        &self,
        config: &Dynamic,
        complaint: &Complaint,
    ) -> Result<Option<Queued>, StoreError> {
        let path = complaint.original_mail_from.as_ref();
        let Some(path) = path.and_then(|path| Address::parse(path).ok()) else {
            return Ok(None);
        };
        let found = config.lookup(&path);
        let found = found.and_then(|found| Some((found.tail?, found.account()?)));
        match found {
            Some((id, account)) => self.with_from_id(id, account).await,
            None => Ok(None),
        }
    }

    /// The messages that a complaint names by ENVID or Message-ID, and by recipient: the last one
    /// of each account to each recipient. A transaction with one recipient needs no name of it.
    async fn by_names(
        &self,
        arrived: &Arrived<'_>,
        complaint: &Complaint,
    ) -> Result<BTreeMap<(String, String), Queued>, StoreError> {
        let recipients = complaint.original_rcpt_to.iter();
        let recipients: Vec<String> = recipients.map(|rcpt_to| unicode(rcpt_to)).collect();
        let envid = complaint.envid.as_deref();
        let message_id = complaint.original_message_id.as_deref();
        let names = [
            envid.map(Reference::Transaction),
            envid.map(Reference::Envid),
            message_id.map(Reference::MessageId),
        ];
        // Messages of others never fill up the look-up within the account.
        let any = is_for_complaints(arrived.rcpt_to).then_some(None);
        let mut last: BTreeMap<(String, String), Queued> = BTreeMap::new();
        for account in [Some(arrived.account)].into_iter().chain(any) {
            let mut found = Vec::new();
            if let Some(envid) = envid
                && let [only] = self.transaction(account, envid).await?.as_slice()
                && may_be_told(arrived, only)
            {
                found.push(only.clone());
            }
            for name in names.into_iter().flatten() {
                for to in &recipients {
                    let of_name = self.store.find(name, Some(to), account, FOUND_MAX).await?;
                    let of_name = of_name.into_iter().map(message);
                    found.extend(of_name.filter(|message| may_be_told(arrived, message)));
                }
            }
            for message in found {
                let to = message.recipient.unicode().to_lowercase();
                let key = (message.common.account.clone(), to);
                match last.get(&key) {
                    Some(known) if known.id >= message.id => {}
                    _ => drop(last.insert(key, message)),
                }
            }
        }
        Ok(last)
    }

    /// Adds the effects of a complaint about one message. A complaint that came to another mailbox
    /// too has them already.
    pub(super) fn complained(
        &self,
        config: &Dynamic,
        message: &Queued,
        complaint: &Complaint,
        trust: Trust,
        returned: &mut ReturnEffects,
    ) {
        let known = returned.complained.get(&message.id);
        if known.is_some_and(|known| *known >= trust) {
            return;
        }
        returned.complained.insert(message.id, trust);
        let now = self.clock.now();
        let kind = &complaint.feedback_type;
        let proven = trust == Trust::Proof;
        let account = config.accounts.get(&message.common.account);
        let entry = account.filter(|_| proven).map(|account| {
            let reason = format!("complaint: {kind}");
            new_entry(account, message, reason, None, now)
        });
        let mut news = vec![News::Complaint {
            kind: kind.clone(),
            proven,
        }];
        let listed = entry.iter().map(|entry| News::Listed {
            entry: entry.clone(),
            by: SuppressedBy::Complaint,
        });
        news.extend(listed);
        news.push(News::Event(Event::Complained));
        let told = Tidings::new(message.clone(), now, news, TraceOf::Alone);
        returned.told.push(told);
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

/// Whether a complaint that came to an address may be told of a message: it is of the account that
/// the complaint came to, or it was sent from the domain that the abuse address is of.
fn may_be_told(arrived: &Arrived<'_>, message: &Queued) -> bool {
    let senders = [message.reverse_path.address(), message.common.from.as_ref()];
    let mut senders = senders.into_iter().flatten();
    message.common.account == arrived.account
        || is_for_complaints(arrived.rcpt_to)
            && senders.any(|sender| sender.host == arrived.rcpt_to.host)
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
