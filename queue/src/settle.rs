//! The one place where the result of an attempt becomes a change of state: retry or end, history, event, DSN.

use std::time::Duration;

use postrider_config::{Account, Dynamic};
use postrider_smtp::{
    Address, DeliveryStatus, Host, LocalPart,
    dsn::{self, Action, Report, Reported, Returned},
};
use postrider_store::{
    Attempt, BodySource, Event, NewBody, NewMail, Outcome, Outgoing, Queued, Settle, Time,
};

use tracing::info;

use crate::{Queue, header, schedule};

/// How much of a text's beginning is read to find its header section for a DSN.
const HEADER_MAX: u64 = 64 * 1024;

/// An attempt that ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) message: Queued,
    pub(crate) status: DeliveryStatus,
    pub(crate) start: Time,
}

/// What becomes of the message.
struct Fate {
    outcome: Outcome,
    event: Event,
    /// A DSN that goes to the sender, and until when there will be more attempts.
    report: Option<(Action, Option<Time>)>,
}

impl Queue {
    /// What the store is to do about an attempt.
    pub(crate) fn settlement(&self, config: &Dynamic, ended: Ended) -> Settle {
        let Ended {
            message,
            status,
            start,
        } = ended;
        let now = self.clock.now();
        info!(
            id = message.id.0,
            to = %message.recipient,
            attempt = message.attempts,
            remote = status.remote,
            status = %status,
            "attempt ended"
        );
        let account = config.accounts.get(&message.common.account);
        let fate = self.fate(&message, account, &status, now);
        let mut settle = Settle {
            id: message.id,
            fence: message.fence,
            attempt: Some(attempt(&status, start, now.since(start))),
            outcome: fate.outcome,
            delay_told: matches!(fate.report, Some((Action::Delayed, _))),
            body: None,
            mails: Vec::new(),
            hooks: Vec::new(),
        };
        let outgoing = event(&message, fate.event, &status, now);
        let hook = account.and_then(|account| {
            postrider_webhook::outgoing(&message.common.account, account, outgoing)
        });
        settle.hooks.extend(hook);
        if let Some((action, until)) = fate.report
            && let Some(text) = self.report(&message, action, &status, until, now)
        {
            settle
                .mails
                .push(self.dsn_mail(config, &message, text.len() as u64, now));
            settle.body = Some(NewBody::Inline(text.into()));
        }
        settle
    }

    fn fate(
        &self,
        message: &Queued,
        account: Option<&Account>,
        status: &DeliveryStatus,
        now: Time,
    ) -> Fate {
        let keep = account.map_or(Duration::from_secs(7 * 86400), |account| {
            account.keep_retired_message_period
        });
        let retire = |success| Outcome::Retire {
            success,
            now,
            keep_until: (!keep.is_zero()).then(|| now.after(keep)),
        };
        if status.is_success() {
            return Fate {
                outcome: retire(true),
                event: Event::Delivered,
                report: None,
            };
        }
        let settings = &self.statics.queue;
        let next = if status.permanent {
            None
        } else {
            schedule::retry_at(now, message.attempts, settings, &mut *self.rng())
        };
        let by_mail = account.is_none_or(|account| account.failure_dsn.by_mail());
        let Some(next) = next else {
            let report = (message.notify.failure && by_mail).then_some((Action::Failed, None));
            return Fate {
                outcome: retire(false),
                event: Event::Failed,
                report,
            };
        };
        let late = now.since(message.common.queued) >= settings.delay_dsn_after;
        let tell = late && !message.delay_told && message.notify.delay && by_mail;
        let until = schedule::gives_up_at(next, message.attempts, settings);
        Fate {
            outcome: Outcome::Retry(next),
            event: Event::Delayed,
            report: tell.then_some((Action::Delayed, Some(until))),
        }
    }

    /// The text of a DSN to the sender; None if there is nobody to send it to.
    fn report(
        &self,
        message: &Queued,
        action: Action,
        status: &DeliveryStatus,
        until: Option<Time>,
        now: Time,
    ) -> Option<Vec<u8>> {
        // Never an answer to the null reverse-path (RFC 5321 §4.5.5).
        let to = message.reverse_path.address()?;
        let hostname = self.statics.hostname.ascii();
        let from = Address {
            local: LocalPart::from_decoded("postmaster").ok()?,
            host: Host::Domain(self.statics.hostname.clone()),
        };
        let body = self.store.body(message.body).ok()?;
        let wanted = if message.common.ret_full == Some(true) {
            body.len().min(HEADER_MAX * 4)
        } else {
            body.len().min(HEADER_MAX)
        };
        let text = body.read(0..wanted).ok()?;
        let returned = if message.common.ret_full == Some(true) && wanted == body.len() {
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
        Some(dsn::compose(&Report {
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
        }))
    }

    /// A DSN goes straight to the sending account's Inbox; to the postmaster if that account is gone.
    fn dsn_mail(&self, config: &Dynamic, message: &Queued, size: u64, now: Time) -> NewMail {
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
            body: BodySource::New,
            size,
            received: now,
            flags: Vec::new(),
            dsn: true,
            smtp: None,
        }
    }
}

fn attempt(status: &DeliveryStatus, start: Time, duration: Duration) -> Attempt {
    Attempt {
        start,
        duration,
        success: status.is_success(),
        code: status.code,
        enhanced: status.enhanced,
        remote: status.remote.clone().unwrap_or_default(),
        error: if status.is_success() {
            String::new()
        } else {
            status.text.clone()
        },
    }
}

fn event(message: &Queued, event: Event, status: &DeliveryStatus, now: Time) -> Outgoing {
    let failed = !status.is_success();
    Outgoing {
        event,
        dsn: false,
        suppressing: false,
        queue_id: message.id,
        from_id: message.from_id.clone(),
        message_id: message.common.message_id.clone(),
        subject: message.common.subject.clone(),
        queued: now,
        code: if failed { status.code } else { 0 },
        enhanced: status.enhanced.filter(|_| failed),
        error: if failed {
            status.to_string()
        } else {
            String::new()
        },
        extra: message.common.extra.clone(),
    }
}
