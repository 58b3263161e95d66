//! Submission: mail from applications and people with a login (RFC 6409).
//!
//! A login sends only from the addresses of its account. Required fields that are missing are
//! added.

mod header_section;
mod hooked;
mod login;
mod urgency;

use std::collections::BTreeSet;

use postrider_config::{Dynamic, HookStage};
use postrider_observe::{
    metrics::{By, Listener},
    trace::EventType,
};
use postrider_queue::{
    AddError, LimitError, SubmittedRecipient,
    header::{self, Received},
};
use postrider_smtp::{
    EnhancedCode, ForwardPath, Notify, Reply, ReplyCode, Ret, ReversePath,
    convert::TextNeeds,
    sasl::{Login, ScramOffer, ScramRequest, Verdict},
    server::{Client, Event, Handler, MailFrom, RcptTo, Transaction},
};
use postrider_store::{Moment, Time, Top};

use self::{
    header_section::{Fields, complete_header},
    login::ScramExchange,
};
use crate::{
    SessionContext,
    decide::{self, Refusal, Role, Stage, decide},
    facts::{Facts, LoggedIn, RecipientFacts, Resolution},
    hooks::{Command, SessionHooks},
    intake::{Intake, ReceivedText},
    observer::{Observer, TakenMessage},
    refusals::reason,
    reply::{no_message_reply, store_reply},
    resolve::{address_of, resolve},
    slow::Mistakes,
    work::long_work,
};

/// The policy of one submission session.
#[derive(Debug)]
pub struct SubmissionSession {
    context: SessionContext,
    /// The host name of this listener.
    hostname: String,
    /// The connection was counted before its handshake.
    counted: bool,
    facts: Facts,
    /// The logins that failed.
    failed: Mistakes,
    /// The exchange of SCRAM that is under way.
    exchange: Option<ScramExchange>,
    message: Option<Message>,
    pub(crate) observer: Observer,
    /// The outside programs.
    pub(crate) hooks: SessionHooks,
}

/// A message that is coming in.
#[derive(Debug)]
struct Message {
    intake: Intake,
    fields: Fields,
}

impl SubmissionSession {
    /// The policy of a new session.
    #[must_use]
    pub fn new(context: SessionContext, hostname: String) -> Self {
        Self {
            observer: Observer::new(Listener::Submission),
            context,
            hostname,
            counted: false,
            facts: Facts::default(),
            failed: Mistakes::default(),
            exchange: None,
            message: None,
            hooks: SessionHooks::default(),
        }
    }

    /// The same on a connection that begins with TLS.
    #[must_use]
    pub fn under_tls(self) -> Self {
        Self {
            observer: Observer::new(Listener::Submissions),
            ..self
        }
    }

    /// The same on a port for HTTPS, which counts its handshakes itself.
    #[must_use]
    pub fn on_https(self) -> Self {
        Self {
            observer: Observer::new(Listener::Https),
            ..self
        }
    }

    fn decide(&self, stage: Stage<'_>) -> decide::Verdict {
        let config = self.context.dynamic();
        let policy = self.context.policy(Role::Submission, &config);
        decide(stage, &self.facts, &policy)
    }

    /// The reply to a failed login, whosever fault it is. Who tries on waits longer each time.
    async fn refuse_login(&mut self, client: &Client, reply: Reply) -> Reply {
        match self.context.punish(client, &mut self.failed).await {
            true => Refusal::TooManyFailedLogins.reply(),
            false => reply,
        }
    }

    /// Queues the message. The reply is positive only when the message is durable.
    async fn take(&mut self, client: &Client, transaction: &Transaction) -> Result<Reply, Reply> {
        let begun = self.context.clock.moment();
        let Message { intake, mut fields } = self.message.take().ok_or_else(no_message_reply)?;
        let (context, facts) = (&self.context, &mut self.facts);
        let (text, _memory) = intake
            .finish(|section| {
                let complete = || complete_header(context, facts, section, &mut fields);
                long_work(section.len(), complete)
            })
            .await?;
        let hooked = self.hooked(client, transaction, text, fields);
        let hooked = Box::pin(hooked).await?;
        let (transaction, text, fields) = (&*hooked.transaction, hooked.text, hooked.fields);
        match self.decide(Stage::End(transaction)) {
            decide::Verdict::Discard(reply) => {
                self.dropped(client, transaction, &fields, text.size, begun);
                return Ok(reply);
            }
            verdict => verdict.answer()?,
        }
        let login = self.logged_in()?;
        let top = self.trace(client, transaction);
        let now = self.context.clock.now();
        let submission = submission(login, transaction, top, text, fields, now);
        let submission = postrider_queue::Submission {
            // A message that leaves has no junk mailbox.
            hold: self.facts.hooks.quarantine.is_some(),
            ..submission
        };
        let recipients = submission.recipients.iter();
        // The queue takes each of them once.
        let recipients: BTreeSet<_> = recipients.map(|to| to.address.clone()).collect();
        let recipients = recipients.into_iter().collect();
        let queue = &self.context.queue;
        let allowed = queue.allow(&login.account, recipients, None).await;
        let allowance = allowed.map_err(|error| limit_reply(&error))?;
        let (message_id, size) = (submission.message_id.clone(), submission.size);
        let account = submission.account.clone();
        let added = self.context.queue.add(submission).await;
        let added = added.map_err(|error| add_reply(&error))?;
        drop(allowance);
        let ids: Vec<u64> = added.iter().map(|added| added.id.0).collect();
        let taken = TakenMessage {
            by: By::Submission,
            transaction,
            account,
            queue: &ids,
            mails: &[],
            message_id: &message_id,
            size,
            verdict: "",
            took: self.context.clock.moment().since(begun),
        };
        self.observer.taken(&self.context, client, &taken);
        let mut recipients = transaction.recipients.iter();
        for id in &ids {
            // Each has one, unless a recipient was named twice.
            let to = recipients
                .next()
                .filter(|_| ids.len() == transaction.recipients.len());
            let to = to.map(|rcpt| &rcpt.forward_path);
            let event = EventType::QueueQueueMessageAuthenticated;
            self.observer.queued(&self.context, event, *id, to, &taken);
        }
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let usual = || Reply::ok(format!("queued as {}", ids.join(",")));
        Ok(self.facts.hooks.reply_or(usual))
    }

    /// A message is dropped, since a program wants that.
    fn dropped(
        &mut self,
        client: &Client,
        transaction: &Transaction,
        fields: &Fields,
        size: u64,
        begun: Moment,
    ) {
        let login = self.facts.login.as_ref();
        let taken = TakenMessage {
            by: By::Submission,
            transaction,
            account: login.map_or_else(String::new, |login| login.account.clone()),
            queue: &[],
            mails: &[],
            message_id: &fields.message_id,
            size,
            verdict: "discarded",
            took: self.context.clock.moment().since(begun),
        };
        self.observer.dropped(&self.context, client, &taken);
    }

    /// Begins a text.
    fn intake_for(&self, client: &Client) -> Intake {
        let context = &self.context;
        let limits = &context.statics.limits;
        let memory = context.memory.share(client.remote.ip());
        let intake = Intake::new(context.store.text_writer(), limits.header_size.0, memory);
        intake.with_limits(limits.mime())
    }

    /// The trace field for the top of the message: Received (RFC 5321 §4.4).
    fn trace(&self, client: &Client, transaction: &Transaction) -> Top {
        let id = client.name().to_string();
        let now = self.context.clock.now();
        let received = Received::smtp(&self.hostname, client, transaction, id, now);
        Top::new(received.to_string()).unwrap_or_default()
    }

    /// A route leads the mail of this account for the recipient's domain to another server.
    fn is_routed(&self, config: &Dynamic, from: &ReversePath, rcpt: &RcptTo) -> bool {
        let account = self
            .facts
            .login
            .as_ref()
            .map(|login| login.account.as_str());
        let to = rcpt.forward_path.address().and_then(|to| to.host.domain());
        let from = from.address().and_then(|from| from.host.domain());
        let route = account.and_then(|account| config.routes_for(account, from, to, 0));
        route.is_some()
    }

    fn logged_in(&self) -> Result<&LoggedIn, Reply> {
        let login = self.facts.login.as_ref();
        login.ok_or_else(|| Refusal::LoginRequired.reply())
    }
}

fn submission(
    login: &LoggedIn,
    transaction: &Transaction,
    top: Top,
    text: ReceivedText,
    fields: Fields,
    now: Time,
) -> postrider_queue::Submission {
    let mail = &transaction.mail;
    let recipients = transaction
        .recipients
        .iter()
        .filter_map(|rcpt| match &rcpt.forward_path {
            ForwardPath::Mailbox(address) => Some(SubmittedRecipient {
                address: address.clone(),
                notify: rcpt.notify.map(stored_notify).unwrap_or_default(),
                orcpt: rcpt.orcpt.clone().unwrap_or_default(),
            }),
            ForwardPath::Postmaster => None,
        });
    postrider_queue::Submission {
        account: login.account.clone(),
        login: Some(login.address.clone()),
        reverse_path: mail.reverse_path.clone(),
        own_from_id: true,
        recipients: recipients.collect(),
        needs: text.needs.and(TextNeeds::of(top.bytes())),
        top: fields.track.mark(top),
        text: text.text,
        size: text.size,
        message_id: fields.message_id,
        subject: fields.subject,
        from: fields.author,
        // Many clients say SMTPUTF8 with each message, so that proves no need. The addresses of the
        // envelope are looked at when it is sent.
        smtputf8: fields.smtputf8,
        require_tls: header::requested_tls(mail.require_tls, fields.waives_tls),
        not_before: urgency::not_before(&mail.delivery, now),
        hold: false,
        future_release: mail
            .delivery
            .hold
            .map(|it| it.to_string())
            .unwrap_or_default(),
        urgency: urgency::stored(&mail.delivery, now),
        extra: fields.extra,
        ret_full: mail.ret.map(|ret| ret == Ret::Full),
        envid: mail.envid.clone().unwrap_or_default(),
        list: String::new(),
        once: None,
    }
}

pub(crate) const fn stored_notify(notify: Notify) -> postrider_store::Notify {
    postrider_store::Notify {
        success: notify.success,
        failure: notify.failure,
        delay: notify.delay,
        given: true,
    }
}

fn limit_reply(error: &LimitError) -> Reply {
    match error {
        LimitError::Store(error) => store_reply(error),
        error => Reply::new(
            ReplyCode::LOCAL_ERROR,
            Some(EnhancedCode::SECURITY_TRANSIENT),
            error.to_string(),
        )
        .because(reason::ACCOUNT_LIMIT),
    }
}

fn add_reply(error: &AddError) -> Reply {
    let enhanced = match error {
        AddError::Store(error) => return store_reply(error),
        AddError::FromIdRecipients => EnhancedCode::TOO_MANY_RECIPIENTS,
        AddError::FromIdInUse(_) => EnhancedCode::BAD_SENDER_SYNTAX,
        AddError::NoRecipients | AddError::AccountGone | AddError::DoneBefore => {
            EnhancedCode::PROTOCOL
        }
    };
    Reply::new(
        ReplyCode::TRANSACTION_FAILED,
        Some(enhanced),
        error.to_string(),
    )
    .because(reason::SUBMISSION)
}

impl Handler for SubmissionSession {
    fn connecting(&mut self, client: &Client) -> Result<(), Reply> {
        self.counted = true;
        self.context.count_connection(client)
    }

    async fn greeting(&mut self, client: &Client) -> Result<(), Reply> {
        // Behind XCLIENT comes another client.
        if !std::mem::take(&mut self.counted) {
            self.context.count_connection(client)?;
        }
        self.ask_about_client(client).await
    }

    async fn hello(&mut self, client: &Client, name: &str) -> Result<(), Reply> {
        let command = Command::of_session(HookStage::Ehlo, client);
        let helo = Some(name);
        self.ask_hooks(Command { helo, ..command }).await
    }

    async fn scram_keys(
        &mut self,
        client: &Client,
        request: &ScramRequest,
    ) -> Result<ScramOffer, Reply> {
        match self.offer(client, request).await {
            Ok(offer) => Ok(offer),
            Err(reply) => Err(self.refuse_login(client, reply).await),
        }
    }

    async fn login(&mut self, client: &Client, login: &Login) -> Verdict {
        let found = match self.verify(client, login).await {
            Ok(found) => found,
            Err(reply) => return Err(self.refuse_login(client, reply).await),
        };
        // The session has the name that the client gave.
        let user = match login.user.as_str() {
            "" => found.address.to_string(),
            user => user.to_owned(),
        };
        self.ask_about_login(client, &user, login).await?;
        self.observer
            .logged_in(&self.context, client, login, &found);
        self.facts.login = Some(found);
        Ok(user)
    }

    async fn mail(&mut self, client: &Client, mail: &MailFrom) -> Result<(), Reply> {
        let command = Command {
            mail: Some(mail),
            ..Command::of_session(HookStage::Mail, client)
        };
        let asked = self.ask_hooks(command).await.and_then(|()| {
            self.decide(Stage::Mail(mail)).answer()?;
            urgency::check(&mail.delivery, self.context.clock.now())
        });
        // No transaction begins.
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
        let policy = self.context.policy(Role::Submission, &config);
        let from = &transaction.mail.reverse_path;
        let recipient = match self.is_routed(&config, from, rcpt) {
            // Another server knows its recipients.
            true => {
                let address = address_of(&self.context.statics, &rcpt.forward_path);
                RecipientFacts::new(address, Resolution::NotLocal)
            }
            false => resolve(&policy, &rcpt.forward_path),
        };
        let verdict = decide(Stage::Rcpt(rcpt, &recipient), &self.facts, &policy);
        if let Err(reply) = verdict.answer() {
            let (context, observer) = (&self.context, &mut self.observer);
            let about = (transaction, rcpt);
            let refused = self.hooks.refused(context, observer, client, about, reply);
            return Err(refused.await);
        }
        self.ask_about_recipient(client, transaction, rcpt).await?;
        self.observer.rcpt(&self.context, rcpt);
        Ok(())
    }

    async fn data(&mut self, client: &Client, _: &Transaction) -> Result<(), Reply> {
        self.logged_in()?;
        let intake = self.intake_for(client);
        self.message = Some(Message {
            intake,
            fields: Fields::default(),
        });
        Ok(())
    }

    async fn text(&mut self, piece: &[u8]) -> Result<(), Reply> {
        let message = self.message.as_mut().ok_or_else(no_message_reply)?;
        let Message { intake, fields } = message;
        let (context, facts) = (&self.context, &mut self.facts);
        let written = intake
            .write(piece, |section| {
                long_work(section.len(), || {
                    complete_header(context, facts, section, fields)
                })
            })
            .await;
        // The rest of a refused text is dropped.
        written.inspect_err(|_| self.message = None)
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
        self.message = None;
    }

    fn restart(&mut self) {
        self.reset();
        self.hooks.restart();
        self.facts = Facts::default();
        self.failed = Mistakes::default();
        self.exchange = None;
    }

    fn happened(&mut self, client: &Client, event: &Event) {
        self.observer.happened(&self.context, client, event);
    }
}

#[cfg(test)]
mod tests;
