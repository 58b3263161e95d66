//! Turns the result of an attempt into one change of state: retry or end, history, event, DSN.
//! There is no other place for this.

mod report;
mod times;

use std::time::Duration;

use postrider_config::{Account, Dynamic};
use postrider_observe::metrics::SuppressedBy;
use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode,
    bounce::{Class, Said},
    dsn::Action,
};
use postrider_store::{
    Attempt, Event, NewEvent, Outcome, OutgoingEvent, Party, Queued, Settle, Suppression, Time,
};
use tracing::debug;

use crate::{
    Queue, deadline,
    judge::{self, Block},
    observed::{self, AttemptOutcome},
    passed::is_sent,
    reports, route,
    schedule::{self, Wait},
    suppress::{Consequence, Failure, HeardFrom},
    told::{News, Settlement, Tidings, TraceOf},
    traces::{self, AttemptTrace},
};

pub use times::Outlook;

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
    /// False: the message ends without an attempt.
    pub(crate) tried: bool,
    /// The place of its trace among those of the delivery.
    pub(crate) trace: usize,
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

impl Fate {
    const fn attempt(&self) -> AttemptOutcome {
        match (self.event, self.outcome) {
            (Event::Delivered, _) => AttemptOutcome::Delivered,
            (_, Outcome::Retry(next)) => AttemptOutcome::Deferred(next),
            _ => AttemptOutcome::Failed,
        }
    }
}

impl Queue {
    /// The change of state after an attempt that has no trace yet.
    pub(crate) async fn settlement_alone(
        &self,
        config: &Dynamic,
        ended: EndedAttempt,
    ) -> Settlement {
        let trace = match ended.tried {
            true => TraceOf::Own(Box::new(self.trace_alone(&ended))),
            false => TraceOf::Alone,
        };
        self.settlement(config, ended).await.traced(trace)
    }

    /// The trace of an attempt that came to no host, or needed none.
    fn trace_alone(&self, ended: &EndedAttempt) -> AttemptTrace {
        let (message, status) = (&ended.message, &ended.status);
        let mut trace = AttemptTrace::start(&self.tracer, ended.start, &[message]);
        if trace.is_on() {
            let now = self.clock.now();
            trace.unplanned(now, message, status);
            trace.said(now.0, message, status);
        }
        trace
    }

    /// The change of state after an attempt.
    pub(crate) async fn settlement(&self, config: &Dynamic, ended: EndedAttempt) -> Settlement {
        let EndedAttempt {
            message,
            status,
            known,
            block,
            start,
            hop,
            tried,
            trace,
        } = ended;
        let status = judge::in_the_end(status, message.attempts);
        let now = self.clock.now();
        let (attempts, on_block) = (message.attempts, block.on_block);
        let waits = !status.is_success() && !judge::is_final(&status, known, attempts, on_block);
        let class = observed::class_of(&status, known);
        let (status, known) = match waits && self.is_expired(&message) {
            true => (expire(status), None),
            false => (status, known),
        };
        let account = config.accounts.get(&message.common.account);
        let said = (&status, known, block);
        let fate = self.fate(&message, account, said, hop, now).await;
        let took = now.since(start);
        let mut news = vec![News::Result {
            outcome: fate.attempt(),
            status: status.clone(),
            class,
            took: tried.then_some(took),
        }];
        let listed = fate.consequence.entry.iter().map(|entry| News::Listed {
            entry: entry.clone(),
            by: SuppressedBy::Reply,
        });
        news.extend(listed);
        let mut outgoing = event(&message, fate.event, &status, now);
        outgoing.suppressing = fate.consequence.entry.is_some();
        let mut settle = Settle {
            id: message.id,
            fence: message.fence,
            party: Party::Claimant,
            attempt: Some(Attempt {
                blames: fate.consequence.blames,
                ..attempt(&status, start, took)
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
            reports: Vec::new(),
            suppress: fate.consequence.entry.into_iter().collect(),
        };
        let into = (&mut settle, &mut news);
        self.add_event(config, &message, outgoing, into);
        if let Some((action, until)) = fate.report {
            let about = (action, &status, until);
            let into = (&mut settle, &mut news);
            self.add_report(config, &message, about, into).await;
        }
        if fate.event == Event::Failed {
            self.keep_untold(config, &message, &mut settle);
            self.report_failed(&message, &status).await;
        }
        let trace = TraceOf::Shared(trace);
        Settlement::new(settle, Tidings::new(message, now, news, trace))
    }

    /// What becomes of messages that no source was chosen for.
    pub(crate) fn usual_block(&self) -> Block {
        Block::of(self.statics.delivery.on_block)
    }

    /// The change of state for a message that was not attempted. It has an end nevertheless: when
    /// its time is over while its site fails, it fails. For any other reason, attempts count again
    /// when there was none for as long.
    pub(crate) async fn postponement(&self, config: &Dynamic, postponed: Postponed) -> Settlement {
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
                tried: false,
                trace: 0,
            };
            return self.settlement_alone(config, ended).await;
        }
        // What is to be told, and the end of the message, wait for no site.
        let told_at = deadline::told_at(&message, settings.delay_dsn_after + stood_still);
        let ends = failing.then(|| self.expires(&message));
        let tells = (!message.delay_told).then_some(told_at);
        let sooner = tells.into_iter().chain(ends).filter(|at| *at > now);
        let until = sooner.fold(until, Time::min);
        debug!(queue = message.id.0, next = %until, reason = %status, "postponed without an attempt");
        let mut news = Vec::new();
        if traces::is_worth_telling(attempted.max(first_due), now, until) {
            let reason = status.text.clone();
            news.push(News::Postponed { reason, until });
        }
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
            reports: Vec::new(),
            suppress: Vec::new(),
        };
        if now >= told_at && !message.delay_told {
            settle.delay_told = true;
            let account = config.accounts.get(&message.common.account);
            let outgoing = event(&message, Event::Delayed, &status, now);
            let into = (&mut settle, &mut news);
            self.add_event(config, &message, outgoing, into);
            if wants_delay_mail(&message, account) {
                let last = match failing {
                    true => self.expires(&message).max(until),
                    false => self.gives_up_at(&message, until),
                };
                let about = (Action::Delayed, &status, Some(last));
                let into = (&mut settle, &mut news);
                self.add_report(config, &message, about, into).await;
            }
        }
        Settlement::new(settle, Tidings::new(message, now, news, TraceOf::Alone))
    }

    /// The change of state for a message that missed its deadline: it fails without an attempt.
    pub(crate) async fn missed(
        &self,
        config: &Dynamic,
        message: Queued,
        status: DeliveryStatus,
    ) -> Settlement {
        let ended = EndedAttempt {
            message,
            status,
            known: None,
            block: self.usual_block(),
            start: self.clock.now(),
            hop: LastHop::SendsNoDsns,
            tried: false,
            trace: 0,
        };
        self.settlement_alone(config, ended).await
    }

    /// The change of state for a message whose recipient is on the suppression list: its end,
    /// without an attempt.
    pub(crate) async fn suppressed(
        &self,
        config: &Dynamic,
        message: Queued,
        entry: &Suppression,
    ) -> Settlement {
        let text = format!(
            "{} is on the suppression list since {} ({})",
            entry.original, entry.created, entry.reason
        );
        let status = DeliveryStatus::permanent(Cause::Local, EnhancedCode::UNKNOWN_MAILBOX, text);
        let reason = entry.reason.clone();
        let end = (Event::Suppressed, &status, Party::Claimant);
        self.end(config, message, end, News::Suppressed { reason })
            .await
    }

    /// The change of state when an administrator or an application ends a message: `Failed`, as if
    /// the delivery had failed, or `Canceled`. `text` says what `who` did.
    pub(crate) async fn ended(
        &self,
        config: &Dynamic,
        message: Queued,
        event: Event,
        (who, text): (&str, &str),
    ) -> Settlement {
        let status = ordered(text);
        let news = match event {
            Event::Canceled => News::Canceled {
                who: who.to_owned(),
                reason: text.to_owned(),
            },
            _ => News::Result {
                outcome: AttemptOutcome::Failed,
                status: status.clone(),
                class: None,
                took: None,
            },
        };
        let end = (event, &status, Party::Administrator);
        self.end(config, message, end, news).await
    }

    async fn end(
        &self,
        config: &Dynamic,
        message: Queued,
        (event, status, party): (Event, &DeliveryStatus, Party),
        news: News,
    ) -> Settlement {
        let mut news = vec![news];
        let now = self.clock.now();
        let account = config.accounts.get(&message.common.account);
        let mut outgoing = self::event(&message, event, status, now);
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
            reports: Vec::new(),
            suppress: Vec::new(),
        };
        let into = (&mut settle, &mut news);
        self.add_event(config, &message, outgoing, into);
        if event != Event::Canceled && wants_failure_mail(&message, account) {
            let about = (Action::Failed, status, None);
            let into = (&mut settle, &mut news);
            self.add_report(config, &message, about, into).await;
        }
        if event == Event::Failed {
            self.keep_untold(config, &message, &mut settle);
        }
        Settlement::new(settle, Tidings::new(message, now, news, TraceOf::Alone))
    }

    /// Keeps a message that was passed on, and of whose failure nobody hears.
    fn keep_untold(&self, config: &Dynamic, message: &Queued, settle: &mut Settle) {
        if settle.queue.is_empty() {
            let kept = self.kept_here(config, message, self.clock.now());
            settle.mails.extend(kept);
        }
    }

    fn add_event(
        &self,
        config: &Dynamic,
        message: &Queued,
        outgoing: OutgoingEvent,
        (settle, news): (&mut Settle, &mut Vec<News>),
    ) {
        if !is_sent(message) {
            return;
        }
        let name = &message.common.account;
        let account = config.accounts.get(name);
        news.push(News::Event(outgoing.event));
        let logged = logged(message, account, &outgoing);
        settle.events.extend(logged);
        let to = &message.recipient;
        let hook =
            account.and_then(|account| postrider_webhook::outgoing(name, account, to, outgoing));
        settle.hooks.extend(hook);
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
}

/// The status of a message that somebody ended, with the words of its history.
fn ordered(text: &str) -> DeliveryStatus {
    DeliveryStatus::permanent(Cause::Local, EnhancedCode::SYSTEM, text)
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
