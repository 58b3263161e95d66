//! Submission: mail from applications and people with a login (RFC 6409).
//!
//! A login sends only from the addresses of its account. Required fields that are missing are
//! added.

mod header_section;

use std::{collections::BTreeSet, sync::Arc};

use postrider_queue::{
    AddError, LimitError, SubmittedRecipient,
    header::{self, Received},
};
use postrider_smtp::{
    EnhancedCode, ForwardPath, Notify, Reply, ReplyCode, Ret,
    server::{Client, Handler, Login, MailFrom, RcptTo, Transaction},
};
use postrider_store::Top;
use tracing::info;

use self::header_section::{Fields, complete_header};
use crate::{
    SessionContext,
    decide::{Refusal, Role, Stage, Verdict, decide},
    facts::{Facts, LoggedIn, LoginFacts, RecipientFacts, Resolution},
    intake::{Intake, ReceivedText},
    login::Source,
    reply::{no_message_reply, store_reply},
    resolve::address_of,
    slow::Mistakes,
    work::long_work,
};

/// The policy of one submission session.
#[derive(Debug)]
pub struct SubmissionSession {
    context: SessionContext,
    /// The host name of this listener.
    hostname: String,
    facts: Facts,
    /// The logins that failed.
    failed: Mistakes,
    message: Option<Message>,
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
            context,
            hostname,
            facts: Facts::default(),
            failed: Mistakes::default(),
            message: None,
        }
    }

    fn decide(&self, stage: Stage<'_>) -> Verdict {
        let config = self.context.dynamic();
        let policy = self.context.policy(Role::Submission, &config);
        decide(stage, &self.facts, &policy)
    }

    /// Checks a login. An unknown name takes as long as a wrong password, so the time tells nobody
    /// which names exist.
    async fn verify(&self, client: &Client, login: &Login) -> Result<LoggedIn, Reply> {
        let config = self.context.dynamic();
        let found = config.login(&login.user);
        let account = found.as_ref().map(|found| found.account);
        let source = Source {
            limiter: Arc::clone(&self.context.limiter),
            ip: client.remote.ip(),
            behind_proxy: false,
            now: self.context.clock.now(),
        };
        let logins = &self.context.logins;
        let check = logins.verify(&login.user, account, &login.password, &source);
        let check = check.await.map_err(|error| store_reply(&error))?;
        let acts_as = Some(login.authorization.as_str()).filter(|name| !name.is_empty());
        let facts = LoginFacts {
            account: found.as_ref().map(|found| found.config),
            check,
            acts_as_other: acts_as.is_some_and(|name| {
                config
                    .login(name)
                    .is_none_or(|it| Some(it.account) != account)
            }),
        };
        let policy = self.context.policy(Role::Submission, &config);
        let verdict = decide(Stage::Login(&facts), &self.facts, &policy);
        self.context.answer(verdict)?;
        let found = found.ok_or_else(|| Refusal::BadCredentials.reply())?;
        Ok(LoggedIn {
            account: found.account.to_owned(),
            address: found.address,
        })
    }

    /// The reply to a failed login. Who guesses passwords waits longer each time.
    async fn refuse_login(&mut self, reply: Reply) -> Reply {
        if !reply.code().is_permanent() {
            return reply;
        }
        let penalty = self.failed.add();
        self.context.guards.slow.wait(penalty.wait).await;
        match penalty.closes {
            true => self.context.refuse(&Refusal::TooManyFailedLogins),
            false => reply,
        }
    }

    /// Queues the message. The reply is positive only when the message is durable.
    async fn take(&mut self, client: &Client, transaction: &Transaction) -> Result<Reply, Reply> {
        self.context.answer(self.decide(Stage::End(transaction)))?;
        let Message { intake, mut fields } = self.message.take().ok_or_else(no_message_reply)?;
        let (context, facts) = (&self.context, &mut self.facts);
        let (text, _memory) = intake
            .finish(|section| {
                let complete = || complete_header(context, facts, section, &mut fields);
                long_work(section.len(), complete)
            })
            .await?;
        let login = self.logged_in()?;
        let top = self.trace(client, transaction);
        let submission = submission(login, transaction, top, text, fields);
        let recipients = submission.recipients.iter();
        // The queue takes each of them once.
        let recipients: BTreeSet<_> = recipients.map(|to| to.address.clone()).collect();
        let recipients = recipients.into_iter().collect();
        let queue = &self.context.queue;
        let allowed = queue.allow(&login.account, recipients, None).await;
        let allowance = allowed.map_err(|error| limit_reply(&error))?;
        let message_id = submission.message_id.clone();
        let added = self.context.queue.add(submission).await;
        let added = added.map_err(|error| add_reply(&error))?;
        drop(allowance);
        let ids: Vec<String> = added.iter().map(|added| added.id.to_string()).collect();
        let ids = ids.join(",");
        info!(
            queue = ids,
            session = %client.session,
            remote = %client.remote,
            account = login.account,
            from = %transaction.mail.reverse_path,
            to = recipients_of(transaction),
            message_id,
            "message queued"
        );
        Ok(Reply::new(
            ReplyCode::OK,
            Some(EnhancedCode::OK),
            format!("queued as {ids}"),
        ))
    }

    /// The trace field for the top of the message: Received (RFC 5321 §4.4).
    fn trace(&self, client: &Client, transaction: &Transaction) -> Top {
        let id = header::random_id(&mut rand::rng());
        let now = self.context.clock.now();
        let received = Received::smtp(&self.hostname, client, transaction, id, now);
        Top::new(received.to_string()).unwrap_or_default()
    }

    fn logged_in(&self) -> Result<&LoggedIn, Reply> {
        let login = self.facts.login.as_ref();
        login.ok_or_else(|| Refusal::LoginRequired.reply())
    }
}

/// The recipients for the log, with blanks between them.
fn recipients_of(transaction: &Transaction) -> String {
    let recipients = transaction.recipients.iter();
    let shown: Vec<String> = recipients
        .map(|rcpt| rcpt.forward_path.to_string())
        .collect();
    shown.join(" ")
}

fn submission(
    login: &LoggedIn,
    transaction: &Transaction,
    top: Top,
    text: ReceivedText,
    fields: Fields,
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
        top,
        text: text.text,
        size: text.size,
        message_id: fields.message_id,
        subject: fields.subject,
        from: fields.author,
        eight_bit: text.eight_bit,
        // Many clients say SMTPUTF8 with each message, so that proves no need. The addresses of the
        // envelope are looked at when it is sent.
        smtputf8: fields.smtputf8,
        require_tls: mail.require_tls.then_some(true),
        not_before: None,
        future_release: String::new(),
        extra: fields.extra,
        ret_full: mail.ret.map(|ret| ret == Ret::Full),
        envid: mail.envid.clone().unwrap_or_default(),
        list: String::new(),
        once: None,
    }
}

const fn stored_notify(notify: Notify) -> postrider_store::Notify {
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
        ),
    }
}

fn add_reply(error: &AddError) -> Reply {
    let enhanced = match error {
        AddError::Store(error) => return store_reply(error),
        AddError::FromIdRecipients => EnhancedCode::TOO_MANY_RECIPIENTS,
        AddError::FromIdInUse(_) => EnhancedCode::BAD_SENDER_SYNTAX,
        AddError::NoRecipients | AddError::DoneBefore => EnhancedCode::PROTOCOL,
    };
    Reply::new(
        ReplyCode::TRANSACTION_FAILED,
        Some(enhanced),
        error.to_string(),
    )
}

impl Handler for SubmissionSession {
    async fn greeting(&mut self, client: &Client) -> Result<(), Reply> {
        self.context.count_connection(client)
    }

    async fn login(&mut self, client: &Client, login: &Login) -> Result<(), Reply> {
        match self.verify(client, login).await {
            Ok(login) => {
                self.facts.login = Some(login);
                Ok(())
            }
            Err(reply) => Err(self.refuse_login(reply).await),
        }
    }

    async fn mail(&mut self, _: &Client, mail: &MailFrom) -> Result<(), Reply> {
        self.context.answer(self.decide(Stage::Mail(mail)))
    }

    async fn rcpt(&mut self, _: &Client, _: &Transaction, rcpt: &RcptTo) -> Result<(), Reply> {
        // A submission may go anywhere.
        let address = address_of(&self.context.statics, &rcpt.forward_path);
        let recipient = RecipientFacts::new(address, Resolution::NotLocal);
        self.context
            .answer(self.decide(Stage::Rcpt(rcpt, &recipient)))
    }

    async fn data(&mut self, client: &Client, _: &Transaction) -> Result<(), Reply> {
        self.logged_in()?;
        let intake = Intake::new(
            self.context.store.text_writer(),
            self.context.statics.limits.header_size.0,
            self.context.memory.share(client.remote.ip()),
        );
        let intake = intake.with_limits(self.context.statics.limits.mime());
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
        self.message = None;
    }

    fn restart(&mut self) {
        self.reset();
        self.facts = Facts::default();
        self.failed = Mistakes::default();
    }
}
