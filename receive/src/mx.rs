//! The MX: mail from other mail servers for our own addresses.
//!
//! A recipient that is not ours is refused at RCPT. So nothing bounces later, and nothing is
//! relayed.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use postrider_config::Dynamic;
use postrider_queue::header::Header;
use postrider_smtp::{
    EnhancedCode, Reply, ReplyCode, ReversePath,
    sasl::{self, Login},
    server::{Client, Handler, MailFrom, RcptTo, Transaction},
};
use postrider_store::StoreError;
use tracing::{info, warn};

use crate::{
    SessionContext,
    checks::{
        MessageChecks,
        dmarc::DmarcOutcome,
        plain_fields,
        questions::Questions,
        results::{AuthenticationResults, without_forged},
    },
    decide::{EndDecision, Role, Stage, Suspicion, Verdict, decide, decide_end},
    deliver::Incoming,
    facts::{Facts, LoginFacts, PlainField, RecipientFacts},
    intake::{HeaderEdit, Intake},
    login::PasswordCheck,
    reply::{no_message_reply, store_reply},
    resolve::{asks_for_fields, resolve},
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

    /// Adds what is known of a recipient at RCPT.
    async fn learn_at_rcpt(
        &self,
        transaction: &Transaction,
        config: &Dynamic,
        recipient: &mut RecipientFacts,
    ) -> Result<(), StoreError> {
        add_usage(&self.context, config, recipient).await?;
        let has_quota = recipient
            .targets()
            .iter()
            .any(|target| target.used.is_some());
        // A full mailbox takes reports about mail of its account.
        if has_quota && transaction.mail.reverse_path == ReversePath::Null {
            let queue = &self.context.queue;
            let answers = queue.is_return_address(config, &recipient.address);
            recipient.answers_our_mail = answers.await?;
        }
        Ok(())
    }

    /// Adds what is known of the recipients at the end of the text only.
    async fn learn_of_recipients(&mut self, transaction: &Transaction) -> Result<(), StoreError> {
        let config = self.context.dynamic();
        for recipient in &mut self.facts.recipients {
            add_usage(&self.context, &config, recipient).await?;
        }
        let results = self.facts.authentication.as_ref();
        let dmarc = results.and_then(|results| results.dmarc.as_ref());
        let header = self.facts.header.as_ref();
        let is_report = transaction.mail.reverse_path == ReversePath::Null
            || header.is_some_and(Header::is_report);
        // A message that passed is refused by no opinion.
        let passed = dmarc.is_none_or(|dmarc| dmarc.outcome == DmarcOutcome::Pass);
        let queue = &self.context.queue;
        for recipient in &mut self.facts.recipients {
            let has_quota = recipient
                .targets()
                .iter()
                .any(|target| target.used.is_some());
            if is_report && (!passed || has_quota) {
                let answers = queue.is_return_address(&config, &recipient.address);
                recipient.answers_our_mail = answers.await?;
            }
        }
        Ok(())
    }

    /// Decides for each recipient.
    ///
    /// # Errors
    /// A refusal of the message for all recipients, of which nothing is kept.
    fn decide_end(&self, transaction: &Transaction) -> Result<EndDecision, Reply> {
        self.decide(Stage::End(transaction)).into_result()?;
        let config = self.context.dynamic();
        let policy = self.context.policy(Role::Mx, &config);
        Ok(decide_end(transaction, &self.facts, &policy))
    }

    /// Stores the message. The reply is positive only when the message is durable.
    async fn take(&mut self, client: &Client, transaction: &Transaction) -> Result<Reply, Reply> {
        let intake = self.intake.take().ok_or_else(no_message_reply)?;
        let (context, facts, checks) = (&self.context, &mut self.facts, &mut self.checks);
        let (text, _memory) = intake
            .finish(|section| read_header(context, facts, checks, section))
            .await?;
        self.facts.size = Some(text.size);
        self.facts.authentication = Some(match self.checks.take() {
            Some(checks) => {
                let trusted = &self.context.statics.policy.arc_trusted_sealers;
                let now = self.context.clock.now();
                let results = checks.results(&text.body_hashes, trusted, now).await;
                results.ok_or_else(no_message_reply)?
            }
            None => AuthenticationResults::default(),
        });
        let learnt = self.learn_of_recipients(transaction).await;
        learnt.map_err(|error| store_reply(&error))?;
        let decision = self.decide_end(transaction)?;
        let incoming = Incoming {
            client,
            hostname: &self.hostname,
            transaction,
            facts: &self.facts,
            text: &text,
            deliveries: &decision.deliveries,
        };
        let records = self.context.mailbox_records(incoming).await;
        let (mut accept, made) = records.map_err(|error| store_reply(&error))?;
        let size = text.size;
        accept.text = Some(text.text);
        let has_rejects = !accept.rejects.is_empty();
        let accepted = match &decision.refusal {
            Some(refusal) if !has_rejects => return Err(refusal.reply()),
            _ => self.context.store.accept(accept).await,
        };
        if let Some(refusal) = &decision.refusal {
            // The sender learns of the refusal, so a copy of the mail is no promise.
            if let Err(error) = accepted {
                warn!(session = %client.session, %error, "failed to keep refused mail");
            }
            return Err(refusal.reply());
        }
        let accepted = accepted.map_err(|error| store_reply(&error))?;
        let ids: Vec<String> = accepted.mails.iter().map(ToString::to_string).collect();
        // Refused mail has no number here: an account keeps each only once.
        let none = std::iter::repeat(String::new());
        for (id, made) in ids.iter().cloned().chain(none).zip(&made) {
            info!(
                session = %client.session,
                remote = %client.remote,
                mail = id,
                account = made.account,
                from = %transaction.mail.reverse_path,
                to = made.to,
                message_id = self.facts.header.as_ref().map_or("", Header::message_id),
                size,
                junk = made.junk.map_or("", Suspicion::as_str),
                refused = made.refused,
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

/// Adds how much mail the accounts of a recipient have, as far as they have a quota.
async fn add_usage(
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
    if asks_for_fields(&config, &facts.recipients) {
        let read = || plain_fields(changed.as_deref().unwrap_or(section));
        facts.fields = long_work(section.len(), read);
    }
    let held = facts.fields.iter().map(PlainField::size).sum::<usize>();
    let has_id = facts
        .header
        .as_ref()
        .is_some_and(|header| !header.message_id().is_empty());
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
        kept: needs.kept + held,
        fingerprint: !has_id,
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
        self.facts.size = mail.size;
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
        let mut recipient = resolve(&policy, &rcpt.forward_path);
        let learnt = self.learn_at_rcpt(transaction, &config, &mut recipient);
        learnt.await.map_err(|error| store_reply(&error))?;
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
