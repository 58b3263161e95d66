//! Submission: mail from applications and people with a login (RFC 6409).
//!
//! A login sends only from its account's own addresses. Fields that a message must have and that are missing are added.

use std::{collections::BTreeMap, sync::Arc};

use postrider_queue::{
    AddError, LimitError, SubmittedRecipient, extra,
    header::{self, Header, Received},
    simulate::Stage,
};
use postrider_smtp::{
    Address, ForwardPath, Notify, Reply, Ret, ReversePath,
    server::{Client, Handler, Login, MailFrom, RcptTo, Transaction},
};
use tracing::{info, warn};

use crate::{
    context::{SessionContext, loop_reply, no_message_reply, reply, store_reply},
    intake::{Edit, HOPS_MAX, Intake, Taken},
    login::{PasswordCheck, Source},
};

/// The policy of one submission session.
pub struct SubmissionSession {
    shared: SessionContext,
    /// What this listener calls itself.
    hostname: String,
    login: Option<LoggedIn>,
    message: Option<Outgoing>,
}

/// Who the client is.
#[derive(Clone, Debug)]
struct LoggedIn {
    account: String,
    /// As typed.
    address: Address,
}

/// A message that is coming in.
struct Outgoing {
    intake: Intake,
    context: Context,
    facts: Facts,
}

/// What is needed to judge and complete a header section.
struct Context {
    shared: SessionContext,
    login: LoggedIn,
    received: String,
}

/// What the completed header section says.
#[derive(Debug, Default)]
struct Facts {
    from: Option<Address>,
    message_id: String,
    subject: String,
    /// The header section itself needs SMTPUTF8.
    smtputf8: bool,
    extra: BTreeMap<String, String>,
}

impl SubmissionSession {
    /// The policy of a new session.
    #[must_use]
    pub const fn new(shared: SessionContext, hostname: String) -> Self {
        Self {
            shared,
            hostname,
            login: None,
            message: None,
        }
    }

    async fn verify(&self, client: &Client, login: &Login) -> Result<LoggedIn, Reply> {
        let now = self.shared.clock.now();
        let ip = client.remote.ip();
        let too_many = || {
            reply(
                454,
                (7, 0),
                "too many failed logins from your network, try again later",
            )
        };
        let limiter = &self.shared.limiter;
        if !limiter.allowed(ip, now) {
            return Err(too_many());
        }
        let config = self.shared.dynamic();
        let found = config.login(&login.user);
        // An unknown name takes as long as a wrong password, so that the time tells nobody which names there are.
        let account = found.as_ref().map_or("", |found| found.account);
        let source = Source {
            limiter: Arc::clone(limiter),
            ip,
            now,
        };
        let logins = &self.shared.logins;
        let verdict = logins.verify(account, &login.password, &source).await;
        let verdict = verdict.map_err(|error| store_reply(&error))?;
        if verdict == PasswordCheck::TooMany {
            return Err(too_many());
        }
        let (Some(found), PasswordCheck::Right) = (found, verdict) else {
            warn!(remote = %client.remote, user = login.user, "login refused");
            return Err(reply(535, (7, 8), "wrong user or password"));
        };
        limiter.succeeded(ip);
        if !found.config.login_disabled.is_empty() {
            return Err(reply(535, (7, 13), found.config.login_disabled.clone()));
        }
        let acts_as = Some(login.authorization.as_str()).filter(|name| !name.is_empty());
        if acts_as.is_some_and(|name| {
            config
                .login(name)
                .is_none_or(|other| other.account != found.account)
        }) {
            return Err(reply(535, (7, 8), "you may not act for that other user"));
        }
        Ok(LoggedIn {
            account: found.account.to_owned(),
            address: found.address,
        })
    }

    async fn take(&mut self, transaction: &Transaction) -> Result<Reply, Reply> {
        let Outgoing {
            intake,
            context,
            mut facts,
        } = self.message.take().ok_or_else(no_message_reply)?;
        let taken = intake
            .finish(|section| context.edit(section, &mut facts))
            .await?;
        let login = context.login;
        let submission = submission(&login, transaction, taken, facts);
        let recipients = submission.recipients.iter();
        let recipients = recipients.map(|to| to.address.clone()).collect();
        let allowed = self
            .shared
            .queue
            .allow(&login.account, recipients, None)
            .await;
        let allowance = allowed.map_err(|error| limit_reply(&error))?;
        let message_id = submission.message_id.clone();
        let added = self
            .shared
            .queue
            .add(submission)
            .await
            .map_err(|error| add_reply(&error))?;
        drop(allowance);
        let ids: Vec<String> = added.iter().map(|added| added.id.to_string()).collect();
        let ids = ids.join(",");
        info!(
            queue = ids,
            account = login.account,
            from = %transaction.mail.reverse_path,
            message_id,
            "message queued"
        );
        Ok(reply(250, (0, 0), format!("queued as {ids}")))
    }
}

fn submission(
    login: &LoggedIn,
    transaction: &Transaction,
    taken: Taken,
    facts: Facts,
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
        body: taken.body,
        size: taken.size,
        message_id: facts.message_id,
        subject: facts.subject,
        from: facts.from,
        eight_bit: taken.eight_bit,
        smtputf8: mail.smtputf8 || facts.smtputf8,
        require_tls: mail.require_tls.then_some(true),
        not_before: None,
        future_release: String::new(),
        extra: facts.extra,
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
        error => reply(451, (7, 0), error.to_string()),
    }
}

fn add_reply(error: &AddError) -> Reply {
    match error {
        AddError::Store(error) => store_reply(error),
        AddError::FromIdRecipients => reply(554, (5, 3), error.to_string()),
        AddError::FromIdInUse(_) => reply(554, (1, 7), error.to_string()),
        AddError::NoRecipients | AddError::DoneBefore => reply(554, (5, 0), error.to_string()),
    }
}

impl Context {
    /// Judges the header section, takes out the application's own data, and gives what goes on top: trace, and the fields that
    /// are missing (RFC 6409 §8).
    fn edit(&self, section: &[u8], facts: &mut Facts) -> Result<Edit, Reply> {
        let taken = extra::take(section).map_err(|error| reply(554, (6, 0), error.to_string()))?;
        facts.extra = taken.extra;
        let top = self.on_top(taken.section.as_deref().unwrap_or(section), facts)?;
        Ok(Edit {
            top,
            section: taken.section,
        })
    }

    fn on_top(&self, section: &[u8], facts: &mut Facts) -> Result<Vec<u8>, Reply> {
        let header = Header::scan(section);
        if header.received_count() > HOPS_MAX {
            return Err(loop_reply());
        }
        let mut top = self.received.clone();
        let config = self.shared.dynamic();
        let from = match header.from() {
            Some(from) => from.clone(),
            None if header.has("From") => {
                return Err(reply(
                    550,
                    (6, 0),
                    "the From field has no single address that can be read",
                ));
            }
            None => {
                top.push_str(&format!("From: <{}>\r\n", self.login.address));
                self.login.address.clone()
            }
        };
        if !config.may_send_from(&self.login.account, &from) {
            return Err(reply(
                550,
                (7, 1),
                format!("your account may not send as {from}"),
            ));
        }
        facts.message_id = match header.message_id() {
            "" => {
                let made =
                    header::message_id(&mut rand::rng(), self.shared.statics.hostname.ascii());
                top.push_str(&format!("Message-Id: {made}\r\n"));
                made
            }
            given => given.to_owned(),
        };
        if !header.has("Date") {
            top.push_str(&format!(
                "Date: {}\r\n",
                header::date(self.shared.clock.now())
            ));
        }
        facts.from = Some(from);
        facts.subject = header.subject().to_owned();
        facts.smtputf8 = header.needs_smtputf8();
        Ok(top.into_bytes())
    }
}

impl Handler for SubmissionSession {
    async fn greeting(&mut self, _: &Client) -> Result<(), Reply> {
        Ok(())
    }

    async fn login(&mut self, client: &Client, login: &Login) -> Result<(), Reply> {
        self.login = Some(self.verify(client, login).await?);
        Ok(())
    }

    async fn mail(&mut self, _: &Client, mail: &MailFrom) -> Result<(), Reply> {
        let Some(login) = &self.login else {
            return Err(reply(530, (7, 0), "log in first"));
        };
        // The null reverse-path is for notifications about the account's own mail.
        let ReversePath::Mailbox(address) = &mail.reverse_path else {
            return Ok(());
        };
        if !self.shared.dynamic().may_send_from(&login.account, address) {
            return Err(reply(
                550,
                (7, 1),
                format!("your account may not send as {address}"),
            ));
        }
        self.shared
            .simulated(&address.local, Stage::MailFrom)
            .map_or(Ok(()), Err)
    }

    async fn rcpt(&mut self, _: &Client, _: &Transaction, rcpt: &RcptTo) -> Result<(), Reply> {
        match &rcpt.forward_path {
            ForwardPath::Postmaster => Err(reply(550, (1, 3), "name the postmaster's domain")),
            ForwardPath::Mailbox(address) => self
                .shared
                .simulated(&address.local, Stage::RcptTo)
                .map_or(Ok(()), Err),
        }
    }

    async fn data(&mut self, client: &Client, transaction: &Transaction) -> Result<(), Reply> {
        let login = self
            .login
            .clone()
            .ok_or_else(|| reply(530, (7, 0), "log in first"))?;
        let id = header::random_id(&mut rand::rng());
        let now = self.shared.clock.now();
        let received = Received::smtp(&self.hostname, client, transaction, id, now);
        let intake = Intake::new(
            self.shared.store.body_writer(),
            self.shared.statics.limits.header_size.0,
        );
        let context = Context {
            shared: self.shared.clone(),
            login,
            received: received.to_string(),
        };
        self.message = Some(Outgoing {
            intake,
            context,
            facts: Facts::default(),
        });
        Ok(())
    }

    async fn body(&mut self, chunk: &[u8]) -> Result<(), Reply> {
        let Outgoing {
            intake,
            context,
            facts,
        } = self.message.as_mut().ok_or_else(no_message_reply)?;
        intake
            .write(chunk, |section| context.edit(section, facts))
            .await
    }

    async fn end(&mut self, _: &Client, transaction: &Transaction) -> Reply {
        let simulated = transaction
            .recipients
            .iter()
            .find_map(|rcpt| match &rcpt.forward_path {
                ForwardPath::Mailbox(address) => self.shared.simulated(&address.local, Stage::Data),
                ForwardPath::Postmaster => None,
            });
        let reply = match simulated {
            Some(reply) => reply,
            None => self
                .take(transaction)
                .await
                .unwrap_or_else(|refusal| refusal),
        };
        self.reset();
        reply
    }

    fn reset(&mut self) {
        self.message = None;
    }
}
