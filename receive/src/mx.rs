//! The MX: mail from other mail servers for our own addresses.
//!
//! A recipient that is not ours is refused at RCPT. So nothing bounces later, and nothing is
//! relayed.

mod client;
mod hooked;
mod reported;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use bytes::Bytes;
use postrider_config::{Dynamic, HookStage};
use postrider_observe::metrics::{Listener, TimedCheck};
use postrider_queue::header::Header;
use postrider_smtp::{
    BodyType, Domain, Reply, ReversePath,
    bounce::Reading,
    sasl::{self, Login},
    server::{Client, Event, Handler, MailFrom, RcptTo, Transaction},
};
use postrider_store::{Accept, Accepted, NewText, StoreError, TextSource};
use tokio::sync::OnceCell;
use tracing::warn;

use crate::{
    SessionContext,
    checks::{Checked, ClientCheck, MessageChecks, plain_fields, results::without_forged},
    decide::{EndDecision, Role, Stage, Verdict, decide, decide_end},
    deliver::Incoming,
    facts::{Facts, LoginFacts, PlainField, RecipientFacts},
    forward::may_forward,
    hooks::{Command, SessionHooks},
    intake::{HeaderEdit, Intake, ReceivedText},
    junk::IncomingMail,
    login::PasswordCheck,
    observer::{CameIn, Observer, count_incoming, count_time, count_verdicts, incoming_events},
    reply::{no_message_reply, store_reply},
    resolve::asks_for_fields,
    scripted::{Asking, Source},
    slow::Mistakes,
    work::long_work,
};

/// The rules of a listener for its MX sessions.
#[derive(Clone, Debug, Default)]
pub struct MxRules {
    /// The DNSBL zones in which doubtful clients are looked up.
    pub dnsbls: Arc<[Domain]>,
    /// Mail is taken over TLS only.
    pub require_starttls: bool,
}

/// The policy of one MX session.
#[derive(Debug)]
pub struct MxSession {
    context: SessionContext,
    /// The host name of this listener.
    hostname: String,
    rules: MxRules,
    /// The unknown recipients that the client named.
    unknown: Mistakes,
    facts: Facts,
    /// The message that is coming in. Most sessions wait for one, so it is in a box, as the rest of
    /// what is known of a message.
    intake: Option<Box<Intake>>,
    /// The check of the client's names, under way since it connected. None for a client on this
    /// machine, and in localserve.
    names: Option<ClientCheck>,
    /// The checks that are under way since MAIL.
    checks: Option<Box<MessageChecks>>,
    /// The recipients of the transaction that the greylist refused.
    greylisted: u32,
    /// The client whose text is coming.
    remote: Option<IpAddr>,
    /// Whether accounts know good mail of the client, as far as they were asked in this
    /// transaction.
    met: HashMap<String, bool>,
    pub(crate) observer: Observer,
    /// The outside programs.
    pub(crate) hooks: SessionHooks,
}

impl MxSession {
    /// The policy of a new session.
    #[must_use]
    pub fn new(context: SessionContext, hostname: String) -> Self {
        Self {
            context,
            hostname,
            rules: MxRules::default(),
            unknown: Mistakes::default(),
            facts: Facts::default(),
            intake: None,
            names: None,
            checks: None,
            greylisted: 0,
            remote: None,
            met: HashMap::new(),
            observer: Observer::new(Listener::Smtp),
            hooks: SessionHooks::default(),
        }
    }

    /// The same with the rules of a listener.
    #[must_use]
    pub fn with_rules(self, rules: MxRules) -> Self {
        Self { rules, ..self }
    }

    fn decide(&self, stage: Stage<'_>) -> Verdict {
        let config = self.context.dynamic();
        decide(stage, &self.facts, &self.context.policy(Role::Mx, &config))
    }

    /// Adds what is known of the recipients at the end of the text only.
    async fn learn_of_recipients(
        &mut self,
        transaction: &Transaction,
        text: &NewText,
        reading: &OnceCell<Reading>,
    ) -> Result<(), StoreError> {
        let (context, config) = (&self.context, self.context.dynamic());
        let header = self.facts.header.as_ref();
        let path = &transaction.mail.reverse_path;
        let comes_as_report = *path == ReversePath::Null || header.is_some_and(Header::is_report);
        for recipient in &mut self.facts.recipients {
            add_usage(context, &config, recipient).await?;
            if comes_as_report {
                let read = || context.read_report(path, text);
                let reading = reading.get_or_init(read).await;
                add_answers(context, &config, recipient, reading).await?;
            }
        }
        Ok(())
    }

    /// Decides for each recipient. A client that `is_checked` is looked up where that is needed,
    /// and may have to wait.
    ///
    /// # Errors
    /// A refusal of the message for all recipients, of which nothing is kept.
    async fn decide_end(
        &mut self,
        client: &Client,
        transaction: &Transaction,
        text: &NewText,
        is_checked: bool,
        config: &Dynamic,
    ) -> Result<EndDecision, Reply> {
        self.decide(Stage::End(transaction)).answer()?;
        let policy = self.context.policy(Role::Mx, config);
        let decide_now = |facts: &Facts| {
            // The patterns of all rulesets look at the fields.
            let fields = facts.fields.iter().map(PlainField::size).sum::<usize>();
            let work = fields.saturating_mul(facts.recipients.len());
            long_work(work, || decide_end(transaction, facts, &policy))
        };
        let mut decision = decide_now(&self.facts);
        if decision.refusal.is_none() {
            let (context, facts) = (&self.context, &mut self.facts);
            let begun = context.clock.moment();
            let asked = ask_filters(context, config, facts, client, transaction, text, &decision);
            if asked.await.map_err(|error| store_reply(&error))? {
                let took = context.clock.moment().since(begun);
                count_time(&context.metrics, TimedCheck::Content, took);
            }
            decision = decide_now(&self.facts);
        }
        let zones = &self.rules.dnsbls;
        if is_checked
            && decision.is_unsure()
            && let Some(listed) =
                client::listed(&self.context, &mut self.observer, zones, client).await
        {
            let recipients = self.facts.recipients.iter_mut();
            let targets = recipients.flat_map(RecipientFacts::targets_mut);
            for junk in targets.filter_map(|target| target.junk.as_mut()) {
                junk.listed = Some(listed.clone());
            }
            decision = decide_now(&self.facts);
        }
        if decision.refusal.is_some() {
            return Ok(decision);
        }
        let time = self.context.statics.policy.first_time_sender_delay;
        if is_checked
            && !time.is_zero()
            && let Some(delivery) = decision.lets_wait(&self.facts, &policy)
        {
            let (context, begun) = (&self.context, self.context.clock.moment());
            context.guards.slow.wait(client.remote.ip(), time).await;
            let waited = context.clock.moment().since(begun);
            if let Some(party) = delivery.target(&self.facts) {
                self.observer.delayed(context, party, waited);
            }
        }
        Ok(decision)
    }

    /// The results of the checks that are under way.
    async fn end_checks(&mut self, text: &ReceivedText) -> Result<Checked, Reply> {
        let Some(checks) = self.checks.take() else {
            return Ok(Checked::default());
        };
        let trusted = &self.context.statics.policy.arc_trusted_sealers;
        let now = self.context.clock.now();
        let checked = checks.results(&text.body_hashes, trusted, now).await;
        checked.ok_or_else(no_message_reply)
    }

    /// Keeps what was made of a message. `staged` is the text of the report about success.
    async fn keep(
        &self,
        accept: Accept,
        staged: Option<TextSource>,
    ) -> Result<Accepted, StoreError> {
        let (store, metrics) = (&self.context.store, &self.context.metrics);
        let events = incoming_events(&accept.hooks);
        let accepted = store.accept(accept).await;
        if accepted.is_ok() {
            count_incoming(metrics, events);
        } else if let Some(TextSource::Existing(staged)) = staged
            && let Err(error) = store.unstage(vec![staged]).await
        {
            warn!(%error, "a text that nobody needs stays until the next start");
        }
        accepted
    }

    /// Begins a text.
    fn intake_for(&self, client: &Client, transaction: &Transaction) -> Intake {
        let context = &self.context;
        let limits = &context.statics.limits;
        let memory = context.memory.share(client.remote.ip());
        let intake = Intake::new(context.store.text_writer(), limits.header_size.0, memory);
        let intake = intake.with_limits(limits.mime());
        match transaction.mail.body {
            BodyType::BinaryMime => intake.binary(),
            BodyType::SevenBit | BodyType::EightBitMime => intake,
        }
    }

    /// Stores the message. The reply is positive only when the message is durable.
    async fn take(&mut self, client: &Client, transaction: &Transaction) -> Result<Reply, Reply> {
        let begun = self.context.clock.moment();
        let intake = self.intake.take().ok_or_else(no_message_reply)?;
        let (context, facts, checks) = (&self.context, &mut self.facts, &mut self.checks);
        let (text, _memory) = intake
            .finish(|section| read_header(context, facts, checks, section))
            .await?;
        let strangers = self.checks.as_ref().filter(|it| !it.is_of_this_machine());
        let is_checked = strangers.is_some();
        self.facts.size = Some(text.size);
        let checked = self.end_checks(&text).await?;
        self.observer
            .checked(&self.context, &checked.results, &checked.took);
        self.facts.authentication = Some(Box::new(checked.results));
        let hooked = self.hooked(client, transaction, text, checked.chain);
        let hooked = Box::pin(hooked).await?;
        let (transaction, text) = (&*hooked.transaction, hooked.text);
        if let Verdict::Discard(reply) = self.decide(Stage::End(transaction)) {
            self.dropped(client, transaction, text.size, begun);
            return Ok(reply);
        }
        let reading = OnceCell::new();
        let learnt = self.learn_of_recipients(transaction, &text.text, &reading);
        learnt.await.map_err(|error| store_reply(&error))?;
        self.count_for_accounts(client)?;
        // An account that is removed now still gets the mail that the decision gives it.
        let config = self.context.dynamic();
        let decision = self.decide_end(client, transaction, &text.text, is_checked, &config);
        let mut decision = decision.await?;
        let asking = Asking {
            config: &config,
            transaction,
            facts: &self.facts,
            size: text.size,
            may_refuse: true,
        };
        let source = Source::New(&text.text);
        let ran = self.context.run_scripts(&asking, source, &mut decision);
        let loaded = Box::pin(ran).await.map_err(|error| store_reply(&error))?;
        self.observer.decided(&self.context, &self.facts, &decision);
        if decision.refusal.is_some() {
            count_verdicts(&self.context.metrics, &decision.deliveries);
        }
        let seen = self.reported(client, transaction, &decision, &config);
        let incoming = Incoming {
            client,
            config: &config,
            hostname: &self.hostname,
            transaction,
            facts: &self.facts,
            text: &text,
            deliveries: &decision.deliveries,
            chain: hooked.chain.as_ref(),
            reading: &reading,
            queued: None,
        };
        let records = self.context.mailbox_records(incoming).await;
        let (mut accept, made, told) = records.map_err(|error| store_reply(&error))?;
        let has_rejects = !accept.rejects.is_empty();
        if let Some(refusal) = decision.refusal.as_ref().filter(|_| !has_rejects) {
            self.count_for_report(seen);
            return Err(self.refuse_explained(refusal, checked.spf.as_ref()).await);
        }
        let mut staged = None;
        if decision.refusal.is_none() {
            let report = self.context.success_report(&incoming).await;
            let report = report.map_err(|error| store_reply(&error))?;
            staged = report.as_ref().map(|report| report.text);
            accept.queue.extend(report);
        }
        accept.text = Some(text.text);
        let accepted = self.keep(accept, staged).await;
        if accepted.is_ok() {
            self.context.queue.tell(told);
        }
        if let Some(refusal) = &decision.refusal {
            // The sender learns of the refusal, so a copy of the mail is no promise.
            if let Err(error) = accepted {
                warn!(%error, "failed to keep refused mail");
            }
            self.count_for_report(seen);
            return Err(self.refuse_explained(refusal, checked.spf.as_ref()).await);
        }
        let accepted = accepted.map_err(|error| store_reply(&error))?;
        let answers = self
            .context
            .send_answers(&asking, &decision.deliveries, &loaded);
        Box::pin(answers).await;
        count_verdicts(&self.context.metrics, &decision.deliveries);
        self.count_for_report(seen);
        let took = self.context.clock.moment().since(begun);
        let mails: Vec<u64> = accepted.mails.iter().map(|id| id.0).collect();
        let queue: Vec<u64> = accepted.queue.iter().map(|id| id.0).collect();
        let came_in = CameIn {
            transaction,
            facts: &self.facts,
            deliveries: &decision.deliveries,
            made: &made,
            mails: &mails,
            queue: &queue,
            has_report: staged.is_some(),
            size: text.size,
            took,
        };
        self.observer.came_in(&self.context, client, &came_in);
        let hooks = &mut self.facts.hooks;
        Ok(hooks.reply_or(|| reply_to_taken(&mails, &queue)))
    }
}

/// The reply to a message that was taken, with the ids of its mails, or else of its messages in the
/// queue.
fn reply_to_taken(mails: &[u64], queue: &[u64]) -> Reply {
    let (what, ids) = match (mails, queue) {
        // The scripts of all recipients drop it.
        ([], []) => return Reply::ok("taken"),
        ([], queue) => ("queued", queue),
        (mails, _) => ("delivered", mails),
    };
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    Reply::ok(format!("{what} as {}", ids.join(",")))
}

/// Adds how much mail the accounts of a recipient have, as far as they have a quota.
pub(crate) async fn add_usage(
    context: &SessionContext,
    config: &Dynamic,
    recipient: &mut RecipientFacts,
) -> Result<(), StoreError> {
    for target in recipient.targets_mut() {
        let account = config.accounts.get(&target.account);
        target.used = match account.and_then(|account| account.quota) {
            Some(_) => Some(context.store.mail_usage(&target.account).await?.bytes),
            None => None,
        };
    }
    Ok(())
}

/// Adds whether a message that came as a report answers mail of the recipient's accounts.
pub(crate) async fn add_answers(
    context: &SessionContext,
    config: &Dynamic,
    recipient: &mut RecipientFacts,
    reading: &Reading,
) -> Result<(), StoreError> {
    let queue = &context.queue;
    let to_sender = queue.is_return_address(config, &recipient.address);
    recipient.may_answer_our_mail = to_sender.await?;
    recipient.answers_our_mail = match reading {
        Reading::Report(_) | Reading::Unusable(_) if recipient.may_answer_our_mail => true,
        Reading::Report(report) => {
            let mut is_known = false;
            for target in recipient.targets() {
                is_known = is_known || queue.knows_envid(&target.account, report).await?;
            }
            is_known
        }
        Reading::Unusable(_) | Reading::Complaint(_) | Reading::Other => false,
    };
    Ok(())
}

/// Adds what the junk filters of the accounts know of the message, for the targets that would take
/// it otherwise: filters are much work. Localserve has none. Gives whether a filter was asked.
async fn ask_filters(
    context: &SessionContext,
    config: &Dynamic,
    facts: &mut Facts,
    client: &Client,
    transaction: &Transaction,
    text: &NewText,
    decision: &EndDecision,
) -> Result<bool, StoreError> {
    if context.simulate {
        return Ok(false);
    }
    let reverse_path = &transaction.mail.reverse_path;
    let mut mail = IncomingMail::new(context, client, reverse_path, facts, text);
    let mut asked = Vec::new();
    for delivery in decision.deliveries.iter().filter(|it| it.asks_the_filter()) {
        if let Some((recipient, target)) = delivery.target(facts) {
            let forwarder = delivery.forwarder.as_ref();
            let known = mail.known_to(config, recipient, target, forwarder);
            asked.push((delivery, known.await?));
        }
    }
    let is_asked = !asked.is_empty();
    for (delivery, known) in asked {
        if let Some(target) = delivery.target_mut(facts) {
            target.junk = known.map(Box::new);
        }
    }
    Ok(is_asked)
}

/// Adds the header section to the facts, without the fields that pretend to be ours, and decides
/// about it. The checks get it as it came.
fn read_header(
    context: &SessionContext,
    facts: &mut Facts,
    checks: &mut Option<Box<MessageChecks>>,
    section: &Bytes,
) -> Result<HeaderEdit, Reply> {
    let changed = long_work(section.len(), || {
        without_forged(section, &context.host_names())
    });
    let held = read_clean(context, facts, changed.as_deref().unwrap_or(section))?;
    let has_id = facts
        .header
        .as_ref()
        .is_some_and(|header| !header.message_id().is_empty());
    let (config, now) = (context.dynamic(), context.clock.now());
    let forwards = may_forward(&config, &facts.recipients);
    let needs = checks.as_mut().map(|checks| {
        let trusted = &context.statics.policy.arc_trusted_sealers;
        let read = || checks.header(section, trusted, forwards, now);
        long_work(section.len(), read)
    });
    let needs = needs.unwrap_or_default();
    Ok(HeaderEdit {
        section: changed,
        body_forms: needs.body_forms,
        kept: needs.kept + held,
        fingerprint: !has_id,
        ..HeaderEdit::default()
    })
}

/// Adds a header section to the facts, and decides about it. Gives the bytes that the facts keep.
fn read_clean(context: &SessionContext, facts: &mut Facts, section: &[u8]) -> Result<usize, Reply> {
    facts.header = Some(long_work(section.len(), || Header::scan(section)));
    let config = context.dynamic();
    let policy = context.policy(Role::Mx, &config);
    decide(Stage::Header, facts, &policy).answer()?;
    if asks_for_fields(&config, &facts.recipients) {
        facts.fields = long_work(section.len(), || plain_fields(section));
    }
    Ok(facts.fields.iter().map(PlainField::size).sum())
}

impl Handler for MxSession {
    async fn greeting(&mut self, client: &Client) -> Result<(), Reply> {
        self.connected(client)?;
        self.ask_about_client(client).await
    }

    async fn hello(&mut self, client: &Client, name: &str) -> Result<(), Reply> {
        let command = Command::of_session(HookStage::Ehlo, client);
        let helo = Some(name);
        self.ask_hooks(Command { helo, ..command }).await
    }

    async fn login(&mut self, _: &Client, _: &Login) -> sasl::Verdict {
        let login = LoginFacts {
            account: None,
            check: PasswordCheck::Wrong,
            acts_as_other: false,
        };
        let verdict = self.decide(Stage::Login(&login)).answer();
        verdict.map(|()| String::new())
    }

    async fn mail(&mut self, client: &Client, mail: &MailFrom) -> Result<(), Reply> {
        self.facts.size = mail.size;
        let begun = self.begin(client, mail).await;
        // No transaction begins.
        begun.inspect_err(|_| self.reset())?;
        let command = Command {
            mail: Some(mail),
            ..Command::of_session(HookStage::Mail, client)
        };
        let asked = self.ask_hooks(command).await;
        asked.inspect_err(|_| self.reset())?;
        self.observer.mail(&self.context, client, mail);
        Ok(())
    }

    async fn rcpt(
        &mut self,
        client: &Client,
        transaction: &Transaction,
        rcpt: &RcptTo,
    ) -> Result<(), Reply> {
        let config = self.context.dynamic();
        let from = &transaction.mail.reverse_path;
        let recipient = match self.known_recipient(client, &config, from, rcpt).await {
            Ok(recipient) => recipient,
            Err(reply) => {
                let (context, observer) = (&self.context, &mut self.observer);
                let about = (transaction, rcpt);
                let refused = self.hooks.refused(context, observer, client, about, reply);
                return Err(refused.await);
            }
        };
        self.unknown.good();
        self.ask_about_recipient(client, transaction, rcpt).await?;
        self.ask_greylist(client, from, &recipient, &config).await?;
        self.facts.recipients.push(recipient);
        self.observer.rcpt(&self.context, rcpt);
        Ok(())
    }

    async fn data(&mut self, client: &Client, transaction: &Transaction) -> Result<(), Reply> {
        let intake = self.intake_for(client, transaction);
        self.intake = Some(Box::new(intake));
        self.remote = Some(client.remote.ip());
        Ok(())
    }

    async fn text(&mut self, piece: &[u8]) -> Result<(), Reply> {
        if let Err(refusal) = self.count_bytes(piece.len()) {
            (self.intake, self.checks) = (None, None);
            return Err(refusal);
        }
        let intake = self.intake.as_mut().ok_or_else(no_message_reply)?;
        let (context, facts, checks) = (&self.context, &mut self.facts, &mut self.checks);
        let written = intake
            .write(piece, |section| {
                read_header(context, facts, checks, section)
            })
            .await;
        // The rest of a refused text is dropped.
        written.inspect_err(|_| (self.intake, self.checks) = (None, None))
    }

    async fn end(&mut self, client: &Client, transaction: &Transaction) -> Reply {
        let reply = self
            .take(client, transaction)
            .await
            .unwrap_or_else(|refusal| refusal);
        self.reset();
        reply
    }

    fn reset(&mut self) {
        self.facts.reset();
        self.hooks.reset();
        self.intake = None;
        self.checks = None;
        self.greylisted = 0;
        self.remote = None;
        self.met.clear();
    }

    fn restart(&mut self) {
        self.reset();
        self.hooks.restart();
        self.facts = Facts::default();
        self.unknown = Mistakes::default();
    }

    fn happened(&mut self, client: &Client, event: &Event) {
        self.observer.happened(&self.context, client, event);
    }
}
