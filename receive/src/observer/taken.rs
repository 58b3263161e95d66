//! The decision about a message, and what becomes of it.

use std::time::Duration;

use postrider_observe::{
    metrics::{By, Event, Label, Metrics, Verdict as Outcomes},
    millis,
    trace::{EventType, Keep, Key, Term},
};
use postrider_queue::header::Header;
use postrider_smtp::{
    FirstOf, ForwardPath, ShownIds,
    server::{Client, Transaction},
};
use postrider_store::{NewHook, NewHookKind};
use tracing::{debug, info};

use super::{Observer, given};
use crate::{
    SessionContext,
    decide::{Delivery, EndDecision, Outcome, Refusal, Suspicion},
    deliver::Made,
    facts::Facts,
    junk::Acceptance,
    sieve,
};

/// The most deliveries of a message that its trace tells of. A list may have many members.
const SHOWN: usize = 20;

/// A message that was taken, for its line of the log.
#[derive(Debug)]
pub(crate) struct TakenMessage<'a> {
    pub(crate) by: By,
    pub(crate) transaction: &'a Transaction,
    /// The account that sent the message, or those that got it.
    pub(crate) account: String,
    /// The ids of the messages in the queue.
    pub(crate) queue: &'a [u64],
    /// The ids of the mails in mailboxes.
    pub(crate) mails: &'a [u64],
    pub(crate) message_id: &'a str,
    pub(crate) size: u64,
    /// What the decision was. Empty: there was none.
    pub(crate) verdict: &'static str,
    /// The time from the last byte of the message on.
    pub(crate) took: Duration,
}

/// What became of a message that came in from outside.
#[derive(Debug)]
pub(crate) struct CameIn<'a> {
    pub(crate) transaction: &'a Transaction,
    pub(crate) facts: &'a Facts,
    pub(crate) deliveries: &'a [Delivery],
    /// The mails in mailboxes, and their ids.
    pub(crate) made: &'a [Made],
    pub(crate) mails: &'a [u64],
    /// The ids of the messages in the queue.
    pub(crate) queue: &'a [u64],
    /// The last of them is the report about success.
    pub(crate) has_report: bool,
    pub(crate) size: u64,
    /// The time from the last byte of the message on.
    pub(crate) took: Duration,
}

impl TakenMessage<'_> {
    /// Counts the message.
    pub(crate) fn count(&self, metrics: &Metrics) {
        let counts = (1, self.transaction.recipients.len());
        metrics.count_accepted(self.by, counts, self.size, Some(self.took));
    }

    /// Writes the line of a message of our own queue that goes to a mailbox of ours. No client
    /// brought it.
    pub(crate) fn tell_of_our_own(&self) {
        info!(
            by = self.by.text(),
            account = given(&self.account),
            from = %self.transaction.mail.reverse_path,
            to = self.transaction.shown_recipients(),
            queue = ShownIds::of(self.queue).value(),
            message_id = given(self.message_id),
            size = self.size,
            verdict = given(self.verdict),
            elapsed_ms = millis(self.took),
            "accepted"
        );
    }
}

impl Observer {
    /// What was decided about a message, for each recipient.
    pub(crate) fn decided(
        &mut self,
        context: &SessionContext,
        facts: &Facts,
        decision: &EndDecision,
    ) {
        if decision.deliveries.iter().any(Delivery::is_junk) {
            self.keep = Keep::Always;
        }
        for delivery in decision.deliveries.iter().take(SHOWN) {
            if let Some(party) = delivery.target(facts) {
                self.classified(context, party);
            }
            self.decided_one(context, facts, delivery);
        }
    }

    fn decided_one(&mut self, context: &SessionContext, facts: &Facts, delivery: &Delivery) {
        let Some((recipient, target)) = delivery.target(facts) else {
            return;
        };
        let decided = Decided::of(delivery);
        let (to, account) = (&recipient.address, &target.account);
        let Decided {
            result,
            rule,
            details,
        } = decided;
        debug!(%to, account, result, rule, details, "decided");
        self.add(context, EventType::PostriderDecision, |data| {
            data.display(Key::To, to);
            data.text(Key::AccountName, account);
            data.text(Key::Result, result);
            data.text(Key::Rule, rule);
            if let Some(differs) = &delivery.differs {
                data.text(Key::Policy, differs);
            }
            if let Outcome::Refused(refusal) | Outcome::Rejects { refusal, .. } = &delivery.outcome
            {
                data.number(Key::Code, refusal.reply().code().get().into());
            }
            data.text_if_any(Key::Details, details);
        });
        for acted in delivery
            .scripted
            .iter()
            .flat_map(|scripted| &scripted.acted)
        {
            self.add(context, EventType::PostriderScript, |data| {
                data.text(Key::AccountName, account);
                data.text(Key::Rule, &acted.script);
                data.text(Key::Details, &acted.did.join(", "));
            });
        }
    }

    /// A message came in from outside, and is in mailboxes and in the queue.
    pub(crate) fn came_in(
        &mut self,
        context: &SessionContext,
        client: &Client,
        came_in: &CameIn<'_>,
    ) {
        let CameIn {
            facts, made, queue, ..
        } = *came_in;
        let mut accounts: Vec<&str> = made.iter().map(|made| made.account.as_str()).collect();
        accounts.dedup();
        let taken = TakenMessage {
            by: By::Smtp,
            transaction: came_in.transaction,
            account: FirstOf(accounts.iter()).to_string(),
            queue,
            mails: came_in.mails,
            message_id: facts.header.as_ref().map_or("", Header::message_id),
            size: came_in.size,
            verdict: shown_verdict(came_in.deliveries),
            took: came_in.took,
        };
        self.taken(context, client, &taken);
        for made in made {
            let party = (made.account.as_str(), made.to.as_str());
            self.delivered(context, party, made.junk, &taken);
        }
        for id in queue {
            let event = match came_in.has_report && queue.last() == Some(id) {
                true => EventType::QueueQueueDsn,
                false => EventType::QueueQueueMessage,
            };
            self.queued(context, event, *id, None, &taken);
        }
    }

    /// A message was taken: its line of the log, its counts, and the index of its trace.
    pub(crate) fn taken(
        &mut self,
        context: &SessionContext,
        client: &Client,
        taken: &TakenMessage<'_>,
    ) {
        taken.count(&context.metrics);
        let elapsed = context.clock.moment().since(self.began);
        let (queue, mail) = (ShownIds::of(taken.queue), ShownIds::of(taken.mails));
        info!(
            session = %client.name(),
            by = taken.by.text(),
            remote = %client.remote.ip().to_canonical(),
            helo = client.helo.as_deref(),
            tls = client.tls.as_ref().map(|tls| tls.version.as_str()),
            account = given(&taken.account),
            login = client.login.as_deref(),
            from = %taken.transaction.mail.reverse_path,
            to = taken.transaction.shown_recipients(),
            queue = queue.value(),
            mail = mail.value(),
            message_id = given(taken.message_id),
            size = taken.size,
            verdict = given(taken.verdict),
            elapsed_ms = millis(elapsed),
            "accepted"
        );
        if self.trace.is_on() && !taken.message_id.is_empty() {
            self.trace.index(Term::MessageId(taken.message_id));
        }
    }

    /// A message was dropped, since an outside program wants that. The client thinks that it was
    /// taken.
    pub(crate) fn dropped(
        &mut self,
        context: &SessionContext,
        client: &Client,
        taken: &TakenMessage<'_>,
    ) {
        self.keep = Keep::Always;
        let verdicts = &context.metrics.verdicts_total;
        verdicts.with(Outcomes::Discarded).inc();
        self.taken(context, client, taken);
        self.add(context, EventType::PostriderDecision, |data| {
            data.text(Key::Result, Outcomes::Discarded.text());
            data.text(Key::Rule, Suspicion::Hook.name());
        });
    }

    /// A message is in the queue.
    pub(crate) fn queued(
        &mut self,
        context: &SessionContext,
        event: EventType,
        id: u64,
        to: Option<&ForwardPath>,
        taken: &TakenMessage<'_>,
    ) {
        if !self.trace.is_on() {
            return;
        }
        self.trace.index(Term::Queue(id));
        self.add(context, event, |data| {
            data.number(Key::QueueId, id);
            data.display(Key::From, &taken.transaction.mail.reverse_path);
            if let Some(to) = to {
                data.display(Key::To, to);
            }
            data.number(Key::Size, taken.size);
            data.text_if_any(Key::MessageId, taken.message_id);
            data.text_if_any(Key::AccountName, &taken.account);
        });
    }

    /// A mail is in a mailbox. `junk` says why it is junk.
    fn delivered(
        &mut self,
        context: &SessionContext,
        (account, to): (&str, &str),
        junk: Option<Suspicion>,
        taken: &TakenMessage<'_>,
    ) {
        let event = match junk {
            Some(_) => EventType::MessageIngestSpam,
            None => EventType::MessageIngestHam,
        };
        if self.trace.is_on() {
            self.trace.index(Term::Account(account));
        }
        self.add(context, event, |data| {
            data.text(Key::AccountName, account);
            data.text(Key::To, to);
            data.number(Key::Size, taken.size);
            data.text_if_any(Key::MessageId, taken.message_id);
            if let Some(junk) = junk {
                data.text(Key::Reason, junk.as_str());
            }
        });
    }
}

/// Counts what becomes of a message, for each delivery.
pub(crate) fn count_verdicts(metrics: &Metrics, deliveries: &[Delivery]) {
    for delivery in deliveries {
        if let Some(verdict) = verdict_of(delivery) {
            metrics.verdicts_total.with(verdict).inc();
        }
    }
}

/// How many applications a change tells of mail that came in.
pub(crate) fn incoming_events(hooks: &[NewHook]) -> u64 {
    let kinds = hooks.iter().map(|hook| &hook.kind);
    let incoming = kinds.filter(|kind| matches!(kind, NewHookKind::Incoming(_)));
    u64::try_from(incoming.count()).unwrap_or(u64::MAX)
}

/// Counts these events.
pub(crate) fn count_incoming(metrics: &Metrics, events: u64) {
    metrics.events_total.with(Event::Incoming).add(events);
}

/// What becomes of a message. None: a member of a list gets no copy.
fn verdict_of(delivery: &Delivery) -> Option<Outcomes> {
    Some(match &delivery.outcome {
        Outcome::Mailbox { junk: Some(_), .. } | Outcome::Lmtp { junk: Some(_), .. } => {
            Outcomes::Junk
        }
        Outcome::Mailbox { .. }
            if delivery
                .scripted()
                .is_some_and(sieve::Outcome::is_discarded) =>
        {
            Outcomes::Discarded
        }
        Outcome::Mailbox { .. }
        | Outcome::Lmtp { .. }
        | Outcome::Forward(_)
        | Outcome::Relay(_) => Outcomes::Inbox,
        Outcome::Held => Outcomes::Held,
        Outcome::Rejects { .. } => Outcomes::Rejects,
        Outcome::Refused(refusal) if refusal.reply().code().is_transient() => Outcomes::Deferred,
        Outcome::Refused(_) => Outcomes::Refused,
        Outcome::Skipped(_) => return None,
    })
}

/// The verdict about a message that somebody takes, for the log.
pub(crate) fn shown_verdict(deliveries: &[Delivery]) -> &'static str {
    let verdicts = || deliveries.iter().filter_map(verdict_of);
    let is_there = |wanted| verdicts().any(|verdict| verdict == wanted);
    let shown = [
        Outcomes::Inbox,
        Outcomes::Junk,
        Outcomes::Held,
        Outcomes::Rejects,
        Outcomes::Discarded,
    ];
    let shown = shown.into_iter().find(|wanted| is_there(*wanted));
    shown.map_or("", Label::text)
}

/// A decision in words.
struct Decided {
    result: &'static str,
    /// The rule that decided.
    rule: &'static str,
    /// The rule in a sentence. Empty: the rule says it all.
    details: &'static str,
}

impl Decided {
    fn of(delivery: &Delivery) -> Self {
        let good = |result| Self {
            result,
            rule: match delivery.acceptance {
                Acceptance::Known => "known",
                Acceptance::Unsure => "unsure",
                Acceptance::Stranger => "stranger",
            },
            details: "",
        };
        let junk = |junk: &Suspicion| Self {
            result: "junk",
            rule: junk.name(),
            details: junk.as_str(),
        };
        let refused = |result, refusal: &Refusal| Self {
            result,
            rule: refusal.name(),
            details: "",
        };
        match &delivery.outcome {
            Outcome::Mailbox { junk: Some(it), .. } | Outcome::Lmtp { junk: Some(it), .. } => {
                junk(it)
            }
            Outcome::Mailbox { .. } => good("inbox"),
            Outcome::Lmtp { .. } => good("lmtp"),
            Outcome::Forward(_) => good("forward"),
            Outcome::Held => Self {
                result: "held",
                rule: Suspicion::Hook.name(),
                details: Suspicion::Hook.as_str(),
            },
            Outcome::Relay(_) => Self {
                result: "relay",
                rule: "return_address",
                details: "",
            },
            Outcome::Rejects { refusal, .. } => refused("rejects", refusal),
            Outcome::Refused(refusal) => refused("refused", refusal),
            Outcome::Skipped(skip) => Self {
                result: "skipped",
                rule: skip.name(),
                details: "",
            },
        }
    }
}
