//! Turns the result of an attempt into one change of state: retry or end, history, event, DSN.
//! There is no other place for this.

mod times;

use std::time::Duration;

use postrider_config::{Account, Dynamic};
use postrider_smtp::{
    Address, Cause, DeliveryStatus, EnhancedCode,
    bounce::{Class, Said},
    dsn::{self, Action, Report, Reported, Returned},
};
use postrider_store::{
    Attempt, Event, NewEvent, NewMail, NewText, Outcome, OutgoingEvent, Party, Queued, Settle,
    Suppression, TextSource, Time, Top,
};
use tracing::{debug, info};

use crate::{
    Queue, deadline, header,
    judge::{self, Block},
    passed::{is_sent, sender},
    reports, route,
    schedule::{self, Wait},
    suppress::{Consequence, Failure, HeardFrom},
};

pub use times::Outlook;

/// How much of a message is read to find its header section for a DSN.
const HEADER_MAX: u64 = 64 * 1024;

/// An attempt that ended.
#[derive(Clone, Debug)]
pub(crate) struct EndedAttempt {
    pub(crate) message: Queued,
    pub(crate) status: DeliveryStatus,
    /// The class of the reply, if a rule of the provider gives it.
    pub(crate) known: Option<Class>,
    /// What becomes of the message if the site blocks its source.
    pub(crate) block: Block,
    pub(crate) start: Time,
    /// The host or mailbox that took the message.
    pub(crate) hop: LastHop,
}

/// A claimed message that goes back to the queue without an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Postponed {
    pub(crate) message: Queued,
    /// The reason.
    pub(crate) status: DeliveryStatus,
    /// When the message is due again.
    pub(crate) until: Time,
    /// No connection to its site can be made, and that is the reason.
    pub(crate) failing: bool,
}

impl Postponed {
    /// A message that waits until this time, for this reason.
    pub(crate) fn by(message: Queued, wait: &Wait, until: Time) -> Self {
        Self {
            message,
            status: wait.status.clone(),
            until,
            failing: wait.failing,
        }
    }
}

/// The party that reports success, if the submitter wants a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastHop {
    /// The next hop: it knows DSNs (RFC 3461).
    SendsDsns,
    /// We do: the next hop does not know DSNs, so this is the last news (RFC 3461 §5.2.2).
    SendsNoDsns,
    /// We do: the message is in its mailbox, here or at an LMTP server that does not know DSNs.
    Mailbox,
}

/// The outcome for the message.
struct Fate {
    outcome: Outcome,
    event: Event,
    /// The DSN for the sender, and the time of the last attempt.
    report: Option<(Action, Option<Time>)>,
    /// For the recipient's address.
    consequence: Consequence,
}

/// Logs the end of an attempt: one line with all its facts as fields.
fn log(message: &Queued, status: &DeliveryStatus, outcome: Event) {
    info!(
        id = message.id.0,
        account = message.common.account,
        outcome = outcome.name(),
        code = status.code,
        enhanced_code = status.enhanced.map(|code| code.to_string()),
        stage = status.command.as_deref(),
        remote = status.remote,
        from = %message.reverse_path,
        to = %message.recipient,
        message_id = message.common.message_id,
        attempt = message.attempts,
        text = status.text,
        "attempt ended"
    );
}

impl Queue {
    /// The change of state after an attempt.
    pub(crate) async fn settlement(&self, config: &Dynamic, ended: EndedAttempt) -> Settle {
        let EndedAttempt {
            message,
            status,
            known,
            block,
            start,
            hop,
        } = ended;
        let status = judge::in_the_end(status, message.attempts);
        let now = self.clock.now();
        let (attempts, on_block) = (message.attempts, block.on_block);
        let waits = !status.is_success() && !judge::is_final(&status, known, attempts, on_block);
        let (status, known) = match waits && self.is_expired(&message) {
            true => (expire(status), None),
            false => (status, known),
        };
        let account = config.accounts.get(&message.common.account);
        let said = (&status, known, block);
        let fate = self.fate(&message, account, said, hop, now).await;
        log(&message, &status, fate.event);
        let mut outgoing = event(&message, fate.event, &status, now);
        outgoing.suppressing = fate.consequence.entry.is_some();
        let mut settle = Settle {
            id: message.id,
            fence: message.fence,
            party: Party::Claimant,
            attempt: Some(Attempt {
                blames: fate.consequence.blames,
                ..attempt(&status, start, now.since(start))
            }),
            outcome: fate.outcome,
            route: match fate.outcome {
                Outcome::Retry(_) => route::changed(&message, attempts, config).map(str::to_owned),
                _ => None,
            },
            delay_told: matches!(fate.report, Some((Action::Delayed, _))),
            text: None,
            queue: Vec::new(),
            mails: Vec::new(),
            hooks: Vec::new(),
            events: Vec::new(),
            suppress: fate.consequence.entry.into_iter().collect(),
        };
        self.tell(config, &message, outgoing, &mut settle);
        if let Some((action, until)) = fate.report {
            self.add_report(config, &message, action, &status, until, &mut settle)
                .await;
        }
        if fate.event == Event::Failed {
            self.keep_untold(config, &message, &mut settle);
            self.report_failed(&message, &status).await;
        }
        settle
    }

    /// What becomes of messages that no source was chosen for.
    pub(crate) fn usual_block(&self) -> Block {
        Block::of(self.statics.delivery.on_block)
    }

    /// The change of state for a message that was not attempted. It has an end nevertheless: when
    /// its time is over while its site fails, it fails. For any other reason, attempts count again
    /// when there was none for as long.
    pub(crate) async fn postponement(&self, config: &Dynamic, postponed: Postponed) -> Settle {
        let Postponed {
            message,
            status,
            until,
            failing,
        } = postponed;
        let (now, first_due) = (self.clock.now(), message.first_due);
        let settings = &self.statics.queue;
        let until = deadline::not_after(&message, until, now);
        if let Some(status) = deadline::missed(&message, now) {
            return self.missed(config, message, status).await;
        }
        let attempted = message.results.last().map_or(first_due, |last| last.start);
        let stood_still = self.stood_still(&message);
        let expired = failing && self.is_expired(&message);
        let untried = now.since(attempted.max(first_due));
        if expired || untried >= self.all_waits() + stood_still {
            let status = if expired { expire(status) } else { status };
            let ended = EndedAttempt {
                message,
                status,
                known: None,
                block: self.usual_block(),
                start: now,
                hop: LastHop::SendsNoDsns,
            };
            return self.settlement(config, ended).await;
        }
        // What is to be told, and the end of the message, wait for no site.
        let told_at = deadline::told_at(&message, settings.delay_dsn_after + stood_still);
        let ends = failing.then(|| self.expires(&message));
        let tells = (!message.delay_told).then_some(told_at);
        let sooner = tells.into_iter().chain(ends).filter(|at| *at > now);
        let until = sooner.fold(until, Time::min);
        debug!(id = message.id.0, %until, %status, "postponed without an attempt");
        let mut settle = Settle {
            id: message.id,
            fence: message.fence,
            party: Party::Claimant,
            attempt: None,
            outcome: Outcome::Postpone(until),
            route: None,
            delay_told: false,
            text: None,
            queue: Vec::new(),
            mails: Vec::new(),
            hooks: Vec::new(),
            events: Vec::new(),
            suppress: Vec::new(),
        };
        if now >= told_at && !message.delay_told {
            settle.delay_told = true;
            let account = config.accounts.get(&message.common.account);
            let outgoing = event(&message, Event::Delayed, &status, now);
            self.tell(config, &message, outgoing, &mut settle);
            if wants_delay_mail(&message, account) {
                let last = match failing {
                    true => self.expires(&message).max(until),
                    false => self.gives_up_at(&message, until),
                };
                let (action, last) = (Action::Delayed, Some(last));
                self.add_report(config, &message, action, &status, last, &mut settle)
                    .await;
            }
        }
        settle
    }

    /// The change of state for a message that missed its deadline: it fails without an attempt.
    pub(crate) async fn missed(
        &self,
        config: &Dynamic,
        message: Queued,
        status: DeliveryStatus,
    ) -> Settle {
        let ended = EndedAttempt {
            message,
            status,
            known: None,
            block: self.usual_block(),
            start: self.clock.now(),
            hop: LastHop::SendsNoDsns,
        };
        self.settlement(config, ended).await
    }

    /// The change of state for a message whose recipient is on the suppression list: its end,
    /// without an attempt.
    pub(crate) async fn suppressed(
        &self,
        config: &Dynamic,
        message: &Queued,
        entry: &Suppression,
    ) -> Settle {
        let text = format!(
            "{} is on the suppression list since {} ({})",
            entry.original, entry.created, entry.reason
        );
        let status = DeliveryStatus::permanent(Cause::Local, EnhancedCode::UNKNOWN_MAILBOX, text);
        info!(id = message.id.0, to = %message.recipient, "suppressed");
        self.end(config, message, Event::Suppressed, &status, Party::Claimant)
            .await
    }

    /// The change of state when an administrator or an application ends a message: `Failed`, as if
    /// the delivery had failed, or `Canceled`. `text` says who did it.
    pub(crate) async fn ended(
        &self,
        config: &Dynamic,
        message: &Queued,
        event: Event,
        text: &str,
    ) -> Settle {
        let status = DeliveryStatus::permanent(Cause::Local, EnhancedCode::SYSTEM, text);
        self.end(config, message, event, &status, Party::Administrator)
            .await
    }

    async fn end(
        &self,
        config: &Dynamic,
        message: &Queued,
        event: Event,
        status: &DeliveryStatus,
        party: Party,
    ) -> Settle {
        let now = self.clock.now();
        let account = config.accounts.get(&message.common.account);
        let mut outgoing = self::event(message, event, status, now);
        outgoing.enhanced = None;
        status.text.clone_into(&mut outgoing.error);
        let mut settle = Settle {
            id: message.id,
            fence: message.fence,
            party,
            attempt: Some(attempt(status, now, Duration::ZERO)),
            outcome: Outcome::Retire {
                success: false,
                now,
                keep_until: keep_until(account, now),
            },
            route: None,
            delay_told: false,
            text: None,
            queue: Vec::new(),
            mails: Vec::new(),
            hooks: Vec::new(),
            events: Vec::new(),
            suppress: Vec::new(),
        };
        self.tell(config, message, outgoing, &mut settle);
        if event != Event::Canceled && wants_failure_mail(message, account) {
            self.add_report(config, message, Action::Failed, status, None, &mut settle)
                .await;
        }
        if event == Event::Failed {
            self.keep_untold(config, message, &mut settle);
        }
        settle
    }

    /// Keeps a message that was passed on, and of whose failure nobody hears.
    fn keep_untold(&self, config: &Dynamic, message: &Queued, settle: &mut Settle) {
        if settle.queue.is_empty() {
            let kept = self.kept_here(config, message, self.clock.now());
            settle.mails.extend(kept);
        }
    }

    fn tell(
        &self,
        config: &Dynamic,
        message: &Queued,
        outgoing: OutgoingEvent,
        settle: &mut Settle,
    ) {
        if !is_sent(message) {
            return;
        }
        let name = &message.common.account;
        let account = config.accounts.get(name);
        let logged = logged(message, account, &outgoing);
        settle.events.extend(logged);
        let to = &message.recipient;
        let hook =
            account.and_then(|account| postrider_webhook::outgoing(name, account, to, outgoing));
        settle.hooks.extend(hook);
    }

    async fn add_report(
        &self,
        config: &Dynamic,
        message: &Queued,
        action: Action,
        status: &DeliveryStatus,
        until: Option<Time>,
        settle: &mut Settle,
    ) {
        let now = self.clock.now();
        let Some((to, text)) = self.report(message, action, status, until, now).await else {
            return;
        };
        if is_sent(message) {
            let mail = self.dsn_mail(config, message, text.len() as u64, now);
            settle.mails.push(mail);
        } else {
            let account = &message.common.account;
            let require_tls = message.common.require_tls == Some(true);
            let report = (&*text, TextSource::New);
            let report = self.report_to(account, to, report, require_tls, now);
            settle.queue.push(report);
        }
        settle.text = Some(NewText::Inline(text.into()));
    }

    async fn fate(
        &self,
        message: &Queued,
        account: Option<&Account>,
        (status, known, block): (&DeliveryStatus, Option<Class>, Block),
        hop: LastHop,
        now: Time,
    ) -> Fate {
        let retire = |success| Outcome::Retire {
            success,
            now,
            keep_until: keep_until(account, now),
        };
        if status.is_success() {
            let (success, traced) = (message.notify.success, deadline::is_traced(message));
            let action = match hop {
                LastHop::SendsDsns => traced.then_some(Action::Relayed),
                LastHop::SendsNoDsns => (success || traced).then_some(Action::Relayed),
                LastHop::Mailbox => success.then_some(Action::Delivered),
            };
            return Fate {
                outcome: retire(true),
                event: Event::Delivered,
                report: action.map(|action| (action, None)),
                consequence: Consequence::default(),
            };
        }
        let settings = &self.statics.queue;
        let on_block = block.on_block;
        let next = if reports::is_worn(message)
            || judge::is_final(status, known, message.attempts, on_block)
        {
            None
        } else {
            let next = schedule::retry_at(now, message.attempts, settings, &mut *self.rng());
            // Half of the attempts are kept for later: all sources may be blocked.
            let early = u64::from(message.attempts) * 2 <= settings.retry_intervals.len() as u64;
            match block.other_source && early {
                true => next.map(|_| now),
                false => next,
            }
        };
        // The last attempt is made when the time of the message is over, at the latest.
        let ends = Some(self.expires(message)).filter(|ends| *ends > now);
        let next = next.map(|next| ends.map_or(next, |ends| next.min(ends)));
        let next = next.map(|next| deadline::not_after(message, next, now));
        let Some(next) = next else {
            let failure = Failure {
                source: HeardFrom::Queue,
                said: Said::from(status),
                known,
                on_block,
                host: status.remote.as_deref().unwrap_or_default(),
            };
            let consequence = match account {
                Some(account) => self.consequence(account, message, &failure, now).await,
                None => Consequence::default(),
            };
            return Fate {
                outcome: retire(false),
                event: Event::Failed,
                report: wants_failure_mail(message, account).then_some((Action::Failed, None)),
                consequence,
            };
        };
        let late = now >= deadline::told_at(message, settings.delay_dsn_after);
        let tell = late && !message.delay_told && wants_delay_mail(message, account);
        let until = self.gives_up_at(message, next);
        Fate {
            outcome: Outcome::Retry(next),
            event: Event::Delayed,
            report: tell.then_some((Action::Delayed, Some(until))),
            consequence: Consequence::default(),
        }
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
            top: Top::EMPTY,
            text: TextSource::New,
            size,
            received: now,
            flags: Vec::new(),
            dsn: true,
            smtp: None,
        }
    }
}

fn wants_mail(account: Option<&Account>) -> bool {
    account.is_none_or(|account| account.failure_dsn.by_mail())
}

/// Whether the sender is told of a delay by mail.
fn wants_delay_mail(message: &Queued, account: Option<&Account>) -> bool {
    let is_asked = message.notify.given || !is_sent(message) || wants_mail(account);
    message.notify.delay && is_asked || deadline::tells(message)
}

/// The status of a message that fails because its time is over.
fn expire(last: DeliveryStatus) -> DeliveryStatus {
    let code = EnhancedCode::permanent(4, 7);
    DeliveryStatus {
        remote: last.remote,
        ..DeliveryStatus::permanent(Cause::Local, code, format!("expired; last: {}", last.text))
    }
}

/// NOTIFY of the submitter goes before the setting of the account.
fn wants_failure_mail(message: &Queued, account: Option<&Account>) -> bool {
    message.notify.failure && (message.notify.given || !is_sent(message) || wants_mail(account))
}

/// The entry of an event in the account's log. None if the account keeps no history.
pub(crate) fn logged(
    message: &Queued,
    account: Option<&Account>,
    outgoing: &OutgoingEvent,
) -> Option<NewEvent> {
    Some(NewEvent {
        account: message.common.account.clone(),
        recipient: message.recipient.unicode(),
        told: outgoing.clone(),
        keep_until: keep_until(account, outgoing.queued)?,
    })
}

/// Until when the history keeps a message that ends now. None: not at all.
fn keep_until(account: Option<&Account>, now: Time) -> Option<Time> {
    let keep = account.map_or(Duration::from_secs(7 * 86400), |account| {
        account.keep_retired_message_period
    });
    (!keep.is_zero()).then(|| now.after(keep))
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
        blames: false,
    }
}

pub(crate) fn event(
    message: &Queued,
    event: Event,
    status: &DeliveryStatus,
    now: Time,
) -> OutgoingEvent {
    let failed = !status.is_success();
    OutgoingEvent {
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
