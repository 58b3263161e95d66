//! The MX: mail from other mail servers for our own addresses.
//!
//! A recipient that is not ours is refused at RCPT. So nothing bounces later, and nothing is
//! relayed.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use postrider_queue::header::{self, Header, Received};
use postrider_smtp::{
    EnhancedCode, Reply, ReplyCode, ReversePath,
    sasl::{self, Login},
    server::{Client, Handler, MailFrom, RcptTo, Transaction},
};
use postrider_store::{NewMail, StoreError, Top};
use tracing::info;

use crate::{
    SessionContext,
    checks::{
        MessageChecks,
        dmarc::DmarcOutcome,
        questions::Questions,
        results::{AuthenticationResults, without_forged},
    },
    decide::{Judged, Role, Stage, Suspicion, Verdict, decide, decide_end},
    deliver::{Incoming, resolve},
    facts::{Facts, LoginFacts, RecipientFacts},
    intake::{HeaderEdit, Intake},
    login::PasswordCheck,
    reply::{no_message_reply, store_reply},
    work::long_work,
};

/// The policy of one MX session.
#[derive(Debug)]
pub struct MxSession {
    context: SessionContext,
    /// The host name of this listener.
    hostname: String,
    facts: Facts,
    /// The message that is coming in.
    intake: Option<Intake>,
    /// The checks that are under way since MAIL.
    checks: Option<MessageChecks>,
}

impl MxSession {
    /// The policy of a new session.
    #[must_use]
    pub fn new(context: SessionContext, hostname: String) -> Self {
        Self {
            context,
            hostname,
            facts: Facts::default(),
            intake: None,
            checks: None,
        }
    }

    fn decide(&self, stage: Stage<'_>) -> Verdict {
        let config = self.context.dynamic();
        decide(stage, &self.facts, &self.context.policy(Role::Mx, &config))
    }

    /// Decides about the whole message. Some: it goes to the junk mailboxes.
    async fn judge(&mut self, transaction: &Transaction) -> Result<Option<Suspicion>, Reply> {
        let answers = self.answers_our_mail(transaction).await;
        self.facts.answers_our_mail = answers.map_err(|error| store_reply(&error))?;
        let config = self.context.dynamic();
        let policy = self.context.policy(Role::Mx, &config);
        let Judged { verdict, differs } = decide_end(transaction, &self.facts, &policy);
        let junk = match verdict {
            Verdict::Accept => None,
            Verdict::Junk(suspicion) => Some(suspicion),
            Verdict::Refuse(refusal) => return Err(refusal.reply()),
        };
        if let Some(results) = &mut self.facts.authentication {
            results.dmarc_override = differs.map(Cow::into_owned);
        }
        Ok(junk)
    }

    /// Whether the message is a report to the return address of a message that we sent. Only a
    /// message that did not pass is looked up.
    async fn answers_our_mail(&self, transaction: &Transaction) -> Result<bool, StoreError> {
        let results = self.facts.authentication.as_ref();
        let dmarc = results.and_then(|results| results.dmarc.as_ref());
        let header = self.facts.header.as_ref();
        let is_report = transaction.mail.reverse_path == ReversePath::Null
            || header.is_some_and(Header::is_report);
        if !is_report || dmarc.is_none_or(|dmarc| dmarc.outcome == DmarcOutcome::Pass) {
            return Ok(false);
        }
        let config = self.context.dynamic();
        for rcpt in &transaction.recipients {
            if let Some(address) = rcpt.forward_path.address()
                && self
                    .context
                    .queue
                    .is_return_address(&config, address)
                    .await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The trace fields for the top of each record: Return-Path and Received (RFC 5321 §4.4), and
    /// the results of the checks between them (RFC 8601 §4).
    fn trace(&self, client: &Client, transaction: &Transaction) -> Top {
        let id = header::random_id(&mut rand::rng());
        let now = self.context.clock.now();
        let received = Received::smtp(&self.hostname, client, transaction, id, now);
        let reverse_path = &transaction.mail.reverse_path;
        let results = self.facts.authentication.as_ref();
        let results = results.map(|results| results.field(&self.hostname));
        let results = results.unwrap_or_default();
        let fields = format!("Return-Path: <{reverse_path}>\r\n{results}{received}");
        Top::new(fields).unwrap_or_default()
    }

    /// Stores the message. The reply is positive only when the message is durable.
    async fn take(&mut self, client: &Client, transaction: &Transaction) -> Result<Reply, Reply> {
        let intake = self.intake.take().ok_or_else(no_message_reply)?;
        let (context, facts, checks) = (&self.context, &mut self.facts, &mut self.checks);
        let (text, _memory) = intake
            .finish(|section| read_header(context, facts, checks, section))
            .await?;
        self.facts.authentication = Some(match self.checks.take() {
            Some(checks) => {
                let trusted = &self.context.statics.policy.arc_trusted_sealers;
                let now = self.context.clock.now();
                let results = checks.results(&text.body_hashes, trusted, now).await;
                results.ok_or_else(no_message_reply)?
            }
            None => AuthenticationResults::default(),
        });
        let junk = self.judge(transaction).await?;
        let incoming = Incoming {
            client,
            transaction,
            facts: &self.facts,
            text: &text,
            top: &self.trace(client, transaction),
            junk: junk.is_some(),
        };
        let mut accept = self
            .context
            .mailbox_records(incoming)
            .await
            .map_err(|error| store_reply(&error))?;
        accept.text = Some(text.text);
        let mailboxes: Vec<(String, String)> = accept.mails.iter().map(mailbox_of).collect();
        let accepted = self.context.store.accept(accept).await;
        let accepted = accepted.map_err(|error| store_reply(&error))?;
        let ids: Vec<String> = accepted.mails.iter().map(ToString::to_string).collect();
        for (id, (account, to)) in ids.iter().zip(&mailboxes) {
            info!(
                session = %client.session,
                remote = %client.remote,
                mail = id,
                account,
                from = %transaction.mail.reverse_path,
                to,
                message_id = self.facts.header.as_ref().map_or("", Header::message_id),
                size = text.size,
                junk = junk.map_or("", Suspicion::as_str),
                "mail received"
            );
        }
        let ids = ids.join(",");
        Ok(Reply::new(
            ReplyCode::OK,
            Some(EnhancedCode::OK),
            format!("delivered as {ids}"),
        ))
    }
}

/// The account of a mail and its recipient, for the log.
fn mailbox_of(mail: &NewMail) -> (String, String) {
    let to = mail.smtp.as_ref().map(|smtp| smtp.rcpt_to.unicode());
    (mail.account.clone(), to.unwrap_or_default())
}

/// Adds the header section to the facts, without the fields that pretend to be ours, and decides
/// about it. The checks get it as it came.
fn read_header(
    context: &SessionContext,
    facts: &mut Facts,
    checks: &mut Option<MessageChecks>,
    section: &Bytes,
) -> Result<HeaderEdit, Reply> {
    let changed = long_work(section.len(), || {
        let changed = without_forged(section, &context.host_names());
        facts.header = Some(Header::scan(changed.as_deref().unwrap_or(section)));
        changed
    });
    let config = context.dynamic();
    decide(Stage::Header, facts, &context.policy(Role::Mx, &config)).into_result()?;
    let now = context.clock.now();
    let needs = checks.as_mut().map(|checks| {
        let trusted = &context.statics.policy.arc_trusted_sealers;
        let read = || checks.header(section, trusted, now);
        long_work(section.len(), read)
    });
    let needs = needs.unwrap_or_default();
    Ok(HeaderEdit {
        section: changed,
        body_forms: needs.body_forms,
        kept: needs.kept,
        ..HeaderEdit::default()
    })
}

impl Handler for MxSession {
    async fn greeting(&mut self, _: &Client) -> Result<(), Reply> {
        Ok(())
    }

    async fn login(&mut self, _: &Client, _: &Login) -> sasl::Verdict {
        let login = LoginFacts {
            account: None,
            check: PasswordCheck::Wrong,
            acts_as_other: false,
        };
        let verdict = self.decide(Stage::Login(&login)).into_result();
        verdict.map(|()| String::new())
    }

    async fn mail(&mut self, client: &Client, mail: &MailFrom) -> Result<(), Reply> {
        self.decide(Stage::Mail(mail)).into_result()?;
        // Localserve works without DNS.
        if !self.context.simulate {
            let (resolver, clock) = (&self.context.resolver, &self.context.clock);
            let questions = Questions::new(Arc::clone(resolver), Arc::clone(clock));
            self.checks = MessageChecks::start(questions, client, &mail.reverse_path);
        }
        Ok(())
    }

    async fn rcpt(
        &mut self,
        _: &Client,
        transaction: &Transaction,
        rcpt: &RcptTo,
    ) -> Result<(), Reply> {
        let config = self.context.dynamic();
        let policy = self.context.policy(Role::Mx, &config);
        let from = &transaction.mail.reverse_path;
        let recipient = RecipientFacts {
            resolution: resolve(&policy, from, &rcpt.forward_path),
        };
        decide(Stage::Rcpt(rcpt, &recipient), &self.facts, &policy).into_result()?;
        self.facts.recipients.push(recipient);
        Ok(())
    }

    async fn data(&mut self, client: &Client, _: &Transaction) -> Result<(), Reply> {
        let intake = Intake::new(
            self.context.store.text_writer(),
            self.context.statics.limits.header_size.0,
            self.context.memory.share(client.remote.ip()),
        );
        self.intake = Some(intake);
        Ok(())
    }

    async fn text(&mut self, piece: &[u8]) -> Result<(), Reply> {
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
        self.intake = None;
        self.checks = None;
    }
}
